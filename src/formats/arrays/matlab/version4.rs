//! Version 4: matrices of two dimensions, one after the other.

use super::element::name_text;
use super::found::FoundArrays;
use super::text;
use super::values::{Numbers, Stored};
use crate::array::{ArrayMap, Element};
use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Dtype};
use crate::storage::BlobSlice;

const HEADER_BYTES: u64 = 20;
/// The longest name, with the zero that ends it.
const MAX_NAME: u32 = 4096;

/// What stands before a matrix.
struct Header {
    big: bool,
    dtype: Dtype,
    kind: Kind,
    rows: u32,
    columns: u32,
    complex: bool,
    name_bytes: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Numbers,
    Text,
    Sparse,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Header> {
        let fields = bytes.get(..HEADER_BYTES as usize)?.as_chunks::<4>().0;
        let little = u32::from_le_bytes(fields[0]);
        // The type is below 5000; read in the other order it is far above.
        let big = little > 9999;
        let number = |i: usize| {
            if big { u32::from_be_bytes(fields[i]) } else { u32::from_le_bytes(fields[i]) }
        };
        let kind = number(0);
        let order = kind / 1000;
        // 0 is little-endian, 1 big-endian; other machines are long gone.
        if kind > 1999
            || order == 1 && !big
            || order == 0 && big && kind != 0
            || kind / 100 % 10 != 0
        {
            return None;
        }
        let header = Header {
            big,
            dtype: match kind / 10 % 10 {
                0 => Dtype::F64,
                1 => Dtype::F32,
                2 => Dtype::I32,
                3 => Dtype::I16,
                4 => Dtype::U16,
                5 => Dtype::U8,
                _ => return None,
            },
            kind: match kind % 10 {
                0 => Kind::Numbers,
                1 => Kind::Text,
                2 => Kind::Sparse,
                _ => return None,
            },
            rows: number(1),
            columns: number(2),
            complex: number(3) == 1,
            name_bytes: number(4),
        };
        (number(3) <= 1 && (1..=MAX_NAME).contains(&header.name_bytes)).then_some(header)
    }
}

/// Whether a file may begin so: there is no signature.
pub(super) fn is_plausible(head: &[u8]) -> bool {
    Header::parse(head).is_some_and(|h| {
        let name = head[HEADER_BYTES as usize..].get(..h.name_bytes as usize - 1);
        name.is_some_and(|n| {
            !n.is_empty() && n.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'_')
        })
    })
}

/// Finds all matrices.
///
/// # Errors
/// Corrupt.
pub(super) fn read(file: &BlobSlice, found: &mut FoundArrays) -> Result<()> {
    let mut at = 0;
    while at < file.len {
        let left = file.len - at;
        let head = file.blob.read_vec(at, left.min(HEADER_BYTES))?;
        let header = Header::parse(&head).ok_or_else(|| {
            Error::corrupt(format!("no matrix begins at byte {at}, {left} bytes are left there"))
        })?;
        let start = at + HEADER_BYTES + u64::from(header.name_bytes);
        let item = header.dtype.item_bytes();
        let count = u64::from(header.rows) * u64::from(header.columns);
        let bytes = count.checked_mul(item).filter(|&n| n < 1 << 62);
        let parts = if header.complex && header.kind != Kind::Sparse { 2 } else { 1 };
        let end = bytes.and_then(|n| n.checked_mul(parts)?.checked_add(start));
        let Some((bytes, end)) = bytes.zip(end).filter(|(_, end)| *end <= file.len) else {
            return Err(Error::corrupt(format!(
                "the file is truncated: the matrix at byte {at} has {} × {} values, {left} bytes are left",
                header.rows, header.columns
            ))
            .hint("fetch the file again"));
        };
        let name = name_text(&file.blob.read_vec(at + HEADER_BYTES, header.name_bytes.into())?);
        if name.is_empty() {
            return Err(Error::corrupt(format!("the matrix at byte {at} has no name")));
        }
        let stored = |start| Stored {
            dtype: header.dtype,
            bytes: BlobSlice { blob: file.blob.clone(), start, len: bytes },
            big: header.big,
        };
        match header.kind {
            Kind::Numbers => numbers(&name, &header, stored(start), stored(start + bytes), found)?,
            Kind::Text => texts(&name, &header, &stored(start), found)?,
            Kind::Sparse => match sparse(&name, &header, &stored(start), found) {
                Ok(arrays) => {
                    arrays.into_iter().try_for_each(|(meta, map)| found.push(meta, map))?
                }
                Err(e) => found.push_broken(&name, "sparse", e)?,
            },
        }
        at = end;
    }
    Ok(())
}

fn numbers(
    name: &str,
    header: &Header,
    real: Stored,
    imaginary: Stored,
    found: &mut FoundArrays,
) -> Result<()> {
    let dtype = if header.complex && !header.dtype.is_float() { Dtype::F64 } else { header.dtype };
    let numbers = Numbers {
        shape: vec![header.rows.into(), header.columns.into()],
        // All numbers of version 4 are doubles in MATLAB.
        class: "double",
        dtype,
        real,
        imaginary: header
            .complex
            .then(|| Box::new(move || Ok(imaginary.clone())) as Box<dyn Fn() -> _ + Send + Sync>),
    };
    let (meta, map) = numbers.array(name).map_err(|e| e.array(name))?;
    found.push(meta, map)
}

/// Characters are stored as numbers of any type.
fn texts(name: &str, header: &Header, stored: &Stored, found: &mut FoundArrays) -> Result<()> {
    let dims = [header.rows.into(), header.columns.into()];
    let count = stored.bytes.len / stored.dtype.item_bytes();
    found.hold(count.saturating_mul(4))?;
    let made = stored
        .values(0, count, Dtype::U16)
        .and_then(|units| text::texts(&units, super::element::UTF16, false, &dims))
        .and_then(|texts| text::array(name, &dims[..1], &texts));
    match made {
        Ok((meta, map)) => found.push(meta, map),
        Err(e) => found.push_broken(name, "char", e),
    }
}

/// Rows of row, column, value (and imaginary part), the last with the shape: as compressed columns.
fn sparse(
    name: &str,
    header: &Header,
    stored: &Stored,
    found: &mut FoundArrays,
) -> Result<Vec<(ArrayMeta, ArrayMap)>> {
    let (rows, columns) = (header.rows as usize, header.columns);
    if rows == 0 || !matches!(columns, 3 | 4) {
        return Err(Error::corrupt(format!(
            "a sparse matrix is kept in {rows} × {columns} values"
        )));
    }
    let count = rows as u64 * u64::from(columns);
    found.hold(count.saturating_mul(24))?;
    let values = stored.values(0, count, Dtype::F64)?;
    let column = |c: usize| -> Vec<f64> {
        values.as_chunks::<8>().0[c * rows..][..rows]
            .iter()
            .map(|b| f64::from_le_bytes(*b))
            .collect()
    };
    let (i, j, real) = (column(0), column(1), column(2));
    let imaginary = if columns == 4 { column(3) } else { Vec::new() };
    let index = |v: f64, most: f64| {
        let whole = v >= 1.0 && v <= most && v.fract() == 0.0;
        whole
            .then(|| v as usize - 1)
            .ok_or_else(|| Error::corrupt(format!("a sparse matrix has the index {v}")))
    };
    let (n, m) = (i[rows - 1], j[rows - 1]);
    let limit = f64::from(i32::MAX);
    if !(0.0..=limit).contains(&n) || !(0.0..=limit).contains(&m) || n.fract() + m.fract() != 0.0 {
        return Err(Error::corrupt(format!("a sparse matrix has the shape {n} × {m}")));
    }
    found.hold((m as u64).saturating_mul(8))?;
    let mut entries = Vec::with_capacity(rows - 1);
    for k in 0..rows - 1 {
        entries.push((index(j[k], m)?, index(i[k], n)?, k));
    }
    entries.sort_unstable();
    let mut indptr = vec![0i32; m as usize + 1];
    let (mut indices, mut data): (Vec<i32>, Vec<f64>) = (Vec::new(), Vec::new());
    for (column, row, k) in entries {
        indptr[column + 1] += 1;
        indices.push(row as i32);
        data.push(real[k]);
        data.extend(imaginary.get(k));
    }
    for c in 1..indptr.len() {
        indptr[c] += indptr[c - 1];
    }
    let dtype = if columns == 4 { Dtype::C128 } else { Dtype::F64 };
    let shape = [n as i64, m as i64];
    Ok(vec![
        plain(format!("{name}.data"), dtype, bytemuck::cast_slice(&data)),
        plain(format!("{name}.indices"), Dtype::I32, bytemuck::cast_slice(&indices)),
        plain(format!("{name}.indptr"), Dtype::I32, bytemuck::cast_slice(&indptr)),
        plain(format!("{name}.shape"), Dtype::I64, bytemuck::cast_slice(&shape)),
    ])
}

/// Values at hand, of one dimension.
pub(super) fn plain(name: String, dtype: Dtype, values: &[u8]) -> (ArrayMeta, ArrayMap) {
    let shape = [values.len() as u64 / dtype.item_bytes()];
    let map = ArrayMap::raw(&shape, Element::plain(dtype), BlobSlice::memory(values.to_vec()));
    (ArrayMeta::new(name, dtype, &shape), map)
}
