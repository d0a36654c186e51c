//! Several sources as one: their arrays side by side ([`Union`]), or joined row after row
//! ([`Concat`]).

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::cutter::in_order;
use crate::error::{Context, Error, Result};
use crate::format::duplicates::FreeNames;
use crate::format::{
    Emit, Extent, Job, OnDuplicate, Order, Piece, ReadPieces, ReadRows, Reader, Source, StoredArray,
};
use crate::model::{ArrayMeta, Categories, Chunk, Logical, Plan};
use crate::ops::dictionary::{Merge, Merged};
use crate::ops::time;
use crate::resolve::table;

/// A source and what to call it in messages.
pub struct Part {
    /// The source.
    pub source: Box<dyn Source>,
    /// Its path, for messages.
    pub label: String,
}

/// Sources that are read as one: what is whose.
trait Joining: Send + Sync {
    /// What a part is called.
    fn label(&self, part: usize) -> &str;
    /// What becomes of the arrays of a part.
    fn map(&self, part: usize) -> Arc<PartMap>;
    /// The parts, and the arrays there, whose bytes are those of an array, one after the other.
    fn places(&self, array: usize) -> Option<Vec<(usize, usize)>>;
}

/// Selects these arrays of each part: the readers, if all have random access; otherwise those that
/// have it are read in order, like the others.
fn select_each(
    parts: &[Part],
    selected: &[Vec<usize>],
    wish: Order,
) -> Result<Result<Vec<Arc<dyn ReadRows>>, Vec<Box<dyn ReadPieces>>>> {
    let mut readers = Vec::with_capacity(parts.len());
    for (part, arrays) in parts.iter().zip(selected) {
        readers.push(part.source.select(arrays, wish).at_file(&part.label)?);
    }
    if readers.iter().all(|reader| matches!(reader, Reader::Random(_))) {
        return Ok(Ok(readers.into_iter().filter_map(Reader::random).collect()));
    }
    let each = readers.into_iter().zip(parts).zip(selected);
    let in_order = |((reader, part), arrays): ((Reader, &Part), &Vec<usize>)| {
        in_order(reader, part.source.plan(), arrays, wish)
    };
    Ok(Err(each.map(in_order).collect()))
}

/// Parts that are read one after the other.
struct JoinedPieces {
    parts: Vec<Box<dyn ReadPieces>>,
    joining: Arc<dyn Joining>,
    order: Order,
    at: usize,
    /// Of the part `at`, once a piece of it came.
    map: Option<Arc<PartMap>>,
}

impl ReadPieces for JoinedPieces {
    fn order(&self) -> Order {
        self.order
    }
    fn next(&mut self, max_bytes: u64) -> Result<Option<Box<dyn Job>>> {
        while let Some(part) = self.parts.get_mut(self.at) {
            let label = self.joining.label(self.at);
            if let Some(job) = part.next(max_bytes).at_file(label)? {
                let map = self.map.get_or_insert_with(|| self.joining.map(self.at)).clone();
                return Ok(Some(Box::new(PartJob { job, map })));
            }
            part.close().at_file(label)?;
            self.at += 1;
            self.map = None;
        }
        Ok(None)
    }
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        let mut all = Vec::new();
        for (part, index) in self.joining.places(array)? {
            all.extend(self.parts[part].extents(index)?);
        }
        Some(all)
    }
    fn close(&mut self) -> Result<()> {
        for (p, part) in self.parts.iter_mut().enumerate().skip(self.at) {
            part.close().at_file(self.joining.label(p))?;
        }
        Ok(())
    }
}

/// Where an array's bytes are in the parts.
fn extents_of(
    joining: &dyn Joining,
    readers: &[Arc<dyn ReadRows>],
    array: usize,
) -> Option<Vec<Extent>> {
    let mut all = Vec::new();
    for (part, index) in joining.places(array)? {
        all.extend(readers[part].extents(index)?);
    }
    Some(all)
}

/// All was read of the parts.
fn close_each(joining: &dyn Joining, readers: &[Arc<dyn ReadRows>]) -> Result<()> {
    let mut each = readers.iter().enumerate();
    each.try_for_each(|(p, reader)| reader.close().at_file(joining.label(p)))
}

/// The arrays of several sources, one source after the other.
pub struct Union {
    parts: Vec<Part>,
    plan: Plan,
    joining: Arc<UnionMap>,
}

struct UnionMap {
    /// Per array: the part, and the index there.
    home: Vec<(usize, usize)>,
    maps: Vec<Arc<PartMap>>,
}

impl Joining for UnionMap {
    fn label(&self, part: usize) -> &str {
        &self.maps[part].label
    }
    fn map(&self, part: usize) -> Arc<PartMap> {
        self.maps[part].clone()
    }
    fn places(&self, array: usize) -> Option<Vec<(usize, usize)>> {
        Some(vec![self.home[array]])
    }
}

impl Union {
    /// Joins the plans.
    ///
    /// # Errors
    /// Usage (exit 2): two arrays of one name, naming both places.
    pub fn new(parts: Vec<Part>, on_duplicate: OnDuplicate) -> Result<Union> {
        let mut plan = Plan {
            format: parts.first().map_or("", |p| p.source.plan().format),
            ..Plan::default()
        };
        let mut home: Vec<(usize, usize)> = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        let all = parts
            .iter()
            .filter(|_| on_duplicate == OnDuplicate::Rename)
            .flat_map(|p| &p.source.plan().arrays);
        let mut free = FreeNames::new(all.map(|a| a.name.clone()).collect());
        for (p, part) in parts.iter().enumerate() {
            let theirs = part.source.plan();
            for (key, value) in &theirs.attributes {
                plan.attributes.entry(key.clone()).or_insert_with(|| value.clone());
            }
            plan.groups.extend(theirs.groups.clone());
            plan.notes.extend(theirs.notes.iter().cloned());
            if parts.len() == 1 {
                plan.tables = theirs.tables.clone();
                plan.format_version = theirs.format_version.clone();
            }
            for (i, meta) in theirs.arrays.iter().enumerate() {
                let mut meta = meta.clone();
                if let Some(&first) = seen.get(&meta.name) {
                    match on_duplicate {
                        OnDuplicate::Error => {
                            let (a, b) = (&parts[home[first].0].label, &part.label);
                            return Err(crate::format::duplicates::between_sources(
                                &meta.name, a, b,
                            ));
                        }
                        OnDuplicate::First => continue,
                        OnDuplicate::Last => {
                            plan.arrays[first] = meta;
                            home[first] = (p, i);
                            continue;
                        }
                        OnDuplicate::Rename => meta.name = free.after(&meta.name),
                    }
                }
                seen.insert(meta.name.clone(), plan.arrays.len());
                plan.arrays.push(meta);
                home.push((p, i));
            }
        }
        let mut maps: Vec<PartMap> = parts
            .iter()
            .map(|p| PartMap { label: p.label.clone(), arrays: HashMap::new() })
            .collect();
        for (a, (p, i)) in home.iter().enumerate() {
            maps[*p].arrays.insert(*i, PartArray { to: a, before: Some(0), merge: None });
        }
        let maps = maps.into_iter().map(Arc::new).collect();
        Ok(Union { parts, plan, joining: Arc::new(UnionMap { home, maps }) })
    }
}

impl Source for Union {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, arrays: &[usize], wish: Order) -> Result<Reader> {
        let (joining, home) = (self.joining.clone(), &self.joining.home);
        let mut selected: Vec<Vec<usize>> = vec![Vec::new(); self.parts.len()];
        for &a in arrays {
            let (part, index) = home[a];
            selected[part].push(index);
        }
        let parts = match select_each(&self.parts, &selected, wish)? {
            Ok(readers) => return Ok(Reader::Random(Arc::new(UnionRows { readers, joining }))),
            Err(parts) => parts,
        };
        let mixed = parts
            .iter()
            .zip(&selected)
            .any(|(part, theirs)| part.order() != Order::ArrayByArray && theirs.len() > 1);
        let ordered = self.parts.len() == 1 || arrays.windows(2).all(|w| home[w[0]] < home[w[1]]);
        let by_array = ordered && !mixed;
        let order = if by_array && wish == Order::ArrayByArray { wish } else { Order::Any };
        Ok(Reader::InOrder(Box::new(JoinedPieces { parts, joining, order, at: 0, map: None })))
    }
    fn stored(&self, array: usize) -> Result<StoredArray> {
        let (p, i) = self.joining.home[array];
        self.parts[p].source.stored(i)
    }
}

struct UnionRows {
    readers: Vec<Arc<dyn ReadRows>>,
    joining: Arc<UnionMap>,
}

impl ReadRows for UnionRows {
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        extents_of(self.joining.as_ref(), &self.readers, array)
    }
    fn close(&self) -> Result<()> {
        close_each(self.joining.as_ref(), &self.readers)
    }
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        let (p, i) = self.joining.home[array];
        self.readers[p].next_boundary(i, row)
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let (p, i) = self.joining.home[array];
        self.readers[p].cost(i, rows)
    }
    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        let (p, i) = self.joining.home[array];
        self.readers[p].piece(i, row, bytes)
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let (p, i) = self.joining.home[array];
        self.readers[p]
            .read(i, rows, &mut |mut chunk| {
                chunk.array = array;
                emit(chunk)
            })
            .at_file(self.joining.label(p))
    }
}

/// Codes of one part's categories → codes of the merged ones.
type Remap = Option<Arc<Merge>>;

/// Arrays of the same name over all parts, row after row.
pub struct Concat {
    parts: Vec<Part>,
    plan: Plan,
    joining: Arc<ConcatMap>,
}

struct ConcatMap {
    labels: Vec<String>,
    /// Per array and part: the index there.
    home: Vec<Vec<usize>>,
    /// Per array and part: the first row, where the rows before are known.
    first: Vec<Vec<Option<u64>>>,
    remaps: Vec<Vec<Remap>>,
}

impl Joining for ConcatMap {
    fn label(&self, part: usize) -> &str {
        &self.labels[part]
    }
    fn map(&self, p: usize) -> Arc<PartMap> {
        let array = |a: usize| PartArray {
            to: a,
            before: self.first[a][p],
            merge: self.remaps[a][p].clone(),
        };
        let arrays = (0..self.home.len()).map(|a| (self.home[a][p], array(a))).collect();
        Arc::new(PartMap { label: self.labels[p].clone(), arrays })
    }
    fn places(&self, array: usize) -> Option<Vec<(usize, usize)>> {
        let same = self.remaps[array].iter().all(Option::is_none);
        same.then(|| self.home[array].iter().copied().enumerate().collect())
    }
}

impl Concat {
    /// Joins; names, dtypes, logical types and inner shapes must agree.
    ///
    /// # Errors
    /// Usage (exit 2), naming both files and what differs.
    pub fn new(parts: Vec<Part>) -> Result<Concat> {
        let Some(lead) = parts.first() else {
            return Err(Error::missing("there are no rows to join"));
        };
        let mut plan = lead.source.plan().clone();
        let (mut home, mut first, mut remaps) = (Vec::new(), Vec::new(), Vec::new());
        let mut errors = Vec::new();
        let indexes: Vec<HashMap<&str, usize>> = parts
            .iter()
            .map(|p| {
                p.source
                    .plan()
                    .arrays
                    .iter()
                    .enumerate()
                    .map(|(i, a)| (a.name.as_str(), i))
                    .collect()
            })
            .collect();
        for meta in &mut plan.arrays {
            let (mut homes, mut firsts, mut remap) = (Vec::new(), Vec::new(), Vec::new());
            let mut rows = Some(0u64);
            let merged = merged_categories(&parts, &indexes, &meta.name, &meta.logical);
            let categories = merged.iter().map(|m| m.categories.clone()).collect();
            meta.logical = meta.logical.with_dictionaries(categories);
            if meta.scalar {
                meta.scalar = false;
            }
            for (p, part) in parts.iter().enumerate() {
                let Some(&i) = indexes[p].get(meta.name.as_str()) else {
                    errors.push(Error::usage(format!(
                        "the array '{}' is in {} but not in {}",
                        meta.name, lead.label, part.label
                    )));
                    continue;
                };
                let theirs = &part.source.plan().arrays[i];
                errors.extend(difference(meta, theirs, &lead.label, &part.label));
                meta.nulls |= theirs.nulls;
                if let (Logical::Nested(all), Logical::Nested(theirs)) =
                    (&mut meta.logical, &theirs.logical)
                {
                    Arc::make_mut(all).add_nulls(theirs);
                }
                homes.push(i);
                firsts.push(rows);
                rows = rows.and_then(|r| r.checked_add(theirs.rows?));
                remap
                    .push((!merged.is_empty()).then(|| {
                        Arc::new(Merge::new(&theirs.logical, merged.clone(), meta.dtype))
                    }));
            }
            meta.rows = rows;
            meta.details.stored_bytes = None;
            home.push(homes);
            first.push(firsts);
            remaps.push(remap);
        }
        for (p, part) in parts.iter().enumerate().skip(1) {
            for theirs in &part.source.plan().arrays {
                if !indexes[0].contains_key(theirs.name.as_str()) {
                    errors.push(Error::usage(format!(
                        "the array '{}' is in {} but not in {}",
                        theirs.name, parts[p].label, lead.label
                    )));
                }
            }
        }
        let lone = parts.iter().all(|p| p.source.plan().arrays.len() == 1);
        Error::all(errors).map_err(|e| {
            if lone && e.hint_text().is_none() {
                e.hint("--name NAME joins arrays of different names")
            } else {
                e
            }
        })?;
        drop(indexes);
        let labels = parts.iter().map(|p| p.label.clone()).collect();
        let joining = Arc::new(ConcatMap { labels, home, first, remaps });
        Ok(Concat { parts, plan, joining })
    }
}

/// Why rows of two arrays cannot be joined, if they cannot.
fn difference(meta: &ArrayMeta, theirs: &ArrayMeta, lead: &str, part: &str) -> Option<Error> {
    let same = theirs.dtype == meta.dtype
        && theirs.inner == meta.inner
        && theirs.logical == meta.logical
        && (theirs.original_dtype == meta.original_dtype || theirs.original_dtype.is_none());
    let error = || {
        let (kind, other) = (meta.type_name(), theirs.type_name());
        Error::usage(format!(
            "'{}' is {kind} {:?} in {lead} and {other} {:?} in {part}",
            meta.name, meta.inner, theirs.inner
        ))
    };
    (!same).then(|| match same_type(meta, theirs) {
        Some(cast) => error().hint(format!("--dtype '{}={cast}' makes them the same", meta.name)),
        None => error(),
    })
}

/// The type that `--dtype` could give both of two arrays.
fn same_type(a: &ArrayMeta, b: &ArrayMeta) -> Option<String> {
    if a.inner != b.inner {
        return None;
    }
    if a.logical.is_plain() && b.logical.is_plain() {
        return Some(table::common_dtype(a.dtype, b.dtype).unwrap_or(a.dtype).name().to_string());
    }
    // Of two units the finer one: the way there is exact.
    let (_, change) = time::rescaled(&a.logical, &b.logical, false)?;
    let finer = if change.divide == 1 { b } else { a };
    Some(ArrayMeta { nulls: false, ..finer.clone() }.type_name())
}

/// Per dictionary of an array all categories known so far, in the order of the parts.
fn merged_categories(
    parts: &[Part],
    indexes: &[HashMap<&str, usize>],
    name: &str,
    lead: &Logical,
) -> Vec<Arc<Merged>> {
    let new =
        |c: &Arc<Categories>| Arc::new(Merged::onto(Categories::new(c.kind().clone(), Vec::new())));
    let all: Vec<Arc<Merged>> = lead.dictionaries().iter().map(new).collect();
    for (part, index) in parts.iter().zip(indexes).filter(|_| !all.is_empty()) {
        let Some(&i) = index.get(name) else { continue };
        let theirs = part.source.plan().arrays[i].logical.dictionaries();
        for (merged, categories) in all.iter().zip(theirs) {
            for item in categories.snapshot() {
                merged.code(&item);
            }
        }
    }
    all
}

impl Concat {
    /// Where each part begins in each of these arrays, and the end; `None` where that is not known.
    fn bounds(&self, arrays: &[usize]) -> Option<Vec<Vec<u64>>> {
        let mut bounds = vec![Vec::new(); self.plan.arrays.len()];
        for &a in arrays {
            let firsts = self.joining.first[a].iter().copied();
            let ends = std::iter::once(self.plan.arrays[a].rows);
            bounds[a] = firsts.chain(ends).collect::<Option<Vec<u64>>>()?;
        }
        Some(bounds)
    }
}

impl Source for Concat {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, arrays: &[usize], wish: Order) -> Result<Reader> {
        let asked = if arrays.len() > 1 { Order::RowBlocks } else { wish };
        let of = |p: usize| arrays.iter().map(|&a| self.joining.home[a][p]).collect();
        let selected: Vec<Vec<usize>> = (0..self.parts.len()).map(of).collect();
        let joining = self.joining.clone();
        let parts = match (select_each(&self.parts, &selected, asked)?, self.bounds(arrays)) {
            (Ok(readers), Some(bounds)) => {
                return Ok(Reader::Random(Arc::new(ConcatRows { readers, bounds, joining })));
            }
            (Ok(_), None) => return Err(Error::internal("rows at random that nobody counted")),
            (Err(parts), _) => parts,
        };
        let order = match arrays.len() {
            0 | 1 => wish,
            _ if parts.iter().all(|p| p.order() == Order::RowBlocks) => Order::RowBlocks,
            _ => Order::Any,
        };
        Ok(Reader::InOrder(Box::new(JoinedPieces { parts, joining, order, at: 0, map: None })))
    }
}

/// What becomes of a part's arrays; made once, for all of its pieces.
struct PartMap {
    label: String,
    /// By the index in the part.
    arrays: HashMap<usize, PartArray>,
}

struct PartArray {
    /// Index in the whole.
    to: usize,
    /// The rows before this part, where they are known.
    before: Option<u64>,
    merge: Remap,
}

struct PartJob {
    job: Box<dyn Job>,
    map: Arc<PartMap>,
}

impl Job for PartJob {
    fn bytes(&self) -> u64 {
        self.job.bytes()
    }
    fn run(self: Box<Self>, emit: Emit<'_>) -> Result<()> {
        let PartJob { job, map } = *self;
        job.run(&mut |mut chunk| {
            let Some(array) = map.arrays.get(&chunk.array) else { return Ok(()) };
            if let Some(merge) = &array.merge {
                merge.apply(&mut chunk)?;
            }
            chunk.first_row = match (chunk.first_row, array.before) {
                (Chunk::NEXT, _) | (_, None) => Chunk::NEXT,
                (row, Some(before)) => row + before,
            };
            chunk.array = array.to;
            emit(chunk)
        })
        .at_file(&map.label)
    }
}

struct ConcatRows {
    readers: Vec<Arc<dyn ReadRows>>,
    /// Per array: first row of each part, and the end.
    bounds: Vec<Vec<u64>>,
    joining: Arc<ConcatMap>,
}

impl ConcatRows {
    fn part_at(&self, array: usize, row: u64) -> usize {
        let bounds = &self.bounds[array];
        bounds[1..].partition_point(|&end| end <= row).min(self.readers.len() - 1)
    }
}

impl ReadRows for ConcatRows {
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        extents_of(self.joining.as_ref(), &self.readers, array)
    }
    fn close(&self) -> Result<()> {
        close_each(self.joining.as_ref(), &self.readers)
    }
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        let p = self.part_at(array, row);
        let (start, end) = (self.bounds[array][p], self.bounds[array][p + 1]);
        self.readers[p]
            .next_boundary(self.joining.home[array][p], row - start)
            .saturating_add(start)
            .min(end.max(row + 1))
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let mut total = 0u64;
        for p in self.part_at(array, rows.start)..self.readers.len() {
            let (start, end) = (self.bounds[array][p], self.bounds[array][p + 1]);
            if start >= rows.end {
                break;
            }
            let local = rows.start.max(start) - start..rows.end.min(end) - start;
            total = total.saturating_add(self.readers[p].cost(self.joining.home[array][p], local)?);
        }
        Some(total)
    }
    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        let p = self.part_at(array, row);
        let start = self.bounds[array][p];
        let piece = self.readers[p].piece(self.joining.home[array][p], row - start, bytes)?;
        Some(Piece { end: piece.end.saturating_add(start), ..piece })
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        for p in self.part_at(array, rows.start)..self.readers.len() {
            let (start, end) = (self.bounds[array][p], self.bounds[array][p + 1]);
            if start >= rows.end {
                break;
            }
            let local = rows.start.max(start) - start..rows.end.min(end) - start;
            if local.is_empty() {
                continue;
            }
            self.readers[p]
                .read(self.joining.home[array][p], local, &mut |mut chunk| {
                    if let Some(merge) = &self.joining.remaps[array][p] {
                        merge.apply(&mut chunk)?;
                    }
                    chunk.array = array;
                    chunk.first_row += start;
                    emit(chunk)
                })
                .at_file(self.joining.label(p))?;
        }
        Ok(())
    }
}
