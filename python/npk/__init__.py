"""Array and table files in and out of memory: NumPy, SafeTensors, PyTorch, Parquet, Feather, HDF5, Zarr,
CSV, TXT, netCDF and NumPack stores, exactly and fast.

>>> import npk
>>> with npk.open("model.safetensors") as f:
...     w = f["layer.weight"]          # a view of the file: numpy, torch and Arrow share its memory
>>> npk.save("model.npk", {"w": w})
>>> npk.convert("model.npk", "model.parquet", compression="zstd")

``npk.io`` has the functions of ``numpack.io`` under their names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping as _Mapping

from . import _npk
from ._errors import (
    CancelledError,
    CorruptError,
    DependencyError,
    Error,
    ExistsError,
    FailedError,
    InternalError,
    MissingError,
    NotFoundError,
    RefusedError,
    RemoteError,
    UsageError,
)
from ._npk import Array, __version__

__all__ = [
    "Array", "CancelledError", "CorruptError", "DependencyError", "Error", "ExistsError", "FailedError",
    "File", "InternalError", "MissingError", "NotFoundError", "RefusedError", "RemoteError", "Store",
    "UsageError", "convert", "io", "open", "save",
]

def _options(options):
    """Keyword arguments as options of the command: ``zarr_format=2`` is ``--zarr-format 2``."""
    given = []
    for name, value in options.items():
        name = name.rstrip("_")
        if value is None or value is False:
            continue
        if value is True:
            given.append((name, None))
        elif isinstance(value, dict):
            given.extend((name, f"{k}={v}") for k, v in value.items())
        elif isinstance(value, (list, tuple)):
            if name in ("column_names", "null_values", "chunk_shape", "shard_shape"):
                given.append((name, ",".join(map(str, value))))
            else:
                given.extend((name, str(v)) for v in value)
        else:
            given.append((name, str(value)))
    return given


class File(_npk.File):
    """An opened file: a mapping of the names of its arrays to :class:`Array`."""

    def __iter__(self):
        return iter(self.names())

    def keys(self):
        return self.names()

    def values(self):
        """The arrays, one at a time."""
        return (self[name] for name in self.names())

    def items(self):
        """Names and arrays, one at a time."""
        return ((name, self[name]) for name in self.names())

    def get(self, name, default=None):
        return self[name] if name in self else default

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


_Mapping.register(File)


def open(path, *, copies=False, **options):
    """Opens a file, a folder or a URL of any format; reads its metadata only (of CSV and TXT: the file).

    ``copies``: every array is read into memory, none mapped. The other options are those of the command
    that concern reading: ``format_="csv"`` or ``from_="csv"``, ``group="/run1"``, ``anon=True``, …
    """
    if "format_" in options:
        options["from_"] = options.pop("format_")
    return File(os.fspath(path), copies, _options(options))


def convert(sources, destination, *, on_progress=None, on_message=None, **options):
    """Converts, as ``npk convert SOURCES… DESTINATION`` does. Options are those of the command, with ``_``
    for ``-``: ``columns=["a", "b"]``, ``compression="zstd"``, ``force=True``, ``metadata={"k": "v"}``.

    Returns a dict for each output. ``on_progress(bytes)`` is called with the bytes so far,
    ``on_message(level, text)`` with what the command would print.
    """
    if isinstance(sources, (str, os.PathLike)):
        sources = [sources]
    sources = [os.fspath(source) for source in sources]
    return _npk.convert(sources, os.fspath(destination), _options(options), on_progress, on_message)


class Store:
    """A NumPack store being written, or changed. What is done to it appears at :meth:`commit`, all of it
    or nothing; a ``with`` block commits at its end, unless it raises.

    ``mode``: "create" (exists: an error), "replace", "edit", or "update" (edit what is there, else create).
    """

    def __init__(self, path, mode="create", metadata=None):
        path = os.fspath(path)
        if mode == "update":
            mode = "edit" if os.path.exists(path) else "create"
        metadata = [(str(k), str(v)) for k, v in (metadata or {}).items()]
        self._store = _npk.Store(path, mode, metadata)

    def names(self):
        """The names of the arrays on disk."""
        return self._store.names()

    def write(self, name, data, *, replace=False):
        """Writes an array: numpy, torch, Arrow, DLPack, buffers, lists."""
        self._store.write(name, data, replace)

    def write_all(self, arrays, *, replace=False):
        """Writes a dict of arrays, on all cores together."""
        if replace:
            for name in set(arrays) & set(self.names()):
                self.remove(name)
        if arrays:
            self._store.write_all(list(arrays.items()))

    def write_table(self, name, table, layout="auto"):
        """Writes a table, anything with ``__arrow_c_stream__``: its columns as ``name/column`` (``column``
        where the name is empty), or as one matrix ``name``."""
        self._store.write_table(name, table, layout)

    def append(self, arrays):
        """Adds rows to arrays that are there, at once."""
        self._store.append(list(arrays.items()))

    def remove(self, name):
        self._store.remove(name)

    def rename(self, old, new):
        self._store.rename(old, new)

    def messages(self):
        return self._store.messages()

    def commit(self):
        """All changes appear."""
        self._store.commit()

    def discard(self):
        """Forgets the changes so far."""
        self._store.discard()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.commit()
        else:
            self.discard()


def save(path, data, *, overwrite=False, metadata=None, **options):
    """Writes a dict of arrays, or a table (pyarrow, pandas, polars: anything with ``__arrow_c_stream__``).

    ``path`` is a NumPack store, or a file of another format by its name, or the URL of either; then
    ``options`` are those of :func:`convert`.
    """
    path = os.fspath(path)
    if path.endswith(".npk") and not options and "://" not in path:
        _save(path, data, "replace" if overwrite else "create", metadata)
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="npk-") as folder:
        store = os.path.join(folder, os.path.basename(path).split(".")[0] + ".npk")
        _save(store, data, "create", metadata)
        convert(store, path, force=overwrite, **options)


def _save(path, data, mode, metadata):
    with Store(path, mode, metadata) as store:
        if hasattr(data, "items") and not hasattr(data, "__arrow_c_stream__"):
            store.write_all(data)
        elif isinstance(data, File):
            for name in data.names():
                store.write(name, data[name])
        else:
            store.write_table("", _table(data))


def _table(data):
    """With pandas' index and types, where it is a DataFrame."""
    import sys

    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(data, pandas.DataFrame):
        from ._arrays import need

        return need("pyarrow").Table.from_pandas(data)
    return data


def __getattr__(name):
    if name == "io":
        import importlib

        return importlib.import_module(".io", __name__)
    if name == "NumPack":
        from .io import NumPack

        return NumPack
    raise AttributeError(f"module 'npk' has no attribute '{name}'")
