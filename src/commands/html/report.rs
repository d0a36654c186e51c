//! `npk inspect --html`: what is in files, as a page.

use std::collections::BTreeMap;

use base64::Engine as _;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::chunks;
use super::treemap::{self, Rect};
use super::{FRAME_BYTES, MAX_BYTES, Page, page, shortened};
use crate::cli::InspectArgs;
use crate::commands::colors;
use crate::commands::profile::heat::HeatMap;
use crate::commands::profile::histogram::Histogram;
use crate::commands::profile::stats::{self, Stats};
use crate::commands::profile::{Profile, Wish, is_numbers, profiles};
use crate::compare::checksum;
use crate::console::{Console, human_bytes, visible};
use crate::error::{Error, Result};
use crate::format::ReadOptions;
use crate::model::{ArrayMeta, Plan, checked_product};
use crate::open::{chosen, damaged, input_location, open};
use crate::pipe::{Flow, Settings};

/// Blocks along each side of a heat map, at most.
const MAX_BLOCKS: usize = 128;
/// Rectangles of a treemap, at most.
const MAX_RECTANGLES: usize = 200;
/// Bytes of an array's attributes, at most.
const MAX_ATTRIBUTES: usize = 2000;
/// Characters of a name.
const MAX_NAME: usize = 200;

/// Writes the page of these files. Returns the damage that was found in them, which the page marks.
///
/// # Errors
/// A file that cannot be read at all: then there is no page.
pub fn write(
    args: &InspectArgs,
    path: &str,
    options: &ReadOptions,
    console: Console,
) -> Result<Vec<Error>> {
    let begun = Page::begin(path, args.force, &args.look.read)?;
    let budget = (MAX_BYTES - FRAME_BYTES) / args.paths.len();
    let (mut files, mut broken) = (Vec::new(), Vec::new());
    for path in &args.paths {
        let file = File::read(path, args, options, budget, console)?;
        broken.extend(
            damaged(file.plan.arrays.iter(), &input_location(path, &args.look.read)?)
                .into_iter()
                .take(20),
        );
        files.push(file);
    }
    let lists: Vec<Value> = files.iter().map(|f| json!({"arrays": f.list})).collect();
    let table = |colors: &[colors::Rgb]| -> Value {
        colors.iter().map(|c| json!([c.0, c.1, c.2])).collect()
    };
    let data = json!({
        "files": lists, "rising": table(&colors::RISING), "diverging": table(&colors::DIVERGING),
    });
    let names: Vec<String> = files.iter().map(|f| shortened(&f.name, MAX_NAME)).collect();
    let title = names.join(", ");
    begun.finish(&page(&shortened(&title, MAX_NAME), Some(&data), &body(&files)), console)?;
    Ok(broken)
}

/// A file of the page.
struct File {
    name: String,
    format: String,
    bytes: Option<u64>,
    plan: Plan,
    /// The arrays that are listed, as the script takes them.
    list: Vec<Value>,
    rectangles: usize,
}

/// How much is told of each array.
#[derive(Clone, Copy)]
struct Share {
    cells: usize,
    bins: usize,
}

impl File {
    fn read(
        path: &str,
        args: &InspectArgs,
        options: &ReadOptions,
        budget: usize,
        console: Console,
    ) -> Result<File> {
        let at = input_location(path, &args.look.read)?;
        let bytes = crate::storage::walk::size_of(&at);
        let at = crate::detect::rereadable(at, args.look.read.from.as_deref())?;
        let named = |e: Error| e.file(at.display());
        let settings = Settings::of(&options.resources);
        let again = |options: &ReadOptions| -> Result<(&'static str, Flow)> {
            let opened = open(&at, args.look.read.from.as_deref(), options, console)?;
            let flow = match opened.flow.plan().arrays.is_empty() {
                true => opened.flow,
                false => chosen(opened.flow, &args.look.choose).map_err(named)?,
            };
            Ok((opened.format.spec().name, flow))
        };
        let types = ReadOptions { types_only: true, ..options.clone() };
        let (format, flow) = again(&types)?;
        let plan = flow.plan().clone();
        for note in &plan.notes {
            console.note(&format!("{}: {note}", at.display()));
        }
        let listed = listed(&plan, budget * 45 / 100);
        let share = Share::of(&plan, &listed, budget);
        // Of the arrays that are listed the values are read, in one pass.
        let (_, flow) = again(options)?;
        let flow = flow.choose(&listed);
        let found = profiles(flow, &|meta| share.wish(meta), &settings).map_err(named)?;
        let sums = match args.checksum {
            true => {
                let flow = again(options)?.1.choose(&listed);
                checksum::checksums(flow, &settings).map_err(named)?
            }
            false => vec![None; listed.len()],
        };
        let is_chunked = |a: &usize| plan.arrays[*a].details.chunks.is_some();
        let sizes = match listed.iter().any(is_chunked) && share.cells >= 16 {
            true => {
                let flow = again(options)?.1.choose(&listed);
                chunks::maps(flow, at.is_remote(), (share.cells as f64 / 4.0).sqrt() as usize)
            }
            false => vec![None; listed.len()],
        };
        let found = Found { profiles: &found, sums: &sums, sizes: &sizes };
        let list = list(&plan, &listed, found, share, budget);
        let version = plan.format_version.as_deref().map(|v| format!(" {v}")).unwrap_or_default();
        let rectangles = (MAX_RECTANGLES / args.paths.len()).max(12);
        let format = format!("{format}{version}");
        Ok(File { name: visible(&at.display()), format, bytes, plan, list, rectangles })
    }
}

/// Bytes by which arrays are ordered and drawn.
fn bytes_of(meta: &ArrayMeta) -> u64 {
    meta.size_bytes().or(meta.details.stored_bytes).unwrap_or(0)
}

/// The largest arrays, as many as there is room for, in the order of the file.
fn listed(plan: &Plan, room: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..plan.arrays.len()).collect();
    order.sort_by_key(|&a| std::cmp::Reverse(bytes_of(&plan.arrays[a])));
    let mut used = 0;
    let fits = |&a: &usize| {
        // The statistics come to it.
        used += row(&plan.arrays[a]).to_string().len() + 140;
        used <= room
    };
    let mut listed: Vec<usize> = order.into_iter().take_while(fits).collect();
    listed.sort_unstable();
    listed
}

impl Share {
    fn of(plan: &Plan, listed: &[usize], budget: usize) -> Share {
        let numbers = listed.iter().filter(|&&a| is_numbers(&plan.arrays[a])).count().max(1);
        // Two bytes a cell, in base64; a count may have nine digits.
        let cells = (budget * 35 / 100 * 3 / 8 / numbers).min(MAX_BLOCKS * MAX_BLOCKS);
        let bins = budget * 15 / 100 / 9 / listed.len().max(1);
        Share { cells, bins }
    }
    fn wish(self, meta: &ArrayMeta) -> Wish {
        let columns = checked_product(meta.element_dims()).unwrap_or(1);
        let side = (self.cells as f64).sqrt() as usize;
        let most = match (meta.rows.unwrap_or(1), columns) {
            (_, 1) => [self.cells.min(4 * MAX_BLOCKS), 1],
            // Few rows leave room for more columns, and the other way round.
            (rows, columns) => {
                let rows = rows.min(MAX_BLOCKS as u64) as usize;
                let columns = columns.min(MAX_BLOCKS as u64) as usize;
                let down = rows.min((self.cells / columns.clamp(1, side.max(1))).max(side));
                [down, columns.min(self.cells / down.max(1))]
            }
        };
        let heat = (self.cells >= 16).then_some(most);
        Wish { histogram: self.bins >= 8, heat, texts: true }
    }
}

/// What the headers tell of an array.
fn row(meta: &ArrayMeta) -> Value {
    let shape = match meta.shape() {
        Some(s) if s.is_empty() => "scalar".into(),
        Some(s) => s.iter().map(u64::to_string).collect::<Vec<_>>().join(" × "),
        None => "?".into(),
    };
    let name = shortened(&visible(&meta.name), MAX_NAME);
    let mut row = json!({"n": name, "t": shortened(&visible(&meta.type_name()), MAX_NAME), "s": shortened(&shape, MAX_NAME)});
    if let Some(bytes) = meta.details.stored_bytes.or_else(|| meta.size_bytes()) {
        row["b"] = json!(bytes);
    }
    let details = &meta.details;
    if let Some(error) = &details.error {
        row["e"] = json!(shortened(&visible(&error.reason()), 300));
    }
    let stored: Vec<String> = [
        details.stored_dtype.clone().map(|t| shortened(&visible(&t), 80)),
        details.compression.clone().map(|c| shortened(&visible(&c), 120)),
        ratio(meta),
        details.part.clone().map(|p| format!("in {}", shortened(&visible(&p), 120))),
        details
            .alias_of
            .clone()
            .map(|a| format!("the same memory as {}", shortened(&visible(&a), 120))),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !stored.is_empty() {
        row["z"] = json!(stored.join(", "));
    }
    if let (Some(chunks), Some(shape)) = (&details.chunks, meta.shape())
        && chunks.len() == shape.len()
        && chunks.len() <= 32
    {
        (row["ch"], row["sh"]) = (json!(chunks), json!(shape));
    }
    row
}

/// What compression has come to.
fn ratio(meta: &ArrayMeta) -> Option<String> {
    let (stored, whole) = (meta.details.stored_bytes?, meta.bytes().ok().flatten()?);
    let known = meta.details.compression.is_some() && stored > 0 && whole > 0;
    known.then(|| {
        let ratio = whole as f64 / stored as f64;
        format!("{} of {} ({ratio:.2} to 1)", human_bytes(stored), human_bytes(whole))
    })
}

/// What was found out about each of the listed arrays.
#[derive(Clone, Copy)]
struct Found<'a> {
    profiles: &'a [Option<Profile>],
    sums: &'a [Option<String>],
    /// The bytes of its chunks.
    sizes: &'a [Option<HeatMap>],
}

/// The listed arrays with what there is room for of their values; what there is none for is named.
fn list(
    plan: &Plan,
    listed: &[usize],
    found: Found<'_>,
    share: Share,
    budget: usize,
) -> Vec<Value> {
    let mut used = 0;
    let mut rows: Vec<Value> = listed.iter().map(|&a| row(&plan.arrays[a])).collect();
    for row in &rows {
        used += row.to_string().len() + 1;
    }
    // The largest arrays first, if not all have room.
    let mut order: Vec<usize> = (0..listed.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(bytes_of(&plan.arrays[listed[i]])));
    let mut put = |row: &mut Value, key: &str, what: &str, value: Value| {
        let size = value.to_string().len() + key.len() + 4;
        if used + size <= budget {
            used += size;
            row[key] = value;
            return;
        }
        // The word itself has room in what is kept for it.
        match &mut row["o"] {
            Value::Array(out) => out.push(json!(what)),
            none => *none = json!([what]),
        }
    };
    for &i in &order {
        let (row, meta) = (&mut rows[i], &plan.arrays[listed[i]]);
        if let Some(profile) = &found.profiles[i] {
            put(row, "st", "statistics", statistics(&profile.stats));
            if profile.stats.is_magnitude() {
                row["mag"] = json!(true);
            }
        }
        if let Some(sum) = &found.sums[i] {
            put(row, "k", "the checksum", json!(sum));
        }
        if !meta.details.attributes.is_empty() {
            let text = serde_json::to_string_pretty(&meta.details.attributes).unwrap_or_default();
            put(row, "a", "attributes", json!(shortened(&text, MAX_ATTRIBUTES)));
        }
    }
    for &i in &order {
        let (row, meta) = (&mut rows[i], &plan.arrays[listed[i]]);
        if let Some(value) = found.sizes[i].as_ref().and_then(heat) {
            put(row, "cs", "the bytes of chunks", value);
        }
        let Some(profile) = &found.profiles[i] else { continue };
        if let Some(histogram) = profile.histogram.as_ref().filter(|h| !h.counts().is_empty()) {
            put(row, "h", "the histogram", bins(histogram, meta, share.bins));
        }
        if let Some(texts) = &profile.texts {
            let (distinct, exact) = texts.distinct();
            let mean = texts.bytes as f64 / texts.count as f64;
            let top: Vec<Value> = texts
                .most_frequent(10)
                .into_iter()
                .map(|(text, n)| json!([visible(&text), n]))
                .collect();
            let value = json!({
                "shortest": texts.shortest, "longest": texts.longest, "mean": mean,
                "distinct": distinct, "exact": exact, "top": top,
            });
            put(row, "x", "the most frequent values", value);
        }
        if let Some(map) = &profile.heat
            && let Some(value) = heat(map)
        {
            put(row, "m", "the heat map", value);
        }
    }
    rows
}

/// Counts, least, greatest, mean, standard deviation: in the order in which the script names them.
fn statistics(stats: &Stats) -> Value {
    let all = stats.json();
    let keys = ["count", "nulls", "nan", "inf", "zeros", "min", "max", "mean", "std"];
    keys.iter().map(|key| all[*key].clone()).collect()
}

/// At most so many bins: neighbours together.
fn bins(histogram: &Histogram, meta: &ArrayMeta, most: usize) -> Value {
    let counts = histogram.counts();
    let together = counts.len().div_ceil(most.max(1));
    let sums: Vec<u64> = counts.chunks(together).map(|c| c.iter().sum()).collect();
    let (first, width) = (histogram.edge(0), histogram.edge(together) - histogram.edge(0));
    let ends = match (meta.logical.is_time(), histogram.whole()) {
        (true, Some((first, width))) => {
            let end = first + width * (sums.len() * together) as i128;
            [stats::text(first, &meta.logical), stats::text(end, &meta.logical)]
        }
        _ => {
            let end = histogram.edge(sums.len() * together);
            [first, end].map(|v| json!(crate::commands::diff::short(v)))
        }
    };
    let edges = if meta.logical.is_time() { json!(["", 0]) } else { json!([first, width]) };
    json!({"c": sums, "e": edges, "l": ends})
}

/// Means as 16-bit shares of their range, little-endian, in base64; 65535 where there is none.
fn heat(map: &HeatMap) -> Option<Value> {
    let scale = map.scale()?;
    let finite = || map.means.iter().copied().filter(|m| m.is_finite());
    let (low, high) = (finite().reduce(f64::min)?, finite().reduce(f64::max)?);
    let range = high / 2.0 - low / 2.0;
    let code = |mean: f64| {
        let share = if range > 0.0 { (mean / 2.0 - low / 2.0) / range } else { 0.0 };
        if mean.is_finite() { (share * 65534.0).round() as u16 } else { u16::MAX }
    };
    let codes: Vec<u8> = map.means.iter().flat_map(|&m| code(m).to_le_bytes()).collect();
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    // One dimension lies on its side.
    let turned = |[a, b]: [u64; 2]| if map.plane[1] == 1 { [b, a] } else { [a, b] };
    let blocks = map.blocks.map(|b| b as u64);
    let mut value = json!({
        "p": turned(map.plane), "b": turned(blocks), "q": [low, high],
        "s": [scale.low, scale.high, scale.diverging], "d": base64(&codes),
    });
    if map.marks.iter().any(|&m| m != 0) {
        value["k"] = json!(base64(&map.marks));
    }
    Some(value)
}

fn body(files: &[File]) -> Markup {
    html! {
        main {
            h1 { @if files.len() == 1 { (shortened(&files[0].name, MAX_NAME)) } @else { (files.len()) " files" } }
            noscript { p class="bad" { "The arrays of this page are shown by its script, which is not run here." } }
            div class="controls" role="search" {
                label { "Filter by name or type" input id="filter" type="search" autocomplete="off" spellcheck="false"; }
                label { "Sort by"
                    select id="sort" {
                        option value="file" { "order in the file" }
                        option value="name" { "name" }
                        option value="bytes" { "bytes" }
                        option value="type" { "type" }
                    }
                }
            }
            div class="files" { @for (i, file) in files.iter().enumerate() { (section(file, i, files.len() > 1)) } }
        }
    }
}

fn section(file: &File, i: usize, several: bool) -> Markup {
    let plan = &file.plan;
    let count = plan.arrays.len();
    let left = count - file.list.len();
    html! {
        section class="file" aria-label=(shortened(&file.name, MAX_NAME)) {
            @if several { h2 { (shortened(&file.name, MAX_NAME)) } }
            p class="soft" {
                (file.format)
                @if let Some(bytes) = file.bytes { ", " (human_bytes(bytes)) }
                ", " (count) @if count == 1 { " array" } @else { " arrays" }
            }
            (treemap(file))
            (totals(plan))
            (metadata(plan, several))
            (heading("Arrays", several))
            @if left > 0 {
                p class="soft" { "The " (file.list.len()) " largest. " (left) " more have no room in a page of this size; npk list -l shows all." }
            }
            div class="pager" {
                button type="button" id=(format!("back{i}")) { "Back" }
                button type="button" id=(format!("next{i}")) { "Next" }
                span id=(format!("count{i}")) role="status" {}
            }
            div id=(format!("list{i}")) {}
        }
    }
}

/// Rectangles of the largest arrays, and one for the others.
fn treemap(file: &File) -> Markup {
    let mut arrays: Vec<(&ArrayMeta, u64)> =
        file.plan.arrays.iter().map(|m| (m, bytes_of(m))).filter(|(_, b)| *b > 0).collect();
    if arrays.is_empty() {
        return html! {};
    }
    arrays.sort_by_key(|(_, b)| std::cmp::Reverse(*b));
    let rest: u64 =
        arrays.iter().skip(file.rectangles).map(|(_, b)| *b).fold(0, u64::saturating_add);
    let others = arrays.len().saturating_sub(file.rectangles);
    arrays.truncate(file.rectangles);
    let mut sizes: Vec<f64> = arrays.iter().map(|(_, b)| *b as f64).collect();
    sizes.extend((rest > 0).then_some(rest as f64));
    let area = Rect { x: 0.0, y: 0.0, w: 800.0, h: 300.0 };
    let mut types: Vec<String> = arrays.iter().map(|(m, _)| m.type_name()).collect();
    types.sort();
    types.dedup();
    // Dark enough for white letters.
    const FILLS: [&str; 8] =
        ["#1f5f99", "#8a4b08", "#2f6b2f", "#7b3294", "#9c2f3f", "#2b6a6c", "#5d5d1f", "#4f4f8f"];
    let largest = arrays.first().map(|(m, b)| {
        format!("; the largest, {}, has {}", shortened(&visible(&m.name), 80), human_bytes(*b))
    });
    let label = format!("Arrays by bytes{}", largest.unwrap_or_default());
    let rects = treemap::layout(&sizes, area);
    let common = common(&arrays);
    html! {
        svg class="tree" viewBox="0 0 800 300" role="img" aria-label=(label) {
            @for (i, r) in rects.iter().enumerate() {
                @if let Some((meta, bytes)) = arrays.get(i) {
                    @let name = shortened(&visible(&meta.name), 80);
                    @let fill = types.iter().position(|t| *t == meta.type_name()).unwrap_or(0) % FILLS.len();
                    rect x=(round(r.x)) y=(round(r.y)) width=(round(r.w)) height=(round(r.h)) fill=(FILLS[fill]) data-n=(name) {
                        title { (name) ": " (meta.type_name()) ", " (human_bytes(*bytes)) }
                    }
                    @let most = ((r.w - 6.0) / 6.2) as usize;
                    @if r.h > 16.0 && most >= 4 {
                        text x=(round(r.x + 4.0)) y=(round(r.y + 13.0)) { (both_ends(name.get(common..).unwrap_or(&name), most)) }
                    }
                } @else {
                    rect x=(round(r.x)) y=(round(r.y)) width=(round(r.w)) height=(round(r.h)) fill="#555" {
                        title { (others) " smaller arrays: " (human_bytes(rest)) }
                    }
                }
            }
        }
    }
}

/// How many bytes of their names all these arrays have in common, up to a dot or a slash.
fn common(arrays: &[(&ArrayMeta, u64)]) -> usize {
    let names = || arrays.iter().map(|(m, _)| visible(&m.name));
    let Some(first) = names().next().filter(|_| arrays.len() > 1) else { return 0 };
    let same = |name: &String| first.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    let most = names().map(|name| same(&name)).min().unwrap_or(0);
    first.bytes().take(most).rposition(|b| b == b'.' || b == b'/').map_or(0, |at| at + 1)
}

/// A name without its middle: layers are told apart by the beginning, their parts by the end.
fn both_ends(name: &str, most: usize) -> String {
    let count = name.chars().count();
    if count <= most {
        return name.to_string();
    }
    let end = most / 2;
    let begin: String = name.chars().take(most - end - 1).collect();
    format!("{begin}…{}", name.chars().skip(count - end).collect::<String>())
}

fn round(v: f64) -> f64 {
    (v * 10.0).round() / 10.0
}

fn totals(plan: &Plan) -> Markup {
    let mut totals: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for m in plan.arrays.iter() {
        let t = totals.entry(m.type_name()).or_default();
        t.0 += 1;
        t.1 = t.1.saturating_add(bytes_of(m));
    }
    let sum = totals.values().map(|t| t.1).fold(0, u64::saturating_add).max(1);
    let mut totals: Vec<(String, (u64, u64))> = totals.into_iter().collect();
    totals.sort_by_key(|(_, (_, bytes))| std::cmp::Reverse(*bytes));
    let more = totals.len().saturating_sub(50);
    html! {
        div class="scroll" { table {
            thead { tr {
                th scope="col" { "type" } th scope="col" class="n" { "arrays" }
                th scope="col" class="n" { "bytes" } th scope="col" { "share" }
            } }
            tbody { @for (name, (n, bytes)) in totals.iter().take(50) {
                @let percent = 100.0 * *bytes as f64 / sum as f64;
                tr {
                    th scope="row" { (shortened(&visible(name), 80)) } td class="n" { (n) }
                    td class="n" { (human_bytes(*bytes)) }
                    td { span class="share" style=(format!("width:{:.2}em", percent / 12.5)) {} " " (format!("{percent:.1} %")) }
                }
            } }
        } }
        @if more > 0 { p class="soft" { (more) " more types" } }
    }
}

/// Below the name of the file, where there are several.
fn heading(text: &str, several: bool) -> Markup {
    html! { @if several { h3 { (text) } } @else { h2 { (text) } } }
}

fn metadata(plan: &Plan, several: bool) -> Markup {
    let mut room = 20_000usize;
    let mut shown: Vec<(String, String)> = Vec::new();
    for (key, value) in plan.attributes.iter() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        let (key, text) = (shortened(&visible(key), 120), shortened(&visible(&text), 1000));
        let Some(rest) = room.checked_sub(key.len() + text.len() + 40) else { break };
        room = rest;
        shown.push((key, text));
    }
    let more = plan.attributes.len() - shown.len();
    html! {
        @if !shown.is_empty() {
            (heading("Metadata", several))
            div class="scroll" { table { tbody { @for (key, text) in &shown { tr { th scope="row" { (key) } td { (text) } } } } } }
        }
        @if more > 0 { p class="soft" { (more) " more keys; npk inspect --show-metadata shows all" } }
    }
}
