//! The only driver: moves chunks from a source to a sink on all cores, within a memory budget.
//!
//! There are three roads; the first that fits is taken, array by array or for the whole:
//! 1. **copy** ([`position`], [`copy`]): both ends know where the bytes are; the kernel copies file
//!    to file.
//! 2. **both ends random** ([`position`]): blocks of rows are read and written by position on all
//!    cores.
//! 3. **in turn** ([`turn`]): pieces are decoded and blocks encoded on all cores; stages and
//!    `append` run in order.
//!
//! Where the source cannot give the order or the row counts that the sink needs, its data first
//! goes to a [`spool`] on disk. Whatever enters, its booleans are 0 and 1 behind the border
//! ([`bools`]).

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crate::error::{Error, Kind, Result, guard};
use crate::format::{Capabilities, CodedText, Emit, Order, ReadRows, Sink, Source, Stage};
use crate::model::{Chunk, Plan, Values};

mod blocks;
mod bools;
mod budget;
mod copy;
mod cutter;
mod position;
pub mod spool;
mod turn;

pub use budget::{Budget, Held};
pub use copy::may_share;
pub use cutter::Sequenced;
use position::by_position;
use turn::{decode, in_turn};

/// Limits and callbacks of a run.
#[derive(Clone)]
pub struct Settings {
    /// Worker threads.
    pub jobs: usize,
    /// Bytes that pieces in flight may hold together.
    pub budget: Budget,
    /// Called with the bytes delivered since the last call, and the array they belong to.
    pub progress: Option<Progress>,
    /// What the output is called in errors that arise there, not in the source.
    output: OutputName,
    /// Bytes that the kernel copied file to file, without a buffer of this process.
    copied: Arc<AtomicU64>,
    pool: Arc<OnceLock<rayon::ThreadPool>>,
}

/// What the output is called, if it has a name.
#[derive(Clone, Default)]
struct OutputName(Option<Arc<str>>);

impl OutputName {
    /// Names the output in an error of its sink. What is wrong with the data is left to the
    /// source's name.
    fn on(&self, error: Error) -> Error {
        match &self.0 {
            Some(name) if !matches!(error.kind(), Kind::Refused | Kind::Corrupt) => {
                error.file(&**name)
            }
            _ => error,
        }
    }
    fn at<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| self.on(e))
    }
}

/// See [`Settings::progress`].
pub type Progress = Arc<dyn Fn(u64, &str) + Send + Sync>;

impl Settings {
    /// All cores and 256 MiB, silent.
    pub fn new(jobs: usize, memory_bytes: u64) -> Settings {
        let budget = Budget::new(memory_bytes);
        Settings {
            jobs: jobs.max(1),
            budget,
            progress: None,
            output: OutputName::default(),
            copied: Arc::default(),
            pool: Arc::default(),
        }
    }
    /// The same threads and budget for one run of its own, telling this callback.
    pub fn with_progress(&self, progress: Progress) -> Settings {
        Settings { progress: Some(progress), copied: Arc::default(), ..self.clone() }
    }
    /// The same, for an output of this name.
    pub fn with_output(self, name: &str) -> Settings {
        Settings { output: OutputName(Some(name.into())), ..self }
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

/// Makes the sink, once the pipe knows the plan.
pub type Create<'a> = &'a mut dyn FnMut(&Plan) -> Result<Box<dyn Sink>>;

/// Moves every array of the source's plan through the stages into a new sink, and commits it.
///
/// Returns the sink's summary and the final plan (all rows known).
///
/// # Errors
/// Those of source, stages and sink; then nothing is left behind.
pub fn run(
    source: Box<dyn Source>,
    mut stages: Vec<Box<dyn Stage>>,
    holds: &Capabilities,
    create: Create<'_>,
    settings: &Settings,
) -> Result<(crate::format::Summary, Plan)> {
    let pool = pool(settings)?;
    let mut source = bools::plain(source);
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
    let grows =
        |a: &crate::model::ArrayMeta| a.logical.text_categories().is_some_and(|c| !c.is_whole());
    let unknown = holds.rows_first && out.arrays.iter().any(|a| a.rows.is_none())
        || holds.coded_text == CodedText::Whole && out.arrays.iter().any(grows);
    if unknown || !suits(order, holds.order, out.arrays.len()) {
        source = Box::new(spooled(source, std::mem::take(&mut stages), given, settings, pool)?);
        given = open_source(&mut source, &stages, holds.order)?;
    }
    let plan = stages.last().map_or_else(|| source.plan().clone(), |s| s.plan().clone());
    let mut sink = settings.output.at(create(&plan))?;
    let mut rows = Rows::new(&plan);
    if stages.is_empty() {
        by_position(source.as_mut(), sink.as_mut(), &mut rows, settings, pool)?;
    }
    in_turn(
        source.as_mut(),
        &mut stages,
        sink.as_mut(),
        holds.order,
        given,
        &mut rows,
        settings,
        pool,
    )?;
    source.close()?;
    let mut end = stages.last().map_or_else(|| source.plan().clone(), |s| s.plan().clone());
    rows.check(&mut end)?;
    drop(source);
    let summary = settings.output.at(sink.finish(&end))?;
    Ok((summary, end))
}

/// Delivers every array of the source's plan to `each`, in row order within an array: for
/// checksums, statistics, comparisons.
///
/// # Errors
/// Those of the source and of `each`.
pub fn drain(
    source: Box<dyn Source>,
    mut stages: Vec<Box<dyn Stage>>,
    wish: Order,
    each: Emit<'_>,
    settings: &Settings,
) -> Result<Plan> {
    let pool = pool(settings)?;
    let mut source = bools::plain(source);
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
    decode(source.as_mut(), &all, given, settings, pool, None, &mut |chunk| {
        through(&mut stages, chunk, &mut each_counted)
    })?;
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
    // Where the system allows fewer threads than were asked for, those do the work.
    let mut wanted = settings.jobs;
    loop {
        let mut started = Vec::new();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(wanted)
            .spawn_handler(|worker| {
                let thread = std::thread::Builder::new().name(format!("npk-{}", worker.index()));
                started.push(thread.spawn(|| worker.run())?);
                Ok(())
            })
            .build();
        match pool {
            Ok(pool) => return Ok(settings.pool.get_or_init(|| pool)),
            Err(e) if started.is_empty() => return Err(no_threads(e)),
            Err(_) => {
                wanted = started.len();
                // They end by themselves, and make room when they are gone.
                started.into_iter().for_each(|thread| drop(thread.join()));
            }
        }
    }
}

/// The error of a system that lets no thread start.
pub fn no_threads(why: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::failed("the system allows no further thread")
        .because(why)
        .hint("`ulimit -u` and the pids limit of the container show how many there may be")
}

/// Starts the threads, if they are not there yet: a failure concerns neither source nor output.
///
/// # Errors
/// Failed.
pub fn start(settings: &Settings) -> Result<()> {
    pool(settings).map(|_| ())
}

/// A source with random access to these arrays: itself, or a spool of it.
///
/// # Errors
/// Reading errors; disk full.
pub fn with_random(
    source: Box<dyn Source>,
    arrays: &[usize],
    settings: &Settings,
) -> Result<(Box<dyn Source>, Arc<dyn ReadRows>)> {
    let mut source = bools::plain(source);
    let given = source.want(arrays, Order::Any)?;
    if let Some(reader) = source.random() {
        return Ok((source, reader));
    }
    let mut spool = spool::Spool::new(source.plan().clone())?;
    decode(source.as_mut(), arrays, given, settings, pool(settings)?, None, &mut |chunk| {
        spool.push(&chunk)
    })?;
    source.close()?;
    let spooled = spool.into_source();
    let reader = spooled.random().ok_or_else(|| Error::internal("a spool without rows"))?;
    Ok((Box::new(spooled), reader))
}

/// A source and its stages, spooled: rows known, random access.
///
/// # Errors
/// Reading errors; disk full.
pub fn staged(
    source: Box<dyn Source>,
    stages: Vec<Box<dyn Stage>>,
    settings: &Settings,
) -> Result<spool::SpoolSource> {
    let pool = pool(settings)?;
    let mut source = bools::plain(source);
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
                    let Some(task) = queue.lock().unwrap_or_else(|e| e.into_inner()).next() else {
                        break;
                    };
                    if let Err(e) = guard(|| work(task)) {
                        failed.set(e);
                    }
                }
            });
        }
    });
    failed.into_result()
}

/// Whether `check` holds for every chunk of an array, read on all threads; stops at the first that
/// fails it.
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
    let (total, row_bytes, piece) =
        (meta.rows.unwrap_or(0), meta.row_bytes()?, settings.piece_bytes());
    let next = Mutex::new(0u64);
    let holds = AtomicBool::new(true);
    let failed = Failure::default();
    let work = || {
        while holds.load(Ordering::Relaxed) && !failed.is_set() {
            let range = {
                let mut row = next.lock().unwrap_or_else(|e| e.into_inner());
                let end = piece_end(
                    *row,
                    total,
                    row_bytes,
                    piece,
                    |_| u64::MAX,
                    |r| reader.cut(array, r),
                );
                std::mem::replace(&mut *row, end)..end
            };
            if range.is_empty() {
                break;
            }
            let _held = settings.budget.take((range.end - range.start).saturating_mul(row_bytes));
            let read = guard(|| {
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

fn open_source(
    source: &mut Box<dyn Source>,
    stages: &[Box<dyn Stage>],
    order: Order,
) -> Result<Order> {
    let wish = match stages.first().map(|s| s.wants()) {
        Some(Order::Any) | None => order,
        Some(wants) => wants,
    };
    let all: Vec<usize> = (0..source.plan().arrays.len()).collect();
    let given = source.want(&all, wish)?;
    // Random access serves every order.
    Ok(if source.random().is_some() { wish } else { given })
}

/// Whether chunks in the order `given` suit a taker that wants `wanted`.
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
    decode(source.as_mut(), &all, given, settings, pool, None, &mut |chunk| {
        through(&mut stages, chunk, &mut |c| spool.push(&c))
    })?;
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

/// Counts rows per array: fills in `first_row`, and compares with the plan.
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
            return Err(Error::internal(format!(
                "row {} was delivered, row {seen} was expected",
                chunk.first_row
            ))
            .array(&self.names[chunk.array]));
        }
        chunk.first_row = *seen;
        *seen += chunk.rows;
        Ok(())
    }
    /// Every row of the plan must have come: a short array is never written.
    fn check(&self, end: &mut Plan) -> Result<()> {
        for (i, meta) in end.arrays.iter_mut().enumerate() {
            if self.done[i] {
                continue;
            }
            if let Some(announced) = self.announced[i]
                && announced != self.seen[i]
            {
                return Err(Error::corrupt(format!(
                    "{announced} rows were expected, {} were found",
                    self.seen[i]
                ))
                .array(&meta.name));
            }
            meta.rows = Some(self.seen[i]);
        }
        Ok(())
    }
}

/// Reads rows, and checks that exactly these were delivered.
fn read_exactly(
    reader: &dyn ReadRows,
    array: usize,
    rows: Range<u64>,
    emit: Emit<'_>,
) -> Result<()> {
    let mut next = rows.start;
    reader.read(array, rows.clone(), &mut |chunk| {
        if chunk.first_row != next || chunk.array != array {
            return Err(Error::internal(format!(
                "row {} was delivered, row {next} was expected",
                chunk.first_row
            )));
        }
        next += chunk.rows;
        emit(chunk)
    })?;
    if next == rows.end {
        Ok(())
    } else {
        Err(Error::corrupt(format!(
            "rows {}..{} were expected, they end at {next}",
            rows.start, rows.end
        )))
    }
}

/// Bytes of a row of each array; for text an average, from the reader's cost of all rows and from
/// what came.
#[derive(Default)]
struct RowBytes {
    told: HashMap<usize, u64>,
    came: HashMap<usize, u64>,
}

impl RowBytes {
    fn of(
        &mut self,
        reader: &dyn ReadRows,
        array: usize,
        meta: &crate::model::ArrayMeta,
    ) -> Result<u64> {
        let Some(rows) = meta.rows.filter(|&rows| rows > 0 && meta.logical.is_var()) else {
            return meta.row_bytes();
        };
        let told = *self
            .told
            .entry(array)
            .or_insert_with(|| reader.cost(array, 0..rows).unwrap_or(0).div_ceil(rows));
        Ok(told.max(self.came.get(&array).copied().unwrap_or(UNSEEN_ROW_BYTES)))
    }
    /// Text that came tells how long the next may be.
    fn saw(&mut self, chunk: &Chunk) {
        if let (Values::Var { .. }, Some(bytes)) =
            (&chunk.values, chunk.bytes().checked_div(chunk.rows))
        {
            self.came.insert(chunk.array, bytes);
        }
    }
}

/// A row of text may take this much, as long as none was seen.
const UNSEEN_ROW_BYTES: u64 = 4096;

/// Where a piece of about `piece` bytes that begins at `row` ends: on the sink's cuts if it has
/// some, else on the source's, never in the middle of the first one.
fn piece_end(
    row: u64,
    total: u64,
    row_bytes: u64,
    piece: u64,
    sink: impl Fn(u64) -> u64,
    source: impl Fn(u64) -> u64,
) -> u64 {
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
        let mut first = self.error.lock().unwrap_or_else(|e| e.into_inner());
        if first.is_none() || error.is_bug() {
            *first = Some(error);
        }
        self.set.store(true, Ordering::Relaxed);
    }
    fn into_result(self) -> Result<()> {
        match self.error.into_inner().unwrap_or_else(|e| e.into_inner()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}
