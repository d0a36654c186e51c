//! The tree of groups, links and datasets.

use std::collections::HashSet;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::sync::Arc;

use super::c::{self, Id};
use super::ffi;
use super::heap::Heaps;
use super::{attributes, filters, types};
use crate::error::{Error, Result};
use crate::location::Blob;
use crate::model::{Attributes, checked_product};

/// Groups deeper than this are refused.
const DEEPEST: usize = 500;

/// What was found in a file.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) datasets: Vec<Dataset>,
    /// Attributes of groups, by path without the leading slash; the root's under the empty path.
    pub(super) groups: Vec<(String, Attributes)>,
    pub(super) notes: Vec<String>,
}

/// A dataset, or a place where one should be.
pub(super) struct Dataset {
    /// Its path below the chosen group.
    pub(super) name: String,
    /// Its path in the file.
    pub(super) path: CString,
    /// Why it cannot be read at all.
    pub(super) error: Option<Error>,
    /// The first path of the same object.
    pub(super) alias_of: Option<String>,
    pub(super) dims: Vec<u64>,
    pub(super) scalar: bool,
    pub(super) null: bool,
    /// Bytes of an element in the file.
    pub(super) element_bytes: usize,
    pub(super) leaves: Vec<types::Leaf>,
    pub(super) storage: Storage,
    /// The bytes of an element that was never written.
    pub(super) fill: Option<Vec<u8>>,
    pub(super) attributes: Attributes,
    pub(super) stored_bytes: u64,
    /// The values are in other files.
    /// The name is whole: no field is added to it.
    pub(super) named: bool,
}

/// Where the values are.
#[derive(Clone)]
pub(super) enum Storage {
    /// Only the library can read them.
    Library,
    /// One piece; `None` where it was never written.
    Contiguous(Option<u64>),
    Chunked(Chunked),
}

#[derive(Clone)]
pub(super) struct Chunked {
    pub(super) shape: Vec<u64>,
    pub(super) filters: Vec<Filter>,
    /// Chunks that the dataset cuts are not filtered.
    pub(super) raw_edges: bool,
    /// Only the library can undo the filters.
    pub(super) by_library: bool,
}

#[derive(Clone)]
pub(super) struct Filter {
    pub(super) id: u32,
    pub(super) params: Vec<u32>,
}

struct Link {
    name: CString,
    kind: c_int,
}

struct Frame {
    group: Id,
    path: Vec<u8>,
    name: String,
    key: Key,
    links: std::vec::IntoIter<Link>,
}

type Key = (u64, ffi::Token);

/// Walks the file below `group` (the root where `None`).
pub(super) fn walk(file: &Id, group: Option<&str>, blob: &Arc<dyn Blob>) -> Result<Tree> {
    let _lock = c::lock();
    let heaps = Heaps::new(file, blob.clone());
    let start = format!("/{}", group.unwrap_or_default().trim_matches('/'));
    let root = object(file, &c::c_name(&start)?).map_err(|e| match group {
        Some(g) => Error::missing(format!("there is no group '{g}'")).hint("npk inspect --tree lists the groups"),
        None => e,
    })?;
    let start_info = info(&root)?;
    if start_info.kind != ffi::GROUP {
        return Err(Error::usage(format!("'{start}' is not a group")).hint("choose datasets with -a"));
    }
    let mut file_number = 0;
    // SAFETY: an open file; under the lock.
    c::check(unsafe { ffi::H5Fget_fileno(file.raw(), &mut file_number) }, "the file is damaged")?;
    let mut tree = Tree::default();
    let attributes = attributes::read(&root, start_info.attributes, "the root group", &heaps, &mut tree.notes);
    tree.groups.push((String::new(), attributes));
    let mut seen: std::collections::HashMap<Key, String> = std::collections::HashMap::new();
    let mut ancestors = HashSet::from([key(&start_info)]);
    let mut aliases = 0usize;
    let path = if start == "/" { Vec::new() } else { start.into_bytes() };
    let first = links(&root)?;
    let mut stack = vec![Frame { group: root, path, name: String::new(), key: key(&start_info), links: first.into_iter() }];
    while let Some(frame) = stack.last_mut() {
        let Some(link) = frame.links.next() else {
            if let Some(done) = stack.pop() {
                ancestors.remove(&done.key);
            }
            continue;
        };
        let mut path = frame.path.clone();
        path.push(b'/');
        path.extend_from_slice(link.name.as_bytes());
        let mut name = frame.name.clone();
        if !name.is_empty() {
            name.push('/');
        }
        name.push_str(&String::from_utf8_lossy(link.name.as_bytes()));
        let Ok(path_c) = CString::new(path.clone()) else { continue };
        let broken = |error: Error| Dataset::broken(name.clone(), path_c.clone(), error);
        if std::str::from_utf8(link.name.as_bytes()).is_err() {
            tree.datasets.push(broken(Error::refused("its name is not UTF-8")));
            continue;
        }
        if !matches!(link.kind, ffi::HARD_LINK | ffi::SOFT_LINK | ffi::EXTERNAL_LINK) {
            tree.notes.push(format!("{name} is a user-defined link of kind {}: left out", link.kind));
            continue;
        }
        let opened = object(&frame.group, &link.name).and_then(|o| info(&o).map(|i| (o, i)));
        let (object, info) = match opened {
            Ok(found) => found,
            Err(_) if link.kind == ffi::SOFT_LINK => {
                tree.notes.push(format!("{name} is a soft link to nothing: left out"));
                continue;
            }
            Err(e) if link.kind == ffi::EXTERNAL_LINK => {
                tree.datasets.push(broken(Error::missing("its external link cannot be followed").because(e)));
                continue;
            }
            Err(e) => {
                tree.datasets.push(broken(e));
                continue;
            }
        };
        let key = key(&info);
        let alias_of = seen.get(&key).cloned();
        if alias_of.is_some() {
            aliases += 1;
            // Groups that hold each other's links twice over would grow without end.
            if aliases > 10_000 + 10 * seen.len() {
                return Err(Error::refused("its links lead to the same objects again and again"));
            }
        }
        match info.kind {
            ffi::GROUP if ancestors.contains(&key) => tree.notes.push(format!("{name} links back to a group that contains it: left out")),
            ffi::GROUP => {
                if stack.len() >= DEEPEST {
                    tree.datasets.push(broken(Error::refused(format!("groups deeper than {DEEPEST} are not supported"))));
                    continue;
                }
                seen.entry(key).or_insert_with(|| name.clone());
                let attributes = attributes::read(&object, info.attributes, &name, &heaps, &mut tree.notes);
                match links(&object) {
                    Ok(found) => {
                        tree.groups.push((name.clone(), attributes));
                        ancestors.insert(key);
                        stack.push(Frame { group: object, path, name, key, links: found.into_iter() });
                    }
                    Err(e) => tree.datasets.push(broken(e)),
                }
            }
            ffi::DATASET => {
                seen.entry(key).or_insert_with(|| name.clone());
                let mut attributes = attributes::read(&object, info.attributes, &name, &heaps, &mut tree.notes);
                dimension_names(&name, &mut attributes);
                let elsewhere = info.fileno != file_number;
                let mut dataset = match dataset(&object, elsewhere, blob.len(), &heaps) {
                    Ok(dataset) => dataset,
                    Err(e) => broken(e),
                };
                (dataset.name, dataset.path, dataset.attributes, dataset.alias_of) = (name, path_c, attributes, alias_of);
                tree.datasets.push(dataset);
            }
            ffi::NAMED_TYPE => tree.notes.push(format!("{name} is a committed type: left out")),
            other => tree.notes.push(format!("{name} is an object of kind {other}: left out")),
        }
    }
    const NOTES: usize = 50;
    if tree.notes.len() > NOTES {
        let more = tree.notes.len() - NOTES;
        tree.notes.truncate(NOTES);
        tree.notes.push(format!("… and {more} more like these"));
    }
    Ok(tree)
}

fn key(info: &ffi::ObjectInfo) -> Key {
    (info.fileno, info.token)
}

fn object(parent: &Id, name: &CStr) -> Result<Id> {
    // SAFETY: an open group; under the lock.
    Id::new(unsafe { ffi::H5Oopen(parent.raw(), name.as_ptr(), 0) }, "cannot be opened")
}

fn info(object: &Id) -> Result<ffi::ObjectInfo> {
    let mut info = ffi::ObjectInfo::default();
    // SAFETY: an open object; the structure is the library's H5O_info2_t; under the lock.
    c::check(unsafe { ffi::H5Oget_info3(object.raw(), &mut info, 1 | 4) }, "cannot be opened")?;
    Ok(info)
}

/// The links of a group: in the order of their making where the group keeps it, else by name.
fn links(group: &Id) -> Result<Vec<Link>> {
    unsafe extern "C" fn visit(_group: i64, name: *const c_char, info: *const ffi::LinkInfo, data: *mut c_void) -> c_int {
        // SAFETY: the library gives a name and an info; `data` is the list below.
        unsafe {
            let found = &mut *data.cast::<Vec<Link>>();
            found.push(Link { name: CStr::from_ptr(name).to_owned(), kind: (*info).kind });
        }
        0
    }
    let mut found: Vec<Link> = Vec::new();
    // SAFETY: an open group; the callback only adds to `found`; under the lock.
    unsafe {
        let mut flags: c_uint = 0;
        let mut ordered = false;
        if let Ok(plist) = Id::new(ffi::H5Gget_create_plist(group.raw()), "a group is damaged") {
            ordered = ffi::H5Pget_link_creation_order(plist.raw(), &mut flags) >= 0 && flags & 1 != 0;
        }
        let data: *mut c_void = std::ptr::from_mut(&mut found).cast();
        let code = ffi::H5Literate2(group.raw(), c_int::from(ordered), 0, std::ptr::null_mut(), visit, data);
        c::check(code, "a group cannot be listed")?;
    }
    Ok(found)
}

impl Dataset {
    fn broken(name: String, path: CString, error: Error) -> Dataset {
        Dataset {
            name,
            path,
            error: Some(error),
            alias_of: None,
            dims: vec![0],
            scalar: false,
            null: false,
            element_bytes: 1,
            leaves: Vec::new(),
            storage: Storage::Library,
            fill: None,
            attributes: Attributes::new(),
            stored_bytes: 0,
            named: false,
        }
    }
}

/// Values in other files are read where these lie beside the file or below: a file from elsewhere may not choose which
/// files of this machine are shown.
fn check_external(plist: &Id, files: c_int) -> Result<()> {
    for index in 0..u32::try_from(files).unwrap_or(0) {
        let (mut name, mut offset, mut bytes) = (vec![0u8; 4096], 0i64, 0);
        // SAFETY: an open property list; the buffer is as long as told, and its last byte stays 0.
        let code = unsafe { ffi::H5Pget_external(plist.raw(), index, name.len() - 1, name.as_mut_ptr().cast(), &mut offset, &mut bytes) };
        c::check(code, "its list of external files is damaged")?;
        let name = name.split(|&b| b == 0).next().unwrap_or_default();
        if name.first() == Some(&b'/') || name.split(|&b| b == b'/').any(|part| part == b"..") {
            let name = String::from_utf8_lossy(name);
            return Err(Error::refused(format!("its values are in {name:?}, which is not below the folder of this file"))
                .hint("leave it out with -x, or all such arrays with --skip-unsupported"));
        }
    }
    Ok(())
}

/// What the headers say about a dataset.
fn dataset(data: &Id, elsewhere: bool, file_bytes: u64, heaps: &Heaps) -> Result<Dataset> {
    let id = data.raw();
    // SAFETY: an open dataset; under the lock (all of this function).
    let (space, kind, plist) = unsafe {
        (
            Id::new(ffi::H5Dget_space(id), "its dataspace is damaged")?,
            Id::new(ffi::H5Dget_type(id), "its type is damaged")?,
            Id::new(ffi::H5Dget_create_plist(id), "its header is damaged")?,
        )
    };
    let dims = c::dims(&space)?;
    let null = dims.is_none();
    let scalar = dims.as_ref().is_some_and(Vec::is_empty);
    let dims = dims.unwrap_or_else(|| vec![0]);
    // SAFETY: as above.
    let element_bytes = unsafe { ffi::H5Tget_size(kind.raw()) };
    if element_bytes == 0 {
        return Err(c::failure("its type is damaged"));
    }
    let leaves = types::leaves(&kind)?;
    let total = checked_product(&dims).and_then(|n| n.checked_mul(element_bytes as u64)).filter(|&n| n < 1 << 62);
    let total = total.ok_or_else(|| Error::corrupt(format!("the shape {dims:?} is too large")))?;
    // SAFETY: as above.
    let (layout, external, stored_bytes) =
        unsafe { (ffi::H5Pget_layout(plist.raw()), ffi::H5Pget_external_count(plist.raw()), ffi::H5Dget_storage_size(id)) };
    check_external(&plist, external)?;
    // Where text of any length or references are among the fields, the library tells the layout that elements have in
    // memory, which is not that of the file.
    let variable = leaves.iter().any(|l| matches!(l.kind, types::Kind::Variable | types::Kind::Other { .. }));
    let storage = match layout {
        1 if external == 0 && !elsewhere => {
            // SAFETY: as above.
            let offset = unsafe { ffi::H5Dget_offset(id) };
            let offset = (offset != ffi::UNDEFINED).then_some(offset);
            if let Some(at) = offset
                && at.checked_add(total).is_none_or(|end| end > file_bytes)
            {
                return Err(Error::corrupt(format!("its {total} bytes begin at byte {at}, the file has {file_bytes}")));
            }
            Storage::Contiguous(offset)
        }
        2 => {
            let mut chunked = chunked(&plist, &dims, element_bytes)?;
            if elsewhere {
                chunked.by_library = true;
            }
            Storage::Chunked(chunked)
        }
        _ => Storage::Library,
    };
    let storage = if variable { by_library(storage) } else { storage };
    if leaves.iter().any(|l| l.kind == types::Kind::Variable) {
        heaps.check()?;
    }
    let mut fill = None;
    let mut defined: c_int = 0;
    // SAFETY: as above; the buffer has the size of an element.
    unsafe {
        ffi::H5Pfill_value_defined(plist.raw(), &mut defined);
        let simple = leaves.iter().all(|l| l.error.is_none() && l.kind != types::Kind::Variable);
        if defined == 2 && simple && element_bytes as u64 <= file_bytes {
            let mut value = vec![0u8; element_bytes];
            c::check(ffi::H5Pget_fill_value(plist.raw(), kind.raw(), value.as_mut_ptr().cast()), "its fill value is damaged")?;
            fill = Some(value).filter(|v| v.iter().any(|&b| b != 0));
        }
    }
    Ok(Dataset {
        name: String::new(),
        path: CString::default(),
        error: None,
        alias_of: None,
        dims,
        scalar,
        null,
        element_bytes,
        leaves,
        storage,
        fill,
        attributes: Attributes::new(),
        stored_bytes,
        named: false,
    })
}

/// Variable-length text is in heaps that the library reads.
fn by_library(storage: Storage) -> Storage {
    match storage {
        Storage::Chunked(chunked) => Storage::Chunked(Chunked { by_library: true, ..chunked }),
        _ => Storage::Library,
    }
}

fn chunked(plist: &Id, dims: &[u64], element_bytes: usize) -> Result<Chunked> {
    let mut shape = [0u64; 33];
    // SAFETY: the buffer has room for the 32 dimensions that the library knows; under the lock.
    let rank = unsafe { ffi::H5Pget_chunk(plist.raw(), 32, shape.as_mut_ptr()) };
    if usize::try_from(rank) != Ok(dims.len()) {
        return Err(Error::corrupt(format!("it has {} dimensions, its chunks have {rank}", dims.len())));
    }
    let shape = shape[..dims.len()].to_vec();
    let bytes = checked_product(&shape).and_then(|n| n.checked_mul(element_bytes as u64));
    if shape.contains(&0) || bytes.is_none_or(|n| n > 1 << 34) {
        return Err(Error::corrupt(format!("chunks of shape {shape:?} with {element_bytes} bytes per element are not possible")));
    }
    let mut found = Vec::new();
    let mut by_library = false;
    // SAFETY: as above; lengths are those of the buffers.
    unsafe {
        for n in 0..u32::try_from(ffi::H5Pget_nfilters(plist.raw())).map_err(|_| c::failure("its filters are damaged"))? {
            let (mut flags, mut config, mut count) = (0, 0, 256usize);
            let mut params = [0u32; 256];
            let mut name = [0 as c_char; 64];
            let id = ffi::H5Pget_filter2(
                plist.raw(),
                n,
                &mut flags,
                &mut count,
                params.as_mut_ptr(),
                name.len() - 1,
                name.as_mut_ptr(),
                &mut config,
            );
            let Ok(id) = u32::try_from(id) else { return Err(c::failure("its filters are damaged")) };
            if count > params.len() {
                return Err(Error::corrupt(format!("its filter number {id} has {count} parameters")));
            }
            if matches!(id, filters::NBIT | filters::SCALEOFFSET) {
                by_library = true;
            } else if !filters::known(id) {
                let said = CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned();
                return Err(match filters::name(id) {
                    None if !said.is_empty() => Error::refused(format!("the filter number {id} ({said}) is not supported"))
                        .hint("rewrite the dataset with gzip, for example with h5repack -f GZIP=4"),
                    _ => filters::unsupported(id),
                });
            }
            found.push(Filter { id, params: params[..count].to_vec() });
        }
    }
    let mut options: c_uint = 0;
    // SAFETY: as above.
    unsafe { ffi::H5Pget_chunk_opts(plist.raw(), &mut options) };
    Ok(Chunked { shape, filters: found, raw_edges: options & 2 != 0, by_library })
}

impl Chunked {
    /// `gzip:4 + shuffle`.
    pub(super) fn describe(&self) -> Option<String> {
        let names = self.filters.iter().rev().map(|f| {
            let name = filters::name(f.id).map_or_else(|| format!("filter {}", f.id), str::to_string);
            match (f.id, f.params.as_slice()) {
                (filters::DEFLATE, [level, ..]) => format!("{name}:{level}"),
                _ => name,
            }
        });
        let names: Vec<String> = names.collect();
        (!names.is_empty()).then(|| names.join(" + "))
    }
}

/// The names of dimension scales, kept as xarray and Zarr keep them; the references that carried them go.
fn dimension_names(path: &str, attributes: &mut Attributes) {
    use serde_json::Value;
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_string();
    let scale = attributes.get("CLASS").and_then(Value::as_str) == Some("DIMENSION_SCALE");
    let names = match attributes.get("DIMENSION_LIST") {
        Some(Value::Array(paths)) => {
            Some(paths.iter().map(|p| Value::String(last(p.as_str().unwrap_or_default()))).collect::<Vec<Value>>())
        }
        _ if scale => Some(vec![Value::String(last(path))]),
        _ => None,
    };
    for name in ["DIMENSION_LIST", "REFERENCE_LIST"] {
        attributes.shift_remove(name);
        if let Some(Value::Object(specs)) = attributes.get_mut(attributes::TYPES) {
            specs.shift_remove(name);
            if specs.is_empty() {
                attributes.shift_remove(attributes::TYPES);
            }
        }
    }
    if let Some(names) = names {
        attributes.insert("_ARRAY_DIMENSIONS".into(), Value::Array(names));
    }
}
