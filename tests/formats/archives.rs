//! Zip archives, whichever format lies in them: one rule for what is before an archive, limits on
//! what is inflated.

use npk::error::{Error, ErrorKind};
use npk::storage::Location;

use crate::support::library::{drain, read_all};
use crate::support::{Scratch, python};

const MAKE: &str = r#"
import io, zipfile
import numpy as np
import zarr
def npz(**arrays):
    b = io.BytesIO(); np.savez(b, **arrays); return b.getvalue()
def zipped(members, **more):
    b = io.BytesIO()
    with zipfile.ZipFile(b, 'w', **more) as z:
        for name, data in members.items(): z.writestr(name, data)
    return b.getvalue()
def pt(key):
    pickle = (b'\x80\x02}X\x01\0\0\0' + key + b'ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n'
              b'X\x01\0\0\x000X\x03\0\0\0cpuK\x02tQK\0K\x02\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs.')
    return zipped({'archive/data.pkl': pickle, 'archive/version': '3\n', 'archive/data/0': np.ones(2, 'f4').tobytes()})
def tree(name):
    store = zarr.storage.MemoryStore()
    zarr.open_group(store, mode='w').create_array(name, data=np.arange(3))
    return zipped({k: v.to_bytes() for k, v in store._store_dict.items()})
"#;

/// The values of what one file holds, or why it cannot be read.
fn names(format: &str, dir: &Scratch, file: &str) -> Result<(Vec<String>, Vec<String>), Error> {
    let plan = drain(format, &dir.join(file), &mut |_| {})?;
    Ok((plan.arrays.into_iter().map(|a| a.name).collect(), plan.notes))
}

/// Archives end to end: every reader of zip files takes the last one, and nobody would see that
/// others are missing.
#[test]
#[ignore = "asks the real libraries"]
fn several_archives_are_refused() {
    let dir = Scratch::new();
    python(
        dir.path(),
        &format!(
            "{MAKE}
kinds = dict(npz=(npz(a=[1]), npz(b=[2], c=[3])), pt=(pt(b'a'), pt(b'b')), zarr=(tree('a'), tree('b')))
for kind, (first, second) in kinds.items():
    save = lambda name, data: open(f'{{name}}.{{kind}}', 'wb').write(data)
    save('one', second)
    save('two', first + second)
    save('three', first + second + first)
    save('gap', first + bytes(1000) + second)
    save('empty', zipped({{}}) + second)
    save('none', second + zipped({{}}))
    # The second archive counts its members from the beginning of the file.
    with zipfile.ZipFile(io.BytesIO(second)) as z: members = {{i.filename: z.read(i) for i in z.infolist()}}
    whole = io.BytesIO(first)
    z = zipfile.ZipFile(whole, 'w'); z.fp.seek(len(first)); z.start_dir = len(first)
    for name, data in members.items(): z.writestr(name, data)
    z.close()
    assert whole.getvalue().startswith(first) and zipfile.ZipFile(whole).namelist() == list(members)
    save('absolute', whole.getvalue())
"
        ),
    );
    for format in ["npz", "pt", "zarr"] {
        assert!(names(format, &dir, &format!("one.{format}")).unwrap().1.is_empty());
        for file in ["two", "three", "gap", "empty", "none", "absolute"] {
            if (file, format) == ("empty", "pt") {
                continue; // its first bytes are none of a checkpoint
            }
            let error = names(format, &dir, &format!("{file}.{format}")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{file}.{format}: {error}");
            assert!(
                error
                    .message()
                    .contains("several zip archives one after the other: the last is at bytes "),
                "{error}"
            );
            assert!(error.hint_text().is_some());
        }
    }
    // A distributed checkpoint is such a file; its hint says what makes one checkpoint of it.
    std::fs::copy(dir.join("two.pt"), dir.join("__0_0.distcp")).unwrap();
    let error = read_all("pt", &dir.join("__0_0.distcp")).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Refused
            && error.hint_text().unwrap().contains("name the folder"),
        "{error}"
    );
    let (first, two) =
        (std::fs::read(dir.join("two.npz")).unwrap(), std::fs::read(dir.join("one.npz")).unwrap());
    let said = names("npz", &dir, "two.npz").unwrap_err().to_string();
    assert!(
        said.contains(&format!("at bytes {} to {}", first.len() - two.len(), first.len())),
        "{said}"
    );
}

/// A program before an archive is no archive: it is told of.
#[test]
#[ignore = "asks the real libraries"]
fn other_bytes_before_an_archive_are_noted() {
    let dir = Scratch::new();
    python(
        dir.path(),
        &format!(
            "{MAKE}\nopen('x.npz', 'wb').write(b'MZ' + b'PK\\x05\\x06 in a program ' * 90 + npz(a=[1, 2]))\nopen('y.npz', 'wb').write(npz(a=[1, 2]))"
        ),
    );
    let (names, notes) = names("npz", &dir, "x.npz").unwrap();
    let more = std::fs::metadata(dir.join("x.npz")).unwrap().len()
        - std::fs::metadata(dir.join("y.npz")).unwrap().len();
    assert_eq!(names, ["a"]);
    assert!(notes.len() == 1 && notes[0].contains(&format!("the first {more} bytes")), "{notes:?}");
}

/// A deflated member is compared with what it may hold before it is inflated: its broken stream is
/// never looked at.
#[test]
#[ignore = "asks the real libraries"]
fn deflated_members_are_measured_first() {
    let dir = Scratch::new();
    python(
        dir.path(),
        &format!(
            "{MAKE}
import struct
def bomb(archive, name):
    # The member's announced size is 900 times what is there, and its stream is no deflate stream.
    b = bytearray(archive)
    with zipfile.ZipFile(io.BytesIO(archive)) as z:
        info = z.getinfo(name)
    start = info.header_offset + 30 + len(name)
    b[start:start + info.compress_size] = b'\\xff' * info.compress_size
    at = 0
    while True:
        at = b.index(b'PK\\x01\\x02', at)
        if b[at + 46:].startswith(name.encode()): break
        at += 4
    b[at + 24:at + 28] = struct.pack('<I', 900 * info.compress_size)
    return bytes(b)
def store(name, chunks, sharded=None, compressors='auto'):
    s = zarr.storage.MemoryStore()
    rng = np.random.default_rng(1)
    zarr.open_group(s, mode='w').create_array('a', data=rng.integers(0, 255, (4000, 2), dtype='u1'), chunks=chunks, shards=sharded, compressors=compressors)
    z = zipped({{k: v.to_bytes() for k, v in s._store_dict.items()}}, compression=zipfile.ZIP_DEFLATED)
    open('good_' + name, 'wb').write(z)
    open(name, 'wb').write(bomb(z, 'a/c/0/0'))
store('raw.zip', (4000, 2), compressors=None)
store('narrow.zip', (4000, 1), compressors=None)
store('zstd.zip', (4000, 2))
"
        ),
    );
    for file in ["raw.zip", "narrow.zip", "zstd.zip"] {
        read_all("zarr", &dir.join(&format!("good_{file}"))).unwrap();
        let error = read_all("zarr", &dir.join(file)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{file}: {error}");
        assert!(error.message().contains("bytes, expected at most"), "{file}: {error}");
    }
}

/// A deflated member that is read piece by piece, with little memory; its checksum is compared.
#[test]
#[ignore = "asks the real libraries"]
fn deflated_members_are_read_in_pieces() {
    let dir = Scratch::new();
    python(
        dir.path(),
        &format!(
            "{MAKE}
s = zarr.storage.MemoryStore()
a = np.arange(300_000, dtype='i8').reshape(-1, 2)
zarr.open_group(s, mode='w').create_array('a', data=a, chunks=a.shape, compressors=None)
z = zipped({{k: v.to_bytes() for k, v in s._store_dict.items()}}, compression=zipfile.ZIP_DEFLATED)
open('a.zip', 'wb').write(z)
a.tofile('a.bin')
b = bytearray(z)
at = next(i for i in range(len(b)) if b[i:i + 4] == b'PK\\x01\\x02' and b[i + 46:].startswith(b'a/c/0/0'))
b[at + 16] ^= 1
open('crc.zip', 'wb').write(b)
"
        ),
    );
    let mut got = Vec::new();
    let location = Location::local(dir.join("a.zip"));
    let options = npk::format::ReadOptions {
        resources: npk::format::Resources::new(2, 1 << 20),
        ..Default::default()
    };
    let source = npk::formats::by_name("zarr").unwrap().open(&location, &options).unwrap();
    let mut take = |chunk: npk::model::Chunk| {
        let npk::model::Values::Fixed(values) = &chunk.values else { panic!() };
        got.extend_from_slice(values);
        Ok(())
    };
    let settings = npk::pipe::Settings::new(2, 1 << 20);
    npk::pipe::drain(source, npk::format::Order::ArrayByArray, &mut take, &settings).unwrap();
    assert!(got == std::fs::read(dir.join("a.bin")).unwrap());
    let error = read_all("zarr", &dir.join("crc.zip")).unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.message().contains("checksum"), "{error}");
}
