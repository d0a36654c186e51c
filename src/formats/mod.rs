//! The formats. A format is one file (or folder) here and one line in [`FORMATS`]; nothing else lists formats by hand.

use crate::format::Format;

pub mod npk;

/// Every format, in the order of the documentation and of detection.
pub static FORMATS: &[&dyn Format] = &[
    &npk::Npk,
];

/// The format of this name.
pub fn by_name(name: &str) -> Option<&'static dyn Format> {
    FORMATS.iter().copied().find(|f| f.name() == name)
}
