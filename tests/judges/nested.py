"""Tables of random nested types with random nulls, and whether they come back."""

import decimal
import glob
import os
import random
import string
import sys

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

LEAVES = [
    pa.int8(), pa.int64(), pa.uint16(), pa.float32(), pa.float64(), pa.bool_(), pa.string(), pa.large_string(),
    pa.binary(), pa.decimal128(9, 2), pa.decimal128(30, 4), pa.timestamp("us"), pa.timestamp("ns", "UTC"), pa.date32(),
    pa.time64("us"), pa.duration("ms"), pa.dictionary(pa.int16(), pa.string()), pa.dictionary(pa.int32(), pa.string()),
]


def random_type(r, depth):
    if depth == 0 or r.random() < 0.25:
        return r.choice(LEAVES)

    def field(name):
        return pa.field(name, random_type(r, depth - 1), nullable=r.random() < 0.8)

    kind = r.choice(["list", "list", "large", "fixed", "struct", "struct", "map"])
    if kind == "list":
        return pa.list_(field("item"))
    if kind == "large":
        return pa.large_list(field("element"))
    if kind == "fixed":
        return pa.list_(field("item"), r.randint(1, 3))
    if kind == "struct":
        return pa.struct([field(c) for c in "abc"[: r.randint(1, 3)]])
    return pa.map_(pa.string() if r.random() < 0.7 else pa.int32(), field("value"))


def random_value(r, t, nullable):
    if nullable and r.random() < 0.2:
        return None
    of = pa.types

    def item(field):
        return random_value(r, field.type, field.nullable)

    if of.is_map(t):
        keys = {random_value(r, t.key_type, False) for _ in range(r.choice([0, 1, 3]))}
        return [(k, item(t.item_field)) for k in sorted(keys)]
    if of.is_fixed_size_list(t):
        return [item(t.value_field) for _ in range(t.list_size)]
    if of.is_list(t) or of.is_large_list(t):
        return [item(t.value_field) for _ in range(r.choice([0, 0, 1, 2, 5]))]
    if of.is_struct(t):
        return {f.name: item(f) for f in t}
    if of.is_dictionary(t):
        return r.choice(["x", "yy", "zzz", "", "é"])
    if of.is_boolean(t):
        return r.random() < 0.5
    if of.is_decimal(t):
        return decimal.Decimal(r.randint(-(10 ** (t.precision - 1)), 10 ** (t.precision - 1))).scaleb(-t.scale)
    if of.is_integer(t):
        return r.randint(0, 100)
    if of.is_floating(t):
        return r.randint(-100, 100) / 4
    if of.is_string(t) or of.is_large_string(t):
        return "".join(r.choice(string.ascii_letters + "äö") for _ in range(r.randint(0, 6)))
    if of.is_binary(t):
        return bytes(r.randint(0, 255) for _ in range(r.randint(0, 4)))
    if of.is_date32(t):
        return r.randint(-1000, 1000)
    return r.randint(0, 10**9)


def table(seed, least=0):
    r = random.Random(seed)
    rows = max(r.choice([0, 1, 3, 50, 200]), least)
    fields, columns = [], []
    for i in range(r.randint(1, 4)):
        t = random_type(r, 3)
        field = pa.field(f"c{i}", t, nullable=r.random() < 0.8, metadata={"k": "v"} if r.random() < 0.2 else None)
        columns.append(pa.array([random_value(r, t, field.nullable) for _ in range(rows)], t))
        fields.append(field)
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, metadata={"seed": str(seed)}))


def read(path):
    return pq.read_table(path) if path.endswith(".parquet") else feather.read_table(path)


def is_valid(t):
    """pyarrow makes dictionaries without entries whose codes, behind nulls, are 0."""
    try:
        t.validate(full=True)
        return True
    except pa.ArrowInvalid:
        return False


def readable(path):
    """pyarrow cannot read lists of a fixed size that are null from Parquet."""
    try:
        read(path)
        return True
    except pa.ArrowInvalid as e:
        if "Expected all lists to be of size" not in str(e):
            raise
        return False


def write(seeds, least=0):
    """Files `SEED.feather` and, where pyarrow itself reads them again, `SEED.parquet`."""
    for seed in seeds:
        t = table(seed, least)
        compression = ["zstd", "lz4", "uncompressed"][seed % 3]
        feather.write_feather(t, f"{seed}.feather", chunksize=[17, 1000][seed % 2], compression=compression)
        version = "2.0" if seed % 3 == 0 else "1.0"
        try:
            pq.write_table(t, f"{seed}.parquet", row_group_size=37, data_page_version=version)
        except pa.ArrowNotImplementedError:
            os.remove(f"{seed}.parquet")
            continue
        if not readable(f"{seed}.parquet"):
            os.remove(f"{seed}.parquet")


def write_halves(seeds):
    """Files `SEED.feather`, and its rows in two parts, `SEEDa.feather` and `SEEDb.feather`."""
    for seed in seeds:
        t = table(seed, 6)
        cut = random.Random(seed).randint(1, t.num_rows - 1)
        for name, part in ((f"{seed}", t), (f"{seed}a", t.slice(0, cut)), (f"{seed}b", t.slice(cut))):
            feather.write_feather(part.combine_chunks(), f"{name}.feather")


def compare(prefix):
    """Every `PREFIX-SOURCE` has the schema and values of SOURCE."""
    seen = 0
    for back in sorted(glob.glob(f"{prefix}-*")):
        source = back[len(prefix) + 1 :]
        if source.endswith(".feather.parquet"):
            source = source[: -len(".parquet")]
        elif source.endswith(".parquet.feather"):
            source = source[: -len(".feather")]
        if not readable(back):
            continue
        a, b = read(source), read(back)
        # Lists and maps have names of their own in Parquet.
        strict = source.rsplit(".")[-1] == back.rsplit(".")[-1]
        same = a.schema.equals(b.schema, check_metadata=strict) and a.schema.metadata == b.schema.metadata
        if not same:
            sys.exit(f"{back}: {a.schema}\nbecame\n{b.schema}")
        if is_valid(a):
            b.validate(full=True)
        for name in a.column_names:
            if a[name] != b[name]:
                x, y = a[name].to_pylist(), b[name].to_pylist()
                row = next((i for i in range(min(len(x), len(y))) if x[i] != y[i]), None)
                what = "" if row is None else f"row {row}: {x[row]} became {y[row]}"
                sys.exit(f"{back}: {name}: {a[name].type}: {len(x)} and {len(y)} rows; {what}")
        seen += 1
    assert seen > 5, "too few files were compared"


def compare_rows(slices):
    """Every `rows-I-SOURCE`, in either format, holds the rows of SOURCE that the slice of number I takes."""
    seen = 0
    for back in sorted(glob.glob("rows-*")):
        _, i, source = back.split("-", 2)
        if not readable(back):
            continue
        chosen = slice(*[int(part) if part else None for part in slices[int(i)].split(":")])
        a, b = read(source.rsplit("-")[0]), read(back)
        assert a.column_names == b.column_names, back
        for name in a.column_names:
            want, got = a[name].to_pylist()[chosen], b[name].to_pylist()
            assert want == got, f"{back}: {name}: {a[name].type}: {want} became {got}"
        seen += 1
    assert seen > 5, "too few files were compared"
