//! safetensors: named tensors behind a JSON header. <https://huggingface.co/docs/safetensors>
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | length N of the header, little-endian |
//! | 8..8+N | JSON: name → `{"dtype", "shape", "data_offsets": [begin, end]}`, and `__metadata__`: text → text; blanks at the end |
//! | 8+N.. | the values, C order, little-endian, without gaps; offsets count from here |
//!
//! Read: every type of the reference library; elements below a byte (F4, F6) as the bytes that hold them. The order of the
//! header is kept. Repeated keys, gaps, overlaps, and offsets that do not fit shape or file are corrupt, as for the
//! reference library. A checkpoint in shards (an index file, a directory that holds one or all of `-0000N-of-0000M`) is
//! one input.
//! Written: tensors in the order of the plan, data 8-aligned; metadata values that are no text as JSON text; shards with
//! an index where a size limit is given. Unsupported: complex128 and complex32, which the format lacks.

use std::io::Read;
use std::sync::Arc;

use crate::codec::raw::{Place, RawReader, Ready, expect_end, read_stream, skip_stream};
use crate::codec::{foreign, shards};
use crate::error::{Context, Error, Result};
use crate::format::{
    Arrays, Extent, Format, Head, Holds, Job, Order, ReadOptions, ReadRows, Sink, Sniff, Source, Streams, WriteOptions, readable,
};
use crate::location::Location;
use crate::model::{Chunk, Logical, Plan};

mod header;
mod write;

use header::{Header, METADATA};

/// The format.
pub struct Safetensors;

static HOLDS: Holds = Holds {
    arrays: Arrays::Many,
    dtypes: header::DTYPES,
    logical: holds_logical,
    nulls: false,
    scalars: true,
    max_rank: usize::MAX,
    sidecar: false,
    order: Order::ArrayByArray,
    rows_first: true,
};

fn holds_logical(logical: &Logical) -> bool {
    matches!(logical, Logical::Packed { dtype, .. } if matches!(dtype.as_str(), "F4" | "F6_E2M3" | "F6_E3M2"))
}

/// How this format's shards are called.
const SHARDS: shards::Naming = shards::Naming { extension: "safetensors" };

impl Format for Safetensors {
    fn name(&self) -> &'static str {
        "safetensors"
    }
    fn extensions(&self) -> &'static [&'static str] {
        &["safetensors", "safetensors.index.json"]
    }
    fn about(&self) -> &'static str {
        "Tensors of Hugging Face, all types; sharded checkpoints with their index"
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        if head.bytes.is_empty() {
            return Ok(if shards::is_sharded(head.location, &SHARDS)? { Sniff::Yes } else { Sniff::No });
        }
        if SHARDS.is_index(&head.location.file_name()) {
            return Ok(Sniff::Yes);
        }
        let file_bytes = head.blob.map(|b| b.len());
        let plausible = header::header_bytes(head.bytes, file_bytes).is_ok_and(|len| len >= 2) && head.bytes.get(8) == Some(&b'{');
        let text = head.bytes.get(9..).unwrap_or_default().trim_ascii_start();
        Ok(if plausible && matches!(text.first(), Some(b'"' | b'}')) { Sniff::Yes } else { Sniff::No })
    }
    fn streams(&self) -> Streams {
        Streams { input: true, output: true }
    }
    fn keeps_attributes(&self) -> bool {
        true
    }
    fn layout_flags(&self) -> &'static [&'static str] {
        &["max-shard-size", "metadata"]
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        match shards::find(at, &SHARDS)? {
            Some(found) => shards::open(found, "safetensors", options.on_duplicate, &|part| open_one(part)),
            None => open_one(at),
        }
    }
    fn is_raw(&self) -> bool {
        true
    }
    fn holds(&self) -> Option<&'static Holds> {
        Some(&HOLDS)
    }
    fn refuse(&self, _at: &Location, plan: &Plan, _options: &WriteOptions) -> Vec<Error> {
        let reserved = plan.arrays.iter().filter(|a| a.name == METADATA);
        reserved.map(|a| Error::refused("safetensors reserves this name").array(&a.name).hint("rename it with --rename")).collect()
    }
    fn create(&self, at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Box<dyn Sink>> {
        write::create(at, plan, options)
    }
}

/// Opens one file.
fn open_one(at: &Location) -> Result<Box<dyn Source>> {
    let head = at.head(4096)?;
    if let Some(error) = foreign::named(&head) {
        return Err(error);
    }
    if at.is_stream() {
        let len = header::header_bytes(&head, None)?;
        let mut stream = at.stream()?;
        read_stream(&mut stream, 8)?;
        let text = read_stream(&mut stream, len)?;
        let (plan, places) = arrays(header::parse(&text)?, 8 + len, None)?;
        let mut turns: Vec<usize> = (0..places.len()).collect();
        turns.sort_by_key(|&a| (places[a].offset, places[a].bytes));
        let body = Body::Stream { stream, turns, turn: 0, row: 0 };
        return Ok(Box::new(TensorSource { plan, places, body, wanted: Vec::new() }));
    }
    let blob = at.blob()?;
    let len = header::header_bytes(&head, Some(blob.len()))?;
    let text = match head.get(8..8 + len as usize) {
        Some(text) => text.to_vec(),
        None => blob.read_vec(8, len)?,
    };
    let (plan, places) = arrays(header::parse(&text)?, 8 + len, Some(blob.len()))?;
    let reader = Arc::new(RawReader { blob, places: places.clone() });
    Ok(Box::new(TensorSource { plan, places, body: Body::File(reader), wanted: Vec::new() }))
}

/// The arrays and their places; every byte of the data belongs to exactly one of them.
fn arrays(header: Header, data_offset: u64, file_bytes: Option<u64>) -> Result<(Plan, Vec<Place>)> {
    let mut spans: Vec<(u64, u64, usize)> =
        header.tensors.iter().enumerate().map(|(i, (_, t))| (t.data_offsets.0, t.data_offsets.1, i)).collect();
    spans.sort_unstable();
    let mut due = 0;
    for &(begin, end, i) in &spans {
        if begin != due || end < begin {
            let what = if begin > due { "there is a gap before it" } else { "it overlaps with another tensor" };
            return Err(
                Error::corrupt(format!("its data is at {begin}..{end}, expected to begin at {due}: {what}")).array(&header.tensors[i].0)
            );
        }
        due = end;
    }
    if let Some(all) = file_bytes {
        let have = all - data_offset;
        if have < due {
            return Err(Error::corrupt(format!("the file is truncated: the header declares {due} bytes of tensors, the file has {have}"))
                .hint("fetch the file again"));
        }
        if have > due {
            return Err(Error::corrupt(format!("{} extra bytes follow the last tensor", have - due)));
        }
    }
    let mut plan = Plan { format: "safetensors", attributes: header.metadata, ..Plan::default() };
    let mut places = Vec::with_capacity(header.tensors.len());
    for (name, tensor) in &header.tensors {
        if name.is_empty() {
            return Err(Error::corrupt("a tensor has an empty name"));
        }
        let meta = header::meta(name, tensor).at_array(name)?;
        let offset = data_offset.checked_add(tensor.data_offsets.0).ok_or_else(|| Error::corrupt("an offset is too large"))?;
        places.push(Place::of(&meta, offset)?);
        plan.arrays.push(meta);
    }
    Ok((plan, places))
}

struct TensorSource {
    plan: Plan,
    places: Vec<Place>,
    body: Body,
    wanted: Vec<bool>,
}

enum Body {
    File(Arc<RawReader>),
    Stream {
        stream: Box<dyn Read + Send>,
        /// The arrays in the order of their bytes.
        turns: Vec<usize>,
        turn: usize,
        row: u64,
    },
}

impl Source for TensorSource {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn want(&mut self, arrays: &[usize], wish: Order) -> Result<Order> {
        self.wanted = vec![false; self.plan.arrays.len()];
        for &a in arrays {
            readable(&self.plan.arrays[a])?;
            self.wanted[a] = true;
        }
        Ok(match &self.body {
            Body::File(_) => wish,
            Body::Stream { turns, .. } => {
                let order: Vec<usize> = turns.iter().copied().filter(|&a| self.wanted[a]).collect();
                if order.is_sorted() { Order::ArrayByArray } else { Order::Any }
            }
        })
    }
    fn next(&mut self, max_bytes: u64) -> Result<Option<Box<dyn Job>>> {
        let Body::Stream { stream, turns, turn, row } = &mut self.body else { return Ok(None) };
        while let Some(&array) = turns.get(*turn) {
            let place = self.places[array];
            let done = *row * place.row_bytes;
            if place.bytes == 0 || done >= place.bytes {
                *turn += 1;
                *row = 0;
                continue;
            }
            let name = &self.plan.arrays[array].name;
            if !self.wanted.get(array).copied().unwrap_or(false) {
                skip_stream(stream, place.bytes - done).at_array(name)?;
                *turn += 1;
                continue;
            }
            let rows = (max_bytes / place.row_bytes).max(1).min((place.bytes - done) / place.row_bytes);
            let bytes = read_stream(stream, rows * place.row_bytes).at_array(name)?;
            let first = *row;
            *row += rows;
            return Ok(Some(Box::new(Ready(Chunk::fixed(array, first, rows, bytes)))));
        }
        Ok(None)
    }
    fn random(&self) -> Option<Arc<dyn ReadRows>> {
        match &self.body {
            Body::File(reader) => Some(reader.clone()),
            Body::Stream { .. } => None,
        }
    }
    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        match &self.body {
            Body::File(reader) => Some(self.places[array].extent(reader.blob.file()?)),
            Body::Stream { .. } => None,
        }
    }
    fn close(&mut self) -> Result<()> {
        match &mut self.body {
            Body::Stream { stream, turns, turn, .. } if *turn >= turns.len() => expect_end(stream),
            _ => Ok(()),
        }
    }
}
