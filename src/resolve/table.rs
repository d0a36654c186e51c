//! Tables into arrays and back: the layouts `auto`, `matrix` and `columns`, and what a table output
//! is made of.

use std::collections::{HashMap, HashSet};

use super::nulls::{Nulls, null_ops};
use super::{Step, names};
use crate::error::{Error, Result};
use crate::format::readable;
use crate::model::{ArrayMeta, Column, Dtype, Plan, Table};
use crate::ops::{Op, Recipe, Stack, StackedColumn, cast};

/// `--layout`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Layout {
    /// A matrix if all columns have one numeric type and no nulls, else columns
    #[default]
    Auto,
    /// One array per column
    Columns,
    /// One array of all columns
    Matrix,
}

/// numpy's common dtype of two, as `np.result_type` gives it; `None` for types that numpy does not
/// have.
pub fn common_dtype(a: Dtype, b: Dtype) -> Option<Dtype> {
    use Dtype::*;
    if a == b {
        return Some(a);
    }
    if !Dtype::NUMPY.contains(&a) || !Dtype::NUMPY.contains(&b) {
        return None;
    }
    if cast::always_exact(a, b) {
        return Some(b);
    }
    if cast::always_exact(b, a) {
        return Some(a);
    }
    let float_for = |d: Dtype| match d {
        Bool | U8 | I8 => F16,
        U16 | I16 => F32,
        U32 | I32 | U64 | I64 => F64,
        C64 => F32,
        C128 => F64,
        other => other,
    };
    if a.is_integer() && b.is_integer() {
        // Neither holds the other: unsigned beside a signed type that is not wider. The next wider
        // signed type holds both; beside uint64 numpy takes float64.
        let unsigned = if matches!(a, U8 | U16 | U32 | U64) { a } else { b };
        return Some(match unsigned.item_bytes() {
            8 => F64,
            4 => I64,
            2 => I32,
            _ => I16,
        });
    }
    let wider = if float_for(a).item_bytes() >= float_for(b).item_bytes() {
        float_for(a)
    } else {
        float_for(b)
    };
    Some(match (a.is_complex() || b.is_complex(), wider) {
        (true, F64) => C128,
        (true, _) => C64,
        (false, d) => d,
    })
}

/// Applies `--layout` to the arrays of a table file; no step: each column stays an array. Says
/// which layout was chosen.
///
/// `nulls`: what `--nulls` says of a matrix's nulls, which have no place in it.
///
/// # Errors
/// Refused: columns that a matrix cannot hold, all named at once.
pub fn import(
    plan: &Plan,
    layout: Layout,
    stem: &str,
    nulls: Option<&Nulls>,
) -> Result<(Option<Step>, Option<&'static str>)> {
    let Some(table) = plan.tables.first() else { return Ok((None, None)) };
    let (positions, index) =
        (plan.positions(), table.index.iter().map(String::as_str).collect::<HashSet<&str>>());
    let own = table.columns.iter().map(|c| c.array.as_str()).filter(|array| !index.contains(array));
    let data: Vec<usize> = own.filter_map(|array| positions.get(array).copied()).collect();
    let uniform = !data.is_empty()
        && data.iter().all(|&i| {
            let m = &plan.arrays[i];
            is_column(m)
                && m.dtype == plan.arrays[data[0]].dtype
                && m.dtype != Dtype::Bool
                && !m.nulls
        });
    if layout == Layout::Columns || layout == Layout::Auto && !uniform {
        return Ok((None, Some("columns")));
    }
    let stack = stacked(plan, &data, nulls)?;
    Ok((Some(matrix(plan, table, &data, stack, stem)), Some("matrix")))
}

/// Whether it could be a column of a matrix.
fn is_column(m: &ArrayMeta) -> bool {
    m.logical.is_plain() && m.inner.is_empty() && !m.scalar && m.details.error.is_none()
}

/// These columns side by side, in the dtype that numpy would give them together.
fn stacked(plan: &Plan, data: &[usize], nulls: Option<&Nulls>) -> Result<Stack> {
    let (mut errors, mut columns, mut dtype) = (Vec::new(), Vec::new(), None);
    for &i in data {
        let mut m = plan.arrays[i].clone();
        let refuse = |why: &str| {
            Error::refused(format!("a matrix cannot hold {why}"))
                .array(&plan.arrays[i].name)
                .hint("--layout columns")
        };
        if !is_column(&m) {
            let lists = if m.inner.is_empty() { "" } else { " lists" };
            errors.push(refuse(&format!("{}{lists}", m.type_name())));
            continue;
        }
        let mut recipe = Recipe::of(i);
        if m.nulls {
            match nulls.map(|nulls| null_ops(&mut m, nulls)).transpose() {
                Ok(Some(Some(ops))) => recipe.ops = ops,
                Ok(_) => errors.push(
                    refuse("nulls").hint("--nulls nan or --nulls fill=VALUE, or --layout columns"),
                ),
                Err(e) => errors.push(e.array(&m.name)),
            }
        }
        match dtype.map_or(Some(m.dtype), |d| common_dtype(d, m.dtype)) {
            Some(d) => dtype = Some(d),
            None => errors.push(refuse(m.dtype.name())),
        }
        columns.push(StackedColumn { recipe, name: m.name, dtype: m.dtype });
    }
    Error::all(errors)?;
    let none = || Error::missing("there are no columns to make a matrix of");
    Ok(Stack { dtype: dtype.ok_or_else(none)?, columns })
}

/// The matrix, and what is no column of it.
fn matrix(plan: &Plan, table: &Table, data: &[usize], stack: Stack, stem: &str) -> Step {
    let mut matrix = ArrayMeta::new(stem, stack.dtype, &[0, data.len() as u64]);
    matrix.rows = plan.arrays[data[0]].rows;
    let columns: HashSet<usize> = data.iter().copied().collect();
    let others: Vec<usize> = (0..plan.arrays.len()).filter(|i| !columns.contains(i)).collect();
    let taken: HashSet<&str> = others.iter().map(|&i| plan.arrays[i].name.as_str()).collect();
    if taken.contains(stem) {
        matrix.name = names::unique_name(stem, |n| taken.contains(n));
    }
    let name = matrix.name.clone();
    let headers = headers_of(table);
    let header = |i: usize| {
        let name = plan.arrays[i].name.as_str();
        headers.get(name).map_or(name, |h| h).to_string()
    };
    let mut out = plan.clone();
    out.tables = vec![Table {
        columns: data.iter().map(|&i| Column { array: name.clone(), header: header(i) }).collect(),
        index: table.index.clone(),
        matrix: Some(name),
        metadata: table.metadata.clone(),
    }]
    .into();
    let rest = others.iter().map(|&i| plan.arrays[i].clone());
    out.arrays = std::iter::once(matrix).chain(rest).collect();
    let first = Recipe { input: data[0], ops: vec![Op::Stack(stack.into())] };
    let recipes = std::iter::once(first).chain(others.into_iter().map(Recipe::of)).collect();
    Step { plan: out, recipes, notes: Vec::new() }
}

/// The header of each array that is a column.
fn headers_of(table: &Table) -> HashMap<&str, &str> {
    let mut headers = HashMap::new();
    for column in &table.columns {
        headers.entry(column.array.as_str()).or_insert(column.header.as_str());
    }
    headers
}

/// Makes a table of what a source has, for a table output: the recorded table if there is one, else
/// the one array, else arrays of equal row count.
///
/// # Errors
/// Refused, listing the arrays that make no table.
pub fn export(
    plan: &Plan,
    layout: Layout,
    max_rank: usize,
    column_names: Option<&[String]>,
) -> Result<Step> {
    let split = split_arrays(plan, layout, max_rank);
    check_columns(plan, &split, max_rank)?;
    let recorded = plan.tables.first();
    let single = plan.arrays.len() == 1;
    let mut made = Columns::default();
    made.arrays.reserve_exact(plan.arrays.len());
    made.columns.reserve_exact(plan.arrays.len());
    made.recipes.reserve_exact(plan.arrays.len());
    let headers = recorded.map(headers_of).unwrap_or_default();
    for (i, (a, split)) in plan.arrays.iter().zip(&split).enumerate() {
        if !split {
            let nameless = single
                && recorded.is_none()
                && !a.scalar
                && a.inner.is_empty()
                && column_names.is_none()
                && layout != Layout::Columns;
            let name = if nameless { "data" } else { a.name.as_str() };
            let header = headers.get(a.name.as_str()).map_or(name, |h| h).to_string();
            made.named.insert(name.to_string());
            let meta = ArrayMeta { name: name.to_string(), scalar: false, ..a.clone() };
            made.push(meta, header, Recipe::of(i));
            continue;
        }
        let width = a.inner[0];
        let headers: Vec<String> = match recorded.filter(|t| t.matrix.as_ref() == Some(&a.name)) {
            Some(t) if t.columns.len() as u64 == width => {
                t.columns.iter().map(|c| c.header.clone()).collect()
            }
            _ if single => (0..width).map(|i| format!("col{i}")).collect(),
            _ => (0..width).map(|i| format!("{}.{i}", a.name)).collect(),
        };
        let (width, item) = (width as usize, a.dtype.item_bytes() as usize);
        for (index, header) in headers.into_iter().enumerate() {
            let name = made.free_name(&header, index);
            let meta = ArrayMeta { name, inner: Vec::new(), scalar: false, ..a.clone() };
            let column = Op::Column { index, width, item };
            made.push(meta, header, Recipe { input: i, ops: vec![column] });
        }
    }
    if let Some(names) = column_names {
        made.rename(names)?;
    }
    let table = recorded.cloned().unwrap_or_default();
    let tables = vec![Table { columns: made.columns, matrix: None, ..table }];
    let plan = Plan { arrays: made.arrays.into(), tables: tables.into(), ..plan.clone() };
    Ok(Step { plan, recipes: made.recipes, notes: Vec::new() })
}

/// Which arrays are cut into columns.
fn split_arrays(plan: &Plan, layout: Layout, max_rank: usize) -> Vec<bool> {
    let recorded = plan.tables.first();
    let matrix = recorded.and_then(|t| t.matrix.as_ref());
    let by_itself = recorded.is_none() && plan.arrays.len() == 1;
    let is_split = |a: &ArrayMeta| {
        a.inner.len() == 1
            && a.element_dims().len() == 1
            && !a.logical.is_var()
            && match layout {
                Layout::Columns => false,
                Layout::Matrix => true,
                // No columns would not even tell the rows: one of empty rows does.
                Layout::Auto if a.inner == [0] && max_rank > 1 => false,
                Layout::Auto => matrix == Some(&a.name) || by_itself,
            }
    };
    plan.arrays.iter().map(is_split).collect()
}

fn check_columns(plan: &Plan, split: &[bool], max_rank: usize) -> Result<()> {
    // The shape of an array that cannot be read may be any.
    Error::all(plan.arrays.iter().filter_map(|a| readable(a).err()).collect())?;
    let rows = plan.arrays.first().and_then(|a| a.rows);
    let single = plan.arrays.len() == 1;
    if !plan.arrays.iter().all(|a| a.rows == rows && (!a.scalar || single)) {
        let show = |a: &ArrayMeta| format!("{} {:?}", a.name, a.shape().unwrap_or_default());
        let mut shown: Vec<String> = plan.arrays.iter().take(8).map(show).collect();
        if plan.arrays.len() > 8 {
            shown.push("…".into());
        }
        return Err(Error::refused(format!(
            "these arrays cannot be one table, their row counts differ: {}",
            shown.join(", ")
        ))
        .hint("choose arrays of equal row count with -a"));
    }
    let mut errors = Vec::new();
    for (a, split) in plan.arrays.iter().zip(split) {
        let rank = 1 + a.element_dims().len();
        if !split && !a.scalar && rank > max_rank {
            let error =
                Error::refused(format!("an array of {rank} dimensions cannot be a column here"))
                    .array(&a.name);
            errors.push(if rank == 2 {
                error.hint("--layout matrix makes a column of each of its columns")
            } else {
                error.hint("choose other arrays with -a, or another output format")
            });
        } else if *split && a.inner[0] == 0 {
            let shape = format!("({}, 0)", a.rows.unwrap_or_default());
            errors.push(
                Error::refused(format!("an array of shape {shape} has no columns for a table"))
                    .array(&a.name)
                    .hint(match max_rank {
                        1 => "choose other arrays with -a, or another output format",
                        _ => "--layout columns makes one column of empty rows",
                    }),
            );
        } else if *split && a.inner[0] > 100_000 {
            errors.push(
                Error::refused(format!("{} columns are too many for a table", a.inner[0]))
                    .array(&a.name),
            );
        }
    }
    Error::all(errors)
}

/// The columns of a table that is made.
#[derive(Default)]
struct Columns {
    arrays: Vec<ArrayMeta>,
    columns: Vec<Column>,
    recipes: Vec<Recipe>,
    named: HashSet<String>,
}

impl Columns {
    fn push(&mut self, meta: ArrayMeta, header: String, recipe: Recipe) {
        self.columns.push(Column { array: meta.name.clone(), header });
        self.arrays.push(meta);
        self.recipes.push(recipe);
    }
    fn free_name(&mut self, header: &str, index: usize) -> String {
        let mut name = if header.is_empty() { format!("col{index}") } else { header.to_string() };
        if self.named.contains(&name) {
            name = names::unique_name(&name, |n| self.named.contains(n));
        }
        self.named.insert(name.clone());
        name
    }
    fn rename(&mut self, names: &[String]) -> Result<()> {
        if names.len() != self.columns.len() {
            return Err(Error::usage(format!(
                "--column-names gives {} names for {} columns",
                names.len(),
                self.columns.len()
            )));
        }
        for ((column, array), name) in self.columns.iter_mut().zip(&mut self.arrays).zip(names) {
            column.header.clone_from(name);
            column.array.clone_from(name);
            array.name.clone_from(name);
        }
        Ok(())
    }
}
