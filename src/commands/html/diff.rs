//! `npk diff --html`: what differs between two files, as a page.

use maud::{Markup, html};

use super::{FRAME_BYTES, MAX_BYTES, Page, page, shortened};
use crate::commands::diff::summary::{Figures, Summary};
use crate::compare::{Compared, Verdict, sentence};
use crate::console::{Console, visible};
use crate::error::Result;

/// What the page shows.
pub struct Difference<'a> {
    /// The first file.
    pub a: &'a str,
    /// The second one.
    pub b: &'a str,
    /// What was found out about every name.
    pub compared: &'a [Compared],
    /// The figures, where they were asked for.
    pub summary: Option<&'a Summary>,
    /// Whether nothing differs.
    pub equal: bool,
    /// What differs in the attributes.
    pub metadata: &'a [serde_json::Value],
}

/// Writes the page.
///
/// # Errors
/// Disk full and the like.
pub fn write(begun: Page, difference: &Difference<'_>, console: Console) -> Result<()> {
    let title = format!(
        "{} and {}",
        shortened(&visible(difference.a), 100),
        shortened(&visible(difference.b), 100)
    );
    begun.finish(&page(&title, None, &body(difference, &title)), console)
}

/// Rows, as many as there is room for, and how many were left out.
struct Rows {
    room: usize,
    left: usize,
}

impl Rows {
    fn take(&mut self, row: Markup) -> Option<Markup> {
        match self.room.checked_sub(row.0.len()) {
            Some(rest) if self.left == 0 => {
                self.room = rest;
                Some(row)
            }
            _ => {
                self.left += 1;
                None
            }
        }
    }
}

fn body(difference: &Difference<'_>, title: &str) -> Markup {
    let room = (MAX_BYTES - FRAME_BYTES) / 3;
    let mut told = Rows { room, left: 0 };
    let others: Vec<Markup> = difference
        .compared
        .iter()
        .filter(|c| match c.verdict {
            Verdict::Equal => false,
            Verdict::Different(_) => difference.summary.is_none(),
            _ => true,
        })
        .filter_map(|c| {
            let text = shortened(&visible(&sentence(&c.verdict)), 400);
            let name = shortened(&visible(&c.name), 200);
            told.take(html! { tr { th scope="row" { (name) } td { (text) } } })
        })
        .collect();
    let mut room = 20_000usize;
    let fits = |m: &String| room.checked_sub(m.len()).map(|rest| room = rest).is_some();
    let metadata: Vec<String> = difference
        .metadata
        .iter()
        .map(|m| shortened(&visible(&m.to_string()), 400))
        .take_while(fits)
        .collect();
    html! {
        main {
            h1 { (title) }
            p {
                @if difference.equal { "Nothing differs: " (difference.compared.len()) " arrays." }
                @else { "They differ." }
            }
            @if let Some(summary) = difference.summary { (figures(summary)) }
            @if !others.is_empty() {
                h2 { @if difference.summary.is_some() { "Not compared" } @else { "Differences" } }
                div class="scroll" tabindex="0" role="region" aria-label="what differs" {
                    table { tbody { @for row in &others { (row) } } }
                }
                (left(told.left))
            }
            @if !metadata.is_empty() {
                h2 { "Metadata" }
                @for m in &metadata { pre { (m) } }
            }
        }
    }
}

fn left(n: usize) -> Markup {
    html! { @if n > 0 { p class="soft" { (n) " more have no room in a page of this size; --json has all." } } }
}

fn figures(summary: &Summary) -> Markup {
    let room = (MAX_BYTES - FRAME_BYTES) / 3;
    let table = |what: &str, list: &[(String, Figures)], only_changed: bool| {
        let mut rows = Rows { room, left: 0 };
        let changed = list.iter().filter(|(_, f)| !only_changed || f.is_changed());
        let shown: Vec<Markup> = changed
            .filter_map(|(name, f)| {
                let name = shortened(&visible(name), 200);
                let cells = f.cells(String::new());
                rows.take(html! { tr {
                    th scope="row" { (name) }
                    td class="n" { span class="share" style=(format!("width:{:.2}em", 4.0 * f.share())) {} " " (cells[1]) }
                    @for cell in &cells[2..] { td class="n" { (cell) } }
                } })
            })
            .collect();
        html! {
            div class="scroll" tabindex="0" role="region" aria-label=(format!("figures by {what}")) {
                table {
                    thead { tr {
                        th scope="col" { (what) } th scope="col" class="n" { "changed" } th scope="col" class="n" { "L2" }
                        th scope="col" class="n" { "relative" } th scope="col" class="n" { "largest" } th scope="col" class="n" { "cosine" }
                    } }
                    tbody { @for row in &shown { (row) } }
                }
            }
            (left(rows.left))
        }
    };
    let total = [(format!("{} arrays", summary.total.arrays()), summary.total.clone())];
    html! {
        h2 { "In total" } (table("total", &total, false))
        @if summary.layers().len() > 1 { h2 { "By layer" } (table("layer", summary.layers(), false)) }
        @if summary.total.is_changed() { h2 { "Arrays that differ" } (table("array", summary.arrays(), true)) }
    }
}
