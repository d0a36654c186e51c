"""Dequantises as the reference code does, in torch. usage: dequantize_judge.py write DIR | check QUANTISED GOT TYPE
`write` makes small files of every scheme; `check` compares what npk made of one, bit for bit (NaN is NaN)."""
import math, sys, torch
from safetensors.torch import load_file, save_file

FP4 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0]

def weight_dequant(x, s, dtype, block=128):
    """DeepSeek-V3, inference/kernel.py: y = x.to(float32) * s, one s for each block, stored as dtype."""
    *outer, m, n = x.shape
    s = s.repeat_interleave(block, -2)[..., :m, :].repeat_interleave(block, -1)[..., :n]
    return (x.to(torch.float32) * s.to(torch.float32)).to(dtype)

def scaled(x, s, dtype):
    """Per tensor and per channel (compressed-tensors, vLLM)."""
    s = s.to(torch.float32)
    if s.dim() == 1 and s.numel() > 1: s = s.reshape(-1, *[1] * (x.dim() - 1))
    if s.numel() == 1: s = s.reshape(())
    return (x.to(torch.float32) * s).to(dtype)

def convert_moe_packed_tensors(blocks, scales, dtype, turn=True):
    """transformers, integrations/mxfp4.py."""
    scales = scales.to(torch.int32) - 127
    lut = torch.tensor(FP4, dtype=dtype)
    *prefix_shape, G, B = blocks.shape
    rows_total = math.prod(prefix_shape) * G
    blocks = blocks.reshape(rows_total, B)
    scales = scales.reshape(rows_total, 1)
    out = torch.empty(rows_total, B * 2, dtype=dtype)
    out[:, 0::2] = lut[(blocks & 0x0F).to(torch.long)]
    out[:, 1::2] = lut[(blocks >> 4).to(torch.long)]
    torch.ldexp(out, scales, out=out)
    out = out.reshape(*prefix_shape, G, B * 2).view(*prefix_shape, G * B * 2)
    return out.transpose(1, 2).contiguous() if turn else out

def unpack(packed):
    lut = torch.tensor(FP4, dtype=torch.float32)
    out = torch.empty(*packed.shape[:-1], packed.shape[-1] * 2)
    out[..., 0::2], out[..., 1::2] = lut[(packed & 15).long()], lut[(packed >> 4).long()]
    return out

def nvfp4(packed, scale, factor, dtype, group=16):
    """x * (block scale * factor): TensorRT Model Optimizer; with 1 / global scale: compressed-tensors."""
    x = unpack(packed)
    return (x.reshape(*x.shape[:-1], -1, group) * factor(scale.to(torch.float32)).unsqueeze(-1)).reshape(x.shape).to(dtype)

def reference(t, dtype):
    """name -> tensor, of all that is quantised in t; the rest as it is."""
    out, used = {}, set()
    for k, x in t.items():
        b = k[: -len("weight")] if k.endswith("weight") else None
        if x.dtype == torch.float8_e4m3fn or x.dtype == torch.float8_e5m2:
            for end in ("_scale_inv", "_scale"):
                if k + end in t and x is not t.get(k + "_"):
                    s = t[k + end]
                    blocks = s.dim() == x.dim() >= 2 and s.numel() > 1 and s.shape[-1] > 1
                    out[k] = weight_dequant(x, s, dtype) if blocks else scaled(x, s, dtype)
                    used.add(k + end)
                    break
        elif k.endswith("_blocks"):
            out[k[:-7]] = convert_moe_packed_tensors(x, t[k[:-7] + "_scales"], dtype); used |= {k, k[:-7] + "_scales"}
        elif k.endswith(".blocks"):
            out[k[:-7]] = convert_moe_packed_tensors(x, t[k[:-7] + ".scales"], dtype, False); used |= {k, k[:-7] + ".scales"}
        elif k.endswith("weight_packed") or (x.dtype == torch.uint8 and k.endswith("weight")):
            b = k[: -len("_packed")] if k.endswith("_packed") else k
            s = t[b + "_scale"]
            used |= {k, b + "_scale"}
            if s.dtype == torch.uint8:
                e = torch.pow(2.0, s.to(torch.float32) - 127)
                v = unpack(x)
                out[b] = (v.reshape(*v.shape[:-1], -1, 32) * e.unsqueeze(-1)).reshape(v.shape).to(dtype)
            elif b + "_global_scale" in t:
                g = t[b + "_global_scale"]; used.add(b + "_global_scale")
                out[b] = nvfp4(x, s, lambda s: s / g, dtype)
            else:
                g = t[b + "_scale_2"]; used.add(b + "_scale_2")
                out[b] = nvfp4(x, s, lambda s: s * g, dtype)
    for k, x in t.items():
        if k not in used and k not in out: out[k] = x
    return out

def write(d):
    g = torch.Generator().manual_seed(20)
    byte = lambda *s: torch.randint(0, 256, s, dtype=torch.uint8, generator=g)
    f8 = lambda *s: byte(*s).view(torch.float8_e4m3fn)
    real = lambda *s: torch.rand(*s, generator=g) * 0.02 + 1e-4
    save_file({"a.weight": f8(140, 150), "a.weight_scale_inv": real(2, 2), "a.bias": real(5),
               "experts.weight": f8(2, 3, 260), "experts.weight_scale_inv": real(2, 1, 3)}, f"{d}/fp8_blocks.safetensors")
    save_file({"all.weight": f8(7, 9), "all.weight_scale": real(1).reshape(()), "all.input_scale": real(1),
               "one.weight": f8(4, 6), "one.weight_scale": real(1), "row.weight": f8(6, 10), "row.weight_scale": real(6, 1).to(torch.bfloat16),
               "flat.weight": f8(6, 10), "flat.weight_scale": real(6), "wide.weight": byte(5, 8).view(torch.float8_e5m2), "wide.weight_scale": real(5, 1)},
              f"{d}/fp8_scales.safetensors")
    save_file({"mlp.experts.gate_up_proj_blocks": byte(2, 6, 3, 16), "mlp.experts.gate_up_proj_scales": (byte(2, 6, 3) % 40 + 100),
               "mlp.experts.gate_up_proj_bias": real(2, 6).to(torch.bfloat16), "mlp1.blocks": byte(2, 3, 2, 16), "mlp1.scales": byte(2, 3, 2) % 20 + 110,
               "q.weight_packed": byte(5, 32), "q.weight_scale": byte(5, 2) % 30 + 110}, f"{d}/mxfp4.safetensors")
    scale = lambda *s: (torch.rand(*s, generator=g) * 400 + 1).to(torch.float8_e4m3fn)
    save_file({"ct.weight_packed": byte(6, 24), "ct.weight_scale": scale(6, 3), "ct.weight_global_scale": torch.tensor([1234.5]),
               "mo.weight": byte(4, 16), "mo.weight_scale": scale(4, 2), "mo.weight_scale_2": torch.tensor(0.00071), "mo.input_scale": torch.tensor(0.5)},
              f"{d}/nvfp4.safetensors")
    for name in ("fp8_blocks", "fp8_scales", "mxfp4", "nvfp4"):
        want = reference(load_file(f"{d}/{name}.safetensors"), torch.bfloat16)
        save_file({k: v.contiguous() for k, v in want.items()}, f"{d}/expected/{name}.safetensors")

def check(quantised, got, name):
    dtype = getattr(torch, name)
    want, got = reference(load_file(quantised), dtype), load_file(got)
    assert set(want) == set(got), (sorted(want), sorted(got))
    for k, w in want.items():
        o = got[k]
        assert w.dtype == o.dtype and w.shape == o.shape, (k, w.dtype, o.dtype, w.shape, o.shape)
        if w.is_floating_point() and w.dtype.itemsize > 1:
            bits = {2: torch.int16, 4: torch.int32}[w.dtype.itemsize]
            same = (w.contiguous().view(bits) == o.contiguous().view(bits)) | (w.isnan() & o.isnan())
            assert bool(same.all()), (k, int((~same).sum()), w.flatten()[~same.flatten()][:4], o.flatten()[~same.flatten()][:4])
    print("same", len(want))

if __name__ == "__main__":
    write(sys.argv[2]) if sys.argv[1] == "write" else check(*sys.argv[2:])
