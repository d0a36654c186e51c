//! A disk that is really full: a small file system in memory, which only this test sees.

use std::process::Command;

use npk::format::Arrays;
use npk::formats::FORMATS;

use super::cases;
use crate::support::{Scratch, npk_command};

/// A shell that has mounted `disk` in its working directory, with so much room; `None` where the
/// system lets nobody mount.
fn shell(s: &Scratch, kib: usize, script: &str) -> Option<String> {
    let npk = npk_command();
    let mount = format!(
        "mount -t tmpfs -o size={kib}k,nr_inodes=64 none disk && echo mounted && {{ {script}; }}"
    );
    // As root there is no need for a namespace of users, which some systems refuse.
    let flags = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let mut command = Command::new("unshare");
    command.args([flags, "sh", "-c", &mount]).current_dir(s.path());
    let output = command.env("NPK", npk.get_program()).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.strip_prefix("mounted\n") {
        Some(said) => Some(said.to_string()),
        None => {
            println!("note: no file system can be mounted here: {output:?}");
            None
        }
    }
}

/// Every format that is written, onto disks that are full sooner or later: nothing is left of the
/// output, and what was there before is whole.
#[test]
fn a_full_disk_keeps_what_was_there() {
    let s = Scratch::new();
    cases::sources(&s);
    std::fs::create_dir(s.join("disk")).unwrap();
    let mut full = 0;
    for format in FORMATS {
        let Some(holds) = format.spec().writes.as_ref() else { continue };
        let source = if holds.arrays == Arrays::One { "npy" } else { "safetensors" };
        let only = if holds.arrays == Arrays::Table { "-a n --layout columns" } else { "" };
        let name = format!("disk/o.{}", format.spec().extensions[0]);
        let to = format!("{name} --to {} {only}", format.spec().name);
        // The small one has no room for anything, a file of 20 KiB takes what the others have.
        for (kib, filled) in [(8, 0), (1200, 1180), (1200, 900), (1200, 600)] {
            let script = format!(
                "head -c {filled}k /dev/zero > disk/other
                 $NPK convert -q old.{source} {to} --rows :3 2>/dev/null
                 find disk -type f | sort | xargs cksum > before
                 $NPK convert -q new.{source} {to} --force 2> said; echo $?
                 find disk -type f | sort | xargs cksum > after
                 cmp before after && echo same; ls -A disk; cat said"
            );
            let Some(said) = shell(&s, kib, &script) else { return };
            let mut lines = said.lines();
            match lines.next() {
                Some("0") => {}
                Some("1") => {
                    assert!(said.contains("\nsame\n"), "{name} {kib} {filled}: {said}");
                    assert!(!said.contains(".npk-tmp-"), "{name} {kib} {filled}: {said}");
                    let told = said.contains("no space left") || said.contains("are free");
                    assert!(told, "{name} {kib} {filled}: {said}");
                    full += 1;
                }
                code => panic!("{name} {kib} {filled}: {code:?} {said}"),
            }
        }
    }
    assert!(full > 15, "only {full} runs met a full disk");
}
