//! Keys of dicts: as part of a name, as part of the structure, and which of them Python holds
//! equal.

use serde_json::{Value, json};

use super::walker::Walker;
use crate::codec::pickle::{Id, Node, Pickle, long_digits};
use crate::error::{Error, Result};

/// The longest key.
const MAX_BYTES: usize = 64 << 10;
/// Bytes of a key that count as one step of the walk.
const STEP_BYTES: usize = 64;

/// Keys that Python holds equal.
#[derive(PartialEq, Eq, Hash)]
pub(super) enum Key<'a> {
    Text(&'a str),
    Int(i64),
}

pub(super) fn key_of(pickle: &Pickle, key: Id) -> Option<Key<'_>> {
    pickle.text(key).map(Key::Text).or_else(|| pickle.int(key).map(Key::Int))
}

/// A key in the structure; `None` where it cannot be written back.
pub(super) fn key_tree(pickle: &Pickle, key: Id, depth: usize) -> Option<Value> {
    if let Some(text) = pickle.text(key) {
        return Some(json!(text));
    }
    match pickle.node(key) {
        Node::None => Some(Value::Null),
        Node::Bool(b) => Some(json!(b)),
        Node::Int(n) => Some(json!(n)),
        Node::Float(f) if f.is_finite() => Some(json!(f)),
        Node::Tuple(items) if depth < 3 && items.len() <= 8 => {
            let parts: Option<Vec<Value>> =
                items.iter().map(|&i| key_tree(pickle, i, depth + 1)).collect();
            Some(json!({"tuple": parts?}))
        }
        _ => None,
    }
}

impl Walker<'_> {
    /// Counts what it takes to look at a text, before it is looked at.
    pub(super) fn key_steps(&mut self, key: Id) -> Result<()> {
        let len = self.pickle.text_len(key).unwrap_or(0);
        if len > MAX_BYTES {
            return Err(Error::refused(format!(
                "a key of the checkpoint has {len} bytes; at most {MAX_BYTES} are allowed"
            )));
        }
        self.charge_steps(len / STEP_BYTES)
    }

    /// A key as part of a name: text as it is, the rest as Python prints it.
    pub(super) fn key_name(&mut self, key: Id) -> Result<String> {
        let mut name = String::new();
        self.spell(key, 0, &mut name)?;
        Ok(name)
    }

    fn spell(&mut self, key: Id, depth: usize, out: &mut String) -> Result<()> {
        let pickle = self.pickle;
        self.key_steps(key)?;
        if let Some(text) = pickle.text(key) {
            let quote = if depth > 0 { "'" } else { "" };
            out.extend([quote, text, quote]);
        } else {
            match pickle.node(key) {
                Node::None => out.push_str("None"),
                Node::Bool(true) => out.push_str("True"),
                Node::Bool(false) => out.push_str("False"),
                Node::Int(n) => out.push_str(&n.to_string()),
                Node::Float(f) => out.push_str(&f.to_string()),
                Node::Long(span) => {
                    out.push_str(&long_digits(pickle.span(*span)).unwrap_or_else(|| "int".into()))
                }
                Node::Tuple(items) if depth < 3 && items.len() <= 8 => {
                    self.charge_steps(items.len())?;
                    out.push('(');
                    for (i, &item) in items.iter().enumerate() {
                        if i > 0 {
                            out.push_str(", ");
                        }
                        self.spell(item, depth + 1, out)?;
                    }
                    out.push_str(if items.len() == 1 { ",)" } else { ")" });
                }
                Node::Global(_) => out.push_str(pickle.global(key).unwrap_or_default()),
                _ => out.push_str("object"),
            }
        }
        if out.len() > MAX_BYTES {
            return Err(Error::refused(format!(
                "a key of the checkpoint needs more than {MAX_BYTES} bytes"
            )));
        }
        Ok(())
    }
}
