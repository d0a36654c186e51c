//! The nested arrays of a side file or a mark: whether all plain arrays that they are made of are
//! there, and fit together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow_schema::{DataType, FieldRef};

use crate::arrow_model;
use crate::model::nested::{PartKind, Parts, TakenApart, parts_of, with_children};
use crate::model::{ArrayMeta, Categories, Dtype, Logical, Nested};

/// A part of a nested array: what it is, and which plain arrays it has.
pub struct NestedNode {
    /// What kind of part it is.
    pub kind: PartKind,
    /// Its field in Arrow.
    pub field: FieldRef,
    /// The index of its array of offsets.
    pub offsets: Option<usize>,
    /// That of its mask.
    pub valid: Option<usize>,
    /// The array of a leaf.
    pub leaf: Option<usize>,
    /// Its parts.
    pub below: Vec<NestedNode>,
}

impl NestedNode {
    /// `place` tells the index of an array.
    fn of(
        field: &FieldRef,
        parts: &Parts,
        place: &dyn Fn(&str) -> Option<usize>,
    ) -> Option<NestedNode> {
        let (kind, fields) = parts_of(field.data_type())?;
        let find = |name: &Option<String>| match name {
            Some(name) => place(name).map(Some),
            None => Some(None),
        };
        let leaf = match kind {
            PartKind::Leaf => Some(place(&parts.name)?),
            _ => None,
        };
        if fields.len() != parts.parts.len() {
            return None;
        }
        let below: Option<Vec<NestedNode>> = fields
            .iter()
            .zip(&parts.parts)
            .map(|((_, f), p)| NestedNode::of(f, p, place))
            .collect();
        let field = field.clone();
        let (offsets, valid) = (find(&parts.offsets)?, find(&parts.valid)?);
        if matches!(kind, PartKind::List) != offsets.is_some() {
            return None;
        }
        Some(NestedNode { kind, field, offsets, valid, leaf, below: below? })
    }
    /// Whether there are nulls in each field of a walk through its type.
    fn nulls(&self, flat: &[ArrayMeta], found: &mut Vec<bool>) {
        found.push(self.valid.is_some() || self.leaf.is_some_and(|i| flat[i].nulls));
        if matches!(self.field.data_type(), DataType::Map(..)) {
            found.push(false);
        }
        self.below.iter().for_each(|below| below.nulls(flat, found));
    }
    /// The indices of its arrays.
    pub fn arrays(&self) -> Vec<usize> {
        let own = [self.offsets, self.valid, self.leaf].into_iter().flatten();
        own.chain(self.below.iter().flat_map(NestedNode::arrays)).collect()
    }
}

/// The nested array of an entry, and the arrays (`flat`, found by name in `places`) that it is made
/// of.
///
/// # Errors
/// Why it is not whole: what is missing, or does not fit.
pub fn whole_nested(
    entry: &TakenApart,
    flat: &[ArrayMeta],
    places: &HashMap<&str, usize>,
) -> std::result::Result<(ArrayMeta, NestedNode), String> {
    let is_text = |name: &str| places.get(name).is_some_and(|&i| flat[i].logical.is_var());
    let t = without_dictionaries(entry.field.data_type(), &entry.parts, &is_text);
    let field: FieldRef = Arc::new(entry.field.as_ref().clone().with_data_type(t));
    let node = NestedNode::of(&field, &entry.parts, &|name| places.get(name).copied());
    let node = node.ok_or("not all of them are there")?;
    let mut seen = HashSet::new();
    if places.contains_key(entry.name.as_str()) {
        return Err("there is another array of this name now".into());
    }
    if !node.arrays().into_iter().all(|i| seen.insert(i)) {
        return Err("some of them are the same".into());
    }
    let mut dictionaries = Vec::new();
    let rows = rows_of(&node, flat, &mut dictionaries)?;
    let mut nulls = Vec::new();
    node.nulls(flat, &mut nulls);
    let nested = Nested { field, dictionaries, nulls: Some(nulls) };
    let mut meta = ArrayMeta::column(&entry.name, Dtype::U8, Logical::Nested(nested.into()), rows);
    let stored = |i: usize| flat[i].size_bytes().unwrap_or(0);
    meta.details.stored_bytes =
        Some(node.arrays().into_iter().map(stored).fold(0, u64::saturating_add));
    meta.details.error = node.arrays().into_iter().find_map(|i| flat[i].details.error.clone());
    Ok((meta, node))
}

/// The type with texts in the place of dictionaries that were written as such.
fn without_dictionaries(t: &DataType, parts: &Parts, is_text: &dyn Fn(&str) -> bool) -> DataType {
    if let DataType::Dictionary(_, values) = t {
        return if is_text(&parts.name) { values.as_ref().clone() } else { t.clone() };
    }
    // Keys and values of a map are fields of its entries.
    if let DataType::Map(entries, sorted) = t {
        let pair = without_dictionaries(entries.data_type(), parts, is_text);
        return DataType::Map(Arc::new(entries.as_ref().clone().with_data_type(pair)), *sorted);
    }
    let mut below = parts.parts.iter();
    with_children(t, &mut |field| match below.next() {
        Some(part) => {
            let t = without_dictionaries(field.data_type(), part, is_text);
            Arc::new(field.as_ref().clone().with_data_type(t))
        }
        None => field.clone(),
    })
}

/// The rows of a part; collects the categories of its dictionaries.
fn rows_of(
    node: &NestedNode,
    flat: &[ArrayMeta],
    dictionaries: &mut Vec<Arc<Categories>>,
) -> std::result::Result<Option<u64>, String> {
    let vector = |i: usize, dtype: Dtype| {
        let meta = &flat[i];
        let plain = meta.dtype == dtype && meta.inner.is_empty() && meta.logical.is_plain();
        (plain && !meta.scalar).then_some(meta.rows.unwrap_or(0))
    };
    let mut rows = None;
    let mut agree = |found: u64, what: &str| match rows.replace(found) {
        Some(before) if before != found => {
            Err(format!("{what} has {found} rows, others have {before}"))
        }
        _ => Ok(()),
    };
    if let Some(i) = node.valid {
        let name = &flat[i].name;
        agree(vector(i, Dtype::Bool).ok_or(format!("{name} is not a mask"))?, name)?;
    }
    if let Some(i) = node.offsets {
        let name = &flat[i].name;
        let found = vector(i, Dtype::I64).and_then(|n| n.checked_sub(1));
        agree(found.ok_or(format!("{name} holds no offsets"))?, name)?;
    }
    if let Some(i) = node.leaf {
        let meta = &flat[i];
        let t = node.field.data_type();
        let expected = arrow_model::element_type(t).map_err(|e| e.reason())?;
        if meta.dtype != expected.0
            || meta.logical != arrow_model::with_order(expected.1, &node.field)
            || !meta.element_dims().is_empty()
        {
            return Err(format!("{} is {} now", meta.name, meta.type_name()));
        }
        if let Logical::Dictionary { categories, .. } = &meta.logical {
            dictionaries.push(categories.clone());
        }
        agree(meta.rows.unwrap_or(0), &meta.name)?;
    }
    for below in &node.below {
        let found = rows_of(below, flat, dictionaries)?;
        match (&node.kind, found) {
            (PartKind::Struct, Some(n)) => agree(n, below.field.name())?,
            (PartKind::Fixed(0), Some(found)) if found > 0 => {
                return Err(format!("{found} elements are in lists of length 0"));
            }
            (PartKind::Fixed(n), Some(found)) if *n > 0 => {
                if found % n != 0 {
                    return Err(format!("{found} elements do not make lists of {n}"));
                }
                agree(found / n, below.field.name())?
            }
            _ => {}
        }
    }
    Ok(rows)
}
