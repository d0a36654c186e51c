//! Writing: deflated in blocks, or stored by position.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use crate::array::raw::{Place, RawWriter};
use crate::codec::npy_header;
use crate::codec::zip::write::{Written, deflate, directory};
use crate::error::{Error, Result};
use crate::format::{Block, Encode, Encoded, Sink, Summary, WriteOptions, WriteRows};
use crate::formats::numpy::padded_text::{Columns, PaddedBlocks, PaddedRows, PaddedText};
use crate::model::{Chunk, Plan, Values};
use crate::storage::{Location, Output};

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
    Ok(match options.compression_among("npz", &["deflate", "none"])? {
        Some(c) if c.name == "none" => None,
        Some(c) => match c.level {
            None => Some(6),
            Some(level @ 0..=9) => Some(level as u32),
            Some(level) => {
                return Err(Error::usage(format!("deflate has no level {level}"))
                    .hint("use a level from 0 to 9"));
            }
        },
        None => Some(6),
    })
}

/// Begins an archive.
pub(super) fn create(at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Box<dyn Sink>> {
    let level = level(options)?;
    let mut arrays = Vec::with_capacity(plan.arrays.len());
    let mut members = Vec::with_capacity(plan.arrays.len());
    let mut columns = Vec::with_capacity(plan.arrays.len());
    for meta in &plan.arrays {
        let unsupported =
            || Error::refused(format!("npz cannot hold {}", meta.type_name())).array(&meta.name);
        let padded = PaddedText::of(meta, options.memory_bytes)?;
        let spelled = padded
            .as_ref()
            .map(PaddedText::spelled)
            .or_else(|| npy_header::spell(meta.dtype, &meta.logical));
        let shape = meta
            .shape()
            .ok_or_else(|| Error::internal("the row count is not known").array(&meta.name))?;
        let header = npy_header::write(&spelled.ok_or_else(unsupported)?, &shape);
        let place = match &padded {
            Some(padded) => padded.place(meta, 0)?,
            None => Place::of(meta, 0)?,
        };
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
            let (arrays, crc) = (Arc::new(arrays), crc32fast::Hasher::new());
            Ok(Box::new(Sequential {
                out,
                arrays,
                members,
                columns,
                level,
                at: 0,
                current: None,
                crc,
            }))
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
                Place {
                    offset,
                    row_bytes: array.row_bytes,
                    bytes: array.rows.saturating_mul(array.row_bytes),
                },
            ));
            at = start
                .checked_add(member.bytes)
                .ok_or_else(|| Error::refused("the arrays are too large in sum"))?;
        }
        file.set_len(at)?;
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
        if let Values::Fixed(values) = &chunk.values {
            let sum = (chunk.first_row, values.len() as u64, crc32fast::hash(values));
            self.sums.lock().unwrap_or_else(|e| e.into_inner())[chunk.array].push(sum);
        }
        Ok(())
    }
}

impl Sink for Stored {
    fn encoder(&self) -> Arc<dyn Encode> {
        Arc::new(PaddedBlocks {
            inner: Arc::new(crate::array::raw::RawEncode),
            columns: self.columns.clone(),
        })
    }
    fn append(&mut self, encoded: Encoded) -> Result<()> {
        let (array, mut row) = (encoded.array, encoded.first_row);
        let bufs = encoded
            .payload
            .downcast::<Vec<crate::model::Buf>>()
            .map_err(|_| Error::internal("an unknown payload"))?;
        for buf in bufs.into_iter() {
            let rows = (buf.len() as u64).checked_div(self.arrays[array].row_bytes).unwrap_or(0);
            self.writer.write(&Chunk::fixed(array, row, rows, buf))?;
            row += rows;
        }
        Ok(())
    }
    fn random(&self) -> Option<Arc<dyn WriteRows>> {
        Some(Arc::new(PaddedRows { inner: self.writer.clone(), columns: self.columns.clone() }))
    }
    fn finish(mut self: Box<Self>, _end: &Plan) -> Result<Summary> {
        let mut sums =
            std::mem::take(&mut *self.writer.sums.lock().unwrap_or_else(|e| e.into_inner()));
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
    arrays: Arc<Vec<Array>>,
    members: Vec<Written>,
    columns: Columns,
    level: Option<u32>,
    at: u64,
    current: Option<usize>,
    crc: crc32fast::Hasher,
}

struct Pack {
    arrays: Arc<Vec<Array>>,
    level: Option<u32>,
}

/// A packed block.
struct Packed {
    parts: Vec<crate::model::Buf>,
    crc: crc32fast::Hasher,
    last: bool,
}

impl Encode for Pack {
    fn cut(&self, array: usize, row: u64) -> u64 {
        let row_bytes = self.arrays[array].row_bytes;
        if row_bytes == 0 {
            return u64::MAX; // one block, however many rows
        }
        let rows = (BLOCK_BYTES / row_bytes).max(1);
        (row / rows + 1).saturating_mul(rows)
    }
    fn encode(&self, block: Block) -> Result<Encoded> {
        let Some((array, chunks)) = block.columns.into_iter().next() else {
            return Err(Error::internal("a block without arrays"));
        };
        let of = &self.arrays[array];
        let last = block.first_row + block.rows >= of.rows;
        let mut parts = Vec::with_capacity(chunks.len() + 1);
        if block.first_row == 0 {
            parts.push(crate::model::Buf::from_vec(of.header.clone()));
        }
        for chunk in chunks {
            parts.push(crate::array::raw::fixed(chunk)?);
        }
        let mut crc = crc32fast::Hasher::new();
        for part in &parts {
            crc.update(part);
        }
        if let Some(level) = self.level {
            let slices: Vec<&[u8]> = parts.iter().map(|p| p.as_slice()).collect();
            parts = vec![crate::model::Buf::from_vec(deflate(&slices, level, last)?)];
        }
        let payload = Box::new(Packed { parts, crc, last });
        Ok(Encoded { first_row: block.first_row, rows: block.rows, array, payload })
    }
}

impl Sink for Sequential {
    fn encoder(&self) -> Arc<dyn Encode> {
        let inner = Arc::new(Pack { arrays: self.arrays.clone(), level: self.level });
        Arc::new(PaddedBlocks { inner, columns: self.columns.clone() })
    }
    fn append(&mut self, encoded: Encoded) -> Result<()> {
        let array = encoded.array;
        let packed = encoded
            .payload
            .downcast::<Packed>()
            .map_err(|_| Error::internal("an unknown payload"))?;
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
    fn finish(mut self: Box<Self>, _end: &Plan) -> Result<Summary> {
        let directory = directory(&self.members, self.at);
        self.out.write_all(&directory)?;
        self.out.commit()?;
        Ok(Summary { bytes: self.at + directory.len() as u64, files: 1, notes: Vec::new() })
    }
}
