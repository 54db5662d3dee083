"""What the search for kernels leaves out is what it would find: bodies that are grown, pairs that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossdsl.assemble import differentiable, gradient_program
from lossdsl.diagnostics import Source
from lossdsl.ir.build import build
from lossdsl.lower import cluster
from lossdsl.lower.body import Body, NotTogether
from lossdsl.lower.plan import Key
from lossdsl.lower.schedule import schedule
from lossdsl.syntax.parser import parse

EXAMPLES = {p.stem: p for p in sorted((Path(__file__).parent.parent / "examples").glob("*/*.loss"))}
STATE = ("statements", "axes", "folds", "spread", "labels", "spaces", "formal_axes", "space_axes", "inlined", "met")


@pytest.mark.parametrize("name", ["cldice", "ctc", "lncc", "nt_xent", "soft_dtw", "transducer"])
def test_grown_bodies_and_refused_pairs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    grown = refused = 0
    made, waits, apart = cluster._Bodies._made, cluster._waits, cluster.between

    def check_made(bodies: cluster._Bodies, results: tuple[str, ...]) -> Body:
        nonlocal grown
        body = made(bodies, results)
        anew = Body(bodies.context, results)
        for part in STATE:
            assert getattr(body, part) == getattr(anew, part), (results, part)
        grown += any(bodies.made.get(results[:k]) is not None for k in range(1, len(results)))
        return body

    def check_waits(context: object, reader: cluster.Node, maker: cluster.Node) -> bool:
        nonlocal refused
        found = waits(context, reader, maker)
        if found:
            refused += 1
            place = {t: k for k, t in enumerate(context.definitions)}
            with pytest.raises(NotTogether):
                Body(context, sorted(reader.results + maker.results, key=place.__getitem__))
        return found

    def check_between(nodes: list[cluster.Node]) -> object:
        found = apart(nodes)
        maker = {t: k for k, n in enumerate(nodes) for t in n.results}
        above: dict[int, set[int]] = {}
        for k, n in enumerate(nodes):
            needs = {maker[t] for t in n.reads() if t in maker} - {k}
            above[k] = needs.union(*(above[m] for m in needs))
        for i in range(len(nodes)):
            for j in range(i + 1, len(nodes)):
                third = any((i in above[k] and k in above[j]) or (j in above[k] and k in above[i]) for k in above)
                assert found(i, j) is third
        return found

    monkeypatch.setattr(cluster._Bodies, "_made", check_made)
    monkeypatch.setattr(cluster, "_waits", check_waits)
    monkeypatch.setattr(cluster, "between", check_between)
    source = Source(name, EXAMPLES[name].read_text(encoding="utf-8"))
    losses, _ = build(parse(source)[0], source)
    program = losses[0].program
    wrt = differentiable(program)
    derived = gradient_program(program, program.outputs[0].tensor, wrt)
    mode = program.reductions.written if program.reductions else ""
    schedule(derived, Key(program.name, "value_and_gradient", mode, wrt, (), "torch"))
    assert grown or refused
