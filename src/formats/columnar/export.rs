//! The Arrow schema of an output: recorded types where they still fit, usual ones otherwise.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use arrow_array::{ArrayRef, StructArray};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};

use crate::arrow_model::{
    self, Leaf, Level, decode_schema, leaf_type, leaves, usual_element, with_order,
};
use crate::error::{Context, Error, Result};
use crate::format::{Arrays, Block, Capabilities, Order, WriteOptions};
use crate::model::nested::{coded, dictionaries};
use crate::model::{ArrayMeta, Chunk, Dtype, Logical, Plan, Table};

/// What formats hold that write Arrow's types.
pub(super) const ARROW_TABLES: Capabilities = Capabilities {
    arrays: Arrays::Table,
    dtypes: Dtype::ARROW,
    logical: |l| !matches!(l, Logical::Packed { .. }),
    nulls: true,
    scalars: false,
    max_rank: 32,
    order: Order::RowBlocks,
    layout_flags: &["compression", "row-group-size", "metadata"],
    keeps_attributes: true,
    ..Capabilities::DEFAULT
};

/// A column of an output.
#[derive(Clone, Debug)]
pub enum OutColumn {
    /// One array.
    Leaf {
        /// Its index in the plan.
        array: usize,
        /// Its field.
        field: FieldRef,
    },
    /// Fields put together again.
    Struct {
        /// Its field.
        field: FieldRef,
        /// Its fields.
        children: Vec<OutColumn>,
    },
}

impl OutColumn {
    /// The field.
    pub fn field(&self) -> &FieldRef {
        match self {
            OutColumn::Leaf { field, .. } | OutColumn::Struct { field, .. } => field,
        }
    }
    fn with_codes(&self) -> OutColumn {
        match self {
            OutColumn::Leaf { array, field } => {
                let field = match field.data_type() {
                    DataType::Dictionary(keys, _) => Arc::new(Field::new(
                        field.name(),
                        keys.as_ref().clone(),
                        field.is_nullable(),
                    )),
                    t if dictionaries(t).is_empty() => field.clone(),
                    t => Arc::new(field.as_ref().clone().with_data_type(coded(t))),
                };
                OutColumn::Leaf { array: *array, field }
            }
            OutColumn::Struct { field, children } => {
                let children: Vec<OutColumn> = children.iter().map(OutColumn::with_codes).collect();
                let fields: Fields = children.iter().map(|c| c.field().clone()).collect();
                OutColumn::Struct {
                    field: Arc::new(
                        field.as_ref().clone().with_data_type(DataType::Struct(fields)),
                    ),
                    children,
                }
            }
        }
    }
    /// The Arrow array of this column from a block's chunks.
    ///
    /// # Errors
    /// Values that the type cannot hold.
    pub fn build(
        &self,
        metas: &[ArrayMeta],
        chunks: &HashMap<usize, &[Chunk]>,
        rows: usize,
    ) -> Result<ArrayRef> {
        match self {
            OutColumn::Leaf { array, field } => {
                let meta = &metas[*array];
                let chunks = chunks.get(array).copied().unwrap_or_default();
                let built =
                    arrow_model::array(meta, field.data_type(), chunks).at_array(&meta.name)?;
                if built.len() != rows {
                    return Err(Error::internal(format!(
                        "{} rows were delivered, {rows} were expected",
                        built.len()
                    ))
                    .array(&meta.name));
                }
                if !field.is_nullable() && built.null_count() > 0 {
                    return Err(Error::refused(
                        "a null appeared in a column declared without nulls",
                    )
                    .array(&meta.name));
                }
                Ok(built)
            }
            OutColumn::Struct { field, children } => {
                let DataType::Struct(fields) = field.data_type() else {
                    return Err(Error::internal("a struct type was expected"));
                };
                let arrays: Result<Vec<ArrayRef>> =
                    children.iter().map(|c| c.build(metas, chunks, rows)).collect();
                let built = StructArray::try_new_with_length(fields.clone(), arrays?, None, rows);
                Ok(Arc::new(built.map_err(|e| {
                    Error::internal(format!("a struct cannot be put together: {e}"))
                })?))
            }
        }
    }
}

/// What an output in an Arrow schema looks like.
#[derive(Clone, Debug)]
pub struct Export {
    /// The schema, with metadata.
    pub schema: SchemaRef,
    /// Its columns.
    pub columns: Vec<OutColumn>,
}

impl Export {
    /// Chooses types and order for the arrays of a plan.
    ///
    /// # Errors
    /// Refused: arrays that Arrow cannot hold, all of them named.
    pub fn new(plan: &Plan, options: &WriteOptions) -> Result<Export> {
        let table = match &plan.tables[..] {
            [table] => Some(table),
            _ => None,
        };
        let mut order = column_order(plan, table);
        let recorded = table
            .and_then(|t| t.metadata.get("ARROW:schema")?.as_str())
            .and_then(decode_schema)
            .map(|(schema, _)| schema);
        if recorded.is_none() {
            name_blanks(&mut order, plan);
        }
        let recorded_leaves =
            recorded.as_ref().map(|r| leaves(r, &HashSet::new())).unwrap_or_default();
        // The leaves of each name and of each root, in order.
        let (mut named, mut members) =
            (HashMap::<&str, VecDeque<usize>>::new(), HashMap::<usize, Vec<usize>>::new());
        for (l, leaf) in recorded_leaves.iter().enumerate() {
            named.entry(&leaf.name).or_default().push_back(l);
            members.entry(leaf.path[0]).or_default().push(l);
        }
        // For each column the recorded leaf of the same header.
        let matched: Vec<Option<usize>> = order
            .iter()
            .map(|(array, header)| {
                let found = named.get_mut(header.as_str())?.pop_front()?;
                fits(&plan.arrays[*array], &recorded_leaves[found]).then_some(found)
            })
            .collect();
        let by_leaf: HashMap<usize, usize> =
            matched.iter().enumerate().filter_map(|(c, l)| l.map(|l| (l, c))).collect();

        let mut columns = Vec::new();
        let mut done = HashSet::new();
        let mut errors = Vec::new();
        for (c, (array, header)) in order.iter().enumerate() {
            if done.contains(&c) {
                continue;
            }
            let meta = &plan.arrays[*array];
            if let (Some(leaf), Some(schema)) = (matched[c], &recorded) {
                let root = recorded_leaves[leaf].path[0];
                // Looked at once, by the first of them: a struct may have thousands of fields.
                let members = members.remove(&root).unwrap_or_default();
                if !members.is_empty() && members.iter().all(|l| by_leaf.contains_key(l)) {
                    let mut next = members.iter().map(|l| by_leaf[l]);
                    if let Some(column) = rebuild(&schema.fields()[root], &mut next, &order, plan) {
                        done.extend(members.iter().map(|l| by_leaf[l]));
                        columns.push(column);
                        continue;
                    }
                }
            }
            done.insert(c);
            let field = countable(meta).and_then(|()| match matched[c] {
                Some(leaf) => Ok(renamed(&recorded_leaves[leaf].field, header, meta)),
                None => usual_field(meta, header),
            });
            match field.at_array(&meta.name) {
                Ok(field) => {
                    columns.push(OutColumn::Leaf { array: *array, field: Arc::new(field) })
                }
                Err(e) => errors.push(e),
            }
        }
        Error::all(errors)?;

        let metadata = schema_metadata(plan, table, options, &columns);
        let fields: Fields = columns.iter().map(|c| c.field().clone()).collect();
        Ok(Export { schema: Arc::new(Schema::new_with_metadata(fields, metadata)), columns })
    }

    /// The same with the codes in place of the dictionaries: they have the same buffers.
    pub fn with_codes(&self) -> Export {
        let columns: Vec<OutColumn> = self.columns.iter().map(OutColumn::with_codes).collect();
        let fields: Fields = columns.iter().map(|c| c.field().clone()).collect();
        Export { schema: Arc::new(Schema::new(fields)), columns }
    }

    /// The columns of a block as Arrow arrays.
    ///
    /// # Errors
    /// Values that the types cannot hold.
    pub fn arrays(&self, metas: &[ArrayMeta], block: &Block) -> Result<Vec<ArrayRef>> {
        let chunks: HashMap<usize, &[Chunk]> =
            block.columns.iter().map(|(a, c)| (*a, c.as_slice())).collect();
        self.columns.iter().map(|c| c.build(metas, &chunks, block.rows as usize)).collect()
    }
}

/// The arrays in the order of the table's columns, then the others, each with its header.
fn column_order(plan: &Plan, table: Option<&Table>) -> Vec<(usize, String)> {
    let mut order: Vec<(usize, String)> = Vec::new();
    let mut placed = HashSet::new();
    let positions = plan.positions();
    for column in table.iter().flat_map(|t| &t.columns) {
        if let Some(&i) = positions.get(column.array.as_str())
            && placed.insert(i)
        {
            order.push((i, column.header.clone()));
        }
    }
    let others = (0..plan.arrays.len()).filter(|i| !placed.contains(i));
    order.extend(others.map(|i| (i, plan.arrays[i].name.clone())));
    order
}

/// The attributes as a schema's metadata, and what pandas keeps there of the columns that there
/// are.
fn schema_metadata(
    plan: &Plan,
    table: Option<&Table>,
    options: &WriteOptions,
    columns: &[OutColumn],
) -> HashMap<String, String> {
    let mut metadata = HashMap::new();
    for (key, value) in options.attributes(plan) {
        let text = match value {
            serde_json::Value::String(s) => s,
            other => other.to_string(),
        };
        metadata.insert(key, text);
    }
    metadata.remove("ARROW:schema");
    let pandas = table.and_then(|t| t.metadata.get("pandas")?.as_str());
    if let Some(pandas) = pandas.filter(|_| !options.no_metadata) {
        let headers: HashSet<&str> = columns.iter().map(|c| c.field().name().as_str()).collect();
        let pandas = table.and_then(|t| renamed_index(pandas, t)).unwrap_or(pandas.to_string());
        metadata.insert("pandas".into(), pandas_for(&pandas, &headers));
    }
    metadata
}

/// Columns of a text file without a header get their arrays' names: libraries refuse to read
/// several of one name. A lone blank among other names (an index, by pandas' custom) stays.
fn name_blanks(order: &mut [(usize, String)], plan: &Plan) {
    let blanks = order.iter().filter(|(_, header)| header.is_empty()).count();
    if blanks > 1 || blanks == order.len() {
        order
            .iter_mut()
            .filter(|(_, header)| header.is_empty())
            .for_each(|(array, header)| header.clone_from(&plan.arrays[*array].name));
    }
}

/// pandas' schema metadata with the names that the columns of its index have now, where some have
/// another one.
fn renamed_index(text: &str, table: &Table) -> Option<String> {
    let mut json: serde_json::Value = serde_json::from_str(text).ok()?;
    let header = |array: &String| {
        table.columns.iter().find(|c| c.array == *array).map(|c| c.header.as_str())
    };
    let now: Vec<&str> = table.index.iter().filter_map(header).collect();
    let named = json.get("index_columns")?.as_array()?.iter();
    let old: Vec<String> = named.filter_map(|v| v.as_str().map(str::to_string)).collect();
    if old.len() != now.len() || old == now {
        return None;
    }
    let names: HashMap<&str, &str> = old.iter().map(String::as_str).zip(now).collect();
    let rename = |name: &mut serde_json::Value| {
        if let Some(new) = name.as_str().and_then(|old| names.get(old)) {
            *name = (*new).into();
        }
    };
    json.get_mut("index_columns")?.as_array_mut()?.iter_mut().for_each(rename);
    for column in json.get_mut("columns")?.as_array_mut()? {
        let is_index = column
            .get("field_name")
            .and_then(|n| n.as_str())
            .is_some_and(|n| names.contains_key(n));
        for key in ["name", "field_name"] {
            column.get_mut(key).filter(|_| is_index).into_iter().for_each(rename);
        }
    }
    Some(json.to_string())
}

/// pandas' schema metadata without the columns that are gone.
fn pandas_for(text: &str, headers: &HashSet<&str>) -> String {
    let Ok(mut json) = serde_json::from_str::<serde_json::Value>(text) else {
        return text.to_string();
    };
    let here = |v: &serde_json::Value| {
        // A range index has no column.
        if v.get("kind").is_some() {
            return true;
        }
        let name = v.get("field_name").or_else(|| v.get("name")).unwrap_or(v);
        name.as_str().is_none_or(|n| headers.contains(n))
    };
    let mut gone = false;
    for key in ["index_columns", "columns"] {
        if let Some(list) = json.get_mut(key).and_then(|l| l.as_array_mut()) {
            let before = list.len();
            list.retain(|v| here(v));
            gone |= list.len() != before;
        }
    }
    if gone { json.to_string() } else { text.to_string() }
}

/// A recorded column with all its leaves at hand.
fn rebuild(
    field: &FieldRef,
    next: &mut dyn Iterator<Item = usize>,
    order: &[(usize, String)],
    plan: &Plan,
) -> Option<OutColumn> {
    if let DataType::Struct(fields) = field.data_type()
        && !fields.is_empty()
    {
        let children: Option<Vec<OutColumn>> =
            fields.iter().map(|f| rebuild(f, next, order, plan)).collect();
        let children = children?;
        let fields: Fields = children.iter().map(|c| c.field().clone()).collect();
        let whole = field.as_ref().clone().with_data_type(DataType::Struct(fields));
        return Some(OutColumn::Struct { field: Arc::new(whole), children });
    }
    let array = order[next.next()?].0;
    let meta = &plan.arrays[array];
    Some(OutColumn::Leaf { array, field: Arc::new(renamed(field, field.name(), meta)) })
}

/// The recorded field, under this name, nullable where nulls came.
fn renamed(field: &Field, name: &str, meta: &ArrayMeta) -> Field {
    let nullable = field.is_nullable() || meta.nulls || meta.rows.is_none();
    field.clone().with_name(name).with_nullable(nullable)
}

/// Does the recorded type still fit the array?
fn fits(meta: &ArrayMeta, leaf: &Leaf) -> bool {
    if let Logical::Nested(nested) = &meta.logical {
        return nested.field.data_type() == leaf.field.data_type();
    }
    let Ok(holds) = leaf_type(&leaf.field) else { return false };
    if holds.dtype != meta.dtype {
        return false;
    }
    if matches!(meta.logical, Logical::List) {
        return holds.levels == [Level::Any] && holds.logical.is_plain();
    }
    let logical = with_order(holds.logical, &leaf.field);
    if logical != meta.logical && !(logical.is_plain() && meta.logical.is_plain()) {
        return false;
    }
    let mut dims = meta.element_dims();
    for level in &holds.levels {
        match level {
            Level::Any => match dims.split_first() {
                Some((_, rest)) => dims = rest,
                None => return false,
            },
            Level::Fixed(shape) => match dims.strip_prefix(&shape[..]) {
                Some(rest) => dims = rest,
                None => return false,
            },
        }
    }
    dims.is_empty()
}

/// Rows without elements are empty lists here, each of which is written, and a header of a hundred
/// bytes may claim any number of them.
///
/// # Errors
/// Refused: too many.
fn countable(meta: &ArrayMeta) -> Result<()> {
    const MAX_ROWS: u64 = 1 << 22;
    let rows = meta.rows.unwrap_or(0);
    if rows <= MAX_ROWS || !meta.element_dims().contains(&0) {
        return Ok(());
    }
    Err(Error::refused(format!("its {rows} rows without elements would be as many empty lists"))
        .hint("-x leaves it out; stores, HDF5 and Zarr hold it"))
}

/// The usual field of an array.
fn usual_field(meta: &ArrayMeta, name: &str) -> Result<Field> {
    if let Logical::Nested(nested) = &meta.logical {
        return Ok(nested.field.as_ref().clone().with_name(name));
    }
    let element = usual_element(meta)?;
    if matches!(meta.logical, Logical::List) {
        return Ok(Field::new(
            name,
            DataType::List(Arc::new(Field::new_list_field(element, true))),
            true,
        ));
    }
    let dims = meta.element_dims();
    let Some(n) = (!dims.is_empty()).then(|| crate::model::checked_product(dims)) else {
        let mut field = Field::new(name, element, true);
        if let Logical::Dictionary { ordered: true, .. } = &meta.logical {
            field = field.with_dict_is_ordered(true);
        }
        return Ok(field);
    };
    let item = Arc::new(Field::new_list_field(element, true));
    let n = n
        .and_then(|n| i32::try_from(n).ok())
        .ok_or_else(|| Error::refused(format!("rows of shape {dims:?} are too large")))?;
    if dims.len() == 1 {
        let list = if n == 0 { DataType::List(item) } else { DataType::FixedSizeList(item, n) };
        return Ok(Field::new(name, list, true));
    }
    let shape = serde_json::json!({ "shape": dims }).to_string();
    let metadata = HashMap::from([
        ("ARROW:extension:name".to_string(), "arrow.fixed_shape_tensor".to_string()),
        ("ARROW:extension:metadata".to_string(), shape),
    ]);
    Ok(Field::new(name, DataType::FixedSizeList(item, n), true).with_metadata(metadata))
}
