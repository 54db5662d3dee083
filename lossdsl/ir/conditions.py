"""Conditions of the algebraic form: SymPy's relations, kept away from what SymPy cannot compare.

SymPy folds a Piecewise that stands inside of a condition, and on the way it evaluates the parts at places where they are
NaN: that ends in a TypeError, or takes very long. So a condition on a value with branches is written out by branches
here, `(a if c else b) > 0` as `c and a > 0 or not c and b > 0`, and a comparison with NaN is false, as everywhere.
"""

from __future__ import annotations

from typing import Any

_RELATIONS = 200  # of one comparison that is written out by branches


def compared(op: str, a: Any, b: Any) -> Any:
    """The SymPy condition `a op b` for op one of < <= > >= == !=, without a Piecewise in it.

    Raises ValueError if it has too many branches.
    """
    import sympy

    if not (a.has(sympy.Piecewise) or b.has(sympy.Piecewise)):
        return _relation(op, a, b, True)
    return _branches(op, a, b, [_RELATIONS])


def _branches(op: str, a: Any, b: Any, budget: list[int]) -> Any:
    import sympy

    pieces = [*a.atoms(sympy.Piecewise), *b.atoms(sympy.Piecewise)]
    if not pieces:
        budget[0] -= 1
        if budget[0] < 0:
            raise ValueError("a condition on a value with so many branches has no algebraic form")
        return _relation(op, a, b, False)
    outer = max(pieces, key=lambda p: len(p.atoms(sympy.Piecewise)))  # its branches hold others, none holds it
    earlier: list[Any] = []
    cases: list[Any] = []
    for value, condition in outer.args:
        here = _branches(op, _put(a, outer, value), _put(b, outer, value), budget)
        parts = [p for p in (*earlier, condition, here) if p is not sympy.true]
        if sympy.false not in parts:
            cases.append(sympy.And(*parts, evaluate=False) if len(parts) > 1 else parts[0] if parts else sympy.true)
        earlier.append(sympy.Not(condition))
    return sympy.Or(*cases, evaluate=False) if len(cases) > 1 else cases[0] if cases else sympy.false


def _put(expression: Any, old: Any, new: Any) -> Any:
    """`expression` with `old` replaced; NaN where SymPy refuses to evaluate it there, as it does the maximum of NaN."""
    import sympy

    try:
        return expression.xreplace({old: new})
    except (TypeError, ValueError):
        return sympy.nan


def _relation(op: str, a: Any, b: Any, evaluate: bool) -> Any:
    import sympy

    relation = {"<": sympy.Lt, "<=": sympy.Le, ">": sympy.Gt, ">=": sympy.Ge, "==": sympy.Eq, "!=": sympy.Ne}[op]
    if any(v.has(sympy.nan, sympy.zoo) for v in (a, b)):  # outside of the domain, which is asked for elsewhere
        return sympy.true if op == "!=" else sympy.false
    if evaluate or (a.is_number and b.is_number):
        try:
            return relation(a, b)
        except (TypeError, ValueError):  # complex, or NaN found on the way
            pass
    return relation(a, b, evaluate=False)
