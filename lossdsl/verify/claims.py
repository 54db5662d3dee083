"""Claims: from the syntax tree to a question with its context, and the verdict on it (`docs/language/claims.md`)."""

from __future__ import annotations

from dataclasses import replace

from lossdsl.ir.build import BuiltLoss, elaborate_expression
from lossdsl.ir.nodes import And, Apply, Compare, Const, Definition, Group, Read, Scalar
from lossdsl.syntax import tree
from lossdsl.verify import concordance, decision, minima, profile, properties, shapes, symmetry, tails, vanishing
from lossdsl.verify.context import Context
from lossdsl.verify.finite import finite_in
from lossdsl.verify.pieces import dependents
from lossdsl.verify.verdict import Proved, Refuted, Unknown, Verdict


class Blocked(Exception):
    """The claim cannot be turned into a question; the message says why."""


class Claims:
    """Decides the claims of one loss."""

    def __init__(self, built: BuiltLoss, base: Context) -> None:
        self.built, self.base = built, base

    def decide(self, claim: tree.Claim) -> Verdict:
        """The verdict on the property itself; a `not` is the reader's business."""
        try:
            ctx = self.context(claim)
            return self._property(claim, ctx, self.target(claim))
        except Blocked as reason:
            return Unknown(str(reason))

    def target(self, claim: tree.Claim) -> str:
        name = claim.of
        if name is None:
            return self.built.program.target or self.built.tensors.get("per") or self.built.tensors["return"]
        return self.built.tensors.get(name, name)

    # --------------------------------------------------------------------------------------------- context

    def context(self, claim: tree.Claim) -> Context:
        """What the claim is asked under. Raises Blocked."""
        ctx = self.base
        if claim.at_defaults:
            ctx = ctx.at_defaults()
        for clause in (claim.when, claim.on):
            if clause is not None:
                condition, further = self._scalar(clause)
                if further:
                    raise Blocked("a condition with a reduction in it")
                ctx = ctx.narrowed(condition)
        return ctx

    def _scalar(self, node: tree.Expr) -> tuple[Scalar, tuple[Definition | Group, ...]]:
        found, _ = elaborate_expression(self.built, node)
        if found is None:
            raise Blocked("the expression of this claim has no meaning")
        return found.scalar, found.definitions

    def inputs(self, claim: tree.Claim, target: str) -> tuple[str, ...]:
        """The real inputs that the claim is about. Raises Blocked."""
        program = self.base.program
        if claim.inputs:
            names = tuple(self.built.tensors.get(i.name, i.name) for i in claim.inputs)
            for n in names:
                declared = program.input(n)
                if declared is None or not declared.differentiable:
                    raise Blocked(f"`{n}` is not a real input: no engine for derivatives in it yet")
            return names
        return tuple(i.name for i in program.inputs if i.differentiable and target in dependents(program, i.name))

    # ------------------------------------------------------------------------------------------ properties

    def _property(self, claim: tree.Claim, ctx: Context, target: str) -> Verdict:
        kind = claim.kind
        if kind == "bound":
            return self._bound(claim, ctx)
        if kind == "finite":
            return finite_in(ctx, target, claim.word or "float32")
        if kind in ("minimum", "infimum") or kind == "unique minimum":
            return self._minimum(claim, ctx, target)
        if kind == "word" and claim.word in decision.WORDS:
            link, further = self._scalar(claim.link) if claim.link is not None else (None, ())
            return decision.decide(ctx, target, claim.word, _real(link) if link is not None else None, further)
        if kind in symmetry.KINDS:
            names = tuple(self.built.tensors.get(i.name, i.name) for i in claim.inputs)
            axes = (
                None if claim.over is None else tuple(a.name if isinstance(a, tree.Axis) else "..." for a in claim.over)
            )
            return symmetry.decide(ctx, target, claim.transform or kind, names, axes)
        inputs = self.inputs(claim, target)
        if not inputs:
            raise Blocked(f"`{target}` depends on no real input")
        if kind == "word":
            return self._word(claim.word or "", ctx, target, inputs)
        if kind == "lipschitz":
            bound = self.constant(claim.bound) if claim.bound is not None else None
            return properties.lipschitz(ctx, target, inputs, bound, claim.norm or "l2")
        if kind == "gradient lipschitz" and claim.bound is not None:
            bound = self.constant(claim.bound)
            return properties.second_derivative(ctx, target, inputs, Apply("neg", (bound,)), bound)
        if kind == "strongly convex" and claim.bound is not None:
            return properties.second_derivative(ctx, target, inputs, self.constant(claim.bound), None)
        if kind == "zero gradient" and claim.where is not None:
            condition, further = self._scalar(claim.where)
            if further:
                raise Blocked("a condition with a reduction in it")
            return vanishing.zero_gradient(ctx, target, inputs, condition)
        if kind == "monotone":
            word = claim.word or ""
            return properties.monotone(
                ctx, target, inputs, increasing=word.endswith("increasing"), strict=word.startswith("strictly")
            )
        if kind == "equal" and claim.expression is not None:
            return self._bound(claim, ctx)
        raise Blocked(f"no engine for `{kind}` yet")

    def _word(self, word: str, ctx: Context, target: str, inputs: tuple[str, ...]) -> Verdict:
        match word:
            case "convex" | "concave":
                return properties.convexity(ctx, target, inputs, concave=word == "concave")
            case "affine":
                return properties.affine(ctx, target, inputs)
            case "C0" | "C1" | "C2" | "smooth" | "differentiable":
                return differentiability(ctx, target, inputs, {"differentiable": "C1"}.get(word, word))
            case "strictly convex" | "strictly concave":
                return shapes.strictly_convex(ctx, target, inputs, concave=word.endswith("concave"))
            case "quasiconvex":
                return shapes.quasiconvex(ctx, target, inputs)
            case "redescending":
                return tails.redescending(ctx, target, inputs)
            case "vanishing gradient":
                return profile.vanishing(ctx, target, inputs)
            case "exploding gradient":
                return profile.exploding(ctx, target, inputs)
            case "self-concordant":
                return concordance.self_concordant(ctx, target, inputs)
            case "bounded":
                return properties.bounded(ctx, target)
        raise Blocked(f"no engine for `{word}` yet")

    def constant(self, node: tree.Expr) -> Scalar:
        """The bound of a claim. Raises Blocked."""
        scalar, further = self._scalar(node)
        if further:
            raise Blocked("a bound with a reduction in it")
        return _real(scalar)

    def condition(self, node: tree.Expr) -> Scalar:
        """The place of a minimum. Raises Blocked."""
        condition, further = self._scalar(node)
        if further:
            raise Blocked("a place with a reduction in it")
        return condition

    def _element(self, target: str) -> Scalar:
        definition = self.base.program.definition(target)
        if definition is None:
            raise Blocked(f"`{target}` is an input")
        return Read(target, definition.formals, definition.dtype)

    # ---------------------------------------------------------------------------------------------- bounds

    def _bound(self, claim: tree.Claim, ctx: Context) -> Verdict:
        return _all(
            [properties.nonnegative(wider, name, strict=strict) for wider, name, strict in self.gaps(claim, ctx)]
        )

    def gaps(self, claim: tree.Claim, ctx: Context) -> list[tuple[Context, str, bool]]:
        """The tensors that are >= 0 (> 0) where the comparisons of the claim hold. Raises Blocked."""
        if claim.kind == "equal" and claim.expression is not None:
            other, further = self._scalar(claim.expression)
            return self._gaps(ctx, Compare("==", self._element(self.target(claim)), _real(other)), further)
        if claim.expression is None:
            raise Blocked("nothing is compared")
        condition, further = self._scalar(claim.expression)
        return self._gaps(ctx, condition, further)

    def _gaps(
        self, ctx: Context, condition: Scalar, further: tuple[Definition | Group, ...]
    ) -> list[tuple[Context, str, bool]]:
        parts = condition.args if isinstance(condition, And) else (condition,)
        found: list[tuple[Context, str, bool]] = []
        for part in parts:
            if not isinstance(part, Compare) or part.op == "!=":
                raise Blocked("a bound that is not a comparison")
            pairs = {
                "<=": [(part.a, part.b)],
                "<": [(part.a, part.b)],
                ">=": [(part.b, part.a)],
                ">": [(part.b, part.a)],
                "==": [(part.a, part.b), (part.b, part.a)],
            }[part.op]
            for low, high in pairs:
                zero = isinstance(low, Const) and low.value == 0
                strict = part.op in ("<", ">")
                if zero and isinstance(high, Read) and not further and ctx.program.definition(high.tensor) is not None:
                    found.append((ctx, high.tensor, strict))
                else:
                    wider = properties.with_difference(ctx, "$gap", low, high, further)
                    found.append((wider, "$gap", strict))
        return found

    def _minimum(self, claim: tree.Claim, ctx: Context, target: str) -> Verdict:
        if claim.kind in ("minimum", "unique minimum") and claim.at is not None:
            condition = self.condition(claim.at)
            engine = minima.minimum_at if claim.kind == "minimum" else minima.unique_minimum
            return engine(ctx, target, condition)
        if claim.kind == "infimum" and claim.op == "==" and claim.bound is not None:
            bound = self.constant(claim.bound)
            if bound.tensors:
                raise Blocked("an infimum that depends on inputs")
            return shapes.infimum(ctx, target, bound)
        raise Blocked(f"no engine for `{claim.kind}` yet")


def differentiability(ctx: Context, target: str, inputs: tuple[str, ...], word: str) -> Verdict:
    """Whether the target is of the class `word` (C0, C1, C2, smooth) in the inputs jointly."""
    order = {"C0": 0, "C1": 1, "C2": 2, "smooth": 3}[word]
    found = properties.smoothness(ctx, target, inputs)
    known = {"": -1, "C0": 0, "C1": 1, "C2": 2, "smooth": 3}[found.proved]
    if found.evidence is not None and known >= order:
        return replace(found.evidence)
    if found.fails is not None and (found.fails[0] <= order or word == "smooth"):
        return found.fails[1]
    if len(inputs) > 1:
        # a kink in one of them is a kink in all of them together
        for one in inputs:
            alone = properties.smoothness(ctx, target, (one,))
            if alone.fails is not None and (alone.fails[0] <= order or word == "smooth"):
                return alone.fails[1]
    return Unknown(found.blocker or "the class of this composition", ("composition", "pieces"))


def _all(verdicts: list[Verdict]) -> Verdict:
    for kind in (Refuted, Unknown):
        for v in verdicts:
            if isinstance(v, kind):
                return v
    steps = tuple(s for v in verdicts if isinstance(v, Proved) for s in v.steps)
    first = verdicts[0]
    assert isinstance(first, Proved)
    return Proved(first.method, steps)


def _real(n: Scalar) -> Scalar:
    return n if n.dtype.value == "real" else Apply("real", (n,))


__all__ = ["Blocked", "Claims", "differentiability"]
