//! Which format is this? The first bytes, then the extension; or an explained refusal.
//!
//! A file that is compressed as a whole is looked into ([`compressed`]); what is known and not read
//! is in the tables of
//! [`signatures`] (by bytes), `names`, `archives` (zip) and [`folders`]; `text` tells how text without a name is read.

use std::sync::Arc;

use crate::codec::compressed::{self, Coding};
use crate::codec::npy_header;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::{Format, Head, Sniff, foreign_file};
use crate::formats::{self, FORMATS};
use crate::storage::{Blob, EntryKind, Location, parts};

mod archives;
pub(crate) mod folders;
mod names;
pub mod signatures;
mod text;

/// What is looked at of a file to recognise it.
const HEAD_BYTES: u64 = 4096;

/// A recognised input.
pub struct Detected {
    /// Its format.
    pub format: &'static dyn Format,
    /// A warning where bytes and extension disagree.
    pub warning: Option<String>,
    /// Where to open it: what is inside of a compressed file, else the input itself.
    pub at: Location,
    /// How the file is compressed, where that is not the format's own affair.
    pub coding: Option<Coding>,
    /// The bytes of the input, which is opened once as long as they are held.
    pub blob: Option<Arc<dyn Blob>>,
}

/// The format called `name`. `numpy` is `npz` here: [`output`] and [`input_named`] know more.
///
/// # Errors
/// Usage, with near names.
pub fn named(name: &str) -> Result<&'static dyn Format> {
    let wanted = match name.to_ascii_lowercase().as_str() {
        "torch" | "pytorch" => "pt".to_string(),
        "numpy" => "npz".to_string(),
        other => other.to_string(),
    };
    // An extension names its format, too: `arrow`, `h5`, `tsv`.
    let by_extension =
        || FORMATS.iter().copied().find(|f| f.spec().extensions.contains(&wanted.as_str()));
    formats::by_name(&wanted).or_else(by_extension).ok_or_else(|| {
        let names: Vec<&str> = FORMATS.iter().map(|f| f.spec().name).collect();
        let error = Error::usage(format!("there is no format '{name}'"));
        match crate::resolve::names::nearest(&wanted, names.iter().copied()).first() {
            Some(near) => {
                error.hint(format!("did you mean {near}? The formats: {}", names.join(", ")))
            }
            None => error.hint(format!("the formats: {}", names.join(", "))),
        }
    })
}

fn is_numpy(name: &str) -> bool {
    name.eq_ignore_ascii_case("numpy")
}

/// An input whose format was named. `numpy` is npy or npz, as the bytes say.
///
/// # Errors
/// Usage: no such format. Missing: no such file.
pub fn input_named(name: &str, at: &Location) -> Result<Detected> {
    let format = named(name)?;
    if at.kind().at_file(&at.display())? == EntryKind::Missing {
        return Err(absent(at).file(at.display()));
    }
    let (at, coding) = match coding_of(at, Some(format))? {
        Some(coding) => (compressed::unpacked(at, coding)?, Some(coding)),
        None => (at.clone(), None),
    };
    let npy = is_numpy(name) && at.head(HEAD_BYTES as usize)?.starts_with(npy_header::MAGIC);
    let format = if npy { named("npy")? } else { format };
    Ok(Detected { format, warning: None, at, coding, blob: None })
}

/// Where to read an input from that will be read more than once: a stream is spooled, a compressed
/// file unpacked.
///
/// # Errors
/// As for reading it.
pub fn rereadable(at: Location, from: Option<&str>) -> Result<Location> {
    let format = from.map(named).transpose()?;
    let at = match coding_of(&at, format)? {
        Some(coding) => compressed::unpacked(&at, coding)?,
        None => at,
    };
    if at.is_stream() {
        at.blob()?;
    }
    Ok(at)
}

/// How a file is compressed, where that is not its format's own affair: of text tables it is.
/// `format`: the one that was named; without it the file's name speaks.
fn coding_of(at: &Location, format: Option<&'static dyn Format>) -> Result<Option<Coding>> {
    let format = format.or_else(|| by_extension(&at.file_name()));
    if at.is_derived()
        || format.is_some_and(unpacks_itself)
        || !matches!(at.kind()?, EntryKind::File { .. } | EntryKind::Stream)
    {
        return Ok(None);
    }
    Ok(Coding::of(&at.head(HEAD_BYTES as usize)?))
}

fn unpacks_itself(format: &'static dyn Format) -> bool {
    format.spec().extensions.iter().any(|e| e.ends_with(".gz"))
}

/// The name without the ending of a compression, where the rest is the name of a format that is
/// read when it is compressed.
pub fn compressed_name(file_name: &str) -> Option<(&str, Coding, &'static dyn Format)> {
    if by_extension(file_name).is_some() {
        return None;
    }
    Coding::ALL.into_iter().find_map(|coding| {
        let inner = coding.strip(file_name)?;
        let format = by_extension(inner).filter(|f| !f.spec().is_directory)?;
        Some((inner, coding, format))
    })
}

/// The delimiter that goes with the format as `--from` or `--to` name it: `tsv` is CSV with tabs.
pub fn delimiter_named(name: Option<&str>) -> Option<u8> {
    name.filter(|name| name.eq_ignore_ascii_case("tsv")).map(|_| b'\t')
}

/// The format of a file name, by its longest known ending. Of several formats with one ending (`.nc`)
/// the first in the registry, which is the one that is written.
pub fn by_extension(file_name: &str) -> Option<&'static dyn Format> {
    let lower = file_name.to_ascii_lowercase();
    let mut best: Option<(usize, &'static dyn Format)> = None;
    for format in FORMATS.iter().copied() {
        let length = ending(format, &lower);
        if length > best.map_or(0, |(length, _)| length) {
            best = Some((length, format));
        }
    }
    best.map(|(_, format)| format)
}

/// The length of the longest ending of a format that a name, in lower case, has; 0 for none.
fn ending(format: &dyn Format, name: &str) -> usize {
    let fits = |extension: &&&str| {
        name.strip_suffix(**extension).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
    };
    format.spec().extensions.iter().filter(fits).map(|e| e.len()).max().unwrap_or(0)
}

/// Whether a file called `x.npy.gz` and the like is one by its bytes; also where they are damaged,
/// which its reader tells.
pub fn is_compressed_file(at: &Location) -> bool {
    let Some((_, coding, format)) = compressed_name(&at.file_name()) else { return false };
    let look = || -> Result<bool> {
        let inner = compressed::unpacked(at, coding)?;
        let bytes = inner.head(HEAD_BYTES as usize)?;
        // The directory of a zip archive, which tells more, is at its end.
        Ok(bytes.starts_with(b"PK\x03\x04")
            || format.sniff(&Head { location: &inner, bytes: &bytes, blob: None })? != Sniff::No)
    };
    look().unwrap_or(true)
}

/// The format of an input.
///
/// # Errors
/// Missing (exit 3) where nothing is there or nothing fits; refused (exit 4) for what is known and
/// not supported.
pub fn input(at: &Location) -> Result<Detected> {
    look(at).at_file(&at.display())
}

/// What is wrong with the content of a compressed file.
fn inside(coding: Coding, error: Error) -> Error {
    // What is recognised to be compressed, and not more, is not supported.
    let kind = if error.message() == NOT_RECOGNISED { ErrorKind::Refused } else { error.kind() };
    if !matches!(kind, ErrorKind::Refused | ErrorKind::Missing) {
        return error;
    }
    let new = Error::new(
        kind,
        format!("it is compressed with {}, and inside: {}", coding.name(), error.message()),
    );
    match error.hint_text() {
        Some(hint) => new.hint(hint),
        None => new,
    }
}

const NOT_RECOGNISED: &str = "the format is not recognised";

fn look(at: &Location) -> Result<Detected> {
    let kind = at.kind()?;
    let by_name = by_extension(&at.file_name());
    let mut blob = match kind {
        EntryKind::Missing => return Err(absent(at)),
        EntryKind::File { .. } => Some(at.blob()?),
        EntryKind::Dir | EntryKind::Stream => None,
    };
    let at = &blob.as_ref().map_or_else(|| at.clone(), |blob| at.sharing(blob));
    let bytes = match &blob {
        Some(blob) => blob.read_vec(0, blob.len().min(HEAD_BYTES))?,
        None if kind == EntryKind::Stream => at.head(HEAD_BYTES as usize)?,
        None => Vec::new(),
    };
    if let Some(error) = names::first(&at.file_name()) {
        return Err(error);
    }
    let packed = Coding::of(&bytes).filter(|_| !by_name.is_some_and(unpacks_itself));
    if let Some(coding) = packed {
        return look_inside(at, coding);
    }
    let looked_at = &at.remembering();
    let (mut found, mut maybe) = sniff(looked_at, &bytes, blob.as_ref(), by_name)?;
    // The directory of a zip archive is at its end.
    if found.is_none() && kind == EntryKind::Stream && bytes.starts_with(b"PK\x03\x04") {
        blob = Some(at.blob()?);
        (found, maybe) = sniff(at, &bytes, blob.as_ref(), by_name)?;
    }
    let detected = |format, warning| Detected {
        format,
        warning,
        at: at.clone(),
        coding: None,
        blob: blob.clone(),
    };
    if let Some(format) = found {
        return Ok(detected(format, surprise(at, format, by_name, &bytes, blob.as_ref())?));
    }
    if let Some(error) = foreign_file(&bytes, blob.as_ref()) {
        return Err(error);
    }
    // Text formats have no signature: their name must say so, and nothing may speak against it.
    if let Some(named) = by_name
        && maybe.is_some_and(|m| m.spec().name == named.spec().name)
    {
        return Ok(detected(named, None));
    }
    if kind == EntryKind::Dir {
        if at.is_remote() && parts::is_begun(at) {
            return Err(unfinished(at));
        }
        return Err(folders::find(looked_at).unwrap_or_else(|| {
            Error::missing("this directory is not a store that npk knows: it has no metadata.npkm, zarr.json or .zgroup")
                .hint("convert the files in it with -R and --to, or join them with --concat")
        }));
    }
    // The name promises a format that the bytes do not keep: its reader says best what is wrong.
    if let Some(format) = by_name {
        return Ok(detected(format, None));
    }
    if bytes.is_empty() {
        return Err(Error::missing("the file is empty"));
    }
    let whole = (bytes.len() as u64) < HEAD_BYTES;
    let error = names::last(&at.file_name()).or_else(|| text::find(&bytes, whole));
    Err(error.unwrap_or_else(|| {
        Error::missing(NOT_RECOGNISED).hint("give it with --from; `npk formats` lists them")
    }))
}

/// The warning where the name of a file says another format than its bytes.
///
/// # Errors
/// Refused: an archive of another kind, of which the name alone said that it is of this format.
fn surprise(
    at: &Location,
    format: &dyn Format,
    by_name: Option<&'static dyn Format>,
    bytes: &[u8],
    blob: Option<&Arc<dyn Blob>>,
) -> Result<Option<String>> {
    let shown = || format.sniff(&Head { location: at, bytes, blob: None });
    if let Some(blob) = blob.filter(|_| bytes.starts_with(b"PK"))
        && shown()? != Sniff::Yes
        && let Some(error) = archives::known(bytes, blob)
    {
        return Err(error);
    }
    let (says, is) = (by_name.map_or(format.spec().name, |f| f.spec().name), format.spec().name);
    Ok((says != is && ending(format, &at.file_name().to_ascii_lowercase()) == 0)
        .then(|| format!("the name says {says}, the bytes say {is}: read as {is}")))
}

/// What a compressed file is when it is unpacked.
fn look_inside(at: &Location, coding: Coding) -> Result<Detected> {
    if at.is_derived() {
        let error = Error::refused(format!(
            "this is {} again: a file that is compressed twice is not read",
            coding.name()
        ));
        return Err(error.hint("unpack it once, then convert that"));
    }
    let found = look(&compressed::unpacked(at, coding)?).map_err(|e| inside(coding, e))?;
    Ok(Detected { coding: Some(coding), ..found })
}

/// The format whose signature is there; else one that may be, which is the name's own if that may
/// be.
type Sniffed = (Option<&'static dyn Format>, Option<&'static dyn Format>);

fn sniff(
    at: &Location,
    bytes: &[u8],
    blob: Option<&Arc<dyn Blob>>,
    by_name: Option<&'static dyn Format>,
) -> Result<Sniffed> {
    let head = Head { location: at, bytes, blob };
    let mut maybe: Option<&'static dyn Format> = None;
    // The one that the name stands for is asked first: mostly it is, and looking into an archive
    // costs time.
    let others =
        FORMATS.iter().copied().filter(|f| by_name.is_none_or(|n| n.spec().name != f.spec().name));
    for format in by_name.into_iter().chain(others) {
        match format.sniff(&head)? {
            Sniff::Yes => return Ok((Some(format), maybe)),
            Sniff::Maybe
                if maybe.is_none()
                    || by_name.is_some_and(|n| n.spec().name == format.spec().name) =>
            {
                maybe = Some(format)
            }
            _ => {}
        }
    }
    Ok((None, maybe))
}

/// Files often found in place of data, and formats that are known and not read.
fn foreign_file(head: &[u8], blob: Option<&Arc<dyn Blob>>) -> Option<Error> {
    foreign_file::named(head)
        .or_else(|| signatures::find(head, text::is_readable(head), blob.map(|b| b.as_ref())))
        .or_else(|| blob.and_then(|blob| archives::find(head, blob)))
}

/// What a file is that its reader could not open, where that says more than what the reader misses:
/// a web page, a format that npk does not read. `head`: the first bytes of a stream.
pub fn explained(error: Error, format: &dyn Format, at: &Location, head: Option<Vec<u8>>) -> Error {
    if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Missing | ErrorKind::Refused) {
        return error;
    }
    let blob = if at.is_rereadable() { at.blob().ok() } else { None };
    let read = || blob.as_ref().and_then(|blob| blob.read_vec(0, blob.len().min(HEAD_BYTES)).ok());
    let Some(head) = head.or_else(read).filter(|head| !head.is_empty()) else { return error };
    let sniffed = format.sniff(&Head { location: at, bytes: &head, blob: blob.as_ref() });
    let better = match sniffed {
        // It is of this format, and damaged; but of an archive the name alone may have said so.
        Ok(Sniff::Yes) | Err(_) => blob.as_ref().and_then(|blob| archives::known(&head, blob)),
        Ok(_) => foreign_file(&head, blob.as_ref()),
    };
    better.unwrap_or(error)
}

/// The format of an output: `--to`, else its name.
///
/// # Errors
/// Usage; refused for names such as `x.npy.gz`.
pub fn output(at: &Location, to: Option<&str>) -> Result<&'static dyn Format> {
    let name = at.file_name();
    if !at.is_stream()
        && let Some((inner, coding, format)) = compressed_name(&name)
        && !to.is_some_and(|to| named(to).is_ok_and(unpacks_itself))
    {
        let (format, coding) = (format.spec().name, coding.name());
        let error = Error::refused(format!(
            "npk writes no {format} files that are compressed with {coding}"
        ))
        .file(at.display());
        return Err(error.hint(format!("write {inner}, then compress it with {coding}; or choose a format that compresses, with -c")));
    }
    if let Some(to) = to {
        let npy = is_numpy(to)
            && by_extension(&name).is_some_and(|f| f.spec().extensions.contains(&"npy"));
        return named(if npy { "npy" } else { to });
    }
    if at.is_stream() {
        return Err(Error::usage("an output to stdout needs --to FORMAT"));
    }
    by_extension(&name).ok_or_else(|| {
        Error::usage("the output's name does not show its format")
            .hint("give it an ending such as .npk, or --to FORMAT")
            .file(at.display())
    })
}

/// The error for an input that does not exist: a dangling link, or a name close to another.
pub fn absent(at: &Location) -> Error {
    let target = at.local_path().and_then(|path| std::fs::read_link(path).ok());
    if let Some(target) = target {
        return Error::missing(format!(
            "it is a symbolic link to {}, which does not exist",
            target.display()
        ));
    }
    if parts::is_begun(at) {
        return unfinished(at);
    }
    let error = Error::missing("no such file or directory");
    match near_file(at) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error,
    }
}

/// The error for an output that several processes are still writing.
fn unfinished(at: &Location) -> Error {
    Error::missing("it is written in shares, and not finished")
        .hint(format!("when all shares are done: npk convert SRC {} --finish", at.display()))
}

fn near_file(at: &Location) -> Option<String> {
    at.local_path()?;
    let entries = at.parent().list().ok()?;
    let name = at.file_name();
    crate::resolve::names::nearest(&name, entries.iter().map(|e| e.name.as_str()))
        .first()
        .map(|n| n.to_string())
}
