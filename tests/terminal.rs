//! Pictures in a terminal, as a terminal shows them: tmux tells what is in its window.

use std::process::Command;

use crate::convert::npy;
use crate::support::{Scratch, npk_command};

/// What a window of tmux shows when a command has ended, with its colours; none, with a note,
/// where there is no tmux.
fn shown(
    directory: &Scratch,
    size: [u32; 2],
    variables: &[(&str, &str)],
    args: &[&str],
) -> Option<String> {
    let scratch = Scratch::new();
    let socket = scratch.join("socket");
    let tmux = |args: &[&str]| {
        Command::new("tmux")
            .arg("-S")
            .arg(&socket)
            .args(["-f", "/dev/null"])
            .args(args)
            .env_remove("TMUX")
            .env("LC_ALL", "C.UTF-8")
            .output()
    };
    if tmux(&["-V"]).is_err() {
        eprintln!("left out: there is no tmux");
        return None;
    }
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let npk = npk_command().get_program().to_str().unwrap().to_string();
    let set: Vec<String> = variables.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let words: Vec<String> = args.iter().map(|arg| quoted(arg)).collect();
    let script = format!(
        "unset NO_COLOR COLORTERM; cd {}; env {} {} {}; tmux -S {} wait-for -S done; cat",
        quoted(directory.path().to_str().unwrap()),
        set.join(" "),
        quoted(&npk),
        words.join(" "),
        quoted(socket.to_str().unwrap()),
    );
    let [columns, lines] = size.map(|n| n.to_string());
    let begun =
        tmux(&["new-session", "-d", "-x", &columns, "-y", &lines, "sh", "-c", &script]).unwrap();
    assert!(begun.status.success(), "{begun:?}");
    tmux(&["wait-for", "done"]).unwrap();
    let window = tmux(&["capture-pane", "-p", "-e"]).unwrap();
    tmux(&["kill-server"]).unwrap();
    Some(String::from_utf8(window.stdout).unwrap())
}

#[test]
#[ignore = "asks the real libraries"]
fn heat_maps_look_as_they_did() {
    let s = Scratch::new();
    let value = |i: u32| match i {
        777 => f32::NAN,
        1500 => f32::INFINITY,
        i => ((i % 48) as f32 - 24.0) * ((i / 48) as f32 + 1.0),
    };
    let bytes: Vec<u8> = (0..40 * 48).flat_map(|i| value(i).to_le_bytes()).collect();
    npy(&s.join("x.npy"), "<f4", &[40, 48], &bytes);
    for (name, variables) in [
        ("true", &[("TERM", "tmux-256color"), ("COLORTERM", "truecolor")][..]),
        ("palette", &[("TERM", "tmux-256color")]),
        ("sixteen", &[("TERM", "screen")]),
        ("letters", &[("NO_COLOR", "1")]),
    ] {
        let args = ["inspect", "x.npy", "--heat"];
        let Some(window) = shown(&s, [64, 24], variables, &args) else { return };
        let golden = format!("{}/tests/pictures/heat-{name}.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("SNAPSHOTS").is_some_and(|v| v == "overwrite") {
            std::fs::write(&golden, &window).unwrap();
        }
        let due = std::fs::read_to_string(&golden).unwrap();
        assert!(window == due, "{name} looks like this:\n{window}\nand not like this:\n{due}");
    }
}
