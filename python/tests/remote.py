"""Object storage from Python, in both directions: what npk wrote is read by pyarrow, s3fs and botocore, and what they
wrote by npk. Their server is found by the environment's AWS_ENDPOINT_URL; it has the buckets `my-bucket` and
`public-bucket`, and in that one data.csv.

    python remote.py OUT-FOLDER
"""

import io
import os
import sys

import numpy as np

import npk
import npk.io
from guide import blocks, changed

SERVER = os.environ["AWS_ENDPOINT_URL"]


def s3fs():
    import s3fs

    return s3fs.S3FileSystem(endpoint_url=SERVER)


def arrow():
    import pyarrow.fs as fs

    return fs.S3FileSystem(access_key=os.environ["AWS_ACCESS_KEY_ID"], secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
                           endpoint_override=SERVER.removeprefix("http://"), scheme="http", region="us-east-1")


def botocore():
    import botocore.session

    return botocore.session.get_session().create_client("s3", endpoint_url=SERVER, region_name="us-east-1")


def what_others_wrote():
    import pyarrow as pa
    import pyarrow.feather
    import pyarrow.parquet as pq

    data = np.arange(60, dtype="f4").reshape(20, 3)
    buffer = io.BytesIO()
    np.save(buffer, data)
    s3fs().pipe("my-bucket/in/ü 1.npy", buffer.getvalue())
    file = npk.open("s3://my-bucket/in/ü 1.npy")
    (name,) = file.names()
    np.testing.assert_array_equal(file[name], data)
    np.testing.assert_array_equal(file.rows(name, 3, 5), data[3:5])
    assert file.info(name)["shape"] == (20, 3) and file[name].is_copy

    table = pa.table({"n": [1, None, 3], "s": ["a", None, "ü"]})
    pq.write_table(table, "my-bucket/in/t.parquet", filesystem=arrow())
    assert pa.table(npk.open("s3://my-bucket/in/t.parquet")).to_pydict() == table.to_pydict()
    npk.io.from_s3("s3://my-bucket/in/t.parquet", "t.npk")
    assert npk.io.to_arrow("t.npk").to_pydict() == table.to_pydict()

    out = pa.BufferOutputStream()
    pyarrow.feather.write_feather(table, out)
    botocore().put_object(Bucket="my-bucket", Key="in/no-ending", Body=out.getvalue().to_pybytes())
    npk.io.from_s3("s3://my-bucket/in/no-ending", "f.npk", format="feather")
    assert npk.io.to_arrow("f.npk").to_pydict() == table.to_pydict()
    npk.convert("s3://my-bucket/in/t.parquet", "s3://my-bucket/out/t.feather")
    with arrow().open_input_file("my-bucket/out/t.feather") as made:
        assert pyarrow.feather.read_table(made).to_pydict() == table.to_pydict()


def what_npk_wrote():
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = np.arange(60, dtype="f8").reshape(20, 3)
    npk.save("input.npk", {"data": data})
    npk.io.to_s3("input.npk", "s3://my-bucket/out/data.npy")
    np.testing.assert_array_equal(np.load(io.BytesIO(s3fs().cat("my-bucket/out/data.npy"))), data)
    npk.io.to_s3("input.npk", "s3://my-bucket/out/text", format="csv")
    body = botocore().get_object(Bucket="my-bucket", Key="out/text")["Body"].read()
    np.testing.assert_array_equal(np.loadtxt(io.BytesIO(body), delimiter=","), data)
    table = pa.table({"n": [1, None, 3], "s": ["a", None, "ü"]})
    npk.save("s3://my-bucket/out/t.parquet", table, compression="zstd")
    assert pq.read_table("my-bucket/out/t.parquet", filesystem=arrow()).to_pydict() == table.to_pydict()

    # A store, as a folder of objects.
    npk.save("s3://my-bucket/out/s.npk", {"w": data, "b": data[:2]})
    np.testing.assert_array_equal(npk.open("s3://my-bucket/out/s.npk")["w"], data)
    listed = s3fs().ls("my-bucket/out/s.npk", detail=False)
    assert any(name.endswith("metadata.npkm") for name in listed), listed
    try:
        npk.save("s3://my-bucket/out/s.npk", {"w": data})
        raise AssertionError("it exists")
    except npk.ExistsError:
        pass
    npk.save("s3://my-bucket/out/s.npk", {"w": data + 1}, overwrite=True)
    assert npk.open("s3://my-bucket/out/s.npk").names() == ["w"]
    npk.io.from_s3("s3://my-bucket/out/s.npk", "back.npk")
    np.testing.assert_array_equal(npk.open("back.npk")["w"], data + 1)


def errors():
    def kind(call):
        try:
            call()
        except npk.Error as e:
            return type(e)
        raise AssertionError("an error was expected")

    assert kind(lambda: npk.open("s3://my-bucket/none.npy")) is npk.NotFoundError
    assert kind(lambda: npk.open("s3://my-bucket/in/t.parquet", anon=True)) is npk.RemoteError
    assert kind(lambda: npk.Store("s3://my-bucket/new.npk")) is npk.RefusedError
    assert not os.path.exists("s3:"), os.listdir(".")
    for given in ({"key": "a"}, {"no_such": 1}):
        try:
            npk.io.from_s3("s3://my-bucket/in/t.parquet", "x.npk", **given)
            raise AssertionError("it was taken")
        except TypeError as e:
            assert next(iter(given)) in str(e)
    client = {"endpoint_url": SERVER, "region_name": "us-east-1"}
    npk.io.from_s3("s3://public-bucket/data.csv", "p.npk", anon=True, client_kwargs=client)
    assert not os.path.exists("x.npk") and os.path.exists("p.npk")


def the_guide():
    """Its block, with only the import changed."""
    import pyarrow.parquet as pq

    data = np.arange(60, dtype="f8").reshape(20, 3)
    buffer = io.BytesIO()
    np.save(buffer, data)
    s3fs().pipe("my-bucket/data.npy", buffer.getvalue())
    npk.save("input.npk", {"data": data}, overwrite=True)
    ((heading, code),) = [(heading, code) for heading, code in blocks() if "s3://" in code]
    exec(compile(changed(code), heading, "exec"), {})
    # Both of its files are called data: the second has taken the place of the first.
    np.testing.assert_array_equal(npk.open("output.npk")["data"], [[1.5, 2], [3, 4.25]])
    table = pq.read_table("my-bucket/output.parquet", filesystem=arrow())
    np.testing.assert_array_equal(np.column_stack(table.columns), data)
    text = s3fs().cat("my-bucket/output.csv")
    np.testing.assert_array_equal(np.loadtxt(io.BytesIO(text), delimiter=","), data)


def main(folder):
    os.chdir(folder)
    for check in (what_others_wrote, what_npk_wrote, errors, the_guide):
        check()
        print(f"ok: {check.__name__}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
