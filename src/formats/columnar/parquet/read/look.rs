//! What only the data of a Parquet column shows: nulls without statistics, the lengths of lists,
//! categories.

use std::collections::HashMap;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use parquet::basic::Encoding;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{Int96, Int96Type};

use super::crate_error;
use super::lists::EqualLists;
use super::page::{Content, DATA_V2, DICTIONARY, is_coded};
use super::pages::{CheckedPages, Failure, FoundPage, Headers, Lookup};
use super::shared::{Shared, UNIT_BYTES};
use crate::arrow_model::{self, Level};
use crate::error::{Error, Result, locked};
use crate::model::ArrayMeta;

/// What is asked of a column.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    /// Whether it will be read; of others the footer tells enough.
    pub(super) wanted: bool,
    /// Whether the values matter (categories), or only types and shapes.
    pub(super) values: bool,
}

impl Shared {
    /// Fills in what only the data shows; the places of lists that all have one length.
    ///
    /// # Errors
    /// Corrupt pages, and what the model cannot hold.
    pub(super) fn look(
        &self,
        index: usize,
        meta: &mut ArrayMeta,
        wish: Wish,
    ) -> Result<Option<EqualLists>> {
        let column = &self.columns[index];
        let descr = self.metadata.file_metadata().schema_descr().column(column.parquet);
        let groups = self.metadata.row_groups();
        let mut nulls = Some(0u64);
        if descr.max_def_level() > 0 {
            for group in groups {
                let known = self.null_count(group, column.parquet);
                nulls = nulls.zip(known).and_then(|(a, b)| a.checked_add(b));
            }
        }
        meta.nulls = nulls != Some(0);
        let any = column.leaf.levels.iter().filter(|l| **l == Level::Any).count();
        let flat = column.leaf.levels.is_empty();
        let settled = if flat { nulls.is_some() } else { any == 0 && nulls == Some(0) };
        if settled {
            meta.inner = arrow_model::inner_dims(&column.leaf, &[]);
        }
        let categories = column.dictionary.is_some() && wish.values;
        // Over a network, what the footer leaves no doubt about is not looked at: that would fetch
        // all pages.
        if !wish.wanted || settled && !categories && (flat || self.blob.file().is_none()) {
            return Ok(None);
        }
        if let [level] = &column.leaf.levels[..]
            && column.leaf.logical.decimals().is_none()
        {
            let chunks =
                (0..groups.len()).map(|g| Ok((self.chunk(g, column.parquet)?, self.group_rows(g))));
            if let Some(lists) = EqualLists::look(&descr, chunks)? {
                meta.nulls = false;
                meta.inner = match level {
                    Level::Any => vec![lists.length],
                    Level::Fixed(dims) => dims.clone(),
                };
                if crate::model::checked_product(&meta.inner) != Some(lists.length) {
                    return Err(Error::corrupt(format!(
                        "it has lists of {}, its schema says {:?}",
                        lists.length, meta.inner
                    )));
                }
                return Ok(Some(lists));
            }
        }
        if flat {
            if nulls.is_none() {
                meta.nulls = self.has_nulls(column.parquet)?;
            }
            if !categories || self.categories(index)? {
                return Ok(None);
            }
        }
        self.decode_all(index, meta, any, categories)?;
        Ok(None)
    }

    /// Whether a struct of a column is null as a whole. `optional`: for each Parquet column below it
    /// how many of its definition levels belong to structs.
    pub(super) fn has_null_struct(&self, optional: &[(usize, u32)]) -> Result<bool> {
        for &(column, levels) in optional.iter().filter(|(_, levels)| *levels > 0) {
            let mut lowest = u32::MAX;
            for (g, group) in self.metadata.row_groups().iter().enumerate() {
                let nulls = self.null_count(group, column);
                let lists = group.column(column).column_descr().max_rep_level() > 0;
                // Without lists the nulls of structs are counted, too.
                if nulls == Some(0) && !lists || lowest < levels {
                    continue;
                }
                self.each_page(g, column, &mut |_, content| {
                    lowest = lowest.min(content()?.lowest);
                    Ok(lowest < levels)
                })?;
            }
            if lowest < levels {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether nulls are in each field of a nested column: `places` tells of each, in the order of a
    /// walk, the leaf and its definition levels that say so. `None` where that would take all pages
    /// over a network.
    pub(super) fn nested_nulls(
        &self,
        first_column: usize,
        places: &[Option<(usize, u128)>],
    ) -> Result<Option<Vec<bool>>> {
        let mut levels: HashMap<usize, u128> = HashMap::new();
        for (leaf, _) in places.iter().flatten() {
            if levels.contains_key(leaf) {
                continue;
            }
            let (column, mut found) = (first_column + leaf, 0);
            for (g, group) in self.metadata.row_groups().iter().enumerate() {
                let chunk = group.column(column);
                let most = u32::try_from(chunk.column_descr().max_def_level()).unwrap_or(0);
                if self.null_count(group, column) == Some(0) {
                    found |= 1u128.checked_shl(most).unwrap_or_default();
                } else if let Some(histogram) = chunk.definition_level_histogram() {
                    let there = histogram.values().iter().zip(0u32..).filter(|(n, _)| **n != 0);
                    found |= there.fold(0, |all, (_, level)| all | 1u128 << level.min(127));
                } else if self.blob.file().is_some() {
                    self.each_page(g, column, &mut |_, content| {
                        found |= content()?.levels;
                        Ok(false)
                    })?;
                } else {
                    return Ok(None);
                }
            }
            levels.insert(*leaf, found);
        }
        let null = |place: &Option<(usize, u128)>| {
            place.is_some_and(|(leaf, mask)| levels.get(&leaf).is_none_or(|seen| seen & mask != 0))
        };
        Ok(Some(places.iter().map(null).collect()))
    }

    /// Looks at the data pages of a column chunk, and at their content where `each` asks for it,
    /// until `each` says that it knows enough.
    fn each_page(
        &self,
        g: usize,
        column: usize,
        each: &mut dyn FnMut(&FoundPage, &mut dyn FnMut() -> Result<Content>) -> Result<bool>,
    ) -> Result<()> {
        let mut headers = self.chunk(g, column)?.pages();
        let mut lookup = Lookup::default();
        while let Some(found) = headers.next()? {
            if found.header.kind == DICTIONARY {
                lookup.found(found)?;
                continue;
            }
            let mut content = || -> Result<Content> {
                let dictionary = match is_coded(found.header.encoding) {
                    true => lookup.unpack(&mut headers)?,
                    false => None,
                };
                let Headers { chunk, window, .. } = &mut headers;
                Ok(chunk.data(&found, window, dictionary, None)?.1)
            };
            if each(&found, &mut content)? {
                break;
            }
        }
        Ok(())
    }

    /// Whether a flat column has a null: from the levels alone, up to the first.
    fn has_nulls(&self, column: usize) -> Result<bool> {
        let mut has_null = false;
        for g in 0..self.metadata.num_row_groups() {
            self.each_page(g, column, &mut |found, content| {
                let told = found.header.kind == DATA_V2 && found.header.nulls > 0;
                has_null = told || content()?.nulls > 0;
                Ok(has_null)
            })?;
            if has_null {
                break;
            }
        }
        Ok(has_null)
    }

    /// Collects the categories from the dictionaries alone; false where a writer gave a dictionary
    /// up, so that the values tell of more.
    fn categories(&self, index: usize) -> Result<bool> {
        let column = &self.columns[index];
        let Some(categories) = &column.dictionary else { return Ok(true) };
        for g in 0..self.metadata.num_row_groups() {
            let mut headers = self.chunk(g, column.parquet)?.pages();
            // What the footer tells of the data pages.
            let told = self.metadata.row_group(g).column(column.parquet).page_encoding_stats_mask();
            let dictionary = |e| matches!(e, Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY);
            let sure = told.is_some_and(|encodings| encodings.encodings().all(dictionary));
            let mut lookup = Lookup::default();
            while let Some(found) = headers.next()? {
                if found.header.kind == DICTIONARY {
                    lookup.found(found)?;
                } else if !is_coded(found.header.encoding) {
                    return Ok(false);
                }
                if sure {
                    break;
                }
            }
            if let Some(dictionary) = lookup.unpack(&mut headers)? {
                categories.merge_items(dictionary.texts())?;
            }
        }
        Ok(true)
    }

    /// Decodes the whole column.
    fn decode_all(
        &self,
        index: usize,
        meta: &mut ArrayMeta,
        any: usize,
        categories: bool,
    ) -> Result<()> {
        let column = &self.columns[index];
        let mut lengths = vec![None; any];
        let mut equal = true;
        let mut found_null = false;
        for g in 0..self.metadata.num_row_groups() {
            self.read_units(column, g, 0..self.group_rows(g), UNIT_BYTES, &mut |array, first| {
                if let Some(row) = arrow_model::first_inner_null(&array) {
                    return Err(arrow_model::inner_null(self.starts[g] + first + row as u64));
                }
                found_null |= array.logical_nulls().is_some_and(|n| n.null_count() > 0);
                equal =
                    equal && arrow_model::list_lengths(&array, &column.leaf.levels, &mut lengths)?;
                if let (true, Some(dictionary), Some(coded)) =
                    (categories, &column.dictionary, array.as_any_dictionary_opt())
                    && coded.keys().null_count() < coded.keys().len()
                {
                    dictionary.merge(coded.values().as_ref())?;
                }
                Ok(())
            })?;
        }
        meta.nulls = found_null;
        arrow_model::settle_lists(&column.leaf, equal, &lengths, meta)
    }

    /// Do all values of an INT96 column fit nanoseconds? Are all whole microseconds that fit?
    ///
    /// # Errors
    /// Corrupt pages.
    pub(super) fn int96_range(&self, c: usize) -> Result<(bool, bool)> {
        const NANOS_A_DAY: i128 = 86_400_000_000_000;
        let descr = self.metadata.file_metadata().schema_descr().column(c);
        let (mut nanos, mut micros) = (true, true);
        for g in 0..self.metadata.num_row_groups() {
            let chunk = self.chunk(g, c)?;
            // A row of a list cannot be read in parts.
            if chunk.element.max_rep > 0 {
                self.limit.check("a column of lists of INT96", chunk.values.saturating_mul(16))?;
            }
            let failure = Failure::default();
            let pages = CheckedPages::new(chunk.pages(), None, false, failure.clone());
            let told = |e| locked(&failure).take().unwrap_or_else(|| crate_error(e));
            let mut reader = ColumnReaderImpl::<Int96Type>::new(descr.clone(), Box::new(pages));
            loop {
                let (mut def, mut rep, mut values) = (Vec::new(), Vec::new(), Vec::<Int96>::new());
                let (records, _, _) = reader
                    .read_records(1 << 16, Some(&mut def), Some(&mut rep), &mut values)
                    .map_err(told)?;
                for v in &values {
                    let d = v.data();
                    let day = i128::from(d[2]) - 2_440_588;
                    let time = day * NANOS_A_DAY + ((i128::from(d[1]) << 32) | i128::from(d[0]));
                    nanos &= i64::try_from(time).is_ok();
                    micros &= time % 1000 == 0 && i64::try_from(time / 1000).is_ok();
                }
                if records == 0 {
                    break;
                }
            }
        }
        Ok((nanos, micros))
    }
}
