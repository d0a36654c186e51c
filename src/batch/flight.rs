//! How many files are converted at the same time.

use std::time::{Duration, Instant};

/// What a remote file in flight may hold besides the budget: the head of an object, what is on its
/// way.
const REMOTE_FILE_BYTES: u64 = 4 << 20;
/// What a local one may hold, which is decoded and encoded all the time.
const LOCAL_FILE_BYTES: u64 = 8 << 20;
/// Connections that a server or a machine bears.
const MAX_FILES: usize = 256;
/// How many wait for the network at first, and how long it is watched before there are more.
const FIRST: usize = 8;
const WATCHED: Duration = Duration::from_millis(50);

/// Files in flight. Local ones keep the cores busy; remote ones wait for the network, so that there
/// are more of them as long as the cores are idle and the memory allows it.
pub(crate) struct Flight {
    cores: usize,
    pub(crate) most: usize,
    /// Since when the cores are watched, and their time up to then.
    since: (Instant, Duration),
}

impl Flight {
    pub(crate) fn new(jobs: usize, remote: bool, memory_bytes: u64, units: u64) -> Flight {
        let file_bytes = if remote { REMOTE_FILE_BYTES } else { LOCAL_FILE_BYTES };
        let by_memory = usize::try_from(memory_bytes / file_bytes).unwrap_or(usize::MAX);
        let most = match remote {
            true => by_memory.clamp(jobs, MAX_FILES.max(jobs)),
            false => jobs.min(by_memory.max(1)),
        };
        let units = usize::try_from(units).unwrap_or(usize::MAX);
        Flight { cores: jobs, most: most.min(units), since: (Instant::now(), cpu_time()) }
    }

    /// How many to begin with.
    pub(crate) fn first(&self) -> usize {
        self.cores.max(FIRST).min(self.most)
    }

    /// How long to wait for the end of a file before asking for more.
    pub(crate) fn check_after(&self, active: usize) -> Duration {
        if active < self.most { WATCHED } else { Duration::from_secs(3600) }
    }

    /// How many more there should be: as many again while the cores have little to do.
    pub(crate) fn more(&mut self, active: usize) -> usize {
        let (since, before) = self.since;
        let wall = since.elapsed();
        if active >= self.most || wall < WATCHED {
            return 0;
        }
        let now = cpu_time();
        self.since = (Instant::now(), now);
        let busy = now.saturating_sub(before).as_secs_f64();
        let idle = busy < 0.75 * wall.as_secs_f64() * self.cores as f64;
        if idle { active.max(1).min(self.most - active) } else { 0 }
    }
}

/// The time that the cores have worked for this process.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it only fills the structure.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec.max(0) as u32)
}
