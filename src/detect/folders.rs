//! Folders that npk does not read as a whole: tables whose log says which rows of their files
//! count, and checkpoints in a layout of their own.
//!
//! | folder | what shows it |
//! |---|---|
//! | Delta table | `_delta_log/` |
//! | Iceberg table | `metadata/v1.metadata.json`, `metadata/00000-….metadata.json` and the like |
//! | Hudi table | `.hoodie/` |
//! | distributed checkpoint of PyTorch without its `.metadata` | `*.distcp` |
//! | TensorFlow SavedModel, checkpoint | `saved_model.pb`; `checkpoint` and `*.index` |

use std::collections::HashMap;

use super::names::TENSORFLOW_HINT;
use super::signatures::refused;
use crate::error::Error;
use crate::storage::{Entry, EntryKind, Location};

/// A table that keeps a log beside its Parquet files. Rows that the log has removed are still in
/// the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum TableLog {
    /// Delta Lake.
    Delta,
    /// Apache Iceberg.
    Iceberg,
    /// Apache Hudi.
    Hudi,
}

/// Folders above a file that may be the table's: partitions are no deeper.
const MAX_LEVELS: usize = 8;

impl TableLog {
    /// All of them.
    const ALL: [TableLog; 3] = [TableLog::Delta, TableLog::Iceberg, TableLog::Hudi];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            TableLog::Delta => "Delta",
            TableLog::Iceberg => "Iceberg",
            TableLog::Hudi => "Hudi",
        }
    }
    /// The folder of its log.
    pub fn log(self) -> &'static str {
        match self {
            TableLog::Delta => "_delta_log",
            TableLog::Iceberg => "metadata",
            TableLog::Hudi => ".hoodie",
        }
    }
    /// Folders in the table that hold no rows of it: the log, and what changed from one version to
    /// the next.
    pub fn is_aside(self, folder: &str) -> bool {
        folder == self.log() || self == TableLog::Delta && folder == "_change_data"
    }
    /// The refusal of its files.
    pub fn error(self, table: &str) -> Error {
        let (name, log) = (self.name(), self.log());
        let text = format!(
            "this is {} {name} table: its log, {log}, says which rows of its Parquet files count",
            self.article()
        );
        let error = Error::refused(text).file(table);
        let way = match self {
            TableLog::Delta => "deltalake.DeltaTable(FOLDER).to_pyarrow_table()",
            TableLog::Iceberg => "pyiceberg's table.scan().to_arrow()",
            TableLog::Hudi => {
                "hudi's HudiTableBuilder.from_base_uri(FOLDER).build().read_snapshot()"
            }
        };
        error.hint(format!(
            "save what Python reads with {way} as Parquet; npk convert --ignore-table-log takes the files as they are, with removed rows"
        ))
    }
    /// The note on one of its files.
    pub fn note(self, table: &str) -> String {
        format!(
            "it belongs to the {} table {table}, whose log ({}) is not read: rows that the table has removed may be in it",
            self.name(),
            self.log()
        )
    }
    fn article(self) -> &'static str {
        if self == TableLog::Iceberg { "an" } else { "a" }
    }
    /// Whether `folder` holds the log.
    fn is_in(self, folder: &Location) -> bool {
        let log = folder.join(self.log());
        matches!(log.kind(), Ok(EntryKind::Dir)) && (self != TableLog::Iceberg || is_iceberg(&log))
    }
}

/// Whether this is the folder of Iceberg's metadata: other programs have folders of that name.
fn is_iceberg(log: &Location) -> bool {
    let is_version = |name: &str| {
        let version =
            name.strip_suffix(".metadata.json").or_else(|| name.strip_suffix(".gz.metadata.json"));
        version.is_some_and(|v| v.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit()))
    };
    log.list().is_ok_and(|entries| entries.iter().any(|e| !e.is_dir && is_version(&e.name)))
}

/// The table that this folder is, by its entries.
pub fn table_in(folder: &Location, entries: &[Entry]) -> Option<TableLog> {
    let has = |log: &str| entries.iter().any(|e| e.is_dir && e.name == log);
    TableLog::ALL
        .into_iter()
        .find(|t| has(t.log()) && (*t != TableLog::Iceberg || is_iceberg(&folder.join(t.log()))))
}

/// Finds the tables that files belong to; asks once for each folder.
#[derive(Default)]
pub struct Tables {
    known: HashMap<String, Option<TableLog>>,
}

impl Tables {
    /// The table that the folder is, or is in, and where that one is.
    pub fn around(&mut self, folder: &Location) -> Option<(TableLog, String)> {
        let mut folder = match folder.local_path() {
            // A name alone says nothing of the folders above it.
            Some(path) => Location::local(std::fs::canonicalize(path).ok()?),
            None => folder.clone(),
        };
        for _ in 0..MAX_LEVELS {
            let shown = folder.display();
            let found = self
                .known
                .entry(shown.clone())
                .or_insert_with(|| TableLog::ALL.into_iter().find(|t| t.is_in(&folder)));
            if let Some(found) = found {
                return Some((*found, from_here(&folder)));
            }
            // Far away every question is a request: only the folders of partitions are left
            // upwards.
            let name = folder.file_name();
            let partition = name.contains('=') || name == "data";
            let parent = folder.parent();
            if folder.is_remote() && !partition || parent.display() == shown {
                return None;
            }
            folder = parent;
        }
        None
    }
}

/// The folder's path as one would write it in the working directory.
fn from_here(folder: &Location) -> String {
    let here = std::env::current_dir().ok().and_then(|here| here.canonicalize().ok());
    match folder.local_path().zip(here).and_then(|(path, here)| path.strip_prefix(here).ok()) {
        Some(below) if below.as_os_str().is_empty() => ".".to_string(),
        Some(below) => below.display().to_string(),
        None => folder.display(),
    }
}

/// The refusal of a folder that is known. Quiet about what cannot be listed.
pub(super) fn find(folder: &Location) -> Option<Error> {
    let entries = folder.list().ok()?;
    if let Some(table) = table_in(folder, &entries) {
        return Some(table.error(&folder.display()));
    }
    let file = |fits: &dyn Fn(&str) -> bool| entries.iter().any(|e| !e.is_dir && fits(&e.name));
    if file(&|n| n.ends_with(".distcp")) {
        let error = Error::missing(
            "this is a distributed checkpoint of PyTorch without its .metadata, which says what is in its files",
        );
        return Some(error.hint("fetch its .metadata, too"));
    }
    if file(&|n| n == "saved_model.pb") {
        return Some(refused("a TensorFlow SavedModel", TENSORFLOW_HINT));
    }
    if file(&|n| n == "checkpoint") && file(&|n| n.ends_with(".index")) {
        return Some(refused("a folder of TensorFlow checkpoints", TENSORFLOW_HINT));
    }
    None
}
