//! Arrow's messages and footers (FlatBuffers), whose texts need not be UTF-8.
//!
//! Arrow calls metadata text, but C++ and Python write whatever bytes they are given. The verifier
//! refuses such a message as a whole. Here the texts at fault are blanked, so that the rest can be
//! read; metadata among them is left out with a note that names its key, and anything else (the
//! name of a column) is refused.

use std::ops::Range;

use arrow_ipc as ipc;
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};
use flatbuffers::{InvalidFlatbuffer, VerifierOptions};

use crate::error::{Error, Result};

/// More texts than this are not blanked: each costs a pass over the message.
const MAX_BLANKED: usize = 256;

/// A message or a footer, and the texts in it that were not UTF-8.
pub struct Verified<'a, T> {
    /// The message.
    pub root: T,
    texts: Texts<'a>,
}

/// Which texts of a message were blanked.
struct Texts<'a> {
    base: &'a [u8],
    blanked: Vec<Range<usize>>,
}

impl<'a> Verified<'a, ipc::Message<'a>> {
    /// Verifies a message; `copy` keeps the blanked one.
    ///
    /// # Errors
    /// Corrupt.
    pub fn message(
        bytes: &'a [u8],
        copy: &'a mut Vec<u8>,
    ) -> Result<Verified<'a, ipc::Message<'a>>> {
        let options = options(bytes);
        let texts =
            blanked(bytes, copy, |bytes| ipc::root_as_message_with_opts(&options, bytes).err())?;
        Ok(Verified {
            root: ipc::root_as_message_with_opts(&options, texts.base).map_err(|e| invalid(&e))?,
            texts,
        })
    }
}

impl<'a> Verified<'a, ipc::Footer<'a>> {
    /// Verifies a footer, as [`Verified::message`].
    ///
    /// # Errors
    /// Corrupt.
    pub fn footer(bytes: &'a [u8], copy: &'a mut Vec<u8>) -> Result<Verified<'a, ipc::Footer<'a>>> {
        let options = options(bytes);
        let texts =
            blanked(bytes, copy, |bytes| ipc::root_as_footer_with_opts(&options, bytes).err())?;
        Ok(Verified {
            root: ipc::root_as_footer_with_opts(&options, texts.base).map_err(|e| invalid(&e))?,
            texts,
        })
    }
}

impl<T> Verified<'_, T> {
    /// Texts of `metadata` that can be kept: UTF-8 both of them.
    pub fn texts<'b>(
        &self,
        metadata: impl Iterator<Item = ipc::KeyValue<'b>>,
    ) -> Vec<(String, String)> {
        let good = metadata.filter(|entry| !self.texts.are_bad(entry));
        good.filter_map(|entry| Some((entry.key()?.to_string(), entry.value()?.to_string())))
            .collect()
    }

    /// A schema of this message without the metadata that is not UTF-8, and a note for each entry
    /// of that.
    ///
    /// # Errors
    /// Corrupt.
    pub fn schema(&self, stored: ipc::Schema<'_>) -> Result<(Schema, Vec<String>)> {
        let schema = ipc::convert::try_fb_to_schema(stored)
            .map_err(|e| Error::corrupt("the schema cannot be read").because(e))?;
        if self.texts.blanked.is_empty() {
            return Ok((schema, Vec::new()));
        }
        let mut notes = Vec::new();
        let mut metadata = schema.metadata().clone();
        for entry in
            stored.custom_metadata().iter().flatten().filter(|entry| self.texts.are_bad(entry))
        {
            let key = entry.key().unwrap_or_default();
            metadata.remove(key);
            notes.push(format!("the metadata '{key}' is left out: it is not UTF-8 text"));
        }
        let mut fields = Vec::new();
        for (field, stored) in schema.fields().iter().zip(stored.fields().iter().flatten()) {
            fields.push(self.field(field, stored, &mut notes)?);
        }
        Ok((Schema::new_with_metadata(fields, metadata), notes))
    }

    fn field(
        &self,
        field: &FieldRef,
        stored: ipc::Field<'_>,
        notes: &mut Vec<String>,
    ) -> Result<FieldRef> {
        if stored.name().is_some_and(|name| self.texts.is_bad(name)) {
            return Err(Error::corrupt(format!(
                "the name '{}' of a column is not UTF-8 text",
                field.name()
            )));
        }
        let mut metadata = field.metadata().clone();
        for entry in
            stored.custom_metadata().iter().flatten().filter(|entry| self.texts.are_bad(entry))
        {
            let key = entry.key().unwrap_or_default();
            metadata.remove(key);
            notes.push(format!(
                "the metadata '{key}' of the column '{}' is left out: it is not UTF-8 text",
                field.name()
            ));
        }
        let below: Vec<ipc::Field<'_>> = stored.children().iter().flatten().collect();
        let mut one = |f: &FieldRef| match below.first() {
            Some(child) => self.field(f, *child, notes),
            None => Ok(f.clone()),
        };
        let data_type = match field.data_type() {
            DataType::List(f) => DataType::List(one(f)?),
            DataType::LargeList(f) => DataType::LargeList(one(f)?),
            DataType::FixedSizeList(f, n) => DataType::FixedSizeList(one(f)?, *n),
            DataType::Map(f, sorted) => DataType::Map(one(f)?, *sorted),
            DataType::Struct(fields) => {
                let children: Result<Fields> = fields
                    .iter()
                    .zip(below)
                    .map(|(f, child)| self.field(f, child, notes))
                    .collect();
                DataType::Struct(children?)
            }
            other => other.clone(),
        };
        Ok(Field::clone(field).with_data_type(data_type).with_metadata(metadata).into())
    }
}

impl Texts<'_> {
    fn is_bad(&self, text: &str) -> bool {
        let start = (text.as_ptr() as usize).wrapping_sub(self.base.as_ptr() as usize);
        self.blanked.iter().any(|range| range.start == start)
    }
    fn are_bad(&self, entry: &ipc::KeyValue<'_>) -> bool {
        [entry.key(), entry.value()].into_iter().flatten().any(|text| self.is_bad(text))
    }
}

/// The default bounds are too low for hundreds of thousands of columns: these grow with the bytes.
fn options(bytes: &[u8]) -> VerifierOptions {
    let default = VerifierOptions::default();
    VerifierOptions { max_tables: default.max_tables.max(bytes.len() / 8), ..default }
}

fn invalid(e: &InvalidFlatbuffer) -> Error {
    let text = e.to_string();
    Error::corrupt(format!(
        "the metadata of a message is not valid ({})",
        text.lines().next().unwrap_or_default()
    ))
}

/// The bytes, or `copy` of them with question marks in place of what is not UTF-8. `check` tells
/// what is wrong.
fn blanked<'a>(
    bytes: &'a [u8],
    copy: &'a mut Vec<u8>,
    check: impl Fn(&[u8]) -> Option<InvalidFlatbuffer>,
) -> Result<Texts<'a>> {
    let mut blanked: Vec<Range<usize>> = Vec::new();
    loop {
        let base = if blanked.is_empty() { bytes } else { copy.as_slice() };
        match check(base) {
            None => break,
            Some(InvalidFlatbuffer::Utf8Error { range, .. }) if blanked.len() < MAX_BLANKED => {
                if blanked.is_empty() {
                    copy.extend_from_slice(bytes);
                }
                copy[range.clone()].iter_mut().filter(|b| !b.is_ascii()).for_each(|b| *b = b'?');
                blanked.push(range);
            }
            Some(e) => return Err(invalid(&e)),
        }
    }
    Ok(Texts { base: if blanked.is_empty() { bytes } else { copy }, blanked })
}
