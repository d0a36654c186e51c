//! Reading: stored members at random, deflated ones as streams.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::array::reader::MapReader;
use crate::array::source::{Fields, MapSource};
use crate::array::{ArrayMap, PieceLocation, Pieces};
use crate::codec::npy_header;
use crate::codec::numpy_types::Descr;
use crate::codec::zip::{self, Archive, CheckedMember, Entry, Member, MemberHead};
use crate::error::{Context, Error, Result, locked};
use crate::format::duplicates;
use crate::format::{
    Emit, Job, Order, ReadOptions, ReadPieces, ReadRows, Reader, Source, StoredArray,
};
use crate::formats::numpy::npy_data::Records;
use crate::formats::numpy::pickled;
use crate::model::{ArrayMeta, Buf, Dtype, Plan};
use crate::storage::BlobSlice;

/// Headers are usually shorter; longer ones take a second read.
const HEAD_BYTES: u64 = 1 << 10;
/// More streams than these are not kept open side by side.
const MAX_STREAMS: usize = 512;

/// A member that is an array (or several, if its type has fields).
struct Npy {
    member: usize,
    name: String,
    data_offset: u64,
    header_bytes: u64,
    records: Records,
    /// Whether the values are pickled objects.
    is_object: bool,
    /// The bytes behind the header, for members that are read at random: stored ones, and those in
    /// Fortran order.
    bytes: Arc<dyn Pieces>,
    checked: Option<Arc<CheckedMember>>,
}

/// The values of a deflated member, inflated to a temporary file.
struct Inflated {
    archive: Arc<Archive>,
    member: usize,
    header_bytes: u64,
}

impl Pieces for Inflated {
    fn locate(&self, _at: &[u64]) -> Result<Option<PieceLocation>> {
        let member = self.archive.bytes(self.member)?;
        let (start, len) =
            (member.start + self.header_bytes, member.len.saturating_sub(self.header_bytes));
        Ok(Some(PieceLocation { slice: BlobSlice { start, len, ..member }, skipped: 0 }))
    }
}

/// An opened archive.
pub(super) struct NpzSource {
    archive: Arc<Archive>,
    members: Vec<Arc<Npy>>,
    /// Per array of the plan: its member and its field there; `None` for what cannot be read.
    places: Arc<Vec<Option<(usize, usize)>>>,
    jobs: usize,
    /// All arrays, as if all members were stored.
    maps: MapSource,
}

/// An array that was found in an archive.
struct FoundArray {
    meta: ArrayMeta,
    member: usize,
    /// The opened member and its field; `None` for what cannot be read, or was pickled.
    place: Option<(usize, usize)>,
    /// Where the values of a pickled one are.
    map: Option<ArrayMap>,
}

impl FoundArray {
    fn new(meta: ArrayMeta, member: usize) -> FoundArray {
        FoundArray { meta, member, place: None, map: None }
    }
}

/// The members that are arrays, and all arrays in them.
fn find(archive: &Arc<Archive>, options: &ReadOptions) -> Result<(Vec<Arc<Npy>>, Vec<FoundArray>)> {
    let wanted: Vec<usize> =
        (0..archive.entries.len()).filter(|&m| archive.entries[m].name.ends_with(".npy")).collect();
    let mut heads = archive.heads(&wanted, HEAD_BYTES)?.into_iter();
    let (mut members, mut found) = (Vec::new(), Vec::new());
    for (m, entry) in archive.entries.iter().enumerate() {
        if entry.is_dir() {
            continue;
        }
        let Some(name) = entry.name.strip_suffix(".npy") else {
            let why =
                Error::refused("is not a .npy member of the archive").hint("leave it out with -x");
            found.push(FoundArray::new(broken(&entry.name, entry, why)?, m));
            continue;
        };
        let head = heads.next().unwrap_or_else(|| Err(Error::internal("a header was not read")));
        let opened = if name.is_empty() {
            Err(Error::refused("the member has no name"))
        } else {
            npy(archive, m, name, head)
        };
        match opened {
            Ok(npy) if npy.is_object => match objects(archive, &npy, options) {
                Ok(arrays) => {
                    let array = |(meta, map)| FoundArray { map, ..FoundArray::new(meta, m) };
                    found.extend(arrays.into_iter().map(array));
                }
                Err(error) => found.push(FoundArray::new(broken(name, entry, error)?, m)),
            },
            Ok(npy) => {
                for (leaf, meta) in npy.records.metas().iter().enumerate() {
                    let mut meta = meta.clone();
                    if !entry.is_stored() {
                        meta.details.compression = Some("deflate".into());
                        meta.details.stored_bytes =
                            (npy.records.leaves.len() == 1).then_some(entry.stored_bytes);
                    }
                    let place = Some((members.len(), leaf));
                    found.push(FoundArray { place, ..FoundArray::new(meta, m) });
                }
                members.push(Arc::new(npy));
            }
            Err(error) => {
                let name = if name.is_empty() { ".npy" } else { name };
                found.push(FoundArray::new(broken(name, entry, error)?, m));
            }
        }
    }
    Ok((members, found))
}

impl NpzSource {
    pub(super) fn open(archive: Arc<Archive>, options: &ReadOptions) -> Result<NpzSource> {
        let (members, found) = find(&archive, options)?;
        let all: Vec<String> = found.iter().map(|f| f.meta.name.clone()).collect();
        let kept = duplicates::unique(&all, options.on_duplicate, &|i| {
            format!("member {}", found[i].member)
        })?;
        let mut plan = Plan { format: "npz", notes: archive.notes(), ..Plan::default() };
        let (mut places, mut pickled) = (Vec::new(), Vec::new());
        for (FoundArray { mut meta, place, map, .. }, name) in found.into_iter().zip(kept) {
            if let Some(name) = name {
                meta.name = name;
                plan.arrays.push(meta);
                places.push(place);
                pickled.push(map);
            }
        }
        let mut fields: Vec<Vec<_>> =
            members.iter().map(|npy| npy.records.maps(&npy.bytes)).collect();
        let maps = places
            .iter()
            .zip(pickled)
            .map(|(place, map)| map.or_else(|| place.and_then(|(m, leaf)| fields[m][leaf].take())))
            .collect();
        let (places, checked) = (Arc::new(places), members.clone());
        let of = places.clone();
        let maps =
            MapSource::new(plan, maps, options.resources.memory_bytes()).closed_by(move |arrays| {
                let mut wanted: Vec<usize> =
                    arrays.iter().filter_map(|&a| of[a].map(|(m, _)| m)).collect();
                wanted.sort_unstable();
                wanted.dedup();
                wanted.into_iter().try_for_each(|m| checked[m].check())
            });
        let jobs = options.resources.jobs().max(1);
        Ok(NpzSource { archive, members, places, maps, jobs })
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

/// The arrays of a member of pickled objects.
fn objects(
    archive: &Archive,
    npy: &Npy,
    options: &ReadOptions,
) -> Result<Vec<(ArrayMeta, Option<ArrayMap>)>> {
    let all = BlobSlice::memory(archive.read(npy.member, pickled::limit(options))?);
    let (start, len) = (npy.header_bytes, all.len.saturating_sub(npy.header_bytes));
    let bytes = BlobSlice { start, len, ..all };
    pickled::of_npy(Arc::new(bytes), &npy.records.shape, &npy.name, options)
        .map(|found| found.arrays)
}

/// The entry for a member that cannot be read.
fn broken(name: &str, entry: &Entry, error: Error) -> Result<ArrayMeta> {
    let mut meta = ArrayMeta::new(name, Dtype::U8, &[entry.bytes]);
    meta.details.error = Some(Arc::new(error.of_data()?.array(name)));
    meta.details.stored_bytes = Some(entry.stored_bytes);
    Ok(meta)
}

/// Reads a member's npy header.
fn npy(archive: &Arc<Archive>, member: usize, name: &str, head: Result<MemberHead>) -> Result<Npy> {
    let entry = &archive.entries[member];
    let (data_offset, head) = head?;
    entry.check()?;
    // The member as a stream, only where its head is not enough: far away its buffer would be
    // fetched.
    let mut stream: Option<Member> = None;
    let mut first =
        if entry.is_stored() { head } else { zip::inflate_some(&head, entry.bytes.min(4096)) };
    if (first.len() as u64) < entry.bytes.min(12) && !entry.is_stored() {
        first = stream.insert(archive.member(member, data_offset)?).take(entry.bytes.min(12))?;
    }
    let total = npy_header::header_bytes(&first)?;
    if total > entry.bytes {
        return Err(Error::corrupt(format!(
            "the header declares {total} bytes, the member has {}",
            entry.bytes
        )));
    }
    match stream {
        Some(mut stream) => first.extend(stream.take(total - first.len() as u64)?),
        None if (first.len() as u64) >= total => first.truncate(total as usize),
        None if entry.is_stored() => first = archive.blob.read_vec(data_offset, total)?,
        None => first = archive.member(member, data_offset)?.take(total)?,
    }
    let header = npy_header::parse(&first)?;
    let records = Records::new(&header, name)?;
    let is_object = header.descr == Descr::Simple("|O".into());
    if let Some(bytes) = records.bytes
        && Some(entry.bytes) != bytes.checked_add(total)
    {
        return Err(Error::corrupt(format!(
            "the header declares {bytes} bytes of values, the member has {}",
            entry.bytes - total
        )));
    }
    let (name, len) = (name.to_string(), entry.bytes - total);
    let (bytes, checked): (Arc<dyn Pieces>, _) = if entry.is_stored() {
        let blob = archive.blob.clone();
        let stored = BlobSlice { blob, start: data_offset, len: entry.bytes };
        let scattered = records.is_fortran() && !stored.blob.is_remote();
        let checked = Arc::new(CheckedMember::new(stored, entry.crc, &first, scattered));
        (Arc::new(BlobSlice { blob: checked.clone(), start: total, len }), Some(checked))
    } else {
        (Arc::new(Inflated { archive: archive.clone(), member, header_bytes: total }), None)
    };
    Ok(Npy { member, name, data_offset, header_bytes: total, records, is_object, bytes, checked })
}

impl Npy {
    fn check(&self) -> Result<()> {
        self.checked.as_ref().map_or(Ok(()), |member| member.check()).at_array(&self.name)
    }
}

impl Source for NpzSource {
    fn plan(&self) -> &Plan {
        self.maps.plan()
    }
    fn select(&self, arrays: &[usize], wish: Order) -> Result<Reader> {
        let reader = self.maps.select(arrays, wish)?;
        let wanted = self.wanted(arrays);
        // Objects are at hand: with them among the wanted, deflated members are inflated to files.
        let is_object =
            |&a: &usize| self.places[a].is_none() && self.maps.reader().map(a).is_some();
        let is_stored =
            |(m, _): &(usize, _)| self.archive.entries[self.members[*m].member].is_stored();
        if arrays.iter().any(is_object) || wanted.iter().all(is_stored) {
            return Ok(reader);
        }
        let order = match wish {
            Order::RowBlocks if wanted.len() > MAX_STREAMS => Order::ArrayByArray,
            // The fields of a record come side by side.
            Order::ArrayByArray if wanted.iter().any(|(_, arrays)| arrays.len() > 1) => Order::Any,
            order => order,
        };
        let most = match order {
            Order::Any => self.jobs,
            Order::ArrayByArray => 1,
            Order::RowBlocks => usize::MAX,
        };
        let turns = wanted.into_iter().map(|(m, arrays)| {
            let npy = self.members[m].clone();
            let fields =
                arrays.iter().map(|&(array, leaf)| (array, npy.records.element(leaf))).collect();
            let (scalar, row_elements) = (npy.records.shape.is_empty(), npy.records.row_records);
            let name = self.plan().arrays[arrays[0].0].name.clone();
            let (archive, reader) = (self.archive.clone(), self.maps.reader().clone());
            let fields = Fields { fields, scalar, row_elements };
            let state = MemberState {
                npy,
                archive,
                name,
                fields,
                reader,
                progress: Mutex::default(),
                moved: Condvar::new(),
            };
            MemberProgress { state: Arc::new(state), row: 0, piece: 0 }
        });
        let (waiting, active) = (turns.collect(), VecDeque::new());
        Ok(Reader::InOrder(Box::new(Streams { waiting, active, most, order })))
    }
    fn stored(&self, array: usize) -> Result<StoredArray> {
        for (member, arrays) in self.wanted(&[array]) {
            if !arrays.is_empty() && !self.archive.entries[self.members[member].member].is_stored()
            {
                return Err(Error::refused("its member of the archive is compressed"));
            }
        }
        self.maps.stored(array)
    }
}

/// Members on their way: several at a time, each piece by piece.
struct Streams {
    waiting: VecDeque<MemberProgress>,
    active: VecDeque<MemberProgress>,
    most: usize,
    order: Order,
}

struct MemberProgress {
    state: Arc<MemberState>,
    row: u64,
    piece: u64,
}

impl ReadPieces for Streams {
    fn order(&self) -> Order {
        self.order
    }
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
        let mut rows =
            if records.row_bytes() == 0 && !records.metas().iter().any(|m| m.logical.is_var()) {
                records.rows
            } else {
                (max_bytes / row_bytes.max(1)).max(1)
            };
        if records.is_fortran() {
            rows = rows.max((2 * max_bytes / records.row_bytes().max(1)).max(1));
        }
        let end = turn.row.saturating_add(rows).min(records.rows);
        let job = MemberJob {
            rows: turn.row..end,
            piece: turn.piece,
            last: end == records.rows,
            ran: false,
            state,
            raw: None,
        };
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
            // Pieces of one stream cannot be decoded side by side: here they do not keep the
            // workers waiting.
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
    fields: Fields,
    /// Of all arrays: Fortran order needs them from all sides.
    reader: Arc<MapReader>,
    progress: Mutex<Progress>,
    moved: Condvar,
}

#[derive(Default)]
struct Progress {
    /// The piece whose turn it is.
    piece: u64,
    stream: Option<Member>,
    failed: bool,
}

impl MemberState {
    fn row_bytes(&self) -> u64 {
        let records = &self.npy.records;
        let decoded = self.fields.fields.iter().fold(0u64, |n, (_, e)| {
            n.saturating_add(records.row_records.saturating_mul(e.extra_bytes()))
        });
        records.row_bytes().saturating_add(decoded)
    }
    fn lock(&self) -> MutexGuard<'_, Progress> {
        locked(&self.progress)
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
    /// The stored records of these rows. Waits for the pieces before: they were begun before, so
    /// they are under way.
    fn decode(&mut self) -> Result<()> {
        let state = self.state.clone();
        let records = &state.npy.records;
        if records.is_fortran() {
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
        let state = &self.state;
        let named = |r: Result<()>| r.at_array(&state.name);
        match self.raw.take() {
            Some(raw) => named(state.fields.emit(&Buf::from_vec(raw), &self.rows, emit)),
            None => {
                named(
                    state.fields.fields.iter().try_for_each(|(array, _)| {
                        state.reader.read(*array, self.rows.clone(), emit)
                    }),
                )
            }
        }
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
