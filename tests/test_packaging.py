"""The wheel has everything: it checks and compiles a shipped loss from a folder of its own, without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the installed wheel, built from a copy of the tracked files."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [wheel] = folder.glob("lossdsl-*.whl")
    target = folder / "site"
    done = subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return target


def run(installed: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    env["PYTHONPATH"] = str(installed)
    return subprocess.run([sys.executable, "-m", "lossdsl", *words], cwd="/", env=env, capture_output=True, text=True)


@pytest.mark.slow
def test_the_wheel_has_what_it_reads(installed: Path) -> None:
    [wheel] = installed.parent.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in ("py.typed", "grammar/loss.lark", "syntax/tables.json", "examples/regression/huber.loss"):
        assert f"lossdsl/{wanted}" in names
    tops = {n.split("/")[0] for n in names}
    assert len(tops) == 2, f"more than the package and its metadata: {tops}"


@pytest.mark.slow
def test_an_installed_wheel_checks_and_compiles_from_anywhere(installed: Path, tmp_path: Path) -> None:
    where = subprocess.run(
        [sys.executable, "-c", "import lossdsl; print(lossdsl.__file__)"],
        cwd="/", env={"PYTHONPATH": str(installed), "PATH": os.environ["PATH"]}, capture_output=True, text=True,
    )  # fmt: skip
    assert where.stdout.strip().startswith(str(installed)), where
    checked = run(installed, "check", "--strict", "regression.huber")
    assert checked.returncode == 0, checked.stderr
    assert "proved" in checked.stdout
    out = tmp_path / "huber.py"
    compiled = run(installed, "compile", "regression.huber", "-o", str(out))
    assert compiled.returncode == 0, compiled.stderr
    here = subprocess.run(
        [sys.executable, "-m", "lossdsl", "compile", "regression.huber"], cwd=ROOT, capture_output=True, text=True
    )
    assert out.read_text() == here.stdout
    assert run(installed, "fmt", "--check", "regression.huber").returncode == 0
