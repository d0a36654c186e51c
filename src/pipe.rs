//! The only driver: executes the recipes of an output's arrays, from a source to a sink, on all
//! cores, within a memory budget.
//!
//! Each array takes the best of three strategies that it can have, whatever its neighbours need:
//! 1. **kernel copy** ([`parallel`], [`kernel_copy`]): nothing changes, and both ends know where
//!    the bytes are; the kernel copies file to file.
//! 2. **parallel** ([`parallel`]): both ends have random access, and no change needs an order;
//!    blocks of rows are read, changed and written by position on all cores.
//! 3. **ordered** ([`ordered`]): pieces are decoded and blocks encoded on all cores; changes that
//!    need an order, and `append`, are done in order.
//!
//! What cannot be had in the order, or with the row counts, that the sink needs first goes to a
//! [`spool`] on disk: only those arrays, where the source has random access.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crate::error::{Error, ErrorKind, Result, guard};
use crate::format::{Capabilities, Emit, Order, Prepared, ReadRows, Sink};
use crate::model::{Chunk, Logical, Plan, Values};
use crate::ops::Needs;
use crate::resources::FileReservation;

mod beside;
mod blocks;
mod cutter;
mod flow;
pub mod fold;
pub mod join;
mod kernel_copy;
mod memory;
pub mod nested;
mod ordered;
mod parallel;
pub mod parked;
mod pieces;
mod restore;
mod rows;
pub mod spool;
mod work;

pub use crate::resources::{Budget, Cancel, Reservation, Resources};
pub use beside::drain_beside;
pub use flow::{Flow, Selected};
pub use kernel_copy::may_share;
use ordered::in_order;
use parallel::by_position;
pub use pieces::{Fold, pieces};
pub use restore::restore;
pub use rows::{slice, slice_ranked};
use work::Work;

/// Limits and callbacks of a run.
#[derive(Clone)]
pub struct Settings {
    /// Threads and memory.
    pub resources: Resources,
    /// Called with the bytes delivered since the last call, and the array they belong to.
    pub progress: Option<Progress>,
    /// What the output is called in errors that arise there, not in the source.
    output: OutputName,
    /// Bytes that the kernel copied file to file, without a buffer of this process.
    copied: Arc<AtomicU64>,
    /// What this file holds until its end.
    held: Arc<FileReservation>,
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
            Some(name) if !matches!(error.kind(), ErrorKind::Refused | ErrorKind::Corrupt) => {
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
    /// So many threads, and so many bytes.
    pub fn new(jobs: usize, memory_bytes: u64) -> Settings {
        Settings::of(&Resources::new(jobs, memory_bytes))
    }
    /// What the run has, silent.
    pub fn of(resources: &Resources) -> Settings {
        Settings {
            held: Arc::new(resources.budget().file()),
            resources: resources.clone(),
            progress: None,
            output: OutputName::default(),
            copied: Arc::default(),
            pool: Arc::default(),
        }
    }
    fn begun(&self) -> Settings {
        let held = Arc::new(self.resources.budget().file());
        Settings { copied: Arc::default(), held, ..self.clone() }
    }
    /// The same threads and budget for one run of its own, telling this callback.
    pub fn with_progress(&self, progress: Progress) -> Settings {
        Settings { progress: Some(progress), ..self.begun() }
    }
    /// The same threads and budget for a run of its own that can be cancelled.
    pub fn with_cancel(&self, cancel: Option<Cancel>) -> Settings {
        Settings { resources: self.resources.with_cancel(cancel), ..self.begun() }
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
    /// Asked between pieces.
    ///
    /// # Errors
    /// Cancelled, where somebody asked for that.
    pub fn check(&self) -> Result<()> {
        self.resources.check()
    }
    /// A good size for a piece: small enough for every thread to have some in flight.
    pub fn piece_bytes(&self) -> u64 {
        let (total, jobs) = (self.resources.budget().total(), self.resources.jobs() as u64);
        (total / (4 * jobs + 4)).clamp(64 << 10, 8 << 20)
    }
}

/// Makes every array of the flow's plan in a new sink, and commits it.
///
/// Returns the sink's summary and the final plan (all rows known).
///
/// # Errors
/// Those of source, ops and sink; then nothing is left behind.
pub fn run(
    flow: impl Into<Flow>,
    holds: &Capabilities,
    prepared: Prepared<'_>,
    settings: &Settings,
) -> Result<(crate::format::Summary, Plan)> {
    pool(settings)?;
    let flow = flow.into();
    let all: Vec<usize> = (0..flow.plan().arrays.len()).collect();
    let mut work = Work::open(flow, &all, holds.order, settings)?;
    let unsuitable = work.unsuitable(holds);
    if !unsuitable.is_empty() {
        work = work.spool(&unsuitable, settings)?;
    }
    let mut sink = settings.output.at(prepared(&work.plan))?;
    let mut rows = Rows::new(&work.plan);
    rows.take_regions(&work, sink.as_ref());
    by_position(&mut work, sink.as_mut(), &mut rows, settings)?;
    in_order(&mut work, sink.as_mut(), holds.order, &mut rows, settings)?;
    work.inputs.close()?;
    let mut end = work.plan;
    rows.check(&mut end)?;
    drop(work.inputs);
    settings.check()?;
    let summary = settings.output.at(sink.finish(&end))?;
    settings.held.release();
    Ok((summary, end))
}

/// Delivers every array of the flow's plan to `each`, in row order within an array: for checksums,
/// statistics, comparisons.
///
/// # Errors
/// Those of the source, the ops and of `each`.
pub fn drain(
    flow: impl Into<Flow>,
    wish: Order,
    each: Emit<'_>,
    settings: &Settings,
) -> Result<Plan> {
    let flow = flow.into();
    let all: Vec<usize> = (0..flow.plan().arrays.len()).collect();
    let mut work = Work::open(flow, &all, wish, settings)?;
    if !work.suits(wish) {
        work = work.spool(&all, settings)?;
    }
    drained(work, wish, each, settings)
}

fn drained(mut work: Work, wish: Order, each: Emit<'_>, settings: &Settings) -> Result<Plan> {
    let all = work.outputs();
    let mut end = work.plan.clone();
    let mut rows = Rows::new(&end);
    work.decode(&all, wish, settings, None, &mut |mut chunk: Chunk| {
        rows.count(&mut chunk)?;
        settings.moved(chunk.bytes(), &end.arrays[chunk.array].name);
        each(chunk)
    })?;
    work.inputs.close()?;
    rows.check(&mut end)?;
    Ok(end)
}

/// The threads, started once for all files of a batch.
fn pool(settings: &Settings) -> Result<&rayon::ThreadPool> {
    if let Some(pool) = settings.pool.get() {
        return Ok(pool);
    }
    // Where the system allows fewer threads than were asked for, those do the work.
    let mut wanted = settings.resources.jobs();
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

/// These arrays of a flow with random access, their own or that of a spool.
///
/// # Errors
/// Reading errors; disk full.
pub fn with_random(
    flow: impl Into<Flow>,
    arrays: &[usize],
    settings: &Settings,
) -> Result<Selected> {
    let work = Work::open(flow.into(), arrays, Order::Any, settings)?;
    let in_order = arrays.iter().any(|&a| work.recipes.of(a).needs() > Needs::Rows);
    match work.reading().cloned().filter(|_| !in_order) {
        Some(reader) => Ok(Selected { plan: work.plan, reader }),
        None => work.spool_source(arrays, settings),
    }
}

/// A flow as a source whose arrays can be joined and cut. Arrays whose rows only reading tells are
/// put aside, if the source can be read at random.
///
/// # Errors
/// Reading errors; disk full.
pub fn settled(flow: Flow, settings: &Settings) -> Result<Box<dyn crate::format::Source>> {
    let all: Vec<usize> = (0..flow.plan().arrays.len()).collect();
    let whole = |a: &usize| flow.recipes[*a].needs() == Needs::Whole;
    let unsettled: Vec<usize> = all.iter().copied().filter(whole).collect();
    if unsettled.is_empty() {
        return Ok(flow.into_source());
    }
    let work = Work::open(flow, &all, Order::Any, settings)?.spool(&unsettled, settings)?;
    let reader = work.reading().cloned();
    let reader = reader.ok_or_else(|| Error::internal("a spool without rows"))?;
    Ok(Box::new(Selected { plan: work.plan, reader }))
}

/// The first row of each list array whose length differs from the first row's: the array, the
/// first row's length, that row and its length. Only arrays of lists can have one.
///
/// # Errors
/// Reading errors.
pub fn uneven_rows(flow: Flow, settings: &Settings) -> Result<Vec<(String, [u64; 3])>> {
    let plan = flow.plan().clone();
    let lists: Vec<usize> = (0..plan.arrays.len())
        .filter(|&a| {
            let meta = &plan.arrays[a];
            meta.logical == Logical::List && meta.details.error.is_none()
        })
        .collect();
    let mut first: Vec<Option<u64>> = vec![None; lists.len()];
    let mut found: Vec<Option<[u64; 3]>> = vec![None; lists.len()];
    let enough = || Error::failed("every array has an uneven row");
    let mut look = |chunk: Chunk| -> Result<()> {
        let Values::Var { offsets, .. } = &chunk.values else { return Ok(()) };
        let (first, found_here) = (&mut first[chunk.array], &mut found[chunk.array]);
        for (i, pair) in offsets.windows(2).enumerate() {
            let length = pair[1] - pair[0];
            if found_here.is_some() || !chunk.is_valid(i) {
                continue;
            }
            let usual = *first.get_or_insert(length);
            if usual != length {
                *found_here = Some([usual, chunk.first_row + i as u64, length]);
            }
        }
        if found.iter().all(Option::is_some) { Err(enough()) } else { Ok(()) }
    };
    let looked = drain(flow.choose(&lists), Order::Any, &mut look, settings);
    if found.iter().any(Option::is_none) {
        looked?;
    }
    let named = lists.iter().zip(found);
    Ok(named.filter_map(|(&a, found)| Some((plan.arrays[a].name.clone(), found?))).collect())
}

/// Does all tasks on all threads; stops at the first error. Each comes with the bytes that it will
/// hold.
///
/// # Errors
/// The first one of `work`.
pub fn parallel<T: Send>(
    settings: &Settings,
    mut tasks: impl Iterator<Item = (u64, T)>,
    work: &(dyn Fn(T) -> Result<()> + Sync),
) -> Result<()> {
    on_pool(settings, u64::MAX, &Failure::default(), &mut || Ok(tasks.next()), work)
}

/// Whether `check` holds for every chunk of an array, read on all threads; stops at the first that
/// fails it.
///
/// # Errors
/// Reading errors.
fn all_chunks(
    reader: &Arc<dyn ReadRows>,
    array: usize,
    meta: &crate::model::ArrayMeta,
    settings: &Settings,
    check: &(dyn Fn(&Chunk) -> bool + Sync),
) -> Result<bool> {
    let (total, row_bytes, piece) =
        (meta.rows.unwrap_or(0), meta.row_bytes()?, settings.piece_bytes());
    let holds = AtomicBool::new(true);
    let mut row = 0;
    let mut next = || {
        if row >= total || !holds.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let end = piece_end(
            row,
            total,
            row_bytes,
            piece,
            |_| u64::MAX,
            |r| reader.next_boundary(array, r),
        );
        let range = std::mem::replace(&mut row, end)..end;
        Ok(Some(((range.end - range.start).saturating_mul(row_bytes), range)))
    };
    let work = |range| {
        let mut look = |chunk: Chunk| {
            if !check(&chunk) {
                holds.store(false, Ordering::Relaxed);
            }
            Ok(())
        };
        reader.read(array, range, &mut look).map_err(|e| e.array(&meta.name))
    };
    let all_bytes = total.saturating_mul(row_bytes);
    on_pool(settings, all_bytes, &Failure::default(), &mut next, &work)?;
    Ok(holds.into_inner())
}

/// Below this, handing work to other threads costs more than doing it.
const SMALL_BYTES: u64 = 1 << 20;
/// Small tasks go to a thread together, as long as they hold less than this,
const BATCH_BYTES: u64 = 128 << 10;
/// and so many of them at most: each may have files open.
const BATCH_TASKS: usize = 8;

/// Does tasks on the pool; `all_bytes` is what they move together. This thread gives them out, and
/// waits for the memory that each needs: a thread of the pool never waits for memory, since what
/// would free it may be work that waits for a thread.
fn on_pool<T: Send>(
    settings: &Settings,
    all_bytes: u64,
    failed: &Failure,
    next: &mut dyn FnMut() -> Result<Option<(u64, T)>>,
    work: &(dyn Fn(T) -> Result<()> + Sync),
) -> Result<()> {
    let run = |tasks: Vec<T>| {
        for task in tasks {
            if !failed.is_set()
                && let Err(e) = settings.check().and_then(|()| guard(|| work(task)))
            {
                failed.set(e);
            }
        }
    };
    let mut batch = || {
        let (mut bytes, mut tasks) = (0u64, Vec::new());
        while tasks.len() < BATCH_TASKS && bytes < BATCH_BYTES && !failed.is_set() {
            match guard(&mut *next) {
                Ok(Some((held, task))) => {
                    bytes = bytes.saturating_add(held);
                    tasks.push(task);
                }
                Ok(None) => break,
                Err(e) => failed.set(e),
            }
        }
        (!tasks.is_empty()).then_some((bytes, tasks))
    };
    if all_bytes < SMALL_BYTES {
        while let Some((bytes, tasks)) = batch() {
            let _held = settings.held.acquire(bytes);
            run(tasks);
        }
        return failed.result();
    }
    let turns = Budget::of_units(settings.resources.jobs() as u64 + 1);
    let run = &run;
    pool(settings)?.in_place_scope(|scope| {
        loop {
            let turn = turns.acquire(1);
            let Some((bytes, tasks)) = batch() else { break };
            let held = settings.held.acquire(bytes);
            scope.spawn(move |_| {
                run(tasks);
                drop((held, turn));
            });
        }
    });
    failed.result()
}

/// Counts rows per array: fills in `first_row`, and compares with the plan.
struct Rows {
    names: Vec<String>,
    announced: Vec<Option<u64>>,
    seen: Vec<u64>,
    /// Arrays that were moved by position, or are none of the sink's.
    done: Vec<bool>,
    /// The rows of each that the sink takes.
    regions: Vec<Range<u64>>,
}

impl Rows {
    fn new(plan: &Plan) -> Rows {
        Rows {
            names: plan.arrays.iter().map(|a| a.name.clone()).collect(),
            announced: plan.arrays.iter().map(|a| a.rows).collect(),
            seen: vec![0; plan.arrays.len()],
            done: vec![false; plan.arrays.len()],
            regions: vec![0..u64::MAX; plan.arrays.len()],
        }
    }
    /// Leaves out what the sink does not take.
    fn take_regions(&mut self, work: &Work, sink: &dyn Sink) {
        for a in 0..self.regions.len() {
            self.regions[a] = sink.region(a, work.goes_by_position(a));
            self.done[a] = self.regions[a].is_empty();
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

/// Where a piece of about `piece` bytes that begins at `row` ends: on the sink's cuts if it has
/// some, else on the source's, never in the middle of the first one.
pub(crate) fn piece_end(
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
    fn result(&self) -> Result<()> {
        match self.error.lock().unwrap_or_else(|e| e.into_inner()).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}
