//! The arrays of an open file as maps, and what is done with their values beyond that: text of any
//! length is fetched from its heaps, nulls of pandas are taken out.

use std::collections::HashMap;
use std::ffi::CStr;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::dataset::{Dataset, Storage};
use super::file::OpenFile;
use super::kind::Leaf;
use super::library_blob::{LibraryChunks, LibraryLeaf};
use super::pieces::Chunks;
use super::text::Lengths;
use crate::array::element::Element;
use crate::array::reader::MapReader;
use crate::array::source::MapSource;
use crate::array::{ArrayMap, CodecPipeline, Grid, PieceLocation, Pieces};
use crate::error::{Error, Result};
use crate::format::{Emit, Extent, Job, Order, Piece, ReadRows, Source};
use crate::model::{Chunk, Plan, Values};
use crate::storage::BlobSlice;

/// An array: a leaf of a dataset.
pub(super) struct Array {
    pub(super) name: String,
    pub(super) dataset: Arc<Dataset>,
    pub(super) leaf: Leaf,
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
    fn is_special(&self) -> bool {
        self.is_text_by_rows() || self.leaf.has_nulls()
    }

    /// Text that [`Rows::text`] makes of what the map gives.
    pub(super) fn is_text_by_rows(&self) -> bool {
        self.leaf.kind.is_variable() || self.leaf.joined.is_some()
    }

    /// Its rows.
    pub(super) fn rows(&self) -> u64 {
        match self.leaf.dims.first() {
            // One element that is a list: its rows are the list's.
            Some(&(n, _)) if self.dataset.scalar => n,
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

/// The rows of a file.
pub(super) struct Rows {
    pub(super) file: Arc<OpenFile>,
    pub(super) reader: Arc<MapReader>,
    pub(super) arrays: Vec<Array>,
    pub(super) lengths: Mutex<Lengths>,
}

impl Rows {
    pub(super) fn new(file: Arc<OpenFile>, reader: Arc<MapReader>, arrays: Vec<Array>) -> Rows {
        Rows { file, reader, arrays, lengths: Mutex::default() }
    }

    /// Whether an array has nulls, which only its values tell.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn has_nulls(&self, array: usize) -> Result<bool> {
        let (total, mut row, mut found) = (self.arrays[array].rows(), 0, false);
        if !self.arrays[array].leaf.has_nulls() {
            return Ok(false);
        }
        while row < total && !found {
            let end = self.cut(array, row).min(row.saturating_add(1 << 16)).min(total);
            self.read(array, row..end, &mut |chunk| {
                found |= chunk.valid.is_some();
                Ok(())
            })?;
            row = end;
        }
        Ok(found)
    }

    fn read_rows(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let of = &self.arrays[array];
        if rows.is_empty() {
            return Ok(());
        }
        if of.is_text_by_rows() {
            return self.text(array, rows, emit);
        }
        if !of.leaf.has_nulls() {
            return self.reader.read(array, rows, emit);
        }
        self.reader.read(array, rows, &mut |chunk| {
            let Values::Fixed(values) = chunk.values else {
                return Err(Error::internal("text where numbers were announced"));
            };
            let mut values = values.to_vec();
            let valid = of.leaf.take_nulls(&mut values, chunk.first_row)?;
            let (valid, values) = (valid.map(Into::into), Values::Fixed(values.into()));
            emit(Chunk { valid, values, ..chunk })
        })
    }
}

impl ReadRows for Rows {
    fn cut(&self, array: usize, row: u64) -> u64 {
        // Chunks of text hold references only.
        if self.arrays[array].leaf.kind.is_variable() {
            return u64::MAX;
        }
        self.reader.cut(array, row)
    }

    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let of = &self.arrays[array];
        let (count, cost) = (rows.end - rows.start, self.reader.cost(array, rows));
        match &of.leaf.joined {
            _ if of.leaf.kind.is_variable() => Some(count.saturating_mul(64)),
            // The characters, and the texts that are made of them.
            Some(width) => {
                let row_bytes = self.texts_per_row(array).saturating_mul(*width as u64 + 8);
                let all = count.saturating_mul(row_bytes).saturating_mul(2);
                Some(all.saturating_add(cost.unwrap_or(0)))
            }
            None => cost,
        }
    }

    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        self.text_piece(array, row, bytes)
    }

    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        self.read_rows(array, rows, emit).map_err(|e| e.array(&self.arrays[array].name))
    }
}

/// The source of a file.
pub(super) struct Hdf5Source {
    pub(super) maps: MapSource,
    pub(super) rows: Arc<Rows>,
}

impl Source for Hdf5Source {
    fn plan(&self) -> &Plan {
        self.maps.plan()
    }

    fn want(&mut self, arrays: &[usize], wish: Order) -> Result<Order> {
        // Fields of one record are only taken from it together if nothing else is done with them.
        let is_special = arrays.iter().any(|&a| self.rows.arrays[a].is_special());
        self.maps.want(arrays, if is_special { Order::ArrayByArray } else { wish })?;
        Ok(wish)
    }

    fn next(&mut self, max_bytes: u64) -> Result<Option<Box<dyn Job>>> {
        self.maps.next(max_bytes)
    }

    fn random(&self) -> Option<Arc<dyn ReadRows>> {
        self.maps.random().map(|_| self.rows.clone() as Arc<dyn ReadRows>)
    }

    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        if self.rows.arrays[array].is_special() { None } else { self.maps.extents(array) }
    }
}
