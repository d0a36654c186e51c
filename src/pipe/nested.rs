//! Nested columns whose parts are plain arrays of a source, put together again.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::{ArrayRef, StructArray};
use arrow_buffer::NullBuffer;
use arrow_schema::DataType;

use crate::arrow_model;
use crate::error::{Context, Error, Result};
use crate::format::{Choice, Emit, Extent, Order, Piece, ReadRows, Reader, Source, StoredArray};
use crate::model::nested::{PartKind, coded};
use crate::model::{ArrayMeta, Chunk, Plan, Values, typed};
use crate::sidecar::{self, NestedNode, whole_nested};

/// Rows of nested arrays are put together about this many bytes at a time.
const STEP_BYTES: u64 = 8 << 20;
/// The arrays of some rows are there twice: as they were read, and as they are put together.
const TWICE: u64 = 2;
/// Rows whose offsets are looked at together.
const STEP_ROWS: u64 = 1 << 16;

fn invalid(e: arrow_schema::ArrowError) -> Error {
    Error::corrupt("a nested column is not valid").because(e)
}

/// The source with its nested arrays put together again; itself where there are none. It must have
/// random access.
///
/// `choice`: the arrays that will be read, where that is known.
pub fn together(inner: Box<dyn Source>, choice: Option<&Choice>) -> Box<dyn Source> {
    let mut plan = inner.plan().clone();
    let mut entries = std::mem::take(&mut plan.nested);
    for meta in &mut plan.arrays {
        if meta.details.attributes.contains_key(sidecar::NESTED_MARK) {
            let mark = meta.details.attributes.shift_remove(sidecar::NESTED_MARK);
            entries.extend(sidecar::nested_mark(mark.as_ref(), &meta.name));
        }
    }
    if entries.is_empty() {
        return inner;
    }
    let flat = std::mem::take(&mut plan.arrays);
    let places: HashMap<&str, usize> =
        flat.iter().enumerate().map(|(i, m)| (m.name.as_str(), i)).collect();
    let (mut used, mut heads) = (HashSet::new(), HashMap::new());
    for mut entry in entries {
        let all = entry.parts.clone();
        if let Some(pruned) = choice.and_then(|c| c.inside(&entry.name, &entry.field)) {
            entry.parts = pruned.parts(&entry.field, &entry.parts);
            entry.field = pruned.field;
        }
        match whole_nested(&entry, &flat, &places) {
            Ok((meta, node)) => {
                let arrays = node.arrays();
                let Some(&first) = arrays.iter().min() else { continue };
                used.extend(arrays);
                used.extend(all.arrays().into_iter().filter_map(|name| places.get(name)));
                heads.insert(first, (meta, node));
            }
            Err(why) => {
                plan.notes.push(format!("the parts of {} stay on their own: {why}", entry.name))
            }
        }
    }
    let mut ways = Vec::new();
    let mut arrays = Vec::new();
    for (i, meta) in flat.iter().enumerate() {
        if let Some((meta, node)) = heads.remove(&i) {
            ways.push(Joined::Nested(Box::new(node), meta.rows.unwrap_or(0)));
            arrays.push(meta);
        } else if !used.contains(&i) {
            arrays.push(meta.clone());
            ways.push(Joined::Flat(i));
        }
    }
    plan.arrays = arrays.into();
    let shared = Shared { ways, flat: flat.to_vec() };
    Box::new(Together { inner, plan, shared: Arc::new(shared) })
}

enum Joined {
    Flat(usize),
    /// And its rows.
    Nested(Box<NestedNode>, u64),
}

struct Together {
    inner: Box<dyn Source>,
    plan: Plan,
    shared: Arc<Shared>,
}

struct Shared {
    ways: Vec<Joined>,
    flat: Vec<ArrayMeta>,
}

impl Source for Together {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, arrays: &[usize], _wish: Order) -> Result<Reader> {
        let mut inputs = Vec::new();
        for &a in arrays {
            crate::format::readable(&self.plan.arrays[a])?;
            match &self.shared.ways[a] {
                Joined::Flat(i) => inputs.push(*i),
                Joined::Nested(node, _) => inputs.extend(node.arrays()),
            }
        }
        // Array by array: fields of the same records are not to come together.
        let reader = self.inner.select(&inputs, Order::ArrayByArray)?.random();
        let reader = reader.ok_or_else(|| Error::internal("parts without random access"))?;
        let came = self.shared.flat.iter().map(|_| AtomicU64::new(0)).collect();
        Ok(Reader::Random(Arc::new(TogetherRows { reader, shared: self.shared.clone(), came })))
    }
    fn stored(&self, array: usize) -> Result<StoredArray> {
        match self.shared.ways[array] {
            Joined::Flat(i) => self.inner.stored(i),
            Joined::Nested(..) => Err(Error::refused("it is made of several arrays")),
        }
    }
}

struct TogetherRows {
    reader: Arc<dyn ReadRows>,
    shared: Arc<Shared>,
    /// Per array of the source the bytes of a row of text, by what came last.
    came: Vec<AtomicU64>,
}

impl TogetherRows {
    fn chunks(&self, array: usize, rows: Range<u64>) -> Result<Vec<Chunk>> {
        let mut chunks = Vec::new();
        let meta = &self.shared.flat[array];
        let there = meta.rows.unwrap_or(0);
        if rows.end > there {
            let to = rows.end;
            let error = Error::corrupt(format!("it has {there} rows, its lists go to {to}"));
            return Err(error.with_array(&meta.name));
        }
        if !rows.is_empty() {
            self.reader
                .read(array, rows, &mut |chunk| {
                    chunks.push(chunk);
                    Ok(())
                })
                .at_array(&self.shared.flat[array].name)?;
        }
        if meta.logical.is_var() {
            let bytes: u64 = chunks.iter().map(Chunk::bytes).sum();
            let rows: u64 = chunks.iter().map(|chunk| chunk.rows).sum();
            if let Some(row) = bytes.checked_div(rows) {
                self.came[array].store(row, Ordering::Relaxed);
            }
        }
        Ok(chunks)
    }

    fn bytes(&self, array: usize, rows: Range<u64>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for chunk in self.chunks(array, rows)? {
            match &chunk.values {
                Values::Fixed(values) => bytes.extend_from_slice(values),
                _ => return Err(Error::internal("numbers were expected")),
            }
        }
        Ok(bytes)
    }

    /// The offsets of some lists, and the one behind.
    fn offsets(&self, array: usize, rows: &Range<u64>) -> Result<Vec<u64>> {
        let bytes = self.bytes(array, rows.start..rows.end.saturating_add(1))?;
        sidecar::offsets(&bytes, rows.start, i64::MAX as u64)
            .at_array(&self.shared.flat[array].name)
    }

    /// The elements of some lists.
    fn span(&self, array: usize, rows: &Range<u64>) -> Result<Range<u64>> {
        if rows.is_empty() {
            return Ok(0..0);
        }
        let end = |row: u64| -> Result<i64> {
            let one = self.bytes(array, row..row.saturating_add(1))?;
            Ok(typed::<i64>(&one).first().copied().unwrap_or(0))
        };
        let (start, end) = (end(rows.start)?, end(rows.end)?);
        if start < 0 || end < start {
            let wrong = Error::corrupt(format!("offsets go from {start} to {end}"));
            return Err(wrong.with_array(&self.shared.flat[array].name));
        }
        Ok(start as u64..end as u64)
    }

    /// Why the lists from a row on, which go to an element, are no lists in memory.
    fn too_many(&self, node: &NestedNode, row: u64, end: u64) -> Error {
        let below = node.below.first();
        let of = below.and_then(|below| below.leaf.or(below.valid).or(below.offsets));
        match of.map(|i| &self.shared.flat[i]) {
            Some(meta) if meta.rows.is_some_and(|rows| rows < end) => {
                let there = meta.rows.unwrap_or(0);
                Error::corrupt(format!("it has {there} rows, its lists go to {end}"))
                    .with_array(&meta.name)
            }
            _ => Error::refused(format!("row {row} has too many elements")),
        }
    }

    /// About what some rows take.
    fn size(&self, node: &NestedNode, rows: &Range<u64>) -> Result<u64> {
        let count = rows.end - rows.start;
        if let Some(leaf) = node.leaf {
            let meta = &self.shared.flat[leaf];
            let each = meta.row_bytes_about(16).max(self.came[leaf].load(Ordering::Relaxed));
            return Ok(count.saturating_mul(each.saturating_add(16)));
        }
        let below = match node.kind {
            PartKind::Fixed(n) => rows.start.saturating_mul(n)..rows.end.saturating_mul(n),
            _ => match node.offsets {
                Some(offsets) => self.span(offsets, rows)?,
                None => rows.clone(),
            },
        };
        let mut sum = count.saturating_mul(18);
        for part in &node.below {
            sum = sum.saturating_add(self.size(part, &below)?);
        }
        Ok(sum)
    }

    /// What is held meanwhile by those that read its arrays, one after the other: a chunk that is
    /// decoded.
    fn beside(&self, node: &NestedNode) -> u64 {
        let of = |array: usize| {
            let rows = self.shared.flat[array].rows.unwrap_or(0).min(1);
            self.reader.cost(array, 0..rows).unwrap_or(0)
        };
        node.arrays().into_iter().map(of).max().unwrap_or(0)
    }

    /// The row behind those from `row` on that take about `bytes`, one at least, and what they take.
    fn fit(&self, node: &NestedNode, row: u64, most: u64, bytes: u64) -> Result<(u64, u64)> {
        let mut end = most.min(row.saturating_add(STEP_ROWS)).max(row + 1);
        loop {
            let size = self.size(node, &(row..end))?;
            if size <= bytes || end == row + 1 {
                return Ok((end, size));
            }
            let share = u128::from(end - row) * u128::from(bytes) / u128::from(size.max(1));
            let fewer = u64::try_from(share).unwrap_or(1).min((end - row) / 2);
            end = row + fewer.max(1);
        }
    }

    fn build(&self, node: &NestedNode, rows: &Range<u64>) -> Result<ArrayRef> {
        let t = coded(node.field.data_type());
        if let Some(leaf) = node.leaf {
            let meta = &self.shared.flat[leaf];
            let chunks = self.chunks(leaf, rows.clone())?;
            return arrow_model::array(meta, &t, &chunks).at_array(&meta.name);
        }
        let n = (rows.end - rows.start) as usize;
        let nulls = match node.valid {
            Some(valid) => {
                let mask = self.bytes(valid, rows.clone())?;
                Some(NullBuffer::from_iter(mask.iter().map(|b| *b != 0)))
                    .filter(|n| n.null_count() > 0)
            }
            None => None,
        };
        match node.kind {
            PartKind::Struct => {
                let columns: Vec<ArrayRef> =
                    node.below.iter().map(|b| self.build(b, rows)).collect::<Result<_>>()?;
                let DataType::Struct(fields) = t else {
                    return Err(Error::internal("a struct was expected"));
                };
                let built = StructArray::try_new_with_length(fields, columns, nulls, n);
                Ok(Arc::new(built.map_err(invalid)?))
            }
            PartKind::Fixed(length) => {
                let times = |row: u64| row.saturating_mul(length);
                let below = times(rows.start)..times(rows.end);
                let values = self.build(&node.below[0], &below)?;
                let DataType::FixedSizeList(f, length) = t else {
                    return Err(Error::internal("a list was expected"));
                };
                let built = arrow_array::FixedSizeListArray::try_new_with_length(
                    f, length, values, nulls, n,
                );
                Ok(Arc::new(built.map_err(invalid)?))
            }
            _ => {
                let offsets = match node.offsets {
                    Some(offsets) if n > 0 => self.offsets(offsets, rows)?,
                    _ => vec![0],
                };
                let below = offsets[0]..offsets[offsets.len() - 1];
                let short: std::result::Result<Vec<i32>, _> =
                    offsets.iter().map(|o| i32::try_from(o - offsets[0])).collect();
                let short = short.map_err(|_| self.too_many(node, rows.start, below.end))?;
                let mut parts: Vec<ArrayRef> =
                    node.below.iter().map(|b| self.build(b, &below)).collect::<Result<_>>()?;
                let values = match (&t, parts.len()) {
                    (DataType::Map(entries, _), 2) => {
                        let DataType::Struct(fields) = entries.data_type() else {
                            return Err(Error::internal("entries were expected"));
                        };
                        let n = (below.end - below.start) as usize;
                        let built =
                            StructArray::try_new_with_length(fields.clone(), parts, None, n);
                        Arc::new(built.map_err(invalid)?) as ArrayRef
                    }
                    _ => parts.pop().ok_or_else(|| Error::internal("a list without items"))?,
                };
                arrow_model::with_lists(&t, short, values, nulls)
            }
        }
    }
}

impl ReadRows for TogetherRows {
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        match self.shared.ways[array] {
            Joined::Flat(i) => self.reader.extents(i),
            Joined::Nested(..) => None,
        }
    }
    fn close(&self) -> Result<()> {
        self.reader.close()
    }
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        match &self.shared.ways[array] {
            Joined::Flat(i) => self.reader.next_boundary(*i, row),
            Joined::Nested(..) => u64::MAX,
        }
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        match &self.shared.ways[array] {
            Joined::Flat(i) => self.reader.cost(*i, rows),
            Joined::Nested(node, _) => {
                let bytes = self.size(node, &rows).ok()?.saturating_mul(TWICE);
                Some(bytes.saturating_add(self.beside(node)))
            }
        }
    }
    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        match &self.shared.ways[array] {
            Joined::Flat(i) => self.reader.piece(*i, row, bytes),
            Joined::Nested(node, rows) => {
                let (end, bytes) = self.fit(node, row, *rows, bytes / TWICE).ok()?;
                let bytes = bytes.saturating_mul(TWICE).saturating_add(self.beside(node));
                Some(Piece { end, bytes })
            }
        }
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let node = match &self.shared.ways[array] {
            Joined::Flat(i) => {
                return self.reader.read(*i, rows, &mut |mut chunk| {
                    chunk.array = array;
                    emit(chunk)
                });
            }
            Joined::Nested(node, _) => node,
        };
        let mut at = rows.start;
        while at < rows.end {
            let (end, _) = self.fit(node, at, rows.end, STEP_BYTES)?;
            let values = Values::Nested(self.build(node, &(at..end))?);
            emit(Chunk { array, first_row: at, rows: end - at, values, valid: None })?;
            at = end;
        }
        Ok(())
    }
}
