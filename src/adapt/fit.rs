//! Fits what a source gives to what a sink can hold: masks, codes, offsets, widened floats, plain
//! times. What cannot be fitted without loss is refused, all at once, before anything is written.

use super::stages::{Flat, FlatStage};
use super::table::Staged;
use super::view::{Change, Made, View, ViewStage, decode_dictionary};
use super::{cast, time};
use crate::error::{Error, Result};
use crate::format::Stage;
use crate::format::{Arrays, Capabilities, CodedText, Order, Source};
use crate::model::{
    ArrayMeta, Categories, CategoryKind, Chunk, Dtype, Form, Kept, Logical, Plan, Values,
};

/// `--nulls`.
#[derive(Clone, Debug, PartialEq)]
pub enum Nulls {
    /// A bool array beside the values.
    Mask,
    /// NaN; integers become float64 if that is exact.
    Nan,
    /// This value.
    Fill(String),
    /// An error.
    Error,
}

impl Nulls {
    /// Parses `mask`, `nan`, `fill=V`, `error`.
    ///
    /// # Errors
    /// Usage.
    pub fn parse(text: &str) -> Result<Nulls> {
        match text {
            "mask" => Ok(Nulls::Mask),
            "nan" => Ok(Nulls::Nan),
            "error" => Ok(Nulls::Error),
            _ => match text.strip_prefix("fill=") {
                Some(value) => Ok(Nulls::Fill(value.to_string())),
                None => Err(Error::usage(format!("--nulls has no choice '{text}'"))
                    .hint("choose mask, nan, fill=VALUE or error")),
            },
        }
    }
}

/// `--strings`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strings {
    /// int32 codes, categories in the side file.
    Codes,
    /// NAME.offsets and NAME.bytes.
    Offsets,
    /// Left out, with a note.
    Skip,
    /// An error.
    Error,
}

/// What the user allows.
#[derive(Clone, Debug)]
pub struct Policy {
    /// `--bf16 bits`.
    pub bf16_bits: bool,
    /// `--fp8 bits`.
    pub fp8_bits: bool,
    /// `--nulls`, where given.
    pub nulls: Option<Nulls>,
    /// `--strings`, where given.
    pub strings: Option<Strings>,
    /// `--ragged offsets`.
    pub ragged_offsets: bool,
    /// `--skip-unsupported`.
    pub skip_unsupported: bool,
    /// The sink's name, for messages.
    pub sink: &'static str,
    /// Whether the sink marks arrays (see [`crate::sidecar::MARK`]), so that nulls and types that
    /// it lacks come back.
    pub marks: bool,
}

/// An array on its way: what it is made from, and what it becomes.
struct Fitted {
    made: Made,
    meta: ArrayMeta,
    flat: Way,
    kept: Option<Box<Kept>>,
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

/// Wraps the source in the changes it needs. The notes list types that changed without a change of
/// value.
///
/// # Errors
/// Refused: everything that the sink cannot hold.
pub fn fit(
    mut source: Box<dyn Source>,
    holds: &Capabilities,
    policy: &Policy,
) -> Result<(Staged, Vec<String>)> {
    let plan = source.plan().clone();
    let (fitted, notes) = match fit_plan(&plan, holds, policy) {
        Ok(fitted) => fitted,
        Err(mut error) => {
            // Of uneven lists the first row that differs is named: worth a look at the values.
            let lists = |m: &ArrayMeta| m.logical == Logical::List && m.details.error.is_none();
            for a in (0..plan.arrays.len()).filter(|&a| {
                lists(&plan.arrays[a]) && !policy.ragged_offsets && !(holds.logical)(&Logical::List)
            }) {
                if let Some((first, row, length)) =
                    Error::unless_bug(first_uneven(source.as_mut(), a))?.flatten()
                {
                    error = error.say_more(
                        &plan.arrays[a].name,
                        &format!(": the first has {first} elements, row {row} has {length}"),
                    );
                }
            }
            return Err(error);
        }
    };
    let fitting = wrap(&plan, fitted)?;
    let mut stages: Vec<Box<dyn Stage>> = Vec::new();
    let source: Box<dyn Source> = match fitting.flats {
        None if fitting.same => source,
        None => Box::new(View::new(source, fitting.out, fitting.made)),
        Some(flats) => {
            stages.push(Box::new(FlatStage::new(&fitting.middle.arrays, flats, fitting.out)));
            Box::new(View::new(source, fitting.middle, fitting.made))
        }
    };
    Ok(((source, stages), notes))
}

/// Rows looked at together.
const LOOK_ROWS: usize = 1 << 16;

/// The first row's length, and the first row (not null) of another length with its own.
fn first_uneven(source: &mut dyn Source, array: usize) -> Result<Option<(u64, u64, u64)>> {
    let (mut first, mut row) = (None, 0u64);
    let found = std::cell::Cell::new(None);
    let mut look = |chunk: Chunk| -> Result<()> {
        let Values::Var { offsets, .. } = &chunk.values else { return Ok(()) };
        for (i, pair) in offsets.windows(2).enumerate() {
            let length = pair[1] - pair[0];
            if found.get().is_none() && chunk.is_valid(i) && *first.get_or_insert(length) != length
            {
                found.set(first.map(|first| (first, row + i as u64, length)));
            }
        }
        row += chunk.rows;
        Ok(())
    };
    source.want(&[array], Order::ArrayByArray)?;
    if let (Some(reader), Some(rows)) = (source.random(), source.plan().arrays[array].rows) {
        for at in (0..rows).step_by(LOOK_ROWS) {
            if found.get().is_none() {
                reader.read(array, at..rows.min(at + LOOK_ROWS as u64), &mut look)?;
            }
        }
        return Ok(found.get());
    }
    while found.get().is_none()
        && let Some(job) = source.next(1 << 20)?
    {
        job.run(&mut look)?;
    }
    Ok(found.get())
}

/// As [`fit`], after stages that end in this plan.
///
/// # Errors
/// As [`fit`].
pub fn fit_stage(
    plan: Plan,
    holds: &Capabilities,
    policy: &Policy,
) -> Result<(Vec<Box<dyn Stage>>, Vec<String>)> {
    let (fitted, notes) = fit_plan(&plan, holds, policy)?;
    let fitting = wrap(&plan, fitted)?;
    let inputs = plan.arrays.len();
    let stages: Vec<Box<dyn Stage>> = match fitting.flats {
        None if fitting.same => Vec::new(),
        None => vec![Box::new(ViewStage::new(inputs, fitting.out, fitting.made))],
        Some(flats) => {
            let flat = FlatStage::new(&fitting.middle.arrays, flats, fitting.out);
            vec![Box::new(ViewStage::new(inputs, fitting.middle, fitting.made)), Box::new(flat)]
        }
    };
    Ok((stages, notes))
}

fn fit_plan(
    plan: &Plan,
    holds: &Capabilities,
    policy: &Policy,
) -> Result<(Vec<Fitted>, Vec<String>)> {
    let (mut fitted, mut errors, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for (input, meta) in plan.arrays.iter().enumerate() {
        match fit_one(input, meta, holds, policy, &mut notes) {
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
    notes.extend(lost_masks(&fitted, holds, policy));
    if fitted.is_empty() {
        return Err(match plan.arrays.is_empty() {
            true => Error::missing("it has no arrays"),
            false => Error::refused("none of its arrays can be written"),
        });
    }
    if holds.arrays == Arrays::One && fitted.len() > 1 {
        let names: Vec<&str> = fitted.iter().take(6).map(|f| f.meta.name.as_str()).collect();
        return Err(Error::refused(format!(
            "{} holds one array, the source has {}: {}{}",
            policy.sink,
            fitted.len(),
            names.join(", "),
            if fitted.len() > 6 { ", …" } else { "" }
        ))
        .hint("choose one with -a, or end the output with / to write one file per array"));
    }
    Ok((fitted, notes))
}

/// A note on masks that nothing in the output links to their arrays.
fn lost_masks(fitted: &[Fitted], holds: &Capabilities, policy: &Policy) -> Option<String> {
    if holds.sidecar || policy.marks {
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
    holds: &Capabilities,
    policy: &Policy,
    notes: &mut Vec<String>,
) -> Result<Outcome> {
    crate::format::readable(meta)?;
    let mut f = Fitted {
        made: Made { input, changes: Vec::new() },
        meta: meta.clone(),
        flat: Way::Pass,
        kept: None,
        mask: false,
    };
    let coded = meta.coded_text().is_some();
    if coded && !takes_codes(meta, holds) {
        let kind = format!("text of {} dimensions", 1 + meta.inner.len());
        if policy.strings == Some(Strings::Skip) {
            return Ok(Outcome::Skipped(format!("{}: {kind} is left out", meta.name)));
        }
        return Err(Error::refused(format!("{} cannot hold {kind}", policy.sink))
            .hint("npk, npy, npz and zarr hold it; --strings skip leaves it out"));
    }
    if let Logical::Dictionary { categories, .. } = &meta.logical
        && !coded
        && !(holds.logical)(&meta.logical)
    {
        f.made.changes.push(decode_dictionary(&mut f.meta, categories.clone()));
    }
    let logical = f.meta.logical.clone();
    let whole = f.meta.clone();
    if !coded && !logical.is_plain() && !(holds.logical)(&logical) {
        match &logical {
            l if l.is_time() => fit_time(&mut f, holds, policy, notes),
            Logical::Text | Logical::Binary => {
                if let Some(note) = fit_text(&mut f, holds, policy)? {
                    return Ok(Outcome::Skipped(note));
                }
            }
            Logical::Decimal { scale, .. } => {
                if !policy.marks {
                    notes.push(format!(
                        "{}: {} is written as whole numbers of 10^{}",
                        meta.name,
                        f.meta.type_name(),
                        -i32::from(*scale)
                    ));
                }
                f.meta.logical = Logical::Plain;
            }
            Logical::List => {
                if !policy.ragged_offsets {
                    return Err(Error::refused("the rows are lists of different lengths")
                        .hint("--ragged offsets stores them as NAME.offsets and NAME.values"));
                }
                f.flat = Way::Offsets;
            }
            Logical::Packed { dtype, .. } => {
                notes.push(format!(
                    "{}: {dtype} elements are written as packed bytes (uint8)",
                    meta.name
                ));
                f.meta.logical = Logical::Plain;
            }
            _ => {
                return Err(Error::refused(format!(
                    "{} cannot hold {}",
                    policy.sink,
                    meta.type_name()
                )));
            }
        }
    }
    if !f.meta.logical.is_var() {
        fit_dtype(&mut f, holds, policy)?;
    }
    fit_nulls(&mut f, holds, policy)?;
    if policy.marks && f.kept.is_none() && f.meta.logical != logical && matches!(f.flat, Way::Pass)
    {
        f.kept = Some(Box::new(Kept {
            values: whole.name.clone(),
            meta: whole,
            offsets: None,
            valid: None,
            form: Form::Same,
        }));
    }
    if let Some(kept) = &mut f.kept {
        kept.meta.nulls = f.meta.nulls;
    }
    if f.meta.scalar && !holds.scalars {
        f.meta.scalar = false;
        f.meta.rows = Some(1);
        f.meta.inner = Vec::new();
    }
    let rank = if f.meta.scalar { 0 } else { 1 + f.meta.element_dims().len() };
    if rank > holds.max_rank.max(1) {
        return Err(Error::refused(format!(
            "{} holds at most {} dimensions, this array has {rank}",
            policy.sink, holds.max_rank
        )));
    }
    Ok(Outcome::Fits(Box::new(f)))
}

/// Whether the sink takes text of several dimensions, of this kind, as codes.
fn takes_codes(meta: &ArrayMeta, holds: &Capabilities) -> bool {
    let kind = match meta.logical.text_categories().map(|c| c.kind()) {
        Some(CategoryKind::Binary) => Logical::Binary,
        _ => Logical::Text,
    };
    match holds.coded_text {
        CodedText::No => false,
        CodedText::Yes => (holds.logical)(&meta.logical) || (holds.logical)(&kind),
        CodedText::Whole => true,
    }
}

fn fit_time(f: &mut Fitted, holds: &Capabilities, policy: &Policy, notes: &mut Vec<String>) {
    let from = f.meta.type_name();
    match time::told_as(&f.meta.logical, holds.logical) {
        Some((logical, dtype, rescale)) => {
            let nat = matches!(f.meta.logical, Logical::Datetime(_) | Logical::Timedelta(_))
                && !matches!(logical, Logical::Datetime(_) | Logical::Timedelta(_));
            if nat && holds.nulls {
                f.made.changes.push(Change::NatToNull);
                f.meta.nulls = true;
            }
            f.made.changes.extend(rescale.map(Change::Rescale));
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
fn fit_text(f: &mut Fitted, holds: &Capabilities, policy: &Policy) -> Result<Option<String>> {
    let kind = f.meta.type_name();
    match policy.strings {
        Some(Strings::Skip) => return Ok(Some(format!("{}: {kind} is left out", f.meta.name))),
        Some(Strings::Error) => {
            return Err(Error::refused(format!("{} cannot hold {kind}", policy.sink))
                .hint("--strings codes or offsets"));
        }
        Some(Strings::Offsets) => f.flat = Way::Offsets,
        Some(Strings::Codes) | None if holds.coded_text == CodedText::Whole => {
            f.flat = Way::Dictionary
        }
        // Without a side file the categories would be lost.
        Some(Strings::Codes) | None if !holds.sidecar => {
            return Err(Error::refused(format!("{} cannot hold {kind}", policy.sink))
                .hint("--strings offsets stores it as NAME.offsets and NAME.bytes, --strings skip leaves it out"));
        }
        Some(Strings::Codes) | None => f.flat = Way::Codes,
    }
    Ok(None)
}

fn fit_dtype(f: &mut Fitted, holds: &Capabilities, policy: &Policy) -> Result<()> {
    let from = f.meta.dtype;
    if holds.dtypes.contains(&from) {
        return Ok(());
    }
    let float16 = if holds.dtypes.contains(&Dtype::F16) { Dtype::F16 } else { Dtype::F32 };
    let (to, form) = match from {
        Dtype::Bf16 if policy.bf16_bits => (Dtype::U16, Form::Bits),
        Dtype::Bf16 | Dtype::F16 => (Dtype::F32, Form::Widened),
        d if d.is_float8() && policy.fp8_bits => (Dtype::U8, Form::Bits),
        Dtype::F8E8m0 => (Dtype::F32, Form::Widened),
        d if d.is_float8() => (float16, Form::Widened),
        d => {
            return Err(Error::refused(format!("{} cannot hold {d}", policy.sink))
                .hint("--dtype casts it, -x leaves it out"));
        }
    };
    if !holds.dtypes.contains(&to) || !(matches!(form, Form::Bits) || cast::always_exact(from, to))
    {
        return Err(Error::refused(format!("{} cannot hold {from}", policy.sink))
            .hint("--dtype casts it, -x leaves it out"));
    }
    let values = f.meta.name.clone();
    f.kept = Some(Box::new(Kept {
        meta: f.meta.clone(),
        values,
        offsets: None,
        valid: None,
        form: form.clone(),
    }));
    if matches!(form, Form::Widened) {
        f.made.changes.push(Change::Cast { from, to, lossy: false });
    }
    f.meta.dtype = to;
    Ok(())
}

fn fit_nulls(f: &mut Fitted, holds: &Capabilities, policy: &Policy) -> Result<()> {
    let may_be_null = f.meta.nulls;
    if !may_be_null {
        return Ok(());
    }
    let hint = "--nulls mask or fill=VALUE";
    match &policy.nulls {
        Some(Nulls::Error) => f.made.changes.push(Change::RefuseNulls),
        Some(Nulls::Nan) if f.meta.dtype.is_float() || f.meta.dtype.is_complex() => {
            f.made.changes.push(Change::DropMask)
        }
        Some(Nulls::Nan) if f.meta.logical.is_plain() && f.meta.dtype.is_integer() => {
            f.made.changes.push(Change::Cast { from: f.meta.dtype, to: Dtype::F64, lossy: false });
            f.made.changes.push(Change::Fill(f64::NAN.to_le_bytes().to_vec()));
            f.meta.dtype = Dtype::F64;
        }
        Some(Nulls::Nan) if matches!(f.flat, Way::Codes) => {}
        Some(Nulls::Nan) => {
            return Err(Error::refused(format!(
                "{} has nulls and cannot hold NaN",
                f.meta.type_name()
            ))
            .hint(hint));
        }
        Some(Nulls::Fill(value)) if !f.meta.logical.is_var() => {
            f.made.changes.push(Change::Fill(element(value, &f.meta)?));
        }
        _ if holds.nulls || matches!(f.flat, Way::Codes) => return Ok(()),
        _ => {
            f.mask = true;
            f.made.changes.push(Change::DropMask);
            return Ok(());
        }
    }
    f.meta.nulls = false;
    Ok(())
}

/// A fill value as one element.
fn element(value: &str, meta: &ArrayMeta) -> Result<Vec<u8>> {
    let bad = || {
        Error::usage(format!("'{value}' does not fit {}", meta.dtype))
            .array(&meta.name)
            .hint("--nulls fill=VALUE takes a value of the column's type")
    };
    if let Some(decimals) = meta.logical.decimals() {
        return decimals.parse(value.as_bytes()).ok_or_else(bad);
    }
    let parsed: crate::model::Buf = match value.parse::<i64>() {
        Ok(i) => crate::model::Buf::from_vec(vec![i]),
        Err(_) => {
            let f: f64 = match value.to_ascii_lowercase().as_str() {
                "true" => 1.0,
                "false" => 0.0,
                _ => value.parse().map_err(|_| bad())?,
            };
            // A decimal literal is rounded to the column's float type, as everywhere.
            let wide = crate::model::Buf::from_vec(vec![f]);
            return cast::cast(&wide, Dtype::F64, meta.dtype, meta.dtype.is_float())
                .map(|b| b.to_vec())
                .map_err(|_| bad());
        }
    };
    cast::cast(&parsed, Dtype::I64, meta.dtype, false).map(|b| b.to_vec()).map_err(|_| bad())
}

/// The changes of all arrays together.
struct Fitting {
    /// The plan after the stateless changes.
    middle: Plan,
    made: Vec<Made>,
    /// The plan after all changes.
    out: Plan,
    /// Text and lists, if there are any to change.
    flats: Option<Vec<Flat>>,
    /// Whether nothing changes at all.
    same: bool,
}

/// Whether an array stays what it is.
fn unchanged(a: &ArrayMeta, b: &ArrayMeta) -> bool {
    a.dtype == b.dtype && a.logical == b.logical && a.scalar == b.scalar && a.nulls == b.nulls
}

fn wrap(plan: &Plan, fitted: Vec<Fitted>) -> Result<Fitting> {
    let stays = |(i, f): (usize, &Fitted)| {
        let passes = matches!(f.flat, Way::Pass) && f.kept.is_none() && !f.mask;
        passes
            && f.made.input == i
            && f.made.changes.is_empty()
            && unchanged(&f.meta, &plan.arrays[i])
    };
    // Mostly nothing changes, and no plan of a hundred thousand arrays is built anew.
    if fitted.len() == plan.arrays.len() && fitted.iter().enumerate().all(stays) {
        check_names(plan, &[])?;
        return Ok(Fitting {
            middle: plan.clone(),
            made: Vec::new(),
            out: plan.clone(),
            flats: None,
            same: true,
        });
    }
    let mut middle = Plan { arrays: Vec::new().into(), ..plan.clone() };
    let mut out = middle.clone();
    let (mut made, mut flats, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    let mut companions: Vec<(String, String)> = Vec::new();
    for f in fitted {
        let logical = f.kept.as_ref().map_or_else(|| f.meta.clone(), |k| k.meta.clone());
        let name = f.meta.name.clone();
        let mut record = f.kept.map(|kept| *kept).or_else(|| {
            f.mask.then(|| Kept {
                meta: logical.clone(),
                form: Form::Same,
                values: name.clone(),
                offsets: None,
                valid: None,
            })
        });
        // What the logical array was before nulls were dropped from the meta of the values.
        let first = out.arrays.len();
        middle.arrays.push(f.meta.clone());
        made.push(f.made.clone());
        match f.flat {
            Way::Pass => {
                let mut values = f.meta.clone();
                values.nulls &= !f.mask;
                out.arrays.push(values);
                flats.push(Flat::Pass(first));
            }
            Way::Codes => {
                let kind = if matches!(f.meta.logical, Logical::Binary) {
                    CategoryKind::Binary
                } else {
                    CategoryKind::Text
                };
                let categories = Categories::new(kind, Vec::new());
                out.arrays.push(ArrayMeta {
                    dtype: Dtype::I32,
                    logical: Logical::Plain,
                    nulls: false,
                    ..f.meta.clone()
                });
                record = Some(Kept {
                    meta: logical,
                    form: Form::Codes(categories.clone()),
                    values: name.clone(),
                    offsets: None,
                    valid: None,
                });
                flats.push(Flat::Codes { to: first, categories });
            }
            Way::Dictionary => {
                let kind = if matches!(f.meta.logical, Logical::Binary) {
                    CategoryKind::Binary
                } else {
                    CategoryKind::Text
                };
                let categories = Categories::new(kind, Vec::new());
                let coded = Logical::Dictionary { categories: categories.clone(), ordered: false };
                out.arrays.push(ArrayMeta {
                    dtype: Dtype::I32,
                    logical: coded,
                    nulls: false,
                    ..f.meta.clone()
                });
                flats.push(Flat::Codes { to: first, categories });
            }
            Way::Offsets => {
                let text = !matches!(f.meta.logical, Logical::List);
                let (offsets, values) = (
                    format!("{name}.offsets"),
                    format!("{name}.{}", if text { "bytes" } else { "values" }),
                );
                let rows = f.meta.rows.and_then(|r| r.checked_add(1));
                out.arrays.push(ArrayMeta::column(&offsets, Dtype::I64, Logical::Plain, rows));
                out.arrays.push(ArrayMeta::column(&values, f.meta.dtype, Logical::Plain, None));
                companions
                    .extend([(offsets.clone(), name.clone()), (values.clone(), name.clone())]);
                record = Some(Kept {
                    meta: logical,
                    form: Form::Offsets,
                    values,
                    offsets: Some(offsets),
                    valid: None,
                });
                flats.push(Flat::Offsets { offsets: first, values: first + 1 });
            }
        }
        if f.mask {
            let valid = format!("{name}.valid");
            let mut changes: Vec<Change> = f.made.changes.clone();
            changes.retain(|c| matches!(c, Change::NatToNull));
            changes.push(Change::Mask);
            let meta = ArrayMeta::column(&valid, Dtype::Bool, Logical::Plain, f.meta.rows);
            middle.arrays.push(meta.clone());
            made.push(Made { input: f.made.input, changes });
            flats.push(Flat::Pass(out.arrays.len()));
            out.arrays.push(meta);
            companions.push((valid.clone(), name.clone()));
            if let Some(record) = &mut record {
                record.valid = Some(valid);
            }
        }
        kept.extend(record);
    }
    check_names(&out, &companions)?;
    out.kept = kept.clone();
    middle.kept = kept;
    super::table::keep_columns_of_kept(&mut out);
    let identity = made.len() == plan.arrays.len()
        && made.iter().enumerate().all(|(i, m)| m.input == i && m.changes.is_empty());
    let flat = flats.iter().all(|f| matches!(f, Flat::Pass(_)));
    let same = flat
        && identity
        && out.kept.is_empty()
        && out.arrays.iter().zip(&plan.arrays).all(|(a, b)| unchanged(a, b));
    Ok(Fitting { middle, made, out, flats: if flat { None } else { Some(flats) }, same })
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
