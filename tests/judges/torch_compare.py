"""Compares what torch finds in pairs of checkpoints: the one that torch wrote, and ours. Arguments: pairs.json."""
import argparse
import json
import sys

import numpy as np
import torch


def raw(t):
    t = t.detach()
    if hasattr(t, "resolve_conj"):
        t = t.resolve_conj()
    if hasattr(t, "resolve_neg"):
        t = t.resolve_neg()
    t = torch.empty(t.numel(), dtype=t.dtype).copy_(t.reshape(-1))
    return t.view(torch.uint8).numpy().tobytes() if t.numel() else b""


def same(a, b, path):
    if isinstance(a, (np.ndarray, np.generic)):
        a = torch.from_numpy(np.ascontiguousarray(a).reshape(np.shape(a)).astype(a.dtype.newbyteorder("=")))
    if isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor), (path, type(b))
        assert a.dtype == b.dtype and a.shape == b.shape, (path, a.dtype, b.dtype, a.shape, b.shape)
        assert b.is_contiguous(), path
        assert raw(a) == raw(b), path
    elif isinstance(a, argparse.Namespace):
        same(vars(a), b, path)
    elif isinstance(a, torch.nn.Module):
        same(a.state_dict(), b, path)
    elif isinstance(a, dict):
        assert list(a) == list(b), (path, list(a), list(b))
        for k in a:
            same(a[k], b[k], path + [k])
    elif isinstance(a, (list, tuple)):
        assert type(a) is type(b) and len(a) == len(b), (path, type(a), type(b))
        for i, (x, y) in enumerate(zip(a, b)):
            same(x, y, path + [i])
    elif isinstance(a, float):
        assert isinstance(b, float) and (a == b or a != a and b != b), (path, a, b)
    else:
        assert type(a) is type(b) and a == b, (path, a, b)


def load(path, **options):
    try:
        return torch.load(path, map_location="cpu", **options)
    except TypeError:
        return torch.load(path, map_location="cpu")


taken = {}
new = int(torch.__version__.split(".")[0]) >= 2
for pair in json.load(open(sys.argv[1])):
    theirs = load(pair["theirs"], weights_only=False)
    for options in [{"weights_only": False}, {"weights_only": True}] + ([{"weights_only": True, "mmap": True}] if new else []):
        # Where torch does not take its own file, it need not take ours (1.13: no floats with weights_only).
        try:
            load(pair["theirs"], **options)
        except Exception:
            continue
        taken[str(options)] = taken.get(str(options), 0) + 1
        ours = load(pair["ours"], **options)
        try:
            same(theirs, ours, [])
        except AssertionError as e:
            raise AssertionError(pair["theirs"], options) from e
    print("same", pair["theirs"])
print(torch.__version__, taken)
