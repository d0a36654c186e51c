//! Which struct columns travel as a whole, not as one array a field.

use std::collections::HashSet;

use arrow_schema::{FieldRef, Schema};

use super::roots::Root;
use super::schema;
use super::shared::Shared;
use crate::arrow_model;
use crate::error::{Error, Result, foreign};
use crate::format::{Choice, ReadOptions};

/// The columns (their places) that are left out by their own names.
fn left_out(full: &Schema, choice: Option<&Choice>) -> HashSet<usize> {
    let own: Vec<&str> = full.fields().iter().map(|f| f.name().as_str()).collect();
    let Some(choice) = choice.filter(|choice| !choice.exclude.is_empty()) else {
        return HashSet::new();
    };
    let included = Choice { exclude: Vec::new(), ..choice.clone() }.of(&own);
    let chosen = choice.of(&own);
    (0..own.len()).filter(|&i| included[i] && !chosen[i]).collect()
}

impl Shared {
    /// The columns (their places) that travel as a whole though they are structs: those that are
    /// null somewhere, and those that were chosen by their own names.
    pub(super) fn whole_columns(
        &self,
        roots: &[Root],
        full: &Schema,
        options: &ReadOptions,
    ) -> Result<HashSet<usize>> {
        let is_struct = |f: &FieldRef| arrow_model::fields_below(f, 1).is_some();
        if !full.fields().iter().any(is_struct) {
            return Ok(HashSet::new());
        }
        let mut whole = left_out(full, options.choice.as_ref());
        if options.names_only {
            return Ok(whole);
        }
        let leaves = arrow_model::leaves(full, &HashSet::new());
        let names: Vec<&str> = leaves.iter().map(|l| l.name.as_str()).collect();
        let own: Vec<&str> = full.fields().iter().map(|f| f.name().as_str()).collect();
        let of = |names: &[&str]| {
            options.choice.as_ref().map_or_else(|| vec![true; names.len()], |c| c.of(names))
        };
        let (wanted, own) = (of(&names), of(&own));
        let mut chosen = vec![(0, 0); roots.len()];
        let mut optional = vec![Vec::new(); roots.len()];
        let mut next: Vec<usize> = roots.iter().map(|r| r.first_column).collect();
        for (leaf, wanted) in leaves.iter().zip(wanted) {
            let r = leaf.path[0];
            chosen[r] = (chosen[r].0 + usize::from(wanted), chosen[r].1 + 1);
            let levels =
                schema::optional_groups(&roots[r].parquet, leaf.path.len() - 1, &leaf.path);
            optional[r].push((next[r], levels));
            next[r] += schema::parquet_columns(leaf.field.data_type());
            // Of a list in a struct only a part is wanted.
            let reaches = |c: &Choice| c.reaches(&leaf.name, &leaf.field);
            if leaf.path.len() > 1 && options.choice.as_ref().is_some_and(reaches) {
                whole.insert(r);
            }
        }
        for (r, root) in roots.iter().enumerate() {
            let (some, all) = chosen[r];
            if !own[r]
                || root.error.is_some()
                || arrow_model::fields_below(&root.refined, 1).is_none()
            {
                continue;
            }
            // Damage is told where the column is read.
            let null = || self.has_null_struct(&optional[r]);
            if some == 0
                || some == all && options.whole_structs
                || some == all && Error::unless_bug(foreign("parquet", null))? == Some(true)
            {
                whole.insert(r);
            }
        }
        Ok(whole)
    }
}
