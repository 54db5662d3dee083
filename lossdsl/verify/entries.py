"""Lipschitz bounds of functions of one entry of a log-softmax, which is log sigmoid of one logit.

    m = x_y - log sum_k exp x_k = log sigmoid(u),  u = x_y - log sum_{k != y} exp x_k

The gradient of u is that of one entry less a weighted mean of those of the others: of mass 1 and 1 in the entries of the
row. So if F(log sigmoid(u)) is Lipschitz with L in the number u, then F(m) is with L in l1, sqrt(2) L in l2 and 2 L in
linf; with one class alone m is 0 and does not vary.
"""

from __future__ import annotations

from fractions import Fraction

from lossdsl.ir.nodes import TRUE, Apply, Const, Scalar
from lossdsl.ir.rewrite import substitute, transform
from lossdsl.verify import scalar
from lossdsl.verify.context import Context
from lossdsl.verify.enclosure import REALS
from lossdsl.verify.gradients import Masses, NoRule
from lossdsl.verify.pieces import VARIABLE, NotScalar, carriers, cased, fold, inline, plain, value_of
from lossdsl.verify.verdict import Bracket, Proved, Step

METHOD = "slope in one logit"
_SHARES = {"l1": Fraction(1), "l2": Fraction(70710, 100000), "linf": Fraction(1, 2)}  # at most 1, 1 / sqrt(2), 1 / 2


def lipschitz(ctx: Context, target: str, entry: str, bound: Scalar | None, norm: str) -> Proved | None:
    """Whether an element of the target, a function of one entry of a log-softmax, is Lipschitz with the bound."""
    d = ctx.program.definition(target)
    if d is None or d.head != "map" or d.support is not TRUE:
        return None
    masses = Masses(ctx, entry)
    try:
        whole = transform(inline(ctx.program, d.body), value_of)
    except NotScalar:
        return None
    whole = transform(whole, lambda n: plain(n) if masses.varies(n) else n)
    scope = masses.ranges.body_scope(d).reading(whole)
    for m in carriers(whole, masses.varying):
        total = masses.row(*m.args) if isinstance(m, Apply) and m.name == "sub" else None
        try:
            mass = masses.logit(total) if total is not None else None
        except NoRule:
            continue
        if mass is None or not scope[mass.plus].positive:
            continue
        body = fold(substitute(whole, {m: Apply("logsigmoid", (VARIABLE,))}))
        try:
            views = cased(ctx.program, masses.ranges, scope.nonempty, body, VARIABLE, {VARIABLE: REALS})
        except NotScalar:
            continue
        if bound is None:
            found = scalar.slope_bounded(views, ctx.budget)
        else:
            most = fold(Apply("mul", (Const(_SHARES[norm]), fold(Apply("div", (bound, mass.plus))))))
            found = scalar.slope_between(views, fold(Apply("neg", (most,))), most, ctx.budget)
        if isinstance(found, Proved):
            step = Step("entry of a log-softmax", target, "a function of log sigmoid(u), u a logit")
            upper = float(bound.value) if isinstance(bound, Const) and not isinstance(bound.value, str) else None
            return Proved(METHOD, (step, *found.steps), Bracket(None, upper, None))
    return None


__all__ = ["lipschitz"]
