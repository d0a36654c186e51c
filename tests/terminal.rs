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

#[test]
fn heat_maps_as_sixels() {
    let s = Scratch::new();
    let values = [-1.0, -0.5, 0.0, 1.0, f32::NAN, f32::INFINITY, 0.5, 0.0];
    npy(&s.join("x.npy"), "<f4", &[2, 4], &values.map(f32::to_le_bytes).concat());
    let mut command = npk_command();
    command.current_dir(s.path()).args(["inspect", "--heat", "--color", "always", "x.npy"]);
    for name in ["KITTY_WINDOW_ID", "TERM_PROGRAM", "LC_TERMINAL", "TMUX"] {
        command.env_remove(name);
    }
    command.envs([("TERM", "foot"), ("COLORTERM", "truecolor")]);
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let (start, rest) = text.split_once("\x1bP").unwrap();
    assert!(start.ends_with("x:\n"), "{start}");
    let (picture, end) = rest.split_once("\x1b\\").unwrap();
    assert!(end.starts_with("\n  -1 \x1b[38;2;"), "{end}");
    let ([width, height], pixels) = sixels(picture);
    // Blocks of 10 by 10 pixels, where nothing else is known.
    assert_eq!([width, height], [40, 20]);
    let (red, blue, white) = ([103, 0, 31], [5, 48, 97], [247, 247, 247]);
    let (upper, lower) = ([blue, [90, 150, 197], white, red], [[211, 95, 87], white]);
    let lower = [[255, 0, 255], [0, 255, 0], lower[0], lower[1]];
    for (i, pixel) in pixels.iter().enumerate() {
        let due = if i / width < 10 { upper } else { lower }[i % width / 10];
        for (due, percent) in due.iter().zip(pixel.unwrap()) {
            let far = f64::from(*due) / 2.55 - percent as f64;
            assert!(far.abs() <= 0.5, "pixel {i} is {pixel:?}, not {due:?}");
        }
    }
}

/// Width and height of a picture in sixels, and its pixels in percent.
fn sixels(picture: &str) -> ([usize; 2], Vec<Option<[usize; 3]>>) {
    let text = picture.strip_prefix("0;1q\"").unwrap();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap();
    let numbers =
        |text: &str| -> Vec<usize> { text.split(';').map(|n| n.parse().unwrap()).collect() };
    let [1, 1, width, height] = numbers(&text[..end])[..] else { panic!("{text}") };
    let mut pixels = vec![None; width * height];
    let mut colors = std::collections::BTreeMap::new();
    let (mut rest, mut color, mut x, mut y) = (&text[end..], [0; 3], 0, 0);
    while let Some(sign) = rest.chars().next() {
        rest = &rest[1..];
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(rest.len());
        let (mut count, mut sign) = (1, sign);
        match sign {
            '#' => {
                let numbers = numbers(&rest[..end]);
                if let [register, 2, r, g, b] = numbers[..] {
                    colors.insert(register, [r, g, b]);
                }
                color = colors[&numbers[0]];
                rest = &rest[end..];
                continue;
            }
            '$' => x = 0,
            '-' => (x, y) = (0, y + 6),
            '!' => {
                count = rest[..end].parse().unwrap();
                sign = rest[end..].chars().next().unwrap();
                rest = &rest[end + 1..];
            }
            _ => {}
        }
        if let '?'..='~' = sign {
            for (column, k) in (x..x + count).flat_map(|c| (0..6).map(move |k| (c, k))) {
                if (sign as u8 - 63) & 1 << k != 0 {
                    pixels[(y + k) * width + column] = Some(color);
                }
            }
            x += count;
        }
    }
    ([width, height], pixels)
}
