//! The machine: its stack, its memo, the nodes that it makes.

use std::collections::HashMap;

use indexmap::IndexSet;

use super::input::{Input, too_large};
use super::node::{Id, Node, Object, Span};
use super::text::{little_int, python3_name, with_surrogates};
use crate::error::{Error, Result};

pub(super) struct Machine {
    pub(super) input: Input,
    pub(super) nodes: Vec<Node>,
    pub(super) stack: Vec<Id>,
    pub(super) marks: Vec<usize>,
    memo: Vec<Id>,
    far_memo: HashMap<u64, Id>,
    /// How many memo indices were set: the next one of `MEMOIZE`.
    pub(super) remembered: u64,
    pub(super) globals: IndexSet<String>,
    /// Globals by the texts on the stack that named them.
    stacked: HashMap<(Id, Id), Id>,
    pub(super) surrogates: u64,
    small: [Id; 256],
    pub(super) none: Id,
    pub(super) bools: [Id; 2],
    pub(super) empty: Id,
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
    pub(super) fn new(input: Input, limit: u64) -> Machine {
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

    pub(super) fn node(&mut self, node: Node) -> Result<Id> {
        self.nodes.push(node);
        Id::try_from(self.nodes.len() - 1).map_err(|_| too_large(self.limit))
    }
    pub(super) fn push(&mut self, id: Id) -> Result<()> {
        self.hold(1)?;
        self.stack.push(id);
        Ok(())
    }
    /// Counts what is kept beside the nodes, in words of 8 bytes, before it is.
    pub(super) fn hold(&mut self, words: u64) -> Result<()> {
        self.pushed += words;
        let held = self.nodes.len() as u64 * size_of::<Node>() as u64 + self.pushed * 8;
        if held > self.limit { Err(too_large(self.limit)) } else { Ok(()) }
    }
    pub(super) fn push_node(&mut self, node: Node) -> Result<()> {
        let id = self.node(node)?;
        self.push(id)
    }
    pub(super) fn underflow(&self) -> Error {
        Error::corrupt(format!(
            "the pickle pops an empty stack at byte {}",
            self.input.at.saturating_sub(1)
        ))
    }
    /// The lowest stack index that may be taken: nothing is taken from below a mark.
    pub(super) fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }
    pub(super) fn pop(&mut self) -> Result<Id> {
        if self.stack.len() <= self.floor() {
            return Err(self.underflow());
        }
        self.stack.pop().ok_or_else(|| self.underflow())
    }
    pub(super) fn top(&self) -> Result<Id> {
        if self.stack.len() <= self.floor() {
            return Err(self.underflow());
        }
        self.stack.last().copied().ok_or_else(|| self.underflow())
    }
    pub(super) fn pop_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| {
            Error::corrupt(format!("the pickle has no mark at byte {}", self.input.at - 1))
        })?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }
    pub(super) fn pop_pairs(&mut self) -> Result<Vec<(Id, Id)>> {
        let flat = self.pop_mark()?;
        if flat.len() % 2 != 0 {
            return Err(Error::corrupt(format!(
                "the pickle sets a key without a value at byte {}",
                self.input.at - 1
            )));
        }
        Ok(flat.chunks_exact(2).map(|p| (p[0], p[1])).collect())
    }
    pub(super) fn wrong(&self, what: &str) -> Error {
        Error::corrupt(format!("the pickle {what} at byte {}", self.input.at.saturating_sub(1)))
    }
    pub(super) fn int(&mut self, value: i64) -> Result<()> {
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
    pub(super) fn long(&mut self, span: Span) -> Result<()> {
        let bytes = &self.input.bytes[span.start..span.start + span.len];
        match little_int(bytes) {
            Some(n) => self.int(n),
            None => self.push_node(Node::Long(span)),
        }
    }
    pub(super) fn text(&mut self, len: u64) -> Result<()> {
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
    pub(super) fn string(&mut self, len: u64) -> Result<()> {
        let span = self.input.take(len)?;
        let text =
            std::str::from_utf8(&self.input.bytes[span.start..span.start + span.len]).is_ok();
        self.push_node(if text { Node::Text(span) } else { Node::Bytes(span) })
    }
    pub(super) fn bytes(&mut self, len: u64) -> Result<()> {
        let span = self.input.take(len)?;
        self.push_node(Node::Bytes(span))
    }
    pub(super) fn line_text(&mut self) -> Result<String> {
        let span = self.input.line()?;
        std::str::from_utf8(&self.input.bytes[span.start..span.start + span.len])
            .map(str::to_string)
            .map_err(|_| {
                Error::corrupt(format!("the line at byte {} of the pickle is not text", span.start))
            })
    }
    pub(super) fn global(&mut self, module: &str, name: &str) -> Result<()> {
        let id = self.global_id(module, name)?;
        self.push(id)
    }
    pub(super) fn global_id(&mut self, module: &str, name: &str) -> Result<Id> {
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
    pub(super) fn object(&mut self, callable: Id, args: Id) -> Result<()> {
        if !matches!(self.nodes.get(args as usize), Some(Node::Tuple(_))) {
            return Err(self.wrong("calls something with arguments that are not a tuple"));
        }
        let object = Object { callable, args, ..Object::default() };
        self.push_node(Node::Object(Box::new(object)))
    }
    pub(super) fn tuple(&mut self, items: Vec<Id>) -> Result<()> {
        if items.is_empty() {
            return self.push(self.empty);
        }
        self.push_node(Node::Tuple(items.into_boxed_slice()))
    }
    pub(super) fn append(&mut self, items: Vec<Id>) -> Result<()> {
        let target = self.top()?;
        match self.nodes.get_mut(target as usize) {
            Some(Node::List(list)) => list.extend(items),
            Some(Node::Object(object)) => object.items.extend(items),
            _ => return Err(self.wrong("appends to something that is not a list")),
        }
        Ok(())
    }
    pub(super) fn set_items(&mut self, pairs: Vec<(Id, Id)>) -> Result<()> {
        let target = self.top()?;
        match self.nodes.get_mut(target as usize) {
            Some(Node::Dict(dict)) => dict.extend(pairs),
            Some(Node::Object(object)) => object.pairs.extend(pairs),
            _ => return Err(self.wrong("sets keys in something that is not a dict")),
        }
        Ok(())
    }
    pub(super) fn put(&mut self, index: u64) -> Result<()> {
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
    pub(super) fn get(&mut self, index: u64) -> Result<()> {
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

    /// A global named by two texts; the same two need not be joined and looked up again.
    pub(super) fn stack_global(&mut self, module: Id, name: Id) -> Result<()> {
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
}
