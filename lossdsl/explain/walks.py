"""Proofs by composition, told node by node: the same rules as the engines', with what they hold of each node.

Each walk asks the engine itself (`Curvatures`, `Trends`, `Ranges`) what it has proved of a node, and says by which rule
and under which condition; so a line never claims more than the proof does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from lossdsl.explain import pieces
from lossdsl.explain.sentence import Line, Part, element, interval, line, listed
from lossdsl.ir.nodes import (
    REAL,
    TRUE,
    Apply,
    Const,
    Definition,
    Group,
    Param,
    Program,
    Read,
    Scalar,
    Select,
    Stop,
    postorder,
    tensors_of,
)
from lossdsl.primitives import HEADS, PRIMITIVES
from lossdsl.primitives.interval import Interval
from lossdsl.primitives.record import Curvature, Monotone
from lossdsl.verify import enclosure as e
from lossdsl.verify.curvature import Curvatures, Shape, curvature_of
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.operations import clipped
from lossdsl.verify.pieces import reads_any
from lossdsl.verify.ranges import Ranges, Scope
from lossdsl.verify.scalar import Stuck
from lossdsl.verify.trends import Trend, Trends

ARITHMETIC = frozenset({"add", "sub", "neg", "mul", "div", "real", "int"})
SAID = {"max2": "max", "min2": "min", "powi": "power", "pow": "power"}
_FOLDS = {
    "logsumexp": "the log-sum-exp",
    "max": "the maximum",
    "min": "the minimum",
    "sum": "the sum",
    "prod": "the product",
}


def needed(program: Program, target: str) -> list[Definition]:
    """The definitions that the target is made of, in order, itself last."""
    wanted, found = {target}, []
    for item in reversed(program.body):
        members = item.definitions if isinstance(item, Group) else (item,)
        if not any(d.tensor in wanted for d in members):
            continue
        for d in reversed(members):
            found.append(d)
            wanted |= {*tensors_of(d.scalars())}
    return found[::-1]


def inner_scope(ranges: Ranges, d: Definition) -> Scope | None:
    """The scope of a body, under its conditions."""
    scope: Scope | None = ranges.body_scope(d)
    for condition in (d.support, d.where):
        if condition is not TRUE and scope is not None:
            scope = scope.under(condition, True)
    return scope


def visited(node: Scalar, scope: Scope, stop: Callable[[Scalar, Scope], bool]) -> Iterator[tuple[Scalar, Scope]]:
    """The nodes below and including `node`, arguments first, each with the scope of the branch that it stands in; not
    those below a node at which `stop` holds."""
    seen: set[tuple[Scalar, Scope]] = set()

    def go(n: Scalar, s: Scope) -> Iterator[tuple[Scalar, Scope]]:
        if (n, s) in seen:
            return
        seen.add((n, s))
        if not stop(n, s):
            if isinstance(n, Select):
                for branch, holds in ((n.a, True), (n.b, False)):
                    inner = s.under(n.condition, holds)
                    if inner is not None:
                        yield from go(branch, inner.reading(branch))
            else:
                for child in n.children:
                    yield from go(child, s)
        yield n, s

    yield from go(node, scope)


# ------------------------------------------------------------------------------------------------- curvature


def curvature(rules: Curvatures, target: str) -> list[Line]:
    """Why the target has the curvature that the rules give it."""
    subject = listed(Read(x, (), REAL) for x in rules.inputs)
    out: list[Line] = []
    for d in needed(rules.program, target):
        if d.tensor not in rules.varying or not _decided(rules.tensor(d.tensor)):
            continue
        scope = inner_scope(rules.ranges, d)
        if scope is None:
            continue
        out.append(line("Let ", d, "."))
        out += _curved_nodes(rules, d, scope, subject)
        if d.head != "map":
            out.append(line(*_why_folded(rules, d, scope), depth=1))
        end = ", as all values of earlier rounds are (induction)." if d.tensor in rules.grouped else "."
        out.append(line("So ", element(d), f" is {word(rules.tensor(d.tensor))} in ", *subject, end, depth=1))
    return out


def _curved_nodes(rules: Curvatures, d: Definition, scope: Scope, subject: list[Part]) -> list[Line]:
    """The nodes of a body that have a curvature, arguments first; what is affine, or has no rule of its own and is
    decided by its second derivative, is not taken apart."""

    def atom(n: Scalar) -> bool:
        return not rules.varies(n) or n.dtype is not REAL or isinstance(n, Read)

    def whole(n: Scalar, s: Scope) -> bool:
        return atom(n) or rules.node(n, s).affine or not _decided(rules.by_rule(n, s))

    out: list[Line] = []
    told: set[Scalar] = set()
    for n, s in visited(d.body, scope, whole):
        if atom(n) or n in told or not _decided(rules.node(n, s)):
            continue
        told.add(n)
        if _decided(rules.by_rule(n, s)):
            out.append(line(*_why_curved(rules, n, s, subject), depth=1))
        else:
            out += _by_second_derivative(rules, n, s)
    return out


def _by_second_derivative(rules: Curvatures, n: Scalar, scope: Scope) -> list[Line]:
    """A node without a rule, as a function of the one affine expression through which it varies."""
    shape = rules.node(n, scope)
    view = rules.affine_view(n, scope)
    if view is None:
        raise Stuck(f"{n}")
    told = pieces.curved([view], rules.budget, concave=not shape.convex)
    head = line(n, f" is {word(shape)}: no rule fits, but it varies only through ", view.inner,
                ", which is affine, and is a function of one variable.", depth=1)  # fmt: skip
    return [head, *(replace(item, depth=item.depth + 2) for item in told)]


def _decided(s: Shape) -> bool:
    return s.convex or s.concave


def word(s: Shape) -> str:
    if s.constant:
        return "constant"
    return "affine" if s.affine else "convex" if s.convex else "concave" if s.concave else "of no known curvature"


def _why_curved(rules: Curvatures, n: Scalar, scope: Scope, subject: list[Part]) -> list[Part]:
    shape = rules.node(n, scope)
    said: list[Part] = [n, f" is {word(shape)}"]
    if isinstance(n, Select):
        return [*said, ": each of its branches is, and which one is taken does not depend on ", *subject, "."]
    if not isinstance(n, Apply):
        return [*said, "."]
    if shape.affine:
        return [n, " is affine in ", *subject, "."]
    shapes = [rules.node(a, scope) for a in n.args]
    if not all(_decided(s) for s in shapes) or not _decided(rules.by_rule(n, scope)):
        return [*said, " in the one affine expression through which it depends on ", *subject, ": "
                "its second derivative there has one sign."]  # fmt: skip
    a = n.args[0]
    match n.name:
        case "neg":
            return [*said, ": minus what is ", word(shapes[0]), "."]
        case "add" | "sub":
            names = [word(s) for s in shapes]
            sign = "plus" if n.name == "add" else "minus"
            return [*said, f": {names[0]} {sign} {names[1]}."]
        case "mul" if a is n.args[1]:
            return [*said, ": the square of ", a, ", which is ", *_square(shapes[0]), "."]
        case "mul" | "div" if any(s.constant for s in shapes):
            k = 0 if shapes[0].constant and n.name == "mul" else 1
            if n.name == "div" and shapes[0].constant:
                return [*said, ": a constant of one sign over ", n.args[1], ", which is positive and concave."]
            factor, varying = n.args[k], n.args[1 - k]
            sign = _sign(scope[factor])
            verb = "times" if n.name == "mul" else "over"
            return [
                *said,
                ": ",
                varying,
                f" is {word(shapes[1 - k])}, {verb} ",
                factor,
                f" {sign}, which does not vary.",
            ]
        case "pow" | "powi" if isinstance(n.args[1], Const) and n.args[1].value == 2:
            return [*said, ": the square of ", a, ", which is ", *_square(shapes[0]), "."]
        case "pow" | "powi":
            return [*said, ": a power with exponent ", n.args[1], " in ", interval(scope[n.args[1]]), " of ", a,
                    f", which is {word(shapes[0])} and in ", interval(scope[a]), "."]  # fmt: skip
        case "sqrt" if rules.is_norm(a, scope):
            return [*said, ": the Euclidean norm of what is affine, or convex and >= 0."]
        case "log" | "log1p" if rules.log_convex(a, scope):
            return [*said, ": the logarithm of a sum or product of exponentials of convex functions."]
    return [*said, ": ", *_composed(n.name, n.args, shapes, scope)]


def _sign(box: Enclosure) -> str:
    if box.positive or box.negative:
        return "> 0" if box.positive else "< 0"
    return ">= 0" if box.nonnegative else "<= 0"


def _square(shape: Shape) -> list[Part]:
    if shape.affine:
        return ["affine"]
    return ["convex and >= 0"] if shape.convex else ["concave and <= 0"]


def _composed(name: str, args: tuple[Scalar, ...], shapes: list[Shape], scope: Scope) -> list[Part]:
    """`exp is convex and increasing on ...; its argument is convex`."""
    record = PRIMITIVES[name]
    intervals = tuple(clipped(name, scope[a]) for a in args)
    outer = curvature_of(record.curvature, intervals, shapes)
    out: list[Part] = [f"{SAID.get(name, name)} is {outer.value}"]
    for m, a, s in zip(record.monotone(*intervals), args, shapes, strict=True):
        if s.constant:
            continue
        kind = "and " + m.value + " " if m in (Monotone.INCREASING, Monotone.DECREASING) else ""
        out += [f" {kind}" if kind else " ", "on ", interval(scope[a]), "; ", a, f" is {word(s)} and stays in it"]
    return [*out, "."]


def _why_folded(rules: Curvatures, d: Definition, scope: Scope) -> list[Part]:
    body = rules.node(d.body, scope)
    if d.head == "sum":
        return [f"A sum of what is {word(body)} is {word(body)}."]
    box = scope[d.body]
    head = HEADS[d.head]
    both = Interval(box.lo, box.hi)
    curved, rises = head.curvature(both), head.monotone(both)
    kind = f" and {rises.value} in each entry" if rises in (Monotone.INCREASING, Monotone.DECREASING) else ""
    said = "affine" if curved is Curvature.AFFINE else curved.value
    return [f"{_FOLDS.get(d.head, d.head).capitalize()} is {said}{kind}; its entries are {word(body)}."]


# ---------------------------------------------------------------------------------------------------- trends


def trend(rules: Trends, target: str) -> list[Line]:
    """Why the target never falls (never rises) in the entry."""
    out: list[Line] = []
    for d in needed(rules.program, target):
        if d.tensor not in rules.varying:
            continue
        t = rules.tensor(d.tensor)
        scope = inner_scope(rules.ranges, d)
        if not (t.rises or t.falls) or scope is None:
            continue
        out.append(line("Let ", d, "."))
        told: set[Scalar] = set()

        def atom(n: Scalar, s: Scope) -> bool:
            return not rules.varies(n) or n.dtype is not REAL or isinstance(n, Read)

        for n, s in visited(d.body, scope, atom):
            if atom(n, s) or n in told:
                continue
            told.add(n)
            here = rules.node(n, s)
            if isinstance(n, Apply) and (here.rises or here.falls) and n.name != "real":
                out.append(line(*_why_moved(rules, n, s, here), depth=1))
        out.append(line("So ", element(d), f" {_moves(t)} with ", Read(rules.entry, (), REAL), ".", depth=1))
    return out


def _moves(t: Trend) -> str:
    return "stays" if t.rises and t.falls else "never falls" if t.rises else "never rises"


def _why_moved(rules: Trends, n: Apply, scope: Scope, here: Trend) -> list[Part]:
    record = PRIMITIVES[n.name]
    kinds = record.monotone(*(clipped(n.name, scope[a]) for a in n.args))
    out: list[Part] = [n, f" {_moves(here)}: {SAID.get(n.name, n.name)} is "]
    parts: list[Part] = []
    for m, a in zip(kinds, n.args, strict=True):
        t = rules.node(a, scope)
        if t.rises and t.falls:
            continue
        if parts:
            parts.append("; ")
        parts += [f"{m.value} in ", a, f", which {_moves(t)}"]
    return [*out, *parts, "."]


# ------------------------------------------------------------------------------------------------ enclosures


def enclosures(ranges: Ranges, target: str) -> list[Line]:
    """Where every value lies, from the declared domains to the target."""
    program = ranges.program
    out: list[Line] = []
    leaves: list[Part] = []
    for d in needed(program, target):
        for n in postorder(*d.scalars()):
            if isinstance(n, Read) and program.input(n.tensor) is not None:
                name: Scalar = Read(n.tensor, (), n.kind)
                box = ranges.input(n.tensor)
            elif isinstance(n, Param):
                name, box = n, ranges.parameter(n.name)
            else:
                continue
            if name not in leaves:
                leaves.append(name)
                out.append(line(name, " is in ", interval(box), ", as declared."))
    for d in needed(program, target):
        out.append(line("Let ", d, "."))
        scope = inner_scope(ranges, d)
        told: set[Scalar] = set()
        for n, s in visited(d.body, scope, lambda n, s: False) if scope is not None else ():
            if n in told or not isinstance(n, (Apply, Select, Stop)) or n.dtype is not REAL:
                continue
            if isinstance(n, Apply) and n.name == "real":
                continue
            told.add(n)
            out.append(line(n, " is in ", interval(s[n]), *_from(n, s), depth=1))
        out.append(line("So ", element(d), " is in ", interval(ranges.tensor(d.tensor)), ".", depth=1))
    return out


def _from(n: Scalar, scope: Scope) -> list[Part]:
    if isinstance(n, Select):
        return [", the union of its branches."]
    if isinstance(n, Apply) and n.name == "sub" and e.sub(scope[n.args[0]], scope[n.args[1]]) != scope[n]:
        return [", as an element is at most the maximum, and the log-sum-exp, of its row."]
    if isinstance(n, Apply) and n.name not in ARITHMETIC and n.args:
        return [f": {SAID.get(n.name, n.name)} maps ", *listed(interval(scope[a]) for a in n.args), " into it."]
    return ["."]


# ------------------------------------------------------------------------------------------------ smoothness


def smooth(program: Program, ranges: Ranges, target: str, varying: frozenset[str]) -> list[Line]:
    """Why a composition of smooth operations is smooth: which they are, and where they are used."""

    def moves(n: Scalar) -> bool:
        return reads_any(varying, n)

    out: list[Line] = []
    for d in needed(program, target):
        if d.tensor not in varying:
            continue
        out.append(line("Let ", d, "."))
        scope = inner_scope(ranges, d)
        told: set[Scalar] = set()
        for n, s in visited(d.body, scope, lambda n, s: not moves(n)) if scope is not None else ():
            if not isinstance(n, Apply) or n in told or not moves(n) or (n.name in ARITHMETIC and n.name != "div"):
                continue
            told.add(n)
            if n.name == "div":
                if moves(n.args[1]):
                    out.append(
                        line("the denominator ", n.args[1], " is in ", interval(s[n.args[1]]), ", so never 0.", depth=1)
                    )
                continue
            where: list[Part] = []
            for a in n.args:
                if moves(a):
                    where += [", and " if where else " at ", a, " in ", interval(s[a])]
            out.append(line(f"{SAID.get(n.name, n.name)} is smooth", *where, ".", depth=1))
        if d.head != "map":
            out.append(line(f"{_FOLDS.get(d.head, d.head)} of finitely many smooth terms is smooth.", depth=1))
        out.append(
            line("Sums, products and compositions of smooth functions are smooth: so is ", element(d), ".", depth=1)
        )
    return out
