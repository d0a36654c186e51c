//! Checkpoints of which each rank wrote a file: DeepSpeed's, and those of FSDP from torch.save.

use std::collections::BTreeMap;
use std::path::Path;

use npk::format::{Order, ReadOptions, Source};
use npk::formats::by_name;
use npk::formats::checkpoint::deepspeed::layout::{Cut, Shape, stage2, stage3};
use npk::model::{Chunk, Dtype, Values};
use npk::pipe::{self, Settings};
use npk::storage::Location;

use super::store_support::copy_dir;
use crate::support::*;

const ZERO: [&str; 4] = ["stage1", "stage2", "stage3", "stage1_bf16"];
const FSDP: [&str; 5] = ["sharded", "local", "dtensor", "tensors", "strided"];

fn open(format: &str, path: &Path) -> Box<dyn Source> {
    let options = ReadOptions::default();
    let source = by_name(format).unwrap().open(&Location::local(path), &options);
    source.unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Shape and numbers of every array.
type Numbers = BTreeMap<String, (Vec<u64>, Vec<f64>)>;

fn numbers(format: &str, path: &Path) -> Numbers {
    let source = open(format, path);
    let metas = source.plan().arrays.clone();
    let mut all = BTreeMap::new();
    for meta in metas.iter() {
        all.insert(meta.name.clone(), (meta.shape().unwrap(), Vec::new()));
    }
    let mut emit = |chunk: Chunk| {
        let Values::Fixed(bytes) = chunk.values else { panic!("fixed sizes") };
        let meta = &metas[chunk.array];
        let item = meta.dtype.item_bytes() as usize;
        let values = bytes.chunks_exact(item).map(|b| match meta.dtype {
            Dtype::F32 => f64::from(f32::from_le_bytes(b.try_into().unwrap())),
            Dtype::F64 => f64::from_le_bytes(b.try_into().unwrap()),
            Dtype::F16 => half::f16::from_le_bytes(b.try_into().unwrap()).to_f64(),
            Dtype::Bf16 => half::bf16::from_le_bytes(b.try_into().unwrap()).to_f64(),
            Dtype::I32 => f64::from(i32::from_le_bytes(b.try_into().unwrap())),
            Dtype::I64 => i64::from_le_bytes(b.try_into().unwrap()) as f64,
            other => panic!("{other}"),
        });
        all.get_mut(&meta.name).unwrap().1.extend(values);
        Ok(())
    };
    pipe::drain(source, Order::ArrayByArray, &mut emit, &Settings::new(2, 64 << 20)).unwrap();
    all
}

/// A copy of a fixture, which is called `to` there.
fn copied(s: &Scratch, from: &str, to: &str) -> String {
    copy_dir(&fixture(from), &s.join(to));
    at(s, to)
}

#[test]
fn deepspeed_gives_what_its_own_script_does() {
    for name in ZERO {
        let found = numbers("deepspeed", &fixture(&format!("good/deepspeed/{name}.deepspeed")));
        let answer = numbers("pt", &fixture(&format!("good/deepspeed/{name}.answer.pt")));
        for (array, expected) in &answer {
            assert_eq!(found.get(array), Some(expected), "{name}: {array}");
        }
        assert!(answer.contains_key("optimizer.state.embed.weight.exp_avg"), "{name}");
        // The steps are numbers for a whole group; parameters that are not trained are lost by the
        // script, but with stage 2 and 3.
        for (array, (shape, _)) in &found {
            let more = array.ends_with(".step") && shape.is_empty() || array == "frozen.weight";
            assert!(more || answer.contains_key(array), "{name}: {array}");
        }
        assert_eq!(found["frozen.weight"].0, [5, 3]);
    }
}

#[test]
fn deepspeed_says_what_is_beside_the_tensors() {
    let source = open("deepspeed", &fixture("good/deepspeed/stage3.deepspeed"));
    let plan = source.plan();
    assert_eq!(plan.format_version.as_deref(), Some("0.18.2, ZeRO-3 of 3 ranks"));
    assert_eq!((&plan.attributes["epoch"], &plan.attributes["note"]), (&2.into(), &"run é".into()));
    assert_eq!(plan.attributes["optimizer"]["param_groups"][0]["weight_decay"], 0.1);
    assert!(!plan.attributes.contains_key("param_shapes"));
    let tied = |name: &str| {
        let source = open("deepspeed", &fixture(&format!("good/deepspeed/{name}.deepspeed")));
        let plan = source.plan();
        plan.arrays[plan.position("head.weight").unwrap()].details.alias_of.clone()
    };
    assert_eq!(tied("stage2").as_deref(), Some("embed.weight"));
    // Without ZeRO it is the model's file.
    let plain = numbers("deepspeed", &fixture("good/deepspeed/stage0.deepspeed"));
    assert!(plain.contains_key("embed.weight") && !plain.contains_key("module.embed.weight"));
}

#[test]
fn deepspeed_is_recognised_and_converted() {
    let s = Scratch::new();
    let ckpt = copied(&s, "good/deepspeed/stage3.deepspeed", "c");
    let weights = ["-x", "optimizer*"];
    npk(&[&["convert", &ckpt, &at(&s, "m.safetensors"), "--verify"][..], &weights].concat());
    let tag = format!("{ckpt}/global_step2");
    npk(&[&["convert", &tag, &at(&s, "n.safetensors")][..], &weights].concat());
    npk(&["diff", &at(&s, "m.safetensors"), &at(&s, "n.safetensors")]);
    npk(&["verify", &ckpt]);
    for (from, to) in [(ckpt, "rows.npk"), (at(&s, "m.safetensors"), "same.npk")] {
        npk(&["convert", &from, &at(&s, to), "--rows", "2:5", "-a", "embed.weight"]);
    }
    npk(&["diff", &at(&s, "rows.npk"), &at(&s, "same.npk")]);
}

#[test]
fn files_of_ranks_that_are_missing_are_named() {
    let s = Scratch::new();
    let ckpt = copied(&s, "good/deepspeed/stage3.deepspeed", "c");
    let file = |name: &str| s.join("c").join("global_step2").join(name);
    let (two, one) = (
        file("bf16_zero_pp_rank_2_mp_rank_00_optim_states.pt"),
        file("zero_pp_rank_1_mp_rank_00_model_states.pt"),
    );
    let kept = std::fs::read(&two).unwrap();
    std::fs::remove_file(&two).unwrap();
    let said = npk_fails(3, &["convert", &ckpt, &at(&s, "o.npk")]);
    assert!(said.contains("1 of 3 ranks' files are missing: zero_pp_rank_2"), "{said}");
    std::fs::write(&two, &kept).unwrap();
    std::fs::rename(&one, s.join("away")).unwrap();
    let said = npk_fails(3, &["list", &ckpt]);
    assert!(said.contains("zero_pp_rank_1_mp_rank_00_model_states.pt"), "{said}");
    std::fs::rename(s.join("away"), &one).unwrap();
    // A rank of another run: its partitions are larger.
    std::fs::copy(
        fixture("good/deepspeed/stage2.deepspeed/global_step2/bf16_zero_pp_rank_2_mp_rank_00_optim_states.pt"),
        &two,
    )
    .unwrap();
    let said = npk_fails(7, &["convert", &ckpt, &at(&s, "o.npk")]);
    assert!(said.contains("it is of stage 2"), "{said}");
    std::fs::write(&two, &kept).unwrap();
    std::fs::write(file("bf16_zero_pp_rank_3_mp_rank_00_optim_states.pt"), &kept).unwrap();
    let said = npk_fails(7, &["list", &ckpt]);
    assert!(said.contains("past the 3"), "{said}");
    std::fs::remove_file(file("bf16_zero_pp_rank_3_mp_rank_00_optim_states.pt")).unwrap();
    std::fs::write(file("mp_rank_01_model_states.pt"), b"").unwrap();
    let said = npk_fails(4, &["list", &ckpt]);
    assert!(said.contains("model parallelism"), "{said}");
}

#[test]
fn parts_of_all_ranks_are_whole_tensors() {
    for name in FSDP {
        let found = numbers("fsdp", &fixture(&format!("good/fsdp/{name}.fsdp")));
        let answer = numbers("pt", &fixture(&format!("good/fsdp/{name}.whole.pt")));
        if name == "local" {
            // The parameters one after the other.
            let flat: Vec<f64> = ["embed.weight", "a.weight", "a.bias"]
                .iter()
                .flat_map(|n| answer[*n].1.clone())
                .collect();
            assert_eq!(found["_flat_param"], (vec![flat.len() as u64], flat));
            continue;
        }
        assert_eq!(found, answer, "{name}");
    }
}

#[test]
fn ranks_are_recognised_and_converted() {
    let s = Scratch::new();
    let ckpt = copied(&s, "good/fsdp/dtensor.fsdp", "c");
    let whole = fixture("good/fsdp/dtensor.whole.pt").display().to_string();
    npk(&["diff", &ckpt, &whole]);
    npk(&["verify", &ckpt]);
    npk(&["convert", &ckpt, &at(&s, "o.pt")]);
    npk(&["diff", &at(&s, "o.pt"), &whole]);
    assert_eq!(open("fsdp", &fixture("good/fsdp/dtensor.fsdp")).plan().attributes["step"], 42);
    let one = format!("{ckpt}/model_rank2.pt");
    npk(&["diff", "--from", "fsdp", &one, &whole]);
    // A file alone has parts only.
    let said = npk_fails(4, &["convert", &one, &at(&s, "x.npk")]);
    assert!(said.contains("--from fsdp"), "{said}");
    // The rank is the last number of a name, and neither 0 to 9 nor alone.
    std::fs::create_dir(s.join("n")).unwrap();
    for rank in 0..2 {
        let from = fixture("good/fsdp/tensors.fsdp").join(format!("model_rank{rank}.pt"));
        std::fs::copy(from, s.join("n").join(format!("m_world_2_rank_{}.ckpt", rank + 9))).unwrap();
    }
    let tensors = fixture("good/fsdp/tensors.whole.pt").display().to_string();
    npk(&["diff", &at(&s, "n"), &tensors]);
    // Two checkpoints in one folder.
    std::fs::copy(&one, s.join("c").join("other_0.pt")).unwrap();
    let said = npk_fails(2, &["list", &ckpt]);
    assert!(said.contains("several checkpoints: model_rank0.pt, other_0.pt"), "{said}");
    std::fs::remove_file(s.join("c").join("other_0.pt")).unwrap();
    // Without a rank: what it has is named, the rest goes on.
    std::fs::remove_file(&one).unwrap();
    let said = npk_fails(3, &["convert", &ckpt, &at(&s, "x.npk")]);
    assert!(said.contains("3 of 4 ranks' files are here"), "{said}");
    npk(&["convert", &ckpt, &at(&s, "x.npk"), "-a", "model.all,model.plain,model.mixed"]);
    let tensors = copied(&s, "good/fsdp/tensors.fsdp", "t");
    std::fs::remove_file(Path::new(&tensors).join("model_rank0.pt")).unwrap();
    let said = npk_fails(3, &["convert", &tensors, &at(&s, "y.npk")]);
    assert!(said.contains("part of rank 0"), "{said}");
}

fn shapes(of: &[u64]) -> Vec<Shape> {
    of.iter().enumerate().map(|(i, &n)| (i.to_string(), vec![n])).collect()
}

/// Every element of every parameter is there once, in order.
fn check(all: &[Vec<Cut>], of: &[u64]) {
    for (cuts, &n) in all.iter().zip(of) {
        let mut at = 0;
        for cut in cuts {
            assert_eq!(cut.at, at);
            at += cut.len;
        }
        assert_eq!(at, n);
    }
}

#[test]
fn partitions_follow_each_other() {
    let of = [35, 15, 0, 1];
    // 51 elements, cut into 3 partitions of 18, the last without what fills it up.
    let all = stage2(&[shapes(&of)], &[vec![18], vec![18], vec![15]]).unwrap();
    check(&all, &of);
    let cut = |rank, first, len, at| Cut { rank, group: 0, first, len, at };
    assert_eq!(all[0], [cut(0, 0, 18, 0), cut(1, 0, 17, 18)]);
    assert_eq!(all[1], [cut(1, 17, 1, 0), cut(2, 0, 14, 1)]);
    assert!(stage2(&[shapes(&of)], &[vec![18], vec![18], vec![8]]).is_err());
    assert!(stage2(&[shapes(&of)], &[vec![18], vec![18], vec![30]]).is_err());
}

#[test]
fn parts_of_a_parameter_may_lie_in_two_groups() {
    let of = [7, 10, 2];
    // Parts of 3, 4 and 1: a rank's 8 elements, in groups of 5 and 3.
    let all = stage3(&shapes(&of), &vec![vec![5, 3]; 3]).unwrap();
    check(&all, &of);
    let cut = |rank, group, first, len, at| Cut { rank, group, first, len, at };
    assert_eq!(all[0], [cut(0, 0, 0, 3, 0), cut(1, 0, 0, 3, 3), cut(2, 0, 0, 1, 6)]);
    assert_eq!(
        all[1],
        [
            cut(0, 0, 3, 2, 0),
            cut(0, 1, 0, 2, 2),
            cut(1, 0, 3, 2, 4),
            cut(1, 1, 0, 2, 6),
            cut(2, 0, 3, 2, 8),
        ]
    );
    assert_eq!(all[2], [cut(0, 1, 2, 1, 0), cut(1, 1, 2, 1, 1)]);
    assert!(stage3(&shapes(&of), &vec![vec![5, 4]; 3]).is_err());
}
