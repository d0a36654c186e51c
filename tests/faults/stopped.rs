//! Two runs at once, without luck: one stands still at an operation while the other one works.

use std::time::{Duration, SystemTime};

use npk::format::Arrays;
use npk::formats::FORMATS;
use rustix::process::Signal;

use super::{cases, contents, run, told};
use crate::support::faults::{Fault, Stopped, npk_hit};
use crate::support::{Scratch, entries_below, python, python_path};

fn scratch() -> Scratch {
    let s = Scratch::new();
    cases::sources(&s);
    std::fs::create_dir(s.join("out")).unwrap();
    std::fs::create_dir(s.join("tmp")).unwrap();
    s
}

fn done(s: &Scratch, args: &str) {
    let output = run(s, &cases::words(args));
    assert!(output.status.success(), "{args}: {}", told(&output));
}

fn stopped(s: &Scratch, only: &str, n: usize, args: &str) -> Stopped {
    let words = cases::words(args);
    let args: Vec<&str> = words.iter().map(String::as_str).collect();
    Stopped::at(s.path(), only, n, &args).unwrap_or_else(|| panic!("{args:?} has no {only} {n}"))
}

/// The source that a format takes, and how.
fn formats() -> impl Iterator<Item = (String, &'static str, &'static str)> {
    FORMATS.iter().filter_map(|format| {
        let holds = format.spec().writes.as_ref()?;
        let name = format!("out/o.{}", format.spec().extensions[0]);
        let ending = if holds.arrays == Arrays::One { "npy" } else { "safetensors" };
        let only = match holds.arrays {
            Arrays::Table => "-a n --layout columns",
            // Compressed, the metadata of a package do not show the time in them.
            _ if format.spec().name == "npkg" => "-c none",
            _ => "",
        };
        Some((format!("{name} --to {} {only}", format.spec().name), ending, format.spec().name))
    })
}

/// The one that comes second finds what the first one made; with --force the last one stays.
#[test]
fn two_writers_of_one_output() {
    let s = scratch();
    for (to, ending, name) in formats() {
        for force in ["", " --force"] {
            super::prepare(&s, &super::Files::new());
            let second = stopped(&s, "rename", 1, &format!("convert -q new.{ending} {to}{force}"));
            done(&s, &format!("convert -q old.{ending} {to}"));
            let mut first = entries_below(&s.join("out"));
            first.retain(|n, _| !n.contains(".npk-tmp-"));
            let output = second.go_on();
            let found = entries_below(&s.join("out"));
            assert!(!found.keys().any(|n| n.contains(".npk-")), "{name}: {:?}", found.keys());
            if force.is_empty() {
                assert_eq!(output.status.code(), Some(5), "{name}: {}", told(&output));
                assert!(told(&output).contains("exists"), "{name}: {}", told(&output));
                assert!(first.iter().all(|(n, bytes)| found.get(n) == Some(bytes)), "{name}");
            } else {
                assert!(output.status.success(), "{name}: {}", told(&output));
                let found = contents(&s.join("out"));
                super::prepare(&s, &super::Files::new());
                done(&s, &format!("convert -q new.{ending} {to}"));
                assert!(found == contents(&s.join("out")), "{name}");
            }
        }
    }
}

/// Of two appends the one that comes second is told to wait; an append to a store that is replaced
/// meanwhile adds nothing to the new one.
#[test]
fn two_appends_to_one_store() {
    let s = scratch();
    let make = "convert -q old.npy out/o.npk";
    let append = "convert -q new.npy out/o.npk --name old --append";
    done(&s, make);
    let first = stopped(&s, "rename", 1, append);
    let output = run(&s, &cases::words(append));
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("another run is changing this store"), "{}", told(&output));
    assert!(first.go_on().status.success());
    let rows = |n: usize| {
        let output = run(&s, &cases::words("list -l out/o.npk"));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(&n.to_string()), "{said}");
    };
    rows(600 + 700);

    let first = stopped(&s, "write", 1, append);
    done(&s, &format!("{make} --force"));
    let output = first.go_on();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("replaced"), "{}", told(&output));
    rows(600);
    done(&s, "verify -q out/o.npk");
    assert_eq!(entries_below(&s.join("out")).keys().filter(|n| n.contains(".npk-")).count(), 0);
}

/// Whatever a reader has opened when the store is replaced or grows: it gives one state of it, or
/// says that it cannot.
#[test]
fn a_reader_sees_one_state() {
    let s = scratch();
    for change in [
        "convert -q new.npy out/o.npk --name old --force",
        "convert -q new.npy out/o.npk --name old --append",
    ] {
        super::prepare(&s, &super::Files::new());
        done(&s, "convert -q old.npy out/o.npk");
        done(&s, "convert -q out/o.npk old-again.npy --force");
        let before = std::fs::read(s.join("old-again.npy")).unwrap();
        let files = entries_below(&s.join("out"));
        let (mut old, mut new, mut told_so) = (0, 0, 0);
        for n in 1.. {
            super::prepare(&s, &files);
            let read = cases::words("convert -q out/o.npk read.npy --force");
            let read: Vec<&str> = read.iter().map(String::as_str).collect();
            let Some(reader) = Stopped::at(s.path(), "open", n, &read) else { break };
            done(&s, change);
            let output = reader.go_on();
            match output.status.code() {
                Some(0) => {
                    let found = std::fs::read(s.join("read.npy")).unwrap();
                    done(&s, "convert -q out/o.npk new-again.npy --force");
                    if found == before {
                        old += 1;
                    } else {
                        assert!(found == std::fs::read(s.join("new-again.npy")).unwrap(), "{n}");
                        new += 1;
                    }
                }
                code => {
                    assert_eq!(code, Some(1), "{n}: {}", told(&output));
                    assert!(told(&output).contains("while it was read"), "{}", told(&output));
                    told_so += 1;
                }
            }
        }
        assert!(old + told_so > 0 && new > 0, "{change}: {old} old, {new} new, {told_so} told so");
    }
}

/// Another program writes to a source while it is read: never an output of two states.
#[test]
fn a_source_that_changes_is_noticed() {
    let s = scratch();
    let mut sources = Vec::new();
    for (to, ending, name) in formats() {
        // Stores and directories hold many files: what is replaced there is replaced as a whole.
        if !["npk", "zarr"].contains(&name) {
            done(&s, &format!("convert -q new.{ending} {}", to.replace("out/o.", "changes.")));
            let file = to.split(' ').next().unwrap().replace("out/o.", "changes.");
            sources.push(file);
        }
    }
    let touch = |path: &str, seconds| {
        let file = std::fs::File::options().write(true).open(s.join(path)).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(seconds)).unwrap();
    };
    for file in sources {
        let mut noticed = 0;
        // Before each of the reads: what was opened before the change is not read any more.
        for n in 1.. {
            let args = cases::words(&format!("convert -q {file} out/read.npz --force"));
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let Some(reader) = Stopped::at(s.path(), "reads", n, &args) else {
                std::fs::remove_file(s.join("out/read.npz")).unwrap();
                break;
            };
            touch(&file, n as u64);
            let output = reader.go_on();
            match output.status.code() {
                Some(0) => std::fs::remove_file(s.join("out/read.npz")).unwrap(),
                code => {
                    assert_eq!(code, Some(1), "{file}: {}", told(&output));
                    let said = told(&output);
                    assert!(said.contains("changed while it was read"), "{file}: {said}");
                    assert!(!s.join("out/read.npz").exists(), "{file}");
                    noticed += 1;
                }
            }
        }
        assert!(noticed > 0, "{file}");
    }
    // The kernel copies it, on Linux.
    if cfg!(npk_portable) {
        return;
    }
    let reader = stopped(&s, "copy", 1, "convert -q -j 1 new.npy out/copied.npy");
    touch("new.npy", 5);
    let output = reader.go_on();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("changed while it was read"), "{}", told(&output));
    assert!(!s.join("out/copied.npy").exists());
}

/// Told to stop just before the commit, or just in it: the old output or the new one, and the code
/// of the signal where it is the old one.
#[test]
fn a_signal_at_the_commit() {
    let s = scratch();
    for (to, ending, name) in formats() {
        for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
            super::prepare(&s, &super::Files::new());
            done(&s, &format!("convert -q old.{ending} {to}"));
            let old = contents(&s.join("out"));
            let run = stopped(&s, "rename", 1, &format!("convert -q new.{ending} {to} --force"));
            run.signal(signal);
            let output = run.go_on();
            let found = contents(&s.join("out"));
            assert!(!found.keys().any(|n| n.contains(".npk-")), "{name}: {:?}", found.keys());
            let is = output.status.code();
            if found == old {
                assert_eq!(is, Some(code), "{name}: {}", told(&output));
            } else {
                assert!(is == Some(0) || is == Some(code), "{name}: {is:?} {}", told(&output));
            }
        }
    }
}

/// NumPack reads a store that npk appends to: always the rows of one moment. (Of a store that is
/// replaced it may open the metadata of one and the data of the other: it opens them by path.)
#[test]
#[ignore = "asks the real libraries"]
fn numpack_reads_beside_appends() {
    let s = scratch();
    python(
        s.path(),
        "import numpy as np
np.save('first.npy', np.full((500, 20), 7, 'i4'))
np.save('more.npy', np.full((10, 20), 9, 'i4'))",
    );
    done(&s, "convert -q first.npy out/o.npk --name a");
    let code = "import os, numpy as np
from numpack import NumPack
seen, packs = [], []
print('ready', flush=True)
while True:
    last = os.path.exists('ended')
    # Closed, it would write the metadata that it has read over those of the append.
    pack = NumPack('out/o.npk')
    pack.open()
    packs.append(pack)
    a = np.array(pack.load('a'))
    assert len(a) >= 500 and len(a) % 10 == 0, a.shape
    assert (a[:500] == 7).all() and (a[500:] == 9).all(), a
    seen.append(len(a))
    if last:
        break
assert seen == sorted(seen), seen
print(len(seen), len(set(seen)), flush=True)
os._exit(0)";
    let mut reader = std::process::Command::new(python_path())
        .args(["-W", "ignore", "-c", code])
        .current_dir(s.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    let mut out = std::io::BufReader::new(reader.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut ready).unwrap();
    for _ in 0..40 {
        done(&s, "convert -q more.npy out/o.npk --name a --append");
    }
    std::fs::write(s.join("ended"), "").unwrap();
    let mut figures = String::new();
    std::io::Read::read_to_string(&mut out, &mut figures).unwrap();
    let mut errors = String::new();
    std::io::Read::read_to_string(reader.stderr.as_mut().unwrap(), &mut errors).unwrap();
    assert!(reader.wait().unwrap().success(), "{errors}");
    println!("reads, and states of the store that they saw: {figures}");
    // A process of NumPack may go on with the metadata that it has read once.
    let all = "from numpack import NumPack
with NumPack('out/o.npk') as pack:
    print(len(pack.load('a')))";
    assert_eq!(python(s.path(), all), "900\n");
}

/// What recognises a file and what reads it open it once: a batch of small files is mostly that.
#[test]
fn a_file_is_opened_once() {
    let s = scratch();
    std::fs::create_dir(s.join("in")).unwrap();
    for (to, ending, name) in formats().filter(|(_, _, name)| !["npk", "zarr"].contains(name)) {
        let made = to.replace("out/o.", "in/o.");
        done(&s, &format!("convert -q new.{ending} {made}"));
        let file = made.split(' ').next().unwrap();
        // The HDF5 library opens its file itself.
        let most = if name == "hdf5" { 3 } else { 1 };
        let args = ["convert", "-q", file, "out/once.npz", "--force"];
        let more = npk_hit(s.path(), "in", Fault::Fails(5), most + 1, &args);
        assert!(more.is_none(), "{name}: {:?}", more.map(|(operation, _)| operation));
    }
}
