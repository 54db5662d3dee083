"""Whether a quantity is at most a constant times another, whatever the input: an entry and the norm of its vector.

`|a| <= C b` holds, by structure, of an entry under the root of a sum of squares that has its square, of sums and products
term by term, and of what stays fixed under what is away from 0; a maximum, and a sum of what is not negative, is at least
each of its parts.
"""

from __future__ import annotations

from collections.abc import Callable

from lossdsl.dim import Dim
from lossdsl.ir.nodes import TRUE, Apply, Definition, Index, Program, Read, Scalar
from lossdsl.ir.rewrite import substitute
from lossdsl.verify.pieces import square_root
from lossdsl.verify.ranges import Ranges, Scope


class Dominance:
    """`varies`: whether a scalar depends on the input."""

    def __init__(self, program: Program, ranges: Ranges, varies: Callable[[Scalar], bool]) -> None:
        self._program, self._ranges = program, ranges
        self._definitions = {d.tensor: d for d in program.definitions()}
        self._varies = varies
        self._known: dict[tuple[Scalar, Scalar, Scope], bool] = {}

    def clear(self) -> None:
        self._known.clear()

    def holds(self, a: Scalar, b: Scalar, scope: Scope, depth: int = 12) -> bool:
        """|a| <= C b with b >= 0, for each value of everything but the input."""
        key = (a, b, scope)
        if key not in self._known:
            self._known[key] = False  # while it is looked at
            self._known[key] = depth > 0 and self._holds(a, b, scope, depth - 1)
        return self._known[key]

    def _holds(self, a: Scalar, b: Scalar, scope: Scope, depth: int) -> bool:
        if not scope[b].nonnegative or not scope[a].finite:
            return False
        if not self._varies(a) and scope[b].lo > 0:
            return True
        return self._below(a, b, scope, depth) or self._apart(a, b, scope, depth)

    def _below(self, a: Scalar, b: Scalar, scope: Scope, depth: int) -> bool:
        """By what `b` is at least."""
        match b:
            case Apply(name="max2"):
                return any(self.holds(a, part, scope, depth) for part in b.args)
            case Apply(name="add") if all(scope[part].nonnegative for part in b.args):
                return any(self.holds(a, part, scope, depth) for part in b.args)
            case Apply(name="mul"):
                for part, by in (b.args, b.args[::-1]):
                    if not self._varies(by) and scope[by].positive and self.holds(a, part, scope, depth):
                        return True
            case Apply(name="div") if not self._varies(b.args[1]) and scope[b.args[1]].positive:
                return self.holds(a, b.args[0], scope, depth)
            case Apply(name="sqrt"):
                return self._square(a, b.args[0], scope)
            case Read():
                d = self._inlined(b)
                return self.holds(a, d, scope, depth) if d is not None else self._one_of(a, b)
        return False

    def _one_of(self, a: Scalar, total: Read) -> bool:
        """Whether `a` is one of the terms of a sum, none of which is negative."""
        d = self._definitions.get(total.tensor)
        if d is None or d.head != "sum" or d.support is not TRUE or d.where is not TRUE:
            return False
        if any(self._varies(i) for i in total.indices) or not self._ranges.body_scope(d)[d.body].nonnegative:
            return False
        body = substitute(d.body, dict(zip(d.formals, total.indices, strict=True)))
        return self._instance(body, a, d)

    def _apart(self, a: Scalar, b: Scalar, scope: Scope, depth: int) -> bool:
        """By the parts of `a`."""
        match a:
            case Apply(name="neg" | "abs" | "relu" | "real"):
                return self.holds(a.args[0], b, scope, depth)
            case Apply(name="add" | "sub"):
                return all(self.holds(part, b, scope, depth) for part in a.args)
            case Apply(name="div") if not self._varies(a.args[1]) and scope[a.args[1]].nonzero:
                return self.holds(a.args[0], b, scope, depth)
            case Apply(name="mul"):
                for part, by in (a.args, a.args[::-1]):
                    if not self._varies(by) and scope[by].finite and self.holds(part, b, scope, depth):
                        return True
                sides = _factors(b)
                if sides is None:
                    return False
                (u, v), (x, y) = sides, a.args
                both = self.holds(x, u, scope, depth) and self.holds(y, v, scope, depth)
                return both or (self.holds(x, v, scope, depth) and self.holds(y, u, scope, depth))
            case Read():
                d = self._definitions.get(a.tensor)
                if d is None or d.support is not TRUE or any(self._varies(i) for i in a.indices):
                    return False
                if d.head not in ("map", "sum", "max", "min"):
                    return False
                body = substitute(d.body, dict(zip(d.formals, a.indices, strict=True)))
                inner = scope.ranges.scope(frozenset(i.dim for i in (*d.formals, *d.bound)))
                return self.holds(body, b, inner, depth)
        return False

    def _inlined(self, n: Read) -> Scalar | None:
        d = self._definitions.get(n.tensor)
        if d is None or d.head != "map" or d.support is not TRUE or any(self._varies(i) for i in n.indices):
            return None
        return substitute(d.body, dict(zip(d.formals, n.indices, strict=True)))

    def _square(self, a: Scalar, total: Scalar, scope: Scope) -> bool:
        """Whether the square of `a` is one of the terms of `total`, which has no negative ones."""
        match total:
            case Apply(name="add") if all(scope[part].nonnegative for part in total.args):
                return any(self._square(a, part, scope) for part in total.args)
            case Apply(name="div") if not self._varies(total.args[1]) and scope[total.args[1]].positive:
                return self._square(a, total.args[0], scope)  # up to a factor
            case Apply(name="mul" | "pow" | "powi"):
                root = square_root(total)
                return root is not None and root is a
            case Read() if not any(self._varies(i) for i in total.indices):
                d = self._definitions.get(total.tensor)
                if d is None or d.support is not TRUE or d.where is not TRUE:
                    return False
                body = substitute(d.body, dict(zip(d.formals, total.indices, strict=True)))
                if d.head == "map":
                    return self._square(a, body, scope)
                root = square_root(body)
                return d.head == "sum" and root is not None and self._instance(root, a, d)
        return False

    def _instance(self, pattern: Scalar, node: Scalar, d: Definition) -> bool:
        """Whether `node` is the pattern at some place along the bound axes of the definition."""
        found: dict[Scalar, Scalar] = {}

        def match(p: Scalar, n: Scalar, dim: Dim | None = None) -> bool:
            if isinstance(p, Index) and p in d.bound:  # all of the axis, so that every place on it is one of the sum
                return dim == p.dim and found.setdefault(p, n) is n
            if isinstance(p, Read) and isinstance(n, Read):
                dims = self._dims(p.tensor)
                same = p.tensor == n.tensor and len(p.indices) == len(n.indices) == len(dims)
                return same and all(match(*pair) for pair in zip(p.indices, n.indices, dims, strict=True))
            if isinstance(p, Apply) and isinstance(n, Apply):
                return p.name == n.name and all(match(i, j) for i, j in zip(p.args, n.args, strict=True))
            return p is n

        return match(pattern, node)

    def _dims(self, tensor: str) -> tuple[Dim, ...]:
        declared = self._program.input(tensor)
        d = self._definitions.get(tensor)
        return declared.dims if declared is not None else d.dims if d is not None else ()


def _factors(b: Scalar) -> tuple[Scalar, Scalar] | None:
    """`b` as a product; the root of a product is one of roots."""
    if isinstance(b, Apply) and b.name == "mul":
        return b.args[0], b.args[1]
    if isinstance(b, Apply) and b.name == "sqrt":
        inside = b.args[0]
        if isinstance(inside, Apply) and inside.name == "mul" and inside.args[0] is not inside.args[1]:
            return Apply("sqrt", (inside.args[0],)), Apply("sqrt", (inside.args[1],))
    return None


__all__ = ["Dominance"]
