//! Writes types and attributes into a file: the reverse of `types` and `attributes`.

use std::ffi::{CString, c_char, c_int, c_void};

use base64::Engine;
use serde_json::Value;

use super::attributes::{ENUM, NULL, TYPES};
use super::c::{self, Id};
use super::ffi::{self, Hid};
use crate::error::{Error, Result};
use crate::formats::hierarchical::json_float;
use crate::model::{ArrayMeta, Attributes, Dtype, Logical};

/// The type in the file of an array's elements.
pub(super) fn file_type(meta: &ArrayMeta, names: Option<&Value>) -> Result<Id> {
    match &meta.logical {
        Logical::Text => text_type(None, true),
        _ if meta.coded_text().is_some() => text_type(None, true),
        Logical::Datetime(unit) => opaque_time('M', &unit.to_string()),
        Logical::Timedelta(unit) => opaque_time('m', &unit.to_string()),
        _ => match names.and_then(Value::as_object) {
            Some(names) if meta.dtype.is_integer() && !names.is_empty() => {
                enumeration(meta.dtype, names)
            }
            _ => number_type(meta.dtype),
        },
    }
}

fn copy(id: Hid) -> Result<Id> {
    // SAFETY: a type of the library's own; under the lock.
    Id::new(unsafe { ffi::H5Tcopy(id) }, "cannot make a type")
}

/// The type of plain values, as h5py writes them.
pub(super) fn number_type(dtype: Dtype) -> Result<Id> {
    // SAFETY: the library's own types, which are there once it is open; under the lock.
    unsafe {
        match dtype {
            Dtype::U8 => copy(ffi::H5T_STD_U8LE_g),
            Dtype::U16 => copy(ffi::H5T_STD_U16LE_g),
            Dtype::U32 => copy(ffi::H5T_STD_U32LE_g),
            Dtype::U64 => copy(ffi::H5T_STD_U64LE_g),
            Dtype::I8 => copy(ffi::H5T_STD_I8LE_g),
            Dtype::I16 => copy(ffi::H5T_STD_I16LE_g),
            Dtype::I32 => copy(ffi::H5T_STD_I32LE_g),
            Dtype::I64 => copy(ffi::H5T_STD_I64LE_g),
            Dtype::F16 => copy(ffi::H5T_IEEE_F16LE_g),
            Dtype::F32 => copy(ffi::H5T_IEEE_F32LE_g),
            Dtype::F64 => copy(ffi::H5T_IEEE_F64LE_g),
            Dtype::Bf16 => float(2, 8, 7),
            Dtype::F8E4m3 => float(1, 4, 3),
            Dtype::F8E5m2 => float(1, 5, 2),
            Dtype::C32 => complex(Dtype::F16),
            Dtype::C64 => complex(Dtype::F32),
            Dtype::C128 => complex(Dtype::F64),
            Dtype::Bool => {
                let mut names = Attributes::new();
                names.insert("FALSE".into(), 0.into());
                names.insert("TRUE".into(), 1.into());
                enumeration(Dtype::I8, &names)
            }
            other => Err(Error::refused(format!("HDF5 has no type for {other}"))),
        }
    }
}

fn float(bytes: usize, exponent_bits: usize, mantissa_bits: usize) -> Result<Id> {
    // SAFETY: as above.
    unsafe {
        let kind = copy(ffi::H5T_IEEE_F32LE_g)?;
        let id = kind.raw();
        let code =
            ffi::H5Tset_fields(id, 8 * bytes - 1, mantissa_bits, exponent_bits, 0, mantissa_bits);
        c::check(code, "cannot make a type")?;
        c::check(ffi::H5Tset_size(id, bytes), "cannot make a type")?;
        c::check(ffi::H5Tset_ebias(id, (1 << (exponent_bits - 1)) - 1), "cannot make a type")?;
        Ok(kind)
    }
}

fn complex(part: Dtype) -> Result<Id> {
    let part_bytes = part.item_bytes() as usize;
    let part = number_type(part)?;
    // SAFETY: as above.
    unsafe {
        let kind = Id::new(ffi::H5Tcreate(ffi::COMPOUND, 2 * part_bytes), "cannot make a type")?;
        c::check(ffi::H5Tinsert(kind.raw(), c"r".as_ptr(), 0, part.raw()), "cannot make a type")?;
        c::check(
            ffi::H5Tinsert(kind.raw(), c"i".as_ptr(), part_bytes, part.raw()),
            "cannot make a type",
        )?;
        Ok(kind)
    }
}

fn enumeration(base: Dtype, names: &Attributes) -> Result<Id> {
    let base_type = number_type(base)?;
    let n = base.item_bytes() as usize;
    // SAFETY: as above; the value has the bytes of the base type.
    unsafe {
        let kind = Id::new(ffi::H5Tenum_create(base_type.raw()), "cannot make a type")?;
        for (name, value) in names {
            let value =
                value.as_i64().map(|v| v as u64).or(value.as_u64()).unwrap_or(0).to_le_bytes();
            let name = c::c_name(name)?;
            c::check(
                ffi::H5Tenum_insert(kind.raw(), name.as_ptr(), value[..n].as_ptr().cast()),
                "cannot make a type",
            )?;
        }
        Ok(kind)
    }
}

fn opaque_time(letter: char, unit: &str) -> Result<Id> {
    let unit = if unit == "generic" { String::new() } else { format!("[{unit}]") };
    let tag = c::c_name(&format!("NUMPY:<{letter}8{unit}"))?;
    // SAFETY: as above.
    unsafe {
        let kind = Id::new(ffi::H5Tcreate(ffi::OPAQUE, 8), "cannot make a type")?;
        c::check(ffi::H5Tset_tag(kind.raw(), tag.as_ptr()), "cannot make a type")?;
        Ok(kind)
    }
}

fn text_type(bytes: Option<usize>, utf8: bool) -> Result<Id> {
    // SAFETY: as above.
    unsafe {
        let kind = copy(ffi::H5T_C_S1_g)?;
        c::check(
            ffi::H5Tset_size(kind.raw(), bytes.unwrap_or(ffi::VARIABLE)),
            "cannot make a type",
        )?;
        ffi::H5Tset_cset(kind.raw(), c_int::from(utf8));
        ffi::H5Tset_strpad(kind.raw(), c_int::from(bytes.is_some()));
        Ok(kind)
    }
}

/// netCDF takes a `_FillValue` only in the type of its array: a number that came without a type
/// gets that one.
pub(super) fn fill_type(attributes: &mut Attributes, meta: &ArrayMeta) {
    const FILL: &str = "_FillValue";
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

/// Writes the attributes of an object; `notes` name what cannot be written. Under the lock.
/// `dimensions`: the names of dimensions become dimension scales, elsewhere.
pub(super) fn all(
    object: &Id,
    attributes: &Attributes,
    path: &str,
    dimensions: bool,
    notes: &mut Vec<String>,
) -> Result<()> {
    let specs = attributes.get(TYPES).and_then(Value::as_object);
    for (name, value) in attributes {
        if matches!(name.as_str(), TYPES | ENUM | NULL) || dimensions && name == "_ARRAY_DIMENSIONS"
        {
            continue;
        }
        let spec = specs.and_then(|s| s.get(name)).and_then(Value::as_str);
        let made = spec.and_then(|s| Made::by_spec(value, s)).or_else(|| Made::by_value(value));
        match made.map(|m| m.write(object, name)) {
            Some(Ok(())) => {}
            Some(Err(e)) => notes
                .push(format!("the attribute {name:?} of {path} is not written: {}", e.message())),
            None => notes.push(format!(
                "the attribute {name:?} of {path} is not written: HDF5 has no type for it"
            )),
        }
    }
    Ok(())
}

/// A value ready to be written.
struct Made {
    kind: Kind,
    /// `None`: one value.
    shape: Option<Vec<u64>>,
    null: bool,
}

enum Kind {
    Numbers(Dtype, Vec<u8>),
    Text { texts: Vec<Vec<u8>>, bytes: Option<usize>, utf8: bool },
}

fn leaves<'a>(value: &'a Value, depth: usize, out: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) if depth > 0 => items.iter().for_each(|v| leaves(v, depth - 1, out)),
        other => out.push(other),
    }
}

/// A number in the bytes of a dtype; `None` where it does not fit.
fn number(v: &Value, dtype: Dtype) -> Option<Vec<u8>> {
    let n = dtype.item_bytes() as usize;
    Some(match dtype {
        Dtype::Bool => vec![u8::from(v.as_bool()?)],
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16 => json_float::from_json(v, dtype)?,
        Dtype::C32 | Dtype::C64 | Dtype::C128 => {
            let part = match dtype {
                Dtype::C32 => Dtype::F16,
                Dtype::C64 => Dtype::F32,
                _ => Dtype::F64,
            };
            let [re, im] = v.as_array()?.as_slice() else { return None };
            [number(re, part)?, number(im, part)?].concat()
        }
        d if d.is_integer() => {
            let wide = match v.as_i64() {
                Some(i) => i128::from(i),
                None => i128::from(v.as_u64()?),
            };
            let signed = matches!(d, Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64);
            let bits = 8 * n as u32;
            let (low, high) = if signed {
                (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
            } else {
                (0, (1i128 << bits) - 1)
            };
            if wide < low || wide > high {
                return None;
            }
            wide.to_le_bytes()[..n].to_vec()
        }
        _ => return None,
    })
}

impl Made {
    /// As the file had it that this value was read from; `None` where the value was changed since.
    fn by_spec(value: &Value, spec: &str) -> Option<Made> {
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
                Kind::Text { texts, bytes, utf8 }
            }
            None => {
                let dtype = Dtype::ALL.into_iter().find(|d| d.name() == name)?;
                let bytes =
                    values.iter().map(|v| number(v, dtype)).collect::<Option<Vec<_>>>()?.concat();
                Kind::Numbers(dtype, bytes)
            }
        };
        Some(Made { kind, shape: (!shape.is_empty()).then_some(shape), null })
    }

    /// As anybody would expect: text, int64, float64, bool, lists of those; anything else as JSON
    /// text.
    fn by_value(value: &Value) -> Option<Made> {
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
            let texts: Vec<Vec<u8>> =
                values.iter().filter_map(|v| v.as_str()).map(|s| s.as_bytes().to_vec()).collect();
            Some(Kind::Text { texts, bytes: None, utf8: true })
        } else if same(Value::is_boolean) {
            Some(Kind::Numbers(
                Dtype::Bool,
                values.iter().filter_map(|v| number(v, Dtype::Bool)).flatten().collect(),
            ))
        } else if same(Value::is_number) {
            [Dtype::I64, Dtype::U64, Dtype::F64].into_iter().find_map(|dtype| {
                Some(Kind::Numbers(
                    dtype,
                    values.iter().map(|v| number(v, dtype)).collect::<Option<Vec<_>>>()?.concat(),
                ))
            })
        } else {
            None
        };
        let (kind, shape) = match kind {
            Some(kind) => (kind, shape),
            None => (
                Kind::Text {
                    texts: vec![serde_json::to_vec(value).ok()?],
                    bytes: None,
                    utf8: true,
                },
                Vec::new(),
            ),
        };
        Some(Made { kind, shape: (!shape.is_empty()).then_some(shape), null: false })
    }

    fn write(mut self, object: &Id, name: &str) -> Result<()> {
        let name = c::c_name(name)?;
        if let Kind::Text { texts, bytes, .. } = &mut self.kind
            && bytes.is_none()
            && texts.iter().any(|t| t.contains(&0))
        {
            // Text of any length ends at a zero byte; text of a fixed length does not.
            *bytes = texts.iter().map(Vec::len).max();
        }
        let kind = match &self.kind {
            Kind::Numbers(dtype, _) => number_type(*dtype)?,
            Kind::Text { texts, bytes, utf8 } => {
                let kind = text_type(*bytes, *utf8)?;
                // Dimension scales are only known by a class that ends with a zero byte.
                if bytes.is_some_and(|n| texts.iter().all(|t| t.len() < n && !t.contains(&0))) {
                    // SAFETY: a type of our own; under the lock.
                    unsafe { ffi::H5Tset_strpad(kind.raw(), 0) };
                }
                kind
            }
        };
        // SAFETY: an open object; the buffers are of the type and shape that are told; under the
        // lock.
        unsafe {
            let space = match &self.shape {
                _ if self.null => ffi::H5Screate(2),
                None => ffi::H5Screate(0),
                Some(dims) => {
                    ffi::H5Screate_simple(dims.len() as c_int, dims.as_ptr(), std::ptr::null())
                }
            };
            let space = Id::new(space, "cannot make a dataspace")?;
            let create = Id::new(
                ffi::H5Pcreate(ffi::H5P_CLS_ATTRIBUTE_CREATE_ID_g),
                "cannot make an attribute",
            )?;
            ffi::H5Pset_char_encoding(create.raw(), 1);
            let id = ffi::H5Acreate2(
                object.raw(),
                name.as_ptr(),
                kind.raw(),
                space.raw(),
                create.raw(),
                0,
            );
            let attribute = Id::new(id, "cannot make an attribute")?;
            if self.null {
                return Ok(());
            }
            let write = |buffer: *const c_void| {
                c::check(ffi::H5Awrite(attribute.raw(), kind.raw(), buffer), "cannot write it")
            };
            match &self.kind {
                Kind::Numbers(_, bytes) if bytes.is_empty() => Ok(()),
                Kind::Text { texts, .. } if texts.is_empty() => Ok(()),
                Kind::Numbers(_, bytes) => write(bytes.as_ptr().cast()),
                Kind::Text { texts, bytes: Some(n), .. } => {
                    let mut buffer = vec![0u8; n * texts.len()];
                    for (to, text) in buffer.chunks_exact_mut(*n).zip(texts) {
                        to[..text.len()].copy_from_slice(text);
                    }
                    write(buffer.as_ptr().cast())
                }
                Kind::Text { texts, bytes: None, .. } => {
                    let texts: Vec<CString> = texts
                        .iter()
                        .map(|t| CString::new(&t[..]))
                        .collect::<std::result::Result<_, _>>()
                        .map_err(|_| Error::refused("a zero byte"))?;
                    let pointers: Vec<*const c_char> = texts.iter().map(|t| t.as_ptr()).collect();
                    write(pointers.as_ptr().cast())
                }
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
