"""Whether polars and DuckDB read a nested table that came back: `write` makes it, `check` asks them."""

import decimal
import sys

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

n = 300
def some(values): return [None if i % 7 == 3 else v for i, v in enumerate(values)]
item = pa.struct([('sku', pa.string()), ('price', pa.decimal128(9, 2)), ('tags', pa.list_(pa.string()))])
items = some([[None if j % 3 == 2 else {'sku': f's{j}', 'price': decimal.Decimal(i).scaleb(-2), 'tags': ['x'] * (i % 3) if j else None} for j in range(i % 4)] for i in range(n)])
t = pa.table({
    'id': pa.array(range(n), 'int64'),
    'items': pa.array(items, pa.list_(item)),
    'user': pa.array(some([{'name': f'n{i % 9}', 'at': None if i % 5 == 1 else {'x': i, 'y': [i] * (i % 3)}} for i in range(n)]), pa.struct([('name', pa.string()), ('at', pa.struct([('x', pa.int32()), ('y', pa.list_(pa.int64()))]))])),
    'deep': pa.array(some([[[[1.5] * (i % 3)]] * (i % 2) for i in range(n)]), pa.list_(pa.list_(pa.list_(pa.float32())))),
    'cents': pa.array(some([decimal.Decimal(i * 10**15).scaleb(-4) for i in range(n)]), pa.decimal128(30, 4)),
    'when': pa.array(some([[i * 1000, None][: i % 3] for i in range(n)]), pa.list_(pa.timestamp('us'))),
    'map': pa.array(some([[(f'k{j}', j) for j in range(i % 3)] for i in range(n)]), pa.map_(pa.string(), pa.int32())),
})
if sys.argv[1] == 'write':
    pq.write_table(t, 'in.parquet', row_group_size=77); feather.write_feather(t, 'in.feather', chunksize=77)
else:
    whole = t.to_pylist()
    flat = t.drop_columns(['map']).to_pylist()
    back = duckdb.sql("select * from 'back.parquet'").fetchall()
    names = duckdb.sql("select * from 'back.parquet'").columns
    assert names == t.column_names
    for a, b in zip(back, whole):
        b = dict(b); b['map'] = None if b['map'] is None else dict(b['map'])
        assert dict(zip(names, a)) == b, (a, b)
    assert len(back) == n
    for frame in (pl.read_parquet('back.parquet', columns=t.drop_columns(['map']).column_names), pl.read_ipc('flat.feather')):
        got = frame.to_dicts()
        for a, b in zip(got, flat): assert a == b, (a, b)
        assert len(got) == n
