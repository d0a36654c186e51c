//! Some rows of an Arrow batch are the rows of the whole batch, whatever they are made of, and a
//! batch is never held as a whole where it need not be.

use std::ops::Range;
use std::path::Path;

use npk::error::{ErrorKind, Result};
use npk::format::{ReadOptions, Source};
use npk::formats::by_name;
use npk::model::{Chunk, Values};
use npk::storage::Location;

use crate::support::{Scratch, at, npk, npk_peak, python};

/// One batch of 2,000 rows of each type, with and without nulls, in each compression.
const TABLE: &str = r#"
import numpy as np, pyarrow as pa, pyarrow.feather as f, polars as pl, decimal
n, rng = 2000, np.random.default_rng(5)
def nulls(values):
    return [None if rng.random() < 0.2 else v for v in values]
texts = ['' if i % 7 == 0 else 'x' * int(k) + str(i) for i, k in enumerate(rng.integers(0, 40, n))]
raw = [t.encode() for t in texts]
plain = {
    'int': (pa.int32(), list(range(n))),
    'float': (pa.float64(), rng.random(n).tolist()),
    'bool': (pa.bool_(), (rng.random(n) < 0.5).tolist()),
    'text': (pa.string(), texts),
    'large_text': (pa.large_string(), texts),
    'binary': (pa.binary(), raw),
    'view': (pa.string_view(), texts),
    'binary_view': (pa.binary_view(), raw),
    'fixed_binary': (pa.binary(5), [b'%05d' % i for i in range(n)]),
    'decimal': (pa.decimal128(20, 3), [decimal.Decimal(i) / 8 for i in range(n)]),
    'date': (pa.date32(), list(range(n))),
    'triples': (pa.list_(pa.int16(), 3), [[i, i + 1, i + 2] for i in range(n)]),
    'bits': (pa.list_(pa.bool_(), 5), rng.integers(0, 2, (n, 5)).astype(bool).tolist()),
    'pairs': (pa.list_(pa.int32()), [[i, -i] for i in range(n)]),
    'ragged': (pa.large_list(pa.float32()), [list(range(int(k))) for k in rng.integers(0, 9, n)]),
    'ragged_bits': (pa.list_(pa.bool_()), [[True] * int(k) + [False] for k in rng.integers(0, 9, n)]),
    'matrices': (pa.list_(pa.list_(pa.int8()), 2), [[[i % 100, 1, 2], [3, 4, 5]] for i in range(n)]),
    'words': (pa.dictionary(pa.int8(), pa.string()), [('a', 'b', 'longer')[i % 3] for i in range(n)]),
}
columns = {}
for name, (t, values) in plain.items():
    columns[name] = pa.array(values, t)
    columns[name + '_nulls'] = pa.array(nulls(values), t)
# Views of one buffer in any order, and several of the same text.
order = pl.Series(rng.integers(0, n, n))
for name, values in (('mixed', texts), ('mixed_nulls', nulls(texts))):
    columns[name] = pl.Series(values).gather(order).to_arrow(compat_level=pl.CompatLevel.newest())
for compression in ('uncompressed', 'lz4', 'zstd'):
    f.write_feather(pa.table(columns), compression + '.feather', compression=compression, chunksize=n)
    f.write_feather(pa.table(columns), compression + '-batches.feather', compression=compression, chunksize=301)
"#;

fn open(path: &Path, memory_bytes: u64) -> Result<Box<dyn Source>> {
    by_name("feather").unwrap().open(
        &Location::local(path),
        &ReadOptions {
            resources: npk::format::Resources::new(2, memory_bytes),
            ..ReadOptions::default()
        },
    )
}

/// Each row as its bytes; nothing for a null.
fn rows_of(chunk: &Chunk, rows: &mut Vec<Option<Vec<u8>>>) {
    for row in 0..chunk.rows as usize {
        let bytes = match &chunk.values {
            Values::Fixed(values) => {
                let width = values.len() / chunk.rows as usize;
                values[row * width..(row + 1) * width].to_vec()
            }
            Values::Var { offsets, values } => {
                let item = if offsets[chunk.rows as usize] == 0 {
                    1
                } else {
                    values.len() / offsets[chunk.rows as usize] as usize
                };
                values[offsets[row] as usize * item..offsets[row + 1] as usize * item].to_vec()
            }
            Values::Nested(_) => unreachable!(),
        };
        rows.push(chunk.valid.as_ref().is_none_or(|v| v[row] == 1).then_some(bytes));
    }
}

fn read(source: &dyn Source, array: usize, rows: Range<u64>) -> Vec<Option<Vec<u8>>> {
    let mut found = Vec::new();
    let emit = &mut |chunk: Chunk| {
        rows_of(&chunk, &mut found);
        Ok(())
    };
    crate::support::library::rows_of(source, array).read(array, rows.clone(), emit).unwrap();
    assert_eq!(found.len() as u64, rows.end - rows.start);
    found
}

#[test]
#[ignore = "asks the real libraries"]
fn rows_are_those_of_the_whole_batch() {
    let s = Scratch::new();
    python(s.path(), TABLE);
    let plain = open(&s.join("uncompressed.feather"), 256 << 20).unwrap();
    let metas = plain.plan().arrays.clone();
    assert!(
        metas.iter().all(|m| m.details.error.is_none()),
        "{:?}",
        metas.iter().find_map(|m| m.details.error.clone())
    );
    let whole: Vec<_> = (0..metas.len()).map(|a| read(plain.as_ref(), a, 0..2000)).collect();
    assert_eq!(whole[0][1999].as_deref(), Some(&1999i32.to_le_bytes()[..]));
    for name in ["uncompressed", "lz4", "zstd", "uncompressed-batches", "lz4-batches"] {
        let source = open(&s.join(&format!("{name}.feather")), 256 << 20).unwrap();
        for (array, meta) in source.plan().arrays.iter().enumerate() {
            for rows in [
                0..2000,
                0..1,
                1..2,
                7..9,
                8..16,
                5..1999,
                299..302,
                1234..1811,
                1999..2000,
                600..600,
            ] {
                let found = read(source.as_ref(), array, rows.clone());
                let wanted = &whole[array][rows.start as usize..rows.end as usize];
                assert!(found == wanted, "{name}: {} {rows:?}", meta.name);
            }
            // Pieces of some size go from the first row to the last.
            if !meta.logical.is_var() {
                continue;
            }
            let reader = crate::support::library::rows_of(source.as_ref(), array);
            let (mut row, mut pieces) = (0, 0);
            while row < 2000 {
                let piece = reader.piece(array, row, 3000).unwrap();
                assert!(
                    piece.end > row && piece.end <= 2000,
                    "{name}: {} {row} {piece:?}",
                    meta.name
                );
                let packed = !name.starts_with("uncompressed");
                assert!(
                    packed || piece.bytes <= 3000 && piece.bytes > 0,
                    "{name}: {} {row} {piece:?}",
                    meta.name
                );
                (row, pieces) = (piece.end, pieces + 1);
            }
            assert!(
                pieces
                    > if name.contains("batches") {
                        6
                    } else if name.starts_with("un") {
                        10
                    } else {
                        0
                    },
                "{name}: {pieces}"
            );
        }
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn large_batches_are_not_held() {
    let s = Scratch::new();
    let code = "import numpy as np, pyarrow as pa, pyarrow.feather as f\n\
        n = 1_500_000\n\
        x = np.arange(n)\n\
        t = pa.array(np.char.zfill(x.astype('U'), 40))\n\
        def w(name, column, c='uncompressed'): f.write_feather(pa.table({'x': column}), name, compression=c, chunksize=len(column))\n\
        w('text.feather', t); w('view.feather', t.cast(pa.string_view())); w('zstd.feather', t, 'zstd')\n\
        w('bool.feather', pa.array(np.zeros(90_000_000, bool)))\n\
        w('codes.feather', pa.DictionaryArray.from_arrays(pa.array((np.arange(16_000_000) % 3).astype('i4')), pa.array(['a', 'b', 'c'])))\n\
        w('triples.feather', pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(18_000_000, 'f4')), 3))\n\
        w('lists.feather', pa.ListArray.from_arrays(pa.array((np.arange(5_000_001) // 2 * 7).astype('i4')), pa.array(np.zeros(17_500_000, 'f4'))))\n";
    python(s.path(), code);
    for name in ["text", "view", "bool", "codes", "triples", "lists"] {
        let (from, to) = (at(&s, &format!("{name}.feather")), at(&s, &format!("{name}.npk")));
        let (code, told, peak) = npk_peak(&[
            "convert",
            "-q",
            "-m",
            "8MiB",
            "--strings",
            "offsets",
            "--ragged",
            "offsets",
            &from,
            &to,
        ]);
        assert_eq!((code, told.trim()), (0, ""), "{name}");
        assert!(peak < (8 + 64) << 20, "{name}: {peak}");
        if ["text", "view", "lists"].contains(&name) {
            npk(&["diff", &from, &to]);
        }
    }
    let from = at(&s, "zstd.feather");
    let (code, told, peak) = npk_peak(&[
        "convert",
        "-q",
        "-m",
        "8MiB",
        "--strings",
        "offsets",
        &from,
        &at(&s, "zstd.npk"),
    ]);
    assert_eq!(code, 4, "{told}");
    assert!(
        told.contains(" rows takes ") && told.contains("--memory-limit ") && peak < (8 + 64) << 20,
        "{peak} {told}"
    );
    // What the hint says works.
    let limit = told.split("--memory-limit ").nth(1).unwrap().split_whitespace().next().unwrap();
    npk(&["convert", "-q", "-m", limit, "--strings", "offsets", &from, &at(&s, "zstd.npk")]);
}

#[test]
#[ignore = "asks the real libraries"]
fn what_must_be_held_and_is_too_large_is_refused() {
    let s = Scratch::new();
    let code = "import pyarrow as pa, pyarrow.feather as f\n\
        f.write_feather(pa.table({'x': ['a', 'b' * 5_000_000, 'c']}), 'row.feather', compression='uncompressed')\n\
        f.write_feather(pa.table({'x': pa.array([str(i) for i in range(50_000)]).dictionary_encode()}), 'words.feather')\n";
    python(s.path(), code);
    let source = open(&s.join("row.feather"), 2 << 20).unwrap();
    let e = crate::support::library::rows_of(source.as_ref(), 0)
        .read(0, 0..3, &mut |_| Ok(()))
        .unwrap_err();
    assert!(e.kind() == ErrorKind::Refused && e.message().contains("a row takes 50000"), "{e}");
    read(open(&s.join("row.feather"), 8 << 20).unwrap().as_ref(), 0, 0..3);
    let error = |memory: u64| {
        open(&s.join("words.feather"), memory).unwrap().plan().arrays[0].details.error.clone()
    };
    let e = error(4 << 20).unwrap();
    assert!(
        e.kind() == ErrorKind::Refused
            && e.message().contains("categories of its dictionaries take"),
        "{e}"
    );
    assert!(error(64 << 20).is_none());
}
