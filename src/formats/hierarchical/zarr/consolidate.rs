//! The metadata of what was written: a document or two a node, and all of them once more in the
//! root.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::layout::{Layout, check_path};
use super::netcdf;
use super::target::Target;
use crate::error::{Error, Result, counted};
use crate::format::{Summary, WriteOptions};
use crate::model::{Attributes, Plan};
use crate::sidecar;

/// Puts what xarray is not shown of groups and arrays into an attribute of their group;
/// `order`: the arrays' paths, where the consolidated metadata has another.
fn hide(
    layouts: &[Layout],
    end: &Plan,
    root: &mut Attributes,
    groups: &mut BTreeMap<String, Attributes>,
    order: Option<Value>,
) {
    let is_netcdf = netcdf::is_netcdf(end);
    let mut hidden: BTreeMap<&str, Attributes> = BTreeMap::new();
    for layout in layouts {
        if let Some(of_array) = &layout.hidden {
            let (group, name) = layout.path.rsplit_once('/').unwrap_or(("", &layout.path));
            hidden.entry(group).or_default().insert(name.into(), of_array.clone());
        }
    }
    let mut order = order;
    for (path, attributes) in
        std::iter::once(("", root)).chain(groups.iter_mut().map(|(p, a)| (p.as_str(), a)))
    {
        let mut all = hidden.remove(path).unwrap_or_default();
        let mut own = netcdf::hide(attributes, is_netcdf).unwrap_or_else(|| json!({}));
        if let (Some(order), Some(own)) = (order.take(), own.as_object_mut()) {
            own.insert(netcdf::ORDER.into(), order);
        }
        if own.as_object().is_some_and(|own| !own.is_empty()) {
            all.insert(String::new(), own);
        }
        if !all.is_empty() {
            attributes.insert(netcdf::HIDDEN.into(), Value::Object(all));
        }
    }
}

/// The groups to write, with their attributes: those of the plan, and those that arrays and
/// groups are in.
fn all_groups(
    layouts: &[Layout],
    end: &Plan,
    options: &WriteOptions,
    notes: &mut Vec<String>,
) -> BTreeMap<String, Attributes> {
    let mut groups: BTreeMap<String, Attributes> = BTreeMap::new();
    if !options.no_metadata {
        for (path, attributes) in &end.groups {
            let taken = |p: &str| layouts.iter().any(|l| l.path == p);
            if check_path(path).is_err()
                || taken(path)
                || path.match_indices('/').any(|(i, _)| taken(&path[..i]))
            {
                notes.push(format!("the attributes of the group {path} are left out: a Zarr group cannot have this name here"));
            } else {
                groups.insert(path.clone(), attributes.clone());
            }
        }
    }
    let parents: Vec<String> =
        layouts.iter().map(|l| l.path.clone()).chain(groups.keys().cloned()).collect();
    for path in parents {
        for (i, _) in path.match_indices('/') {
            groups.entry(path[..i].to_string()).or_default();
        }
    }
    groups
}

/// A note on attributes that JSON has no numbers for.
fn without_numbers(end: &Plan, options: &WriteOptions) -> Option<String> {
    if options.no_metadata {
        return None;
    }
    let groups = std::iter::once(("the root", &*end.attributes))
        .chain(end.groups.iter().map(|(path, a)| (path.as_str(), a)));
    let arrays = end.arrays.iter().map(|a| (a.name.as_str(), &a.details.attributes, Some(a.dtype)));
    let all: Vec<(&str, &str)> = groups
        .map(|(path, attributes)| (path, attributes, None))
        .chain(arrays)
        .filter_map(|(path, attributes, dtype)| {
            Some((netcdf::first_without_number(attributes, dtype)?, path))
        })
        .collect();
    let (name, path) = all.first()?;
    Some(format!(
        "attributes of {} are NaN or infinite (the first: {name} of {path}): JSON has no such numbers, they are written as text",
        counted(all.len() as u64, "node")
    ))
}

/// Writes the metadata, the root's last.
///
/// # Errors
/// Disk full and the like.
pub fn commit(
    target: Target,
    layouts: &[Layout],
    end: &Plan,
    options: &WriteOptions,
) -> Result<Summary> {
    let store = &mut |key: &str, document: &[u8]| target.store(key, document);
    let (last, notes) = documents(layouts, end, options, store)?;
    target.commit(&last, notes)
}

/// The root's documents, and notes.
type Last = (Vec<(&'static str, Vec<u8>)>, Vec<String>);

/// Hands on the documents of all nodes but the root: their keys and contents. Returns the root's,
/// which are written last, in this order.
///
/// # Errors
/// Those of `each`.
pub fn documents(
    layouts: &[Layout],
    end: &Plan,
    options: &WriteOptions,
    each: &mut dyn FnMut(&str, &[u8]) -> Result<()>,
) -> Result<Last> {
    let version = options.zarr_format.unwrap_or(3);
    let mut notes = Vec::new();
    let mut groups = all_groups(layouts, end, options, &mut notes);
    let mut root = options.attributes(end);
    sidecar::mark_tables(end, options.no_metadata, &mut root);
    notes.extend(without_numbers(end, options));
    let paths: Vec<&str> = layouts.iter().map(|l| l.path.as_str()).collect();
    let names: Vec<String> = groups.keys().cloned().collect();
    let nodes = depth_first(&paths, names.iter().map(String::as_str));
    let is_array: std::collections::HashSet<&str> = paths.iter().copied().collect();
    let in_order = nodes.iter().filter(|n| is_array.contains(*n)).eq(&paths);
    hide(
        layouts,
        end,
        &mut root,
        &mut groups,
        (!in_order && !options.no_metadata).then(|| json!(paths)),
    );
    let mut documents: HashMap<String, Vec<(&str, Value)>> = HashMap::new();
    for (path, attributes) in groups {
        documents.insert(path, group_documents(attributes, version));
    }
    for layout in layouts {
        documents.insert(layout.path.clone(), layout.documents());
    }
    let text = |v: &Value| {
        serde_json::to_vec_pretty(v)
            .map_err(|e| Error::failed("cannot write the metadata").because(e))
    };
    let mut all = serde_json::Map::new();
    for path in nodes {
        for (name, doc) in documents.remove(path).into_iter().flatten() {
            let key = format!("{path}/{name}");
            each(&key, &text(&doc)?)?;
            all.insert(if version == 3 { path.to_string() } else { key }, doc);
        }
    }
    let mut last: Vec<(&'static str, Vec<u8>)> = Vec::new();
    for (name, mut doc) in group_documents(root, version) {
        if version == 3 {
            // Moved, not copied: all nodes are in it.
            let mut consolidated = json!({"kind": "inline", "must_understand": false});
            consolidated["metadata"] = Value::Object(std::mem::take(&mut all));
            doc["consolidated_metadata"] = consolidated;
        } else {
            all.insert(name.into(), doc.clone());
        }
        last.push((name, text(&doc)?));
    }
    if version == 2 {
        last.reverse(); // what makes it a group comes after its attributes
        let nodes = Value::Object(all);
        let mut all = json!({"zarr_consolidated_format": 1});
        all["metadata"] = nodes;
        if layouts.iter().any(|layout| layout.elsewhere.is_some()) {
            all["record_size"] = json!(super::layout::RECORD_CHUNKS);
        }
        last.push((".zmetadata", text(&all)?));
    }
    Ok((last, notes))
}

/// The documents of a group: names below its path, and contents.
fn group_documents(attributes: Attributes, version: u8) -> Vec<(&'static str, Value)> {
    if version == 3 {
        return vec![(
            "zarr.json",
            json!({"zarr_format": 3, "node_type": "group", "attributes": attributes}),
        )];
    }
    let mut all = vec![(".zgroup", json!({"zarr_format": 2}))];
    if !attributes.is_empty() {
        all.push((".zattrs", Value::Object(attributes)));
    }
    all
}

/// All nodes, each group followed by what is in it, in order of appearance: arrays as given, then
/// groups without arrays. zarr-python takes the members of a group from consolidated metadata only
/// where they follow each other.
fn depth_first<'a>(arrays: &[&'a str], groups: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut children: HashMap<&str, Vec<&'a str>> = HashMap::new();
    let mut seen = std::collections::HashSet::new();
    for path in arrays.iter().copied().chain(groups) {
        let ends = path.match_indices('/').map(|(i, _)| i).chain([path.len()]);
        for end in ends {
            let node = &path[..end];
            if seen.insert(node) {
                children
                    .entry(node.rsplit_once('/').map_or("", |(parent, _)| parent))
                    .or_default()
                    .push(node);
            }
        }
    }
    let mut nodes = Vec::with_capacity(seen.len());
    let mut stack: Vec<&str> = children.remove("").unwrap_or_default();
    stack.reverse();
    while let Some(node) = stack.pop() {
        nodes.push(node);
        stack.extend(children.remove(node).unwrap_or_default().into_iter().rev());
    }
    nodes
}
