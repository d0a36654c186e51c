//! netCDF classic, with netCDF4-python and xarray as judges.

use crate::support::{self, Scratch, at, inspect, npk, npk_fails};

/// Files of all three versions: every type, records, characters, attributes.
const WRITE: &str = r#"
import netCDF4, numpy as np
rng = np.random.default_rng(7)
for version, kind in (('1', 'NETCDF3_CLASSIC'), ('2', 'NETCDF3_64BIT_OFFSET'), ('5', 'NETCDF3_64BIT_DATA')):
    with netCDF4.Dataset(f'v{version}.nc', 'w', format=kind) as f:
        f.title = 'of all types'; f.numbers = np.array([1.5, np.nan, np.inf], 'f4'); f.one = np.int16(-7)
        for name, n in (('time', None), ('y', 3), ('x', 5), ('length', 7)): f.createDimension(name, n)
        types = ['i1', 'i2', 'i4', 'f4', 'f8'] + (['u1', 'u2', 'u4', 'i8', 'u8'] if version == '5' else [])
        for t in types:
            d = np.dtype(t)
            values = rng.integers(0, 100, (4, 3, 5)).astype(d) if d.kind in 'iu' else rng.random((4, 3, 5)).astype(d)
            if d.kind in 'iu': values[0, 0, :2] = np.iinfo(d).min, np.iinfo(d).max
            v = f.createVariable(f'fixed_{t}', t, ('y', 'x')); v[:] = values[0]; v.units = 'm'; v.factor = np.float64(0.1)
            f.createVariable(f'grows_{t}', t, ('time', 'y', 'x'))[:] = values
            f.createVariable(f'series_{t}', t, ('time',))[:] = values[:, 1, 2]
        f.createVariable('scalar', 'f8', ())[:] = 2.5
        f.createVariable('letters', 'S1', ('x',))[:] = np.array([b'a', b'b', b'c', b'd', b'e'])
        f.createVariable('names', 'S1', ('y', 'length'))[:] = netCDF4.stringtochar(np.array(['one', 'zwei zw', ''], 'S7'))
        f.createVariable('events', 'S1', ('time', 'length'))[:] = netCDF4.stringtochar(np.array(['a', 'bb', '', 'dddd'], 'S7'))
    # One variable with records: its parts are not filled up.
    with netCDF4.Dataset(f'single{version}.nc', 'w', format=kind) as f:
        f.createDimension('time', None); f.createDimension('x', 3)
        f.createVariable('before', 'i2', ('x',))[:] = [1, 2, 3]
        f.createVariable('only', 'i1', ('time', 'x'))[:] = np.arange(21).reshape(7, 3)
    with netCDF4.Dataset(f'none{version}.nc', 'w', format=kind) as f:
        f.createDimension('time', None); f.createVariable('later', 'f4', ('time',)); f.createVariable('too', 'i2', ('time',))
"#;

#[test]
#[ignore = "asks the real libraries"]
fn files_of_netcdf4_python_read_as_it_reads_them() {
    let s = Scratch::new();
    support::python(s.path(), WRITE);
    for file in ["v1", "v2", "v5", "single1", "single2", "single5"] {
        let input = at(&s, &format!("{file}.nc"));
        npk(&["convert", &input, &at(&s, &format!("{file}.npz"))]);
        npk(&["convert", &input, &at(&s, &format!("{file}.zarr")), "--verify"]);
        npk(&["convert", &input, &at(&s, &format!("{file}.nc4.nc"))]);
        npk(&["diff", &input, &at(&s, &format!("{file}.nc4.nc"))]);
    }
    support::python(
        s.path(),
        r#"
import netCDF4, numpy as np, xarray as xr
for file in ('v1', 'v2', 'v5', 'single1', 'single2', 'single5'):
    found, zarr = np.load(file + '.npz'), xr.open_zarr(file + '.zarr', consolidated=True, decode_cf=False)
    with netCDF4.Dataset(file + '.nc') as f, netCDF4.Dataset(file + '.nc4.nc') as g:
        f.set_auto_mask(False); g.set_auto_mask(False); f.set_auto_chartostring(False)
        assert set(found.files) == set(f.variables) == set(g.variables), (file, found.files)
        for name, v in f.variables.items():
            want = v[:]
            if v.dtype.kind == 'S':
                want = want.astype('U') if want.ndim < 2 else netCDF4.chartostring(want)
            assert found[name].dtype == want.dtype or want.dtype.kind == 'U', (file, name, found[name].dtype, want.dtype)
            assert np.array_equal(found[name], want) and np.array_equal(zarr[name].values, want), (file, name)
            assert np.array_equal(g[name][:], want) and zarr[name].dims == v.dimensions[:want.ndim] == g[name].dimensions
            for key in v.ncattrs(): assert g[name].getncattr(key) == v.getncattr(key) == zarr[name].attrs[key], (file, name, key)
        for key in f.ncattrs():
            a, b = f.getncattr(key), g.getncattr(key)
            assert np.array_equal(a, b, equal_nan=not isinstance(a, str)) and type(a) is type(b), (file, key, a, b)
"#,
    );
    for version in ["1", "2", "5"] {
        let empty = inspect(&s.join(&format!("none{version}.nc")));
        assert_eq!(empty["format_version"], format!("CDF-{version}"));
        assert_eq!(empty["arrays"][0]["shape"], serde_json::json!([0]));
    }
}

/// Rows are read by range, and choosing reads no other variable.
#[test]
#[ignore = "asks the real libraries"]
fn records_are_read_by_range() {
    let s = Scratch::new();
    support::python(s.path(), WRITE);
    npk(&["convert", &at(&s, "v1.nc"), &at(&s, "o.npz"), "-a", "grows_i2", "--rows", "1:3"]);
    support::python(
        s.path(),
        "import netCDF4, numpy as np\n\
         with netCDF4.Dataset('v1.nc') as f: assert np.array_equal(np.load('o.npz')['grows_i2'], f['grows_i2'][1:3])",
    );
}

/// A count of records of all ones: the file's length says how many there are.
#[test]
#[ignore = "asks the real libraries"]
fn files_that_are_being_written_have_the_records_that_are_there() {
    let s = Scratch::new();
    support::python(s.path(), WRITE);
    let mut bytes = std::fs::read(s.join("v1.nc")).unwrap();
    bytes[4..8].fill(0xff);
    std::fs::write(s.join("streaming.nc"), &bytes).unwrap();
    npk(&["diff", &at(&s, "v1.nc"), &at(&s, "streaming.nc")]);
}

#[test]
#[ignore = "asks the real libraries"]
fn damage_is_named() {
    let s = Scratch::new();
    support::python(s.path(), WRITE);
    let whole = std::fs::read(s.join("v1.nc")).unwrap();
    let file = at(&s, "bad.nc");
    let check = |bytes: &[u8], says: &str| {
        std::fs::write(&file, bytes).unwrap();
        let said = npk_fails(7, &["convert", &file, &at(&s, "o.npk")]);
        assert!(said.contains(says) && !s.join("o.npk").exists(), "{said}");
    };
    check(&whole[..whole.len() - 40], "the file is truncated: the values end at byte");
    check(&whole[..100], "the header claims 3 attributes, 24 bytes follow");
    check(&whole[..6], "the header is truncated");
    let mut many = whole.clone();
    many[12..16].fill(0x7f);
    check(&many, "the header claims 2139062143 dimensions");
    let mut tag = whole;
    tag[11] = 9;
    check(&tag, "the list of dimensions begins with the tag 9");
}

/// Bytes that are no UTF-8 stay what they are, on the way to netCDF-4, too.
#[test]
#[ignore = "asks the real libraries"]
fn attributes_that_are_not_utf8_are_kept() {
    let s = Scratch::new();
    support::python(s.path(), WRITE);
    let mut bytes = std::fs::read(s.join("v1.nc")).unwrap();
    let title = bytes.windows(12).position(|w| w == b"of all types").unwrap();
    bytes[title + 3] = 0xb0;
    std::fs::write(s.join("latin.nc"), &bytes).unwrap();
    npk(&["convert", &at(&s, "latin.nc"), &at(&s, "o.h5")]);
    support::python(
        s.path(),
        "import h5py, numpy as np\n\
         with h5py.File('o.h5') as f:\n\
         \x20 a = f.attrs.get_id('title'); v = np.zeros((), a.dtype); a.read(v); assert bytes(v[()]) == b'of \\xb0ll types', v",
    );
}

/// A header of two megabytes whose numbers would take a hundred is refused at a limit of eight.
#[test]
fn attributes_are_held_within_the_memory_limit() {
    let s = Scratch::new();
    let count = 2u32 << 20;
    let mut file =
        b"CDF\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0c\0\0\0\x01\0\0\0\x01a\0\0\0\0\0\0\x01".to_vec();
    file.extend(count.to_be_bytes());
    file.resize(file.len() + count as usize + 8, 0);
    std::fs::write(s.join("big.nc"), file).unwrap();
    let (input, out) = (at(&s, "big.nc"), at(&s, "o.npk"));
    let said = npk_fails(4, &["convert", &input, &out, "-m", "8MiB"]);
    assert!(said.contains("the header takes more than 8388608 bytes of memory"), "{said}");
    let said = npk_fails(3, &["convert", &input, &out]);
    assert!(said.contains("it has no arrays"), "{said}");
}
