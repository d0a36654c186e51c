//! Checkpoints that mean harm: calls in all places, and small pickles that would take gigabytes or
//! hours.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use npk::error::ErrorKind;

use super::pt_support::*;
use crate::support::*;

/// A dict with one good tensor and more.
fn beside(more: &[(&[u8], &[u8])]) -> Vec<u8> {
    let (key, tensor) = (text("a"), tensor());
    let mut pairs: Vec<(&[u8], &[u8])> = vec![(&key, &tensor)];
    pairs.extend_from_slice(more);
    dict(&pairs)
}

fn key(name: &str) -> Vec<u8> {
    text(name)
}

#[test]
fn memo_indices_do_not_set_the_size() {
    for (op, text_form) in [(b'r', false), (b'p', true)] {
        let (mut body, mut len) = (b"N".to_vec(), 0u64);
        for _ in 0..60 {
            let index = len * 2 + 1023;
            match u32::try_from(index) {
                Ok(n) if !text_form => body.extend(join(&[&[op], &n.to_le_bytes()])),
                _ if text_form && index < 1 << 62 => {
                    body.extend(format!("p{index}\n").into_bytes())
                }
                _ => break,
            }
            len = index + 1;
        }
        npk::codec::pickle::read(pickle(&body), 64 << 20).unwrap();
    }
    // Indices that grow in steps are counted.
    let steps: Vec<u8> =
        (1..200_000u32).flat_map(|i| join(&[b"r", &(i * 1000).to_le_bytes()])).collect();
    let error =
        npk::codec::pickle::read(pickle(&join(&[b"N", &steps])), 64 << 20).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    // MEMOIZE counts what was set, as Python does, not the highest index.
    let read = npk::codec::pickle::read(pickle(b"K\x01q\x09K\x02\x94K\x03\x94h\x02\x85"), 1 << 20)
        .unwrap();
    let item = read.tuple(read.root()).unwrap()[0];
    assert_eq!(read.int(item), Some(3));
}

#[test]
fn what_runs_code_is_refused_wherever_it_stands() {
    let scratch = Scratch::new();
    let out = scratch.join("out.npk");
    let system = call("os", "system", &[&key("id")]);
    let eval = call("builtins", "eval", &[&key("1")]);
    let ordered = |state: &[u8]| {
        join(&[
            &call("collections", "OrderedDict", &[]),
            b"(",
            &key("a"),
            &tensor(),
            b"u",
            state,
            b"b",
        ])
    };
    let module = |hidden: &[u8]| {
        let parameters = dict(&[(&key("w"), &tensor())]);
        let state = dict(&[
            (&key("_parameters"), &parameters),
            (&key("_modules"), b"}"),
            (&key("hook"), hidden),
        ]);
        object("torch.nn.modules.linear", "Linear", &state)
    };
    let getattr = |target: &[u8], name: &str| call("builtins", "getattr", &[target, &key(name)]);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("value", beside(&[(&key("x"), &system)]), "os.system"),
        ("pop", join(&[&system, b"0", &beside(&[])]), "os.system"),
        ("pop_mark", join(&[b"(", &system, b"1", &beside(&[])]), "os.system"),
        ("key", beside(&[(&system, b"N")]), "os.system"),
        (
            "hooks",
            dict(&[(&key("a"), &tensor_of("0", "FloatStorage", &[2], &system, b""))]),
            "os.system",
        ),
        ("state", ordered(&dict(&[(&key("x"), &eval)])), "builtins.eval"),
        ("overwritten", dict(&[(&key("a"), &eval), (&key("a"), &tensor())]), "builtins.eval"),
        (
            "args",
            join(&[
                &call("collections", "OrderedDict", &[&eval]),
                b"(",
                &key("a"),
                &tensor(),
                b"u",
            ]),
            "builtins.eval",
        ),
        ("module", module(&system), "os.system"),
        (
            "inner",
            module(&call("torch.serialization", "os.system", &[&key("id")])),
            "torch.serialization.os.system",
        ),
        ("getattr", module(&getattr(&global("my", "Net"), "__globals__")), "builtins.getattr"),
    ];
    for (name, body, word) in cases {
        let path = checkpoint(&scratch, &format!("{name}.pt"), &body);
        for flags in [&[][..], &["--skip-unsupported"]] {
            let mut args: Vec<&OsStr> = vec!["convert".as_ref(), path.as_os_str(), out.as_os_str()];
            args.extend(flags.iter().map(OsStr::new));
            let told = npk_fails(4, &args);
            assert!(told.contains(word) && told.contains("hint:"), "{name}: {told}");
            assert!(!out.exists(), "{name}");
        }
        assert!(npk_fails(4, &["inspect".as_ref(), path.as_os_str()]).contains(word), "{name}");
    }
    // The pickles beside the object's own are loaded, too.
    let path = legacy(&scratch.join("l.pt"), &beside(&[]), &[("0", 2, &FLOATS)]);
    npk(&["convert".as_ref(), path.as_os_str(), scratch.join("good.npk").as_os_str()]);
    let bytes = std::fs::read(&path).unwrap();
    let list = pickle(&list(&[&key("0")]));
    let at = bytes.windows(list.len()).position(|w| w == list).unwrap();
    let evil = pickle(&join(&[&system, b"0", &list[2..list.len() - 1]]));
    std::fs::write(&path, join(&[&bytes[..at], &evil, &bytes[at + list.len()..]])).unwrap();
    assert!(
        npk_fails(4, &["convert".as_ref(), path.as_os_str(), out.as_os_str()])
            .contains("os.system")
    );
}

/// Whether it is dangerous or not: a call that is not known is never passed over, but in what is
/// passed over as a whole.
#[test]
fn calls_that_lead_nowhere_are_listed() {
    let scratch = Scratch::new();
    let (out, skipped) = (scratch.join("out.npk"), scratch.join("skipped.npk"));
    let thing = call("my", "Thing", &[&key("x")]);
    for (name, body) in [
        ("pop", join(&[&thing, b"0", &beside(&[])])),
        ("key", beside(&[(&thing, b"N")])),
        ("hooks", dict(&[(&key("a"), &tensor_of("0", "FloatStorage", &[2], &thing, b""))])),
    ] {
        let path = checkpoint(&scratch, &format!("{name}.pt"), &body);
        let told = npk_fails(4, &["convert".as_ref(), path.as_os_str(), out.as_os_str()]);
        assert!(told.contains("my.Thing") && told.contains("--skip-unsupported"), "{name}: {told}");
        npk(&[
            "convert".as_ref(),
            "--skip-unsupported".as_ref(),
            "-f".as_ref(),
            path.as_os_str(),
            skipped.as_os_str(),
        ]);
        assert_eq!(npk(&["list".as_ref(), skipped.as_os_str()]).trim(), "a", "{name}");
    }
    // Attributes of a module, a class within a class among them.
    let inner = join(&[
        &call("builtins", "getattr", &[&global("my", "Net"), &key("Mode")]),
        &tuple(&[&int(1)]),
        b"R",
    ]);
    let state = dict(&[
        (&key("_parameters"), &dict(&[(&key("w"), &tensor())])),
        (&key("_modules"), b"}"),
        (&key("thing"), &thing),
        (&key("mode"), &inner),
    ]);
    let path = checkpoint(&scratch, "module.pt", &object("my", "Net", &state));
    npk(&["convert".as_ref(), path.as_os_str(), out.as_os_str()]);
    assert_eq!(npk(&["list".as_ref(), out.as_os_str()]).trim(), "w");
}

/// Small files that take gigabytes or hours where what they repeat is not counted.
#[test]
fn what_is_repeated_is_counted() {
    let scratch = Scratch::new();
    let repeat = |what: &[u8], count: usize| what.repeat(count);
    let long = |len: usize| text(&"k".repeat(len));
    let items = |first: &[u8], rest: Vec<u8>| join(&[b"(", first, &rest, b"l"]);
    let (big, fit) = (long(200_000), long(60_000));
    let nested = {
        let one = join(&[b"(", &fit, b"q\x00", &repeat(b"h\x00", 7), b"tq\x01"]);
        let two = join(&[b"(", &one, &repeat(b"h\x01", 7), b"tq\x02"]);
        join(&[b"(", &two, &repeat(b"h\x02", 7), b"t"])
    };
    let shared_state = join(&[
        &dict(&[]),
        b"(",
        &repeat(b"K\x07N", 100_000),
        b"uq\x010(",
        &global("x", "Y"),
        b"q\x00",
        &repeat(b"h\x00)\x81h\x01b", 20_000),
        b"l",
    ]);
    let names = dict(&[(
        &fit,
        &join(&[
            b"}(",
            &key("t"),
            &tensor(),
            b"q\x05",
            &(0..2500).flat_map(|i| join(&[&key(&format!("t{i}")), b"h\x05"])).collect::<Vec<u8>>(),
            b"u",
        ]),
    )]);
    let classes = join(&[
        &text(&"m".repeat(1000)),
        b"q\x000",
        &text(&"n".repeat(1000)),
        b"q\x010(",
        &repeat(b"h\x00h\x01\x93", 300_000),
        b"l",
    ]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("long keys", items(&join(&[b"}", &big, b"q\x00Ns"]), repeat(b"}h\x00Ns", 5000))),
        ("keys that fit", items(&join(&[b"}", &fit, b"q\x00Ns"]), repeat(b"}h\x00Ns", 20_000))),
        ("one key, set again", join(&[b"}(", &fit, b"q\x00N", &repeat(b"h\x00N", 100_000), b"u"])),
        ("keys of tuples", dict(&[(&nested, b"N")])),
        (
            "long globals",
            items(&join(&[&global(&"m".repeat(200_000), "n"), b"q\x00"]), repeat(b"h\x00", 5000)),
        ),
        (
            "globals that fit",
            items(&join(&[&global(&"m".repeat(1000), "n"), b"q\x00"]), repeat(b"h\x00", 500_000)),
        ),
        ("globals from the stack", classes),
        (
            "paths",
            items(
                &join(&[
                    &global("pathlib", "PosixPath"),
                    b"(",
                    &big,
                    b"q\x00",
                    &repeat(b"h\x00", 5000),
                    b"tR",
                ]),
                Vec::new(),
            ),
        ),
        ("names", names),
        ("a shared state", shared_state),
        ("empty dicts", items(b"}q\x00", repeat(b"h\x00", 400_000))),
        (
            "refusals",
            items(
                &join(&[&call(&"m".repeat(1000), "n", &[]), b"q\x00"]),
                repeat(b"h\x00", 300_000),
            ),
        ),
    ];
    for (name, body) in cases {
        let path = checkpoint(&scratch, "bomb.pt", &beside(&[(&key("m"), &body)]));
        let began = Instant::now();
        let output =
            npk_within("-v 1500000", &["inspect".as_ref(), "--json".as_ref(), path.as_os_str()]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        println!("{name}: {:?} after {:?}: {told}", output.status.code(), began.elapsed());
        assert!(
            matches!(output.status.code(), Some(0 | 4 | 7)),
            "{name}: {:?}: {told}",
            output.status
        );
        assert!(began.elapsed() < Duration::from_secs(100), "{name}: {:?}", began.elapsed());
    }
}

/// One array that is named a thousand times lies in memory once.
#[test]
fn an_array_referred_to_often_is_held_once() {
    let scratch = Scratch::new();
    let dtype = join(&[
        &call("numpy", "dtype", &[&key("u1"), b"\x89", b"\x88"]),
        &tuple(&[&int(3), &key("|"), b"NNN", &int(0), &int(0), &int(0)]),
        b"b",
    ]);
    let bytes = join(&[b"B", &(2u32 << 20).to_le_bytes(), &vec![7; 2 << 20]]);
    let state = tuple(&[&int(1), &tuple(&[&int(2 << 20)]), &dtype, b"\x89", &bytes]);
    let array = ndarray(&state);
    let many = join(&[b"(", &array, b"r\xff\xff\0\0", &b"j\xff\xff\0\0".repeat(1500), b"l"]);
    let path = checkpoint(&scratch, "many.pt", &beside(&[(&key("m"), &many)]));
    let output = npk_within("-v 1500000", &["list".as_ref(), path.as_os_str()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1502);
}

#[test]
fn names_of_globals_are_short() {
    let name = text(&"k".repeat(1025));
    let body = join(&[&name, b"q\x00h\x00\x93"]);
    for body in [body, global(&"m".repeat(2000), "n")] {
        let error = npk::codec::pickle::read(pickle(&body), 1 << 20).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.message().contains("at most 1024"), "{error}");
    }
    // The same two texts name the same global, without being joined again.
    let body = join(&[
        &text("torch"),
        b"q\x00",
        &text("float32"),
        b"q\x010(",
        &b"h\x00h\x01\x93".repeat(3),
        b"t",
    ]);
    let read = npk::codec::pickle::read(pickle(&body), 1 << 20).unwrap();
    let items = read.tuple(read.root()).unwrap();
    assert!(items.iter().all(|&i| i == items[0]) && read.global(items[0]) == Some("torch.float32"));
}
