//! What pandas' `to_hdf` writes (frames and series, in the fixed and the table layout of PyTables), as columns by name.
//!
//! | layout | group attribute `pandas_type` | datasets |
//! |---|---|---|
//! | fixed frame | `frame` | `axis0` the column names, `axis1` the index, per dtype `blockN_items` names and `blockN_values` `[rows, names]` |
//! | fixed series | `series` | `index`, `values` |
//! | table | `frame_table`, `series_table` | `table`, a compound: `index`, columns, or `values_block_N` of several columns named by `values_block_N_kind` |
//!
//! A list of names is a pickle of protocol 0, read as text and never run. Text of the fixed layout is a pickled object and
//! stays refused; text of tables comes as it is stored (a missing one is the text `nan`).

use serde_json::Value;

use super::c::{self, Id};
use super::ffi;
use super::tree::{Dataset, Storage, Tree};
use super::types::{Kind, Leaf, trimmed};
use crate::model::{Attributes, TimeUnit};

/// Lists of names larger than this are not read.
const MOST_BYTES: u64 = 16 << 20;

/// A frame or series that was understood.
pub(super) struct Frame {
    /// The datasets (by number in the tree) that are its index, then its columns, each with its name.
    pub(super) index: usize,
    pub(super) columns: Vec<(usize, String)>,
}

/// Replaces the datasets of every frame by its columns.
pub(super) fn understand(tree: &mut Tree, file: &Id) -> Vec<Frame> {
    let kinds: Vec<(String, String, Attributes)> =
        tree.groups.iter().filter_map(|(path, a)| Some((path.clone(), text(a, "pandas_type")?.to_string(), a.clone()))).collect();
    let single = kinds.len() == 1;
    let mut frames = Vec::new();
    for (group, kind, attributes) in kinds {
        let inside = |name: &str| if group.is_empty() { name.to_string() } else { format!("{group}/{name}") };
        let made = {
            let get = |name: &str| tree.datasets.iter().find(|d| d.name == inside(name) && d.error.is_none());
            match kind.as_str() {
                "frame" => fixed_frame(&get, &attributes, file),
                "series" => get("index").zip(get("values")).and_then(|(index, values)| {
                    let name = text(&attributes, "name").filter(|n| plain(n)).unwrap_or("values").to_string();
                    let index_name = text(&index.attributes, "name").filter(|n| plain(n)).unwrap_or("index").to_string();
                    Some((column(index, 0, 1, index_name)?, vec![column(values, 0, 1, name)?]))
                }),
                "frame_table" | "series_table" => get("table").and_then(|t| table(t, &attributes)),
                _ => None,
            }
        };
        let Some((mut index, mut columns)) = made else { continue };
        let mut names = std::collections::HashSet::new();
        names.insert(index.name.clone());
        if !columns.iter().all(|c| names.insert(c.name.clone())) {
            continue; // names that clash: the file as it is
        }
        let prefix = format!("{group}/");
        let first = tree.datasets.iter().position(|d| d.name.starts_with(&prefix)).unwrap_or(0);
        let old = tree.datasets.len();
        tree.datasets.retain(|d| !d.name.starts_with(&prefix));
        let gone = old - tree.datasets.len();
        tree.groups.retain(|(path, _)| *path != group && !path.starts_with(&prefix));
        let headers: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
        if !single {
            for c in columns.iter_mut().chain([&mut index]) {
                c.name = inside(&c.name);
            }
        }
        let added = 1 + columns.len();
        // Frames understood before keep their numbers: those behind move.
        for frame in &mut frames {
            let frame: &mut Frame = frame;
            if frame.index >= first {
                let shift = |n: usize| n - gone + added;
                frame.index = shift(frame.index);
                frame.columns.iter_mut().for_each(|c| c.0 = shift(c.0));
            }
        }
        tree.datasets.splice(first..first, std::iter::once(index).chain(columns));
        frames.push(Frame { index: first, columns: headers.into_iter().enumerate().map(|(i, h)| (first + 1 + i, h)).collect() });
    }
    frames
}

fn text<'a>(attributes: &'a Attributes, name: &str) -> Option<&'a str> {
    attributes.get(name).and_then(Value::as_str)
}

/// A name, and not a pickle of one.
fn plain(name: &str) -> bool {
    !name.is_empty() && !name.ends_with('.') && !name.contains('\n')
}

/// The texts of a pickled list (protocol 0): `V` and `S` lines.
fn pickled_names(pickle: &str) -> Option<Vec<String>> {
    let body = pickle.strip_prefix("(lp0\n")?.strip_suffix('.')?;
    let mut names = Vec::new();
    for line in body.lines() {
        let line = line.strip_prefix('a').unwrap_or(line);
        match line.as_bytes().first() {
            None | Some(b'p') => {}
            Some(b'V') if !line.contains('\\') => names.push(line[1..].to_string()),
            Some(b'I') => names.push(line[1..].to_string()),
            _ => return None,
        }
    }
    Some(names)
}

/// The names in a small dataset of text or integers.
fn names(data: &Dataset, file: &Id) -> Option<Vec<String>> {
    let [leaf] = &data.leaves[..] else { return None };
    let [n] = data.dims[..] else { return None };
    let bytes = n.checked_mul(data.element_bytes as u64).filter(|&b| b <= MOST_BYTES)?;
    let mut raw = vec![0u8; bytes as usize];
    let _lock = c::lock();
    // SAFETY: an open file; the buffer has the size of the dataset in its own type; under the lock.
    unsafe {
        let open = Id::new(ffi::H5Dopen2(file.raw(), data.path.as_ptr(), 0), "cannot be opened").ok()?;
        let kind = Id::new(ffi::H5Dget_type(open.raw()), "its type is damaged").ok()?;
        if ffi::H5Tget_size(kind.raw()) != data.element_bytes || bytes > 0 && matches!(leaf.kind, Kind::Variable | Kind::Other { .. }) {
            return None;
        }
        if bytes > 0 && ffi::H5Dread(open.raw(), kind.raw(), 0, 0, 0, raw.as_mut_ptr().cast()) < 0 {
            return None;
        }
    }
    match &leaf.kind {
        Kind::Fixed { bytes, pad } => {
            raw.chunks_exact(*bytes).map(|t| std::str::from_utf8(trimmed(t, *pad)).ok().map(str::to_string)).collect()
        }
        kind @ Kind::Int { .. } => {
            let size = kind.model().0.item_bytes() as usize;
            let values = kind.convert(raw, 0).ok()?;
            Some(values.chunks_exact(size).map(|v| super::types::int_json(kind, v).to_string()).collect())
        }
        _ => None,
    }
}

/// Column `n` of `of` columns side by side, as a dataset of its own.
fn column(block: &Dataset, n: usize, of: usize, name: String) -> Option<Dataset> {
    let [leaf] = &block.leaves[..] else { return None };
    let wide = match (&block.dims[..], block.scalar) {
        ([_], false) if of == 1 => false,
        ([_, w], false) if *w == of as u64 => true,
        // An object column is one pickle, whatever the rows: it is refused by its own leaf.
        _ if leaf.error.is_some() => false,
        _ => return None,
    };
    let mut leaf = leaf.clone();
    let mut made = block.view(name);
    if wide {
        made.storage = match &block.storage {
            Storage::Chunked(c) if c.shape.get(1) == Some(&(of as u64)) && !c.by_library => {
                // The chunks hold whole rows, which are taken for elements.
                Storage::Chunked(c.clone())
            }
            Storage::Contiguous(at) => Storage::Contiguous(*at),
            _ => return None,
        };
        leaf.offset += n * block.element_bytes;
        made.element_bytes = block.element_bytes.checked_mul(of)?;
        made.dims = vec![block.dims[0]];
        made.fill = None;
    }
    mean(&mut leaf, text(&block.attributes, "value_type").or(text(&block.attributes, "kind")));
    made.leaves = vec![leaf];
    Some(made)
}

/// Times are integers with their type in an attribute; booleans are bit fields.
fn mean(leaf: &mut Leaf, told: Option<&str>) {
    if leaf.error.is_some() {
        leaf.error = Some("a pickled object of pandas is never loaded".into());
    }
    if leaf.bits && leaf.kind.bytes() == 1 {
        leaf.truth = true;
    }
    let Kind::Int { bytes: 8, big, .. } = leaf.kind else { return };
    let Some(told) = told else { return };
    let (delta, rest) = match (told.strip_prefix("datetime64"), told.strip_prefix("timedelta64")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ if told == "datetime" => (false, ""),
        _ if told == "timedelta" => (true, ""),
        _ => return,
    };
    let unit = rest.trim_start_matches('[').split([']', ',']).next().filter(|u| !u.is_empty()).unwrap_or("ns");
    if let Some(unit) = TimeUnit::parse(unit) {
        leaf.kind = Kind::Time { unit, delta, big };
    }
}

type Made = (Dataset, Vec<Dataset>);

fn fixed_frame<'a>(get: &impl Fn(&str) -> Option<&'a Dataset>, attributes: &Attributes, file: &Id) -> Option<Made> {
    let order = names(get("axis0")?, file)?;
    let index = get("axis1")?;
    let rows = *index.dims.first()?;
    let index_name = text(&index.attributes, "name").filter(|n| plain(n)).unwrap_or("index").to_string();
    let blocks = attributes.get("nblocks")?.as_u64().filter(|&n| n < 10_000)?;
    let mut columns = Vec::new();
    for b in 0..blocks {
        let items = names(get(&format!("block{b}_items"))?, file)?;
        let values = get(&format!("block{b}_values"))?;
        for (n, item) in items.iter().enumerate() {
            let column = column(values, n, items.len(), item.clone())?;
            if column.leaves[0].error.is_none() && column.dims[0] != rows {
                return None;
            }
            columns.push(column);
        }
    }
    if columns.len() != order.len() {
        return None;
    }
    columns.sort_by_key(|c| order.iter().position(|o| *o == c.name));
    Some((column(index, 0, 1, index_name)?, columns))
}

fn table(data: &Dataset, attributes: &Attributes) -> Option<Made> {
    let one = |leaf: &Leaf, name: String| {
        let mut made = data.view(name);
        made.storage = data.storage.clone();
        made.leaves = vec![leaf.clone()];
        made
    };
    let mut index = None;
    let mut columns = Vec::new();
    for leaf in &data.leaves {
        let [field] = &leaf.fields[..] else { return None };
        let mut leaf = leaf.clone();
        if field == "index" {
            mean(&mut leaf, text(&data.attributes, "index_kind"));
            // `Vindex_name`, a memo line, `V` and the name.
            let name = text(attributes, "info").and_then(|i| i.split_once("Vindex_name\n")?.1.split_once('\n')?.1.strip_prefix('V'));
            let name = name.and_then(|n| n.lines().next()).filter(|n| !n.is_empty() && !n.contains('\\')).unwrap_or("index");
            index = Some(one(&leaf, name.to_string()));
            continue;
        }
        mean(&mut leaf, text(&data.attributes, &format!("{field}_dtype")));
        if let Some(meta) = text(&data.attributes, &format!("{field}_meta"))
            && meta == "category"
        {
            return None; // codes whose categories lie in a group of their own: the file as it is
        }
        if !field.starts_with("values_block_") {
            columns.push(one(&leaf, field.clone()));
            continue;
        }
        let names = pickled_names(text(&data.attributes, &format!("{field}_kind"))?)?;
        let [(count, stride)] = leaf.dims[..] else { return None };
        if count != names.len() as u64 {
            return None;
        }
        leaf.dims.clear();
        for (n, name) in names.into_iter().enumerate() {
            let leaf = Leaf { offset: leaf.offset + n * stride, ..leaf.clone() };
            columns.push(one(&leaf, name));
        }
    }
    let axes = text(attributes, "non_index_axes").and_then(|a| a.split_once("(lp1\n"));
    if let Some((_, order)) = axes {
        let order: Vec<&str> = order.lines().filter_map(|l| l.strip_prefix("aV").or(l.strip_prefix('V'))).collect();
        columns.sort_by_key(|c| order.iter().position(|o| *o == c.name));
    }
    Some((index?, columns))
}

impl Dataset {
    /// The same values under another name, without attributes, storage or leaves.
    fn view(&self, name: String) -> Dataset {
        Dataset {
            name,
            path: self.path.clone(),
            error: None,
            alias_of: None,
            dims: self.dims.clone(),
            scalar: self.scalar,
            null: self.null,
            element_bytes: self.element_bytes,
            leaves: Vec::new(),
            storage: self.storage.clone(),
            fill: self.fill.clone(),
            attributes: Attributes::new(),
            stored_bytes: 0,
            named: true,
        }
    }
}
