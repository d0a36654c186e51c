//! Distributed checkpoints of torch 2.1 to 2.15: whole tensors from the files of several ranks.

use npk::array::boxes::{BoxSource, Boxes, OpenedPart, Part, Parts};
use npk::array::reader::MapReader;
use npk::array::{ArrayMap, Element};
use npk::error::{Error, ErrorKind};
use npk::format::{Format, Order, ReadOptions, ReadRows, Reader, Source};
use npk::formats::checkpoint::dcp::Dcp;
use npk::model::{ArrayMeta, Chunk, Dtype, Plan, Values};
use npk::storage::{BlobSlice, Location};

use crate::support::library::bytes_of_extents;
use crate::support::*;

const GOOD: [&str; 7] = [
    "torch2.15",
    "torch2.3",
    "torch2.1",
    "zstd",
    "own_metadata",
    "safetensors",
    "safetensors_format",
];

fn open(name: &str) -> Box<dyn Source> {
    let at = Location::local(fixture(&format!("good/dcp/{name}.dcp")));
    Dcp.open(&at, &ReadOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn rows_of(source: &dyn Source, array: usize) -> std::sync::Arc<dyn ReadRows> {
    match source.select(&[array], Order::Any).unwrap() {
        Reader::Random(reader) => reader,
        Reader::InOrder(_) => panic!("chunks are read at random"),
    }
}

/// All bytes of an array, read in pieces of `step` rows; what lies ready is the same.
fn bytes(source: &dyn Source, array: usize, step: u64) -> Vec<u8> {
    let reader = rows_of(source, array);
    let rows = source.plan().arrays[array].rows.unwrap();
    let (mut out, mut row) = (Vec::new(), 0);
    while row < rows {
        let end = (row + step).min(rows);
        reader
            .read(array, row..end, &mut |chunk: Chunk| {
                assert_eq!((chunk.array, chunk.first_row), (array, row));
                row += chunk.rows;
                let Values::Fixed(values) = chunk.values else { panic!("fixed sizes") };
                out.extend_from_slice(&values);
                Ok(())
            })
            .unwrap();
        assert_eq!(row, end);
    }
    if let Some(extents) = reader.extents(array) {
        assert_eq!(bytes_of_extents(extents), out, "extents");
    }
    out
}

/// The number at this index, as the script that wrote the fixtures made it.
fn number(index: u64, k: u64) -> i32 {
    ((index * 7 + k) % 251) as i32 - 120
}

fn element(dtype: Dtype, n: i32) -> Vec<u8> {
    match dtype {
        Dtype::F32 => (n as f32).to_le_bytes().to_vec(),
        Dtype::F64 => f64::from(n).to_le_bytes().to_vec(),
        Dtype::I32 => n.to_le_bytes().to_vec(),
        Dtype::F16 => half::f16::from_f32(n as f32).to_le_bytes().to_vec(),
        Dtype::Bf16 => half::bf16::from_f32(n as f32).to_le_bytes().to_vec(),
        other => panic!("{other}"),
    }
}

#[test]
fn tensors_of_all_ranks_are_whole() {
    let known: [(&str, Dtype, &[u64], u64); 9] = [
        ("model.embed.weight", Dtype::F32, &[11, 6], 0),
        ("model.cols", Dtype::Bf16, &[5, 13], 3),
        ("model.deep", Dtype::F16, &[3, 7, 4], 5),
        ("model.norm", Dtype::F64, &[9], 1),
        ("model.plain", Dtype::I32, &[4, 3], 2),
        ("model.grid", Dtype::F32, &[7, 9], 11),
        ("model.twice", Dtype::F32, &[10, 3], 12),
        ("optim.state.embed.weight.exp_avg", Dtype::F32, &[11, 6], 40),
        ("model.turned", Dtype::F32, &[5, 6], 9),
    ];
    for fixture in GOOD {
        let source = open(fixture);
        let mut found = 0;
        for (name, dtype, shape, k) in known {
            let Some(array) = source.plan().position(name) else { continue };
            found += 1;
            let meta = &source.plan().arrays[array];
            assert_eq!((meta.dtype, meta.shape().unwrap().as_slice()), (dtype, shape), "{name}");
            let count: u64 = shape.iter().product();
            let expected: Vec<u8> = (0..count)
                // A view that was saved with its dimensions exchanged.
                .map(|i| if name.ends_with("turned") { i % 6 * 5 + i / 6 } else { i })
                .flat_map(|i| element(dtype, number(i, k)))
                .collect();
            for step in [1, 2, 100] {
                assert_eq!(bytes(source.as_ref(), array, step), expected, "{fixture}: {name}");
            }
        }
        assert!(found >= 7, "{fixture}: {found}");
    }
}

#[test]
fn values_that_are_no_tensors_are_attributes() {
    for fixture in GOOD.into_iter().filter(|name| *name != "safetensors") {
        let source = open(fixture);
        let attributes = &source.plan().attributes;
        assert_eq!(attributes["step"], 42, "{fixture}");
        assert_eq!(attributes["name"], "run é");
        assert_eq!(attributes["rng"], "AAH/");
        let groups = &attributes["optim"]["param_groups"][0];
        assert_eq!(groups["lr"], 1e-3, "{fixture}: {attributes:?}");
        assert_eq!(groups["betas"].as_array().unwrap().len(), 2);
        assert!(attributes["pt.structure"].as_str().unwrap().contains("\"tensor\""));
    }
}

#[test]
fn parts_of_a_checkpoint_can_be_read_without_the_others() {
    let s = Scratch::new();
    let (from, to) = (fixture("good/dcp/torch2.15.dcp"), s.join("c"));
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    npk(&["convert", &at(&s, "c"), &at(&s, "all.safetensors"), "-x", "optim*"]);
    let names = npk(&["list", &at(&s, "all.safetensors")]);
    assert!(!names.contains("optim") && names.contains("model.embed.weight"), "{names}");
    // A rank is missing: what it holds is named, the rest goes on.
    std::fs::remove_file(to.join("__3_0.distcp")).unwrap();
    let said = npk_fails(3, &["convert", &at(&s, "c"), &at(&s, "o.npk")]);
    assert!(said.contains("its file __3_0.distcp is missing"), "{said}");
    npk(&["convert", &at(&s, "c"), &at(&s, "o.npk"), "-a", "model.norm,model.plain"]);
    npk_fails(3, &["verify", &at(&s, "c")]);
}

#[test]
fn the_kernel_copies_chunks_of_whole_rows() {
    let source = open("torch2.15");
    let ready = |name: &str| {
        let array = source.plan().position(name).unwrap();
        rows_of(source.as_ref(), array).extents(array)
    };
    assert_eq!(ready("model.embed.weight").unwrap().len(), 4);
    assert_eq!(ready("model.norm").unwrap().len(), 1);
    assert!(ready("model.cols").is_none() && ready("model.turned").is_none());
}

/// Boxes in memory.
struct Memory(Vec<OpenedPart>);

impl Parts for Memory {
    fn open(&self, number: usize) -> Result<OpenedPart, Error> {
        Ok(self.0[number].clone())
    }
}

/// Numbers without order, the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % most.max(1)
    }
    /// Cuts a box into boxes by halving some of them.
    fn cut(&mut self, origin: Vec<u64>, shape: Vec<u64>, depth: u64, out: &mut Vec<Part>) {
        let d = self.below(shape.len() as u64) as usize;
        if depth == 0 || shape[d] < 2 {
            let number = out.len();
            return out.push(Part { origin, shape, number });
        }
        let at = 1 + self.below(shape[d] - 1);
        let (mut low, mut high, mut next) = (shape.clone(), shape, origin.clone());
        low[d] = at;
        high[d] -= at;
        next[d] += at;
        self.cut(origin, low, depth - 1, out);
        self.cut(next, high, depth - 1, out);
    }
}

fn opened(values: Vec<u8>, shape: &[u64]) -> OpenedPart {
    let map = ArrayMap::raw(shape, Element::plain(Dtype::U16), BlobSlice::memory(values));
    OpenedPart { reader: MapReader::new(vec![Some(map)], 1 << 20).into(), array: 0, first: 0 }
}

fn read(
    shape: &[u64],
    boxes: Boxes,
    parts: Vec<OpenedPart>,
    rows: std::ops::Range<u64>,
) -> Vec<u8> {
    let plan =
        Plan { arrays: vec![ArrayMeta::new("x", Dtype::U16, shape)].into(), ..Plan::default() };
    let parts = std::sync::Arc::new(Memory(parts));
    let source = BoxSource::new(plan, vec![Some(boxes)], parts, 1 << 20);
    let mut out = Vec::new();
    let mut emit = |chunk: Chunk| {
        let Values::Fixed(values) = chunk.values else { panic!("fixed sizes") };
        out.extend_from_slice(&values);
        Ok(())
    };
    rows_of(&source, 0).read(0, rows, &mut emit).unwrap();
    out
}

#[test]
fn boxes_of_any_cut_are_put_together() {
    let mut dice = Dice(7);
    for round in 0..300 {
        let rank = 1 + dice.below(3) as usize;
        let shape: Vec<u64> = (0..rank).map(|_| 1 + dice.below(9)).collect();
        let mut parts = Vec::new();
        let depth = dice.below(5);
        dice.cut(vec![0; rank], shape.clone(), depth, &mut parts);
        let value =
            |at: &[u64]| -> u16 { at.iter().zip(&shape).fold(0, |n, (a, s)| n * s + a) as u16 };
        let readers = parts.iter().map(|part| {
            let count: u64 = part.shape.iter().product();
            let values = (0..count).flat_map(|i| {
                let (mut at, mut rest) = (part.origin.clone(), i);
                for d in (0..rank).rev() {
                    at[d] += rest % part.shape[d];
                    rest /= part.shape[d];
                }
                value(&at).to_le_bytes()
            });
            opened(values.collect(), &part.shape)
        });
        let readers: Vec<OpenedPart> = readers.collect();
        let first = dice.below(shape[0]);
        let end = first + 1 + dice.below(shape[0] - first);
        let row: u64 = shape[1..].iter().product();
        let expected: Vec<u8> =
            (first * row..end * row).flat_map(|n| (n as u16).to_le_bytes()).collect();
        let boxes = Boxes::new(&shape, 2, parts.clone()).unwrap();
        assert_eq!(read(&shape, boxes, readers, first..end), expected, "{round}: {parts:?}");
        // One less is a hole, one more an overlap.
        let mut fewer = parts.clone();
        fewer.pop();
        assert_eq!(Boxes::new(&shape, 2, fewer).unwrap_err().kind(), ErrorKind::Corrupt);
        let mut more = parts.clone();
        more.push(parts[0].clone());
        assert_eq!(Boxes::new(&shape, 2, more).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn runs_of_elements_may_be_cut_anywhere() {
    let mut dice = Dice(11);
    for _ in 0..100 {
        let shape = [1 + dice.below(6), 1 + dice.below(6)];
        let all = shape[0] * shape[1];
        let mut parts = Vec::new();
        dice.cut(vec![0], vec![all], 3, &mut parts);
        let readers = parts.iter().map(|p| {
            let values =
                (p.origin[0]..p.origin[0] + p.shape[0]).flat_map(|n| (n as u16).to_le_bytes());
            opened(values.collect(), &p.shape)
        });
        let readers: Vec<OpenedPart> = readers.collect();
        let first = dice.below(shape[0]);
        let expected: Vec<u8> =
            (first * shape[1]..all).flat_map(|n| (n as u16).to_le_bytes()).collect();
        let boxes = Boxes::flat(&shape, 2, parts).unwrap();
        assert_eq!(read(&shape, boxes, readers, first..shape[0]), expected);
    }
}
