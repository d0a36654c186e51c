//! An opened container, and its storages: where their bytes are.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;

use super::code_running_globals;
use super::entry::{StorageSpec, Tensor};
use super::zip::Archive;
use crate::codec::pickle::{self, Id, Pickle, shown};
use crate::error::{Error, Result};
use crate::storage::{Blob, BlobSlice};

/// Where the storages are.
pub(super) enum Storages {
    Zip {
        archive: Arc<Archive>,
        root: String,
    },
    /// Keys in file order, and where the first one begins.
    Legacy {
        blob: Arc<dyn Blob>,
        keys: Vec<String>,
        start: u64,
        big_endian: bool,
    },
    /// Entry already.
    Ready(Vec<BlobSlice>),
}

/// An opened container.
pub(super) struct Container {
    pub pickle: Pickle,
    pub storages: Storages,
    pub big_endian: bool,
    pub version: String,
    /// Tensors by persistent id, and their storages (tar).
    pub given: HashMap<String, Tensor>,
    pub specs: IndexMap<String, StorageSpec>,
    pub notes: Vec<String>,
}

/// Reads a pickle beside the object's own, which Python loads as well.
pub(super) fn checked(blob: &Arc<dyn Blob>, at: u64, limit_bytes: u64) -> Result<Pickle> {
    let pickle = pickle::read_from(blob, at, limit_bytes)?;
    code_running_globals::check(&pickle)?;
    Ok(pickle)
}

/// What storages and tensors are called by: text or a number.
pub(super) fn key_of(pickle: &Pickle, id: Id) -> Option<String> {
    pickle.short(id).map(str::to_string).or_else(|| pickle.int(id).map(|n| n.to_string()))
}

/// Where one storage is; a zip's is looked at when it is read.
#[derive(Clone)]
pub(super) enum StorageBytes {
    Ready(BlobSlice),
    Record(Arc<Archive>, usize),
}

/// Finds the storages that the tree asks for; what is wrong with one concerns only its tensors.
pub(super) fn bind(
    storages: &Storages,
    specs: &IndexMap<String, StorageSpec>,
) -> Result<Vec<Result<StorageBytes>>> {
    match storages {
        Storages::Ready(ready) => {
            Ok(ready.iter().map(|b| Ok(StorageBytes::Ready(b.clone()))).collect())
        }
        Storages::Zip { archive, root } => {
            let record = |(key, spec)| zip_record(archive, &format!("{root}data/{key}"), spec);
            Ok(specs.iter().map(record).collect())
        }
        Storages::Legacy { blob, keys, start, big_endian } => {
            legacy_storages(blob, keys, *start, *big_endian, specs)
        }
    }
}

/// A storage that is a record of an archive.
fn zip_record(archive: &Arc<Archive>, name: &str, spec: &StorageSpec) -> Result<StorageBytes> {
    let index = archive
        .find(name)
        .ok_or_else(|| Error::corrupt(format!("the archive has no record {}", shown(name))))?;
    let len = archive.entries()[index].bytes;
    if len != spec.bytes {
        return Err(Error::corrupt(format!(
            "the record {} has {len} bytes, its tensors need {}",
            shown(name),
            spec.bytes
        )));
    }
    Ok(StorageBytes::Record(archive.clone(), index))
}

/// The storages of an old file, one after the other from `start` on in the order of `keys`: the
/// number of elements, then these.
fn legacy_storages(
    blob: &Arc<dyn Blob>,
    keys: &[String],
    start: u64,
    big_endian: bool,
    specs: &IndexMap<String, StorageSpec>,
) -> Result<Vec<Result<StorageBytes>>> {
    let mut at = start;
    let mut places: Vec<Option<(u64, u64, u64)>> = vec![None; specs.len()];
    let mut ranges = Vec::with_capacity(keys.len());
    for key in keys {
        let (index, _, claim) = specs.get_full(key).ok_or_else(|| {
            Error::corrupt(format!(
                "the storage {} is listed, but no tensor says how large its elements are",
                shown(key)
            ))
        })?;
        let end = at
            .checked_add(8)
            .and_then(|n| n.checked_add(claim.bytes))
            .filter(|&end| end <= blob.len());
        let Some(end) = end else {
            return Err(Error::corrupt(format!(
                "the storage {} should be at byte {at} with {} bytes, the file has {}",
                shown(key),
                claim.bytes,
                blob.len()
            )));
        };
        ranges.push(at..at + 8);
        places[index] = Some((at + 8, claim.bytes, claim.item_bytes));
        at = end;
    }
    for ((key, header), range) in keys.iter().zip(blob.read_ranges(&ranges)?).zip(&ranges) {
        let count: [u8; 8] = header.try_into().unwrap_or_default();
        let count = if big_endian { u64::from_be_bytes(count) } else { u64::from_le_bytes(count) };
        let (_, bytes, item) = specs.get_index_of(key).and_then(|i| places[i]).unwrap_or((0, 0, 1));
        if count.checked_mul(item) != Some(bytes) && count != bytes {
            return Err(Error::corrupt(format!(
                "the storage {} at byte {} declares {count} elements, its tensors need {bytes} bytes",
                shown(key),
                range.start
            )));
        }
    }
    Ok(specs
        .keys()
        .zip(places)
        .map(|(key, place)| match place {
            Some((start, len, _)) => {
                Ok(StorageBytes::Ready(BlobSlice { blob: blob.clone(), start, len }))
            }
            None => {
                Err(Error::corrupt(format!("the storage {} is not in the file's list", shown(key))))
            }
        })
        .collect())
}
