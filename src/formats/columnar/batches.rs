//! Record batches in memory as arrays of the model. Numbers are not copied.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Schema};

use super::names::column_names;
use crate::arrow_model::{self, Dictionaries, Held, Leaf, Level, MemoryLimit, fields_below};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::OnDuplicate;
use crate::model::{ArrayMeta, Chunk, Column, Dtype, Logical, Plan, Table, Values};

/// The columns of these batches, which have one schema: a plan of one table, and the chunks of
/// each array in order.
///
/// # Errors
/// Refused: types that the model lacks, all of them named; two columns of one name.
pub fn arrays_of(schema: &Schema, batches: &[RecordBatch]) -> Result<(Plan, Vec<Vec<Chunk>>)> {
    let rows = batches.iter().map(|b| b.num_rows() as u64).sum();
    let leaves = arrow_model::leaves(schema, &null_structs(schema, batches));
    let headers: Vec<String> = leaves.iter().map(|l| l.name.clone()).collect();
    let names = column_names(&headers, OnDuplicate::Error)?;
    let (mut table, mut metas, mut all) = (Table::default(), Vec::new(), Vec::new());
    let mut errors = Vec::new();
    for (leaf, name) in leaves.iter().zip(names) {
        let Some(name) = name else { continue };
        table.columns.push(Column::read(&name, &leaf.name));
        let parts = batches
            .iter()
            .map(|b| arrow_model::descend(b.column(leaf.path[0]), &leaf.path[1..], false))
            .collect::<Result<Vec<_>>>()
            .at_array(&name)?;
        let meta = ArrayMeta::column(&name, Dtype::U8, Logical::Plain, Some(rows));
        let made = crate::error::foreign("arrow", || match flat(leaf, &parts, &meta, all.len()) {
            // What does not fit rows of numbers and texts.
            Err(e) if e.kind() == ErrorKind::Refused => nested(leaf, &parts, &meta, all.len()),
            other => other,
        });
        match made {
            Ok((meta, chunks)) => {
                metas.push(meta);
                all.push(chunks);
            }
            Err(e) => errors.push(e.array(&name)),
        }
    }
    Error::all(errors)?;
    let (attributes, metadata) = arrow_model::schema_metadata(schema);
    table.index = arrow_model::pandas_index(&metadata, &table.columns);
    table.metadata = metadata;
    let (tables, attributes) = (vec![table].into(), attributes.into());
    Ok((Plan { format: "arrow", arrays: metas.into(), tables, attributes, ..Plan::default() }, all))
}

type Made = (ArrayMeta, Vec<Chunk>);

fn flat(leaf: &Leaf, parts: &[ArrayRef], meta: &ArrayMeta, index: usize) -> Result<Made> {
    let holds = leaf.holds.as_ref().map_err(|e| Error::clone(e))?;
    let logical = arrow_model::with_order(holds.logical.clone(), &leaf.field);
    let mut meta = ArrayMeta { dtype: holds.dtype, logical, ..meta.clone() };
    let dictionary = match &meta.logical {
        Logical::Dictionary { categories, .. } => Some(dictionaries(categories.clone())),
        _ => None,
    };
    let any = holds.levels.iter().filter(|l| **l == Level::Any).count();
    let (mut lengths, mut equal) = (vec![None; any], true);
    for part in parts.iter().filter(|_| any > 0) {
        equal = equal && arrow_model::list_lengths(part, &holds.levels, &mut lengths)?;
    }
    arrow_model::settle_lists(holds, equal, &lengths, &mut meta)?;
    let (mut first, mut chunks) = (0, Vec::with_capacity(parts.len()));
    for part in parts {
        let chunk = arrow_model::chunk(part, holds, &meta, dictionary.as_ref(), index, first)?;
        first += chunk.rows;
        meta.nulls |= chunk.valid.as_ref().is_some_and(|valid| valid.contains(&0));
        chunks.push(chunk);
    }
    Ok((meta, chunks))
}

/// A column that travels as Arrow arrays.
fn nested(leaf: &Leaf, parts: &[ArrayRef], meta: &ArrayMeta, index: usize) -> Result<Made> {
    let nested = arrow_model::nested(&leaf.field)?;
    let merged: Vec<Dictionaries> = nested.dictionaries.iter().cloned().map(dictionaries).collect();
    let (mut first, mut chunks) = (0, Vec::with_capacity(parts.len()));
    for part in parts {
        let (rows, first_row) = (part.len() as u64, first);
        let array = arrow_model::encoded(part, &nested, &merged, first_row)?;
        chunks.push(Chunk {
            array: index,
            first_row,
            rows,
            values: Values::Nested(array),
            valid: None,
        });
        first += rows;
    }
    Ok((ArrayMeta { logical: Logical::Nested(Arc::new(nested)), ..meta.clone() }, chunks))
}

/// What is in memory already needs no limit.
fn dictionaries(categories: Arc<crate::model::Categories>) -> Dictionaries {
    Dictionaries::new(categories, Arc::new(Held::new(MemoryLimit(u64::MAX))))
}

/// The columns in which a struct is null as a whole.
fn null_structs(schema: &Schema, batches: &[RecordBatch]) -> HashSet<usize> {
    fn has_null(array: &ArrayRef, t: &DataType, depth: usize) -> bool {
        let Some(fields) = array.as_struct_opt() else { return false };
        let field = arrow_schema::Field::new("", t.clone(), true);
        let Some(below) = fields_below(&field, depth) else { return false };
        let mut columns = fields.columns().iter().zip(below);
        fields.null_count() > 0
            || columns.any(|(column, field)| has_null(column, field.data_type(), depth + 1))
    }
    let null = |i: usize| {
        let t = schema.field(i).data_type();
        batches.iter().any(|b| has_null(b.column(i), t, 1))
    };
    (0..schema.fields().len()).filter(|&i| null(i)).collect()
}
