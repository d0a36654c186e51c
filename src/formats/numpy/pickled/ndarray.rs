//! How NumPy pickles arrays and scalars: the calls that would make them, taken apart.

use std::sync::Arc;

use crate::codec::npy_header::Header;
use crate::codec::numpy_types::Descr;
use crate::codec::pickle::numpy::{Maker, Raw, time_unit};
use crate::codec::pickle::{Id, Node, Pickle, Span, shown};
use crate::error::{Error, Result};
use crate::storage::{Blob, BlobSlice};

/// Records in records, at most.
const MAX_DEPTH: usize = 16;
/// Fields of a record, at most.
const MAX_FIELDS: usize = 4096;

/// An array in a pickle.
pub(super) struct Array {
    pub shape: Vec<u64>,
    pub content: Content,
}

/// What an array holds.
pub(super) enum Content {
    /// Values of fixed size, as an npy file would describe them, and their bytes.
    Values(Header, Raw),
    /// Python objects, in C order.
    Objects(Vec<Id>),
}

/// Bytes of a pickle as a run; `held` counts those that are copied.
///
/// # Errors
/// Corrupt text.
pub(super) fn slice(raw: Raw, pickle: &Arc<Pickle>, held: &mut u64) -> Result<BlobSlice> {
    if let Some(span) = raw.span(pickle) {
        return Ok(BlobSlice::whole(Arc::new(SpanBlob { pickle: pickle.clone(), span })));
    }
    let bytes = raw
        .bytes(pickle)
        .ok_or_else(|| Error::corrupt("the bytes of a numpy array are not Latin-1"))?;
    *held = held.saturating_add(bytes.len() as u64);
    Ok(BlobSlice::memory(bytes))
}

/// Bytes that stay in the pickle.
struct SpanBlob {
    pickle: Arc<Pickle>,
    span: Span,
}

impl Blob for SpanBlob {
    fn len(&self) -> u64 {
        self.pickle.span(self.span).len() as u64
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let all = self.pickle.span(self.span);
        let found =
            usize::try_from(offset).ok().and_then(|at| all.get(at..at.checked_add(buf.len())?));
        let missing = || Error::corrupt(format!("the array ends before byte {offset}"));
        buf.copy_from_slice(found.ok_or_else(missing)?);
        Ok(())
    }
}

/// The pairs of a dict or an OrderedDict.
pub(super) fn mapping(pickle: &Pickle, id: Id) -> Option<&[(Id, Id)]> {
    match pickle.node(id) {
        Node::Dict(pairs) => Some(pairs),
        Node::Object(object)
            if matches!(pickle.global(object.callable), Some("collections.OrderedDict")) =>
        {
            Some(&object.pairs)
        }
        _ => None,
    }
}

/// The array that an object is; `None` where it is none.
///
/// # Errors
/// Refused element types; corrupt arrays.
pub(super) fn find(pickle: &Pickle, id: Id, steps: &mut u64) -> Result<Option<Array>> {
    let Some(object) = pickle.object(id) else { return Ok(None) };
    let (Some(name), Some(args)) = (pickle.global(object.callable), pickle.tuple(object.args))
    else {
        return Ok(None);
    };
    let broken = |what: &str| Error::corrupt(format!("a numpy array has {what}"));
    match (Maker::of(name), args) {
        (Some(Maker::Reconstruct), _) => {
            let state = object.state.and_then(|s| pickle.tuple(s));
            let Some(&[_, shape, dtype, fortran, values]) = state else {
                return Err(broken("no state of five parts"));
            };
            let fortran = pickle.int(fortran) == Some(1);
            values_of(pickle, dims(pickle, shape)?, dtype, fortran, values, steps).map(Some)
        }
        (Some(Maker::Scalar), &[dtype, values]) => {
            values_of(pickle, Vec::new(), dtype, false, values, steps).map(Some)
        }
        (Some(Maker::FromBuffer), &[values, dtype, shape, order, ..]) => {
            let fortran = match pickle.short(order) {
                Some("C") => false,
                Some("F") => true,
                _ => {
                    return Err(Error::refused(
                        "a numpy array has its axes in another order than C and F",
                    ));
                }
            };
            values_of(pickle, dims(pickle, shape)?, dtype, fortran, values, steps).map(Some)
        }
        _ => Ok(None),
    }
}

/// Whether an object would be an array or a scalar, without a look at it.
pub(super) fn is_array(pickle: &Pickle, id: Id) -> bool {
    let global = pickle.object(id).and_then(|object| pickle.global(object.callable));
    global.and_then(Maker::of).is_some()
}

/// Counts steps of a walk: a small pickle can repeat its nodes without end.
///
/// # Errors
/// Refused where there are too many.
pub(super) fn step(steps: &mut u64, more: u64) -> Result<()> {
    const MAX_STEPS: u64 = 5_000_000;
    *steps = steps.saturating_add(more);
    if *steps <= MAX_STEPS {
        return Ok(());
    }
    Err(Error::refused(format!("the pickle repeats itself, or has more than {MAX_STEPS} parts")))
}

fn dims(pickle: &Pickle, id: Id) -> Result<Vec<u64>> {
    let wrong = || Error::corrupt("a numpy array has a shape that is none");
    let of = |&id: &Id| pickle.int(id).and_then(|n| u64::try_from(n).ok()).ok_or_else(wrong);
    if let Some(one) = pickle.int(id) {
        return Ok(vec![u64::try_from(one).map_err(|_| wrong())?]);
    }
    let items = pickle.tuple(id).filter(|items| items.len() <= 64).ok_or_else(wrong)?;
    items.iter().map(of).collect()
}

fn values_of(
    pickle: &Pickle,
    shape: Vec<u64>,
    dtype: Id,
    fortran: bool,
    values: Id,
    steps: &mut u64,
) -> Result<Array> {
    let descr = descr(pickle, dtype, 0, steps)?;
    if descr == Descr::Simple("|O".into()) {
        let count = crate::model::checked_product(&shape);
        let items = match pickle.node(values) {
            Node::List(items) => items.clone(),
            _ if shape.is_empty() => vec![values],
            _ => return Err(Error::corrupt("an object array has no list of its elements")),
        };
        if count != Some(items.len() as u64) {
            return Err(Error::corrupt(format!(
                "an object array of the shape {shape:?} has {} elements",
                items.len()
            )));
        }
        let items = if fortran { c_order(&items, &shape) } else { items };
        return Ok(Array { shape, content: Content::Objects(items) });
    }
    let bytes =
        Raw::find(pickle, values).ok_or_else(|| Error::corrupt("a numpy array has no bytes"))?;
    let header =
        Header { version: String::new(), descr, fortran, shape: shape.clone(), data_offset: 0 };
    Ok(Array { shape, content: Content::Values(header, bytes) })
}

/// Elements whose first index runs fastest, in C order.
fn c_order(items: &[Id], shape: &[u64]) -> Vec<Id> {
    let place = |i: u64| {
        let (mut rest, mut place) = (i, 0);
        let mut stride = items.len() as u64;
        for &n in shape.iter().rev() {
            stride /= n;
            place += rest % n * stride;
            rest /= n;
        }
        place as usize
    };
    (0..items.len() as u64).map(|i| items[place(i)]).collect()
}

/// An element type, as an npy file would spell it.
fn descr(pickle: &Pickle, id: Id, depth: usize, steps: &mut u64) -> Result<Descr> {
    step(steps, 1)?;
    let broken = || Error::corrupt("a numpy array has no element type");
    if depth > MAX_DEPTH {
        return Err(Error::corrupt("an element type is nested too deep"));
    }
    let object = pickle.object(id).ok_or_else(broken)?;
    match pickle.global(object.callable) {
        Some("numpy.dtype") => {}
        // numpy.dtypes.StringDType: its texts come as a list, as objects do.
        Some(
            "numpy._core._internal._convert_to_stringdtype_kwargs"
            | "numpy.core._internal._convert_to_stringdtype_kwargs",
        ) => return Ok(Descr::Simple("|O".into())),
        _ => return Err(broken()),
    }
    let code = pickle.tuple(object.args).and_then(|a| a.first()).copied().ok_or_else(broken)?;
    let Some(code) = pickle.short(code) else {
        let class = pickle.global(code).unwrap_or("a class");
        return Err(Error::refused(format!("its element type is {}", shown(class))));
    };
    let state = object.state.and_then(|s| pickle.tuple(s)).unwrap_or_default();
    let part = |i: usize| state.get(i).copied().filter(|&p| !matches!(pickle.node(p), Node::None));
    // A type with a shape of its own.
    if let Some(&[base, shape]) = part(2).and_then(|p| pickle.tuple(p)) {
        let base = descr(pickle, base, depth + 1, steps)?;
        return Ok(Descr::Array(Box::new(base), dims(pickle, shape)?));
    }
    if let (Some(names), Some(fields)) = (part(3), part(4)) {
        return record(pickle, names, fields, part(5), depth, steps);
    }
    let order = part(1).and_then(|o| pickle.short(o)).unwrap_or("<");
    let order = if order == ">" { ">" } else { "<" };
    let plain = code.trim_start_matches(['<', '>', '|', '=']);
    let first = plain.chars().next().ok_or_else(broken)?;
    Ok(Descr::Simple(match first {
        'O' => "|O".into(),
        'M' | 'm' => {
            let (base, count) = time_unit(pickle, part(8)).ok_or_else(broken)?;
            match base.as_str() {
                "" | "generic" => format!("{order}{first}8"),
                base if count == 1 => format!("{order}{first}8[{base}]"),
                base => format!("{order}{first}8[{count}{base}]"),
            }
        }
        // Text and bytes have their size in the state; the code has it, too.
        'S' | 'U' | 'V' | 'b' | 'i' | 'u' | 'f' | 'c' => format!("{order}{plain}"),
        _ => return Err(Error::refused(format!("its element type is '{}'", shown(code)))),
    }))
}

/// A record: fields in order, with the gaps between them.
fn record(
    pickle: &Pickle,
    names: Id,
    fields: Id,
    bytes: Option<Id>,
    depth: usize,
    steps: &mut u64,
) -> Result<Descr> {
    let broken = || Error::corrupt("a numpy record has fields that are none");
    let names = pickle.tuple(names).filter(|n| n.len() <= MAX_FIELDS).ok_or_else(broken)?;
    let pairs = mapping(pickle, fields).ok_or_else(broken)?;
    let mut all = Vec::with_capacity(names.len());
    for &name in names {
        let name = pickle.short(name).filter(|n| !n.is_empty()).ok_or_else(broken)?;
        let field = pickle.get(pairs, name).and_then(|f| pickle.tuple(f)).ok_or_else(broken)?;
        let &[dtype, offset, ..] = field else { return Err(broken()) };
        let offset = pickle.int(offset).and_then(|n| u64::try_from(n).ok()).ok_or_else(broken)?;
        all.push((offset, name.to_string(), descr(pickle, dtype, depth + 1, steps)?));
    }
    all.sort_by_key(|(offset, ..)| *offset);
    let (mut parts, mut at) = (Vec::with_capacity(all.len()), 0u64);
    let gap = |from: u64, to: u64| (String::new(), Descr::Simple(format!("|V{}", to - from)));
    for (offset, name, field) in all {
        if offset < at {
            return Err(Error::refused("its record has fields that overlap"));
        }
        if offset > at {
            parts.push(gap(at, offset));
        }
        let (_, size) = crate::codec::numpy_elements::leaves(&field)?;
        at = offset.checked_add(size).ok_or_else(broken)?;
        parts.push((name, field));
    }
    let whole = bytes.and_then(|b| pickle.int(b)).and_then(|n| u64::try_from(n).ok());
    if let Some(whole) = whole.filter(|&whole| whole > at) {
        parts.push(gap(at, whole));
    }
    Ok(Descr::Fields(parts))
}
