"""Tables of every kind, written and compared by pyarrow, pandas, polars and DuckDB."""
import datetime as dt
import decimal
import glob
import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

ROWS = 1000


def some_null(values, every=7):
    return [None if i % every == 3 else v for i, v in enumerate(values)]


def flat_columns(n=ROWS):
    """name -> (values, type): every flat type."""
    rng = np.random.default_rng(7)
    ints = rng.integers(-100, 100, n)
    columns = {}
    for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64()):
        columns[str(t)] = (ints.tolist(), t)
    for t in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()):
        columns[str(t)] = (np.abs(ints).tolist(), t)
    columns["int64_wide"] = ([2**63 - 1 - i for i in range(n)], pa.int64())
    columns["uint64_wide"] = ([2**64 - 1 - i for i in range(n)], pa.uint64())
    columns["bool"] = ((ints > 0).tolist(), pa.bool_())
    columns["f2"] = (rng.normal(size=n).astype(np.float16), pa.float16())
    columns["f4"] = (rng.normal(size=n).astype(np.float32).tolist(), pa.float32())
    columns["f8"] = (rng.normal(size=n).tolist(), pa.float64())
    base = 1_600_000_000
    for unit, k in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)):
        values = [(base + i * 86399) * k + (i % k if k > 1 else 0) for i in range(n)]
        columns[f"timestamp_{unit}"] = (values, pa.timestamp(unit))
        columns[f"timestamp_{unit}_zone"] = (values, pa.timestamp(unit, "Europe/Berlin"))
        columns[f"duration_{unit}"] = ([i * 3 - 50 for i in range(n)], pa.duration(unit))
    columns["timestamp_utc"] = (values, pa.timestamp("ns", "UTC"))
    columns["date32"] = ([dt.date(1960, 1, 1) + dt.timedelta(days=i) for i in range(n)], pa.date32())
    columns["date64"] = ([dt.date(1960, 1, 1) + dt.timedelta(days=i) for i in range(n)], pa.date64())
    columns["time32_s"] = ([i % 86400 for i in range(n)], pa.time32("s"))
    columns["time32_ms"] = ([i * 17 % 86400000 for i in range(n)], pa.time32("ms"))
    columns["time64_us"] = ([i * 17 for i in range(n)], pa.time64("us"))
    columns["time64_ns"] = ([i * 17 for i in range(n)], pa.time64("ns"))
    words = ["", "a", "bc", "déjà vu", "日本", "x" * 100]
    text = [words[i % len(words)] for i in range(n)]
    for t in (pa.string(), pa.large_string(), pa.string_view()):
        columns[str(t)] = (text, t)
    raw = [w.encode() + b"\xff\x00" for w in text]
    for t in (pa.binary(), pa.large_binary(), pa.binary_view()):
        columns[str(t)] = (raw, t)
    columns["fixed_binary"] = ([i.to_bytes(5, "big") for i in range(n)], pa.binary(5))
    for p, s in ((5, 2), (18, 0), (38, 10), (60, 7)):
        t = pa.decimal128(p, s) if p <= 38 else pa.decimal256(p, s)
        columns[f"decimal_{p}_{s}"] = ([decimal.Decimal(i - 500) / (10**s) if s <= 2 else decimal.Decimal(i * 37 - 500).scaleb(-s) for i in range(n)], t)
    columns["dictionary"] = (text, pa.dictionary(pa.int32(), pa.string()))
    columns["null"] = ([None] * n, pa.null())
    return columns


def column(values, t):
    if all(v is None for v in values):
        return pa.nulls(len(values), t)
    if pa.types.is_dictionary(t):
        return pa.array(values, t.value_type).dictionary_encode().cast(t)
    if pa.types.is_integer(t) or pa.types.is_floating(t) or pa.types.is_boolean(t):
        return pa.array(values, t)
    if pa.types.is_temporal(t) and not isinstance(next((v for v in values if v is not None), None), (dt.date, dt.time)):
        width = pa.int32() if pa.types.is_time32(t) else pa.int64()
        return pa.array(values, width).cast(t)
    return pa.array(values, t)


def nested_columns(n=ROWS):
    rng = np.random.default_rng(11)
    flat = pa.array(rng.normal(size=n * 4).astype(np.float32))
    offsets = pa.array(np.arange(n + 1, dtype=np.int32) * 4)
    columns = {
        "list_equal": pa.ListArray.from_arrays(offsets, flat),
        "large_list_equal": pa.LargeListArray.from_arrays(offsets.cast(pa.int64()), flat),
        "fixed_list": pa.FixedSizeListArray.from_arrays(flat, 4),
        "list_ragged": pa.array([list(range(i % 5)) for i in range(n)], pa.list_(pa.int16())),
        "list_ragged_null": pa.array(some_null([list(range(i % 5)) for i in range(n)]), pa.list_(pa.float64())),
        "list_equal_null": pa.array(some_null([[i, i + 1] for i in range(n)]), pa.list_(pa.int64())),
        "fixed_list_null": pa.array(some_null([[i, i + 1] for i in range(n)]), pa.list_(pa.int64(), 2)),
        "list_list": pa.array([[[i, 1], [2, 3], [4, 5]] for i in range(n)], pa.list_(pa.list_(pa.int32()))),
        "list_bool": pa.array([[i % 2 == 0, True] for i in range(n)], pa.list_(pa.bool_())),
        "list_empty": pa.array([[] for i in range(n)], pa.list_(pa.float32())),
        "list_times": pa.array([[i, 2 * i] for i in range(n)], pa.list_(pa.timestamp("us", "UTC"))),
        "struct": pa.array([{"x": i, "y": {"z": str(i), "w": i / 7}} for i in range(n)]),
        "struct_null_field": pa.array([{"x": None if i % 3 else i, "s": "a"} for i in range(n)]),
    }
    tensor = pa.fixed_shape_tensor(pa.float32(), [2, 2])
    columns["tensor"] = pa.ExtensionArray.from_storage(tensor, pa.FixedSizeListArray.from_arrays(flat, 4))
    return columns


def tables(n=ROWS):
    flat = flat_columns(n)
    made = {
        "flat": pa.table({k: column(v, t) for k, (v, t) in flat.items()}),
        "nulls": pa.table({k: column(some_null(list(v)), t) for k, (v, t) in flat.items()}),
        "all_null": pa.table({k: column([None] * n, t) for k, (v, t) in flat.items()}),
        "nested": pa.table(nested_columns(n)),
    }
    schema = pa.schema([pa.field(k, t, nullable=False) for k, (v, t) in flat.items() if k != "null"], {"made": "for a test"})
    made["required"] = pa.table([column(v, t) for k, (v, t) in flat.items() if k != "null"], schema=schema)
    for name in ("flat", "nested"):
        made[f"{name}_empty"] = made[name].slice(0, 0)
        made[f"{name}_one"] = made[name].slice(3, 1)
    return made


def write_parquet():
    for name, table in tables().items():
        for codec in ("snappy",) if name != "nulls" else ("none", "snappy", "gzip", "brotli", "zstd", "lz4"):
            for rows in (None, 301) if len(table) > 1 else (None,):
                path = f"{name}-{codec}-{rows}.parquet"
                pq.write_table(table, path, compression=codec, row_group_size=rows)
                print(path)
    table = tables()["nulls"]
    kinds = {
        "v2": dict(data_page_version="2.0"),
        "nostats": dict(write_statistics=False),
        "pages": dict(data_page_size=64, write_batch_size=10, write_page_index=True),
        "nodict": dict(use_dictionary=False),
        "v1": dict(version="1.0", coerce_timestamps="us", allow_truncated_timestamps=True),
        "noschema": dict(store_schema=False),
    }
    for name, options in kinds.items():
        for what in ("nulls", "nested"):
            if name in ("v1", "noschema") and what == "nested":
                continue
            path = f"{what}-{name}.parquet"
            pq.write_table(tables()[what], path, **options)
            print(path)
    rng = np.random.default_rng(3)
    numbers = pa.table({"i": np.cumsum(rng.integers(0, 9, 5000)), "f": rng.normal(size=5000), "g": rng.normal(size=5000).astype("f4")})
    pq.write_table(numbers, "encodings.parquet", use_dictionary=False, column_encoding={"i": "DELTA_BINARY_PACKED", "f": "BYTE_STREAM_SPLIT", "g": "BYTE_STREAM_SPLIT"})
    print("encodings.parquet")
    words = pa.table({"s": pa.array([f"prefix {i}" for i in range(3000)]), "t": pa.array(["x" * (i % 9) for i in range(3000)])})
    pq.write_table(words, "strings.parquet", use_dictionary=False, column_encoding={"s": "DELTA_BYTE_ARRAY", "t": "DELTA_LENGTH_BYTE_ARRAY"})
    print("strings.parquet")


def same(a, b, name):
    """What differs, as text."""
    found = []
    if a.schema != b.schema:
        found += [f"{name}: {x} became {y}" for x, y in zip(a.schema, b.schema) if x != y] or [f"{name}: the columns changed"]
    if (a.schema.metadata or {}) != (b.schema.metadata or {}):
        found.append(f"{name}: the metadata {a.schema.metadata} became {b.schema.metadata}")
    if not found and not a.equals(b):
        for field in a.column_names:
            if not a[field].equals(b[field]):
                found.append(f"{name}: {field} changed from {a[field][:8]} to {b[field][:8]}")
    return found


def compare_parquet(prefix="out-"):
    seen, found = 0, []
    for path in sorted(glob.glob("*.parquet")):
        other = prefix + path
        if path.startswith(prefix) or not os.path.exists(other):
            continue
        found += same(pq.read_table(path), pq.read_table(other), path)
        seen += 1
    assert seen, "nothing was compared"
    if found:
        sys.exit("\n".join(found))


def write_arrow():
    for name, table in tables().items():
        for codec in ("uncompressed", "lz4", "zstd"):
            path = f"{name}-{codec}.feather"
            feather.write_feather(table, path, compression=codec, chunksize=None if codec == "zstd" else 301)
            print(path)
        path = f"{name}.arrows"
        with pa.ipc.new_stream(path, table.schema) as writer:
            for batch in table.to_batches(max_chunksize=211):
                writer.write_batch(batch)
        print(path)
    # Dictionaries that grow, and (in a stream) are replaced.
    parts = [["a", "b"], ["b", "c", None], ["d", "a"], ["zz"]]
    chunks = [pa.array(p).dictionary_encode() for p in parts]
    batches = [pa.record_batch([c, pa.array(range(len(c)))], names=["d", "i"]) for c in chunks]
    with pa.ipc.new_stream("replaced.arrows", batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    print("replaced.arrows")
    words = ["a", "b", "c", "d", "e"]
    grown = [pa.DictionaryArray.from_arrays(pa.array([0, n - 1, None], pa.int8()), pa.array(words[:n])) for n in (2, 3, 5)]
    batches = [pa.record_batch([c], names=["d"]) for c in grown]
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    for path, new in (("deltas.arrows", pa.ipc.new_stream), ("deltas.arrow", pa.ipc.new_file)):
        with new(path, batches[0].schema, options=options) as writer:
            for batch in batches:
                writer.write_batch(batch)
        print(path)


def read_arrow(path):
    with open(path, "rb") as f:
        if f.read(6) == b"ARROW1":
            return pa.ipc.open_file(path).read_all()
    with pa.OSFile(path) as f:
        return pa.ipc.open_stream(f).read_all()


def plain(table):
    """Dictionaries as their values, for tables whose dictionaries differ from chunk to chunk."""
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(i, field.name, table[i].cast(field.type.value_type))
    return table


def compare_arrow(prefix="out-"):
    seen, found = 0, []
    for path in sorted(glob.glob("*.feather") + glob.glob("*.arrow*")):
        other = prefix + path
        if path.startswith(prefix) or not os.path.exists(other):
            continue
        a, b = read_arrow(path), read_arrow(other)
        b.validate(full=True)
        if path.startswith(("replaced", "deltas")):
            assert a.schema == b.schema, (a.schema, b.schema)
            a, b = plain(a), plain(b)
        found += same(a, b, path)
        seen += 1
    assert seen, "nothing was compared"
    if found:
        sys.exit("\n".join(found))


def frames(n=50):
    """pandas frames that need the schema's metadata to come back."""
    import pandas as pd

    rng = np.random.default_rng(5)
    made = {
        "named_index": pd.DataFrame({"a": range(n), "b": rng.normal(size=n)}, index=pd.Index([f"k{i}" for i in range(n)], name="key")),
        "range_index": pd.DataFrame({"a": range(n)}, index=pd.RangeIndex(10, 10 + 2 * n, 2, name="steps")),
        "unnamed_index": pd.DataFrame({"a": range(n)}, index=rng.permutation(n)),
        "time_index": pd.DataFrame({"a": range(n)}, index=pd.date_range("2020-01-01", periods=n, tz="Europe/Berlin", name="when")),
        "multi_index": pd.DataFrame({"v": range(n)}, index=pd.MultiIndex.from_product([list("abcde"), range(n // 5)], names=["x", "y"])),
        "columns": pd.DataFrame(
            {
                "i": pd.array([None if i % 5 == 2 else i for i in range(n)], dtype="Int64"),
                "u": pd.array([None if i % 7 == 2 else i for i in range(n)], dtype="UInt8"),
                "f": pd.array([None if i % 5 == 2 else i / 3 for i in range(n)], dtype="Float32"),
                "b": pd.array([None if i % 4 == 2 else i % 2 == 0 for i in range(n)], dtype="boolean"),
                "s": pd.array([None if i % 4 == 2 else str(i) for i in range(n)], dtype="string"),
                "o": ["x" * (i % 4) for i in range(n)],
                "t": pd.date_range("1970-01-01", periods=n, freq="17min"),
                "z": pd.date_range("2024-03-30", periods=n, freq="h", tz="America/New_York"),
                "d": pd.to_timedelta(range(n), unit="s"),
                "c": pd.Categorical([["lo", "hi"][i % 2] for i in range(n)], categories=["hi", "mid", "lo", "none"], ordered=True),
                "k": pd.Categorical([None if i % 3 == 0 else "abc"[i % 3] for i in range(n)], categories=["c", "b", "a"]),
            }
        ),
        "empty": pd.DataFrame({"a": pd.array([], dtype="int32"), "c": pd.Categorical([], categories=["x", "y"])}),
    }
    return made


def write_frames(kind):
    for name, frame in frames().items():
        path = f"frame-{name}.{kind}"
        if kind == "parquet":
            frame.to_parquet(path)
        else:
            pa_table = pa.Table.from_pandas(frame)
            feather.write_feather(pa_table, path)
        print(path)


def compare_frames(kind, prefix="out-"):
    import pandas as pd

    read = pd.read_parquet if kind == "parquet" else pd.read_feather
    for name, frame in frames().items():
        path = f"frame-{name}.{kind}"
        expected, got = read(path), read(prefix + path)
        pd.testing.assert_frame_equal(expected, got, check_freq=False)
        for column in expected.columns:
            if isinstance(expected[column].dtype, pd.CategoricalDtype):
                assert list(expected[column].cat.categories) == list(got[column].cat.categories), (name, column)
        if name == "columns":
            assert list(got["c"].cat.categories) == ["hi", "mid", "lo", "none"] and got["c"].cat.ordered


def polars_frame(n=200):
    import polars as pl

    return pl.DataFrame(
        {
            "i": range(n),
            "f": [None if i % 9 == 0 else i / 7 for i in range(n)],
            "s": [None if i % 5 == 0 else f"w{i % 11}" for i in range(n)],
            "b": [i % 3 == 0 for i in range(n)],
            "d": [dt.date(2020, 1, 1) + dt.timedelta(days=i) for i in range(n)],
            "t": [dt.datetime(2020, 1, 1) + dt.timedelta(seconds=i) for i in range(n)],
            "u": [dt.timedelta(seconds=i) for i in range(n)],
            "n": [dt.time(i % 24, i % 60) for i in range(n)],
            "c": pl.Series([f"c{i % 4}" for i in range(n)], dtype=pl.Categorical),
            "e": pl.Series(["x" if i % 2 else "z" for i in range(n)], dtype=pl.Enum(["z", "y", "x"])),
            "a": pl.Series([[i, i + 1, i + 2] for i in range(n)], dtype=pl.Array(pl.Float32, 3)),
            "l": pl.Series([list(range(i % 4)) for i in range(n)], dtype=pl.List(pl.Int16)),
            "st": [{"x": i, "y": str(i)} for i in range(n)],
            "bin": [bytes([i % 256, 0]) for i in range(n)],
            "dec": pl.Series([decimal.Decimal(i) / 100 for i in range(n)], dtype=pl.Decimal(12, 2)),
            "i128": pl.Series([i for i in range(n)], dtype=pl.UInt8),
        }
    )


def write_others(kind):
    import duckdb

    frame = polars_frame()
    if kind == "parquet":
        frame.write_parquet("polars.parquet")
        frame.write_parquet("polars-small.parquet", row_group_size=37, compression="lz4", statistics=False)
        duckdb.sql(
            """copy (select range::tinyint as i8, range::double / 3 as f8, (range % 7)::varchar as s, date '2020-01-01' + range::int as d,
            timestamp '2020-01-01' + to_seconds(range) as t, timestamptz '2020-01-01 00:00:00+00' + to_seconds(range) as z,
            (range / 8)::decimal(18, 3) as dec, case when range % 3 = 0 then null else range end as n, range::hugeint::double as h,
            [range, range + 1] as l, {'a': range, 'b': 'x'} as st, interval 1 second * 0 is null as b, uuid() as id, 'blob'::blob as bl,
            (range % 3 = 0) as flag, ('a' || (range % 2))::enum('a0', 'a1') as en, range::utinyint as u1, time '00:00:01' + to_seconds(range) as tt
            from range(100)) to 'duckdb.parquet' (format parquet, row_group_size 40, codec 'zstd')"""
        )
        print("polars.parquet\npolars-small.parquet\nduckdb.parquet")
    else:
        frame.write_ipc("polars.arrow", compression="lz4")
        frame.write_ipc("polars-plain.arrow", compression="uncompressed")
        frame.write_ipc_stream("polars.arrows")
        print("polars.arrow\npolars-plain.arrow\npolars.arrows")


def compare_others(kind, prefix="out-"):
    import duckdb
    import polars as pl

    frame = polars_frame()
    if kind == "parquet":
        for path in ("polars.parquet", "polars-small.parquet"):
            got = pl.read_parquet(prefix + path)
            assert got.schema == pl.read_parquet(path).schema, (got.schema, frame.schema)
            assert got.equals(pl.read_parquet(path)), path
            assert list(got["e"].dtype.categories) == ["z", "y", "x"]
        same_rows = "select count(*) from ((from '{0}' except from '{1}') union all (from '{1}' except from '{0}'))"
        for path in ("duckdb.parquet", "polars.parquet"):
            differ = duckdb.sql(same_rows.format(path, prefix + path)).fetchall()[0][0]
            assert differ == 0, (path, differ)
            a, b = (duckdb.sql(f"describe from '{p}'").fetchall() for p in (path, prefix + path))
            assert a == b, (a, b)
    else:
        for path in ("polars.arrow", "polars-plain.arrow", "polars.arrows"):
            read = pl.read_ipc_stream if path.endswith("s") else pl.read_ipc
            a, b = read(path), read(prefix + path)
            assert a.schema == b.schema, (a.schema, b.schema)
            assert a.equals(b), path


def write_lists(rows=700, width=6):
    """Lists in every form that pages and codecs give them, beside their plain bytes."""
    rng = np.random.default_rng(1)
    for t in ("float32", "float64", "int8", "bool", "float16"):
        values = (rng.normal(size=(rows, width)) * 50).astype(t)
        values.tofile(f"{t}.bin")
        flat = pa.array(values.reshape(-1))
        offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * width)
        table = pa.table({"x": pa.ListArray.from_arrays(offsets, flat)})
        for codec in ("none", "snappy", "gzip", "zstd", "lz4", "brotli") if t == "float32" else ("snappy",):
            for version in ("1.0", "2.0"):
                for dictionary in (True, False):
                    path = f"{t}-{codec}-{version[0]}-{int(dictionary)}.parquet"
                    options = dict(compression=codec, data_page_version=version, use_dictionary=dictionary)
                    pq.write_table(table, path, data_page_size=300, write_batch_size=16, row_group_size=300, **options)
                    print(path)
    big = pa.ListArray.from_arrays(offsets, pa.array(rng.normal(size=rows * width)))
    np.asarray(big.flatten()).tofile("split.bin")
    pq.write_table(pa.table({"x": big}), "split-stream_split.parquet", use_dictionary=False, column_encoding="BYTE_STREAM_SPLIT", data_page_size=64)
    print("split-stream_split.parquet")


def write_int96():
    fine = pa.array([0, 1_600_000_000_123_456, None, -5], pa.timestamp("us"))
    wide = pa.array([dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999999), None, dt.datetime(2020, 1, 1)], pa.timestamp("us"))
    pq.write_table(pa.table({"fine": fine, "wide": wide}), "int96.parquet", use_deprecated_int96_timestamps=True, store_schema=False)


def check_int96():
    got = pq.read_table("out-int96.parquet")
    assert got.schema.field("fine").type == pa.timestamp("ns") and got.schema.field("wide").type == pa.timestamp("us"), got.schema
    assert got["fine"].cast(pa.timestamp("us")).to_pylist()[:2] == [dt.datetime(1970, 1, 1), dt.datetime(2020, 9, 13, 12, 26, 40, 123456)]
    assert got["wide"].to_pylist() == [dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999999), None, dt.datetime(2020, 1, 1)]


def write_odd(write, path):
    """Columns with parts of their own, among flat ones."""
    table = pa.table(
        {
            "good": [1, 2, 3],
            "map": pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int32())),
            "texts": [["a"], ["b", "c"], []],
            "structs": [[{"x": 1}], [], []],
            "null_struct": pa.array([{"x": 1}, None, {"x": 2}]),
            "inner_null": [[1, None], [2, 3], [4, 5]],
            "ragged_deep": [[[1], [2, 3]], [], [[4]]],
            "also_good": ["x", None, "z"],
        }
    )
    write(table, path)


def write_encrypted():
    """columns.parquet: two of four columns encrypted; footer.parquet: the footer as well."""
    import base64
    import pyarrow.parquet.encryption as pe

    class Keys(pe.KmsClient):
        def __init__(self, connection):
            super().__init__()
            self.keys = connection.custom_kms_conf

        def wrap_key(self, key, name):
            return base64.b64encode(self.keys[name].encode() + key)

        def unwrap_key(self, wrapped, name):
            return base64.b64decode(wrapped)[len(self.keys[name]):]

    connection = pe.KmsConnectionConfig(custom_kms_conf={"footer": "0123456789012345", "column": "1234567890123450"})
    when = pa.array([0, 1, 2], pa.timestamp("ns"))
    table = pa.table({"plain": [1, 2, 3], "secret": ["a", "b", "c"], "also": [1.5, None, 2.5], "when": when})
    factory = pe.CryptoFactory(Keys)
    for name, plain_footer in (("columns.parquet", True), ("footer.parquet", False)):
        config = pe.EncryptionConfiguration(
            "footer", column_keys={"column": ["secret", "when"]}, plaintext_footer=plain_footer,
            encryption_algorithm="AES_GCM_V1", data_key_length_bits=128)
        properties = factory.file_encryption_properties(connection, config)
        with pq.ParquetWriter(name, table.schema, encryption_properties=properties, use_deprecated_int96_timestamps=True) as writer:
            writer.write_table(table)
