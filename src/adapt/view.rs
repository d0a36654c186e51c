//! A source seen through changes that look at one chunk at a time: choosing, order, names, casts,
//! nulls, masks.

use std::ops::Range;
use std::sync::Arc;

use super::{cast, time};
use crate::error::{Error, Result};
use crate::format::{Emit, Extent, Job, Order, Piece, ReadRows, Source, readable};
use crate::model::{ArrayMeta, Buf, Categories, Chunk, Decimals, Dtype, Logical, Plan, Values};

/// One change of a chunk.
#[derive(Clone, Debug)]
pub enum Change {
    /// Cast between dtypes; `lossy` lets it round.
    Cast {
        /// The incoming dtype.
        from: Dtype,
        /// The outgoing dtype.
        to: Dtype,
        /// Whether it may round.
        lossy: bool,
    },
    /// Times in another unit: counts × `multiply` (checked), in `to`'s width; NaT (the minimum)
    /// stays.
    Rescale(time::Rescale),
    /// NaT becomes null.
    NatToNull,
    /// Drops the mask; the values at nulls stay as they are (0, NaN, empty).
    DropMask,
    /// This element (bytes) at every null, and no mask.
    Fill(Vec<u8>),
    /// Only the mask, as bools.
    Mask,
    /// Null anywhere is an error.
    RefuseNulls,
    /// Dictionary codes to their categories: text, or elements of fixed size.
    Decode {
        /// What the codes point into.
        categories: Arc<Categories>,
        /// The codes' dtype.
        codes: Dtype,
        /// An element's bytes, where they have a fixed size.
        fixed: Option<usize>,
    },
    /// This value in every row, whatever the input.
    Constant {
        /// Its bytes.
        element: Vec<u8>,
        /// Whether they are text, not an element of fixed size.
        text: bool,
        /// Whether every row is null.
        null: bool,
    },
    /// Decimals to float64; `lossy` lets them round.
    DecimalToFloat {
        /// How they are stored.
        from: Decimals,
        /// Whether they may round.
        lossy: bool,
    },
    /// Decimals to their texts.
    DecimalToText(Decimals),
}

/// An array of the view: which array of the source it is made from, and how.
#[derive(Clone, Debug)]
pub struct Made {
    /// Index into the inner source's plan.
    pub input: usize,
    /// What happens to each chunk, in order.
    pub changes: Vec<Change>,
}

/// A source seen through stateless changes. An array of the source may be used for several arrays
/// of the view.
pub struct View {
    inner: Box<dyn Source>,
    plan: Plan,
    made: Arc<Vec<Made>>,
    /// Per inner array: the arrays made from it (those wanted).
    from: Arc<Vec<Vec<usize>>>,
    arrays: Arc<Vec<ElementInfo>>,
}

impl View {
    /// `plan` describes the arrays in `made`, in the same order.
    pub fn new(inner: Box<dyn Source>, plan: Plan, made: Vec<Made>) -> View {
        debug_assert_eq!(plan.arrays.len(), made.len());
        let arrays = Arc::new(plan.arrays.iter().map(ElementInfo::of).collect());
        View { from: Arc::new(Vec::new()), inner, plan, made: Arc::new(made), arrays }
    }

    /// Only these arrays, in this order.
    pub fn choose(inner: Box<dyn Source>, chosen: &[usize]) -> View {
        let mut plan = inner.plan().clone();
        plan.arrays = chosen.iter().map(|&i| inner.plan().arrays[i].clone()).collect();
        super::table::keep_columns(&mut plan);
        let made = chosen.iter().map(|&input| Made { input, changes: Vec::new() }).collect();
        View::new(inner, plan, made)
    }

    /// The same arrays under a changed plan (names, logical types of the same bytes).
    pub fn relabel(inner: Box<dyn Source>, plan: Plan) -> View {
        let made =
            (0..plan.arrays.len()).map(|input| Made { input, changes: Vec::new() }).collect();
        View::new(inner, plan, made)
    }
}

impl Source for View {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn want(&mut self, arrays: &[usize], wish: Order) -> Result<Order> {
        let count = self.inner.plan().arrays.len();
        let mut from = vec![Vec::new(); count];
        let mut inputs: Vec<usize> = Vec::new();
        for &a in arrays {
            readable(&self.plan.arrays[a])?;
            let input = self.made[a].input;
            if from[input].is_empty() {
                inputs.push(input);
            }
            from[input].push(a);
        }
        let fanned = from.iter().any(|f| f.len() > 1);
        // In file order the source reads forward; the sink's order is asked for where it matters.
        if wish == Order::Any {
            inputs.sort_unstable();
        }
        self.from = Arc::new(from);
        let given = self.inner.want(&inputs, wish)?;
        let reordered = arrays.windows(2).any(|w| self.made[w[0]].input > self.made[w[1]].input);
        Ok(if given == Order::ArrayByArray && (fanned || reordered) { Order::Any } else { given })
    }

    fn next(&mut self, max_bytes: u64) -> Result<Option<Box<dyn Job>>> {
        let Some(job) = self.inner.next(max_bytes)? else { return Ok(None) };
        let (made, from, arrays) = (self.made.clone(), self.from.clone(), self.arrays.clone());
        Ok(Some(Box::new(ViewJob { job, made, from, arrays })))
    }

    fn random(&self) -> Option<Arc<dyn ReadRows>> {
        let reader = self.inner.random()?;
        Some(Arc::new(ViewRows { reader, made: self.made.clone(), arrays: self.arrays.clone() }))
    }

    fn extents(&self, array: usize) -> Option<Vec<Extent>> {
        let made = &self.made[array];
        if made.changes.is_empty() { self.inner.extents(made.input) } else { None }
    }

    fn close(&mut self) -> Result<()> {
        self.inner.close()
    }
}

/// Dictionaries as the values of their categories; codes of text of several dimensions stay codes.
pub fn decoded(source: Box<dyn Source>) -> Box<dyn Source> {
    let mut plan = source.plan().clone();
    let mut any = false;
    let made = plan
        .arrays
        .iter_mut()
        .enumerate()
        .map(|(input, meta)| {
            let (Logical::Dictionary { categories, .. }, None) =
                (meta.logical.clone(), meta.coded_text())
            else {
                return Made { input, changes: Vec::new() };
            };
            any = true;
            Made { input, changes: vec![decode_dictionary(meta, categories)] }
        })
        .collect();
    if any { Box::new(View::new(source, plan, made)) } else { source }
}

/// Makes the meta of a dictionary's codes that of the values that they stand for; the change that
/// it takes.
pub fn decode_dictionary(meta: &mut ArrayMeta, categories: Arc<Categories>) -> Change {
    let (values, codes) = (categories.kind().meta(), meta.dtype);
    let fixed = (!values.logical.is_var()).then(|| values.row_bytes().unwrap_or(0) as usize);
    (meta.dtype, meta.logical) = (values.dtype, values.logical);
    meta.inner.extend(values.inner);
    Change::Decode { categories, codes, fixed }
}

/// The same changes as a stage, after other stages.
pub struct ViewStage {
    plan: Plan,
    made: Vec<Made>,
    from: Vec<Vec<usize>>,
    arrays: Vec<ElementInfo>,
}

impl ViewStage {
    /// `inputs`: how many arrays come in.
    pub fn new(inputs: usize, plan: Plan, made: Vec<Made>) -> ViewStage {
        let mut from = vec![Vec::new(); inputs];
        for (a, m) in made.iter().enumerate() {
            from[m.input].push(a);
        }
        let arrays = plan.arrays.iter().map(ElementInfo::of).collect();
        ViewStage { plan, made, from, arrays }
    }
}

impl crate::format::Stage for ViewStage {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn order(&self, order: Order) -> Order {
        let fanned = self.from.iter().any(|f| f.len() > 1);
        if fanned && order == Order::ArrayByArray { Order::Any } else { order }
    }
    fn push(&mut self, chunk: Chunk, emit: Emit<'_>) -> Result<()> {
        for &a in &self.from[chunk.array] {
            emit(change(chunk.clone(), a, &self.made[a].changes, &self.arrays[a])?)?;
        }
        Ok(())
    }
}

/// What changes need to know for their messages.
#[derive(Clone)]
struct ElementInfo {
    name: String,
    row_elements: u64,
}

impl ElementInfo {
    fn of(meta: &ArrayMeta) -> ElementInfo {
        ElementInfo {
            name: meta.name.clone(),
            row_elements: crate::model::checked_product(&meta.inner).unwrap_or(1),
        }
    }
}

struct ViewJob {
    job: Box<dyn Job>,
    made: Arc<Vec<Made>>,
    from: Arc<Vec<Vec<usize>>>,
    arrays: Arc<Vec<ElementInfo>>,
}

impl Job for ViewJob {
    fn bytes(&self) -> u64 {
        self.job.bytes()
    }
    fn run(self: Box<Self>, emit: Emit<'_>) -> Result<()> {
        let ViewJob { job, made, from, arrays } = *self;
        job.run(&mut |chunk| {
            let input = chunk.array;
            for &a in from.get(input).map_or(&[][..], Vec::as_slice) {
                emit(change(chunk.clone(), a, &made[a].changes, &arrays[a])?)?;
            }
            Ok(())
        })
    }
}

struct ViewRows {
    reader: Arc<dyn ReadRows>,
    made: Arc<Vec<Made>>,
    arrays: Arc<Vec<ElementInfo>>,
}

impl ReadRows for ViewRows {
    fn cut(&self, array: usize, row: u64) -> u64 {
        self.reader.cut(self.made[array].input, row)
    }
    fn cost(&self, array: usize, rows: Range<u64>) -> Option<u64> {
        self.reader.cost(self.made[array].input, rows)
    }
    fn piece(&self, array: usize, row: u64, bytes: u64) -> Option<Piece> {
        self.reader.piece(self.made[array].input, row, bytes)
    }
    fn read(&self, array: usize, rows: Range<u64>, emit: Emit<'_>) -> Result<()> {
        let made = &self.made[array];
        self.reader.read(made.input, rows, &mut |chunk| {
            emit(change(chunk, array, &made.changes, &self.arrays[array])?)
        })
    }
}

fn change(mut chunk: Chunk, array: usize, changes: &[Change], info: &ElementInfo) -> Result<Chunk> {
    chunk.array = array;
    for c in changes {
        apply(&mut chunk, c, info)?;
    }
    Ok(chunk)
}

fn apply(chunk: &mut Chunk, change: &Change, info: &ElementInfo) -> Result<()> {
    let first_element = if chunk.first_row == Chunk::NEXT {
        0
    } else {
        chunk.first_row.saturating_mul(info.row_elements)
    };
    match change {
        Change::Cast { from, to, lossy } => match &mut chunk.values {
            Values::Fixed(values) | Values::Var { values, .. } => {
                // What stands at a null is no value: it may not refuse a cast, nor name an index.
                let at_null = |index: usize| {
                    let row = index as u64 / info.row_elements.max(1);
                    chunk.valid.as_ref().is_some_and(|v| v.get(row as usize) == Some(&0))
                };
                *values = match cast::cast(values, *from, *to, *lossy) {
                    Ok(cast) => cast,
                    Err(index) if at_null(index) => {
                        let cast = cast::unchecked(values, *from, *to);
                        let item = from.item_bytes() as usize;
                        for i in (index..values.len() / item).filter(|&i| !at_null(i)) {
                            let one = values.slice_with_length(i * item, item);
                            cast::checked(
                                &one,
                                *from,
                                *to,
                                *lossy,
                                &info.name,
                                first_element + i as u64,
                            )?;
                        }
                        cast
                    }
                    Err(_) => cast::checked(values, *from, *to, *lossy, &info.name, first_element)?,
                };
            }
            Values::Nested(_) => return Err(Error::internal("a nested column cannot be cast")),
        },
        Change::Rescale(rescale) => {
            if let Values::Fixed(values) = &mut chunk.values {
                *values = rescale.apply(values, &info.name, first_element)?;
            }
        }
        Change::NatToNull => {
            if let Values::Fixed(values) = &chunk.values {
                time::nat_to_null(values, &mut chunk.valid, chunk.rows);
            }
        }
        Change::DropMask => chunk.valid = None,
        Change::Fill(element) => {
            if let (Some(valid), Values::Fixed(values)) = (chunk.valid.take(), &mut chunk.values) {
                *values = filled(values, &valid, element);
            }
        }
        Change::Mask => {
            let mask =
                chunk.valid.take().unwrap_or_else(|| Buf::from_vec(vec![1u8; chunk.rows as usize]));
            chunk.values = Values::Fixed(mask);
        }
        Change::RefuseNulls => {
            if let Some(row) = chunk.valid.take().and_then(|v| v.iter().position(|&b| b == 0)) {
                let row = if chunk.first_row == Chunk::NEXT {
                    row as u64
                } else {
                    chunk.first_row + row as u64
                };
                return Err(Error::refused(format!("row {row} is null"))
                    .array(&info.name)
                    .hint("--nulls mask, nan or fill=VALUE"));
            }
        }
        Change::Decode { categories, codes, fixed } => decode(chunk, categories, *codes, *fixed)?,
        Change::Constant { element, text, null } => {
            let rows = chunk.rows as usize;
            let values = Buf::from_vec(element.repeat(rows));
            let offsets = || (0..=rows as u64).map(|row| row * element.len() as u64).collect();
            chunk.values = if *text {
                Values::Var { offsets: offsets(), values }
            } else {
                Values::Fixed(values)
            };
            chunk.valid = null.then(|| Buf::from_vec(vec![0u8; rows]));
        }
        Change::DecimalToFloat { from, lossy } => {
            decimals_to_floats(chunk, *from, *lossy, info, first_element)?
        }
        Change::DecimalToText(from) => decimals_to_texts(chunk, *from),
    }
    Ok(())
}

fn decode(
    chunk: &mut Chunk,
    categories: &Categories,
    codes: Dtype,
    fixed: Option<usize>,
) -> Result<()> {
    let Values::Fixed(values) = &chunk.values else { return Ok(()) };
    let codes = crate::model::codes_of(values, codes);
    let mut offsets = vec![0u64];
    let mut out = Vec::new();
    let empty = vec![0u8; fixed.unwrap_or(0)];
    let valid = chunk.valid.clone();
    categories.with(|items| {
        for (row, code) in codes.into_iter().enumerate() {
            if valid.as_ref().is_some_and(|v| v.get(row) == Some(&0)) {
                out.extend_from_slice(&empty);
            } else {
                let item = usize::try_from(code).ok().and_then(|c| items.get(c));
                out.extend_from_slice(item.ok_or_else(|| {
                    Error::corrupt(format!(
                        "row {row}: code {code} is outside the {} categories",
                        items.len()
                    ))
                })?);
            }
            offsets.push(out.len() as u64);
        }
        Ok::<(), Error>(())
    })?;
    let values = Buf::from_vec(out);
    chunk.values =
        if fixed.is_some() { Values::Fixed(values) } else { Values::Var { offsets, values } };
    Ok(())
}

fn filled(values: &Buf, valid: &[u8], element: &[u8]) -> Buf {
    let row = values.len() / valid.len().max(1);
    let mut out = values.to_vec();
    for (i, _) in valid.iter().enumerate().filter(|(_, v)| **v == 0) {
        for part in out[i * row..(i + 1) * row].chunks_exact_mut(element.len().max(1)) {
            part.copy_from_slice(element);
        }
    }
    Buf::from_vec(out)
}

fn decimals_to_floats(
    chunk: &mut Chunk,
    from: Decimals,
    lossy: bool,
    info: &ElementInfo,
    first_element: u64,
) -> Result<()> {
    let Values::Fixed(values) = &chunk.values else { return Ok(()) };
    let mut out = Vec::with_capacity(values.len() / from.item_bytes());
    for (i, number) in from.numbers(values).enumerate() {
        if !chunk.is_valid(i / (info.row_elements.max(1) as usize)) {
            out.push(f64::NAN);
            continue;
        }
        let (value, exact) = from.float(number);
        if !lossy && !exact {
            let mut text = Vec::new();
            from.write(number, &mut text);
            return Err(Error::refused(format!(
                "element {} ({}) is not exact as float64",
                first_element + i as u64,
                String::from_utf8_lossy(&text)
            ))
            .array(&info.name)
            .hint("--lossy lets --dtype round"));
        }
        out.push(value);
    }
    chunk.values = Values::Fixed(Buf::from_vec(out));
    Ok(())
}

fn decimals_to_texts(chunk: &mut Chunk, from: Decimals) {
    let Values::Fixed(values) = &chunk.values else { return };
    let (mut offsets, mut texts) = (vec![0u64], Vec::new());
    for (row, number) in from.numbers(values).enumerate() {
        if chunk.is_valid(row) {
            from.write(number, &mut texts);
        }
        offsets.push(texts.len() as u64);
    }
    chunk.values = Values::Var { offsets, values: Buf::from_vec(texts) };
}
