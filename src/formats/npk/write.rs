//! Writes a fresh store: data files by position (local) or one after the other (remote), metadata last.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::codec::store::{AsIs, METADATA, SIDE, metadata, names::Names};
use crate::error::{Context, Error, Result};
use crate::format::{Encode, Encoded, Extent, Sink, Summary, WriteOptions, WriteRows};
use crate::location::{Location, Output, OutputDir};
use crate::model::{ArrayMeta, Buf, Chunk, Plan, Values};
use crate::sidecar;

/// Files kept open while they are written.
const OPEN: usize = 64;
/// Arrays from this size on are offered to kernel copies; smaller ones are written in one call each.
const SLOT_BYTES: u64 = 1 << 20;

/// Begins a store.
pub(super) fn create(at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Box<dyn Sink>> {
    let dir = at.create_dir(options.existing, options.sync, &[METADATA])?;
    let mut names = Names::default();
    let files: Vec<String> = plan.arrays.iter().map(|a| names.give(&a.name)).collect();
    let places = Places::new(&plan.arrays, files)?;
    let local = dir.path().map(|path| Arc::new(LocalFiles::new(path.to_path_buf(), places.clone())));
    let count = plan.arrays.len();
    let remote = Remote { now: None, spools: HashMap::new(), begun: vec![false; count], written: vec![0; count] };
    Ok(Box::new(StoreSink { dir, places, local, remote, options: options.clone() }))
}

/// Where the arrays go.
#[derive(Clone)]
pub(super) struct Places(Arc<Vec<Place>>);

pub(super) struct Place {
    name: String,
    file: String,
    row_bytes: u64,
    rows: Option<u64>,
    begun: AtomicBool,
}

impl Places {
    fn new(arrays: &[ArrayMeta], files: Vec<String>) -> Result<Places> {
        let place = |(a, file): (&ArrayMeta, String)| {
            a.bytes()?;
            Ok(Place { name: a.name.clone(), file, row_bytes: a.row_bytes()?, rows: a.rows, begun: AtomicBool::new(false) })
        };
        Ok(Places(Arc::new(arrays.iter().zip(files).map(place).collect::<Result<_>>()?)))
    }
}

/// Data files in a local directory. At most a few are open at a time.
struct LocalFiles {
    dir: PathBuf,
    places: Places,
    open: Mutex<VecDeque<(usize, Arc<File>)>>,
}

impl LocalFiles {
    fn new(dir: PathBuf, places: Places) -> LocalFiles {
        LocalFiles { dir, places, open: Mutex::new(VecDeque::new()) }
    }

    fn path(&self, array: usize) -> PathBuf {
        self.dir.join(&self.places.0[array].file)
    }

    /// The array's file, made at its full size where that is known.
    fn file(&self, array: usize) -> Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((_, file)) = open.iter().find(|(a, _)| *a == array) {
            return Ok(file.clone());
        }
        let place = &self.places.0[array];
        let begun = place.begun.swap(true, Ordering::Relaxed);
        let file = OpenOptions::new().read(true).write(true).create_new(!begun).open(self.path(array))?;
        if !begun && let Some(rows) = place.rows {
            file.set_len(rows * place.row_bytes)?;
        }
        let file = Arc::new(file);
        if open.len() == OPEN {
            open.pop_front();
        }
        open.push_back((array, file.clone()));
        Ok(file)
    }

    fn write(&self, array: usize, first_row: u64, rows: u64, pieces: &[Buf]) -> Result<()> {
        let place = &self.places.0[array];
        let bytes: u64 = pieces.iter().map(|p| p.len() as u64).sum();
        if Some(bytes) != rows.checked_mul(place.row_bytes) {
            return Err(Error::failed(format!("{rows} rows of {} bytes came as {bytes} bytes", place.row_bytes)));
        }
        if first_row == 0 && place.rows == Some(rows) && !place.begun.swap(true, Ordering::Relaxed) {
            let mut file = OpenOptions::new().write(true).create_new(true).open(self.path(array))?;
            for piece in pieces {
                file.write_all(piece)?;
            }
            return Ok(());
        }
        let file = self.file(array)?;
        let mut at = first_row.checked_mul(place.row_bytes).ok_or_else(|| Error::failed("the array passes 2^64 bytes"))?;
        for piece in pieces {
            file.write_all_at(piece, at)?;
            at += piece.len() as u64;
        }
        Ok(())
    }
}

impl WriteRows for LocalFiles {
    fn write(&self, chunk: &Chunk) -> Result<()> {
        let Values::Fixed(values) = &chunk.values else {
            return Err(Error::failed("text and lists must be codes or offsets here").array(&self.places.0[chunk.array].name));
        };
        LocalFiles::write(self, chunk.array, chunk.first_row, chunk.rows, std::slice::from_ref(values))
            .at_array(&self.places.0[chunk.array].name)
    }
}

/// Remote files: the array that comes goes straight out; arrays that come in between wait in temporary files.
struct Remote {
    now: Option<(usize, Box<dyn Output>)>,
    spools: HashMap<usize, File>,
    begun: Vec<bool>,
    written: Vec<u64>,
}

struct StoreSink {
    dir: Box<dyn OutputDir>,
    places: Places,
    local: Option<Arc<LocalFiles>>,
    remote: Remote,
    options: WriteOptions,
}

impl StoreSink {
    fn append_remote(&mut self, array: usize, pieces: &[Buf]) -> Result<()> {
        let (dir, places, remote) = (&self.dir, &self.places, &mut self.remote);
        if remote.now.is_none() && !remote.begun[array] {
            remote.now = Some((array, dir.create(&places.0[array].file)?));
        }
        remote.begun[array] = true;
        let out: &mut dyn Write = match &mut remote.now {
            Some((now, out)) if *now == array => out,
            _ => match remote.spools.entry(array) {
                std::collections::hash_map::Entry::Occupied(e) => e.into_mut(),
                std::collections::hash_map::Entry::Vacant(e) => e.insert(tempfile::tempfile()?),
            },
        };
        for piece in pieces {
            out.write_all(piece)?;
            remote.written[array] += piece.len() as u64;
        }
        let place = &places.0[array];
        let whole = place.rows.is_some_and(|rows| rows.saturating_mul(place.row_bytes) <= remote.written[array]);
        if whole
            && remote.now.as_ref().is_some_and(|(now, _)| *now == array)
            && let Some((_, out)) = remote.now.take()
        {
            out.commit()?;
        }
        Ok(())
    }

    fn finish_remote(&mut self) -> Result<()> {
        if let Some((_, out)) = self.remote.now.take() {
            out.commit()?;
        }
        for (array, place) in self.places.0.iter().enumerate() {
            let spool = self.remote.spools.remove(&array);
            if self.remote.begun[array] && spool.is_none() {
                continue;
            }
            let mut out = self.dir.create(&place.file)?;
            if let Some(mut spool) = spool {
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

impl Sink for StoreSink {
    fn encoder(&self) -> Arc<dyn Encode> {
        Arc::new(AsIs)
    }
    fn append(&mut self, encoded: Encoded) -> Result<()> {
        let Ok(pieces) = encoded.payload.downcast::<Vec<Buf>>() else { return Err(Error::failed("a block of another sink")) };
        let array = encoded.array;
        let done = match &self.local {
            Some(local) if encoded.rows == 0 => local.write(array, 0, 0, &[]),
            Some(local) => local.write(array, encoded.first_row, encoded.rows, &pieces),
            None => self.append_remote(array, &pieces),
        };
        done.at_array(&self.places.0[array].name)
    }
    fn random(&self) -> Option<Arc<dyn WriteRows>> {
        self.local.clone().map(|l| l as Arc<dyn WriteRows>)
    }
    fn slots(&self, array: usize) -> Option<Vec<Extent>> {
        let place = &self.places.0[array];
        let len = place.rows?.checked_mul(place.row_bytes)?;
        if len < SLOT_BYTES {
            return None;
        }
        let file = self.local.as_ref()?.file(array).ok()?;
        Some(vec![Extent { file, offset: 0, len }])
    }
    fn finish(mut self: Box<Self>, end: &Plan) -> Result<Summary> {
        match self.local.take() {
            Some(local) => {
                for (array, place) in self.places.0.iter().enumerate() {
                    if !place.begun.load(Ordering::Relaxed) {
                        local.file(array).at_array(&place.name)?;
                    }
                }
            }
            None => self.finish_remote()?,
        }
        let files = self.places.0.iter().map(|p| p.file.as_str());
        let entries = metadata::entries(end.arrays.iter().zip(files))?;
        let attributes = self.options.attributes(end);
        let side = sidecar::describe(end, &attributes, self.options.no_metadata);
        let list = metadata::write(&entries);
        let mut last: Vec<(&str, &[u8])> = Vec::new();
        if let Some(side) = &side {
            last.push((SIDE, side));
        }
        last.push((METADATA, &list));
        let data: u64 = entries.iter().map(|e| e.bytes).sum();
        let summary = Summary {
            bytes: data + last.iter().map(|(_, b)| b.len() as u64).sum::<u64>(),
            files: (entries.len() + last.len()) as u64,
            notes: Vec::new(),
        };
        self.dir.commit(&last)?;
        Ok(summary)
    }
}
