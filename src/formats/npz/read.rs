//! Reading: stored members at random, deflated ones as streams.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::codec::names;
use crate::codec::npy_data::{NpyReader, Records};
use crate::codec::npy_header;
use crate::codec::zip::{self, Archive, Entry, Member, MemberHead, check_crc};
use crate::error::{Context, Error, Result};
use crate::format::{Emit, Job, Order, ReadOptions, ReadRows, Source, readable};
use crate::location::{file_blob, temporary};
use crate::model::{ArrayMeta, Chunk, Dtype, Plan};

/// Headers are usually shorter; longer ones take a second read.
const HEAD_BYTES: u64 = 1 << 10;
/// More streams than these are not kept open side by side.
const STREAMS_MAX: usize = 512;

/// A member that is an array (or several, if its type has fields).
struct Npy {
    member: usize,
    data_offset: u64,
    header_bytes: u64,
    /// CRC-32 of the header, which is the beginning of the member.
    header_crc: u32,
    records: Records,
}

/// An opened archive.
pub(super) struct NpzSource {
    plan: Plan,
    archive: Arc<Archive>,
    members: Vec<Arc<Npy>>,
    /// Per array of the plan: its member and its field there; `None` for what cannot be read.
    places: Arc<Vec<Option<(usize, usize)>>>,
    memory_bytes: u64,
    jobs: usize,
    stored: Option<Arc<StoredReader>>,
    streams: Streams,
}

impl NpzSource {
    pub(super) fn open(archive: Arc<Archive>, options: &ReadOptions) -> Result<NpzSource> {
        let wanted: Vec<usize> = (0..archive.entries.len()).filter(|&m| archive.entries[m].name.ends_with(".npy")).collect();
        let mut heads = archive.heads(&wanted, HEAD_BYTES)?.into_iter();
        let (mut members, mut found) = (Vec::new(), Vec::new());
        for (m, entry) in archive.entries.iter().enumerate() {
            if entry.is_dir() {
                continue;
            }
            let Some(name) = entry.name.strip_suffix(".npy") else {
                let why = Error::refused("is not a .npy member of the archive").hint("leave it out with -x");
                found.push((broken(&entry.name, entry, why)?, m, None));
                continue;
            };
            let head = heads.next().unwrap_or_else(|| Err(Error::internal("a header was not read")));
            let opened = if name.is_empty() { Err(Error::refused("the member has no name")) } else { npy(&archive, m, name, head) };
            match opened {
                Ok(npy) => {
                    for (leaf, meta) in npy.records.metas().iter().enumerate() {
                        let mut meta = meta.clone();
                        if !entry.is_stored() {
                            meta.details.compression = Some("deflate".into());
                            meta.details.stored_bytes = (npy.records.leaves.len() == 1).then_some(entry.stored_bytes);
                        }
                        found.push((meta, m, Some((members.len(), leaf))));
                    }
                    members.push(Arc::new(npy));
                }
                Err(error) => found.push((broken(if name.is_empty() { ".npy" } else { name }, entry, error)?, m, None)),
            }
        }
        let all: Vec<String> = found.iter().map(|(meta, ..)| meta.name.clone()).collect();
        let kept = names::unique(&all, options.on_duplicate, &|i| format!("member {}", found[i].1))?;
        let mut plan = Plan { format: "npz", notes: archive.notes(), ..Plan::default() };
        let mut places = Vec::new();
        for ((mut meta, _, place), name) in found.into_iter().zip(kept) {
            if let Some(name) = name {
                meta.name = name;
                plan.arrays.push(meta);
                places.push(place);
            }
        }
        let (memory_bytes, jobs) = (options.memory_bytes, options.jobs.max(1));
        let streams = Streams::default();
        Ok(NpzSource { plan, archive, members, places: Arc::new(places), memory_bytes, jobs, stored: None, streams })
    }

    /// The wanted members, each once, with its wanted arrays: (index in the plan, field).
    fn wanted(&self, arrays: &[usize]) -> Vec<(usize, Vec<(usize, usize)>)> {
        let mut all: Vec<(usize, Vec<(usize, usize)>)> = Vec::new();
        let mut at: HashMap<usize, usize> = HashMap::new();
        for &a in arrays {
            if let Some((member, leaf)) = self.places[a] {
                let i = *at.entry(member).or_insert_with(|| {
                    all.push((member, Vec::new()));
                    all.len() - 1
                });
                all[i].1.push((a, leaf));
            }
        }
        all
    }
}

/// The entry for a member that cannot be read.
fn broken(name: &str, entry: &Entry, error: Error) -> Result<ArrayMeta> {
    let mut meta = ArrayMeta::new(name, Dtype::U8, &[entry.bytes]);
    meta.details.error = Some(Arc::new(error.of_data()?.array(name)));
    meta.details.stored_bytes = Some(entry.stored_bytes);
    Ok(meta)
}

/// Reads a member's npy header.
fn npy(archive: &Archive, member: usize, name: &str, head: Result<MemberHead>) -> Result<Npy> {
    let entry = &archive.entries[member];
    entry.check()?;
    let (data_offset, head) = head?;
    // The member as a stream, only where its head is not enough: far away its buffer would be fetched.
    let mut stream: Option<Member> = None;
    let mut first = if entry.is_stored() { head } else { zip::inflate_some(&head, entry.bytes.min(4096)) };
    if (first.len() as u64) < entry.bytes.min(12) && !entry.is_stored() {
        first = stream.insert(archive.member(member, data_offset)?).take(entry.bytes.min(12))?;
    }
    let total = npy_header::header_bytes(&first)?;
    if total > entry.bytes {
        return Err(Error::corrupt(format!("the header declares {total} bytes, the member has {}", entry.bytes)));
    }
    match stream {
        Some(mut stream) => first.extend(stream.take(total - first.len() as u64)?),
        None if (first.len() as u64) >= total => first.truncate(total as usize),
        None if entry.is_stored() => first = archive.blob.read_vec(data_offset, total)?,
        None => first = archive.member(member, data_offset)?.take(total)?,
    }
    let header = npy_header::parse(&first)?;
    let records = Records::new(&header, name)?;
    if let Some(bytes) = records.bytes
        && Some(entry.bytes) != bytes.checked_add(total)
    {
        return Err(Error::corrupt(format!("the header declares {bytes} bytes of values, the member has {}", entry.bytes - total)));
    }
    Ok(Npy { member, data_offset, header_bytes: total, header_crc: crc32fast::hash(&first), records })
}

impl Source for NpzSource {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn want(&mut self, arrays: &[usize], wish: Order) -> Result<Order> {
        for &a in arrays {
            readable(&self.plan.arrays[a])?;
        }
        let wanted = self.wanted(arrays);
        if wanted.iter().all(|(m, _)| self.archive.entries[self.members[*m].member].is_stored()) {
            let readers = self.members.iter().map(|npy| {
                let at = npy.data_offset + npy.header_bytes;
                NpyReader::new(npy.records.clone(), self.archive.blob.clone(), at, self.memory_bytes)
            });
            let (members, archive) = (self.members.clone(), self.archive.clone());
            let places = self.places.clone();
            self.stored = Some(Arc::new(StoredReader { readers: readers.collect(), members, archive, places, sums: Mutex::default() }));
            return Ok(wish);
        }
        self.stored = None;
        let order = match wish {
            Order::RowBlocks if wanted.len() > STREAMS_MAX => Order::ArrayByArray,
            // The fields of a record come side by side.
            Order::ArrayByArray if wanted.iter().any(|(_, arrays)| arrays.len() > 1) => Order::Any,
            order => order,
        };
        let most = match order {
            Order::Any => self.jobs,
            Order::ArrayByArray => 1,
            Order::RowBlocks => usize::MAX,
        };
        let turns = wanted.into_iter().map(|(m, arrays)| Turn {
            state: Arc::new(MemberState {
                npy: self.members[m].clone(),
                archive: self.archive.clone(),
                name: self.plan.arrays[arrays[0].0].name.clone(),
                arrays,
                memory_bytes: self.memory_bytes,
                progress: Mutex::default(),
                moved: Condvar::new(),
            }),
            row: 0,
            piece: 0,
        });
        self.streams = Streams { waiting: turns.collect(), active: VecDeque::new(), most, order };
        Ok(order)
    }
    fn next(&mut self, max_bytes: u64) -> Result<Option<Box<dyn Job>>> {
        self.streams.next(max_bytes)
    }
    fn random(&self) -> Option<Arc<dyn ReadRows>> {
        Some(self.stored.clone()?)
    }
    fn close(&mut self) -> Result<()> {
        self.stored.as_ref().map_or(Ok(()), |s| s.check())
    }
}

/// Stored members: any rows, and the CRC of what was read from first to last.
struct StoredReader {
    readers: Vec<NpyReader>,
    members: Vec<Arc<Npy>>,
    archive: Arc<Archive>,
    places: Arc<Vec<Option<(usize, usize)>>>,
    sums: Mutex<HashMap<usize, Sums>>,
}

/// What was read of a member: first row → rows and CRC. In Fortran order rows are no pieces of the file: only counted.
#[derive(Default)]
struct Sums {
    pieces: HashMap<u64, (u64, u64, u32)>,
    fortran_rows: u64,
}

impl StoredReader {
    fn sums(&self) -> MutexGuard<'_, HashMap<usize, Sums>> {
        self.sums.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Compares the CRCs of all members that were read as a whole.
    fn check(&self) -> Result<()> {
        for (&m, sums) in self.sums().iter() {
            let npy = &self.members[m];
            let entry = &self.archive.entries[npy.member];
            let named = |r: Result<()>| r.at_array(entry.name.trim_end_matches(".npy"));
            if npy.records.fortran {
                if sums.fortran_rows >= npy.records.rows {
                    let mut stream = self.archive.member(npy.member, npy.data_offset)?;
                    let mut left = entry.bytes;
                    while left > 0 {
                        let n = left.min(1 << 20);
                        stream.take(n)?;
                        left -= n;
                    }
                    named(stream.finish())?;
                }
                continue;
            }
            let mut crc = crc32fast::Hasher::new_with_initial(npy.header_crc);
            let mut row = 0;
            while let Some(&(rows, bytes, piece)) = sums.pieces.get(&row) {
                if rows == 0 {
                    break;
                }
                crc.combine(&crc32fast::Hasher::new_with_initial_len(piece, bytes));
                row += rows;
            }
            if row == npy.records.rows {
                named(check_crc(crc.finalize(), entry.crc))?;
            }
        }
        Ok(())
    }
}

impl ReadRows for StoredReader {
    fn cut(&self, array: usize, row: u64) -> u64 {
        self.places[array].map_or(u64::MAX, |(m, leaf)| self.readers[m].cut(leaf, row))
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        let (m, leaf) = self.places[array]?;
        self.readers[m].cost(leaf, rows)
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let (m, leaf) = self.places[array].ok_or_else(|| Error::internal("an array that cannot be read was asked for"))?;
        let reader = &self.readers[m];
        let whole = reader.records.shape.is_empty();
        let of = if whole { 0..1 } else { rows.clone() };
        let count = of.end.saturating_sub(of.start);
        let raw = reader.raw(of.clone())?;
        if reader.records.fortran {
            self.sums().entry(m).or_default().fortran_rows += count;
        } else {
            let sum = (count, raw.len() as u64, crc32fast::hash(&raw));
            self.sums().entry(m).or_default().pieces.insert(of.start, sum);
        }
        let chunk = Chunk {
            array,
            first_row: of.start,
            rows: reader.records.rows_of(leaf, count),
            values: reader.records.values(leaf, count, raw)?,
            valid: None,
        };
        emit(if whole { chunk.slice(rows.start, rows.end) } else { chunk })
    }
}

/// Members on their way: several at a time, each piece by piece.
struct Streams {
    waiting: VecDeque<Turn>,
    active: VecDeque<Turn>,
    most: usize,
    order: Order,
}

impl Default for Streams {
    fn default() -> Self {
        Streams { waiting: VecDeque::new(), active: VecDeque::new(), most: 1, order: Order::Any }
    }
}

struct Turn {
    state: Arc<MemberState>,
    row: u64,
    piece: u64,
}

impl Streams {
    fn next(&mut self, max_bytes: u64) -> Result<Option<Box<dyn Job>>> {
        while self.active.len() < self.most
            && let Some(turn) = self.waiting.pop_front()
        {
            self.active.push_back(turn);
        }
        // Side by side, all members together give a piece.
        let together: u64 = match self.order {
            Order::RowBlocks => self.active.iter().fold(0, |n, t| n + t.state.row_bytes()),
            _ => 0,
        };
        let Some(mut turn) = self.active.pop_front() else { return Ok(None) };
        let state = turn.state.clone();
        let records = &state.npy.records;
        let row_bytes = if together > 0 { together } else { state.row_bytes() };
        let mut rows = if records.row_bytes() == 0 && !records.metas().iter().any(|m| m.logical.is_var()) {
            records.rows
        } else {
            (max_bytes / row_bytes.max(1)).max(1)
        };
        if records.fortran {
            rows = rows.max((2 * max_bytes / records.row_bytes().max(1)).max(1));
        }
        let end = turn.row.saturating_add(rows).min(records.rows);
        let job = MemberJob { rows: turn.row..end, piece: turn.piece, last: end == records.rows, ran: false, state, raw: None };
        turn.row = end;
        turn.piece += 1;
        let (first, last) = (job.piece == 0, job.last);
        if !last {
            match self.order {
                Order::ArrayByArray => self.active.push_front(turn),
                _ => self.active.push_back(turn),
            }
        }
        let mut job = Box::new(job);
        if self.order == Order::ArrayByArray && !(first && last) {
            // Pieces of one stream cannot be decoded side by side: here they do not keep the workers waiting.
            job.decode()?;
        }
        Ok(Some(job))
    }
}

/// A member that is being decoded.
struct MemberState {
    npy: Arc<Npy>,
    archive: Arc<Archive>,
    name: String,
    /// Index in the plan, and field.
    arrays: Vec<(usize, usize)>,
    memory_bytes: u64,
    progress: Mutex<Progress>,
    moved: Condvar,
}

#[derive(Default)]
struct Progress {
    /// The piece whose turn it is.
    piece: u64,
    stream: Option<Member>,
    /// Fortran order: the whole member on disk.
    spool: Option<Arc<NpyReader>>,
    failed: bool,
}

impl MemberState {
    fn row_bytes(&self) -> u64 {
        let records = &self.npy.records;
        let decoded = self.arrays.iter().fold(0u64, |n, &(_, leaf)| n.saturating_add(records.decoded_bytes(leaf, 1)));
        records.row_bytes().saturating_add(decoded)
    }
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(|e| e.into_inner())
    }
    fn fail(&self) {
        self.lock().failed = true;
        self.moved.notify_all();
    }

    /// The member's stream after its header.
    fn begin(&self) -> Result<Member> {
        let mut stream = self.archive.member(self.npy.member, self.npy.data_offset)?;
        stream.take(self.npy.header_bytes)?;
        Ok(stream)
    }

    /// The whole member in a temporary file: Fortran order needs it from all sides.
    fn spooled(&self) -> Result<Arc<NpyReader>> {
        let mut progress = self.lock();
        if let Some(spool) = &progress.spool {
            return Ok(spool.clone());
        }
        let mut file = temporary::file()?;
        let mut stream = self.begin()?;
        let mut left = self.npy.records.bytes.unwrap_or(0);
        while left > 0 {
            let n = left.min(1 << 20);
            file.write_all(&stream.take(n)?).map_err(temporary::error)?;
            left -= n;
        }
        stream.finish()?;
        let reader = Arc::new(NpyReader::new(self.npy.records.clone(), file_blob(file)?, 0, self.memory_bytes));
        progress.spool = Some(reader.clone());
        Ok(reader)
    }
}

/// Some rows of a member.
struct MemberJob {
    state: Arc<MemberState>,
    rows: Range<u64>,
    piece: u64,
    last: bool,
    ran: bool,
    raw: Option<Vec<u8>>,
}

impl MemberJob {
    /// The stored records of these rows. Waits for the pieces before: they were begun before, so they are under way.
    fn decode(&mut self) -> Result<()> {
        let state = self.state.clone();
        let records = &state.npy.records;
        if records.fortran {
            self.raw = Some(state.spooled()?.raw(self.rows.clone())?);
            self.ran = true;
            return Ok(());
        }
        let mut progress = state.lock();
        while progress.piece != self.piece && !progress.failed {
            progress = state.moved.wait(progress).unwrap_or_else(|e| e.into_inner());
        }
        if progress.failed {
            return Err(Error::corrupt("an earlier part of the member could not be decoded"));
        }
        let mut stream = match progress.stream.take() {
            Some(stream) => stream,
            None => state.begin()?,
        };
        let bytes = (self.rows.end - self.rows.start).saturating_mul(records.row_bytes());
        self.raw = Some(stream.take(bytes)?);
        if self.last {
            stream.finish()?;
        } else {
            progress.stream = Some(stream);
        }
        progress.piece += 1;
        drop(progress);
        self.ran = true;
        state.moved.notify_all();
        Ok(())
    }
}

impl Job for MemberJob {
    fn bytes(&self) -> u64 {
        (self.rows.end - self.rows.start).saturating_mul(self.state.row_bytes())
    }
    fn run(mut self: Box<Self>, emit: Emit<'_>) -> Result<()> {
        if self.raw.is_none() {
            self.decode().at_array(&self.state.name)?;
        }
        let mut raw = self.raw.take().unwrap_or_default();
        let records = &self.state.npy.records;
        let count = self.rows.end - self.rows.start;
        for (i, &(array, leaf)) in self.state.arrays.iter().enumerate() {
            let values = if i + 1 == self.state.arrays.len() {
                records.values(leaf, count, std::mem::take(&mut raw))
            } else {
                records.values_of(leaf, count, &raw)
            };
            let rows = records.rows_of(leaf, count);
            emit(Chunk { array, first_row: self.rows.start, rows, values: values.at_array(&self.state.name)?, valid: None })?;
        }
        Ok(())
    }
}

impl Drop for MemberJob {
    /// A piece that failed or was never run: the pieces after it must not wait.
    fn drop(&mut self) {
        if !self.ran {
            self.state.fail();
        }
    }
}
