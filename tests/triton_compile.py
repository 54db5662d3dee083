"""Cross-compile the kernels that a Triton module would launch, without a device: run as a program by the tests.

Arguments: a JSON object {"targets": [[backend, arch, warp], ...], "examples": [...], "types": [...]}. Prints one JSON
line for each example: kernels compiled, spills by kernel (bytes; of AMD, registers), errors. Launches are recorded,
not executed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton
from references import REFERENCES
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton_emit import module_of

POINTERS = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int64: "*i64",
    torch.bool: "*i1",
}


WIDTHS = [2**k for k in range(6, 15)]
SHARED = 99 * 1024  # bytes that a program may have on every NVIDIA device since Ampere


class Recorder:
    """Stands for a kernel of the module: a launch compiles it for every target."""

    def __init__(self, kernel: Any, found: dict[str, Any], targets: list[GPUTarget]) -> None:
        self.kernel, self.found, self.targets = kernel, found, targets

    def __getitem__(self, grid: Any) -> Any:
        def launch(
            *args: Any, num_warps: int = 4, num_stages: int = 3, maxnreg: int | None = None, **constants: Any
        ) -> None:
            signature: dict[str, str] = {}
            values: dict[Any, Any] = {}
            attributes: dict[Any, Any] = {}
            for k, (name, a) in enumerate(zip(self.kernel.arg_names, args)):
                if isinstance(a, torch.Tensor):
                    signature[name] = POINTERS[a.dtype]
                    attributes[(k,)] = [["tt.divisibility", 16]]
                elif isinstance(a, float):
                    signature[name] = "fp32"
                elif a == 1:  # as the launcher does
                    signature[name], values[(k,)] = "constexpr", 1
                else:
                    signature[name] = "i32"
                    if a % 16 == 0 if self.found["aligned"] is None else self.found["aligned"]:
                        attributes[(k,)] = [["tt.divisibility", 16]]
            for name, value in constants.items():
                signature[name] = "constexpr"
                values[(self.kernel.arg_names.index(name),)] = value
            key = f"{self.kernel.__name__} {signature} {constants} {num_warps} {len(attributes)}"
            if key in self.found["kernels"]:
                return
            source = ASTSource(self.kernel, signature, values, attributes)
            spills = 0
            for target in self.targets:
                options = {"num_warps": num_warps, "num_stages": num_stages}
                if maxnreg is not None and target.backend == "cuda":  # elsewhere _tile does not ask for it
                    options["maxnreg"] = maxnreg
                try:
                    compiled = triton.compile(source, target=target, options=options)
                    if target.backend == "cuda":
                        spills = max(spills, spilled(compiled.asm["ptx"], int(target.arch)))
                        if compiled.metadata.shared > SHARED:
                            self.found["errors"].append(f"{key}: {compiled.metadata.shared} bytes of shared memory")
                    else:
                        spills = max(spills, *map(int, re.findall(r"vgpr_spill_count: *(\d+)", compiled.asm["amdgcn"])))
                except Exception as error:
                    self.found["errors"].append(f"{key}: {error!r}"[:1500])
            self.found["kernels"][key] = spills

        return launch


def spilled(ptx: str, arch: int) -> int:
    """Bytes of spill stores and loads that ptxas reports."""
    ptxas = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(ptx)
        suffix = "a" if arch == 90 else ""
        command = [ptxas, "-v", f"--gpu-name=sm_{arch}{suffix}", str(path), "-o", str(path) + ".cubin"]
        out = subprocess.run(command, capture_output=True, text=True, check=True)
    return sum(int(n) for n in re.findall(r"(\d+) bytes spill (?:stores|loads)", out.stderr))


def sweep(name: str, types: list[torch.dtype], targets: list[GPUTarget]) -> dict[str, Any]:
    found: dict[str, Any] = {"example": name, "kernels": {}, "errors": [], "aligned": False}
    reference = REFERENCES[name]
    module = module_of(reference.file)
    space = vars(module)
    for key, value in list(space.items()):
        if not isinstance(value, triton.JITFunction):
            continue
        # Helpers are called inside of kernels; one may be named as a loss begins (`_minimum`, minimum_risk).
        helper = key.startswith(("_h_", "_shares_", "_first_", "_setting", "_maximum", "_minimum", "_logsumexp"))
        if key.startswith(f"_{name_of(reference.file)}_") or not helper:
            space[key] = Recorder(value, found, targets)
    space["_launches"] = lambda *tensors: True
    tile = space.get("_tile")
    widest = lambda *limits: max(w for w in WIDTHS if tile(w, False, *limits)[0])  # noqa: E731
    sizes = [
        (None, tile),  # as they are
        (False, lambda c, a, *limits: tile(widest(*limits), a, *limits)),
        (False, lambda c, a, *limits: tile(2**15 + 1, a, *limits)),
        (True, lambda c, a, *limits: tile(2**15, a, *limits)),
        (False, lambda c, a, *limits: tile(c, True, *limits)),
    ]
    for found["aligned"], space["_tile"] in sizes if tile is not None else [(None, None), (False, None)]:
        for dtype in types:
            for case in reference.cases:
                arrays, parameters = case(np.random.default_rng(0))
                for modes in ({}, {"reduction": "none"}, {"reduction": "sum"}):
                    call(space[name_of(reference.file)], arrays, {**parameters, **modes}, dtype)
    return found


def call(function: Any, arrays: dict[str, np.ndarray], parameters: dict[str, Any], dtype: torch.dtype) -> None:
    real = {n: a.dtype == np.float64 for n, a in arrays.items()}
    for first in (True, False):
        tensors = {n: torch.tensor(a).to(dtype) if real[n] else torch.tensor(a) for n, a in arrays.items()}
        for n in [n for n in arrays if real[n]][: 1 if first else None]:
            tensors[n].requires_grad_()
        try:
            value = function(**tensors, **parameters)
        except TypeError:  # the loss has no reductions
            return
        if value.requires_grad:
            value.sum().backward()


def name_of(file: str) -> str:
    return file.rsplit("/", 1)[1]


def main() -> None:
    wanted = json.loads(sys.argv[1])
    targets = [GPUTarget(*t) for t in wanted["targets"]]
    for name in wanted["examples"]:
        print(json.dumps(sweep(name, [getattr(torch, t) for t in wanted["types"]], targets)), flush=True)


if __name__ == "__main__":
    main()
