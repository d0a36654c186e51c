//! The header of an `.npy` file, and the types it describes.
//! <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>
//!
//! | bytes | what |
//! |---|---|
//! | 0..6 | `\x93NUMPY` |
//! | 6, 7 | version, major and minor: 1.0, 2.0 or 3.0 |
//! | 8..10 (1.0), 8..12 (2.0, 3.0) | length of the rest of the header, little-endian |
//! | … | a Python literal, `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`, blanks, `\n`; Latin-1 (3.0: UTF-8) |
//!
//! The literal is read by a parser of literals alone. Nothing in it is ever run.

use super::numpy_types::{self, Descr};
use crate::error::{Error, Result};

/// The signature.
pub const MAGIC: &[u8] = b"\x93NUMPY";
/// Longer headers are refused; numpy itself stops at 10,000 bytes unless told otherwise.
const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Nesting of the literal.
const MAX_DEPTH: usize = 32;

/// What the header says.
#[derive(Clone, Debug)]
pub struct Header {
    /// `1.0`, `2.0`, `3.0`.
    pub version: String,
    /// The element type.
    pub descr: Descr,
    /// The first index runs fastest.
    pub fortran: bool,
    /// The shape.
    pub shape: Vec<u64>,
    /// Where the values begin.
    pub data_offset: u64,
}

/// The error of a file that ends before its values begin.
pub fn truncated() -> Error {
    Error::corrupt("the file is truncated: it ends inside its header").hint("fetch the file again")
}

/// The length of the whole header, from the first bytes of a file (at least 12 where the file has
/// them).
///
/// # Errors
/// Not an npy file; an unknown version.
pub fn header_bytes(head: &[u8]) -> Result<u64> {
    if !head.starts_with(MAGIC) {
        return Err(Error::corrupt("the npy signature is missing"));
    }
    let (&major, &minor) = (head.get(6).ok_or_else(truncated)?, head.get(7).ok_or_else(truncated)?);
    let total = match (major, minor) {
        (1, 0) => {
            10 + u64::from(u16::from_le_bytes(
                head.get(8..10).and_then(|b| b.try_into().ok()).ok_or_else(truncated)?,
            ))
        }
        (2 | 3, 0) => {
            12 + u64::from(u32::from_le_bytes(
                head.get(8..12).and_then(|b| b.try_into().ok()).ok_or_else(truncated)?,
            ))
        }
        _ => return Err(Error::refused(format!("npy version {major}.{minor} is not supported"))),
    };
    if total > MAX_HEADER_BYTES {
        return Err(Error::corrupt(format!("a header of {total} bytes is too large")));
    }
    Ok(total)
}

/// Parses a whole header (exactly [`header_bytes`] of them).
///
/// # Errors
/// Corrupt headers.
pub fn parse(bytes: &[u8]) -> Result<Header> {
    let total = header_bytes(bytes)?;
    let start = if bytes[6] == 1 { 10 } else { 12 };
    let text = bytes.get(start..total as usize).ok_or_else(truncated)?;
    let text = match bytes[6] {
        3 => String::from_utf8(text.to_vec())
            .map_err(|_| Error::corrupt("the header is not UTF-8"))?,
        _ => text.iter().map(|&b| b as char).collect(),
    };
    let mut parser = Parser { text: &text, at: 0 };
    let value = parser.value(0)?;
    parser.blanks();
    if parser.at != text.len() {
        return Err(parser.wrong("the end"));
    }
    let Value::Dict(pairs) = value else {
        return Err(Error::corrupt("the header is not a dictionary"));
    };
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    for (key, value) in pairs {
        let again = match (key.as_str(), value) {
            ("descr", v) => descr.replace(self::descr(v)?).is_some(),
            ("fortran_order", Value::Bool(b)) => fortran.replace(b).is_some(),
            ("shape", v) => shape.replace(dims(v)?).is_some(),
            ("fortran_order", _) => {
                return Err(Error::corrupt("fortran_order is neither True nor False"));
            }
            _ => return Err(Error::corrupt(format!("the header has an unknown key '{key}'"))),
        };
        if again {
            return Err(Error::corrupt(format!("the header has '{key}' twice")));
        }
    }
    let missing = |key: &str| Error::corrupt(format!("the header has no '{key}'"));
    Ok(Header {
        version: format!("{}.{}", bytes[6], bytes[7]),
        descr: descr.ok_or_else(|| missing("descr"))?,
        fortran: fortran.ok_or_else(|| missing("fortran_order"))?,
        shape: shape.ok_or_else(|| missing("shape"))?,
        data_offset: total,
    })
}

enum Value {
    Text(String),
    Int(u64),
    Bool(bool),
    None,
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(String, Value)>),
}

fn dims(value: Value) -> Result<Vec<u64>> {
    let one = |v: Value| match v {
        Value::Int(n) => Ok(n),
        _ => Err(Error::corrupt("the shape holds something that is not a size")),
    };
    match value {
        Value::Tuple(items) => items.into_iter().map(one).collect(),
        Value::Int(n) => Ok(vec![n]),
        _ => Err(Error::corrupt("the shape is not a tuple")),
    }
}

fn descr(value: Value) -> Result<Descr> {
    let wrong = || Error::corrupt("the header's descr is not a type");
    match value {
        Value::Text(t) => numpy_types::descr(&t),
        Value::Tuple(items) => {
            let mut items = items.into_iter();
            let (Some(base), Some(shape), None) = (items.next(), items.next(), items.next()) else {
                return Err(wrong());
            };
            Ok(Descr::Array(Box::new(descr(base)?), dims(shape)?))
        }
        // A list without fields is a type, too, of which there is nothing to read.
        Value::List(items) => {
            let mut fields = Vec::with_capacity(items.len());
            for item in items {
                let Value::Tuple(parts) = item else { return Err(wrong()) };
                let mut parts = parts.into_iter();
                let name = match parts.next() {
                    Some(Value::Text(name)) => name,
                    Some(Value::Tuple(title)) => match title.into_iter().nth(1) {
                        Some(Value::Text(name)) => name,
                        _ => return Err(wrong()),
                    },
                    _ => return Err(wrong()),
                };
                let base = descr(parts.next().ok_or_else(wrong)?)?;
                let field = match (parts.next(), parts.next()) {
                    (None, _) => base,
                    (Some(shape), None) => Descr::Array(Box::new(base), dims(shape)?),
                    _ => return Err(wrong()),
                };
                fields.push((name, field));
            }
            Ok(Descr::Fields(fields))
        }
        _ => Err(wrong()),
    }
}

/// Reads Python literals: strings, sizes, booleans, None, tuples, lists, dictionaries with text
/// keys.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn wrong(&self, wanted: &str) -> Error {
        Error::corrupt(format!("the header lacks {wanted} at its character {}", self.at))
    }
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }
    fn take(&mut self, c: u8) -> bool {
        self.blanks();
        let is = self.peek() == Some(c);
        self.at += usize::from(is);
        is
    }
    fn word(&mut self, word: &str) -> bool {
        let is = self.text[self.at..].starts_with(word);
        if is {
            self.at += word.len();
        }
        is
    }

    fn value(&mut self, depth: usize) -> Result<Value> {
        if depth > MAX_DEPTH {
            return Err(Error::corrupt(format!(
                "the header is nested more than {MAX_DEPTH} levels deep"
            )));
        }
        self.blanks();
        match self.peek() {
            Some(b'(') => {
                self.at += 1;
                let (mut items, comma) = self.items(b')', depth)?;
                match (items.pop(), items.is_empty(), comma) {
                    (Some(only), true, false) => Ok(only),
                    (Some(last), ..) => {
                        items.push(last);
                        Ok(Value::Tuple(items))
                    }
                    (None, ..) => Ok(Value::Tuple(items)),
                }
            }
            Some(b'[') => {
                self.at += 1;
                Ok(Value::List(self.items(b']', depth)?.0))
            }
            Some(b'{') => {
                self.at += 1;
                let mut pairs = Vec::new();
                while !self.take(b'}') {
                    let Value::Text(key) = self.value(depth + 1)? else {
                        return Err(self.wrong("a text key"));
                    };
                    if !self.take(b':') {
                        return Err(self.wrong("a colon"));
                    }
                    pairs.push((key, self.value(depth + 1)?));
                    if !self.take(b',') {
                        if self.take(b'}') {
                            break;
                        }
                        return Err(self.wrong("a comma"));
                    }
                }
                Ok(Value::Dict(pairs))
            }
            Some(b'0'..=b'9') => {
                let digits = self.text[self.at..].bytes().take_while(u8::is_ascii_digit).count();
                let n = self.text[self.at..self.at + digits]
                    .parse()
                    .map_err(|_| self.wrong("a size"))?;
                self.at += digits;
                self.word("L"); // Python 2 wrote long integers so
                Ok(Value::Int(n))
            }
            Some(b'T') if self.word("True") => Ok(Value::Bool(true)),
            Some(b'F') if self.word("False") => Ok(Value::Bool(false)),
            Some(b'N') if self.word("None") => Ok(Value::None),
            Some(b'u' | b'b')
                if matches!(self.text.as_bytes().get(self.at + 1), Some(b'\'' | b'"')) =>
            {
                self.at += 1;
                self.string()
            }
            Some(b'\'' | b'"') => self.string(),
            _ => Err(self.wrong("a value")),
        }
    }

    /// Up to the closing bracket; also whether a comma followed the last item.
    fn items(&mut self, close: u8, depth: usize) -> Result<(Vec<Value>, bool)> {
        let mut items = Vec::new();
        let mut comma = false;
        while !self.take(close) {
            if !items.is_empty() && !comma {
                return Err(self.wrong("a comma"));
            }
            items.push(self.value(depth + 1)?);
            comma = self.take(b',');
        }
        Ok((items, comma))
    }

    fn string(&mut self) -> Result<Value> {
        let Some(quote) = self.peek() else { return Err(self.wrong("a string")) };
        self.at += 1;
        let mut out = String::new();
        loop {
            let Some(c) = self.text[self.at..].chars().next() else {
                return Err(self.wrong("a closing quote"));
            };
            self.at += c.len_utf8();
            match c {
                c if c == quote as char => return Ok(Value::Text(out)),
                '\\' => {
                    let Some(c) = self.text[self.at..].chars().next() else {
                        return Err(self.wrong("a closing quote"));
                    };
                    self.at += c.len_utf8();
                    match c {
                        '\\' | '\'' | '"' => out.push(c),
                        'n' => out.push('\n'),
                        't' => out.push('\t'),
                        'r' => out.push('\r'),
                        'x' => out.push(self.code(2)?),
                        'u' => out.push(self.code(4)?),
                        'U' => out.push(self.code(8)?),
                        _ => return Err(self.wrong("a known escape")),
                    }
                }
                c => out.push(c),
            }
        }
    }

    fn code(&mut self, digits: usize) -> Result<char> {
        let text = self
            .text
            .get(self.at..self.at + digits)
            .filter(|t| t.bytes().all(|b| b.is_ascii_hexdigit()));
        let c = text.and_then(|t| u32::from_str_radix(t, 16).ok()).and_then(char::from_u32);
        self.at += digits;
        c.ok_or_else(|| Error::corrupt("the header holds an escape that is not a character"))
    }
}

/// A header for values in C order, as numpy writes it: padded to a multiple of 64 bytes, with room
/// for a longer first dimension.
pub fn write(spelled: &str, shape: &[u64]) -> Vec<u8> {
    let tuple = match shape {
        [] => "()".to_string(),
        [one] => format!("({one},)"),
        many => format!("({})", many.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
    };
    let mut text = format!("{{'descr': '{spelled}', 'fortran_order': False, 'shape': {tuple}, }}");
    if let Some(rows) = shape.first() {
        text.push_str(&" ".repeat(21usize.saturating_sub(rows.to_string().len())));
    }
    let version = if text.len() + 1 + 64 > usize::from(u16::MAX) { 2u8 } else { 1 };
    let prefix = if version == 1 { 10 } else { 12 };
    let padding = 64 - (prefix + text.len() + 1) % 64;
    text.push_str(&" ".repeat(padding));
    text.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([version, 0]);
    match version {
        1 => bytes.extend((text.len() as u16).to_le_bytes()),
        _ => bytes.extend((text.len() as u32).to_le_bytes()),
    }
    bytes.extend(text.as_bytes());
    bytes
}
