//! HDF5 files that name other files: virtual sources, external links, raw data.

use npk::error::ErrorKind;

use super::hdf5::{judged, open};
use crate::support::{self, Scratch, at, npk, npk_any, npk_fails};

/// What is said about an array that cannot be read.
#[track_caller]
fn refusal(s: &Scratch, file: &str, array: &str, code: i32) -> String {
    let source = open(&s.join(file)).unwrap();
    let plan = source.plan();
    let meta = &plan.arrays[plan.position(array).unwrap_or_else(|| panic!("{array} is not there"))];
    let error = meta.details.error.as_ref().unwrap_or_else(|| panic!("{array} can be read"));
    let kind = [(4, ErrorKind::Refused), (3, ErrorKind::Missing), (7, ErrorKind::Corrupt)]
        .into_iter()
        .find(|k| k.0 == code)
        .unwrap()
        .1;
    assert_eq!(error.kind(), kind, "{array}: {error}");
    let said = npk_fails(code, &["convert", &at(s, file), &at(s, "refused.npz"), "-a", array]);
    assert!(said.contains(&format!("{array}: ")) && said.contains("hint: ") || code == 7, "{said}");
    assert!(
        npk_any(&["verify", &at(s, file)]).status.code() != Some(0),
        "verify is content with {array}"
    );
    assert!(!s.join("refused.npz").exists());
    said
}

const VIRTUAL: &str = r#"
import h5py, numpy as np, os
def source(name, rows, **o):
    with h5py.File(name, 'w', libver='latest') as f:
        f.create_dataset('d', data=np.arange(rows * 3).reshape(rows, 3), maxshape=(None, 3), chunks=(2, 3), **o)
source('a.h5', 4); source('b.h5', 4); source('short.h5', 2); os.mkdir('sub'); source('sub/c.h5', 4)
for n in range(3): source(f'series{n}.h5', 2)
for n in (0, 1, 3): source(f'gap{n}.h5', 2)
open('junk.h5', 'wb').write(b'no file of HDF5')
U = h5py.h5s.UNLIMITED
def part(name, rows=4, d='d'): return h5py.VirtualSource(name, d, (rows, 3))
def make(f, name, parts, rows=8, fill=-1, **o):
    layout = h5py.VirtualLayout((rows, 3), 'i8', **o)
    for at, source in parts: layout[at:at + 4] = source
    f.create_virtual_dataset(name, layout, fillvalue=fill)
def series(f, name, file, d='d', count=U, start=0):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    to = h5py.h5s.create_simple((6, 3), (U, 3)); to.select_hyperslab((0, 0), (count, 1), (2, 3), (2, 3))
    plist.set_virtual(to, file.encode(), d.encode(), h5py.h5s.create_simple((2, 3)))
    h5py.h5d.create(f.id, name.encode(), h5py.h5t.STD_I64LE, to, plist)
def unlimited(f, name, files):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    space = h5py.h5s.create_simple((0, 3 * len(files)), (U, 3 * len(files)))
    for n, file in enumerate(files):
        to = h5py.h5s.create_simple((0, 3 * len(files)), (U, 3 * len(files))); to.select_hyperslab((0, 3 * n), (1, 1), (1, 1), (U, 3))
        of = h5py.h5s.create_simple((0, 3), (U, 3)); of.select_hyperslab((0, 0), (1, 1), (1, 1), (U, 3))
        plist.set_virtual(to, file.encode(), b'd', of)
    h5py.h5d.create(f.id, name.encode(), h5py.h5t.STD_I64LE, space, plist)
with h5py.File('good.h5', 'w', libver='latest') as f:
    make(f, 'both', [(0, part('a.h5')), (4, part('b.h5'))])
    make(f, 'partly', [(2, part('a.h5'))])
    make(f, 'nothing', [])
    make(f, 'below', [(0, part('sub/c.h5'))], 4)
    make(f, 'again', [(0, part('a.h5')), (4, part('a.h5'))])
    f['own'] = np.arange(12).reshape(4, 3)
    make(f, 'itself', [(0, part('.', d='own'))], 4)
    make(f, 'nested', [(0, part('.', d='below'))], 4)
    series(f, 'series', 'series%b.h5')
    unlimited(f, 'wide', ['a.h5', 'b.h5'])
    f['text'] = np.array(['x', 'yy', '', 'ä'], dtype=h5py.string_dtype())
    layout = h5py.VirtualLayout((6,), h5py.string_dtype())
    layout[:4] = h5py.VirtualSource('.', 'text', (4,), h5py.string_dtype())
    f.create_virtual_dataset('texts', layout)
with h5py.File('bad.h5', 'w', libver='latest') as f:
    make(f, 'no_file', [(0, part('a.h5')), (4, part('gone.h5'))])
    make(f, 'no_dataset', [(0, part('a.h5', d='none'))], 4)
    make(f, 'too_short', [(0, part('a.h5')), (4, part('short.h5'))])
    make(f, 'too_short_part', [(0, part('short.h5')[:4, :])], 4)
    make(f, 'no_hdf5', [(0, part('junk.h5'))], 4)
    make(f, 'nested', [(0, part('.', d='no_file'))], 4)
    make(f, 'cycle', [(0, part('.', d='cycle'))], 4)
    series(f, 'gap', 'gap%b.h5')
    series(f, 'no_series', 'none%b.h5')
    series(f, 'no_number', '.', 'none%b')
    unlimited(f, 'uneven', ['a.h5', 'short.h5'])
    unlimited(f, 'half', ['a.h5', 'gone.h5'])
"#;

#[test]
#[ignore = "asks the real libraries"]
fn sources_of_virtual_datasets_must_be_there() {
    let s = Scratch::new();
    support::python(s.path(), VIRTUAL);
    for step in [None, Some(1), Some(3)] {
        let refused = judged(&s, "good.h5", 11, step);
        assert!(refused.is_empty(), "{refused:?}");
    }
    for (array, words) in [
        ("no_file", &["\"gone.h5\"", "missing"][..]),
        ("no_dataset", &["\"none\" of \"a.h5\"", "missing"]),
        ("too_short", &["\"d\" of \"short.h5\"", "has 6 values of shape [2, 3]"]),
        ("too_short_part", &["\"d\" of \"short.h5\"", "has 2 of the 4"]),
        ("nested", &["\"gone.h5\"", "missing"]),
        ("cycle", &["source of itself"]),
        ("gap", &["\"gap2.h5\"", "missing", "later"]),
        ("no_series", &["\"none0.h5\"", "missing"]),
        ("no_number", &["\"none0\"", "missing"]),
        ("uneven", &["\"short.h5\"", "has 2 of the 4"]),
        ("half", &["\"gone.h5\"", "missing"]),
    ] {
        let said = refusal(&s, "bad.h5", array, 4);
        assert!(words.iter().all(|w| said.contains(w)), "{array}: {said}");
    }
    assert!(refusal(&s, "bad.h5", "no_hdf5", 7).contains("junk.h5"));
    // The others are there all the same.
    npk(&["list", &at(&s, "bad.h5")]);
}

/// Rows that a source lost after it was mapped, in the middle of its file: no zeros in their place.
#[test]
#[ignore = "asks the real libraries"]
fn a_source_that_is_cut_short_is_damaged() {
    let s = Scratch::new();
    support::python(
        s.path(),
        "import h5py, numpy as np
with h5py.File('a.h5', 'w') as f: f['d'] = np.arange(100_000)
layout = h5py.VirtualLayout((100_000,), 'i8'); layout[:] = h5py.VirtualSource('a.h5', 'd', (100_000,))
with h5py.File('v.h5', 'w') as f: f.create_virtual_dataset('v', layout)
with open('a.h5', 'r+b') as f: f.truncate(400_000)",
    );
    let said = npk_fails(7, &["convert", &at(&s, "v.h5"), &at(&s, "o.npz")]);
    assert!(said.contains("v: ") && said.contains("a.h5"), "{said}");
}

const OUTSIDE: &str = r#"
import h5py, numpy as np, os
os.makedirs('sub/deep'); os.mkdir('away')
for name in ('away/far.h5', 'sub/deep/near.h5'):
    with h5py.File(name, 'w') as f:
        f['d'] = np.arange(4, dtype='u1'); f['g/x'] = np.arange(4, dtype='u1')
np.arange(4, dtype='u1').tofile('away/far.bin'); np.arange(4, dtype='u1').tofile('sub/deep/near.bin')
os.symlink('../away/far.h5', 'sub/link.h5'); os.symlink('../away', 'sub/folder'); os.symlink('deep/near.h5', 'sub/inner.h5')
os.symlink('../away/far.bin', 'sub/link.bin')
os.mkfifo('sub/pipe.h5'); os.mkfifo('sub/pipe.bin'); os.mkdir('sub/directory.h5')
good = {'near': 'deep/near.h5', 'roundabout': 'deep/../deep/near.h5', 'absolute_near': os.path.abspath('sub/deep/near.h5'), 'inner': 'inner.h5'}
bad = {'above': '../away/far.h5', 'absolute': os.path.abspath('away/far.h5'), 'link': 'link.h5', 'folder': 'folder/far.h5'}
special = {'pipe': 'pipe.h5', 'directory': 'directory.h5', 'device': '/dev/zero'}
with h5py.File('sub/e.h5', 'w') as f:
    for name, file in {**good, **bad, **special}.items():
        f['links/' + name] = h5py.ExternalLink(file, '/d')
        f['groups/' + name] = h5py.ExternalLink(file, '/g')
        f['soft/' + name] = h5py.SoftLink(f'/groups/{name}/x')
        layout = h5py.VirtualLayout((4,), 'u1'); layout[:] = h5py.VirtualSource(file, 'd', (4,))
        f.create_virtual_dataset('virtual/' + name, layout)
        raw = file.replace('.h5', '.bin') if 'inner' not in file else 'deep/near.bin'
        if name == 'directory': raw = 'deep'
        low = h5py.h5p.create(h5py.h5p.DATASET_CREATE); low.set_external(raw.encode(), 0, 4)
        f.require_group('raw')
        h5py.h5d.create(f['raw'].id, name.encode(), h5py.h5t.STD_U8LE, h5py.h5s.create_simple((4,)), low)
with h5py.File('away/far.h5', 'r+') as f: f['back'] = h5py.ExternalLink('../sub/e.h5', '/links/near')
"#;

/// A file from elsewhere may not choose which files of this machine are shown, and none is waited
/// for.
#[test]
#[ignore = "asks the real libraries"]
fn files_outside_of_the_folder_need_a_flag() {
    let s = Scratch::new();
    support::python(s.path(), OUTSIDE);
    let file = at(&s, "sub/e.h5");
    let forms = ["links/NAME", "groups/NAME/x", "soft/NAME", "virtual/NAME", "raw/NAME"];
    let names =
        ["near", "roundabout", "absolute_near", "inner", "above", "absolute", "link", "folder"];
    for (n, name) in names.into_iter().enumerate() {
        for form in forms {
            let array = form.replace("NAME", name);
            let out = at(&s, "out.npy");
            let convert = |flags: &[&str]| {
                npk_any(&[&["convert", "-f", &file, &out, "-a", &array], flags].concat())
            };
            let read = |output: std::process::Output| {
                assert!(output.status.success(), "{array}: {output:?}");
                assert!(std::fs::read(&out).unwrap().ends_with(&[0, 1, 2, 3]), "{array}");
            };
            if n < 4 {
                read(convert(&[]));
            } else {
                let group = form.starts_with("groups");
                let listed = if group { array.trim_end_matches("/x") } else { &array };
                let said = npk_fails(4, &["convert", "-f", &file, &out, "-a", listed]);
                assert!(
                    said.contains("not below the folder") && said.contains("--follow-external"),
                    "{array}: {said}"
                );
                assert!(said.contains("far.") || said.contains("link."), "{array}: {said}");
            }
            read(convert(&["--follow-external"]));
        }
    }
    // Neither pipes nor folders nor devices are opened, with or without the flag.
    for name in ["pipe", "directory", "device"] {
        for form in forms {
            let array = form.replace("/x", "").replace("NAME", name);
            for flags in [&["--follow-external"][..], &[]] {
                let output = npk_any(
                    &[&["convert", "-f", &file, &at(&s, "out.npy"), "-a", &array], flags].concat(),
                );
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert_eq!(output.status.code(), Some(4), "{array}: {said}");
                if !flags.is_empty() {
                    assert!(said.contains("not a regular file"), "{array}: {said}");
                }
            }
        }
    }
    // The working directory is no place to look for them, nor is the folder of a temporary copy.
    std::fs::write(s.join("sub/lone.py"), "").unwrap();
    support::python(
        s.path(),
        "import h5py\nwith h5py.File('sub/here.h5', 'w') as f: f['x'] = h5py.ExternalLink('far.h5', '/d')",
    );
    let mut command = support::npk_command();
    let output = command
        .current_dir(s.join("away"))
        .args(["convert", &at(&s, "sub/here.h5"), &at(&s, "o.npy")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let input = std::fs::File::open(s.join("sub/e.h5")).unwrap();
    let output = support::npk_command()
        .args(["convert", "-", &at(&s, "o.npy"), "-a", "raw/near"])
        .stdin(input)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a local file"), "{output:?}");
}

/// Raw data that a file does not have are not zeros.
#[test]
#[ignore = "asks the real libraries"]
fn raw_data_must_be_there_in_full() {
    let s = Scratch::new();
    support::python(
        s.path(),
        "import h5py, numpy as np
np.arange(8, dtype='<i4').tofile('short.raw'); np.arange(100, dtype='<i4').tofile('long.raw')
with h5py.File('e.h5', 'w') as f:
    f.create_dataset('short', (16,), '<i4', external=[('short.raw', 0, 64)])
    f.create_dataset('behind', (16,), '<i4', external=[('long.raw', 360, 64)])
    f.create_dataset('two', (16,), '<i4', external=[('long.raw', 0, 32), ('short.raw', 16, 32)])
    f.create_dataset('gone', (16,), '<i4', external=[('gone.raw', 0, 64)])
    f.create_dataset('good', (5, 4), '>i4', external=[('long.raw', 40, 32), ('short.raw', 4, 12), ('long.raw', 0, 36), ('gone.raw', 0, 8)])
    f.create_dataset('fields', (4,), [('a', '<i4'), ('b', '<i4')], external=[('long.raw', 4, 32)])
    f.create_dataset('roomy', (4,), '<i4', external=[('short.raw', 8, 4096)])",
    );
    let refused = judged(&s, "e.h5", 4, Some(1));
    assert_eq!(refused.len(), 4, "{refused:?}");
    for (array, words) in [
        ("short", ["64 bytes", "32 bytes"]),
        ("behind", ["byte 360", "400 bytes"]),
        ("two", ["byte 16", "32 bytes"]),
    ] {
        let said = refusal(&s, "e.h5", array, 7);
        assert!(words.iter().all(|w| said.contains(w)), "{said}");
    }
    assert!(refusal(&s, "e.h5", "gone", 4).contains("gone.raw\", which is missing"));
}
