//! Lists of several files in one form. Where all lists of a column have one length, it is a row of
//! numbers; in the next file they may be uneven, or have nulls among their elements.

use super::Step;
use crate::model::{ArrayMeta, Logical, Plan};
use crate::ops::{Lists, Op};

/// The arrays of `plan` in the form that those of the same name have in `store`, where that is
/// another one; `None` where none is.
pub fn like(plan: &Plan, store: &Plan) -> Option<Step> {
    let places = store.positions();
    let mut step = Step::same(plan);
    let mut changed = false;
    for (meta, recipe) in step.plan.arrays.iter_mut().zip(&mut step.recipes) {
        let Some(&i) = places.get(meta.name.as_str()) else { continue };
        if let Some((made, lists)) = Lists::between(meta, &store.arrays[i]) {
            *meta = made;
            recipe.ops.push(Op::Lists(lists.into()));
            changed = true;
        }
    }
    changed.then_some(step)
}

/// An array whose form rows of all these can have; the first where they are alike, or nothing like
/// each other. `columns`: whether they are columns of tables; other arrays of different widths are
/// no lists.
pub fn common(metas: &[&ArrayMeta], columns: bool) -> Option<ArrayMeta> {
    let mut all = metas.iter();
    let mut common = (*all.next()?).clone();
    for theirs in all {
        let uneven = ArrayMeta { logical: Logical::List, inner: Vec::new(), ..common.clone() };
        if columns
            && common.inner != theirs.inner
            && Lists::between(theirs, &uneven).is_some()
            && let Some((made, _)) = Lists::between(&common, &uneven)
        {
            common = made;
        } else if let Some((made, _)) = Lists::between(&common, theirs) {
            common = made;
        }
    }
    Some(common)
}
