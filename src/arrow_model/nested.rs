//! Nested columns: their types, their dictionaries, their cells as JSON, and arrays from the parts
//! that were read.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, DictionaryArray, FixedSizeListArray, GenericListArray, GenericListViewArray,
    MapArray, RecordBatch, StructArray, UInt64Array, downcast_integer_array, make_array,
};
use arrow_buffer::ArrowNativeType;
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_cast::display::array_value_to_string;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, FieldRef, Schema};
use arrow_select::concat::concat;
use arrow_select::take::take;
use serde_json::{Value, json as value};

use super::dictionary::{Dictionaries, coded};
use super::elements::categories_array;
use super::leaves::{MAX_DEPTH, element_type};
use super::retype::retyped;
use crate::error::{Error, Result};
use crate::model::nested::{change_dictionaries, children, dictionaries, type_name};
use crate::model::{Chunk, Logical, Nested, Values};

fn invalid(e: arrow_schema::ArrowError) -> Error {
    Error::corrupt("a nested column is not valid").because(e)
}

/// The type of a nested column of this field, its categories empty.
///
/// # Errors
/// Refused: what even nested columns cannot have.
pub fn nested(field: &FieldRef) -> Result<Nested> {
    check_depth(field.data_type(), 0)?;
    let mut found = Vec::new();
    for (keys, values) in dictionaries(field.data_type()) {
        let t = DataType::Dictionary(Box::new(keys.clone()), Box::new(values.clone()));
        match element_type(&t)?.1 {
            Logical::Dictionary { categories, .. } => found.push(categories),
            _ => return Err(Error::internal("a dictionary without categories")),
        }
    }
    Ok(Nested { field: field.clone(), dictionaries: found, nulls: None })
}

fn check_depth(t: &DataType, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::refused(format!(
            "columns nested more than {MAX_DEPTH} deep are not supported"
        )));
    }
    children(t).into_iter().try_for_each(|f| check_depth(f.data_type(), depth + 1))
}

/// An array with its dictionaries in the places of their codes.
///
/// # Errors
/// Codes without categories.
pub fn decoded(array: &ArrayRef, nested: &Nested) -> Result<ArrayRef> {
    let types = dictionaries(nested.field.data_type());
    change_dictionaries(array, nested.field.data_type(), &mut |d, codes, _| {
        let values = categories_array(&nested.dictionaries[d], types[d].1, 0)?;
        downcast_integer_array!(
            codes => Ok(Arc::new(DictionaryArray::try_new(codes.clone(), values).map_err(invalid)?) as ArrayRef),
            other => Err(Error::internal(format!("codes of {other}")))
        )
    })
}

/// The rows of several chunks of a nested column as one array of codes.
///
/// # Errors
/// Chunks of another kind.
pub fn joined_nested(chunks: &[Chunk], nested: &Nested) -> Result<ArrayRef> {
    let mut arrays: Vec<&dyn Array> = Vec::new();
    for chunk in chunks {
        match &chunk.values {
            Values::Nested(array) => arrays.push(array.as_ref()),
            _ => return Err(Error::internal("a nested column was expected")),
        }
    }
    match arrays[..] {
        [] => Ok(arrow_array::new_empty_array(&nested.coded_type())),
        [one] => Ok(make_array(one.to_data())),
        _ => concat(&arrays).map_err(invalid),
    }
}

/// An array as an Arrow stream, to be put aside: see [`from_stream`].
///
/// # Errors
/// Types that such a stream cannot hold.
pub fn to_stream(array: &ArrayRef) -> Result<Vec<u8>> {
    let failed = |e| Error::internal(format!("an array cannot be put aside: {e}"));
    let field = Field::new("", array.data_type().clone(), true);
    let schema = Arc::new(Schema::new(vec![field]));
    let batch = RecordBatch::try_new(schema.clone(), vec![array.clone()]).map_err(failed)?;
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).map_err(failed)?;
    writer.write(&batch).map_err(failed)?;
    writer.into_inner().map_err(failed)
}

/// The array of [`to_stream`].
///
/// # Errors
/// Bytes that are not those.
pub fn from_stream(bytes: &[u8]) -> Result<ArrayRef> {
    let failed = |e| Error::internal(format!("an array that was put aside is not whole: {e}"));
    let mut reader = StreamReader::try_new(bytes, None).map_err(failed)?;
    let batch = reader.next().transpose().map_err(failed)?;
    let column = batch.and_then(|batch| batch.columns().first().cloned());
    column.ok_or_else(|| Error::internal("an array that was put aside is gone"))
}

/// Codes in the place of the keys of one batch: `codes[d]` says what each key of the `d`th
/// dictionary means, and is `None` where keys mean themselves.
///
/// # Errors
/// Corrupt keys; too many categories for the type of the codes.
pub fn recoded(array: &ArrayRef, nested: &Nested, codes: &[&[u64]], row: u64) -> Result<ArrayRef> {
    change_dictionaries(array, nested.field.data_type(), &mut |d, keys, hidden| {
        recoded_keys(keys, codes[d], hidden, row)
    })
}

/// Codes in the place of the dictionaries of an array, whose values join `dictionaries`.
///
/// # Errors
/// As [`recoded`]; values that no category can have.
pub fn encoded(
    array: &ArrayRef,
    nested: &Nested,
    dictionaries: &[Dictionaries],
    row: u64,
) -> Result<ArrayRef> {
    change_dictionaries(array, nested.field.data_type(), &mut |d, array, hidden| {
        let array = array.as_any_dictionary_opt();
        let array = array.ok_or_else(|| Error::internal("a dictionary was expected"))?;
        let codes = dictionaries[d].merge(array.values().as_ref())?;
        recoded_keys(&make_array(array.keys().to_data()), &codes, hidden, row)
    })
}

fn recoded_keys(
    keys: &ArrayRef,
    codes: &[u64],
    hidden: Option<&NullBuffer>,
    row: u64,
) -> Result<ArrayRef> {
    let nulls = NullBuffer::union(keys.nulls(), hidden);
    if nulls.as_ref().is_some_and(|n| n.null_count() == keys.len()) {
        return Ok(arrow_array::new_null_array(keys.data_type(), keys.len()));
    }
    let keys = keys.to_data().into_builder().nulls(nulls).build().map_err(invalid)?;
    let keys = make_array(keys);
    let dtype = element_type(keys.data_type())?.0;
    let (values, valid) = coded(keys.as_ref(), codes, dtype, row)?;
    codes_array(keys.data_type(), values, valid)
}

fn codes_array(t: &DataType, values: Values, valid: Option<crate::model::Buf>) -> Result<ArrayRef> {
    let Values::Fixed(values) = values else { return Err(Error::internal("codes were expected")) };
    let nulls = valid.map(|v| NullBuffer::from_iter(v.iter().map(|b| *b != 0)));
    let len = values.len() / t.primitive_width().unwrap_or(1);
    let data = arrow_data::ArrayData::builder(t.clone()).len(len).nulls(nulls).add_buffer(values);
    Ok(make_array(data.align_buffers(true).build().map_err(invalid)?))
}

/// The array of a nested type `t` from one array for each of its leaves, which have the lists and
/// structs around them but no other leaves (maps as lists of structs). Texts of dictionaries become
/// codes. `above`: which rows are null because of a struct that this is a field of.
///
/// # Errors
/// Corrupt where the leaves disagree; values that the type cannot hold.
pub fn assembled(
    t: &DataType,
    leaves: &[ArrayRef],
    above: Option<&NullBuffer>,
    dictionaries: &mut dyn Iterator<Item = &Dictionaries>,
) -> Result<ArrayRef> {
    let Some(first) = leaves.first() else {
        return Err(Error::refused(format!("{} has no columns", type_name(t))));
    };
    match t {
        DataType::Struct(fields) => {
            let (mut from, mut columns) = (0, Vec::new());
            let nulls = NullBuffer::union(above, first.nulls());
            for field in fields {
                let below = &leaves[from..from + leaf_types(field.data_type()).len()];
                from += below.len();
                let below: Vec<ArrayRef> = below.iter().map(only_field).collect::<Result<_>>()?;
                let t = field.data_type();
                columns.push(assembled(t, &below, nulls.as_ref(), dictionaries)?);
            }
            let fields = fields.iter().zip(&columns).map(|(f, c)| typed_as(f, c)).collect();
            let built = StructArray::try_new_with_length(fields, columns, nulls, first.len());
            Ok(Arc::new(built.map_err(invalid)?))
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => {
            let lists: Vec<_> = leaves.iter().map(|l| l.as_list_opt::<i32>()).collect();
            let Some(lists) = lists.into_iter().collect::<Option<Vec<_>>>() else {
                return Err(Error::internal("a list was expected"));
            };
            let rebased = |list: &GenericListArray<i32>| -> Vec<i32> {
                let first = list.offsets()[0];
                list.offsets().iter().map(|o| o - first).collect()
            };
            let offsets = rebased(lists[0]);
            if lists[1..].iter().any(|l| rebased(l) != offsets || l.nulls() != lists[0].nulls()) {
                return Err(Error::corrupt("its columns disagree on the lengths of lists"));
            }
            let below: Vec<ArrayRef> = lists
                .iter()
                .map(|l| {
                    let (start, end) = (l.offsets()[0], l.offsets()[l.len()]);
                    l.values().slice(start as usize, (end - start) as usize)
                })
                .collect();
            let values = assembled(item.data_type(), &below, None, dictionaries)?;
            with_lists(t, offsets, values, NullBuffer::union(above, lists[0].nulls()))
        }
        DataType::Dictionary(keys, _) => {
            let merged = dictionaries
                .next()
                .ok_or_else(|| Error::internal("a dictionary without categories"))?;
            let dtype = element_type(keys)?.0;
            if let Some(coded_already) = first.as_any_dictionary_opt() {
                let codes = merged.merge(coded_already.values().as_ref())?;
                let (values, valid) = coded(coded_already.keys(), &codes, dtype, 0)?;
                return codes_array(keys, values, valid);
            }
            let codes = merged.merge(first.as_ref())?;
            // Each value is a key of its own.
            let all = UInt64Array::from_iter(
                (0..first.len()).map(|i| first.is_valid(i).then_some(i as u64)),
            );
            let (values, valid) = coded(&all, &codes, dtype, 0)?;
            codes_array(keys, values, valid)
        }
        _ => retyped(first, t).map_err(invalid),
    }
}

/// The leaves below a type, in order.
pub fn leaf_types(t: &DataType) -> Vec<&DataType> {
    match &children(t)[..] {
        [] => vec![t],
        below => below.iter().flat_map(|f| leaf_types(f.data_type())).collect(),
    }
}

fn typed_as(field: &FieldRef, array: &ArrayRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(array.data_type().clone()))
}

fn only_field(array: &ArrayRef) -> Result<ArrayRef> {
    let fields = array.as_struct_opt().map(|s| s.columns()).unwrap_or_default();
    match fields {
        [one] => Ok(one.clone()),
        _ => Err(Error::internal("a struct of one field was expected")),
    }
}

/// Lists of type `t` around `values`, which begin and end at `offsets`.
///
/// # Errors
/// Lists that the type cannot have.
pub fn with_lists(
    t: &DataType,
    offsets: Vec<i32>,
    values: ArrayRef,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let sizes = || offsets.windows(2).map(|w| w[1] - w[0]);
    let wide = |offsets: &[i32]| offsets.iter().map(|&o| i64::from(o)).collect::<Vec<_>>();
    let plain = |offsets| OffsetBuffer::new(ScalarBuffer::from(offsets));
    Ok(match t {
        DataType::List(f) => Arc::new(
            GenericListArray::<i32>::try_new(typed_as(f, &values), plain(offsets), values, nulls)
                .map_err(invalid)?,
        ),
        DataType::LargeList(f) => {
            let offsets = OffsetBuffer::new(ScalarBuffer::from(wide(&offsets)));
            let f = typed_as(f, &values);
            Arc::new(GenericListArray::<i64>::try_new(f, offsets, values, nulls).map_err(invalid)?)
        }
        DataType::ListView(f) => {
            let sizes: Vec<i32> = sizes().collect();
            let f = typed_as(f, &values);
            let starts = offsets[..sizes.len()].to_vec();
            let view =
                GenericListViewArray::<i32>::try_new(f, starts.into(), sizes.into(), values, nulls);
            Arc::new(view.map_err(invalid)?)
        }
        DataType::LargeListView(f) => {
            let sizes: Vec<i64> = sizes().map(i64::from).collect();
            let f = typed_as(f, &values);
            let starts = wide(&offsets[..sizes.len()]);
            let view =
                GenericListViewArray::<i64>::try_new(f, starts.into(), sizes.into(), values, nulls);
            Arc::new(view.map_err(invalid)?)
        }
        DataType::Map(f, sorted) => {
            let entries = values.as_struct_opt().cloned();
            let entries = entries.ok_or_else(|| Error::internal("entries were expected"))?;
            let f = typed_as(f, &values);
            let map = MapArray::try_new(f, plain(offsets), entries, nulls, *sorted);
            Arc::new(map.map_err(invalid)?)
        }
        DataType::FixedSizeList(f, n) => {
            let len = offsets.len() - 1;
            let is_null = |i: usize| nulls.as_ref().is_some_and(|v| v.is_null(i));
            if let Some(i) = (0..len).find(|&i| !is_null(i) && offsets[i + 1] - offsets[i] != *n) {
                return Err(Error::corrupt(format!(
                    "a list has {} elements, its type says {n}",
                    offsets[i + 1] - offsets[i]
                )));
            }
            // A null takes the place of a list.
            let mut places = Vec::new();
            for i in 0..len {
                if is_null(i) {
                    places.extend(std::iter::repeat_n(None, *n as usize));
                } else {
                    places.extend((offsets[i]..offsets[i + 1]).map(|o| Some(o as u64)));
                }
            }
            let values = take(&values, &UInt64Array::from(places), None).map_err(invalid)?;
            let f = typed_as(f, &values);
            let lists = FixedSizeListArray::try_new_with_length(f, *n, values, nulls, len);
            Arc::new(lists.map_err(invalid)?)
        }
        other => return Err(Error::internal(format!("{} is not a list", type_name(other)))),
    })
}

/// A row of a nested column as JSON.
pub fn nested_json(nested: &Nested, array: &ArrayRef, row: usize) -> Value {
    decoded(&array.slice(row, 1), nested).map_or(Value::Null, |one| json(&one, 0))
}

/// A cell as JSON: numbers, texts, arrays, objects; bytes as Python shows them, times and decimals
/// as texts. Maps are objects where their keys are texts, otherwise lists of pairs.
pub fn json(array: &ArrayRef, i: usize) -> Value {
    if array.is_null(i) {
        return Value::Null;
    }
    let list = |values: &ArrayRef, start: usize, end: usize| {
        Value::Array((start..end).map(|i| json(values, i)).collect())
    };
    let bytes = |b: &[u8]| match std::str::from_utf8(b) {
        Ok(text) => value!(text),
        Err(_) => value!(format!("b'{}'", b.escape_ascii())),
    };
    match array.data_type() {
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter();
            let named = fields.iter().zip(columns).map(|(f, c)| (f.name().clone(), json(c, i)));
            Value::Object(named.collect())
        }
        DataType::Map(..) => map_json(array.as_map(), i),
        DataType::List(_) => {
            let l = array.as_list::<i32>();
            list(l.values(), l.offsets()[i].as_usize(), l.offsets()[i + 1].as_usize())
        }
        DataType::LargeList(_) => {
            let l = array.as_list::<i64>();
            list(l.values(), l.offsets()[i].as_usize(), l.offsets()[i + 1].as_usize())
        }
        DataType::ListView(_) => {
            let l = array.as_list_view::<i32>();
            let start = l.offsets()[i] as usize;
            list(l.values(), start, start + l.sizes()[i] as usize)
        }
        DataType::LargeListView(_) => {
            let l = array.as_list_view::<i64>();
            let start = l.offsets()[i] as usize;
            list(l.values(), start, start + l.sizes()[i] as usize)
        }
        DataType::FixedSizeList(_, n) => {
            let l = array.as_fixed_size_list();
            let start = i * *n as usize;
            list(l.values(), start, start + *n as usize)
        }
        DataType::Dictionary(..) => {
            let coded = array.as_any_dictionary();
            let key = coded.normalized_keys()[i];
            json(coded.values(), key)
        }
        DataType::Boolean => value!(array.as_boolean().value(i)),
        DataType::Utf8 => value!(array.as_string::<i32>().value(i)),
        DataType::LargeUtf8 => value!(array.as_string::<i64>().value(i)),
        DataType::Utf8View => value!(array.as_string_view().value(i)),
        DataType::Binary => bytes(array.as_binary::<i32>().value(i)),
        DataType::LargeBinary => bytes(array.as_binary::<i64>().value(i)),
        DataType::BinaryView => bytes(array.as_binary_view().value(i)),
        DataType::FixedSizeBinary(_) => bytes(array.as_fixed_size_binary().value(i)),
        t => {
            let Ok(text) = text(array, i) else { return Value::Null };
            match text.as_str() {
                "NaN" => value!("NaN"),
                "inf" => value!("Infinity"),
                "-inf" => value!("-Infinity"),
                number if t.is_integer() || t.is_floating() => {
                    serde_json::from_str(number).unwrap_or_else(|_| value!(number))
                }
                other => value!(other),
            }
        }
    }
}

/// The entries of a map: an object, or pairs where the keys are no texts or stand there twice.
fn map_json(map: &MapArray, i: usize) -> Value {
    let (start, end) = (map.value_offsets()[i] as usize, map.value_offsets()[i + 1] as usize);
    let pairs: Vec<(Value, Value)> =
        (start..end).map(|i| (json(map.keys(), i), json(map.values(), i))).collect();
    let names: std::collections::HashSet<&str> =
        pairs.iter().filter_map(|(k, _)| k.as_str()).collect();
    if names.len() == pairs.len() {
        let named = |(k, v): &(Value, Value)| Some((k.as_str()?.to_string(), v.clone()));
        return Value::Object(pairs.iter().filter_map(named).collect());
    }
    Value::Array(pairs.into_iter().map(|(k, v)| value!([k, v])).collect())
}

/// A number, time or decimal as text. The crate knows no zones by name, and no years above 262,000.
fn text(array: &ArrayRef, i: usize) -> std::result::Result<String, arrow_schema::ArrowError> {
    let as_type = |t| {
        let one = array.slice(i, 1).to_data().into_builder().data_type(t).build()?;
        array_value_to_string(&make_array(one), 0)
    };
    array_value_to_string(array, i).or_else(|unknown| match array.data_type() {
        DataType::Timestamp(unit, Some(_)) => {
            as_type(DataType::Timestamp(*unit, Some("+00:00".into())))
                .or_else(|_| as_type(DataType::Int64))
        }
        t if t.primitive_width() == Some(8) => as_type(DataType::Int64),
        _ => Err(unknown),
    })
}
