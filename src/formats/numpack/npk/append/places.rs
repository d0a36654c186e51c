//! Where the rows of each array go, and whether they may: names, types, shapes, columns.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::super::write::DataFile;
use super::adjust::{Adjust, Remap};
use crate::error::{Error, Result};
use crate::format::Source;
use crate::formats::numpack::store::StoreSource;
use crate::formats::numpack::store::manifest::{Manifest, Segment};
use crate::formats::numpack::store::names::Names;
use crate::model::nested::{Parts, TakenApart};
use crate::model::{ArrayMeta, Categories, Dtype, EncodedArray, Encoding, Logical, Plan};
use crate::sidecar::StoredParts;

/// A stored array that grows, or that is made because the new rows have nulls.
pub(super) struct Target {
    /// Its place in the store's list; `None` for a new mask.
    pub(super) stored: Option<usize>,
    pub(super) name: String,
    /// What the metadata say of its file: data file or manifest.
    pub(super) data_file: String,
    /// The segment that takes the rows, where it has segments.
    pub(super) segment: Option<(Manifest, String)>,
    /// Stored rows before.
    pub(super) rows: u64,
    /// Rows that this array's plan counts and the store does not (the first offset).
    pub(super) less: u64,
}

impl Target {
    /// Whether its rows go into a file that the store does not have yet.
    pub(super) fn is_new_file(&self) -> bool {
        self.stored.is_none() || self.segment.is_some()
    }
}

/// What can be done where the form of the store does not hold the new rows.
pub(super) const TOGETHER: &str = "convert the store and the new rows together, into another one: \
                                   npk convert STORE NEW OTHER --concat";

/// What tells the rows of a logical array: the plan's array that has `of` rows for each of them.
#[derive(Clone, Copy)]
pub(super) struct Counts {
    pub(super) array: usize,
    pub(super) of: u64,
}

/// A logical array that grows, or a nested one or a part of it.
pub(super) struct LogicalTarget {
    pub(super) name: String,
    /// Index of the plan's array of its values; nested ones have none.
    pub(super) values: Option<usize>,
    pub(super) counts: Counts,
    pub(super) categories: Option<Arc<Categories>>,
    /// Whether codes of -1 among the new rows are nulls.
    pub(super) minus: bool,
    /// A mask that the store gets now.
    pub(super) new_valid: Option<String>,
    /// A mask that the store has and the new rows lack: stored index.
    pub(super) old_valid: Option<usize>,
}

impl LogicalTarget {
    pub(super) fn new(name: &str, counts: Counts) -> LogicalTarget {
        LogicalTarget {
            name: name.into(),
            values: None,
            counts,
            categories: None,
            minus: false,
            new_valid: None,
            old_valid: None,
        }
    }
}

/// Where all rows go.
pub(super) struct Planned {
    /// For each array of the plan.
    pub(super) targets: Vec<Target>,
    pub(super) places: Vec<DataFile>,
    pub(super) adjust: Vec<Adjust>,
    pub(super) growing: Vec<LogicalTarget>,
    /// The nested arrays that grow, by name: their parts in the store afterwards.
    pub(super) nested: Vec<(String, Parts)>,
}

/// Finds the place in the store for every array of the plan; all mismatches are reported together.
pub(super) fn plan_out(old: &StoreSource, plan: &Plan) -> Result<Planned> {
    let mut planning = Planning::of(old, plan);
    let (mut nested, mut errors) = (Vec::new(), Vec::new());
    let mut parts_of_nested: HashSet<String> = HashSet::new();
    let take = |parts: &Parts, known: &mut HashSet<String>| {
        known.extend(parts.arrays().into_iter().map(str::to_string));
    };
    let mut inside: HashSet<String> = HashSet::new();
    for taken in &old.plan().nested {
        let name = taken.name.as_str();
        if planning.nested.contains_key(name) || planning.index.contains_key(name) {
            continue;
        }
        let Some((grown, parts, columns)) = planning.by_fields(taken) else { continue };
        take(&parts, &mut parts_of_nested);
        inside.extend(columns);
        match grown {
            Ok(grown) => nested.push((taken.name.clone(), grown)),
            Err(e) => errors.push(e.array(name)),
        }
    }
    for encoded in &plan.encoded {
        let Encoding::Nested(parts) = &encoded.encoding else { continue };
        if inside.contains(&encoded.meta.name) {
            continue;
        }
        take(parts, &mut parts_of_nested);
        match planning.nested(encoded, parts) {
            Ok(grown) => nested.push((encoded.meta.name.clone(), grown)),
            Err(e) => errors.push(e.array(&encoded.meta.name)),
        }
    }
    let companions: HashSet<&str> =
        plan.encoded.iter().flat_map(EncodedArray::companions).collect();
    for (i, array) in plan.arrays.iter().enumerate() {
        let logical = planning.logical(i).name.as_str();
        if companions.contains(array.name.as_str()) || parts_of_nested.contains(logical) {
            continue;
        }
        match planning.flat(i, logical) {
            Ok(one) => planning.growing.push(one),
            Err(e) => errors.push(e.array(logical)),
        }
    }
    let logical = plan.encoded.iter().map(|k| (k.meta.name.as_str(), k.meta.rows));
    let logical: HashMap<&str, Option<u64>> = logical.collect();
    let rows = |g: &LogicalTarget| match logical.get(g.name.as_str()) {
        Some(&rows) => rows,
        None => g.values.and_then(|i| plan.arrays[i].rows),
    };
    let new_rows = planning.growing.iter().map(|g| (g.name.as_str(), rows(g))).collect();
    if errors.is_empty() {
        errors.extend(even_tables(old.plan(), &new_rows).err());
    }
    Error::all(errors)?;
    let Planning { growing, found, .. } = planning;
    let (mut targets, mut places, mut adjust) = (Vec::new(), Vec::new(), Vec::new());
    for (i, one) in found.into_iter().enumerate() {
        let (target, place, change) =
            one.ok_or_else(|| Error::internal("no place was found").array(&plan.arrays[i].name))?;
        targets.push(target);
        places.push(place);
        adjust.push(change);
    }
    Ok(Planned { targets, places, adjust, growing, nested })
}

/// The places that were found so far.
pub(super) struct Planning<'a> {
    pub(super) old: &'a StoreSource,
    pub(super) plan: &'a Plan,
    /// How the plan's arrays of values are encoded, by their names.
    encoded: HashMap<&'a str, &'a EncodedArray>,
    index: HashMap<&'a str, usize>,
    /// The plan's arrays of values by their logical names.
    pub(super) values: HashMap<&'a str, usize>,
    have: HashMap<&'a str, (&'a ArrayMeta, &'a StoredParts)>,
    /// The plan's nested arrays.
    pub(super) nested: HashMap<&'a str, &'a EncodedArray>,
    /// The store's nested arrays, and the places of all its others.
    pub(super) taken: HashMap<&'a str, &'a TakenApart>,
    pub(super) places: HashMap<&'a str, usize>,
    stored_names: HashSet<&'a str>,
    names: Names,
    found: Vec<Option<(Target, DataFile, Adjust)>>,
    pub(super) growing: Vec<LogicalTarget>,
}

impl<'a> Planning<'a> {
    fn of(old: &'a StoreSource, plan: &'a Plan) -> Planning<'a> {
        let (nested, flat): (Vec<&EncodedArray>, Vec<&EncodedArray>) =
            plan.encoded.iter().partition(|k| matches!(k.encoding, Encoding::Nested(_)));
        let mut names = Names::default();
        old.stored().iter().for_each(|s| names.take(&s.data_file));
        let encoded: HashMap<&str, &EncodedArray> =
            flat.into_iter().map(|k| (k.values.as_str(), k)).collect();
        let index = plan.positions();
        let values = index
            .iter()
            .map(|(&name, &i)| (encoded.get(name).map_or(name, |k| k.meta.name.as_str()), i));
        Planning {
            old,
            plan,
            values: values.collect(),
            encoded,
            index,
            nested: nested.into_iter().map(|k| (k.meta.name.as_str(), k)).collect(),
            taken: old.plan().nested.iter().map(|n| (n.name.as_str(), n)).collect(),
            places: old.plan().positions(),
            stored_names: old.stored().iter().map(|s| s.name.as_str()).collect(),
            have: old.logical_arrays().map(|f| (f.0.name.as_str(), f)).collect(),
            names,
            found: plan.arrays.iter().map(|_| None).collect(),
            growing: Vec::new(),
        }
    }

    /// The logical array that an array of the plan has the values of.
    pub(super) fn logical(&self, i: usize) -> &'a ArrayMeta {
        let array = &self.plan.arrays[i];
        self.encoded.get(array.name.as_str()).map_or(array, |k| &k.meta)
    }

    /// The plan's array of this name.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// What the store has under this logical name.
    pub(super) fn stored(&self, name: &str) -> Result<(&'a ArrayMeta, &'a StoredParts)> {
        let found = self.have.get(name).copied();
        found.ok_or_else(|| no_array(self.old.plan(), self.plan, name))
    }

    /// Places for the plan's array `i` and its companions, behind the rows of the store's logical
    /// array `name`.
    ///
    /// # Errors
    /// No such array there; another type or shape.
    pub(super) fn flat(&mut self, i: usize, name: &str) -> Result<LogicalTarget> {
        let (old, array) = (self.old, &self.plan.arrays[i]);
        let encoded = self.encoded.get(array.name.as_str()).copied();
        let (meta, parts) = self.stored(name)?;
        crate::format::readable(meta)?;
        let order = columns(old.plan(), self.plan, name)?;
        fits(old, meta, parts, array, encoded).map_err(|e| self.with_way(e, name, meta))?;
        let stored = &old.stored()[parts.values];
        let categories = categories_of(meta, parts);
        let adjust = match (&categories, new_categories(array, encoded), order) {
            (Some(to), Some(from), _) => Adjust::Codes(Remap::new(stored.dtype, from, to.clone())),
            (_, _, Some(order)) => Adjust::Columns(order, stored.dtype.item_bytes() as usize),
            _ => Adjust::Nothing,
        };
        let (target, place) = behind_checked(old, parts.values, array.rows)?;
        self.found[i] = Some((target, place, adjust));
        let offsets = encoded.and_then(|k| k.offsets.as_deref()).and_then(|n| self.named(n));
        if let (Some(at), Some(o)) = (parts.offsets, offsets) {
            self.offsets(at, o, stored.rows_alive())?;
        }
        let mut one = LogicalTarget::new(name, Counts { array: offsets.unwrap_or(i), of: 1 });
        one.values = Some(i);
        one.categories = categories;
        one.minus = self.logical(i).nulls && encoded.is_some_and(|k| k.valid.is_none());
        let mask = encoded.and_then(|k| k.valid.as_deref()).and_then(|n| self.named(n));
        self.mask(parts.valid, mask, meta.rows.unwrap_or(0), &mut one)?;
        Ok(one)
    }

    /// Of a column of lists both files together tell a form that holds them.
    fn with_way(&self, error: Error, name: &str, stored: &ArrayMeta) -> Error {
        let mut columns = self.plan.tables.iter().flat_map(|t| &t.columns);
        let lists = stored.logical.is_var() || !stored.element_dims().is_empty();
        match lists && error.hint_text().is_none() && columns.any(|c| c.array == name) {
            true => error.hint(TOGETHER),
            false => error,
        }
    }

    /// A place for the plan's offsets `o`, behind the stored ones `at`, whose last is `base`.
    ///
    /// # Errors
    /// Corrupt: it is another.
    pub(super) fn offsets(&mut self, at: usize, o: usize, base: u64) -> Result<()> {
        let last = self.old.last_offset(at)?;
        let name = &self.old.stored()[at].name;
        if last != base {
            let wrong =
                format!("the last offset is {}, but there are {base} elements", last as i64);
            let hint = "convert the store into a new one, and append to that";
            return Err(Error::corrupt(wrong).hint(hint).with_array(name));
        }
        let base = i64::try_from(base).map_err(|_| Error::failed("offsets would exceed 2^63"))?;
        let rows = self.plan.arrays[o].rows.map(|r| r.saturating_sub(1));
        let (mut target, place) = behind_checked(self.old, at, rows)?;
        target.less = 1;
        self.found[o] = Some((target, place, Adjust::Offsets(base)));
        Ok(())
    }

    /// A place for the plan's mask `new` behind the stored one, or for one that begins now: `rows`
    /// are there.
    ///
    /// # Errors
    /// Exists: another array has its name.
    pub(super) fn mask(
        &mut self,
        stored: Option<usize>,
        new: Option<usize>,
        rows: u64,
        one: &mut LogicalTarget,
    ) -> Result<()> {
        match (stored, new) {
            (Some(at), Some(mask)) => {
                let (target, place) = behind_checked(self.old, at, self.plan.arrays[mask].rows)?;
                self.found[mask] = Some((target, place, Adjust::Nothing));
            }
            (None, Some(mask)) => {
                let name = &self.plan.arrays[mask].name;
                if self.stored_names.contains(name.as_str()) {
                    return Err(Error::exists(format!(
                        "the new rows have nulls, but the store has another array {name} already"
                    )));
                }
                let file = self.names.give(name);
                let place = DataFile::new(name, file.clone(), 1, self.plan.arrays[mask].rows, rows);
                let target = Target {
                    stored: None,
                    name: name.clone(),
                    data_file: file,
                    segment: None,
                    rows,
                    less: 0,
                };
                self.found[mask] = Some((target, place, Adjust::Nothing));
                one.new_valid = Some(name.clone());
            }
            (at, None) => one.old_valid = at,
        }
        Ok(())
    }
}

/// The store lacks an array: which name, or which layout, would find one.
fn no_array(old: &Plan, new: &Plan, name: &str) -> Error {
    let error = Error::exists("the store has no array of this name to append to");
    let is_matrix = |plan: &Plan| plan.tables.iter().any(|t| t.matrix.is_some());
    let has_columns = |plan: &Plan| plan.tables.iter().any(|t| t.matrix.is_none());
    if new.tables.iter().any(|t| t.matrix.as_deref() == Some(name)) && has_columns(old) {
        return error.hint("the store has an array for each column: --layout columns");
    }
    if is_matrix(old) && has_columns(new) {
        return error.hint("the store has one matrix of all columns: --layout matrix");
    }
    match (old.arrays.as_slice(), new.arrays.as_slice()) {
        ([only], [_]) => {
            error.hint(format!("--name '{}' gives it the name of the store's array", only.name))
        }
        _ => error.hint(format!(
            "the store has {}; --rename OLD=NEW",
            listed(old.arrays.iter().map(|a| a.name.as_str()))
        )),
    }
}

/// Names for a message, not too many.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> =
        names.map(|name| if name.is_empty() { "''" } else { name }).collect();
    if names.len() > 8 {
        names.truncate(8);
        names.push("…");
    }
    names.join(", ")
}

/// The order of a matrix's new columns that is the store's; `None` where it is already, or where
/// one side has no names.
fn columns(old: &Plan, new: &Plan, name: &str) -> Result<Option<Vec<usize>>> {
    fn headers<'a>(plan: &'a Plan, name: &str) -> Option<Vec<&'a str>> {
        let table = plan.tables.iter().find(|t| t.matrix.as_deref() == Some(name))?;
        Some(table.columns.iter().map(|c| c.header.as_str()).collect())
    }
    let (Some(old), Some(new)) = (headers(old, name), headers(new, name)) else { return Ok(None) };
    if old == new {
        return Ok(None);
    }
    let place: HashMap<&str, usize> = new.iter().enumerate().map(|(i, h)| (*h, i)).collect();
    let order: Option<Vec<usize>> = old.iter().map(|h| place.get(h).copied()).collect();
    // Each of the new ones is taken once: none is left over, none is there twice.
    let each_once = |order: &Vec<usize>| {
        order.len() == new.len() && order.iter().collect::<HashSet<_>>().len() == new.len()
    };
    match order.filter(each_once) {
        Some(order) => Ok(Some(order)),
        None => Err(Error::exists(format!(
            "the new rows have the columns {}, the store's are {}",
            listed(new.iter().copied()),
            listed(old.iter().copied())
        ))
        .hint("--rename OLD=NEW renames a column, --column-names names those of a text file")),
    }
}

/// A row is added to all columns of a table, or to none: `new_rows` has the logical arrays that
/// grow, with their new rows.
///
/// # Errors
/// Exists: what is missing, or uneven.
pub(super) fn even_tables(old: &Plan, new_rows: &HashMap<&str, Option<u64>>) -> Result<()> {
    let mut errors = Vec::new();
    for table in &old.tables {
        let (given, missing): (Vec<&str>, Vec<&str>) =
            table.arrays().into_iter().partition(|a| new_rows.contains_key(a));
        let Some(first) = given.first() else { continue };
        if !missing.is_empty() {
            let what = if missing.len() == 1 { "the column" } else { "the columns" };
            errors.push(
                Error::exists(format!(
                    "the new rows lack {what} {} of the store's table",
                    listed(missing.into_iter())
                ))
                .hint("a row has a value in every column of the table: give all columns"),
            );
            continue;
        }
        let rows = |a: &str| new_rows.get(a).copied().flatten();
        if let Some(other) =
            given.iter().find(|a| rows(a).zip(rows(first)).is_some_and(|(n, m)| n != m))
        {
            let (n, m) = (rows(first).unwrap_or(0), rows(other).unwrap_or(0));
            errors.push(Error::exists(format!(
                "{first} gets {n} new rows and {other} {m}, but they are columns of one table"
            )));
        }
    }
    Error::all(errors)
}

fn categories_of(meta: &ArrayMeta, parts: &StoredParts) -> Option<Arc<Categories>> {
    match (&parts.encoding, &meta.logical) {
        (Encoding::Codes(categories), _)
        | (Encoding::Plain, Logical::Dictionary { categories, .. }) => {
            Some(Categories::new(categories.kind().clone(), categories.snapshot()))
        }
        _ => None,
    }
}

fn new_categories(array: &ArrayMeta, encoded: Option<&EncodedArray>) -> Option<Arc<Categories>> {
    match (encoded.map(|k| &k.encoding), &encoded.map_or(array, |k| &k.meta).logical) {
        (Some(Encoding::Codes(categories)), _) | (_, Logical::Dictionary { categories, .. }) => {
            Some(categories.clone())
        }
        _ => None,
    }
}

/// Do the new rows have the type, the form and the inner shape of the store's?
fn fits(
    old: &StoreSource,
    meta: &ArrayMeta,
    parts: &StoredParts,
    array: &ArrayMeta,
    encoded: Option<&EncodedArray>,
) -> Result<()> {
    let stored = &old.stored()[parts.values];
    let logical = encoded.map_or(array, |k| &k.meta);
    if logical.scalar || stored.shape.is_empty() || meta.scalar {
        return Err(Error::exists("an array without dimensions has no rows to append to"));
    }
    let inner = &stored.shape[1..];
    let shown = |dtype: Dtype, inner: &[u64]| {
        let mut shape = String::from("[rows");
        inner.iter().for_each(|d| shape.push_str(&format!(", {d}")));
        format!("{dtype} {shape}]")
    };
    let same = meta.logical == logical.logical
        && match (&parts.encoding, encoded.map(|k| &k.encoding)) {
            (Encoding::Codes(_), Some(Encoding::Codes(_)))
            | (Encoding::Offsets, Some(Encoding::Offsets)) => true,
            (Encoding::Bits, Some(Encoding::Bits)) => meta.dtype == logical.dtype,
            (Encoding::Plain, None | Some(Encoding::Plain | Encoding::Widened)) => {
                meta.dtype == stored.dtype
            }
            _ => false,
        };
    if !same {
        let (mut here, mut there) = (logical.clone(), meta.clone());
        (here.nulls, there.nulls) = (false, false);
        let (new, store) = (here.type_name(), there.type_name());
        let form = if new == store { ", stored in another form" } else { "" };
        let error = Error::exists(format!("the new rows are {new}, the store's are {store}{form}"));
        let other_form =
            !form.is_empty() || here.dtype != there.dtype && here.logical == there.logical;
        return Err(if other_form {
            error.hint("give the options that the store was made with (--strings, --bf16, --fp8)")
        } else if here.logical.is_time()
            && std::mem::discriminant(&here.logical) == std::mem::discriminant(&there.logical)
        {
            error.hint(format!("--dtype '{}={store}' converts the new rows", logical.name))
        } else {
            error
        });
    }
    if array.dtype != stored.dtype || array.inner != inner {
        let (here, there) = (shown(array.dtype, &array.inner), shown(stored.dtype, inner));
        let error = Error::exists(format!("the new rows are {here}, the store's are {there}"));
        let castable = array.inner == inner && logical.logical.is_plain();
        return Err(if castable {
            error.hint(format!("--dtype '{}={}' casts the new rows", logical.name, stored.dtype))
        } else {
            error
        });
    }
    Ok(())
}

fn behind_checked(
    old: &StoreSource,
    index: usize,
    rows: Option<u64>,
) -> Result<(Target, DataFile)> {
    if let Some(problem) = &old.stored()[index].problem {
        return Err(Error::clone(problem));
    }
    after_last_row(old, index, rows)
}

/// The place after a stored array's last row.
pub(super) fn after_last_row(
    old: &StoreSource,
    index: usize,
    rows: Option<u64>,
) -> Result<(Target, DataFile)> {
    let stored = &old.stored()[index];
    let before = stored.rows_stored();
    let mut target = Target {
        stored: Some(index),
        name: stored.name.clone(),
        data_file: stored.data_file.clone(),
        segment: None,
        rows: before,
        less: 0,
    };
    let place = if stored.data_file.ends_with(".npkseg") {
        let segments: Vec<Segment> = stored
            .pieces
            .iter()
            .map(|p| Segment {
                file: p.path.clone(),
                rows: p.rows,
                bytes: p.rows * stored.row_bytes,
            })
            .collect();
        let file = next_segment(&stored.data_file, &segments);
        target.segment = Some((Manifest { version: 1, segments }, file.clone()));
        DataFile::new(&stored.name, file, stored.row_bytes, rows, 0)
    } else {
        let base = before
            .checked_mul(stored.row_bytes)
            .ok_or_else(|| Error::corrupt("the array is too large"))?;
        let place =
            DataFile::new(&stored.name, stored.data_file.clone(), stored.row_bytes, rows, base);
        // NumPack loads no file of bools that is longer than its array: it goes on in a copy.
        if stored.dtype == Dtype::Bool { place } else { place.begun(true) }
    };
    Ok((target, place))
}

/// The name after the last segment's: `seg_000010.npkd` after `seg_000009.npkd`.
fn next_segment(manifest: &str, segments: &[Segment]) -> String {
    let number =
        |s: &Segment| s.file.rsplit("seg_").next()?.strip_suffix(".npkd")?.parse::<u64>().ok();
    let next = segments
        .iter()
        .filter_map(number)
        .max()
        .map_or(segments.len() as u64, |n| n.saturating_add(1));
    let folder = match segments.last().and_then(|s| s.file.rsplit_once('/')) {
        Some((folder, _)) => folder.to_string(),
        None => format!("{}_segments", manifest.trim_end_matches(".npkseg")),
    };
    format!("{folder}/seg_{next:06}.npkd")
}
