"""Writes a file for each rank with torch.save, as FSDP's users do: fixtures/good/fsdp. KIND: sharded (FSDP's
SHARDED_STATE_DICT of torch < 2.?, ShardedTensor), local (LOCAL_STATE_DICT), dtensor (fully_shard and distribute_tensor),
tensors (ShardedTensors of any cut), strided (fully_shard of what tensor parallelism has cut).  whole.pt beside the ranks' files is the answer.
Usage: fsdp_write.py OUT WORLD KIND"""
import os, sys, tempfile
import torch, torch.distributed as dist, torch.multiprocessing as mp


def t(shape, dtype=torch.float32, k=0):
    n = 1
    for s in shape:
        n *= s
    return ((torch.arange(n, dtype=torch.int64) * 7 + k) % 251 - 120).reshape(shape).to(dtype)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(11, 6)
        self.a = torch.nn.Linear(6, 5)
        self.register_buffer("mean", torch.arange(4, dtype=torch.float32) / 4)
        for i, p in enumerate(self.parameters()):
            p.data = t(tuple(p.shape), k=i)


def fsdp(kind):
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP, StateDictType
    model = FSDP(Net(), device_id=torch.device("cpu")) if torch.__version__ >= "2" else FSDP(Net())
    with FSDP.state_dict_type(model, StateDictType.FULL_STATE_DICT):
        whole = {k: v.clone() for k, v in model.state_dict().items()}
    which = StateDictType.SHARDED_STATE_DICT if kind == "sharded" else StateDictType.LOCAL_STATE_DICT
    with FSDP.state_dict_type(model, which):
        return model.state_dict(), whole


def dtensor(world):
    from torch.distributed.tensor import distribute_tensor, Shard, Replicate
    from torch.distributed.device_mesh import init_device_mesh
    mesh = init_device_mesh("cpu", (world,), mesh_dim_names=("dp",))
    out, whole = {}, {}
    def put(name, x, mesh, placements):
        whole[name], out[name] = x, distribute_tensor(x.float(), mesh, placements).to(x.dtype)
    put("rows", t((11, 6)), mesh, [Shard(0)])
    put("cols", t((5, 13), torch.bfloat16, 3), mesh, [Shard(1)])
    put("all", t((9,), torch.float64, 1), mesh, [Replicate()])
    put("few", t((2, 3), torch.int32, 4), mesh, [Shard(0)])
    if world == 4:
        m2 = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
        put("grid", t((7, 9), torch.float32, 11), m2, [Shard(0), Shard(1)])
        put("mixed", t((6, 5), torch.float16, 8), m2, [Replicate(), Shard(0)])
        put("twice", t((10, 3), torch.float32, 12), m2, [Shard(0), Shard(0)])
    out["plain"] = whole["plain"] = t((4, 3), torch.int32, 2)
    return {"model": out, "step": 42}, {"model": whole, "step": 42}


def strided():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    model = torch.nn.Sequential(torch.nn.Linear(6, 10), torch.nn.Linear(10, 7))
    for i, p in enumerate(model.parameters()):
        p.data = t(tuple(p.shape), k=i)
    whole = {k: v.detach().clone() for k, v in model.state_dict().items()}
    parallelize_module(model, mesh["tp"], {"0": ColwiseParallel(), "1": RowwiseParallel()})
    fully_shard(model, mesh=mesh["dp"])
    part = model.state_dict()
    return part, whole


def tensors(rank, world):
    from torch.distributed._shard import sharded_tensor
    from torch.distributed._shard.sharding_spec import ChunkShardingSpec, EnumerableShardingSpec, ShardMetadata
    out, whole = {}, {}
    def put(name, x, cuts):
        metas = [ShardMetadata(shard_offsets=list(o), shard_sizes=list(s), placement=f"rank:{r}/cpu") for o, s, r in cuts]
        local = [sharded_tensor.Shard(x[tuple(slice(a, a + n) for a, n in zip(m.shard_offsets, m.shard_sizes))].clone(), m) for m in metas if m.placement.rank() == rank]
        whole[name], out[name] = x, sharded_tensor.init_from_local_shards(local, *x.shape)
    put("rows", t((11, 6)), [((0, 0), (4, 6), 0), ((4, 0), (7, 6), 1)])
    put("grid", t((7, 9), torch.float16, 5), [((0, 0), (3, 4), 0), ((0, 4), (3, 5), 1), ((3, 0), (4, 9), 1)])
    put("line", t((10,), torch.float64, 3), [((0,), (3,), 1), ((3,), (7,), 0)])
    out["plain"] = whole["plain"] = t((4, 3), torch.int32, 2)
    return {"model": out, "lr": 0.5}, {"model": whole, "lr": 0.5}


def run(rank, world, out, kind):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29633", RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world))
    dist.init_process_group("gloo", rank=rank, world_size=world)
    part, whole = strided() if kind == "strided" else dtensor(world) if kind == "dtensor" else tensors(rank, world) if kind == "tensors" else fsdp(kind)
    os.makedirs(out, exist_ok=True)
    torch.save(part, f"{out}/model_rank{rank}.pt")
    if rank == 0:
        torch.save(whole, f"{out}.whole.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as tempfile.tempdir:  # spawn leaves a file a process
        mp.spawn(run, (int(sys.argv[2]), sys.argv[1], sys.argv[3]), nprocs=int(sys.argv[2]))
