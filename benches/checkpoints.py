"""How fast checkpoints become other files: distributed ones, quantised ones, GGUF, MATLAB's.

    python benches/checkpoints.py [--runs N] [--mib N] [--dir DIR]     ratios of medians, as benches/run.py makes them
    python benches/checkpoints.py --sparse 100                        a distributed checkpoint of 100 GiB of holes, in 256 MiB

The distributed checkpoints are written here as torch.distributed.checkpoint writes them: a pickle of names and places, and a
zip archive of torch.save for each chunk. So this needs no torch; gguf, scipy and safetensors are in the judges' environment.
"""
import argparse
import json
import os
import pickle
import sys
import tempfile
import types
import zlib
from pathlib import Path

import numpy as np

from run import NPK, Bench, python, remove, run

DCP = "torch.distributed.checkpoint."


def named(module, name, **members):
    """A class that is pickled by this name."""
    kind = type(name, (), {"__module__": module, **members})
    for end in range(1, module.count(".") + 2):
        part = ".".join(module.split(".")[:end])
        sys.modules.setdefault(part, types.ModuleType(part))
    setattr(sys.modules[module], name, kind)
    return kind


def made(kind, **fields):
    thing = kind()
    thing.__dict__.update(fields)
    return thing


def saved(at, file, shape, values=None):
    """Writes a float32 tensor as torch.save does, `values` or a hole; returns its length."""
    begin, size = file.tell(), 4 * int(np.prod(shape))
    number = lambda n: b"J" + n.to_bytes(4, "little")
    dims = lambda all: b"(" + b"".join(number(n) for n in all) + b"t"
    strides = [int(np.prod(shape[i + 1:])) for i in range(len(shape))]
    body = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    body += number(size // 4) + b"tQK\x00" + dims(shape) + dims(strides) + b"\x89ccollections\nOrderedDict\n)RtR."
    entries = []
    for name, data in (("archive/data.pkl", body), ("archive/byteorder", b"little"), ("archive/data/0", values), ("archive/version", b"3\n")):
        name, start = name.encode(), file.tell() - begin
        length = size if name.endswith(b"data/0") else len(data)
        # torch leaves the checksum of a record out where it is told to.
        crc = 0 if name.endswith(b"data/0") else zlib.crc32(data)
        fill = -(start + 30 + len(name) + 4) % 64
        head = bytes(4) + crc.to_bytes(4, "little") + length.to_bytes(4, "little") * 2 + len(name).to_bytes(2, "little")
        file.write(b"PK\x03\x04\x00\x00\x00\x00\x00\x00" + head + (fill + 4).to_bytes(2, "little") + name + b"FB" + fill.to_bytes(2, "little") + b"Z" * fill)
        file.seek(length, 1) if data is None else file.write(data)
        entries.append(b"PK\x01\x02\x00\x00\x00\x00\x00\x00\x00\x00" + head + bytes(12) + start.to_bytes(4, "little") + name)
    directory, start = b"".join(entries), file.tell() - begin
    count = len(entries).to_bytes(2, "little")
    file.write(directory + b"PK\x05\x06\x00\x00\x00\x00" + count * 2 + len(directory).to_bytes(4, "little") + start.to_bytes(4, "little") + b"\x00\x00")
    return file.tell() - begin


def distributed(folder, tensors, ranks, rows, columns, holes=False):
    """A checkpoint of float32 tensors of this shape, each cut into rows over all ranks."""
    meta, float32 = DCP + "metadata", named("torch", "float32")
    properties = named(meta, "TensorProperties", __getstate__=lambda self: (float32, None, False, None, False))
    kinds = {name: named(meta, name) for name in ("Metadata", "TensorStorageMetadata", "ChunkStorageMetadata", "MetadataIndex")}
    info = named(DCP + "filesystem", "_StorageInfo")
    folder.mkdir()
    random = np.random.default_rng(0)
    names, places, own = {}, {}, rows // ranks
    files = [open(folder / f"__{rank}_0.distcp", "wb") for rank in range(ranks)]
    for n in range(tensors):
        name, chunks = f"model.layers.{n}.weight", []
        for rank, file in enumerate(files):
            values = None if holes else random.standard_normal((own, columns), dtype="f4").tobytes()
            start = file.tell()
            length = saved(start, file, (own, columns), values)
            offset = (rank * own, 0)
            chunks.append(made(kinds["ChunkStorageMetadata"], offsets=offset, sizes=(own, columns)))
            places[made(kinds["MetadataIndex"], fqn=name, offset=offset, index=rank)] = made(info, relative_path=f"__{rank}_0.distcp", offset=start, length=length)
        names[name] = made(kinds["TensorStorageMetadata"], properties=properties(), size=(rows, columns), chunks=chunks)
    for file in files:
        file.close()
    whole = made(kinds["Metadata"], state_dict_metadata=names, planner_data=None, storage_data=places)
    (folder / ".metadata").write_bytes(pickle.dumps(whole, protocol=2))


def float8(path, mib):
    """A weight of codes in blocks of 128 x 128, as DeepSeek-V3 has them."""
    columns = 8192
    rows = mib * 1024 * 1024 // columns
    shapes = {"w.weight": ("F8_E4M3", [rows, columns], rows * columns), "w.weight_scale_inv": ("F32", [rows // 128, columns // 128], rows * columns // 4096)}
    header, at = {}, 0
    for name, (dtype, shape, size) in shapes.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 8)
    random = np.random.default_rng(0)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _ in range(mib):
            file.write((random.integers(0, 256, 1 << 20, dtype="u1") & 0xF7).tobytes())  # no NaN
        file.write(random.random(rows * columns // 16384, dtype="f4").tobytes())


def q4_k(path, mib):
    """Tensors of Q4_K, so many MiB of float32."""
    import gguf

    writer = gguf.GGUFWriter(str(path), "llama")
    random = np.random.default_rng(0)
    for n in range(max(1, mib // 64)):
        blocks = random.integers(0, 256, (4096, 16, 144), dtype="u1")
        blocks[..., 0:4] = np.array([0.01, 0.02], "f2").view("u1")
        writer.add_tensor(f"blk.{n}.weight", blocks.reshape(4096, -1), raw_dtype=gguf.GGMLQuantizationType.Q4_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def figures(b):
    cp = ["cp", "--reflink=never"]
    convert = [NPK, "convert", "-q"]
    distributed(b.dir / "ckpt", 16, 8, 8 * b.mib * 2 * 16 // 8, 1024)
    b.compare(f"DCP of {2 * b.mib} MiB in 8 ranks -> safetensors", convert + ["ckpt", "o.safetensors"], cp + ["-r", "ckpt", "o.copy"], "cp -r", ["o.safetensors", "o.copy"], 1.2, memory_goal=128)
    remove(b.dir / "ckpt")
    float8(b.dir / "f8.safetensors", b.mib)
    run(convert + ["--dequantize", "f8.safetensors", "whole.safetensors"], b.dir)
    b.compare(f"dequantise {b.mib} MiB of float8 blocks", convert + ["--dequantize", "f8.safetensors", "o.safetensors"], cp + ["whole.safetensors", "o.copy"], "cp of what is written", ["o.safetensors", "o.copy"], 1.5)
    remove(b.dir / "f8.safetensors")
    remove(b.dir / "whole.safetensors")
    q4_k(b.dir / "q.gguf", b.mib)
    dequantize = "import gguf; r = gguf.GGUFReader('q.gguf'); all = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in r.tensors}"
    save = "; from safetensors.numpy import save_file; save_file(all, 'o.python')"
    each = "import gguf; r = gguf.GGUFReader('q.gguf'); [gguf.quants.dequantize(t.data, t.tensor_type) for t in r.tensors]"
    pipe = ["sh", "-c", f"'{NPK}' convert -q --dequantize q.gguf - -t safetensors > /dev/null"]
    b.compare(f"GGUF Q4_K -> {b.mib} MiB of float32, in memory", pipe, python(each), "gguf-py, kept nowhere", [], 5, faster=True)
    b.compare("  the same into a file", convert + ["--dequantize", "q.gguf", "o.safetensors"], python(dequantize + save), "gguf-py and safetensors", ["o.safetensors", "o.python"], 5, faster=True)
    remove(b.dir / "q.gguf")
    from scipy.io import savemat

    values = np.random.default_rng(0).standard_normal((b.mib * 32, 1024)).round(2)
    for name, packed in (("plain", False), ("compressed", True)):
        rows = values[: b.mib * 32 if not packed else b.mib * 4]
        savemat(b.dir / f"{name}.mat", {"x": rows, "y": rows[:100].astype("f4")}, do_compression=packed)
        peer = python(f"import numpy as np; from scipy.io import loadmat; m = loadmat('{name}.mat'); np.savez('o.python.npz', x=m['x'], y=m['y'])")
        b.compare(f".mat, {name} -> npz", convert + [f"{name}.mat", "o.npz", "-c", "none"], peer, "scipy and numpy", ["o.npz", "o.python.npz"], 2, faster=True)
        remove(b.dir / f"{name}.mat")


def sparse(folder, gib):
    """Holes are read as zeros: so large a checkpoint needs no disk."""
    tensors = gib * 4
    distributed(folder / "ckpt", tensors, 8, 65536, 1024, holes=True)
    command = f"'{NPK}' convert -q -m 256MiB ckpt - -t safetensors | wc -c"
    began = os.times().elapsed
    script = f"import subprocess, resource; n = subprocess.check_output({command!r}, shell=True, text=True); print(n.strip(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    import subprocess

    out = subprocess.check_output([sys.executable, "-c", script], cwd=folder, text=True).split()
    print(f"{int(out[0]) / 2**30:.2f} GiB in {os.times().elapsed - began:.0f} s, peak {out[1]} MiB")
    assert int(out[0]) > tensors * 2**28 and int(out[1]) < 256


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--sparse", type=int, metavar="GIB")
    parser.add_argument("--dir", help="where the files go (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        if options.sparse:
            sparse(Path(folder), options.sparse)
        else:
            figures(Bench(Path(folder), options.runs, options.mib))


if __name__ == "__main__":
    main()
