//! `npk inspect --heat`: heat maps in a terminal.

use std::io::IsTerminal as _;

use serde_json::{Value, json};

use super::colors::{self, Rgb};
use super::diff::short;
use super::profile::heat::{HeatMap, INFINITE, NAN, NULL, Scale};
use crate::console::{Console, terminal};
use crate::model::ArrayMeta;
use crate::model::json_float::number;

mod sixel;

/// What a terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shades {
    /// Letters alone.
    Ascii,
    /// The sixteen colours that every terminal has.
    Sixteen,
    /// xterm's table.
    Palette,
    /// 24 bits.
    True,
    /// The picture itself, by kitty's protocol.
    Kitty,
    /// As a file, by iTerm2's protocol.
    File,
    /// As sixels.
    Sixel,
}

/// Terminals that draw sixels, by the beginning of TERM.
const SIXEL_TERMS: [&str; 4] = ["foot", "mlterm", "contour", "yaft"];
/// The device attribute of terminals that draw sixels.
const SIXEL_ATTRIBUTE: u16 = 4;

impl Shades {
    /// By what the environment and the terminal itself say.
    fn of(console: Console, json: bool) -> Shades {
        let variable = |name| std::env::var(name).unwrap_or_default();
        let (term, color) = (variable("TERM"), variable("COLORTERM"));
        // tmux and screen draw their windows themselves, whatever the terminal around them can do.
        let direct = variable("TMUX").is_empty()
            && !["tmux", "screen"].iter().any(|drawn| term.starts_with(drawn));
        if json || !console.color_out {
            Shades::Ascii
        } else if direct && (term == "xterm-kitty" || !variable("KITTY_WINDOW_ID").is_empty()) {
            Shades::Kitty
        } else if direct
            && (["iTerm.app", "WezTerm"].contains(&variable("TERM_PROGRAM").as_str())
                || variable("LC_TERMINAL") == "iTerm2")
        {
            Shades::File
        } else if direct
            && (SIXEL_TERMS.iter().any(|name| term.starts_with(name))
                || variable("TERM_PROGRAM") == "mintty")
            || std::io::stdout().is_terminal() && terminal::attributes().contains(&SIXEL_ATTRIBUTE)
        {
            Shades::Sixel
        } else if color == "truecolor" || color == "24bit" || term.ends_with("-direct") {
            Shades::True
        } else if term.contains("256color") {
            Shades::Palette
        } else {
            Shades::Sixteen
        }
    }
}

/// How large the pictures are, and of what.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    shades: Shades,
    columns: usize,
    lines: usize,
    /// The width and height of a character, in pixels.
    character: [usize; 2],
}

/// As large as a character was on the terminals that drew sixels first.
const CHARACTER: [usize; 2] = [10, 20];

/// Blocks along each side, for JSON.
const JSON_BLOCKS: usize = 64;
/// Blocks of all arrays together: they are kept until they are drawn.
const MAX_BLOCKS: usize = 2_000_000;

impl Screen {
    /// The window; 80 columns in a pipe, unless COLUMNS says otherwise. `json`: nothing is drawn.
    pub fn of(console: Console, json: bool) -> Screen {
        let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok();
        let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
        let said = std::env::var("COLUMNS").ok().and_then(|c| c.parse::<usize>().ok());
        let columns = size.map(|s| s.ws_col as usize).or(said).unwrap_or(80).clamp(16, 512);
        let lines = size.map_or(24, |s| s.ws_row as usize).saturating_sub(6).clamp(8, 48);
        let character = size
            .map_or([0, 0], |s| [s.ws_xpixel / s.ws_col, s.ws_ypixel / s.ws_row].map(usize::from));
        let character = if character.contains(&0) { CHARACTER } else { character };
        Screen { shades: Shades::of(console, json), columns, lines, character }
    }
    /// Most rows and columns of blocks of one of so many arrays.
    pub fn most(&self, meta: &ArrayMeta, arrays: usize, json: bool) -> [usize; 2] {
        let each = MAX_BLOCKS / arrays.max(1);
        let side = (each as f64).sqrt() as usize;
        match self.room(meta, json) {
            [rows, columns] if rows * columns <= each => [rows, columns],
            [rows, 1] => [rows.min(each.max(1)), 1],
            [rows, columns] => [rows.min(side.max(1)), columns.min(side.max(1))],
        }
    }
    fn room(&self, meta: &ArrayMeta, json: bool) -> [usize; 2] {
        let line = is_line(meta);
        match (json, self.shades) {
            (true, _) => {
                if line {
                    [JSON_BLOCKS, 1]
                } else {
                    [JSON_BLOCKS; 2]
                }
            }
            (_, _) if line => [self.columns, 1],
            (_, Shades::Ascii) => [self.lines, self.columns],
            _ => [2 * self.lines, self.columns],
        }
    }
    /// The picture and its legend.
    pub fn draw(&self, map: &HeatMap) -> String {
        let Some(scale) = map.scale() else {
            return format!("  no finite values{}\n", self.marks_text(map));
        };
        let (rows, columns) = match map.plane[1] {
            // One dimension is a line.
            1 => (1, map.blocks[0]),
            _ => (map.blocks[0], map.blocks[1]),
        };
        let cell = |row: usize, column: usize| {
            let i = row * columns + column;
            Cell { value: map.means[i], mark: map.marks[i] }
        };
        let mut out = String::new();
        match self.shades {
            Shades::Ascii => {
                for row in 0..rows {
                    out.extend((0..columns).map(|column| cell(row, column).letter(&scale)));
                    out.push('\n');
                }
            }
            Shades::Kitty | Shades::File | Shades::Sixel => {
                let pixels = (0..rows * columns).flat_map(|i| {
                    let Rgb(r, g, b) = cell(i / columns, i % columns).color(&scale);
                    [r, g, b]
                });
                let pixels: Vec<u8> = pixels.collect();
                match self.shades {
                    Shades::Kitty => kitty(&pixels, columns, rows, &mut out),
                    Shades::Sixel => {
                        let [width, height] = self.character;
                        sixel::sixel(&pixels, columns, [width, (height / 2).max(1)], &mut out);
                    }
                    _ => file(&pixels, columns, rows, &mut out),
                }
            }
            shades => {
                for row in (0..rows).step_by(2) {
                    let mut pen = Pen { shades, last: None };
                    for column in 0..columns {
                        let upper = cell(row, column).color(&scale);
                        let lower = (row + 1 < rows).then(|| cell(row + 1, column).color(&scale));
                        pen.half_block(upper, lower, &mut out);
                    }
                    out.push_str("\x1b[0m\n");
                }
            }
        }
        out += &self.legend(map, &scale);
        out
    }

    /// What the colours stand for.
    fn legend(&self, map: &HeatMap, scale: &Scale) -> String {
        const WIDTH: usize = 24;
        let values = (0..WIDTH).map(|i| {
            let share = i as f64 / (WIDTH - 1) as f64;
            Cell { value: scale.low + share * (scale.high - scale.low), mark: 0 }
        });
        let mut bar = String::new();
        match self.shades {
            Shades::Ascii => bar.extend(values.map(|v| v.letter(scale))),
            shades => {
                let picture = matches!(shades, Shades::Kitty | Shades::File | Shades::Sixel);
                let shades = if picture { Shades::True } else { shades };
                let mut pen = Pen { shades, last: None };
                for value in values {
                    let color = value.color(scale);
                    pen.half_block(color, Some(color), &mut bar);
                }
                bar += "\x1b[0m";
            }
        }
        let [rows, columns] = map.plane;
        let size = |n: u64, blocks: usize| match n.div_ceil(blocks as u64) {
            1 => None,
            n => Some(n),
        };
        let block = match (size(rows, map.blocks[0]), size(columns, map.blocks[1])) {
            (None, None) => String::new(),
            (r, c) => format!(", means of up to {} × {}", r.unwrap_or(1), c.unwrap_or(1)),
        };
        let (low, high) = (short(scale.low), short(scale.high));
        format!("  {low} {bar} {high}   {rows} × {columns}{block}{}\n", self.marks_text(map))
    }

    /// In how many blocks there are marks.
    fn marks_text(&self, map: &HeatMap) -> String {
        let count = |mark: u8| map.marks.iter().filter(|&&m| m & mark != 0).count();
        let mut out = String::new();
        for (mark, letter, what) in
            [(NAN, "N", "NaN"), (INFINITE, "I", "infinite"), (NULL, "?", "null")]
        {
            let n = count(mark);
            if n > 0 {
                let plural = if n == 1 { "" } else { "s" };
                let shown = match self.shades {
                    Shades::Ascii => letter,
                    _ => colors::mark_name(mark),
                };
                out += &format!("; {what} ({shown}) in {n} block{plural}");
            }
        }
        out
    }
}

/// Arrays of one dimension are drawn as a line.
fn is_line(meta: &ArrayMeta) -> bool {
    meta.element_dims().iter().product::<u64>() == 1
}

/// A block of the picture.
#[derive(Clone, Copy)]
struct Cell {
    value: f64,
    mark: u8,
}

impl Cell {
    fn color(self, scale: &Scale) -> Rgb {
        match colors::mark(self.mark) {
            Some(color) => color,
            None => colors::of(scale, self.value),
        }
    }
    /// Shades of ink; below 0 of another kind.
    fn letter(self, scale: &Scale) -> char {
        if self.mark & NAN != 0 {
            return 'N';
        } else if self.mark & INFINITE != 0 {
            return 'I';
        } else if self.mark & NULL != 0 || self.value.is_nan() {
            return '?';
        }
        let pick = |ramp: &[u8], share: f64| {
            char::from(ramp[((share * ramp.len() as f64) as usize).min(ramp.len() - 1)])
        };
        let at = scale.position(self.value);
        match scale.diverging {
            false => pick(b" .:-=+*#%@", at),
            true if at >= 0.5 => pick(b" .:+*#@", 2.0 * (at - 0.5)),
            true => pick(b" ,;-~=%", 2.0 * (0.5 - at)),
        }
    }
}

/// Writes colours, each once for a run of cells.
struct Pen {
    shades: Shades,
    last: Option<(Rgb, Option<Rgb>)>,
}

impl Pen {
    /// Two cells, one above the other.
    fn half_block(&mut self, upper: Rgb, lower: Option<Rgb>, out: &mut String) {
        if self.last != Some((upper, lower)) {
            out.push_str(&self.code(upper, false));
            match lower {
                Some(lower) => out.push_str(&self.code(lower, true)),
                None => out.push_str("\x1b[49m"),
            }
            self.last = Some((upper, lower));
        }
        out.push('▀');
    }
    fn code(&self, color: Rgb, background: bool) -> String {
        let Rgb(r, g, b) = color;
        let ground = if background { 48 } else { 38 };
        match self.shades {
            Shades::True => format!("\x1b[{ground};2;{r};{g};{b}m"),
            Shades::Palette => format!("\x1b[{ground};5;{}m", colors::palette(color)),
            _ => {
                let n = colors::sixteen(color);
                let base = if n < 8 { 30 + n } else { 82 + n };
                format!("\x1b[{}m", if background { base + 10 } else { base })
            }
        }
    }
}

/// The picture as kitty and its kin take it: RGB bytes in base64, at most 4096 bytes at a time.
fn kitty(pixels: &[u8], columns: usize, rows: usize, out: &mut String) {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(pixels);
    let lines = rows.div_ceil(2);
    let parts: Vec<&str> =
        (0..text.len()).step_by(4096).map(|at| &text[at..(at + 4096).min(text.len())]).collect();
    for (i, part) in parts.iter().enumerate() {
        let more = u8::from(i + 1 < parts.len());
        match i {
            0 => {
                *out += &format!(
                    "\x1b_Ga=T,f=24,s={columns},v={rows},c={columns},r={lines},q=2,m={more};{part}\x1b\\"
                )
            }
            _ => *out += &format!("\x1b_Gm={more};{part}\x1b\\"),
        }
    }
    out.push('\n');
}

/// The picture as a PNG file within the text, which iTerm2 and its kin draw.
fn file(pixels: &[u8], columns: usize, rows: usize, out: &mut String) {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(png(pixels, columns, rows));
    let lines = rows.div_ceil(2);
    *out += &format!(
        "\x1b]1337;File=inline=1;preserveAspectRatio=0;width={columns};height={lines}:{text}\x07\n"
    );
}

/// RGB bytes as a PNG file: <https://www.w3.org/TR/png-3/>.
fn png(pixels: &[u8], columns: usize, rows: usize) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], content: &[u8]| {
        let body = [kind, content].concat();
        file.extend((content.len() as u32).to_be_bytes());
        file.extend(&body);
        file.extend(crc32fast::hash(&body).to_be_bytes());
    };
    let sides = [columns as u32, rows as u32].map(u32::to_be_bytes).concat();
    // Eight bits a colour, RGB, no interlacing.
    chunk(b"IHDR", &[&sides[..], &[8, 2, 0, 0, 0]].concat());
    let mut lines = Vec::with_capacity(pixels.len() + rows);
    for line in pixels.chunks(3 * columns.max(1)) {
        // No filter.
        lines.push(0);
        lines.extend_from_slice(line);
    }
    let mut packed = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
    let mut room = vec![0; packed.zlib_compress_bound(lines.len())];
    let length = packed.zlib_compress(&lines, &mut room).unwrap_or(0);
    chunk(b"IDAT", &room[..length]);
    chunk(b"IEND", &[]);
    file
}

/// The map as JSON: means by rows of blocks, null where a block has no finite value.
pub fn json(map: &HeatMap) -> Value {
    let [rows, columns] = map.blocks;
    let line = |values: &dyn Fn(usize) -> Value, row: usize| -> Value {
        (0..columns).map(|column| values(row * columns + column)).collect()
    };
    let table = |values: &dyn Fn(usize) -> Value| -> Value {
        (0..rows).map(|row| line(values, row)).collect()
    };
    let mean = |i: usize| match map.means[i] {
        mean if mean.is_nan() => Value::Null,
        mean => number(mean),
    };
    let mut document =
        json!({"rows": map.plane[0], "columns": map.plane[1], "means": table(&mean)});
    if map.marks.iter().any(|&m| m != 0) {
        document["marks"] = table(&|i| json!(map.marks[i]));
    }
    document
}
