//! What `diff` and `inspect` tell of many values at once: summaries, heat maps, reports.

use serde_json::{Value, json};

use crate::convert::{npy, safetensors};
use crate::support::{Scratch, at, npk, npk_any, npk_fails, python};

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The answer of a command that ends with this code.
fn answer(code: i32, args: &[&str]) -> Value {
    let output = npk_any(args);
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn headers_are_compared_without_the_data() {
    let s = Scratch::new();
    let (a, b, c) = (at(&s, "a.safetensors"), at(&s, "b.safetensors"), at(&s, "c.safetensors"));
    let tensors = |x: f32| [("h.0.w", "F32", &[2u64][..], floats(&[x, 2.0]))];
    safetensors(s.join("a.safetensors").as_path(), &tensors(1.0));
    safetensors(s.join("b.safetensors").as_path(), &tensors(9.0));
    safetensors(
        s.join("c.safetensors").as_path(),
        &[("h.0.w", "F32", &[1, 2], floats(&[1.0, 2.0])), ("x", "F32", &[1], floats(&[0.0]))],
    );
    assert_eq!(npk_any(&["diff", &a, &b]).status.code(), Some(1));
    let document = answer(0, &["diff", "--headers", "--json", &a, &b]);
    assert_eq!((&document["equal"], &document["headers"]), (&json!(true), &json!(true)));
    let document = answer(1, &["diff", "--headers", "--json", &a, &c]);
    assert_eq!(document["arrays"][0]["reason"], "shapes [2] and [1, 2]");
    assert_eq!(document["arrays"][1]["status"], "only_b");
    // Of the data nothing is looked at: a store's may be gone.
    let store = at(&s, "a.npk");
    npk(&["convert", "-q", &a, &store]);
    assert_eq!(npk_any(&["diff", "--headers", &a, &store]).status.code(), Some(0));
    npk_fails(2, &["diff", "--headers", "--summary", &a, &b]);
}

#[test]
fn names_are_mapped_before_arrays_are_compared() {
    let s = Scratch::new();
    let (a, b) = (at(&s, "a.safetensors"), at(&s, "b.safetensors"));
    let tensor = |name| [(name, "F32", &[2u64][..], floats(&[1.0, 2.0]))];
    safetensors(s.join("a.safetensors").as_path(), &tensor("model.h.0.w"));
    safetensors(s.join("b.safetensors").as_path(), &tensor("layers.0_w"));
    assert_eq!(npk_any(&["diff", &a, &b]).status.code(), Some(1));
    let map = r"^model\.h\.(\d+)\.=layers.$1_";
    for more in [&[][..], &["--headers"], &["--summary"], &["-a", "layers.*"]] {
        let args = [&["diff", &a, &b, "--map", map][..], more].concat();
        assert_eq!(npk_any(&args).status.code(), Some(0), "{more:?}");
    }
    safetensors(
        s.join("a.safetensors").as_path(),
        &[("x1", "F32", &[1], floats(&[1.0])), ("x2", "F32", &[1], floats(&[1.0]))],
    );
    let error = npk_fails(2, &["diff", &a, &b, "--map", "x.=y"]);
    assert!(error.contains("a.safetensors") && error.contains('y'), "{error}");
    npk_fails(2, &["diff", &a, &b, "--map", "(=y"]);
}

#[test]
fn a_summary_tells_how_far_apart_values_are() {
    let s = Scratch::new();
    let (a, b) = (at(&s, "a.npy"), at(&s, "b.npy"));
    let nan = f32::NAN;
    npy(&s.join("a.npy"), "<f4", &[5], &floats(&[3.0, 4.0, nan, nan, f32::INFINITY]));
    let other = f32::from_bits(nan.to_bits() | 1);
    npy(&s.join("b.npy"), "<f4", &[5], &floats(&[3.0, 0.0, nan, other, 1.0]));
    let document = answer(1, &["diff", "--summary", "--json", &a, &b]);
    let figures = &document["arrays"][0]["summary"];
    assert_eq!(
        *figures,
        json!({"of": 5, "changed": 3, "share": 0.6, "measured": 2, "l2": 4.0, "relative": 0.8, "largest": 4.0, "cosine": 0.6})
    );
    assert_eq!(document["total"], *figures);
    assert_eq!(document["layers"][0]["summary"], *figures);
    let document = answer(1, &["diff", "--summary", "--equal-nan", "--json", &a, &b]);
    assert_eq!(document["total"]["changed"], 2, "a NaN of other bits is equal now");
    let output = npk_any(&["diff", "--summary", &a, &b]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("60 %") && text.contains("0.600000"), "{text}");
}

#[test]
#[ignore = "asks the real libraries"]
fn summaries_are_as_numpy_computes_them() {
    let s = Scratch::new();
    let figures = python(
        s.path(),
        r#"
import json, numpy as np
r = np.random.default_rng(7)
a, b = {}, {}
for layer in range(12):
    for name, dtype in (("w", "f4"), ("v", "f8"), ("h", "f2"), ("i", "i4"), ("u", "u8"), ("t", "?"), ("c", "c8")):
        x = (r.standard_normal((257, 33)) * 10).astype(dtype) if dtype not in ("i4", "u8") else r.integers(0, 2**31 - 1, (257, 33)).astype(dtype)
        y = x.copy()
        n = r.integers(0, x.size)
        changed = r.integers(0, x.size, n)
        y.flat[changed] = (y.flat[changed] + (r.standard_normal(n) * 3)).astype(dtype) if dtype not in ("i4", "u8", "?") else x.flat[changed[::-1]]
        if dtype in ("f4", "f8"):
            x.flat[r.integers(0, x.size, 5)] = np.nan
            y.flat[r.integers(0, x.size, 5)] = np.inf
        a[f"m.layers.{layer}.{name}"], b[f"m.layers.{layer}.{name}"] = x, y
np.savez("a.npz", **a); np.savez("b.npz", **b)
def sums(x, y):
    changed = int((x.view(f"V{x.itemsize}") != y.view(f"V{x.itemsize}")).sum()) if x.dtype != "c8" else int((x != y).sum())
    m = np.isfinite(x) & np.isfinite(y)
    wide = np.complex128 if x.dtype == "c8" else np.float64
    p, q = x[m].astype(wide), y[m].astype(wide)
    return np.array([x.size, changed, m.sum(), (abs(q - p) ** 2).sum(), (abs(p) ** 2).sum(), (abs(q) ** 2).sum(), (p * q.conj()).real.sum()]), abs(q - p).max()
def figures(s, largest):
    return dict(of=s[0], changed=s[1], share=s[1] / s[0], measured=s[2], l2=s[3] ** .5, relative=(s[3] / s[4]) ** .5, largest=largest, cosine=s[6] / (s[4] * s[5]) ** .5)
each = {k: sums(a[k], b[k]) for k in a}
out = {k: figures(*v) for k, v in each.items()}
for layer in range(12):
    of = [v for k, v in each.items() if k.startswith(f"m.layers.{layer}.")]
    out[f"m.layers.{layer}"] = figures(sum(s for s, _ in of), max(l for _, l in of))
out["total"] = figures(sum(s for s, _ in each.values()), max(l for _, l in each.values()))
print(json.dumps({k: {n: float(f) for n, f in v.items()} for k, v in out.items()}))
"#,
    );
    let expected: Value = serde_json::from_str(&figures).unwrap();
    let (a, b) = (at(&s, "a.npz"), at(&s, "b.npz"));
    for more in [&[][..], &["-m", "1MiB", "-j", "1"]] {
        let document = answer(1, &[&["diff", "--summary", "--json", &a, &b][..], more].concat());
        let listed = |key: &str| document[key].as_array().unwrap().clone();
        let mut all: Vec<(String, Value)> = listed("arrays")
            .into_iter()
            .chain(listed("layers"))
            .map(|v| (v["name"].as_str().unwrap().to_string(), v["summary"].clone()))
            .collect();
        all.push(("total".into(), document["total"].clone()));
        assert_eq!(all.len(), 12 * 8 + 1);
        for (name, figures) in all {
            for (key, value) in expected[&name].as_object().unwrap() {
                let (is, should) = (figures[key].as_f64().unwrap(), value.as_f64().unwrap());
                assert!((is - should).abs() <= 1e-9 * should.abs(), "{name} {key}: {is} {should}");
            }
        }
    }
}

/// The cells of a heat map, by rows.
fn cells(heat: &Value) -> Vec<f64> {
    let row = |row: &Value| row.as_array().unwrap().clone();
    let rows = heat["means"].as_array().unwrap().iter().flat_map(row);
    rows.map(|v| v.as_f64().unwrap_or(f64::NAN)).collect()
}

#[test]
fn heat_maps_in_letters_and_colours() {
    let s = Scratch::new();
    let x = at(&s, "x.npy");
    let nan = f32::NAN;
    npy(
        &s.join("x.npy"),
        "<f4",
        &[2, 4],
        &floats(&[-1.0, -0.5, 0.0, 1.0, nan, f32::INFINITY, 0.5, 0.0]),
    );
    let text = npk(&["inspect", "--heat", &x]);
    assert!(text.contains("x:\n%- @\nNI+ \n"), "{text}");
    assert!(text.contains("2 × 4; NaN (N) in 1 block; infinite (I) in 1 block"), "{text}");
    let drawn = |variables: &[(&str, &str)]| {
        let mut command = crate::support::npk_command();
        command.args(["inspect", "--heat", "--color", "always", &x]);
        for name in ["COLORTERM", "KITTY_WINDOW_ID", "TERM_PROGRAM", "LC_TERMINAL", "TMUX"] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let colored = |term, color| drawn(&[("TERM", term), ("COLORTERM", color)]);
    let first =
        |text: &str| text.split("x:\n").nth(1).unwrap().split('▀').next().unwrap().to_string();
    assert_eq!(first(&colored("xterm", "truecolor")), "\x1b[38;2;5;48;97m\x1b[48;2;255;0;255m");
    assert_eq!(first(&colored("xterm-256color", "")), "\x1b[38;5;23m\x1b[48;5;201m");
    assert_eq!(first(&colored("xterm", "")), "\x1b[34m\x1b[105m");
    // kitty's protocol: 24 bits a pixel, as many as there are cells.
    let text = colored("xterm-kitty", "");
    let body = text.split("\x1b_Ga=T,f=24,s=4,v=2,c=4,r=1,q=2,m=0;").nth(1).unwrap();
    let pixels = base64_bytes(body.split("\x1b\\").next().unwrap());
    assert_eq!(
        (pixels.len(), &pixels[..3], &pixels[12..15]),
        (24, &[5, 48, 97][..], &[255, 0, 255][..])
    );
    // The same pixels as a PNG file, by the protocol of iTerm2.
    let text = drawn(&[("TERM", "xterm-256color"), ("TERM_PROGRAM", "iTerm.app")]);
    let start = "\x1b]1337;File=inline=1;preserveAspectRatio=0;width=4;height=1:";
    let file = text.split(start).nth(1).unwrap().split('\x07').next().unwrap();
    let file = base64_bytes(file);
    assert_eq!(&file[..24], b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x04\0\0\0\x02");
    let data = file.windows(4).position(|w| w == b"IDAT").unwrap();
    let mut lines = vec![0; 2 * 13];
    let length = u32::from_be_bytes(file[data - 4..data].try_into().unwrap()) as usize;
    let packed = &file[data + 4..data + 4 + length];
    libdeflater::Decompressor::new().zlib_decompress(packed, &mut lines).unwrap();
    let expected = [&[0][..], &pixels[..12], &[0], &pixels[12..]].concat();
    assert_eq!(lines, expected);
    let sum = crc32fast::hash(&file[data..data + 4 + length]).to_be_bytes();
    assert_eq!(file[data + 4 + length..][..4], sum);
    // tmux draws its windows itself.
    for program in [("TERM_PROGRAM", "iTerm.app"), ("KITTY_WINDOW_ID", "1")] {
        let text = drawn(&[("TERM", "tmux-256color"), ("TMUX", "/tmp/x,1,0"), program]);
        assert_eq!(first(&text), "\x1b[38;5;23m\x1b[48;5;201m");
    }
}

fn base64_bytes(text: &str) -> Vec<u8> {
    let digit = |b: u8| {
        let table = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        table.iter().position(|&t| t == b).map(|d| d as u32)
    };
    let digits: Vec<u32> = text.bytes().filter_map(digit).collect();
    let mut out = Vec::new();
    for four in digits.chunks(4) {
        let n = four.iter().fold(0, |n, d| n << 6 | d) << (6 * (4 - four.len()));
        out.extend(&n.to_be_bytes()[1..four.len()]);
    }
    out
}

#[test]
fn a_slice_chooses_the_plane_of_a_heat_map() {
    let s = Scratch::new();
    let x = at(&s, "x.npy");
    let values: Vec<f32> = (0..24u8).map(f32::from).collect();
    npy(&s.join("x.npy"), "<f4", &[2, 3, 4], &floats(&values));
    let heat = |slice: &[&str]| {
        let args = [&["inspect", "--heat", "--json", &x][..], slice].concat();
        answer(0, &args)["arrays"][0]["heat"].clone()
    };
    assert_eq!(cells(&heat(&[])), (0..24u8).map(f64::from).collect::<Vec<_>>());
    let plane = heat(&["--slice", "1,:,::2"]);
    assert_eq!((&plane["rows"], &plane["columns"]), (&json!(3), &json!(2)));
    assert_eq!(cells(&plane), [12.0, 14.0, 16.0, 18.0, 20.0, 22.0]);
    assert_eq!(cells(&heat(&["--slice", ":,-1,1:3"])), [9.0, 10.0, 21.0, 22.0]);
    assert_eq!(cells(&heat(&["--slice", "0,0,:"])), [0.0, 1.0, 2.0, 3.0]);
    npk_fails(2, &["inspect", "--heat", &x, "--slice", "0,3"]);
    npk_fails(2, &["inspect", "--heat", &x, "--slice", "0,0,0,0"]);
}

/// Many floats of few bits are counted by their bits, few of them are looked at one by one, as
/// float32 is: the figures are the same.
#[test]
fn short_floats_have_the_figures_of_the_same_values_as_float32() {
    let s = Scratch::new();
    let [rows, columns] = [10501u64, 100];
    // First of every kind: signs, zeros, NaN, infinities, what is below the least normal one; then
    // finite ones.
    let finite = |i: u64| if i < 1000 { u16::MAX } else { 0xbfff };
    let bits = |i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u16 & finite(i);
    let codes: Vec<u16> = (0..rows * columns).map(bits).collect();
    let bf16 = |c: u16| f32::from_bits(u32::from(c) << 16);
    let f16 = |c: u16| half::f16::from_bits(c).to_f32();
    let cases: [(&str, &str, Vec<f32>); 2] = [
        ("bf16", "BF16", codes.iter().map(|&c| bf16(c)).collect()),
        ("f16", "F16", codes.iter().map(|&c| f16(c)).collect()),
    ];
    for (name, dtype, values) in cases {
        let short: Vec<u8> = codes.iter().flat_map(|c| c.to_le_bytes()).collect();
        let files = [(name, dtype, short), ("f32", "F32", floats(&values))];
        let pages = files.map(|(file, dtype, bytes)| {
            let path = at(&s, &format!("{name}-{file}.safetensors"));
            safetensors(path.as_ref(), &[("x", dtype, &[rows, columns], bytes)]);
            let page = format!("{path}.html");
            npk(&["inspect", &path, "--html", &page]);
            data_of(&std::fs::read_to_string(page).unwrap())["files"][0]["arrays"][0].clone()
        });
        let [short, whole] = &pages;
        assert_eq!(short["h"], whole["h"], "{name}: histogram");
        assert_eq!(short["m"], whole["m"], "{name}: heat map");
        // Counts, the least and the greatest value are exact; sums differ in their last digits.
        for (k, (a, b)) in
            short["st"].as_array().unwrap().iter().zip(whole["st"].as_array().unwrap()).enumerate()
        {
            match k {
                0..7 => assert_eq!(a, b, "{name}: figure {k}"),
                _ => {
                    let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
                    assert!((a - b).abs() <= 1e-9 * b.abs(), "{name}: figure {k}: {a}, {b}");
                }
            }
        }
    }
}

#[test]
#[ignore = "asks the real libraries"]
fn statistics_and_heat_maps_are_as_numpy_computes_them() {
    let s = Scratch::new();
    let figures = python(
        s.path(),
        r#"
import json, numpy as np
from numpy.lib import format
r = np.random.default_rng(11)
a = {
    "f4": r.standard_normal((1000, 333)).astype("f4") + 1e4, "f8": r.standard_normal((777, 5, 7)) * 1e-300,
    "f2": r.standard_normal((300, 300)).astype("f2"), "i1": r.integers(-128, 128, (129, 257)).astype("i1"),
    "u8": r.integers(0, 2**64 - 1, (100, 70), dtype="u8"), "i8": r.integers(-2**62, 2**62, (100, 70)),
    "b1": r.random((200, 65)) < 0.3, "c8": (r.standard_normal((90, 90)) + 1j).astype("c8"), "line": np.arange(5000.0), "one": np.float32(3.5),
}
odd = r.standard_normal((500, 500)).astype("f4")
odd.flat[r.integers(0, odd.size, 900)] = np.nan
odd.flat[r.integers(0, odd.size, 90)] = -np.inf
odd[100:140] = np.nan
a["odd"] = odd
np.savez("a.npz", **a)
out = {}
for k, x in a.items():
    y = np.abs(x.astype("c16")) if x.dtype.kind == "c" else x.astype("f8")
    y = y.reshape(len(y), -1) if y.ndim else y.reshape(1, 1)
    h, w = min(64, y.shape[0]), min(64, y.shape[1])
    rows, columns = [[i * n // b for i in range(b)] for n, b in ((y.shape[0], h), (y.shape[1], w))]
    m = np.isfinite(y)
    add = lambda z: np.add.reduceat(np.add.reduceat(z, rows, 0), columns, 1)
    with np.errstate(all="ignore"):
        means = add(np.where(m, y, 0)) / add(m.astype("f8"))
    marks = (add(np.isnan(y).astype("i8")) > 0) * 1 + (add(np.isinf(y).astype("i8")) > 0) * 2
    f = y[m]
    out[k] = dict(means=[None if np.isnan(v) else v for v in means.ravel()], marks=marks.ravel().tolist(), mean=f.mean(), std=f.std(),
        nan=int(np.isnan(y).sum()), inf=int(np.isinf(y).sum()), zeros=int((f == 0).sum()), min=f.min(), max=f.max())
print(json.dumps(out))
"#,
    );
    let expected: Value = serde_json::from_str(&figures).unwrap();
    let near =
        |is: &Value, should: &Value, scale: f64, what: &str| match (is.as_f64(), should.as_f64()) {
            (None, None) => {}
            (Some(a), Some(b)) => {
                assert!((a - b).abs() <= 1e-11 * scale.max(b.abs()), "{what}: {a} {b}")
            }
            _ => panic!("{what}: {is} {should}"),
        };
    for more in [&[][..], &["-m", "1MiB", "-j", "3"]] {
        let file = at(&s, "a.npz");
        let args = [&["inspect", "--json", "--heat", "--stats", &file][..], more].concat();
        for array in answer(0, &args)["arrays"].as_array().unwrap() {
            let name = array["name"].as_str().unwrap();
            let should = &expected[name];
            let stats = &array["stats"];
            for key in ["mean", "std", "nan", "inf", "zeros", "min", "max"] {
                near(&stats[key], &should[key], 1e-300, &format!("{name} {key}"));
            }
            let scale = should["max"].as_f64().unwrap().abs();
            let flat = |value: &Value| -> Vec<Value> {
                value
                    .as_array()
                    .unwrap()
                    .iter()
                    .flat_map(|r| r.as_array().unwrap().clone())
                    .collect()
            };
            let means = flat(&array["heat"]["means"]);
            assert_eq!(means.len(), should["means"].as_array().unwrap().len(), "{name}");
            for (i, mean) in means.iter().enumerate() {
                near(mean, &should["means"][i], scale, &format!("{name} {i}"));
            }
            if name == "odd" {
                assert_eq!(Value::Array(flat(&array["heat"]["marks"])), should["marks"]);
            } else {
                assert_eq!(array["heat"].get("marks"), None, "{name}");
            }
        }
    }
}

/// What a page's script is given.
fn data_of(page: &str) -> Value {
    let start = page.split("id=\"data\">").nth(1).unwrap();
    serde_json::from_str(start.split("</script>").next().unwrap()).unwrap()
}

/// The means of a page's heat map, NaN where there is none.
fn means_of(map: &Value) -> Vec<f64> {
    let raw = base64_bytes(map["d"].as_str().unwrap());
    let (low, high) = (map["q"][0].as_f64().unwrap(), map["q"][1].as_f64().unwrap());
    let codes = raw.chunks(2).map(|c| u16::from_le_bytes([c[0], c[1]]));
    let mean = |code| match code {
        u16::MAX => f64::NAN,
        code => low + f64::from(code) / 65534.0 * (high - low),
    };
    codes.map(mean).collect()
}

#[test]
fn a_report_is_one_page_written_whole_or_not_at_all() {
    let s = Scratch::new();
    let (x, page) = (at(&s, "x.npy"), at(&s, "r.html"));
    npy(&s.join("x.npy"), "<f4", &[2, 2], &floats(&[-1.0, 1.0, f32::NAN, 3.0]));
    npk(&["inspect", &x, "--html", &page]);
    let text = std::fs::read_to_string(&page).unwrap();
    let array = &data_of(&text)["files"][0]["arrays"][0];
    assert_eq!(
        (&array["n"], &array["s"], &array["t"]),
        (&json!("x"), &json!("2 × 2"), &json!("float32"))
    );
    assert_eq!(array["st"], json!([3 + 1, 0, 1, 0, 0, -1.0, 3.0, 1.0, (8.0f64 / 3.0).sqrt()]));
    let means = means_of(&array["m"]);
    assert!((means[0] + 1.0).abs() < 1e-4 && means[2].is_nan() && (means[3] - 3.0).abs() < 1e-4);
    assert_eq!(base64_bytes(array["m"]["k"].as_str().unwrap()), [0, 0, 1, 0]);
    assert_eq!(
        array["h"]["c"].as_array().unwrap().iter().filter_map(Value::as_u64).sum::<u64>(),
        3
    );
    // What is there stays, unless --force is given; a failure leaves nothing.
    assert!(npk_fails(5, &["inspect", &x, "--html", &page]).contains("--force"));
    npk(&["inspect", &x, "--html", &page, "--force"]);
    npk_fails(3, &["inspect", &at(&s, "gone.npy"), "--html", &at(&s, "other.html")]);
    npk_fails(3, &["inspect", &x, "--html", &at(&s, "no/r.html")]);
    assert_eq!(s.names(), ["r.html", "x.npy"]);
    // Several files; damage is marked, and makes the exit code.
    npy(&s.join("y.npy"), "<f4", &[1], &floats(&[5.0]));
    let store = at(&s, "o.npk");
    npk(&["convert", &x, &at(&s, "y.npy"), &store]);
    std::fs::write(s.join("o.npk/data_x.npkd"), [1]).unwrap();
    npk_fails(7, &["inspect", &at(&s, "y.npy"), &store, "--html", &page, "-f"]);
    let text = std::fs::read_to_string(&page).unwrap();
    let files = data_of(&text)["files"].clone();
    assert!(files[1]["arrays"][0]["e"].as_str().unwrap().contains("1 bytes"), "{files}");
    assert!(files[1]["arrays"][1]["m"].is_object(), "{files}");
    assert!(text.starts_with("<!DOCTYPE html>") && !text.contains("http://www.w3.org/1999"));
    // What it would not show is not taken for something else.
    npk_fails(2, &["inspect", &x, "--html", &page, "--json"]);
    npk_fails(2, &["inspect", &x, "--force"]);
    // To stdout.
    assert!(npk(&["inspect", &x, "--html", "-"]).starts_with("<!DOCTYPE html>"));
}

#[test]
fn names_of_hostile_files_are_text_in_a_report() {
    let s = Scratch::new();
    let evil =
        "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u{1b}[31m\u{0}\u{202e}\"'&";
    safetensors(
        s.join("m.safetensors").as_path(),
        &[(evil, "F32", &[1], floats(&[1.0])), (&"n".repeat(5000), "F32", &[1], floats(&[1.0]))],
    );
    let page = npk(&["inspect", &at(&s, "m.safetensors"), "--html", "-"]);
    // One element holds the data, one the script of the page; no other is begun.
    assert_eq!(page.matches("<script").count(), 2, "{page}");
    assert!(!page.contains("<img") && !page.contains('\u{1b}') && !page.contains('\u{0}'));
    let data = data_of(&page);
    let name = |i: usize| data["files"][0]["arrays"][i]["n"].as_str().unwrap().to_string();
    assert!(name(0).starts_with("</script><script>alert(1)") && name(0).contains("\\x1b[31m\\x00"));
    assert!(name(1).ends_with("(5000 bytes)"), "{}", name(1));
    let other = at(&s, "o.safetensors");
    safetensors(s.join("o.safetensors").as_path(), &[(evil, "F32", &[1], floats(&[2.0]))]);
    let page = npk_any(&["diff", &at(&s, "m.safetensors"), &other, "--summary", "--html", "-"]);
    let page = String::from_utf8(page.stdout).unwrap();
    assert!(
        page.contains("&lt;/script&gt;&lt;script&gt;alert(1)") && !page.contains("<script"),
        "{page}"
    );
}

#[test]
fn a_report_of_many_arrays_stays_small() {
    let s = Scratch::new();
    let names: Vec<String> = (0..9000)
        .map(|i| {
            format!("model.layers.{}.block.{}.weight.{}", i / 100, i % 100, "x".repeat(i % 300))
        })
        .collect();
    let values = floats(&(0..16).map(|v| v as f32 * 0.37).collect::<Vec<_>>());
    let tensors: Vec<_> =
        names.iter().map(|n| (n.as_str(), "F32", &[4u64, 4][..], values.clone())).collect();
    let file = at(&s, "m.safetensors");
    safetensors(s.join("m.safetensors").as_path(), &tensors);
    for args in [&[][..], &["--checksum"]] {
        let page = npk(&[&["inspect", &file, "--html", "-"][..], args].concat());
        assert!(page.len() <= 2_000_000, "{} bytes", page.len());
        let listed = data_of(&page)["files"][0]["arrays"].as_array().unwrap().len();
        assert!(
            listed > 1000 && page.contains("9000 arrays") && page.contains("more have no room"),
            "{listed}"
        );
    }
    let page = npk(&["inspect", "--html", "-", &file, &file, &file]);
    assert!(page.len() <= 2_000_000, "{} bytes", page.len());
    let other = at(&s, "o.safetensors");
    let tensors: Vec<_> =
        names.iter().map(|n| (n.as_str(), "F32", &[4u64, 4][..], floats(&[7.0; 16]))).collect();
    safetensors(s.join("o.safetensors").as_path(), &tensors);
    let page = npk_any(&["diff", &file, &other, "--summary", "--html", "-"]).stdout;
    assert!(page.len() <= 2_000_000 && page.len() > 100_000, "{} bytes", page.len());
}

#[test]
#[ignore = "asks the real libraries"]
fn the_figures_of_a_report_are_as_numpy_computes_them() {
    let s = Scratch::new();
    let page = at(&s, "r.html");
    python(
        s.path(),
        r#"
import numpy as np, pandas as pd
r = np.random.default_rng(3)
np.savez("a.npz", f=r.standard_normal((1000, 700)).astype("f4") - 2, i=r.integers(0, 100, (300, 20, 3)), line=np.sin(np.arange(3000.0)))
pd.DataFrame({"city": ["Bern", "Genf", "Bern", None, "Bern"] * 50, "when": pd.date_range("2024-01-01", periods=250, freq="h"),
  "text": [f"row {i}" for i in range(250)]}).to_parquet("t.parquet")
"#,
    );
    npk(&["inspect", &at(&s, "a.npz"), &at(&s, "t.parquet"), "--html", &page, "--checksum"]);
    let data = data_of(&std::fs::read_to_string(&page).unwrap());
    std::fs::write(s.join("data.json"), data.to_string()).unwrap();
    python(
        s.path(),
        r#"
import base64, json, numpy as np
data = json.load(open("data.json"))
a = np.load("a.npz")
for array in data["files"][0]["arrays"]:
    x = a[array["n"]].astype("f8")
    y = x.reshape(len(x), -1) if x.ndim > 1 else x.reshape(1, -1)
    m = array["m"]
    h, w = m["b"]
    assert m["p"] == list(y.shape) and h <= 512 and w <= 512, m["p"]
    assert array["n"] != "f" or (h, w) == (128, 128)
    raw = np.frombuffer(base64.b64decode(m["d"]), "<u2").reshape(h, w)
    low, high = m["q"]
    means = low + raw / 65534 * (high - low)
    rows, columns = [[i * n // b for i in range(b)] for n, b in zip(y.shape, (h, w))]
    add = lambda z: np.add.reduceat(np.add.reduceat(z, rows, 0), columns, 1)
    numpys = add(y) / add(np.ones_like(y))
    assert np.isclose(low, numpys.min(), rtol=1e-12) and np.isclose(high, numpys.max(), rtol=1e-12)
    assert abs(means - numpys).max() <= (high - low) / 65534 * 0.51, array["n"]
    assert m["s"][2] == (low < 0)
    first, width = array["h"]["e"]
    edges = first + width * np.arange(len(array["h"]["c"]) + 1)
    assert len(array["h"]["c"]) <= 128 and np.log2(width) % 1 == 0
    assert (np.histogram(x, edges)[0] == array["h"]["c"]).all() and edges[-1] > x.max(), array["n"]
    assert len(array["k"]) == 64
city, when, text = data["files"][1]["arrays"]
assert city["x"]["top"] == [["Bern", 150], ["Genf", 50]] and city["x"]["exact"] and city["st"][1] == 50, city
assert city["x"]["shortest"] == 4 and city["x"]["longest"] == 4
assert when["st"][5].startswith("2024-01-01T00:00:00") and when["st"][6].startswith("2024-01-11T09:00:00"), when
assert "m" not in when and sum(when["h"]["c"]) == 250
assert text["x"]["distinct"] == 250 and text["x"]["longest"] == 7, text
"#,
    );
}

#[test]
#[ignore = "asks the real libraries"]
fn the_bytes_of_chunks_are_as_h5py_tells_them() {
    let s = Scratch::new();
    let sizes = python(
        s.path(),
        r#"
import json, numpy as np, h5py
x = np.random.default_rng(5).standard_normal((100, 60, 4)).astype("f4")
x[:50] = 0
with h5py.File("x.h5", "w") as f:
    f.create_dataset("x", data=x, chunks=(7, 20, 3), compression="gzip")
    sparse = f.create_dataset("sparse", (64, 64), "i2", chunks=(8, 16))
    sparse[10, 20] = 1
    f.create_dataset("whole", data=x)
def sizes(x):
    grid = [-(-n // c) for n, c in zip(x.shape, x.chunks)]
    out = np.zeros(grid, int)
    for i in range(x.id.get_num_chunks()):
        info = x.id.get_chunk_info(i)
        out[tuple(o // c for o, c in zip(info.chunk_offset, x.chunks))] = info.size
    return out.reshape(grid[0], -1).tolist()
with h5py.File("x.h5") as f:
    print(json.dumps({"x": sizes(f["x"]), "sparse": sizes(f["sparse"])}))
"#,
    );
    let expected: Value = serde_json::from_str(&sizes).unwrap();
    let page = at(&s, "x.html");
    npk(&["inspect", &at(&s, "x.h5"), "--html", &page]);
    let data = data_of(&std::fs::read_to_string(page).unwrap());
    for array in data["files"][0]["arrays"].as_array().unwrap() {
        let name = array["n"].as_str().unwrap();
        let Some(rows) = expected[name].as_array() else {
            assert!(array["cs"].is_null(), "{name} has no chunks");
            continue;
        };
        let map = &array["cs"];
        let columns = rows[0].as_array().unwrap().len();
        assert_eq!(map["b"], json!([rows.len(), columns]), "{name}");
        let should: Vec<f64> = rows
            .iter()
            .flat_map(|row| row.as_array().unwrap())
            .map(|n| n.as_f64().unwrap())
            .collect();
        let most = should.iter().copied().fold(0.0, f64::max);
        for (is, should) in means_of(map).into_iter().zip(should) {
            assert!((is - should).abs() <= most / 65534.0, "{name}: {is} {should}");
        }
    }
}
