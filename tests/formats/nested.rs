//! Nested columns: lists, structs, maps and their mixtures, with nulls at every level.

use crate::support::{Scratch, npk_command, python};

fn run(scratch: &Scratch, args: &[&str]) -> String {
    let output = npk_command().args(args).current_dir(scratch.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap() + &said
}

/// Random tables of these seeds, as files of both formats.
fn tables(scratch: &Scratch, seeds: std::ops::Range<u32>) -> Vec<String> {
    let (start, end) = (seeds.start, seeds.end);
    python(scratch.path(), &format!("import nested\nnested.write(range({start}, {end}))"));
    let mut files: Vec<String> = std::fs::read_dir(scratch.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert!(files.len() > (end - start) as usize, "{files:?}");
    files
}

#[test]
fn random_types_pass_between_parquet_and_feather() {
    let scratch = Scratch::new();
    for file in tables(&scratch, 0..24) {
        let other = if file.ends_with("parquet") { "feather" } else { "parquet" };
        run(&scratch, &["convert", &file, &format!("same-{file}")]);
        run(&scratch, &["convert", &file, &format!("other-{file}.{other}")]);
        run(&scratch, &["diff", &file, &format!("same-{file}")]);
    }
    python(scratch.path(), "import nested\nnested.compare('same')\nnested.compare('other')");
}

/// Types that Parquet lacks pass from file to file, and are refused by name elsewhere.
#[test]
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
