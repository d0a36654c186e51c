//! Globals that no honest checkpoint uses: the functions that pickles call to run code.
//!
//! Nothing is run here, whatever the pickle asks for. But a file that asks for one of these is an
//! attack on whoever loads it with Python. So it is refused as a whole, wherever in it the name
//! appears, and none of it is passed on.

use crate::codec::pickle::{Node, Pickle, shown};
use crate::error::{Error, Result};

/// Modules of which nothing may be asked for.
const MODULES: [&str; 33] = [
    "_ctypes",
    "_pickle",
    "_posixsubprocess",
    "_socket",
    "bdb",
    "cPickle",
    "commands",
    "ctypes",
    "ensurepip",
    "ftplib",
    "imp",
    "importlib",
    "marshal",
    "nt",
    "os",
    "pdb",
    "pickle",
    "pip",
    "pkgutil",
    "popen2",
    "posix",
    "pty",
    "pydoc",
    "runpy",
    "shutil",
    "smtplib",
    "socket",
    "subprocess",
    "sys",
    "telnetlib",
    "timeit",
    "webbrowser",
    "zipimport",
];

/// What leads to one of them by way of another module, as in `torch.serialization.os.system`.
const WITHIN: [&str; 12] = [
    "__builtins__",
    "__globals__",
    "__import__",
    "__subclasses__",
    "builtins",
    "ctypes",
    "importlib",
    "os",
    "posix",
    "runpy",
    "subprocess",
    "sys",
];

/// Whether to load this global is to run something.
fn runs(global: &str) -> bool {
    let mut parts = global.split('.');
    let module = parts.next().unwrap_or_default();
    let name = parts.clone().next().unwrap_or_default();
    MODULES.contains(&module)
        || parts.clone().any(|part| WITHIN.contains(&part))
        || match module {
            "builtins" => {
                matches!(
                    name,
                    "__build_class__"
                        | "__import__"
                        | "apply"
                        | "breakpoint"
                        | "compile"
                        | "delattr"
                        | "eval"
                        | "exec"
                        | "execfile"
                        | "file"
                        | "globals"
                        | "input"
                        | "locals"
                        | "open"
                        | "raw_input"
                        | "reload"
                        | "setattr"
                        | "vars"
                ) || name == "getattr" && parts.count() > 1
            }
            "io" | "_io" => matches!(name, "FileIO" | "open" | "open_code" | "OpenWrapper"),
            "codecs" => name == "open",
            "urllib" => name == "request",
            "operator" | "_operator" => matches!(name, "attrgetter" | "methodcaller"),
            _ => false,
        }
}

const RUNS: &str = "which runs code where Python loads the file; nothing was run";

/// Whether this is the refusal of such a pickle.
pub(in crate::formats::checkpoint) fn is_refusal(error: &Error) -> bool {
    error.message().ends_with(RUNS)
}

fn refused(name: &str) -> Error {
    Error::refused(format!("the pickle asks for {}, {RUNS}", shown(name)))
        .hint("do not load it with torch.load; ask its author for the weights as safetensors")
}

/// Refuses a pickle that asks for a global that runs something.
///
/// # Errors
/// Refused, with the global's name.
pub(in crate::formats::checkpoint) fn check(pickle: &Pickle) -> Result<()> {
    if let Some(global) = pickle.globals().find(|g| runs(g)) {
        return Err(refused(global));
    }
    // Classes within classes and bound methods are honestly pickled as getattr(class, 'Name').
    if pickle.globals().all(|g| g != "builtins.getattr") {
        return Ok(());
    }
    for (_, node) in pickle.nodes() {
        if let Node::Object(object) = node
            && pickle.global(object.callable) == Some("builtins.getattr")
        {
            let name = match pickle.tuple(object.args) {
                Some(&[_, name]) => pickle.short(name),
                _ => None,
            };
            if name.is_none_or(|n| n.starts_with("__") || WITHIN.contains(&n)) {
                return Err(refused("builtins.getattr"));
            }
        }
    }
    Ok(())
}
