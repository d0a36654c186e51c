"""Reads .npk stores with the real NumPack and with npkref, for tests: `from store import numpack_arrays`."""
from pathlib import Path

import npkref  # noqa: F401
import numpack


def numpack_arrays(path):
    """All arrays of a store as the real NumPack (0.4.5) loads them."""
    with numpack.NumPack(str(Path(path))) as store:
        return {name: store.load(name) for name in store.get_member_list()}


def write_store(path, arrays):
    """A store written by the real NumPack."""
    with numpack.NumPack(str(Path(path)), drop_if_exists=True) as store:
        store.save(arrays)
