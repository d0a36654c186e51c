//! What `list` and `inspect` do with several inputs: each is looked at, even where others fail.

use crate::console::{self, Console};
use crate::error::{Error, ErrorKind, Result, guard};

/// What is told of an input: its JSON document, where that is asked for, and the damage that was
/// found.
pub type PathReport = (Option<String>, Vec<Error>);

/// Tells of each input by `one`; errors are reported, and the worst one is the exit code. Several
/// documents are one JSON array.
///
/// # Errors
/// Output that cannot be written. A reader that has gone away is the end, and no error.
pub fn each(
    paths: &[String],
    json: bool,
    console: Console,
    mut one: impl FnMut(&str) -> Result<PathReport>,
) -> Result<u8> {
    let (mut code, mut documents) = (0, Vec::new());
    for path in paths {
        let told = guard(|| one(path)).and_then(|(document, broken)| {
            documents.extend(document);
            Error::all(broken)
        });
        match told {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::BrokenPipe => return Ok(0),
            Err(e) => {
                console.error(&e);
                code = console::worst(code, &e);
            }
        }
    }
    if json {
        match documents.as_slice() {
            [document] if paths.len() == 1 => console::out(&format!("{document}\n"))?,
            [] if paths.len() == 1 => {}
            all => console::out(&format!("[\n{}\n]\n", all.join(",\n")))?,
        }
    }
    Ok(code)
}
