"""The catalogue against independent references: value, gradient and second derivative in float64; mutants must fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mutants import mutants
from references import EXAMPLES, REFERENCES, SPINE, Reference, heavy

import lossdsl
from lossdsl import pipeline
from lossdsl.assemble import differentiable, gradient_program
from lossdsl.diagnostics import Source
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import Program

TOLERANCE = 1e-10
WANTED, TRIED = 5, 14  # mutants that must be noticed, and the most that are tried
COMPILED: dict[str, Any] = {}


def text_of(reference: Reference) -> str:
    return (EXAMPLES / f"{reference.file}.loss").read_text()


def compiled(name: str) -> Any:
    """The functional form of a loss, compiled once."""
    if name not in COMPILED:
        COMPILED[name] = lossdsl.loads(text_of(REFERENCES[name]), name=name).function
    return COMPILED[name]


def tensors(arrays: dict[str, np.ndarray], wrt: tuple[str, ...]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(a).requires_grad_(name in wrt) for name, a in arrays.items()}


def distance(ours: Any, theirs: torch.Tensor) -> float:
    """The largest difference, relative to the largest entry; inf where it cannot be compared."""
    got, want = np.asarray(ours, dtype=np.float64), theirs.detach().numpy().astype(np.float64)
    if got.size != want.size:
        return float("inf")
    got = got.reshape(want.shape)
    if want.size == 0:
        return 0.0
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    if same.all():
        return 0.0
    if not (np.isfinite(got[~same]).all() and np.isfinite(want[~same]).all()):
        return float("inf")
    scale = max(float(np.abs(want[np.isfinite(want)]).max(initial=0.0)), 1e-3)
    return float(np.abs(got[~same] - want[~same]).max()) / scale


def expected(reference: Reference, arrays: dict[str, np.ndarray], parameters: dict[str, Any]) -> list[torch.Tensor]:
    """The reference's value and gradients."""
    wrt = reference.gradients(arrays)
    theirs = tensors(arrays, wrt)
    value = reference.value(**theirs, **parameters)
    leaves = [theirs[n] for n in wrt]
    if not value.requires_grad:
        return [value, *(torch.zeros_like(t) for t in leaves)]
    found = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    return [value.detach(), *found]


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_value_and_gradient(name: str) -> None:
    reference = REFERENCES[name]
    function = compiled(name)
    for seed, case in enumerate(reference.cases):
        arrays, parameters = case(np.random.default_rng(seed))
        wrt = reference.gradients(arrays)
        ours = tensors(arrays, wrt)
        value = function(**ours, **parameters)
        wanted = expected(reference, arrays, parameters)
        assert value.shape == wanted[0].shape
        assert distance(value.detach(), wanted[0]) <= TOLERANCE, f"value of case {seed}: {value}, not {wanted[0]}"
        value.backward()
        for n, want in zip(wrt, wanted[1:]):
            got = ours[n].grad
            assert got is not None, f"no gradient in {n}"
            assert distance(got, want) <= TOLERANCE, f"gradient in {n} of case {seed}: {got}, not {want}"
    for seed, case in enumerate(reference.at):
        arrays, parameters = case(np.random.default_rng(seed))
        value = function(**tensors(arrays, ()), **parameters)
        want = reference.value(**tensors(arrays, ()), **parameters)
        assert distance(value, want) <= TOLERANCE, f"value of edge {seed}: {value}, not {want}"


def along(gradients: list[torch.Tensor]) -> torch.Tensor:
    """Their product with a fixed random direction."""
    rng = torch.Generator().manual_seed(3)
    return sum((g * torch.rand(g.shape, generator=rng, dtype=g.dtype)).sum() for g in gradients)  # type: ignore[return-value]


@pytest.mark.parametrize("name", heavy())
def test_second_derivative(name: str) -> None:
    """A Hessian-vector product of the emitted module against one of the reference: torch's double backward, or central
    differences of its gradient where torch's is not finite."""
    reference = REFERENCES[name]
    arrays, parameters = reference.cases[0](np.random.default_rng(0))
    wrt = reference.gradients(arrays)

    def product(function: Any) -> list[torch.Tensor]:
        given = tensors(arrays, wrt)
        leaves = [given[n] for n in wrt]
        value = function(**given, **parameters)
        if not value.requires_grad:
            return [torch.zeros_like(t) for t in leaves]
        first = torch.autograd.grad(value, leaves, create_graph=True, allow_unused=True, materialize_grads=True)
        total = along(list(first))
        if not total.requires_grad:
            return [torch.zeros_like(t) for t in leaves]
        return list(torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True))

    def differences() -> list[torch.Tensor]:
        rng = torch.Generator().manual_seed(3)
        direction = [torch.rand(arrays[n].shape, generator=rng, dtype=torch.float64).numpy() for n in wrt]
        sides = []
        for step in (1e-5, -1e-5):
            moved = {**arrays, **{n: arrays[n] + step * d for n, d in zip(wrt, direction)}}
            sides.append(expected(reference, moved, parameters)[1:])
        return [(a - b) / 2e-5 for a, b in zip(*sides)]

    wanted, tolerance = product(reference.value), 1e-9
    if not all(bool(torch.isfinite(w).all()) for w in wanted):
        wanted, tolerance = differences(), 1e-6
    for n, got, want in zip(wrt, product(compiled(name)), wanted):
        assert float((got - want).abs().max()) <= tolerance * max(1.0, float(want.abs().max())), n


def by_interpreter(program: Program, arrays: dict[str, np.ndarray], parameters: dict[str, Any]) -> dict[str, Any]:
    """Value and gradients of a program by the reference interpreter."""
    wrt = tuple(n for n in differentiable(program) if n in arrays)
    derived = gradient_program(program, program.outputs[0].tensor, wrt)
    cotangent = next(i.name for i in derived.inputs if i.role == "cotangent")
    return interpret(derived, {**arrays, cotangent: np.array(1.0)}, parameters)


def noticed(text: str, reference: Reference, wanted: list[tuple[Any, Any, list[torch.Tensor]]]) -> bool | None:
    """Whether a text differs from the reference in value or gradient; None if it is no loss."""
    analysis = pipeline.analyse(Source("mutant.loss", text))
    if analysis.failed or not analysis.losses:
        return None
    program = analysis.losses[-1].program
    for arrays, parameters, (value, *gradients) in wanted:
        try:
            found = by_interpreter(program, arrays, parameters)
        except ValueError:
            return True
        if not distance(found["return"], value) <= TOLERANCE:
            return True
        for n, want in zip(reference.gradients(arrays), gradients):
            if f"d {n}" not in found or not distance(found[f"d {n}"], want) <= TOLERANCE:
                return True
    return False


@pytest.mark.parametrize("name", heavy())
def test_mutants_fail(name: str) -> None:
    reference = REFERENCES[name]
    text = text_of(reference)
    wanted = []
    for seed, case in enumerate(reference.cases):
        arrays, parameters = case(np.random.default_rng(seed))
        wanted.append((arrays, parameters, expected(reference, arrays, parameters)))
    assert noticed(text, reference, wanted) is False, "the interpreter differs from the reference"
    if reference.mutants:
        assert len(reference.mutants) == WANTED
        for old, new in reference.mutants:
            assert old in text
            found = noticed(text.replace(old, new), reference, wanted)
            assert found is not None, f"the mutant {old!r} -> {new!r} does not compile, so it tests nothing"
            assert found, f"the mutant {old!r} -> {new!r} was not noticed"
        return
    dead, alive = 0, []
    for mutant in mutants(text)[:TRIED]:
        found = noticed(mutant, reference, wanted)
        if found is False:
            alive.append(next(b for a, b in zip(text.splitlines(), mutant.splitlines()) if a != b).strip())
        dead += found is True
        if dead == WANTED:
            return
    pytest.fail(f"only {dead} mutants were noticed; not: {alive}")


def test_every_example_has_a_reference() -> None:
    files = {str(p.relative_to(EXAMPLES).with_suffix("")) for p in EXAMPLES.rglob("*.loss")}
    assert files == {r.file for r in REFERENCES.values()}
    assert all(r.file.rsplit("/", 1)[1] == name for name, r in REFERENCES.items())


def test_there_are_at_least_twenty() -> None:
    assert len(SPINE) >= 20
