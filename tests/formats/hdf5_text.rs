//! HDF5 text: of any length in global heaps, forged lengths, bytes that are not UTF-8, more than
//! one dimension.

use super::hdf5::judged;
use crate::support::{self, Scratch, at, npk, npk_any, npk_fails};

/// Every reference into a heap claims 4 GiB, one at a time.
const FORGE: &str = r#"
import h5py, numpy as np, struct, json
text = h5py.string_dtype()
def vlen(f, name, layout):
    low = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if layout == 'compact': low.set_layout(h5py.h5d.COMPACT)
    if layout.startswith('chunks'): low.set_chunk((2,))
    if layout == 'chunks_gzip': low.set_deflate(1)
    kind = h5py.h5t.py_create(text, logical=True)
    h5py.h5d.create(f.id, name.encode(), kind, h5py.h5s.create_simple((3,)), low)
    f[name][...] = ['one', 'twotwo', 'threethree']
for version in ('earliest', 'latest'):
    with h5py.File(f'{version}.h5', 'w', libver=version) as f:
        f['plain'] = np.arange(4)
        for layout in ('contiguous', 'compact', 'chunks'): vlen(f, layout, layout)
        f['fields'] = np.array([(1, 'field'), (2, 'other')], [('a', 'i4'), ('t', text)])
        d = f.create_dataset('lists', (2,), h5py.vlen_dtype('i8')); d[0] = [1, 2, 3]; d[1] = [4]
        f.attrs['root'] = 'an attribute'
        f['plain'].attrs['texts'] = ['first', 'second']
        f.create_group('g').attrs['inner'] = 'of a group'
        numbers = np.empty(1, object); numbers[0] = np.arange(3)
        f['plain'].attrs.create('numbers', numbers, dtype=h5py.vlen_dtype('i8'))
        f['scale'] = np.arange(4); f['scale'].make_scale('x'); f['plain'].dims[0].attach_scale(f['scale'])
        f.create_dataset('filled', (3,), text, chunks=(2,), fillvalue='never written')
    data = open(f'{version}.h5', 'rb').read()
    heaps, at = set(), 0
    while (at := data.find(b'GCOL\x01', at)) >= 0: heaps.add(at); at += 1
    places = [p for p in range(len(data) - 16) if struct.unpack_from('<Q', data, p + 4)[0] in heaps and 0 < struct.unpack_from('<I', data, p)[0] < 100 and 0 < struct.unpack_from('<I', data, p + 12)[0] < 100]
    assert len(places) > 18, places
    json.dump(places, open(f'{version}.json', 'w'))
"#;

/// What a forged file costs: the memory of the largest of all runs, and what `verify` says of each.
const RUN_FORGED: &str = r#"
import json, resource, struct, subprocess
data, told = open('earliest.h5', 'rb').read(), []
for place in json.load(open('earliest.json')):
    forged = bytearray(data)
    struct.pack_into('<I', forged, place, 0xffffffff)
    open('forged.h5', 'wb').write(forged)
    for args in (['list', '-l'], ['verify'], ['convert', '-f', '--skip-unsupported', '--strings', 'offsets', 'forged.h5', 'out.npk']):
        run = subprocess.run([NPK, *args, *(['forged.h5'] if args[0] != 'convert' else [])], capture_output=True, text=True)
        if args[0] == 'list': assert run.returncode in (0, 7), run
        if args[0] == 'verify': told.append([run.returncode, run.stderr])
assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 200 << 10, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps(told))
"#;

/// A length counts only if the heap has it: a few bytes do not take gigabytes, wherever they are.
#[test]
#[ignore = "asks the real libraries"]
fn forged_lengths_are_compared_with_the_heap() {
    let s = Scratch::new();
    support::python(s.path(), FORGE);
    for version in ["earliest.h5", "latest.h5"] {
        assert_eq!(judged(&s, version, 8, None).len(), 0);
    }
    let told = support::python(
        s.path(),
        &RUN_FORGED.replace("NPK", &format!("{:?}", env!("CARGO_BIN_EXE_npk"))),
    );
    let told: Vec<(i32, String)> = serde_json::from_str(&told).unwrap();
    let count =
        |what: &str| told.iter().filter(|(code, said)| *code == 7 && said.contains(what)).count();
    for (array, n) in [
        ("contiguous", 3),
        ("compact", 3),
        ("chunks", 3),
        ("fields.t", 2),
        ("filled", 1),
        ("lists", 2),
    ] {
        assert_eq!(
            count(&format!(
                " {array}: an element says that it has {} bytes",
                4_294_967_295 * if array == "lists" { 8 } else { 1u64 }
            )),
            n,
            "{told:?}"
        );
    }
    for (attribute, n) in [
        ("\"root\" of the root group", 1),
        ("\"inner\" of g", 1),
        ("\"texts\" of plain", 2),
        ("\"DIMENSION_LIST\" of plain", 1),
    ] {
        assert_eq!(count(&format!("the attribute {attribute}: an element says")), n, "{told:?}");
    }
    // Those in attributes that are never read, as sequences are, do no harm.
    let others: Vec<_> = told.iter().filter(|(code, _)| *code != 7).collect();
    assert!(others.len() == 2 && others.iter().all(|(code, _)| *code == 0), "{others:?}");
}

/// Text that is not what it claims to be is kept as bytes, with a note: of a fixed length, of any
/// length, in fields, in attributes of files, groups and datasets, and in more than one dimension.
#[test]
#[ignore = "asks the real libraries"]
fn text_that_is_not_utf8_is_kept_as_bytes() {
    let s = Scratch::new();
    support::python(
        s.path(),
        r#"
import h5py, numpy as np
with h5py.File('l.h5', 'w') as f:
    f['fixed'] = np.array([b'x', b'caf\xe9']); f['ok'] = np.arange(3)
    f['any'] = np.array([b'a', b'\xff\xfe', b''], dtype=h5py.string_dtype('ascii'))
    f.create_dataset('chunks', data=np.array([b'a'] * 9 + [b'\xe9'], dtype=h5py.string_dtype()), chunks=(3,), compression='gzip')
    f['record'] = np.array([(1, b'\xe9')], [('n', 'i4'), ('t', 'S2')])
    f['two'] = np.array([[b'a', b'\xe9'], [b'', b'b']])
    # Whole only together: the first text ends within a character that the second one continues.
    f['cut'] = np.array([b'\xc3', b'\xa9'])
    for on in (f, f.create_group('g'), f['ok']): on.attrs['name'] = np.bytes_(b'caf\xe9')
"#,
    );
    let (file, out) = (at(&s, "l.h5"), at(&s, "o.npk"));
    let output = npk_any(&["convert", &file, &out]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    for (array, row) in
        [("fixed", 1), ("any", 1), ("chunks", 9), ("record.t", 0), ("two", 0), ("cut", 0)]
    {
        assert!(said.contains(&format!("{array}: row {row} is not UTF-8")), "{array}: {said}");
    }
    assert!(!said.contains("ok: row"), "{said}");
    npk(&["diff", &file, &out]);
    // HDF5 has no type for bytes of any length that it would write: they are offsets and bytes, of
    // one dimension.
    let said = npk_fails(4, &["convert", &file, &at(&s, "again.h5")]);
    assert!(said.contains("two: hdf5 cannot hold bytes of 2 dimensions"), "{said}");
    npk(&["convert", &file, &at(&s, "again.h5"), "-x", "two"]);
    let one = ["any", "chunks", "cut", "fixed", "ok", "record.n", "record.t"];
    let one: Vec<&str> = one.iter().flat_map(|name| ["-a", *name]).collect();
    npk(&[&["diff", &file, &at(&s, "again.h5")], &one[..]].concat());
    // The attributes are the bytes that they were.
    support::python(
        s.path(),
        "import h5py\nwith h5py.File('again.h5') as f:\n  for on in (f, f['g'], f['ok']): assert on.attrs['name'] == b'caf\\xe9', on.attrs['name']",
    );
}

/// Bytes of a boolean that are neither 0 nor 1 are true, whatever the width of the enumeration.
#[test]
#[ignore = "asks the real libraries"]
fn booleans_of_other_bytes_are_true() {
    let s = Scratch::new();
    support::python(
        s.path(),
        r#"
import h5py, numpy as np
with h5py.File('b.h5', 'w') as f:
    for base in ('i1', 'u1', '<i2', '>i4'):
        t = h5py.h5t.enum_create(h5py.h5t.py_create(np.dtype(base)))
        t.enum_insert(b'FALSE', 0); t.enum_insert(b'TRUE', 1)
        d = h5py.h5d.create(f.id, base.strip('<>').encode(), t, h5py.h5s.create_simple((4,)))
        d.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([0, 1, 2, 100], base), t)
"#,
    );
    for name in ["i1", "u1", "i2", "i4"] {
        npk(&["convert", "-f", &at(&s, "b.h5"), &at(&s, "o.npy"), "-a", name]);
        assert!(std::fs::read(s.join("o.npy")).unwrap().ends_with(&[0, 1, 1, 1]), "{name}");
    }
}

/// One text that would take more than the memory limit on its way is refused with the limit that is
/// enough.
#[test]
#[ignore = "asks the real libraries"]
fn long_texts_need_a_limit_that_holds_them() {
    let s = Scratch::new();
    support::python(
        s.path(),
        "import h5py\nwith h5py.File('t.h5', 'w') as f:\n  d = f.create_dataset('t', (3,), h5py.string_dtype()); d[0] = 'a'; d[1] = 'x' * (4 << 20); d[2] = 'b'",
    );
    let file = at(&s, "t.h5");
    for out in ["o.h5", "o.parquet", "o.csv", "o.npk"] {
        let said = npk_fails(4, &["convert", &file, &at(&s, out), "-m", "8MiB"]);
        assert!(
            said.contains("the text of row 1 has 4194304 bytes")
                && said.contains("--memory-limit 24MiB"),
            "{out}: {said}"
        );
        assert!(!s.join(out).exists());
        npk(&["convert", &file, &at(&s, out), "-m", "24MiB"]);
    }
    npk(&["diff", &file, &at(&s, "o.h5")]);
}
