"""`lossdsl bench`: what it measures, on small shapes, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from references import EXAMPLES

from lossdsl import bench as benches
from lossdsl import pipeline
from lossdsl.cli import cli
from lossdsl.diagnostics import Source


def run(*words: str) -> dict:
    found = CliRunner().invoke(cli, ["bench", *words, "--no-compile", "--rounds", "1", "--json"])
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def refused(*words: str) -> str:
    found = CliRunner().invoke(cli, ["bench", *words, "--no-compile", "--rounds", "1"])
    assert found.exit_code == 3, found.output
    return found.output


def doubled_mse(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return 2 * (pred - target).square().mean()


def test_a_table() -> None:
    found = run("mse", "--shape", "...=30x40", "--peer", "torch.nn.functional:mse_loss")
    assert found["shapes"] == {"pred": [30, 40], "target": [30, 40]}
    assert found["bytes"] == 3 * 4 * 1200  # both are read, one gradient is written
    assert [r["name"] for r in found["rows"]] == ["lossdsl", "eager", "torch.nn.functional:mse_loss"]
    for row in found["rows"]:
        assert row["seconds"] > 0
        assert row["value_error"] < 1e-6
        assert row["gradient_error"] < 1e-6
        assert row["bytes_per_second"] == found["bytes"] / row["seconds"]
        assert row["peak"] >= 4 * 1200
    ours, eager = (r["peak"] for r in found["rows"][:2])
    assert ours <= eager


def test_a_peer_that_is_another_loss_shows_as_an_error() -> None:
    found = run("mse", "--shape", "...=50", "--peer", f"{__name__}:doubled_mse")
    assert found["rows"][-1]["gradient_error"] == pytest.approx(1.0, abs=1e-3)
    assert found["rows"][-1]["value_error"] == pytest.approx(1.0, abs=1e-3)


def test_gradients_and_shapes_are_chosen() -> None:
    found = run("info_nce", "--shape", "n=6,d=5", "--wrt", "q,k", "--dtype", "float64")
    assert found["gradients"] == ["q", "k"]
    assert found["dtype"] == "float64"
    assert all(len(s) == 2 for s in found["shapes"].values())


def test_native_kernels_are_measured() -> None:
    found = run("huber", "--shape", "...=100", "--native")
    assert found["rows"][0]["gradient_error"] < 1e-6


def test_compiled_peers(tmp_path: Path) -> None:
    found = CliRunner().invoke(cli, ["bench", "huber", "--shape", "...=100", "--rounds", "1"])
    assert found.exit_code == 0, found.output
    lines = found.stdout.splitlines()
    assert lines[0].startswith("huber: value and gradient in pred")
    assert any(line.split()[0] == "lossdsl" for line in lines)
    assert any("torch.co" in line for line in lines)


def test_bad_input(tmp_path: Path) -> None:
    assert "cannot use the device" in refused("mse", "--shape", "...=3", "--device", "nowhere")
    assert "its axes are" in refused("cross_entropy", "--shape", "q=3")
    assert "write axis=number" in refused("cross_entropy", "--shape", "n=three")
    assert "write axis=number" in refused("cross_entropy", "--shape", "n")
    assert "only `...`" in refused("cross_entropy", "--shape", "n=3x4")
    assert "module:function" in refused("mse", "--shape", "...=3", "--peer", "torch.nn.functional:nothing")
    assert "module:function" in refused("mse", "--shape", "...=3", "--peer", "nowhere_at_all:f")
    assert "no gradient in 'target'" in refused("cross_entropy", "--shape", "n=3,c=4,...=1", "--wrt", "target")
    wrong = tmp_path / "wrong.loss"
    wrong.write_text("loss a:\n    input x: real[n]\n    return mean(y)\n")
    assert CliRunner().invoke(cli, ["bench", str(wrong)]).exit_code == 2
    many = tmp_path / "many.loss"
    text = "loss {}:\n    input x: real[n]\n    return mean(x^2)\n"
    many.write_text(text.format("a") + "\n" + text.format("b"))
    assert "name one" in refused(str(many))
    assert run(f"{many}:b", "--shape", "n=4")["loss"] == "b"


def test_bench_is_the_only_command_that_imports_torch() -> None:
    script = "import sys, lossdsl.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], env=os.environ, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(p.stem, id=p.stem) for p in sorted(EXAMPLES.glob("*/*.loss"))])
def test_every_loss_can_be_measured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benches, "_WANTED", 256)
    path = next(EXAMPLES.glob(f"*/{name}.loss"))
    source = Source(path.name, path.read_text())
    for built in pipeline.analyse(source).losses:
        table = benches.bench(source, built, benches.Options({}, compiled=False, rounds=1))
        assert table.rows[0].gradient_error < 1e-3
        assert table.rows[0].name == "lossdsl"


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (f"n={10**15}", "the inputs alone would need"),
        (f"n={10**21},d={10**21}", "the inputs alone would need"),
        (f"n={10**12},d=1000", "the inputs alone would need 16 PB, and this machine has"),
    ],
)
def test_extents_beyond_all_memory_are_refused_with_what_they_would_need(
    tmp_path: Path, shape: str, words: str
) -> None:
    path = tmp_path / "a.loss"
    path.write_text(
        "loss a:\n    input x, y: real[n, d]\n    input t: class[n, d] of d\n    return mean((x - y)^2) + mean(x[n, t])\n"
    )
    assert words in refused(str(path), "--shape", shape)


def test_a_lack_of_memory_while_it_runs_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "a.loss"
    path.write_text("loss a:\n    input x: real[n, d]\n    return mean(x^2)\n")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ...")

    monkeypatch.setattr(benches, "_reference", fail)
    assert "not enough memory: the inputs alone need 4 MB" in refused(str(path), "--shape", "n=1000,d=1000")
