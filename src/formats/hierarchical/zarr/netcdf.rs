//! Attributes as xarray and netCDF expect them in Zarr, and back.
//!
//! - `_FillValue`: in v2 it is the array's `fill_value`; in v3 an attribute, of a float as the
//!   base64 of its float64.
//! - NaN and infinities in other attributes are text, since JSON has no such numbers (zarr-python
//!   writes bare words, which make a document unreadable for others); their types say that they are
//!   numbers.
//! - netCDF keeps numbers as lists of one; in Zarr they are plain numbers.
//! - What only HDF5 needs (the types of attributes, the marks of dimension scales) goes into one
//!   attribute of the group, [`HIDDEN`]: xarray shows no attributes of groups that begin with
//!   `_nc`.
//!
//! ```json
//! {"_nc_npk": {"temp": {"types": {"_FillValue": "float32(1)"}, "lists": ["_FillValue"], "attributes": {"_Netcdf4Dimid": 0}}}}
//! ```
//! The empty name stands for the group itself; the root's may hold `order`, the paths of all arrays
//! in their order of appearance, where the members of a group do not follow each other in it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use indexmap::IndexMap;
use serde_json::{Value, json};

use super::node::Info;
use crate::formats::hierarchical::attributes::{DIMENSIONS, TYPES};
use crate::model::json_float;
use crate::model::{Attributes, Dtype, Plan};

/// The attribute of a group that keeps what xarray is not shown.
pub const HIDDEN: &str = "_nc_npk";
/// The value for missing elements.
pub const FILL: &str = "_FillValue";
/// What makes a dataset of HDF5 a dimension of netCDF.
const SCALE: [&str; 2] = ["CLASS", "NAME"];
const NETCDF: [&str; 2] = ["_Netcdf4Dimid", "_Netcdf4Coordinates"];

fn is_scale(attributes: &Attributes) -> bool {
    attributes.get("CLASS").and_then(Value::as_str) == Some("DIMENSION_SCALE")
}

/// Whether the arrays come from a netCDF file.
pub fn is_netcdf(plan: &Plan) -> bool {
    let of_array = |a: &Attributes| is_scale(a) || NETCDF.iter().any(|n| a.contains_key(*n));
    plan.attributes.contains_key("_NCProperties")
        || plan.arrays.iter().any(|a| of_array(&a.details.attributes))
}

/// Takes out what xarray is not shown, for [`HIDDEN`].
pub fn hide(attributes: &mut Attributes, netcdf: bool) -> Option<Value> {
    let mut hidden = Attributes::new();
    if let Some(types) = attributes.shift_remove(TYPES) {
        hidden.insert("types".into(), types);
    }
    let mut lists = Vec::new();
    for (name, value) in attributes.iter_mut().filter(|(name, _)| netcdf || *name == FILL) {
        if let Value::Array(items) = value
            && items.len() == 1
            && name != DIMENSIONS
        {
            lists.push(Value::from(name.as_str()));
            *value = items.remove(0);
        }
    }
    if !lists.is_empty() {
        hidden.insert("lists".into(), lists.into());
    }
    let scale = if is_scale(attributes) { &SCALE[..] } else { &[] };
    let names = scale.iter().chain(&NETCDF).filter(|_| netcdf);
    let taken: Attributes =
        names.filter_map(|n| Some((n.to_string(), attributes.shift_remove(*n)?))).collect();
    if !taken.is_empty() {
        hidden.insert("attributes".into(), taken.into());
    }
    (!hidden.is_empty()).then_some(Value::Object(hidden))
}

/// The key of the order of appearance.
pub const ORDER: &str = "order";

/// Undoes [`hide`] in all groups and arrays.
pub fn restore(groups: &mut IndexMap<String, Attributes>, arrays: &mut [(String, Info)]) {
    let mut all: Vec<(String, Value)> = Vec::new();
    let mut order: Option<Value> = None;
    for (path, attributes) in groups {
        let Some(Value::Object(hidden)) = attributes.shift_remove(HIDDEN) else { continue };
        for (name, hidden) in hidden {
            if name.is_empty() {
                show(attributes, &hidden);
                order = if path.is_empty() { hidden.get(ORDER).cloned() } else { order };
            } else {
                all.push((if path.is_empty() { name } else { format!("{path}/{name}") }, hidden));
            }
        }
    }
    let hidden: std::collections::HashMap<String, Value> = all.into_iter().collect();
    for (path, info) in arrays.iter_mut() {
        decode_fill(info);
        if let Some(hidden) = hidden.get(path) {
            show(&mut info.attributes, hidden);
        }
    }
    if let Some(order) = order.as_ref().and_then(Value::as_array) {
        let places: std::collections::HashMap<&str, usize> =
            order.iter().enumerate().filter_map(|(i, path)| Some((path.as_str()?, i))).collect();
        arrays.sort_by_key(|(path, _)| places.get(path.as_str()).copied().unwrap_or(usize::MAX));
    }
}

fn show(attributes: &mut Attributes, hidden: &Value) {
    for (name, value) in hidden.get("attributes").and_then(Value::as_object).into_iter().flatten() {
        if !attributes.contains_key(name) {
            attributes.insert(name.clone(), value.clone());
        }
    }
    if let (Some(bits), Some(fill)) = (hidden.get("fill"), attributes.get_mut(FILL))
        && fill.as_str() == Some("NaN")
    {
        *fill = bits.clone();
    }
    for name in hidden
        .get("lists")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if let Some(value) = attributes.get_mut(name).filter(|v| !v.is_array()) {
            *value = json!([value.take()]);
        }
    }
    if let Some(types) = hidden.get("types") {
        attributes.insert(TYPES.into(), types.clone());
    }
}

/// The type that a `_FillValue` of an array of floats is kept in: the array's, or that of the parts
/// of complex numbers.
fn float_of(dtype: Dtype) -> Option<Dtype> {
    match dtype {
        Dtype::C64 => Some(Dtype::F32),
        Dtype::C128 => Some(Dtype::F64),
        Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64 => Some(dtype),
        _ => None,
    }
}

/// Bits of the exponent and of the mantissa.
fn layout_of(dtype: Dtype) -> (u32, u32) {
    match dtype {
        Dtype::F16 => (5, 10),
        Dtype::Bf16 => (8, 7),
        Dtype::F32 => (8, 23),
        _ => (11, 52),
    }
}

/// A NaN of a smaller type as a float64 with the same sign and payload.
fn widened_nan(bits: u64, dtype: Dtype) -> u64 {
    let (exponent, mantissa) = layout_of(dtype);
    let sign = bits >> (exponent + mantissa) & 1;
    sign << 63 | 0x7ff << 52 | (bits & ((1 << mantissa) - 1)) << (52 - mantissa)
}

/// Undoes [`widened_nan`]; `None` where the payload does not fit.
fn narrowed_nan(bits: u64, dtype: Dtype) -> Option<u64> {
    let (exponent, mantissa) = layout_of(dtype);
    let payload = bits & ((1 << 52) - 1);
    let kept = payload >> (52 - mantissa);
    let fits = kept != 0 && kept << (52 - mantissa) == payload;
    fits.then(|| bits >> 63 << (exponent + mantissa) | ((1 << exponent) - 1) << mantissa | kept)
}

/// `_FillValue` as xarray keeps it in v3; what it cannot be stays as it is.
pub fn encode_fill(value: &Value, dtype: Dtype) -> Value {
    let Some(part) = float_of(dtype) else { return value.clone() };
    let encoded = |v: &Value| -> Option<Value> {
        let mut bits = json_float::from_json(v, part)?;
        let is_hex = v.as_str().is_some_and(|text| text.starts_with("0x"));
        let wide = if is_hex {
            bits.resize(8, 0);
            let bits = u64::from_le_bytes(bits.try_into().ok()?);
            widened_nan(bits, part).to_le_bytes().to_vec()
        } else {
            json_float::from_json(v, Dtype::F64)?
        };
        Some(BASE64.encode(wide).into())
    };
    let made = match value {
        Value::Array(parts) if dtype.is_complex() && parts.len() == 2 => {
            parts.iter().map(encoded).collect::<Option<Vec<_>>>().map(Value::Array)
        }
        real if dtype.is_float() => encoded(real),
        _ => None,
    };
    made.unwrap_or_else(|| value.clone())
}

/// Undoes [`encode_fill`].
fn decode_fill(info: &mut Info) {
    let dtype = Dtype::of_name(&info.stored);
    let Some(part) = dtype.and_then(float_of) else { return };
    let Some(value) = info.attributes.get_mut(FILL) else { return };
    let decoded = |v: &Value| -> Option<Value> {
        let bytes: [u8; 8] = BASE64.decode(v.as_str()?).ok()?.try_into().ok()?;
        let wide = f64::from_le_bytes(bytes);
        match narrowed_nan(wide.to_bits(), part) {
            Some(bits) if wide.is_nan() => {
                json_float::to_json(part, &bits.to_le_bytes()[..part.item_bytes() as usize])
            }
            _ => json_float::to_json(Dtype::F64, &bytes),
        }
    };
    let made = match &*value {
        Value::Array(parts) if dtype.is_some_and(Dtype::is_complex) && parts.len() == 2 => {
            parts.iter().map(decoded).collect::<Option<Vec<_>>>().map(Value::Array)
        }
        real if dtype == Some(part) => decoded(real),
        _ => None,
    };
    if let Some(made) = made {
        *value = made;
    }
}

/// Keeps the bits of a NaN that the `fill_value` of a v2 array cannot say: there it is `NaN`.
pub fn keep_nan(attributes: &mut Attributes, hidden: &mut Option<Value>, dtype: Dtype) {
    let Some(fill) = attributes.get_mut(FILL) else { return };
    let is_hex = fill.as_str().is_some_and(|text| text.starts_with("0x"));
    if is_hex && float_of(dtype) == Some(dtype) && json_float::from_json(fill, dtype).is_some() {
        let bits = std::mem::replace(fill, "NaN".into());
        if let Value::Object(hidden) = hidden.get_or_insert_with(|| json!({})) {
            hidden.insert("fill".into(), bits);
        }
    }
}

/// The first attribute that is a number (as its type says) and that JSON has no number for.
pub fn first_without_number(attributes: &Attributes, dtype: Option<Dtype>) -> Option<&str> {
    let types = attributes.get(TYPES)?.as_object()?;
    let is_float = |name: &str| {
        types
            .get(name)
            .and_then(Value::as_str)
            .is_some_and(|spec| spec.starts_with("float") || spec.starts_with("complex"))
    };
    fn has_text(value: &Value) -> bool {
        match value {
            Value::Array(items) => items.iter().any(has_text),
            other => other.is_string(),
        }
    }
    // The fill value of an array of floats is written as xarray reads it.
    let is_fill = |name: &str| name == FILL && dtype.and_then(float_of).is_some();
    attributes
        .iter()
        .find(|(name, value)| !is_fill(name) && is_float(name) && has_text(value))
        .map(|(name, _)| name.as_str())
}

/// `_FillValue` as the `fill_value` of a v2 array; `None` where it cannot be one.
pub fn v2_fill(value: &Value, dtype: Dtype) -> Option<Value> {
    if let Some(range) = dtype.integer_range() {
        let wide = value.as_i64().map(i128::from).or(value.as_u64().map(i128::from))?;
        return range.contains(&wide).then(|| value.clone());
    }
    (float_of(dtype) == Some(dtype) && json_float::from_json(value, dtype).is_some())
        .then(|| value.clone())
}

/// What the `fill_value` of a v2 array means to xarray, which knows it by the names of dimensions.
pub fn v2_attribute(meta: &Value, attributes: &mut Attributes) {
    let number = meta
        .get("dtype")
        .and_then(Value::as_str)
        .is_some_and(|d| matches!(d.as_bytes(), [_, b'f' | b'i' | b'u', ..]));
    let fill = meta.get("fill_value").filter(|v| json_float::from_json(v, Dtype::F64).is_some());
    if let Some(fill) = fill
        && number
        && attributes.contains_key(DIMENSIONS)
        && !attributes.contains_key(FILL)
    {
        attributes.insert(FILL.into(), fill.clone());
    }
}
