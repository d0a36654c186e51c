"""Compares what npk reads of a checkpoint with what torch reads of it. usage: judge.py NPK DIR..."""
import sys, os, subprocess, tempfile, json, torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from safetensors import safe_open
npk = sys.argv[1]
def leaves(d, p=""):
    items = d.items() if isinstance(d, dict) else enumerate(d)
    for k, v in items:
        n = f"{p}.{k}" if p else str(k)
        if isinstance(v, (dict, list)) and (isinstance(v, dict) or any(isinstance(x, (torch.Tensor, dict)) for x in v)): yield from leaves(v, n)
        else: yield n, v
def same(a, b):
    if type(a) != type(b): return False
    if isinstance(a, torch.Tensor): return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.contiguous().view(torch.uint8) if a.dim() else a, b.contiguous().view(torch.uint8) if b.dim() else b)
    if isinstance(a, dict): return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return a == b
for d in sys.argv[2:]:
    with tempfile.TemporaryDirectory() as t:
        dcp_to_torch_save(d, t + "/ref.pt")
        ref = torch.load(t + "/ref.pt", weights_only=False)
        r = subprocess.run([npk, "convert", d, t + "/o.pt", "-q"], capture_output=True, text=True)
        if r.returncode: print(d, "FAILED", r.stderr); continue
        got = torch.load(t + "/o.pt", weights_only=False)
        print(d, "pt same as dcp_to_torch_save:", same(ref, got))
        r = subprocess.run([npk, "convert", d, t + "/o.safetensors"], capture_output=True, text=True)
        print(r.returncode, r.stderr[-600:] if r.returncode else "")
        ok = n = 0
        with safe_open(t + "/o.safetensors", "pt") as f:
            names = set(f.keys())
            for k, v in leaves(ref):
                if isinstance(v, torch.Tensor):
                    n += 1
                    ok += k in names and same(f.get_tensor(k), v)
        print("   tensors", n, "same", ok, "names", len(names))
