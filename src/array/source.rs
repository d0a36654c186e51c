//! Inputs whose arrays are maps.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::reader::MapReader;
use super::{ArrayMap, Element};
use crate::error::{Error, Result};
use crate::format::{
    Emit, Extent, Job, Order, Piece, ReadPieces, ReadRows, Reader, Source, StoredArray, readable,
};
use crate::model::{Buf, Chunk, Plan, Values};

/// Called with the arrays that are wanted, before they are read.
type Prepare = Box<dyn Fn(&[usize]) -> Result<()> + Send>;
/// Called with the arrays that were wanted, after the last was read.
type Close = Arc<dyn Fn(&[usize]) -> Result<()> + Send + Sync>;

/// A source over maps.
pub struct MapSource {
    plan: Plan,
    /// Made when rows are first asked for: whoever lists arrays needs none.
    reader: OnceLock<Arc<MapReader>>,
    maps: Box<dyn Fn(&Plan) -> Vec<Option<ArrayMap>> + Send + Sync>,
    memory_bytes: u64,
    prepare: Option<Prepare>,
    close: Option<Close>,
}

/// The records that all selected arrays are fields of: each is read once.
struct Together {
    records: Arc<MapReader>,
    fields: Arc<Fields>,
    row: u64,
    rows: u64,
    row_bytes: u64,
    order: Order,
    closing: Option<(Vec<usize>, Close)>,
}

/// Maps of which something is checked after the last row was read.
struct Closing {
    reader: Arc<MapReader>,
    arrays: Vec<usize>,
    close: Close,
}

impl MapSource {
    /// The arrays of `plan`, each with its map; `None` for those that cannot be read.
    pub fn new(plan: Plan, maps: Vec<Option<ArrayMap>>, memory_bytes: u64) -> MapSource {
        MapSource::with(plan, move |_| maps.clone(), memory_bytes)
    }

    /// As [`MapSource::new`], with maps that are made once rows are asked for.
    pub fn with(
        plan: Plan,
        maps: impl Fn(&Plan) -> Vec<Option<ArrayMap>> + Send + Sync + 'static,
        memory_bytes: u64,
    ) -> MapSource {
        let (reader, maps) = (OnceLock::new(), Box::new(maps));
        MapSource { plan, reader, maps, memory_bytes, prepare: None, close: None }
    }

    /// Calls `prepare` with the wanted arrays before they are read.
    pub fn prepared_by(
        mut self,
        prepare: impl Fn(&[usize]) -> Result<()> + Send + 'static,
    ) -> MapSource {
        self.prepare = Some(Box::new(prepare));
        self
    }

    /// Calls `close` with the wanted arrays after they were read.
    pub fn closed_by(
        mut self,
        close: impl Fn(&[usize]) -> Result<()> + Send + Sync + 'static,
    ) -> MapSource {
        self.close = Some(Arc::new(close));
        self
    }

    /// The reader of all arrays.
    pub fn reader(&self) -> &Arc<MapReader> {
        self.reader
            .get_or_init(|| Arc::new(MapReader::new((self.maps)(&self.plan), self.memory_bytes)))
    }

    /// Changes what is known of the arrays.
    pub fn plan_mut(&mut self) -> &mut Plan {
        &mut self.plan
    }

    /// What is to be called after these arrays were read.
    fn closing(&self, arrays: &[usize]) -> Option<(Vec<usize>, Close)> {
        self.close.clone().map(|close| (arrays.to_vec(), close))
    }

    /// The records that all these arrays are fields of, where there are several.
    fn records(&self, arrays: &[usize], order: Order) -> Option<Together> {
        let maps: Vec<&ArrayMap> =
            arrays.iter().map(|&a| self.reader().map(a)).collect::<Option<_>>()?;
        let (first, others) = maps.split_first().filter(|(_, others)| !others.is_empty())?;
        let same =
            |map: &&ArrayMap| Arc::ptr_eq(&map.pieces, &first.pieces) && map.shape == first.shape;
        if !others.iter().all(same) || !first.is_straight() {
            return None;
        }
        let whole = Element {
            field: None,
            convert: super::element::Convert::Nothing,
            ..first.element.clone()
        };
        let records = ArrayMap { element: whole, ..(*first).clone() };
        let fields = arrays.iter().zip(&maps).map(|(&a, map)| (a, map.element.clone())).collect();
        let fields =
            Fields { fields, scalar: first.shape.is_empty(), row_elements: first.row_elements() };
        let (rows, row_bytes) = (first.rows(), first.row_bytes());
        let records = Arc::new(MapReader::new(vec![Some(records)], self.memory_bytes));
        let (fields, closing) = (Arc::new(fields), self.closing(arrays));
        Some(Together { records, fields, row: 0, rows, row_bytes, order, closing })
    }
}

impl Source for MapSource {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, arrays: &[usize], wish: Order) -> Result<Reader> {
        for &a in arrays {
            readable(&self.plan.arrays[a])?;
            self.reader().check_row(a).map_err(|e| e.array(&self.plan.arrays[a].name))?;
        }
        if let Some(prepare) = &self.prepare {
            prepare(arrays)?;
        }
        if wish != Order::ArrayByArray
            && let Some(together) = self.records(arrays, wish)
        {
            return Ok(Reader::InOrder(Box::new(together)));
        }
        let reader = self.reader().clone();
        Ok(Reader::Random(match self.closing(arrays) {
            None => reader,
            Some((arrays, close)) => Arc::new(Closing { reader, arrays, close }),
        }))
    }
    fn stored(&self, array: usize) -> Result<StoredArray> {
        match self.reader().map(array) {
            Some(map) => map.stored(self.plan.arrays[array].dtype),
            None => Err(Error::refused("it cannot be read")),
        }
    }
}

impl ReadPieces for Together {
    fn order(&self) -> Order {
        self.order
    }
    fn next(&mut self, max_bytes: u64) -> Result<Option<Box<dyn Job>>> {
        if self.row >= self.rows {
            return Ok(None);
        }
        let rows = (max_bytes / self.row_bytes.saturating_mul(2).max(16)).max(1);
        let mut end = self.row.saturating_add(rows).min(self.rows);
        // Whole pieces, as many as there is room for.
        let mut cut = self.records.next_boundary(0, self.row);
        while cut < end
            && let next = self.records.next_boundary(0, cut)
            && next <= end
        {
            cut = next;
        }
        if cut < u64::MAX {
            end = cut.min(self.rows);
        }
        let rows = self.row..end;
        self.row = end;
        let bytes = (rows.end - rows.start).saturating_mul(self.row_bytes);
        let records = Records::In(self.records.clone());
        Ok(Some(Box::new(FieldsJob { records, rows, bytes, fields: self.fields.clone() })))
    }
    fn close(&mut self) -> Result<()> {
        self.closing.as_ref().map_or(Ok(()), |(arrays, close)| close(arrays))
    }
}

impl ReadRows for Closing {
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        self.reader.next_boundary(array, row)
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        self.reader.cost(array, rows)
    }
    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        self.reader.piece(array, row, bytes)
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        self.reader.read(array, rows, emit)
    }
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        self.reader.extents(array)
    }
    fn close(&self) -> Result<()> {
        (self.close)(&self.arrays)
    }
}

/// Arrays that are fields of the same records.
#[derive(Default)]
pub struct Fields {
    /// Their places in the plan, and what each takes.
    pub fields: Vec<(usize, Element)>,
    /// Records of rank 0, whose fields may have rows of their own.
    pub scalar: bool,
    /// Records of a row.
    pub row_elements: u64,
}

impl Fields {
    /// Hands on the rows of every field of these records.
    ///
    /// # Errors
    /// What conversions find; those of `emit`.
    pub fn emit(&self, records: &Buf, rows: &Range<u64>, emit: Emit<'_>) -> Result<()> {
        for (array, element) in &self.fields {
            let count = if self.scalar { element.scalar_rows() } else { rows.end - rows.start };
            let packed = match &element.field {
                None => records.clone(),
                Some(_) => Buf::from_vec(element.pack_slice(records)),
            };
            let first =
                rows.start.saturating_mul(self.row_elements).saturating_mul(element.items());
            let elements = if self.scalar { 1 } else { count.saturating_mul(self.row_elements) };
            let values = element.values(packed, elements, first)?;
            emit(Chunk { array: *array, first_row: rows.start, rows: count, values, valid: None })?;
        }
        Ok(())
    }
}

/// Some records, at hand or to be read.
pub enum Records {
    /// Their bytes.
    Are(Buf),
    /// The only array of a reader.
    In(Arc<MapReader>),
}

/// Some records, taken apart.
pub struct FieldsJob {
    /// The records.
    pub records: Records,
    /// Which they are.
    pub rows: Range<u64>,
    /// Their bytes.
    pub bytes: u64,
    /// What is taken of them.
    pub fields: Arc<Fields>,
}

impl Job for FieldsJob {
    fn bytes(&self) -> u64 {
        let records = (self.rows.end - self.rows.start).saturating_mul(self.fields.row_elements);
        self.fields
            .fields
            .iter()
            .fold(self.bytes, |n, (_, e)| n.saturating_add(records.saturating_mul(e.extra_bytes())))
    }
    fn run(self: Box<Self>, emit: Emit<'_>) -> Result<()> {
        match &self.records {
            Records::Are(records) => self.fields.emit(records, &self.rows, emit),
            Records::In(reader) => {
                reader.read(0, self.rows.clone(), &mut |chunk| match &chunk.values {
                    Values::Fixed(records) => self.fields.emit(
                        records,
                        &(chunk.first_row..chunk.first_row + chunk.rows),
                        emit,
                    ),
                    _ => Err(Error::internal("records of different lengths")),
                })
            }
        }
    }
}
