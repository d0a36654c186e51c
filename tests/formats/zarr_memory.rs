//! Chunks that are large for the memory there is: decoded once, within the limit, or refused with
//! what they need.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use npk::error::ErrorKind;
use npk::format::{ReadOptions, WriteOptions};
use npk::formats::by_name;
use npk::model::Values;
use npk::storage::Location;

use super::zarr::Objects;
use crate::support::library::convert;
use crate::support::{Scratch, at, npk, npk_fails, python};

const MIB: u64 = 1 << 20;

/// Whatever pieces are asked for, every chunk is fetched and decoded once, and the rows are right.
#[test]
#[ignore = "asks the real libraries"]
fn chunks_are_decoded_once() {
    let s = Scratch::new();
    python(
        s.path(),
        "
import numpy as np, zarr, warnings
warnings.simplefilter('ignore')
r = np.random.default_rng(1)
g = zarr.open_group('r/s.zarr', mode='w')
a = r.integers(0, 9, (50_000, 8)).astype('i4'); a.tofile('numbers.bin')
g.create_array('wide', data=a, chunks=(40_000, 8))
g.create_array('narrow', data=a, chunks=(40_000, 3))
g.create_array('one_inner', data=a, chunks=(50_000, 8), shards=(50_000, 8))
g.create_array('small', data=a, chunks=(1000, 8))
w = np.array(['word %d' % i for i in range(99)], 'T')[r.integers(0, 99, 50_000)]
open('text.bin', 'wb').write('|'.join(w.tolist()).encode())
z = g.create_array('text', shape=w.shape, dtype='string', chunks=(40_000,)); z[:] = w
",
    );
    let (numbers, text) =
        (std::fs::read(s.join("numbers.bin")).unwrap(), std::fs::read(s.join("text.bin")).unwrap());
    let mut metadata = 0;
    for name in ["wide", "narrow", "one_inner", "small", "text"] {
        let objects = Objects::load(&s.join("r"));
        let size: u64 = objects
            .all
            .iter()
            .filter(|(k, _)| k.contains(&format!("/{name}/c/")))
            .map(|(_, v)| v.len() as u64)
            .sum();
        let bytes = objects.bytes.clone();
        let options = ReadOptions {
            resources: npk::format::Resources::new(2, 4 * MIB),
            ..ReadOptions::default()
        };
        let source = by_name("zarr")
            .unwrap()
            .open(&Location::remote(Arc::new(objects), "s.zarr"), &options)
            .unwrap();
        metadata = bytes.load(Relaxed).max(metadata);
        bytes.store(0, Relaxed);
        let array = source.plan().position(name).unwrap();
        let reader = crate::support::library::rows_of(source.as_ref(), array);
        let (mut got, mut words) = (Vec::new(), Vec::new());
        // Pieces that do not care for chunks.
        for first in (0..50_000u64).step_by(777) {
            let mut take = |chunk: npk::model::Chunk| {
                match &chunk.values {
                    Values::Fixed(part) => got.extend_from_slice(part),
                    Values::Var { .. } => {
                        (0..chunk.rows as usize).for_each(|r| words.push(chunk.text(r).to_vec()))
                    }
                    Values::Nested(_) => unreachable!(),
                }
                Ok(())
            };
            reader.read(array, first..(first + 777).min(50_000), &mut take).unwrap();
        }
        if name == "text" {
            assert!(words.join(&b'|') == text);
        } else {
            assert!(got == numbers, "{name}");
        }
        assert_eq!(bytes.load(Relaxed), size, "{name}: of {size} bytes");
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn chunks_that_need_too_much_are_refused_with_the_number() {
    let s = Scratch::new();
    python(
        s.path(),
        "
import numpy as np, zarr, numcodecs, warnings
warnings.simplefilter('ignore')
g = zarr.open_group('s.zarr', mode='w', zarr_format=2)
a = np.ones((11_000_000,), 'i4')
g.create_array('delta', data=a, chunks=a.shape, filters=[numcodecs.Delta('<i4')])
g.create_array('plain', data=a, chunks=a.shape)
t = np.array(['x' * 9000] * 3000, object)
g.create_array('text', shape=t.shape, dtype=str, chunks=t.shape)[:] = t
",
    );
    let convert = |array: &str, limit: &str, out: &str| {
        npk_fails(
            4,
            &[
                "convert",
                "-f",
                "-a",
                array,
                "--memory-limit",
                limit,
                &at(&s, "s.zarr"),
                &at(&s, out),
            ],
        )
    };
    // 44 MB, and as much between the filter and the decompression.
    let said = convert("delta", "48MiB", "o.npk");
    assert!(
        said.contains("need 88000000 bytes of memory") && said.contains("--memory-limit 84MiB"),
        "{said}"
    );
    let said = convert("text", "48MiB", "o.npk");
    assert!(
        said.contains("a chunk of text has more than the 25165824 bytes")
            && said.contains("--memory-limit 96MiB"),
        "{said}"
    );
    for (array, limit) in [("delta", "84MiB"), ("plain", "48MiB"), ("text", "96MiB")] {
        npk(&[
            "convert",
            "-q",
            "-f",
            "-a",
            array,
            "--memory-limit",
            limit,
            &at(&s, "s.zarr"),
            &at(&s, "o.npk"),
        ]);
    }
}

/// Text of which a chunk would be too large: refused, naming the shape that fits.
#[test]
#[ignore = "asks the real libraries"]
fn chunks_of_text_are_bounded_when_they_are_written() {
    let s = Scratch::new();
    python(
        s.path(),
        "import pyarrow as pa, pyarrow.feather as f\nf.write_feather(pa.table({'t': ['y' * 40_000] * 600}), 't.feather')",
    );
    let write = |chunk: Option<Vec<u64>>| {
        let options = WriteOptions {
            resources: npk::format::Resources::new(2, 32 * MIB),
            chunk_shape: chunk,
            existing: npk::format::Existing::Replace,
            ..WriteOptions::default()
        };
        convert(
            "feather",
            &Location::local(s.join("t.feather")),
            "zarr",
            &Location::local(s.join("o.zarr")),
            &options,
        )
    };
    let error = write(Some(vec![600])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.message().contains("at most 8388608 bytes fit"), "{error}");
    assert!(error.hint_text().unwrap().contains("--chunk-shape 104 "), "{error:?}");
    write(Some(vec![104])).unwrap();
    python(
        s.path(),
        "import zarr\nz = zarr.open_group('o.zarr', mode='r')['t']; assert z.shape == (600,) and set(z[:]) == {'y' * 40_000}",
    );
}

/// A few bytes of metadata claim rows of gigabytes: chunks that are missing would be filled in
/// memory.
#[test]
#[ignore = "asks the real libraries"]
fn rows_larger_than_memory_are_refused() {
    let s = Scratch::new();
    python(
        s.path(),
        "
import zarr, warnings
warnings.simplefilter('ignore')
g = zarr.open_group('s.zarr', mode='w')
g.create_array('numbers', shape=(2, 2**31), chunks=(1, 1000), dtype='i4')
g.create_array('padded', shape=(2, 2**31), chunks=(1, 1000), dtype='U1')
g.create_array('text', shape=(2, 2**31), chunks=(1, 1000), dtype='string')
g.create_array('none', shape=(0, 2**31), chunks=(1, 1000), dtype='i4')
",
    );
    for (array, bytes) in [("numbers", 4 * (1u64 << 31)), ("padded", 4 << 31), ("text", 8 << 31)] {
        let said = npk_fails(4, &["inspect", "--stats", "-a", array, &at(&s, "s.zarr")]);
        assert!(
            said.contains(&format!("{array}: a row takes {bytes} bytes, the memory limit is ")),
            "{said}"
        );
        assert!(said.contains("--memory-limit"), "{said}");
    }
    npk(&["inspect", "--stats", "-a", "none", &at(&s, "s.zarr")]);
}
