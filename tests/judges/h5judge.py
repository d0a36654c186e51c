"""Compares what was dumped from an HDF5 file (values, shapes, types) with what h5py reads from it."""
import json
import h5py, numpy as np, ml_dtypes
try:
    import hdf5plugin  # noqa: F401: its filters
except ImportError:
    pass


def find(f, name, dtype):
    """The value of NAME or NAME.field as h5py reads it."""
    if name in f and isinstance(f[name], h5py.Dataset):
        try:
            return f[name], f[name][()]
        except TypeError:  # a type that numpy lacks: converted by the library
            value = np.empty(f[name].shape, dtype)
            f[name].id.read(h5py.h5s.ALL, h5py.h5s.ALL, value)
            return f[name], value
    at = len(name)
    while True:
        at = name.rindex(".", 0, at)
        if name[:at] in f and isinstance(f[name[:at]], h5py.Dataset):
            value = f[name[:at]][()]
            for field in name[at + 1:].split("."):
                value = value[field]
            return f[name[:at]], value


def check(path, dump, least=1):
    manifest = json.load(open(f"{dump}/manifest.json"))
    f, compared = h5py.File(path, "r", locking=False), 0
    for entry in manifest:
        name = entry["name"]
        if entry["error"] is not None:
            continue
        data, value = find(f, name, entry["dtype"])
        raw = open(f"{dump}/{entry['file']}", "rb").read()
        if entry["text"]:
            ours = json.loads(raw)
            theirs = np.asarray(value, dtype=object).reshape(-1).tolist() if not np.isscalar(value) else [value]
            theirs = [t.decode() if isinstance(t, bytes) else str(t) for t in theirs]
            assert ours == theirs, (name, ours[:5], theirs[:5])
        elif isinstance(value, h5py.Empty):
            assert entry["shape"] == [0], name
        else:
            if entry["dtype"] == "complex32":
                ours = np.frombuffer(raw, "<f2")
                theirs = np.stack([value["r"], value["i"]], -1).reshape(-1)
            else:
                dtype = np.dtype(getattr(ml_dtypes, entry["dtype"], None) or entry["dtype"])
                ours = np.frombuffer(raw, dtype).reshape(entry["shape"])
                theirs = np.asarray(value)
                if theirs.dtype.kind in "mM":
                    theirs = theirs.view("i8")
                if theirs.dtype.kind == "V" and theirs.dtype.itemsize == dtype.itemsize:
                    theirs = theirs.view(dtype)
                assert list(theirs.shape) == entry["shape"], (name, theirs.shape, entry["shape"])
                if theirs.dtype != dtype:
                    assert np.array_equal(theirs.astype(dtype).astype(theirs.dtype), theirs, equal_nan=theirs.dtype.kind in "fc"), (name, theirs.dtype, dtype)
                theirs = theirs.astype(dtype)
            assert ours.tobytes() == theirs.tobytes() or np.array_equal(ours, theirs, equal_nan=True), (name, ours.reshape(-1)[:5], theirs.reshape(-1)[:5])
        compared += 1
    assert compared >= least, (compared, least)
    print(compared)
