//! Calls that Python would make on loading, but that the walk does not reach: their results were
//! dropped, or became keys, attributes, or arguments of something else. They are listed as refused,
//! so that nothing is skipped silently.

use std::collections::HashSet;

use super::object::is_known;
use super::tensor::builds;
use super::walker::Walker;
use crate::codec::pickle::{Id, Node, Object};
use crate::error::Result;
use crate::formats::checkpoint::pytorch::entry::EntryKind;
use crate::formats::checkpoint::pytorch::torch_types::unknown_global;

impl Walker<'_> {
    /// Lists the calls of what is not known that were not met.
    pub(super) fn unseen(&mut self) -> Result<()> {
        let pickle = self.pickle;
        let known: Vec<bool> = pickle.globals().map(|g| is_known(g) || builds(g)).collect();
        let unknown = |object: &Object| match pickle.node(object.callable) {
            Node::Global(index) => !known.get(*index as usize).is_some_and(|&k| k),
            _ => true,
        };
        let calls: Vec<(Id, &Object)> = pickle
            .nodes()
            .filter_map(|(id, node)| match node {
                Node::Object(object) if unknown(object) => Some((id, &**object)),
                _ => None,
            })
            .collect();
        if calls.is_empty() {
            return Ok(());
        }
        let seen = self.below_excused();
        let mut named = HashSet::new();
        for (id, object) in calls {
            if seen[id as usize] {
                continue;
            }
            let name = self.called(object);
            if is_known(&name) || builds(&name) || !named.insert(name.clone()) {
                continue;
            }
            let before = self.enter(&name);
            let out = self.found(EntryKind::Refused(name.clone(), unknown_global(&name)));
            self.path.truncate(before);
            out?;
        }
        Ok(())
    }

    /// All that hangs on what was refused or passed over, node by node.
    fn below_excused(&mut self) -> Vec<bool> {
        let pickle = self.pickle;
        let mut seen = vec![false; pickle.nodes().count()];
        let mut due = std::mem::take(&mut self.handled);
        while let Some(id) = due.pop() {
            match seen.get_mut(id as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            match pickle.node(id) {
                Node::Tuple(items) => due.extend_from_slice(items),
                Node::List(items) | Node::Set(items) => due.extend_from_slice(items),
                Node::Dict(pairs) => due.extend(pairs.iter().flat_map(|&(k, v)| [k, v])),
                Node::Persistent(inner) => due.push(*inner),
                Node::Object(object) => {
                    due.extend([object.callable, object.args]);
                    due.extend(object.state);
                    due.extend_from_slice(&object.items);
                    due.extend(object.pairs.iter().flat_map(|&(k, v)| [k, v]));
                }
                _ => {}
            }
        }
        seen
    }
}
