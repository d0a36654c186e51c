//! Reading: any rows of any array, on any thread, a chunk at a time.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::block::{VarBlock, scatter, step};
use super::chain::{self, Decoded, VarItems};
use super::dtype::{self, Field, Kind};
use super::kept::{Block, Kept};
use super::node::Node;
use super::shard::Index;
use super::store::Store;
use super::tree;
use crate::error::{Error, Result};
use crate::format::duplicates;
use crate::format::{Emit, Extent, OnDuplicate, Order, ReadOptions, ReadRows, Source, readable};
use crate::model::{Buf, Chunk, Plan, Values};
use crate::storage::{Blob, Location};

/// Inner chunks of a shard are fetched together up to this many bytes.
const BATCH_BYTES: u64 = 4 << 20;
/// What one chunk may take beyond the memory limit.
const SLACK_BYTES: u64 = 16 << 20;
/// What an item of text takes at least: where it begins.
const OFFSET_BYTES: u64 = 8;
/// What an item of text is taken for, before it is read.
const TEXT_BYTES: u64 = 64;
/// Shards whose index is kept.
const OPEN_SHARDS: usize = 16;

/// An opened hierarchy.
pub struct ZarrSource {
    plan: Plan,
    reader: Arc<Reader>,
}

/// Opens the hierarchy at `at`.
///
/// # Errors
/// Missing, refused or corrupt.
pub fn open(at: &Location, options: &ReadOptions) -> Result<ZarrSource> {
    let store = Store::open(at)?;
    let tree = tree::read(&store, options.memory_bytes)?;
    let notes = [store.notes(), tree.notes].concat();
    let mut plan = Plan { format: "zarr", notes, ..Plan::default() };
    plan.format_version = Some(
        match tree.versions {
            [true, true] => "v2 and v3",
            [true, false] => "v2",
            _ => "v3",
        }
        .into(),
    );
    let group = options.group.as_deref().map(|g| g.trim_matches('/')).filter(|g| !g.is_empty());
    let inside = |path: &str| {
        group.is_none_or(|g| {
            path == g || path.strip_prefix(g).is_some_and(|rest| rest.starts_with('/'))
        })
    };
    let mut any = group.is_none();
    for (path, attributes) in tree.groups {
        any |= group == Some(path.as_str());
        if path.is_empty() {
            plan.attributes = attributes;
        } else if inside(&path) {
            plan.groups.insert(path, attributes);
        }
    }
    let stem = at.stem();
    let mut entries = Vec::new();
    let mut names = std::collections::HashSet::new();
    for (path, info) in tree.arrays {
        if !inside(&path) {
            continue;
        }
        any = true;
        let name = if path.is_empty() { stem.as_str() } else { path.as_str() };
        let metas = info.metas(name);
        let node = info.node.ok().map(Arc::new);
        for (mut meta, field) in metas {
            if !names.insert(meta.name.clone()) {
                // A field NAME.f beside an array of that very name.
                let original = meta.name.clone();
                match options.on_duplicate {
                    OnDuplicate::First => continue,
                    OnDuplicate::Rename => {
                        let free =
                            (1..).map(|i| format!("{original}_{i}")).find(|n| !names.contains(n));
                        meta.name = free.unwrap_or(original);
                        names.insert(meta.name.clone());
                    }
                    OnDuplicate::Last => {
                        if let Some(at) = plan.position(&original) {
                            plan.arrays.remove(at);
                            entries.remove(at);
                        }
                    }
                    OnDuplicate::Error => {
                        return Err(duplicates::in_file(
                            &original,
                            "an array",
                            &format!("a field of {name}"),
                        ));
                    }
                }
            }
            plan.arrays.push(meta);
            entries.push(Entry { path: path.clone(), node: node.clone(), field });
        }
    }
    if !any {
        return Err(Error::missing(format!("there is no group '{}'", group.unwrap_or_default())));
    }
    let limit = (options.memory_bytes / 8).clamp(1 << 20, 64 << 20);
    let reader = Reader {
        store,
        entries,
        shards: Mutex::default(),
        kept: Kept::new(limit),
        limit,
        memory_bytes: options.memory_bytes,
    };
    let reader = Arc::new(reader);
    Ok(ZarrSource { plan, reader })
}

impl Source for ZarrSource {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn want(&mut self, arrays: &[usize], wish: Order) -> Result<Order> {
        for &a in arrays {
            let meta = &self.plan.arrays[a];
            readable(meta)?;
            self.reader.row_fits(a).map_err(|e| e.array(&meta.name))?;
        }
        Ok(wish)
    }
    fn random(&self) -> Option<Arc<dyn ReadRows>> {
        Some(self.reader.clone())
    }
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        self.reader.extents(array)
    }
}

struct Entry {
    /// Below the root; empty for the root.
    path: String,
    node: Option<Arc<Node>>,
    field: Option<Field>,
}

/// An open shard: its object and its index. No blob: the object is missing.
struct Opened {
    blob: Option<Arc<dyn Blob>>,
    index: Index,
}

type ShardKey = (usize, Vec<u64>);

struct Reader {
    store: Store,
    entries: Vec<Entry>,
    shards: Mutex<VecDeque<(ShardKey, Arc<Opened>)>>,
    kept: Kept,
    /// Bytes of rows that one read should not pass, where chunks leave the choice.
    limit: u64,
    memory_bytes: u64,
}

/// Says in which chunk something is wrong.
fn in_chunk(e: Error, key: &str) -> Error {
    e.about(format_args!("the chunk {key}"))
}

impl Reader {
    fn entry(&self, array: usize) -> Result<(&Entry, &Node)> {
        let entry = &self.entries[array];
        let node =
            entry.node.as_deref().ok_or_else(|| Error::refused("this array cannot be read"))?;
        Ok((entry, node))
    }

    fn key(entry: &Entry, node: &Node, place: &[u64]) -> String {
        let key = node.keys.key(place);
        if entry.path.is_empty() { key } else { format!("{}/{key}", entry.path) }
    }

    /// Is a chunk as wide as the array, so that its rows are rows of the array?
    fn is_wide(node: &Node) -> bool {
        node.shape.get(1..) == node.chunk.get(1..)
    }

    fn columns(node: &Node) -> Vec<u64> {
        node.shape.iter().zip(&node.chunk).skip(1).map(|(d, c)| d.div_ceil(*c)).collect()
    }

    fn opened(
        &self,
        array: usize,
        entry: &Entry,
        node: &Node,
        place: &[u64],
    ) -> Result<Arc<Opened>> {
        let id = entry.node.as_ref().map_or(array, |n| Arc::as_ptr(n) as usize);
        let key = (id, place.to_vec());
        let lock = || self.shards.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((_, found)) = lock().iter().find(|(k, _)| *k == key) {
            return Ok(found.clone());
        }
        let Some(shard) = &node.shard else { return Err(Error::internal("no shards here")) };
        let name = Self::key(entry, node, place);
        let most = node
            .chain
            .most_encoded(&node.chunk_shape())
            .saturating_mul(shard.counts.iter().product());
        let blob = self.store.blob(&name, most.saturating_add(shard.index_bytes()))?;
        let index = match &blob {
            Some(blob) => shard.index(blob.as_ref()).map_err(|e| in_chunk(e, &name))?,
            None => Vec::new(),
        };
        let opened = Arc::new(Opened { blob, index });
        let mut shards = lock();
        let kept: usize = shards.iter().map(|(_, o)| o.index.len()).sum();
        while shards.len() >= OPEN_SHARDS || (kept > 1 << 20 && shards.len() > 2) {
            if shards.pop_front().is_none() || shards.len() <= 2 {
                break;
            }
        }
        shards.push_back((key, opened.clone()));
        Ok(opened)
    }

    /// The items of one chunk as the array's field has them: contiguous, little-endian.
    fn items(
        &self,
        entry: &Entry,
        node: &Node,
        encoded: Option<Vec<u8>>,
        place: &[u64],
    ) -> Result<Decoded> {
        let shape = node.chunk_shape();
        let decoded = match encoded {
            None => shape.filled(),
            Some(bytes) => self
                .fits(entry, node, bytes.len() as u64)
                .and_then(|()| node.chain.decode(bytes, &shape))
                .map_err(|e| {
                    let object: Vec<u64> = match &node.shard {
                        Some(shard) => {
                            place.iter().zip(&shard.counts).map(|(p, n)| p / n).collect()
                        }
                        None => place.to_vec(),
                    };
                    in_chunk(e, &node.keys.key(&object))
                })?,
        };
        match (decoded, &entry.field) {
            (Decoded::Fixed(bytes), Some(field)) => {
                Ok(Decoded::Fixed(field_of(bytes, node, field)))
            }
            (other, _) => Ok(other),
        }
    }

    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        let (entry, node) = self.entry(array).ok()?;
        let field = entry.field.as_ref()?;
        let is_plain = node.chain.is_raw()
            && node.shard.is_none()
            && !field.big
            && node.element.size() == Some(field.bytes())
            && matches!(field.kind, Kind::Plain(_) | Kind::Time(_));
        if !is_plain || (!node.shape.is_empty() && !Self::is_wide(node)) {
            return None;
        }
        if let Store::Zip(_) = self.store {
            return None;
        }
        let rows = node.shape.first().copied().unwrap_or(1);
        let height = node.chunk.first().copied().unwrap_or(1);
        let row_bytes =
            node.shape.iter().skip(1).product::<u64>().checked_mul(field.bytes() as u64)?;
        // Open files are not for free: many small chunks are read, not copied.
        let chunks = rows.div_ceil(height);
        if chunks > 256 {
            return None;
        }
        let mut extents = Vec::new();
        for k in 0..chunks {
            let place = if node.shape.is_empty() {
                Vec::new()
            } else {
                (0..node.shape.len()).map(|d| if d == 0 { k } else { 0 }).collect()
            };
            let bytes = height.checked_mul(row_bytes)?;
            let blob = self.store.blob(&Self::key(entry, node, &place), bytes).ok()??;
            let file = blob.file()?.clone();
            if blob.len() != bytes {
                return None;
            }
            extents.push(Extent {
                file,
                offset: 0,
                len: height.min(rows - k * height) * row_bytes,
            });
        }
        Some(extents)
    }

    /// Refuses a chunk that needs more memory than there is while it is decoded.
    fn fits(&self, entry: &Entry, node: &Node, encoded: u64) -> Result<()> {
        let shape = node.chunk_shape();
        let Some(size) = shape.item else { return Ok(()) };
        let field = match &entry.field {
            Some(field) if field.bytes() != size => {
                shape.items().saturating_mul(field.bytes() as u64)
            }
            _ => 0,
        };
        let needs = node.chain.needs(encoded, &shape).saturating_add(field);
        if needs <= self.memory_bytes.saturating_add(SLACK_BYTES) {
            return Ok(());
        }
        Err(Error::refused(format!(
            "chunks of shape {:?} need {needs} bytes of memory while they are decoded, the limit is {} bytes",
            node.chunk, self.memory_bytes
        ))
        .hint(format!("raise the limit: --memory-limit {}MiB", needs.div_ceil(1 << 20))))
    }

    /// Refuses an array whose rows do not fit into memory one by one: a header may claim any, and
    /// chunks that are missing are filled. Rows that the kernel can copy need no memory.
    fn row_fits(&self, array: usize) -> Result<()> {
        let (entry, node) = self.entry(array)?;
        let item = entry.field.as_ref().map_or(OFFSET_BYTES, |f| f.bytes() as u64);
        let row = node.shape.iter().skip(1).fold(item, |n, d| n.saturating_mul(*d));
        if row <= self.memory_bytes.saturating_add(SLACK_BYTES)
            || node.shape.contains(&0)
            || self.extents(array).is_some()
        {
            return Ok(());
        }
        Err(Error::refused(format!(
            "a row takes {row} bytes, the memory limit is {} bytes",
            self.memory_bytes
        ))
        .hint(format!("raise the limit: --memory-limit {}MiB", row.div_ceil(1 << 20))))
    }

    /// Bytes of a row of chunks, decoded; of text a guess.
    fn block_bytes(entry: &Entry, node: &Node) -> u64 {
        let rows = node
            .chunk
            .first()
            .copied()
            .unwrap_or(1)
            .saturating_mul(node.shape.iter().skip(1).product());
        rows.saturating_mul(match (&entry.field, node.element.size()) {
            (Some(field), Some(_)) => field.bytes() as u64,
            _ => TEXT_BYTES,
        })
    }

    /// Rows `r0..r1` of the row of chunks `k`, out of their chunks. Where these are as wide as the
    /// array, all of its rows come.
    fn assembled(
        &self,
        entry: &Entry,
        node: &Node,
        k: u64,
        rows: Range<u64>,
        fetch: &mut Fetch<'_>,
    ) -> Result<Decoded> {
        if Self::is_wide(node) {
            let place: Vec<u64> =
                (0..node.shape.len()).map(|d| if d == 0 { k } else { 0 }).collect();
            return self.items(entry, node, fetch.next()?, &place);
        }
        let (top, count) = (k * node.chunk[0], rows.end - rows.start);
        let item = entry.field.as_ref().map_or(1, Field::bytes);
        let columns = Self::columns(node);
        let mut out_shape = node.shape.clone();
        out_shape[0] = count;
        let mut out_at = vec![0; node.shape.len()];
        out_at[0] = rows.start;
        let mut texts = node.element.size().is_none().then(|| VarBlock::new(&out_shape, &out_at));
        let bytes =
            if texts.is_some() { 0 } else { out_shape.iter().product::<u64>() as usize * item };
        let mut out = vec![0u8; bytes];
        let mut place = vec![0u64; columns.len()];
        while columns.iter().all(|c| *c > 0) {
            let full: Vec<u64> = std::iter::once(k).chain(place.iter().copied()).collect();
            let at: Vec<u64> = std::iter::once(top)
                .chain(place.iter().zip(&node.chunk[1..]).map(|(p, c)| p * c))
                .collect();
            match (self.items(entry, node, fetch.next()?, &full)?, &mut texts) {
                (Decoded::Fixed(part), _) => {
                    scatter(&part, &node.chunk, &at, &mut out, &out_shape, &out_at, item)
                }
                (Decoded::Var(part), Some(texts)) => texts.add(part, &node.chunk, &at),
                (Decoded::Var(_), None) => return Err(Error::internal("text among numbers")),
            }
            if !step(&mut place, &columns) {
                break;
            }
        }
        Ok(match texts {
            Some(texts) => Decoded::Var(texts.items()),
            None => Decoded::Fixed(out),
        })
    }

    /// Rows that are uncompressed in a file, without their whole chunk.
    fn raw_rows(
        &self,
        entry: &Entry,
        node: &Node,
        field: &Field,
        k: u64,
        rows: Range<u64>,
    ) -> Result<Option<Vec<u8>>> {
        let place: Vec<u64> = (0..node.shape.len()).map(|d| if d == 0 { k } else { 0 }).collect();
        let key = Self::key(entry, node, &place);
        let size = node.element.size().unwrap_or(1) as u64;
        let row = node.shape[1..].iter().product::<u64>() * size;
        let Some(blob) = self.store.blob(&key, node.chunk[0] * row)? else { return Ok(None) };
        if blob.len() != node.chunk[0] * row {
            return Err(Error::corrupt(format!(
                "the chunk {key} has {} bytes, its shape needs {}",
                blob.len(),
                node.chunk[0] * row
            )));
        }
        let bytes = blob.read_vec(rows.start * row, (rows.end - rows.start) * row)?;
        Ok(Some(field_of(bytes, node, field)))
    }
}

/// One field of all items, contiguous and little-endian.
fn field_of(mut bytes: Vec<u8>, node: &Node, field: &Field) -> Vec<u8> {
    let Some(size) = node.element.size().filter(|&s| s > 0) else { return bytes };
    let width = field.bytes();
    if width != size {
        let count = bytes.len() / size;
        let mut part = Vec::with_capacity(count * width);
        bytes
            .chunks_exact(size)
            .for_each(|item| part.extend_from_slice(&item[field.offset..field.offset + width]));
        bytes = part;
    }
    if field.big {
        dtype::swap(&mut bytes, field.swap_unit());
    }
    bytes
}

/// Padded items as text or bytes of their own lengths.
fn unpadded(bytes: &[u8], field: &Field, first_row: u64, count: u64) -> Result<VarItems> {
    let mut items = VarItems::new();
    if field.size == 0 {
        (0..count).for_each(|_| items.push(b""));
        return Ok(items);
    }
    let mut text = String::new();
    for (i, item) in bytes.chunks_exact(field.size).enumerate() {
        if field.kind == Kind::Bytes {
            let end = item.iter().rposition(|b| *b != 0).map_or(0, |p| p + 1);
            items.push(&item[..end]);
            continue;
        }
        text.clear();
        let codes = item.as_chunks::<4>().0;
        let end = codes.iter().rposition(|c| *c != [0; 4]).map_or(0, |p| p + 1);
        for code in &codes[..end] {
            let code = u32::from_le_bytes(*code);
            text.push(char::from_u32(code).ok_or_else(|| {
                Error::corrupt(format!(
                    "element {i} from row {first_row} on: {code:#x} is not a character"
                ))
            })?);
        }
        items.push(text.as_bytes());
    }
    Ok(items)
}

impl ReadRows for Reader {
    fn cut(&self, array: usize, row: u64) -> u64 {
        let Ok((entry, node)) = self.entry(array) else { return u64::MAX };
        let Some(&height) = node.chunk.first() else { return u64::MAX };
        let item = entry.field.as_ref().map_or(1, |f| f.bytes() as u64);
        let row_bytes = node.shape[1..].iter().product::<u64>().saturating_mul(item).max(1);
        // A chunk that is as wide as the array is decoded once; of narrow ones a tall row of chunks
        // may be too much.
        let is_free = if Self::is_wide(node) {
            node.chain.is_raw()
        } else {
            Self::block_bytes(entry, node) > self.memory_bytes / 2
        };
        let part = if is_free && height.saturating_mul(row_bytes) > self.limit {
            (self.limit / row_bytes).max(1)
        } else {
            height
        };
        let inside = row % height;
        let next = (inside / part + 1).saturating_mul(part).min(height);
        (row - inside).saturating_add(next)
    }

    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let (entry, node) = self.entry(array).ok()?;
        let count = rows.end - rows.start;
        let each = node.shape.iter().skip(1).product::<u64>();
        let Some(size) = node.element.size() else {
            return Some(count.saturating_mul(each).saturating_mul(TEXT_BYTES).max(1 << 18));
        };
        let chunk: u64 = node.chunk.iter().product::<u64>().saturating_mul(size as u64);
        let item = entry.field.as_ref().map_or(1, |f| f.bytes() as u64);
        let row_bytes = node.shape.iter().skip(1).product::<u64>().saturating_mul(item);
        // A chunk and its encoded bytes beside the rows; of a chunk as wide as the array the rows
        // are a part.
        let beside = match (Self::is_wide(node), node.chain.is_raw()) {
            (true, true) => 0,
            (true, false) => chunk / 2,
            (false, _) => chunk.saturating_add(chunk / 2),
        };
        Some(count.saturating_mul(row_bytes).saturating_add(beside))
    }

    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let (entry, node) = self.entry(array)?;
        let give = |first_row: u64, count: u64, buf: Buf, emit: Emit<'_>| -> Result<()> {
            match &entry.field {
                Some(field) if matches!(field.kind, Kind::Utf32 | Kind::Bytes) => {
                    let each = node.shape.iter().skip(1).chain(&field.inner).product::<u64>();
                    let items = unpadded(&buf, field, first_row, count * each)?;
                    emit(var_chunk(array, first_row, count, items))
                }
                _ => emit(Chunk::fixed(array, first_row, count, buf)),
            }
        };
        if node.shape.is_empty() {
            let mut fetch = Fetch::new(self, array, entry, node, 0..1);
            return match self.items(entry, node, fetch.next()?, &[])? {
                Decoded::Fixed(bytes) => give(0, 1, bytes.into(), emit),
                Decoded::Var(items) => emit(var_chunk(array, 0, 1, items)),
            };
        }
        if rows.start >= rows.end {
            return Ok(());
        }
        if node.shape.contains(&0) && node.element.size().is_none() && node.shape.len() > 1 {
            return emit(var_chunk(array, rows.start, rows.end - rows.start, VarItems::new()));
        }
        if node.shape.contains(&0) && node.element.size().is_some() {
            // Rows without elements: no chunk holds any of them.
            return give(rows.start, rows.end - rows.start, Buf::from_vec(Vec::<u8>::new()), emit);
        }
        let (height, item) = (node.chunk[0], entry.field.as_ref().map_or(1, Field::bytes));
        let row_bytes = node.shape[1..].iter().product::<u64>() as usize * item;
        let is_raw = node.chain.is_raw() && node.shard.is_none() && Self::is_wide(node);
        let last = (rows.end - 1) / height;
        let mut fetch = Fetch::new(self, array, entry, node, rows.start / height..last + 1);
        for k in rows.start / height..=last {
            let top = k * height;
            let (r0, r1) = (rows.start.max(top), rows.end.min(top.saturating_add(height)));
            let count = r1 - r0;
            if is_raw && let Some(field) = &entry.field {
                let bytes = match self.raw_rows(entry, node, field, k, r0 - top..r1 - top)? {
                    Some(bytes) => bytes,
                    None => field_of(
                        node.fill
                            .repeat((count * node.shape[1..].iter().product::<u64>()) as usize),
                        node,
                        field,
                    ),
                };
                give(r0, count, bytes.into(), emit)?;
                continue;
            }
            let each = node.shape[1..].iter().product::<u64>();
            let span = height.min(node.shape[0] - top);
            let bytes = Self::block_bytes(entry, node);
            if count < span && (Self::is_wide(node) || bytes <= self.memory_bytes / 2) {
                let block = self.kept.get((array, k), bytes, &mut || {
                    fetch.skip_to(k);
                    self.assembled(entry, node, k, top..top + span, &mut fetch)
                })?;
                let each = if matches!(*block, Block::Var(_)) { each } else { row_bytes as u64 };
                match block.rows(r0 - top, r1 - top, each) {
                    Values::Fixed(part) => give(r0, count, part, emit)?,
                    values => {
                        emit(Chunk { array, first_row: r0, rows: count, values, valid: None })?
                    }
                }
                continue;
            }
            fetch.skip_to(k);
            match self.assembled(entry, node, k, r0..r1, &mut fetch)? {
                // The chunks at the end of an array are whole, too.
                Decoded::Fixed(bytes) => give(
                    r0,
                    count,
                    Buf::from_vec(bytes).slice_with_length(0, count as usize * row_bytes),
                    emit,
                )?,
                Decoded::Var(mut items) => {
                    items.offsets.truncate((count * each) as usize + 1);
                    emit(var_chunk(array, r0, count, items))?;
                }
            }
        }
        Ok(())
    }
}

fn var_chunk(array: usize, first_row: u64, rows: u64, items: VarItems) -> Chunk {
    Chunk {
        array,
        first_row,
        rows,
        values: Values::Var { offsets: items.offsets, values: items.values.into() },
        valid: None,
    }
}

/// The encoded chunks of some rows of chunks, in C order; inner chunks of shards are fetched many
/// at a time.
struct Fetch<'a> {
    reader: &'a Reader,
    array: usize,
    entry: &'a Entry,
    node: &'a Node,
    place: Vec<u64>,
    columns: Vec<u64>,
    end: u64,
    /// The first row of chunks, and how many chunks from there on were given or skipped.
    start: u64,
    given: u64,
    ready: VecDeque<Option<Vec<u8>>>,
}

impl<'a> Fetch<'a> {
    fn new(
        reader: &'a Reader,
        array: usize,
        entry: &'a Entry,
        node: &'a Node,
        rows: Range<u64>,
    ) -> Fetch<'a> {
        let mut place = vec![0; node.shape.len()];
        if let Some(first) = place.first_mut() {
            *first = rows.start;
        }
        let columns = Reader::columns(node);
        Fetch {
            reader,
            array,
            entry,
            node,
            place,
            columns,
            end: rows.end,
            start: rows.start,
            given: 0,
            ready: VecDeque::new(),
        }
    }

    fn advance(&mut self) {
        if let Some((first, rest)) = self.place.split_first_mut()
            && !step(rest, &self.columns)
        {
            *first += 1;
        }
    }

    /// Chunks before the row of chunks `k` are not needed (any more).
    fn skip_to(&mut self, k: u64) {
        let target = (k - self.start).saturating_mul(self.columns.iter().product());
        while self.given < target {
            if self.ready.pop_front().is_none() {
                self.advance();
            }
            self.given += 1;
        }
    }

    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        self.given += 1;
        let Some(shard) = &self.node.shard else {
            let key = Reader::key(self.entry, self.node, &self.place);
            self.advance();
            let most = self.node.chain.most_encoded(&self.node.chunk_shape());
            return self.reader.store.get(&key, most).map_err(|e| match self.node.element.size() {
                Some(_) => e,
                None => chain::text_limit(e, most),
            });
        };
        if let Some(ready) = self.ready.pop_front() {
            return Ok(ready);
        }
        let most = self.node.chain.most_encoded(&self.node.chunk_shape());
        let (mut bytes, mut wanted) = (0u64, Vec::new());
        let mut current: Option<(Vec<u64>, Arc<Opened>)> = None;
        while wanted.len() < 4096
            && bytes < BATCH_BYTES
            && self.place.first().is_none_or(|k| *k < self.end)
        {
            let object: Vec<u64> =
                self.place.iter().zip(&shard.counts).map(|(p, n)| p / n).collect();
            let opened = match &current {
                Some((at, opened)) if *at == object => opened.clone(),
                _ => {
                    let opened = self.reader.opened(self.array, self.entry, self.node, &object)?;
                    current = Some((object, opened.clone()));
                    opened
                }
            };
            let at = self.place.iter().zip(&shard.counts).fold(0u64, |i, (p, n)| i * n + p % n);
            let place = opened.index.get(at as usize).copied().flatten();
            if let Some((offset, len)) = place {
                if len > most {
                    return Err(Error::corrupt(format!(
                        "an inner chunk has {len} bytes at byte {offset} of a shard, expected at most {most}"
                    )));
                }
                bytes += len;
            }
            wanted.push((opened, place));
            self.advance();
            if self.place.is_empty() {
                break;
            }
        }
        if wanted.is_empty() {
            return Err(Error::internal("a chunk behind the last one was asked for"));
        }
        // One request an object, in the order of the chunks.
        let mut i = 0;
        while i < wanted.len() {
            let same = wanted[i..].iter().take_while(|(o, _)| Arc::ptr_eq(o, &wanted[i].0)).count();
            let ranges: Vec<Range<u64>> =
                wanted[i..i + same].iter().filter_map(|(_, p)| p.map(|(o, n)| o..o + n)).collect();
            let mut parts = match &wanted[i].0.blob {
                Some(blob) if !ranges.is_empty() => blob.read_ranges(&ranges)?,
                _ => Vec::new(),
            }
            .into_iter();
            self.ready.extend(
                wanted[i..i + same].iter().map(|(_, place)| place.and_then(|_| parts.next())),
            );
            i += same;
        }
        Ok(self.ready.pop_front().flatten())
    }
}
