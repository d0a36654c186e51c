"""Writes checkpoints of DeepSpeed on the CPU: fixtures/good/deepspeed. A model with a tied weight, a frozen one,
buffers, a scalar and sizes that no number of ranks divides, in two groups of parameters.
Usage: DS_ACCELERATOR=cpu deepspeed_write.py OUT WORLD STAGE DTYPE   (DTYPE: fp32, bf16, fp16)"""
import os, sys, tempfile
import torch, torch.multiprocessing as mp


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(7, 5)
        self.a = torch.nn.Linear(5, 3)
        self.norm = torch.nn.LayerNorm(3)
        self.frozen = torch.nn.Linear(3, 5, bias=False)
        self.scale = torch.nn.Parameter(torch.tensor([0.75]))
        self.head = torch.nn.Linear(5, 7, bias=False)
        self.head.weight = self.embed.weight
        self.frozen.weight.requires_grad = False
        self.register_buffer("mean", torch.arange(4, dtype=torch.float32) / 4)
        self.register_buffer("seen", torch.tensor(3))

    def forward(self, x):
        y = self.norm(self.a(self.embed(x)))
        return self.head(self.frozen(y) * self.scale)


def run(rank, world, out, stage, dtype):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29611", RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world))
    import deepspeed
    deepspeed.init_distributed(dist_backend="gloo")
    config = {
        "train_micro_batch_size_per_gpu": 2,
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0, "sub_group_size": 30},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
    if dtype != "fp32":
        config[dtype] = {"enabled": True}
    torch.manual_seed(0)
    model = Net()
    if stage == 3:
        with deepspeed.zero.Init(config_dict_or_path=config):
            torch.manual_seed(0)
            model = Net()
    trained = [p for p in model.parameters() if p.requires_grad]
    decay = [p for p in trained if (p.ds_shape if hasattr(p, "ds_shape") else p.shape).numel() > 3]
    other = [p for p in trained if not any(p is d for d in decay)]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": other, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    for step in range(2):
        x = torch.arange(6).reshape(2, 3) % 7
        loss = engine(x).float().pow(2).mean()
        engine.backward(loss)
        engine.step()
    engine.save_checkpoint(out, client_state={"epoch": 2, "note": "run é"})


if __name__ == "__main__":
    out, world, stage, dtype = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    with tempfile.TemporaryDirectory() as tempfile.tempdir:  # spawn leaves a file a process
        mp.spawn(run, (world, out, stage, dtype), nprocs=world)
