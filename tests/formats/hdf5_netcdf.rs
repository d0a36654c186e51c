//! netCDF: characters as text, and special values of attributes and fill values, with netCDF4, h5py
//! and xarray as judges.

use crate::support::{self, Scratch, at, npk};

/// The last dimension of characters is the length of their text.
#[test]
#[ignore = "asks the real libraries"]
fn characters_are_joined_to_text() {
    let s = Scratch::new();
    support::python(
        s.path(),
        r#"
import netCDF4, numpy as np
with netCDF4.Dataset('c.nc', 'w') as f:
    for name, n in (('station', 3), ('time', None), ('length', 5), ('part', 2)): f.createDimension(name, n)
    v = f.createVariable('name', 'S1', ('station', 'length')); v.long_name = 'of the station'
    v[:] = netCDF4.stringtochar(np.array(['one', 'vier5', ''], 'S5'))
    v = f.createVariable('parts', 'S1', ('station', 'part', 'length'), zlib=True, chunksizes=(2, 1, 3))
    v[:] = netCDF4.stringtochar(np.array([['a', 'bb'], ['ccc', 'dddd'], ['eeeee', '']], 'S5'))
    v = f.createVariable('growing', 'S1', ('time', 'length')); v[:] = netCDF4.stringtochar(np.array(['x', 'yz'], 'S5'))
    f.createVariable('single', 'S1', ('station',))[:] = np.array([b'a', b'b', b'c'])
    f.createVariable('x', 'f4', ('station',))[:] = [1, 2, 3]
"#,
    );
    let file = at(&s, "c.nc");
    npk(&["convert", &file, &at(&s, "o.npz"), "-a", "parts"]);
    for out in ["o.nc", "o.h5", "o.zarr"] {
        npk(&["convert", &file, &at(&s, out), "--verify"]);
    }
    support::python(
        s.path(),
        r#"
import h5py, netCDF4, numpy as np, xarray as xr
name, parts = ['one', 'vier5', ''], [['a', 'bb'], ['ccc', 'dddd'], ['eeeee', '']]
assert np.load('o.npz')['parts'].tolist() == parts
with h5py.File('o.h5') as f:
    assert f['name'].asstr()[:].tolist() == name and f['parts'].asstr()[:].tolist() == parts and f['growing'].asstr()[:].tolist() == ['x', 'yz']
    assert f['single'].asstr()[:].tolist() == ['a', 'b', 'c']
with netCDF4.Dataset('o.nc') as f:
    assert f['name'][:].tolist() == name and f['parts'][:].tolist() == parts and f['growing'][:].tolist() == ['x', 'yz']
    assert f['name'].dimensions == ('station',) and f['parts'].dimensions == ('station', 'part') and f['name'].long_name == 'of the station'
assert xr.open_zarr('o.zarr', consolidated=True)['parts'].values.tolist() == parts
"#,
    );
}

/// NaN with its bits, infinities, negative zero and empty text, as fill values and as attributes.
#[test]
#[ignore = "asks the real libraries"]
fn special_values_of_attributes_are_kept_bit_for_bit() {
    let s = Scratch::new();
    support::python(
        s.path(),
        r#"
import h5py, netCDF4, numpy as np
odd = np.array([0x7ff8000000000123], 'u8').view('f8')[0]
def attributes(put):
    for kind in ('f4', 'f8'):
        for name, value in (('nan', np.nan), ('inf', np.inf), ('ninf', -np.inf), ('nzero', -0.0), ('one', 1.5)): put(f'{kind}_{name}', np.dtype(kind).type(value))
        put(f'{kind}_all', np.array([np.nan, np.inf, -np.inf, -0.0, 2.5], kind))
    put('odd', odd); put('empty', '')
with h5py.File('a.h5', 'w') as f:
    for name, fill in (('nan', np.nan), ('inf', -np.inf), ('nzero', -0.0)):
        d = f.create_dataset(name, (3,), 'f4', chunks=(2,), fillvalue=np.float32(fill)); d[0] = 1
        attributes(d.attrs.__setitem__)
    attributes(f.attrs.__setitem__); attributes(f.create_group('g').attrs.__setitem__)
with netCDF4.Dataset('a.nc', 'w') as f:
    f.createDimension('x', 3)
    for name, fill in (('nan', np.nan), ('inf', -np.inf), ('nzero', -0.0)):
        v = f.createVariable(name, 'f4', ('x',), fill_value=np.float32(fill)); v[0] = 1
        attributes(v.setncattr)
    attributes(f.setncattr)
"#,
    );
    for name in ["a.h5", "a.nc"] {
        for out in ["o.h5", "o.nc"] {
            npk(&["convert", "-f", &at(&s, name), &at(&s, out), "--verify"]);
            support::python(
                s.path(),
                &format!(
                    r#"
import h5py, numpy as np
def bits(v): return v if isinstance(v, (str, bytes)) else (np.asarray(v).dtype.str, np.asarray(v).tobytes())
OWN = {{'CLASS', 'NAME', 'DIMENSION_LIST', 'REFERENCE_LIST', '_Netcdf4Dimid', '_Netcdf4Coordinates', '_NCProperties', '_FillValue'}}
a, b = h5py.File('{name}'), h5py.File('{out}')
for path in [p for p in ('/', 'g', 'nan', 'inf', 'nzero') if p in a]:
    for key in set(a[path].attrs) - OWN:
        x, y = a[path].attrs[key], b[path].attrs[key]
        if isinstance(x, (h5py.Empty, str)) or isinstance(y, (h5py.Empty, str)):
            assert (x if isinstance(x, str) else '') == (y if isinstance(y, str) else ''), (path, key, x, y)
        else: assert bits(x) == bits(y), (path, key, x, y)
    if '_FillValue' in a[path].attrs: assert bits(a[path].attrs['_FillValue'][0]) == bits(np.ravel(b[path].attrs['_FillValue'])[0]), path
    if isinstance(a[path], h5py.Dataset): assert a[path][:].tobytes() == b[path][:].tobytes(), (path, a[path][:], b[path][:])
"#
                ),
            );
        }
    }
}

/// xarray writes text as encoded characters and says so in `_Encoding`. Where they became text the
/// encoding goes, and a dataset opens as the same one through every format, scalars among it.
#[test]
#[ignore = "asks the real libraries"]
fn encoded_characters_open_as_the_same_dataset() {
    let s = Scratch::new();
    support::python(
        s.path(),
        r#"
import xarray as xr, numpy as np
base = xr.Dataset(
    {'s': (('x',), np.array(['a', 'bé', ''], object)), 'one': ((), np.float32(3.5), {'units': 'm'}), 'name': ((), 'héllo')},
    coords={'x': [1, 2, 3]}, attrs={'title': 't'})
base.to_netcdf('c3.nc', format='NETCDF3_64BIT')
base.to_netcdf('c4.nc', format='NETCDF4', encoding={n: {'dtype': 'S1', 'zlib': n == 's'} for n in ('s', 'name')})
"#,
    );
    for name in ["c3", "c4"] {
        let file = |end: &str| at(&s, &format!("{name}{end}"));
        npk(&["convert", "-q", &file(".nc"), &file("_a.nc"), "--verify"]);
        npk(&["convert", "-q", &file(".nc"), &file("_b.zarr")]);
        npk(&["convert", "-q", &file(".nc"), &file("_c.zarr"), "--zarr-format", "2"]);
        npk(&["convert", "-q", &file("_b.zarr"), &file("_d.nc")]);
        npk(&["convert", "-q", &file("_c.zarr"), &file("_e.nc")]);
        npk(&["convert", "-q", &file("_e.nc"), &file("_f.zarr")]);
    }
    support::python(
        s.path(),
        r#"
import xarray as xr
for name in ('c3', 'c4'):
    want = xr.open_dataset(f'{name}.nc').load()
    assert want['name'].item() == 'héllo'
    for end in ('_a.nc', '_b.zarr', '_c.zarr', '_d.nc', '_e.nc', '_f.zarr'):
        xr.testing.assert_identical(want, xr.open_dataset(name + end).load())
"#,
    );
}
