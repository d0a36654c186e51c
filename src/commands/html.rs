//! Pages that stand alone: no network, no other file, at most 2 MB.

use std::io::Write as _;

use base64::Engine as _;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::cli::ReadArgs;
use crate::console::{Console, human_bytes};
use crate::error::{Context as _, Result};
use crate::open::output_location;
use crate::storage::{Existing, Location, Output};

mod chunks;
pub mod diff;
pub mod report;
mod treemap;

/// Most bytes of a page.
pub const MAX_BYTES: usize = 2_000_000;
/// What is left for the page around its data.
const FRAME_BYTES: usize = 100_000;

const STYLE: &str = include_str!("html/style.css");
const SCRIPT: &str = include_str!("html/script.js");

/// A page that is begun before anything is read: what stands in its way is told at once.
pub struct Page {
    at: Location,
    output: Box<dyn Output>,
}

impl Page {
    /// Begins it.
    ///
    /// # Errors
    /// Exists (exit 5) without `force`; no such directory.
    pub fn begin(path: &str, force: bool, args: &ReadArgs) -> Result<Page> {
        let at = output_location(path, args)?;
        let existing = if force { Existing::Replace } else { Existing::Error };
        let output = at.create_file(existing, false)?;
        Ok(Page { at, output })
    }
    /// Writes it whole.
    ///
    /// # Errors
    /// Disk full and the like.
    pub fn finish(mut self, page: &str, console: Console) -> Result<()> {
        let name = self.at.display();
        self.output.write_all(page.as_bytes()).at_file(&name)?;
        self.output.commit().at_file(&name)?;
        if !self.at.is_stream() {
            console.summary(&format!("{name}: {}", human_bytes(page.len() as u64)));
        }
        Ok(())
    }
}

/// The page around a body. With `data` the script runs, and no other: a name that would be one
/// does nothing even if it came into the page.
fn page(title: &str, data: Option<&Value>, body: &Markup) -> String {
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(SCRIPT.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'"
    );
    // What would end the element is written as JSON's escape.
    let data = data.map(|data| data.to_string().replace('<', "\\u003c"));
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content=(concat!("npk ", env!("CARGO_PKG_VERSION")));
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (body)
                @if let Some(data) = data {
                    script type="application/json" id="data" { (PreEscaped(data)) }
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        }
    };
    page.into_string()
}

/// A long name's beginning.
fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_string(),
    }
}
