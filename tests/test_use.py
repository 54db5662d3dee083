"""`use`: files beside this one and the catalogue; nothing else is read, and nothing of two files meets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import lossdsl
from lossdsl.diagnostics import Severity, Source, render
from lossdsl.ir.interpret import interpret
from lossdsl.pipeline import Analysis, analyse

TOOLS = """
def square(a) = a^2
def tools(p: real[n, d], q: real[m, d]):
    gap[n, m] = sqrt(sum(square(p[n, d] - q[m, d]) over d) + 1e-6)
    return mean(gap)
def square_(a) = square(a)
"""
TOP = """
use regression.huber
use lib.tools as far
use shapes.dots

def square(a) = a + 1

loss top:
    input x: real[n, d]
    input y: real[m, d]
    axis k = n
    z[n, d] = 2 * x
    return huber(x, z, delta = 0.5) + far(x, y) + mean(dots(x, x[k, d])) + mean(square(x))
"""
SHAPES = """
def dots(p: real[u, d], q: real[v, d]):
    dot[u, v] = sum(p[u, d] * q[v, d] over d)
    return dot
"""


def files(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        path = folder / f"{name.replace('__', '/')}.loss"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def analysed(path: Path) -> Analysis:
    return analyse(Source(str(path), path.read_text()))


def errors(path: Path) -> list[tuple[str, int]]:
    return [(d.code, d.span.line) for d in analysed(path).diagnostics if d.severity is Severity.ERROR]


def shown(path: Path) -> list[str]:
    """The errors of a file as they are printed."""
    found = analysed(path)
    return [render(found.source, d) for d in found.diagnostics if d.severity is Severity.ERROR]


def test_losses_and_functions_of_other_files(tmp_path: Path) -> None:
    files(tmp_path, top=TOP, lib__tools=TOOLS, shapes=SHAPES)
    [built] = analysed(tmp_path / "top.loss").losses
    g = np.random.default_rng(0)
    x, y = g.normal(size=(4, 3)), g.normal(size=(2, 3))
    found = interpret(built.program, {"x": x, "y": y})["return"]
    r = np.abs(x - 2 * x)
    huber = np.where(r <= 0.5, r**2 / 2, 0.5 * (r - 0.25)).mean()
    far = np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1) + 1e-6).mean()
    assert found == pytest.approx(huber + far + (x @ x.T).mean() + (x + 1).mean(), rel=1e-12)


def test_an_optional_input_that_is_not_given_has_its_default_everywhere(tmp_path: Path) -> None:
    text = """
use classification.cross_entropy
loss top:
    input z: real[b, c]
    input y: class[b] of c
    return cross_entropy(z, y)
"""
    [built] = analysed(files(tmp_path, top=text) / "top.loss").losses
    z, y = np.random.default_rng(0).normal(size=(4, 3)), np.array([0, 2, 1, 1])
    wanted = (np.log(np.exp(z).sum(1)) - z[np.arange(4), y]).mean()
    assert interpret(built.program, {"z": z, "y": y})["return"] == pytest.approx(wanted, rel=1e-12)


def test_a_circle_is_refused(tmp_path: Path) -> None:
    one = "use {0}\nloss {1}:\n    input x: real[n]\n    return mean(x)\n"
    files(tmp_path, a=one.format("b", "a"), b=one.format("c", "b"), c=one.format("a", "c"), d=one.format("d", "d"))
    assert errors(tmp_path / "a.loss") == [("E0205", 1)]
    # a file that uses its own name: the name is declared already, and the file is itself
    assert ("E0205", 1) in errors(tmp_path / "d.loss")


def test_what_a_file_does_not_have(tmp_path: Path) -> None:
    body = "loss top:\n    input x: real[n]\n    return mean(f(x))\n"
    files(tmp_path, top="use lib.f\n" + body, lib="def g(a) = a\n")
    assert errors(tmp_path / "top.loss") == [("E0210", 1)]
    files(tmp_path, lib="def f(a) = (a\n")
    assert errors(tmp_path / "top.loss") == [("E0102", 1)]
    files(tmp_path, lib="use gone\ndef f(a) = gone(a)\n")
    assert errors(tmp_path / "top.loss") == [("E0210", 1)]


def test_an_error_in_a_used_file_stands_where_it_is(tmp_path: Path) -> None:
    text = "\n\n\n\ndef f(a) = a + unknown\n"
    top = "# a comment\nuse lib.f\nloss top:\n    input x: real[n]\n    return mean(f(x))\n"
    files(tmp_path, top=top, lib=text)
    assert errors(tmp_path / "top.loss") == [("E0201", 5)]
    [message] = shown(tmp_path / "top.loss")
    assert message.split("\n")[1:6] == [
        f" --> {tmp_path / 'lib.loss'}:5:16",
        "  |",
        "5 | def f(a) = a + unknown",
        "  |                ^^^^^^^",
        f"  = note: reached by `use lib.f`, {tmp_path / 'top.loss'}:2",
    ]


def test_an_error_says_each_use_on_the_way_to_it(tmp_path: Path) -> None:
    files(tmp_path, middle="\nuse deep.g\ndef f(a) = g(a)\n", deep="def g(a) = (a\ndef h(a = 2\n")
    files(tmp_path, top="use middle.f\nloss top:\n    input x: real[n]\n    return mean(f(x))\n")
    for message in shown(tmp_path / "top.loss"):
        near, far = (line for line in message.split("\n") if "note: reached" in line)
        assert near.endswith(f"reached by `use deep.g`, {tmp_path / 'middle.loss'}:2")
        assert far.endswith(f"reached by `use middle.f`, {tmp_path / 'top.loss'}:1")
        assert f"{tmp_path / 'deep.loss'}:" in message
    assert [code for code, _ in errors(tmp_path / "top.loss")] == ["E0102", "E0102"]


def test_the_same_error_in_two_files_is_shown_in_both(tmp_path: Path) -> None:
    files(tmp_path, a="def f(x) = x + gone\n", b="def g(x) = x + gone\n")
    files(
        tmp_path,
        top="use a.f\nuse b.g\nloss top:\n    input x: real[n]\n    p = f(x)\n    q = g(x)\n    return mean(p + q)\n",
    )
    [one, two] = shown(tmp_path / "top.loss")
    assert f"{tmp_path / 'a.loss'}:1:16" in one
    assert f"{tmp_path / 'b.loss'}:1:16" in two


def test_circles_of_files_are_all_shown(tmp_path: Path) -> None:
    one = "use {0}\nuse {1}\nloss {2}:\n    input x: real[n]\n    return mean(x)\n"
    files(tmp_path, a=one.format("b", "c", "a"), b=one.format("c", "a", "b"), c=one.format("a", "c", "d"))
    circles = {line for text in shown(tmp_path / "a.loss") for line in text.split("\n") if "in a circle" in line}
    assert {line.rpartition(": ")[2] for line in circles} == {"a -> b -> c -> a", "c -> c", "a -> b -> a"}


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    files(tmp_path, outside="def f(a) = a\n", inner__top="use outside_.f\nloss t:\n    return f(1)\n")
    (tmp_path / "inner" / "outside_.loss").symlink_to(tmp_path / "outside.loss")
    assert errors(tmp_path / "inner" / "top.loss") == [("E0210", 1)]


def test_a_loss_may_extend_one_of_its_name(tmp_path: Path) -> None:
    text = "use regression.huber as plain\nloss huber:\n    input x, y: real[n]\n    return 2 * plain(x, y)\n"
    files(tmp_path, top=text)
    assert errors(tmp_path / "top.loss") == []


def test_a_deep_chain_ends(tmp_path: Path) -> None:
    count = 30
    texts = {f"f{k}": f"use f{k + 1}\ndef f{k}(a) = f{k + 1}(a)\n" for k in range(count)}
    files(tmp_path, **texts, **{f"f{count}": f"def f{count}(a) = a\n"})
    files(tmp_path, top="use f0\nloss top:\n    input x: real[n]\n    return mean(f0(x))\n")
    assert errors(tmp_path / "top.loss") == [("E0707", 1)]


def test_the_hash_of_a_module_sees_what_it_uses(tmp_path: Path) -> None:
    (tmp_path / "part.loss").write_text("loss part:\n    input x: real[n]\n    return mean(x^2)\n")
    whole = tmp_path / "whole.loss"
    whole.write_text("use part\n\nloss whole:\n    input x: real[n]\n    return part(x) + 1\n")

    def header() -> str:
        return lossdsl.compile(whole).source.split("\n")[1]

    before = header()
    assert header() == before
    (tmp_path / "part.loss").write_text("loss part:\n    input x: real[n]\n    return mean(x^4)\n")
    assert header() != before


def test_optional_inputs_of_a_called_loss_keep_their_axes() -> None:
    """What is left out is its default along the axes that it is declared with, also where nothing else is summed."""
    text = """
loss inner:
    input x: real[n, c]
    input w: real[n] >= 0 = 1
    input u: real[n, c] = 2
    z = w[n = edge(n + 1)] * u
    scale = w / 4
    return sum(w * x * z) / sum(w) + mean(u) + max(scale else 0)

loss outer:
    input x: real[n, c]
    return inner(x) + inner(x, x[n, 0]^2)
"""
    made = lossdsl.loads(text)
    x = torch.tensor([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5]], dtype=torch.float64, requires_grad=True)
    found, wanted = made.outer.function(x), made.inner.function(x) + made.inner.function(x, x[:, 0] ** 2)
    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=0)
    ours, theirs = (torch.autograd.grad(v, x)[0] for v in (found, wanted))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def test_conditions_as_arguments() -> None:
    text = """
loss inner:
    input x: real[n]
    input keep: bool[n]
    return mean(x^2 over n where keep) + count(keep)

loss outer:
    input x: real[n]
    positive = x > 0
    return inner(x, positive) + inner(x, x < 1 and not positive)
"""
    made = lossdsl.loads(text)
    x = torch.tensor([0.5, -1.0, 2.0, -0.25], dtype=torch.float64)
    wanted = (x[x > 0] ** 2).mean() + 2 + (x[x <= 0] ** 2).mean() + 2
    torch.testing.assert_close(made.outer.function(x), wanted)


def test_functions_that_nobody_calls_may_use_the_axes_of_a_caller(tmp_path: Path) -> None:
    """A library does not know which axes its expression functions meet; a file with losses does, unless `size` says so."""
    library = "def causal(a) = sum(a over t where t <= s) if t < size(s) else 0\ndef later(a) = a * (s > 2)\n"
    block = "def total(p: real[u, ...], k: int):\n    axis s = k\n    q[u, s, ...] = p[u, ...] * s\n    return q, sum(p over ...)\n"
    files(tmp_path, library=library, block=block)
    assert errors(tmp_path / "library.loss") == []
    assert errors(tmp_path / "block.loss") == []
    loss = "loss top:\n    input x: real[t]\n    axis s = t\n    return mean(x)\n"
    files(tmp_path, both=library + loss, other=library + loss.replace("axis s", "axis z"))
    assert errors(tmp_path / "both.loss") == []
    assert errors(tmp_path / "other.loss") == [("E0201", 2)]
