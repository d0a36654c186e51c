//! All targets in one program: `NPK_FUZZ_TARGET` says which one. Run by `fuzz/run`.
#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;

/// What Rust code may hold at most while it reads with a limit of 16 MiB.
const MAX_BYTES: usize = (16 + 64) << 20;

/// The system's allocator, which counts.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(held, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static TARGET: LazyLock<String> =
    LazyLock::new(|| std::env::var("NPK_FUZZ_TARGET").expect("NPK_FUZZ_TARGET names the target"));

/// Panics in libraries that are caught and told as damage end no run; each place is told once.
fn tell_places_once() {
    static TOLD: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
    std::panic::set_hook(Box::new(|info| {
        let place =
            info.location().map_or("?".to_string(), |l| format!("{}:{}", l.file(), l.line()));
        if TOLD.lock().is_ok_and(|mut told| told.insert(place.clone())) {
            let payload = info.payload();
            let said = payload.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("");
            let said: String = said.chars().take(300).collect();
            eprintln!("PANIC {place} {said}");
        }
    }));
}

fuzz_target!(
    init: {
        // Loud: npk's own hook passes panics on to this one even where it catches them.
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("RUST_BACKTRACE", "1") };
        tell_places_once();
    },
    |bytes: &[u8]| {
        let before = HELD.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        npk_fuzz::run(&TARGET, bytes);
        let taken = MOST.load(Ordering::Relaxed).saturating_sub(before);
        assert!(taken <= MAX_BYTES, "{taken} bytes were held at a limit of 16 MiB");
    }
);
