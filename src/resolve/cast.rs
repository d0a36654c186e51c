//! `--dtype`: which arrays are cast, and to what.

use super::{Step, decode_dictionary, names};
use crate::error::{Error, Result};
use crate::model::{ArrayMeta, CategoryKind, Decimals, Dtype, Logical, Plan};
use crate::ops::{Op, time};

/// Casts asked for with `--dtype`: pattern (or all plain numbers) → type, the last fitting one
/// counts; `times`: pattern → another unit.
///
/// # Errors
/// Missing: a pattern that matches nothing. Refused: an array that is not numeric, or not a time of
/// this kind.
pub fn cast_arrays(
    plan: &Plan,
    casts: &[(Option<String>, Dtype)],
    times: &[(String, Logical)],
    lossy: bool,
) -> Result<Step> {
    let Step { mut plan, mut recipes, notes } = Step::same(plan);
    let mut target: Vec<Option<(Dtype, bool)>> = vec![None; plan.arrays.len()];
    for (pattern, dtype) in casts {
        match pattern {
            None => {
                for (t, meta) in target.iter_mut().zip(&plan.arrays) {
                    if meta.logical.is_plain() && meta.dtype != Dtype::Bool {
                        *t = Some((*dtype, false));
                    }
                }
            }
            Some(pattern) => {
                for i in names::choose(&plan, std::slice::from_ref(pattern), &[])? {
                    target[i] = Some((*dtype, true));
                }
            }
        }
    }
    let mut errors = Vec::new();
    for (pattern, wanted) in times {
        for i in names::choose(&plan, std::slice::from_ref(pattern), &[])? {
            let meta = &mut plan.arrays[i];
            meta.details.untyped = false;
            if *wanted == Logical::Text && to_text(meta, &mut recipes[i].ops) {
                continue;
            }
            let Some((logical, change)) = time::rescaled(&meta.logical, wanted, lossy) else {
                let to =
                    ArrayMeta { logical: wanted.clone(), nulls: false, ..meta.clone() }.type_name();
                errors.push(
                    Error::refused(format!("{} cannot be cast to {to}", meta.type_name()))
                        .array(&meta.name),
                );
                continue;
            };
            if logical != meta.logical {
                recipes[i].ops.push(Op::Rescale(change));
                meta.logical = logical;
            }
        }
    }
    for (i, (t, meta)) in target.iter().zip(&mut plan.arrays).enumerate() {
        let Some((to, by_name)) = *t else { continue };
        meta.original_dtype = None;
        if by_name {
            meta.details.untyped = false;
        }
        match &meta.logical {
            Logical::Plain if meta.dtype == to => {}
            Logical::Plain => recipes[i].ops.push(Op::Cast { from: meta.dtype, to, lossy }),
            logical if to == Dtype::F64 && logical.decimals().is_some() => {
                let from = logical.decimals().unwrap_or_else(|| Decimals::of(1, 0));
                recipes[i].ops.push(Op::DecimalToFloat { from, lossy });
                meta.inner.truncate(meta.element_dims().len());
                meta.logical = Logical::Plain;
            }
            _ => {
                errors.push(
                    Error::refused(format!("{} cannot be cast to {to}", meta.type_name()))
                        .array(&meta.name),
                );
                continue;
            }
        }
        meta.dtype = to;
        meta.details.forget(|facts| (facts.stored_dtype, facts.stored_bytes) = (None, None));
    }
    Error::all(errors)?;
    Ok(Step { plan, recipes, notes })
}

/// Makes text of text, of categories of text, and of decimals; `false`: it is none of these.
fn to_text(meta: &mut ArrayMeta, ops: &mut Vec<Op>) -> bool {
    match &meta.logical {
        Logical::Text => {}
        Logical::Dictionary { categories, .. }
            if *categories.kind() == CategoryKind::Text && meta.inner.is_empty() =>
        {
            ops.extend(decode_dictionary(meta));
        }
        logical => {
            let Some(from) = logical.decimals().filter(|_| meta.element_dims().is_empty()) else {
                return false;
            };
            ops.push(Op::DecimalToText(from));
            meta.inner.clear();
            (meta.dtype, meta.logical) = (Dtype::U8, Logical::Text);
        }
    }
    true
}
