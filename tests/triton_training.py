"""A program for test_triton.py: modules with states, the step and learnable values, Triton's (in its interpreter, or on a
device) against the torch target's. Prints one line of JSON for each loss: the largest difference and the number of kernels."""

from __future__ import annotations

import json
import os
import warnings
from typing import Any

import torch
from test_torch_training import ANNEALED, CENTRED, LEARNED, QUEUED, RUNNING

import lossdsl


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape)


torch.set_default_device("cpu" if "TRITON_INTERPRET" in os.environ else "cuda")
torch.manual_seed(0)  # what the table draws is the same each time, and so are the errors

# Each loss with the arguments of its constructor, and what follows x in a call.
LOSSES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "centred": (CENTRED, {"c": 3}, lambda: ()),
    "queued": (QUEUED, {"queue": drawn(6, 3)}, lambda: (drawn(4, 3),)),
    "annealed": (ANNEALED, {}, lambda: ((drawn(4, 3) > 0).float(),)),
    "running": (RUNNING, {"held": torch.zeros(4, 3)}, lambda: ()),
    "learned": (LEARNED, {"k": 3}, lambda: (drawn(4),)),
}


def difference(ours: Any, theirs: Any) -> float:
    """The largest difference of buffers and gradients, over the largest entry."""
    pairs = [(a.float(), b.float()) for a, b in zip(ours.buffers(), theirs.buffers())]
    pairs += [(a.grad, b.grad) for a, b in zip(ours.parameters(), theirs.parameters())]
    return max([0.0, *(float((a - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in pairs)])


def main() -> None:
    warnings.simplefilter("ignore")
    for name, (text, keywords, rest) in LOSSES.items():
        torch.manual_seed(0)
        theirs, ours = lossdsl.loads(text)(**keywords), lossdsl.loads(text, target="triton")(**keywords)
        worst, kernels = 0.0, type(ours).source.count("@triton.jit")
        for _ in range(4):
            x, more = drawn(4, 3).requires_grad_(), rest()
            y = x.detach().clone().requires_grad_()
            theirs(x, *more).backward()
            ours(y, *more).backward()
            assert x.grad is not None
            assert y.grad is not None
            apart = float((x.grad - y.grad).abs().max() / x.grad.abs().max().clamp(min=1))
            worst = max(worst, apart, difference(ours, theirs))
        steps = int(ours.step) if hasattr(ours, "step") else 4
        print(json.dumps({"loss": name, "error": worst, "kernels": kernels, "steps": steps}), flush=True)


if __name__ == "__main__":
    main()
