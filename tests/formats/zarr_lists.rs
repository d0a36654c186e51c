//! Lists of Zarr v2, with numcodecs as the judge.

use crate::support::{self, Scratch, at, npk, npk_any, npk_fails};

const WRITE: &str = r#"
import os, json, numpy as np, numcodecs
def array(name, chunks, dtype, shape, filters=None, fill=0, compressor=None):
    os.makedirs(f'l.zarr/{name}', exist_ok=True)
    filters = filters or [{'id': 'vlen-array', 'dtype': dtype}]
    meta = {'zarr_format': 2, 'shape': shape, 'chunks': [3] * len(shape), 'dtype': '|O', 'compressor': compressor, 'filters': filters, 'fill_value': fill, 'order': 'C'}
    json.dump(meta, open(f'l.zarr/{name}/.zarray', 'w'))
    for key, rows in chunks.items():
        all = np.empty(len(rows), object)
        for i, row in enumerate(rows): all[i] = np.array(row, dtype)
        data = numcodecs.VLenArray(dtype).encode(all)
        if compressor: data = numcodecs.get_codec(compressor).encode(data)
        open(f'l.zarr/{name}/{key}', 'wb').write(bytes(data))
os.makedirs('l.zarr'); json.dump({'zarr_format': 2}, open('l.zarr/.zgroup', 'w'))
parts = {'0': [[1, 2, 3], [], [4]], '1': [[5, 6], [7], []]}
array('little', parts, '<i4', [6]); array('big', parts, '>f8', [6], compressor={'id': 'zstd', 'level': 1}); array('bytes', parts, '|u1', [5])
array('complex', {'0': [[1 + 2j], [], [3]]}, '<c8', [3]); array('missing', {'1': parts['1']}, '<i2', [6])
"#;

#[test]
#[ignore = "asks the real libraries"]
fn lists_of_numbers_are_read() {
    let s = Scratch::new();
    support::python(s.path(), WRITE);
    let store = at(&s, "l.zarr");
    for name in ["little", "big", "bytes", "missing"] {
        let out = at(&s, &format!("{name}.parquet"));
        npk(&["convert", &store, &out, "-a", name, "--verify"]);
    }
    npk(&["convert", &store, &at(&s, "o.npz"), "-a", "complex", "-a", "little"]);
    npk(&["convert", &store, &at(&s, "back.zarr"), "--verify"]);
    npk(&["diff", &store, &at(&s, "back.zarr")]);
    npk(&["convert", &store, &at(&s, "rows.parquet"), "-a", "big", "--rows", "1:5"]);
    support::python(
        s.path(),
        r#"
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
column = lambda name: pq.read_table(f'{name}.parquet').column(0)
want = [[1, 2, 3], [], [4], [5, 6], [7], []]
assert column('little').to_pylist() == want == column('big').to_pylist()
assert column('big').type.value_type == pa.float64() and column('little').type.value_type == pa.int32()
assert column('bytes').to_pylist() == want[:5] and column('missing').to_pylist() == [[], [], []] + want[3:] and column('rows').to_pylist() == want[1:5]
c = np.load('o.npz')
assert c['complex.values'].tolist() == [1 + 2j, 3] and c['complex.offsets'].tolist() == [0, 1, 1, 2] and c['little.values'].dtype == 'i4'
"#,
    );
    // A list without a whole number of values, and one that is longer than its chunk.
    let chunk = s.join("l.zarr/little/0");
    let whole = std::fs::read(&chunk).unwrap();
    for (at_byte, says) in [(11, "no whole values"), (3, "items"), (0, "items"), (6, "truncated")] {
        let mut bytes = whole.clone();
        match at_byte {
            11 => {
                // 12 bytes of the first list become 11, and the chunk stays whole.
                bytes[4] = 11;
                bytes.remove(19);
            }
            n => bytes[n] ^= 0x7f,
        }
        std::fs::write(&chunk, bytes).unwrap();
        let said = npk_fails(7, &["convert", &store, &at(&s, "bad.npz"), "-a", "little"]);
        assert!(said.contains(says), "{at_byte}: {said}");
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn other_objects_are_refused_with_a_way_out() {
    let s = Scratch::new();
    support::python(
        s.path(),
        &format!(
            "{WRITE}
for id in ('json2', 'msgpack2', 'categorize', 'pickle'): array(id, {{}}, '<i4', [3], [{{'id': id}}])
array('two', {{}}, '<i4', [3, 3]); array('text', {{}}, '<i4', [3], [{{'id': 'vlen-array', 'dtype': '|O'}}])
"
        ),
    );
    let store = at(&s, "l.zarr");
    let said = npk_fails(4, &["convert", &store, &at(&s, "o.npk")]);
    for words in [
        "json2: the elements are objects, stored with the filter 'json2'",
        "msgpack2: the elements are objects",
        "categorize: the elements are objects",
        "pickle: the objects are stored with the filter 'pickle', which would run code",
        "two: lists of 2 dimensions are not supported",
        "text: the data type list of \"|O\" is not supported",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let output = npk_any(&["convert", &store, &at(&s, "o.npk"), "--skip-unsupported"]);
    assert!(output.status.success(), "{output:?}");
}
