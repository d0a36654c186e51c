//! Lists of sources, `--files-from`: names one per line, or an S3 Inventory.
//!
//! A line is a name, or a name, a tab and the object's size, or those, a tab and its ETag. Names in
//! a list with `-0` are taken as they are. The manifest of an inventory names its data files, CSV
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html>) or
//! Parquet. Sources are handed on as they are read: a list may hold millions.

use super::found::{FoundSource, Listed};
use super::inputs::expand;
use crate::cli::ConvertArgs;
use crate::detect;
use crate::error::{Context, Result};
use crate::open::input_location;

mod inventory;
mod lines;

use lines::{Take, file, folders, read_line, text};

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
