"""Generated text as an importable module, with source lines that tracebacks, `inspect` and torch.compile can read."""

from __future__ import annotations

import hashlib
import linecache
import sys
from types import ModuleType


def load_module(text: str, path: str) -> ModuleType:
    """Execute an emitted module's text and return the module.

    text: what an emitter returned (never a user's text: the emitters' own check has passed it). path: the `.loss` file,
    for the name shown in tracebacks. The module is entered in `sys.modules` under a name made from the text, so that
    its classes can be pickled within the process; the same text gives the same module.
    """
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    name = f"lossdsl_generated_{digest}"
    known = sys.modules.get(name)
    if known is not None:
        return known
    filename = f"<lossdsl {digest} {path}>"
    module = ModuleType(name)
    module.__file__ = filename
    code = compile(text, filename, "exec", dont_inherit=True)
    # No modification time: linecache.checkcache then never drops the entry (dynamo and triton read it later).
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    sys.modules[name] = module
    try:
        exec(code, module.__dict__)
    except BaseException:
        del sys.modules[name], linecache.cache[filename]
        raise
    return module
