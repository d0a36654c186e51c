//! `--dequantize`: bit for bit what the reference code makes of quantised weights.

use npk::format::{Format, Order, ReadOptions, Reader, Source};
use npk::formats::checkpoint::safetensors::Safetensors;
use npk::model::{Chunk, Dtype, Values};
use npk::storage::Location;

use crate::support::*;

const CASES: [&str; 4] = ["fp8_blocks", "fp8_scales", "mxfp4", "nvfp4"];

fn all(path: &std::path::Path) -> Vec<(String, Dtype, Vec<u64>, Vec<u8>)> {
    let source = Safetensors.open(&Location::local(path), &ReadOptions::default());
    let source: Box<dyn Source> = source.unwrap();
    let count = source.plan().arrays.len();
    let all: Vec<usize> = (0..count).collect();
    let Reader::Random(reader) = source.select(&all, Order::Any).unwrap() else {
        panic!("tensors are read at random")
    };
    let mut found: Vec<_> = (0..count)
        .map(|a| {
            let meta = source.plan().arrays[a].clone();
            let mut bytes = Vec::new();
            let mut emit = |chunk: Chunk| {
                let Values::Fixed(values) = chunk.values else { panic!("fixed sizes") };
                bytes.extend_from_slice(&values);
                Ok(())
            };
            reader.read(a, 0..meta.rows.unwrap(), &mut emit).unwrap();
            (meta.name.clone(), meta.dtype, meta.shape().unwrap(), bytes)
        })
        .collect();
    found.sort();
    found
}

/// NaN is NaN, whatever its bits.
fn same(dtype: Dtype, a: &[u8], b: &[u8]) -> bool {
    let nan = |bits: u16| bits & 0x7fff > 0x7f80;
    let pairs = a.as_chunks::<2>().0.iter().zip(b.as_chunks::<2>().0);
    a == b
        || dtype == Dtype::Bf16
            && a.len() == b.len()
            && pairs
                .map(|(a, b)| (u16::from_le_bytes(*a), u16::from_le_bytes(*b)))
                .all(|(a, b)| a == b || nan(a) && nan(b))
}

#[test]
fn weights_are_what_the_reference_makes_of_them() {
    let s = Scratch::new();
    for case in CASES {
        let from = fixture(&format!("good/safetensors/quantized/{case}.safetensors"));
        let from = from.to_str().unwrap();
        let to = at(&s, &format!("{case}.safetensors"));
        let expected =
            all(&fixture(&format!("good/safetensors/quantized/expected/{case}.safetensors")));
        npk(&["convert", "--dequantize", from, &to, "-m", "16MiB"]);
        let got = all(to.as_ref());
        let named = |of: &[(String, Dtype, Vec<u64>, Vec<u8>)]| -> Vec<_> {
            of.iter().map(|a| (a.0.clone(), a.1, a.2.clone())).collect()
        };
        assert_eq!(named(&got), named(&expected), "{case}");
        for (got, expected) in got.iter().zip(&expected) {
            assert!(same(got.1, &got.3, &expected.3), "{case}: {}", got.0);
        }
        // The same from a pipe, into a store and back, and row by row.
        let piped = at(&s, &format!("{case}.piped.safetensors"));
        let shell = format!(
            "cat '{from}' | '{}' convert --dequantize --from safetensors - '{piped}'",
            env!("CARGO_BIN_EXE_npk")
        );
        assert!(std::process::Command::new("sh").args(["-c", &shell]).status().unwrap().success());
        npk(&["diff", &to, &piped, "--equal-nan"]);
        npk(&["convert", "--dequantize=bfloat16", "--verify", from, &at(&s, "x.npk"), "-f"]);
        npk(&["diff", &to, &at(&s, "x.npk"), "--equal-nan"]);
    }
}

#[test]
fn other_types_and_some_rows() {
    let s = Scratch::new();
    let from = fixture("good/safetensors/quantized/fp8_blocks.safetensors");
    let from = from.to_str().unwrap();
    npk(&["convert", "--dequantize=float32", from, &at(&s, "f.safetensors")]);
    let wide = all(s.join("f.safetensors").as_ref());
    assert!(wide.iter().filter(|a| a.0.ends_with("weight")).all(|a| a.1 == Dtype::F32));
    npk(&["convert", "--dequantize=float16", from, &at(&s, "h.safetensors")]);
    // Rows that begin within a block.
    let rows = ["--rows", "97:135", "-a", "a.weight"];
    npk(&[&["convert", "--dequantize=float32", from, &at(&s, "r.npy")][..], &rows].concat());
    npk(&[&["convert", &at(&s, "f.safetensors"), &at(&s, "e.npy")][..], &rows].concat());
    assert_eq!(std::fs::read(s.join("r.npy")).unwrap(), std::fs::read(s.join("e.npy")).unwrap());
}

#[test]
fn weights_that_go_without_their_scales_are_told() {
    let s = Scratch::new();
    let from = fixture("good/safetensors/quantized/fp8_scales.safetensors");
    let from = from.to_str().unwrap();
    let warned = |args: &[&str]| {
        let output = npk_any(args);
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stderr).unwrap().contains("becomes float")
    };
    assert!(warned(&["convert", from, &at(&s, "o.npk")]));
    assert!(warned(&["convert", from, &at(&s, "o.npy"), "-a", "row.weight"]));
    let cast = ["--dtype", "*.weight=float32"];
    assert!(warned(&[&["convert", from, &at(&s, "o.safetensors")][..], &cast].concat()));
    assert!(!warned(&["convert", from, &at(&s, "p.safetensors")]));
    assert!(!warned(&["convert", from, &at(&s, "d.npk"), "--dequantize"]));
}

/// A file of tensors (name, type, shape, bits of an element), all bytes of which are `fill`.
fn write(path: &std::path::Path, tensors: &[(&str, &str, &[u64], u64)], fill: u8) {
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    for (name, dtype, shape, bits) in tensors {
        let end = at + shape.iter().product::<u64>() * bits / 8;
        let value = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]});
        header.insert(name.to_string(), value);
        at = end;
    }
    let header = serde_json::Value::Object(header).to_string();
    let len = (header.len() as u64).to_le_bytes();
    std::fs::write(path, [&len, header.as_bytes(), &vec![fill; at as usize]].concat()).unwrap();
}

#[test]
fn weights_that_cannot_be_dequantised_can_be_left_out() {
    let s = Scratch::new();
    let (square, one) = (&[4u64, 4][..], &[1u64][..]);
    let all = [
        ("a.weight", "F8_E4M3", square, 8),
        ("a.weight_scale", "F32", one, 32),
        ("b.weight", "F8_E4M3", square, 8),
        ("b.weight_scale", "F32", one, 32),
        ("b.weight_zero_point", "F32", one, 32),
    ];
    write(&s.join("q.safetensors"), &all, 0x38);
    let (from, to) = (at(&s, "q.safetensors"), at(&s, "o.safetensors"));
    let said = npk_fails(4, &["convert", "--dequantize", &from, &to]);
    assert!(said.contains("b.weight") && said.contains("zero point"), "{said}");
    let output = npk_any(&["convert", "--dequantize", "--skip-unsupported", &from, &to]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("b.weight: left out"), "{said}");
    assert_eq!(npk(&["list", &to]), "a.weight\nb.weight_zero_point\n");
}

#[test]
fn packed_types_have_a_note_each() {
    let s = Scratch::new();
    let shape = [4u64, 8];
    let all = ["a", "b", "c"].map(|name| (name, "F4", &shape[..], 4));
    write(&s.join("p.safetensors"), &all, 0);
    let output = npk_any(&["convert", &at(&s, "p.safetensors"), &at(&s, "o.npz")]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let notes: Vec<&str> = said.lines().filter(|line| line.contains("packed bytes")).collect();
    assert_eq!(notes, ["note: 3 arrays of F4 are written as packed bytes (uint8)"]);
}
