//! The manifest of an S3 Inventory and its data files, CSV or Parquet.
//!
//! CSV: no header, the columns are those of `fileSchema`, keys are percent-encoded. Parquet:
//! columns by name, keys as they are. Versions that are not the latest and markers of deleted
//! objects are left out. ORC is not read.

use std::collections::VecDeque;

use serde::Deserialize;

use super::lines::{Take, file, read_line, text};
use crate::batch::found::{FoundSource, Listed};
use crate::cli::ConvertArgs;
use crate::console::Console;
use crate::error::{Context, Error, Result};
use crate::format::Order;
use crate::model::{ArrayMeta, Chunk, Dtype, Values, typed};
use crate::open::{input_location, open, read_options};
use crate::pipe::{self, Settings};
use crate::storage::{EntryKind, Location};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    source_bucket: String,
    destination_bucket: String,
    file_format: String,
    file_schema: String,
    files: Vec<DataFile>,
}

#[derive(Deserialize)]
struct DataFile {
    key: String,
}

/// A manifest is no longer than this; it names some thousand data files.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// What a column of an inventory says; others are not looked at.
#[derive(Clone, Copy, PartialEq)]
enum Column {
    Bucket,
    Key,
    Size,
    Etag,
    IsLatest,
    IsDeleteMarker,
}

impl Column {
    /// By its name in either format: `IsLatest`, `is_latest`.
    fn named(name: &str) -> Option<Column> {
        match name.trim().to_ascii_lowercase().replace('_', "").as_str() {
            "bucket" => Some(Column::Bucket),
            "key" => Some(Column::Key),
            "size" => Some(Column::Size),
            "etag" => Some(Column::Etag),
            "islatest" => Some(Column::IsLatest),
            "isdeletemarker" => Some(Column::IsDeleteMarker),
            _ => None,
        }
    }
}

/// Hands on the objects that an inventory lists.
///
/// # Errors
/// Corrupt: no manifest. Refused: ORC. What cannot be read.
pub(super) fn listed(at: &Location, args: &ConvertArgs, take: Take<'_>) -> Result<()> {
    let mut bytes = Vec::new();
    let mut limited = std::io::Read::take(at.stream()?, MAX_MANIFEST_BYTES);
    std::io::Read::read_to_end(&mut limited, &mut bytes).map_err(Error::reading)?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| {
        Error::corrupt("this is not the manifest of an S3 Inventory")
            .because(e)
            .hint("a list of names may have any name but manifest.json")
    })?;
    let rows = Rows { bucket: &manifest.source_bucket, args };
    for data in &manifest.files {
        let data = data_file(at, &manifest.destination_bucket, &data.key, args)?;
        let name = data.display();
        match manifest.file_format.to_ascii_uppercase().as_str() {
            "CSV" => rows.csv(&data, &manifest.file_schema, take).at_file(&name)?,
            "PARQUET" => rows.parquet(&data, take).at_file(&name)?,
            other => {
                let error = Error::refused(format!("inventories in {other} are not read"));
                return Err(error.hint("let S3 write the inventory as CSV or Parquet"));
            }
        }
    }
    Ok(())
}

/// Where a data file is: where the manifest says, or, of a copy on disk, beside it or in `../data`.
fn data_file(manifest: &Location, bucket: &str, key: &str, args: &ConvertArgs) -> Result<Location> {
    if manifest.local_path().is_some() {
        let name = key.rsplit('/').next().unwrap_or(key);
        let folder = manifest.parent();
        for place in [folder.join(name), folder.join("..").join("data").join(name)] {
            if !name.is_empty() && name != ".." && matches!(place.kind()?, EntryKind::File { .. }) {
                return Ok(place);
            }
        }
    }
    let bucket = bucket.rsplit(':').next().unwrap_or(bucket);
    input_location(&format!("s3://{bucket}/{key}"), &args.read)
}

/// The rows of an inventory as sources.
struct Rows<'a> {
    /// The bucket of rows that do not name theirs.
    bucket: &'a str,
    args: &'a ConvertArgs,
}

impl Rows<'_> {
    fn give(&self, row: &[(Column, Option<String>)], take: Take<'_>) -> Result<()> {
        let get = |column| row.iter().find(|(c, _)| *c == column).and_then(|(_, v)| v.as_deref());
        let is = |column, value: &str| get(column).is_some_and(|v| v.eq_ignore_ascii_case(value));
        let key = get(Column::Key).unwrap_or_default();
        let gone = is(Column::IsLatest, "false") || is(Column::IsDeleteMarker, "true");
        // A key that ends in `/` marks a folder of the console.
        if gone || key.is_empty() || key.ends_with('/') {
            return Ok(());
        }
        let bucket = get(Column::Bucket).unwrap_or(self.bucket);
        let size = get(Column::Size).and_then(|s| s.parse().ok());
        let listed = Listed::new(size, get(Column::Etag).unwrap_or_default());
        let found = file(&format!("s3://{bucket}/{key}"), self.args)?;
        take(FoundSource { listed: Some(listed), ..found })
    }

    fn csv(&self, at: &Location, schema: &str, take: Take<'_>) -> Result<()> {
        let columns: Vec<Option<Column>> = schema.split(',').map(Column::named).collect();
        if !columns.contains(&Some(Column::Key)) {
            return Err(Error::corrupt("the inventory has no column Key"));
        }
        let (mut lines, mut line) = (text(at)?, Vec::new());
        while read_line(&mut lines, b'\n', &mut line)? {
            let cells = cells(&String::from_utf8_lossy(&line));
            if cells.len() == 1 && cells[0].is_empty() {
                continue;
            }
            if cells.len() != columns.len() {
                let (cells, columns) = (cells.len(), columns.len());
                return Err(Error::corrupt(format!(
                    "a row has {cells} cells, the inventory has {columns} columns"
                )));
            }
            let row: Vec<(Column, Option<String>)> = columns
                .iter()
                .zip(cells)
                .filter_map(|(column, cell)| {
                    let cell = if *column == Some(Column::Key) { unescaped(&cell) } else { cell };
                    Some(((*column)?, Some(cell).filter(|c| !c.is_empty())))
                })
                .collect();
            self.give(&row, take)?;
        }
        Ok(())
    }

    fn parquet(&self, at: &Location, take: Take<'_>) -> Result<()> {
        let read = read_options(&self.args.read)?;
        let quiet = Console::SILENT;
        let opened = open(at, Some("parquet"), &read, quiet)?;
        let arrays = &opened.flow.plan().arrays;
        let (indices, columns): (Vec<usize>, Vec<Column>) = arrays
            .iter()
            .enumerate()
            .filter_map(|(i, a)| Some((i, Column::named(&a.name)?)))
            .unzip();
        if !columns.contains(&Column::Key) {
            return Err(Error::corrupt("the inventory has no column key"));
        }
        let flow = opened.flow.choose(&indices);
        let metas = flow.plan().arrays.clone();
        let mut waiting: Vec<VecDeque<Option<String>>> = vec![VecDeque::new(); columns.len()];
        let mut each = |chunk: Chunk| {
            let column = chunk.array;
            cells_of(&metas[column], &chunk, &mut waiting[column])?;
            while waiting.iter().all(|w| !w.is_empty()) {
                let row: Vec<(Column, Option<String>)> = columns
                    .iter()
                    .zip(&mut waiting)
                    .map(|(c, w)| (*c, w.pop_front().flatten()))
                    .collect();
                self.give(&row, take)?;
            }
            Ok(())
        };
        let settings = Settings::of(&read.resources);
        pipe::drain(flow, Order::RowBlocks, &mut each, &settings)?;
        Ok(())
    }
}

/// The values of a chunk as texts; none where they are null.
fn cells_of(meta: &ArrayMeta, chunk: &Chunk, cells: &mut VecDeque<Option<String>>) -> Result<()> {
    let mut push = |row: usize, text: String| {
        cells.push_back(Some(text).filter(|_| chunk.is_valid(row)));
    };
    match &chunk.values {
        Values::Var { offsets, values } => {
            for row in 0..chunk.rows as usize {
                let text = &values[offsets[row] as usize..offsets[row + 1] as usize];
                push(row, String::from_utf8_lossy(text).into_owned());
            }
        }
        Values::Fixed(values) if meta.dtype == Dtype::I64 => {
            for (row, value) in typed::<i64>(values).iter().enumerate() {
                push(row, value.to_string());
            }
        }
        Values::Fixed(values) if meta.dtype == Dtype::Bool => {
            for (row, value) in values.iter().enumerate() {
                push(row, (*value != 0).to_string());
            }
        }
        Values::Fixed(_) | Values::Nested(_) => {
            let kind = meta.type_name();
            return Err(
                Error::corrupt(format!("the inventory's column is {kind}")).with_array(&meta.name)
            );
        }
    }
    Ok(())
}

/// The cells of a line of CSV.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(std::mem::take(&mut cell)),
            c => cell.push(c),
        }
    }
    cells.push(cell);
    cells
}

/// A key as CSV has it: `%20` and `+` are blanks.
fn unescaped(key: &str) -> String {
    let bytes = key.as_bytes();
    let (mut plain, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let escape = |b: &[u8]| u8::from_str_radix(std::str::from_utf8(b).ok()?, 16).ok();
        match bytes[at] {
            b'%' if let Some(byte) = bytes.get(at + 1..at + 3).and_then(escape) => {
                plain.push(byte);
                at += 2;
            }
            b'+' => plain.push(b' '),
            byte => plain.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&plain).into_owned()
}
