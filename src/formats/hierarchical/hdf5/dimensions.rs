//! What netCDF and the dimension scales say of a dataset's dimensions.

use serde_json::Value;

use super::dataset::Dataset;
use super::element_type::ElementType;
use crate::formats::hierarchical::attributes::{DIMENSIONS, ENCODING, decoded, remove};
use crate::model::Attributes;

/// netCDF has text as characters whose last dimension is its length: they are joined, as the CF
/// conventions have it. Those of one dimension may be one text or a text each: an encoding says
/// that they are one.
pub(super) fn join_characters(dataset: &mut Dataset, attributes: &mut Attributes, netcdf: bool) {
    let rank = dataset.dims.len();
    let named = attributes
        .get(DIMENSIONS)
        .and_then(|v| v.as_array())
        .is_some_and(|names| names.len() == rank);
    let is_text = rank > 1 || rank == 1 && !dataset.scalar && attributes.contains_key(ENCODING);
    let Some(&width) = dataset.dims.last().filter(|&&n| is_text && n > 0 && (netcdf || named))
    else {
        return;
    };
    let [leaf] = &mut dataset.leaves[..] else { return };
    if !matches!(leaf.kind, ElementType::Fixed { bytes: 1, .. })
        || !leaf.fields.is_empty()
        || !leaf.dims.is_empty()
    {
        return;
    }
    leaf.joined = usize::try_from(width).ok();
    if named && let Some(names) = attributes.get_mut(DIMENSIONS).and_then(|v| v.as_array_mut()) {
        names.pop();
    }
    if rank == 1 {
        attributes.shift_remove(DIMENSIONS);
    }
    // It numbers the dimensions of the characters.
    attributes.shift_remove("_Netcdf4Coordinates");
    decoded(attributes);
}

/// The names of dimension scales, kept as xarray and Zarr keep them; the references that carried
/// them go.
pub(super) fn dimension_names(path: &str, attributes: &mut Attributes) {
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_string();
    let scale = attributes.get("CLASS").and_then(Value::as_str) == Some("DIMENSION_SCALE");
    let names = match attributes.get("DIMENSION_LIST") {
        Some(Value::Array(paths)) => Some(
            paths
                .iter()
                .map(|p| Value::String(last(p.as_str().unwrap_or_default())))
                .collect::<Vec<Value>>(),
        ),
        _ if scale => Some(vec![Value::String(last(path))]),
        _ => None,
    };
    for name in ["DIMENSION_LIST", "REFERENCE_LIST"] {
        remove(attributes, name);
    }
    if let Some(names) = names {
        attributes.insert(DIMENSIONS.into(), Value::Array(names));
    }
}
