//! Files that are compressed as a whole, seen through the built binary.

use std::path::Path;

use crate::convert::npy;
use crate::detect::piped;
use crate::sources::run;
use crate::support::{Scratch, at, npk, npk_any, npk_fails, python};

/// Writes one small file of each format that can be compressed as a whole, then each with gzip and
/// zstd.
fn compressed(s: &Scratch) {
    python(
        s.path(),
        "import gzip, numpy as np, zstandard, h5py, pyarrow as pa, pyarrow.parquet as pq, pyarrow.feather as fe, zipfile, io\n\
         from safetensors.numpy import save_file\n\
         a = np.arange(40000, dtype='f4').reshape(-1, 4)\n\
         np.save('x.npy', a); np.savez('x.npz', x=a); save_file({'x': a}, 'x.safetensors')\n\
         t = pa.table({'x': a[:, 0]})\n\
         pq.write_table(t, 'x.parquet'); fe.write_feather(t, 'x.feather')\n\
         with pa.OSFile('x.arrows', 'wb') as f, pa.ipc.new_stream(f, t.schema) as w: w.write_table(t)\n\
         with h5py.File('x.h5', 'w') as f: f['x'] = a\n\
         z = io.BytesIO(); np.savez(z, y=a)\n\
         # The member that shows what it is comes second.\n\
         with zipfile.ZipFile('late.npz', 'w') as out:\n\
         \x20 out.writestr('README', 'x'); out.writestr('y.npy', zipfile.ZipFile(z).read('y.npy'))\n\
         for n in ('x.npy', 'x.npz', 'x.safetensors', 'x.parquet', 'x.feather', 'x.arrows', 'x.h5', 'late.npz'):\n\
         \x20 b = open(n, 'rb').read()\n\
         \x20 open(n + '.gz', 'wb').write(gzip.compress(b)); open(n + '.zst', 'wb').write(zstandard.ZstdCompressor(write_checksum=True).compress(b))",
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn compressed_files_are_read_as_what_is_in_them() {
    let s = Scratch::new();
    compressed(&s);
    for name in ["x.npy", "x.npz", "x.safetensors", "x.parquet", "x.feather", "x.arrows", "x.h5"] {
        let plain: serde_json::Value =
            serde_json::from_str(&npk(&["inspect", "--json", "--checksum", &at(&s, name)]))
                .unwrap();
        for ending in ["gz", "zst"] {
            let packed = at(&s, &format!("{name}.{ending}"));
            let shown: serde_json::Value =
                serde_json::from_str(&npk(&["inspect", "--json", "--checksum", &packed])).unwrap();
            assert_eq!(shown["arrays"], plain["arrays"], "{packed}");
            assert_eq!(shown["format"], plain["format"], "{packed}");
            assert_eq!(shown["bytes"], std::fs::metadata(&packed).unwrap().len(), "{packed}");
            // Values are looked at after the names, twice.
            npk(&["inspect", "--stats", "--head", "2", &packed]);
            npk(&["verify", &packed]);
            npk(&["convert", &packed, &at(&s, "o.npk"), "-f", "--verify", "--layout", "columns"]);
            npk(&["diff", &at(&s, name), &at(&s, "o.npk")]);
            let (code, said) =
                piped(s.path(), &["convert", "-", "p.npk", "-f"], &std::fs::read(&packed).unwrap());
            assert_eq!(code, 0, "{packed}: {said}");
        }
    }
    // Formats that no Python library here writes.
    for name in ["y.pt", "y.npkg"] {
        npk(&["convert", &at(&s, "x.npz"), &at(&s, name)]);
        python(
            s.path(),
            &format!(
                "import gzip; open('{name}.gz', 'wb').write(gzip.compress(open('{name}', 'rb').read()))"
            ),
        );
        npk(&["diff", &at(&s, name), &at(&s, &format!("{name}.gz"))]);
    }
    // The bytes count, not the name; the array is called as the file without its endings.
    std::fs::copy(s.join("x.npy.gz"), s.join("other.dat")).unwrap();
    std::fs::copy(s.join("x.npy.zst"), s.join("other.npy")).unwrap();
    for name in ["other.dat", "other.npy"] {
        assert_eq!(npk(&["list", "-l", &at(&s, name)]), "other\tfloat32\t10000x4\t160000\n");
    }
    assert_eq!(npk(&["list", &at(&s, "x.npy.gz")]), "x\n");
    assert_eq!(npk(&["list", "--from", "npy", &at(&s, "x.npy.gz")]), "x\n");
    // Which format an archive is may show only in its directory, at its end.
    assert_eq!(npk(&["list", &at(&s, "late.npz.gz"), "-x", "README"]), "y\n");
    // Streamed, or unpacked with a word on it.
    let notes = |name: &str| {
        let output = npk_any(&["convert", "-v", &at(&s, name), &at(&s, "o.npk"), "-f"]);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(
        notes("x.parquet.gz")
            .contains("gzip is unpacked into a temporary file, since parquet needs random access")
    );
    assert!(!notes("x.npy.gz").contains("temporary"));
}

#[test]
#[ignore = "asks the real libraries"]
fn damaged_compression_is_corrupt_input() {
    let s = Scratch::new();
    compressed(&s);
    for name in ["x.npy.gz", "x.npy.zst", "x.parquet.gz", "x.h5.zst", "x.safetensors.gz"] {
        let whole = std::fs::read(s.join(name)).unwrap();
        for cut in [whole.len() - 1, whole.len() - 5, whole.len() / 2, 20] {
            std::fs::write(s.join(name), &whole[..cut]).unwrap();
            let said = npk_fails(7, &["convert", &at(&s, name), &at(&s, "o.npk")]);
            assert!(said.contains("data ends too early"), "{name} cut at {cut}: {said}");
        }
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x55;
        std::fs::write(s.join(name), &flipped).unwrap();
        npk_fails(7, &["convert", &at(&s, name), &at(&s, "o.npk")]);
    }
    // The checksum at the end counts, too, where the array was read as a stream.
    python(
        s.path(),
        "import gzip; open('crc.npy.gz', 'wb').write(gzip.compress(open('x.npy', 'rb').read()))",
    );
    let mut wrong = std::fs::read(s.join("crc.npy.gz")).unwrap();
    let last = wrong.len() - 6;
    wrong[last] ^= 1;
    std::fs::write(s.join("crc.npy.gz"), &wrong).unwrap();
    assert!(
        npk_fails(7, &["convert", &at(&s, "crc.npy.gz"), &at(&s, "o.npk")])
            .contains("the gzip data is damaged")
    );
    assert!(!s.join("o.npk").exists());
    // Members after one another are one file.
    python(
        s.path(),
        "import gzip, zstandard\nb = open('x.npy', 'rb').read()\n\
         open('two.npy.gz', 'wb').write(gzip.compress(b[:1000]) + gzip.compress(b[1000:]))\n\
         z = [zstandard.compress(b[:1000]), zstandard.compress(b[1000:])]\n\
         open('two.npy.zst', 'wb').write(z[0] + z[1])\n\
         # As pzstd does: before each frame one that tells its size.\n\
         skip = lambda f: b'\\x50\\x2A\\x4D\\x18' + (4).to_bytes(4, 'little') + len(f).to_bytes(4, 'little')\n\
         open('pz.npy.zst', 'wb').write(skip(z[0]) + z[0] + skip(z[1]) + z[1])",
    );
    for name in ["two.npy.gz", "two.npy.zst", "pz.npy.zst"] {
        npk(&["convert", &at(&s, name), &at(&s, "o.npk"), "-f", "--name", "x"]);
        npk(&["diff", &at(&s, "x.npy"), &at(&s, "o.npk")]);
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn what_is_compressed_and_not_known_is_refused() {
    let s = Scratch::new();
    python(
        s.path(),
        "import gzip, io, pickle, tarfile\n\
         put = lambda name, data: open(name, 'wb').write(gzip.compress(data))\n\
         t = io.BytesIO()\n\
         with tarfile.open(fileobj=t, mode='w') as f: f.addfile(tarfile.TarInfo('a.npy'), io.BytesIO())\n\
         put('a.tar.gz', t.getvalue()); put('a.pkl.gz', pickle.dumps([1])); put('unknown.gz', bytes(range(256)))\n\
         put('rows.gz', b'1 2\\n3 4\\n'); put('twice.npy.gz.gz', gzip.compress(b'x')); put('empty.npy.gz', b'')\n\
         put('image.nii.gz', (348).to_bytes(4, 'little') + bytes(340) + b'n+1\\0'); put('r.rds', b'X\\n\\0\\0\\0\\3\\0')",
    );
    let cases = [
        ("a.tar.gz", 4, "it is compressed with gzip, and inside: this is a tar archive"),
        ("a.pkl.gz", 3, "the pickle holds no arrays"),
        ("unknown.gz", 4, "the format is not recognised"),
        ("rows.gz", 3, "read it with --from txt"),
        ("twice.npy.gz.gz", 4, "a file that is compressed twice is not read"),
        ("image.nii.gz", 4, "a NIfTI image"),
        ("r.rds", 4, "an R object"),
        ("empty.npy.gz", 7, "empty.npy.gz"),
    ];
    for (name, code, words) in cases {
        let said = npk_fails(code, &["convert", &at(&s, name), &at(&s, "o.npk")]);
        assert!(said.contains(words), "{name}: {said}");
    }
    npk(&["convert", "--from", "txt", &at(&s, "rows.gz"), &at(&s, "o.npk")]);
    let said = npk_fails(4, &["convert", &at(&s, "o.npk"), &at(&s, "out.npy.gz")]);
    assert!(
        said.contains("npk writes no npy files that are compressed with gzip")
            && said.contains("out.npy"),
        "{said}"
    );
    npk_fails(4, &["convert", &at(&s, "o.npk"), &at(&s, "out.parquet.zst"), "--to", "parquet"]);
    npk(&["convert", &at(&s, "o.npk"), &at(&s, "out.csv.gz")]);
    npk(&["convert", &at(&s, "o.npk"), &at(&s, "out.npy.gz"), "--to", "csv"]);
}

/// What a small file stands for must not fill the disk: the copy ends with a message, and nothing
/// stays.
#[test]
#[ignore = "asks the real libraries"]
fn an_unpacked_file_ends_where_the_disk_does() {
    let s = Scratch::new();
    python(
        s.path(),
        "import gzip\nwith gzip.open('bomb.npz.gz', 'wb', 1) as f:\n\
         \x20 f.write(b'PK\\3\\4' + bytes(22) + b'\\5\\0\\0\\0' + b'x.npy')\n\
         \x20 for _ in range(64): f.write(bytes(1 << 20))",
    );
    let (bomb, out, tmp) = (at(&s, "bomb.npz.gz"), at(&s, "o.npk"), at(&s, "tmp"));
    std::fs::create_dir(&tmp).unwrap();
    // Within a limit on file sizes, as on a disk that is full.
    let script = format!(
        "ulimit -f 16384; TMPDIR={tmp} exec {} convert {bomb} {out}",
        env!("CARGO_BIN_EXE_npk")
    );
    let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("file size limit") || said.contains("size limit") && said.contains("TMPDIR"),
        "{said}"
    );
    assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 0);
    assert!(!Path::new(&out).exists());
}

#[test]
#[ignore = "asks the real libraries"]
fn a_batch_takes_compressed_files_once() {
    let s = Scratch::new();
    for name in ["in/a.npy", "in/b.npy"] {
        std::fs::create_dir_all(s.join("in")).unwrap();
        npy(&s.join(name), "<i2", &[1], &[1, 0]);
    }
    python(
        s.path(),
        "import gzip\nfor n, m in (('a', 'a'), ('b', 'c')): open(f'in/{m}.npy.gz', 'wb').write(gzip.compress(open(f'in/{n}.npy', 'rb').read()))",
    );
    // A damaged one is told of; what is something else is left alone, whatever its name.
    let whole = std::fs::read(s.join("in/c.npy.gz")).unwrap();
    std::fs::create_dir(s.join("cut")).unwrap();
    std::fs::write(s.join("cut/d.npy.gz"), &whole[..whole.len() - 9]).unwrap();
    python(
        s.path(),
        "import gzip; open('in/raw.bin.gz', 'wb').write(gzip.compress(bytes(range(256))))",
    );
    // What no format has stays out of the way.
    for (name, text) in [
        ("in/notes.json", "{\"a\": 1}"),
        ("in/model.onnx", "ONNX"),
        ("in/p.joblib", "\u{80}"),
        ("in/README.md", "# x"),
    ] {
        std::fs::write(s.join(name), text).unwrap();
    }
    let (code, _, said) = run(s.path(), &["convert", "-R", "in", "-o", "out/", "--to", "npk"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("3 converted, 0 skipped, 0 failed of 3"), "{said}");
    let (code, _, said) = run(s.path(), &["convert", "-R", "cut", "-o", "out/", "--to", "npk"]);
    assert!(code == 7 && said.contains("d.npy.gz: the gzip data ends too early"), "{code} {said}");
}
