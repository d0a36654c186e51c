"""The files that the documentation's commands read, written by the real libraries into the working directory.

`npk` itself, in the environment's NPK, makes the few that no library here writes."""

import datetime
import os
import shutil
import subprocess

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import zarr
from numpack import NumPack
from safetensors.numpy import save_file

rng = np.random.default_rng(7)


def floats(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def npk(*args):
    subprocess.run([os.environ["NPK"], "convert", "-q", *args], check=True)


def store(path, arrays):
    with NumPack(path) as pack:
        pack.save(arrays)


# Checkpoints.
layers = {f"layer.{i}.{part}": floats(*shape) for i in range(3) for part, shape in [("weight", (8, 8)), ("bias", (8,))]}
save_file(layers, "model.safetensors", metadata={"format": "pt"})
save_file({**layers, "embeddings": floats(10, 4)}, "m.safetensors", metadata={"format": "pt", "step": "100"})
save_file({f"layer.{i}.weight": floats(64, 64) for i in range(3)}, "big.safetensors")
np.savez("data.npz", **layers)
tuned = {k: v + (rng.random(v.shape) < 0.2) * floats(*v.shape) / 100 if "2" in k else v for k, v in layers.items()}
save_file({k: v.astype(np.float32) for k, v in tuned.items()}, "tuned.safetensors")
save_file(layers, "base.safetensors")
save_file({f"model.{k}": v for k, v in layers.items()}, "wrapped.safetensors")
store("m.npk", {"layer1": floats(4, 4), "layer2": floats(6, 4), "layer3": floats(2)})
save_file({"weights": floats(5, 3), "bias": floats(3)}, "pt_source.safetensors")
npk("pt_source.safetensors", "m.pt")
shutil.copy(os.path.join(os.environ["FIXTURES"], "good/pt/torch1.13/checkpoint_dict.pt"), "checkpoint.pt")
shutil.copy("checkpoint.pt", "model.pt")
os.mkdir("checkpoints")
os.mkdir("checkpoints/early")
for name in ["early/step100", "step200", "step300"]:
    save_file({"w": floats(16, 4), "b": floats(4)}, f"checkpoints/{name}.safetensors")
shutil.copytree("checkpoints", "runs")

shutil.copytree(os.path.join(os.environ["FIXTURES"], "good/dcp/torch2.15.dcp"), "ckpt_dir")
header = b'{"w":{"dtype":"F8_E4M3","shape":[4,4],"data_offsets":[0,16]},"w_scale_inv":{"dtype":"F32","shape":[1,1],"data_offsets":[16,20]}}'
with open("fp8.safetensors", "wb") as f:
    f.write(len(header).to_bytes(8, "little") + header + bytes(range(48, 64)) + np.float32(0.5).tobytes())

# Arrays.
for name in ["a", "b", "d"]:
    np.save(f"{name}.npy", floats(20, 3))
open("names.txt", "w").write("a\nb\n")
store("d.npk", {"data": floats(50, 3), "x": np.arange(20, dtype=np.int64)})
store("one.npk", {"data": floats(50, 3)})
store("run.npk", {"loss": floats(30), "grads": floats(30, 4)})
np.savez("x.npz", x=np.arange(12.0).reshape(3, 4), y=np.arange(3))
x = rng.standard_normal(40)
store("a.npk", {"x": x})
store("b.npk", {"x": x * (1 + 1e-7)})
store("data.npk", {"x0": floats(40), "x1": floats(40, 2)})

# Tables.
ids = pa.array([f"doc-{i}" for i in range(40)])
vectors = floats(40, 16)
lists = pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), 16)
embeddings = pa.table({"id": ids, "vector": lists, "score": pa.array(rng.random(40))})
pq.write_table(embeddings, "embeddings.parquet", row_group_size=15)
os.mkdir("shards")
for i in range(3):
    # Lists of no fixed length in the schema, as most writers leave them.
    pq.write_table(pa.table({"vector": pa.array(list(floats(10, 16)))}), f"shards/part-{i}.parquet")
for i in range(2):
    pq.write_table(pa.table({"k": pa.array(range(i * 5, i * 5 + 5)), "v": rng.random(5)}), f"part-{i}.parquet")
numbers = pa.table({"col1": rng.random(30), "col2": rng.random(30), "col3": rng.random(30)})
pq.write_table(numbers, "d.parquet")
pa.feather.write_feather(numbers, "d.feather")
when = [datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(hours=i) for i in range(6)]
mixed = pa.table({
    "when": pa.array(when, pa.timestamp("us", "UTC")),
    "city": pa.array(["Oslo", "Bergen", None, "Oslo", "Bodø", "Bergen"]).dictionary_encode(),
    "count": pa.array([1, None, 3, 4, None, 2**60], pa.int64()),
    "temp": pa.array([1.5, 2.5, None, 4.5, 5.5, 6.5], pa.float32()),
    "tags": pa.array([["a"], [], ["b", "c"], None, ["d"], ["e"]], pa.list_(pa.string())),
})
pq.write_table(mixed.drop_columns("tags"), "stations.parquet")
pq.write_table(pa.table({"tokens": pa.array([[1, 2], [3], [], [4, 5, 6]], pa.list_(pa.int32()))}), "ragged.parquet")
items = [[{"sku": 7, "n": 1}, {"sku": 9, "n": 2}], [], [{"sku": 7, "n": 5}]]
pq.write_table(pa.table({"order": [1, 2, 3], "items": items}), "orders.parquet")
pd.DataFrame({"a": [1, 2, 3], "b": [4.0, 5.0, 6.5]}, index=pd.Index(["x", "y", "z"], name="key")).to_parquet("frame.parquet")
frame = pd.DataFrame({"x": rng.random(25), "y": rng.random(25), "z": rng.integers(0, 9, 25)})
frame.to_csv("points.csv", index=False)
frame.to_csv("d.csv", index=False)
frame[["x", "y"]].to_hdf("frame.h5", key="frame", format="table")
open("people.csv", "w").write("name,age,joined\nAda,36,1843-01-05\nBob,,1990-02-01\n")
open("d.txt", "w").write("a;b;c\n1.5;2;3\n4;5.25;6\n")
pa.csv.write_csv(numbers, "numbers.csv")

# Trees.
with h5py.File("d.h5", "w") as f:
    f["features"] = floats(20, 8)
    f["labels"] = np.arange(20)
    f["run1/features"] = floats(10, 8)
with h5py.File("run.h5", "w") as f:
    f.attrs["instrument"] = "camera 3"
    images = f.create_dataset("images", data=rng.integers(0, 255, (12, 16, 16), dtype=np.uint16), chunks=(4, 16, 16), compression="gzip")
    images.attrs["units"] = "counts"
    f["raw/time"] = np.arange(12.0)
shutil.copy("run.h5", "big.h5")
root = zarr.open_group("d.zarr", mode="w")
root.create_array("features", data=floats(20, 8))
root.create_array("labels", data=np.arange(20))
