//! Roads 1 and 2: the kernel copies bytes that need no change; rows that both ends place by
//! position go on all threads.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::{
    Failure, OutputName, RowBytes, Rows, SMALL_BYTES, Settings, copy, piece_end, read_exactly,
};
use crate::error::{Context, Result, guard};
use crate::format::{Extent, ReadRows, Sink, Source, WriteRows};

/// A piece of road 1 or 2.
enum Task {
    /// From where to where; whether other pieces go into the same file.
    Copy(usize, Extent, Extent, copy::Target, bool),
    Rows(usize, Range<u64>, u64),
}

/// The pieces of roads 1 and 2, made array by array in turn: files are open for the arrays at work
/// only, not for ten thousand of them at once.
struct Tasks<'a> {
    source: &'a mut dyn Source,
    sink: &'a mut dyn Sink,
    rows: &'a mut Rows,
    reader: Option<Arc<dyn ReadRows>>,
    writer: Option<Arc<dyn WriteRows>>,
    piece: u64,
    /// The most bytes of one copy: arrays go whole, each thread into a file of its own, as long as
    /// all threads have some.
    copy_piece: u64,
    jobs: usize,
    output: OutputName,
    at: usize,
    copies: VecDeque<(Extent, Extent)>,
    target: Option<copy::Target>,
    /// The first row not yet given of array `at`, where it goes by rows.
    row: Option<u64>,
    row_bytes: RowBytes,
}

impl Tasks<'_> {
    fn next(&mut self) -> Result<Option<Task>> {
        loop {
            let plan = self.source.plan();
            let Some(meta) = plan.arrays.get(self.at) else { return Ok(None) };
            if let Some((from, to)) = self.copies.pop_front() {
                let target = copy::Target::of(&to, self.target.as_ref(), &self.output);
                let shared = self.jobs > 1
                    && (!self.copies.is_empty()
                        || self.target.as_ref().is_some_and(|last| last.is(&target)));
                self.target = Some(target.clone());
                return Ok(Some(Task::Copy(self.at, from, to, target, shared)));
            }
            if let (Some(row), Some(reader), Some(writer), Some(total)) =
                (self.row, &self.reader, &self.writer, meta.rows)
                && row < total
            {
                let a = self.at;
                if writer.cut(a, row) == u64::MAX
                    && let Some(piece) = reader.piece(a, row, self.piece)
                {
                    let end = piece.end.clamp(row + 1, total);
                    self.row = Some(end);
                    return Ok(Some(Task::Rows(a, row..end, piece.bytes)));
                }
                let row_bytes = self.row_bytes.of(reader.as_ref(), a, meta)?;
                let end = if row_bytes == 0 && !meta.logical.is_var() {
                    total // nothing to move, however many rows
                } else {
                    piece_end(
                        row,
                        total,
                        row_bytes,
                        self.piece,
                        |r| writer.cut(a, r),
                        |r| reader.cut(a, r),
                    )
                };
                let bytes =
                    reader.cost(a, row..end).unwrap_or((end - row).saturating_mul(row_bytes));
                self.row = Some(end);
                return Ok(Some(Task::Rows(a, row..end, bytes)));
            }
            // The next array.
            if self.row.is_some() || self.rows.done[self.at] {
                self.row = None;
                self.at += 1;
                continue;
            }
            let name = &meta.name;
            if let Some(from) = self.source.extents(self.at)
                && let Some(to) = self.sink.slots(self.at)
            {
                self.copies = copy::pair(&from, &to, self.copy_piece).at_array(name)?.into();
            } else if self.reader.is_some() && self.writer.is_some() && meta.rows.is_some() {
                self.row = Some(0);
            } else {
                self.at += 1;
                continue;
            }
            self.rows.done[self.at] = true;
        }
    }
}

/// Roads 1 and 2: everything that can be moved by position is, on all threads.
pub(super) fn by_position(
    source: &mut dyn Source,
    sink: &mut dyn Sink,
    rows: &mut Rows,
    settings: &Settings,
    pool: &rayon::ThreadPool,
) -> Result<()> {
    let (reader, writer) = (source.random(), sink.random());
    let names: Vec<String> = source.plan().arrays.iter().map(|a| a.name.clone()).collect();
    let total_bytes = source.plan().bytes();
    let tasks = Tasks {
        reader: reader.clone(),
        writer: writer.clone(),
        source,
        sink,
        rows,
        piece: settings.piece_bytes(),
        copy_piece: (total_bytes / (2 * settings.jobs as u64)).max(32 << 20),
        jobs: settings.jobs,
        output: settings.output.clone(),
        at: 0,
        copies: VecDeque::new(),
        target: None,
        row: None,
        row_bytes: RowBytes::default(),
    };
    let failed = Failure::default();
    let queue = Mutex::new(tasks);
    let work = || {
        while !failed.is_set() {
            let task = match guard(|| queue.lock().unwrap_or_else(|e| e.into_inner()).next()) {
                Ok(Some(task)) => task,
                Ok(None) => break,
                Err(e) => return failed.set(e),
            };
            let done = guard(|| match task {
                Task::Copy(a, from, to, target, shared) => {
                    let moved = |bytes, by_kernel| {
                        if by_kernel {
                            settings.copied.fetch_add(bytes, Ordering::Relaxed);
                        }
                        settings.moved(bytes, &names[a]);
                        !failed.is_set()
                    };
                    target.copy(&from, &to, shared, &moved).map(|()| (a, 0)).at_array(&names[a])
                }
                Task::Rows(a, range, bytes) => {
                    let _held = settings.budget.take(bytes.saturating_mul(2));
                    match (&reader, &writer) {
                        (Some(reader), Some(writer)) => {
                            read_exactly(reader.as_ref(), a, range, &mut |chunk| {
                                settings.output.at(writer.write(&chunk))
                            })
                            .map(|()| (a, bytes))
                            .at_array(&names[a])
                        }
                        _ => Ok((a, 0)),
                    }
                }
            });
            match done {
                Ok((a, bytes)) => settings.moved(bytes, &names[a]),
                Err(e) => failed.set(e),
            }
        }
    };
    if total_bytes < SMALL_BYTES {
        work();
    } else {
        pool.scope(|scope| (0..settings.jobs).for_each(|_| scope.spawn(|_| work())));
    }
    failed.into_result()
}
