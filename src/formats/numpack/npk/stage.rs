//! A store that is written step by step, array after array: all of it appears at once, or nothing
//! of it. What stays of a store that is changed is linked, never copied.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard};

use super::directory::Directory;
use super::lock::{self, Lock};
use super::merge::{link_store, local_store};
use super::write::{DataFile, DataFiles, LocalFiles};
use crate::error::{Error, Result, locked};
use crate::format::{Existing, Extent, Prepared, Sink, Source as _, Summary, WriteOptions, Writer};
use crate::formats::numpack::store::metadata::{self, Entry};
use crate::formats::numpack::store::names::{self, Names};
use crate::formats::numpack::store::{
    METADATA, SIDE, StoreSource, check_side, read_metadata, read_side,
};
use crate::model::{Attributes, Encoding, Plan};
use crate::sidecar;
use crate::storage::{Location, OutputDir, cleanup};

fn not_local() -> Error {
    Error::refused("a store is written array by array on a local disk only")
        .hint("write it there, then convert it to the remote place")
}

/// A store on the way. Dropped before [`Stage::commit`], it leaves nothing behind.
pub struct Stage {
    dir: Box<dyn OutputDir>,
    at: Location,
    options: WriteOptions,
    state: Arc<Mutex<State>>,
    /// The store that is changed, taken for this run alone.
    base: Option<(Location, Lock)>,
}

/// What the store has so far.
#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    /// The files of each stored array, below the store.
    files: HashMap<String, Vec<String>>,
    side: Option<Vec<u8>>,
    /// The arrays in order, each with the names of its stored ones. Nested arrays are listed as
    /// their parts.
    flat: Vec<StagedArray>,
    /// The parts of nested arrays.
    nested: HashMap<String, Vec<String>>,
    names: Names,
}

struct StagedArray {
    name: String,
    stored: Vec<String>,
}

impl Stage {
    /// Begins a store that is not there yet, or takes the place of another.
    ///
    /// # Errors
    /// Exists; a place that cannot be written to. Remote places are refused.
    pub fn create(at: &Location, options: &WriteOptions) -> Result<Stage> {
        at.local_path().ok_or_else(not_local)?;
        let dir = at.create_dir(options.existing, options.sync, &[METADATA])?;
        Stage::new(dir, options, State::default(), None)
    }

    /// Begins the changes of a store.
    ///
    /// # Errors
    /// No store; one that another run is changing; a disk that knows no hard links.
    pub fn edit(at: &Location, options: &WriteOptions) -> Result<Stage> {
        let path = local_store(at, "changed")?;
        let (store, lock) = lock::take(at)?;
        let files = Directory::open(&store)?;
        let memory_bytes = options.resources.memory_bytes();
        let old = StoreSource::open(files.clone(), "npk", false, memory_bytes)?;
        lock::settle(&store, &lock, &files, old.stored())?;
        let mut state = State {
            entries: read_metadata(files.as_ref())?.entries,
            side: read_side(files.as_ref(), memory_bytes)?,
            ..State::default()
        };
        state.entries.iter().for_each(|e| state.names.take(&e.data_file));
        for (meta, parts) in old.logical_arrays() {
            let stored = parts.indices().map(|i| old.stored()[i].name.clone()).collect();
            state.flat.push(StagedArray { name: meta.name.clone(), stored });
        }
        for apart in &old.plan().nested {
            let parts = apart.parts.arrays().into_iter().map(str::to_string).collect();
            state.nested.insert(apart.name.clone(), parts);
        }
        for stored in old.stored() {
            let mut all = vec![stored.data_file.clone()];
            all.extend(stored.pieces.iter().map(|p| p.path.clone()));
            all.extend(names::bitmap(&stored.name).filter(|_| stored.bitmap.is_some()));
            all.sort();
            all.dedup();
            state.files.insert(stored.name.clone(), all);
        }
        let dir = at.create_dir(Existing::Replace, options.sync, &[METADATA])?;
        let left = HashSet::from([METADATA.to_string(), SIDE.to_string()]);
        link_store(path, dir.as_ref(), &left)?;
        Stage::new(dir, options, state, Some((store, lock)))
    }

    fn new(
        dir: Box<dyn OutputDir>,
        options: &WriteOptions,
        state: State,
        base: Option<(Location, Lock)>,
    ) -> Result<Stage> {
        let path = dir.path().ok_or_else(not_local)?;
        let at = Location::local(path).hold()?;
        let state = Arc::new(Mutex::new(state));
        Ok(Stage { dir, at, options: options.clone(), state, base })
    }

    /// The path of a file of the store on the way.
    fn path(&self, file: &str) -> std::path::PathBuf {
        self.dir.path().map(|dir| dir.join(file)).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Whether there is an array of this name.
    pub fn has(&self, name: &str) -> bool {
        let state = self.state();
        state.nested.contains_key(name) || state.flat.iter().any(|f| f.name == name)
    }

    /// An output for some more arrays, for [`crate::pipe::run`].
    ///
    /// # Errors
    /// Exists, where the store has an array of such a name.
    pub fn add(&self, plan: &Plan) -> Result<Prepared> {
        let (state, mut errors) = (self.state(), Vec::new());
        let mut taken: HashSet<&str> = state.entries.iter().map(|e| e.name.as_str()).collect();
        taken.extend(state.flat.iter().map(|f| f.name.as_str()));
        taken.extend(state.nested.keys().map(String::as_str));
        let mut given = HashSet::new();
        let twice = plan.arrays.iter().map(|a| a.name.as_str()).find(|name| !given.insert(*name));
        let twice = twice.map(|name| Error::usage("two arrays have this name").array(name));
        errors.extend(twice);
        let kept = plan.encoded.iter().map(|k| &k.meta);
        for meta in plan.arrays.iter().chain(kept) {
            let name = meta.name.as_str();
            if name.is_empty() {
                errors.push(Error::usage("an array needs a name"));
            } else if taken.contains(name) {
                errors.push(Error::exists("the store has an array of this name").array(name));
            }
        }
        Error::all(errors)?;
        let (at, options, state) = (self.at.clone(), self.options.clone(), self.state.clone());
        Ok(Box::new(move |plan: &Plan| {
            let names = &mut locked(&state).names;
            let places = plan.arrays.iter().map(|a| DataFile::fresh(a, names.give(&a.name)));
            let places = DataFiles(Arc::new(places.collect::<Result<Vec<_>>>()?));
            let files = Arc::new(LocalFiles::new(at.clone(), at, places));
            Ok(Box::new(StageSink { files, options, state: state.clone() }) as Box<dyn Sink>)
        }))
    }

    /// Leaves an array out. Its files go with the commit.
    ///
    /// # Errors
    /// Missing.
    pub fn remove(&self, name: &str) -> Result<()> {
        let mut state = self.state();
        let parts = state.parts_of(name)?;
        let stored: HashSet<String> =
            state.flat.extract_if(.., |f| parts.contains(&f.name)).flat_map(|f| f.stored).collect();
        state.nested.remove(name);
        for gone in &stored {
            for file in state.files.remove(gone).unwrap_or_default() {
                let _adding = cleanup::enter();
                match fs::remove_file(self.path(&file)) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
                    _ => {}
                }
                // The folder of an array's segments goes with the last of them.
                if let Some((folder, _)) = file.rsplit_once('/') {
                    let _ = fs::remove_dir(self.path(folder));
                }
            }
        }
        state.entries.retain(|e| !stored.contains(&e.name));
        let order = state.order();
        state.side = sidecar::merged(state.side.as_deref(), &order, None, &[])?;
        Ok(())
    }

    /// Gives an array another name. Returns false where its parts have names of their own that only
    /// writing it anew changes.
    ///
    /// # Errors
    /// Missing; exists.
    pub fn rename(&self, old: &str, new: &str) -> Result<bool> {
        if self.has(new) || new.is_empty() {
            return Err(match new.is_empty() {
                true => Error::usage("an array needs a name"),
                false => Error::exists("the store has an array of this name").array(new),
            });
        }
        let mut state = self.state();
        state.parts_of(old)?;
        let Some(at) = state.flat.iter().position(|f| f.name == old) else { return Ok(false) };
        let renamed = |stored: &str| Some(format!("{new}{}", stored.strip_prefix(old)?));
        let mut changes = HashMap::from([(old.to_string(), new.to_string())]);
        for stored in &state.flat[at].stored {
            let plain = state.files.get(stored).is_some_and(|files| files.len() == 1);
            let Some(to) = renamed(stored).filter(|_| plain) else { return Ok(false) };
            if state.entries.iter().any(|e| e.name == to) {
                return Ok(false);
            }
            changes.insert(stored.clone(), to);
        }
        for stored in std::mem::take(&mut state.flat[at].stored) {
            let to = changes[&stored].clone();
            let file = state.names.give(&to);
            let from = state.files.remove(&stored).unwrap_or_default();
            for from in from {
                let _adding = cleanup::enter();
                fs::rename(self.path(&from), self.path(&file))?;
            }
            for entry in state.entries.iter_mut().filter(|e| e.name == stored) {
                entry.name.clone_from(&to);
                entry.data_file.clone_from(&file);
            }
            state.files.insert(to.clone(), vec![file]);
            state.flat[at].stored.push(to);
        }
        state.flat[at].name = new.to_string();
        state.side = sidecar::renamed(state.side.as_deref(), &changes)?;
        Ok(true)
    }

    /// Sets attributes of the whole, beside those that there are.
    ///
    /// # Errors
    /// A side file that cannot be read.
    pub fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        let mut state = self.state();
        let order = state.order();
        state.side = sidecar::with_attributes(state.side.as_deref(), &order, attributes)?;
        Ok(())
    }

    /// The store appears.
    ///
    /// # Errors
    /// Disk full; the store was replaced meanwhile.
    pub fn commit(self) -> Result<()> {
        if let Some((store, _)) = &self.base {
            lock::check(store)?;
        }
        let state = std::mem::take(&mut *self.state());
        check_side(state.side.as_deref())?;
        let list = metadata::write(&state.entries);
        let mut last: Vec<(&str, &[u8])> = Vec::new();
        if let Some(side) = &state.side {
            last.push((SIDE, side));
        }
        last.push((METADATA, &list));
        self.dir.commit(&last)
    }
}

impl State {
    /// The names in `flat` that an array is made of.
    fn parts_of(&self, name: &str) -> Result<Vec<String>> {
        match self.nested.get(name) {
            Some(parts) => Ok(parts.clone()),
            None if self.flat.iter().any(|f| f.name == name) => Ok(vec![name.to_string()]),
            None => Err(Error::missing("the store has no array of this name").array(name)),
        }
    }
    fn order(&self) -> Vec<String> {
        self.flat.iter().map(|f| f.name.clone()).collect()
    }
    /// Takes in the arrays of a plan that are written.
    fn took(&mut self, end: &Plan, entries: Vec<Entry>, side: Option<Vec<u8>>) -> Result<()> {
        let order = self.order();
        for name in sidecar::logical_names(end) {
            let nested = end.encoded.iter().find_map(|k| match &k.encoding {
                Encoding::Nested(parts) if k.meta.name == name => Some(parts.arrays()),
                _ => None,
            });
            let names = nested.clone().unwrap_or_else(|| vec![name.as_str()]);
            for part in &names {
                let kept = end.encoded.iter().find(|k| k.meta.name == **part);
                let mut stored: Vec<String> =
                    kept.map_or_else(|| vec![part.to_string()], |k| vec![k.values.clone()]);
                stored.extend(kept.iter().flat_map(|k| k.companions()).map(str::to_string));
                self.flat.push(StagedArray { name: part.to_string(), stored });
            }
            if nested.is_some() {
                let names = names.into_iter().map(str::to_string).collect();
                self.nested.insert(name.clone(), names);
            }
        }
        let added = self.order().split_off(order.len());
        self.side = sidecar::merged(self.side.as_deref(), &order, side.as_deref(), &added)?;
        for entry in entries {
            self.files.insert(entry.name.clone(), vec![entry.data_file.clone()]);
            self.entries.push(entry);
        }
        Ok(())
    }
}

/// Some arrays of a store on the way.
struct StageSink {
    files: Arc<LocalFiles>,
    options: WriteOptions,
    state: Arc<Mutex<State>>,
}

impl Sink for StageSink {
    fn writer(&self) -> Writer {
        Writer::Positional(self.files.clone())
    }
    fn slots(&self, array: usize) -> Option<Vec<Extent>> {
        self.files.slot(array)
    }
    fn finish(self: Box<Self>, end: &Plan) -> Result<Summary> {
        self.files.make_empty()?;
        let files = self.files.places.0.iter().map(|p| p.file.as_str());
        let entries = metadata::entries(end.arrays.iter().zip(files))?;
        let (bytes, files) = (entries.iter().map(|e| e.bytes).sum(), entries.len() as u64);
        let attributes = self.options.attributes(end);
        let side = sidecar::describe(end, attributes, self.options.no_metadata);
        locked(&self.state).took(end, entries, side)?;
        Ok(Summary { bytes, files, notes: Vec::new() })
    }
}
