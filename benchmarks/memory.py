"""Peak memory of emitted modules against careful compositions of torch operations, forward and backward on a CPU.

Counted: bytes that torch's allocator holds above what the inputs hold, from the profiler's record of every allocation;
the gradient itself is in the figure. Run: `python benchmarks/memory.py [--json]`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

import lossdsl
from lossdsl import bench

Loss = Callable[..., torch.Tensor]
Inputs = dict[str, torch.Tensor]


def cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, target)


def focal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """With one product of signs and one logsigmoid: `logsigmoid(-z)` is `logsigmoid(z) - z`."""
    z = (2 * target - 1) * logits
    logp = F.logsigmoid(z)
    return -((0.25 + 0.5 * (1 - target)) * torch.exp(2 * (logp - z)) * logp).mean()


def huber(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.huber_loss(pred, target)


def info_nce(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(q @ k.T / 0.1, torch.arange(len(q)))


def ssim(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Separable convolutions, as pytorch-msssim has them."""
    channels = x.shape[1]
    bell = torch.exp(-((torch.arange(11) - 5) ** 2) / (2 * 1.5**2))
    bell = (bell / bell.sum()).expand(channels, 1, 11)

    def blur(a: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.conv2d(a, bell[:, :, None, :], groups=channels), bell[:, :, :, None], groups=channels)

    mx, my = blur(x), blur(y)
    vx, vy, vxy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    return 1 - ((2 * mx * my + 1e-4) * (2 * vxy + 9e-4) / ((mx * mx + my * my + 1e-4) * (vx + vy + 9e-4))).mean()


def dice(prob: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    overlap, volume = (prob * target).sum((2, 3)), prob.sum((2, 3)) + target.sum((2, 3))
    return (1 - (2 * overlap + 1e-5) / (volume + 1e-5)).mean()


def skeleton(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """A morphological gradient, by max_pool2d."""
    opened = -F.max_pool2d(-pred, 3, 1)
    grown = F.max_pool2d(pred, 3, 1)
    return ((grown - opened) * target[:, :, 1:-1, 1:-1]).mean()


SKELETON = """
loss skeleton:
    input pred, target: real[b, c, h, w]
    axis i, j = 3
    small = min(pred[h = h + i, w = w + j] over i, j)
    large = max(pred[h = h + i, w = w + j] over i, j)
    per[b, c, h, w] = (large - small) * target[h = h + 1, w = w + 1]
    return mean(per)
"""


@dataclass(frozen=True)
class Case:
    """A loss of the catalogue, or a text of its own; what a person would write; its inputs, the differentiated first."""

    peer: Loss
    inputs: Callable[[], Inputs]
    parameters: Mapping[str, float] = field(default_factory=dict)
    text: str = ""


def _elements() -> Inputs:
    return {"pred": torch.randn(1 << 22), "target": torch.randn(1 << 22)}


CASES = {
    "cross_entropy": Case(
        cross_entropy, lambda: {"logits": torch.randn(4096, 1000), "target": torch.randint(0, 1000, (4096,))}
    ),
    "focal": Case(focal, lambda: {"logits": torch.randn(1 << 22), "target": torch.randint(0, 2, (1 << 22,)).float()}),
    "huber": Case(huber, _elements),
    "info_nce": Case(info_nce, lambda: {"q": _unit(2048, 128), "k": _unit(2048, 128)}, {"temperature": 0.1}),
    "ssim": Case(ssim, lambda: {"x": torch.rand(8, 3, 256, 256), "y": torch.rand(8, 3, 256, 256)}),
    "dice": Case(dice, lambda: {"prob": torch.rand(8, 4, 256, 256), "target": torch.rand(8, 4, 256, 256).round()}),
    "pooled": Case(
        skeleton, lambda: {"pred": torch.rand(8, 3, 256, 256), "target": torch.rand(8, 3, 256, 256)}, text=SKELETON
    ),
}


def _unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


def peak(loss: Loss, inputs: Inputs, parameters: Mapping[str, float]) -> int:
    """The most bytes that were held at once beyond the inputs, in value and gradient."""
    first = next(iter(inputs))
    given = {n: t.clone().requires_grad_(n == first) for n, t in inputs.items()}

    def step() -> None:
        given[first].grad = None
        loss(**given, **parameters).backward()

    most = bench.peak(step, "cpu")
    assert most is not None
    return most


@dataclass(frozen=True)
class Result:
    """Peaks in MiB, and ours as a multiple of the composition's."""

    loss: str
    ours: float
    composed: float
    ratio: float


def measure(name: str) -> Result:
    case = CASES[name]
    loss = lossdsl.loads(case.text) if case.text else lossdsl.load(name)
    function = loss.function
    inputs = case.inputs()
    value, peer = function(**inputs, **case.parameters), case.peer(**inputs)
    torch.testing.assert_close(value, peer, rtol=1e-4, atol=1e-5)
    ours, theirs = peak(function, inputs, case.parameters), peak(case.peer, inputs, {})
    return Result(name, ours / 2**20, theirs / 2**20, ours / theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("losses", nargs="*", default=list(CASES))
    chosen = parser.parse_args()
    torch.manual_seed(0)
    results = [measure(name) for name in chosen.losses]
    if chosen.json:
        print(json.dumps([vars(r) for r in results]))
        return
    for r in results:
        print(f"{r.loss:15} ours {r.ours:8.1f} MiB   composed {r.composed:8.1f} MiB   {r.ratio:5.2f} times")


if __name__ == "__main__":
    main()
