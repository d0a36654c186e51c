//! What is known of a dataset: its elements, and where they are.

use std::ffi::{CStr, CString, c_char, c_uint};
use std::sync::{Arc, OnceLock};

use super::chunk_extents::check_chunks;
use super::element_type::TypeLeaf;
use super::external::External;
use super::ffi;
use super::filters;
use super::heap::Heaps;
use super::library::{self, Id, Library};
use crate::array::{CodecPipeline, more_memory};
use crate::error::{Error, Result};
use crate::model::{Attributes, checked_product};

/// A dataset, or a place where one should be.
#[derive(Default)]
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
    /// The most that each dimension may have; empty where that does not matter.
    pub(super) most: Vec<u64>,
    pub(super) scalar: bool,
    pub(super) null: bool,
    /// Bytes of an element in the file.
    pub(super) element_bytes: usize,
    pub(super) leaves: Vec<TypeLeaf>,
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
    /// What was said of its chunks before the library read the first.
    pub(super) chunks_checked: OnceLock<Result<()>>,
}

/// Where the values are.
#[derive(Clone, Default)]
pub(super) enum Storage {
    /// Only the library can read them.
    #[default]
    Library,
    /// One piece; `None` where it was never written.
    Contiguous(Option<u64>),
    /// Pieces of other files.
    External(Arc<External>),
    /// Chunks.
    Chunked(Chunked),
}

/// How a dataset is cut into chunks, and what was done to each.
#[derive(Clone)]
pub(super) struct Chunked {
    pub(super) shape: Vec<u64>,
    pub(super) codecs: Arc<CodecPipeline>,
    /// The filters for people: `gzip:4 + shuffle`.
    pub(super) compression: Option<String>,
    /// Chunks that the dataset cuts are not filtered.
    pub(super) raw_edges: bool,
    /// Only the library can undo the filters.
    pub(super) by_library: bool,
}

impl Dataset {
    /// Looks at where its chunks are, once, before the library reads any of them.
    ///
    /// # Errors
    /// As [`check_chunks`].
    pub(super) fn check_chunks(&self, lib: &Library, data: &Id, memory_bytes: u64) -> Result<()> {
        match self.storage {
            Storage::Chunked(_) => {
                let look = || check_chunks(lib, data, memory_bytes);
                self.chunks_checked.get_or_init(look).clone()
            }
            _ => Ok(()),
        }
    }

    /// A place whose dataset cannot be read.
    pub(super) fn broken(name: String, path: CString, error: Error) -> Dataset {
        let (dims, element_bytes) = (vec![0], 1);
        Dataset { name, path, error: Some(error), dims, element_bytes, ..Dataset::default() }
    }

    /// The same values under another name, without attributes or leaves.
    pub(super) fn view(&self, name: String) -> Dataset {
        Dataset {
            name,
            path: self.path.clone(),
            dims: self.dims.clone(),
            scalar: self.scalar,
            null: self.null,
            element_bytes: self.element_bytes,
            storage: self.storage.clone(),
            heaps: self.heaps.clone(),
            has_text_fill: self.has_text_fill,
            fill: self.fill.clone(),
            elsewhere: self.elsewhere,
            named: true,
            ..Dataset::default()
        }
    }
}

impl Chunked {
    /// The layout of a chunked dataset.
    ///
    /// # Errors
    /// Filters that are not supported; corrupt.
    pub(super) fn of(
        lib: &Library,
        plist: &Id,
        dims: &[u64],
        element_bytes: usize,
    ) -> Result<Chunked> {
        let mut shape = [0u64; 33];
        // SAFETY: the buffer has room for the 32 dimensions that the library knows.
        let rank = unsafe { lib.H5Pget_chunk(plist.raw(), 32, shape.as_mut_ptr()) };
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
        let count = u32::try_from(lib.H5Pget_nfilters(plist.raw()))
            .map_err(|_| library::failure("its filters are damaged"))?;
        let filters = (0..count).map(|n| Filter::of(lib, plist, n)).collect::<Result<Vec<_>>>()?;
        let by_library = filters.iter().any(|f| filters::is_of_library(f.id));
        let codecs = if by_library {
            CodecPipeline::none()
        } else {
            let codecs = filters.iter().map(|f| filters::codec(f.id, &f.params, &f.name));
            CodecPipeline::lenient(codecs.collect::<Result<_>>()?)
        };
        let names: Vec<String> = filters.iter().rev().map(Filter::describe).collect();
        let compression = (!names.is_empty()).then(|| names.join(" + "));
        let mut options: c_uint = 0;
        // SAFETY: an open list.
        unsafe { lib.H5Pget_chunk_opts(plist.raw(), &mut options) };
        let raw_edges = options & ffi::DONT_FILTER_PARTIAL_CHUNKS != 0;
        Ok(Chunked { shape, codecs, compression, raw_edges, by_library })
    }

    /// Refuses chunks of `whole` bytes that the library cannot decode within the memory limit.
    ///
    /// # Errors
    /// Refused, with the bytes that are needed.
    pub(super) fn check_library(&self, whole: u64, memory_bytes: u64) -> Result<()> {
        // Beside what it decodes it holds what comes out of that, and what it gives.
        let needed = match self.by_library {
            true => whole.saturating_mul(3),
            false => self.codecs.held_bytes(whole, whole),
        };
        if needed <= memory_bytes {
            return Ok(());
        }
        let what = format!("chunks of shape {:?} need {needed} bytes of memory", self.shape);
        Err(more_memory(&format!("{what} while they are decoded"), needed, memory_bytes))
    }
}

/// A filter of a dataset's chunks.
struct Filter {
    id: u32,
    params: Vec<u32>,
    /// What its writer called it.
    name: String,
}

impl Filter {
    /// The filter number `n` of a property list.
    fn of(lib: &Library, plist: &Id, n: u32) -> Result<Filter> {
        let (mut flags, mut config) = (0, 0);
        let mut params = [0u32; 256];
        let mut count = params.len();
        let mut name = [0 as c_char; 64];
        // SAFETY: an open list; lengths are those of the buffers, and the last byte of the name
        // stays 0.
        let (id, name) = unsafe {
            let id = lib.H5Pget_filter2(
                plist.raw(),
                n,
                &mut flags,
                &mut count,
                params.as_mut_ptr(),
                name.len() - 1,
                name.as_mut_ptr(),
                &mut config,
            );
            (id, CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned())
        };
        let Ok(id) = u32::try_from(id) else {
            return Err(library::failure("its filters are damaged"));
        };
        match params.get(..count) {
            Some(params) => Ok(Filter { id, params: params.to_vec(), name }),
            None => Err(Error::corrupt(format!("its filter number {id} has {count} parameters"))),
        }
    }

    fn describe(&self) -> String {
        let name =
            filters::name(self.id).map_or_else(|| format!("filter {}", self.id), str::to_string);
        match (self.id, self.params.as_slice()) {
            (filters::DEFLATE, [level, ..]) => format!("{name}:{level}"),
            _ => name,
        }
    }
}
