//! Quantised weights beside their scales: dequantised where that is asked for, else noticed.

use crate::error::Result;
use crate::format::{Dequantize, ReadOptions};
use crate::model::{Dtype, Plan};
use crate::pipe::{self, Flow, Settings};
use crate::resolve::dequantize::{Wish, dequantize, pairs};
use crate::storage::{EntryKind, Location};

/// Configurations beyond this are not looked at.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// Multiplies weights with their scales, or (without `--dequantize`) remembers which of them have
/// some.
///
/// # Errors
/// Refused: scales whose blocks are not clear.
pub(super) fn look(
    flow: Flow,
    at: &Location,
    read: &ReadOptions,
    settings: &Settings,
) -> Result<Flow> {
    let found = pairs(flow.plan());
    let to = match read.dequantize {
        Dequantize::No => None,
        Dequantize::Usual => Some(None),
        Dequantize::To(dtype) => Some(Some(dtype)),
    };
    let Some(to) = to else {
        if found.is_empty() {
            return Ok(flow);
        }
        let mut plan = flow.plan().clone();
        for (array, scales) in found {
            let meta = &mut plan.arrays[array];
            meta.details.quantized = Some((meta.dtype, scales));
        }
        return Ok(flow.relabel(plan));
    };
    if found.is_empty() {
        return Ok(flow);
    }
    let mut step = dequantize(flow.plan(), &Wish { to, block: block_size(at) })?;
    step.plan.notes.append(&mut step.notes);
    let flow = flow.then(step);
    if !at.is_stream() {
        return Ok(flow);
    }
    // From a pipe weights and scales come one after the other.
    let arrays = &flow.plan().arrays;
    let good: Vec<usize> =
        (0..arrays.len()).filter(|&a| arrays[a].details.error.is_none()).collect();
    Ok(Box::new(pipe::with_random(flow, &good, settings)?).into())
}

/// A warning where quantised values become other numbers without their scales.
pub(super) fn warning(plan: &Plan) -> Option<String> {
    let mut alone = plan.arrays.iter().filter_map(|meta| {
        let (was, scales) = meta.details.quantized.as_ref()?;
        (meta.dtype != *was && meta.dtype != Dtype::U8).then_some((meta, was, scales))
    });
    let (meta, was, scales) = alone.next()?;
    let more = match alone.count() {
        0 => String::new(),
        n => format!(" (and {n} more)"),
    };
    Some(format!(
        "{}{more}: {was} becomes {} without its scales, which are in {scales}; --dequantize multiplies with them",
        meta.name, meta.dtype
    ))
}

/// Rows and columns of a block, as the `config.json` of a model says.
fn block_size(at: &Location) -> Option<[u64; 2]> {
    if at.is_stream() {
        return None;
    }
    let folder = if at.kind().ok()? == EntryKind::Dir { at.clone() } else { at.parent() };
    let blob = folder.join("config.json").blob().ok()?;
    if blob.len() > MAX_CONFIG_BYTES {
        return None;
    }
    let config: serde_json::Value =
        serde_json::from_slice(&blob.read_vec(0, blob.len()).ok()?).ok()?;
    let quantization =
        config.get("quantization_config").or_else(|| config.get("compression_config"))?;
    let of = |value: Option<&serde_json::Value>| -> Option<[u64; 2]> {
        match value?.as_array()?.as_slice() {
            [rows, columns] => Some([rows.as_u64()?, columns.as_u64()?]),
            _ => None,
        }
    };
    of(quantization.get("weight_block_size")).or_else(|| {
        let groups = quantization.get("config_groups")?.as_object()?;
        groups.values().find_map(|group| of(group.get("weights")?.get("block_structure")))
    })
}
