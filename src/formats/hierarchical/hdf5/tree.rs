//! The tree of groups, links and datasets.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};

use super::dataset::Dataset;
use super::ffi::{self, H5_index_t, H5_iter_order_t};
use super::file::OpenFile;
use super::headers::Headers;
use super::library::{self, Id, Key, Library};
use super::{attributes, dimensions};
use crate::error::{Error, Result};
use crate::format::ReadOptions;
use crate::model::Attributes;

/// Groups deeper than this are refused.
const MAX_DEPTH: usize = 500;

/// What was found in a file.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) datasets: Vec<Dataset>,
    /// Attributes of groups, by path without the leading slash; the root's under the empty path.
    pub(super) groups: Vec<(String, Attributes)>,
    pub(super) left: attributes::Left,
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

/// What a walk needs to know and what it has seen.
struct Walker<'a> {
    headers: Headers<'a>,
    tree: Tree,
    stack: Vec<Frame>,
    /// The objects seen, with their first names.
    seen: HashMap<Key, String>,
    ancestors: HashSet<Key>,
    aliases: usize,
}

/// Walks the file below `group` (the root where `None`).
///
/// # Errors
/// A group that is not there; corrupt.
pub(super) fn walk(file: &OpenFile, options: &ReadOptions) -> Result<Tree> {
    let group = options.group.as_deref();
    let lib = &library::lock();
    let start = format!("/{}", group.unwrap_or_default().trim_matches('/'));
    let root = lib.open(&file.id, &library::c_name(&start)?).map_err(|e| {
        match (group, file.access.denied()) {
            (_, Some(denied)) => denied.error(&format!("the way to {start:?} leads to")),
            (Some(g), None) => Error::missing(format!("there is no group '{g}'"))
                .hint("npk inspect --tree lists the groups"),
            (None, None) => e,
        }
    })?;
    let start_info = library::info(lib, &root)?;
    if start_info.kind != ffi::GROUP {
        return Err(
            Error::usage(format!("'{start}' is not a group")).hint("choose datasets with -a")
        );
    }
    let mut walker = Walker {
        headers: Headers::new(lib, file, options)?,
        tree: Tree::default(),
        stack: Vec::new(),
        seen: HashMap::new(),
        ancestors: HashSet::from([library::key(&start_info)]),
        aliases: 0,
    };
    let heaps = walker.headers.heaps(&root, &start_info)?;
    let attributes = attributes::read(
        lib,
        &root,
        start_info.attributes,
        "the root group",
        &heaps,
        &mut walker.tree.left,
    );
    walker.tree.groups.push((String::new(), attributes));
    let path = if start == "/" { Vec::new() } else { start.into_bytes() };
    let first = links(lib, &root)?;
    walker.stack.push(Frame {
        group: root,
        path,
        name: String::new(),
        key: library::key(&start_info),
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
        let lib = self.headers.lib;
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
        self.headers.access.denied();
        let opened =
            lib.open(&frame.group, &link.name).and_then(|o| library::info(lib, &o).map(|i| (o, i)));
        let (object, info) = match opened {
            Ok(found) => found,
            Err(e) => {
                let error = match (link.kind, self.headers.access.denied()) {
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
        let key = library::key(&info);
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
        let (lib, key) = (self.headers.lib, library::key(info));
        if self.ancestors.contains(&key) {
            self.tree
                .left
                .notes
                .push(format!("{name} links back to a group that contains it: left out"));
            return;
        }
        if self.stack.len() >= MAX_DEPTH {
            let error = Error::refused(format!("groups deeper than {MAX_DEPTH} are not supported"));
            self.tree.datasets.push(Dataset::broken(name, path_c, error));
            return;
        }
        self.seen.entry(key).or_insert_with(|| name.clone());
        let found =
            self.headers.heaps(&object, info).and_then(|heaps| Ok((heaps, links(lib, &object)?)));
        match found {
            Ok((heaps, found)) => {
                let attributes = attributes::read(
                    lib,
                    &object,
                    info.attributes,
                    &name,
                    &heaps,
                    &mut self.tree.left,
                );
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
        let lib = self.headers.lib;
        let mut attributes = Attributes::new();
        let found = self.headers.heaps(object, info).and_then(|heaps| {
            attributes =
                attributes::read(lib, object, info.attributes, name, &heaps, &mut self.tree.left);
            dimensions::dimension_names(name, &mut attributes);
            self.headers.dataset(object, info, heaps)
        });
        let mut dataset =
            found.unwrap_or_else(|e| Dataset::broken(String::new(), CString::default(), e));
        dimensions::join_characters(&mut dataset, &mut attributes, self.is_netcdf());
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
}

/// The links of a group: in the order of their making where the group keeps it, else by name.
fn links(lib: &Library, group: &Id) -> Result<Vec<Link>> {
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
    // SAFETY: an open group; the callback only adds to `found`.
    unsafe {
        let mut flags: c_uint = 0;
        let mut ordered = false;
        if let Ok(plist) = Id::new(lib.H5Gget_create_plist(group.raw()), "a group is damaged") {
            ordered =
                lib.H5Pget_link_creation_order(plist.raw(), &mut flags) >= 0 && flags & 1 != 0;
        }
        let data: *mut c_void = std::ptr::from_mut(&mut found).cast();
        let code = lib.H5Literate2(
            group.raw(),
            if ordered { H5_index_t::H5_INDEX_CRT_ORDER } else { H5_index_t::H5_INDEX_NAME },
            H5_iter_order_t::H5_ITER_INC,
            std::ptr::null_mut(),
            visit,
            data,
        );
        library::check(code, "a group cannot be listed")?;
    }
    Ok(found)
}
