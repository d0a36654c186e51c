//! What pandas' `to_hdf` writes (frames and series, in the fixed and the table layout of PyTables),
//! as columns by name.
//!
//! | layout | group attribute `pandas_type` | datasets |
//! |---|---|---|
//! | fixed frame | `frame` | `axis0` the column names, `axis1` the index, per dtype `blockN_items` names and `blockN_values` `[rows, names]` |
//! | fixed series | `series` | `index`, `values` |
//! | table | `frame_table`, `series_table` | `table`, a compound: `index`, columns, or `values_block_N` of several columns named by `values_block_N_kind` |
//! | categories of a table | as above | a series in `meta/FIELD/meta` |
//!
//! Names, zones and what else is no number are pickles, read as data and never run. Text of the
//! fixed layout is a pickled object and stays refused. Missing texts of tables and of an index are
//! stored as a text that stands for them: see [`NullTexts`]. A frame that is not detected comes as
//! the datasets of the file, with a note.

use serde_json::Value;

use super::dataset::{Dataset, Storage};
use super::element_type::{Codes, ElementType, TypeLeaf};
use super::ffi;
use super::library::{self, Id};
use super::tree::Tree;
use crate::codec::pickle::{self, Node, Pickle};
use crate::model::{ArrayMeta, Attributes, Categories, CategoryKind, Dtype, Logical, TimeUnit};

/// Lists of names larger than this are not read.
const MAX_BYTES: u64 = 16 << 20;

/// A frame or series that was detected.
pub(super) struct Frame {
    /// The datasets (by number in the tree) that are its index, then its columns, each with its
    /// name.
    pub(super) index: usize,
    pub(super) columns: Vec<(usize, String)>,
}

/// Replaces the datasets of every frame by its columns.
pub(super) fn detect_frames(tree: &mut Tree, file: &Id) -> Vec<Frame> {
    let kinds: Vec<(String, String, Attributes)> = tree
        .groups
        .iter()
        .filter_map(|(path, a)| {
            Some((path.clone(), text(a, "pandas_type")?.to_string(), a.clone()))
        })
        .collect();
    // The categories of a frame are series below it.
    let below = |inner: &str, outer: &str| {
        inner != outer && (outer.is_empty() || inner.starts_with(&format!("{outer}/")))
    };
    let kinds: Vec<_> =
        kinds.iter().filter(|k| !kinds.iter().any(|other| below(&k.0, &other.0))).collect();
    let single = kinds.len() == 1;
    let mut frames: Vec<Frame> = Vec::new();
    for (group, kind, attributes) in kinds {
        let inside = |name: &str| {
            if group.is_empty() { name.to_string() } else { format!("{group}/{name}") }
        };
        let mut notes = Vec::new();
        let made = {
            let get = |name: &str| {
                tree.datasets.iter().find(|d| d.name == inside(name) && d.error.is_none())
            };
            let mut reader = Reader { get: &get, attributes, file, notes: &mut notes };
            match kind.as_str() {
                "frame" => reader.fixed_frame(),
                "series" => reader.fixed_series(),
                "frame_table" | "series_table" => reader.table(),
                _ => continue,
            }
        };
        let shown = if group.is_empty() { "the root group" } else { group };
        let Some((mut index, mut columns)) = made else {
            tree.left.notes.push(format!(
                "the frame of pandas in {shown} is not understood: its datasets come as they are"
            ));
            continue;
        };
        let mut names = std::collections::HashSet::new();
        names.insert(index.name.clone());
        if let Some(twice) = columns.iter().find(|c| !names.insert(c.name.clone())) {
            let name = &twice.name;
            tree.left.notes.push(format!(
                "the frame of pandas in {shown} has {name:?} twice: its datasets come as they are"
            ));
            continue;
        }
        tree.left.notes.extend(notes.into_iter().map(|note| format!("{shown}: {note}")));
        let prefix = if group.is_empty() { String::new() } else { format!("{group}/") };
        let first = tree.datasets.iter().position(|d| d.name.starts_with(&prefix)).unwrap_or(0);
        let old = tree.datasets.len();
        tree.datasets.retain(|d| !d.name.starts_with(&prefix));
        let gone = old - tree.datasets.len();
        tree.groups.retain(|(path, _)| path != group && !path.starts_with(&prefix));
        let headers: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
        if !single {
            for c in columns.iter_mut().chain([&mut index]) {
                c.name = inside(&c.name);
            }
        }
        let added = 1 + columns.len();
        // Frames detected before keep their numbers: those behind move.
        for frame in &mut frames {
            if frame.index >= first {
                let shift = |n: usize| n - gone + added;
                frame.index = shift(frame.index);
                frame.columns.iter_mut().for_each(|c| c.0 = shift(c.0));
            }
        }
        tree.datasets.splice(first..first, std::iter::once(index).chain(columns));
        frames.push(Frame {
            index: first,
            columns: headers.into_iter().enumerate().map(|(i, h)| (first + 1 + i, h)).collect(),
        });
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

/// A pickle in an attribute.
fn unpickled(text: &str) -> Option<Pickle> {
    pickle::read(text.as_bytes().to_vec(), MAX_BYTES).ok()
}

/// A list of names.
fn names_of(pickle: &Pickle, list: pickle::Id) -> Option<Vec<String>> {
    let name = |&id: &pickle::Id| {
        pickle.text(id).map(str::to_string).or_else(|| Some(pickle.int(id)?.to_string()))
    };
    pickle.tuple(list)?.iter().map(name).collect()
}

fn pickled_names(text: &str) -> Option<Vec<String>> {
    let pickle = unpickled(text)?;
    names_of(&pickle, pickle.root())
}

/// A time zone: its name, or the object of one of the usual libraries. `None` where it is another.
fn zone(pickle: &Pickle, id: pickle::Id) -> Option<String> {
    if let Some(name) = pickle.text(id) {
        return Some(name.to_string());
    }
    let object = pickle.object(id)?;
    let args = pickle.tuple(object.args)?;
    let callable = match pickle.object(object.callable) {
        // getattr(ZoneInfo, '_unpickle')(name, from_cache)
        Some(getattr) => pickle.global(*pickle.tuple(getattr.args)?.first()?)?,
        None => pickle.global(object.callable)?,
    };
    match (callable, args) {
        ("datetime.timezone", [delta, ..]) => {
            let delta = pickle.object(*delta)?;
            let parts: Vec<i64> =
                pickle.tuple(delta.args)?.iter().map(|&n| pickle.int(n)).collect::<Option<_>>()?;
            let [days, seconds, 0] = parts[..] else { return None };
            offset(days.checked_mul(86400)?.checked_add(seconds)?)
        }
        ("pytz._FixedOffset", [minutes, ..]) => offset(pickle.int(*minutes)?.checked_mul(60)?),
        ("pytz._UTC", []) => Some("UTC".into()),
        ("pytz._p" | "zoneinfo.ZoneInfo", [name, ..]) => pickle.text(*name).map(str::to_string),
        _ => None,
    }
}

/// `+01:00` for an offset of so many seconds.
fn offset(seconds: i64) -> Option<String> {
    if seconds == 0 {
        return Some("UTC".into());
    }
    let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs() / 60);
    (seconds % 60 == 0 && minutes < 24 * 60)
        .then(|| format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60))
}

/// What the attribute `info` tells of the fields of a table.
#[derive(Default)]
struct Info(Option<Pickle>);

impl Info {
    fn of(attributes: &Attributes) -> Info {
        Info(text(attributes, "info").and_then(unpickled))
    }
    fn get(&self, field: &str, key: &str) -> Option<(&Pickle, pickle::Id)> {
        let pickle = self.0.as_ref()?;
        let Node::Dict(all) = pickle.node(pickle.root()) else { return None };
        let Node::Dict(of_field) = pickle.node(pickle.get(all, field)?) else { return None };
        Some((pickle, pickle.get(of_field, key)?))
            .filter(|(p, id)| !matches!(p.node(*id), Node::None))
    }
}

/// The text that stands for a missing one. pandas 3.1 and later have one a column, which no other
/// text of it is; earlier ones one a table, `nan` where the caller named no other.
struct NullTexts<'a> {
    /// Attributes of the dataset, which has one a column.
    data: &'a Attributes,
    /// That of the table; `None` where each column has its own.
    of_table: Option<&'a str>,
    /// Columns that were levels of the index, and have their own in any case.
    levels: Vec<String>,
}

impl<'a> NullTexts<'a> {
    const DEFAULT: &'static str = "nan";

    fn of(group: &'a Attributes, data: &'a Attributes) -> NullTexts<'a> {
        let is_set = |name: &str| {
            group.get(name).is_some_and(|v| v.as_bool() == Some(true) || v.as_u64() == Some(1))
        };
        // A pickled `None` says that the caller named none; no text is without a dataspace.
        let named = match group.get("nan_rep") {
            Some(Value::Null) => "",
            told => told.and_then(Value::as_str).filter(|&t| t != "N.").unwrap_or(Self::DEFAULT),
        };
        let levels = match is_set("mi_level_nan_rep") {
            true => text(group, "levels").and_then(pickled_names).unwrap_or_default(),
            false => Vec::new(),
        };
        NullTexts { data, of_table: (!is_set("data_col_nan_rep")).then_some(named), levels }
    }

    /// Of a field of a table.
    fn field(&self, field: &str) -> Option<&'a str> {
        match self.of_table {
            Some(text) if !self.levels.iter().any(|level| level == field) => Some(text),
            _ => text(self.data, &format!("{field}_nan_rep")),
        }
    }

    /// Of an index, in the attribute `name`: an empty one where nothing is missing.
    fn index(attributes: &'a Attributes, name: &str) -> Option<&'a str> {
        match attributes.get(name) {
            None => Some(Self::DEFAULT),
            Some(told) => told.as_str().filter(|t| !t.is_empty()),
        }
    }
}

/// Text that is `null` stands for a null.
fn set_null_text(leaf: &mut TypeLeaf, null: Option<&str>) {
    leaf.null_text = null.filter(|_| leaf.kind.is_text()).map(|text| text.as_bytes().to_vec());
}

/// The names in a small dataset of text or integers.
fn names(data: &Dataset, file: &Id) -> Option<Vec<String>> {
    let [leaf] = &data.leaves[..] else { return None };
    let [n] = data.dims[..] else { return None };
    let bytes = n.checked_mul(data.element_bytes as u64).filter(|&b| b <= MAX_BYTES)?;
    let is_plain = !leaf.kind.is_variable() && !matches!(leaf.kind, ElementType::Other { .. });
    if !is_plain && bytes > 0 {
        return None;
    }
    let raw = read_whole(data, file, bytes as usize)?;
    match &leaf.kind {
        ElementType::Fixed { bytes, fill } => raw
            .chunks_exact(*bytes)
            .map(|t| std::str::from_utf8(fill.trim(t)).ok().map(str::to_string))
            .collect(),
        kind @ ElementType::Int { .. } => {
            let size = kind.model().0.item_bytes() as usize;
            let values = kind.convert(raw, 0).ok()?;
            Some(
                values
                    .chunks_exact(size)
                    .map(|v| super::types::int_json(kind, v).to_string())
                    .collect(),
            )
        }
        _ => None,
    }
}

/// The elements of a small dataset without text of any length, as the file has them.
fn read_whole(data: &Dataset, file: &Id, bytes: usize) -> Option<Vec<u8>> {
    let mut raw = vec![0u8; bytes];
    let lib = &library::lock();
    let open = lib.open(file, &data.path).ok()?;
    let kind = lib.kind(&open).ok()?;
    if lib.H5Tget_size(kind.raw()) != data.element_bytes {
        return None;
    }
    data.check_chunks(lib, &open, bytes as u64).ok()?;
    if bytes > 0 {
        let (all, to) = (ffi::DEFAULT, raw.as_mut_ptr().cast());
        // SAFETY: the buffer has the size of the dataset in its own type.
        let code = unsafe { lib.H5Dread(open.raw(), kind.raw(), all, all, all, to) };
        library::check(code, "cannot be read").ok()?;
    }
    Some(raw)
}

/// Column `n` of `of` columns side by side, as a dataset of its own.
fn column(block: &Dataset, n: usize, of: usize, name: String) -> Option<Dataset> {
    let [leaf] = &block.leaves[..] else { return None };
    // An object column is one pickle, whatever the rows: it is refused by its own leaf.
    let is_pickle = leaf.error.is_some() || matches!(leaf.kind, ElementType::Sequence { .. });
    let wide = match (&block.dims[..], block.scalar) {
        ([_], false) if of == 1 => false,
        ([_, w], false) if *w == of as u64 => true,
        _ if is_pickle => false,
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
    apply_value_type(
        &mut leaf,
        text(&block.attributes, "value_type").or(text(&block.attributes, "kind")),
    );
    made.leaves = vec![leaf];
    Some(made)
}

/// A column that cannot be read has the rows of its frame all the same.
fn refused_rows(column: &mut Dataset, rows: &[u64]) {
    if column.leaves[0].error.is_some() {
        column.dims = rows.to_vec();
    }
}

/// Times are integers with their type in an attribute; booleans are bit fields.
fn apply_value_type(leaf: &mut TypeLeaf, told: Option<&str>) {
    if leaf.error.is_some() || matches!(leaf.kind, ElementType::Sequence { .. }) {
        leaf.error = Some("a pickled object of pandas is never loaded".into());
    }
    if leaf.bits && leaf.kind.bytes() == 1 {
        leaf.truth = true;
    }
    let ElementType::Int { bytes: 8, big, .. } = leaf.kind else { return };
    let Some(told) = told else { return };
    let (delta, rest) = match (told.strip_prefix("datetime64"), told.strip_prefix("timedelta64")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ if told == "datetime" => (false, ""),
        _ if told == "timedelta" => (true, ""),
        _ => return,
    };
    let unit = rest
        .trim_start_matches('[')
        .split([']', ','])
        .next()
        .filter(|u| !u.is_empty())
        .unwrap_or("ns");
    if let Some(unit) = TimeUnit::parse(unit) {
        leaf.kind = ElementType::Time { unit, delta, big };
    }
}

/// The index, and the columns.
type FrameParts = (Dataset, Vec<Dataset>);

/// Reads one frame.
struct Reader<'a, 'd, F: Fn(&str) -> Option<&'d Dataset>> {
    /// A dataset of the group.
    get: &'a F,
    attributes: &'a Attributes,
    file: &'a Id,
    notes: &'a mut Vec<String>,
}

impl<'d, F: Fn(&str) -> Option<&'d Dataset>> Reader<'_, 'd, F> {
    fn get(&self, name: &str) -> Option<&'d Dataset> {
        (self.get)(name)
    }

    /// Gives a column of times its zone.
    fn set_zone(&mut self, leaf: &mut TypeLeaf, column: &str, zone: Option<Option<String>>) {
        let Some(told) = zone else { return };
        match told {
            Some(name) if matches!(leaf.kind, ElementType::Time { delta: false, .. }) => {
                leaf.zone = Some(name)
            }
            _ => self.notes.push(format!(
                "the time zone of {column} is not kept: its times are those of UTC, without a zone"
            )),
        }
    }

    /// The zone in the attribute `tz` of a dataset: a name, or a pickle.
    fn zone_of(data: &Dataset) -> Option<Option<String>> {
        let told = text(&data.attributes, "tz").filter(|t| !t.is_empty() && *t != "N.")?;
        if plain(told) {
            return Some(Some(told.to_string()));
        }
        Some(unpickled(told).and_then(|p| zone(&p, p.root())))
    }

    /// The index of a fixed layout.
    fn index(&mut self, data: &Dataset) -> Option<Dataset> {
        let name =
            text(&data.attributes, "name").filter(|n| plain(n)).unwrap_or("index").to_string();
        let mut made = self.column(data, 0, 1, name)?;
        if text(&data.attributes, "kind") == Some("string") {
            set_null_text(&mut made.leaves[0], NullTexts::index(&data.attributes, "nan_rep"));
        }
        Some(made)
    }

    /// A whole dataset, or column `n` of `of`, with what its attributes tell.
    fn column(&mut self, data: &Dataset, n: usize, of: usize, name: String) -> Option<Dataset> {
        let mut made = column(data, n, of, name)?;
        let name = made.name.clone();
        self.set_zone(&mut made.leaves[0], &name, Self::zone_of(data));
        Some(made)
    }

    fn fixed_series(&mut self) -> Option<FrameParts> {
        let (index, values) = (self.get("index")?, self.get("values")?);
        let name =
            text(self.attributes, "name").filter(|n| plain(n)).unwrap_or("values").to_string();
        let mut column = self.column(values, 0, 1, name)?;
        refused_rows(&mut column, &index.dims);
        Some((self.index(index)?, vec![column]))
    }

    fn fixed_frame(&mut self) -> Option<FrameParts> {
        let order = names(self.get("axis0")?, self.file)?;
        let index = self.get("axis1")?;
        let rows = *index.dims.first()?;
        let blocks = self.attributes.get("nblocks")?.as_u64().filter(|&n| n < 10_000)?;
        let mut columns = Vec::new();
        for b in 0..blocks {
            let items = names(self.get(&format!("block{b}_items"))?, self.file)?;
            let values = self.get(&format!("block{b}_values"))?;
            for (n, item) in items.iter().enumerate() {
                let mut column = self.column(values, n, items.len(), item.clone())?;
                refused_rows(&mut column, &index.dims);
                if column.dims[0] != rows {
                    return None;
                }
                columns.push(column);
            }
        }
        if columns.len() != order.len() {
            return None;
        }
        columns.sort_by_key(|c| order.iter().position(|o| *o == c.name));
        Some((self.index(index)?, columns))
    }

    fn table(&mut self) -> Option<FrameParts> {
        let data = self.get("table")?;
        let info = Info::of(self.attributes);
        let null_texts = NullTexts::of(self.attributes, &data.attributes);
        let one = |leaf: &TypeLeaf, name: String| {
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
            let told =
                if field == "index" { "index_kind".to_string() } else { format!("{field}_dtype") };
            apply_value_type(&mut leaf, text(&data.attributes, &told));
            let tz = info.get(field, "tz").map(|(pickle, id)| zone(pickle, id));
            if field == "index" {
                if text(&data.attributes, &told) == Some("string") {
                    set_null_text(&mut leaf, NullTexts::index(&data.attributes, "index_nan_rep"));
                }
                let name = info
                    .get(field, "index_name")
                    .and_then(|(p, id)| p.text(id))
                    .filter(|n| !n.is_empty())
                    .unwrap_or("index");
                self.set_zone(&mut leaf, name, tz);
                index = Some(one(&leaf, name.to_string()));
                continue;
            }
            let names = match field.starts_with("values_block_") {
                true => pickled_names(text(&data.attributes, &format!("{field}_kind"))?)?,
                false => vec![field.clone()],
            };
            set_null_text(&mut leaf, null_texts.field(field));
            self.set_zone(&mut leaf, &names.join(", "), tz);
            if text(&data.attributes, &format!("{field}_meta")) == Some("category") {
                let ordered = info.get(field, "ordered").and_then(|(p, id)| p.int(id)) == Some(1);
                leaf.codes = Some(self.categories(field, ordered)?);
            }
            if !field.starts_with("values_block_") {
                columns.push(one(&leaf, field.clone()));
                continue;
            }
            let [(count, stride)] = leaf.dims[..] else { return None };
            if count != names.len() as u64 {
                return None;
            }
            leaf.dims.clear();
            for (n, name) in names.into_iter().enumerate() {
                let leaf = TypeLeaf { offset: leaf.offset + n * stride, ..leaf.clone() };
                columns.push(one(&leaf, name));
            }
        }
        if let Some(order) = self.column_order() {
            columns.sort_by_key(|c| order.iter().position(|o| *o == c.name));
        }
        Some((index?, columns))
    }

    /// The names of the columns in their order: `[(1, names)]`.
    fn column_order(&self) -> Option<Vec<String>> {
        let pickle = unpickled(text(self.attributes, "non_index_axes")?)?;
        let axis = pickle.tuple(*pickle.tuple(pickle.root())?.first()?)?;
        names_of(&pickle, *axis.get(1)?)
    }

    /// The categories of a field: the column `values` of a table of their own.
    fn categories(&mut self, field: &str, ordered: bool) -> Option<Codes> {
        let data = self.get(&format!("meta/{field}/meta/table"))?;
        let leaf = data.leaves.iter().find(|l| l.fields == ["values"])?;
        let mut leaf = leaf.clone();
        apply_value_type(&mut leaf, text(&data.attributes, "values_dtype"));
        let rows = *data.dims.first()?;
        let bytes = rows.checked_mul(data.element_bytes as u64).filter(|&b| b <= MAX_BYTES)?;
        let raw = read_whole(data, self.file, bytes as usize)?;
        let packed = leaf.element(data.element_bytes, false, false).pack(raw);
        let (kind, items) = match &leaf.kind {
            ElementType::Fixed { bytes, fill } => {
                let items: Vec<Vec<u8>> =
                    packed.chunks_exact(*bytes).map(|t| fill.trim(t).to_vec()).collect();
                let text = items.iter().all(|t| std::str::from_utf8(t).is_ok());
                (if text { CategoryKind::Text } else { CategoryKind::Binary }, items)
            }
            ElementType::Variable { .. }
            | ElementType::Sequence { .. }
            | ElementType::Other { .. } => return None,
            kind => {
                let (dtype, logical) = kind.model();
                let values = kind.convert(packed, 0).ok()?;
                let items =
                    values.chunks_exact(dtype.item_bytes() as usize).map(<[u8]>::to_vec).collect();
                // A category keeps the name of its type where it is not that of plain numbers.
                let name = match &logical {
                    Logical::Plain => None,
                    other => {
                        Some(ArrayMeta::column("", Dtype::I64, other.clone(), None).type_name())
                    }
                };
                (CategoryKind::Fixed(dtype, name), items)
            }
        };
        Some(Codes { categories: Categories::new(kind, items), ordered })
    }
}
