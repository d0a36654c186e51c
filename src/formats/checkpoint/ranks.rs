//! Files of `torch.save`, one of each rank, and arrays put together from parts of theirs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::pytorch::{self, SavedValue};
use crate::array::boxes::{BoxSource, Boxes, OpenedPart, Part};
use crate::error::{Context, Error, Result};
use crate::format::{Order, ReadOptions, Reader, Source, duplicates};
use crate::model::{ArrayMeta, Attributes, Plan};
use crate::storage::Location;

/// The files, opened, and what is made of them.
pub(super) struct Ranks {
    files: Vec<(String, SavedValue)>,
    /// The arrays of each file by their names.
    places: Vec<HashMap<String, usize>>,
    parts: Vec<OpenedPart>,
    /// Of each part: its file, and the array in it.
    from: Vec<(usize, usize)>,
    arrays: Vec<(ArrayMeta, Option<Boxes>)>,
}

/// Elements of a file's array, in C order: where they are in a larger one.
pub(super) struct Run {
    pub file: usize,
    /// The array in the file, and the first of its elements.
    pub array: usize,
    pub first: u64,
    /// How many, and which element of the whole the first is.
    pub len: u64,
    pub at: u64,
}

impl Ranks {
    /// Opens files of a directory; `in_parts`: whether tensors in them may be parts.
    ///
    /// # Errors
    /// As for checkpoints of one file; each is named.
    pub fn open(
        at: &Location,
        names: Vec<String>,
        in_parts: bool,
        options: &ReadOptions,
    ) -> Result<Ranks> {
        let mut files = Vec::with_capacity(names.len());
        let mut places = Vec::with_capacity(names.len());
        for name in names {
            let at = at.join(&name);
            let opened =
                at.blob().and_then(|blob| pytorch::open_parts(&blob, "", in_parts, options));
            let saved = opened.at_file(&at.display())?;
            let known = saved.source.plan().positions().into_iter();
            places.push(known.map(|(name, array)| (name.to_string(), array)).collect());
            files.push((name, saved));
        }
        Ok(Ranks { files, places, parts: Vec::new(), from: Vec::new(), arrays: Vec::new() })
    }

    /// The name of a file.
    pub fn name(&self, file: usize) -> &str {
        &self.files[file].0
    }

    pub fn file(&self, file: usize) -> &SavedValue {
        &self.files[file].1
    }

    /// The plain values of a file.
    pub fn plain(&self, file: usize) -> &Value {
        self.files[file].1.plain.as_ref().unwrap_or(&Value::Null)
    }

    /// The array of this name in a file.
    pub fn find(&self, file: usize, name: &str) -> Option<usize> {
        self.places[file].get(name).copied()
    }

    /// What is known of an array in a file.
    pub fn meta(&self, file: usize, array: usize) -> &ArrayMeta {
        &self.files[file].1.source.plan().arrays[array]
    }

    /// A part that begins at this element or row of an array in a file: its number.
    pub fn part(&mut self, file: usize, array: usize, first: u64) -> usize {
        let reader = self.files[file].1.source.reader().clone();
        self.parts.push(OpenedPart { reader, array, first });
        self.from.push((file, array));
        self.parts.len() - 1
    }

    /// Adds an array that a file holds whole, under a name of its own.
    pub fn keep(&mut self, name: &str, file: usize, array: usize) {
        let mut meta = self.meta(file, array).clone();
        meta.name = name.to_string();
        meta.details.part = Some(self.name(file).to_string());
        let boxes = meta.details.error.is_none().then(|| {
            let number = self.part(file, array, 0);
            Boxes::whole(&meta.shape().unwrap_or_default(), number)
        });
        self.arrays.push((meta, boxes));
    }

    /// Adds an array that is put together, or why it cannot be.
    ///
    /// # Errors
    /// Those that are not about the data.
    pub fn push(&mut self, mut meta: ArrayMeta, boxes: Result<Boxes>) -> Result<()> {
        let boxes = match boxes.and_then(|boxes| meta.bytes().map(|_| boxes)) {
            Ok(boxes) => {
                let mut files = boxes.parts().iter().map(|part| self.from[part.number].0);
                if let Some(first) = files.next()
                    && files.all(|file| file == first)
                {
                    meta.details.part = Some(self.name(first).to_string());
                }
                Some(boxes)
            }
            Err(error) => {
                if meta.bytes().is_err() {
                    meta = ArrayMeta::new(&meta.name, meta.dtype, &[0]);
                }
                meta.details.error = Some(Arc::new(error.of_data()?));
                None
            }
        };
        self.arrays.push((meta, boxes));
        Ok(())
    }

    /// An array of elements that lie in runs of one dimension.
    ///
    /// # Errors
    /// Corrupt where a run is not there, is of another type, or the runs are not the array.
    pub fn flat(&mut self, meta: &ArrayMeta, runs: &[Run]) -> Result<Boxes> {
        let mut parts = Vec::with_capacity(runs.len());
        for run in runs.iter().filter(|run| run.len > 0) {
            self.check(run, meta)?;
            let number = self.part(run.file, run.array, run.first);
            parts.push(Part { origin: vec![run.at], shape: vec![run.len], number });
        }
        Boxes::flat(&meta.shape().unwrap_or_default(), meta.dtype.item_bytes(), parts)
    }

    fn check(&self, run: &Run, meta: &ArrayMeta) -> Result<()> {
        let found = self.meta(run.file, run.array);
        if let Some(error) = &found.details.error {
            return Err(Error::clone(error));
        }
        let shape = found.shape().unwrap_or_default();
        let end = run.first.checked_add(run.len);
        let [elements] = shape.as_slice() else {
            return Err(Error::corrupt(format!(
                "a part of it in {} has the shape {shape:?}, where one dimension should be",
                self.name(run.file)
            )));
        };
        if end.is_none_or(|end| end > *elements) || found.dtype != meta.dtype {
            return Err(Error::corrupt(format!(
                "a part of it in {} is {elements} of {}, it needs {} of {} from {} on",
                self.name(run.file),
                found.dtype,
                run.len,
                meta.dtype,
                run.first
            )));
        }
        Ok(())
    }

    /// The source over all arrays that were added.
    ///
    /// # Errors
    /// Names that appear twice; none at all.
    pub fn finish(
        self,
        at: &Location,
        mut plan: Plan,
        options: &ReadOptions,
    ) -> Result<Box<dyn Source>> {
        if self.arrays.is_empty() {
            return Err(Error::missing("this checkpoint has no tensors").file(at.display()));
        }
        let place = |n: usize| format!("the {}. of the checkpoint", n + 1);
        let arrays = duplicates::unique_arrays(self.arrays, options.on_duplicate, &place)?;
        let (metas, boxes): (Vec<ArrayMeta>, Vec<_>) = arrays.into_iter().unzip();
        plan.arrays = metas.into();
        let (files, from, at) = (self.files, self.from, at.clone());
        let source =
            BoxSource::new(plan, boxes, Arc::new(self.parts), options.resources.memory_bytes());
        // Small records are checked as those of other checkpoints are.
        Ok(Box::new(source.prepared_by(move |parts| {
            let mut wanted: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            for &(file, array) in parts.iter().filter_map(|&part| from.get(part)) {
                wanted.entry(file).or_default().push(array);
            }
            for (file, mut arrays) in wanted {
                let (name, saved) = &files[file];
                arrays.sort_unstable();
                arrays.dedup();
                let checked =
                    saved.source.select(&arrays, Order::ArrayByArray).and_then(|reader| {
                        let Reader::Random(reader) = reader else { return Ok(()) };
                        reader.close()
                    });
                checked.at_file(&at.join(name).display())?;
            }
            Ok(())
        })))
    }

    /// What is no array in a file and cannot be kept, where there is any: a note.
    pub fn left_out(&self, file: usize, is_known: impl Fn(&str) -> bool) -> Option<String> {
        let plan = self.files[file].1.source.plan();
        let mut refused =
            plan.arrays.iter().filter(|a| a.details.error.is_some() && !is_known(&a.name));
        let first = refused.next()?;
        let why = first.details.error.as_deref().map_or("", Error::message);
        let name = self.name(file);
        Some(match refused.count() {
            0 => format!("{name}: {} is left out: {why}", first.name),
            more => format!("{name}: {} and {more} more are left out: {why}", first.name),
        })
    }
}

/// Takes keys out of a dict of plain values.
pub(super) fn without(values: &Value, keys: &[&str]) -> Attributes {
    let all = values.as_object().into_iter().flatten();
    all.filter(|(key, _)| !keys.contains(&key.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// Compares the checksums of files.
///
/// # Errors
/// Corrupt, with the file.
pub(super) fn verify(at: &Location, names: &[String]) -> Result<Vec<String>> {
    let mut without = 0;
    for name in names {
        let at = at.join(name);
        without += at.blob().and_then(|blob| pytorch::verify(&blob)).at_file(&at.display())?;
    }
    Ok(pytorch::unchecked(without))
}
