//! Writing: chunks are encoded on the caller's threads and stored one object each; the metadata
//! comes last.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use super::consolidate;
use super::layout::{Layout, Rules};
use super::netcdf;
use super::store::MARKERS;
use super::target::Target;
use crate::array::{block_copy, items};
use crate::codec::checksum::Checksum;
use crate::error::{Error, Result, locked};
use crate::format::{Existing, Sink, Summary, WriteOptions, WriteRows};
use crate::model::{Categories, Chunk, Plan, Values, codes_of, item_of, typed};
use crate::sidecar::{self, Marks};
use crate::storage::Location;

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
        keeps_fill: version == 3 || plan.format == "zarr",
    };
    for meta in &plan.arrays {
        match Layout::new(meta, &rules) {
            Ok(layout) => all.push(layout),
            Err(e) => errors.push(if e.kind() == crate::error::ErrorKind::Usage {
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

/// Cuts rows into objects, and stores them.
pub struct Writer {
    target: Target,
    layouts: Vec<Layout>,
    pending: Mutex<HashMap<(usize, u64), Pending>>,
    memory_bytes: u64,
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
    let target = if is_zip(at) {
        Target::zip(at.create_file(options.existing, options.sync)?)
    } else {
        if options.existing != Existing::Replace {
            other_version(at, version)?;
        }
        Target::dir(at.create_dir(options.existing, options.sync, &MARKERS)?)
    };
    let writer = Writer::new(target, layouts, options.resources.memory_bytes());
    Ok(ZarrSink { writer: Arc::new(writer), options: options.clone() })
}

/// Whether a hierarchy of this name is one file.
pub fn is_zip(at: &Location) -> bool {
    at.file_name().to_ascii_lowercase().ends_with(".zip")
}

/// Two versions in one store hide each other's nodes.
fn other_version(at: &Location, version: u8) -> Result<()> {
    let is_there =
        |name: &str| matches!(at.join(name).kind(), Ok(crate::storage::EntryKind::File { .. }));
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
    fn writer(&self) -> crate::format::Writer {
        crate::format::Writer::Positional(self.writer.clone())
    }
    fn finish(self: Box<Self>, end: &Plan) -> Result<Summary> {
        let ZarrSink { writer, options } = *self;
        let (target, mut layouts) = Writer::into_whole(writer)?;
        let notes = add_late_marks(&mut layouts, end);
        let mut summary = consolidate::commit(target, &layouts, end, &options)?;
        summary.notes.extend(notes);
        Ok(summary)
    }
}

/// Marks that only the values have told: the categories of dictionaries.
/// Gives notes of those that are too large.
pub fn add_late_marks(layouts: &mut [Layout], end: &Plan) -> Vec<String> {
    let (late, notes) = sidecar::dictionary_marks(end);
    for layout in layouts {
        late.get(&layout.path).into_iter().for_each(|mark| layout.add_attributes(mark));
    }
    notes
}

impl Writer {
    /// Of arrays with these layouts.
    pub fn new(target: Target, layouts: Vec<Layout>, memory_bytes: u64) -> Writer {
        Writer { target, layouts, pending: Mutex::default(), memory_bytes }
    }

    /// What it wrote to, once all objects that were begun are whole.
    ///
    /// # Errors
    /// Internal, where rows are missing.
    pub fn into_whole(this: Arc<Writer>) -> Result<(Target, Vec<Layout>)> {
        let writer =
            Arc::try_unwrap(this).map_err(|_| Error::internal("a chunk is still being written"))?;
        if let Some(((array, k), _)) = locked(&writer.pending).iter().next() {
            return Err(Error::internal(format!("some rows of chunk {k} are missing"))
                .array(&writer.layouts[*array].path));
        }
        Ok((writer.target, writer.layouts))
    }
}

impl WriteRows for Writer {
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
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
            if count == end - k * height {
                self.whole(layout, k, &part)?;
            } else {
                self.collect(layout, k, end - k * height, &part)?;
            }
            at += count;
        }
        Ok(())
    }
}

/// What the codes of text stand for.
#[derive(Clone, Copy)]
enum Texts<'a> {
    Categories(&'a Categories),
    Items(&'a [&'a [u8]]),
}

/// The code of no text: it stands where a chunk reaches past the array.
const NO_TEXT: i32 = -1;
const NO_TEXT_BYTE: u8 = 0xFF;

impl Texts<'_> {
    /// The bytes of a chunk of these codes.
    fn encode(self, codes: &[i32]) -> Result<Vec<u8>> {
        match self {
            Texts::Categories(categories) => categories.with(|all| {
                let text = |&code: &i32| match code {
                    NO_TEXT => Ok(&[][..]),
                    _ => item_of(all, i64::from(code)),
                };
                let texts: Vec<&[u8]> = codes.iter().map(text).collect::<Result<_>>()?;
                items::encode(texts.iter().copied(), texts.len() as u64)
            }),
            Texts::Items(all) => {
                let text = |&code: &i32| usize::try_from(code).map_or(&[][..], |code| all[code]);
                items::encode(codes.iter().map(text), codes.len() as u64)
            }
        }
    }
}

impl Writer {
    /// Keeps a part of an object's rows until the others have come.
    fn collect(&self, layout: &Layout, k: u64, whole: u64, part: &Chunk) -> Result<()> {
        let key = (part.array, k);
        let height = layout.object().first().copied().unwrap_or(1);
        let inside = part.first_row - k * height;
        let done = {
            let mut pending = locked(&self.pending);
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
            Some(Parts::Fixed(bytes)) => self.coded(layout, k, whole, &bytes),
            Some(Parts::Var(all)) => {
                let items: Vec<&[u8]> = all.values().flatten().map(Vec::as_slice).collect();
                self.text(layout, k, &items)
            }
            None => Ok(()),
        }
    }

    /// Encodes and stores a row of objects.
    fn whole(&self, layout: &Layout, k: u64, part: &Chunk) -> Result<()> {
        match &part.values {
            Values::Fixed(bytes) => self.coded(layout, k, part.rows, bytes),
            _ => {
                self.fits(layout, text_len(part), part.rows)?;
                let items: Vec<&[u8]> = (0..part.rows as usize).map(|r| part.text(r)).collect();
                self.text(layout, k, &items)
            }
        }
    }

    /// As [`Writer::whole`], of text of one dimension: its codes are its rows.
    fn text(&self, layout: &Layout, k: u64, items: &[&[u8]]) -> Result<()> {
        let rows = i32::try_from(items.len());
        let rows = rows.map_err(|_| Error::refused("a chunk of text has 2^31 items or more"))?;
        let codes: Vec<i32> = (0..rows).collect();
        let codes = bytemuck::cast_slice(&codes);
        self.objects(layout, k, items.len() as u64, codes, Some(Texts::Items(items)))
    }

    /// As [`Writer::whole`], of items of a fixed size, or of codes of text.
    fn coded(&self, layout: &Layout, k: u64, rows: u64, bytes: &[u8]) -> Result<()> {
        let Some(categories) = &layout.coded else {
            return self.objects(layout, k, rows, bytes, None);
        };
        let codes: Vec<i32> = codes_of(bytes, layout.codes)
            .into_iter()
            .map(|code| i32::try_from(code).unwrap_or(i32::MAX))
            .collect();
        let texts = Some(Texts::Categories(categories));
        self.objects(layout, k, rows, bytemuck::cast_slice(&codes), texts)
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

    /// Cuts rows into objects, encodes and stores them.
    fn objects(
        &self,
        layout: &Layout,
        k: u64,
        rows: u64,
        bytes: &[u8],
        texts: Option<Texts<'_>>,
    ) -> Result<()> {
        let object = layout.object();
        let mut shape = layout.shape.clone();
        shape.iter_mut().take(1).for_each(|first| *first = rows);
        let padding = if texts.is_some() { NO_TEXT_BYTE } else { 0 };
        block_copy::split(bytes, &shape, object, layout.item, padding, |at, content| {
            let inside: Vec<u64> =
                at.iter().zip(object).zip(&shape).map(|((a, o), s)| (s - a * o).min(*o)).collect();
            let mut at = at.to_vec();
            at.iter_mut().take(1).for_each(|first| *first = k);
            let key = layout.key(&at);
            match &layout.shard {
                None => self.target.store(&key, &encoded(layout, content, texts)?),
                Some(shard) => {
                    self.target.store(&key, &shard_bytes(layout, shard, &inside, content, texts)?)
                }
            }
        })
    }
}

/// The bytes of a shard: its inner chunks one after the other, and their index. Those wholly
/// outside the array are left out: it ends at `inside`.
fn shard_bytes(
    layout: &Layout,
    shard: &[u64],
    inside: &[u64],
    content: &[u8],
    texts: Option<Texts<'_>>,
) -> Result<Vec<u8>> {
    let (mut bytes, mut index) = (Vec::new(), Vec::new());
    block_copy::split(content, shard, &layout.chunk, layout.item, 0, |at, inner| {
        let is_inside = at.iter().zip(&layout.chunk).zip(inside).all(|((a, c), n)| a * c < *n);
        let place = match is_inside {
            true => {
                let start = bytes.len();
                bytes.extend_from_slice(&encoded(layout, inner, texts)?);
                [start as u64, (bytes.len() - start) as u64]
            }
            false => [u64::MAX; 2],
        };
        index.extend(place.iter().flat_map(|n| n.to_le_bytes()));
        Ok::<(), Error>(())
    })?;
    let sum = Checksum::Crc32c.of(&index);
    bytes.extend_from_slice(&index);
    bytes.extend_from_slice(&sum.to_le_bytes());
    Ok(bytes)
}

/// The bytes of a chunk.
fn encoded<'a>(
    layout: &Layout,
    content: &'a [u8],
    texts: Option<Texts<'_>>,
) -> Result<Cow<'a, [u8]>> {
    let bytes = match texts {
        None => content.into(),
        Some(texts) => texts.encode(&typed::<i32>(content))?.into(),
    };
    Ok(layout.codecs.encode(bytes, false)?.0)
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
