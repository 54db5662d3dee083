"""Time recurrences of the catalogue against eager torch: forward and backward, float32, one thread.

Providers take turns; the best of the rounds is compared, because a loop of small calls suffers from other work.
Run: `python benchmarks/recurrences.py [--rounds R] [--profile LOSS]`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

import lossdsl

Loss = Callable[[], torch.Tensor]


def ctc_peer(logits: torch.Tensor, target: torch.Tensor, frames: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.ctc_loss(logits.log_softmax(-1), target, frames, labels)


def soft_dtw_peer(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A loop over the anti-diagonals of the table, each a vector over batch and diagonal."""
    cost = (x[:, :, None] - y[:, None]).square().sum(-1)
    b, t, u = cost.shape
    inf = cost.new_full((b, 1), torch.inf)
    older, old = None, cost[:, 0, :1]
    start_old = 0
    start_older = 0
    for k in range(1, t + u - 1):
        low, high = max(0, k - u + 1), min(t, k + 1)
        rows = torch.arange(low, high)
        here = cost[:, rows, k - rows]
        padded = torch.cat([inf, old, inf], 1)
        up = padded[:, low - start_old : high - start_old]
        left = padded[:, low - start_old + 1 : high - start_old + 1]
        if older is None:
            corner = torch.full_like(here, torch.inf)
        else:
            wide = torch.cat([inf, older, inf], 1)
            corner = wide[:, low - start_older : high - start_older]
        best = -torch.logsumexp(torch.stack([-up, -left, -corner]), 0)
        older, start_older, old, start_old = old, start_old, here + best, low
    return old[:, 0].mean()


@dataclass(frozen=True)
class Case:
    peer: Callable[..., torch.Tensor]
    inputs: Callable[[], dict[str, torch.Tensor]]
    rounds: int


def _ctc() -> dict[str, torch.Tensor]:
    frames, labels = torch.full((16,), 200), torch.full((16,), 30)
    return {
        "logits": torch.randn(200, 16, 64),
        "target": torch.randint(1, 64, (16, 30)),
        "frames": frames,
        "labels": labels,
    }


CASES = {
    "ctc": Case(ctc_peer, _ctc, 10),
    "soft_dtw": Case(soft_dtw_peer, lambda: {"x": torch.randn(32, 128, 4) / 2, "y": torch.randn(32, 128, 4) / 2}, 3),
}


def taken(loss: Callable[..., torch.Tensor], inputs: dict[str, torch.Tensor]) -> float:
    first = next(iter(inputs))
    given = {n: t.clone().requires_grad_(n == first) for n, t in inputs.items()}
    start = time.perf_counter()
    loss(**given).backward()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--profile", choices=CASES)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for name, case in CASES.items():
        if chosen.profile not in (None, name):
            continue
        ours, inputs = lossdsl.load(name).function, case.inputs()
        torch.testing.assert_close(ours(**inputs), case.peer(**inputs), rtol=1e-4, atol=1e-4)
        taken(ours, inputs)
        if chosen.profile:
            with profile(activities=[ProfilerActivity.CPU]) as recorded:
                taken(ours, inputs)
            print(recorded.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=40))
            continue
        times = [(taken(ours, inputs), taken(case.peer, inputs)) for _ in range(chosen.rounds or case.rounds)]
        best, theirs = (1e3 * min(column) for column in zip(*times, strict=True))
        print(f"{name:10} ours {best:7.1f} ms   eager {theirs:7.1f} ms   {theirs / best:5.2f} times as fast")


if __name__ == "__main__":
    main()
