"""Many small objects from object storage with a latency: `npk` against one at a time, and against a copy before a local batch.

    python benches/many_objects.py [--objects N] [--bytes B] [--latency MS] [--shares N] [--aws PATH] [--json FILE]

The server is the one of the tests (`cargo test --no-run` builds it): it answers every request after the latency. All of it runs
on this machine, so that what the server takes of the cores is missing to everybody. Printed are seconds, the ratio to `npk`, and
how many requests the server saw. `--aws` is the AWS CLI; `aws s3 cp --recursive` copies, then `npk` converts the local files.
Objects and outputs lie in TMPDIR, three times `--objects` times `--bytes` of them at the most.

    python benches/many_objects.py --names 1000000

How much memory a million names in a list take: MiB at the peak, of names that are not there.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NPK = os.environ.get("NPK") or str(ROOT / "target/release/npk")


def test_binary():
    found = [p for p in (ROOT / "target/debug/deps").glob("main-*") if p.suffix == "" and os.access(p, os.X_OK)]
    if not found:
        sys.exit("build the tests' server first: cargo test --no-run")
    return max(found, key=lambda p: p.stat().st_mtime)


class Server:
    def __init__(self, folder, objects, size, latency):
        env = dict(os.environ, NPK_SERVE=str(folder), NPK_SERVE_OBJECTS=str(objects), NPK_SERVE_BYTES=str(size),
                   NPK_SERVE_LATENCY_MS=str(latency))
        self.folder, self.asked = folder, 0
        command = [str(test_binary()), "--ignored", "--exact", "remote::load::serve"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=env, text=True)
        while not (folder / "server.json").exists():
            if self.process.poll() is not None:
                sys.exit("the server did not start")
            time.sleep(0.05)
        time.sleep(0.05)
        self.env = dict(os.environ, **json.loads((folder / "server.json").read_text()))

    def requests(self):
        self.asked += 1
        name = f"asked-{self.asked}"
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        path = self.folder / name
        while not path.exists() or not path.read_text():
            time.sleep(0.01)
        return int(path.read_text())


def names(count):
    """The peak of a run over a list of so many names of about 100 bytes."""
    with tempfile.TemporaryDirectory(prefix="npk-many-") as name:
        folder = Path(name)
        below = "nowhere/a-folder-with-a-long-name/and-another-one-below-it/and-one-more"
        with open(folder / "list", "w") as out:
            out.writelines(f"{below}/part-{i:09}.npy\n" for i in range(count))
        command = [NPK, "convert", "-q", "-T", folder / "list", "-R", "-o", f"{folder}/out/", "--to", "npk", "--fail-fast"]
        process = subprocess.Popen([str(a) for a in command], stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        assert os.waitstatus_to_exitcode(status) == 1, "the first name is not there"
        print(f"{count} names: {usage.ru_maxrss / 1024:.0f} MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=20000)
    parser.add_argument("--bytes", type=int, default=50000)
    parser.add_argument("--latency", type=int, default=20)
    parser.add_argument("--alone", type=int, default=200, help="objects of the run one at a time, which is scaled up")
    parser.add_argument("--shares", type=int, default=8)
    parser.add_argument("--aws")
    parser.add_argument("--json")
    parser.add_argument("--names", type=int)
    args = parser.parse_args()
    if args.names:
        return names(args.names)
    with tempfile.TemporaryDirectory(prefix="npk-many-") as name:
        folder = Path(name)
        server = Server(folder, args.objects, args.bytes, args.latency)
        urls = (folder / "list").read_text().splitlines()
        results = {}

        def timed(label, *commands, scale=1.0, keep=None):
            for old in folder.iterdir():
                if old.is_dir() and old != keep:
                    shutil.rmtree(old)
            server.requests()
            began = time.perf_counter()
            for command in commands:
                subprocess.run([str(a) for a in command], env=server.env, check=True, stdout=subprocess.DEVNULL)
            results[label] = {"seconds": (time.perf_counter() - began) * scale, "requests": round(server.requests() * scale)}
            ours = results["npk"]["seconds"]
            one = results[label]
            print(f"{label:42} {one['seconds']:9.1f} s  {one['seconds'] / ours:6.2f} x  {one['requests']:8} requests", flush=True)

        def convert(source, out, *more):
            return [NPK, "convert", "-q", *source, "-o", f"{out}/", "--to", "npk", *more]

        listed = ["-T", folder / "list"]
        timed("npk", convert(listed, folder / "all"))
        few = folder / "few"
        few.write_text("".join(f"{n}\n" for n in urls[: args.alone]))
        one_by_one = [convert([n], folder / "alone") for n in urls[: args.alone]]
        timed("one process an object", *one_by_one, scale=args.objects / args.alone)
        first = server.env["AWS_ENDPOINT_URL"]
        timed("npk, one share", convert(listed, folder / "s1", "--shard", "0/1"))
        shares = [convert(listed, folder / "s", "--shard", f"{i}/{args.shares}") for i in range(args.shares)]
        timed(f"npk, {args.shares} shares after each other", *shares)
        if args.aws:
            bucket = urls[0].split("/")[2]
            copy = [args.aws, "s3", "cp", "--recursive", "--quiet", "--endpoint-url", first, f"s3://{bucket}/in/", folder / "copy"]
            timed("aws s3 cp --recursive", copy)
            batch = convert(["-R", folder / "copy"], folder / "local")
            timed("the local batch after it", batch, keep=folder / "copy")
            both = results["aws s3 cp --recursive"]["seconds"] + results["the local batch after it"]["seconds"]
            print(f"aws s3 cp and a local batch together: {both / results['npk']['seconds']:.2f} x")
        whole, parts = results["npk, one share"]["requests"], results[f"npk, {args.shares} shares after each other"]["requests"]
        print(f"requests of {args.shares} shares: {parts / whole:.3f} x those of one process")
        if args.json:
            Path(args.json).write_text(json.dumps(results, indent=1))
        server.process.stdin.close()
        server.process.wait()


if __name__ == "__main__":
    main()
