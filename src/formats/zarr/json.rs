//! JSON as Zarr's writers write it: with bare `NaN` and `Infinity` in attributes, and with a limit for hostile documents that would fill the memory.

use serde_json::Value;

use crate::error::{Error, Result};

/// Bytes that one parsed value takes, at least.
const VALUE_BYTES: u64 = 96;

/// Parses a document of a node. Bare `NaN`, `Infinity` and `-Infinity` become strings.
///
/// # Errors
/// Corrupt; refused where the parsed document would pass `memory_bytes`.
pub fn parse(bytes: &[u8], memory_bytes: u64) -> Result<Value> {
    let (mut values, mut in_string, mut escaped) = (1u64, false, false);
    let mut fixed: Option<Vec<u8>> = None;
    let mut i = 0;
    while i < bytes.len() {
        let b = bytes[i];
        if in_string {
            match b {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else {
            match b {
                b'"' => in_string = true,
                b',' | b'[' | b'{' | b':' => values += 1,
                b'N' | b'I' | b'-' => {
                    let word: &[u8] =
                        [&b"NaN"[..], b"Infinity", b"-Infinity"].into_iter().find(|w| bytes[i..].starts_with(w)).unwrap_or(b"");
                    if !word.is_empty() {
                        let out = fixed.get_or_insert_with(|| bytes[..i].to_vec());
                        out.push(b'"');
                        out.extend_from_slice(word);
                        out.push(b'"');
                        i += word.len();
                        continue;
                    }
                }
                _ => {}
            }
        }
        if let Some(out) = &mut fixed {
            out.push(b);
        }
        i += 1;
    }
    let needed = values.saturating_mul(VALUE_BYTES).saturating_add(bytes.len() as u64);
    if needed > memory_bytes {
        return Err(Error::refused(format!(
            "the metadata has {values} values, more than fit into the memory limit of {memory_bytes} bytes"
        ))
        .hint("give a larger --memory-limit"));
    }
    serde_json::from_slice(fixed.as_deref().unwrap_or(bytes)).map_err(|e| Error::corrupt("the metadata is not JSON").because(e))
}
