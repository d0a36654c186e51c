//! The dialect of a text table: what separates cells and rows, and what begins a comment.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memchr3, memrchr};

use super::number::Reader;

/// Words that mean "no value" in columns of numbers and booleans (pandas' list without the spellings of NaN).
pub const NULL_WORDS: &[&str] = &["NA", "N/A", "n/a", "NULL", "null", "None", "<NA>", "#N/A", "#NA", "#N/A N/A"];

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
    /// Whether doubled quotes, or text after the closing quote, need undoing; `start` is then at the opening quote.
    pub escaped: bool,
    /// Whether its closing quote is missing.
    pub open: bool,
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
            Some(delimiter) if self.quote.is_some() && block.get(start).copied() == self.quote => self.quoted(block, start, delimiter),
            Some(delimiter) => {
                let mut end = find_end(block, start, delimiter);
                if let Some(comment) = self.inline_comment()
                    && let Some(at) = memchr(comment, &block[start..end])
                {
                    end = start + at;
                }
                Cell { start, stop: end, end, quoted: false, escaped: false, open: false }
            }
            None => {
                let comment = self.inline_comment();
                let is_end = |b: &u8| matches!(*b, b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C) || Some(*b) == comment;
                let end = block[start..].iter().position(is_end).map_or(block.len(), |n| start + n);
                Cell { start, stop: end, end, quoted: false, escaped: false, open: false }
            }
        }
    }

    fn inline_comment(&self) -> Option<u8> {
        self.comment.filter(|_| self.inline)
    }

    fn quoted(&self, block: &[u8], start: usize, delimiter: u8) -> Cell {
        let quote = block[start];
        let (mut at, mut escaped) = (start + 1, false);
        loop {
            match memchr(quote, &block[at..]) {
                None => return Cell { start: start + 1, stop: block.len(), end: block.len(), quoted: true, escaped: false, open: true },
                Some(n) if block.get(at + n + 1) == Some(&quote) => {
                    escaped = true;
                    at += n + 2;
                }
                Some(n) => {
                    let close = at + n;
                    let end = match block.get(close + 1) {
                        None => block.len(),
                        Some(&b) if b == delimiter || b == b'\n' || b == b'\r' => close + 1,
                        Some(_) => {
                            escaped = true;
                            find_end(block, close + 1, delimiter)
                        }
                    };
                    return if escaped {
                        Cell { start, stop: end, end, quoted: true, escaped: true, open: false }
                    } else {
                        Cell { start: start + 1, stop: close, end, quoted: true, escaped: false, open: false }
                    };
                }
            }
        }
    }

    /// The cell's text, quotes undone.
    pub fn content<'a>(&self, block: &'a [u8], cell: Cell) -> Cow<'a, [u8]> {
        if !cell.escaped {
            return Cow::Borrowed(&block[cell.start..cell.stop]);
        }
        let raw = &block[cell.start..cell.stop];
        let quote = self.quote.unwrap_or(b'"');
        let mut text = Vec::with_capacity(raw.len());
        let (mut at, mut inside) = (1, true);
        while at < raw.len() {
            if inside && raw[at] == quote {
                if raw.get(at + 1) == Some(&quote) {
                    text.push(quote);
                    at += 2;
                    continue;
                }
                inside = false;
                at += 1;
                continue;
            }
            text.push(raw[at]);
            at += 1;
        }
        Cow::Owned(text)
    }

    /// Where the next row begins at or after `at`, a line's start: blank lines and comments are skipped.
    /// `block.len()` where no row follows.
    pub fn row_start(&self, block: &[u8], mut at: usize) -> usize {
        loop {
            let mut look = at;
            if self.delimiter.is_none() {
                while matches!(block.get(look), Some(b' ' | b'\t' | 0x0B | 0x0C)) {
                    look += 1;
                }
            }
            match block.get(look) {
                None => return block.len(),
                Some(b'\n' | b'\r') => at = look + 1,
                Some(b) if Some(*b) == self.comment => {
                    at = memchr2(b'\n', b'\r', &block[look..]).map_or(block.len(), |n| look + n + 1);
                }
                Some(_) => return look,
            }
        }
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

    /// The end of the last whole row of `block`, which begins at a row's start; 0 where none ends in it.
    pub fn last_row_end(&self, block: &[u8]) -> usize {
        let Some(quote) = self.quote else { return memrchr(b'\n', block).map_or(0, |n| n + 1) };
        if memchr(quote, block).is_none() {
            return memrchr(b'\n', block).map_or(0, |n| n + 1);
        }
        let delimiter = self.delimiter.unwrap_or(b',');
        let (mut at, mut row_end) = (0, 0);
        loop {
            let Some(n) = memchr(quote, &block[at..]) else {
                return memrchr(b'\n', &block[at..]).map_or(row_end, |n| at + n + 1);
            };
            let open = at + n;
            if let Some(n) = memrchr(b'\n', &block[at..open]) {
                row_end = at + n + 1;
            }
            let before = if open == 0 { b'\n' } else { block[open - 1] };
            if before != delimiter && before != b'\n' && before != b'\r' || self.in_comment(block, row_end, open) {
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

    /// Is the quote at `open` part of a comment line?
    fn in_comment(&self, block: &[u8], row_end: usize, open: usize) -> bool {
        let Some(comment) = self.comment else { return false };
        let line = memrchr(b'\n', &block[row_end..open]).map_or(row_end, |n| row_end + n + 1);
        block[line] == comment
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
