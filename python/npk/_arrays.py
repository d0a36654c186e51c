"""Arrays of other libraries into npk and out of it. None of them is imported before it is needed."""

import sys

from ._errors import DependencyError

_TIMES = {"s": "s", "ms": "ms", "us": "us", "ns": "ns"}


def need(module):
    """Imports an optional library."""
    if (there := sys.modules.get(module)) is not None:
        return there
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as e:
        raise DependencyError(f"this call needs {module}: pip install {module}") from e


def given(data):
    """What ``python/src/data.rs`` takes: a tuple that begins with a word."""
    torch, np, pandas = (sys.modules.get(m) for m in ("torch", "numpy", "pandas"))
    if torch is not None and isinstance(data, torch.Tensor):
        return _tensor(torch, data)
    if np is not None and isinstance(data, (np.ndarray, np.generic)):
        return _ndarray(np, np.asarray(data))
    if pandas is not None and isinstance(data, (pandas.Series, pandas.Index)):
        if isinstance(data.dtype, np.dtype) and data.dtype.kind in "biufcMm":
            return _ndarray(np, data.to_numpy())
        return "arrow", need("pyarrow").Array.from_pandas(data)
    if hasattr(data, "__arrow_c_array__"):
        return "arrow", data
    if hasattr(data, "combine_chunks"):
        whole = data.combine_chunks()
        return "arrow", whole if hasattr(whole, "__arrow_c_array__") else whole.chunk(0)
    if hasattr(data, "__arrow_c_stream__"):
        frame = data.to_frame() if hasattr(data, "to_frame") else data
        return "column", frame
    if hasattr(data, "__dlpack__"):
        if data.__dlpack_device__()[0] != 1:
            raise TypeError("the array is in the memory of another device: copy it to the CPU first")
        try:
            return "dlpack", data.__dlpack__(max_version=(1, 0))
        except TypeError:
            return "dlpack", data.__dlpack__()
    np = need("numpy")
    return _ndarray(np, np.asarray(data))


def _tensor(torch, tensor):
    tensor = tensor.detach()
    if tensor.layout != torch.strided:
        raise TypeError(f"a tensor of layout {tensor.layout} cannot be written: use .to_dense()")
    tensor = tensor.cpu().resolve_conj()
    if hasattr(tensor, "resolve_neg"):
        tensor = tensor.resolve_neg()
    item = tensor.element_size()
    strides = [s * item for s in tensor.stride()]
    name = str(tensor.dtype).removeprefix("torch.")
    return "strided", name, list(tensor.shape), strides, tensor.data_ptr(), None, tensor


def _ndarray(np, array):
    kind = array.dtype.kind
    if isinstance(array, np.ma.MaskedArray):
        pa = need("pyarrow")
        return "arrow", pa.array(array.data, mask=np.ma.getmaskarray(array))
    if kind in "UTO" or kind == "S":
        return _texts(np, array)
    if array.dtype.names is not None:
        raise TypeError("a structured array cannot be written as one array: write its fields")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    name, meaning = array.dtype.name, None
    if kind in "Mm":
        unit, count = np.datetime_data(array.dtype)
        base = "datetime64" if kind == "M" else "timedelta64"
        count = "" if count == 1 else count
        name, meaning = "int64", base if unit == "generic" else f"{base}[{count}{unit}]"
    address = array.__array_interface__["data"][0] if kind in "biufcMm" else array.ctypes.data
    return "strided", name, list(array.shape), list(array.strides), address, meaning, array


def _texts(np, array):
    if array.ndim != 1:
        raise TypeError(f"text of {array.ndim} dimensions cannot be written from memory")
    if array.dtype.kind == "S":
        return "binary", array.tolist()
    items = array.tolist()
    null = [i is None or i != i for i in items]
    items = [None if none else i for i, none in zip(items, null)]
    kinds = {type(i) for i in items if i is not None}
    if kinds <= {str}:
        return "texts", items
    if kinds <= {bytes}:
        return "binary", items
    raise TypeError(f"Python objects of {', '.join(sorted(k.__name__ for k in kinds))} cannot be written")


def numpy_of(array):
    """A numpy array that shares the memory wherever numpy has the type."""
    np = need("numpy")
    name = array.type_name.removesuffix("?")
    nulls = array.validity is not None
    if array.is_plain:
        values = _plain(np, array)
        if nulls and values.dtype.kind not in "f":
            raise ValueError(f"'{array.name}' has nulls, which numpy's {values.dtype} has not: "
                             "take it as an Arrow array, or its .validity and .raw()")
        return values
    base, _, unit = name.partition("[")
    unit = unit.rstrip("]").split(",")[0]
    if base in ("datetime64", "timestamp", "timedelta64", "duration", "date32", "date64"):
        letter = "m" if base in ("timedelta64", "duration") else "M"
        unit = {"date32": "D", "date64": "ms"}.get(base, unit)
        values = _raw(np, array, array.dtype)
        if values.dtype.itemsize == 4:
            values = values.astype("i8")
        values = values.view(f"{letter}8[{unit}]" if unit else f"{letter}8")
        if nulls:
            values = values.copy()
            values[np.frombuffer(array.validity, dtype=bool)[: len(values)] == 0] = "NaT"
        return values
    if base in ("string", "binary") and not name.startswith("binary["):
        values = np.empty(len(array), dtype=object)
        values[:] = array.texts()
        return values
    return need("pyarrow").array(array).to_numpy(zero_copy_only=False)


def _plain(np, array):
    try:
        return np.asarray(memoryview(array))
    except BufferError:
        need("ml_dtypes")
        return _raw(np, array, array.dtype)


def _raw(np, array, dtype):
    raw = np.asarray(memoryview(array.raw()))
    dtype = np.dtype(dtype)
    if dtype.itemsize == 1:
        return raw.view(dtype)
    return raw.view(dtype)[..., 0]


def array_of(array, dtype, copy):
    """``__array__``."""
    values = numpy_of(array)
    if dtype is not None and values.dtype != dtype:
        if copy is False:
            raise ValueError(f"{array.type_name} as {dtype} takes a copy")
        return values.astype(dtype)
    return values.copy() if copy else values


def torch_of(array):
    """A tensor that shares the memory: pages of a map are private, so that writing to it changes no
    file."""
    torch = need("torch")
    if array.dtype == "bool":
        return torch.from_dlpack(array.raw()).view(torch.bool)
    tensor = torch.from_dlpack(array)
    kept = array.type_name
    if kept in ("bfloat16", "float8_e4m3fn", "float8_e5m2") and array.dtype != kept:
        # Widened where it is stored, exactly; every value fits its own type again.
        return tensor.to(getattr(torch, kept))
    return tensor
