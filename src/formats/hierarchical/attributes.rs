//! The attributes that HDF5, netCDF and Zarr share: what npk calls them whatever the file has.

use serde_json::Value;

use crate::model::Attributes;

/// The types of other attributes, by name, where JSON does not tell them: as HDF5 has them.
pub(super) const TYPES: &str = "hdf5:types";

/// The names of an array's dimensions, as xarray and Zarr keep them.
pub(super) const DIMENSIONS: &str = "_ARRAY_DIMENSIONS";

/// The encoding that netCDF names for the characters of a variable.
pub(super) const ENCODING: &str = "_Encoding";

/// Takes an attribute away, and what tells its type.
pub(super) fn remove(attributes: &mut Attributes, name: &str) {
    attributes.shift_remove(name);
    if let Some(Value::Object(types)) = attributes.get_mut(TYPES) {
        types.shift_remove(name);
        if types.is_empty() {
            attributes.shift_remove(TYPES);
        }
    }
}

/// Takes the encoding out of the attributes of characters that became text: readers would decode
/// the text once more. One that is neither UTF-8 nor ASCII stays, for nothing was decoded.
pub(super) fn decoded(attributes: &mut Attributes) {
    let name = attributes.get(ENCODING).and_then(Value::as_str).unwrap_or_default();
    let name = name.to_ascii_lowercase().replace(['-', '_'], "");
    if matches!(name.as_str(), "utf8" | "ascii" | "usascii") {
        remove(attributes, ENCODING);
    }
}
