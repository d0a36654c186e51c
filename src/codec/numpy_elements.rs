//! What the elements of numpy's types hold, as types of the model: the fields of records flattened,
//! and the way back.

use super::numpy_types::{self, Descr};
use crate::error::{Error, Result};
use crate::model::{Dtype, Logical, TimeUnit};

/// Stands for the name of the gaps between fields.
const PADDING: &str = "\0";

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

/// The parts of a spelling of a type.
struct Spelling<'a> {
    /// Whether its bytes are big-endian.
    big: bool,
    code: char,
    size: Option<u64>,
    /// The unit of a time, in brackets.
    tail: &'a str,
}

fn spelling(canonical: &str) -> Option<Spelling<'_>> {
    let (order, rest) = canonical.split_at(1);
    let code = rest.chars().next()?;
    let rest = &rest[code.len_utf8()..];
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let size = if digits == 0 { None } else { Some(rest[..digits].parse().ok()?) };
    let tail = &rest[digits..];
    let is_time = matches!(code, 'M' | 'm');
    (tail.is_empty() || is_time).then_some(Spelling { big: order == ">", code, size, tail })
}

fn time_unit(tail: &str) -> Option<TimeUnit> {
    match tail.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        None if tail.is_empty() => Some(TimeUnit::new("generic")),
        Some(unit) => TimeUnit::parse(unit),
        None => None,
    }
}

/// The type of this spelling: `<f4`, `>M8[ns]`, `|S10`, and whatever else [`numpy_types`] knows.
fn item(text: &str) -> Result<Item> {
    let unknown = || Error::corrupt(format!("numpy knows no type '{text}'"));
    let canonical = numpy_types::canonical(text).ok_or_else(unknown)?;
    let Spelling { big, code, size, tail } = spelling(&canonical).ok_or_else(unknown)?;
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
    let refused = |bytes: u64, why: String, hint: &'static str, sized: bool| {
        let kind = ElementType::Refused { why, hint: Some(hint), sized };
        Ok(Item { kind, bytes, swap_bytes: 0, spelled: spelled.clone() })
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
            "save it as float64 or complex128 with numpy",
            true,
        ),
        ('M' | 'm', Some(8)) => {
            let unit = time_unit(tail).ok_or_else(unknown)?;
            let logical =
                if code == 'M' { Logical::Datetime(unit) } else { Logical::Timedelta(unit) };
            fixed(Dtype::I64, logical, 8)
        }
        ('U', Some(n)) => {
            let bytes = n.checked_mul(4).filter(|&n| n < 1 << 40).ok_or_else(unknown)?;
            let swap_bytes = if big { 4 } else { 0 };
            Ok(Item { kind: ElementType::Text, bytes, swap_bytes, spelled })
        }
        ('S', Some(n)) if n < 1 << 40 => {
            Ok(Item { kind: ElementType::Bytes, bytes: n, swap_bytes: 0, spelled })
        }
        ('V', Some(n)) if n < 1 << 40 => refused(
            n,
            format!("the type {text} (void: bytes without a meaning) is not supported"),
            "bfloat16 and float8 lose their type in npy: save them as safetensors",
            true,
        ),
        ('O', _) | ('T', _) => refused(
            0,
            "holds pickled Python objects, which are never run".into(),
            "save it with a plain dtype with numpy, or leave it out with -x",
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
