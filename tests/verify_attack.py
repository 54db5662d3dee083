"""Random scalar losses with domains, parameter branches and odd powers, with an evaluator of their own, and the check
of a verdict against it: a proved property must survive sampling, a refuted one must fail at its witness."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import mpmath as mp

from lossdsl.diagnostics import Source
from lossdsl.ir.build import build
from lossdsl.syntax.parser import parse
from lossdsl.verify import verify_program
from lossdsl.verify.verdict import Proved, Refuted

Value = Callable[[Any, Any, Any], Any]
DOMAINS = {"": (-50, 50), " > 0": (0, 50), " in [0, 1]": (0, 1), " in (0, 1]": (0, 1), " in [-2, 3]": (-2, 3)}
CLAIMS = (
    "convex in x",
    "concave in x",
    "per >= 0",
    "lipschitz in x <= 1",
    "increasing in x",
    "decreasing in x",
    "C1 in x",
)
_ONE: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("abs({})", abs),
    ("relu({})", lambda t: max(t, mp.mpf(0))),
    ("({})^2", lambda t: t**2),
    ("({})^3", lambda t: t**3),
    ("abs({})^(3/2)", lambda t: abs(t) ** mp.mpf("1.5")),
    ("relu({})^(4/3)", lambda t: max(t, mp.mpf(0)) ** (mp.mpf(4) / 3)),
    ("log(1 + exp({} / 2))", lambda t: mp.log1p(mp.exp(t / 2))),
    ("sqrt(1/4 + ({})^2)", lambda t: mp.sqrt(mp.mpf(1) / 4 + t**2)),
    ("log1p(abs({}))", lambda t: mp.log1p(abs(t))),
    ("1 / (1 + ({})^2)", lambda t: 1 / (1 + t**2)),
    ("clamp({}, -1/2, 1)", lambda t: min(max(t, mp.mpf(-1) / 2), mp.mpf(1))),
    ("atan({})", mp.atan),
    ("erf({})", mp.erf),
    ("exp(-abs({}))", lambda t: mp.exp(-abs(t))),
    ("(({}) * atan({}) - log(1 + ({})^2) / 2)", lambda t: t * mp.atan(t) - mp.log(1 + t**2) / 2),
    ("sin(1000 * ({})) / 1000000", lambda t: mp.sin(1000 * t) / 1000000),
    ("-({})", lambda t: -t),
)
_LEAF: tuple[tuple[str, Value], ...] = (
    ("x", lambda x, y, a: x),
    ("x", lambda x, y, a: x),
    ("(x - y)", lambda x, y, a: x - y),
    ("(a * x)", lambda x, y, a: a * x),
    ("(y * x)", lambda x, y, a: x * y),
    ("(x - a)", lambda x, y, a: x - a),
    ("y", lambda x, y, a: y),
    ("1/3", lambda x, y, a: mp.mpf(1) / 3),
)


def expression(rng: random.Random, depth: int) -> tuple[str, Value]:
    if depth == 0:
        return rng.choice(_LEAF)
    if rng.random() < 0.5:
        text, one = rng.choice(_ONE)
        inner, f = expression(rng, depth - 1)
        return text.replace("{}", inner), lambda x, y, a: one(f(x, y, a))
    (p, f), (q, g) = expression(rng, depth - 1), expression(rng, depth - 1)
    kinds: tuple[tuple[str, Value], ...] = (
        (f"({p} + {q})", lambda x, y, a: f(x, y, a) + g(x, y, a)),
        (f"({p} - {q})", lambda x, y, a: f(x, y, a) - g(x, y, a)),
        (f"({p} * {q})", lambda x, y, a: f(x, y, a) * g(x, y, a)),
        (f"max({p}, {q})", lambda x, y, a: max(f(x, y, a), g(x, y, a))),
        (f"min({p}, {q})", lambda x, y, a: min(f(x, y, a), g(x, y, a))),
        (f"({p} if x > a else {q})", lambda x, y, a: f(x, y, a) if x > a else g(x, y, a)),
        (f"({p} if y >= 0 else {q})", lambda x, y, a: f(x, y, a) if y >= 0 else g(x, y, a)),
        (f"({p} if a > 1 else {q})", lambda x, y, a: f(x, y, a) if a > 1 else g(x, y, a)),
        (f"({p} if abs(x) <= 1 and x >= y else {q})", lambda x, y, a: (f if abs(x) <= 1 and x >= y else g)(x, y, a)),
        (f"({p} if x < 0 or x > 1 else {q})", lambda x, y, a: (f if x < 0 or x > 1 else g)(x, y, a)),
    )
    return rng.choice(kinds)


def source(text: str, domain: str) -> str:
    head = f"loss attack:\n    input x: real[...]{domain}\n    input y: real[...] in [-2, 2]\n"
    claims = "".join(f"    claim {c}\n" for c in CLAIMS)
    return f"{head}    param a: real in [0, 2] = 1\n    per = {text} + 0 * x\n    return mean(per)\n{claims}"


def wrong_verdicts(seed: int, *, effort: float = 0.3) -> tuple[int, list[str]]:
    """How many verdicts were decided, and those that the evaluator contradicts."""
    rng = random.Random(seed)
    domain = rng.choice((*DOMAINS, ""))
    text, f = expression(rng, rng.choice((1, 2, 2, 3)))
    file = Source("attack.loss", source(text, domain))
    losses, found = build(parse(file)[0], file)
    assert losses, [d.message for d in found]
    report = verify_program(losses[0], effort=effort)
    wrong, decided = [], 0
    with mp.workdps(50):
        samples = _samples(rng, *DOMAINS[domain])
        for name, claim in zip(CLAIMS, report.claims, strict=True):
            decided += isinstance(claim.verdict, (Proved, Refuted))
            if isinstance(claim.verdict, Proved) and any(_fails(name, f, *s) for s in samples):
                wrong.append(f"proved {name} of {text}, x{domain}")
            if isinstance(claim.verdict, Refuted) and not _stands(name, f, claim.verdict):
                wrong.append(f"refuted {name} of {text}, x{domain}: {claim.verdict.witness}")
    return decided, wrong


def _samples(rng: random.Random, lo: float, hi: float) -> list[tuple[Any, ...]]:
    out: list[tuple[Any, ...]] = []
    for _ in range(250):
        y, a = rng.choice((-2, 0, 1, 2, rng.uniform(-2, 2))), rng.choice((0, 1, 2, 0.5, rng.uniform(0, 2)))
        centre = rng.choice((0, 1, -1, y, a, y + 1, rng.uniform(lo, hi)))
        spread = rng.choice((1e-3, 0.1, 1, 10, 100))
        shifts = (0, rng.uniform(-spread, spread)) if rng.random() < 0.3 else (rng.uniform(-spread, spread), spread)
        inside = [min(max(centre + s, lo + 1e-6), hi - 1e-6) for s in shifts]
        out.append((mp.mpf(inside[0]), mp.mpf(inside[1]), mp.mpf(y), mp.mpf(a)))
    return out


def _fails(name: str, f: Value, p: Any, q: Any, y: Any, a: Any) -> bool:
    u, v = f(p, y, a), f(q, y, a)
    slack = mp.mpf(10) ** (20 - mp.mp.dps) * (1 + abs(u) + abs(v))
    rise = (v - u) * mp.sign(q - p)
    gap = f((p + q) / 2, y, a) - (u + v) / 2
    return bool(
        {
            "convex in x": gap > slack,
            "concave in x": gap < -slack,
            "per >= 0": u < 0,
            "lipschitz in x <= 1": abs(u - v) > abs(p - q) + slack,
            "increasing in x": rise < -slack,
            "decreasing in x": rise > slack,
            "C1 in x": _kinked(f, y, a, p),
        }[name]
    )


def _kinked(f: Value, y: Any, a: Any, p: Any) -> bool:
    """Whether the slope jumps near a sample, by more than curvature explains (the sample is at least 1e-9 inside)."""
    h = mp.mpf(10) ** -12
    for at in (mp.mpf(0), mp.mpf(1), mp.mpf(-1), y, a, y + 1, y - 1):
        if abs(p - at) < mp.mpf(10) ** -9:  # samples are drawn at these places too
            right, left = (f(at + h, y, a) - f(at, y, a)) / h, (f(at, y, a) - f(at - h, y, a)) / h
            if abs(right - left) > mp.mpf(10) ** -4:
                return True
    return False


def _jumps(f: Value, x: Any, y: Any, a: Any, h: Any) -> bool:
    """Whether one of four steps is by far the largest: no slope makes it."""
    values = [f(x + k * h, y, a) for k in range(-2, 3)]
    *others, most = sorted(abs(v - u) for u, v in itertools.pairwise(values))
    return bool(most > mp.mpf(10) ** -9 and most > 100 * others[1])


def _stands(name: str, f: Value, verdict: Refuted) -> bool:
    points = [
        {k.split("[")[0]: mp.mpf(v.numerator) / v.denominator for k, v in w.items()} for w in verdict.witness.points
    ]
    low = {"y": mp.mpf(0), "a": mp.mpf(1), **points[0]}
    y, a = low["y"], low["a"]
    if name == "per >= 0":
        return bool(f(low["x"], y, a) < 0)
    if name == "C1 in x" and "x" in low:
        if "no real number" in verdict.witness.violation:
            return not mp.isfinite(f(low["x"], y, a))
        h, x = mp.mpf(10) ** (-15 if len(points) == 1 else -10), low["x"]
        right, left = (f(x + 2 * h, y, a) - f(x + h, y, a)) / h, (f(x - h, y, a) - f(x - 2 * h, y, a)) / h
        return bool(abs(right - left) > mp.mpf(10) ** -9 or abs(f(x + h, y, a) - f(x - h, y, a)) > mp.mpf(10) ** -9)
    if len(points) < 2:
        return True
    if name.startswith("lipschitz") and "jumps" in verdict.witness.violation:
        return any(_jumps(f, low["x"], y, a, mp.mpf(10) ** k) for k in (-30, -14))  # or it is within a double of it
    with mp.workdps(800):  # a certified difference may be one between 1e-132 and 1e-305
        return _fails(name, f, low["x"], points[1]["x"], y, a)
