//! Modules and TorchScript objects: the entries of their `state_dict()`.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::one;
use super::tensor::builds;
use super::walker::{MAX_DEPTH, ParsedValue, Walker};
use crate::codec::pickle::{Id, Node, Object, shown};
use crate::error::{Error, Result};
use crate::formats::checkpoint::pytorch::entry::EntryKind;
use crate::formats::checkpoint::pytorch::torch_types::unknown_global;

/// Classes in C++, which keep weights in a form of their own.
const PACKED: &str = "__torch__.torch.classes.";

/// The members of a module's state that make up its `state_dict()`.
#[derive(Default)]
struct Parts {
    parameters: Option<Id>,
    buffers: Option<Id>,
    hidden: Option<Id>,
    modules: Option<Id>,
}

/// A member on its way into the entries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Member {
    Value,
    Module,
    /// Counts only where tensors are found in it.
    Collection,
}

impl<'a> Walker<'a> {
    /// A module, a TorchScript object, or a kind to refuse.
    pub(super) fn other(&mut self, id: Id, name: &str, object: &Object) -> Result<ParsedValue> {
        let pickle = self.pickle;
        // Whatever stands in it is refused with it, or an attribute that `state_dict()` has not.
        self.handled.push(id);
        let script = name.starts_with("__torch__.");
        if is_packed(name) {
            let quantized = name[PACKED.len()..].starts_with("quantized.");
            let what = if quantized {
                "quantized weights, packed by"
            } else {
                "what only its own class knows:"
            };
            let error = Error::refused(format!(
                "it holds {what} {}, which other formats do not have",
                shown(name)
            ))
            .hint("--skip-unsupported leaves it out");
            return self.found(EntryKind::Refused(
                if quantized { "quantized tensor".into() } else { name.to_string() },
                error,
            ));
        }
        if let Some(Node::Dict(state)) = object.state.map(|s| pickle.node(s))
            && (script
                || self
                    .parts(state)?
                    .is_some_and(|p| p.parameters.is_some() && p.modules.is_some()))
        {
            let mut entries = Vec::new();
            self.module(state, script, &mut String::new(), &mut entries)?;
            return Ok(ParsedValue {
                plain: None,
                tree: Some(one("OrderedDict", Value::Array(entries))),
            });
        }
        if script && object.state.is_none() {
            return Ok(ParsedValue::default()); // an enumeration's value
        }
        self.found(EntryKind::Refused(name.to_string(), unknown_global(name)))
    }

    /// The pairs of a dict, or of an object that is one, those of its arguments first.
    pub(super) fn pairs_of(&mut self, id: Id) -> Result<Vec<(Id, Id)>> {
        let pickle = self.pickle;
        let object = match pickle.node(id) {
            Node::Dict(pairs) => {
                self.charge_steps(pairs.len())?;
                return Ok(pairs.clone());
            }
            Node::Object(object) => object,
            _ => return Ok(Vec::new()),
        };
        let mut pairs = Vec::new();
        // A defaultdict's argument is what makes its values.
        if pickle.global(object.callable) != Some("collections.defaultdict")
            && let Some(&given) = pickle.tuple(object.args).and_then(|a| a.first())
        {
            match pickle.node(given) {
                Node::Dict(given) => {
                    self.charge_steps(given.len())?;
                    pairs.extend_from_slice(given);
                }
                // Python 2 makes them of lists of two.
                _ => {
                    let given = pickle.tuple(given).unwrap_or_default();
                    self.charge_steps(given.len())?;
                    pairs.extend(given.iter().filter_map(|&p| {
                        pickle.tuple(p).filter(|p| p.len() == 2).map(|p| (p[0], p[1]))
                    }));
                }
            }
        }
        self.charge_steps(object.pairs.len())?;
        pairs.extend_from_slice(&object.pairs);
        Ok(pairs)
    }

    /// What a module's state is made of; `None` where there are none of its members.
    fn parts(&mut self, state: &[(Id, Id)]) -> Result<Option<Parts>> {
        self.charge_steps(state.len())?;
        let (mut parts, mut any) = (Parts::default(), false);
        for &(key, value) in state {
            let part = match self.pickle.short(key) {
                Some("_parameters") => &mut parts.parameters,
                Some("_buffers") => &mut parts.buffers,
                Some("_non_persistent_buffers_set") => &mut parts.hidden,
                Some("_modules") => &mut parts.modules,
                _ => continue,
            };
            (*part, any) = (Some(value), true);
        }
        Ok(any.then_some(parts))
    }

    /// Names of the buffers that are not saved.
    fn hidden(&mut self, set: Option<Id>) -> Result<HashSet<&'a str>> {
        let pickle = self.pickle;
        let items = match set.map(|id| pickle.node(id)) {
            Some(Node::Set(items)) => items.as_slice(),
            Some(Node::Object(object)) => {
                let args = pickle.tuple(object.args).unwrap_or_default();
                args.first().and_then(|&a| pickle.tuple(a)).unwrap_or_default()
            }
            _ => &[],
        };
        self.charge_steps(items.len())?;
        Ok(items.iter().filter_map(|&i| pickle.short(i)).collect())
    }

    fn script_members(&mut self, state: &[(Id, Id)]) -> Result<Vec<(Member, Id, Id)>> {
        self.charge_steps(state.len())?;
        let pickle = self.pickle;
        let (mut tensors, mut modules) = (Vec::new(), Vec::new());
        for &(key, value) in state {
            match pickle.node(value) {
                Node::Object(object) => {
                    let name = self.called(object);
                    match object.state.map(|s| pickle.node(s)) {
                        Some(Node::Dict(_)) if !is_packed(&name) => {
                            modules.push((Member::Module, key, value))
                        }
                        _ if name.starts_with("torch._") => {
                            tensors.push((Member::Value, key, value))
                        }
                        _ => modules.push((Member::Collection, key, value)),
                    }
                }
                Node::List(_) | Node::Tuple(_) | Node::Dict(_) => {
                    modules.push((Member::Collection, key, value))
                }
                _ => {}
            }
        }
        tensors.extend(modules);
        Ok(tensors)
    }

    fn module_members(&mut self, state: &[(Id, Id)]) -> Result<Vec<(Member, Id, Id)>> {
        let pickle = self.pickle;
        let parts = self.parts(state)?.unwrap_or_default();
        let mut part = |part: Option<Id>| part.map_or(Ok(Vec::new()), |part| self.pairs_of(part));
        let (parameters, mut buffers, modules) =
            (part(parts.parameters)?, part(parts.buffers)?, part(parts.modules)?);
        let hidden = self.hidden(parts.hidden)?;
        buffers.retain(|(key, _)| pickle.short(*key).is_none_or(|key| !hidden.contains(key)));
        let values =
            parameters.into_iter().chain(buffers).map(|(key, value)| (Member::Value, key, value));
        let members = values
            .chain(modules.into_iter().map(|(key, value)| (Member::Module, key, value)))
            .collect();
        for &(key, value) in state {
            if pickle.object(value).is_some_and(|o| builds(&self.called(o))) {
                self.attributes.0 += 1;
                if self.attributes.0 == 1 {
                    let name = self.key_name(key)?;
                    let before = self.enter(&name);
                    self.attributes.1 = self.path.clone();
                    self.path.truncate(before);
                }
            }
        }
        Ok(members)
    }

    /// The entries of a module's `state_dict()`.
    fn module(
        &mut self,
        state: &[(Id, Id)],
        script: bool,
        prefix: &mut String,
        entries: &mut Vec<Value>,
    ) -> Result<()> {
        if self.depth >= MAX_DEPTH {
            return Err(Error::refused(format!(
                "the module is nested deeper than {MAX_DEPTH} levels"
            )));
        }
        let pickle = self.pickle;
        let members =
            if script { self.script_members(state)? } else { self.module_members(state)? };
        for (member, key, value) in members {
            if matches!(pickle.node(value), Node::None) {
                continue;
            }
            let name = self.key_name(key)?;
            let before = self.enter(&name);
            let prefix_before = prefix.len();
            if !prefix.is_empty() {
                prefix.push('.');
            }
            prefix.push_str(&name);
            let inner = pickle.object(value).and_then(|o| o.state).map(|s| pickle.node(s));
            let done = match inner {
                Some(Node::Dict(inner)) if member == Member::Module => {
                    if self.open.contains(&value) {
                        Ok(())
                    } else {
                        self.open.push(value);
                        self.depth += 1;
                        let done = match self.charge_steps(1) {
                            Ok(()) => self.module(inner, script, prefix, entries),
                            over => over,
                        };
                        self.depth -= 1;
                        self.open.pop();
                        done
                    }
                }
                _ => self.entry(member, value, prefix, entries),
            };
            prefix.truncate(prefix_before);
            self.path.truncate(before);
            done?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        member: Member,
        value: Id,
        prefix: &str,
        entries: &mut Vec<Value>,
    ) -> Result<()> {
        let found = self.walk.found.len();
        let out = self.visit(value)?;
        if let Some(tree) = out.tree
            && (member != Member::Collection || self.walk.found.len() > found)
        {
            self.keep_text(prefix.len())?;
            entries.push(Value::Array(vec![json!(prefix), tree]));
        }
        Ok(())
    }
}

fn is_packed(name: &str) -> bool {
    name.starts_with(PACKED)
}
