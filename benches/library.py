"""The library's calls beside their peers, from Python and from Rust.

    python benches/library.py [--only WORD] [--runs N] [--mib N] [--dir DIR] [--module FOLDER] [--json FILE]

Wants the release builds of the Python module and of its example, which are made and measured by

    make bench-library

As in run.py every figure is a ratio of medians within one run, where ours and the peer's take turns; here it is the
calls that are timed, within processes that have warmed up: one for us, one for the peer, so that neither works with memory
that the other has left behind. The cache is warm and nobody syncs. `--module`: the folder with lib_npk.so (target/release).
A Python that has torch but is not this one: NPK_TEST_TORCH_PYTHON.
"""
import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TORCH = os.environ.get("NPK_TEST_TORCH_PYTHON") or "/usr/bin/python3"

# A process that prepares itself and then runs its call whenever it is asked, each time behind what is not timed.
WORKER = r"""
import sys, time
setup, before, call = sys.argv[1:4]
names = {}
exec(setup, names)
before, call = compile(before, "before", "exec"), compile(call, "call", "exec")
print("ready", flush=True)
for line in sys.stdin:
    exec(before, names)
    began, used = time.perf_counter(), time.process_time()
    exec(call, names)
    print(time.perf_counter() - began, time.process_time() - used, flush=True)
"""


class Worker:
    """One side of a comparison."""

    def __init__(self, argv, cwd, environment):
        self.process = subprocess.Popen([str(a) for a in argv], cwd=cwd, env=environment, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{argv[:3]} did not begin")

    def seconds(self):
        """Of the clock and, where it is told, of all processors together."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        wall, *cpu = map(float, self.process.stdout.readline().split())
        return wall, cpu[0] if cpu else float("nan")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


class Bench:
    def __init__(self, folder, site, binary, runs):
        self.dir, self.binary, self.runs, self.rows = folder, binary, runs, []
        self.environment = os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}

    def python(self, setup, before, call, python=sys.executable):
        return Worker([python, "-c", WORKER, setup, before, call], self.dir, self.environment)

    def has_rust(self):
        if not self.binary.exists():
            print(f"     {self.binary} is not built: left out", flush=True)
        return self.binary.exists()

    def rust(self, *args):
        return Worker([self.binary, *args], self.dir, self.environment)

    def told(self, name, ours, peer, peer_name, ratio, means, goal, met, cpu=None):
        """`cpu`: the same ratio of the processors' time, which says more on a machine that does other things."""
        row = {"case": name, "peer": peer_name, "ours_s": round(ours, 6), "peer_s": peer and round(peer, 6),
               "ratio": round(ratio, 3), "cpu_ratio": cpu and round(cpu, 3), "means": means, "goal": goal, "met": met}
        self.rows.append(row)
        mark = {True: "ok  ", False: "MISS", None: "    "}[met]
        figures = f"{1e3 * ours:.2f} ms" + (f" / {1e3 * peer:.2f} ms" if peer else "")
        figures += f"  CPU {cpu:.2f}" if cpu else ""
        print(f"{mark} {name:48} {ratio:7.2f} {means:18} {peer_name:28} goal {goal}  {figures}", flush=True)

    def compare(self, name, ours, peer, peer_name, goal, faster=False):
        """`goal`: with faster, peer / ours must reach it; otherwise ours / peer must not pass it."""
        times, used = {"ours": [], "peer": []}, {"ours": [], "peer": []}
        with ours, peer:
            for i in range(self.runs + 1):
                for which, worker in (("ours", ours), ("peer", peer))[:: 1 if i % 2 else -1]:
                    os.sync()  # neither pays for what the other left to be written
                    seconds, cpu = worker.seconds()
                    if i > 0:  # the first round warms up
                        times[which].append(seconds)
                        used[which].append(cpu)
        a, b = statistics.median(times["ours"]), statistics.median(times["peer"])
        of = lambda a, b: b / a if faster else a / b
        ratio, cpu = of(a, b), of(statistics.median(used["ours"]), statistics.median(used["peer"]))
        met = ratio >= goal if faster else ratio <= goal
        self.told(name, a, b, peer_name, ratio, "times faster" if faster else "x the peer's time", goal, met, cpu)

    def within(self, name, ours, goal):
        """The median must be below so many seconds."""
        with ours:
            times = [ours.seconds()[0] for _ in range(self.runs + 1)][1:]
        a = statistics.median(times)
        self.told(name, a, None, f"{1e3 * goal:g} ms", a / goal, "x the limit", 1.0, a <= goal)


FRESH = "import shutil; shutil.rmtree('{0}', ignore_errors=True)"


def write(b, mib):
    """Memory into a store, beside one write of the same bytes."""
    rows = mib * 1024
    setup = f"import numpy as np, npk, os; a = np.random.default_rng(1).standard_normal(({rows}, 256), dtype='f4')"
    tofile = b.python(setup.replace(", npk", ""), "os.path.exists('p.bin') and os.unlink('p.bin')", "a.tofile('p.bin')")
    b.compare(f"npk.save of {mib} MiB", b.python(setup, FRESH.format("o.npk"), "npk.save('o.npk', {'a': a})"), tofile,
              "numpy.tofile", 1.05)
    if b.has_rust():
        tofile = b.python(setup.replace(", npk", ""), "os.path.exists('p.bin') and os.unlink('p.bin')", "a.tofile('p.bin')")
        b.compare(f"Rust: Store::write of {mib} MiB", b.rust("write", "r.npk", rows), tofile, "numpy.tofile", 1.05)
    for left in ("o.npk", "r.npk"):
        shutil.rmtree(b.dir / left, ignore_errors=True)
    (b.dir / "p.bin").unlink(missing_ok=True)


def read(b, mib):
    """Arrays as views of a store."""
    for size in (1, mib):
        made = f"import numpy as np, npk; npk.save('m{size}.npk', {{'w': np.zeros(({size * 1024}, 256), 'f4')}}, overwrite=True)"
        subprocess.run([sys.executable, "-c", made], check=True, cwd=b.dir, env=b.environment)
        opened = f"import numpy as np, npk; file = npk.open('m{size}.npk')"
        b.within(f"file['w'] of {size} MiB", b.python(opened, "a = None", "a = file['w']"), 1e-3)
        b.within(f"numpy.asarray(file['w']) of {size} MiB", b.python(opened, "a = None", "a = np.asarray(file['w'])"), 1e-3)
        b.within(f"npk.open(…)['w'] of {size} MiB", b.python(opened, "a = None", f"a = npk.open('m{size}.npk')['w']"), 1e-3)
        if b.has_rust():
            b.within(f"Rust: open and array of {size} MiB", b.rust("map", f"m{size}.npk", "w"), 1e-3)
    if subprocess.run([TORCH, "-c", "import torch"], capture_output=True).returncode == 0:
        setup = f"import npk, torch; file = npk.open('m{mib}.npk')"
        call = f"t = torch.from_dlpack(npk.open('m{mib}.npk')['w'])"
        b.within(f"npk.open(…)['w'] of {mib} MiB to torch", b.python(setup, "t = None", call, TORCH), 1e-3)
        check = f"{setup}\na = file['w']; t = torch.from_dlpack(a); assert t.data_ptr() == a.address and not a.is_copy"
        subprocess.run([TORCH, "-c", check], check=True, cwd=b.dir, env=b.environment)
    else:
        print(f"     {TORCH} has no torch: left out", flush=True)


def tensors(b, mib):
    """Dicts into a store and back, beside numpack.io; its tensor-dict functions are later than some of its wheels, so
    what they call is called here."""
    theirs_in = "n = numpack.NumPack(f'p{k}.npk', drop_if_exists=True); n.open(); n.save(d); n.close()"
    theirs_out = ("n = numpack.NumPack(f'p{k}.npk'); n.open()\n"
                  "back = {name: np.ascontiguousarray(n.load(name)) for name in n.get_member_list()}; n.close()")
    ours_in = "io.from_safetensors(d, f'o{k}.npk', drop_if_exists=True)"
    ours_out = "back = io.to_safetensors(f'o{k}.npk')"
    large = f"d = {{f'layer.{{i}}': g.standard_normal(({mib * 32}, 512), dtype='f4') for i in range(16)}}"
    small = "d = {f't{i}': np.full(64, i, 'f4') for i in range(2000)}"
    number = itertools.count(0, 1000)
    for name, made in ((f"16 tensors of {mib // 16} MiB", large), ("2,000 small tensors", small)):
        def ours(more=""):
            return f"import numpy as np, npk, shutil; from npk import io; g = np.random.default_rng(1); {made}; k = {next(number)}\n{more}"

        def theirs(more=""):
            return f"import numpy as np, numpack, shutil; g = np.random.default_rng(1); {made}; k = {next(number)}\n{more}"

        # Stores of many files stay until the end: ext4 passes over each inode that was freed in the last minutes, so that
        # whoever makes files next would pay for the removal.
        fresh = "back = None; k += 1" + ("" if "small" in name else "; [shutil.rmtree(f'{s}{k - 1}.npk', True) for s in 'op']")
        touch = "\ns = sum(float(a[0]) if a.ndim == 1 else float(a[0, 0]) for a in back.values())"
        whole = "\ns = sum(float(a.sum()) for a in back.values())"
        b.compare(f"from_safetensors, {name}", b.python(ours(), fresh, ours_in), b.python(theirs(), fresh, theirs_in),
                  "numpack.io", 2.0, True)
        b.compare(f"to_safetensors, {name}", b.python(ours(ours_in), "back = None", ours_out + touch),
                  b.python(theirs(theirs_in), "back = None", theirs_out + touch), "numpack.io", 2.0, True)
        both = lambda made, into, out: b.python(made, fresh, f"{into}\n{out}{whole}")
        b.compare(f"both, every value used, {name}", both(ours(), ours_in, ours_out), both(theirs(), theirs_in, theirs_out),
                  "numpack.io", 2.0, True)
        if "small" in name:
            loop = ("os.mkdir(f'b{k}'); at = os.open(f'b{k}', os.O_RDONLY)\n"
                    "for i in range(2000):\n"
                    "  f = os.open(f'data_{i}', os.O_CREAT | os.O_WRONLY, dir_fd=at); os.write(f, raw); os.close(f)\n"
                    "os.close(at)")
            b.compare(f"from_safetensors, {name}", b.python(ours(), fresh, ours_in),
                      b.python("import os; raw = bytes(256); k = 0", "k += 1", loop), "bare loop of writes", 1.5)


def imports(b, _):
    """As a process sees it: what `import npk` adds to Python's own start."""
    again = "for n in [n for n in sys.modules if n.split('.')[0] == 'npk']: del sys.modules[n]"
    b.within("import npk, again", b.python("import sys, npk", again, "import npk"), 0.05)
    code = ("import subprocess, sys\n"
            "new = lambda c: subprocess.run([sys.executable, '-S', '-E', '-c', c], check=True)\n"
            "import os, npk; site = os.path.dirname(os.path.dirname(npk.__file__))\n"
            "said = f'import sys; sys.path.insert(0, {site!r})'")
    b.within("a process that imports npk and ends", b.python(code, "", "new(said + '; import npk')"), 0.05)
    loaded = "import sys, npk; assert not {'numpy', 'torch', 'pandas', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", loaded], check=True, env=b.environment)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="write, read, tensors, imports")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--dir")
    parser.add_argument("--module", type=Path, default=ROOT / "target/release")
    parser.add_argument("--json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="npk-bench-", dir=args.dir) as folder:
        folder = Path(folder)
        site = folder / "site"
        shutil.copytree(ROOT / "python/npk", site / "npk")
        shutil.copy(args.module / "lib_npk.so", site / "npk/_npk.abi3.so")
        b = Bench(folder, site, args.module / "examples/store", args.runs)
        if args.only in "write":
            write(b, args.mib)
        if args.only in "read":
            read(b, args.mib)
        if args.only in "tensors":
            tensors(b, max(args.mib, 16))
        if args.only in "imports":
            imports(b, args.mib)
    if args.json:
        Path(args.json).write_text(json.dumps(b.rows, indent=1))


main()
