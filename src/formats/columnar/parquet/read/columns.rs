//! The columns of a Parquet file: their types, and what the footer tells of them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_schema::DataType;
use parquet::basic::{Compression, ConvertedType, Type as Physical};
use parquet::schema::types::ColumnDescPtr;

use super::measure::{ROW_BYTES, Rows};
use super::roots::Root;
use super::shared::{Column, Levels, NestedColumn, STEP_BYTES, Shared};
use super::{crate_error, look, nested, schema};
use crate::arrow_model::{self, Dictionaries, Leaf, LeafType};
use crate::error::{Error, ErrorKind, Result, foreign};
use crate::format::{Choice, ReadOptions};
use crate::model::nested::{children, walk};
use crate::model::{ArrayMeta, Categories, Logical};

/// Rows of one leaf among many are measured in parts of this many bytes at least.
const LEAST_STEP_BYTES: u64 = 16 << 10;

/// What is asked of the columns.
pub(super) struct ColumnRequest<'a> {
    pub(super) roots: &'a [Root],
    /// Why INT96 columns (their numbers) cannot be read.
    pub(super) int96_errors: HashMap<usize, Error>,
    pub(super) options: &'a ReadOptions,
}

/// What is wanted of a nested column.
#[derive(Clone, Copy)]
struct NestedWish<'a> {
    /// Whether its pages may be looked at.
    look: bool,
    /// The arrays and parts of arrays that will be read, where that is known.
    choice: Option<&'a Choice>,
}

impl Shared {
    /// Adds a column and its array, which has an error where it cannot be read. `columns`: its
    /// Parquet columns; `is_wanted`: whether it will be read.
    ///
    /// # Errors
    /// What is no fault of the data.
    pub(super) fn add_column(
        &mut self,
        leaf: &Leaf,
        columns: Range<usize>,
        is_wanted: bool,
        request: &ColumnRequest<'_>,
        meta: ArrayMeta,
    ) -> Result<()> {
        let root = &request.roots[leaf.path[0]];
        let (mut flat, index) = (meta.clone(), self.columns.len());
        let values = !request.options.types_only;
        let column = match columns.clone().find_map(|c| request.int96_errors.get(&c)) {
            Some(e) => Err(Error::clone(e)),
            None => self.flat_column(leaf, root, columns.start, &mut flat),
        };
        let looked = column.and_then(|column| {
            self.columns.push(column);
            let wish = look::Wish { wanted: is_wanted, values };
            foreign("parquet", || self.look(index, &mut flat, wish))
        });
        let meta = match looked {
            Ok(lists) => {
                self.columns[index].lists = lists.map(Box::new);
                flat
            }
            Err(e) => {
                self.columns.truncate(index);
                let wish = NestedWish {
                    look: is_wanted && values,
                    choice: request.options.choice.as_ref(),
                };
                let (column, meta) =
                    self.nested_or(e, leaf, root, (columns, wish), (meta, flat))?;
                self.columns.push(column);
                meta
            }
        };
        self.metas.push(meta);
        Ok(())
    }

    /// The column of a leaf, with its types as the schema has them.
    fn flat_column(
        &self,
        leaf: &Leaf,
        root: &Root,
        parquet: usize,
        meta: &mut ArrayMeta,
    ) -> Result<Column> {
        let descr = self.metadata.file_metadata().schema_descr();
        let unpacked = self.footer_facts(parquet, meta)?;
        meta.details.stored_dtype =
            Some(descr.column(parquet).physical_type().to_string().to_lowercase());
        if let Some(e) = &root.error {
            return Err(Error::refused(format!("its type is not supported ({e})")));
        }
        let holds = match &leaf.holds {
            Ok(holds) => holds.clone(),
            Err(e) => return Err(Error::clone(e)),
        };
        self.check_chunks(parquet)?;
        meta.dtype = holds.dtype;
        if holds.levels.is_empty() {
            meta.inner = arrow_model::inner_dims(&holds, &[]);
        }
        meta.logical = arrow_model::with_order(holds.logical.clone(), &leaf.field);
        if holds.levels.is_empty() && holds.element == DataType::Null {
            meta.details.untyped = true;
        }
        let path = &leaf.path[1..];
        schema::levels(&root.parquet, &root.reading, path).map_err(crate_error)?;
        let (column, reading) = (root.parquet.clone(), root.reading.clone());
        let levels = Levels::Of { column, reading, path: path.into() };
        let dictionary = match &meta.logical {
            Logical::Dictionary { categories, .. } => {
                Some(Box::new(Dictionaries::new(categories.clone(), self.held.clone())))
            }
            _ => None,
        };
        let text = match &holds.element {
            DataType::Dictionary(_, values) => values.as_ref(),
            element => element,
        };
        Ok(Column {
            levels: Some(levels),
            structs: leaf.path.len() - 1,
            merges: leaf.path.len() > 1,
            dictionary,
            unchecked: is_unchecked(text, &descr.column(parquet)),
            unpacked,
            rows: rows_of(&holds, descr.column(parquet).physical_type()),
            step: self.share.min(STEP_BYTES),
            leaf: holds,
            ..Column::none(parquet)
        })
    }

    /// What the footer tells of a column, added to what `meta` has; its bytes unpacked.
    fn footer_facts(&self, parquet: usize, meta: &mut ArrayMeta) -> Result<u64> {
        let (mut stored, mut unpacked) = (0u64, 0u64);
        for group in self.metadata.row_groups() {
            let chunk = group
                .columns()
                .get(parquet)
                .ok_or_else(|| Error::corrupt("a row group lacks this column"))?;
            stored = stored.saturating_add(u64::try_from(chunk.compressed_size()).unwrap_or(0));
            unpacked =
                unpacked.saturating_add(u64::try_from(chunk.uncompressed_size()).unwrap_or(0));
        }
        let before = meta.details.stored_bytes.unwrap_or(0);
        meta.details.stored_bytes = Some(before.saturating_add(stored));
        meta.details.compression = self
            .metadata
            .row_groups()
            .last()
            .map(|group| codec_name(group.column(parquet).compression()));
        Ok(unpacked)
    }

    /// Checks that the chunks of a column can be read and have its rows.
    fn check_chunks(&self, parquet: usize) -> Result<()> {
        for (g, group) in self.metadata.row_groups().iter().enumerate() {
            let chunk = group.column(parquet);
            if self.encrypted.contains(&(g, parquet)) {
                return Err(Error::refused("its values are encrypted, which is not supported")
                    .hint("choose other columns with -a, or leave such columns out with --skip-unsupported"));
            }
            if chunk.file_path().is_some_and(|p| !p.is_empty()) {
                return Err(Error::refused(
                    "its values are in another file, which is not supported",
                ));
            }
            let found = self.chunk(g, parquet)?;
            let rows = self.starts[g + 1] - self.starts[g];
            if found.element.max_rep == 0 && found.values != rows {
                return Err(Error::corrupt(format!(
                    "row group {g} has {rows} rows, and {} values of it",
                    found.values
                )));
            }
        }
        Ok(())
    }

    /// A column that does not fit rows of numbers and texts, as Arrow arrays; the error and the
    /// flat meta where there is another reason. `columns`: its Parquet columns.
    fn nested_or(
        &self,
        error: Error,
        leaf: &Leaf,
        root: &Root,
        (columns, wish): (Range<usize>, NestedWish<'_>),
        (mut meta, mut flat): (ArrayMeta, ArrayMeta),
    ) -> Result<(Column, ArrayMeta)> {
        let first = columns.start;
        let mut error = error.of_data()?;
        let shape = root.error.is_none() && !children(leaf.field.data_type()).is_empty();
        if error.kind() == ErrorKind::Refused && shape {
            match foreign("parquet", || self.nested_column(leaf, root, (columns, wish), &mut meta))
            {
                Ok(column) => return Ok((column, meta)),
                Err(e) => error = e.of_data()?,
            }
        }
        flat.details.error = Some(Arc::new(error));
        Ok((Column::none(first), flat))
    }

    fn nested_column(
        &self,
        leaf: &Leaf,
        root: &Root,
        (columns, wish): (Range<usize>, NestedWish<'_>),
        meta: &mut ArrayMeta,
    ) -> Result<Column> {
        let pruned = wish.choice.and_then(|choice| choice.inside(&meta.name, &leaf.field));
        let field = pruned.as_ref().map_or(&leaf.field, |pruned| &pruned.field);
        let is_kept = |number: usize| pruned.as_ref().is_none_or(|p| p.kept[number]);
        let mut nested = arrow_model::nested(field)?;
        let descr = self.metadata.file_metadata().schema_descr();
        // The leaves, and their numbers in a walk through the type.
        let all = walk(leaf.field.data_type()).into_iter().enumerate();
        let types: Vec<_> = all.filter(|(_, t)| children(t).is_empty()).collect();
        if types.len() != columns.len() {
            return Err(Error::refused("a column of this shape is not supported"));
        }
        let (mut leaves, mut unpacked) = (Vec::new(), 0u64);
        // Leaves are not cut at the same rows: of two parts of each a whole one is wanted.
        let step = if types.len() > 1 { self.share / (2 * types.len() as u64) } else { self.share };
        for (i, (parquet, (number, t))) in columns.clone().zip(types).enumerate() {
            if !is_kept(number) {
                continue;
            }
            let bytes = self.footer_facts(parquet, meta)?;
            unpacked = unpacked.saturating_add(bytes);
            self.check_chunks(parquet)?;
            let levels = nested::leaf_levels(&root.parquet, &root.reading, &leaf.path[1..], i)
                .map_err(nested::shape_error)?;
            let physical = descr.column(parquet).physical_type();
            let item = t.primitive_width().unwrap_or(4) as u64 * 2 + 8 * leaf.path.len() as u64;
            let texts = physical == Physical::BYTE_ARRAY;
            let rows = match descr.column(parquet).max_rep_level() > 0 {
                true if texts => Rows::TextLists(item + ROW_BYTES),
                true => Rows::Lists(item + ROW_BYTES),
                false if texts => Rows::Texts(item + ROW_BYTES),
                false => Rows::Fixed(item + ROW_BYTES),
            };
            let text = if let DataType::Dictionary(_, values) = t { values } else { t };
            leaves.push(Column {
                levels: Some(Levels::Made(Box::new(levels))),
                structs: leaf.path.len() - 1,
                unchecked: is_unchecked(text, &descr.column(parquet)),
                unpacked: bytes,
                rows,
                step: step.clamp(LEAST_STEP_BYTES, STEP_BYTES),
                ..Column::none(parquet)
            });
        }
        let path = &leaf.path[1..];
        let places = nested::NullPlaces::of(&root.parquet, &leaf.field, path);
        if let Some(mut places) = places.filter(|_| wish.look) {
            let mut number = 0..;
            places.found.retain(|_| number.next().is_none_or(is_kept));
            nested.nulls = self.nested_nulls(columns.start, &places.found)?;
        }
        let nested = Arc::new(nested);
        let merged = |c: &Arc<Categories>| Dictionaries::new(c.clone(), self.held.clone());
        let dictionaries = nested.dictionaries.iter().map(merged).collect();
        meta.logical = Logical::Nested(nested.clone());
        let first = columns.start;
        let nested = Some(Box::new(NestedColumn { nested, dictionaries, leaves }));
        Ok(Column { nested, unpacked, rows: Rows::Texts(ROW_BYTES), ..Column::none(first) })
    }
}

/// Texts that the crate takes as they are.
fn is_unchecked(text: &DataType, descr: &ColumnDescPtr) -> bool {
    matches!(text, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        && descr.converted_type() != ConvertedType::UTF8
}

/// What the rows of a column take while they are decoded and handed on.
fn rows_of(leaf: &LeafType, physical: Physical) -> Rows {
    /// A decimal in Arrow and as it is stored.
    const DECIMAL_BYTES: u64 = 64;
    let item = if leaf.logical.decimals().is_some() { 32 } else { leaf.dtype.item_bytes() };
    match (&leaf.element, &leaf.logical) {
        // Levels of two kinds, and the value in two forms.
        _ if !leaf.levels.is_empty() => Rows::Lists(2 * item + 4),
        (_, Logical::Dictionary { .. }) => Rows::Codes(item + ROW_BYTES),
        (_, Logical::Decimal { .. }) if physical == Physical::BYTE_ARRAY => {
            Rows::Texts(DECIMAL_BYTES)
        }
        (_, Logical::Decimal { .. }) => Rows::Fixed(DECIMAL_BYTES),
        (DataType::FixedSizeBinary(n), _) => {
            Rows::Fixed(2 * u64::try_from(*n).unwrap_or(0) + ROW_BYTES)
        }
        (_, l) if l.is_var() => Rows::Texts(ROW_BYTES),
        _ => Rows::Fixed(2 * item + 6),
    }
}

fn codec_name(c: Compression) -> String {
    match c {
        Compression::UNCOMPRESSED => "none",
        Compression::SNAPPY => "snappy",
        Compression::GZIP(_) => "gzip",
        Compression::LZO => "lzo",
        Compression::BROTLI(_) => "brotli",
        Compression::LZ4 => "lz4",
        Compression::ZSTD(_) => "zstd",
        Compression::LZ4_RAW => "lz4_raw",
    }
    .into()
}
