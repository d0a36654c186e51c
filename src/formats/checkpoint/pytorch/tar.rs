//! Checkpoints of 2016: a tar archive whose members are pickles and raw elements one after the
//! other, as the table in `container.rs` says.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;

use super::storages::{Container, Storages, checked, key_of};
use crate::codec::pickle::{Pickle, shown};
use crate::error::{Error, Result};
use crate::formats::checkpoint::pytorch::entry::{LazyOp, StorageSpec, Tensor};
use crate::formats::checkpoint::pytorch::torch_types::storage_dtype;
use crate::model::{Dtype, Logical};
use crate::storage::{Blob, BlobSlice};

/// Reads numbers of a tar member one after the other.
struct Cursor<'a> {
    blob: &'a Arc<dyn Blob>,
    at: u64,
    end: u64,
    limit: u64,
}

impl Cursor<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        if self.at + N as u64 > self.end {
            return Err(Error::corrupt(format!(
                "a tar member ends at byte {}, {N} bytes were expected at {}",
                self.end, self.at
            )));
        }
        let mut out = [0; N];
        self.blob.read_at(self.at, &mut out)?;
        self.at += N as u64;
        Ok(out)
    }
    fn i64(&mut self) -> Result<u64> {
        let n = i64::from_le_bytes(self.bytes()?);
        u64::try_from(n).map_err(|_| {
            Error::corrupt(format!("the number {n} before byte {} is negative", self.at))
        })
    }
    fn pickle(&mut self) -> Result<Pickle> {
        let pickle = checked(self.blob, self.at, self.limit)?;
        self.at += pickle.used();
        if self.at > self.end {
            return Err(Error::corrupt("a pickle reaches beyond its tar member"));
        }
        Ok(pickle)
    }
    fn count(&mut self) -> Result<u64> {
        let pickle = self.pickle()?;
        let count = pickle.int(pickle.root()).and_then(|n| u64::try_from(n).ok());
        // Each of them takes several bytes.
        count
            .filter(|&n| n <= self.end)
            .ok_or_else(|| Error::corrupt("a tar member does not begin with a count"))
    }
}

/// Where the members begin, and their lengths.
fn members(blob: &Arc<dyn Blob>) -> Result<HashMap<String, (u64, u64)>> {
    let mut members: HashMap<String, (u64, u64)> = HashMap::new();
    let mut at = 0u64;
    while at + 512 <= blob.len() {
        let header = blob.read_vec(at, 512)?;
        if header.iter().all(|&b| b == 0) {
            break;
        }
        let text = |from: usize, len: usize| {
            let field = &header[from..from + len];
            String::from_utf8_lossy(field.split(|&b| b == 0).next().unwrap_or_default())
                .trim()
                .to_string()
        };
        let within = |size: &u64| {
            let end = at.checked_add(512).and_then(|n| n.checked_add(*size));
            end.is_some_and(|end| end <= blob.len())
        };
        let size = u64::from_str_radix(&text(124, 12), 8).ok().filter(within).ok_or_else(|| {
            let size = shown(&text(124, 12));
            Error::corrupt(format!("the tar header at byte {at} has the size '{size}'"))
        })?;
        members.insert(text(0, 100).trim_start_matches("./").to_string(), (at + 512, size));
        at += 512 + size.div_ceil(512) * 512;
    }
    Ok(members)
}

/// The storages of the archive, in order.
#[derive(Default)]
struct TarStorages {
    specs: IndexMap<String, StorageSpec>,
    slices: Vec<BlobSlice>,
    dtypes: Vec<Dtype>,
    /// Views of storages, which no tensor of that time used as its own storage unless it was a
    /// view.
    views: HashMap<String, (String, u64)>,
}

impl TarStorages {
    fn read(mut member: Cursor<'_>) -> Result<TarStorages> {
        let mut all = TarStorages::default();
        for _ in 0..member.count()? {
            all.add(&mut member)?;
        }
        if member.at < member.end {
            let p = member.pickle()?;
            for &view in p.tuple(p.root()).unwrap_or_default() {
                if let Some(&[target, root, offset, _size]) = p.tuple(view)
                    && let (Some(target), Some(root), Some(offset)) = (
                        key_of(&p, target),
                        key_of(&p, root),
                        p.int(offset).and_then(|n| u64::try_from(n).ok()),
                    )
                {
                    all.views.insert(target, (root, offset));
                }
            }
        }
        Ok(all)
    }

    fn add(&mut self, member: &mut Cursor<'_>) -> Result<()> {
        let p = member.pickle()?;
        let parts = p
            .tuple(p.root())
            .filter(|t| t.len() == 3)
            .ok_or_else(|| Error::corrupt("a storage of the tar archive has no description"))?;
        let key = key_of(&p, parts[0])
            .ok_or_else(|| Error::corrupt("a storage of the tar archive has no key"))?;
        let dtype = storage_dtype(p.global(parts[2]).unwrap_or_default())?.unwrap_or(Dtype::U8);
        let count = member.i64()?;
        let bytes = count
            .checked_mul(dtype.item_bytes())
            .filter(|b| member.at.checked_add(*b).is_some_and(|end| end <= member.end))
            .ok_or_else(|| {
                Error::corrupt(format!(
                    "the storage {} declares {count} elements, the tar member ends before that",
                    shown(&key)
                ))
            })?;
        self.slices.push(BlobSlice { blob: member.blob.clone(), start: member.at, len: bytes });
        self.dtypes.push(dtype);
        let spec = StorageSpec { bytes, item_bytes: dtype.item_bytes() };
        if self.specs.insert(key.clone(), spec).is_some() {
            return Err(Error::corrupt(format!("the storage {} appears twice", shown(&key))));
        }
        member.at += bytes;
        Ok(())
    }
}

/// The next tensor and its key; `None` for one without elements.
fn tensor(member: &mut Cursor<'_>, storages: &TarStorages) -> Result<Option<(String, Tensor)>> {
    let p = member.pickle()?;
    let parts = p
        .tuple(p.root())
        .filter(|t| t.len() == 3)
        .ok_or_else(|| Error::corrupt("a tensor of the tar archive has no description"))?;
    let key = key_of(&p, parts[0])
        .ok_or_else(|| Error::corrupt("a tensor of the tar archive has no key"))?;
    let storage = key_of(&p, parts[1]);
    let rank = u32::from_le_bytes(member.bytes()?);
    member.bytes::<4>()?;
    if rank > 64 {
        return Err(Error::corrupt(format!(
            "a tensor has {rank} dimensions; torch allows at most 64"
        )));
    }
    let shape = (0..rank).map(|_| member.i64()).collect::<Result<Vec<u64>>>()?;
    let strides = (0..rank).map(|_| member.i64()).collect::<Result<Vec<u64>>>()?;
    let mut offset = member.i64()?;
    let Some(mut storage) = storage else { return Ok(None) };
    if let Some((root, first)) = storages.views.get(&storage) {
        (storage, offset) = (root.clone(), offset.saturating_add(*first));
    }
    let index = storages.specs.get_index_of(&storage).ok_or_else(|| {
        let storage = shown(&storage);
        Error::corrupt(format!("a tensor needs the storage {storage}, which is missing"))
    })?;
    let dtype = storages.dtypes[index];
    let elements = storages.specs[index].bytes / dtype.item_bytes();
    if !shape.contains(&0) {
        let last = shape.iter().zip(&strides).try_fold(offset, |at, (&d, &s)| {
            (d - 1).checked_mul(s).and_then(|n| at.checked_add(n))
        });
        if last.is_none_or(|last| last >= elements) {
            return Err(Error::corrupt(format!(
                "the tensor {} reaches past its storage of {elements} elements",
                shown(&key)
            )));
        }
    }
    let tensor = Tensor {
        storage: index,
        dtype,
        logical: Logical::Plain,
        offset,
        shape,
        strides,
        lazy_op: LazyOp::Plain,
        untyped: false,
        requires_grad: false,
        class: None,
    };
    Ok(Some((key, tensor)))
}

/// Opens such an archive.
pub(super) fn open(blob: &Arc<dyn Blob>, limit_bytes: u64) -> Result<Container> {
    let members = members(blob)?;
    let cursor = |name: &str| {
        let (at, size) = *members
            .get(name)
            .ok_or_else(|| Error::corrupt(format!("the tar archive has no member {name}")))?;
        Ok::<_, Error>(Cursor { blob, at, end: at + size, limit: limit_bytes })
    };
    let storages = TarStorages::read(cursor("storages")?)?;
    let mut given = HashMap::new();
    let mut tensors = cursor("tensors")?;
    for _ in 0..tensors.count()? {
        given.extend(tensor(&mut tensors, &storages)?);
    }
    let pickle = cursor("pickle")?.pickle()?;
    Ok(Container {
        pickle,
        storages: Storages::Ready(storages.slices),
        big_endian: false,
        version: "tar 0.1".into(),
        given,
        specs: storages.specs,
        notes: Vec::new(),
    })
}
