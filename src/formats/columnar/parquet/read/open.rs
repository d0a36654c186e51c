//! Opening Parquet: the columns of the schema as logical arrays, with what only the data shows.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use arrow_schema::{DataType, FieldRef, Schema};
use parquet::basic::Type as Physical;
use parquet::file::metadata::{FileMetaData, ParquetMetaData};

use super::columns::ColumnRequest;
use super::footer::Footer;
use super::pages::Recent;
use super::roots::Root;
use super::schema;
use super::shared::Shared;
use crate::arrow_model::{self, Held, MemoryLimit};
use crate::error::{Error, Result, SKIP_COLUMN, foreign};
use crate::format::{Choice, Order, ReadOptions, Reader, Source, readable};
use crate::formats::columnar::names::column_names;
use crate::model;
use crate::model::nested::{children, walk};
use crate::model::{ArrayMeta, Attributes, Column as TableColumn, Dtype, Logical, Plan, Table};
use crate::storage::Blob;

/// An opened Parquet file.
pub(super) struct ParquetSource {
    plan: Plan,
    shared: Arc<Shared>,
}

impl ParquetSource {
    pub(super) fn open(blob: Arc<dyn Blob>, options: &ReadOptions) -> Result<ParquetSource> {
        let limit = MemoryLimit(options.resources.memory_bytes());
        let Footer { metadata, encrypted, lost_keys } = Footer::read(blob.as_ref(), limit)?;
        let metadata = Arc::new(metadata);
        let file = metadata.file_metadata();
        let starts = group_starts(&metadata)?;
        let rows = starts[starts.len() - 1];
        let (recorded, mut notes) = recorded_schema(file, &lost_keys);
        let mut shared = Shared {
            blob,
            metadata: metadata.clone(),
            encrypted,
            starts,
            columns: Vec::new(),
            metas: model::Shared::default(),
            measured: Mutex::default(),
            limit,
            jobs: options.resources.jobs(),
            share: share(options),
            held: Arc::new(Held::new(limit)),
            recent: Recent::default(),
            uncounted: HashSet::new(),
        };
        let (micros, int96_errors) =
            if options.names_only { Default::default() } else { shared.int96_micros() };
        let roots = Root::all(&metadata, recorded.as_ref(), &micros);
        notes.extend(roots.iter().filter_map(|root| lacking(root, options)));
        shared.uncounted = shared.uncounted_nulls(&roots);
        let full = Schema::new(roots.iter().map(|r| r.refined.clone()).collect::<Vec<FieldRef>>());
        let request = ColumnRequest { roots: &roots, int96_errors, options };
        let mut table =
            Table { columns: shared.add_columns(&full, rows, &request)?, ..Table::default() };
        let (attributes, mut pandas) = file_metadata(file, &lost_keys);
        pandas.insert("ARROW:schema".into(), arrow_model::encode_schema(&full).into());
        table.index = arrow_model::pandas_index(&pandas, &table.columns);
        table.metadata = pandas;
        let plan = Plan {
            format: "parquet",
            format_version: Some(file.version().to_string()),
            arrays: shared.metas.clone(),
            tables: vec![table].into(),
            attributes: attributes.into(),
            notes,
            ..Plan::default()
        };
        Ok(ParquetSource { plan: plan.with_rows(rows), shared: Arc::new(shared) })
    }
}

/// A note on a column whose type in Parquet Arrow has not.
fn lacking(root: &Root, options: &ReadOptions) -> Option<String> {
    let lacking = root.lacking?;
    let (name, field) = (root.refined.name(), &root.refined);
    let chosen = |choice: &Choice| choice.of(&[name])[0] || choice.reaches(name, field);
    if options.names_only || !options.choice.as_ref().is_none_or(chosen) {
        return None;
    }
    let kind = arrow_model::type_name(field.data_type());
    Some(format!("{name}: it holds Parquet's type {lacking}, which is read as {kind}"))
}

/// Where each row group begins, and the end.
fn group_starts(metadata: &ParquetMetaData) -> Result<Vec<u64>> {
    let mut starts = vec![0u64];
    for (g, group) in metadata.row_groups().iter().enumerate() {
        let rows = u64::try_from(group.num_rows())
            .map_err(|_| Error::corrupt(format!("row group {g} has {} rows", group.num_rows())))?;
        let end = starts[g].checked_add(rows).filter(|&e| e < 1 << 62);
        starts.push(end.ok_or_else(|| Error::corrupt("the row groups have too many rows"))?);
    }
    Ok(starts)
}

/// The Arrow schema that most writers keep in the metadata, and notes of what is left out.
/// `lost_keys`: the metadata that is no text.
fn recorded_schema(file: &FileMetaData, lost_keys: &[String]) -> (Option<Schema>, Vec<String>) {
    let recorded = file
        .key_value_metadata()
        .and_then(|kv| kv.iter().find(|e| e.key == "ARROW:schema")?.value.as_deref())
        .and_then(arrow_model::decode_schema);
    let (recorded, mut notes) =
        recorded.map_or((None, Vec::new()), |(schema, notes)| (Some(schema), notes));
    for key in lost_keys {
        let note = format!("the metadata '{key}' is left out: it is not UTF-8 text");
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    (recorded, notes)
}

/// The metadata of the file as attributes, and that of pandas as the table's.
fn file_metadata(file: &FileMetaData, lost_keys: &[String]) -> (Attributes, Attributes) {
    let (mut attributes, mut pandas) = (Attributes::new(), Attributes::new());
    let lost: HashSet<&str> = lost_keys.iter().map(String::as_str).collect();
    let entries = file.key_value_metadata().into_iter().flatten();
    for entry in entries.filter(|entry| !lost.contains(entry.key.as_str())) {
        let value = serde_json::Value::String(entry.value.clone().unwrap_or_default());
        match entry.key.as_str() {
            "ARROW:schema" => {}
            "pandas" => _ = pandas.insert("pandas".into(), value),
            _ => _ = attributes.insert(entry.key.clone(), value),
        }
    }
    (attributes, pandas)
}

impl Shared {
    /// Adds the columns of a schema that have a name, each an array; what the table tells of them.
    fn add_columns(
        &mut self,
        full: &Schema,
        rows: u64,
        request: &ColumnRequest<'_>,
    ) -> Result<Vec<TableColumn>> {
        let options = request.options;
        let whole = self.whole_columns(request.roots, full, options)?;
        let leaves = arrow_model::leaves(full, &whole);
        let headers: Vec<String> = leaves.iter().map(|l| l.name.clone()).collect();
        let names = column_names(&headers, options.on_duplicate)?;
        let known: Vec<&str> = names.iter().map(|n| n.as_deref().unwrap_or_default()).collect();
        let chosen = match &options.choice {
            _ if options.names_only => vec![false; known.len()],
            Some(choice) => choice.of(&known),
            None => vec![true; known.len()],
        };
        let mut next_column: Vec<usize> = request.roots.iter().map(|r| r.first_column).collect();
        let mut table = Vec::with_capacity(leaves.len());
        self.columns.reserve_exact(leaves.len());
        self.metas.reserve_exact(leaves.len());
        for ((leaf, name), chosen) in leaves.iter().zip(names).zip(chosen) {
            let next = &mut next_column[leaf.path[0]];
            let first = *next;
            *next += schema::parquet_columns(leaf.field.data_type());
            let columns = first..*next;
            let Some(name) = name else { continue };
            let reaches = |choice: &Choice| choice.reaches(&name, &leaf.field);
            let is_wanted =
                chosen || !options.names_only && options.choice.as_ref().is_some_and(reaches);
            table.push(TableColumn::read(&name, &leaf.name));
            let meta = ArrayMeta::column(name, Dtype::U8, Logical::Plain, Some(rows));
            self.add_column(leaf, columns, is_wanted, request, meta)?;
        }
        Ok(table)
    }

    /// The Parquet columns of dictionaries in structs: Arrow's own writer counts nulls of the
    /// dictionary alone there, and leaves out those of the structs.
    fn uncounted_nulls(&self, roots: &[Root]) -> HashSet<usize> {
        let descr = self.metadata.file_metadata().schema_descr();
        let mut found = HashSet::new();
        for root in roots {
            let all = walk(root.refined.data_type()).into_iter();
            let leaves = all.filter(|t| children(t).is_empty()).enumerate();
            for (i, _) in leaves.filter(|(_, t)| matches!(t, DataType::Dictionary(..))) {
                let column = root.first_column + i;
                let inside = !children(root.refined.data_type()).is_empty();
                if inside && column < descr.num_columns() {
                    found.insert(column);
                }
            }
        }
        found
    }

    /// INT96 columns that need microseconds. Per column: does every value fit nanoseconds, or else
    /// microseconds exactly?
    fn int96_micros(&self) -> (HashSet<usize>, HashMap<usize, Error>) {
        let encrypted: HashSet<usize> = self.encrypted.iter().map(|(_, column)| *column).collect();
        let descr = self.metadata.file_metadata().schema_descr();
        let (mut micros, mut errors) = (HashSet::new(), HashMap::new());
        for c in 0..descr.num_columns() {
            if descr.column(c).physical_type() != Physical::INT96 || encrypted.contains(&c) {
                continue;
            }
            match foreign("parquet", || self.int96_range(c)) {
                Ok((true, _)) => {}
                Ok((false, true)) => _ = micros.insert(c),
                Ok((false, false)) => {
                    let error = Error::refused(
                        "its INT96 times neither fit nanoseconds nor are whole microseconds",
                    );
                    errors.insert(c, error.hint(SKIP_COLUMN));
                }
                Err(e) => _ = errors.insert(c, e),
            }
        }
        (micros, errors)
    }
}

/// What one of the pieces in flight may take.
fn share(options: &ReadOptions) -> u64 {
    (options.resources.memory_bytes() / (4 * options.resources.jobs() as u64 + 4))
        .clamp(64 << 10, 16 << 20)
}

impl Source for ParquetSource {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, arrays: &[usize], _wish: Order) -> Result<Reader> {
        arrays.iter().try_for_each(|&a| readable(&self.plan.arrays[a]))?;
        Ok(Reader::Random(self.shared.clone()))
    }
}
