//! Outputs that exist: refused, left alone where they are whole, or read again.

use super::Conversion;
use super::context::ConvertContext;
use crate::cli::IfExists;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Format, Quote, ReadOptions, TextOptions};
use crate::open::{damaged, input_location, open};
use crate::storage::{self, Location};

/// How an output is read again: `--group`, the lines to skip, quotes and blanks were about the
/// source.
pub(crate) fn rereading(job: &ConvertContext<'_>) -> ReadOptions {
    let text = TextOptions {
        skip_rows: 0,
        max_rows: None,
        quote: Quote::Usual,
        trim: false,
        ..job.write.text.clone()
    };
    ReadOptions { text, group: None, ..job.read.clone() }
}

pub(crate) fn same_place(a: &str, b: &str) -> bool {
    let real = |p: &str| std::fs::canonicalize(p).ok();
    a == b && a != "-" || real(a).is_some_and(|x| real(b) == Some(x))
}

/// Whether all that is there is what a run that was killed has left. Where nothing can be listed,
/// nobody knows.
fn is_unfinished(dst: &Location) -> bool {
    dst.as_remote().is_some_and(|(backend, key)| backend.is_unfinished(key).unwrap_or(false))
}

/// Whether a whole output is there. On object storage shares of one, or what a run has left that
/// was killed, are none.
///
/// # Errors
/// What cannot be looked at.
pub(crate) fn is_there(dst: &Location) -> Result<bool> {
    if !dst.is_remote() || !matches!(dst.kind()?, storage::EntryKind::Dir) {
        return dst.exists();
    }
    for marker in storage::STORE_MARKERS {
        if dst.join(marker).exists()? {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(crate) fn existing_error(dst: &Location, format: &dyn Format) -> Result<()> {
    if !dst.exists()? || is_unfinished(dst) {
        return Ok(());
    }
    let ways = if format.spec().writes.is_some_and(|w| w.can_append) {
        "skip|update|merge"
    } else {
        "skip|update"
    };
    let hint = format!("use --force to replace it, or --if-exists {ways}");
    Err(Error::exists("the output exists").file(dst.display()).hint(hint))
}

/// Should this output be left alone?
pub(crate) fn skip(
    job: &ConvertContext<'_>,
    unit: &Conversion,
    dst: &Location,
) -> Result<Option<&'static str>> {
    if !matches!(job.if_exists, IfExists::Skip | IfExists::Update)
        || dst.kind()? == storage::EntryKind::Missing
    {
        return Ok(None);
    }
    match job.if_exists {
        IfExists::Skip => match whole(job, dst) {
            Err(e) if e.kind() == ErrorKind::Exists && is_unfinished(dst) => Ok(None),
            whole => whole.map(|()| Some("it exists")),
        },
        _ => {
            let made = modified(dst)?;
            for source in &unit.sources {
                let at = input_location(source, &job.args.read)?;
                match (modified(&at)?, made) {
                    (Some(source), Some(made)) if source <= made => {}
                    _ => return Ok(None),
                }
            }
            whole(job, dst)?;
            Ok(Some("it is not older than its source"))
        }
    }
}

/// An existing output counts only if it is whole: its headers open, and its files are there in
/// full.
fn whole(job: &ConvertContext<'_>, dst: &Location) -> Result<()> {
    let opened = open(dst, job.args.to.as_deref(), &rereading(job), job.console);
    let damage = match &opened {
        Ok(opened) => Error::all(damaged(opened.flow.plan().arrays.iter(), dst)).err(),
        Err(_) => None,
    };
    match opened.err().or(damage) {
        None => Ok(()),
        Some(e) if e.kind() == ErrorKind::Remote => Err(e),
        Some(e) => {
            let error = Error::exists("the output exists but is damaged or incomplete")
                .file(dst.display())
                .because(e);
            Err(error.hint(
                "use --force instead of --skip-existing, --update or --if-exists to replace it",
            ))
        }
    }
}

fn modified(at: &Location) -> Result<Option<std::time::SystemTime>> {
    match at.kind()? {
        storage::EntryKind::File { modified, .. } => Ok(modified),
        storage::EntryKind::Dir => Ok(at
            .local_path()
            .and_then(|p| std::fs::metadata(p).ok())
            .and_then(|m| m.modified().ok())),
        _ => Ok(None),
    }
}
