"""What a checkpoint of DeepSpeed holds, as DeepSpeed itself says: the parameters of its zero_to_fp32.py, and the
optimizer's state put together with the addresses of fragments (ZeRO 1, 2) that its ds_to_universal.py uses, or as
zero_to_fp32.py cuts the parameters (ZeRO 3): fixtures/good/deepspeed/*.answer.pt.
Usage: DS_ACCELERATOR=cpu deepspeed_judge.py CHECKPOINT ANSWER"""
import glob, os, re, sys
import torch
from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint, zero3_partitioned_param_info

root, answer = sys.argv[1:]
whole = {k: v.clone() for k, v in get_fp32_state_dict_from_zero_checkpoint(root).items()}
folder = os.path.join(root, open(os.path.join(root, "latest")).read().strip())
load = lambda f: torch.load(f, map_location="cpu", weights_only=False)
optim = sorted(glob.glob(folder + "/*_optim_states.pt"), key=lambda f: int(re.search(r"pp_rank_(\d+)", f).group(1)))
states = [load(f)["optimizer_state_dict"] for f in optim]
shapes = load(sorted(glob.glob(folder + "/*_model_states.pt"))[0])["param_shapes"]
for key in ("exp_avg", "exp_avg_sq"):
    if states[0]["zero_stage"] < 3:
        for group, names in enumerate(shapes):
            for name, shape in names.items():
                parts = []
                for s in states:
                    address = s["param_slice_mappings"][group].get(name)
                    if address is not None:
                        parts.append(s["base_optimizer_state"]["state"][group][key].narrow(0, address.start, address.numel))
                whole[f"optimizer.state.{name}.{key}"] = torch.cat(parts).view(shape).clone()
    else:
        flat = [torch.cat([s["optimizer_state_dict"]["state"][g][key] for g in range(len(s["fp32_flat_groups"]))]) for s in states]
        offset = 0
        for name, shape in (pair for names in shapes for pair in names.items()):
            n, _ = zero3_partitioned_param_info(shape.numel(), len(states))
            parts = torch.cat([f.narrow(0, offset, n) for f in flat])
            whole[f"optimizer.state.{name}.{key}"] = parts[: shape.numel()].view(shape).clone()
            offset += n
torch.save(whole, answer)
