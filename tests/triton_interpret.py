"""Run Triton modules of examples in Triton's interpreter against the references: run as a program by the tests.

Arguments: a JSON object {"examples": [...], "resident": int, "block": int, "device": "cpu" | "cuda"}. Prints one JSON
line for each example and type: the largest error of value and gradients, relative to the largest entry.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any

import numpy as np

WANTED = json.loads(sys.argv[1])
if WANTED["device"] == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported

import torch  # noqa: E402
from references import REFERENCES  # noqa: E402
from triton_emit import module_of  # noqa: E402

from lossdsl.lower.plan import Choices  # noqa: E402


def error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    if theirs.numel() == 0:
        return 0.0
    ours = ours.detach().double().cpu()
    difference = float((ours - theirs.detach()).abs().max())
    return difference / max(float(theirs.detach().abs().max()), 1e-3) if difference == difference else float("inf")


def worst(name: str, module: Any, dtype: torch.dtype) -> float:
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
        ours = {n: t.to(WANTED["device"]).requires_grad_(n in wrt) for n, t in held.items()}
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


def main() -> None:
    warnings.simplefilter("ignore")
    choices = Choices(resident=WANTED["resident"], block=WANTED["block"])
    for name in WANTED["examples"]:
        module = module_of(REFERENCES[name].file, choices)
        launches: list[bool] = []
        vars(module)["_launches"] = counting(module._launches, launches)
        for dtype in (torch.float64, torch.float32):
            found = worst(name, module, dtype)
            print(
                json.dumps({"example": name, "type": str(dtype), "error": found, "launches": sum(launches)}), flush=True
            )


if __name__ == "__main__":
    main()
