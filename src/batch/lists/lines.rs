//! What lists are made of: lines, and the files that they name.

use std::io::{BufRead, BufReader, Read};

use crate::batch::found::FoundSource;
use crate::cli::ConvertArgs;
use crate::codec::compressed::Coding;
use crate::error::{Context, Error, Result};
use crate::open::known_location;
use crate::storage::Location;

pub(super) type Take<'a> = &'a mut dyn FnMut(FoundSource) -> Result<()>;

/// The bytes of a list, unpacked.
pub(super) fn text(at: &Location) -> Result<BufReader<Box<dyn Read + Send>>> {
    let read = || match Coding::of(&at.head(64)?) {
        Some(coding) => coding.decoder(at.stream()?),
        None => at.stream(),
    };
    Ok(BufReader::with_capacity(1 << 16, read().at_file(&at.display())?))
}

/// A name longer than this is none.
const MAX_LINE_BYTES: u64 = 1 << 16;

/// The next line without its end; none at the end of the list.
pub(super) fn read_line(from: &mut impl BufRead, end: u8, line: &mut Vec<u8>) -> Result<bool> {
    line.clear();
    let mut limited = from.by_ref().take(MAX_LINE_BYTES);
    let read = limited.read_until(end, line).map_err(Error::reading)?;
    if read as u64 == MAX_LINE_BYTES {
        return Err(Error::refused(format!(
            "this is not a list of names: a line has more than {MAX_LINE_BYTES} bytes"
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

/// A file that is in a list.
pub(super) fn file(name: &str, args: &ConvertArgs) -> Result<FoundSource> {
    Ok(FoundSource::new(name, &folders(name, args)?))
}

/// With `-R`, the folders of a name in a list, which the output keeps: all of a path, or of a key.
pub(super) fn folders(name: &str, args: &ConvertArgs) -> Result<String> {
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
