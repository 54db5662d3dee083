"""Compiled CPU kernels against torch.compile and against torch's own operations: forward and backward, float32.

Everything runs in one process; providers take turns (interleaved rounds, rotating order) and medians are compared. Beside
each time stands its roofline: the larger of the minimal bytes over the bandwidth of a copy and the operations over the
speed of a matrix product, both measured in the same process. Large fresh tensors cost page faults, ours and the peers'
alike; the setting of transparent huge pages is printed.
Run: `python benchmarks/cpu.py [--json OUT] [--rounds N] [--only WORD] [--threads T] [--clock cpu]`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import lossdsl
from lossdsl import bench
from lossdsl.backends.native_runtime import FLAGS

Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Case:
    """loss: a name of the catalogue; inputs: tensors, of which the first is differentiated; eager: torch's own function
    or the composition of a careful person; composed: what torch.compile is given, None if it does not finish in a minute;
    bytes: every input read once and the gradient written once; operations: what the formula takes."""

    loss: str
    inputs: Callable[[], Tensors]
    eager: Callable[..., torch.Tensor]
    composed: Callable[..., torch.Tensor] | None
    bytes: int
    operations: int


def focal(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    sign = 2 * t - 1
    balance = 0.25 * t + 0.75 * (1 - t)
    return (-balance * torch.exp(2.0 * F.logsigmoid(-sign * x)) * F.logsigmoid(sign * x)).mean()


def huber(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    r = x - t
    return torch.where(r.abs() <= 1, r * r / 2, r.abs() - 0.5).mean()


def kl(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    return F.kl_div(q, p, reduction="batchmean", log_target=True)


def jsd(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    p, q = teacher.softmax(-1), student.softmax(-1)
    m = (0.5 * p + 0.5 * q).log()
    return (
        0.5 * (p * (teacher.log_softmax(-1) - m)).sum(-1) + 0.5 * (q * (student.log_softmax(-1) - m)).sum(-1)
    ).mean()


def dice(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    overlap, volume = (p * t).sum(-1), (p + t).sum(-1)
    return (1 - (2 * overlap + 1e-5) / (volume + 1e-5)).mean()


def info_nce(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(q @ k.t() / 0.1, torch.arange(len(q), device=q.device))


def ssim(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    line = torch.exp(-((torch.arange(11.0, device=x.device) - 5) ** 2) / (2 * 1.5**2))
    line = line / line.sum()
    channels = x.shape[1]
    rows, columns = line.view(1, 1, 1, -1).expand(channels, 1, 1, 11), line.view(1, 1, -1, 1).expand(channels, 1, 11, 1)

    def blur(z: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.conv2d(z, rows, groups=channels), columns, groups=channels)

    mx, my = blur(x), blur(y)
    vx, vy, vxy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return 1 - ((2 * mx * my + c1) * (2 * vxy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean()


def gae(value: torch.Tensor, reward: torch.Tensor, done: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """The loop over time that training scripts publish: every step computes its own residual and stores its advantage."""
    advantage, running = torch.zeros_like(reward), torch.zeros_like(last)
    with torch.no_grad():
        for t in reversed(range(len(reward))):
            following = last if t + 1 == len(reward) else value[t + 1]
            keep = 1.0 - done[t]
            delta = reward[t] + 0.99 * keep * following - value[t]
            running = delta + 0.99 * 0.95 * keep * running
            advantage[t] = running
        wanted = advantage + value
    return ((wanted - value) ** 2 / 2).mean()


def gae_hoisted(value: torch.Tensor, reward: torch.Tensor, done: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """The same with everything but the recurrence made for all times at once, before the loop."""
    keep = 1.0 - done
    following = torch.cat([value[1:], last[None]])
    delta = (reward + 0.99 * keep * following - value).detach()
    found, running = [], torch.zeros_like(last)
    for t in reversed(range(len(reward))):
        running = delta[t] + 0.99 * 0.95 * keep[t] * running
        found.append(running)
    wanted = torch.stack(found[::-1]) + value.detach()
    return ((wanted - value) ** 2 / 2).mean()


def soft_dtw(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A loop over the anti-diagonals of the table, each a vector over batch and diagonal."""
    cost = (x[:, :, None] - y[:, None]).square().sum(-1)
    b, t, u = cost.shape
    inf = cost.new_full((b, 1), torch.inf)
    older, old, start_old, start_older = None, cost[:, 0, :1], 0, 0
    for k in range(1, t + u - 1):
        low, high = max(0, k - u + 1), min(t, k + 1)
        rows = torch.arange(low, high, device=x.device)
        here = cost[:, rows, k - rows]
        padded = torch.cat([inf, old, inf], 1)
        up, left = padded[:, low - start_old : high - start_old], padded[:, low - start_old + 1 : high - start_old + 1]
        if older is None:
            corner = torch.full_like(here, torch.inf)
        else:
            corner = torch.cat([inf, older, inf], 1)[:, low - start_older : high - start_older]
        best = -torch.logsumexp(torch.stack([-up, -left, -corner]), 0)
        older, start_older, old, start_old = old, start_old, here + best, low
    return old[:, 0].mean()


def _labels(classes: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, classes, shape)


def rollout() -> Tensors:
    """Values, rewards, ends of episodes (0 or 1, as training scripts hold them) and the values after the last step."""
    return torch.randn(1024, 256), torch.randn(1024, 256), (torch.rand(1024, 256) > 0.99).float(), torch.randn(256)


N = 2**23
CASES: dict[str, Case] = {
    "focal, 2^23": Case("focal", lambda: (torch.randn(N), (torch.rand(N) > 0.5).float()), focal, focal, 12 * N, 60 * N),
    "Huber, 2^23": Case("huber", lambda: (torch.randn(N), torch.randn(N)), F.huber_loss, huber, 12 * N, 12 * N),
    "cross-entropy, 4096 x 8192": Case(
        *("cross_entropy", lambda: (torch.randn(4096, 8192), _labels(8192, 4096)), F.cross_entropy, F.cross_entropy),
        *(8 * 4096 * 8192, 45 * 4096 * 8192),
    ),
    "cross-entropy, 4 x 21 x 256 x 256": Case(
        *("cross_entropy", lambda: (torch.randn(4, 21, 256, 256), _labels(21, 4, 256, 256))),
        *(F.cross_entropy, F.cross_entropy, 8 * 4 * 21 * 65536, 45 * 4 * 21 * 65536),
    ),
    "KL from logits, 2048 x 8192": Case(
        *("distill_forward_kl", lambda: (torch.randn(2048, 8192), torch.randn(2048, 8192), torch.ones(2048).bool())),
        *(kl, kl, 12 * 2048 * 8192, 90 * 2048 * 8192),
    ),
    "JSD from logits, 2048 x 8192": Case(
        *("distill_jsd", lambda: (torch.randn(2048, 8192), torch.randn(2048, 8192), torch.ones(2048).bool())),
        *(jsd, jsd, 12 * 2048 * 8192, 150 * 2048 * 8192),
    ),
    "Dice per row, 64 x 65536": Case(
        *("dice", lambda: (torch.rand(64, 1, 65536), (torch.rand(64, 1, 65536) > 0.5).float())),
        *(dice, dice, 12 * 64 * 65536, 8 * 64 * 65536),
    ),
    "InfoNCE, 2048 x 256": Case(
        *("info_nce", lambda: (F.normalize(torch.randn(2048, 256)), F.normalize(torch.randn(2048, 256)))),
        *(info_nce, info_nce, 12 * 2048 * 256, 4 * 2048 * 2048 * 256),
    ),
    "SSIM 11 x 11, 8 x 3 x 256 x 256": Case(
        *("ssim", lambda: (torch.rand(8, 3, 256, 256), torch.rand(8, 3, 256, 256))),
        *(ssim, ssim, 12 * 24 * 65536, 380 * 24 * 65536),
    ),
    "GAE, 1024 x 256": Case("gae", rollout, gae, None, 20 * 1024 * 256, 20 * 1024 * 256),
    "GAE, against a loop over the recurrence alone": Case(
        *("gae", rollout, gae_hoisted, None, 20 * 1024 * 256, 20 * 1024 * 256)
    ),
    "soft-DTW, 32 x 128 x 128": Case(
        *("soft_dtw", lambda: (torch.randn(32, 128, 4), torch.randn(32, 128, 4)), soft_dtw, None),
        *(12 * 32 * 128 * 4, 200 * 32 * 128 * 128),
    ),
    "Huber, 4096": Case("huber", lambda: (torch.randn(4096), torch.randn(4096)), F.huber_loss, huber, 49152, 49152),
}

KEYWORDS = {"gae": ("value", "reward", "done", "last_value"), "focal": ("logits", "target")}
FULL = {"temperature": 0.1}


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
clock = time.perf_counter


def timed(run: Callable[[], Any]) -> float:
    start = clock()
    run()
    return clock() - start


def step(function: Callable[..., torch.Tensor], tensors: Tensors, names: tuple[str, ...] = (), **options: Any) -> Any:
    """Value and gradient in the first tensor, as a training step asks for them."""
    leaf = tensors[0].clone().requires_grad_()
    rest = tensors[1:]

    def run() -> None:
        leaf.grad = None
        given = dict(zip(names, (leaf, *rest)))
        value = function(**given, **options) if names else function(leaf, *rest, **options)
        value.backward()

    return run, leaf


def medians(providers: dict[str, Callable[[], None]], rounds: int, patience: float) -> dict[str, float]:
    """Interleaved medians, after two runs that warm up."""
    for run in providers.values():
        run()
        run()
    return bench.medians(providers, rounds, patience, clock)


def machine() -> tuple[float, float]:
    """Bytes of a copy and operations of a matrix product in a second."""
    source = torch.randn(2**24)
    target = torch.empty_like(source)
    square = torch.randn(1024, 1024)
    target.copy_(source)
    copies = [timed(lambda: target.copy_(source)) for _ in range(15)]
    products = [timed(lambda: square @ square) for _ in range(15)]
    return 8 * 2**24 / min(copies), 2 * 1024**3 / min(products)


def first_use() -> dict[str, float]:
    """Seconds from the emitted module's first call to its gradient, with an empty and with a full cache."""
    script = (
        "import sys, time, importlib.util, torch\n"
        "found = importlib.util.spec_from_file_location('made', sys.argv[1])\n"
        "made = importlib.util.module_from_spec(found)\n"
        "found.loader.exec_module(made)\n"
        "x, y = torch.randn(64, 32, requires_grad=True), torch.randint(0, 32, (64,))\n"
        "torch.nn.functional.cross_entropy(x, y).backward()\n"
        "start = time.perf_counter()\n"
        "made.cross_entropy(x, y).backward()\n"
        "print(time.perf_counter() - start)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "made.py")
        path.write_text(lossdsl.compile("cross_entropy", native=True).source)
        env = {**os.environ, "LOSSDSL_CACHE": str(Path(folder, "cache"))}
        made = {}
        for name in ("first use, cold", "first use, warm"):
            run = subprocess.run(
                [sys.executable, "-c", script, str(path)], env=env, capture_output=True, text=True, check=True
            )
            made[name] = float(run.stdout)
        return made


def huge_pages() -> str:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return setting.read_text().strip() if setting.exists() else "unknown"


def measure(name: str, case: Case, rounds: int, bandwidth: float, speed: float) -> dict[str, Any]:
    torch.manual_seed(0)
    tensors = case.inputs()
    options = FULL if case.loss == "info_nce" else {}
    ours = lossdsl.load(case.loss, native=True).function
    providers: dict[str, Callable[[], None]] = {}
    providers["ours"], own = step(ours, tensors, KEYWORDS.get(case.loss, ()), **options)
    providers["eager"], theirs = step(case.eager, tensors)
    if case.composed is not None:
        torch._dynamo.reset()
        providers["compile"], _ = step(torch.compile(case.composed), tensors)
    found = medians(providers, rounds, 25.0)
    assert own.grad is not None
    assert theirs.grad is not None
    scale = float(theirs.grad.abs().max())
    return {
        "name": name,
        "seconds": found["ours"],
        "against_compile": found["compile"] / found["ours"] if "compile" in found else None,
        "against_eager": found["eager"] / found["ours"],
        "roofline_seconds": max(case.bytes / bandwidth, case.operations / speed),
        "difference": float((own.grad - theirs.grad).abs().max()) / scale if scale else 0.0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="OUT")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="cases with this word in their names")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: with --threads 1 on a machine that works")
    given = parser.parse_args()
    global clock
    clock = CLOCKS[given.clock]
    torch.set_num_threads(given.threads)
    bandwidth, speed = machine()
    load = os.getloadavg()[0]
    print(
        f"torch {torch.__version__}, {given.threads} threads, {given.clock} time, load {load:.1f}, huge pages: {huge_pages()}"
    )
    print(f"copy {bandwidth / 1e9:.1f} GB/s, matrix product {speed / 1e9:.0f} Gflop/s, flags {FLAGS}")
    print(f"{'work':34} {'ms':>9} {'compile':>8} {'eager':>8} {'roofline ms':>12} {'difference':>11}")
    rows = []
    for name, case in CASES.items():
        if given.only.lower() not in name.lower():
            continue
        row = measure(name, case, given.rounds, bandwidth, speed)
        rows.append(row)
        compiled = f"{row['against_compile']:.2f}" if row["against_compile"] else "-"
        print(
            f"{name:34} {row['seconds'] * 1e3:9.3f} {compiled:>8} {row['against_eager']:8.2f}"
            f" {row['roofline_seconds'] * 1e3:12.3f} {row['difference']:11.1e}",
            flush=True,
        )
    if not given.only:
        for name, seconds in first_use().items():
            rows.append({"name": name, "seconds": seconds})
            print(f"{name:34} {seconds * 1e3:9.1f}")
    if given.json:
        setting = {
            "torch": torch.__version__,
            "threads": given.threads,
            "clock": given.clock,
            "huge_pages": huge_pages(),
            "load": load,
        }
        Path(given.json).write_text(json.dumps({"machine": setting, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
