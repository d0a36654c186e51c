//! Turns plain arrays back into the logical ones that they hold: undoes `fit` for formats that
//! record it in attributes (see [`crate::sidecar::Marks`]).

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Context, Error, Result};
use crate::format::{Emit, Extent, Order, Piece, ReadRows, Reader, Source, StoredArray, readable};
use crate::model::{ArrayMeta, Buf, Dtype, Encoding, Logical, Plan, Shared, Values};
use crate::ops::cast;
use crate::ops::dictionary::Merged;
use crate::sidecar::{self, LogicalArray, StoredParts};

/// Rows of text and lists are read about this many bytes at a time.
const STEP_BYTES: u64 = 8 << 20;

/// The source as its marks tell of it; itself where it has none. It must have random access.
pub fn fold(inner: Box<dyn Source>) -> Box<dyn Source> {
    let mut plan = inner.plan().clone();
    let stored = std::mem::take(&mut plan.arrays);
    let Some(arrays) = sidecar::fold_marks(&stored, &mut plan.notes) else { return inner };
    let (metas, arrays) = LogicalArray::split(arrays);
    plan.arrays = metas;
    plan.keep_columns_of_encoded();
    // Of those that marks tell of the values are stored; those that the format has come as codes.
    let merged = |(meta, parts): (&ArrayMeta, &StoredParts)| match (
        &meta.logical,
        &stored[parts.values].logical,
    ) {
        (Logical::Dictionary { .. }, Logical::Dictionary { .. }) => None,
        (Logical::Dictionary { categories, .. }, _) => {
            Some(Arc::new(Merged::onto(categories.clone())))
        }
        _ => None,
    };
    let dictionaries = Arc::new(plan.arrays.iter().zip(&arrays).map(merged).collect());
    Box::new(FoldedSource { inner, plan, arrays: Arc::new(arrays), stored, dictionaries })
}

struct FoldedSource {
    inner: Box<dyn Source>,
    plan: Plan,
    arrays: Arc<Vec<StoredParts>>,
    stored: Shared<Vec<ArrayMeta>>,
    dictionaries: Arc<Vec<Option<Arc<Merged>>>>,
}

impl Source for FoldedSource {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, arrays: &[usize], _wish: Order) -> Result<Reader> {
        let mut inputs = Vec::new();
        for &a in arrays {
            readable(&self.plan.arrays[a])?;
            inputs.extend(self.arrays[a].indices());
        }
        // Array by array: fields of the same records are not to come together.
        let reader = self.inner.select(&inputs, Order::ArrayByArray)?.random();
        let reader = reader.ok_or_else(|| Error::internal("marks without random access"))?;
        let (metas, arrays, stored) =
            (self.plan.arrays.clone(), self.arrays.clone(), self.stored.clone());
        let dictionaries = self.dictionaries.clone();
        let rows = FoldedRows { reader, metas, arrays, stored, dictionaries };
        Ok(Reader::Random(Arc::new(rows)))
    }
    fn stored(&self, array: usize) -> Result<StoredArray> {
        let parts = &self.arrays[array];
        let same = matches!(parts.encoding, Encoding::Plain) && parts.valid.is_none();
        match same && self.dictionaries[array].is_none() {
            true => self.inner.stored(parts.values),
            false => Err(Error::refused("it is made of several arrays")),
        }
    }
}

struct FoldedRows {
    reader: Arc<dyn ReadRows>,
    metas: Shared<Vec<ArrayMeta>>,
    arrays: Arc<Vec<StoredParts>>,
    stored: Shared<Vec<ArrayMeta>>,
    /// The categories of dictionaries whose values are stored.
    dictionaries: Arc<Vec<Option<Arc<Merged>>>>,
}

impl FoldedRows {
    /// The bytes of some rows of a stored array of fixed size.
    fn bytes(&self, stored: usize, rows: Range<u64>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.reader
            .read(stored, rows, &mut |chunk| match &chunk.values {
                Values::Fixed(values) => {
                    bytes.extend_from_slice(values);
                    Ok(())
                }
                Values::Var { .. } | Values::Nested(_) => {
                    Err(Error::internal("text was delivered, numbers were expected"))
                }
            })
            .at_array(&self.stored[stored].name)?;
        Ok(bytes)
    }

    fn mask(&self, parts: &StoredParts, rows: Range<u64>) -> Result<Option<Buf>> {
        let Some(valid) = parts.valid else { return Ok(None) };
        let mut mask = self.bytes(valid, rows)?;
        mask.iter_mut().for_each(|v| *v = u8::from(*v != 0));
        Ok(mask.contains(&0).then(|| Buf::from_vec(mask)))
    }

    /// The offsets of these rows, and the one behind.
    fn offsets(&self, parts: &StoredParts, offsets: usize, rows: Range<u64>) -> Result<Vec<u64>> {
        let bytes = self.bytes(offsets, rows.start..rows.end + 1)?;
        sidecar::offsets(&bytes, rows.start, self.stored[parts.values].rows.unwrap_or(0))
            .at_array(&self.stored[offsets].name)
    }

    /// Rows that are cut by offsets.
    fn cut_rows(
        &self,
        array: usize,
        offsets: usize,
        rows: Range<u64>,
        emit: Emit<'_>,
    ) -> Result<()> {
        let parts = &self.arrays[array];
        let item = self.stored[parts.values].dtype.item_bytes();
        let offsets = self.offsets(parts, offsets, rows.clone())?;
        let mask = self.mask(parts, rows.clone())?;
        let values = |range: Range<u64>| self.bytes(parts.values, range);
        let sizes = (item, STEP_BYTES);
        sidecar::emit_rows((array, rows.start), &offsets, mask.as_ref(), sizes, &values, emit)
    }

    fn step(parts: &StoredParts) -> u64 {
        (STEP_BYTES / (8 + parts.mean_bytes).max(1)).max(1)
    }
}

impl ReadRows for FoldedRows {
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        let parts = &self.arrays[array];
        let same = matches!(parts.encoding, Encoding::Plain)
            && parts.valid.is_none()
            && self.dictionaries[array].is_none()
            && self.metas[array].dtype == self.stored[parts.values].dtype;
        if same { self.reader.extents(parts.values) } else { None }
    }
    fn close(&self) -> Result<()> {
        self.reader.close()
    }
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        let parts = &self.arrays[array];
        match parts.encoding {
            Encoding::Offsets => u64::MAX,
            _ => self.reader.next_boundary(parts.values, row),
        }
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let parts = &self.arrays[array];
        let count = rows.end - rows.start;
        match parts.encoding {
            Encoding::Offsets => Some(count.saturating_mul(16 + parts.mean_bytes)),
            _ => self.reader.cost(parts.values, rows).map(|n| n.saturating_add(count)),
        }
    }
    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        let parts = &self.arrays[array];
        let Some(offsets) = parts.offsets else {
            return self.reader.piece(parts.values, row, bytes);
        };
        let end = row
            .saturating_add((bytes / (16 + parts.mean_bytes)).max(1))
            .min(self.metas[array].rows?);
        let offsets = self.offsets(parts, offsets, row..end).ok()?;
        let (rows, bytes) =
            sidecar::rows_within(&offsets, self.stored[parts.values].dtype.item_bytes(), bytes);
        Some(Piece { end: row + rows, bytes })
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let parts = &self.arrays[array];
        if let Some(offsets) = parts.offsets {
            let mut row = rows.start;
            while row < rows.end {
                let end = row.saturating_add(Self::step(parts)).min(rows.end);
                self.cut_rows(array, offsets, row..end, emit).at_array(&self.metas[array].name)?;
                row = end;
            }
            return Ok(());
        }
        let meta = &self.metas[array];
        let (from, to) = (self.stored[parts.values].dtype, meta.dtype);
        let mask = self.mask(parts, rows.clone())?;
        self.reader.read(parts.values, rows.clone(), &mut |mut chunk| {
            chunk.array = array;
            if let Some(mask) = &mask {
                let part = mask.slice_with_length(
                    (chunk.first_row - rows.start) as usize,
                    chunk.rows as usize,
                );
                chunk.valid = part.contains(&0).then_some(part);
            }
            if let Some(dictionary) = &self.dictionaries[array] {
                dictionary.encode(&mut chunk, meta)?;
                return emit(chunk);
            }
            if let (Dtype::I64, Dtype::I32, Values::Fixed(values)) = (from, to, &mut chunk.values) {
                let elements = crate::model::checked_product(&meta.inner).unwrap_or(1);
                *values = cast::checked(
                    values,
                    from,
                    to,
                    false,
                    &meta.name,
                    chunk.first_row.saturating_mul(elements),
                )?;
            }
            emit(chunk)
        })
    }
}
