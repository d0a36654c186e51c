//! Nested columns whose parts are plain arrays of a source, put together again.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, StructArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, FieldRef};

use crate::arrow_model;
use crate::error::{Context, Error, Result};
use crate::format::{Choice, Emit, Extent, Order, Piece, ReadRows, Reader, Source, StoredArray};
use crate::model::nested::{PartKind, Parts, TakenApart, coded, parts_of, with_children};
use crate::model::{ArrayMeta, Categories, Chunk, Dtype, Logical, Nested, Plan, Values, typed};
use crate::sidecar;

/// Rows of nested arrays are put together about this many bytes at a time.
const STEP_BYTES: u64 = 8 << 20;
/// Rows whose offsets are looked at together.
const STEP_ROWS: u64 = 1 << 16;

fn invalid(e: arrow_schema::ArrowError) -> Error {
    Error::corrupt("a nested column is not valid").because(e)
}

/// A part of a nested array: what it is, and which plain arrays it has.
struct Node {
    kind: PartKind,
    field: FieldRef,
    offsets: Option<usize>,
    valid: Option<usize>,
    /// The array of a leaf.
    leaf: Option<usize>,
    below: Vec<Node>,
}

impl Node {
    /// `place` tells the index of an array.
    fn of(field: &FieldRef, parts: &Parts, place: &dyn Fn(&str) -> Option<usize>) -> Option<Node> {
        let (kind, fields) = parts_of(field.data_type())?;
        let find = |name: &Option<String>| match name {
            Some(name) => place(name).map(Some),
            None => Some(None),
        };
        let leaf = match kind {
            PartKind::Leaf => Some(place(&parts.name)?),
            _ => None,
        };
        if fields.len() != parts.parts.len() {
            return None;
        }
        let below: Option<Vec<Node>> =
            fields.iter().zip(&parts.parts).map(|((_, f), p)| Node::of(f, p, place)).collect();
        let field = field.clone();
        let (offsets, valid) = (find(&parts.offsets)?, find(&parts.valid)?);
        if matches!(kind, PartKind::List) != offsets.is_some() {
            return None;
        }
        Some(Node { kind, field, offsets, valid, leaf, below: below? })
    }
    /// Whether there are nulls in each field of a walk through its type.
    fn nulls(&self, flat: &[ArrayMeta], found: &mut Vec<bool>) {
        found.push(self.valid.is_some() || self.leaf.is_some_and(|i| flat[i].nulls));
        if matches!(self.field.data_type(), DataType::Map(..)) {
            found.push(false);
        }
        self.below.iter().for_each(|below| below.nulls(flat, found));
    }
    /// The indices of its arrays.
    fn arrays(&self) -> Vec<usize> {
        let own = [self.offsets, self.valid, self.leaf].into_iter().flatten();
        own.chain(self.below.iter().flat_map(Node::arrays)).collect()
    }
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
        match head(&entry, &flat, &places) {
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

/// The nested array of an entry.
fn head(
    entry: &TakenApart,
    flat: &[ArrayMeta],
    places: &HashMap<&str, usize>,
) -> std::result::Result<(ArrayMeta, Node), String> {
    let is_text = |name: &str| places.get(name).is_some_and(|&i| flat[i].logical.is_var());
    let t = without_dictionaries(entry.field.data_type(), &entry.parts, &is_text);
    let field: FieldRef = Arc::new(entry.field.as_ref().clone().with_data_type(t));
    let node = Node::of(&field, &entry.parts, &|name| places.get(name).copied());
    let node = node.ok_or("not all of them are there")?;
    let mut seen = HashSet::new();
    if places.contains_key(entry.name.as_str()) {
        return Err("there is an array of this name by now".into());
    }
    if !node.arrays().into_iter().all(|i| seen.insert(i)) {
        return Err("some of them are the same".into());
    }
    let mut dictionaries = Vec::new();
    let rows = rows_of(&node, flat, &mut dictionaries)?;
    let mut nulls = Vec::new();
    node.nulls(flat, &mut nulls);
    let nested = Nested { field, dictionaries, nulls: Some(nulls) };
    let mut meta = ArrayMeta::column(&entry.name, Dtype::U8, Logical::Nested(nested.into()), rows);
    let stored = |i: usize| flat[i].size_bytes().unwrap_or(0);
    meta.details.stored_bytes =
        Some(node.arrays().into_iter().map(stored).fold(0, u64::saturating_add));
    meta.details.error = node.arrays().into_iter().find_map(|i| flat[i].details.error.clone());
    Ok((meta, node))
}

/// The type with texts in the place of dictionaries that were written as such.
fn without_dictionaries(t: &DataType, parts: &Parts, is_text: &dyn Fn(&str) -> bool) -> DataType {
    if let DataType::Dictionary(_, values) = t {
        return if is_text(&parts.name) { values.as_ref().clone() } else { t.clone() };
    }
    // Keys and values of a map are fields of its entries.
    if let DataType::Map(entries, sorted) = t {
        let pair = without_dictionaries(entries.data_type(), parts, is_text);
        return DataType::Map(Arc::new(entries.as_ref().clone().with_data_type(pair)), *sorted);
    }
    let mut below = parts.parts.iter();
    with_children(t, &mut |field| match below.next() {
        Some(part) => {
            let t = without_dictionaries(field.data_type(), part, is_text);
            Arc::new(field.as_ref().clone().with_data_type(t))
        }
        None => field.clone(),
    })
}

/// The rows of a part; collects the categories of its dictionaries.
fn rows_of(
    node: &Node,
    flat: &[ArrayMeta],
    dictionaries: &mut Vec<Arc<Categories>>,
) -> std::result::Result<Option<u64>, String> {
    let vector = |i: usize, dtype: Dtype| {
        let meta = &flat[i];
        let plain = meta.dtype == dtype && meta.inner.is_empty() && meta.logical.is_plain();
        (plain && !meta.scalar).then_some(meta.rows.unwrap_or(0))
    };
    let mut rows = None;
    let mut agree = |found: u64, what: &str| match rows.replace(found) {
        Some(before) if before != found => {
            Err(format!("{what} has {found} rows, others have {before}"))
        }
        _ => Ok(()),
    };
    if let Some(i) = node.valid {
        let name = &flat[i].name;
        agree(vector(i, Dtype::Bool).ok_or(format!("{name} is no mask"))?, name)?;
    }
    if let Some(i) = node.offsets {
        let name = &flat[i].name;
        let found = vector(i, Dtype::I64).and_then(|n| n.checked_sub(1));
        agree(found.ok_or(format!("{name} holds no offsets"))?, name)?;
    }
    if let Some(i) = node.leaf {
        let meta = &flat[i];
        let t = node.field.data_type();
        let expected = arrow_model::element_type(t).map_err(|e| e.reason())?;
        if meta.dtype != expected.0
            || meta.logical != arrow_model::with_order(expected.1, &node.field)
            || !meta.element_dims().is_empty()
        {
            return Err(format!("{} is {} by now", meta.name, meta.type_name()));
        }
        if let Logical::Dictionary { categories, .. } = &meta.logical {
            dictionaries.push(categories.clone());
        }
        agree(meta.rows.unwrap_or(0), &meta.name)?;
    }
    for below in &node.below {
        let found = rows_of(below, flat, dictionaries)?;
        match (&node.kind, found) {
            (PartKind::Struct, Some(n)) => agree(n, below.field.name())?,
            (PartKind::Fixed(n), Some(found)) if *n > 0 => {
                if found % n != 0 {
                    return Err(format!("{found} elements do not make lists of {n}"));
                }
                agree(found / n, below.field.name())?
            }
            _ => {}
        }
    }
    Ok(rows)
}

enum Joined {
    Flat(usize),
    /// And its rows.
    Nested(Box<Node>, u64),
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
        Ok(Reader::Random(Arc::new(TogetherRows { reader, shared: self.shared.clone() })))
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

    /// About what some rows take.
    fn size(&self, node: &Node, rows: &Range<u64>) -> Result<u64> {
        let count = rows.end - rows.start;
        if let Some(leaf) = node.leaf {
            let meta = &self.shared.flat[leaf];
            let each = meta.row_bytes_about(16).saturating_add(16);
            return Ok(count.saturating_mul(each));
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

    /// The row behind those from `row` on that take about `bytes`, one at least, and what they take.
    fn fit(&self, node: &Node, row: u64, most: u64, bytes: u64) -> Result<(u64, u64)> {
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

    fn build(&self, node: &Node, rows: &Range<u64>) -> Result<ArrayRef> {
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
                let short = short.map_err(|_| {
                    Error::refused(format!("row {} has too many elements", rows.start))
                })?;
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
            Joined::Nested(node, _) => self.size(node, &rows).ok().map(|n| n.saturating_mul(2)),
        }
    }
    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        match &self.shared.ways[array] {
            Joined::Flat(i) => self.reader.piece(*i, row, bytes),
            Joined::Nested(node, rows) => {
                let (end, bytes) = self.fit(node, row, *rows, bytes).ok()?;
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
