//! Checkpoints of DeepSpeed (`engine.save_checkpoint`) with ZeRO of stages 1 to 3, without DeepSpeed
//! and without running anything. What they hold is in
//! <https://github.com/deepspeedai/DeepSpeed/blob/master/deepspeed/runtime/engine.py>; how their
//! shards join, in `deepspeed/utils/zero_to_fp32.py` beside it.
//!
//! | file of the directory | what it holds |
//! |---|---|
//! | `latest` | the name of the folder below that has the newest checkpoint, which is read |
//! | `mp_rank_00_model_states.pt`, with stage 3 `zero_pp_rank_R_mp_rank_00_model_states.pt` | the model and how its parameters are cut ([`states`]) |
//! | `[bf16_]zero_pp_rank_R_mp_rank_00_optim_states.pt` | rank R's partitions of the float32 parameters and of the optimizer's state ([`layout`]) |
//!
//! Parameters are those in float32 that the optimizer keeps, whole, as `zero_to_fp32.py` gives them;
//! buffers, and parameters that are not trained, have the type in which they are stored. The
//! optimizer's state becomes `optimizer.state.NAME.exp_avg` and so on, of the same shapes. Elements
//! are read where they are: nothing is put together in memory, and nothing is copied twice.
//!
//! Every rank's file must be there: missing ones are named (exit 3), partitions that are larger or
//! smaller than their parameters are corrupt (exit 7). Not read: tensors that tensor or pipeline
//! parallelism cut as well, experts, universal checkpoints. Not written.

use std::collections::{BTreeMap, HashMap, HashSet};

use indexmap::IndexSet;

use self::files::Files;
use self::layout::{Cut, Shape, part_of};
use self::states::{Model, Optimizer, STATE};
use crate::array::boxes::Boxes;
use crate::error::{Context, Error, Result};
use crate::format::{Format, Head, ReadOptions, Sniff, Source, Spec};
use crate::formats::checkpoint::ranks::{self, Ranks, Run};
use crate::model::{ArrayMeta, Plan, checked_product};
use crate::storage::Location;

mod files;
pub mod layout;
mod states;

/// The format.
pub struct DeepSpeed;

static SPEC: Spec = Spec {
    name: "deepspeed",
    extensions: &["deepspeed"],
    about: "Checkpoints of DeepSpeed, ZeRO stages 1 to 3: float32 parameters whole from all ranks' files",
    is_directory: true,
    ..Spec::DEFAULT
};

impl Format for DeepSpeed {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        if !head.bytes.is_empty() {
            return Ok(Sniff::No);
        }
        // A store may be readable where nothing can be listed.
        let found = match Files::find(head.location) {
            Err(_) if head.location.is_remote() => None,
            found => found?,
        };
        Ok(if found.is_some() { Sniff::Yes } else { Sniff::No })
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        let files = find(at)?;
        let at = files.at.clone();
        open(files, options).at_file(&at.display())
    }
    fn verify(&self, at: &Location, _options: &ReadOptions) -> Result<Vec<String>> {
        let files = find(at)?;
        ranks::verify(&files.at, &files.names())
    }
}

fn find(at: &Location) -> Result<Files> {
    let none = || {
        Error::missing("the directory has no files of a DeepSpeed checkpoint, *_model_states.pt and *_optim_states.pt")
            .file(at.display())
    };
    Files::find(at)?.ok_or_else(none)?.readable()
}

/// A checkpoint on its way to arrays.
struct Checkpoint {
    ranks: Ranks,
    model: Model,
    /// How the optimizer's state is cut; `None` without ZeRO.
    zero: Option<Zero>,
    /// By rank; all others follow in [`Checkpoint::ranks`].
    models: BTreeMap<u64, usize>,
    /// Names that there are already.
    known: HashSet<String>,
}

/// How the state of an optimizer is cut.
struct Zero {
    stage: u64,
    optimizers: Vec<(usize, Optimizer)>,
    params: Vec<Shape>,
    cuts: Vec<Vec<Cut>>,
}

fn open(files: Files, options: &ReadOptions) -> Result<Box<dyn Source>> {
    let Some(first) = files.models.values().next() else {
        return Err(Error::missing(
            "its *_model_states.pt is missing, which says what its parameters are",
        ));
    };
    // What is there is compared with what should be, before all of it is opened.
    let start = [Some(first), files.optimizers.values().next()];
    let start: Vec<String> = start.into_iter().flatten().cloned().collect();
    let some = Ranks::open(&files.at, start, false, options)?;
    let model = Model::read(some.plain(0)).at_file(&files.at.join(first).display())?;
    let optimizer = match (&model.groups, files.optimizers.values().next()) {
        (None, _) => None,
        // In 16 bits the shapes are there without ZeRO, too, and its state is nowhere.
        (Some(_), None) if model.stage == Some(0) => None,
        (Some(_), Some(_)) => Some(Optimizer::read(&some, 1)?),
        (Some(_), None) => {
            let hint = format!(
                "fetch them; for the weights of {first} alone, name that file and -a 'module.*'"
            );
            let what = "its *_optim_states.pt are missing, which hold the parameters in float32";
            return Err(Error::missing(what).hint(hint));
        }
    };
    if let Some(optimizer) = &optimizer {
        check_ranks(&files, &model, optimizer)?;
    }
    drop(some);
    let names = if optimizer.is_some() { files.names() } else { vec![first.clone()] };
    let ranks = Ranks::open(&files.at, names, false, options)?;
    let models: BTreeMap<u64, usize> = files.models.keys().copied().zip(0..).collect();
    let zero = match (&model.groups, optimizer) {
        (Some(groups), Some(optimizer)) => {
            Some(Zero::new(groups, optimizer, &ranks, models.len())?)
        }
        _ => None,
    };
    let checkpoint = Checkpoint { ranks, model, zero, models, known: HashSet::new() };
    checkpoint.source(&files.at, options)
}

/// Whether each rank's files are there, and no others.
fn check_ranks(files: &Files, model: &Model, optimizer: &Optimizer) -> Result<()> {
    let needs_models = optimizer.stage == 3 && !model.frozen.is_empty();
    for (have, what, checked) in
        [(&files.optimizers, "optim", true), (&files.models, "model", needs_models)]
    {
        let count = have.range(..optimizer.ranks).count() as u64;
        if checked && count < optimizer.ranks {
            let missing = (0..optimizer.ranks).filter(|rank| !have.contains_key(rank));
            let names: Vec<String> = missing
                .take(10)
                .map(|rank| format!("zero_pp_rank_{rank}_mp_rank_00_{what}_states.pt"))
                .collect();
            return Err(Error::missing(format!(
                "{} of {} ranks' files are missing: {}",
                optimizer.ranks - count,
                optimizer.ranks,
                names.join(", ")
            ))
            .hint("fetch the missing files: a parameter is cut over all of them"));
        }
        if let Some((_, name)) = have.range(optimizer.ranks..).next() {
            return Err(Error::corrupt(format!(
                "{name} is of a rank past the {} that the state is cut for",
                optimizer.ranks
            ))
            .hint("it may be of an earlier run with more ranks: move it away"));
        }
    }
    Ok(())
}

impl Zero {
    /// `first`: the number of the first optimizer's file.
    fn new(groups: &[Vec<Shape>], of: Optimizer, ranks: &Ranks, first: usize) -> Result<Zero> {
        let (stage, count) = (of.stage, of.ranks as usize);
        let mut optimizers = Vec::with_capacity(count);
        for file in first..first + count {
            let optimizer = Optimizer::read(ranks, file)
                .and_then(|other| match (other.stage, other.ranks) == (stage, of.ranks) {
                    true => Ok(other),
                    false => Err(Error::corrupt(format!(
                        "it is of stage {} and {} ranks, the first of {stage} and {count}",
                        other.stage, other.ranks
                    ))),
                })
                .map_err(|e| e.about(ranks.name(file)))?;
            optimizers.push((file, optimizer));
        }
        let elements = |file: usize, array: usize| {
            let shape = ranks.meta(file, array).shape().unwrap_or_default();
            checked_product(&shape).unwrap_or(u64::MAX)
        };
        let sizes: Vec<Vec<u64>> = optimizers
            .iter()
            .map(|(file, o)| o.groups.iter().map(|&array| elements(*file, array)).collect())
            .collect();
        let params: Vec<Shape> = groups.iter().flatten().cloned().collect();
        let cuts = match stage {
            3 => layout::stage3(&params, &sizes)?,
            _ => layout::stage2(groups, &sizes)?,
        };
        Ok(Zero { stage, optimizers, params, cuts })
    }

    /// The runs of a parameter in other arrays than the partitions, which are cut in the same way;
    /// `None` where one has none of them.
    fn runs(
        &self,
        cuts: &[Cut],
        array: impl Fn(usize, &Optimizer, usize) -> Option<usize>,
    ) -> Option<Vec<Run>> {
        let run = |cut: &Cut| {
            let (file, optimizer) = &self.optimizers[cut.rank];
            let array = array(*file, optimizer, cut.group)?;
            Some(Run { file: *file, array, first: cut.first, len: cut.len, at: cut.at })
        };
        cuts.iter().map(run).collect()
    }
}

/// The error of a part that a rank's file does not have.
fn absent(what: &str) -> Error {
    Error::corrupt(format!("a rank's file has no part of its {what}"))
}

impl Checkpoint {
    fn source(mut self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        let mut plan = Plan {
            format: "deepspeed",
            format_version: self.model.version.clone(),
            attributes: ranks::without(self.ranks.plain(0), &Model::KEYS).into(),
            ..Plan::default()
        };
        let version = self.model.version.as_deref().unwrap_or("?");
        if let Some(zero) = &self.zero {
            let count = zero.optimizers.len();
            plan.format_version = Some(format!("{version}, ZeRO-{} of {count} ranks", zero.stage));
            let (file, optimizer) = &zero.optimizers[0];
            let state = &self.ranks.plain(*file)[STATE][optimizer.base()];
            if !state.is_null() {
                plan.attributes.insert("optimizer".into(), state.clone());
            }
            plan.notes.extend(self.ranks.left_out(*file, |name| name.starts_with(STATE)));
        } else if let Some(state) = self.ranks.plain(0).get("optimizer").filter(|s| !s.is_null()) {
            plan.attributes.insert("optimizer".into(), state.clone());
        }
        plan.notes.extend(self.ranks.left_out(0, |name| name.starts_with("module.")));
        if let Some(zero) = self.zero.take() {
            self.frozen(&zero)?;
            self.trained(&zero)?;
            self.others(Some(zero.stage), &mut plan);
            self.optimizer(&zero)?;
        } else {
            self.others(None, &mut plan);
        }
        self.ranks.finish(at, plan, options)
    }

    /// Parameters that are not trained.
    fn frozen(&mut self, zero: &Zero) -> Result<()> {
        for shape in std::mem::take(&mut self.model.frozen) {
            let name = format!("frozen_param_fragments.{}", shape.0);
            let Some(array) = self.ranks.find(0, &name) else { continue };
            self.known.insert(shape.0.clone());
            if zero.stage < 3 {
                self.ranks.keep(&shape.0, 0, array);
                continue;
            }
            let meta = ArrayMeta::new(&shape.0, self.ranks.meta(0, array).dtype, &shape.1);
            let elements = checked_product(&shape.1).unwrap_or(u64::MAX);
            let part = part_of(elements, zero.optimizers.len());
            let run = |(&rank, &file): (&u64, &usize)| {
                let at = part.saturating_mul(rank).min(elements);
                let array = self.ranks.find(file, &name)?;
                Some(Run { file, array, first: 0, len: part.min(elements - at), at })
            };
            let runs = self.models.iter().map(run).collect::<Option<Vec<Run>>>();
            let boxes = match runs {
                Some(runs) => self.ranks.flat(&meta, &runs),
                None => Err(absent("fragments")),
            };
            self.ranks.push(meta, boxes)?;
        }
        Ok(())
    }

    /// The float32 parameters, and the other names of some.
    fn trained(&mut self, zero: &Zero) -> Result<()> {
        let dtype = zero.optimizers.iter().find_map(|(file, o)| Some((*file, *o.groups.first()?)));
        let dtype = dtype.map(|(file, array)| self.ranks.meta(file, array).dtype);
        let mut by_name = HashMap::new();
        for (shape, cuts) in zero.params.iter().zip(&zero.cuts) {
            by_name.insert(shape.0.as_str(), (shape, cuts));
        }
        let mut all: Vec<(&str, &Shape, &Vec<Cut>)> = Vec::new();
        all.extend(zero.params.iter().zip(&zero.cuts).map(|(s, c)| (s.0.as_str(), s, c)));
        let shared = std::mem::take(&mut self.model.shared);
        for (name, of) in &shared {
            if let Some(&(shape, cuts)) = by_name.get(of.as_str()) {
                all.push((name, shape, cuts));
            }
        }
        for (name, shape, cuts) in all {
            let mut meta =
                ArrayMeta::new(name, dtype.unwrap_or(crate::model::Dtype::F32), &shape.1);
            meta.details.alias_of = (name != shape.0).then(|| shape.0.clone());
            let runs = zero.runs(cuts, |_, optimizer, group| optimizer.groups.get(group).copied());
            let boxes = match runs {
                Some(runs) => self.ranks.flat(&meta, &runs),
                None => Err(absent("partitions")),
            };
            self.known.insert(name.to_string());
            self.ranks.push(meta, boxes)?;
        }
        Ok(())
    }

    /// What the model's file holds beside them: buffers, and whatever else is no copy of them.
    fn others(&mut self, stage: Option<u64>, plan: &mut Plan) {
        let names: Vec<String> =
            self.ranks.file(0).source.plan().arrays.iter().map(|a| a.name.clone()).collect();
        let (mut copies, mut empty) = (0, Vec::new());
        for (array, name) in names.iter().enumerate() {
            let meta = self.ranks.meta(0, array);
            let of_module = name.strip_prefix("module.");
            match of_module {
                Some(own) if self.known.contains(own) => copies += 1,
                // With stage 3 parameters are not in the module.
                Some(own)
                    if stage == Some(3)
                        && !self.model.buffers.contains(own)
                        && meta.bytes().ok().flatten() == Some(0) =>
                {
                    empty.push(own)
                }
                Some(own) => self.ranks.keep(own, 0, array),
                None if name.starts_with("frozen_param_fragments.") => {}
                // Noted, where it is no array.
                None if meta.details.error.is_some() => {}
                None => self.ranks.keep(name, 0, array),
            }
        }
        if copies > 0 && stage.is_some_and(|stage| stage < 3) {
            plan.notes.push(format!(
                "parameters are the optimizer's in float32: the {copies} copies in {} are left out",
                self.ranks.name(0)
            ));
        }
        if let Some(first) = empty.first() {
            plan.notes.push(format!(
                "{} parameters are not in the checkpoint, the first is {first}",
                empty.len()
            ));
        }
    }

    /// What the optimizer keeps for each parameter.
    fn optimizer(&mut self, zero: &Zero) -> Result<()> {
        let Some((first, of)) = zero.optimizers.first() else { return Ok(()) };
        // A dict of groups, or (elastic checkpoints) a list of them.
        let bases = [format!("{STATE}.{}.state.", of.base()), format!("{STATE}.{}.", of.base())];
        let keys_of = |base: &String| {
            let arrays = self.ranks.file(*first).source.plan().arrays.iter();
            let keys = arrays.filter_map(|meta| {
                let (group, key) = meta.name.strip_prefix(base.as_str())?.split_once('.')?;
                let group: usize = group.parse().ok()?;
                (group < of.groups.len()).then(|| key.to_string())
            });
            keys.collect::<IndexSet<String>>()
        };
        let all = bases.iter().map(|base| (base, keys_of(base)));
        let Some((base, keys)) = all.into_iter().find(|(_, keys)| !keys.is_empty()) else {
            return Ok(());
        };
        for key in keys {
            for (shape, cuts) in zero.params.iter().zip(&zero.cuts) {
                self.state(zero, base, &key, shape, cuts)?;
            }
        }
        Ok(())
    }

    fn state(
        &mut self,
        zero: &Zero,
        base: &str,
        key: &str,
        shape: &Shape,
        cuts: &[Cut],
    ) -> Result<()> {
        let name = format!("optimizer.state.{}.{key}", shape.0);
        let find = |ranks: &Ranks, file, group| ranks.find(file, &format!("{base}{group}.{key}"));
        let Some(cut) = cuts.first() else { return Ok(()) };
        let Some(array) = find(&self.ranks, zero.optimizers[cut.rank].0, cut.group) else {
            return Ok(());
        };
        let file = zero.optimizers[cut.rank].0;
        let found = self.ranks.meta(file, array);
        // A number for the whole group, such as its step.
        if found.scalar {
            self.ranks.keep(&name, file, array);
            return Ok(());
        }
        let meta = ArrayMeta::new(&name, found.dtype, &shape.1);
        let runs = zero.runs(cuts, |file, _, group| find(&self.ranks, file, group));
        let whole = runs.as_ref().is_some_and(|runs| {
            runs.iter().all(|run| {
                let meta = self.ranks.meta(run.file, run.array);
                meta.inner.is_empty() && meta.rows.is_some_and(|n| n >= run.first + run.len)
            })
        });
        let boxes: Result<Boxes> = match runs {
            Some(runs) if whole => self.ranks.flat(&meta, &runs),
            Some(_) => Err(Error::refused("this state is not cut as the parameters are")
                .hint("-x 'optimizer.*' leaves the optimizer's state out")),
            None => Err(absent("state")),
        };
        self.ranks.push(meta, boxes)
    }
}
