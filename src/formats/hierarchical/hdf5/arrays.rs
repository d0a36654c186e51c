//! The arrays of an open file as maps.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::Arc;

use super::dataset::{Dataset, Storage};
use super::element_type::TypeLeaf;
use super::file::OpenFile;
use super::library_blob::{LibraryChunks, LibraryLeaf};
use super::pieces::Chunks;
use crate::array::{ArrayMap, CodecPipeline, Element, Grid, PieceLocation, Pieces};
use crate::error::Result;
use crate::storage::BlobSlice;

/// An array: a leaf of a dataset.
pub(super) struct Array {
    pub(super) name: String,
    pub(super) dataset: Arc<Dataset>,
    pub(super) leaf: TypeLeaf,
}

/// Pieces of datasets, so that all fields of a dataset share them.
#[derive(Default)]
pub(super) struct SharedPieces<'a>(HashMap<(&'a CStr, usize), Arc<dyn Pieces>>);

/// Values that were never written.
struct Unwritten;

impl Pieces for Unwritten {
    fn locate(&self, _at: &[u64]) -> Result<Option<PieceLocation>> {
        Ok(None)
    }
}

impl Array {
    /// Whether its values need more than its map says.
    pub(super) fn is_special(&self) -> bool {
        self.is_text_by_rows() || self.leaf.has_nulls()
    }

    /// Text that the reader makes of what the map gives.
    pub(super) fn is_text_by_rows(&self) -> bool {
        self.leaf.kind.is_variable() || self.leaf.joined.is_some()
    }

    /// Its rows.
    pub(super) fn rows(&self) -> u64 {
        match self.leaf.dims.first() {
            // One element that is a list: its rows are the list's.
            Some(&(n, _)) if self.dataset.scalar => n,
            None if self.leaf.joined.is_some() && self.dataset.dims.len() == 1 => 1,
            _ => self.dataset.dims.first().copied().unwrap_or(1),
        }
    }

    /// What its stored elements are, and whether they hold nothing else.
    pub(super) fn element(&self) -> Element {
        let Array { dataset, leaf, .. } = self;
        let packed = match &dataset.storage {
            Storage::Library => true,
            Storage::Chunked(chunked) => chunked.by_library,
            _ => false,
        };
        let bytes = if packed { leaf.packed_bytes() } else { dataset.element_bytes };
        leaf.element(bytes, packed, dataset.scalar)
    }

    /// Where its elements are; `None` where it cannot be read.
    pub(super) fn map<'a>(
        &'a self,
        file: &Arc<OpenFile>,
        shared: &mut SharedPieces<'a>,
    ) -> Option<ArrayMap> {
        let Array { dataset, leaf, .. } = self;
        if dataset.error.is_some() || leaf.error.is_some() {
            return None;
        }
        let element = self.element();
        let shape: &[u64] = if dataset.scalar { &[] } else { &dataset.dims };
        let fill = dataset.fill.clone().filter(|f| f.len() == element.bytes).unwrap_or_default();
        let whole = |slice: BlobSlice| ArrayMap {
            fill: fill.clone(),
            ..ArrayMap::raw(shape, element.clone(), slice)
        };
        let total = ArrayMap::raw(shape, element.clone(), BlobSlice::memory(Vec::new()));
        let total = total.check().ok()?;
        let of_library = || {
            let (file, dataset) = (file.clone(), dataset.clone());
            LibraryLeaf { file, dataset, leaf: leaf.clone() }
        };
        let by_library = || {
            let slice = of_library().slice(vec![0; shape.len()], shape).ok()?;
            Some(whole(slice))
        };
        let mut map = match &dataset.storage {
            Storage::Library => by_library()?,
            // What was never written and is text of any length, the library knows.
            Storage::Chunked(c) if c.by_library && dataset.has_text_fill => by_library()?,
            Storage::Contiguous(Some(at)) => {
                whole(BlobSlice { blob: file.blob.clone(), start: *at, len: total })
            }
            Storage::Contiguous(None) => {
                ArrayMap { pieces: Arc::new(Unwritten), ..whole(BlobSlice::memory(Vec::new())) }
            }
            Storage::External(external) => whole(BlobSlice::whole(external.clone())),
            Storage::Chunked(c) => ArrayMap {
                shape: shape.to_vec(),
                grid: Grid::Chunks(c.shape[..shape.len()].to_vec()),
                pieces: if c.by_library {
                    Arc::new(LibraryChunks::new(of_library(), c.clone()))
                } else {
                    Arc::new(Chunks::new(file.clone(), dataset.clone(), c.clone()))
                },
                codecs: if c.by_library { CodecPipeline::none() } else { c.codecs.clone() },
                element: element.clone(),
                fill: fill.clone(),
            },
        };
        if matches!(&dataset.storage, Storage::Chunked(c) if !c.by_library) {
            let key = (dataset.path.as_c_str(), shape.len());
            map.pieces = shared.0.entry(key).or_insert(map.pieces).clone();
        }
        Some(map)
    }
}
