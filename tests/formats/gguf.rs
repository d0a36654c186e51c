//! GGUF, with gguf-py as the judge in both directions.

use crate::support::{self, Scratch, at, fixture, inspect, npk, npk_any, npk_fails};

fn file(name: &str) -> String {
    fixture(&format!("good/gguf/{name}")).display().to_string()
}

#[test]
fn tensors_come_in_numpys_order_with_their_types() {
    let listed = npk(&["list", "-l", &file("plain.gguf")]);
    assert_eq!(
        listed.lines().collect::<Vec<_>>(),
        [
            "plain.float32\tfloat32\t3x4\t48",
            "plain.float16\tfloat16\t3x4\t24",
            "plain.float64\tfloat64\t3x4\t96",
            "plain.int8\tint8\t3x4\t12",
            "plain.int16\tint16\t3x4\t24",
            "plain.int32\tint32\t3x4\t48",
            "plain.int64\tint64\t3x4\t96",
            "vector\tfloat32\t5\t20",
            "cube\tfloat32\t2x3x4\t96",
            "bf16\tbfloat16\t1x3\t6",
        ]
    );
    for version in ["1", "2"] {
        let s = Scratch::new();
        let old = file(&format!("version{version}.gguf"));
        npk(&["convert", "-q", &old, &at(&s, "o.csv"), "--header", "no"]);
        assert_eq!(std::fs::read_to_string(s.join("o.csv")).unwrap(), "0.0,1.0,2.0\n3.0,4.0,5.0\n");
        let document = inspect(&fixture(&format!("good/gguf/version{version}.gguf")));
        assert_eq!(document["format_version"], version);
        assert_eq!(document["metadata"]["list"], serde_json::json!([7, 8]));
    }
}

/// The values of both byte orders are the same; blocks of a big-endian file stay blocks.
#[test]
fn big_endian_files_are_read() {
    let s = Scratch::new();
    let (big, out) = (file("big_endian.gguf"), at(&s, "o.npz"));
    npk(&["convert", &big, &out, "--dequantize", "-a", "plain.*"]);
    let document = inspect(&fixture("good/gguf/big_endian.gguf"));
    assert_eq!(document["format_version"], "3, big-endian");
    assert_eq!(document["metadata"]["test.int16"], -32768);
    let said = npk_any(&["convert", &big, &at(&s, "b.npz"), "--dequantize"]).stderr;
    assert!(String::from_utf8_lossy(&said).contains("1 tensors are quantised (1 Q8_0)"));
}

/// Every type of blocks, bit for bit what gguf-py makes of it (kept beside the fixture).
#[test]
fn blocks_become_the_floats_of_gguf_py() {
    let s = Scratch::new();
    let source = file("quantised.gguf");
    let floats = at(&s, "floats.npz");
    let said = npk_any(&["convert", &source, &floats, "--dequantize", "-x", "q8_1,q1_0,q8_k"]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    npk(&["diff", &floats, &file("quantised.npz")]);
    // Rounded once.
    npk(&[
        "convert",
        &source,
        &at(&s, "b.npz"),
        "--dequantize=bfloat16",
        "-a",
        "q4_k",
        "--bf16",
        "bits",
    ]);
    npk(&[
        "convert",
        &floats,
        &at(&s, "r.npz"),
        "--dtype",
        "bfloat16",
        "--lossy",
        "-a",
        "q4_k",
        "--bf16",
        "bits",
    ]);
    npk(&["diff", &at(&s, "b.npz"), &at(&s, "r.npz")]);
    npk(&["convert", &source, &at(&s, "h.npz"), "--dequantize=float16", "-a", "q6_k"]);
    npk(&["convert", &floats, &at(&s, "g.npz"), "--dtype", "float16", "--lossy", "-a", "q6_k"]);
    npk(&["diff", &at(&s, "h.npz"), &at(&s, "g.npz")]);
    // Some rows.
    npk(&["convert", &source, &at(&s, "row.npz"), "--dequantize", "-a", "iq3_s", "--rows", "1:2"]);
    npk(&["convert", &floats, &at(&s, "same.npz"), "-a", "iq3_s", "--rows", "1:2"]);
    npk(&["diff", &at(&s, "row.npz"), &at(&s, "same.npz")]);
}

/// Without the flag the blocks are kept, with a note; GGUF keeps their type, and so does a store.
#[test]
fn blocks_are_kept() {
    let s = Scratch::new();
    let source = file("quantised.gguf");
    let output = npk_any(&["convert", &source, &at(&s, "again.gguf")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("are quantised (1 Q4_0, 1 Q4_1,") && said.contains("--dequantize"),
        "{said}"
    );
    let same = std::fs::read(&source).unwrap() == std::fs::read(s.join("again.gguf")).unwrap();
    assert!(same, "a GGUF of gguf-py comes out as it was");
    npk(&["convert", "-q", &source, &at(&s, "o.npk")]);
    npk(&["convert", "-q", &at(&s, "o.npk"), &at(&s, "back.gguf")]);
    npk(&["diff", &at(&s, "back.gguf"), &source]);
    npk(&["convert", "-q", &source, &at(&s, "raw.npz"), "-a", "q4_k"]);
    assert_eq!(npk(&["list", "-l", &at(&s, "raw.npz")]), "q4_k\tuint8\t2x144\t288\n");
    assert_eq!(npk(&["list", "-l", &source, "-a", "q4_k"]), "q4_k\tQ4_K\t2x144\t288\n");
    // Half a block is none.
    npk(&["convert", "-q", &source, &at(&s, "t.npk"), "-a", "q4_k", "--rows", "0:1"]);
    npk(&["convert", "-q", &at(&s, "t.npk"), &at(&s, "t.gguf")]);
    assert_eq!(npk(&["list", "-l", &at(&s, "t.gguf")]), "q4_k\tQ4_K\t1x144\t144\n");
}

#[test]
fn metadata_keep_their_types() {
    let s = Scratch::new();
    for name in ["plain", "quantised"] {
        npk(&["convert", "-q", &file(&format!("{name}.gguf")), &at(&s, "o.gguf"), "-f"]);
        let bytes = std::fs::read(s.join("o.gguf")).unwrap();
        assert!(
            bytes == std::fs::read(fixture(&format!("good/gguf/{name}.gguf"))).unwrap(),
            "{name}"
        );
    }
    let document = inspect(&fixture("good/gguf/plain.gguf"));
    let metadata = &document["metadata"];
    assert_eq!(metadata["test.uint64"], u64::MAX);
    assert_eq!(metadata["test.inf"], "inf");
    assert_eq!(metadata["tokenizer.ggml.tokens"][1], "▁the");
    assert_eq!(metadata["gguf.types"]["tokenizer.ggml.token_type"], "array:int32");
    // Through a store, and with some added.
    npk(&["convert", "-q", &file("plain.gguf"), &at(&s, "o.npk")]);
    npk(&["convert", "-q", &at(&s, "o.npk"), &at(&s, "b.gguf"), "--metadata", "general.author=me"]);
    npk(&[
        "convert",
        "-q",
        &file("plain.gguf"),
        &at(&s, "c.gguf"),
        "--metadata",
        "general.author=me",
    ]);
    assert!(std::fs::read(s.join("b.gguf")).unwrap() == std::fs::read(s.join("c.gguf")).unwrap());
    // To a pipe, too.
    let piped = npk_any(&["convert", "-q", &file("plain.gguf"), "-", "--to", "gguf"]);
    assert!(piped.stdout == std::fs::read(fixture("good/gguf/plain.gguf")).unwrap());
}

#[test]
fn split_files_are_one_input() {
    let s = Scratch::new();
    let first = file("split/model-00001-of-00003.gguf");
    assert_eq!(npk(&["list", &first]), "part0\npart1\npart2\npart3\npart4\n");
    assert_eq!(npk(&["list", &file("split")]), "part0\npart1\npart2\npart3\npart4\n");
    npk(&["convert", &first, &at(&s, "one.gguf")]);
    let document = inspect(&s.join("one.gguf"));
    assert_eq!(document["metadata"]["general.name"], "in three files");
    assert!(document["metadata"].get("split.count").is_none());
    npk(&["diff", &first, &at(&s, "one.gguf")]);
    // A part by itself is what it is.
    assert_eq!(npk(&["list", &file("split/model-00003-of-00003.gguf")]), "part4\n");
    for name in ["model-00001-of-00003.gguf", "model-00002-of-00003.gguf"] {
        std::fs::copy(fixture(&format!("good/gguf/split/{name}")), s.join(name)).unwrap();
    }
    let said = npk_fails(3, &["list", &at(&s, "model-00001-of-00003.gguf")]);
    assert!(said.contains("model-00003-of-00003.gguf is missing"), "{said}");
    std::fs::copy(s.join("model-00002-of-00003.gguf"), s.join("model-00003-of-00003.gguf"))
        .unwrap();
    npk_fails(7, &["list", &at(&s, "model-00001-of-00003.gguf")]);
}

#[test]
fn what_gguf_cannot_hold_is_refused() {
    let s = Scratch::new();
    std::fs::write(s.join("a.csv"), "x\n1\n2\n").unwrap();
    let long = "n".repeat(64);
    let said = npk_fails(4, &["convert", &at(&s, "a.csv"), &at(&s, "o.gguf"), "--name", &long]);
    assert!(said.contains("its name has 64 bytes, GGUF has room for 63"), "{said}");
    let cast = ["convert", &at(&s, "a.csv"), &at(&s, "o.gguf"), "--dtype", "uint16"];
    let said = npk_fails(4, &cast);
    assert!(said.contains("cannot hold uint16"), "{said}");
    assert_eq!(s.names(), ["a.csv"]);
}

/// What gguf-py finds in a file, compared with an npz of the same.
const CHECK: &str = r#"
import gguf, numpy as np
def check(path, npz, floats):
    found, r = np.load(npz), gguf.GGUFReader(path)
    assert [t.name for t in r.tensors] == found.files, (path, found.files)
    for t in r.tensors:
        want = gguf.quants.dequantize(t.data, t.tensor_type) if floats else t.data
        got = found[t.name]
        assert got.shape == want.shape, (t.name, got.shape, want.shape)
        if floats: assert np.array_equal(got.view('u4') if got.dtype == 'f4' else got, want.view('u4') if want.dtype == 'f4' else want), t.name
        else: assert got.dtype == want.dtype and np.array_equal(got, want, equal_nan=got.dtype.kind == 'f'), t.name
"#;

#[test]
#[ignore = "asks the real libraries"]
fn files_of_gguf_py_read_as_it_reads_them() {
    let s = Scratch::new();
    support::python(
        s.path(),
        r#"
import gguf, numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T
rng = np.random.default_rng(5)
w, plain = gguf.GGUFWriter('q.gguf', 'llama'), gguf.GGUFWriter('p.gguf', 'llama')
weights = rng.normal(0, 0.05, (96, 512)).astype('f4')
for kind in T:
    if GGML_QUANT_SIZES[kind][0] == 1 or kind.name in ('Q8_1', 'Q8_K', 'Q1_0'): continue
    try: raw = gguf.quants.quantize(weights, kind)
    except NotImplementedError:
        # Random blocks; float16 numbers that are none are left out.
        size, width = GGML_QUANT_SIZES[kind]
        raw = rng.integers(0, 120, (96, 512 // size * width)).astype('u1')
    w.add_tensor(kind.name, raw, raw_dtype=kind)
w.add_array('tokenizer.ggml.tokens', [f'token {i}' for i in range(20000)])
for i, shape in enumerate([(3,), (4, 5), (2, 3, 4), (2, 3, 4, 5), (1, 1)]):
    for t in ('f4', 'f2', 'f8', 'i1', 'i2', 'i4', 'i8'): plain.add_tensor(f'{t}.{i}', rng.integers(-100, 100, shape).astype(t))
for x in (w, plain):
    x.write_header_to_file(); x.write_kv_data_to_file(); x.write_tensors_to_file(); x.close()
"#,
    );
    npk(&["convert", "-q", &at(&s, "q.gguf"), &at(&s, "floats.npz"), "--dequantize"]);
    npk(&["convert", "-q", &at(&s, "q.gguf"), &at(&s, "blocks.npz")]);
    npk(&["convert", "-q", &at(&s, "p.gguf"), &at(&s, "plain.npz")]);
    npk(&["convert", "-q", &at(&s, "q.gguf"), &at(&s, "again.gguf")]);
    npk(&["verify", &at(&s, "q.gguf")]);
    support::python(
        s.path(),
        &format!(
            "{CHECK}\ncheck('q.gguf', 'floats.npz', True); check('q.gguf', 'blocks.npz', False)\n\
             check('p.gguf', 'plain.npz', False); check('again.gguf', 'blocks.npz', False)\n\
             assert open('q.gguf', 'rb').read() == open('again.gguf', 'rb').read()"
        ),
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn gguf_py_reads_what_npk_writes() {
    let s = Scratch::new();
    support::python(
        s.path(),
        r#"
import numpy as np, ml_dtypes
from safetensors.numpy import save_file
rng = np.random.default_rng(5)
all = {}
for t in ('f4', 'f2', 'i1', 'i2', 'i4', 'i8', 'f8'):
    for i, shape in enumerate([(), (3,), (4, 5), (2, 3, 4, 5), (0, 3)]): all[f'{t}.{i}'] = np.asarray(rng.integers(-100, 100, shape)).astype(t)
np.savez('in.npz', **all)
save_file({'w': rng.random((4, 32)).astype(ml_dtypes.bfloat16)}, 'b.safetensors', {'note': 'kept', 'format': 'pt'})
"#,
    );
    npk(&["convert", &at(&s, "in.npz"), &at(&s, "o.gguf")]);
    npk(&["convert", &at(&s, "b.safetensors"), &at(&s, "b.gguf")]);
    support::python(
        s.path(),
        &format!(
            "{CHECK}\nimport ml_dtypes\ncheck('o.gguf', 'in.npz', False)\n\
             r = gguf.GGUFReader('b.gguf'); t = r.tensors[0]\n\
             assert t.tensor_type == gguf.GGMLQuantizationType.BF16 and list(t.shape) == [32, 4]\n\
             from safetensors.numpy import load_file\n\
             assert t.data.tobytes() == load_file('b.safetensors')['w'].tobytes()\n\
             assert r.get_field('note').contents() == 'kept'"
        ),
    );
}
