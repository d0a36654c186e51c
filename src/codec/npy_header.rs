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

use super::numpy_types;
use crate::error::{Error, Result};
use crate::model::{Dtype, Logical, TimeUnit};

/// The signature.
pub const MAGIC: &[u8] = b"\x93NUMPY";
/// Longer headers are refused; numpy itself stops at 10,000 bytes unless told otherwise.
const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Nesting of the literal.
const MAX_DEPTH: usize = 32;
/// Stands for the name of the gaps between fields.
const PADDING: &str = "\0";

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

/// An element type as the header spells it.
#[derive(Clone, Debug, PartialEq)]
pub enum Descr {
    /// `<f4`.
    Simple(String),
    /// A type with a shape of its own.
    Array(Box<Descr>, Vec<u64>),
    /// A structured type: fields in order.
    Fields(Vec<(String, Descr)>),
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
        Value::List(items) if !items.is_empty() => {
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

/// What one field (or the whole element) of an array holds.
#[derive(Clone, Debug)]
pub struct RecordField {
    /// The path of the field, `a.b`; empty for an element without fields.
    pub name: String,
    /// Its offset in the record.
    pub offset: u64,
    /// Its type.
    pub item: Item,
    /// The field's own shape.
    pub dims: Vec<u64>,
}

/// An element type of fixed size.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it is.
    pub kind: ElementType,
    /// Bytes of one.
    pub bytes: u64,
    /// Bytes of the unit whose byte order is turned; 0 where it is ours.
    pub swap_bytes: usize,
    /// As the header spells it.
    pub spelled: String,
}

/// What an element is.
#[derive(Clone, Debug)]
pub enum ElementType {
    /// A type of the model.
    Fixed(Dtype, Logical),
    /// Text in UCS-4, padded with zeros.
    Text,
    /// Bytes, padded with zeros.
    Bytes,
    /// A type that is refused, with the reason; pickled objects have no fixed size.
    Refused {
        /// Why.
        why: String,
        /// What could help.
        hint: Option<&'static str>,
        /// Whether the size of the data follows from the size of the element.
        sized: bool,
    },
}

/// The fields of a type, flattened, and the bytes of a whole element.
///
/// # Errors
/// Types that numpy does not know; sizes that overflow.
pub fn leaves(descr: &Descr) -> Result<(Vec<RecordField>, u64)> {
    let mut all = Vec::new();
    let bytes = walk(descr, String::new(), 0, &[], &mut all)?;
    if all.is_empty() {
        return Err(Error::refused("the element type has no fields"));
    }
    Ok((all, bytes))
}

fn walk(
    descr: &Descr,
    name: String,
    offset: u64,
    outer: &[u64],
    all: &mut Vec<RecordField>,
) -> Result<u64> {
    let large = || Error::corrupt("the element type is too large");
    match descr {
        Descr::Simple(text) => {
            let item = item(text)?;
            let bytes = item.bytes;
            if name != PADDING {
                all.push(RecordField { name, offset, item, dims: outer.to_vec() });
            } else if !matches!(item.kind, ElementType::Refused { sized: true, .. }) {
                return Err(Error::corrupt("a field of the element type has no name"));
            }
            Ok(bytes)
        }
        Descr::Array(base, dims) => {
            let mut shape = outer.to_vec();
            shape.extend(dims);
            if matches!(**base, Descr::Fields(_)) && dims.iter().any(|&d| d != 1) {
                // An array of records inside a record: no array of the model lies so.
                let (_, bytes) = leaves(base)?;
                let count = crate::model::checked_product(dims).ok_or_else(large)?;
                let kind = ElementType::Refused {
                    why: "an array of records inside a record is not supported".into(),
                    hint: None,
                    sized: true,
                };
                let total = bytes.checked_mul(count).ok_or_else(large)?;
                all.push(RecordField {
                    name,
                    offset,
                    item: Item { kind, bytes: total, swap_bytes: 0, spelled: "record".into() },
                    dims: vec![],
                });
                return Ok(total);
            }
            let bytes = walk(base, name, offset, &shape, all)?;
            let count = crate::model::checked_product(dims).ok_or_else(large)?;
            bytes.checked_mul(count).filter(|&n| n < 1 << 48).ok_or_else(large)
        }
        Descr::Fields(fields) => {
            let mut at = 0u64;
            for (field, descr) in fields {
                // numpy writes the gaps of aligned records as fields without a name.
                let path = match (field.is_empty(), name.is_empty()) {
                    (true, _) => PADDING.to_string(),
                    (false, true) => field.clone(),
                    (false, false) => format!("{name}.{field}"),
                };
                at = at
                    .checked_add(walk(descr, path, offset + at, outer, all)?)
                    .filter(|&n| n < 1 << 48)
                    .ok_or_else(large)?;
            }
            Ok(at)
        }
    }
}

/// The type of this spelling: `<f4`, `>M8[ns]`, `|S10`, and whatever else [`numpy_types`] knows.
fn item(text: &str) -> Result<Item> {
    let unknown = || Error::corrupt(format!("numpy knows no type '{text}'"));
    let canonical = numpy_types::canonical(text).ok_or_else(unknown)?;
    let (order, rest) = canonical.split_at(1);
    let big = order == ">";
    let code = rest.chars().next().ok_or_else(unknown)?;
    let rest = &rest[code.len_utf8()..];
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let size: Option<u64> =
        if digits == 0 { None } else { Some(rest[..digits].parse().map_err(|_| unknown())?) };
    let tail = &rest[digits..];
    if !tail.is_empty() && !matches!(code, 'M' | 'm') {
        return Err(unknown());
    }
    let spelled = text.to_string();
    let fixed = |dtype: Dtype, logical: Logical, unit: u64| {
        let swap_bytes = if big && unit > 1 { unit as usize } else { 0 };
        Ok(Item {
            kind: ElementType::Fixed(dtype, logical),
            bytes: dtype.item_bytes(),
            swap_bytes,
            spelled: spelled.clone(),
        })
    };
    let refused = |bytes: u64, why: String, hint: Option<&'static str>, sized: bool| {
        Ok(Item {
            kind: ElementType::Refused { why, hint, sized },
            bytes,
            swap_bytes: 0,
            spelled: spelled.clone(),
        })
    };
    let plain = |d: Dtype, unit: u64| fixed(d, Logical::Plain, unit);
    match (code, size) {
        ('b', Some(1)) => plain(Dtype::Bool, 1),
        ('i', Some(1)) => plain(Dtype::I8, 1),
        ('i', Some(2)) => plain(Dtype::I16, 2),
        ('i', Some(4)) => plain(Dtype::I32, 4),
        ('i', Some(8)) => plain(Dtype::I64, 8),
        ('u', Some(1)) => plain(Dtype::U8, 1),
        ('u', Some(2)) => plain(Dtype::U16, 2),
        ('u', Some(4)) => plain(Dtype::U32, 4),
        ('u', Some(8)) => plain(Dtype::U64, 8),
        ('f', Some(2)) => plain(Dtype::F16, 2),
        ('f', Some(4)) => plain(Dtype::F32, 4),
        ('f', Some(8)) => plain(Dtype::F64, 8),
        ('c', Some(8)) => plain(Dtype::C64, 4),
        ('c', Some(16)) => plain(Dtype::C128, 8),
        ('f', Some(n @ (10 | 12 | 16))) | ('c', Some(n @ (20 | 24 | 32))) => refused(
            n,
            format!(
                "the type {text} (long double) is not supported: its bytes differ from machine to machine"
            ),
            Some("save it as float64 or complex128 with numpy"),
            true,
        ),
        ('M' | 'm', Some(8)) => {
            let unit = match tail.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
                None if tail.is_empty() => TimeUnit::new("generic"),
                Some(unit) => TimeUnit::parse(unit).ok_or_else(unknown)?,
                None => return Err(unknown()),
            };
            let logical =
                if code == 'M' { Logical::Datetime(unit) } else { Logical::Timedelta(unit) };
            fixed(Dtype::I64, logical, 8)
        }
        ('U', Some(n)) => {
            let bytes = n.checked_mul(4).filter(|&n| n < 1 << 40).ok_or_else(unknown)?;
            Ok(Item {
                kind: ElementType::Text,
                bytes,
                swap_bytes: if big { 4 } else { 0 },
                spelled,
            })
        }
        ('S', Some(n)) if n < 1 << 40 => {
            Ok(Item { kind: ElementType::Bytes, bytes: n, swap_bytes: 0, spelled })
        }
        ('V', Some(n)) if n < 1 << 40 => refused(
            n,
            format!("the type {text} (void: bytes without a meaning) is not supported"),
            Some("bfloat16 and float8 lose their type in npy: save them as safetensors"),
            true,
        ),
        ('O', _) | ('T', _) => refused(
            0,
            "holds pickled Python objects, which are never run".into(),
            Some("save it with a plain dtype with numpy, or leave it out with -x"),
            false,
        ),
        _ => Err(unknown()),
    }
}

/// numpy's spelling of a type of the model; `None` for what numpy lacks.
pub fn spell(dtype: Dtype, logical: &Logical) -> Option<String> {
    let time = |code: char, unit: &TimeUnit| {
        if unit.base == "generic" { format!("<{code}8") } else { format!("<{code}8[{unit}]") }
    };
    match logical {
        Logical::Datetime(u) | Logical::Timestamp(u, None) => Some(time('M', u)),
        Logical::Timedelta(u) | Logical::Duration(u) => Some(time('m', u)),
        Logical::Plain => dtype.numpy().map(str::to_string),
        _ => None,
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
