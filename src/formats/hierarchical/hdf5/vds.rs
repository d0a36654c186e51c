//! Virtual datasets: their values are in other datasets, which must be there.
//!
//! The library shows the fill value wherever a source is missing or has fewer rows than the mapping
//! takes. So every source is looked at before anything is read. Parts of the dataset that no
//! mapping covers have the fill value by intent.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::access::{Access, Denied};
use super::chunk_extents::check_chunks;
use super::dataset::Chunked;
use super::driver::{self, Ticket};
use super::external::file_name;
use super::ffi;
use super::library::{self, Id, Library};
use crate::error::{Error, Result, SKIP_ARRAY};
use crate::model::checked_product;

/// Sources that are virtual themselves are followed so far.
const MAX_DEPTH: usize = 16;
/// Behind a last source of a numbered series, so many numbers are looked for.
const LOOK_BEHIND: u64 = 16;

/// What the check of a file's virtual datasets knows.
pub(super) struct Checker<'a> {
    lib: &'a Library,
    pub(super) access: &'a Arc<Access>,
    ticket: &'a Ticket,
    /// A source's chunk may not be larger than that: the library decodes it whole.
    pub(super) memory_bytes: u64,
    /// The datasets on the way, so that none is its own source.
    above: Vec<library::Key>,
    /// What was found sound: file and dataset.
    seen: HashSet<(PathBuf, CString)>,
    /// The files that values of the dataset are in.
    files: BTreeSet<PathBuf>,
}

/// A mapping of the dataset's layout.
struct Mapping {
    file: Vec<u8>,
    dataset: Vec<u8>,
    target: Id,
    source: Id,
    /// The whole source is taken, in C order: then the file does not keep of which shape it was.
    all: bool,
}

impl Mapping {
    /// How many values there is a place for; `None` without end.
    fn target_points(&self, lib: &Library) -> Option<u64> {
        let points = lib.H5Sget_select_npoints(self.target.raw());
        u64::try_from(points).ok().filter(|&n| n != ffi::UNLIMITED && i64::try_from(n).is_ok())
    }
}

/// A dimension of a selection.
#[derive(Clone, Copy)]
struct Span {
    start: u64,
    stride: u64,
    count: u64,
    block: u64,
}

impl Span {
    fn is_unlimited(self) -> bool {
        self.count == ffi::UNLIMITED || self.block == ffi::UNLIMITED
    }
    /// How many of the first `extent` positions are selected.
    fn selected(self, extent: u64) -> u64 {
        let room = extent.saturating_sub(self.start);
        if self.block == ffi::UNLIMITED {
            return room;
        }
        let stride = self.stride.max(1);
        let blocks = (room / stride).min(self.count);
        let rest = if blocks < self.count { (room - blocks * stride).min(self.block) } else { 0 };
        (blocks.saturating_mul(self.block)).saturating_add(rest)
    }
    /// The position behind the last one.
    fn end(self) -> Option<u64> {
        let last = self.count.checked_sub(1)?.checked_mul(self.stride)?;
        self.start.checked_add(last)?.checked_add(self.block)
    }
}

impl<'a> Checker<'a> {
    pub(super) fn new(
        lib: &'a Library,
        access: &'a Arc<Access>,
        ticket: &'a Ticket,
        memory_bytes: u64,
    ) -> Checker<'a> {
        Checker {
            lib,
            access,
            ticket,
            memory_bytes,
            above: Vec::new(),
            seen: HashSet::new(),
            files: BTreeSet::new(),
        }
    }

    /// Whether all sources of a virtual dataset are there; returns the files that its values are
    /// in.
    ///
    /// # Errors
    /// Refused, naming the source.
    pub(super) fn check_all(&mut self, data: &Id, plist: &Id) -> Result<BTreeSet<PathBuf>> {
        self.files.clear();
        self.check(data, plist)?;
        Ok(std::mem::take(&mut self.files))
    }

    fn check(&mut self, data: &Id, plist: &Id) -> Result<()> {
        let lib = self.lib;
        let key = library::key(&library::info(lib, data)?);
        if self.above.contains(&key) {
            return Err(Error::refused("it is a source of itself").hint(SKIP_ARRAY));
        }
        if self.above.len() >= MAX_DEPTH {
            return Err(Error::refused(format!(
                "virtual datasets of virtual datasets, deeper than {MAX_DEPTH}, are not supported"
            )));
        }
        self.above.push(key);
        let checked = self.mappings(data, plist);
        self.above.pop();
        checked
    }

    fn mappings(&mut self, data: &Id, plist: &Id) -> Result<()> {
        let lib = self.lib;
        let all = mappings(lib, plist)?;
        let spans = all
            .iter()
            .map(|m| Ok((spans(lib, &m.target)?, spans(lib, &m.source)?)))
            .collect::<Result<Vec<_>>>()?;
        // The library finds the extent by opening sources: what it could not end with is looked for
        // before.
        for (mapping, (target, source)) in all.iter().zip(&spans) {
            let series =
                target.iter().any(|s| s.is_unlimited()) && !source.iter().any(|s| s.is_unlimited());
            if series && !is_numbered(&mapping.file) && !is_numbered(&mapping.dataset) {
                return Err(Error::corrupt(
                    "a virtual source without end has no number in its name",
                ));
            }
        }
        let own = file_name(lib, data)?;
        let mut files: HashMap<Vec<u8>, Arc<Id>> = HashMap::new();
        let space = lib.space(data)?;
        let dims = library::dims(lib, &space)?.unwrap_or_default();
        for (mapping, (target, source)) in all.iter().zip(&spans) {
            let unlimited = |spans: &[Span]| spans.iter().position(|s| s.is_unlimited());
            let (to, from) = (unlimited(target), unlimited(source));
            match (to, from) {
                (Some(to), None) => {
                    let span = target[to];
                    let blocks = dims[to].saturating_sub(span.start).div_ceil(span.stride.max(1));
                    self.series(data, &own, mapping, source, blocks, &mut files)?;
                }
                _ => {
                    let file = self.open_file(data, &own, &mapping.file, &mut files)?;
                    let found = self.source(&file, mapping, &mapping.file, &mapping.dataset)?;
                    covers(mapping, &found, source)?;
                    if let (Some(to), Some(from)) = (to, from) {
                        let (needs, has) =
                            (target[to].selected(dims[to]), source[from].selected(found[from]));
                        if has < needs {
                            return Err(short(mapping, from, has, needs));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Sources that are numbered: `%b` in the name stands for 0, 1, 2 and so on, up to the first
    /// that is missing.
    fn series(
        &mut self,
        data: &Id,
        own: &Path,
        mapping: &Mapping,
        source: &[Span],
        blocks: u64,
        files: &mut HashMap<Vec<u8>, Arc<Id>>,
    ) -> Result<()> {
        for block in 0..blocks.max(1) {
            let (in_file, name) =
                (numbered(&mapping.file, block), numbered(&mapping.dataset, block));
            // Files of a series are not kept open.
            files.clear();
            let file = self.open_file(data, own, &in_file, files)?;
            let found = self.source(&file, mapping, &in_file, &name)?;
            covers(mapping, &found, source)?;
        }
        // The library takes the first gap for the end.
        for block in blocks..blocks + LOOK_BEHIND {
            let (in_file, name) =
                (numbered(&mapping.file, block), numbered(&mapping.dataset, block));
            files.clear();
            let there = self
                .open_file(data, own, &in_file, files)
                .and_then(|f| self.source(&f, mapping, &in_file, &name));
            if block > blocks && there.is_ok() {
                let missing = (numbered(&mapping.file, blocks), numbered(&mapping.dataset, blocks));
                return Err(missing_source(
                    &missing.0,
                    &missing.1,
                    "is missing, but later ones of its series are there",
                ));
            }
        }
        Ok(())
    }

    /// The extent of a source, which is sound.
    fn source(
        &mut self,
        file: &Id,
        mapping: &Mapping,
        in_file: &[u8],
        name: &[u8],
    ) -> Result<Vec<u64>> {
        let lib = self.lib;
        let c_name = CString::new(name)
            .map_err(|_| Error::corrupt("a virtual source's name has a zero byte"))?;
        let data = lib.open(file, &c_name).map_err(|e| match self.access.denied() {
            Some(denied) => denied.error("its virtual source needs"),
            None => missing_source(in_file, name, "is missing").because(e),
        })?;
        let dims = self.look_at(&data, c_name).map_err(|e| {
            let e = e.about(format!("its source {} in {}", text(name), text(in_file)));
            if e.hint_text().is_some() { e } else { e.hint(SKIP_ARRAY) }
        })?;
        let rank = library::most_dims(lib, &mapping.source)?.len();
        if mapping.all {
            takes_all(lib, mapping, &dims, in_file, name)?;
        } else if dims.len() != rank {
            let told = format!("has {} dimensions, its mapping has {rank}", dims.len());
            return Err(missing_source(in_file, name, &told));
        }
        Ok(dims)
    }

    /// The extent of a source, once the library can read it, within memory.
    fn look_at(&mut self, data: &Id, name: CString) -> Result<Vec<u64>> {
        let lib = self.lib;
        let plist = library::reading(|| lib.H5Dget_create_plist(data.raw()));
        let plist = Id::new(plist, "its header is damaged")?;
        let (kind, layout) = (lib.kind(data)?, lib.H5Pget_layout(plist.raw()));
        let path = file_name(lib, data)?;
        if layout == ffi::VIRTUAL {
            self.check(data, &plist)?;
        } else {
            self.files.insert(path.clone());
        }
        let dims = library::dims(lib, &lib.space(data)?)?.unwrap_or_default();
        if self.seen.contains(&(path.clone(), name.clone())) {
            return Ok(dims);
        }
        if lib.H5Pget_external_count(plist.raw()) > 0 {
            return Err(Error::refused(
                "raw data in other files are not supported behind a virtual dataset",
            ));
        }
        if layout == ffi::CHUNKED {
            let element_bytes = lib.H5Tget_size(kind.raw());
            let chunked = Chunked::of(lib, &plist, &dims, element_bytes)?;
            let elements = checked_product(&chunked.shape);
            let whole = elements.and_then(|n| n.checked_mul(element_bytes as u64));
            chunked.check_library(whole.unwrap_or(u64::MAX), self.memory_bytes)?;
            check_chunks(lib, data, self.memory_bytes)?;
        }
        self.seen.insert((path, name));
        Ok(dims)
    }

    /// Opens a source's file as the library does: `.` is the file of the virtual dataset.
    fn open_file(
        &self,
        data: &Id,
        own: &Path,
        name: &[u8],
        files: &mut HashMap<Vec<u8>, Arc<Id>>,
    ) -> Result<Arc<Id>> {
        const MAX_OPEN: usize = 64;
        if let Some(file) = files.get(name) {
            return Ok(file.clone());
        }
        let file = Arc::new(match name {
            b"." => Id::new(self.lib.H5Iget_file_id(data.raw()), "its file is not known")?,
            name => self.open_named(own, name)?,
        });
        if files.len() >= MAX_OPEN {
            files.clear();
        }
        files.insert(name.to_vec(), file.clone());
        Ok(file)
    }

    fn open_named(&self, own: &Path, name: &[u8]) -> Result<Id> {
        let lib = self.lib;
        let mut why: Option<Denied> = None;
        self.access.denied();
        for path in candidates(own, Path::new(OsStr::from_bytes(name))) {
            let e = match driver::open(lib, &path, self.ticket) {
                Ok(file) => return Ok(file),
                Err(e) => e,
            };
            match self.access.denied() {
                Some(denied) if why.as_ref().is_none_or(Denied::is_missing) => why = Some(denied),
                Some(_) => {}
                None => return Err(e.about(format!("its virtual source {}", text(name)))),
            }
        }
        Err(match why {
            Some(denied) if !denied.is_missing() => denied.error("its values are in"),
            _ => Error::refused(format!("its values are in {}, which is missing", text(name)))
                .hint(SKIP_ARRAY),
        })
    }
}

fn text(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes))
}

fn missing_source(file: &[u8], dataset: &[u8], why: &str) -> Error {
    Error::refused(format!(
        "its values are in the dataset {} of {}, which {why}",
        text(dataset),
        text(file)
    ))
    .hint(SKIP_ARRAY)
}

fn short(mapping: &Mapping, dimension: usize, has: u64, needs: u64) -> Error {
    let why =
        format!("has {has} of the {needs} positions that are taken from its dimension {dimension}");
    missing_source(&mapping.file, &mapping.dataset, &why)
}

/// Whether a source that is taken whole is as large as the place for it. One that has grown since
/// is taken from its start, which is right where it grew by rows.
fn takes_all(
    lib: &Library,
    mapping: &Mapping,
    dims: &[u64],
    file: &[u8],
    name: &[u8],
) -> Result<()> {
    // A series has one block of its place for each of its sources.
    let place = |s: &Span| if s.count == ffi::UNLIMITED { s.block } else { s.selected(u64::MAX) };
    let place: Vec<u64> = spans(lib, &mapping.target)?.iter().map(place).collect();
    let wanted = match mapping.target_points(lib) {
        Some(points) => points,
        None => checked_product(&place).unwrap_or(u64::MAX),
    };
    let has = checked_product(dims).unwrap_or(u64::MAX);
    let grown = has > wanted && place.len() == dims.len() && place.get(1..) == dims.get(1..);
    if has == wanted || grown {
        return Ok(());
    }
    Err(missing_source(
        file,
        name,
        &format!("has {has} values of shape {dims:?}, there is a place for {wanted}"),
    ))
}

/// Whether a source of these dimensions has all that the mapping takes.
fn covers(mapping: &Mapping, dims: &[u64], source: &[Span]) -> Result<()> {
    for (d, (&has, span)) in dims.iter().zip(source).enumerate() {
        if span.is_unlimited() || span.count == 0 || span.block == 0 {
            continue;
        }
        let needs = span.end().unwrap_or(u64::MAX);
        if needs > has {
            return Err(short(mapping, d, has, needs));
        }
    }
    Ok(())
}

/// Where the library looks for a source, in this order.
fn candidates(own: &Path, name: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut name = name;
    if name.is_absolute() {
        found.push(name.to_path_buf());
        name = name.file_name().map_or(name, Path::new);
    }
    let folder = |path: &Path| path.parent().map(Path::to_path_buf).unwrap_or_default();
    if let Some(prefixes) = std::env::var_os("HDF5_VDS_PREFIX") {
        for prefix in prefixes.as_bytes().split(|&b| b == b':').filter(|p| !p.is_empty()) {
            found.push(Path::new(OsStr::from_bytes(prefix)).join(name));
        }
        if let Some(rest) = prefixes.as_bytes().strip_prefix(b"${ORIGIN}") {
            found.push(
                folder(own)
                    .join(OsStr::from_bytes(rest.strip_prefix(b"/").unwrap_or(rest)))
                    .join(name),
            );
        }
    }
    found.push(folder(own).join(name));
    found.push(name.to_path_buf());
    if let Ok(real) = own.canonicalize() {
        found.push(folder(&real).join(name));
    }
    found
}

/// Whether a name has a number to be put in.
fn is_numbered(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some(at) = rest.iter().position(|&b| b == b'%') {
        match rest.get(at + 1) {
            Some(b'b') => return true,
            _ => rest = rest.get(at + 2..).unwrap_or_default(),
        }
    }
    false
}

/// The name with the number of the block in the place of `%b`; `%%` is a percent sign.
fn numbered(name: &[u8], block: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 8);
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        match (byte, bytes.as_slice().first()) {
            (b'%', Some(b'b')) => out.extend_from_slice(block.to_string().as_bytes()),
            (b'%', Some(_)) => out.push(b'%'),
            _ => {
                out.push(byte);
                continue;
            }
        }
        bytes.next();
    }
    out
}

/// The mappings of a virtual layout.
fn mappings(lib: &Library, plist: &Id) -> Result<Vec<Mapping>> {
    let damaged = "its virtual layout is damaged";
    let mut count = 0usize;
    // SAFETY: an open list (all of this function).
    library::check(unsafe { lib.H5Pget_virtual_count(plist.raw(), &mut count) }, damaged)?;
    let mut found = Vec::new();
    for n in 0..count {
        let list = plist.raw();
        // SAFETY: the buffer has the length that is told.
        let name = |to, size| unsafe { lib.H5Pget_virtual_filename(list, n, to, size) };
        let file = lib.text(name, damaged)?;
        // SAFETY: the buffer has the length that is told.
        let name = |to, size| unsafe { lib.H5Pget_virtual_dsetname(list, n, to, size) };
        let dataset = lib.text(name, damaged)?;
        let (target, source) = (
            Id::new(lib.H5Pget_virtual_vspace(plist.raw(), n), damaged)?,
            Id::new(lib.H5Pget_virtual_srcspace(plist.raw(), n), damaged)?,
        );
        let all = lib.H5Sget_select_type(source.raw()) == ffi::SELECTED_ALL;
        found.push(Mapping { file, dataset, target, source, all });
    }
    Ok(found)
}

/// A selection, dimension by dimension: what it takes at most.
fn spans(lib: &Library, space: &Id) -> Result<Vec<Span>> {
    let rank = library::most_dims(lib, space)?.len();
    let damaged = "its virtual layout is damaged";
    let (mut start, mut stride, mut count, mut block) =
        ([0u64; 32], [1u64; 32], [1u64; 32], [1u64; 32]);
    // SAFETY: an open dataspace of at most 32 dimensions.
    unsafe {
        let kind = lib.H5Sget_select_type(space.raw());
        if kind == ffi::SELECTED_NONE {
            count = [0; 32];
        } else if kind == ffi::SELECTED_HYPERSLABS && lib.H5Sis_regular_hyperslab(space.raw()) > 0 {
            let code = lib.H5Sget_regular_hyperslab(
                space.raw(),
                start.as_mut_ptr(),
                stride.as_mut_ptr(),
                count.as_mut_ptr(),
                block.as_mut_ptr(),
            );
            library::check(code, damaged)?;
        } else {
            let mut end = [0u64; 32];
            library::check(
                lib.H5Sget_select_bounds(space.raw(), start.as_mut_ptr(), end.as_mut_ptr()),
                damaged,
            )?;
            for d in 0..rank {
                block[d] = end[d].saturating_sub(start[d]).saturating_add(1);
            }
        }
    }
    Ok((0..rank)
        .map(|d| Span { start: start[d], stride: stride[d], count: count[d], block: block[d] })
        .collect())
}
