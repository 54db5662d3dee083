"""The invariants of docs/architecture.md that are about files and imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from lossdsl.catalogue import entries
from lossdsl.primitives import PRIMITIVES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lossdsl"

# room -> rooms (and top-level modules) that it may import
LEAVES = {"catalogue", "diagnostics", "dim", "files", "names", "progress"}
ALLOWED: dict[str, set[str]] = {
    "primitives": LEAVES,
    "syntax": LEAVES,
    "ir": {"primitives", "syntax", *LEAVES},
    "ir/build": {"transform", "ir", "primitives", "syntax", *LEAVES},  # `derivative(e, x)` is symbolic
    "transform": {"ir", "primitives", *LEAVES},
    "verify": {"ir", "ir/build", "primitives", "syntax", "transform", *LEAVES},
    "lower": {"ir", "primitives", *LEAVES},
    "backends": {"lower", "primitives", *LEAVES},
    "card": {"verify", *LEAVES},
    "view": {"ir", *LEAVES},
    "readable": {"ir", "transform", *LEAVES},
    "loader": LEAVES,
    "catalogue": set(),
    "diagnostics": set(),
    "dim": set(),
    "files": set(),
    "names": set(),
    "progress": {"diagnostics"},
}
ALLOWED["assemble"] = {"ir", "transform", "lower", "backends", "verify", "card", "readable", *LEAVES}
ALLOWED["pipeline"] = {
    "syntax",
    "ir",
    "ir/build",
    "transform",
    "verify",
    "lower",
    "backends",
    "assemble",
    "view",
    *LEAVES,
}
ALLOWED["plotting"] = {"pipeline", "ir", "primitives", "assemble", *LEAVES}
ALLOWED["api"] = {"advice", "pipeline", "catalogue", "ir", "ir/build", "loader", "syntax", "verify", "view", *LEAVES}
ALLOWED["certificate"] = {"assemble", "ir", "ir/build", "lower", "primitives", "syntax", "transform", "verify", *LEAVES}
ALLOWED["explain"] = {"pipeline", "ir", "ir/build", "primitives", "syntax", "verify", *LEAVES}
ALLOWED["advice"] = {"pipeline", "ir", "ir/build", "primitives", "syntax", "transform", "verify", *LEAVES}
ALLOWED["bench"] = {"assemble", "pipeline", "ir", "ir/build", "loader", *LEAVES}
ALLOWED["cli"] = {
    "advice",
    "bench",
    "explain",
    "pipeline",
    "card",
    "certificate",
    "plotting",
    "catalogue",
    "syntax",
    *LEAVES,
}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            assert all(a.name != "*" for a in node.names), f"{path}: import *"
            if node.module == "lossdsl":
                found.update(f"lossdsl.{a.name}" for a in node.names)
            else:
                found.add(node.module)
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


def test_the_checker_of_certificates_shares_no_code_with_the_provers() -> None:
    """The enclosures of operations, and the verdicts that it reads, are all of `verify` that it may import; what is compiled,
    about which finiteness and costs are, it takes from the compiler, but not what that counts."""
    shared = {"lossdsl.verify", "lossdsl.verify.enclosure", "lossdsl.verify.operations", "lossdsl.verify.verdict"}
    shared |= {"lossdsl.transform.gradient", "lossdsl.lower.plan", "lossdsl.lower.prepare"}
    compiler = ("lossdsl.transform", "lossdsl.lower")
    for path in (PACKAGE / "certificate").glob("*.py"):
        used = {name for name in imports(path) if name.startswith(("lossdsl.verify", "sympy", "z3", *compiler))}
        assert used <= shared, path


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(PACKAGE)) for p in FILES])
def test_imports_point_downwards(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    room = "ir/build" if parts[:2] == ("ir", "build") else parts[0]
    if room in ("__init__", "__main__"):
        return
    for name in imports(path):
        if name.startswith("lossdsl."):
            other = name.split(".")[1]
            if other in ("__version__", room):
                continue
            if room != "ir/build" and name.startswith("lossdsl.ir.build"):
                other = "ir/build"
            assert other in ALLOWED[room], f"{room} may not import {name}"


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(PACKAGE)) for p in FILES])
def test_the_compiler_never_imports_torch(path: Path) -> None:
    if path != PACKAGE / "bench.py":  # which runs losses, and is imported by its command alone
        assert not {n.split(".")[0] for n in imports(path)} & {"torch", "triton"}


def test_the_plan_and_the_emitters_know_no_ir() -> None:
    for path in [PACKAGE / "lower" / "plan.py", PACKAGE / "lower" / "text.py", *(PACKAGE / "backends").glob("*.py")]:
        assert not any(n.startswith("lossdsl.ir") for n in imports(path)), path


@pytest.mark.parametrize(
    ("command", "banned"),
    [
        (["check", "examples/regression/huber.loss"], ["torch", "triton"]),
        (["fmt", "--check", "examples/regression/huber.loss"], ["torch", "triton", "sympy", "numpy"]),
        (["show", "examples/regression/huber.loss", "--emit", "plan"], ["torch", "triton"]),
    ],
)
def test_light_commands_stay_light(command: list[str], banned: list[str]) -> None:
    code = (
        "import sys\nfrom lossdsl.cli import main\n"
        f"try:\n    main({command!r})\nexcept SystemExit as ended:\n    assert ended.code == 0, ended.code\n"
        f"print('LOADED', [m for m in {banned!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("LOADED []")


def test_no_eval_of_user_text() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if name in ("eval", "sympify", "parse_expr", "lambdify"):
                    pytest.fail(f"{path}:{node.lineno} calls {name}")
                if name == "exec":
                    assert path.name == "loader.py", f"{path}:{node.lineno} calls exec"


def test_no_search_goes_by_a_clock_of_time() -> None:
    """`verify/work.py` counts work; the time that a question took is told by `guard.py` and `check.py` alone."""
    for room in ("verify", "advice", "plotting"):
        for path in (ROOT / "lossdsl" / room).glob("*.py"):
            if path.name not in ("guard.py", "check.py"):
                assert "import time" not in path.read_text(), path


def words(path: Path) -> set[str]:
    """The identifiers and strings of a file, without what a library calls its own."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(ast.Name("np")):
                pass
            case ast.Attribute():
                found.add(node.attr)
            case ast.Name():
                found.add(node.id)
            case ast.arg():
                found.add(node.arg)
            case ast.FunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.Constant(str() as text):
                found.add(text)
    return found - {"np"}


def test_no_loss_is_known_by_name() -> None:
    """A name of the catalogue occurs in the compiler only where it is a function, a reduction or a schedule too."""
    reductions = {"quantile"}
    schedules = {"cosine", "exponential"}
    known = {e.name for e in entries()}
    assert len(known) > 200
    for path in FILES:
        assert not words(path) & known - reductions - schedules - PRIMITIVES.keys(), path


def test_a_loss_known_by_name_would_be_found(tmp_path: Path) -> None:
    path = tmp_path / "cheat.py"
    path.write_text('def schedule(program):\n    return focal(program) if program.name == "huber" else program.dice\n')
    assert words(path) & {e.name for e in entries()} == {"focal", "huber", "dice"}
