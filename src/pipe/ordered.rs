//! Strategy 3: pieces are decoded and blocks encoded on all threads; what needs an order is done in
//! order.

use std::collections::VecDeque;
use std::sync::{Arc, mpsc};

use super::blocks::Blocks;
use super::column_spool::{self, ColumnSpool};
use super::cutter::{Cuts, Sequence};
use super::memory::Memory;
use super::pool::pool;
use super::row_count::RowCount;
use super::settings::Settings;
use super::work::Work;
use crate::error::{Context, Error, Result, guard};
use crate::format::{Append, Block, Encode, Order, Sink, WriteRows, Writer};
use crate::model::{Chunk, Values};
use crate::resources::Reservation;

/// What is left, in order.
pub(super) fn in_order(
    work: &mut Work,
    sink: &mut dyn Sink,
    wanted: Order,
    rows: &mut RowCount,
    settings: &Settings,
) -> Result<()> {
    let names = rows.names.clone();
    let outputs: Vec<usize> = (0..names.len()).filter(|&a| !rows.done[a]).collect();
    if outputs.is_empty() && !names.is_empty() {
        return Ok(());
    }
    let memory = Memory::of(settings);
    let in_order = matches!(sink.writer(), Writer::InOrder(_));
    for meta in outputs.iter().map(|&a| &work.plan.arrays[a]) {
        let row = meta.row_bytes().unwrap_or(0);
        let fits = if in_order { memory.check_row_twice(row) } else { memory.check_row(row) };
        fits.at_array(&meta.name)?;
    }
    let has_cuts =
        |w: &Arc<dyn WriteRows>| outputs.iter().any(|&a| w.next_boundary(a, 0) != u64::MAX);
    let (encoder, wanted): (Arc<dyn Encode>, Order) = match sink.writer() {
        Writer::InOrder(encoder) => (encoder, wanted),
        // A sink that writes whole chunks of its own gets them whole, however the source cuts.
        Writer::Positional(writer) if has_cuts(&writer) => (Arc::new(Writing(writer)), Order::Any),
        Writer::Positional(writer) => {
            let row_bytes: Vec<u64> =
                work.plan.arrays.iter().map(|m| m.row_bytes().unwrap_or(0)).collect();
            return work.decode(&outputs, wanted, settings, Some(&writer), &mut |mut chunk| {
                rows.count(&mut chunk)?;
                let array = chunk.array;
                // What was written on the worker comes without values.
                let written = matches!(&chunk.values, Values::Fixed(values) if values.is_empty());
                let bytes = match written {
                    true => chunk.rows.saturating_mul(row_bytes[array]),
                    false => chunk.bytes(),
                };
                if !written {
                    settings.output.at(writer.write(&chunk)).at_array(&names[array])?;
                }
                settings.moved(bytes, &names[array]);
                Ok(())
            });
        }
    };
    let (wanted, sequence, mut columns) = match outputs.len() == names.len() {
        true => sequence(work, &outputs, wanted, &encoder, settings)?,
        false => (wanted, Sequence::Order(wanted), None),
    };
    let (announced, done, piece) = (&rows.announced, &rows.done, settings.piece_bytes());
    let items: Vec<usize> =
        work.plan.arrays.iter().map(|m| m.dtype.item_bytes() as usize).collect();
    let arrays = (announced.as_slice(), items.as_slice());
    let mut blocks = Blocks::new(wanted, encoder.clone(), arrays, done, piece, memory);
    let mut appender = Appender {
        encoder,
        window: VecDeque::new(),
        most: 2 * settings.resources.jobs() + 2,
        settings,
        pool: pool(settings)?,
        names: &names,
    };
    let mut push = |mut chunk: Chunk| {
        rows.count(&mut chunk)?;
        settings.moved(chunk.bytes(), &names[chunk.array]);
        blocks.push(chunk, &mut |block| appender.give(block))
    };
    work.decode(&outputs, sequence, settings, None, &mut |chunk| match &mut columns {
        Some(columns) => columns.push(&chunk, &mut push),
        None => push(chunk),
    })?;
    blocks.finish(&mut |block| appender.give(block))?;
    appender.finish()
}

/// In which order the chunks of all outputs go to the encoder, in which they come, and what is in
/// between.
fn sequence(
    work: &Work,
    outputs: &[usize],
    wanted: Order,
    encoder: &Arc<dyn Encode>,
    settings: &Settings,
) -> Result<(Order, Sequence, Option<ColumnSpool>)> {
    if wanted != Order::RowBlocks {
        return Ok((wanted, Sequence::Order(wanted), None));
    }
    if work.goes_by_groups(outputs) && encoder.takes_groups() {
        let encoder = encoder.clone();
        let cuts: Cuts = Arc::new(move |row| encoder.next_boundary(0, row));
        return Ok((Order::Any, Sequence::Groups(cuts), None));
    }
    let Some(cuts) = column_spool::cuts(work, outputs, settings)? else {
        return Ok((wanted, Sequence::Order(wanted), None));
    };
    let spool = ColumnSpool::new(&work.plan, cuts.clone(), encoder.clone(), settings);
    Ok((wanted, Sequence::Groups(cuts), Some(spool)))
}

/// A sink's random access as an encoder: to encode a block is to write it.
struct Writing(Arc<dyn WriteRows>);

impl Encode for Writing {
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        self.0.next_boundary(array, row)
    }
    fn encode(self: Arc<Self>, block: Block) -> Result<Append> {
        for chunk in block.columns.iter().flat_map(|(_, chunks)| chunks) {
            self.0.write(chunk)?;
        }
        Ok(Box::new(|| Ok(())))
    }
}

/// What a piece of a block takes beside its values, and what is made of it.
const CHUNK_BYTES: u64 = 1 << 10;

/// Encodes blocks on the pool and appends them in turn.
struct Appender<'a> {
    encoder: Arc<dyn Encode>,
    /// Per block its array, and what is made of it.
    window: VecDeque<(usize, mpsc::Receiver<Result<(Append, Reservation)>>)>,
    most: usize,
    settings: &'a Settings,
    pool: &'a rayon::ThreadPool,
    names: &'a [String],
}

impl Appender<'_> {
    fn give(&mut self, block: Block) -> Result<()> {
        // The rows, what they are made into on the way, and the encoded block.
        let chunks = || block.columns.iter().flat_map(|(_, chunks)| chunks);
        let all: u64 = chunks().map(Chunk::bytes).sum();
        Memory::of(self.settings).check_rows(block.rows, all)?;
        // Of thousands of columns the pieces themselves take more than their few values.
        let beside = CHUNK_BYTES.saturating_mul(chunks().count() as u64);
        let bytes = all.saturating_mul(3).saturating_add(beside);
        // What waits to be appended counts, too: it is given back when it was.
        let held = loop {
            if self.window.len() < self.most
                && let Some(held) = self.settings.resources.budget().try_acquire(bytes)
            {
                break held;
            }
            if self.window.is_empty() {
                break self.settings.resources.budget().force_acquire(bytes);
            }
            self.append_front()?;
        };
        let array = block.columns.first().map_or(0, |(array, _)| *array);
        let (send, receive) = mpsc::sync_channel(1);
        let (encoder, output) = (self.encoder.clone(), self.settings.output.clone());
        self.pool.spawn_fifo(move || {
            let encoded = output.at(guard(|| encoder.encode(block)));
            let _ = send.send(encoded.map(|append| (append, held)));
        });
        self.window.push_back((array, receive));
        // What is as large as all memory goes before the next is read.
        if bytes > self.settings.resources.budget().total() { self.append_front() } else { Ok(()) }
    }
    fn append_front(&mut self) -> Result<()> {
        let Some((array, front)) = self.window.pop_front() else { return Ok(()) };
        let (append, _held) =
            front.recv().map_err(|_| Error::internal("a worker thread ended unexpectedly"))??;
        self.settings
            .output
            .at(append())
            .map_err(|e| if self.names.len() == 1 { e.array(&self.names[array]) } else { e })
    }
    fn finish(mut self) -> Result<()> {
        while !self.window.is_empty() {
            self.append_front()?;
        }
        Ok(())
    }
}
