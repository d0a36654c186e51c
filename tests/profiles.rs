//! Figures of arrays that are looked at by blocks, whatever their shape: against the plainest sums.

use serde_json::Value;

use crate::convert::{npy, safetensors};
use crate::support::{Scratch, at, npk};

/// Values around 3 with some far away, and some that are no finite numbers.
fn values(count: u64, all_finite: bool) -> Vec<f32> {
    let value = |i: u64| {
        let bits = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        match bits % 5000 {
            0 if !all_finite => f32::NAN,
            1 if !all_finite => f32::NEG_INFINITY,
            2 => 1e6 * (i % 7) as f32,
            3 => 0.0,
            _ => 3.0 + (bits % 4093) as f32 / 1000.0 - 2.0 - (i % 11) as f32,
        }
    };
    (0..count).map(value).collect()
}

/// The means of blocks, and whether any value of the block is no finite number.
fn means(x: &[f32], [rows, columns]: [usize; 2], blocks: [usize; 2]) -> Vec<(f64, bool)> {
    let mut cells = vec![(0.0, 0.0, false); blocks[0] * blocks[1]];
    let block = |i: usize, n: usize, of: usize| (0..of).rfind(|b| b * n / of <= i).unwrap();
    let across: Vec<usize> = (0..columns).map(|c| block(c, columns, blocks[1])).collect();
    for (r, row) in x.chunks(columns).enumerate() {
        let down = block(r, rows, blocks[0]);
        for (&value, column) in row.iter().zip(&across) {
            let cell = &mut cells[down * blocks[1] + column];
            match value.is_finite() {
                true => (cell.0, cell.1) = (cell.0 + f64::from(value), cell.1 + 1.0),
                false => cell.2 = true,
            }
        }
    }
    cells.into_iter().map(|(sum, count, marked)| (sum / count, marked)).collect()
}

const SHAPES: [&[u64]; 6] =
    [&[200_003], &[70_001, 3], &[3001, 101], &[41, 17_001], &[5, 33_001], &[301, 1001]];

#[test]
fn heat_maps_of_all_shapes_have_the_means_of_their_blocks() {
    let s = Scratch::new();
    for (shape, all_finite) in SHAPES.iter().flat_map(|s| [(s, true), (s, false)]) {
        let x = values(shape.iter().product(), all_finite);
        let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
        npy(&s.join("x.npy"), "<f4", shape, &bytes);
        let plane = [shape[0] as usize, shape.get(1).map_or(1, |&n| n as usize)];
        let blocks = plane.map(|n| n.min(64));
        let due = means(&x, plane, blocks);
        let file = at(&s, "x.npy");
        for more in [&[][..], &["-j", "1", "-m", "1MiB"]] {
            let args = [&["inspect", "--heat", "--json", &file][..], more].concat();
            let document: Value = serde_json::from_str(&npk(&args)).unwrap();
            let heat = &document["arrays"][0]["heat"];
            for (i, (mean, marked)) in due.iter().enumerate() {
                let place = (i / blocks[1], i % blocks[1]);
                let is = heat["means"][place.0][place.1].as_f64().unwrap();
                assert!((is - mean).abs() <= 1e-9 * mean.abs().max(1.0), "{shape:?} {place:?}");
                let mark = heat["marks"][place.0][place.1].as_u64().unwrap_or(0);
                assert_eq!(mark > 0, *marked, "{shape:?} {place:?}");
            }
        }
    }
}

#[test]
fn histograms_of_many_values_count_each_of_them() {
    let s = Scratch::new();
    for shape in SHAPES {
        let x = values(shape.iter().product(), false);
        let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
        npy(&s.join("x.npy"), "<f4", shape, &bytes);
        let page = npk(&["inspect", &at(&s, "x.npy"), "--html", "-"]);
        let data = page.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        let array = &data["files"][0]["arrays"][0];
        let bins = &array["h"];
        let (first, width) = (bins["e"][0].as_f64().unwrap(), bins["e"][1].as_f64().unwrap());
        let mut counts = vec![0; bins["c"].as_array().unwrap().len()];
        for &value in x.iter().filter(|v| v.is_finite()) {
            counts[((f64::from(value) - first) / width).floor() as usize] += 1;
        }
        assert_eq!(bins["c"], serde_json::json!(counts), "{shape:?}");
        let count = |is: fn(&f32) -> bool| x.iter().filter(|v| is(v)).count();
        let least = x.iter().copied().filter(|v| v.is_finite()).fold(f32::INFINITY, f32::min);
        let due = serde_json::json!([
            x.len(),
            0,
            count(|v| v.is_nan()),
            count(|v| v.is_infinite()),
            count(|v| *v == 0.0),
            f64::from(least)
        ]);
        assert_eq!(array["st"].as_array().unwrap()[..6], due.as_array().unwrap()[..], "{shape:?}");
    }
}

#[test]
fn layers_are_told_apart_in_the_picture_of_sizes() {
    let s = Scratch::new();
    let names: Vec<String> =
        (0..6).map(|i| format!("model.layers.{i}.self_attn.some_projection.weight")).collect();
    let of = |name: &String| (name.clone(), vec![0; 400]);
    let tensors: Vec<(String, Vec<u8>)> = names.iter().map(of).collect();
    let tensors: Vec<(&str, &str, &[u64], Vec<u8>)> =
        tensors.iter().map(|(n, b)| (n.as_str(), "F32", &[100][..], b.clone())).collect();
    safetensors(&s.join("x.safetensors"), &tensors);
    let page = npk(&["inspect", &at(&s, "x.safetensors"), "--html", "-"]);
    let texts = page.split("<text ").skip(1).map(|t| t.split(['>', '<']).nth(1).unwrap());
    let mut texts: Vec<&str> = texts.collect();
    texts.sort_unstable();
    for (i, text) in texts.iter().enumerate() {
        assert!(text.starts_with(&format!("{i}.")) && text.ends_with("weight"), "{texts:?}");
    }
    assert_eq!(texts.len(), 6);
}
