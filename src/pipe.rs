//! The only driver: moves chunks from a source to a sink on all cores, within a memory budget.
//!
//! Three roads, the first that fits is taken, array by array or as a whole:
//! 1. **copy**: source extents meet sink slots: the kernel copies file to file.
//! 2. **both ends random**: blocks of rows are read and written by position on all cores.
//! 3. **in turn**: pieces are decoded and blocks encoded on all cores; stages and `append` run in order.
//!
//! Where the order or the row counts that the sink needs cannot be had, a [`spool`] on disk stands between.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};

use crate::error::{Context, Error, Result};
use crate::format::{Block, Emit, Encode, Encoded, Extent, Holds, Job, Order, ReadRows, Sink, Source, WriteRows};
use crate::model::{Chunk, Plan, Values};

mod blocks;
mod budget;
mod copy;
mod cutter;
pub mod spool;

use blocks::Blocks;
pub use budget::{Budget, Held};
use cutter::Cutter;
pub use cutter::Sequenced;

/// A transformation that needs the chunks in order (codes of text, offsets, columns side by side). Stateless ones wrap
/// the source instead.
pub trait Stage: Send {
    /// What comes out, for this plan.
    fn plan(&self) -> &Plan;
    /// The order that comes out where chunks go in as `order`.
    fn order(&self, order: Order) -> Order {
        order
    }
    /// The order that must go in.
    fn wants(&self) -> Order {
        Order::Any
    }
    /// Takes a chunk (array index of the plan before), emits chunks (of [`Stage::plan`]).
    ///
    /// # Errors
    /// Values that cannot be taken.
    fn push(&mut self, chunk: Chunk, emit: Emit<'_>) -> Result<()>;
    /// After the last chunk.
    ///
    /// # Errors
    /// As [`Stage::push`].
    fn flush(&mut self, _emit: Emit<'_>) -> Result<()> {
        Ok(())
    }
}

/// Limits and callbacks of a run.
#[derive(Clone)]
pub struct Settings {
    /// Worker threads.
    pub jobs: usize,
    /// Bytes that pieces in flight may hold together.
    pub budget: Budget,
    /// Called with the bytes delivered since the last call, and the array they belong to.
    pub progress: Option<Progress>,
    /// Bytes that the kernel copied file to file, without a buffer of this process.
    copied: Arc<AtomicU64>,
    pool: Arc<OnceLock<rayon::ThreadPool>>,
}

/// See [`Settings::progress`].
pub type Progress = Arc<dyn Fn(u64, &str) + Send + Sync>;

impl Settings {
    /// All cores and 256 MiB, silent.
    pub fn new(jobs: usize, memory_bytes: u64) -> Settings {
        let budget = Budget::new(memory_bytes);
        Settings { jobs: jobs.max(1), budget, progress: None, copied: Arc::default(), pool: Arc::default() }
    }
    /// The same threads and budget for one run of its own, telling this callback.
    pub fn with_progress(&self, progress: Progress) -> Settings {
        Settings { progress: Some(progress), copied: Arc::default(), ..self.clone() }
    }
    /// Bytes that went file to file within the kernel so far.
    pub fn copied(&self) -> u64 {
        self.copied.load(Ordering::Relaxed)
    }
    fn moved(&self, bytes: u64, array: &str) {
        if let Some(progress) = &self.progress {
            progress(bytes, array);
        }
    }
    /// A good size for a piece: small enough for every thread to have some in flight.
    pub fn piece_bytes(&self) -> u64 {
        (self.budget.total() / (4 * self.jobs as u64 + 4)).clamp(64 << 10, 8 << 20)
    }
}

/// What a sink is made from once the pipe knows what it will get.
pub type Create<'a> = &'a mut dyn FnMut(&Plan) -> Result<Box<dyn Sink>>;

/// Moves every array of the source's plan through the stages into a new sink, and commits it.
///
/// Returns the sink's summary and the final plan (all rows known).
///
/// # Errors
/// Those of source, stages and sink; then nothing is left behind.
pub fn run(
    mut source: Box<dyn Source>,
    mut stages: Vec<Box<dyn Stage>>,
    holds: &Holds,
    create: Create<'_>,
    settings: &Settings,
) -> Result<(crate::format::Summary, Plan)> {
    let pool = pool(settings)?;
    let mut given = open_source(&mut source, &stages, holds.order)?;
    // Stages that need rows side by side get them, if need be from disk.
    if let Some(first) = stages.first()
        && !suits(given, first.wants(), source.plan().arrays.len())
    {
        source = Box::new(spooled(source, Vec::new(), given, settings, pool)?);
        given = open_source(&mut source, &stages, holds.order)?;
    }
    let out = stages.last().map_or_else(|| source.plan(), |s| s.plan());
    let order = stages.iter().fold(given, |order, stage| stage.order(order));
    let unknown = holds.rows_first && out.arrays.iter().any(|a| a.rows.is_none());
    if unknown || !suits(order, holds.order, out.arrays.len()) {
        source = Box::new(spooled(source, std::mem::take(&mut stages), given, settings, pool)?);
        given = open_source(&mut source, &stages, holds.order)?;
    }
    let plan = stages.last().map_or_else(|| source.plan().clone(), |s| s.plan().clone());
    let mut sink = create(&plan)?;
    let mut rows = Rows::new(&plan);
    if stages.is_empty() {
        by_position(source.as_mut(), sink.as_mut(), &mut rows, settings, pool)?;
    }
    in_turn(source.as_mut(), &mut stages, sink.as_mut(), holds.order, given, &mut rows, settings, pool)?;
    source.close()?;
    let mut end = stages.last().map_or_else(|| source.plan().clone(), |s| s.plan().clone());
    rows.check(&mut end)?;
    drop(source);
    let summary = sink.finish(&end)?;
    Ok((summary, end))
}

/// Delivers every array of the source's plan to `each`, in row order within an array: for checksums, statistics,
/// comparisons.
///
/// # Errors
/// Those of the source and of `each`.
pub fn drain(
    mut source: Box<dyn Source>,
    mut stages: Vec<Box<dyn Stage>>,
    wish: Order,
    each: Emit<'_>,
    settings: &Settings,
) -> Result<Plan> {
    let pool = pool(settings)?;
    let mut given = open_source(&mut source, &stages, wish)?;
    let wanted = stages.first().map_or(wish, |s| s.wants());
    if !suits(given, wanted, source.plan().arrays.len()) {
        source = Box::new(spooled(source, Vec::new(), given, settings, pool)?);
        given = open_source(&mut source, &stages, wish)?;
    }
    let plan = stages.last().map_or_else(|| source.plan().clone(), |s| s.plan().clone());
    let mut rows = Rows::new(&plan);
    let mut each_counted = |mut chunk: Chunk| -> Result<()> {
        rows.count(&mut chunk)?;
        settings.moved(chunk.bytes(), &plan.arrays[chunk.array].name);
        each(chunk)
    };
    let all: Vec<usize> = (0..source.plan().arrays.len()).collect();
    decode(source.as_mut(), &all, given, settings, pool, None, &mut |chunk| through(&mut stages, chunk, &mut each_counted))?;
    flush(&mut stages, &mut each_counted)?;
    source.close()?;
    let mut end = stages.last().map_or_else(|| source.plan().clone(), |s| s.plan().clone());
    rows.check(&mut end)?;
    Ok(end)
}

/// The threads, started once for all files of a batch.
fn pool(settings: &Settings) -> Result<&rayon::ThreadPool> {
    if let Some(pool) = settings.pool.get() {
        return Ok(pool);
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(settings.jobs)
        .thread_name(|i| format!("npk-{i}"))
        .build()
        .map_err(|e| Error::failed("cannot start threads").because(e))?;
    Ok(settings.pool.get_or_init(|| pool))
}

/// A source with random access to these arrays: itself, or a spool of it.
///
/// # Errors
/// Reading errors; disk full.
pub fn with_random(mut source: Box<dyn Source>, arrays: &[usize], settings: &Settings) -> Result<(Box<dyn Source>, Arc<dyn ReadRows>)> {
    let given = source.want(arrays, Order::Any)?;
    if let Some(reader) = source.random() {
        return Ok((source, reader));
    }
    let mut spool = spool::Spool::new(source.plan().clone())?;
    decode(source.as_mut(), arrays, given, settings, pool(settings)?, None, &mut |chunk| spool.push(&chunk))?;
    source.close()?;
    let spooled = spool.into_source();
    let reader = spooled.random().ok_or_else(|| Error::failed("a spool gives no rows"))?;
    Ok((Box::new(spooled), reader))
}

/// A source and the stages behind it, spooled: rows known, random access.
///
/// # Errors
/// Reading errors; disk full.
pub fn staged(mut source: Box<dyn Source>, stages: Vec<Box<dyn Stage>>, settings: &Settings) -> Result<spool::SpoolSource> {
    let pool = pool(settings)?;
    let mut given = open_source(&mut source, &stages, Order::Any)?;
    if let Some(first) = stages.first()
        && !suits(given, first.wants(), source.plan().arrays.len())
    {
        source = Box::new(spooled(source, Vec::new(), given, settings, pool)?);
        given = open_source(&mut source, &stages, Order::Any)?;
    }
    spooled(source, stages, given, settings, pool)
}

/// Does all tasks on all threads; stops at the first error.
///
/// # Errors
/// The first one of `work`.
pub fn parallel<T: Send>(
    settings: &Settings,
    tasks: impl Iterator<Item = T> + Send,
    work: &(dyn Fn(T) -> Result<()> + Sync),
) -> Result<()> {
    let queue = Mutex::new(tasks);
    let failed = Failure::default();
    pool(settings)?.scope(|scope| {
        for _ in 0..settings.jobs {
            scope.spawn(|_| {
                while !failed.is_set() {
                    let Some(task) = queue.lock().unwrap_or_else(|e| e.into_inner()).next() else { break };
                    if let Err(e) = guarded(|| work(task)) {
                        failed.set(e);
                    }
                }
            });
        }
    });
    failed.into_result()
}

/// Whether `check` holds for every chunk of an array, read on all threads; stops at the first that fails it.
///
/// # Errors
/// Reading errors.
pub fn all_chunks(
    reader: &Arc<dyn ReadRows>,
    array: usize,
    meta: &crate::model::ArrayMeta,
    settings: &Settings,
    check: &(dyn Fn(&Chunk) -> bool + Sync),
) -> Result<bool> {
    let (total, row_bytes, piece) = (meta.rows.unwrap_or(0), meta.row_bytes()?, settings.piece_bytes());
    let next = Mutex::new(0u64);
    let holds = AtomicBool::new(true);
    let failed = Failure::default();
    let work = || {
        while holds.load(Ordering::Relaxed) && !failed.is_set() {
            let range = {
                let mut row = next.lock().unwrap_or_else(|e| e.into_inner());
                let end = piece_end(*row, total, row_bytes, piece, |_| u64::MAX, |r| reader.cut(array, r));
                std::mem::replace(&mut *row, end)..end
            };
            if range.is_empty() {
                break;
            }
            let _held = settings.budget.take((range.end - range.start).saturating_mul(row_bytes));
            let read = guarded(|| {
                reader.read(array, range, &mut |chunk| {
                    if !check(&chunk) {
                        holds.store(false, Ordering::Relaxed);
                    }
                    Ok(())
                })
            });
            if let Err(e) = read {
                failed.set(e.array(&meta.name));
            }
        }
    };
    if total.saturating_mul(row_bytes) < SMALL_BYTES {
        work();
    } else {
        pool(settings)?.scope(|scope| (0..settings.jobs).for_each(|_| scope.spawn(|_| work())));
    }
    failed.into_result()?;
    Ok(holds.into_inner())
}

/// Below this, handing work to other threads costs more than doing it.
const SMALL_BYTES: u64 = 1 << 20;

fn open_source(source: &mut Box<dyn Source>, stages: &[Box<dyn Stage>], order: Order) -> Result<Order> {
    let wish = match stages.first().map(|s| s.wants()) {
        Some(Order::Any) | None => order,
        Some(wants) => wants,
    };
    let all: Vec<usize> = (0..source.plan().arrays.len()).collect();
    let given = source.want(&all, wish)?;
    // Random access serves every order.
    Ok(if source.random().is_some() { wish } else { given })
}

/// Do chunks that come as `given` suit a taker of `wanted`?
fn suits(given: Order, wanted: Order, arrays: usize) -> bool {
    arrays <= 1 || wanted == Order::Any || given == wanted
}

fn spooled(
    mut source: Box<dyn Source>,
    mut stages: Vec<Box<dyn Stage>>,
    given: Order,
    settings: &Settings,
    pool: &rayon::ThreadPool,
) -> Result<spool::SpoolSource> {
    let plan = stages.last().map_or_else(|| source.plan().clone(), |s| s.plan().clone());
    let mut spool = spool::Spool::new(plan)?;
    let all: Vec<usize> = (0..source.plan().arrays.len()).collect();
    decode(source.as_mut(), &all, given, settings, pool, None, &mut |chunk| through(&mut stages, chunk, &mut |c| spool.push(&c)))?;
    flush(&mut stages, &mut |c| spool.push(&c))?;
    source.close()?;
    Ok(spool.into_source())
}

/// Pushes a chunk through all stages.
fn through(stages: &mut [Box<dyn Stage>], chunk: Chunk, emit: Emit<'_>) -> Result<()> {
    match stages.split_first_mut() {
        None => emit(chunk),
        Some((first, rest)) => first.push(chunk, &mut |c| through(rest, c, emit)),
    }
}

fn flush(stages: &mut [Box<dyn Stage>], emit: Emit<'_>) -> Result<()> {
    if let Some((first, rest)) = stages.split_first_mut() {
        first.flush(&mut |c| through(rest, c, emit))?;
        flush(rest, emit)?;
    }
    Ok(())
}

/// Counts rows per array: fills in `first_row`, and compares with what was announced.
struct Rows {
    names: Vec<String>,
    announced: Vec<Option<u64>>,
    seen: Vec<u64>,
    /// Arrays that were moved by position.
    done: Vec<bool>,
}

impl Rows {
    fn new(plan: &Plan) -> Rows {
        Rows {
            names: plan.arrays.iter().map(|a| a.name.clone()).collect(),
            announced: plan.arrays.iter().map(|a| a.rows).collect(),
            seen: vec![0; plan.arrays.len()],
            done: vec![false; plan.arrays.len()],
        }
    }
    fn count(&mut self, chunk: &mut Chunk) -> Result<()> {
        let seen = &mut self.seen[chunk.array];
        if chunk.first_row != Chunk::NEXT && chunk.first_row != *seen {
            return Err(Error::failed(format!("row {} came where row {seen} was due", chunk.first_row)).array(&self.names[chunk.array]));
        }
        chunk.first_row = *seen;
        *seen += chunk.rows;
        Ok(())
    }
    /// Every announced row must have come: a short array is never written.
    fn check(&self, end: &mut Plan) -> Result<()> {
        for (i, meta) in end.arrays.iter_mut().enumerate() {
            if self.done[i] {
                continue;
            }
            if let Some(announced) = self.announced[i]
                && announced != self.seen[i]
            {
                return Err(Error::corrupt(format!("{announced} rows were announced, {} came", self.seen[i])).array(&meta.name));
            }
            meta.rows = Some(self.seen[i]);
        }
        Ok(())
    }
}

/// A piece of road 1 or 2.
enum Task {
    /// From where to where; whether other pieces go into the same file.
    Copy(usize, Extent, Extent, copy::Target, bool),
    Rows(usize, Range<u64>, u64),
}

/// The pieces of roads 1 and 2, made array by array when their turn comes: files are opened for the arrays at work, not
/// for ten thousand of them at once.
struct Tasks<'a> {
    source: &'a mut dyn Source,
    sink: &'a mut dyn Sink,
    rows: &'a mut Rows,
    reader: Option<Arc<dyn ReadRows>>,
    writer: Option<Arc<dyn WriteRows>>,
    piece: u64,
    /// The most bytes of one copy: arrays go whole, each thread into a file of its own, as long as all threads have some.
    copy_piece: u64,
    jobs: usize,
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
                let target = copy::Target::of(&to, self.target.as_ref());
                let shared = self.jobs > 1 && (!self.copies.is_empty() || self.target.as_ref().is_some_and(|last| last.is(&target)));
                self.target = Some(target.clone());
                return Ok(Some(Task::Copy(self.at, from, to, target, shared)));
            }
            if let (Some(row), Some(reader), Some(writer), Some(total)) = (self.row, &self.reader, &self.writer, meta.rows)
                && row < total
            {
                let a = self.at;
                let row_bytes = self.row_bytes.of(reader.as_ref(), a, meta)?;
                let end = if row_bytes == 0 && !meta.logical.is_var() {
                    total // nothing to move, however many rows
                } else {
                    piece_end(row, total, row_bytes, self.piece, |r| writer.cut(a, r), |r| reader.cut(a, r))
                };
                let bytes = reader.cost(a, row..end).unwrap_or((end - row).saturating_mul(row_bytes));
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
fn by_position(source: &mut dyn Source, sink: &mut dyn Sink, rows: &mut Rows, settings: &Settings, pool: &rayon::ThreadPool) -> Result<()> {
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
            let task = match guarded(|| queue.lock().unwrap_or_else(|e| e.into_inner()).next()) {
                Ok(Some(task)) => task,
                Ok(None) => break,
                Err(e) => return failed.set(e),
            };
            let done = guarded(|| match task {
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
                        (Some(reader), Some(writer)) => read_exactly(reader.as_ref(), a, range, &mut |chunk| writer.write(&chunk))
                            .map(|()| (a, bytes))
                            .at_array(&names[a]),
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

/// Reads rows, and makes sure that exactly these came.
fn read_exactly(reader: &dyn ReadRows, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
    let mut next = rows.start;
    reader.read(array, rows.clone(), &mut |chunk| {
        if chunk.first_row != next || chunk.array != array {
            return Err(Error::failed(format!("row {} came where row {next} was due", chunk.first_row)));
        }
        next += chunk.rows;
        emit(chunk)
    })?;
    if next == rows.end {
        Ok(())
    } else {
        Err(Error::corrupt(format!("rows {}..{} were wanted, they end at {next}", rows.start, rows.end)))
    }
}

/// Bytes of a row of each array; of text about, told once from what the reader says that all rows cost.
#[derive(Default)]
struct RowBytes(std::collections::HashMap<usize, u64>);

impl RowBytes {
    fn of(&mut self, reader: &dyn ReadRows, array: usize, meta: &crate::model::ArrayMeta) -> Result<u64> {
        let Some(rows) = meta.rows.filter(|&rows| rows > 0 && meta.logical.is_var()) else { return meta.row_bytes() };
        Ok(*self.0.entry(array).or_insert_with(|| reader.cost(array, 0..rows).unwrap_or(0).div_ceil(rows)))
    }
}

/// Where a piece of about `piece` bytes that begins at `row` ends: on the sink's cuts if it has some, else on the
/// source's, never in the middle of the first one.
fn piece_end(row: u64, total: u64, row_bytes: u64, piece: u64, sink: impl Fn(u64) -> u64, source: impl Fn(u64) -> u64) -> u64 {
    let wish = row.saturating_add((piece / row_bytes.max(1)).max(1)).min(total);
    let step = |cut: &dyn Fn(u64) -> u64| {
        let mut end = cut(row).max(row + 1);
        while end < wish {
            let next = cut(end);
            if next > wish || next <= end {
                break;
            }
            end = next;
        }
        end.min(total)
    };
    if sink(row) != u64::MAX {
        step(&sink)
    } else if source(row) != u64::MAX {
        step(&source)
    } else {
        wish
    }
}

/// A panic in a decoder (a fault of ours or of a library, met on hostile bytes) is an error like others.
///
/// # Errors
/// Those of `work`, or its panic.
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Error::corrupt(format!("the bytes cannot be decoded ({})", text.unwrap_or("internal fault"))))
    })
}

/// The first failure of many threads.
#[derive(Default)]
struct Failure {
    set: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl Failure {
    fn is_set(&self) -> bool {
        self.set.load(Ordering::Relaxed)
    }
    fn set(&self, error: Error) {
        self.error.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(error);
        self.set.store(true, Ordering::Relaxed);
    }
    fn into_result(self) -> Result<()> {
        match self.error.into_inner().unwrap_or_else(|e| e.into_inner()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// A piece of a source with random access.
struct ReadJob {
    reader: Arc<dyn ReadRows>,
    array: usize,
    rows: Range<u64>,
    bytes: u64,
}

impl Job for ReadJob {
    fn bytes(&self) -> u64 {
        self.bytes
    }
    fn run(self: Box<Self>, emit: Emit<'_>) -> Result<()> {
        read_exactly(self.reader.as_ref(), self.array, self.rows.clone(), emit)
    }
}

type Decoded = Result<(Vec<Chunk>, Held)>;

/// Decodes the source's pieces on the pool and hands their chunks to `each` in order. Chunks whose place is known go to
/// `writer` right on the worker, if there is one; `each` then gets them without values, to count them.
fn decode(
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
            let (stop, writer) = (stop.clone(), writer.cloned());
            pool.spawn_fifo(move || {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let mut chunks = Vec::new();
                let result = guarded(|| {
                    job.run(&mut |mut chunk| {
                        if let Some(writer) = writer.as_ref().filter(|_| chunk.first_row != Chunk::NEXT) {
                            writer.write(&chunk)?;
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
                front.recv().map_err(|_| Error::failed("a worker thread ended unexpectedly"))?
            }
        };
        let (chunks, held) = decoded?;
        for chunk in chunks {
            let array = chunk.array;
            each(chunk).map_err(|e| if e.array_name().is_none() && names.len() == 1 { e.array(&names[array]) } else { e })?;
        }
        drop(held);
    }
}

/// Pieces not yet begun are dropped when the driver goes.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Road 3: what is left, in turn.
#[allow(clippy::too_many_arguments)]
fn in_turn(
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
    let arrays: Vec<usize> =
        if stages.is_empty() { (0..names.len()).filter(|&a| !rows.done[a]).collect() } else { (0..source.plan().arrays.len()).collect() };
    if arrays.is_empty() && !names.is_empty() {
        return Ok(());
    }
    let writer = sink.random();
    // A sink that writes whole chunks of its own gets them whole, however the source cuts.
    let whole = writer.as_ref().filter(|w| (0..names.len()).any(|a| w.cut(a, 0) != u64::MAX)).cloned();
    if let Some(writer) = writer.filter(|_| whole.is_none()) {
        let straight = stages.is_empty().then_some(&writer);
        let row_bytes: Vec<u64> = source.plan().arrays.iter().map(|m| m.row_bytes().unwrap_or(0)).collect();
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
                writer.write(&chunk).at_array(&names[array])?;
            }
            settings.moved(bytes, &names[array]);
            Ok(())
        };
        decode(source, &arrays, given, settings, pool, straight, &mut |chunk| through(stages, chunk, &mut write))?;
        return flush(stages, &mut write);
    }
    let (encoder, wanted): (Arc<dyn Encode>, Order) = match whole {
        Some(writer) => (Arc::new(Writing(writer)), Order::Any),
        None => (sink.encoder(), wanted),
    };
    let announced = rows.announced.clone();
    let mut blocks = Blocks::new(wanted, encoder.clone(), &announced, settings.piece_bytes());
    let mut appender = Appender { sink, encoder, window: VecDeque::new(), most: 2 * settings.jobs + 2, settings, pool, names: &names };
    {
        let mut take = |mut chunk: Chunk| -> Result<()> {
            rows.count(&mut chunk)?;
            settings.moved(chunk.bytes(), &names[chunk.array]);
            blocks.push(chunk, &mut |block| appender.give(block))
        };
        decode(source, &arrays, given, settings, pool, None, &mut |chunk| through(stages, chunk, &mut take))?;
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
        Ok(Encoded { first_row: block.first_row, rows: block.rows, array, payload: Box::new(Written) })
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
        let bytes: u64 = block.columns.iter().flat_map(|(_, chunks)| chunks).map(Chunk::bytes).sum();
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
        let encoder = self.encoder.clone();
        self.pool.spawn_fifo(move || {
            let encoded = guarded(|| encoder.encode(block));
            // Nothing of the sink is held any more once the result is there: `finish` may count on it.
            drop(encoder);
            let _ = send.send(encoded.map(|encoded| (encoded, held)));
        });
        self.window.push_back(receive);
        Ok(())
    }
    fn append_front(&mut self) -> Result<()> {
        let Some(front) = self.window.pop_front() else { return Ok(()) };
        let (encoded, _held) = front.recv().map_err(|_| Error::failed("a worker thread ended unexpectedly"))??;
        if encoded.payload.is::<Written>() {
            return Ok(());
        }
        let array = encoded.array;
        self.sink.append(encoded).map_err(|e| if self.names.len() == 1 { e.array(&self.names[array]) } else { e })
    }
    fn finish(mut self) -> Result<()> {
        while !self.window.is_empty() {
            self.append_front()?;
        }
        Ok(())
    }
}
