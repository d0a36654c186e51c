//! Runs of `npk` to which something happens at one of their operations on files (see `faults.c`).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The library that is preloaded, compiled once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let path = super::kept().join("faults.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/faults.c");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let output = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&path)
            .arg(source)
            .arg("-ldl")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        path
    })
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// This signal, `int`, `term` or `hup`; the operation goes on.
    Signal(&'static str),
    /// A SIGKILL, with half of the bytes written.
    Kill,
    /// The operation fails with this error.
    Fails(i32),
    /// The operation fails with this error, having written half of its bytes, and so does all that
    /// needs room from then on.
    FailsFromNowOn(i32),
    /// A read fails with this error; other operations do not count.
    ReadFails(i32),
}

/// Runs `npk` in `folder`; `fault` happens at the `n`th operation below `folder/below`. Gives the
/// operation, with its path, and what the run said; `None` where it has fewer.
pub fn npk_hit(
    folder: &Path,
    below: &str,
    fault: Fault,
    n: usize,
    args: &[&str],
) -> Option<(String, Output)> {
    let hit = folder.join(format!("hit-{n}"));
    let what = match fault {
        Fault::Signal(name) => name.to_string(),
        Fault::Kill => "kill".to_string(),
        Fault::Fails(error) | Fault::ReadFails(error) => error.to_string(),
        Fault::FailsFromNowOn(error) => format!("{error}+"),
    };
    let mut command = preloaded(folder, below);
    command.args(args).env("NPK_FAULT", what);
    if matches!(fault, Fault::ReadFails(_)) {
        command.env("NPK_FAULT_ONLY", "reads");
    }
    command.env("NPK_FAULT_AT", n.to_string()).env("NPK_FAULT_HIT", &hit);
    let output = command.output().unwrap();
    let operation = std::fs::read_to_string(&hit).ok()?;
    std::fs::remove_file(hit).unwrap();
    Some((operation.trim_end().to_string(), output))
}

/// [`npk_hit`] without the operation.
pub fn npk_with(
    folder: &Path,
    below: &str,
    fault: Fault,
    n: usize,
    args: &[&str],
) -> Option<Output> {
    npk_hit(folder, below, fault, n, args).map(|(_, output)| output)
}

/// `npk` in `folder` with the library; operations below `folder/below` count.
fn preloaded(folder: &Path, below: &str) -> Command {
    let mut command = super::npk_command();
    command
        .current_dir(folder)
        .env("LD_PRELOAD", library())
        .env("NPK_FAULT_BELOW", std::fs::canonicalize(folder).unwrap().join(below));
    command
}

/// A run that stands still at an operation until it is told to go on.
pub struct Stopped {
    run: Child,
    fifo: PathBuf,
    /// The operation, with its path.
    pub operation: String,
}

impl Stopped {
    /// Starts `npk` and waits until it is at the `n`th operation of this name below the folder;
    /// `None` where it ends before.
    pub fn at(folder: &Path, only: &str, n: usize, args: &[&str]) -> Option<Stopped> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let fifo = folder.join(format!("stop-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        let mut command = preloaded(folder, "");
        command.args(args).env("NPK_FAULT", "stop").env("NPK_FAULT_AT", n.to_string());
        command.env("NPK_FAULT_ONLY", only).env("NPK_FAULT_HIT", &fifo);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut run = command.spawn().unwrap();
        // Whoever opens it first waits for the other; a run that has ended opens it no more.
        let (told, hears) = std::sync::mpsc::channel();
        let reader = fifo.clone();
        std::thread::spawn(move || told.send(std::fs::read_to_string(reader)));
        let operation = loop {
            match hears.recv_timeout(std::time::Duration::from_millis(5)) {
                Ok(operation) => break operation.unwrap(),
                Err(_) if run.try_wait().unwrap().is_some() => {
                    // It may have been at the point between the two looks.
                    let _ = std::fs::File::options().write(true).open(&fifo);
                    break hears.recv().unwrap().unwrap();
                }
                Err(_) => {}
            }
        };
        let stopped = Stopped { run, fifo, operation: operation.trim_end().to_string() };
        if stopped.operation.is_empty() { None } else { Some(stopped) }
    }

    /// Sends it a signal, which it meets when it goes on.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.run);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Lets it go on, to its end. A signal may have ended it already.
    pub fn go_on(mut self) -> Output {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let mut options = std::fs::File::options();
        options.write(true).custom_flags(flags);
        // Held open to its end: until its exec, a process that another test starts may have the
        // reader of `at`, and the run would come too late for a writer that is gone at once.
        let _writer = loop {
            match options.open(&self.fifo) {
                Ok(writer) => break Some(writer),
                Err(_) if self.run.try_wait().unwrap().is_some() => break None,
                Err(_) => std::thread::yield_now(),
            }
        };
        let output = self.run.wait_with_output().unwrap();
        std::fs::remove_file(self.fifo).unwrap();
        output
    }
}
