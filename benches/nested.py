"""Nested columns, decimals and wide tables against pyarrow and polars.

    python benches/nested.py [--runs N] [--mib N] [--dir DIR] [--json FILE]

Each figure is a ratio of CPU time (user and system, of whole processes that take turns; medians), for wall time says little on
a machine that does other things. The peer reads the Parquet file and flattens its columns into NumPy arrays, and saves these
with `tofile`; ours writes a store. What Python takes to start and to import is taken off. `limit` is the memory limit that ours was given; its peak must not pass that by 64 MiB.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
NPK = os.environ.get("NPK") or str(ROOT / "target/release/npk")
LIMIT = 256

FLATTEN = """
import sys, numpy as np, pyarrow as pa, pyarrow.parquet as pq
out = 0
def save(values):
    global out
    out += 1
    np.ascontiguousarray(values).tofile(f'peer.{out}')
def flatten(a):
    t = a.type
    if a.null_count: save(a.is_valid().to_numpy(zero_copy_only=False))
    if pa.types.is_map(t):
        save(a.offsets.to_numpy()); flatten(a.keys); flatten(a.items)
    elif pa.types.is_list(t) or pa.types.is_large_list(t):
        save(a.offsets.to_numpy()); flatten(a.values)
    elif pa.types.is_struct(t):
        for f in a.flatten(): flatten(f)
    elif pa.types.is_string(t):
        d = a.dictionary_encode()
        save(d.indices.fill_null(-1).to_numpy()); d.dictionary.to_pylist()
    elif pa.types.is_decimal(t):
        save(np.frombuffer(a.buffers()[1], '<i8').reshape(-1, 2)[a.offset:a.offset + len(a), 0])
    else:
        save(a.fill_null(0).to_numpy() if a.null_count else a.to_numpy())
for column in pq.read_table(sys.argv[1]).columns:
    column = column.combine_chunks()
    flatten(column.chunk(0) if isinstance(column, pa.ChunkedArray) else column)
"""
POLARS = """
import sys, numpy as np, polars as pl
for i, c in enumerate(pl.read_parquet(sys.argv[1])): c.to_numpy().tofile('peer.bin')
"""


def cases(mib):
    rng = np.random.default_rng(5)
    n = mib * 20_000
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 20, n))]).astype(np.int32)
    words = pa.array([f"word{i}" for i in range(20_000)])
    yield "list<float32>", pa.ListArray.from_arrays(offsets, rng.random(offsets[-1]).astype("f4")), FLATTEN, 1
    small = offsets[: n // 4]
    texts = words.take(pa.array(rng.integers(0, len(words), small[-1])))
    yield "list<string>", pa.ListArray.from_arrays(small, texts), FLATTEN, 1
    some = [pa.array(rng.random(n), mask=rng.random(n) < 0.1) for _ in range(3)]
    fields = some + [pa.array(rng.integers(0, 1000, n)), words.take(pa.array(rng.integers(0, 999, n)))]
    yield "struct of 5", pa.StructArray.from_arrays(fields, list("abcde"), mask=pa.array(rng.random(n) < 0.05)), FLATTEN, 1
    keys = words.take(pa.array(rng.integers(0, 100, small[-1])))
    yield "map", pa.MapArray.from_arrays(small, keys, pa.array(rng.random(small[-1]))), FLATTEN, 1
    cents = pa.array(rng.integers(-(10**12), 10**12, 4 * n)).cast(pa.decimal128(19, 0))
    cents = pa.Array.from_buffers(pa.decimal128(18, 2), len(cents), cents.buffers())
    yield "decimal(18, 2)", cents, FLATTEN, 2
    wide = pa.table({f"c{i}": rng.random(2000).astype("f4") for i in range(5000)})
    yield "5,000 columns x 2,000 rows", wide, POLARS, 2


def measured(argv, cwd):
    """CPU seconds and peak MiB of one process."""
    code = "import os, resource, subprocess, sys, json\nr = subprocess.run(sys.argv[1:])\nu = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
    code += "print(json.dumps([r.returncode, u.ru_utime + u.ru_stime, u.ru_maxrss / 1024]))"
    out = subprocess.run([sys.executable, "-S", "-c", code, *argv], cwd=cwd, capture_output=True, text=True)
    status, seconds, peak = json.loads(out.stdout.splitlines()[-1])
    if status:
        raise RuntimeError(f"{argv}: exit {status}\n{out.stderr}")
    return seconds, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--mib", type=int, default=64, help="about the size of each column")
    parser.add_argument("--only", default="")
    parser.add_argument("--dir")
    parser.add_argument("--json")
    args = parser.parse_args()
    directory = Path(tempfile.mkdtemp(dir=args.dir))
    rows = []
    imports = {FLATTEN: "import numpy, pyarrow.parquet", POLARS: "import numpy, polars"}
    start = {
        peer: statistics.median(measured([sys.executable, "-c", code], directory)[0] for _ in range(args.runs))
        for peer, code in imports.items()
    }
    try:
        for name, column, peer, goal in cases(args.mib):
            if args.only not in name:
                continue
            table = column if isinstance(column, pa.Table) else pa.table({"x": column})
            pq.write_table(table, directory / "in.parquet", row_group_size=1 << 18)
            del column, table
            ours, theirs, peak = [], [], 0
            for _ in range(args.runs):
                shutil.rmtree(directory / "out.npk", ignore_errors=True)
                layout = ["--layout", "matrix"] if peer is POLARS else []
                seconds, most = measured([NPK, "convert", "-q", "-m", f"{LIMIT}MiB", "in.parquet", "out.npk", *layout], directory)
                ours.append(seconds)
                peak = max(peak, most)
                theirs.append(measured([sys.executable, "-c", peer, "in.parquet"], directory)[0])
                for path in directory.glob("peer.*"):
                    path.unlink()
            ours, theirs = statistics.median(ours), statistics.median(theirs) - start[peer]
            good = theirs / ours >= goal and peak <= LIMIT + 64
            rows.append({"case": name, "ours": ours, "peer": theirs, "ratio": theirs / ours, "goal": goal, "peak_mib": peak})
            print(f"{name:28} ours {ours:6.2f} s  peer {theirs:6.2f} s  {theirs / ours:5.2f} x (goal {goal})  "
                  f"peak {peak:4.0f} MiB of {LIMIT}{'' if good else '  MISSED'}", flush=True)
    finally:
        shutil.rmtree(directory)
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
