//! Several sources as one: their arrays side by side ([`Union`]), or joined row after row
//! ([`Concat`]).

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

mod concat;
mod types;

pub use concat::Concat;

use super::cutter::in_order;
use crate::error::{Context, Result};
use crate::format::duplicates::FreeNames;
use crate::format::{
    Emit, Extent, Job, OnDuplicate, Order, Piece, ReadPieces, ReadRows, Reader, Source, StoredArray,
};
use crate::model::{Chunk, Plan};
use crate::ops::Lists;
use crate::ops::dictionary::Merge;

/// A source and what to call it in messages.
pub struct JoinedSource {
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
    parts: &[JoinedSource],
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
    let in_order = |((reader, part), arrays): ((Reader, &JoinedSource), &Vec<usize>)| {
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
    parts: Vec<JoinedSource>,
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
    pub fn new(parts: Vec<JoinedSource>, on_duplicate: OnDuplicate) -> Result<Union> {
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
            for (key, value) in theirs.attributes.iter() {
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
            maps[*p]
                .arrays
                .insert(*i, PartArray { to: a, before: Some(0), remap: Remap::default() });
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

/// What becomes of the rows of a part.
#[derive(Clone, Default)]
struct Remap {
    /// Lists in the form that those of all parts have.
    lists: Option<Arc<Lists>>,
    /// Codes of one part's categories → codes of the merged ones.
    merge: Option<Arc<Merge>>,
}

impl Remap {
    fn is_none(&self) -> bool {
        self.lists.is_none() && self.merge.is_none()
    }
    fn apply(&self, chunk: &mut Chunk) -> Result<()> {
        if let Some(lists) = &self.lists {
            lists.apply(chunk)?;
        }
        match &self.merge {
            Some(merge) => merge.apply(chunk),
            None => Ok(()),
        }
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
    remap: Remap,
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
            array.remap.apply(&mut chunk)?;
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
