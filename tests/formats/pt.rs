//! PyTorch checkpoints: real files of torch 1.13 and 2.15, hostile ones, and a real torch on both
//! ends.

use std::path::Path;

use npk::error::{Error, ErrorKind};
use npk::format::{Format, OnDuplicate, Order, ReadOptions, ReadRows, Source, WriteOptions};
use npk::formats::checkpoint::pytorch::Pytorch;
use npk::model::{Chunk, Logical, Values};
use npk::storage::Location;
use serde_json::Value;

use crate::support::library::bytes_of_extents;
use crate::support::*;

fn options() -> ReadOptions {
    ReadOptions { on_duplicate: OnDuplicate::Rename, ..ReadOptions::default() }
}

fn open(path: &Path) -> Result<Box<dyn Source>, Error> {
    Pytorch.open(&Location::local(path), &options())
}

/// All bytes of an array, read in pieces of `step` rows.
fn bytes(source: &dyn Source, array: usize, step: u64) -> Result<Vec<u8>, Error> {
    let rows = source.plan().arrays[array].rows.unwrap();
    let reader = crate::support::library::rows_of(source, array);
    let (mut out, mut row) = (Vec::new(), 0);
    while row < rows {
        let end = (row + step).min(rows);
        reader.read(array, row..end, &mut |chunk: Chunk| {
            assert_eq!(chunk.first_row, row, "chunks in order");
            row += chunk.rows;
            match chunk.values {
                Values::Fixed(b) => out.extend_from_slice(&b),
                Values::Var { .. } => panic!("a tensor of fixed size"),
                Values::Nested(_) => unreachable!(),
            }
            Ok(())
        })?;
        assert_eq!(row, end);
    }
    // What lies ready must be the same bytes.
    if let Some(extents) = reader.extents(array) {
        assert_eq!(bytes_of_extents(extents), out, "extents of array {array}");
    }
    Ok(out)
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// What a tree of the expectations holds at which name.
fn leaves<'a>(node: &'a Value, name: &str, all: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    let join =
        |part: &str| if name.is_empty() { part.to_string() } else { format!("{name}.{part}") };
    let kind = node["t"].as_str().unwrap();
    match kind {
        "tensor" => {
            found.push((name.to_string(), &all["tensors"][node["i"].as_u64().unwrap() as usize]))
        }
        "ndarray" | "npscalar" => found.push((name.to_string(), node)),
        k if k.starts_with("storage:") => found.push((name.to_string(), node)),
        "Point" => {} // a class of its own
        _ => {
            for (i, item) in node["items"].as_array().into_iter().flatten().enumerate() {
                match item.as_array() {
                    Some(pair) => leaves(&pair[1], &join(&key(&pair[0])), all, found),
                    None => leaves(item, &join(&i.to_string()), all, found),
                }
            }
        }
    }
}

fn key(node: &Value) -> String {
    match node["t"].as_str().unwrap() {
        "none" => "None".into(),
        "bool" => if node["v"] == true { "True" } else { "False" }.into(),
        "tuple" => {
            let parts: Vec<String> = node["items"].as_array().unwrap().iter().map(key).collect();
            format!("({})", parts.join(", "))
        }
        _ => node["v"].as_str().map_or_else(|| node["v"].to_string(), str::to_string),
    }
}

/// numpy's code as the model names it.
fn numpy_dtype(code: &str) -> Option<String> {
    let plain = code.trim_start_matches(['<', '>', '|', '=']);
    if let Some(unit) = plain.strip_prefix("M8[") {
        return Some(format!("datetime64[{}", unit));
    }
    npk::model::Dtype::parse(plain).map(|d| d.name().to_string())
}

#[test]
fn fixtures_hold_what_torch_finds_in_them() {
    let files = fixtures("good/pt", &["pt", "pth", "ckpt"]);
    assert!(files.len() >= 140, "{} fixtures", files.len());
    let (mut compared, mut refused) = (0, 0);
    for path in files {
        let at = path.display().to_string();
        let expected = path.with_extension("expected.json");
        let expected: Value = serde_json::from_slice(&std::fs::read(&expected).unwrap()).unwrap();
        let mut wanted = Vec::new();
        if let Some(tree) = expected.get("tree") {
            leaves(tree, "", &expected, &mut wanted);
        }
        if let Some(state) = expected.get("state_dict") {
            wanted.extend(state.as_object().unwrap().iter().map(|(k, v)| (k.clone(), v)));
        }
        let source = open(&path).unwrap_or_else(|e| panic!("{at}: {e}"));
        let plan = source.plan();
        let mut seen = std::collections::HashMap::<String, usize>::new();
        let mut named = std::collections::HashSet::new();
        for (name, value) in wanted {
            let name = match name.as_str() {
                "" if value["path"] == serde_json::json!([]) => Location::local(&path).stem(),
                "" => "unnamed".into(),
                _ => name,
            };
            let count = seen.entry(name.clone()).or_default();
            let name = if *count == 0 { name } else { format!("{name}_{count}") };
            *count += 1;
            let index = plan.position(&name).unwrap_or_else(|| {
                panic!(
                    "{at}: {name} is not found among {:?}",
                    plan.arrays.iter().map(|a| &a.name).collect::<Vec<_>>()
                )
            });
            named.insert(index);
            let meta = &plan.arrays[index];
            let what = format!("{at}: {name}");
            let unreadable = value.get("quant").is_some()
                || value.get("meta").is_some()
                || value.get("layout").is_some_and(|l| l != "strided")
                || value.get("note").is_some()
                || value.get("hex").is_some_and(Value::is_null)
                || value["t"] == "ndarray"
                    && numpy_dtype(value["dtype"].as_str().unwrap()).is_none();
            if unreadable {
                let error = meta
                    .details
                    .error
                    .as_ref()
                    .unwrap_or_else(|| panic!("{what}: read, but should not"));
                assert_eq!(error.kind(), ErrorKind::Refused, "{what}: {error}");
                refused += 1;
                continue;
            }
            if let Some(error) = &meta.details.error {
                panic!("{what}: {error}");
            }
            let got =
                bytes(source.as_ref(), index, u64::MAX).unwrap_or_else(|e| panic!("{what}: {e}"));
            compared += 1;
            if let Some(nbytes) = value.get("nbytes") {
                assert_eq!(nbytes, got.len(), "{what}");
                continue;
            }
            let shape = meta.shape().unwrap();
            if value.get("shape").is_some() {
                assert_eq!(serde_json::json!(shape), value["shape"], "{what}");
            } else {
                assert!(shape.is_empty(), "{what}");
            }
            let dtype = value["dtype"].as_str().unwrap();
            match (&meta.logical, value.get("t")) {
                (Logical::Packed { dtype: packed, .. }, _) => {
                    assert_eq!((packed.as_str(), dtype), ("F4", "float4_e2m1fn_x2"), "{what}")
                }
                (_, Some(_)) => assert_eq!(Some(meta.type_name()), numpy_dtype(dtype), "{what}"),
                _ => assert_eq!(meta.type_name(), dtype, "{what}"),
            }
            assert_eq!(
                got,
                unhex(value["hex"].as_str().unwrap()),
                "{what}: values of {shape:?} {dtype}"
            );
            for step in [1, 2, 3] {
                assert_eq!(
                    bytes(source.as_ref(), index, step).unwrap(),
                    got,
                    "{what} in pieces of {step} rows"
                );
            }
        }
        for (i, meta) in plan.arrays.iter().enumerate() {
            if !named.contains(&i)
                && meta.details.error.is_none()
                && expected.get("load_error").is_none()
            {
                panic!("{at}: {} is not in the expectations", meta.name);
            }
        }
    }
    assert!(compared > 1500 && refused > 10, "{compared} compared, {refused} refused");
}

/// Moves all readable arrays of `source` to `to` through the pipe.
fn convert(
    source: Box<dyn Source>,
    to: &Path,
    options: &WriteOptions,
) -> Result<npk::format::Summary, Error> {
    let holds = Pytorch.spec().writes.as_ref().unwrap();
    let settings = npk::pipe::Settings::new(2, 64 << 20);
    let at = Location::local(to);
    let prepared = Pytorch.prepare(&at, source.plan(), options)?;
    npk::pipe::run(source, holds, prepared, &settings).map(|(summary, _)| summary)
}

/// A source without the arrays that cannot be read.
struct Readable {
    inner: Box<dyn Source>,
    plan: npk::model::Plan,
    of: Vec<usize>,
}

impl Readable {
    fn new(inner: Box<dyn Source>) -> Readable {
        let mut plan = inner.plan().clone();
        let of: Vec<usize> =
            (0..plan.arrays.len()).filter(|&i| plan.arrays[i].details.error.is_none()).collect();
        plan.arrays.retain(|a| a.details.error.is_none());
        Readable { inner, plan, of }
    }
}

struct ReadableRows(std::sync::Arc<dyn ReadRows>, Vec<usize>);

impl ReadRows for ReadableRows {
    fn read(
        &self,
        array: usize,
        rows: std::ops::Range<u64>,
        emit: npk::format::Emit<'_>,
    ) -> Result<(), Error> {
        self.0.read(self.1[array], rows, &mut |chunk| emit(Chunk { array, ..chunk }))
    }
    fn extents(&self, array: usize) -> Option<Vec<npk::format::Extent>> {
        self.0.extents(self.1[array])
    }
}

impl Source for Readable {
    fn plan(&self) -> &npk::model::Plan {
        &self.plan
    }
    fn select(&self, arrays: &[usize], _wish: Order) -> Result<npk::format::Reader, Error> {
        let arrays: Vec<usize> = arrays.iter().map(|&a| self.of[a]).collect();
        let reader = self.inner.select(&arrays, Order::ArrayByArray)?.random().unwrap();
        Ok(npk::format::Reader::Random(std::sync::Arc::new(ReadableRows(reader, self.of.clone()))))
    }
}

/// The Python that has torch (Debian's is enough); `None` where the tests are told to do without.
fn torch_python() -> Option<std::path::PathBuf> {
    if std::env::var_os("NPK_TEST_NO_TORCH").is_some_and(|v| v == "1") {
        return None;
    }
    Some(
        std::env::var_os("NPK_TEST_TORCH_PYTHON")
            .map_or_else(|| "/usr/bin/python3".into(), Into::into),
    )
}

#[track_caller]
fn run_torch(python: &Path, directory: &Path, code: &str) -> String {
    let output = std::process::Command::new(python)
        .args(["-W", "ignore", "-c", code])
        .current_dir(directory)
        .env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judges"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap_or_else(|e| {
            panic!("{}: {e}: install python3-torch, or set NPK_TEST_NO_TORCH=1", python.display())
        });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !errors.contains("No module named 'torch'"),
        "{} cannot import torch: install python3-torch, name another Python in NPK_TEST_TORCH_PYTHON, or set NPK_TEST_NO_TORCH=1",
        python.display()
    );
    assert!(output.status.success(), "torch failed in {}\n{code}\n{errors}", directory.display());
    String::from_utf8(output.stdout).unwrap()
}

/// Every fixture's readable arrays, written again; `torch.load` must find the same values under the
/// same names.
#[test]
fn what_is_written_reads_back() {
    let scratch = Scratch::new();
    let mut count = 0;
    for (i, path) in fixtures("good/pt", &["pt", "pth", "ckpt"]).into_iter().enumerate() {
        let source = Readable::new(open(&path).unwrap());
        if source.plan.arrays.is_empty() {
            continue;
        }
        let to = scratch.join(&format!("{i}.pt"));
        let plan = source.plan.clone();
        convert(Box::new(source), &to, &WriteOptions::default())
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (first, again) = (Readable::new(open(&path).unwrap()), open(&to).unwrap());
        let what = path.display();
        assert_eq!(again.plan().arrays.len(), plan.arrays.len(), "{what}");
        let mut keys = plan
            .attributes
            .keys()
            .chain(again.plan().attributes.keys())
            .filter(|k| *k != "pt.structure");
        for (a, meta) in plan.arrays.iter().enumerate() {
            let b = again
                .plan()
                .position(&meta.name)
                .unwrap_or_else(|| panic!("{what}: {} is lost", meta.name));
            let other = &again.plan().arrays[b];
            // A numpy time has no type in torch: the pipe alone does not turn it into counts.
            assert_eq!(
                (meta.dtype, meta.shape()),
                (other.dtype, other.shape()),
                "{what}: {}",
                meta.name
            );
            assert_eq!(meta.details.alias_of, other.details.alias_of, "{what}: {}", meta.name);
            assert_eq!(
                bytes(&first, a, 1000).unwrap(),
                bytes(again.as_ref(), b, 1000).unwrap(),
                "{what}: {}",
                meta.name
            );
        }
        if plan.attributes.contains_key("pt.structure")
            && !["python_objects", "cyclic"].iter().any(|n| path.to_string_lossy().contains(n))
        {
            let differs = keys.find(|k| plan.attributes.get(*k) != again.plan().attributes.get(*k));
            assert_eq!(
                differs,
                None,
                "{what}: {:?} {:?}",
                plan.attributes,
                again.plan().attributes
            );
        }
        count += 1;
    }
    assert!(count > 130, "{count} written");
}

/// Opens and reads everything; the first error, if any.
fn read_all(location: &Location) -> Result<usize, Error> {
    let options = ReadOptions {
        resources: npk::format::Resources::new(2, 16 << 20),
        ..ReadOptions::default()
    };
    let source = Pytorch.open(location, &options)?;
    let count = source.plan().arrays.len();
    let all: Vec<usize> = (0..count).collect();
    let reader = source.select(&all, Order::ArrayByArray)?.random().unwrap();
    for (i, meta) in source.plan().arrays.iter().enumerate() {
        let rows = meta.rows.unwrap();
        let step = ((1 << 20) / meta.row_bytes()?.max(1)).max(1);
        // A view may repeat its storage without end: the first megabytes will do.
        for row in (0..rows).step_by(step as usize).take(4) {
            reader.read(i, row..(row + step).min(rows), &mut |_| Ok(()))?;
        }
        reader.extents(i);
    }
    Ok(count)
}

#[test]
fn hostile_files_end_in_one_sentence() {
    let scratch = Scratch::new();
    let mut seen = 0;
    for path in fixtures("bad/pt", &["pt"]) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let result = read_all(&Location::local(&path));
        let (kind, word) = match name.as_str() {
            // torch opens it as well.
            "crc_mismatch.pt" => {
                println!("{name}: {result:?}");
                seen += 1;
                continue;
            }
            "builtins_exec_p0.pt" => (ErrorKind::Refused, "builtins.exec"),
            "inst_opcode.pt" => (ErrorKind::Refused, "os.system"),
            "os_system_p4.pt" => (ErrorKind::Refused, "posix.system"),
            "popen.pt" => (ErrorKind::Refused, "commands.Popen"),
            "unknown_rebuild.pt" => (ErrorKind::Refused, "torch._utils._rebuild_nope"),
            "nest_100k_tuples.pt" => (ErrorKind::Refused, "deeper than 100"),
            "billion_dup.pt" => (ErrorKind::Refused, "without end"),
            "html.pt" => (ErrorKind::Missing, "HTML"),
            "zip_prefix_junk.pt" => (ErrorKind::Missing, "begins with"),
            "own_root_empty.pt" | "no_tensor_1.13.pt" | "no_tensor_2.15.pt"
            | "memo_index_4g.pt" => (ErrorKind::Missing, "no "),
            "key_traversal.pt" | "missing_record.pt" => (ErrorKind::Corrupt, "no record"),
            _ => (ErrorKind::Corrupt, ""),
        };
        let error = match result {
            Ok(n) => panic!("{name}: {n} arrays were read"),
            Err(e) => e,
        };
        println!("{name}: {:?}: {error}", error.kind());
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(
            error.to_string().contains(word) && !error.message().contains('\n'),
            "{name}: {error}"
        );
        seen += 1;
    }
    assert!(seen >= 40, "{seen} hostile files");
    assert!(!Path::new("PWNED").exists() && !scratch.join("PWNED").exists());
}

#[test]
fn thousands_of_mutants_end_in_errors() {
    let scratch = Scratch::new();
    let at = scratch.join("mutant.pt");
    let (mut whole, mut failed) = (0, 0);
    for (name, count) in [
        ("torch2.15/checkpoint_dict.pt", 400),
        ("torch2.15/save_nocrc.pt", 900),
        ("torch1.13/legacy_checkpoint.pt", 600),
        ("torch1.13/legacy_protocol5.pt", 400),
        ("torch2.15/legacy_views.pt", 400),
        ("handmade/tar_0.1.pt", 500),
        ("handmade/own_nocrc.pt", 900),
        ("handmade/zip_deflated.pt", 300),
        ("torch2.15/numpy_inside_proto5.pt", 300),
        ("torch1.13/module_sequential.pt", 300),
    ] {
        let original = std::fs::read(fixture(&format!("good/pt/{name}"))).unwrap();
        mutants(&original, count, |bytes| {
            std::fs::write(&at, bytes).unwrap();
            match read_all(&Location::local(&at)) {
                Ok(_) => whole += 1,
                Err(e) => {
                    assert!(!e.message().is_empty() && !e.message().contains('\n'), "{name}: {e}");
                    let expected = [ErrorKind::Corrupt, ErrorKind::Refused, ErrorKind::Missing];
                    assert!(expected.contains(&e.kind()), "{name}: {:?} {e}", e.kind());
                    failed += 1;
                }
            }
        });
    }
    assert!(failed > 2000, "{failed} failed, {whole} were read");
}

/// The pickle machine alone, with every byte turned in many ways: no checksum stands in front of
/// it.
#[test]
fn mutated_pickles_end_in_errors() {
    let original = std::fs::read(fixture("good/pt/handmade/own_nocrc.pt")).unwrap();
    let start = original.windows(2).position(|w| w == b"\x80\x02").unwrap();
    let end = original
        .windows(4)
        .rposition(|w| w == b"PK\x07\x08")
        .map_or(start + 2000, |e| e.min(start + 2094));
    mutants(&original[start..end], 4000, |bytes| {
        if let Ok(pickle) = npk::codec::pickle::read(bytes.to_vec(), 16 << 20) {
            assert!(pickle.used() <= bytes.len() as u64);
        }
    });
}

/// A list of small things that would take gigabytes as nodes ends at the limit, a deep one is never
/// recursed into.
#[test]
fn pickles_are_bounded() {
    let mut wide = vec![b']'; 4 << 20];
    wide.push(b'.');
    let error = npk::codec::pickle::read(wide, 32 << 20).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    let mut deep = vec![b'N'];
    deep.extend(vec![0x85; 1 << 20]);
    deep.push(b'.');
    drop(npk::codec::pickle::read(deep, 256 << 20).unwrap());
    let mut marks = vec![b'('; 4 << 20];
    marks.push(b'.');
    assert!(npk::codec::pickle::read(marks, 16 << 20).is_err());
}

/// What is written back is what torch itself finds in its own file: tree, keys, plain values,
/// tensors.
#[test]
fn torch_finds_the_same_in_ours_as_in_its_own() {
    let Some(python) = torch_python() else { return };
    compare_with_torch(&python, "torch1.13");
}

/// A torch of version 2, where there is one: all element types, and `mmap`.
#[test]
fn torch_2_finds_the_same_in_ours_as_in_its_own() {
    let Some(python) = std::env::var_os("NPK_TEST_TORCH2_PYTHON") else { return };
    compare_with_torch(Path::new(&python), "torch1.13");
    compare_with_torch(Path::new(&python), "torch2.15");
}

fn compare_with_torch(python: &Path, folder: &str) {
    let scratch = Scratch::new();
    let mut pairs = Vec::new();
    // Not: classes of their own, tensors that are refused, times of numpy, a bare storage, values
    // inside themselves.
    let not = [
        "cyclic",
        "meta_tensor",
        "module_custom",
        "nested_tensor",
        "numpy_inside",
        "numpy_strings",
        "python_objects.",
        "quantized",
        "rng_state",
        "sparse",
        "storages",
        "subclass",
        "tensor_p",
        "torchscript",
        "legacy_dtypes_new",
        "python_objects_safe",
        "root_archive",
        "legacy_tensor",
        "skipdata",
    ];
    for path in fixtures(&format!("good/pt/{folder}"), &["pt", "pth", "ckpt"]) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if not.iter().any(|n| name.starts_with(n) || name.contains("skipdata")) {
            continue;
        }
        let to = scratch.join(&format!("{}.pt", pairs.len()));
        convert(open(&path).unwrap(), &to, &WriteOptions::default()).unwrap();
        pairs.push(serde_json::json!({"theirs": path, "ours": to}));
    }
    assert!(pairs.len() > 25, "{} pairs", pairs.len());
    std::fs::write(scratch.join("pairs.json"), serde_json::to_vec(&pairs).unwrap()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judges/torch_compare.py");
    let code = format!(
        "import runpy, sys; sys.argv = ['', 'pairs.json']; runpy.run_path({:?}, run_name='__main__')",
        script.display().to_string()
    );
    let told = run_torch(python, scratch.path(), &code);
    println!("{}", told.lines().last().unwrap_or_default());
    assert_eq!(told.lines().filter(|l| l.starts_with("same")).count(), pairs.len(), "{told}");
}

/// Tied tensors share one storage again; equal ones that were not tied do not; a tie that no longer
/// holds is told.
#[test]
fn ties_come_back() {
    let Some(python) = torch_python() else { return };
    let scratch = Scratch::new();
    let source = open(&fixture("good/pt/torch1.13/tied_weights.pt")).unwrap();
    assert!(source.plan().arrays.iter().any(|a| a.details.alias_of.is_some()));
    convert(source, &scratch.join("tied.pt"), &WriteOptions::default()).unwrap();
    let code = "import torch, zipfile
d = torch.load('tied.pt', weights_only=True)
t = list(d.values())
print(len({x.data_ptr() for x in t}), len(t), len([n for n in zipfile.ZipFile('tied.pt').namelist() if '/data/' in n]))
assert zipfile.ZipFile('tied.pt').testzip() in (None, 'archive/data/0')";
    let told = run_torch(&python, scratch.path(), code);
    let numbers: Vec<usize> = told.split_whitespace().map(|n| n.parse().unwrap()).collect();
    assert!(numbers[0] < numbers[1] && numbers[0] == numbers[2], "{told}");
}

/// torch writes, we read: shapes, strides and types at random.
#[test]
fn what_torch_writes_is_read() {
    let Some(python) = torch_python() else { return };
    let scratch = Scratch::new();
    let code = "import torch, json, random
random.seed(5)
types = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128]
def one():
    shape = [random.randint(0 if random.random() < .1 else 1, 5) for _ in range(random.randint(0, 5))]
    t = torch.randint(0, 100, shape).to(random.choice(types))
    for _ in range(random.randint(0, 3)):
        k = random.random()
        if t.dim() and k < .3: t = t.transpose(random.randrange(t.dim()), random.randrange(t.dim()))
        elif t.dim() and k < .5: t = t.narrow(0, t.shape[0] // 2, t.shape[0] - t.shape[0] // 2)
        elif k < .7: t = t.unsqueeze(random.randint(0, t.dim()))
        elif t.dim() and k < .8 and t.shape[0] == 1: t = t.expand([3] + list(t.shape[1:]))
        elif t.dim() and k < .9: t = t[::2]
        elif t.dim() and t.shape[0]: t = t[-1]
    return t
d = {f't{i}': one() for i in range(400)}
d['nested'] = {'big': torch.arange(300 * 500, dtype=torch.int32).reshape(300, 500).t(), 'n': 3, 'f': 0.5}
torch.save(d, 'zip.pt')
torch.save(d, 'legacy.pt', _use_new_zipfile_serialization=False)
def raw(t):
    t = torch.empty(t.numel(), dtype=t.dtype).copy_(t.reshape(-1))
    return t.view(torch.uint8).numpy().tobytes().hex() if t.numel() else ''
flat = {k: v for k, v in d.items() if k != 'nested'}
flat['nested.big'] = d['nested']['big']
json.dump({k: [str(v.dtype)[6:], list(v.shape), raw(v)] for k, v in flat.items()}, open('expected.json', 'w'))";
    run_torch(&python, scratch.path(), code);
    let expected: Value =
        serde_json::from_slice(&std::fs::read(scratch.join("expected.json")).unwrap()).unwrap();
    for file in ["zip.pt", "legacy.pt"] {
        let source = open(&scratch.join(file)).unwrap();
        assert_eq!(source.plan().arrays.len(), 401);
        assert_eq!(source.plan().attributes["nested"], serde_json::json!({"n": 3, "f": 0.5}));
        for (i, meta) in source.plan().arrays.iter().enumerate() {
            let [dtype, shape, hex] = expected[&meta.name].as_array().unwrap().as_slice() else {
                panic!()
            };
            assert_eq!(
                (dtype.as_str().unwrap(), shape),
                (meta.dtype.name(), &serde_json::json!(meta.shape().unwrap())),
                "{file}: {}",
                meta.name
            );
            assert!(
                bytes(source.as_ref(), i, 7).unwrap() == unhex(hex.as_str().unwrap()),
                "{file}: {}",
                meta.name
            );
        }
    }
}

/// Through a store and back: element types that NumPack lacks, ties, nesting and plain values
/// return as they came.
#[test]
fn a_checkpoint_survives_a_store() {
    let scratch = Scratch::new();
    for (i, name) in [
        "torch2.15/dtypes.pt",
        "torch2.15/checkpoint_dict.pt",
        "torch1.13/tied_weights.pt",
        "torch1.13/shapes.pt",
    ]
    .iter()
    .enumerate()
    {
        let path = fixture(&format!("good/pt/{name}"));
        let (store, back) = (scratch.join(&format!("{i}.npk")), scratch.join(&format!("{i}.pt")));
        let args = |from: &Path, to: &Path| {
            [
                &["convert".into(), "-q".into()][..],
                &[from.as_os_str().to_owned(), to.as_os_str().to_owned()],
            ]
            .concat()
        };
        if name.contains("dtypes") {
            // complex32 is refused by name.
            let mut args = args(&path, &store);
            args.extend(["-x", "complex32"].map(Into::into));
            npk::<std::ffi::OsString>(&args);
        } else {
            npk::<std::ffi::OsString>(&args(&path, &store));
        }
        npk::<std::ffi::OsString>(&args(&store, &back));
        let (first, again) = (open(&path).unwrap(), open(&back).unwrap());
        for (a, meta) in
            first.plan().arrays.iter().enumerate().filter(|(_, m)| m.name != "complex32")
        {
            let b = again
                .plan()
                .position(&meta.name)
                .unwrap_or_else(|| panic!("{name}: {} is lost", meta.name));
            let other = &again.plan().arrays[b];
            if meta.type_name() == "F4" {
                continue; // travels as its bytes
            }
            assert_eq!(
                (meta.type_name(), meta.shape()),
                (other.type_name(), other.shape()),
                "{name}: {}",
                meta.name
            );
            assert_eq!(meta.details.alias_of, other.details.alias_of, "{name}: {}", meta.name);
            assert_eq!(
                bytes(first.as_ref(), a, 9).unwrap(),
                bytes(again.as_ref(), b, 9).unwrap(),
                "{name}: {}",
                meta.name
            );
        }
        if !name.contains("dtypes") {
            assert_eq!(first.plan().attributes, again.plan().attributes, "{name}");
        }
    }
}

#[test]
fn single_writes_the_bare_tensor() {
    let scratch = Scratch::new();
    let path = fixture("good/pt/torch1.13/tensor_plain.pt");
    let options = WriteOptions { single: true, ..WriteOptions::default() };
    convert(open(&path).unwrap(), &scratch.join("one.pt"), &options).unwrap();
    let again = open(&scratch.join("one.pt")).unwrap();
    assert_eq!(again.plan().arrays[0].name, "one", "a bare tensor takes the file's name");
    let many = open(&fixture("good/pt/torch1.13/shapes.pt")).unwrap();
    let error = convert(many, &scratch.join("many.pt"), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    if let Some(python) = torch_python() {
        let told = run_torch(
            &python,
            scratch.path(),
            "import torch; print(type(torch.load('one.pt', weights_only=True)).__name__)",
        );
        assert_eq!(told.trim(), "Tensor");
    }
    assert_eq!(scratch.names(), ["one.pt"]);
}

#[test]
fn shards_are_one_input() {
    let scratch = Scratch::new();
    for (i, name) in ["torch1.13/dict_tensors.pt", "torch1.13/tied_weights.pt"].iter().enumerate() {
        std::fs::copy(
            fixture(&format!("good/pt/{name}")),
            scratch.join(&format!("pytorch_model-0000{}-of-00002.bin", i + 1)),
        )
        .unwrap();
    }
    let mut map = serde_json::Map::new();
    for i in 1..=2 {
        let file = format!("pytorch_model-0000{i}-of-00002.bin");
        for meta in &open(&scratch.join(&file)).unwrap().plan().arrays {
            map.insert(meta.name.clone(), file.clone().into());
        }
    }
    let index = scratch.join("pytorch_model.bin.index.json");
    std::fs::write(
        &index,
        serde_json::to_vec(&serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map}))
            .unwrap(),
    )
    .unwrap();
    for at in [index.as_path(), scratch.path()] {
        let source = open(at).unwrap();
        assert_eq!(source.plan().arrays.len(), map.len());
        assert!(source.plan().arrays.iter().all(|a| a.details.part.is_some()));
        bytes(source.as_ref(), map.len() - 1, 2).unwrap();
        assert_eq!(npk(&["list".as_ref(), at.as_os_str()]).lines().count(), map.len());
    }
    std::fs::remove_file(scratch.join("pytorch_model-00002-of-00002.bin")).unwrap();
    let error = open(&index).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
}

#[test]
fn refusals_name_what_was_asked_for() {
    let scratch = Scratch::new();
    let out = scratch.join("out.npk");
    let bad = |name: &str| fixture(&format!("bad/pt/{name}"));
    for (name, code, word) in [
        ("popen.pt", 4, "commands.Popen"),
        ("os_system_p4.pt", 4, "posix.system"),
        ("trunc_2317.pt", 7, "is truncated"),
        ("offset_beyond.pt", 7, "element 6"),
        ("no_tensor_2.15.pt", 3, "no tensor"),
        ("html.pt", 3, "HTML"),
    ] {
        let told = npk_fails(code, &["convert".as_ref(), bad(name).as_os_str(), out.as_os_str()]);
        assert!(told.contains(word), "{name}: {told}");
    }
    let partly = fixture("good/pt/torch2.15/meta_tensor.pt");
    let told = npk_fails(4, &["convert".as_ref(), partly.as_os_str(), out.as_os_str()]);
    assert!(told.contains("meta tensor") && told.contains("--skip-unsupported"), "{told}");
    assert_eq!(scratch.names(), Vec::<String>::new(), "nothing is left behind");
    npk(&["convert".as_ref(), "--skip-unsupported".as_ref(), partly.as_os_str(), out.as_os_str()]);
}

/// Storage that only takes bytes in turn, as object storage does.
#[derive(Default)]
struct Shelf(std::sync::Mutex<Vec<u8>>);

struct OnShelf(std::sync::Arc<Shelf>, Vec<u8>);

impl std::io::Write for OnShelf {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl npk::storage::Output for OnShelf {
    fn commit(self: Box<Self>) -> Result<(), Error> {
        *self.0.0.lock().unwrap() = self.1;
        Ok(())
    }
}

struct Shop(std::sync::Arc<Shelf>);

impl npk::storage::Backend for Shop {
    fn kind(&self, _: &str) -> Result<npk::storage::EntryKind, Error> {
        Ok(npk::storage::EntryKind::File {
            len: self.0.0.lock().unwrap().len() as u64,
            modified: None,
        })
    }
    fn list(&self, _: &str) -> Result<Vec<npk::storage::Entry>, Error> {
        Ok(Vec::new())
    }
    fn walk(&self, _: &str) -> Result<Vec<(String, u64)>, Error> {
        Ok(Vec::new())
    }
    fn blob(&self, _: &str) -> Result<std::sync::Arc<dyn npk::storage::Blob>, Error> {
        Ok(std::sync::Arc::new(npk::storage::MemoryBlob(self.0.0.lock().unwrap().clone())))
    }
    fn stream(&self, _: &str) -> Result<Box<dyn std::io::Read + Send>, Error> {
        Ok(Box::new(std::io::Cursor::new(self.0.0.lock().unwrap().clone())))
    }
    fn create_file(
        &self,
        _: &str,
        _: npk::format::Existing,
    ) -> Result<Box<dyn npk::storage::Output>, Error> {
        Ok(Box::new(OnShelf(self.0.clone(), Vec::new())))
    }
    fn create_dir(
        &self,
        _: &str,
        _: npk::format::Existing,
        _: &[&str],
    ) -> Result<Box<dyn npk::storage::OutputDir>, Error> {
        Err(Error::failed("no directories here"))
    }
    fn remove(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }
    fn display(&self, key: &str) -> String {
        key.to_string()
    }
}

/// Written in turn (data descriptors, as torch has them) and read by ranges: the same values,
/// checksums that hold.
#[test]
fn object_storage_gets_it_in_turn() {
    let scratch = Scratch::new();
    let mut files = Vec::new();
    for name in [
        "torch1.13/shapes.pt",
        "torch1.13/views.pt",
        "torch1.13/tied_weights.pt",
        "torch1.13/state_dict.pt",
    ] {
        let shelf = std::sync::Arc::new(Shelf::default());
        let at = Location::remote(std::sync::Arc::new(Shop(shelf.clone())), "shelf/out.pt");
        let path = fixture(&format!("good/pt/{name}"));
        let settings = npk::pipe::Settings::new(2, 64 << 20);
        let written = WriteOptions::default();
        npk::pipe::run(
            open(&path).unwrap(),
            Pytorch.spec().writes.as_ref().unwrap(),
            Box::new(|plan| Pytorch.prepare(&at, plan, &written)?(plan)),
            &settings,
        )
        .unwrap();
        let (first, again) = (open(&path).unwrap(), Pytorch.open(&at, &options()).unwrap());
        let count = first.plan().arrays.len();
        let all: Vec<usize> = (0..count).collect();
        let reader = again.select(&all, Order::ArrayByArray).unwrap().random().unwrap();
        for (a, meta) in first.plan().arrays.iter().enumerate() {
            let b = again.plan().position(&meta.name).unwrap();
            assert!(reader.extents(b).is_none_or(|e| e.is_empty()), "there is no local file");
            assert_eq!(
                bytes(first.as_ref(), a, 3).unwrap(),
                bytes(again.as_ref(), b, 3).unwrap(),
                "{name}: {}",
                meta.name
            );
        }
        let notes = Pytorch.verify(&at, &options()).unwrap();
        assert!(notes.is_empty(), "every record has its checksum: {notes:?}");
        let file = scratch.join(&format!("{}.pt", files.len()));
        std::fs::write(&file, shelf.0.lock().unwrap().as_slice()).unwrap();
        files.push(serde_json::json!({"theirs": path, "ours": file}));
    }
    let Some(python) = torch_python() else { return };
    std::fs::write(scratch.join("pairs.json"), serde_json::to_vec(&files).unwrap()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judges/torch_compare.py");
    let code = format!(
        "import runpy, sys; sys.argv = ['', 'pairs.json']; runpy.run_path({:?}, run_name='__main__')",
        script.display().to_string()
    );
    let told = run_torch(&python, scratch.path(), &code);
    assert_eq!(told.lines().filter(|l| l.starts_with("same")).count(), files.len(), "{told}");
}
