//! Arrow arrays → chunks of the model.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray;
use arrow_array::types::{ByteArrayType, UInt64Type};
use arrow_array::{Array, ArrayRef, GenericByteArray, make_array};
use arrow_buffer::{Buffer, NullBuffer};
use arrow_schema::DataType;
use arrow_select::take::take;

use super::{Held, LeafType, Level, retyped, type_name};
use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Categories, CategoryKind, Chunk, Decimals, Dtype, Logical, Values};

fn failed(e: arrow_schema::ArrowError) -> Error {
    Error::corrupt("an Arrow array is not valid").because(e)
}

/// The categories of one dictionary array while several Arrow dictionaries are mapped to one
/// growing list.
pub struct Dictionaries {
    categories: Arc<Categories>,
    index: Mutex<HashMap<Vec<u8>, u64>>,
    held: Arc<Held>,
}

/// What a category takes beside its bytes, in the list and in the index.
const CATEGORY_BYTES: u64 = 160;

impl Dictionaries {
    /// Continues these categories; `held` is told of those that are added.
    pub fn new(categories: Arc<Categories>, held: Arc<Held>) -> Dictionaries {
        let mut index = HashMap::new();
        for (i, item) in categories.snapshot().into_iter().enumerate() {
            index.entry(item).or_insert(i as u64);
        }
        Dictionaries { categories, index: Mutex::new(index), held }
    }
    /// The code of each value; `u64::MAX` for a null among them. Values not met before are
    /// appended.
    ///
    /// # Errors
    /// Where the values are of a type that categories cannot have, or take more memory than they
    /// may.
    pub fn merge(&self, values: &dyn Array) -> Result<Vec<u64>> {
        let mut index = self.index.lock().unwrap_or_else(|e| e.into_inner());
        let mut codes = Vec::with_capacity(values.len());
        each_category(values, &mut |item| {
            codes.push(item.map_or(Ok(u64::MAX), |item| self.code(&mut index, item))?);
            Ok(())
        })?;
        Ok(codes)
    }

    /// As [`Dictionaries::merge`], for texts or bytes.
    ///
    /// # Errors
    /// Corrupt where they must be text and are not UTF-8; refused where they take more memory than
    /// they may.
    pub fn merge_items<'a>(&self, items: impl Iterator<Item = &'a [u8]>) -> Result<Vec<u64>> {
        let text = *self.categories.kind() == CategoryKind::Text;
        let mut index = self.index.lock().unwrap_or_else(|e| e.into_inner());
        let mut code = |item: &[u8]| match text && std::str::from_utf8(item).is_err() {
            true => Err(Error::corrupt("a text of its dictionary is not UTF-8")),
            false => self.code(&mut index, item),
        };
        items.map(&mut code).collect()
    }

    fn code(&self, index: &mut HashMap<Vec<u8>, u64>, item: &[u8]) -> Result<u64> {
        if let Some(&code) = index.get(item) {
            return Ok(code);
        }
        self.held.take(CATEGORY_BYTES + 3 * item.len() as u64)?;
        let code = self.categories.push(item.to_vec());
        index.insert(item.to_vec(), code);
        Ok(code)
    }
}

/// Gives the bytes of each value of a dictionary; nothing for a null.
fn each_category(
    values: &dyn Array,
    each: &mut dyn FnMut(Option<&[u8]>) -> Result<()>,
) -> Result<()> {
    let n = values.len();
    let mut at = |i: usize, bytes: &[u8]| each((!values.is_null(i)).then_some(bytes));
    match values.data_type() {
        DataType::Utf8 => {
            (0..n).try_for_each(|i| at(i, values.as_string::<i32>().value(i).as_bytes()))
        }
        DataType::LargeUtf8 => {
            (0..n).try_for_each(|i| at(i, values.as_string::<i64>().value(i).as_bytes()))
        }
        DataType::Utf8View => {
            (0..n).try_for_each(|i| at(i, values.as_string_view().value(i).as_bytes()))
        }
        DataType::Binary => (0..n).try_for_each(|i| at(i, values.as_binary::<i32>().value(i))),
        DataType::LargeBinary => (0..n).try_for_each(|i| at(i, values.as_binary::<i64>().value(i))),
        DataType::BinaryView => (0..n).try_for_each(|i| at(i, values.as_binary_view().value(i))),
        DataType::FixedSizeBinary(_) => {
            (0..n).try_for_each(|i| at(i, values.as_fixed_size_binary().value(i)))
        }
        DataType::Boolean => {
            (0..n).try_for_each(|i| at(i, &[u8::from(values.as_boolean().value(i))]))
        }
        other => match other.primitive_width() {
            Some(_) if decimals_of(other).is_some() => {
                let decimals = decimals_of(other).unwrap_or(Decimals::of(1, 0));
                let stored = decimal_buffer(&make_array(values.to_data()), decimals)?;
                let width = decimals.item_bytes();
                (0..n).try_for_each(|i| at(i, &stored[i * width..(i + 1) * width]))
            }
            Some(width) => {
                let data = values.to_data();
                let bytes = data.buffers().first().map(|b| b.as_slice()).unwrap_or_default();
                let start = data.offset() * width;
                (0..n).try_for_each(|i| at(i, &bytes[start + i * width..start + (i + 1) * width]))
            }
            None => Err(Error::refused(format!(
                "a dictionary of {} is not supported",
                type_name(other)
            ))),
        },
    }
}

/// The leaf of a column's array. `path` are the fields of its structs. Where a struct is null as a
/// whole, so is the leaf, if it `merges`.
///
/// # Errors
/// Refused where a struct itself is null, and the leaf alone could not tell.
pub fn descend(array: &ArrayRef, path: &[usize], merges: bool) -> Result<ArrayRef> {
    let mut at = array.clone();
    let mut above: Option<NullBuffer> = None;
    for &field in path {
        let Some(fields) = at.as_struct_opt() else {
            return Err(Error::internal("a struct was expected"));
        };
        if merges {
            above = NullBuffer::union(above.as_ref(), fields.nulls());
        } else if fields.null_count() > 0 {
            let row = (0..fields.len()).find(|&i| fields.is_null(i)).unwrap_or(0);
            return Err(null_struct().because(Error::refused(format!("row {row} of this part"))));
        }
        at = fields
            .columns()
            .get(field)
            .cloned()
            .ok_or_else(|| Error::internal("a struct lacks a field"))?;
    }
    if above.as_ref().is_some_and(|nulls| nulls.null_count() > 0) && !at.data_type().is_null() {
        let nulls = NullBuffer::union(above.as_ref(), at.nulls());
        let data = at.to_data().into_builder().nulls(nulls);
        at = make_array(data.build().map_err(failed)?);
    }
    Ok(at)
}

/// The refusal of a struct that is null as a whole.
pub fn null_struct() -> Error {
    Error::refused("a struct of this column is null as a whole, which its fields cannot express")
        .hint("leave the column out with -x, or all such columns with --skip-unsupported")
}

/// Looks at the lengths of the lists of one array: `lengths` has an entry for each [`Level::Any`],
/// `None` until a list was met. Returns false where two lists differ, at any level.
///
/// # Errors
/// Corrupt offsets.
pub fn list_lengths(
    array: &ArrayRef,
    levels: &[Level],
    lengths: &mut [Option<u64>],
) -> Result<bool> {
    let mut at = array.clone();
    let mut any = 0;
    for level in levels {
        let offsets: Vec<i64> = match at.data_type() {
            DataType::FixedSizeList(..) => {
                let list = at.as_fixed_size_list();
                at = list.values().clone();
                continue;
            }
            DataType::List(_) => {
                at.as_list::<i32>().offsets().iter().map(|&o| i64::from(o)).collect()
            }
            DataType::LargeList(_) => at.as_list::<i64>().offsets().to_vec(),
            other => {
                return Err(Error::internal(format!(
                    "a list was expected, found {}",
                    type_name(other)
                )));
            }
        };
        let expect = match level {
            Level::Fixed(dims) => &mut Some(dims.iter().product::<u64>()),
            Level::Any => {
                any += 1;
                &mut lengths[any - 1]
            }
        };
        for (i, pair) in offsets.windows(2).enumerate() {
            if at.is_null(i) {
                continue;
            }
            let n = (pair[1] - pair[0]) as u64;
            if *expect.get_or_insert(n) != n {
                return Ok(false);
            }
        }
        let (first, last) = (
            offsets.first().copied().unwrap_or(0) as usize,
            offsets.last().copied().unwrap_or(0) as usize,
        );
        let values = match at.data_type() {
            DataType::List(_) => at.as_list::<i32>().values().clone(),
            _ => at.as_list::<i64>().values().clone(),
        };
        at = values.slice(first, last - first);
    }
    Ok(true)
}

/// Turns the array of a leaf into a chunk. `meta` is the plan's array: its inner dimensions are
/// enforced.
///
/// # Errors
/// Nulls inside lists, lists of another length, corrupt arrays.
pub fn chunk(
    array: &ArrayRef,
    leaf: &LeafType,
    meta: &ArrayMeta,
    dictionary: Option<&Dictionaries>,
    index: usize,
    first_row: u64,
) -> Result<Chunk> {
    let rows = array.len();
    let at_row = |row: usize| first_row + row as u64;
    if matches!(meta.logical, Logical::List) {
        return ragged(array, meta, index, first_row);
    }
    let nulls = array.logical_nulls().filter(|n| n.null_count() > 0);
    let mut at = array.clone();
    let mut dims = meta.inner.iter().copied();
    let mut per_row = 1u64;
    for (depth, level) in leaf.levels.iter().enumerate() {
        let n: u64 = match level {
            Level::Fixed(d) => dims.by_ref().take(d.len()).product(),
            Level::Any => dims.next().unwrap_or(0),
        };
        if depth > 0
            && let Some(level_nulls) = at.logical_nulls()
            && let Some(row) = first_null_of_valid(&level_nulls, per_row, nulls.as_ref())
        {
            return Err(inner_null(at_row(row)));
        }
        at = fixed_values(&at, n, at_row, per_row)?;
        per_row = per_row.checked_mul(n).ok_or_else(|| Error::corrupt("lists are too long"))?;
        if at.len() as u64 != rows as u64 * per_row {
            return Err(Error::corrupt(format!(
                "{rows} rows of {per_row} elements have {} elements in all",
                at.len()
            )));
        }
    }
    if !leaf.levels.is_empty()
        && let Some(element_nulls) = at.logical_nulls()
        && let Some(row) = first_null_of_valid(&element_nulls, per_row, nulls.as_ref())
    {
        return Err(inner_null(at_row(row)));
    }
    let valid = nulls.as_ref().map(mask);
    let (values, valid) = match &meta.logical {
        Logical::Text | Logical::Binary => (var_values(&at)?, valid),
        Logical::Dictionary { .. } => dictionary_values(&at, meta.dtype, dictionary, first_row)?,
        _ => {
            let buffer = match meta.logical.decimals() {
                Some(decimals) => decimal_buffer(&at, decimals)?,
                None => fixed_buffer(&at)?,
            };
            let row_bytes = meta.row_bytes()? as usize;
            (Values::Fixed(blank(buffer, row_bytes, meta, nulls.as_ref())), valid)
        }
    };
    Ok(Chunk { array: index, first_row, rows: rows as u64, values, valid })
}

/// The first row of an array of lists that holds a null inside a list, at any depth.
pub fn first_inner_null(array: &ArrayRef) -> Option<usize> {
    let (offsets, values): (Vec<i64>, &ArrayRef) = match array.data_type() {
        DataType::List(_) => (
            array.as_list::<i32>().offsets().iter().map(|&o| i64::from(o)).collect(),
            array.as_list::<i32>().values(),
        ),
        DataType::LargeList(_) => {
            (array.as_list::<i64>().offsets().to_vec(), array.as_list::<i64>().values())
        }
        _ => return None,
    };
    let (first, last) = (*offsets.first()? as usize, *offsets.last()? as usize);
    let values = values.slice(first, last - first);
    let found = if values.null_count() > 0 {
        (0..values.len()).find(|&i| values.is_null(i))
    } else {
        first_inner_null(&values)
    };
    found.map(|i| offsets.partition_point(|&o| o as usize <= first + i).saturating_sub(1))
}

/// The refusal of a null inside a list.
pub fn inner_null(row: u64) -> Error {
    Error::refused(format!("row {row} holds a list with a null in it"))
        .hint("leave the column out with -x, or all such columns with --skip-unsupported")
}

/// The first row that is valid itself but has a null among its `per_row` elements.
fn first_null_of_valid(
    elements: &NullBuffer,
    per_row: u64,
    rows: Option<&NullBuffer>,
) -> Option<usize> {
    if elements.null_count() == 0 || per_row == 0 {
        return None;
    }
    let per_row = per_row as usize;
    (0..elements.len())
        .filter(|&i| elements.is_null(i))
        .map(|i| i / per_row)
        .find(|&row| rows.is_none_or(|r| row < r.len() && r.is_valid(row)))
}

/// The elements of lists that all have `n` of them (null lists: `n` nulls).
fn fixed_values(
    array: &ArrayRef,
    n: u64,
    at_row: impl Fn(usize) -> u64,
    per_row: u64,
) -> Result<ArrayRef> {
    let differs = |i: usize, found: u64| {
        Error::corrupt(format!(
            "row {} has a list of {found} elements, expected {n}",
            at_row(i / per_row.max(1) as usize)
        ))
    };
    let (offsets, values): (Vec<i64>, ArrayRef) = match array.data_type() {
        DataType::FixedSizeList(_, length) => {
            let list = array.as_fixed_size_list();
            if *length as u64 != n {
                return Err(differs(0, *length as u64));
            }
            return Ok(list.values().clone());
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            (list.offsets().iter().map(|&o| i64::from(o)).collect(), list.values().clone())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            (list.offsets().to_vec(), list.values().clone())
        }
        other => {
            return Err(Error::internal(format!(
                "a list was expected, found {}",
                type_name(other)
            )));
        }
    };
    let Some((&first, &last)) = offsets.first().zip(offsets.last()) else {
        return Ok(values.slice(0, 0));
    };
    if array.null_count() == 0 {
        if let Some(i) = offsets.windows(2).position(|w| (w[1] - w[0]) as u64 != n) {
            return Err(differs(i, (offsets[i + 1] - offsets[i]) as u64));
        }
        return Ok(values.slice(first as usize, (last - first) as usize));
    }
    let mut indices = arrow_array::builder::PrimitiveBuilder::<UInt64Type>::with_capacity(
        array.len().saturating_mul(n as usize).min(1 << 24),
    );
    for (i, w) in offsets.windows(2).enumerate() {
        if array.is_null(i) {
            indices.append_nulls(n as usize);
        } else if (w[1] - w[0]) as u64 != n {
            return Err(differs(i, (w[1] - w[0]) as u64));
        } else {
            for v in w[0]..w[1] {
                indices.append_value(v as u64);
            }
        }
    }
    take(&values, &indices.finish(), None).map_err(failed)
}

fn ragged(array: &ArrayRef, meta: &ArrayMeta, index: usize, first_row: u64) -> Result<Chunk> {
    let rows = array.len();
    let (mut offsets, values): (Vec<u64>, ArrayRef) = match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            (list.offsets().iter().map(|&o| o as u64).collect(), list.values().clone())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            (list.offsets().iter().map(|&o| o as u64).collect(), list.values().clone())
        }
        other => {
            return Err(Error::internal(format!(
                "a list was expected, found {}",
                type_name(other)
            )));
        }
    };
    let (first, last) =
        (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
    let values = values.slice(first as usize, (last - first) as usize);
    offsets.iter_mut().for_each(|o| *o -= first);
    if values.null_count() > 0 {
        for row in 0..rows {
            let range = offsets[row] as usize..offsets[row + 1] as usize;
            if array.is_valid(row) && range.into_iter().any(|i| values.is_null(i)) {
                return Err(inner_null(first_row + row as u64));
            }
        }
    }
    let mut buffer = fixed_buffer(&values)?;
    let valid = array.logical_nulls().filter(|n| n.null_count() > 0);
    // Elements behind a null list do not count.
    if let Some(nulls) = &valid
        && (0..rows).any(|r| nulls.is_null(r) && offsets[r] != offsets[r + 1])
    {
        let item = meta.dtype.item_bytes() as usize;
        let (mut packed, mut kept) = (Vec::with_capacity(buffer.len()), vec![0u64]);
        for r in 0..rows {
            if nulls.is_valid(r) {
                packed.extend_from_slice(
                    &buffer[offsets[r] as usize * item..offsets[r + 1] as usize * item],
                );
            }
            kept.push((packed.len() / item) as u64);
        }
        (offsets, buffer) = (kept, Buffer::from_vec(packed));
    }
    Ok(Chunk {
        array: index,
        first_row,
        rows: rows as u64,
        values: Values::Var { offsets, values: buffer },
        valid: valid.as_ref().map(mask),
    })
}

/// One byte a row, 1 where it is valid.
fn mask(nulls: &NullBuffer) -> Buffer {
    Buffer::from_vec(nulls.iter().map(u8::from).collect::<Vec<u8>>())
}

/// The values of a primitive or boolean array: little-endian, unpadded.
///
/// # Errors
/// A bug where it is neither: the schema decided the type.
pub fn fixed_buffer(array: &ArrayRef) -> Result<Buffer> {
    if let Some(bits) = array.as_boolean_opt() {
        return Ok(Buffer::from_vec(bits.values().iter().map(u8::from).collect::<Vec<u8>>()));
    }
    let Some(width) = array.data_type().primitive_width() else {
        return Err(Error::internal(format!(
            "plain values were expected, found {}",
            type_name(array.data_type())
        )));
    };
    let data = array.to_data();
    let buffer = data.buffers().first().ok_or_else(|| Error::corrupt("an array has no values"))?;
    let (start, len) = (data.offset() * width, data.len() * width);
    if buffer.len() < start + len {
        return Err(Error::corrupt(format!(
            "an array has {} bytes of values, expected {}",
            buffer.len().saturating_sub(start),
            len
        )));
    }
    Ok(buffer.slice_with_length(start, len))
}

/// NaN (floats) or zero where a row is null.
fn blank(buffer: Buffer, row_bytes: usize, meta: &ArrayMeta, nulls: Option<&NullBuffer>) -> Buffer {
    let Some(nulls) = nulls else { return buffer };
    let nan: &[u8] = match (&meta.logical, meta.dtype) {
        (Logical::Plain, Dtype::F16) => &0x7e00u16.to_le_bytes(),
        (Logical::Plain, Dtype::F32) => &0x7fc0_0000u32.to_le_bytes(),
        (Logical::Plain, Dtype::F64) => &0x7ff8_0000_0000_0000u64.to_le_bytes(),
        _ => &[],
    };
    let mut bytes = match buffer.into_vec::<u8>() {
        Ok(vec) => vec,
        Err(shared) => shared.as_slice().to_vec(),
    };
    for (i, row) in bytes.chunks_exact_mut(row_bytes.max(1)).enumerate() {
        if i < nulls.len() && nulls.is_null(i) {
            if nan.is_empty() {
                row.fill(0);
            } else {
                row.chunks_exact_mut(nan.len()).for_each(|e| e.copy_from_slice(nan));
            }
        }
    }
    Buffer::from_vec(bytes)
}

fn var_values(array: &ArrayRef) -> Result<Values> {
    match array.data_type() {
        DataType::Utf8 => Ok(bytes_values(array.as_string::<i32>())),
        DataType::LargeUtf8 => Ok(bytes_values(array.as_string::<i64>())),
        DataType::Binary => Ok(bytes_values(array.as_binary::<i32>())),
        DataType::LargeBinary => Ok(bytes_values(array.as_binary::<i64>())),
        DataType::Utf8View => var_values(&retyped(array, &DataType::LargeUtf8).map_err(failed)?),
        DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            var_values(&retyped(array, &DataType::LargeBinary).map_err(failed)?)
        }
        DataType::Null => {
            Ok(Values::Var { offsets: vec![0; array.len() + 1], values: Vec::<u8>::new().into() })
        }
        other => Err(Error::internal(format!("text was expected, found {}", type_name(other)))),
    }
}

fn bytes_values<T: ByteArrayType>(array: &GenericByteArray<T>) -> Values {
    use arrow_buffer::ArrowNativeType;
    let (first, last) = (array.offsets()[0].as_usize(), array.offsets()[array.len()].as_usize());
    let offsets: Vec<u64> = array.offsets().iter().map(|o| (o.as_usize() - first) as u64).collect();
    let values = array.values().slice_with_length(first, last - first);
    if array.null_count() == 0
        || (0..array.len()).all(|i| array.is_valid(i) || offsets[i] == offsets[i + 1])
    {
        return Values::Var { offsets, values };
    }
    let mut packed = Vec::with_capacity(values.len());
    let mut kept = vec![0u64];
    for i in 0..array.len() {
        if array.is_valid(i) {
            packed.extend_from_slice(&values[offsets[i] as usize..offsets[i + 1] as usize]);
        }
        kept.push(packed.len() as u64);
    }
    Values::Var { offsets: kept, values: Buffer::from_vec(packed) }
}

/// How decimals of an Arrow type are stored.
fn decimals_of(t: &DataType) -> Option<Decimals> {
    match t {
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => Some(Decimals::of(*p, *s)),
        _ => None,
    }
}

/// The values of an array of decimals as they are stored.
fn decimal_buffer(array: &ArrayRef, decimals: Decimals) -> Result<Buffer> {
    let width = array.data_type().primitive_width().unwrap_or(16);
    decimals.stored(&fixed_buffer(array)?, width, |i| array.is_valid(i))
}

fn dictionary_values(
    array: &ArrayRef,
    dtype: Dtype,
    dictionary: Option<&Dictionaries>,
    first_row: u64,
) -> Result<(Values, Option<Buffer>)> {
    let Some(dictionary) = dictionary else {
        return Err(Error::internal("a dictionary column without its categories"));
    };
    let Some(coded) = array.as_any_dictionary_opt() else {
        return Err(Error::internal(format!(
            "a dictionary was expected, found {}",
            type_name(array.data_type())
        )));
    };
    // Without any key there need be no sense in the values.
    let keys = coded.keys();
    let codes = if keys.null_count() == keys.len() {
        Vec::new()
    } else {
        dictionary.merge(coded.values().as_ref())?
    };
    self::coded(coded.keys(), &codes, dtype, first_row)
}

/// Keys of a dictionary array as codes: `codes` says what each key means, `u64::MAX` is a null.
///
/// # Errors
/// Corrupt keys; categories that are too many for the type of the codes.
pub fn coded(
    keys: &dyn Array,
    codes: &[u64],
    dtype: Dtype,
    first_row: u64,
) -> Result<(Values, Option<Buffer>)> {
    let at_row = |row: usize| first_row + row as u64;
    let width = dtype.item_bytes() as usize;
    let key_width = keys.data_type().primitive_width().unwrap_or(1);
    let key_data = keys.to_data();
    let bytes = key_data
        .buffers()
        .first()
        .map(|b| &b.as_slice()[key_data.offset() * key_width..])
        .unwrap_or_default();
    let signed = keys.data_type().is_signed_integer();
    let (mut out, mut valid, mut nulls) =
        (Vec::with_capacity(keys.len() * width), Vec::with_capacity(keys.len()), false);
    // The largest code that the model's type can hold.
    let most = match dtype {
        Dtype::I8 => i8::MAX as u64,
        Dtype::I16 => i16::MAX as u64,
        Dtype::I32 => i32::MAX as u64,
        Dtype::U8 => u64::from(u8::MAX),
        Dtype::U16 => u64::from(u16::MAX),
        Dtype::U32 => u64::from(u32::MAX),
        _ => i64::MAX as u64,
    };
    for i in 0..keys.len() {
        let mut code = None;
        if keys.is_valid(i) {
            let mut raw = [0u8; 8];
            raw[..key_width].copy_from_slice(&bytes[i * key_width..(i + 1) * key_width]);
            let key = u64::from_le_bytes(raw);
            let negative = signed && raw[key_width - 1] & 0x80 != 0;
            let found = codes.get(usize::try_from(key).unwrap_or(usize::MAX)).copied();
            match found.filter(|_| !negative) {
                None => {
                    return Err(Error::corrupt(format!(
                        "row {}: its code is outside the {} categories",
                        at_row(i),
                        codes.len()
                    )));
                }
                Some(u64::MAX) => {}
                Some(c) if c > most => {
                    return Err(Error::refused(format!(
                        "its {} categories are too many for codes of {dtype}",
                        c + 1
                    )));
                }
                Some(c) => code = Some(c),
            }
        }
        out.extend_from_slice(&code.unwrap_or(0).to_le_bytes()[..width]);
        valid.push(u8::from(code.is_some()));
        nulls |= code.is_none();
    }
    Ok((Values::Fixed(Buffer::from_vec(out)), nulls.then(|| Buffer::from_vec(valid))))
}
