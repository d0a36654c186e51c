"""Tables with everything that a schema can say, and whether they come back."""

import decimal
import glob

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

N = 40


def some(values):
    return [None if i % 7 == 3 else v for i, v in enumerate(values)]


def columns():
    def codes(width, **more):
        return pa.array([i % 3 if more.get("full") or i % 7 != 3 else None for i in range(N)], width)

    coded = pa.DictionaryArray.from_arrays(codes("int8"), pa.array(["z", "a", "m", "unused"]))
    ordered = pa.DictionaryArray.from_arrays(codes("int16", full=True), pa.array(["lo", "mid", "hi"]), ordered=True)
    numbers = pa.DictionaryArray.from_arrays(codes("int32"), pa.array([70, 80, 90], "int64"))
    pair = pa.struct([pa.field("x", pa.int32(), nullable=False), pa.field("y", pa.string())])
    cents = [decimal.Decimal(i).scaleb(-2) for i in range(N)]
    yield pa.field("id", pa.int64(), nullable=False, metadata={"unit": "m"}), range(N)
    yield pa.field("b", pa.bool_()), some([i % 2 == 0 for i in range(N)])
    yield pa.field("s", pa.string(), nullable=False), [f"t{i % 5}" for i in range(N)]
    yield pa.field("ls", pa.large_string(), metadata={"k": "v"}), some([f"t{i}é" for i in range(N)])
    yield pa.field("bin", pa.binary()), some([bytes([i, 255, 0]) for i in range(N)])
    yield pa.field("fixed", pa.binary(3), nullable=False), [bytes([i, 255, 0]) for i in range(N)]
    yield pa.field("dec", pa.decimal128(9, 2)), some(cents)
    yield pa.field("wide", pa.decimal256(50, 4)), some([c * 10**30 for c in cents])
    yield pa.field("ts", pa.timestamp("us", "Europe/Oslo"), nullable=False), range(N)
    yield pa.field("tn", pa.timestamp("ns")), some(range(N))
    yield pa.field("day", pa.date32()), some(range(N))
    yield pa.field("t32", pa.time32("ms")), some(range(N))
    yield pa.field("t64", pa.time64("us"), nullable=False), range(N)
    yield pa.field("took", pa.duration("ms")), some(range(N))
    yield pa.field("f16", pa.float16()), pa.array(np.arange(N).astype("f2"))
    yield pa.field("f32", pa.float32()), some([i / 3 for i in range(N)])
    yield pa.field("u8", pa.uint8(), nullable=False), range(N)
    yield pa.field("coded", coded.type), coded
    yield pa.field("ordered", ordered.type, nullable=False), ordered
    yield pa.field("numbers", numbers.type), numbers
    emb = pa.list_(pa.field("item", pa.float32(), nullable=False), 4)
    yield pa.field("emb", emb, nullable=False), [[i] * 4 for i in range(N)]
    yield pa.field("lists", pa.list_(pa.float32())), [[1.5] * (i % 4) for i in range(N)]
    yield pa.field("even", pa.list_(pa.int32())), [[i] * 3 for i in range(N)]
    yield pa.field("pair", pair, nullable=False), [{"x": i, "y": None if i % 2 else "q"} for i in range(N)]
    yield pa.field("texts", pa.list_(coded.type)), [["a", "z"][: i % 3] for i in range(N)]
    yield pa.field("none", pa.null()), [None] * N


def tables():
    fields, arrays = [], []
    for field, values in columns():
        fields.append(field)
        arrays.append(values if isinstance(values, pa.Array) else pa.array(list(values), field.type))
    whole = pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata={"who": "me", "x": '{"a":1}'}))
    yield "all", whole
    yield "none", whole.slice(0, 0)
    for name in ["id", "s", "coded", "lists", "even", "pair"]:
        yield f"one_{name}", whole.select([name])
    yield "no_lists", whole.select(["lists"]).slice(0, 0)
    index = pd.Index(["r1", "r2"], name="ix")
    yield "pandas", pa.Table.from_pandas(pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=index))
    yield "matrix", pa.table({"p": pa.array([1.0, 2.0]), "q": pa.array([3.0, 4.0])})
    yield "blank", pa.Table.from_arrays([pa.array([1.0, 2.0]), pa.array(["a", "b"])], names=["", "y"])


def write():
    for name, table in tables():
        pq.write_table(table, f"{name}.parquet")
        feather.write_feather(table, f"{name}.feather")


def compare():
    """Every `NAME.FORMAT.MIDDLE.FORMAT` is equal to `NAME.FORMAT`, with schema and metadata."""
    seen = 0
    for back in sorted(glob.glob("*.*.*.*")):
        name, form = back.split(".")[:2]
        if back.count(".") != 3 or not back.endswith(form):
            continue
        read = pq.read_table if form == "parquet" else feather.read_table
        a, b = read(f"{name}.{form}"), read(back)
        assert a.schema.equals(b.schema, check_metadata=True), (back, a.schema, b.schema)
        assert a.equals(b), (back, [c for c in a.column_names if not a[c].equals(b[c])])
        seen += 1
    assert seen > 5, "too few files were compared"
