"""An independent oracle: our derivative of every scalar body equals SymPy's `diff` at random points."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import sympy
from references import each_path

from lossdsl import pipeline, primitives
from lossdsl.diagnostics import Source
from lossdsl.ir.expression import algebraic, symbols
from lossdsl.ir.nodes import REAL, AdjointMap, Definition, Proxy, Read, Scalar, Stop, postorder
from lossdsl.ir.rewrite import transform
from lossdsl.transform.scalar import scalar_derivative

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "examples").glob("*/*.loss"))
POINTS = 6
DECLARED = Proxy, AdjointMap  # value and derivative are declared apart


def bodies(path: Path) -> list[Definition]:
    analysis = pipeline.analyse(Source(path.name, path.read_text()))
    assert not analysis.failed
    return [d for b in analysis.losses for d in b.program.definitions() if d.body.dtype is REAL]


def value(expression: sympy.Expr, at: dict[str, float | int]) -> complex | None:
    chosen = {s: sympy.sympify(at[s.name]) for s in expression.free_symbols}
    try:
        number = sympy.N(expression.xreplace(chosen), 30)
        return None if number.has(sympy.nan, sympy.zoo, sympy.oo) else complex(number)
    except (TypeError, ValueError):  # complex numbers are compared: outside of the domain
        return None


def opaque(node: Scalar, held: dict[Scalar, Scalar]) -> Scalar:
    """What is stopped as an input of its own: SymPy knows no constant that depends on a variable."""

    def step(n: Scalar) -> Scalar:
        return held.setdefault(n, Read(f"stopped.{len(held)}", (), REAL)) if isinstance(n, Stop) else n

    return transform(node, step)


def slope(body: Scalar, read: Read) -> sympy.Expr:
    """SymPy's derivative. Where value and derivative are declared apart it is put together by the chain rule, from the
    derivative of the surrogate, or with the map of the cotangent in between."""
    apart: dict[Scalar, Read] = {}
    done: dict[Scalar, Scalar] = {}
    for n in postorder(body):
        new = n.rebuild(tuple(done[c] for c in n.children)) if n.children else n
        done[n] = apart.setdefault(n, Read(f"apart.{len(apart)}", (), REAL)) if isinstance(n, DECLARED) else new
    whole = algebraic(done[body]).expression
    outer = {n: h for n, h in apart.items() if h in set(postorder(done[body]))}
    total = sympy.diff(whole, symbols(read)[read])
    for n, h in outer.items():
        cotangent = sympy.diff(whole, symbols(h)[h])
        inner = n.surrogate if isinstance(n, Proxy) else n.a
        if isinstance(n, AdjointMap):
            extra = [algebraic(a).expression for a in n.args]
            cotangent = primitives.PRIMITIVES[n.name].sympy(sympy, cotangent, *extra)
        total += cotangent * slope(inner, read)
    return total.xreplace({symbols(h)[h]: algebraic(n).expression for n, h in outer.items()})


def compared(body: Scalar, read: Read, rng: random.Random) -> int:
    """How many points were compared; asserts on each."""
    held: dict[Scalar, Scalar] = {}
    derivative, body = opaque(scalar_derivative(body, read), held), opaque(body, held)
    ours, whole = algebraic(derivative).expression, algebraic(body).expression
    names = {n: s.name for n, s in {**symbols(body), **symbols(derivative)}.items()}
    theirs = slope(body, read)
    count = 0
    for attempt in range(3 * POINTS):
        low, high = ((0.1, 0.9), (-2.0, 2.0), (1.1, 3.0))[attempt % 3]
        at = {
            name: rng.randint(0, 3) if n.dtype is not REAL else sympy.Float(rng.uniform(low, high), 40)
            for n, name in names.items()
        }
        a, b = value(ours, at), value(theirs, at)
        if a is None or b is None or abs(b.imag) > 1e-20 or abs(a.imag) > 1e-20:
            continue
        assert abs(a - b) <= 1e-12 * max(1.0, abs(b)), (str(whole), names.get(read), at, a, b)
        count += 1
    return count


@pytest.mark.parametrize("path", each_path())
def test_scalar_derivatives_equal_sympys(path: Path) -> None:
    rng = random.Random(path.stem)
    total = pairs = 0
    for definition in bodies(path):
        read = [n for n in postorder(definition.body) if isinstance(n, Read) and n.dtype is REAL]
        for one in read:
            total += compared(definition.body, one, rng)
            pairs += 1
    assert total >= 2 * pairs, "too few points were inside of the domains"
