//! The three containers of a checkpoint: zip, the legacy stream of pickles, the tar form of 2016.
//! Where the pickle is, and where the storages' bytes are.
//!
//! | container | first bytes | layout |
//! |---|---|---|
//! | zip | `PK\3\4` | `ROOT/data.pkl`, `ROOT/data/KEY`, `ROOT/byteorder` (none: little), `ROOT/version` |
//! | legacy | a pickle of 0x1950a86a20f9469cfc6c | pickles: magic, 1001, system info, the object, list of keys; then per key i64 count and raw elements |
//! | tar | `ustar` at 257 | `storages`: pickle(count), per storage pickle((key, location, class)), i64 count, elements; `tensors`: pickle(count), per tensor pickle((key, storage key, class)), i32 dimensions, 4 zero bytes, i64 sizes, i64 strides, i64 offset; `pickle`: the object |

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::{IndexMap, IndexSet};

use super::storages::{Container, Storages, checked, key_of};
use super::zip::Archive;
use super::{code_running_globals, tar};
use crate::codec::pickle::{self, Node, shown};
use crate::error::{Error, Result};
use crate::storage::Blob;

/// What a file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContainerKind {
    Zip,
    Legacy,
    Tar,
}

/// The bytes that follow PROTO (and FRAME) in a legacy file: LONG1 with the magic number, STOP.
const MAGIC: [u8; 13] =
    [0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];

/// The container that these first bytes (262 at least, for tar) belong to.
pub(super) fn kind(head: &[u8]) -> Option<ContainerKind> {
    if head.starts_with(b"PK\x03\x04") {
        return Some(ContainerKind::Zip);
    }
    if head.first() == Some(&0x80) {
        let rest = head.get(2..).unwrap_or_default();
        let rest =
            if rest.first() == Some(&0x95) { rest.get(9..).unwrap_or_default() } else { rest };
        return rest.starts_with(&MAGIC).then_some(ContainerKind::Legacy);
    }
    let tar = head.get(257..262) == Some(b"ustar");
    let name = head.split(|&b| b == 0).next().unwrap_or_default();
    (tar && matches!(
        name.strip_prefix(b"./").unwrap_or(name),
        b"sys_info" | b"pickle" | b"tensors" | b"storages"
    ))
    .then_some(ContainerKind::Tar)
}

/// Opens whatever container it is.
pub(super) fn open(blob: &Arc<dyn Blob>, limit_bytes: u64) -> Result<Container> {
    let head = blob.read_vec(0, blob.len().min(512))?;
    match kind(&head) {
        Some(ContainerKind::Zip) => zip(blob, limit_bytes),
        Some(ContainerKind::Legacy) => legacy(blob, limit_bytes),
        Some(ContainerKind::Tar) => tar::open(blob, limit_bytes),
        None if head.is_empty() => Err(Error::missing("the file is empty")),
        None => Err(Error::missing(format!(
            "this is not a PyTorch checkpoint: it begins with '{}', neither a zip archive nor torch's magic number",
            head[..head.len().min(16)].escape_ascii()
        ))),
    }
}

fn zip(blob: &Arc<dyn Blob>, limit_bytes: u64) -> Result<Container> {
    let archive = Archive::open(blob)?;
    let mut roots =
        archive.entries().iter().filter_map(|e| match e.name.strip_suffix("data.pkl") {
            Some("") => Some(""),
            Some(root) if root.ends_with('/') && !root[..root.len() - 1].contains('/') => {
                Some(root)
            }
            _ => None,
        });
    let Some(root) = roots.next().map(str::to_string) else {
        let has =
            |end: &str| archive.entries().iter().any(|e| e.name.rsplit('/').next() == Some(end));
        if has("archive_format") || has("serialized_exported_program.json") {
            return Err(Error::refused("this is an exported program (.pt2), not a checkpoint")
                .hint("save its state_dict() with torch.save"));
        }
        return Err(Error::missing(
            "this zip archive has no data.pkl: it is not a PyTorch checkpoint",
        ));
    };
    if let Some(other) = roots.find(|r| *r != root) {
        return Err(Error::corrupt(format!(
            "the zip archive holds two checkpoints, {}data.pkl and {}data.pkl",
            shown(&root),
            shown(other)
        )));
    }
    let mut notes = archive.notes();
    let outside = archive.entries().iter().filter(|e| !e.name.starts_with(&root)).count();
    if outside > 0 {
        notes.push(format!(
            "{outside} files of the archive are outside {}; torch.load refuses such a file",
            shown(&root)
        ));
    }
    let small = |name: &str| -> Result<Option<String>> {
        match archive.find(&format!("{root}{name}")) {
            Some(i) => {
                Ok(Some(String::from_utf8_lossy(&archive.read(i, 4096)?).trim().to_string()))
            }
            None => Ok(None),
        }
    };
    let big_endian = match small("byteorder")?.as_deref() {
        None | Some("little") => false,
        Some("big") => true,
        Some(other) => {
            return Err(Error::corrupt(format!(
                "the byte order is '{}', expected little or big",
                shown(other)
            )));
        }
    };
    let script = archive.find(&format!("{root}constants.pkl")).is_some();
    let version = small("version")?;
    let version = match (script, version) {
        (false, Some(v)) => format!("zip {}", shown(&v)),
        (true, Some(v)) => format!("TorchScript {}", shown(&v)),
        (_, None) => {
            notes.push("the archive has no version record; torch.load refuses such a file".into());
            "zip".into()
        }
    };
    let index = archive.find(&format!("{root}data.pkl")).unwrap_or(0);
    let bytes = archive.read(index, limit_bytes)?;
    let pickle = pickle::read(bytes, limit_bytes)?;
    let storages = Storages::Zip { archive: Arc::new(archive), root };
    Ok(Container {
        pickle,
        storages,
        big_endian,
        version,
        given: HashMap::new(),
        specs: IndexMap::new(),
        notes,
    })
}

fn legacy(blob: &Arc<dyn Blob>, limit_bytes: u64) -> Result<Container> {
    let mut at = pickle::read_from(blob, 0, limit_bytes)?.used();
    let protocol = checked(blob, at, limit_bytes)?;
    at += protocol.used();
    match protocol.int(protocol.root()) {
        Some(1001) => {}
        other => {
            return Err(Error::refused(format!(
                "legacy checkpoint version {other:?} is not supported; 1001 is"
            )));
        }
    }
    let info = checked(blob, at, limit_bytes)?;
    at += info.used();
    let Node::Dict(pairs) = info.node(info.root()) else {
        return Err(Error::corrupt("the system information is not a dict"));
    };
    let big_endian = info.get(pairs, "little_endian").and_then(|v| info.int(v)) == Some(0);
    drop(protocol);
    let object = pickle::read_from(blob, at, limit_bytes)?;
    at += object.used();
    code_running_globals::check(&object)?;
    let list = checked(blob, at, limit_bytes)?;
    at += list.used();
    let mut keys = IndexSet::new();
    for &key in list
        .tuple(list.root())
        .ok_or_else(|| Error::corrupt("the list of storages is not a list"))?
    {
        let key = key_of(&list, key).ok_or_else(|| {
            Error::corrupt("the list of storages holds something that is not a key")
        })?;
        if let (at, false) = keys.insert_full(key) {
            let key = keys.get_index(at).map_or("", String::as_str);
            return Err(Error::corrupt(format!("the storage {} is listed twice", shown(key))));
        }
    }
    Ok(Container {
        pickle: object,
        storages: Storages::Legacy {
            blob: blob.clone(),
            keys: keys.into_iter().collect(),
            start: at,
            big_endian,
        },
        big_endian,
        version: "legacy 1001".into(),
        given: HashMap::new(),
        specs: IndexMap::new(),
        notes: Vec::new(),
    })
}
