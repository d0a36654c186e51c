//! Variable-length sequences of HDF5 as lists, with h5py, PyTables and netCDF4 as judges; and the
//! types that are refused by name.

use crate::support::{self, Scratch, at, npk, npk_any, npk_fails};

const FILE: &str = r#"
import h5py, tables, netCDF4, numpy as np, json
lists = {'i8': [[1, -2, 3], [], [4]], 'u2': [[1], [65535, 2], []], 'f4': [[0.5, float('inf')], [1.5], []], 'bool': [[True, False], [], [True]], 'c8': [[1 + 2j], [], [3j, 4]]}
def rows(values, dtype):
    all = np.empty(len(values), object)
    for i, v in enumerate(values): all[i] = np.array(v, dtype)
    return all
with h5py.File('s.h5', 'w') as f:
    for name, values in lists.items():
        f.create_dataset(name, data=rows(values, name), dtype=h5py.vlen_dtype(name))
    big = h5py.vlen_dtype(np.dtype('>i4')); ints = h5py.vlen_dtype('i4')
    f.create_dataset('big', data=rows(lists['i8'], '>i4'), dtype=big)
    many = rows([list(range(i % 7)) for i in range(5000)], 'i4')
    f.create_dataset('chunks', data=many, dtype=ints, chunks=(100,), compression='gzip', shuffle=True)
    d = f.create_dataset('unwritten', (5,), dtype=ints, chunks=(2,)); d[1] = [7, 8]
    d = f.create_dataset('one', (), dtype=ints); d[()] = np.array([1, 2, 3], 'i4')
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE); plist.set_layout(h5py.h5d.COMPACT)
    h5py.h5d.create(f.id, b'compact', h5py.h5t.py_create(ints, logical=True), h5py.h5s.create_simple((3,)), plist)
    f['compact'][:] = rows(lists['i8'], 'i4')
    record = np.dtype([('n', 'i4'), ('v', ints)])
    d = f.create_dataset('record', (2,), dtype=record); d[0] = (1, np.array([5, 6], 'i4')); d[1] = (2, np.array([], 'i4'))
    d = f.create_dataset('long', (1,), dtype=h5py.vlen_dtype('f8')); d[0] = np.arange(100000) / 3
with tables.open_file('t.h5', 'w') as f:
    a = f.create_vlarray('/', 'v', tables.Int32Atom()); [a.append(x) for x in ([1, 2], [], [3, 4, 5])]
with netCDF4.Dataset('n.nc', 'w') as f:
    f.createDimension('x', 3); t = f.createVLType(np.int16, 'phony'); v = f.createVariable('v', t, ('x',)); v.units = 'm'
    for i in range(3): v[i] = np.arange(i, dtype='i2')
with h5py.File('no.h5', 'w') as f:
    f['ok'] = np.arange(3)
    d = f.create_dataset('two', (2, 2), dtype=h5py.vlen_dtype('i4')); d[0, 0] = [1]
    d = f.create_dataset('nested', (2,), dtype=h5py.vlen_dtype(h5py.vlen_dtype('i4')))
    d = f.create_dataset('texts', (2,), dtype=h5py.vlen_dtype(h5py.string_dtype()))
    d = f.create_dataset('records', (2,), dtype=h5py.vlen_dtype(np.dtype([('a', 'i4'), ('b', 'i4')])))
    f.create_dataset('opaque', data=np.zeros(2, 'V5'))
    h5py.h5d.create(f.id, b'time', h5py.h5t.UNIX_D32LE, h5py.h5s.create_simple((2,)))
    f['wide'] = np.array([1, 2 ** -60], 'longdouble')
    x = f.create_dataset('long', (2,), 'longdouble'); x[:] = [np.longdouble(1), np.longdouble(1) / 3]
    f['exact'] = np.array([1, 0.5], 'longdouble')
"#;

#[test]
#[ignore = "asks the real libraries"]
fn sequences_are_lists() {
    let s = Scratch::new();
    support::python(s.path(), FILE);
    let file = at(&s, "s.h5");
    npk(&["convert", &file, &at(&s, "o.npk"), "--verify"]);
    npk(&["convert", &at(&s, "o.npk"), &at(&s, "back.h5"), "--verify"]);
    npk(&["diff", &file, &at(&s, "o.npk")]);
    npk(&["diff", &file, &at(&s, "back.h5")]);
    for name in [
        "i8",
        "u2",
        "f4",
        "bool",
        "big",
        "chunks",
        "unwritten",
        "one",
        "compact",
        "record.v",
        "long",
    ] {
        npk(&["convert", &file, &at(&s, &format!("{name}.parquet")), "-a", name, "--verify"]);
    }
    npk(&["convert", &file, &at(&s, "c8.npz"), "-a", "c8"]);
    npk(&["convert", &at(&s, "t.h5"), &at(&s, "t.parquet"), "--verify"]);
    npk(&["convert", &at(&s, "n.nc"), &at(&s, "n.parquet"), "--verify"]);
    // In parts, as a small memory limit has them.
    npk(&[
        "convert",
        &file,
        &at(&s, "s.npk"),
        "-a",
        "chunks",
        "--memory-limit",
        "8MiB",
        "--verify",
    ]);
    npk(&["convert", &file, &at(&s, "r.parquet"), "-a", "chunks", "--rows", "4990:"]);
    support::python(
        s.path(),
        r#"
import h5py, pyarrow.parquet as pq, pyarrow as pa, numpy as np
def column(name):
    table = pq.read_table(f'{name}.parquet')
    return table.column(table.num_columns - 1)
with h5py.File('s.h5') as f:
    # h5py 3.16 gives big-endian ones unturned, h5dump as they are.
    assert column('big').to_pylist() == column('i8').to_pylist()
    for name in ('i8', 'u2', 'f4', 'bool', 'chunks', 'unwritten', 'compact', 'long'):
        assert column(name).to_pylist() == [v.tolist() for v in f[name][:]], name
    assert column('one').to_pylist() == [[1, 2, 3]] and column('record.v').to_pylist() == [[5, 6], []]
    assert column('r').to_pylist() == [v.tolist() for v in f['chunks'][4990:]]
    c = np.load('c8.npz')
    assert c['c8.offsets'].tolist() == [0, 1, 1, 3] and c['c8.values'].tolist() == [1 + 2j, 3j, 4]
assert column('i8').type.value_type == pa.int64() and column('u2').type.value_type == pa.uint16() and column('f4').type.value_type == pa.float32()
assert column('t').to_pylist() == [[1, 2], [], [3, 4, 5]] and column('n').to_pylist() == [[], [0], [0, 1]]
"#,
    );
}

/// A length that the heap does not have is damage, whatever it claims.
#[test]
#[ignore = "asks the real libraries"]
fn lengths_of_sequences_are_not_believed() {
    let s = Scratch::new();
    support::python(
        s.path(),
        r#"
import h5py, numpy as np
with h5py.File('v.h5', 'w') as f:
    d = f.create_dataset('v', (2,), dtype=h5py.vlen_dtype('i8')); d[0] = np.arange(37); d[1] = np.arange(3)
    at = d.id.get_offset()
whole = bytearray(open('v.h5', 'rb').read())
assert int.from_bytes(whole[at:at + 4], 'little') == 37
for n, length in enumerate((36, 38, 1 << 20, 0xFFFFFFFF)):
    whole[at:at + 4] = length.to_bytes(4, 'little'); open(f'v{n}.h5', 'wb').write(whole)
"#,
    );
    for n in 0..4 {
        let file = at(&s, &format!("v{n}.h5"));
        let said = npk_fails(7, &["convert", &file, &at(&s, "o.npk"), "--memory-limit", "8MiB"]);
        assert!(said.contains("v: an element says that it has"), "{said}");
        assert!(!s.join("o.npk").exists());
    }
}

/// What is not supported is named, with flags that leave it out.
#[test]
#[ignore = "asks the real libraries"]
fn types_without_a_form_are_refused_with_a_way_out() {
    let s = Scratch::new();
    support::python(s.path(), FILE);
    let file = at(&s, "no.h5");
    let said = npk_fails(4, &["convert", &file, &at(&s, "o.npk")]);
    for words in [
        "two: variable-length sequences of 2 dimensions are not supported",
        "nested: variable-length sequences of other values than numbers are not supported",
        "texts: variable-length sequences of other values than numbers are not supported",
        "records: variable-length sequences of records are not supported",
        "opaque: opaque values of 5 bytes",
        "time: the type class H5T_TIME is not supported",
        "long: value 1 is a floating-point number of 16 bytes that float64 cannot hold exactly",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(said.contains("-x"), "{said}");
    let output = npk_any(&["convert", &file, &at(&s, "o.npk"), "--skip-unsupported"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        npk(&["list", &at(&s, "o.npk")]).lines().collect::<Vec<_>>(),
        ["exact", "ok", "wide"]
    );
    npk(&["convert", &file, &at(&s, "x.npk"), "-a", "exact"]);
    let listed = npk(&["list", "-l", &file]);
    let line = listed.lines().find(|line| line.starts_with("long\t")).unwrap();
    assert!(line.contains("\tnot readable: value 1"), "{line}");
}
