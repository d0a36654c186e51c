//! Rows of nested columns behind those of the store: the same arrays of offsets, masks and leaves,
//! each behind its own last row.

use arrow_schema::{DataType, FieldRef};

use super::places::{Counts, LogicalTarget, Planning, TOGETHER};
use crate::error::{Error, Result};
use crate::format::Source;
use crate::model::nested::{PartKind, Parts, TakenApart, children, parts_of};
use crate::model::{ArrayMeta, EncodedArray, Encoding};
use crate::sidecar::{NestedNode, whole_nested};

impl Planning<'_> {
    /// Places for all parts of a nested column, behind those of the store's column of this name.
    /// Gives the store's parts as they are afterwards.
    ///
    /// # Errors
    /// No such column there; another type; nulls where the store's type has none; parts there that
    /// do not fit together.
    pub(super) fn nested(&mut self, new: &EncodedArray, parts: &Parts) -> Result<Parts> {
        let (name, plan) = (new.meta.name.as_str(), self.old.plan());
        let Some(&taken) = self.taken.get(name) else {
            let below = format!("{name}.");
            if plan.arrays.iter().any(|a| a.name.starts_with(&below)) {
                let what =
                    "the store has the fields of this struct as columns, which tell no nulls of it";
                let hint =
                    format!("choose them instead of it, beside the other columns: -a '{name}.*'");
                return Err(Error::exists(what).hint(hint));
            }
            let stored = self.stored(name)?.0;
            return Err(differ(&new.meta, stored));
        };
        let (stored, node) = self.whole(taken)?;
        let field = match (new.meta.logical.nested(), stored.logical.nested()) {
            (Some(new), Some(old)) if is_same(new.field.data_type(), old.field.data_type()) => {
                new.field.clone()
            }
            _ => return Err(differ(&new.meta, &stored)),
        };
        self.grow(taken, &node, parts, &field)
    }

    /// The store's column as it is there.
    fn whole(&self, taken: &TakenApart) -> Result<(ArrayMeta, NestedNode)> {
        let whole = whole_nested(taken, &self.old.plan().arrays, &self.places)
            .map_err(|why| Error::corrupt(format!("the store's column is not whole: {why}")))?;
        crate::format::readable(&whole.0)?;
        Ok(whole)
    }

    fn grow(
        &mut self,
        taken: &TakenApart,
        node: &NestedNode,
        parts: &Parts,
        field: &FieldRef,
    ) -> Result<Parts> {
        let mut grown = Parts { name: taken.name.clone(), ..taken.parts.clone() };
        self.part(node, &mut grown, parts, field)?;
        Ok(grown)
    }

    /// Places for a struct of the store whose fields the new rows have as columns of their own,
    /// because it is null nowhere in them; `None` where they have not. With it the parts of the new
    /// rows, and the nested columns among them.
    pub(super) fn by_fields(
        &mut self,
        taken: &TakenApart,
    ) -> Option<(Result<Parts>, Parts, Vec<String>)> {
        let mut used = Vec::new();
        let is_struct = matches!(taken.field.data_type(), DataType::Struct(_));
        let parts = is_struct.then(|| self.fields(&taken.parts, &taken.field, &mut used))??;
        let grown = match self.whole(taken) {
            Ok((_, node)) => self.grow(taken, &node, &parts, &node.field),
            Err(e) => Err(e),
        };
        Some((grown, parts, used))
    }

    fn fields(&self, parts: &Parts, field: &FieldRef, used: &mut Vec<String>) -> Option<Parts> {
        let (name, t) = (parts.name.as_str(), field.data_type());
        if let Some((PartKind::Struct, fields)) = parts_of(t).filter(|(_, f)| !f.is_empty()) {
            let below = parts.parts.iter().zip(&fields);
            let below = below.map(|(part, (_, field))| self.fields(part, field, used));
            let parts = below.collect::<Option<Vec<Parts>>>()?;
            return Some(Parts { name: name.into(), parts, ..Parts::default() });
        }
        if children(t).is_empty() {
            let there = self.values.contains_key(name);
            return there.then(|| Parts { name: name.into(), ..Parts::default() });
        }
        let new = self.nested.get(name)?;
        let nested = new.meta.logical.nested()?;
        used.push(name.into());
        match &new.encoding {
            Encoding::Nested(parts) if is_same(nested.field.data_type(), t) => Some(parts.clone()),
            _ => None,
        }
    }

    /// Places for a part and all below it; what tells its new rows.
    fn part(
        &mut self,
        node: &NestedNode,
        grown: &mut Parts,
        new: &Parts,
        field: &FieldRef,
    ) -> Result<Option<Counts>> {
        let (old, arrays) = (self.old, &self.old.plan().arrays);
        let stored = |i: Option<usize>| i.map(|i| old.parts()[i].values);
        // Behind the nulls of lists of a fixed size there are nulls, whatever the type says.
        let may_be_null = node.field.is_nullable() || !field.is_nullable();
        if let Some(leaf) = node.leaf {
            let i = self.values.get(new.name.as_str()).copied();
            let i = i.ok_or_else(|| Error::internal("a leaf without an array"))?;
            let stored = &arrays[leaf];
            if self.logical(i).nulls && !may_be_null {
                return Err(no_nulls_there(&stored.name));
            }
            let one = self.flat(i, &stored.name).map_err(|e| e.array(&stored.name))?;
            let counts = one.counts;
            self.growing.push(one);
            return Ok(Some(counts));
        }
        let mut below = None;
        let fields = parts_of(field.data_type()).map_or_else(Vec::new, |(_, fields)| fields);
        let parts = node.below.iter().zip(&mut grown.parts).zip(&new.parts).zip(&fields);
        for (((node, grown), new), (_, field)) in parts {
            let counts = self.part(node, grown, new, field)?;
            below = below.or(counts);
        }
        let named = |name: &Option<String>| name.as_deref().and_then(|name| self.named(name));
        let (offsets, mask) = (named(&new.offsets), named(&new.valid));
        if let (Some(at), Some(o)) = (stored(node.offsets), offsets) {
            let elements = node.below.first().map_or(0, |below| rows(below, arrays));
            self.offsets(at, o, elements)?;
        }
        let counts = match node.kind {
            PartKind::Fixed(n) => below
                .filter(|_| n > 0)
                .and_then(|counts| Some(Counts { of: counts.of.checked_mul(n)?, ..counts })),
            PartKind::Struct => below,
            _ => None,
        };
        let counts = offsets.or(mask).map(|array| Counts { array, of: 1 }).or(counts);
        if mask.is_some() && node.valid.is_none() && !may_be_null {
            return Err(no_nulls_there(&grown.name));
        }
        let mut one = LogicalTarget::new(&grown.name, counted(counts)?);
        self.mask(stored(node.valid), mask, rows(node, arrays), &mut one)?;
        if let Some(valid) = &one.new_valid {
            grown.valid = Some(valid.clone());
        }
        self.growing.push(one);
        Ok(counts)
    }
}

/// The rows of a part in the store.
fn rows(node: &NestedNode, arrays: &[ArrayMeta]) -> u64 {
    let of = |i: usize| arrays[i].rows.unwrap_or(0);
    let below = || node.below.first().map_or(0, |below| rows(below, arrays));
    match (node.leaf.or(node.valid), node.offsets, &node.kind) {
        (Some(own), ..) => of(own),
        (None, Some(offsets), _) => of(offsets).saturating_sub(1),
        (None, None, PartKind::Fixed(n)) => below().checked_div(*n).unwrap_or(0),
        _ => below(),
    }
}

/// Lists of no elements tell no rows, where they have no mask.
fn counted(counts: Option<Counts>) -> Result<Counts> {
    counts.ok_or_else(|| {
        let hint = "write the new rows into a store of their own";
        Error::refused("the rows of lists of length 0 cannot be counted").hint(hint)
    })
}

/// Whether rows of both types have the same parts. The names of items, and where nulls may be, are
/// no matter.
fn is_same(a: &DataType, b: &DataType) -> bool {
    let all = |a: &DataType, b: &DataType| {
        let (a, b) = (children(a), children(b));
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a.data_type(), b.data_type()))
    };
    match (a, b) {
        (DataType::Map(a, sorted), DataType::Map(b, also)) => {
            sorted == also && all(a.data_type(), b.data_type())
        }
        (DataType::Struct(x), DataType::Struct(y)) => {
            x.iter().map(|f| f.name()).eq(y.iter().map(|f| f.name())) && all(a, b)
        }
        (DataType::FixedSizeList(_, n), DataType::FixedSizeList(_, m)) => n == m && all(a, b),
        _ if children(a).is_empty() => a == b,
        _ => std::mem::discriminant(a) == std::mem::discriminant(b) && all(a, b),
    }
}

fn differ(new: &ArrayMeta, stored: &ArrayMeta) -> Error {
    let (new, stored) = (new.type_name(), stored.type_name());
    let more = if new == stored { ", stored in another form" } else { "" };
    Error::exists(format!("the new rows are {new}, the store's are {stored}{more}")).hint(TOGETHER)
}

fn no_nulls_there(part: &str) -> Error {
    Error::exists(format!("the new rows have nulls in {part}, where the store's type allows none"))
        .hint(TOGETHER)
}
