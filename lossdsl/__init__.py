"""lossdsl: a symbolic loss-design language and compiler.

`load`, `loads`, `check`, `advise`, `compile`, `from_sympy`: see `lossdsl.api`. Names are imported when they are first used, so that
the command line starts fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossdsl.api import Compiled as Compiled
    from lossdsl.api import advise as advise
    from lossdsl.api import check as check
    from lossdsl.api import compile as compile
    from lossdsl.api import from_sympy as from_sympy
    from lossdsl.api import load as load
    from lossdsl.api import loads as loads
    from lossdsl.diagnostics import Diagnostic as Diagnostic
    from lossdsl.diagnostics import LossError as LossError
    from lossdsl.diagnostics import Source as Source
    from lossdsl.verify.verdict import Report as Report

__version__ = "0.1.0"

_HOME = {
    "Compiled": "lossdsl.api",
    "Diagnostic": "lossdsl.diagnostics",
    "LossError": "lossdsl.diagnostics",
    "Report": "lossdsl.verify.verdict",
    "Source": "lossdsl.diagnostics",
    "advise": "lossdsl.api",
    "check": "lossdsl.api",
    "compile": "lossdsl.api",
    "from_sympy": "lossdsl.api",
    "load": "lossdsl.api",
    "loads": "lossdsl.api",
}

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'lossdsl' has no attribute {name!r}")
