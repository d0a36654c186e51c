//! Writes a fresh store: data files by position (local) or one after the other (remote), metadata
//! last.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::merge_base::MergeBase;
use crate::array::raw::{RawEncode, fixed_bytes, write_all_at};
use crate::error::{Context, Error, Result, locked};
use crate::format::{
    AppendBlocks, BlockRows, Extent, InOrder, Sink, Summary, WriteOptions, WriteRows, Writer,
};
use crate::formats::numpack::store::metadata::{self};
use crate::formats::numpack::store::{METADATA, SIDE, check_side, names::Names};
use crate::model::{ArrayMeta, Buf, Chunk, Plan};
use crate::sidecar;
use crate::storage::{self, Location, Output, OutputDir, cleanup, temporary};

/// Files kept open while they are written.
const OPEN: usize = 16;
/// Arrays from this size on are offered to kernel copies; smaller ones are written in one call
/// each.
const SLOT_BYTES: u64 = 1 << 20;

/// Begins a store.
pub(super) fn create(at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Box<dyn Sink>> {
    let dir = at.create_dir(options.existing, options.sync, &[METADATA])?;
    let mut names = Names::default();
    let files: Vec<String> = plan.arrays.iter().map(|a| names.give(&a.name)).collect();
    into(dir, plan, files, options, None)
}

/// A sink into a directory that appears on commit, beside what stays of a store.
pub(super) fn into(
    dir: Box<dyn OutputDir>,
    plan: &Plan,
    files: Vec<String>,
    options: &WriteOptions,
    base: Option<MergeBase>,
) -> Result<Box<dyn Sink>> {
    let mut places = Vec::with_capacity(plan.arrays.len());
    for (a, file) in plan.arrays.iter().zip(files) {
        places.push(DataFile::fresh(a, file)?);
    }
    let places = DataFiles(Arc::new(places));
    let local = dir.path().map(|path| Location::local(path).hold()).transpose()?;
    let store = NewStore { dir, places: places.clone(), options: options.clone(), base };
    if let Some(fresh) = local {
        let files = Arc::new(LocalFiles::new(fresh.clone(), fresh, places));
        return Ok(Box::new(StoreFiles { store, files }));
    }
    let count = plan.arrays.len();
    let remote = RemoteFiles {
        store,
        now: None,
        spools: HashMap::new(),
        begun: vec![false; count],
        written: vec![0; count],
    };
    Ok(InOrder::sink(RawEncode, remote))
}

/// Where the arrays go.
#[derive(Clone)]
pub(super) struct DataFiles(pub(super) Arc<Vec<DataFile>>);

pub(super) struct DataFile {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) row_bytes: u64,
    /// Rows to come.
    pub(super) rows: Option<u64>,
    /// Where they begin in the file.
    pub(super) base: u64,
    /// Whether the file is one that the store has already.
    pub(super) grows: bool,
    /// Whether the file is there already.
    pub(super) begun: AtomicBool,
    /// Whether it has its full size already, as far as that is known.
    sized: AtomicBool,
}

impl DataFile {
    /// A file of its own.
    pub(super) fn fresh(a: &ArrayMeta, file: String) -> Result<DataFile> {
        a.bytes()?;
        Ok(DataFile::new(&a.name, file, a.row_bytes()?, a.rows, 0))
    }
    /// Rows from `base` on in a file that is not there yet.
    pub(super) fn new(
        name: &str,
        file: String,
        row_bytes: u64,
        rows: Option<u64>,
        base: u64,
    ) -> DataFile {
        let (begun, sized) = (AtomicBool::new(false), AtomicBool::new(false));
        DataFile { name: name.into(), file, row_bytes, rows, base, grows: false, begun, sized }
    }
    /// In a file that is there: `grows` where that is one of the store itself.
    pub(super) fn begun(self, grows: bool) -> DataFile {
        DataFile { begun: AtomicBool::new(true), grows, ..self }
    }
}

/// Data files in a local directory. At most a few are open at a time.
pub(super) struct LocalFiles {
    /// The directory of new files.
    fresh: Location,
    /// The store of those that grow.
    store: Location,
    pub(super) places: DataFiles,
    open: Mutex<VecDeque<(usize, Arc<File>)>>,
}

impl LocalFiles {
    /// New files are made in `fresh`; those that grow are in `store`.
    pub(super) fn new(fresh: Location, store: Location, places: DataFiles) -> LocalFiles {
        LocalFiles { fresh, store, places, open: Mutex::new(VecDeque::new()) }
    }

    /// Never through a link: what is written is a file of the store itself.
    fn opened(&self, place: &DataFile, begun: bool) -> Result<File> {
        let directory = if place.grows { &self.store } else { &self.fresh };
        directory.open_own(&place.file, !begun)
    }

    /// The array's file, made at its full size where that is known.
    pub(super) fn file(&self, array: usize) -> Result<Arc<File>> {
        let _adding = cleanup::enter();
        let mut open = locked(&self.open);
        if let Some((_, file)) = open.iter().find(|(a, _)| *a == array) {
            return Ok(file.clone());
        }
        let place = &self.places.0[array];
        let file = self.opened(place, place.begun.load(Ordering::Relaxed))?;
        place.begun.store(true, Ordering::Relaxed);
        if !place.sized.swap(true, Ordering::Relaxed)
            && let Some(rows) = place.rows
        {
            storage::set_size(&file, place.base, rows * place.row_bytes)?;
        }
        let file = Arc::new(file);
        if open.len() == OPEN {
            open.pop_front();
        }
        open.push_back((array, file.clone()));
        Ok(file)
    }

    pub(super) fn put(
        &self,
        array: usize,
        first_row: u64,
        rows: u64,
        pieces: &[Buf],
    ) -> Result<()> {
        let place = &self.places.0[array];
        let bytes: u64 = pieces.iter().map(|p| p.len() as u64).sum();
        if Some(bytes) != rows.checked_mul(place.row_bytes) {
            return Err(Error::internal(format!(
                "{rows} rows of {} bytes were delivered as {bytes} bytes",
                place.row_bytes
            )));
        }
        let _adding = cleanup::enter();
        if first_row == 0
            && place.base == 0
            && place.rows == Some(rows)
            && !place.begun.swap(true, Ordering::Relaxed)
        {
            let mut file = self.opened(place, false)?;
            for piece in pieces {
                file.write_all(piece)?;
            }
            return Ok(());
        }
        let file = self.file(array)?;
        let at = first_row.checked_mul(place.row_bytes).and_then(|at| at.checked_add(place.base));
        let mut at = at.ok_or_else(|| Error::failed("the array would exceed 2^64 bytes"))?;
        for piece in pieces {
            write_all_at(&file, piece, at)?;
            at += piece.len() as u64;
        }
        Ok(())
    }
}

impl LocalFiles {
    /// Makes the files of arrays that have no rows.
    pub(super) fn make_empty(&self) -> Result<()> {
        for (array, place) in self.places.0.iter().enumerate() {
            if !place.begun.load(Ordering::Relaxed) {
                self.file(array).at_array(&place.name)?;
            }
        }
        Ok(())
    }
    /// Where the kernel may copy a large array to.
    pub(super) fn slot(&self, array: usize) -> Option<Vec<Extent>> {
        let place = &self.places.0[array];
        let len = place.rows?.checked_mul(place.row_bytes).filter(|&len| len >= SLOT_BYTES)?;
        Some(vec![Extent { file: self.file(array).ok()?, offset: place.base, len }])
    }
}

impl WriteRows for LocalFiles {
    fn write(&self, chunk: &Chunk) -> Result<()> {
        let name = &self.places.0[chunk.array].name;
        let values = fixed_bytes(chunk).at_array(name)?;
        self.put(chunk.array, chunk.first_row, chunk.rows, std::slice::from_ref(values))
            .at_array(name)
    }
}

/// Remote files: the current array is sent at once; rows of other arrays wait in temporary files.
struct RemoteFiles {
    store: NewStore,
    now: Option<(usize, Box<dyn Output>)>,
    spools: HashMap<usize, temporary::Writer<File>>,
    begun: Vec<bool>,
    written: Vec<u64>,
}

impl RemoteFiles {
    fn put(&mut self, array: usize, pieces: &[Buf]) -> Result<()> {
        let NewStore { dir, places, .. } = &self.store;
        if self.now.is_none() && !self.begun[array] {
            self.now = Some((array, dir.create(&places.0[array].file)?));
        }
        self.begun[array] = true;
        let out: &mut dyn Write = match &mut self.now {
            Some((now, out)) if *now == array => out,
            _ => match self.spools.entry(array) {
                std::collections::hash_map::Entry::Occupied(e) => e.into_mut(),
                std::collections::hash_map::Entry::Vacant(e) => {
                    e.insert(temporary::Writer(temporary::file()?))
                }
            },
        };
        for piece in pieces {
            out.write_all(piece)?;
            self.written[array] += piece.len() as u64;
        }
        let place = &places.0[array];
        let whole = place
            .rows
            .is_some_and(|rows| rows.saturating_mul(place.row_bytes) <= self.written[array]);
        if whole
            && self.now.as_ref().is_some_and(|(now, _)| *now == array)
            && let Some((_, out)) = self.now.take()
        {
            out.commit()?;
        }
        Ok(())
    }

    /// Ends the file at work, and sends those that wait.
    fn end(&mut self) -> Result<()> {
        if let Some((_, out)) = self.now.take() {
            out.commit()?;
        }
        for (array, place) in self.store.places.0.iter().enumerate() {
            let spool = self.spools.remove(&array);
            if self.begun[array] && spool.is_none() {
                continue;
            }
            let mut out = self.store.dir.create(&place.file)?;
            if let Some(temporary::Writer(mut spool)) = spool {
                spool.rewind()?;
                let mut buffer = vec![0; 1 << 20];
                loop {
                    let n = spool.read(&mut buffer)?;
                    if n == 0 {
                        break;
                    }
                    out.write_all(&buffer[..n])?;
                }
            }
            out.commit()?;
        }
        Ok(())
    }
}

/// A store on the way.
struct NewStore {
    dir: Box<dyn OutputDir>,
    places: DataFiles,
    options: WriteOptions,
    base: Option<MergeBase>,
}

/// In a local directory, by position.
struct StoreFiles {
    store: NewStore,
    files: Arc<LocalFiles>,
}

impl Sink for StoreFiles {
    fn writer(&self) -> Writer {
        Writer::Positional(self.files.clone())
    }
    fn slots(&self, array: usize) -> Option<Vec<Extent>> {
        self.files.slot(array)
    }
    fn finish(self: Box<Self>, end: &Plan) -> Result<Summary> {
        self.files.make_empty()?;
        // No file is open any more when the directory takes its place.
        drop(self.files);
        self.store.commit(end)
    }
}

impl AppendBlocks for RemoteFiles {
    type Encoded = Vec<Buf>;
    fn append(&mut self, rows: BlockRows, encoded: Vec<Buf>) -> Result<()> {
        let name = &self.store.places.0[rows.array].name.clone();
        self.put(rows.array, &encoded).at_array(name)
    }
    fn finish(mut self, end: &Plan) -> Result<Summary> {
        self.end()?;
        self.store.commit(end)
    }
}

impl NewStore {
    /// Writes the metadata, behind the data.
    fn commit(self, end: &Plan) -> Result<Summary> {
        let files = self.places.0.iter().map(|p| p.file.as_str());
        let entries = metadata::entries(end.arrays.iter().zip(files))?;
        let (count, data) = (entries.len(), entries.iter().map(|e| e.bytes).sum::<u64>());
        let attributes = self.options.attributes(end);
        let side = sidecar::describe(end, attributes, self.options.no_metadata);
        let (entries, side) = match &self.base {
            Some(base) => base.with(entries, side, end)?,
            None => (entries, side),
        };
        check_side(side.as_deref())?;
        let list = metadata::write(&entries);
        let mut last: Vec<(&str, &[u8])> = Vec::new();
        if let Some(side) = &side {
            last.push((SIDE, side));
        }
        last.push((METADATA, &list));
        let summary = Summary {
            bytes: data + last.iter().map(|(_, b)| b.len() as u64).sum::<u64>(),
            files: (count + last.len()) as u64,
            notes: Vec::new(),
        };
        self.dir.commit(&last)?;
        Ok(summary)
    }
}
