//! The element types of ggml, by their numbers.

use super::blocks::{self, Decode};
use crate::model::Dtype;

/// A type of ggml.
pub(super) struct TensorType {
    pub number: u32,
    /// As ggml calls it.
    pub name: &'static str,
    /// Elements of a block; 1 for plain types.
    pub block_elements: u64,
    /// Bytes of a block.
    pub block_bytes: u64,
    pub stored: Stored,
}

/// What its bytes are.
pub(super) enum Stored {
    /// Elements.
    Plain(Dtype),
    /// Blocks, and what makes floats of one, where that is known.
    Blocks(Option<Decode>),
}

const fn plain(number: u32, name: &'static str, dtype: Dtype, block_bytes: u64) -> TensorType {
    TensorType { number, name, block_elements: 1, block_bytes, stored: Stored::Plain(dtype) }
}

const fn row(
    number: u32,
    name: &'static str,
    block_elements: u64,
    block_bytes: u64,
    decode: Decode,
) -> TensorType {
    TensorType { number, name, block_elements, block_bytes, stored: Stored::Blocks(Some(decode)) }
}

/// A type of which gguf-py makes no floats.
const fn kept(
    number: u32,
    name: &'static str,
    block_elements: u64,
    block_bytes: u64,
) -> TensorType {
    TensorType { number, name, block_elements, block_bytes, stored: Stored::Blocks(None) }
}

/// Sizes are those of gguf-py. Numbers that are not here were given up again.
#[rustfmt::skip]
static TYPES: &[TensorType] = &[
    plain(0, "F32", Dtype::F32, 4),
    plain(1, "F16", Dtype::F16, 2),
    row(2, "Q4_0", 32, 18, blocks::q4_0),
    row(3, "Q4_1", 32, 20, blocks::q4_1),
    row(6, "Q5_0", 32, 22, blocks::q5_0),
    row(7, "Q5_1", 32, 24, blocks::q5_1),
    row(8, "Q8_0", 32, 34, blocks::q8_0),
    kept(9, "Q8_1", 32, 40),
    row(10, "Q2_K", 256, 84, blocks::q2_k),
    row(11, "Q3_K", 256, 110, blocks::q3_k),
    row(12, "Q4_K", 256, 144, blocks::q4_k),
    row(13, "Q5_K", 256, 176, blocks::q5_k),
    row(14, "Q6_K", 256, 210, blocks::q6_k),
    row(15, "Q8_K", 256, 292, blocks::q8_k),
    row(16, "IQ2_XXS", 256, 66, blocks::iq2_xxs),
    row(17, "IQ2_XS", 256, 74, blocks::iq2_xs),
    row(18, "IQ3_XXS", 256, 98, blocks::iq3_xxs),
    row(19, "IQ1_S", 256, 50, blocks::iq1_s),
    row(20, "IQ4_NL", 32, 18, blocks::iq4_nl),
    row(21, "IQ3_S", 256, 110, blocks::iq3_s),
    row(22, "IQ2_S", 256, 82, blocks::iq2_s),
    row(23, "IQ4_XS", 256, 136, blocks::iq4_xs),
    plain(24, "I8", Dtype::I8, 1),
    plain(25, "I16", Dtype::I16, 2),
    plain(26, "I32", Dtype::I32, 4),
    plain(27, "I64", Dtype::I64, 8),
    plain(28, "F64", Dtype::F64, 8),
    row(29, "IQ1_M", 256, 56, blocks::iq1_m),
    plain(30, "BF16", Dtype::Bf16, 2),
    row(34, "TQ1_0", 256, 54, blocks::tq1_0),
    row(35, "TQ2_0", 256, 66, blocks::tq2_0),
    row(39, "MXFP4", 32, 17, blocks::mxfp4),
    row(40, "NVFP4", 64, 36, blocks::nvfp4),
    kept(41, "Q1_0", 128, 18),
];

/// The plain types.
pub(super) const WRITTEN: &[Dtype] = &[
    Dtype::F32,
    Dtype::F16,
    Dtype::I8,
    Dtype::I16,
    Dtype::I32,
    Dtype::I64,
    Dtype::F64,
    Dtype::Bf16,
];

impl TensorType {
    /// Of this number.
    pub fn of(number: u32) -> Option<&'static TensorType> {
        TYPES.iter().find(|t| t.number == number)
    }
    /// The quantised type of this name.
    pub fn named(name: &str) -> Option<&'static TensorType> {
        TYPES.iter().find(|t| t.name == name && matches!(t.stored, Stored::Blocks(_)))
    }
    /// The plain type of these elements.
    pub fn plain(dtype: Dtype) -> Option<&'static TensorType> {
        TYPES.iter().find(|t| matches!(t.stored, Stored::Plain(d) if d == dtype))
    }
}
