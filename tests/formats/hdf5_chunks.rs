//! HDF5 chunks: where they are, and what it takes to decode them.

use super::hdf5::judged;
use crate::support::{self, Scratch, npk_fails};

/// Every kind of chunk index, in every layout version, with unlimited dimensions wherever they may
/// stand.
const INDICES: &str = r#"
import h5py, itertools, numpy as np
r, count = np.random.default_rng(5), 0
DIMS, CHUNK = (5, 6, 7, 3), (2, 3, 4, 2)
for version in ('earliest', 'v108', 'v110', 'v112', 'latest'):
    with h5py.File(f'index_{version}.h5', 'w', libver=(version, version if version != 'earliest' else 'latest')) as f:
        for rank in (1, 2, 3, 4):
            dims, chunk = DIMS[:rank], CHUNK[:rank]
            for unlimited in itertools.product((False, True), repeat=rank):
                for filtered, missing in itertools.product((False, True), repeat=2):
                    most = tuple(None if u else d + int(r.integers(0, 2)) * (c + 1) for u, d, c in zip(unlimited, dims, chunk))
                    name = f'r{rank}_{"".join("u" if u else "f" for u in unlimited)}_{filtered:d}_{missing:d}'
                    d = f.create_dataset(name, dims, '<i4', chunks=chunk, maxshape=most, fillvalue=-7, compression='gzip' if filtered else None)
                    a = np.arange(d.size, dtype='<i4').reshape(dims)
                    if missing:
                        box = tuple(slice(int(r.integers(0, n)), n) for n in dims)
                        d[box] = a[box]
                    else:
                        d[...] = a
                    if rank > 1 and any(unlimited) and r.integers(0, 2):
                        n = unlimited.index(True)
                        d.resize(DIMS[n] - 2, axis=n)
                    count += 1
            f.create_dataset(f'single_{rank}', data=np.arange(int(np.prod(dims)), dtype='<i4').reshape(dims), chunks=dims)
            f.create_dataset(f'single_gzip_{rank}', data=np.arange(int(np.prod(dims)), dtype='<i4').reshape(dims), chunks=dims, compression='gzip')
            for early in (f'implicit_{rank}', f'implicit_room_{rank}'):
                low = h5py.h5p.create(h5py.h5p.DATASET_CREATE); low.set_chunk(chunk); low.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
                space = h5py.h5s.create_simple(dims, tuple(n + 5 for n in dims) if 'room' in early else None)
                d = h5py.h5d.create(f.id, early.encode(), h5py.h5t.STD_I32LE, space, low)
                d.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(int(np.prod(dims)), dtype='<i4').reshape(dims))
assert count == 5 * 120, count
"#;

#[test]
#[ignore = "asks the real libraries"]
fn every_chunk_index_reads_as_h5py_reads_it() {
    let dir = Scratch::new();
    support::python(dir.path(), INDICES);
    for version in ["earliest", "v108", "v110", "v112", "latest"] {
        for step in [None, Some(1), Some(3)] {
            let refused = judged(&dir, &format!("index_{version}.h5"), 136, step);
            assert!(refused.is_empty(), "{version}: {refused:?}");
        }
    }
    // One that is read through another file: there, too, the places come from the index.
    let code = "import h5py\nwith h5py.File('linked.h5', 'w') as f:\n  for name in h5py.File('index_latest.h5', 'r'):\n    f[name] = h5py.ExternalLink('index_latest.h5', name)";
    support::python(dir.path(), code);
    assert!(judged(&dir, "linked.h5", 136, None).is_empty());
}

/// Chunks that hold more than their elements take, characters whose texts are split among chunks,
/// and fields that are read together with and without nulls.
const ODD: &str = r#"
import h5py, numpy as np, zlib
with h5py.File('odd.h5', 'w') as f:
    f.attrs['_NCProperties'] = 'version=2'
    a = np.arange(300, dtype='<i4')
    d = f.create_dataset('more', (300,), '<i4', chunks=(100,), compression='gzip', shuffle=True)
    for n in range(3):
        part = a[100 * n:100 * n + 100].tobytes() + bytes(range(40))
        units = np.frombuffer(part, 'u1').reshape(-1, 4).T.tobytes()
        d.id.write_direct_chunk((100 * n,), zlib.compress(units))
    f.create_dataset('raw_more', data=a, chunks=(128,))
    texts = np.array([b'%08d' % (n * n) for n in range(50)], 'S8').view('S1').reshape(50, 8)
    f.create_dataset('split', data=texts, chunks=(7, 3), compression='gzip')
    record = np.zeros(1000, [('i', '<i8'), ('f', '>f4'), ('t', 'S5'), ('l', '<u2', (3,))])
    record['i'], record['f'], record['t'] = np.arange(1000), np.arange(1000) / 4, [b'%d' % n for n in range(1000)]
    record['l'] = np.arange(3000).reshape(1000, 3)
    f.create_dataset('record', data=record, chunks=(64,), compression='lzf', shuffle=True)
"#;

const CHECK_ODD: &str = r#"
import h5py, numpy as np, json, subprocess, os
subprocess.run([NPK, 'convert', '-q', '-f', 'odd.h5', 'odd.npz'], check=True)
got, f = np.load('odd.npz', allow_pickle=False), h5py.File('odd.h5')
for name in ('more', 'raw_more'): assert np.array_equal(got[name], f['raw_more'][:]), name
assert [t for t in got['split']] == ['%08d' % (n * n) for n in range(50)], got['split']
for name in 'iftl':
    want = f['record'][name]
    assert np.array_equal(got[f'record.{name}'], want.astype('U5') if name == 't' else want), name
"#;

#[test]
#[ignore = "asks the real libraries"]
fn odd_chunks_give_what_h5py_gives() {
    let s = Scratch::new();
    support::python(s.path(), ODD);
    support::python(
        s.path(),
        &CHECK_ODD.replace("NPK", &format!("{:?}", env!("CARGO_BIN_EXE_npk"))),
    );
}

/// One chunk of 64 MiB and a few like it, with filters that a stream can go through and some that
/// cannot.
const LARGE: &str = r#"
import h5py, numpy as np, hdf5plugin as hp
n = 8 << 20
smooth = (np.arange(n, dtype='<f8') // 1000) * 0.5
noise = np.random.default_rng(1).integers(0, 256, 8 * n, dtype='u1').view('<i8')
def make(name, data, chunks, **o):
    with h5py.File(name + '.h5', 'w', libver='latest') as f: f.create_dataset('x', data=data, chunks=chunks, **o)
make('plain', noise, (n,))
make('gzip', smooth, (n,), compression='gzip', compression_opts=1)
make('shuffled', smooth, (n,), compression='gzip', compression_opts=1, shuffle=True, fletcher32=True)
make('zstd', smooth, (n,), **hp.Zstd(1), shuffle=True)
make('noise', noise, (n,), compression='gzip', compression_opts=1)
make('wide', noise.reshape(1 << 13, 1 << 10), (1 << 13, 1 << 8), **hp.Zstd(1), shuffle=True)
make('lzf', smooth, (n,), compression='lzf')
make('blosc', smooth, (n,), **hp.Blosc())
make('scaled', noise.view('u4') >> 9, (2 * n,), scaleoffset=23)
"#;

/// Runs with little memory: what is allocated, what is read of the file, what comes out.
const RUN_LARGE: &str = r#"
import os, re, subprocess, sys
allowed = (8 + 64) << 10
# What this process holds would count for those that it starts: the values are compared in another one.
COMPARE = """
import h5py, hdf5plugin, numpy as np, sys
got = np.load(sys.argv[2]) if sys.argv[2] == 'o.npy' else h5py.File(sys.argv[2])['x'][:]
assert np.array_equal(got, h5py.File(sys.argv[1] + '.h5')['x'][:]), sys.argv
"""
def compare(name, out): subprocess.run([sys.executable, '-W', 'ignore', '-c', COMPARE, name, out], check=True)
def run(name, out, memory='8MiB'):
    open('bytes', 'w').close()
    env = {**os.environ, 'LD_PRELOAD': os.path.abspath('count.so'), 'COUNT_OF': f'/{name}.h5'}
    p = subprocess.Popen([NPK, 'convert', '-q', '-f', '-m', memory, '-j', '2', f'{name}.h5', out], stderr=subprocess.PIPE, text=True, env=env)
    said = p.stderr.read()
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    return p.returncode, said, usage.ru_maxrss, sum(map(int, open('bytes').read().split()))
for name in ('plain', 'gzip', 'shuffled', 'zstd', 'noise', 'wide'):
    for out in ('o.npy', 'o.h5'):
        code, said, kib, read = run(name, out)
        assert code == 0, (name, out, said)
        assert kib < allowed, (name, out, kib)
        size = os.path.getsize(f'{name}.h5')
        # What is stored as it is may be copied by the kernel, which is not counted.
        assert (size * 0.9 < read or name == 'plain') and read < size * 1.1 + (1 << 20), (name, out, read, size)
        compare(name, out)
for name in ('lzf', 'blosc', 'scaled'):
    code, said, kib, read = run(name, 'o.npy')
    assert code == 4 and 'x: chunks of shape' in said and 'bytes of memory while they are decoded' in said and kib < allowed, (name, code, said, kib)
    memory = re.search(r'--memory-limit (\d+MiB)', said).group(1)
    code, said, kib, read = run(name, 'o.npy', memory)
    assert code == 0 and kib < (int(memory[:-3]) + 64) << 10, (name, code, said, kib)
    compare(name, 'o.npy')
"#;

/// Counts the bytes that are read of one file.
const COUNT: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
static atomic_llong total;
static int is_it(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    const char *name = getenv("COUNT_OF");
    return name && strlen(name) <= (size_t)n && !strcmp(path + n - strlen(name), name);
}
#define REAL(name) static ssize_t (*real)(); if (!real) real = (ssize_t (*)())dlsym(RTLD_NEXT, name)
static ssize_t add(int fd, ssize_t n) { if (n > 0 && is_it(fd)) atomic_fetch_add(&total, n); return n; }
ssize_t pread64(int fd, void *p, size_t n, off_t at) { REAL("pread64"); return add(fd, real(fd, p, n, at)); }
ssize_t pread(int fd, void *p, size_t n, off_t at) { REAL("pread"); return add(fd, real(fd, p, n, at)); }
ssize_t read(int fd, void *p, size_t n) { REAL("read"); return add(fd, real(fd, p, n)); }
__attribute__((destructor)) static void tell(void) { FILE *f = fopen("bytes", "a"); if (f) { fprintf(f, "%lld\n", (long long)total); fclose(f); } }
"#;

/// A chunk that is larger than the memory limit is decoded once, through a file; where its filters
/// need all of it at once, it is refused with the limit that is enough.
#[test]
#[ignore = "asks the real libraries"]
fn large_chunks_stay_within_the_memory_limit() {
    let s = Scratch::new();
    support::python(s.path(), LARGE);
    std::fs::write(s.join("count.c"), COUNT).unwrap();
    let built = std::process::Command::new("cc")
        .current_dir(s.path())
        .args(["-shared", "-fPIC", "-w", "-o", "count.so", "count.c", "-ldl"])
        .status();
    assert!(built.unwrap().success());
    support::python(
        s.path(),
        &RUN_LARGE.replace("NPK", &format!("{:?}", env!("CARGO_BIN_EXE_npk"))),
    );
}

/// The library takes memory for a chunk before it reads it: its index is looked at first.
#[test]
fn chunks_that_are_not_in_the_file_are_not_asked_from_the_library() {
    let s = Scratch::new();
    let forged = support::fixture("fuzz/read_hdf5/scaled_chunk_of_4_gib.h5").display().to_string();
    let told = npk_fails(7, &["convert", &forged, &support::at(&s, "o.npk"), "-a", "scaled"]);
    assert!(told.contains("a chunk of 4294967295 bytes is at byte 25388"), "{told}");
}
