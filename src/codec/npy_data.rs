//! The values behind an npy header: records in C or Fortran order, taken apart into the arrays of the model.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use super::layout::{Strided, nearby, swap_bytes};
use super::npy_header::{Header, Kind, Leaf, leaves};
use super::transpose::{TILE_BYTES, Transposition};
use crate::error::{Error, Result};
use crate::format::{Emit, Extent, ReadRows};
use crate::location::Blob;
use crate::model::{ArrayMeta, Buf, Chunk, Logical, Values, checked_product};

/// Zero-width strings take no bytes: their number is bounded by this instead of the file's length.
const EMPTY_STRINGS_MAX: u64 = 1 << 24;

/// The arrays that one npy header describes.
#[derive(Clone, Debug)]
pub struct Records {
    /// `[rows, d1, …]`, empty for rank 0.
    pub shape: Vec<u64>,
    /// Bytes of one element of that shape.
    pub record_bytes: u64,
    /// Elements in one row.
    pub row_records: u64,
    /// All rows.
    pub rows: u64,
    /// The arrays: fields of the element, or the element itself.
    pub leaves: Vec<Leaf>,
    /// The first index runs fastest (and that makes a difference).
    pub fortran: bool,
    /// Bytes of all values; `None` where pickled objects hide it.
    pub bytes: Option<u64>,
    metas: Vec<ArrayMeta>,
}

impl Records {
    /// Takes a header apart; `name` is the array's.
    ///
    /// # Errors
    /// Corrupt and refused types; sizes that overflow.
    pub fn new(header: &Header, name: &str) -> Result<Records> {
        let (leaves, record_bytes) = leaves(&header.descr)?;
        let shape = header.shape.clone();
        let large = || Error::corrupt(format!("the shape {shape:?} is too large"));
        let records = checked_product(&shape).ok_or_else(large)?;
        let row_records = checked_product(shape.get(1..).unwrap_or(&[])).ok_or_else(large)?;
        let total = records.checked_mul(record_bytes).filter(|&n| n < 1 << 62).ok_or_else(large)?;
        let sized = leaves.iter().all(|l| !matches!(l.item.kind, Kind::Refused { sized: false, .. }));
        let fortran = header.fortran && Strided::fortran(0, record_bytes, &shape).is_some_and(|s| !s.is_c_order());
        let mut records_of = Records {
            rows: if shape.is_empty() { 1 } else { shape[0] },
            shape,
            record_bytes,
            row_records,
            leaves,
            fortran,
            bytes: sized.then_some(total),
            metas: Vec::new(),
        };
        if record_bytes == 0 && sized && records > EMPTY_STRINGS_MAX {
            return Err(Error::refused(format!("{records} elements without bytes are more than are supported")));
        }
        records_of.metas = records_of.leaves.iter().map(|leaf| records_of.meta(leaf, name, sized)).collect::<Result<_>>()?;
        Ok(records_of)
    }

    fn meta(&self, leaf: &Leaf, name: &str, sized: bool) -> Result<ArrayMeta> {
        let name = if leaf.name.is_empty() { name.to_string() } else { format!("{name}.{}", leaf.name) };
        let mut shape = self.shape.clone();
        let refuse = |why: String, hint: Option<&str>| {
            let error = Error::refused(why).array(&name);
            Some(Arc::new(if let Some(h) = hint { error.hint(h) } else { error }))
        };
        let (dtype, logical, mut error) = match &leaf.item.kind {
            Kind::Fixed(dtype, logical) => (*dtype, logical.clone(), None),
            Kind::Text => (crate::model::Dtype::U8, Logical::Text, None),
            Kind::Bytes => (crate::model::Dtype::U8, Logical::Binary, None),
            Kind::Refused { why, hint, .. } => (crate::model::Dtype::U8, Logical::Plain, refuse(why.clone(), *hint)),
        };
        if !sized && error.is_none() {
            error = refuse("is part of records with pickled Python objects, which are never run".into(), None);
        }
        if logical.is_var() && (shape.len() > 1 || !leaf.dims.is_empty()) {
            error =
                refuse(format!("strings of {} dimensions are not supported", shape.len() + leaf.dims.len()), Some("leave it out with -x"));
        }
        shape.extend(&leaf.dims);
        let mut meta = ArrayMeta::new(name, dtype, &shape);
        meta.logical = logical;
        meta.bytes()?;
        if leaf.item.swap_bytes > 0 || !matches!(leaf.item.kind, Kind::Fixed(..)) {
            meta.details.stored_dtype = Some(leaf.item.spelled.clone());
        }
        meta.details.stored_bytes = self.bytes.map(|b| b / self.record_bytes.max(1) * leaf.bytes());
        meta.details.error = error;
        Ok(meta)
    }

    /// The arrays as the model sees them.
    pub fn metas(&self) -> &[ArrayMeta] {
        &self.metas
    }

    /// Rows of one array for `rows` rows of records: of a rank-0 record's subarray they are its own.
    pub fn rows_of(&self, leaf: usize, rows: u64) -> u64 {
        if self.shape.is_empty() { self.metas[leaf].rows.unwrap_or(1) } else { rows }
    }

    /// Bytes of one row as it is stored.
    pub fn row_bytes(&self) -> u64 {
        // Checked when the records were made: rows × this is below 2^62 unless there are no rows.
        self.row_records.saturating_mul(self.record_bytes)
    }

    /// Whether the stored bytes are the model's: one plain array in C order, little-endian.
    pub fn is_raw(&self) -> bool {
        self.leaves.len() == 1
            && !self.fortran
            && self.leaves[0].item.swap_bytes == 0
            && self.leaves[0].bytes() == self.record_bytes
            && matches!(self.leaves[0].item.kind, Kind::Fixed(..))
    }

    /// Bytes that decoding `rows` of one leaf holds beyond the stored rows.
    pub fn decoded_bytes(&self, leaf: usize, rows: u64) -> u64 {
        let records = rows.saturating_mul(self.row_records);
        match self.leaves[leaf].item.kind {
            Kind::Text | Kind::Bytes => records.saturating_mul(self.leaves[leaf].item.bytes + 8),
            _ if self.leaves.len() == 1 => 0,
            _ => records.saturating_mul(self.leaves[leaf].bytes()),
        }
    }

    /// The values of one leaf in `rows` rows whose records are `raw` (C order).
    ///
    /// # Errors
    /// Corrupt text.
    pub fn values(&self, leaf: usize, rows: u64, mut raw: Vec<u8>) -> Result<Values> {
        let of = &self.leaves[leaf];
        if matches!(of.item.kind, Kind::Fixed(..)) && self.leaves.len() == 1 && of.bytes() == self.record_bytes {
            swap_bytes(&mut raw, of.item.swap_bytes);
            return Ok(Values::Fixed(Buf::from_vec(raw)));
        }
        self.values_of(leaf, rows, &raw)
    }

    /// As [`Records::values`], for records that several leaves are taken from.
    ///
    /// # Errors
    /// Corrupt text.
    pub fn values_of(&self, leaf: usize, rows: u64, raw: &[u8]) -> Result<Values> {
        let of = &self.leaves[leaf];
        let records = (rows * self.row_records) as usize;
        let (step, start) = (self.record_bytes as usize, of.offset as usize);
        match of.item.kind {
            Kind::Text => text(raw, records, step, start, of.item.bytes as usize, of.item.swap_bytes > 0),
            Kind::Bytes => {
                let (mut offsets, mut values) = (Vec::with_capacity(records + 1), Vec::new());
                offsets.push(0);
                for i in 0..records {
                    let item = &raw[i * step + start..][..of.item.bytes as usize];
                    values.extend_from_slice(&item[..item.iter().rposition(|&b| b != 0).map_or(0, |p| p + 1)]);
                    offsets.push(values.len() as u64);
                }
                Ok(Values::Var { offsets, values: Buf::from_vec(values) })
            }
            _ => {
                let mut out = take(raw, records, step, start, of.bytes() as usize);
                swap_bytes(&mut out, of.item.swap_bytes);
                Ok(Values::Fixed(Buf::from_vec(out)))
            }
        }
    }
}

impl Leaf {
    /// Bytes of the leaf in one record.
    pub fn bytes(&self) -> u64 {
        self.dims.iter().fold(self.item.bytes, |n, &d| n.saturating_mul(d))
    }
}

/// `len` bytes of every record, side by side.
fn take(raw: &[u8], records: usize, step: usize, start: usize, len: usize) -> Vec<u8> {
    fn fixed<const N: usize>(raw: &[u8], out: &mut [u8], step: usize, start: usize) {
        for (record, out) in raw.chunks_exact(step).zip(out.as_chunks_mut::<N>().0) {
            out.copy_from_slice(&record[start..start + N]);
        }
    }
    let mut out = vec![0; records * len];
    match len {
        0 => {}
        1 => fixed::<1>(raw, &mut out, step, start),
        2 => fixed::<2>(raw, &mut out, step, start),
        4 => fixed::<4>(raw, &mut out, step, start),
        8 => fixed::<8>(raw, &mut out, step, start),
        16 => fixed::<16>(raw, &mut out, step, start),
        _ => {
            for (record, out) in raw.chunks_exact(step).zip(out.chunks_exact_mut(len)) {
                out.copy_from_slice(&record[start..start + len]);
            }
        }
    }
    out
}

/// UCS-4 to UTF-8; zeros at the end are padding.
fn text(raw: &[u8], records: usize, step: usize, start: usize, len: usize, big: bool) -> Result<Values> {
    let (mut offsets, mut values) = (Vec::with_capacity(records + 1), String::new());
    offsets.push(0);
    for i in 0..records {
        let units = raw[i * step + start..][..len].as_chunks::<4>().0;
        let used = units.iter().rposition(|u| *u != [0; 4]).map_or(0, |p| p + 1);
        for &unit in &units[..used] {
            let code = if big { u32::from_be_bytes(unit) } else { u32::from_le_bytes(unit) };
            let c = char::from_u32(code)
                .ok_or_else(|| Error::corrupt(format!("element {i} of a piece holds {code:#x}, which is not a character")))?;
            values.push(c);
        }
        offsets.push(values.len() as u64);
    }
    Ok(Values::Var { offsets, values: Buf::from_vec(values.into_bytes()) })
}

/// Where an array in Fortran order is read.
enum Near {
    /// From the file, or a local copy of it.
    Gather(Arc<dyn Blob>, Strided),
    /// From a transposed copy.
    Transposed(Transposition),
}

/// Random access to the arrays of one npy file (or of a part of a file that is one).
pub struct NpyReader {
    /// The records.
    pub records: Records,
    /// The file.
    pub blob: Arc<dyn Blob>,
    /// Where the values begin in it.
    pub data_offset: u64,
    /// The budget for pieces.
    pub memory_bytes: u64,
    near: OnceLock<Near>,
    making: Mutex<()>,
}

impl NpyReader {
    /// For `records` whose values begin at `data_offset`; their end was compared with the file's before.
    pub fn new(records: Records, blob: Arc<dyn Blob>, data_offset: u64, memory_bytes: u64) -> NpyReader {
        NpyReader { records, blob, data_offset, memory_bytes, near: OnceLock::new(), making: Mutex::new(()) }
    }

    /// The stored records of some rows, in C order.
    ///
    /// # Errors
    /// Reading errors.
    pub fn raw(&self, rows: Range<u64>) -> Result<Vec<u8>> {
        let row = self.records.row_bytes();
        let count = rows.end.saturating_sub(rows.start);
        if count == 0 || row == 0 {
            return Ok(Vec::new());
        }
        if !self.records.fortran {
            return self.blob.read_vec(self.data_offset + rows.start * row, count * row);
        }
        match self.near.get().map_or_else(|| self.near(), Ok)? {
            Near::Gather(blob, strided) => strided.gather(blob.as_ref(), rows),
            Near::Transposed(transposition) => transposition.help()?.read_vec(rows.start * row, count * row),
        }
    }

    /// Whether rows are so wide that a transposed copy is made.
    fn is_wide(&self) -> bool {
        let records = &self.records;
        records.fortran && Strided::fortran(0, records.record_bytes, &records.shape).is_some_and(|s| s.is_wide(self.memory_bytes))
    }

    fn near(&self) -> Result<&Near> {
        // One thread makes it: a remote file is copied once.
        let _making = self.making.lock().unwrap_or_else(|e| e.into_inner());
        if self.near.get().is_none() {
            let end = self.data_offset + self.records.bytes.unwrap_or(0);
            let (blob, base) = nearby(&self.blob, self.data_offset..end)?;
            let strided = Strided::fortran(base, self.records.record_bytes, &self.records.shape)
                .ok_or_else(|| Error::corrupt("the shape is too large"))?;
            let near = if self.is_wide() { Near::Transposed(Transposition::new(blob, strided)?) } else { Near::Gather(blob, strided) };
            let _ = self.near.set(near);
        }
        self.near.get().ok_or_else(|| Error::internal("the layout is not known"))
    }

    /// Where the values are in the file as the model has them, if they are.
    pub fn extents(&self, leaf: usize) -> Option<Vec<Extent>> {
        let records = &self.records;
        let empty = records.bytes == Some(0) && matches!(records.leaves[leaf].item.kind, Kind::Fixed(..));
        if !records.is_raw() && !empty {
            return None;
        }
        Some(vec![Extent { file: self.blob.file()?.clone(), offset: self.data_offset, len: records.bytes? }])
    }
}

impl ReadRows for NpyReader {
    fn cut(&self, _array: usize, row: u64) -> u64 {
        if !self.records.fortran || self.is_wide() {
            return u64::MAX;
        }
        match Strided::fortran(0, self.records.record_bytes, &self.records.shape) {
            Some(s) => s.cut(row, self.memory_bytes),
            None => u64::MAX,
        }
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let count = rows.end.saturating_sub(rows.start);
        let extra = self.records.decoded_bytes(array, count);
        let tiles = match self.records.fortran {
            true if self.is_wide() => 3 * TILE_BYTES,
            true => 1 << 20,
            false => 0,
        };
        (extra > 0 || tiles > 0).then(|| count.saturating_mul(self.records.row_bytes()).saturating_add(extra).saturating_add(tiles))
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        if self.records.shape.is_empty() {
            let values = self.records.values(array, 1, self.raw(0..1)?)?;
            let all = self.records.rows_of(array, 1);
            return emit(Chunk { array, first_row: 0, rows: all, values, valid: None }.slice(rows.start, rows.end));
        }
        // What is gathered goes on while it is in the cache.
        let mut first = rows.start;
        loop {
            let end = self.cut(array, first).min(rows.end);
            let count = end.saturating_sub(first);
            let raw = self.raw(first..end)?;
            let values = self.records.values(array, count, raw)?;
            emit(Chunk { array, first_row: first, rows: count, values, valid: None })?;
            first = end;
            if first >= rows.end {
                return Ok(());
            }
        }
    }
}
