"""Programs with every stable primitive written out in elementary ones, and programs of the negated loss: the same
mathematics in other words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lossdsl.ir.build import BuiltLoss
from lossdsl.ir.nodes import TRUE, Apply, Const, Definition, Group, Program, Read, Scalar
from lossdsl.ir.rewrite import map_scalars, transform


def _f(name: str, *args: Scalar) -> Scalar:
    return Apply(name, args)


ONE = Const(1)
ELEMENTARY: dict[str, Callable[..., Scalar]] = {
    "softplus": lambda a: _f("log", _f("add", ONE, _f("exp", a))),
    "logsigmoid": lambda a: _f("neg", _f("log", _f("add", ONE, _f("exp", _f("neg", a))))),
    "sigmoid": lambda a: _f("div", ONE, _f("add", ONE, _f("exp", _f("neg", a)))),
    "log1p": lambda a: _f("log", _f("add", ONE, a)),
    "expm1": lambda a: _f("sub", _f("exp", a), ONE),
    "logaddexp": lambda a, b: _f("log", _f("add", _f("exp", a), _f("exp", b))),
    "logcosh": lambda a: _f("log", _f("div", _f("add", _f("exp", a), _f("exp", _f("neg", a))), Const(2))),
    "tanh": lambda a: _f(
        "div", _f("sub", _f("exp", a), _f("exp", _f("neg", a))), _f("add", _f("exp", a), _f("exp", _f("neg", a)))
    ),
    "relu": lambda a: _f("max2", a, Const(0)),
    "abs": lambda a: _f("max2", a, _f("neg", a)),
    "log2": lambda a: _f("div", _f("log", a), _f("log", Const(2))),
    "log10": lambda a: _f("div", _f("log", a), _f("log", Const(10))),
}


def expanded(built: BuiltLoss) -> tuple[BuiltLoss, int]:
    """The loss without stable primitives, and how many there were."""
    count = 0

    def step(n: Scalar) -> Scalar:
        nonlocal count
        if isinstance(n, Apply) and n.name in ELEMENTARY:
            count += 1
            return ELEMENTARY[n.name](*n.args)
        return n

    def whole(d: Definition) -> Definition:
        return map_scalars(d, lambda s: transform(s, step))

    body: list[Definition | Group] = []
    for item in built.program.body:
        if isinstance(item, Group):
            body.append(replace(item, definitions=tuple(whole(d) for d in item.definitions)))
            continue
        d = whole(item)
        if d.head == "logsumexp" and d.support is TRUE:
            count += 1
            total = replace(d, tensor=f"{d.tensor}$total", head="sum", body=_f("exp", d.body))
            read = Read(total.tensor, d.formals, d.dtype)
            body += [total, Definition(d.tensor, d.formals, "map", (), TRUE, _f("log", read))]
        else:
            body.append(d)
    return replace(built, program=_with(built.program, body)), count


def negated(built: BuiltLoss, target: str) -> BuiltLoss:
    """The loss whose target is minus that one; what reads it reads the negative."""
    body = [
        replace(item, body=_f("neg", item.body)) if isinstance(item, Definition) and item.tensor == target else item
        for item in built.program.body
    ]
    return replace(built, program=_with(built.program, body))


def _with(program: Program, body: list[Definition | Group]) -> Program:
    return program.with_body(tuple(body))
