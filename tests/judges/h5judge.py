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
            theirs = [t.decode() if isinstance(t, bytes) else t.tobytes().hex() if isinstance(t, np.ndarray) else str(t) for t in theirs]
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


def same(a, b, compression=None):
    """Two HDF5 files hold the same groups, datasets (types, shapes, values) and attributes, in the same order."""
    a, b = h5py.File(a, "r", locking=False), h5py.File(b, "r", locking=False)
    compared = 0

    def attributes(x, y, path):
        assert sorted(x.attrs) == sorted(y.attrs), (path, sorted(x.attrs), sorted(y.attrs))
        for name in x.attrs:
            u, v = x.attrs[name], y.attrs[name]
            du, dv = x.attrs.get_id(name).dtype, y.attrs.get_id(name).dtype
            assert du == dv.newbyteorder(du.byteorder) or du.newbyteorder("<") == dv, (path, name, du, dv)
            assert h5py.check_string_dtype(du) == h5py.check_string_dtype(dv), (path, name)
            if isinstance(u, h5py.Empty):
                assert u == v, (path, name)
            else:
                assert np.shape(u) == np.shape(v), (path, name, np.shape(u), np.shape(v))
                assert np.array_equal(u, v) or np.array_equal(u, v, equal_nan=True), (path, name, u, v)

    def walk(x, y, path):
        nonlocal compared
        attributes(x, y, path)
        if isinstance(x, h5py.Group):
            assert sorted(x) == sorted(y), (path, sorted(x), sorted(y))
            for name in x:
                walk(x[name], y[name], f"{path}/{name}")
            return
        assert x.shape == y.shape, (path, x.shape, y.shape)
        assert x.dtype.newbyteorder("<") == y.dtype, (path, x.dtype, y.dtype)
        assert h5py.check_string_dtype(x.dtype) == h5py.check_string_dtype(y.dtype), path
        assert h5py.check_enum_dtype(x.dtype) == h5py.check_enum_dtype(y.dtype), path
        compared += 1
        if x.shape is None:
            return
        u, v = x[()], y[()]
        if x.dtype.kind == "O":
            assert np.array_equal(u, v), path
        else:
            u = np.asarray(u).astype(y.dtype)
            assert u.tobytes() == np.asarray(v).tobytes(), (path, u.reshape(-1)[:5], v.reshape(-1)[:5])
        if compression is not None and x.ndim and x.size and x.dtype.kind != "O":
            ids = [y.id.get_create_plist().get_filter(i)[0] for i in range(y.id.get_create_plist().get_nfilters())]
            assert ids == ([2] if y.dtype.itemsize > 1 and compression not in (0, 32001) else []) + ([compression] if compression else []), (path, ids)

    walk(a, b, "")
    print(compared)
