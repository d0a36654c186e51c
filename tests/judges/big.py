"""Arrays of more than 4 GiB, of more than 2^31 rows, and a million of them: through every writer, and back through every reader.

    .venv/bin/python tests/judges/big.py [--npk target/release/npk] [--scratch DIR] [--parts bytes,rows,arrays] [FORMAT …]

Sources are sparse; an output goes before the next one is made, so that 6 GiB of disk and some minutes are enough. What must hold: the
output is the source again (npk diff, which reads both), and a slice at its end is read. Exit 1 where it is not.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

from memory import ENDINGS, RUN, npy, safetensors

TENSORS = ["npk", "npkg", "npy", "npz", "safetensors", "pt", "gguf", "hdf5", "zarr"]
TABLES = ["parquet", "feather", "csv", "txt"]
BORDER = 1 << 32


class Run:
    def __init__(self, options):
        self.npk, self.wanted = os.path.abspath(options.npk), options.wanted
        self.scratch = tempfile.mkdtemp(prefix="npk-big-", dir=options.scratch)
        self.tried, self.failed = 0, []

    def at(self, name):
        return os.path.join(self.scratch, name)

    def call(self, *args):
        began = os.times()
        command = [sys.executable, "-I", "-S", "-c", RUN, self.npk, *args]
        start, run = time.monotonic(), subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        ended, lines = os.times(), run.stdout.decode(errors="replace").splitlines()
        code, peak = lines[-1].split()
        cpu = ended.children_user + ended.children_system - began.children_user - began.children_system
        figures = f"{time.monotonic() - start:7.1f} s {cpu:7.1f} s CPU {int(peak) / 1024:7.0f} MiB"
        return int(code), lines[:-1], run.stderr.decode(errors="replace").strip()[:300], figures

    def expect(self, what, *args, told=None):
        code, lines, said, figures = self.call(*args)
        self.tried += 1
        good = code == 0 and (told is None or told in "\n".join(lines))
        print(f"{what:44} {'done' if good else f'FAILED {code}':9} {figures}  {'' if good else said or lines[:3]}", flush=True)
        if not good:
            self.failed.append(f"{what}: exit {code} {said}")
        return good

    def there_and_back(self, what, source, sink, more=(), rows=None, reading=()):
        """To the sink, compared with the source; the last rows alone. `reading`: options for reading it again."""
        if self.wanted and sink not in self.wanted:
            return
        out = self.at("out." + ENDINGS.get(sink, sink))
        if self.expect(f"{what} to {sink}", "convert", "-q", source, out, *more):
            size = sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(out) for f in fs) if os.path.isdir(out) else os.path.getsize(out)
            loose = {"csv": ["--ignore-dtype"], "txt": ["--ignore-dtype", "--map", "rows=col0"]}.get(sink, [])
            self.expect(f"{what} from {sink} ({size / (1 << 30):.2f} GiB)", "diff", "-q", source, out, *loose, *reading)
            if rows:
                tail = self.at("tail.npy")
                ok = self.expect(f"{what}, the end of {sink}", "convert", "-q", "-f", out, tail, "--rows", f"{rows - 3}:")
                if ok and sink not in ("csv", "txt"):
                    with open(tail, "rb") as f:
                        end = f.read()[-1]
                    if end != 77:
                        self.failed.append(f"{what}, the end of {sink}: {end} is not 77")
        shutil.rmtree(out) if os.path.isdir(out) else os.path.lexists(out) and os.remove(out)


def marked(path, places):
    """A byte that is not zero here and there."""
    with open(path, "r+b") as f:
        for at in places:
            f.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
            f.write(bytes([77]))
    return path


def many_bytes(run):
    """One array of 4.5 GiB."""
    rows = (9 << 29) // 1024
    source = marked(npy(run.at("bytes.npy"), (rows, 1024), "|i1"), [BORDER - 1, BORDER + 4096, -1])
    for sink in TENSORS:
        more = {"hdf5": ["-c", "none"], "npz": ["-c", "none"]}.get(sink, [])
        run.there_and_back("4.5 GiB", source, sink, more, rows)
    run.there_and_back("4.5 GiB, deflated,", source, "npz", ["-c", "deflate:1"])
    run.there_and_back("4.5 GiB, no compression,", source, "zarr", ["-c", "none"])
    run.there_and_back("4.5 GiB, one zip,", source, "zarr.zip")
    os.remove(source)
    # Tables: columns of doubles.
    rows = (9 << 29) // 32
    source = marked(npy(run.at("table.npy"), (rows, 4), "<i8"), [BORDER - 1, -8])
    for sink, more in [("parquet", ["-c", "none"]), ("feather", ["-c", "none"]), ("feather", [])]:
        run.there_and_back(f"4.5 GiB {' '.join(more)}", source, sink, ["--layout", "matrix", *more])
    os.remove(source)
    # Two arrays: the second begins behind the border.
    half = 5 << 29
    source = safetensors(run.at("two.safetensors"), [("a", "I8", [half], half), ("b", "I8", [half], half)])
    for sink in ["npz", "pt", "safetensors", "npkg", "gguf"]:
        run.there_and_back("two arrays of 2.5 GiB", source, sink, ["-c", "none"] if sink in ("npz", "npkg") else [])
    os.remove(source)


def many_rows(run):
    """More than 2^31 rows of one byte."""
    rows = (1 << 31) + 11
    source = marked(npy(run.at("rows.npy"), (rows,), "|i1"), [(1 << 31) + 128, -1])
    for sink in TENSORS + TABLES:
        run.there_and_back("2^31 rows", source, sink, [], rows)
    os.remove(source)


def many_arrays(run):
    """A million arrays; a hundred thousand where each is a file or two."""
    for count, sinks in [(1_000_000, ["safetensors", "npz", "npkg", "pt", "gguf"]), (100_000, ["npk", "zarr", "hdf5"])]:
        source = safetensors(run.at("many.safetensors"), [(f"t{i}", "I8", [1], 1) for i in range(count)])
        for sink in sinks:
            # What describes so many is more than the usual limit.
            run.there_and_back(f"{count} arrays", source, sink, reading=["-m", "4GiB"])
        os.remove(source)


PARTS = {"bytes": many_bytes, "rows": many_rows, "arrays": many_arrays}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--npk", default="target/release/npk")
    parser.add_argument("--scratch")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("wanted", nargs="*", metavar="FORMAT")
    options = parser.parse_args()
    run = Run(options)
    try:
        for part in options.parts.split(","):
            PARTS[part](run)
    finally:
        shutil.rmtree(run.scratch)
    print(f"\n{run.tried} runs, {len(run.failed)} failures")
    for line in run.failed:
        print("FAILED", line)
    sys.exit(1 if run.failed or not run.tried else 0)


if __name__ == "__main__":
    main()
