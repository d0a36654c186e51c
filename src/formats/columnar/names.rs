//! Names of the arrays of columns.

use crate::error::Result;
use crate::format::OnDuplicate;

/// Names for columns with these headers: an empty one becomes `col<position>`, a repeated one
/// follows `on_duplicate` (`None`: the column is left out).
///
/// # Errors
/// Refused where a name is repeated and nothing else was asked for.
pub fn column_names(headers: &[String], on_duplicate: OnDuplicate) -> Result<Vec<Option<String>>> {
    let names: Vec<String> = headers
        .iter()
        .enumerate()
        .map(|(i, h)| if h.is_empty() { format!("col{i}") } else { h.clone() })
        .collect();
    crate::format::duplicates::unique(&names, on_duplicate, &|i| format!("column {}", i + 1))
}
