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
use std::ffi::{CStr, CString, c_int, c_void};

use serde_json::Value;

use super::dataset::Dataset;
use super::ffi;
use super::library::{self, Id, Library};
use crate::error::Result;
use crate::format::WriteOptions;
use crate::formats::hierarchical::attributes::DIMENSIONS;
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
    /// The scales that are no arrays, with their lengths, and whether they grow without limit.
    pub(super) bare: BTreeMap<CString, (u64, bool)>,
}

/// Finds the arrays whose dimensions all have scales. `netcdf`: dimensions that no array has values
/// for get one.
pub(super) fn plan(plan: &Plan, options: &WriteOptions, netcdf: bool) -> Scales {
    let mut found = Vec::new();
    if options.no_metadata {
        return Scales::default();
    }
    let mut bare: BTreeMap<CString, (u64, bool)> = BTreeMap::new();
    let groups: HashSet<&str> = plan
        .arrays
        .iter()
        .flat_map(|a| a.name.match_indices('/').map(|(i, _)| &a.name[..i]))
        .collect();
    let path = |array: usize| CString::new(format!("/{}", plan.arrays[array].name)).ok();
    let places: std::collections::HashMap<&str, usize> =
        plan.arrays.iter().enumerate().map(|(i, a)| (a.name.as_str(), i)).collect();
    for (array, meta) in plan.arrays.iter().enumerate() {
        let Some(Value::Array(names)) = meta.details.attributes.get(DIMENSIONS) else {
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
                    let own = plan.arrays[at].details.attributes.get(DIMENSIONS);
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
            let most = meta.details.max_shape.as_ref().filter(|most| most.len() == shape.len());
            made.push((path.clone(), (shape[d], most.is_some_and(|most| most[d].is_none()))));
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

/// Makes a dimension without values as netCDF does.
fn make_bare(lib: &Library, file: &Id, path: &CString, (length, grows): (u64, bool)) -> Result<()> {
    let most = if grows { ffi::UNLIMITED } else { length };
    let space = lib.new_space(Some(&[length]), Some(&[most]))?;
    let kind = lib.copy_type(lib.H5T_IEEE_F32LE())?;
    let (default, at, chunk) = (ffi::DEFAULT, path.as_ptr(), 1024);
    // SAFETY: open handles, one dimension, and a path that ends with a zero byte.
    let data = unsafe {
        let create =
            Id::new(lib.H5Pcreate(lib.H5P_CLS_DATASET_CREATE()), "cannot make a dimension")?;
        if grows {
            library::check(lib.H5Pset_chunk(create.raw(), 1, &chunk), "cannot make a dimension")?;
        }
        lib.H5Dcreate2(file.raw(), at, kind.raw(), space.raw(), default, create.raw(), default)
    };
    let data = Id::new(data, "cannot make a dimension")?;
    text_attribute(lib, &data, c"NAME", format!("{BARE}{length:10}\0").as_bytes())
}

/// Text as an attribute, the zero byte at its end included.
fn text_attribute(lib: &Library, object: &Id, name: &CStr, text: &[u8]) -> Result<()> {
    let kind = lib.copy_type(lib.H5T_C_S1())?;
    lib.H5Tset_size(kind.raw(), text.len());
    // SAFETY: one value of as many bytes as the type has.
    unsafe { attribute(lib, object, name, &kind, None, text.as_ptr().cast()) }
}

fn reference(lib: &Library, file: &Id, path: &CString) -> Result<u64> {
    let mut reference = 0u64;
    // SAFETY: an object reference has 8 bytes.
    let code = unsafe {
        lib.H5Rcreate(
            std::ptr::from_mut(&mut reference).cast(),
            file.raw(),
            path.as_ptr(),
            ffi::OBJECT_REFERENCE,
            -1,
        )
    };
    library::check(code, "a reference cannot be made")?;
    Ok(reference)
}

/// Attaches them all.
pub(super) fn attach(lib: &Library, file: &Id, scales: &Scales) -> Result<()> {
    for (path, &length) in &scales.bare {
        make_bare(lib, file, path, length)?;
    }
    let mut users: BTreeMap<&CString, Vec<Use>> = BTreeMap::new();
    for scale in &scales.arrays {
        if scale.scales.is_empty() {
            users.entry(&scale.path).or_default();
            continue;
        }
        let own = reference(lib, file, &scale.path)?;
        let mut references = Vec::new();
        for (dimension, path) in scale.scales.iter().enumerate() {
            references.push(reference(lib, file, path)?);
            users.entry(path).or_default().push(Use { data: own, dimension: dimension as c_int });
        }
        let sequence = |r: &u64| Sequence { len: 1, data: std::ptr::from_ref(r).cast() };
        let lists: Vec<Sequence> = references.iter().map(sequence).collect();
        let kind = Id::new(lib.H5Tvlen_create(lib.H5T_STD_REF_OBJ()), "cannot make a type")?;
        let (data, from) = (lib.open(file, &scale.path)?, lists.as_ptr().cast());
        // SAFETY: one sequence of one reference for each dimension.
        unsafe { attribute(lib, &data, c"DIMENSION_LIST", &kind, Some(lists.len() as u64), from)? };
    }
    for (path, uses) in users {
        let data = lib.open(file, path)?;
        // SAFETY: the name ends with a zero byte.
        let exists = |name: &CStr| unsafe { lib.H5Aexists(data.raw(), name.as_ptr()) > 0 };
        if !exists(c"CLASS") {
            text_attribute(lib, &data, c"CLASS", b"DIMENSION_SCALE\0")?;
        }
        if !exists(c"NAME") {
            let name = path.to_bytes_with_nul().rsplit(|&b| b == b'/').next().unwrap_or(b"\0");
            text_attribute(lib, &data, c"NAME", name)?;
        }
        if uses.is_empty() {
            continue;
        }
        let fields = [
            (c"dataset", 0, lib.H5T_STD_REF_OBJ()),
            (c"dimension", std::mem::offset_of!(Use, dimension), lib.H5T_STD_I32LE()),
        ];
        let kind = lib.compound_type(size_of::<Use>(), &fields)?;
        let (count, from) = (Some(uses.len() as u64), uses.as_ptr().cast());
        // SAFETY: as many values as are told.
        unsafe { attribute(lib, &data, c"REFERENCE_LIST", &kind, count, from)? };
    }
    Ok(())
}

/// A dimension of a dataset that has a scale, as `REFERENCE_LIST` keeps it.
#[repr(C)]
struct Use {
    data: u64,
    dimension: c_int,
}

/// `hvl_t`
#[repr(C)]
struct Sequence {
    len: usize,
    data: *const c_void,
}

/// # Safety
/// `buffer` holds so many values of this type.
unsafe fn attribute(
    lib: &Library,
    object: &Id,
    name: &CStr,
    kind: &Id,
    count: Option<u64>,
    buffer: *const c_void,
) -> Result<()> {
    let space = lib.new_space(count.as_ref().map(std::slice::from_ref), None)?;
    // SAFETY: promised by the caller.
    unsafe { lib.write_attribute(object, name, (kind, &space), Some(buffer)) }
}
