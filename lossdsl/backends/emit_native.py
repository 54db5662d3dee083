"""The torch target with compiled kernels for tensors on a CPU: C++ text inside the module, built when it is first used.

`emit(spec)` gives the text, `emitted(spec)` also what stays torch operations. A module finds a compiler at run time, keeps what
it built on disk, and runs as the plain torch module where there is none.
"""

from __future__ import annotations

from lossdsl.backends.native_driver import Kernels
from lossdsl.backends.native_function import calling_function, dispatching
from lossdsl.backends.native_runtime import IMPORTS, LOADER, loader_names
from lossdsl.backends.native_traced import TRACED
from lossdsl.backends.spec import LossSpec, ModuleSpec
from lossdsl.backends.torch_function import Emitted
from lossdsl.backends.torch_module import Loss, Module
from lossdsl.lower.plan import Plan

__all__ = ["TRUSTED", "emit", "emitted"]

TRUSTED = f"{LOADER}\n\n{TRACED}"


def emit(spec: ModuleSpec) -> str:
    """The text of the module; the same spec gives the same bytes."""
    return _NativeModule(spec).emit()


def emitted(spec: ModuleSpec) -> tuple[str, list[str]]:
    """The text, and one line for each step of a plan that runs as torch operations, with the reason; these are in the
    module's header, too."""
    module = _NativeModule(spec)
    return module.emit(), module.reasons


class _NativeModule(Module):
    imports = ("torch", *IMPORTS)

    def __init__(self, spec: ModuleSpec) -> None:
        super().__init__(spec)
        self.kernels = Kernels(self.names.fresh)
        self.reasons: list[str] = []

    def loss(self, loss: LossSpec) -> Loss:
        return _NativeLoss(self, loss)

    def notes(self) -> list[str]:
        return [*super().notes(), *self.reasons]

    def sources(self) -> list[str]:
        self.helpers -= loader_names()
        if not self.kernels.texts:
            return super().sources()
        lines = ['_NATIVE_HELPERS = r"""', *self.kernels.helpers(), '"""', "", "_NATIVE_KERNELS: dict = {}"]
        for name, code, source in self.kernels.sources():
            lines += ["", f'_NATIVE_KERNELS["{name}"] = (', f'    "{code}",', '    r"""', *source, '""",', ")"]
        return [*super().sources(), "\n".join(lines), TRUSTED]

    def trusted(self) -> str:
        return TRUSTED


class _NativeLoss(Loss):
    def __init__(self, module: _NativeModule, loss: LossSpec) -> None:
        super().__init__(module, loss)
        self.native = module

    def more_entries(self) -> list[str]:
        if not self.native.kernels.texts or any(key.entry == "gradient_formula" for key, _ in self.loss.plans):
            return []
        return [f'("traced", "", (), ()): lambda *given: _traced("{self.table}", *given),']

    def fused(self, plan: Plan, name: str, comment: str) -> Emitted:
        plain = super().fused(plan, name, comment)
        inner = f"{name}_native"
        called = calling_function(plan, inner, self.signature, self.native.kernels)
        for kernel, why in called.reasons:
            entry = plan.key.entry.replace("_", " ")
            reason = f"{self.loss.name}: {kernel} ({entry}) runs as torch operations: {why}"
            if reason not in self.native.reasons:
                self.native.reasons.append(reason)
        if called.emitted is None:
            return plain
        return dispatching(plain, called, inner, self.signature, plan)
