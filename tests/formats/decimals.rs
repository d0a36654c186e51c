//! Decimals of every width: what pyarrow writes comes back through every format, and what is stored
//! in between are whole numbers.

use crate::support::{Scratch, npk_command, python};

fn run(scratch: &Scratch, args: &[&str]) -> String {
    let output = npk_command().args(args).current_dir(scratch.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap() + &said
}

fn refused(scratch: &Scratch, args: &[&str]) -> String {
    let output = npk_command().args(args).current_dir(scratch.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

const TABLE: &str = "
import pyarrow as pa, pyarrow.parquet as pq, pyarrow.feather as feather, random
from decimal import Decimal, Context
random.seed(5)
n = 700
wide = Context(prec=90)
def column(t, nulls=True):
    most = 10 ** t.precision - 1
    values = [0, most, -most] + [random.randint(-most, most) // 10 ** random.randrange(t.precision + 1) for _ in range(n - 3)]
    values = [Decimal(v).scaleb(-t.scale, wide) for v in values]
    return pa.array([None if nulls and i % 5 == 4 else v for i, v in enumerate(values)], t)
types = {
    'a': pa.decimal32(9, 2), 'b': pa.decimal64(18, 4), 'c': pa.decimal128(5, 0), 'd': pa.decimal128(18, 18), 'e': pa.decimal128(19, 2),
    'f': pa.decimal128(38, 10), 'g': pa.decimal256(12, 3), 'h': pa.decimal256(30, 3), 'i': pa.decimal256(76, 40), 'j': pa.decimal32(1, 1),
}
columns = {k: column(t) for k, t in types.items()}
columns |= {k + 'x': column(t, False) for k, t in types.items()}
flat = pa.table(columns)
more = pa.table(columns | {
    'neg': column(pa.decimal128(7, -3)), 'negwide': column(pa.decimal256(50, -5)),
    'list': pa.FixedSizeListArray.from_arrays(column(pa.decimal128(9, 2), False), 2).take(pa.array([i % 350 for i in range(n)])),
    'wides': pa.FixedSizeListArray.from_arrays(column(pa.decimal128(30, 2), False), 7).take(pa.array([i % 100 for i in range(n)])),
    'dict': pa.DictionaryArray.from_arrays(pa.array([None if i % 6 == 1 else i % 3 for i in range(n)], pa.int8()), pa.array([Decimal('1.25'), Decimal('-0.50'), Decimal('9999999.99')], pa.decimal128(9, 2))),
    'dictwide': pa.DictionaryArray.from_arrays(pa.array([i % 3 for i in range(n)], pa.int16()), pa.array([Decimal('1.25'), Decimal(10) ** 27, Decimal(-1)], pa.decimal256(40, 2))),
})
pq.write_table(flat, 'flba.parquet', row_group_size=300)
pq.write_table(flat.select(['a', 'b', 'c', 'd', 'ax', 'bx', 'cx', 'dx']), 'ints.parquet', store_decimal_as_integer=True, compression='zstd', data_page_version='2.0')
feather.write_feather(more, 'more.feather', chunksize=256)
feather.write_feather(more, 'plain.feather', compression='uncompressed')
feather.write_feather(more.drop_columns(['dict', 'dictwide']), 'lists.feather')
def read(path): return pq.read_table(path) if path.endswith('parquet') else feather.read_table(path)
def same(a, b, metadata=True):
    a, b = read(a), read(b)
    assert a.schema.equals(b.schema, check_metadata=metadata), (a.schema, b.schema)
    assert a.equals(b), [k for k in a.column_names if a[k] != b[k]]
";

#[test]
#[ignore = "asks the real libraries"]
fn decimals_come_back_from_every_format() {
    let scratch = Scratch::new();
    python(scratch.path(), TABLE);
    let mut checks = format!("{TABLE}\n");
    for source in ["flba.parquet", "ints.parquet", "more.feather", "plain.feather", "lists.feather"]
    {
        let stem = source.split('.').next().unwrap();
        let ending = source.split('.').nth(1).unwrap();
        for through in ["npk", "npkg", "h5", "zarr"] {
            // Dictionaries of numbers are known in NumPack stores alone.
            let marks = matches!(through, "h5" | "zarr");
            if marks && matches!(stem, "more" | "plain") {
                continue;
            }
            let (middle, back) =
                (format!("{stem}.{through}"), format!("{stem}-{through}.{ending}"));
            let said =
                run(&scratch, &["convert", source, &middle, "--layout", "columns", "--verify"]);
            assert!(!said.contains("note"), "{said}");
            run(&scratch, &["diff", source, &middle]);
            run(&scratch, &["convert", &middle, &back]);
            checks +=
                &format!("same({source:?}, {back:?}, {})\n", if marks { "False" } else { "True" });
        }
    }
    for (source, target) in [("flba.parquet", "1.feather"), ("ints.parquet", "2.arrows")] {
        run(&scratch, &["convert", source, target]);
    }
    checks += "same('flba.parquet', '1.feather')\n";
    checks += "assert pa.ipc.open_stream(open('2.arrows', 'rb')).read_all().equals(read('ints.parquet'))\n";
    run(&scratch, &["convert", "1.feather", "3.parquet"]);
    checks += "same('flba.parquet', '3.parquet')\n";
    python(scratch.path(), &checks);
}

/// What lies between: int64 up to 18 digits, words of uint64 otherwise.
#[test]
#[ignore = "asks the real libraries"]
fn decimals_are_stored_as_whole_numbers() {
    let scratch = Scratch::new();
    python(scratch.path(), TABLE);
    run(&scratch, &["convert", "lists.feather", "t.h5"]);
    run(&scratch, &["convert", "lists.feather", "t.npz"]);
    run(&scratch, &["convert", "lists.feather", "t.npk"]);
    python(
        scratch.path(),
        &format!(
            "{TABLE}
import h5py, numpy as np
npz = np.load('t.npz')
with h5py.File('t.h5') as f:
    for name in list(types) + [k + 'x' for k in types]:
        t, stored, want = more.schema.field(name).type, f[name][:], more[name].to_pylist()
        assert np.array_equal(stored, npz[name]), name
        assert stored.dtype == ('int64' if t.precision <= 18 else 'uint64'), name
        assert stored.shape == ((n,) if t.precision <= 18 else (n, 2 if t.precision <= 38 else 4)), (name, stored.shape)
        for row, value in zip(stored.tolist(), want):
            if t.precision > 18:
                row = int.from_bytes(b''.join(w.to_bytes(8, 'little') for w in row), 'little', signed=True)
            assert row == (0 if value is None else int(value.scaleb(t.scale, wide))), (name, row, value)
"
        ),
    );
    let listed = run(&scratch, &["list", "-l", "t.npk"]);
    for line in [
        "f\tdecimal(38, 10)?\t700x2\t",
        "a\tdecimal(9, 2)?\t700\t5600\n",
        "list\tdecimal(9, 2)\t700x2\t",
    ] {
        assert!(listed.contains(line), "{line}: {listed}");
    }
    let sums = |path: &str| {
        let json: serde_json::Value =
            serde_json::from_str(&run(&scratch, &["inspect", "--json", "--checksum", path]))
                .unwrap();
        let arrays = json["arrays"].as_array().unwrap().clone();
        arrays.iter().map(|a| a["checksum"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(sums("lists.feather"), sums("t.h5"));
    assert_eq!(sums("lists.feather"), sums("t.npk"));
}

/// Text formats, `diff`, `inspect` and `--stats` show numbers.
#[test]
#[ignore = "asks the real libraries"]
fn decimals_are_shown_as_numbers() {
    let scratch = Scratch::new();
    python(
        scratch.path(),
        "
import pyarrow as pa, pyarrow.feather as feather
from decimal import Decimal as D
a = [D('1.50'), None, D('-0.05'), D('12345678901234567890.25')]
feather.write_feather(pa.table({'x': pa.array(a, pa.decimal128(30, 2)), 'y': pa.array([D(1), D(2), D(3), D(4)], pa.decimal128(3, 0)),
    'd': pa.DictionaryArray.from_arrays(pa.array([0, 1, 1, None], pa.int8()), pa.array([D('0.125'), D('2.000')], pa.decimal64(5, 3)))}), 'a.feather')
feather.write_feather(pa.table({'x': pa.array(a[:3] + [D('12345678901234567890.26')], pa.decimal128(30, 2))}), 'b.feather')
feather.write_feather(pa.table({'k': pa.array([D('1.5'), D('-20.25')], pa.decimal32(6, 2)), 'm': pa.array([D(1), D(3)], pa.decimal128(20, 0))}), 'k.feather')
",
    );
    run(&scratch, &["convert", "a.feather", "a.csv"]);
    let csv = std::fs::read_to_string(scratch.join("a.csv")).unwrap();
    assert_eq!(csv, "x,y,d\n1.50,1,0.125\n,2,2.000\n-0.05,3,2.000\n12345678901234567890.25,4,\n");
    run(&scratch, &["convert", "k.feather", "k.txt", "--layout", "columns"]);
    assert_eq!(std::fs::read_to_string(scratch.join("k.txt")).unwrap(), "1.50 1\n-20.25 3\n");
    let output = npk_command()
        .args(["diff", "a.feather", "b.feather", "-a", "x"])
        .current_dir(scratch.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("[3]: 12345678901234567890.25 and 12345678901234567890.26"), "{said}");
    let shown = run(&scratch, &["inspect", "a.feather", "--head", "4", "--stats"]);
    for text in ["-0.05", "12345678901234567890.25", "min -0.05", "2.000", "null"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    // Floats and texts on demand.
    let said = refused(&scratch, &["convert", "a.feather", "f.npk", "--dtype", "x=float64"]);
    assert!(said.contains("is not exact as float64"), "{said}");
    run(&scratch, &["convert", "a.feather", "f.parquet", "--dtype", "x=float64", "--lossy"]);
    run(&scratch, &["convert", "a.feather", "s.npk", "--dtype", "x=string"]);
    run(&scratch, &["convert", "s.npk", "s.parquet"]);
    python(
        scratch.path(),
        "
import pyarrow.parquet as pq
f, s = pq.read_table('f.parquet'), pq.read_table('s.parquet')
assert f['x'].to_pylist() == [1.5, None, -0.05, 12345678901234567890.25], f['x']
assert s['x'].to_pylist() == ['1.50', None, '-0.05', '12345678901234567890.25'], s['x']
",
    );
}

/// A value with more digits than its type has is never let through.
#[test]
#[ignore = "asks the real libraries"]
fn decimals_with_too_many_digits_are_corrupt() {
    let scratch = Scratch::new();
    python(
        scratch.path(),
        "
import pyarrow as pa, pyarrow.feather as feather, numpy as np
bad = pa.Array.from_buffers(pa.decimal128(5, 2), 2, [None, pa.py_buffer(np.array([1, 0, 1, 1], 'uint64').tobytes())])
feather.write_feather(pa.table({'x': bad}), 'bad.feather')
feather.write_feather(pa.table({'x': pa.array([123456], 'int64').view('int64')}), 'i.feather')
",
    );
    let output = npk_command()
        .args(["convert", "bad.feather", "x.npk"])
        .current_dir(scratch.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert!(!scratch.join("x.npk").exists());
}
