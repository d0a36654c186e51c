//! Reading: the maps of all arrays, for the array engine.

use std::sync::Arc;

use super::store::Store;
use super::tree;
use crate::array::source::MapSource;
use crate::error::{Error, Result};
use crate::format::ReadOptions;
use crate::format::duplicates;
use crate::model::Plan;
use crate::storage::Location;

/// Opens the hierarchy at `at`.
///
/// # Errors
/// Missing, refused or corrupt.
pub fn open(at: &Location, options: &ReadOptions) -> Result<MapSource> {
    let store = Arc::new(Store::open(at)?);
    let tree = tree::read(&store, options.resources.memory_bytes())?;
    let notes = [store.notes(), tree.notes].concat();
    let mut plan = Plan { format: "zarr", notes, ..Plan::default() };
    let version = match tree.versions {
        [true, true] => "v2 and v3",
        [true, false] => "v2",
        _ => "v3",
    };
    plan.format_version = Some(version.into());
    let group = options.group.as_deref().map(|g| g.trim_matches('/')).filter(|g| !g.is_empty());
    let inside = |path: &str| {
        group.is_none_or(|g| {
            path == g || path.strip_prefix(g).is_some_and(|rest| rest.starts_with('/'))
        })
    };
    let mut any = group.is_none();
    for (path, attributes) in tree.groups {
        any |= group == Some(path.as_str());
        if path.is_empty() {
            plan.attributes = attributes.into();
        } else if inside(&path) {
            plan.groups.insert(path, attributes);
        }
    }
    let stem = at.stem();
    let mut found = Vec::new();
    for (path, info) in tree.arrays.into_iter().filter(|(path, _)| inside(path)) {
        let name = if path.is_empty() { stem.clone() } else { path };
        found.extend(info.arrays(&name).into_iter().map(|array| (name.clone(), array)));
    }
    if !any && found.is_empty() {
        return Err(Error::missing(format!("there is no group '{}'", group.unwrap_or_default())));
    }
    // A field NAME.f may be beside an array of that very name.
    let names: Vec<String> = found.iter().map(|(_, (meta, _))| meta.name.clone()).collect();
    let place = |i: usize| match &found[i] {
        (array, (meta, _)) if *array == meta.name => "an array".to_string(),
        (array, _) => format!("a field of {array}"),
    };
    let kept = duplicates::unique(&names, options.on_duplicate, &place)?;
    let mut maps = Vec::with_capacity(found.len());
    for ((_, (mut meta, map)), name) in found.into_iter().zip(kept) {
        let Some(name) = name else { continue };
        meta.name = name;
        plan.arrays.push(meta);
        maps.push(map);
    }
    Ok(MapSource::new(plan, maps, options.resources.memory_bytes()))
}
