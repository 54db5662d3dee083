"""Time emitted modules against the same losses composed of torch operations, in one process.

Providers take turns (interleaved rounds, rotating order); the medians are compared. Forward and backward with fresh
gradients, float32. Peers: the composition in eager mode and under torch.compile, and torch's or torchvision's own.
Run: `python benchmarks/peers.py [--elements N] [--rounds R] [--json]`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

import lossdsl

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def huber_composed(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The formula of `examples/regression/huber.loss` as a person writes it."""
    r = pred - target
    size = r.abs()
    return torch.where(size <= 1.0, 0.5 * r * r, size - 0.5).mean()


def huber_builtin(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.huber_loss(pred, target)


def focal_composed(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The formula of `examples/classification/focal.loss` as a person writes it."""
    sign = 2 * target - 1
    balance = 0.25 * target + 0.75 * (1 - target)
    return (-balance * torch.exp(2.0 * F.logsigmoid(-sign * logits)) * F.logsigmoid(sign * logits)).mean()


def focal_torchvision(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """torchvision's sigmoid_focal_loss (Lin et al., 2017), in its own operations."""
    p = torch.sigmoid(logits)
    ce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p_t = p * target + (1 - p) * (1 - target)
    loss = ce * ((1 - p_t) ** 2)
    return ((0.25 * target + 0.75 * (1 - target)) * loss).mean()


@dataclass(frozen=True)
class Result:
    """Median milliseconds of each provider, and how many times faster ours is than the composition."""

    loss: str
    milliseconds: dict[str, float]
    speedup: float


def measure(providers: dict[str, Loss], x: torch.Tensor, y: torch.Tensor, rounds: int) -> dict[str, float]:
    """Median time of forward and backward in milliseconds; every provider runs once before timing."""
    names = list(providers)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-1, rounds):
        for k in range(len(names)):
            name = names[(turn + k) % len(names)]
            leaf = x.detach().requires_grad_()
            start = time.perf_counter()
            providers[name](leaf, y).backward()
            if turn >= 0:
                times[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(values) for name, values in times.items()}


def run(elements: int, rounds: int) -> list[Result]:
    """Measure Huber and focal loss on `elements` float32 elements."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(elements, generator=generator)
    real = torch.randn(elements, generator=generator)
    binary = (torch.rand(elements, generator=generator) < 0.1).float()
    results = []
    for name, y, peers in (
        ("regression.huber", real, {"composed": huber_composed, "F.huber_loss": huber_builtin}),
        ("classification.focal", binary, {"composed": focal_composed, "torchvision": focal_torchvision}),
    ):
        loss = lossdsl.load(name)()
        everyone: dict[str, Loss] = {"lossdsl": loss, **peers, "torch.compile": torch.compile(peers["composed"])}
        measured = measure(everyone, x, y, rounds)
        results.append(Result(name, measured, measured["composed"] / measured["lossdsl"]))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", type=int, default=4_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = run(options.elements, options.rounds)
    if options.json:
        print(json.dumps([vars(r) for r in results]))
        return
    print(f"{options.elements} float32 elements, forward and backward, {torch.get_num_threads()} threads")
    for r in results:
        print(f"{r.loss}: {r.speedup:.2f} times as fast as composed")
        for name, value in r.milliseconds.items():
            print(f"    {name:14} {value:8.2f} ms")


if __name__ == "__main__":
    main()
