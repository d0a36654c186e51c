//! Writing: the library makes groups, datasets and attributes; chunks are compressed on worker
//! threads and handed to it as they are, and bytes in one piece go straight to their place in the
//! file.

use std::collections::HashSet;
use std::ffi::{CString, c_char, c_void};
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::create::{DatasetSlot, make_dataset, make_groups, new_file, writing};
use super::driver::{self, Outcome, Purpose, Ticket};
use super::encode::{EncodedBlock, EncodedChunk, Encoder};
use super::ffi::{self, H5F_scope_t};
use super::layout::{DatasetLayout, StorageLayout};
use super::library::{self, Id, Library};
use super::{scales, write_attributes};
use crate::error::{Error, Result};
use crate::format::{
    AppendBlocks, BlockRows, Extent, InOrder, Sink, Summary, WriteOptions, WriteRows, Writer,
};
use crate::model::{Chunk, Plan, Values};
use crate::sidecar::{self, Marks};
use crate::storage::{Location, Output};

struct Hdf5Sink {
    // In this order they are dropped: the file is closed before its output goes.
    open: Option<(usize, Id)>,
    file: Option<Id>,
    _ticket: Ticket,
    /// Whether every write went well, those too that the library does not tell of.
    outcome: Arc<Outcome>,
    /// Where the library writes to; a temporary file where the output is not a local file.
    local: Arc<std::fs::File>,
    spool: Option<tempfile::NamedTempFile>,
    out: Box<dyn Output>,
    layouts: Arc<Vec<DatasetLayout>>,
    slots: Arc<Vec<DatasetSlot>>,
    scales: scales::Scales,
    notes: Vec<String>,
}

/// Begins a file.
pub(super) fn create(at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Box<dyn Sink>> {
    let out = at.create_file(options.existing, options.sync)?;
    let (local, spool, path): (_, _, PathBuf) = match (out.file(), out.path()) {
        (Some(file), Some(path)) => (file, None, path.to_path_buf()),
        _ => {
            let spool = tempfile::NamedTempFile::new().map_err(crate::storage::temporary::error)?;
            let path = spool.path().to_path_buf();
            (Arc::new(spool.reopen()?), Some(spool), path)
        }
    };
    let lib = &library::lock();
    let outcome = Arc::new(Outcome::default());
    let ticket = Ticket::new(Purpose::Writing(outcome.clone()));
    let failed = |e: Error| outcome.error().unwrap_or_else(|| writing(e));
    let file = new_file(lib, &driver::c_path(&path)?, &ticket).map_err(failed)?;
    let scales = scales::plan(plan, options, is_netcdf(at, plan));
    let (mut layouts, mut slots, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    let mut groups: HashSet<String> = HashSet::new();
    let marks = Marks::of(plan);
    for (number, meta) in plan.arrays.iter().enumerate() {
        if let Some(at) = meta.name.rfind('/') {
            make_groups(lib, &file, &meta.name[..at], &mut groups).map_err(failed)?;
        }
        let (layout, slot, data) =
            make_dataset(lib, &file, meta, options).map_err(|e| failed(e).array(&meta.name))?;
        let scaled = scales.arrays.iter().any(|s| s.array == number);
        let mut attributes = marks.attributes(meta, options.no_metadata);
        if !scales.bare.is_empty() {
            attributes.retain(|name, _| !scales::NUMBERED.contains(&name.as_str()));
        }
        write_attributes::fill_type(&mut attributes, meta);
        write_attributes::all(lib, &data, &attributes, &meta.name, scaled, &mut notes)?;
        layouts.push(layout);
        slots.push(slot);
    }
    if !options.no_metadata {
        write_groups(lib, &file, plan, &mut groups, &mut notes)?;
    }
    let mut attributes = options.attributes(plan);
    sidecar::mark_tables(plan, options.no_metadata, &mut attributes);
    write_attributes::all(lib, &file, &attributes, "the root group", false, &mut notes)?;
    outcome.error().map_or(Ok(()), Err)?;
    let sink = Hdf5Sink {
        open: None,
        file: Some(file),
        _ticket: ticket,
        outcome: outcome.clone(),
        local,
        spool,
        out,
        layouts: Arc::new(layouts),
        slots: Arc::new(slots),
        scales,
        notes,
    };
    let is_placed = |(layout, slot): (&DatasetLayout, &DatasetSlot)| {
        matches!(layout.storage, StorageLayout::Contiguous) && !slot.grows
    };
    if sink.layouts.iter().zip(sink.slots.iter()).all(is_placed) {
        return Ok(Box::new(Contiguous(sink)));
    }
    let encoder =
        Encoder { layouts: sink.layouts.clone(), memory_bytes: options.resources.memory_bytes() };
    Ok(InOrder::sink(encoder, sink))
}

/// Makes the groups of a plan, and writes their attributes.
fn write_groups(
    lib: &Library,
    file: &Id,
    plan: &Plan,
    made: &mut HashSet<String>,
    notes: &mut Vec<String>,
) -> Result<()> {
    for (path, attributes) in &plan.groups {
        let is_clean = !path.is_empty()
            && !path.contains('\0')
            && path.split('/').all(|p| !p.is_empty() && p != "." && p != "..");
        // A group that other choices turned into an array, or that cannot be: its attributes have
        // no place.
        if !is_clean || plan.position(path).is_some() || make_groups(lib, file, path, made).is_err()
        {
            continue;
        }
        let name = library::c_name(&format!("/{path}"))?;
        let group = lib.open(file, &name)?;
        write_attributes::all(lib, &group, attributes, path, false, notes)?;
    }
    Ok(())
}

/// Whether the output is to be netCDF: by its name, or as its source was.
fn is_netcdf(at: &Location, plan: &Plan) -> bool {
    let name = at.file_name().to_ascii_lowercase();
    name.ends_with(".nc") || name.ends_with(".nc4") || plan.attributes.contains_key("_NCProperties")
}

impl Hdf5Sink {
    /// The dataset of an array, kept open while the same one is written.
    fn data(&mut self, lib: &Library, array: usize) -> Result<Id> {
        if let Some((open, id)) = self.open.take() {
            if open == array {
                return Ok(id);
            }
            // Chunks of text are kept back until here.
            id.close("a dataset cannot be written").map_err(writing)?;
        }
        let Some(file) = &self.file else { return Err(Error::internal("the file is closed")) };
        lib.open(file, &self.slots[array].path).map_err(writing)
    }

    fn write_block(&mut self, rows: BlockRows, block: EncodedBlock) -> Result<()> {
        let BlockRows { array, first_row, rows } = rows;
        if rows == 0 {
            return Ok(());
        }
        if let EncodedBlock::Bytes(chunks) = &block {
            return chunks.iter().try_for_each(|c| self.slots[array].write(&self.local, c));
        }
        let lib = &library::lock();
        let data = self.data(lib, array)?;
        if self.slots[array].grows {
            let mut dims = vec![first_row + rows];
            dims.extend(&self.layouts[array].inner);
            library::check(
                // SAFETY: an open dataset of as many dimensions.
                unsafe { lib.H5Dset_extent(data.raw(), dims.as_ptr()) },
                "the array cannot grow",
            )
            .map_err(writing)?;
        }
        match block {
            // Rows of no elements: the extent says all.
            _ if self.layouts[array].inner.contains(&0) => {}
            EncodedBlock::Bytes(_) => {}
            EncodedBlock::Chunks(chunks) => write_chunks(lib, &data, chunks)?,
            EncodedBlock::Text(chunks) => {
                let layout = &self.layouts[array];
                write_text(lib, &data, first_row..first_row + rows, layout, &chunks)?;
            }
        }
        self.open = Some((array, data));
        Ok(())
    }

    /// Writes what the library kept back and what only the end tells, and closes the file.
    fn close(&mut self, end: &Plan) -> Result<()> {
        let Some(file) = self.file.take() else {
            return Err(Error::internal("the file is closed"));
        };
        let lib = &library::lock();
        if let Some((_, data)) = self.open.take() {
            data.close("a dataset cannot be written")?;
        }
        let (late, notes) = sidecar::dictionary_marks(end);
        self.notes.extend(notes);
        for (meta, slot) in end.arrays.iter().zip(self.slots.iter()) {
            if let Some(mark) = late.get(&meta.name) {
                let data = lib.open(&file, &slot.path)?;
                write_attributes::all(lib, &data, mark, &meta.name, false, &mut self.notes)?;
            }
        }
        scales::attach(lib, &file, &self.scales)?;
        library::check(
            lib.H5Fflush(file.raw(), H5F_scope_t::H5F_SCOPE_GLOBAL),
            "the file cannot be written",
        )?;
        file.close("the file cannot be written")
    }
}

fn write_chunks(lib: &Library, data: &Id, chunks: Vec<EncodedChunk>) -> Result<()> {
    for EncodedChunk { origin, skipped, bytes } in chunks {
        // SAFETY: an open dataset of as many dimensions as the chunk's origin has.
        let code = unsafe {
            lib.H5Dwrite_chunk(
                data.raw(),
                ffi::DEFAULT,
                skipped,
                origin.as_ptr(),
                bytes.len(),
                bytes.as_ptr().cast(),
            )
        };
        library::check(code, "a chunk cannot be written").map_err(writing)?;
    }
    Ok(())
}

fn write_text(
    lib: &Library,
    data: &Id,
    rows: Range<u64>,
    layout: &DatasetLayout,
    chunks: &[Chunk],
) -> Result<()> {
    let mut texts: Vec<CString> = Vec::new();
    for chunk in chunks {
        let Values::Var { offsets, values } = &chunk.values else {
            return Err(Error::internal("numbers among text"));
        };
        for w in offsets.windows(2) {
            let text = &values[w[0] as usize..w[1] as usize];
            texts.push(CString::new(text).map_err(|_| Error::refused("a text has a zero byte"))?);
        }
    }
    let pointers: Vec<*const c_char> = texts.iter().map(|t| t.as_ptr()).collect();
    let buffer = pointers.as_ptr().cast::<c_void>();
    let (kind, mut spaces) = (lib.kind(data)?, (ffi::DEFAULT, ffi::DEFAULT));
    let (space, memory) = (lib.space(data)?, lib.new_space(Some(&[texts.len() as u64]), None)?);
    if !layout.scalar {
        let start = [&[rows.start], &vec![0; layout.inner.len()][..]].concat();
        let count = [&[rows.end - rows.start], &layout.inner[..]].concat();
        lib.select(&space, &start, &count)?;
        spaces = (memory.raw(), space.raw());
    }
    // SAFETY: a dataset of text, and one pointer an element.
    let code =
        unsafe { lib.H5Dwrite(data.raw(), kind.raw(), spaces.0, spaces.1, ffi::DEFAULT, buffer) };
    library::check(code, "the text cannot be written").map_err(writing)
}

/// Every array in one piece of known size: written by position.
struct Contiguous(Hdf5Sink);

impl Sink for Contiguous {
    fn writer(&self) -> Writer {
        let (file, slots) = (self.0.local.clone(), self.0.slots.clone());
        Writer::Positional(Arc::new(ByPosition { file, slots }))
    }
    fn slots(&self, array: usize) -> Option<Vec<Extent>> {
        self.0.slots(array)
    }
    fn finish(self: Box<Self>, end: &Plan) -> Result<Summary> {
        self.0.finish(end)
    }
}

impl AppendBlocks for Hdf5Sink {
    type Encoded = EncodedBlock;
    fn append(&mut self, rows: BlockRows, block: EncodedBlock) -> Result<()> {
        let written = self.write_block(rows, block);
        self.outcome.error().map_or(written, Err)
    }
    fn slots(&self, array: usize) -> Option<Vec<Extent>> {
        let slot = &self.slots[array];
        Some(vec![Extent { file: self.local.clone(), offset: slot.offset?, len: slot.bytes }])
    }
    fn finish(mut self, end: &Plan) -> Result<Summary> {
        let closed = self.close(end).map_err(writing);
        self.outcome.error().map_or(closed, Err)?;
        let bytes = self.local.metadata()?.len();
        if let Some(spool) = &self.spool {
            let mut from = spool.reopen()?;
            let mut buffer = vec![0; 1 << 20];
            loop {
                let n = from.read(&mut buffer)?;
                if n == 0 {
                    break;
                }
                self.out.write_all(&buffer[..n])?;
            }
        }
        let Hdf5Sink { out, notes, .. } = self;
        out.commit()?;
        Ok(Summary { bytes, files: 1, notes })
    }
}

impl DatasetSlot {
    fn write(&self, file: &std::fs::File, chunk: &Chunk) -> Result<()> {
        let Values::Fixed(bytes) = &chunk.values else {
            return Err(Error::internal("text was delivered, numbers were expected"));
        };
        let start = chunk.first_row.checked_mul(self.row_bytes);
        let (Some(offset), Some(start)) = (self.offset, start) else { return Ok(()) };
        if start.checked_add(bytes.len() as u64).is_none_or(|end| end > self.bytes) {
            return Err(Error::internal(format!(
                "row {} is past the end of the array",
                chunk.first_row
            )));
        }
        Ok(file.write_all_at(bytes, offset + start)?)
    }
}

struct ByPosition {
    file: Arc<std::fs::File>,
    slots: Arc<Vec<DatasetSlot>>,
}

impl WriteRows for ByPosition {
    fn write(&self, chunk: &Chunk) -> Result<()> {
        self.slots[chunk.array].write(&self.file, chunk)
    }
}
