//! Nested columns for sinks that lack them: as plain arrays `NAME.offsets`, `NAME.values`,
//! `NAME.field`, `NAME.keys` and `NAME.valid`, one level after the other.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef};

use super::Step;
use super::inside::leaf;
use super::policy::Policy;
use crate::arrow_model;
use crate::error::{Error, Result};
use crate::format::{Arrays, Capabilities};
use crate::model::nested::{Masks, PartKind, Parts, parts_of};
use crate::model::{ArrayMeta, Categories, Dtype, EncodedArray, Encoding, Logical, Nested, Plan};
use crate::ops::{Lists, Op, Part, PartOf, Recipe};

/// The plan with nested arrays that the sink lacks taken apart; `None` where there are none.
///
/// # Errors
/// Refused: types that have no plain form, or lists that were not to be taken apart.
pub(super) fn take_apart(
    plan: &Plan,
    capabilities: &Capabilities,
    policy: &Policy,
) -> Result<Option<Step>> {
    let apart = |meta: &ArrayMeta| {
        let lacks = !(capabilities.logical)(&meta.logical) && meta.details.error.is_none();
        meta.logical.nested().filter(|_| lacks).cloned()
    };
    let json = policy.nested_json && holds_json(capabilities);
    let as_json = |meta: &ArrayMeta| match apart(meta) {
        Some(nested) => json.then(|| vec![Op::NestedToJson(nested)]),
        None => json.then(|| lists_to_json(meta, capabilities)).flatten(),
    };
    if plan.arrays.iter().all(|meta| apart(meta).is_none() && as_json(meta).is_none()) {
        return Ok(None);
    }
    let mut step = Step {
        plan: Plan { arrays: Vec::new().into(), ..plan.clone() },
        recipes: Vec::new(),
        notes: Vec::new(),
    };
    let mut errors = Vec::new();
    for (input, meta) in plan.arrays.iter().enumerate() {
        if let Some(ops) = as_json(meta) {
            let text = ArrayMeta::column(&meta.name, Dtype::U8, Logical::Text, meta.rows);
            step.plan.arrays.push(ArrayMeta { nulls: true, ..text });
            step.recipes.push(Recipe { input, ops });
            continue;
        }
        let Some(nested) = apart(meta) else {
            step.plan.arrays.push(meta.clone());
            step.recipes.push(Recipe::of(input));
            continue;
        };
        match parts(meta, &nested, capabilities, policy) {
            Ok(parts) => add(input, meta, &nested, parts, policy, &mut step)?,
            Err(e) if policy.skip_unsupported => {
                step.notes.push(format!("{}: left out: {}", meta.name, e.reason()))
            }
            Err(e) => errors.push(e.with_array(&meta.name)),
        }
    }
    Error::all(errors)?;
    Ok(Some(step))
}

/// Every nested array taken apart, whatever a sink could hold; beside it how many arrays each one
/// became, `None` where it stays as it is.
///
/// # Errors
/// Types that have no plain form.
pub fn all_apart(plan: &Plan) -> Result<(Step, Vec<Option<usize>>)> {
    let mut step = Step {
        plan: Plan { arrays: Vec::new().into(), ..plan.clone() },
        recipes: Vec::new(),
        notes: Vec::new(),
    };
    let mut counts = Vec::new();
    for (input, meta) in plan.arrays.iter().enumerate() {
        let before = step.plan.arrays.len();
        let Some(nested) = meta.logical.nested() else {
            step.plan.arrays.push(meta.clone());
            step.recipes.push(Recipe::of(input));
            counts.push(None);
            continue;
        };
        let masks = Masks::allowed(&nested.field);
        let parts = Parts::of(&meta.name, &nested.field, &masks);
        let parts = parts.map_err(|e| e.with_array(&meta.name))?;
        let dictionaries = nested.dictionaries.iter();
        let mut adding = Adding { input, dictionaries, step: &mut step };
        let at = At { masks: vec![&masks], path: Vec::new(), rows: meta.rows, below_list: false };
        adding.add(&parts, &nested.field, at)?;
        counts.push(Some(step.plan.arrays.len() - before));
    }
    Ok((step, counts))
}

/// Whether `--nested json` has somewhere to write.
pub fn holds_json(capabilities: &Capabilities) -> bool {
    capabilities.arrays == Arrays::Table && (capabilities.logical)(&Logical::Text)
}

/// Rows of several elements as JSON text; `None` where the sink has them, or Arrow has no lists of
/// such elements.
fn lists_to_json(meta: &ArrayMeta, capabilities: &Capabilities) -> Option<Vec<Op>> {
    let dims = meta.element_dims().len();
    let lacks = match &meta.logical {
        Logical::List => !(capabilities.logical)(&Logical::List),
        _ => 1 + dims > capabilities.max_rank.max(1),
    };
    if !lacks || meta.details.error.is_some() {
        return None;
    }
    let element = arrow_model::usual_element(meta).ok()?;
    let list = |t, _| DataType::LargeList(Arc::new(Field::new_list_field(t, true)));
    let lists = (0..dims.max(1)).fold(element, list);
    let field = Arc::new(Field::new(&meta.name, lists, true));
    let nested = Nested { field, dictionaries: Vec::new(), nulls: None };
    let like = ArrayMeta { logical: Logical::Nested(Arc::new(nested)), ..meta.clone() };
    let (made, lists) = Lists::between(meta, &like)?;
    let nested = made.logical.nested()?.clone();
    Some(vec![Op::Lists(lists.into()), Op::NestedToJson(nested)])
}

/// In a table all columns have the same rows: nothing can be taken apart there.
///
/// # Errors
/// Refused: the sink is a table.
pub(super) fn not_in_a_table(
    meta: &ArrayMeta,
    capabilities: &Capabilities,
    policy: &Policy,
) -> Result<()> {
    if capabilities.arrays != Arrays::Table {
        return Ok(());
    }
    let what = format!("{} cannot hold {}", policy.sink, meta.type_name());
    Err(Error::refused(what).hint(match (capabilities.logical)(&Logical::Text) {
        true => "--nested json writes it as JSON text, -x leaves the column out",
        false => "leave the column out with -x",
    }))
}

fn parts(
    meta: &ArrayMeta,
    nested: &Nested,
    capabilities: &Capabilities,
    policy: &Policy,
) -> Result<Parts> {
    not_in_a_table(meta, capabilities, policy)?;
    let hint = "leave the column out with -x, or write Feather, which has all types";
    let parts = Parts::of(&meta.name, &nested.field, &Masks::found(nested));
    let parts = parts.map_err(|e| e.hint(hint))?;
    let lists = parts.companions().iter().any(|name| name.ends_with(".offsets"));
    if lists && !policy.ragged_offsets {
        return Err(Error::refused("the rows are lists of different lengths")
            .hint("--ragged offsets stores them as NAME.offsets and NAME.values"));
    }
    Ok(parts)
}

fn add(
    input: usize,
    meta: &ArrayMeta,
    nested: &Nested,
    parts: Parts,
    policy: &Policy,
    step: &mut Step,
) -> Result<()> {
    let first = step.plan.arrays.len();
    let mut adding = Adding { input, dictionaries: nested.dictionaries.iter(), step };
    let masks = Masks::found(nested);
    let at = At { masks: vec![&masks], path: Vec::new(), rows: meta.rows, below_list: false };
    adding.add(&parts, &nested.field, at)?;
    let values = match parts.companions().first() {
        Some(first) => first.to_string(),
        None => step.plan.arrays[first].name.clone(),
    };
    if policy.notes_lists {
        let all = parts.arrays();
        let more = if all.len() > 3 { ", …" } else { "" };
        let shown = all.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        step.notes.push(format!("{}: {} is written as {shown}{more}", meta.name, meta.type_name()));
    }
    let encoding = Encoding::Nested(parts);
    let encoded = EncodedArray { meta: meta.clone(), encoding, values, offsets: None, valid: None };
    step.plan.encoded.push(encoded);
    Ok(())
}

/// Where a part is.
#[derive(Clone)]
struct At<'a> {
    /// The masks of what leads to it, and its own.
    masks: Vec<&'a Masks>,
    path: Vec<usize>,
    rows: Option<u64>,
    below_list: bool,
}

struct Adding<'a> {
    input: usize,
    dictionaries: std::slice::Iter<'a, Arc<Categories>>,
    step: &'a mut Step,
}

impl Adding<'_> {
    fn push(&mut self, meta: ArrayMeta, part: Part, then: Option<Op>) {
        let ops = [Op::Part(Arc::new(part))].into_iter().chain(then).collect();
        self.step.plan.arrays.push(meta);
        self.step.recipes.push(Recipe { input: self.input, ops });
    }

    /// Adds the arrays of a part.
    fn add(&mut self, parts: &Parts, field: &FieldRef, at: At<'_>) -> Result<()> {
        let Some((kind, fields)) = parts_of(field.data_type()) else { return Ok(()) };
        let Some(&masks) = at.masks.last() else { return Ok(()) };
        let nulls: Vec<bool> = at.masks.iter().map(|m| m.needed).collect();
        let (path, below_list) = (&at.path, at.below_list);
        let part = |of| Part { path: path.clone(), nulls: nulls.clone(), of, below_list };
        if let Some(offsets) = &parts.offsets {
            let rows = at.rows.and_then(|r| r.checked_add(1));
            let meta = ArrayMeta::column(offsets, Dtype::I64, Logical::Plain, rows);
            self.push(meta, part(PartOf::Lengths), Some(Op::Offsets));
        }
        if let Some(valid) = &parts.valid {
            let meta = ArrayMeta::column(valid, Dtype::Bool, Logical::Plain, at.rows);
            self.push(meta, part(PartOf::Valid), None);
        }
        let (rows, below_list) = match kind {
            PartKind::Leaf => {
                let meta = self.leaf(&parts.name, field, at.rows, masks.needed)?;
                self.push(meta.clone(), part(PartOf::Values(Box::new(meta))), None);
                return Ok(());
            }
            PartKind::Struct => (at.rows, at.below_list),
            // Their places are not those of the rows.
            PartKind::Fixed(_) | PartKind::List => (None, true),
        };
        let below = parts.parts.iter().zip(&fields).zip(&masks.below);
        for (i, ((part, (_, field)), own)) in below.enumerate() {
            let path = at.path.iter().copied().chain([i]).collect();
            let masks = at.masks.iter().copied().chain([own]).collect();
            self.add(part, field, At { masks, path, rows, below_list })?;
        }
        Ok(())
    }

    fn leaf(
        &mut self,
        name: &str,
        field: &FieldRef,
        rows: Option<u64>,
        nulls: bool,
    ) -> Result<ArrayMeta> {
        let coded = matches!(field.data_type(), DataType::Dictionary(..));
        let dictionary = if coded { self.dictionaries.next() } else { None };
        Ok(ArrayMeta { nulls, ..leaf(name, field, rows, dictionary)? })
    }
}
