//! A restricted pickle machine: reads protocols 0 to 5 into a table of inert nodes and runs nothing.
//!
//! Specification: <https://github.com/python/cpython/blob/main/Lib/pickletools.py>. Every global is only a name; a call
//! (`REDUCE`, `NEWOBJ`, `INST`, `OBJ`, `BUILD`) only an [`Object`] that says what would have been called with what. Nodes live in one
//! table and refer to each other by index, so shared and cyclic values cost nothing and nothing here recurses.
//!
//! | opcodes | become |
//! |---|---|
//! | `NONE NEWTRUE NEWFALSE INT BININT* LONG* FLOAT BINFLOAT` | [`Node::None`] [`Node::Bool`] [`Node::Int`] [`Node::Long`] [`Node::Float`] |
//! | `*UNICODE*` and `*STRING` · `*BINBYTES* BYTEARRAY8` | [`Node::Text`] · [`Node::Bytes`] |
//! | `*TUPLE* *LIST APPEND* *DICT SETITEM* EMPTY_SET ADDITEMS FROZENSET` | [`Node::Tuple`] [`Node::List`] [`Node::Dict`] [`Node::Set`] |
//! | `GLOBAL STACK_GLOBAL` · `PERSID BINPERSID` | [`Node::Global`] · [`Node::Persistent`] |
//! | `PUT GET MEMOIZE DUP POP MARK FRAME PROTO STOP` | the machine's own |
//! | `EXT1 EXT2 EXT4 NEXT_BUFFER READONLY_BUFFER` | refused: they need a registry or buffers that no file has |
//!
//! Bounded: the bytes, the nodes and the stack together stay below a limit; every length is compared with the bytes
//! that are left before it is used.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexSet;

use crate::error::{Error, Result};
use crate::location::Blob;

/// The index of a node.
pub type Id = u32;

/// A piece of the pickle's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    start: usize,
    len: usize,
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
    /// Text, as it lies in the pickle.
    Text(Span),
    /// Text that had escapes.
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
#[derive(Debug)]
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
    nodes: Vec<Node>,
    bytes: Vec<u8>,
    globals: IndexSet<String>,
    root: Id,
    used: u64,
}

impl Pickle {
    /// The value of the pickle.
    pub fn root(&self) -> Id {
        self.root
    }
    /// The node of this index.
    pub fn node(&self, id: Id) -> &Node {
        self.nodes.get(id as usize).unwrap_or(&Node::None)
    }
    /// Bytes from the pickle's start to behind its `STOP`.
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
        pairs.iter().rev().find(|(k, _)| self.text(*k) == Some(key)).map(|(_, v)| *v)
    }
    /// The globals that the pickle names, in order of appearance.
    pub fn globals(&self) -> impl Iterator<Item = &str> {
        self.globals.iter().map(String::as_str)
    }
}

/// Where the machine's bytes come from.
struct Input {
    bytes: Vec<u8>,
    at: usize,
    /// The blob that goes on behind `bytes`, and where it does.
    more: Option<(Arc<dyn Blob>, u64)>,
    limit: u64,
}

const REFILL_BYTES: u64 = 256 << 10;

impl Input {
    fn left(&self) -> u64 {
        let rest = self.more.as_ref().map_or(0, |(blob, next)| blob.len().saturating_sub(*next));
        (self.bytes.len() - self.at) as u64 + rest
    }
    fn take(&mut self, len: u64) -> Result<Span> {
        if len > self.left() {
            return Err(Error::corrupt(format!("the pickle ends at byte {}, {len} bytes were due", self.bytes.len())));
        }
        if self.at as u64 + len > self.limit {
            return Err(too_large(self.limit));
        }
        while (self.bytes.len() - self.at) < len as usize {
            self.refill(len)?;
        }
        let span = Span { start: self.at, len: len as usize };
        self.at += len as usize;
        Ok(span)
    }
    /// At least one byte more, unless there is none.
    fn refill(&mut self, wish: u64) -> Result<()> {
        let Some((blob, next)) = &mut self.more else { return Err(Error::corrupt("the pickle ends without a STOP")) };
        let rest = blob.len().saturating_sub(*next);
        if rest == 0 {
            return Err(Error::corrupt("the pickle ends without a STOP"));
        }
        let have = self.bytes.len();
        let len = rest.min(wish.max(REFILL_BYTES));
        self.bytes.resize(have + len as usize, 0);
        blob.read_at(*next, &mut self.bytes[have..])?;
        *next += len;
        Ok(())
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let span = self.take(N as u64)?;
        let mut out = [0; N];
        out.copy_from_slice(&self.bytes[span.start..span.start + N]);
        Ok(out)
    }
    /// Up to a newline, which is taken too.
    fn line(&mut self) -> Result<Span> {
        let mut seen = 0;
        loop {
            if let Some(n) = memchr::memchr(b'\n', &self.bytes[self.at + seen..]) {
                let span = Span { start: self.at, len: seen + n };
                self.at += seen + n + 1;
                return Ok(span);
            }
            seen = self.bytes.len() - self.at;
            if (self.at + seen) as u64 > self.limit {
                return Err(too_large(self.limit));
            }
            self.refill(1)?;
        }
    }
}

fn too_large(limit: u64) -> Error {
    Error::refused(format!("the pickle needs more than {} MiB to be understood", limit >> 20)).hint("a larger --memory-limit")
}

/// Reads a pickle that lies in memory as a whole; `limit_bytes` bounds what it may take.
///
/// # Errors
/// Corrupt; refused where it needs a thing that no file has, or too much memory.
pub fn read(bytes: Vec<u8>, limit_bytes: u64) -> Result<Pickle> {
    Machine::new(Input { bytes, at: 0, more: None, limit: limit_bytes }, limit_bytes).run()
}

/// Reads the pickle that begins at `offset` of a blob; how long it is only its `STOP` tells.
///
/// # Errors
/// As [`read`], and reading errors.
pub fn read_from(blob: &Arc<dyn Blob>, offset: u64, limit_bytes: u64) -> Result<Pickle> {
    let input = Input { bytes: Vec::new(), at: 0, more: Some((blob.clone(), offset)), limit: limit_bytes };
    Machine::new(input, limit_bytes).run()
}

struct Machine {
    input: Input,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: Vec<Id>,
    far_memo: HashMap<u64, Id>,
    globals: IndexSet<String>,
    small: [Id; 256],
    none: Id,
    bools: [Id; 2],
    empty: Id,
    pushed: u64,
    limit: u64,
}

const NOTHING: Id = Id::MAX;

impl Machine {
    fn new(input: Input, limit: u64) -> Machine {
        let nodes = vec![Node::None, Node::Bool(false), Node::Bool(true), Node::Tuple(Box::default())];
        Machine {
            input,
            nodes,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
            far_memo: HashMap::new(),
            globals: IndexSet::new(),
            small: [NOTHING; 256],
            none: 0,
            bools: [1, 2],
            empty: 3,
            pushed: 0,
            limit,
        }
    }

    fn node(&mut self, node: Node) -> Result<Id> {
        self.nodes.push(node);
        Id::try_from(self.nodes.len() - 1).map_err(|_| too_large(self.limit))
    }
    fn push(&mut self, id: Id) -> Result<()> {
        self.pushed += 1;
        let held = self.nodes.len() as u64 * size_of::<Node>() as u64 + self.pushed * 8;
        if held > self.limit {
            return Err(too_large(self.limit));
        }
        self.stack.push(id);
        Ok(())
    }
    fn push_node(&mut self, node: Node) -> Result<()> {
        let id = self.node(node)?;
        self.push(id)
    }
    fn underflow(&self) -> Error {
        Error::corrupt(format!("the pickle takes from an empty stack at byte {}", self.input.at.saturating_sub(1)))
    }
    /// The lowest stack index that may be taken: nothing is taken from below a mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }
    fn pop(&mut self) -> Result<Id> {
        if self.stack.len() <= self.floor() {
            return Err(self.underflow());
        }
        self.stack.pop().ok_or_else(|| self.underflow())
    }
    fn top(&self) -> Result<Id> {
        if self.stack.len() <= self.floor() {
            return Err(self.underflow());
        }
        self.stack.last().copied().ok_or_else(|| self.underflow())
    }
    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| Error::corrupt(format!("the pickle has no mark at byte {}", self.input.at - 1)))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }
    fn pop_pairs(&mut self) -> Result<Vec<(Id, Id)>> {
        let flat = self.pop_mark()?;
        if flat.len() % 2 != 0 {
            return Err(Error::corrupt(format!("the pickle sets a key without a value at byte {}", self.input.at - 1)));
        }
        Ok(flat.chunks_exact(2).map(|p| (p[0], p[1])).collect())
    }
    fn wrong(&self, what: &str) -> Error {
        Error::corrupt(format!("the pickle {what} at byte {}", self.input.at.saturating_sub(1)))
    }
    fn int(&mut self, value: i64) -> Result<()> {
        match usize::try_from(value).ok().filter(|&n| n < 256) {
            Some(n) => {
                if self.small[n] == NOTHING {
                    self.small[n] = self.node(Node::Int(value))?;
                }
                self.push(self.small[n])
            }
            None => self.push_node(Node::Int(value)),
        }
    }
    fn long(&mut self, span: Span) -> Result<()> {
        let bytes = &self.input.bytes[span.start..span.start + span.len];
        match little_int(bytes) {
            Some(n) => self.int(n),
            None => self.push_node(Node::Long(span)),
        }
    }
    fn text(&mut self, len: u64) -> Result<()> {
        let span = self.input.take(len)?;
        if std::str::from_utf8(&self.input.bytes[span.start..span.start + span.len]).is_err() {
            return Err(Error::corrupt(format!("the text at byte {} of the pickle is not UTF-8", span.start)));
        }
        self.push_node(Node::Text(span))
    }
    /// Python 2 byte strings: text where they are UTF-8, bytes otherwise.
    fn string(&mut self, len: u64) -> Result<()> {
        let span = self.input.take(len)?;
        let text = std::str::from_utf8(&self.input.bytes[span.start..span.start + span.len]).is_ok();
        self.push_node(if text { Node::Text(span) } else { Node::Bytes(span) })
    }
    fn bytes(&mut self, len: u64) -> Result<()> {
        let span = self.input.take(len)?;
        self.push_node(Node::Bytes(span))
    }
    fn line_text(&mut self) -> Result<String> {
        let span = self.input.line()?;
        std::str::from_utf8(&self.input.bytes[span.start..span.start + span.len])
            .map(str::to_string)
            .map_err(|_| Error::corrupt(format!("the line at byte {} of the pickle is not text", span.start)))
    }
    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        let id = self.global_id(module, name)?;
        self.push(id)
    }
    fn global_id(&mut self, module: &str, name: &str) -> Result<Id> {
        let (index, _) = self.globals.insert_full(python3_name(module, name));
        self.node(Node::Global(index as u32))
    }
    fn object(&mut self, callable: Id, args: Id) -> Result<()> {
        if !matches!(self.nodes.get(args as usize), Some(Node::Tuple(_))) {
            return Err(self.wrong("calls something with arguments that are no tuple"));
        }
        self.push_node(Node::Object(Box::new(Object { callable, args, state: None, items: Vec::new(), pairs: Vec::new() })))
    }
    fn tuple(&mut self, items: Vec<Id>) -> Result<()> {
        if items.is_empty() {
            return self.push(self.empty);
        }
        self.push_node(Node::Tuple(items.into_boxed_slice()))
    }
    fn append(&mut self, items: Vec<Id>) -> Result<()> {
        let target = self.top()?;
        match self.nodes.get_mut(target as usize) {
            Some(Node::List(list)) => list.extend(items),
            Some(Node::Object(object)) => object.items.extend(items),
            _ => return Err(self.wrong("appends to what is no list")),
        }
        Ok(())
    }
    fn set_items(&mut self, pairs: Vec<(Id, Id)>) -> Result<()> {
        let target = self.top()?;
        match self.nodes.get_mut(target as usize) {
            Some(Node::Dict(dict)) => dict.extend(pairs),
            Some(Node::Object(object)) => object.pairs.extend(pairs),
            _ => return Err(self.wrong("sets keys in what is no dict")),
        }
        Ok(())
    }
    fn put(&mut self, index: u64) -> Result<()> {
        let id = self.top()?;
        self.pushed += 1;
        let near = self.memo.len() as u64 * 2 + 1024;
        if index < near {
            let index = index as usize;
            if index >= self.memo.len() {
                self.memo.resize(index + 1, NOTHING);
            }
            self.memo[index] = id;
        } else {
            self.far_memo.insert(index, id);
        }
        Ok(())
    }
    fn get(&mut self, index: u64) -> Result<()> {
        let near = usize::try_from(index).ok().and_then(|i| self.memo.get(i)).copied().filter(|&id| id != NOTHING);
        match near.or_else(|| self.far_memo.get(&index).copied()) {
            Some(id) => self.push(id),
            None => Err(self.wrong(&format!("asks for memo {index}, which was never set"))),
        }
    }

    fn run(mut self) -> Result<Pickle> {
        loop {
            let [op] = self.input.array()?;
            match op {
                0x80 => {
                    let [version] = self.input.array()?;
                    if version > 5 {
                        return Err(Error::refused(format!("pickle protocol {version} is not known; 0 to 5 are")));
                    }
                }
                0x95 => {
                    let len = u64::from_le_bytes(self.input.array()?);
                    if len > self.input.left() {
                        return Err(Error::corrupt(format!("a pickle frame of {len} bytes, {} are left", self.input.left())));
                    }
                }
                b'.' => {
                    let root = self.pop()?;
                    let used = self.input.at as u64;
                    self.input.bytes.truncate(self.input.at);
                    return Ok(Pickle { nodes: self.nodes, bytes: self.input.bytes, globals: self.globals, root, used });
                }
                b'(' => {
                    self.pushed += 1;
                    self.marks.push(self.stack.len());
                    self.check()?;
                }
                b'0' => {
                    if self.stack.len() > self.floor() {
                        self.stack.pop();
                    } else {
                        self.marks.pop().ok_or_else(|| self.underflow())?;
                    }
                }
                b'1' => {
                    self.pop_mark()?;
                }
                b'2' => {
                    let id = self.top()?;
                    self.push(id)?;
                }
                b'N' => self.push(self.none)?,
                0x88 => self.push(self.bools[1])?,
                0x89 => self.push(self.bools[0])?,
                b'J' => {
                    let n = i32::from_le_bytes(self.input.array()?);
                    self.int(n.into())?;
                }
                b'K' => {
                    let [n] = self.input.array()?;
                    self.int(n.into())?;
                }
                b'M' => {
                    let n = u16::from_le_bytes(self.input.array()?);
                    self.int(n.into())?;
                }
                b'I' | b'L' => self.int_line(op)?,
                0x8a => {
                    let [len] = self.input.array()?;
                    let span = self.input.take(len.into())?;
                    self.long(span)?;
                }
                0x8b => {
                    let len = i32::from_le_bytes(self.input.array()?);
                    let len = u64::try_from(len).map_err(|_| self.wrong("has an integer of negative length"))?;
                    let span = self.input.take(len)?;
                    self.long(span)?;
                }
                b'G' => {
                    let value = f64::from_be_bytes(self.input.array()?);
                    self.push_node(Node::Float(value))?;
                }
                b'F' => {
                    let line = self.line_text()?;
                    let value = line.trim().parse().map_err(|_| self.wrong(&format!("has the float '{}'", shown(&line))))?;
                    self.push_node(Node::Float(value))?;
                }
                b'X' => {
                    let len = u32::from_le_bytes(self.input.array()?);
                    self.text(len.into())?;
                }
                0x8c => {
                    let [len] = self.input.array()?;
                    self.text(len.into())?;
                }
                0x8d => {
                    let len = u64::from_le_bytes(self.input.array()?);
                    self.text(len)?;
                }
                b'V' => {
                    let line = self.line_text()?;
                    let text = unescape(&line, false).ok_or_else(|| self.wrong("has a broken escape"))?;
                    self.push_node(Node::Owned(text.into()))?;
                }
                b'S' => {
                    let line = self.line_text()?;
                    let line = line.trim();
                    let inner = ['\'', '"'].iter().find_map(|q| line.strip_prefix(*q)?.strip_suffix(*q));
                    let text = inner.and_then(|t| unescape(t, true)).ok_or_else(|| self.wrong("has a broken string"))?;
                    self.push_node(Node::Owned(text.into()))?;
                }
                b'T' => {
                    let len = i32::from_le_bytes(self.input.array()?);
                    let len = u64::try_from(len).map_err(|_| self.wrong("has a string of negative length"))?;
                    self.string(len)?;
                }
                b'U' => {
                    let [len] = self.input.array()?;
                    self.string(len.into())?;
                }
                b'B' => {
                    let len = u32::from_le_bytes(self.input.array()?);
                    self.bytes(len.into())?;
                }
                b'C' => {
                    let [len] = self.input.array()?;
                    self.bytes(len.into())?;
                }
                0x8e | 0x96 => {
                    let len = u64::from_le_bytes(self.input.array()?);
                    self.bytes(len)?;
                }
                b')' => self.push(self.empty)?,
                b't' => {
                    let items = self.pop_mark()?;
                    self.tuple(items)?;
                }
                0x85..=0x87 => {
                    let count = (op - 0x84) as usize;
                    let mut items = vec![0; count];
                    for item in items.iter_mut().rev() {
                        *item = self.pop()?;
                    }
                    self.tuple(items)?;
                }
                b']' => self.push_node(Node::List(Vec::new()))?,
                b'l' => {
                    let items = self.pop_mark()?;
                    self.push_node(Node::List(items))?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.pop_mark()?;
                    self.append(items)?;
                }
                b'}' => self.push_node(Node::Dict(Vec::new()))?,
                b'd' => {
                    let pairs = self.pop_pairs()?;
                    self.push_node(Node::Dict(pairs))?;
                }
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.set_items(vec![(key, value)])?;
                }
                b'u' => {
                    let pairs = self.pop_pairs()?;
                    self.set_items(pairs)?;
                }
                0x8f => self.push_node(Node::Set(Vec::new()))?,
                0x90 => {
                    let items = self.pop_mark()?;
                    let target = self.top()?;
                    match self.nodes.get_mut(target as usize) {
                        Some(Node::Set(set)) => set.extend(items),
                        Some(Node::Object(object)) => object.items.extend(items),
                        _ => return Err(self.wrong("adds to what is no set")),
                    }
                }
                0x91 => {
                    let items = self.pop_mark()?;
                    self.push_node(Node::Set(items))?;
                }
                b'c' => {
                    let (module, name) = (self.line_text()?, self.line_text()?);
                    self.global(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (module, name) = (self.owned_text(module)?, self.owned_text(name)?);
                    self.global(&module, &name)?;
                }
                b'i' => {
                    let (module, name) = (self.line_text()?, self.line_text()?);
                    let items = self.pop_mark()?;
                    let callable = self.global_id(&module, &name)?;
                    let args = self.node(Node::Tuple(items.into_boxed_slice()))?;
                    self.object(callable, args)?;
                }
                b'o' => {
                    let mut items = self.pop_mark()?;
                    if items.is_empty() {
                        return Err(self.wrong("builds an object of no class"));
                    }
                    let callable = items.remove(0);
                    let args = self.node(Node::Tuple(items.into_boxed_slice()))?;
                    self.object(callable, args)?;
                }
                b'R' | 0x81 => {
                    let (args, callable) = (self.pop()?, self.pop()?);
                    self.object(callable, args)?;
                }
                0x92 => {
                    let (_kwargs, args, callable) = (self.pop()?, self.pop()?, self.pop()?);
                    self.object(callable, args)?;
                }
                b'b' => {
                    let state = self.pop()?;
                    let target = self.top()?;
                    match self.nodes.get_mut(target as usize) {
                        Some(Node::Object(object)) => object.state = Some(state),
                        _ => return Err(self.wrong("gives a state to what is no object")),
                    }
                }
                b'P' => {
                    let line = self.line_text()?;
                    let id = self.node(Node::Owned(line.into()))?;
                    self.push_node(Node::Persistent(id))?;
                }
                b'Q' => {
                    let id = self.pop()?;
                    self.push_node(Node::Persistent(id))?;
                }
                b'q' => {
                    let [index] = self.input.array()?;
                    self.put(index.into())?;
                }
                b'r' => {
                    let index = u32::from_le_bytes(self.input.array()?);
                    self.put(index.into())?;
                }
                b'p' | b'g' => {
                    let line = self.line_text()?;
                    let index = line.trim().parse().map_err(|_| self.wrong(&format!("has the memo index '{}'", shown(&line))))?;
                    if op == b'p' { self.put(index)? } else { self.get(index)? }
                }
                0x94 => {
                    let index = (self.memo.len() + self.far_memo.len()) as u64;
                    self.put(index)?;
                }
                b'h' => {
                    let [index] = self.input.array()?;
                    self.get(index.into())?;
                }
                b'j' => {
                    let index = u32::from_le_bytes(self.input.array()?);
                    self.get(index.into())?;
                }
                0x82..=0x84 => return Err(Error::refused("the pickle uses the extension registry, which no file brings along")),
                0x97 | 0x98 => return Err(Error::refused("the pickle wants out-of-band buffers, which no file has")),
                other => return Err(Error::corrupt(format!("byte {} of the pickle is {other:#04x}, no opcode", self.input.at - 1))),
            }
        }
    }

    fn check(&self) -> Result<()> {
        if self.pushed * 8 > self.limit { Err(too_large(self.limit)) } else { Ok(()) }
    }
    fn owned_text(&self, id: Id) -> Result<String> {
        match self.nodes.get(id as usize) {
            Some(Node::Text(span)) => std::str::from_utf8(&self.input.bytes[span.start..span.start + span.len]).ok().map(str::to_string),
            Some(Node::Owned(text)) => Some(text.to_string()),
            _ => None,
        }
        .ok_or_else(|| self.wrong("names a global by what is no text"))
    }
    /// `INT` and `LONG`: decimal text; `01` and `00` are booleans.
    fn int_line(&mut self, op: u8) -> Result<()> {
        let line = self.line_text()?;
        let text = line.trim();
        match text {
            "01" if op == b'I' => return self.push(self.bools[1]),
            "00" if op == b'I' => return self.push(self.bools[0]),
            _ => {}
        }
        match text.strip_suffix('L').unwrap_or(text).parse() {
            Ok(n) => self.int(n),
            Err(_) => Err(self.wrong(&format!("has the integer '{}'", shown(text)))),
        }
    }
}

/// Little-endian two's complement of at most 64 bits.
fn little_int(bytes: &[u8]) -> Option<i64> {
    let sign = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let filler = if sign { 0xff } else { 0 };
    let mut out = [filler; 8];
    let (low, high) = bytes.split_at(bytes.len().min(8));
    out[..low.len()].copy_from_slice(low);
    let value = i64::from_le_bytes(out);
    (high.iter().all(|&b| b == filler) && (high.is_empty() || (value < 0) == sign)).then_some(value)
}

/// The decimal digits of a little-endian two's complement integer of at most 128 bytes; `None` beyond, where the
/// work would grow with the square of the length.
pub fn long_digits(bytes: &[u8]) -> Option<String> {
    if bytes.len() > 128 {
        return None;
    }
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut magnitude: Vec<u8> = bytes.to_vec();
    if negative {
        let mut carry = 1u16;
        for b in &mut magnitude {
            let sum = u16::from(!*b) + carry;
            *b = sum as u8;
            carry = sum >> 8;
        }
    }
    let mut digits = Vec::new();
    while magnitude.iter().any(|&b| b != 0) {
        let mut rest = 0u32;
        for b in magnitude.iter_mut().rev() {
            let n = rest << 8 | u32::from(*b);
            *b = (n / 10) as u8;
            rest = n % 10;
        }
        digits.push(b'0' + rest as u8);
    }
    if digits.is_empty() {
        digits.push(b'0');
    }
    if negative {
        digits.push(b'-');
    }
    digits.reverse();
    String::from_utf8(digits).ok()
}

/// Python 2's names, as Python 3 maps them for protocols below 3.
fn python3_name(module: &str, name: &str) -> String {
    let (module, name) = match (module, name) {
        ("__builtin__", "xrange") => ("builtins", "range"),
        ("__builtin__", "unicode") => ("builtins", "str"),
        ("__builtin__", "long") => ("builtins", "int"),
        ("__builtin__", name) => ("builtins", name),
        ("copy_reg", name) => ("copyreg", name),
        other => other,
    };
    format!("{module}.{name}")
}

/// `\uXXXX` and `\UXXXXXXXX`; with `all` also what Python's string literals know.
fn unescape(text: &str, all: bool) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let kind = match chars.next() {
            Some(kind) => kind,
            None if all => return None,
            None => {
                out.push('\\');
                break;
            }
        };
        let digits = match kind {
            'u' => 4,
            'U' => 8,
            'x' if all => 2,
            _ if all => {
                out.push(match kind {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    '0' => '\0',
                    '\\' | '\'' | '"' => kind,
                    _ => return None,
                });
                continue;
            }
            other => {
                out.push('\\');
                out.push(other);
                continue;
            }
        };
        let hex: String = chars.by_ref().take(digits).collect();
        if hex.len() != digits {
            return None;
        }
        out.push(char::from_u32(u32::from_str_radix(&hex, 16).ok()?)?);
    }
    Some(out)
}

/// Text from a file, fit for a message: one line, no control characters, at most 120 characters.
pub fn shown(text: &str) -> String {
    let mut out: String =
        text.chars().take(120).flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect();
    if text.chars().nth(120).is_some() {
        out.push('…');
    }
    out
}
