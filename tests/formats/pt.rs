//! PyTorch checkpoints: real files of torch 1.13 and 2.15, hostile ones, and a real torch on both ends.

use std::path::Path;

use npk::error::{Error, Kind};
use npk::format::{Format, OnDuplicate, ReadOptions, Source};
use npk::formats::pt::Pt;
use npk::location::Location;
use npk::model::{Chunk, Logical, Values};
use serde_json::Value;

use crate::support::*;

fn options() -> ReadOptions {
    ReadOptions { on_duplicate: OnDuplicate::Rename, ..ReadOptions::default() }
}

fn open(path: &Path) -> Result<Box<dyn Source>, Error> {
    Pt.open(&Location::local(path), &options())
}

/// All bytes of an array, read in pieces of `step` rows.
fn bytes(source: &dyn Source, array: usize, step: u64) -> Result<Vec<u8>, Error> {
    let rows = source.plan().arrays[array].rows.unwrap();
    let reader = source.random().unwrap();
    let (mut out, mut row) = (Vec::new(), 0);
    while row < rows {
        let end = (row + step).min(rows);
        reader.read(array, row..end, &mut |chunk: Chunk| {
            assert_eq!(chunk.first_row, row, "chunks in order");
            row += chunk.rows;
            match chunk.values {
                Values::Fixed(b) => out.extend_from_slice(&b),
                Values::Var { .. } => panic!("a tensor of fixed size"),
            }
            Ok(())
        })?;
        assert_eq!(row, end);
    }
    // What lies ready must be the same bytes.
    if let Some(extents) = source.extents(array) {
        let mut ready = Vec::new();
        for e in extents {
            let mut piece = vec![0; e.len as usize];
            std::os::unix::fs::FileExt::read_exact_at(&*e.file, &mut piece, e.offset).unwrap();
            ready.extend(piece);
        }
        assert_eq!(ready, out, "extents of array {array}");
    }
    Ok(out)
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// What a tree of the expectations holds at which name.
fn leaves<'a>(node: &'a Value, name: &str, all: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    let join = |part: &str| if name.is_empty() { part.to_string() } else { format!("{name}.{part}") };
    let kind = node["t"].as_str().unwrap();
    match kind {
        "tensor" => found.push((name.to_string(), &all["tensors"][node["i"].as_u64().unwrap() as usize])),
        "ndarray" | "npscalar" => found.push((name.to_string(), node)),
        k if k.starts_with("storage:") => found.push((name.to_string(), node)),
        "Point" => {} // a class of its own
        _ => {
            for (i, item) in node["items"].as_array().into_iter().flatten().enumerate() {
                match item.as_array() {
                    Some(pair) => leaves(&pair[1], &join(&key(&pair[0])), all, found),
                    None => leaves(item, &join(&i.to_string()), all, found),
                }
            }
        }
    }
}

fn key(node: &Value) -> String {
    match node["t"].as_str().unwrap() {
        "none" => "None".into(),
        "bool" => if node["v"] == true { "True" } else { "False" }.into(),
        "tuple" => {
            let parts: Vec<String> = node["items"].as_array().unwrap().iter().map(key).collect();
            format!("({})", parts.join(", "))
        }
        _ => node["v"].as_str().map_or_else(|| node["v"].to_string(), str::to_string),
    }
}

/// numpy's code as the model names it.
fn numpy_dtype(code: &str) -> Option<String> {
    let plain = code.trim_start_matches(['<', '>', '|', '=']);
    if let Some(unit) = plain.strip_prefix("M8[") {
        return Some(format!("datetime64[{}", unit));
    }
    npk::model::Dtype::parse(plain).map(|d| d.name().to_string())
}

#[test]
fn fixtures_hold_what_torch_finds_in_them() {
    let files = fixtures("good/pt", &["pt", "pth", "ckpt"]);
    assert!(files.len() >= 140, "{} fixtures", files.len());
    let (mut compared, mut refused) = (0, 0);
    for path in files {
        let at = path.display().to_string();
        let expected = path.with_extension("expected.json");
        let expected: Value = serde_json::from_slice(&std::fs::read(&expected).unwrap()).unwrap();
        let mut wanted = Vec::new();
        if let Some(tree) = expected.get("tree") {
            leaves(tree, "", &expected, &mut wanted);
        }
        if let Some(state) = expected.get("state_dict") {
            wanted.extend(state.as_object().unwrap().iter().map(|(k, v)| (k.clone(), v)));
        }
        let source = open(&path).unwrap_or_else(|e| panic!("{at}: {e}"));
        let plan = source.plan();
        let mut seen = std::collections::HashMap::<String, usize>::new();
        let mut named = std::collections::HashSet::new();
        for (name, value) in wanted {
            let name = match name.as_str() {
                "" if value["path"] == serde_json::json!([]) => Location::local(&path).stem(),
                "" => "unnamed".into(),
                _ => name,
            };
            let count = seen.entry(name.clone()).or_default();
            let name = if *count == 0 { name } else { format!("{name}_{count}") };
            *count += 1;
            let index = plan
                .position(&name)
                .unwrap_or_else(|| panic!("{at}: {name} is not found among {:?}", plan.arrays.iter().map(|a| &a.name).collect::<Vec<_>>()));
            named.insert(index);
            let meta = &plan.arrays[index];
            let what = format!("{at}: {name}");
            let unreadable = value.get("quant").is_some()
                || value.get("meta").is_some()
                || value.get("layout").is_some_and(|l| l != "strided")
                || value.get("note").is_some()
                || value.get("hex").is_some_and(Value::is_null)
                || value["t"] == "ndarray" && numpy_dtype(value["dtype"].as_str().unwrap()).is_none();
            if unreadable {
                let error = meta.details.error.as_ref().unwrap_or_else(|| panic!("{what}: read, but should not"));
                assert_eq!(error.kind(), Kind::Refused, "{what}: {error}");
                refused += 1;
                continue;
            }
            if let Some(error) = &meta.details.error {
                panic!("{what}: {error}");
            }
            let got = bytes(source.as_ref(), index, u64::MAX).unwrap_or_else(|e| panic!("{what}: {e}"));
            compared += 1;
            if let Some(nbytes) = value.get("nbytes") {
                assert_eq!(nbytes, got.len(), "{what}");
                continue;
            }
            let shape = meta.shape().unwrap();
            if value.get("shape").is_some() {
                assert_eq!(serde_json::json!(shape), value["shape"], "{what}");
            } else {
                assert!(shape.is_empty(), "{what}");
            }
            let dtype = value["dtype"].as_str().unwrap();
            match (&meta.logical, value.get("t")) {
                (Logical::Packed { dtype: packed, .. }, _) => assert_eq!((packed.as_str(), dtype), ("F4", "float4_e2m1fn_x2"), "{what}"),
                (_, Some(_)) => assert_eq!(Some(meta.type_name()), numpy_dtype(dtype), "{what}"),
                _ => assert_eq!(meta.type_name(), dtype, "{what}"),
            }
            assert_eq!(got, unhex(value["hex"].as_str().unwrap()), "{what}: values of {shape:?} {dtype}");
            for step in [1, 2, 3] {
                assert_eq!(bytes(source.as_ref(), index, step).unwrap(), got, "{what} in pieces of {step} rows");
            }
        }
        for (i, meta) in plan.arrays.iter().enumerate() {
            if !named.contains(&i) && meta.details.error.is_none() && expected.get("load_error").is_none() {
                panic!("{at}: {} is not in the expectations", meta.name);
            }
        }
    }
    assert!(compared > 1500 && refused > 10, "{compared} compared, {refused} refused");
}
