"""Triton kernels against torch.compile, torch's own operations and Liger-Kernel: value and gradient on one GPU.

Everything runs in one process. `ms` is the time of the device: calls are recorded as a graph and replayed, so that
neither Python nor launches count (large losses hide them); `call` is the time of a call with all of that, many calls
after one another. Medians of three rounds in which providers take turns. Beside each time stands the share of its
roofline: the minimal bytes over the bandwidth of a copy measured in the same process. `difference` is our gradient's
against eager's in the same type, relative to the largest entry. Providers that are missing or fail are said to be so.
Run: `python benchmarks/gpu.py [--json OUT] [--only WORD] [--seconds S]`.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import triton
from cpu import Tensors, dice, focal, gae_hoisted, huber, info_nce, jsd, kl, soft_dtw, ssim
from triton.testing import do_bench, do_bench_cudagraph

import lossdsl

Peer = Callable[..., torch.Tensor]
DEVICE = "cuda"
PEERS = ("compile", "eager", "liger")


@dataclass(frozen=True)
class Case:
    """loss: a name of the catalogue; inputs: tensors, of which the first is differentiated; eager: torch's own function
    or the composition of a careful person; composed: what torch.compile is given, None for loops of many steps; bytes:
    the least that value and gradient move, in elements of the type; liger: the name of its function in Liger-Kernel."""

    loss: str
    inputs: Callable[[Random], Tensors]
    eager: Peer
    composed: Peer | None
    elements: int
    liger: str | None = None
    names: tuple[str, ...] = ()
    types: tuple[torch.dtype, ...] = (torch.float32,)


class Random:
    """Random tensors from a generator of its own: a recording that fails leaves torch's in the state of a recording."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.generator = torch.Generator(DEVICE).manual_seed(0)

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator, device=DEVICE).to(self.dtype)

    def uniform(self, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=self.generator, device=DEVICE).to(self.dtype)

    def labels(self, classes: int, *shape: int) -> torch.Tensor:
        return torch.randint(0, classes, shape, generator=self.generator, device=DEVICE)


Maker = Callable[[Random], torch.Tensor]


def normal(*shape: int) -> Maker:
    return lambda random: random.normal(*shape)


def uniform(*shape: int) -> Maker:
    return lambda random: random.uniform(*shape)


def binary(*shape: int) -> Maker:
    return lambda random: (random.uniform(*shape) > 0.5).to(random.dtype)


def unit(*shape: int) -> Maker:
    return lambda random: F.normalize(random.normal(*shape))


def labels(classes: int, *shape: int) -> Maker:
    return lambda random: random.labels(classes, *shape)


def ones(*shape: int) -> Maker:
    return lambda random: torch.ones(shape, dtype=torch.bool, device=DEVICE)


def drawn(*makers: Maker) -> Callable[[Random], Tensors]:
    return lambda random: tuple(make(random) for make in makers)


def cross_entropy(rows: int, classes: int, *types: torch.dtype) -> Case:
    inputs = drawn(normal(rows, classes), labels(classes, rows))
    elements, peer = 2 * rows * classes, "liger_cross_entropy"
    return Case("cross_entropy", inputs, F.cross_entropy, F.cross_entropy, elements, peer, types=types)


def distilled(loss: str, eager: Peer, rows: int, classes: int) -> Case:
    inputs = drawn(normal(rows, classes), normal(rows, classes), ones(rows))
    return Case(loss, inputs, eager, eager, 3 * rows * classes)


N = 2**26
BOTH = (torch.float32, torch.bfloat16)
CASES: dict[str, Case] = {
    "focal, 2^26": Case(
        "focal", drawn(normal(N), binary(N)), focal, focal, 3 * N, names=("logits", "target"), types=BOTH
    ),
    "Huber, 2^26": Case("huber", drawn(normal(N), normal(N)), F.huber_loss, huber, 3 * N, types=BOTH),
    "cross-entropy, 8192 x 8192": cross_entropy(8192, 8192, *BOTH),
    "cross-entropy, 8192 x 32000": cross_entropy(8192, 32000, *BOTH),
    "cross-entropy, 4096 x 128256": cross_entropy(4096, 128256, *BOTH),
    "cross-entropy, 16 x 21 x 512 x 512": Case(
        *("cross_entropy", drawn(normal(16, 21, 512, 512), labels(21, 16, 512, 512))),
        *(F.cross_entropy, F.cross_entropy, 2 * 16 * 21 * 512 * 512),
    ),
    "KL from logits, 8192 x 32000": distilled("distill_forward_kl", kl, 8192, 32000),
    "JSD from logits, 8192 x 32000": distilled("distill_jsd", jsd, 8192, 32000),
    "Dice per row, 64 x 2^20": Case(
        *("dice", drawn(uniform(64, 1, 2**20), binary(64, 1, 2**20)), dice, dice, 3 * 2**26),
    ),
    "InfoNCE, 8192 x 256": Case(
        *("info_nce", drawn(unit(8192, 256), unit(8192, 256)), info_nce, info_nce, 3 * 8192 * 256)
    ),
    "SSIM 11 x 11, 32 x 3 x 512 x 512": Case(
        *("ssim", drawn(uniform(32, 3, 512, 512), uniform(32, 3, 512, 512)), ssim, ssim, 3 * 96 * 512 * 512)
    ),
    "GAE, 1024 x 4096": Case(
        *("gae", drawn(normal(1024, 4096), normal(1024, 4096), labels(1, 1024, 4096), normal(4096))),
        *(gae_hoisted, None, 5 * 1024 * 4096),
        names=("value", "reward", "done", "last_value"),
    ),
    "soft-DTW, 64 x 128 x 128": Case(
        *("soft_dtw", drawn(normal(64, 128, 4), normal(64, 128, 4)), soft_dtw, None, 3 * 64 * 128 * 4)
    ),
    "Huber, 4096": Case("huber", drawn(normal(4096), normal(4096)), F.huber_loss, huber, 3 * 4096),
    "cross-entropy, 64 x 1000": cross_entropy(64, 1000, torch.float32),
}
KEYWORDS: dict[str, dict[str, Any]] = {"info_nce": {"temperature": 0.1}}


def step(function: Peer, tensors: Tensors, names: tuple[str, ...], options: dict[str, Any]) -> tuple[Any, torch.Tensor]:
    """Value and gradient in the first tensor, as a training step asks for them."""
    leaf = tensors[0].clone().requires_grad_()

    def run() -> None:
        leaf.grad = None
        if names:
            function(**dict(zip(names, (leaf, *tensors[1:]))), **options).backward()
        else:
            function(leaf, *tensors[1:], **options).backward()

    return run, leaf


def liger(name: str) -> Peer:
    """Liger-Kernel's function. It writes the gradient over its input, so that later calls see another: as fast."""
    from liger_kernel.transformers import functional

    found: Peer = getattr(functional, name)
    return found


def calls(run: Callable[[], None], patience: float = 0.2) -> float:
    """Seconds a call, launches and Python included, with one synchronisation at the end."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    count = max(3, min(200, int(patience / (time.perf_counter() - start))))
    start = time.perf_counter()
    for _ in range(count):
        run()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / count


def replayed(run: Callable[[], None], milliseconds: int) -> float:
    """Seconds of the device, from a graph; of the device and what is around it where a graph cannot be recorded."""
    gc.collect()
    torch.cuda.empty_cache()  # what the recording before held
    try:
        found = do_bench_cudagraph(run, rep=milliseconds, return_mode="median")
    except RuntimeError:
        torch.cuda.synchronize()
        found = do_bench(run, rep=milliseconds, return_mode="median")
    return float(found) * 1e-3


def copy_bandwidth() -> float:
    """Bytes a second, read and written."""
    source = torch.randn(2**28, device=DEVICE)
    target = torch.empty_like(source)
    return float(8 * 2**28 / (do_bench(lambda: target.copy_(source), return_mode="median") * 1e-3))


def measure(name: str, case: Case, dtype: torch.dtype, milliseconds: int, bandwidth: float) -> dict[str, Any]:
    tensors, options = case.inputs(Random(dtype)), KEYWORDS.get(case.loss, {})
    ours = lossdsl.load(case.loss, target="triton").function
    wanted: dict[str, Callable[[], Peer]] = {"ours": lambda: ours, "eager": lambda: case.eager}
    if case.composed is not None:
        composed = case.composed
        wanted["compile"] = lambda: torch.compile(composed)
    if case.liger is not None:
        wanted["liger"] = lambda: liger(case.liger or "")
    torch._dynamo.reset()
    steps, gradients, failed = {}, {}, {}
    for provider, make in wanted.items():
        own = provider == "ours"
        try:
            run, leaf = step(make(), tensors, case.names if own else (), options if own else {})
            run()
            run()
            torch.cuda.synchronize()
        except Exception as problem:
            failed[provider] = f"{type(problem).__name__}: {problem}".split("\n")[0][:200]
            continue
        steps[provider] = run
        if provider in ("ours", "eager"):
            assert leaf.grad is not None
            gradients[provider] = leaf.grad.clone()
    rounds: dict[str, list[float]] = {provider: [] for provider in steps}
    for _ in range(3):
        for provider, run in steps.items():
            rounds[provider].append(replayed(run, milliseconds))
    times = {provider: statistics.median(found) for provider, found in rounds.items()}
    called = {provider: calls(run) for provider, run in steps.items()}
    row: dict[str, Any] = {"name": name, "type": str(dtype).removeprefix("torch."), "failed": failed}
    row |= {"seconds": times, "calls": called}
    row["roofline_seconds"] = case.elements * tensors[0].element_size() / bandwidth
    if len(gradients) == 2:
        a, b = (gradients[p].double() for p in ("ours", "eager"))
        row["difference"] = float((a - b).abs().max() / b.abs().max())
    return row


def shown(row: dict[str, Any]) -> str:
    def ratio(times: dict[str, float], provider: str) -> str:
        both = provider in times and "ours" in times
        return f"{times[provider] / times['ours']:8.2f}" if both else f"{'-':>8}"

    own, call = (row[k].get("ours", float("nan")) for k in ("seconds", "calls"))
    ratios = "".join(ratio(row["seconds"], p) for p in PEERS)
    whole = "".join(ratio(row["calls"], p) for p in PEERS)
    share = row["roofline_seconds"] / own
    return (
        f"{row['name']:34} {row['type']:9}{own * 1e3:8.3f}{share:6.0%}{ratios} |{call * 1e3:8.3f}{whole}"
        f" {row.get('difference', float('nan')):10.1e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="OUT")
    parser.add_argument("--only", default="", help="cases with this word in their names")
    parser.add_argument("--milliseconds", type=int, default=60, help="of measuring each provider in a round")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no case is begun after as many")
    given = parser.parse_args()
    start = time.perf_counter()
    bandwidth = copy_bandwidth()
    machine = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "triton": triton.__version__}
    print(*machine.values(), f"copy {bandwidth / 1e9:.0f} GB/s", sep=", ")
    peers = "".join(f"{p:>8}" for p in PEERS)
    print(f"{'work':34} {'type':9}{'ms':>8}{'roof':>6}{peers} |{'call':>8}{peers} {'difference':>10}")
    rows = []
    for name, case in CASES.items():
        for dtype in case.types:
            if given.only.lower() not in name.lower() or time.perf_counter() - start > given.seconds:
                continue
            row = measure(name, case, dtype, given.milliseconds, bandwidth)
            gc.collect()
            rows.append(row)
            print(shown(row), flush=True)
            for provider, why in row["failed"].items():
                print(f"    {provider}: {why}")
            if given.json:
                Path(given.json).write_text(json.dumps({"machine": machine, "copy": bandwidth, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
