//! What becomes of a source's arrays: a plan, wishes and what a sink can hold give the output's
//! plan, a recipe for each of its arrays, and notes, or all errors at once. Nothing here reads or
//! writes; no format is named.

use crate::model::{ArrayMeta, Logical, Plan};
use crate::ops::{Op, Recipe};

pub mod cast;
pub mod dequantize;
pub mod fit;
pub mod inside;
mod iso_time;
pub mod lists;
pub mod names;
pub mod nested;
pub mod nulls;
pub mod partitions;
pub mod policy;
pub mod rows;
pub mod table;

/// A plan, and how each of its arrays is made of those of the plan before.
#[derive(Clone, Debug)]
pub struct Step {
    /// The arrays, tables and attributes now.
    pub plan: Plan,
    /// How each array of `plan` is made.
    pub recipes: Vec<Recipe>,
    /// What the user should hear.
    pub notes: Vec<String>,
}

impl Step {
    /// Nothing changes.
    pub fn same(plan: &Plan) -> Step {
        Step::relabel(plan.clone())
    }
    /// The same arrays under a changed plan (names, logical types of the same bytes).
    pub fn relabel(plan: Plan) -> Step {
        let recipes = Recipe::each(plan.arrays.len());
        Step { plan, recipes, notes: Vec::new() }
    }
    /// Only these arrays, in this order.
    pub fn choose(plan: &Plan, chosen: &[usize]) -> Step {
        let mut new = plan.clone();
        new.arrays = chosen.iter().map(|&i| plan.arrays[i].clone()).collect();
        new.keep_columns();
        let recipes = chosen.iter().map(|&i| Recipe::of(i)).collect();
        Step { plan: new, recipes, notes: Vec::new() }
    }
    /// Dictionaries as the values of their categories; codes of text of several dimensions stay
    /// codes.
    pub fn decode(plan: &Plan) -> Step {
        let mut step = Step::same(plan);
        for (meta, recipe) in step.plan.arrays.iter_mut().zip(&mut step.recipes) {
            if meta.coded_text().is_none() {
                recipe.ops.extend(decode_dictionary(meta));
            }
        }
        step
    }
}

/// Makes the meta of a dictionary's codes that of the values that they stand for; the op that it
/// takes. `None` for other arrays.
fn decode_dictionary(meta: &mut ArrayMeta) -> Option<Op> {
    let Logical::Dictionary { categories, .. } = meta.logical.clone() else { return None };
    let (values, codes) = (categories.kind().meta(), meta.dtype);
    let fixed = (!values.logical.is_var()).then(|| values.row_bytes().unwrap_or(0) as usize);
    (meta.dtype, meta.logical) = (values.dtype, values.logical);
    meta.inner.extend(values.inner);
    Some(Op::Decode { categories, codes, fixed })
}
