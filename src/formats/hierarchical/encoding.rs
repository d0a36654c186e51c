//! The encoding that netCDF names for the characters of a variable.

use serde_json::Value;

use crate::model::Attributes;

/// The attribute of netCDF's and xarray's that names it.
pub(super) const ENCODING: &str = "_Encoding";

/// Takes the encoding out of the attributes of characters that became text: readers would decode
/// the text once more. One that is neither UTF-8 nor ASCII stays, for nothing was decoded.
pub(super) fn decoded(attributes: &mut Attributes) {
    let name = attributes.get(ENCODING).and_then(Value::as_str).unwrap_or_default();
    let name = name.to_ascii_lowercase().replace(['-', '_'], "");
    if matches!(name.as_str(), "utf8" | "ascii" | "usascii") {
        attributes.shift_remove(ENCODING);
        if let Some(Value::Object(types)) = attributes.get_mut("hdf5:types") {
            types.shift_remove(ENCODING);
            if types.is_empty() {
                attributes.shift_remove("hdf5:types");
            }
        }
    }
}
