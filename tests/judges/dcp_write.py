"""Writes distributed checkpoints of small tensors, whose values follow from their index: fixtures/good/dcp.
KIND: plain, small, zstd, files, threads, hf, ranks, safetensors.  Usage: dcp_write.py OUT WORLD KIND"""
import os, sys, tempfile, torch, torch.distributed as dist, torch.multiprocessing as mp
import torch.distributed.checkpoint as dcp

def t(shape, dtype=torch.float32, k=0):
    n = 1
    for s in shape: n *= s
    x = (torch.arange(n, dtype=torch.int64) * 7 + k) % 251 - 120
    return x.reshape(shape).to(dtype)

def put(full, mesh, placements):
    try:
        from torch.distributed.tensor import distribute_tensor
    except ImportError:
        from torch.distributed._tensor import distribute_tensor
    return distribute_tensor(full.float(), mesh, placements).to(full.dtype)

def state(world, kind):
    try:
        from torch.distributed.tensor import Shard, Replicate
        from torch.distributed.device_mesh import init_device_mesh
    except ImportError:
        try:
            from torch.distributed._tensor import Shard, Replicate
            from torch.distributed.device_mesh import init_device_mesh
        except ImportError:
            from torch.distributed._tensor import Shard, Replicate, DeviceMesh
            init_device_mesh = None
    def mesh_of(shape):
        if init_device_mesh: return init_device_mesh("cpu", shape)
        return DeviceMesh("cpu", torch.arange(world).reshape(shape).tolist())
    m1 = mesh_of((world,))
    sd = {
        "model": {
            "embed.weight": put(t((11, 6)), m1, [Shard(0)]),          # uneven, perhaps empty shards
            "cols": put(t((5, 13), torch.bfloat16, 3), m1, [Shard(1)]),
            "deep": put(t((3, 7, 4), torch.float16, 5), m1, [Shard(1)]),
            "norm": put(t((9,), torch.float64, 1), m1, [Replicate()]),
            "plain": t((4, 3), torch.int32, 2),
            "turned": t((6, 5), torch.float32, 9).t(),
            "scalar": torch.tensor(2.5),
            "empty": torch.zeros((0, 4)),
            "flags": torch.tensor([True, False, True]),
            "cplx": torch.tensor([1+2j, -3.5j], dtype=torch.complex64),
        },
        "optim": {
            "state": {"embed.weight": {"exp_avg": put(t((11, 6), k=40), m1, [Shard(0)]), "step": torch.tensor(7.0)}},
            "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": ["embed.weight", "cols"], "amsgrad": False}],
        },
        "step": 42, "name": "run é", "none": None, "rng": b"\x00\x01\xff",
    }
    if kind == "small":
        return {"model": {k: sd["model"][k] for k in ("embed.weight", "cols")}, "step": 42}
    if world % 2 == 0 and world > 2:
        m2 = mesh_of((2, world // 2))
        sd["model"]["grid"] = put(t((7, 9), torch.float32, 11), m2, [Shard(0), Shard(1)])
        sd["model"]["twice"] = put(t((10, 3), torch.float32, 12), m2, [Shard(0), Shard(0)])
    return sd

def save(sd, out, kind):
    kw = {}
    if kind == "zstd":
        from torch.distributed.checkpoint._extension import ZStandard
        w = dcp.FileSystemWriter(out, _extensions=[ZStandard()])
    elif kind == "files":
        w = dcp.FileSystemWriter(out, single_file_per_rank=False)
    elif kind == "threads":
        w = dcp.FileSystemWriter(out, thread_count=3)
    elif kind == "hf":
        w = dcp.HuggingFaceStorageWriter(out, save_distributed=True)
        def clean(d, p=""):
            r = {}
            for k, v in d.items():
                n = p + k
                if isinstance(v, dict): r.update(clean(v, n + "."))
                elif isinstance(v, torch.Tensor) and v.dtype not in (torch.complex64,) and v.numel() and n != "model.turned": r[n] = v
            return r
        sd = clean(sd)
        dcp.save(sd, storage_writer=w)
        return
    elif kind == "safetensors":
        from torch.distributed.checkpoint.filesystem import SerializationFormat
        w = dcp.FileSystemWriter(out, serialization_format=SerializationFormat.SAFETENSORS)
        for name in ("cplx", "turned", "empty"): sd["model"].pop(name)  # which it does not take
        dcp.save(sd, storage_writer=w)
        return
    elif kind == "ranks":
        w = dcp.FileSystemWriter(out)
        dcp.save(sd, storage_writer=w, use_collectives=False)
        return
    else:
        w = dcp.FileSystemWriter(out)
    if hasattr(dcp, "save"): dcp.save(sd, storage_writer=w)
    else: dcp.save_state_dict(sd, w)

def main(rank, world, out, kind, port):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=world)
    save(state(world, kind), out, kind)
    dist.barrier()
    dist.destroy_process_group()

if __name__ == "__main__":
    out, world, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    with tempfile.TemporaryDirectory() as tempfile.tempdir:  # spawn leaves a file a process
        mp.spawn(main, args=(world, out, kind, 29511 + os.getpid() % 1000), nprocs=world)
