//! A flow that is being executed: which outputs are read together, what must go by way of the disk,
//! and the pieces on their way.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use super::cutter::{Cut, Cutter, Lane, Sequence};
use super::flow::{Flow, RecipeReader, Selected, select};
use super::pool::pool;
use super::settings::Settings;
use super::spool::{Spool, beside};
use crate::array::text_codes::check_distinct;
use crate::error::{Error, Result, guard};
use crate::format::{
    Capabilities, CodedText, Emit, Extent, Job, Order, ReadPieces, ReadRows, Reader, WriteRows,
};
use crate::model::{Chunk, Dtype, Logical, Plan, Values};
use crate::ops::{InOrder, Needs, Op, Portion, Recipe, Recipes};
use crate::resources::Reservation;

pub(super) struct Work {
    /// The outputs.
    pub(super) plan: Plan,
    pub(super) recipes: Arc<Recipes>,
    pub(super) inputs: Inputs,
}

/// How the inputs of the outputs are read.
pub(super) enum Inputs {
    /// At random.
    Random(Arc<RecipeReader>),
    /// In order, so that the outputs' chunks come in this one.
    InOrder(Box<dyn ReadPieces>, Order),
}

impl Inputs {
    fn new(reader: Reader, given: Order, recipes: &Arc<Recipes>, inputs: Plan) -> Inputs {
        match reader {
            Reader::Random(reader) => {
                Inputs::Random(Arc::new(RecipeReader { reader, recipes: recipes.clone(), inputs }))
            }
            Reader::InOrder(pieces) => Inputs::InOrder(pieces, given),
        }
    }
    /// Where the bytes of an input are.
    pub(super) fn extents(&self, input: usize) -> Option<Vec<Extent>> {
        match self {
            Inputs::Random(reading) => reading.reader.extents(input),
            Inputs::InOrder(pieces, _) => pieces.extents(input),
        }
    }
    /// All was read.
    pub(super) fn close(&mut self) -> Result<()> {
        match self {
            Inputs::Random(reading) => reading.close(),
            Inputs::InOrder(pieces, _) => pieces.close(),
        }
    }
}

impl Work {
    /// Ready to give these outputs.
    pub(super) fn open(
        flow: Flow,
        outputs: &[usize],
        wish: Order,
        settings: &Settings,
    ) -> Result<Work> {
        let Flow { source, plan, mut recipes } = flow;
        let stacked = outputs.iter().any(|&a| recipes[a].needs() == Needs::Rows);
        checked_at_border(&mut recipes, source.plan());
        let mut ready = Recipes::new(recipes, &plan, source.plan().arrays.len());
        if outputs.len() < plan.arrays.len() {
            ready = ready.only(outputs);
        }
        let asked = if stacked { Order::RowBlocks } else { wish };
        let (mut reader, mut given) = select(source.as_ref(), &plan, &ready, outputs, asked)?;
        let mut inputs = source.plan().clone();
        // Columns that do not come side by side are laid so on the disk, and scales beside weights.
        let dequantized = outputs.iter().any(|&a| ready.of(a).dequantize().is_some());
        let apart = stacked && given != Order::RowBlocks || dequantized;
        if apart && matches!(reader, Reader::InOrder(_)) {
            let mut columns: Vec<usize> = (0..inputs.arrays.len()).collect();
            columns.retain(|&input| !ready.uses(input).is_empty());
            let each =
                Recipes::new(Recipe::each(inputs.arrays.len()), &inputs, inputs.arrays.len());
            let recipes = Arc::new(each.only(&columns));
            let below = Inputs::new(reader, Order::Any, &recipes, inputs.clone());
            let below = Work { plan: inputs, recipes, inputs: below };
            let spooled = below.spool_source(&columns, settings)?;
            (inputs, reader) = (spooled.plan, Reader::Random(spooled.reader));
        }
        let recipes = Arc::new(ready);
        if outputs.iter().any(|&a| recipes.of(a).needs() == Needs::Whole) {
            given = Order::Any;
        }
        let inputs = Inputs::new(reader, given, &recipes, inputs);
        Ok(Work { plan, recipes, inputs })
    }

    /// The reader of the outputs, where there is random access.
    pub(super) fn reading(&self) -> Option<&Arc<RecipeReader>> {
        match &self.inputs {
            Inputs::Random(reading) => Some(reading),
            Inputs::InOrder(..) => None,
        }
    }

    /// As [`Work::spool`], where nothing else is needed: a source of the same arrays.
    pub(super) fn spool_source(
        mut self,
        outputs: &[usize],
        settings: &Settings,
    ) -> Result<Selected> {
        let mut spool = Spool::new(self.plan.clone())?;
        self.decode(outputs, Order::Any, settings, None, &mut |chunk| spool.push(&chunk))?;
        self.inputs.close()?;
        Ok(spool.into_source())
    }

    pub(super) fn outputs(&self) -> Vec<usize> {
        (0..self.plan.arrays.len()).collect()
    }

    /// The outputs that a sink cannot take as they come.
    pub(super) fn unsuitable(&self, capabilities: &Capabilities) -> Vec<usize> {
        let mut outputs = self.outputs();
        let waits = |a: usize| {
            let meta = &self.plan.arrays[a];
            let grows = || meta.logical.text_categories().is_some_and(|c| !c.is_whole());
            capabilities.rows_first && meta.rows.is_none()
                || capabilities.coded_text == CodedText::Whole && grows()
        };
        if self.reading().is_some() {
            outputs.retain(|&a| {
                waits(a)
                    || capabilities.order != Order::Any
                        && self.recipes.of(a).needs() == Needs::Whole
            });
        } else if self.suits(capabilities.order) && !outputs.iter().any(|&a| waits(a)) {
            outputs.clear();
        }
        outputs
    }

    /// Whether any rows of an output can be had without the others.
    pub(super) fn goes_by_position(&self, output: usize) -> bool {
        self.reading().is_some()
            && self.plan.arrays[output].rows.is_some()
            && self.recipes.of(output).needs() <= Needs::Rows
    }

    /// Whether the chunks of all outputs can come in this order.
    pub(super) fn suits(&self, wanted: Order) -> bool {
        self.plan.arrays.len() <= 1
            || wanted == Order::Any
            || match &self.inputs {
                Inputs::Random(_) => {
                    let whole = |a| self.recipes.of(a).needs() == Needs::Whole;
                    !(0..self.plan.arrays.len()).any(whole)
                }
                Inputs::InOrder(_, given) => *given == wanted,
            }
    }

    /// Whether any rows of each of these outputs can be had, and no two of them are made of the same
    /// input, which would be read for each.
    pub(super) fn goes_by_groups(&self, outputs: &[usize]) -> bool {
        outputs.iter().all(|&a| {
            let recipe = self.recipes.of(a);
            let alone = recipe.needs() < Needs::Rows && !recipe.is_joined();
            self.goes_by_position(a) && alone && self.recipes.uses(recipe.input).len() == 1
        })
    }

    /// The same with these outputs on the disk: their rows are known then, and can be read at
    /// random.
    pub(super) fn spool(mut self, outputs: &[usize], settings: &Settings) -> Result<Work> {
        let reading = match &self.inputs {
            Inputs::Random(reading) if outputs.len() < self.plan.arrays.len() => reading.clone(),
            _ => {
                let source = Box::new(self.spool_source(outputs, settings)?);
                return Work::open(Flow::from(source), outputs, Order::Any, settings);
            }
        };
        let mut spool = Spool::new(self.plan.clone())?;
        self.decode(outputs, Order::Any, settings, None, &mut |chunk| spool.push(&chunk))?;
        let spooled = spool.into_source();
        let Work { mut plan, recipes, .. } = self;
        let (first, mut inputs) = (reading.inputs.arrays.len(), reading.inputs.clone());
        let mut made: Vec<Recipe> = (0..plan.arrays.len()).map(|a| recipes.of(a).clone()).collect();
        for &a in outputs {
            plan.arrays[a].rows = spooled.plan.arrays[a].rows;
            made[a] = Recipe::of(first + a);
        }
        inputs.arrays.extend(spooled.plan.arrays.iter().cloned());
        let recipes = Arc::new(Recipes::new(made, &plan, inputs.arrays.len()));
        let reader = Reader::Random(beside(reading.reader.clone(), first, spooled.reader));
        let inputs = Inputs::new(reader, Order::Any, &recipes, inputs);
        Ok(Work { plan, recipes, inputs })
    }

    /// Which outputs are read together: those of the same input, unless one array must come after
    /// the other.
    pub(super) fn lanes(&self, outputs: &[usize], order: Order) -> Vec<Lane> {
        let mut lanes: Vec<Lane> = Vec::with_capacity(outputs.len());
        let mut of_input: HashMap<usize, usize> = HashMap::new();
        for &output in outputs {
            let recipe = self.recipes.of(output);
            if order == Order::ArrayByArray || recipe.is_joined() {
                lanes.push(vec![output]);
                continue;
            }
            let lane = *of_input.entry(recipe.input).or_insert_with(|| {
                lanes.push(Vec::new());
                lanes.len() - 1
            });
            lanes[lane].push(output);
        }
        lanes
    }

    /// Decodes these outputs on the pool and hands their chunks to `each` in order. Chunks whose
    /// place is known go to `writer` right on the worker, if there is one; `each` then gets them
    /// without values, to count them.
    pub(super) fn decode(
        &mut self,
        outputs: &[usize],
        sequence: impl Into<Sequence>,
        settings: &Settings,
        writer: Option<&Arc<dyn WriteRows>>,
        each: Emit<'_>,
    ) -> Result<()> {
        let sequence = sequence.into();
        let recipes = match outputs.len() < self.plan.arrays.len() {
            true => Arc::new(self.recipes.only(outputs)),
            false => self.recipes.clone(),
        };
        let lanes = match sequence {
            Sequence::Order(order) => self.lanes(outputs, order),
            Sequence::Groups(_) => outputs.iter().map(|&output| vec![output]).collect(),
        };
        let (reading, supply) = match &mut self.inputs {
            Inputs::Random(reading) => {
                let cutter = Box::new(Cutter::new(reading, lanes, sequence));
                (Some(reading.clone()), Supply::Cutter(cutter))
            }
            Inputs::InOrder(pieces, _) => (None, Supply::Pieces(pieces.as_mut())),
        };
        let mut decoder = Decoder {
            supply,
            reading,
            recipes: recipes.clone(),
            settings,
            pool: pool(settings)?,
            writer,
            window: VecDeque::new(),
            stop: StopOnDrop::default(),
            ready: None,
            ended: false,
        };
        let lone = (self.plan.arrays.len() == 1).then(|| self.plan.arrays[0].name.clone());
        let named = |e: Error| match &lone {
            Some(name) if e.array_name().is_none() => e.array(name),
            _ => e,
        };
        let mut in_order = InOrder::new(&recipes);
        while let Some((portions, held)) = decoder.next()? {
            settings.check()?;
            for portion in portions {
                if let Supply::Cutter(cutter) = &mut decoder.supply {
                    cutter.saw(&portion.chunk);
                }
                in_order.push(portion, each).map_err(named)?;
            }
            let bytes = in_order.held_bytes();
            let hint = "--strings offsets keeps no list of them; or give a larger --memory-limit";
            check_distinct(bytes, settings.resources.memory_bytes(), hint)?;
            settings.held.grow_to(bytes);
            drop(held);
        }
        in_order.finish(outputs, each)
    }
}

/// Booleans are 0 and 1 behind this border, whatever bytes a file has for them (numpy's
/// `view(bool)` keeps any, and takes it for true): values are compared, hashed and written as
/// bytes, so that two ways to say true would differ. Masks alike. Codes have a category each.
fn checked_at_border(recipes: &mut [Recipe], inputs: &Plan) {
    let op = |input: usize| {
        let meta = &inputs.arrays[input];
        let values = meta.dtype == Dtype::Bool;
        let bools = (values || meta.nulls).then_some(Op::NormalizeBools { values });
        let codes = match &meta.logical {
            Logical::Dictionary { categories, .. } => {
                Some(Op::CheckCodes { categories: categories.clone(), codes: meta.dtype })
            }
            _ => None,
        };
        bools.into_iter().chain(codes)
    };
    for recipe in recipes {
        if recipe.dequantize().is_some() {
            continue;
        }
        if recipe.stack().is_none() {
            recipe.ops.splice(0..0, op(recipe.input));
        } else {
            // Each column before its own ops.
            let below: Vec<Recipe> = (0..inputs.arrays.len())
                .map(|input| Recipe { input, ops: op(input).collect() })
                .collect();
            *recipe = recipe.over(&below);
        }
    }
}

type Decoded = Result<(Vec<Portion>, Reservation)>;

/// An undecoded piece.
enum Piece {
    /// Of a source that is read in order.
    Next(Box<dyn Job>),
    /// Of one with random access.
    Rows(Cut),
}

impl Piece {
    fn bytes(&self) -> u64 {
        match self {
            Piece::Next(job) => job.bytes(),
            Piece::Rows(cut) => cut.bytes,
        }
    }
}

/// Where pieces come from.
enum Supply<'a> {
    Cutter(Box<Cutter>),
    Pieces(&'a mut dyn ReadPieces),
}

/// Pieces on their way through the pool, given back in order.
struct Decoder<'a> {
    supply: Supply<'a>,
    reading: Option<Arc<RecipeReader>>,
    recipes: Arc<Recipes>,
    settings: &'a Settings,
    pool: &'a rayon::ThreadPool,
    writer: Option<&'a Arc<dyn WriteRows>>,
    window: VecDeque<mpsc::Receiver<Decoded>>,
    stop: StopOnDrop,
    ready: Option<Piece>,
    ended: bool,
}

impl Decoder<'_> {
    /// What was decoded next.
    fn next(&mut self) -> Result<Option<(Vec<Portion>, Reservation)>> {
        let (piece_bytes, waiting) = (self.settings.piece_bytes(), self.settings.waiting_bytes());
        while !self.ended && self.window.len() < 2 * self.settings.resources.jobs() + 2 {
            // What is decoded goes on at once: the next piece may come from a slow pipe.
            if let Some(decoded) = self.window.front().and_then(|front| front.try_recv().ok()) {
                self.window.pop_front();
                return decoded.map(Some);
            }
            if self.ready.is_none() {
                self.ready = match &mut self.supply {
                    Supply::Cutter(cutter) => cutter.next(piece_bytes, waiting)?.map(Piece::Rows),
                    Supply::Pieces(pieces) => pieces.next(piece_bytes)?.map(Piece::Next),
                };
            }
            let Some(piece) = self.ready.take() else {
                self.ended = true;
                break;
            };
            let (bytes, settings) = (piece.bytes(), self.settings);
            let alone = self.window.is_empty();
            if alone {
                settings.held.wait_turn();
            }
            let free = match alone || settings.held.may_go_on() {
                true => settings.resources.budget().try_acquire(bytes),
                false => None,
            };
            match free.or_else(|| alone.then(|| settings.resources.budget().force_acquire(bytes))) {
                Some(held) => self.begin(piece, held),
                None => {
                    self.ready = Some(piece);
                    break;
                }
            }
        }
        let Some(front) = self.window.pop_front() else { return Ok(None) };
        let ended = |_| Error::internal("a worker thread ended unexpectedly");
        front.recv().map_err(ended)?.map(Some)
    }

    fn begin(&mut self, piece: Piece, held: Reservation) {
        let (send, receive) = mpsc::sync_channel(1);
        let (stop, writer) = (self.stop.0.clone(), self.writer.cloned());
        let output = self.settings.output.clone();
        let (recipes, reading) = (self.recipes.clone(), self.reading.clone());
        self.pool.spawn_fifo(move || {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let mut portions = Vec::new();
            let mut take = |mut portion: Portion| {
                let placed = portion.ready && portion.chunk.first_row != Chunk::NEXT;
                if let Some(writer) = writer.as_ref().filter(|_| placed) {
                    output.at(writer.write(&portion.chunk))?;
                    portion.chunk.values = Values::Fixed(Vec::<u8>::new().into());
                    portion.chunk.valid = None;
                }
                portions.push(portion);
                Ok(())
            };
            let result = guard(|| match (piece, &reading) {
                (Piece::Next(job), _) => job.run(&mut |chunk| recipes.start(chunk, &mut take)),
                (Piece::Rows(cut), Some(reading)) => {
                    reading.read_together(&cut.lane, cut.rows, &mut take)
                }
                (Piece::Rows(_), None) => Err(Error::internal("rows without random access")),
            });
            drop((writer, reading));
            let _ = send.send(result.map(|()| (portions, held)));
        });
        self.window.push_back(receive);
    }
}

/// Pieces not yet begun are dropped when the driver ends.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
