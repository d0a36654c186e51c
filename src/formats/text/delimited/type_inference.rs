//! What the cells of a column have in common, and the type that follows from it.
//!
//! Each cell adds its class to a set; the set of all cells decides, so that the order of rows never
//! matters:
//!
//! | cells | type |
//! |---|---|
//! | integers, from -2^63 to 2^63 - 1 | int64 |
//! | integers, from 0 to 2^64 - 1 | uint64 |
//! | numbers; integers among them lose no digit as doubles | float64 |
//! | complex numbers and numbers | complex128 |
//! | `True` and `False` | bool |
//! | none at all, or nulls alone | float64 |
//! | anything else, or a mixture: leading zeros (`007`), longer integers, text | text |

use crate::model::{ArrayMeta, Dtype, Logical};

/// A set of cell classes.
pub type Classes = u16;

/// A negative integer.
pub const NEGATIVE: Classes = 1;
/// An integer of any sign.
pub const INTEGER: Classes = 2;
/// An integer past 2^63 - 1.
pub const UNSIGNED: Classes = 4;
/// An integer that would lose digits as a double.
pub const UNSAFE: Classes = 8;
/// An integer past 2^64 that would not.
pub const LONG: Classes = 16;
/// A number with a fraction or an exponent, an infinity, a NaN.
pub const FLOAT: Classes = 32;
/// A complex number.
pub const COMPLEX: Classes = 64;
/// A boolean.
pub const BOOL: Classes = 128;
/// Anything else.
pub const TEXT: Classes = 256;
/// A null, read as a number (which says nothing about the type).
pub const NULL: Classes = 512;
/// A null, read as text.
pub const NULL_TEXT: Classes = 1024;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Type {
    Int64,
    Uint64,
    Float64,
    /// Read straight as float32, asked for by `--dtype`.
    Float32,
    /// Read straight as float16, asked for by `--dtype`.
    Float16,
    Complex128,
    /// Asked for by `--dtype`.
    Complex64,
    Bool,
    Text,
}

/// The type of a column whose cells are of these classes.
pub fn resolve(classes: Classes) -> Type {
    let has = |c: Classes| classes & c != 0;
    let numbers = has(INTEGER | LONG | FLOAT | COMPLEX);
    if has(TEXT) || has(BOOL) && numbers {
        return Type::Text;
    }
    if has(BOOL) {
        return Type::Bool;
    }
    if has(FLOAT | COMPLEX) {
        return match (has(UNSAFE), has(COMPLEX)) {
            (true, _) => Type::Text,
            (false, true) => Type::Complex128,
            (false, false) => Type::Float64,
        };
    }
    if has(LONG) || has(UNSIGNED) && has(NEGATIVE) {
        return Type::Text;
    }
    match (has(INTEGER), has(UNSIGNED)) {
        (true, true) => Type::Uint64,
        (true, false) => Type::Int64,
        (false, _) => Type::Float64,
    }
}

impl Type {
    /// The model's dtype.
    pub fn dtype(self) -> Dtype {
        match self {
            Type::Int64 => Dtype::I64,
            Type::Uint64 => Dtype::U64,
            Type::Float64 => Dtype::F64,
            Type::Float32 => Dtype::F32,
            Type::Float16 => Dtype::F16,
            Type::Complex128 => Dtype::C128,
            Type::Complex64 => Dtype::C64,
            Type::Bool => Dtype::Bool,
            Type::Text => Dtype::U8,
        }
    }
    /// A column of this type.
    pub fn column(self, name: &str, rows: Option<u64>) -> ArrayMeta {
        let logical = if self == Type::Text { Logical::Text } else { Logical::Plain };
        ArrayMeta::column(name, self.dtype(), logical, rows)
    }
}
