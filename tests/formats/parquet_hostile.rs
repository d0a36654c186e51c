//! Parquet files made byte by byte: what they announce is not there, or takes more memory than
//! there may be.

use std::ops::Range;
use std::path::Path;

use npk::error::{Error, ErrorKind, Result};
use npk::format::{Order, ReadOptions};
use npk::formats::by_name;
use npk::model::{Chunk, Values};
use npk::storage::Location;

use crate::support::{Scratch, at, npk_peak};

/// A struct in Thrift's compact protocol.
#[derive(Default)]
struct Thrift {
    bytes: Vec<u8>,
    last: i16,
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

impl Thrift {
    fn field(&mut self, id: i16, kind: u8) {
        self.bytes.push(((id - self.last) as u8) << 4 | kind);
        self.last = id;
    }
    fn i32(mut self, id: i16, n: i64) -> Thrift {
        self.field(id, 5);
        varint(zigzag(n), &mut self.bytes);
        self
    }
    fn i64(mut self, id: i16, n: i64) -> Thrift {
        self.field(id, 6);
        varint(zigzag(n), &mut self.bytes);
        self
    }
    fn text(mut self, id: i16, text: &str) -> Thrift {
        self.field(id, 8);
        varint(text.len() as u64, &mut self.bytes);
        self.bytes.extend(text.as_bytes());
        self
    }
    fn inner(mut self, id: i16, inner: Thrift) -> Thrift {
        self.field(id, 12);
        self.bytes.extend(inner.end());
        self
    }
    fn list(mut self, id: i16, items: Vec<Thrift>) -> Thrift {
        self.field(id, 9);
        self.bytes.push((items.len() as u8) << 4 | 12);
        items.into_iter().for_each(|item| self.bytes.extend(item.end()));
        self
    }
    fn end(mut self) -> Vec<u8> {
        self.bytes.push(0);
        self.bytes
    }
}

const INT32: i64 = 1;
const INT64: i64 = 2;
const BYTE_ARRAY: i64 = 6;
const PLAIN: i64 = 0;
const DELTA_BINARY_PACKED: i64 = 5;
const DELTA_LENGTH: i64 = 6;
const DELTA_BYTE_ARRAY: i64 = 7;
const CODES: i64 = 8;
const STREAM_SPLIT: i64 = 9;

/// A page: kind (0 data, 2 dictionary, 3 data version 2), encoding, values, and its bytes as they
/// are stored.
#[derive(Clone)]
struct Page {
    kind: i64,
    encoding: i64,
    values: i64,
    body: Vec<u8>,
    unpacked: Option<i64>,
    crc: Option<i64>,
    nulls: i64,
    def_bytes: i64,
}

fn page(kind: i64, encoding: i64, values: i64, body: &[u8]) -> Page {
    Page {
        kind,
        encoding,
        values,
        body: body.to_vec(),
        unpacked: None,
        crc: None,
        nulls: 0,
        def_bytes: 0,
    }
}

impl Page {
    fn bytes(&self) -> Vec<u8> {
        let size = self.body.len() as i64;
        let mut header =
            Thrift::default().i32(1, self.kind).i32(2, self.unpacked.unwrap_or(size)).i32(3, size);
        if let Some(crc) = self.crc {
            header = header.i32(4, crc);
        }
        let details = Thrift::default().i32(1, self.values);
        header = match self.kind {
            2 => header.inner(7, details.i32(2, self.encoding)),
            3 => header.inner(
                8,
                details
                    .i32(2, self.nulls)
                    .i32(3, self.values)
                    .i32(4, self.encoding)
                    .i32(5, self.def_bytes)
                    .i32(6, 0),
            ),
            _ => header.inner(5, details.i32(2, self.encoding).i32(3, 3).i32(4, 3)),
        };
        [header.end(), self.body.clone()].concat()
    }
}

/// A file with one column `c` in one row group.
struct File {
    physical: i64,
    /// 0 required, 1 optional; 2: lists of required values.
    repetition: i64,
    codec: i64,
    rows: i64,
    group_rows: Option<i64>,
    values: Option<i64>,
    stored: Option<i64>,
    pages: Vec<Page>,
}

fn file(physical: i64, rows: i64, pages: &[Page]) -> File {
    File {
        physical,
        repetition: 0,
        codec: 0,
        rows,
        group_rows: None,
        values: None,
        stored: None,
        pages: pages.to_vec(),
    }
}

impl File {
    fn bytes(&self) -> Vec<u8> {
        let pages: Vec<u8> = self.pages.iter().flat_map(Page::bytes).collect();
        let root = Thrift::default().text(4, "root").i32(5, 1);
        let mut column =
            Thrift::default().i32(1, self.physical).i32(3, self.repetition).text(4, "c");
        if self.physical == BYTE_ARRAY {
            column = column.i32(6, 0); // UTF8
        }
        let stored = self.stored.unwrap_or(pages.len() as i64);
        let mut details = Thrift::default().i32(1, self.physical);
        details.field(2, 9);
        details.bytes.push(0x15);
        details.bytes.push(0);
        details.field(3, 9);
        details.bytes.extend([0x18, 1, b'c']);
        let values = self.values.unwrap_or(self.rows);
        let details =
            details.i32(4, self.codec).i64(5, values).i64(6, stored).i64(7, stored).i64(9, 4);
        let chunk = Thrift::default().i64(2, 4).inner(3, details);
        let group = Thrift::default()
            .list(1, vec![chunk])
            .i64(2, stored)
            .i64(3, self.group_rows.unwrap_or(self.rows));
        let footer = Thrift::default()
            .i32(1, 2)
            .list(2, vec![root, column])
            .i64(3, self.rows)
            .list(4, vec![group])
            .end();
        [b"PAR1".as_slice(), &pages, &footer, &(footer.len() as u32).to_le_bytes(), b"PAR1"]
            .concat()
    }
}

const LIMIT: u64 = 64 << 20;

/// Opens the file and reads rows: the texts or bytes of each row, or what is wrong.
fn read_rows(path: &Path, bytes: &[u8], rows: Range<u64>) -> Result<Vec<Option<Vec<u8>>>> {
    std::fs::write(path, bytes).unwrap();
    let options =
        ReadOptions { resources: npk::format::Resources::new(2, LIMIT), ..ReadOptions::default() };
    let source = by_name("parquet").unwrap().open(&Location::local(path), &options)?;
    let reader = source.select(&[0], Order::Any)?.random().unwrap();
    let mut got = Vec::new();
    reader.read(0, rows, &mut |chunk: Chunk| {
        for row in 0..chunk.rows as usize {
            let value = match &chunk.values {
                Values::Fixed(values) => values[row * values.len() / chunk.rows as usize
                    ..(row + 1) * values.len() / chunk.rows as usize]
                    .to_vec(),
                Values::Var { offsets, values } => {
                    values[offsets[row] as usize..offsets[row + 1] as usize].to_vec()
                }
                Values::Nested(_) => unreachable!(),
            };
            got.push(chunk.is_valid(row).then_some(value));
        }
        Ok(())
    })?;
    Ok(got)
}

fn fails(file: &File) -> Error {
    let scratch = Scratch::new();
    let rows = file.rows as u64;
    read_rows(&scratch.join("x.parquet"), &file.bytes(), 0..rows).expect_err("it was read")
}

#[track_caller]
fn fails_as(kind: ErrorKind, file: &File, words: &str) -> Error {
    let error = fails(file);
    assert!(
        error.kind() == kind && error.message().contains(words),
        "{words}: {:?} {error}",
        error.kind()
    );
    error
}

#[track_caller]
fn corrupt(file: File, words: &str) {
    fails_as(ErrorKind::Corrupt, &file, words);
}

#[track_caller]
fn refused(file: File, words: &str) {
    let error = fails_as(ErrorKind::Refused, &file, words);
    assert!(error.hint_text().unwrap().contains("--memory-limit"), "{error:?}");
}

fn ints(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn texts(values: &[&str]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|v| [&(v.len() as u32).to_le_bytes()[..], v.as_bytes()].concat())
        .collect()
}

/// DELTA_BINARY_PACKED in one block of equal parts of zero bits: `first`, then each `delta` more.
fn delta(count: u64, first: i64, delta: i64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(128, &mut out);
    varint(4, &mut out);
    varint(count, &mut out);
    varint(zigzag(first), &mut out);
    if count > 1 {
        varint(zigzag(delta), &mut out);
        out.extend([0; 4]);
    }
    out
}

/// A run of the hybrid.
fn run(count: u64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(count << 1, &mut out);
    out.extend(value);
    out
}

/// Levels of version 1.
fn levels(packed: &[u8]) -> Vec<u8> {
    [&(packed.len() as u32).to_le_bytes()[..], packed].concat()
}

#[test]
fn sound_files_of_this_kind_are_read() {
    let s = Scratch::new();
    let path = s.join("x.parquet");
    let one = file(INT32, 3, &[page(0, PLAIN, 3, &ints(&[1, 2, 3]))]);
    assert_eq!(read_rows(&path, &one.bytes(), 0..3).unwrap(), [1, 2, 3].map(|v| Some(ints(&[v]))));
    let coded = [
        page(2, PLAIN, 2, &texts(&["x", "yy"])),
        page(0, CODES, 3, &[vec![1], run(2, &[1]), run(1, &[0])].concat()),
    ];
    let coded = file(BYTE_ARRAY, 3, &coded);
    assert_eq!(
        read_rows(&path, &coded.bytes(), 0..3).unwrap(),
        ["yy", "yy", "x"].map(|v| Some(v.into()))
    );
    // Prefixes 0, 1, 2 of what came before, and one letter each.
    let prefixed = [delta(3, 0, 1), delta(3, 1, 0), b"abc".to_vec()].concat();
    let prefixed = file(BYTE_ARRAY, 3, &[page(0, DELTA_BYTE_ARRAY, 3, &prefixed)]);
    assert_eq!(
        read_rows(&path, &prefixed.bytes(), 0..3).unwrap(),
        ["a", "ab", "abc"].map(|v| Some(v.into()))
    );
}

#[test]
fn dictionaries_hold_what_they_announce() {
    let codes = page(0, CODES, 2, &[vec![1], run(2, &[0])].concat());
    let many = i64::from(i32::MAX);
    corrupt(
        file(BYTE_ARRAY, 2, &[page(2, PLAIN, many, &[0; 4]), codes.clone()]),
        "a dictionary of 2147483647 values has 4 bytes",
    );
    corrupt(
        file(INT32, 2, &[page(2, PLAIN, many, &ints(&[7])), codes.clone()]),
        "a dictionary of 2147483647 values has 4 bytes",
    );
    // The crate took zeros for what was missing.
    corrupt(
        file(INT32, 2, &[page(2, PLAIN, 2, &ints(&[7])), codes.clone()]),
        "a dictionary of 2 values has 4 bytes",
    );
    corrupt(
        file(BYTE_ARRAY, 2, &[page(2, PLAIN, 1, &[9, 0, 0, 0, b'x']), codes]),
        "a dictionary of 1 values has 5 bytes",
    );
    let outside = page(0, CODES, 2, &[vec![2], run(2, &[3])].concat());
    corrupt(
        file(INT32, 2, &[page(2, PLAIN, 2, &ints(&[7, 8])), outside.clone()]),
        "code 3 is outside the 2 values",
    );
    corrupt(file(INT32, 2, &[outside]), "there is no dictionary");
    let twice = [
        page(2, PLAIN, 1, &ints(&[7])),
        page(2, PLAIN, 1, &ints(&[8])),
        page(0, CODES, 2, &[1, 4, 0]),
    ];
    corrupt(file(INT32, 2, &twice), "is followed by another one");
}

#[test]
fn pages_hold_the_values_that_they_announce() {
    corrupt(
        file(INT32, 3, &[page(0, PLAIN, 3, &ints(&[1, 2]))]),
        "8 bytes are too few for the 3 values",
    );
    corrupt(
        file(
            BYTE_ARRAY,
            2,
            &[page(0, PLAIN, 2, &[texts(&["a"]), vec![200, 0, 0, 0, b'x']].concat())],
        ),
        "too few for the 2 values",
    );
    corrupt(file(INT32, 3, &[page(0, STREAM_SPLIT, 3, &[0; 8])]), "do not make the 3 values");
    corrupt(file(INT32, 300, &[page(0, CODES, 300, &[0])]), "there is no dictionary");
    let mut broken = page(0, PLAIN, 1, &ints(&[1]));
    broken.crc = Some(1);
    corrupt(file(INT32, 1, &[broken]), "checksum");
    let mut optional =
        file(INT32, 3, &[page(0, PLAIN, 3, &[levels(&run(2, &[1])), ints(&[1, 2, 3])].concat())]);
    optional.repetition = 1;
    corrupt(optional, "definition levels that do not fit");
    // More values by the levels than by the header: the crate divided by zero.
    let mut v2 = page(3, PLAIN, 2, &[run(2, &[1]), texts(&["a", "b"])].concat());
    (v2.nulls, v2.def_bytes) = (2, 2);
    let mut nulls = file(BYTE_ARRAY, 2, &[v2]);
    nulls.repetition = 1;
    corrupt(nulls, "tells of 2 nulls, and has 2 values");
}

/// Where the crate would panic: codes of nothing, without a dictionary; a dictionary of nothing,
/// with bytes behind it.
#[test]
fn pages_of_nulls_need_no_dictionary() {
    let s = Scratch::new();
    let nulls = |kind: i64, body: &[u8]| {
        let mut nulls = page(kind, CODES, 3, &[run(3, &[0]), body.to_vec()].concat());
        (nulls.nulls, nulls.def_bytes) = (3, 2);
        if kind == 0 {
            nulls.body = [levels(&run(3, &[0])), body.to_vec()].concat();
        }
        nulls
    };
    let nothing = page(2, PLAIN, 0, &[1, 2, 3, 4, 5]);
    for physical in [INT32, INT64, BYTE_ARRAY] {
        for kind in [0, 3] {
            for body in [&[][..], &[1], &[1, 6, 0]] {
                let alone = vec![nulls(kind, body)];
                let mut files = vec![alone.clone()];
                if physical == BYTE_ARRAY && !body.is_empty() {
                    files.push([vec![nothing.clone()], alone].concat());
                }
                for pages in files {
                    let file = File { repetition: 1, ..file(physical, 3, &pages) };
                    let read = read_rows(&s.join("x.parquet"), &file.bytes(), 0..3);
                    assert_eq!(
                        read.unwrap(),
                        vec![None; 3],
                        "{physical} {kind} {body:?} {}",
                        pages.len()
                    );
                }
            }
        }
    }
    // What cannot be read stays so, however often the crate asks.
    let mut damaged = page(2, PLAIN, 1, &[0]);
    damaged.unpacked = Some(4);
    corrupt(
        File { codec: 1, ..file(INT32, 2, &[damaged, page(0, CODES, 2, &[1, 4, 0])]) },
        "snappy",
    );
}

#[test]
fn delta_encodings_hold_what_they_announce() {
    let of = |encoding, bytes: &[u8]| file(BYTE_ARRAY, 4, &[page(0, encoding, 4, bytes)]);
    corrupt(of(DELTA_LENGTH, &delta(1 << 62, 0, 0)), "at most 4 are due");
    corrupt(of(DELTA_LENGTH, &[delta(4, 1, -2), vec![b'x'; 9]].concat()), "a length of -");
    corrupt(
        of(DELTA_LENGTH, &[delta(4, 3, 0), vec![b'x'; 9]].concat()),
        "texts of 12 bytes are announced, 9 bytes are there",
    );
    corrupt(of(DELTA_LENGTH, &[delta(3, 3, 0), vec![b'x'; 9]].concat()), "are 3, 4 are due");
    corrupt(of(DELTA_LENGTH, &[1, 0, 4, 0]), "which cannot be");
    // A prefix longer than what came before was taken for all of it.
    let long = [delta(4, 0, 5), delta(4, 1, 0), b"abcd".to_vec()].concat();
    corrupt(of(DELTA_BYTE_ARRAY, &long), "a text has 5 bytes of the one before, which has 1");
    let negative = [delta(4, 0, 0), delta(4, 1, -1), b"abcd".to_vec()].concat();
    corrupt(of(DELTA_BYTE_ARRAY, &negative), "-1 of its own");
    let mut wide = delta(4, 0, 0);
    let end = wide.len();
    wide[end - 4] = 90;
    wide.extend([0; 400]);
    corrupt(file(INT64, 4, &[page(0, DELTA_BINARY_PACKED, 4, &wide)]), "deltas of 90");
    corrupt(
        file(INT64, 4, &[page(0, DELTA_BINARY_PACKED, 4, &delta(2, 0, 0))]),
        "are 2, 4 are due",
    );
}

#[test]
fn places_and_counts_agree() {
    let sound = || file(INT32, 3, &[page(0, PLAIN, 3, &ints(&[1, 2, 3]))]);
    corrupt(File { stored: Some(-1), ..sound() }, "-1 bytes");
    corrupt(File { stored: Some(1 << 40), ..sound() }, "in a file of");
    corrupt(File { group_rows: Some(4), ..sound() }, "says 3 rows, its row groups have 4");
    corrupt(
        File { rows: 4, group_rows: Some(4), values: Some(3), ..sound() },
        "has 4 rows, and 3 values",
    );
    corrupt(File { rows: 4, ..sound() }, "row group");
    corrupt(File { rows: 2, ..sound() }, "has 3 values, 2 of the column's 2 were left");
    corrupt(file(INT32, 1, &[page(0, PLAIN, -1, &ints(&[1]))]), "values");
}

#[test]
fn what_does_not_fit_the_memory_limit_is_refused_with_the_number() {
    let zeros = vec![0u8; 65 << 20];
    let mut large = page(0, PLAIN, 17 << 20, &zstd::bulk::compress(&zeros, 1).unwrap());
    large.unpacked = Some(68 << 20);
    let stored = large.body.len();
    let words =
        format!("a page of {} bytes takes {} bytes of memory", 68 << 20, (68 << 20) + stored);
    refused(File { codec: 6, ..file(INT32, 17 << 20, &[large]) }, &words);
    // A dictionary of texts, which is kept in two forms.
    let text = "x".repeat(40 << 20);
    let dictionary = page(2, PLAIN, 1, &texts(&[&text]));
    refused(
        file(BYTE_ARRAY, 2, &[dictionary, page(0, CODES, 2, &[1, 4, 0])]),
        "a dictionary takes 838",
    );
    // One list of a billion numbers, in a few bytes.
    let rows = [
        levels(&[run(1, &[0]), run(999_999_999, &[1])].concat()),
        levels(&run(1_000_000_000, &[1])),
        vec![1],
        run(1_000_000_000, &[0]),
    ];
    let list = page(0, CODES, 1_000_000_000, &rows.concat());
    let list = File {
        repetition: 2,
        values: Some(1_000_000_000),
        ..file(INT32, 1, &[page(2, PLAIN, 1, &ints(&[5])), list])
    };
    refused(list, "a row takes");
}

/// A few bytes may stand for many rows: that is legal, and read in parts.
#[test]
#[ignore = "asks the real libraries"]
fn runs_are_read_in_parts() {
    let s = Scratch::new();
    let path = s.join("x.parquet");
    let n = 1_000_000_000;
    let null = File {
        repetition: 1,
        ..file(BYTE_ARRAY, n, &[page(0, PLAIN, n, &levels(&run(n as u64, &[0])))])
    };
    assert_eq!(
        read_rows(&path, &null.bytes(), 999_999_990..1_000_000_000).unwrap(),
        vec![None; 10]
    );
    let (code, told, peak) =
        npk_peak(&["inspect", "--tail", "3", "-m", "64MiB", &at(&s, "x.parquet")]);
    assert!(code == 0 && peak < 128 << 20, "{peak} {told}");
    // A text of half a mebibyte, a million times.
    let text = "y".repeat(1 << 19);
    let rows = 1_000_000u64;
    let coded = [
        page(2, PLAIN, 1, &texts(&[&text])),
        page(0, CODES, rows as i64, &[vec![1], run(rows, &[0])].concat()),
    ];
    let many = file(BYTE_ARRAY, rows as i64, &coded);
    assert_eq!(
        read_rows(&path, &many.bytes(), 500_000..500_003).unwrap(),
        vec![Some(text.into_bytes()); 3]
    );
    let options =
        ReadOptions { resources: npk::format::Resources::new(2, LIMIT), ..ReadOptions::default() };
    let source = by_name("parquet").unwrap().open(&Location::local(&path), &options).unwrap();
    let piece = crate::support::library::rows_of(source.as_ref(), 0).piece(0, 7, 8 << 20).unwrap();
    assert!((8..=23).contains(&piece.end) && piece.bytes < 16 << 20, "{piece:?}");
    let (code, told, peak) = npk_peak(&[
        "convert",
        "-m",
        "64MiB",
        "--rows",
        "10:60",
        &at(&s, "x.parquet"),
        &at(&s, "o.csv"),
    ]);
    assert!(code == 0 && peak < 128 << 20, "{peak} {told}");
}
