//! Arrays of the same names over several sources, row after row.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::{
    JoinedPieces, JoinedSource, Joining, PartArray, PartMap, Remap, close_each, extents_of,
    select_each, types,
};
use crate::error::{Context, Error, Result};
use crate::format::{Emit, Extent, Order, Piece, ReadRows, Reader, Source};
use crate::model::{ArrayMeta, Categories, Logical, Plan};
use crate::ops::dictionary::{Merge, Merged};
use crate::ops::{Lists, time};
use crate::resolve::{lists, table};

/// Arrays of the same name over all parts, row after row.
pub struct Concat {
    parts: Vec<JoinedSource>,
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
            remap: self.remaps[a][p].clone(),
        };
        let arrays = (0..self.home.len()).map(|a| (self.home[a][p], array(a))).collect();
        Arc::new(PartMap { label: self.labels[p].clone(), arrays })
    }
    fn places(&self, array: usize) -> Option<Vec<(usize, usize)>> {
        let same = self.remaps[array].iter().all(Remap::is_none);
        same.then(|| self.home[array].iter().copied().enumerate().collect())
    }
}

impl Concat {
    /// Joins; names, dtypes, logical types and inner shapes must agree.
    ///
    /// # Errors
    /// Usage (exit 2), naming both files and what differs.
    pub fn new(parts: Vec<JoinedSource>) -> Result<Concat> {
        let parts = types::settled(parts);
        let Some(lead) = parts.first() else {
            return Err(Error::missing("there are no rows to join"));
        };
        let mut plan = lead.source.plan().clone();
        let (mut home, mut first, mut remaps) = (Vec::new(), Vec::new(), Vec::new());
        let mut errors = Vec::new();
        let indexes: Vec<HashMap<&str, usize>> =
            parts.iter().map(|p| p.source.plan().positions()).collect();
        let mut wider = Vec::new();
        for meta in &mut plan.arrays {
            let (mut homes, mut firsts, mut remap) = (Vec::new(), Vec::new(), Vec::new());
            let mut rows = Some(0u64);
            if let Some(common) = common_form(&parts, &indexes, &meta.name) {
                *meta = ArrayMeta { details: meta.details.clone(), ..common };
            }
            let merged = merged_categories(&parts, &indexes, &meta.name, &meta.logical);
            let categories = merged.iter().map(|m| m.categories.clone()).collect();
            meta.logical = meta.logical.with_dictionaries(categories);
            if types::widen(meta, &of_name(&parts, &indexes, &meta.name), &merged) {
                wider.push((meta.name.clone(), meta.dtype));
            }
            meta.scalar = false;
            for (p, part) in parts.iter().enumerate() {
                let Some(&i) = indexes[p].get(meta.name.as_str()) else {
                    errors.push(Error::usage(format!(
                        "the array '{}' is in {} but not in {}",
                        meta.name, lead.label, part.label
                    )));
                    continue;
                };
                let theirs = &part.source.plan().arrays[i];
                let (made, lists) = Lists::between(theirs, meta).unzip();
                let theirs = made.as_ref().unwrap_or(theirs);
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
                let merge = (!merged.is_empty())
                    .then(|| Arc::new(Merge::new(theirs, merged.clone(), meta.dtype)));
                remap.push(Remap { lists: lists.map(Arc::new), merge });
            }
            meta.rows = rows;
            meta.details.forget(|facts| facts.stored_bytes = None);
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
        wider.iter().for_each(|(name, codes)| types::with_codes(&mut plan, name, *codes));
        let labels = parts.iter().map(|p| p.label.clone()).collect();
        let joining = Arc::new(ConcatMap { labels, home, first, remaps });
        Ok(Concat { parts, plan, joining })
    }
}

/// The arrays of this name of all parts.
fn of_name<'a>(
    parts: &'a [JoinedSource],
    indexes: &[HashMap<&str, usize>],
    name: &str,
) -> Vec<&'a ArrayMeta> {
    let each = parts.iter().zip(indexes);
    each.filter_map(|(part, index)| Some(&part.source.plan().arrays[*index.get(name)?])).collect()
}

/// The array of this name of all parts, in a form that the lists of each can have.
fn common_form(
    parts: &[JoinedSource],
    indexes: &[HashMap<&str, usize>],
    name: &str,
) -> Option<ArrayMeta> {
    let metas = of_name(parts, indexes, name);
    if metas.windows(2).all(|w| w[0].inner == w[1].inner && w[0].logical == w[1].logical) {
        return None;
    }
    let is_column = |part: &JoinedSource| {
        let mut tables = part.source.plan().tables.iter();
        tables.any(|t| t.columns.iter().any(|c| c.array == name))
    };
    lists::common(&metas, parts.iter().all(is_column))
}

/// Why rows of two arrays cannot be joined, if they cannot.
fn difference(meta: &ArrayMeta, theirs: &ArrayMeta, lead: &str, part: &str) -> Option<Error> {
    // Codes are translated.
    let coded = matches!(meta.logical, Logical::Dictionary { .. });
    let same = (theirs.dtype == meta.dtype || coded)
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
    parts: &[JoinedSource],
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
            (Ok(_), None) => {
                return Err(Error::internal("rows with random access that were not counted"));
            }
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
                    self.joining.remaps[array][p].apply(&mut chunk)?;
                    chunk.array = array;
                    chunk.first_row += start;
                    emit(chunk)
                })
                .at_file(self.joining.label(p))?;
        }
        Ok(())
    }
}
