//! Attributes of datasets and groups, as JSON.
//!
//! A value is kept as the JSON that anybody would expect: text, a number, true or false, a list,
//! lists of lists. Where that alone does not tell the type and shape to write back (JSON knows only
//! the text of UTF-8 strings of any length, int64, float64 and bool, and lists of those), a further
//! attribute, `hdf5:types`, tells them by name:
//!
//! | spec | type |
//! |---|---|
//! | `float32`, `uint8`, `complex64`, … | the numbers of numpy |
//! | `string`, `string:ascii` | text of any length |
//! | `string:N`, `string:ascii:N` | text of N bytes |
//! | `base64:…` before a string | bytes that are no UTF-8 |
//! | `reference` | the path of the object |
//! | `null:…` before a type | an empty dataspace; the value is null |
//! | `…(2,3)`, `…()` | the shape: `()` is one value |
//!
//! NaN and infinities are text, as in Zarr (see [`json_float`]).
//!
//! What HDF5 has no type for (null, objects, lists of several kinds, numbers that no type holds
//! exactly) is JSON text in the file. The attribute `npk_json` of the same object has the names of
//! those attributes: they come back as the values that they were.

use base64::Engine;
use serde_json::{Value, json};

use super::element_type::ElementType;
use super::ffi::{self, H5_index_t, H5_iter_order_t};
use super::heap::{self, Heaps, Reference};
use super::library::{self, Id, Library};
use super::types;
use crate::error::{Error, ErrorKind, Result};
use crate::formats::hierarchical::attributes::TYPES;
use crate::model::json_float;
use crate::model::{Attributes, Dtype, checked_product};

/// The attribute that keeps the names of an enumeration's values.
pub(super) const ENUM: &str = "hdf5:enum";
/// The attribute that says that a dataset has no dataspace.
pub(super) const NULL: &str = "hdf5:null";
/// The attribute of the file that has the names of those which are JSON.
pub(super) const JSON: &str = "npk_json";
/// Text of more bytes is not taken for JSON: parsed it takes many times the memory.
pub(super) const MAX_JSON_BYTES: usize = 1 << 20;
/// Attributes larger than this are left out, with a note.
const MAX_BYTES: u64 = 64 << 20;
/// More attributes than that on one object are left out, with a note.
const MAX_COUNT: u64 = 100_000;

/// What is said about attributes that are not kept.
#[derive(Default)]
pub(super) struct Left {
    /// For the user, once.
    pub(super) notes: Vec<String>,
    /// The first one that is damaged.
    pub(super) damaged: Option<Error>,
}

impl Left {
    fn out(&mut self, what: &str, why: Error) {
        self.notes.push(format!("{what} is not kept: {}", why.message()));
        if why.kind() == ErrorKind::Corrupt {
            self.damaged
                .get_or_insert_with(|| Error::corrupt(format!("{what}: {}", why.message())));
        }
    }
}

/// The attributes of an object. `left` tells of those that cannot be kept.
pub(super) fn read(
    lib: &Library,
    object: &Id,
    count: u64,
    path: &str,
    heaps: &Heaps,
    left: &mut Left,
) -> Attributes {
    let mut all = Attributes::new();
    let mut specs = Attributes::new();
    for n in 0..count.min(MAX_COUNT) {
        // SAFETY: an open object.
        let id = unsafe {
            lib.H5Aopen_by_idx(
                object.raw(),
                c".".as_ptr(),
                H5_index_t::H5_INDEX_NAME,
                H5_iter_order_t::H5_ITER_INC,
                n,
                ffi::DEFAULT,
                ffi::DEFAULT,
            )
        };
        let read =
            Id::new(id, "cannot be opened").and_then(|a| name(lib, &a).map(|name| (a, name)));
        let (attribute, name) = match read {
            Ok(found) => found,
            Err(e) => {
                left.out(&format!("an attribute of {path}"), e);
                continue;
            }
        };
        if name == "REFERENCE_LIST" {
            continue; // the way back from a dimension scale to its users, told by their names already
        }
        match value(lib, &attribute, &name, heaps) {
            Ok((value, spec)) => {
                all.insert(name.clone(), value);
                if let Some(spec) = spec {
                    specs.insert(name, spec.into());
                }
            }
            Err(why) => left.out(&format!("the attribute {name:?} of {path}"), why),
        }
    }
    if count > MAX_COUNT {
        left.notes.push(format!(
            "{} attributes of {path} are not kept: there are more than {MAX_COUNT}",
            count - MAX_COUNT
        ));
    }
    parse_json(&mut all, &mut specs);
    if !specs.is_empty() {
        all.insert(TYPES.into(), Value::Object(specs));
    }
    all
}

/// Puts values in place of the text of attributes that are JSON.
fn parse_json(all: &mut Attributes, specs: &mut Attributes) {
    let Some(Value::Array(names)) = all.get(JSON).cloned() else { return };
    all.shift_remove(JSON);
    specs.shift_remove(JSON);
    for name in names.iter().filter_map(Value::as_str) {
        let text = all.get(name).and_then(Value::as_str).filter(|t| t.len() <= MAX_JSON_BYTES);
        if let Some(value) = text.and_then(|text| serde_json::from_str(text).ok()) {
            all.insert(name.into(), value);
            specs.shift_remove(name);
        }
    }
}

fn name(lib: &Library, attribute: &Id) -> Result<String> {
    // SAFETY: the buffer has the length that is told.
    let get = |to, size| unsafe { lib.H5Aget_name(attribute.raw(), size, to) };
    let name = lib.text(get, "an attribute is damaged")?;
    Ok(String::from_utf8_lossy(&name).into_owned())
}

fn sequences() -> Error {
    Error::refused("variable-length sequences are not supported")
}

fn too_large() -> Error {
    Error::refused("it is too large")
}

/// The value, and the spec where the value alone does not tell the type.
fn value(
    lib: &Library,
    attribute: &Id,
    name: &str,
    heaps: &Heaps,
) -> Result<(Value, Option<String>)> {
    let (space, kind) = (
        Id::new(lib.H5Aget_space(attribute.raw()), "its dataspace is damaged")?,
        Id::new(lib.H5Aget_type(attribute.raw()), "its type is damaged")?,
    );
    let dims = library::dims(lib, &space)?;
    let (class, bytes) = (lib.H5Tget_class(kind.raw()), lib.H5Tget_size(kind.raw()));
    let shape = dims.clone().unwrap_or_default();
    let count = checked_product(&shape).ok_or_else(too_large)?;
    let total =
        count.checked_mul(bytes as u64).filter(|&n| n <= MAX_BYTES).ok_or_else(too_large)? as usize;
    let stored = lib.H5Aget_storage_size(attribute.raw());
    if stored > MAX_BYTES {
        return Err(too_large());
    }
    if class == ffi::REFERENCE && bytes == 8 {
        let raw = raw(lib, attribute, &kind, total)?;
        let paths: Vec<Value> =
            raw.chunks_exact(8).map(|r| path_of(lib, attribute, r).into()).collect();
        return Ok((nested(&paths, &shape), Some(format!("reference{}", shape_text(&shape)))));
    }
    if class == ffi::VLEN {
        return references(lib, attribute, &kind, name, count, heaps);
    }
    let leaves = types::leaves(lib, &kind, heaps.reference_bytes())?;
    let [leaf] = &leaves[..] else {
        return Err(Error::refused("compound attributes are not supported"));
    };
    if let Some(error) = &leaf.error {
        return Err(Error::refused(error.clone()));
    }
    if class == ffi::COMPOUND && !matches!(leaf.kind, ElementType::Complex(_)) {
        return Err(Error::refused("compound attributes are not supported"));
    }
    let mut shape = shape;
    shape.extend(leaf.dims.iter().map(|d| d.0));
    let ascii = if lib.H5Tget_cset(kind.raw()) == ffi::ASCII { ":ascii" } else { "" };
    let type_name = match &leaf.kind {
        ElementType::Variable { .. } => format!("string{ascii}"),
        ElementType::Fixed { bytes, .. } => format!("string{ascii}:{bytes}"),
        ElementType::Time { .. } => return Err(Error::refused("times are not supported")),
        ElementType::Sequence { .. } => return Err(sequences()),
        kind => kind.model().0.name().to_string(),
    };
    if dims.is_none() {
        return Ok((Value::Null, Some(format!("null:{type_name}()"))));
    }
    let (values, binary) = match &leaf.kind {
        ElementType::Variable { .. } => {
            let count = checked_product(&shape).ok_or_else(too_large)?;
            strings(texts(&heap_references(lib, attribute, &leaf.dims, count, heaps)?, heaps)?)
        }
        ElementType::Fixed { bytes, fill } => {
            let raw = raw(lib, attribute, &kind, total)?;
            strings(raw.chunks_exact(*bytes).map(|t| fill.trim(t).to_vec()).collect())
        }
        plain => {
            let raw = raw(lib, attribute, &kind, total)?;
            let converted = plain.convert(raw, 0)?;
            (numbers(plain.model().0, &converted), false)
        }
    };
    let natural = match type_name.as_str() {
        "string" => !binary,
        "int64" | "bool" => true,
        "float64" => values.iter().all(Value::is_number),
        _ => false,
    };
    let plain = natural && (shape.is_empty() || !values.is_empty());
    let spec = (!plain).then(|| {
        format!("{}{type_name}{}", if binary { "base64:" } else { "" }, shape_text(&shape))
    });
    Ok((nested(&values, &shape), spec))
}

fn shape_text(shape: &[u64]) -> String {
    let dims: Vec<String> = shape.iter().map(u64::to_string).collect();
    format!("({})", dims.join(","))
}

fn raw(lib: &Library, attribute: &Id, kind: &Id, bytes: usize) -> Result<Vec<u8>> {
    let mut raw = vec![0u8; bytes];
    if bytes > 0 {
        // SAFETY: the buffer has the size of the attribute in its own type.
        let code = unsafe { lib.H5Aread(attribute.raw(), kind.raw(), raw.as_mut_ptr().cast()) };
        library::check(code, "it cannot be read")?;
    }
    Ok(raw)
}

/// Text as it is, or all of it as base64 where one item is not UTF-8.
fn strings(texts: Vec<Vec<u8>>) -> (Vec<Value>, bool) {
    if texts.iter().all(|t| std::str::from_utf8(t).is_ok()) {
        (
            texts.into_iter().map(|t| String::from_utf8_lossy(&t).into_owned().into()).collect(),
            false,
        )
    } else {
        (
            texts
                .into_iter()
                .map(|t| base64::engine::general_purpose::STANDARD.encode(t).into())
                .collect(),
            true,
        )
    }
}

/// Little-endian values of the model as JSON.
pub(super) fn numbers(dtype: Dtype, bytes: &[u8]) -> Vec<Value> {
    fn real(dtype: Dtype, b: &[u8]) -> Value {
        match (dtype, b) {
            (Dtype::Bool, b) => (b[0] != 0).into(),
            (d, b) => json_float::to_json(d, b).unwrap_or_else(|| {
                let signed = matches!(d, Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64);
                types::int_json(
                    &ElementType::Int {
                        bytes: b.len(),
                        big: false,
                        signed,
                        first: 0,
                        bits: 8 * b.len() as u32,
                    },
                    b,
                )
            }),
        }
    }
    let n = dtype.item_bytes() as usize;
    let part = match dtype {
        Dtype::C32 => Dtype::F16,
        Dtype::C64 => Dtype::F32,
        Dtype::C128 => Dtype::F64,
        d => d,
    };
    bytes
        .chunks_exact(n)
        .map(|b| {
            if part == dtype {
                real(dtype, b)
            } else {
                json!([real(part, &b[..n / 2]), real(part, &b[n / 2..])])
            }
        })
        .collect()
}

/// A list of values as lists of lists of this shape.
fn nested(values: &[Value], shape: &[u64]) -> Value {
    match shape {
        [] => values.first().cloned().unwrap_or(Value::Null),
        [_] => Value::Array(values.to_vec()),
        [n, rest @ ..] => {
            let each = values.len() / (*n).max(1) as usize;
            if each == 0 {
                return Value::Array(Vec::new());
            }
            Value::Array(values.chunks(each).map(|v| nested(v, rest)).collect())
        }
    }
}

/// The path of the object that a reference of 8 bytes points to.
fn path_of(lib: &Library, near: &Id, reference: &[u8]) -> String {
    let (kind, from) = (ffi::OBJECT_REFERENCE, reference.as_ptr().cast());
    // SAFETY: the reference has 8 bytes.
    let object = unsafe { lib.H5Rdereference2(near.raw(), ffi::DEFAULT, kind, from) };
    let Ok(object) = Id::new(object, "a reference leads nowhere") else { return String::new() };
    // SAFETY: the buffer has the length that is told.
    let get = |to, size| unsafe { lib.H5Iget_name(object.raw(), to, size) };
    let path = lib.text(get, "a reference leads nowhere").unwrap_or_default();
    String::from_utf8_lossy(&path).into_owned()
}

/// The references into heaps that an attribute of `count` values has, lists inside its elements
/// among them.
fn heap_references(
    lib: &Library,
    attribute: &Id,
    dims: &[(u64, usize)],
    count: u64,
    heaps: &Heaps,
) -> Result<Vec<Reference>> {
    let bytes = heaps.reference_bytes();
    let total =
        count.checked_mul(bytes as u64).filter(|&n| n <= MAX_BYTES).ok_or_else(too_large)?;
    let dims: Vec<u64> = dims.iter().map(|d| d.0).collect();
    let kind = lib.list_type(heap::raw_type(lib, bytes)?, &dims)?;
    let raw = raw(lib, attribute, &kind, total as usize)?;
    Ok(raw.chunks_exact(bytes).map(|r| heaps.reference(r)).collect())
}

/// Text of any length, up to its first zero byte.
fn texts(references: &[Reference], heaps: &Heaps) -> Result<Vec<Vec<u8>>> {
    let (mut last, mut total) = (None, 0u64);
    let mut read = |reference: &Reference| {
        let mut text = Vec::new();
        total += heaps.find(*reference, 1, &mut last)?.map_or(0, |(_, bytes)| bytes);
        if total > MAX_BYTES {
            return Err(too_large());
        }
        heaps.read(*reference, 1, &mut last, &mut text)?;
        text.truncate(memchr::memchr(0, &text).unwrap_or(text.len()));
        Ok(text)
    };
    references.iter().map(&mut read).collect()
}

/// `DIMENSION_LIST` of the dimension scales: per dimension a list of references.
fn references(
    lib: &Library,
    attribute: &Id,
    kind: &Id,
    name: &str,
    count: u64,
    heaps: &Heaps,
) -> Result<(Value, Option<String>)> {
    const OBJECT_BYTES: u64 = 8;
    let base = Id::new(lib.H5Tget_super(kind.raw()), "its type is damaged")?;
    let (class, bytes) = (lib.H5Tget_class(base.raw()), lib.H5Tget_size(base.raw()));
    if name != "DIMENSION_LIST"
        || class != ffi::REFERENCE
        || bytes as u64 != OBJECT_BYTES
        || count > 32
    {
        return Err(sequences());
    }
    let mut last = None;
    let mut paths = Vec::new();
    for list in heap_references(lib, attribute, &[], count, heaps)? {
        if heaps.find(list, OBJECT_BYTES, &mut last)?.is_some_and(|(_, bytes)| bytes > MAX_BYTES) {
            return Err(too_large());
        }
        let mut items = Vec::new();
        heaps.read(list, OBJECT_BYTES, &mut last, &mut items)?;
        paths.push(
            items
                .get(..OBJECT_BYTES as usize)
                .map_or(Value::Null, |first| path_of(lib, attribute, first).into()),
        );
    }
    Ok((Value::Array(paths), Some("dimensions".into())))
}
