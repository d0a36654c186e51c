//! Strategies 1 and 2: the kernel copies bytes that need no change; rows that both ends place by
//! position go on all threads.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::cutter::{Lane, RowSizes};
use super::flow::RecipeReader;
use super::kernel_copy;
use super::memory::Memory;
use super::piece::piece_end;
use super::pool::{Failure, on_pool};
use super::row_count::RowCount;
use super::settings::{OutputName, Settings};
use super::work::Work;
use crate::error::{Context, Error, Result};
use crate::format::{Extent, ReadRows, Sink, WriteRows, Writer};

/// A piece of strategy 1 or 2.
enum Task {
    /// From where to where; whether other pieces go into the same file.
    Copy(usize, Extent, Extent, kernel_copy::Target, bool),
    /// Rows of outputs that are read together.
    Rows { lane: Lane, rows: Range<u64>, bytes: u64, held: u64 },
}

/// Pieces of rows that are lent cost no memory, and threads that take turns at one file cost time.
const LENT_BYTES: u64 = 64 << 20;

/// Rows that lie in a local file as they are can be cut anywhere: what is read and what is made of it
/// stays in the processor's cache, and few pages are touched for the first time.
const STORED_BYTES: u64 = 1 << 20;

/// Rows of outputs that go by position, as far as they were given out.
struct Moving {
    lane: Lane,
    row: u64,
    total: u64,
    /// The rows are in memory that is there anyway.
    is_lent: bool,
    /// The bytes of a piece.
    piece: u64,
}

/// The pieces, made array by array in turn: files are open for the arrays at work only, not for ten
/// thousand of them at once.
struct Tasks<'a> {
    work: &'a mut Work,
    sink: &'a mut dyn Sink,
    rows: &'a mut RowCount,
    by_rows: Option<(Arc<RecipeReader>, Arc<dyn WriteRows>, RowSizes)>,
    piece: u64,
    /// As [`Settings::waiting_bytes`].
    waiting: u64,
    memory: Memory,
    /// The most bytes of one copy: arrays go whole, each thread into a file of its own, as long as
    /// all threads have some.
    copy_piece: u64,
    jobs: usize,
    output: OutputName,
    at: usize,
    /// Pieces of the array before `at`.
    copies: VecDeque<(Extent, Extent)>,
    target: Option<kernel_copy::Target>,
    moving: Option<Moving>,
}

impl Tasks<'_> {
    fn next(&mut self) -> Result<Option<Task>> {
        loop {
            if let Some((from, to)) = self.copies.pop_front() {
                let target = kernel_copy::Target::of(&to, self.target.as_ref(), &self.output);
                let shared = self.jobs > 1
                    && (!self.copies.is_empty()
                        || self.target.as_ref().is_some_and(|last| last.is(&target)));
                self.target = Some(target.clone());
                return Ok(Some(Task::Copy(self.at - 1, from, to, target, shared)));
            }
            if let Some(task) = self.next_rows()? {
                return Ok(Some(task));
            }
            if self.at == self.work.plan.arrays.len() {
                return Ok(None);
            }
            self.begin()?;
            self.at += 1;
        }
    }

    /// Finds out how the array `at` goes.
    fn begin(&mut self) -> Result<()> {
        let a = self.at;
        if self.rows.done[a] {
            return Ok(());
        }
        let (recipe, meta) = (self.work.recipes.of(a), &self.work.plan.arrays[a]);
        if recipe.ops.is_empty()
            && let Some(from) = self.work.inputs.extents(recipe.input)
            && let Some(to) = self.sink.slots(a)
        {
            self.copies =
                kernel_copy::pair(&from, &to, self.copy_piece).at_array(&meta.name)?.into();
            self.rows.done[a] = true;
            return Ok(());
        }
        let Some((reader, writer, sizes)) = &self.by_rows else { return Ok(()) };
        let by_position = |b: usize| self.work.goes_by_position(b) && !self.rows.done[b];
        if !by_position(a) {
            return Ok(());
        }
        // What is made of the same rows goes with it, if the sink lets both be cut alike.
        let anywhere = |b: usize| writer.next_boundary(b, 0) == u64::MAX;
        let mut lane = vec![a];
        if !recipe.is_joined() && anywhere(a) {
            let others = self.work.recipes.uses(recipe.input).iter().map(|u| u.0);
            let single = |b: usize| !self.work.recipes.of(b).is_joined();
            let alike = |b: usize| self.rows.regions[b] == self.rows.regions[a];
            let together = |b: usize| by_position(b) && anywhere(b) && alike(b);
            lane.extend(others.filter(|&b| b > a && single(b) && together(b)));
        }
        let Range { start, end } = self.rows.regions[a].clone();
        let total = sizes.rows(&lane).min(end);
        lane.iter().for_each(|&b| self.rows.done[b] = true);
        let is_lent = lane.len() == 1 && anywhere(a) && reader.is_lent(a);
        let is_stored = || self.work.inputs.extents(recipe.input).is_some();
        let piece = match (is_lent, !recipe.is_joined() && anywhere(a) && is_stored()) {
            (true, _) => LENT_BYTES,
            (_, true) => self.piece.min(STORED_BYTES),
            _ => self.piece,
        };
        self.moving = Some(Moving { lane, row: start, total, is_lent, piece });
        Ok(())
    }

    fn next_rows(&mut self) -> Result<Option<Task>> {
        let Some(moving) = self.moving.as_mut().filter(|m| m.row < m.total) else {
            return Ok(None);
        };
        let Some((reader, writer, sizes)) = &mut self.by_rows else { return Ok(None) };
        let Moving { lane, row, total, is_lent, piece } = moving;
        let (lead, first) = (lane[0], *row);
        let rows = |lane: &Lane, rows, bytes: u64| {
            let held = bytes.saturating_mul(1 + lane.len() as u64);
            Task::Rows { lane: lane.clone(), rows, bytes, held }
        };
        if writer.next_boundary(lead, first) == u64::MAX
            && let Some(piece) = reader.piece(lead, first, self.piece)
        {
            *row = piece.end.clamp(first + 1, *total);
            return Ok(Some(rows(lane, first..*row, piece.bytes)));
        }
        let row_bytes = sizes.row_bytes(lane)?;
        let name = &self.work.plan.arrays[lead].name;
        if !*is_lent {
            self.memory.check_row(row_bytes).at_array(name)?;
        }
        *row = if sizes.is_empty(lane, row_bytes) {
            *total
        } else {
            let (to, from) = (|r| writer.next_boundary(lead, r), |r| reader.next_boundary(lead, r));
            let end = piece_end(first, *total, row_bytes, *piece, to, from);
            match to(first) {
                u64::MAX => {
                    end.min(first.saturating_add(sizes.most_rows(lane, row_bytes, self.waiting)))
                }
                _ => end,
            }
        };
        let all = (*row - first).saturating_mul(row_bytes);
        if *is_lent {
            let lane = lane.clone();
            return Ok(Some(Task::Rows { lane, rows: first..*row, bytes: all, held: 0 }));
        }
        let bytes = reader.cost(lead, first..*row).unwrap_or(all);
        Ok(Some(rows(lane, first..*row, bytes)))
    }
}

/// Everything that can be moved by position is, on all threads.
pub(super) fn by_position(
    work: &mut Work,
    sink: &mut dyn Sink,
    rows: &mut RowCount,
    settings: &Settings,
) -> Result<()> {
    let writer = match sink.writer() {
        Writer::Positional(writer) => Some(writer),
        Writer::InOrder(_) => None,
    };
    let by_rows = work.reading().cloned().zip(writer);
    let names: Vec<String> = rows.names.clone();
    let total_bytes = work.plan.bytes();
    let mut tasks = Tasks {
        by_rows: by_rows.clone().map(|(r, w)| (r.clone(), w, RowSizes::new(&r))),
        work,
        sink,
        rows,
        piece: settings.piece_bytes(),
        waiting: settings.waiting_bytes(),
        memory: Memory::of(settings),
        copy_piece: (total_bytes / (2 * settings.resources.jobs() as u64)).max(32 << 20),
        jobs: settings.resources.jobs(),
        output: settings.output.clone(),
        at: 0,
        copies: VecDeque::new(),
        target: None,
        moving: None,
    };
    let failed = Failure::default();
    let copy = |a: usize, from, to, target: kernel_copy::Target, shared| {
        let moved = |bytes, by_kernel| {
            if by_kernel {
                settings.copied.fetch_add(bytes, Ordering::Relaxed);
            }
            settings.moved(bytes, &names[a]);
            !failed.is_set() && settings.check().is_ok()
        };
        target.copy(&from, &to, shared, &moved).at_array(&names[a])?;
        settings.check()
    };
    let move_rows = |lane: Lane, range, bytes: u64| {
        let Some((reader, writer)) = &by_rows else {
            return Err(Error::internal("rows by position without a writer"));
        };
        let mut write = |portion: crate::ops::Portion| {
            settings.output.at(writer.write(&portion.chunk)).at_array(&names[portion.output])
        };
        reader.read_together(&lane, range, &mut write).at_array(&names[lane[0]])?;
        settings.moved(bytes, &names[lane[0]]);
        Ok(())
    };
    let mut next = || {
        let held = |task: &Task| match task {
            // What is mapped counts.
            Task::Copy(_, from, ..) => from.len.min(kernel_copy::MAPPED_BYTES),
            Task::Rows { held, .. } => *held,
        };
        Ok(tasks.next()?.map(|task| (held(&task), task)))
    };
    let work = |task| match task {
        Task::Copy(a, from, to, target, shared) => copy(a, from, to, target, shared),
        Task::Rows { lane, rows, bytes, .. } => move_rows(lane, rows, bytes),
    };
    on_pool(settings, total_bytes, &failed, &mut next, &work)
}
