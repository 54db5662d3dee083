"""Attacks on verdicts: what is proved has to survive a search at many scales, what is refuted has to fail at its witness.

A loss is seen along *lines*: a function of one number, `g(s) = f(x + s d)`, with everything else fixed. Candidates are
found at 40 digits and count only if they stand at 400.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import mpmath as mp

from lossdsl.verify.verdict import Refuted
from tests.fuzz_losses import Domain, Entry, Row, TooFar

FIND, CONFIRM = 40, 400


@dataclass(frozen=True)
class Line:
    """A function of one number between two ends (None is none), with places where it may be special."""

    value: Callable[[Any], Any]
    lo: Any
    hi: Any
    special: tuple[Any, ...]
    shown: str
    norms: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(("l1", "l2", "linf"), 1))
    ends: tuple[Any, ...] = ()  # those that belong to the domain

    def inside(self, s: Any) -> bool:
        return (self.lo is None or s > self.lo) and (self.hi is None or s < self.hi)


@dataclass(frozen=True)
class Violation:
    line: Line
    at: tuple[Any, ...]
    what: str

    def __str__(self) -> str:
        return f"{self.what} at {', '.join(mp.nstr(s, 20) for s in self.at)} along {self.line.shown}"


def number(q: Fraction | int) -> Any:
    return mp.mpf(q.numerator) / q.denominator


# ---------------------------------------------------------------------------------------------------- lines


@dataclass(frozen=True)
class Region:
    """Where a claim is asked: an interval of `x` and one of `a` inside of their domains; None is no narrowing."""

    text: str = ""
    x: tuple[Fraction, Fraction] | None = None
    a: tuple[Fraction, Fraction] | None = None

    def holds(self, x: Any, a: Any) -> bool:
        inside = self.x is None or self.x[0] <= x <= self.x[1]
        return inside and (self.a is None or self.a[0] <= a <= self.a[1])


def _cut(domain: Domain, bounds: tuple[Fraction, Fraction] | None) -> tuple[Any, Any]:
    """The ends of a domain inside of the bounds."""
    ends = [e for e in (domain.lo, bounds[0] if bounds else None) if e is not None]
    tops = [e for e in (domain.hi, bounds[1] if bounds else None) if e is not None]
    return (number(max(ends)) if ends else None, number(min(tops)) if tops else None)


def _draw(rng: random.Random, domain: Domain, bounds: tuple[Fraction, Fraction] | None = None) -> Any:
    """A value of the domain: often near an end of it, sometimes far out."""
    if domain.values:
        return mp.mpf(rng.choice(domain.values))
    lo, hi = _cut(domain, bounds)
    tiny = mp.mpf(10) ** -rng.choice((3, 8, 12))
    if rng.random() < 0.4 and (lo is not None or hi is not None):
        ends = [(lo, tiny, domain.open[0])] if lo is not None else []
        ends += [(hi, -tiny, domain.open[1])] if hi is not None else []
        end, inward, is_open = rng.choice(ends)
        if lo is not None and lo == hi:
            return end
        return end + inward if is_open or rng.random() < 0.3 else end
    if lo is not None and hi is not None:
        return lo + (hi - lo) * mp.mpf(rng.choice((0.5, 0.25, rng.random())))
    drawn = mp.mpf(rng.choice((0, 1, 2, 0.5, rng.uniform(0, 3), 10 ** rng.uniform(-4, 3))))
    if lo is not None:
        return lo + drawn if drawn > 0 else lo + (tiny if domain.open[0] else 0)
    if hi is not None:
        return hi - drawn
    return drawn * rng.choice((-1, 1))


def entry_lines(loss: Entry, rng: random.Random, region: Region, count: int, wrt: str) -> Iterator[Line]:
    """Lines in `x`, in `y`, or in both together ("xy")."""
    for _ in range(count):
        x, y, a = _draw(rng, loss.x, region.x), _draw(rng, loss.y), _draw(rng, loss.a, region.a)
        numbers = [number(q) for q in loss.per.numbers]
        places = {mp.mpf(0), mp.mpf(1), mp.mpf(-1), a, -a, *numbers}
        lo, hi = _cut(loss.x, region.x)
        if wrt == "x":
            places |= {y, y + a, y - a, *(y + q for q in numbers), *(q / a for q in numbers if abs(a) > 1e-6)}
            shown = f"x at y = {mp.nstr(y, 15)}, a = {mp.nstr(a, 15)}"
            ends = tuple(s for s in (lo, hi) if s is not None and loss.x.holds(s))
            yield Line(lambda s, y=y, a=a: loss.value(s, y, a), lo, hi, tuple(sorted(places)[:24]), shown, ends=ends)
        elif wrt == "y":
            places |= {x, *(x - q for q in numbers)}
            shown = f"y at x = {mp.nstr(x, 15)}, a = {mp.nstr(a, 15)}"
            ends = _cut(loss.y, None)
            yield Line(lambda s, x=x, a=a: loss.value(x, s, a), *ends, tuple(sorted(places)[:24]), shown)
        else:
            dx, dy = mp.mpf(rng.choice((0, 1, -1, 0.5))), mp.mpf(rng.choice((1, 1, 2)))
            if x in (lo, hi) and lo != hi:  # a claim in both is about the relative interior
                dx = dx or mp.mpf(1)
            both = _meet([_reach(x, dx, lo, hi), _reach(y, dy, *_cut(loss.y, None))])
            if both is None:
                continue
            zeros = (mp.mpf(0), -y / dy, *((-x / dx, (y - x) / (dx - dy)) if dx not in (0, dy) else ()))
            shown = f"x = {mp.nstr(x, 12)} + s * {dx}, y = {mp.nstr(y, 12)} + s * {dy}, a = {mp.nstr(a, 12)}"
            yield Line(
                lambda s, x=x, y=y, a=a, dx=dx, dy=dy: loss.value(x + s * dx, y + s * dy, a), *both, zeros, shown
            )


def _reach(x: Any, d: Any, lo: Any, hi: Any) -> tuple[Any, Any]:
    """The numbers s with lo <= x + s d <= hi."""
    if d == 0:
        return (None, None)
    a, b = (None if end is None else (end - x) / d for end in ((lo, hi) if d > 0 else (hi, lo)))
    return (a, b)


def _meet(ends: Iterable[tuple[Any, Any]]) -> tuple[Any, Any] | None:
    lows, highs = zip(*ends, strict=True)
    lo = max((e for e in lows if e is not None), default=None)
    hi = min((e for e in highs if e is not None), default=None)
    return None if lo is not None and hi is not None and lo >= hi else (lo, hi)


def row_lines(loss: Row, rng: random.Random, region: Region, count: int, rising: bool = False) -> Iterator[Line]:
    """Lines of rows of two to four entries; those that rise are along one entry."""
    for _ in range(count):
        n = rng.choice((2, 3, 3, 4))
        a = _draw(rng, loss.a, region.a)
        label: Any = rng.randrange(n) if loss.label == "class" else _weights(rng, n)
        z, d = _row(rng, loss.z, n), [mp.mpf(rng.choice((0, 1, -1, rng.gauss(0, 1)))) for _ in range(n)]
        if loss.z == "simplex":
            d = [q - p for p, q in zip(z, _weights(rng, n), strict=True)]
        elif rising:
            d = [mp.mpf(0)] * n
            d[rng.randrange(n)] = mp.mpf(1)
        if not any(d):
            continue
        box = (mp.mpf(0), mp.mpf(1)) if loss.z in ("prob", "simplex") else (None, None)
        ends = _meet([_reach(t, s, *box) for t, s in zip(z, d, strict=True)])
        if ends is None:
            continue
        special = [mp.mpf(0), *(-t / s for t, s in zip(z, d, strict=True) if s)]
        special += [
            (z[j] - z[i]) / (d[i] - d[j]) for i in range(n) for j in range(i) if abs(d[i] - d[j]) > mp.mpf(10) ** -20
        ]
        norms = {"l1": mp.fsum(map(abs, d)), "l2": mp.sqrt(mp.fsum(t**2 for t in d)), "linf": max(map(abs, d))}
        words = ", ".join(f"{mp.nstr(t, 8)} + s * {mp.nstr(s, 8)}" for t, s in zip(z, d, strict=True))

        def value(s: Any, z: Any = z, d: Any = d, label: Any = label, a: Any = a) -> Any:
            return loss.value([t + s * u for t, u in zip(z, d, strict=True)], label, a)

        yield Line(value, *ends, tuple(special[:16]), f"z = ({words}), label {label}, a = {mp.nstr(a, 8)}", norms)


def _weights(rng: random.Random, n: int) -> list[Any]:
    w = [Fraction(rng.randint(1, 20)) ** rng.choice((1, 1, 3)) for _ in range(n)]
    return [number(t / sum(w)) for t in w]


def _row(rng: random.Random, kind: str, n: int) -> list[Any]:
    if kind == "simplex":
        return _weights(rng, n)
    if kind == "prob":
        return [mp.mpf(rng.choice((0.5, rng.random(), rng.random() ** 4, 0.999))) for _ in range(n)]
    scale = rng.choice((0.1, 1, 3, 30))
    z = [mp.mpf(rng.gauss(0, scale)) for _ in range(n)]
    if rng.random() < 0.3:
        z[0] = z[-1]
    return [mp.mpf(round(t)) for t in z] if rng.random() < 0.3 else z


# ------------------------------------------------------------------------------------------------ searching


def _places(line: Line, rng: random.Random, count: int, most: float = 6) -> Iterator[Any]:
    """Numbers inside of the line: near its special places and ends at every scale, and far out."""
    ends = [e for e in (line.lo, line.hi) if e is not None]
    for _ in range(count):
        if rng.random() < 0.15:
            s = mp.mpf(rng.choice((-1, 1)) * 10 ** rng.uniform(0, most))
        else:
            centre = rng.choice([*line.special, *ends, *ends, mp.mpf(0)])
            s = centre + mp.mpf(rng.choice((-1, 1)) * rng.choice((0, 1, 1)) * 10 ** rng.uniform(-9, 1.5))
        if line.lo is not None and line.hi is not None and not line.inside(s):
            s = line.lo + (line.hi - line.lo) * mp.mpf(rng.random())
        if line.inside(s):
            yield s


def _safe(line: Line, *at: Any) -> list[Any] | None:
    try:
        return [line.value(s) for s in at]
    except TooFar:
        return None


def _bad(value: Any) -> bool:
    return bool(mp.isnan(value) or mp.isinf(value))


def _stands(line: Line, at: tuple[Any, ...], test: Callable[..., bool]) -> bool:
    """Whether the test, of the values at these numbers, holds at many digits too."""
    for digits in (CONFIRM, 2 * FIND):  # some functions are too slow at many digits
        with mp.workdps(digits):
            values = _safe(line, *at)
            if values is not None:
                return test(*values)
    return False


def _seek(line: Line, at: tuple[Any, ...], test: Callable[..., bool], what: str) -> Violation | None:
    values = _safe(line, *at)
    if values is None:
        return None
    if any(map(_bad, values)):
        if _stands(line, at, lambda *v: any(map(_bad, v))):
            return Violation(line, at, f"undefined or infinite ({what})")
        return None
    return Violation(line, at, what) if test(*values) and _stands(line, at, test) else None


def _slack(*values: Any) -> Any:
    return mp.mpf(10) ** (-mp.mp.dps * 3 // 5) * (1 + sum(map(abs, values)))


def _pairs(line: Line, rng: random.Random, count: int, most: float = 6) -> Iterator[tuple[Any, Any]]:
    for p in _places(line, rng, count, most):
        near = p + mp.mpf(rng.choice((-1, 1)) * 10 ** rng.uniform(-7, 1))
        q = near if rng.random() < 0.6 else next(_places(line, rng, 1, most), near)
        if line.inside(q) and p != q:
            yield p, q


def chord(line: Line, rng: random.Random, sign: int = 1, modulus: Any = 0, count: int = 25) -> Violation | None:
    """A point above a chord of the function times `sign`, less `modulus / 2` times the square."""
    half = mp.mpf(modulus) / 2
    for p, q in _pairs(line, rng, count):
        for t in (mp.mpf(1) / 2, mp.mpf(rng.choice((1, 63))) / 64):
            m = (1 - t) * p + t * q
            bend = half * t * (1 - t) * (p - q) ** 2

            def above(u: Any, v: Any, w: Any, t: Any = t, bend: Any = bend) -> bool:
                return bool(sign * (w - (1 - t) * u - t * v) + bend > _slack(u, v, w, bend))

            found = _seek(line, (p, q, m), above, f"not {'convex' if sign > 0 else 'concave'}")
            if found is not None:
                return found
    return None


def flat(line: Line, rng: random.Random, sign: int = 1) -> Violation | None:
    """Three points on one straight line, though the function is said to be strictly convex."""
    for p, q in _pairs(line, rng, 15, 1):
        if abs(p) > 20 or abs(q) > 20:
            continue
        m = (p + q) / 2
        with mp.workdps(2000):
            values = _safe(line, p, q, m)
            if values is None or any(map(_bad, values)):
                continue
            u, v, w = values
            if sign * (w - (u + v) / 2) > -(mp.mpf(10) ** -1900):
                return Violation(line, (p, q, m), "not strict")
    return None


def hump(line: Line, rng: random.Random) -> Violation | None:
    for p, q in _pairs(line, rng, 25):
        found = _seek(
            line, (p, q, (p + q) / 2), lambda u, v, w: bool(w > max(u, v) + _slack(u, v, w)), "not quasiconvex"
        )
        if found is not None:
            return found
    return None


def steep(line: Line, rng: random.Random, bound: Any, norm: str = "l2") -> Violation | None:
    for p, q in _pairs(line, rng, 30):
        most = bound * abs(p - q) * line.norms[norm]
        found = _seek(line, (p, q), lambda u, v, most=most: bool(abs(u - v) > most + _slack(u, v)), "too steep")
        if found is not None:
            return found
    return None


def unbounded(line: Line, rng: random.Random) -> Violation | None:
    """A slope that grows without end: at an inner point as the distance shrinks, or along a tail."""
    for p, q in _pairs(line, rng, 12):
        lo, hi = min(p, q), max(p, q)
        early = mp.mpf(0)  # the slope at a moderate distance: what is steep, but smooth, has it all the way down
        for _ in range(60):  # towards the steeper half
            m = (lo + hi) / 2
            values = _safe(line, lo, m, hi)
            if values is None or any(map(_bad, values)):
                break
            u, w, v = values
            if not early or hi - lo > mp.mpf(10) ** -6:
                early = abs(v - u) / (hi - lo)
            lo, hi = (lo, m) if abs(w - u) > abs(v - w) else (m, hi)
        values = _safe(line, lo, hi)
        if values and not any(map(_bad, values)) and hi - lo < mp.mpf(10) ** -12:
            u, v = values
            if abs(u - v) > max(10**7, 50 * early) * (hi - lo) and abs(u - v) > mp.mpf(10) ** -30:
                return Violation(line, (lo, hi), "the slope has no bound")
    for sign in (1, -1):
        rates = []
        for far in (10**3, 10**6, 10**9):
            values = _safe(line, mp.mpf(sign * far), mp.mpf(sign * far) + sign)
            if values is None or any(map(_bad, values)) or not line.inside(mp.mpf(sign * far)):
                break
            rates.append(abs(values[1] - values[0]))
        if len(rates) == 3 and rates[2] > 8 * rates[1] > 64 * rates[0] > 0 and rates[2] > 100:
            return Violation(line, (mp.mpf(sign * 10**9),), "the slope grows along a tail")
    return None


def falls(line: Line, rng: random.Random, sign: int = 1, strict: bool = False) -> Violation | None:
    """A pair at which the function times `sign` decreases (does not increase, for strict)."""
    for p, q in _pairs(line, rng, 25, 1 if strict else 6):
        p, q = min(p, q), max(p, q)
        if strict and abs(p) < 20 and abs(q) < 20:
            with mp.workdps(2000):
                values = _safe(line, p, q)
                if values is not None and not any(map(_bad, values)):
                    if sign * (values[1] - values[0]) < mp.mpf(10) ** -1900:
                        return Violation(line, (p, q), "not strictly monotone")
            continue
        found = _seek(line, (p, q), lambda u, v: bool(sign * (v - u) < -_slack(u, v)), "not monotone")
        if found is not None:
            return found
    return None


def rough(line: Line, rng: random.Random, order: int) -> Violation | None:
    """A place where the derivative of that order jumps or is missing: the difference of order + 1 over h^order does
    not shrink with h. It is found by following the largest differences."""
    for start, stop in _windows(line, rng):
        found = _zoom(line, start, stop, order)
        if found is not None:
            return found
    for s in rng.sample(line.special, min(6, len(line.special))):
        h = mp.mpf(10) ** -(9 if order < 3 else 6)
        if line.inside(s - 9 * h) and line.inside(s + 9 * h):
            found = _jump(line, s, h, order)
            if found is not None:
                return found
    return None


def _windows(line: Line, rng: random.Random) -> Iterator[tuple[Any, Any]]:
    for p, q in _pairs(line, rng, 3, 1.5):
        yield min(p, q), max(p, q)
    for width in (rng.choice((1, 8)),):
        lo, hi = mp.mpf(-width), mp.mpf(width) * 1.1
        if line.inside(lo) and line.inside(hi):
            yield lo, hi


def _difference(values: list[Any]) -> Any:
    while len(values) > 1:
        values = [b - a for a, b in itertools.pairwise(values)]
    return values[0]


def _zoom(line: Line, lo: Any, hi: Any, order: int) -> Violation | None:
    k = order + 1
    while hi - lo > mp.mpf(10) ** (-9 if order < 2 else -6):
        grid = [lo + (hi - lo) * j / (4 * k) for j in range(4 * k + 1)]
        values = _safe(line, *grid)
        if values is None:
            return None
        for s, v in zip(grid, values, strict=True):
            if _bad(v) and _stands(line, (s,), _bad):
                return Violation(line, (s,), "undefined or infinite")
        best = max(range(3 * k + 1), key=lambda j: abs(_difference(values[j : j + k + 1])))
        lo, hi = grid[best], grid[best + k]
    return _jump(line, (lo + hi) / 2, hi - lo, order)


def _jump(line: Line, at: Any, h: Any, order: int) -> Violation | None:
    """Whether the differences around a place stay of the same size, over h^order, as h shrinks."""
    k = order + 1
    sizes = []
    # beside an end at which it is singular a smooth function varies as fast at every distance: that is no jump
    h = min([h, *(abs(at - end) / 100 for end in (line.lo, line.hi) if end is not None)])
    if h == 0:
        return None
    with mp.workdps(70):
        for shrink in (1, 2**4, 2**8):
            width = h / shrink
            best, scale = mp.mpf(0), mp.mpf(0)
            for shift in range(-k, 2):
                near = [at + width * (shift + j + mp.mpf(1) / 7) for j in range(k + 1)]
                values = _safe(line, *near) if all(map(line.inside, near)) else None
                if values is None or any(map(_bad, values)):
                    return None
                best, scale = max(best, abs(_difference(values)) / width**order), max(scale, *map(abs, values))
            if best < mp.mpf(10) ** -6 * (1 if order else 1 + scale):
                return None
            sizes.append(best)
            # what follows a kink exactly has to look for it again
            at = _follow(line, at, width, k)
    if sizes[2] > sizes[0] / 8 and sizes[2] > sizes[1] / 4:
        return Violation(line, (at,), f"the derivative of order {order} jumps")
    return None


def _follow(line: Line, at: Any, h: Any, k: int) -> Any:
    lo, hi = at - (k + 1) * h, at + (k + 1) * h
    for _ in range(5):
        grid = [lo + (hi - lo) * j / (4 * k) for j in range(4 * k + 1)]
        values = _safe(line, *grid)
        if values is None or any(map(_bad, values)):
            return at
        best = max(range(3 * k + 1), key=lambda j: abs(_difference(values[j : j + k + 1])))
        lo, hi = grid[best], grid[best + k]
    return (lo + hi) / 2


def below(line: Line, rng: random.Random, test: Callable[[Any], bool], what: str) -> Violation | None:
    """A place where the test of the value holds, or, inside, the value is no number."""
    for s in (*_places(line, rng, 30), *line.ends):
        values = _safe(line, s)
        if values is None:
            continue
        if mp.isnan(values[0]) and s not in line.ends:
            if _stands(line, (s,), mp.isnan):
                return Violation(line, (s,), f"undefined ({what})")
        elif test(values[0]) and _stands(line, (s,), test):
            return Violation(line, (s,), what)
    return None


# ------------------------------------------------------------------------------------------------ witnesses


def jump_is_there(g: Callable[[Any], Any], violation: str, most: int) -> bool:
    """Whether the one-sided difference quotients at 0, of the order that is said to jump, differ by the size that is given,
    or the value there is no number, or another one than beside it."""
    if "no real number" in violation:
        return _bad(g(mp.mpf(0)))
    order = 0 if "the value" in violation else 1 if "the slope" in violation else int(violation.split("order ")[1][0])
    found = re.search(r"jumps by [\[(]([^,]+), ([^\])]+)[\])]", violation)
    assert found, violation
    low, high = (mp.mpf(end) for end in found.groups())
    h = mp.mpf(10) ** -9

    def one_sided(sign: int) -> Any:
        values = [g(sign * h * (k + 1)) for k in range(order + 1)]
        for _ in range(order):
            values = [(b - a) / (sign * h) for a, b in itertools.pairwise(values)]
        return values[0]

    right, left = one_sided(1), one_sided(-1)
    slack = mp.mpf(10) ** -4 * (1 + abs(right) + abs(left))
    if "from the value at" in violation:
        left = g(mp.mpf(0))
    return (
        (order <= most or most == 3) and low - slack <= right - left <= high + slack and abs(right - left) > slack / 100
    )


def places(witness: dict[str, Fraction]) -> dict[str, dict[tuple[int, ...], Fraction]]:
    """`z[0, 1]` as z: (0, 1)."""
    out: dict[str, dict[tuple[int, ...], Fraction]] = {}
    for name, value in witness.items():
        bare, _, rest = name.partition("[")
        place = tuple(int(k) for k in rest.rstrip("]").split(",")) if rest and rest[0].isdigit() else ()
        out.setdefault(bare, {})[place] = value
    return out


def entry_points(loss: Entry, refuted: Refuted) -> list[dict[str, Fraction]]:
    """The assignments of `x`, `y`, `a` of a witness, the later ones completed by the first."""
    out: list[dict[str, Fraction]] = []
    first: dict[str, Fraction] = {}
    for point in refuted.witness.points:
        flatly = {name: next(iter(w.values())) for name, w in places(dict(point)).items()}
        first = first or flatly
        out.append({"a": loss.default, **first, **flatly})
    return out


def row_points(loss: Row, refuted: Refuted) -> Iterator[list[tuple[list[Fraction], Any, Fraction]]]:
    """For each row of a witness, its assignments of z, the label and a."""
    points = [places(dict(p)) for p in refuted.witness.points]
    merged = [{**points[0], **p} for p in points]
    rows = sorted({place[0] for place in merged[0]["z"] if place})
    for n in rows:
        found = []
        for p in merged:
            z = [v for place, v in sorted(p["z"].items()) if place[0] == n]
            if loss.label == "class":
                label: Any = int(p["t"][(n,)])
            else:
                label = [v for place, v in sorted(p["p"].items()) if place[0] == n]
            found.append((z, label, next(iter(p.get("a", {(): loss.default}).values()))))
        yield found
