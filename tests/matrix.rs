//! The conformance suite: hard sources × hard sinks in memory, every format × dtypes × shapes,
//! every source × every sink.

use npk::compare::{self, Rules};
use npk::error::Result;
use npk::format::*;
use npk::formats::FORMATS;
use npk::model::*;
use npk::pipe::{self, Flow, Settings};
use npk::resolve::fit;
use npk::resolve::policy::Policy;
use npk::resolve::table;
use npk::storage::Location;

use crate::support::Scratch;
use crate::support::mock::{
    MODES, Mock, MockSink, Mode, Through, array, nullable, plan, rows_of, text,
};

fn settings() -> Settings {
    Settings::new(2, 1 << 20)
}

fn policy(sink: &'static str) -> Policy {
    Policy { ragged_offsets: false, notes_lists: false, sink, ..Policy::default() }
}

fn mixed(rows: u64) -> Vec<(ArrayMeta, Chunk)> {
    vec![
        array("f", Dtype::F32, &[rows, 3], 1),
        text("t", rows, true),
        array("i", Dtype::I64, &[rows], 2),
        nullable("n", Dtype::F64, rows),
        array("b", Dtype::Bool, &[rows], 3),
        text("u", rows, false),
    ]
}

/// Every hard source into every hard sink: all rows, in the order that the sink asked for.
#[test]
fn hard_sources_meet_hard_sinks() {
    for rows in [0u64, 1, 10, 11, 12, 500] {
        for mode in MODES {
            for order in [Order::Any, Order::ArrayByArray, Order::RowBlocks] {
                for rows_first in [false, true] {
                    let (plan, chunks) = plan(mixed(rows));
                    let source = Box::new(Mock::new(plan.clone(), chunks.clone(), mode));
                    let holds = Capabilities {
                        dtypes: &Dtype::ALL,
                        logical: |_| true,
                        nulls: true,
                        order,
                        rows_first,
                        ..Capabilities::DEFAULT
                    };
                    let mut kept = None;
                    let create = Box::new(|plan: &Plan| {
                        let (sink, got, finished) = MockSink::new(order, rows_first, plan);
                        kept = Some((got, finished));
                        Ok(InOrder::sink(Through, sink))
                    });
                    pipe::run(source, &holds, create, &settings()).unwrap();
                    let (got, finished) = kept.unwrap();
                    assert!(*finished.lock().unwrap());
                    for (i, meta) in plan.arrays.iter().enumerate() {
                        let got = rows_of(meta, &got.lock().unwrap()[i]);
                        let expected = rows_of(meta, std::slice::from_ref(&chunks[i]));
                        assert_eq!(
                            got, expected,
                            "{mode:?} into {order:?}, rows first {rows_first}, {rows} rows, {}",
                            meta.name
                        );
                    }
                }
            }
        }
    }
}

/// A source that announces more rows than it gives is an error, and the sink is not finished.
#[test]
fn a_short_source_is_never_committed() {
    for mode in [Mode::ArrayByArray, Mode::UnevenRows] {
        let (mut plan, chunks) = plan(mixed(20));
        plan.arrays[2].rows = Some(21);
        let source = Box::new(Mock::new(plan, chunks, mode));
        let holds = Capabilities {
            dtypes: &Dtype::ALL,
            logical: |_| true,
            nulls: true,
            order: Order::Any,
            rows_first: false,
            ..Capabilities::DEFAULT
        };
        let mut kept = None;
        let create = Box::new(|plan: &Plan| {
            let (sink, _, finished) = MockSink::new(Order::Any, false, plan);
            kept = Some(finished);
            Ok(InOrder::sink(Through, sink))
        });
        let error = pipe::run(source, &holds, create, &settings()).unwrap_err();
        assert!(error.message().contains("21 rows were expected, 20 were found"), "{error}");
        assert!(!*kept.unwrap().lock().unwrap());
    }
}

/// Sends a mock through `format` and compares what comes back with what went in.
fn there_and_back(format: &dyn Format, arrays: Vec<(ArrayMeta, Chunk)>, mode: Mode) {
    let scratch = Scratch::new();
    let holds = format.spec().writes.as_ref().unwrap();
    let at = Location::local(scratch.join(&format!("out.{}", format.spec().extensions[0])));
    let (plan, chunks) = plan(arrays);
    let what = format!(
        "{} from {mode:?}: {:?}",
        format.spec().name,
        plan.arrays
            .iter()
            .map(|a| format!("{} {} {:?}", a.name, a.type_name(), a.shape()))
            .collect::<Vec<_>>()
    );
    let source = Box::new(Mock::new(plan.clone(), chunks.clone(), mode));
    let write = write_to(format, source.into(), &at);
    if let Err(e) = write {
        panic!("{what}: {e}");
    }
    assert_eq!(scratch.names().len(), 1, "{what}: {:?}", scratch.names());
    let back = format.open(&at, &ReadOptions::default()).unwrap_or_else(|e| panic!("{what}: {e}"));
    let expected = Flow::from(Box::new(Mock::new(plan, chunks, Mode::Random)));
    let expected = named_as(format, expected, back.as_ref());
    same(expected, back.into(), &what, holds.max_rank == 1);
}

/// npy and TXT keep no names: what comes back is compared by position.
fn named_as(format: &dyn Format, expected: Flow, back: &dyn Source) -> Flow {
    let nameless =
        format.spec().writes.as_ref().unwrap().arrays == Arrays::One || format.spec().name == "txt";
    if !nameless {
        return expected;
    }
    let mut plan = expected.plan().clone();
    assert_eq!(plan.arrays.len(), back.plan().arrays.len());
    let names: Vec<String> = back.plan().arrays.iter().map(|a| a.name.clone()).collect();
    npk::resolve::names::set_names(&mut plan, &names);
    expected.relabel(plan)
}

fn write_to(format: &dyn Format, mut flow: Flow, at: &Location) -> Result<()> {
    let holds = format.spec().writes.as_ref().unwrap();
    let write = WriteOptions {
        resources: npk::format::Resources::new(2, 32 << 20),
        ..WriteOptions::default()
    };
    if holds.arrays == Arrays::Table {
        let step = table::export(flow.plan(), table::Layout::Columns, holds.max_rank, None)?;
        flow = flow.then(step);
    }
    let step = fit::fit(flow.plan(), holds, &policy("sink"))?;
    pipe::run(
        flow.then(step),
        holds,
        Box::new(|plan| format.prepare(at, plan, &write)?(plan)),
        &settings(),
    )?;
    Ok(())
}

fn same(a: Flow, b: Flow, what: &str, ignore_dtype: bool) {
    let s = settings();
    let (a, b) = (
        compare::logical(a, &s).unwrap(),
        compare::logical(b, &s).unwrap_or_else(|e| panic!("{what}: {e}")),
    );
    let rules = Rules { ignore_dtype, equal_nan: ignore_dtype, ..Rules::default() };
    let verdicts =
        compare::compare(a, b, ("in", "out"), rules, &s).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(!verdicts.is_empty(), "{what}: nothing was compared");
    for compare::Compared { name, verdict, .. } in verdicts {
        assert_eq!(
            verdict,
            compare::Verdict::Equal,
            "{what}: {name}: {}",
            compare::sentence(&verdict)
        );
    }
}

const SHAPES: &[&[u64]] =
    &[&[], &[0], &[1], &[7], &[1000], &[5, 3], &[0, 4], &[4, 0], &[2, 3, 4], &[1, 1, 1, 2]];

/// Every writing format × every dtype it holds × shapes.
#[test]
fn every_format_keeps_every_dtype_and_shape() {
    let mut tried = 0;
    for &format in FORMATS {
        let Some(holds) = format.spec().writes.as_ref() else { continue };
        for (k, &dtype) in holds.dtypes.iter().enumerate() {
            let mode = MODES[k % MODES.len()];
            match holds.arrays {
                Arrays::One => {
                    for shape in SHAPES
                        .iter()
                        .filter(|s| s.len() <= holds.max_rank && (holds.scalars || !s.is_empty()))
                    {
                        there_and_back(format, vec![array("x", dtype, shape, 5)], mode);
                        tried += 1;
                    }
                }
                Arrays::Many => {
                    let shapes = SHAPES.iter().filter(|s| holds.scalars || !s.is_empty());
                    let arrays = shapes
                        .enumerate()
                        .map(|(i, s)| array(&format!("x{i}"), dtype, s, i as u64))
                        .collect();
                    there_and_back(format, arrays, mode);
                    tried += 1;
                }
                Arrays::Table => {
                    // Text formats read numbers, not types: only numbers that text keeps apart.
                    if holds.max_rank == 1 && (dtype.is_complex() || dtype.is_float()) {
                        continue;
                    }
                    for rows in [1u64, 11, 1000] {
                        there_and_back(
                            format,
                            vec![array("x", dtype, &[rows], 5), array("y", Dtype::I64, &[rows], 6)],
                            mode,
                        );
                        tried += 1;
                    }
                }
            }
        }
    }
    assert!(tried > 100, "only {tried} cases");
}

/// Text and nulls come back from every format that holds them or has a side file.
#[test]
fn text_and_nulls_come_back_where_they_can_be_kept() {
    let mut tried = 0;
    for &format in FORMATS {
        let Some(holds) = format.spec().writes.as_ref().filter(|h| h.arrays != Arrays::One) else {
            continue;
        };
        let text_kept = holds.sidecar || (holds.logical)(&Logical::Text);
        let nulls_kept = holds.sidecar || holds.nulls;
        for mode in MODES {
            let rows = 200;
            let mut arrays = vec![array("i", Dtype::I64, &[rows], 2)];
            // In plain text files an empty text and a null look alike.
            if text_kept && holds.max_rank > 1 {
                arrays.push(text("t", rows, false));
                if nulls_kept {
                    arrays.push(text("tn", rows, true));
                }
            }
            if nulls_kept {
                arrays.push(nullable("n", Dtype::I32, rows));
                arrays.push(nullable("m", Dtype::F64, rows));
            }
            if arrays.len() > 1 {
                let text_file = holds.max_rank == 1;
                if text_file {
                    arrays.retain(|(m, _)| m.name != "m");
                }
                there_and_back(format, arrays, mode);
                tried += 1;
            }
        }
    }
    assert!(tried >= 15, "only {tried} cases");
}

/// Every format into every other, by way of files.
#[test]
fn every_source_meets_every_sink() {
    let scratch = Scratch::new();
    let rows = 300;
    let mut files = Vec::new();
    for &format in FORMATS.iter().filter(|f| f.spec().writes.as_ref().is_some()) {
        let at = Location::local(scratch.join(&format!(
            "source-{}.{}",
            format.spec().name,
            format.spec().extensions[0]
        )));
        let (plan, chunks) = match format.spec().writes.as_ref().unwrap().arrays {
            Arrays::One => plan(vec![array("x", Dtype::I64, &[rows], 1)]),
            _ => plan(vec![array("x", Dtype::I64, &[rows], 1), array("y", Dtype::I16, &[rows], 2)]),
        };
        write_to(format, Box::new(Mock::new(plan, chunks, Mode::Random)).into(), &at)
            .unwrap_or_else(|e| panic!("{}: {e}", format.spec().name));
        files.push((format, at));
    }
    let mut pairs = 0;
    for (from, at) in &files {
        for &to in FORMATS.iter().filter(|f| f.spec().writes.as_ref().is_some()) {
            let what = format!("{} to {}", from.spec().name, to.spec().name);
            let options = ReadOptions::default();
            let open =
                || Flow::from(from.open(at, &options).unwrap_or_else(|e| panic!("{what}: {e}")));
            let one = to.spec().writes.as_ref().unwrap().arrays == Arrays::One;
            let mut source = open();
            let mut expected = open();
            if one {
                source = source.choose(&[0]);
                expected = expected.choose(&[0]);
            }
            let out = Location::local(scratch.join(&format!(
                "{}-{}.{}",
                from.spec().name,
                to.spec().name,
                to.spec().extensions[0]
            )));
            write_to(to, source, &out).unwrap_or_else(|e| panic!("{what}: {e}"));
            let back = to.open(&out, &options).unwrap_or_else(|e| panic!("{what}: {e}"));
            let expected = named_as(to, expected, back.as_ref());
            same(
                expected,
                back.into(),
                &what,
                to.spec().writes.as_ref().unwrap().max_rank == 1
                    || from.spec().writes.as_ref().unwrap().max_rank == 1,
            );
            pairs += 1;
        }
    }
    assert_eq!(pairs, files.len() * files.len());
    assert!(pairs >= 100, "only {pairs} pairs");
}

/// Registry: names unique, no extension claimed by two formats that are written, all lower case.
#[test]
fn the_registry_is_consistent() {
    let mut names: Vec<&str> = FORMATS.iter().map(|f| f.spec().name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), FORMATS.len());
    let mut writers = std::collections::HashMap::new();
    for format in FORMATS {
        for extension in format.spec().extensions {
            assert!(*extension == extension.to_lowercase() && !extension.starts_with('.'));
            // Of those with one ending, at most one is written.
            let written = format.spec().writes.is_some();
            let first = writers.insert(*extension, written);
            assert!(!(first == Some(true) && written), "{extension}");
        }
    }
}
