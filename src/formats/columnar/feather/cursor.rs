//! Where the arrays of a schema are among the nodes and buffers of a batch.

use std::collections::HashSet;

use arrow_schema::{DataType, Field, Schema, UnionMode};

use super::index::Batch;
use crate::arrow_model;
use crate::model::nested::children;

/// Where the parts of an array are in a batch: counts of nodes, buffers and view arrays before it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    pub(super) node: usize,
    pub(super) buffer: usize,
    pub(super) view: usize,
}

/// Where the arrays of all leaves of a schema begin in a batch, in the order of
/// [`arrow_model::leaves`]: found in one walk, for a table may have thousands of columns. The
/// columns of `whole` are leaves themselves.
pub(super) fn cursors(schema: &Schema, whole: &HashSet<usize>, batch: &Batch) -> Vec<Cursor> {
    let (mut at, mut found) = (Cursor::default(), Vec::new());
    for (i, field) in schema.fields().iter().enumerate() {
        if whole.contains(&i) {
            found.push(at);
            skip(field.data_type(), batch, &mut at);
        } else {
            walk(field, 1, batch, &mut at, &mut found);
        }
    }
    found
}

/// The columns (their places) whose structs are null somewhere.
pub(super) fn null_structs(schema: &Schema, batches: &[Batch]) -> HashSet<usize> {
    fn has_null(field: &Field, depth: usize, batch: &Batch, at: &mut Cursor) -> bool {
        let Some(children) = arrow_model::fields_below(field, depth) else {
            skip(field.data_type(), batch, at);
            return false;
        };
        let nulls = batch.nodes.get(at.node).map_or(0, |node| node.1);
        at.node += 1;
        at.buffer += 1;
        let below = children.iter().filter(|child| has_null(child, depth + 1, batch, at)).count();
        nulls > 0 || below > 0
    }
    let mut found = HashSet::new();
    if schema.fields().iter().all(|f| arrow_model::fields_below(f, 1).is_none()) {
        return found;
    }
    for batch in batches {
        let mut at = Cursor::default();
        for (i, field) in schema.fields().iter().enumerate() {
            if has_null(field, 1, batch, &mut at) {
                found.insert(i);
            }
        }
    }
    found
}

fn walk(field: &Field, depth: usize, batch: &Batch, at: &mut Cursor, found: &mut Vec<Cursor>) {
    let Some(children) = arrow_model::fields_below(field, depth) else {
        found.push(*at);
        return skip(field.data_type(), batch, at);
    };
    at.node += 1;
    at.buffer += 1;
    children.iter().for_each(|child| walk(child, depth + 1, batch, at, found));
}

/// Moves the cursor past an array of this type.
pub(super) fn skip(t: &DataType, batch: &Batch, at: &mut Cursor) {
    at.node += 1;
    match t {
        DataType::Null => {}
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => {
            at.buffer += 3
        }
        DataType::Utf8View | DataType::BinaryView => {
            at.buffer += 2 + batch
                .variadic
                .get(at.view)
                .map_or(0, |&n| usize::try_from(n).unwrap_or(usize::MAX / 4));
            at.view += 1;
        }
        _ => {
            at.buffer += own_buffers(t, batch);
            children(t).into_iter().for_each(|f| skip(f.data_type(), batch, at));
        }
    }
}

/// The buffers of an array of this type, without those below it and those of texts.
pub(super) fn own_buffers(t: &DataType, batch: &Batch) -> usize {
    match t {
        DataType::Null | DataType::RunEndEncoded(..) => 0,
        DataType::FixedSizeList(..) | DataType::Struct(_) => 1,
        DataType::ListView(_) | DataType::LargeListView(_) => 3,
        DataType::Union(_, mode) => {
            usize::from(batch.before_v5) + if *mode == UnionMode::Dense { 2 } else { 1 }
        }
        _ => 2,
    }
}
