//! The part of an array that `--slice` chooses, as an array of its own.

use crate::commands::preview::{Inner, Part};
use crate::error::{Error, Result};
use crate::model::{ArrayMeta, Buf, Chunk, Values};
use crate::resolve::rows::Slice;

/// What `--slice` says.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Which rows.
    pub rows: Slice,
    inner: Vec<Inner>,
    /// Whether the first part is an index, which leaves no dimension.
    one_row: bool,
}

impl Chosen {
    /// Parses `--slice`.
    ///
    /// # Errors
    /// Usage.
    pub fn parse(text: &str) -> Result<Chosen> {
        match Part::slice(text)? {
            Part::Slice { rows, inner, one_row } => {
                Ok(Chosen { rows, inner, one_row: one_row.is_some() })
            }
            Part::Head(_) | Part::Tail(_) => Err(Error::internal("a slice was expected")),
        }
    }

    /// What is taken of the rows of an array, whose rows are chosen already; `None` where that is
    /// all of them, or where they have no dimensions.
    ///
    /// # Errors
    /// Usage where the slice does not fit.
    pub fn view(&self, meta: &ArrayMeta) -> Result<Option<View>> {
        let dims = meta.element_dims();
        if meta.scalar || meta.logical.is_var() {
            return Ok(None);
        }
        if self.inner.len() > dims.len() {
            return Err(Error::usage(format!(
                "the slice has {} dimensions, the array has {}",
                self.inner.len() + 1,
                dims.len() + 1
            ))
            .array(&meta.name));
        }
        let mut picks = Vec::new();
        for (i, &dim) in dims.iter().enumerate() {
            picks.push(match self.inner.get(i) {
                Some(Inner::Index(at)) => {
                    let index = match *at < 0 {
                        true => dim.checked_sub(at.unsigned_abs()),
                        false => Some(*at as u64),
                    };
                    let index = index.filter(|i| *i < dim).ok_or_else(|| {
                        let text = format!("the index {at} is outside a dimension of {dim}");
                        Error::usage(text).array(&meta.name)
                    })?;
                    Pick { dim, start: index, step: 1, count: 1, keeps: false }
                }
                Some(Inner::Slice(slice)) => {
                    let (start, _, count) = slice.of(dim);
                    Pick { dim, start, step: slice.step, count, keeps: true }
                }
                None => Pick { dim, start: 0, step: 1, count: dim, keeps: true },
            });
        }
        let words = meta.inner[dims.len()..].iter().product::<u64>();
        let item = (words * meta.dtype.item_bytes()) as usize;
        Ok(Some(View { picks, item, one_row: self.one_row && meta.rows == Some(1) }))
    }
}

/// Some indices of a dimension.
#[derive(Clone, Copy, Debug)]
struct Pick {
    dim: u64,
    start: u64,
    step: u64,
    count: u64,
    /// Whether it is a dimension of what is taken.
    keeps: bool,
}

/// What is taken of each row.
#[derive(Clone, Debug)]
pub struct View {
    picks: Vec<Pick>,
    item: usize,
    /// The only row is no dimension: the next one gives the rows.
    one_row: bool,
}

impl View {
    /// The shape of what is taken of a row.
    fn dims(&self) -> Vec<u64> {
        self.picks.iter().filter(|p| p.keeps).map(|p| p.count).collect()
    }
    /// The array that is taken of this one.
    pub fn meta(&self, meta: &ArrayMeta) -> ArrayMeta {
        let mut dims = self.dims();
        let mut new = meta.clone();
        if self.one_row {
            new.rows = Some(if dims.is_empty() { 1 } else { dims.remove(0) });
        }
        dims.extend(&meta.inner[meta.element_dims().len()..]);
        new.inner = dims;
        new
    }
    /// These rows of it.
    pub fn of(&self, chunk: &Chunk) -> Chunk {
        let Values::Fixed(values) = &chunk.values else { return chunk.clone() };
        let row = values.len().checked_div(chunk.rows as usize).unwrap_or(0);
        let mut out = Vec::new();
        for r in 0..chunk.rows as usize {
            take(&values[r * row..(r + 1) * row], &self.picks, self.item, &mut out);
        }
        let first = self.dims().first().copied().unwrap_or(1);
        let (rows, valid) = match self.one_row {
            false => (chunk.rows, chunk.valid.clone()),
            true => {
                let mask = |v: &Buf| Buf::from_vec(vec![v[0]; first as usize]);
                (chunk.rows * first, chunk.valid.as_ref().filter(|v| !v.is_empty()).map(mask))
            }
        };
        let values = Values::Fixed(Buf::from_vec(out));
        Chunk { array: chunk.array, first_row: chunk.first_row, rows, values, valid }
    }
}

fn take(bytes: &[u8], picks: &[Pick], item: usize, out: &mut Vec<u8>) {
    let Some((pick, rest)) = picks.split_first() else {
        return out.extend_from_slice(&bytes[..item.min(bytes.len())]);
    };
    let step = bytes.len() / (pick.dim as usize).max(1);
    if rest.iter().all(|p| p.count == p.dim && p.step == 1) && pick.step == 1 {
        let start = pick.start as usize * step;
        return out.extend_from_slice(&bytes[start..start + pick.count as usize * step]);
    }
    for k in 0..pick.count {
        let at = (pick.start + k * pick.step) as usize * step;
        take(&bytes[at..at + step], rest, item, out);
    }
}
