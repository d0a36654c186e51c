//! `npk.json`, the side file of a store: what NumPack's metadata cannot hold.
//!
//! Written only where there is something to say, ignored by NumPack, and it never overrules the
//! data: an entry whose array has another dtype or shape by now is dropped with a note. Losing the
//! file loses only types: times, codes and masks are then plain integers and bools.
//!
//! ```json
//! {"npk": 1, "format": "parquet", "order": ["when", "city"], "attributes": {}, "groups": {"path": {}},
//!  "tables": [{"columns": [{"array": "when", "header": "when"}], "index": [], "matrix": null, "metadata": {}}],
//!  "arrays": [
//!    {"name": "when", "dtype": "int64", "shape": [3], "type": {"name": "timestamp", "unit": "us", "zone": "UTC"}, "valid": "when.valid"},
//!    {"name": "city", "dtype": "int32", "shape": [3], "type": {"name": "text"}, "form": "codes",
//!     "categories": {"kind": "text", "items": ["Oslo", {"base64": "/w=="}]}}]}
//! ```

mod describe;
mod entries;
mod fold;
mod mark;
mod nested;
mod offset_rows;
mod types;
mod update;

pub use describe::{describe, logical_names};
pub use fold::{LogicalArray, StoredParts, fold};
pub use mark::{
    Marks, NESTED_MARK, dictionary_marks, fold_marks, mark_tables, nested_mark, unmark_tables,
};
pub use nested::{NestedNode, whole_nested};
pub use offset_rows::{emit_rows, offsets, rows_within};
pub use update::{AppendedArray, grown, merged, renamed, with_attributes};
