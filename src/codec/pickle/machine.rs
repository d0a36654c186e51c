//! The machine: its stack, its memo, its opcodes.

use std::collections::HashMap;

use indexmap::IndexSet;

use super::input::{Input, too_large};
use super::opcodes as op;
use super::text::{little_int, python3_name, shown, unescape, with_surrogates};
use super::{Id, Node, Object, Pickle, Span};
use crate::error::{Error, Result};

pub(super) struct Machine {
    input: Input,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: Vec<Id>,
    far_memo: HashMap<u64, Id>,
    /// How many memo indices were set: the next one of `MEMOIZE`.
    remembered: u64,
    globals: IndexSet<String>,
    /// Globals by the texts on the stack that named them.
    stacked: HashMap<(Id, Id), Id>,
    surrogates: u64,
    small: [Id; 256],
    none: Id,
    bools: [Id; 2],
    empty: Id,
    pushed: u64,
    limit: u64,
}

const NOTHING: Id = Id::MAX;
/// A memo index up to this far past the last one still goes into the list; writers count without
/// gaps.
const MEMO_GAP: u64 = 1024;
/// The longest module or name of a global.
const GLOBAL_BYTES: usize = 1024;

impl Machine {
    pub fn new(input: Input, limit: u64) -> Machine {
        let nodes =
            vec![Node::None, Node::Bool(false), Node::Bool(true), Node::Tuple(Box::default())];
        Machine {
            input,
            nodes,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
            far_memo: HashMap::new(),
            remembered: 0,
            globals: IndexSet::new(),
            stacked: HashMap::new(),
            surrogates: 0,
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
        self.hold(1)?;
        self.stack.push(id);
        Ok(())
    }
    /// Counts what is kept beside the nodes, in words of 8 bytes, before it is.
    fn hold(&mut self, words: u64) -> Result<()> {
        self.pushed += words;
        let held = self.nodes.len() as u64 * size_of::<Node>() as u64 + self.pushed * 8;
        if held > self.limit { Err(too_large(self.limit)) } else { Ok(()) }
    }
    fn push_node(&mut self, node: Node) -> Result<()> {
        let id = self.node(node)?;
        self.push(id)
    }
    fn underflow(&self) -> Error {
        Error::corrupt(format!(
            "the pickle pops an empty stack at byte {}",
            self.input.at.saturating_sub(1)
        ))
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
        let mark = self.marks.pop().ok_or_else(|| {
            Error::corrupt(format!("the pickle has no mark at byte {}", self.input.at - 1))
        })?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }
    fn pop_pairs(&mut self) -> Result<Vec<(Id, Id)>> {
        let flat = self.pop_mark()?;
        if flat.len() % 2 != 0 {
            return Err(Error::corrupt(format!(
                "the pickle sets a key without a value at byte {}",
                self.input.at - 1
            )));
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
        let bytes = &self.input.bytes[span.start..span.start + span.len];
        if std::str::from_utf8(bytes).is_ok() {
            return self.push_node(Node::Text(span));
        }
        let text = with_surrogates(bytes).ok_or_else(|| {
            Error::corrupt(format!("the text at byte {} of the pickle is not UTF-8", span.start))
        })?;
        self.surrogates += 1;
        self.hold(text.len() as u64 / 8)?;
        self.push_node(Node::Owned(text.into()))
    }
    /// Python 2 byte strings: text where they are UTF-8, bytes otherwise.
    fn string(&mut self, len: u64) -> Result<()> {
        let span = self.input.take(len)?;
        let text =
            std::str::from_utf8(&self.input.bytes[span.start..span.start + span.len]).is_ok();
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
            .map_err(|_| {
                Error::corrupt(format!("the line at byte {} of the pickle is not text", span.start))
            })
    }
    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        let id = self.global_id(module, name)?;
        self.push(id)
    }
    fn global_id(&mut self, module: &str, name: &str) -> Result<Id> {
        self.short_enough(module.len())?;
        self.short_enough(name.len())?;
        let (index, new) = self.globals.insert_full(python3_name(module, name));
        if new {
            self.hold((module.len() + name.len()) as u64 / 8 + 8)?;
        }
        self.node(Node::Global(index as u32))
    }
    fn short_enough(&self, len: usize) -> Result<()> {
        if len <= GLOBAL_BYTES {
            return Ok(());
        }
        let at = self.input.at.saturating_sub(1);
        Err(Error::refused(format!(
            "the pickle names a global of {len} bytes at byte {at}; at most {GLOBAL_BYTES} are allowed"
        )))
    }
    fn object(&mut self, callable: Id, args: Id) -> Result<()> {
        if !matches!(self.nodes.get(args as usize), Some(Node::Tuple(_))) {
            return Err(self.wrong("calls something with arguments that are not a tuple"));
        }
        self.push_node(Node::Object(Box::new(Object {
            callable,
            args,
            state: None,
            items: Vec::new(),
            pairs: Vec::new(),
        })))
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
            _ => return Err(self.wrong("appends to something that is not a list")),
        }
        Ok(())
    }
    fn set_items(&mut self, pairs: Vec<(Id, Id)>) -> Result<()> {
        let target = self.top()?;
        match self.nodes.get_mut(target as usize) {
            Some(Node::Dict(dict)) => dict.extend(pairs),
            Some(Node::Object(object)) => object.pairs.extend(pairs),
            _ => return Err(self.wrong("sets keys in something that is not a dict")),
        }
        Ok(())
    }
    fn put(&mut self, index: u64) -> Result<()> {
        let id = self.top()?;
        let len = self.memo.len() as u64;
        let new = if index < len + MEMO_GAP {
            self.hold((index + 1).saturating_sub(len).max(1))?;
            let near = index as usize;
            if near >= self.memo.len() {
                self.memo.resize(near + 1, NOTHING);
            }
            let before = std::mem::replace(&mut self.memo[near], id);
            before == NOTHING
                && (self.far_memo.is_empty() || self.far_memo.remove(&index).is_none())
        } else {
            self.hold(4)?;
            self.far_memo.insert(index, id).is_none()
        };
        self.remembered += u64::from(new);
        Ok(())
    }
    fn get(&mut self, index: u64) -> Result<()> {
        let near = usize::try_from(index)
            .ok()
            .and_then(|i| self.memo.get(i))
            .copied()
            .filter(|&id| id != NOTHING);
        match near.or_else(|| self.far_memo.get(&index).copied()) {
            Some(id) => self.push(id),
            None => Err(self.wrong(&format!("asks for memo {index}, which was never set"))),
        }
    }

    pub fn run(mut self) -> Result<Pickle> {
        loop {
            let [op] = self.input.array()?;
            match op {
                op::PROTO => {
                    let [version] = self.input.array()?;
                    if version > 5 {
                        return Err(Error::refused(format!(
                            "pickle protocol {version} is not supported; 0 to 5 are"
                        )));
                    }
                }
                op::FRAME => {
                    let len = u64::from_le_bytes(self.input.array()?);
                    if len > self.input.left() {
                        return Err(Error::corrupt(format!(
                            "a pickle frame has {len} bytes, only {} are left",
                            self.input.left()
                        )));
                    }
                }
                op::STOP => {
                    let root = self.pop()?;
                    let used = self.input.at as u64;
                    self.input.bytes.truncate(self.input.at);
                    return Ok(Pickle {
                        nodes: self.nodes,
                        bytes: self.input.bytes,
                        globals: self.globals,
                        root,
                        used,
                        surrogates: self.surrogates,
                    });
                }
                op::MARK => {
                    self.hold(1)?;
                    self.marks.push(self.stack.len());
                }
                op::POP => {
                    if self.stack.len() > self.floor() {
                        self.stack.pop();
                    } else {
                        self.marks.pop().ok_or_else(|| self.underflow())?;
                    }
                }
                op::POP_MARK => {
                    self.pop_mark()?;
                }
                op::DUP => {
                    let id = self.top()?;
                    self.push(id)?;
                }
                op::NONE => self.push(self.none)?,
                op::NEWTRUE => self.push(self.bools[1])?,
                op::NEWFALSE => self.push(self.bools[0])?,
                op::BININT => {
                    let n = i32::from_le_bytes(self.input.array()?);
                    self.int(n.into())?;
                }
                op::BININT1 => {
                    let [n] = self.input.array()?;
                    self.int(n.into())?;
                }
                op::BININT2 => {
                    let n = u16::from_le_bytes(self.input.array()?);
                    self.int(n.into())?;
                }
                op::INT | op::LONG => self.int_line(op)?,
                op::LONG1 => {
                    let [len] = self.input.array()?;
                    let span = self.input.take(len.into())?;
                    self.long(span)?;
                }
                op::LONG4 => {
                    let len = i32::from_le_bytes(self.input.array()?);
                    let len = u64::try_from(len)
                        .map_err(|_| self.wrong("has an integer of negative length"))?;
                    let span = self.input.take(len)?;
                    self.long(span)?;
                }
                op::BINFLOAT => {
                    let value = f64::from_be_bytes(self.input.array()?);
                    self.push_node(Node::Float(value))?;
                }
                op::FLOAT => {
                    let line = self.line_text()?;
                    let value = line
                        .trim()
                        .parse()
                        .map_err(|_| self.wrong(&format!("has the float '{}'", shown(&line))))?;
                    self.push_node(Node::Float(value))?;
                }
                op::BINUNICODE => {
                    let len = u32::from_le_bytes(self.input.array()?);
                    self.text(len.into())?;
                }
                op::SHORT_BINUNICODE => {
                    let [len] = self.input.array()?;
                    self.text(len.into())?;
                }
                op::BINUNICODE8 => {
                    let len = u64::from_le_bytes(self.input.array()?);
                    self.text(len)?;
                }
                op::UNICODE => {
                    // Characters of one byte, others as escapes.
                    let span = self.input.line()?;
                    let bytes = &self.input.bytes[span.start..span.start + span.len];
                    let line: String = bytes.iter().map(|&b| char::from(b)).collect();
                    let text =
                        unescape(&line, false).ok_or_else(|| self.wrong("has a broken escape"))?;
                    self.push_node(Node::Owned(text.into()))?;
                }
                op::STRING => {
                    let line = self.line_text()?;
                    let line = line.trim();
                    let inner =
                        ['\'', '"'].iter().find_map(|q| line.strip_prefix(*q)?.strip_suffix(*q));
                    let text = inner
                        .and_then(|t| unescape(t, true))
                        .ok_or_else(|| self.wrong("has a broken string"))?;
                    self.push_node(Node::Owned(text.into()))?;
                }
                op::BINSTRING => {
                    let len = i32::from_le_bytes(self.input.array()?);
                    let len = u64::try_from(len)
                        .map_err(|_| self.wrong("has a string of negative length"))?;
                    self.string(len)?;
                }
                op::SHORT_BINSTRING => {
                    let [len] = self.input.array()?;
                    self.string(len.into())?;
                }
                op::BINBYTES => {
                    let len = u32::from_le_bytes(self.input.array()?);
                    self.bytes(len.into())?;
                }
                op::SHORT_BINBYTES => {
                    let [len] = self.input.array()?;
                    self.bytes(len.into())?;
                }
                op::BINBYTES8 | op::BYTEARRAY8 => {
                    let len = u64::from_le_bytes(self.input.array()?);
                    self.bytes(len)?;
                }
                op::EMPTY_TUPLE => self.push(self.empty)?,
                op::TUPLE => {
                    let items = self.pop_mark()?;
                    self.tuple(items)?;
                }
                op::TUPLE1..=op::TUPLE3 => {
                    let count = (op - op::TUPLE1 + 1) as usize;
                    let mut items = vec![0; count];
                    for item in items.iter_mut().rev() {
                        *item = self.pop()?;
                    }
                    self.tuple(items)?;
                }
                op::EMPTY_LIST => self.push_node(Node::List(Vec::new()))?,
                op::LIST => {
                    let items = self.pop_mark()?;
                    self.push_node(Node::List(items))?;
                }
                op::APPEND => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                op::APPENDS => {
                    let items = self.pop_mark()?;
                    self.append(items)?;
                }
                op::EMPTY_DICT => self.push_node(Node::Dict(Vec::new()))?,
                op::DICT => {
                    let pairs = self.pop_pairs()?;
                    self.push_node(Node::Dict(pairs))?;
                }
                op::SETITEM => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.set_items(vec![(key, value)])?;
                }
                op::SETITEMS => {
                    let pairs = self.pop_pairs()?;
                    self.set_items(pairs)?;
                }
                op::EMPTY_SET => self.push_node(Node::Set(Vec::new()))?,
                op::ADDITEMS => {
                    let items = self.pop_mark()?;
                    let target = self.top()?;
                    match self.nodes.get_mut(target as usize) {
                        Some(Node::Set(set)) => set.extend(items),
                        Some(Node::Object(object)) => object.items.extend(items),
                        _ => return Err(self.wrong("adds to something that is not a set")),
                    }
                }
                op::FROZENSET => {
                    let items = self.pop_mark()?;
                    self.push_node(Node::Set(items))?;
                }
                op::GLOBAL => {
                    let (module, name) = (self.line_text()?, self.line_text()?);
                    self.global(&module, &name)?;
                }
                op::STACK_GLOBAL => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    self.stack_global(module, name)?;
                }
                op::INST => {
                    let (module, name) = (self.line_text()?, self.line_text()?);
                    let items = self.pop_mark()?;
                    let callable = self.global_id(&module, &name)?;
                    let args = self.node(Node::Tuple(items.into_boxed_slice()))?;
                    self.object(callable, args)?;
                }
                op::OBJ => {
                    let mut items = self.pop_mark()?;
                    if items.is_empty() {
                        return Err(self.wrong("builds an object of no class"));
                    }
                    let callable = items.remove(0);
                    let args = self.node(Node::Tuple(items.into_boxed_slice()))?;
                    self.object(callable, args)?;
                }
                op::REDUCE | op::NEWOBJ => {
                    let (args, callable) = (self.pop()?, self.pop()?);
                    self.object(callable, args)?;
                }
                op::NEWOBJ_EX => {
                    let (_kwargs, args, callable) = (self.pop()?, self.pop()?, self.pop()?);
                    self.object(callable, args)?;
                }
                op::BUILD => {
                    let state = self.pop()?;
                    let target = self.top()?;
                    match self.nodes.get_mut(target as usize) {
                        Some(Node::Object(object)) => object.state = Some(state),
                        _ => {
                            return Err(
                                self.wrong("gives a state to something that is not an object")
                            );
                        }
                    }
                }
                op::PERSID => {
                    let line = self.line_text()?;
                    let id = self.node(Node::Owned(line.into()))?;
                    self.push_node(Node::Persistent(id))?;
                }
                op::BINPERSID => {
                    let id = self.pop()?;
                    self.push_node(Node::Persistent(id))?;
                }
                op::BINPUT => {
                    let [index] = self.input.array()?;
                    self.put(index.into())?;
                }
                op::LONG_BINPUT => {
                    let index = u32::from_le_bytes(self.input.array()?);
                    self.put(index.into())?;
                }
                op::PUT | op::GET => {
                    let line = self.line_text()?;
                    let index = line.trim().parse().map_err(|_| {
                        self.wrong(&format!("has the memo index '{}'", shown(&line)))
                    })?;
                    if op == op::PUT { self.put(index)? } else { self.get(index)? }
                }
                op::MEMOIZE => {
                    self.put(self.remembered)?;
                }
                op::BINGET => {
                    let [index] = self.input.array()?;
                    self.get(index.into())?;
                }
                op::LONG_BINGET => {
                    let index = u32::from_le_bytes(self.input.array()?);
                    self.get(index.into())?;
                }
                op::EXT1..=op::EXT4 => {
                    return Err(Error::refused(
                        "the pickle uses the extension registry, which is not part of the file",
                    ));
                }
                op::NEXT_BUFFER | op::READONLY_BUFFER => {
                    return Err(Error::refused(
                        "the pickle needs out-of-band buffers, which are not part of the file",
                    ));
                }
                other => {
                    return Err(Error::corrupt(format!(
                        "byte {} of the pickle is {other:#04x}, not an opcode",
                        self.input.at - 1
                    )));
                }
            }
        }
    }

    /// A global named by two texts; the same two need not be joined and looked up again.
    fn stack_global(&mut self, module: Id, name: Id) -> Result<()> {
        if let Some(&id) = self.stacked.get(&(module, name)) {
            return self.push(id);
        }
        let (module_text, name_text) = (self.global_text(module)?, self.global_text(name)?);
        let id = self.global_id(&module_text, &name_text)?;
        self.hold(3)?;
        self.stacked.insert((module, name), id);
        self.push(id)
    }
    /// A text that names a global.
    fn global_text(&self, id: Id) -> Result<String> {
        match self.nodes.get(id as usize) {
            Some(Node::Text(span)) => {
                self.short_enough(span.len)?;
                let bytes = &self.input.bytes[span.start..span.start + span.len];
                std::str::from_utf8(bytes).ok().map(str::to_string)
            }
            Some(Node::Owned(text)) => {
                self.short_enough(text.len())?;
                Some(text.to_string())
            }
            _ => None,
        }
        .ok_or_else(|| self.wrong("names a global by something that is not text"))
    }
    /// `INT` and `LONG`: decimal text; `01` and `00` are booleans.
    fn int_line(&mut self, op: u8) -> Result<()> {
        let line = self.line_text()?;
        let text = line.trim();
        match text {
            "01" if op == op::INT => return self.push(self.bools[1]),
            "00" if op == op::INT => return self.push(self.bools[0]),
            _ => {}
        }
        match text.strip_suffix('L').unwrap_or(text).parse() {
            Ok(n) => self.int(n),
            Err(_) => Err(self.wrong(&format!("has the integer '{}'", shown(text)))),
        }
    }
}
