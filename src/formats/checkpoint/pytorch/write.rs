//! Writes the zip form, so that `torch.load` takes it with `weights_only=True` and `mmap=True`.
//!
//! | entry | what |
//! |---|---|
//! | `archive/data/N` | the bytes of storage N, at a multiple of 64, large ones of 4096 (the local header is padded by an extra field) |
//! | `archive/data.pkl` | the tree of tensors; behind the data, so that it can tell which storages are shared in the end |
//! | `archive/byteorder`, `archive/version` | `little`, `3\n` |
//!
//! To a local file: every storage's place is known at once; it is written by position, or copied by
//! the kernel. The checksum of what passed through here is given; that of what the kernel copied is
//! 0, "not given", as torch itself writes it with `compute_crc32` off and never checks it (reading
//! 1 GiB back would cost as much as copying it). Elsewhere: in turn, with data descriptors, as
//! torch does.
//!
//! Tied tensors share one storage if they are equal still: each is written behind the others,
//! compared in the end, and cut off again. Where only writing in turn is possible, they get
//! storages of their own, and a note.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::pickler::Pickler;
use super::structure;
use super::zip::{CHECKED_BYTES, CHECKED_IN_ALL_BYTES};
use crate::array::raw::{ArraySpan, RawEncode, RawWriter, fixed_bytes};
use crate::codec::zip::write::{Written, directory};
use crate::error::{Context, Error, Result, locked};
use crate::format::{
    AppendBlocks, BlockRows, Extent, InOrder, Sink, Summary, WriteOptions, WriteRows, Writer,
};
use crate::model::{ArrayMeta, Buf, Chunk, Plan};
use crate::storage::{self, Location, Output};

/// torch's own alignment, and that of storages large enough for pages to count: the kernel copies
/// whole pages faster.
const ALIGN: u64 = 64;
const PAGE: u64 = 4096;
const LARGE_BYTES: u64 = 64 << 10;

/// A stored record of the archive; its local header is at `offset`.
fn record(name: &str, offset: u64, bytes: u64) -> Written {
    let name = format!("archive/{name}");
    Written { name, method: 0, offset, crc: 0, stored_bytes: bytes, bytes, descriptor: false }
}

/// The record's local header, which its data follows at a multiple of its alignment.
fn local_header(record: &Written) -> Vec<u8> {
    record.local(if record.bytes < LARGE_BYTES { ALIGN } else { PAGE })
}

/// What [`Sink::finish`] needs beside the bytes.
struct Tree {
    arrays: Vec<ArrayMeta>,
    structure: Option<Value>,
    metadata: Vec<(String, String)>,
    single: bool,
    notes: Vec<String>,
}

impl Tree {
    fn new(plan: &Plan, options: &WriteOptions) -> Result<Tree> {
        if options.single && plan.arrays.len() != 1 {
            return Err(single_error(plan));
        }
        let names: HashSet<&str> = plan.arrays.iter().map(|a| a.name.as_str()).collect();
        if let Some((key, _)) =
            options.metadata.iter().find(|(key, _)| names.contains(key.as_str()))
        {
            return Err(Error::usage(format!(
                "the metadata key '{key}' is also the name of an array"
            )));
        }
        let mut notes = Vec::new();
        let structure = structure::of(plan, options).filter(|tree| {
            let fits = structure::names_all(tree, plan);
            if !fits {
                notes.push("arrays were renamed or added: the checkpoint is a flat dict, without its nesting and plain values".into());
            }
            fits
        });
        Ok(Tree {
            arrays: plan.arrays.to_vec(),
            structure,
            metadata: options.metadata.clone(),
            single: options.single,
            notes,
        })
    }

    /// The pickle, where array `i` is in storage `keys[i]`.
    fn pickle(&self, keys: &[usize]) -> Vec<u8> {
        let mut p = Pickler::new();
        let by_name: HashMap<&str, usize> =
            self.arrays.iter().enumerate().map(|(i, a)| (a.name.as_str(), i)).collect();
        let mut tensor = |p: &mut Pickler, name: &str| match by_name.get(name) {
            Some(&i) => {
                p.tensor(&self.arrays[i], keys[i]);
                true
            }
            None => false,
        };
        if self.single {
            if let Some(meta) = self.arrays.first() {
                p.tensor(meta, keys[0]);
            }
            return p.finish();
        }
        match &self.structure {
            Some(structure) => {
                p.value(structure, &mut tensor);
                // The root may be a list: then there is no place for further entries.
                if structure.get("dict").is_some() || structure.get("OrderedDict").is_some() {
                    self.extra(&mut p);
                }
            }
            None => {
                p.ordered_dict();
                p.items(&self.arrays, |p, meta| {
                    p.text(&meta.name);
                    tensor(p, &meta.name);
                });
                self.extra(&mut p);
            }
        }
        p.finish()
    }

    fn extra(&self, p: &mut Pickler) {
        p.items(&self.metadata, |p, (key, value)| {
            p.text(key);
            p.text(value);
        });
    }
}

/// The refusal of `--single` for more or less than one array.
pub(super) fn single_error(plan: &Plan) -> Error {
    let names: Vec<&str> = plan.arrays.iter().take(5).map(|a| a.name.as_str()).collect();
    let more = if plan.arrays.len() > 5 { ", …" } else { "" };
    Error::usage(format!(
        "--single writes one tensor, there are {}: {}{more}",
        plan.arrays.len(),
        names.join(", ")
    ))
    .hint("choose one with -a NAME")
}

/// Begins an output.
pub(super) fn create(at: &Location, plan: &Plan, options: &WriteOptions) -> Result<Box<dyn Sink>> {
    let tree = Tree::new(plan, options)?;
    let out = at.create_file(options.existing, options.sync)?;
    match out.file() {
        Some(file) => PlacedSink::new(out, file, tree).map(|s| Box::new(s) as Box<dyn Sink>),
        None => {
            let stream = StreamSink { out, tree, at: 0, entries: Vec::new(), open: None };
            Ok(InOrder::sink(RawEncode, stream))
        }
    }
    .at_file(&at.display())
}

/// To a local file, by position.
struct PlacedSink {
    out: Box<dyn Output>,
    file: Arc<File>,
    tree: Tree,
    writer: Arc<PlacedRows>,
    /// Per array the entry that holds it, and of which array it may be an alias.
    entries: Vec<Written>,
    entry_of: Vec<usize>,
    alias: Vec<Option<usize>>,
}

struct PlacedRows {
    raw: RawWriter,
    /// Per array the pieces written: where, how long, their checksum.
    pieces: Vec<Mutex<Vec<(u64, u64, u32)>>>,
}

impl WriteRows for PlacedRows {
    fn write(&self, chunk: &Chunk) -> Result<()> {
        let values = fixed_bytes(chunk)?;
        if values.is_empty() {
            return Ok(());
        }
        self.raw.write(chunk)?;
        let at = chunk.first_row * self.place(chunk.array).row_bytes;
        let piece = (at, values.len() as u64, crc32fast::hash(values));
        locked(&self.pieces[chunk.array]).push(piece);
        Ok(())
    }
}

impl PlacedRows {
    fn place(&self, array: usize) -> ArraySpan {
        self.raw.places[array].1
    }

    /// The checksum of an array that was written here as a whole; 0 otherwise (the kernel copied
    /// it).
    fn crc(&self, array: usize) -> u32 {
        let mut pieces = locked(&self.pieces[array]);
        pieces.sort_unstable();
        let (mut all, mut due) = (crc32fast::Hasher::new(), 0);
        for &(at, len, crc) in pieces.iter() {
            if at != due {
                return 0;
            }
            all.combine(&crc32fast::Hasher::new_with_initial_len(crc, len));
            due += len;
        }
        if due == self.place(array).bytes { all.finalize() } else { 0 }
    }

    /// The checksum of the bytes in the file.
    fn crc_of_file(&self, array: usize) -> Result<u32> {
        let place = self.place(array);
        let mut bytes = vec![0; place.bytes as usize];
        self.raw.places[array].0.read_exact_at(&mut bytes, place.offset)?;
        Ok(crc32fast::hash(&bytes))
    }

    /// Whether two arrays hold the same bytes.
    fn equal(&self, a: usize, b: usize) -> Result<bool> {
        let (file, (a, b)) = (&self.raw.places[a].0, (self.place(a), self.place(b)));
        let (mut x, mut y, mut at) = (vec![0; 1 << 18], vec![0; 1 << 18], 0);
        while at < a.bytes {
            let n = (a.bytes - at).min(x.len() as u64) as usize;
            file.read_exact_at(&mut x[..n], a.offset + at)?;
            file.read_exact_at(&mut y[..n], b.offset + at)?;
            if x[..n] != y[..n] {
                return Ok(false);
            }
            at += n as u64;
        }
        Ok(true)
    }
}

impl PlacedSink {
    fn new(out: Box<dyn Output>, file: Arc<File>, tree: Tree) -> Result<PlacedSink> {
        let arrays = &tree.arrays;
        let by_name: HashMap<&str, usize> =
            arrays.iter().enumerate().map(|(i, a)| (a.name.as_str(), i)).collect();
        let alias: Vec<Option<usize>> = arrays
            .iter()
            .enumerate()
            .map(|(i, meta)| {
                let first = *by_name.get(meta.details.alias_of.as_deref()?)?;
                let of = &arrays[first];
                let same = of.dtype == meta.dtype
                    && of.shape() == meta.shape()
                    && of.logical == meta.logical;
                (first != i && same && of.details.alias_of.is_none()).then_some(first)
            })
            .collect();
        // Aliases last, so that they can be cut off.
        let mut order: Vec<usize> = (0..arrays.len()).collect();
        order.sort_by_key(|&i| alias[i].is_some());
        let mut places = vec![ArraySpan::default(); arrays.len()];
        let (mut entries, mut entry_of, mut at) =
            (Vec::with_capacity(arrays.len()), vec![0; arrays.len()], 0u64);
        for i in order {
            let place = ArraySpan::of(&arrays[i], 0)?;
            let entry = record(&format!("data/{}", entries.len()), at, place.bytes);
            let too_large = || Error::failed("the checkpoint would pass 2^63 bytes");
            let data = at + local_header(&entry).len() as u64;
            at =
                data.checked_add(place.bytes).filter(|&end| end < 1 << 62).ok_or_else(too_large)?;
            places[i] = ArraySpan { offset: data, ..place };
            entry_of[i] = entries.len();
            entries.push(entry);
        }
        storage::set_size(&file, 0, at)?;
        let pieces = arrays.iter().map(|_| Mutex::default()).collect();
        let places = places.into_iter().map(|place| (file.clone(), place)).collect();
        let writer = Arc::new(PlacedRows { raw: RawWriter { places }, pieces });
        Ok(PlacedSink { out, file, tree, writer, entries, entry_of, alias })
    }
}

impl Sink for PlacedSink {
    fn writer(&self) -> Writer {
        Writer::Positional(self.writer.clone())
    }
    fn slots(&self, array: usize) -> Option<Vec<Extent>> {
        let place = self.writer.place(array);
        Some(if place.bytes == 0 { Vec::new() } else { place.extent(&self.file) })
    }
    fn finish(mut self: Box<Self>, _end: &Plan) -> Result<Summary> {
        let mut dropped = vec![false; self.entries.len()];
        let mut read = 0;
        for i in 0..self.alias.len() {
            let entry = &mut self.entries[self.entry_of[i]];
            entry.crc = self.writer.crc(i);
            if entry.crc == 0
                && (1..=CHECKED_BYTES).contains(&entry.bytes)
                && read < CHECKED_IN_ALL_BYTES
            {
                entry.crc = self.writer.crc_of_file(i)?;
                read += entry.bytes;
            }
            let Some(first) = self.alias[i] else { continue };
            if self.writer.equal(i, first)? {
                dropped[self.entry_of[i]] = true;
                self.entry_of[i] = self.entry_of[first];
            } else {
                let (a, b) = (&self.tree.arrays[i].name, &self.tree.arrays[first].name);
                self.tree.notes.push(format!(
                    "{a} was tied to {b}, but differs now: each gets its own storage"
                ));
            }
        }
        let mut at = 0;
        for (entry, _) in self.entries.iter().zip(&dropped).filter(|(_, dropped)| !**dropped) {
            let header = local_header(entry);
            self.file.write_all_at(&header, entry.offset)?;
            at = at.max(entry.offset + header.len() as u64 + entry.bytes);
        }
        let pickle = self.tree.pickle(&self.entry_of);
        let mut kept = dropped.iter();
        self.entries.retain(|_| !kept.next().copied().unwrap_or(false));
        let mut tail = Vec::new();
        last_records(&pickle, at, &mut self.entries, &mut tail);
        let end = at + tail.len() as u64;
        self.file.write_all_at(&tail, at)?;
        self.file.set_len(end)?;
        self.out.commit()?;
        Ok(Summary { bytes: end, files: 1, notes: self.tree.notes })
    }
}

/// The small records, the directory and the end of an archive whose data ends at `at`.
fn last_records(pickle: &[u8], at: u64, entries: &mut Vec<Written>, tail: &mut Vec<u8>) {
    for (name, bytes) in
        [("data.pkl", pickle), ("byteorder", b"little".as_slice()), ("version", b"3\n".as_slice())]
    {
        let mut entry = record(name, at + tail.len() as u64, bytes.len() as u64);
        entry.crc = crc32fast::hash(bytes);
        tail.extend(local_header(&entry));
        tail.extend_from_slice(bytes);
        entries.push(entry);
    }
    let start = at + tail.len() as u64;
    tail.extend(directory(entries, start));
}

/// In turn, to what has no positions.
struct StreamSink {
    out: Box<dyn Output>,
    tree: Tree,
    at: u64,
    entries: Vec<Written>,
    /// The entry being written: bytes so far, and their checksum.
    open: Option<(u64, crc32fast::Hasher)>,
}

impl StreamSink {
    /// Closes the entries before that of `array`, and opens it.
    fn turn(&mut self, array: usize) -> Result<()> {
        while self.entries.len() <= array {
            self.close()?;
            let index = self.entries.len();
            let bytes = ArraySpan::of(&self.tree.arrays[index], 0)?.bytes;
            let mut entry = record(&format!("data/{index}"), self.at, bytes);
            entry.descriptor = true;
            let header = local_header(&entry);
            self.out.write_all(&header)?;
            self.at += header.len() as u64;
            self.entries.push(entry);
            self.open = Some((0, crc32fast::Hasher::new()));
        }
        Ok(())
    }
    fn close(&mut self) -> Result<()> {
        if let (Some((bytes, crc)), Some(entry)) = (self.open.take(), self.entries.last_mut()) {
            if bytes != entry.bytes {
                return Err(Error::internal(format!(
                    "{bytes} bytes were written, {} were expected",
                    entry.bytes
                )));
            }
            entry.crc = crc.finalize();
            let descriptor = entry.trailer();
            self.out.write_all(&descriptor)?;
            self.at += bytes + descriptor.len() as u64;
        }
        Ok(())
    }
}

impl AppendBlocks for StreamSink {
    type Encoded = Vec<Buf>;
    fn append(&mut self, rows: BlockRows, encoded: Vec<Buf>) -> Result<()> {
        self.turn(rows.array)?;
        for buf in encoded {
            self.out.write_all(&buf)?;
            if let Some((bytes, crc)) = &mut self.open {
                *bytes += buf.len() as u64;
                crc.update(&buf);
            }
        }
        Ok(())
    }
    fn finish(mut self, _end: &Plan) -> Result<Summary> {
        let count = self.tree.arrays.len();
        if count > 0 {
            self.turn(count - 1)?;
        }
        self.close()?;
        let tied = self.tree.arrays.iter().filter(|a| a.details.alias_of.is_some()).count();
        if tied > 0 {
            self.tree.notes.push(format!("{tied} tied tensors have storages of their own: they are only shared in local files"));
        }
        let keys: Vec<usize> = (0..count).collect();
        let pickle = self.tree.pickle(&keys);
        let mut tail = Vec::new();
        last_records(&pickle, self.at, &mut self.entries, &mut tail);
        self.out.write_all(&tail)?;
        let bytes = self.at + tail.len() as u64;
        self.out.commit()?;
        Ok(Summary { bytes, files: 1, notes: self.tree.notes })
    }
}
