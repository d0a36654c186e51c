"""What each command of docs/from-numpack-io.md must have made, by NumPack or by the format's own library.

The standard input is a JSON list of [command, directory]; every command needs a check here."""

import contextlib
import io
import json
import os
import struct
import sys
import traceback
import zipfile

import h5py
import numpy as np
import numpack.io as nio
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import zarr
import zstandard
from numpack import NumPack
from safetensors import safe_open
from safetensors.numpy import load_file


def load(path):
    with NumPack(path) as pack:
        return {name: np.array(pack.load(name)) for name in pack.get_member_list()}


def only(arrays):
    assert len(arrays) == 1, list(arrays)
    return next(iter(arrays.values()))


def same(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape, (a.dtype, a.shape, b.dtype, b.shape)
    np.testing.assert_array_equal(a, b)


def all_same(a, b):
    assert set(a) == set(b), (list(a), list(b))
    for name in a:
        same(a[name], b[name])


def imported(function, source, **options):
    """What numpack.io makes of the source."""
    function(source, "reference.npk", **options)
    return load("reference.npk")


def exported(function, source, target, **options):
    function(source, target, **options)
    return target


def matrix(table):
    return np.stack([c.to_numpy() for c in table.columns], axis=1)


def parquet(codec):
    table = pq.read_table("one.parquet")
    same(matrix(table), only(load("one.npk")))
    reference = pq.read_table(exported(nio.to_parquet, "one.npk", "reference.parquet"))
    assert table.column_names == reference.column_names
    same(matrix(table), matrix(reference))
    assert pq.ParquetFile("one.parquet").metadata.row_group(0).column(0).compression == codec


def without_crc(archive, name):
    """As torch reads: the checksum may be 0."""
    with archive.open(name) as record:
        record._expected_crc = None
        return record.read()


def tensors(name, values):
    """The storages of a zip checkpoint, in order."""
    with zipfile.ZipFile(name) as z:
        stored = sorted((n for n in z.namelist() if "/data/" in n), key=lambda n: int(n.rsplit("/")[-1]))
        assert [without_crc(z, n) for n in stored] == [v.tobytes() for v in values]


def hdf5(name, arrays):
    with h5py.File(name) as f:
        assert set(f) == set(arrays)
        for key, value in arrays.items():
            same(f[key][...], value)
        assert f["data"].compression == "gzip" and f["data"].compression_opts == 4


def group(name, arrays, version):
    root = zarr.open_group(name, mode="r")
    assert root.metadata.zarr_format == version
    all_same({k: a[...] for k, a in root.arrays()}, arrays)


def metadata():
    seen = json.load(open("stdout"))
    with safe_open("m.safetensors", "np") as f:
        assert seen["metadata"] == f.metadata()
        assert {a["name"]: a["shape"] for a in seen["arrays"]} == {k: list(f.get_slice(k).get_shape()) for k in f.keys()}


def listed():
    arrays = load_file("m.safetensors")
    lines = [line.split("\t") for line in open("stdout").read().splitlines()]
    seen = {name: (dtype, shape, int(size)) for name, dtype, shape, size in lines}
    assert seen == {k: (str(a.dtype), "x".join(map(str, a.shape)), a.nbytes) for k, a in arrays.items()}


def first_values():
    said = open("stdout").read()
    for name, array in load_file("m.safetensors").items():
        assert name in said, said
        assert str(array.ravel()[0]) in said, (name, said)


def two_columns():
    got = only(load("two.npk"))
    same(got, only(imported(nio.from_parquet, "d.parquet", columns=["col1", "col2"])))


def csv():
    frame = pd.read_csv("d.csv")
    got = load("c.npk")
    for name in frame:
        same(got[name], frame[name].to_numpy())


def txt():
    got = only(load("t.npk"))
    same(got, np.loadtxt("d.txt", delimiter=";", skiprows=1, dtype=np.float32))
    same(got, only(imported(nio.from_txt, "d.txt", delimiter=";", skiprows=1, dtype=np.float32)))


def pandas_parquet():
    frame = pd.read_parquet("frame.parquet")
    got = load("frame.npk")
    same(got["a"], frame["a"].to_numpy())
    same(got["b"], frame["b"].to_numpy())


def pandas_hdf():
    frame = pd.read_hdf("frame.h5")
    got = load("frame.npk")
    for name in frame:
        same(got[name], frame[name].to_numpy())


def to_pandas():
    got, reference = pd.read_parquet("frame_of_one.parquet"), nio.to_pandas("one.npk")
    same(got.to_numpy(), reference.to_numpy())


def stream():
    table = pa.ipc.open_stream("stdout").read_all()
    assert table.column_names == ["a", "b", "c"]
    same(matrix(table), only(load("one.npk")))


def info():
    text = open("stdout").read()
    assert "npkg" in text and all(name in text for name in load("m.npk")), text


def merged():
    got = load("one.npk")
    assert set(got) == {"data", "a"}
    same(got["a"], np.load("a.npy"))


def s3_csv():
    path = os.path.join(os.environ["OBJECTS"], "out.csv")
    same(np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.float32), only(load("one.npk")))


def to_csv():
    data = load("d.npk")["data"]
    same(np.loadtxt("out.csv", delimiter=",", skiprows=1, dtype=np.float32), data)
    nio.to_csv("d.npk", "reference.csv", array_name="data")
    same(np.loadtxt("reference.csv", delimiter=",", dtype=np.float32), data)


def to_feather():
    got = pa.feather.read_table("one.feather")
    reference = pa.feather.read_table(exported(nio.to_feather, "one.npk", "reference.feather", compression="zstd"))
    same(matrix(got), matrix(reference))
    assert got.column_names == reference.column_names


def safetensors_out():
    all_same(load_file("out.safetensors"), load("m.npk"))
    with safe_open("out.safetensors", "np") as f:
        assert f.metadata()["format"] == "numpack"


def packed():
    """The layout of NumPack's pack: magic, version, compression, files; NumPack 0.4 cannot unpack."""
    data = io.BytesIO(open("m.npkg", "rb").read())
    number = lambda form: struct.unpack(form, data.read(struct.calcsize(form)))[0]
    assert data.read(4) == b"NPKG" and number("<I") == 2
    data.read(1)
    os.mkdir("unpacked.npk")
    for _ in range(number("<I")):
        path, size, stored = data.read(number("<I")).decode(), number("<Q"), number("<Q")
        content = zstandard.decompress(data.read(stored), size) if stored else data.read(size)
        open(os.path.join("unpacked.npk", path), "wb").write(content)
    all_same(load("unpacked.npk"), load("m.npk"))


def data():
    return only(load("one.npk"))


CHECKS = {
    "npk convert m.pt m2.npk": lambda: all_same(load("m2.npk"), load_file("pt_source.safetensors")),
    "npk convert m.pt w.npk --key weights": lambda: all_same(
        load("w.npk"), {"weights": load_file("pt_source.safetensors")["weights"]}
    ),
    "npk convert m.npk out.pt -a layer1,layer2": lambda: tensors("out.pt", [load("m.npk")[k] for k in ("layer1", "layer2")]),
    # NumPack 0.4 saves the table's Fortran order as it lies in memory.
    "npk convert d.feather table.npk": lambda: same(only(load("table.npk")), matrix(pa.feather.read_table("d.feather"))),
    "npk convert one.npk one.feather -c zstd": to_feather,
    "npk convert d.parquet table.npk": lambda: same(only(load("table.npk")), only(imported(nio.from_parquet, "d.parquet"))),
    "npk convert d.parquet two.npk --columns col1,col2": two_columns,
    "npk convert d.parquet small.npk -m 100MB": lambda: same(only(load("small.npk")), only(imported(nio.from_parquet, "d.parquet"))),
    "npk convert d.parquet named.npk --name my_table": lambda: all_same(
        load("named.npk"), imported(nio.from_parquet, "d.parquet", array_name="my_table")
    ),
    "npk convert one.npk table_of_one.parquet": lambda: same(matrix(pq.read_table("table_of_one.parquet")), data()),
    "npk convert m.safetensors loaded.npk": lambda: all_same(load("loaded.npk"), load_file("m.safetensors")),
    "npk convert m.npk saved.safetensors": lambda: all_same(load_file("saved.safetensors"), load("m.npk")),
    "npk inspect m.safetensors --head 3": first_values,
    "npk convert one.npk one.parquet": lambda: parquet("SNAPPY"),
    "npk convert one.npk one.parquet -c snappy --row-group-size 100000": lambda: parquet("SNAPPY"),
    "npk convert one.npk one.parquet -c gzip": lambda: parquet("GZIP"),
    "npk convert one.npk one.parquet -c brotli": lambda: parquet("BROTLI"),
    "npk convert one.npk one.parquet -c zstd": lambda: parquet("ZSTD"),
    "npk convert one.npk one.parquet -c lz4": lambda: parquet("LZ4"),
    "npk convert one.npk one.parquet -c none": lambda: parquet("UNCOMPRESSED"),
    "npk convert m.safetensors out.npk": lambda: all_same(load("out.npk"), load_file("m.safetensors")),
    "npk convert m.safetensors e.npk --keys embeddings": lambda: all_same(
        load("e.npk"), {"embeddings": load_file("m.safetensors")["embeddings"]}
    ),
    "npk convert m.npk out.safetensors --metadata format=numpack": safetensors_out,
    "npk inspect m.safetensors --json": metadata,
    "npk list -l m.safetensors": listed,
    "npk convert d.npy out.npk": lambda: same(only(load("out.npk")), only(imported(nio.from_numpy, "d.npy"))),
    "npk convert d.npy out.npk --name x": lambda: all_same(load("out.npk"), imported(nio.from_numpy, "d.npy", array_name="x")),
    "npk convert x.npz x.npk": lambda: all_same(load("x.npk"), imported(nio.from_numpy, "x.npz")),
    "npk convert d.npk out.npy -a data": lambda: same(np.load("out.npy"), load("d.npk")["data"]),
    "npk convert d.npk out.npz": lambda: all_same(
        dict(np.load("out.npz")), dict(np.load(exported(nio.to_numpy, "d.npk", "reference.npz")))
    ),
    "npk convert d.h5 f.npk --dataset features": lambda: all_same(
        load("f.npk"), imported(nio.from_hdf5, "d.h5", dataset_names=["features"])
    ),
    "npk convert d.h5 r.npk -g /run1": lambda: all_same(load("r.npk"), imported(nio.from_hdf5, "d.h5", group="/run1")),
    "npk convert d.npk out.h5 -c gzip:4": lambda: (
        hdf5("out.h5", load("d.npk")),
        hdf5(exported(nio.to_hdf5, "d.npk", "reference.h5"), load("d.npk")),
    ),
    "npk convert d.zarr z.npk": lambda: all_same(load("z.npk"), imported(nio.from_zarr, "d.zarr")),
    "npk convert d.npk out.zarr": lambda: group("out.zarr", load("d.npk"), 3),
    "npk convert d.npk v2.zarr --zarr-format 2": lambda: group("v2.zarr", load("d.npk"), 2),
    "npk convert d.csv c.npk": csv,
    "npk convert d.npk out.csv -a data": to_csv,
    "npk convert d.txt t.npk -d ';' --skip-header 1 --dtype float32": txt,
    "npk convert one.npk out.txt -d '\\t'": lambda: same(np.loadtxt("out.txt", delimiter="\t", dtype=np.float32), data()),
    "npk convert frame.parquet frame.npk": pandas_parquet,
    "npk convert frame.h5 frame.npk": pandas_hdf,
    "npk convert one.npk frame_of_one.parquet": to_pandas,
    "npk convert s3://bucket/d.npy s.npk --anon": lambda: same(only(load("s.npk")), np.load("d.npy")),
    "npk convert one.npk s3://bucket/out.csv --to csv": s3_csv,
    "npk convert m.npk m.npkg": packed,
    "npk convert m.npkg again.npk": lambda: all_same(load("again.npk"), load("m.npk")),
    "npk inspect m.npkg": info,
    "npk convert d.npy one.npk --force": lambda: same(only(load("one.npk")), np.load("d.npy")),
    "npk convert a.npy one.npk --if-exists merge": merged,
    "npk convert one.npk - --to feather --column-names a,b,c": stream,
    "npk convert one.npk one.pt --dtype float64": lambda: tensors("one.pt", [data().astype(np.float64)]),
}

failures = []
for command, directory in json.load(sys.stdin):
    os.chdir(directory)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            CHECKS[command]()
    except Exception:
        failures.append(f"{command}\n{traceback.format_exc()}")
sys.exit("\n\n".join(failures) or None)
