//! Writing: the library makes groups, datasets and attributes; chunks are compressed on worker
//! threads and handed to it as they are, and bytes in one piece go straight to their place in the
//! file.

use std::collections::HashSet;
use std::ffi::{CString, c_char, c_int, c_void};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::attributes::{self, NULL};
use super::c::{self, Id};
use super::driver::{self, Outcome, Purpose, Ticket};
use super::ffi;
use super::pack::{Encoder, Form, NAMES, Packed, Packing, Shape};
use super::{filters, put, scales};
use crate::error::{Error, Kind, Result};
use crate::format::{
    AppendBlocks, BlockRows, Extent, InOrder, Sink, Summary, WriteOptions, WriteRows, Writer,
};
use crate::model::{ArrayMeta, Chunk, Dtype, Logical, Plan, Values, checked_product};
use crate::sidecar::Marks;
use crate::storage::{Location, Output};

/// The target size of a chunk where none is given.
const CHUNK_BYTES: u64 = 1 << 20;
/// Rows of chunks that a hint of the source would make larger than this are cut otherwise.
const SLAB_BYTES: u64 = 32 << 20;

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
    shapes: Arc<Vec<Shape>>,
    places: Arc<Vec<Place>>,
    scales: scales::Scales,
    notes: Vec<String>,
}

/// A dataset that was made.
struct Place {
    path: CString,
    /// Where its bytes begin, if in one piece.
    offset: Option<u64>,
    /// Bytes in all, if in one piece.
    bytes: u64,
    row_bytes: u64,
    /// The row count was not known: the extent grows.
    grows: bool,
}

fn writing(e: Error) -> Error {
    if e.kind() == Kind::Corrupt { e.with_kind(Kind::Failed) } else { e }
}

/// Names that HDF5 cannot hold, and arrays that would have to be groups, too.
pub(super) fn refuse(plan: &Plan, options: &WriteOptions) -> Vec<Error> {
    let mut errors = Vec::new();
    if let Err(e) = options.compression_among("hdf5", NAMES).and_then(Packing::of) {
        errors.push(e);
    }
    let mut groups: HashSet<&str> = HashSet::new();
    for meta in &plan.arrays {
        let name = meta.name.as_str();
        groups.extend(name.match_indices('/').map(|(at, _)| &name[..at]));
    }
    for meta in &plan.arrays {
        let name = meta.name.as_str();
        let why = if name.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            "this name is not an HDF5 path: it has empty parts, '.' or '..'"
        } else if name.contains('\0') {
            "this name has a zero byte, which HDF5 cannot hold"
        } else if groups.contains(name) {
            "this array has the name of a group that other arrays need"
        } else {
            if let Err(e) = chunk_of(meta, options) {
                errors.push(e.array(name));
            }
            continue;
        };
        errors.push(Error::refused(why).array(name).hint("rename it with --rename OLD=NEW"));
    }
    errors
}

/// Text, or codes of text.
fn is_text(meta: &ArrayMeta) -> bool {
    meta.logical.is_var() || meta.coded_text().is_some()
}

/// The shape of the chunks: as asked for, else as the source had them, else whole rows of about 1
/// MiB.
fn chunk_of(meta: &ArrayMeta, options: &WriteOptions) -> Result<Vec<u64>> {
    let mut dims = vec![meta.rows.unwrap_or(u64::MAX)];
    dims.extend(&meta.inner);
    let clip = |shape: &[u64]| -> Vec<u64> {
        shape.iter().zip(&dims).map(|(&c, &d)| c.min(d).max(1)).collect()
    };
    let item = if is_text(meta) { 16 } else { meta.dtype.item_bytes() };
    let bytes = |shape: &[u64]| {
        checked_product(shape).and_then(|n| n.checked_mul(item)).unwrap_or(u64::MAX)
    };
    if let Some(asked) = &options.chunk_shape {
        if meta.scalar {
            return Ok(Vec::new());
        }
        if asked.len() != dims.len() || asked.contains(&0) {
            return Err(Error::usage(format!(
                "--chunk-shape has {} dimensions, this array has {}",
                asked.len(),
                dims.len()
            ))
            .hint("give one number above 0 for each dimension"));
        }
        let shape = clip(asked);
        if bytes(&shape) >= 1 << 32 {
            return Err(Error::usage(format!(
                "chunks of {} bytes are more than the 4 GiB that HDF5 allows",
                bytes(&shape)
            )));
        }
        return Ok(shape);
    }
    if let Some(hint) = &meta.details.chunks
        && hint.len() == dims.len()
        && !meta.scalar
    {
        let shape = clip(hint);
        let slab: Vec<u64> = std::iter::once(shape[0]).chain(meta.inner.iter().copied()).collect();
        let all = bytes(&dims);
        if bytes(&slab) <= SLAB_BYTES && (bytes(&shape) >= 4096 || bytes(&shape) >= all) {
            return Ok(shape);
        }
    }
    let mut shape = clip(&dims);
    let row = bytes(&shape[1..]);
    shape[0] = shape[0].min((CHUNK_BYTES / row.max(1)).max(1));
    for d in 1..shape.len() {
        let all = bytes(&shape);
        if all <= CHUNK_BYTES {
            break;
        }
        shape[d] = shape[d].div_ceil(all.div_ceil(CHUNK_BYTES)).max(1);
    }
    Ok(shape)
}

/// Begins a file.
pub(super) fn create(at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Box<dyn Sink>> {
    Error::all(refuse(plan, options))?;
    let packing = Packing::of(options.compression_among("hdf5", NAMES)?)?;
    let out = at.create_file(options.existing, options.sync)?;
    let (local, spool, path): (_, _, PathBuf) = match (out.file(), out.path()) {
        (Some(file), Some(path)) => (file, None, path.to_path_buf()),
        _ => {
            let spool = tempfile::NamedTempFile::new().map_err(crate::storage::temporary::error)?;
            let path = spool.path().to_path_buf();
            (Arc::new(spool.reopen()?), Some(spool), path)
        }
    };
    let _lock = c::lock();
    let outcome = Arc::new(Outcome::default());
    let ticket = Ticket::new(Purpose::Writing(outcome.clone()));
    let failed = |e: Error| outcome.error().unwrap_or_else(|| writing(e));
    let file = new_file(&c::c_path(&path)?, &ticket).map_err(failed)?;
    let mut sink = Hdf5Sink {
        open: None,
        file: None,
        _ticket: ticket,
        outcome: outcome.clone(),
        local,
        spool,
        out,
        shapes: Arc::default(),
        places: Arc::default(),
        scales: scales::plan(plan, options, is_netcdf(at, plan)),
        notes: Vec::new(),
    };
    let mut groups: HashSet<String> = HashSet::new();
    let marks = Marks::of(plan);
    let (mut shapes, mut places) = (Vec::new(), Vec::new());
    for (number, meta) in plan.arrays.iter().enumerate() {
        if let Some(at) = meta.name.rfind('/') {
            make_groups(&file, &meta.name[..at], &mut groups).map_err(failed)?;
        }
        let (shape, place, data) =
            make(&file, meta, packing, options).map_err(|e| failed(e).array(&meta.name))?;
        let scaled = sink.scales.arrays.iter().any(|s| s.array == number);
        let mut attributes = marks.attributes(meta, options.no_metadata);
        if !sink.scales.bare.is_empty() {
            attributes.retain(|name, _| !scales::NUMBERED.contains(&name.as_str()));
        }
        put::fill_type(&mut attributes, meta);
        put::all(&data, &attributes, &meta.name, scaled, &mut sink.notes)?;
        shapes.push(shape);
        places.push(place);
    }
    if !options.no_metadata {
        for (path, attributes) in &plan.groups {
            let clean = !path.is_empty()
                && !path.contains('\0')
                && path.split('/').all(|p| !p.is_empty() && p != "." && p != "..");
            // A group that other choices turned into an array, or that cannot be: its attributes
            // have no place.
            if !clean
                || plan.position(path).is_some()
                || make_groups(&file, path, &mut groups).is_err()
            {
                continue;
            }
            let name = c::c_name(&format!("/{path}"))?;
            // SAFETY: an open file; under the lock.
            let group = Id::new(
                unsafe { ffi::H5Oopen(file.raw(), name.as_ptr(), 0) },
                "a group cannot be opened",
            )?;
            put::all(&group, attributes, path, false, &mut sink.notes)?;
        }
    }
    put::all(&file, &options.attributes(plan), "the root group", false, &mut sink.notes)?;
    outcome.error().map_or(Ok(()), Err)?;
    sink.file = Some(file);
    (sink.shapes, sink.places) = (Arc::new(shapes), Arc::new(places));
    let contiguous = |(s, p): (&Shape, &Place)| matches!(s.form, Form::Contiguous) && !p.grows;
    if sink.shapes.iter().zip(sink.places.iter()).all(contiguous) {
        return Ok(Box::new(Contiguous(sink)));
    }
    let encoder = Encoder { shapes: sink.shapes.clone(), memory_bytes: options.memory_bytes };
    Ok(InOrder::sink(encoder, sink))
}

/// Whether the output is to be netCDF: by its name, or as its source was.
fn is_netcdf(at: &Location, plan: &Plan) -> bool {
    let name = at.file_name().to_ascii_lowercase();
    name.ends_with(".nc") || name.ends_with(".nc4") || plan.attributes.contains_key("_NCProperties")
}

/// A file of the layout of HDF5 1.8, in which groups keep the order of their members.
fn new_file(path: &CString, ticket: &Ticket) -> Result<Id> {
    const TRUNCATE: u32 = 2;
    const V18: c_int = 1;
    // SAFETY: plain calls under the lock.
    unsafe {
        let access =
            Id::new(ffi::H5Pcreate(ffi::H5P_CLS_FILE_ACCESS_ID_g), "cannot create the file")?;
        ffi::H5Pset_file_locking(access.raw(), false, true);
        driver::set(&access, ticket)?;
        ffi::H5Pset_libver_bounds(access.raw(), V18, V18);
        // Closing the file closes all that is open in it.
        ffi::H5Pset_fclose_degree(access.raw(), 3);
        let create =
            Id::new(ffi::H5Pcreate(ffi::H5P_CLS_FILE_CREATE_ID_g), "cannot create the file")?;
        ffi::H5Pset_link_creation_order(create.raw(), 3);
        ffi::H5Pset_attr_creation_order(create.raw(), 3);
        Id::new(
            ffi::H5Fcreate(path.as_ptr(), TRUNCATE, create.raw(), access.raw()),
            "cannot create the file",
        )
    }
}

fn link_list() -> Result<Id> {
    // SAFETY: plain calls under the lock.
    unsafe {
        let link = Id::new(ffi::H5Pcreate(ffi::H5P_CLS_LINK_CREATE_ID_g), "cannot name a link")?;
        ffi::H5Pset_char_encoding(link.raw(), 1);
        Ok(link)
    }
}

/// Makes a group and those that hold it, where they are not there.
fn make_groups(file: &Id, path: &str, made: &mut HashSet<String>) -> Result<()> {
    if made.contains(path) {
        return Ok(());
    }
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        let part = &path[..end];
        if made.contains(part) {
            continue;
        }
        let name = c::c_name(&format!("/{part}"))?;
        // SAFETY: plain calls under the lock.
        unsafe {
            let create =
                Id::new(ffi::H5Pcreate(ffi::H5P_CLS_GROUP_CREATE_ID_g), "cannot make a group")?;
            ffi::H5Pset_link_creation_order(create.raw(), 3);
            ffi::H5Pset_attr_creation_order(create.raw(), 3);
            let id =
                ffi::H5Gcreate2(file.raw(), name.as_ptr(), link_list()?.raw(), create.raw(), 0);
            Id::new(id, "cannot make a group").map_err(writing)?;
        }
        made.insert(part.to_string());
    }
    Ok(())
}

/// Makes a dataset.
fn make(
    file: &Id,
    meta: &ArrayMeta,
    packing: Packing,
    options: &WriteOptions,
) -> Result<(Shape, Place, Id)> {
    let name = c::c_name(&format!("/{}", meta.name))?;
    let text = is_text(meta);
    let keep = !options.no_metadata;
    let kind = put::file_type(
        meta,
        if keep { meta.details.attributes.get(attributes::ENUM) } else { None },
    )?;
    let null = keep
        && meta.rows == Some(0)
        && meta.inner.is_empty()
        && meta.details.attributes.contains_key(NULL);
    let mut dims = meta
        .shape()
        .unwrap_or_else(|| std::iter::once(0).chain(meta.inner.iter().copied()).collect());
    let grows = meta.rows.is_none();
    let empty = !grows && dims.contains(&0);
    let row_bytes = if text { 0 } else { meta.row_bytes()? };
    let bytes = if text { 0 } else { meta.bytes()?.unwrap_or(0) };
    let chunked = grows
        || !(meta.scalar || empty || (packing == Packing::None && options.chunk_shape.is_none()));
    let element_bytes = if text { 16 } else { meta.dtype.item_bytes() as u32 };
    let chunk = if chunked { chunk_of(meta, options)? } else { Vec::new() };
    if dims.len() > 32 {
        return Err(Error::refused(format!(
            "HDF5 holds at most 32 dimensions, this array has {}",
            dims.len()
        )));
    }
    // SAFETY: plain calls under the lock; the arrays have the lengths that are told.
    let (data, offset) = unsafe {
        let space = if null {
            ffi::H5Screate(2)
        } else if meta.scalar {
            ffi::H5Screate(0)
        } else {
            let mut most = dims.clone();
            if grows {
                most[0] = ffi::UNLIMITED;
            }
            ffi::H5Screate_simple(dims.len() as c_int, dims.as_mut_ptr(), most.as_ptr())
        };
        let space = Id::new(space, "cannot make a dataspace")?;
        let create =
            Id::new(ffi::H5Pcreate(ffi::H5P_CLS_DATASET_CREATE_ID_g), "cannot make a dataset")?;
        ffi::H5Pset_obj_track_times(create.raw(), false);
        ffi::H5Pset_attr_creation_order(create.raw(), 3);
        if chunked {
            c::check(
                ffi::H5Pset_chunk(create.raw(), chunk.len() as c_int, chunk.as_ptr()),
                "cannot set the chunks",
            )?;
            let whole = checked_product(&chunk).unwrap_or(0) * u64::from(element_bytes);
            let filter = if text && packing != Packing::None {
                Some((filters::DEFLATE, vec![4]))
            } else {
                packing.filter(element_bytes, whole)
            };
            if packing.shuffles(element_bytes) {
                let size = [element_bytes];
                c::check(
                    ffi::H5Pset_filter(
                        create.raw(),
                        filters::SHUFFLE as c_int,
                        1,
                        1,
                        size.as_ptr(),
                    ),
                    "cannot set the filters",
                )?;
            }
            if let Some((id, params)) = filter {
                let code =
                    ffi::H5Pset_filter(create.raw(), id as c_int, 1, params.len(), params.as_ptr());
                c::check(code, "cannot set the filters")?;
            }
        } else if !text && bytes > 0 {
            // The place is taken at once, and nothing but our own bytes is written there.
            ffi::H5Pset_alloc_time(create.raw(), 1);
            ffi::H5Pset_fill_time(create.raw(), 1);
        }
        let id = ffi::H5Dcreate2(
            file.raw(),
            name.as_ptr(),
            kind.raw(),
            space.raw(),
            link_list()?.raw(),
            create.raw(),
            0,
        );
        let data = Id::new(id, "cannot make the dataset")?;
        let offset = if chunked || text || bytes == 0 {
            ffi::UNDEFINED
        } else {
            ffi::H5Dget_offset(data.raw())
        };
        (data, (offset != ffi::UNDEFINED).then_some(offset))
    };
    if !chunked && !text && bytes > 0 && offset.is_none() {
        return Err(Error::failed("the dataset has no place in the file"));
    }
    let form = match (text, chunked) {
        (true, false) => Form::Text { chunk_rows: None },
        (true, true) => Form::Text { chunk_rows: Some(chunk[0]) },
        (false, false) => Form::Contiguous,
        (false, true) => Form::Chunked { chunk, packing },
    };
    let coded = meta.coded_text().map(|_| meta.clone());
    let shape = Shape { inner: meta.inner.clone(), element_bytes, form, coded };
    Ok((shape, Place { path: name, offset, bytes, row_bytes, grows }, data))
}

impl Hdf5Sink {
    /// The dataset of an array, kept open while the same one is written.
    fn data(&mut self, array: usize) -> Result<Id> {
        if let Some((open, id)) = self.open.take() {
            if open == array {
                return Ok(id);
            }
            // Chunks of text are kept back until here.
            id.close("a dataset cannot be written").map_err(writing)?;
        }
        let Some(file) = &self.file else { return Err(Error::internal("the file is closed")) };
        // SAFETY: an open file; under the lock.
        Id::new(
            unsafe { ffi::H5Dopen2(file.raw(), self.places[array].path.as_ptr(), 0) },
            "a dataset cannot be opened",
        )
        .map_err(writing)
    }

    fn write_chunks(&self, data: &Id, chunks: Vec<(Vec<u64>, u32, Vec<u8>)>) -> Result<()> {
        for (offset, mask, bytes) in chunks {
            // SAFETY: an open dataset of as many dimensions; under the lock.
            let code = unsafe {
                ffi::H5Dwrite_chunk(
                    data.raw(),
                    0,
                    mask,
                    offset.as_ptr(),
                    bytes.len(),
                    bytes.as_ptr().cast(),
                )
            };
            c::check(code, "a chunk cannot be written").map_err(writing)?;
        }
        Ok(())
    }

    fn write_text(
        &self,
        data: &Id,
        first_row: u64,
        rows: u64,
        inner: &[u64],
        chunks: &[Chunk],
        scalar: bool,
    ) -> Result<()> {
        let mut texts: Vec<CString> = Vec::with_capacity(rows as usize);
        for chunk in chunks {
            let Values::Var { offsets, values } = &chunk.values else {
                return Err(Error::internal("numbers among text"));
            };
            for w in offsets.windows(2) {
                let text = &values[w[0] as usize..w[1] as usize];
                texts.push(
                    CString::new(text).map_err(|_| Error::refused("a text has a zero byte"))?,
                );
            }
        }
        let pointers: Vec<*const c_char> = texts.iter().map(|t| t.as_ptr()).collect();
        // SAFETY: an open dataset of text; one pointer an element; under the lock.
        unsafe {
            let kind = Id::new(ffi::H5Dget_type(data.raw()), "a type is damaged")?;
            let buffer = pointers.as_ptr().cast::<c_void>();
            if scalar {
                return c::check(
                    ffi::H5Dwrite(data.raw(), kind.raw(), 0, 0, 0, buffer),
                    "the text cannot be written",
                )
                .map_err(writing);
            }
            let space = Id::new(ffi::H5Dget_space(data.raw()), "a dataspace is damaged")?;
            let start: Vec<u64> =
                std::iter::once(first_row).chain(inner.iter().map(|_| 0)).collect();
            let count: Vec<u64> = std::iter::once(rows).chain(inner.iter().copied()).collect();
            let code = ffi::H5Sselect_hyperslab(
                space.raw(),
                0,
                start.as_ptr(),
                std::ptr::null(),
                count.as_ptr(),
                std::ptr::null(),
            );
            c::check(code, "its rows cannot be chosen")?;
            let items = texts.len() as u64;
            let memory = Id::new(
                ffi::H5Screate_simple(1, &items, std::ptr::null()),
                "its rows cannot be chosen",
            )?;
            c::check(
                ffi::H5Dwrite(data.raw(), kind.raw(), memory.raw(), space.raw(), 0, buffer),
                "the text cannot be written",
            )
            .map_err(writing)
        }
    }

    fn put(&mut self, rows: BlockRows, packed: Packed) -> Result<()> {
        let BlockRows { array, first_row, rows } = rows;
        if rows == 0 {
            return Ok(());
        }
        if let Packed::Bytes(chunks) = &packed {
            return chunks.iter().try_for_each(|c| self.places[array].write(&self.local, c));
        }
        let _lock = c::lock();
        let data = self.data(array)?;
        if self.places[array].grows {
            let mut dims = vec![first_row + rows];
            dims.extend(&self.shapes[array].inner);
            // SAFETY: an open dataset of as many dimensions; under the lock.
            c::check(
                unsafe { ffi::H5Dset_extent(data.raw(), dims.as_ptr()) },
                "the array cannot grow",
            )
            .map_err(writing)?;
        }
        match packed {
            // Rows of no elements: the extent says all.
            _ if self.shapes[array].inner.contains(&0) => {}
            Packed::Bytes(_) => {}
            Packed::Chunks(chunks) => self.write_chunks(&data, chunks)?,
            Packed::Text(chunks) => {
                let scalar = c::dims(&Id::new(
                    unsafe { ffi::H5Dget_space(data.raw()) },
                    "a dataspace is damaged",
                )?)?
                .is_some_and(|d| d.is_empty());
                let inner = self.shapes[array].inner.clone();
                self.write_text(&data, first_row, rows, &inner, &chunks, scalar)?;
            }
        }
        self.open = Some((array, data));
        Ok(())
    }

    /// Writes what the library kept back, and closes the file.
    fn close(&mut self) -> Result<()> {
        let Some(file) = self.file.take() else {
            return Err(Error::internal("the file is closed"));
        };
        let _lock = c::lock();
        if let Some((_, data)) = self.open.take() {
            data.close("a dataset cannot be written")?;
        }
        scales::attach(&file, &self.scales)?;
        // SAFETY: an open file; under the lock.
        c::check(unsafe { ffi::H5Fflush(file.raw(), 1) }, "the file cannot be written")?;
        file.close("the file cannot be written")
    }
}

/// Every array in one piece of known size: written by position.
struct Contiguous(Hdf5Sink);

impl Sink for Contiguous {
    fn writer(&self) -> Writer {
        let (file, places) = (self.0.local.clone(), self.0.places.clone());
        Writer::Positional(Arc::new(ByPosition { file, places }))
    }
    fn slots(&self, array: usize) -> Option<Vec<Extent>> {
        self.0.slots(array)
    }
    fn finish(self: Box<Self>, end: &Plan) -> Result<Summary> {
        self.0.finish(end)
    }
}

impl AppendBlocks for Hdf5Sink {
    type Encoded = Packed;
    fn append(&mut self, rows: BlockRows, packed: Packed) -> Result<()> {
        let put = self.put(rows, packed);
        self.outcome.error().map_or(put, Err)
    }
    fn slots(&self, array: usize) -> Option<Vec<Extent>> {
        let place = &self.places[array];
        Some(vec![Extent { file: self.local.clone(), offset: place.offset?, len: place.bytes }])
    }
    fn finish(mut self, _end: &Plan) -> Result<Summary> {
        let closed = self.close().map_err(writing);
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

impl Place {
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
    places: Arc<Vec<Place>>,
}

impl WriteRows for ByPosition {
    fn write(&self, chunk: &Chunk) -> Result<()> {
        self.places[chunk.array].write(&self.file, chunk)
    }
}

/// The element types and meanings that are written as they are.
pub(super) const DTYPES: &[Dtype] = &[
    Dtype::Bool,
    Dtype::U8,
    Dtype::U16,
    Dtype::U32,
    Dtype::U64,
    Dtype::I8,
    Dtype::I16,
    Dtype::I32,
    Dtype::I64,
    Dtype::F16,
    Dtype::F32,
    Dtype::F64,
    Dtype::C64,
    Dtype::C128,
    Dtype::Bf16,
    Dtype::F8E4m3,
    Dtype::F8E5m2,
    Dtype::C32,
];

/// Text, and numpy's times as h5py keeps them.
pub(super) fn logical(logical: &Logical) -> bool {
    matches!(logical, Logical::Text | Logical::Datetime(_) | Logical::Timedelta(_))
}
