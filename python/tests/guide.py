"""Every code block of NumPack's guide to format conversion, run with only the import changed, and what
each must have made. Blocks that need a library that is not installed are left out by name.

    python guide.py OUT-FOLDER
"""

import os
import re
import sys
import types

import numpy as np

import npk

LIBRARIES = ("torch", "pyarrow", "pandas", "safetensors", "h5py", "zarr")
HERE = os.path.dirname(os.path.abspath(__file__))


def has(library):
    try:
        __import__(library)
        return True
    except ImportError:
        return False


HAVE = {library for library in LIBRARIES if has(library)}


def inputs():
    """The files that the blocks read."""
    rng = np.random.default_rng(7)
    data = rng.random((20, 3))
    np.save("data.npy", data)
    np.savetxt("data.csv", data, delimiter=",")
    np.savetxt("data.txt", data)
    arrays = {"embeddings": rng.random((10, 8)).astype("f4"), "weights": rng.random((4, 4)).astype("f4"),
              "biases": rng.random(4).astype("f4")}
    npk.save("model.safetensors", arrays, metadata={"made": "here"})
    npk.save("data.parquet", {"col1": np.arange(5), "col2": rng.random(5), "col3": np.arange(5.0)})
    npk.save("data.feather", {"a": np.arange(4), "b": rng.random(4)})
    npk.save("data.zarr", arrays)
    npk.save("data.h5", {"features": data, "labels": np.arange(20)})
    if "torch" in HAVE:
        import torch

        torch.save({k: torch.from_numpy(v) for k, v in arrays.items()}, "model.pt")
        torch.save({"w": torch.ones(3)}, "large_model.pt")
    return data, arrays


def store(**arrays):
    """input.npk with these arrays."""
    npk.save("input.npk", arrays, overwrite=True)


def blocks():
    """Heading and code of each Python block of the guide, in order."""
    text = open(os.path.join(HERE, "guide.md"), encoding="utf-8").read()
    heading, found = [], []
    for part in re.split(r"(?m)^(#{2,4} .*$|```python\n(?:.*\n)*?```$)", text):
        if part.startswith("```python"):
            found.append((" / ".join(heading), part[len("```python\n"):-3]))
        elif part.startswith("#"):
            level, name = part.split(" ", 1)
            heading = heading[: len(level) - 2] + [name.strip()]
    return found


def changed(code):
    """With only the import changed."""
    code = code.replace("from numpack.io import", "from npk.io import")
    return code.replace("from numpack import NumPack", "from npk import NumPack")


def check(number, names, data, arrays):
    """What block `number` must have made."""
    same = np.testing.assert_array_equal
    f = npk.open
    if number == 0:
        same(f("output.npk")["embeddings"], names["first"])
        same(names["tensor"].numpy(), arrays["embeddings"])
    elif number == 1:
        same(f("output.npk")["weights"], arrays["weights"])
        assert set(f("output.pt").names()) == {"layer1", "layer2"}
    elif number == 2:
        assert names["table"].column_names == ["a", "b"], "NumPack: col0, col1"
        assert str(names["table"].schema.types) == "[DataType(int64), DataType(double)]", "NumPack: double"
        assert names["table"].to_pydict() == {"a": [1, 2, 3], "b": [4.0, 5.0, 6.0]}
        assert f("output.npk").names() == ["my_table/a", "my_table/b"]
    elif number == 3:
        same(f("output.feather")["col1"], data[:, 1])
    elif number == 4:
        assert names["table"].equals(names["pq"].read_table("data.parquet"))
    elif number == 5:
        assert {"col1", "col2"} <= set(f("output.npk").names())
        same(f("output.parquet")["col1"], data[:, 1])
    elif number == 6:
        for name, array in arrays.items():
            same(f("output.safetensors")[name], array)
    elif number == 7:
        assert f("output.safetensors").metadata["format"] == "numpack"
    elif number == 8:
        assert set(names["info"]["tensors"]) == set(arrays) and names["info"]["metadata"] == {"made": "here"}
        assert names["tensor"].shape == arrays[names["name"]].shape
    elif number == 9:
        same(np.load("output.npy"), data)
        same(f("output.npk")["data"], data)
    elif number == 10:
        same(f("output.npk")["features"], data)
        same(f("output.h5")["data"], data)
    elif number == 11:
        same(f("output.zarr")["data"], data)
    elif number == 12:
        same(np.loadtxt("output.csv", delimiter=","), data)
        same(f("output.npk")["data"], data)
    elif number == 13:
        loaded, state = names["loaded_state"], names["state_dict"]
        assert set(loaded) == set(state) and all(loaded[k].equal(state[k]) for k in state)
        same(f("restored.npk")["weight"], state["weight"].numpy())
    elif number == 14:
        same(np.loadtxt("output.txt", delimiter="\t"), data)
    elif number == 15:
        assert list(names["df"].columns) == ["a", "b"]
        assert [str(t) for t in names["df"].dtypes] == ["int64", "float64"]
    elif number == 17:
        assert np.shares_memory(names["arr"], names["arr_restored"])
    elif number == 18:
        assert names["numpy_arr"].shape == (100, 50) and np.shares_memory(names["arr"], names["numpy_arr"])
    elif number == 19:
        assert np.shares_memory(names["arr"], names["numpy_arr"])
    elif number == 20:
        assert names["torch_tensor"].shape == (100, 50) and len(names["arrow_array"]) == 100
    elif number == 23:
        same(names["loaded"].numpy(), names["tensor"].numpy())
    elif number == 24:
        same(names["weights"].numpy(), arrays["weights"])


def prepare(number, data, arrays):
    """What block `number` reads, and has from the text around it."""
    if number == 0:
        store(embeddings=arrays["embeddings"])
    elif number == 1:
        store(layer1=arrays["weights"], layer2=arrays["biases"], layer3=arrays["biases"])
    elif number == 2:
        store()
        import pyarrow as pa
        import npk.io

        npk.io.from_arrow(pa.table({"a": [1, 2, 3], "b": [4.0, 5.0, 6.0]}), "input.npk", "my_table")
    elif number == 4:
        import pyarrow.parquet as pq
        import npk.io

        npk.io.from_parquet_table(pq.read_table("data.parquet"), "input.npk", "data", drop_if_exists=True)
    elif number in (6, 7):
        store(**arrays)
    elif number == 15:
        import pandas as pd
        import npk.io

        df = pd.DataFrame({"a": [1, 2, 3], "b": [4.0, 5.0, 6.0]})
        npk.io.from_pandas(df, "input.npk", "dataframe", drop_if_exists=True)
    elif number == 24:
        store()
    else:
        store(data=data)
    given = {"np": np}
    if "torch" in HAVE and number >= 21:
        import torch
        import npk.io

        given |= {k: getattr(npk.io, k) for k in ("from_torch", "to_torch", "from_torch_file")}
        given |= {"torch": torch, "NumPack": npk.io.NumPack, "tensor": torch.randn(3, 4)}
        given |= {k: torch.from_numpy(arrays[k]) for k in ("weights", "biases")}
    return given


def needs(number):
    """The libraries that a block needs, which are not here."""
    if number in (0, 1, 13, 19, 21, 22, 23, 24):
        return {"torch"} - HAVE
    wanted = {2: {"pyarrow"}, 4: {"pyarrow"}, 6: {"safetensors"}, 15: {"pandas", "pyarrow"},
              18: {"pyarrow"}, 20: {"torch", "pyarrow"}}.get(number, set())
    return wanted - HAVE


def main(folder):
    os.chdir(folder)
    data, arrays = inputs()
    ran, left = [], []
    for number, (heading, code) in enumerate(blocks()):
        if "s3://" in code:
            left.append(f"{heading}: remote.py runs it, beside a server")
            continue
        if missing := needs(number):
            left.append(f"{heading}: without {', '.join(sorted(missing))}")
            continue
        if os.path.exists("output.npk"):
            npk.io.NumPack("output.npk", drop_if_exists=True)
        names = types.SimpleNamespace(**prepare(number, data, arrays)).__dict__
        code = changed(code)
        if "torch" in HAVE and number == 0:
            # A GPU is not everywhere; the first tensor is looked at afterwards.
            code = "\n".join(l for l in code.splitlines() if "cuda" not in l)
            code = code.replace("from_torch(tensor", "first = tensor\nfrom_torch(tensor")
        try:
            exec(compile(code, f"block {number}: {heading}", "exec"), names)
            check(number, names, data, arrays)
        except Exception as e:
            raise SystemExit(f"block {number} ({heading}) failed: {type(e).__name__}: {e}") from e
        ran.append(number)
    print(f"{len(ran)} blocks ran: {ran}")
    for reason in left:
        print(f"left out: {reason}")


if __name__ == "__main__":
    main(sys.argv[1])
