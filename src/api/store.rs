//! Stores: read, and changed as a whole.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use arrow_array::RecordBatch;

use super::array::Array;
use super::data::Data;
use super::dataset::{Dataset, OpenOptions, open};
use super::flags::Flags;
use super::memory::{Lender, Memory, MemorySource};
use super::room;
use super::text_of;
use crate::console::{Console, Level, Listener, Told};
use crate::conversion::fitted;
use crate::error::{Context, Error, Result};
use crate::format::{Existing, Format as _, WriteOptions};
use crate::formats::columnar::batches::arrays_of;
use crate::formats::numpack::npk::{self, Npk, stage::Stage};
use crate::model::{Attributes, Plan};
use crate::pipe::{self, Cancel, Flow, Settings};
use crate::resolve::names;
use crate::resolve::policy::Policy;
use crate::resolve::table::{self, Layout};
use crate::storage::Location;

/// How stores are written.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    existing: Existing,
    write: WriteOptions,
    flags: Flags,
    cancel: Option<Cancel>,
}

impl StoreOptions {
    /// A store that exists is an error; all cores, 256 MiB.
    pub fn new() -> StoreOptions {
        StoreOptions::default()
    }
    /// A store that exists is replaced (`drop_if_exists=True`).
    pub fn replace(self) -> StoreOptions {
        StoreOptions { existing: Existing::Replace, ..self }
    }
    /// Attributes of the whole.
    pub fn metadata(mut self, key: &str, value: &str) -> StoreOptions {
        self.write.metadata.push((key.to_string(), value.to_string()));
        self
    }
    /// The store is on the disk when [`Store::commit`] returns.
    pub fn sync(mut self) -> StoreOptions {
        self.write.sync = true;
        self
    }
    /// Worker threads; one a core, unless given.
    pub fn jobs(mut self, threads: usize) -> StoreOptions {
        self.flags.set("jobs", &threads.to_string());
        self
    }
    /// Ends writing before its time, with [`crate::ErrorKind::Cancelled`].
    pub fn cancel(self, cancel: &Cancel) -> StoreOptions {
        StoreOptions { cancel: Some(cancel.clone()), ..self }
    }
}

/// A NumPack store on a local disk: its arrays, and changes that all appear at once.
///
/// What [`Store::write`], [`Store::replace`], [`Store::remove`] and [`Store::rename`] do is seen when
/// [`Store::commit`] returns, all of it or nothing; dropped before that, the store is as it was.
/// Meanwhile reading gives what was there before. Arrays that are mapped stay as they are, whatever
/// becomes of the store.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("model.npk");
/// use ndarray::{Array2, arr1, s};
///
/// // from_torch, from_numpy: views of any order and strides; C order is written.
/// let weights = Array2::<f32>::from_shape_fn((4, 3), |(i, j)| (3 * i + j) as f32);
/// let mut store = npk::Store::create(&path, &npk::StoreOptions::new())?;
/// store.write("weights", &weights)?;
/// store.write("transposed", &weights.t())?;
/// store.write("reversed", &weights.slice(s![..;-1, 1..]))?;
/// store.write("raw", npk::Data::bytes(npk::Dtype::Bf16, &[2], &[0, 0x3f, 0x80, 0x3f])?)?;
///
/// // from_arrow: text, nulls and times are kept in npk.json.
/// let names: arrow_array::ArrayRef =
///     std::sync::Arc::new(arrow_array::StringArray::from(vec![Some("a"), None, Some("b")]));
/// store.write("names", &names)?;
/// store.commit()?;
///
/// // to_torch, to_arrow: views of the store's own files.
/// let again = npk::Store::open(&path)?;
/// let array = again.array("weights")?;
/// assert!(!array.is_copy());
/// assert_eq!(array.view::<f32>()?, weights.view().into_dyn());
/// assert_eq!(again.array("transposed")?.view::<f32>()?, weights.t().into_dyn());
/// assert_eq!(&again.array("names")?.to_arrow()?, &names);
///
/// // Changes: all of them at once.
/// let mut store = npk::Store::open(&path)?;
/// store.replace("weights", &arr1(&[1i64, 2, 3]))?;
/// store.rename("transposed", "columns")?;
/// store.remove("raw")?;
/// store.commit()?;
/// let names: Vec<&str> = store.names().collect();
/// assert_eq!(names, ["columns", "reversed", "names", "weights"]);
///
/// // Rows behind those that are there.
/// store.append([("weights", npk::Data::from(&arr1(&[4i64, 5])))])?;
/// assert_eq!(store.array("weights")?.view::<i64>()?.len(), 5);
/// # Ok(())
/// # }
/// ```
///
/// What is read maps files: see [`Dataset`].
pub struct Store {
    path: PathBuf,
    at: Location,
    options: StoreOptions,
    settings: Settings,
    /// The store as it is on disk, where there is one: opened when it is asked for.
    now: OnceLock<Result<Option<Dataset>>>,
    stage: Option<Stage>,
    messages: Vec<(Level, String)>,
}

impl Store {
    /// Opens a store; reads its metadata only.
    ///
    /// # Errors
    /// Missing, or not a store.
    pub fn open(path: impl AsRef<Path>) -> Result<Store> {
        Store::open_with(path, &StoreOptions::new())
    }

    /// As [`Store::open`], with what changes of it should do.
    ///
    /// # Errors
    /// As above.
    pub fn open_with(path: impl AsRef<Path>, options: &StoreOptions) -> Result<Store> {
        let path = path.as_ref();
        let now = OnceLock::from(Ok(Some(reading(path)?)));
        Ok(Store { now, ..Store::new(path, options)? })
    }

    /// Begins a store. Nothing is seen of it before [`Store::commit`].
    ///
    /// # Errors
    /// Exists; a place that cannot be written to.
    pub fn create(path: impl AsRef<Path>, options: &StoreOptions) -> Result<Store> {
        let path = path.as_ref();
        let mut store = Store::new(path, options)?;
        let write = WriteOptions { existing: options.existing, ..options.write.clone() };
        let stage = Stage::create(&store.at, &write).at_file(&store.at.display())?;
        store.stage = Some(stage);
        Ok(store)
    }

    fn new(path: &Path, options: &StoreOptions) -> Result<Store> {
        let args = options.flags.read()?;
        let settings = room::settings(&args)?.with_cancel(options.cancel.clone());
        let (path, options) = (path.to_path_buf(), options.clone());
        let at = crate::open::output_location(&text_of(&path)?, &args)?;
        let (now, messages) = (OnceLock::from(Ok(None)), Vec::new());
        Ok(Store { path, at, options, settings, now, stage: None, messages })
    }

    fn now(&self) -> &Result<Option<Dataset>> {
        self.now.get_or_init(|| reading(&self.path).map(Some))
    }

    /// The store as it is on disk, with all that [`Dataset`] can do; none before the first commit, and
    /// where it cannot be read any more: [`Store::array`] tells why.
    pub fn dataset(&self) -> Option<&Dataset> {
        self.now().as_ref().ok().and_then(Option::as_ref)
    }
    /// Names, types, shapes and attributes of the arrays on disk.
    pub fn plan(&self) -> &Plan {
        static NONE: std::sync::LazyLock<Plan> = std::sync::LazyLock::new(Plan::default);
        self.dataset().map_or(&*NONE, Dataset::plan)
    }
    /// The names of the arrays on disk, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.plan().arrays.iter().map(|array| array.name.as_str())
    }
    /// Attributes of the whole.
    pub fn metadata(&self) -> &Attributes {
        &self.plan().attributes
    }
    /// An array on disk, as [`Dataset::array`] gives it.
    ///
    /// # Errors
    /// Missing; damage.
    pub fn array(&self, name: &str) -> Result<Array> {
        match self.now() {
            Ok(Some(now)) => now.array(name),
            Err(e) => Err(e.clone()),
            Ok(None) => {
                let error = Error::missing("the store is not committed yet").array(name);
                Err(error.file(self.at.display()))
            }
        }
    }
    /// Notes on what was written so far: text became codes.
    pub fn messages(&self) -> &[(Level, String)] {
        &self.messages
    }

    /// Writes an array.
    ///
    /// # Errors
    /// Exists, where there is one of this name; refused, where a store cannot hold it.
    pub fn write<'a>(&mut self, name: &str, data: impl Into<Data<'a>>) -> Result<()> {
        let lender = Lender::new();
        let source = data.into().source(name, &lender).at_file(&self.at.display())?;
        self.add(Flow::from(Box::new(source)))
    }

    /// Writes several arrays, all of them or none: on all threads together, which is faster than one
    /// after the other where they are many.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_all<'a, N: AsRef<str>>(
        &mut self,
        arrays: impl IntoIterator<Item = (N, Data<'a>)>,
    ) -> Result<()> {
        let lender = Lender::new();
        let sources = arrays.into_iter().map(|(name, data)| data.source(name.as_ref(), &lender));
        let sources = sources.collect::<Result<Vec<_>>>().at_file(&self.at.display())?;
        if sources.is_empty() {
            return Ok(());
        }
        self.add(Flow::from(Box::new(MemorySource::joined(sources))))
    }

    /// Writes an array in the place of one of its name, if there is one.
    ///
    /// # Errors
    /// As [`Store::write`]; then the old one stays.
    pub fn replace<'a>(&mut self, name: &str, data: impl Into<Data<'a>>) -> Result<()> {
        let lender = Lender::new();
        let source = data.into().source(name, &lender).at_file(&self.at.display())?;
        if self.stage()?.has(name) {
            self.remove(name)?;
        }
        self.add(Flow::from(Box::new(source)))
    }

    /// Writes a table: its columns as arrays `name/column` (`column`, where the name is empty), or one
    /// matrix `name`, as `layout` says. Types, nulls, texts, nested columns and schema metadata are
    /// kept in `npk.json`.
    ///
    /// # Errors
    /// As [`Store::write`]; usage, where the batches differ in their schema.
    pub fn write_table(
        &mut self,
        name: &str,
        batches: &[RecordBatch],
        layout: Layout,
    ) -> Result<()> {
        let Some(first) = batches.first() else {
            return Err(Error::usage("a table needs at least one batch, if only an empty one"));
        };
        if batches.iter().any(|b| b.schema().fields() != first.schema().fields()) {
            return Err(Error::usage("the batches of a table have one schema"));
        }
        let (plan, chunks) = arrays_of(&first.schema(), batches).at_file(&self.at.display())?;
        let source = MemorySource::new(plan, chunks.into_iter().map(Memory::Chunks).collect());
        let flow = Flow::from(Box::new(source));
        let stem = if name.is_empty() { "data" } else { name };
        let (step, _) = table::import(flow.plan(), layout, stem, None)?;
        let flow = match step {
            Some(step) => flow.then(step),
            None if name.is_empty() => flow,
            None => {
                let plan = names::below(flow.plan(), name);
                flow.relabel(plan)
            }
        };
        self.add(flow)
    }

    /// Leaves an array out.
    ///
    /// # Errors
    /// Missing.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        let at = self.at.display();
        self.stage()?.remove(name).at_file(&at)
    }

    /// Gives an array another name. Its bytes stay where they are.
    ///
    /// # Errors
    /// Missing; exists.
    pub fn rename(&mut self, old: &str, new: &str) -> Result<()> {
        let at = self.at.display();
        if self.stage()?.rename(old, new).at_file(&at)? {
            return Ok(());
        }
        // What is in several parts is written anew.
        let array = match self.now().as_ref().map_err(Error::clone)? {
            Some(now) if now.info(old).is_some() => now.array(old)?,
            _ => {
                return Err(Error::refused("this array cannot be renamed before it is committed")
                    .array(old)
                    .file(at));
            }
        };
        self.write(new, array)?;
        self.remove(old)
    }

    /// Sets attributes of the whole, beside those that there are.
    ///
    /// # Errors
    /// A side file that cannot be read.
    pub fn set_metadata(&mut self, attributes: &Attributes) -> Result<()> {
        let at = self.at.display();
        self.stage()?.set_attributes(attributes).at_file(&at)
    }

    /// Writes the store anew without the rows that were deleted, each array in one piece, at once;
    /// it takes no [`Store::commit`]. Returns false where there is nothing to gain.
    ///
    /// # Errors
    /// Usage, where other changes are not committed; damage; disk full.
    pub fn compact(&mut self) -> Result<bool> {
        if self.stage.is_some() {
            return Err(Error::usage("other changes are not committed yet")
                .file(self.at.display())
                .hint("commit() them first"));
        }
        let args = self.options.flags.read()?;
        let read = crate::open::read_options(&args)?;
        let memory_bytes = read.resources.memory_bytes();
        if !npk::is_fragmented(&self.at, memory_bytes).at_file(&self.at.display())? {
            return Ok(false);
        }
        let flow = crate::open::open(&self.at, Some("npk"), &read, Console::to(&Unheard))?.flow;
        let flow = self.fitted(flow)?;
        // All arrays take the places of those that are there; what else lies in the directory stays.
        let existing = Existing::Merge { replace: true };
        let write = WriteOptions { existing, ..self.options.write.clone() };
        let prepared = Npk.prepare(&self.at, flow.plan(), &write).at_file(&self.at.display())?;
        self.now = OnceLock::new();
        let done = pipe::run(flow, npk::capabilities(), prepared, &self.settings());
        done.map(|_| true)
    }

    /// Adds rows behind those of arrays that are there: of all of them, or of none. This is done at
    /// once, in place, and takes no [`Store::commit`].
    ///
    /// # Errors
    /// Usage, where other changes are not committed; missing; refused, where the rows do not fit;
    /// columns of a table must grow alike.
    pub fn append<'a, N: AsRef<str>>(
        &mut self,
        rows: impl IntoIterator<Item = (N, Data<'a>)>,
    ) -> Result<()> {
        if self.stage.is_some() {
            return Err(Error::usage("other changes are not committed yet")
                .file(self.at.display())
                .hint("commit() them first"));
        }
        let lender = Lender::new();
        let mut parts = Vec::new();
        for (name, data) in rows {
            let source = data.source(name.as_ref(), &lender).at_file(&self.at.display())?;
            let label = name.as_ref().to_string();
            parts.push(pipe::join::JoinedSource { source: Box::new(source), label });
        }
        let on_duplicate = crate::format::OnDuplicate::Error;
        let flow = Flow::from(Box::new(pipe::join::Union::new(parts, on_duplicate)?));
        let flow = self.fitted(flow)?;
        let write = WriteOptions { existing: Existing::Append, ..self.options.write.clone() };
        let prepared = Npk.prepare(&self.at, flow.plan(), &write).at_file(&self.at.display())?;
        self.now = OnceLock::new();
        let done = pipe::run(flow, npk::capabilities(), prepared, &self.settings());
        done.map(|_| ())
    }

    /// All changes appear.
    ///
    /// # Errors
    /// Disk full; the store was changed by another run meanwhile. Then it is as it was.
    pub fn commit(&mut self) -> Result<()> {
        if let Some(stage) = self.stage.take() {
            self.settings.check()?;
            stage.commit().at_file(&self.at.display())?;
        }
        self.now = OnceLock::new();
        Ok(())
    }

    /// Forgets the changes so far: the store stays as it is, and others may change it.
    pub fn discard(&mut self) {
        self.stage = None;
    }

    /// The changes so far.
    fn stage(&mut self) -> Result<&Stage> {
        if self.stage.is_none() {
            let write = self.options.write.clone();
            self.stage = Some(Stage::edit(&self.at, &write).at_file(&self.at.display())?);
        }
        self.stage.as_ref().ok_or_else(|| Error::internal("changes that did not begin"))
    }

    fn settings(&self) -> Settings {
        self.settings.with_cancel(self.options.cancel.clone()).with_output(&self.at.display())
    }

    fn fitted(&mut self, flow: Flow) -> Result<Flow> {
        let policy = Policy { sink: "npk", ..Policy::default() };
        let (flow, notes) = fitted(flow, npk::capabilities(), &policy, &self.settings)
            .at_file(&self.at.display())?;
        self.messages.extend(notes.into_iter().map(|note| (Level::Note, note)));
        Ok(flow)
    }

    fn add(&mut self, flow: Flow) -> Result<()> {
        let flow = self.fitted(flow)?;
        let at = self.at.display();
        let prepared = self.stage()?.add(flow.plan()).at_file(&at)?;
        pipe::run(flow, npk::capabilities(), prepared, &self.settings()).at_file(&at)?;
        Ok(())
    }
}

fn reading(path: &Path) -> Result<Dataset> {
    open(path, &OpenOptions::new().format("npk"))
}

/// Nobody: what is said of a store was said when it was opened.
struct Unheard;

impl Listener for Unheard {
    fn hear(&self, _level: Level, _text: &str) {}
    fn output(&self, _told: Told) {}
}
