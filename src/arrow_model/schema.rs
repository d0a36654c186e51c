//! Schemas as text: the value of `ARROW:schema`, as Arrow's own Parquet writers keep it.

use std::sync::Arc;

use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow_schema::{Field, FieldRef, Fields, Schema};
use base64::Engine;

use super::message::Verified;
use crate::error::Error;
use crate::model::Attributes;

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

/// Changes the field of a column in the schema that a table's metadata records; `None` takes it out,
/// so that it gets the usual type of its array.
pub fn change_field(
    metadata: &mut Attributes,
    header: &str,
    change: impl Fn(&Field) -> Option<Field>,
) {
    let recorded = metadata.get("ARROW:schema").and_then(|s| s.as_str()).and_then(decode_schema);
    let Some((schema, _)) = recorded else { return };
    let changed = |field: &FieldRef| match field.name() == header {
        true => change(field).map(Arc::new),
        false => Some(field.clone()),
    };
    let fields: Fields = schema.fields().iter().filter_map(changed).collect();
    metadata.insert("ARROW:schema".into(), encode_schema(&Schema::new(fields)).into());
}

/// The field of a column in the schema that a table's metadata records.
pub fn recorded_field(metadata: &Attributes, header: &str) -> Option<Field> {
    let (schema, _) = decode_schema(metadata.get("ARROW:schema")?.as_str()?)?;
    schema.field_with_name(header).ok().cloned()
}

/// The arrays that pandas' schema metadata names as its index.
pub fn pandas_index(metadata: &Attributes, columns: &[crate::model::Column]) -> Vec<String> {
    let text = metadata.get("pandas").and_then(|p| p.as_str()).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let named = json.get("index_columns").and_then(|l| l.as_array()).cloned().unwrap_or_default();
    let mut arrays = std::collections::HashMap::new();
    for column in columns {
        arrays.entry(column.header.as_str()).or_insert(&column.array);
    }
    named.iter().filter_map(|v| arrays.get(v.as_str()?).map(|array| array.to_string())).collect()
}

/// A schema's metadata: attributes of the whole, and what a table keeps (`pandas`, and the schema
/// itself).
pub fn schema_metadata(schema: &Schema) -> (Attributes, Attributes) {
    let (mut attributes, mut table) = (Attributes::new(), Attributes::new());
    let mut entries: Vec<(&String, &String)> = schema.metadata().iter().collect();
    entries.sort();
    for (key, value) in entries {
        match key.as_str() {
            "ARROW:schema" => {}
            "pandas" => {
                table.insert(key.clone(), value.clone().into());
            }
            _ => {
                attributes.insert(key.clone(), value.clone().into());
            }
        }
    }
    let bare = Schema::new(schema.fields().clone());
    table.insert("ARROW:schema".into(), encode_schema(&bare).into());
    (attributes, table)
}
