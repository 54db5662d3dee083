"""What users meet on the first day: several losses in a file, signatures, shapes, types, reports, printing."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lossdsl
from lossdsl.diagnostics import Source
from lossdsl.names import class_name

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[1]

TWO = """\
loss huber:
    input pred, target: real[n]
    param delta: real > 0 = 1
    r = pred - target
    return mean(r^2 / 2 if abs(r) <= delta else delta * (abs(r) - delta / 2))

loss both:
    input pred, target: real[n]
    param share: real in [0, 1] = 0.5
    return share * huber(pred, target) + (1 - share) * mean(abs(pred - target))
"""

WEIGHTED = """\
loss weighted:
    input logits: real[n, c]
    input weight: real[c] >= 0 = 1
    input target: class[n] of c
    param temperature: real > 0
    param shift: real = 0
    logp = log_softmax(logits / temperature over c)
    per = -weight[target] * logp[c = target] + shift
    return mean(per)
"""


@pytest.fixture
def two(tmp_path: Path) -> Path:
    path = tmp_path / "two.loss"
    path.write_text(TWO)
    return path


def module_of(text: str) -> ModuleType:
    """An emitted text, executed on its own."""
    module = ModuleType("emitted")
    exec(compile(text, "<emitted>", "exec"), module.__dict__)
    return module


def run(*words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lossdsl", *words], cwd=ROOT, input=stdin, capture_output=True, text=True
    )


# ------------------------------------------------------------------------------------------- several in one file


def test_load_gives_the_only_loss_or_a_namespace(two: Path) -> None:
    one = lossdsl.load(ROOT / "examples/regression/huber.loss")
    assert issubclass(one, torch.nn.Module)
    losses = lossdsl.load(two)
    assert sorted(vars(losses)) == ["both", "huber"]
    assert issubclass(losses.huber, torch.nn.Module)


def test_one_loss_of_a_file_by_its_name(two: Path) -> None:
    assert lossdsl.load(f"{two}:both").__name__ == "Both"
    with pytest.raises(lossdsl.LossError, match="E0807"):
        lossdsl.load(f"{two}:bth")
    assert run("check", f"{two}:huber").stdout.count("computational efficiency") == 1
    assert run("check", f"{two}:nothing").returncode == 2


def test_compile_writes_all_losses_with_all(two: Path) -> None:
    module = module_of(lossdsl.compile(two).source)
    assert {"huber", "Huber", "both", "Both"} <= set(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


def test_a_called_loss_is_included() -> None:
    module = module_of(lossdsl.compile(Source("two.loss", TWO)).source)
    pred, target = torch.randn(7, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    huber = torch.nn.functional.huber_loss(pred, target)
    mae = torch.nn.functional.l1_loss(pred, target)
    assert torch.allclose(module.both(pred, target, share=0.25), 0.25 * huber + 0.75 * mae, rtol=1e-12)


@pytest.mark.parametrize(
    ("loss", "cls"),
    [
        ("info_nce", "InfoNCE"),
        ("mse", "MSE"),
        ("cross_entropy", "CrossEntropy"),
        ("giou", "GIoU"),
        ("ppo_clip", "PPOClip"),
    ],
)
def test_names_of_classes(loss: str, cls: str) -> None:
    assert class_name(loss) == cls
    loaded = lossdsl.loads(f"loss {loss}:\n    input x: real[n]\n    return mean(x^2)\n")
    assert loaded.__name__ == cls
    assert loaded.function.__name__ == loss


# ---------------------------------------------------------------------------------------------------- signatures


def test_required_before_optional_and_parameters_by_keyword() -> None:
    loss = lossdsl.loads(WEIGHTED)
    parameters = inspect.signature(loss.function).parameters
    positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    keywords = [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert positional == ["logits", "target", "weight"]
    assert keywords[:2] == ["temperature", "shift"]
    assert parameters["weight"].default is None
    assert parameters["temperature"].default is inspect.Parameter.empty
    with pytest.raises(TypeError):
        loss()
    with pytest.raises(TypeError):
        loss(2.0)


def test_an_optional_input_accepts_none() -> None:
    loss = lossdsl.loads(WEIGHTED)(temperature=2.0)
    logits, target = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    ones = torch.ones(3, dtype=torch.float64)
    assert torch.equal(loss(logits, target), loss(logits, target, None))
    assert torch.allclose(loss(logits, target), loss(logits, target, ones), rtol=1e-12)
    assert torch.allclose(loss(logits, target), torch.nn.functional.cross_entropy(logits / 2, target), rtol=1e-12)


def test_learnable_values_are_members_and_arguments() -> None:
    loss = lossdsl.loads(
        "loss f:\n    input x: real[k]\n    learnable s: real[k] = 0\n    return sum(exp(-s) * x + s)\n"
    )
    module = loss(k=3)
    assert [name for name, _ in module.named_parameters()] == ["s"]
    module(torch.ones(3)).backward()
    assert torch.allclose(module.s.grad, torch.zeros(3))
    assert "s" in inspect.signature(loss.function).parameters
    assert torch.equal(loss.function(torch.ones(3), s=torch.zeros(3)), torch.tensor(3.0))


# -------------------------------------------------------------------------------------------------------- shapes


def test_shapes_match_exactly_and_the_message_has_the_environment() -> None:
    loss = lossdsl.loads(WEIGHTED)(temperature=1.0)
    with pytest.raises(ValueError, match=r"n=32 c=10, but target has n=31"):
        loss(torch.zeros(32, 10), torch.zeros(31, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"n=32 c=10, but target has n=1"):
        loss(torch.zeros(32, 10), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"target must have axes \[n\]"):
        loss(torch.zeros(32, 10), torch.zeros(32, 1, dtype=torch.int64))
    huber = lossdsl.load("regression.huber")()
    with pytest.raises(ValueError, match="target has"):
        huber(torch.zeros(4, 1), torch.zeros(4))
    with pytest.raises(ValueError, match="target has"):
        huber(torch.zeros(4), torch.tensor(0.0))


def test_parameters_are_numbers_or_tensors_without_axes() -> None:
    huber = lossdsl.load("regression.huber").function
    pred, target = torch.tensor([3.0, 0.2]), torch.zeros(2)
    expected = torch.nn.functional.huber_loss(pred, target, delta=2.0)
    assert torch.allclose(huber(pred, target, delta=2), expected)
    assert torch.allclose(huber(pred, target, delta=torch.tensor(2.0)), expected)
    with pytest.raises(ValueError, match="0-d"):
        huber(pred, target, delta=torch.ones(2))
    with pytest.raises(ValueError, match=r"delta = -1.* range"):
        huber(pred, target, delta=-1.0)
    with pytest.raises(TypeError, match="delta"):
        huber(pred, target, delta="1")


# --------------------------------------------------------------------------------------------------------- types


def test_integer_tensors_are_refused_with_the_remedy() -> None:
    huber = lossdsl.load("regression.huber").function
    with pytest.raises(
        TypeError, match=r"target must be floating point, not torch.int64; convert it with target.float\(\)"
    ):
        huber(torch.zeros(3), torch.zeros(3, dtype=torch.int64))
    weighted = lossdsl.loads(WEIGHTED).function
    with pytest.raises(TypeError, match=r"target.long\(\)"):
        weighted(torch.zeros(3, 2), torch.zeros(3), temperature=1.0)
    with pytest.raises(TypeError, match="tensor"):
        huber([1.0], torch.zeros(1))


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ((torch.float32, torch.float32), torch.float32),
        ((torch.float64, torch.float32), torch.float64),
        ((torch.float16, torch.float16), torch.float32),
        ((torch.bfloat16, torch.float32), torch.float32),
    ],
)
def test_the_value_has_the_promoted_type_and_at_least_float32(given: tuple[Any, Any], value: Any) -> None:
    huber = lossdsl.load("regression.huber")()
    pred = torch.ones(4, dtype=given[0], requires_grad=True)
    loss = huber(pred, torch.zeros(4, dtype=given[1]))
    assert loss.dtype == value
    assert loss.device == pred.device
    loss.backward()
    assert pred.grad is not None
    assert pred.grad.dtype == given[0]


# ------------------------------------------------------------------------------------------------------- reports

REPORTING = "loss f:\n    input x: real[n]\n    report largest = max(abs(x))\n    return mean(x^2)\n"


def test_reports_are_detached_and_in_the_module() -> None:
    loss = lossdsl.loads(REPORTING)
    module, x = loss(), torch.tensor([1.0, -3.0], requires_grad=True)
    assert module.reports == {}
    value = module(x)
    assert set(module.reports) == {"largest"}
    assert module.reports["largest"].item() == 3.0
    assert not module.reports["largest"].requires_grad
    value.backward()
    again, reports = loss.function(x, return_reports=True)
    assert torch.equal(again, value)
    assert reports["largest"].item() == 3.0
    assert isinstance(loss.function(x), torch.Tensor)


# ------------------------------------------------------------------------------------------------ text and files


def test_printing_shows_formula_and_parameters() -> None:
    text = repr(lossdsl.load("regression.huber")(delta=2.5))
    assert "r = pred - target" in text
    assert "return mean(per)" in text
    assert "delta=2.5" in text


def test_comments_of_definitions_are_kept() -> None:
    text = (
        "loss f:\n    input x: real[n]\n    # twice the residual\n    y = 2 * x\n"
        "    per = y^2  # squared, as in (3)\n    return mean(per)\n"
    )
    source = lossdsl.loads(text).source
    assert "# twice the residual\n" in source
    assert "# squared, as in (3)\n" in source


def test_standard_input_is_a_file() -> None:
    good = run("check", "-", stdin=TWO)
    assert good.returncode == 0
    assert "both" in good.stdout
    assert run("check", "-", stdin="loss f:\n").returncode == 2


def test_the_header_pins_version_and_source(two: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.py"
    assert run("compile", str(two), "-o", str(out)).returncode == 0
    head = out.read_text().splitlines()[:2]
    assert head[0] == f"# Generated by lossdsl {lossdsl.__version__} from two.loss."
    assert len(head[1].removeprefix("# spec ")) == 16
    assert str(tmp_path) not in out.read_text()
    two.write_text(TWO.replace("= 0.5", "= 0.6"))
    other = run("compile", str(two)).stdout.splitlines()[:2]
    assert other[0] == head[0]
    assert other[1] != head[1]


def test_compile_check_says_whether_a_module_is_stale(two: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.py"
    assert run("compile", str(two), "--check", str(out)).returncode == 1, "there is none"
    assert run("compile", str(two), "-o", str(out)).returncode == 0
    before = out.read_bytes()
    fresh = run("compile", str(two), "--check", str(out))
    assert (fresh.returncode, "up to date" in fresh.stdout) == (0, True)
    two.write_text(TWO.replace("/ 2)", "/ 3)"))
    stale = run("compile", str(two), "--check", str(out))
    assert (stale.returncode, "stale" in stale.stdout) == (1, True)
    assert out.read_bytes() == before
