//! The dialect of a text table: what separates cells and rows, and what begins a comment.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memchr3, memrchr2};

use super::number::Reader;

/// Words that mean "no value" in columns of numbers and booleans (pandas' list without the
/// spellings of NaN).
pub const NULL_WORDS: &[&str] =
    &["NA", "N/A", "n/a", "NULL", "null", "None", "<NA>", "#N/A", "#NA", "#N/A N/A"];

/// How a text table is written.
#[derive(Clone)]
pub struct Dialect {
    /// Between cells; `None`: runs of blanks.
    pub delimiter: Option<u8>,
    /// Around cells that hold delimiters, line ends or quotes (which are doubled).
    pub quote: Option<u8>,
    /// Begins a comment: a whole line, or with `inline` the rest of any line.
    pub comment: Option<u8>,
    /// Whether comments may follow cells.
    pub inline: bool,
    /// A blank line is a row of one empty cell, in a table of one column. Else it counts for
    /// nothing.
    pub blank_rows: bool,
    /// Blanks around cells, outside of quotes, are no part of them.
    pub trim: bool,
    /// Leading zeros are numbers in all columns (TXT).
    pub zeros: bool,
    /// Text is an error (TXT).
    pub numbers_only: bool,
    /// Words that mean null; `None`: [`NULL_WORDS`], but not in columns of text.
    pub nulls: Option<Vec<Vec<u8>>>,
    /// Whether one of them may be a number (`-999`).
    pub null_numbers: bool,
    /// Reads numbers, knows the decimal sign.
    pub reader: Reader,
}

/// A cell in a block.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// Where its content begins (after an opening quote).
    pub start: usize,
    /// Where its content ends.
    pub stop: usize,
    /// The delimiter or line end after it, or the end of the block.
    pub end: usize,
    /// Whether it was quoted.
    pub quoted: bool,
    /// Whether its content holds doubled quotes.
    pub escaped: bool,
    /// Why it is no cell after all.
    pub broken: Option<Broken>,
}

/// What is wrong with a quoted cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Its closing quote is missing.
    Open,
    /// Text follows its closing quote.
    Continued,
}

impl Dialect {
    /// With these words for null, where a list was given.
    pub fn with_nulls(mut self, list: Option<&Vec<String>>) -> Dialect {
        self.nulls = list.map(|l| l.iter().map(|w| w.clone().into_bytes()).collect());
        self.null_numbers = self.nulls.iter().flatten().any(|w| w.iter().any(u8::is_ascii_digit));
        self
    }

    /// Finds the cell that begins at `start`.
    #[inline]
    pub fn cell(&self, block: &[u8], start: usize) -> Cell {
        match self.delimiter {
            Some(delimiter) => {
                let start = if self.trim { self.after_blanks(block, start) } else { start };
                if self.quote.is_some() && block.get(start).copied() == self.quote {
                    return self.quoted(block, start, delimiter);
                }
                let mut end = find_end(block, start, delimiter);
                if let Some(comment) = self.inline_comment()
                    && let Some(at) = memchr(comment, &block[start..end])
                {
                    end = start + at;
                }
                let stop = if self.trim { self.before_blanks(block, start, end) } else { end };
                Cell { start, stop, end, quoted: false, escaped: false, broken: None }
            }
            None => {
                let comment = self.inline_comment();
                let is_end = |b: &u8| {
                    matches!(*b, b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C) || Some(*b) == comment
                };
                let end = block[start..].iter().position(is_end).map_or(block.len(), |n| start + n);
                Cell { start, stop: end, end, quoted: false, escaped: false, broken: None }
            }
        }
    }

    fn inline_comment(&self) -> Option<u8> {
        self.comment.filter(|_| self.inline)
    }

    /// A blank or a tab that is no delimiter.
    fn is_blank(&self, byte: u8) -> bool {
        matches!(byte, b' ' | b'\t') && Some(byte) != self.delimiter
    }

    fn after_blanks(&self, block: &[u8], mut at: usize) -> usize {
        while block.get(at).is_some_and(|&b| self.is_blank(b)) {
            at += 1;
        }
        at
    }

    fn before_blanks(&self, block: &[u8], start: usize, mut end: usize) -> usize {
        while end > start && self.is_blank(block[end - 1]) {
            end -= 1;
        }
        end
    }

    fn quoted(&self, block: &[u8], open: usize, delimiter: u8) -> Cell {
        let (quote, start) = (block[open], open + 1);
        let (mut at, mut escaped) = (start, false);
        loop {
            let Some(n) = memchr(quote, &block[at..]) else {
                let end = block.len();
                return Cell {
                    start,
                    stop: end,
                    end,
                    quoted: true,
                    escaped,
                    broken: Some(Broken::Open),
                };
            };
            let stop = at + n;
            if block.get(stop + 1) == Some(&quote) {
                escaped = true;
                at = stop + 2;
                continue;
            }
            let behind = if self.trim { self.after_blanks(block, stop + 1) } else { stop + 1 };
            let (end, broken) = match block.get(behind) {
                None => (block.len(), None),
                Some(&b) if b == delimiter || b == b'\n' || b == b'\r' => (behind, None),
                Some(_) => (find_end(block, behind, delimiter), Some(Broken::Continued)),
            };
            return Cell { start, stop, end, quoted: true, escaped, broken };
        }
    }

    /// The cell's text, quotes undone.
    pub fn content<'a>(&self, block: &'a [u8], cell: Cell) -> Cow<'a, [u8]> {
        let raw = &block[cell.start..cell.stop];
        let Some(quote) = self.quote.filter(|_| cell.escaped) else { return Cow::Borrowed(raw) };
        let mut text = Vec::with_capacity(raw.len());
        let mut rest = raw;
        while let Some(at) = memchr(quote, rest) {
            text.extend_from_slice(&rest[..=at]);
            rest = rest.get(at + 2..).unwrap_or_default();
        }
        text.extend_from_slice(rest);
        Cow::Owned(text)
    }

    /// Where the next row begins at or after `at`, a line's start: comments are skipped, and blank
    /// lines unless they are rows. `block.len()` where no row follows.
    pub fn row_start(&self, block: &[u8], mut at: usize) -> usize {
        loop {
            let look = self.line_start(block, at);
            match block.get(look) {
                None => return block.len(),
                Some(b'\n' | b'\r') if self.blank_rows => return look,
                Some(b'\n' | b'\r') => at = look + 1,
                Some(b) if Some(*b) == self.comment => {
                    at = memchr2(b'\n', b'\r', &block[look..])
                        .map_or(block.len(), |n| self.line_end(block, look + n));
                }
                Some(_) => return look,
            }
        }
    }

    /// Past the blanks that a line may begin with.
    fn line_start(&self, block: &[u8], mut at: usize) -> usize {
        if self.delimiter.is_none() {
            while matches!(block.get(at), Some(b' ' | b'\t' | 0x0B | 0x0C)) {
                at += 1;
            }
        } else if self.trim {
            at = self.after_blanks(block, at);
        }
        at
    }

    /// Behind a cell: the next cell's start, or `Err` with the next line's start.
    ///
    /// # Errors
    /// No error: the row ended.
    #[inline]
    pub fn advance(&self, block: &[u8], end: usize) -> Result<usize, usize> {
        let Some(delimiter) = self.delimiter else { return self.advance_blanks(block, end) };
        match block.get(end) {
            Some(&b) if b == delimiter => Ok(end + 1),
            Some(b'\n') => Err(end + 1),
            None => Err(block.len()),
            Some(_) => Err(self.line_end(block, end)),
        }
    }

    fn advance_blanks(&self, block: &[u8], mut end: usize) -> Result<usize, usize> {
        while matches!(block.get(end), Some(b' ' | b'\t' | 0x0B | 0x0C)) {
            end += 1;
        }
        match block.get(end) {
            Some(b'\n' | b'\r') | None => Err(self.line_end(block, end)),
            Some(b) if Some(*b) == self.inline_comment() => Err(self.line_end(block, end)),
            Some(_) => Ok(end),
        }
    }

    /// Past `\n`, `\r\n`, `\r` or a comment and its line end.
    fn line_end(&self, block: &[u8], mut end: usize) -> usize {
        if block.get(end).is_some_and(|b| !matches!(b, b'\n' | b'\r')) {
            end = memchr2(b'\n', b'\r', &block[end..]).map_or(block.len(), |n| end + n);
        }
        if block.get(end) == Some(&b'\r') && block.get(end + 1) == Some(&b'\n') {
            end += 1;
        }
        (end + 1).min(block.len())
    }

    /// Whether `content` is one of the null words that hold for this kind of column.
    pub fn is_null(&self, content: &[u8], text_column: bool) -> bool {
        match &self.nulls {
            Some(list) => list.iter().any(|w| w == content),
            None if text_column => false,
            None => content.len() <= 8 && NULL_WORDS.iter().any(|w| w.as_bytes() == content),
        }
    }

    /// The end of the last whole row of `block`, which begins at a row's start; 0 where none ends
    /// in it.
    pub fn last_row_end(&self, block: &[u8]) -> usize {
        let Some(quote) = self.quote.filter(|&quote| memchr(quote, block).is_some()) else {
            return last_line_end(block);
        };
        let delimiter = self.delimiter.unwrap_or(b',');
        // `row_end`: behind the last line end that is not within quotes.
        let (mut at, mut row_end) = (0, 0);
        loop {
            let Some(n) = memchr(quote, &block[at..]) else {
                return match last_line_end(&block[at..]) {
                    0 => row_end,
                    n => at + n,
                };
            };
            let open = at + n;
            if let Some(n) = memrchr2(b'\n', b'\r', &block[at..open]) {
                row_end = at + n + 1;
            }
            let cell = if self.trim { self.before_blanks(block, row_end, open) } else { open };
            let opens = cell == row_end || cell > at && block[cell - 1] == delimiter;
            if !opens || block.get(self.line_start(block, row_end)).copied() == self.comment {
                at = open + 1;
                continue;
            }
            let mut from = open + 1;
            loop {
                match memchr(quote, &block[from..]) {
                    None => return row_end,
                    Some(n) if block.get(from + n + 1) == Some(&quote) => from += n + 2,
                    // A quote that is the block's last byte may be the first half of a doubled one.
                    Some(n) if from + n + 1 == block.len() => return row_end,
                    Some(n) => {
                        at = from + n + 1;
                        break;
                    }
                }
            }
        }
    }
}

/// Behind the last line end; a `\r` that is the last byte may be the first half of one.
fn last_line_end(block: &[u8]) -> usize {
    match memrchr2(b'\n', b'\r', block) {
        Some(n) if n + 1 == block.len() && block[n] == b'\r' => {
            memrchr2(b'\n', b'\r', &block[..n]).map_or(0, |n| n + 1)
        }
        n => n.map_or(0, |n| n + 1),
    }
}

#[inline]
fn find_end(block: &[u8], start: usize, delimiter: u8) -> usize {
    // Most cells are short: a plain look at the first bytes saves the call.
    let short = &block[start..block.len().min(start + 16)];
    for (n, &b) in short.iter().enumerate() {
        if b == delimiter || b == b'\n' || b == b'\r' {
            return start + n;
        }
    }
    let from = start + short.len();
    memchr3(delimiter, b'\n', b'\r', &block[from..]).map_or(block.len(), |n| from + n)
}

/// The cells of the row that begins at `start`, at most `most`, and where the next line begins.
pub fn cells(dialect: &Dialect, block: &[u8], start: usize, most: usize) -> (Vec<Cell>, usize) {
    let mut found = Vec::new();
    let (_, next) = row_cells(dialect, block, start, &mut |cell| {
        found.push(cell);
        found.len() < most
    });
    (found, next)
}

/// Hands on the cells of the row that begins at `start` until one is not taken; how many there were,
/// and where the next line begins.
pub fn row_cells(
    dialect: &Dialect,
    block: &[u8],
    start: usize,
    each: &mut dyn FnMut(Cell) -> bool,
) -> (usize, usize) {
    let (mut count, mut pos) = (0, start);
    loop {
        let cell = dialect.cell(block, pos);
        count += 1;
        let more = each(cell);
        match dialect.advance(block, cell.end) {
            Ok(next) if more => pos = next,
            Ok(next) | Err(next) => return (count, next),
        }
    }
}
