"""Symmetries, told tensor by tensor: how each definition answers when an input is shifted, scaled, permuted, exchanged with
another one, or negated."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lossdsl.explain.sentence import Line, Math, Part, element, line, listed
from lossdsl.explain.walks import needed
from lossdsl.ir.latex import name_latex
from lossdsl.ir.nodes import REAL, Apply, Const, Definition, Group, Index, Input, Program, Read, Scalar
from lossdsl.ir.rewrite import transform
from lossdsl.verify.canonical import Canonical, Structures
from lossdsl.verify.context import Context
from lossdsl.verify.permute import Permutation
from lossdsl.verify.pieces import dependents
from lossdsl.verify.responses import Response, Scale, Shift

AMOUNT = {"shift": "s", "scale": "t"}


def invariance(ctx: Context, target: str, kind: str, entry: Input, along: frozenset[int]) -> list[Line]:
    """What is added to each tensor, or what it is multiplied by, when the input is shifted or scaled."""
    engine = (Shift if kind == "shift" else Scale)(ctx, entry, along)
    at = tuple(Index(a or f"i{k}", d) for k, (a, d) in enumerate(zip(entry.axes, entry.dims, strict=True)))
    amount = Read(AMOUNT[kind], tuple(i for k, i in enumerate(at) if k not in along), REAL)
    alike = listed(Math(at[k].name, name_latex(at[k].name)) for k in sorted(along))
    verb = "Add " if kind == "shift" else "Multiply by "
    said: list[Part] = [verb, amount, " > 0" if kind == "scale" else "", ", the same along ", *alike,
                        ", to " if kind == "shift" else ", ", Read(entry.name, at, REAL), "."]  # fmt: skip
    out = [line(*said)]
    for d in _moving(ctx.program, target, entry.name):
        answer = engine.tensor(d.tensor)
        out.append(line("Then ", element(d), *_answer(answer, kind, amount), ": ", d, ".", depth=1))
    return out


def _answer(r: Response, kind: str, amount: Read) -> list[Part]:
    if r.still:
        return [" stays"]
    total: Scalar | None = None
    for (indices, factors), c in sorted(r.terms.items(), key=lambda t: str(t[0])):
        read: Scalar = Read(amount.tensor, tuple(indices), REAL)
        power: Scalar = Const(c)
        for f, k in sorted(factors, key=lambda f: str(f[0])):
            base = f if k == 1 else Apply("powi", (f, Const(k)))
            power = base if power == Const(1) else Apply("mul", (power, base))
        if kind == "shift":
            term = read if power == Const(1) else Apply("mul", (power, read))
            total = term if total is None else Apply("add", (total, term))
        else:
            term = read if power == Const(1) else Apply("pow", (read, power))
            total = term if total is None else Apply("mul", (total, term))
    assert total is not None
    return [" grows by " if kind == "shift" else " is multiplied by ", total]


def permutation(ctx: Context, target: str, entry: Input, along: frozenset[int]) -> list[Line]:
    """Which tensors follow the permutation, and which forget it."""
    out: list[Line] = []
    for position in sorted(along):
        engine = Permutation(ctx.program, entry, position)
        if not engine.stays(target):
            return []
        axis = entry.axes[position] or f"position {position}"
        out.append(line(f"Put pi({axis}) for {axis} in ", Read(entry.name, (), REAL), ", for any permutation pi."))
        for d in needed(ctx.program, target):
            for moved in engine.followed(d.tensor):
                names = [i.name for i, m in zip(d.formals, moved, strict=True) if m]
                if any(moved):
                    out.append(line(element(d), f" follows, with pi({', '.join(names)}): ", d, ".", depth=1))
                else:
                    out.append(line(element(d), *_stays(d, ctx.program, entry.name), d, ".", depth=1))
    return out


def _stays(d: Definition, program: Program, name: str) -> list[Part]:
    if d.head != "map" and d.tensor in dependents(program, name):
        return [f" stays, as {d.head} over all of an axis does not depend on the order: "]
    return [" stays: "]


def exchanged(ctx: Context, target: str, a: str, b: str) -> list[Line]:
    """What each tensor becomes when two inputs change places."""
    renamed = {a: b, b: a}
    out = [line("Let ", Read(a, (), REAL), " and ", Read(b, (), REAL), " change places.")]

    def put(n: Scalar) -> Scalar:
        return Read(renamed[n.tensor], n.indices, n.kind) if isinstance(n, Read) and n.tensor in renamed else n

    numbers = Structures()
    other = Canonical(ctx.program, numbers, renamed)
    return out + _forms(ctx.program, target, numbers, other, put, renamed)


def negated(ctx: Context, target: str, names: tuple[str, ...]) -> list[Line]:
    """What each tensor becomes when inputs change their sign."""
    out = [
        line(
            "Put -",
            *listed([Read(n, (), REAL) for n in names]),
            " in place of ",
            *listed(Read(n, (), REAL) for n in names),
            ".",
        )
    ]

    def put(n: Scalar) -> Scalar:
        return Apply("neg", (n,)) if isinstance(n, Read) and n.tensor in names else n

    numbers = Structures()
    other = Canonical(ctx.program, numbers, {}, frozenset(names))
    return out + _forms(ctx.program, target, numbers, other, put, names)


def _forms(
    program: Program,
    target: str,
    numbers: Structures,
    other: Canonical,
    put: Callable[[Scalar], Scalar],
    moved: Iterable[str],
) -> list[Line]:
    plain = Canonical(program, numbers, {})
    above = frozenset().union(*(dependents(program, n) for n in moved))
    out: list[Line] = []
    for d in needed(program, target):
        if d.tensor not in above:
            continue
        (sign, number), (then, form) = plain.tensor(d.tensor), other.tensor(d.tensor)
        changed: Scalar = transform(d.body, put)
        became: list[Part] = [" reads what is above"]
        if changed is not d.body:
            became = [" becomes " if d.head == "map" else f" becomes the {d.head} of ", changed]
        if (sign, number) == (then, form):
            said: list[Part] = [*became, "; it stays: ", d]
        elif (-sign, number) == (then, form):
            said = [*became, "; it changes its sign: ", d]
        else:
            said = [*became, "; it becomes another function"]
        out.append(line(element(d), *said, ".", depth=1))
    out.append(line("(Compared are forms in which operands of sums, products and maxima are sorted, and signs drawn out of odd "
                    "functions and left out in even ones.)", depth=1))  # fmt: skip
    return out


def _moving(program: Program, target: str, name: str) -> list[Definition]:
    above = dependents(program, name)
    grouped = {d.tensor for g in program.body if isinstance(g, Group) for d in g.definitions}
    return [d for d in needed(program, target) if d.tensor in above and d.tensor not in grouped]


__all__ = ["exchanged", "invariance", "negated", "permutation"]
