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
