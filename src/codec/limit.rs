//! How much a decompression may give, and what is said of data that gives more or is damaged.

use crate::error::{Error, Result};

/// How much may come out.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// How much is due, where that is known.
    pub expected: Option<usize>,
    /// The most. More than this is corrupt.
    pub most: usize,
}

impl Limit {
    /// So much is due, and no more is taken.
    pub fn exactly(bytes: usize) -> Limit {
        Limit { expected: Some(bytes), most: bytes }
    }
    /// At most this.
    pub fn most(bytes: usize) -> Limit {
        Limit { expected: None, most: bytes }
    }
}

pub(super) fn damaged(what: &str) -> Error {
    Error::corrupt(format!("the {what} data is damaged"))
}

pub(super) fn too_long(what: &str, most: usize) -> Error {
    Error::corrupt(format!("the {what} data holds more than the {most} bytes that are expected"))
}

/// Whether data was more than its limit, by what it holds or declares.
pub fn is_too_much(e: &Error) -> bool {
    let said = e.message();
    said.contains(" data holds more than the ")
        || said.contains(" bytes, at most ") && said.ends_with(" are expected")
}

/// An empty vector with room, or an error where the memory is not there.
///
/// # Errors
/// Failed.
pub fn room(bytes: usize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    out.try_reserve_exact(bytes).map_err(|_| {
        Error::failed(format!("{bytes} bytes of memory are needed and not available"))
    })?;
    Ok(out)
}

pub(super) fn zeroed(bytes: usize) -> Result<Vec<u8>> {
    if bytes > 256 << 20 {
        room(bytes)?; // asks whether the memory is there; the zeroed one takes it only as it is written
    }
    Ok(vec![0; bytes])
}
