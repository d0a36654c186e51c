//! Appends rows to the arrays of a store: behind the end of their data files, which nobody sees
//! before the metadata say so.
//!
//! Where nothing but data files grows, new metadata are renamed into place ([`commit`]). NumPack
//! loads a data file that is longer than its array, but no such file of bools; and it finds bitmaps
//! and lists of segments beside the metadata, under names that it makes up itself. Where such files
//! change, all of them change at once: a new directory of hard links to what stays, with the new
//! versions of these files, is put in the store's place. At every moment a reader, NumPack or this
//! crate, finds the old rows or the new ones.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::directory::Directory;
use super::lock::{self, Lock};
use super::merge::link_store;
use super::write::{DataFile, DataFiles, LocalFiles};
use crate::error::{Context, Error, Result};
use crate::format::{Existing, Extent, Sink, Source, Summary, WriteOptions, Writer};
use crate::formats::numpack::store::manifest::Segment;
use crate::formats::numpack::store::metadata::{self, Entry};
use crate::formats::numpack::store::names;
use crate::formats::numpack::store::{
    Files, METADATA, SIDE, StoreSource, check_side, read_metadata, read_side,
};
use crate::model::nested::Parts;
use crate::model::{Dtype, Plan};
use crate::sidecar::{self, AppendedArray};
use crate::storage::{BlobReader, Location, OutputDir, cleanup};

mod adjust;
mod commit;
mod nested;
mod places;

use adjust::{Adjust, AppendWriter};
use places::{LogicalTarget, Planned, Target, after_last_row, even_tables, plan_out};

/// How the new rows become visible.
enum Way {
    /// New metadata and a new side file are renamed into place.
    Rename,
    /// This directory is put in the store's place.
    Exchange(Box<dyn OutputDir>),
}

struct AppendSink {
    store: Location,
    files: Arc<Directory>,
    grow: Arc<AppendWriter>,
    targets: Vec<Target>,
    growing: Vec<LogicalTarget>,
    nested: Vec<(String, Parts)>,
    old: StoreSource,
    entries: Vec<Entry>,
    way: Way,
    /// Cuts the data files back.
    guard: Option<cleanup::Guard>,
    lock: Lock,
    memory_bytes: u64,
}

/// Begins an append to the store at `path`, which [`super::merge::local_store`] gave.
pub(super) fn create(
    at: &Location,
    path: &Path,
    plan: &Plan,
    options: &WriteOptions,
) -> Result<Box<dyn Sink>> {
    let (store, lock) = lock::take(at)?;
    let files = Directory::open(&store)?;
    let memory_bytes = options.resources.memory_bytes();
    let old = StoreSource::open(files.clone(), "npk", false, memory_bytes)?;
    // Rows of a dead append, of NumPack perhaps, too: it would misread what comes behind them.
    lock::settle(&store, &lock, &files, old.stored())?;
    let entries = read_metadata(files.as_ref())?.entries;
    let Planned { mut targets, mut places, mut adjust, growing, nested } = plan_out(&old, plan)?;
    for mask in growing.iter().filter_map(|g| g.old_valid) {
        let (target, place) = after_last_row(&old, mask, None)?;
        targets.push(target);
        places.push(place);
        adjust.push(Adjust::Nothing);
    }
    let changed = changed_files(&old, &targets);
    for (_, place) in targets.iter().zip(&places).filter(|(target, _)| target.is_new_file()) {
        if files.len(&place.file)?.is_some() {
            let error = Error::exists(format!("{} exists and belongs to no array", place.file));
            return Err(error.hint("move it away; `npk verify` checks the store"));
        }
    }
    let guard = undo(&store, &places);
    let (way, fresh) = if changed.is_empty() {
        (Way::Rename, store.clone())
    } else {
        let dir = at.create_dir(Existing::Replace, options.sync, &[METADATA])?;
        link_store(path, dir.as_ref(), &changed)?;
        let fresh = Location::local(dir.path().unwrap_or(Path::new("."))).hold()?;
        (Way::Exchange(dir), fresh)
    };
    let copied = |(target, place): (&Target, DataFile)| {
        if target.is_new_file() { Ok(place) } else { copied(place, &files, &fresh) }
    };
    let places = targets.iter().zip(places).map(copied).collect::<Result<Vec<DataFile>>>()?;
    let grown = LocalFiles::new(fresh, store.clone(), DataFiles(Arc::new(places)));
    let grow = Arc::new(AppendWriter { files: grown, adjust });
    let sink = AppendSink {
        store,
        files,
        grow,
        targets,
        growing,
        nested,
        old,
        entries,
        way,
        guard: Some(guard),
        lock,
        memory_bytes,
    };
    sink.begin_new_masks()?;
    Ok(Box::new(sink))
}

/// The files that NumPack reads and that cannot just grow; with metadata and side file, where there
/// are any.
fn changed_files(old: &StoreSource, targets: &[Target]) -> HashSet<String> {
    let mut changed = HashSet::new();
    for target in targets {
        let stored = target.stored.map(|s| &old.stored()[s]);
        if target.segment.is_some() || stored.is_none_or(|s| s.dtype == Dtype::Bool) {
            changed.insert(target.data_file.clone());
        }
        if let Some(stored) = stored.filter(|s| s.bitmap.is_some()) {
            changed.extend(names::bitmap(&stored.name));
        }
    }
    if !changed.is_empty() {
        changed.extend([METADATA.to_string(), SIDE.to_string()]);
    }
    changed
}

/// Cuts back what has grown, unless the append is committed; or a new directory, which has these
/// files too, is in place.
fn undo(store: &Location, places: &[DataFile]) -> cleanup::Guard {
    let cuts: Vec<(String, u64)> =
        places.iter().filter(|p| p.grows).map(|p| (p.file.clone(), p.base)).collect();
    let store = store.clone();
    cleanup::register(move || {
        commit::remove_next(&store);
        if !store.is_replaced() {
            for (file, bytes) in &cuts {
                let _ = lock::cut(&store, file, *bytes);
            }
        }
    })
}

/// A file that goes on in the new directory gets its old rows there.
fn copied(place: DataFile, files: &Directory, fresh: &Location) -> Result<DataFile> {
    if place.grows || place.base == 0 {
        return Ok(place);
    }
    let copy = || -> Result<()> {
        let _adding = cleanup::enter();
        let mut to = fresh.open_own(&place.file, true)?;
        let old = BlobReader::new(files.blob(&place.file)?);
        let done = io::copy(&mut io::Read::take(old, place.base), &mut to)?;
        if done == place.base {
            Ok(())
        } else {
            Err(Error::corrupt(format!("{} ends before its last row", place.file)))
        }
    };
    copy().at_array(&place.name)?;
    Ok(place.begun(false))
}

impl AppendSink {
    /// A mask that begins now: the rows there are hold values.
    fn begin_new_masks(&self) -> Result<()> {
        for (i, target) in self.targets.iter().enumerate() {
            if target.stored.is_none() {
                self.ones(i, 0, target.rows)?;
            }
        }
        Ok(())
    }

    fn ones(&self, array: usize, at: u64, count: u64) -> Result<()> {
        let _adding = cleanup::enter();
        let file = self.grow.files.file(array)?;
        let ones = vec![1; count.min(1 << 20) as usize];
        let mut done = 0;
        while done < count {
            let n = (count - done).min(1 << 20) as usize;
            std::os::unix::fs::FileExt::write_all_at(file.as_ref(), &ones[..n], at + done)?;
            done += n as u64;
        }
        Ok(())
    }

    /// New rows of each target.
    fn new_rows(&self, end: &Plan) -> Result<Vec<u64>> {
        let mut rows = Vec::with_capacity(self.targets.len());
        for (target, array) in self.targets.iter().zip(&end.arrays) {
            let n = array
                .rows
                .ok_or_else(|| Error::internal("the row count is not known").array(&array.name))?;
            rows.push(n.saturating_sub(target.less));
        }
        // Masks that the store has and the new rows lack.
        for growing in self.growing.iter().filter(|g| g.old_valid.is_some()) {
            rows.push(counted(growing, &rows));
        }
        Ok(rows)
    }

    /// Brings the file of a target to its length, and to the disk.
    fn end_file(&self, array: usize, new_rows: u64, summary: &mut Summary) -> Result<()> {
        let place = &self.grow.files.places.0[array];
        let bytes = new_rows.checked_mul(place.row_bytes).and_then(|b| b.checked_add(place.base));
        let bytes = bytes.ok_or_else(|| Error::failed("the array would exceed 2^64 bytes"))?;
        let _adding = cleanup::enter();
        let file = self.grow.files.file(array)?;
        if file.metadata()?.len() != bytes {
            file.set_len(bytes)?;
        }
        file.sync_data()?;
        summary.bytes += bytes - place.base;
        summary.files += 1;
        Ok(())
    }

    /// The target's new entry, and the new versions of its other files.
    fn end_target(&mut self, target: usize, new_rows: u64, changed: &mut Vec<(String, Vec<u8>)>) {
        let target = &self.targets[target];
        let (total, now) = (target.rows + new_rows, metadata::now_us());
        let Some(stored) = target.stored.map(|s| &self.old.stored()[s]) else {
            self.entries.push(Entry {
                name: target.name.clone(),
                shape: vec![total],
                data_file: target.data_file.clone(),
                modified_us: now,
                bytes: total,
                code: metadata::code(Dtype::Bool).unwrap_or(0),
                compressed: false,
            });
            return;
        };
        if let Some((manifest, file)) = &target.segment {
            let mut manifest = manifest.clone();
            if new_rows > 0 {
                manifest.segments.push(Segment {
                    file: file.clone(),
                    rows: new_rows,
                    bytes: new_rows * stored.row_bytes,
                });
            }
            changed.push((target.data_file.clone(), manifest.to_bytes()));
        }
        if let (Some(alive), Some(path)) = (&stored.bitmap, names::bitmap(&stored.name)) {
            changed.push((path, alive.extended(target.rows, new_rows)));
        }
        if new_rows > 0
            && let Some(entry) = target.stored.map(|i| &mut self.entries[i])
        {
            entry.shape[0] = total;
            entry.bytes = total * stored.row_bytes;
            entry.modified_us = now;
        }
    }

    /// What the side file now says about a logical array; nested ones have entries of another kind.
    fn grown(&self, growing: &LogicalTarget, rows: &[u64]) -> Option<AppendedArray> {
        let values = growing.values?;
        let stored = self.targets[values].stored.map(|s| &self.old.stored()[s]);
        let mut shape = stored.map(|s| s.shape.clone()).unwrap_or_default();
        if let (Some(first), Some(stored)) = (shape.first_mut(), stored) {
            *first = stored.rows_alive() + rows[values];
        }
        Some(AppendedArray {
            name: growing.name.clone(),
            dtype: stored.map_or(Dtype::U8, |s| s.dtype),
            shape,
            categories: growing.categories.clone(),
            valid: growing.new_valid.clone(),
            nulls: growing.minus,
        })
    }
}

/// The new rows of a growing array, from those of each target.
fn counted(growing: &LogicalTarget, rows: &[u64]) -> u64 {
    rows[growing.counts.array] / growing.counts.of
}

impl Sink for AppendSink {
    fn writer(&self) -> Writer {
        Writer::Positional(self.grow.clone())
    }
    fn slots(&self, array: usize) -> Option<Vec<Extent>> {
        matches!(self.grow.adjust[array], Adjust::Nothing)
            .then(|| self.grow.files.slot(array))
            .flatten()
    }

    fn finish(mut self: Box<Self>, end: &Plan) -> Result<Summary> {
        let rows = self.new_rows(end)?;
        let new_rows =
            self.growing.iter().map(|g| (g.name.as_str(), Some(counted(g, &rows)))).collect();
        even_tables(self.old.plan(), &new_rows)?;
        let mut summary = Summary::default();
        let mut changed: Vec<(String, Vec<u8>)> = Vec::new();
        for (i, &n) in rows.iter().enumerate() {
            let at = |e: Error| e.array(&self.targets[i].name);
            if i >= end.arrays.len() {
                self.ones(i, self.grow.files.places.0[i].base, n).map_err(at)?;
            }
            // A file that is not one of the store's is not there before it is written.
            let target = &self.targets[i];
            let own = target.segment.is_none() && !self.grow.files.places.0[i].grows;
            if n > 0 || target.stored.is_none() || own {
                self.end_file(i, n, &mut summary).map_err(at)?;
            }
            self.end_target(i, n, &mut changed);
        }
        let order: Vec<String> =
            self.old.logical_arrays().map(|(meta, _)| meta.name.clone()).collect();
        let changes: Vec<AppendedArray> =
            self.growing.iter().filter_map(|g| self.grown(g, &rows)).collect();
        let side = read_side(self.files.as_ref(), self.memory_bytes)?;
        let side = sidecar::grown(side.as_deref(), &order, &changes, &self.nested)?;
        check_side(side.as_deref())?;
        let metadata = metadata::write(&self.entries);
        let guard =
            self.guard.take().ok_or_else(|| Error::internal("the append was finished twice"))?;
        match self.way {
            Way::Rename => summary.notes.extend(commit::rename(
                &self.store,
                &self.lock,
                &metadata,
                side.as_deref(),
                guard,
            )?),
            Way::Exchange(dir) => {
                changed.extend(side.map(|side| (SIDE.to_string(), side)));
                changed.push((METADATA.to_string(), metadata));
                let last: Vec<(&str, &[u8])> =
                    changed.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
                lock::check(&self.store)?;
                dir.commit(&last)?;
                guard.commit(|| Ok::<(), Error>(()))?;
            }
        }
        Ok(summary)
    }
}
