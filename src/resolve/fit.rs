//! Fits what a source gives to what a sink can hold: masks, codes, offsets, widened floats, plain
//! times. What cannot be fitted without loss is refused, all at once, before anything is written.

use super::nulls::{Nulls, null_ops};
use super::policy::{Policy, Strings};
use super::{Step, decode_dictionary};
use crate::error::{Error, Result};
use crate::format::{Arrays, Capabilities, CodedText};
use crate::model::{
    ArrayMeta, Categories, CategoryKind, Dtype, EncodedArray, Encoding, Logical, Plan,
};
use crate::ops::{Op, Recipe, cast, time};

/// An array on its way: what it is made from, and what it becomes.
struct Fitted {
    input: usize,
    ops: Vec<Op>,
    meta: ArrayMeta,
    way: Way,
    encoded: Option<Box<EncodedArray>>,
    mask: bool,
}

enum Way {
    Pass,
    Codes,
    /// Codes that the sink itself takes for text.
    Dictionary,
    Offsets,
}

enum Outcome {
    Fits(Box<Fitted>),
    Skipped(String),
}

/// The changes that a sink needs. The notes list types that changed without a change of value.
///
/// # Errors
/// Refused: everything that the sink cannot hold.
pub fn fit(plan: &Plan, capabilities: &Capabilities, policy: &Policy) -> Result<Step> {
    if let Some(apart) = super::nested::take_apart(plan, capabilities, policy)? {
        let inside: Vec<bool> = apart.recipes.iter().map(|r| !r.ops.is_empty()).collect();
        let mut step = fit_flat(&apart.plan, &inside, capabilities, policy)?;
        step.recipes = step.recipes.iter().map(|r| r.over(&apart.recipes)).collect();
        step.notes.splice(0..0, apart.notes);
        step.notes.extend(kept_nulls(plan, policy));
        return Ok(step);
    }
    let mut step = fit_flat(plan, &[], capabilities, policy)?;
    step.notes.extend(kept_nulls(plan, policy));
    Ok(step)
}

/// A note on columns of lists, structs and maps, in which no null is filled: of a list nobody could
/// say with how many values, and all sinks shall get the same.
fn kept_nulls(plan: &Plan, policy: &Policy) -> Option<String> {
    if !matches!(policy.nulls, Some(Nulls::Fill(_) | Nulls::Nan)) {
        return None;
    }
    let keeps = |meta: &&ArrayMeta| match &meta.logical {
        Logical::List => meta.nulls,
        Logical::Nested(nested) => nested.nulls.as_ref().is_none_or(|nulls| nulls.contains(&true)),
        _ => false,
    };
    let names: Vec<&str> = plan.arrays.iter().filter(keeps).map(|a| a.name.as_str()).collect();
    let more = if names.len() > 3 { ", …" } else { "" };
    let shown = names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    (!names.is_empty()).then(|| format!("lists, structs and maps keep their nulls ({shown}{more})"))
}

/// `inside`: which arrays are parts of nested columns, whose nulls stay; none where it is empty.
fn fit_flat(
    plan: &Plan,
    inside: &[bool],
    capabilities: &Capabilities,
    policy: &Policy,
) -> Result<Step> {
    let (fitted, notes) = fit_plan(plan, inside, capabilities, policy)?;
    let step = all_together(plan, fitted)?;
    Ok(Step { notes, ..step })
}

fn fit_plan(
    plan: &Plan,
    inside: &[bool],
    capabilities: &Capabilities,
    policy: &Policy,
) -> Result<(Vec<Fitted>, Vec<String>)> {
    let nulls = policy.nulls.clone().filter(|nulls| matches!(nulls, Nulls::Error));
    let of_parts = Policy { nulls, ..policy.clone() };
    let (mut fitted, mut errors, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for (input, meta) in plan.arrays.iter().enumerate() {
        let is_part = inside.get(input).copied().unwrap_or(false);
        let policy = if is_part { &of_parts } else { policy };
        match fit_one(input, meta, capabilities, policy, &mut notes) {
            Ok(Outcome::Fits(f)) => fitted.push(*f),
            Ok(Outcome::Skipped(note)) => notes.push(note),
            Err(e) if policy.skip_unsupported => {
                notes.push(format!("{}: left out: {}", meta.name, e.reason()))
            }
            Err(e) => errors.push(e.array(&meta.name)),
        }
    }
    if !errors.is_empty() && errors.len() < plan.arrays.len() {
        let last = errors.len() - 1;
        if errors[last].hint_text().is_none() {
            let e = errors.remove(last).hint("--skip-unsupported leaves such arrays out");
            errors.push(e);
        }
    }
    Error::all(errors)?;
    notes.extend(packed(plan, &fitted));
    notes.extend(lost_masks(&fitted, capabilities, policy));
    if fitted.is_empty() {
        return Err(match plan.arrays.is_empty() {
            true => plan.no_arrays(),
            false => Error::refused("none of its arrays can be written"),
        });
    }
    if capabilities.arrays == Arrays::One && fitted.len() > 1 {
        let names: Vec<&str> = fitted.iter().take(6).map(|f| f.meta.name.as_str()).collect();
        return Err(Error::refused(format!(
            "{} holds one array, the source has {}: {}{}",
            policy.sink,
            fitted.len(),
            names.join(", "),
            if fitted.len() > 6 { ", …" } else { "" }
        ))
        .hint(match plan.tables.is_empty() {
            true => "choose one with -a, or end the output with / to write one file per array",
            false => {
                "choose one with -a; --layout columns and an output that ends with / write a file \
                 for each column"
            }
        }));
    }
    Ok((fitted, notes))
}

/// A note for each type whose elements are written as the bytes that hold several of them: of a
/// quantised model that may be hundreds of arrays.
fn packed(plan: &Plan, fitted: &[Fitted]) -> Vec<String> {
    let mut kinds: indexmap::IndexMap<&str, Vec<&str>> = indexmap::IndexMap::new();
    for f in fitted.iter().filter(|f| f.meta.logical.is_plain()) {
        if let Logical::Packed { dtype, .. } = &plan.arrays[f.input].logical {
            kinds.entry(dtype).or_default().push(&f.meta.name);
        }
    }
    let note = |(dtype, names): (&str, Vec<&str>)| match names.as_slice() {
        [name] => format!("{name}: {dtype} elements are written as packed bytes (uint8)"),
        names => {
            format!("{} arrays of {dtype} are written as packed bytes (uint8)", names.len())
        }
    };
    kinds.into_iter().map(note).collect()
}

/// A note on masks that nothing in the output links to their arrays.
fn lost_masks(fitted: &[Fitted], capabilities: &Capabilities, policy: &Policy) -> Option<String> {
    if capabilities.sidecar || policy.marks {
        return None;
    }
    let names: Vec<String> =
        fitted.iter().filter(|f| f.mask).map(|f| format!("{}.valid", f.meta.name)).collect();
    let more = if names.len() > 3 { ", …" } else { "" };
    let shown = names.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    (!names.is_empty()).then(|| {
        format!(
            "{} cannot hold nulls: they are recorded in arrays of their own ({shown}{more})",
            policy.sink
        )
    })
}

fn fit_one(
    input: usize,
    meta: &ArrayMeta,
    capabilities: &Capabilities,
    policy: &Policy,
    notes: &mut Vec<String>,
) -> Result<Outcome> {
    crate::format::readable(meta)?;
    let mut f = Fitted {
        input,
        ops: Vec::new(),
        meta: meta.clone(),
        way: Way::Pass,
        encoded: None,
        mask: false,
    };
    let coded = meta.coded_text().is_some();
    if coded && !takes_codes(meta, capabilities) {
        let what = match meta.logical.text_categories().map(|c| c.kind()) {
            Some(CategoryKind::Binary) => "bytes",
            _ => "text",
        };
        let kind = format!("{what} of {} dimensions", 1 + meta.inner.len());
        if policy.strings == Some(Strings::Skip) {
            return Ok(Outcome::Skipped(format!("{}: {kind} is left out", meta.name)));
        }
        return Err(Error::refused(format!("{} cannot hold {kind}", policy.sink))
            .hint("npk, npy, npz and zarr hold it; --strings skip leaves it out"));
    }
    if !coded && !(capabilities.logical)(&meta.logical) {
        f.ops.extend(decode_dictionary(&mut f.meta));
    }
    let decoded = !f.ops.is_empty();
    let logical = f.meta.logical.clone();
    let whole = f.meta.clone();
    if !coded
        && !logical.is_plain()
        && !(capabilities.logical)(&logical)
        && let Some(note) = fit_logical(&mut f, capabilities, policy, notes)?
    {
        return Ok(Outcome::Skipped(note));
    }
    // Packed elements that the sink holds are bytes, whatever else it holds.
    if !f.meta.logical.is_var() && !matches!(f.meta.logical, Logical::Packed { .. }) {
        fit_dtype(&mut f, capabilities, policy)?;
    }
    fit_nulls(&mut f, capabilities, policy)?;
    let same = f.meta.logical == logical && f.meta.dtype == whole.dtype;
    if policy.marks && f.encoded.is_none() && (!same || decoded) && matches!(f.way, Way::Pass) {
        f.encoded = Some(Box::new(EncodedArray {
            values: whole.name.clone(),
            // A dictionary comes back where its values are stored as they are.
            meta: if decoded && same { meta.clone() } else { whole },
            offsets: None,
            valid: None,
            encoding: Encoding::Plain,
        }));
    }
    if let Some(encoded) = &mut f.encoded {
        encoded.meta.nulls = f.meta.nulls;
    }
    if f.meta.scalar && !capabilities.scalars {
        f.meta.scalar = false;
        f.meta.rows = Some(1);
        f.meta.inner = Vec::new();
    }
    let rank = if f.meta.scalar { 0 } else { 1 + f.meta.element_dims().len() };
    if rank > capabilities.max_rank.max(1) {
        return Err(Error::refused(format!(
            "{} holds at most {} dimensions, this array has {rank}",
            policy.sink, capabilities.max_rank
        )));
    }
    Ok(Outcome::Fits(Box::new(f)))
}

/// A logical type that the sink lacks. `Some(note)`: the array is left out.
fn fit_logical(
    f: &mut Fitted,
    capabilities: &Capabilities,
    policy: &Policy,
    notes: &mut Vec<String>,
) -> Result<Option<String>> {
    match &f.meta.logical.clone() {
        l if l.is_time() => fit_time(f, capabilities, policy, notes),
        Logical::Text | Logical::Binary => {
            return fit_text(f, capabilities, policy, notes);
        }
        Logical::Decimal { scale, .. } => {
            if !policy.marks {
                notes.push(format!(
                    "{}: {} is written as whole numbers of 10^{}",
                    f.meta.name,
                    f.meta.type_name(),
                    -i32::from(*scale)
                ));
            }
            f.meta.logical = Logical::Plain;
        }
        Logical::List => {
            super::nested::not_in_a_table(&f.meta, capabilities, policy)?;
            if !policy.ragged_offsets {
                return Err(Error::refused("the rows are lists of different lengths")
                    .hint("--ragged offsets stores them as NAME.offsets and NAME.values"));
            }
            if policy.notes_lists {
                let (name, kind) = (&f.meta.name, f.meta.type_name());
                notes
                    .push(format!("{name}: {kind} is written as {name}.offsets and {name}.values"));
            }
            f.way = Way::Offsets;
        }
        Logical::Packed { .. } => f.meta.logical = Logical::Plain,
        _ => {
            return Err(Error::refused(format!(
                "{} cannot hold {}",
                policy.sink,
                f.meta.type_name()
            )));
        }
    }
    Ok(None)
}

/// Whether the sink takes text of several dimensions, of this kind, as codes.
fn takes_codes(meta: &ArrayMeta, capabilities: &Capabilities) -> bool {
    let kind = match meta.logical.text_categories().map(|c| c.kind()) {
        Some(CategoryKind::Binary) => Logical::Binary,
        _ => Logical::Text,
    };
    match capabilities.coded_text {
        CodedText::No => false,
        CodedText::Yes => (capabilities.logical)(&meta.logical) || (capabilities.logical)(&kind),
        CodedText::Whole => true,
    }
}

fn fit_time(f: &mut Fitted, capabilities: &Capabilities, policy: &Policy, notes: &mut Vec<String>) {
    let from = f.meta.type_name();
    match time::closest_supported(&f.meta.logical, capabilities.logical) {
        Some((logical, dtype, rescale)) => {
            let nat = matches!(f.meta.logical, Logical::Datetime(_) | Logical::Timedelta(_))
                && !matches!(logical, Logical::Datetime(_) | Logical::Timedelta(_));
            if nat && capabilities.nulls {
                f.ops.push(Op::NatToNull);
                f.meta.nulls = true;
            }
            f.ops.extend(rescale.map(Op::Rescale));
            if matches!(f.meta.logical, Logical::Timestamp(_, Some(_))) && !policy.marks {
                notes.push(format!("{}: {from} is written without its zone, as UTC", f.meta.name));
            }
            f.meta.logical = logical;
            f.meta.dtype = dtype;
        }
        None => {
            notes.push(format!(
                "{}: {from} is written as plain {} counts",
                f.meta.name, f.meta.dtype
            ));
            f.meta.logical = Logical::Plain;
        }
    }
}

/// Text into a sink without text. `Some(note)`: it is left out.
fn fit_text(
    f: &mut Fitted,
    capabilities: &Capabilities,
    policy: &Policy,
    notes: &mut Vec<String>,
) -> Result<Option<String>> {
    let kind = f.meta.type_name();
    match policy.strings {
        Some(Strings::Skip) => return Ok(Some(format!("{}: {kind} is left out", f.meta.name))),
        // In a table all columns have the same rows.
        _ if capabilities.arrays == Arrays::Table => {
            return Err(Error::refused(format!("{} cannot hold {kind}", policy.sink))
                .hint("--strings skip leaves it out"));
        }
        Some(Strings::Error) => {
            return Err(Error::refused(format!("{} cannot hold {kind}", policy.sink))
                .hint("--strings codes or offsets"));
        }
        Some(Strings::Offsets) => f.way = Way::Offsets,
        Some(Strings::Codes) | None if capabilities.coded_text == CodedText::Whole => {
            f.way = Way::Dictionary
        }
        None if policy.marks => {
            let name = &f.meta.name;
            notes.push(format!("{name}: {kind} is written as {name}.offsets and {name}.bytes"));
            f.way = Way::Offsets;
        }
        // Without a side file the categories would be lost.
        Some(Strings::Codes) | None if !capabilities.sidecar => {
            return Err(Error::refused(format!("{} cannot hold {kind}", policy.sink))
                .hint("--strings offsets stores it as NAME.offsets and NAME.bytes, --strings skip leaves it out"));
        }
        Some(Strings::Codes) | None => f.way = Way::Codes,
    }
    Ok(None)
}

fn fit_dtype(f: &mut Fitted, capabilities: &Capabilities, policy: &Policy) -> Result<()> {
    let from = f.meta.dtype;
    if capabilities.dtypes.contains(&from) {
        return Ok(());
    }
    let float16 = if capabilities.dtypes.contains(&Dtype::F16) { Dtype::F16 } else { Dtype::F32 };
    let (to, encoding) = match from {
        Dtype::Bf16 if policy.bf16_bits => (Dtype::U16, Encoding::Bits),
        Dtype::Bf16 | Dtype::F16 => (Dtype::F32, Encoding::Widened),
        d if d.is_float8() && policy.fp8_bits => (Dtype::U8, Encoding::Bits),
        Dtype::F8E8m0 => (Dtype::F32, Encoding::Widened),
        d if d.is_float8() => (float16, Encoding::Widened),
        d => {
            return Err(Error::refused(format!("{} cannot hold {d}", policy.sink))
                .hint("--dtype casts it, -x leaves it out"));
        }
    };
    if !capabilities.dtypes.contains(&to)
        || !(matches!(encoding, Encoding::Bits) || cast::always_exact(from, to))
    {
        return Err(Error::refused(format!("{} cannot hold {from}", policy.sink))
            .hint("--dtype casts it, -x leaves it out"));
    }
    let values = f.meta.name.clone();
    f.encoded = Some(Box::new(EncodedArray {
        meta: f.meta.clone(),
        values,
        offsets: None,
        valid: None,
        encoding: encoding.clone(),
    }));
    if matches!(encoding, Encoding::Widened) {
        f.ops.push(Op::Cast { from, to, lossy: false });
    }
    f.meta.dtype = to;
    Ok(())
}

fn fit_nulls(f: &mut Fitted, capabilities: &Capabilities, policy: &Policy) -> Result<()> {
    if !f.meta.nulls {
        return Ok(());
    }
    let codes = matches!(f.way, Way::Codes);
    match &policy.nulls {
        // A code of -1 is null.
        Some(Nulls::Nan) if codes => f.meta.nulls = false,
        Some(nulls) if let Some(ops) = null_ops(&mut f.meta, nulls)? => f.ops.extend(ops),
        _ if capabilities.nulls || codes => {}
        _ => {
            f.mask = true;
            f.ops.push(Op::DropMask);
        }
    }
    Ok(())
}

/// Whether an array stays what it is.
fn unchanged(a: &ArrayMeta, b: &ArrayMeta) -> bool {
    a.dtype == b.dtype && a.logical == b.logical && a.scalar == b.scalar && a.nulls == b.nulls
}

/// The changes of all arrays together.
fn all_together(plan: &Plan, fitted: Vec<Fitted>) -> Result<Step> {
    let stays = |(i, f): (usize, &Fitted)| {
        let passes = matches!(f.way, Way::Pass) && f.encoded.is_none() && !f.mask;
        passes && f.input == i && f.ops.is_empty() && unchanged(&f.meta, &plan.arrays[i])
    };
    // Mostly nothing changes, and no plan of a hundred thousand arrays is built anew.
    if fitted.len() == plan.arrays.len() && fitted.iter().enumerate().all(stays) {
        check_names(plan, &[])?;
        return Ok(Step::same(plan));
    }
    let mut out = Outputs {
        plan: Plan { arrays: Vec::new().into(), ..plan.clone() },
        recipes: Vec::new(),
        companions: Vec::new(),
    };
    fitted.into_iter().for_each(|f| out.add(f));
    check_names(&out.plan, &out.companions)?;
    out.plan.keep_columns_of_encoded();
    Ok(Step { plan: out.plan, recipes: out.recipes, notes: Vec::new() })
}

/// The arrays that hold the fitted ones.
struct Outputs {
    plan: Plan,
    recipes: Vec<Recipe>,
    /// The name of each array that is made beside another, and of that one.
    companions: Vec<(String, String)>,
}

impl Outputs {
    fn push(&mut self, meta: ArrayMeta, input: usize, ops: Vec<Op>) {
        self.plan.arrays.push(meta);
        self.recipes.push(Recipe { input, ops });
    }
    fn push_companion(&mut self, of: &str, meta: ArrayMeta, input: usize, ops: Vec<Op>) {
        self.companions.push((meta.name.clone(), of.to_string()));
        self.push(meta, input, ops);
    }

    fn add(&mut self, f: Fitted) {
        let Fitted { input, mut ops, meta, way, encoded, mask } = f;
        let logical = encoded.as_ref().map_or_else(|| meta.clone(), |k| k.meta.clone());
        let name = meta.name.clone();
        let held = |encoding| EncodedArray {
            meta: logical.clone(),
            encoding,
            values: name.clone(),
            offsets: None,
            valid: None,
        };
        let mut record =
            encoded.map(|encoded| *encoded).or_else(|| mask.then(|| held(Encoding::Plain)));
        let mut mask_ops: Vec<Op> =
            ops.iter().filter(|op| matches!(op, Op::NatToNull)).cloned().collect();
        let rows = meta.rows;
        match way {
            Way::Pass => {
                let nulls = meta.nulls && !mask;
                self.push(ArrayMeta { nulls, ..meta }, input, ops);
            }
            Way::Codes | Way::Dictionary => {
                let binary = matches!(meta.logical, Logical::Binary);
                let kind = if binary { CategoryKind::Binary } else { CategoryKind::Text };
                let categories = Categories::new(kind, Vec::new());
                ops.push(Op::Encode(categories.clone()));
                let coded = if matches!(way, Way::Codes) {
                    record = Some(held(Encoding::Codes(categories)));
                    Logical::Plain
                } else {
                    Logical::Dictionary { categories, ordered: false }
                };
                let (dtype, nulls) = (Dtype::I32, false);
                self.push(ArrayMeta { dtype, logical: coded, nulls, ..meta }, input, ops);
            }
            Way::Offsets => {
                let text = !matches!(meta.logical, Logical::List);
                let offsets = format!("{name}.offsets");
                let values = format!("{name}.{}", if text { "bytes" } else { "values" });
                let item = meta.dtype.item_bytes();
                let more = rows.and_then(|r| r.checked_add(1));
                record = Some(EncodedArray {
                    values: values.clone(),
                    offsets: Some(offsets.clone()),
                    ..held(Encoding::Offsets)
                });
                let ends = ArrayMeta::column(offsets, Dtype::I64, Logical::Plain, more);
                let elements = ArrayMeta::column(values, meta.dtype, Logical::Plain, None);
                let then = |op| ops.iter().cloned().chain([op]).collect();
                self.push_companion(&name, ends, input, then(Op::Offsets));
                self.push_companion(&name, elements, input, then(Op::Elements { item }));
            }
        }
        if mask {
            let valid = format!("{name}.valid");
            mask_ops.push(Op::Mask);
            let meta = ArrayMeta::column(&valid, Dtype::Bool, Logical::Plain, rows);
            self.push_companion(&name, meta, input, mask_ops);
            if let Some(record) = &mut record {
                record.valid = Some(valid);
            }
        }
        self.plan.encoded.extend(record);
    }
}

fn check_names(plan: &Plan, companions: &[(String, String)]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for meta in &plan.arrays {
        if !seen.insert(meta.name.as_str()) {
            let owner =
                companions.iter().find(|(c, _)| *c == meta.name).map_or("", |(_, o)| o.as_str());
            return Err(crate::format::duplicates::with_companion(&meta.name, owner));
        }
    }
    Ok(())
}
