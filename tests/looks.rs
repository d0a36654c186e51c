//! `list`, `inspect` and `verify` of damage, links that lead nowhere, times, text.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;

use serde_json::{Value, json};

use crate::convert::{npy, safetensors};
use crate::support::{Scratch, at, npk, npk_any, npk_command, npk_fails, python};

fn json_of(args: &[&str]) -> Value {
    serde_json::from_str(&npk(args)).unwrap()
}

#[test]
fn a_partly_broken_store_is_listed_with_the_exit_code_of_inspect() {
    let s = Scratch::new();
    for name in ["a", "b"] {
        npy(&s.join(&format!("{name}.npy")), "<i2", &[2], &[1, 0, 2, 0]);
    }
    let store = at(&s, "o.npk");
    npk(&["convert", &at(&s, "a.npy"), &at(&s, "b.npy"), &store]);
    std::fs::write(s.join("o.npk/data_b.npkd"), [1]).unwrap();
    for args in [
        &["list", &store][..],
        &["ls", "-l", &store],
        &["list", "--json", &store],
        &["inspect", &store],
    ] {
        let output = npk_any(args);
        assert_eq!(output.status.code(), Some(7), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains('a'), "{args:?}");
    }
    assert!(npk_fails(7, &["list", &store]).contains("b: data_b.npkd has 1 bytes, expected 4"));
    assert_eq!(npk(&["list", &store, "-a", "a"]), "a\n");
}

#[test]
fn a_file_that_may_not_be_read_is_no_damage() {
    let s = Scratch::new();
    npy(&s.join("a.npy"), "<i2", &[2], &[1, 0, 2, 0]);
    let store = at(&s, "a.npk");
    npk(&["convert", &at(&s, "a.npy"), &store]);
    for (path, mode) in [("", 0o755), ("a.npk", 0o777), ("a.npk/data_a.npkd", 0o000)] {
        std::fs::set_permissions(s.join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let root = std::fs::File::open(s.join("a.npk/data_a.npkd")).is_ok();
    let verify = || {
        let mut command = npk_command();
        if root {
            command.uid(65534).gid(65534); // root may read everything
        }
        let output = command.args(["verify", &store]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("permission denied"), "{said}");
    };
    verify();
    std::fs::set_permissions(s.join("a.npk/metadata.npkm"), std::fs::Permissions::from_mode(0o000))
        .unwrap();
    verify();
}

#[test]
fn links_that_lead_nowhere() {
    let s = Scratch::new();
    npy(&s.join("br2.npy"), "<i2", &[2], &[1, 0, 2, 0]);
    symlink("gone.npy", s.join("br.npy")).unwrap();
    symlink("round.npy", s.join("round.npy")).unwrap();
    for args in [&["inspect"][..], &["list", "--from", "npy"]] {
        let error = npk_fails(3, &[args, &[at(&s, "br.npy").as_str()]].concat());
        assert!(
            error.contains("symbolic link to gone.npy, which does not exist")
                && !error.contains("did you mean"),
            "{error}"
        );
        let error = npk_fails(3, &[args, &[at(&s, "round.npy").as_str()]].concat());
        assert!(error.contains("round.npy: its symbolic links form a loop"), "{error}");
    }
    npk_fails(3, &["convert", &at(&s, "round.npy"), &at(&s, "o.npk")]);
}

#[test]
#[ignore = "asks the real libraries"]
fn statistics_of_times_and_complex_numbers() {
    let s = Scratch::new();
    python(
        s.path(),
        "import numpy as np\nnp.savez('z.npz', t=np.array(['2020-01-01', 'NaT', '2020-01-03'], 'M8[ns]'), n=np.array(['NaT'], 'm8[s]'),\n  d=np.array([90, 30], 'm8[s]'), c=np.array([3+4j]))",
    );
    let z = at(&s, "z.npz");
    let document = json_of(&["inspect", &z, "--stats", "--hist", "--json"]);
    let stats = |i: usize| &document["arrays"][i]["stats"];
    assert_eq!(
        *stats(0),
        json!({"count": 2, "nulls": 1, "nan": 0, "inf": 0, "zeros": 0, "min": "2020-01-01T00:00:00.000000000",
            "max": "2020-01-03T00:00:00.000000000", "mean": "2020-01-02T00:00:00.000000000", "std": "P1DT0H0M0S"})
    );
    assert_eq!(
        (&stats(1)["count"], &stats(1)["nulls"], &stats(1)["min"]),
        (&json!(0), &json!(1), &Value::Null)
    );
    assert_eq!(
        (&stats(2)["min"], &stats(2)["mean"], &stats(2)["std"]),
        (&json!("P0DT0H0M30S"), &json!("P0DT0H1M0S"), &json!("P0DT0H0M30S"))
    );
    assert_eq!((&stats(3)["max"], &stats(3)["of"]), (&json!(5.0), &json!("magnitude")));
    let bins: u64 = document["arrays"][0]["histogram"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(bins, 2);
    let text = npk(&["inspect", &z, "--stats", "-a", "c"]);
    assert!(text.contains("c: 1 value, of the magnitudes, min 5.0"), "{text}");
}

#[test]
#[ignore = "asks the real libraries"]
fn text_has_the_size_that_it_is_stored_in() {
    let s = Scratch::new();
    python(
        s.path(),
        "import pyarrow as pa, pyarrow.parquet as pq\npq.write_table(pa.table({'n': [1, 2], 's': [format(i, 'x') * 4000 for i in (10, 11)]}), 't.parquet', use_dictionary=False)",
    );
    let t = at(&s, "t.parquet");
    let inspected = json_of(&["inspect", &t, "--json"])["arrays"][1]["bytes"].clone();
    assert!(inspected.as_u64().is_some_and(|n| n > 16), "{inspected}");
    assert_eq!(json_of(&["list", &t, "--json"])["arrays"][1]["bytes"], inspected);
    assert_eq!(npk(&["list", &t, "-l", "-a", "s"]), format!("s\tstring\t2\t{inspected}\n"));
    assert_eq!(npk(&["list", &t, "--sort", "size"]), "s\nn\n");
    std::fs::write(s.join("t.csv"), "s\nx\n").unwrap();
    let csv = at(&s, "t.csv");
    assert_eq!(json_of(&["list", &csv, "--json"])["arrays"][0]["bytes"], Value::Null);
    assert_eq!(npk(&["list", &csv, "-l"]), "s\tstring\t1\t?\n");
}

#[test]
fn a_matrix_in_a_table_is_one_array() {
    let s = Scratch::new();
    npy(&s.join("m.npy"), "<f4", &[2, 128], &[0; 1024]);
    let (m, csv) = (at(&s, "m.npy"), at(&s, "m.csv"));
    let said = |args: &[&str]| {
        let output = npk_any(args);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    };
    assert!(said(&["convert", &m, &csv]).contains("m.csv: 1 array, 128 columns, "));
    assert!(said(&["convert", "-n", &m, &at(&s, "n.csv")]).contains(": 1 array, 128 columns, "));
    let line: serde_json::Value =
        serde_json::from_str(&npk(&["convert", &m, &csv, "-f", "--json"])).unwrap();
    assert_eq!((line["arrays"].as_u64(), line["columns"].as_u64()), (Some(1), Some(128)));
    assert!(said(&["convert", &csv, &at(&s, "m.parquet")]).contains("m.parquet: 128 columns, "));
    assert!(said(&["convert", &csv, &at(&s, "o.npk")]).contains("o.npk: 1 array, "));
    assert!(
        said(&["inspect", &csv]).contains("csv, 1.00 KiB, 128 columns, 256 elements")
            || said(&["inspect", &csv]).contains("128 columns")
    );
    assert!(said(&["inspect", &at(&s, "o.npk")]).contains("1 array, 256 elements"));
    assert!(said(&["verify", &at(&s, "m.parquet")]).contains("whole, 128 columns"));
    let line: serde_json::Value =
        serde_json::from_str(&npk(&["convert", &m, &at(&s, "p.npk"), "--json"])).unwrap();
    assert_eq!((line["arrays"].as_u64(), line.get("columns")), (Some(1), None));
}

#[test]
fn layers_are_folded_in_the_order_of_their_numbers() {
    let s = Scratch::new();
    let two = || vec![0u8; 4];
    let mut tensors: Vec<(String, &str, Vec<u64>, Vec<u8>)> =
        vec![("embed.w".into(), "F32", vec![1], two())];
    for i in 0..1200 {
        tensors.push((format!("layer.{i}.w"), "F32", vec![1], two()));
    }
    for i in (0..12).filter(|i| *i != 5) {
        // The fourth differs, the fifth is not there.
        let shape = if i == 3 { vec![1, 1] } else { vec![1] };
        tensors.push((format!("gap.{i}.w"), "F32", shape, two()));
        for expert in 0..8 {
            tensors.push((format!("moe.{i:02}.experts.{expert}.w"), "F32", vec![1], two()));
        }
        tensors.push((format!("block{i}/w"), "F32", vec![1], two()));
    }
    tensors.push(("head.w".into(), "F32", vec![1], two()));
    // As text: 0, 1, 10, 11, 100 …
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let refs: Vec<(&str, &str, &[u64], Vec<u8>)> =
        tensors.iter().map(|(n, d, s, b)| (n.as_str(), *d, s.as_slice(), b.clone())).collect();
    safetensors(&s.join("m.safetensors"), &refs);
    let text = npk(&["inspect", "--tree", &at(&s, "m.safetensors")]);
    let lines: Vec<&str> = text.lines().filter(|l| l.contains(['├', '└'])).collect();
    assert_eq!(
        lines,
        [
            "├─ block[0..4]/w  float32 [1]",
            "├─ block[6..11]/w  float32 [1]",
            "├─ embed.w  float32 [1]",
            "├─ gap.",
            "│  ├─ [0..2].w  float32 [1]",
            "│  ├─ 3.w  float32 [1, 1]",
            "│  ├─ 4.w  float32 [1]",
            "│  └─ [6..11].w  float32 [1]",
            "├─ head.w  float32 [1]",
            "├─ layer.[0..1199].w  float32 [1]",
            "└─ moe.",
            "   ├─ [00..04].experts.[0..7].w  float32 [1]",
            "   └─ [06..11].experts.[0..7].w  float32 [1]",
        ]
    );
}

/// Numbers that are written in two ways, or too large to count, are not folded; a name of a
/// megabyte is no tower of levels.
#[test]
fn odd_names_make_a_tree_too() {
    let s = Scratch::new();
    let long = ".".repeat(200_000);
    let names = [
        "a.1.w",
        "a.02.w",
        "a.2.w",
        "b.99999999999999999999.w",
        "b.100000000000000000000.w",
        &long,
    ];
    let tensors: Vec<(&str, &str, &[u64], Vec<u8>)> =
        names.iter().map(|n| (*n, "U8", &[1u64][..], vec![0u8])).collect();
    safetensors(&s.join("m.safetensors"), &tensors);
    let text = npk(&["inspect", "--tree", &at(&s, "m.safetensors")]);
    assert!(
        text.contains("1.w  uint8") && text.contains("02.w  uint8") && !text.contains("[1.."),
        "{}",
        &text[..500]
    );
    assert!(text.contains("99999999999999999999.w  uint8"), "{}", &text[..500]);
}
