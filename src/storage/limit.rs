//! How many files this process may have open at a time, and how many it has.

use std::os::fd::AsRawFd;

use rustix::process::{Resource, getrlimit, setrlimit};

/// A join of a thousand files needs a thousand descriptors: the soft limit goes up to the hard one.
pub fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

/// The limit that is in force.
pub fn file_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The lowest descriptor that is free: about as many files are open. `None` where there is none.
pub fn open_files() -> Option<u64> {
    let file = std::fs::File::open("/dev/null").ok()?;
    u64::try_from(file.as_raw_fd()).ok()
}
