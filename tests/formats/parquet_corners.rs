//! Parquet and Arrow files at the edges of what their specifications allow.

use std::sync::Arc;

use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;

use crate::convert::npy;
use crate::support::{Scratch, at, npk, npk_any, npk_fails, python};

/// Rows without a column are told of, and not called none.
#[test]
fn rows_without_columns_are_refused_with_their_number() {
    let scratch = Scratch::new();
    let schema = Arc::new(arrow_schema::Schema::empty());
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(5));
    let batch =
        arrow_array::RecordBatch::try_new_with_options(schema.clone(), vec![], &options).unwrap();
    let mut writer = arrow_ipc::writer::FileWriter::try_new(Vec::new(), &schema).unwrap();
    writer.write(&batch).unwrap();
    std::fs::write(scratch.join("bare.arrow"), writer.into_inner().unwrap()).unwrap();
    // num_rows in the footer and in the row group, and the schema of a root alone.
    let footer = [
        &[0x15, 2, 0x19, 0x1C, 0x48, 1, b's', 0x15, 0, 0, 0x16, 10][..],
        &[0x19, 0x1C, 0x19, 0x0C, 0x16, 0, 0x16, 10, 0, 0],
    ];
    let footer = footer.concat();
    let length = (footer.len() as u32).to_le_bytes();
    let parquet = [b"PAR1", &footer[..], &length, b"PAR1"].concat();
    std::fs::write(scratch.join("bare.parquet"), parquet).unwrap();
    for name in ["bare.arrow", "bare.parquet"] {
        let file = at(&scratch, name);
        for out in ["o.npk", "o.csv", "o.parquet"] {
            let said = npk_fails(4, &["convert", &file, &at(&scratch, out)]);
            assert!(said.contains("it has 5 rows and no columns"), "{said}");
            assert!(said.contains("hint: ") && !scratch.join(out).exists(), "{said}");
        }
        assert_eq!(npk(&["list", &file]), "");
    }
}

/// A decimal of this many bytes, big-endian and as short as it can be.
fn short(value: i128) -> ByteArray {
    let bytes = value.to_be_bytes();
    let sign = if value < 0 { 0xFF } else { 0 };
    let skip = (0..15).take_while(|&i| bytes[i] == sign && (bytes[i + 1] ^ sign) < 0x80).count();
    ByteArray::from(bytes[skip..].to_vec())
}

/// Decimals may be byte strings of any length: short ones, longer than they need to be, with nulls,
/// in dictionaries, in lists.
#[test]
fn decimals_of_varying_length_are_numbers() {
    let values = [0i128, 1, -1, 127, 128, -128, -129, 255, 65_536, -99_999, 123_456_789, -1 << 40];
    let long = |v: i128| ByteArray::from(v.to_be_bytes()[4..].to_vec());
    for (precision, dictionary) in [(18, false), (18, true), (30, false), (30, true)] {
        let scratch = Scratch::new();
        let message = format!(
            "message m {{
                required binary d (DECIMAL({precision},2));
                optional binary n (DECIMAL({precision},2));
                optional group l (LIST) {{ repeated group list {{ optional binary element (DECIMAL({precision},2)); }} }}
            }}"
        );
        let schema = parquet::schema::parser::parse_message_type(&message).unwrap();
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(dictionary)
            .set_compression(Compression::SNAPPY)
            .build();
        let file = std::fs::File::create(scratch.join("d.parquet")).unwrap();
        let mut writer =
            SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let all: Vec<ByteArray> = values.iter().map(|&v| short(v)).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&all, None, None).unwrap();
        column.close().unwrap();
        let some: Vec<ByteArray> = values.iter().step_by(2).map(|&v| long(v)).collect();
        let levels: Vec<i16> = (0..values.len()).map(|i| i16::from(i % 2 == 0)).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&some, Some(&levels), None).unwrap();
        column.close().unwrap();
        // Rows: two elements, one of them null; none; null; then one each.
        let def: Vec<i16> = [3, 2, 1, 0].into_iter().chain([3; 9]).collect();
        let rep: Vec<i16> = [0, 1, 0, 0].into_iter().chain([0; 9]).collect();
        let items: Vec<ByteArray> =
            values.iter().take(10).map(|&v| if v % 2 == 0 { short(v) } else { long(v) }).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&items, Some(&def), Some(&rep)).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();

        let text = |v: i128| {
            format!("{}{}.{:02}", if v < 0 { "-" } else { "" }, v.abs() / 100, v.abs() % 100)
        };
        let mut expected = String::from("d,n,l\n");
        for (i, &v) in values.iter().enumerate() {
            let null = if i % 2 == 0 { text(v) } else { String::new() };
            let list = match i {
                0 => format!("\"[\"\"{}\"\",null]\"", text(values[0])),
                1 => "[]".into(),
                2 => String::new(),
                _ => format!("\"[\"\"{}\"\"]\"", text(values[i - 2])),
            };
            expected += &format!("{},{null},{list}\n", text(v));
        }
        let (from, out) = (at(&scratch, "d.parquet"), at(&scratch, "o.csv"));
        npk(&["convert", "-q", &from, &out, "--nested", "json"]);
        assert_eq!(std::fs::read_to_string(&out).unwrap(), expected, "{precision}");
        // And through a store.
        npk(&["convert", "-q", &from, &at(&scratch, "s.npk")]);
        npk(&["convert", "-q", "-f", &at(&scratch, "s.npk"), &out, "--nested", "json"]);
        assert_eq!(std::fs::read_to_string(&out).unwrap(), expected, "{precision}");
    }
}

/// Where statistics are in the page index alone, nulls and values are the same.
#[test]
fn statistics_of_pages_alone_serve() {
    let scratch = Scratch::new();
    let message =
        "message m { optional int32 a; required int32 b; optional group s { optional int32 c; } }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(message).unwrap());
    let mut answers = Vec::new();
    for level in [EnabledStatistics::None, EnabledStatistics::Chunk, EnabledStatistics::Page] {
        let properties = WriterProperties::builder()
            .set_statistics_enabled(level)
            .set_data_page_row_count_limit(3)
            .set_write_batch_size(1)
            .build();
        let file = std::fs::File::create(scratch.join("p.parquet")).unwrap();
        let mut writer =
            SerializedFileWriter::new(file, schema.clone(), Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let values: Vec<i32> = (0..20).collect();
        let some = [[1i16, 1, 1, 0].repeat(5), vec![1; 20], [2i16, 2, 1, 0].repeat(5)];
        for (levels, most) in some.iter().zip([1, 1, 2]) {
            let count = levels.iter().filter(|&&l| l == most).count();
            let mut column = group.next_column().unwrap().unwrap();
            let levels = (count < 20).then_some(&levels[..]);
            column.typed::<Int32Type>().write_batch(&values[..count], levels, None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        let bytes = std::fs::read(scratch.join("p.parquet")).unwrap();
        let out = at(&scratch, "p.csv");
        npk(&["convert", "-q", "-f", &at(&scratch, "p.parquet"), &out, "--nested", "json"]);
        answers.push((std::fs::read_to_string(&out).unwrap(), bytes.len()));
    }
    let lines: Vec<&str> = answers[0].0.lines().collect();
    assert_eq!(lines.len(), 21);
    assert!(lines[4].starts_with(",3,"), "{}", lines[4]);
    assert!(answers.iter().all(|(text, _)| *text == answers[0].0));
    // They are there only where they were asked for.
    assert!(answers[0].1 < answers[1].1 && answers[1].1 < answers[2].1);
}

/// Files with a page index, by pyarrow: every row from anywhere.
#[test]
#[ignore = "asks the real libraries"]
fn page_indexes_of_pyarrow_change_nothing() {
    let scratch = Scratch::new();
    python(
        scratch.path(),
        "
import pyarrow as pa, pyarrow.parquet as pq
n = 5000
t = pa.table({'a': pa.array([i if i % 3 else None for i in range(n)]), 's': pa.array([{'x': i, 'y': ['q'] * (i % 3)} if i % 5 else None for i in range(n)])})
for version in ['1.0', '2.0']:
    pq.write_table(t, version + '.parquet', write_page_index=True, data_page_size=200, row_group_size=1700, data_page_version=version)
",
    );
    for version in ["1.0", "2.0"] {
        let (from, out) = (
            at(&scratch, &format!("{version}.parquet")),
            at(&scratch, &format!("o{version}.parquet")),
        );
        npk(&["convert", "-q", &from, &at(&scratch, &format!("{version}.npk"))]);
        npk(&["convert", "-q", &at(&scratch, &format!("{version}.npk")), &out]);
        npk(&[
            "convert",
            "-q",
            &from,
            &at(&scratch, &format!("part{version}.parquet")),
            "--rows",
            "1690:3411:7",
        ]);
    }
    python(
        scratch.path(),
        "
import pyarrow.parquet as pq
for version in ['1.0', '2.0']:
    t = pq.read_table(version + '.parquet')
    assert pq.read_table(f'o{version}.parquet').equals(t)
    part = pq.read_table(f'part{version}.parquet')
    assert part.to_pylist() == t.slice(1690, 3411 - 1690).to_pylist()[::7]
",
    );
}

/// A page that is larger than the memory for it is refused with the number, whoever asks first.
#[test]
fn a_page_of_texts_beyond_the_limit_is_refused_with_the_number() {
    let scratch = Scratch::new();
    let texts: Vec<String> = (0..12).map(|i| format!("{i}").repeat(1 << 20)).collect();
    let column = Arc::new(arrow_array::StringArray::from(texts)) as arrow_array::ArrayRef;
    let batch = arrow_array::RecordBatch::try_from_iter([("s", column)]).unwrap();
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_compression(Compression::ZSTD(Default::default()))
        .set_data_page_size_limit(1 << 30)
        .build();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    std::fs::write(scratch.join("s.parquet"), writer.into_inner().unwrap()).unwrap();
    let (from, out) = (at(&scratch, "s.parquet"), at(&scratch, "s.npk"));
    for strings in ["codes", "offsets"] {
        let args = ["convert", "-q", &from, &out, "--strings", strings, "-m", "8MiB"];
        let said = npk_fails(4, &args);
        assert!(said.contains("bytes of memory, which is more than the limit"), "{said}");
        assert!(said.contains("--memory-limit"), "{said}");
    }
    npk(&["convert", "-q", &from, &out]);
}

/// What a footer tells of column chunks takes memory, too.
#[test]
fn a_footer_beyond_the_limit_is_refused_with_the_number() {
    let scratch = Scratch::new();
    let message = "message m { required int32 a; }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(message).unwrap());
    let file = std::fs::File::create(scratch.join("g.parquet")).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Default::default()).unwrap();
    for i in 0..20_000 {
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int32Type>().write_batch(&[i], None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
    let from = at(&scratch, "g.parquet");
    let said = npk_fails(4, &["list", &from, "-m", "8MiB"]);
    assert!(said.contains("the footer takes ") && said.contains("--memory-limit"), "{said}");
    npk(&["convert", "-q", &from, &at(&scratch, "g.csv"), "-m", "64MiB"]);
    let text = std::fs::read_to_string(scratch.join("g.csv")).unwrap();
    assert!(text.starts_with("a\n0\n1\n") && text.ends_with("\n19999\n"));
}

/// The places of pages in the indexes are those in the file, in every row group: readers skip to
/// them. Chunks of one page have no index.
#[test]
fn pages_are_where_their_indexes_say() {
    let s = Scratch::new();
    let values = (0..100_000i64).flat_map(|i| (i * 3).to_le_bytes()).collect::<Vec<u8>>();
    npy(&s.join("a.npy"), "<i8", &[100_000], &values);
    let open = |group: &str| {
        let (from, to) = (at(&s, "a.npy"), at(&s, "a.parquet"));
        npk(&["convert", &from, &to, "--force", "--row-group-size", group]);
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let file = std::fs::File::open(&to).unwrap();
        ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).unwrap()
    };
    let small = open("10000");
    assert!(
        small.metadata().row_groups().iter().all(|g| g.column(0).offset_index_offset().is_none())
    );
    let paged = open("60000");
    for g in 0..2 {
        let index = paged.metadata().page_index_for_row_group(g);
        let pages = index.offset_index(0).unwrap().page_locations().len();
        assert!(pages > 1 && index.column_index(0).unwrap().num_pages() == pages as u64);
    }
    let middle = RowSelection::from(vec![RowSelector::skip(90_000), RowSelector::select(3)]);
    let batch = paged.with_row_selection(middle).build().unwrap().next().unwrap().unwrap();
    let found: &arrow_array::Int64Array = batch.column(0).as_any().downcast_ref().unwrap();
    assert_eq!(found.values(), &[270_000, 270_003, 270_006]);
}

/// A file of one row of texts under this schema, as writers leave it that know no Arrow.
fn texts(scratch: &Scratch, name: &str, schema: &str, cells: &[&str]) -> String {
    let schema = Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
    let file = std::fs::File::create(scratch.join(name)).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for cell in cells {
        let mut column = group.next_column().unwrap().unwrap();
        let most = column.typed::<ByteArrayType>().get_descriptor().max_def_level();
        let cell = [ByteArray::from(cell.as_bytes().to_vec())];
        let column_writer = column.typed::<ByteArrayType>();
        column_writer.write_batch(&cell, Some(&[most]), Some(&[0])).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    at(scratch, name)
}

fn schema_of(path: &str) -> String {
    let file = std::fs::File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let mut text = Vec::new();
    parquet::schema::printer::print_schema(&mut text, reader.parquet_schema().root_schema());
    String::from_utf8(text).unwrap()
}

/// Logical types that Arrow has as extension types stay, at any depth and through other formats; of
/// those that it lacks a note tells.
#[test]
fn logical_types_stay_or_are_told_of() {
    let s = Scratch::new();
    let schema = "message m { optional binary j (JSON); optional group st { optional binary k (JSON); } \
                  optional group l (LIST) { repeated group list { optional binary element (JSON); } } \
                  optional group m (MAP) { repeated group key_value { required binary key (STRING); \
                  optional binary value (JSON); } } optional binary old (UTF8); }";
    let cells = ["{\"a\": 1}", "2", "[3]", "key", "null", "text"];
    let file = texts(&s, "j.parquet", schema, &cells);
    for between in ["o.parquet", "o.arrow", "o.npk"] {
        let (between, back) = (at(&s, between), at(&s, "back.parquet"));
        npk(&["convert", &file, &between, "-f"]);
        npk(&["convert", &between, &back, "-f"]);
        let found = schema_of(&back);
        assert_eq!(found.matches("(JSON)").count(), 4, "{found}");
        let csv = ["convert", "-q", &back, "-", "--to", "csv", "--nested", "json"];
        let expected = "\"{\"\"a\"\": 1}\",2,\"[\"\"[3]\"\"]\",";
        assert!(npk(&csv).contains(expected), "{}", npk(&csv));
    }
    let file = texts(&s, "e.parquet", "message m { optional binary e (ENUM); }", &["x"]);
    let told = npk_any(&["convert", &file, &at(&s, "e2.parquet")]);
    let told = String::from_utf8(told.stderr).unwrap();
    assert!(told.contains("e: it holds Parquet's type ENUM, which is read as "), "{told}");
}

/// An Arrow file of one column.
fn arrow(scratch: &Scratch, name: &str, array: arrow_array::ArrayRef) -> String {
    let batch = arrow_array::RecordBatch::try_from_iter([("c", array)]).unwrap();
    let mut writer = arrow_ipc::writer::FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    std::fs::write(scratch.join(name), writer.into_inner().unwrap()).unwrap();
    at(scratch, name)
}

#[test]
fn types_that_parquet_lacks_are_refused_by_name() {
    let s = Scratch::new();
    let data = arrow_data::ArrayData::builder(arrow_schema::DataType::FixedSizeBinary(0)).len(2);
    let nothing = arrow_array::make_array(data.add_buffer(vec![0u8; 0].into()).build().unwrap());
    let negative = arrow_array::Decimal128Array::from(vec![123]);
    let negative = negative.with_precision_and_scale(5, -2).unwrap();
    for (name, array) in
        [("b.arrow", nothing), ("d.arrow", Arc::new(negative) as arrow_array::ArrayRef)]
    {
        let file = arrow(&s, name, array);
        let said = npk_fails(4, &["convert", &file, &at(&s, "o.parquet")]);
        assert!(said.contains("c: Parquet cannot hold ") && said.contains("hint: "), "{said}");
    }
}

#[test]
fn list_views_of_maps_are_read_back() {
    let s = Scratch::new();
    let mut maps = arrow_array::builder::MapBuilder::new(
        None,
        arrow_array::builder::StringBuilder::new(),
        arrow_array::builder::Int64Builder::new(),
    );
    maps.keys().append_value("k");
    maps.values().append_value(1);
    maps.append(true).unwrap();
    let maps: arrow_array::ArrayRef = Arc::new(maps.finish());
    let item =
        |t: &arrow_schema::DataType| Arc::new(arrow_schema::Field::new("item", t.clone(), true));
    let of_maps = arrow_array::ListViewArray::new(
        item(maps.data_type()),
        vec![0, 0].into(),
        vec![1, 0].into(),
        maps.clone(),
        None,
    );
    let lists: arrow_array::ArrayRef = Arc::new(arrow_array::ListArray::new(
        item(maps.data_type()),
        arrow_buffer::OffsetBuffer::new(vec![0, 1].into()),
        maps,
        None,
    ));
    let of_lists = arrow_array::LargeListViewArray::new(
        item(lists.data_type()),
        vec![0].into(),
        vec![1].into(),
        lists,
        None,
    );
    let both: [arrow_array::ArrayRef; 2] = [Arc::new(of_maps), Arc::new(of_lists)];
    for array in both {
        let file = arrow(&s, "v.arrow", array);
        let (stored, back) = (at(&s, "v.parquet"), at(&s, "back.arrow"));
        npk(&["convert", &file, &stored, "-f"]);
        npk(&["convert", &stored, &back, "-f"]);
        npk(&["diff", &file, &back]);
        let kind = |path: &str| npk(&["list", "-l", path]).split('\t').nth(1).map(str::to_string);
        assert_eq!(kind(&file), kind(&back));
    }
}
