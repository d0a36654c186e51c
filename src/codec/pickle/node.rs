//! What a pickle holds: a table of nodes.

use indexmap::IndexSet;

/// The index of a node.
pub type Id = u32;

/// A piece of the pickle's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub(super) start: usize,
    pub(super) len: usize,
}

/// A value.
#[derive(Debug)]
pub enum Node {
    /// `None`.
    None,
    /// `True`, `False`.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A longer integer: little-endian two's complement.
    Long(Span),
    /// A float.
    Float(f64),
    /// Text, as it is in the pickle.
    Text(Span),
    /// Text that had escapes, or halves of surrogate pairs (they became escapes).
    Owned(Box<str>),
    /// `bytes` or `bytearray`.
    Bytes(Span),
    /// A name: index into the pickle's globals.
    Global(u32),
    /// A tuple.
    Tuple(Box<[Id]>),
    /// A list.
    List(Vec<Id>),
    /// A dict: pairs in the order in which they were set, repeated keys included.
    Dict(Vec<(Id, Id)>),
    /// A set or frozenset.
    Set(Vec<Id>),
    /// A persistent id: what it is.
    Persistent(Id),
    /// A call that was not made.
    Object(Box<Object>),
}

/// What a call would have been, and what was done to its result.
#[derive(Debug, Default)]
pub struct Object {
    /// What would have been called.
    pub callable: Id,
    /// Its arguments: a tuple.
    pub args: Id,
    /// The argument of `BUILD`.
    pub state: Option<Id>,
    /// Items appended to it.
    pub items: Vec<Id>,
    /// Pairs set in it.
    pub pairs: Vec<(Id, Id)>,
}

/// What a pickle held.
pub struct Pickle {
    pub(super) nodes: Vec<Node>,
    pub(super) bytes: Vec<u8>,
    pub(super) globals: IndexSet<String>,
    pub(super) root: Id,
    pub(super) used: u64,
    pub(super) surrogates: u64,
}

/// The longest text that is a word of torch's or numpy's own.
const SHORT_BYTES: usize = 256;

impl Pickle {
    /// The value of the pickle.
    pub fn root(&self) -> Id {
        self.root
    }
    /// The node of this index.
    pub fn node(&self, id: Id) -> &Node {
        self.nodes.get(id as usize).unwrap_or(&Node::None)
    }
    /// Bytes from the pickle's start to the end of its `STOP`.
    pub fn used(&self) -> u64 {
        self.used
    }
    /// All bytes of the pickle.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
    /// Whether there are no bytes (never, for a pickle that was read).
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
    /// The bytes of a span.
    pub fn span(&self, span: Span) -> &[u8] {
        self.bytes.get(span.start..span.start + span.len).unwrap_or_default()
    }
    /// The node as text.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Text(span) => std::str::from_utf8(self.span(*span)).ok(),
            Node::Owned(text) => Some(text),
            _ => None,
        }
    }
    /// The length of the node's text, without looking at the text.
    pub fn text_len(&self, id: Id) -> Option<usize> {
        match self.node(id) {
            Node::Text(span) => Some(span.len),
            Node::Owned(text) => Some(text.len()),
            _ => None,
        }
    }
    /// The node as text of at most 256 bytes: a key, a code, a word. What may be asked for again
    /// and again is asked for in this way, so that no length multiplies the work.
    pub fn short(&self, id: Id) -> Option<&str> {
        self.text_len(id).filter(|&len| len <= SHORT_BYTES).and_then(|_| self.text(id))
    }
    /// Whether the node is this text.
    pub fn is_text(&self, id: Id, text: &str) -> bool {
        match self.node(id) {
            Node::Text(span) => self.span(*span) == text.as_bytes(),
            Node::Owned(own) => **own == *text,
            _ => false,
        }
    }
    /// The node as an integer; booleans count as Python has it.
    pub fn int(&self, id: Id) -> Option<i64> {
        match self.node(id) {
            Node::Int(n) => Some(*n),
            Node::Bool(b) => Some(i64::from(*b)),
            _ => None,
        }
    }
    /// The node as a tuple (a list will do).
    pub fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple(items) => Some(items),
            Node::List(items) => Some(items),
            _ => None,
        }
    }
    /// The node as a global: `module.name`.
    pub fn global(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Global(index) => self.globals.get_index(*index as usize).map(String::as_str),
            _ => None,
        }
    }
    /// The node as a call that was not made.
    pub fn object(&self, id: Id) -> Option<&Object> {
        match self.node(id) {
            Node::Object(object) => Some(object),
            _ => None,
        }
    }
    /// The value of a text key in a dict's pairs; the last one, as in Python.
    pub fn get(&self, pairs: &[(Id, Id)], key: &str) -> Option<Id> {
        pairs.iter().rev().find(|(k, _)| self.is_text(*k, key)).map(|(_, v)| *v)
    }
    /// All nodes and their indices, those too that the value does not lead to.
    pub fn nodes(&self) -> impl Iterator<Item = (Id, &Node)> {
        self.nodes.iter().enumerate().map(|(i, n)| (i as Id, n))
    }
    /// How many texts held halves of surrogate pairs, which only Python can hold; they are written
    /// as `\udc80`.
    pub fn surrogates(&self) -> u64 {
        self.surrogates
    }
    /// The globals that the pickle names, in order of appearance.
    pub fn globals(&self) -> impl Iterator<Item = &str> {
        self.globals.iter().map(String::as_str)
    }
}
