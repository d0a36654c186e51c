//! NaN of every kind, infinities, -0.0 and empty text, as fill values and in attributes: bit for
//! bit between Zarr v2, Zarr v3, HDF5 and netCDF.

use std::collections::BTreeMap;

use npk::model::Values;

use crate::support::library::drain;
use crate::support::{Scratch, at, npk, npk_any, python};

/// What missing chunks hold is what zarr-python gives.
#[test]
#[ignore = "asks the real libraries"]
fn fill_values_of_missing_chunks() {
    let s = Scratch::new();
    python(
        s.path(),
        "
import json, numpy as np, zarr, warnings
warnings.simplefilter('ignore')
values = {'nan': float('nan'), 'inf': float('inf'), 'ninf': float('-inf'), 'nzero': -0.0, 'zero': 0.0, 'tiny': 5e-324, 'third': 1/3}
payloads = {'f2': 0x7e01, 'f4': 0x7fc00001, 'f8': 0x7ff8000000000001}
negative = {'f2': 0xfe00, 'f4': 0xffc00000, 'f8': 0xfff8000000000000}
for v in (2, 3):
    g = zarr.open_group(f'v{v}.zarr', mode='w', zarr_format=v)
    def add(name, dtype, fill):
        z = g.create_array(name, shape=(3, 2), chunks=(2, 2), dtype=dtype, fill_value=fill)
        zarr.open_group(f'v{v}.zarr', mode='r')[name][:].astype(np.dtype(dtype).newbyteorder('<')).tofile(f'v{v}.{name}.bin')
    for d in ('f2', 'f4', 'f8'):
        for k, x in values.items(): add(f'{k}_{d}', d, np.dtype(d).type(x))
        # v2 has one NaN; zarr-python keeps the others in memory alone.
        if v == 3:
            for k, bits in [('payload', payloads), ('negative', negative)]:
                add(f'{k}_{d}', d, np.array(bits[d], 'u' + d[1]).view(d)[()])
    for d in ('c8', 'c16'):
        part = np.dtype('f4' if d == 'c8' else 'f8').type
        for k, (a, b) in {'a': (-0.0, 0.0), 'b': (0.0, -0.0), 'c': (float('nan'), float('-inf')), 'd': (-0.0, -0.0)}.items():
            x = np.zeros((), d); x.real = part(a); x.imag = part(b); add(f'{k}_{d}', d, x[()])
    zarr.consolidate_metadata(f'v{v}.zarr')
",
    );
    for v in [2, 3] {
        let mut got: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        let plan = drain("zarr", &s.join(&format!("v{v}.zarr")), &mut |chunk| {
            let Values::Fixed(values) = &chunk.values else { panic!() };
            got.entry(chunk.array).or_default().extend_from_slice(values);
        })
        .unwrap();
        assert!(plan.arrays.len() >= 29);
        for (i, meta) in plan.arrays.iter().enumerate() {
            let want = std::fs::read(s.join(&format!("v{v}.{}.bin", meta.name))).unwrap();
            assert!(
                got[&i] == want,
                "v{v} {}: {:02x?}, zarr-python has {:02x?}",
                meta.name,
                &got[&i][..8],
                &want[..8]
            );
        }
    }
}

const NETCDF: &str = "
import h5py, json, netCDF4, numpy as np
def bits(d, *all): return np.array(all, 'u' + d[1]).view(d)
fills = {}
for d, all in {'f4': [0x7fc00000, 0x7fc00001, 0xffc00000, 0xffc12345, 0x7f800001, 0x7f800000, 0xff800000, 0x80000000, 0, 0x00000001],
               'f8': [0x7ff8000000000000, 0x7ff8000000000001, 0xfff8000000000000, 0x7ff0000000000001, 0xfff0000000000000, 0x8000000000000000, 1]}.items():
    for i, b in enumerate(all): fills[f'{d}_{i}'] = bits(d, b)
with netCDF4.Dataset('a.nc', 'w') as f:
    f.createDimension('t', 3)
    f.setncattr('empty', '')
    f.setncattr('root_nan', np.float64('nan'))
    f.setncattr('words', ['a', '', 'c'])
    for name, fill in fills.items():
        v = f.createVariable(name, fill.dtype, ('t',), fill_value=fill[0])
        v.set_auto_mask(False)
        v[:] = np.arange(3)
        v.setncattr('valid_range', np.concatenate([fill, fill[::-1], np.zeros(1, fill.dtype)]))
        v.setncattr('one', fill[0]); v.setncattr('note', '')
    v = f.createVariable('i8', 'i8', ('t',), fill_value=-2**63); v[:] = [1, 2, 3]
    v.setncattr('single', np.float32('-inf')); v.setncattr('minus', -0.0)
# netCDF4 lets numpy make its own NaN of a scalar: the bits are written by h5py.
with h5py.File('a.nc', 'r+') as f:
    for name, fill in fills.items():
        for key, value in [('_FillValue', fill), ('one', fill), ('valid_range', np.concatenate([fill, fill, np.zeros(1, fill.dtype)]))]:
            f[name].attrs.modify(key, value)
def attributes(path):
    found = {}
    with h5py.File(path) as f:
        for name in sorted(f):
            for key, value in f[name].attrs.items():
                if key in ('DIMENSION_LIST', 'REFERENCE_LIST', '_Netcdf4Dimid', '_Netcdf4Coordinates', 'CLASS', 'NAME'): continue
                found[f'{name}@{key}'] = value if isinstance(value, str) else (value.dtype.str, list(value.shape), value.tobytes().hex())
        for key in ('empty', 'root_nan', 'words'):
            value = f.attrs[key]
            found['@' + key] = value if isinstance(value, str) else [str(v) for v in np.ravel(value)]
    return found
";

/// On every way there and back the attributes are the same bits, types and shapes.
#[test]
#[ignore = "asks the real libraries"]
fn attributes_keep_their_bits() {
    let s = Scratch::new();
    python(s.path(), &format!("{NETCDF}\njson.dump(attributes('a.nc'), open('want.json', 'w'))"));
    for (name, args) in
        [("v2.zarr", &["--zarr-format", "2"][..]), ("v3.zarr", &[]), ("s.npk", &[]), ("b.h5", &[])]
    {
        let (middle, back) = (at(&s, name), format!("{name}.nc"));
        let done = npk_any(&[&["convert", &at(&s, "a.nc"), &middle][..], args].concat());
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{told}");
        // What JSON cannot say is told; what xarray keeps as a fill value is not among it.
        assert_eq!(
            told.contains("NaN or infinite (the first: root_nan of the root)"),
            name.ends_with("zarr"),
            "{name}: {told}"
        );
        npk(&["convert", &middle, &at(&s, &back)]);
        python(
            s.path(),
            &format!(
                "
import json
{NETCDF}
want, got = json.load(open('want.json')), json.loads(json.dumps(attributes('{back}')))
wrong = [(k, got.get(k), w) for k, w in want.items() if got.get(k) != w]
assert not wrong and len(got) == len(want), (len(wrong), wrong[:6], set(got) - set(want))
"
            ),
        );
    }
    // From one version to the other, and home.
    npk(&["convert", &at(&s, "v2.zarr"), &at(&s, "v23.zarr"), "--zarr-format", "3"]);
    npk(&["convert", &at(&s, "v23.zarr"), &at(&s, "v232.zarr"), "--zarr-format", "2"]);
    npk(&["convert", &at(&s, "v232.zarr"), &at(&s, "v232.nc")]);
    python(
        s.path(),
        &format!(
            "{NETCDF}\nassert json.load(open('want.json')) == json.loads(json.dumps(attributes('v232.nc')))"
        ),
    );
    // xarray finds the fill values that it finds in the file.
    python(
        s.path(),
        "
import numpy as np, xarray as xr
want = xr.open_dataset('a.nc', engine='netcdf4', mask_and_scale=False)
for store in ('v2.zarr', 'v3.zarr'):
    got = xr.open_zarr(store, mask_and_scale=False)
    assert set(got.variables) == set(want.variables)
    for name in want.variables:
        a, b = want[name].attrs['_FillValue'], got[name].attrs['_FillValue']
        same = np.isnan(a) and np.isnan(b) or (a == b and np.signbit(a) == np.signbit(b))
        assert same, (store, name, a, b)
",
    );
}

/// A bare NaN in a document of zarr-python is a number in HDF5; no document of ours has one.
#[test]
#[ignore = "asks the real libraries"]
fn bare_words_are_numbers() {
    let s = Scratch::new();
    python(
        s.path(),
        "
import zarr, numpy as np, warnings
warnings.simplefilter('ignore')
nan, inf = float('nan'), float('inf')
attributes = {'n': nan, 'i': -inf, 'z': -0.0, 'l': [1.0, nan], 'm': [[inf, 2.0], [3.0, nan]], 'e': '', 'text': 'NaN', 'mixed': [nan, 'x'], 'uneven': [[nan], 1.0], 'inside': {'a': nan}}
for v in (2, 3):
    g = zarr.open_group(f'v{v}.zarr', mode='w', zarr_format=v, attributes=attributes)
    g.create_group('sub', attributes=attributes)
    g.create_array('sub/a', data=np.arange(3.), attributes=attributes)
    zarr.consolidate_metadata(f'v{v}.zarr')
",
    );
    for v in [2, 3] {
        let h5 = at(&s, &format!("v{v}.h5"));
        npk(&["convert", &at(&s, &format!("v{v}.zarr")), &h5]);
        npk(&["convert", &h5, &at(&s, &format!("back{v}.zarr")), "--zarr-format", &v.to_string()]);
        npk(&["convert", &at(&s, &format!("back{v}.zarr")), &at(&s, &format!("again{v}.h5"))]);
        python(
            s.path(),
            &format!(
                "
import glob, h5py, json, numpy as np
nan, inf = float('nan'), float('inf')
for name in ('v{v}.h5', 'again{v}.h5'):
    with h5py.File(name) as f:
        for node in (f, f['sub'], f['sub/a']):
            a = node.attrs
            for key, want in dict(n=nan, i=-inf, z=-0.0, l=[1, nan], m=[[inf, 2], [3, nan]]).items():
                assert a[key].dtype == 'f8' and np.array(want, 'f8').tobytes() == a[key].tobytes(), (name, node, key, a[key])
            assert a['e'] == '' and a['text'] == 'NaN', dict(a)
def no(word): raise ValueError(word)
for path in glob.glob('back{v}.zarr/**/*', recursive=True, include_hidden=True):
    if path.endswith(('.json', '.zarray', '.zattrs', '.zgroup', '.zmetadata')): json.load(open(path), parse_constant=no)
"
            ),
        );
    }
}
