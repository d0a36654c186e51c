//! Rows of nested columns behind those of a store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::types::Int16Type;
use arrow_array::{
    Array, ArrayRef, Decimal128Array, DictionaryArray, Int32Array, Int64Array, ListArray, MapArray,
    RecordBatch, StringArray, StructArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Field, Fields};

use crate::support::{Scratch, npk_command, python};

fn run(scratch: &Scratch, args: &[&str]) -> (i32, String) {
    let output = npk_command().args(args).current_dir(scratch.path()).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn ok(scratch: &Scratch, args: &[&str]) {
    let (code, said) = run(scratch, args);
    assert_eq!(code, 0, "{args:?}: {said}");
}

fn write(scratch: &Scratch, name: &str, batch: &RecordBatch) {
    let mut writer = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    std::fs::write(scratch.join(name), writer.into_inner().unwrap()).unwrap();
}

fn read(scratch: &Scratch, name: &str) -> RecordBatch {
    let file = std::fs::File::open(scratch.join(name)).unwrap();
    let reader = FileReader::try_new(file, None).unwrap();
    let (schema, batches) = (reader.schema(), reader.map(Result::unwrap).collect::<Vec<_>>());
    arrow_select::concat::concat_batches(&schema, &batches).unwrap()
}

/// Every file of a store.
fn files(store: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(store).unwrap().map(Result::unwrap);
    let name = |e: &std::fs::DirEntry| e.file_name().into_string().unwrap();
    entries.map(|e| (name(&e), std::fs::read(e.path()).unwrap())).collect()
}

/// Nulls at these rows.
fn but(rows: usize, nulls: &[usize]) -> Option<NullBuffer> {
    (!nulls.is_empty()).then(|| (0..rows).map(|i| !nulls.contains(&i)).collect())
}

/// Two rows in which everything is: lists of dictionaries' texts and of decimals, a map, a struct,
/// a struct in a list of a fixed size. `nulls` of the second row, at every level.
fn rows(texts: [&str; 3], nulls: bool) -> RecordBatch {
    let null = |rows: usize, at: usize| if nulls { but(rows, &[at]) } else { None };
    let item = |t: &DataType| Arc::new(Field::new("item", t.clone(), true));
    let list = |values: ArrayRef, ends: [i32; 3], nulls| -> ArrayRef {
        let ends = OffsetBuffer::new(ends.to_vec().into());
        Arc::new(ListArray::new(item(values.data_type()), ends, values, nulls))
    };
    let coded: DictionaryArray<Int16Type> =
        texts.iter().enumerate().map(|(i, &t)| (!nulls || i != 1).then_some(t)).collect();
    let cents = |n: i128| Decimal128Array::from(vec![n, n + 1, n * n]);
    let cents = cents(12345).with_precision_and_scale(30, 2).unwrap();
    let text = StringArray::new(
        OffsetBuffer::new(vec![0, 1, 2].into()),
        arrow_buffer::Buffer::from_vec(b"xy".to_vec()),
        null(2, 0),
    );
    let fields = Fields::from(vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("lists", DataType::new_list(DataType::Int64, true), true),
    ]);
    let longs = Int64Array::new(vec![1, 2, 3].into(), null(3, 2));
    let lists = list(Arc::new(longs), [0, 1, 3], None);
    // Of a struct that is null nowhere the fields are columns.
    let user = StructArray::new(fields, vec![Arc::new(text), lists], but(2, &[1]));
    let entries = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Int32, true),
    ]);
    let keys = Arc::new(StringArray::from(texts.to_vec()));
    let values = Arc::new(Int32Array::new(vec![7, 8, 9].into(), null(3, 0)));
    let entries = StructArray::new(entries, vec![keys, values], None);
    let field = Arc::new(Field::new("entries", entries.data_type().clone(), false));
    let ends = OffsetBuffer::new(vec![0, 1, 3].into());
    let map = MapArray::new(field, ends, entries, null(2, 1), false);
    RecordBatch::try_from_iter_with_nullable([
        ("coded", list(Arc::new(coded), [0, 1, 3], null(2, 0)), true),
        ("cents", list(Arc::new(cents), [0, 1, 3], None), true),
        ("user", Arc::new(user) as ArrayRef, true),
        ("map", Arc::new(map), true),
        ("id", Arc::new(Int32Array::from(vec![5, 6])), true),
    ])
    .unwrap()
}

/// Offsets go on where the store's end, dictionaries grow, masks begin where nulls first occur and
/// go on where the new rows have none.
#[test]
fn rows_are_appended_at_every_level() {
    let batches = [
        rows(["a", "b", "c"], false),
        rows(["c", "d", "a"], true),
        rows(["e", "a", "b"], false),
        rows(["b", "b", "f"], true),
    ];
    for strings in ["codes", "offsets"] {
        for order in [[0, 1, 2, 3], [1, 0, 3, 2]] {
            let scratch = Scratch::new();
            for i in order {
                write(&scratch, "new.feather", &batches[i]);
                let args = ["convert", "new.feather", "s.npk", "--append", "--strings", strings];
                ok(&scratch, &args);
                ok(&scratch, &["verify", "s.npk"]);
            }
            ok(&scratch, &["convert", "s.npk", "back.feather"]);
            let all: Vec<&RecordBatch> = order.iter().map(|&i| &batches[i]).collect();
            write(
                &scratch,
                "all.feather",
                &arrow_select::concat::concat_batches(&all[0].schema(), all).unwrap(),
            );
            ok(&scratch, &["diff", "all.feather", "back.feather"]);
            let back = read(&scratch, "back.feather");
            assert_eq!(back.schema(), batches[0].schema());
            assert_eq!(back.num_rows(), 8);
        }
    }
}

/// What does not fit is refused by name, and nothing of the store changes.
#[test]
fn other_rows_are_refused_and_the_store_stays() {
    let scratch = Scratch::new();
    let batch = rows(["a", "b", "c"], false);
    write(&scratch, "a.feather", &batch);
    ok(&scratch, &["convert", "a.feather", "s.npk"]);
    let before = files(&scratch.join("s.npk"));
    let append = ["convert", "new.feather", "s.npk", "--append"];
    let refused = |batch: &RecordBatch, words: &str| {
        write(&scratch, "new.feather", batch);
        let (code, said) = run(&scratch, &append);
        assert_eq!(code, 5, "{said}");
        assert!(said.contains(words), "{said}");
        assert!(files(&scratch.join("s.npk")) == before, "{words}");
    };
    // Another type at the bottom, another field, a column less.
    let with = |name: &str, column: ArrayRef| {
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns()).map(|(f, c)| {
            (f.name().clone(), if f.name() == name { column.clone() } else { c.clone() }, true)
        });
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    };
    let shorts = Arc::new(ListArray::new(
        Arc::new(Field::new("item", DataType::Int16, true)),
        OffsetBuffer::new(vec![0, 1, 3].into()),
        Arc::new(arrow_array::Int16Array::from(vec![Some(1), None, Some(3)])),
        None,
    ));
    refused(&with("coded", shorts), "coded: the new rows are list<int16>, the store's are list<");
    let name = Fields::from(vec![Field::new("name", DataType::Utf8, true)]);
    let names = Arc::new(StringArray::from(vec!["x", "y"]));
    let one = StructArray::new(name, vec![names], but(2, &[0]));
    refused(&with("user", Arc::new(one)), "the store's are struct<name: string, lists: ");
    refused(&batch.project(&[1, 2, 3, 4]).unwrap(), "the new rows lack the column coded");
    // Text in the other form.
    write(&scratch, "new.feather", &batch);
    let (code, said) = run(&scratch, &[&append[..], &["--strings", "offsets"]].concat());
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("map.keys: ") && said.contains("--strings"), "{said}");
    assert!(files(&scratch.join("s.npk")) == before);
}

/// Elements that no list holds would become those of the first new row.
#[test]
fn a_store_whose_parts_do_not_fit_gets_no_rows() {
    for (array, words) in [("coded", "coded.offsets"), ("id", "")] {
        let scratch = Scratch::new();
        write(&scratch, "a.feather", &rows(["a", "b", "c"], false));
        ok(&scratch, &["convert", "a.feather", "s.npk"]);
        if array == "coded" {
            // The last offset: 2 of 3 elements.
            let offsets = scratch.join("s.npk/data_coded.offsets.npkd");
            let mut bytes = std::fs::read(&offsets).unwrap();
            bytes[16] = 2;
            std::fs::write(&offsets, bytes).unwrap();
        }
        let before = files(&scratch.join("s.npk"));
        let (code, said) = run(&scratch, &["convert", "a.feather", "s.npk", "--append"]);
        if words.is_empty() {
            assert_eq!(code, 0, "{said}");
            continue;
        }
        assert_eq!(code, 7, "{said}");
        assert!(said.contains(words) && said.contains("3 elements"), "{said}");
        assert!(files(&scratch.join("s.npk")) == before);
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn random_rows_are_appended() {
    let scratch = Scratch::new();
    python(scratch.path(), "import nested\nnested.write_halves(range(100, 140))");
    let mut appended = 0;
    for seed in 100..140 {
        let store = format!("{seed}.npk");
        let args = |half: &str| format!("{seed}{half}.feather");
        ok(&scratch, &["convert", &args("a"), &store, "--layout", "columns"]);
        let before = files(&scratch.join(&store));
        let (code, said) =
            run(&scratch, &["convert", &args("b"), &store, "--append", "--layout", "columns"]);
        // Of lists of one length, and of structs without nulls, the first half shows too little.
        if code == 5 {
            assert!(said.contains("--concat") || said.contains(".*'"), "{seed}: {said}");
            assert!(files(&scratch.join(&store)) == before, "{seed}");
            continue;
        }
        assert_eq!(code, 0, "{seed}: {said}");
        ok(&scratch, &["convert", &store, &format!("through-{seed}.feather")]);
        appended += 1;
    }
    assert!(appended > 20, "{appended}");
    python(
        scratch.path(),
        "
import nested, store, glob
nested.compare('through')
for path in glob.glob('*.npk'):
    for name, values in store.numpack_arrays(path).items():
        if name.endswith('.offsets'):
            assert values[0] == 0 and (values[1:] >= values[:-1]).all(), (path, name, values)
",
    );
}

/// Rows of numbers in lists, as lists of these.
fn lists(rows: &[Option<Vec<Option<f32>>>]) -> RecordBatch {
    let mut builder =
        arrow_array::builder::ListBuilder::new(arrow_array::builder::Float32Builder::new());
    rows.iter().for_each(|row| builder.append_option(row.clone()));
    RecordBatch::try_from_iter_with_nullable([
        ("v", Arc::new(builder.finish()) as ArrayRef, true),
        ("id", Arc::new(Int32Array::from(vec![1; rows.len()])), true),
    ])
    .unwrap()
}

/// Whether lists happen to have one length, or null elements, decides how a file alone is stored:
/// its rows go to those of other files even so.
#[test]
fn lists_of_every_form_are_joined() {
    let row = |values: &[f32]| Some(values.iter().map(|&v| Some(v)).collect::<Vec<_>>());
    let even = lists(&[row(&[1.0, 2.0]), row(&[3.0, 4.0])]);
    let wider = lists(&[row(&[1.5, 2.5, 3.5]), row(&[3.0, 4.0, 5.0])]);
    let null = lists(&[row(&[1.0, 2.0]), None]);
    let uneven = lists(&[row(&[]), row(&[7.0]), row(&[8.0, 9.0])]);
    let holes = lists(&[Some(vec![None, Some(1.0)]), Some(vec![]), None]);
    let all = [&even, &wider, &null, &uneven, &holes];
    let scratch = Scratch::new();
    for (i, batch) in all.iter().enumerate() {
        write(&scratch, &format!("{i}.feather"), batch);
    }
    let check = |chosen: &[usize], back: &str, what: &str| {
        let chosen: Vec<&RecordBatch> = chosen.iter().map(|&i| all[i]).collect();
        let whole = arrow_select::concat::concat_batches(&even.schema(), chosen).unwrap();
        assert_eq!(read(&scratch, back), whole, "{what}");
    };
    for a in 0..all.len() {
        for b in 0..all.len() {
            let (first, second) = (format!("{a}.feather"), format!("{b}.feather"));
            let what = format!("{a} {b}");
            ok(&scratch, &["convert", "-f", &first, &second, "whole.feather", "--concat"]);
            check(&[a, b], "whole.feather", &what);
            ok(&scratch, &["convert", "-f", &first, &second, "whole.npk", "--concat"]);
            ok(&scratch, &["convert", "-f", "whole.npk", "whole.feather"]);
            check(&[a, b], "whole.feather", &what);
            // A store's form stays: what it cannot hold is refused, and that is all.
            ok(&scratch, &["convert", "-f", &first, "s.npk"]);
            let before = files(&scratch.join("s.npk"));
            let (code, said) = run(&scratch, &["convert", &second, "s.npk", "--append"]);
            let fits = a == b || a == 4 || a == 3 && b < 3 || a + b == 2 && a != 1;
            assert_eq!(code, if fits { 0 } else { 5 }, "{what}: {said}");
            if fits {
                ok(&scratch, &["convert", "-f", "s.npk", "whole.feather"]);
                check(&[a, b], "whole.feather", &what);
            } else {
                assert!(said.contains("v: the new rows are "), "{said}");
                assert!(said.contains("--concat"), "{said}");
                assert!(files(&scratch.join("s.npk")) == before, "{what}");
            }
        }
    }
    ok(
        &scratch,
        &[
            "convert",
            "-f",
            "0.feather",
            "3.feather",
            "4.feather",
            "1.feather",
            "whole.feather",
            "--concat",
        ],
    );
    check(&[0, 3, 4, 1], "whole.feather", "four");
    // Matrices of other files are no lists.
    std::fs::write(scratch.join("a.npy"), npy(2)).unwrap();
    std::fs::write(scratch.join("b.npy"), npy(3)).unwrap();
    let (code, said) =
        run(&scratch, &["convert", "a.npy", "b.npy", "c.npy", "--concat", "--name", "x"]);
    assert_eq!(code, 2, "{said}");
}

/// One row of so many floats.
fn npy(width: usize) -> Vec<u8> {
    let head = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': (1, {width}), }}");
    let head = format!("{head:<117}\n");
    [b"\x93NUMPY\x01\x00\x76\x00", head.as_bytes(), &vec![0; 4 * width]].concat()
}

/// A struct that is null nowhere comes as columns of its fields.
#[test]
fn structs_grow_by_their_fields() {
    let batch = |null: bool| {
        let inner =
            Fields::from(vec![Field::new("y", DataType::new_list(DataType::Utf8, true), true)]);
        let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
        let texts = Arc::new(StringArray::from(vec![Some("p"), None, Some("q")]));
        let ends = OffsetBuffer::new(vec![0, 1, 3].into());
        let list = ListArray::new(item, ends, texts, None);
        let deep = StructArray::new(inner.clone(), vec![Arc::new(list)], None);
        let fields = Fields::from(vec![
            Field::new("x", DataType::Int32, true),
            Field::new("deep", DataType::Struct(inner), true),
        ]);
        let x = Arc::new(Int32Array::from(vec![Some(1), Some(2)]));
        let nulls = if null { but(2, &[1]) } else { None };
        let columns: Vec<ArrayRef> = vec![x, Arc::new(deep)];
        RecordBatch::try_from_iter_with_nullable([
            ("s", Arc::new(StructArray::new(fields, columns, nulls)) as ArrayRef, true),
            ("id", Arc::new(Int32Array::from(vec![5, 6])), true),
        ])
        .unwrap()
    };
    let scratch = Scratch::new();
    write(&scratch, "null.feather", &batch(true));
    write(&scratch, "full.feather", &batch(false));
    ok(&scratch, &["convert", "null.feather", "s.npk"]);
    ok(&scratch, &["convert", "full.feather", "s.npk", "--append"]);
    ok(&scratch, &["convert", "s.npk", "back.feather"]);
    let whole = [&batch(true), &batch(false)];
    let whole = arrow_select::concat::concat_batches(&whole[0].schema(), whole).unwrap();
    let back = read(&scratch, "back.feather");
    assert_eq!(back.schema(), whole.schema());
    assert_eq!(back.column(0).to_data(), whole.column(0).to_data());
    // The other way the store cannot tell the null; its fields can be had on demand.
    ok(&scratch, &["convert", "full.feather", "f.npk"]);
    let (code, said) = run(&scratch, &["convert", "null.feather", "f.npk", "--append"]);
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("s: the store has the fields of this struct as columns"), "{said}");
    ok(&scratch, &["convert", "null.feather", "f.npk", "--append", "-a", "s.*", "-a", "id"]);
    ok(&scratch, &["convert", "f.npk", "f.csv", "--nested", "json"]);
    let text = std::fs::read_to_string(scratch.join("f.csv")).unwrap();
    assert_eq!(text.lines().count(), 5, "{text}");
}

/// A nested array is replaced with all its parts, and only where that was asked for.
#[test]
fn merges_replace_a_nested_array_as_a_whole() {
    let scratch = Scratch::new();
    write(&scratch, "a.feather", &rows(["a", "b", "c"], true));
    write(&scratch, "b.feather", &rows(["d", "e", "f"], false));
    std::fs::write(scratch.join("user.npy"), npy(2)).unwrap();
    ok(&scratch, &["convert", "a.feather", "s.npk"]);
    let before = files(&scratch.join("s.npk"));
    for new in [&["user.npy"][..], &["b.feather", "-a", "user"]] {
        let args = [&["convert"], new, &["s.npk", "--if-exists", "merge"]].concat();
        let (code, said) = run(&scratch, &args);
        assert_eq!(code, 5, "{said}");
        assert!(said.contains("user: the store has an array of this name"), "{said}");
        assert!(!said.contains("user.name"), "{said}");
        assert!(files(&scratch.join("s.npk")) == before);
    }
    let replace = ["s.npk", "--if-exists", "merge", "--force"];
    ok(&scratch, &[&["convert", "b.feather", "-a", "coded"], &replace[..]].concat());
    ok(&scratch, &["diff", "b.feather", "s.npk", "-a", "coded"]);
    ok(&scratch, &["diff", "a.feather", "s.npk", "-a", "user"]);
    ok(&scratch, &[&["convert", "user.npy"], &replace[..]].concat());
    let left = files(&scratch.join("s.npk"));
    let parts = |f: &&String| f.starts_with("data_user.") && *f != "data_user.npkd";
    assert!(left.keys().filter(parts).count() == 0, "{:?}", left.keys());
    ok(&scratch, &["diff", "a.feather", "s.npk", "-a", "map"]);
}
