//! Tables into arrays and back: the layouts `auto`, `matrix` and `columns`, and what a table output
//! is made of.

use std::collections::{HashMap, HashSet};

use super::stages::{SplitStage, StackStage};
use super::view::{Change, Made, View};
use super::{cast, time};
use crate::error::{Error, Result};
use crate::format::Source;
use crate::format::Stage;
use crate::model::{ArrayMeta, Column, Decimals, Dtype, Logical, Plan, Table};

/// `--layout`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// A matrix where all columns allow it, else columns.
    #[default]
    Auto,
    /// An array a column.
    Columns,
    /// One matrix.
    Matrix,
}

/// A source and the stages that follow it.
pub type Staged = (Box<dyn Source>, Vec<Box<dyn Stage>>);

/// Tables keep only the columns whose arrays are still there, in the arrays' order.
pub fn keep_columns(plan: &mut Plan) {
    let position: HashMap<&str, usize> =
        plan.arrays.iter().enumerate().map(|(i, a)| (a.name.as_str(), i)).collect();
    for table in &mut plan.tables {
        table.columns.retain(|c| position.contains_key(c.array.as_str()));
        table.columns.sort_by_key(|c| position.get(c.array.as_str()).copied());
        table.index.retain(|i| position.contains_key(i.as_str()));
        if table.matrix.as_ref().is_some_and(|m| !position.contains_key(m.as_str())) {
            table.matrix = None;
        }
    }
    plan.tables.retain(|t| !t.columns.is_empty() || t.matrix.is_some());
}

/// As [`keep_columns`], where columns may be logical arrays that are kept in pieces.
pub fn keep_columns_of_kept(plan: &mut Plan) {
    let known: HashSet<&str> = plan
        .arrays
        .iter()
        .chain(plan.kept.iter().map(|k| &k.meta))
        .map(|a| a.name.as_str())
        .collect();
    for table in &mut plan.tables {
        table.columns.retain(|c| known.contains(c.array.as_str()));
        table.index.retain(|i| known.contains(i.as_str()));
    }
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

/// Applies `--layout` to a source that is a table file. Says which layout was chosen.
///
/// `nulls_allowed`: nulls become NaN or a fill value later on (`--nulls nan|fill`), so a matrix may
/// have them.
///
/// # Errors
/// Refused: columns that a matrix cannot hold, all named at once.
pub fn import(
    source: Box<dyn Source>,
    layout: Layout,
    stem: &str,
    nulls_allowed: bool,
) -> Result<(Staged, Option<&'static str>)> {
    let plan = source.plan().clone();
    let Some(table) = plan.tables.first().cloned() else { return Ok(((source, Vec::new()), None)) };
    let (positions, index) =
        (plan.positions(), table.index.iter().map(String::as_str).collect::<HashSet<&str>>());
    let own = table.columns.iter().map(|c| c.array.as_str()).filter(|array| !index.contains(array));
    let data: Vec<usize> = own.filter_map(|array| positions.get(array).copied()).collect();
    let fits = |m: &ArrayMeta| {
        m.logical.is_plain() && m.inner.is_empty() && !m.scalar && m.details.error.is_none()
    };
    let uniform = !data.is_empty()
        && data.iter().all(|&i| {
            let m = &plan.arrays[i];
            fits(m) && m.dtype == plan.arrays[data[0]].dtype && m.dtype != Dtype::Bool && !m.nulls
        });
    if layout == Layout::Columns || layout == Layout::Auto && !uniform {
        return Ok(((source, Vec::new()), Some("columns")));
    }
    let mut errors = Vec::new();
    let mut dtype = None;
    for &i in &data {
        let m = &plan.arrays[i];
        let refuse = |why: &str| {
            Error::refused(format!("a matrix cannot hold {why}"))
                .array(&m.name)
                .hint("--layout columns")
        };
        if !fits(m) {
            errors.push(refuse(
                format!("{} {}", m.type_name(), if m.inner.is_empty() { "" } else { "lists" })
                    .trim_end()
                    .to_string()
                    .as_str(),
            ));
        } else if m.nulls && !nulls_allowed {
            errors.push(
                refuse("nulls").hint("--nulls nan or --nulls fill=VALUE, or --layout columns"),
            );
        } else {
            match dtype.map_or(Some(m.dtype), |d| common_dtype(d, m.dtype)) {
                Some(d) => dtype = Some(d),
                None => errors.push(refuse(m.dtype.name())),
            }
        }
    }
    Error::all(errors)?;
    let Some(dtype) = dtype else {
        return Err(Error::missing("there are no columns to make a matrix of"));
    };
    let lead = &plan.arrays[data[0]];
    let mut matrix = ArrayMeta::new(stem, dtype, &[0, data.len() as u64]);
    matrix.rows = lead.rows;
    matrix.nulls = data.iter().any(|&i| plan.arrays[i].nulls);
    let mut out = plan.clone();
    let stacked: HashSet<usize> = data.iter().copied().collect();
    let others: Vec<ArrayMeta> = (0..plan.arrays.len())
        .filter(|i| !stacked.contains(i))
        .map(|i| plan.arrays[i].clone())
        .collect();
    let taken: HashSet<&str> = others.iter().map(|o| o.name.as_str()).collect();
    if taken.contains(stem) {
        matrix.name = super::names::unique_name(stem, |n| taken.contains(n));
    }
    let name = matrix.name.clone();
    let headers = headers_of(&table);
    let header = |i: usize| {
        headers
            .get(plan.arrays[i].name.as_str())
            .map_or(plan.arrays[i].name.as_str(), |h| h)
            .to_string()
    };
    out.arrays = std::iter::once(matrix).chain(others).collect();
    out.tables = vec![Table {
        columns: data.iter().map(|&i| Column { array: name.clone(), header: header(i) }).collect(),
        index: table.index.clone(),
        matrix: Some(name),
        metadata: table.metadata.clone(),
    }];
    let stage = StackStage::new(&plan.arrays, &data, out);
    Ok(((source, vec![Box::new(stage)]), Some("matrix")))
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
    source: Box<dyn Source>,
    layout: Layout,
    max_rank: usize,
    column_names: Option<&[String]>,
) -> Result<Staged> {
    let plan = source.plan().clone();
    let list = || {
        let mut shown: Vec<String> = plan
            .arrays
            .iter()
            .take(8)
            .map(|a| format!("{} {:?}", a.name, a.shape().unwrap_or_default()))
            .collect();
        if plan.arrays.len() > 8 {
            shown.push("…".into());
        }
        shown.join(", ")
    };
    let recorded = plan.tables.first();
    let matrix = recorded.and_then(|t| t.matrix.clone());
    // Which arrays are cut into columns.
    let single = plan.arrays.len() == 1;
    let split: Vec<bool> = plan
        .arrays
        .iter()
        .map(|a| {
            let two = a.inner.len() == 1 && a.element_dims().len() == 1 && !a.logical.is_var();
            match layout {
                Layout::Columns => false,
                Layout::Matrix => two,
                Layout::Auto => {
                    two && (matrix.as_ref() == Some(&a.name) || recorded.is_none() && single)
                }
            }
        })
        .collect();
    let rows = plan.arrays.first().and_then(|a| a.rows);
    let even = plan.arrays.iter().all(|a| a.rows == rows && (!a.scalar || single));
    if !even {
        return Err(Error::refused(format!(
            "these arrays cannot be one table, their row counts differ: {}",
            list()
        ))
        .hint("choose arrays of equal row count with -a"));
    }
    let mut errors = Vec::new();
    for (a, split) in plan.arrays.iter().zip(&split) {
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
        } else if *split && a.inner[0] > 100_000 {
            errors.push(
                Error::refused(format!("{} columns are too many for a table", a.inner[0]))
                    .array(&a.name),
            );
        }
    }
    Error::all(errors)?;
    let (mut out, mut columns, mut widths) = (plan.clone(), Vec::new(), Vec::new());
    out.arrays.clear();
    let headers = recorded.map(headers_of).unwrap_or_default();
    let mut named: HashSet<String> = HashSet::new();
    for (a, split) in plan.arrays.iter().zip(&split) {
        if !split {
            let name = if single
                && recorded.is_none()
                && !a.scalar
                && a.inner.is_empty()
                && column_names.is_none()
                && layout != Layout::Columns
            {
                "data".to_string()
            } else {
                a.name.clone()
            };
            let header =
                headers.get(a.name.as_str()).map_or_else(|| name.clone(), |h| h.to_string());
            named.insert(name.clone());
            out.arrays.push(ArrayMeta { name: name.clone(), scalar: false, ..a.clone() });
            columns.push(Column { array: name, header });
            widths.push(None);
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
        for (i, header) in headers.into_iter().enumerate() {
            let mut name = if header.is_empty() { format!("col{i}") } else { header.clone() };
            if named.contains(&name) {
                name = super::names::unique_name(&name, |n| named.contains(n));
            }
            named.insert(name.clone());
            out.arrays.push(ArrayMeta {
                name: name.clone(),
                inner: Vec::new(),
                scalar: false,
                ..a.clone()
            });
            columns.push(Column { array: name, header });
        }
        widths.push(Some(width));
    }
    if let Some(names) = column_names {
        if names.len() != columns.len() {
            return Err(Error::usage(format!(
                "--column-names gives {} names for {} columns",
                names.len(),
                columns.len()
            )));
        }
        for ((column, array), name) in columns.iter_mut().zip(&mut out.arrays).zip(names) {
            column.header.clone_from(name);
            column.array.clone_from(name);
            array.name.clone_from(name);
        }
    }
    let table = recorded.cloned().unwrap_or_default();
    out.tables = vec![Table { columns, matrix: None, ..table }];
    if widths.iter().all(Option::is_none) {
        return Ok((Box::new(View::relabel(source, out)), Vec::new()));
    }
    let stage = SplitStage::new(&plan.arrays, &widths, out);
    Ok((source, vec![Box::new(stage)]))
}

/// Casts asked for with `--dtype`: pattern (or all plain numbers) → type, the last fitting one
/// counts; `times`: pattern → another unit.
///
/// # Errors
/// Missing: a pattern that matches nothing. Refused: an array that is not numeric, or not a time of
/// this kind.
pub fn cast_arrays(
    source: Box<dyn Source>,
    casts: &[(Option<String>, Dtype)],
    times: &[(String, Logical)],
    lossy: bool,
) -> Result<Box<dyn Source>> {
    if casts.is_empty() && times.is_empty() {
        return Ok(source);
    }
    let mut plan = source.plan().clone();
    let mut made: Vec<Made> =
        (0..plan.arrays.len()).map(|input| Made { input, changes: Vec::new() }).collect();
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
                for i in super::names::choose(&plan, std::slice::from_ref(pattern), &[])? {
                    target[i] = Some((*dtype, true));
                }
            }
        }
    }
    let mut errors = Vec::new();
    for (pattern, wanted) in times {
        for i in super::names::choose(&plan, std::slice::from_ref(pattern), &[])? {
            let meta = &mut plan.arrays[i];
            if let (Logical::Text, Some(from), []) =
                (wanted, meta.logical.decimals(), meta.element_dims())
            {
                made[i].changes.push(Change::DecimalToText(from));
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
                made[i].changes.push(Change::Rescale(change));
                meta.logical = logical;
            }
        }
    }
    for (i, (t, meta)) in target.iter().zip(&mut plan.arrays).enumerate() {
        let Some((to, _)) = *t else { continue };
        meta.was = None;
        match &meta.logical {
            Logical::Plain if meta.dtype == to => {}
            Logical::Plain => made[i].changes.push(Change::Cast { from: meta.dtype, to, lossy }),
            logical if to == Dtype::F64 && logical.decimals().is_some() => {
                let from = logical.decimals().unwrap_or_else(|| Decimals::of(1, 0));
                made[i].changes.push(Change::DecimalToFloat { from, lossy });
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
        meta.details.stored_dtype = None;
        meta.details.stored_bytes = None;
    }
    Error::all(errors)?;
    Ok(Box::new(View::new(source, plan, made)))
}
