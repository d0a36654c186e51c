//! HDF5 outputs on disks that fail.

use crate::support::{self, Scratch, at, npk};

const SOURCE: &str = r#"
import h5py, numpy as np
with h5py.File('w.h5', 'w') as f:
    f['a'] = np.array([f'text {i % 50} ' * 3 for i in range(2000)], dtype=h5py.string_dtype())
    f['b'] = np.array([f'other {i % 70}' for i in range(2000)], dtype=h5py.string_dtype())
    f['g/n'] = np.random.default_rng(1).random((300, 20)); f['g/i'] = np.arange(1000)
    f.attrs['x'] = 'y' * 3000
    for k in range(20): f['g/n'].attrs[f'k{k}'] = 'v' * 50 * k
"#;

/// Runs into a folder of its own under one fault after the other: each is an error, and nothing is
/// left.
const FAULTS: &str = r#"
import os, resource, subprocess
def run(out, options, **how):
    r = subprocess.run([NPK, 'convert', '-q', 'w.h5', f'{out}/o.h5', *options], capture_output=True, text=True, **how)
    left = os.listdir(out)
    for name in left: os.remove(f'{out}/{name}')
    return r, left
os.mkdir('out')
for options in ([], ['-c', 'none'], ['-c', 'lzf'], ['--no-metadata']):
    subprocess.run([NPK, 'convert', '-q', 'w.h5', 'out/o.h5', *options], check=True)
    size = os.path.getsize('out/o.h5'); os.remove('out/o.h5')
    for limit in [*range(0, size, size // 40), size - 1]:
        r, left = run('out', options, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        assert r.returncode == 1 and not left and 'size limit' in r.stderr, (options, limit, r, left)
    # One write that fails, and all later ones succeed.
    n = 0
    while True:
        r, left = run('out', options, env={**os.environ, 'LD_PRELOAD': os.path.abspath('once.so'), 'FAIL_AT': str(n)})
        if r.returncode == 0:
            assert left == ['o.h5'] and n > 5, (options, n, r)
            break
        assert r.returncode == 1 and not left and 'Input/output error' in r.stderr, (options, n, r, left)
        n += 1 + n // 8
"#;

/// Counts the writes to files in the folder `out`, of every kind that is used, and lets one fail.
const ONCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
static atomic_int count;
static int fails(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    const char *at = getenv("FAIL_AT");
    if (!strstr(path, "/out/") || !at || atomic_fetch_add(&count, 1) != atoi(at)) return 0;
    errno = EIO;
    return 1;
}
#define REAL(type, name) static type (*real)(); if (!real) real = (type (*)())dlsym(RTLD_NEXT, name)
ssize_t write(int fd, const void *p, size_t n) { REAL(ssize_t, "write"); return fails(fd) ? -1 : real(fd, p, n); }
ssize_t pwrite64(int fd, const void *p, size_t n, off_t at) { REAL(ssize_t, "pwrite64"); return fails(fd) ? -1 : real(fd, p, n, at); }
ssize_t pwrite(int fd, const void *p, size_t n, off_t at) { REAL(ssize_t, "pwrite"); return fails(fd) ? -1 : real(fd, p, n, at); }
int ftruncate64(int fd, off_t n) { REAL(int, "ftruncate64"); return fails(fd) ? -1 : real(fd, n); }
int ftruncate(int fd, off_t n) { REAL(int, "ftruncate"); return fails(fd) ? -1 : real(fd, n); }
"#;

/// Every file size limit below the size of the output, and every single write that fails, ends with
/// an error.
#[test]
#[ignore = "asks the real libraries"]
fn a_write_that_fails_is_never_lost() {
    let s = Scratch::new();
    support::python(s.path(), SOURCE);
    std::fs::write(s.join("once.c"), ONCE).unwrap();
    let built = std::process::Command::new("cc")
        .current_dir(s.path())
        .args(["-shared", "-fPIC", "-w", "-o", "once.so", "once.c", "-ldl"])
        .status();
    assert!(built.unwrap().success());
    support::python(s.path(), &FAULTS.replace("NPK", &format!("{:?}", env!("CARGO_BIN_EXE_npk"))));
    npk(&["convert", &at(&s, "w.h5"), &at(&s, "o.h5"), "--verify"]);
}
