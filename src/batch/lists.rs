//! Lists of sources, `--files-from`: names one per line, or an S3 Inventory.
//!
//! A line is a name, or a name, a tab and the object's size, or those, a tab and its ETag. Names in
//! a list with `-0` are taken as they are. The manifest of an inventory names its data files, CSV
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html>) or
//! Parquet. Sources are handed on as they are read: a list may hold millions.

use std::io::{BufRead, BufReader, Read};

use super::found::{FoundSource, Listed};
use super::inputs::expand;
use crate::cli::ConvertArgs;
use crate::codec::compressed::Coding;
use crate::detect;
use crate::error::{Context, Error, Result};
use crate::open::{input_location, known_location};
use crate::storage::Location;

mod inventory;

type Take<'a> = &'a mut dyn FnMut(FoundSource) -> Result<()>;

/// Hands on the sources in a list.
///
/// # Errors
/// A list that cannot be read; those of `take`.
pub(crate) fn listed(list: &str, args: &ConvertArgs, take: Take<'_>) -> Result<()> {
    let at = input_location(list, &args.read)?;
    if at.file_name().ends_with("manifest.json") {
        return inventory::listed(&at, args, take).at_file(&at.display());
    }
    let (mut lines, end) = (text(&at)?, if args.null { 0 } else { b'\n' });
    let mut line = Vec::new();
    while read_line(&mut lines, end, &mut line).at_file(&at.display())? {
        match std::str::from_utf8(&line) {
            Ok("") => {}
            Ok(name) => named(name, args, take)?,
            Err(_) => take(FoundSource::unnamed(String::from_utf8_lossy(&line), ""))?,
        }
    }
    Ok(())
}

/// The bytes of a list, unpacked.
fn text(at: &Location) -> Result<BufReader<Box<dyn Read + Send>>> {
    let read = || match Coding::of(&at.head(64)?) {
        Some(coding) => coding.decoder(at.stream()?),
        None => at.stream(),
    };
    Ok(BufReader::with_capacity(1 << 16, read().at_file(&at.display())?))
}

/// A name longer than this is none.
const MAX_LINE_BYTES: u64 = 1 << 16;

/// The next line without its end; none at the end of the list.
fn read_line(from: &mut impl BufRead, end: u8, line: &mut Vec<u8>) -> Result<bool> {
    line.clear();
    let mut limited = from.by_ref().take(MAX_LINE_BYTES);
    let read = limited.read_until(end, line).map_err(Error::reading)?;
    if read as u64 == MAX_LINE_BYTES {
        return Err(Error::refused(format!(
            "this is no list of names: a line has more than {MAX_LINE_BYTES} bytes"
        )));
    }
    if line.last() == Some(&end) {
        line.pop();
        if end == b'\n' && line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    Ok(read > 0)
}

/// A line of a list.
fn named(line: &str, args: &ConvertArgs, take: Take<'_>) -> Result<()> {
    let (name, listed) = match line.split_once('\t').filter(|_| !args.null) {
        Some((name, columns)) => match Listed::parse(columns) {
            Some(listed) => (name, Some(listed)),
            None => (line, None),
        },
        None => (line, None),
    };
    // What the list knows, or has the name of a file, is not asked whether it is a directory.
    let is_file = listed.is_some() || name.contains("://") && detect::by_extension(name).is_some();
    if is_file && (listed.is_some() || !name.contains(['*', '?', '['])) {
        return take(FoundSource { listed, ..file(name, args)? });
    }
    for mut found in expand(name, args)? {
        if found.path == name && found.below.is_empty() {
            found.below = folders(name, args)?;
        }
        take(found)?;
    }
    Ok(())
}

/// A file that is in a list.
fn file(name: &str, args: &ConvertArgs) -> Result<FoundSource> {
    Ok(FoundSource::new(name, &folders(name, args)?))
}

/// With `-R`, the folders of a name in a list, which the output keeps: all of a path, or of a key.
fn folders(name: &str, args: &ConvertArgs) -> Result<String> {
    if !args.recursive {
        return Ok(String::new());
    }
    let at = known_location(name, &args.read)?;
    let path = match at.as_remote() {
        Some((_, key)) => key.to_string(),
        None => at.local_path().map(|p| p.display().to_string()).unwrap_or_default(),
    };
    let parts = path.trim_end_matches('/').rsplit_once('/').map_or("", |(folders, _)| folders);
    let parts: Vec<&str> = parts.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    if parts.contains(&"..") {
        return Err(Error::usage("with -R the output keeps the folders of a name, and .. is none")
            .file(name)
            .hint("list the names from the folder that they are below"));
    }
    Ok(parts.iter().map(|part| format!("{part}/")).collect())
}
