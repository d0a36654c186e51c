//! Columns from folders named `key=value` (Hive-style partitions): the same value in every row of a
//! part.
//!
//! A key is an int64 column where every part's value is an integer as it would be printed, else
//! text. `%2F` and the like are decoded, `__HIVE_DEFAULT_PARTITION__` is null.

use super::Step;
use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Column, Dtype, Logical, Plan};
use crate::ops::{Op, Recipe};

/// The keys and values of several sources.
#[derive(Clone)]
pub struct Partitions {
    keys: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    name: String,
    numbers: bool,
    /// Per source: its value; `None` for null.
    values: Vec<Option<Option<String>>>,
}

/// The folders of a source that may be partitions, however it was named: those below the argument
/// that found it, and all named `key=value` right above these.
pub fn folders(source: &str, below: &str) -> String {
    let is_partition = |f: &&str| f.split_once('=').is_some_and(|(key, _)| !key.is_empty());
    let within = source.trim_end_matches('/').rsplit_once('/').map_or("", |(folder, _)| folder);
    let below = below.trim_end_matches('/');
    let above = match within.strip_suffix(below) {
        Some(above) if below.split('/').filter(|f| !f.is_empty()).all(|f| is_partition(&f)) => {
            above
        }
        _ => return below.to_string(),
    };
    let parts = above.trim_end_matches('/').rsplit('/');
    let mut all: Vec<&str> = parts.take_while(is_partition).collect();
    all.reverse();
    all.extend(Some(below).filter(|b| !b.is_empty()));
    all.join("/")
}

impl Partitions {
    /// `folders`: per source, the folders above it as `a=1/b=2/`.
    pub fn new(folders: &[String]) -> Partitions {
        let mut keys: Vec<Key> = Vec::new();
        for (source, folder) in folders.iter().enumerate() {
            for (name, value) in folder
                .split('/')
                .filter_map(|f| f.split_once('='))
                .filter(|(name, _)| !name.is_empty())
            {
                let value = Some(decoded(value)).filter(|v| v != "__HIVE_DEFAULT_PARTITION__");
                let name = decoded(name);
                let at = keys.iter().position(|k| k.name == name).unwrap_or_else(|| {
                    keys.push(Key { name, numbers: true, values: vec![None; folders.len()] });
                    keys.len() - 1
                });
                let key = &mut keys[at];
                key.numbers &= value
                    .as_ref()
                    .is_none_or(|v| v.parse::<i64>().is_ok_and(|n| n.to_string() == *v));
                key.values[source] = Some(value);
            }
        }
        for key in &mut keys {
            key.numbers &= key.values.iter().flatten().flatten().next().is_some();
        }
        Partitions { keys }
    }

    /// Whether no folder has a key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// A source's arrays with its folders' columns after its own. A column that the file has itself
    /// is kept.
    ///
    /// # Errors
    /// Usage: a key that this source's folders do not have.
    pub fn add(&self, plan: &Plan, index: usize) -> Result<Step> {
        let mut step = Step::same(plan);
        let plan = &mut step.plan;
        let readable = |a: &ArrayMeta| a.details.error.is_none() && !a.scalar;
        let cost = |a: &ArrayMeta| (a.logical.is_var(), a.bytes().ok().flatten());
        let Some(lead) = (0..plan.arrays.len())
            .filter(|&a| readable(&plan.arrays[a]))
            .min_by_key(|&a| cost(&plan.arrays[a]))
        else {
            return Ok(step);
        };
        for key in &self.keys {
            let Some(value) = &key.values[index] else {
                return Err(Error::usage(format!(
                    "it is not in a folder {}=…, but other sources are",
                    key.name
                )));
            };
            if plan.position(&key.name).is_some() {
                continue;
            }
            let dtype = if key.numbers { Dtype::I64 } else { Dtype::U8 };
            let mut meta = ArrayMeta::new(&key.name, dtype, &[0]);
            meta.rows = plan.arrays[lead].rows;
            meta.nulls = value.is_none();
            let element = match (key.numbers, value) {
                (true, Some(text)) => {
                    text.parse::<i64>().unwrap_or_default().to_le_bytes().to_vec()
                }
                (true, None) => vec![0; 8],
                (false, text) => text.clone().unwrap_or_default().into_bytes(),
            };
            if !key.numbers {
                meta.logical = Logical::Text;
            }
            if let Some(table) = plan.tables.first_mut() {
                table.columns.push(Column { array: key.name.clone(), header: key.name.clone() });
            }
            plan.arrays.push(meta);
            let constant = Op::Constant { element, text: !key.numbers, null: value.is_none() };
            step.recipes.push(Recipe { input: lead, ops: vec![constant] });
        }
        Ok(step)
    }
}

/// Decodes `%20` and the like; other text stays as it is.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let code = text
            .get(i + 1..i + 3)
            .filter(|_| bytes[i] == b'%')
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(code.unwrap_or(bytes[i]));
        i += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_string())
}
