//! The spellings of a type that `numpy.dtype` takes, as numpy 2 on 64-bit Linux understands them.
//!
//! | spelled | means |
//! |---|---|
//! | `<f8`, `>i4`, `=u2`, `|S5`, `f8`, `i 4` | an order, a kind, a number of bytes (`U`: of characters) |
//! | `d`, `>l`, `?` | an order and a letter of a C type |
//! | `float64`, `double`, `int`, `str` | a name; it takes no order |
//! | `M8[ns]`, `datetime64[25s]`, `>m8[D]`, `M8[25s/4]` | a time and its unit |
//! | `i4, (2,3)f8`, `2i4` | a record of the fields f0, f1 …; a type with a shape |

use std::borrow::Cow;

use crate::error::{Error, Result};

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

/// The names, and what each means.
const NAMES: [(&str, &[&str]); 19] = [
    ("|b1", &["bool", "bool_"]),
    ("|i1", &["int8", "byte"]),
    ("|u1", &["uint8", "ubyte"]),
    ("<i2", &["int16", "short"]),
    ("<u2", &["uint16", "ushort"]),
    ("<i4", &["int32", "intc"]),
    ("<u4", &["uint32", "uintc"]),
    ("<i8", &["int64", "long", "longlong", "intp", "int_", "int"]),
    ("<u8", &["uint64", "ulong", "ulonglong", "uintp", "uint"]),
    ("<f2", &["float16", "half"]),
    ("<f4", &["float32", "single"]),
    ("<f8", &["float64", "double", "float"]),
    ("<f16", &["longdouble", "float128"]),
    ("<c8", &["complex64", "csingle"]),
    ("<c16", &["complex128", "cdouble", "complex"]),
    ("<c32", &["clongdouble", "complex256"]),
    ("|S0", &["bytes_", "bytes"]),
    ("<U0", &["str_", "str", "unicode"]),
    ("|V0", &["void"]),
];

/// The letters of C types: kind and bytes.
const LETTERS: [(char, &str); 27] = [
    ('?', "b1"),
    ('b', "i1"),
    ('B', "u1"),
    ('h', "i2"),
    ('H', "u2"),
    ('i', "i4"),
    ('I', "u4"),
    ('l', "i8"),
    ('L', "u8"),
    ('q', "i8"),
    ('Q', "u8"),
    ('p', "i8"),
    ('P', "u8"),
    ('n', "i8"),
    ('N', "u8"),
    ('e', "f2"),
    ('f', "f4"),
    ('d', "f8"),
    ('g', "f16"),
    ('F', "c8"),
    ('D', "c16"),
    ('G', "c32"),
    ('S', "S0"),
    ('a', "S0"),
    ('U', "U0"),
    ('V', "V0"),
    ('c', "S1"),
];

/// The type as `numpy.dtype(text).str` spells it; `None` for what numpy does not take, and for
/// records and shapes (see
/// [`descr`]). Long doubles of other machines keep their size.
pub fn canonical(text: &str) -> Option<Cow<'_, str>> {
    let (order, rest) = match text.as_bytes().first()? {
        b'>' => ('>', &text[1..]),
        b'<' | b'=' | b'|' => ('<', &text[1..]),
        _ => ('<', text),
    };
    let letter = rest.chars().next()?;
    let spelled = if let Some(time) = time(rest)? {
        time
    } else if rest.len() == letter.len_utf8() {
        match letter {
            'O' | 'T' => return Some(Cow::Owned(format!("|{letter}"))),
            'M' | 'm' => format!("{letter}8"),
            'a' if text.len() > 1 => return None,
            _ => LETTERS.iter().find(|(l, _)| *l == letter)?.1.to_string(),
        }
    } else if let Some(size) = number(&rest[letter.len_utf8()..]) {
        match (letter, size) {
            ('O', 4 | 8) => return Some(Cow::Borrowed("|O")),
            ('a', n) => format!("S{n}"),
            ('M' | 'm', 8) => format!("{letter}8"),
            ('S' | 'U' | 'V', _)
            | ('b', 1)
            | ('i' | 'u', 1 | 2 | 4 | 8)
            | ('f', 2 | 4 | 8 | 10 | 12 | 16)
            | ('c', 8 | 16 | 20 | 24 | 32) => format!("{letter}{size}"),
            _ => return None,
        }
    } else if matches!(text, "object" | "object_") {
        return Some(Cow::Borrowed("|O"));
    } else {
        return NAMES
            .iter()
            .find(|(_, names)| names.contains(&text))
            .map(|(spelled, _)| Cow::Borrowed(*spelled));
    };
    let order = if matches!(spelled.as_bytes(), [b'b' | b'S' | b'V', ..] | [_, b'1']) {
        '|'
    } else {
        order
    };
    Some(Cow::Owned(format!("{order}{spelled}")))
}

/// A size as C's `strtol` reads it.
fn number(text: &str) -> Option<u32> {
    let digits = text.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if is_number { digits.parse().ok().filter(|&n| n <= i32::MAX as u32) } else { None }
}

/// The spelling of a type of time: `Some(None)` where the text is of another type, `None` where its
/// unit is none.
fn time(text: &str) -> Option<Option<String>> {
    let known = [("M8", 'M'), ("m8", 'm'), ("datetime64", 'M'), ("timedelta64", 'm')];
    let Some((unit, letter)) =
        known.iter().find_map(|(name, letter)| Some((text.strip_prefix(name)?, letter)))
    else {
        return Some(None);
    };
    if unit.is_empty() {
        return Some(Some(format!("{letter}8")));
    }
    let unit = unit.strip_prefix('[')?.strip_suffix(']')?;
    let start = unit.len() - unit.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let count: u64 = if start == 0 { 1 } else { unit[..start].parse().ok()? };
    let (base, per) = match unit[start..].split_once('/') {
        Some((base, per)) => (base, per.parse().ok().filter(|&n: &u64| n > 0)?),
        None => (&unit[start..], 1),
    };
    let base = if base == "μs" { "us" } else { base };
    let (count, base) = if per == 1 { (count, base) } else { divided(count, base, per)? };
    match (base, count) {
        ("generic", _) => Some(Some(format!("{letter}8"))),
        (_, 1) => Some(Some(format!("{letter}8[{base}]"))),
        _ => Some(Some(format!("{letter}8[{count}{base}]"))),
    }
}

/// A part of a unit as a number of smaller ones, as numpy finds it.
fn divided(count: u64, base: &str, per: u64) -> Option<(u64, &'static str)> {
    let parts: &[(u64, &'static str)] = match base {
        "Y" => &[(12, "M"), (52, "W"), (365, "D")],
        "M" => &[(4, "W"), (30, "D"), (720, "h")],
        "W" => &[(7, "D"), (168, "h"), (10_080, "m")],
        "D" => &[(24, "h"), (1440, "m"), (86_400, "s")],
        "h" => &[(60, "m"), (3600, "s")],
        "m" => &[(60, "s"), (60_000, "ms")],
        "s" => &[(1000, "ms"), (1_000_000, "us")],
        "ms" => &[(1000, "us"), (1_000_000, "ns")],
        "us" => &[(1000, "ns"), (1_000_000, "ps")],
        "ns" => &[(1000, "ps"), (1_000_000, "fs")],
        "ps" => &[(1000, "fs"), (1_000_000, "as")],
        "fs" => &[(1000, "as")],
        _ => return None,
    };
    let (times, smaller) = parts.iter().find(|(times, _)| times % per == 0)?;
    Some((count.checked_mul(times / per)?, smaller))
}

/// The type that a header's text names: a simple one, a record of `f0`, `f1` …, or a type with a
/// shape.
///
/// # Errors
/// What numpy does not take.
pub fn descr(text: &str) -> Result<Descr> {
    if !is_list(text) {
        return Ok(Descr::Simple(text.to_string()));
    }
    let wrong = || Error::corrupt(format!("numpy knows no type '{text}'"));
    let (mut fields, mut rest, mut is_record) = (Vec::new(), text, false);
    while !rest.is_empty() {
        let (field, after) = listed(rest).ok_or_else(wrong)?;
        fields.push((format!("f{}", fields.len()), field));
        rest = after.trim_ascii_start();
        if !rest.is_empty() {
            rest = rest.strip_prefix(',').ok_or_else(wrong)?.trim_ascii_start();
            is_record = true;
        }
    }
    if is_record { Ok(Descr::Fields(fields)) } else { fields.pop().map(|f| f.1).ok_or_else(wrong) }
}

/// Whether a text lists types: it has a comma outside of square brackets, or begins with a number
/// or a shape.
fn is_list(text: &str) -> bool {
    let rest = text.trim_start_matches(['<', '>', '=', '|']);
    if rest.len() + 1 >= text.len()
        && (rest.starts_with(|c: char| c.is_ascii_digit()) || rest.starts_with("()"))
    {
        return true;
    }
    let mut depth = 0;
    text.bytes().any(|b| {
        depth += i32::from(b == b'[') - i32::from(b == b']');
        b == b',' && depth == 0
    })
}

/// One type of a list and what follows it: `<2i4`, `(2, 3)>f8`, `U5`.
fn listed(text: &str) -> Option<(Descr, &str)> {
    let is_order = |c: char| matches!(c, '<' | '>' | '=' | '|');
    let order = |text: &'_ str| text.chars().next().filter(|&c| is_order(c));
    let first = order(text);
    let rest = &text[usize::from(first.is_some())..];
    let (shape, rest) = if let Some(inside) = rest.strip_prefix('(') {
        let (inside, rest) = inside.split_once(')')?;
        (Some(dims(inside)?), rest.trim_start_matches(' '))
    } else {
        let end = rest.find(|c: char| !matches!(c, '0'..='9' | ' ' | ',')).unwrap_or(rest.len());
        if end == 0 {
            (None, rest)
        } else {
            (Some(dims(&rest[..end])?).filter(|d| !d.is_empty()), &rest[end..])
        }
    };
    let second = order(rest);
    let rest = &rest[usize::from(second.is_some())..];
    let order = match (first, second) {
        (Some(a), Some(b)) if (a == '>') != (b == '>') => return None,
        (a, b) => b.or(a).filter(|&c| c == '>'),
    };
    let end = rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '?')))
        .unwrap_or(rest.len());
    let end = match rest[end..].strip_prefix('[').and_then(|unit| unit.find(']')) {
        Some(unit) => end + unit + 2,
        None => end,
    };
    let name = &rest[..end];
    if name.is_empty() {
        return None;
    }
    let simple = Descr::Simple(order.into_iter().chain(name.chars()).collect());
    let shaped = match shape {
        Some(dims) if !dims.is_empty() => Descr::Array(Box::new(simple), dims),
        _ => simple,
    };
    Some((shaped, &rest[end..]))
}

/// `2, 3` as a shape.
fn dims(text: &str) -> Option<Vec<u64>> {
    let parts: Vec<&str> = text.split(',').map(|p| p.trim_matches(' ')).collect();
    let (last, others) = parts.split_last()?;
    let wanted = if last.is_empty() { others } else { &parts[..] };
    wanted.iter().map(|p| p.parse().ok()).collect()
}
