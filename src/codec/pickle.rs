//! A restricted pickle machine: reads protocols 0 to 5 into a table of inert nodes and runs
//! nothing.
//!
//! Specification: <https://github.com/python/cpython/blob/main/Lib/pickletools.py>. Every global is
//! only a name; a call (`REDUCE`, `NEWOBJ`, `INST`, `OBJ`, `BUILD`) only an [`Object`] that says
//! what would have been called with what. Nodes live in one table and refer to each other by index,
//! so shared and cyclic values cost nothing and nothing here recurses.
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
//! Bounded: the bytes, the nodes, the stack and the memo together stay below a limit; every length
//! is compared with the bytes that are left before it is used, and what a global is called is at
//! most 1 KiB long.

use std::sync::Arc;

use self::input::Input;
use self::machine::Machine;
use crate::error::Result;
use crate::storage::Blob;

mod input;
mod machine;
mod node;
pub mod numpy;
pub(crate) mod opcodes;
mod run;
mod text;

pub use self::node::{Id, Node, Object, Pickle, Span};
pub use self::text::{long_digits, shown};

/// Reads a pickle that is in memory as a whole; `limit_bytes` bounds the memory it may take.
///
/// # Errors
/// Corrupt; refused where it needs a thing that no file has, or too much memory.
pub fn read(bytes: Vec<u8>, limit_bytes: u64) -> Result<Pickle> {
    Machine::new(Input::new(bytes, None, limit_bytes), limit_bytes).run()
}

/// Reads the pickle that begins at `offset` of a blob; only its `STOP` shows where it ends.
///
/// # Errors
/// As [`read`], and reading errors.
pub fn read_from(blob: &Arc<dyn Blob>, offset: u64, limit_bytes: u64) -> Result<Pickle> {
    Machine::new(Input::new(Vec::new(), Some((blob.clone(), offset)), limit_bytes), limit_bytes)
        .run()
}
