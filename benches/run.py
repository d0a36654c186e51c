"""Side-by-side benchmarks of the release build against its peers.

    python benches/run.py [--only WORD] [--runs N] [--mib N] [--dir DIR] [--json FILE] [--against NPK]

Every figure is a ratio within one run: ours and the peer's take turns, each a whole process, and the medians are divided.
`cp` means `cp --reflink=never` (-r for stores) on the same file system; the cache is warm and nobody syncs. Peak resident
memory is the kernel's own figure for the finished process. The goals are those the project has set itself.
`--against` takes another build of npk in the place of every peer: no case may take more than 1.05 x its time.
"""
import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

import page

ROOT = Path(__file__).resolve().parent.parent
NPK = os.environ.get("NPK") or str(ROOT / "target/release/npk")
PY = sys.executable


RUNNER = r"""
import json, os, subprocess, sys, time
for line in sys.stdin:
    argv, cwd = json.loads(line)
    began = time.perf_counter()
    process = subprocess.Popen(argv, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took = time.perf_counter() - began
    cpu = usage.ru_utime + usage.ru_stime
    print(json.dumps([process.returncode, took, usage.ru_maxrss / 1024, cpu, error.decode(errors="replace")[-2000:]]), flush=True)
"""
# The processes are started by a small one of their own: a child's peak memory counts what its parent held at the fork.
runner = subprocess.Popen([sys.executable, "-S", "-c", RUNNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def run(argv, cwd):
    """Seconds, peak MiB and processor seconds of one process."""
    runner.stdin.write(json.dumps([[str(a) for a in argv], str(cwd)]) + "\n")
    runner.stdin.flush()
    code, seconds, peak, cpu, error = json.loads(runner.stdout.readline())
    if code != 0:
        raise RuntimeError(f"{argv}: exit {code}\n{error}")
    return seconds, peak, cpu


def remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()


class Bench:
    def __init__(self, directory, runs, mib, against=None):
        self.dir, self.runs, self.mib, self.rows = directory, runs, mib, []
        self.aside, self.against, self.compared = 0, against, []

    def clear(self, outputs):
        """Removes outputs. Those of many files are put aside until the end: ext4 passes over each inode that was freed in
        the last minutes, so that whoever makes files next would pay for the removal."""
        for out in outputs:
            path = self.dir / out
            if path.is_dir() and len(os.listdir(path)) > 1000:
                self.aside += 1
                path.rename(self.dir / f"aside-{self.aside}")
            else:
                remove(path)

    def compare(self, name, ours, peer, peer_name, outputs=(), goal=None, faster=False, memory_goal=None):
        """`goal`: with faster, peer / ours must reach it; otherwise ours / peer must not pass it."""
        if self.against:
            if ours in self.compared:
                return
            self.compared.append(ours)
            peer, peer_name, goal, faster = [self.against, *ours[1:]], "the other build", 1.05, False
        times, used = {"ours": [], "peer": []}, {"ours": [], "peer": []}
        peaks = []
        for i in range(self.runs + 1):
            for which, argv in (("ours", ours), ("peer", peer))[:: 1 if i % 2 else -1]:
                self.clear(outputs)
                os.sync()  # neither pays for what the other left to be written
                seconds, peak, cpu = run(argv, self.dir)
                if i > 0:  # the first round warms up
                    times[which].append(seconds)
                    used[which].append(cpu)
                    if which == "ours":
                        peaks.append(peak)
        a, b = statistics.median(times["ours"]), statistics.median(times["peer"])
        ratio = b / a if faster else a / b
        met = None if goal is None else (ratio >= goal if faster else ratio <= goal)
        if memory_goal and max(peaks) > memory_goal:
            met = False
        ours_cpu, peer_cpu = statistics.median(used["ours"]), statistics.median(used["peer"])
        row = {"case": name, "peer": peer_name, "ours_s": round(a, 4), "peer_s": round(b, 4), "ratio": round(ratio, 3), "means": "times faster" if faster else "x the peer's time", "goal": goal, "met": met, "ours_cpu_s": round(ours_cpu, 4), "peer_cpu_s": round(peer_cpu, 4), "peak_mib": round(max(peaks), 1), "memory_goal_mib": memory_goal}
        self.rows.append(row)
        mark = {True: "ok  ", False: "MISS", None: "    "}[met]
        cpu = f"  CPU {ours_cpu:.3f} s / {peer_cpu:.3f} s" if self.against else ""
        print(f"{mark} {name:44} {ratio:6.2f} {row['means']:18} {peer_name:28} goal {goal}  {a:.3f} s / {b:.3f} s  peak {max(peaks):.0f} MiB{cpu}", flush=True)
        self.clear(outputs)


def python(code):
    return [PY, "-c", code]


def core(b):
    from safetensors.numpy import save_file

    n = b.mib * 1024 * 1024 // 4
    data = np.random.default_rng(1).standard_normal(n, dtype="f4").reshape(-1, 256)
    save_file({f"layer.{i}.weight": part for i, part in enumerate(np.array_split(data, 16))}, b.dir / "m.safetensors")
    np.save(b.dir / "d.npy", data)
    run([NPK, "convert", "-q", "m.safetensors", "m.npk"], b.dir)
    run([NPK, "convert", "-q", "d.npy", "d.npk"], b.dir)
    cp = ["cp", "--reflink=never"]
    b.compare("safetensors -> npk", [NPK, "convert", "-q", "m.safetensors", "o.npk"], cp + ["m.safetensors", "o.copy"], "cp", ["o.npk", "o.copy"], 1.10, memory_goal=64)
    b.compare("npy -> npk", [NPK, "convert", "-q", "d.npy", "o.npk"], cp + ["d.npy", "o.copy"], "cp", ["o.npk", "o.copy"], 1.10, memory_goal=64)
    b.compare("npk -> npy", [NPK, "convert", "-q", "d.npk", "o.npy"], cp + ["d.npy", "o.copy"], "cp", ["o.npy", "o.copy"], 1.10, memory_goal=64)
    b.compare("npk -> safetensors", [NPK, "convert", "-q", "m.npk", "o.safetensors"], cp + ["m.safetensors", "o.copy"], "cp", ["o.safetensors", "o.copy"], 1.10, memory_goal=64)
    b.compare("diff of two stores", [NPK, "diff", "-q", "d.npk", "d.npk"], python("import subprocess,glob; f=glob.glob('d.npk/*.npkd')[0]; subprocess.check_call(['cp',f,'c.tmp']) if not __import__('os').path.exists('c.tmp') else 0; subprocess.check_call(['cmp',f,'c.tmp'])"), "cmp", [], 1.5)
    remove(b.dir / "c.tmp")
    np.save(b.dir / "f.npy", np.asfortranarray(data))
    b.compare("Fortran npy -> npk", [NPK, "convert", "-q", "f.npy", "o.npk"], cp + ["f.npy", "o.copy"], "cp", ["o.npk", "o.copy"], 2.5)
    remove(b.dir / "f.npy")
    # bfloat16: half a file of bits, widened to a whole one.
    half = (data.view("u4") >> 16).astype("u2").reshape(-1)[: n // 2]
    header = json.dumps({"x": {"dtype": "BF16", "shape": [len(half)], "data_offsets": [0, half.nbytes]}}).encode()
    header += b" " * (-(8 + len(header)) % 8)
    with open(b.dir / "bf.safetensors", "wb") as f:
        f.write(len(header).to_bytes(8, "little") + header)
        half.tofile(f)
    run([NPK, "convert", "-q", "bf.safetensors", "bf.npk"], b.dir)
    b.compare("bfloat16 safetensors -> npk (widened)", [NPK, "convert", "-q", "bf.safetensors", "o.npk"], cp + ["-r", "bf.npk", "o.copy"], "cp of the written bytes", ["o.npk", "o.copy"], 1.5)
    for f in ("bf.safetensors", "bf.npk"):
        remove(b.dir / f)
    save_file({f"t{i}": np.full(64, i, "f4") for i in range(10_000)}, b.dir / "small.safetensors")
    loop = "import os; os.mkdir('o.dir'); d=bytes(256)\nfor i in range(10000):\n  with open(f'o.dir/{i}','wb') as f: f.write(d)"
    b.compare("10,000 small tensors -> npk", [NPK, "convert", "-q", "small.safetensors", "o.npk"], python(loop), "bare loop of writes", ["o.npk", "o.dir"], 1.5)
    b.compare("inspect of 10,000 tensors (50 ms)", [NPK, "inspect", "--json", "small.safetensors"], ["sleep", "0.05"], "50 ms", [], 1.0)
    b.compare("list of a small store (10 ms)", [NPK, "list", "d.npk"], ["sleep", "0.01"], "10 ms", [], 1.0)
    b.compare("inspect of a small store (10 ms)", [NPK, "inspect", "d.npk"], ["sleep", "0.01"], "10 ms", [], 1.0)


def archives(b):
    n = b.mib * 1024 * 1024 // 8 // 8
    rng = np.random.default_rng(2)
    arrays = {f"a{i}": np.round(rng.standard_normal(n), 2) for i in range(8)}
    np.savez_compressed(b.dir / "z.npz", **arrays)
    np.savez(b.dir / "s.npz", **arrays)
    peer = "import numpy as np\nwith np.load('z.npz') as z:\n  for k in z.files: z[k].tofile('o.'+k)"
    outs = ["o.npk"] + [f"o.a{i}" for i in range(8)]
    b.compare("deflated npz -> npk", [NPK, "convert", "-q", "z.npz", "o.npk"], python(peer), "numpy load + tofile", outs, 3.0, faster=True)
    b.compare("stored npz -> npk", [NPK, "convert", "-q", "s.npz", "o.npk"], ["cp", "--reflink=never", "s.npz", "o.copy"], "cp", ["o.npk", "o.copy"], 1.4)


def checkpoints(b):
    run([NPK, "convert", "-q", "m.safetensors", "m.pt"], b.dir)
    run([NPK, "convert", "-q", "m.pt", "p.npk"], b.dir)
    cp = ["cp", "--reflink=never", "m.pt", "o.copy"]
    b.compare("pt -> npk", [NPK, "convert", "-q", "m.pt", "o.npk"], cp, "cp", ["o.npk", "o.copy"], 1.10, memory_goal=64)
    b.compare("npk -> pt", [NPK, "convert", "-q", "p.npk", "o.pt"], cp, "cp", ["o.pt", "o.copy"], 1.10, memory_goal=64)
    run([NPK, "convert", "-q", "small.safetensors", "small.pt"], b.dir)
    b.compare("inspect of a 10,000-tensor pt (100 ms)", [NPK, "inspect", "--json", "small.pt"], ["sleep", "0.1"], "100 ms", [], 1.0)


def tables(b):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = b.mib * 1024 * 1024 // 8 // 20
    rng = np.random.default_rng(3)
    table = pa.table({f"c{i}": (rng.standard_normal(rows) if i % 2 else rng.integers(0, 1 << 40, rows)) for i in range(20)})
    for codec in ("snappy", "zstd"):
        pq.write_table(table, b.dir / f"t.{codec}.parquet", compression=codec, row_group_size=rows // 8)
        arrow = f"import pyarrow.parquet as pq\nt=pq.read_table('t.{codec}.parquet')\nfor n in t.column_names: t[n].to_numpy().tofile('o.'+n)"
        polars = f"import polars as pl\nt=pl.read_parquet('t.{codec}.parquet')\nfor n in t.columns: t[n].to_numpy().tofile('o.'+n)"
        outs = ["o.npk"] + [f"o.c{i}" for i in range(20)]
        ours = [NPK, "convert", "-q", f"t.{codec}.parquet", "o.npk", "--layout", "columns"]
        b.compare(f"parquet {codec} -> npk columns", ours, python(arrow), "pyarrow + tofile", outs, 2.0, faster=True, memory_goal=320)
        b.compare(f"parquet {codec} -> npk columns", ours, python(polars), "polars + tofile", outs, 1.2, faster=True, memory_goal=320)
    run([NPK, "convert", "-q", "t.snappy.parquet", "t.npk", "--layout", "columns"], b.dir)
    files = "import json,glob,numpy as np,pyarrow as pa,pyarrow.parquet as pq,pyarrow.feather as ft\nd={f'c{i}': np.memmap(f't.npk/data_c{i}.npkd',dtype='f8' if i%2 else 'i8',mode='r') for i in range(20)}\n"
    b.compare("npk -> parquet snappy", [NPK, "convert", "-q", "t.npk", "o.parquet", "-c", "snappy"], python(files + "pq.write_table(pa.table(d),'o.peer',compression='snappy')"), "pyarrow from memory maps", ["o.parquet", "o.peer"], 1.5, faster=True)
    b.compare("npk -> feather zstd", [NPK, "convert", "-q", "t.npk", "o.feather", "-c", "zstd:1"], python(files + "ft.write_feather(pa.table(d),'o.peer',compression='zstd',compression_level=1)"), "pyarrow from memory maps", ["o.feather", "o.peer"], 1.0, faster=True)
    names = pa.array([f"customer {i % 997} of {i % 13}" for i in range(1000)]).take(pa.array(rng.integers(0, 1000, rows)))
    pq.write_table(table.append_column("name", names), b.dir / "n.parquet", row_group_size=rows // 8)
    arrow = "import pyarrow.parquet as pq\nt=pq.read_table('n.parquet')\nfor n in t.column_names[:-1]: t[n].to_numpy().tofile('o.'+n)\nd=t['name'].combine_chunks().dictionary_encode()\nd.indices.to_numpy().tofile('o.name')"
    b.compare("parquet with one text column -> npk", [NPK, "convert", "-q", "n.parquet", "o.npk", "--layout", "columns"], python(arrow), "pyarrow + tofile", ["o.npk", "o.name"] + [f"o.c{i}" for i in range(20)], 1.5, faster=True)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rng.standard_normal(200_000 * 384, dtype="f4")), 384).cast(pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": np.arange(200_000), "v": vectors}), b.dir / "e.parquet")
    arrow = "import numpy as np, pyarrow.parquet as pq\nt=pq.read_table('e.parquet')\nnp.stack(t['v'].to_numpy()).tofile('o.v')\nt['id'].to_numpy().tofile('o.id')"
    b.compare("parquet embeddings -> npk", [NPK, "convert", "-q", "e.parquet", "o.npk"], python(arrow), "pyarrow + numpy", ["o.npk", "o.v", "o.id"], 3.0, faster=True)


def text(b):
    import polars as pl

    rows = b.mib * 1024 * 1024 // 4 // 19 // 10
    rng = np.random.default_rng(4)
    frame = pl.DataFrame({f"c{i}": rng.standard_normal(rows) for i in range(10)})
    frame.write_csv(b.dir / "d.csv")
    outs = ["o.npk", "o.parquet"] + [f"o.c{i}" for i in range(10)]
    ours = [NPK, "convert", "-q", "d.csv", "o.npk", "--layout", "columns"]
    b.compare("csv of floats -> npk", ours, python("import polars as pl\nt=pl.read_csv('d.csv')\nfor n in t.columns: t[n].to_numpy().tofile('o.'+n)"), "polars + tofile", outs, 1.0, faster=True)
    b.compare("csv of floats -> npk", ours, python("import duckdb\nduckdb.sql(\"copy (select * from read_csv('d.csv')) to 'o.parquet'\")"), "DuckDB to parquet", outs, 1.0, faster=True)
    mixed = pl.DataFrame({"id": np.arange(rows), "x": rng.standard_normal(rows), "name": [f"item, \"{i % 999}\"" for i in range(rows)], "flag": rng.integers(0, 2, rows).astype(bool)})
    mixed.write_csv(b.dir / "x.csv")
    b.compare("csv mixed, quoted -> npk", [NPK, "convert", "-q", "x.csv", "o.npk"], python("import polars as pl\nt=pl.read_csv('x.csv')\nfor n in ('id','x','flag'): t[n].to_numpy().tofile('o.'+n)\nt['name'].cast(pl.Categorical).to_physical().to_numpy().tofile('o.name')"), "polars + tofile", ["o.npk", "o.id", "o.x", "o.flag", "o.name"], 0.9, faster=True)
    run(ours[:3] + ["d.csv", "c.npk", "--layout", "columns"], b.dir)
    b.compare("npk -> csv", [NPK, "convert", "-q", "c.npk", "o.csv"], python("import numpy as np, polars as pl\npl.DataFrame({f'c{i}': np.fromfile(f'c.npk/data_c{i}.npkd') for i in range(10)}).write_csv('o.peer')"), "polars", ["o.csv", "o.peer"], 1.2, faster=True)


def science(b):
    import h5py
    import zarr

    n = b.mib * 1024 * 1024 // 4
    data = np.round(np.random.default_rng(5).standard_normal(n, dtype="f4"), 2).reshape(-1, 256)
    with h5py.File(b.dir / "g.h5", "w") as f:
        f.create_dataset("x", data=data, chunks=(2048, 256), compression="gzip", shuffle=True, compression_opts=4)
    with h5py.File(b.dir / "c.h5", "w") as f:
        f["x"] = data
    with h5py.File(b.dir / "many.h5", "w") as f:
        for i in range(20_000):
            f[f"g{i % 100}/d{i}"] = np.arange(16.0)
    blocks = "import h5py\nwith h5py.File('g.h5') as f, open('o.peer','wb') as o:\n  d=f['x']\n  for i in range(0,len(d),2048): d[i:i+2048].tofile(o)"
    b.compare("hdf5 gzip+shuffle -> npk", [NPK, "convert", "-q", "g.h5", "o.npk"], python(blocks), "h5py + tofile", ["o.npk", "o.peer"], 3.0, faster=True, memory_goal=320)
    b.compare("hdf5 contiguous -> npk", [NPK, "convert", "-q", "c.h5", "o.npk"], ["cp", "--reflink=never", "c.h5", "o.copy"], "cp", ["o.npk", "o.copy"], 1.10)
    many = "import h5py,os\nos.mkdir('o.dir')\nwith h5py.File('many.h5') as f:\n  for g in f.values():\n    for n,d in g.items(): d[...].tofile('o.dir/'+n)"
    b.compare("20,000 small datasets -> npk", [NPK, "convert", "-q", "many.h5", "o.npk"], python(many), "h5py + tofile", ["o.npk", "o.dir"], 2.0, faster=True)
    run([NPK, "convert", "-q", "c.h5", "h.npk"], b.dir)
    write = "import h5py,numpy as np\nd=np.memmap('h.npk/data_x.npkd',dtype='f4',mode='r').reshape(-1,256)\nwith h5py.File('o.peer','w') as f: f.create_dataset('x',data=d,chunks=(2048,256),compression='gzip',compression_opts=4,shuffle=True)"
    b.compare("npk -> hdf5 gzip:4", [NPK, "convert", "-q", "h.npk", "o.h5", "--chunk-shape", "2048,256"], python(write), "h5py", ["o.h5", "o.peer"], 1.8, faster=True)
    z = zarr.create_array(store=str(b.dir / "x.zarr"), shape=data.shape, chunks=(2048, 256), dtype="f4", overwrite=True)
    z[...] = data
    read = "import zarr\nd=zarr.open('x.zarr')\nwith open('o.peer','wb') as o:\n  for i in range(0,d.shape[0],16384): d[i:i+16384].tofile(o)"
    b.compare("zarr zstd -> npk", [NPK, "convert", "-q", "x.zarr", "o.npk"], python(read), "zarr-python + tofile", ["o.npk", "o.peer"], 2.0, faster=True, memory_goal=320)
    z = zarr.create_array(store=str(b.dir / "l.zarr"), shape=data.shape, chunks=(2048, 256), dtype="f4", overwrite=True, compressors=zarr.codecs.BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"))
    z[...] = data
    b.compare("zarr blosc lz4 -> npk", [NPK, "convert", "-q", "l.zarr", "o.npk"], python(read.replace("x.zarr", "l.zarr")), "zarr-python + tofile", ["o.npk", "o.peer"], 2.0, faster=True, memory_goal=320)
    put = "import zarr,numpy as np\nd=np.memmap('h.npk/data_x.npkd',dtype='f4',mode='r').reshape(-1,256)\nz=zarr.create_array(store='o.peer',shape=d.shape,chunks=(2048,256),dtype='f4')\nz[...]=d"
    b.compare("npk -> zarr zstd", [NPK, "convert", "-q", "h.npk", "o.zarr", "--chunk-shape", "2048,256"], python(put), "zarr-python", ["o.zarr", "o.peer"], 2.0, faster=True)


def batches(b):
    (b.dir / "in").mkdir(exist_ok=True)
    for i in range(10_000):
        np.save(b.dir / f"in/{i}.npy", np.full(64, i, "f4"))
    b.compare("batch of 10,000 small npy", [NPK, "convert", "-q", "-R", "in", "-o", "o.dir/", "--to", "safetensors"], ["cp", "-r", "--reflink=never", "in", "o.copy"], "cp", ["o.dir", "o.copy"], 3.0)
    (b.dir / "two").mkdir(exist_ok=True)
    for i in range(200):
        shutil.copy(b.dir / f"in/{i}.npy", b.dir / f"two/{i}.npy")
    loop = ["sh", "-c", f"mkdir o.copy; for f in $(ls two | head -20); do {PY} -c \"import numpy as np; np.load('two/$f').tofile('o.copy/$f')\"; done"]
    b.compare("batch of 200 (peer: 20, so a tenth)", [NPK, "convert", "-q", "-R", "two", "-o", "o.dir/", "--to", "npk"], loop, "shell loop over Python", ["o.dir", "o.copy"], 2.0, faster=True)


class Weed:
    """A SeaweedFS server on this machine alone, with one bucket."""

    KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI"

    def __init__(self, folder):
        folder.mkdir()
        (folder / "data").mkdir()
        who = {"name": "admin", "credentials": [{"accessKey": self.KEY, "secretKey": self.SECRET}], "actions": ["Admin", "Read", "Write", "List"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [who]}))
        base = 24000
        argv = [Path(PY).with_name("weed"), "mini", "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1", "-master.telemetry=false", "-webdav=false", "-admin.ui=false"]
        argv += ["-s3.port.iceberg", "0", "-s3.port.lance", "0", "-dir", "data", "-s3.config", "s3.json"]
        for i, name in enumerate(("master", "volume", "filer", "s3", "admin")):
            argv += [f"-{name}.port", str(base + i)]
        self.port = base + 3
        self.process = subprocess.Popen(argv, cwd=folder, stdout=open(folder / "log", "wb"), stderr=subprocess.STDOUT)
        os.environ.update(AWS_ACCESS_KEY_ID=self.KEY, AWS_SECRET_ACCESS_KEY=self.SECRET, AWS_REGION="us-east-1", AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true", NO_PROXY="127.0.0.1", AWS_ENDPOINT_URL=f"http://127.0.0.1:{self.port}", AWS_CONFIG_FILE="/dev/null", AWS_SHARED_CREDENTIALS_FILE="/dev/null")
        for _ in range(60):
            if subprocess.run(self.aws("mb", "s3://bench"), capture_output=True).returncode == 0:
                return
            time.sleep(0.5)
        raise RuntimeError((folder / "log").read_text()[-2000:])

    @staticmethod
    def aws(*args):
        return [Path(PY).with_name("aws"), "s3", *args]

    def close(self):
        self.process.kill()
        self.process.wait()


class Capped:
    """A proxy that lets each connection have so many bytes a second of what comes from the server."""

    def __init__(self, port, bytes_per_s):
        self.port, self.rate = port, bytes_per_s
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.port))
            threading.Thread(target=self.pump, args=(client, server, None), daemon=True).start()
            threading.Thread(target=self.pump, args=(server, client, self.rate), daemon=True).start()

    @staticmethod
    def pump(source, sink, rate):
        free = time.monotonic()
        try:
            while data := source.recv(1 << 18):
                sink.sendall(data)
                if rate:
                    free = max(free, time.monotonic()) + len(data) / rate
                    time.sleep(max(0, free - time.monotonic()))
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def remote(b):
    """Against a real server on this machine; what it costs is part of every figure."""
    from safetensors.numpy import save_file

    def model(name, mib):
        data = np.random.default_rng(1).standard_normal(mib * 1024 * 1024 // 4, dtype="f4").reshape(-1, 256)
        save_file({f"layer.{i}.weight": part for i, part in enumerate(np.array_split(data, 16))}, b.dir / name)
        subprocess.run(Weed.aws("cp", "--quiet", name, f"s3://bench/{name}"), cwd=b.dir, check=True)

    # The runner was started with the old environment: these commands carry theirs.
    weed = Weed(b.dir / "weed")
    names = [n for n in os.environ if n.startswith("AWS_") or n == "NO_PROXY"]
    env = ["env", *(f"{n}={os.environ[n]}" for n in names)]
    try:
        model("r.safetensors", b.mib)
        curl = ["curl", "-sS", "--fail", "--noproxy", "*", "--aws-sigv4", "aws:amz:us-east-1:s3", "-u", f"{Weed.KEY}:{Weed.SECRET}", "-o", "o.copy"]
        ours = env + [NPK, "convert", "-q", "s3://bench/r.safetensors", "o.npk"]
        outs = ["o.npk", "o.copy", "o2.npk", "o.safetensors"]
        both = " ".join(map(str, Weed.aws("cp", "--quiet", "s3://bench/r.safetensors", "o.safetensors"))) + f" && {NPK} convert -q o.safetensors o2.npk"
        b.compare("s3 safetensors -> npk", ours, env + ["sh", "-c", both], "aws s3 cp, then npk", outs, 2.0, faster=True, memory_goal=320)
        b.compare("s3 safetensors -> npk", ours, env + curl + [f"{os.environ['AWS_ENDPOINT_URL']}/bench/r.safetensors"], "curl", outs, 1.3, memory_goal=320)
        run([NPK, "convert", "-q", "r.safetensors", "r.npk"], b.dir)
        b.compare("npk -> s3 safetensors", env + [NPK, "convert", "-q", "--force", "r.npk", "s3://bench/w.safetensors"], env + Weed.aws("cp", "--quiet", "r.safetensors", "s3://bench/w2.safetensors"), "aws s3 cp", [], None, faster=True, memory_goal=320)
        b.compare("inspect s3 safetensors (peer: aws s3 ls)", env + [NPK, "inspect", "--json", "s3://bench/r.safetensors"], env + Weed.aws("ls", "s3://bench/r.safetensors"), "aws s3 ls", [], 1.0, faster=True)
        model("c.safetensors", 64)
        slow = Capped(weed.port, 8 << 20)
        capped = env + [f"AWS_ENDPOINT_URL={slow.url}"]
        b.compare("s3 at 8 MiB/s a connection", capped + [NPK, "convert", "-q", "s3://bench/c.safetensors", "o.npk"], capped + curl + [f"{slow.url}/bench/c.safetensors"], "curl, one stream", outs, 3.0, faster=True, memory_goal=320)
    finally:
        weed.close()


GROUPS = {"core": core, "archives": archives, "checkpoints": checkpoints, "tables": tables, "text": text, "science": science, "batches": batches, "remote": remote}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", help="groups whose name holds this word: " + ", ".join(GROUPS))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--dir", help="where the files go (default: a temporary folder)")
    parser.add_argument("--json", help="write the rows there, too, for page.py")
    parser.add_argument("--against", metavar="NPK", help="another build of npk, in the place of every peer")
    options = parser.parse_args()
    load = os.getloadavg()[1]
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        bench = Bench(Path(folder), options.runs, options.mib, options.against and os.path.abspath(options.against))
        for name, group in GROUPS.items():
            if options.only and options.only not in name:
                continue
            print(f"-- {name}", flush=True)
            if name == "checkpoints" and not (bench.dir / "m.safetensors").exists():
                from safetensors.numpy import save_file

                save_file({f"l{i}": np.zeros(bench.mib * 1024 * 16 * 1024 // 1024, "f4") for i in range(16)}, bench.dir / "m.safetensors")
                save_file({f"t{i}": np.full(64, i, "f4") for i in range(10_000)}, bench.dir / "small.safetensors")
            group(bench)
            if options.json:
                about = {"npk": NPK, "profile": "as `cargo build --release` builds it", "machine": page.machine(), "runs": options.runs, "mib": options.mib, "load": load}
                Path(options.json).write_text(json.dumps({**about, "rows": bench.rows}, indent=1))


if __name__ == "__main__":
    main()
