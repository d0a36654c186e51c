"""The functions of ``numpack.io`` under their names and parameters, without their limits: names, types,
nulls and time zones are kept, tables come back as they were, and large files stream.

``from_xx(data, npk_path)`` and ``to_xx(npk_path)`` are for what is in memory, ``from_xx_file`` and
``to_xx_file`` for files. A store that exists gets the arrays added (one of the same name is replaced);
``drop_if_exists=True`` replaces the store. ``chunk_size`` is the memory for data in flight, in bytes.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from . import File, Store, _arrays, _table, convert
from . import open as _open
from ._arrays import need
from ._errors import DependencyError, MissingError, RefusedError

LARGE_FILE_THRESHOLD = 1024 * 1024 * 1024
DEFAULT_CHUNK_SIZE = 100 * 1024 * 1024
DEFAULT_BATCH_ROWS = 100000


# What all of them share.

def _is_store(path):
    return os.path.exists(os.path.join(os.fspath(path), "metadata.npkm"))


def _store(path, drop_if_exists):
    """A store to write into."""
    path = os.fspath(path)
    if drop_if_exists:
        return Store(path, "replace")
    return Store(path, "edit" if _is_store(path) else "create")


def _done(path, return_npk_obj):
    return NumPack(path) if return_npk_obj else None


def _from(source, target, format, drop_if_exists, chunk_size, return_npk_obj=False, **options):
    """A file into a store."""
    if drop_if_exists:
        options["force"] = True
    elif _is_store(target):
        options.update(if_exists="merge", force=True)
    convert(source, target, from_=format, to="npk", memory_limit=_memory(chunk_size), **options)
    return _done(target, return_npk_obj)


def _to(source, target, format, chunk_size, **options):
    """A store into a file, which is replaced."""
    convert(source, target, from_="npk", to=format, memory_limit=_memory(chunk_size), force=True, **options)


def _memory(chunk_size):
    return None if chunk_size in (None, DEFAULT_CHUNK_SIZE) else max(int(chunk_size), 1 << 20)


def _one(file, array_name):
    """The array of this name, or the only one."""
    if array_name is not None:
        return file[array_name]
    names = file.names()
    if len(names) != 1:
        raise RefusedError(f"there are {len(names)} arrays: {', '.join(names[:8])}", hint="give array_name")
    return file[names[0]]


def _chosen(file, array_name):
    """The arrays of a table: one array, or the columns below its name."""
    names = file.names()
    if array_name is None:
        for matrix, columns in file.tables():
            if {matrix} if matrix else {array for array, _ in columns} == set(names):
                return names, ""
        if len(names) == 1:
            return names, ""
        tops = {name.partition("/")[0] for name in names}
        if len(tops) == 1 and all("/" in name for name in names):
            return names, tops.pop() + "/"
        raise RefusedError(f"there are {len(names)} arrays: {', '.join(names[:8])}", hint="give array_name")
    if array_name in names:
        return [array_name], ""
    below = [name for name in names if name.startswith(array_name + "/")]
    if not below:
        file[array_name]  # says what there is
    return below, array_name + "/"


class _Stream:
    def __init__(self, capsule):
        self.capsule = capsule

    def __arrow_c_stream__(self, requested_schema=None):
        return self.capsule


def _write_table(path, table, array_name, columns, drop_if_exists):
    name = array_name or "data"
    if columns is not None:
        table = table.select(columns) if hasattr(table, "select") else table[list(columns)]
    with _store(path, drop_if_exists) as store:
        for old in store.names():
            if old == name or old.startswith(name + "/"):
                store.remove(old)
        store.write_table(name, _table(table))


def get_file_size(path):
    """Bytes of a file, or of all files below a folder."""
    path = Path(path)
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def is_large_file(path, threshold=LARGE_FILE_THRESHOLD):
    return get_file_size(path) > threshold


def estimate_chunk_rows(shape, dtype, target_chunk_bytes=DEFAULT_CHUNK_SIZE):
    """Rows of about this many bytes."""
    if len(shape) == 0:
        return 1
    row = need("numpy").dtype(dtype).itemsize
    for d in shape[1:]:
        row *= d
    return max(1, min(target_chunk_bytes // max(row, 1), shape[0]))


# PyTorch

def from_torch(tensor, output_path, array_name=None, drop_if_exists=False, return_npk_obj=False):
    """Saves a tensor."""
    need("torch")
    with _store(output_path, drop_if_exists) as store:
        store.write(array_name or "data", tensor, replace=True)
    return _done(output_path, return_npk_obj)


def to_torch(input_path, array_name=None, device=None, dtype=None):
    """An array as a tensor. On the CPU it shares the store's pages, privately: writing to it changes no
    file."""
    need("torch")
    tensor = _arrays.torch_of(_one(_open(input_path), array_name))
    if dtype is not None or device is not None:
        tensor = tensor.to(device=device, dtype=dtype)
    return tensor


def from_torch_file(input_path, output_path, key=None, drop_if_exists=False,
                    chunk_size=DEFAULT_CHUNK_SIZE, return_npk_obj=False):
    """A .pt file into a store. It is read as data: nothing in it is run."""
    return _from(input_path, output_path, "pt", drop_if_exists, chunk_size, return_npk_obj, key=key)


def to_torch_file(input_path, output_path, array_names=None, as_dict=True, chunk_size=DEFAULT_CHUNK_SIZE):
    _to(input_path, output_path, "pt", chunk_size, array=array_names, single=not as_dict)


# Arrow, Feather, Parquet

def from_arrow(table, output_path, array_name=None, columns=None, drop_if_exists=False,
               return_npk_obj=False):
    """Saves a table: a matrix where all columns are of one numeric type without nulls, else an array a
    column, ``array_name/column``. Names, types, nulls and metadata come back with :func:`to_arrow`."""
    _write_table(output_path, table, array_name, columns, drop_if_exists)
    return _done(output_path, return_npk_obj)


def to_arrow(input_path, array_name=None, column_names=None):
    """A table: the saved one with its names and types, or the columns of a matrix."""
    pa = need("pyarrow")
    file = _open(input_path)
    names, prefix = _chosen(file, array_name)
    table = pa.table(_Stream(file.stream(names)))
    if column_names is None:
        column_names = [n.removeprefix(prefix) for n in table.column_names]
    if list(column_names) == table.column_names:
        return table
    metadata = table.schema.metadata
    return table.rename_columns(list(column_names)).replace_schema_metadata(metadata)


def from_parquet_table(table, output_path, array_name=None, columns=None, drop_if_exists=False,
                       return_npk_obj=False):
    return from_arrow(table, output_path, array_name, columns, drop_if_exists, return_npk_obj)


def to_parquet_table(input_path, array_name=None, column_names=None):
    return to_arrow(input_path, array_name, column_names)


def from_feather_file(input_path, output_path, array_name=None, columns=None, drop_if_exists=False,
                      return_npk_obj=False):
    return _from(input_path, output_path, "feather", drop_if_exists, None, return_npk_obj,
                 name=array_name, columns=columns)


def to_feather_file(input_path, output_path, array_name=None, compression="zstd"):
    compression = "none" if compression in (None, "uncompressed") else compression
    _to(input_path, output_path, "feather", None, array=_table_arrays(input_path, array_name),
        compression=compression)


def from_parquet_file(input_path, output_path, array_name=None, columns=None, drop_if_exists=False,
                      chunk_size=DEFAULT_CHUNK_SIZE, return_npk_obj=False):
    return _from(input_path, output_path, "parquet", drop_if_exists, chunk_size, return_npk_obj,
                 name=array_name, columns=columns)


def to_parquet_file(input_path, output_path, array_name=None, compression="snappy", row_group_size=100000,
                    chunk_size=DEFAULT_CHUNK_SIZE):
    _to(input_path, output_path, "parquet", chunk_size, array=_table_arrays(input_path, array_name),
        compression=compression or "none", row_group_size=row_group_size)


def _table_arrays(path, array_name):
    return None if array_name is None else _chosen(_open(path), array_name)[0]


# SafeTensors

def from_safetensors(tensors, output_path, drop_if_exists=False, return_npk_obj=False):
    """Saves a dict of arrays or tensors."""
    with _store(output_path, drop_if_exists) as store:
        store.write_all(tensors, replace=not drop_if_exists)
    return _done(output_path, return_npk_obj)


def to_safetensors(input_path, array_names=None):
    """A dict of numpy arrays: views of the store, but for small ones."""
    file = _open(input_path)
    names = file.names() if array_names is None else list(array_names)
    return dict(zip(names, map(_arrays.numpy_of, file.arrays(names))))


def from_safetensors_file(input_path, output_path, keys=None, drop_if_exists=False,
                          chunk_size=DEFAULT_CHUNK_SIZE, return_npk_obj=False):
    return _from(input_path, output_path, "safetensors", drop_if_exists, chunk_size, return_npk_obj,
                 keys=keys)


def to_safetensors_file(input_path, output_path, array_names=None, metadata=None):
    _to(input_path, output_path, "safetensors", None, array=array_names, metadata=metadata)


def get_safetensors_metadata(path):
    """``{"tensors": {name: {"dtype", "shape"}}, "metadata": {…}}``, of the header alone."""
    file = _open(path, from_="safetensors")
    tensors = {}
    for name in file.names():
        info = file.info(name)
        tensors[name] = {"dtype": info["type"], "shape": list(info["shape"]), "nbytes": info["nbytes"]}
    return {"tensors": tensors, "metadata": file.metadata, "num_tensors": len(tensors),
            "file_size": get_file_size(path)}


def iter_safetensors(path, keys=None):
    """Names and numpy arrays, one at a time."""
    file = _open(path, from_="safetensors")
    for name in file.names() if keys is None else keys:
        yield name, _arrays.numpy_of(file[name])


# NumPy, HDF5, Zarr

def from_numpy(input_path, output_path, array_name=None, drop_if_exists=False,
               chunk_size=DEFAULT_CHUNK_SIZE, return_npk_obj=False):
    return _from(input_path, output_path, "numpy", drop_if_exists, chunk_size, return_npk_obj,
                 name=array_name)


def to_numpy(input_path, output_path, array_names=None, compressed=True, chunk_size=DEFAULT_CHUNK_SIZE,
             *, array_name=None):
    if isinstance(array_names, str):
        array_names = [array_names]
    names = [array_name] if array_name is not None else array_names
    npy = os.fspath(output_path).endswith(".npy")
    if npy and len(names or _open(input_path).names()) > 1:
        raise RefusedError("a .npy file can only store one array", file=os.fspath(output_path),
                           hint="give array_name, or write an .npz")
    options = {} if npy or compressed else {"compression": "none"}
    _to(input_path, output_path, "npy" if npy else "npz", chunk_size, array=names, **options)


def from_hdf5(input_path, output_path, dataset_names=None, group="/", drop_if_exists=False,
              chunk_size=DEFAULT_CHUNK_SIZE, return_npk_obj=False, *, dataset=None):
    names = [dataset] if dataset is not None else dataset_names
    return _from(input_path, output_path, "hdf5", drop_if_exists, chunk_size, return_npk_obj,
                 dataset=names, group=None if group in (None, "/") else group)


def to_hdf5(input_path, output_path, array_names=None, group="/", compression="gzip", compression_opts=4,
            chunk_size=DEFAULT_CHUNK_SIZE):
    if compression == "gzip" and compression_opts is not None:
        compression = f"gzip:{compression_opts}"
    prefix = None if group in (None, "/") else group.strip("/") + "/"
    _to(input_path, output_path, "hdf5", chunk_size, array=array_names, compression=compression or "none",
        add_prefix=prefix)


def from_zarr(input_path, output_path, array_names=None, group="/", drop_if_exists=False,
              chunk_size=DEFAULT_CHUNK_SIZE, return_npk_obj=False):
    return _from(input_path, output_path, "zarr", drop_if_exists, chunk_size, return_npk_obj,
                 array=array_names, group=None if group in (None, "/") else group)


def to_zarr(input_path, output_path, array_names=None, group="/", compressor="default",
            chunk_size=DEFAULT_CHUNK_SIZE):
    compression = None if compressor == "default" else compressor or "none"
    prefix = None if group in (None, "/") else group.strip("/") + "/"
    _to(input_path, output_path, "zarr", chunk_size, array=array_names, compression=compression,
        add_prefix=prefix)


# Text

def _read_text(path, target, format, name, drop, dtype, delimiter, skip, rows, header, chunk, obj, options):
    if dtype is not None:
        dtype = need("numpy").dtype(dtype).name
        options["lossy"] = True
    header = {None: "no", False: "no", 0: "yes", True: "yes"}.get(header, header)
    return _from(path, target, format, drop, chunk, obj, name=name, dtype=dtype, delimiter=delimiter,
                 skip_rows=skip or None, max_rows=rows, header=header, **options)


def from_csv(input_path, output_path, array_name=None, drop_if_exists=False, dtype=None, delimiter=",",
             skiprows=0, max_rows=None, chunk_size=DEFAULT_CHUNK_SIZE, return_npk_obj=False,
             header="auto", skip_header=0, **options):
    """``header``: "auto", or as pandas has it: None for no header, 0 for one."""
    return _read_text(input_path, output_path, "csv", array_name, drop_if_exists, dtype, delimiter,
                      skiprows or skip_header, max_rows, header, chunk_size, return_npk_obj, options)


def from_txt(input_path, output_path, array_name=None, drop_if_exists=False, dtype=None, delimiter=None,
             skiprows=0, chunk_size=DEFAULT_CHUNK_SIZE, return_npk_obj=False, header="auto",
             skip_header=0, max_rows=None, **options):
    return _read_text(input_path, output_path, "txt", array_name, drop_if_exists, dtype, delimiter,
                      skiprows or skip_header, max_rows, header, chunk_size, return_npk_obj, options)


def _write_text(path, target, format, name, delimiter, header, fmt, chunk_size, options):
    names = None if name is None else _table_arrays(path, name)
    _to(path, target, format, chunk_size, array=names, delimiter=delimiter,
        header="yes" if header else "no", float_format=fmt, **options)


def to_csv(input_path, output_path, array_name=None, delimiter=",", header=False, fmt=None,
           chunk_size=DEFAULT_CHUNK_SIZE, **options):
    """``fmt``: as numpy.savetxt has it; without it the shortest text that reads back exactly."""
    _write_text(input_path, output_path, "csv", array_name, delimiter, header, fmt, chunk_size, options)


def to_txt(input_path, output_path, array_name=None, delimiter=" ", fmt=None,
           chunk_size=DEFAULT_CHUNK_SIZE, header=False, **options):
    _write_text(input_path, output_path, "txt", array_name, delimiter, header, fmt, chunk_size, options)


# pandas

def from_pandas(df, output_path, array_name="data", drop_if_exists=False, chunk_size=DEFAULT_CHUNK_SIZE,
                return_npk_obj=False):
    """Saves a DataFrame, with its index and types."""
    _write_table(output_path, df, array_name, None, drop_if_exists)
    return _done(output_path, return_npk_obj)


def to_pandas(input_path, array_name=None, columns=None):
    """A DataFrame: the saved one, or the columns of a matrix (under ``columns``, where given)."""
    need("pandas")
    frame = to_arrow(input_path, array_name).to_pandas()
    if columns is not None:
        frame.columns = list(columns)
    return frame


# Object storage

def from_s3(s3_path, output_path, format="auto", drop_if_exists=False, chunk_size=DEFAULT_CHUNK_SIZE,
            return_npk_obj=False, **s3_kwargs):
    format = None if format == "auto" else format
    return _from(s3_path, output_path, format, drop_if_exists, chunk_size, return_npk_obj,
                 **_remote(s3_kwargs))


def to_s3(input_path, s3_path, format="auto", array_name=None, chunk_size=DEFAULT_CHUNK_SIZE, **s3_kwargs):
    ending = os.path.splitext(s3_path)[1].lstrip(".").lower()
    text = {"csv": to_csv, "txt": to_txt}.get(ending if format == "auto" else format)
    if text is not None:
        text(input_path, s3_path, array_name, chunk_size=chunk_size, **_remote(s3_kwargs))
        return
    format = None if format == "auto" else format
    _to(input_path, s3_path, format, chunk_size, array=array_name, **_remote(s3_kwargs))


def _remote(kwargs):
    """Arguments of s3fs.S3FileSystem as options."""
    options = {}
    client = dict(kwargs.pop("client_kwargs", None) or {})
    for name, value in {**client, **kwargs}.items():
        if name == "anon":
            options["no_sign_request"] = bool(value)
        elif name in ("endpoint_url", "profile", "retries"):
            options[name] = value
        elif name in ("region_name", "region"):
            options["region"] = value
        elif name == "requester_pays":
            options["request_payer"] = bool(value)
        elif name == "verify" and value is False:
            options["no_verify_ssl"] = True
        elif name in ("key", "secret", "token"):
            raise TypeError(f"{name}= is not taken as an argument: set AWS_ACCESS_KEY_ID, "
                            "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or give profile=")
        elif value is not None:
            raise TypeError(f"'{name}' of s3fs is not known here")
    return options


# Packages

def pack(source, target=None, compression=True, overwrite=False):
    target = target or str(source).removesuffix(".npk") + ".npkg"
    convert(source, target, from_="npk", to="npkg", force=overwrite,
            compression=None if compression else "none")
    return target


def unpack(source, target=None, overwrite=False, verify=True):
    target = target or str(source).removesuffix(".npkg") + ".npk"
    convert(source, target, from_="npkg", to="npk", force=overwrite, verify=verify)
    return target


def get_package_info(source):
    file = _open(source, from_="npkg")
    return {"arrays": {name: file.info(name) for name in file.names()}, "file_size": get_file_size(source)}


# Without a copy

class _Capsule:
    """A bare DLPack capsule, as the libraries take it."""

    def __init__(self, capsule):
        self.capsule = capsule

    def __dlpack__(self, **_):
        return self.capsule

    def __dlpack_device__(self):
        return 1, 0


class DLPackBuffer:
    """An array that gives DLPack capsules of its memory."""

    kDLCPU = 1

    def __init__(self, array):
        np = need("numpy")
        if not array.flags.c_contiguous:
            warnings.warn("the array is not C-contiguous: it is copied", stacklevel=2)
        self.array = np.ascontiguousarray(array)

    def __dlpack__(self, **kwargs):
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    @staticmethod
    def from_dlpack(data):
        return from_dlpack(data)


def to_dlpack(array):
    return DLPackBuffer(array)


def from_dlpack(data):
    """A numpy array of the same memory, from anything with ``__dlpack__`` or a bare capsule."""
    np = need("numpy")
    return np.from_dlpack(data if hasattr(data, "__dlpack__") else _Capsule(data))


def numpy_to_arrow_zero_copy(array, name="data"):
    """An Arrow array of the same memory: of several dimensions as fixed-size lists, whose shape
    :func:`arrow_to_numpy_zero_copy` restores. (Arrow's bools are bits: those are copied.)"""
    np, pa = need("numpy"), need("pyarrow")
    array = np.ascontiguousarray(array)
    flat = array.reshape(-1)
    if array.dtype.kind in "biufmM" and array.dtype.kind != "b":
        arrow_type = pa.from_numpy_dtype(array.dtype)
        made = pa.Array.from_buffers(arrow_type, flat.size, [None, pa.py_buffer(flat)])
    else:
        made = pa.array(flat)
    for d in reversed(array.shape[1:]):
        made = pa.FixedSizeListArray.from_arrays(made, d)
    return made


def arrow_to_numpy_zero_copy(arrow_array, writable=False):
    """A numpy array of the same memory, where Arrow's type and nulls allow it; else a copy."""
    pa = need("pyarrow")
    if isinstance(arrow_array, pa.ChunkedArray):
        arrow_array = arrow_array.combine_chunks()
        if isinstance(arrow_array, pa.ChunkedArray):
            arrow_array = arrow_array.chunk(0)
    shape, flat = [len(arrow_array)], arrow_array
    while pa.types.is_fixed_size_list(flat.type) and flat.null_count == 0:
        shape.append(flat.type.list_size)
        flat = flat.flatten()
    simple = flat.null_count == 0 and pa.types.is_primitive(flat.type) and not pa.types.is_boolean(flat.type)
    if not simple:
        warnings.warn(f"Zero-copy conversion from Arrow failed: {flat.type} with {flat.null_count} nulls "
                      "has another form in numpy, and is copied", stacklevel=2)
    values = flat.to_numpy(zero_copy_only=simple)
    values = values.reshape(shape) if len(shape) > 1 else values
    return values.copy() if writable and not values.flags.writeable else values


def table_to_numpy_zero_copy(table, column=None):
    if column is not None:
        return arrow_to_numpy_zero_copy(table.column(column))
    return {name: arrow_to_numpy_zero_copy(table.column(name)) for name in table.column_names}


def numpy_to_torch_zero_copy(array, device=None):
    tensor = need("torch").from_numpy(array)
    return tensor if device is None else tensor.to(device)


def torch_to_numpy_zero_copy(tensor):
    return tensor.detach().cpu().numpy()


class ZeroCopyArray:
    """A numpy array that others share."""

    def __init__(self, array):
        self._array = need("numpy").asarray(array)

    array = property(lambda self: self._array)
    shape = property(lambda self: self._array.shape)
    dtype = property(lambda self: self._array.dtype)
    nbytes = property(lambda self: self._array.nbytes)

    def __array__(self, dtype=None, copy=None):
        array = self._array if dtype is None else self._array.astype(dtype, copy=False)
        return array.copy() if copy else array

    def __dlpack__(self, **kwargs):
        return self._array.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()

    def to_torch(self, device=None):
        return numpy_to_torch_zero_copy(self._array, device)

    def to_arrow(self):
        return numpy_to_arrow_zero_copy(self._array)

    def to_dlpack(self):
        return to_dlpack(self._array)

    @classmethod
    def from_torch(cls, tensor):
        return cls(torch_to_numpy_zero_copy(tensor))

    @classmethod
    def from_arrow(cls, array):
        return cls(arrow_to_numpy_zero_copy(array))

    @classmethod
    def from_dlpack(cls, data):
        return cls(from_dlpack(data))


def wrap_for_zero_copy(array):
    return ZeroCopyArray(array)


# The store as NumPack's class has it, as far as the guide uses it.

class NumPack:
    """A store under the names of ``numpack.NumPack``: ``save``, ``load``, ``get_member_list``, …"""

    def __init__(self, filename, drop_if_exists=False, **_):
        self.path = os.fspath(filename)
        if drop_if_exists and _is_store(self.path):
            Store(self.path, "replace").commit()
        elif not os.path.exists(self.path):
            Store(self.path, "create").commit()

    def save(self, arrays, **_):
        with Store(self.path, "update") as store:
            store.write_all(arrays, replace=True)

    def load(self, array_name, lazy=False):
        values = _arrays.numpy_of(_open(self.path)[array_name])
        return values if lazy else values.copy()

    def append(self, arrays):
        Store(self.path, "edit").append(arrays)

    def drop(self, names, indexes=None):
        if indexes is not None:
            raise NotImplementedError("rows are deleted by NumPack itself")
        with Store(self.path, "edit") as store:
            for name in [names] if isinstance(names, str) else names:
                store.remove(name)

    def get_member_list(self):
        return list(_open(self.path).names())

    def has_array(self, name):
        return name in _open(self.path)

    def get_shape(self, array_name=None):
        file = _open(self.path)
        if array_name is not None:
            return file.info(array_name)["shape"]
        return {name: file.info(name)["shape"] for name in file.names()}

    def open(self):
        return None

    def close(self):
        return None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


# The names of other versions of NumPack.
from_pytorch = from_pt = from_torch_file
to_pytorch = to_pt = to_torch_file
from_tensor, to_tensor = from_torch, to_torch
from_table, to_table = from_arrow, to_arrow
from_feather, to_feather = from_feather_file, to_feather_file
from_parquet, to_parquet = from_parquet_file, to_parquet_file
from_tensor_dict, to_tensor_dict = from_safetensors, to_safetensors
from_npy, to_npy = from_numpy, to_numpy
from_dataframe, to_dataframe = from_pandas, to_pandas

__all__ = [name for name in list(globals()) if not name.startswith("_") and name not in (
    "annotations", "os", "warnings", "Path", "need", "convert", "File", "Store", "MissingError", "RefusedError")]
