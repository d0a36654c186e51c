//! NumPy's `.npy`: one array. <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>
//!
//! The header's bytes are described in [`crate::codec::npy_header`]; behind it lie the values, in C or Fortran order,
//! in the byte order that the header says.
//!
//! Read: versions 1.0, 2.0 and 3.0; bool to complex128, float16, datetime64 and timedelta64; `U` as text, `S` as binary;
//! fields of structured types become arrays `NAME.field`. Refused by name: pickled objects (a pickle is never run), long
//! double (its bytes differ from machine to machine), void (bytes without a meaning), strings of more than one dimension.
//! A file that several arrays were saved to one after the other is refused: numpy itself reads the first alone.
//! Written: the header that numpy writes, byte for byte, then the values in C order, little-endian.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::codec::foreign;
use crate::codec::npy_data::{NpyReader, Records};
use crate::codec::npy_header::{self, Header};
use crate::codec::raw::{At, Place, RawEncode, RawWriter, Ready, read_stream, write_encoded};
use crate::error::{Error, Result};
use crate::format::{
    Arrays, Emit, Encode, Encoded, Extent, Format, Head, Holds, Job, Order, ReadOptions, ReadRows, Sink, Sniff, Source, Streams, Summary,
    WriteOptions, WriteRows, readable,
};
use crate::location::{Location, Output};
use crate::model::{Chunk, Dtype, Logical, Plan};

/// The format.
pub struct Npy;

static HOLDS: Holds = Holds {
    arrays: Arrays::One,
    dtypes: Dtype::NUMPY,
    logical: holds_logical,
    nulls: false,
    scalars: true,
    max_rank: 64,
    sidecar: false,
    order: Order::ArrayByArray,
    rows_first: true,
};

/// numpy's own types of time, and those of Arrow that are the same counts.
fn holds_logical(logical: &Logical) -> bool {
    matches!(logical, Logical::Datetime(_) | Logical::Timedelta(_) | Logical::Timestamp(_, None) | Logical::Duration(_))
}

impl Format for Npy {
    fn name(&self) -> &'static str {
        "npy"
    }
    fn extensions(&self) -> &'static [&'static str] {
        &["npy"]
    }
    fn about(&self) -> &'static str {
        "NumPy array: versions 1 to 3, any order; structured types read as arrays"
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        Ok(if head.bytes.starts_with(npy_header::MAGIC) { Sniff::Yes } else { Sniff::No })
    }
    fn streams(&self) -> Streams {
        Streams { input: true, output: true }
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        let head = at.head(4096)?;
        if let Some(error) = foreign::named(&head) {
            return Err(error);
        }
        let total = npy_header::header_bytes(&head)?;
        if at.is_stream() && total <= head.len() as u64 {
            let header = npy_header::parse(&head[..total as usize])?;
            let records = Records::new(&header, &at.stem())?;
            if !records.fortran && records.bytes.is_some() {
                let mut stream = at.stream()?;
                read_stream(&mut stream, total)?;
                return Ok(Box::new(NpySource::new(&header, Body::Stream { stream, records, row: 0 })));
            }
        }
        let blob = at.blob()?;
        let header = match head.get(..total as usize) {
            Some(bytes) => npy_header::parse(bytes)?,
            None => npy_header::parse(&blob.read_vec(0, total)?)?,
        };
        let records = Records::new(&header, &at.stem())?;
        check_length(&records, header.data_offset, blob.len() - header.data_offset)?;
        let reader = NpyReader::new(records, blob, header.data_offset, options.memory_bytes);
        Ok(Box::new(NpySource::new(&header, Body::File(Arc::new(reader)))))
    }
    fn is_raw(&self) -> bool {
        true
    }
    fn holds(&self) -> Option<&'static Holds> {
        Some(&HOLDS)
    }
    fn create(&self, at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Box<dyn Sink>> {
        let [meta] = plan.arrays.as_slice() else {
            return Err(Error::usage(format!("npy holds one array, the source has {}", plan.arrays.len())).hint("choose one with -a"));
        };
        let unsupported = || Error::refused(format!("npy cannot hold {}", meta.type_name())).array(&meta.name);
        let spelled = npy_header::spell(meta.dtype, &meta.logical).ok_or_else(unsupported)?;
        let shape = meta.shape().ok_or_else(|| Error::internal("the row count is not known"))?;
        let header = npy_header::write(&spelled, &shape);
        let place = Place::of(meta, header.len() as u64)?;
        let mut out = at.create_file(options.existing, options.sync)?;
        let file = out.file();
        match &file {
            Some(file) => {
                file.write_all_at(&header, 0)?;
                file.set_len(place.offset + place.bytes)?;
            }
            None => out.write_all(&header)?,
        }
        Ok(Box::new(NpySink { out, file, place, written: 0 }))
    }
}

/// Bytes after an array on a pipe that are counted.
const MOST_FOLLOWING: u64 = 1 << 30;

/// Compares what the header promises with what is there.
fn check_length(records: &Records, start: u64, have: u64) -> Result<()> {
    match records.bytes {
        Some(want) if have < want => Err(Error::corrupt(format!("the header declares {want} bytes of values, the file has {have}"))),
        Some(want) if have > want => Err(more_follows(start + want, &format!("{} extra", have - want))),
        _ => Ok(()),
    }
}

/// Bytes behind the array: `extra` says how many.
fn more_follows(end: u64, extra: &str) -> Error {
    Error::refused(format!("the array ends at byte {end}, and {extra} bytes follow it"))
        .hint("if several arrays were saved to this file one after the other, save them with numpy.savez")
}

struct NpySource {
    plan: Plan,
    body: Body,
    wanted: Vec<usize>,
    /// Fields of a record are read side by side, each record once.
    together: bool,
    row: u64,
    /// Where the values begin.
    data_offset: u64,
}

enum Body {
    File(Arc<NpyReader>),
    Stream { stream: Box<dyn Read + Send>, records: Records, row: u64 },
}

impl NpySource {
    fn new(header: &Header, body: Body) -> NpySource {
        let arrays = match &body {
            Body::File(reader) => reader.records.metas().to_vec(),
            Body::Stream { records, .. } => records.metas().to_vec(),
        };
        let plan = Plan { format: "npy", format_version: Some(header.version.clone()), arrays, ..Plan::default() };
        NpySource { plan, body, wanted: Vec::new(), together: false, row: 0, data_offset: header.data_offset }
    }
}

impl Source for NpySource {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn want(&mut self, arrays: &[usize], wish: Order) -> Result<Order> {
        for &a in arrays {
            readable(&self.plan.arrays[a])?;
        }
        self.wanted = arrays.to_vec();
        match &self.body {
            Body::File(reader) => {
                self.together = wish != Order::ArrayByArray && arrays.len() > 1 && !reader.records.fortran;
                Ok(wish)
            }
            Body::Stream { .. } => Ok(Order::RowBlocks),
        }
    }
    fn next(&mut self, max_bytes: u64) -> Result<Option<Box<dyn Job>>> {
        let records = match &self.body {
            Body::File(reader) => &reader.records,
            Body::Stream { records, .. } => records,
        };
        let total = records.rows;
        let rows = (max_bytes / records.row_bytes().saturating_mul(2).max(16)).max(1);
        match &mut self.body {
            Body::File(reader) => {
                if self.row >= total || self.wanted.is_empty() {
                    return Ok(None);
                }
                let range = self.row..total.min(self.row + rows);
                self.row = range.end;
                let source = RecordSource::File(reader.clone());
                Ok(Some(Box::new(RecordJob { source, rows: range, wanted: self.wanted.clone() })))
            }
            Body::Stream { stream, records, row } => {
                if *row >= total {
                    return Ok(None);
                }
                let range = *row..total.min(*row + rows);
                *row = range.end;
                let raw = read_stream(stream, (range.end - range.start) * records.row_bytes())?;
                if let ([array], true) = (self.wanted.as_slice(), records.is_raw()) {
                    return Ok(Some(Box::new(Ready(Chunk::fixed(
                        *array,
                        range.start,
                        records.rows_of(*array, range.end - range.start),
                        raw,
                    )))));
                }
                let source = RecordSource::Memory(records.clone(), raw);
                Ok(Some(Box::new(RecordJob { source, rows: range, wanted: self.wanted.clone() })))
            }
        }
    }
    fn random(&self) -> Option<Arc<dyn ReadRows>> {
        match &self.body {
            Body::File(reader) if !self.together => Some(reader.clone()),
            _ => None,
        }
    }
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        match &self.body {
            Body::File(reader) => reader.extents(array),
            Body::Stream { .. } => None,
        }
    }
    fn close(&mut self) -> Result<()> {
        match &mut self.body {
            Body::Stream { stream, records, row } if *row >= records.rows => {
                // To its end: a damaged compression may show only there.
                let more = std::io::copy(&mut Read::take(stream, MOST_FOLLOWING), &mut std::io::sink()).map_err(Error::reading)?;
                let end = self.data_offset + records.bytes.unwrap_or(0);
                if more == 0 { Ok(()) } else { Err(more_follows(end, &format!("{more} extra"))) }
            }
            _ => Ok(()),
        }
    }
}

enum RecordSource {
    File(Arc<NpyReader>),
    Memory(Records, Vec<u8>),
}

/// Some records, taken apart.
struct RecordJob {
    source: RecordSource,
    rows: std::ops::Range<u64>,
    wanted: Vec<usize>,
}

impl Job for RecordJob {
    fn bytes(&self) -> u64 {
        let records = match &self.source {
            RecordSource::File(reader) => &reader.records,
            RecordSource::Memory(records, _) => records,
        };
        let count = self.rows.end - self.rows.start;
        self.wanted.iter().fold(count.saturating_mul(records.row_bytes()), |n, &a| n.saturating_add(records.decoded_bytes(a, count)))
    }
    fn run(self: Box<Self>, emit: Emit<'_>) -> Result<()> {
        let (records, raw) = match &self.source {
            RecordSource::File(reader) => (&reader.records, reader.raw(self.rows.clone())?),
            RecordSource::Memory(records, raw) => (records, raw.clone()),
        };
        let count = self.rows.end - self.rows.start;
        for &array in &self.wanted {
            let values = records.values_of(array, count, &raw)?;
            emit(Chunk { array, first_row: self.rows.start, rows: records.rows_of(array, count), values, valid: None })?;
        }
        Ok(())
    }
}

struct NpySink {
    out: Box<dyn Output>,
    file: Option<Arc<File>>,
    place: Place,
    written: u64,
}

impl Sink for NpySink {
    fn encoder(&self) -> Arc<dyn Encode> {
        Arc::new(RawEncode)
    }
    fn append(&mut self, encoded: Encoded) -> Result<()> {
        match &self.file {
            // By position in any case: the output's own writer is not mixed with it.
            Some(file) => {
                let mut at = At { file, offset: self.place.offset + self.written };
                self.written += write_encoded(&mut at, encoded)?;
            }
            None => self.written += write_encoded(&mut self.out, encoded)?,
        }
        Ok(())
    }
    fn random(&self) -> Option<Arc<dyn WriteRows>> {
        let file = self.file.clone()?;
        Some(Arc::new(RawWriter { places: vec![(file, self.place)] }))
    }
    fn slots(&self, _array: usize) -> Option<Vec<Extent>> {
        Some(self.place.extent(self.file.as_ref()?))
    }
    fn finish(self: Box<Self>, _end: &Plan) -> Result<Summary> {
        if self.file.is_none() && self.written != self.place.bytes {
            return Err(Error::internal(format!("{} bytes were written, {} were expected", self.written, self.place.bytes)));
        }
        self.out.commit()?;
        Ok(Summary { bytes: self.place.offset + self.place.bytes, files: 1, notes: Vec::new() })
    }
}
