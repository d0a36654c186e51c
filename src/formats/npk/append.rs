//! Appends rows to the arrays of a store: behind the end of their data files (or in a new segment), then bitmaps,
//! manifests, side file and metadata in place at once. Until then every reader sees the old rows.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::journal::{self, Journal};
use super::merge::{local_store, read_side};
use super::write::{LocalFiles, Place, Places};
use crate::codec::store::manifest::{Manifest, Segment};
use crate::codec::store::metadata::{self, Entry};
use crate::codec::store::names::{self, Names};
use crate::codec::store::{AsIs, METADATA, SIDE, StoreSource, Stored};
use crate::error::{Context, Error, Result};
use crate::format::{Encode, Encoded, Extent, Sink, Summary, WriteOptions, WriteRows};
use crate::location::{Location, cleanup};
use crate::model::{ArrayMeta, Buf, Categories, Chunk, Dtype, Form, Kept, Logical, Plan, Values, typed};
use crate::sidecar::{self, Folded, Grown, How};

/// What is done to the values of an array on their way behind the old ones.
enum Adjust {
    Nothing,
    /// Offsets: the first is left out, the others begin where the old ones end.
    Offsets(i64),
    /// Codes: from the new categories into the store's, which grow.
    Codes(Remap),
}

struct Remap {
    dtype: Dtype,
    from: Arc<Categories>,
    to: Arc<Categories>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    map: Vec<u64>,
    index: Option<HashMap<Vec<u8>, u64>>,
}

impl Remap {
    fn codes(&self, values: &Buf) -> Result<Buf> {
        let mut known = self.known.lock().unwrap_or_else(|e| e.into_inner());
        let Known { map, index } = &mut *known;
        if map.len() < self.from.len() {
            let index = index.get_or_insert_with(|| self.to.snapshot().into_iter().enumerate().map(|(i, item)| (item, i as u64)).collect());
            for item in self.from.snapshot().into_iter().skip(map.len()) {
                let code = *index.entry(item).or_insert_with_key(|item| self.to.push(item.clone()));
                map.push(code);
            }
        }
        let item = self.dtype.item_bytes() as usize;
        let most = match self.dtype {
            Dtype::U8 | Dtype::U16 | Dtype::U32 => (1u64 << (8 * item)) - 1,
            Dtype::I8 | Dtype::I16 | Dtype::I32 => (1u64 << (8 * item - 1)) - 1,
            _ => i64::MAX as u64,
        };
        let mut out = values.to_vec();
        for code in out.chunks_exact_mut(item) {
            if code.iter().all(|&b| b == 0xFF) {
                continue; // -1: null
            }
            let old = code.iter().rev().fold(0u64, |n, &b| n << 8 | b as u64);
            let new = match map.get(old as usize) {
                Some(&new) => new,
                None if old == 0 => 0, // a null where there are no categories
                None => return Err(Error::corrupt(format!("code {old} is beyond the {} categories", map.len()))),
            };
            if new > most {
                return Err(Error::refused(format!("the store's categories pass what {} codes can count", self.dtype)));
            }
            code.copy_from_slice(&new.to_le_bytes()[..item]);
        }
        Ok(Buf::from_vec(out))
    }
}

/// The files being written, and what is done to the values.
struct Grow {
    files: LocalFiles,
    adjust: Vec<Adjust>,
}

impl Grow {
    fn put(&self, array: usize, first_row: u64, rows: u64, pieces: Vec<Buf>) -> Result<()> {
        match &self.adjust[array] {
            Adjust::Nothing => self.files.put(array, first_row, rows, &pieces),
            Adjust::Codes(remap) => {
                let pieces: Vec<Buf> = pieces.iter().map(|p| remap.codes(p)).collect::<Result<_>>()?;
                self.files.put(array, first_row, rows, &pieces)
            }
            Adjust::Offsets(base) => {
                let mut row = first_row;
                for piece in pieces {
                    let offsets = typed::<i64>(&piece);
                    let n = offsets.len() as u64;
                    let skip = (row == 0) as usize;
                    let moved: Option<Vec<i64>> = offsets.iter().skip(skip).map(|o| o.checked_add(*base)).collect();
                    let moved = moved.ok_or_else(|| Error::failed("the offsets pass 2^63"))?;
                    if !moved.is_empty() {
                        self.files.put(array, (row + skip as u64) - 1, moved.len() as u64, &[Buf::from_vec(moved)])?;
                    }
                    row += n;
                }
                Ok(())
            }
        }
    }
}

impl WriteRows for Grow {
    fn write(&self, chunk: &Chunk) -> Result<()> {
        let name = &self.files.places.0[chunk.array].name;
        let Values::Fixed(values) = &chunk.values else {
            return Err(Error::failed("text and lists must be codes or offsets here").array(name));
        };
        self.put(chunk.array, chunk.first_row, chunk.rows, vec![values.clone()]).at_array(name)
    }
}

/// A stored array that grows, or that is made because the new rows have nulls.
struct Target {
    /// Its place in the store's list; `None` for a new mask.
    stored: Option<usize>,
    name: String,
    /// What the metadata say of its file: data file or manifest.
    data_file: String,
    /// The segment that takes the rows, where it has segments.
    segment: Option<(Manifest, String)>,
    /// The name of the manifest by then: NumPack refuses one that is ahead of the metadata, so the metadata change to it.
    manifest: String,
    /// Stored rows before.
    rows: u64,
    /// Rows that this array's plan counts and the store does not (the first offset).
    less: u64,
}

/// A logical array that grows.
struct Growing {
    name: String,
    /// Index of the plan's array of its values.
    values: usize,
    categories: Option<Arc<Categories>>,
    /// Whether codes of -1 among the new rows are nulls.
    minus: bool,
    /// A mask that the store gets now.
    new_valid: Option<String>,
    /// A mask that the store has and the new rows lack: stored index.
    old_valid: Option<usize>,
}

struct AppendSink {
    store: PathBuf,
    grow: Arc<Grow>,
    targets: Vec<Target>,
    growing: Vec<Growing>,
    old: StoreSource,
    entries: Vec<Entry>,
    journal: Option<Journal>,
    guard: Option<cleanup::Guard>,
    _lock: File,
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
        let (target, place) = behind(&store, &old, stored, None)?;
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
            return Err(Error::exists(format!("{file} is in the way, a file that belongs to no array"))
                .hint("npk verify tells what the store holds"));
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

type Planned = (Vec<Target>, Vec<Place>, Vec<Adjust>, Vec<Growing>);

/// Finds for every array of the plan its place in the store; all that does not match is told together.
fn plan_out(old: &StoreSource, plan: &Plan) -> Result<Planned> {
    let kept: HashMap<&str, &Kept> = plan.kept.iter().map(|k| (k.values.as_str(), k)).collect();
    let companions: HashSet<&str> = plan.kept.iter().flat_map(|k| [k.valid.as_deref(), k.offsets.as_deref()]).flatten().collect();
    let index: HashMap<&str, usize> = plan.arrays.iter().enumerate().map(|(i, a)| (a.name.as_str(), i)).collect();
    let have: HashMap<&str, &Folded> = old.folded().iter().map(|f| (f.meta.name.as_str(), f)).collect();
    let mut names = Names::default();
    old.stored().iter().for_each(|s| names.take(&s.data_file));
    let mut found: Vec<Option<(Target, Place, Adjust)>> = plan.arrays.iter().map(|_| None).collect();
    let (mut growing, mut errors) = (Vec::new(), Vec::new());
    for (i, array) in plan.arrays.iter().enumerate() {
        if companions.contains(array.name.as_str()) {
            continue;
        }
        let kept = kept.get(array.name.as_str()).copied();
        let logical = kept.map_or(array, |k| &k.meta);
        let one = || -> Result<Growing> {
            let folded =
                *have.get(logical.name.as_str()).ok_or_else(|| Error::exists("the store has no array of this name to append to"))?;
            crate::format::readable(&folded.meta)?;
            fits(old, folded, array, kept)?;
            let stored = &old.stored()[folded.values];
            let categories = categories_of(folded);
            let adjust = match (&categories, new_categories(array, kept)) {
                (Some(to), Some(from)) => {
                    Adjust::Codes(Remap { dtype: stored.dtype, from, to: to.clone(), known: Mutex::new(Known::default()) })
                }
                _ => Adjust::Nothing,
            };
            let (target, place) = behind_checked(old, stored, array.rows)?;
            found[i] = Some((target, place, adjust));
            if let (How::Offsets(at), Some(o)) = (&folded.how, kept.and_then(|k| k.offsets.as_deref()).and_then(|n| index.get(n))) {
                let cuts = &old.stored()[*at];
                let (mut target, place) = behind_checked(old, cuts, plan.arrays[*o].rows.map(|r| r.saturating_sub(1)))?;
                target.less = 1;
                found[*o] = Some((target, place, Adjust::Offsets(stored.rows_alive() as i64)));
            }
            let mut one = Growing {
                name: logical.name.clone(),
                values: i,
                categories,
                minus: logical.nulls && kept.is_some_and(|k| k.valid.is_none()),
                new_valid: None,
                old_valid: None,
            };
            match (folded.valid, kept.and_then(|k| k.valid.as_deref()).and_then(|n| index.get(n).copied())) {
                (Some(at), Some(mask)) => {
                    let (target, place) = behind_checked(old, &old.stored()[at], plan.arrays[mask].rows)?;
                    found[mask] = Some((target, place, Adjust::Nothing));
                }
                (Some(at), None) => one.old_valid = Some(at),
                (None, Some(mask)) => {
                    let name = &plan.arrays[mask].name;
                    if old.stored().iter().any(|s| s.name == *name) {
                        return Err(Error::exists(format!("the new rows have nulls, and the store has another array {name} already")));
                    }
                    let rows = folded.meta.rows.unwrap_or(0);
                    let file = names.give(name);
                    let place = Place::new(name, file.clone(), 1, plan.arrays[mask].rows, rows, false);
                    let target =
                        Target { stored: None, name: name.clone(), data_file: file, segment: None, manifest: String::new(), rows, less: 0 };
                    found[mask] = Some((target, place, Adjust::Nothing));
                    one.new_valid = Some(name.clone());
                }
                (None, None) => {}
            }
            Ok(one)
        };
        let mut one = one;
        match one() {
            Ok(one) => growing.push(one),
            Err(e) => errors.push(e.array(&logical.name)),
        }
    }
    Error::all(errors)?;
    let (mut targets, mut places, mut adjusts) = (Vec::new(), Vec::new(), Vec::new());
    for (i, one) in found.into_iter().enumerate() {
        let (target, place, adjust) = one.ok_or_else(|| Error::failed("no place was found").array(&plan.arrays[i].name))?;
        targets.push(target);
        places.push(place);
        adjusts.push(adjust);
    }
    Ok((targets, places, adjusts, growing))
}

fn categories_of(folded: &Folded) -> Option<Arc<Categories>> {
    match (&folded.how, &folded.meta.logical) {
        (How::Codes(items), logical) => {
            let kind =
                if matches!(logical, Logical::Binary) { crate::model::CategoryKind::Binary } else { crate::model::CategoryKind::Text };
            Some(Categories::new(kind, items.clone()))
        }
        (How::Dictionary, Logical::Dictionary { categories, .. }) => {
            Some(Categories::new(categories.kind().clone(), categories.snapshot()))
        }
        _ => None,
    }
}

fn new_categories(array: &ArrayMeta, kept: Option<&Kept>) -> Option<Arc<Categories>> {
    match (kept.map(|k| &k.form), &kept.map_or(array, |k| &k.meta).logical) {
        (Some(Form::Codes(categories)), _) | (_, Logical::Dictionary { categories, .. }) => Some(categories.clone()),
        _ => None,
    }
}

/// Do the new rows have the type, the form and the inner shape of the store's?
fn fits(old: &StoreSource, folded: &Folded, array: &ArrayMeta, kept: Option<&Kept>) -> Result<()> {
    let stored = &old.stored()[folded.values];
    let logical = kept.map_or(array, |k| &k.meta);
    if logical.scalar || stored.shape.is_empty() || folded.meta.scalar {
        return Err(Error::exists("an array without dimensions has no rows to append to"));
    }
    let inner = &stored.shape[1..];
    let shown = |dtype: Dtype, inner: &[u64]| {
        let mut shape = String::from("[rows");
        inner.iter().for_each(|d| shape.push_str(&format!(", {d}")));
        format!("{dtype} {shape}]")
    };
    if array.dtype != stored.dtype || array.inner != inner {
        let (here, there) = (shown(array.dtype, &array.inner), shown(stored.dtype, inner));
        return Err(Error::exists(format!("the new rows are {here}, the store's are {there}")).hint("--dtype can change the new rows"));
    }
    let same = folded.meta.logical == logical.logical
        && match (&folded.how, kept.map(|k| &k.form)) {
            (How::Codes(_), Some(Form::Codes(_))) | (How::Offsets(_), Some(Form::Offsets)) => true,
            (How::Fixed, Some(Form::Bits)) => folded.meta.dtype == logical.dtype,
            (How::Fixed | How::Dictionary, None | Some(Form::Same | Form::Widened)) => folded.meta.dtype == stored.dtype,
            _ => false,
        };
    if !same {
        let (mut here, mut there) = (logical.clone(), folded.meta.clone());
        (here.nulls, there.nulls) = (false, false);
        let (here, there) = (here.type_name(), there.type_name());
        let form = if here == there { ", stored in another form" } else { "" };
        return Err(Error::exists(format!("the new rows are {here}, the store's are {there}{form}"))
            .hint("give the options that the store was made with (--strings, --bf16, --fp8)"));
    }
    Ok(())
}

fn behind_checked(old: &StoreSource, stored: &Stored, rows: Option<u64>) -> Result<(Target, Place)> {
    if let Some(problem) = &stored.problem {
        return Err(Error::new(problem.kind(), problem.message().to_string()));
    }
    behind(Path::new(""), old, stored, rows)
}

/// The place behind a stored array's last row.
fn behind(_store: &Path, old: &StoreSource, stored: &Stored, rows: Option<u64>) -> Result<(Target, Place)> {
    let index = old.stored().iter().position(|s| s.name == stored.name);
    let before = stored.rows_stored();
    let mut target = Target {
        stored: index,
        name: stored.name.clone(),
        data_file: stored.data_file.clone(),
        segment: None,
        manifest: String::new(),
        rows: before,
        less: 0,
    };
    let place = if stored.data_file.ends_with(".npkseg") {
        let segments: Vec<Segment> =
            stored.pieces.iter().map(|p| Segment { file: p.path.clone(), rows: p.rows, bytes: p.rows * stored.row_bytes }).collect();
        let file = next_segment(&stored.data_file, &segments);
        target.segment = Some((Manifest { version: 1, segments }, file.clone()));
        target.manifest = next_manifest(&stored.data_file);
        Place::new(&stored.name, file, stored.row_bytes, rows, 0, false)
    } else {
        let base = before.checked_mul(stored.row_bytes).ok_or_else(|| Error::corrupt("the array is too large"))?;
        Place::new(&stored.name, stored.data_file.clone(), stored.row_bytes, rows, base, true)
    };
    Ok((target, place))
}

/// Another name for a manifest, that no array's own files have: `manifest_x_1.npkseg` after `data_x.npkseg`.
fn next_manifest(now: &str) -> String {
    let stem = now.trim_end_matches(".npkseg");
    let (name, number) = match stem.strip_prefix("manifest_").and_then(|s| s.rsplit_once('_')) {
        Some((name, n)) => (name, n.parse::<u64>().map_or(1, |n| n.wrapping_add(1))),
        None => (stem.strip_prefix("data_").unwrap_or(stem), 1),
    };
    format!("manifest_{name}_{number}.npkseg")
}

/// The name after the last segment's: `seg_000010.npkd` after `seg_000009.npkd`.
fn next_segment(manifest: &str, segments: &[Segment]) -> String {
    let number = |s: &Segment| s.file.rsplit("seg_").next()?.strip_suffix(".npkd")?.parse::<u64>().ok();
    let next = segments.iter().filter_map(number).max().map_or(segments.len() as u64, |n| n.saturating_add(1));
    let folder = match segments.last().and_then(|s| s.file.rsplit_once('/')) {
        Some((folder, _)) => folder.to_string(),
        None => format!("{}_segments", manifest.trim_end_matches(".npkseg")),
    };
    format!("{folder}/seg_{next:06}.npkd")
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
            let n = array.rows.ok_or_else(|| Error::failed("the rows are not known").array(&array.name))?;
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
        let Ok(pieces) = encoded.payload.downcast::<Vec<Buf>>() else { return Err(Error::failed("a block of another sink")) };
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
                let bytes = bytes.ok_or_else(|| at(Error::failed("the array passes 2^64 bytes")))?;
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
            return Err(Error::failed("the append was ended twice"));
        };
        guard.commit(|| journal.commit(&self.store, small, gone))?;
        Ok(summary)
    }
}

impl AppendSink {
    /// What the side file says of a logical array by now.
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
