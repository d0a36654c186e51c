//! Dimension scales: the names of dimensions (`_ARRAY_DIMENSIONS`) as netCDF4 and HDF5's own
//! convention keep them.
//!
//! A one-dimensional array of the dimension's name in the same group, or in one that holds it, is
//! its scale. Where every dimension of an array finds its scale, they are attached:
//! `DIMENSION_LIST` at the array, `CLASS`, `NAME` and `REFERENCE_LIST` at the scale. Otherwise the
//! names stay what they were, an attribute.
//!
//! netCDF writes a dimension without values as a dataset without values, whose `NAME` begins with
//! [`BARE`]. It is no array: it is left out when it is read, and made again from the names where
//! the output is netCDF.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{CString, c_int, c_void};

use serde_json::Value;

use super::c::{self, Id};
use super::dataset::Dataset;
use super::ffi;
use crate::error::Result;
use crate::format::WriteOptions;
use crate::model::Plan;

/// An array and the scales of its dimensions.
pub(super) struct Scale {
    pub(super) array: usize,
    path: CString,
    /// Empty for an array that is a scale itself.
    scales: Vec<CString>,
}

/// How netCDF names a dimension that is not a variable; its length follows, in ten columns.
const BARE: &str = "This is a netCDF dimension but not a netCDF variable.";

/// Attributes that tell the order of all dimensions of a netCDF file: worthless beside dimensions
/// that are made anew.
pub(super) const NUMBERED: [&str; 2] = ["_Netcdf4Dimid", "_Netcdf4Coordinates"];

/// Whether a dataset is a dimension and nothing else.
pub(super) fn is_bare(dataset: &Dataset) -> bool {
    let text =
        |name: &str| dataset.attributes.get(name).and_then(Value::as_str).unwrap_or_default();
    dataset.error.is_none()
        && dataset.dims.len() == 1
        && text("CLASS") == "DIMENSION_SCALE"
        && text("NAME").starts_with(BARE)
}

/// The dimension scales of an output.
#[derive(Default)]
pub(super) struct Scales {
    /// The arrays whose dimensions all have scales.
    pub(super) arrays: Vec<Scale>,
    /// The scales that are no arrays, with their lengths.
    pub(super) bare: BTreeMap<CString, u64>,
}

/// Finds the arrays whose dimensions all have scales. `netcdf`: dimensions that no array has values
/// for get one.
pub(super) fn plan(plan: &Plan, options: &WriteOptions, netcdf: bool) -> Scales {
    let mut found = Vec::new();
    if options.no_metadata {
        return Scales::default();
    }
    let mut bare: BTreeMap<CString, u64> = BTreeMap::new();
    let groups: HashSet<&str> = plan
        .arrays
        .iter()
        .flat_map(|a| a.name.match_indices('/').map(|(i, _)| &a.name[..i]))
        .collect();
    let path = |array: usize| CString::new(format!("/{}", plan.arrays[array].name)).ok();
    let places: std::collections::HashMap<&str, usize> =
        plan.arrays.iter().enumerate().map(|(i, a)| (a.name.as_str(), i)).collect();
    for (array, meta) in plan.arrays.iter().enumerate() {
        let Some(Value::Array(names)) = meta.details.attributes.get("_ARRAY_DIMENSIONS") else {
            continue;
        };
        let rank = if meta.scalar { 0 } else { meta.inner.len() + 1 };
        if names.len() != rank || rank == 0 {
            continue;
        }
        let scale = |name: &Value| -> Option<Option<usize>> {
            let name = name.as_str().filter(|n| !n.is_empty())?;
            let mut group = meta.name.rsplit_once('/').map_or("", |g| g.0);
            loop {
                let full =
                    if group.is_empty() { name.to_string() } else { format!("{group}/{name}") };
                if let Some(&at) = places.get(full.as_str()) {
                    let own = plan.arrays[at].details.attributes.get("_ARRAY_DIMENSIONS");
                    let is_scale = plan.arrays[at].inner.is_empty()
                        && own
                            .and_then(Value::as_array)
                            .is_some_and(|o| o.len() == 1 && o[0].as_str() == Some(name));
                    return is_scale.then_some(Some(at));
                }
                if group.is_empty() {
                    return netcdf.then_some(None);
                }
                group = group.rsplit_once('/').map_or("", |g| g.0);
            }
        };
        let scales: Option<Vec<Option<usize>>> = names.iter().map(scale).collect();
        let (Some(scales), Some(own), Some(shape)) = (scales, path(array), meta.shape()) else {
            continue;
        };
        let scales = if scales == [Some(array)] { Vec::new() } else { scales };
        let mut made = Vec::new();
        let group = meta.name.rfind('/').map_or("", |at| &meta.name[..=at]);
        let mut place = |d: usize, scale: Option<usize>| -> Option<CString> {
            if let Some(scale) = scale {
                return path(scale);
            }
            let name =
                names[d].as_str().filter(|n| !n.contains('/') && !matches!(*n, "." | ".."))?;
            let full = format!("{group}{name}");
            let path = CString::new(format!("/{full}"))
                .ok()
                .filter(|_| !groups.contains(full.as_str()))?;
            made.push((path.clone(), shape[d]));
            Some(path)
        };
        let scales: Option<Vec<CString>> =
            scales.into_iter().enumerate().map(|(d, s)| place(d, s)).collect();
        // One dimension has one length.
        let agrees = made.iter().all(|(path, n)| {
            bare.get(path).is_none_or(|m| m == n) && made.iter().all(|(p, m)| p != path || m == n)
        });
        if let Some(scales) = scales.filter(|_| agrees) {
            bare.extend(made);
            found.push(Scale { array, path: own, scales });
        }
    }
    Scales { arrays: found, bare }
}

/// Makes a dimension without values as netCDF does. Under the lock.
fn make_bare(file: &Id, path: &CString, length: u64) -> Result<()> {
    // SAFETY: plain calls; the text attribute has the bytes of its type.
    unsafe {
        let space = Id::new(
            ffi::H5Screate_simple(1, &length, std::ptr::null()),
            "cannot make a dataspace",
        )?;
        let kind = Id::new(ffi::H5Tcopy(ffi::H5T_IEEE_F32LE_g), "cannot make a type")?;
        let id = ffi::H5Dcreate2(file.raw(), path.as_ptr(), kind.raw(), space.raw(), 0, 0, 0);
        let data = Id::new(id, "cannot make a dimension")?;
        let name = format!("{BARE}{length:10}\0");
        let kind = Id::new(ffi::H5Tcopy(ffi::H5T_C_S1_g), "cannot make a type")?;
        ffi::H5Tset_size(kind.raw(), name.len());
        attribute(&data, c"NAME", &kind, None, name.as_ptr().cast())
    }
}

fn open(file: &Id, path: &CString) -> Result<Id> {
    // SAFETY: an open file; under the lock.
    Id::new(unsafe { ffi::H5Dopen2(file.raw(), path.as_ptr(), 0) }, "a dataset cannot be opened")
}

fn reference(file: &Id, path: &CString) -> Result<u64> {
    let mut reference = 0u64;
    // SAFETY: an object reference has 8 bytes; under the lock.
    let code = unsafe {
        ffi::H5Rcreate(std::ptr::from_mut(&mut reference).cast(), file.raw(), path.as_ptr(), 0, -1)
    };
    c::check(code, "a reference cannot be made")?;
    Ok(reference)
}

/// Attaches them all. Under the lock.
pub(super) fn attach(file: &Id, scales: &Scales) -> Result<()> {
    for (path, &length) in &scales.bare {
        make_bare(file, path, length)?;
    }
    let all = &scales.arrays;
    #[repr(C)]
    struct Use {
        data: u64,
        dimension: c_int,
    }
    let mut users: BTreeMap<&CString, Vec<Use>> = BTreeMap::new();
    for scale in all {
        if scale.scales.is_empty() {
            users.entry(&scale.path).or_default();
            continue;
        }
        let own = reference(file, &scale.path)?;
        let mut references = Vec::new();
        for (dimension, path) in scale.scales.iter().enumerate() {
            references.push(reference(file, path)?);
            users.entry(path).or_default().push(Use { data: own, dimension: dimension as c_int });
        }
        #[repr(C)]
        struct Sequence {
            len: usize,
            data: *const c_void,
        }
        let lists: Vec<Sequence> = references
            .iter()
            .map(|r| Sequence { len: 1, data: std::ptr::from_ref(r).cast() })
            .collect();
        // SAFETY: one sequence of one reference for each dimension.
        unsafe {
            let kind = Id::new(ffi::H5Tvlen_create(ffi::H5T_STD_REF_OBJ_g), "cannot make a type")?;
            attribute(
                &open(file, &scale.path)?,
                c"DIMENSION_LIST",
                &kind,
                Some(lists.len() as u64),
                lists.as_ptr().cast(),
            )?;
        }
    }
    for (path, uses) in users {
        let data = open(file, path)?;
        // SAFETY: buffers of the types and shapes that are told.
        unsafe {
            let exists = |name: &std::ffi::CStr| ffi::H5Aexists(data.raw(), name.as_ptr()) > 0;
            let text = |bytes: &[u8]| -> Result<Id> {
                let kind = Id::new(ffi::H5Tcopy(ffi::H5T_C_S1_g), "cannot make a type")?;
                ffi::H5Tset_size(kind.raw(), bytes.len());
                Ok(kind)
            };
            if !exists(c"CLASS") {
                let class = b"DIMENSION_SCALE\0";
                attribute(&data, c"CLASS", &text(class)?, None, class.as_ptr().cast())?;
            }
            if !exists(c"NAME") {
                let name = path.to_bytes_with_nul().rsplit(|&b| b == b'/').next().unwrap_or(b"\0");
                attribute(&data, c"NAME", &text(name)?, None, name.as_ptr().cast())?;
            }
            if !uses.is_empty() {
                let kind =
                    Id::new(ffi::H5Tcreate(ffi::COMPOUND, size_of::<Use>()), "cannot make a type")?;
                ffi::H5Tinsert(kind.raw(), c"dataset".as_ptr(), 0, ffi::H5T_STD_REF_OBJ_g);
                ffi::H5Tinsert(kind.raw(), c"dimension".as_ptr(), 8, ffi::H5T_STD_I32LE_g);
                attribute(
                    &data,
                    c"REFERENCE_LIST",
                    &kind,
                    Some(uses.len() as u64),
                    uses.as_ptr().cast(),
                )?;
            }
        }
    }
    Ok(())
}

/// # Safety
/// Under the lock; `buffer` holds so many values of this type.
unsafe fn attribute(
    object: &Id,
    name: &std::ffi::CStr,
    kind: &Id,
    count: Option<u64>,
    buffer: *const c_void,
) -> Result<()> {
    // SAFETY: promised by the caller.
    unsafe {
        let space = match &count {
            None => ffi::H5Screate(0),
            Some(n) => ffi::H5Screate_simple(1, n, std::ptr::null()),
        };
        let space = Id::new(space, "cannot make a dataspace")?;
        let id = ffi::H5Acreate2(object.raw(), name.as_ptr(), kind.raw(), space.raw(), 0, 0);
        let attribute = Id::new(id, "cannot make an attribute")?;
        c::check(ffi::H5Awrite(attribute.raw(), kind.raw(), buffer), "cannot write an attribute")
    }
}
