"""Values and gradients as they are compiled, for what reasons about compiled code."""

from __future__ import annotations

from lossdsl.ir.nodes import Program
from lossdsl.transform.arithmetic import NotYetError
from lossdsl.transform.dead import without_dead_terms
from lossdsl.transform.differentiate import differentiate
from lossdsl.transform.simplify import simplify
from lossdsl.transform.stabilise import stabilise


def value(program: Program, target: str) -> Program:
    """A tensor alone, stabilised and simplified."""
    return simplify(stabilise(without_dead_terms(program, (target,))))


def gradient(program: Program, target: str, wrt: tuple[str, ...]) -> Program:
    """Value and vector-Jacobian product of a tensor: first differentiated, then stabilised and simplified. Of a program
    that is well formed. Raises NotYetError, ValueError or KeyError where there is none."""
    program = without_dead_terms(program, (target,))
    return simplify(stabilise(differentiate(program, target, wrt, trusted=True)))


__all__ = ["NotYetError", "gradient", "value"]
