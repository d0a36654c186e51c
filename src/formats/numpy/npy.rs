//! NumPy's `.npy`: one array.
//! <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>
//!
//! The header's bytes are described in [`crate::codec::npy_header`]; behind it lie the values, in C
//! or Fortran order, in the byte order that the header says.
//!
//! Read: versions 1.0, 2.0 and 3.0; bool to complex128, float16, datetime64 and timedelta64; `U` as
//! text, `S` as binary, of more than one dimension as codes; fields of structured types become
//! arrays `NAME.field`; pickled objects as [`super::pickled`] says (a pickle is never run). Refused
//! by name: long double (its
//! bytes differ from machine to machine), void (bytes without a meaning). A file that several
//! arrays were saved to one after the other is refused: numpy itself reads the first alone.
//! Written: the header that numpy writes, byte for byte, then the values in C order, little-endian;
//! text as wide as the longest (`<U7`, `|S7`).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::array::Pieces;
use crate::array::raw::{ArraySpan, RawEncode, RawWriter, read_stream};
use crate::array::source::MapSource;
use crate::array::stream::StreamSource;
use crate::array::text_codes::coded;
use crate::codec::npy_header::{self, Header};
use crate::codec::numpy_types::Descr;
use crate::error::{Error, Result};
use crate::format::foreign_file;
use crate::format::{
    AppendBlocks, Arrays, BlockRows, Capabilities, CodedText, Extent, Format, Head, InOrder,
    Prepared, ReadOptions, Sink, Sniff, Source, Spec, Streams, Summary, WriteOptions, Writer,
    prepared,
};
use crate::formats::numpy::npy_data::Records;
use crate::formats::numpy::padded_text::{self, Columns, NpyArray, PaddedBlocks, PaddedRows};
use crate::formats::numpy::pickled;
use crate::model::{ArrayMeta, Buf, Logical, Plan};
use crate::storage::{self, BlobSlice, Location, Output};

/// The format.
pub struct Npy;

/// numpy's own types of time, and those of Arrow that are the same counts.
fn holds_logical(logical: &Logical) -> bool {
    matches!(
        logical,
        Logical::Datetime(_)
            | Logical::Timedelta(_)
            | Logical::Timestamp(_, None)
            | Logical::Duration(_)
    )
}

static SPEC: Spec = Spec {
    name: "npy",
    extensions: &["npy"],
    about: "NumPy array: versions 1 to 3, any order; structured types read as arrays",
    streams: Streams { input: true, output: true },
    writes: Some(Capabilities {
        arrays: Arrays::One,
        logical: holds_logical,
        max_rank: 64,
        coded_text: CodedText::Whole,
        rows_first: true,
        is_raw: true,
        ..Capabilities::DEFAULT
    }),
    ..Spec::DEFAULT
};

impl Format for Npy {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        Ok(if head.bytes.starts_with(npy_header::MAGIC) { Sniff::Yes } else { Sniff::No })
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        let head = at.head(4096)?;
        if let Some(error) = foreign_file::named(&head) {
            return Err(error);
        }
        let total = npy_header::header_bytes(&head)?;
        if at.is_stream() && total <= head.len() as u64 {
            let header = npy_header::parse(&head[..total as usize])?;
            let records = Records::new(&header, &at.stem())?;
            if let (false, Some(bytes)) = (records.is_fortran(), records.bytes) {
                let mut stream = at.stream()?;
                read_stream(&mut stream, total)?;
                let trailing =
                    Box::new(move |more| more_follows(total + bytes, &format!("{more} extra")));
                let plan = plan(&header, &records);
                let source = StreamSource::new(plan, records.stream(), stream, trailing);
                return Ok(coded(Box::new(source), options.resources.memory_bytes()));
            }
        }
        let blob = at.blob()?;
        let header = match head.get(..total as usize) {
            Some(bytes) => npy_header::parse(bytes)?,
            None if blob.len() < total => return Err(npy_header::truncated()),
            None => npy_header::parse(&blob.read_vec(0, total)?)?,
        };
        if header.descr == Descr::Simple("|O".into()) {
            let bytes = BlobSlice { start: total, len: blob.len() - total, blob };
            let found = pickled::of_npy(Arc::new(bytes), &header.shape, &at.stem(), options)?;
            return Ok(found.source("npy", Some(header.version), options));
        }
        let records = Records::new(&header, &at.stem())?;
        check_length(&records, header.data_offset, blob.len() - header.data_offset)?;
        let len = records.bytes.unwrap_or(blob.len() - header.data_offset);
        let slice: Arc<dyn Pieces> = Arc::new(BlobSlice { blob, start: header.data_offset, len });
        let memory = options.resources.memory_bytes();
        let source = MapSource::new(plan(&header, &records), records.maps(&slice), memory);
        Ok(coded(Box::new(source), memory))
    }
    fn prepare(&self, at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Prepared> {
        let [meta] = plan.arrays.as_slice() else {
            return Err(Error::usage(format!(
                "npy holds one array, the source has {}",
                plan.arrays.len()
            ))
            .hint("choose one with -a"));
        };
        padded_text::check("npy", meta)?;
        Ok(prepared(at, options, |at, plan, options| create(at, &plan.arrays[0], options)))
    }
}

fn create(at: &Location, meta: &ArrayMeta, options: &WriteOptions) -> Result<Box<dyn Sink>> {
    let NpyArray { header, place, padded } =
        NpyArray::new("npy", meta, options.resources.memory_bytes())?;
    let mut out = at.create_file(options.existing, options.sync)?;
    let columns = Arc::new(vec![padded]);
    let Some(file) = out.file() else {
        out.write_all(&header)?;
        let encoder = PaddedBlocks { inner: RawEncode, columns };
        return Ok(InOrder::sink(encoder, NpyStream { out, place, written: 0 }));
    };
    file.write_all_at(&header, 0)?;
    storage::set_size(&file, 0, place.offset + place.bytes)?;
    Ok(Box::new(NpyFile { out, file, place, columns }))
}

fn plan(header: &Header, records: &Records) -> Plan {
    Plan {
        format: "npy",
        format_version: Some(header.version.clone()),
        arrays: records.metas().to_vec().into(),
        ..Plan::default()
    }
}

/// Compares what the header promises with what is there.
fn check_length(records: &Records, start: u64, have: u64) -> Result<()> {
    match records.bytes {
        Some(want) if have < want => {
            let error = Error::corrupt(format!(
                "the file is truncated: the header declares {want} bytes of values, there are {have}"
            ));
            Err(error.hint("fetch the file again"))
        }
        Some(want) if have > want => {
            Err(more_follows(start + want, &format!("{} extra", have - want)))
        }
        _ => Ok(()),
    }
}

/// Bytes behind the array: `extra` says how many.
fn more_follows(end: u64, extra: &str) -> Error {
    Error::refused(format!("the array ends at byte {end}, and {extra} bytes follow it")).hint(
        "if several arrays were saved to this file one after the other, save them with numpy.savez",
    )
}

/// A local file, written by position.
struct NpyFile {
    out: Box<dyn Output>,
    file: Arc<File>,
    place: ArraySpan,
    /// Whether the one array is text.
    columns: Columns,
}

impl NpyFile {
    fn summary(place: &ArraySpan) -> Summary {
        Summary { bytes: place.offset + place.bytes, files: 1, notes: Vec::new() }
    }
}

impl Sink for NpyFile {
    fn writer(&self) -> Writer {
        let inner = RawWriter { places: vec![(self.file.clone(), self.place)] };
        Writer::Positional(Arc::new(PaddedRows { inner, columns: self.columns.clone() }))
    }
    fn slots(&self, array: usize) -> Option<Vec<Extent>> {
        self.columns[array].is_none().then(|| self.place.extent(&self.file))
    }
    fn finish(self: Box<Self>, _end: &Plan) -> Result<Summary> {
        self.out.commit()?;
        Ok(NpyFile::summary(&self.place))
    }
}

/// What has no positions.
struct NpyStream {
    out: Box<dyn Output>,
    place: ArraySpan,
    written: u64,
}

impl AppendBlocks for NpyStream {
    type Encoded = Vec<Buf>;
    fn append(&mut self, _rows: BlockRows, encoded: Vec<Buf>) -> Result<()> {
        for buf in encoded {
            self.out.write_all(&buf)?;
            self.written += buf.len() as u64;
        }
        Ok(())
    }
    fn finish(self, _end: &Plan) -> Result<Summary> {
        if self.written != self.place.bytes {
            return Err(Error::internal(format!(
                "{} bytes were written, {} were expected",
                self.written, self.place.bytes
            )));
        }
        self.out.commit()?;
        Ok(NpyFile::summary(&self.place))
    }
}
