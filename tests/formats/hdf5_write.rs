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

/// Values of elements that were never written, and dimensions without a limit, are kept: in HDF5,
/// and the values in Zarr, from where they come back.
#[test]
#[ignore = "asks the real libraries"]
fn fill_values_and_unlimited_dimensions_are_kept() {
    let s = Scratch::new();
    support::python(
        s.path(),
        r#"
import h5py, zarr, netCDF4, numpy as np
want = {'f': np.float32(7.5), 'nan': np.float64('nan'), 'i': np.int16(-9), 'u': np.uint64(2**64 - 1), 'b': np.bool_(True), 'c': np.complex64(1 - 2j)}
with h5py.File('a.h5', 'w') as f:
    for name, fill in want.items():
        f.create_dataset(name, data=np.zeros((3, 4), fill.dtype), maxshape=(None, 9), chunks=(2, 4), fillvalue=fill)
    f.create_dataset('big', data=np.arange(3, dtype='>i4'), fillvalue=-2)
    f.create_dataset('plain', data=np.arange(3)); f.create_dataset('empty', (0, 2), 'i4', maxshape=(None, 2))
    f.create_dataset('text', data=['a', 'b'], maxshape=(None,))
    f.create_dataset('record', data=np.zeros(3, [('x', 'i4'), ('y', 'f4')]), fillvalue=np.array((5, 2.5), [('x', 'i4'), ('y', 'f4')])[()])
for v in (2, 3):
    g = zarr.open_group(f'a{v}.zarr', mode='w', zarr_format=v)
    for name, fill in want.items():
        if v == 3 or name != 'c': g.create_array(name, data=np.zeros((3, 4), fill.dtype), chunks=(2, 4), fill_value=fill)
with netCDF4.Dataset('a.nc', 'w') as f:
    for name, n in (('time', None), ('x', 3), ('step', None)): f.createDimension(name, n)
    f.createVariable('time', 'i4', ('time',))[:] = [1, 2]
    f.createVariable('v', 'f4', ('time', 'x'), fill_value=-5)[:] = np.ones((2, 3)); f.createVariable('w', 'i2', ('step', 'x'))[:] = np.ones((4, 3))
"#,
    );
    for (from, to) in [
        ("a.h5", "o.h5"),
        ("a.h5", "h3.zarr"),
        ("h3.zarr", "back.h5"),
        ("a3.zarr", "o3.zarr"),
        ("a3.zarr", "z3.h5"),
        ("a2.zarr", "o2.zarr"),
        ("a2.zarr", "z2.h5"),
        ("a.nc", "o.nc"),
    ] {
        let version: &[&str] = if to == "o2.zarr" { &["--zarr-format", "2"] } else { &[] };
        npk(&[&["convert", "-q", &at(&s, from), &at(&s, to), "--verify"], version].concat());
    }
    npk(&["convert", "-q", &at(&s, "a.h5"), &at(&s, "none.h5"), "-c", "none"]);
    npk(&["convert", "-q", &at(&s, "a.h5"), &at(&s, "cast.h5"), "-a", "f", "--dtype", "float64"]);
    npk(&["convert", "-q", &at(&s, "a.h5"), &at(&s, "x2.zarr"), "--zarr-format", "2"]);
    support::python(
        s.path(),
        r#"
import h5py, zarr, netCDF4, numpy as np
want = {'f': np.float32(7.5), 'nan': np.float64('nan'), 'i': np.int16(-9), 'u': np.uint64(2**64 - 1), 'b': np.bool_(True), 'c': np.complex64(1 - 2j)}
same = lambda a, b: np.array_equal(a, b, equal_nan=np.asarray(b).dtype.kind in 'fc')
for file in ('o.h5', 'none.h5', 'back.h5', 'z3.h5', 'z2.h5'):
    with h5py.File(file) as f:
        for name, fill in want.items():
            if name in f: assert same(f[name].fillvalue, fill) and f[name].dtype == fill.dtype, (file, name, f[name].fillvalue)
            if name in f and file in ('o.h5', 'none.h5'): assert f[name].maxshape == (None, 9), (file, name, f[name].maxshape)
        if file in ('o.h5', 'none.h5'):
            assert f['big'].fillvalue == -2 and f['plain'].maxshape == (3,) and f['empty'].maxshape == (None, 2) and f['text'].maxshape == (None,)
            assert f['record.x'].fillvalue == 5 and f['record.y'].fillvalue == 2.5
            assert f['text'].asstr()[:].tolist() == ['a', 'b'] and f['plain'][:].tolist() == [0, 1, 2]
for file in ('h3.zarr', 'o3.zarr', 'o2.zarr'):
    g = zarr.open_group(file, mode='r')
    for name, fill in want.items():
        if name in g: assert same(g[name].fill_value, fill), (file, name, g[name].fill_value)
assert h5py.File('cast.h5')['f'].fillvalue == 0
# In v2 xarray takes the value for a missing one: it comes from Zarr alone.
assert zarr.open_group('x2.zarr', mode='r')['f'].metadata.to_dict()['fill_value'] is None
with netCDF4.Dataset('o.nc') as f:
    assert f.dimensions['time'].isunlimited() and f.dimensions['step'].isunlimited() and not f.dimensions['x'].isunlimited()
    assert f['v']._FillValue == -5 and f['w'].dimensions == ('step', 'x') and len(f.dimensions['step']) == 4
with netCDF4.Dataset('o.nc', 'a') as f:
    f['time'][2] = 3; f['v'][2] = np.zeros(3)
    assert f['v'].shape == (3, 3)
"#,
    );
}
