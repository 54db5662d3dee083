"""Questions about random losses: the text of a claim, an attack on its proof, and a second look at its counterexample."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

import mpmath as mp

from lossdsl.diagnostics import Source
from lossdsl.ir.build import build
from lossdsl.syntax.parser import parse
from lossdsl.verify import verify_program
from lossdsl.verify.verdict import Finding, Proved, Refuted, Verdict
from tests import fuzz_attacks as attack
from tests.fuzz_attacks import Line, Region, Violation, entry_lines, entry_points, number, row_lines, row_points
from tests.fuzz_losses import Entry, Row, TooFar, entry, row

Along = Callable[[Line, random.Random], Violation | None]
Second = Callable[[Refuted], bool | None]  # None: the witness says too little, a search has to find a violation


@dataclass(frozen=True)
class Question:
    """A claim, what contradicts its proof along a line, and what its counterexample has to show."""

    claim: str
    wrt: str
    region: Region
    along: Along
    second: Second
    rising: bool = False


def _says_too_little(refuted: Refuted) -> bool | None:
    return None


# ------------------------------------------------------------------------------------------------ one entry

REGIONS = (
    ("on abs(x) <= 3", (Fraction(-3), Fraction(3)), None),
    ("on x >= 1/2 and x <= 2", (Fraction(1, 2), Fraction(2)), None),
    ("when a == 1", None, (Fraction(1), Fraction(1))),
    ("when a == 1/2", None, (Fraction(1, 2), Fraction(1, 2))),
    ("when a >= 1/2 and a <= 1", None, (Fraction(1, 2), Fraction(1))),
)


def _region(rng: random.Random, loss: Entry) -> Region:
    if rng.random() < 0.55:
        return Region()
    if rng.random() < 0.2:
        return Region(" at defaults", None, (loss.default, loss.default))
    words, x, a = rng.choice(REGIONS)
    for domain, bounds in ((loss.x, x), (loss.a, a)):
        inside = [q for q in (bounds or ()) if domain.holds(q)]
        if bounds is not None and (len(inside) < 2 and (bounds[0] == bounds[1] or not domain.holds(sum(bounds) / 2))):
            return Region()
    return Region(f" {words}", x, a)


def _shapes(rng: random.Random) -> Iterator[tuple[str, Along, Callable[[list[Any], Any], bool]]]:
    """Claims about chords: their text, the attack, and what the values at both ends and between them have to show."""
    yield "convex", attack.chord, lambda v, _: v[2] > (v[0] + v[1]) / 2
    yield "concave", partial(attack.chord, sign=-1), lambda v, _: v[2] < (v[0] + v[1]) / 2
    yield (
        "strictly convex",
        lambda line, r: attack.chord(line, r) or attack.flat(line, r),
        lambda v, _: v[2] >= (v[0] + v[1]) / 2 - mp.mpf(10) ** -350 * (1 + abs(v[2])),
    )
    yield "quasiconvex", attack.hump, lambda v, _: v[2] > max(v[0], v[1])
    yield (
        "affine",
        lambda line, r: attack.chord(line, r) or attack.chord(line, r, -1),
        lambda v, _: v[2] != (v[0] + v[1]) / 2,
    )


CLASSES = {"C0": 0, "C1": 1, "C2": 2, "smooth": 3}
MONOTONE = ("increasing", "decreasing", "strictly increasing", "strictly decreasing")


def entry_questions(rng: random.Random, loss: Entry, count: int) -> list[Question]:
    made = list(_entry_questions(rng, loss))
    return rng.sample(made, min(count, len(made)))


def _entry_questions(rng: random.Random, loss: Entry) -> Iterator[Question]:
    wrt = "x" if rng.random() < 0.75 or loss.y.values else rng.choice(("y", "xy"))
    named = {"x": "x", "y": "y", "xy": "x, y"}[wrt]

    def question(text: str, along: Along, second: Second, region: Region, of: str = wrt) -> Question:
        return Question(text + region.text, of, region, along, second)

    for word, along, shown in _shapes(rng):
        region = _region(rng, loss)
        yield question(f"{word} in {named}", along, partial(_entry_chord, loss, region, shown), region)
    for word, order in CLASSES.items():
        region = _region(rng, loss)
        if wrt == "x":
            yield question(
                f"{word} in x", partial(attack.rough, order=order), partial(_entry_kink, loss, region, order), region
            )
    for word in MONOTONE:
        region = _region(rng, loss)
        sign, strict = -1 if "decreasing" in word else 1, "strictly" in word
        along, second = (
            partial(attack.falls, sign=sign, strict=strict),
            partial(_entry_order, loss, region, sign, strict),
        )
        yield question(f"{word} in x", along, second, region, "x")
    for bound in (Fraction(1), Fraction(1, 4), Fraction(2)):
        region = _region(rng, loss)
        along = partial(attack.steep, bound=number(bound))
        yield question(f"lipschitz in x <= {bound}", along, partial(_entry_steep, loss, region, bound), region, "x")
    region = _region(rng, loss)
    yield question("lipschitz in x", attack.unbounded, partial(_entry_without_bound, loss, region), region, "x")
    m = rng.choice((Fraction(1), Fraction(1, 2), Fraction(2)))
    yield question(
        f"strongly convex in x >= {m}", partial(attack.chord, modulus=number(m)), _says_too_little, region, "x"
    )
    yield question(f"gradient lipschitz in x <= {m}", partial(_curved, bound=number(m)), _says_too_little, region, "x")
    yield question("self-concordant in x", _discordant, partial(_entry_discord, loss), Region(), "x")
    region = _region(rng, loss)
    for text, fails in _bounds():
        along = partial(attack.below, test=fails, what=f"not {text}")
        yield question(text, along, partial(_entry_bound, loss, region, fails), region, "x")
    yield question("bounded", _endless, partial(_entry_ray, loss, region), region, "x")
    if loss.x.text == "real[...]":
        yield question("even in x", partial(_mirror, sign=1), partial(_entry_mirror, loss, 1), Region(), "x")
        yield question("odd in x", partial(_mirror, sign=-1), partial(_entry_mirror, loss, -1), Region(), "x")
        yield question("redescending in x", _keeps_pulling, _says_too_little, Region(), "x")


def _bounds() -> Iterator[tuple[str, Callable[[Any], bool]]]:
    yield "per >= 0", lambda v: bool(v < 0)
    yield "per <= 1", lambda v: bool(v > 1)
    yield "per > 0", lambda v: bool(v <= 0)
    yield "per >= -1/2", lambda v: bool(v < -mp.mpf(1) / 2)
    yield "infimum of per == 0", lambda v: bool(v < 0)


def _curved(line: Line, rng: random.Random, bound: Any) -> Violation | None:
    return attack.chord(line, rng, modulus=-bound) or attack.chord(line, rng, sign=-1, modulus=-bound)


def _discordant(line: Line, rng: random.Random) -> Violation | None:
    """A third derivative that is too large for the second, by differences; not far out, where digits are lost."""
    h = mp.mpf(2) ** -33

    def too_large(a: Any, b: Any, c: Any, d: Any, f: Any) -> bool:
        second, third = (b - 2 * c + d) / h**2, (f - 2 * d + 2 * b - a) / (2 * h**3)
        slack = mp.mpf(10) ** -9 * (1 + abs(second)) ** 3 * (1 + third**2)
        return bool(second < -slack or third**2 > 4 * max(second, 0) ** 3 + slack)

    for p, _ in attack._pairs(line, rng, 30):
        s = mp.floor(p * 2**33) / 2**33  # equal distances at any number of digits
        at = tuple(s + k * h for k in (-2, -1, 0, 1, 2))
        found = (
            attack._seek(line, at, too_large, "not self-concordant")
            if abs(s) < 10**4 and all(map(line.inside, at))
            else None
        )
        if found is not None:
            return found
    return None


def _endless(line: Line, rng: random.Random) -> Violation | None:
    return attack.below(line, rng, lambda v: bool(abs(v) > mp.mpf(10) ** 8), "not bounded")


def _mirror(line: Line, rng: random.Random, sign: int) -> Violation | None:
    for p, _ in attack._pairs(line, rng, 20):
        found = attack._seek(
            line, (p, -p), lambda u, v: bool(abs(u - sign * v) > attack._slack(u, v)), "another value at the negative"
        )
        if found is not None and "undefined" not in found.what:
            return found
    return None


def _keeps_pulling(line: Line, rng: random.Random) -> Violation | None:
    for far, least in ((mp.mpf(10) ** 8, mp.mpf(10) ** -3), (mp.mpf(10) ** 3, mp.mpf(1) / 20)):
        for s in (far, -far):
            values = attack._safe(line, s, s + 1)
            if values and not any(map(attack._bad, values)) and abs(values[1] - values[0]) > least:
                return Violation(line, (s,), "a slope that does not go to 0")
    return None


def _admitted(loss: Entry, region: Region, point: dict[str, Fraction]) -> bool:
    inside = loss.x.holds(point["x"]) and ("y" not in point or loss.y.holds(point["y"])) and loss.a.holds(point["a"])
    return inside and region.holds(point["x"], point["a"])


def _entry_value(loss: Entry, point: dict[str, Fraction]) -> Any:
    return loss.value(number(point["x"]), number(point.get("y", Fraction(0))), number(point["a"]))


def _entry_chord(loss: Entry, region: Region, shown: Callable[[list[Any], Any], bool], refuted: Refuted) -> bool | None:
    points = entry_points(loss, refuted)
    if len(points) != 2:
        return None
    t = refuted.witness.t if refuted.witness.t is not None else Fraction(1, 2)
    middle = {k: (1 - t) * points[0][k] + t * points[1][k] for k in points[0]}
    if t != Fraction(1, 2) or not all(_admitted(loss, region, p) for p in (*points, middle)):
        return False
    return shown([_entry_value(loss, p) for p in (*points, middle)], t)


def _entry_kink(loss: Entry, region: Region, order: int, refuted: Refuted) -> bool | None:
    points = entry_points(loss, refuted)
    point = points[0]
    if "x" not in point or "y" not in point:
        return None
    if not all(_admitted(loss, region, p) for p in points) or point["x"] in loss.x.ends:
        return False
    y, a, x = number(point["y"]), number(point["a"]), number(point["x"])
    step = number(points[1]["x"]) - x if len(points) > 1 else mp.mpf(1)
    return attack.jump_is_there(lambda s: loss.value(x + s * step, y, a), refuted.witness.violation, order)


def _entry_kink_beside(loss: Entry, order: int, refuted: Refuted) -> bool | None:
    """The jump along `y`; None if it is not seen."""
    points = entry_points(loss, refuted)
    if not all(k in p for p in points for k in ("x", "y")) or not all(_admitted(loss, Region(), p) for p in points):
        return None
    x, y, a = (number(points[0][k]) for k in ("x", "y", "a"))
    step = number(points[1]["y"]) - y if len(points) > 1 else mp.mpf(1)
    return attack.jump_is_there(lambda s: loss.value(x, y + s * step, a), refuted.witness.violation, order) or None


def _breaks(refuted: Refuted) -> bool:
    """Whether a counterexample to a Lipschitz constant is a place where the value jumps or is none."""
    return any(words in refuted.witness.violation for words in ("the value jumps", "no real number"))


def _entry_discord(loss: Entry, refuted: Refuted) -> bool | None:
    """A place where the value or a derivative jumps, or there is no value: there is no third derivative, then; of others too
    little is said."""
    if _breaks(refuted):
        return _entry_break(loss, Region(), refuted)
    return _entry_kink(loss, Region(), 2, refuted) or None if "jumps" in refuted.witness.violation else None


def _entry_break(loss: Entry, region: Region, refuted: Refuted) -> bool | None:
    """Such a place, along the line of the witness or along one input; None if it is not seen."""
    points = entry_points(loss, refuted)
    point = points[0]
    if "x" not in point or "y" not in point or not all(_admitted(loss, region, p) for p in points):
        return None
    a = number(point["a"])
    ways = [tuple(number(points[-1][k] - point[k]) for k in ("x", "y")), (1, 0), (0, 1)]
    for along_x, along_y in ways[len(points) < 2 :]:

        def value(s: Any, dx: Any = along_x, dy: Any = along_y) -> Any:
            return loss.value(number(point["x"]) + s * dx, number(point["y"]) + s * dy, a)

        if attack.jump_is_there(value, refuted.witness.violation, 0):
            return True
    return None


def _entry_steep(loss: Entry, region: Region, bound: Fraction, refuted: Refuted) -> bool | None:
    if _breaks(refuted):
        return _entry_break(loss, region, refuted)
    points = entry_points(loss, refuted)
    if len(points) != 2:
        return None
    u, v = (_entry_value(loss, p) for p in points)
    inside = all(_admitted(loss, region, p) for p in points)
    return inside and bool(abs(u - v) > number(bound) * abs(number(points[0]["x"] - points[1]["x"])))


def _entry_order(loss: Entry, region: Region, sign: int, strict: bool, refuted: Refuted) -> bool | None:
    points = entry_points(loss, refuted)
    if len(points) != 2:
        return None
    low, high = sorted(points, key=lambda p: p["x"])
    rise = sign * (_entry_value(loss, high) - _entry_value(loss, low))
    inside = all(_admitted(loss, region, p) for p in points) and low["x"] < high["x"]
    return inside and bool(rise <= mp.mpf(10) ** -350 if strict else rise < 0)


def _stays_above(loss: Entry, a: Fraction) -> bool:
    """Whether no value near 0 is found with this parameter, over values of every size."""
    rng = random.Random(3)
    for _ in range(400):
        drawn = [Fraction(round(64 * rng.gauss(0, rng.choice((0.1, 1.0, 10.0, 1000.0)))), 64) for _ in range(2)]
        x, y = (
            t if d.holds(t) else next(e for e in (*d.values, *d.ends) if e is not None)
            for t, d in zip(drawn, (loss.x, loss.y))
        )
        if loss.x.holds(x) and loss.y.holds(y) and loss.value(number(x), number(y), number(a)) < mp.mpf(10) ** -9:
            return False
    return True


def _entry_bound(loss: Entry, region: Region, fails: Callable[[Any], bool], refuted: Refuted) -> bool | None:
    if len(refuted.witness.points) == 1 and set(refuted.witness.points[0]) == {"a"}:
        return _stays_above(loss, refuted.witness.points[0]["a"])
    (point,) = entry_points(loss, refuted)
    return _admitted(loss, region, point) and _fails(fails, _entry_value(loss, point), refuted)


def _fails(fails: Callable[[Any], bool], value: Any, refuted: Refuted) -> bool:
    """Whether the value fails the test, or is none where that is said."""
    return bool(mp.isnan(value)) if refuted.method == "undefined inside of the domain" else fails(value)


def _entry_mirror(loss: Entry, sign: int, refuted: Refuted) -> bool | None:
    points = entry_points(loss, refuted)
    if len(points) != 2 or points[1]["x"] != -points[0]["x"]:
        return False
    u, v = (_entry_value(loss, p) for p in points)
    return bool(u != sign * v)


def _entry_ray(loss: Entry, region: Region, refuted: Refuted) -> bool | None:
    """From the first point through the second, and on; or members of a sequence."""
    points = entry_points(loss, refuted)
    if len(points) == 3:
        if not all(_admitted(loss, region, p) for p in points):
            return False
        try:
            return _rises([_entry_value(loss, p) for p in points])
        except TooFar:  # members of the sequence that are not as far out
            steps = (Fraction(0), Fraction(1, 16), Fraction(1, 8))
            nearer = [{k: v + s * (points[1][k] - v) for k, v in points[0].items()} for s in steps]
            return _rises([_entry_value(loss, p) for p in nearer]) or None
    if len(points) == 1 and refuted.method == "undefined inside of the domain":
        return _admitted(loss, region, points[0]) and bool(mp.isnan(_entry_value(loss, points[0])))
    if len(points) != 2 or region.x is not None:
        return None
    ray = [{k: v + s * (points[1][k] - v) for k, v in points[0].items()} for s in _FURTHER]
    return all(_admitted(loss, region, p) for p in ray) and _grows([_entry_value(loss, p) for p in ray])


_FURTHER = (10, 100, 1000)


def _rises(values: list[Any]) -> bool:
    """Whether members of a sequence that goes to an infinity, however slowly, are further and further out."""
    first, second, third = map(abs, values)
    return bool(mp.isinf(third) or third > second > first or (third > second and third > 4))


def _grows(values: list[Any]) -> bool:
    first, second, third = map(abs, values)
    return bool(mp.isinf(third) or (third > 5 * second and second > 2 * first))


# ----------------------------------------------------------------------------------------------------- rows


def row_questions(rng: random.Random, loss: Row, count: int) -> list[Question]:
    made = list(_row_questions(rng, loss))
    return rng.sample(made, min(count, len(made)))


def _row_questions(rng: random.Random, loss: Row) -> Iterator[Question]:
    def question(text: str, along: Along, second: Second, rising: bool = False) -> Question:
        region = Region()
        if rng.random() < 0.2:
            region = Region(" when a == 1", None, (Fraction(1), Fraction(1)))
        return Question(text + region.text, "z", region, along, second, rising)

    for word, along, shown in _shapes(rng):
        yield question(f"{word} in z", along, partial(_row_chord, loss, shown))
    for word, order in CLASSES.items():
        yield question(f"{word} in z", partial(attack.rough, order=order), partial(_row_kink, loss, order))
    for word in ("increasing", "decreasing"):
        if loss.z != "simplex":
            sign = -1 if word == "decreasing" else 1
            along = partial(attack.falls, sign=sign)
            yield question(f"{word} in z", along, partial(_row_order, loss, sign), True)
    for norm in ("l1", "l2", "linf"):
        bound = rng.choice((Fraction(1), Fraction(1, 2), Fraction(2)))
        along = partial(attack.steep, bound=number(bound), norm=norm)
        yield question(f"lipschitz in z <= {bound} in {norm}", along, partial(_row_steep, loss, bound, norm))
    yield question("lipschitz in z", attack.unbounded, partial(_row_without_bound, loss))
    for text, fails in _bounds():
        if not text.startswith("infimum"):
            along = partial(attack.below, test=fails, what=f"not {text}")
            yield question(text, along, partial(_row_bound, loss, fails))
    yield question("bounded", _endless, partial(_row_ray, loss))
    if loss.z == "real":
        for word, relation in (("shift", _shifted), ("scale", _scaled)):
            along = partial(_transformed, word=word)
            yield question(f"invariant under {word} of z over c", along, partial(_row_pair, loss, relation))
        yield question("even in z", partial(_mirror, sign=1), _says_too_little)


def _transformed(line: Line, rng: random.Random, word: str) -> Violation | None:
    """Lines that move all entries alike are drawn for these questions."""
    for p, q in attack._pairs(line, rng, 20, 1):
        found = attack._seek(line, (p, q), lambda u, v: bool(abs(u - v) > attack._slack(u, v)), f"changes under {word}")
        if found is not None and "undefined" not in found.what:
            return found
    return None


def _moved_alike(loss: Row, rng: random.Random, region: Region, count: int, word: str) -> Iterator[Line]:
    for _ in range(count):
        n = rng.choice((2, 3, 4))
        label: Any = rng.randrange(n) if loss.label == "class" else attack._weights(rng, n)
        a, z = attack._draw(rng, loss.a, region.a), attack._row(rng, "real", n)
        lo = None if word == "shift" else mp.mpf(0)

        def value(s: Any, z: Any = z, label: Any = label, a: Any = a) -> Any:
            return loss.value([t + s if word == "shift" else t * s for t in z], label, a)

        yield Line(value, lo, None, (mp.mpf(1),), f"{word} of {[mp.nstr(t, 8) for t in z]}, label {label}, a = {a}")


def _shifted(z: list[Fraction], w: list[Fraction]) -> bool:
    return len({q - p for p, q in zip(z, w, strict=True)}) == 1


def _scaled(z: list[Fraction], w: list[Fraction]) -> bool:
    ratios = {q / p for p, q in zip(z, w, strict=True) if p}
    return len(ratios) == 1 and min(ratios) > 0 and all(q == 0 for p, q in zip(z, w, strict=True) if not p)


def _row_value(loss: Row, assignment: tuple[list[Fraction], Any, Fraction]) -> Any:
    z, label, a = assignment
    shown = label if isinstance(label, int) else [number(q) for q in label]
    return loss.value([number(q) for q in z], shown, number(a))


def _row_admitted(loss: Row, assignment: tuple[list[Fraction], Any, Fraction]) -> bool:
    z, label, a = assignment
    ok = {
        "real": True,
        "prob": all(0 <= q <= 1 for q in z),
        "simplex": all(q >= 0 for q in z) and sum(z) == 1,
    }[loss.z]
    labelled = 0 <= label < len(z) if isinstance(label, int) else all(q >= 0 for q in label) and sum(label) == 1
    return ok and labelled and loss.a.holds(a)


def _any_row(loss: Row, refuted: Refuted, test: Callable[[list[Any]], bool]) -> bool:
    """Whether the test holds of one row of the witness, all of whose values are admitted."""
    return any(all(_row_admitted(loss, p) for p in points) and test(points) for points in row_points(loss, refuted))


def _row_kink(loss: Row, order: int, refuted: Refuted) -> bool | None:
    """Whether some row of the witness, inside of the domain, has the jump."""

    def test(points: list[Any]) -> bool:
        (z, label, a), (w, _, _) = points[0], points[-1]
        if loss.z != "real" and (min(z) <= 0 or (max(z) >= 1 and (len(z) > 1 or loss.z == "prob"))):
            return False

        def value(s: Any) -> Any:
            shown = label if isinstance(label, int) else [number(q) for q in label]
            return loss.value([number(p) + s * number(q - p) for p, q in zip(z, w, strict=True)], shown, number(a))

        return attack.jump_is_there(value, refuted.witness.violation, order)

    return _any_row(loss, refuted, test)


def _row_chord(loss: Row, shown: Callable[[list[Any], Any], bool], refuted: Refuted) -> bool | None:
    if len(refuted.witness.points) == 3:
        return _any_row(
            loss,
            refuted,
            lambda points: (
                all(_row_admitted(loss, p) for p in points) and _rises([_row_value(loss, p) for p in points])
            ),
        )
    if len(refuted.witness.points) != 2:
        return None

    def test(points: list[Any]) -> bool:
        (z, label, a), (w, _, _) = points
        middle = ([(p + q) / 2 for p, q in zip(z, w, strict=True)], label, a)
        return shown([_row_value(loss, p) for p in (*points, middle)], None)

    return _any_row(loss, refuted, test)


def _row_steep(loss: Row, bound: Fraction, norm: str, refuted: Refuted) -> bool | None:
    """The distance counts the entries of all rows of the witness."""
    if _breaks(refuted):
        return _row_kink(loss, 0, refuted) or None
    if len(refuted.witness.points) != 2:
        return None
    steps = [number(q - p) for (z, *_), (w, *_) in row_points(loss, refuted) for p, q in zip(z, w, strict=True)]
    size = {
        "l1": mp.fsum(map(abs, steps)),
        "l2": mp.sqrt(mp.fsum(t**2 for t in steps)),
        "linf": max(map(abs, steps)),
    }[norm]
    return _any_row(
        loss,
        refuted,
        lambda points: bool(abs(_row_value(loss, points[0]) - _row_value(loss, points[1])) > number(bound) * size),
    )


def _row_order(loss: Row, sign: int, refuted: Refuted) -> bool | None:
    if len(refuted.witness.points) != 2:
        return None

    def test(points: list[Any]) -> bool:
        steps = [q - p for p, q in zip(points[0][0], points[1][0], strict=True)]
        up = 1 if all(s >= 0 for s in steps) else -1 if all(s <= 0 for s in steps) else 0
        return bool(up * sign * (_row_value(loss, points[1]) - _row_value(loss, points[0])) < 0)

    return _any_row(loss, refuted, test)


def _row_without_bound(loss: Row, refuted: Refuted) -> bool | None:
    """Far out on the ray through both points, or from the second towards the first: quotients of differences grow."""
    if _breaks(refuted):
        return _row_kink(loss, 0, refuted) or None
    found = []
    for points in row_points(loss, refuted):
        if len(points) != 2 or "path" not in refuted.method:
            continue
        (z, label, a), (w, _, _) = points

        def at(s: Fraction, z: Any = z, w: Any = w, label: Any = label, a: Any = a) -> Any:
            point = [p + s * (q - p) for p, q in zip(z, w, strict=True)], label, a
            return point if _row_admitted(loss, point) else None

        found.append(_steepens(refuted.method.endswith("far"), at, partial(_row_value, loss)))
    return True if True in found else None if None in found or not found else False


def _steepens(far: bool, at: Callable[[Fraction], Any], value: Callable[[Any], Any]) -> bool | None:
    """Whether the quotients of differences grow, along the points `at` multiples of the step of a witness."""
    tries = [[Fraction(10) ** -k for k in ks] for ks in ((6, 30, 150), (12, 60, 300), (20, 60, 180))]
    if far:  # as far as there are values: exponentials end early
        tries = [[Fraction(10) ** k for k in ks] for ks in ((3, 6, 9), (1, 2, 3))]
        tries += [[most / 16, most / 4, most] for most in (Fraction(2) ** k for k in range(9, 3, -1))]
    for steps in tries:
        pairs = [(at(s), at(2 * s)) for s in steps]
        if any(p is None for pair in pairs for p in pair):
            return False
        try:
            slopes = [abs(value(v) - value(u)) / number(s) for (u, v), s in zip(pairs, steps, strict=True)]
        except TooFar:
            continue
        if any(map(mp.isinf, slopes)) or (slopes[1] > 1.4 * slopes[0] and slopes[2] > 1.4 * slopes[1]):
            return True
    return None


def _entry_without_bound(loss: Entry, region: Region, refuted: Refuted) -> bool | None:
    if _breaks(refuted):
        return _entry_break(loss, region, refuted)
    points = entry_points(loss, refuted)
    if len(points) != 2 or "path" not in refuted.method:
        return None

    def at(s: Fraction) -> dict[str, Fraction] | None:
        point = {k: v + s * (points[1][k] - v) for k, v in points[0].items()}
        return point if _admitted(loss, region, point) else None

    return _steepens(refuted.method.endswith("far"), at, partial(_entry_value, loss))


def _longer(loss: Row, point: Any, n: int) -> Any:
    """A row of alike entries as one of n such."""
    z, label, a = point
    if len({*z}) > 1 or (not isinstance(label, int) and len({*label}) > 1):
        return None
    one = Fraction(1, n)
    row = [one if loss.z == "simplex" else z[0]] * n
    return row, label if isinstance(label, int) else [one] * n, a


def _nearer(points: list[Any]) -> list[Any]:
    """Members of a sequence that are not as far out."""
    (z, label, a), (w, *_), *_ = points
    if len(z) != len(w):
        return []
    return [
        ([p + s * (q - p) for p, q in zip(z, w, strict=True)], label, a)
        for s in (Fraction(0), Fraction(1, 16), Fraction(1, 8))
    ]


def _row_rises(loss: Row, points: list[Any]) -> bool | None:
    try:
        return _rises([_row_value(loss, p) for p in points])
    except TooFar:
        return None


def _row_ray(loss: Row, refuted: Refuted) -> bool | None:
    if len(refuted.witness.points) == 3:

        def rises(points: list[Any]) -> bool:
            longer = points[-1:] + [p for n in (100, 1000) if (p := _longer(loss, points[-1], n)) is not None]
            ways = [w for w in (points, longer) if len(w) == 3]
            seen = [_row_rises(loss, w) for w in ways if all(_row_admitted(loss, p) for p in w)]
            if None in seen:  # too far to evaluate
                nearer = _nearer(points)
                seen += [_row_rises(loss, nearer)] if nearer and all(_row_admitted(loss, p) for p in nearer) else []
            if True not in seen and None in seen:
                raise TooFar
            return True in seen

        return _any_row(loss, refuted, rises)
    if len(refuted.witness.points) != 2:
        return None

    def test(points: list[Any]) -> bool:
        (z, label, a), (w, _, _) = points
        ray = [([p + s * (q - p) for p, q in zip(z, w, strict=True)], label, a) for s in _FURTHER]
        return all(_row_admitted(loss, p) for p in ray) and _grows([_row_value(loss, p) for p in ray])

    return _any_row(loss, refuted, test)


def _row_bound(loss: Row, fails: Callable[[Any], bool], refuted: Refuted) -> bool | None:
    return _any_row(loss, refuted, lambda points: _fails(fails, _row_value(loss, points[0]), refuted))


def _row_pair(loss: Row, relation: Callable[[Any, Any], bool], refuted: Refuted) -> bool | None:
    if len(refuted.witness.points) != 2:
        return False

    def test(points: list[Any]) -> bool:
        return relation(points[0][0], points[1][0]) and bool(_row_value(loss, points[0]) != _row_value(loss, points[1]))

    return _any_row(loss, refuted, test)


# -------------------------------------------------------------------------------------------------- the run


@dataclass
class Tally:
    """Counts of verdicts, and the wrong ones in words."""

    asked: int = 0
    proved: int = 0
    refuted: int = 0
    unconfirmed: int = 0  # counterexamples that say too little, and that the search did not find again
    wrong: list[str] = field(default_factory=list)

    @property
    def decided(self) -> float:
        return (self.proved + self.refuted) / max(1, self.asked)

    def add(self, other: Tally) -> None:
        self.asked += other.asked
        self.proved += other.proved
        self.refuted += other.refuted
        self.unconfirmed += other.unconfirmed
        self.wrong += other.wrong


def answers(
    rng: random.Random, *, effort: float = 0.3, count: int = 10
) -> tuple[Entry | Row, list[tuple[Question, Verdict]]]:
    """A random loss, questions about it, and what the verifier says to them and in its report."""
    loss: Entry | Row
    for _ in range(20):  # some texts are refused, as they should be (a power whose base may be negative)
        if rng.random() < 0.7:
            loss = entry(rng)
            questions = entry_questions(rng, loss, count)
        else:
            loss = row(rng)
            questions = row_questions(rng, loss, count)
        file = Source("fuzz.loss", loss.source([q.claim for q in questions]))
        losses, _ = build(parse(file)[0], file)
        if losses:
            break
    else:
        raise AssertionError("no loss was built")
    report = verify_program(losses[0], effort=effort)
    found = [(q, claim.verdict) for q, claim in zip(questions, report.claims, strict=True)]
    for finding in report.findings:
        question = _finding_question(loss, finding)
        if question is not None:
            found.append((question, finding.verdict))
    return loss, found


def ask(seed: int, *, lines: int = 10) -> Tally:
    """One random loss, its questions, and the attacks on the answers. The same seed asks the same."""
    rng = random.Random(seed)
    loss, found = answers(rng)
    tally = Tally()
    with mp.workdps(attack.FIND):
        for q, verdict in found:
            judge(tally, loss, q, verdict, rng, lines if q.claim[0] != "[" else lines // 2)
    tally.wrong = [f"seed {seed}: {w}" for w in tally.wrong]
    return tally


def judge(tally: Tally, loss: Entry | Row, q: Question, verdict: Verdict, rng: random.Random, lines: int) -> None:
    tally.asked += 1
    named = f"{q.claim} of {loss.source([])}"
    if isinstance(verdict, Proved):
        tally.proved += 1
        found = search(loss, q, rng, lines)
        if found is not None:
            tally.wrong.append(f"proved ({verdict.method}) {named}\n{found}\n{verdict.steps}")
    elif isinstance(verdict, Refuted):
        tally.refuted += 1
        stands = None
        for digits in (attack.CONFIRM, 2 * attack.FIND):  # some functions are too slow at many digits
            with mp.workdps(digits), contextlib.suppress(TooFar):
                stands = q.second(verdict) if stands is None else stands
        if stands is None and search(loss, q, rng, 4 * lines) is None:
            tally.unconfirmed += 1
        if stands is False:
            tally.wrong.append(f"refuted ({verdict.method}) {named}\n{verdict.witness}")


def search(loss: Entry | Row, q: Question, rng: random.Random, count: int) -> Violation | None:
    if isinstance(loss, Entry):
        lines = entry_lines(loss, rng, q.region, count, q.wrt)
    elif "invariant" in q.claim:
        lines = _moved_alike(loss, rng, q.region, count, "shift" if "shift" in q.claim else "scale")
    elif q.claim.startswith("even"):
        lines = _through_zero(loss, rng, q.region, count)
    else:
        lines = row_lines(loss, rng, q.region, count, q.rising)
    for line in lines:
        found = q.along(line, rng)
        if found is not None:
            return found
    return None


def _through_zero(loss: Row, rng: random.Random, region: Region, count: int) -> Iterator[Line]:
    for _ in range(count):
        n = rng.choice((2, 3))
        label: Any = rng.randrange(n) if loss.label == "class" else attack._weights(rng, n)
        a, z = attack._draw(rng, loss.a, region.a), attack._row(rng, "real", n)

        def value(s: Any, z: Any = z, label: Any = label, a: Any = a) -> Any:
            return loss.value([t * s for t in z], label, a)

        yield Line(value, None, None, (mp.mpf(1),), f"multiples of {[mp.nstr(t, 8) for t in z]}")


def _finding_question(loss: Entry | Row, finding: Finding) -> Question | None:
    """A finding of the report as a question, where there is an attack on it."""
    wrt = "".join(finding.wrt) or ("x" if isinstance(loss, Entry) else "z")
    if wrt not in ("x", "y", "z") or finding.of not in ("per", "return"):
        return None
    along: Along
    second: Second = _says_too_little
    single, region = isinstance(loss, Entry), Region()

    def rises(v: list[Any], _: Any) -> bool:
        return bool(v[2] > (v[0] + v[1]) / 2)

    match finding.property:
        case "non-negative":
            along = partial(attack.below, test=_negative, what="negative")
            second = partial(_entry_bound, loss, region, _negative) if single else partial(_row_bound, loss, _negative)
        case "range" if finding.verdict.value is not None:
            bracket = finding.verdict.value
            low = -mp.inf if bracket.lower is None else mp.mpf(bracket.lower)
            high = mp.inf if bracket.upper is None else mp.mpf(bracket.upper)
            along = partial(attack.below, test=lambda v: bool(v < low or v > high), what=f"not in [{low}, {high}]")
        case "convex":
            along = attack.chord
            second = partial(_entry_chord, loss, region, rises) if single else partial(_row_chord, loss, rises)
        case "lipschitz" if isinstance(finding.verdict, Proved) and finding.verdict.value is not None:
            upper = finding.verdict.value.upper
            if upper is None or (finding.verdict.value.exact or "1").strip("-./0123456789"):
                along = attack.unbounded
            else:
                along = partial(attack.steep, bound=mp.mpf(upper))
        case "lipschitz":
            along = attack.unbounded
            second = partial(_entry_without_bound, loss, region) if single else partial(_row_without_bound, loss)
        case "C0" | "C1" | "C2" | "smooth":
            along = partial(attack.rough, order=CLASSES[finding.property])
            order = CLASSES[finding.property]
            if wrt == "y":
                second = partial(_entry_kink_beside, loss, order)
            else:
                second = partial(_entry_kink, loss, region, order) if single else partial(_row_kink, loss, order)
        case _:
            return None
    return Question(f"[{finding.property} in {wrt}]", wrt, region, along, second)


def _negative(v: Any) -> bool:
    return bool(v < 0)
