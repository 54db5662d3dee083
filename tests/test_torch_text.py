"""The text of emitted torch modules: standalone, escaped, named, checked, and made from plans alone."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch_losses import CROSS_ENTROPY, HUBER, INFO_NCE, TWO, module, spec

from lossdsl.backends.check_source import SourceError, check_source
from lossdsl.backends.emit_torch import emit_torch
from lossdsl.backends.text import Names, Text, docstring, printable
from lossdsl.loader import load_module
from lossdsl.lower.plan import Kernel, Op
from lossdsl.lower.text import parse_plan, print_plan
from lossdsl.names import MODULE_ATTRIBUTES, RESERVED, attribute, class_name, mangle

ROOT = Path(__file__).parent.parent


def test_same_spec_same_bytes_under_other_hash_seeds() -> None:
    code = (
        "import sys; sys.path[:0] = ['.', 'tests'];"
        "from torch_losses import *; from lossdsl.backends.emit_torch import emit_torch;"
        "sys.stdout.write(emit_torch(spec(CROSS_ENTROPY + INFO_NCE)))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(texts) == 1


def test_emission_needs_no_ir_and_no_torch(tmp_path: Path) -> None:
    """Emitters get plans re-read from their text where the IR, the verifier, SymPy and torch cannot be imported."""
    full = spec(HUBER + CROSS_ENTROPY + INFO_NCE)
    bare = replace(full, losses=tuple(replace(loss, plans=(), pair=()) for loss in full.losses))
    plans = [[print_plan(p) for _, p in loss.plans] for loss in full.losses]
    pairs = [[(absent, print_plan(p)) for absent, p in loss.pair] for loss in full.losses]
    (tmp_path / "spec").write_bytes(pickle.dumps((bare, plans, pairs)))
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
for name in ("lossdsl.ir", "lossdsl.verify", "lossdsl.transform", "lossdsl.syntax", "sympy", "torch", "triton", "lark"):
    sys.modules[name] = None
import pickle
from dataclasses import replace
from lossdsl.backends.emit_torch import emit_torch
from lossdsl.lower.text import parse_plan
bare, plans, pairs = pickle.load(open({str(tmp_path / "spec")!r}, "rb"))
losses = []
for loss, texts, two in zip(bare.losses, plans, pairs):
    read = [parse_plan(t) for t in texts]
    losses.append(replace(loss, plans=tuple((p.key, p) for p in read), pair=tuple((a, parse_plan(t)) for a, t in two)))
sys.stdout.write(emit_torch(replace(bare, losses=tuple(losses))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == emit_torch(full)


def test_a_changed_plan_changes_the_result() -> None:
    """The text comes from the plan and from nothing else."""
    full = spec(HUBER)
    x, y = torch.randn(9, dtype=torch.float64), torch.randn(9, dtype=torch.float64)
    right = load_module(emit_torch(full), "a").huber(x, y)

    def changed(kernel: Kernel) -> Kernel:
        statements = tuple(
            replace(s, op="add") if isinstance(s, Op) and s.op == "sub" else s for s in kernel.statements
        )
        return replace(kernel, statements=statements)

    def mutate(plan):
        return replace(plan, steps=tuple(changed(s) if isinstance(s, Kernel) else s for s in plan.steps))

    loss = replace(full.losses[0], plans=tuple((k, mutate(p)) for k, p in full.losses[0].plans))
    assert not torch.allclose(load_module(emit_torch(replace(full, losses=(loss,))), "b").huber(x, y), right)


def test_the_module_stands_alone(tmp_path: Path) -> None:
    (tmp_path / "emitted.py").write_text(emit_torch(spec(HUBER + TWO)))
    code = (
        "import sys; sys.modules['lossdsl'] = None; import emitted, torch, pickle;"
        "x = torch.ones(3, requires_grad=True); emitted.huber(x, x * 0).backward(); print(x.grad.tolist());"
        "print(type(pickle.loads(pickle.dumps(emitted.Multi(k=2)))).__name__, sorted(emitted.__all__))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "0.333" in done.stdout
    assert "Multi ['Hinge', 'Huber', 'Multi', 'hinge', 'hinge_sum_and_weight', 'huber'" in done.stdout


def test_emitted_text_is_formatted_and_clean(tmp_path: Path) -> None:
    path = tmp_path / "emitted.py"
    path.write_text(emit_torch(spec(HUBER + CROSS_ENTROPY + INFO_NCE + TWO)))
    rules = ["--select", "E,F,W,B,RET,PIE", "--ignore", "E501,B905", "--line-length", "100", "--isolated"]
    done = subprocess.run([sys.executable, "-m", "ruff", "check", *rules, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


INJECTIONS = [
    '"""; import os; os.system("x")',
    "\\",
    'ends in a quote"',
    'x\\"""\nimport os',
    "{__import__('os')}",
    "\x1b[31m red \u2028 line \u202e",
    "'''\"\"\"'''",
]


@pytest.mark.parametrize("hostile", INJECTIONS)
def test_user_text_comes_out_as_text(hostile: str) -> None:
    full = spec(HUBER)
    loss = replace(
        full.losses[0], docstring=hostile, formula=(hostile,), gradient=(hostile,), properties=(hostile, hostile)
    )
    text = emit_torch(replace(full, losses=(loss,), origin=hostile, spec_hash=hostile, notes=(hostile,)))
    loaded = load_module(text, "hostile.loss")
    x = torch.ones(2, dtype=torch.float64)
    assert loaded.huber(x, x * 0).item() == 0.5
    assert "os" not in vars(loaded)
    words = " ".join(printable(hostile).split())
    assert words[:10] in " ".join((loaded.huber.__doc__ or "").split())
    assert words[:10] in " ".join(repr(loaded.Huber()).split())


def test_docstrings_round_trip() -> None:
    for hostile in INJECTIONS:
        source = "\n".join(docstring([hostile, "x"], 0))
        assert eval(source) is not None  # a literal and nothing else: ast-checked below
        check_source(source + "\n", frozenset())


WORDS = """
    lambda torch tl math None class value extents tensors reports rest block start stop acc device zero one self forward
    I EOF float double input type register union M_PI grad_output sum tuple len huber training
""".split()  # noqa: SIM905


@pytest.mark.parametrize("word", WORDS)
def test_words_of_the_targets_may_be_names(word: str) -> None:
    """Each as input, parameter, definition, axis and loss; the values stay right."""
    reserved = {"None", "class"}  # not names of the language's users either in some places; mangled all the same
    other = "q" if word != "q" else "p"
    texts = [
        f"loss named:\n    input {word}, {other}: real[n]\n    return mean(({word} - {other})^2)\n",
        f"loss named:\n    input {other}: real[n]\n    param {word}: real = 2\n    return mean({word} * {other}^2)\n",
        f"loss named:\n    input {other}: real[n]\n    {word} = {other}^2\n    return mean(2 * {word})\n",
        f"loss named:\n    input {other}: real[{word}, k]\n    return sum(mean({other}^2 over {word}) over k)\n",
        f"loss {word}:\n    input {other}: real[n]\n    return mean({other}^2)\n",
    ]
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)
    for k, text in enumerate(texts):
        try:
            loaded = module(text)
        except AssertionError:
            continue  # the language itself refuses the word there
        except Exception as error:
            raise AssertionError(f"{word} in text {k}") from error
        name = mangle(word) if k == 4 else "named"
        fn, cls = getattr(loaded, name), getattr(loaded, class_name(word if k == 4 else "named"))
        shaped = {0: lambda: (x, x * 0), 3: lambda: (x.reshape(2, 2),)}.get(k, lambda: (x,))
        expected = {0: 1.0, 1: 2.0, 2: 2.0, 3: 2.0, 4: 1.0}[k] * x.detach().square().mean()
        for call in (fn, cls()):
            value = call(*shaped())
            assert torch.allclose(value, expected), (word, k)
            (g,) = torch.autograd.grad(value, x, create_graph=True)
            assert torch.allclose(g, torch.autograd.grad(call(*shaped()), x)[0])
        if k == 1:
            assert torch.allclose(fn(x, **{mangle(word): 3.0}), expected * 1.5)
            assert torch.allclose(cls(**{mangle(word): 3.0})(x), expected * 1.5)
    assert reserved <= RESERVED


def test_names() -> None:
    assert class_name("info_nce") == "InfoNCE"
    assert [class_name(n) for n in ("mse", "wgan_critic", "ppo", "gaussian_nll", "total_variation")] == [
        "MSE",
        "WGANCritic",
        "PPO",
        "GaussianNLL",
        "TotalVariation",
    ]
    assert class_name("Huber") == "HuberLoss"
    assert mangle("lambda") == "lambda_"
    assert mangle("lambda_") == "lambda__"
    assert mangle("margin") == "margin"
    assert attribute("training") == "training_"
    own = {a for a in dir(torch.nn.Module()) if not a.startswith("_")}
    assert own <= MODULE_ATTRIBUTES
    names = Names(["lse"])
    assert [names.fresh(n) for n in ("lse", "lse'", "per.0", "lse", "2x", "lambda")] == [
        "lse_2",
        "d_lse",
        "per_0",
        "lse_3",
        "t2x",
        "lambda_",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "import torch\nimport os",
        "from torch import nn",
        "def f():\n    return eval('1')",
        "x = (1).__class__",
        "import torch\ntorch.load('x')",
        "async def f():\n    pass",
        "def f():\n    global x",
        "def f():\n    return unknown_name",
        "while True:\n    pass",
        "x = (",
    ],
)
def test_the_source_check_refuses(text: str) -> None:
    with pytest.raises(SourceError):
        check_source(text, frozenset({"torch"}))


def test_plans_of_the_tests_survive_their_text() -> None:
    for loss in spec(CROSS_ENTROPY + INFO_NCE).losses:
        for _, plan in loss.plans:
            assert parse_plan(print_plan(plan)) == plan


def test_info_nce_keeps_no_square_matrix() -> None:
    loaded = module(INFO_NCE)
    sizes: list[int] = []
    original = torch.empty

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                sizes.append(out.numel())
            return out

    q = torch.randn(1200, 4)
    k = torch.randn(1200, 4)
    with Watch():
        loaded._INFO_NCE_KERNELS["value_and_gradient", "mean", ("q", "k"), ()](q, k, 0.5, torch.ones(()))
    assert max(sizes) <= 256 * 1200
    assert original is torch.empty


def test_precedence() -> None:
    assert Text("a + b", 8).at(9) == "(a + b)"
    assert Text("a", 12).at(9) == "a"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [7, 70_000])
def test_selection_by_bits_is_where(dtype: torch.dtype, count: int) -> None:
    from lossdsl.backends.torch_runtime import helper_sources

    space: dict[str, object] = {"torch": torch}
    exec("\n".join(helper_sources(["_select"])), space)
    select = space["_select"]
    assert callable(select)
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(count, generator=generator) < 0.5
    special = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, -0.0], dtype=dtype)

    def made() -> torch.Tensor:
        x = torch.randn(count, generator=generator).to(dtype)
        x[: len(special)] = special
        return x

    for a, b in ((made(), made()), (made(), special[3]), (special[0], made())):
        want = torch.where(mask, a, b)
        for over in (None, a, b):  # new memory, or one of the operands is written over
            if over is not None and not over.dim():
                continue
            first, second = (t.clone() for t in (a, b))
            out = torch.empty(count, dtype=dtype) if over is None else first if over is a else second
            assert select(mask, first, second, out=out) is out
            torch.testing.assert_close(out, want, rtol=0, atol=0, equal_nan=True)
