//! What runs to which something happens: every format that is written, fresh and in the place of
//! another output, and what only some can.

use npk::format::Arrays;
use npk::formats::FORMATS;

use crate::convert::{npy, safetensors};
use crate::support::Scratch;

/// What more must be known about a case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Outputs, each of which is old or new.
    Plain,
    /// A store that grows.
    Append,
    /// A batch with a report.
    Report,
    /// An output that several runs write together.
    Shares,
}

/// One way of writing.
pub struct Case {
    pub name: String,
    pub format: &'static str,
    pub kind: Kind,
    /// What makes the outputs that are there before.
    pub before: Vec<Vec<String>>,
    /// The run to which something happens.
    pub run: Vec<String>,
    /// The run after it, where that is another.
    pub again: Option<Vec<String>>,
}

pub fn words(text: &str) -> Vec<String> {
    text.split(' ').filter(|w| !w.is_empty()).map(str::to_string).collect()
}

/// `old.*` and `new.*`: tables with text and nulls, of numbers, tensors of some hundred KiB, one
/// array.
pub fn sources(s: &Scratch) {
    let rows = |from: i32, n: i32, row: &dyn Fn(i32) -> String| -> String {
        (from..from + n).map(row).collect()
    };
    let towns = ["Oslo", "Rome", "Bern", "Lima"];
    let age = |i: i32| if i % 3 == 0 { String::new() } else { i.to_string() };
    for (name, from, n) in [("old", 0, 5), ("new", 100, 7)] {
        let town = |i: i32| towns[i as usize % 4];
        let table = rows(from, n, &|i| format!("{i},{},{}\n", age(i), town(i)));
        std::fs::write(s.join(&format!("{name}.csv")), format!("id,age,city\n{table}")).unwrap();
        let bytes = |n: usize| -> Vec<u8> { (0..n).map(|i| ((i + n) % 251) as u8).collect() };
        let many = from as u64 + 600;
        let tensors: [(&str, &str, &[u64], Vec<u8>); 3] = [
            ("a", "I16", &[many, 200], bytes(many as usize * 400)),
            ("b", "F32", &[many, 100], bytes(many as usize * 400)),
            ("n", "I64", &[many], bytes(many as usize * 8)),
        ];
        safetensors(&s.join(&format!("{name}.safetensors")), &tensors);
        npy(&s.join(&format!("{name}.npy")), "<i2", &[many, 200], &tensors[0].3);
    }
}

/// Two outputs: fresh, and in the place of another.
fn pair(name: &str, format: &'static str, source: &str, run: &str) -> [Case; 2] {
    let old = format!("convert -q -j 1 old.{source} {run}");
    let new = format!("convert -q -j 1 new.{source} {run}");
    let case = |what: &str, before, run: String, again| Case {
        name: format!("{name} from {source}, {what}"),
        format,
        kind: Kind::Plain,
        before,
        run: words(&run),
        again,
    };
    // Several files appear one after the other.
    let several = name.contains("checkpoint") || name == "directory";
    let again = several.then(|| words(&format!("{new} --force")));
    [
        case("fresh", Vec::new(), new.clone(), again),
        case("replaced", vec![words(&old)], format!("{new} --force"), None),
    ]
}

/// Every format that the registry has, from every source that it can hold.
fn of_formats() -> Vec<Case> {
    let mut all = Vec::new();
    for format in FORMATS {
        let Some(holds) = format.spec().writes.as_ref() else { continue };
        let (name, ending) = (format.spec().name, format.spec().extensions[0]);
        // Compressed, the metadata of a package do not show the time in them.
        let plain = if name == "npkg" { " -c none" } else { "" };
        let to = format!("out/o.{ending} --to {name} --layout columns{plain}");
        if holds.arrays == Arrays::One {
            all.extend(pair(name, name, "npy", &to));
            continue;
        }
        all.extend(pair(name, name, "csv", &to));
        all.extend(pair(name, name, "safetensors", &to));
        all.extend(pair(&format!("one {name}"), name, "safetensors", &format!("{to} -a n")));
    }
    all
}

/// Other shapes of outputs.
fn of_shapes() -> Vec<Case> {
    let mut all = Vec::new();
    for (name, format, source, run) in [
        ("zarr.zip", "zarr", "csv", "out/o.zarr.zip --layout columns"),
        ("zarr 2", "zarr", "safetensors", "out/o.zarr --zarr-format 2 --chunk-shape 200"),
        ("zarr shards", "zarr", "safetensors", "out/o.zarr --chunk-shape 50 --shard-shape 200"),
        ("csv.gz", "csv", "csv", "out/o.csv.gz"),
        ("txt.zst", "txt", "npy", "out/o.txt.zst"),
        ("npz deflate", "npz", "safetensors", "out/o.npz -c deflate"),
        ("hdf5 gzip", "hdf5", "safetensors", "out/o.h5 -c gzip -x n --chunk-shape 100,50"),
        ("parquet groups", "parquet", "csv", "out/o.parquet --row-group-size 2"),
        ("npk synced", "npk", "csv", "out/o.npk --sync --layout columns"),
        ("npy synced", "npy", "npy", "out/o.npy --sync"),
        ("checkpoint", "safetensors", "safetensors", "out/o.safetensors --max-shard-size 250KiB"),
        ("pt checkpoint", "pt", "safetensors", "out/o.bin --to pt --max-shard-size 250KiB"),
        ("references", "zarr", "safetensors", "out/o.json --virtual"),
        ("directory", "npy", "safetensors", "out/ --to npy"),
    ] {
        all.extend(pair(name, format, source, run));
    }
    all
}

/// What is done to a store that is there.
fn of_stores() -> Vec<Case> {
    let make = "convert -q old.csv out/o.npk --layout columns";
    let case = |name: &str, kind, before: &str, run: &str, again: Option<&str>| Case {
        name: format!("npk {name}"),
        format: "npk",
        kind,
        before: vec![words(before)],
        run: words(run),
        again: again.map(words),
    };
    let append = "convert -q -j 1 new.csv out/o.npk --layout columns --append";
    let merge = "convert -q -j 1 new.csv out/o.npk --layout columns --if-exists merge --force";
    let tensors = "convert -q -j 1 new.safetensors out/o.npk --append";
    vec![
        case("append with nulls", Kind::Append, make, append, None),
        case(
            "append in place",
            Kind::Append,
            &format!("{make} -a id,city"),
            &format!("{append} -a id,city"),
            None,
        ),
        case(
            "append of tensors",
            Kind::Append,
            "convert -q old.safetensors out/o.npk",
            tensors,
            None,
        ),
        case(
            "merge",
            Kind::Plain,
            &format!("{make} -a id,age"),
            &format!("{merge} -a age,city"),
            None,
        ),
        case("drop", Kind::Plain, make, "edit -q out/o.npk --drop city", None),
        case("rename", Kind::Plain, make, "edit -q out/o.npk --rename id=number", None),
        case("attribute", Kind::Plain, make, "edit -q out/o.npk --set-attribute a=b", None),
    ]
}

/// Several files at once.
fn of_batches() -> Vec<Case> {
    let batch = "convert -q -j 1 new.csv new.npy new.safetensors out/ --to npk --layout columns";
    let old = |to: &str| words(&format!("convert -q old.{to} out/new.npk --layout columns"));
    let case = |name: &str, kind, before, run: String, again: Option<String>| Case {
        name: format!("batch {name}"),
        format: "npk",
        kind,
        before,
        run: words(&run),
        again: again.map(|a| words(&a)),
    };
    let names = batch.replace("new.npy new.safetensors", "old.npy");
    let force = |run: &str| Some(format!("{run} --force"));
    vec![
        case("fresh", Kind::Plain, Vec::new(), names.clone(), force(&names)),
        case("replaced", Kind::Plain, vec![old("csv")], format!("{names} --force"), None),
        case(
            "with a report",
            Kind::Report,
            Vec::new(),
            format!("{names} --shard 0/1 --report out/report"),
            Some(format!("{names} --shard 0/1 --report out/report --skip-existing")),
        ),
    ]
}

/// A Zarr output that several runs write together, from a share to its end.
fn of_shares() -> Vec<Case> {
    let convert = "convert -q -j 1 new.safetensors out/o.zarr --chunk-shape 50";
    let share = |n: usize| words(&format!("{convert} --shard {n}/2"));
    let case = |name: &str, before, run, again| Case {
        name: format!("shares, {name}"),
        format: "zarr",
        kind: Kind::Shares,
        before,
        run,
        again,
    };
    let finish = words(&format!("{convert} --finish"));
    let skip = words(&format!("{convert} --finish --skip-existing"));
    vec![
        case("the first", Vec::new(), share(0), None),
        case("the last", vec![share(0)], share(1), None),
        case("the end", vec![share(0), share(1)], finish, Some(skip)),
    ]
}

/// A page about arrays.
fn of_pages() -> Vec<Case> {
    let page = |source: &str| format!("inspect -j 1 {source}.safetensors --html out/o.html");
    let case = |what: &str, before, run: String| Case {
        name: format!("page, {what}"),
        format: "html",
        kind: Kind::Plain,
        before,
        run: words(&run),
        again: None,
    };
    vec![
        case("fresh", Vec::new(), page("new")),
        case("replaced", vec![words(&page("old"))], format!("{} --force", page("new"))),
    ]
}

pub fn all() -> Vec<Case> {
    let mut all = of_formats();
    all.extend(of_shapes());
    all.extend(of_stores());
    all.extend(of_batches());
    all.extend(of_shares());
    all.extend(of_pages());
    all
}
