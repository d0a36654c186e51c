"""NumPack 0.7.0's own pack and unpack, from its wheel (which itself does not load on older systems; these are plain Python).

`make test` puts the wheel's files into the folder numpack07 of the environment.
"""
import importlib.util
import sys
from pathlib import Path

_path = Path(sys.prefix) / "numpack07" / "numpack" / "io" / "package_io.py"
assert _path.exists(), f"{_path} is missing: run `make test`, which makes the environment of the real libraries"
_spec = importlib.util.spec_from_file_location("package_io", _path)
package_io = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(package_io)
pack, unpack = package_io.pack, package_io.unpack
