"""One of two gloo processes: `python torch_distributed.py RANK PORT`. Exits with an assertion where a gradient differs."""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

import lossdsl

WORLD = 2
WEIGHTING = lossdsl.load("uncertainty_weighting")
CROSS_ENTROPY = lossdsl.load("cross_entropy")


class Tasks(torch.nn.Module):
    """Three regression tasks with learnable weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net, self.loss = torch.nn.Linear(4, 3), WEIGHTING(k=3)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        return self.loss((self.net(x) - y).square().mean(0))


def main(rank: int, port: int) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORLD)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(8, 4, generator=generator), torch.randn(8, 3, generator=generator)
    mine = slice(rank * 4, rank * 4 + 4)
    whole = Tasks()
    whole(x, y).backward()
    expected = {n: p.grad for n, p in whole.named_parameters()}
    assert expected["loss.log_variance"].abs().sum() > 0

    replicated = DistributedDataParallel(Tasks())
    replicated(x[mine], y[mine]).backward()
    for n, p in replicated.module.named_parameters():
        torch.testing.assert_close(p.grad, expected[n])

    mesh = init_device_mesh("cpu", (WORLD,))
    sharded = Tasks()
    fully_shard(sharded, mesh=mesh)
    sharded(x[mine], y[mine]).backward()
    for n, p in sharded.named_parameters():
        torch.testing.assert_close(p.grad.full_tensor(), expected[n])

    logits, labels = torch.randn(8, 5, generator=generator), torch.arange(8) % 5
    leaf = logits.clone().requires_grad_()
    plain = CROSS_ENTROPY.function(leaf, labels)
    (slope,) = torch.autograd.grad(plain, leaf)
    spread = distribute_tensor(logits, mesh, [Shard(0)]).requires_grad_()
    value = CROSS_ENTROPY.function(spread, distribute_tensor(labels, mesh, [Shard(0)]))
    torch.testing.assert_close(value.full_tensor(), plain)
    (ours,) = torch.autograd.grad(value, spread)
    torch.testing.assert_close(ours.full_tensor(), slope)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
    sys.stderr.flush()
    os._exit(0)  # gloo's threads may outlive the group, and end a process that is torn down with an abort
