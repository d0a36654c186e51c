//! Text and numbers as pickles spell them.

/// Little-endian two's complement of at most 64 bits.
pub(super) fn little_int(bytes: &[u8]) -> Option<i64> {
    let sign = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let filler = if sign { 0xff } else { 0 };
    let mut out = [filler; 8];
    let (low, high) = bytes.split_at(bytes.len().min(8));
    out[..low.len()].copy_from_slice(low);
    let value = i64::from_le_bytes(out);
    (high.iter().all(|&b| b == filler) && (high.is_empty() || (value < 0) == sign)).then_some(value)
}

/// The decimal digits of a little-endian two's complement integer of at most 128 bytes; `None`
/// beyond, where the work would grow with the square of the length.
pub fn long_digits(bytes: &[u8]) -> Option<String> {
    if bytes.len() > 128 {
        return None;
    }
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut magnitude: Vec<u8> = bytes.to_vec();
    if negative {
        let mut carry = 1u16;
        for b in &mut magnitude {
            let sum = u16::from(!*b) + carry;
            *b = sum as u8;
            carry = sum >> 8;
        }
    }
    let mut digits = Vec::new();
    while magnitude.iter().any(|&b| b != 0) {
        let mut rest = 0u32;
        for b in magnitude.iter_mut().rev() {
            let n = rest << 8 | u32::from(*b);
            *b = (n / 10) as u8;
            rest = n % 10;
        }
        digits.push(b'0' + rest as u8);
    }
    if digits.is_empty() {
        digits.push(b'0');
    }
    if negative {
        digits.push(b'-');
    }
    digits.reverse();
    String::from_utf8(digits).ok()
}

/// Python 2's names, as Python 3 maps them for protocols below 3.
pub(super) fn python3_name(module: &str, name: &str) -> String {
    let (module, name) = match (module, name) {
        ("__builtin__", "xrange") => ("builtins", "range"),
        ("__builtin__", "unicode") => ("builtins", "str"),
        ("__builtin__", "long") => ("builtins", "int"),
        ("__builtin__", name) => ("builtins", name),
        ("copy_reg", name) => ("copyreg", name),
        other => other,
    };
    format!("{module}.{name}")
}

/// `\uXXXX` and `\UXXXXXXXX`; with `all` also what Python's string literals know.
pub(super) fn unescape(text: &str, all: bool) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let kind = match chars.next() {
            Some(kind) => kind,
            None if all => return None,
            None => {
                out.push('\\');
                break;
            }
        };
        let digits = match kind {
            'u' => 4,
            'U' => 8,
            'x' if all => 2,
            _ if all => {
                out.push(match kind {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    '0' => '\0',
                    '\\' | '\'' | '"' => kind,
                    _ => return None,
                });
                continue;
            }
            other => {
                out.push('\\');
                out.push(other);
                continue;
            }
        };
        let hex: String = chars.by_ref().take(digits).collect();
        if hex.len() != digits {
            return None;
        }
        out.push(char::from_u32(u32::from_str_radix(&hex, 16).ok()?)?);
    }
    Some(out)
}

/// UTF-8 in which halves of surrogate pairs are spelled as if they were characters, as Python
/// pickles them: each becomes an escape, `\udc80`. `None` where the bytes are no such text.
pub(super) fn with_surrogates(mut bytes: &[u8]) -> Option<String> {
    let mut out = String::with_capacity(bytes.len() * 2);
    loop {
        let good = match std::str::from_utf8(bytes) {
            Ok(rest) => {
                out.push_str(rest);
                return Some(out);
            }
            Err(error) => error.valid_up_to(),
        };
        out.push_str(std::str::from_utf8(&bytes[..good]).ok()?);
        match bytes[good..] {
            [0xed, high @ 0xa0..=0xbf, low @ 0x80..=0xbf, ..] => {
                out.push_str(&format!(
                    "\\u{:04x}",
                    0xd000 | u32::from(high & 0x3f) << 6 | u32::from(low & 0x3f)
                ));
            }
            _ => return None,
        }
        bytes = &bytes[good + 3..];
    }
}

/// Text from a file, fit for a message: one line, no control characters, at most 120 characters.
pub fn shown(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(120)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if text.chars().nth(120).is_some() {
        out.push('…');
    }
    out
}
