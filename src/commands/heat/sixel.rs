//! Pictures as DEC's terminals and their kin take them: bands of six lines, each colour of a band
//! by itself ("sixels", chapter 14 of the VT330/VT340 programmer reference manual).
//!
//! | text | what |
//! |---|---|
//! | `ESC P 0 ; 1 q` | begins; pixels that are not drawn stay as they are |
//! | `" 1 ; 1 ; W ; H` | square pixels, width, height |
//! | `# N ; 2 ; R ; G ; B` | register N has this colour, in percent |
//! | `# N` | the colour of what follows |
//! | `?` … `~` | the six pixels of a column: 63 and their bits, the upper one first |
//! | `! COUNT` | the next column so many times |
//! | `$`, `-` | back to the left; down to the next band |
//! | `ESC \` | ends |

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Registers that a terminal has at least, the oldest ones aside.
const MAX_COLORS: usize = 256;

/// A colour in percent.
type Percent = [u8; 3];

/// Writes RGB bytes, `columns` of them side by side, each as a block of so many pixels.
pub(super) fn sixel(pixels: &[u8], columns: usize, [width, height]: [usize; 2], out: &mut String) {
    let (colors, cells) = registers(pixels);
    let rows = cells.len() / columns.max(1);
    let lines = rows * height;
    let _ = write!(out, "\x1bP0;1q\"1;1;{};{lines}", columns * width);
    for (n, [r, g, b]) in colors.iter().enumerate() {
        let _ = write!(out, "#{n};2;{r};{g};{b}");
    }
    for top in (0..lines).step_by(6) {
        let band = band(&cells, columns, &[0, 1, 2, 3, 4, 5].map(|k| (top + k) / height));
        for (i, (register, columns)) in band.iter().enumerate() {
            let _ = write!(out, "{}#{register}", if i > 0 { "$" } else { "" });
            runs(columns, width, out);
        }
        out.push('-');
    }
    *out += "\x1b\\\n";
}

/// The colours, and which of them each pixel has: as exact as whole percents, or steps of some
/// percents where those are too many.
fn registers(pixels: &[u8]) -> (Vec<Percent>, Vec<usize>) {
    let mut step = 1.0;
    loop {
        let percent = |&v: &u8| {
            let steps = (f64::from(v) / 2.55 / step).round();
            (steps * step).min(100.0) as u8
        };
        let (mut colors, mut numbers) = (Vec::new(), BTreeMap::new());
        let cells = pixels.chunks_exact(3).map(|rgb| {
            let color = [0, 1, 2].map(|i| percent(&rgb[i]));
            *numbers.entry(color).or_insert_with(|| {
                colors.push(color);
                colors.len() - 1
            })
        });
        let cells = cells.collect();
        if colors.len() <= MAX_COLORS {
            return (colors, cells);
        }
        step *= 2.0;
    }
}

/// The columns of each colour in six lines, which are of these rows: where, and which bits.
fn band(cells: &[usize], columns: usize, rows: &[usize; 6]) -> BTreeMap<usize, Vec<(usize, u8)>> {
    let mut band: BTreeMap<usize, Vec<(usize, u8)>> = BTreeMap::new();
    for column in 0..columns {
        for (k, row) in rows.iter().enumerate() {
            let Some(&register) = cells.get(row * columns + column) else { break };
            let places = band.entry(register).or_default();
            match places.last_mut().filter(|(at, _)| *at == column) {
                Some((_, bits)) => *bits |= 1 << k,
                None => places.push((column, 1 << k)),
            }
        }
    }
    band
}

/// Columns of one colour, each so many pixels wide, and the gaps between them.
fn runs(places: &[(usize, u8)], width: usize, out: &mut String) {
    let mut repeat = |count: usize, bits: u8| {
        let sign = char::from(63 + bits);
        match count * width {
            n if n > 3 => {
                let _ = write!(out, "!{n}{sign}");
            }
            n => out.extend(std::iter::repeat_n(sign, n)),
        }
    };
    let mut at = 0;
    for run in places.chunk_by(|a, b| a.0 + 1 == b.0 && a.1 == b.1) {
        repeat(run[0].0 - at, 0);
        repeat(run.len(), run[0].1);
        at = run[0].0 + run.len();
    }
}
