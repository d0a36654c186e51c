//! Parts of nested columns by their own names, and masks where there are nulls.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, BinaryArray, Int32Array, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Field, Fields, Schema};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::support::{Scratch, npk_command};

/// Two orders, one without items: `items` and the struct `user`. The nulls are of: the list, an
/// item, the text `sku`, the user, its `city`.
fn orders(nulls: [bool; 5]) -> RecordBatch {
    let null_at =
        |is: bool, n: usize, at: usize| is.then(|| NullBuffer::from_iter((0..n).map(|i| i != at)));
    let text = |values: &[&str], nulls: Option<NullBuffer>| -> ArrayRef {
        let all = StringArray::from(values.to_vec());
        Arc::new(StringArray::new(all.offsets().clone(), all.values().clone(), nulls))
    };
    let columns = vec![
        text(&["a", "b"], null_at(nulls[2], 2, 1)),
        Arc::new(Int32Array::from(vec![7, 8])),
        text(&["NOTE", "NOTE"], None),
    ];
    let fields = Fields::from(vec![
        Field::new("sku", DataType::Utf8, true),
        Field::new("n", DataType::Int32, true),
        Field::new("note", DataType::Utf8, true),
    ]);
    let item = StructArray::new(fields, columns, null_at(nulls[1], 2, 0));
    let field = Arc::new(Field::new("item", item.data_type().clone(), true));
    let ends = OffsetBuffer::new(vec![0, 2, 2].into());
    let items = ListArray::new(field, ends, Arc::new(item), null_at(nulls[0], 2, 1));
    let fields = Fields::from(vec![
        Field::new("city", DataType::Utf8, true),
        Field::new("note", DataType::Utf8, true),
        Field::new("lists", DataType::new_list(DataType::Utf8, true), true),
    ]);
    let texts = Arc::new(Field::new("item", DataType::Utf8, true));
    let ends = OffsetBuffer::new(vec![0, 1, 3].into());
    let lists = ListArray::new(texts, ends, text(&["x", "y", "z"], None), None);
    let columns = vec![
        text(&["Oslo", "Rome"], null_at(nulls[4], 2, 0)),
        text(&["NOTE", "NOTE"], None),
        Arc::new(lists) as ArrayRef,
    ];
    let user = StructArray::new(fields, columns, null_at(nulls[3], 2, 1));
    RecordBatch::try_from_iter_with_nullable([
        ("items", Arc::new(items) as ArrayRef, true),
        ("user", Arc::new(user), true),
    ])
    .unwrap()
}

/// The file of a batch, uncompressed: Parquet or Feather.
fn file(batch: &RecordBatch, name: &str, statistics: bool) -> Vec<u8> {
    if name.ends_with(".feather") {
        let mut writer = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(batch).unwrap();
        return writer.into_inner().unwrap();
    }
    let level = if statistics { EnabledStatistics::Page } else { EnabledStatistics::None };
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_statistics_enabled(level)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

fn run(scratch: &Scratch, args: &[&str]) -> (i32, String, String) {
    let output = npk_command().args(args).current_dir(scratch.path()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn ok(scratch: &Scratch, args: &[&str]) -> String {
    let (code, out, said) = run(scratch, args);
    assert_eq!(code, 0, "{args:?}: {said}");
    out
}

const FILES: [&str; 2] = ["o.parquet", "o.feather"];

/// Where it is known that there are none, there is no mask.
#[test]
fn masks_are_made_where_nulls_are() {
    let scratch = Scratch::new();
    let none: Vec<&str> = vec![];
    let masks = [
        (vec!["items.valid"], none.clone()),
        (vec!["items.values.valid"], vec!["items.values.sku.valid"]),
        (none.clone(), vec!["items.values.sku.valid"]),
        (vec!["user.valid", "user.lists.valid"], vec!["user.city.valid", "user.note.valid"]),
        (none.clone(), vec!["user.city.valid"]),
    ];
    for (name, statistics) in [(FILES[0], true), (FILES[0], false), (FILES[1], true)] {
        for null in 0..6 {
            let mut nulls = [false; 5];
            nulls.iter_mut().skip(null).take(1).for_each(|null| *null = true);
            std::fs::write(scratch.join(name), file(&orders(nulls), name, statistics)).unwrap();
            ok(&scratch, &["convert", "-f", name, "o.npz", "--strings", "offsets"]);
            let listed = ok(&scratch, &["list", "o.npz"]);
            let found: Vec<&str> = listed.lines().filter(|l| l.ends_with(".valid")).collect();
            let (structs, leaves) =
                masks.get(null).cloned().unwrap_or_else(|| (none.clone(), none.clone()));
            for mask in &structs {
                assert!(found.contains(mask), "{name} {null}: {listed}");
            }
            // Fields of what is null have no value there.
            let inside = |mask: &&str| {
                leaves.contains(mask)
                    || structs.contains(mask)
                    || null == 1 && mask.starts_with("items.values.")
            };
            assert!(found.iter().all(inside), "{name} {null} {statistics}: {listed}");
            assert!(leaves.iter().all(|m| found.contains(m)), "{name} {null}: {listed}");
            ok(&scratch, &["convert", "-f", name, "o.npk"]);
            ok(&scratch, &["diff", name, "o.npk"]);
        }
    }
}

#[test]
fn parts_are_chosen_by_their_names() {
    let scratch = Scratch::new();
    for name in FILES {
        let batch = orders([true, false, true, true, true]);
        std::fs::write(scratch.join(name), file(&batch, name, true)).unwrap();
    }
    ok(&scratch, &["convert", "o.feather", "o.npk"]);
    ok(&scratch, &["convert", "o.feather", "o.h5"]);
    ok(&scratch, &["convert", "o.feather", "o.zarr"]);
    for name in [FILES[0], FILES[1], "o.npk", "o.h5", "o.zarr"] {
        for (pattern, want) in [
            ("items.values.sku", "items.values.sku\na\n\"\"\n"),
            ("items.values.n", "items.values.n\n7\n8\n"),
            ("items.offsets", "items.offsets\n0\n2\n2\n"),
            ("items.valid", "items.valid\nTrue\nFalse\n"),
            ("user.city", "user.city\n\n\n"),
            ("user.c*", "user.city\n\n\n"),
            ("user.lists.values", "user.lists.values\nx\n"),
        ] {
            let (code, out, said) =
                run(&scratch, &["convert", name, "-", "--to", "csv", "-a", pattern]);
            assert_eq!(
                (code, out.replace("\"\"", "")),
                (0, want.replace("\"\"", "")),
                "{name} {pattern}: {said}"
            );
        }
        let listed = ok(&scratch, &["list", name, "-a", "user.*"]);
        assert_eq!(listed, "user.city\nuser.note\nuser.lists\n", "{name}");
        let listed = ok(&scratch, &["list", "-l", name, "-x", "user.lists"]);
        let names: Vec<&str> = listed.lines().map(|l| l.split('\t').next().unwrap()).collect();
        assert_eq!(names, ["items", "user.city", "user.note"], "{name}");
        assert_eq!(ok(&scratch, &["list", name, "-x", "user"]), "items\n", "{name}");
        let (code, _, said) = run(&scratch, &["list", name, "-x", "items.values.n"]);
        assert!(code == 4 && said.contains("items: -x cannot leave out a part"), "{said}");
        let (code, _, said) = run(&scratch, &["list", name, "-a", "items.values.skus"]);
        assert!(code == 3 && said.contains("did you mean items.values.sku"), "{said}");
        // Some rows of a part, several parts, and a look at one.
        let rows = ["--rows", "1:2", "-a", "items.values.n"];
        let csv = ok(&scratch, &[&["convert", name, "-", "--to", "csv"][..], &rows].concat());
        assert_eq!(csv, "items.values.n\n8\n", "{name}");
        ok(&scratch, &["convert", "-f", name, "p.npz", "-a", "items.values.n,items.offsets"]);
        assert_eq!(ok(&scratch, &["list", "p.npz"]), "items.values.n\nitems.offsets\n");
        let seen =
            ok(&scratch, &["inspect", name, "-a", "items.values.n", "--head", "1", "--stats"]);
        assert!(seen.contains('7') && seen.contains("int32"), "{seen}");
        ok(&scratch, &["diff", name, "o.feather", "-a", "user.city,items.values.sku"]);
    }
}

/// Of a damaged field nobody hears who does not want it.
#[test]
fn only_chosen_fields_are_read() {
    let scratch = Scratch::new();
    for name in FILES {
        let batch = orders([true, true, true, true, true]);
        let mut bytes = file(&batch, name, false);
        let places: Vec<usize> =
            bytes.windows(4).enumerate().filter(|(_, w)| w == b"NOTE").map(|(i, _)| i).collect();
        assert!(places.len() >= 2);
        places.into_iter().for_each(|i| bytes[i..i + 4].fill(0xFF));
        std::fs::write(scratch.join(name), bytes).unwrap();
        for pattern in ["items.values.sku", "items.offsets", "user.city", "user.lists.values"] {
            ok(&scratch, &["convert", "-f", name, "o.npk", "-a", pattern]);
            ok(&scratch, &["inspect", name, "-a", pattern, "--head", "2"]);
        }
        for pattern in ["items", "items.values.*", "user.*"] {
            let (code, _, said) = run(&scratch, &["convert", "-f", name, "o.npk", "-a", pattern]);
            assert_eq!(code, 7, "{name} {pattern}: {said}");
        }
    }
    let name = "o.feather";
    std::fs::write(scratch.join(name), file(&orders([true; 5]), name, true)).unwrap();
    ok(&scratch, &["convert", "-f", name, "s.npk"]);
    let gone = "s.npk/data_items%2Evalues%2En.npkd";
    let gone = if scratch.join(gone).exists() { gone } else { "s.npk/data_items.values.n.npkd" };
    std::fs::write(scratch.join(gone), b"x").unwrap();
    ok(&scratch, &["convert", "-f", "s.npk", "t.npk", "-a", "items.values.sku"]);
    assert_eq!(run(&scratch, &["convert", "-f", "s.npk", "t.npk", "-a", "items"]).0, 7);
}

/// NOT NULL, what fields say of themselves, and the name of a lone column.
#[test]
fn tables_keep_their_schema_through_hdf5_and_zarr() {
    let scratch = Scratch::new();
    let said = |key: &str| HashMap::from([(key.to_string(), "yes".to_string())]);
    let schema = Schema::new_with_metadata(
        vec![Field::new("only", DataType::Int32, false).with_metadata(said("field"))],
        said("schema"),
    );
    let values = Arc::new(Int32Array::from(vec![1, 2, 3]));
    let batch = RecordBatch::try_new(Arc::new(schema), vec![values]).unwrap();
    let name = "one.feather";
    std::fs::write(scratch.join(name), file(&batch, name, true)).unwrap();
    for middle in ["m.npk", "m.h5", "m.zarr", "m.zarr.zip"] {
        ok(&scratch, &["convert", name, middle, "--layout", "columns"]);
        ok(&scratch, &["convert", "-f", middle, "back.feather"]);
        let back = std::fs::File::open(scratch.join("back.feather")).unwrap();
        let back = arrow_ipc::reader::FileReader::try_new(back, None).unwrap();
        assert_eq!(*back.schema(), *batch.schema(), "{middle}");
        // As a matrix it is the same table.
        ok(&scratch, &["convert", "-f", name, middle, "--layout", "matrix"]);
        ok(&scratch, &["convert", "-f", middle, "back.feather"]);
        let back = std::fs::File::open(scratch.join("back.feather")).unwrap();
        let back = arrow_ipc::reader::FileReader::try_new(back, None).unwrap();
        assert_eq!(*back.schema(), *batch.schema(), "{middle}");
    }
    // Nothing but the values, where that was asked for; and nothing is said of plain arrays.
    ok(&scratch, &["convert", "-f", name, "m.zarr", "--no-metadata"]);
    let root = std::fs::read_to_string(scratch.join("m.zarr/zarr.json")).unwrap();
    assert!(!root.contains("ARROW") && !root.contains("schema\""), "{root}");
    std::fs::write(scratch.join("two.csv"), "a,b\n1,x\n2,y\n").unwrap();
    ok(&scratch, &["convert", "two.csv", "two.zarr"]);
    let root = std::fs::read_to_string(scratch.join("two.zarr/zarr.json")).unwrap();
    assert!(!root.contains("npk"), "{root}");
}

/// Categories that an attribute cannot hold are not lost in silence.
#[test]
fn a_dictionary_that_is_too_large_for_an_attribute_is_told_of() {
    use arrow_array::DictionaryArray;
    use arrow_array::types::Int32Type;
    let scratch = Scratch::new();
    for (n, told) in [(100, false), (50_000, true)] {
        let texts: Vec<String> = (0..n).map(|i| format!("a category of some length {i}")).collect();
        let coded: DictionaryArray<Int32Type> = texts.iter().map(|t| Some(t.as_str())).collect();
        let batch = RecordBatch::try_from_iter([("d", Arc::new(coded) as ArrayRef)]).unwrap();
        std::fs::write(scratch.join("d.feather"), file(&batch, "d.feather", true)).unwrap();
        for out in ["d.h5", "d.zarr", "d.npk"] {
            let (code, _, said) = run(&scratch, &["convert", "-f", "d.feather", out]);
            assert_eq!(code, 0, "{said}");
            let note = said.contains("d: its values come back, but not as dictionary");
            assert_eq!(note, told && out != "d.npk", "{out}: {said}");
            ok(&scratch, &["convert", "-f", out, "back.csv"]);
            let back = std::fs::read_to_string(scratch.join("back.csv")).unwrap();
            assert!(back.lines().skip(1).eq(texts.iter().map(String::as_str)), "{out}");
        }
    }
}

/// What the flags for other columns do with nested ones: they change the columns that they can, and
/// refuse by name what they cannot.
#[test]
fn flags_meet_nested_columns() {
    let scratch = Scratch::new();
    let name = "o.feather";
    std::fs::write(scratch.join(name), file(&orders([true; 5]), name, true)).unwrap();
    let convert = |more: &[&str]| run(&scratch, &[&["convert", "-f", name], more].concat());
    let listed = |path: &str| ok(&scratch, &["list", path]);
    // A name for the whole, and all parts take it.
    let (code, _, said) = convert(&["o.npk", "--rename", "user=person"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        listed("o.npk").lines().any(|l| l == "person.city" || l == "person"),
        "{}",
        listed("o.npk")
    );
    let (code, _, said) = convert(&["o.npz", "--rename", "user=person", "--strings", "offsets"]);
    assert_eq!(code, 0, "{said}");
    let names = listed("o.npz");
    assert!(names.contains("person.city.bytes") && !names.contains("user"), "{names}");
    // Text in its two forms, or none of it.
    let (code, _, said) = convert(&["o.npk", "--strings", "offsets"]);
    assert_eq!(code, 0, "{said}");
    ok(&scratch, &["diff", name, "o.npk"]);
    let (code, _, said) = convert(&["o.npk", "--strings", "error"]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("items.values.sku: ") && said.contains("user.city: "), "{said}");
    // Nulls of leaves and of lists: no masks may be.
    let (code, _, said) = convert(&["o.npk", "--nulls", "error"]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("null"), "{said}");
    // A cast of a column that is no number.
    for dtype in ["user=float64", "items=int32"] {
        let (code, _, said) = convert(&["o.npk", "--dtype", dtype]);
        assert!(code == 4 || code == 2, "{code} {said}");
        assert!(said.contains(dtype.split('=').next().unwrap()), "{said}");
    }
    // Rows are rows of the column.
    let (code, _, said) = convert(&["part.feather", "--rows", "1:2"]);
    assert_eq!(code, 0, "{said}");
    let shown = ok(&scratch, &["inspect", "part.feather", "--head", "5", "-a", "user"]);
    assert!(shown.contains("\n  null"), "{shown}");
}

/// The types that `docs/formats.md` says are refused, and no others.
#[test]
fn types_without_a_place_are_refused_by_name() {
    use arrow_array::types::{Int32Type, IntervalMonthDayNano};
    use arrow_array::{Int8Array, IntervalMonthDayNanoArray, RunArray, UnionArray};
    use arrow_schema::UnionFields;
    let scratch = Scratch::new();
    let runs: RunArray<Int32Type> = ["a", "a"].into_iter().collect();
    let ids = Int8Array::from(vec![0i8, 0]).values().clone();
    let fields: UnionFields =
        [(0, Arc::new(Field::new("n", DataType::Int32, true)))].into_iter().collect();
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    let union = UnionArray::try_new(fields, ids, None, vec![numbers.clone()]).unwrap();
    let spans = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 3); 2]);
    let empty = StructArray::new_empty_fields(2, None);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("union", Arc::new(union)),
        ("run_end_encoded", Arc::new(runs)),
        ("interval", Arc::new(spans)),
        ("struct<>", Arc::new(empty)),
    ];
    let docs = std::fs::read_to_string("docs/formats.md").unwrap();
    assert!(docs.contains(
        "| union, run-end encoding, interval | | Parquet, and all formats of plain arrays;"
    ));
    assert!(docs.contains("| struct without fields | | Parquet |"));
    for (what, column) in columns {
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("c", column, true),
            ("id", numbers.clone(), true),
        ]);
        std::fs::write(scratch.join("c.feather"), file(&batch.unwrap(), "c.feather", true))
            .unwrap();
        for out in ["o.feather", "o.parquet", "o.npk", "o.h5", "o.zarr", "o.npz", "o.safetensors"] {
            let (code, _, said) = run(&scratch, &["convert", "-f", "c.feather", out]);
            let plain = !["o.feather", "o.parquet"].contains(&out);
            let refused = match what {
                "union" | "run_end_encoded" | "interval" => out != "o.feather",
                "struct<>" => out == "o.parquet",
                _ => false,
            };
            assert_eq!(code, if refused { 4 } else { 0 }, "{what} {out}: {said}");
            assert!(!refused || said.contains(what) && said.contains("hint: "), "{out}: {said}");
            if refused && plain {
                ok(&scratch, &["convert", "-f", "c.feather", out, "--skip-unsupported"]);
            }
        }
    }
}

/// Lists of numbers and bytes in a text table: a column has as many rows as the others, or is none.
#[test]
fn lists_make_no_rows_of_a_text_table() {
    let s = Scratch::new();
    let list = |rows: &[Option<&[i32]>]| {
        let rows = rows.iter().map(|row| row.map(|row| row.iter().copied().map(Some)));
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(rows)) as ArrayRef
    };
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int32Array::from(vec![7, 8, 9])) as ArrayRef, true),
        ("uneven", list(&[Some(&[1, 2, 3]), Some(&[]), Some(&[4])]), true),
        ("null", list(&[Some(&[1, 2, 3]), None, Some(&[4])]), true),
        ("even", list(&[Some(&[1, 2]), Some(&[3, 4]), Some(&[5, 6])]), true),
        ("bytes", Arc::new(BinaryArray::from(vec![&b"ab"[..], b"", b"\xff"])), true),
    ]);
    let batch = batch.unwrap();
    for name in FILES {
        std::fs::write(s.join(name), file(&batch, name, true)).unwrap();
    }
    ok(&s, &["convert", "o.parquet", "o.npk", "--strings", "offsets"]);
    for name in [FILES[0], FILES[1], "o.npk"] {
        for (array, to, words) in [
            ("uneven", "csv", "uneven: csv cannot hold list<int32>\nhint: --nested json writes it"),
            ("null", "csv", "null: csv cannot hold list<int32>?\nhint: --nested json writes it"),
            ("uneven", "txt", "uneven: txt cannot hold list<int32>\nhint: leave the column out"),
            ("bytes", "csv", "bytes: csv cannot hold binary\nhint: --strings skip leaves it out"),
            ("bytes", "txt", "bytes: txt cannot hold binary\nhint: --strings skip leaves it out"),
        ] {
            for ids in ["", "id,"] {
                let of = format!("{ids}{array}");
                let args = ["convert", name, "-", "--to", to, "-a", &of, "--strings", "offsets"];
                let (code, out, said) = run(&s, &args);
                assert!(code == 4 && out.is_empty() && said.contains(words), "{args:?}: {said}");
            }
        }
        let json = ["convert", name, "-", "--to", "csv", "--nested", "json", "-x", "bytes"];
        let want = "id,uneven,null,even\n7,\"[1,2,3]\",\"[1,2,3]\",\"[1,2]\"\n\
                    8,[],,\"[3,4]\"\n9,[4],[4],\"[5,6]\"\n";
        assert_eq!(ok(&s, &json), want, "{name}");
        let some = [&json[..], &["--rows", "1:"]].concat();
        assert_eq!(ok(&s, &some), "id,uneven,null,even\n8,[],,\"[3,4]\"\n9,[4],[4],\"[5,6]\"\n");
    }
    let (_, _, said) = run(&s, &["convert", "o.parquet", "o.csv", "-a", "id", "--max-rows", "1"]);
    assert!(said.contains("--max-rows changes nothing: the input is no text table"), "{said}");
}
