//! Codes of text written as numpy's text of a fixed width: `<U7` (UCS-4), `|S7` (bytes), as wide as
//! the longest, padded with zeros.

use std::sync::Arc;

use crate::array::raw::ArraySpan;
use crate::codec::{npy_header, numpy_elements};
use crate::error::{Error, Result};
use crate::format::{Block, EncodeBlocks, WriteRows};
use crate::model::{
    ArrayMeta, Buf, Categories, CategoryKind, Chunk, Dtype, Logical, Values, codes_of, item_of,
};

/// Rows are padded so many bytes at a time: their codes may be much less.
const STEP_BYTES: u64 = 1 << 20;

/// How one array's codes are written.
pub struct PaddedText {
    name: String,
    categories: Arc<Categories>,
    codes: Dtype,
    /// Bytes of a character.
    unit: u64,
    /// Characters of an element.
    width: u64,
    /// Elements of a row.
    elements: u64,
}

impl PaddedText {
    /// For an array of codes of text; `None` for other arrays.
    ///
    /// # Errors
    /// Refused: text that ends with a zero, which padding would take; rows that do not fit into
    /// `memory_bytes`.
    pub fn of(meta: &ArrayMeta, memory_bytes: u64) -> Result<Option<PaddedText>> {
        let Some(categories) = meta.logical.text_categories() else { return Ok(None) };
        if !categories.is_whole() {
            return Err(Error::internal("the categories are not whole").array(&meta.name));
        }
        let is_text = *categories.kind() == CategoryKind::Text;
        let width = categories.with(|items| -> Result<u64> {
            let mut width = 1;
            for item in items {
                if item.last() == Some(&0) {
                    let shown =
                        item.escape_ascii().to_string().chars().take(40).collect::<String>();
                    return Err(Error::refused(format!(
                        "the text '{shown}' ends with a zero, which numpy cuts off"
                    ))
                    .array(&meta.name)
                    .hint("npk and zarr keep it"));
                }
                let count = if is_text {
                    String::from_utf8_lossy(item).chars().count()
                } else {
                    item.len()
                };
                width = width.max(count as u64);
            }
            Ok(width)
        })?;
        let elements = crate::model::checked_product(&meta.inner).unwrap_or(u64::MAX);
        let padded = PaddedText {
            name: meta.name.clone(),
            categories: categories.clone(),
            codes: meta.dtype,
            unit: if is_text { 4 } else { 1 },
            width,
            elements,
        };
        let row = padded.row_bytes();
        if row > memory_bytes {
            return Err(Error::refused(format!(
                "a row takes {row} bytes as text of {width} characters each, the memory limit is {memory_bytes} bytes"
            ))
            .array(&meta.name)
            .hint("give a larger --memory-limit"));
        }
        Ok(Some(padded))
    }

    /// numpy's spelling of the type.
    pub fn spelled(&self) -> String {
        if self.unit == 4 { format!("<U{}", self.width) } else { format!("|S{}", self.width) }
    }

    fn row_bytes(&self) -> u64 {
        self.unit.saturating_mul(self.width).saturating_mul(self.elements)
    }

    /// Where the padded array is, from `offset` on.
    ///
    /// # Errors
    /// Sizes that overflow.
    pub fn place(&self, meta: &ArrayMeta, offset: u64) -> Result<ArraySpan> {
        let mut bytes = ArrayMeta { dtype: Dtype::U8, ..meta.clone() };
        bytes.logical = Logical::Plain;
        bytes.inner.push(self.unit * self.width);
        ArraySpan::of(&bytes, offset)
    }

    fn step_rows(&self) -> u64 {
        (STEP_BYTES / self.row_bytes().max(1)).max(1)
    }

    /// The chunk with its text in place of its codes.
    fn padded(&self, chunk: &Chunk) -> Result<Chunk> {
        let Values::Fixed(values) = &chunk.values else {
            return Err(Error::internal("text where codes were announced").array(&self.name));
        };
        let codes = codes_of(values, self.codes);
        let size = (self.unit * self.width) as usize;
        let mut out = vec![0u8; codes.len() * size];
        self.categories.with(|items| -> Result<()> {
            for (i, (&code, to)) in codes.iter().zip(out.chunks_exact_mut(size)).enumerate() {
                let item = item_of(items, code).map_err(|e| {
                    let row = chunk.first_row.saturating_add(i as u64 / self.elements.max(1));
                    e.about(format_args!("row {row}")).array(&self.name)
                })?;
                if self.unit == 1 {
                    to[..item.len()].copy_from_slice(item);
                } else {
                    for (c, to) in
                        String::from_utf8_lossy(item).chars().zip(to.as_chunks_mut::<4>().0)
                    {
                        *to = u32::from(c).to_le_bytes();
                    }
                }
            }
            Ok(())
        })?;
        Ok(Chunk { values: Values::Fixed(Buf::from_vec(out)), valid: None, ..chunk.clone() })
    }
}

/// Refuses what npy has no type for.
///
/// # Errors
/// Refused.
pub fn check(format: &str, meta: &ArrayMeta) -> Result<()> {
    if meta.logical.text_categories().is_some()
        || numpy_elements::spell(meta.dtype, &meta.logical).is_some()
    {
        return Ok(());
    }
    Err(Error::refused(format!("{format} cannot hold {}", meta.type_name())).array(&meta.name))
}

/// An array as npy has it.
pub struct NpyArray {
    /// The header.
    pub header: Vec<u8>,
    /// Where the values are, from the beginning of the header on.
    pub place: ArraySpan,
    /// How text is padded.
    pub padded: Option<PaddedText>,
}

impl NpyArray {
    /// Of an array whose rows and categories are known.
    ///
    /// # Errors
    /// As [`check`] and [`PaddedText::of`].
    pub fn new(format: &str, meta: &ArrayMeta, memory_bytes: u64) -> Result<NpyArray> {
        check(format, meta)?;
        let padded = PaddedText::of(meta, memory_bytes)?;
        let spelled = match &padded {
            Some(padded) => padded.spelled(),
            None => numpy_elements::spell(meta.dtype, &meta.logical).unwrap_or_default(),
        };
        let shape = meta
            .shape()
            .ok_or_else(|| Error::internal("the row count is not known").array(&meta.name))?;
        let header = npy_header::write(&spelled, &shape);
        let place = match &padded {
            Some(padded) => padded.place(meta, header.len() as u64)?,
            None => ArraySpan::of(meta, header.len() as u64)?,
        };
        Ok(NpyArray { header, place, padded })
    }
}

/// The padded arrays of an output, by array.
pub type Columns = Arc<Vec<Option<PaddedText>>>;

/// Pads what goes to another writer.
pub struct PaddedRows<W> {
    /// The writer of the padded rows.
    pub inner: W,
    /// What is padded.
    pub columns: Columns,
}

impl<W: WriteRows> WriteRows for PaddedRows<W> {
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        self.inner.next_boundary(array, row)
    }
    fn write(&self, chunk: &Chunk) -> Result<()> {
        let Some(padded) = &self.columns[chunk.array] else { return self.inner.write(chunk) };
        let step = padded.step_rows();
        (0..chunk.rows).step_by(step as usize).try_for_each(|row| {
            let part = chunk.slice(row, chunk.rows.min(row + step));
            self.inner.write(&padded.padded(&part)?)
        })
    }
}

/// Pads what goes to another encoder.
pub struct PaddedBlocks<E> {
    /// The encoder of the padded rows.
    pub inner: E,
    /// What is padded.
    pub columns: Columns,
}

impl<E: EncodeBlocks> EncodeBlocks for PaddedBlocks<E> {
    type Encoded = E::Encoded;
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        let cut = self.inner.next_boundary(array, row);
        let Some(padded) = &self.columns[array] else { return cut };
        let step = padded.step_rows();
        cut.min((row / step + 1).saturating_mul(step))
    }
    fn max_block_bytes(&self, array: usize) -> Option<u64> {
        self.inner.max_block_bytes(array)
    }
    fn encode(&self, mut block: Block) -> Result<E::Encoded> {
        for (array, chunks) in &mut block.columns {
            if let Some(padded) = &self.columns[*array] {
                for chunk in chunks {
                    *chunk = padded.padded(chunk)?;
                }
            }
        }
        self.inner.encode(block)
    }
}
