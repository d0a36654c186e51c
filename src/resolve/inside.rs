//! Parts of nested columns, chosen by the names that they have as plain arrays: `user.name`,
//! `items.values.sku`, `tags.keys`, `tags.offsets`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow_schema::{DataType, FieldRef, Fields};

use super::names::{Pattern, no_match, split};
use super::{Step, names};
use crate::arrow_model;
use crate::error::{Error, Result};
use crate::format::Choice;
use crate::model::nested::{PartKind, Parts, children, parts_of, walk, with_children};
use crate::model::{ArrayMeta, Categories, Column, Dtype, Logical, Nested, Plan};
use crate::ops::{Op, Part, PartOf, Recipe};

/// A field of a nested column.
struct Node {
    name: String,
    field: FieldRef,
    kind: PartKind,
    below: Vec<Node>,
    /// Its number in a walk through the type.
    number: usize,
    /// The dictionaries before it.
    dictionaries: usize,
}

/// What is chosen of a field.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Itself,
    Offsets,
    Valid,
}

/// What is chosen of a plan.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Chosen {
    Whole(usize),
    Part { array: usize, path: Vec<usize>, what: What },
}

impl Node {
    fn of(name: String, field: &FieldRef, next: &mut (usize, usize)) -> Node {
        let t = field.data_type();
        let (number, dictionaries) = *next;
        next.0 += 1;
        let (kind, fields) = match parts_of(t) {
            // It is taken as it is, or not at all.
            None => {
                next.0 += walk(t).len() - 1;
                (PartKind::Leaf, Vec::new())
            }
            Some((kind, fields)) => (kind, fields),
        };
        next.1 += usize::from(matches!(t, DataType::Dictionary(..)));
        // The entries of a map are no part.
        next.0 += usize::from(matches!(t, DataType::Map(..)));
        let below =
            fields.iter().map(|(part, f)| Node::of(format!("{name}.{part}"), f, next)).collect();
        Node { name, field: field.clone(), kind, below, number, dictionaries }
    }

    /// Itself, or of a struct its fields without the structs around them.
    fn leaves(&self, path: Vec<usize>, found: &mut Vec<(Vec<usize>, What)>) {
        if !matches!(self.kind, PartKind::Struct) || self.below.is_empty() {
            found.push((path, What::Itself));
            return;
        }
        for (i, below) in self.below.iter().enumerate() {
            below.leaves(path.iter().copied().chain([i]).collect(), found);
        }
    }

    /// The parts that a pattern means; what is below one of them is in it.
    fn find(&self, pattern: &Pattern, path: Vec<usize>, found: &mut Vec<(Vec<usize>, What)>) {
        if !path.is_empty() && pattern.matches(&self.name) {
            return self.leaves(path, found);
        }
        if matches!(self.kind, PartKind::List) && pattern.matches(&format!("{}.offsets", self.name))
        {
            found.push((path.clone(), What::Offsets));
        }
        // Masks come with what they mask, unless they are asked for by name.
        let mask = !matches!(self.kind, PartKind::Leaf);
        if mask && pattern.is_exactly(&format!("{}.valid", self.name)) {
            found.push((path.clone(), What::Valid));
        }
        for (i, below) in self.below.iter().enumerate() {
            below.find(pattern, path.iter().copied().chain([i]).collect(), found);
        }
    }

    fn names(&self) -> Vec<String> {
        let below = self.below.iter().flat_map(Node::names);
        std::iter::once(self.name.clone()).chain(below).collect()
    }
}

/// The parts that an array has.
fn tree(meta: &ArrayMeta) -> Option<Node> {
    if meta.details.error.is_some() {
        return None;
    }
    match &meta.logical {
        Logical::Nested(nested) => Some(Node::of(meta.name.clone(), &nested.field, &mut (0, 0))),
        Logical::List => {
            let item = arrow_schema::Field::new_list_field(DataType::Null, true);
            let list = DataType::List(Arc::new(item));
            let field = Arc::new(arrow_schema::Field::new("", list, meta.nulls));
            Some(Node::of(meta.name.clone(), &field, &mut (0, 0)))
        }
        _ => None,
    }
}

/// The chosen arrays and parts, in the order of the patterns (within a pattern: of the source).
///
/// # Errors
/// As [`names::choose`]; parts of lists that cannot be left out.
pub fn choose(plan: &Plan, include: &[String], exclude: &[String]) -> Result<Step> {
    let trees: Vec<Option<Node>> = plan.arrays.iter().map(tree).collect();
    if trees.iter().all(Option::is_none) {
        return Ok(Step::choose(plan, &names::choose(plan, include, exclude)?));
    }
    let (step, unmatched) = choose_matching(plan, include, exclude)?;
    unmatched_in(&[plan], &unmatched)?;
    if step.plan.arrays.is_empty() {
        return Err(names::none_left());
    }
    Ok(step)
}

/// The same, where patterns may match nothing, and nothing may be left; and those patterns.
///
/// # Errors
/// Parts of lists that cannot be left out.
pub fn choose_matching(
    plan: &Plan,
    include: &[String],
    exclude: &[String],
) -> Result<(Step, Vec<String>)> {
    let trees: Vec<Option<Node>> = plan.arrays.iter().map(tree).collect();
    let mut finder = Finder::new(plan, &trees);
    let chosen = match include.is_empty() {
        true => (0..plan.arrays.len()).map(Chosen::Whole).collect(),
        false => finder.find(include),
    };
    let excluded: HashSet<Chosen> = finder.find(exclude).into_iter().collect();
    let unmatched = finder.unmatched;
    let chosen = without(&trees, chosen, &excluded)?;
    Ok((step(plan, &trees, chosen)?, unmatched))
}

/// An error for each pattern that matches nothing in any of these.
///
/// # Errors
/// Missing, with near names.
pub fn unmatched_in(plans: &[&Plan], unmatched: &[String]) -> Result<()> {
    if unmatched.is_empty() {
        return Ok(());
    }
    let mut all: Vec<String> = Vec::new();
    for plan in plans {
        all.extend(plan.arrays.iter().map(|a| a.name.clone()));
        let trees = plan.arrays.iter().filter_map(tree);
        all.extend(trees.flat_map(|t| t.names().into_iter().skip(1).collect::<Vec<_>>()));
    }
    let mut seen = HashSet::new();
    all.retain(|name| seen.insert(name.clone()));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    Error::all(unmatched.iter().map(|t| no_match(t, &all)).collect())
}

struct Finder<'a> {
    names: Vec<&'a str>,
    places: HashMap<&'a str, Vec<usize>>,
    trees: &'a [Option<Node>],
    unmatched: Vec<String>,
}

impl<'a> Finder<'a> {
    fn new(plan: &'a Plan, trees: &'a [Option<Node>]) -> Finder<'a> {
        let names: Vec<&str> = plan.arrays.iter().map(|a| a.name.as_str()).collect();
        let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
        for (i, name) in names.iter().enumerate() {
            places.entry(name).or_default().push(i);
        }
        Finder { names, places, trees, unmatched: Vec::new() }
    }

    fn find(&mut self, values: &[String]) -> Vec<Chosen> {
        let mut found = Vec::new();
        for value in values {
            for text in split(value, &|name| self.places.contains_key(name)) {
                let one = self.one(text);
                if one.is_empty() {
                    self.unmatched.push(text.to_string());
                }
                found.extend(one);
            }
        }
        found
    }

    fn one(&self, text: &str) -> Vec<Chosen> {
        if let Some(exact) = self.places.get(text) {
            return exact.iter().copied().map(Chosen::Whole).collect();
        }
        let pattern = Pattern::new(text);
        let mut found = Vec::new();
        for (array, (name, tree)) in self.names.iter().zip(self.trees).enumerate() {
            if pattern.matches(name) {
                found.push(Chosen::Whole(array));
            } else if let Some(tree) = tree {
                let mut parts = Vec::new();
                tree.find(&pattern, Vec::new(), &mut parts);
                let part = |(path, what)| Chosen::Part { array, path, what };
                found.extend(parts.into_iter().map(part));
            }
        }
        if found.is_empty() {
            let pattern = Pattern::new(text.trim());
            let all = 0..self.names.len();
            found.extend(all.filter(|&i| pattern.matches(self.names[i].trim())).map(Chosen::Whole));
        }
        found
    }
}

/// Each once, without what is excluded.
fn without(
    trees: &[Option<Node>],
    chosen: Vec<Chosen>,
    excluded: &HashSet<Chosen>,
) -> Result<Vec<Chosen>> {
    let mut out: HashMap<usize, Vec<&[usize]>> = HashMap::new();
    for one in excluded {
        if let Chosen::Part { array, path, what: What::Itself } = one {
            out.entry(*array).or_default().push(path);
        }
    }
    let (mut seen, mut left) = (HashSet::new(), Vec::new());
    for one in chosen {
        let (Chosen::Whole(array) | Chosen::Part { array, .. }) = one;
        if excluded.contains(&Chosen::Whole(array)) {
            continue;
        }
        let Some(out) = out.get(&array) else {
            left.extend(seen.insert(one.clone()).then_some(one));
            continue;
        };
        let mut parts = Vec::new();
        match (one, &trees[array]) {
            (Chosen::Whole(_), Some(tree)) => tree.leaves(Vec::new(), &mut parts),
            (Chosen::Part { path, what, .. }, _) => parts.push((path, what)),
            (Chosen::Whole(_), None) => {}
        }
        for (path, what) in parts {
            if out.iter().any(|gone| path.starts_with(gone)) {
                continue;
            }
            if out.iter().any(|gone| gone.starts_with(&path)) {
                let name = trees[array].as_ref().map_or("", |tree| &tree.name);
                let error = Error::refused("-x cannot leave out a part of what is inside of lists");
                return Err(error.with_array(name).hint("choose the parts to keep with -a"));
            }
            let one = Chosen::Part { array, path, what };
            left.extend(seen.insert(one.clone()).then_some(one));
        }
    }
    Ok(left)
}

/// The plan of what was chosen.
fn step(plan: &Plan, trees: &[Option<Node>], chosen: Vec<Chosen>) -> Result<Step> {
    let mut new = plan.clone();
    let (mut arrays, mut recipes) = (Vec::new(), Vec::new());
    for one in chosen {
        match one {
            Chosen::Whole(i) => {
                arrays.push(plan.arrays[i].clone());
                recipes.push(Recipe::of(i));
            }
            Chosen::Part { array, path, what } => {
                let meta = &plan.arrays[array];
                let tree = trees[array].as_ref();
                let tree = tree.ok_or_else(|| Error::internal("a part of nothing"))?;
                let (part, ops) = part(meta, tree, &path, what)?;
                for table in &mut new.tables {
                    if table.columns.iter().any(|c| c.array == meta.name) {
                        let (array, header) = (part.name.clone(), part.name.clone());
                        table.columns.push(Column { array, header });
                    }
                }
                arrays.push(part);
                recipes.push(Recipe { input: array, ops });
            }
        }
    }
    new.arrays = arrays.into();
    new.keep_columns();
    Ok(Step { plan: new, recipes, notes: Vec::new() })
}

/// A part as an array of its own, and the ops that make it.
fn part(meta: &ArrayMeta, tree: &Node, path: &[usize], what: What) -> Result<(ArrayMeta, Vec<Op>)> {
    let Logical::Nested(nested) = &meta.logical else { return list_part(meta, path, what) };
    let own = |node: &Node| {
        let found = nested.nulls.as_ref().and_then(|n| n.get(node.number).copied());
        found.unwrap_or(node.field.is_nullable())
    };
    let (mut at, mut below_list) = (tree, false);
    let mut nulls = vec![own(at)];
    for &i in path {
        let hidden = match at.kind {
            PartKind::Struct => nulls.last().copied().unwrap_or(false),
            PartKind::Fixed(_) => {
                below_list = true;
                nulls.last().copied().unwrap_or(false)
            }
            _ => {
                below_list = true;
                false
            }
        };
        at = at.below.get(i).ok_or_else(|| Error::internal("a part that is not there"))?;
        nulls.push(own(at) || hidden);
    }
    let has_nulls = nulls.last().copied().unwrap_or(true);
    let rows = meta.rows.filter(|_| !below_list);
    let name = &at.name;
    let of_part = |of| Op::Part(Arc::new(Part { path: path.to_vec(), nulls, of, below_list }));
    match what {
        What::Offsets => {
            let rows = rows.and_then(|r| r.checked_add(1));
            let made = format!("{name}.offsets");
            let made = ArrayMeta::column(made, Dtype::I64, Logical::Plain, rows);
            Ok((made, vec![of_part(PartOf::Lengths), Op::Offsets]))
        }
        What::Valid => {
            let made = format!("{name}.valid");
            let made = ArrayMeta::column(made, Dtype::Bool, Logical::Plain, rows);
            Ok((made, vec![of_part(PartOf::Valid)]))
        }
        What::Itself if children(at.field.data_type()).is_empty() => {
            let dictionary = nested.dictionaries.get(at.dictionaries);
            let made = leaf(name, &at.field, rows, dictionary)?;
            let made = ArrayMeta { nulls: has_nulls, ..made };
            Ok((made.clone(), vec![of_part(PartOf::Values(Box::new(made)))]))
        }
        What::Itself => {
            let t = at.field.data_type();
            let field = at.field.as_ref().clone().with_name(name);
            let field = field.with_nullable(has_nulls || at.field.is_nullable());
            let dictionaries = crate::model::nested::dictionaries(t).len();
            let all = at.dictionaries..at.dictionaries + dictionaries;
            let mut found = nested.nulls.as_ref().and_then(|nulls| {
                nulls.get(at.number..at.number + walk(t).len()).map(<[bool]>::to_vec)
            });
            found.iter_mut().flat_map(|f| f.first_mut()).for_each(|own| *own = has_nulls);
            let inner = Nested {
                field: Arc::new(field),
                dictionaries: nested.dictionaries.get(all).unwrap_or_default().to_vec(),
                nulls: found,
            };
            let logical = Logical::Nested(Arc::new(inner));
            let made = ArrayMeta::column(name, Dtype::U8, logical, rows);
            Ok((made, vec![of_part(PartOf::Nested)]))
        }
    }
}

/// The part of uneven lists of numbers.
fn list_part(meta: &ArrayMeta, path: &[usize], what: What) -> Result<(ArrayMeta, Vec<Op>)> {
    let name = &meta.name;
    let column = |part: &str, dtype, rows| {
        ArrayMeta::column(format!("{name}.{part}"), dtype, Logical::Plain, rows)
    };
    Ok(match (what, path) {
        (What::Offsets, []) => {
            let rows = meta.rows.and_then(|r| r.checked_add(1));
            (column("offsets", Dtype::I64, rows), vec![Op::Offsets])
        }
        (What::Valid, []) => (column("valid", Dtype::Bool, meta.rows), vec![Op::Mask]),
        _ => {
            let item = meta.dtype.item_bytes();
            (column("values", meta.dtype, None), vec![Op::Elements { item }])
        }
    })
}

/// The array of a leaf of a nested column.
///
/// # Errors
/// Types that have no array.
pub(super) fn leaf(
    name: &str,
    field: &FieldRef,
    rows: Option<u64>,
    dictionary: Option<&Arc<Categories>>,
) -> Result<ArrayMeta> {
    let (dtype, logical) = arrow_model::element_type(field.data_type())?;
    let logical = match logical {
        Logical::Dictionary { .. } => {
            let categories = dictionary.cloned();
            let categories =
                categories.ok_or_else(|| Error::internal("a dictionary without categories"))?;
            let ordered = field.dict_is_ordered().unwrap_or(false);
            Logical::Dictionary { categories, ordered }
        }
        logical => logical,
    };
    let inner = logical.decimals().map_or_else(Vec::new, |d| d.dims());
    Ok(ArrayMeta { inner, ..ArrayMeta::column(name, dtype, logical, rows) })
}

/// A nested column without the fields that nobody chose.
pub struct Pruned {
    /// Its field.
    pub field: FieldRef,
    /// Which fields of a walk through the whole type are left.
    pub kept: Vec<bool>,
}

impl Choice {
    /// Whether parts of a column of this name are chosen.
    pub fn reaches(&self, name: &str, field: &FieldRef) -> bool {
        if children(field.data_type()).is_empty() || self.include.is_empty() {
            return false;
        }
        let tree = Node::of(name.to_string(), field, &mut (0, 0));
        let mut found = Vec::new();
        for pattern in self.patterns(name) {
            tree.find(&pattern, Vec::new(), &mut found);
        }
        !found.is_empty()
    }

    /// What is chosen, one by one; `name` may have commas in it.
    fn patterns(&self, name: &str) -> Vec<Pattern> {
        let all = self.include.iter().flat_map(|value| split(value, &|n| n == name));
        all.map(Pattern::new).collect()
    }

    /// What must be read of a nested column of this name; `None` where that is all of it, or none.
    /// Lists keep one field at least, maps their keys.
    pub fn inside(&self, name: &str, field: &FieldRef) -> Option<Pruned> {
        let t = field.data_type();
        let blank = |t: &&DataType| children(t).iter().any(|f| f.name().is_empty());
        if walk(t).iter().any(blank) {
            return None;
        }
        let tree = Node::of(name.to_string(), field, &mut (0, 0));
        // What is left out may be a part that is told of by its name: it stays.
        let mut parts = Vec::new();
        for pattern in self.patterns(name) {
            if pattern.matches(name) || pattern.matches(name.trim()) {
                return None;
            }
            tree.find(&pattern, Vec::new(), &mut parts);
        }
        if parts.is_empty() {
            return None;
        }
        let mut kept = vec![false; walk(t).len()];
        for (path, what) in &parts {
            tree.keep(path, *what, &mut kept);
        }
        if kept.iter().all(|kept| *kept) {
            return None;
        }
        let t = pruned(t, &kept, &mut 1);
        Some(Pruned { field: Arc::new(field.as_ref().clone().with_data_type(t)), kept })
    }
}

impl Node {
    /// Marks the fields that a part needs.
    fn keep(&self, path: &[usize], what: What, kept: &mut [bool]) {
        let t = self.field.data_type();
        kept[self.number] = true;
        if matches!(t, DataType::Map(..)) {
            kept[self.number + 1] = true;
            // A map has both.
            self.below.iter().for_each(|below| below.keep_one(kept));
        }
        match (path.split_first(), what) {
            (Some((&i, rest)), _) => {
                self.below.get(i).into_iter().for_each(|below| below.keep(rest, what, kept));
            }
            (None, What::Itself) => {
                let all = self.number..self.number + walk(t).len();
                kept[all].iter_mut().for_each(|kept| *kept = true);
            }
            (None, _) => self.keep_one(kept),
        }
    }

    /// Marks the field and the first leaf below it.
    fn keep_one(&self, kept: &mut [bool]) {
        kept[self.number] = true;
        if matches!(self.field.data_type(), DataType::Map(..)) {
            kept[self.number + 1] = true;
            return self.below.iter().for_each(|below| below.keep_one(kept));
        }
        match self.below.first() {
            Some(first) => first.keep_one(kept),
            // Unions and the like are kept whole.
            None => {
                let all = self.number..self.number + walk(self.field.data_type()).len();
                kept[all].iter_mut().for_each(|kept| *kept = true);
            }
        }
    }
}

/// The type with the kept fields; `next`: the number of its first field in the walk.
fn pruned(t: &DataType, kept: &[bool], next: &mut usize) -> DataType {
    let mut below = |field: &FieldRef| -> (bool, FieldRef) {
        let is_kept = kept.get(*next).copied().unwrap_or(true);
        *next += 1;
        let t = pruned(field.data_type(), kept, next);
        (is_kept, Arc::new(field.as_ref().clone().with_data_type(t)))
    };
    match t {
        DataType::Struct(fields) => {
            let fields: Fields =
                fields.iter().map(&mut below).filter(|(kept, _)| *kept).map(|(_, f)| f).collect();
            DataType::Struct(fields)
        }
        DataType::Union(..) | DataType::RunEndEncoded(..) => {
            *next += walk(t).len() - 1;
            t.clone()
        }
        _ => with_children(t, &mut |field| below(field).1),
    }
}

impl Pruned {
    /// The parts that are left of those of the whole column.
    pub fn parts(&self, whole: &FieldRef, parts: &Parts) -> Parts {
        self.parts_from(whole.data_type(), parts, &mut 1)
    }

    fn parts_from(&self, t: &DataType, parts: &Parts, next: &mut usize) -> Parts {
        let Some((_, fields)) = parts_of(t) else { return parts.clone() };
        *next += usize::from(matches!(t, DataType::Map(..)));
        let mut left = Vec::new();
        for ((_, field), part) in fields.iter().zip(&parts.parts) {
            let kept = self.kept.get(*next).copied().unwrap_or(true);
            *next += 1;
            let part = self.parts_from(field.data_type(), part, next);
            left.extend(kept.then_some(part));
        }
        Parts { parts: left, ..parts.clone() }
    }
}
