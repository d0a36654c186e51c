//! Columns that are more than rows of numbers or texts: lists, structs, maps and their mixtures.
//!
//! They travel as Arrow arrays. Where their type has a dictionary, the arrays have its codes; the
//! categories are beside the type, so that they may grow while the column is read.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, make_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, UnionFields};

use super::Categories;
use crate::error::{Error, Result};

/// The type of a nested column.
#[derive(Clone, Debug)]
pub struct Nested {
    /// Its field in Arrow, with dictionaries in their places.
    pub field: FieldRef,
    /// The categories of its dictionaries, in the order of a walk through the type.
    pub dictionaries: Vec<Arc<Categories>>,
}

impl PartialEq for Nested {
    fn eq(&self, other: &Nested) -> bool {
        let kinds =
            |n: &Nested| n.dictionaries.iter().map(|c| c.kind().clone()).collect::<Vec<_>>();
        self.field.data_type() == other.field.data_type() && kinds(self) == kinds(other)
    }
}

impl Nested {
    /// The type of the arrays that travel.
    pub fn coded_type(&self) -> DataType {
        coded(self.field.data_type())
    }
}

/// A type with the codes in place of its dictionaries.
pub fn coded(t: &DataType) -> DataType {
    match t {
        DataType::Dictionary(keys, _) => keys.as_ref().clone(),
        _ => with_children(t, &mut |child| {
            Arc::new(child.as_ref().clone().with_data_type(coded(child.data_type())))
        }),
    }
}

/// The fields below a type, in the order of Arrow's child arrays.
pub fn children(t: &DataType) -> Vec<&FieldRef> {
    match t {
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::LargeListView(f)
        | DataType::FixedSizeList(f, _)
        | DataType::Map(f, _) => vec![f],
        DataType::Struct(fields) => fields.iter().collect(),
        DataType::Union(fields, _) => fields.iter().map(|(_, f)| f).collect(),
        DataType::RunEndEncoded(ends, values) => vec![ends, values],
        _ => Vec::new(),
    }
}

/// The type with other fields below it.
pub fn with_children(t: &DataType, of: &mut dyn FnMut(&FieldRef) -> FieldRef) -> DataType {
    match t {
        DataType::List(f) => DataType::List(of(f)),
        DataType::LargeList(f) => DataType::LargeList(of(f)),
        DataType::ListView(f) => DataType::ListView(of(f)),
        DataType::LargeListView(f) => DataType::LargeListView(of(f)),
        DataType::FixedSizeList(f, n) => DataType::FixedSizeList(of(f), *n),
        DataType::Map(f, sorted) => DataType::Map(of(f), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(of).collect::<Fields>()),
        DataType::Union(fields, mode) => {
            let fields = fields.iter().map(|(id, f)| (id, of(f))).collect::<UnionFields>();
            DataType::Union(fields, *mode)
        }
        DataType::RunEndEncoded(ends, values) => DataType::RunEndEncoded(ends.clone(), of(values)),
        other => other.clone(),
    }
}

/// The dictionaries of a type: the types of their keys and values, in the order of a walk.
pub fn dictionaries(t: &DataType) -> Vec<(&DataType, &DataType)> {
    match t {
        DataType::Dictionary(keys, values) => vec![(keys, values)],
        _ => children(t).into_iter().flat_map(|f| dictionaries(f.data_type())).collect(),
    }
}

/// The places of the dictionaries of a type that is at `path`: the places of the fields on the way,
/// in the order of [`dictionaries`].
pub fn dictionary_paths(t: &DataType, path: Vec<usize>) -> Vec<Vec<usize>> {
    if let DataType::Dictionary(..) = t {
        return vec![path];
    }
    let below = |(i, f): (usize, &FieldRef)| {
        dictionary_paths(f.data_type(), path.iter().copied().chain([i]).collect())
    };
    children(t).into_iter().enumerate().flat_map(below).collect()
}

/// What takes an array of a dictionary: its number among the dictionaries of the type, the array,
/// and (as nulls) which of its elements are behind a null above them, where they may be anything.
pub type Change<'a> = &'a mut dyn FnMut(usize, &ArrayRef, Option<&NullBuffer>) -> Result<ArrayRef>;

/// Gives every array of a dictionary below `array` to `change`, and puts what comes back in its
/// place. `t` is the type with dictionaries.
///
/// # Errors
/// Those of `change`; arrays that do not fit together.
pub fn change_dictionaries(array: &ArrayRef, t: &DataType, change: Change<'_>) -> Result<ArrayRef> {
    if dictionaries(t).is_empty() {
        return Ok(array.clone());
    }
    let mut next = 0;
    Ok(make_array(changed(&array.to_data(), t, None, &mut next, change)?))
}

/// Which elements below an array are behind a null of it, or of what is above it.
fn hidden_below(data: &ArrayData, hidden: Option<&NullBuffer>) -> Option<NullBuffer> {
    let nulls = NullBuffer::union(hidden, data.nulls()).filter(|n| n.null_count() > 0)?;
    let array = make_array(data.clone());
    let child = data.child_data().first()?;
    let ranges: Vec<(usize, usize)> = match data.data_type() {
        DataType::Struct(_) => return Some(nulls),
        DataType::List(_) | DataType::Map(..) => {
            let offsets = data.buffers().first()?.typed_data::<i32>();
            let offsets = &offsets[data.offset()..=data.offset() + data.len()];
            offsets.windows(2).map(|w| (w[0] as usize, w[1] as usize)).collect()
        }
        DataType::LargeList(_) => {
            let list = array.as_list_opt::<i64>()?;
            list.offsets().windows(2).map(|w| (w[0] as usize, w[1] as usize)).collect()
        }
        DataType::FixedSizeList(_, n) => {
            let n = *n as usize;
            (0..data.len()).map(|i| (i * n, (i + 1) * n)).collect()
        }
        _ => return None,
    };
    let mut visible = vec![true; child.len()];
    for (i, (start, end)) in ranges.into_iter().enumerate() {
        if nulls.is_null(i) {
            visible.get_mut(start..end)?.fill(false);
        }
    }
    Some(NullBuffer::from(visible))
}

fn changed(
    data: &ArrayData,
    t: &DataType,
    hidden: Option<&NullBuffer>,
    next: &mut usize,
    change: Change<'_>,
) -> Result<ArrayData> {
    if let DataType::Dictionary(..) = t {
        *next += 1;
        return Ok(change(*next - 1, &make_array(data.clone()), hidden)?.to_data());
    }
    let hidden = hidden_below(data, hidden);
    let mut below = Vec::new();
    for (child, field) in data.child_data().iter().zip(children(t)) {
        below.push(changed(child, field.data_type(), hidden.as_ref(), next, change)?);
    }
    if below.is_empty() {
        return Ok(data.clone());
    }
    let mut types = below.iter().map(|d| d.data_type().clone());
    let with = with_children(data.data_type(), &mut |f: &Arc<Field>| {
        Arc::new(f.as_ref().clone().with_data_type(types.next().unwrap_or(DataType::Null)))
    });
    // The run ends come first and stay; `with_children` asks for the values alone.
    let with = match (with, below.as_slice()) {
        (DataType::RunEndEncoded(ends, values), [_, last]) => {
            let values = values.as_ref().clone().with_data_type(last.data_type().clone());
            DataType::RunEndEncoded(ends, Arc::new(values))
        }
        (other, _) => other,
    };
    data.clone()
        .into_builder()
        .data_type(with)
        .child_data(below)
        .build()
        .map_err(|e| Error::internal(format!("an array cannot be put together: {e}")))
}

/// Arrow's name of a type, short.
pub fn type_name(t: &DataType) -> String {
    match t {
        DataType::Map(f, _) => match children(f.data_type())[..] {
            [key, value] => {
                format!("map<{}, {}>", type_name(key.data_type()), type_name(value.data_type()))
            }
            _ => "map".into(),
        },
        DataType::Struct(fields) => {
            let one = |f: &FieldRef| format!("{}: {}", f.name(), type_name(f.data_type()));
            format!("struct<{}>", fields.iter().map(one).collect::<Vec<_>>().join(", "))
        }
        DataType::Union(..) => "union".into(),
        DataType::List(f) => format!("list<{}>", type_name(f.data_type())),
        DataType::LargeList(f) => format!("large_list<{}>", type_name(f.data_type())),
        DataType::FixedSizeList(f, n) => {
            format!("fixed_size_list<{}>[{n}]", type_name(f.data_type()))
        }
        DataType::ListView(f) => format!("list_view<{}>", type_name(f.data_type())),
        DataType::LargeListView(f) => format!("large_list_view<{}>", type_name(f.data_type())),
        DataType::RunEndEncoded(..) => "run_end_encoded".into(),
        DataType::Utf8 => "string".into(),
        DataType::LargeUtf8 => "large_string".into(),
        DataType::Utf8View => "string_view".into(),
        DataType::Dictionary(k, v) => format!("dictionary<{}, {}>", type_name(k), type_name(v)),
        DataType::Timestamp(u, None) => format!("timestamp[{}]", unit_name(u)),
        DataType::Timestamp(u, Some(z)) => format!("timestamp[{}, {z}]", unit_name(u)),
        DataType::Duration(u) => format!("duration[{}]", unit_name(u)),
        DataType::Time32(u) | DataType::Time64(u) => format!("time[{}]", unit_name(u)),
        DataType::Float16 => "halffloat".into(),
        DataType::Interval(_) => "interval".into(),
        other => other.to_string().to_lowercase(),
    }
}

fn unit_name(unit: &arrow::datatypes::TimeUnit) -> &'static str {
    use arrow::datatypes::TimeUnit as U;
    match unit {
        U::Second => "s",
        U::Millisecond => "ms",
        U::Microsecond => "us",
        U::Nanosecond => "ns",
    }
}
