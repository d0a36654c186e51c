//! Writing: chunks are encoded on the caller's threads and stored one object each; the metadata
//! comes last.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::layout::{Layout, Packer, Rules};
use super::netcdf;
use super::store::MARKERS;
use super::zip_out::ZipOut;
use crate::array::block_copy::{self, step};
use crate::codec::{blosc, compress, decompress::Wrapper};
use crate::error::{Error, Result};
use crate::format::{Block, Encode, Encoded, Existing, Sink, Summary, WriteOptions, WriteRows};
use crate::model::{Buf, Chunk, Plan, Values};
use crate::sidecar::Marks;
use crate::storage::{Location, OutputDir};

/// The layouts of all arrays.
///
/// # Errors
/// One an array that cannot be written as asked.
pub fn layouts(plan: &Plan, options: &WriteOptions) -> (Vec<Layout>, Vec<Error>) {
    let version = options.zarr_format.unwrap_or(3);
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    if !matches!(version, 2 | 3) {
        errors.push(
            Error::usage(format!("there is no Zarr format {version}"))
                .hint("use --zarr-format 2 or 3"),
        );
        return (all, errors);
    }
    // A shape that suits no array is a mistake; one that suits some is for those.
    let ranks: Vec<usize> =
        plan.arrays.iter().map(|a| if a.scalar { 0 } else { 1 + a.inner.len() }).collect();
    let suits = |shape: &Option<Vec<u64>>| shape.as_ref().is_none_or(|s| ranks.contains(&s.len()));
    let is_asked = !(suits(&options.chunk_shape) && suits(&options.shard_shape));
    let rules = Rules {
        version,
        options,
        is_asked,
        marks: Marks::of(plan),
        netcdf: netcdf::is_netcdf(plan),
    };
    for meta in &plan.arrays {
        match Layout::new(meta, &rules) {
            Ok(layout) => all.push(layout),
            Err(e) => errors.push(if e.kind() == crate::error::Kind::Usage {
                e
            } else {
                e.array(&meta.name)
            }),
        }
        if is_asked && !errors.is_empty() {
            return (all, errors);
        }
    }
    // An array cannot hold other nodes.
    let names: std::collections::HashSet<&str> =
        plan.arrays.iter().map(|a| a.name.as_str()).collect();
    for meta in &plan.arrays {
        let parent =
            meta.name.match_indices('/').map(|(i, _)| &meta.name[..i]).find(|p| names.contains(p));
        if let Some(parent) = parent {
            errors.push(
                Error::refused(format!(
                    "its group would be the array {parent}: Zarr has no arrays inside arrays"
                ))
                .array(&meta.name)
                .hint("rename one with --rename OLD=NEW"),
            );
        }
    }
    (all, errors)
}

pub(super) enum Out {
    Dir(Box<dyn OutputDir>),
    Zip(Mutex<ZipOut>),
}

pub(super) struct Writer {
    pub(super) out: Out,
    pub(super) layouts: Vec<Layout>,
    pending: Mutex<HashMap<(usize, u64), Pending>>,
    memory_bytes: u64,
    pub(super) bytes: AtomicU64,
    pub(super) files: AtomicU64,
}

/// Rows of an object that came in parts.
struct Pending {
    rows: u64,
    /// Bytes of its text.
    bytes: u64,
    values: Parts,
}

enum Parts {
    Fixed(Vec<u8>),
    Var(BTreeMap<u64, Vec<Vec<u8>>>),
}

/// A hierarchy being written.
pub struct ZarrSink {
    writer: Arc<Writer>,
    options: WriteOptions,
}

/// Begins a hierarchy.
///
/// # Errors
/// What cannot be created, or written as asked.
pub fn create(at: &Location, plan: &Plan, options: &WriteOptions) -> Result<ZarrSink> {
    let (layouts, errors) = layouts(plan, options);
    Error::all(errors)?;
    let version = options.zarr_format.unwrap_or(3);
    let out = if at.file_name().to_ascii_lowercase().ends_with(".zip") {
        Out::Zip(Mutex::new(ZipOut::new(at.create_file(options.existing, options.sync)?)))
    } else {
        if options.existing != Existing::Replace {
            other_version(at, version)?;
        }
        Out::Dir(at.create_dir(options.existing, options.sync, &MARKERS)?)
    };
    let memory_bytes = options.memory_bytes;
    let writer = Writer {
        out,
        layouts,
        pending: Mutex::default(),
        memory_bytes,
        bytes: AtomicU64::new(0),
        files: AtomicU64::new(0),
    };
    Ok(ZarrSink { writer: Arc::new(writer), options: options.clone() })
}

/// Two versions in one store hide each other's nodes.
fn other_version(at: &Location, version: u8) -> Result<()> {
    let is_there =
        |name: &str| matches!(at.join(name).kind(), Ok(crate::storage::Kind::File { .. }));
    let found = if is_there("zarr.json") {
        3
    } else if [".zgroup", ".zarray", ".zmetadata"].iter().any(|m| is_there(m)) {
        2
    } else {
        return Ok(());
    };
    if found == version {
        return Ok(());
    }
    Err(Error::exists(format!(
        "the output is an existing Zarr v{found} store; v{version} cannot be written into it"
    ))
    .file(at.display())
    .hint(format!(
        "use another name, --force to replace it as a whole, or --zarr-format {found} with --force"
    )))
}

impl Sink for ZarrSink {
    fn encoder(&self) -> Arc<dyn Encode> {
        Arc::new(ByPosition)
    }
    fn append(&mut self, _encoded: Encoded) -> Result<()> {
        Err(by_position())
    }
    fn random(&self) -> Option<Arc<dyn WriteRows>> {
        Some(self.writer.clone())
    }
    fn finish(self: Box<Self>, end: &Plan) -> Result<Summary> {
        let ZarrSink { writer, options } = *self;
        let writer = Arc::try_unwrap(writer)
            .map_err(|_| Error::internal("a chunk is still being written"))?;
        if let Some(((array, k), _)) =
            writer.pending.lock().unwrap_or_else(|e| e.into_inner()).iter().next()
        {
            return Err(Error::internal(format!("some rows of chunk {k} are missing"))
                .array(&writer.layouts[*array].path));
        }
        writer.commit(end, &options)
    }
}

fn by_position() -> Error {
    Error::internal("Zarr is written by position")
}

/// Chunks are written by position, never in turn.
struct ByPosition;

impl Encode for ByPosition {
    fn encode(&self, _block: Block) -> Result<Encoded> {
        Err(by_position())
    }
}

impl WriteRows for Writer {
    fn cut(&self, array: usize, row: u64) -> u64 {
        match self.layouts[array].object().first() {
            Some(&height) => (row / height + 1).saturating_mul(height),
            None => u64::MAX,
        }
    }

    fn write(&self, chunk: &Chunk) -> Result<()> {
        let layout = &self.layouts[chunk.array];
        if layout.shape.contains(&0) {
            return Ok(()); // no element, no chunk, however many rows
        }
        let codes;
        let chunk = match (&layout.coded, &chunk.values) {
            (Some(_), Values::Fixed(bytes)) => {
                let wide = crate::model::codes_of(bytes, layout.codes);
                let wide: Vec<i32> =
                    wide.into_iter().map(|code| i32::try_from(code).unwrap_or(i32::MAX)).collect();
                codes = Chunk { values: Values::Fixed(Buf::from_vec(wide)), ..chunk.clone() };
                &codes
            }
            _ => chunk,
        };
        let total = layout.shape.first().copied().unwrap_or(1);
        let height = layout.object().first().copied().unwrap_or(1);
        let mut at = 0;
        while at < chunk.rows {
            let row = chunk.first_row + at;
            let (k, end) = (row / height, ((row / height + 1).saturating_mul(height)).min(total));
            let count = (end - row.min(end)).min(chunk.rows - at);
            if count == 0 {
                return Err(Error::internal(format!(
                    "row {row} was delivered, {total} were expected"
                )));
            }
            let part = chunk.slice(at, at + count);
            let whole = end - k * height;
            if count == whole {
                match &part.values {
                    Values::Fixed(bytes) => self.block(layout, k, whole, bytes)?,
                    _ => {
                        self.fits(layout, text_len(&part), count)?;
                        self.text_block(
                            layout,
                            k,
                            &(0..count as usize).map(|r| part.text(r)).collect::<Vec<_>>(),
                        )?;
                    }
                }
            } else {
                self.collect(layout, k, whole, &part)?;
            }
            at += count;
        }
        Ok(())
    }
}

impl Writer {
    /// Keeps a part of an object's rows until the others have come.
    fn collect(&self, layout: &Layout, k: u64, whole: u64, part: &Chunk) -> Result<()> {
        let key = (part.array, k);
        let height = layout.object().first().copied().unwrap_or(1);
        let inside = part.first_row - k * height;
        let done = {
            let mut pending = self.pending.lock().unwrap_or_else(|e| e.into_inner());
            let entry = pending.entry(key).or_insert_with(|| Pending {
                rows: 0,
                bytes: 0,
                values: match &part.values {
                    Values::Fixed(bytes) => {
                        Parts::Fixed(vec![0; bytes.len() / part.rows as usize * whole as usize])
                    }
                    _ => Parts::Var(BTreeMap::new()),
                },
            });
            match (&mut entry.values, &part.values) {
                (Parts::Fixed(all), Values::Fixed(bytes)) => {
                    let row = bytes.len() / part.rows as usize;
                    let from = inside as usize * row;
                    all[from..from + bytes.len()].copy_from_slice(bytes);
                }
                (Parts::Var(all), Values::Var { .. }) => {
                    entry.bytes += text_len(part);
                    self.fits(layout, entry.bytes, entry.rows + part.rows)?;
                    all.insert(
                        inside,
                        (0..part.rows as usize).map(|r| part.text(r).to_vec()).collect(),
                    );
                }
                _ => return Err(Error::internal("text and numbers in one array")),
            }
            entry.rows += part.rows;
            if entry.rows == whole { pending.remove(&key) } else { None }
        };
        match done.map(|p| p.values) {
            Some(Parts::Fixed(bytes)) => self.block(layout, k, whole, &bytes),
            Some(Parts::Var(all)) => self.text_block(
                layout,
                k,
                &all.values().flatten().map(Vec::as_slice).collect::<Vec<_>>(),
            ),
            None => Ok(()),
        }
    }

    /// Refuses text that makes an object larger than there is memory to encode it in.
    fn fits(&self, layout: &Layout, bytes: u64, rows: u64) -> Result<()> {
        let most = self.memory_bytes / 4;
        if bytes <= most {
            return Ok(());
        }
        let error = Error::refused(format!(
            "{rows} rows of text have {bytes} bytes, and a chunk holds {}: at most {most} bytes fit into the memory limit",
            layout.object().first().copied().unwrap_or(1)
        ));
        let fitting = (most / 2).checked_div(bytes / rows.max(1)).unwrap_or(1);
        Err(match fitting {
            0 => error.hint(format!(
                "raise the limit: --memory-limit {}MiB",
                bytes.saturating_mul(4).div_ceil(1 << 20)
            )),
            n => error.hint(format!(
                "--chunk-shape {n} makes smaller chunks, --memory-limit raises the limit"
            )),
        })
    }

    /// Encodes and stores all objects of a row of them. `rows` of them are within the array.
    fn block(&self, layout: &Layout, k: u64, rows: u64, bytes: &[u8]) -> Result<()> {
        let object = layout.object();
        let item = layout.item.unwrap_or(1);
        if object.is_empty() {
            return self.store(&layout.key(&[]), &encoded(layout, bytes)?);
        }
        let columns = layout.columns();
        if columns.contains(&0) {
            return Ok(());
        }
        let mut shape = layout.shape.clone();
        shape[0] = rows;
        let origin = vec![0u64; shape.len()];
        let is_whole = shape == object;
        let mut place = vec![0u64; columns.len()];
        let mut buffer = if is_whole {
            Vec::new()
        } else {
            vec![0u8; object.iter().product::<u64>() as usize * item]
        };
        loop {
            let at: Vec<u64> = std::iter::once(0)
                .chain(place.iter().zip(&object[1..]).map(|(p, c)| p * c))
                .collect();
            let content: &[u8] = if is_whole {
                bytes
            } else {
                let is_inside = at.iter().zip(object).zip(&shape).all(|((a, o), s)| a + o <= *s);
                if !is_inside {
                    // Of codes this is -1: no text.
                    buffer.fill(if layout.coded.is_some() { 0xFF } else { 0 });
                }
                let (from, to) = (
                    block_copy::Block { origin: &origin, shape: &shape },
                    block_copy::Block { origin: &at, shape: object },
                );
                block_copy::copy(bytes, from, &mut buffer, to, item);
                &buffer
            };
            let key =
                layout.key(&std::iter::once(k).chain(place.iter().copied()).collect::<Vec<_>>());
            match &layout.shard {
                None => self.store(&key, &encoded(layout, content)?)?,
                Some(shard) => {
                    let valid: Vec<u64> = shape.iter().zip(&at).map(|(s, a)| s - a).collect();
                    self.store(&key, &self.shard(layout, shard, &valid, content, item)?)?;
                }
            }
            if !step(&mut place, &columns) {
                return Ok(());
            }
        }
    }

    /// The bytes of one shard. Inner chunks wholly outside the array (after `valid`) are left out.
    fn shard(
        &self,
        layout: &Layout,
        shard: &[u64],
        valid: &[u64],
        content: &[u8],
        item: usize,
    ) -> Result<Vec<u8>> {
        let counts: Vec<u64> = shard.iter().zip(&layout.chunk).map(|(s, c)| s / c).collect();
        let origin = vec![0u64; shard.len()];
        let mut place = vec![0u64; shard.len()];
        let mut inner = vec![0u8; layout.chunk.iter().product::<u64>() as usize * item];
        let mut assembled = ShardBytes::default();
        loop {
            let at: Vec<u64> = place.iter().zip(&layout.chunk).map(|(p, c)| p * c).collect();
            if at.iter().zip(valid).all(|(a, v)| a < v) {
                let (from, to) = (
                    block_copy::Block { origin: &origin, shape: shard },
                    block_copy::Block { origin: &at, shape: &layout.chunk },
                );
                block_copy::copy(content, from, &mut inner, to, item);
                assembled.push(Some(encoded(layout, &inner)?));
            } else {
                assembled.push(None);
            }
            if !step(&mut place, &counts) {
                return Ok(assembled.finish());
            }
        }
    }

    fn text_block(&self, layout: &Layout, k: u64, items: &[&[u8]]) -> Result<()> {
        let Some(&height) = layout.object().first() else {
            return self
                .store(&layout.key(&[]), &pack(text_bytes(items, 1)?.into(), layout.packer, 1)?);
        };
        let encoded = match &layout.shard {
            None => pack(text_bytes(items, height)?.into(), layout.packer, 1)?.into_owned(),
            Some(_) => {
                let mut assembled = ShardBytes::default();
                let inner = layout.chunk[0] as usize;
                for i in 0..height as usize / inner {
                    let part = items
                        .get(i * inner..((i + 1) * inner).min(items.len()))
                        .filter(|p| !p.is_empty());
                    let packed = part
                        .map(|p| pack(text_bytes(p, inner as u64)?.into(), layout.packer, 1))
                        .transpose()?;
                    assembled.push(packed);
                }
                assembled.finish()
            }
        };
        self.store(&layout.key(&[k]), &encoded)
    }

    pub(super) fn store(&self, key: &str, bytes: &[u8]) -> Result<()> {
        use std::io::Write;
        self.bytes.fetch_add(bytes.len() as u64, Relaxed);
        self.files.fetch_add(1, Relaxed);
        match &self.out {
            Out::Dir(dir) => {
                let mut file = dir.create(key)?;
                file.write_all(bytes)?;
                file.commit()
            }
            Out::Zip(zip) => zip.lock().unwrap_or_else(|e| e.into_inner()).add(key, bytes),
        }
    }
}

/// A shard being assembled: inner chunks one after the other, the index at the end.
#[derive(Default)]
struct ShardBytes {
    bytes: Vec<u8>,
    index: Vec<u8>,
}

impl ShardBytes {
    fn push(&mut self, inner: Option<Cow<'_, [u8]>>) {
        let (offset, len) = match inner {
            Some(inner) => {
                let offset = self.bytes.len() as u64;
                self.bytes.extend_from_slice(&inner);
                (offset, inner.len() as u64)
            }
            None => (u64::MAX, u64::MAX),
        };
        self.index.extend_from_slice(&offset.to_le_bytes());
        self.index.extend_from_slice(&len.to_le_bytes());
    }
    fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&self.index);
        self.bytes.extend_from_slice(&crc32c::crc32c(&self.index).to_le_bytes());
        self.bytes
    }
}

/// Bytes of the text of these rows.
fn text_len(part: &Chunk) -> u64 {
    match &part.values {
        Values::Var { offsets, .. } => {
            offsets.last().zip(offsets.first()).map_or(0, |(end, start)| end - start)
        }
        Values::Fixed(bytes) => bytes.len() as u64,
        Values::Nested(_) => 0,
    }
}

/// The bytes of a chunk; of codes those of their texts.
fn encoded<'a>(layout: &Layout, content: &'a [u8]) -> Result<Cow<'a, [u8]>> {
    let Some(categories) = &layout.coded else {
        return pack(content.into(), layout.packer, layout.item.unwrap_or(1));
    };
    let codes = crate::model::typed::<i32>(content);
    let bytes = categories.with(|all| {
        // -1 stands where a chunk reaches past the array.
        let text = |&code: &i32| {
            if code == -1 { Ok(&[][..]) } else { crate::model::item_of(all, i64::from(code)) }
        };
        let texts: Vec<&[u8]> = codes.iter().map(text).collect::<Result<_>>()?;
        text_bytes(&texts, texts.len() as u64)
    })?;
    Ok(Cow::Owned(pack(bytes.into(), layout.packer, 1)?.into_owned()))
}

/// numcodecs' vlen layout, filled up to `height` items.
fn text_bytes(items: &[&[u8]], height: u64) -> Result<Vec<u8>> {
    let long = || Error::refused("a chunk of text has 4 GiB or more");
    let total = items.iter().map(|i| i.len() as u64 + 4).sum::<u64>()
        + 4 * (height - items.len() as u64)
        + 4;
    let mut out = Vec::with_capacity(
        usize::try_from(total).ok().filter(|_| total <= u64::from(u32::MAX)).ok_or_else(long)?,
    );
    out.extend_from_slice(&u32::try_from(height).map_err(|_| long())?.to_le_bytes());
    for item in items {
        out.extend_from_slice(&(item.len() as u32).to_le_bytes());
        out.extend_from_slice(item);
    }
    out.resize(total as usize, 0);
    Ok(out)
}

/// Compresses one chunk.
fn pack(bytes: Cow<'_, [u8]>, packer: Packer, item: usize) -> Result<Cow<'_, [u8]>> {
    Ok(Cow::Owned(match packer {
        Packer::Plain => return Ok(bytes),
        Packer::Zstd(level) => compress::zstd(&bytes, level)?,
        Packer::Gzip(level) => compress::deflate(&bytes, Wrapper::Gzip, level)?,
        Packer::Blosc(level) => blosc::compress(&bytes, item, level)?,
    }))
}
