//! What went wrong once, seen through the built binary.

use std::path::Path;
use std::process::Stdio;

use crate::convert::{npy, safetensors};
use crate::support::{Scratch, at, npk, npk_any, npk_command, npk_fails, python};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn write(scratch: &Scratch, name: &str, bytes: &str) -> String {
    let path = scratch.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    text(&path).to_string()
}

fn stderr(args: &[&str]) -> String {
    let output = npk_any(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stderr).unwrap()
}

fn tensors(scratch: &Scratch) -> String {
    let path = scratch.join("t.safetensors");
    let one = || 1f32.to_le_bytes().to_vec();
    let two = || 2f32.to_le_bytes().to_vec();
    safetensors(
        &path,
        &[
            ("layer.a", "F32", &[1], one()),
            ("layer.b", "F32", &[1], two()),
            ("head", "F32", &[1], one()),
        ],
    );
    text(&path).to_string()
}

#[test]
fn partition_folders_become_columns() {
    let scratch = Scratch::new();
    write(&scratch, "hive/day=2020-01-01/k=1/p.csv", "x,y\n1,a\n2,b\n");
    write(&scratch, "hive/day=2020-01-02/k=2/p.csv", "x,y\n3,c\n");
    write(&scratch, "hive/day=a%2Fb/k=__HIVE_DEFAULT_PARTITION__/p.csv", "x,y\n4,d\n");
    let (hive, out) = (scratch.join("hive"), scratch.join("h.npk"));
    npk(&["convert", text(&hive), text(&out), "--concat"]);
    let expected = "x,y,day,k\n1,a,2020-01-01,1\n2,b,2020-01-01,1\n3,c,2020-01-02,2\n4,d,a/b,\n";
    assert_eq!(npk(&["convert", text(&out), "-", "-t", "csv"]), expected);
    let pattern = format!("{}/*/*/*.csv", text(&hive));
    assert_eq!(npk(&["convert", &pattern, "-", "-t", "csv", "--concat"]), expected);
    assert_eq!(
        npk(&["convert", text(&hive), "-", "-t", "csv", "--concat", "-a", "k,x"]),
        "k,x\n1,1\n1,2\n2,3\n,4\n"
    );
}

#[test]
fn a_joined_directory_names_its_matrix() {
    let scratch = Scratch::new();
    write(&scratch, "parts/k=1/p.csv", "x\n1\n");
    write(&scratch, "parts/k=2/p.csv", "x\n2\n");
    let out = scratch.join("out.npk");
    npk(&["convert", text(&scratch.join("parts")), text(&out), "--concat"]);
    assert_eq!(npk(&["list", "-l", text(&out)]), "parts\tint64\t2x2\t32\n");
}

#[test]
fn renaming_reaches_matrices() {
    let scratch = Scratch::new();
    let csv = write(&scratch, "m.csv", "a,b\n1,2\n");
    let out = scratch.join("m.npk");
    npk(&["convert", &csv, text(&out), "--rename", "a=z", "--add-prefix", "p."]);
    assert_eq!(npk(&["list", text(&out)]), "p.m\n");
    assert_eq!(npk(&["convert", text(&out), "-", "-t", "csv"]), "z,b\n1,2\n");
    npk(&["convert", &csv, text(&out), "-f", "--rename", "m=q"]);
    assert_eq!(npk(&["list", text(&out)]), "q\n");
    let error = npk_fails(3, &["convert", &csv, text(&out), "-f", "--rename", "nope=q"]);
    assert!(error.contains("'nope'") && error.contains("m.csv"), "{error}");
}

#[test]
fn a_group_is_a_prefix_where_there_are_no_groups() {
    let scratch = Scratch::new();
    let model = tensors(&scratch);
    assert_eq!(npk(&["list", "-g", "layer", &model]), "a\nb\n");
    let out = scratch.join("g.npk");
    npk(&["convert", &model, text(&out), "--group", "/layer/"]);
    assert_eq!(npk(&["list", text(&out)]), "a\nb\n");
    let error = npk_fails(3, &["list", "-g", "lay", &model]);
    assert!(error.contains("no group 'lay'"), "{error}");
}

#[test]
fn duplicates_after_renaming() {
    let scratch = Scratch::new();
    let (model, out) = (tensors(&scratch), scratch.join("d.npk"));
    let args =
        ["convert", &model, text(&out), "-f", "--rename", "layer.b=layer.a", "--on-duplicate"];
    let with = |what: &'static str| [&args[..], &[what]].concat();
    let first_value = || {
        let json: serde_json::Value =
            serde_json::from_str(&npk(&["inspect", text(&out), "--json", "--head"])).unwrap();
        (json["arrays"].as_array().unwrap().len(), json["arrays"][0]["values"][0].as_f64().unwrap())
    };
    npk(&with("first"));
    assert_eq!(first_value(), (2, 1.0));
    npk(&with("last"));
    assert_eq!(first_value(), (2, 2.0));
    npk(&with("rename"));
    assert_eq!(first_value(), (3, 1.0));
    npk_fails(2, &with("error"));
}

#[test]
fn what_could_not_be_checked_is_not_whole() {
    let scratch = Scratch::new();
    let path = scratch.join("o.npy");
    std::fs::copy(crate::support::fixture("bad/npy/object.npy"), &path).unwrap();
    let output = npk_any(&["verify", text(&path)]);
    assert_eq!(output.status.code(), Some(4));
    assert!(output.stdout.is_empty(), "{:?}", output.stdout);
    let error = npk_fails(4, &["convert", text(&path), text(&scratch.join("o.npk"))]);
    assert!(error.contains("o.npy: o: "), "file and array are named: {error}");
}

#[test]
fn arrays_without_names_are_compared() {
    let scratch = Scratch::new();
    let (a, b) = (scratch.join("a.npy"), scratch.join("b.npy"));
    npy(&a, "<i2", &[2], &[1, 0, 2, 0]);
    npy(&b, "<i2", &[2], &[1, 0, 2, 0]);
    npk(&["diff", text(&a), text(&b)]);
    npy(&b, "<i2", &[2], &[1, 0, 3, 0]);
    let output = npk_any(&["diff", text(&a), text(&b)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("a: "), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("only in"), "{output:?}");
}

#[test]
fn devices_and_pipes_are_not_replaced() {
    let scratch = Scratch::new();
    let (a, fifo) = (scratch.join("a.npy"), scratch.join("fifo.npy"));
    npy(&a, "<i2", &[1], &[1, 0]);
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let error = npk_fails(2, &["convert", text(&a), text(&fifo), "-f"]);
    assert!(error.contains("not a file") && error.contains("stdout"), "{error}");
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(
        &std::fs::metadata(&fifo).unwrap().file_type()
    ));
    assert_eq!(npk(&["convert", text(&a), "/dev/stdout", "-t", "csv", "-f"]), "data\n1\n");
    assert_eq!(scratch.names(), ["a.npy", "fifo.npy"]);
}

#[test]
fn growing_is_for_local_stores() {
    let scratch = Scratch::new();
    let a = scratch.join("a.npy");
    npy(&a, "<i2", &[1], &[1, 0]);
    for out in ["a.zarr", "a.npz", "a.npkg", "a.h5"] {
        npk_fails(2, &["convert", text(&a), text(&scratch.join(out)), "--append"]);
        npk_fails(2, &["convert", text(&a), text(&scratch.join(out)), "--if-exists", "merge"]);
    }
    #[cfg(feature = "remote")]
    npk_fails(
        2,
        &[
            "convert",
            text(&a),
            "s3://bucket/a.npk",
            "--append",
            "--no-sign-request",
            "--region",
            "x",
        ],
    );
    assert_eq!(scratch.names(), ["a.npy"]);
    npk(&["convert", text(&a), text(&scratch.join("b.npz"))]);
    let error = npk_fails(5, &["convert", text(&a), text(&scratch.join("b.npz"))]);
    assert!(!error.contains("merge"), "the hint must work: {error}");
}

#[test]
fn what_is_dropped_or_ignored_is_said() {
    let scratch = Scratch::new();
    let (a, store) = (scratch.join("a.npy"), scratch.join("a.npk"));
    npy(&a, "<i2", &[1], &[1, 0]);
    let said = stderr(&["convert", text(&a), text(&store), "--metadata", "author=me"]);
    assert!(!said.contains("metadata"), "{said}");
    let said = stderr(&["convert", text(&store), text(&scratch.join("b.npz"))]);
    assert!(said.contains("note: ") && said.contains("author"), "{said}");
    let said = stderr(&["convert", text(&store), text(&scratch.join("b.safetensors"))]);
    assert!(!said.contains("note: "), "{said}");
    let said = stderr(&["convert", text(&a), text(&scratch.join("c.npy")), "-c", "gzip"]);
    assert!(said.contains("--compression changes nothing in npy"), "{said}");
    let error = npk_fails(3, &["inspect", text(&store), "--show-metadata", "authr"]);
    assert!(error.contains("did you mean author?"), "{error}");
}

#[test]
fn a_dry_run_may_plan_new_folders() {
    let scratch = Scratch::new();
    let a = scratch.join("a.npy");
    npy(&a, "<i2", &[1], &[1, 0]);
    let out = format!("{}/x/y/", text(scratch.path()));
    npk(&["convert", text(&a), &out, "--to", "npk", "-n"]);
    assert_eq!(scratch.names(), ["a.npy"]);
    npk_fails(3, &["convert", text(&a), text(&scratch.join("x/y/a.npk")), "-n"]);
}

#[test]
fn shells_complete_array_names_and_formats() {
    let scratch = Scratch::new();
    let model = tensors(&scratch);
    let complete = |words: &[&str]| {
        let output = npk_command()
            .env("COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
            .env("_CLAP_COMPLETE_COMP_TYPE", "9")
            .env("_CLAP_COMPLETE_SPACE", "true")
            .env("_CLAP_IFS", "\n")
            .arg("--")
            .args(words)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let names = |text: String| text.lines().map(str::to_string).collect::<Vec<_>>();
    assert_eq!(names(complete(&["npk", "convert", &model, "-a", "lay"])), ["layer.a", "layer.b"]);
    assert_eq!(names(complete(&["npk", "list", &model, "-x", "head,layer.b"])), ["head,layer.b"]);
    assert_eq!(names(complete(&["npk", "inspect", "--from", "saf"])), ["safetensors"]);
    assert_eq!(
        names(complete(&["npk", "inspect", "no-such-file", "-a", "x"])),
        Vec::<String>::new()
    );
    // The arrays as every command sees them: a mask beside one is no array of its own.
    std::fs::write(scratch.join("t.csv"), "n,m\n1,2\n,4\n").unwrap();
    let tree = at(&scratch, "t.zarr");
    npk(&["convert", &at(&scratch, "t.csv"), &tree]);
    assert!(scratch.join("t.zarr/n.valid").exists());
    assert_eq!(names(complete(&["npk", "list", &tree, "-a", "n"])), ["n"]);
}

/// A zip of stored members: what `np.savez` writes.
fn npz(scratch: &Scratch, name: &str, members: &[&str]) -> String {
    let mut args = Vec::new();
    for member in members {
        let path = scratch.join(&format!("{member}.npy"));
        npy(&path, "<i2", &[2], &[1, 0, 2, 0]);
        args.push(text(&path).to_string());
    }
    let out = scratch.join(name);
    let mut all: Vec<&str> = vec!["convert"];
    all.extend(args.iter().map(String::as_str));
    all.extend([text(&out), "-c", "none"]);
    npk(&all);
    args.iter().for_each(|a| std::fs::remove_file(a).unwrap());
    text(&out).to_string()
}

#[test]
fn stored_archives_join_with_others() {
    let scratch = Scratch::new();
    let (stored, model) = (npz(&scratch, "s.npz", &["x", "y"]), tensors(&scratch));
    let lone = scratch.join("z.npy");
    npy(&lone, "<i2", &[1], &[1, 0]);
    for (i, sources) in
        [[&stored, text(&lone)], [text(&lone), &stored], [&stored, &model]].into_iter().enumerate()
    {
        let out = scratch.join(&format!("{i}.npk"));
        npk(&["convert", sources[0], sources[1], text(&out), "--verify"]);
    }
    let (x, out) = (scratch.join("x.npy"), scratch.join("c.npk"));
    npy(&x, "<i2", &[1], &[9, 0]);
    npk(&["convert", &stored, text(&x), text(&out), "--concat", "-a", "x"]);
    assert_eq!(npk(&["list", "-l", text(&out)]), "x\tint16\t3\t6\n");
    npk(&["convert", text(&x), &stored, text(&out), "-f", "--concat", "-a", "x"]);
    let json: serde_json::Value =
        serde_json::from_str(&npk(&["inspect", text(&out), "--json", "--head"])).unwrap();
    assert_eq!(json["arrays"][0]["values"], serde_json::json!([9, 1, 2]));
}

#[test]
fn columns_of_text_files_are_chosen_by_patterns_too() {
    let scratch = Scratch::new();
    let csv = write(&scratch, "t.csv", "aa,ab,b\n1,x,2\n");
    assert_eq!(npk(&["convert", &csv, "-", "-t", "csv", "-a", "b,aa"]), "b,aa\n2,1\n");
    assert_eq!(npk(&["convert", &csv, "-", "-t", "csv", "-a", "a*"]), "aa,ab\n1,x\n");
}

#[test]
fn a_failed_batch_leaves_no_folder_and_stops_when_told() {
    let scratch = Scratch::new();
    let a = scratch.join("a.npy");
    npy(&a, "<i2", &[1], &[1, 0]);
    let out = format!("{}/out/", text(scratch.path()));
    npk_fails(
        1,
        &[
            "convert",
            text(&scratch.join("m.npy")),
            text(&scratch.join("n.npy")),
            &out,
            "--to",
            "npk",
        ],
    );
    npk_fails(
        1,
        &[
            "convert",
            text(&scratch.join("m.npy")),
            text(&a),
            &out,
            "--to",
            "npk",
            "--fail-fast",
            "-j",
            "1",
        ],
    );
    assert_eq!(scratch.names(), ["a.npy"]);
}

#[test]
#[ignore = "asks the real libraries"]
fn uneven_lists_are_refused_with_the_row() {
    let scratch = Scratch::new();
    for (format, call) in
        [("parquet", "pyarrow.parquet.write_table"), ("feather", "pyarrow.feather.write_feather")]
    {
        let table = "pyarrow.table({'l': [[1, 2], None, [3, 4], [5]], 'm': [[1], [2], [3], [4]]})";
        let module = call.rsplit_once('.').unwrap().0;
        python(scratch.path(), &format!("import pyarrow, {module}\n{call}({table}, 'l.{format}')"));
        let (source, out) = (scratch.join(&format!("l.{format}")), scratch.join("out.npk"));
        let error = npk_fails(4, &["convert", text(&source), text(&out), "--ragged", "error"]);
        assert!(
            error.contains("l: ") && error.contains("the first has 2 elements, row 3 has 1"),
            "{error}"
        );
        assert!(error.contains("--ragged offsets"), "{error}");
        assert!(!out.exists());
    }
}

#[test]
fn urls_that_cannot_be() {
    let scratch = Scratch::new();
    let a = scratch.join("a.npy");
    npy(&a, "<i2", &[1], &[1, 0]);
    let error = npk_fails(2, &["list", "ftp://host/a.npy"]);
    assert!(error.contains("ftp:// is not supported"), "{error}");
    npk_fails(2, &["convert", text(&a), "http://127.0.0.1:1/a.npk"]);
    assert_eq!(npk(&["list", &format!("file://{}", text(&a))]), "a\n");
}

#[test]
fn numbered_groups_end_with_their_digits() {
    let scratch = Scratch::new();
    let (model, out) = (tensors(&scratch), scratch.join("o.npk"));
    npk(&["convert", &model, text(&out), "--rename-re", r"layer\.(.)=L$1_x"]);
    assert_eq!(npk(&["list", text(&out)]), "La_x\nLb_x\nhead\n");
}

#[test]
fn stdin_is_read_once() {
    for args in [
        &["convert", "-", "-", "x.npk"][..],
        &["diff", "-", "-"],
        &["convert", "-T", "-", "-", "-o", "x.npk"],
    ] {
        let error = npk_fails(2, args);
        assert!(error.contains("stdin"), "{error}");
    }
}

#[test]
fn a_cell_that_is_no_number_is_placed() {
    let scratch = Scratch::new();
    let csv = write(&scratch, "t.csv", "a,b\n1,x\n");
    let error =
        npk_fails(4, &["convert", &csv, text(&scratch.join("t.npk")), "--dtype", "b=int32"]);
    assert!(error.contains("t.csv: line 2: 'x' is not a number (column 2)"), "{error}");
}

#[test]
fn joins_of_lone_arrays_say_how() {
    let scratch = Scratch::new();
    let (a, b) = (scratch.join("a.npy"), scratch.join("b.npy"));
    npy(&a, "<i2", &[1], &[1, 0]);
    npy(&b, "<i2", &[1], &[2, 0]);
    let out = scratch.join("o.npk");
    let error = npk_fails(2, &["convert", text(&a), text(&b), text(&out), "--concat"]);
    assert!(error.contains("hint: --name NAME"), "{error}");
    npk_fails(2, &["convert", text(&a), text(&b), text(&out), "--concat", "--prefix-by-file"]);
    npk(&["convert", text(&a), text(&b), text(&out), "--concat", "--name", "v"]);
    assert_eq!(npk(&["list", "-l", text(&out)]), "v\tint16\t2\t4\n");
}
