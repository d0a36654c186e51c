//! Which format is this? The first bytes, then the extension; or an explained refusal.

use crate::error::{Context, Error, Result};
use crate::format::{Format, Head, Sniff};
use crate::formats::{self, FORMATS};
use crate::location::{Kind, Location};

/// A recognised input.
pub struct Detected {
    /// Its format.
    pub format: &'static dyn Format,
    /// A warning where bytes and extension disagree.
    pub warning: Option<String>,
}

/// The format called `name`.
///
/// # Errors
/// Usage, with near names.
pub fn named(name: &str) -> Result<&'static dyn Format> {
    let wanted = match name.to_ascii_lowercase().as_str() {
        "torch" | "pytorch" => "pt".to_string(),
        other => other.to_string(),
    };
    // An extension names its format, too: `arrow`, `h5`, `tsv`.
    let by_extension = || FORMATS.iter().copied().find(|f| f.extensions().contains(&wanted.as_str()));
    formats::by_name(&wanted).or_else(by_extension).ok_or_else(|| {
        let names: Vec<&str> = FORMATS.iter().map(|f| f.name()).collect();
        let error = Error::usage(format!("there is no format '{name}'"));
        match crate::adapt::names::nearest(&wanted, names.iter().copied()).first() {
            Some(near) => error.hint(format!("did you mean {near}? The formats: {}", names.join(", "))),
            None => error.hint(format!("the formats: {}", names.join(", "))),
        }
    })
}

/// The delimiter that goes with the format as `--from` or `--to` name it: `tsv` is CSV with tabs.
pub fn delimiter_named(name: Option<&str>) -> Option<u8> {
    name.filter(|name| name.eq_ignore_ascii_case("tsv")).map(|_| b'\t')
}

/// The format of a file name, by its longest known ending.
pub fn by_extension(file_name: &str) -> Option<&'static dyn Format> {
    let lower = file_name.to_ascii_lowercase();
    let mut best: Option<(usize, &'static dyn Format)> = None;
    for format in FORMATS.iter().copied() {
        for extension in format.extensions() {
            let fits = lower.strip_suffix(extension).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1);
            if fits && best.is_none_or(|(length, _)| extension.len() > length) {
                best = Some((extension.len(), format));
            }
        }
    }
    best.map(|(_, format)| format)
}

/// The format of an input.
///
/// # Errors
/// Missing (exit 3) where nothing is there or nothing fits; refused (exit 4) for formats known by name only.
pub fn input(at: &Location) -> Result<Detected> {
    look(at).at_file(&at.display())
}

fn look(at: &Location) -> Result<Detected> {
    let kind = at.kind()?;
    let by_name = by_extension(&at.file_name());
    let blob = match kind {
        Kind::Missing => return Err(absent(at)),
        Kind::File { .. } => Some(at.blob()?),
        Kind::Dir | Kind::Stream => None,
    };
    let bytes = match &blob {
        Some(blob) => blob.read_vec(0, blob.len().min(4096))?,
        None if kind == Kind::Stream => at.head(4096)?,
        None => Vec::new(),
    };
    let head = Head { location: at, bytes: &bytes, blob: blob.as_ref() };
    let mut maybe: Option<&'static dyn Format> = None;
    // The one that the name stands for is asked first: mostly it is, and looking into an archive costs time.
    let others = FORMATS.iter().copied().filter(|f| by_name.is_none_or(|n| n.name() != f.name()));
    for format in by_name.into_iter().chain(others) {
        match format.sniff(&head)? {
            Sniff::Yes => {
                let warning = by_name
                    .filter(|named| named.name() != format.name())
                    .map(|named| format!("the name says {}, the bytes say {}: read as {}", named.name(), format.name(), format.name()));
                return Ok(Detected { format, warning });
            }
            Sniff::Maybe if maybe.is_none() || by_name.is_some_and(|n| n.name() == format.name()) => maybe = Some(format),
            _ => {}
        }
    }
    if let Some(error) = known_stranger(&bytes, &at.file_name()) {
        return Err(error);
    }
    // Text formats have no signature: their name must say so, and nothing may speak against it.
    if let Some(named) = by_name
        && maybe.is_some_and(|m| m.name() == named.name())
    {
        return Ok(Detected { format: named, warning: None });
    }
    if kind == Kind::Dir {
        return Err(Error::missing("this directory is not a store that npk knows: it has no metadata.npkm, zarr.json or .zgroup")
            .hint("convert the files in it with -R and --to, or join them with --concat"));
    }
    if bytes.is_empty() && by_name.is_none() {
        return Err(Error::missing("the file is empty"));
    }
    match by_name {
        // The name promises a format that the bytes do not keep: its reader says best what is wrong.
        Some(format) => Ok(Detected { format, warning: None }),
        None => Err(Error::missing("the format is not recognised").hint("give it with --from; `npk formats` lists them")),
    }
}

/// Files often found in place of data, and formats known by name only.
pub fn known_stranger(head: &[u8], file_name: &str) -> Option<Error> {
    let text = String::from_utf8_lossy(&head[..head.len().min(512)]).to_ascii_lowercase();
    let trimmed = text.trim_start_matches(['\u{feff}', ' ', '\n', '\r', '\t']);
    let lower = file_name.to_ascii_lowercase();
    Some(if head.starts_with(b"version https://git-lfs") {
        let size = text.lines().find_map(|l| l.strip_prefix("size ")).unwrap_or("?").to_string();
        Error::missing(format!("this is a Git LFS pointer to a file of {size} bytes, not the file itself")).hint("git lfs pull")
    } else if trimmed.starts_with("<!doctype") || trimmed.starts_with("<html") {
        Error::missing("this is an HTML page, not data").hint("the download led to a web page: check the URL and the login")
    } else if head.starts_with(b"<?xml") {
        Error::missing("this is an XML document, not data").hint("it may be an error message of the storage service: open it and see")
    } else if head.starts_with(b"CDF\x01") || head.starts_with(b"CDF\x02") || head.starts_with(b"CDF\x05") {
        Error::refused("netCDF-3 is not supported").hint("convert it to netCDF-4, which is HDF5: nccopy -k nc4 IN OUT")
    } else if lower.ends_with(".ckpt.index") || lower.contains(".ckpt.data-") {
        Error::refused("TensorFlow checkpoints are not supported")
    } else if head.starts_with(b"GGUF") {
        Error::refused("GGUF is not supported")
    } else if head.starts_with(b"FEA1") {
        Error::refused("Feather version 1 is not supported")
            .hint("rewrite it as version 2 with pyarrow.feather.read_table and write_feather")
    } else if head.starts_with(b"MATLAB 5.0") {
        Error::refused("MATLAB files before version 7.3 are not supported").hint("save with -v7.3, which is HDF5")
    } else {
        return None;
    })
}

/// The format of an output: `--to`, else its name.
///
/// # Errors
/// Usage.
pub fn output(at: &Location, to: Option<&str>) -> Result<&'static dyn Format> {
    if let Some(name) = to {
        return named(name);
    }
    if at.is_stream() {
        return Err(Error::usage("an output to stdout needs --to FORMAT"));
    }
    by_extension(&at.file_name()).ok_or_else(|| {
        Error::usage("the output's name does not show its format").hint("give it an ending such as .npk, or --to FORMAT").file(at.display())
    })
}

/// The error for an input that does not exist: a dangling link, or a name close to another.
pub fn absent(at: &Location) -> Error {
    let target = at.local_path().and_then(|path| std::fs::read_link(path).ok());
    if let Some(target) = target {
        return Error::missing(format!("it is a symbolic link to {}, which does not exist", target.display()));
    }
    let error = Error::missing("no such file or directory");
    match near_file(at) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error,
    }
}

fn near_file(at: &Location) -> Option<String> {
    at.local_path()?;
    let entries = at.parent().list().ok()?;
    let name = at.file_name();
    crate::adapt::names::nearest(&name, entries.iter().map(|e| e.name.as_str())).first().map(|n| n.to_string())
}
