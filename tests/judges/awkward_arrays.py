"""Nested arrays as awkward-array writes and reads them: what npk gives back holds the same types and values."""

import glob
import os
import sys

import awkward as ak
import nested
import numpy as np
import pyarrow.feather as feather
import pyarrow.parquet as pq

ROWS = 211


def arrays():
    """One of each of awkward's layouts, with nulls at every level."""
    n = ROWS
    content = ak.contents

    def some(value):
        return ak.Array([None if i % 7 == 3 else value(i) for i in range(n)])

    ints = ak.unflatten(np.arange(n), [i % 3 for i in range(n - 1)] + [n - sum(i % 3 for i in range(n - 1))])
    yield "lists", ints
    yield "deep", some(lambda i: [None if j == 2 else [[k, None][: k % 3] for k in range(j)] for j in range(i % 4)])
    yield "texts", some(lambda i: [None if j == 1 else f"é{i % 5}{j}" for j in range(i % 3)])
    yield "bytes", some(lambda i: [bytes([i, j]) for j in range(i % 3)])
    yield "records", some(
        lambda i: {"x": i, "y": [1.5] * (i % 3), "z": None if i % 5 else {"t": f"t{i}", "u": [[True], []]}}
    )
    yield "lists_of_records", some(
        lambda i: [
            None if j % 3 == 2 else {"pt": i + j / 4, "hits": list(range(j)), "name": f"n{j}" if j else None}
            for j in range(i % 4)
        ]
    )
    yield "regular", ak.from_numpy(np.arange(n * 6, dtype="float32").reshape(n, 2, 3), regulararray=True)
    pairs = content.RegularArray(content.NumpyArray(np.arange(2 * n)), 2)
    picked = ak.index.Index64([i if i % 3 else -1 for i in range(n)])
    yield "regular_option", ak.Array(content.IndexedOptionArray(picked, pairs))
    yield "bools", some(lambda i: i % 2 == 0)
    bits = ak.index.IndexU8(np.packbits(np.arange(n) % 3 > 0, bitorder="little"))
    small = content.NumpyArray(np.arange(n, dtype="uint8"))
    yield "bit_masked", ak.Array(content.BitMaskedArray(bits, small, valid_when=True, length=n, lsb_order=True))
    yield "unmasked", ak.Array(content.UnmaskedArray(small))
    yield "indexed", ak.Array(content.IndexedArray(ak.index.Index64(np.arange(n)[::-1].copy()), ints.layout))
    yield "categories", ak.str.to_categorical(ak.Array([f"c{i % 4}" for i in range(n)]))
    yield "categories_in_lists", ak.str.to_categorical(ak.Array([[f"c{(i + j) % 4}" for j in range(i % 3)] for i in range(n)]))
    yield "times", ak.unflatten(np.arange(n).astype("M8[us]"), [n] + [0] * (n - 1))
    yield "tuples", ak.zip((np.arange(n), ints), depth_limit=1)
    yield "named", ak.zip({"a": ints, "b": ints * 1.5}, with_name="Momentum")


def read(path):
    return ak.from_parquet(path) if path.endswith(".parquet") else ak.from_feather(path)


def write():
    """Files `NAME.parquet` and `NAME.feather` that awkward itself wrote."""
    for name, array in arrays():
        ak.to_parquet(array, f"{name}.parquet", row_group_size=50)
        ak.to_feather(array, f"{name}.feather", chunksize=50)


def write_random(seeds):
    """Files `SEED.parquet` and `SEED.feather` of the columns of random tables that awkward can read."""
    for seed in seeds:
        table = nested.table(seed, 20)
        for column in table.column_names:
            try:
                ak.from_arrow(table.select([column]))
            # awkward knows neither decimals nor codes of 16 bits, and says so in many ways.
            except Exception:
                table = table.drop_columns([column])
        if table.num_columns:
            feather.write_feather(table, f"{seed}.feather", chunksize=50)
            pq.write_table(table, f"{seed}.parquet", row_group_size=50)
            if not nested.readable(f"{seed}.parquet"):
                os.remove(f"{seed}.parquet")


def compare(least):
    """Every `back-FORMAT-SOURCE` is what SOURCE is. Where it is another format, what pyarrow makes of SOURCE is."""
    seen = 0
    for back in sorted(glob.glob("back-*")):
        source = back.split("-", 2)[2]
        if source.endswith(".parquet.feather"):
            source = source.removesuffix(".feather")
            feather.write_feather(pq.read_table(source), "same.feather")
            want = read("same.feather")
        else:
            want = read(source)
        got = read(back)
        if got.type != want.type:
            sys.exit(f"{back}: {want.type} became {got.type}")
        # NaN, which is not itself, is the same text.
        if str(got.tolist()) != str(want.tolist()):
            sys.exit(f"{back}: other values: {want.tolist()} became {got.tolist()}")
        seen += 1
    assert seen >= least, f"only {seen} files were compared"
