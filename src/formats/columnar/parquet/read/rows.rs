//! Reading rows of Parquet columns: any rows, on any thread, in parts whose memory is known.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use arrow_array::{Array, ArrayRef, RecordBatch};
use parquet::arrow::FieldLevels;
use parquet::arrow::arrow_reader::{
    ParquetRecordBatchReader, RowGroups, RowSelection, RowSelector,
};
use parquet::column::page::{PageIterator, PageReader};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::crate_error;
use super::lists::EqualLists;
use super::measure::{Measure, Rows, Unit};
use super::pages::{CheckedPages, Failure, FoundPage, Start};
use super::schema;
use super::shared::{Column, Levels, Shared, UNIT_BYTES};
use crate::arrow_model;
use crate::error::{Context, Error, Result, foreign, locked};
use crate::format::{Emit, Piece, ReadRows};
use crate::model::Chunk;

/// A row group whose column is larger decoded than this is cut into parts.
const PART_BYTES: u64 = 16 << 20;
/// Row groups of a column whose measures are kept, at least.
const KEPT: usize = 8;
/// Measures of all columns that are kept. One takes a kilobyte.
const KEPT_OF_ALL: usize = 4096;

impl Shared {
    /// What is known of the rows of a column in a row group.
    fn measure(&self, column: &Column, g: usize) -> Result<Arc<Mutex<Measure>>> {
        let mut kept = locked(&column.measures);
        if let Some((_, measure)) = kept.iter().find(|(of, _)| *of == g) {
            return Ok(measure.clone());
        }
        let chunk = self.chunk(g, column.parquet)?;
        let measure = Measure::new(&chunk, column.rows, self.group_rows(g), column.step);
        let measure = Arc::new(Mutex::new(measure));
        // As many as there are pieces in flight: to measure a row group again for each of them
        // would take more than all else.
        kept.truncate(KEPT.max(2 * self.jobs + 2) - 1);
        kept.push_front((g, measure.clone()));
        drop(kept);
        let mut all = locked(&self.measured);
        all.push_back(column.measures.clone());
        if all.len() > KEPT_OF_ALL
            && let Some(first) = all.pop_front()
        {
            drop(all);
            locked(&first).pop_back();
        }
        Ok(measure)
    }

    /// The rows of a row group from `row` on that take about `bytes`, and where the dictionary is.
    pub(super) fn unit(
        &self,
        column: &Column,
        g: usize,
        row: u64,
        most: u64,
        bytes: u64,
    ) -> Result<(Unit, Option<FoundPage>)> {
        let measure = self.measure(column, g)?;
        let mut measure = locked(&measure);
        Ok((measure.unit(row, most, bytes)?, measure.dictionary()))
    }

    /// What rows of a row group take at most, as far as they were measured.
    pub(super) fn bytes_of(&self, column: &Column, g: usize, rows: &Range<u64>) -> Result<u64> {
        let measure = self.measure(column, g)?;
        let measure = locked(&measure);
        Ok(measure.bytes_of(rows))
    }

    /// Decodes some rows of a row group in units of about `bytes`; `each` gets the leaf's array and
    /// its first row.
    ///
    /// # Errors
    /// Corrupt pages; refused where a page or a row takes more memory than there may be; those of
    /// `each`.
    pub(super) fn read_units(
        &self,
        column: &Column,
        g: usize,
        rows: Range<u64>,
        bytes: u64,
        each: &mut dyn FnMut(ArrayRef, u64) -> Result<()>,
    ) -> Result<()> {
        if let Rows::Fixed(row) = column.rows {
            return self.read_fixed(column, g, rows, (bytes / row.max(1)).clamp(64, 1 << 20), each);
        }
        let mut at = rows.start;
        while at < rows.end {
            let (unit, dictionary) = self.unit(column, g, at, rows.end, bytes)?;
            self.decode(column, g, (unit.start, dictionary), at..unit.end, unit.batch, each)?;
            at = unit.end;
        }
        Ok(())
    }

    /// Decodes rows of one size.
    fn read_fixed(
        &self,
        column: &Column,
        g: usize,
        rows: Range<u64>,
        batch: u64,
        each: &mut dyn FnMut(ArrayRef, u64) -> Result<()>,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        // Over a network the pages before are not worth a request each.
        let (start, dictionary) = match self.blob.file().is_some() && rows.start > 0 {
            true => self
                .unit(column, g, rows.start, rows.start + 1, 1)
                .map(|(unit, dictionary)| (unit.start, dictionary))?,
            false => (self.chunk(g, column.parquet)?.start(), None),
        };
        self.decode(column, g, (start, dictionary), rows, batch, each)
    }

    /// Decodes rows with one reader, which begins at a page.
    fn decode(
        &self,
        column: &Column,
        g: usize,
        (start, dictionary): (Start, Option<FoundPage>),
        rows: Range<u64>,
        batch: u64,
        each: &mut dyn FnMut(ArrayRef, u64) -> Result<()>,
    ) -> Result<()> {
        let unreadable = || Error::internal("a column that cannot be read");
        let made;
        let levels = match column.levels.as_ref().ok_or_else(unreadable)? {
            Levels::Made(levels) => levels,
            Levels::Of { column, reading, path } => {
                made = schema::levels(column, reading, path).map_err(crate_error)?;
                &made
            }
        };
        let headers = self.chunk(g, column.parquet)?.pages_from(start.at, start.first_value);
        let failure = Failure::default();
        let pages = CheckedPages::new(headers, dictionary, false, failure.clone());
        let total = self.group_rows(g) - start.first_row;
        let select = rows.start - start.first_row..rows.end - start.first_row;
        let (group, mut reader) = self.reader(levels, g, (pages, failure), total, select, batch)?;
        let path = vec![0; column.structs];
        let mut first = rows.start;
        while let Some(batch) = group.next_batch(&mut reader)? {
            let root = batch
                .columns()
                .first()
                .ok_or_else(|| Error::corrupt("a batch lacks its column"))?;
            let leaf = arrow_model::descend(root, &path, column.merges)?;
            if column.unchecked {
                leaf.to_data()
                    .validate_full()
                    .map_err(|e| Error::corrupt("a text is not UTF-8").because(e))?;
            }
            let n = leaf.len() as u64;
            if n > rows.end - first {
                return Err(Error::corrupt(format!(
                    "row group {g} has more rows than were announced"
                )));
            }
            each(leaf, first)?;
            first += n;
        }
        if first != rows.end {
            return Err(Error::corrupt(format!(
                "row group {g} ends at row {first}, {} were expected",
                rows.end
            )));
        }
        Ok(())
    }

    /// The crate's reader of some rows (`select`) of pages that hold `total`.
    fn reader(
        &self,
        levels: &FieldLevels,
        g: usize,
        (pages, failure): (CheckedPages, Failure),
        total: u64,
        select: Range<u64>,
        batch: u64,
    ) -> Result<(Group<'_>, ParquetRecordBatchReader)> {
        let n = select.end - select.start;
        let selection = (n < total).then(|| {
            RowSelection::from(vec![
                RowSelector::skip(select.start as usize),
                RowSelector::select(n as usize),
            ])
        });
        let group = Group {
            shared: self,
            g,
            pages: Mutex::new(Some(Box::new(pages))),
            failure,
            rows: total,
        };
        let batch = batch.clamp(1, n.max(1)) as usize;
        let reader = foreign("parquet", || {
            Ok(ParquetRecordBatchReader::try_new_with_row_groups(levels, &group, batch, selection))
        })?;
        let reader = reader.map_err(|e| group.error(e))?;
        Ok((group, reader))
    }

    /// Decodes some rows of a row group's lists of one length.
    fn read_lists(
        &self,
        array: usize,
        lists: &EqualLists,
        g: usize,
        rows: Range<u64>,
        emit: Emit<'_>,
    ) -> Result<()> {
        let n = lists.length;
        // A row is decoded as a whole, however few bytes of pages stand for it.
        self.limit.check("a row", n.saturating_mul(self.metas[array].dtype.item_bytes()))?;
        let values = rows.start * n..rows.end * n;
        let places = &lists.places[g];
        let (at, before) = places
            .before(values.start)
            .ok_or_else(|| Error::corrupt("no page holds these rows"))?;
        let chunk = self.chunk(g, self.columns[array].parquet)?;
        let total = chunk.values - before;
        let failure = Failure::default();
        let pages = CheckedPages::new(
            chunk.pages_from(at, before),
            places.dictionary,
            true,
            failure.clone(),
        );
        let batch = (UNIT_BYTES / self.row_bytes(array)).clamp(1, rows.end - rows.start) * n;
        let select = values.start - before..values.end - before;
        let (group, mut reader) =
            self.reader(&lists.levels, g, (pages, failure), total, select, batch)?;
        let mut first = rows.start;
        while let Some(batch) = group.next_batch(&mut reader)? {
            let values = batch
                .columns()
                .first()
                .ok_or_else(|| Error::corrupt("a batch lacks its column"))?;
            let count = values.len() as u64 / n;
            if count * n != values.len() as u64 || count > rows.end - first {
                return Err(Error::corrupt(format!(
                    "row group {g} has {} values, which do not make lists of {n}",
                    values.len()
                )));
            }
            emit(Chunk::fixed(
                array,
                self.starts[g] + first,
                count,
                arrow_model::fixed_buffer(values)?,
            ))?;
            first += count;
        }
        if first != rows.end {
            return Err(Error::corrupt(format!(
                "row group {g} ends at row {first}, expected {}",
                rows.end
            )));
        }
        Ok(())
    }

    /// Decoded bytes of a row, about.
    fn row_bytes(&self, array: usize) -> u64 {
        let (column, meta) = (&self.columns[array], &self.metas[array]);
        match column.rows {
            Rows::Fixed(row) => row,
            _ if !meta.logical.is_var() => meta.row_bytes().unwrap_or(1).max(1),
            _ => (column.unpacked / self.starts[self.starts.len() - 1].max(1)).saturating_add(16),
        }
    }

    fn group_of(&self, row: u64) -> usize {
        self.starts.partition_point(|&s| s <= row).saturating_sub(1)
    }

    /// Rows of a part of a row group from `row` on: all of it, unless it is large.
    fn part_rows(&self, array: usize, row: u64, group_rows: u64) -> u64 {
        let bytes = self.row_bytes(array);
        let flat =
            self.columns[array].leaf.levels.is_empty() || self.columns[array].lists.is_some();
        if !flat || group_rows.saturating_mul(bytes) <= PART_BYTES {
            return u64::MAX;
        }
        // A large page is unpacked for each part of it, and so is a large dictionary, whose texts
        // are looked up again: these are larger then.
        let part = (PART_BYTES / 2).max(self.page_bytes(array, &(row..row + 1)) / 8);
        (part / bytes).max(1)
    }

    /// What a page of some rows takes while it is read.
    fn page_bytes(&self, array: usize, rows: &Range<u64>) -> u64 {
        /// What pages usually take, with their compressed form.
        const USUAL: u64 = 2 << 20;
        let g = self.group_of(rows.start);
        let Some(&end) = self.starts.get(g + 1) else { return USUAL };
        // Local headers tell; what the footer tells of sizes proves nothing.
        let known = self.blob.file().is_some()
            && matches!(self.columns[array].rows, Rows::Fixed(_) | Rows::Codes(_));
        if rows.end > end || !known {
            return USUAL;
        }
        let start = self.starts[g];
        let column = &self.columns[array];
        let unit = self.unit(column, g, rows.start - start, rows.end - start, u64::MAX);
        unit.map_or(USUAL, |(unit, dictionary)| {
            let texts = dictionary.filter(|_| column.dictionary.is_some());
            unit.page_bytes.saturating_add(texts.map_or(0, |page| texts_bytes(&page)))
        })
    }

    /// What all categories take, where that is so much of the limit that little may be decoded
    /// beside them.
    fn categories_bytes(&self, array: usize) -> u64 {
        let held = self.held.bytes();
        let large = self.columns[array].dictionary.is_some() && held > self.limit.0 / 4;
        if large { held } else { 0 }
    }
}

/// What the texts of a dictionary take once they are unpacked: themselves, and of each its place,
/// its hash and its code.
fn texts_bytes(page: &FoundPage) -> u64 {
    const TEXT_BYTES: u64 = 24;
    let unpacked = u64::try_from(page.header.uncompressed).unwrap_or(0);
    unpacked.saturating_add(page.values().saturating_mul(TEXT_BYTES))
}

impl ReadRows for Shared {
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        let g = self.group_of(row);
        let (Some(&start), Some(&end)) = (self.starts.get(g), self.starts.get(g + 1)) else {
            return u64::MAX;
        };
        let part = self.part_rows(array, row, end - start);
        let next = ((row - start) / part).saturating_add(1).saturating_mul(part);
        start.saturating_add(next).min(end)
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let decoded = (rows.end - rows.start).saturating_mul(self.row_bytes(array));
        let beside = self.page_bytes(array, &rows).saturating_add(self.categories_bytes(array));
        Some(decoded.saturating_add(beside))
    }
    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        let column = &self.columns[array];
        if !self.metas[array].logical.is_var() || column.lists.is_some() {
            return None;
        }
        let g = self.group_of(row);
        let start = self.starts[g];
        if let Some(nested) = &column.nested {
            let most = self.starts[g + 1] - start;
            // What is put together of the leaves, or made of that, is as much again.
            let (end, bytes) = self.nested_unit(nested, g, row - start, most, bytes / 2).ok()?;
            return Some(Piece { end: start + end, bytes: bytes.saturating_mul(2) });
        }
        let (unit, _) =
            self.unit(column, g, row - start, self.starts[g + 1] - start, bytes).ok()?;
        let end = unit.end.min(row - start + unit.batch);
        Some(Piece { end: start + end, bytes: unit.bytes.saturating_add(unit.page_bytes) })
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let (column, meta) = (&self.columns[array], &self.metas[array]);
        let mut at = rows.start;
        while at < rows.end {
            let g = self.group_of(at);
            let (start, end) = (self.starts[g], self.starts[g + 1].min(rows.end));
            if let Some(lists) = &column.lists {
                self.read_lists(array, lists, g, at - start..end - start, emit)
                    .at_array(&meta.name)?;
                at = end;
                continue;
            }
            if let Some(nested) = &column.nested {
                self.read_nested(array, nested, g, at - start..end - start, emit)
                    .at_array(&meta.name)?;
                at = end;
                continue;
            }
            self.read_units(column, g, at - start..end - start, UNIT_BYTES, &mut |leaf, first| {
                let chunk = arrow_model::chunk(
                    &leaf,
                    &column.leaf,
                    meta,
                    column.dictionary.as_deref(),
                    array,
                    start + first,
                )?;
                if chunk.valid.is_some() && !meta.nulls {
                    return Err(Error::corrupt("it has nulls, but its statistics declare none"));
                }
                emit(chunk)
            })
            .at_array(&meta.name)?;
            at = end;
        }
        Ok(())
    }
}

/// One row group, as the crate asks for it: the only column of a schema of its own.
struct Group<'a> {
    shared: &'a Shared,
    g: usize,
    pages: Mutex<Option<Box<dyn PageReader>>>,
    failure: Failure,
    rows: u64,
}

impl Group<'_> {
    /// The next decoded batch; `None` at the end.
    fn next_batch(&self, reader: &mut ParquetRecordBatchReader) -> Result<Option<RecordBatch>> {
        foreign("parquet", || reader.next().transpose().map_err(|e| self.error(e.into())))
    }
    /// What went wrong: where the pages were read, or else in the crate.
    fn error(&self, e: parquet::errors::ParquetError) -> Error {
        locked(&self.failure).take().unwrap_or_else(|| crate_error(e))
    }
}

impl RowGroups for Group<'_> {
    fn num_rows(&self) -> usize {
        self.rows as usize
    }
    fn column_chunks(&self, _first: usize) -> parquet::errors::Result<Box<dyn PageIterator>> {
        Ok(Box::new(Once(locked(&self.pages).take())))
    }
    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::once(self.shared.metadata.row_group(self.g)))
    }
    fn metadata(&self) -> &ParquetMetaData {
        &self.shared.metadata
    }
}

struct Once(Option<Box<dyn PageReader>>);

impl Iterator for Once {
    type Item = parquet::errors::Result<Box<dyn PageReader>>;
    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(Ok)
    }
}

impl PageIterator for Once {}
