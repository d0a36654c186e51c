//! Columns that are more than rows of numbers or texts: lists, structs, maps and their mixtures.
//!
//! They travel as Arrow arrays. Where their type has a dictionary, the arrays have its codes; the
//! categories are beside the type, so that they may grow while the column is read.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, make_array};
use arrow_buffer::NullBuffer;
use arrow_data::ArrayData;
use arrow_schema::{DataType, Field, FieldRef, Fields, UnionFields};

use super::Categories;
use crate::error::{Error, Result};

/// The type of a nested column.
#[derive(Clone, Debug)]
pub struct Nested {
    /// Its field in Arrow, with dictionaries in their places.
    pub field: FieldRef,
    /// The categories of its dictionaries, in the order of a walk through the type.
    pub dictionaries: Vec<Arc<Categories>>,
    /// For each field of the type, in the order of [`walk`], whether a null does occur; `None`
    /// where only the type tells whether one may.
    pub nulls: Option<Vec<bool>>,
}

/// Where nulls may be is no part of the type.
impl PartialEq for Nested {
    fn eq(&self, other: &Nested) -> bool {
        let kinds =
            |n: &Nested| n.dictionaries.iter().map(|c| c.kind().clone()).collect::<Vec<_>>();
        self.field.data_type() == other.field.data_type() && kinds(self) == kinds(other)
    }
}

impl Nested {
    /// Nulls may be where they are in another column of this type, too.
    pub fn add_nulls(&mut self, other: &Nested) {
        self.nulls = self.nulls.take().zip(other.nulls.as_ref()).map(|(mut nulls, others)| {
            nulls.iter_mut().zip(others).for_each(|(null, other)| *null |= other);
            nulls
        });
    }
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

/// A type and all types below it, each before those that are below it.
pub fn walk(t: &DataType) -> Vec<&DataType> {
    let below = children(t).into_iter().flat_map(|f| walk(f.data_type()));
    std::iter::once(t).chain(below).collect()
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
    // Lists that are null have no elements, but for odd writers.
    let nulls = NullBuffer::union(hidden, data.nulls()).filter(|n| n.null_count() > 0);
    let hidden = match t {
        DataType::Struct(_) => nulls.clone(),
        DataType::FixedSizeList(_, n) => nulls.as_ref().map(|nulls| nulls.expand(*n as usize)),
        _ => None,
    };
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
    let mut builder = data.clone().into_builder().data_type(with).child_data(below);
    if hidden.is_some() {
        builder = builder.nulls(nulls);
    }
    builder.build().map_err(|e| Error::internal(format!("an array cannot be put together: {e}")))
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

fn unit_name(unit: &arrow_schema::TimeUnit) -> &'static str {
    use arrow_schema::TimeUnit as U;
    match unit {
        U::Second => "s",
        U::Millisecond => "ms",
        U::Microsecond => "us",
        U::Nanosecond => "ns",
    }
}

/// How a nested array, or a part of one, lies in plain arrays. The names are those of logical
/// arrays; what kind of part it is, its type tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Parts {
    /// The array of a leaf; otherwise a name that no array has.
    pub name: String,
    /// The int64 array of rows + 1 offsets, of lists and maps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offsets: Option<String>,
    /// The bool array of one element a row, false at nulls; leaves have masks of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid: Option<String>,
    /// The fields of a struct, the items of a list, the keys and values of a map.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Parts>,
}

/// What a type is taken apart into.
#[derive(Clone, Debug)]
pub enum PartKind {
    /// Numbers, texts, times: an array of its own.
    Leaf,
    /// Fields of the same rows.
    Struct,
    /// Items between offsets: lists and list views; of maps the keys and the values.
    List,
    /// So many items a row.
    Fixed(u64),
}

/// What a type is taken apart into, and its parts: their names behind a dot, and their fields.
/// `None` for types that have no plain form.
pub fn parts_of(t: &DataType) -> Option<(PartKind, Vec<(String, FieldRef)>)> {
    let values = |f: &FieldRef| vec![("values".to_string(), f.clone())];
    Some(match t {
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::LargeListView(f) => (PartKind::List, values(f)),
        DataType::FixedSizeList(f, n) => (PartKind::Fixed(u64::try_from(*n).ok()?), values(f)),
        DataType::Map(entries, _) => match children(entries.data_type())[..] {
            [keys, items] => (
                PartKind::List,
                vec![("keys".into(), keys.clone()), ("values".into(), items.clone())],
            ),
            _ => return None,
        },
        DataType::Struct(fields) => {
            let name = |(i, f): (usize, &FieldRef)| {
                let name = if f.name().is_empty() { i.to_string() } else { f.name().clone() };
                (name, f.clone())
            };
            (PartKind::Struct, fields.iter().enumerate().map(name).collect())
        }
        DataType::Union(..) | DataType::RunEndEncoded(..) | DataType::Interval(_) => return None,
        _ => (PartKind::Leaf, Vec::new()),
    })
}

/// Which parts of a nested column need masks.
#[derive(Clone, Debug)]
pub struct Masks {
    /// Whether it has nulls, its own or those of a struct that it is a field of.
    pub needed: bool,
    /// Its parts, as [`parts_of`] has them.
    pub below: Vec<Masks>,
}

impl Masks {
    /// Those of a column in which nulls are where they were found; where nobody looked, they may be
    /// wherever the type allows them.
    pub fn found(nested: &Nested) -> Masks {
        let mut found = nested.nulls.as_ref().map(|nulls| nulls.iter().copied());
        Masks::of(&nested.field, &mut || found.as_mut().map(|f| f.next().unwrap_or(true)), false)
    }

    /// Those of a type, wherever it allows nulls.
    pub fn allowed(field: &FieldRef) -> Masks {
        Masks::of(field, &mut || None, false)
    }

    /// `next` tells whether the next field of a walk has nulls; `hidden`: whether a struct above is
    /// null somewhere.
    fn of(field: &FieldRef, next: &mut dyn FnMut() -> Option<bool>, hidden: bool) -> Masks {
        let t = field.data_type();
        let own = match next() {
            _ if *t == DataType::Null => true,
            Some(found) => found,
            None => field.is_nullable(),
        };
        let (needed, hidden) = (own || hidden && field.is_nullable(), own || hidden);
        let hides = matches!(t, DataType::Struct(_) | DataType::FixedSizeList(..));
        let mut below: Vec<Masks> =
            children(t).into_iter().map(|f| Masks::of(f, next, hides && hidden)).collect();
        // Keys and values of a map are fields of its entries.
        if matches!(t, DataType::Map(..)) {
            below = below.pop().map_or_else(Vec::new, |entries| entries.below);
        }
        Masks { needed, below }
    }
}

impl Parts {
    /// The parts of an array of this name and field.
    ///
    /// # Errors
    /// Refused: a type that has no plain form, by its name.
    pub fn of(name: &str, field: &FieldRef, masks: &Masks) -> Result<Parts> {
        let t = field.data_type();
        let (kind, below) = parts_of(t)
            .ok_or_else(|| Error::refused(format!("{} has no plain form", type_name(t))))?;
        let mut parts = Vec::new();
        for ((part, field), masks) in below.iter().zip(&masks.below) {
            parts.push(Parts::of(&format!("{name}.{part}"), field, masks)?);
        }
        let leaf = matches!(kind, PartKind::Leaf);
        // Something must tell the rows of a struct without fields, and of lists without elements.
        let rowless = parts.is_empty() || matches!(kind, PartKind::Fixed(0));
        let mask = !leaf && (masks.needed || rowless);
        Ok(Parts {
            name: name.to_string(),
            offsets: matches!(kind, PartKind::List).then(|| format!("{name}.offsets")),
            valid: mask.then(|| format!("{name}.valid")),
            parts,
        })
    }
    /// The arrays of its leaves, in order.
    pub fn leaves(&self) -> Vec<&str> {
        if self.offsets.is_none() && self.valid.is_none() && self.parts.is_empty() {
            return vec![&self.name];
        }
        self.parts.iter().flat_map(Parts::leaves).collect()
    }
    /// The arrays of its offsets and masks, in order.
    pub fn companions(&self) -> Vec<&str> {
        let own = self.offsets.iter().chain(&self.valid).map(String::as_str);
        own.chain(self.parts.iter().flat_map(Parts::companions)).collect()
    }
    /// All its arrays.
    pub fn arrays(&self) -> Vec<&str> {
        self.companions().into_iter().chain(self.leaves()).collect()
    }
    /// Changes every name.
    pub fn rename(&mut self, to: &dyn Fn(&str) -> String) {
        let names = [Some(&mut self.name), self.offsets.as_mut(), self.valid.as_mut()];
        names.into_iter().flatten().for_each(|name| *name = to(name));
        self.parts.iter_mut().for_each(|p| p.rename(to));
    }
}

/// A nested array that lies in plain arrays of a source.
#[derive(Clone, Debug)]
pub struct TakenApart {
    /// Its name.
    pub name: String,
    /// Its field in Arrow.
    pub field: FieldRef,
    /// Its parts.
    pub parts: Parts,
}
