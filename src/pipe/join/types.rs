//! Columns of several sources in one type: those without any value take that of the others, codes
//! get as wide as all categories together need.

use std::sync::Arc;

use arrow_schema::{DataType, Field};

use super::super::flow::Flow;
use super::JoinedSource;
use crate::arrow_model;
use crate::model::{ArrayMeta, Categories, Dtype, Logical, Plan, Table};
use crate::ops::Op;
use crate::ops::dictionary::Merged;
use crate::resolve::Step;

/// The parts, with columns that no schema and no value gives a type
/// ([`untyped`](crate::model::Facts::untyped)) as nulls of the type that they have in the first of
/// the others.
pub(super) fn settled(mut parts: Vec<JoinedSource>) -> Vec<JoinedSource> {
    let untyped = |part: &JoinedSource| -> Vec<String> {
        let arrays = part.source.plan().arrays.iter();
        arrays.filter(|a| a.details.untyped).map(|a| a.name.clone()).collect()
    };
    let of_parts: Vec<Vec<String>> = parts.iter().map(untyped).collect();
    if of_parts.iter().all(Vec::is_empty) {
        return parts;
    }
    let mut made = Vec::with_capacity(parts.len());
    let plans: Vec<Plan> = parts.iter().map(|p| p.source.plan().clone()).collect();
    for (part, names) in parts.drain(..).zip(of_parts) {
        let mut step = Step::same(part.source.plan());
        let mut changed = false;
        for name in &names {
            let typed =
                |plan: &&Plan| plan.position(name).is_some_and(|i| !plan.arrays[i].details.untyped);
            let Some(like) = plans.iter().find(typed) else { continue };
            changed |= take_type(&mut step, name, like);
        }
        let source = match changed {
            true => Flow::from(part.source).then(step).into_source(),
            false => part.source,
        };
        made.push(JoinedSource { source, label: part.label });
    }
    made
}

/// Gives an array the type that it has in another plan.
fn take_type(step: &mut Step, name: &str, like: &Plan) -> bool {
    let (Some(i), Some(other)) = (step.plan.position(name), like.position(name)) else {
        return false;
    };
    let model = &like.arrays[other];
    let meta = &mut step.plan.arrays[i];
    let kind = |c: &Arc<Categories>| Categories::new(c.kind().clone(), Vec::new());
    let categories = model.logical.dictionaries().iter().map(kind).collect();
    meta.dtype = model.dtype;
    meta.logical = model.logical.with_dictionaries(categories);
    meta.inner.clone_from(&model.inner);
    meta.original_dtype = model.original_dtype;
    meta.nulls = meta.rows != Some(0) && meta.logical.nested().is_none();
    meta.details.untyped = false;
    let meta = Arc::new(meta.clone());
    step.recipes[i].ops.push(Op::Nulls(meta));
    let recorded = field_of(like, name);
    with_field(&mut step.plan, name, &|_| recorded.clone());
    true
}

/// The header of the column that is this array.
fn header<'a>(table: &'a Table, array: &str) -> Option<&'a str> {
    table.columns.iter().find(|c| c.array == array).map(|c| c.header.as_str())
}

fn field_of(plan: &Plan, array: &str) -> Option<Field> {
    plan.tables
        .iter()
        .find_map(|table| arrow_model::recorded_field(&table.metadata, header(table, array)?))
}

/// Changes what tables record of an array's Arrow type.
fn with_field(plan: &mut Plan, array: &str, change: &dyn Fn(&Field) -> Option<Field>) {
    for table in &mut plan.tables {
        let Some(header) = header(table, array).map(str::to_string) else { continue };
        let renamed = |field: &Field| {
            change(field).map(|new| new.with_name(field.name()).with_nullable(true))
        };
        arrow_model::change_field(&mut table.metadata, &header, renamed);
    }
}

/// Gives the codes of a joined dictionary the type that they need; whether that is another one than
/// before. `metas`: the arrays that it is joined of.
pub(super) fn widen(meta: &mut ArrayMeta, metas: &[&ArrayMeta], merged: &[Arc<Merged>]) -> bool {
    let (Logical::Dictionary { .. }, [merged]) = (&meta.logical, merged) else { return false };
    let codes = code_dtype(metas, merged).unwrap_or(meta.dtype);
    std::mem::replace(&mut meta.dtype, codes) != codes
}

/// The type of the codes of a dictionary that is joined of these: the widest of theirs, or a wider
/// one where that has too few codes for all their categories, as far as they are known.
fn code_dtype(metas: &[&ArrayMeta], merged: &Merged) -> Option<Dtype> {
    let widest = metas.iter().map(|meta| meta.dtype).max_by_key(|d| codes(*d))?;
    let whole = |meta: &&ArrayMeta| match &meta.logical {
        Logical::Dictionary { categories, .. } if categories.is_whole() => {
            Some(categories.len() as u64)
        }
        _ => None,
    };
    // Where only reading tells them, a row has one at most.
    let most = |meta: &ArrayMeta| codes(meta.dtype).min(meta.rows.unwrap_or(u64::MAX));
    let needed = match metas.iter().all(|meta| whole(meta).is_some()) {
        true => merged.categories.len() as u64,
        false => metas.iter().map(|m| whole(m).unwrap_or(most(m))).fold(0, u64::saturating_add),
    };
    let wider = match widest {
        Dtype::I8 => &[Dtype::I8, Dtype::I16, Dtype::I32][..],
        Dtype::U8 => &[Dtype::U8, Dtype::U16, Dtype::U32],
        Dtype::I16 => &[Dtype::I16, Dtype::I32],
        Dtype::U16 => &[Dtype::U16, Dtype::U32],
        _ => return Some(widest),
    };
    wider.iter().copied().find(|d| codes(*d) >= needed).or(wider.last().copied())
}

/// How many codes a type has.
fn codes(dtype: Dtype) -> u64 {
    let bits = 8 * dtype.item_bytes() as u32;
    let signed = matches!(dtype, Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64);
    if signed { 1 << (bits - 1) } else { u64::MAX >> (64 - bits) }
}

/// Records that the codes of an array have another type.
pub(super) fn with_codes(plan: &mut Plan, array: &str, dtype: Dtype) {
    let keys = arrow_model::usual_element(&ArrayMeta::new("", dtype, &[0]));
    with_field(plan, array, &|field| match (field.data_type(), &keys) {
        (DataType::Dictionary(_, values), Ok(keys)) => {
            let t = DataType::Dictionary(Box::new(keys.clone()), values.clone());
            Some(field.clone().with_data_type(t))
        }
        _ => None,
    });
}
