//! The columns of the schema, with the types that they are read as.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Schema};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::TypePtr;

use super::{logical_types, schema};

/// A column of the schema with all that is below it. Each is looked at alone: there may be
/// thousands of others.
pub(super) struct Root {
    /// As it is read.
    pub(super) refined: FieldRef,
    pub(super) error: Option<String>,
    /// A type of Parquet that Arrow has not, where no Arrow type was recorded.
    pub(super) lacking: Option<&'static str>,
    pub(super) first_column: usize,
    /// What Parquet says of it.
    pub(super) parquet: TypePtr,
    /// The type that the crate is asked for.
    pub(super) reading: FieldRef,
}

impl Root {
    pub(super) fn all(
        metadata: &ParquetMetaData,
        recorded: Option<&Schema>,
        micros: &HashSet<usize>,
    ) -> Vec<Root> {
        let descr = metadata.file_metadata().schema_descr();
        let types = descr.root_schema().get_fields();
        let mut columns = vec![(0, 0); types.len()];
        for c in (0..descr.num_columns()).rev() {
            let (first, count) = &mut columns[descr.get_column_root_idx(c)];
            (*first, *count) = (c, *count + 1);
        }
        let mut by_name: HashMap<&str, &FieldRef> = HashMap::new();
        for field in recorded.iter().flat_map(|r| r.fields()) {
            by_name.entry(field.name()).or_insert(field);
        }
        let of = |(i, t): (usize, &TypePtr)| {
            // By position if the names agree there, else by name.
            let same = |f: &&FieldRef| f.name() == t.name();
            let beside = recorded
                .and_then(|r| r.fields().get(i).filter(same))
                .or_else(|| by_name.get(t.name()).copied());
            Root::of(t, columns[i], beside, micros)
        };
        types.iter().enumerate().map(of).collect()
    }

    /// `columns`: the first of its Parquet columns, and how many it has.
    fn of(
        t: &TypePtr,
        columns: (usize, usize),
        recorded: Option<&FieldRef>,
        micros: &HashSet<usize>,
    ) -> Root {
        let (first_column, count) = columns;
        let found =
            schema::alone(t.clone()).and_then(|alone| parquet_to_arrow_schema(&alone, None));
        let error = match found.as_ref().map(|schema| schema.fields()) {
            Ok(found) if found.len() == 1 => {
                let mut next = first_column;
                let base = schema::with_micros(&found[0], &mut next, micros);
                if next - first_column == count {
                    let marked = logical_types::with_extensions(&base, t);
                    let refined = schema::refined(&marked, recorded);
                    let lacking = recorded.map_or_else(|| logical_types::lacking(t), |_| None);
                    let reading = schema::reading_type(base.data_type(), refined.data_type());
                    let reading = Arc::new(base.as_ref().clone().with_data_type(reading));
                    return Root {
                        refined,
                        error: None,
                        lacking,
                        first_column,
                        parquet: t.clone(),
                        reading,
                    };
                }
                format!("a group of {count} columns")
            }
            Ok(_) => "an empty group".into(),
            Err(e) => e.to_string(),
        };
        let field: FieldRef = Arc::new(Field::new(t.name(), DataType::Null, true));
        Root {
            refined: field.clone(),
            error: Some(error),
            lacking: None,
            first_column,
            parquet: t.clone(),
            reading: field,
        }
    }
}
