//! Road 3: pieces are decoded and blocks encoded on all threads; what needs an order runs in turn.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use super::blocks::Blocks;
use super::cutter::Cutter;
use super::{Held, Rows, Settings, flush, through};
use crate::error::{Context, Error, Result, guard};
use crate::format::{Block, Emit, Encode, Encoded, Job, Order, Sink, Source, Stage, WriteRows};
use crate::model::{Chunk, Values};

type Decoded = Result<(Vec<Chunk>, Held)>;

/// Decodes the source's pieces on the pool and hands their chunks to `each` in order. Chunks whose
/// place is known go to `writer` right on the worker, if there is one; `each` then gets them
/// without values, to count them.
pub(super) fn decode(
    source: &mut dyn Source,
    arrays: &[usize],
    order: Order,
    settings: &Settings,
    pool: &rayon::ThreadPool,
    writer: Option<&Arc<dyn WriteRows>>,
    each: Emit<'_>,
) -> Result<()> {
    let piece = settings.piece_bytes();
    let names: Vec<String> = source.plan().arrays.iter().map(|a| a.name.clone()).collect();
    let mut cutter = source.random().map(|reader| Cutter::new(reader, arrays, order));
    let mut window: VecDeque<mpsc::Receiver<Decoded>> = VecDeque::new();
    let stop = Arc::new(AtomicBool::new(false));
    let _stop = StopOnDrop(stop.clone());
    let mut ready: Option<Box<dyn Job>> = None;
    let mut ended = false;
    loop {
        let mut done = None;
        while !ended && window.len() < 2 * settings.jobs + 2 {
            // What is decoded goes on at once: the next piece may come from a slow pipe.
            if let Some(decoded) = window.front().and_then(|front| front.try_recv().ok()) {
                window.pop_front();
                done = Some(decoded);
                break;
            }
            if ready.is_none() {
                ready = match &mut cutter {
                    Some(cutter) => cutter.next(source.plan(), piece)?,
                    None => source.next(piece)?,
                };
            }
            let Some(job) = ready.take() else {
                ended = true;
                break;
            };
            let bytes = job.bytes();
            let held = match settings.budget.try_take(bytes) {
                Some(held) => held,
                None if window.is_empty() => settings.budget.take_anyway(bytes),
                None => {
                    ready = Some(job);
                    break;
                }
            };
            let (send, receive) = mpsc::sync_channel(1);
            let (stop, writer, output) = (stop.clone(), writer.cloned(), settings.output.clone());
            pool.spawn_fifo(move || {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let mut chunks = Vec::new();
                let result = guard(|| {
                    job.run(&mut |mut chunk| {
                        if let Some(writer) =
                            writer.as_ref().filter(|_| chunk.first_row != Chunk::NEXT)
                        {
                            output.at(writer.write(&chunk))?;
                            chunk.values = Values::Fixed(Vec::<u8>::new().into());
                            chunk.valid = None;
                        }
                        chunks.push(chunk);
                        Ok(())
                    })
                });
                drop(writer);
                let _ = send.send(result.map(|()| (chunks, held)));
            });
            window.push_back(receive);
        }
        let decoded = match done {
            Some(decoded) => decoded,
            None => {
                let Some(front) = window.pop_front() else { return Ok(()) };
                front.recv().map_err(|_| Error::internal("a worker thread ended unexpectedly"))?
            }
        };
        let (chunks, held) = decoded?;
        for chunk in chunks {
            if let Some(cutter) = &mut cutter {
                cutter.saw(&chunk);
            }
            let array = chunk.array;
            each(chunk).map_err(|e| {
                if e.array_name().is_none() && names.len() == 1 {
                    e.array(&names[array])
                } else {
                    e
                }
            })?;
        }
        drop(held);
    }
}

/// Pieces not yet begun are dropped when the driver ends.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Road 3: what is left, in turn.
#[allow(clippy::too_many_arguments)]
pub(super) fn in_turn(
    source: &mut dyn Source,
    stages: &mut [Box<dyn Stage>],
    sink: &mut dyn Sink,
    wanted: Order,
    given: Order,
    rows: &mut Rows,
    settings: &Settings,
    pool: &rayon::ThreadPool,
) -> Result<()> {
    let names = rows.names.clone();
    let arrays: Vec<usize> = if stages.is_empty() {
        (0..names.len()).filter(|&a| !rows.done[a]).collect()
    } else {
        (0..source.plan().arrays.len()).collect()
    };
    if arrays.is_empty() && !names.is_empty() {
        return Ok(());
    }
    let writer = sink.random();
    // A sink that writes whole chunks of its own gets them whole, however the source cuts.
    let whole =
        writer.as_ref().filter(|w| (0..names.len()).any(|a| w.cut(a, 0) != u64::MAX)).cloned();
    if let Some(writer) = writer.filter(|_| whole.is_none()) {
        let straight = stages.is_empty().then_some(&writer);
        let row_bytes: Vec<u64> =
            source.plan().arrays.iter().map(|m| m.row_bytes().unwrap_or(0)).collect();
        let mut write = |mut chunk: Chunk| -> Result<()> {
            let known = chunk.first_row != Chunk::NEXT;
            rows.count(&mut chunk)?;
            let array = chunk.array;
            // What was written on the worker comes without values.
            let bytes = match straight.is_some() && known {
                true => chunk.rows.saturating_mul(row_bytes.get(array).copied().unwrap_or(0)),
                false => chunk.bytes(),
            };
            if straight.is_none() || !known {
                settings.output.at(writer.write(&chunk)).at_array(&names[array])?;
            }
            settings.moved(bytes, &names[array]);
            Ok(())
        };
        decode(source, &arrays, given, settings, pool, straight, &mut |chunk| {
            through(stages, chunk, &mut write)
        })?;
        return flush(stages, &mut write);
    }
    let (encoder, wanted): (Arc<dyn Encode>, Order) = match whole {
        Some(writer) => (Arc::new(Writing(writer)), Order::Any),
        None => (sink.encoder(), wanted),
    };
    let announced = rows.announced.clone();
    let mut blocks = Blocks::new(wanted, encoder.clone(), &announced, settings.piece_bytes());
    let mut appender = Appender {
        sink,
        encoder,
        window: VecDeque::new(),
        most: 2 * settings.jobs + 2,
        settings,
        pool,
        names: &names,
    };
    {
        let mut take = |mut chunk: Chunk| -> Result<()> {
            rows.count(&mut chunk)?;
            settings.moved(chunk.bytes(), &names[chunk.array]);
            blocks.push(chunk, &mut |block| appender.give(block))
        };
        decode(source, &arrays, given, settings, pool, None, &mut |chunk| {
            through(stages, chunk, &mut take)
        })?;
        flush(stages, &mut take)?;
    }
    blocks.finish(&mut |block| appender.give(block))?;
    appender.finish()
}

/// A sink's random access as an encoder: to encode a block is to write it.
struct Writing(Arc<dyn WriteRows>);

impl Encode for Writing {
    fn cut(&self, array: usize, row: u64) -> u64 {
        self.0.cut(array, row)
    }
    fn encode(&self, block: Block) -> Result<Encoded> {
        let array = block.columns.first().map_or(0, |c| c.0);
        for chunk in block.columns.iter().flat_map(|(_, chunks)| chunks) {
            self.0.write(chunk)?;
        }
        Ok(Encoded {
            first_row: block.first_row,
            rows: block.rows,
            array,
            payload: Box::new(Written),
        })
    }
}

/// Nothing is left to append.
struct Written;

/// Encodes blocks on the pool and appends them in turn.
struct Appender<'a> {
    sink: &'a mut dyn Sink,
    encoder: Arc<dyn Encode>,
    window: VecDeque<mpsc::Receiver<Result<(Encoded, Held)>>>,
    most: usize,
    settings: &'a Settings,
    pool: &'a rayon::ThreadPool,
    names: &'a [String],
}

impl Appender<'_> {
    fn give(&mut self, block: Block) -> Result<()> {
        // The rows, what they are made into on the way, and the encoded block.
        let bytes =
            3 * block.columns.iter().flat_map(|(_, chunks)| chunks).map(Chunk::bytes).sum::<u64>();
        // What waits to be appended counts, too: it is given back when it was.
        let held = loop {
            if self.window.len() < self.most
                && let Some(held) = self.settings.budget.try_take(bytes)
            {
                break held;
            }
            if self.window.is_empty() {
                break self.settings.budget.take_anyway(bytes);
            }
            self.append_front()?;
        };
        let (send, receive) = mpsc::sync_channel(1);
        let (encoder, output) = (self.encoder.clone(), self.settings.output.clone());
        self.pool.spawn_fifo(move || {
            let encoded = output.at(guard(|| encoder.encode(block)));
            // Nothing of the sink is held any more once the result is there: `finish` may count on
            // it.
            drop(encoder);
            let _ = send.send(encoded.map(|encoded| (encoded, held)));
        });
        self.window.push_back(receive);
        Ok(())
    }
    fn append_front(&mut self) -> Result<()> {
        let Some(front) = self.window.pop_front() else { return Ok(()) };
        let (encoded, _held) =
            front.recv().map_err(|_| Error::internal("a worker thread ended unexpectedly"))??;
        if encoded.payload.is::<Written>() {
            return Ok(());
        }
        let array = encoded.array;
        self.settings
            .output
            .at(self.sink.append(encoded))
            .map_err(|e| if self.names.len() == 1 { e.array(&self.names[array]) } else { e })
    }
    fn finish(mut self) -> Result<()> {
        while !self.window.is_empty() {
            self.append_front()?;
        }
        Ok(())
    }
}
