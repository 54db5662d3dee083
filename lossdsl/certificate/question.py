"""What is asked, stated from the source: the program under its assumptions, the target, the property.

Assumptions are taken from `when`, `on` and `at defaults` where a part of them compares a parameter or a whole input with a
number; other parts only bind counterexamples. A proof under fewer assumptions is a proof.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from lossdsl.certificate.bounds import Bounds
from lossdsl.certificate.rules import Stuck
from lossdsl.ir.build import BuiltLoss, elaborate_expression
from lossdsl.ir.nodes import (
    BOOL,
    REAL,
    TRUE,
    AdjointMap,
    And,
    Apply,
    Compare,
    Const,
    Definition,
    Group,
    Index,
    Not,
    Param,
    Program,
    Proxy,
    Read,
    Scalar,
    Stop,
    real,
    tensors_of,
)
from lossdsl.ir.rewrite import free_indices, map_item, map_scalars, members, transform, with_numbers
from lossdsl.syntax import tree
from lossdsl.verify import enclosure as e
from lossdsl.verify.enclosure import INF, Enclosure

GAP = "$gap"
Ends = tuple[float | None, float | None]
_MIRROR = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}


@dataclass(frozen=True)
class Within:
    """A bound of a rounding error, relative |exact| + absolute, where each input of the domain (for the name "" each real one) is
    between two numbers, or, if there is no lower one, not larger in size than the other; `longest`: where every named extent is
    from 1 to it."""

    relative: Fraction
    absolute: Fraction
    domain: tuple[tuple[str, Fraction | None, Fraction], ...] = ()
    longest: int | None = None


@dataclass(frozen=True)
class Question:
    """property   convex, strictly convex, quasiconvex, increasing, lipschitz, smooth, bounded, non-negative, range, even,
                  invariant under shift ... as in a claim
    of, inputs    the tensor, and the inputs that a property of its dependence is about
    assume        intervals of inputs and parameters; `fixed` parameters are numbers in the program already
    conditions    everything that a counterexample must meet
    along         of an invariance: the positions of the input along which what is done to it is the same
    bound, norm   of a Lipschitz bound
    order         of `smooth`: how many derivatives are continuous; None for all of them
    bracket       of a number: what it is not below, and not above
    place         of a minimum: an equality of the input with something
    link          of proper predictions: the probability that one stands for
    error         of a rounding error: the bound of it
    said          of a cost: what is said of it
    """

    program: Program
    property: str
    of: str
    inputs: tuple[str, ...] = ()
    assume: Mapping[str, Enclosure] = field(default_factory=dict)
    fixed: Mapping[str, Fraction] = field(default_factory=dict)
    conditions: tuple[Scalar, ...] = ()
    along: frozenset[int] = frozenset()
    bound: Scalar | None = None
    norm: str = "l2"
    order: int | None = None
    bracket: Ends = (None, None)
    place: Compare | None = None
    link: Scalar | None = None
    error: Within | None = None
    said: str = ""


MINIMUM, UNIQUE = "minimum", "unique minimum"
RADIUS, CALIBRATED, NOISE = "convex radius", "calibrated", "noise symmetric"
PROPER = ("proper", "strictly proper")
FINITE = "finite in "
NUMBERS = ("lipschitz constant", "gradient lipschitz constant", "strong convexity modulus", RADIUS)
EXPLODING, VANISHING = "exploding gradient", "vanishing gradient"
COSTS, GROWTH = {"value": "cost of the value", "value_and_gradient": "cost of value and gradient"}, "growth"
ERROR, GRADIENT_ERROR = "error in float32", "gradient error in float32"
_FINDINGS = (
    "convex",
    "strictly convex",
    "smooth",
    "C2",
    "C1",
    "C0",
    "non-negative",
    "range",
    "lipschitz",
    "redescending",
    "increasing",
    "decreasing",
    "even",
    "odd",
    "exchange symmetric",
)
_ON_SPHERES = ("smooth", "C2", "C1", "C0", "lipschitz")  # that compositions keep, whatever the set of inputs is
_OF_DERIVATIVES = ("redescending", EXPLODING, VANISHING)  # that are declared, perhaps
_ORDERS = {"C0": 0, "differentiable": 1, "C1": 1, "C2": 2}
_CURVATURES = ("convex", "concave", "affine", "strictly convex", "strictly concave", "quasiconvex")


def of_finding(
    built: BuiltLoss,
    name: str,
    inputs: tuple[str, ...],
    bracket: Ends = (None, None),
    error: Within | None = None,
    said: str = "",
) -> list[Question]:
    """The questions that together are a standard finding of the report. Raises Stuck for one without certificates."""
    program = built.program
    target = program.target or program.outputs[0].tensor
    if name == GROWTH or name in COSTS.values():
        return [Question(program, name, target, inputs, said=said)]
    if name in (ERROR, GRADIENT_ERROR):
        return [_error_of(program, target, name, inputs, error)]
    about, _, place = name.rpartition(" at " if " at " in name else " towards ")
    if place and about in (MINIMUM, UNIQUE, "gradient", "gradient strictly"):
        asked = Question(_of_values(program), about, target, place=_equality(program, target, place))
        return [_placed(asked)] if about in (MINIMUM, UNIQUE) else _sides(_placed(asked), strict=about != "gradient")
    return [_plain_finding(program, target, name, inputs, bracket)]


def _plain_finding(program: Program, target: str, name: str, inputs: tuple[str, ...], bracket: Ends) -> Question:
    if name.startswith("invariant under ") and len(inputs) == 1:
        return _invariance(Question(program, name, target, inputs), _own_axes(program, target, inputs[0]))
    if name in (EXPLODING, VANISHING):
        return _at_defaults(Question(program, name, target, inputs))
    if name in NUMBERS:
        return _number_of(Question(program, name, target, inputs, bracket=bracket))
    if name == CALIBRATED:
        return Question(_of_values(program), name, target, inputs)
    if name.startswith(FINITE):
        return Question(program, name, target, assume=_within(program, target, bracket[0]))
    if name not in _FINDINGS:
        raise Stuck(f"no certificate for `{name}` yet")
    _check_inputs(program, inputs, sphere=name in _ON_SPHERES)
    if name != "redescending":
        program = _of_values(program)
    return Question(program, "smooth" if name in ("C1", "C2") else name, target, inputs, order=_ORDERS.get(name))


def _error_of(program: Program, target: str, name: str, inputs: tuple[str, ...], error: Within | None) -> Question:
    """About what is compiled, in which parameters and optional inputs are read, with their defaults as values."""
    if error is None or len(inputs) != (name == GRADIENT_ERROR):
        raise Stuck("a bound of the error in another form")
    values = {p.name: p.default.value for p in program.parameters if p.default is not None}
    optional = [i for i in program.inputs if i.dtype is REAL and i.name not in inputs]
    values |= {i.name: i.default.value for i in optional if i.default is not None}
    fixed = {name: value for name, value in values.items() if isinstance(value, Fraction)}
    return Question(program, name, target, inputs, fixed=fixed, error=error)


def _within(program: Program, target: str, size: float | None) -> dict[str, Enclosure]:
    """Every real input that a tensor depends on is at most so large."""
    moved = [i.name for i in program.inputs if i.differentiable and _depends(program, target, i.name)]
    return {} if size is None else {name: Enclosure(-size, size) for name in moved}


def _equality(program: Program, target: str, written: str) -> Compare:
    """`x == y` of two inputs, of the entries at the place of the element."""
    found = [program.input(name) for name in written.split(" == ")]
    d = program.definition(target)
    if len(found) != 2 or d is None or found[0] is None or found[1] is None:
        raise Stuck(f"{written} is no equality of two inputs")
    places = tuple(f for f in d.formals if f.dim in found[0].dims)
    return Compare("==", *(Read(i.name, places, REAL) for i in found if i is not None))


def _placed(asked: Question) -> Question:
    """The question with the input that moves, the left one of the equality if it may."""
    if asked.place is not None:
        for a, b in ((asked.place.a, asked.place.b), (asked.place.b, asked.place.a)):
            while isinstance(a, Apply) and a.name == "real":
                a = a.args[0]
            declared = asked.program.input(a.tensor) if isinstance(a, Read) else None
            if declared is not None and declared.differentiable and asked.place.op == "==":
                _check_inputs(asked.program, (declared.name,))
                return replace(asked, inputs=(declared.name,), place=Compare("==", a, b))
    raise Stuck("the place of the minimum is no equality of an input")


def _sides(asked: Question, *, strict: bool) -> list[Question]:
    """It rises on the one side of the place, and falls on the other, to which it goes from below."""
    assert asked.place is not None
    found = []
    for op, word in ((">=", "increasing"), ("<=", "decreasing")):
        side = Compare(op, asked.place.a, asked.place.b)
        word = f"strictly {word}" if strict else word
        found.append(replace(asked, property=word, conditions=(*asked.conditions, side), place=None))
    return found


def sides_of_minimum(q: Question) -> list[Question]:
    """What a minimum at a place follows from: a value that does not fall away from it on either side."""
    return _sides(q, strict=q.property == UNIQUE)


def on_a_sphere(q: Question) -> bool:
    """Whether the domain of what moves is a sphere: lines and boxes leave it."""
    return any(i is not None and i.kind == "unit" for i in map(q.program.input, q.inputs))


def valleys(q: Question) -> Iterator[list[Question]]:
    """What quasiconvexity of an element of one entry follows from: it falls, or it rises, or it does so on the two sides of
    another input, at the same place."""
    yield from ([replace(q, property=way)] for way in ("decreasing", "increasing"))
    own = q.program.input(q.inputs[0]) if len(q.inputs) == 1 else None
    for other in q.program.inputs if own is not None else ():
        if own is not None and other is not own and other.dtype is REAL and other.dims == own.dims:
            with contextlib.suppress(Stuck):
                place = _equality(q.program, q.of, f"{own.name} == {other.name}")
                yield _sides(replace(q, place=place), strict=False)


def _number_of(asked: Question) -> Question:
    """A number is one for the parameters and optional inputs at their defaults."""
    program = asked.program
    _check_inputs(program, asked.inputs)
    defaults = {p.name: p.default for p in program.parameters}
    defaults |= {i.name: i.default for i in program.inputs if i.dtype is REAL and i.name not in asked.inputs}
    fixed = {n: c.value for n, c in defaults.items() if c is not None and isinstance(c.value, Fraction)}
    return replace(asked, program=with_numbers(_of_values(program), fixed), fixed=fixed)


def _of_values(program: Program) -> Program:
    """The program without the derivatives that it declares: curvature, order and continuity are about values."""
    memo: dict[Scalar, Scalar] = {}

    def step(n: Scalar) -> Scalar:
        return n.a if isinstance(n, (Stop, AdjointMap)) else n.value if isinstance(n, Proxy) else n

    def define(d: Definition) -> Definition:
        return map_scalars(d, lambda s: transform(s, step, memo))

    return program.with_body(tuple(map_item(item, define) for item in program.body))


def _at_defaults(asked: Question) -> Question:
    _check_inputs(asked.program, asked.inputs)
    values = {p.name: p.default.value for p in asked.program.parameters if p.default is not None}
    fixed = {name: value for name, value in values.items() if isinstance(value, Fraction)}
    return replace(asked, program=with_numbers(asked.program, fixed), fixed=fixed)


def _own_axes(program: Program, target: str, name: str) -> list[str] | None:
    """The named axes of an input that the target does not have; None for all of them if there is none."""
    d, declared = program.definition(target), program.input(name)
    if d is None or declared is None:
        return None
    shared = {f.dim for f in d.formals}
    return [a for a, dim in zip(declared.axes, declared.dims, strict=True) if a and dim not in shared] or None


def of_claim(built: BuiltLoss, claim: tree.Claim) -> list[Question]:
    """The questions that together are the claim, its `not` aside. Raises Stuck for a claim without certificates."""
    base = _assuming(built, claim)
    program = base.program
    named = claim.of
    usual = program.target or built.tensors.get("per") or built.tensors["return"]
    target = usual if named is None else built.tensors.get(named, named)
    if claim.kind == "bound" and claim.expression is not None:
        return list(_bounds(built, base, claim.expression))
    if claim.kind in (MINIMUM, UNIQUE) and claim.at is not None:
        found, _ = elaborate_expression(built, claim.at)
        if found is None or found.definitions or not isinstance(found.scalar, Compare):
            raise Stuck("the place of the minimum is no equality of an input")
        return [_placed(replace(base, program=_of_values(program), property=claim.kind, of=target, place=found.scalar))]
    inputs: tuple[str, ...] = tuple(built.tensors.get(i.name, i.name) for i in claim.inputs)
    asked = Question(program, claim.kind, target, inputs, base.assume, base.fixed, base.conditions)
    if claim.kind == "invariant" and len(inputs) == 1:
        axes = None if claim.over is None else [a.name if isinstance(a, tree.Axis) else "..." for a in claim.over]
        return [_invariance(replace(asked, property=f"invariant under {claim.transform}"), axes)]
    if (claim.kind in ("even", "odd") and len(inputs) == 1) or (
        claim.kind == "exchange symmetric" and len(inputs) == 2
    ):
        return [asked]
    if claim.kind == "finite":  # about what is compiled, in which parameters stay parameters
        return [replace(asked, program=built.program, property=f"{FINITE}{claim.word}")]
    words = {"differentiable": "smooth", "C1": "smooth", "C2": "smooth"}
    word = words.get(claim.word or "", claim.word or "")
    ordered = claim.kind == "monotone"
    if claim.kind == "word" and word in (CALIBRATED, NOISE, *PROPER) and not claim.inputs:
        return [replace(asked, program=_of_values(program), property=word, link=_link(built, claim))]
    if not inputs:
        inputs = tuple(i.name for i in program.inputs if i.differentiable and _depends(program, target, i.name))
    if not (
        ordered
        or claim.kind == "lipschitz"
        or (claim.kind == "word" and word in (*_CURVATURES, "smooth", "C0", "bounded", *_OF_DERIVATIVES))
    ):
        raise Stuck(f"no certificate for `{claim.text}` yet")
    _check_inputs(program, inputs, sphere="lipschitz" in (claim.kind, word) or word in _ON_SPHERES)
    asked = replace(asked, property="lipschitz" if claim.kind == "lipschitz" else word, inputs=inputs)
    if word not in _OF_DERIVATIVES:
        asked = replace(asked, program=_of_values(program), order=_ORDERS.get(claim.word or ""))
    if claim.kind == "lipschitz" and claim.bound is not None:
        found, _ = elaborate_expression(built, claim.bound)
        if found is None or found.definitions:
            raise Stuck("a bound with a reduction in it")
        d = program.definition(target)
        if not set(free_indices(found.scalar)) <= set(() if d is None else d.formals):
            raise Stuck("a bound of other elements")
        if any(name == t or _depends(program, t, name) for t in found.scalar.tensors for name in inputs):
            raise Stuck("a bound that moves")
        asked = replace(asked, bound=found.scalar, norm=claim.norm or "l2")
    return [asked]


def _link(built: BuiltLoss, claim: tree.Claim) -> Scalar | None:
    if claim.link is None:
        return None
    found, _ = elaborate_expression(built, claim.link)
    if found is None or found.definitions:
        raise Stuck("a link with a reduction in it")
    return real(found.scalar)


def _invariance(asked: Question, axes: list[str] | None) -> Question:
    """The question with the positions of the named axes; of all axes for None."""
    (name,) = asked.inputs
    declared = asked.program.input(name)
    if declared is None or declared.dtype is not REAL or name in asked.fixed:
        raise Stuck(f"{name} is no real input")
    along = frozenset(k for k, a in enumerate(declared.axes) if axes is None or a in axes)
    if axes is not None and len(along) != len(axes):
        raise Stuck(f"{name} does not have each of the axes once")
    return replace(asked, along=along)


def _depends(program: Program, target: str, name: str) -> bool:
    way = Bounds(program).needed(target)
    return any(name in tensors_of(d.scalars()) for d in way)


def _check_inputs(program: Program, inputs: Iterable[str], *, sphere: bool = False) -> None:
    """Raises Stuck unless all are real inputs, on convex domains or, where that is allowed, on spheres."""
    for name in inputs:
        declared = program.input(name)
        if declared is None or not declared.differentiable:
            raise Stuck(f"{name} is no real input")
        if declared.kind == "unit" and not sphere:
            raise Stuck(f"{name} lies on a sphere, which is not convex")


def _assuming(built: BuiltLoss, claim: tree.Claim) -> Question:
    program = built.program
    fixed: dict[str, Fraction] = {}
    assume: dict[str, Enclosure] = {}
    conditions: list[Scalar] = []
    if claim.at_defaults:
        for p in program.parameters:
            if p.default is not None and isinstance(p.default.value, Fraction):
                fixed[p.name] = p.default.value
    for clause in (claim.when, claim.on):
        if clause is None:
            continue
        found, _ = elaborate_expression(built, clause)
        if found is None or found.definitions:
            raise Stuck("a condition with a reduction in it")
        conditions.append(found.scalar)
        for part in _parts(found.scalar):
            _learn(program, part, assume, fixed)
    return Question(with_numbers(program, fixed), "", "", (), assume, fixed, tuple(conditions))


def _parts(condition: Scalar) -> list[Scalar]:
    if isinstance(condition, And):
        return [part for a in condition.args for part in _parts(a)]
    return [condition]


def _learn(program: Program, part: Scalar, assume: dict[str, Enclosure], fixed: dict[str, Fraction]) -> None:
    switch = part.a if isinstance(part, Not) else part
    if isinstance(switch, Param) and switch.kind is BOOL:
        fixed[switch.name] = Fraction(switch is part)
        return
    if not isinstance(part, Compare) or part.op == "!=":
        return
    for a, b, op in ((part.a, part.b, part.op), (part.b, part.a, _MIRROR[part.op])):
        if isinstance(a, Apply) and a.name == "abs" and op in ("<", "<="):
            for side in (a.args[0], Apply("neg", (a.args[0],))):
                _learn(program, Compare(op, side, b), assume, fixed)
            return
        while isinstance(a, Apply) and a.name == "neg":
            a, b, op = a.args[0], Apply("neg", (b,)), _MIRROR[op]
        name, value = _name(program, a), _number(b)
        if name is None or value is None:
            continue
        if op == "==":
            fixed[name] = value
        at = e.exact(value)
        box = Enclosure(-INF, at.hi, True, op == "<" and at.lo == at.hi)
        if op in (">", ">="):
            box = Enclosure(at.lo, INF, op == ">" and at.lo == at.hi, True)
        elif op == "==":
            box = at
        both = e.meet(assume[name], box) if name in assume else box
        if both is not None:
            assume[name] = both
        return


def _name(program: Program, node: Scalar) -> str | None:
    """The parameter or the input, all of whose elements are meant, that a scalar is."""
    while isinstance(node, Apply) and node.name in ("real", "int"):
        node = node.args[0]
    if isinstance(node, Param):
        return node.name
    declared = program.input(node.tensor) if isinstance(node, Read) else None
    if declared is None or not isinstance(node, Read):
        return None
    axes = [i.dim for i in node.indices if isinstance(i, Index)]
    return node.tensor if axes == list(declared.dims) and len(set(node.indices)) == len(axes) else None


def _number(node: Scalar) -> Fraction | None:
    if isinstance(node, Const):
        return node.value if isinstance(node.value, Fraction) else None
    if isinstance(node, Apply) and node.name in ("neg", "real"):
        inner = _number(node.args[0])
        return inner if inner is None or node.name == "real" else -inner
    return None


def _bounds(built: BuiltLoss, base: Question, expression: tree.Expr) -> Iterable[Question]:
    """`high - low` of each comparison of the chain: non-negative, or positive."""
    found, _ = elaborate_expression(built, expression)
    if found is None:
        raise Stuck("the bound has no meaning")
    present = {d.tensor for d in base.program.definitions()}
    further = tuple(i for i in found.definitions if all(d.tensor not in present for d in members(i)))
    for part in _parts(found.scalar):
        if not isinstance(part, Compare) or part.op in ("!=", "=="):
            raise Stuck("a bound that is no inequality")
        low, high = (part.a, part.b) if part.op in ("<", "<=") else (part.b, part.a)
        yield _gap(base, low, high, further, "positive" if part.op in ("<", ">") else "non-negative")


def _gap(base: Question, low: Scalar, high: Scalar, further: tuple[Definition | Group, ...], word: str) -> Question:
    zero = isinstance(low, Const) and low.value == 0
    body = real(high) if zero else Apply("sub", (real(high), real(low)))
    gap = Definition(GAP, free_indices(body), "map", (), TRUE, body)
    program = base.program.with_body((*base.program.body, *further, gap))
    return Question(with_numbers(program, base.fixed), word, GAP, (), base.assume, base.fixed, base.conditions)
