# mypy: ignore-errors
"""`torch.distributed` with one process: a plain loop, the same under DDP or FSDP2, or collectives alone."""

import sys

import torch
import torch.distributed as dist
from small import Rows, a_model
from torch.nn.parallel import DistributedDataParallel

try:
    from torch.distributed.fsdp import fully_shard
except ImportError:  # before torch 2.6
    from torch.distributed._composable.fsdp import fully_shard


def train(kind: str) -> None:
    model = a_model(dtype=torch.float32)
    if kind == "ddp":
        model = DistributedDataParallel(model, device_ids=[0])
    elif kind == "fsdp2":
        for layer in (*model.model.layers, model):
            fully_shard(layer)
    optimizer = torch.optim.AdamW(model.parameters())
    rows = Rows()
    for step in range(2):
        batch = {name: torch.tensor([rows[step][name]] * 2, device="cuda") for name in rows[0]}
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    print("bytes of gradients:", sum(p.numel() * p.element_size() for p in model.parameters()))
    # A thread of torch lets go of a backward pass as it begins the next. One with callbacks, as of FSDP2,
    # must not be its last when Python ends: "terminate called without an active exception".
    torch.ones(1, device="cuda", requires_grad=True).backward()


def collect() -> None:
    counts = torch.tensor([3, 5], device="cuda")
    dist.all_reduce(counts)
    gathered, scattered = [torch.empty_like(counts)], torch.empty_like(counts)
    dist.all_gather(gathered, counts)
    dist.reduce_scatter_tensor(scattered, counts)
    told, lists = [None], [["any", "size"]]
    dist.all_gather_object(told, {"rows": 7})
    dist.broadcast_object_list(lists)
    dist.barrier()
    print(counts.tolist(), gathered[0].tolist(), scattered.tolist(), told, lists)


torch.cuda.set_device(0)
dist.init_process_group("nccl")
if sys.argv[1] == "collectives":
    collect()
else:
    train(sys.argv[1])
dist.destroy_process_group()
