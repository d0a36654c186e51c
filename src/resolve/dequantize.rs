//! `--dequantize`: which arrays are quantised weights, and which are their scales.
//!
//! | weights | scales beside them |
//! |---|---|
//! | float8 `X.weight` | `X.weight_scale_inv` or `X.weight_scale` (any name: `Y_scale_inv`, `Y_scale`; `X.scale_weight`, `X.scale`): a scale for all, a row, a block |
//! | uint8 `X_blocks`, `[…, rows, groups, 16]` | uint8 `X_scales`, `[…, rows, groups]`: MXFP4, becomes `X` with rows and columns exchanged; `X.blocks` and `X.scales`: without |
//! | uint8 `X.weight_packed` or `X.weight`, `[rows, columns / 2]` | `X.weight_scale`: float8 E4M3 for 16 with `X.weight_global_scale` (a divisor) or `X.weight_scale_2` (a factor): NVFP4; uint8 or E8M0 for 32: MXFP4; becomes `X.weight` |
//!
//! Scales of activations (`input_scale`) are left as they are.

use std::collections::{HashMap, HashSet};

use super::Step;
use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Dtype, Plan};
use crate::ops::{Codes, Dequantize, DequantizeInput, Global};
use crate::ops::{Op, Recipe};

/// What the user asks for, and what is known beside the arrays.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// What the numbers become, where that was said.
    pub to: Option<Dtype>,
    /// Rows and columns of a block, where a model's configuration says so.
    pub block: Option<[u64; 2]>,
}

/// Weights and their scales, by their places in the plan.
struct QuantizedWeights {
    weights: usize,
    scales: usize,
    global: Option<(usize, Global)>,
    kind: Scheme,
    /// What the numbers are called.
    name: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Scheme {
    Float8,
    /// Blocks of 32 with a byte each; whether rows and columns are exchanged.
    Blocks(bool),
    /// So many numbers to a scale.
    Packed(u64),
}

/// Dequantises all weights whose scales are there.
///
/// # Errors
/// Missing: none are there. Refused: a name that another array has. Weights that cannot be
/// dequantised (scales whose blocks are not clear, zero points) say so when they are read.
pub fn dequantize(plan: &Plan, wish: &Wish) -> Result<Step> {
    let found = find(plan);
    if found.is_empty() {
        let what = "no array with quantised weights has its scales beside it";
        return Err(Error::missing(what).hint("npk list -l shows what there is"));
    }
    let (places, mut made) = (plan.positions(), HashMap::new());
    let mut gone: HashSet<usize> = HashSet::new();
    let mut weights = HashSet::new();
    for found in &found {
        gone.extend([found.scales].into_iter().chain(found.global.map(|g| g.0)));
        weights.insert(found.weights);
        let zero = format!("{}_zero_point", plan.arrays[found.weights].name);
        let made_of = match places.contains_key(zero.as_str()) {
            false => one(plan, found, wish),
            true => Err(Error::refused(format!("it has a zero point ({zero})"))),
        };
        // It concerns nobody who does not want this array.
        let array = made_of.or_else(|error| {
            let mut meta = plan.arrays[found.weights].clone();
            let error = error.hint("--skip-unsupported leaves it out").of_data()?;
            meta.details.error = Some(std::sync::Arc::new(error));
            Ok::<_, Error>((meta, None))
        })?;
        made.insert(found.weights, array);
    }
    // Scales that something else still needs stay.
    let (mut new, mut recipes) = (plan.clone(), Vec::new());
    new.arrays.clear();
    let mut types: Vec<Dtype> = Vec::new();
    for (i, meta) in plan.arrays.iter().enumerate() {
        match made.remove(&i) {
            Some((meta, op)) => {
                if op.is_some() && !types.contains(&meta.dtype) {
                    types.push(meta.dtype);
                }
                new.arrays.push(meta);
                recipes.push(Recipe { input: i, ops: op.into_iter().collect() });
            }
            None if gone.contains(&i) && !weights.contains(&i) => {}
            None => {
                new.arrays.push(meta.clone());
                recipes.push(Recipe::of(i));
            }
        }
    }
    let mut names = HashSet::new();
    if let Some(twice) = new.arrays.iter().find(|a| !names.insert(a.name.as_str())) {
        return Err(
            Error::refused("its weights become an array whose name another has").array(&twice.name)
        );
    }
    let types = types.iter().map(|t| t.name()).collect::<Vec<_>>().join(" and ");
    let count = recipes.iter().filter(|r| r.dequantize().is_some()).count();
    let scales = gone.len();
    let note = format!(
        "{count} array{} dequantised to {types}; {scales} array{} of their scales {} left out",
        if count == 1 { " is" } else { "s are" },
        if scales == 1 { "" } else { "s" },
        if scales == 1 { "is" } else { "are" },
    );
    new.keep_columns();
    let notes = if count > 0 { vec![note] } else { Vec::new() };
    Ok(Step { plan: new, recipes, notes })
}

/// Weights whose scales lie beside them: their places in the plan, and the names of the scales.
pub fn pairs(plan: &Plan) -> Vec<(usize, String)> {
    find(plan).into_iter().map(|f| (f.weights, plan.arrays[f.scales].name.clone())).collect()
}

fn find(plan: &Plan) -> Vec<QuantizedWeights> {
    let places = plan.positions();
    let at = |name: String| places.get(name.as_str()).copied();
    let mut found = Vec::new();
    for (weights, meta) in plan.arrays.iter().enumerate() {
        if !meta.logical.is_plain() || meta.details.error.is_some() || meta.scalar {
            continue;
        }
        let name = meta.name.as_str();
        let new = |scales, global, kind, name: &str| {
            Some(QuantizedWeights { weights, scales, global, kind, name: name.to_string() })
        };
        let one = match meta.dtype {
            dtype if dtype.is_float8() && dtype != Dtype::F8E8m0 => {
                let base = name.strip_suffix("weight").filter(|b| b.is_empty() || b.ends_with('.'));
                let of_base = |end: &str| base.and_then(|base| at(format!("{base}{end}")));
                let scales = at(format!("{name}_scale_inv"))
                    .or_else(|| at(format!("{name}_scale")))
                    .or_else(|| of_base("scale_weight"))
                    .or_else(|| of_base("scale"));
                scales
                    .filter(|&s| s != weights && is_scale(&plan.arrays[s]))
                    .and_then(|scales| new(scales, None, Scheme::Float8, name))
            }
            Dtype::U8 => packed(plan, meta, &at)
                .and_then(|(scales, global, kind, name)| new(scales, global, kind, &name)),
            _ => None,
        };
        found.extend(one);
    }
    found
}

type PackedScales = (usize, Option<(usize, Global)>, Scheme, String);

/// Scales of weights of 4 bits.
fn packed(
    plan: &Plan,
    meta: &ArrayMeta,
    at: &dyn Fn(String) -> Option<usize>,
) -> Option<PackedScales> {
    let (name, shape) = (meta.name.as_str(), meta.shape()?);
    let (&last, outer) = shape.split_last()?;
    for (end, scales, turned) in [("_blocks", "_scales", true), (".blocks", ".scales", false)] {
        let Some(stem) = name.strip_suffix(end).filter(|stem| !stem.is_empty()) else { continue };
        let scales = at(format!("{stem}{scales}"))?;
        let of = &plan.arrays[scales];
        let fits = of.dtype == Dtype::U8 && of.shape()? == outer && last == 16 && outer.len() >= 2;
        let turned = turned && outer.len() >= 3;
        return fits.then(|| (scales, None, Scheme::Blocks(turned), stem.to_string()));
    }
    let base = name.strip_suffix("weight_packed").or_else(|| name.strip_suffix("weight"))?;
    if !base.is_empty() && !base.ends_with('.') {
        return None;
    }
    let scales = at(format!("{base}weight_scale"))?;
    let of = &plan.arrays[scales];
    let scale_shape = of.shape()?;
    let (&groups, scale_outer) = scale_shape.split_last()?;
    let width = last.checked_mul(2)?;
    if scale_outer != outer || outer.is_empty() || groups == 0 || width % groups != 0 {
        return None;
    }
    let group = width / groups;
    let name = format!("{base}weight");
    match of.dtype {
        Dtype::F8E4m3 if group == 16 => {
            let over = at(format!("{base}weight_global_scale")).map(|i| (i, Global::Over));
            let times = at(format!("{base}weight_scale_2")).map(|i| (i, Global::Times));
            let global = over.or(times)?;
            let meta = &plan.arrays[global.0];
            let single = meta.dtype == Dtype::F32 && meta.bytes().ok()? == Some(4);
            single.then_some((scales, Some(global), Scheme::Packed(group), name))
        }
        Dtype::U8 | Dtype::F8E8m0 if group == 32 => {
            Some((scales, None, Scheme::Packed(group), name))
        }
        _ => None,
    }
}

fn is_scale(meta: &ArrayMeta) -> bool {
    let held = [Dtype::F32, Dtype::Bf16, Dtype::F16, Dtype::F8E8m0, Dtype::U8];
    meta.logical.is_plain() && held.contains(&meta.dtype) && meta.details.error.is_none()
}

fn one(plan: &Plan, found: &QuantizedWeights, wish: &Wish) -> Result<(ArrayMeta, Option<Op>)> {
    let (meta, scale) = (&plan.arrays[found.weights], &plan.arrays[found.scales]);
    let (shape, scale_shape) = match (meta.shape(), scale.shape()) {
        (Some(a), Some(b)) => (a, b),
        _ => return Err(Error::refused("its rows are not known before they are read")),
    };
    let (codes, shape, block) = match found.kind {
        Scheme::Float8 => {
            let block = blocks(&shape, &scale_shape, wish).ok_or_else(|| {
                Error::refused(format!(
                    "its shape {shape:?} and that of {}, {scale_shape:?}, do not show the size of a block",
                    scale.name
                ))
            })?;
            (Codes::Float8(meta.dtype), shape, block)
        }
        Scheme::Blocks(_) => {
            let rank = shape.len();
            let columns = shape[rank - 2].saturating_mul(32);
            let mut shape = shape[..rank - 2].to_vec();
            shape.push(columns);
            let mut block = vec![1; shape.len()];
            block[shape.len() - 1] = 32;
            (Codes::Fp4, shape, block)
        }
        Scheme::Packed(group) => {
            let mut shape = shape;
            let mut block = vec![1; shape.len()];
            if let (Some(last), Some(size)) = (shape.last_mut(), block.last_mut()) {
                (*last, *size) = (last.saturating_mul(2), group);
            }
            (Codes::Fp4, shape, block)
        }
    };
    let default = if scale.dtype == Dtype::F16 { Dtype::F16 } else { Dtype::Bf16 };
    let to = wish.to.unwrap_or(default);
    let turned = found.kind == Scheme::Blocks(true);
    let part = |i: usize| {
        let meta = &plan.arrays[i];
        let rows = meta.rows.unwrap_or(1);
        DequantizeInput { recipe: Recipe::of(i), name: meta.name.clone(), dtype: meta.dtype, rows }
    };
    let mut parts = vec![part(found.weights), part(found.scales)];
    parts.extend(found.global.map(|(i, _)| part(i)));
    let mut outer = shape.clone();
    if turned {
        let rank = outer.len();
        outer.swap(rank - 2, rank - 1);
    }
    let mut made = ArrayMeta::new(&found.name, to, &outer);
    made.details.attributes = meta.details.attributes.clone();
    made.details.part = meta.details.part.clone();
    made.bytes()?;
    let global = found.global.map(|(_, global)| global);
    let op = Dequantize { parts, codes, shape, block, global, turned, to }.into();
    Ok((made, Some(op)))
}

/// The shape of a block: as the configuration says, else as the shapes show.
fn blocks(shape: &[u64], scales: &[u64], wish: &Wish) -> Option<Vec<u64>> {
    // One scale for all.
    if scales.iter().all(|&n| n == 1) {
        return Some(shape.iter().map(|&n| n.max(1)).collect());
    }
    let mut scales = scales.to_vec();
    // One for every row, or for every row of every matrix.
    let rank = shape.len();
    if scales.len() < rank && scales[..] == shape[..scales.len()] {
        scales.resize(rank, 1);
    }
    if shape.contains(&0) {
        return Some(vec![1; rank]);
    }
    if scales.len() != rank {
        return None;
    }
    (0..rank)
        .map(|d| {
            let (n, count) = (shape[d], scales[d]);
            let told = wish.block.filter(|_| rank >= 2 && d + 2 >= rank);
            let told = told.map(|block| block[d + 2 - rank]);
            let fits = |size: u64| size > 0 && n.div_ceil(size) == count;
            match count {
                0 => None,
                1 if !told.is_some_and(fits) => Some(n),
                _ if told.is_some_and(fits) => told,
                _ if count == n => Some(1),
                _ if fits(128) => Some(128),
                _ if n % count == 0 => Some(n / count),
                _ => (0..32).map(|k| 1u64 << k).find(|&size| fits(size)),
            }
        })
        .collect()
}
