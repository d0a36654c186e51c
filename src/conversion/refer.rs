//! `--virtual`: an output that refers to the bytes of its sources.

use std::collections::HashMap;

use super::gather::{Gathered, gather};
use super::outcome::Outcome;
use super::output::{Task, fitted};
use crate::batch::Conversion;
use crate::batch::context::ConvertContext;
use crate::batch::existing::{existing_error, skip};
use crate::cli::ConvertArgs;
use crate::console::{self, Counted};
use crate::error::{Error, Result};
use crate::format::{Existing, Order, Reader, Source, StoredArray};
use crate::formats;
use crate::formats::hierarchical::zarr::references::{self, Bytes, ReferenceForm};
use crate::model::{Chunk, Dtype, Plan, Values};
use crate::open::output_location;
use crate::resolve::policy::Policy;
use std::time::Instant;

/// The name that `--to` knows this by.
const KERCHUNK: &str = "kerchunk";

/// In which form references are asked for, if they are.
///
/// # Errors
/// Usage: flags that change values.
pub(super) fn form(args: &ConvertArgs, dst: &str) -> Result<Option<ReferenceForm>> {
    let to = args.to.as_deref();
    if !args.refer && to != Some(KERCHUNK) {
        return match &args.inline_below {
            Some(_) => Err(Error::usage("--inline-below is for --virtual")),
            None => Ok(None),
        };
    }
    if !matches!(to, None | Some(KERCHUNK | "zarr" | "auto")) {
        return Err(Error::usage("--virtual writes Zarr").hint("leave --to out"));
    }
    let given = [
        ("--append", args.append),
        ("--certify", args.certify),
        ("--verify", args.verify),
        ("-c", args.compression.is_some()),
        ("--chunk-shape", args.chunk_shape.is_some()),
        ("--shard-shape", args.shard_shape.is_some()),
        ("--zarr-format 3", args.zarr_format == Some(3)),
    ];
    if let Some((flag, _)) = given.iter().find(|(_, given)| *given) {
        return Err(Error::usage(format!("{flag} does not go with --virtual"))
            .hint("what is referred to stays as it is; the metadata is Zarr v2"));
    }
    let is_json = to == Some(KERCHUNK) || dst.to_ascii_lowercase().ends_with(".json");
    if !is_json && dst.to_ascii_lowercase().ends_with(".zip") {
        return Err(Error::usage("references are a directory or a JSON file, not a zip"));
    }
    Ok(Some(if is_json { ReferenceForm::Json } else { ReferenceForm::Parquet }))
}

/// Writes the references.
pub(super) fn refer(
    job: &ConvertContext<'_>,
    unit: &Conversion,
    form: ReferenceForm,
) -> Result<Outcome> {
    let began = Instant::now();
    let dst = output_location(&unit.dst, &job.args.read)?;
    let Some(zarr) = formats::by_name("zarr") else {
        return Err(Error::internal("there is no Zarr"));
    };
    let task = Task::new(job, unit, &dst, zarr)?;
    let (capabilities, named) = (task.capabilities, |e| task.sources_named(e));
    if dst.is_stream() {
        return Err(Error::usage("references cannot be written to stdout").hint("give a file name"));
    }
    if let Some(why) = skip(job, unit, &dst)? {
        return Ok(Outcome::Skipped(why));
    }
    let gathered: Gathered = gather(job, unit, zarr, capabilities.arrays).map_err(named)?;
    let policy = Policy { sink: "zarr", marks: true, ..job.policy.clone() };
    let (flow, notes) =
        fitted(gathered.flow, capabilities, &policy, &job.settings).map_err(named)?;
    let plan = flow.plan().clone();
    references::check(&plan, &job.write).map_err(|e| task.output_named(e))?;
    let source = flow.into_source();
    let (stored, inline) = sorted(job, source.as_ref(), &plan).map_err(named)?;
    for note in plan.notes.iter().chain(&notes) {
        job.note(note);
    }
    let bits = plan.arrays.iter().filter(|a| a.dtype == Dtype::Bf16 || a.dtype.is_float8()).count();
    if bits > 0 {
        job.note(&format!(
            "{bits} arrays of bfloat16 or float8 are referred to as their bits (uint16, uint8): Zarr v2 has no names for them"
        ));
    }
    if !inline.is_empty() {
        job.note(&format!("{} arrays are kept in the output itself", inline.len()));
    }
    if job.write.existing == Existing::Error {
        existing_error(&dst, zarr)?;
    }
    if job.args.dry_run {
        return Ok(Outcome::Planned(task.plan_text(&plan, None, None)?));
    }
    task.make_folder()?;
    let mut values =
        read(source.as_ref(), &plan, &inline, job.read.resources.memory_bytes()).map_err(named)?;
    let mut output =
        references::create(&dst, form, &plan, &job.write).map_err(|e| task.output_named(e))?;
    for (a, (meta, stored)) in plan.arrays.iter().zip(stored).enumerate() {
        let bytes = match stored {
            Some(stored) => Bytes::Stored(stored),
            None => Bytes::Inline(values.remove(&a).unwrap_or_default()),
        };
        output.add(a, meta, bytes).map_err(|e| named(e.array(&meta.name)))?;
    }
    let summary = output.finish(&plan).map_err(|e| task.output_named(e))?;
    for note in &summary.notes {
        job.note(note);
    }
    Ok(Outcome::Done {
        counted: Counted::of(&plan, None),
        bytes: summary.bytes,
        time: began.elapsed(),
        layout: None,
        format: if form == ReferenceForm::Json { KERCHUNK } else { "zarr" },
    })
}

/// How each array is stored, and those that are to be kept in the output.
#[allow(clippy::type_complexity)]
fn sorted(
    job: &ConvertContext<'_>,
    source: &dyn Source,
    plan: &Plan,
) -> Result<(Vec<Option<StoredArray>>, Vec<usize>)> {
    let below = match &job.args.inline_below {
        Some(text) => console::parse_bytes(text)?,
        None => 0,
    };
    let (mut stored, mut inline, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for (a, meta) in plan.arrays.iter().enumerate() {
        let told = crate::format::readable(meta).and_then(|()| match meta.nulls {
            true => Err(Error::refused("it has nulls")),
            false => source.stored(a),
        });
        stored.push(match told {
            Ok(array) => Some(array),
            Err(e) => {
                let fits = meta.size_bytes().is_some_and(|bytes| bytes <= below);
                let is_numbers = !meta.logical.is_var() && !meta.nulls && meta.coded_text().is_none();
                match fits && is_numbers && e.kind() != crate::error::ErrorKind::Corrupt {
                    true => inline.push(a),
                    false => errors.push(
                        Error::refused(format!("it cannot be referred to: {}", e.reason()))
                            .array(&meta.name)
                            .hint("-x leaves it out; --inline-below SIZE keeps small arrays of numbers in the output"),
                    ),
                }
                None
            }
        });
    }
    Error::all(errors)?;
    Ok((stored, inline))
}

/// The values of arrays that are kept in the output.
fn read(
    source: &dyn Source,
    plan: &Plan,
    arrays: &[usize],
    memory_bytes: u64,
) -> Result<HashMap<usize, Vec<u8>>> {
    let needed: u64 = arrays.iter().filter_map(|&a| plan.arrays[a].size_bytes()).sum();
    if needed > memory_bytes {
        return Err(Error::refused(format!(
            "the arrays to keep in the output have {needed} bytes, the memory limit is {memory_bytes} bytes"
        ))
        .hint("give a smaller --inline-below, or a larger --memory-limit"));
    }
    let mut values: HashMap<usize, Vec<u8>> = HashMap::new();
    if arrays.is_empty() {
        return Ok(values);
    }
    let mut keep = |chunk: Chunk| match &chunk.values {
        Values::Fixed(bytes) => {
            values.entry(chunk.array).or_default().extend_from_slice(bytes);
            Ok(())
        }
        _ => Err(Error::internal("numbers were expected")),
    };
    match source.select(arrays, Order::ArrayByArray)? {
        Reader::Random(reader) => {
            for &a in arrays {
                reader.read(a, 0..plan.arrays[a].rows.unwrap_or(0), &mut keep)?;
            }
            reader.close()?;
        }
        Reader::InOrder(mut pieces) => {
            while let Some(piece) = pieces.next(memory_bytes / 4)? {
                piece.run(&mut keep)?;
            }
            pieces.close()?;
        }
    }
    Ok(values)
}
