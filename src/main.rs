//! The `npk` command: parse, run, report, exit.

use std::process::ExitCode;

use npk::location::cleanup;
use npk::{cli, cmd};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Checkpoints and directories have tens of thousands of names: a third of the time of looking at them went into the
/// system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIGXFSZ: i32 = libc::SIGXFSZ;

fn main() -> ExitCode {
    clap_complete::CompleteEnv::with_factory(cmd::complete::command).complete();
    // A file size limit shows as an error of the write, not as a signal that kills.
    // SAFETY: the handler does nothing.
    let _ = unsafe { signal_hook::low_level::register(SIGXFSZ, || {}) };
    if let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]) {
        std::thread::spawn(move || {
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
            // Whoever asks twice does not want to wait.
            if let Some(signal) = signals.next() {
                signal_hook::low_level::exit(128 + signal);
            }
        });
    }
    match cli::parse(std::env::args_os()) {
        Ok(cli) => ExitCode::from(cmd::run(cli)),
        Err(e) => {
            let _ = e.print();
            ExitCode::from(if e.use_stderr() { 2 } else { 0 })
        }
    }
}
