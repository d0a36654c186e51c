import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import torch

from . import DependencyError as DependencyError

__all__ = [
    "DependencyError", "LARGE_FILE_THRESHOLD", "DEFAULT_CHUNK_SIZE", "DEFAULT_BATCH_ROWS",
    "get_file_size", "is_large_file", "estimate_chunk_rows", "from_torch", "to_torch",
    "from_torch_file", "to_torch_file", "from_arrow", "to_arrow", "from_parquet_table",
    "to_parquet_table", "from_feather_file", "to_feather_file", "from_parquet_file",
    "to_parquet_file", "from_safetensors", "to_safetensors", "from_safetensors_file",
    "to_safetensors_file", "get_safetensors_metadata", "iter_safetensors", "from_numpy",
    "to_numpy", "from_hdf5", "to_hdf5", "from_zarr", "to_zarr", "from_csv", "from_txt",
    "to_csv", "to_txt", "from_pandas", "to_pandas", "from_s3", "to_s3", "pack", "unpack",
    "get_package_info", "DLPackBuffer", "to_dlpack", "from_dlpack", "numpy_to_arrow_zero_copy",
    "arrow_to_numpy_zero_copy", "table_to_numpy_zero_copy", "numpy_to_torch_zero_copy",
    "torch_to_numpy_zero_copy", "ZeroCopyArray", "wrap_for_zero_copy", "NumPack",
    "from_pytorch", "from_pt", "to_pytorch", "to_pt", "from_tensor", "to_tensor", "from_table",
    "to_table", "from_feather", "to_feather", "from_parquet", "to_parquet", "from_tensor_dict",
    "to_tensor_dict", "from_npy", "to_npy", "from_dataframe", "to_dataframe",
]

_Path = str | os.PathLike[str]
_NDArray = npt.NDArray[Any]

LARGE_FILE_THRESHOLD: int
DEFAULT_CHUNK_SIZE: int
DEFAULT_BATCH_ROWS: int

def get_file_size(path: _Path) -> int: ...
def is_large_file(path: _Path, threshold: int = LARGE_FILE_THRESHOLD) -> bool: ...
def estimate_chunk_rows(
    shape: Sequence[int],
    dtype: Any,
    target_chunk_bytes: int = DEFAULT_CHUNK_SIZE,
) -> int: ...
def from_torch(
    tensor: torch.Tensor,
    output_path: _Path,
    array_name: str | None = None,
    drop_if_exists: bool = False,
    return_npk_obj: bool = False,
) -> NumPack | None: ...
def to_torch(
    input_path: _Path,
    array_name: str | None = None,
    device: Any = None,
    dtype: Any = None,
) -> torch.Tensor: ...
def from_torch_file(
    input_path: _Path,
    output_path: _Path,
    key: str | None = None,
    drop_if_exists: bool = False,
    chunk_size: int | None = DEFAULT_CHUNK_SIZE,
    return_npk_obj: bool = False,
) -> NumPack | None: ...
def to_torch_file(
    input_path: _Path,
    output_path: _Path,
    array_names: Sequence[str] | None = None,
    as_dict: bool = True,
    chunk_size: int | None = DEFAULT_CHUNK_SIZE,
) -> None: ...
def from_arrow(
    table: Any,
    output_path: _Path,
    array_name: str | None = None,
    columns: Sequence[str] | None = None,
    drop_if_exists: bool = False,
    return_npk_obj: bool = False,
) -> NumPack | None: ...
def to_arrow(
    input_path: _Path,
    array_name: str | None = None,
    column_names: Sequence[str] | None = None,
) -> pa.Table: ...
def from_parquet_table(
    table: Any,
    output_path: _Path,
    array_name: str | None = None,
    columns: Sequence[str] | None = None,
    drop_if_exists: bool = False,
    return_npk_obj: bool = False,
) -> NumPack | None: ...
def to_parquet_table(
    input_path: _Path,
    array_name: str | None = None,
    column_names: Sequence[str] | None = None,
) -> pa.Table: ...
def from_feather_file(
    input_path: _Path,
    output_path: _Path,
    array_name: str | None = None,
    columns: Sequence[str] | None = None,
    drop_if_exists: bool = False,
    return_npk_obj: bool = False,
) -> NumPack | None: ...
def to_feather_file(
    input_path: _Path,
    output_path: _Path,
    array_name: str | None = None,
    compression: str | None = "zstd",
) -> None: ...
def from_parquet_file(
    input_path: _Path,
    output_path: _Path,
    array_name: str | None = None,
    columns: Sequence[str] | None = None,
    drop_if_exists: bool = False,
    chunk_size: int | None = DEFAULT_CHUNK_SIZE,
    return_npk_obj: bool = False,
) -> NumPack | None: ...
def to_parquet_file(
    input_path: _Path,
    output_path: _Path,
    array_name: str | None = None,
    compression: str | None = "snappy",
    row_group_size: int = 100000,
    chunk_size: int | None = DEFAULT_CHUNK_SIZE,
) -> None: ...
def from_safetensors(
    tensors: Mapping[str, Any],
    output_path: _Path,
    drop_if_exists: bool = False,
    return_npk_obj: bool = False,
) -> NumPack | None: ...
def to_safetensors(
    input_path: _Path,
    array_names: Sequence[str] | None = None,
) -> dict[str, _NDArray]: ...
def from_safetensors_file(
    input_path: _Path,
    output_path: _Path,
    keys: Sequence[str] | None = None,
    drop_if_exists: bool = False,
    chunk_size: int | None = DEFAULT_CHUNK_SIZE,
    return_npk_obj: bool = False,
) -> NumPack | None: ...
def to_safetensors_file(
    input_path: _Path,
    output_path: _Path,
    array_names: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None: ...
def get_safetensors_metadata(path: _Path) -> dict[str, Any]: ...
def iter_safetensors(
    path: _Path,
    keys: Sequence[str] | None = None,
) -> Iterator[tuple[str, _NDArray]]: ...
def from_numpy(
    input_path: _Path,
    output_path: _Path,
    array_name: str | None = None,
    drop_if_exists: bool = False,
    chunk_size: int | None = DEFAULT_CHUNK_SIZE,
    return_npk_obj: bool = False,
) -> NumPack | None: ...
def to_numpy(
    input_path: _Path,
    output_path: _Path,
    array_names: str | Sequence[str] | None = None,
    compressed: bool = True,
    chunk_size: int | None = DEFAULT_CHUNK_SIZE,
    *,
    array_name: str | None = None,
) -> None: ...
def from_hdf5(
    input_path: _Path,
    output_path: _Path,
    dataset_names: str | Sequence[str] | None = None,
    group: str | None = "/",
    drop_if_exists: bool = False,
    chunk_size: int | None = DEFAULT_CHUNK_SIZE,
    return_npk_obj: bool = False,
    *,
    dataset: str | None = None,
) -> NumPack | None: ...
def to_hdf5(
    input_path: _Path,
    output_path: _Path,
    array_names: Sequence[str] | None = None,
    group: str | None = "/",
    compression: str | None = "gzip",
    compression_opts: int | None = 4,
    chunk_size: int | None = DEFAULT_CHUNK_SIZE,
) -> None: ...
def from_zarr(
    input_path: _Path,
    output_path: _Path,
    array_names: Sequence[str] | None = None,
    group: str | None = "/",
    drop_if_exists: bool = False,
    chunk_size: int | None = DEFAULT_CHUNK_SIZE,
    return_npk_obj: bool = False,
) -> NumPack | None: ...
def to_zarr(
    input_path: _Path,
    output_path: _Path,
    array_names: Sequence[str] | None = None,
    group: str | None = "/",
    compressor: str | None = "default",
    chunk_size: int | None = DEFAULT_CHUNK_SIZE,
) -> None: ...
def from_csv(
    input_path: _Path,
    output_path: _Path,
    array_name: str | None = None,
    drop_if_exists: bool = False,
    dtype: Any = None,
    delimiter: str = ",",
    skiprows: int = 0,
    max_rows: int | None = None,
    chunk_size: int | None = DEFAULT_CHUNK_SIZE,
    return_npk_obj: bool = False,
    header: str | int | bool | None = "auto",
    skip_header: int = 0,
    **options: Any,
) -> NumPack | None: ...
def from_txt(
    input_path: _Path,
    output_path: _Path,
    array_name: str | None = None,
    drop_if_exists: bool = False,
    dtype: Any = None,
    delimiter: str | None = None,
    skiprows: int = 0,
    chunk_size: int | None = DEFAULT_CHUNK_SIZE,
    return_npk_obj: bool = False,
    header: str | int | bool | None = "auto",
    skip_header: int = 0,
    max_rows: int | None = None,
    **options: Any,
) -> NumPack | None: ...
def to_csv(
    input_path: _Path,
    output_path: _Path,
    array_name: str | None = None,
    delimiter: str = ",",
    header: bool = False,
    fmt: str | None = None,
    chunk_size: int | None = DEFAULT_CHUNK_SIZE,
    **options: Any,
) -> None: ...
def to_txt(
    input_path: _Path,
    output_path: _Path,
    array_name: str | None = None,
    delimiter: str = " ",
    fmt: str | None = None,
    chunk_size: int | None = DEFAULT_CHUNK_SIZE,
    header: bool = False,
    **options: Any,
) -> None: ...
def from_pandas(
    df: pd.DataFrame,
    output_path: _Path,
    array_name: str = "data",
    drop_if_exists: bool = False,
    chunk_size: int | None = DEFAULT_CHUNK_SIZE,
    return_npk_obj: bool = False,
) -> NumPack | None: ...
def to_pandas(
    input_path: _Path,
    array_name: str | None = None,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame: ...
def from_s3(
    s3_path: str,
    output_path: _Path,
    format: str = "auto",
    drop_if_exists: bool = False,
    chunk_size: int | None = DEFAULT_CHUNK_SIZE,
    return_npk_obj: bool = False,
    **s3_kwargs: Any,
) -> NumPack | None: ...
def to_s3(
    input_path: _Path,
    s3_path: str,
    format: str = "auto",
    array_name: str | None = None,
    chunk_size: int | None = DEFAULT_CHUNK_SIZE,
    **s3_kwargs: Any,
) -> None: ...
def pack(
    source: _Path,
    target: _Path | None = None,
    compression: bool = True,
    overwrite: bool = False,
) -> _Path: ...
def unpack(
    source: _Path,
    target: _Path | None = None,
    overwrite: bool = False,
    verify: bool = True,
) -> _Path: ...
def get_package_info(source: _Path) -> dict[str, Any]: ...

class DLPackBuffer:
    kDLCPU: int
    array: _NDArray
    def __init__(self, array: Any) -> None: ...
    def __dlpack__(self, **kwargs: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    @staticmethod
    def from_dlpack(data: Any) -> _NDArray: ...

def to_dlpack(array: Any) -> DLPackBuffer: ...
def from_dlpack(data: Any) -> _NDArray: ...
def numpy_to_arrow_zero_copy(array: Any, name: str = "data") -> pa.Array: ...
def arrow_to_numpy_zero_copy(arrow_array: Any, writable: bool = False) -> _NDArray: ...
def table_to_numpy_zero_copy(table: Any, column: str | None = None) -> Any: ...
def numpy_to_torch_zero_copy(array: Any, device: Any = None) -> torch.Tensor: ...
def torch_to_numpy_zero_copy(tensor: torch.Tensor) -> _NDArray: ...

class ZeroCopyArray:
    def __init__(self, array: Any) -> None: ...
    @property
    def array(self) -> _NDArray: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def nbytes(self) -> int: ...
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> _NDArray: ...
    def __dlpack__(self, **kwargs: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def to_torch(self, device: Any = None) -> torch.Tensor: ...
    def to_arrow(self) -> pa.Array: ...
    def to_dlpack(self) -> DLPackBuffer: ...
    @classmethod
    def from_torch(cls, tensor: torch.Tensor) -> Self: ...
    @classmethod
    def from_arrow(cls, array: Any) -> Self: ...
    @classmethod
    def from_dlpack(cls, data: Any) -> Self: ...

def wrap_for_zero_copy(array: Any) -> ZeroCopyArray: ...

class NumPack:
    path: str
    def __init__(self, filename: _Path, drop_if_exists: bool = False, **_: object) -> None: ...
    def save(self, arrays: Mapping[str, Any], **_: object) -> None: ...
    def load(self, array_name: str, lazy: bool = False) -> _NDArray: ...
    def append(self, arrays: Mapping[str, Any]) -> None: ...
    def drop(self, names: str | Sequence[str], indexes: Any = None) -> None: ...
    def get_member_list(self) -> list[str]: ...
    def has_array(self, name: str) -> bool: ...
    def get_shape(self, array_name: str | None = None) -> Any: ...
    def open(self) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

from_pytorch = from_torch_file
from_pt = from_torch_file
to_pytorch = to_torch_file
to_pt = to_torch_file
from_tensor = from_torch
to_tensor = to_torch
from_table = from_arrow
to_table = to_arrow
from_feather = from_feather_file
to_feather = to_feather_file
from_parquet = from_parquet_file
to_parquet = to_parquet_file
from_tensor_dict = from_safetensors
to_tensor_dict = to_safetensors
from_npy = from_numpy
to_npy = to_numpy
from_dataframe = from_pandas
to_dataframe = to_pandas
