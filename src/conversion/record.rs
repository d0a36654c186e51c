//! What the report of a run says of a unit, and what it certifies.

use serde_json::{Map, Value, json};

use super::convert::convert;
use super::outcome::{Outcome, ShareResult};
use crate::batch::context::ConvertContext;
use crate::batch::existing::{is_there, rereading};
use crate::batch::report::Known;
use crate::batch::{Conversion, marks};
use crate::cli::{ChooseArgs, IfExists};
use crate::compare::checksum::checksums;
use crate::console::{self, Console};
use crate::error::{Error, ErrorKind, Result, guard};
use crate::open::{choosing, chosen, known_location, open, output_location, shown};
use crate::pipe::{Flow, Settings};

/// A unit that has ended.
pub(super) struct Ended {
    pub(super) unit: Conversion,
    pub(super) result: Result<Outcome>,
    /// Its line in the report.
    pub(super) line: Option<Value>,
}

/// Converts a unit, or finds that it is done. `known`: what an earlier worker has done, where there
/// is a report. `outputs`: how many the unit of the batch comes to.
pub(super) fn ended(
    job: &ConvertContext<'_>,
    known: Option<&Known>,
    unit: Conversion,
    outputs: usize,
) -> Ended {
    let Some(known) = known else {
        let result = guard(|| converted(job, &unit));
        return Ended { unit, result, line: None };
    };
    match guard(|| done_before(job, known, &unit)) {
        Ok(Some(line)) => {
            let result = Ok(Outcome::Skipped("it is in the report"));
            return Ended { unit, result, line: Some(line) };
        }
        Ok(None) => {}
        Err(e) => return failed(unit, e, outputs),
    }
    let result = guard(|| converted(job, &unit));
    let line = match &result {
        Ok(Outcome::Part(part)) => {
            let count = usize::try_from(part.share.count).unwrap_or(usize::MAX);
            guard(|| done(job, &unit, Some(part), count))
        }
        Ok(_) => guard(|| done(job, &unit, None, outputs)),
        Err(e) => Ok(line_of_failed(&unit, e, outputs)),
    };
    match line {
        Ok(line) => Ended { unit, result, line: Some(line) },
        Err(e) => failed(unit, e, outputs),
    }
}

/// A unit that failed.
pub(super) fn failed(unit: Conversion, error: Error, outputs: usize) -> Ended {
    let line = line_of_failed(&unit, &error, outputs);
    Ended { unit, result: Err(error), line: Some(line) }
}

/// Where the source is not what the list says, it is not converted.
fn check_listed(job: &ConvertContext<'_>, unit: &Conversion) -> Result<()> {
    let (Some(listed), [source]) = (&unit.listed, &unit.sources[..]) else { return Ok(()) };
    listed.check(&known_location(source, &job.args.read)?).map_err(|e| e.file(shown(source)))
}

/// Converts a unit whose source is what the list says. Where another worker has just made the
/// output, it is there, as it should be.
fn converted(job: &ConvertContext<'_>, unit: &Conversion) -> Result<Outcome> {
    check_listed(job, unit)?;
    let dst = output_location(&unit.dst, &job.args.read)?;
    if let Some((backend, key)) = dst.as_remote() {
        // Of what many processes write, none knows all.
        if job.args.report.is_some() && !unit.shared {
            backend.keep_marks();
        }
        backend.tell(key, job.survey.get().and_then(|survey| survey.listed(&unit.key)));
    }
    let result = convert(job, unit);
    if let Some((backend, key)) = dst.as_remote() {
        backend.tell(key, None);
    }
    match &result {
        Err(e)
            if e.kind() == ErrorKind::Exists
                && job.if_exists == IfExists::Skip
                && is_there(&dst)? =>
        {
            match crate::batch::existing::skip(job, unit, &dst)? {
                Some(why) => Ok(Outcome::Skipped(why)),
                None => result,
            }
        }
        _ => result,
    }
}

/// The line of a unit that an earlier worker has done, if its output is still the same.
fn done_before(
    job: &ConvertContext<'_>,
    known: &Known,
    unit: &Conversion,
) -> Result<Option<Value>> {
    if job.if_exists != IfExists::Skip {
        return Ok(None);
    }
    let Some(line) = known.line(&unit.unit)? else { return Ok(None) };
    let dst = output_location(&unit.dst, &job.args.read)?;
    let there = match job.survey.get() {
        Some(survey) => survey.is_same(&unit.key, &line["mark"]),
        None => marks::is_same_output(&dst, &line["mark"])?,
    };
    let same = there && line["output"] == unit.key.as_str();
    let enough = !job.args.certify || line.get("certified").is_some();
    Ok((same && enough).then_some(line))
}

fn begun(unit: &Conversion, outputs: usize) -> Value {
    let mut line = json!({"schema": 1, "unit": unit.unit, "output": unit.key});
    if let Some(array) = &unit.array {
        line["array"] = json!(array);
    }
    if outputs != 1 {
        line["outputs"] = json!(outputs);
    }
    line
}

fn line_of_failed(unit: &Conversion, error: &Error, outputs: usize) -> Value {
    let mut line = begun(unit, outputs);
    line["status"] = json!("failed");
    line["sources"] = unit.shown().iter().map(|path| json!({"path": path})).collect();
    line.as_object_mut().into_iter().for_each(|keys| keys.extend(console::fault(error)));
    line
}

/// The line of a unit whose output is there, or a share of it.
pub(super) fn done(
    job: &ConvertContext<'_>,
    unit: &Conversion,
    part: Option<&ShareResult>,
    outputs: usize,
) -> Result<Value> {
    let mut line = begun(unit, outputs);
    line["status"] = json!("done");
    line["npk"] = json!(env!("CARGO_PKG_VERSION"));
    let dst = output_location(&unit.dst, &job.args.read)?;
    if let Some(part) = part {
        line["share"] = json!(part.share.index);
        line["mark"] = json!({"bytes": part.bytes, "files": part.files});
    } else if let Some(mark) = marks::of_output(&dst)? {
        line["mark"] = Value::Object(mark);
    }
    if job.args.certify {
        let certified = certified(job, unit)?;
        let sources = certified["sources"].as_array().into_iter().flatten();
        let without_arrays = sources.map(|source| {
            let mut source = source.clone();
            source.as_object_mut().into_iter().for_each(|keys| drop(keys.remove("arrays")));
            source
        });
        line["sources"] = without_arrays.collect();
        line["certified"] = certified;
        return Ok(line);
    }
    let mut sources = Vec::new();
    for source in &unit.sources {
        sources.push(Value::Object(marked(job, source)?));
    }
    line["sources"] = Value::Array(sources);
    Ok(line)
}

/// A source with what tells its versions apart.
fn marked(job: &ConvertContext<'_>, source: &str) -> Result<Map<String, Value>> {
    let mut keys = Map::new();
    keys.insert("path".into(), json!(shown(source)));
    if source != "-" {
        keys.extend(marks::of_source(&known_location(source, &job.args.read)?)?);
    }
    Ok(keys)
}

/// The logical arrays of both sides, with the checksums that `npk inspect --checksum` prints.
fn certified(job: &ConvertContext<'_>, unit: &Conversion) -> Result<Value> {
    let quiet = Console { quiet: true, ..job.console };
    let choose = match &unit.array {
        Some(name) => ChooseArgs { array: vec![name.clone()], exclude: Vec::new() },
        None => job.args.choose.clone(),
    };
    let (mut sources, mut sums) = (Vec::new(), [Vec::new(), Vec::new()]);
    for source in &unit.sources {
        let at = known_location(source, &job.args.read)?;
        let read = choosing(&job.read, &choose);
        let opened = open(&at, job.args.read.from.as_deref(), &read, quiet)?;
        let mark = marked(job, source)?;
        let chosen = chosen(opened.flow, &choose).map_err(|e| e.file(at.display()))?;
        let arrays = arrays(chosen, &job.settings).map_err(|e| e.file(at.display()))?;
        sums[0].extend(arrays.iter().map(|a| a["sha256"].clone()));
        let mut source = mark;
        source.insert("arrays".into(), Value::Array(arrays));
        sources.push(Value::Object(source));
    }
    let dst = output_location(&unit.dst, &job.args.read)?;
    let opened = open(&dst, job.args.to.as_deref(), &rereading(job), quiet)?;
    let output = arrays(opened.flow, &job.settings).map_err(|e| e.file(dst.display()))?;
    sums[1].extend(output.iter().map(|a| a["sha256"].clone()));
    sums.iter_mut().for_each(|s| s.sort_by_key(Value::to_string));
    let mut certified = json!({"unit": unit.unit, "output": unit.key});
    certified["sources"] = Value::Array(sources);
    certified["arrays"] = Value::Array(output);
    certified["identical"] = json!(sums[0] == sums[1]);
    Ok(certified)
}

/// The arrays of a source, with their checksums; null for one that cannot be read.
pub(crate) fn arrays(flow: Flow, settings: &Settings) -> Result<Vec<Value>> {
    let metas = flow.plan().arrays.clone();
    let sums = checksums(flow, settings)?;
    let array = |(meta, sum): (&crate::model::ArrayMeta, Option<String>)| json!({"name": meta.name, "sha256": sum});
    Ok(metas.iter().zip(sums).map(array).collect())
}
