"""Every loss of the catalogue and of the spelled collection that has a meaning: well-formed, its text and its exact
SymPy form read back identically, and its LaTeX is balanced."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lossdsl.diagnostics import Severity, Source
from lossdsl.ir.build import build
from lossdsl.ir.check import check
from lossdsl.ir.expression import algebraic, expression_tree, from_tree
from lossdsl.ir.latex import latex
from lossdsl.ir.nodes import REAL, Program
from lossdsl.ir.rewrite import cse
from lossdsl.ir.text import parse_ir, print_ir
from lossdsl.syntax.parser import parse, readable_part

ROOT = Path(__file__).parent.parent
FILES = [*sorted(ROOT.glob("examples/*/*.loss")), *sorted(ROOT.glob("tests/spelled/*.loss"))]


def programs(path: Path) -> list[Program]:
    source = Source(str(path), path.read_text())
    module, problems = parse(source)
    losses, found = build(readable_part(module), source)
    if path.is_relative_to(ROOT / "examples"):
        assert not [d for d in (*problems, *found) if d.severity is Severity.ERROR]
        assert losses
    return [b.program for b in losses]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_views_of_a_file(path: Path) -> None:
    for program in programs(path):
        for form in (program, cse(program)):
            check(form)
            assert parse_ir(print_ir(form)) == form
        for d in program.definitions():
            for node in d.scalars():
                assert from_tree(expression_tree(node)) is node
            if d.body.dtype is REAL:
                algebraic(d.body)
        text = latex(program)
        assert text.count(r"\left") == text.count(r"\right")
        assert text.replace(r"\{", "").count("{") == text.replace(r"\}", "").count("}")


def test_the_text_does_not_depend_on_hashing() -> None:
    code = """
import sympy as sp
from lossdsl.ir.expression import program_from_sympy
from lossdsl.ir.rewrite import cse, prune
from lossdsl.ir.text import print_ir
from programs import random_program
x, y, w = sp.symbols("x y w", real=True)
e = sp.Max(x, y, w, x * y) + sp.exp(x) * sp.log(1 + y**2) * w - sp.Min(w, sp.sin(x)) / 3
e = sp.Piecewise((e, (x > y) & (y > w) | sp.Ne(w, 0)), (x + y + w, True))
print(print_ir(program_from_sympy(e, inputs=[x, y], params={w: 1.0})))
for seed in range(20):
    print(print_ir(prune(cse(random_program(seed)))))
"""
    texts = set()
    for seed in ("0", "1", "77"):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        }
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        texts.add(out.stdout)
    assert len(texts) == 1
