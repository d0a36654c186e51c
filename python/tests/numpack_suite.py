"""NumPack's own tests of its conversions, with ``numpack.io`` replaced by ``npk.io``.

    python numpack_suite.py OUT-FOLDER TEST-FILE…

The differences that are meant are named in MEANT: there NumPack's result is not right.
"""

import importlib
import inspect
import os
import re
import sys
import tempfile
import traceback
import types
import warnings
from pathlib import Path

MEANT = {
    "TestZeroCopyArray.test_to_arrow": "an array of several dimensions keeps its rows (NumPack flattens it)",
    "TestPerformance.test_zero_copy_vs_copy_performance": "measures time",
}


class Skip(Exception):
    pass


class Raises:
    def __init__(self, kind, match=None):
        self.kind, self.match = kind, match

    def __enter__(self):
        return self

    def __exit__(self, kind, value, _):
        assert kind is not None and issubclass(kind, self.kind), f"{self.kind} was expected, not {value!r}"
        assert self.match is None or re.search(self.match, str(value)), str(value)
        self.value = value
        return True


class Warns(Raises):
    def __enter__(self):
        self.catch = warnings.catch_warnings(record=True)
        self.heard = self.catch.__enter__()
        warnings.simplefilter("always")
        return self.heard

    def __exit__(self, kind, value, trace):
        self.catch.__exit__(kind, value, trace)
        if kind is None:
            texts = [str(w.message) for w in self.heard if issubclass(w.category, self.kind)]
            assert any(re.search(self.match or "", text) for text in texts), texts


def small_pytest():
    """As much of pytest as these files use."""
    pytest = types.ModuleType("pytest")

    def fixture(function=None, autouse=False, **_):
        def mark(f):
            f.fixture, f.autouse = True, autouse
            return f
        return mark(function) if function else mark

    def parametrize(names, values, **_):
        def mark(f):
            f.cases = (names.replace(" ", "").split(",") if isinstance(names, str) else names, values)
            return f
        return mark

    def importorskip(name, **_):
        try:
            return importlib.import_module(name)
        except ImportError:
            raise Skip(name) from None

    def skipif(condition, **_):
        def mark(f):
            f.skipped = condition
            return f
        return mark

    def skip(reason=""):
        raise Skip(reason)

    pytest.fixture, pytest.importorskip, pytest.raises, pytest.skip = fixture, importorskip, Raises, skip
    class Mark:
        def __getattr__(self, name):
            marks = {"parametrize": parametrize, "skipif": skipif}
            return marks.get(name, lambda f: f)

    pytest.mark = Mark()
    pytest.warns = Warns
    pytest.main = lambda *_: None
    return pytest


def load(path):
    text = Path(path).read_text(encoding="utf-8")
    text = re.sub(r"from numpack import (NumPack\b)", r"from npk.io import \1", text)
    text = re.sub(r"\bnumpack\.io\.zero_copy\b|\bnumpack\.io\b", "npk.io", text)
    text = text.replace("importorskip('numpack')", "importorskip('npk')").replace("import numpack\n", "import npk as numpack\n")
    module = types.ModuleType(Path(path).stem)
    module.__file__ = str(path)
    exec(compile(text, str(path), "exec"), module.__dict__)
    return module


def value_of(name, owner, module, given):
    """A fixture's value."""
    if name in given:
        return given[name]
    if name == "tmp_path":
        made = Path(tempfile.mkdtemp(dir="."))
        return given.setdefault(name, made.absolute())
    fixture = getattr(owner, name, None) or getattr(module, name, None)
    if fixture is None or not getattr(fixture, "fixture", False):
        raise KeyError(name)
    made = call(fixture, owner, module, given)
    if inspect.isgenerator(made):
        given.setdefault("open", []).append(made)
        made = next(made)
    return given.setdefault(name, made)


def call(function, owner, module, given):
    names = [n for n in inspect.signature(function).parameters if n != "self"]
    return function(**{n: value_of(n, owner, module, given) for n in names})


def run(module):
    ran, skipped, failed = 0, [], []
    classes = [c for n, c in vars(module).items() if n.startswith("Test") and inspect.isclass(c)]
    for cls in classes:
        for name in [n for n in dir(cls) if n.startswith("test_")]:
            title = f"{cls.__name__}.{name}"
            if title in MEANT:
                skipped.append(f"{title}: {MEANT[title]}")
                continue
            test = getattr(cls(), name)
            names, cases = getattr(test, "cases", ((), ((),)))
            for case in cases:
                owner, given = cls(), dict(zip(names, case if len(names) > 1 else (case,)))
                try:
                    if getattr(test, "skipped", False):
                        raise Skip("skipif")
                    for fixture in [getattr(owner, n) for n in dir(cls)]:
                        if getattr(fixture, "autouse", False):
                            call(fixture, owner, module, given)
                    call(getattr(owner, name), owner, module, given)
                    ran += 1
                except Skip as e:
                    skipped.append(f"{title}: needs {e}")
                except Exception:
                    failed.append(f"{title}\n{traceback.format_exc(limit=-4)}")
    return ran, skipped, failed


def main(folder, files):
    os.chdir(folder)
    sys.modules["pytest"] = small_pytest()
    bad = False
    for file in files:
        ran, skipped, failed = run(load(file))
        print(f"{file}: {ran} ran, {len(skipped)} left out, {len(failed)} failed")
        for reason in skipped:
            print(f"  left out: {reason}")
        for text in failed:
            print(text)
        bad |= bool(failed) or not ran
    sys.exit(bad)


if __name__ == "__main__":
    files = [os.path.abspath(f) for f in sys.argv[2:]]
    main(sys.argv[1], files)
