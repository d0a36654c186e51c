//! The side file of a finished store.

use std::collections::{HashMap, HashSet};

use super::entries::{
    ArrayEntry, Side, TableEntry, VERSION, array_entry, nested_entry, table_entry,
};
use crate::model::{Attributes, EncodedArray, Encoding, Plan};

/// What a side file must say about a finished store; `None` where there is nothing to say.
///
/// `bare` (`--no-metadata`) leaves out attributes and origins, and keeps what the values mean.
pub fn describe(end: &Plan, attributes: Attributes, bare: bool) -> Option<Vec<u8>> {
    let (encoded, companions) = encoded_arrays(end);
    let mut side = Side::<ArrayEntry, TableEntry>::default();
    (side.npk, side.attributes) = (VERSION, attributes);
    side.order = logical_names(end);
    side.arrays.extend(end.encoded.iter().filter_map(nested_entry));
    for stored in &end.arrays {
        if companions.contains(stored.name.as_str()) {
            continue;
        }
        let encoded = encoded.get(stored.name.as_str()).copied();
        side.arrays.extend(array_entry(stored, encoded, bare));
    }
    if !bare {
        side.groups = end.groups.clone();
    }
    side.tables = end.tables.iter().map(|t| table_entry(t, bare)).collect();
    if side.attributes.is_empty()
        && side.groups.is_empty()
        && side.tables.is_empty()
        && side.arrays.is_empty()
    {
        return None;
    }
    if !bare {
        side.format = end.format.to_string();
    }
    serde_json::to_vec(&side).ok()
}

/// How each array of values but nested ones is encoded, and the names of all companions.
pub(super) fn encoded_arrays(end: &Plan) -> (HashMap<&str, &EncodedArray>, HashSet<&str>) {
    let flat = end.encoded.iter().filter(|k| !matches!(k.encoding, Encoding::Nested(_)));
    let encoded = flat.map(|k| (k.values.as_str(), k)).collect();
    (encoded, end.encoded.iter().flat_map(EncodedArray::companions).collect())
}

/// The logical arrays of a finished store, in order. Parts of nested ones are none.
pub fn logical_names(end: &Plan) -> Vec<String> {
    let (encoded, companions) = encoded_arrays(end);
    let mut part_of: HashMap<&str, &str> = HashMap::new();
    for nested in &end.encoded {
        if let Encoding::Nested(parts) = &nested.encoding {
            part_of
                .extend(parts.arrays().into_iter().map(|part| (part, nested.meta.name.as_str())));
        }
    }
    let (mut names, mut seen) = (Vec::new(), HashSet::new());
    for stored in &end.arrays {
        let own = encoded.get(stored.name.as_str()).map_or(&stored.name, |k| &k.meta.name);
        match part_of.get(own.as_str()) {
            Some(nested) if seen.insert(nested) => names.push(nested.to_string()),
            Some(_) => {}
            None if companions.contains(stored.name.as_str()) => {}
            None => names.push(own.clone()),
        }
    }
    names
}
