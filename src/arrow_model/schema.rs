//! Schemas as text: the value of `ARROW:schema`, as Arrow's own Parquet writers keep it.

use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow_schema::Schema;
use base64::Engine;

use super::Verified;
use crate::error::Error;

/// A schema as the value of `ARROW:schema`: a base64 IPC message.
pub fn encode_schema(schema: &Schema) -> String {
    let mut tracker = DictionaryTracker::new(true);
    let message = IpcDataGenerator::default()
        .schema_to_bytes_with_dictionary_tracker(schema, &mut tracker, &IpcWriteOptions::default())
        .ipc_message;
    let mut bytes = vec![0xff; 4];
    bytes.extend_from_slice(&(message.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&message);
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The schema of [`encode_schema`], and notes of what it lacks; `None` where the text is none.
pub fn decode_schema(text: &str) -> Option<(Schema, Vec<String>)> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
    let message = if bytes.starts_with(&[0xff; 4]) { bytes.get(8..)? } else { &bytes[..] };
    crate::error::foreign("arrow", || {
        let mut copy = Vec::new();
        let message = Verified::message(message, &mut copy)?;
        let schema = message
            .root
            .header_as_schema()
            .ok_or_else(|| Error::corrupt("the message is not a schema"))?;
        message.schema(schema)
    })
    .ok()
}
