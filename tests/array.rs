//! The array engine against a naive model: shapes × grids × orders × pipelines, with missing
//! pieces, fields and byte orders.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use npk::array::element::{Convert, Field, Fill, Padding};
use npk::array::pipeline::Codec;
use npk::array::reader::MapReader;
use npk::array::recent::Recent;
use npk::array::strided::strides;
use npk::array::{
    ArrayMap, CodecPipeline, Element, Grid, PieceLocation, Pieces, block_copy, items,
};
use npk::codec::checksum::Checksum;
use npk::codec::compress::{self, Compressor};
use npk::codec::decompress::{Compression, Wrapper};
use npk::codec::shuffle::shuffle;
use npk::error::{ErrorKind, Result};
use npk::format::ReadRows;
use npk::model::{Dtype, Values};
use npk::storage::{Blob, BlobSlice, MemoryBlob, file_blob};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Pieces in one blob, found by a table.
struct Table {
    blob: Arc<dyn Blob>,
    places: HashMap<Vec<u64>, (u64, u64, u32)>,
    batched: bool,
    /// How often a piece was asked for.
    asked: AtomicUsize,
}

impl Pieces for Table {
    fn locate(&self, at: &[u64]) -> Result<Option<PieceLocation>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let piece = |&(start, len, skipped): &(u64, u64, u32)| PieceLocation {
            slice: BlobSlice { blob: self.blob.clone(), start, len },
            skipped,
        };
        Ok(self.places.get(at).map(piece))
    }
    fn is_batched(&self) -> bool {
        self.batched
    }
}

/// Every index of a shape, in C order.
fn indices(shape: &[u64]) -> Vec<Vec<u64>> {
    shape.iter().fold(vec![vec![]], |all, &n| {
        all.into_iter().flat_map(|index| (0..n).map(move |i| [&index[..], &[i]].concat())).collect()
    })
}

/// The number of an index in C order.
fn flat(index: &[u64], shape: &[u64]) -> usize {
    index.iter().zip(shape).fold(0, |n, (&i, &d)| n * d as usize + i as usize)
}

fn encode(codec: &Codec, bytes: Vec<u8>) -> Vec<u8> {
    match codec {
        Codec::Compressor(compressor) => compressor.encode(&bytes).unwrap().unwrap(),
        Codec::Filter(_) | Codec::With(_) => panic!("not written"),
        Codec::Compression(Compression::Deflate(wrapper)) => {
            compress::deflate(&bytes, *wrapper, 3).unwrap()
        }
        Codec::Compression(Compression::Zstd) => compress::zstd(&bytes, 1).unwrap(),
        Codec::Compression(Compression::Lz4Blocks) => compress::lz4_blocks(&bytes).unwrap(),
        Codec::Compression(other) => panic!("{other:?}"),
        Codec::Checksum { sum, at_start } => {
            let sum = sum.of(&bytes).to_le_bytes();
            if *at_start { [&sum[..], &bytes].concat() } else { [&bytes[..], &sum].concat() }
        }
        Codec::Shuffle(size) => {
            let mut out = vec![0; bytes.len()];
            shuffle(&bytes, *size, &mut out);
            out
        }
        Codec::BitShuffle { .. } => panic!("not written"),
        Codec::Swap(unit) => {
            let whole = bytes.len() / unit * unit;
            let turned = bytes[..whole].chunks(*unit).flat_map(|unit| unit.iter().rev());
            turned.chain(&bytes[whole..]).copied().collect()
        }
        Codec::Transpose { order, shape, item } => {
            let stored: Vec<u64> = order.iter().map(|&d| shape[d]).collect();
            let element = |index: Vec<u64>| {
                let mut back = vec![0; index.len()];
                order.iter().zip(&index).for_each(|(&d, &i)| back[d] = i);
                let at = flat(&back, shape) * item;
                bytes[at..at + item].to_vec()
            };
            indices(&stored).into_iter().flat_map(element).collect()
        }
    }
}

#[derive(Clone, Debug)]
struct Case {
    shape: Vec<u64>,
    item: usize,
    /// 0 whole, 1 Fortran, 2 a strided view, 3 rows, 4 and 5 chunks.
    grid: u8,
    chunk: Vec<u64>,
    codecs: Vec<u8>,
    missing: u8,
    skipped: u8,
    batched: bool,
    seed: u64,
}

/// An array of random bytes, and its map.
struct Built {
    data: Vec<u8>,
    map: ArrayMap,
    table: Arc<Table>,
}

impl Case {
    fn pipeline(&self, piece: &[u64]) -> Vec<Codec> {
        let codec = |&kind: &u8| match kind {
            0 => Codec::Compression(Compression::Deflate(Wrapper::Zlib)),
            1 => Codec::Compression(Compression::Zstd),
            2 => Codec::Compression(Compression::Lz4Blocks),
            3 => Codec::Checksum { sum: Checksum::Fletcher32, at_start: false },
            4 => Codec::Checksum { sum: Checksum::Crc32, at_start: true },
            5 => Codec::Shuffle(self.item),
            6 => Codec::Swap(self.item),
            _ => Codec::Compression(Compression::Deflate(Wrapper::Gzip)),
        };
        let mut all: Vec<Codec> = self.codecs.iter().map(codec).collect();
        if self.seed.is_multiple_of(3) && piece.len() > 1 {
            let mut order: Vec<usize> = (0..piece.len()).collect();
            order.rotate_left(1 + (self.seed / 3) as usize % (piece.len() - 1));
            all.insert(0, Codec::Transpose { order, shape: piece.to_vec(), item: self.item });
        }
        all
    }

    fn build(&self) -> Built {
        let mut state = self.seed | 1;
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        let (shape, item) = (&self.shape, self.item);
        let total = shape.iter().product::<u64>() as usize;
        let mut data: Vec<u8> = (0..total * item).map(|_| random() & 0x1F).collect();
        let fill: Vec<u8> = (0..item).map(|_| random()).collect();
        let mut bytes = vec![9; 5];
        let mut places = HashMap::new();
        let chunk: Vec<u64> = self.chunk.iter().zip(shape).map(|(&c, _)| c).collect();
        let (mut grid, mut codecs) = (Grid::Whole, Vec::new());
        match self.grid {
            0 | 3 => {
                let rows = shape.first().copied().unwrap_or(1);
                let mut ends: Vec<u64> =
                    (1..=rows).filter(|r| (self.seed >> (r % 60)) & 1 == 1 || *r == rows).collect();
                if self.grid == 0 || shape.is_empty() {
                    ends = vec![rows];
                } else {
                    grid = Grid::Rows(ends.clone());
                }
                let row = total.checked_div(rows as usize).unwrap_or(0) * item;
                let mut first = 0;
                for (k, &end) in ends.iter().enumerate() {
                    let part = &data[first as usize * row..end as usize * row];
                    let mut at = vec![0; shape.len()];
                    at.iter_mut().take(1).for_each(|a| *a = k as u64);
                    places.insert(at, (bytes.len() as u64, part.len() as u64, 0));
                    bytes.extend(part);
                    bytes.push(1);
                    first = end;
                }
            }
            1 | 2 => {
                // Elements at strides; of a view the last dimension repeats the same elements.
                let mut steps = strides(shape, item as u64, true).unwrap();
                if let Some(last) = steps.last_mut().filter(|_| self.grid == 2) {
                    *last = 0;
                }
                let start = bytes.len();
                for index in indices(shape) {
                    let at = start
                        + index.iter().zip(&steps).map(|(&i, &s)| (i * s) as usize).sum::<usize>();
                    bytes.resize(bytes.len().max(at + item), 0);
                    let from = flat(&index, shape) * item;
                    bytes[at..at + item].copy_from_slice(&data[from..from + item]);
                }
                for index in indices(shape) {
                    let at = start
                        + index.iter().zip(&steps).map(|(&i, &s)| (i * s) as usize).sum::<usize>();
                    let to = flat(&index, shape) * item;
                    data[to..to + item].copy_from_slice(&bytes[at..at + item]);
                }
                places
                    .insert(vec![0; shape.len()], (start as u64, (bytes.len() - start) as u64, 0));
                grid = Grid::Strided(steps);
            }
            _ => {
                codecs = self.pipeline(&chunk);
                let counts: Vec<u64> =
                    shape.iter().zip(&chunk).map(|(d, c)| d.div_ceil(*c)).collect();
                for (n, at) in indices(&counts).into_iter().enumerate() {
                    let is_missing = self.missing > 0 && (n as u64 + self.seed).is_multiple_of(4);
                    let mut piece = Vec::new();
                    for inner in indices(&chunk) {
                        let index: Vec<u64> = at
                            .iter()
                            .zip(&chunk)
                            .zip(&inner)
                            .map(|((a, c), i)| a * c + i)
                            .collect();
                        let is_inside = index.iter().zip(shape).all(|(i, d)| i < d);
                        let place = flat(&index, shape) * item;
                        match is_inside {
                            true if is_missing => data[place..place + item].copy_from_slice(&fill),
                            true => piece.extend_from_slice(&data[place..place + item]),
                            false => piece.extend(std::iter::repeat_n(0xEE, item)),
                        }
                    }
                    if is_missing {
                        continue;
                    }
                    let mut skipped = 0;
                    for (i, codec) in codecs.iter().enumerate() {
                        if self.skipped > 0 && (n + i) % 5 == 1 {
                            skipped |= 1 << i;
                        } else {
                            piece = encode(codec, piece);
                        }
                    }
                    places.insert(at, (bytes.len() as u64, piece.len() as u64, skipped));
                    bytes.extend(piece);
                }
                grid = Grid::Chunks(chunk);
            }
        }
        let table = Arc::new(Table {
            blob: Arc::new(MemoryBlob(bytes)),
            places,
            batched: self.batched,
            asked: AtomicUsize::new(0),
        });
        let map = ArrayMap {
            shape: shape.clone(),
            grid,
            pieces: table.clone(),
            codecs: CodecPipeline::new(codecs),
            element: Element { bytes: item, field: None, convert: Convert::Nothing },
            fill,
        };
        Built { data, map, table }
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let shape = prop::collection::vec(0u64..7, 0..4);
    let chunk = prop::collection::vec(1u64..5, 4);
    let codecs = prop::collection::vec(0u8..8, 0..4);
    let item = prop::sample::select(vec![1usize, 2, 4, 8, 3, 16]);
    (shape, item, 0u8..6, chunk, codecs, 0u8..2, 0u8..2, any::<bool>(), any::<u64>()).prop_map(
        |(shape, item, grid, chunk, codecs, missing, skipped, batched, seed)| Case {
            chunk: chunk[..shape.len()].to_vec(),
            shape,
            item,
            grid,
            codecs,
            missing,
            skipped,
            batched,
            seed,
        },
    )
}

/// Reads rows, which must come in order.
fn rows(reader: &dyn ReadRows, array: usize, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
    let (mut all, mut next) = (Vec::new(), range.start);
    reader.read(array, range.clone(), &mut |chunk| {
        assert_eq!(chunk.first_row, next);
        next += chunk.rows;
        match &chunk.values {
            Values::Fixed(bytes) => all.extend_from_slice(bytes),
            Values::Var { .. } => panic!("text"),
            Values::Nested(_) => unreachable!(),
        }
        Ok(())
    })?;
    assert_eq!(next, range.end);
    Ok(all)
}

#[test]
fn any_rows_of_any_map() {
    let config = Config { cases: 600, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&cases(), |case| {
            let Built { data, map, .. } = case.build();
            let total = map.rows();
            let row = data.len().checked_div(total as usize).unwrap_or(0);
            let reader = MapReader::new(vec![Some(map)], 1 << 20);
            prop_assert_eq!(&rows(&reader, 0, 0..total).unwrap(), &data);
            if case.shape.is_empty() {
                return Ok(());
            }
            for first in 0..total {
                let end = (first + 1 + case.seed % 3).min(total);
                let wanted = &data[first as usize * row..end as usize * row];
                prop_assert_eq!(&rows(&reader, 0, first..end).unwrap()[..], wanted);
                prop_assert_eq!(&reader.packed(0, first..end).unwrap()[..], wanted);
                let cut = reader.next_boundary(0, first);
                prop_assert!(cut > first);
            }
            // PieceLocation by piece, as the pipe does it.
            let (mut at, mut all) = (0, Vec::new());
            while at < total {
                let end = reader.next_boundary(0, at).min(total);
                all.extend(rows(&reader, 0, at..end).unwrap());
                at = end;
            }
            prop_assert_eq!(&all, &data);
            Ok(())
        })
        .unwrap();
}

/// The fields of records, in every grid, with their byte orders.
#[test]
fn fields_of_records() {
    let config = Config { cases: 150, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&cases(), |case| {
            let case = Case { item: 16, ..case };
            let Built { data, map, .. } = case.build();
            let field = |offset, item, dims: &[(u64, usize)]| {
                Some(Field { offset, item, dims: dims.to_vec() })
            };
            let elements = [
                Element { bytes: 16, field: field(3, 4, &[]), convert: Convert::Swap(4) },
                Element {
                    bytes: 16,
                    field: Some(Field::dense(4, 2, &[3])),
                    convert: Convert::Nothing,
                },
                // Two items with a gap between them.
                Element { bytes: 16, field: field(1, 1, &[(2, 5)]), convert: Convert::Nothing },
            ];
            let maps: Vec<_> = elements
                .iter()
                .map(|element| Some(ArrayMap { element: element.clone(), ..map.clone() }))
                .collect();
            let reader = MapReader::new(maps, 1 << 20);
            let take: [&dyn Fn(&[u8]) -> Vec<u8>; 3] =
                [&|r| r[3..7].iter().rev().copied().collect(), &|r| r[4..10].to_vec(), &|r| {
                    vec![r[1], r[6]]
                }];
            for (array, take) in take.iter().enumerate() {
                let wanted: Vec<u8> = data.chunks(16).flat_map(take).collect();
                let total =
                    if case.shape.is_empty() { elements[array].scalar_rows() } else { map.rows() };
                prop_assert_eq!(&rows(&reader, array, 0..total).unwrap(), &wanted);
            }
            Ok(())
        })
        .unwrap();
}

fn wide_case(grid: u8, codecs: Vec<u8>, chunk: &[u64]) -> Case {
    let shape = vec![700, 600];
    Case {
        shape,
        item: 4,
        grid,
        chunk: chunk.to_vec(),
        codecs,
        missing: 1,
        skipped: 0,
        batched: false,
        seed: 4,
    }
}

/// Arrays whose rows, or rows of pieces, do not fit into the memory: by a temporary file, each
/// piece decoded once, on any number of threads.
#[test]
fn wide_arrays_are_copied_once() {
    let cases = [
        (wide_case(4, vec![1], &[600, 50]), 14),
        (Case { batched: true, ..wide_case(4, vec![1], &[600, 50]) }, 14),
        (Case { shape: vec![200, 60_000], item: 1, ..wide_case(1, vec![], &[]) }, 1),
    ];
    for (case, pieces) in cases {
        let Built { data, map, table } = case.build();
        let (total, row) = (map.rows(), data.len() / map.rows() as usize);
        let reader = MapReader::new(vec![Some(map)], 1 << 20);
        let before = table.asked.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (reader, data) = (&reader, &data);
                scope.spawn(move || {
                    for first in (thread..total).step_by(40) {
                        let end = (first + 9).min(total);
                        assert!(
                            rows(reader, 0, first..end).unwrap()
                                == data[first as usize * row..end as usize * row]
                        );
                    }
                });
            }
        });
        let asked = table.asked.load(Ordering::Relaxed) - before;
        assert!(asked <= 2 * pieces, "{asked} reads of {pieces} pieces");
        assert!(rows(&reader, 0, 0..total).unwrap() == data);
    }
}

/// A piece that is wanted part by part is decoded once, whoever asks.
#[test]
fn parts_of_a_piece() {
    let case = Case { shape: vec![1000, 3], chunk: vec![1000, 3], ..wide_case(4, vec![0, 3], &[]) };
    let Built { data, map, table } = Case { missing: 0, seed: 5, ..case }.build();
    let reader = MapReader::new(vec![Some(map)], 64 << 20);
    std::thread::scope(|scope| {
        for first in 0..50u64 {
            let (reader, data) = (&reader, &data);
            scope.spawn(move || {
                let wanted = &data[first as usize * 240..first as usize * 240 + 240];
                assert!(rows(reader, 0, 20 * first..20 * first + 20).unwrap() == wanted);
            });
        }
    });
    assert_eq!(table.asked.load(Ordering::Relaxed), 1);
}

#[test]
fn text_of_fixed_widths() {
    let read = |bytes: &[u8], width: usize, padding: Padding| -> Result<Vec<String>> {
        let element = Element { bytes: width, field: None, convert: Convert::Padded(padding) };
        let rows = (bytes.len() / width) as u64;
        let map = ArrayMap::raw(&[rows], element, BlobSlice::memory(bytes.to_vec()));
        let mut all = Vec::new();
        MapReader::new(vec![Some(map)], 1 << 20).read(0, 0..rows, &mut |chunk| {
            all.extend(
                (0..chunk.rows as usize)
                    .map(|r| String::from_utf8(chunk.text(r).to_vec()).unwrap()),
            );
            Ok(())
        })?;
        Ok(all)
    };
    let utf32 = |big: bool| {
        "aé\0\0ü\0".chars().flat_map(move |c| {
            if big { (c as u32).to_be_bytes() } else { (c as u32).to_le_bytes() }
        })
    };
    for big in [false, true] {
        let bytes: Vec<u8> = utf32(big).collect();
        assert_eq!(read(&bytes, 12, Padding::Utf32 { big }).unwrap(), ["aé", "\0ü"]);
    }
    assert_eq!(read(b"a\0b\0\0\0", 3, Padding::Bytes(Fill::Zeros)).unwrap(), ["a\0b", ""]);
    assert_eq!(read(b"a\0b\0\0\0", 3, Padding::Text(Fill::AfterZero)).unwrap(), ["a", ""]);
    assert_eq!(read(b"a\0bc\0\0", 3, Padding::Text(Fill::Zeros)).unwrap(), ["a\0b", "c"]);
    assert_eq!(read(b"a b c    ", 3, Padding::Text(Fill::Blanks)).unwrap(), ["a b", " c", ""]);
    assert_eq!(
        read(&[0, 0, 0, 1, 0, 0x11, 0, 0], 4, Padding::Utf32 { big: false }).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    assert_eq!(
        read(b"\xff\xfe", 2, Padding::Text(Fill::Zeros)).unwrap_err().kind(),
        ErrorKind::Refused
    );
}

/// What lies ready in a file is told for the kernel; nothing else is.
#[test]
fn extents() {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &[7; 100]).unwrap();
    let blob = file_blob(file).unwrap();
    let slice = BlobSlice { blob: blob.clone(), start: 10, len: 48 };
    let raw = ArrayMap::raw(&[6, 2], Element::plain(Dtype::F32), slice);
    let of = |map: ArrayMap| MapReader::new(vec![Some(map)], 1 << 20).extents(0);
    let found = of(raw.clone()).unwrap();
    assert_eq!((found[0].offset, found[0].len), (10, 48));
    let part = |k: &u64| (vec![*k, 0], (10 + 16 * k, 16, 0));
    let table = |places| {
        Arc::new(Table { blob: blob.clone(), places, batched: false, asked: AtomicUsize::new(0) })
    };
    let chunks = ArrayMap {
        grid: Grid::Chunks(vec![2, 2]),
        pieces: table([0, 1, 2].iter().map(part).collect()),
        ..raw.clone()
    };
    assert_eq!(
        of(chunks.clone()).unwrap().iter().map(|e| e.offset).collect::<Vec<_>>(),
        [10, 26, 42]
    );
    for other in [
        ArrayMap {
            element: Element { convert: Convert::Swap(4), ..raw.element.clone() },
            ..raw.clone()
        },
        ArrayMap {
            element: Element { field: Some(Field::dense(0, 2, &[])), ..raw.element.clone() },
            ..raw.clone()
        },
        ArrayMap { codecs: CodecPipeline::new(vec![Codec::Swap(4)]), ..raw.clone() },
        ArrayMap { grid: Grid::Strided(strides(&[6, 2], 4, true).unwrap()), ..raw.clone() },
        ArrayMap { grid: Grid::Chunks(vec![2, 1]), ..chunks.clone() },
        ArrayMap { pieces: table([0, 2].iter().map(part).collect()), ..chunks.clone() },
        ArrayMap { pieces: Arc::new(BlobSlice::memory(vec![0; 48])), ..raw.clone() },
    ] {
        assert!(of(other).is_none());
    }
}

/// Pieces that do not fit are refused with the bytes that they need; views without end, too.
#[test]
fn limits() {
    let Built { map, .. } = wide_case(4, vec![1], &[600, 50]).build();
    assert!(map.check_memory(1 << 20).is_ok());
    let error = map.check_memory(100_000).unwrap_err();
    assert!(error.kind() == ErrorKind::Refused && error.message().contains("120000"), "{error}");
    let shape = [3, 1 << 40];
    let view = ArrayMap {
        grid: Grid::Strided(vec![4, 0]),
        ..ArrayMap::raw(&shape, Element::plain(Dtype::F32), BlobSlice::memory(vec![0; 12]))
    };
    let reader = MapReader::new(vec![Some(view)], 1 << 20);
    assert_eq!(rows(&reader, 0, 0..1).unwrap_err().kind(), ErrorKind::Refused);
}

/// What a pipeline encodes it decodes; compressions that do not help are left out where they may
/// be.
#[test]
fn pipelines_in_both_directions() {
    let numbers: Vec<u8> = (0..600u32).flat_map(|n| (n * n).to_be_bytes()).collect();
    let mut state = 1u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(2400)
    .collect();
    for compressor in [
        Compressor::Deflate(Wrapper::Zlib, 4),
        Compressor::Deflate(Wrapper::Gzip, 1),
        Compressor::Zstd(1),
        Compressor::Lz4Blocks,
        Compressor::Lzf,
        Compressor::Blosc { item_bytes: 4, level: 5 },
    ] {
        let codecs = CodecPipeline::new(vec![
            Codec::Swap(4),
            Codec::Shuffle(4),
            Codec::Compressor(compressor),
            Codec::Checksum { sum: Checksum::Fletcher32, at_start: false },
        ]);
        for (bytes, helps) in [(&numbers, true), (&noise, false)] {
            let (encoded, skipped) = codecs.encode(bytes.into(), true).unwrap();
            assert_eq!(skipped, if helps { 0 } else { 0b100 }, "{compressor:?}");
            assert_eq!(encoded.len() < bytes.len(), helps, "{compressor:?}");
            assert!(&codecs.decode(encoded.into_owned(), skipped, bytes.len()).unwrap() == bytes);
        }
        if compressor != Compressor::Lzf {
            let (encoded, skipped) = codecs.encode((&noise).into(), false).unwrap();
            assert_eq!(skipped, 0);
            assert!(codecs.decode(encoded.into_owned(), 0, noise.len()).unwrap() == noise);
        }
    }
}

/// Items of any length in every grid of pieces, in other orders, with missing pieces.
#[test]
fn items_of_any_length() {
    let shape = [7u64, 5, 2];
    let text = |index: &[u64]| "é".repeat(flat(index, &shape) % 9).into_bytes();
    for (n, chunk) in [[7u64, 5, 2], [3, 5, 2], [2, 2, 1], [4, 3, 2]].into_iter().enumerate() {
        for order in [None, Some(vec![2, 1, 0]), Some(vec![1, 2, 0])] {
            let counts: Vec<u64> = shape.iter().zip(&chunk).map(|(d, c)| d.div_ceil(*c)).collect();
            let (mut bytes, mut places, mut missing) = (Vec::new(), HashMap::new(), Vec::new());
            for (k, at) in indices(&counts).into_iter().enumerate() {
                if (k + n) % 3 == 2 {
                    missing.push(at);
                    continue;
                }
                let order = order.clone().unwrap_or_else(|| vec![0, 1, 2]);
                let stored: Vec<u64> = order.iter().map(|&d| chunk[d]).collect();
                let items: Vec<Vec<u8>> = indices(&stored)
                    .into_iter()
                    .map(|i| {
                        let mut index = vec![0; 3];
                        order.iter().zip(i).for_each(|(&d, i)| index[d] = at[d] * chunk[d] + i);
                        text(&index)
                    })
                    .collect();
                let refs: Vec<&[u8]> = items.iter().map(Vec::as_slice).collect();
                let piece = items::encode(refs.iter().copied(), refs.len() as u64).unwrap();
                let piece = compress::zstd(&piece, 1).unwrap();
                places.insert(at, (bytes.len() as u64, piece.len() as u64, 0));
                bytes.extend(piece);
            }
            let transpose =
                order.map(|order| Codec::Transpose { order, shape: chunk.to_vec(), item: 1 });
            let codecs = transpose.into_iter().chain([Codec::Compression(Compression::Zstd)]);
            let table = Table {
                blob: Arc::new(MemoryBlob(bytes)),
                places,
                batched: n % 2 == 1,
                asked: AtomicUsize::new(0),
            };
            let map = ArrayMap {
                shape: shape.to_vec(),
                grid: Grid::Chunks(chunk.to_vec()),
                pieces: Arc::new(table),
                codecs: CodecPipeline::new(codecs.collect()),
                element: Element::items_of_any_length(),
                fill: b"none".to_vec(),
            };
            let is_missing =
                |i: &[u64]| missing.contains(&i.iter().zip(&chunk).map(|(i, c)| i / c).collect());
            let wanted: Vec<Vec<u8>> = indices(&shape)
                .into_iter()
                .map(|i| if is_missing(&i) { b"none".to_vec() } else { text(&i) })
                .collect();
            let reader = MapReader::new(vec![Some(map)], 1 << 20);
            for (first, end) in [(0, 7), (0, 1), (2, 6), (3, 4), (6, 7)] {
                let mut got = Vec::new();
                let mut take = |chunk: npk::model::Chunk| {
                    let Values::Var { offsets, values } = &chunk.values else { panic!() };
                    got.extend(
                        offsets.windows(2).map(|w| values[w[0] as usize..w[1] as usize].to_vec()),
                    );
                    Ok(())
                };
                reader.read(0, first..end, &mut take).unwrap();
                assert_eq!(got, wanted[first as usize * 10..end as usize * 10]);
            }
        }
    }
}

/// Missing items whose text is long are not made, however many there are.
#[test]
fn missing_items_are_bounded() {
    for (shape, chunk) in [(vec![100_000], vec![100_000]), (vec![100, 1000], vec![50, 10])] {
        let map = ArrayMap {
            shape,
            grid: Grid::Chunks(chunk),
            pieces: Arc::new(Table {
                blob: Arc::new(MemoryBlob(Vec::new())),
                places: HashMap::new(),
                batched: false,
                asked: AtomicUsize::new(0),
            }),
            codecs: CodecPipeline::none(),
            element: Element::items_of_any_length(),
            fill: vec![b'x'; 100],
        };
        let error =
            MapReader::new(vec![Some(map)], 1 << 20).read(0, 0..50, &mut |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    }
}

/// Blocks are cut into pieces of any shape; what reaches past their end is filled.
#[test]
fn blocks_are_cut_into_pieces() {
    for shape in [&[7u64, 5][..], &[4, 6], &[6], &[], &[3, 0]] {
        for piece in [&[3u64, 2][..], &[2, 5], &[4, 6], &[9, 9]] {
            let piece = &piece[..shape.len()];
            let data: Vec<u8> = (0..2 * shape.iter().product::<u64>()).map(|n| n as u8).collect();
            let counts: Vec<u64> = shape.iter().zip(piece).map(|(n, p)| n.div_ceil(*p)).collect();
            let mut places = indices(&counts).into_iter();
            block_copy::split(&data, shape, piece, 2, 0xEE, |at, bytes| {
                assert_eq!(Some(at.to_vec()), places.next());
                let wanted: Vec<u8> = indices(piece)
                    .into_iter()
                    .flat_map(|i| {
                        let index: Vec<u64> =
                            i.iter().zip(at).zip(piece).map(|((i, a), p)| a * p + i).collect();
                        let is_inside = index.iter().zip(shape).all(|(i, n)| i < n);
                        let from = 2 * flat(&index, shape);
                        if is_inside { [data[from], data[from + 1]] } else { [0xEE; 2] }
                    })
                    .collect();
                assert_eq!(bytes, wanted);
                Ok::<(), ()>(())
            })
            .unwrap();
            assert_eq!(places.next(), None);
        }
    }
}

/// What is kept is bounded by what it really takes.
#[test]
fn recent_values() {
    let mut recent = Recent::new(10);
    (0..5).for_each(|key| drop(recent.insert(key, key, 2)));
    assert!((0..5).all(|key| recent.get(&key) == Some(key)));
    recent.resize(&1, 7);
    assert_eq!((0..5).filter_map(|key| recent.get(&key)).collect::<Vec<_>>(), [1, 4]);
    // Larger than all room: alone.
    recent.insert(9, 9, 100);
    assert_eq!((0..10).filter_map(|key| recent.get(&key)).collect::<Vec<_>>(), [9]);
    recent.insert(8, 8, 1);
    recent.resize(&8, 1000);
    assert_eq!((0..10).filter_map(|key| recent.get(&key)).collect::<Vec<_>>(), [8]);
}
