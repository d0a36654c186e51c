//! Array names as a tree, for `npk inspect --tree`: numbers in their order, runs of alike children
//! on one line.

use indexmap::IndexMap;

use crate::console::visible;
use crate::model::ArrayMeta;
use crate::resolve::names::natural;

/// Parts of a name that make a level each; what is left of a longer name is one more.
const MAX_LEVELS: usize = 64;

/// Arrays as a tree by the parts of their names. Numbered children are in the order of their
/// numbers, and runs of them that hold the same are folded: `layers.[0..31].experts.[0..7].w`.
pub fn tree(arrays: &[ArrayMeta]) -> String {
    let mut root = Node::default();
    for meta in arrays {
        let mut node = &mut root;
        let (mut rest, mut level) = (meta.name.as_str(), 0);
        while !rest.is_empty() {
            level += 1;
            let end = rest
                .find(['.', '/'])
                .filter(|_| level < MAX_LEVELS)
                .map_or(rest.len(), |at| at + 1);
            let (part, after) = rest.split_at(end);
            node = node.children.entry(part.to_string()).or_default();
            rest = after;
        }
        let shape = meta.shape().map_or_else(|| "?".into(), |s| format!("{s:?}"));
        node.leaf = Some(format!("{} {shape}", meta.type_name()));
    }
    let mut out = String::new();
    print(root.groups(), "", &mut out);
    out
}

/// The layer that an array belongs to: its name up to the first part with a number
/// (`model.layers.0`), or what it is below (`lm_head` of `lm_head.weight`).
pub fn layer(name: &str) -> &str {
    let mut start = 0;
    while start < name.len() {
        let end = name[start..].find(['.', '/']).map_or(name.len(), |at| start + at);
        if Numbered::of(&name[start..end]).is_some() {
            return &name[..end];
        }
        start = end + 1;
    }
    match name.trim_end_matches(['.', '/']).rfind(['.', '/']) {
        Some(at) if at > 0 => &name[..at],
        _ => name,
    }
}

#[derive(Default, PartialEq)]
struct Node {
    children: IndexMap<String, Node>,
    leaf: Option<String>,
}

/// A child, or several alike ones.
struct Group<'a> {
    label: String,
    node: &'a Node,
}

/// A part of a name, taken apart at its last number: `block_`, `07`, `.`.
#[derive(Clone, Copy)]
struct Numbered<'a> {
    before: &'a str,
    digits: &'a str,
    number: u64,
    after: &'a str,
}

impl<'a> Numbered<'a> {
    fn of(part: &'a str) -> Option<Numbered<'a>> {
        let end = part.rfind(|c: char| c.is_ascii_digit())? + 1;
        let start = part[..end]
            .rfind(|c: char| !c.is_ascii_digit())
            .map_or(0, |at| at + part[at..].chars().next().map_or(1, char::len_utf8));
        let digits = &part[start..end];
        Some(Numbered {
            before: &part[..start],
            digits,
            number: digits.parse().ok()?,
            after: &part[end..],
        })
    }
    /// Whether `next` is one more, written in the same way: `09` and `10`, or `9` and `10`.
    fn precedes(self, next: Numbered<'_>) -> bool {
        let padded = |n: &str| n.len() > 1 && n.starts_with('0');
        let alike =
            self.digits.len() == next.digits.len() || !padded(self.digits) && !padded(next.digits);
        self.number.checked_add(1) == Some(next.number) && alike
    }
}

impl Node {
    /// The children as they are printed: in the order in which they appear, those that differ in a
    /// number side by side.
    fn groups(&self) -> Vec<Group<'_>> {
        let mut families: IndexMap<(&str, Option<&str>), Vec<(&str, &Node)>> = IndexMap::new();
        for (name, node) in &self.children {
            let family =
                Numbered::of(name).map_or((name.as_str(), None), |n| (n.before, Some(n.after)));
            families.entry(family).or_default().push((name, node));
        }
        let mut groups = Vec::new();
        for family in families.values_mut() {
            family.sort_by(|a, b| natural(a.0, b.0));
            for run in family.chunk_by(|(a, x), (b, y)| follows(a, b) && x == y) {
                let ((first, node), (last, _)) = (run[0], run[run.len() - 1]);
                let label = match (Numbered::of(first), Numbered::of(last)) {
                    (Some(a), Some(b)) if run.len() > 1 => {
                        format!("{}[{}..{}]{}", a.before, a.digits, b.digits, a.after)
                    }
                    _ => first.to_string(),
                };
                groups.push(Group { label, node });
            }
        }
        groups
    }
}

fn follows(a: &str, b: &str) -> bool {
    matches!((Numbered::of(a), Numbered::of(b)), (Some(x), Some(y)) if x.precedes(y))
}

fn print(groups: Vec<Group<'_>>, indent: &str, out: &mut String) {
    let count = groups.len();
    for (k, Group { label, mut node }) in groups.into_iter().enumerate() {
        let mut label = visible(&label);
        let mut below = node.groups();
        // A chain of only children stays on one line.
        while node.leaf.is_none()
            && let [only] = &below[..]
        {
            label += &visible(&only.label);
            node = only.node;
            below = node.groups();
        }
        let last = k + 1 == count;
        let leaf = node.leaf.as_ref().map(|l| format!("  {l}")).unwrap_or_default();
        out.push_str(&format!("{indent}{}{label}{leaf}\n", if last { "└─ " } else { "├─ " }));
        print(below, &format!("{indent}{}", if last { "   " } else { "│  " }), out);
    }
}
