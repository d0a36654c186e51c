//! The opcodes, and what each does to the machine.

use super::machine::Machine;
use super::node::{Node, Pickle};
use super::opcodes as op;
use super::text::{shown, unescape};
use crate::error::{Error, Result};

impl Machine {
    /// Runs the opcodes to the `STOP`.
    ///
    /// # Errors
    /// Corrupt; refused where a thing is needed that no file has, or too much memory.
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
