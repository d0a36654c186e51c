//! The library's front door: what programs use, re-exported at the crate's root. It stands on the same
//! rooms as the commands do.

use std::path::Path;

use crate::error::{Error, Result};

mod array;
mod convert;
mod data;
mod dataset;
#[cfg(feature = "dlpack")]
mod dlpack;
mod element;
mod flags;
mod memory;
mod room;
mod store;

pub use array::{Array, Info};
pub use convert::{OnMessage, Options, Report, convert};
pub use data::Data;
pub use dataset::{Dataset, OpenOptions, open};
pub use element::{Element, Scalar};
pub use store::{Store, StoreOptions};

/// A path or URL as the command line would have it.
fn text_of(path: &Path) -> Result<String> {
    path.to_str()
        .map(str::to_string)
        .ok_or_else(|| Error::missing("its name is not UTF-8").file(path.display().to_string()))
}
