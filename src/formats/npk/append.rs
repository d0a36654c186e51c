//! Appends rows to the arrays of a store: behind the end of their data files (or in a new segment), then bitmaps,
//! manifests, side file and metadata in place at once. Until then every reader sees the old rows.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::journal::{self, Journal};
use super::merge::{local_store, read_side};
use super::write::{LocalFiles, Places};
use crate::codec::store::manifest::Segment;
use crate::codec::store::metadata::{self, Entry};
use crate::codec::store::names;
use crate::codec::store::{AsIs, METADATA, SIDE, StoreSource};
use crate::error::{Context, Error, Result};
use crate::format::{Encode, Encoded, Extent, Sink, Source, Summary, WriteOptions, WriteRows};
use crate::location::{Location, cleanup};
use crate::model::{Buf, Dtype, Plan};
use crate::sidecar::{self, Grown};

mod adjust;
mod places;

use adjust::{Adjust, Grow};
use places::{Growing, Target, behind, even_tables, plan_out};

struct AppendSink {
    store: PathBuf,
    grow: Arc<Grow>,
    targets: Vec<Target>,
    growing: Vec<Growing>,
    old: StoreSource,
    entries: Vec<Entry>,
    journal: Option<Journal>,
    guard: Option<cleanup::Guard>,
    _lock: journal::Lock,
}

/// Begins an append.
pub(super) fn create(at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Box<dyn Sink>> {
    let _ = options;
    let store = local_store(at, "appended to")?.to_path_buf();
    let lock = journal::lock(&store)?;
    journal::settle(&store)?;
    let old = StoreSource::open(super::files(at)?, "npk", false)?;
    let entries = metadata::parse(&fs::read(store.join(METADATA)).map_err(Error::reading)?)?;
    let (mut targets, mut places, mut adjust, growing) = plan_out(&old, plan)?;
    for stored in growing.iter().filter_map(|g| g.old_valid).map(|i| &old.stored()[i]) {
        let (target, place) = behind(&old, stored, None)?;
        targets.push(target);
        places.push(place);
        adjust.push(Adjust::Nothing);
    }
    // What is cut back, or removed, if this run does not end well.
    let (mut cut, mut remove) = (Vec::new(), Vec::new());
    for (target, place) in targets.iter().zip(&places) {
        if target.stored.is_some() && target.segment.is_none() {
            cut.push((place.file.clone(), place.base));
        } else {
            remove.push(place.file.clone());
        }
        if target.segment.is_some() {
            remove.push(target.manifest.clone());
        }
    }
    for file in &remove {
        if fs::symlink_metadata(store.join(file)).is_ok() {
            return Err(Error::exists(format!("{file} exists and belongs to no array")).hint("move it away; `npk verify` checks the store"));
        }
    }
    for (file, bytes) in &cut {
        // Rows of a dead append of somebody else: NumPack would misread what comes behind them.
        journal::cut(&store.join(file), *bytes)?;
    }
    let undo = store.clone();
    let journal = Journal::begin(&store, cut, remove)?;
    let guard = cleanup::register(move || {
        let _ = journal::settle(&undo);
    });
    for target in &targets {
        if let Some((_, file)) = &target.segment
            && let Some(parent) = store.join(file).parent()
        {
            fs::create_dir_all(parent)?;
        }
    }
    let files = LocalFiles::new(store.clone(), Places(Arc::new(places)));
    let sink = AppendSink {
        grow: Arc::new(Grow { files, adjust }),
        store,
        targets,
        growing,
        old,
        entries,
        journal: Some(journal),
        guard: Some(guard),
        _lock: lock,
    };
    sink.begin_new_masks()?;
    Ok(Box::new(sink))
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
            let n = array.rows.ok_or_else(|| Error::internal("the row count is not known").array(&array.name))?;
            rows.push(n.saturating_sub(target.less));
        }
        // Masks that the store has and the new rows lack.
        for growing in self.growing.iter().filter(|g| g.old_valid.is_some()) {
            rows.push(rows[growing_values(growing, end)]);
        }
        Ok(rows)
    }
}

/// The target that counts the logical array's rows: its offsets, where it has some, else its values.
fn growing_values(growing: &Growing, end: &Plan) -> usize {
    let kept = end.kept.iter().find(|k| k.meta.name == growing.name);
    let offsets = kept.and_then(|k| k.offsets.as_deref());
    offsets.and_then(|o| end.position(o)).unwrap_or(growing.values)
}

impl Sink for AppendSink {
    fn encoder(&self) -> Arc<dyn Encode> {
        Arc::new(AsIs)
    }
    fn append(&mut self, encoded: Encoded) -> Result<()> {
        let Ok(pieces) = encoded.payload.downcast::<Vec<Buf>>() else {
            return Err(Error::internal("a block of another writer"));
        };
        if encoded.rows == 0 {
            return Ok(());
        }
        self.grow.put(encoded.array, encoded.first_row, encoded.rows, *pieces).at_array(&self.targets[encoded.array].name)
    }
    fn random(&self) -> Option<Arc<dyn WriteRows>> {
        Some(self.grow.clone())
    }
    fn slots(&self, array: usize) -> Option<Vec<Extent>> {
        matches!(self.grow.adjust[array], Adjust::Nothing).then(|| self.grow.files.slot(array)).flatten()
    }

    fn finish(mut self: Box<Self>, end: &Plan) -> Result<Summary> {
        let rows = self.new_rows(end)?;
        let new_rows = self.growing.iter().map(|g| (g.name.as_str(), Some(rows[growing_values(g, end)]))).collect();
        even_tables(self.old.plan(), &new_rows)?;
        let mut summary = Summary::default();
        let mut small: Vec<(String, Vec<u8>)> = Vec::new();
        let mut bitmaps: Vec<(String, Vec<u8>)> = Vec::new();
        let mut gone = Vec::new();
        let now = metadata::now_us();
        for (i, target) in self.targets.iter().enumerate() {
            let place = &self.grow.files.places.0[i];
            let (n, at) = (rows[i], |e: Error| e.array(&target.name));
            if i >= end.arrays.len() {
                self.ones(i, place.base, n).map_err(at)?;
            }
            if n > 0 || target.stored.is_none() {
                let bytes = n.checked_mul(place.row_bytes).and_then(|b| b.checked_add(place.base));
                let bytes = bytes.ok_or_else(|| at(Error::failed("the array would exceed 2^64 bytes")))?;
                let file = self.grow.files.file(i).map_err(at)?;
                if file.metadata()?.len() != bytes {
                    file.set_len(bytes)?;
                }
                file.sync_data()?;
                summary.bytes += bytes - place.base;
                summary.files += 1;
            }
            let total = target.rows + n;
            let Some(stored) = target.stored.map(|s| &self.old.stored()[s]) else {
                let code = metadata::code(Dtype::Bool).unwrap_or(0);
                self.entries.push(Entry {
                    name: target.name.clone(),
                    shape: vec![total],
                    data_file: target.data_file.clone(),
                    modified_us: now,
                    bytes: total,
                    code,
                    compressed: false,
                });
                continue;
            };
            if n == 0 {
                continue;
            }
            if let Some((manifest, file)) = &target.segment {
                let mut manifest = manifest.clone();
                manifest.segments.push(Segment { file: file.clone(), rows: n, bytes: n * stored.row_bytes });
                small.push((target.manifest.clone(), manifest.to_bytes()));
                gone.push(target.data_file.clone());
            }
            if let (Some(alive), Some(path)) = (&stored.bitmap, names::bitmap(&stored.name)) {
                bitmaps.push((path, alive.extended(target.rows, n)));
            }
            if let Some(entry) = self.entries.iter_mut().find(|e| e.name == target.name) {
                entry.shape[0] = total;
                if target.segment.is_some() {
                    entry.data_file = target.manifest.clone();
                }
                entry.bytes = total * stored.row_bytes;
                entry.modified_us = now;
            }
        }
        let mut order: Vec<String> = Vec::new();
        for folded in self.old.folded() {
            order.push(folded.meta.name.clone());
        }
        let changes: Vec<Grown> = self.growing.iter().map(|g| self.grown(g, &rows)).collect();
        let side = sidecar::grown(read_side(&self.store)?.as_deref(), &order, &changes)?;
        small.extend(side.map(|side| (SIDE.to_string(), side)));
        small.push((METADATA.to_string(), metadata::write(&self.entries)));
        // Rows that a bitmap does not know yet are not seen: each array has its old rows until it gets its new bitmap.
        small.extend(bitmaps);
        let (Some(journal), Some(guard)) = (self.journal.take(), self.guard.take()) else {
            return Err(Error::internal("the append was finished twice"));
        };
        guard.commit(|| journal.commit(&self.store, small, gone))?;
        Ok(summary)
    }
}

impl AppendSink {
    /// What the side file now says about a logical array.
    fn grown(&self, growing: &Growing, rows: &[u64]) -> Grown {
        let target = &self.targets[growing.values];
        let stored = target.stored.map(|s| &self.old.stored()[s]);
        let mut shape = stored.map(|s| s.shape.clone()).unwrap_or_default();
        if let (Some(first), Some(stored)) = (shape.first_mut(), stored) {
            *first = stored.rows_alive() + rows[growing.values];
        }
        Grown {
            name: growing.name.clone(),
            dtype: stored.map_or(Dtype::U8, |s| s.dtype),
            shape,
            categories: growing.categories.clone(),
            valid: growing.new_valid.clone(),
            nulls: growing.minus,
        }
    }
}
