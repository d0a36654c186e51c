//! Checkpoints in several files: an index (`model.safetensors.index.json`), a directory that holds
//! one, or all files `-0000N-of-0000M` of a directory, joined into one source.
//!
//! The index is JSON: `{"metadata": {"total_size": …}, "weight_map": {tensor: file, …}}`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use indexmap::IndexMap;

use super::unique_map::UniqueMap;
use crate::array::check_text;
use crate::error::{Context, Error, Result};
use crate::format::duplicates;
use crate::format::{
    Emit, Extent, Head, OnDuplicate, Order, Piece, ReadRows, Reader, Sniff, Source, StoredArray,
    readable,
};
use crate::model::{Attributes, Plan};
use crate::storage::{EntryKind, Location};

/// Larger index files are refused.
const MAX_INDEX_BYTES: u64 = 100_000_000;

/// How the shards of a format are named.
pub struct Naming {
    /// Their ending, without the dot.
    pub extension: &'static str,
}

impl Naming {
    /// Whether this is the name of an index.
    pub fn is_index(&self, name: &str) -> bool {
        self.index_stem(name).is_some()
    }
    /// `model` of `model.safetensors.index.json`.
    pub fn index_stem<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_suffix(".index.json")?.strip_suffix(self.extension)?.strip_suffix('.')
    }
    /// What a directory or an index says of a checkpoint in shards; `None` of other files.
    ///
    /// # Errors
    /// Where the location cannot be read.
    pub fn sniff(&self, head: &Head<'_>) -> Result<Option<Sniff>> {
        if head.bytes.is_empty() {
            let is_sharded = is_sharded(head.location, self)?;
            return Ok(Some(if is_sharded { Sniff::Yes } else { Sniff::No }));
        }
        Ok(self.is_index(&head.location.file_name()).then_some(Sniff::Yes))
    }
    /// `("model", 1, 3)` of `model-00001-of-00003.safetensors`.
    pub fn shard<'a>(&self, name: &'a str) -> Option<(&'a str, u32, u32)> {
        let (rest, total) =
            name.strip_suffix(self.extension)?.strip_suffix('.')?.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let parse = |text: &str| {
            (text.len() >= 2 && text.bytes().all(|b| b.is_ascii_digit()))
                .then(|| text.parse().ok())
                .flatten()
        };
        Some((stem, parse(number)?, parse(total)?))
    }
    /// `model-00001-of-00003.safetensors`.
    pub fn shard_name(&self, stem: &str, number: usize, total: usize) -> String {
        format!("{stem}-{number:05}-of-{total:05}.{}", self.extension)
    }
    /// `model.safetensors.index.json`.
    pub fn index_name(&self, stem: &str) -> String {
        format!("{stem}.{}.index.json", self.extension)
    }
}

/// The files of one checkpoint.
pub struct CheckpointFiles {
    /// The directory that they are in.
    pub directory: Location,
    /// Their names, in order.
    pub files: Vec<String>,
    /// Which tensor is in which of them, where there is an index.
    pub weight_map: Option<IndexMap<String, String>>,
    /// The index's metadata.
    pub metadata: Attributes,
}

#[derive(serde::Deserialize)]
struct Index {
    #[serde(default)]
    metadata: Option<Attributes>,
    weight_map: UniqueMap<String>,
}

/// Whether a directory holds such a checkpoint. Quiet about anything else.
///
/// # Errors
/// Where the directory cannot be listed.
pub fn is_sharded(at: &Location, naming: &Naming) -> Result<bool> {
    if at.is_stream() || at.kind()? != EntryKind::Dir {
        return Ok(false);
    }
    let entries = match at.list() {
        // A store may be readable where nothing can be listed.
        Err(_) if at.is_remote() => return Ok(false),
        entries => entries?,
    };
    Ok(entries
        .iter()
        .any(|e| !e.is_dir && (naming.is_index(&e.name) || naming.shard(&e.name).is_some())))
}

/// The checkpoint at `at`: an index or a directory; `None` for a plain file.
///
/// # Errors
/// Broken index files; several checkpoints in one directory; a directory without any; missing
/// shards.
pub fn find(at: &Location, naming: &Naming, memory_bytes: u64) -> Result<Option<CheckpointFiles>> {
    if naming.is_index(&at.file_name()) {
        return read_index(at, at.parent(), memory_bytes).map(Some);
    }
    if at.is_stream()
        || (at.is_remote() && at.file_name().ends_with(&format!(".{}", naming.extension)))
        || at.kind()? != EntryKind::Dir
    {
        return Ok(None);
    }
    let names: Vec<String> = at.list()?.into_iter().filter(|e| !e.is_dir).map(|e| e.name).collect();
    let indexes: Vec<&String> = names.iter().filter(|n| naming.is_index(n)).collect();
    let usual =
        ["model", "pytorch_model", "diffusion_pytorch_model"].map(|stem| naming.index_name(stem));
    if let Some(index) = indexes.iter().find(|n| usual.contains(n)).or(if indexes.len() == 1 {
        indexes.first()
    } else {
        None
    }) {
        return read_index(&at.join(index), at.clone(), memory_bytes)
            .at_file(&at.join(index).display())
            .map(Some);
    }
    if indexes.len() > 1 {
        let list = indexes.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Error::usage(format!("the directory holds several checkpoints: {list}"))
            .hint("name one of these index files"));
    }
    let (files, metadata) = (shards_or_only(&names, naming)?, Attributes::new());
    Ok(Some(CheckpointFiles { directory: at.clone(), files, weight_map: None, metadata }))
}

/// The files of a directory without an index: all shards of one checkpoint, or its only file.
fn shards_or_only(names: &[String], naming: &Naming) -> Result<Vec<String>> {
    let mut groups: BTreeMap<(&str, u32), Vec<u32>> = BTreeMap::new();
    for (stem, number, total) in names.iter().filter_map(|n| naming.shard(n)) {
        groups.entry((stem, total)).or_default().push(number);
    }
    let mut groups = groups.into_iter();
    Ok(match (groups.next(), groups.next()) {
        (Some(((stem, total), have)), None) => {
            // Compared with what is there first, so that a name cannot make a long list.
            if have.len() < total as usize {
                let first = (1..=total).find(|n| !have.contains(n)).unwrap_or(total);
                let name = naming.shard_name(stem, first as usize, total as usize);
                return Err(Error::missing(format!(
                    "{} of {total} shards exist; {name} is missing",
                    have.len()
                )));
            }
            names.iter().filter(|n| naming.shard(n).is_some()).cloned().collect()
        }
        (Some(((a, m), _)), Some(((b, n), _))) => {
            return Err(Error::usage(format!(
                "the directory holds several checkpoints: {a} of {m} shards, {b} of {n}"
            ))
            .hint("name their files instead of the directory"));
        }
        _ => {
            let ending = format!(".{}", naming.extension);
            let only: Vec<String> =
                names.iter().filter(|n| n.ends_with(&ending)).cloned().collect();
            match only.len() {
                1 => only,
                0 => {
                    return Err(Error::missing(format!(
                        "the directory holds no {} file",
                        naming.extension
                    )));
                }
                n => {
                    return Err(Error::usage(format!(
                        "the directory holds {n} {} files without an index",
                        naming.extension
                    ))
                    .hint("name the files"));
                }
            }
        }
    })
}

/// Reads an index.
///
/// # Errors
/// Broken ones; file names that leave the directory.
pub fn read_index(
    at: &Location,
    directory: Location,
    memory_bytes: u64,
) -> Result<CheckpointFiles> {
    let blob = at.blob()?;
    if blob.len() > MAX_INDEX_BYTES {
        return Err(Error::corrupt(format!("an index of {} bytes is too large", blob.len())));
    }
    check_text("the index", blob.len(), memory_bytes)?;
    let text = blob.read_vec(0, blob.len())?;
    if let Some(error) = crate::format::foreign_file::named(&text) {
        return Err(error);
    }
    let index: Index = serde_json::from_slice(&text)
        .map_err(|e| Error::corrupt(format!("the index is broken: {e}")))?;
    drop(text);
    let mut files: Vec<String> = Vec::new();
    let mut known = std::collections::HashSet::new();
    for file in index.weight_map.0.values() {
        if known.insert(file.as_str()) {
            let plain = !file.contains('\\')
                && !file.contains('\0')
                && file.split('/').all(|part| !matches!(part, "" | "." | ".."));
            if !plain {
                return Err(Error::refused(format!(
                    "the index names the file {file:?}, which is outside its directory"
                )));
            }
            files.push(file.clone());
        }
    }
    files.sort();
    Ok(CheckpointFiles {
        directory,
        files,
        weight_map: Some(index.weight_map.0),
        metadata: index.metadata.unwrap_or_default(),
    })
}

/// Opens all shards as one source: arrays file by file; `details.part` names the file.
///
/// # Errors
/// Missing shards (all named); a name in two of them; a tensor that the index promises and its file
/// lacks.
pub fn open(
    found: CheckpointFiles,
    format: &'static str,
    on_duplicate: OnDuplicate,
    opener: &dyn Fn(&Location) -> Result<Box<dyn Source>>,
) -> Result<Box<dyn Source>> {
    let mut missing = Vec::new();
    for file in &found.files {
        if found.directory.join(file).kind()? == EntryKind::Missing {
            missing.push(file.as_str());
        }
    }
    if !missing.is_empty() {
        let (count, all) = (missing.len(), found.files.len());
        missing.truncate(10);
        return Err(Error::missing(format!(
            "{count} of {all} shards are missing: {}",
            missing.join(", ")
        ))
        .hint("fetch the missing files"));
    }
    let mut joined =
        Joined { plan: Plan { format, ..Plan::default() }, parts: Vec::new(), places: Vec::new() };
    let mut all: Vec<(usize, usize)> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for (p, file) in found.files.iter().enumerate() {
        let at = found.directory.join(file);
        let source = opener(&at).at_file(&at.display())?;
        let theirs = source.plan();
        all.extend((0..theirs.arrays.len()).map(|i| (p, i)));
        names.extend(theirs.arrays.iter().map(|a| a.name.clone()));
        for (key, value) in theirs.attributes.iter() {
            joined.plan.attributes.entry(key.clone()).or_insert_with(|| value.clone());
        }
        joined.plan.notes.extend(theirs.notes.iter().cloned());
        joined.parts.push(source);
    }
    let place = |n: usize| format!("in {}", found.files[all[n].0]);
    let kept = duplicates::unique(&names, on_duplicate, &place)?;
    for (&(p, i), name) in all.iter().zip(kept) {
        let Some(name) = name else { continue };
        let mut meta = joined.parts[p].plan().arrays[i].clone();
        meta.name = name;
        meta.details.part = Some(found.files[p].clone());
        joined.places.push((p, i));
        joined.plan.arrays.push(meta);
    }
    let mut extra = 0;
    if let Some(map) = &found.weight_map {
        let positions = joined.plan.positions();
        for (name, file) in map {
            let part = positions.get(name.as_str()).map(|&a| &joined.plan.arrays[a].details.part);
            if part.and_then(Option::as_deref) != Some(file) {
                return Err(Error::corrupt(format!(
                    "the index places it in {file}, which does not hold it"
                ))
                .array(name));
            }
        }
        extra = names.iter().filter(|name| !map.contains_key(*name)).count();
    }
    if extra > 0 {
        joined.plan.notes.push(format!(
            "{extra} arrays are in the shards, but not in the index; they are read, too"
        ));
    }
    for (key, value) in found.metadata {
        if !matches!(key.as_str(), "total_size" | "total_parameters") {
            joined.plan.attributes.entry(key).or_insert(value);
        }
    }
    Ok(Box::new(joined))
}

struct Joined {
    plan: Plan,
    parts: Vec<Box<dyn Source>>,
    /// Where each array is: part, and index in it.
    places: Vec<(usize, usize)>,
}

impl Source for Joined {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, arrays: &[usize], _wish: Order) -> Result<Reader> {
        let mut selected = vec![Vec::new(); self.parts.len()];
        for &a in arrays {
            readable(&self.plan.arrays[a])?;
            let (part, index) = self.places[a];
            selected[part].push(index);
        }
        let mut readers = Vec::with_capacity(self.parts.len());
        for (part, arrays) in self.parts.iter().zip(selected) {
            readers.push(match arrays.is_empty() {
                true => None,
                // Array by array: tensors of the same bytes need not come together.
                false => Some(
                    part.select(&arrays, Order::ArrayByArray)?
                        .random()
                        .ok_or_else(|| Error::internal("a shard without random access"))?,
                ),
            });
        }
        Ok(Reader::Random(Arc::new(ShardReader { readers, places: self.places.clone() })))
    }
    fn stored(&self, array: usize) -> Result<StoredArray> {
        let (part, index) = self.places[array];
        self.parts[part].stored(index)
    }
}

struct ShardReader {
    /// Those of the parts that arrays were selected of.
    readers: Vec<Option<Arc<dyn ReadRows>>>,
    places: Vec<(usize, usize)>,
}

impl ShardReader {
    fn of(&self, array: usize) -> Result<(&dyn ReadRows, usize)> {
        let (part, index) = self.places[array];
        let reader = self.readers[part].as_deref();
        Ok((reader.ok_or_else(|| Error::internal("an array that was not asked for"))?, index))
    }
}

impl ReadRows for ShardReader {
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        self.of(array).map_or(u64::MAX, |(reader, index)| reader.next_boundary(index, row))
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let (reader, index) = self.of(array).ok()?;
        reader.cost(index, rows)
    }
    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        let (reader, index) = self.of(array).ok()?;
        reader.piece(index, row, bytes)
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let (reader, index) = self.of(array)?;
        reader.read(index, rows, &mut |mut chunk| {
            chunk.array = array;
            emit(chunk)
        })
    }
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        let (reader, index) = self.of(array).ok()?;
        reader.extents(index)
    }
    fn close(&self) -> Result<()> {
        self.readers.iter().flatten().try_for_each(|reader| reader.close())
    }
}
