//! `--dtype`: which arrays are cast, and to what.

use super::{Step, names};
use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Decimals, Dtype, Logical, Plan};
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
            if let (Logical::Text, Some(from), []) =
                (wanted, meta.logical.decimals(), meta.element_dims())
            {
                recipes[i].ops.push(Op::DecimalToText(from));
                meta.inner.clear();
                (meta.dtype, meta.logical) = (Dtype::U8, Logical::Text);
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
        let Some((to, _)) = *t else { continue };
        meta.original_dtype = None;
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
