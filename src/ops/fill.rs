//! Values in the place of nulls, and nulls in the place of values.

use super::cast;
use crate::error::Result;
use crate::model::{ArrayMeta, Buf, Chunk, Dtype, Logical, Values};

/// Makes a chunk one of nulls of this array.
pub(super) fn nulls(chunk: &mut Chunk, meta: &ArrayMeta) -> Result<()> {
    let rows = chunk.rows as usize;
    chunk.valid = Some(Buf::from_vec(vec![0u8; rows]));
    chunk.values = match &meta.logical {
        Logical::Nested(nested) => {
            chunk.valid = None;
            Values::Nested(arrow_array::new_null_array(&nested.coded_type(), rows))
        }
        logical if logical.is_var() => {
            Values::Var { offsets: vec![0; rows + 1], values: Vec::<u8>::new().into() }
        }
        logical => {
            let element = match logical.is_plain() && meta.dtype.is_float() {
                true => cast::unchecked(&Buf::from_vec(vec![f64::NAN]), Dtype::F64, meta.dtype),
                false => vec![0u8; meta.dtype.item_bytes() as usize].into(),
            };
            let bytes = meta.row_bytes()? as usize;
            Values::Fixed(element.repeat(bytes * rows / element.len().max(1)).into())
        }
    };
    Ok(())
}

/// Gives a chunk of texts `text` at its nulls, and no mask.
pub(super) fn texts(chunk: &mut Chunk, text: &[u8]) {
    let Some(valid) = chunk.valid.take().filter(|v| v.contains(&0)) else { return };
    let Values::Var { offsets, values } = &chunk.values else { return };
    let nulls = valid.iter().filter(|v| **v == 0).count();
    let mut filled = Vec::with_capacity(values.len() + nulls * text.len());
    let mut ends = Vec::with_capacity(offsets.len());
    ends.push(0u64);
    for (row, valid) in valid.iter().enumerate().take(chunk.rows as usize) {
        filled.extend_from_slice(if *valid == 0 { text } else { chunk.text(row) });
        ends.push(filled.len() as u64);
    }
    chunk.values = Values::Var { offsets: ends, values: Buf::from_vec(filled) };
}

/// Elements of fixed size with `element` at the nulls.
pub(super) fn elements(values: &Buf, valid: &[u8], element: &[u8]) -> Buf {
    let row = values.len() / valid.len().max(1);
    let mut out = values.to_vec();
    for (i, _) in valid.iter().enumerate().filter(|(_, v)| **v == 0) {
        for part in out[i * row..(i + 1) * row].chunks_exact_mut(element.len().max(1)) {
            part.copy_from_slice(element);
        }
    }
    Buf::from_vec(out)
}
