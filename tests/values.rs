//! Values that the command line asks for: nulls filled, columns joined in one type, cells as text.

use std::sync::Arc;

use arrow_array::types::{Int8Type, Int32Type};
use arrow_array::{
    Array, ArrayRef, DictionaryArray, Int8Array, Int64Array, ListArray, NullArray, RecordBatch,
    StringArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema};

use crate::support::{Scratch, at, npk, npk_any, npk_fails};

/// An Arrow file of these columns.
fn arrow(scratch: &Scratch, name: &str, columns: &[(&str, ArrayRef)]) -> String {
    let field =
        |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), true);
    fields(scratch, name, columns.iter().map(field).collect(), columns)
}

fn fields(s: &Scratch, name: &str, fields: Vec<Field>, columns: &[(&str, ArrayRef)]) -> String {
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns.iter().map(|(_, array)| array.clone()).collect();
    let batch = RecordBatch::try_new(schema.clone(), arrays).unwrap();
    let mut writer = arrow_ipc::writer::FileWriter::try_new(Vec::new(), &schema).unwrap();
    writer.write(&batch).unwrap();
    std::fs::write(s.join(name), writer.into_inner().unwrap()).unwrap();
    at(s, name)
}

/// The first record batch of an Arrow file, its dictionaries looked through.
fn read(path: &str) -> RecordBatch {
    let file = std::fs::File::open(path).unwrap();
    let mut batches = arrow_ipc::reader::FileReader::try_new(file, None).unwrap();
    let batch = batches.next().unwrap().unwrap();
    batch.columns().iter().for_each(|c| c.to_data().validate_full().unwrap());
    batch
}

fn text(scratch: &Scratch, name: &str, text: &str) -> String {
    std::fs::write(scratch.join(name), text).unwrap();
    at(scratch, name)
}

fn csv_of(path: &str) -> String {
    npk(&["convert", "-q", path, "-", "--to", "csv"])
}

/// A dictionary of `categories` with these codes.
fn coded(codes: &[Option<i8>], categories: &[&str]) -> ArrayRef {
    let codes = Int8Array::from(codes.to_vec());
    let values = Arc::new(StringArray::from(categories.to_vec()));
    Arc::new(DictionaryArray::<Int8Type>::try_new(codes, values).unwrap())
}

#[test]
fn a_null_category_is_filled_with_a_value() {
    let s = Scratch::new();
    let kind = coded(&[Some(0), None, Some(1)], &["a", "b"]);
    let numbers = Int64Array::from(vec![10, 20]);
    let codes = Int8Array::from(vec![Some(0), None, Some(1)]);
    let of: ArrayRef =
        Arc::new(DictionaryArray::<Int8Type>::try_new(codes, Arc::new(numbers)).unwrap());
    let file = arrow(&s, "c.arrow", &[("kind", kind), ("of", of)]);
    for (fill, kind, of) in [("0", "0", "0"), ("-1", "-1", "-1"), ("20", "20", "20")] {
        let fill = format!("fill={fill}");
        for out in ["o.npk", "o.arrow", "o.parquet", "o.h5"] {
            let out = at(&s, out);
            npk(&["convert", &file, &out, "-f", "--nulls", &fill]);
            assert_eq!(csv_of(&out), format!("kind,of\na,10\n{kind},{of}\nb,20\n"), "{out} {fill}");
            assert!(npk(&["verify", &out]).contains("whole"));
            if out.ends_with(".arrow") {
                read(&out);
            }
        }
    }
    // One that is there is no second one.
    let out = at(&s, "o.arrow");
    npk(&["convert", &file, &out, "-f", "-a", "kind", "--nulls", "fill=b"]);
    let filled = read(&out);
    let filled = filled.column(0).as_any().downcast_ref::<DictionaryArray<Int8Type>>().unwrap();
    assert_eq!((filled.keys().values().to_vec(), filled.values().len()), (vec![0, 1, 1], 2));
    for (fill, out) in [("x", "o.arrow"), ("1.5", "o.npk")] {
        let fill = format!("fill={fill}");
        let error = npk_fails(2, &["convert", &file, &at(&s, out), "-f", "--nulls", &fill]);
        assert!(error.contains("of: ") && error.contains("does not fit int64"), "{error}");
    }
}

#[test]
fn ordered_categories_are_filled_with_one_of_theirs() {
    let s = Scratch::new();
    let kind = coded(&[Some(1), None], &["low", "high"]);
    let field = Field::new("kind", kind.data_type().clone(), true).with_dict_is_ordered(true);
    let file = fields(&s, "c.arrow", vec![field], &[("kind", kind)]);
    let out = at(&s, "o.npk");
    npk(&["convert", &file, &out, "--nulls", "fill=low"]);
    assert_eq!(csv_of(&out), "kind\nhigh\nlow\n");
    let error = npk_fails(4, &["convert", &file, &out, "-f", "--nulls", "fill=none"]);
    assert!(error.contains("kind: 'none' is none of its ordered categories"), "{error}");
}

#[test]
fn text_and_times_are_filled_in_words() {
    let s = Scratch::new();
    let words: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("")]));
    let t = TimestampMicrosecondArray::from(vec![Some(0), None, Some(1)]);
    let columns: [(&str, ArrayRef); 2] = [("w", words), ("t", Arc::new(t))];
    let file = arrow(&s, "t.arrow", &columns);
    let out = at(&s, "o.npk");
    for out in ["o.npk", "o.npz", "o.csv", "o.arrow", "o.parquet", "o.zarr"] {
        let out = at(&s, out);
        npk(&["convert", &file, &out, "-a", "w", "--nulls", "fill=none"]);
        let found = csv_of(&out);
        let cells = found.split_once('\n').unwrap().1;
        assert!(["a\nnone\n\"\"\n", "a\nnone\n\n"].contains(&cells), "{out}: {found}");
    }
    npk(&["convert", &file, &out, "-f", "-a", "t", "--nulls", "fill=2020-01-01"]);
    assert!(csv_of(&out).contains("\n2020-01-01T00:00:00.000000\n"));
    let bad = ["convert", &file, &out, "-f", "-a", "t", "--nulls", "fill=2020-01-32"];
    assert!(npk_fails(2, &bad).contains("t: '2020-01-32' does not fit timestamp[us]"));
    let clock: ArrayRef = Arc::new(Time64MicrosecondArray::from(vec![Some(0), None]));
    let file = arrow(&s, "c.arrow", &[("c", clock)]);
    npk(&["convert", &file, &out, "-f", "--nulls", "fill=12:30"]);
    assert_eq!(csv_of(&out), "c\n00:00:00.000000\n12:30:00.000000\n");
    for fill in ["fill=-1", "fill=86400000000", "fill=24:00"] {
        npk_fails(2, &["convert", &file, &out, "-f", "--nulls", fill]);
    }
}

#[test]
fn lists_and_structs_keep_their_nulls_everywhere() {
    let s = Scratch::new();
    let lists = [Some(vec![Some(1), Some(2)]), None, Some(vec![Some(3), None])];
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists));
    let a: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(0), Some(1)]));
    let field = Arc::new(Field::new("a", DataType::Int64, true));
    let nulls = vec![true, false, true].into();
    let structs: ArrayRef = Arc::new(StructArray::new(vec![field].into(), vec![a], Some(nulls)));
    let n: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
    let file = arrow(&s, "l.arrow", &[("l", lists), ("st", structs), ("n", n)]);
    let expected =
        "l,st,n\n\"[1,2]\",\"{\"\"a\"\":null}\",1\n,,7\n\"[3,null]\",\"{\"\"a\"\":1}\",3\n";
    for out in ["o.npk", "o.arrow", "o.parquet", "o.h5"] {
        let out = at(&s, out);
        let said = npk_any(&["convert", &file, &out, "--nulls", "fill=7"]);
        let said = String::from_utf8(said.stderr).unwrap();
        assert!(said.contains("lists, structs and maps keep their nulls (l, st)"), "{said}");
        let found = npk(&["convert", "-q", &out, "-", "--to", "csv", "--nested", "json"]);
        assert_eq!(found, expected, "{out}");
    }
    let json =
        ["convert", "-q", &file, "-", "--to", "csv", "--nested", "json", "--nulls", "fill=7"];
    assert_eq!(npk(&json), expected);
}

#[test]
fn codes_without_a_category_are_found() {
    let s = Scratch::new();
    let file = arrow(&s, "c.arrow", &[("kind", coded(&[Some(0), Some(1)], &["a", "b"]))]);
    let store = at(&s, "c.npk");
    npk(&["convert", &file, &store]);
    let data = s.join("c.npk/data_kind.npkd");
    assert_eq!(std::fs::read(&data).unwrap(), [0, 1]);
    for code in [2u8, 0xFF] {
        std::fs::write(&data, [0, code]).unwrap();
        let told = format!("kind: row 1: code {} is outside the 2 categories", code as i8);
        assert!(npk_fails(7, &["verify", &store]).contains(&told));
        for out in ["o.npk", "o.arrow", "o.parquet", "o.csv", "o.npz", "o.h5"] {
            let error = npk_fails(7, &["convert", &store, &at(&s, out)]);
            assert!(error.contains(&told) && !s.join(out).exists(), "{out}: {error}");
        }
    }
}

#[test]
fn columns_without_values_join_any_type() {
    let s = Scratch::new();
    let full = text(&s, "a.csv", "id,name,x\n1,n,0.5\n");
    let empty = text(&s, "empty.csv", "id,name,x\n");
    let holes = text(&s, "holes.csv", "id,name,x\n,y,\n");
    let out = at(&s, "o.npk");
    npk(&["convert", &full, &empty, &holes, &out, "-f", "--concat"]);
    let types = npk(&["list", "-l", &out]);
    assert!(types.contains("id\tint64?\t2") && types.contains("name\tstring\t2"), "{types}");
    assert_eq!(csv_of(&out), "id,name,x\n1,n,0.5\n,y,\n");
    // Whichever is first.
    npk(&["convert", &empty, &holes, &full, &out, "-f", "--concat"]);
    assert_eq!(csv_of(&out), "id,name,x\n,y,\n1,n,0.5\n");
}

#[test]
fn columns_of_the_null_type_join_any_type() {
    let s = Scratch::new();
    let nothing = || -> ArrayRef { Arc::new(NullArray::new(2)) };
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![7]));
    let lists = [Some(vec![Some(1)])];
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists));
    let kinds = coded(&[Some(0)], &["a"]);
    let all = [("n", numbers), ("l", lists), ("k", kinds)];
    let full = arrow(&s, "a.arrow", &all);
    let empty = arrow(&s, "b.arrow", &[("n", nothing()), ("l", nothing()), ("k", nothing())]);
    for (first, second) in [(&full, &empty), (&empty, &full)] {
        for out in ["o.arrow", "o.npk", "o.parquet"] {
            let out = at(&s, out);
            npk(&["convert", first, second, &out, "-f", "--concat"]);
            let back = at(&s, "back.arrow");
            npk(&["convert", &out, &back, "-f"]);
            let batch = read(&back);
            let kinds: Vec<_> =
                batch.schema().fields().iter().map(|f| f.data_type().clone()).collect();
            let expected: Vec<_> = all.iter().map(|(_, a)| a.data_type().clone()).collect();
            assert_eq!(kinds, expected, "{out}");
            let row = if first == &full { 0 } else { 2 };
            for (i, (_, array)) in all.iter().enumerate() {
                let column = batch.column(i);
                assert_eq!((column.len(), column.logical_null_count()), (3, 2), "{out}");
                assert!(column.is_valid(row) && array.is_valid(0));
            }
        }
    }
}

#[test]
fn cells_are_text_as_they_stand_where_text_is_asked_for() {
    let s = Scratch::new();
    let file = text(&s, "v.csv", "id,ver,n\n007,1.10,1\n12E4,1.2,2\n,True,3\n");
    let asked = ["--dtype", "id=string", "--dtype", "ver=string"];
    let out = at(&s, "o.arrow");
    npk(&[&["convert", &file, &out][..], &asked].concat());
    assert_eq!(csv_of(&out), "id,ver,n\n007,1.10,1\n12E4,1.2,2\n,True,3\n");
    let batch = read(&out);
    assert!(batch.column(0).is_null(2));
    assert_eq!(batch.column(2).data_type(), &DataType::Int64);
    // Text stays text, also where a file has no rows of it.
    let empty = text(&s, "e.csv", "id,ver,n\n");
    npk(&[&["convert", &file, &empty, &out, "-f", "--concat"][..], &asked].concat());
    assert_eq!(csv_of(&out), "id,ver,n\n007,1.10,1\n12E4,1.2,2\n,True,3\n");
    // Categories as what they stand for.
    let kinds = arrow(&s, "k.arrow", &[("k", coded(&[Some(1), None], &["a", "b"]))]);
    npk(&["convert", &kinds, &out, "-f", "--dtype", "k=string"]);
    assert_eq!(read(&out).column(0).data_type(), &DataType::Utf8);
    assert_eq!(csv_of(&out), "k\nb\n\n");
}

#[test]
fn codes_get_as_wide_as_joined_categories_need() {
    let s = Scratch::new();
    let part = |part: i8| {
        let items: Vec<String> = (0..100).map(|i| format!("{part}_{i}")).collect();
        let items: Vec<&str> = items.iter().map(String::as_str).collect();
        let codes: Vec<Option<i8>> = (0..100).map(Some).collect();
        arrow(&s, &format!("{part}.arrow"), &[("c", coded(&codes, &items))])
    };
    let (a, b) = (part(0), part(1));
    let expected: String =
        (0..2).flat_map(|p| (0..100).map(move |i| format!("{p}_{i}\n"))).collect();
    for out in ["o.npk", "o.arrow", "o.parquet", "o.h5"] {
        let out = at(&s, out);
        npk(&["convert", &a, &b, &out, "--concat"]);
        assert_eq!(csv_of(&out), format!("c\n{expected}"), "{out}");
    }
    let wide = DataType::Dictionary(Box::new(DataType::Int16), Box::new(DataType::Utf8));
    assert_eq!(read(&at(&s, "o.arrow")).column(0).data_type(), &wide);
    // Where they are few the type stays, also where only the rows are counted.
    let few = |part: usize| {
        let kinds = coded(&[Some(0), Some(1)], &[["a", "b"], ["c", "d"]][part]);
        let file = arrow(&s, "few.arrow", &[("c", kinds)]);
        let stored = at(&s, &format!("{part}.parquet"));
        npk(&["convert", &file, &stored]);
        stored
    };
    let joined = at(&s, "few.arrow");
    npk(&["convert", &few(0), &few(1), &joined, "-f", "--concat"]);
    let kept = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    assert_eq!(read(&joined).column(0).data_type(), &kept);
    let same = at(&s, "same.arrow");
    npk(&["convert", &a, &a, &same, "--concat"]);
    let narrow = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    assert_eq!(read(&same).column(0).data_type(), &narrow);
}

#[test]
fn ordered_categories_join_in_one_order() {
    let s = Scratch::new();
    let part = |name: &str, categories: &[&str]| {
        let kind = coded(&[Some(0), Some(1)], categories);
        let field = Field::new("k", kind.data_type().clone(), true).with_dict_is_ordered(true);
        fields(&s, name, vec![field], &[("k", kind)])
    };
    let (a, b) = (part("a.arrow", &["low", "high"]), part("b.arrow", &["high", "low"]));
    let out = at(&s, "o.npk");
    npk(&["convert", &a, &a, &out, "--concat"]);
    let error = npk_fails(4, &["convert", &a, &b, &out, "-f", "--concat"]);
    assert!(error.contains("k: the ordered categories stand in another order"), "{error}");
    npk(&["convert", &a, &b, &out, "-f", "--concat", "--dtype", "k=string"]);
    assert_eq!(csv_of(&out), "k\nlow\nhigh\nhigh\nlow\n");
}

#[test]
fn folders_are_columns_however_the_files_are_named() {
    let s = Scratch::new();
    for g in 1..3 {
        let folder = format!("t/y=7/g={g}");
        std::fs::create_dir_all(s.join(&folder)).unwrap();
        text(&s, &format!("{folder}/x.csv"), &format!("a,b\n{g},0.5\n"));
    }
    let file = |g: u8| at(&s, &format!("t/y=7/g={g}/x.csv"));
    let list = text(&s, "list.txt", &format!("{}\n{}\n", file(1), file(2)));
    let (one, two) = (file(1), file(2));
    let (wild, folder) = (at(&s, "t/y=7/*/*.csv"), at(&s, "t"));
    let ways: [&[&str]; 5] =
        [&[&one, &two], &["-T", &list], &[&wild], &["-R", &folder], &[folder.as_str()]];
    for way in ways {
        let out = at(&s, "o.npk");
        npk(&[&["convert", "-f", "--concat", "--layout", "columns"], way, &[&out]].concat());
        assert_eq!(csv_of(&out), "a,b,y,g\n1,0.5,7,1\n2,0.5,7,2\n", "{way:?}");
    }
}

#[test]
fn a_table_becomes_a_file_for_each_column() {
    let s = Scratch::new();
    let table = text(&s, "t.csv", "a,b\n1,0.5\n2,1.5\n");
    let out = at(&s, "out/");
    let error = npk_fails(4, &["convert", &table, &out, "--to", "npy"]);
    assert!(error.contains("hint: choose one with -a; --layout columns"), "{error}");
    npk(&["convert", &table, &out, "--to", "npy", "--layout", "columns"]);
    let list = |name: &str| npk(&["list", "-l", &at(&s, name)]);
    assert!(list("out/a.npy").contains("int64\t2\t"), "{}", list("out/a.npy"));
    assert!(list("out/b.npy").contains("float64\t2\t"), "{}", list("out/b.npy"));
}

#[test]
fn an_index_keeps_its_place_under_another_name() {
    let s = Scratch::new();
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![5, 6]));
    let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let pandas = r#"{"index_columns": ["k"], "columns": [
        {"name": "v", "field_name": "v", "pandas_type": "int64", "metadata": null},
        {"name": "k", "field_name": "k", "pandas_type": "int64", "metadata": null}]}"#;
    let field = |name: &str| Field::new(name, DataType::Int64, true);
    let metadata = std::collections::HashMap::from([("pandas".to_string(), pandas.to_string())]);
    let schema = Arc::new(Schema::new_with_metadata(vec![field("v"), field("k")], metadata));
    let batch = RecordBatch::try_new(schema.clone(), vec![values, keys]).unwrap();
    let mut writer = arrow_ipc::writer::FileWriter::try_new(Vec::new(), &schema).unwrap();
    writer.write(&batch).unwrap();
    std::fs::write(s.join("t.arrow"), writer.into_inner().unwrap()).unwrap();
    let out = at(&s, "o.arrow");
    npk(&["convert", &at(&s, "t.arrow"), &out, "--rename", "k=key"]);
    let pandas: serde_json::Value =
        serde_json::from_str(&read(&out).schema().metadata()["pandas"]).unwrap();
    assert_eq!(pandas["index_columns"], serde_json::json!(["key"]));
    assert_eq!(pandas["columns"][1]["field_name"], "key");
    assert_eq!(
        (&pandas["columns"][1]["name"], &pandas["columns"][0]["name"]),
        (&"key".into(), &"v".into())
    );
    npk(&["convert", &at(&s, "t.arrow"), &out, "-f", "-x", "k"]);
    let pandas: serde_json::Value =
        serde_json::from_str(&read(&out).schema().metadata()["pandas"]).unwrap();
    assert_eq!(pandas["index_columns"], serde_json::json!([]));
}

#[test]
fn metadata_of_a_column_stays_where_parquet_has_another_type() {
    let s = Scratch::new();
    let t: ArrayRef = Arc::new(arrow_array::TimestampSecondArray::from(vec![1]));
    let unit = std::collections::HashMap::from([("unit".to_string(), "x".to_string())]);
    let field = Field::new("t", t.data_type().clone(), true).with_metadata(unit.clone());
    let file = fields(&s, "t.arrow", vec![field], &[("t", t)]);
    let (stored, back) = (at(&s, "t.parquet"), at(&s, "back.arrow"));
    npk(&["convert", &file, &stored]);
    npk(&["convert", &stored, &back]);
    assert_eq!(*read(&back).schema().field(0).metadata(), unit);
}
