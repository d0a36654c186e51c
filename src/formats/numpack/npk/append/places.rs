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

/// A logical array that grows.
pub(super) struct LogicalTarget {
    pub(super) name: String,
    /// Index of the plan's array of its values.
    pub(super) values: usize,
    pub(super) categories: Option<Arc<Categories>>,
    /// Whether codes of -1 among the new rows are nulls.
    pub(super) minus: bool,
    /// A mask that the store gets now.
    pub(super) new_valid: Option<String>,
    /// A mask that the store has and the new rows lack: stored index.
    pub(super) old_valid: Option<usize>,
}

pub(super) type Planned = (Vec<Target>, Vec<DataFile>, Vec<Adjust>, Vec<LogicalTarget>);

/// Finds the place in the store for every array of the plan; all mismatches are reported together.
pub(super) fn plan_out(old: &StoreSource, plan: &Plan) -> Result<Planned> {
    let nested = plan.encoded.iter().filter(|k| matches!(k.encoding, Encoding::Nested(_)));
    let refused = nested.map(|k| {
        Error::refused("rows of nested columns cannot be appended to a store")
            .with_array(&k.meta.name)
            .hint("join the sources with --concat, or leave the column out with -x")
    });
    Error::all(refused.collect())?;
    let encoded: HashMap<&str, &EncodedArray> =
        plan.encoded.iter().map(|k| (k.values.as_str(), k)).collect();
    let companions: HashSet<&str> = plan
        .encoded
        .iter()
        .flat_map(|k| [k.valid.as_deref(), k.offsets.as_deref()])
        .flatten()
        .collect();
    let index: HashMap<&str, usize> =
        plan.arrays.iter().enumerate().map(|(i, a)| (a.name.as_str(), i)).collect();
    let have: HashMap<&str, (&ArrayMeta, &StoredParts)> =
        old.logical_arrays().map(|f| (f.0.name.as_str(), f)).collect();
    let stored_names: HashSet<&str> = old.stored().iter().map(|s| s.name.as_str()).collect();
    let mut names = Names::default();
    old.stored().iter().for_each(|s| names.take(&s.data_file));
    let mut found: Vec<Option<(Target, DataFile, Adjust)>> =
        plan.arrays.iter().map(|_| None).collect();
    let (mut growing, mut errors) = (Vec::new(), Vec::new());
    for (i, array) in plan.arrays.iter().enumerate() {
        if companions.contains(array.name.as_str()) {
            continue;
        }
        let encoded = encoded.get(array.name.as_str()).copied();
        let logical = encoded.map_or(array, |k| &k.meta);
        let one = || -> Result<LogicalTarget> {
            let (meta, parts) = *have
                .get(logical.name.as_str())
                .ok_or_else(|| no_array(old.plan(), plan, &logical.name))?;
            crate::format::readable(meta)?;
            let order = columns(old.plan(), plan, &logical.name)?;
            fits(old, meta, parts, array, encoded)?;
            let stored = &old.stored()[parts.values];
            let categories = categories_of(meta, parts);
            let adjust = match (&categories, new_categories(array, encoded), order) {
                (Some(to), Some(from), _) => {
                    Adjust::Codes(Remap::new(stored.dtype, from, to.clone()))
                }
                (_, _, Some(order)) => Adjust::Columns(order, stored.dtype.item_bytes() as usize),
                _ => Adjust::Nothing,
            };
            let (target, place) = behind_checked(old, parts.values, array.rows)?;
            found[i] = Some((target, place, adjust));
            if let (Some(at), Some(o)) = (
                parts.offsets,
                encoded.and_then(|k| k.offsets.as_deref()).and_then(|n| index.get(n)),
            ) {
                let (mut target, place) =
                    behind_checked(old, at, plan.arrays[*o].rows.map(|r| r.saturating_sub(1)))?;
                target.less = 1;
                found[*o] = Some((target, place, Adjust::Offsets(stored.rows_alive() as i64)));
            }
            let mut one = LogicalTarget {
                name: logical.name.clone(),
                values: i,
                categories,
                minus: logical.nulls && encoded.is_some_and(|k| k.valid.is_none()),
                new_valid: None,
                old_valid: None,
            };
            match (
                parts.valid,
                encoded.and_then(|k| k.valid.as_deref()).and_then(|n| index.get(n).copied()),
            ) {
                (Some(at), Some(mask)) => {
                    let (target, place) = behind_checked(old, at, plan.arrays[mask].rows)?;
                    found[mask] = Some((target, place, Adjust::Nothing));
                }
                (Some(at), None) => one.old_valid = Some(at),
                (None, Some(mask)) => {
                    let name = &plan.arrays[mask].name;
                    if stored_names.contains(name.as_str()) {
                        return Err(Error::exists(format!(
                            "the new rows have nulls, but the store has another array {name} already"
                        )));
                    }
                    let rows = meta.rows.unwrap_or(0);
                    let file = names.give(name);
                    let place = DataFile::new(name, file.clone(), 1, plan.arrays[mask].rows, rows);
                    let target = Target {
                        stored: None,
                        name: name.clone(),
                        data_file: file,
                        segment: None,
                        rows,
                        less: 0,
                    };
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
    let rows = |i: usize| {
        encoded.get(plan.arrays[i].name.as_str()).map_or(plan.arrays[i].rows, |k| k.meta.rows)
    };
    let new_rows =
        growing.iter().map(|g: &LogicalTarget| (g.name.as_str(), rows(g.values))).collect();
    if errors.is_empty() {
        errors.extend(even_tables(old.plan(), &new_rows).err());
    }
    Error::all(errors)?;
    let (mut targets, mut places, mut adjusts) = (Vec::new(), Vec::new(), Vec::new());
    for (i, one) in found.into_iter().enumerate() {
        let (target, place, adjust) =
            one.ok_or_else(|| Error::internal("no place was found").array(&plan.arrays[i].name))?;
        targets.push(target);
        places.push(place);
        adjusts.push(adjust);
    }
    Ok((targets, places, adjusts, growing))
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
