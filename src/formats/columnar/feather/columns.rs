//! The columns of Arrow files and streams: what their types, headers and dictionaries tell.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::DataType;

use super::body::{BatchArray, UNIT_BYTES, Wanted};
use super::cursor::{Cursor, skip};
use super::shared::{Codes, Column, Shared};
use crate::arrow_model::{self, Dictionaries, Leaf, LeafType, Level};
use crate::error::{Error, ErrorKind, Result, foreign};
use crate::format::Choice;
use crate::model::nested::{dictionary_paths, walk};
use crate::model::{ArrayMeta, Categories, Logical};

/// What is asked of the columns.
pub(super) struct ColumnRequest<'a> {
    /// The dictionary batches of each id.
    pub(super) dictionaries: HashMap<i64, Vec<usize>>,
    /// Whether categories are wanted.
    pub(super) categories: bool,
    /// The arrays and parts of arrays that will be read, where that is known.
    pub(super) choice: Option<&'a Choice>,
}

impl Shared {
    /// A column and its array, which has an error where it cannot be read. `place`: the leaf's
    /// among all.
    pub(super) fn column(
        &self,
        leaf: &Leaf,
        place: usize,
        request: &ColumnRequest<'_>,
        mut meta: ArrayMeta,
    ) -> Result<(Column, ArrayMeta)> {
        let mut flat = meta.clone();
        let column = foreign("arrow", || match self.flat_column(leaf, place, request, &mut flat) {
            Ok(column) => {
                meta = flat;
                Ok(column)
            }
            // What does not fit rows of numbers and texts.
            Err(e) if e.kind() == ErrorKind::Refused => {
                self.nested_column(leaf, place, request, &mut meta)
            }
            Err(e) => Err(e),
        });
        let column = match column {
            Ok(column) => column,
            Err(e) => {
                meta.details.stored_dtype = Some(arrow_model::type_name(leaf.field.data_type()));
                meta.details.error = Some(Arc::new(e.of_data()?));
                Column::new(LeafType::unread(DataType::Null), leaf, place)
            }
        };
        Ok((column, meta))
    }

    /// A column as rows of numbers or texts.
    fn flat_column(
        &self,
        leaf: &Leaf,
        place: usize,
        request: &ColumnRequest<'_>,
        meta: &mut ArrayMeta,
    ) -> Result<Column> {
        let holds = match &leaf.holds {
            Ok(holds) => holds.clone(),
            Err(e) => return Err(Error::clone(e)),
        };
        meta.dtype = holds.dtype;
        meta.logical = arrow_model::with_order(holds.logical.clone(), &leaf.field);
        if holds.levels.is_empty() && holds.element == DataType::Null {
            meta.details.untyped = true;
        }
        let mut column = Column::new(holds, leaf, place);
        if let (Logical::Dictionary { categories: items, .. }, DataType::Dictionary(_, values)) =
            (&meta.logical, &column.leaf.element)
        {
            let (codes, nulls) = self.codes(&leaf.path, values, items, request)?;
            column.codes.push(codes);
            meta.nulls |= nulls;
        }
        let inner_nulls = self.header_facts(leaf, place, &column, meta)?;
        self.list_lengths(&column, meta)?;
        if inner_nulls {
            self.check_inner_nulls(&column, meta)?;
        }
        Ok(column)
    }

    /// Nulls inside of rows are harmless only below lists that are null themselves: the values
    /// tell.
    fn check_inner_nulls(&self, column: &Column, meta: &ArrayMeta) -> Result<()> {
        for (b, batch) in self.index.batches.iter().enumerate() {
            let part = self.part(column, b, Wanted::All)?;
            part.each(0..batch.rows, self.limit, UNIT_BYTES, &mut |array, first| {
                let row = self.starts[b] + first;
                arrow_model::chunk(&array, &column.leaf, meta, None, 0, row).map(drop)
            })?;
        }
        Ok(())
    }

    /// A column that travels as Arrow arrays.
    fn nested_column(
        &self,
        leaf: &Leaf,
        place: usize,
        request: &ColumnRequest<'_>,
        meta: &mut ArrayMeta,
    ) -> Result<Column> {
        let pruned = request.choice.and_then(|choice| choice.inside(&meta.name, &leaf.field));
        let field = pruned.as_ref().map_or(&leaf.field, |pruned| &pruned.field);
        let kept = |number: usize| pruned.as_ref().is_none_or(|p| p.kept[number]);
        let mut nested = arrow_model::nested(field)?;
        let mut nulls = self.nulls(leaf, place)?;
        let none = LeafType::unread(field.data_type().clone());
        let mut column = Column { field: field.clone(), ..Column::new(none, leaf, place) };
        let paths = dictionary_paths(leaf.field.data_type(), leaf.path.clone());
        let coded = walk(leaf.field.data_type()).into_iter().enumerate();
        let coded = coded.filter(|(_, t)| matches!(t, DataType::Dictionary(..)));
        let mut items = nested.dictionaries.iter();
        for (path, (number, t)) in paths.iter().zip(coded).filter(|(_, (n, _))| kept(*n)) {
            let (DataType::Dictionary(_, values), Some(items)) = (t, items.next()) else {
                return Err(Error::internal("a dictionary without categories"));
            };
            let (codes, null) = self.codes(path, values, items, request)?;
            column.codes.push(codes);
            nulls[number] |= null;
        }
        meta.nulls = false;
        self.header_facts(leaf, place, &column, meta)?;
        if let Some(pruned) = &pruned {
            let mut batches = Vec::new();
            for (b, batch) in self.index.batches.iter().enumerate() {
                let at = self.locate(b, place)?;
                batches.push(batch.pruned(leaf.field.data_type(), at, &pruned.kept)?);
            }
            column.pruned = Some(batches);
        }
        let mut number = 0..;
        nulls.retain(|_| number.next().is_none_or(kept));
        nested.nulls = Some(nulls);
        meta.logical = Logical::Nested(Arc::new(nested));
        meta.nulls = false;
        Ok(column)
    }

    /// Whether nulls are in each field of a walk through a leaf's type.
    fn nulls(&self, leaf: &Leaf, place: usize) -> Result<Vec<bool>> {
        let mut found = vec![false; walk(leaf.field.data_type()).len()];
        for (b, batch) in self.index.batches.iter().enumerate() {
            let nodes = batch.nodes.get(self.locate(b, place)?.node..).unwrap_or_default();
            if nodes.len() < found.len() {
                return Err(Error::corrupt("a batch has too few arrays"));
            }
            for (found, (_, nulls)) in found.iter_mut().zip(nodes) {
                *found |= *nulls > 0;
            }
        }
        Ok(found)
    }

    /// What the keys of a dictionary mean, and whether one of them is null. The categories are
    /// collected where they are wanted.
    fn codes(
        &self,
        path: &[usize],
        values: &DataType,
        items: &Arc<Categories>,
        request: &ColumnRequest<'_>,
    ) -> Result<(Codes, bool)> {
        let (mut all, mut nulls) = (Codes::new(), false);
        let merged = Dictionaries::new(items.clone(), self.held.clone());
        let id = self.index.ids.get(path);
        let id = id.ok_or_else(|| Error::corrupt("a dictionary column has no dictionary id"))?;
        // A further stream has dictionaries of its own.
        let mut further = self.index.further.iter();
        let mut stream = 0;
        for &d in request.dictionaries.get(id).map(Vec::as_slice).unwrap_or_default() {
            let batch = &self.index.dictionaries[d];
            nulls |= batch.values.nodes.first().is_some_and(|node| node.1 > 0);
            if !request.categories {
                continue;
            }
            all.extend(
                further.by_ref().take(batch.stream - stream).map(|first| (*first, Vec::new())),
            );
            stream = batch.stream;
            let part = BatchArray::of(
                self.blob.as_ref(),
                &batch.values,
                values,
                Cursor::default(),
                Wanted::All,
            )?;
            let count = batch.values.nodes.first().map_or(0, |node| node.0);
            let mut codes = Vec::new();
            part.each(0..count, self.limit, UNIT_BYTES, &mut |array, _| {
                self.held.take(8 * array.len() as u64)?;
                codes.extend(merged.merge(array.as_ref())?);
                Ok(())
            })?;
            match all.last_mut() {
                Some((_, last)) if batch.is_delta => last.extend(codes),
                _ => all.push((batch.before, codes)),
            }
        }
        all.extend(further.map(|first| (*first, Vec::new())));
        if request.categories {
            items.finish();
        }
        Ok((all, nulls))
    }

    /// Fills in what the headers tell of an array; whether something is null inside of its rows.
    fn header_facts(
        &self,
        leaf: &Leaf,
        place: usize,
        column: &Column,
        meta: &mut ArrayMeta,
    ) -> Result<bool> {
        let mut stored = 0u64;
        let mut inner_nulls = false;
        for (b, batch) in self.index.batches.iter().enumerate() {
            let at = self.locate(b, place)?;
            let mut end = at;
            skip(leaf.field.data_type(), batch, &mut end);
            let buffers = batch
                .buffers
                .get(at.buffer..end.buffer)
                .ok_or_else(|| Error::corrupt("a batch has too few buffers"))?;
            stored = buffers.iter().fold(stored, |n, (_, len)| n.saturating_add(*len));
            let nodes = batch
                .nodes
                .get(at.node..end.node)
                .ok_or_else(|| Error::corrupt("a batch has too few arrays"))?;
            let Some(&(len, nulls)) = nodes.first() else {
                return Err(Error::corrupt("a batch has too few arrays"));
            };
            if len != batch.rows {
                return Err(Error::corrupt(format!(
                    "a column has {len} rows in a batch of {}",
                    batch.rows
                )));
            }
            meta.nulls |= nulls > 0 || column.leaf.element == DataType::Null && len > 0;
            inner_nulls |= nodes[1..].iter().any(|n| n.1 > 0);
        }
        let compression = self.index.batches.last().and_then(|batch| batch.compression);
        meta.details.compression = Some(compression.map_or("none".into(), |c| {
            format!("{c:?}").to_lowercase().replace("lz4_frame", "lz4")
        }));
        meta.details.stored_bytes = Some(stored);
        Ok(inner_nulls)
    }

    /// Finds out whether the lists of a column have one length.
    fn list_lengths(&self, column: &Column, meta: &mut ArrayMeta) -> Result<()> {
        let any = column.leaf.levels.iter().filter(|l| **l == Level::Any).count();
        let mut lengths = vec![None; any];
        let mut equal = true;
        if any > 0 {
            for (b, batch) in self.index.batches.iter().enumerate() {
                if !equal {
                    break;
                }
                self.part(column, b, Wanted::Lists)?.each(
                    0..batch.rows,
                    self.limit,
                    UNIT_BYTES,
                    &mut |array, _| {
                        equal = equal
                            && arrow_model::list_lengths(
                                &array,
                                &column.leaf.levels,
                                &mut lengths,
                            )?;
                        Ok(())
                    },
                )?;
            }
        }
        arrow_model::settle_lists(&column.leaf, equal, &lengths, meta)
    }
}
