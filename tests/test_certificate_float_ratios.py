"""Certificates of finiteness where a small divisor is a factor, too, or the norm of a row of which an entry is one."""

from __future__ import annotations

import random

import numpy as np
import pytest

import lossdsl
from lossdsl import catalogue
from lossdsl.certificate.question import of_finding
from lossdsl.certificate.safety import _bounds, compiled
from lossdsl.ir.interpret import interpret
from tests.test_certificate_floats import asked, attack, is_certified
from tests.test_verify import built

P, AXIS = "input a, b: real[n, d]", "\naxis i = n"
S, T = "input p: simplex[n, c] over c\ninput y: class[n] of c", "input x: real[n, c]\ninput y: class[n] of c"
Q = "input x: real[n]\nparam q: real in (0, 1] = 0.7"
Z = "input a, b, z: real[n, d]\ninput t: real[n]\ninput y: class[n] of d\ns[n] = sum(a^2 over d)"
K = "input x: real[n]\nparam k: real in [{0}, {0}] = {0}\nparam j: real in [{1}, {1}] = {1}"
KJ = "input x: real[n]\nparam k, j: int = 2, 2\naxis m = k * j\naxis l = k\naxis i = j"
FAR = "input x: real[n] in [-1e20, 1e20]\nparam k: real in [1e-15, 1e-14] = 1e-14\nu[n] = stop(x) * 1e-34 / k"
FINITE = [
    (P, "norm(a - b over d)", "float16"),
    (P, "norm(a + b over d)", "float16"),
    (P, "sqrt(sum((a - b) * (a - b) over d))", "float16"),
    (P, "norm(a - b + 1/1024 over d)", "float16"),
    (P + "\nparam eps: real >= 0 = 1e-6", "norm(a - b + eps over d)", "float16"),
    (P + AXIS, "mean(norm(a[n, d] - b[i, d] over d) over i)", "float16"),
    (P + "\nparam m: real > 0 = 1", "relu(m - norm(a - b over d))^2 / 2", "float16"),
    ("input a: real[n, d]\nparam f: bool = true", "norm(a over d) * (sqrt(size(d)) if f else 1)", "float16"),
    ("input p: simplex[n, c] over c", "sqrt(sum(p^2 over c))", "float32"),
    ("input p: simplex[n, c] over c", "norm(p over c)", "bfloat16"),
    (S, "p[c = y] / norm(p over c)", "float32"),
    (S, "p[c = y] / norm(p over c)", "float16"),
    ("input p: simplex[n, c] over c", "1 / sum(p^2 over c)", "float32"),
    (Q, "-expm1(-q * softplus(x)) / q", "float16"),
    (T + "\ninput t: real[n]", "t * sum(stop(sin(x)) / max(1, size(c) - 1) over c) * 30000", "float16"),
    (Z, "t * 60000 * stop(a[d = y] / sqrt(s)) if s > 1 else 0", "float16"),
    (K.format("2^-20", "3 * 2^-21"), "x * (60000 * (k * j / k / j))", "float16"),
    (K.format("2^24", "3 * 2^-21"), "x * (60000 * (j / k * k / j))", "float16"),
    (T, "sum(x over c where c != y) / max(1, size(c) - 1)", "float16"),
    (T, "sum(x over c where c != y) / max(3, size(c) - 2)", "float16"),
]
FALSE = [
    (P, "norm(a - b over d)", "float32"),
    (P, "norm(a - b over d)", "bfloat16"),  # squares that are 0
    (P, "norm(a - b + 1e-6 over d)", "float16"),  # what the number is taken for is not said
    (P, "norm(a * b over d)", "float16"),
    (P, "norm(a * b - a over d)", "float16"),  # contracted in one place, and not in another
    (P, "norm((a - b) / 1e20 over d)", "float16"),
    (P, "norm(a - b over d) * 70000", "float16"),
    (P, "norm(a - b over d)^2", "float16"),
    (P, "1 / norm(a - b over d)", "float16"),
    (P, "1 / norm(a - b over d) if a[d = 0] != b[d = 0] else 0", "float16"),
    (P, "a[d = 0] / norm(b over d) if b[d = 0] != 0 else 0", "float16"),
    (P, "norm(a over d) / norm(b over d) if norm(b over d) != 0 else 0", "float16"),
    (P + AXIS, "mean(norm(a[n, d] - b[i, d] over d) over i) * size(i)", "float16"),
    (P + "\nparam eps: real >= 0 = 1e-30", "norm(a - b + eps over d)", "float16"),
    ("input a: real[n, d] = 1e-30\ninput b: real[n, d]", "norm(a - b over d)", "float16"),  # no number of the type
    (S, "p[c = y] / sum(p^2 over c)", "float16"),
    (S, "p[c = y] / norm(p over c)^3", "float16"),
    (S + "\ninput m: bool[n, c]", "p[c = y] / sqrt(sum(p^2 over c where m))", "float16"),
    ("input p: simplex[n, c] over n\ninput y: class[n] of c", "p[c = y] / norm(p over c)", "float16"),
    ("input p: real[n, c]\ninput y: class[n] of c", "p[c = y] / norm(p over c)", "float16"),
    (Q, "-expm1(-q * softplus(x)) / q", "float32"),  # 1 over a subnormal number
    (Q, "-expm1(-q * softplus(x)) / q^2", "float16"),
    (Q + "\nparam r: real in (0, 1] = 0.7", "-expm1(-q * softplus(x)) / r", "float16"),
    ("input x: real[n]\nparam q: real in [0, 1] = 0.7", "q * sin(x) / q", "float16"),
    ("input w: real[n] = 1e-30\ninput x: real[n]", "x * (1e30 * w) / w if w != 0 else 0", "float16"),
    (T, "sum(x over c where c != y) / (size(c) - 1)", "float16"),
    (T + "\ninput t: real[n]", "t * sum(stop(sin(x)) / max(1, size(c) - 1) over c) * 60000", "float16"),
    ("input p: simplex[n, c] over c\ninput m: bool[n, c]", "1 / sum(p^2 over c where m)", "float32"),
    (P + "\nparam eps: real >= 0 = 1e-12", "norm(a - b + eps over d)", "float16"),  # the square may be flushed to 0
    (Z.replace("a^2", "(a * b - z)^2"), "t * 60000 * stop((a * b - z)[d = y] / sqrt(s)) if s > 1 else 0", "float16"),
    (Z, "t * 60000 * stop(b[d = y] / sqrt(s)) if s > 1 else 0", "float16"),
    (Z, "t * 66000 * stop(a[d = y] / sqrt(s)) if s > 1 else 0", "float16"),
    (Z + "\nm[n, d] = max(abs(a * b - z), 1e-8)", "t * 60000 * stop(m / m)[d = y]", "float16"),
    # 3/4 of the least number is rounded up to it
    (K.format("2^-75", "3 * 2^-76"), "x * (60000 * (k * j / k / j))", "float16"),
    (K.format("2^24", "3 * 2^-127"), "x * (60000 * (j / k * k / j))", "float16"),
    (T + "\ninput t: real[n]", "t * sum(stop(x) / max(1, size(n) - 1) over c) / 65504", "float16"),
    (T + "\ninput t: real[n]", "t * sum(stop(sin(x)) over c) / max(1, size(c) - 1) * 65504", "float16"),
]
FALSE += [
    (FAR, f"1e30 * ({' * '.join(['u'] * 10)})", "float32"),  # a power of a number that is 0 as a double
    (KJ, "x * (size(m) / max(1, size(l)) / max(1, size(i)))", "float16"),  # both parameters below 0
    ("input z: real[n]\n" + FAR, f"stop(z) * ({' * '.join(['u'] * 10)})", "float32"),
]
NAMES: list[tuple[str, str, float | None]] = [
    ("contrastive", "float16", 32752.0),
    ("energy_distance", "float16", None),
    ("energy_score", "float16", None),
    ("generalised_ce", "float16", None),
    ("generalised_cross_entropy", "float16", None),
    ("group_lasso", "float16", None),
    ("smoothed_token_nll", "float16", None),
    ("spherical_score", "float16", None),
    ("spherical_score", "float32", None),
    ("triplet", "float16", None),
]


@pytest.mark.parametrize(("declared", "body", "word"), FINITE, ids=[f"{b} in {w}" for _, b, w in FINITE])
def test_what_is_finite_has_a_certificate(declared: str, body: str, word: str) -> None:
    q = asked(declared, body, word)
    assert is_certified(q)
    attack(q)


@pytest.mark.parametrize(("declared", "body", "word"), FALSE, ids=[f"{b} in {w}" for _, b, w in FALSE])
def test_what_is_not_finite_or_not_known_to_be_has_none(declared: str, body: str, word: str) -> None:
    assert not is_certified(asked(declared, body, word))


@pytest.mark.parametrize(("name", "word", "within"), NAMES)
def test_of_the_catalogue(name: str, word: str, within: float | None) -> None:
    loss = built(next(e.path for e in catalogue.entries() if e.path.stem == name).read_text())
    (q,) = of_finding(loss, f"finite in {word}", (), (within, None))
    assert is_certified(q)


def test_definitions_of_definitions_do_not_take_long() -> None:
    """Each is read twice by the next one: without an end of the factors, and cases that are kept, it takes minutes."""
    declared = "input x, z: real[n] in [-300, 300]\nu0[n] = stop(x) * stop(z)"
    chain = "".join(f"\nu{k + 1}[n] = u{k} * u{k} / 65536" for k in range(6))
    assert not is_certified(asked(declared + chain, "x * u6", "float16"))


def test_it_is_beyond_a_size_of_inputs() -> None:
    """A margin may be as large as the type; a difference of entries is larger from there on."""
    loss = built(next(e.path for e in catalogue.entries() if e.path.stem == "contrastive").read_text())
    for within in (None, 32768.0):
        assert not is_certified(of_finding(loss, "finite in float16", (), (within, None))[0])


NUMBERS = [0.0, 1.0, -1.0, 65504.0, -65504.0, 2.0**-24, -(2.0**-24), 300.0, 1 + 2.0**-10, 17 * 2.0**-24]


@pytest.mark.parametrize(("declared", "body", "word"), [f for f in FINITE if f[2] == "float16"], ids=str)
def test_every_tensor_is_where_it_is_said(declared: str, body: str, word: str) -> None:
    """Without rounding; of rows of many lengths."""
    q, rng, seen = asked(declared, body, word), random.Random(body), 0
    for part in compiled(q.program, q.of):
        bounds = _bounds(part.program, q, q.assume)
        for _ in range(20):
            extents = {"n": rng.randint(1, 3), "d": (d := rng.choice((1, 2, 3, 40))), "c": d}
            given = {}
            for i in part.program.inputs:
                shape = tuple(k.evaluate(extents) for k in i.dims)
                drawn = np.array([rng.choice(NUMBERS) for _ in range(int(np.prod(shape)))]).reshape(shape)
                given[i.name] = np.ones(shape) if i.name == f"{q.of}'" else drawn
                if i.kind == "simplex":
                    given[i.name] = (abs(drawn) + 2**-30) / (abs(drawn) + 2**-30).sum(-1, keepdims=True)
                if i.kind == "class":
                    given[i.name] = np.array([rng.randrange(d) for _ in range(extents["n"])])
            least = {p.name: 2.0**-24 for p in part.program.parameters if p.kind == "real" and rng.random() < 0.5}
            names = [d.tensor for d in part.needed()]
            for name, found in interpret(part.program, given, least, outputs=names).items():
                box = bounds.tensor(name)
                assert np.all(np.isfinite(found))
                assert np.all((found >= box.lo - 1e-9 * abs(box.lo)) & (found <= box.hi + 1e-9 * abs(box.hi)))
                seen += box.bounded
    assert seen >= 40


RUN = [f for f in FINITE if f[2] == "float16" and f[0].startswith(P)]


@pytest.mark.parametrize(("declared", "body", "word"), RUN, ids=str)
def test_norms_are_finite_when_they_are_run(declared: str, body: str, word: str) -> None:
    """By torch, at extreme numbers, the least differences among them."""
    torch = pytest.importorskip("torch")
    lines = "".join(f"    {line}\n" for line in declared.splitlines())
    loss = lossdsl.loads(f"loss t:\n{lines}    per = {body}\n    return sum(per)\n")
    generator = torch.Generator().manual_seed(5)
    numbers = torch.tensor(NUMBERS, dtype=torch.float16)
    for columns in (1, 2, 17, 3000):
        for kinds in (1, 2, 5, 10):
            drawn = torch.randint(0, kinds, (2, 4, columns), generator=generator)
            a, b = numbers[torch.randperm(10, generator=generator)][drawn]
            b[0] = a[0]
            b[0, 0] += 2.0**-24
            a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
            per = loss.function(a=a, b=b, reduction="none").float()
            for gradient in torch.autograd.grad(per.sum(), [a, b]):
                assert bool(gradient.isfinite().all()), (columns, kinds)
