"""A program for test_triton.py: recurrences, Triton's modules (in its interpreter, or on a device) against the
torch target's, in float64. Prints one line of JSON for each: the largest difference of value and gradients, relative to
the largest entry, and whether a kernel walks its recurrence or adds up its window."""

from __future__ import annotations

import json
import os
import warnings
from typing import Any

import torch
from recurrences import TEXTS, arguments, program

from lossdsl.assemble import differentiable, module_spec
from lossdsl.backends.emit_torch import emit_torch
from lossdsl.backends.emit_triton import emit
from lossdsl.diagnostics import Source
from lossdsl.loader import load_module

NAMED = ("gae_value", "ctc", "soft_dtw", "sinkhorn", "list_mle", "lovasz_hinge")
DEVICE = "cpu" if "TRITON_INTERPRET" in os.environ else "cuda"


def results(name: str, target: str) -> tuple[list[torch.Tensor], str]:
    """Value and gradients, and the text of the module."""
    p = program(name)
    spec = module_spec(Source("x.loss", ""), [p], target, (), "0")
    text = emit_torch(spec) if target == "torch" else emit(spec)
    module = load_module(text, "x.loss")
    function: Any = getattr(module, name, None) or getattr(module, f"{name}_loss")
    arrays, parameters = arguments(p)
    device = "cpu" if target == "torch" else DEVICE
    given = {k: torch.tensor(v).to(device) for k, v in arrays.items()}
    wrt = differentiable(p)
    for n in wrt:
        given[n].requires_grad_()
    made = function(**given, **parameters)
    value = made[0] if isinstance(made, tuple) else made
    value.sum().backward()
    gradients = [given[n].grad for n in wrt]
    return [value.detach().cpu(), *(g.cpu() for g in gradients if g is not None)], text


def main() -> None:
    warnings.simplefilter("ignore")
    for name in [*TEXTS, *NAMED]:
        (ours, text), (theirs, _) = results(name, "triton"), results(name, "torch")
        apart = [float((a - b).abs().max() / b.abs().max().clamp(min=1e-3)) for a, b in zip(ours, theirs, strict=True)]
        found = {"walked": "tl.debug_barrier()" in text, "summed": "_sum += " in text}
        print(json.dumps({"loss": name, "error": max(apart), **found}), flush=True)


if __name__ == "__main__":
    main()
