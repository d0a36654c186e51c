//! Writing: deflated in blocks, or stored by position.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use crate::array::raw::{ArraySpan, RawWriter, fixed_bytes};
use crate::codec::zip::write::{Written, deflate, directory};
use crate::error::{Error, Result, locked};
use crate::format::{
    AppendBlocks, Block, BlockRows, EncodeBlocks, InOrder, Sink, Summary, WriteOptions, WriteRows,
    Writer,
};
use crate::formats::numpy::padded_text::{Columns, NpyArray, PaddedBlocks, PaddedRows};
use crate::model::{Buf, Chunk, Plan};
use crate::storage::{self, Location, Output};

/// Stored data begins at multiples of this, as in an npy file: it can be mapped.
const ALIGN: u64 = 64;
/// Bytes that are packed together: blocks do not know each other's, and so each begins with an
/// empty window.
const BLOCK_BYTES: u64 = 1 << 20;

/// An array on its way.
struct Array {
    header: Vec<u8>,
    row_bytes: u64,
    rows: u64,
}

/// The level of deflate; `None`: stored.
pub(super) fn level(options: &WriteOptions) -> Result<Option<u32>> {
    let known = [("deflate", Some(6)), ("none", None)];
    let (name, level) = options.compression("npz", &known)?.unwrap_or(("deflate", 6));
    Ok((name == "deflate").then_some(level as u32))
}

/// Begins an archive.
pub(super) fn create(
    at: &Location,
    plan: &Plan,
    options: &WriteOptions,
    level: Option<u32>,
) -> Result<Box<dyn Sink>> {
    let mut arrays = Vec::with_capacity(plan.arrays.len());
    let mut members = Vec::with_capacity(plan.arrays.len());
    let mut columns = Vec::with_capacity(plan.arrays.len());
    for meta in &plan.arrays {
        let NpyArray { header, place, padded } =
            NpyArray::new("npz", meta, options.resources.memory_bytes())?;
        columns.push(padded);
        let bytes = header.len() as u64 + place.bytes;
        arrays.push(Array { header, row_bytes: place.row_bytes, rows: meta.rows.unwrap_or(1) });
        members.push(Written {
            name: format!("{}.npy", meta.name),
            method: if level.is_some() { 8 } else { 0 },
            offset: 0,
            crc: 0,
            stored_bytes: if level.is_some() { 0 } else { bytes },
            bytes,
            descriptor: true,
        });
    }
    let out = at.create_file(options.existing, options.sync)?;
    let columns = Arc::new(columns);
    match (level, out.file()) {
        (None, Some(file)) => Stored::begin(out, file, arrays, members, columns),
        _ => {
            let encoder = PaddedBlocks { inner: Pack { arrays, level }, columns };
            let crc = crc32fast::Hasher::new();
            let output = Sequential { out, members, level, at: 0, current: None, crc };
            Ok(InOrder::sink(encoder, output))
        }
    }
}

/// Stored members in a local file, written by position.
struct Stored {
    out: Box<dyn Output>,
    file: Arc<File>,
    arrays: Vec<Array>,
    members: Vec<Written>,
    columns: Columns,
    end: u64,
    writer: Arc<StoredWriter>,
}

impl Stored {
    fn begin(
        out: Box<dyn Output>,
        file: Arc<File>,
        arrays: Vec<Array>,
        mut members: Vec<Written>,
        columns: Columns,
    ) -> Result<Box<dyn Sink>> {
        let mut at = 0u64;
        let mut places = Vec::with_capacity(arrays.len());
        for (array, member) in arrays.iter().zip(&mut members) {
            member.offset = at;
            member.descriptor = false;
            let start = at + member.local(ALIGN).len() as u64;
            let offset = start + array.header.len() as u64;
            file.write_all_at(&array.header, start)?;
            places.push((
                file.clone(),
                ArraySpan {
                    offset,
                    row_bytes: array.row_bytes,
                    bytes: array.rows.saturating_mul(array.row_bytes),
                },
            ));
            at = start
                .checked_add(member.bytes)
                .ok_or_else(|| Error::refused("the arrays are too large in sum"))?;
        }
        storage::set_size(&file, 0, at)?;
        let sums = Mutex::new(vec![Vec::new(); arrays.len()]);
        let writer = Arc::new(StoredWriter { raw: RawWriter { places }, sums });
        Ok(Box::new(Stored { out, file, arrays, members, columns, end: at, writer }))
    }
}

/// Writes rows and keeps their CRCs.
struct StoredWriter {
    raw: RawWriter,
    /// Per array: first row, bytes, CRC.
    sums: Mutex<Vec<Vec<(u64, u64, u32)>>>,
}

impl WriteRows for StoredWriter {
    fn write(&self, chunk: &Chunk) -> Result<()> {
        self.raw.write(chunk)?;
        let values = fixed_bytes(chunk)?;
        let sum = (chunk.first_row, values.len() as u64, crc32fast::hash(values));
        locked(&self.sums)[chunk.array].push(sum);
        Ok(())
    }
}

impl Sink for Stored {
    fn writer(&self) -> Writer {
        let inner = self.writer.clone();
        Writer::Positional(Arc::new(PaddedRows { inner, columns: self.columns.clone() }))
    }
    fn finish(mut self: Box<Self>, _end: &Plan) -> Result<Summary> {
        let mut sums = std::mem::take(&mut *locked(&self.writer.sums));
        for ((array, member), sums) in self.arrays.iter().zip(&mut self.members).zip(&mut sums) {
            let mut crc = crc32fast::Hasher::new();
            crc.update(&array.header);
            sums.sort_unstable();
            let mut bytes = array.header.len() as u64;
            for &(_, len, piece) in sums.iter() {
                crc.combine(&crc32fast::Hasher::new_with_initial_len(piece, len));
                bytes += len;
            }
            if bytes != member.bytes {
                return Err(Error::internal(format!(
                    "{bytes} bytes were written, {} were expected",
                    member.bytes
                ))
                .array(&member.name));
            }
            member.crc = crc.finalize();
            self.file.write_all_at(&member.local(ALIGN), member.offset)?;
        }
        let directory = directory(&self.members, self.end);
        self.file.write_all_at(&directory, self.end)?;
        self.out.commit()?;
        Ok(Summary { bytes: self.end + directory.len() as u64, files: 1, notes: Vec::new() })
    }
}

/// Member after member, as a stream.
struct Sequential {
    out: Box<dyn Output>,
    members: Vec<Written>,
    level: Option<u32>,
    at: u64,
    current: Option<usize>,
    crc: crc32fast::Hasher,
}

struct Pack {
    arrays: Vec<Array>,
    level: Option<u32>,
}

/// A packed block.
struct Packed {
    parts: Vec<Buf>,
    crc: crc32fast::Hasher,
    last: bool,
}

impl EncodeBlocks for Pack {
    type Encoded = Packed;
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        let row_bytes = self.arrays[array].row_bytes;
        if row_bytes == 0 {
            return u64::MAX; // one block, however many rows
        }
        let rows = (BLOCK_BYTES / row_bytes).max(1);
        (row / rows + 1).saturating_mul(rows)
    }
    fn encode(&self, block: Block) -> Result<Packed> {
        let Some((array, chunks)) = block.columns.into_iter().next() else {
            return Err(Error::internal("a block without arrays"));
        };
        let of = &self.arrays[array];
        let last = block.first_row + block.rows >= of.rows;
        let mut parts = Vec::with_capacity(chunks.len() + 1);
        if block.first_row == 0 {
            parts.push(Buf::from_vec(of.header.clone()));
        }
        for chunk in chunks {
            parts.push(fixed_bytes(&chunk)?.clone());
        }
        let mut crc = crc32fast::Hasher::new();
        for part in &parts {
            crc.update(part);
        }
        if let Some(level) = self.level {
            let slices: Vec<&[u8]> = parts.iter().map(|p| p.as_slice()).collect();
            parts = vec![Buf::from_vec(deflate(&slices, level, last)?)];
        }
        Ok(Packed { parts, crc, last })
    }
}

impl AppendBlocks for Sequential {
    type Encoded = Packed;
    fn append(&mut self, rows: BlockRows, packed: Packed) -> Result<()> {
        let array = rows.array;
        let member = &mut self.members[array];
        if self.current != Some(array) {
            self.current = Some(array);
            member.offset = self.at;
            member.stored_bytes = 0;
            let local = member.local(if self.level.is_none() { ALIGN } else { 1 });
            self.out.write_all(&local)?;
            self.at += local.len() as u64;
            self.crc = crc32fast::Hasher::new();
        }
        for part in &packed.parts {
            self.out.write_all(part)?;
            member.stored_bytes += part.len() as u64;
            self.at += part.len() as u64;
        }
        self.crc.combine(&packed.crc);
        if packed.last {
            member.crc = std::mem::take(&mut self.crc).finalize();
            let trailer = member.trailer();
            self.out.write_all(&trailer)?;
            self.at += trailer.len() as u64;
        }
        Ok(())
    }
    fn finish(mut self, _end: &Plan) -> Result<Summary> {
        let directory = directory(&self.members, self.at);
        self.out.write_all(&directory)?;
        self.out.commit()?;
        Ok(Summary { bytes: self.at + directory.len() as u64, files: 1, notes: Vec::new() })
    }
}
