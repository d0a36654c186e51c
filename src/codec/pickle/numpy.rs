//! How NumPy's arrays, and bytes, are pickled: the calls that would make them, taken apart.

use super::node::{Id, Node, Pickle, Span};

/// What of NumPy's a pickle calls to make an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// An empty array, whose state then says all: version, shape, type, order, values.
    Reconstruct,
    /// An array of one element: type, values.
    Scalar,
    /// Values, type, shape, order.
    FromBuffer,
}

impl Maker {
    /// By the name of the function, in its old and its new place.
    pub fn of(global: &str) -> Option<Maker> {
        let own =
            global.strip_prefix("numpy.core.").or_else(|| global.strip_prefix("numpy._core."))?;
        match own {
            "multiarray._reconstruct" => Some(Maker::Reconstruct),
            "multiarray.scalar" => Some(Maker::Scalar),
            "numeric._frombuffer" => Some(Maker::FromBuffer),
            _ => None,
        }
    }
}

/// Bytes in a pickle: the node that holds them (`None`: no bytes), and whether it is text that
/// encodes them as Latin-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Raw {
    /// The node.
    pub leaf: Option<Id>,
    /// Whether its characters stand for bytes.
    pub latin1: bool,
}

impl Raw {
    /// `bytes`, in any of the ways in which they are pickled.
    pub fn find(pickle: &Pickle, id: Id) -> Option<Raw> {
        let text = |id: Id| pickle.text_len(id).map(|_| Raw { leaf: Some(id), latin1: true });
        let mut id = id;
        for _ in 0..4 {
            let object = match pickle.node(id) {
                // Text is of Python 2, where it was bytes.
                Node::Bytes(_) | Node::Text(_) => {
                    return Some(Raw { leaf: Some(id), latin1: false });
                }
                Node::Owned(_) => return text(id),
                Node::Object(object) => object,
                _ => return None,
            };
            match (pickle.global(object.callable)?, pickle.tuple(object.args)?) {
                ("_codecs.encode", &[inner]) => return text(inner),
                ("_codecs.encode", &[inner, encoding])
                    if matches!(pickle.short(encoding), Some("latin1" | "latin-1")) =>
                {
                    return text(inner);
                }
                ("builtins.bytes" | "builtins.bytearray", []) => {
                    return Some(Raw { leaf: None, latin1: false });
                }
                ("builtins.bytearray", &[inner, _]) => return text(inner),
                ("builtins.bytes" | "builtins.bytearray", &[inner]) => id = inner,
                _ => return None,
            }
        }
        None
    }

    /// Where they lie in the pickle as they are.
    pub fn span(self, pickle: &Pickle) -> Option<Span> {
        match self.leaf.map(|leaf| pickle.node(leaf)) {
            Some(Node::Bytes(span) | Node::Text(span)) if !self.latin1 => Some(*span),
            _ => None,
        }
    }

    /// The most bytes that these are, without a look at them.
    pub fn most(self, pickle: &Pickle) -> usize {
        match self.leaf.map(|leaf| pickle.node(leaf)) {
            Some(Node::Bytes(span) | Node::Text(span)) => pickle.span(*span).len(),
            Some(Node::Owned(text)) => text.len(),
            _ => 0,
        }
    }

    /// A copy; `None` where text has characters that stand for no byte.
    pub fn bytes(self, pickle: &Pickle) -> Option<Vec<u8>> {
        let Some(leaf) = self.leaf else { return Some(Vec::new()) };
        if !self.latin1 {
            return self.span(pickle).map(|span| pickle.span(span).to_vec());
        }
        pickle.text(leaf)?.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
    }
}

/// The unit of a `datetime64` or `timedelta64`, and how many of it make one: `metadata` is the last
/// part of the state of its type, (kind, (unit, count, …)), or the inner one alone. An empty unit is
/// none.
pub fn time_unit(pickle: &Pickle, metadata: Option<Id>) -> Option<(String, i64)> {
    /// The longest name of one.
    const MAX_NAME_BYTES: usize = 16;
    let parts = metadata.and_then(|m| pickle.tuple(m)).unwrap_or_default();
    let parts = match parts {
        &[_, inner] => pickle.tuple(inner).unwrap_or_default(),
        other => other,
    };
    let count = parts.get(1).and_then(|&n| pickle.int(n)).unwrap_or(1);
    let Some(raw) = parts.first().and_then(|&unit| Raw::find(pickle, unit)) else {
        return Some((String::new(), count));
    };
    let bytes = (raw.most(pickle) <= MAX_NAME_BYTES).then(|| raw.bytes(pickle))?;
    Some((String::from_utf8(bytes.unwrap_or_default()).ok()?, count))
}
