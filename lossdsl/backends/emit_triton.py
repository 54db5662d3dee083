"""The Triton target: the torch module, with kernels of plans as `@triton.jit` functions for tensors on a device.

`emit(spec)` gives the text, `emitted(spec)` also what stays torch operations. Kernels take contiguous tensors (others are
made contiguous before the launch), compute in float32, or float64 for float64 inputs, and add up totals in two stages
of fixed order. In Triton's interpreter (TRITON_INTERPRET=1 before the module is imported) they run on CPU tensors.
"""

from __future__ import annotations

from lossdsl.backends.spec import LossSpec, ModuleSpec
from lossdsl.backends.torch_function import Emitted
from lossdsl.backends.torch_module import Loss, Module
from lossdsl.backends.triton_function import Kernels, dispatching, launching_function
from lossdsl.backends.triton_runtime import INSTEAD, runtime_sources
from lossdsl.lower.plan import Choices, Plan
from lossdsl.primitives.helpers import TRITON_HELPERS, helper_sources

__all__ = ["emit", "emitted"]


def emit(spec: ModuleSpec, choices: Choices | None = None) -> str:
    """The text of the module; the same spec gives the same bytes. `choices`: sizes of blocks and resident rows."""
    return _TritonModule(spec, choices or Choices()).emit()


def emitted(spec: ModuleSpec) -> tuple[str, list[str]]:
    """The text, and one line for each kernel of a plan that runs as torch operations, with the reason. They are in the
    module's header, too."""
    module = _TritonModule(spec, Choices())
    return module.emit(), module.reasons


class _TritonModule(Module):
    imports = ("torch", "triton", "triton.language")
    instead = INSTEAD

    def __init__(self, spec: ModuleSpec, choices: Choices) -> None:
        super().__init__(spec)
        self.choices = choices
        self.kernels = Kernels(self.names.fresh)
        self.reasons: list[str] = []

    def loss(self, loss: LossSpec) -> Loss:
        return _TritonLoss(self, loss)

    def notes(self) -> list[str]:
        return [*super().notes(), *self.reasons]

    def sources(self) -> list[str]:
        device = self.kernels.sources()
        own = super().sources()
        called = [*device, *self.kernels.runtime, *(text for text in own if text in INSTEAD.values())]
        # the texts without the kernels' own names, which may begin like those of helpers
        helpers = [text.rstrip("\n") for text in helper_sources(self.kernels.texts, TRITON_HELPERS)]
        return [*own, *helpers, *runtime_sources(called), *device]


class _TritonLoss(Loss):
    def __init__(self, module: _TritonModule, loss: LossSpec) -> None:
        super().__init__(module, loss)
        self.device = module

    def fused(self, plan: Plan, name: str, comment: str) -> Emitted:
        plain = super().fused(plan, name, comment)
        inner = f"{name}_on_device"
        kernels, choices = self.device.kernels, self.device.choices
        launched = launching_function(plan, inner, self.signature, kernels, choices, "")
        for kernel, why in launched.reasons:
            entry = plan.key.entry.replace("_", " ")
            reason = f"{self.loss.name}: {kernel} ({entry}) runs as torch operations: {why}"
            if reason not in self.device.reasons:
                self.device.reasons.append(reason)
        return plain if launched.emitted is None else dispatching(plain, launched.emitted, inner, self.signature)
