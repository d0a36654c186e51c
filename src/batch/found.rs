//! A source that was found, and what is known of it before it is opened.

use serde::{Deserialize, Serialize};

use crate::detect::folders::TableLog;
use crate::error::{Error, Result};
use crate::storage::{EntryKind, Location};

/// A source, and the folders below the argument that found it (`a/b/`).
pub(crate) struct FoundSource {
    pub(crate) path: String,
    pub(crate) below: String,
    /// Why it cannot be a source.
    pub(crate) problem: Option<Problem>,
    /// What a list says about it.
    pub(crate) listed: Option<Listed>,
}

/// Why a source that was found cannot be one.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Problem {
    /// Its name is not UTF-8: it cannot be opened by what `path` shows.
    NotUtf8,
    /// It is a link to a directory that it is in.
    Circle,
    /// A directory that cannot be read, and why.
    Unreadable(String),
    /// It belongs to this table (whose folder is named), and the table's log says which of its rows
    /// count.
    Table(TableLog, String),
}

impl Problem {
    /// The error for the source.
    pub(crate) fn error(&self, path: &str) -> Error {
        match self {
            Problem::NotUtf8 => Error::missing("its name is not UTF-8").file(path).hint(
                "rename it, or give its content on stdin: npk convert - DST --from FORMAT < FILE",
            ),
            Problem::Circle => Error::refused("it is a link to a directory that it is in")
                .file(path)
                .hint("remove the link, or name the files with a pattern"),
            Problem::Unreadable(why) => {
                Error::missing(format!("the directory cannot be read: {why}")).file(path)
            }
            Problem::Table(log, table) => log.error(table),
        }
    }
}

impl FoundSource {
    pub(crate) fn new(path: impl Into<String>, below: &str) -> FoundSource {
        FoundSource { path: path.into(), below: below.to_string(), problem: None, listed: None }
    }
    pub(crate) fn unnamed(path: impl Into<String>, below: &str) -> FoundSource {
        FoundSource { problem: Some(Problem::NotUtf8), ..FoundSource::new(path, below) }
    }
    /// A directory whose sources are not known.
    pub(super) fn folder(path: impl Into<String>, below: &str, problem: Problem) -> FoundSource {
        FoundSource { problem: Some(problem), ..FoundSource::new(path, below) }
    }
    pub(super) fn table(
        path: impl Into<String>,
        below: &str,
        log: TableLog,
        table: String,
    ) -> FoundSource {
        FoundSource { problem: Some(Problem::Table(log, table)), ..FoundSource::new(path, below) }
    }
    /// Whether it can be a source.
    pub(crate) fn check(&self) -> Result<()> {
        self.problem.as_ref().map_or(Ok(()), |p| Err(p.error(&self.path)))
    }
}

/// What a list says about a source: nothing has to be asked to know it, and a source that differs
/// is another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listed {
    /// Bytes.
    pub(crate) size: Option<u64>,
    /// Without quotes.
    pub(crate) etag: Option<String>,
}

impl Listed {
    /// `SIZE`, or `SIZE`, a tab and `ETAG`.
    pub(super) fn parse(columns: &str) -> Option<Listed> {
        let (size, etag) = columns.split_once('\t').map_or((columns, ""), |(s, e)| (s, e));
        let digits = !size.is_empty() && size.bytes().all(|b| b.is_ascii_digit());
        (digits && !etag.contains('\t')).then(|| Listed::new(size.parse().ok(), etag))
    }
    /// Compares what is there with the list; of a remote object later, when it is opened.
    ///
    /// # Errors
    /// Missing: it is another one.
    pub(crate) fn check(&self, at: &Location) -> Result<()> {
        if let Some((backend, key)) = at.as_remote() {
            backend.expect(key, self.size, self.etag.as_deref());
        }
        let (Some(_), Some(listed)) = (at.local_path(), self.size) else { return Ok(()) };
        match at.kind()? {
            EntryKind::File { len, .. } if len != listed => Err(Error::missing(format!(
                "this is not the file that was listed: its size is {len}, not {listed}"
            ))
            .hint("it was replaced since: make a new list")),
            _ => Ok(()),
        }
    }
    pub(crate) fn new(size: Option<u64>, etag: &str) -> Listed {
        let etag = etag.trim_matches('"');
        Listed { size, etag: (!etag.is_empty()).then(|| etag.to_string()) }
    }
}
