//! Finds the nodes of a hierarchy: from consolidated metadata where there is some, else by walking.

use indexmap::IndexMap;
use serde_json::Value;

use super::json;
use super::layout::made_up;
use super::netcdf;
use super::node::{self, DIMENSIONS, Info};
use super::store::Store;
use crate::error::{Error, Result};
use crate::model::Attributes;

/// The deepest group.
const MOST_DEPTH: usize = 64;
/// The most nodes and folders that are looked at.
const MOST_NODES: usize = 2_000_000;

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
}

struct Walk<'a> {
    store: &'a Store,
    memory_bytes: u64,
    tree: Tree,
    twice: Vec<String>,
}

/// Reads the metadata of every node.
///
/// # Errors
/// Missing where there is no node at all; corrupt or refused where the root cannot be read.
pub fn read(store: &Store, memory_bytes: u64) -> Result<Tree> {
    let mut walk = Walk { store, memory_bytes, tree: Tree::default(), twice: Vec::new() };
    match walk.node("")? {
        Some(Doc::Array(version, meta, attributes)) => walk.array("", version, &meta, attributes),
        root => {
            let is_group = root.is_some();
            if let Some(Doc::Group(version, meta, attributes)) = root {
                walk.tree.versions[usize::from(version == 3)] = true;
                walk.tree.groups.insert(String::new(), attributes);
                if !walk.consolidated(version, &meta)? {
                    walk.below("")?;
                }
            } else {
                walk.below("")?;
            }
            if !is_group && walk.tree.arrays.is_empty() {
                return Err(Error::missing("this is not a Zarr hierarchy: it has no zarr.json, .zgroup or .zarray"));
            }
        }
    }
    let Walk { mut tree, twice, .. } = walk;
    netcdf::restore(&mut tree);
    if let Some(first) = twice.first() {
        let first = if first.is_empty() { "the root" } else { first };
        tree.notes.push(format!("{} of the nodes (the first: {first}) have both v2 and v3 metadata; v3 was read", twice.len()));
    }
    Ok(tree)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}/{name}") }
}

/// A path from a document, before it is used to open files.
fn is_safe(path: &str) -> bool {
    path.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains('\0')) && path.len() < 1 << 16
}

fn object(value: Option<&Value>) -> Attributes {
    value.and_then(Value::as_object).cloned().unwrap_or_default()
}

impl Walk<'_> {
    fn document(&self, path: &str, name: &str) -> Result<Option<Value>> {
        match self.store.get(&join(path, name), self.memory_bytes)? {
            Some(bytes) => json::parse(&bytes, name == ".zattrs", self.memory_bytes).map(Some),
            None => Ok(None),
        }
    }

    /// The node at `path`, v3 before v2.
    fn node(&mut self, path: &str) -> Result<Option<Doc>> {
        if let Some(mut meta) = self.document(path, "zarr.json")? {
            if let Store::Dir(at) = self.store
                && !at.is_remote()
                && [".zarray", ".zgroup"].iter().any(|m| self.store.has(&join(path, m)).unwrap_or(false))
            {
                self.twice.push(path.to_string());
            }
            if meta.get("zarr_format").and_then(Value::as_u64) != Some(3) {
                let found = meta.get("zarr_format").unwrap_or(&Value::Null);
                return Err(Error::refused(format!("zarr_format {found} is not supported; 2 and 3 are")));
            }
            let attributes = match meta.as_object_mut().and_then(|m| m.remove("attributes")) {
                Some(Value::Object(all)) => all,
                _ => Attributes::new(),
            };
            return match meta.get("node_type").and_then(Value::as_str) {
                Some("array") => Ok(Some(Doc::Array(3, meta, attributes))),
                Some("group") => Ok(Some(Doc::Group(3, meta, attributes))),
                other => Err(Error::corrupt(format!("zarr.json has the node_type '{}'", other.unwrap_or("?")))),
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
        if let Some(names) = meta.get("dimension_names").filter(|n| n.as_array().is_some_and(|l| l.iter().any(|n| !n.is_null())))
            && !attributes.contains_key(DIMENSIONS)
        {
            attributes.insert(DIMENSIONS.into(), names.clone());
        }
        if version == 2 {
            netcdf::v2_attribute(meta, &mut attributes);
        }
        let rank = meta.get("shape").and_then(Value::as_array).map_or(0, Vec::len);
        if attributes.get(DIMENSIONS).and_then(Value::as_array).is_some_and(|names| *names == made_up(path, rank)) {
            attributes.shift_remove(DIMENSIONS);
        }
        self.tree.arrays.push((path.to_string(), node::array(meta, attributes, version, self.memory_bytes)));
    }

    /// An array whose metadata cannot be read at all.
    fn broken(&mut self, path: &str, error: Error) {
        let info = Info { shape: vec![0], chunks: None, stored: String::new(), attributes: Attributes::new(), node: Err(error) };
        self.tree.arrays.push((path.to_string(), info));
    }

    /// Walks what is below a group, without recursion.
    fn below(&mut self, root: &str) -> Result<()> {
        let mut stack: Vec<(String, usize)> = vec![(root.to_string(), 0)];
        let mut seen = 0usize;
        let mut is_first = true;
        while let Some((path, depth)) = stack.pop() {
            seen += 1;
            if seen > MOST_NODES {
                return Err(Error::refused(format!("the hierarchy has more than {MOST_NODES} nodes")));
            }
            if !is_first {
                match self.node(&path) {
                    Ok(Some(Doc::Array(version, meta, attributes))) => {
                        self.array(&path, version, &meta, attributes);
                        continue;
                    }
                    Ok(Some(Doc::Group(version, _, attributes))) => {
                        self.tree.versions[usize::from(version == 3)] = true;
                        self.tree.groups.insert(path.clone(), attributes);
                    }
                    Ok(None) => {}
                    Err(e) => {
                        self.broken(&path, e);
                        continue;
                    }
                }
            }
            is_first = false;
            if depth >= MOST_DEPTH {
                self.broken(&path, Error::refused(format!("groups more than {MOST_DEPTH} deep are not supported")));
                continue;
            }
            let mut dirs = self.store.list(&path)?.dirs;
            dirs.retain(|d| is_safe(d));
            dirs.reverse(); // a stack: the first name is taken first
            stack.extend(dirs.into_iter().map(|d| (join(&path, &d), depth + 1)));
        }
        Ok(())
    }

    /// Takes everything from consolidated metadata; false where there is none.
    fn consolidated(&mut self, version: u8, root: &Value) -> Result<bool> {
        if version == 3 {
            let Some(all) = root.pointer("/consolidated_metadata/metadata").and_then(Value::as_object) else { return Ok(false) };
            for (path, meta) in all {
                if !is_safe(path) {
                    self.broken(path, Error::corrupt("the consolidated metadata holds a path that leads outside the hierarchy"));
                    continue;
                }
                let attributes = object(meta.get("attributes"));
                if meta.get("node_type").and_then(Value::as_str) == Some("group") {
                    self.tree.groups.insert(path.clone(), attributes);
                } else if meta.get("zarr_format").and_then(Value::as_u64) == Some(2) {
                    self.array(path, 2, meta, attributes);
                } else {
                    self.array(path, 3, meta, attributes);
                }
            }
            return Ok(true);
        }
        let all = match self.document("", ".zmetadata") {
            Ok(Some(doc)) => match doc {
                Value::Object(mut doc) => match doc.remove("metadata") {
                    Some(Value::Object(all)) => all,
                    _ => return Ok(false),
                },
                _ => return Ok(false),
            },
            Ok(None) => return Ok(false),
            Err(e) => {
                self.tree.notes.push(format!("the consolidated metadata cannot be read ({}); the hierarchy was walked", e.message()));
                return Ok(false);
            }
        };
        for (key, meta) in &all {
            let Some((path, what)) = key.rsplit_once('/').or(Some(("", key.as_str()))) else { continue };
            if !matches!(what, ".zarray" | ".zgroup") || path.is_empty() {
                continue;
            }
            if !is_safe(path) {
                self.broken(path, Error::corrupt("the consolidated metadata holds a path that leads outside the hierarchy"));
                continue;
            }
            let attributes = object(all.get(&join(path, ".zattrs")));
            if what == ".zarray" {
                self.array(path, 2, meta, attributes);
            } else {
                self.tree.groups.insert(path.to_string(), attributes);
            }
        }
        Ok(true)
    }
}
