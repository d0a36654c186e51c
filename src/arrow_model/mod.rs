//! Arrow schemas and arrays ↔ the model: what Parquet and Arrow IPC files share.
//!
//! | Arrow | model |
//! |---|---|
//! | boolean, integers, floats, half floats | plain arrays of the same type |
//! | timestamp, date, time, duration | the logical type of the same name |
//! | (large) string, string view | [`Logical::Text`] |
//! | (large, fixed-size) binary, binary view | [`Logical::Binary`] |
//! | decimal of 32 to 256 bits | [`Logical::Decimal`]: int64, or words of uint64 |
//! | dictionary | [`Logical::Dictionary`] |
//! | struct | one array a field, `NAME.field` |
//! | fixed-size list, fixed_shape_tensor, lists of equal lengths | inner dimensions |
//! | lists of uneven lengths, one level, of plain elements | [`Logical::List`] |
//! | null | [`Logical::Text`], every row null |
//! | everything else: maps, structs that are null, lists of texts, unions, intervals, … | [`Logical::Nested`] |
//!
//! The exact Arrow type is kept in the table's metadata (`ARROW:schema`, see
//! [`crate::model::Table`]) and used again on the way back, as far as it still fits the array.

mod dictionary;
mod elements;
mod leaves;
mod lists;
mod memory;
mod message;
mod nested;
mod read;
mod retype;
mod schema;
mod usual;
mod values;
mod write;

pub use crate::model::nested::type_name;
pub use dictionary::{Dictionaries, coded};
pub use elements::{cast_exact, categories_array};
pub use leaves::{
    Leaf, LeafType, Level, element_type, fields_below, inner_dims, leaf_type, leaves, settle_lists,
    with_order,
};
pub use lists::{first_inner_null, inner_null, list_lengths};
pub use memory::{Held, MemoryLimit};
pub use message::Verified;
pub use nested::{
    assembled, decoded, encoded, from_stream, joined_nested, json, nested, nested_json, recoded,
    to_stream, with_lists,
};
pub use read::{chunk, descend};
pub use retype::retyped;
pub use schema::{
    change_field, decode_schema, encode_schema, pandas_index, recorded_field, schema_metadata,
};
pub use usual::usual_element;
pub use values::fixed_buffer;
pub use write::array;
