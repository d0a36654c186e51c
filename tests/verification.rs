//! `convert --verify`: every format beside every type of column. What is exact passes.

use std::sync::Arc;

use npk::error::ErrorKind;
use npk::format::{Arrays, WriteOptions};
use npk::formats::{self, FORMATS};
use npk::model::*;
use npk::pipe::{self, Flow, Settings};
use npk::resolve::fit;
use npk::resolve::policy::Policy;
use npk::storage::Location;

use crate::support::mock::{Mock, Mode, array, nullable, plan, text};
use crate::support::{Scratch, at, npk};

const ROWS: u64 = 6;

fn column(name: &str, logical: Logical, dtype: Dtype, counts: &[i64]) -> (ArrayMeta, Chunk) {
    let bytes: Vec<u8> = match dtype {
        Dtype::I32 => counts.iter().flat_map(|&c| (c as i32).to_le_bytes()).collect(),
        _ => counts.iter().flat_map(|c| c.to_le_bytes()).collect(),
    };
    let meta = ArrayMeta::column(name, dtype, logical, Some(counts.len() as u64));
    let values = Values::Fixed(Buf::from_vec(bytes));
    (meta, Chunk { array: 0, first_row: 0, rows: counts.len() as u64, values, valid: None })
}

/// The same with a null in the second row.
fn with_null(name: &str, (meta, chunk): (ArrayMeta, Chunk)) -> (ArrayMeta, Chunk) {
    let mut valid = vec![1u8; chunk.rows as usize];
    valid[1] = 0;
    let meta = ArrayMeta { name: name.into(), nulls: true, ..meta };
    (meta, Chunk { valid: Some(Buf::from_vec(valid)), ..chunk })
}

fn times() -> Vec<(ArrayMeta, Chunk)> {
    let unit = TimeUnit::new;
    let counts = [0, 1, 1_000_000, 86_399, -5, 12_345];
    let days: Vec<i64> = counts.iter().map(|c| c / 1000 * 86_400_000).collect();
    let mut all = Vec::new();
    for u in ["s", "ms", "us", "ns"] {
        let zone = Some("Europe/Oslo".to_string());
        all.push((format!("ts_{u}"), Logical::Timestamp(unit(u), None), Dtype::I64));
        all.push((format!("tz_{u}"), Logical::Timestamp(unit(u), zone), Dtype::I64));
        all.push((format!("d_{u}"), Logical::Duration(unit(u)), Dtype::I64));
    }
    all.push(("date32".into(), Logical::Date32, Dtype::I32));
    for u in ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "25s"] {
        let unit = TimeUnit::parse(u).unwrap();
        all.push((format!("M8{u}"), Logical::Datetime(unit.clone()), Dtype::I64));
        all.push((format!("m8{u}"), Logical::Timedelta(unit), Dtype::I64));
    }
    let mut arrays = Vec::new();
    for (name, logical, dtype) in all {
        // Arrow counts nanoseconds at least.
        let mut counts = counts.map(|c| if name.ends_with("ps") { 1000 * c } else { c });
        if logical.has_nat() {
            counts[2] = i64::MIN;
        }
        arrays.push(column(&name, logical.clone(), dtype, &counts));
        arrays.push(with_null(&format!("{name}_n"), column(&name, logical, dtype, &counts)));
    }
    let day = [0, 1, 86_399, 5, 7, 9];
    arrays.push(column("date64", Logical::Date64, Dtype::I64, &days));
    arrays.push(column("t32s", Logical::Time32(unit("s")), Dtype::I32, &day));
    arrays.push(column("t32ms", Logical::Time32(unit("ms")), Dtype::I32, &day));
    arrays.push(column("t64us", Logical::Time64(unit("us")), Dtype::I64, &day));
    arrays.push(column("t64ns", Logical::Time64(unit("ns")), Dtype::I64, &day));
    arrays
}

fn numbers() -> Vec<(ArrayMeta, Chunk)> {
    let mut arrays = Vec::new();
    for (i, dtype) in Dtype::NUMPY.iter().enumerate() {
        arrays.push(array(dtype.name(), *dtype, &[ROWS], i as u64));
        if !dtype.is_complex() {
            arrays.push(nullable(&format!("{dtype}_n"), *dtype, ROWS));
        }
    }
    let decimal = Logical::Decimal { precision: 7, scale: 2, bits: 128 };
    let digits = [125, -350, 0, 99_999, 7, 1];
    arrays.push(column("decimal", decimal.clone(), Dtype::I64, &digits));
    arrays.push(with_null("decimal_n", column("", decimal, Dtype::I64, &digits)));
    arrays
}

fn texts() -> Vec<(ArrayMeta, Chunk)> {
    let words: Vec<&str> = vec!["1", "2", "3", "04", "5", "6"];
    let mut arrays = vec![text("t", ROWS, false), text("t_n", ROWS, true)];
    for (name, words) in [
        ("numbers", words),
        ("bools", vec!["true", "False", "True", "true", "no", "yes"]),
        ("odd", vec!["", "a,b", "x\"y\nz", "NA", "#", ";"]),
    ] {
        let mut offsets = vec![0u64];
        let mut bytes = Vec::new();
        for word in words {
            bytes.extend(word.bytes());
            offsets.push(bytes.len() as u64);
        }
        let values = Values::Var { offsets, values: Buf::from_vec(bytes) };
        let meta = ArrayMeta::column(name, Dtype::U8, Logical::Text, Some(ROWS));
        let chunk = Chunk { array: 0, first_row: 0, rows: ROWS, values, valid: None };
        arrays.push((meta.clone(), chunk.clone()));
        arrays.push(with_null(&format!("{name}_n"), (meta, chunk)));
    }
    let categories = Categories::new(CategoryKind::Text, vec![b"1".to_vec(), b"x".to_vec()]);
    let coded = Logical::Dictionary { categories: Arc::clone(&categories), ordered: false };
    arrays.push(column("dictionary", coded.clone(), Dtype::I32, &[0, 1, 0, 0, 1, 1]));
    arrays.push(with_null("dictionary_n", column("", coded, Dtype::I32, &[0, 1, 0, 0, 1, 1])));
    arrays
}

/// A store of these columns, which holds all of them.
fn store(s: &Scratch, name: &str, arrays: Vec<(ArrayMeta, Chunk)>) -> String {
    let format = formats::by_name("npk").unwrap();
    let holds = format.spec().writes.as_ref().unwrap();
    let (plan, chunks) = plan(arrays);
    let flow = Flow::from(Box::new(Mock::new(plan, chunks, Mode::Random)));
    let step = fit::fit(flow.plan(), holds, &Policy::default()).unwrap();
    let to = Location::local(s.join(name));
    let write = WriteOptions::default();
    let create = Box::new(|plan: &Plan| format.prepare(&to, plan, &write)?(plan));
    pipe::run(flow.then(step), holds, create, &Settings::new(2, 16 << 20)).unwrap();
    at(s, name)
}

#[test]
fn exact_conversions_of_all_columns_pass() {
    let s = Scratch::new();
    let all: Vec<_> = times().into_iter().chain(numbers()).chain(texts()).collect();
    let names: Vec<String> = all.iter().map(|(m, _)| m.name.clone()).collect();
    let together = store(&s, "all.npk", all.clone());
    let mut alone = Vec::new();
    for (i, one) in all.into_iter().enumerate() {
        alone.push(store(&s, &format!("{i}.npk"), vec![one]));
    }
    let arrow = at(&s, "all.arrow");
    let months = ["-x", "*8Y*", "-x", "*8M", "-x", "*8M_n"];
    npk(&[&["convert", &together, &arrow, "--verify", "--skip-unsupported"][..], &months].concat());
    let mut tried = 0;
    for format in FORMATS.iter().map(|f| f.spec()) {
        let Some(holds) = format.writes.as_ref() else { continue };
        let out = at(&s, &format!("out.{}", format.extensions[0]));
        if holds.arrays != Arrays::One {
            for source in [&together, &arrow] {
                let no_masks = !holds.nulls && !holds.dtypes.contains(&Dtype::Bool);
                if no_masks && source == &arrow {
                    continue;
                }
                let layout = ["--layout", "columns", "--skip-unsupported", "--verify"];
                let less: &[&str] = match holds.arrays {
                    // Arrow has no such types.
                    Arrays::Table if holds.max_rank > 1 && source == &together => &months,
                    // There is no place for a mask.
                    _ if no_masks => &["-x", "*_n"],
                    _ => &[],
                };
                let layout = [&layout[..], less].concat();
                npk(&[&["convert", "-f", source, &out][..], &layout].concat());
                let more = ["--strings", "offsets", "-x", "dictionary*"];
                if holds.arrays == Arrays::Many && holds.dtypes.contains(&Dtype::U8) {
                    npk(&[&["convert", "-f", source, &out][..], &layout, &more].concat());
                    npk(&[&["convert", "-f", source, &out, "--no-metadata"][..], &layout].concat());
                }
            }
        }
        // Columns alone, where a text or a null may look like something else.
        if holds.max_rank == 1 || holds.arrays == Arrays::One {
            for (source, name) in alone.iter().zip(&names) {
                let options = npk::Options::new().replace().option("layout", "columns");
                match npk::convert(&[source], &out, &options.switch("verify")) {
                    Ok(_) => tried += 1,
                    Err(e) if matches!(e.kind(), ErrorKind::Usage | ErrorKind::Refused) => {}
                    Err(e) => panic!("{}: {name}: {e}", format.name),
                }
            }
        }
    }
    assert!(tried > 200, "{tried} columns were written");
}

/// A bare tensor has no name; columns may be given others, a filled null is a value.
#[test]
fn wishes_are_what_is_verified() {
    let s = Scratch::new();
    let source = store(&s, "s.npk", vec![nullable("n", Dtype::F64, ROWS), text("t", ROWS, true)]);
    let plain = store(&s, "p.npk", vec![array("a", Dtype::F32, &[ROWS, 2], 1)]);
    npk(&["convert", &plain, &at(&s, "single.pt"), "--single", "--verify"]);
    npk(&["convert", &plain, &at(&s, "half.h5"), "--dtype", "bfloat16", "--lossy", "--verify"]);
    npk(&["convert", &at(&s, "half.h5"), &at(&s, "half.npz"), "--verify"]);
    for (name, wish) in [
        ("names.csv", &["--column-names", "x,y"][..]),
        ("none.csv", &["--header", "no"]),
        ("comma.csv", &["--decimal", ",", "-d", ";"]),
        ("filled.npk", &["--nulls", "fill=0", "-x", "t"]),
        ("filled.h5", &["--nulls", "fill=0", "-x", "t"]),
        ("filled.npz", &["--nulls", "nan", "-x", "t"]),
        ("skipped.npk", &["--strings", "skip"]),
        ("twice.parquet", &["--rename", "n=m"]),
    ] {
        npk(&[&["convert", &source, &at(&s, name), "--verify"][..], wish].concat());
    }
}
