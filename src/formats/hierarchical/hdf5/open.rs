//! Opening: the tree becomes a plan.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use super::access::Access;
use super::driver::{Purpose, Ticket};
use super::read::{Array, File, Hdf5Source};
use super::spool::Cache;
use super::tree::{self, Dataset, Storage};
use super::types::Leaf;
use super::{attributes, c, pandas, scales};
use crate::error::{Error, Result};
use crate::format::duplicates;
use crate::format::{OnDuplicate, ReadOptions, Source};
use crate::model::{ArrayMeta, Column, Logical, Plan, Table};
use crate::storage::Location;

pub(super) fn open(at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
    let local = at.to_local_file()?;
    let blob = Location::local(local.path()).blob()?;
    let access = Access::new(local.path(), local.is_copy(), options.follow_external);
    let ticket = Ticket::new(Purpose::Reading(access.clone()));
    let file = c::open(local.path(), &ticket)?;
    let mut tree = tree::walk(&file, &blob, (&access, &ticket), options)?;
    tree.datasets.retain(|d| !scales::is_bare(d));
    let frames = pandas::understand(&mut tree, &file);
    let mut plan = Plan { format: "hdf5", notes: tree.left.notes, ..Plan::default() };
    for (path, attributes) in tree.groups {
        if path.is_empty() {
            plan.attributes = attributes;
        } else {
            plan.groups.insert(path, attributes);
        }
    }
    let mut arrays: Vec<Array> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (number, dataset) in tree.datasets.iter().enumerate() {
        let metas = metas(dataset);
        if let [(meta, _), _, ..] = &metas[..]
            && tree.datasets.len() == 1
            && meta.inner.is_empty()
            && !meta.scalar
        {
            plan.tables.push(table(&metas, dataset));
        }
        for (mut meta, leaf) in metas {
            let taken = |name: &str| places.contains_key(name);
            if taken(&meta.name) {
                match options.on_duplicate {
                    OnDuplicate::Error => {
                        let first = &tree.datasets[arrays[places[&meta.name]].dataset].name;
                        let (first, second) = (
                            format!("in the dataset {first}"),
                            format!("in the dataset {}", dataset.name),
                        );
                        return Err(duplicates::in_file(&meta.name, &first, &second));
                    }
                    OnDuplicate::First => continue,
                    OnDuplicate::Last => {
                        let place = places[&meta.name];
                        plan.arrays[place] = meta;
                        arrays[place] = Array { dataset: number, leaf };
                        continue;
                    }
                    OnDuplicate::Rename => {
                        let mut n = 1;
                        while taken(&format!("{}_{n}", meta.name)) {
                            n += 1;
                        }
                        meta.name = format!("{}_{n}", meta.name);
                    }
                }
            }
            places.insert(meta.name.clone(), plan.arrays.len());
            plan.arrays.push(meta);
            arrays.push(Array { dataset: number, leaf });
        }
    }
    for frame in frames {
        let array = |number: usize| {
            arrays
                .iter()
                .position(|a: &Array| a.dataset == number)
                .map(|at| plan.arrays[at].name.clone())
        };
        let columns = frame
            .columns
            .iter()
            .filter_map(|(n, header)| Some(Column { array: array(*n)?, header: header.clone() }))
            .collect();
        plan.tables.push(Table {
            columns,
            index: array(frame.index).into_iter().collect(),
            ..Table::default()
        });
    }
    let indices = tree.datasets.iter().map(|_| OnceLock::new()).collect();
    let piece_bytes = (options.memory_bytes / (3 * options.jobs.max(1) as u64)).max(1 << 20);
    let file = File {
        file,
        _ticket: ticket,
        blob,
        _local: local,
        datasets: tree.datasets,
        names: plan.arrays.iter().map(|a| a.name.clone()).collect(),
        arrays,
        indices,
        piece_bytes,
        memory_bytes: options.memory_bytes,
        cache: Cache::default(),
        lengths: Mutex::default(),
    };
    let mut file = file;
    look_at_values(&mut file, &mut plan, options)?;
    Ok(Box::new(Hdf5Source { plan, file: Arc::new(file) }))
}

/// What only the values of the arrays that will be read tell.
fn look_at_values(file: &mut File, plan: &mut Plan, options: &ReadOptions) -> Result<()> {
    if options.names_only {
        return Ok(());
    }
    let names: Vec<&str> = plan.arrays.iter().map(|m| m.name.as_str()).collect();
    let chosen =
        options.choice.as_ref().map_or_else(|| vec![true; names.len()], |choice| choice.of(&names));
    for (array, meta) in plan.arrays.iter_mut().enumerate().filter(|(array, _)| chosen[*array]) {
        if meta.details.error.is_some() {
            continue;
        }
        let looked =
            file.has_nulls(array).and_then(|nulls| Ok((nulls, file.first_not_utf8(array)?)));
        match looked {
            Ok((nulls, None)) => meta.nulls = nulls,
            Ok((_, Some((row, start)))) => {
                plan.notes.push(format!(
                    "{}: row {row} is not UTF-8 ({start:?}): kept as bytes",
                    meta.name
                ));
                let Array { dataset, leaf } = file.arrays[array];
                file.datasets[dataset].leaves[leaf].binary = true;
                meta.logical = Logical::Binary;
            }
            Err(e) => meta.details.error = Some(Arc::new(e.of_data()?)),
        }
    }
    Ok(())
}

/// Whether what the plan leaves out is whole, too.
pub(super) fn verify(at: &Location, options: &ReadOptions) -> Result<()> {
    if at.is_remote() {
        return Ok(());
    }
    let local = at.to_local_file()?;
    let blob = Location::local(local.path()).blob()?;
    let access = Access::new(local.path(), local.is_copy(), options.follow_external);
    let ticket = Ticket::new(Purpose::Reading(access.clone()));
    let file = c::open(local.path(), &ticket)?;
    let options = ReadOptions { names_only: true, ..options.clone() };
    tree::walk(&file, &blob, (&access, &ticket), &options)?.left.damaged.map_or(Ok(()), Err)
}

/// A compound dataset that is alone in its file is a table.
fn table(metas: &[(ArrayMeta, usize)], dataset: &Dataset) -> Table {
    let header = |m: &ArrayMeta| {
        m.name
            .strip_prefix(&dataset.name)
            .and_then(|s| s.strip_prefix('.'))
            .unwrap_or(&m.name)
            .to_string()
    };
    Table {
        columns: metas
            .iter()
            .map(|(m, _)| Column { array: m.name.clone(), header: header(m) })
            .collect(),
        ..Table::default()
    }
}

/// The arrays of a dataset, each with the number of its leaf.
fn metas(dataset: &Dataset) -> Vec<(ArrayMeta, usize)> {
    if let Some(error) = &dataset.error {
        let mut meta = ArrayMeta::new(&dataset.name, crate::model::Dtype::U8, &[0]);
        meta.details.error = Some(Arc::new(error.clone()));
        meta.details.attributes = dataset.attributes.clone();
        return vec![(meta, 0)];
    }
    dataset.leaves.iter().enumerate().map(|(n, leaf)| (meta(dataset, leaf), n)).collect()
}

fn meta(dataset: &Dataset, leaf: &Leaf) -> ArrayMeta {
    let mut name = dataset.name.clone();
    for field in leaf.fields.iter().filter(|_| !dataset.named) {
        name.push('.');
        name.push_str(field);
    }
    let (dtype, logical) = leaf.model();
    let mut shape: Vec<u64> = if dataset.scalar { Vec::new() } else { dataset.dims.clone() };
    // Its last dimension is within the texts.
    shape.truncate(shape.len() - usize::from(leaf.joined.is_some()));
    shape.extend(leaf.dims.iter().map(|d| d.0));
    let mut meta = ArrayMeta::new(name, dtype, &shape);
    meta.logical = logical;
    let details = &mut meta.details;
    if !leaf.kind.is_ready() || !leaf.fields.is_empty() {
        let joined = leaf.joined.map(|n| format!("{n} characters"));
        details.stored_dtype = Some(joined.unwrap_or_else(|| leaf.kind.describe()));
    }
    details.stored_bytes = Some(dataset.stored_bytes).filter(|_| leaf.fields.is_empty());
    if let Storage::Chunked(chunked) = &dataset.storage {
        details.compression = chunked.describe();
        let mut chunks = chunked.shape[..dataset.dims.len()].to_vec();
        chunks.extend(leaf.dims.iter().map(|d| d.0));
        chunks.truncate(shape.len());
        details.chunks = Some(chunks);
    }
    details.attributes = dataset.attributes.clone();
    details.alias_of = dataset.alias_of.clone().filter(|_| leaf.fields.is_empty());
    if let Some(names) = &leaf.names {
        details.attributes.insert(attributes::ENUM.into(), names.clone().into());
    }
    if dataset.null {
        details.attributes.insert(attributes::NULL.into(), true.into());
    }
    if let Some(why) = leaf.error.clone() {
        let named = if leaf.fields.is_empty() {
            why
        } else {
            format!("{why} (field {})", leaf.fields.join("."))
        };
        details.error = Some(Arc::new(
            Error::refused(named)
                .hint("leave it out with -x, or all such arrays with --skip-unsupported"),
        ));
    } else if let Err(e) = meta.bytes() {
        meta.details.error = Some(Arc::new(e));
    }
    meta
}
