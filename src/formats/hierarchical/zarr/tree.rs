//! Finds the nodes of a hierarchy: by walking, or far away from consolidated metadata where there
//! is some.
//!
//! Consolidated metadata is a copy that writers make when they are done; what changes an array
//! later leaves it as it is. In a directory or zip of this machine every node's own documents are
//! read, which are always the newest; the copy tells the order of the nodes, and where it differs
//! from them a note says so. zarr-python and xarray believe the copy. Of object storage the copy is
//! taken as it is: to compare it would take a request or more for each node.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;

use super::json;
use super::layout::made_up;
use super::netcdf;
use super::node::{self, Info, NodeLocation};
use super::store::Store;
use crate::error::{Error, Result};
use crate::formats::hierarchical::attributes::DIMENSIONS;
use crate::model::Attributes;
use crate::storage::walk::{Trail, Visited};

/// The deepest group.
const MAX_DEPTH: usize = 64;
/// The most nodes and folders that are looked at.
const MAX_NODES: usize = 2_000_000;

/// What a hierarchy holds.
#[derive(Default)]
pub struct Tree {
    /// Arrays by path (empty: the root itself), in order of appearance.
    pub arrays: Vec<(String, Info)>,
    /// Attributes of groups by path; the root's under the empty path.
    pub groups: IndexMap<String, Attributes>,
    /// Things to say.
    pub notes: Vec<String>,
    /// Versions seen.
    pub versions: [bool; 2],
}

/// A node's document.
enum Doc {
    Array(u8, Value, Attributes),
    Group(u8, Value, Attributes),
    /// A path that is not to be opened.
    Unsafe(Error),
}

/// What makes an array, in the documents of both versions.
const ARRAY_KEYS: [&str; 12] = [
    "shape",
    "zarr_format",
    "data_type",
    "dtype",
    "chunk_grid",
    "chunks",
    "chunk_key_encoding",
    "codecs",
    "compressor",
    "filters",
    "order",
    "fill_value",
];

struct Walk<'a> {
    store: &'a Arc<Store>,
    memory_bytes: u64,
    tree: Tree,
    twice: Vec<String>,
    /// What the consolidated metadata says of each node, until the node's own document was seen.
    /// In any order: whole trees are taken out one by one.
    copies: IndexMap<String, Doc>,
    /// Nodes whose own documents say something else than the copy, and what is different.
    stale: Vec<String>,
}

/// Reads the metadata of every node.
///
/// # Errors
/// Missing where there is no node at all; corrupt or refused where the root cannot be read.
pub fn read(store: &Arc<Store>, memory_bytes: u64) -> Result<Tree> {
    let mut walk = Walk {
        store,
        memory_bytes,
        tree: Tree::default(),
        twice: Vec::new(),
        copies: IndexMap::new(),
        stale: Vec::new(),
    };
    match walk.node("")? {
        Some(Doc::Array(version, meta, attributes)) => walk.array("", version, &meta, attributes),
        root => {
            let is_group = root.is_some();
            if let Some(Doc::Group(version, meta, attributes)) = root {
                walk.tree.versions[usize::from(version == 3)] = true;
                walk.tree.groups.insert(String::new(), attributes);
                let copies = walk.consolidated(version, &meta)?;
                match copies {
                    Some(copies) if !store.is_near() => {
                        copies.into_iter().try_for_each(|(path, doc)| walk.take(&path, doc))?
                    }
                    copies => walk.compared(copies.unwrap_or_default())?,
                }
            } else {
                walk.below("", false)?;
            }
            if !is_group && walk.tree.arrays.is_empty() {
                if let Ok(Some(document)) = walk.document("", ".zmetadata")
                    && document.get("record_size").is_some()
                {
                    return Err(only_references());
                }
                return Err(Error::missing(
                    "this is not a Zarr hierarchy: it has no zarr.json, .zgroup or .zarray",
                ));
            }
        }
    }
    let Walk { mut tree, twice, stale, .. } = walk;
    if let Some(first) = stale.first() {
        tree.notes
            .push(format!("the consolidated metadata is older than {} of the nodes ({first}); their own metadata was read", stale.len()));
    }
    netcdf::restore(&mut tree.groups, &mut tree.arrays);
    if let Some(first) = twice.first() {
        let first = if first.is_empty() { "the root" } else { first };
        tree.notes.push(format!(
            "{} of the nodes (the first: {first}) have both v2 and v3 metadata; v3 was read",
            twice.len()
        ));
    }
    Ok(tree)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}/{name}") }
}

/// A path from a document, before it is used to open files.
fn is_safe(path: &str) -> bool {
    path.split('/')
        .all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains('\0'))
        && path.len() < 1 << 16
}

fn object(value: Option<&Value>) -> Attributes {
    value.and_then(Value::as_object).cloned().unwrap_or_default()
}

impl Walk<'_> {
    fn document(&self, path: &str, name: &str) -> Result<Option<Value>> {
        let key = join(path, name);
        match self.store.get(&key, self.memory_bytes).map_err(|e| e.about(&key))? {
            Some(bytes) => json::parse(&bytes, name == ".zattrs", self.memory_bytes).map(Some),
            None => Ok(None),
        }
    }

    /// The node at `path`, v3 before v2.
    fn node(&mut self, path: &str) -> Result<Option<Doc>> {
        if let Some(mut meta) = self.document(path, "zarr.json")? {
            if let Store::Dir(at) = self.store.as_ref()
                && !at.is_remote()
                && [".zarray", ".zgroup"]
                    .iter()
                    .any(|m| self.store.has(&join(path, m)).unwrap_or(false))
            {
                self.twice.push(path.to_string());
            }
            if meta.get("zarr_format").and_then(Value::as_u64) != Some(3) {
                let found = meta.get("zarr_format").unwrap_or(&Value::Null);
                return Err(Error::refused(format!(
                    "zarr_format {found} is not supported; 2 and 3 are"
                )));
            }
            let attributes = match meta.as_object_mut().and_then(|m| m.remove("attributes")) {
                Some(Value::Object(all)) => all,
                _ => Attributes::new(),
            };
            return match meta.get("node_type").and_then(Value::as_str) {
                Some("array") => Ok(Some(Doc::Array(3, meta, attributes))),
                Some("group") => Ok(Some(Doc::Group(3, meta, attributes))),
                other => Err(Error::corrupt(format!(
                    "zarr.json has the node_type '{}'",
                    other.unwrap_or("?")
                ))),
            };
        }
        if let Some(meta) = self.document(path, ".zarray")? {
            let attributes = object(self.document(path, ".zattrs")?.as_ref());
            return Ok(Some(Doc::Array(2, meta, attributes)));
        }
        if let Some(meta) = self.document(path, ".zgroup")? {
            let attributes = object(self.document(path, ".zattrs")?.as_ref());
            return Ok(Some(Doc::Group(2, meta, attributes)));
        }
        Ok(None)
    }

    fn array(&mut self, path: &str, version: u8, meta: &Value, mut attributes: Attributes) {
        self.tree.versions[usize::from(version == 3)] = true;
        if let Some(names) = meta
            .get("dimension_names")
            .filter(|n| n.as_array().is_some_and(|l| l.iter().any(|n| !n.is_null())))
            && !attributes.contains_key(DIMENSIONS)
        {
            attributes.insert(DIMENSIONS.into(), names.clone());
        }
        if version == 2 {
            netcdf::v2_attribute(meta, &mut attributes);
        }
        let rank = meta.get("shape").and_then(Value::as_array).map_or(0, Vec::len);
        if attributes
            .get(DIMENSIONS)
            .and_then(Value::as_array)
            .is_some_and(|names| names.is_empty() || *names == made_up(path, rank))
        {
            attributes.shift_remove(DIMENSIONS);
        }
        let at = NodeLocation { store: self.store, path, memory_bytes: self.memory_bytes };
        self.tree.arrays.push((path.to_string(), node::array(meta, attributes, version, &at)));
    }

    /// A node as its document says.
    fn take(&mut self, path: &str, doc: Doc) -> Result<()> {
        match doc {
            Doc::Array(version, meta, attributes) => self.array(path, version, &meta, attributes),
            Doc::Group(version, _, attributes) => {
                self.tree.versions[usize::from(version == 3)] = true;
                self.tree.groups.insert(path.to_string(), attributes);
            }
            Doc::Unsafe(error) => self.broken(path, error)?,
        }
        Ok(())
    }

    /// Walks the hierarchy beside the copies of its metadata.
    fn compared(&mut self, copies: IndexMap<String, Doc>) -> Result<()> {
        let places: HashMap<String, usize> =
            copies.keys().enumerate().map(|(i, path)| (path.clone(), i)).collect();
        let is_consolidated = !copies.is_empty();
        self.copies = copies;
        self.below("", is_consolidated)?;
        let place = |path: &str| places.get(path).copied().unwrap_or(usize::MAX);
        let mut left = std::mem::take(&mut self.copies);
        left.sort_by_cached_key(|path, _| place(path));
        for (path, doc) in left {
            let is_array = matches!(doc, Doc::Array(..));
            if matches!(doc, Doc::Unsafe(_)) {
                self.take(&path, doc)?;
            } else if self.store.list(&path).is_ok_and(|found| !found.names.is_empty()) {
                // Its chunks are there: somebody copied all but the documents.
                self.take(&path, doc)?;
                self.tree.notes.push(format!(
                    "{path} has no metadata of its own; the consolidated metadata was read"
                ));
            } else if is_array {
                self.stale.push(format!("the array {path} is gone"));
            }
        }
        self.tree.arrays.sort_by_key(|(path, _)| place(path));
        // The root comes first.
        self.tree
            .groups
            .sort_by_cached_key(|path, _| if path.is_empty() { (0, 0) } else { (1, place(path)) });
        Ok(())
    }

    /// Compares a node's own document with its copy.
    fn compare(&mut self, path: &str, doc: &Doc, is_consolidated: bool) {
        if !is_consolidated {
            return;
        }
        let what = match (self.copies.swap_remove(path), doc) {
            (None, Doc::Array(..)) => format!("the array {path} is not in it"),
            (Some(Doc::Array(_, old, old_attributes)), Doc::Array(_, new, attributes)) => {
                match ARRAY_KEYS.iter().find(|key| old.get(**key) != new.get(**key)) {
                    Some(&"shape") => format!(
                        "the shape of {path} is {} there, {} in its own",
                        shown(&old),
                        shown(new)
                    ),
                    Some(key) => format!("{key} of {path} differs"),
                    None if old_attributes != *attributes => format!("attributes of {path} differ"),
                    None => return,
                }
            }
            (Some(Doc::Group(_, _, old)), Doc::Group(_, _, new)) if old != *new => {
                format!("attributes of {path} differ")
            }
            (Some(Doc::Array(..)), Doc::Group(..)) => format!("{path} is a group now"),
            (Some(Doc::Group(..)), Doc::Array(..)) => format!("{path} is an array now"),
            _ => return,
        };
        self.stale.push(what);
    }

    /// An array whose metadata cannot be read at all.
    fn broken(&mut self, path: &str, error: Error) -> Result<()> {
        let node = Err(error.of_data()?);
        let info = Info {
            shape: vec![0],
            chunks: None,
            stored: String::new(),
            attributes: Attributes::new(),
            node,
        };
        self.tree.arrays.push((path.to_string(), info));
        Ok(())
    }

    /// Walks what is below a group, without recursion.
    fn below(&mut self, root: &str, is_consolidated: bool) -> Result<()> {
        let mut stack: Vec<(String, usize, Trail)> = vec![(root.to_string(), 0, Trail::default())];
        let mut seen = 0usize;
        let mut visited = Visited::default();
        let mut is_first = true;
        while let Some((path, depth, above)) = stack.pop() {
            seen += 1;
            let Some(trail) = self
                .store
                .directory(&path)
                .map_or(Ok(Some(above.clone())), |at| visited.enter(&above, &at))?
            else {
                self.tree.notes.push(format!(
                    "{path} is a link to a group that it is in: it is not read again"
                ));
                continue;
            };
            if seen > MAX_NODES {
                return Err(Error::refused(format!(
                    "the hierarchy has more than {MAX_NODES} nodes"
                )));
            }
            if !is_first {
                match self.node(&path) {
                    Ok(Some(doc)) => {
                        let is_group = matches!(doc, Doc::Group(..));
                        self.compare(&path, &doc, is_consolidated);
                        self.take(&path, doc)?;
                        if !is_group {
                            continue;
                        }
                    }
                    Ok(None) => {}
                    Err(e) => {
                        self.copies.swap_remove(&path);
                        self.broken(&path, e)?;
                        continue;
                    }
                }
            }
            is_first = false;
            if depth >= MAX_DEPTH {
                self.broken(
                    &path,
                    Error::refused(format!("groups more than {MAX_DEPTH} deep are not supported")),
                )?;
                continue;
            }
            let mut dirs = self.store.list(&path)?.dirs;
            dirs.retain(|d| is_safe(d));
            dirs.reverse(); // a stack: the first name is taken first
            stack.extend(dirs.into_iter().map(|d| (join(&path, &d), depth + 1, trail.clone())));
        }
        Ok(())
    }

    /// What the consolidated metadata says of the nodes below the root; `None` where there is none.
    fn consolidated(&mut self, version: u8, root: &Value) -> Result<Option<IndexMap<String, Doc>>> {
        let outside = || {
            Doc::Unsafe(Error::corrupt(
                "the consolidated metadata holds a path that leads outside the hierarchy",
            ))
        };
        let mut copies = IndexMap::new();
        if version == 3 {
            let Some(all) =
                root.pointer("/consolidated_metadata/metadata").and_then(Value::as_object)
            else {
                return Ok(None);
            };
            for (path, meta) in all {
                let attributes = object(meta.get("attributes"));
                let is_group = meta.get("node_type").and_then(Value::as_str) == Some("group");
                let version =
                    if meta.get("zarr_format").and_then(Value::as_u64) == Some(2) { 2 } else { 3 };
                let doc = match is_safe(path) {
                    false => outside(),
                    true if is_group => Doc::Group(version, Value::Null, attributes),
                    true => Doc::Array(version, meta.clone(), attributes),
                };
                copies.insert(path.clone(), doc);
            }
            return Ok(Some(copies));
        }
        let all = match self.document("", ".zmetadata") {
            // A set of references has the metadata, and no chunks: all would seem missing.
            Ok(Some(Value::Object(doc))) if doc.contains_key("record_size") => {
                return Err(only_references());
            }
            Ok(Some(Value::Object(mut doc))) => match doc.remove("metadata") {
                Some(Value::Object(all)) => all,
                _ => return Ok(None),
            },
            Ok(_) => return Ok(None),
            Err(e) => {
                let why = e.of_data()?.reason();
                self.tree.notes.push(format!(
                    "the consolidated metadata cannot be read ({why}); the hierarchy was walked"
                ));
                return Ok(None);
            }
        };
        for (key, meta) in &all {
            let Some((path, what)) = key.rsplit_once('/').or(Some(("", key.as_str()))) else {
                continue;
            };
            if !matches!(what, ".zarray" | ".zgroup") || path.is_empty() {
                continue;
            }
            let attributes = || object(all.get(&join(path, ".zattrs")));
            let doc = match (is_safe(path), what) {
                (false, _) => outside(),
                (true, ".zarray") => Doc::Array(2, meta.clone(), attributes()),
                _ => Doc::Group(2, Value::Null, attributes()),
            };
            copies.insert(path.to_string(), doc);
        }
        Ok(Some(copies))
    }
}

/// A set of references in place of a hierarchy.
fn only_references() -> Error {
    Error::refused("it is a set of references (kerchunk), not a Zarr hierarchy")
        .hint("open it with fsspec's reference filesystem, or give the files that it refers to")
}

/// The shape in an array's document.
fn shown(meta: &Value) -> String {
    meta.get("shape").unwrap_or(&Value::Null).to_string()
}
