//! Files of any format, opened.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use arrow_array::RecordBatch;

use super::array::{Array, Info, batch_of, joined};
use super::flags::Flags;
use super::room;
use super::text_of;
use crate::cli::ReadArgs;
use crate::console::{Console, Level, Listener, Told};
use crate::error::{Context, Error, Result, locked};
use crate::format::{Arrays, Extent, Order, ReadOptions, ReadRows, readable};
use crate::model::{ArrayMeta, Attributes, Buf, Chunk, Dtype, Plan, Values};
use crate::pipe::{self, Cancel, Flow, Settings};
use crate::resolve::table::{self, Layout};
use crate::storage::Location;

/// How to open a file: the reading options of the command, under their names there.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    flags: Flags,
    copies: bool,
    cancel: Option<Cancel>,
}

impl OpenOptions {
    /// What the command does without options.
    pub fn new() -> OpenOptions {
        OpenOptions::default()
    }
    /// A reading option of the command with its value: `option("skip-rows", "1")`.
    pub fn option(mut self, name: &str, value: impl AsRef<str>) -> OpenOptions {
        self.flags.set(name, value.as_ref());
        self
    }
    /// A reading option without a value: `switch("anon")`.
    pub fn switch(mut self, name: &str) -> OpenOptions {
        self.flags.switch(name);
        self
    }
    /// The format, where neither bytes nor name tell.
    pub fn format(self, name: &str) -> OpenOptions {
        self.option("from", name)
    }
    /// Only this group of the tree (HDF5, Zarr), or the names below it.
    pub fn group(self, path: &str) -> OpenOptions {
        self.option("group", path)
    }
    /// Memory for what is on its way; what is asked for as a whole is held beside it.
    pub fn memory_limit(self, bytes: u64) -> OpenOptions {
        self.option("memory-limit", bytes.to_string())
    }
    /// Worker threads; one a core, unless given.
    pub fn jobs(self, threads: usize) -> OpenOptions {
        self.option("jobs", threads.to_string())
    }
    /// Every array is copied, none mapped: for files that others truncate or write into.
    pub fn copies(self) -> OpenOptions {
        OpenOptions { copies: true, ..self }
    }
    /// Ends reading before its time, with [`crate::ErrorKind::Cancelled`].
    pub fn cancel(self, cancel: &Cancel) -> OpenOptions {
        OpenOptions { cancel: Some(cancel.clone()), ..self }
    }
}

/// An opened file or store of any format: names, metadata, and its arrays one by one.
///
/// # Maps
/// Where an array lies in a local file as it lies in memory, it is a map of that file and no copy
/// ([`Array::is_copy`]): the pages are private to this process, and read when they are touched. While
/// it is used, the file must not be truncated (as with every map, reading what was cut off gets the
/// program killed) or written into; [`OpenOptions::copies`] does without maps. Whatever this crate does
/// to a store leaves the old rows where they are. Where a file was replaced since it was opened, arrays
/// that were not asked for before may be gone: that is an error, and never an array of the new file.
pub struct Dataset {
    at: Location,
    args: ReadArgs,
    read: ReadOptions,
    settings: Settings,
    copies: bool,
    is_table: bool,
    plan: Plan,
    places: HashMap<String, usize>,
    access: Mutex<Access>,
    messages: Vec<(Level, String)>,
}

/// How rows are read.
enum Access {
    /// Any, at any time.
    Random(Arc<dyn ReadRows>),
    /// From the start, opened again for each array.
    Again,
}

/// Opens a file, a folder or a URL of any format; reads its metadata only (of CSV and TXT: the file).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("model.safetensors");
/// # let mut store = npk::Store::create(folder.path().join("m.npk"), &npk::StoreOptions::new())?;
/// # store.write("layer.weight", &ndarray::arr2(&[[1f32, 2., 3.], [4., 5., 6.]]))?;
/// # store.write("layer.bias", &ndarray::arr1(&[0.5f32, 0.25]))?;
/// # store.commit()?;
/// # npk::convert(&[folder.path().join("m.npk")], &path, &npk::Options::new())?;
/// let file = npk::open(&path, &npk::OpenOptions::new())?;
///
/// // get_safetensors_metadata: names, types and shapes, nothing is read.
/// let info = file.info("layer.weight").ok_or("no such array")?;
/// assert_eq!((info.type_name().as_str(), info.shape()), ("float32", vec![2, 3]));
/// println!("{:?}", file.metadata());
///
/// // iter_safetensors: one array in memory at a time.
/// for array in file.iter() {
///     let array = array?;
///     println!("{}: {:?}", array.name(), array.shape());
/// }
///
/// // One array by its name: a view of the file itself.
/// let weight = file.array("layer.weight")?;
/// assert!(!weight.is_copy());
/// assert_eq!(weight.view::<f32>()?[[1, 2]], 6.0);
///
/// // Some of its rows.
/// assert_eq!(file.rows("layer.weight", 1..2)?.view::<f32>()?.shape(), [1, 3]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Missing, not recognised, refused, corrupt; usage for options that do not fit.
pub fn open(source: impl AsRef<Path>, options: &OpenOptions) -> Result<Dataset> {
    let text = text_of(source.as_ref())?;
    if text == "-" {
        return Err(Error::usage("stdin is the command's: give a file or a URL"));
    }
    let args = options.flags.read()?;
    let settings = room::settings(&args)?.with_cancel(options.cancel.clone());
    let read = crate::open::read_options(&args)?.within(&settings.resources);
    let heard = Heard::default();
    let at = crate::open::input_location(&text, &args)?;
    let opened = crate::open::open(&at, args.from.as_deref(), &read, Console::to(&heard))?;
    let is_table = opened.format.spec().writes.is_some_and(|w| w.arrays == Arrays::Table);
    let plan = opened.flow.plan().clone();
    let mut places = HashMap::with_capacity(plan.arrays.len());
    for (i, array) in plan.arrays.iter().enumerate() {
        places.entry(array.name.clone()).or_insert(i);
    }
    let access = random(opened.flow)?.unwrap_or(Access::Again);
    let mut messages = heard.0.into_inner().unwrap_or_else(|e| e.into_inner());
    messages.extend(plan.notes.iter().map(|note| (Level::Note, note.clone())));
    let (copies, access) = (options.copies, Mutex::new(access));
    Ok(Dataset { at, args, read, settings, copies, is_table, plan, places, access, messages })
}

/// Random access to all arrays that can be read, where the source has it.
fn random(flow: Flow) -> Result<Option<Access>> {
    let source = flow.into_source();
    let arrays = &source.plan().arrays;
    let whole: Vec<usize> =
        (0..arrays.len()).filter(|&i| arrays[i].details.error.is_none()).collect();
    Ok(source.select(&whole, Order::ArrayByArray)?.random().map(Access::Random))
}

#[derive(Default)]
struct Heard(Mutex<Vec<(Level, String)>>);

impl Listener for Heard {
    fn hear(&self, level: Level, text: &str) {
        if level > Level::Detail {
            locked(&self.0).push((level, text.to_string()));
        }
    }
    fn output(&self, _told: Told) {}
}

impl Dataset {
    /// The names of the arrays, in the file's order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.plan.arrays.iter().map(|array| array.name.as_str())
    }
    /// How many arrays there are.
    pub fn len(&self) -> usize {
        self.plan.arrays.len()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.plan.arrays.is_empty()
    }
    /// The format's name: `safetensors`.
    pub fn format(&self) -> &'static str {
        self.plan.format
    }
    /// What is known of an array before it is read.
    pub fn info(&self, name: &str) -> Option<Info> {
        self.places.get(name).map(|&i| Info(self.plan.arrays[i].clone()))
    }
    /// Attributes of the whole: `__metadata__` of safetensors, the root group's of HDF5 and Zarr.
    pub fn metadata(&self) -> &Attributes {
        &self.plan.attributes
    }
    /// Names, types, tables and attributes, as the formats themselves see them.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
    /// What the command would print about it: notes and warnings.
    pub fn messages(&self) -> &[(Level, String)] {
        &self.messages
    }

    /// An array's values: mapped without a copy, where the file holds them as memory would; else read
    /// by all threads.
    ///
    /// # Errors
    /// Missing; corrupt; what the array's own header has shown.
    pub fn array(&self, name: &str) -> Result<Array> {
        self.at_index(self.index(name)?)
    }
    /// An array as a map of its file; none where its values take a copy. Nothing is read.
    ///
    /// # Errors
    /// As [`Dataset::array`].
    pub fn map(&self, name: &str) -> Result<Option<Array>> {
        let index = self.index(name)?;
        let mapped = self.mapped(index);
        self.named(index, mapped)
    }
    /// Some rows of an array. Only these are read.
    ///
    /// # Errors
    /// As [`Dataset::array`]; usage for rows that it does not have.
    pub fn rows(&self, name: &str, rows: Range<u64>) -> Result<Array> {
        let index = self.index(name)?;
        let meta = &self.plan.arrays[index];
        let all = meta.rows.unwrap_or(u64::MAX);
        if meta.scalar || rows.start > rows.end || rows.end > all {
            let error = Error::usage(format!("it has {all} rows, not {rows:?}"));
            return self.named(index, Err(error));
        }
        let read = match self.mapped(index) {
            Ok(Some(array)) => array.slice(rows.start as usize..rows.end as usize),
            Ok(None) => self.read(index, Some(rows)),
            Err(e) => Err(e),
        };
        self.named(index, read)
    }
    /// Every array, one at a time: what was given before may be dropped.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Result<Array>> {
        (0..self.len()).map(|i| self.at_index(i))
    }

    /// Several arrays (all, where no names are given), as [`Dataset::array`] gives each; but small ones
    /// are copied, by all threads together: a map costs more than so few bytes.
    ///
    /// # Errors
    /// As [`Dataset::array`].
    pub fn arrays(&self, names: &[&str]) -> Result<Vec<Array>> {
        const SMALL_BYTES: u64 = 16 << 10;
        const TOGETHER: usize = 64;
        let chosen = self.indices(names)?;
        let at_random = matches!(&*self.access(), Access::Random(_));
        let is_small = |meta: &ArrayMeta| {
            let plain = !meta.logical.is_var() && !meta.nulls && readable(meta).is_ok();
            plain && matches!(meta.bytes(), Ok(Some(bytes)) if bytes <= SMALL_BYTES)
        };
        let mut places: Vec<usize> = (0..chosen.len()).collect();
        places.retain(|&k| at_random && is_small(&self.plan.arrays[chosen[k]]));
        let found: Mutex<Vec<Option<Array>>> = Mutex::new(vec![None; chosen.len()]);
        let copy = |places: &[usize]| {
            let read = |&k: &usize| self.named(chosen[k], self.read(chosen[k], None));
            let read = places.iter().map(read).collect::<Result<Vec<_>>>()?;
            let mut found = locked(&found);
            places.iter().zip(read).for_each(|(&k, array)| found[k] = Some(array));
            Ok(())
        };
        let tasks = places.chunks(TOGETHER).map(|part| (part.len() as u64 * SMALL_BYTES, part));
        match places.len() <= TOGETHER {
            true => copy(&places)?,
            false => pipe::parallel(&self.settings, tasks, &copy)?,
        }
        let found = found.into_inner().unwrap_or_else(|e| e.into_inner());
        let all = found.into_iter().zip(chosen);
        all.map(|(array, i)| array.map_or_else(|| self.at_index(i), Ok)).collect()
    }

    /// Arrays (all, where no names are given) as the columns of one table, as a conversion to Parquet
    /// has them: the recorded table, a matrix split into its columns, else arrays of as many rows.
    ///
    /// # Errors
    /// Refused: arrays that make no table, or that Arrow lacks.
    pub fn table(&self, names: &[&str]) -> Result<RecordBatch> {
        let chosen = self.indices(names)?;
        let all = crate::resolve::Step::choose(&self.plan, &chosen);
        let step = table::export(&all.plan, Layout::Auto, usize::MAX, None)
            .map_err(|e| e.file(self.at.display()))?;
        let plain = step.recipes.iter().all(|recipe| recipe.ops.is_empty());
        let mut arrays = Vec::with_capacity(step.plan.arrays.len());
        if plain {
            for recipe in &step.recipes {
                arrays.push(self.at_index(chosen[recipe.input])?);
            }
        } else {
            let metas = step.plan.arrays.clone();
            let flow = self.reopened()?.choose(&chosen).then(step.clone());
            let every: Vec<usize> = (0..metas.len()).collect();
            let reader = pipe::with_random(flow, &every, &self.settings)?.into_reader();
            for (i, meta) in metas.iter().enumerate() {
                let chunk = self.collect(&reader, i, meta, 0..meta.rows.unwrap_or(0))?;
                arrays.push(Array::new(meta.clone(), chunk, true)?);
            }
        }
        batch_of(&step.plan, arrays).map_err(|e| e.file(self.at.display()))
    }

    fn index(&self, name: &str) -> Result<usize> {
        let found = self.places.get(name).copied();
        found.ok_or_else(|| {
            let error = Error::missing("there is no array of this name").array(name);
            let near: Vec<&str> = self.names().take(8).collect();
            let more = if self.len() > near.len() { ", …" } else { "" };
            let error = error.file(self.at.display());
            error.hint(format!("there are: {}{more}", near.join(", ")))
        })
    }

    /// Of these names, or of all arrays where there are none.
    fn indices(&self, names: &[&str]) -> Result<Vec<usize>> {
        match names {
            [] => Ok((0..self.len()).collect()),
            names => names.iter().map(|name| self.index(name)).collect(),
        }
    }

    fn named<T>(&self, index: usize, result: Result<T>) -> Result<T> {
        result.at_array(&self.plan.arrays[index].name).at_file(&self.at.display())
    }

    fn at_index(&self, index: usize) -> Result<Array> {
        let read = match self.mapped(index) {
            Ok(Some(array)) => Ok(array),
            Ok(None) => self.read(index, None),
            Err(e) => Err(e),
        };
        self.named(index, read)
    }

    fn access(&self) -> MutexGuard<'_, Access> {
        locked(&self.access)
    }

    fn reopened(&self) -> Result<Flow> {
        let from = self.args.from.as_deref();
        Ok(crate::open::open(&self.at, from, &self.read, Console::SILENT)?.flow)
    }

    /// The array as a map of its file, where it is there as in memory.
    fn mapped(&self, index: usize) -> Result<Option<Array>> {
        let meta = &self.plan.arrays[index];
        readable(meta)?;
        if self.copies || meta.logical.is_var() || meta.nulls {
            return Ok(None);
        }
        let rows = meta.rows.unwrap_or(0);
        let bytes = match meta.bytes()? {
            Some(0) => Some(Buf::from_vec(Vec::<u128>::new())),
            Some(bytes) => {
                let extents = match &*self.access() {
                    Access::Random(reader) => reader.extents(index),
                    Access::Again => None,
                };
                match extents.as_deref() {
                    Some([extent]) if extent.len == bytes => map_extent(extent, meta.dtype)?,
                    _ => None,
                }
            }
            None => None,
        };
        let Some(bytes) = bytes else { return Ok(None) };
        Array::new(meta.clone(), Chunk::fixed(0, 0, rows, bytes), false).map(Some)
    }

    /// Rows (all, where none are named) as a copy.
    fn read(&self, index: usize, rows: Option<Range<u64>>) -> Result<Array> {
        let meta = &self.plan.arrays[index];
        let reader = match &*self.access() {
            Access::Random(reader) => Some(reader.clone()),
            Access::Again => None,
        };
        let reader = match reader {
            // All columns of a text are read together, once.
            None if self.is_table => Some(self.spooled()?),
            reader => reader,
        };
        let chunk = match reader {
            Some(reader) => {
                let rows = rows.unwrap_or(0..meta.rows.unwrap_or(0));
                self.collect(&reader, index, meta, rows)?
            }
            None => {
                let rows = rows.unwrap_or(0..u64::MAX);
                let mut chunks = Vec::new();
                let flow = self.reopened()?.choose(&[index]);
                let each = &mut |chunk: Chunk| {
                    let start = rows.start.max(chunk.first_row);
                    let end = rows.end.min(chunk.first_row + chunk.rows);
                    if start < end {
                        let first = chunk.first_row;
                        chunks.push(chunk.slice(start - first, end - first));
                    }
                    Ok(())
                };
                pipe::drain(flow, Order::Any, each, &self.settings)?;
                joined(meta, chunks)?
            }
        };
        Array::new(meta.clone(), whole(meta, chunk), true)
    }

    /// Random access to all columns of a source that gives them only in order.
    fn spooled(&self) -> Result<Arc<dyn ReadRows>> {
        let flow = self.reopened()?;
        let arrays = &flow.plan().arrays;
        let good: Vec<usize> =
            (0..arrays.len()).filter(|&i| arrays[i].details.error.is_none()).collect();
        let reader = pipe::with_random(flow, &good, &self.settings)?.into_reader();
        *self.access() = Access::Random(reader.clone());
        Ok(reader)
    }

    /// Reads rows, on all threads where they are many.
    fn collect(
        &self,
        reader: &Arc<dyn ReadRows>,
        index: usize,
        meta: &ArrayMeta,
        rows: Range<u64>,
    ) -> Result<Chunk> {
        let row_bytes = meta.row_bytes()?;
        let piece = self.settings.piece_bytes();
        let plain = !meta.logical.is_var() && !meta.nulls;
        if plain && row_bytes == 0 {
            // However many: there is nothing to read.
            let nothing = Buf::from_vec(Vec::<u128>::new());
            return Ok(Chunk::fixed(0, 0, rows.end.saturating_sub(rows.start), nothing));
        }
        let mut pieces = Vec::new();
        let mut row = rows.start;
        while row < rows.end {
            let found = if plain { None } else { reader.piece(index, row, piece) };
            let end = match found {
                Some(found) => found.end.clamp(row + 1, rows.end),
                None => pipe::piece_end(
                    row,
                    rows.end,
                    row_bytes,
                    piece,
                    |_| u64::MAX,
                    |r| reader.next_boundary(index, r),
                ),
            };
            pieces.push(row..end);
            row = end;
        }
        if plain {
            return room::filled(reader, index, row_bytes, rows, pieces, &self.settings);
        }
        let parts: Mutex<Vec<Chunk>> = Mutex::default();
        let one = |rows: Range<u64>| {
            reader.read(index, rows, &mut |chunk| {
                locked(&parts).push(chunk);
                Ok(())
            })
        };
        room::each(pieces, row_bytes.max(8), &self.settings, &one)?;
        let mut parts = parts.into_inner().unwrap_or_else(|e| e.into_inner());
        parts.sort_by_key(|chunk| chunk.first_row);
        joined(meta, parts)
    }
}

/// An array without rows has values, too.
fn whole(meta: &ArrayMeta, mut chunk: Chunk) -> Chunk {
    if let (0, Values::Fixed(bytes)) = (chunk.rows, &chunk.values)
        && bytes.is_empty()
        && meta.logical.is_var()
    {
        chunk.values = Values::Var { offsets: vec![0], values: bytes.clone() };
    }
    chunk
}

/// A map of the extent; none where its elements are not aligned there.
fn map_extent(extent: &Extent, dtype: Dtype) -> Result<Option<Buf>> {
    let align = match dtype {
        Dtype::C32 => 2,
        Dtype::C64 => 4,
        Dtype::C128 => 8,
        other => other.item_bytes() as usize,
    };
    if !extent.offset.is_multiple_of(align as u64) {
        return Ok(None);
    }
    let end = extent.offset.checked_add(extent.len);
    let length = extent.file.metadata().map_err(Error::reading)?.len();
    if end.is_none_or(|end| end > length) {
        return Err(Error::corrupt(format!(
            "the file has {length} bytes, the array is {} bytes from byte {} on",
            extent.len, extent.offset
        )));
    }
    room::map_private(&extent.file, extent.offset, extent.len)
}
