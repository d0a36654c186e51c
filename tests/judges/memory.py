"""How much memory npk holds: every format into every other, and the inputs that are hard to hold, at ten times --memory-limit.

    .venv/bin/python tests/judges/memory.py [--npk target/release/npk] [--limit 32] [--jobs 2,8] [--scratch DIR] [PART OF A NAME …]

A run keeps the promise if its peak (ru_maxrss) is at most the limit + 64 MiB, whether it converts or refuses. Exit 1 where one does not.
The sizes of all inputs follow the limit (in MiB): 10 × 32 MiB by default.
"""

import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile

import numpy as np

MIB = 1 << 20
ALLOWED = 64  # MiB beside the limit
FAIR = (0, 1, 2, 3, 4, 7)
# Between this process and npk: the peak of a process begins with what the one that started it held.
RUN = """
import os, sys
run = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(run, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""

TENSORS = ["npk", "npkg", "npy", "npz", "safetensors", "pt", "gguf", "hdf5", "zarr"]
TABLES = ["parquet", "feather", "csv", "txt"]
ENDINGS = {"hdf5": "h5"}


class Bench:
    def __init__(self, options):
        self.npk, self.limit, self.wanted = options.npk, options.limit, options.wanted
        self.jobs = [int(j) for j in options.jobs.split(",")]
        self.full = 10 * self.limit * MIB
        self.scratch = tempfile.mkdtemp(prefix="npk-memory-", dir=options.scratch)
        self.tried, self.refused, self.over, self.worst = 0, 0, [], 0.0

    def at(self, name):
        return os.path.join(self.scratch, name)

    def is_wanted(self, name):
        return not self.wanted or any(w in name for w in self.wanted)

    def measure(self, args):
        """Exit code, peak in MiB, the first line of stderr."""
        command = [sys.executable, "-I", "-S", "-c", RUN, self.npk, *args]
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        code, peak = run.stdout.splitlines()[-1].split()
        said = " ".join(run.stderr.decode(errors="replace").splitlines()[:2])
        return int(code), int(peak) / 1024, said

    def make(self, source, to, *more):
        code, _, said = self.measure(["convert", "-q", source, to, "-m", "8GiB", *more])
        assert code == 0, said

    def remove(self, path):
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.remove(path)

    def convert(self, name, sources, to, more=(), jobs=None):
        for jobs in jobs or self.jobs:
            out = self.at("out." + ENDINGS.get(to, to)) if not to.endswith("/") else self.at(to)
            args = ["convert", "-q", *sources, out, "-m", f"{self.limit}MiB", "-j", str(jobs), *more]
            # A name that shows no format.
            code, peak, said = self.measure(args)
            if code == 4 and "--layout" not in more and ("matrix" in said or "column" in said):
                code, peak, said = self.measure([*args, "--layout", "matrix"])
            self.remove(out)
            self.tell(f"{name} -j {jobs}", code, peak, said)

    def tell(self, name, code, peak, said):
        self.tried += 1
        self.worst = max(self.worst, peak - self.limit)
        good = peak <= self.limit + ALLOWED and code in FAIR
        self.refused += good and code != 0
        word = "held" if code == 0 else f"exit {code}"
        if not good:
            word = "OVER" if code in FAIR else f"DIED {code}"
            self.over.append(f"{name}: {peak:.0f} MiB, exit {code}")
        print(f"{name:60} {word:8} {peak:8.1f} MiB  {'' if code == 0 else said[:150]}", flush=True)


# Inputs -----------------------------------------------------------------------------------------


def npy(path, shape, descr="<f4", fortran=False):
    """Zeros that take no room on the disk."""
    header = f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {tuple(shape)}, }}"
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    bytes_ = int(np.prod(shape, dtype=object)) * np.dtype(descr).itemsize
    with open(path, "wb") as f:
        f.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        f.truncate(f.tell() + bytes_)
    return path


def safetensors(path, tensors):
    header, at = {}, 0
    for name, dtype, shape, size in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.truncate(8 + len(text) + at)
    return path


def pairs(b):
    """Every format into every other."""
    rows = b.full // (64 * 4)
    base = npy(b.at("base.npy"), (rows, 64))
    for source in TENSORS + TABLES:
        names = [f"{source} to {sink}" for sink in TENSORS + TABLES]
        if not any(map(b.is_wanted, names)):
            continue
        path = b.at(f"source.{ENDINGS.get(source, source)}")
        more = ["--layout", "matrix"] if source in TABLES else []
        b.make(base, path, *more)
        for sink, name in zip(TENSORS + TABLES, names):
            if b.is_wanted(name):
                b.convert(name, [path], sink)
        b.remove(path)
    b.remove(base)


def rows(b):
    """Two rows that are five times the limit each: in C order, in Fortran's, in HDF5 and Zarr chunks."""
    half = b.full // 8
    c, f = npy(b.at("rows.npy"), (2, half)), npy(b.at("fortran.npy"), (2, half), fortran=True)
    tall = npy(b.at("tall.npy"), (half, 2), fortran=True)
    for name, path in [("long rows", c), ("Fortran, two rows", f), ("Fortran, two columns", tall)]:
        for sink in TENSORS + TABLES:
            if b.is_wanted(f"{name} to {sink}"):
                b.convert(f"{name} to {sink}", [path], sink, jobs=b.jobs[-1:])
    for path in (c, f, tall):
        b.remove(path)


def hdf5(b):
    import h5py

    n = b.full // 4
    path = b.at("chunk.h5")
    if b.is_wanted("hdf5 chunk"):
        with h5py.File(path, "w") as f:
            f.create_dataset("x", (n,), "f4", chunks=(n,), compression="gzip", compression_opts=1)[:] = np.zeros(n, "f4")
        for sink in ["npk", "npz", "csv", "hdf5", "zarr", "parquet"]:
            b.convert(f"hdf5 chunk of {b.full // MIB} MiB, gzip, to {sink}", [path], sink, jobs=b.jobs[-1:])
        with h5py.File(path, "w") as f:
            f.create_dataset("x", (n // 1024, 1024), "f4", chunks=(n // 1024, 1024), shuffle=True, compression="lzf")[:] = 0
        for sink in ["npk", "npy", "csv"]:
            b.convert(f"hdf5 chunk of {b.full // MIB} MiB, lzf, to {sink}", [path], sink, jobs=b.jobs[-1:])
    if b.is_wanted("hdf5 text"):
        with h5py.File(path, "w") as f:
            f["t"] = ["x" * b.full, "y"]
        for sink in ["npk", "csv", "parquet", "hdf5", "zarr"]:
            b.convert(f"hdf5 text of {b.full // MIB} MiB to {sink}", [path], sink, ["--strings", "codes"], b.jobs[-1:])
        with h5py.File(path, "w") as f:
            d = f.create_dataset("t", (160,), h5py.string_dtype())
            for i in range(160):
                d[i] = f"{i:03}" * (b.full // 480)
        for sink in ["npk", "csv", "parquet", "hdf5", "zarr"]:
            b.convert(f"hdf5 texts of {b.full // 160 // 1024} KiB to {sink}", [path], sink, ["--strings", "offsets"] if sink == "npk" else [], b.jobs[-1:])
    if b.is_wanted("hdf5 attribute"):
        with h5py.File(path, "w", libver="latest") as f:
            f["x"] = np.zeros(10)
            f["x"].attrs["a"] = "z" * b.full
        b.convert(f"hdf5 attribute of {b.full // MIB} MiB to npk", [path], "npk", jobs=b.jobs[-1:])
    if b.is_wanted("hdf5 many"):
        with h5py.File(path, "w", libver="latest") as f:
            for i in range(20_000):
                f[f"group/of/arrays/{i}"] = 1.0
        for sink in ["npz", "safetensors"]:
            b.convert(f"hdf5 many datasets (20 000) to {sink}", [path], sink, jobs=b.jobs[-1:])
    b.remove(path)


def tables(b):
    import pyarrow as pa
    import pyarrow.feather
    import pyarrow.parquet as pq

    n = b.full // 8
    numbers = pa.table({"x": np.zeros(n), "y": np.arange(n) % 1000})
    path = b.at("t.parquet")
    if b.is_wanted("arrow batch"):
        path = b.at("t.arrow")
        for compression in ["uncompressed", "zstd"]:
            pyarrow.feather.write_feather(numbers, path, chunksize=n, compression=compression)
            for sink in ["npk", "parquet", "csv", "npz", "zarr", "feather"]:
                b.convert(f"arrow batch of {2 * b.full // MIB} MiB, {compression}, to {sink}", [path], sink, jobs=b.jobs[-1:])
        b.remove(path)
    if b.is_wanted("parquet page"):
        path = b.at("t.parquet")
        for codec in ["none", "zstd"]:
            pq.write_table(numbers, path, compression=codec, use_dictionary=False, row_group_size=n, data_page_size=1 << 30, write_batch_size=n)
            for sink in ["npk", "feather", "csv", "npz"]:
                b.convert(f"parquet page of {b.full // MIB} MiB, {codec}, to {sink}", [path], sink, jobs=b.jobs[-1:])
    del numbers
    if b.is_wanted("text"):
        words = pa.array([f"{i:08}" * 8 for i in range(1000)])
        texts = pa.table({"t": words.take(pa.array(np.arange(b.full // 64) % 1000))})
        unique = pa.table({"t": pa.array([f"{i:064}" for i in range(b.full // 64)])})
        long = pa.table({"t": pa.array(["x" * (b.full // 4), "y" * (b.full // 4)] * 2)})
        for name, table in [("few texts", texts), ("different texts", unique), ("long texts", long)]:
            pq.write_table(table, b.at("t.parquet"))
            for sink in ["npk", "npkg", "zarr", "hdf5", "csv", "feather", "parquet", "npz"]:
                b.convert(f"{name} in {b.full // MIB} MiB to {sink}", [b.at("t.parquet")], sink, jobs=b.jobs[-1:])
            b.convert(f"{name} in {b.full // MIB} MiB to npk, offsets", [b.at("t.parquet")], "npk", ["--strings", "offsets"], b.jobs[-1:])
            pyarrow.feather.write_feather(table, b.at("t.feather"))
            for sink in ["npk", "csv", "zarr", "hdf5"]:
                b.convert(f"{name}, feather, in {b.full // MIB} MiB to {sink}", [b.at("t.feather")], sink, jobs=b.jobs[-1:])
        del texts, unique, long
    if b.is_wanted("wide"):
        # 5000 columns.
        rows = b.full // 8 // 5000
        wide = pa.table({f"column {i}": np.zeros(rows) for i in range(5000)})
        pq.write_table(wide, b.at("t.parquet"))
        pyarrow.feather.write_feather(wide, b.at("t.feather"))
        for source in ["t.parquet", "t.feather"]:
            for sink in ["npk", "npz", "parquet", "feather", "csv", "hdf5", "zarr"]:
                b.convert(f"wide {source} (5000 columns) to {sink}", [b.at(source)], sink, ["--layout", "columns"], b.jobs[-1:])
                if sink in ("npk", "npz"):
                    b.convert(f"wide {source} (5000 columns) to {sink}, a matrix", [b.at(source)], sink, ["--layout", "matrix"], b.jobs[-1:])
    for name in ("t.parquet", "t.feather"):
        b.remove(b.at(name))


def text_files(b):
    for name, write in [
        ("one line", lambda f: f.writelines(["1"] + [",1" * 1000] * (b.full // 2000) + ["\n"])),
        ("one cell", lambda f: f.writelines(["a,b\n1,"] + ["x" * MIB] * (b.full // MIB) + ["\n"])),
        ("one quoted cell", lambda f: f.writelines(['a,b\n1,"'] + ["x\n" * (MIB // 2)] * (b.full // MIB) + ['"\n'])),
        ("no end of quotes", lambda f: f.writelines(['a,b\n1,"'] + ["x,y\n" * (MIB // 4)] * (b.full // MIB))),
        ("a wide header", lambda f: f.write(",".join(f"c{i}" for i in range(100_000)) + "\n" + ",".join(["1.5"] * 100_000) + "\n")),
        ("lines", lambda f: f.writelines(f"{i},{i / 7},{i * 7 % 1000}\n" for i in range(b.full // 30))),
    ]:
        if not b.is_wanted(f"csv, {name}"):
            continue
        with open(b.at("t.csv"), "w") as f:
            write(f)
        for sink in ["npk", "parquet", "csv", "hdf5"]:
            b.convert(f"csv, {name}, to {sink}", [b.at("t.csv")], sink, ["--layout", "columns"], b.jobs[-1:])
        if name == "lines":
            subprocess.run(["gzip", "-1", "-f", b.at("t.csv")], check=True)
            b.convert("csv, lines, gzip, to npk", [b.at("t.csv.gz")], "npk", ["--layout", "columns"], b.jobs[-1:])
            b.remove(b.at("t.csv.gz"))
        b.remove(b.at("t.csv"))


def names(b):
    """A hundred thousand tensors."""
    if not b.is_wanted("many tensors"):
        return
    tensors = [(f"model.layers.{i}.self_attn.q_proj.weight_and_more", "F32", [2], 8) for i in range(100_000)]
    path = safetensors(b.at("many.safetensors"), tensors)
    code, peak, said = b.measure(["list", "-l", "-m", f"{b.limit}MiB", path])
    b.tell("many tensors (100 000), list -l", code, peak, said)
    for sink in ["safetensors", "npkg", "npz", "pt", "gguf", "hdf5"]:
        b.convert(f"many tensors (100 000) to {sink}", [path], sink, jobs=b.jobs[-1:])
    for source in ["npz", "pt", "npkg"]:
        other = b.at(f"many.{source}")
        b.make(path, other)
        b.convert(f"many tensors (100 000) in {source} to safetensors", [other], "safetensors", jobs=b.jobs[-1:])
        b.remove(other)
    b.remove(path)


def members(b):
    """Compressed members and streams that are larger than the limit."""
    n = b.full // 4
    if b.is_wanted("deflated npz"):
        np.savez_compressed(b.at("m.npz"), a=np.zeros((n // 64, 64), "f4"), f=np.zeros((2, n // 2), "f4", order="F"))
        for sink in ["npk", "npz", "hdf5", "csv"]:
            b.convert(f"deflated npz to {sink}", [b.at("m.npz")], sink, ["-a", "a"], b.jobs[-1:])
        b.convert("deflated npz, Fortran, to npk", [b.at("m.npz")], "npk", ["-a", "f"], b.jobs[-1:])
        b.remove(b.at("m.npz"))
    if b.is_wanted("deflated zarr.zip"):
        source = npy(b.at("z.npy"), (n,))
        for chunk in (n, n // 40):
            b.make(source, b.at("z.zarr"), "-c", "none", "--chunk-shape", str(chunk), "--name", "a")
            with zipfile.ZipFile(b.at("z.zarr.zip"), "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z:
                for folder, _, files in os.walk(b.at("z.zarr")):
                    for file in files:
                        path = os.path.join(folder, file)
                        z.write(path, os.path.relpath(path, b.at("z.zarr")))
            for sink in ["npk", "npz", "csv"]:
                b.convert(f"deflated zarr.zip, chunks of {chunk * 4 // MIB} MiB, to {sink}", [b.at("z.zarr.zip")], sink, jobs=b.jobs[-1:])
            b.remove(b.at("z.zarr"))
            b.remove(b.at("z.zarr.zip"))
        b.remove(source)
    if b.is_wanted("zarr chunk"):
        source = npy(b.at("z.npy"), (n // 1024, 1024))
        for codec in ["zstd", "gzip", "blosc", "none"]:
            b.make(source, b.at("z.zarr"), "-c", codec, "--chunk-shape", f"{n // 1024},1024")
            for sink in ["npk", "csv", "zarr"]:
                b.convert(f"zarr chunk of {b.full // MIB} MiB, {codec}, to {sink}", [b.at("z.zarr")], sink, jobs=b.jobs[-1:])
            b.remove(b.at("z.zarr"))
        b.make(source, b.at("z.zarr"), "--chunk-shape", "64,64", "--shard-shape", f"{n // 1024},1024")
        for sink in ["npk", "csv"]:
            b.convert(f"zarr shard of {b.full // MIB} MiB to {sink}", [b.at("z.zarr")], sink, jobs=b.jobs[-1:])
        b.remove(b.at("z.zarr"))
        for sink, more in [("zarr", ["--chunk-shape", f"{n // 1024},1024"]), ("zarr", ["--chunk-shape", "64,64", "--shard-shape", f"{n // 1024},1024"]), ("hdf5", ["--chunk-shape", f"{n // 1024},1024", "-c", "gzip"]), ("parquet", ["--layout", "matrix", "--row-group-size", str(n)])]:
            b.convert(f"npy to a {sink} chunk of {b.full // MIB} MiB, {' '.join(more[::2])}", [source], sink, more, b.jobs[-1:])
        b.remove(source)


def metadata(b):
    """Headers and side files without end."""
    if not b.is_wanted("metadata"):
        return
    big = "x" * b.full
    tiny = npy(b.at("tiny.npy"), (4,))

    def side(folder, name, text):
        b.make(tiny, b.at(folder), "--name", "a")
        with open(os.path.join(b.at(folder), name), "w") as f:
            f.write(text)

    side("m.npk", "npk.json", json.dumps({"npk": 1, "attributes": {"a": big}}))
    b.convert("metadata: npk.json", [b.at("m.npk")], "npz", jobs=b.jobs[-1:])
    side("n.npk", "metadata.npkm", "NPKB" + big)
    b.convert("metadata: metadata.npkm", [b.at("n.npk")], "npz", jobs=b.jobs[-1:])
    side("m.zarr", "zarr.json", json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {"a": big}}))
    b.convert("metadata: zarr.json", [b.at("m.zarr")], "npz", jobs=b.jobs[-1:])
    many = {f"a/{i}.0": ["/nowhere", 0, 1] for i in range(b.full // 40)}
    with open(b.at("refs.json"), "w") as f:
        json.dump({"version": 1, "refs": {".zgroup": '{"zarr_format":2}', **many}}, f)
    b.convert("metadata: references", [b.at("refs.json")], "npz", jobs=b.jobs[-1:])
    header = json.dumps({"__metadata__": {"a": big}, "x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    with open(b.at("m.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    b.convert("metadata: safetensors", [b.at("m.safetensors")], "npk", jobs=b.jobs[-1:])
    with open(b.at("m.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"a": big}, "weight_map": {"x": "m.safetensors"}}, f)
    b.convert("metadata: index of a checkpoint", [b.at("m.safetensors.index.json")], "npk", jobs=b.jobs[-1:])
    with open(b.at("long.npy"), "wb") as f:
        text = ("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }" + " " * b.full + "\n").encode()
        f.write(b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text + b"\0" * 4)
    b.convert("metadata: npy", [b.at("long.npy")], "npk", jobs=b.jobs[-1:])
    with open(b.at("list.txt"), "w") as f:
        f.write(big)
    b.convert("metadata: a list of files in one line", ["-T", b.at("list.txt")], "out/", ["--to", "npk"], b.jobs[-1:])
    with open(b.at("list.txt"), "w") as f:
        f.writelines(f"nowhere/{i:040}.npy\n" for i in range(20_000))
    b.convert("metadata: a list of many files", ["-T", b.at("list.txt")], "out/", ["--to", "npk"], b.jobs[-1:])
    import pyarrow as pa
    import pyarrow.feather
    import pyarrow.parquet as pq

    table = pa.table({"x": [1.0]}).replace_schema_metadata({"k": big})
    pq.write_table(table, b.at("m.parquet"))
    b.convert("metadata: parquet", [b.at("m.parquet")], "npk", jobs=b.jobs[-1:])
    pyarrow.feather.write_feather(table, b.at("m.feather"))
    b.convert("metadata: feather", [b.at("m.feather")], "npk", jobs=b.jobs[-1:])


def batches(b):
    """Sixteen files at once, each as large as the limit."""
    if not b.is_wanted("batch"):
        return
    rows = b.limit * MIB // 256
    files = [npy(b.at(f"b{i}.npy"), (rows, 64)) for i in range(16)]
    for to in ["npk", "npz", "hdf5", "zarr", "npkg", "parquet", "csv"]:
        more = ["--layout", "matrix"] if to in TABLES else []
        b.convert(f"batch of 16 files to {to}", files, "many/", ["--to", to, *more], [8])
    b.convert("batch of 16 files, joined, to npk", files, "npk", ["--concat", "--name", "a"], [8])
    b.convert("batch of 16 files, joined, to hdf5", files, "hdf5", ["--concat", "--name", "a"], [8])
    for kind, more in [("csv", ["--layout", "matrix"]), ("h5", ["-c", "gzip"]), ("npz", [])]:
        others = []
        for i, file in enumerate(files):
            others.append(b.at(f"b{i}.{kind}"))
            b.make(file, others[-1], *more)
        b.convert(f"batch of 16 files from {kind} to npk", others, "many/", ["--to", "npk"], [8])
        for path in others:
            b.remove(path)
    for path in files:
        b.remove(path)


PARTS = [pairs, rows, hdf5, tables, text_files, names, members, metadata, batches]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--npk", default="target/release/npk")
    parser.add_argument("--limit", type=int, default=32, help="MiB")
    parser.add_argument("--jobs", default="2,8")
    parser.add_argument("--scratch", help="where inputs and outputs are")
    parser.add_argument("--parts", help=", ".join(p.__name__ for p in PARTS))
    parser.add_argument("wanted", nargs="*", help="only those with this in their names")
    options = parser.parse_args()
    options.npk = os.path.abspath(options.npk)
    b = Bench(options)
    try:
        for part in PARTS:
            if not options.parts or part.__name__ in options.parts.split(","):
                part(b)
    finally:
        shutil.rmtree(b.scratch)
    print(f"\n{b.tried} runs at {b.limit} MiB: {b.refused} refused, at most {b.worst:.0f} MiB beside the limit, {len(b.over)} over")
    for line in b.over:
        print("OVER", line)
    sys.exit(1 if b.over or not b.tried else 0)


if __name__ == "__main__":
    main()
