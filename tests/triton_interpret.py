"""Run Triton modules of examples against the references: on a device, or as a program in Triton's interpreter.

Arguments: a JSON object {"examples": [...], "choices": {...}}. Prints one JSON line for each example and
type: the largest error of value and gradients, relative to the largest entry. The interpreter is chosen by
TRITON_INTERPRET=1 in the environment, which triton reads when it is imported.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from references import REFERENCES
from triton_emit import module_of

from lossdsl.lower.plan import Choices


def error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    if theirs.numel() == 0:
        return 0.0
    ours = ours.detach().double().cpu()
    difference = float((ours - theirs.detach()).abs().max())
    largest = float(theirs.detach().abs().max())
    scale = max(largest, 1e-3) if largest > 1e-12 else 1.0  # zeros are differences of what is about 1
    return difference / scale if difference == difference else float("inf")


def worst(name: str, module: Any, dtype: torch.dtype, device: str) -> float:
    reference = REFERENCES[name]
    function = getattr(module, reference.file.rsplit("/", 1)[1])
    found = 0.0
    for seed, case in enumerate(reference.cases):
        arrays, parameters = case(np.random.default_rng(seed))
        real = [n for n, a in arrays.items() if a.dtype == np.float64]
        wrt = reference.gradients(arrays)
        # the reference sees what a tensor of that type holds
        held = {n: torch.tensor(a).to(dtype) if n in real else torch.tensor(a) for n, a in arrays.items()}
        exact = {n: (t.double() if n in real else t).clone().requires_grad_(n in wrt) for n, t in held.items()}
        ours = {n: t.to(device).requires_grad_(n in wrt) for n, t in held.items()}
        value, expected = function(**ours, **parameters), reference.value(**exact, **parameters)
        value.backward()
        expected.backward()
        found = max(found, error(value, expected))
        for n in wrt:
            want = exact[n].grad
            grad = ours[n].grad
            assert grad is not None
            found = max(found, error(grad, torch.zeros_like(exact[n]) if want is None else want))
    return found


def counting(original: Any, launches: list[bool]) -> Any:
    def counted(*tensors: Any) -> bool:
        launches.append(original(*tensors))
        return launches[-1]

    return counted


def spilling(module: Any) -> dict[str, int]:
    """Bytes that kernels compiled so far spill, for those that spill any. What the driver counts is all memory of a
    thread; cosines of large numbers have some without a spill, so ptxas is asked again."""
    from triton_compile import spilled

    found: dict[str, int] = {}
    for name, kernel in vars(module).items():
        for cache, *_ in getattr(kernel, "device_caches", {}).values():
            for compiled in cache.values():
                if compiled.n_spills:
                    bytes_ = spilled(compiled.asm["ptx"], compiled.metadata.target.arch)
                    found[name] = max(found.get(name, 0), bytes_)
    return {name: most for name, most in found.items() if most}


def results(name: str, choices: Choices, device: str) -> Iterator[dict[str, Any]]:
    """Error and launches of an example in float32, with the spills of its kernels, then in float64."""
    module = module_of(REFERENCES[name].file, choices)
    launches: list[bool] = []
    vars(module)["_launches"] = counting(module._launches, launches)
    for dtype in (torch.float32, torch.float64):
        found = worst(name, module, dtype, device)
        spills = spilling(module) if device == "cuda" and dtype == torch.float32 else {}
        yield {"example": name, "type": str(dtype), "error": found, "launches": sum(launches), "spills": spills}


def main() -> None:
    wanted = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")
    choices = Choices(**wanted["choices"])
    for name in wanted["examples"]:
        for found in results(name, choices, "cpu"):
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
