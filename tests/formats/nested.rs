//! Nested columns: lists, structs, maps and their mixtures, with nulls at every level.

use crate::support::{Scratch, npk_command, python};

fn run(scratch: &Scratch, args: &[&str]) -> String {
    let output = npk_command().args(args).current_dir(scratch.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap() + &said
}

/// Random tables of these seeds and at least so many rows, as files of both formats.
fn tables(scratch: &Scratch, seeds: std::ops::Range<u32>, rows: u32) -> Vec<String> {
    let (start, end) = (seeds.start, seeds.end);
    python(scratch.path(), &format!("import nested\nnested.write(range({start}, {end}), {rows})"));
    let files = files(scratch);
    assert!(files.len() > (end - start) as usize, "{files:?}");
    files
}

fn files(scratch: &Scratch) -> Vec<String> {
    let mut files: Vec<String> = std::fs::read_dir(scratch.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    files
}

#[test]
#[ignore = "asks the real libraries"]
fn random_types_pass_between_parquet_and_feather() {
    let scratch = Scratch::new();
    for file in tables(&scratch, 0..24, 0) {
        let other = if file.ends_with("parquet") { "feather" } else { "parquet" };
        run(&scratch, &["convert", &file, &format!("same-{file}")]);
        run(&scratch, &["convert", &file, &format!("other-{file}.{other}")]);
        run(&scratch, &["diff", &file, &format!("same-{file}")]);
    }
    python(scratch.path(), "import nested\nnested.compare('same')\nnested.compare('other')");
}

/// Types that Parquet lacks pass from file to file, and are refused by name elsewhere.
#[test]
#[ignore = "asks the real libraries"]
fn types_without_a_flat_form_pass_between_arrow_files() {
    let scratch = Scratch::new();
    python(
        scratch.path(),
        "
import pyarrow as pa, pyarrow.feather as feather
n = 100
ints, texts = pa.array([i if i % 3 else None for i in range(n)], 'int64'), pa.array([f't{i % 7}' for i in range(n)])
ids = pa.array([i % 2 for i in range(n)], 'int8')
t = pa.table({
    'sparse': pa.UnionArray.from_sparse(ids, [ints, texts]),
    'dense': pa.UnionArray.from_dense(ids, pa.array([i // 2 for i in range(n)], 'int32'), [ints, texts]),
    'runs': pa.RunEndEncodedArray.from_arrays(pa.array([40, 60, n], 'int32'), pa.array(['a', None, 'c'])),
    'interval': pa.array([(i, i * 2, i * 3) if i % 4 else None for i in range(n)], pa.month_day_nano_interval()),
    'view': pa.array([[i] * (i % 3) if i % 5 else None for i in range(n)], pa.list_view(pa.int32())),
    'bigview': pa.array([[str(i)] * (i % 3) for i in range(n)], pa.large_list_view(pa.string_view())),
    'texts': pa.array([['long enough for a buffer ' + str(i)] * (i % 3) for i in range(n)], pa.list_(pa.string_view())),
    'none': pa.array([[None] * (i % 2) for i in range(n)], pa.list_(pa.null())),
    'empty': pa.array([{} if i % 2 else None for i in range(n)], pa.struct([])),
    'inside': pa.array([{'a': [(1, 2, 3)]}] * n, pa.struct([('a', pa.list_(pa.month_day_nano_interval()))])),
    'coded': pa.ListArray.from_arrays(pa.array(range(0, n + 1)), texts.dictionary_encode()),
})
for codec in ['zstd', 'uncompressed']: feather.write_feather(t, codec + '.feather', compression=codec, chunksize=30)
",
    );
    for codec in ["zstd", "uncompressed"] {
        let file = format!("{codec}.feather");
        run(&scratch, &["convert", &file, &format!("out-{file}")]);
        run(&scratch, &["convert", &file, &format!("part-{file}"), "--rows", "7:91:2"]);
    }
    python(
        scratch.path(),
        "
import pyarrow.feather as feather, pyarrow as pa
for codec in ['zstd', 'uncompressed']:
    a, b = feather.read_table(codec + '.feather'), feather.read_table(f'out-{codec}.feather')
    assert a.schema.equals(b.schema, check_metadata=True), (a.schema, b.schema)
    b.validate(full=True)
    part = feather.read_table(f'part-{codec}.feather')
    for name in a.column_names:
        assert a[name].to_pylist() == b[name].to_pylist(), name
        assert a[name].to_pylist()[7:91:2] == part[name].to_pylist(), name
",
    );
    let output = npk_command()
        .args(["convert", "zstd.feather", "no.parquet", "-a", "sparse,interval,texts"])
        .current_dir(scratch.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("sparse: Parquet cannot hold union"), "{said}");
    assert!(!said.contains("texts"), "{said}");
}

/// Old ways to write lists, and structs that are null as a whole.
#[test]
#[ignore = "asks the real libraries"]
fn a_column_can_be_chosen_by_its_own_name_or_by_a_field() {
    let scratch = Scratch::new();
    python(
        scratch.path(),
        "
import pyarrow as pa, pyarrow.parquet as pq
users = [{'name': 'a', 'at': {'x': 1, 'y': None}}, None, {'name': None, 'at': None}, {'name': 'd', 'at': {'x': 4, 'y': [5]}}]
t = pa.table({'id': [1, 2, 3, 4], 'user': pa.array(users, pa.struct([('name', pa.string()), ('at', pa.struct([('x', pa.int64()), ('y', pa.list_(pa.int64()))]))]))})
pq.write_table(t, 'in.parquet')
",
    );
    run(&scratch, &["convert", "in.parquet", "whole.parquet", "-a", "user"]);
    run(&scratch, &["convert", "in.parquet", "parts.parquet", "-a", "user.name,user.at.x"]);
    run(&scratch, &["convert", "in.parquet", "rest.parquet", "-x", "user.at.*"]);
    python(
        scratch.path(),
        "
import pyarrow.parquet as pq
t = pq.read_table('in.parquet')
assert pq.read_table('whole.parquet').equals(t.select(['user']))
parts = pq.read_table('parts.parquet')
assert parts.to_pydict() == {'user.name': ['a', None, None, 'd'], 'user.at.x': [1, None, None, 4]}, parts
assert pq.read_table('rest.parquet').column_names == ['id', 'user.name']
",
    );
    assert_eq!(run(&scratch, &["list", "whole.parquet"]), "user.name\nuser.at.x\nuser.at.y\n");
    let listed = run(&scratch, &["list", "-l", "in.parquet"]);
    assert!(
        listed.contains("user\tstruct<name: string, at: struct<x: int64, y: list<int64>>>\t4\t"),
        "{listed}"
    );
    let shown = run(&scratch, &["inspect", "in.parquet", "--head", "4", "-a", "user"]);
    assert!(shown.contains(r#"{"name":"a","at":{"x":1,"y":null}}"#), "{shown}");
}

#[test]
#[ignore = "asks the real libraries"]
fn random_types_come_back_from_plain_arrays() {
    let scratch = Scratch::new();
    let files = tables(&scratch, 30..50, 1);
    for (i, file) in files.iter().enumerate() {
        let through = ["npk", "h5", "zarr"][i % 3];
        let middle = format!("m{i}.{through}");
        run(&scratch, &["convert", file, &middle, "--layout", "columns"]);
        run(&scratch, &["convert", &middle, &format!("through-{file}")]);
        if through == "npk" {
            run(&scratch, &["diff", file, &middle]);
            assert_eq!(checksums(&scratch, file), checksums(&scratch, &middle), "{file}");
            run(&scratch, &["convert", &middle, &format!("npz{i}.npz"), "--strings", "offsets"]);
        }
    }
    python(scratch.path(), "import nested\nnested.compare('through')");
}

/// Some rows of them: from files, and from the plain arrays that they became.
#[test]
#[ignore = "asks the real libraries"]
fn rows_of_random_types_are_chosen() {
    let slices = ["0:0", "3:", "::2", ":-3", "10:40:7", "16:18", "35:39", "-1:"];
    let scratch = Scratch::new();
    for (i, file) in tables(&scratch, 530..536, 1).iter().enumerate() {
        let mut sources = vec![file.clone()];
        for middle in ["npk", "h5", "zarr"] {
            sources.push(format!("{file}-.{middle}"));
            run(&scratch, &["convert", file, &sources[sources.len() - 1], "--layout", "columns"]);
        }
        for (j, source) in sources.iter().enumerate() {
            let at = (i + 3 * j) % slices.len();
            let rows = format!("--rows={}", slices[at]);
            let through = [("npk", "feather"), ("zarr", "parquet"), ("h5", "feather")][i % 3];
            for to in ["parquet", "feather"] {
                run(&scratch, &["convert", source, &format!("rows-{at}-{file}-{j}.{to}"), &rows]);
            }
            let some = format!("some-{file}-{j}.{}", through.0);
            run(&scratch, &["convert", source, &some, &rows, "--layout", "columns"]);
            let back = format!("rows-{at}-{file}-{j}-.{}", through.1);
            run(&scratch, &["convert", &some, &back]);
        }
    }
    python(scratch.path(), &format!("import nested\nnested.compare_rows({slices:?})"));
}

/// Whatever a schema says comes back: NOT NULL, metadata of fields, dictionaries, the pandas index.
#[test]
#[ignore = "asks the real libraries"]
fn tables_come_back_whole() {
    let scratch = Scratch::new();
    python(scratch.path(), "import tables_kept\ntables_kept.write()");
    for entry in std::fs::read_dir(scratch.path()).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let format = file.rsplit('.').next().unwrap();
        for middle in ["npk", "h5", "zarr"] {
            let middle = format!("{file}.{middle}");
            run(&scratch, &["convert", &file, &middle]);
            run(&scratch, &["convert", &middle, &format!("{middle}.{format}")]);
        }
    }
    python(scratch.path(), "import tables_kept\ntables_kept.compare()");
}

fn checksums(scratch: &Scratch, path: &str) -> Vec<(String, String)> {
    let text = run(scratch, &["inspect", "--json", "--checksum", path]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let text = |v: &serde_json::Value| v.as_str().unwrap().to_string();
    let arrays = json["arrays"].as_array().unwrap();
    arrays.iter().map(|a| (text(&a["name"]), text(&a["checksum"]))).collect()
}

const ORDERS: &str = "
import pyarrow as pa, pyarrow.parquet as pq, pyarrow.feather as feather
item = pa.struct([pa.field('sku', pa.string()), pa.field('n', pa.int32(), nullable=False)])
t = pa.table({
    'id': pa.array([1, 2, 3, 4], 'int64'),
    'items': pa.array([[{'sku': 'a', 'n': 1}, None], [], None, [{'sku': None, 'n': 7}, {'sku': 'b', 'n': 9}]], pa.list_(item)),
    'tags': pa.array([[('x', 1.5)], [], None, [('y', None), ('z', 2.5)]], pa.map_(pa.string(), pa.float64())),
    'deep': pa.array([[[1], [2, 3]], [[]], None, [None, [4]]], pa.large_list(pa.list_(pa.int16()))),
}, metadata={'who': 'me'})
";

/// The names, types and values of the plain arrays, as h5py and numpy see them.
#[test]
#[ignore = "asks the real libraries"]
fn parts_are_plain_arrays() {
    let scratch = Scratch::new();
    python(scratch.path(), &format!("{ORDERS}\npq.write_table(t, 'o.parquet')"));
    let said = run(&scratch, &["convert", "o.parquet", "o.h5"]);
    assert!(
        said.contains(
            "note: tags: map<string, float64> is written as tags.offsets, tags.valid, tags.keys, …"
        ),
        "{said}"
    );
    assert!(
        !run(&scratch, &["convert", "o.parquet", "o.npk", "--ragged", "offsets"]).contains("note")
    );
    run(&scratch, &["convert", "o.parquet", "o.npz", "--strings", "offsets"]);
    run(&scratch, &["convert", "o.parquet", "o.safetensors", "--strings", "offsets"]);
    python(
        scratch.path(),
        "
import h5py, numpy as np
want = {
    'items.offsets': [0, 2, 2, 2, 4], 'items.valid': [1, 1, 0, 1], 'items.values.valid': [1, 0, 1, 1], 'items.values.n': [1, 0, 7, 9],
    'tags.offsets': [0, 1, 1, 1, 3], 'tags.valid': [1, 1, 0, 1], 'tags.values.valid': [1, 0, 1],
    'deep.offsets': [0, 2, 3, 3, 5], 'deep.values.offsets': [0, 1, 3, 3, 3, 4], 'deep.values.valid': [1, 1, 1, 0, 1], 'deep.values.values': [1, 2, 3, 4],
}
with h5py.File('o.h5') as f:
    for name, values in want.items():
        assert f[name][:].tolist() == values, (name, f[name][:])
        assert f[name].dtype == ('bool' if name.endswith('valid') else 'int64' if name.endswith('offsets') else f[name].dtype)
    assert f['items.values.n'].dtype == 'int32' and f['deep.values.values'].dtype == 'int16'
    assert [s.decode() for s in f['tags.keys'][:]] == ['x', 'y', 'z']
npz = np.load('o.npz')
for name, values in want.items(): assert npz[name].tolist() == values, name
assert bytes(npz['tags.keys.bytes']) == b'xyz' and npz['tags.keys.offsets'].tolist() == [0, 1, 2, 3]
",
    );
    let listed = run(&scratch, &["list", "-l", "o.npk"]);
    assert!(listed.contains("items\tlist<struct<sku: string, n: int32>>\t4\t"), "{listed}");
    assert_eq!(run(&scratch, &["list", "o.npk"]), "id\nitems\ntags\ndeep\n");
    // Some rows, other files, and what was there before.
    run(&scratch, &["convert", "o.npk", "some.feather", "--rows", "1:4:2"]);
    run(&scratch, &["convert", "o.npk", "again.npk", "-a", "deep,id"]);
    run(&scratch, &["convert", "again.npk", "again.parquet"]);
    python(
        scratch.path(),
        &format!(
            "{ORDERS}
assert feather.read_table('some.feather').to_pylist() == t.to_pylist()[1:4:2]
again = pq.read_table('again.parquet')
assert again.column_names == ['deep', 'id'] and again['deep'].to_pylist() == t['deep'].to_pylist()
"
        ),
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn nested_columns_are_refused_where_they_were_not_to_be_taken_apart() {
    let scratch = Scratch::new();
    python(scratch.path(), &format!("{ORDERS}\npq.write_table(t, 'o.parquet')"));
    run(&scratch, &["convert", "o.parquet", "o.npk"]);
    for (args, code, words) in [
        (
            &["convert", "o.parquet", "x.npk", "--ragged", "error"][..],
            4,
            "items: the rows are lists of different lengths",
        ),
        (&["convert", "o.parquet", "x.csv"], 4, "items: csv cannot hold list<struct"),
    ] {
        let output = npk_command().args(args).current_dir(scratch.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
        assert!(!scratch.join("x.npk").exists());
    }
    // Parts that were changed since stay plain arrays.
    python(
        scratch.path(),
        "
import json
side = json.load(open('o.npk/npk.json'))
entry = next(a for a in side['arrays'] if a['name'] == 'deep')
entry['parts']['offsets'] = 'id'
json.dump(side, open('o.npk/npk.json', 'w'))
",
    );
    let said = run(&scratch, &["list", "o.npk"]);
    assert!(said.contains("deep.valid\n") && said.contains("deep.offsets\n"), "{said}");
}

#[test]
#[ignore = "asks the real libraries"]
fn cells_of_text_tables_are_json_where_that_was_asked_for() {
    let scratch = Scratch::new();
    python(scratch.path(), &format!("{ORDERS}\npq.write_table(t, 'o.parquet')"));
    run(&scratch, &["convert", "o.parquet", "o.csv", "--nested", "json"]);
    python(
        scratch.path(),
        "
import csv, json
rows = list(csv.DictReader(open('o.csv')))
cell = lambda text: json.loads(text) if text else None
assert [cell(r['items']) for r in rows] == [[{'sku': 'a', 'n': 1}, None], [], None, [{'sku': None, 'n': 7}, {'sku': 'b', 'n': 9}]]
assert [cell(r['tags']) for r in rows] == [{'x': 1.5}, {}, None, {'y': None, 'z': 2.5}]
assert [cell(r['deep']) for r in rows] == [[[1], [2, 3]], [[]], None, [None, [4]]]
",
    );
}

/// Codes of one file mean nothing in another: the dictionaries become one.
#[test]
#[ignore = "asks the real libraries"]
fn nested_columns_are_joined_with_their_dictionaries() {
    let scratch = Scratch::new();
    python(
        scratch.path(),
        "
import pyarrow as pa, pyarrow.feather as feather
for i, words in enumerate([['a', 'b'], ['b', 'c'], ['c', 'a']]):
    coded = pa.ListArray.from_arrays([0, 2, 2], pa.array(words).dictionary_encode())
    more = pa.StructArray.from_arrays([coded, pa.array([1, None]).dictionary_encode()], ['x', 'n'], mask=pa.array([False, i == 1]))
    feather.write_feather(pa.table({'t': [words, None], 'd': coded, 's': more}), f't{i}.feather')
",
    );
    let files = ["t0.feather", "t1.feather", "t2.feather"];
    run(&scratch, &[&["convert", "--concat"][..], &files, &["t.feather"]].concat());
    run(&scratch, &[&["convert", "--concat"][..], &files, &["t.npk"]].concat());
    run(&scratch, &["convert", "t.npk", "t.parquet"]);
    run(&scratch, &["convert", "--concat", "t.npk", "t0.feather", "u.feather", "--rows", "1:7:2"]);
    python(
        scratch.path(),
        "
import pyarrow as pa, pyarrow.parquet as pq, pyarrow.feather as feather
want = [row for i in range(3) for row in feather.read_table(f't{i}.feather').to_pylist()]
whole = feather.read_table('t.feather')
assert whole.schema.equals(feather.read_table('t0.feather').schema), whole.schema
whole.validate(full=True)
assert whole.to_pylist() == want, whole.to_pylist()
assert pq.read_table('t.parquet').to_pylist() == want
assert feather.read_table('u.feather').to_pylist() == (want + want[:2])[1:7:2]
",
    );
}

/// Lists as writers had them before the specification: repeated fields alone, and two levels.
#[test]
#[ignore = "asks the real libraries"]
fn lists_of_old_writers_are_read() {
    use parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
    use parquet::file::writer::SerializedFileWriter;
    let scratch = Scratch::new();
    let schema = parquet::schema::parser::parse_message_type(
        "message m {
            repeated int32 plain;
            repeated group phones { required int32 number; optional binary kind (UTF8); }
            optional group two (LIST) { repeated int32 element; }
            optional group one (LIST) { repeated group array { optional binary text (UTF8); } }
            optional group pair (LIST) {
                repeated group pair_tuple { required int32 a; required int32 b; } }
        }",
    )
    .unwrap();
    let file = std::fs::File::create(scratch.join("old.parquet")).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema.into(), Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    // Three rows: two elements, none, one. Per column its levels and values.
    let rep = [0, 1, 0, 0];
    let texts = |all: &[&str]| all.iter().map(|t| ByteArray::from(*t)).collect::<Vec<_>>();
    let ints: [(&[i16], &[i32]); 5] = [
        (&[1, 1, 0, 1], &[1, 2, 3]),
        (&[1, 1, 0, 1], &[11, 12, 13]),
        (&[2, 2, 1, 2], &[21, 22, 23]),
        (&[2, 2, 1, 2], &[31, 32, 33]),
        (&[2, 2, 1, 2], &[41, 42, 43]),
    ];
    let mut ints = ints.into_iter();
    for column in 0..7 {
        let mut writer = group.next_column().unwrap().unwrap();
        if matches!(column, 2 | 4) {
            let (def, values): (&[i16], _) = if column == 2 {
                (&[2, 1, 0, 2], texts(&["home", "work"]))
            } else {
                (&[3, 2, 0, 3], texts(&["x", "y"]))
            };
            writer.typed::<ByteArrayType>().write_batch(&values, Some(def), Some(&rep)).unwrap();
        } else {
            let (def, values) = ints.next().unwrap();
            writer.typed::<Int32Type>().write_batch(values, Some(def), Some(&rep)).unwrap();
        }
        writer.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    run(&scratch, &["convert", "old.parquet", "new.feather"]);
    run(&scratch, &["convert", "old.parquet", "mid.npk"]);
    run(&scratch, &["convert", "mid.npk", "mid.feather"]);
    python(
        scratch.path(),
        "
import pyarrow.parquet as pq, pyarrow.feather as feather
want = pq.read_table('old.parquet').to_pydict()
assert want['plain'] == [[1, 2], [], [3]] and want['one'][2] == [{'text': 'y'}], want
for name in ['new', 'mid']:
    got = feather.read_table(name + '.feather').to_pydict()
    assert got == want, (name, got, want)
",
    );
}

/// Maps polars does not have.
#[test]
#[ignore = "asks the real libraries"]
fn polars_and_duckdb_read_what_comes_back() {
    let scratch = Scratch::new();
    let script = std::env::current_dir().unwrap().join("tests/judges/nested_readers.py");
    let ask = |what: &str| {
        let run = "import runpy, sys\nsys.argv = ['', '{what}']\nrunpy.run_path('{script}')";
        let run = run.replace("{what}", what).replace("{script}", script.to_str().unwrap());
        python(scratch.path(), &run);
    };
    ask("write");
    for step in [
        &["in.parquet", "a.npk"][..],
        &["a.npk", "back.parquet"],
        &["in.feather", "b.npk"],
        &["b.npk", "flat.feather", "-x", "map", "--compression", "none"],
    ] {
        run(&scratch, &[&["convert"], step].concat());
    }
    ask("check");
}

/// Types and values as awkward-array has them: its own files, and random tables.
#[test]
#[ignore = "asks the real libraries"]
fn awkward_reads_what_comes_back() {
    let scratch = Scratch::new();
    let code = "import awkward_arrays as a\na.write()\na.write_random(range(400, 424))";
    python(scratch.path(), code);
    let mut compared = 0;
    for file in files(&scratch) {
        for through in ["npk", "h5", "zarr"] {
            let middle = format!("{file}.{through}");
            run(&scratch, &["convert", &file, &middle, "--layout", "columns"]);
            run(&scratch, &["convert", &middle, &format!("back-{through}-{file}")]);
            if file.ends_with("parquet") {
                run(&scratch, &["convert", &middle, &format!("back-{through}-{file}.feather")]);
                compared += 1;
            }
            compared += 1;
        }
    }
    assert!(compared > 220, "{compared}");
    python(scratch.path(), &format!("import awkward_arrays as a\na.compare({compared})"));
}

/// As many types as one run of the command takes.
#[test]
#[ignore = "asks the real libraries"]
fn hundreds_of_random_types_come_back() {
    let scratch = Scratch::new();
    let files = tables(&scratch, 200..320, 1);
    for (kind, middle) in [("feather", "npk"), ("parquet", "zarr")] {
        let of = |ending: &str, names: &[String]| -> Vec<String> {
            names.iter().filter(|name| name.ends_with(ending)).cloned().collect()
        };
        let sources = of(kind, &files);
        let each = |sources: &[String], folder: &str, to: &str| {
            let sources = sources.iter().map(String::as_str);
            let args = [folder, "--to", to, "--layout", "columns", "-q"];
            run(&scratch, &["convert"].into_iter().chain(sources).chain(args).collect::<Vec<_>>());
        };
        each(&sources, &format!("{middle}/"), middle);
        let there = |f: &String| f.replace(kind, middle).replacen("", &format!("{middle}/"), 1);
        each(&sources.iter().map(there).collect::<Vec<_>>(), &format!("{kind}/"), kind);
        for source in &sources {
            let back = scratch.join(&format!("{kind}/{source}"));
            std::fs::rename(back, scratch.join(&format!("{kind}-{source}"))).unwrap();
        }
        python(scratch.path(), &format!("import nested\nnested.compare('{kind}')"));
    }
}
