//! Blocks of quantised values as arrays of floats.

use std::sync::Arc;

use half::{bf16, f16};

use super::blocks::Decode;
use super::tensor_types::TensorType;
use crate::array::element::Convert;
use crate::error::Error;
use crate::model::Dtype;

/// The most elements of a block.
const MAX_ELEMENTS: usize = 256;

/// What turns blocks of this type into floats: float32 as they are, others rounded once, to the
/// nearest, ties to even.
pub(super) fn converter(kind: &'static TensorType, decode: Decode, to: Dtype) -> Convert {
    let (stored, elements) = (kind.block_bytes as usize, kind.block_elements as usize);
    Convert::With(Arc::new(move |blocks: Vec<u8>, first: u64| {
        let item = to.item_bytes() as usize;
        let mut out = vec![0; blocks.len() / stored * elements * item];
        let mut floats = [0f32; MAX_ELEMENTS];
        let floats = &mut floats[..elements];
        let outs = out.chunks_exact_mut(elements * item);
        for (k, (block, out)) in blocks.chunks_exact(stored).zip(outs).enumerate() {
            decode(block, floats);
            match to {
                Dtype::F32 => out.copy_from_slice(bytemuck::cast_slice(floats)),
                Dtype::Bf16 => put(out, floats, |v| bf16::from_f32(v).to_le_bytes()),
                Dtype::F16 => {
                    put(out, floats, |v| f16::from_f32(v).to_le_bytes());
                    let past = |v: &f32| v.is_finite() && f16::from_f32(*v).is_infinite();
                    if let Some(i) = floats.iter().position(past) {
                        return Err(past_range(
                            floats[i],
                            (first + k as u64) * elements as u64 + i as u64,
                        ));
                    }
                }
                other => return Err(Error::internal(format!("blocks as {other}"))),
            }
        }
        Ok(out)
    }))
}

fn put(out: &mut [u8], floats: &[f32], bytes: impl Fn(f32) -> [u8; 2]) {
    out.as_chunks_mut::<2>().0.iter_mut().zip(floats).for_each(|(to, v)| *to = bytes(*v));
}

fn past_range(value: f32, index: u64) -> Error {
    Error::refused(format!("element {index} ({value}) is past the range of float16"))
        .hint("--dequantize=bfloat16 or float32 holds it")
}
