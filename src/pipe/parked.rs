//! Sources that are closed once their plan is known, and opened again when their rows are wanted:
//! so more of them can be joined than files can be open at a time. Names no format.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, Weak};

use crate::error::{Error, Result, locked};
use crate::format::{Emit, Job, Order, Piece, ReadPieces, ReadRows, Reader, Source, changed};
use crate::model::{Chunk, Plan};
use crate::ops::dictionary::{Merge, Merged};

/// Opens a source again.
pub type Reopen = Arc<dyn Fn() -> Result<Box<dyn Source>> + Send + Sync>;

/// A source opens a file for each of its arrays at most, and keeps so many of them open.
const MAX_OPEN: usize = 16;

/// Files that a source may have open at a time.
pub fn files_of(plan: &Plan) -> u64 {
    plan.arrays.len().min(MAX_OPEN) as u64 + 2
}

/// The sources that are open: the ones used last stay, the others are closed.
pub struct Parking {
    most_files: u64,
    open: Mutex<VecDeque<Arc<Instance>>>,
}

impl Parking {
    /// Keeps sources open, beside those that are being read, as long as they have no more than
    /// `most_files` together.
    pub fn new(most_files: u64) -> Arc<Parking> {
        Arc::new(Parking { most_files, open: Mutex::default() })
    }
    fn keep(&self, instance: &Arc<Instance>) {
        let mut closed = Vec::new();
        let mut open = locked(&self.open);
        open.retain(|other| !Arc::ptr_eq(other, instance));
        open.push_back(instance.clone());
        while open.len() > 1 && open.iter().map(|i| i.files).sum::<u64>() > self.most_files {
            closed.extend(open.pop_front());
        }
        drop(open);
        drop(closed);
    }
}

/// A source that was opened again, and told what is wanted of it.
struct Instance {
    files: u64,
    rows: Arc<dyn ReadRows>,
    translations: Translations,
}

/// Per array with categories of its own: their codes → the codes of the plan that was told first.
type Translations = Vec<(usize, Arc<Merge>)>;

/// One of these sources.
pub struct Parked {
    plan: Plan,
    shared: Arc<Shared>,
}

/// One of them that is read in order: opened when its turn comes.
struct ParkedPieces {
    shared: Arc<Shared>,
    order: Order,
    now: Option<(Box<dyn ReadPieces>, Translations)>,
    ended: bool,
}

/// What its readers share.
struct Shared {
    parking: Arc<Parking>,
    reopen: Reopen,
    /// Its shape when it was first opened, to see whether it changed.
    plan: Plan,
    merged: Vec<Vec<Arc<Merged>>>,
    wanted: Mutex<Option<(Vec<usize>, Order)>>,
    /// Per wanted array its first cut and the cost of all of it: what a join asks of every part,
    /// again and again.
    told: Mutex<HashMap<usize, (u64, Option<u64>)>>,
    instance: Mutex<Weak<Instance>>,
}

impl Parked {
    /// Closes `source`; `reopen` must give the same one again.
    pub fn new(source: Box<dyn Source>, reopen: Reopen, parking: Arc<Parking>) -> Parked {
        let plan = source.plan().clone();
        let merged = plan.arrays.iter().map(|a| {
            let dictionaries = a.logical.dictionaries().iter();
            dictionaries.map(|categories| Arc::new(Merged::onto(categories.clone()))).collect()
        });
        let shared = Shared {
            parking,
            reopen,
            merged: merged.collect(),
            plan: plan.clone(),
            wanted: Mutex::default(),
            told: Mutex::default(),
            instance: Mutex::default(),
        };
        Parked { plan, shared: Arc::new(shared) }
    }
}

impl Shared {
    /// Opens it anew, without a word on what is wanted.
    fn open(&self) -> Result<(Box<dyn Source>, Translations)> {
        let source = (self.reopen)()?;
        let (then, now) = (&self.plan.arrays, &source.plan().arrays);
        let same = then.len() == now.len()
            && then.iter().zip(now).all(|(a, b)| {
                (&a.name, a.dtype, a.rows, &a.inner) == (&b.name, b.dtype, b.rows, &b.inner)
                    && a.logical == b.logical
            });
        if !same {
            return Err(Error::failed("the file was changed while it was being read")
                .hint("convert it again"));
        }
        let translations = now.iter().zip(&self.merged).enumerate();
        let translations = translations.filter(|(_, (_, merged))| !merged.is_empty());
        let translations = translations
            .map(|(i, (meta, merged))| (i, Arc::new(Merge::new(meta, merged.clone(), meta.dtype))));
        let translations = translations.collect();
        Ok((source, translations))
    }
    /// As [`Shared::open`], told what is wanted.
    fn open_wanted(&self) -> Result<(Reader, Translations)> {
        let wanted = locked(&self.wanted).clone();
        let (arrays, wish) = wanted
            .ok_or_else(|| Error::internal("a source is read before its arrays are chosen"))?;
        let (source, translations) = self.open()?;
        Ok((source.select(&arrays, wish)?, translations))
    }
    /// The open instance, or a new one; one thread opens, others wait for it.
    fn instance(&self) -> Result<Arc<Instance>> {
        let mut slot = locked(&self.instance);
        let instance = match slot.upgrade() {
            Some(instance) => instance,
            None => {
                let (reader, translations) = self.open_wanted()?;
                let rows = reader
                    .random()
                    .ok_or_else(|| Error::internal("a source that had random access has none"))?;
                let files = files_of(&self.plan);
                let instance = Arc::new(Instance { files, rows, translations });
                *slot = Arc::downgrade(&instance);
                instance
            }
        };
        drop(slot);
        self.parking.keep(&instance);
        Ok(instance)
    }
}

impl Source for Parked {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, arrays: &[usize], wish: Order) -> Result<Reader> {
        let shared = self.shared.clone();
        *locked(&shared.wanted) = Some((arrays.to_vec(), wish));
        *locked(&shared.instance) = Weak::new();
        let reader = shared.open_wanted()?.0;
        let order = reader.order(wish);
        let rows = match reader {
            Reader::Random(rows) => rows,
            Reader::InOrder(_) => {
                let pieces = ParkedPieces { shared, order, now: None, ended: false };
                return Ok(Reader::InOrder(Box::new(pieces)));
            }
        };
        let all = |a: usize| 0..self.plan.arrays[a].rows.unwrap_or(0);
        *locked(&shared.told) =
            arrays.iter().map(|&a| (a, (rows.next_boundary(a, 0), rows.cost(a, all(a))))).collect();
        Ok(Reader::Random(Arc::new(ParkedRows(shared))))
    }
}

impl ReadPieces for ParkedPieces {
    fn order(&self) -> Order {
        self.order
    }
    fn next(&mut self, max_bytes: u64) -> Result<Option<Box<dyn Job>>> {
        if self.ended {
            return Ok(None);
        }
        let (pieces, translations) = match &mut self.now {
            Some(now) => now,
            None => match self.shared.open_wanted()? {
                (Reader::InOrder(pieces), translations) => self.now.insert((pieces, translations)),
                (Reader::Random(_), _) => {
                    return Err(Error::internal("a source that had no random access has it"));
                }
            },
        };
        if let Some(job) = pieces.next(max_bytes)? {
            let translations = translations.clone();
            return Ok(Some(changed(job, move |mut chunk, emit| {
                translate(&translations, &mut chunk)?;
                emit(chunk)
            })));
        }
        pieces.close()?;
        (self.now, self.ended) = (None, true);
        Ok(None)
    }
    fn close(&mut self) -> Result<()> {
        self.ended = true;
        self.now.take().map_or(Ok(()), |(mut pieces, _)| pieces.close())
    }
}

fn translate(translations: &Translations, chunk: &mut Chunk) -> Result<()> {
    match translations.iter().find(|(array, _)| *array == chunk.array) {
        Some((_, merge)) => merge.apply(chunk),
        None => Ok(()),
    }
}

struct ParkedRows(Arc<Shared>);

impl ParkedRows {
    /// Cuts are hints: where the source cannot be opened, reading it will say why.
    fn ask<T>(&self, otherwise: T, ask: impl FnOnce(&dyn ReadRows) -> T) -> T {
        match self.0.instance() {
            Ok(instance) => ask(instance.rows.as_ref()),
            Err(_) => otherwise,
        }
    }
}

impl ReadRows for ParkedRows {
    fn next_boundary(&self, array: usize, row: u64) -> u64 {
        if row == 0
            && let Some((cut, _)) = locked(&self.0.told).get(&array)
        {
            return *cut;
        }
        self.ask(u64::MAX, |rows| rows.next_boundary(array, row))
    }
    fn cost(&self, array: usize, range: Range<u64>) -> Option<u64> {
        if Some(range.end) == self.0.plan.arrays[array].rows
            && range.start == 0
            && let Some((_, cost)) = locked(&self.0.told).get(&array)
        {
            return *cost;
        }
        self.ask(None, |rows| rows.cost(array, range))
    }
    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        self.ask(None, |rows| rows.piece(array, row, bytes))
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let instance = self.0.instance()?;
        instance.rows.read(array, rows, &mut |mut chunk| {
            translate(&instance.translations, &mut chunk)?;
            emit(chunk)
        })
    }
}
