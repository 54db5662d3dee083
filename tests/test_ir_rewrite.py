"""Substitution, sharing, pruning and counting."""

import random
from dataclasses import replace

import numpy as np
import pytest
from programs import random_inputs, random_parameters, random_program

from lossdsl.dim import Dim
from lossdsl.ir import nodes as ir
from lossdsl.ir.check import check
from lossdsl.ir.cost import count
from lossdsl.ir.interpret import interpret
from lossdsl.ir.nodes import INT, REAL, Apply, Const, Definition, Group, Index, Output, Program, Read, Scalar
from lossdsl.ir.rewrite import (
    Fresh,
    canonical,
    cse,
    free_indices,
    instantiate,
    map_item,
    map_scalars,
    members,
    prune,
    reads,
    rename_indices,
    rename_tensors,
    substitute,
    tensors,
    topological,
    transform,
)
from lossdsl.ir.text import parse_ir

N = Dim.symbol("n")
P, Q = Index("i", N), Index("j", N)


def test_substitution_is_simultaneous_and_shared() -> None:
    x, y = Read("x", (P,), REAL), Read("x", (Q,), REAL)
    node = x * y + x
    swapped = substitute(node, {P: Q, Q: P})
    assert swapped is y * x + y
    assert substitute(node, {}) is node
    body: Scalar = x
    for _ in range(3000):
        body = body + body
    other = substitute(body, {P: Const(0, INT)})
    assert next(iter(reads(other))) is Read("x", (Const(0, INT),), REAL)
    assert free_indices(body, Q) == (P, Q)
    assert transform(node, lambda n: Read("y", n.indices, REAL) if isinstance(n, Read) else n) is rename_tensors(
        node, {"x": "y"}
    )


def test_instantiate() -> None:
    d = Definition("d", (P, Q), "map", (), Const(1), Read("x", (Q,), REAL) - Read("x", (P,), REAL))
    assert instantiate(d, (Q, P)) is Read("x", (P,), REAL) - Read("x", (Q,), REAL)
    with pytest.raises(ValueError):
        instantiate(d, (P,))


def _renamed(program: Program, seed: int) -> Program:
    """Every definition twice, the copy under other names of tensor and indices; the output reads both."""
    rng = random.Random(seed)
    names: dict[str, str] = {}
    items: list[Definition | Group] = []
    for item in program.body:
        items.append(item)
        copies = {d.tensor: d.tensor + "_copy" for d in members(item)}
        order = {}

        def copy(d: Definition, copies: dict[str, str] = copies, order: dict[str, str] = order) -> Definition:
            every = [*d.formals, *d.bound]
            for i in every:
                order.setdefault(i.name, f"i{rng.randrange(10**6)}")
            d = rename_indices(d, {i: Index(order[i.name], i.dim) for i in every})
            redirect = {**names, **copies}
            d = map_scalars(d, lambda node: rename_tensors(node, redirect))
            return replace(d, tensor=copies[d.tensor])

        new = map_item(item, copy)
        if isinstance(new, Group):
            new = replace(new, order=tuple((order[a], s) for a, s in new.order))
        items.append(new)
        names.update(copies)
    last = Definition("both", (), "map", (), Const(1), Read("value", (), REAL) + Read("value_copy", (), REAL))
    last = replace(last, where=parse_ir("program p\n  y: bool = map . true\n").body[0].body)  # type: ignore[union-attr]
    return replace(program, body=(*items, last), outputs=(Output("return", "both"),), target="")


@pytest.mark.parametrize("seed", range(25))
def test_copies_under_other_names_become_one(seed: int) -> None:
    program = random_program(seed)
    doubled = _renamed(program, seed)
    check(doubled)
    shared = cse(doubled)
    check(shared)
    assert len(shared.body) == len(cse(program).body) + 1
    rng = np.random.default_rng(seed)
    arrays, parameters = random_inputs(program, rng), random_parameters(program, rng)
    once = interpret(program, arrays, parameters)["return"]
    assert interpret(shared, arrays, parameters)["return"] == pytest.approx(2 * once, rel=1e-12)


def test_equal_up_to_names_only() -> None:
    a = Definition("a", (P,), "sum", (Q,), Const(1), Read("x", (P,), REAL) - Read("x", (Q,), REAL))
    b = Definition("b", (Q,), "sum", (P,), Const(1), Read("x", (Q,), REAL) - Read("x", (P,), REAL))
    c = Definition("c", (Q,), "sum", (P,), Const(1), Read("x", (P,), REAL) - Read("x", (Q,), REAL))
    assert canonical(a) == canonical(b)
    assert canonical(a) != canonical(c)
    assert canonical(a) != canonical(replace(a, head="prod"))


def test_prune_and_order() -> None:
    program = parse_ir("""program p
  input x: real[n]
  a[n] = map . x[n]
  b[n] = map . a[n]
  c[n] = map . a[n]
  group n forward
    g[n] = map . c[n] if n == 0 else h[n - 1]
    h[n] = map . g[n]
  s = sum n . b[n]
  output return = s
  output other = h
""")
    assert [d.tensor for d in prune(program).definitions()] == ["a", "b", "c", "g", "h", "s"]
    assert [d.tensor for d in prune(program, ["return"]).definitions()] == ["a", "b", "s"]
    assert [d.tensor for d in prune(program, ["return"], keep=["c"]).definitions()] == ["a", "b", "c", "s"]
    with pytest.raises(ValueError, match="no output 'none'"):
        prune(program, ["none"])
    shuffled = topological(reversed(program.body))
    check(program.with_body(shuffled))
    assert list(tensors(program.body[3])) == ["c", "h", "g"]
    loop = Definition("a", (), "map", (), Const(1), Read("b", (), REAL))
    with pytest.raises(ValueError, match="depends on itself"):
        topological([loop, replace(loop, tensor="b", body=Read("a", (), REAL))])


def test_fresh_names() -> None:
    fresh = Fresh(["per"])
    assert [fresh("per"), fresh("per"), fresh("x"), fresh("x")] == ["per.1", "per.2", "x", "x.1"]


def test_counted_operations() -> None:
    program = parse_ir("""program p
  input x: real[n, d]
  input t: class[n] of d
  e[n, d] = map . exp(x[n, d] - 1.0) * exp(x[n, d] - 1.0)
  s[n] = sum d . e[n, d]
  back[c: d] = sum n where t[n] == c . s[n]
  order[n, r: d]: int = argsort d . x[n, d]
  output return = s
""")
    # e: sub, exp, mul at 12 points; s: 12 fold steps; back: a compare and a fold step at 3; sorts: 3 * 4 * 2
    assert count(program, {"n": 3, "d": 4}) == 36 + 12 + 6 + 24
    assert Apply("add", (P, Q)).dtype is INT


def test_a_node_that_nothing_holds_is_forgotten() -> None:
    def known() -> bool:
        return any("of this test alone" in key for key in list(ir._TABLE))

    node = ir.Param("of this test alone") + 1
    assert known()
    again = ir.Param("of this test alone") + 1
    assert again is node
    del node, again
    assert not known()


@pytest.mark.parametrize("seed", range(20))
def test_nodes_know_the_tensors_that_they_read(seed: int) -> None:
    for d in random_program(seed, size=6, stops=True).definitions():
        for node in ir.postorder(*d.scalars()):
            walked = dict.fromkeys(n.tensor for n in ir.postorder(node) if isinstance(n, ir.Read))
            assert node.tensors == tuple(walked)
