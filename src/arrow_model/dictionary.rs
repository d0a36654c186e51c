//! Dictionaries: the categories of several Arrow dictionaries as one list, and keys as its codes.

use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, make_array};
use arrow_buffer::Buffer;
use arrow_schema::DataType;

use super::memory::Held;
use super::values::{decimal_buffer, decimals_of};
use crate::error::{Error, Result, locked};
use crate::model::nested::type_name;
use crate::model::{Categories, CategoryIndex, CategoryKind, Decimals, Dtype, Values};

/// The categories of one dictionary array while several Arrow dictionaries are mapped to one
/// growing list.
pub struct Dictionaries {
    categories: Arc<Categories>,
    index: Mutex<CategoryIndex>,
    held: Arc<Held>,
}

/// What a category takes beside its bytes, in the list and in the index, while these grow.
const CATEGORY_BYTES: u64 = 112;
/// How often its bytes are there: in the list, and on their way into it.
const CATEGORY_COPIES: u64 = 2;

impl Dictionaries {
    /// Continues these categories; `held` is told of those that are added.
    pub fn new(categories: Arc<Categories>, held: Arc<Held>) -> Dictionaries {
        let index = Mutex::new(CategoryIndex::of(&categories));
        Dictionaries { categories, index, held }
    }
    /// The code of each value; `u64::MAX` for a null among them. Values not met before are
    /// appended.
    ///
    /// # Errors
    /// Where the values are of a type that categories cannot have, or take more memory than they
    /// may.
    pub fn merge(&self, values: &dyn Array) -> Result<Vec<u64>> {
        let mut index = locked(&self.index);
        if self.categories.is_empty() {
            self.held.check(needed(values))?;
        }
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
    pub fn merge_items<'a>(
        &self,
        items: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<Vec<u64>> {
        if self.categories.is_empty() {
            self.held.check(items.clone().map(bytes_of).fold(0, u64::saturating_add))?;
        }
        let text = *self.categories.kind() == CategoryKind::Text;
        let mut index = locked(&self.index);
        let mut code = |item: &[u8]| match text && std::str::from_utf8(item).is_err() {
            true => Err(Error::corrupt("a text of its dictionary is not UTF-8")),
            false => self.code(&mut index, item),
        };
        items.map(&mut code).collect()
    }

    fn code(&self, index: &mut CategoryIndex, item: &[u8]) -> Result<u64> {
        index.code(&self.categories, item, || self.held.take(bytes_of(item)))
    }
}

/// What a category takes.
fn bytes_of(item: &[u8]) -> u64 {
    CATEGORY_BYTES + CATEGORY_COPIES * item.len() as u64
}

/// What the values of a dictionary take as categories.
fn needed(values: &dyn Array) -> u64 {
    let beside = match values.data_type() {
        DataType::Utf8 | DataType::Binary => 4,
        DataType::LargeUtf8 | DataType::LargeBinary => 8,
        DataType::Utf8View | DataType::BinaryView => 16,
        _ => 0,
    };
    let count = values.len() as u64;
    let bytes = values.to_data().get_slice_memory_size().unwrap_or(0) as u64;
    let bytes = bytes.saturating_sub(beside * count);
    (CATEGORY_BYTES * count).saturating_add(bytes.saturating_mul(CATEGORY_COPIES))
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

pub(super) fn dictionary_values(
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
    self::coded(keys, &codes, dtype, first_row)
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
