"""Helper functions of emitted Triton modules, as text; a module has only those that it uses."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lossdsl.backends.triton_text import TRUTHS, identity, merged, pad, reduced, state_type, unwrapped

# Heads whose folds may be split between programs: one state component, combined by one small program.
SHARES = 4096  # as many are added up at a time
TOTALS = ("sum", "prod", "max", "min", "any", "all", "count")

_FIXED = {
    "_launches": '''
def _launches(*tensors):
    """Whether the kernels of this module may run: on a CUDA or HIP device, or everywhere in Triton's interpreter."""
    if not isinstance(_setting, triton.JITFunction):
        return True
    return all(t.is_cuda for t in tensors if t is not None)
''',
    "_argument": '''
def _argument(value, acc, device):
    """A parameter for a kernel: a float, or a tensor where that would round it."""
    if isinstance(value, torch.Tensor):
        return value.detach().to(device, acc)
    if acc == torch.float64 or not isinstance(_setting, triton.JITFunction):
        return torch.full((), value, dtype=acc, device=device)
    return float(value)
''',
    "_types": '''
def _types(acc, *walked):
    """The types to compute in: of values, and of offsets in what is walked, tensors or so many entries (64 bits only
    where 32 might not do)."""
    wide = any(t is not None and (t if isinstance(t, int) else t.numel()) >= 2**30 for t in walked)
    return {"ACC": tl.float64 if acc == torch.float64 else tl.float32, "INDEX": tl.int64 if wide else tl.int32}
''',
    "_tile": '''
def _tile(columns, across, tiles, resident, block, entries):
    """(whole, sizes): whether a program holds whole rows, and the rows and columns that it holds at a time.

    across: neighbouring rows, not columns, lie side by side in memory, so that a program takes many rows at once.
    tiles: as many of a whole row are in registers at one time; of more than ten, a thread holds half as many entries.
    Longer rows are walked in blocks, a thread with so many entries of them, and read again for what needs a fold of all.
    maxnreg: what there is; left to itself, ptxas moves a few registers to memory to fit more threads on a processor.
    """
    width = triton.next_power_of_2(max(columns, 1))
    few = tiles <= 10
    warps = max(4, min(width // (512 if few else 256), 32))
    fits = tiles * width // (32 * warps) <= min(2048 // warps, 255) - 20
    whole = fits and width <= (resident if few else min(resident, 2048)) and not across
    if across:
        rows, held, warps = 128, 1, 4
    elif whole:
        rows, held = max((1024 if few else 512) // width, 1), width
    else:
        rows, held = 1, min(block, width)
        warps = max(4, min(held // (32 * entries), 32))
    sizes = {"ROWS": rows, "COLUMNS": held, "num_warps": warps}
    if not torch.version.hip:
        sizes["maxnreg"] = min(2048 // warps, 255)
    return whole, sizes
''',
    "_entries": '''
def _entries(block, warps):
    """Sizes of a program of so many entries. maxnreg: see `_tile`."""
    sizes = {"BLOCK": block, "num_warps": warps}
    if not torch.version.hip:
        sizes["maxnreg"] = min(2048 // warps, 255)
    return sizes
''',
    "_lanes": '''
def _lanes(columns):
    """Sizes of a recurrence whose columns read each other: all of them in one program. Rounds are not overlapped."""
    held = triton.next_power_of_2(max(columns, 1))
    return {"ROWS": 1, "COLUMNS": held, "num_warps": max(1, min(held // 128, 16)), "num_stages": 1}
''',
    "_scale_kernel": """
@triton.jit
def _scale_kernel(gradient_ptr, by_ptr, count, step, BLOCK: tl.constexpr):
    by = tl.load(by_ptr)
    if by != 1:
        for start in range(tl.program_id(0).to(tl.int64) * BLOCK, count, step):
            index = start + tl.arange(0, BLOCK)
            gradient = tl.load(gradient_ptr + index, mask=index < count)
            tl.store(gradient_ptr + index, gradient.to(by.dtype) * by, mask=index < count)
""",
    "_setting": """
@triton.jit
def _setting(x, ACC: tl.constexpr):
    # a parameter comes as a float, or as a pointer to one
    if x.dtype.is_ptr():
        return tl.load(x).to(ACC)
    else:
        return x.to(ACC)
""",
    "_maximum": """
@triton.jit
def _maximum(a, b):
    return tl.where((a >= b) | (a != a), a, b)
""",
    "_minimum": """
@triton.jit
def _minimum(a, b):
    return tl.where((a <= b) | (a != a), a, b)
""",
    "_logsumexp": """
@triton.jit
def _logsumexp(x):
    # along the columns; of nothing but -inf it is -inf
    top = tl.max(x, axis=1)[:, None]
    shift = tl.where(tl.abs(top) == float("inf"), 0.0, top)
    return shift + tl.log(tl.sum(tl.exp(x - shift), axis=1)[:, None])
""",
    "_logsumexp_more": """
@triton.jit
def _logsumexp_more(top, total, x):
    # (top, total) stands for top + log(total), entry by entry, with one exponential: the larger of two counts as 1
    apart = tl.exp(-tl.abs(tl.where(x == top, 0.0, x - top)))
    return _maximum(top, x), tl.where(x > top, total * apart + 1.0, total + apart)
""",
    "_logsumexp_end": """
@triton.jit
def _logsumexp_end(top, total):
    # along the columns; of nothing but -inf it is -inf
    highest = tl.reduce(top, 1, _maximum)[:, None]
    shift = tl.where(tl.abs(highest) == float("inf"), 0.0, highest)
    return shift + tl.log(tl.sum(total * tl.exp(top - shift), axis=1)[:, None])
""",
}

for _head, _better in (("max", ">"), ("min", "<")):
    _FIXED[f"_first_{_head}"] = f"""
@triton.jit
def _first_{_head}(a, i, b, j):
    # of equal values the lower index; a nan wins over everything
    first = (a {_better} b) | ((a == b) & (i < j)) | ((a != a) & ((b == b) | (i < j)))
    return tl.where(first, a, b), tl.where(first, i, j)
"""


def _totals() -> dict[str, str]:
    made = {}
    for name in TOTALS:
        kind = "bool" if name in TRUTHS else "acc"
        kind = state_type(name, kind)
        start, other = identity(name, kind)[0].text, pad(name, kind).text
        if name == "count":  # the shares are added up
            name_of_end, other = "sum", "0"
        else:
            name_of_end = name
        merge = f"_{name}imum(state, part)" if name in ("max", "min") else merged(name, ["state"], ["part"])[0]
        made[f"_shares_{name}"] = f"""
@triton.jit
def _shares_{name}(parts_ptr, count, BLOCK: tl.constexpr):
    # the shares of all programs, always in the same order
    state = tl.full([BLOCK], {start}, parts_ptr.dtype.element_ty)
    for start in range(0, count, BLOCK):
        at = start + tl.arange(0, BLOCK)
        part = tl.load(parts_ptr + at, mask=at < count, other={other})
        state = {merge}
    return {unwrapped(reduced(name_of_end, "state", "0"))}
"""
        made[f"_store_{name}"] = f"""
@triton.jit
def _store_{name}(parts_ptr, out_ptr, count, ADD: tl.constexpr, BLOCK: tl.constexpr):
    total = _shares_{name}(parts_ptr, count, BLOCK)
    if ADD:
        total += tl.load(out_ptr)
    tl.store(out_ptr, total)
"""
    return made


# Helpers of torch modules that a Triton module has otherwise.
INSTEAD = {
    "_scale": """
def _scale(gradient, by):
    \"\"\"Multiply a gradient in place; by 1, which only the device sees, nothing is read or written.\"\"\"
    count = gradient.numel()
    small = count <= 65536 and gradient.dtype == by.dtype  # torch rounds `by` to another type; its launch is shorter
    if small or not (_launches(gradient, by) and gradient.is_contiguous()):
        gradient.mul_(by)
    elif count:
        programs = min(triton.cdiv(count, 4096), 1024)
        with torch.cuda.device_of(gradient):
            _scale_kernel[(programs,)](gradient, by, count, 4096 * programs, BLOCK=4096, num_warps=8)
""".strip("\n"),
}

RUNTIME: dict[str, str] = {name: text.strip("\n") for name, text in {**_FIXED, **_totals()}.items()}
_ORDER = sorted(
    RUNTIME, key=lambda name: (name.startswith("_store"), name.startswith("_shares"), name.endswith("more"))
)
_WORD = re.compile(r"\b_\w+")


def runtime_sources(texts: Iterable[str]) -> list[str]:
    """Sources of the helpers of this module that `texts` name, and of those these name."""
    needed: set[str] = set()
    pending = list(texts)
    while pending:
        for name in _WORD.findall(pending.pop()):
            if name in RUNTIME and name not in needed:
                needed.add(name)
                pending.append(RUNTIME[name])
    return [RUNTIME[name] for name in _ORDER if name in needed]
