//! Tables in stores: rows appended by column names, matrices beside columns in `diff`, times in
//! other units.

use std::path::Path;

use npk::model::CommonRows;

use crate::support::{Scratch, at, inspect, npk, npk_any, npk_fails, npk_peak, python};

fn write(scratch: &Scratch, name: &str, text: &str) -> String {
    std::fs::write(scratch.join(name), text).unwrap();
    at(scratch, name)
}

fn csv_of(path: &str) -> String {
    npk(&["convert", "-q", path, "-", "--to", "csv"])
}

#[test]
fn rows_are_appended_to_a_matrix_by_column_names() {
    let s = Scratch::new();
    let (t, store) = (write(&s, "t.csv", "a,b\n1,2\n"), at(&s, "t.npk"));
    npk(&["convert", &t, &store]);
    write(&s, "t.csv", "b,a\n7,8\n9,10\n");
    npk(&["convert", &t, &store, "--append"]);
    assert_eq!(csv_of(&store), "a,b\n1,2\n8,7\n10,9\n");
    for (text, named) in [
        ("x,y\n7,8\n", "x, y"),
        ("a,a\n7,8\n", "a"),
        ("7,8\n", "''"),
        ("a,b,c\n1,2,3\n", "a, b, c"),
    ] {
        write(&s, "t.csv", text);
        let error = npk_fails(5, &["convert", &t, &store, "--append", "--on-duplicate", "rename"]);
        assert!(error.contains(named) && error.contains("the store's are a, b"), "{error}");
    }
    // What the hint says works.
    write(&s, "t.csv", "x,b\n3,4\n");
    npk(&["convert", &t, &store, "--append", "--rename", "x=a"]);
    write(&s, "t.csv", "5,6\n");
    npk(&["convert", &t, &store, "--append", "--column-names", "b,a"]);
    assert_eq!(csv_of(&store), "a,b\n1,2\n8,7\n10,9\n3,4\n6,5\n");
    assert!(npk(&["verify", &store]).contains("whole"));
}

#[test]
#[ignore = "asks the real libraries"]
fn a_row_is_appended_to_all_columns_or_to_none() {
    let s = Scratch::new();
    let (u, store) = (write(&s, "u.csv", "k,v\n1,x\n"), at(&s, "u.npk"));
    npk(&["convert", &u, &store]);
    write(&s, "u.csv", "k\n2\n");
    let error = npk_fails(5, &["convert", &u, &store, "--append"]);
    assert!(error.contains("--layout columns"), "{error}");
    let error = npk_fails(5, &["convert", &u, &store, "--append", "--layout", "columns"]);
    assert!(error.contains("lack the column v"), "{error}");
    write(&s, "u.csv", "v,k\ny,2\n");
    let error = npk_fails(5, &["convert", &u, &store, "--append", "-a", "v"]);
    assert!(error.contains("lack the column k"), "{error}");
    npk(&["convert", &u, &store, "--append"]);
    assert_eq!(csv_of(&store), "k,v\n1,x\n2,y\n");
    let error = npk_fails(5, &["convert", &u, &store, "--append", "--strings", "offsets"]);
    assert!(
        error
            .contains("v: the new rows are string, the store's are string, stored in another form")
            && error.contains("--strings")
    );
    let error = npk_fails(5, &["convert", &u, &store, "--append", "--dtype", "k=int16"]);
    assert!(error.contains("hint: --dtype 'k=int64' casts"), "{error}");
    // NumPack does not know that these arrays are one table.
    python(
        s.path(),
        "import numpack, numpy as np\nwith numpack.NumPack('u.npk') as p: p.append({'k': np.array([3])})",
    );
    let error = npk_fails(7, &["verify", &store]);
    assert!(error.contains("differ in length: k has 3 rows, v has 2"), "{error}");
}

#[test]
fn merging_over_a_table_forgets_its_columns() {
    let s = Scratch::new();
    let (t, store) = (write(&s, "t.csv", "a,b\n1,2\n"), at(&s, "t.npk"));
    npk(&["convert", &t, &store]);
    write(&s, "t.csv", "x,y\n7,8\n");
    npk(&["convert", &t, &store, "--if-exists", "merge", "--force"]);
    assert_eq!(csv_of(&store), "x,y\n7,8\n");
    assert_eq!(inspect(Path::new(&store))["tables"].as_array().map(Vec::len), Some(1));
}

#[test]
fn names_that_are_not_in_the_store_are_answered_with_a_way() {
    let s = Scratch::new();
    let (a, b) = (write(&s, "a.csv", "x,y\n1,2\n"), write(&s, "b.csv", "x,y\n1,2\n"));
    let store = at(&s, "a.npk");
    npk(&["convert", &a, &store]);
    let error = npk_fails(5, &["convert", &b, &store, "--append"]);
    assert!(error.contains("hint: --name 'a'"), "{error}");
    npk(&["convert", &b, &store, "--append", "--name", "a"]);
    write(&s, "a.csv", "x,y\n1,z\n");
    let error = npk_fails(5, &["convert", &a, &store, "--append"]);
    assert!(
        error.contains("hint: the store has one matrix of all columns: --layout matrix"),
        "{error}"
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn a_matrix_is_compared_with_the_columns_that_it_was_made_of() {
    let s = Scratch::new();
    python(
        s.path(),
        "import numpy as np, pyarrow as pa, pyarrow.parquet as pq\n\
         pq.write_table(pa.table({'a':[1.,2.],'b':[3.,4.]}),'num.parquet')\n\
         pq.write_table(pa.table({'b':[3.,4.],'a':[1.,2.]}),'swapped.parquet')\n\
         pq.write_table(pa.table({'a':[1.,2.],'b':[3.,5.]}),'other.parquet')\n\
         pq.write_table(pa.table({'a':[1.,2.],'c':[3.,4.]}),'named.parquet')\n\
         np.savetxt('m.txt', np.arange(6.).reshape(2,3)); np.save('g.npy', np.arange(6.).reshape(2,3)); np.save('v.npy', np.arange(3.))",
    );
    let pairs = [
        ("num.parquet", "n.npk"),
        ("num.parquet", "n.npz"),
        ("m.txt", "m.npk"),
        ("g.npy", "g.csv"),
        ("v.npy", "v.csv"),
    ];
    for (from, to) in pairs {
        npk(&["convert", "-q", &at(&s, from), &at(&s, to)]);
        npk(&["diff", &at(&s, from), &at(&s, to)]);
        npk(&["diff", &at(&s, to), &at(&s, from)]);
    }
    npk(&["diff", &at(&s, "swapped.parquet"), &at(&s, "n.npk")]);
    let told = npk_any(&["diff".to_string(), at(&s, "other.parquet"), at(&s, "n.npk")]);
    assert_eq!(told.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&told.stdout),
        "num: 1 of 4 values differ; first at [1, 1]: 5.0 and 4.0; largest difference 1e0, relative 2.5e-1\n"
    );
    assert_eq!(
        npk_any(&["diff".to_string(), at(&s, "named.parquet"), at(&s, "n.npk")]).status.code(),
        Some(1)
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn times_get_another_unit_where_that_is_exact() {
    let s = Scratch::new();
    python(
        s.path(),
        "import numpy as np, pyarrow as pa, pyarrow.parquet as pq\n\
         for u, v in ('ms', [1, None]), ('us', [2000, 3001]):\n  pq.write_table(pa.table({'t': pa.array(v, pa.timestamp(u, 'UTC')), 'x': ['p', 'q']}), f'{u}.parquet')\n\
         np.savez('n.npz', d=np.array(['2020-01-01', 'NaT'], 'M8[D]'), far=np.array([2**40], 'M8[D]'))",
    );
    let (ms, us, store) = (at(&s, "ms.parquet"), at(&s, "us.parquet"), at(&s, "t.npk"));
    npk(&["convert", &us, &store]);
    let error = npk_fails(5, &["convert", &ms, &store, "--append"]);
    assert!(error.contains("hint: --dtype 't=timestamp[us, UTC]'"), "{error}");
    npk(&["convert", &ms, &store, "--append", "--dtype", "t=timestamp[us, UTC]"]);
    let error = npk_fails(2, &["convert", &ms, &us, &at(&s, "c.npk"), "--concat"]);
    assert!(error.contains("hint: --dtype 't=timestamp[us, UTC]'"), "{error}");
    npk(&["convert", &ms, &us, &at(&s, "c.npk"), "--concat", "--dtype", "t=timestamp[us]"]);
    let values = npk(&["inspect", &at(&s, "c.npk"), "-a", "t", "--head", "9"]);
    let shown = |us: &str| format!("  1970-01-01T00:00:00.00{us}+00:00\n");
    let wanted = format!("t:\n{}  null\n{}{}", shown("1000"), shown("2000"), shown("3001"));
    assert!(values.ends_with(&wanted), "{values}");
    let error = npk_fails(4, &["convert", &us, &at(&s, "e.npk"), "--dtype", "t=timestamp[ms]"]);
    assert!(error.contains("t: element 1 (3001) is not exact as timestamp[ms, UTC]"), "{error}");
    npk(&["convert", &us, &at(&s, "e.npk"), "--dtype", "t=timestamp[ms]", "--lossy"]);
    npk(&["convert", &at(&s, "n.npz"), &at(&s, "d.npk"), "-a", "d", "--dtype", "d=datetime64[ns]"]);
    let values = npk(&["inspect", &at(&s, "d.npk"), "--head"]);
    assert!(
        values.contains("datetime64[ns]")
            && values.ends_with("  2020-01-01T00:00:00.000000000\n  null\n"),
        "{values}"
    );
    let error = npk_fails(
        4,
        &[
            "convert",
            &at(&s, "n.npz"),
            &at(&s, "f.npk"),
            "--dtype",
            "far=datetime64[ns]",
            "--lossy",
        ],
    );
    assert!(
        error.contains("far: element 0 (1099511627776) is out of range as datetime64[ns]"),
        "{error}"
    );
    npk_fails(4, &["convert", &us, &at(&s, "f.npk"), "--dtype", "x=timestamp[ms]"]);
    npk_fails(2, &["convert", &us, &at(&s, "f.npk"), "--dtype", "timestamp[ms]"]);
    npk_fails(2, &["convert", &us, &at(&s, "f.npk"), "--dtype", "t=timestamp[Y]"]);
    assert!(!s.join("f.npk").exists());
}

/// Rounding is all that `--lossy` allows: no value becomes another one altogether.
#[test]
#[ignore = "asks the real libraries"]
fn lossy_casts_stay_in_range() {
    let s = Scratch::new();
    python(
        s.path(),
        "import numpy as np\n\
         np.savez('c.npz', i=np.array([255, -1]), f=np.array([1.5, 300.0]), n=np.array([1.0, np.nan]), u=np.array([1, 2**63], 'u8'),\n  h=np.array([1.0, -70000.0]), p=np.array([np.inf]), ok=np.array([1.25, -2.75, 255.0]), fine=np.array([0.1, np.inf, -np.inf, np.nan]))",
    );
    let (source, out) = (at(&s, "c.npz"), at(&s, "c.npk"));
    let refused = [
        ("i", "uint8", "element 1 (-1)"),
        ("f", "int8", "element 1 (300.0)"),
        ("n", "int8", "element 1 (nan)"),
        ("u", "int64", "element 1 (9223372036854775808)"),
        ("h", "float16", "element 1 (-70000.0)"),
        ("p", "int64", "element 0 (inf)"),
        ("p", "float8_e4m3fn", "element 0 (inf)"),
    ];
    for (name, to, told) in refused {
        let error = npk_fails(4, &["convert", &source, &out, "-a", name, "--dtype", to, "--lossy"]);
        assert!(error.contains(&format!("{name}: {told} is out of the range of {to}")), "{error}");
        let error = npk_fails(4, &["convert", &source, &out, "-a", name, "--dtype", to]);
        assert!(error.contains("out of the range") || name == "f", "{error}");
    }
    let error = npk_fails(4, &["convert", &source, &out, "-a", "ok", "--dtype", "int16"]);
    assert!(error.contains("not exact") && error.contains("--lossy"), "{error}");
    npk(&["convert", &source, &out, "-a", "ok", "--dtype", "int16", "--lossy"]);
    npk(&["convert", &source, &at(&s, "g.npk"), "-a", "fine", "--dtype", "float16", "--lossy"]);
    python(
        s.path(),
        "import store, numpy as np\nassert store.npkref.load('c.npk')['ok'].tolist() == [1, -2, 255]\n\
         assert store.npkref.load('g.npk')['fine'].tobytes() == np.array([0.1, np.inf, -np.inf, np.nan]).astype('f2').tobytes()",
    );
}

/// `tsv` as a format is CSV with tabs, also where no file name says so.
#[test]
fn tsv_by_name_has_tabs() {
    let s = Scratch::new();
    let comma = write(&s, "x.csv", "a,b\n1,2\n");
    assert_eq!(npk(&["convert", "-q", &comma, "-", "--to", "tsv"]), "a\tb\n1\t2\n");
    let unnamed = write(&s, "x.dat", "a\tb\n1\t2\n");
    assert_eq!(
        npk(&["convert", "-q", &unnamed, "-", "--from", "tsv", "--to", "csv"]),
        "a,b\n1,2\n"
    );
    npk(&["convert", "-q", &comma, &at(&s, "out/"), "--to", "tsv"]);
    assert_eq!(std::fs::read_to_string(s.join("out/x.tsv")).unwrap(), "a\tb\n1\t2\n");
}

/// Libraries refuse several columns of one name, and a name that was asked for is the column's.
#[test]
#[ignore = "asks the real libraries"]
fn columns_without_a_header_are_named_where_names_are_needed() {
    let s = Scratch::new();
    let [bare, twice, out, store] =
        ["bare.csv", "twice.csv", "o.parquet", "o.npk"].map(|name| at(&s, name));
    std::fs::write(&bare, "1,2.5\n3,4.5\n").unwrap();
    std::fs::write(&twice, "a,a,\n1,2,x\n").unwrap();
    let names =
        "import pyarrow.parquet as p\nprint(*p.read_table('o.parquet').column_names, sep='|')";
    let become_of = |input: &str, flags: &[&str], expected: &str| {
        for through in [&out, &store] {
            npk(&[&["convert", input, through, "-f", "--layout", "columns"], flags].concat());
        }
        assert_eq!(python(s.path(), names).trim(), expected, "{input} {flags:?}");
        npk(&["convert", &store, &out, "-f"]);
        assert_eq!(python(s.path(), names).trim(), expected, "{input} {flags:?} through a store");
    };
    become_of(&bare, &[], "col0|col1");
    become_of(&bare, &["--add-prefix", "p."], "p.col0|p.col1");
    become_of(&twice, &["--on-duplicate", "rename"], "a|a_1|");
    npk(&["convert", &bare, &store, "-f", "--layout", "matrix"]);
    npk(&["convert", &store, &out, "-f"]);
    assert_eq!(python(s.path(), names).trim(), "col0|col1", "of a matrix");
    // Text without a header stays text without one.
    let text = at(&s, "o.csv");
    npk(&["convert", &store, &text]);
    assert_eq!(std::fs::read_to_string(&text).unwrap(), "1.0,2.5\n3.0,4.5\n");
    npk(&["convert", &store, &text, "-f", "--header", "yes"]);
    assert_eq!(std::fs::read_to_string(&text).unwrap(), "col0,col1\n1.0,2.5\n3.0,4.5\n");
}

/// Columns are read one at a time, however many there are: never each with all the others.
#[test]
#[ignore = "asks the real libraries"]
fn the_memory_for_thousands_of_columns_grows_with_their_number() {
    let s = Scratch::new();
    let code = "import pyarrow as pa, pyarrow.parquet as pq\n\
                flat = {f'c{i}': [i, i + 1] for i in range(4000)}\n\
                pq.write_table(pa.table(flat), 'flat.parquet')\n\
                pq.write_table(pa.table({'s': [flat | {'c0': i} for i in range(2)]}), 'struct.parquet')";
    python(s.path(), code);
    for file in ["flat.parquet", "struct.parquet"] {
        let (code, told, peak) = npk_peak(&["list", "-l", &at(&s, file)]);
        assert_eq!(code, 0, "{told}");
        assert!(peak < 256 << 20, "{file}: {peak} bytes");
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn many_columns_come_back_from_every_table_format() {
    let s = Scratch::new();
    let code = "import pyarrow as pa, pyarrow.parquet as pq\n\
                n = 600\n\
                many = {f'c{i}': pa.array([i, None, i + 2]) if i % 3 else pa.array([f't{i}', '', None]) for i in range(n)}\n\
                many['s'] = pa.array([{f'f{i}': i + k for i in range(n)} for k in range(3)])\n\
                many['dict'] = pa.array(['a', 'b', 'a']).dictionary_encode()\n\
                pq.write_table(pa.table(many), 'many.parquet', row_group_size=2)\n\
                plain = pa.table({f'c{i}': [i, i + 1, -i] for i in range(n)})\n\
                pq.write_table(plain, 'plain.parquet')";
    python(s.path(), code);
    for (name, layout) in [("many", "columns"), ("plain", "matrix"), ("plain", "columns")] {
        let (from, store) = (at(&s, &format!("{name}.parquet")), at(&s, "store.npk"));
        npk(&["convert", "-q", "-f", "--layout", layout, &from, &store]);
        for ending in ["feather", "parquet"] {
            npk(&["convert", "-q", "-f", &store, &at(&s, &format!("back.{ending}"))]);
        }
        npk(&["convert", "-q", "-f", &at(&s, "back.feather"), &at(&s, "again.parquet")]);
        let code = "import pyarrow.feather as pf, pyarrow.parquet as pq\n\
                    from sys import argv\n\
                    one = pq.read_table(NAME)\n\
                    for back in (pq.read_table('back.parquet'), pf.read_table('back.feather'), pq.read_table('again.parquet')):\n\
                    \x20   assert back.schema.equals(one.schema) and back.equals(one), NAME";
        python(s.path(), &code.replace("NAME", &format!("'{name}.parquet'")));
    }
}

#[test]
fn the_rows_of_all_columns_are_known_as_if_each_was_looked_at() {
    let (mut common, mut rows) = (CommonRows::new(3), [0u64; 3]);
    for step in 0..500u64 {
        let (column, more) = ((step * 7 + step / 5) as usize % 3, step % 4);
        let before = *rows.iter().min().unwrap();
        rows[column] += more;
        let least = *rows.iter().min().unwrap();
        assert_eq!(
            (common.add(column, more), common.all()),
            (least > before, least),
            "step {step}"
        );
        if step % 11 == 0 {
            let taken = least.min(step % 3);
            rows.iter_mut().for_each(|n| *n -= taken);
            common.take(taken);
            assert_eq!(common.all(), least - taken);
        }
    }
}

/// Nulls of a matrix are filled column by column, before the columns take its type.
#[test]
#[ignore = "asks the real libraries"]
fn nulls_have_no_place_in_a_matrix() {
    let s = Scratch::new();
    python(
        s.path(),
        "import pyarrow as pa, pyarrow.parquet as pq
pq.write_table(pa.table({'a': pa.array([1, None, 3], pa.float32()),
                         'b': pa.array([4, 5, None], pa.int64())}), 'n.parquet')",
    );
    let (from, to) = (at(&s, "n.parquet"), at(&s, "n.npy"));
    let convert = ["convert", "--layout", "matrix", "-f", from.as_str(), to.as_str(), "--nulls"];
    for (nulls, expected) in
        [("nan", "[[1, 4], [N, 5], [3, N]]"), ("fill=-1", "[[1, 4], [-1, 5], [3, -1]]")]
    {
        npk(&[&convert[..], &[nulls]].concat());
        python(
            s.path(),
            &format!(
                "import numpy as np
N = np.nan
x = np.load('n.npy')
assert x.dtype == 'f8' and np.array_equal(x, {expected}, equal_nan=True), x"
            ),
        );
    }
    npk_fails(4, &[&convert[..], &["mask"]].concat());
}

/// Files of a batch share threads and memory: numbers of one that wait for memory, and text of
/// another that waits for a thread, do not wait for each other.
#[test]
#[ignore = "asks the real libraries"]
fn a_batch_of_tables_within_a_small_limit_comes_to_its_end() {
    let s = Scratch::new();
    python(
        s.path(),
        "import numpy as np, pyarrow as pa, pyarrow.parquet as pq
n = 6_000
for k in range(8):
    words = [f'{k} text {i} ' + 30 * 'x' for i in np.random.default_rng(k).integers(0, n, n)]
    t = pa.table({'t': words, 'i': np.arange(n), 'f': np.arange(n) / 3, 'u': words[::-1]})
    pq.write_table(t, f'{k}.parquet', row_group_size=1500)",
    );
    let (sources, out) = (at(&s, "*.parquet"), format!("{}/", at(&s, "out")));
    let args = ["convert", &sources, &out, "--to", "npk", "-m", "4MiB", "-j", "8", "--verify"];
    npk(&args);
    assert_eq!(std::fs::read_dir(s.join("out")).unwrap().count(), 8);
}

/// The files of a batch hold one limit together: what the distinct texts of each take counts, too.
#[test]
#[ignore = "asks the real libraries"]
fn a_batch_holds_one_memory_limit() {
    let s = Scratch::new();
    python(
        s.path(),
        "for k in range(8):
    with open(f'{k}.csv', 'w') as f:
        f.write('t,i\\n')
        f.writelines(f'{k} text {i} {90 * chr(120)},{i}\\n' for i in range(80_000))",
    );
    let (one, all) = (at(&s, "0.csv"), at(&s, "*.csv"));
    let (code, said, alone) =
        npk_peak(&["convert", &one, &at(&s, "0.npk"), "-m", "8MiB", "-j", "8"]);
    assert_eq!(code, 0, "{said}");
    let out = format!("{}/", at(&s, "out"));
    let (code, said, together) =
        npk_peak(&["convert", &all, &out, "--to", "npk", "-m", "8MiB", "-j", "8"]);
    assert_eq!(code, 0, "{said}");
    let more = together.saturating_sub(alone) >> 20;
    assert!(more < 150, "{} MiB alone, {} MiB together", alone >> 20, together >> 20);
}
