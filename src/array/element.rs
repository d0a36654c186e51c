//! What one element of an array is: its stored bytes, the field that is taken of it, and how that
//! becomes a value.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::{Buf, Dtype, Values};

/// What one stored element is.
#[derive(Clone)]
pub struct Element {
    /// Its stored bytes: of a record with all fields.
    pub bytes: usize,
    /// What is taken of it; all where there is none.
    pub field: Option<Field>,
    /// How what is taken becomes a value.
    pub convert: Convert,
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Where it begins.
    pub offset: usize,
    /// Bytes of one item of it.
    pub item: usize,
    /// The dimensions of its items: how many, and the bytes from one to the next.
    pub dims: Vec<(u64, usize)>,
}

/// What a conversion closure is given: packed values, and the number of the first of them for
/// messages.
pub type ConvertFn = dyn Fn(Vec<u8>, u64) -> Result<Vec<u8>> + Send + Sync;

/// How stored values become the model's.
#[derive(Clone)]
pub enum Convert {
    /// They are.
    Nothing,
    /// The bytes of every unit of so many turn around.
    Swap(usize),
    /// Text or bytes that fill a fixed width become values of their own lengths.
    Padded(Padding),
    /// Pieces hold items of any length, each behind its length. An element counts with
    /// the bytes of its length.
    Items {
        /// Bytes of a value of an item; of text 1.
        value: usize,
        /// Bytes that turn around; 1: none.
        unit: usize,
    },
    /// By what the format knows.
    With(Arc<ConvertFn>),
}

/// How values of a fixed width are filled up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// UTF-32 with zeros at the end.
    Utf32 {
        /// Big-endian.
        big: bool,
    },
    /// Bytes.
    Bytes(Fill),
    /// UTF-8.
    Text(Fill),
}

/// What fills up values of a fixed width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Anything behind the first zero byte.
    AfterZero,
    /// Zero bytes at the end.
    Zeros,
    /// Blanks at the end.
    Blanks,
}

impl Fill {
    /// The value without what fills it up.
    pub fn trim(self, item: &[u8]) -> &[u8] {
        let last = |padding: u8| item.iter().rposition(|&b| b != padding).map_or(0, |at| at + 1);
        let end = match self {
            Fill::AfterZero => memchr::memchr(0, item).unwrap_or(item.len()),
            Fill::Zeros => last(0),
            Fill::Blanks => last(b' '),
        };
        &item[..end]
    }
}

impl Field {
    /// A field whose items lie side by side.
    pub fn dense(offset: usize, item: usize, dims: &[u64]) -> Field {
        let mut stride = item;
        let mut all: Vec<(u64, usize)> = Vec::with_capacity(dims.len());
        for &n in dims.iter().rev() {
            all.push((n, stride));
            stride = stride.saturating_mul(usize::try_from(n).unwrap_or(usize::MAX));
        }
        all.reverse();
        Field { offset, item, dims: all }
    }

    /// Its bytes, packed.
    pub fn bytes(&self) -> usize {
        self.dims
            .iter()
            .fold(self.item, |n, d| n.saturating_mul(usize::try_from(d.0).unwrap_or(usize::MAX)))
    }

    fn is_dense(&self) -> bool {
        self.dims
            .iter()
            .rev()
            .try_fold(self.item, |n, d| (d.1 == n).then(|| n * d.0 as usize))
            .is_some()
    }

    /// Appends the field of every record.
    fn take(&self, records: &[u8], record: usize, out: &mut Vec<u8>) {
        fn fixed<const N: usize>(records: &[u8], record: usize, offset: usize, out: &mut Vec<u8>) {
            let start = out.len();
            out.resize(start + records.len() / record * N, 0);
            for (record, to) in
                records.chunks_exact(record).zip(out[start..].as_chunks_mut::<N>().0)
            {
                to.copy_from_slice(&record[offset..offset + N]);
            }
        }
        let packed = self.bytes();
        if !self.is_dense() {
            for record in records.chunks_exact(record) {
                for i in 0..packed / self.item.max(1) {
                    let (mut rest, mut at) = (i, self.offset);
                    for &(n, stride) in self.dims.iter().rev() {
                        at += rest % n as usize * stride;
                        rest /= n as usize;
                    }
                    out.extend_from_slice(&record[at..at + self.item]);
                }
            }
            return;
        }
        match packed {
            0 => {}
            1 => fixed::<1>(records, record, self.offset, out),
            2 => fixed::<2>(records, record, self.offset, out),
            4 => fixed::<4>(records, record, self.offset, out),
            8 => fixed::<8>(records, record, self.offset, out),
            16 => fixed::<16>(records, record, self.offset, out),
            _ => {
                let start = out.len();
                out.resize(start + records.len() / record * packed, 0);
                for (record, to) in
                    records.chunks_exact(record).zip(out[start..].chunks_exact_mut(packed))
                {
                    to.copy_from_slice(&record[self.offset..self.offset + packed]);
                }
            }
        }
    }
}

impl Element {
    /// Little-endian elements of this type.
    pub fn plain(dtype: Dtype) -> Element {
        Element { bytes: dtype.item_bytes() as usize, field: None, convert: Convert::Nothing }
    }

    /// Whether the stored bytes are the model's.
    pub fn is_plain(&self) -> bool {
        self.field.is_none() && matches!(self.convert, Convert::Nothing)
    }

    /// Items of any length.
    pub fn items_of_any_length() -> Element {
        let convert = Convert::Items { value: 1, unit: 1 };
        Element { bytes: size_of::<u32>(), field: None, convert }
    }

    /// Whether the values are of different lengths.
    pub fn is_var(&self) -> bool {
        matches!(self.convert, Convert::Padded(_) | Convert::Items { .. })
    }

    /// Bytes of what is taken of an element.
    pub fn packed_bytes(&self) -> usize {
        self.field.as_ref().map_or(self.bytes, Field::bytes)
    }

    /// Rows of a rank-0 array: a field that is an array gives its own.
    pub fn scalar_rows(&self) -> u64 {
        self.field.as_ref().and_then(|f| f.dims.first()).map_or(1, |d| d.0)
    }

    /// Bytes that are held for an element beyond its stored ones while it is decoded.
    pub fn extra_bytes(&self) -> u64 {
        match (&self.convert, &self.field) {
            (Convert::Padded(_), _) => {
                (self.packed_bytes() as u64).saturating_add(self.items().saturating_mul(8))
            }
            (_, Some(_)) => self.packed_bytes() as u64,
            (Convert::With(_), None) => self.bytes as u64,
            _ => 0,
        }
    }

    /// Items of what is taken of an element.
    pub fn items(&self) -> u64 {
        self.field.as_ref().map_or(1, |f| f.dims.iter().fold(1, |n, d| n.saturating_mul(d.0)))
    }

    /// What is taken of whole elements, packed.
    pub fn pack(&self, elements: Vec<u8>) -> Vec<u8> {
        if self.field.is_some() { self.pack_slice(&elements) } else { elements }
    }

    /// As [`Element::pack`], of elements that several fields are taken from.
    pub fn pack_slice(&self, elements: &[u8]) -> Vec<u8> {
        let Some(field) = &self.field else { return elements.to_vec() };
        let mut out = Vec::with_capacity(elements.len() / self.bytes.max(1) * field.bytes());
        field.take(elements, self.bytes.max(1), &mut out);
        out
    }

    /// The values of so many stored elements; `first` is the number of the first value, for
    /// messages.
    ///
    /// # Errors
    /// Text that is none; what the format's conversion finds.
    pub fn values(&self, packed: Buf, elements: u64, first: u64) -> Result<Values> {
        Ok(match &self.convert {
            Convert::Nothing => Values::Fixed(packed),
            Convert::Swap(unit) => {
                let mut bytes = owned(packed);
                swap_bytes(&mut bytes, *unit);
                Values::Fixed(Buf::from_vec(bytes))
            }
            Convert::With(convert) => Values::Fixed(Buf::from_vec(convert(owned(packed), first)?)),
            Convert::Padded(padding) => {
                let width = self.field.as_ref().map_or(self.bytes, |f| f.item);
                padding.values(&packed, width, elements.saturating_mul(self.items()), first)?
            }
            Convert::Items { .. } => {
                return Err(Error::internal("items of any length among others"));
            }
        })
    }
}

/// The bytes themselves where nobody else holds them.
fn owned(buf: Buf) -> Vec<u8> {
    buf.into_vec().unwrap_or_else(|shared| shared.to_vec())
}

impl Padding {
    /// So many items of this width, each with its own length; `first` is the number of the first
    /// one, for messages.
    ///
    /// # Errors
    /// Text that is none.
    pub fn values(self, packed: &[u8], width: usize, items: u64, first: u64) -> Result<Values> {
        let mut offsets = Vec::with_capacity(items as usize + 1);
        let mut values = Vec::with_capacity(if self.is_bytes() { packed.len() } else { 0 });
        offsets.push(0);
        for i in 0..items {
            let item = &packed[i as usize * width..][..width];
            match self {
                Padding::Utf32 { big } => utf8_of(item, big, first + i, &mut values)?,
                Padding::Bytes(fill) => values.extend_from_slice(fill.trim(item)),
                Padding::Text(fill) => {
                    let text = fill.trim(item);
                    is_utf8(text, first + i)?;
                    values.extend_from_slice(text);
                }
            }
            offsets.push(values.len() as u64);
        }
        Ok(Values::Var { offsets, values: Buf::from_vec(values) })
    }

    /// Whether the values take no more bytes than they are stored in.
    fn is_bytes(self) -> bool {
        !matches!(self, Padding::Utf32 { .. })
    }
}

fn utf8_of(item: &[u8], big: bool, row: u64, out: &mut Vec<u8>) -> Result<()> {
    let units = item.as_chunks::<4>().0;
    let used = units.iter().rposition(|u| *u != [0; 4]).map_or(0, |last| last + 1);
    for unit in &units[..used] {
        let code = if big { u32::from_be_bytes(*unit) } else { u32::from_le_bytes(*unit) };
        let c = char::from_u32(code).ok_or_else(|| {
            Error::corrupt(format!("row {row} holds {code:#x}, which is not a character"))
        })?;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(())
}

/// Refuses text that is not UTF-8.
///
/// # Errors
/// Refused, with its beginning.
pub fn is_utf8(text: &[u8], row: u64) -> Result<()> {
    match std::str::from_utf8(text) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::refused(format!(
            "the text of row {row} is not UTF-8: {:?}",
            String::from_utf8_lossy(&text[..text.len().min(40)])
        ))),
    }
}

/// Turns the bytes of every unit of `unit` bytes around.
pub fn swap_bytes(bytes: &mut [u8], unit: usize) {
    fn fixed<const N: usize>(bytes: &mut [u8]) {
        bytes.as_chunks_mut::<N>().0.iter_mut().for_each(|unit| unit.reverse());
    }
    match unit {
        0 | 1 => {}
        2 => fixed::<2>(bytes),
        4 => fixed::<4>(bytes),
        8 => fixed::<8>(bytes),
        _ => bytes.chunks_exact_mut(unit).for_each(|unit| unit.reverse()),
    }
}
