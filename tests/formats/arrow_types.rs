//! Types of Arrow that Parquet lacks or spells otherwise: on the way there, and back by the schema
//! that is kept beside them.

use std::sync::Arc;

use arrow_array::types::{
    Date64Type, DurationNanosecondType, Time32SecondType, TimestampMicrosecondType,
    TimestampSecondType,
};
use arrow_array::{
    Array, ArrayRef, BinaryViewArray, Decimal256Array, FixedSizeBinaryArray, LargeStringArray,
    ListArray, PrimitiveArray, RecordBatch, StringViewArray, StructArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer, i256};
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Field, Fields};

use crate::support::{Scratch, npk_command};

const DAY: i64 = 86_400_000;

/// Two rows: a list of the first two elements, a list of the last; the second row is null.
fn list_of(values: ArrayRef) -> ArrayRef {
    let field = Arc::new(Field::new("item", values.data_type().clone(), true));
    let ends = OffsetBuffer::new(vec![0, 2, 3, 3].into());
    let nulls = NullBuffer::from(vec![true, true, false]);
    Arc::new(ListArray::new(field, ends, values, Some(nulls)))
}

fn written(scratch: &Scratch, columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap();
    let file = std::fs::File::create(scratch.join("in.feather")).unwrap();
    let mut writer = FileWriter::try_new(file, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    batch
}

fn run(scratch: &Scratch, args: &[&str], code: i32) -> String {
    let output = npk_command().args(args).current_dir(scratch.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    said
}

fn read(scratch: &Scratch, name: &str) -> RecordBatch {
    let file = std::fs::File::open(scratch.join(name)).unwrap();
    FileReader::try_new(file, None).unwrap().next().unwrap().unwrap()
}

#[test]
fn texts_and_durations_in_lists_keep_their_types_through_parquet() {
    let scratch = Scratch::new();
    let wide = Decimal256Array::from(vec![i256::from_i128(-12345), i256::from_i128(7), 0.into()])
        .with_precision_and_scale(30, 2)
        .unwrap();
    let bytes: Vec<&[u8]> = vec![b"\xff", b"a longer one than twelve", b""];
    let batch = written(
        &scratch,
        vec![
            ("large", list_of(Arc::new(LargeStringArray::from(vec!["å", "", "z"])))),
            (
                "view",
                list_of(Arc::new(StringViewArray::from(vec!["a", "more than twelve bytes", "z"]))),
            ),
            ("bytes", list_of(Arc::new(BinaryViewArray::from(bytes)))),
            ("wide", list_of(Arc::new(wide))),
            (
                "took",
                list_of(Arc::new(PrimitiveArray::<DurationNanosecondType>::from(vec![1, -2, 3]))),
            ),
        ],
    );
    run(&scratch, &["convert", "-q", "in.feather", "x.parquet"], 0);
    run(&scratch, &["convert", "-q", "x.parquet", "back.feather"], 0);
    assert_eq!(read(&scratch, "back.feather"), batch);
}

#[test]
fn seconds_become_milliseconds_and_dates_days_in_lists_and_structs_too() {
    let scratch = Scratch::new();
    let dates = || Arc::new(PrimitiveArray::<Date64Type>::from(vec![0, -DAY, 3 * DAY]));
    let clocks = Arc::new(PrimitiveArray::<Time32SecondType>::from(vec![Some(1), None, Some(3)]));
    let fields = Fields::from(vec![Field::new(
        "clock",
        DataType::Time32(arrow_schema::TimeUnit::Second),
        true,
    )]);
    let inside = StructArray::new(fields, vec![clocks], None);
    let stamps = PrimitiveArray::<TimestampSecondType>::from(vec![-1, 2, 3]).with_timezone("UTC");
    written(
        &scratch,
        vec![
            ("date", dates()),
            ("stamp", list_of(Arc::new(stamps))),
            ("in", list_of(Arc::new(inside))),
        ],
    );
    run(&scratch, &["convert", "-q", "in.feather", "x.parquet"], 0);
    run(&scratch, &["convert", "-q", "x.parquet", "x.csv", "--nested", "json"], 0);
    let text = std::fs::read_to_string(scratch.join("x.csv")).unwrap();
    let rows: Vec<&str> = text.lines().skip(1).collect();
    assert!(rows[0].contains("1970-01-01") && rows[0].contains("1969-12-31T23:59:59"), "{text}");
    assert!(rows[0].contains("00:00:01") && rows[1].contains("00:00:03"), "{text}");
    // What is no whole day would be cut.
    written(
        &scratch,
        vec![("date", Arc::new(PrimitiveArray::<Date64Type>::from(vec![DAY, DAY + 5])))],
    );
    let said = run(&scratch, &["convert", "in.feather", "y.parquet"], 4);
    assert!(said.contains("date: row 1") && said.contains("is not exact as date32"), "{said}");
    assert!(!scratch.join("y.parquet").exists());
    let far = PrimitiveArray::<TimestampSecondType>::from(vec![0, i64::MAX]);
    written(&scratch, vec![("far", Arc::new(far))]);
    let said = run(&scratch, &["convert", "in.feather", "y.parquet"], 4);
    assert!(said.contains("far: the values do not fit the column's type"), "{said}");
}

#[test]
fn times_of_a_named_zone_and_far_years_are_text_in_json() {
    let scratch = Scratch::new();
    let stamps = PrimitiveArray::<TimestampMicrosecondType>::from(vec![0, 1_500_000, i64::MAX]);
    let column = list_of(Arc::new(stamps.with_timezone("Europe/Berlin")));
    written(&scratch, vec![("t", column)]);
    run(&scratch, &["convert", "-q", "in.feather", "x.csv", "--nested", "json"], 0);
    let text = std::fs::read_to_string(scratch.join("x.csv")).unwrap();
    assert!(text.contains("1970-01-01T00:00:00Z"), "{text}");
    assert!(text.contains("1970-01-01T00:00:01.500"), "{text}");
    assert!(text.contains("9223372036854775807"), "{text}");
}

#[test]
fn fixed_bytes_are_read_as_bytes() {
    let scratch = Scratch::new();
    let fixed = FixedSizeBinaryArray::try_from_iter(["abc", "def"].iter()).unwrap();
    let batch = written(&scratch, vec![("f", Arc::new(fixed))]);
    run(&scratch, &["convert", "-q", "in.feather", "x.npk", "--layout", "columns"], 0);
    run(&scratch, &["convert", "-q", "x.npk", "back.feather"], 0);
    assert_eq!(read(&scratch, "back.feather"), batch);
}
