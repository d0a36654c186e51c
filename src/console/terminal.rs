//! What the terminal tells of itself.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::OnceLock;

use rustix::fs::OFlags;
use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};

/// The most that is waited for the terminal, in tenths of a second: it may be behind a slow line.
const TENTHS: u8 = 10;
/// No answer is longer.
const MAX_ANSWER_BYTES: usize = 256;

/// The numbers of the terminal's primary device attributes (`CSI c`; ECMA-48, and the VT220's
/// manual); none where there is no terminal, or where it does not answer. It is asked once. What the
/// user has typed ahead is left alone: then it is not asked.
pub fn attributes() -> &'static [u16] {
    static ATTRIBUTES: OnceLock<Vec<u16>> = OnceLock::new();
    ATTRIBUTES.get_or_init(|| asked().and_then(|answer| numbers(&answer)).unwrap_or_default())
}

fn asked() -> Option<Vec<u8>> {
    let flags = (OFlags::NOCTTY | OFlags::CLOEXEC).bits();
    let open =
        OpenOptions::new().read(true).write(true).custom_flags(flags as i32).open("/dev/tty");
    let tty = open.ok()?;
    // In the background, a change of the terminal would stop this process.
    if termios::tcgetpgrp(&tty).ok()? != rustix::process::getpgrp() {
        return None;
    }
    let quiet = Quiet::new(&tty)?;
    if rustix::io::ioctl_fionread(&tty).ok()? > 0 {
        return None;
    }
    (&tty).write_all(b"\x1b[c").ok()?;
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while answer.len() < MAX_ANSWER_BYTES && answer.last() != Some(&b'c') {
        match (&tty).read(&mut byte) {
            Ok(1) => answer.push(byte[0]),
            _ => break,
        }
    }
    drop(quiet);
    Some(answer)
}

/// `ESC [ ? 1 ; 2 c`
fn numbers(answer: &[u8]) -> Option<Vec<u16>> {
    let start = answer.windows(3).position(|w| w == b"\x1b[?")? + 3;
    let text = std::str::from_utf8(&answer[start..]).ok()?.strip_suffix('c')?;
    text.split(';').map(|n| n.parse().ok()).collect()
}

/// A terminal that shows nothing of what it gets, and gives it on at once, as long as this lives.
struct Quiet<'a> {
    tty: &'a File,
    before: Termios,
}

impl Quiet<'_> {
    fn new(tty: &File) -> Option<Quiet<'_>> {
        let before = termios::tcgetattr(tty).ok()?;
        let mut now = before.clone();
        // Without signals for this moment: one that ends the process would leave it like this.
        now.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        now.special_codes[SpecialCodeIndex::VMIN] = 0;
        now.special_codes[SpecialCodeIndex::VTIME] = TENTHS;
        termios::tcsetattr(tty, OptionalActions::Now, &now).ok()?;
        Some(Quiet { tty, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(self.tty, OptionalActions::Now, &self.before);
    }
}
