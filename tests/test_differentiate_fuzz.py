"""Random programs: reverse and forward mode against finite differences, and mutants of the rules that must be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from derivatives import LOSSES, arguments, finite_inside, gradients, program, slope
from programs import random_extents, random_inputs, random_parameters, random_program

import lossdsl.transform.differentiate as reverse
import lossdsl.transform.eliminate as elimination
import lossdsl.transform.scalar as scalar
from lossdsl.ir import nodes as ir
from lossdsl.ir.check import IllFormed, check
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import Program
from lossdsl.transform.differentiate import differentiate
from lossdsl.transform.simplify import simplify
from lossdsl.transform.stabilise import stabilise
from lossdsl.transform.tangent import hessian_vector, jvp


class Case:
    """A random program with arguments, a direction, and the slope along it by finite differences."""

    def __init__(self, seed: int) -> None:
        self.program: Program = random_program(seed, opaque=False, groups=seed % 3 == 0)
        rng = np.random.default_rng(seed)
        self.env = random_inputs(self.program, rng, random_extents(self.program, rng))
        self.par = random_parameters(self.program, rng)
        self.wrt = tuple(i.name for i in self.program.inputs if i.differentiable)
        self.along = {w: rng.normal(size=self.env[w].shape) for w in self.wrt}
        self.slope = float("nan")
        if finite_inside(self.program, self.env, self.par):
            self.slope = slope(self.program, self.env, self.along, self.par)

    def project(self, g: Program) -> float:
        found = interpret(g, {**self.env, "value'": np.array(1.0)}, self.par)
        return float(sum(np.sum(found[f"d {w}"] * self.along[w]) for w in self.wrt))

    def tangent(self, f: Program) -> float:
        tangents = {f"{w}.t": self.along[w] for w in self.wrt}
        return float(interpret(f, {**self.env, **tangents}, self.par)["t return"])

    def close(self, value: float) -> bool:
        return abs(value - self.slope) <= 1e-5 * (1 + abs(self.slope))


_CASES: dict[int, Case] = {}


def case(seed: int) -> Case:
    if seed not in _CASES:
        _CASES[seed] = Case(seed)
    return _CASES[seed]


def verify(seed: int) -> bool:
    """Checks every pass on one program; False if finite differences say nothing there."""
    c = case(seed)
    if not np.isfinite(c.slope):
        return False
    g = differentiate(c.program, "value", c.wrt)
    check(g)
    small = simplify(g)
    check(small)
    stable = stabilise(small)
    check(stable)
    f = jvp(c.program, c.wrt)
    check(f)
    plain = c.project(g)
    assert c.close(plain), f"seed {seed}: {plain} is not {c.slope}"
    for other in (c.project(small), c.project(stable), c.tangent(f)):
        assert abs(other - plain) <= 1e-9 * (1 + abs(plain)), f"seed {seed}"
    return True


def test_random_programs() -> None:
    assert sum(verify(seed) for seed in range(120)) >= 108


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_many_random_programs(block: int) -> None:
    seeds = range(1000 + 400 * block, 1400 + 400 * block)
    assert sum(verify(seed) for seed in seeds) >= 360
    _CASES.clear()


def curvature(seed: int) -> bool:
    """Forward over reverse against finite differences of the gradient."""
    c = case(seed)
    if not np.isfinite(c.slope):
        return False
    h = hessian_vector(c.program, "value", c.wrt)
    check(h)
    g = differentiate(c.program, "value", c.wrt)
    tangents = {f"{w}.t": c.along[w] for w in c.wrt}
    found = interpret(h, {**c.env, **tangents, "value'": np.array(1.0)}, c.par)
    assert c.close(float(found["t return"]))

    def at(step: float) -> dict[str, Any]:
        moved = {w: c.env[w] + step * c.along[w] for w in c.wrt}
        return interpret(g, {**c.env, **moved, "value'": np.array(1.0)}, c.par)

    compared = False
    wide, narrow = [(at(s), at(-s), s) for s in (1e-4, 2.5e-5)]
    for w in c.wrt:
        one = (wide[0][f"d {w}"] - wide[1][f"d {w}"]) / (2 * wide[2])
        two = (narrow[0][f"d {w}"] - narrow[1][f"d {w}"]) / (2 * narrow[2])
        if np.allclose(one, two, rtol=1e-5, atol=1e-6):
            compared = True
            np.testing.assert_allclose(found[f"h {w}"], two, rtol=1e-4, atol=1e-5, err_msg=f"seed {seed} {w}")
    return compared


def test_hessian_vector_products_of_random_programs() -> None:
    assert sum(curvature(seed) for seed in range(60)) >= 50


@pytest.mark.parametrize("name", LOSSES)
def test_hessian_vector_products_of_losses(name: str) -> None:
    p = program(LOSSES[name])
    env = arguments(p, 2)
    wrt = tuple(i.name for i in p.inputs if i.differentiable)
    rng = np.random.default_rng(0)
    along = {w: rng.normal(size=env[w].shape) for w in wrt}
    h = hessian_vector(p, "value", wrt)
    check(h)
    found = interpret(h, {**env, **{f"{w}.t": v for w, v in along.items()}, "value'": np.array(1.0)})
    step = 1e-5
    up = gradients(p, {**env, **{w: env[w] + step * along[w] for w in wrt}})
    down = gradients(p, {**env, **{w: env[w] - step * along[w] for w in wrt}})
    for w in wrt:
        expected = (up[f"d {w}"] - down[f"d {w}"]) / (2 * step)
        np.testing.assert_allclose(found[f"h {w}"], expected, rtol=1e-5, atol=1e-6)


def test_products_have_right_second_derivatives_at_zeros() -> None:
    p = program("program product\n  input x: real[c]\n  p = prod c . x[c]\n  output return = p\n")
    h = hessian_vector(p, "p", ("x",))
    x, v = np.array([2.0, 0.0, 5.0]), np.array([1.0, 1.0, 1.0])
    found = interpret(h, {"x": x, "x.t": v, "p'": np.array(1.0)})["h x"]
    np.testing.assert_allclose(found, [5.0, 7.0, 2.0])


# ------------------------------------------------------------------------------------------------- mutants


def _without_path(path: tuple[ir.Scalar, ...], condition: ir.Scalar) -> tuple[ir.Scalar, ...]:
    return path


def _wrong_sign(original: Callable[..., Any]) -> Callable[..., Any]:
    def pull(node: ir.Apply, place: int, bar: ir.Scalar) -> Any:
        return bar if node.name == "sub" else original(node, place, bar)

    return pull


def _plain_softmax(original: Callable[..., Any]) -> Callable[..., Any]:
    def rule(self: Any, d: ir.Definition) -> Any:
        return reverse._SEED if d.head == "logsumexp" else original(self, d)

    return rule


def _one_pass(original: Callable[..., Any]) -> Callable[..., Any]:
    def others(d: ir.Definition, names: Any) -> Any:
        made, product = original(d, names)
        return made, product.args[0]

    return others


def _unshifted(original: Callable[..., Any]) -> Callable[..., Any]:
    def eliminate(selection: Any, facts: Any) -> Any:
        solved = original(selection, facts)
        return elimination.Selection(solved.bound, (), solved.hard, solved.soft, solved.values, ())

    return eliminate


def _last_term(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda terms: original(terms[-1:])


def _forward_group(original: Callable[..., Any]) -> Callable[..., Any]:
    def define(self: Any, *items: Any) -> None:
        turned = [replace(i, order=tuple((a, -s) for a, s in i.order)) if isinstance(i, ir.Group) else i for i in items]
        original(self, *turned)

    return define


MUTANTS: dict[str, list[tuple[Any, str, Callable[[Any], Any]]]] = {
    "a branch without its condition": [(scalar, "_with", lambda f: _without_path)],
    "the wrong sign of a difference": [(scalar, "_pull", _wrong_sign)],
    "logsumexp as a sum": [(reverse._Reverse, "rule", _plain_softmax)],
    "a product with one of its two passes": [(reverse, "others", _one_pass)],
    "a shift without its range": [(reverse, "eliminate", _unshifted)],
    "a sum without its where": [(reverse, "conjuncts", lambda f: lambda c: ())],
    "only the last of several uses": [(scalar, "combine", _last_term)],
    "the recurrence in its own direction": [(reverse._Reverse, "define", _forward_group)],
    "the quotient rule without its second half": [
        (scalar, "_pull", lambda f: lambda n, k, b: b if n.name == "div" and k == 1 else f(n, k, b))
    ],
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_rule_is_found(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(40):
        case(seed)
    for owner, name, change in MUTANTS[mutant]:
        monkeypatch.setattr(owner, name, change(getattr(owner, name)))
    caught = 0
    for seed in range(40):
        try:
            verify(seed)
        except (AssertionError, IllFormed, ValueError, KeyError, RecursionError):
            caught += 1
            break
    assert caught, "no program of the fuzz depends on this rule"


def test_winners_by_equality_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A maximum differentiated as `body == value` gives both of two tied winners the whole gradient."""
    p = program("program tie\n  input x: real[c]\n  d = max c . x[c]\n  output return = d\n")
    x = np.array([1.0, 2.0, 2.0])
    assert np.array_equal(gradients(p, {"x": x})["d x"], [0.0, 1.0, 0.0])
    original = reverse._Reverse.rule

    def rule(self: Any, d: ir.Definition) -> Any:
        if d.head == "max":
            here = ir.Read(d.tensor, d.formals, ir.REAL)
            return ir.Select(ir.Compare("==", d.body, here), reverse._SEED, ir.ZERO)
        return original(self, d)

    monkeypatch.setattr(reverse, "expose_winners", lambda p, active: p)
    monkeypatch.setattr(reverse._Reverse, "rule", rule)
    assert not np.array_equal(gradients(p, {"x": x})["d x"], [0.0, 1.0, 0.0])


def test_a_proxy_keeps_its_surrogate_in_second_derivatives() -> None:
    base = program("program a\n  input x: real[]\n  y = map . x\n  output return = y\n")
    d = base.definition("y")
    assert d is not None
    through = ir.Proxy(d.body * d.body, d.body)
    p = base.with_body((ir.Definition("y", (), "map", (), ir.TRUE, through * through * through),))
    # y = p^3 with p = x^2 and p' = 1: y' = 3 p^2, y'' = 6 p
    h = hessian_vector(p, "y", ("x",))
    env = {"x": np.array(2.0), "x.t": np.array(1.0), "y'": np.array(1.0)}
    assert interpret(h, env)["d x"] == 48.0
    assert interpret(h, env)["h x"] == 24.0
