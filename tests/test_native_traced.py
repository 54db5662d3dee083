"""Native modules inside of torch.compile: the kernels stay one operation; every transform of the matrix holds."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from test_torch_transforms import CHEAP, DOZEN, EVERY, REFUSED, TRACED, Subject, made  # noqa: E402
from torch_losses import HUBER  # noqa: E402

import lossdsl  # noqa: E402

pytestmark = [
    pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="needs a C++ compiler"),
    pytest.mark.filterwarnings("ignore"),
]
ROWS = {**CHEAP, **TRACED}
QUICK = DOZEN[:3]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSDSL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("LOSSDSL_CXXFLAGS", "-O1")
        patch.delenv("LOSSDSL_NATIVE", raising=False)
        yield


def small(loss: Any) -> Any:
    """With kernels for tensors of any size."""
    loss.function.__globals__["_NATIVE_LEAST"] = 0
    return loss


SUBJECTS: dict[str, Subject | None] = {}


def native(name: str) -> Subject | None:
    if name not in SUBJECTS:
        found = made(name)
        if found is not None:
            found.module = small(lossdsl.load(name, native=True))
        SUBJECTS[name] = found
    return SUBJECTS[name]


class Watching:
    """A backend that runs the graph as it is, and notes the operations of libraries of ours in it."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, module: Any, examples: Any) -> Any:
        from torch._functorch.aot_autograd import aot_module_simplified

        def note(graph: Any, _: Any) -> Any:
            self.seen += [str(n.args[1]) for n in graph.graph.nodes if "lossdsl" in str(n.target)]
            return graph

        return aot_module_simplified(module, examples, fw_compiler=note, bw_compiler=note)


def compiled(function: Callable[..., Any], **options: Any) -> tuple[Callable[..., Any], list[str]]:
    torch._dynamo.reset()
    backend = Watching()
    return torch.compile(function, backend=backend, fullgraph=True, **options), backend.seen


@pytest.mark.parametrize(
    ("name", "row"),
    [
        pytest.param(n, r, marks=() if n in QUICK else pytest.mark.slow, id=f"{n}-{r}")
        for n in EVERY
        if n not in REFUSED
        for r in ROWS
    ],
)
def test_transforms(name: str, row: str) -> None:
    s = native(name)
    if s is not None:
        ROWS[row](s)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_values_and_gradients(reduction: str) -> None:
    loss = small(lossdsl.loads(HUBER, native=True)).function
    function, seen = compiled(lambda x, y: loss(x * 1.0, y, reduction=reduction), dynamic=True)
    for n in (3, 5, 64):
        x = torch.linspace(-3, 3, 2 * n).reshape(n, 2).requires_grad_()
        y = torch.zeros(n, 2, requires_grad=n == 5)
        value, plain = function(x, y), loss(x, y, reduction=reduction)
        incoming = torch.linspace(0.5, 1.5, value.numel()).reshape(value.shape)
        wanted = (x, y) if n == 5 else (x,)
        torch.testing.assert_close(value, plain)
        ours, theirs = (torch.autograd.grad(v, wanted, incoming) for v in (value, plain))
        torch.testing.assert_close(ours, theirs)
    assert set(seen) == ({"value", "backward"} if reduction == "none" else {"value_and_gradient"})
    with torch.no_grad():
        torch.testing.assert_close(function(x, y), loss(x, y, reduction=reduction))


def test_few_entries_are_left_to_the_compiler() -> None:
    text = HUBER.replace("loss huber", "loss few")  # a module that no other test has changed
    loss = lossdsl.loads(text, native=True).function
    for count, kernels in ((100, []), (100_000, ["value"])):
        function, seen = compiled(lambda x: loss(x, torch.zeros_like(x)))
        x = torch.linspace(-3, 3, count)
        torch.testing.assert_close(function(x), loss(x, torch.zeros_like(x)))
        assert seen == kernels


def test_options_reports_and_absent_inputs() -> None:
    loss = small(lossdsl.load("cross_entropy", native=True)).function
    x, t = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 5
    for options in ({}, {"smoothing": 0.1}, {"ignore_index": 2}, {"weight": torch.rand(5)}):
        function, seen = compiled(lambda x, options=options: loss(x * 1.0, t, **options))
        leaf, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        function(leaf).backward()
        loss(other, t, **options).backward()
        torch.testing.assert_close(leaf.grad, other.grad)
        assert seen == ["value_and_gradient"]
    gae = small(lossdsl.load("gae", native=True)).function
    given = {"reward": torch.randn(4, 3), "value": torch.randn(4, 3), "done": torch.zeros(4, 3)}
    given["last_value"] = torch.randn(3)
    function, seen = compiled(lambda **g: gae(**g, return_reports=True))
    leaf = given["value"].requires_grad_()
    value, reports = function(**given)
    plain, expected = gae(**given, return_reports=True)
    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(reports["advantage"], expected["advantage"])
    torch.testing.assert_close(torch.autograd.grad(value, leaf), torch.autograd.grad(plain, leaf))
    assert seen == ["value_and_gradient"]


def test_a_number_that_changes_from_call_to_call() -> None:
    loss = small(lossdsl.loads(HUBER, native=True)).function
    function, _ = compiled(lambda x, delta: loss(x * 1.0, torch.zeros(7), delta=delta))
    x = torch.linspace(-4, 4, 7)
    for delta in (1.0, 1.5, 2.0, 2.5):
        torch.testing.assert_close(function(x, delta), loss(x, torch.zeros(7), delta=delta))


def test_where_the_formula_is_traced() -> None:
    """Half precision, strides, mixed types, parameters that are tensors, second derivatives, no kernels."""
    module = small(lossdsl.loads(HUBER, native=True))
    loss = module.function
    x, y = torch.randn(6, 4), torch.randn(6, 4)
    for a, b, options in (
        (x.half(), y.half(), {}),
        (x.double(), y, {}),
        (x, y, {"delta": torch.tensor(2.0)}),
        (x, y, {"delta": torch.tensor(2.0, requires_grad=True)}),
    ):
        function, seen = compiled(lambda a, b, options=options: loss(a, b, **options))
        torch.testing.assert_close(function(a, b), loss(a, b, **options))
        assert not seen
    entropy = small(lossdsl.load("cross_entropy", native=True)).function
    function, seen = compiled(lambda a: entropy(a.t(), torch.arange(4) % 6))
    torch.testing.assert_close(function(x), entropy(x.t(), torch.arange(4) % 6))
    assert not seen

    def penalty(x: Any) -> Any:
        (slope,) = torch.autograd.grad(loss(x, y), x, create_graph=True)
        return slope.square().sum()

    before = getattr(torch._dynamo.config, "trace_autograd_ops", None)
    if before is not None:
        torch._dynamo.config.trace_autograd_ops = True
        try:
            function, seen = compiled(penalty)
            leaf, other = x.clone().requires_grad_(), x.clone().requires_grad_()
            function(leaf).backward()
            penalty(other).backward()
            torch.testing.assert_close(leaf.grad, other.grad)
            assert not seen
        finally:
            torch._dynamo.config.trace_autograd_ops = before


def test_exported_programs_need_nothing_of_ours() -> None:
    loss = small(lossdsl.loads(HUBER, native=True)).function

    class Step(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return loss(x, torch.zeros(5))

    for strict in (True, False):
        program = torch.export.export(Step(), (torch.randn(5),), strict=strict)
        assert "lossdsl" not in program.graph_module.code


def test_opcheck() -> None:
    loss = lossdsl.load("cross_entropy", native=True)
    run = loss.function.__globals__["_NATIVE_RUN"]
    x, t = torch.randn(6, 5, 1), torch.arange(6)[:, None] % 5
    names, tensors = ["logits", "target", "weight"], [x, t, None]
    for entry, reduction, incoming in (
        ("value", "mean", None),
        ("value_and_gradient", "mean", None),
        ("backward", "none", torch.rand(6, 1)),
    ):
        made = [] if entry == "value" else ["logits"]
        given = ("_CROSS_ENTROPY_KERNELS", entry, reduction, made, names, tensors, [0.0, -100], incoming)
        torch.library.opcheck(run, given)


def test_two_modules_of_one_loss(tmp_path: Path) -> None:
    """Each has an operation of its own; one that is gone leaves the other as it was."""
    first, second = (lossdsl.loads(HUBER, native=True) for _ in range(2))
    x, y = torch.randn(5), torch.randn(5)
    a, b = (compiled(m.function)[0](x, y) for m in (first, second))
    torch.testing.assert_close(a, b)
    path = tmp_path / "loss.py"
    path.write_text(lossdsl.compile("huber", native=True).source)
    script = (
        "import importlib.util, torch\n"
        "def load():\n"
        f"    found = importlib.util.spec_from_file_location('made', {str(path)!r})\n"
        "    made = importlib.util.module_from_spec(found)\n"
        "    found.loader.exec_module(made)\n"
        "    return made\n"
        "x, y = torch.randn(5, requires_grad=True), torch.randn(5)\n"
        "for _ in range(3):\n"
        "    torch._dynamo.reset()\n"
        "    made = load()\n"
        "    torch.compile(made.huber, fullgraph=True, backend='aot_eager')(x, y).backward()\n"
        "print(float((x.grad / 3 - torch.func.grad(made.huber)(x.detach(), y)).abs().max()) < 1e-6)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "True"


def test_without_a_compiler_the_formula_is_traced(tmp_path: Path) -> None:
    path = tmp_path / "loss.py"
    path.write_text(lossdsl.compile("huber", native=True).source)
    script = (
        "import os\n"
        "os.environ['LOSSDSL_NATIVE'] = '0'\n"
        "import importlib.util, torch\n"
        f"found = importlib.util.spec_from_file_location('made', {str(path)!r})\n"
        "made = importlib.util.module_from_spec(found)\n"
        "found.loader.exec_module(made)\n"
        "seen = []\n"
        "def backend(graph, _):\n"
        "    seen.append(graph.code)\n"
        "    return graph\n"
        "torch.compile(made.huber, fullgraph=True, backend=backend)(torch.randn(5), torch.randn(5))\n"
        "print(len(seen), any('lossdsl' in s for s in seen))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "1 False"
