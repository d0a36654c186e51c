"""Arrays go to other libraries and come from them, and their addresses show that nothing is copied.

    python exchange.py OUT-FOLDER
"""

import os
import signal
import subprocess
import sys
import threading

import numpy as np

import npk

HERE = os.path.dirname(os.path.abspath(__file__))


def has(library):
    try:
        __import__(library)
        return True
    except ImportError:
        return False


def raises(kind, call, *words):
    try:
        call()
    except kind as e:
        assert all(word in str(e) for word in words), str(e)
        return e
    raise AssertionError(f"{kind.__name__} was expected")


def numpy_both_ways():
    rng = np.random.default_rng(1)
    base = rng.random((6, 7, 8))
    arrays = {
        "c": base, "f": np.asfortranarray(base), "t": base.transpose(2, 0, 1), "r": base[::-1, ::2, 1:],
        "big": base.astype(">f4"), "zero": np.zeros((0, 3), "i2"), "scalar": np.float64(2.5),
        "bool": base > 0.5, "c64": base.astype("c8"), "c128": base.astype("c16"),
        "half": base.astype("f2"), "one": np.broadcast_to(np.int32(7), (4, 5)),
        "when": np.array(["2020-01-01", "NaT"], "M8[us]"), "took": np.array([5, -1], "m8[ns]"),
        "text": np.array(["a", "", "ü"]), "objects": np.array(["x", None], dtype=object),
        "bytes": np.array([b"ab", b"c"]),
        **{d: rng.integers(0, 100, (3, 2)).astype(d) for d in
           ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")},
    }
    npk.save("n.npk", arrays)
    file = npk.open("n.npk")
    assert file.names() == list(arrays) and len(file) == len(arrays) and "c" in file
    for name, array in arrays.items():
        back = np.asarray(file[name])
        expected = np.asarray(array)
        if expected.dtype.kind in "US":
            assert back.tolist() == expected.tolist(), name
            continue
        np.testing.assert_array_equal(back, expected, err_msg=name)
        assert back.shape == expected.shape and back.dtype == expected.dtype.newbyteorder("="), name
        if expected.dtype.kind in "biufc" and expected.size:
            assert not file[name].is_copy and back.ctypes.data == np.asarray(memoryview(back)).ctypes.data
    c = file["c"]
    assert np.asarray(c).ctypes.data == c.address, "numpy shares the map"
    assert memoryview(c).shape == (6, 7, 8) and memoryview(c).readonly
    assert np.asarray(c[2:4]).ctypes.data == c.address + 2 * 7 * 8 * 8, "rows are not copied"
    assert np.asarray(c[2:4]).shape == (2, 7, 8) and c[0, 0, 0] == base[0, 0, 0]
    np.testing.assert_array_equal(c[::2], base[::2])
    raises(IndexError, lambda: c[7])
    with np.testing.assert_raises(ValueError):
        np.asarray(c)[0] = 1
    np.testing.assert_array_equal(np.asarray(file.rows("c", 1, 3)), base[1:3])
    assert np.from_dlpack(c).ctypes.data == c.address
    assert np.array(c, copy=True).ctypes.data != c.address
    assert not npk.open("n.npk", copies=True)["c"].address == c.address
    # As a mapping.
    assert list(file) == list(file.keys()) and dict(file.items()).keys() == set(arrays)
    assert file.get("no") is None and len(list(file.values())) == len(arrays)


def errors():
    e = raises(FileNotFoundError, lambda: npk.open("no.npk"), "no.npk")
    assert isinstance(e, npk.MissingError) and e.kind == "missing" and e.file == "no.npk"
    e = raises(KeyError, lambda: npk.open("n.npk")["cc"], "cc", "hint:")
    assert e.array == "cc" and e.hint
    e = raises(FileExistsError, lambda: npk.save("n.npk", {"a": np.zeros(1)}))
    assert isinstance(e, npk.ExistsError)
    raises(npk.UsageError, lambda: npk.convert("n.npk", "x.npz", no_such_option=1), "no-such-option")
    raises(TypeError, lambda: npk.save("x.npk", {"a": np.array([1, "x"], dtype=object)}))
    assert not os.path.exists("x.npk")
    import pickle

    again = pickle.loads(pickle.dumps(e))
    assert str(again) == str(e) and again.file == e.file


def stores():
    with npk.Store("s.npk") as store:
        store.write("a", np.arange(6).reshape(2, 3))
        store.write("b", [1.5, 2.5])
        assert not os.path.exists("s.npk")
    a = npk.open("s.npk")["a"]
    with npk.Store("s.npk", "edit") as store:
        store.rename("a", "c")
        store.write("b", np.zeros(2, "u1"), replace=True)
    assert npk.open("s.npk").names() == ["c", "b"]
    try:
        with npk.Store("s.npk", "edit") as store:
            store.remove("c")
            raise RuntimeError
    except RuntimeError:
        pass
    assert npk.open("s.npk").names() == ["c", "b"], "a block that raises changes nothing"
    assert np.asarray(a)[1, 2] == 5, "a map outlives the change"
    npk.Store("s.npk", "edit").append({"c": np.array([[7, 8, 9]])})
    np.testing.assert_array_equal(np.asarray(npk.open("s.npk")["c"])[:, 0], [0, 3, 7])
    for name in ("s.safetensors", "s.npz", "s.h5", "s.zarr"):
        npk.save(name, {"w": np.arange(4.0)})
        np.testing.assert_array_equal(np.asarray(npk.open(name)["w"]), np.arange(4.0))


def arrow_both_ways():
    import pyarrow as pa

    table = pa.table({
        "n": pa.array([1, None, 3]), "s": ["a", None, "c"], "d": pa.array(["x", "y", "x"]).dictionary_encode(),
        "t": pa.array([0, 1, None], pa.timestamp("us", "UTC")), "l": [[1, 2], None, []],
        "m": [{"p": 1}, None, {"p": None}], "dec": pa.array([1, 2, 3]).cast(pa.decimal128(21, 2)),
    })
    npk.save("t.npk", table)
    back = pa.table(npk.open("t.npk"))
    assert back.schema.names == table.schema.names
    assert back.to_pydict() == table.to_pydict()
    assert [str(t) for t in back.schema.types] == [str(t) for t in table.schema.types]
    npk.save("t.parquet", table, compression="zstd")
    assert pa.table(npk.open("t.parquet")).to_pydict() == table.to_pydict()
    values = pa.array(np.arange(1000.0))
    npk.save("p.npk", {"v": values, "part": values[10:20], "c": pa.chunked_array([values[:3], values[3:5]])})
    file = npk.open("p.npk")
    v = file["v"]
    out = pa.array(v)
    assert out.equals(values) and out.buffers()[1].address == v.address, "Arrow shares the map"
    assert pa.array(file["part"]).equals(values[10:20]) and len(file["c"]) == 5
    matrix = np.arange(12.0).reshape(4, 3)
    npk.save("m.npk", {"m": matrix})
    nested = pa.array(npk.open("m.npk")["m"])
    assert nested.type.list_size == 3 and nested.to_pylist() == matrix.tolist()


def frames_both_ways():
    import pandas as pd

    import npk.io

    df = pd.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"],
                       "c": pd.to_datetime(["2020-01-01", None, "2021-05-05"], utc=True)},
                      index=pd.Index([10, 20, 30], name="key"))
    npk.save("d.npk", df)
    back = npk.io.to_pandas("d.npk")
    pd.testing.assert_frame_equal(back, df)
    npk.io.from_pandas(df, "d2.npk", "frame")
    pd.testing.assert_frame_equal(npk.io.to_pandas("d2.npk", "frame"), df)
    npk.save("series.npk", {"s": df["a"], "t": df["b"]})
    assert npk.open("series.npk")["s"].tolist() == [1, 2, 3]
    if has("polars"):
        import polars as pl

        frame = pl.DataFrame({"a": [1, 2, None], "s": ["x", "y", None]})
        npk.save("pl.npk", frame)
        assert pl.DataFrame(npk.open("pl.npk")).equals(frame)
        npk.save("ps.npk", {"a": frame["a"]})
        assert pl.Series(npk.open("ps.npk")["a"]).to_list() == [1, 2, None]


class Bare:
    """Gives a tensor and nothing else: no buffer, no numpy array."""

    def __init__(self, array, device=1):
        self.array, self.device = array, device

    def __dlpack__(self, **kwargs):
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.device, 0


def maps(name):
    """How many maps of a file of this name this process has."""
    with open("/proc/self/maps", encoding="utf-8") as lines:
        return sum(name in line for line in lines)


def tensors_both_ways():
    base = np.arange(24, dtype="f4").reshape(4, 6)
    fixed = base.copy()
    fixed.flags.writeable = False
    given = {"c": base, "t": base.T, "r": base[::-1, ::2], "rank0": np.array(2.5), "empty": np.zeros((0, 3), "i2"),
             "z": base.astype("c8"), "one": base[:, :1]}
    # Before, numpy told neither that an array is read-only nor that it is of bools.
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
        given |= {"fixed": fixed, "b": base > 3}
    counts = {name: sys.getrefcount(array) for name, array in given.items()}
    npk.save("dl.npk", {name: Bare(array) for name, array in given.items()})
    file = npk.open("dl.npk")
    for name, array in given.items():
        np.testing.assert_array_equal(np.asarray(file[name]), array, err_msg=name)
        assert file[name].shape == array.shape
        assert sys.getrefcount(array) == counts[name], f"{name} was given back"
    raises(TypeError, lambda: npk.save("gpu.npk", {"a": Bare(base, device=2)}), "CPU")
    assert not os.path.exists("gpu.npk")
    # Ours, in both forms: the map lives as long as the last who has it, taken or not.
    a = file["c"]
    held = maps("data_c.npkd")
    assert held == 1
    for form in ({}, {"max_version": (1, 0)}):
        capsule = a.__dlpack__(**form)
        del capsule
        array = np.from_dlpack(Bare(a))
        assert array.ctypes.data == a.address and not array.flags.writeable
    raises(BufferError, lambda: a.__dlpack__(dl_device=(2, 0)), "CPU")
    copy = np.from_dlpack(a)
    del a
    assert maps("data_c.npkd") == 1 and array[3, 5] == 23
    array = copy = np.array(copy)
    assert maps("data_c.npkd") == 0, "and no longer"


def torch_both_ways():
    import torch

    import npk.io

    w = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = {"w": w, "t": w.t(), "step": w[:, ::2], "half": w.to(torch.bfloat16), "flag": w > 3,
               "grad": w.clone().requires_grad_(), "f16": w.to(torch.float16), "i": w.to(torch.int64),
               "rank0": torch.tensor(3.5), "empty": torch.zeros(0, 3), "z": w.to(torch.complex64)}
    npk.save("w.npk", tensors)
    for name, tensor in tensors.items():
        back = npk.io.to_torch("w.npk", name)
        assert back.dtype == tensor.dtype and back.shape == tensor.shape, (name, back.dtype, back.shape)
        assert torch.equal(back, tensor.detach()), name
    array = npk.open("w.npk")["w"]
    tensor = torch.from_dlpack(array)
    assert tensor.data_ptr() == array.address, "torch shares the map"
    tensor[0, 0] = 99
    assert np.asarray(npk.open("w.npk", copies=True)["w"])[0, 0] == 0, "and the file stays as it is"
    address = array.address
    del array
    assert tensor.data_ptr() == address and tensor[3, 5] == 23, "the tensor keeps the map"
    npk.save("w.safetensors", {"h": tensors["half"]})
    half = torch.from_dlpack(npk.open("w.safetensors")["h"])
    assert half.dtype == torch.bfloat16 and torch.equal(half, tensors["half"])
    for name in ("w", "t", "step", "half", "f16", "rank0", "empty"):
        npk.save("bare.npk", {"w": Bare(tensors[name])}, overwrite=True)
        assert torch.equal(npk.io.to_torch("bare.npk", "w"), tensors[name]), name


def threads_and_interrupts():
    """Other threads run while npk works, and Ctrl-C ends it cleanly."""
    npk.save("large.npk", {f"a{i}": np.random.default_rng(i).random((2000, 500)) for i in range(6)})
    count, stop = [0], threading.Event()

    def counts():
        while not stop.is_set():
            count[0] += 1
            os.sched_yield()

    thread = threading.Thread(target=counts)
    thread.start()
    seen, told = count[0], []
    npk.convert("large.npk", "large.zarr", compression="zstd:9", on_progress=told.append)
    stop.set()
    thread.join()
    assert count[0] > seen + 20 and told == sorted(told)
    code = ("import npk; told = lambda n: print(n, flush=True)\n"
            "npk.convert('large.npk', 'ended.zarr', compression='zstd:19', jobs=1, on_progress=told)")
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=120)
    assert b"KeyboardInterrupt" in err, err
    assert not any("ended" in name for name in os.listdir(".")), os.listdir(".")


def forks():
    """A fork reads with threads of its own."""
    import multiprocessing

    file = npk.open("large.zarr")
    whole = np.asarray(file["a0"]).sum()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_sum, ["a0", "a0"]) == [whole, whole]


def _sum(name):
    return np.asarray(npk.open("large.zarr")[name]).sum()


def the_page():
    """The Python blocks of docs/python.md, in order."""
    import re

    import pandas as pd
    import pyarrow as pa

    os.mkdir("page")
    os.chdir("page")
    w, rows = np.arange(6, dtype="f4").reshape(2, 3), np.ones((1, 3), "f4")
    npk.save("model.safetensors", {"layer.weight": w})
    names = {"tensor": w, "array": np.arange(3), "dataframe": pd.DataFrame({"a": [1, 2], "b": ["x", None]}),
             "table": pa.table({"a": [1, None]}), "new": w + 1, "more_rows": rows}
    with open(os.path.join(HERE, "../../docs/python.md"), encoding="utf-8") as page:
        blocks = re.findall(r"(?m)^```python\n((?:.*\n)*?)```$", page.read())
    for code in blocks:
        if "npk.save(\"model.safetensors" in code:
            os.remove("model.safetensors")
        exec(compile(code, "docs/python.md", "exec"), names)
    assert len(blocks) == 2 and npk.open("model.npk").names() == ["bias", "w"]
    np.testing.assert_array_equal(npk.open("model.npk")["w"], np.vstack([w + 1, rows]))
    assert pa.table(npk.open("table.parquet")).to_pydict() == {"a": [1, None]}
    os.chdir("..")


def imports():
    code = "import sys, npk; assert not {'numpy', 'torch', 'pandas', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def main(folder):
    os.chdir(folder)
    checks = [numpy_both_ways, tensors_both_ways, errors, stores, threads_and_interrupts, forks, imports]
    checks += [arrow_both_ways] if has("pyarrow") else []
    checks += [frames_both_ways, the_page] if has("pandas") and has("pyarrow") else []
    checks += [torch_both_ways] if has("torch") else []
    for check in checks:
        check()
        print(f"ok: {check.__name__}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
