//! The tree of groups, links and datasets.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::sync::Arc;

use super::access::Access;
use super::c::{self, Id};
use super::driver::Ticket;
use super::external::External;
use super::ffi;
use super::heap::{self, Heaps, HeapsOf};
use super::vds::Checker;
use super::{attributes, filters, types};
use crate::error::{Error, Result};
use crate::format::ReadOptions;
use crate::model::{Attributes, checked_product};
use crate::storage::Blob;

/// Groups deeper than this are refused.
const DEEPEST: usize = 500;

/// What was found in a file.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) datasets: Vec<Dataset>,
    /// Attributes of groups, by path without the leading slash; the root's under the empty path.
    pub(super) groups: Vec<(String, Attributes)>,
    pub(super) left: attributes::Left,
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
    /// Where its text of any length is.
    pub(super) heaps: Option<Arc<Heaps>>,
    /// Text of any length that was never written is not empty.
    pub(super) has_text_fill: bool,
    /// The bytes of an element that was never written.
    pub(super) fill: Option<Vec<u8>>,
    pub(super) attributes: Attributes,
    pub(super) stored_bytes: u64,
    /// The object is in another file, behind an external link.
    pub(super) elsewhere: bool,
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
    /// Pieces of other files.
    External(External),
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

/// A group on the way down.
struct Frame {
    group: Id,
    path: Vec<u8>,
    name: String,
    key: Key,
    links: std::vec::IntoIter<Link>,
}

type Key = (u64, ffi::Token);

/// What a walk needs to know and what it has seen.
struct Walker<'a> {
    file_number: u64,
    file_bytes: u64,
    blob: Arc<dyn Blob>,
    heaps: HeapsOf,
    access: &'a Arc<Access>,
    ticket: &'a Ticket,
    sources: Option<Checker<'a>>,
    tree: Tree,
    stack: Vec<Frame>,
    /// The objects seen, with their first names.
    seen: HashMap<Key, String>,
    ancestors: HashSet<Key>,
    aliases: usize,
}

/// Walks the file below `group` (the root where `None`).
pub(super) fn walk(
    file: &Id,
    blob: &Arc<dyn Blob>,
    (access, ticket): (&Arc<Access>, &Ticket),
    options: &ReadOptions,
) -> Result<Tree> {
    let group = options.group.as_deref();
    let _lock = c::lock();
    let start = format!("/{}", group.unwrap_or_default().trim_matches('/'));
    let root = object(file, &c::c_name(&start)?).map_err(|e| match (group, access.denied()) {
        (_, Some(denied)) => denied.error(&format!("the way to {start:?} leads to")),
        (Some(g), None) => Error::missing(format!("there is no group '{g}'"))
            .hint("npk inspect --tree lists the groups"),
        (None, None) => e,
    })?;
    let start_info = info(&root)?;
    if start_info.kind != ffi::GROUP {
        return Err(
            Error::usage(format!("'{start}' is not a group")).hint("choose datasets with -a")
        );
    }
    let mut file_number = 0;
    // SAFETY: an open file; under the lock.
    c::check(unsafe { ffi::H5Fget_fileno(file.raw(), &mut file_number) }, "the file is damaged")?;
    let mut walker = Walker {
        file_number,
        file_bytes: blob.len(),
        blob: blob.clone(),
        heaps: HeapsOf::default(),
        access,
        ticket,
        // Names can be told whatever the sources are.
        sources: (!options.names_only).then(|| Checker::new(access, ticket, options.memory_bytes)),
        tree: Tree::default(),
        stack: Vec::new(),
        seen: HashMap::new(),
        ancestors: HashSet::from([key(&start_info)]),
        aliases: 0,
    };
    let heaps = walker.heaps(&root, &start_info)?;
    let attributes = attributes::read(
        &root,
        start_info.attributes,
        "the root group",
        &heaps,
        &mut walker.tree.left,
    );
    walker.tree.groups.push((String::new(), attributes));
    let path = if start == "/" { Vec::new() } else { start.into_bytes() };
    let first = links(&root)?;
    walker.stack.push(Frame {
        group: root,
        path,
        name: String::new(),
        key: key(&start_info),
        links: first.into_iter(),
    });
    while let Some(frame) = walker.stack.last_mut() {
        match frame.links.next() {
            Some(link) => walker.link(&link)?,
            None => {
                if let Some(done) = walker.stack.pop() {
                    walker.ancestors.remove(&done.key);
                }
            }
        }
    }
    const NOTES: usize = 50;
    let mut tree = walker.tree;
    let notes = &mut tree.left.notes;
    if notes.len() > NOTES {
        let more = notes.len() - NOTES;
        notes.truncate(NOTES);
        notes.push(format!("… and {more} more like these"));
    }
    Ok(tree)
}

impl Walker<'_> {
    /// Takes a link of the group on top of the stack.
    fn link(&mut self, link: &Link) -> Result<()> {
        let Some(frame) = self.stack.last() else { return Ok(()) };
        let mut path = frame.path.clone();
        path.push(b'/');
        path.extend_from_slice(link.name.as_bytes());
        let mut name = frame.name.clone();
        if !name.is_empty() {
            name.push('/');
        }
        name.push_str(&String::from_utf8_lossy(link.name.as_bytes()));
        let Ok(path_c) = CString::new(path.clone()) else { return Ok(()) };
        if std::str::from_utf8(link.name.as_bytes()).is_err() {
            self.tree.datasets.push(Dataset::broken(
                name,
                path_c,
                Error::refused("its name is not UTF-8"),
            ));
            return Ok(());
        }
        if !matches!(link.kind, ffi::HARD_LINK | ffi::SOFT_LINK | ffi::EXTERNAL_LINK) {
            self.tree
                .left
                .notes
                .push(format!("{name} is a user-defined link of kind {}: left out", link.kind));
            return Ok(());
        }
        self.access.denied();
        let opened = object(&frame.group, &link.name).and_then(|o| info(&o).map(|i| (o, i)));
        let (object, info) = match opened {
            Ok(found) => found,
            Err(e) => {
                let error = match (link.kind, self.access.denied()) {
                    (_, Some(denied)) if !denied.is_missing() => denied.error("its link leads to"),
                    (ffi::EXTERNAL_LINK, _) => {
                        Error::missing("its external link cannot be followed").because(e)
                    }
                    (ffi::SOFT_LINK, None) => {
                        self.tree
                            .left
                            .notes
                            .push(format!("{name} is a soft link to nothing: left out"));
                        return Ok(());
                    }
                    (_, Some(denied)) => Error::missing("its link cannot be followed")
                        .because(denied.error("it leads to")),
                    (_, None) => e,
                };
                self.tree.datasets.push(Dataset::broken(name, path_c, error));
                return Ok(());
            }
        };
        let key = key(&info);
        let alias_of = self.seen.get(&key).cloned();
        if alias_of.is_some() {
            self.aliases += 1;
            // Groups that hold each other's links twice over would grow without end.
            if self.aliases > 10_000 + 10 * self.seen.len() {
                return Err(Error::refused("its links lead to the same objects again and again"));
            }
        }
        match info.kind {
            ffi::GROUP => self.group(object, &info, name, path, path_c),
            ffi::DATASET => {
                self.seen.entry(key).or_insert_with(|| name.clone());
                let mut dataset = self.dataset(&object, &info, &name, path_c);
                dataset.alias_of = alias_of;
                self.tree.datasets.push(dataset);
            }
            ffi::NAMED_TYPE => {
                self.tree.left.notes.push(format!("{name} is a committed type: left out"))
            }
            other => {
                self.tree.left.notes.push(format!("{name} is an object of kind {other}: left out"))
            }
        }
        Ok(())
    }

    fn group(
        &mut self,
        object: Id,
        info: &ffi::ObjectInfo,
        name: String,
        path: Vec<u8>,
        path_c: CString,
    ) {
        let key = key(info);
        if self.ancestors.contains(&key) {
            self.tree
                .left
                .notes
                .push(format!("{name} links back to a group that contains it: left out"));
            return;
        }
        if self.stack.len() >= DEEPEST {
            let error = Error::refused(format!("groups deeper than {DEEPEST} are not supported"));
            self.tree.datasets.push(Dataset::broken(name, path_c, error));
            return;
        }
        self.seen.entry(key).or_insert_with(|| name.clone());
        let found = self.heaps(&object, info).and_then(|heaps| Ok((heaps, links(&object)?)));
        match found {
            Ok((heaps, found)) => {
                let attributes =
                    attributes::read(&object, info.attributes, &name, &heaps, &mut self.tree.left);
                self.tree.groups.push((name.clone(), attributes));
                self.ancestors.insert(key);
                self.stack.push(Frame { group: object, path, name, key, links: found.into_iter() });
            }
            Err(e) => self.tree.datasets.push(Dataset::broken(name, path_c, e)),
        }
    }

    fn dataset(
        &mut self,
        object: &Id,
        info: &ffi::ObjectInfo,
        name: &str,
        path: CString,
    ) -> Dataset {
        let mut attributes = Attributes::new();
        let found = self.heaps(object, info).and_then(|heaps| {
            attributes =
                attributes::read(object, info.attributes, name, &heaps, &mut self.tree.left);
            dimension_names(name, &mut attributes);
            self.headers(object, info.fileno != self.file_number, heaps)
        });
        let mut dataset =
            found.unwrap_or_else(|e| Dataset::broken(String::new(), CString::default(), e));
        join_characters(&mut dataset, &mut attributes, self.is_netcdf());
        (dataset.name, dataset.path, dataset.attributes) = (name.to_string(), path, attributes);
        dataset
    }

    /// Whether the netCDF library wrote the file.
    fn is_netcdf(&self) -> bool {
        self.tree
            .groups
            .first()
            .is_some_and(|(_, attributes)| attributes.contains_key("_NCProperties"))
    }

    /// The heaps of the file that an object is in.
    fn heaps(&self, object: &Id, info: &ffi::ObjectInfo) -> Result<Arc<Heaps>> {
        let own = info.fileno == self.file_number;
        self.heaps.get(object, info.fileno, &|| match own {
            true => Ok(self.blob.clone()),
            false => heap::blob_of(object, self.access),
        })
    }
}

pub(super) fn key(info: &ffi::ObjectInfo) -> Key {
    (info.fileno, info.token)
}

fn object(parent: &Id, name: &CStr) -> Result<Id> {
    // SAFETY: an open group; under the lock.
    Id::new(unsafe { ffi::H5Oopen(parent.raw(), name.as_ptr(), 0) }, "cannot be opened")
}

pub(super) fn info(object: &Id) -> Result<ffi::ObjectInfo> {
    let mut info = ffi::ObjectInfo::default();
    // SAFETY: an open object; the structure is the library's H5O_info2_t; under the lock.
    c::check(unsafe { ffi::H5Oget_info3(object.raw(), &mut info, 1 | 4) }, "cannot be opened")?;
    Ok(info)
}

/// The links of a group: in the order of their making where the group keeps it, else by name.
fn links(group: &Id) -> Result<Vec<Link>> {
    unsafe extern "C" fn visit(
        _group: i64,
        name: *const c_char,
        info: *const ffi::LinkInfo,
        data: *mut c_void,
    ) -> c_int {
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
            ordered =
                ffi::H5Pget_link_creation_order(plist.raw(), &mut flags) >= 0 && flags & 1 != 0;
        }
        let data: *mut c_void = std::ptr::from_mut(&mut found).cast();
        let code = ffi::H5Literate2(
            group.raw(),
            c_int::from(ordered),
            0,
            std::ptr::null_mut(),
            visit,
            data,
        );
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
            heaps: None,
            has_text_fill: false,
            fill: None,
            attributes: Attributes::new(),
            stored_bytes: 0,
            elsewhere: false,
            named: false,
        }
    }
}

/// `H5D_layout_t`.
pub(super) const CONTIGUOUS: c_int = 1;
pub(super) const CHUNKED: c_int = 2;
pub(super) const VIRTUAL: c_int = 3;

impl Walker<'_> {
    /// What the headers say about a dataset.
    fn headers(&mut self, data: &Id, elsewhere: bool, heaps: Arc<Heaps>) -> Result<Dataset> {
        let id = data.raw();
        // SAFETY: an open dataset; under the lock (all of this function).
        let (kind, plist) = unsafe {
            (
                Id::new(ffi::H5Dget_type(id), "its type is damaged")?,
                Id::new(c::reading(|| ffi::H5Dget_create_plist(id)), "its header is damaged")?,
            )
        };
        // SAFETY: as above.
        let layout = unsafe { ffi::H5Pget_layout(plist.raw()) };
        let leaves = types::leaves(&kind, heaps.reference_bytes())?;
        let variable = leaves.iter().any(|l| l.kind.is_variable());
        let mut heaps = Some(heaps).filter(|_| variable);
        if layout == VIRTUAL
            && let Some(sources) = &mut self.sources
        {
            let files = sources.check_all(data, &plist)?;
            if variable {
                heaps = Some(heap::of_sources(&files, &self.heaps, (self.access, self.ticket))?);
            }
        }
        // SAFETY: as above.
        let space = Id::new(unsafe { ffi::H5Dget_space(id) }, "its dataspace is damaged")?;
        let dims = c::dims(&space)?;
        let null = dims.is_none();
        let scalar = dims.as_ref().is_some_and(Vec::is_empty);
        let dims = dims.unwrap_or_else(|| vec![0]);
        // SAFETY: as above.
        let mut element_bytes = unsafe { ffi::H5Tget_size(kind.raw()) };
        if element_bytes == 0 {
            return Err(c::failure("its type is damaged"));
        }
        // The library tells the layout that text of any length and references have in memory. Where
        // an element is such text alone, that of the file is known all the same.
        let text_alone = matches!(&leaves[..], [l] if l.kind.is_variable() && l.fields.is_empty());
        if text_alone {
            element_bytes = leaves[0].packed_bytes();
        }
        let total = checked_product(&dims)
            .and_then(|n| n.checked_mul(element_bytes as u64))
            .filter(|&n| n < 1 << 62);
        let total =
            total.ok_or_else(|| Error::corrupt(format!("the shape {dims:?} is too large")))?;
        let has_fill = has_fill(&plist);
        let opaque = leaves.iter().any(|l| matches!(l.kind, types::Kind::Other { .. }));
        let mut storage =
            self.storage(data, &plist, layout, elsewhere, &dims, element_bytes, total)?;
        if opaque || variable && (!text_alone || has_fill) {
            storage = by_library(storage);
        }
        if variable && has_fill && layout == VIRTUAL {
            return Err(Error::refused(
                "a virtual dataset of text of any length with a fill value is not supported",
            ));
        }
        let simple = has_fill && leaves.iter().all(|l| l.error.is_none() && !l.kind.is_variable());
        let fill = if simple && element_bytes as u64 <= self.file_bytes {
            fill(&plist, &kind, element_bytes)?
        } else {
            None
        };
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
            heaps,
            has_text_fill: variable && has_fill,
            fill,
            attributes: Attributes::new(),
            // SAFETY: as above.
            stored_bytes: unsafe { ffi::H5Dget_storage_size(id) },
            elsewhere,
            named: false,
        })
    }

    #[allow(clippy::too_many_arguments)]
    fn storage(
        &self,
        data: &Id,
        plist: &Id,
        layout: c_int,
        elsewhere: bool,
        dims: &[u64],
        element_bytes: usize,
        total: u64,
    ) -> Result<Storage> {
        // SAFETY: an open list and dataset; under the lock.
        let (external, offset) =
            unsafe { (ffi::H5Pget_external_count(plist.raw()), ffi::H5Dget_offset(data.raw())) };
        Ok(match layout {
            CONTIGUOUS if external > 0 => {
                Storage::External(External::find(data, plist, external, total, self.access)?)
            }
            CONTIGUOUS if !elsewhere => {
                let offset = (offset != ffi::UNDEFINED).then_some(offset);
                if let Some(at) = offset
                    && at.checked_add(total).is_none_or(|end| end > self.file_bytes)
                {
                    return Err(Error::corrupt(format!(
                        "its {total} bytes begin at byte {at}, the file has {}",
                        self.file_bytes
                    )));
                }
                Storage::Contiguous(offset)
            }
            CHUNKED => Storage::Chunked(chunked(plist, dims, element_bytes)?),
            _ => Storage::Library,
        })
    }
}

/// Whether elements that were never written have a value that the writer chose. Under the lock.
fn has_fill(plist: &Id) -> bool {
    const BY_USER: c_int = 2;
    let mut defined: c_int = 0;
    // SAFETY: an open list; under the lock.
    unsafe { ffi::H5Pfill_value_defined(plist.raw(), &mut defined) };
    defined == BY_USER
}

/// The bytes of an element that was never written, where they are not all zero. Under the lock.
fn fill(plist: &Id, kind: &Id, element_bytes: usize) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0u8; element_bytes];
    // SAFETY: open handles; the buffer has the size of an element; under the lock.
    let code =
        unsafe { ffi::H5Pget_fill_value(plist.raw(), kind.raw(), value.as_mut_ptr().cast()) };
    c::check(code, "its fill value is damaged")?;
    Ok(Some(value).filter(|v| v.iter().any(|&b| b != 0)))
}

/// Variable-length text is in heaps that the library reads.
fn by_library(storage: Storage) -> Storage {
    match storage {
        Storage::Chunked(chunked) => Storage::Chunked(Chunked { by_library: true, ..chunked }),
        _ => Storage::Library,
    }
}

/// The layout of a chunked dataset. Under the lock.
///
/// # Errors
/// Filters that are not supported; corrupt.
pub(super) fn chunked(plist: &Id, dims: &[u64], element_bytes: usize) -> Result<Chunked> {
    let mut shape = [0u64; 33];
    // SAFETY: the buffer has room for the 32 dimensions that the library knows; under the lock.
    let rank = unsafe { ffi::H5Pget_chunk(plist.raw(), 32, shape.as_mut_ptr()) };
    if usize::try_from(rank) != Ok(dims.len()) {
        return Err(Error::corrupt(format!(
            "it has {} dimensions, its chunks have {rank}",
            dims.len()
        )));
    }
    let shape = shape[..dims.len()].to_vec();
    let bytes = checked_product(&shape).and_then(|n| n.checked_mul(element_bytes as u64));
    if shape.contains(&0) || bytes.is_none_or(|n| n > 1 << 34) {
        return Err(Error::corrupt(format!(
            "chunks of shape {shape:?} with {element_bytes} bytes per element are not possible"
        )));
    }
    let mut found = Vec::new();
    let mut by_library = false;
    // SAFETY: as above; lengths are those of the buffers.
    unsafe {
        for n in 0..u32::try_from(ffi::H5Pget_nfilters(plist.raw()))
            .map_err(|_| c::failure("its filters are damaged"))?
        {
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
            let Ok(id) = u32::try_from(id) else {
                return Err(c::failure("its filters are damaged"));
            };
            if count > params.len() {
                return Err(Error::corrupt(format!(
                    "its filter number {id} has {count} parameters"
                )));
            }
            if matches!(id, filters::NBIT | filters::SCALEOFFSET) {
                by_library = true;
            } else if !filters::known(id) {
                let said = CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned();
                return Err(match filters::name(id) {
                    None if !said.is_empty() => Error::refused(format!(
                        "the filter number {id} ({said}) is not supported"
                    ))
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
    /// Whether a chunk is as it was before all filters. A set bit of `mask` names one that was left
    /// out.
    pub(super) fn is_plain(&self, mask: u32) -> bool {
        self.filters.len() <= 32 && (0..self.filters.len()).all(|i| mask >> i & 1 == 1)
    }

    /// Whether the library may decode a chunk: it does so in memory, whole.
    ///
    /// # Errors
    /// Refused, with the bytes that are needed.
    pub(super) fn fits(&self, element_bytes: usize, memory_bytes: u64) -> Result<()> {
        let whole = checked_product(&self.shape)
            .and_then(|n| n.checked_mul(element_bytes as u64))
            .unwrap_or(u64::MAX);
        let needs = super::chunks::needs(self, 0, whole);
        if needs <= memory_bytes {
            return Ok(());
        }
        Err(Error::refused(format!("its chunks of {whole} bytes each need {needs} bytes of memory, the limit is {memory_bytes}"))
            .hint(format!("raise the limit: --memory-limit {}MiB", needs.div_ceil(1 << 20))))
    }

    /// `gzip:4 + shuffle`.
    pub(super) fn describe(&self) -> Option<String> {
        let names = self.filters.iter().rev().map(|f| {
            let name =
                filters::name(f.id).map_or_else(|| format!("filter {}", f.id), str::to_string);
            match (f.id, f.params.as_slice()) {
                (filters::DEFLATE, [level, ..]) => format!("{name}:{level}"),
                _ => name,
            }
        });
        let names: Vec<String> = names.collect();
        (!names.is_empty()).then(|| names.join(" + "))
    }
}

/// netCDF has text as characters whose last dimension is its length: they are joined, as the CF
/// conventions have it.
fn join_characters(dataset: &mut Dataset, attributes: &mut Attributes, netcdf: bool) {
    const DIMENSIONS: &str = "_ARRAY_DIMENSIONS";
    let rank = dataset.dims.len();
    let named = attributes
        .get(DIMENSIONS)
        .and_then(|v| v.as_array())
        .is_some_and(|names| names.len() == rank);
    let Some(&width) = dataset.dims.last().filter(|&&n| rank > 1 && n > 0 && (netcdf || named))
    else {
        return;
    };
    let [leaf] = &mut dataset.leaves[..] else { return };
    if !matches!(leaf.kind, types::Kind::Fixed { bytes: 1, .. })
        || !leaf.fields.is_empty()
        || !leaf.dims.is_empty()
    {
        return;
    }
    leaf.joined = usize::try_from(width).ok();
    if named && let Some(names) = attributes.get_mut(DIMENSIONS).and_then(|v| v.as_array_mut()) {
        names.pop();
    }
    // It numbers the dimensions of the characters.
    attributes.shift_remove("_Netcdf4Coordinates");
}

/// The names of dimension scales, kept as xarray and Zarr keep them; the references that carried
/// them go.
fn dimension_names(path: &str, attributes: &mut Attributes) {
    use serde_json::Value;
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
