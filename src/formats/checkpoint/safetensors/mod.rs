//! safetensors: named tensors behind a JSON header. <https://huggingface.co/docs/safetensors>
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | length N of the header, little-endian |
//! | 8..8+N | JSON: name → `{"dtype", "shape", "data_offsets": [begin, end]}`, and `__metadata__`: text → text; blanks at the end |
//! | 8+N.. | the values, C order, little-endian, without gaps; offsets count from here |
//!
//! Read: every type of the reference library; elements below a byte (F4, F6) as the bytes that hold
//! them. The order of the header is kept. Repeated keys, gaps, overlaps, and offsets that do not
//! fit shape or file are corrupt, as for the reference library. A checkpoint in shards (an index
//! file, a directory that holds one or all of `-0000N-of-0000M`) is one input. Written: tensors in
//! the order of the plan, data 8-aligned; metadata values that are no text as JSON text; shards
//! with an index where a size limit is given. Unsupported: complex128 and complex32, which the
//! format lacks.

use crate::array::raw::read_stream;
use crate::array::source::MapSource;
use crate::array::stream::{StreamArray, StreamSource};
use crate::array::{ArrayMap, Element, check_text};
use crate::error::{Context, Error, Result};
use crate::format::foreign_file;
use crate::format::{
    Capabilities, Format, Head, Prepared, ReadOptions, Sniff, Source, Spec, Streams, WriteOptions,
    prepared,
};
use crate::formats::checkpoint::shards;
use crate::model::{ArrayMeta, Attributes, Dtype, Logical, Plan};
use crate::storage::{Blob, BlobSlice, Location};

mod header;
mod write;

use header::{Header, METADATA};

/// The format.
pub struct Safetensors;

fn holds_logical(logical: &Logical) -> bool {
    matches!(logical, Logical::Packed { dtype, .. } if matches!(dtype.as_str(), "F4" | "F6_E2M3" | "F6_E3M2"))
}

static SPEC: Spec = Spec {
    name: "safetensors",
    extensions: &["safetensors", "safetensors.index.json"],
    about: "Tensors of Hugging Face, all types; sharded checkpoints with their index",
    streams: Streams { input: true, output: true },
    writes: Some(Capabilities {
        dtypes: Dtype::SAFETENSORS,
        logical: holds_logical,
        rows_first: true,
        is_raw: true,
        layout_flags: &["max-shard-size", "metadata"],
        keeps_attributes: true,
        ..Capabilities::DEFAULT
    }),
    ..Spec::DEFAULT
};

impl Format for Safetensors {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }
    fn sniff(&self, head: &Head<'_>) -> Result<Sniff> {
        if let Some(sniff) = write::SHARDS.sniff(head)? {
            return Ok(sniff);
        }
        let file_bytes = head.blob.map(|b| b.len());
        let plausible = header::header_bytes(head.bytes, file_bytes).is_ok_and(|len| len >= 2)
            && head.bytes.get(8) == Some(&b'{');
        let text = head.bytes.get(9..).unwrap_or_default().trim_ascii_start();
        Ok(if plausible && matches!(text.first(), Some(b'"' | b'}')) {
            Sniff::Yes
        } else {
            Sniff::No
        })
    }
    fn open(&self, at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
        match shards::find(at, &write::SHARDS, options.resources.memory_bytes())? {
            Some(found) => shards::open(found, "safetensors", options.on_duplicate, &|part| {
                open_one(part, options)
            }),
            None => open_one(at, options),
        }
    }
    fn prepare(&self, at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Prepared> {
        let reserved = plan.arrays.iter().filter(|a| a.name == METADATA).map(|a| {
            Error::refused("safetensors reserves this name")
                .array(&a.name)
                .hint("rename it with --rename")
        });
        Error::all(reserved.collect())?;
        Ok(prepared(at, options, write::create))
    }
}

/// Opens one file.
fn open_one(at: &Location, options: &ReadOptions) -> Result<Box<dyn Source>> {
    let head = at.head(4096)?;
    let memory_bytes = options.resources.memory_bytes();
    let check_header = |len| check_text("the header", len, memory_bytes);
    if let Some(error) = foreign_file::named(&head) {
        return Err(error);
    }
    if at.is_stream() {
        let len = header::header_bytes(&head, None)?;
        check_header(len)?;
        let mut stream = at.stream()?;
        read_stream(&mut stream, 8)?;
        let text = read_stream(&mut stream, len)?;
        let (plan, offsets) = arrays(header::parse(&text)?, 8 + len, None)?;
        let array = |(meta, &offset): (&ArrayMeta, &u64)| {
            let shape = meta.shape().unwrap_or_default();
            StreamArray { offset, shape, element: Element::plain(meta.dtype) }
        };
        let arrays = plan.arrays.iter().zip(&offsets).map(array).collect();
        let trailing =
            Box::new(|more| Error::corrupt(format!("{more} extra bytes follow the last tensor")));
        return Ok(Box::new(StreamSource::new(plan, arrays, stream, trailing)));
    }
    let blob = at.blob()?;
    let len = header::header_bytes(&head, Some(blob.len()))?;
    check_header(len)?;
    let text = match head.get(8..8 + len as usize) {
        Some(text) => text.to_vec(),
        None => blob.read_vec(8, len)?,
    };
    let (plan, offsets) = arrays(header::parse(&text)?, 8 + len, Some(blob.len()))?;
    let map = move |meta: &ArrayMeta, start: u64| {
        // That its bytes are a number was checked with its offset.
        let len = meta.bytes().ok().flatten().unwrap_or(0);
        let slice = BlobSlice { blob: blob.clone(), start, len };
        Some(ArrayMap::raw(&meta.shape().unwrap_or_default(), Element::plain(meta.dtype), slice))
    };
    let maps = move |plan: &Plan| {
        plan.arrays.iter().zip(&offsets).map(|(meta, &start)| map(meta, start)).collect()
    };
    Ok(Box::new(MapSource::with(plan, maps, memory_bytes)))
}

/// What one file holds, and where.
pub(in crate::formats::checkpoint) struct Places {
    /// Its metadata.
    pub attributes: Attributes,
    /// Its tensors, and the first byte of each.
    pub tensors: Vec<(ArrayMeta, u64)>,
}

/// Reads the header of one file.
///
/// # Errors
/// As for opening it.
pub(in crate::formats::checkpoint) fn places(blob: &dyn Blob, memory_bytes: u64) -> Result<Places> {
    let len = header::header_bytes(&blob.read_vec(0, blob.len().min(9))?, Some(blob.len()))?;
    check_text("the header", len, memory_bytes)?;
    let header = header::parse(&blob.read_vec(8, len)?)?;
    let (plan, offsets) = arrays(header, 8 + len, Some(blob.len()))?;
    let tensors = plan.arrays.into_iter().zip(offsets).collect();
    Ok(Places { attributes: Attributes::clone(&plan.attributes), tensors })
}

/// The arrays, and where each begins in the file; every byte of the data belongs to exactly one of
/// them.
fn arrays(header: Header, data_offset: u64, file_bytes: Option<u64>) -> Result<(Plan, Vec<u64>)> {
    let mut spans: Vec<(u64, u64, usize)> = header
        .tensors
        .iter()
        .enumerate()
        .map(|(i, (_, t))| (t.data_offsets.0, t.data_offsets.1, i))
        .collect();
    spans.sort_unstable();
    let mut due = 0;
    for &(begin, end, i) in &spans {
        if begin != due || end < begin {
            let what = if begin > due {
                "there is a gap before it"
            } else {
                "it overlaps with another tensor"
            };
            return Err(Error::corrupt(format!(
                "its data is at {begin}..{end}, expected to begin at {due}: {what}"
            ))
            .array(&header.tensors[i].0));
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
            return Err(Error::corrupt(format!(
                "{} extra bytes follow the last tensor",
                have - due
            )));
        }
    }
    let mut plan =
        Plan { format: "safetensors", attributes: header.metadata.into(), ..Plan::default() };
    let mut offsets = Vec::with_capacity(header.tensors.len());
    for (name, tensor) in &header.tensors {
        // An empty name is right here, and nowhere else.
        let named;
        let name = match name.is_empty() {
            true => {
                let taken = |n: &String| header.tensors.iter().any(|(name, _)| name == n);
                let others = (1u64..).map(|i| format!("unnamed_{i}"));
                let names = std::iter::once("unnamed".to_string()).chain(others);
                named = names.into_iter().find(|n| !taken(n)).unwrap_or_default();
                plan.notes.push(format!("the tensor without a name is called {named}"));
                &named
            }
            false => name,
        };
        let meta = header::meta(name, tensor).at_array(name)?;
        let offset = data_offset
            .checked_add(tensor.data_offsets.0)
            .ok_or_else(|| Error::corrupt("an offset is too large"))?;
        meta.bytes()?;
        offsets.push(offset);
        plan.arrays.push(meta);
    }
    Ok((plan, offsets))
}
