//! Writes types and attributes into a file: the reverse of `types` and `attributes`.

use std::ffi::{CString, c_char, c_void};

use base64::Engine;
use serde_json::Value;

use super::attributes::{ENUM, JSON, MAX_JSON_BYTES, NULL};
use super::ffi::{self, H5S_class_t, H5T_cset_t, H5T_str_t};
use super::library::{self, Id, Library};
use crate::error::{Error, Result};
use crate::formats::hierarchical::attributes::{DIMENSIONS, TYPES};
use crate::model::json_float;
use crate::model::{ArrayMeta, Attributes, Dtype, Logical};

/// The type in the file of an array's elements.
pub(super) fn file_type(lib: &Library, meta: &ArrayMeta, names: Option<&Value>) -> Result<Id> {
    match &meta.logical {
        Logical::Text => text_type(lib, None, true),
        _ if meta.coded_text().is_some() => text_type(lib, None, true),
        Logical::Datetime(unit) => opaque_time(lib, 'M', &unit.to_string()),
        Logical::Timedelta(unit) => opaque_time(lib, 'm', &unit.to_string()),
        _ => match names.and_then(Value::as_object) {
            Some(names) if meta.dtype.is_integer() && !names.is_empty() => {
                enumeration(lib, meta.dtype, names)
            }
            _ => number_type(lib, meta.dtype),
        },
    }
}

/// The type of plain values, as h5py writes them.
pub(super) fn number_type(lib: &Library, dtype: Dtype) -> Result<Id> {
    let stored = match dtype {
        Dtype::U8 => lib.H5T_STD_U8LE(),
        Dtype::U16 => lib.H5T_STD_U16LE(),
        Dtype::U32 => lib.H5T_STD_U32LE(),
        Dtype::U64 => lib.H5T_STD_U64LE(),
        Dtype::I8 => lib.H5T_STD_I8LE(),
        Dtype::I16 => lib.H5T_STD_I16LE(),
        Dtype::I32 => lib.H5T_STD_I32LE(),
        Dtype::I64 => lib.H5T_STD_I64LE(),
        Dtype::F16 => lib.H5T_IEEE_F16LE(),
        Dtype::F32 => lib.H5T_IEEE_F32LE(),
        Dtype::F64 => lib.H5T_IEEE_F64LE(),
        Dtype::Bf16 => return float(lib, 2, 8, 7),
        Dtype::F8E4m3 => return float(lib, 1, 4, 3),
        Dtype::F8E5m2 => return float(lib, 1, 5, 2),
        Dtype::C32 => return complex(lib, Dtype::F16),
        Dtype::C64 => return complex(lib, Dtype::F32),
        Dtype::C128 => return complex(lib, Dtype::F64),
        Dtype::Bool => {
            let mut names = Attributes::new();
            names.insert("FALSE".into(), 0.into());
            names.insert("TRUE".into(), 1.into());
            return enumeration(lib, Dtype::I8, &names);
        }
        other => return Err(Error::refused(format!("HDF5 has no type for {other}"))),
    };
    lib.copy_type(stored)
}

fn float(lib: &Library, bytes: usize, exponent_bits: usize, mantissa_bits: usize) -> Result<Id> {
    let kind = lib.copy_type(lib.H5T_IEEE_F32LE())?;
    let id = kind.raw();
    let sign = 8 * bytes - 1;
    let codes = [
        lib.H5Tset_fields(id, sign, mantissa_bits, exponent_bits, 0, mantissa_bits),
        lib.H5Tset_size(id, bytes),
        lib.H5Tset_ebias(id, (1 << (exponent_bits - 1)) - 1),
    ];
    codes.into_iter().try_for_each(|code| library::check(code, "cannot make a type"))?;
    Ok(kind)
}

fn complex(lib: &Library, part: Dtype) -> Result<Id> {
    let bytes = part.item_bytes() as usize;
    let part = number_type(lib, part)?;
    lib.compound_type(2 * bytes, &[(c"r", 0, part.raw()), (c"i", bytes, part.raw())])
}

fn enumeration(lib: &Library, base: Dtype, names: &Attributes) -> Result<Id> {
    let base_type = number_type(lib, base)?;
    let n = base.item_bytes() as usize;
    // SAFETY: names end with a zero byte, and a value has the bytes of the base type.
    unsafe {
        let kind = Id::new(lib.H5Tenum_create(base_type.raw()), "cannot make a type")?;
        for (name, value) in names {
            let value =
                value.as_i64().map(|v| v as u64).or(value.as_u64()).unwrap_or(0).to_le_bytes();
            let name = library::c_name(name)?;
            library::check(
                lib.H5Tenum_insert(kind.raw(), name.as_ptr(), value[..n].as_ptr().cast()),
                "cannot make a type",
            )?;
        }
        Ok(kind)
    }
}

fn opaque_time(lib: &Library, letter: char, unit: &str) -> Result<Id> {
    let unit = if unit == "generic" { String::new() } else { format!("[{unit}]") };
    lib.opaque_type(8, &library::c_name(&format!("NUMPY:<{letter}8{unit}"))?)
}

/// Text of any length, or of so many bytes, that zeros fill up.
fn text_type(lib: &Library, bytes: Option<usize>, utf8: bool) -> Result<Id> {
    let kind = lib.copy_type(lib.H5T_C_S1())?;
    let size = bytes.unwrap_or(ffi::VARIABLE);
    library::check(lib.H5Tset_size(kind.raw(), size), "cannot make a type")?;
    let set = if utf8 { H5T_cset_t::H5T_CSET_UTF8 } else { H5T_cset_t::H5T_CSET_ASCII };
    lib.H5Tset_cset(kind.raw(), set);
    let pad = match bytes {
        Some(_) => H5T_str_t::H5T_STR_NULLPAD,
        None => H5T_str_t::H5T_STR_NULLTERM,
    };
    lib.H5Tset_strpad(kind.raw(), pad);
    Ok(kind)
}

/// The value of missing elements.
const FILL: &str = "_FillValue";

/// netCDF takes a `_FillValue` only in the type of its array: a number that came without a type
/// gets that one.
pub(super) fn fill_type(attributes: &mut Attributes, meta: &ArrayMeta) {
    let specs = attributes.get(TYPES).and_then(Value::as_object);
    let told = specs.is_some_and(|s| s.contains_key(FILL));
    let value = attributes.get(FILL).filter(|v| json_float::from_json(v, Dtype::F64).is_some());
    if told || value.is_none() || !meta.logical.is_plain() || meta.dtype.is_complex() {
        return;
    }
    if let Value::Object(specs) =
        attributes.entry(TYPES).or_insert_with(|| Attributes::new().into())
    {
        specs.insert(FILL.into(), format!("{}()", meta.dtype.name()).into());
    }
}

/// Writes the attributes of an object; `notes` name what cannot be written. `dimensions`: the names
/// of dimensions become dimension scales, elsewhere.
pub(super) fn all(
    lib: &Library,
    object: &Id,
    attributes: &Attributes,
    path: &str,
    dimensions: bool,
    notes: &mut Vec<String>,
) -> Result<()> {
    let specs = attributes.get(TYPES).and_then(Value::as_object);
    // Gives whether it was written as JSON.
    let mut write = |name: &str, value: &Value, new: Option<NewAttribute>| -> bool {
        let Some(new) = new.or_else(|| NewAttribute::json(value)) else { return false };
        let json_bytes = new.json_bytes();
        if let Err(e) = new.write(lib, object, name) {
            let why = e.message();
            notes.push(format!("the attribute {name:?} of {path} is not written: {why}"));
        } else if json_bytes > MAX_JSON_BYTES {
            notes.push(format!(
                "the attribute {name:?} of {path} is written as JSON text of {json_bytes} bytes"
            ));
        } else {
            return json_bytes > 0;
        }
        false
    };
    let mut as_json = Vec::new();
    for (name, value) in attributes {
        if matches!(name.as_str(), TYPES | ENUM | NULL) || dimensions && name == DIMENSIONS {
            continue;
        }
        let spec = specs.and_then(|s| s.get(name)).and_then(Value::as_str);
        let new = spec.and_then(|s| NewAttribute::by_spec(value, s, name == FILL));
        if write(name, value, new.or_else(|| NewAttribute::by_value(value))) {
            as_json.push(Value::from(name.as_str()));
        }
    }
    if !as_json.is_empty() {
        let names = Value::Array(as_json);
        write(JSON, &names, NewAttribute::by_value(&names));
    }
    Ok(())
}

/// A value ready to be written.
struct NewAttribute {
    kind: AttributeData,
    /// `None`: one value.
    shape: Option<Vec<u64>>,
    null: bool,
    /// The text is JSON, and stands for its value.
    is_json: bool,
}

enum AttributeData {
    Numbers(Dtype, Vec<u8>),
    Text { texts: Vec<Vec<u8>>, bytes: Option<usize>, utf8: bool },
}

fn leaves<'a>(value: &'a Value, depth: usize, out: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) if depth > 0 => items.iter().for_each(|v| leaves(v, depth - 1, out)),
        other => out.push(other),
    }
}

/// A number in the bytes of a dtype; `None` where it does not fit, or is rounded and may not be.
fn number(v: &Value, dtype: Dtype, may_round: bool) -> Option<Vec<u8>> {
    let n = dtype.item_bytes() as usize;
    Some(match dtype {
        Dtype::Bool => vec![u8::from(v.as_bool()?)],
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16 => {
            json_float::from_json(v, dtype).filter(|b| may_round || is_exact(v, dtype, b))?
        }
        Dtype::C32 | Dtype::C64 | Dtype::C128 => {
            let part = match dtype {
                Dtype::C32 => Dtype::F16,
                Dtype::C64 => Dtype::F32,
                _ => Dtype::F64,
            };
            let [re, im] = v.as_array()?.as_slice() else { return None };
            [number(re, part, may_round)?, number(im, part, may_round)?].concat()
        }
        d if d.is_integer() => {
            let wide = match v.as_i64() {
                Some(i) => i128::from(i),
                None => i128::from(v.as_u64()?),
            };
            if !d.integer_range().is_some_and(|range| range.contains(&wide)) {
                return None;
            }
            wide.to_le_bytes()[..n].to_vec()
        }
        _ => return None,
    })
}

/// Whether a float is all of the number in JSON: of whole numbers every digit counts, of others
/// what float64 has.
fn is_exact(v: &Value, dtype: Dtype, bytes: &[u8]) -> bool {
    let Value::Number(number) = v else { return true };
    let Some(Value::Number(kept)) = json_float::to_json(dtype, bytes) else { return false };
    let (text, Ok(kept)) = (number.to_string(), kept.to_string().parse::<f64>()) else {
        return false;
    };
    match is_whole(&text) {
        true => format!("{kept:.0}") == text,
        false => text.parse() == Ok(kept),
    }
}

/// Whether a number in JSON is written as a whole one.
fn is_whole(number: &str) -> bool {
    !number.contains(['.', 'e', 'E'])
}

impl AttributeData {
    /// Numbers of this type; `None` where one does not fit, or is rounded and may not be.
    fn numbers(values: &[&Value], dtype: Dtype, may_round: bool) -> Option<AttributeData> {
        let bytes = values.iter().map(|v| number(v, dtype, may_round));
        let bytes = bytes.collect::<Option<Vec<_>>>()?.concat();
        Some(AttributeData::Numbers(dtype, bytes))
    }
}

impl NewAttribute {
    /// As the file had it that this value was read from; `None` where the value was changed since.
    fn by_spec(value: &Value, spec: &str, may_round: bool) -> Option<NewAttribute> {
        let (null, spec) = spec.strip_prefix("null:").map_or((false, spec), |s| (true, s));
        let (binary, spec) = spec.strip_prefix("base64:").map_or((false, spec), |s| (true, s));
        let (name, shape) = spec.strip_suffix(')')?.split_once('(')?;
        let shape: Vec<u64> = if shape.is_empty() {
            Vec::new()
        } else {
            shape.split(',').map(|n| n.parse().ok()).collect::<Option<_>>()?
        };
        let mut values = Vec::new();
        leaves(value, shape.len(), &mut values);
        if null {
            values.clear();
        } else if values.len() as u64 != crate::model::checked_product(&shape)? {
            return None;
        }
        let kind = match name.strip_prefix("string") {
            Some(rest) => {
                let (utf8, rest) = rest.strip_prefix(":ascii").map_or((true, rest), |r| (false, r));
                let bytes = match rest.strip_prefix(':') {
                    Some(n) => Some(n.parse::<usize>().ok().filter(|&n| n > 0 && n < 1 << 20)?),
                    None => None,
                };
                let texts = values
                    .iter()
                    .map(|v| {
                        let text = v.as_str()?;
                        if binary {
                            base64::engine::general_purpose::STANDARD.decode(text).ok()
                        } else {
                            Some(text.as_bytes().to_vec())
                        }
                    })
                    .collect::<Option<Vec<_>>>()?;
                if bytes.is_some_and(|n| texts.iter().any(|t| t.len() > n))
                    || !utf8 && !binary && texts.iter().any(|t| !t.is_ascii())
                {
                    return None;
                }
                AttributeData::Text { texts, bytes, utf8 }
            }
            None => {
                let dtype = Dtype::of_name(name)?;
                AttributeData::numbers(&values, dtype, may_round)?
            }
        };
        let shape = (!shape.is_empty()).then_some(shape);
        Some(NewAttribute { kind, shape, null, is_json: false })
    }

    /// As JSON text: what HDF5 has no type for, numbers among it that no type of it holds exactly.
    fn json(value: &Value) -> Option<NewAttribute> {
        let texts = vec![serde_json::to_vec(value).ok()?];
        let kind = AttributeData::Text { texts, bytes: None, utf8: true };
        Some(NewAttribute { kind, shape: None, null: false, is_json: true })
    }

    /// Bytes of the JSON text; 0 where it is none.
    fn json_bytes(&self) -> usize {
        match &self.kind {
            AttributeData::Text { texts, .. } if self.is_json => texts.iter().map(Vec::len).sum(),
            _ => 0,
        }
    }

    /// As anybody would expect: text, int64, float64, bool, lists of those; `None` for anything
    /// else.
    fn by_value(value: &Value) -> Option<NewAttribute> {
        let mut shape = Vec::new();
        let mut inner = value;
        while let Value::Array(items) = inner {
            shape.push(items.len() as u64);
            match items.first() {
                Some(first) if shape.len() < 32 => inner = first,
                _ => break,
            }
        }
        let mut values = Vec::new();
        leaves(value, shape.len(), &mut values);
        let regular = regular(value, &shape);
        let same = |test: fn(&Value) -> bool| {
            regular && !values.is_empty() && values.iter().all(|v| test(v))
        };
        let kind = if same(Value::is_string) {
            let texts = values.iter().filter_map(|v| v.as_str());
            let texts = texts.map(|s| s.as_bytes().to_vec()).collect();
            AttributeData::Text { texts, bytes: None, utf8: true }
        } else if same(Value::is_boolean) {
            AttributeData::numbers(&values, Dtype::Bool, false)?
        } else if same(Value::is_number) {
            // Whole numbers stay whole.
            let is_whole = |v: &&Value| matches!(v, Value::Number(n) if is_whole(&n.to_string()));
            let types = [Dtype::I64, Dtype::U64, Dtype::F64];
            let known = if values.iter().all(is_whole) { &types[..2] } else { &types[..] };
            let numbers = |&dtype: &Dtype| AttributeData::numbers(&values, dtype, false);
            known.iter().find_map(numbers)?
        } else {
            return None;
        };
        let shape = (!shape.is_empty()).then_some(shape);
        Some(NewAttribute { kind, shape, null: false, is_json: false })
    }

    fn write(mut self, lib: &Library, object: &Id, name: &str) -> Result<()> {
        let name = library::c_name(name)?;
        if let AttributeData::Text { texts, bytes, .. } = &mut self.kind
            && bytes.is_none()
            && texts.iter().any(|t| t.contains(&0))
        {
            // Text of any length ends at a zero byte; text of a fixed length does not.
            *bytes = texts.iter().map(Vec::len).max();
        }
        let kind = match &self.kind {
            AttributeData::Numbers(dtype, _) => number_type(lib, *dtype)?,
            AttributeData::Text { texts, bytes, utf8 } => {
                let kind = text_type(lib, *bytes, *utf8)?;
                // Dimension scales are only known by a class that ends with a zero byte.
                if bytes.is_some_and(|n| texts.iter().all(|t| t.len() < n && !t.contains(&0))) {
                    lib.H5Tset_strpad(kind.raw(), H5T_str_t::H5T_STR_NULLTERM);
                }
                kind
            }
        };
        let space = match self.null {
            true => Id::new(lib.H5Screate(H5S_class_t::H5S_NULL), "cannot make a dataspace")?,
            false => lib.new_space(self.shape.as_deref(), None)?,
        };
        let write = |buffer: Option<*const c_void>| {
            // SAFETY: the buffer is of the type and shape that are told.
            unsafe { lib.write_attribute(object, &name, (&kind, &space), buffer) }
        };
        match &self.kind {
            _ if self.null => write(None),
            AttributeData::Numbers(_, bytes) if bytes.is_empty() => write(None),
            AttributeData::Text { texts, .. } if texts.is_empty() => write(None),
            AttributeData::Numbers(_, bytes) => write(Some(bytes.as_ptr().cast())),
            AttributeData::Text { texts, bytes: Some(n), .. } => {
                let mut buffer = vec![0u8; n * texts.len()];
                for (to, text) in buffer.chunks_exact_mut(*n).zip(texts) {
                    to[..text.len()].copy_from_slice(text);
                }
                write(Some(buffer.as_ptr().cast()))
            }
            AttributeData::Text { texts, bytes: None, .. } => {
                let texts: Vec<CString> = texts
                    .iter()
                    .map(|t| CString::new(&t[..]))
                    .collect::<std::result::Result<_, _>>()
                    .map_err(|_| Error::refused("a zero byte"))?;
                let pointers: Vec<*const c_char> = texts.iter().map(|t| t.as_ptr()).collect();
                write(Some(pointers.as_ptr().cast()))
            }
        }
    }
}

/// Whether nested lists all have this shape.
fn regular(value: &Value, shape: &[u64]) -> bool {
    match (value, shape) {
        (Value::Array(items), [n, rest @ ..]) => {
            items.len() as u64 == *n && items.iter().all(|v| regular(v, rest))
        }
        (Value::Array(_), []) => false,
        (_, []) => true,
        _ => false,
    }
}
