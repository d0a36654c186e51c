//! Packs arrays: small ones are compressed whole, on any thread; large ones as a stream, one frame
//! each.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::array::raw::RawEncode;
use crate::error::{Context, Error, Result};
use crate::format::{
    AppendBlocks, Block, BlockRows, EncodeBlocks, InOrder, Sink, Summary, WriteOptions,
};
use crate::formats::numpack::store::{METADATA, SIDE, check_side, metadata, names::Names};
use crate::model::{Buf, Plan};
use crate::sidecar;
use crate::storage::{FileAt, Location, Output};

/// Arrays up to this size are compressed whole.
const WHOLE_BYTES: u64 = 4 << 20;
const HEADER_BYTES: u64 = 13;

#[derive(Clone, Copy)]
pub(super) enum Method {
    None,
    Zstd(i32),
    Zlib(u32),
}

/// How members are packed; at NumPack's own level where nothing else was asked for.
pub(super) fn method(options: &WriteOptions) -> Result<Method> {
    let known = [("zstd", Some(3)), ("zlib", Some(6)), ("none", None)];
    Ok(match options.compression("npkg", &known)?.unwrap_or(("zstd", 3)) {
        ("zstd", level) => Method::Zstd(level),
        ("zlib", level) => Method::Zlib(level as u32),
        _ => Method::None,
    })
}

/// Begins a package.
pub(super) fn create(
    at: &Location,
    plan: &Plan,
    options: &WriteOptions,
    method: Method,
) -> Result<Box<dyn Sink>> {
    let mut names = Names::packed();
    let mut arrays = Vec::with_capacity(plan.arrays.len());
    for meta in &plan.arrays {
        arrays.push(Array {
            name: meta.name.clone(),
            file: names.give(&meta.name),
            bytes: meta.bytes()?,
            rows: meta.rows,
        });
    }
    let out = at.create_file(options.existing, options.sync)?;
    // Sizes are known only behind the bytes: where the output cannot be written twice, a temporary
    // file is.
    let (file, copy) = match out.file() {
        Some(file) => (file, false),
        None => (Arc::new(crate::storage::temporary::file()?), true),
    };
    let package = Pack { file, at: HEADER_BYTES, method, count: 0, over: crc32fast::Hasher::new() };
    let arrays = Arc::new(arrays);
    let encoder = Encoder { method, arrays: arrays.clone() };
    let options = options.clone();
    let output = PackSink { out, copy, package, arrays, next: 0, open: None, options };
    Ok(InOrder::sink(encoder, output))
}

struct Array {
    name: String,
    file: String,
    bytes: Option<u64>,
    rows: Option<u64>,
}

/// The file being written.
struct Pack {
    file: Arc<File>,
    at: u64,
    method: Method,
    count: u32,
    over: crc32fast::Hasher,
}

/// Goes on behind what is written of the package.
type Tail = FileAt<Arc<File>>;

enum Coder {
    None(io::BufWriter<Tail>),
    Zstd(zstd::stream::write::Encoder<'static, io::BufWriter<Tail>>),
    Zlib(flate2::write::ZlibEncoder<io::BufWriter<Tail>>),
}

/// A member written in pieces.
struct Open {
    sizes_at: u64,
    start: u64,
    bytes: u64,
    crc: crc32fast::Hasher,
    coder: Coder,
}

/// What the encoder made of a block.
enum Packed {
    Whole { bytes: u64, crc: u32, stored: Vec<Buf>, compressed: bool },
    Pieces(Vec<Buf>),
}

fn compress(method: Method, pieces: &[Buf], bytes: u64) -> Result<Option<Vec<u8>>> {
    let packed = match method {
        Method::None => return Ok(None),
        Method::Zstd(level) => {
            let mut coder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
            coder.set_pledged_src_size(Some(bytes))?;
            pieces.iter().try_for_each(|p| coder.write_all(p))?;
            coder.finish()?
        }
        Method::Zlib(level) => {
            let mut coder =
                flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(level));
            pieces.iter().try_for_each(|p| coder.write_all(p))?;
            coder.finish()?
        }
    };
    Ok((!packed.is_empty() && (packed.len() as u64) < bytes).then_some(packed))
}

fn whole(method: Method, pieces: Vec<Buf>) -> Result<Packed> {
    let mut crc = crc32fast::Hasher::new();
    pieces.iter().for_each(|p| crc.update(p));
    let bytes = pieces.iter().map(|p| p.len() as u64).sum();
    let crc = crc.finalize();
    Ok(match compress(method, &pieces, bytes)? {
        Some(packed) => {
            Packed::Whole { bytes, crc, stored: vec![Buf::from_vec(packed)], compressed: true }
        }
        None => Packed::Whole { bytes, crc, stored: pieces, compressed: false },
    })
}

impl Pack {
    fn head(&mut self, path: &str) -> Result<u64> {
        let mut head = (path.len() as u32).to_le_bytes().to_vec();
        head.extend(path.as_bytes());
        let sizes_at = self.at + head.len() as u64;
        head.extend([0; 16]);
        self.file.write_all_at(&head, self.at)?;
        self.at = sizes_at + 16;
        self.count += 1;
        Ok(sizes_at)
    }

    fn sizes(&mut self, sizes_at: u64, bytes: u64, compressed: u64, crc: u32) -> Result<()> {
        let mut sizes = [0; 16];
        sizes[..8].copy_from_slice(&bytes.to_le_bytes());
        sizes[8..].copy_from_slice(&compressed.to_le_bytes());
        self.file.write_all_at(&sizes, sizes_at)?;
        self.over.update(&crc.to_le_bytes());
        Ok(())
    }

    fn add(&mut self, path: &str, packed: Packed) -> Result<()> {
        let Packed::Whole { bytes, crc, stored, compressed } = packed else {
            return Err(Error::internal("a piece of a member"));
        };
        let sizes_at = self.head(path)?;
        let start = self.at;
        for piece in &stored {
            self.file.write_all_at(piece, self.at)?;
            self.at += piece.len() as u64;
        }
        self.sizes(sizes_at, bytes, if compressed { self.at - start } else { 0 }, crc)
    }

    fn begin(&mut self, path: &str, bytes: Option<u64>) -> Result<Open> {
        let sizes_at = self.head(path)?;
        let tail = io::BufWriter::with_capacity(
            256 << 10,
            FileAt { file: self.file.clone(), offset: self.at },
        );
        let coder = match self.method {
            Method::None => Coder::None(tail),
            Method::Zstd(level) => {
                let mut coder = zstd::stream::write::Encoder::new(tail, level)?;
                coder.set_pledged_src_size(bytes)?;
                Coder::Zstd(coder)
            }
            Method::Zlib(level) => {
                Coder::Zlib(flate2::write::ZlibEncoder::new(tail, flate2::Compression::new(level)))
            }
        };
        Ok(Open { sizes_at, start: self.at, bytes: 0, crc: crc32fast::Hasher::new(), coder })
    }

    fn end(&mut self, open: Open) -> Result<()> {
        let (tail, compressed) = match open.coder {
            Coder::None(tail) => (tail, false),
            Coder::Zstd(coder) => (coder.finish()?, true),
            Coder::Zlib(coder) => (coder.finish()?, true),
        };
        let tail = tail.into_inner().map_err(|e| Error::from(e.into_error()))?;
        self.at = tail.offset;
        // A compressed size of 0 means "not compressed": no bytes at all are stored as none.
        let compressed = if compressed && open.bytes > 0 { self.at - open.start } else { 0 };
        if open.bytes == 0 {
            self.at = open.start;
        }
        self.sizes(open.sizes_at, open.bytes, compressed, open.crc.finalize())
    }
}

impl Open {
    fn write(&mut self, pieces: &[Buf]) -> Result<()> {
        for piece in pieces {
            self.crc.update(piece);
            self.bytes += piece.len() as u64;
            match &mut self.coder {
                Coder::None(out) => out.write_all(piece)?,
                Coder::Zstd(out) => out.write_all(piece)?,
                Coder::Zlib(out) => out.write_all(piece)?,
            }
        }
        Ok(())
    }
}

struct Encoder {
    method: Method,
    arrays: Arc<Vec<Array>>,
}

impl EncodeBlocks for Encoder {
    type Encoded = Packed;
    fn next_boundary(&self, array: usize, _row: u64) -> u64 {
        match &self.arrays[array] {
            Array { rows: Some(rows), bytes: Some(bytes), .. } if *bytes <= WHOLE_BYTES => *rows,
            _ => u64::MAX,
        }
    }
    fn encode(&self, block: Block) -> Result<Packed> {
        let whole_rows = block.columns.first().and_then(|&(array, _)| self.arrays[array].rows);
        let all = block.first_row == 0 && whole_rows == Some(block.rows);
        let pieces = RawEncode.encode(block)?;
        if all { whole(self.method, pieces) } else { Ok(Packed::Pieces(pieces)) }
    }
}

struct PackSink {
    out: Box<dyn Output>,
    /// Whether the package is written to a temporary file first.
    copy: bool,
    package: Pack,
    arrays: Arc<Vec<Array>>,
    /// The first array not begun yet.
    next: usize,
    open: Option<Open>,
    options: WriteOptions,
}

impl PackSink {
    /// Ends the member at work, and puts empty ones for arrays of which nothing came.
    fn up_to(&mut self, array: usize) -> Result<()> {
        if let Some(open) = self.open.take() {
            self.package.end(open)?;
        }
        while self.next < array {
            let empty = whole(self.package.method, Vec::new())?;
            self.package.add(&self.arrays[self.next].file, empty)?;
            self.next += 1;
        }
        Ok(())
    }
}

impl AppendBlocks for PackSink {
    type Encoded = Packed;
    fn append(&mut self, rows: BlockRows, packed: Packed) -> Result<()> {
        let array = rows.array;
        let arrays = self.arrays.clone();
        let at = &arrays[array];
        let put = || -> Result<()> {
            if array >= self.next {
                self.up_to(array)?;
                self.next = array + 1;
                match packed {
                    Packed::Whole { .. } => return self.package.add(&at.file, packed),
                    Packed::Pieces(pieces) => {
                        let mut open = self.package.begin(&at.file, at.bytes)?;
                        open.write(&pieces)?;
                        self.open = Some(open);
                        return Ok(());
                    }
                }
            }
            match (&mut self.open, packed) {
                (Some(open), Packed::Pieces(pieces)) if array + 1 == self.next => {
                    open.write(&pieces)
                }
                _ => Err(Error::internal("arrays must come one after the other")),
            }
        };
        put().at_array(&at.name)
    }
    fn finish(mut self, end: &Plan) -> Result<Summary> {
        self.up_to(self.arrays.len())?;
        let entries =
            metadata::entries(end.arrays.iter().zip(self.arrays.iter().map(|a| a.file.as_str())))?;
        let side = sidecar::describe(end, self.options.attributes(end), self.options.no_metadata);
        check_side(side.as_deref())?;
        let method = self.package.method;
        for (path, bytes) in [(SIDE, side), (METADATA, Some(metadata::write(&entries)))] {
            if let Some(bytes) = bytes {
                self.package.add(path, whole(method, vec![Buf::from_vec(bytes)])?)?;
            }
        }
        let Pack { file, at, count, over, .. } = self.package;
        file.write_all_at(&over.finalize().to_le_bytes(), at)?;
        let mut head = super::read::MAGIC.to_vec();
        head.extend(2u32.to_le_bytes());
        head.push(!matches!(method, Method::None) as u8);
        head.extend(count.to_le_bytes());
        file.write_all_at(&head, 0)?;
        // An empty compressed stream at the very end may have been longer than what follows it.
        file.set_len(at + 4)?;
        if self.copy {
            let mut from = FileAt { file, offset: 0 };
            io::copy(&mut from, &mut self.out)?;
        }
        self.out.commit()?;
        Ok(Summary { bytes: at + 4, files: 1, notes: Vec::new() })
    }
}
