//! What HDF5 and Zarr cannot hold comes back all the same: nulls, zones, days; and netCDF through
//! Zarr.

use crate::support::{Scratch, npk, npk_any, npk_command, python};

fn stderr(scratch: &Scratch, args: &[&str]) -> String {
    let output = npk_command().args(args).current_dir(scratch.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {said}");
    said
}

const TABLE: &str = "
import pyarrow as pa, pyarrow.parquet as pq, decimal, datetime as dt
n = 5000
def some(values): return [None if i % 7 == 3 else v for i, v in enumerate(values)]
us = lambda i: 1_600_000_000_000_000 + i * 1_234_567
table = pa.table({
    'i': pa.array(some(range(n)), 'int64'), 'f': pa.array(some([i / 3 for i in range(n)]), 'float64'),
    'b': pa.array(some([i % 2 == 0 for i in range(n)]), 'bool'), 's': pa.array(some([f'v\u{fc}{i % 11}' for i in range(n)]), 'string'),
    'e': pa.array(['' if i % 2 else None for i in range(n)], 'string'),
    'zone': pa.array(some([us(i) for i in range(n)]), pa.timestamp('us', 'Europe/Berlin')),
    'utc': pa.array([us(i) * 1000 for i in range(n)], pa.timestamp('ns', 'UTC')), 'naive': pa.array([us(i) for i in range(n)], pa.timestamp('us')),
    'day': pa.array(some([i - 100 for i in range(n)]), 'date32'), 'ms': pa.array([i * 86_400_000 for i in range(n)], 'date64'),
    't32': pa.array(some([i for i in range(n)]), pa.time32('ms')), 't64': pa.array([i * 1000 for i in range(n)], pa.time64('ns')),
    'took': pa.array(some([i for i in range(n)]), pa.duration('ms')), 'dec': pa.array(some([decimal.Decimal(i) / 4 for i in range(n)]), pa.decimal128(9, 2)),
    'list': pa.array([list(range(i % 4)) for i in range(n)], pa.list_(pa.int16())), 'plain': pa.array(range(n), 'int32'),
})
pq.write_table(table, 'in.parquet', row_group_size=999)
";

#[test]
#[ignore = "asks the real libraries"]
fn nulls_zones_and_types_come_back() {
    let scratch = Scratch::new();
    python(scratch.path(), TABLE);
    for (out, more) in [
        ("t.h5", &[][..]),
        ("3.zarr", &[]),
        ("2.zarr", &["--zarr-format", "2"]),
        ("z.zarr.zip", &["--no-metadata"]),
    ] {
        let said = stderr(
            &scratch,
            &[&["convert", "in.parquet", out, "--ragged", "offsets", "--verify"], more].concat(),
        );
        assert!(!said.contains("note"), "{said}");
        stderr(&scratch, &["diff", "in.parquet", out]);
        stderr(&scratch, &["convert", out, "back.parquet", "-f"]);
        python(
            scratch.path(),
            "
import pyarrow.parquet as pq
a, b = pq.read_table('in.parquet'), pq.read_table('back.parquet')
assert a.column_names == b.column_names, (a.column_names, b.column_names)
for name in a.column_names:
    assert a[name].type == b[name].type, (name, a[name].type, b[name].type)
    assert a[name].to_pylist() == b[name].to_pylist(), name
",
        );
        let listed = npk(&["list", "-l", scratch.join(out).to_str().unwrap()]);
        assert!(
            listed.contains("i\tint64?\t5000\t")
                && listed.contains("zone\ttimestamp[us, Europe/Berlin]?\t"),
            "{listed}"
        );
        assert!(!listed.contains(".valid") && !listed.contains(".offsets"), "{listed}");
        // Some rows of some of them, and the other of the two formats.
        let other = if out == "t.h5" { "o.zarr" } else { "o.h5" };
        stderr(
            &scratch,
            &[
                "convert",
                out,
                other,
                "-f",
                "-a",
                "day,s,list,zone",
                "--rows",
                "10:4000:3",
                "--ragged",
                "offsets",
            ],
        );
        stderr(
            &scratch,
            &[
                "convert",
                "in.parquet",
                "o.parquet",
                "-f",
                "-a",
                "day,s,list,zone",
                "--rows",
                "10:4000:3",
            ],
        );
        stderr(&scratch, &["diff", other, "o.parquet"]);
    }
}

/// Others see plain arrays, and what they change is not overruled.
#[test]
#[ignore = "asks the real libraries"]
fn marks_do_not_overrule_the_data() {
    let scratch = Scratch::new();
    python(scratch.path(), TABLE);
    stderr(&scratch, &["convert", "in.parquet", "t.h5", "-a", "i,day,f"]);
    python(
        scratch.path(),
        "
import h5py, json
with h5py.File('t.h5', 'r+') as f:
    assert sorted(f) == ['day', 'day.valid', 'f', 'f.valid', 'i', 'i.valid'], list(f)
    assert json.loads(f['i'].attrs['npk_type'])['valid'] == 'i.valid'
    del f['i.valid']
    f['i.valid'] = [True] * 7
    del f['f.valid']
    f['day'].attrs['npk_type'] = 'mine'
",
    );
    let output = npk_any(&["list", "-l", scratch.join("t.h5").to_str().unwrap()]);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "i\tint64\t5000\t40000\nday\tdatetime64[D]\t5000\t40000\nday.valid\tbool\t5000\t5000\nf\tfloat64\t5000\t40000\ni.valid\tbool\t7\t7\n"
    );
    let said = stderr(&scratch, &["convert", "t.h5", "t.npk"]);
    assert!(
        said.contains("i is ignored: i.valid is no longer a mask of its rows")
            && said.contains("f is ignored: the store has no array f.valid"),
        "{said}"
    );
}

/// Marks that say what cannot be are dropped, and the arrays stay what they are.
#[test]
#[ignore = "asks the real libraries"]
fn marks_that_do_not_suit_are_dropped() {
    let scratch = Scratch::new();
    python(
        scratch.path(),
        r#"
import h5py, json, numpy as np
marks = [
    {'type': {'name': 'packed', 'element': 'F4', 'shape': [9]}, 'dtype': 'uint8'}, {'form': 'bits', 'was': 'float8_e5m2', 'dtype': 'uint8'},
    {'form': 'offsets', 'type': {'name': 'text'}, 'offsets': 'cuts', 'dtype': 'uint8'}, {'type': {'name': 'timestamp', 'unit': 'us'}, 'dtype': 'uint8'},
    {'form': 'codes', 'categories': {'kind': 'text', 'items': []}, 'dtype': 'uint8'}, {'valid': 'none', 'dtype': 'uint8'},
    {'valid': 'cuts', 'dtype': 'uint8'}, {'type': {'name': 'nothing'}, 'dtype': 'uint8'}, {'dtype': 'float32'}, {'valid': '../x', 'dtype': 'uint8'},
    {'type': {'name': 'dictionary'}, 'categories': {'kind': 'text', 'items': ['a']}, 'dtype': 'uint8'},
]
with h5py.File('h.h5', 'w') as f:
    f['cuts'] = np.array([0, 3, 2], 'i8')
    for i, mark in enumerate(marks):
        f[f't{i}'] = np.array(['a', 'b'], dtype=h5py.string_dtype())
        f[f't{i}'].attrs['npk_type'] = json.dumps({'npk': 1, 'name': f't{i}'} | mark)
    f['day'] = np.array([2**40, 1], 'i8')
    f['day'].attrs['npk_type'] = json.dumps({'npk': 1, 'name': 'day', 'dtype': 'int64', 'type': {'name': 'date32'}})
    f['bytes'] = np.frombuffer(b'abc', 'u1')
    f['bytes'].attrs['npk_type'] = json.dumps({'npk': 1, 'name': 'bytes', 'values': 'bytes', 'dtype': 'uint8', 'form': 'offsets', 'type': {'name': 'text'}, 'offsets': 'cuts'})
"#,
    );
    let listed = npk(&["list", "-l", scratch.join("h.h5").to_str().unwrap()]);
    for i in 0..11 {
        assert!(listed.contains(&format!("t{i}\tstring\t2\t")), "{listed}");
    }
    let said = stderr(&scratch, &["convert", "h.h5", "h.npk", "-a", "t*,day"]);
    assert_eq!(said.matches("is ignored").count(), 12, "{said}");
    // Offsets that fall are damage of the file.
    let output = npk_command()
        .args(["convert", "h.h5", "b.npk", "-a", "bytes"])
        .current_dir(scratch.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Where nothing ties masks to their arrays, a word is said.
#[test]
#[ignore = "asks the real libraries"]
fn lost_masks_are_told() {
    let scratch = Scratch::new();
    python(scratch.path(), TABLE);
    let said = stderr(&scratch, &["convert", "in.parquet", "t.npz", "-a", "i,b"]);
    assert!(
        said.contains("npz cannot hold nulls") && said.contains("(i.valid, b.valid)"),
        "{said}"
    );
    let said = stderr(&scratch, &["convert", "in.parquet", "t.npk", "-a", "i,b"]);
    assert!(!said.contains("note"), "{said}");
}

const NETCDF: &str = "
import xarray as xr, numpy as np, pandas as pd, netCDF4
rng = np.random.default_rng(0)
ds = xr.Dataset({
    'temp': (('time', 'lat'), rng.normal(size=(4, 3)).astype('f4'), {'units': 'K', 'valid_range': np.array([0, 400], 'f4'), 'note': '\u{fc}'}),
    'cnt': (('time',), np.array([1, 2, 3, 4], 'i2'), {'flag': np.int16(3)}),
    'packed': (('time', 'nv'), np.array([[1.5, 2], [np.nan, 3], [4, 5], [6, 7]])),
    'bnds': (('lat', 'nv'), rng.normal(size=(3, 2))),
}, coords={'time': pd.date_range('2020', periods=4), 'lat': [1., 2., 3.], 'station': ('time', list('abcd'))},
   attrs={'title': 'nc', 'n': np.int32(3), 'v': np.array([1., 2.])})
ds.packed.encoding = {'dtype': 'i2', 'scale_factor': 0.5, '_FillValue': -99}
ds.to_netcdf('in.nc', engine='netcdf4')
";

#[test]
#[ignore = "asks the real libraries"]
fn netcdf_through_zarr_is_identical() {
    let scratch = Scratch::new();
    python(scratch.path(), NETCDF);
    for version in ["2", "3"] {
        stderr(&scratch, &["convert", "in.nc", "o.zarr", "-f", "--zarr-format", version]);
        stderr(&scratch, &["convert", "o.zarr", "back.nc", "-f"]);
        python(
            scratch.path(),
            "
import xarray as xr, numpy as np, netCDF4
want = xr.open_dataset('in.nc').load()
for consolidated in (True, False):
    got = xr.open_zarr('o.zarr', consolidated=consolidated).load()
    xr.testing.assert_identical(got, want)
assert got.packed.encoding['_FillValue'] == -99 and np.isnan(got.temp.encoding['_FillValue']), got.temp.encoding
xr.testing.assert_identical(xr.open_dataset('back.nc').load(), want)
a, b = netCDF4.Dataset('in.nc'), netCDF4.Dataset('back.nc')
assert {n: len(d) for n, d in a.dimensions.items()} == {n: len(d) for n, d in b.dimensions.items()}, b.dimensions
for name, x in [('', a)] + list(a.variables.items()):
    y = b[name] if name else b
    assert not name or x.dimensions == y.dimensions, (x, y)
    assert set(x.ncattrs()) == set(y.ncattrs()), (name, x.ncattrs(), y.ncattrs())
    for k in x.ncattrs():
        p, q = x.getncattr(k), y.getncattr(k)
        assert np.asarray(p).dtype == np.asarray(q).dtype and np.array_equal(p, q, equal_nan=not isinstance(p, str)), (name, k, p, q)
",
        );
    }
    // As straight from netCDF to netCDF, and through a store.
    stderr(&scratch, &["convert", "in.nc", "o.npk"]);
    stderr(&scratch, &["convert", "o.npk", "a.nc"]);
    stderr(&scratch, &["convert", "in.nc", "b.nc"]);
    python(
        scratch.path(),
        "
import xarray as xr
want = xr.open_dataset('in.nc').load()
for name in ('a.nc', 'b.nc'):
    xr.testing.assert_identical(xr.open_dataset(name).load(), want)
",
    );
}

/// The fill values of xarray's own stores, in either version.
#[test]
#[ignore = "asks the real libraries"]
fn fill_values_of_zarr_reach_netcdf() {
    let scratch = Scratch::new();
    python(scratch.path(), NETCDF);
    python(
        scratch.path(),
        "
import xarray as xr
for v in (2, 3):
    xr.open_dataset('in.nc').to_zarr(f'{v}.zarr', zarr_format=v)
",
    );
    for (source, version) in [("2.zarr", "3"), ("3.zarr", "2")] {
        stderr(&scratch, &["convert", source, "o.nc", "-f"]);
        stderr(&scratch, &["convert", source, "o.zarr", "-f", "--zarr-format", version]);
        python(
            scratch.path(),
            "
import xarray as xr, numpy as np
want = xr.open_dataset('in.nc').load()
nc = xr.open_dataset('o.nc').load()
xr.testing.assert_identical(nc, want)
assert nc.packed.encoding['_FillValue'].dtype == 'i2', nc.packed.encoding
xr.testing.assert_identical(xr.open_zarr('o.zarr').load(), want)
",
        );
    }
}

/// Numbers that no type of HDF5 holds exactly, nulls, objects and mixed lists are JSON text there,
/// and come back as they were.
#[test]
#[cfg(feature = "hdf5")]
fn attributes_that_hdf5_has_no_type_for_come_back() {
    let attributes = r#"{"big": 1180591620717411303425, "neg": -9223372036854775809,
        "ids": [9007199254740993, 0.5], "whole": [18446744073709551616, 1], "high": 18446744073709551615,
        "huge": 1e400, "some": [1, null], "none": null, "object": {"a": [1, 2]}, "empty": [],
        "text": "[1, null]", "numbers": [1.0, 0.5], "whole_float": 1e3, "list": [1, 2]}"#;
    let s = Scratch::new();
    let array = r#"{"zarr_format": 3, "node_type": "array", "shape": [2], "data_type": "int8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "codecs": [{"name": "bytes"}],
        "attributes": ATTRIBUTES}"#
        .replace("ATTRIBUTES", attributes);
    let group =
        format!(r#"{{"zarr_format": 3, "node_type": "group", "attributes": {attributes}}}"#);
    std::fs::create_dir_all(s.join("a.zarr/x")).unwrap();
    std::fs::write(s.join("a.zarr/zarr.json"), group).unwrap();
    std::fs::write(s.join("a.zarr/x/zarr.json"), array).unwrap();
    stderr(&s, &["convert", "a.zarr", "a.h5"]);
    stderr(&s, &["convert", "a.h5", "b.zarr"]);
    let want: serde_json::Value = serde_json::from_str(attributes).unwrap();
    for path in ["b.zarr/zarr.json", "b.zarr/x/zarr.json"] {
        let got: serde_json::Value =
            serde_json::from_slice(&std::fs::read(s.join(path)).unwrap()).unwrap();
        for (name, want) in want.as_object().unwrap() {
            let (got, want) = (&got["attributes"][name], want.clone());
            let same = *got == want || name == "whole_float" && got.as_f64() == Some(1000.0);
            assert!(same, "{path}: {name}: {got} instead of {want}");
        }
    }
}
