//! `--virtual`: outputs that refer to the bytes of their sources.

use std::path::Path;

use serde_json::Value;

use crate::support::{Scratch, at, fixture, npk, npk_command, npk_fails, python};

/// The bytes that a key of a set of references in JSON stands for.
fn resolve(set: &Value, key: &str) -> Vec<u8> {
    let [path, offset, len] = &set["refs"][key].as_array().unwrap()[..] else {
        panic!("{key} is no reference")
    };
    let bytes = std::fs::read(path.as_str().unwrap().strip_prefix("file://").unwrap()).unwrap();
    let offset = offset.as_u64().unwrap() as usize;
    bytes[offset..offset + len.as_u64().unwrap() as usize].to_vec()
}

fn set(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn document(set: &Value, key: &str) -> Value {
    serde_json::from_str(set["refs"][key].as_str().unwrap()).unwrap()
}

#[test]
fn references_are_the_bytes_of_the_source() {
    let s = Scratch::new();
    std::fs::write(s.join("x.csv"), "a,b\n1,2.5\n3,4.5\n5,-0.5\n").unwrap();
    npk(&["convert", "-q", &at(&s, "x.csv"), &at(&s, "x.safetensors"), "--layout", "columns"]);
    npk(&["convert", "-q", &at(&s, "x.safetensors"), &at(&s, "x.json"), "--virtual"]);
    let refs = set(&s.join("x.json"));
    let integers: Vec<u8> = [1i64, 3, 5].iter().flat_map(|n| n.to_le_bytes()).collect();
    let floats: Vec<u8> = [2.5f64, 4.5, -0.5].iter().flat_map(|n| n.to_le_bytes()).collect();
    assert_eq!(resolve(&refs, "a/0"), integers);
    assert_eq!(resolve(&refs, "b/0"), floats);
    assert_eq!(document(&refs, "a/.zarray")["dtype"], "<i8");
    assert_eq!(document(&refs, "b/.zarray")["chunks"], serde_json::json!([3]));
    assert_eq!(document(&refs, ".zgroup")["zarr_format"], 2);
    // Chosen and renamed, the bytes are the same ones.
    let renamed = [
        "convert",
        "-q",
        &at(&s, "x.safetensors"),
        &at(&s, "y.json"),
        "--to",
        "kerchunk",
        "-a",
        "b",
        "--rename",
        "b=g/c",
    ];
    npk(&renamed);
    let refs = set(&s.join("y.json"));
    assert_eq!(resolve(&refs, "g/c/0"), floats);
    assert!(refs["refs"].get("a/0").is_none());
}

#[test]
fn what_cannot_be_referred_to_is_named() {
    let s = Scratch::new();
    std::fs::write(s.join("x.csv"), "a,b\n1,u\n3,v\n").unwrap();
    let csv = at(&s, "x.csv");
    let told =
        npk_fails(4, &["convert", &csv, &at(&s, "x.json"), "--virtual", "--layout", "columns"]);
    assert!(told.contains("a: it cannot be referred to"), "{told}");
    assert!(told.contains("b: it cannot be referred to"), "{told}");
    assert!(!s.join("x.json").exists());
    // Small arrays of numbers are kept inside; text is not.
    let args = ["convert", &csv, &at(&s, "x.json"), "--virtual", "--layout", "columns"];
    npk(&[&args[..], &["-a", "a", "--inline-below", "1kB"]].concat());
    let inside = set(&s.join("x.json"))["refs"]["a/0"].as_str().unwrap().to_string();
    assert_eq!(inside, "base64:AQAAAAAAAAADAAAAAAAAAA==");
    npk_fails(5, &[&args[..], &["-a", "a", "--inline-below", "1kB"]].concat());
    // What changes values does not go with references.
    npk_fails(2, &["convert", &csv, &at(&s, "y.json"), "--virtual", "-c", "zstd"]);
    npk_fails(2, &["convert", &csv, &at(&s, "y.npk"), "--inline-below", "1kB"]);
    let source = fixture("good/safetensors/mixed.safetensors");
    let source = source.to_str().unwrap();
    let cast = ["convert", source, &at(&s, "y.json"), "--virtual", "--dtype", "float32=float64"];
    assert!(npk_fails(4, &cast).contains("values would have to be changed"));
}

/// HDF5 from a pipe is read in a temporary copy, which nothing may refer to.
#[test]
#[cfg(feature = "hdf5")]
fn a_temporary_copy_is_not_referred_to() {
    let s = Scratch::new();
    let source = fixture("good/hdf5/h5py_new.h5");
    let args = ["convert", "-", "p.json", "--from", "hdf5", "--virtual", "-a", "z"];
    let mut command = npk_command();
    command.args(args).current_dir(s.path()).stdin(std::fs::File::open(&source).unwrap());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("z: it cannot be referred to: its bytes lie in no file"), "{said}");
    assert!(!s.join("p.json").exists());
    // A dry run says the same.
    let mut command = npk_command();
    command.args(args).arg("-n").current_dir(s.path());
    let output = command.stdin(std::fs::File::open(&source).unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    // The file itself is.
    npk(&["convert", "-q", source.to_str().unwrap(), &at(&s, "z.json"), "--virtual", "-a", "z"]);
}

#[test]
fn a_set_of_references_is_not_read_as_a_hierarchy_without_chunks() {
    let s = Scratch::new();
    let source = fixture("good/safetensors/mixed.safetensors");
    npk(&["convert", "-q", source.to_str().unwrap(), &at(&s, "m.zarr"), "--virtual"]);
    assert!(!s.join("m.zarr/.zgroup").exists());
    assert!(npk_fails(4, &["list", &at(&s, "m.zarr")]).contains("a set of references"));
}

/// zarr-python and xarray read through fsspec what h5py, numpy and safetensors read in the files.
#[test]
#[ignore = "asks the real libraries"]
fn zarr_python_reads_references() {
    let s = Scratch::new();
    python(
        s.path(),
        "
import h5py, numpy as np, safetensors.numpy, zarr, netCDF4
r = np.random.default_rng(7)
np.save('c.npy', r.normal(size=(100, 7)).astype('f4'))
np.save('f.npy', np.asfortranarray(r.normal(size=(10, 6, 3))))
np.save('big.npy', r.normal(size=(5, 3)).astype('>f8'))
np.save('text.npy', np.array(['a', 'bcd', 'ü'], dtype='U5'))
np.savez('s.npz', x=np.arange(12).reshape(3, 4), y=np.array(3.5), t=np.array(['2020-01-01', 'NaT'], 'M8[D]'),
         z=r.normal(size=(2, 3)) + 1j)
safetensors.numpy.save_file({'w': r.normal(size=(64, 8)).astype('f2'), 'b': np.arange(5, dtype='u1')}, 't.safetensors')
with h5py.File('h.h5', 'w') as f:
    f.create_dataset('g/z', data=r.normal(size=(103, 57)).astype('f4'), chunks=(10, 20), compression='gzip', shuffle=True, fletcher32=True)
    f.create_dataset('c', data=np.arange(1000, dtype='>i4')).attrs['units'] = 'm'
    f.create_dataset('partial', shape=(100,), chunks=(10,), dtype='f8', fillvalue=-9.0)[5:15] = np.arange(10)
    f.create_dataset('scalar', data=5)
    f.create_dataset('plain', data=r.integers(0, 100, (50, 4)), chunks=(7, 4))
with netCDF4.Dataset('n.nc', 'w') as d:
    d.createDimension('time', None); d.createDimension('x', 4)
    d.createVariable('v', 'f8', ('time', 'x'), zlib=True)[:] = r.normal(size=(9, 4))
    d.createVariable('time', 'i4', ('time',))[:] = np.arange(9)
z = zarr.open_group('u.zarr', mode='w', zarr_format=2)
z.create_array('q', data=r.integers(0, 9, (20, 9)), chunks=(6, 4), compressors=None, order='F')
z.create_array('p', data=r.normal(size=(20, 9)), chunks=(6, 4))
",
    );
    let files = [
        "c.npy",
        "f.npy",
        "big.npy",
        "text.npy",
        "s.npz",
        "t.safetensors",
        "h.h5",
        "n.nc",
        "u.zarr",
    ];
    for file in files {
        npk(&["convert", "-q", &at(&s, file), &at(&s, &format!("{file}.json")), "--virtual"]);
        npk(&[
            "convert",
            "-q",
            &at(&s, file),
            &at(&s, &format!("{file}.refs")),
            "--virtual",
            "--to",
            "zarr",
        ]);
    }
    npk(&["convert", "-q", &at(&s, "t.safetensors"), &at(&s, "t.npk")]);
    npk(&["convert", "-q", &at(&s, "t.npk"), &at(&s, "t.npk.json"), "--virtual"]);
    npk(&["convert", "-q", &at(&s, "t.safetensors"), &at(&s, "t.pt")]);
    npk(&["convert", "-q", &at(&s, "t.pt"), &at(&s, "t.pt.json"), "--virtual"]);
    python(
        s.path(),
        "
import fsspec, h5py, numpy as np, safetensors.numpy, xarray as xr, zarr
def group(name):
    fs = fsspec.filesystem('reference', fo=name, asynchronous=True, remote_protocol='file', skip_instance_cache=True)
    return zarr.open_group(zarr.storage.FsspecStore(fs, read_only=True, path=''), mode='r', zarr_format=2, use_consolidated=False)
want = {f: {f.split('.')[0]: np.load(f)} for f in ['c.npy', 'f.npy', 'big.npy', 'text.npy']}
want['s.npz'] = dict(np.load('s.npz'))
tensors = safetensors.numpy.load_file('t.safetensors')
h5 = {}
h5py.File('h.h5').visititems(lambda n, d: h5.__setitem__(n, d[()]) if isinstance(d, h5py.Dataset) else None)
want['h.h5'] = h5
want['n.nc'] = {n: h5py.File('n.nc')[n][()] for n in ['v', 'time']}
want['u.zarr'] = {n: a[...] for n, a in zarr.open_group('u.zarr', mode='r').arrays()}
want['t.safetensors'] = want['t.npk'] = want['t.pt'] = tensors
checked = 0
for name, arrays in want.items():
    forms = [name + '.json'] + ([] if name in ('t.npk', 't.pt') else [name + '.refs'])
    for form in forms:
        g = group(form)
        assert sorted(g.keys()) == sorted({n.split('/')[0] for n in arrays}), (form, sorted(g.keys()))
        found = {n: g[n] for n in arrays}
        for n, a in arrays.items():
            got = np.asarray(found[n][...])
            assert got.dtype == a.dtype and got.shape == a.shape, (form, n, got.dtype, a.dtype)
            assert got.tobytes() == np.ascontiguousarray(a).tobytes(), (form, n)
            checked += 1
assert checked == 42, checked
ds = xr.open_dataset('reference://', engine='zarr', backend_kwargs=dict(consolidated=False, storage_options=dict(fo='n.nc.json')))
assert ds['v'].dims == ('time', 'x') and (ds['v'].values == want['n.nc']['v']).all()
",
    );
}

/// Chunks that no compression made smaller are stored without it: all of an array alike are
/// referred to as they are, some of it are not.
#[test]
#[cfg(feature = "hdf5")]
fn chunks_without_their_compression_are_referred_to() {
    let s = Scratch::new();
    std::fs::write(s.join("x.csv"), "one\n1\n").unwrap();
    npk(&["convert", "-q", &at(&s, "x.csv"), &at(&s, "x.h5"), "--layout", "columns"]);
    npk(&["convert", "-q", &at(&s, "x.h5"), &at(&s, "x.json"), "--virtual"]);
    let refs = set(&s.join("x.json"));
    assert_eq!(
        document(&refs, "one/.zarray")["filters"],
        serde_json::json!([{"elementsize": 8, "id": "shuffle"}])
    );
    // Shuffled, one number is as before, with its bytes one after the other.
    assert_eq!(resolve(&refs, "one/0"), 1i64.to_le_bytes());
    // The first chunk of each is compressed, the second is not.
    let mut state = 1u64;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 1
    };
    let rows: String = (0..512)
        .map(|i| if i < 256 { "0,0\n".into() } else { format!("{0},{0}\n", noise()) })
        .collect();
    std::fs::write(s.join("m.csv"), format!("a,b\n{rows}")).unwrap();
    let mixed = at(&s, "m.h5");
    npk(&[
        "convert",
        "-q",
        &at(&s, "m.csv"),
        &mixed,
        "--layout",
        "columns",
        "--chunk-shape",
        "256",
    ]);
    let told = npk_fails(4, &["convert", &mixed, &at(&s, "m.json"), "--virtual"]);
    for name in ["a", "b"] {
        assert!(
            told.contains(&format!(
                "{name}: it cannot be referred to: its chunks are not all stored in the same way"
            )),
            "{told}"
        );
    }
    assert!(told.contains("--inline-below"), "{told}");
    npk(&["convert", "-q", &mixed, &at(&s, "m.json"), "--virtual", "--inline-below", "5kB"]);
}
