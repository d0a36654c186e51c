//! Arrow files and streams in forms that today's libraries do not write: messages made by hand,
//! streams that follow one another, metadata that is not UTF-8.

use std::path::Path;

use arrow_ipc as ipc;
use flatbuffers::{FlatBufferBuilder, UnionWIPOffset, WIPOffset};
use npk::error::ErrorKind;

use crate::support::{Scratch, at, fixture, inspect, npk, npk_any, npk_fails, python};

/// A message: its metadata behind the mark and the length, then its body.
fn message(
    version: ipc::MetadataVersion,
    metadata: &[(&str, &str)],
    body: &[u8],
    header: impl FnOnce(
        &mut FlatBufferBuilder<'static>,
    ) -> (ipc::MessageHeader, WIPOffset<UnionWIPOffset>),
) -> Vec<u8> {
    let mut fbb = FlatBufferBuilder::new();
    let (header_type, header) = header(&mut fbb);
    let mut entries = Vec::new();
    for (key, value) in metadata {
        let (key, value) = (Some(fbb.create_string(key)), Some(fbb.create_string(value)));
        entries.push(ipc::KeyValue::create(&mut fbb, &ipc::KeyValueArgs { key, value }));
    }
    let custom_metadata = (!entries.is_empty()).then(|| fbb.create_vector(&entries));
    let args = ipc::MessageArgs {
        version,
        header_type,
        header: Some(header),
        bodyLength: body.len() as i64,
        custom_metadata,
    };
    let root = ipc::Message::create(&mut fbb, &args);
    fbb.finish(root, None);
    let mut text = fbb.finished_data().to_vec();
    text.resize(text.len().next_multiple_of(8), 0);
    let mut out = vec![0xff; 4];
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text);
    out.extend(body);
    out
}

/// A schema with one column `a` of int64.
fn schema(version: ipc::MetadataVersion, endianness: ipc::Endianness) -> Vec<u8> {
    message(version, &[], &[], |fbb| {
        let int = ipc::Int::create(fbb, &ipc::IntArgs { bitWidth: 64, is_signed: true });
        let (name, children) = (
            Some(fbb.create_string("a")),
            Some(fbb.create_vector::<WIPOffset<ipc::Field<'_>>>(&[])),
        );
        let type_ = Some(int.as_union_value());
        let args = ipc::FieldArgs {
            name,
            nullable: true,
            type_type: ipc::Type::Int,
            type_,
            children,
            ..Default::default()
        };
        let field = ipc::Field::create(fbb, &args);
        let fields = Some(fbb.create_vector(&[field]));
        let schema =
            ipc::Schema::create(fbb, &ipc::SchemaArgs { endianness, fields, ..Default::default() });
        (ipc::MessageHeader::Schema, schema.as_union_value())
    })
}

/// A record batch of five rows whose values are this buffer.
fn batch(version: ipc::MetadataVersion, metadata: &[(&str, &str)], values: &[u8]) -> Vec<u8> {
    let mut body = values.to_vec();
    body.resize(body.len().next_multiple_of(8), 0);
    message(version, metadata, &body, |fbb| {
        let nodes = Some(fbb.create_vector(&[ipc::FieldNode::new(5, 0)]));
        let buffers =
            Some(fbb.create_vector(&[
                ipc::Buffer::new(0, 0),
                ipc::Buffer::new(0, values.len() as i64),
            ]));
        let args = ipc::RecordBatchArgs { length: 5, nodes, buffers, ..Default::default() };
        (ipc::MessageHeader::RecordBatch, ipc::RecordBatch::create(fbb, &args).as_union_value())
    })
}

const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
const V4: ipc::MetadataVersion = ipc::MetadataVersion::V4;

fn csv(path: &str) -> String {
    npk(&["convert", "-q", path, "-", "--to", "csv"])
}

/// Arrow 0.17 told of compression in the metadata of the message, before batches had a field for
/// it.
#[test]
fn the_compression_of_arrow_0_17_is_seen() {
    let s = Scratch::new();
    let lz4 = fixture("good/feather/arrow-0.17-lz4.feather");
    assert_eq!(csv(lz4.to_str().unwrap()), "a\n0\n1\n2\n3\n4\n");
    let numbers: Vec<u8> = (0..5i64).flat_map(i64::to_le_bytes).collect();
    let packed =
        [40u64.to_le_bytes().to_vec(), zstd::bulk::compress(&numbers, 1).unwrap()].concat();
    let write = |name: &str| {
        let metadata = [("ARROW:experimental_compression", name)];
        let parts =
            [schema(V4, ipc::Endianness::Little), batch(V4, &metadata, &packed), END.to_vec()];
        std::fs::write(s.join("old.arrows"), parts.concat()).unwrap();
    };
    write("ZSTD");
    assert_eq!(csv(&at(&s, "old.arrows")), "a\n0\n1\n2\n3\n4\n");
    write("BROTLI");
    let told = npk_fails(4, &["convert", &at(&s, "old.arrows"), &at(&s, "o.npk")]);
    assert!(told.contains("'BROTLI'"), "{told}");
}

#[test]
fn values_of_big_endian_machines_are_turned() {
    let s = Scratch::new();
    let numbers: Vec<u8> = [1i64, -2, 3, 1 << 40, i64::MIN].map(i64::to_be_bytes).concat();
    let head = schema(V4, ipc::Endianness::Big);
    let parts = [head.clone(), batch(V4, &[], &numbers), END.to_vec()];
    std::fs::write(s.join("big.arrows"), parts.concat()).unwrap();
    assert_eq!(csv(&at(&s, "big.arrows")), "a\n1\n-2\n3\n1099511627776\n-9223372036854775808\n");
    write_packed(&s, &head, &numbers);
    assert_eq!(csv(&at(&s, "packed.arrows")), "a\n1\n-2\n3\n1099511627776\n-9223372036854775808\n");
    let told = npk_fails(4, &["convert", "-m", "1MiB", &at(&s, "large.arrows"), &at(&s, "o.npk")]);
    assert!(told.contains("a buffer takes"), "{told}");
}

/// Compressed values of a big-endian machine; and some of 8 MiB in a few bytes.
fn write_packed(s: &Scratch, head: &[u8], numbers: &[u8]) {
    let large = vec![0; 8 << 20];
    for (name, values) in [("packed", numbers), ("large", &large)] {
        let size = (values.len() as u64).to_le_bytes().to_vec();
        let packed = [size, zstd::bulk::compress(values, 1).unwrap()].concat();
        let metadata = [("ARROW:experimental_compression", "ZSTD")];
        let parts = [head.to_vec(), batch(V4, &metadata, &packed), END.to_vec()];
        std::fs::write(s.join(&format!("{name}.arrows")), parts.concat()).unwrap();
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn compressed_values_of_big_endian_machines_are_those_that_arrow_sees() {
    let s = Scratch::new();
    let numbers: Vec<u8> = [1i64, -2, 3, 1 << 40, i64::MIN].map(i64::to_be_bytes).concat();
    write_packed(&s, &schema(V4, ipc::Endianness::Big), &numbers);
    npk(&["convert", &at(&s, "packed.arrows"), &at(&s, "o.feather")]);
    python(
        s.path(),
        "import pyarrow as pa, pyarrow.feather as f\n\
         want = pa.ipc.open_stream('packed.arrows').read_all()\n\
         assert want['a'][1].as_py() == -2, want\n\
         assert f.read_table('o.feather').equals(want)",
    );
}

/// Version 1 of Feather, all of its types.
#[test]
#[ignore = "asks the real libraries"]
fn feather_of_version_1_is_what_arrow_reads() {
    let s = Scratch::new();
    python(
        s.path(),
        "
import datetime, warnings, pyarrow as pa, pyarrow.feather as f
warnings.simplefilter('ignore')
n = 21
def nulls(values): return [None if i % 5 == 2 else v for i, v in enumerate(values)]
plain = {str(t): (t, list(range(n))) for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64(),
    pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.float32(), pa.float64(), pa.date32(),
    pa.timestamp('s'),
    pa.timestamp('ms', 'Europe/Berlin'), pa.timestamp('us', 'UTC'), pa.timestamp('ns'))}
plain['bool'] = pa.bool_(), [i % 3 == 0 for i in range(n)]
words = ['', 'ä', 'long enough', 'x' * 100] * 5 + ['end']
for t in (pa.string(), pa.large_string()): plain[str(t)] = t, words
for t in (pa.binary(), pa.large_binary()): plain[str(t)] = t, [w.encode() for w in words]
columns = {}
for name, (t, values) in plain.items():
    columns[name], columns[name + '?'] = pa.array(values, t), pa.array(nulls(values), t)
for ordered in (False, True):
    codes = pa.array(nulls([i % 4 for i in range(n)]), pa.int8())
    columns['words%d' % ordered] = pa.DictionaryArray.from_arrays(codes, words[:4], ordered=ordered)
f.write_feather(pa.table(columns), 'all.feather', version=1)
f.write_feather(pa.table(columns).slice(0, 0), 'empty.feather', version=1)
",
    );
    for name in ["all", "empty"] {
        let path = at(&s, &format!("{name}.feather"));
        npk(&["convert", &path, &at(&s, &format!("{name}2.feather"))]);
        npk(&["convert", &path, &at(&s, &format!("{name}.npk"))]);
        npk(&["convert", &at(&s, &format!("{name}.npk")), &at(&s, &format!("{name}3.feather"))]);
    }
    python(
        s.path(),
        "
import warnings, pyarrow.feather as f
warnings.simplefilter('ignore')
for name in ('all', 'empty'):
    want = f.read_table(name + '.feather')
    for other in '23':
        got = f.read_table(name + other + '.feather')
        for a, b in zip(want.columns, got.columns):
            assert str(a.type) == str(b.type) and a.to_pylist() == b.to_pylist(), (other, a, b)
        assert want.schema.equals(got.schema), (other, want.schema, got.schema)
",
    );
    let whole = std::fs::read(s.join("all.feather")).unwrap();
    for cut in [8, 100, whole.len() / 2, whole.len() - 3] {
        std::fs::write(s.join("cut.feather"), &whole[..cut]).unwrap();
        npk_fails(7, &["convert", &at(&s, "cut.feather"), &at(&s, "cut.npk")]);
    }
    crate::support::mutants(&whole, 300, |bytes| {
        std::fs::write(s.join("mutant.feather"), bytes).unwrap();
        let _ = crate::fuzz::reading::read_some("feather", &s.join("mutant.feather"), 2);
    });
}

#[test]
fn what_is_not_this_version_is_refused_by_name() {
    let s = Scratch::new();
    let little = ipc::Endianness::Little;
    let cases = [
        (schema(ipc::MetadataVersion(5), little), "version 6 of Arrow's metadata is newer"),
        (schema(ipc::MetadataVersion::V3, little), "version 3 of Arrow's metadata (before"),
        (
            [schema(V4, little), batch(ipc::MetadataVersion(9), &[], &[0; 40])].concat(),
            "version 10 of",
        ),
    ];
    for (bytes, words) in cases {
        std::fs::write(s.join("x.arrows"), bytes).unwrap();
        let told = npk_fails(4, &["list", "--from", "feather", &at(&s, "x.arrows")]);
        assert!(told.contains(words), "{told}");
    }
}

fn make_streams(directory: &Path) {
    let code = "import pyarrow as pa\n\
                def stream(name, *tables):\n\
                \x20   with open(name, 'wb') as f:\n\
                \x20       for t in tables:\n\
                \x20           with pa.ipc.new_stream(f, t.schema) as w: w.write_table(t)\n\
                def table(a, b): return pa.table({'a': a, 'b': pa.array(b).dictionary_encode()})\n\
                one, two = table([1, 2], ['x', 'y']), table([3], ['z'])\n\
                stream('one.arrows', one)\n\
                stream('same.arrows', one, two, one)\n\
                stream('other.arrows', one, pa.table({'a': [1.5]}))\n\
                stream('noted.arrows', one, two.replace_schema_metadata({'k': 'v'}))";
    python(directory, code);
}

#[test]
#[ignore = "asks the real libraries"]
fn streams_that_follow_one_another_are_one_table_or_refused() {
    let s = Scratch::new();
    make_streams(s.path());
    let all = "a,b\n1,x\n2,y\n3,z\n1,x\n2,y\n";
    assert_eq!(csv(&at(&s, "same.arrows")), all);
    let one = std::fs::read(s.join("one.arrows")).unwrap();
    let whole = std::fs::read(s.join("same.arrows")).unwrap();
    // Padding between and behind them; a stream that ends without a mark.
    let (first, rest) = whole.split_at(one.len());
    std::fs::write(s.join("padded.arrows"), [first, &[0; 24], rest, &[0; 5000]].concat()).unwrap();
    assert_eq!(csv(&at(&s, "padded.arrows")), all);
    std::fs::write(s.join("unmarked.arrows"), [&first[..first.len() - 8], rest].concat()).unwrap();
    assert_eq!(csv(&at(&s, "unmarked.arrows")), all);
    let told = npk_fails(4, &["list", &at(&s, "other.arrows")]);
    assert!(told.contains(&format!("another stream begins at byte {}", one.len())), "{told}");
    std::fs::write(s.join("junk.arrows"), [&one[..], b"something else entirely"].concat()).unwrap();
    let told = npk_fails(4, &["list", &at(&s, "junk.arrows")]);
    assert!(told.contains(&format!("ends at byte {}", one.len())), "{told}");
    let told =
        String::from_utf8(npk_any(&["convert", &at(&s, "noted.arrows"), &at(&s, "n.npk")]).stderr)
            .unwrap();
    assert!(
        told.contains(&format!(
            "metadata of the stream that begins at byte {} is left out",
            one.len()
        )),
        "{told}"
    );
}

/// The footer of the last file tells of places in the first.
#[test]
#[ignore = "asks the real libraries"]
fn files_joined_end_to_end_are_refused() {
    let s = Scratch::new();
    let code = "import pyarrow as pa, pyarrow.feather as pf, pyarrow.parquet as pq\n\
                for n, v in (('a', [1, 2]), ('b', [3, 4])):\n\
                \x20   t = pa.table({'x': v})\n\
                \x20   pf.write_feather(t, n + '.feather', compression='uncompressed')\n\
                \x20   pq.write_table(t, n + '.parquet')";
    python(s.path(), code);
    for ending in ["feather", "parquet"] {
        let [a, b] = ["a", "b"].map(|n| std::fs::read(s.join(&format!("{n}.{ending}"))).unwrap());
        let path = at(&s, &format!("joined.{ending}"));
        std::fs::write(&path, [&a[..], &b].concat()).unwrap();
        let told = npk_fails(4, &["convert", &path, &at(&s, "o.npk")]);
        assert!(
            told.contains("follow one another") && told.contains(&format!("at byte {}", a.len())),
            "{told}"
        );
        std::fs::write(&path, [&b[..], b"behind the end"].concat()).unwrap();
        let told = npk_fails(7, &["convert", &path, &at(&s, "o.npk")]);
        assert!(
            ending == "feather"
                || told.contains(&format!(
                    "14 bytes follow the end of the Parquet file at byte {}",
                    b.len()
                )),
            "{told}"
        );
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn metadata_that_is_not_utf_8_is_named_and_the_rest_is_kept() {
    let s = Scratch::new();
    let code = "import pyarrow as pa, pyarrow.feather as pf, pyarrow.parquet as pq\n\
                bad = {b'good': 'dü'.encode(), b'bad': b'caf\\xe9', b'k\\xff': b'1'}\n\
                x = pa.field('x', pa.int64(), metadata={b'unit': b'\\xb5m', b'about': b'length'})\n\
                inner = pa.field('s', pa.struct([pa.field('y', pa.int8(), metadata={b'worse': b'\\x80'})]))\n\
                t = pa.Table.from_arrays([pa.array([1, 2]), pa.array([{'y': 1}, {'y': 2}], inner.type)],\n\
                                         schema=pa.schema([x, inner], metadata=bad))\n\
                pf.write_feather(t, 't.feather')\n\
                pq.write_table(t, 't.parquet')\n\
                with pa.ipc.new_stream('t.arrows', t.schema) as w: w.write_table(t)";
    python(s.path(), code);
    for ending in ["feather", "parquet", "arrows"] {
        let from = at(&s, &format!("t.{ending}"));
        let output = npk_any(&["convert", "-f", &from, &at(&s, "out.feather")]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{ending}: {told}");
        for words in [
            "the metadata 'bad' is",
            "the metadata 'k?' is",
            "'unit' of the column 'x'",
            "'worse' of the column 'y'",
        ] {
            assert!(told.contains(words), "{ending}: {words}: {told}");
        }
        let code = "import pyarrow.feather as pf\n\
                    t = pf.read_table('out.feather')\n\
                    assert t.to_pydict() == {'x': [1, 2], 's': [{'y': 1}, {'y': 2}]}, t\n\
                    assert t.schema.metadata == {b'good': 'dü'.encode()}, t.schema.metadata\n\
                    assert t.schema.field('x').metadata == {b'about': b'length'}, t.schema.field('x').metadata\n\
                    assert not t.schema.field('s').type[0].metadata";
        python(s.path(), code);
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn metadata_of_footers_is_kept_and_that_of_batches_named() {
    let s = Scratch::new();
    let code = "import pyarrow as pa\n\
                t = pa.table({'x': [1]}).replace_schema_metadata({'a': '1', 'b': '2'})\n\
                with pa.ipc.new_file('t.arrow', t.schema, metadata={'a': '1', 'b': 'other', 'c': '3'}) as w:\n\
                \x20   w.write_batch(t.to_batches()[0], custom_metadata={'lost': 'x'})";
    python(s.path(), code);
    let attributes = inspect(&s.join("t.arrow"))["metadata"].clone();
    assert_eq!(attributes, serde_json::json!({"a": "1", "b": "2", "c": "3"}));
    let told =
        String::from_utf8(npk_any(&["convert", &at(&s, "t.arrow"), &at(&s, "o.npk")]).stderr)
            .unwrap();
    assert!(
        told.contains("'b' of the footer is left out")
            && told.contains("metadata of single record batches is left out"),
        "{told}"
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn tensors_are_refused_by_name() {
    let s = Scratch::new();
    let code = "import numpy as np, pyarrow as pa\n\
                with pa.OSFile('t.arrow', 'wb') as f: pa.ipc.write_tensor(pa.Tensor.from_numpy(np.eye(3)), f)";
    python(s.path(), code);
    let source = npk::formats::by_name("feather")
        .unwrap()
        .open(&npk::storage::Location::local(s.join("t.arrow")), &Default::default());
    let error = source.err().unwrap();
    assert!(error.kind() == ErrorKind::Refused && error.message().contains("tensor"), "{error}");
}
