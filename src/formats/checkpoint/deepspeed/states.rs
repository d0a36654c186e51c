//! What the files of a checkpoint say beside their tensors.
//!
//! | file | key | what |
//! |---|---|---|
//! | `*_model_states.pt` | `module` | the model's `state_dict()`, in the type it is trained in; with stage 3 its parameters are empty |
//! | | `buffer_names` | those of its names that are no parameters |
//! | | `param_shapes` | a list of groups: name → shape, in the order of the flat partitions; a dict alone in old files |
//! | | `frozen_param_shapes`, `frozen_param_fragments` | parameters that are not trained; with stage 3 a rank's part of each |
//! | | `shared_params` | name → the name of the same parameter |
//! | `*_optim_states.pt` | `optimizer_state_dict` | `zero_stage`, `partition_count`, the float32 partitions `single_partition_of_fp32_groups` or (stage 3) `fp32_flat_groups`, the optimizer's own state `base_optimizer_state` or (stage 3) `optimizer_state_dict` |

use std::collections::HashSet;

use serde_json::Value;

use super::layout::Shape;
use crate::error::{Error, Result};
use crate::formats::checkpoint::ranks::Ranks;

/// The state of the optimizer in a file.
pub(super) const STATE: &str = "optimizer_state_dict";

/// What a model file says.
pub(super) struct Model {
    pub buffers: HashSet<String>,
    /// Groups of trained parameters; `None` without ZeRO.
    pub groups: Option<Vec<Vec<Shape>>>,
    pub frozen: Vec<Shape>,
    /// Names, and of which parameter each is another name.
    pub shared: Vec<(String, String)>,
    pub version: Option<String>,
    /// The stage of ZeRO, where the settings beside the model tell it.
    pub stage: Option<u64>,
}

fn broken(key: &str) -> Error {
    Error::corrupt(format!("its {key} is not what DeepSpeed writes"))
}

/// Names and their shapes.
fn shapes(value: &Value, key: &str) -> Result<Vec<Shape>> {
    let pairs = value.as_object().ok_or_else(|| broken(key))?;
    let shape = |(name, shape): (&String, &Value)| {
        let dims = shape.as_array()?.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>()?;
        Some((name.clone(), dims))
    };
    pairs.iter().map(shape).collect::<Option<_>>().ok_or_else(|| broken(key))
}

impl Model {
    /// The keys of a model file that say how its tensors lie.
    pub const KEYS: [&str; 7] = [
        "module",
        "optimizer",
        "buffer_names",
        "param_shapes",
        "frozen_param_shapes",
        "frozen_param_fragments",
        "shared_params",
    ];

    /// What a file says.
    ///
    /// # Errors
    /// Corrupt.
    pub fn read(plain: &Value) -> Result<Model> {
        let text = |v: &Value| v.as_str().map(str::to_string);
        let buffers = match &plain["buffer_names"] {
            Value::Null => HashSet::new(),
            names => {
                let names = names.as_array().and_then(|a| a.iter().map(text).collect());
                names.ok_or_else(|| broken("buffer_names"))?
            }
        };
        let groups = match &plain["param_shapes"] {
            Value::Null => None,
            Value::Array(groups) => {
                Some(groups.iter().map(|g| shapes(g, "param_shapes")).collect::<Result<_>>()?)
            }
            one => Some(vec![shapes(one, "param_shapes")?]),
        };
        let frozen = match &plain["frozen_param_shapes"] {
            Value::Null => Vec::new(),
            value => shapes(value, "frozen_param_shapes")?,
        };
        let pair = |pair: &Value| Some((text(&pair[0])?, text(&pair[1])?));
        let shared = match &plain["shared_params"] {
            Value::Object(pairs) => {
                pairs.iter().map(|(k, v)| Some((k.clone(), text(v)?))).collect::<Option<_>>()
            }
            Value::Array(pairs) => pairs.iter().map(pair).collect::<Option<_>>(),
            _ => Some(Vec::new()),
        };
        let shared = shared.ok_or_else(|| broken("shared_params"))?;
        let stage = plain["ds_config"]["zero_optimization"]["stage"].as_u64();
        let version = text(&plain["ds_version"]);
        Ok(Model { buffers, groups, frozen, shared, version, stage })
    }
}

/// What the optimizer's file of a rank says.
pub(super) struct Optimizer {
    pub stage: u64,
    /// How many ranks the state is cut for.
    pub ranks: u64,
    /// The float32 partitions: of each group an array of the file.
    pub groups: Vec<usize>,
}

impl Optimizer {
    /// What a file of `ranks` says.
    ///
    /// # Errors
    /// Corrupt; refused where it is not a state of ZeRO, or its groups are cut in several ways.
    pub fn read(ranks: &Ranks, file: usize) -> Result<Optimizer> {
        let state = &ranks.plain(file)[STATE];
        let stage = state["zero_stage"].as_u64();
        let key = match stage {
            Some(3) => "fp32_flat_groups",
            _ => "single_partition_of_fp32_groups",
        };
        let group = |n: usize| ranks.find(file, &format!("{STATE}.{key}.{n}"));
        let groups: Vec<usize> = (0..).map_while(group).collect();
        let stage = match stage {
            Some(stage @ 1..=3) => stage,
            // BF16_Optimizer, which does not say so, cuts as stage 1 does.
            None if !groups.is_empty() => 1,
            _ => {
                return Err(Error::refused("it is not a state of ZeRO stage 1, 2 or 3"));
            }
        };
        let counts: Vec<u64> = match &state["partition_count"] {
            Value::Array(counts) => counts.iter().filter_map(Value::as_u64).collect(),
            one => one.as_u64().into_iter().collect(),
        };
        let Some(&count) = counts.first().filter(|&&count| count > 0) else {
            return Err(broken("partition_count"));
        };
        if counts.iter().any(|&n| n != count) {
            return Err(Error::refused(format!(
                "its groups are cut for different numbers of ranks, {counts:?}, as those of experts are; they are not joined"
            )));
        }
        Ok(Optimizer { stage, ranks: count, groups })
    }

    /// Where the optimizer's own state is.
    pub fn base(&self) -> &'static str {
        if self.stage == 3 { "optimizer_state_dict" } else { "base_optimizer_state" }
    }
}
