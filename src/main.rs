//! The `npk` command: parse, run, report, exit.

use std::ffi::{c_int, c_long};
use std::process::ExitCode;

use npk::storage::cleanup;
use npk::{cli, commands, console};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Checkpoints and directories have tens of thousands of names: a third of the time of looking at
/// them went into the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Below this limit what is freed goes back to the system at once. The allocator keeps it for
/// a second otherwise, each thread its own: that is faster, and with eight threads 40 MiB more.
const AMPLE_BYTES: u64 = 128 << 20;

unsafe extern "C" {
    /// mimalloc's own settings, by their numbers in `mimalloc.h`.
    fn mi_option_set(option: c_int, value: c_long);
}

fn give_back_at_once() {
    /// `mi_option_purge_delay`, in milliseconds.
    const PURGE_DELAY: c_int = 15;
    // SAFETY: the library has this many options and more; a value of this one is a time.
    unsafe { mi_option_set(PURGE_DELAY, 0) };
}

const SIGXFSZ: i32 = libc::SIGXFSZ;

/// Called by the loader before Rust's own start, which opens `/dev/null` in the place of a standard
/// descriptor that is closed.
#[used]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_os = "macos"), unsafe(link_section = ".init_array"))]
static LOOK_AT_STDOUT: extern "C" fn() = look_at_stdout;

extern "C" fn look_at_stdout() {
    // SAFETY: it asks whether a descriptor is open, and changes nothing.
    if unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) } == -1 {
        npk::storage::stdout_is_closed();
    }
}

fn main() -> ExitCode {
    clap_complete::CompleteEnv::with_factory(commands::complete::command).complete();
    // A file size limit shows as an error of the write, not as a signal that kills.
    // SAFETY: the handler does nothing.
    let _ = unsafe { signal_hook::low_level::register(SIGXFSZ, || {}) };
    watch_signals();
    ExitCode::from(match cli::parse(std::env::args_os()) {
        Ok(cli) => {
            if commands::resources(&cli).is_some_and(|r| r.memory_bytes() < AMPLE_BYTES) {
                give_back_at_once();
            }
            commands::run(cli)
        }
        Err(answer) => console::parsed(&answer),
    })
}

/// Starts the thread that undoes what is unfinished when the process is told to stop. Where the
/// system allows no further thread, signals end the process at once, as they do by default: a
/// handler that nobody serves would only swallow them.
fn watch_signals() {
    let (ready, begun) = std::sync::mpsc::channel();
    let watch = move || {
        let signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]);
        let _ = ready.send(());
        let Ok(mut signals) = signals else { return };
        let mut signals = signals.forever();
        if let Some(signal) = signals.next() {
            let undo = move || {
                cleanup::run_all();
                signal_hook::low_level::exit(128 + signal);
            };
            if std::thread::Builder::new().spawn(undo).is_err() {
                undo();
            }
        }
        // A second signal asks not to wait for the end of the clean-up.
        if let Some(signal) = signals.next() {
            signal_hook::low_level::exit(128 + signal);
        }
    };
    if std::thread::Builder::new().name("npk-signals".into()).spawn(watch).is_ok() {
        let _ = begun.recv();
    }
}
