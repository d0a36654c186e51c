//! Opening: the tree becomes a plan.

use std::collections::HashMap;
use std::sync::Arc;

use super::arrays::{Array, SharedPieces};
use super::dataset::{Dataset, Storage};
use super::element_type::{ElementType, TypeLeaf};
use super::file::OpenFile;
use super::rows::Rows;
use super::source::Hdf5Source;
use super::tree;
use super::{attributes, ffi, pandas, scales};
use crate::array::ArrayMap;
use crate::array::reader::MapReader;
use crate::array::source::MapSource;
use crate::error::{Error, Result, SKIP_ARRAY};
use crate::format::{ReadOptions, Source, duplicates};
use crate::model::{ArrayMeta, Column, Logical, Plan, Table};
use crate::storage::Location;

pub(super) fn open(at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
    let file = OpenFile::open(at, options)?;
    let mut tree = tree::walk(&file, options)?;
    tree.datasets.retain(|d| !scales::is_bare(d));
    let frames = pandas::detect_frames(&mut tree, &file.id);
    let mut plan = Plan { format: "hdf5", notes: tree.left.notes, ..Plan::default() };
    for (path, attributes) in tree.groups {
        if path.is_empty() {
            plan.attributes = attributes.into();
        } else {
            plan.groups.insert(path, attributes);
        }
    }
    let datasets: Vec<Arc<Dataset>> = tree.datasets.into_iter().map(Arc::new).collect();
    let all: Vec<Vec<(ArrayMeta, TypeLeaf)>> = datasets.iter().map(|d| metas(d)).collect();
    if let ([dataset], [fields]) = (&datasets[..], &all[..])
        && let [(meta, _), _, ..] = &fields[..]
        && meta.inner.is_empty()
        && !meta.scalar
    {
        plan.tables.push(table(fields, dataset));
    }
    let all: Vec<(usize, (ArrayMeta, TypeLeaf))> = all
        .into_iter()
        .enumerate()
        .flat_map(|(n, metas)| metas.into_iter().map(move |meta| (n, meta)))
        .collect();
    let names: Vec<String> = all.iter().map(|(_, (meta, _))| meta.name.clone()).collect();
    let place = |i: usize| format!("in the dataset {}", datasets[all[i].0].name);
    let kept = duplicates::unique(&names, options.on_duplicate, &place)?;
    let mut arrays: Vec<Array> = Vec::new();
    let mut of_dataset: HashMap<usize, String> = HashMap::new();
    for ((number, (mut meta, leaf)), name) in all.into_iter().zip(kept) {
        let Some(name) = name else { continue };
        meta.name.clone_from(&name);
        of_dataset.entry(number).or_insert_with(|| name.clone());
        plan.arrays.push(meta);
        arrays.push(Array { name, dataset: datasets[number].clone(), leaf });
    }
    for frame in frames {
        let columns = frame.columns.iter().filter_map(|(number, header)| {
            Some(Column { array: of_dataset.get(number)?.clone(), header: header.clone() })
        });
        plan.tables.push(Table {
            columns: columns.collect(),
            index: of_dataset.get(&frame.index).cloned().into_iter().collect(),
            ..Table::default()
        });
    }
    source(Arc::new(file), plan, arrays, options)
}

/// The source of these arrays, once their values told what only those tell.
fn source(
    file: Arc<OpenFile>,
    mut plan: Plan,
    mut arrays: Vec<Array>,
    options: &ReadOptions,
) -> Result<Box<dyn Source>> {
    let mut shared = SharedPieces::default();
    let mut maps: Vec<Option<ArrayMap>> =
        arrays.iter().map(|a| a.map(&file, &mut shared)).collect();
    drop(shared);
    for (meta, map) in plan.arrays.iter_mut().zip(&maps) {
        meta.set_fill(map.as_ref().and_then(ArrayMap::fill_value));
    }
    if !options.names_only {
        look_at_values(&file, &mut plan, &mut arrays, &maps, options)?;
        for (array, map) in arrays.iter().zip(&mut maps) {
            if let Some(map) = map {
                map.element = array.element();
            }
        }
    }
    let maps = MapSource::new(plan, maps, options.resources.memory_bytes());
    let rows = Rows::new(file, maps.reader().clone(), arrays);
    Ok(Box::new(Hdf5Source { maps, rows: Arc::new(rows) }))
}

/// What only the values of the arrays that will be read tell: nulls, and text that is not UTF-8.
fn look_at_values(
    file: &Arc<OpenFile>,
    plan: &mut Plan,
    arrays: &mut Vec<Array>,
    maps: &[Option<ArrayMap>],
    options: &ReadOptions,
) -> Result<()> {
    let names: Vec<&str> = plan.arrays.iter().map(|m| m.name.as_str()).collect();
    let chosen =
        options.choice.as_ref().map_or_else(|| vec![true; names.len()], |choice| choice.of(&names));
    // Text is looked at as bytes.
    let mut looked_at = Vec::with_capacity(arrays.len());
    let mut as_bytes = std::mem::take(arrays);
    for (array, (map, chosen)) in as_bytes.iter_mut().zip(maps.iter().zip(chosen)) {
        array.leaf.binary = array.leaf.kind.is_text();
        let is_looked_at =
            array.leaf.binary || array.leaf.has_nulls() || array.leaf.kind.may_be_refused();
        let is_open = chosen && is_looked_at;
        let map = map.as_ref().filter(|_| is_open);
        looked_at.push(map.map(|map| ArrayMap { element: array.element(), ..map.clone() }));
    }
    let wanted: Vec<bool> = looked_at.iter().map(Option::is_some).collect();
    let reader = Arc::new(MapReader::new(looked_at, options.resources.memory_bytes()));
    let rows = Rows::new(file.clone(), reader, as_bytes);
    let mut binary = vec![false; wanted.len()];
    for (array, meta) in plan.arrays.iter_mut().enumerate().filter(|(array, _)| wanted[*array]) {
        if meta.details.error.is_some() {
            continue;
        }
        let looked = rows.has_nulls(array).and_then(|nulls| {
            if rows.arrays[array].leaf.kind.may_be_refused() {
                rows.check_floats(array)?;
            }
            Ok((nulls, rows.first_not_utf8(array)?))
        });
        match looked {
            Ok((nulls, None)) => meta.nulls = nulls,
            Ok((nulls, Some((row, start)))) => {
                meta.nulls = nulls;
                plan.notes.push(format!(
                    "{}: row {row} is not UTF-8 ({start:?}): kept as bytes",
                    meta.name
                ));
                binary[array] = true;
                meta.logical = Logical::Binary;
            }
            Err(e) => meta.details.error = Some(Arc::new(e.of_data()?)),
        }
    }
    *arrays = rows.arrays;
    for (array, binary) in arrays.iter_mut().zip(binary) {
        array.leaf.binary = binary;
    }
    Ok(())
}

/// Whether what the plan leaves out is whole, too.
pub(super) fn verify(at: &Location, options: &ReadOptions) -> Result<()> {
    if at.is_remote() {
        return Ok(());
    }
    let file = OpenFile::open(at, options)?;
    let options = ReadOptions { names_only: true, ..options.clone() };
    tree::walk(&file, &options)?.left.damaged.map_or(Ok(()), Err)
}

/// A compound dataset that is alone in its file is a table.
fn table(metas: &[(ArrayMeta, TypeLeaf)], dataset: &Dataset) -> Table {
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

/// The arrays of a dataset, each with its leaf.
fn metas(dataset: &Dataset) -> Vec<(ArrayMeta, TypeLeaf)> {
    if let (Some(error), true) = (&dataset.error, dataset.leaves.is_empty()) {
        let mut meta = ArrayMeta::new(&dataset.name, crate::model::Dtype::U8, &[0]);
        meta.details.error = Some(Arc::new(error.clone()));
        meta.details.attributes = dataset.attributes.clone();
        return vec![(meta, TypeLeaf::default())];
    }
    dataset.leaves.iter().map(|leaf| (meta(dataset, leaf), leaf.clone())).collect()
}

fn meta(dataset: &Dataset, leaf: &TypeLeaf) -> ArrayMeta {
    let mut name = dataset.name.clone();
    for field in leaf.fields.iter().filter(|_| !dataset.named) {
        name.push('.');
        name.push_str(field);
    }
    let (dtype, logical) = leaf.model();
    let mut shape: Vec<u64> = if dataset.scalar { Vec::new() } else { dataset.dims.clone() };
    // A list is a row.
    if shape.is_empty() && matches!(leaf.kind, ElementType::Sequence { .. }) {
        shape.push(1);
    }
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
        details.compression.clone_from(&chunked.compression);
        let mut chunks = chunked.shape[..dataset.dims.len()].to_vec();
        chunks.extend(leaf.dims.iter().map(|d| d.0));
        chunks.truncate(shape.len());
        details.chunks = Some(chunks);
    }
    if !dataset.scalar && dataset.most.iter().ne(&dataset.dims) && !dataset.most.is_empty() {
        let limit = |&n: &u64| (n != ffi::UNLIMITED).then_some(n);
        let inner = leaf.dims.iter().map(|d| Some(d.0));
        let mut most: Vec<Option<u64>> = dataset.most.iter().map(limit).chain(inner).collect();
        most.truncate(shape.len());
        details.max_shape = Some(most);
    }
    details.attributes = dataset.attributes.clone();
    details.alias_of = dataset.alias_of.clone().filter(|_| leaf.fields.is_empty());
    if let Some(names) = &leaf.names {
        details.attributes.insert(attributes::ENUM.into(), names.clone().into());
    }
    if dataset.null {
        details.attributes.insert(attributes::NULL.into(), true.into());
    }
    if let Some(error) = &dataset.error {
        meta.details.error = Some(Arc::new(error.clone()));
    } else if let Some(why) = leaf.error.clone() {
        let named = if leaf.fields.is_empty() {
            why
        } else {
            format!("{why} (field {})", leaf.fields.join("."))
        };
        details.error = Some(Arc::new(Error::refused(named).hint(SKIP_ARRAY)));
    } else if let Err(e) = meta.bytes() {
        meta.details.error = Some(Arc::new(e));
    }
    meta
}
