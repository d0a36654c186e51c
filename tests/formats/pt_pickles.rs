//! Checkpoints with what is rare in them: legacy files with refused tensors, packed weights, Python
//! 2, devices' arrays.

use std::path::Path;

use super::pt_support::*;
use crate::support::*;

fn convert(path: &Path, out: &Path, flags: &[&str]) {
    let mut args: Vec<&std::ffi::OsStr> =
        vec!["convert".as_ref(), "-f".as_ref(), path.as_os_str(), out.as_os_str()];
    args.extend(flags.iter().map(std::ffi::OsStr::new));
    npk(&args);
}

fn names(path: &Path) -> Vec<String> {
    npk(&["list".as_ref(), path.as_os_str()]).lines().map(str::to_string).collect()
}

/// What a legacy file lists, but no tensor that can be read asks for, is passed by its size.
#[test]
fn legacy_files_with_refused_tensors_are_read() {
    let scratch = Scratch::new();
    let out = scratch.join("out.npk");
    let ordered = call("collections", "OrderedDict", &[]);
    let args =
        join(&[&storage("0", "QInt32Storage", 2), &int(0), &tuple(&[&int(2)]), &tuple(&[&int(1)])]);
    let quantized =
        call("torch._utils", "_rebuild_qtensor", &[&args, &tuple(&[]), b"\x89", &ordered]);
    let sparse = call(
        "torch._utils",
        "_rebuild_sparse_tensor",
        &[&tensor_of("0", "LongStorage", &[1], &ordered, b"")],
    );
    let ghost = tensor_of("0", "LongStorage", &[1], &ordered, b"");
    let good = tensor_of("1", "FloatStorage", &[2], &ordered, b"");
    let data = [1u8; 8];
    for (name, what, refused) in
        [("quantized", quantized, true), ("sparse", sparse, true), ("dropped", ghost, false)]
    {
        let body = match refused {
            true => dict(&[(&text("q"), &what), (&text("a"), &good)]),
            false => join(&[&what, b"0", &dict(&[(&text("a"), &good)])]),
        };
        let count = if name == "quantized" { 2 } else { 1 };
        let path = legacy(
            &scratch.join(&format!("{name}.pt")),
            &body,
            &[("0", count, &data), ("1", 2, &FLOATS)],
        );
        if refused {
            let told = npk_fails(4, &["convert".as_ref(), path.as_os_str(), out.as_os_str()]);
            assert!(told.contains(&format!("{name} tensor")), "{told}");
        }
        convert(&path, &out, &["--skip-unsupported"]);
        let csv = scratch.join("a.csv");
        convert(&out, &csv, &[]);
        let told = std::fs::read_to_string(&csv).unwrap();
        assert!(told.lines().skip(1).eq(["1.0", "2.0"]), "{name}: {told}");
    }
}

fn script(scratch: &Scratch, name: &str, body: &[u8]) -> std::path::PathBuf {
    write(
        &scratch.join(name),
        body,
        &[("archive/data/0", &FLOATS), ("archive/constants.pkl", b"\x80\x02).")],
    )
}

/// Weights that a TorchScript archive keeps packed, or in lists, are not dropped.
#[test]
fn script_members_are_listed_or_read() {
    let scratch = Scratch::new();
    let packed = object(
        "__torch__.torch.classes.quantized",
        "LinearPackedParamsBase",
        &tuple(&[&tuple(&[&tensor(), b"N"]), b"\x89"]),
    );
    let module = object(
        "__torch__",
        "M",
        &dict(&[(&text("w"), &tensor()), (&text("p"), &packed), (&text("k"), &int(3))]),
    );
    let path = script(&scratch, "packed.pt", &module);
    let told =
        npk_fails(4, &["convert".as_ref(), path.as_os_str(), scratch.join("out.npk").as_os_str()]);
    assert!(
        told.contains("p: it holds quantized weights") && told.contains("LinearPackedParamsBase"),
        "{told}"
    );
    convert(&path, &scratch.join("out.npk"), &["--skip-unsupported"]);
    assert_eq!(names(&scratch.join("out.npk")), ["w"]);

    let tensors = call("torch.jit._pickle", "build_tensorlist", &[&list(&[&tensor()])]);
    let tagged = call(
        "torch.jit._pickle",
        "restore_type_tag",
        &[&dict(&[(&text("q"), &tensor())]), &text("Dict[str, Tensor]")],
    );
    let plain = list(&[&int(1), &int(2)]);
    let state = dict(&[
        (&text("w"), &tensor()),
        (&text("l"), &tensors),
        (&text("d"), &tagged),
        (&text("n"), &plain),
    ]);
    let path = script(&scratch, "lists.pt", &object("__torch__", "M", &state));
    assert_eq!(names(&path), ["w", "l.0", "d.q"]);
}

/// Python 2 pickles an OrderedDict as the list of its pairs.
#[test]
fn modules_of_python_2_keep_their_parameters() {
    let scratch = Scratch::new();
    let ordered = |pairs: &[(&str, &[u8])]| {
        let pairs: Vec<Vec<u8>> = pairs.iter().map(|(k, v)| list(&[&text(k), v])).collect();
        let pairs: Vec<&[u8]> = pairs.iter().map(Vec::as_slice).collect();
        call("collections", "OrderedDict", &[&list(&pairs)])
    };
    let module = |class: &str, parameters: &[(&str, &[u8])], modules: &[(&str, &[u8])]| {
        let state = dict(&[
            (&text("_parameters"), &ordered(parameters)),
            (&text("_buffers"), &ordered(&[])),
            (&text("_modules"), &ordered(modules)),
        ]);
        object("torch.nn.modules.x", class, &state)
    };
    let linear = module("Linear", &[("weight", &tensor())], &[]);
    let path = checkpoint(&scratch, "py2.pt", &module("Sequential", &[], &[("0", &linear)]));
    assert_eq!(names(&path), ["0.weight"]);
}

/// numpy 2.4 writes arrays whose axes are permuted in the order in which they lie.
#[test]
#[ignore = "asks the real libraries"]
fn arrays_in_any_order_are_numpys() {
    let scratch = Scratch::new();
    let code = "
import numpy as np, pickle, zipfile
a = np.arange(24).reshape(2, 3, 4)
value = {'k': a.transpose(1, 0, 2), 'k2': a.transpose(2, 0, 1), 'f': np.asfortranarray(a[0]), 'c': a, 's': np.float32(1.5)}
def save(name, pickled):
    with zipfile.ZipFile(name, 'w') as z:
        z.writestr('archive/data.pkl', pickled)
        z.writestr('archive/version', '3\\n')
save('a.pt', pickle.dumps(value, 5))
np.savez('a.npz', **value)
class Odd:
    def __reduce__(self):
        return np._core.numeric._frombuffer, (bytearray(8), np.dtype('f4'), (2, 1), 'A')
save('odd.pt', pickle.dumps({'x': Odd()}, 5))
";
    python(scratch.path(), code);
    npk(&["diff".as_ref(), scratch.join("a.pt").as_os_str(), scratch.join("a.npz").as_os_str()]);
    let told = npk_fails(
        4,
        &[
            "convert".as_ref(),
            scratch.join("odd.pt").as_os_str(),
            scratch.join("o.npk").as_os_str(),
        ],
    );
    assert!(told.contains("order 'A'"), "{told}");
}

/// A deflated archive takes one temporary file, however many records it has.
#[test]
#[ignore = "asks the real libraries"]
fn deflated_records_share_a_file() {
    let scratch = Scratch::new();
    let parts: Vec<Vec<u8>> = (0..300)
        .map(|i| {
            let tensor = tensor_of(
                &i.to_string(),
                "FloatStorage",
                &[2],
                &call("collections", "OrderedDict", &[]),
                b"",
            );
            join(&[&text(&format!("t{i}")), &tensor])
        })
        .collect();
    std::fs::write(scratch.join("data.pkl"), pickle(&join(&[b"}(", &parts.concat(), b"u"])))
        .unwrap();
    let code = "
import struct, zipfile
with zipfile.ZipFile('d.pt', 'w', zipfile.ZIP_DEFLATED) as z:
    z.write('data.pkl', 'archive/data.pkl')
    for i in range(300):
        z.writestr(f'archive/data/{i}', struct.pack('<2f', i, i + 0.5))
    z.writestr('archive/version', '3\\n')
";
    python(scratch.path(), code);
    let out = scratch.join("d.npz");
    let output = npk_within(
        "-n 128",
        &["convert".as_ref(), scratch.join("d.pt").as_os_str(), out.as_os_str()],
    );
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    python(
        scratch.path(),
        "import numpy as np; z = np.load('d.npz'); assert all((z[f't{i}'] == [i, i + 0.5]).all() for i in range(300))",
    );
}

/// Python's text may hold halves of surrogate pairs; other broken text stays corrupt
/// (fixtures/bad/pt/bad_utf8.pt).
#[test]
fn half_surrogates_are_escaped() {
    let scratch = Scratch::new();
    let raw = |bytes: &[u8]| join(&[b"X", &(bytes.len() as u32).to_le_bytes(), bytes]);
    let body =
        dict(&[(&raw(b"x\xed\xa0\x80"), &tensor()), (&text("path"), &raw(b"f\xed\xb3\xbf"))]);
    let path = checkpoint(&scratch, "half.pt", &body);
    assert_eq!(names(&path), ["x\\ud800"]);
    let output = npk_any(&["inspect".as_ref(), "--json".as_ref(), path.as_os_str()]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("2 texts"), "{told}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["metadata"]["path"], "f\\udcff");
}

/// A device's tensor is what it was on the device: bfloat16 travels as float32.
#[test]
fn tensors_of_devices_keep_their_type() {
    let scratch = Scratch::new();
    let array = |values: &[f32]| {
        let code = join(&[
            &call("numpy", "dtype", &[&text("f4"), b"\x89", b"\x88"]),
            &tuple(&[&int(3), &text("<"), b"NNN", &int(0), &int(0), &int(0)]),
            b"b",
        ]);
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let state = tuple(&[
            &int(1),
            &tuple(&[&int(values.len() as u64)]),
            &code,
            b"\x89",
            &join(&[b"C", &[bytes.len() as u8], &bytes]),
        ]);
        ndarray(&state)
    };
    let on_device = |values: &[f32], dtype: &str| {
        call(
            "torch._utils",
            "_rebuild_device_tensor_from_numpy",
            &[&array(values), &global("torch", dtype), &text("xla:0"), b"\x88"],
        )
    };
    let path = checkpoint(
        &scratch,
        "x.pt",
        &dict(&[
            (&text("b"), &on_device(&[1.5, 2.0], "bfloat16")),
            (&text("f"), &on_device(&[0.1], "float32")),
        ]),
    );
    let told = inspect(&path);
    assert_eq!(
        (&told["arrays"][0]["dtype"], &told["arrays"][1]["dtype"]),
        (&"bfloat16".into(), &"float32".into()),
        "{told}"
    );
    assert_eq!(told["arrays"][0]["attributes"]["requires_grad"], true, "{told}");
    let csv = scratch.join("b.csv");
    convert(&path, &csv, &["-a", "b"]);
    assert_eq!(
        std::fs::read_to_string(&csv)
            .unwrap()
            .lines()
            .skip(1)
            .map(|l| l.parse::<f32>().unwrap())
            .collect::<Vec<_>>(),
        [1.5, 2.0]
    );
    for (values, dtype) in [(&[0.1f32][..], "bfloat16"), (&[1.0], "float16")] {
        let path = checkpoint(&scratch, "y.pt", &dict(&[(&text("b"), &on_device(values, dtype))]));
        let told =
            npk_fails(4, &["convert".as_ref(), path.as_os_str(), csv.as_os_str(), "-f".as_ref()]);
        assert!(told.contains("values would change"), "{told}");
    }
}

/// One list that is too long is left out, not all that stands beside it; tensors left out are told.
#[test]
fn what_is_left_out_is_told() {
    let scratch = Scratch::new();
    let losses = list(&[&b"G?\xe0\0\0\0\0\0\0".repeat(200_001)]);
    let body =
        dict(&[(&text("a"), &tensor()), (&text("loss"), &losses), (&text("epoch"), &int(3))]);
    let output = npk_any(&[
        "inspect".as_ref(),
        "--json".as_ref(),
        checkpoint(&scratch, "long.pt", &body).as_os_str(),
    ]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("loss: its 20000"), "{told}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["metadata"]["epoch"], 3);
    assert!(json["metadata"].get("loss").is_none());

    let state = dict(&[
        (&text("_parameters"), &dict(&[(&text("w"), &tensor())])),
        (&text("_modules"), b"}"),
        (&text("cache"), &tensor()),
    ]);
    let path = checkpoint(&scratch, "module.pt", &object("my", "Net", &state));
    let output = npk_any(&["list".as_ref(), "-l".as_ref(), path.as_os_str()]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    let output = npk_any(&["inspect".as_ref(), path.as_os_str()]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("the first is cache"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Small records carry their checksum even where the kernel copied them.
#[test]
#[ignore = "asks the real libraries"]
fn small_files_pass_a_zip_test() {
    let scratch = Scratch::new();
    python(
        scratch.path(),
        "import numpy as np; np.savez('a.npz', a=np.arange(5000.), b=np.arange(7))",
    );
    convert(&scratch.join("a.npz"), &scratch.join("a.safetensors"), &[]);
    convert(&scratch.join("a.safetensors"), &scratch.join("a.pt"), &[]);
    let code = "
import zipfile
z = zipfile.ZipFile('a.pt')
assert z.testzip() is None, z.testzip()
assert all(i.CRC for i in z.infolist()), [(i.filename, i.CRC) for i in z.infolist()]
";
    python(scratch.path(), code);
}

/// Conjugated and negated at once: the real part turns its sign.
#[test]
#[ignore = "asks the real libraries"]
fn lazy_flips_go_together() {
    let scratch = Scratch::new();
    let flags = dict(&[(&text("conj"), b"\x88"), (&text("neg"), b"\x88")]);
    let body = dict(&[(
        &text("y"),
        &tensor_of(
            "0",
            "ComplexFloatStorage",
            &[1],
            &call("collections", "OrderedDict", &[]),
            &flags,
        ),
    )]);
    let path = checkpoint(&scratch, "c.pt", &body);
    convert(&path, &scratch.join("y.npy"), &[]);
    python(
        scratch.path(),
        "import numpy as np; v = np.load('y.npy'); assert v.tolist() == [-1 + 2j], v",
    );
}

/// Dimensions beside a 0 are never multiplied.
#[test]
fn empty_shapes_may_be_huge() {
    let scratch = Scratch::new();
    for (i, shape) in
        [[1u64 << 40, 1 << 40, 0], [1 << 40, 0, 1 << 40], [0, 1 << 40, 1 << 40]].iter().enumerate()
    {
        let body = dict(&[
            (
                &text("e"),
                &tensor_of(
                    "9",
                    "FloatStorage",
                    shape,
                    &call("collections", "OrderedDict", &[]),
                    b"",
                ),
            ),
            (&text("a"), &tensor()),
        ]);
        let path = write(
            &scratch.join(&format!("{i}.pt")),
            &body,
            &[("archive/data/0", &FLOATS), ("archive/data/9", b"")],
        );
        let output = npk_any(&[
            "convert".as_ref(),
            path.as_os_str(),
            scratch.join(&format!("{i}.npk")).as_os_str(),
        ]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            matches!(output.status.code(), Some(0 | 4 | 7)) && !told.contains("panicked"),
            "{shape:?}: {told}"
        );
    }
}

/// Tied tensors that part, and what of the metadata is lost, are told; a structure that is written
/// again loses nothing.
#[test]
fn what_a_target_cannot_keep_is_told() {
    let scratch = Scratch::new();
    let body = dict(&[
        (&text("epoch"), &int(3)),
        (&text("m"), &dict(&[(&text("a"), &tensor()), (&text("b"), &tensor())])),
    ]);
    let (path, store) = (checkpoint(&scratch, "c.pt", &body), scratch.join("c.npk"));
    let notes = |from: &Path, to: &Path, flags: &[&str]| {
        let mut args: Vec<&std::ffi::OsStr> =
            vec!["convert".as_ref(), "-f".as_ref(), from.as_os_str(), to.as_os_str()];
        args.extend(flags.iter().map(std::ffi::OsStr::new));
        let output = npk_any(&args);
        assert!(output.status.success());
        String::from_utf8(output.stderr)
            .unwrap()
            .lines()
            .filter(|l| l.starts_with("note: "))
            .map(|l| l[6..].to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        notes(&path, &store, &[]),
        ["1 array shares the bytes of another; written under each name they take 8 B more"]
    );
    let back = scratch.join("back.pt");
    for from in [&path, &store] {
        assert!(notes(from, &back, &[]).is_empty());
        assert_eq!(inspect(&back)["metadata"]["epoch"], 3);
        assert_eq!(
            notes(from, &back, &["--single", "-a", "m.a"]),
            ["pt cannot hold metadata; left out: epoch"]
        );
    }
    convert(&path, &store, &["--metadata", "more=1"]);
    assert_eq!(notes(&store, &back, &[]), ["pt cannot hold metadata; left out: more"]);
    let told = npk_fails(
        3,
        &["convert".as_ref(), path.as_os_str(), store.as_os_str(), "--key".as_ref(), "m".as_ref()],
    );
    assert!(told.contains("-a 'm.*' takes the 2 below it"), "{told}");
}
