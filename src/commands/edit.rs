//! `npk edit`: changes of a store in place.

use serde_json::json;

use crate::api::Store;
use crate::cli::EditArgs;
use crate::console::{self, Console};
use crate::error::{Error, Result};
use crate::model::Attributes;
use crate::resolve::names;

/// Drops, renames, sets, then compacts.
///
/// # Errors
/// Usage where nothing is to be done; missing names; names that exist; what keeps the store from
/// being changed.
pub fn run(args: &EditArgs, console: Console) -> Result<u8> {
    let changes =
        !(args.drop.is_empty() && args.rename.is_empty() && args.set_attribute.is_empty());
    if !changes && !args.compact {
        return Err(Error::usage("there is nothing to change")
            .hint("give --drop, --rename, --set-attribute or --compact"));
    }
    let renames: Vec<(String, String)> =
        args.rename.iter().map(|text| names::pair("rename", text)).collect::<Result<_>>()?;
    let mut attributes = Attributes::new();
    for text in &args.set_attribute {
        let (key, value) = names::pair("set-attribute", text)?;
        attributes.insert(key, value.into());
    }
    let mut store = Store::open(&args.store)?;
    let dropped = match args.drop.is_empty() {
        true => Vec::new(),
        false => dropped(&store, &args.drop).map_err(|e| e.file(&args.store))?,
    };
    if !args.dry_run {
        dropped.iter().try_for_each(|name| store.remove(name))?;
        rename(&mut store, &renames)?;
        if !attributes.is_empty() {
            store.set_metadata(&attributes)?;
        }
        if changes {
            store.commit()?;
        }
    }
    let compacted = args.compact && !args.dry_run && store.compact()?;
    if args.compact && !compacted && !args.dry_run {
        console.note("there was nothing to compact");
    }
    if args.json {
        let renamed: serde_json::Map<_, _> =
            renames.into_iter().map(|(old, new)| (old, new.into())).collect();
        console::json(
            &json!({"schema": 1, "path": args.store, "dropped": dropped, "renamed": renamed,
                "attributes": attributes, "compacted": compacted, "dry_run": args.dry_run}),
            true,
        )?;
        return Ok(0);
    }
    let would = if args.dry_run { "would be " } else { "" };
    let mut told = Vec::new();
    let mut tell = |n: usize, one: &str, many: &str, what: &str| {
        if n > 0 {
            told.push(format!("{n} {} {would}{what}", if n == 1 { one } else { many }));
        }
    };
    tell(dropped.len(), "array", "arrays", "dropped");
    tell(renames.len(), "array", "arrays", "renamed");
    tell(attributes.len(), "attribute", "attributes", "set");
    if compacted {
        told.push("compacted".into());
    }
    if !told.is_empty() {
        console.summary(&format!("{}: {}", args.store, told.join(", ")));
    }
    Ok(0)
}

/// The arrays that these patterns mean. Some must stay, for a store of none is no store.
fn dropped(store: &Store, patterns: &[String]) -> Result<Vec<String>> {
    let plan = store.plan();
    let chosen = names::choose(plan, patterns, &[])?;
    if chosen.len() == plan.arrays.len() {
        return Err(Error::usage("no array would be left").hint("remove the store itself: rm -r"));
    }
    Ok(chosen.into_iter().map(|i| plan.arrays[i].name.clone()).collect())
}

/// Renames all at once, as `convert` does: a name that one array gives up another one may take.
fn rename(store: &mut Store, renames: &[(String, String)]) -> Result<()> {
    let is_given_up = |name: &str| renames.iter().any(|(old, _)| old == name);
    if !renames.iter().any(|(_, new)| is_given_up(new)) {
        return renames.iter().try_for_each(|(old, new)| store.rename(old, new));
    }
    let taken: Vec<String> = store.names().map(str::to_string).collect();
    let is_taken =
        |n: &str| taken.iter().any(|name| name == n) || renames.iter().any(|(_, new)| new == n);
    let aside: Vec<String> =
        renames.iter().map(|(old, _)| names::unique_name(old, is_taken)).collect();
    for ((old, _), aside) in renames.iter().zip(&aside) {
        store.rename(old, aside)?;
    }
    renames.iter().zip(&aside).try_for_each(|((_, new), aside)| store.rename(aside, new))
}
