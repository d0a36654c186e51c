//! Dictionaries: codes to what they stand for, and codes of one part to those of the whole.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use crate::arrow_model;
use crate::error::{Error, Result, locked};
use crate::model::{
    ArrayMeta, Buf, Categories, CategoryIndex, CategoryKind, Chunk, Dtype, Logical, Values,
};

/// Codes as the values of their categories.
pub(super) fn decode(
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

/// Codes of one part's categories → codes of the merged ones: of a dictionary, or of all those in a
/// nested column.
#[derive(Debug)]
pub struct Merge {
    /// The part's array.
    logical: Logical,
    /// The whole's categories.
    into: Vec<Arc<Merged>>,
    /// The dtype of a dictionary's codes in the part, and in the whole.
    dtypes: (Dtype, Dtype),
    /// Per dictionary what the part's codes are in the whole, as far as they were seen.
    codes: Mutex<Vec<Arc<Vec<u64>>>>,
}

/// Categories under construction, with an index.
#[derive(Debug)]
pub struct Merged {
    /// The categories.
    pub categories: Arc<Categories>,
    index: Mutex<CategoryIndex>,
}

impl Merged {
    /// These categories, and whatever comes to them.
    pub fn onto(categories: Arc<Categories>) -> Merged {
        let index = Mutex::new(CategoryIndex::of(&categories));
        Merged { categories, index }
    }
    /// The code of an item, which becomes a category where it is none yet.
    pub fn code(&self, item: &[u8]) -> u64 {
        let Ok(code) = locked(&self.index).code(&self.categories, item, || Ok::<_, Infallible>(()));
        code
    }
}

impl Merged {
    /// Values as codes of the dictionary `meta`; those that are no categories yet become some.
    ///
    /// # Errors
    /// Refused where the codes' width does not reach.
    pub fn encode(&self, chunk: &mut Chunk, meta: &ArrayMeta) -> Result<()> {
        let elements = crate::model::checked_product(&meta.inner).unwrap_or(1) as usize;
        let mut known: HashMap<&[u8], i64> = HashMap::new();
        let mut code = |item| *known.entry(item).or_insert_with(|| self.code(item) as i64);
        let mut codes = Vec::new();
        for row in 0..chunk.rows as usize {
            if !chunk.is_valid(row) {
                codes.resize(codes.len() + elements, 0);
                continue;
            }
            match &chunk.values {
                Values::Fixed(_) if elements == 0 => {}
                Values::Fixed(values) => {
                    let width = values.len() / chunk.rows as usize;
                    let items = values[row * width..][..width].chunks_exact(width / elements);
                    codes.extend(items.map(&mut code));
                }
                _ => codes.push(code(chunk.text(row))),
            }
        }
        chunk.values = Values::Fixed(codes_to(&codes, meta.dtype)?);
        Ok(())
    }
}

impl Merge {
    /// From an array of a part, whose dictionaries are like these, into codes (of a flat one) of
    /// this type.
    pub fn new(part: &ArrayMeta, into: Vec<Arc<Merged>>, to: Dtype) -> Merge {
        let codes = Mutex::new(vec![Arc::default(); into.len()]);
        Merge { logical: part.logical.clone(), into, dtypes: (part.dtype, to), codes }
    }

    /// Translates a chunk of codes.
    ///
    /// # Errors
    /// Corrupt codes; refused where the codes' width does not reach, or ordered categories have
    /// another order than in the whole.
    pub fn apply(&self, chunk: &mut Chunk) -> Result<()> {
        let codes = self.codes()?;
        match (&chunk.values, &self.logical) {
            (Values::Nested(array), Logical::Nested(nested)) => {
                let codes: Vec<&[u64]> = codes.iter().map(|c| c.as_slice()).collect();
                let first = if chunk.first_row == Chunk::NEXT { 0 } else { chunk.first_row };
                let recoded = arrow_model::recoded(array, nested, &codes, first)?;
                chunk.values = Values::Nested(recoded);
            }
            (Values::Fixed(values), _) => {
                let known = codes.first().map(|c| c.as_slice()).unwrap_or_default();
                let mut out = Vec::new();
                let all = crate::model::codes_of(values, self.dtypes.0);
                for (row, code) in all.into_iter().enumerate() {
                    if !chunk.is_valid(row) {
                        out.push(0);
                        continue;
                    }
                    let found = usize::try_from(code).ok().and_then(|c| known.get(c));
                    out.push(*found.ok_or_else(|| {
                        let n = known.len();
                        Error::corrupt(format!("code {code} is outside the {n} categories"))
                    })? as i64);
                }
                chunk.values = Values::Fixed(codes_to(&out, self.dtypes.1)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// What each code of each dictionary is in the whole.
    ///
    /// # Errors
    /// As [`Merge::apply`].
    pub fn codes(&self) -> Result<Vec<Arc<Vec<u64>>>> {
        let ordered = matches!(self.logical, Logical::Dictionary { ordered: true, .. });
        let mut codes = locked(&self.codes);
        let dictionaries = self.logical.dictionaries().iter().zip(&self.into);
        for (codes, (from, into)) in codes.iter_mut().zip(dictionaries) {
            if codes.len() < from.len() {
                let codes = Arc::make_mut(codes);
                from.with(|items| {
                    codes.extend(items[codes.len()..].iter().map(|item| into.code(item)));
                });
                if ordered && !codes.is_sorted() {
                    let all = "the ordered categories stand in another order than those before";
                    return Err(Error::refused(all).hint("--dtype NAME=string makes text of them"));
                }
            }
        }
        Ok(codes.clone())
    }
}

/// A category at the nulls of a dictionary. It is made one where it is none yet, behind those that
/// the source tells of before the first null.
#[derive(Debug)]
pub struct FillCategory {
    merge: Merge,
    into: Arc<Merged>,
    item: Vec<u8>,
    /// Ordered categories get no other one: nobody knows its place.
    ordered: bool,
}

impl FillCategory {
    /// Fills a dictionary with the category of these bytes.
    ///
    /// # Errors
    /// An array without categories.
    pub fn new(meta: &ArrayMeta, item: Vec<u8>) -> Result<FillCategory> {
        let Logical::Dictionary { categories, ordered } = &meta.logical else {
            return Err(Error::internal("a dictionary was expected"));
        };
        let new = Categories::new(categories.kind().clone(), Vec::new());
        let into = Arc::new(Merged::onto(new));
        let merge = Merge::new(meta, vec![into.clone()], meta.dtype);
        // Those known by now keep their codes, whichever rows are read first.
        merge.codes()?;
        Ok(FillCategory { merge, into, item, ordered: *ordered })
    }

    /// The categories of the filled array.
    pub fn categories(&self) -> Arc<Categories> {
        self.into.categories.clone()
    }

    /// Fills a chunk of codes.
    ///
    /// # Errors
    /// Corrupt codes; refused where the codes' width does not reach, or an ordered dictionary has no
    /// such category.
    pub(super) fn apply(&self, chunk: &mut Chunk) -> Result<()> {
        self.merge.apply(chunk)?;
        let Some(valid) = chunk.valid.take().filter(|v| v.contains(&0)) else { return Ok(()) };
        if self.ordered && !self.into.categories.with(|items| items.contains(&self.item)) {
            let item = String::from_utf8_lossy(&self.item).into_owned();
            let what = match self.into.categories.kind() {
                CategoryKind::Fixed(..) => "the value to fill with".to_string(),
                _ => format!("'{item}'"),
            };
            return Err(Error::refused(format!("{what} is none of its ordered categories"))
                .hint("--nulls fill=VALUE takes one of them"));
        }
        let Values::Fixed(values) = &chunk.values else { return Ok(()) };
        let code = codes_to(&[self.into.code(&self.item) as i64], self.merge.dtypes.1)?;
        chunk.values = Values::Fixed(super::fill::elements(values, &valid, &code));
        Ok(())
    }
}

/// Looks whether codes have a category each, but for those at nulls.
///
/// # Errors
/// Corrupt, with the first row that has another.
pub(super) fn check_codes(chunk: &Chunk, categories: &Categories, codes: Dtype) -> Result<()> {
    fn largest<T: bytemuck::Pod + Ord + Into<u64>>(values: &[u8]) -> u64 {
        crate::model::typed::<T>(values).iter().copied().max().map_or(0, Into::into)
    }
    let Values::Fixed(values) = &chunk.values else { return Ok(()) };
    let bits = 8 * codes.item_bytes() as u32;
    // A negative code is a large one without its sign.
    let signed = matches!(codes, Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64);
    let positive = if signed { 1u64 << (bits - 1) } else { u64::MAX >> (64 - bits) };
    let count = categories.len();
    let most = (count as u64).min(positive);
    let largest = match bits {
        8 => largest::<u8>(values),
        16 => largest::<u16>(values),
        32 => largest::<u32>(values),
        _ => largest::<u64>(values),
    };
    if values.is_empty() || largest < most {
        return Ok(());
    }
    let all = crate::model::codes_of(values, codes);
    let per_row = (all.len() / chunk.rows.max(1) as usize).max(1);
    let outside = |code: i64| usize::try_from(code).ok().is_none_or(|code| code >= count);
    let bad = (0..all.len()).find(|&i| outside(all[i]) && chunk.is_valid(i / per_row));
    let Some(bad) = bad else { return Ok(()) };
    let first = if chunk.first_row == Chunk::NEXT { 0 } else { chunk.first_row };
    Err(Error::corrupt(format!(
        "row {}: code {} is outside the {count} categories",
        first + (bad / per_row) as u64,
        all[bad]
    )))
}

/// int64 codes in another width.
///
/// # Errors
/// Refused where a code does not fit: the categories have outgrown the codes' width.
fn codes_to(codes: &[i64], dtype: Dtype) -> Result<Buf> {
    let wide = Buf::from_vec(codes.to_vec());
    super::cast::cast(&wide, Dtype::I64, dtype, false).map_err(|i| {
        Error::refused(format!("the joined categories need more than {dtype} codes ({})", codes[i]))
            .hint("--dtype NAME=string makes text of them")
    })
}
