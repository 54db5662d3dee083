"""The spherical score of a class: a - b q_k / |q| with a positive b, q on the simplex.

The expected loss a - b <p, q> / |q| is least at the one q of the simplex in the direction of p, which is p (Cauchy and Schwarz's
inequality): it is strictly proper. As it is continuous on the closed simplex, and p has no other class on top than the
likeliest, predictions with another one on top do not come to the least: it is calibrated.
"""

from __future__ import annotations

from fractions import Fraction

from lossdsl.certificate.bounds import Bounds
from lossdsl.certificate.elements import terms_of
from lossdsl.certificate.labels import Problem, problem_of
from lossdsl.certificate.norms import root_of
from lossdsl.certificate.question import Question
from lossdsl.certificate.rules import Stuck
from lossdsl.ir.nodes import Apply, Range, Read, Scalar
from lossdsl.ir.rewrite import substitute

_MOST = 8  # terms


def of_spherical(q: Question) -> list[list[str]]:
    """Raises Stuck."""
    p, bounds = problem_of(q), Bounds(q.program, q.assume)
    if p.prediction.kind != "simplex" or p.prediction.range != Range() or q.link is not None:
        raise Stuck("a prediction that is no simplex")
    terms, case = terms_of(bounds, p.element.body, Fraction(1)), bounds.body(p.element)
    moving = {n: k for n, k in terms.items() if not p.moving.isdisjoint(n.tensors)}
    if len(moving) != 1 or len(terms) > _MOST or not all(case[n].finite for n in terms if n not in moving):
        raise Stuck("more than one term")
    ((term, factor),) = moving.items()
    factor *= _score(bounds, p, term)
    if factor >= 0:
        raise Stuck("no share of the norm that lowers the loss")
    return [["a share of the norm", p.label.tensor, p.prediction.name, str(factor)]]


def _score(bounds: Bounds, p: Problem, n: Scalar) -> Fraction:
    """What multiple it is of the prediction of the label's class over the norm of all of them; 0 if none is seen."""
    if not isinstance(n, Apply) or n.name != "div":
        return Fraction(0)
    top, below = terms_of(bounds, n.args[0], Fraction(1)), n.args[1]
    if set(top) != {p.at(p.label)} or not isinstance(below, Apply) or below.name != "sqrt":
        return Fraction(0)
    return top[p.at(p.label)] if _is_square(bounds, p, below.args[0]) else Fraction(0)


def _is_square(bounds: Bounds, p: Problem, total: Scalar) -> bool:
    """Whether it is the sum of the squares of all predictions of the row."""
    d = bounds.fold(total, ("sum",))
    if d is None or not isinstance(total, Read) or len(d.bound) != 1 or d.bound[0].dim != p.classes:
        return False
    at: dict[Scalar, Scalar] = {**dict(zip(d.formals, total.indices, strict=True))}
    return d.bound[0] not in total.indices and root_of(substitute(d.body, at)) is p.at(d.bound[0])


__all__ = ["of_spherical"]
