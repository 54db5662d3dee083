"""The grammar, the logical lines and the tree: what is read, where it stands, and what is reported."""

from __future__ import annotations

import json
import random
import re
import time
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lark import Lark, Tree
from lark.exceptions import UnexpectedInput

from lossdsl.diagnostics import Diagnostic, Source, render
from lossdsl.syntax import grammar, tree
from lossdsl.syntax.grammar import STARTS, grammar_path, make_parser
from lossdsl.syntax.lines import split
from lossdsl.syntax.parser import parse, raw_tree, readable_part

HERE = Path(__file__).parent
SPELLED = sorted((HERE / "spelled").glob("*.loss"))
CORPUS = SPELLED + sorted((HERE.parent / "examples").glob("**/*.loss"))


def read(text: str) -> tuple[tree.Module, list[Diagnostic]]:
    return parse(Source("test.loss", text))


def body(*lines: str) -> tuple[tree.Statement, ...]:
    """The statements of a loss with these lines, which have to be right."""
    module, problems = read("loss a:\n" + "".join(f"    {line}\n" for line in lines))
    assert not problems, [render(Source("test.loss", "\n".join(lines)), p) for p in problems]
    loss = module.items[0]
    assert isinstance(loss, tree.Loss)
    return loss.body


def expression(text: str) -> tree.Expr:
    (statement,) = body(f"y = {text}")
    assert isinstance(statement, tree.Definition)
    return statement.value


def claim(text: str) -> tree.Claim:
    (statement,) = body(f"claim {text}")
    assert isinstance(statement, tree.Claim)
    return statement


def nodes(root: Any) -> list[tree.Node]:
    found: list[tree.Node] = []
    stack = [root]
    while stack:
        value = stack.pop()
        if isinstance(value, tuple):
            stack.extend(value)
        elif isinstance(value, tree.Node):
            found.append(value)
            stack.extend(getattr(value, f.name) for f in fields(value))
    return found


# ------------------------------------------------------------------------------------------------------- grammar


def test_the_grammar_is_strict_lalr() -> None:
    pytest.importorskip("interegular")
    parser = make_parser(strict=True)
    assert parser.options.strict
    assert tuple(parser.options.start) == STARTS


def test_the_stored_tables_are_those_of_the_grammar() -> None:
    """`python -m lossdsl.syntax.grammar` writes them anew after a change."""
    stored = json.loads(grammar.TABLES.read_text(encoding="utf-8"))
    assert stored["digest"] == grammar._digest()
    fresh, loaded = make_parser(strict=False), grammar.parser()
    assert loaded.source_path == "<deserialized>"
    for path in SPELLED:
        source = Source(path.name, path.read_text(encoding="utf-8"))
        for line in split(source).lines:
            first, last = line.lexemes[0], line.lexemes[-1]
            for cut in (last.end, last.start):
                for start in STARTS:
                    text = source.text[first.start : cut]
                    assert outcome(fresh, text, start) == outcome(loaded, text, start)


def outcome(parser: Lark, text: str, start: str) -> object:
    try:
        return parser.parse(text, start=start)
    except UnexpectedInput as error:
        return type(error), error.pos_in_stream, getattr(error, "expected", None) or getattr(error, "allowed", None)


def test_without_stored_tables_the_grammar_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "loss a:\n    return sum(x[n = n + 1 else 0] over n)\n"
    expected = read(text)
    for content in (None, "{", '{"digest": "other", "tables": {}}'):
        tables = tmp_path / "tables.json"
        if content is not None:
            tables.write_text(content)
        monkeypatch.setattr(grammar, "TABLES", tables)
        grammar.parser.cache_clear()
        assert read(text) == expected
    grammar.parser.cache_clear()


def test_every_rule_of_the_grammar_is_used() -> None:
    """Every named rule and alias of the grammar appears in the parse of the corpus and of the claims below."""
    text = re.sub(r"//[^\n]*", "", grammar_path().read_text(encoding="utf-8"))
    named = set(re.findall(r"^[?!]*([a-z][a-z_0-9]*)(?=\s*:)", text, re.MULTILINE)) | set(
        re.findall(r"->\s*(\w+)", text)
    )
    inlined = set(re.findall(r"^\?([a-z][a-z_0-9]*)(?=\s*:)", text, re.MULTILINE))
    extra = [
        "def f(p: unit[b, d] over d, q: real > 0):",
        "use robust.huber as h",
        "input boxes: real[n, 4]",
        "return a, b",
        *(f"claim {text}" for text in CLAIMS),
    ]
    seen: set[str] = set()
    for text in ["\n".join(extra), *(path.read_text(encoding="utf-8") for path in SPELLED)]:
        source = Source("test.loss", text)
        for line in split(source).lines:
            if line.lexemes[0].kind != "doc":
                parsed = raw_tree(source, line)
                assert isinstance(parsed, Tree), text[line.lexemes[0].start :][:80]
                seen |= {str(node.data) for node in parsed.iter_subtrees()}
    assert named - inlined - seen == {"bound_claim", "parameter_type"}  # these two only carry an alias


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_corpus_parses(path: Path) -> None:
    source = Source(path.name, path.read_text(encoding="utf-8"))
    module, problems = parse(source)
    assert not problems, "\n".join(render(source, p) for p in problems)
    losses = [item for item in module.items if isinstance(item, tree.Loss)]
    assert len(losses) == len(re.findall(r"^loss ", source.text, re.MULTILINE)) > 0
    for loss in losses:
        assert any(isinstance(statement, tree.Return) for statement in loss.body)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_spans_cover_what_they_name(path: Path) -> None:
    """The text under the span of a name, number or call is that name, number or call, in continuation lines too."""
    source = Source(path.name, path.read_text(encoding="utf-8"))
    module, _ = parse(source)
    lines = source.text.split("\n")
    checked = 0
    for node in nodes(module):
        text = lines[node.span.line - 1][node.span.column - 1 :]
        if node.span.end_line == node.span.line:
            text = text[: node.span.end_column - node.span.column]
        match node:
            case tree.Name(id=name) | tree.Ident(name=name) | tree.Axis(name=name) | tree.Number(text=name):
                assert text == name
            case tree.Call(function=name):
                assert text.startswith(name + "(")
                if node.span.end_line == node.span.line:
                    assert text.endswith(")")
                span = node.function_span
                assert lines[span.line - 1][span.column - 1 : span.end_column - 1] == name
            case tree.Paren():
                assert text.startswith("(")
            case tree.Access() if node.span.end_line == node.span.line:
                assert text.endswith("]")
            case tree.Definition() | tree.Declaration() | tree.Claim() | tree.Return() if (
                node.span.end_line == node.span.line
            ):
                code = lines[node.span.line - 1].split("  #")[0]
                assert text == code.strip()
            case _:
                continue
        checked += 1
    assert checked > 10


# --------------------------------------------------------------------------------------------------- expressions


def show(node: Any) -> str:
    """An expression with every operation in brackets."""
    match node:
        case tree.Number(text=text):
            return text
        case tree.Name(id=name):
            return name
        case tree.Paren(inner=inner):
            return show(inner)
        case tree.Unary(op=op, operand=operand):
            return f"({op} {show(operand)})"
        case tree.Binary(op=op, left=left, right=right):
            return f"({show(left)} {op} {show(right)})"
        case tree.Compare(ops=ops, operands=operands):
            return "(" + " ".join([show(operands[0]), *(f"{o} {show(b)}" for o, b in zip(ops, operands[1:]))]) + ")"
        case tree.IfElse(value=value, condition=condition, otherwise=otherwise):
            return f"({show(value)} if {show(condition)} else {show(otherwise)})"
    raise AssertionError(node)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("-x^2", "(- (x ^ 2))"),
        ("x^-2", "(x ^ (- 2))"),
        ("2^3^4", "(2 ^ (3 ^ 4))"),
        ("2 ** -x ** y", "(2 ** (- (x ** y)))"),
        ("a - b - c", "((a - b) - c)"),
        ("a / b * c // d % e", "((((a / b) * c) // d) % e)"),
        ("-a * b", "((- a) * b)"),
        ("not a == b", "(not (a == b))"),
        ("a or b and not c", "(a or (b and (not c)))"),
        ("0 <= x < y != z", "(0 <= x < y != z)"),
        ("a + b < c * d", "((a + b) < (c * d))"),
        ("a if b else c if d else e", "(a if b else (c if d else e))"),
        ("a or b if c or d else e or f", "((a or b) if (c or d) else (e or f))"),
        ("(a if b else c) if d else e", "((a if b else c) if d else e)"),
        ("- - x", "(- (- x))"),
        ("a - -b", "(a - (- b))"),
    ],
)
def test_precedence(text: str, meaning: str) -> None:
    assert show(expression(text)) == meaning


def test_calls_accesses_and_tables() -> None:
    call = expression("quantile(x, y, q = 0.5 over n, ... descending where x > 0 else 1 / 2)")
    assert isinstance(call, tree.Call)
    assert (call.function, len(call.arguments), call.keywords[0].name) == ("quantile", 2, "q")
    assert call.over == (tree.Axis(name="n"), tree.Rest())
    assert call.direction == "descending"
    assert isinstance(call.where, tree.Compare)
    assert isinstance(call.otherwise, tree.Binary)

    access = expression("(x * y)[h = h + 1, ..., w else 0][n]")
    assert isinstance(access, tree.Access)
    assert isinstance(access.base, tree.Access)
    assert access.base.otherwise == tree.Number(text="0", value=Fraction(0))
    assert [type(item).__name__ for item in access.base.items] == ["ByName", "Rest", "Name"]

    table = expression("[[1, 0], [0, 1]][i, j]")
    assert isinstance(table, tree.Access)
    assert isinstance(table.base, tree.Table)
    assert expression("f()") == tree.Call(function="f", arguments=())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", Fraction(1, 10)),
        ("1e-4", Fraction(1, 10000)),
        ("2.", Fraction(2)),
        (".5e1", Fraction(5)),
        ("1E3", Fraction(1000)),
    ],
)
def test_numbers_are_exact(text: str, value: Fraction) -> None:
    assert expression(text) == tree.Number(text=text, value=value)


@pytest.mark.parametrize("text", ["1e9999999", "1e-401", "7" * 101, "1e" + "9" * 5000])
def test_numbers_too_long_are_refused_before_they_are_made(text: str) -> None:
    started = time.perf_counter()
    _, problems = read(f"loss a:\n    y = {text}\n")
    assert [p.code for p in problems] == ["E0705"]
    assert time.perf_counter() - started < 1


# ---------------------------------------------------------------------------------------------------- statements


def test_types_and_domains() -> None:
    def type_of(text: str) -> tree.Type:
        (statement,) = body(f"input x: {text}")
        assert isinstance(statement, tree.Declaration)
        return statement.type

    assert type_of("real[b, 1, h, ...]").axes == (
        tree.Axis(name="b"),
        tree.FixedAxis(extent=1),
        tree.Axis(name="h"),
        tree.Rest(),
    )
    assert type_of("real") == tree.Type(kind="real")
    between = type_of("real[n] in (0, size(t)]").domains[0]
    assert isinstance(between, tree.Between)
    assert (between.lower_open, between.upper_open) == (True, False)
    of = type_of("class[n, ...] of c or ignore_index").domains[0]
    assert of == tree.Of(of=tree.Name(id="c"), otherwise=tree.Name(id="ignore_index"))
    assert type_of("class[n] of 10").domains == (tree.Of(of=tree.Number(text="10", value=Fraction(10))),)
    assert type_of("simplex[n, h, w] over h, w").domains == (
        tree.Along(axes=(tree.Axis(name="h"), tree.Axis(name="w"))),
    )
    assert [type(d).__name__ for d in type_of("real[n] > 0 < 1").domains] == ["CompareWith", "CompareWith"]
    (declared,) = body("param gamma, lam: real in [0, 1] = 0.99, 0.95")
    assert isinstance(declared, tree.Declaration)
    assert [ident.name for ident in declared.names] == ["gamma", "lam"]
    assert len(declared.defaults) == 2


@pytest.mark.parametrize(
    "word",
    [
        *("input", "param", "state", "axis", "loss", "def", "return", "claim", "use", "of", "in", "when", "convex"),
        *(
            "floor",
            "real",
            "class",
            "backward",
            "float16",
            "report",
            "update",
            "on",
            "at",
            "as",
            "link",
            "C1",
            "bounded",
        ),
    ],
)
def test_words_are_soft(word: str) -> None:
    """A statement that begins `name =` or `name[...] =` is a definition whatever the name, and the name can be read."""
    first, second, third, last = body(
        f"{word} = x", f"{word}[n] = x", f"a, {word} = f(x)", f"return {word} + {word}[n = 0]"
    )
    for statement in (first, second, third):
        assert isinstance(statement, tree.Definition)
        assert statement.names[-1].name == word
    assert isinstance(last, tree.Return)
    assert show(last.values[0].left) == word  # type: ignore[union-attr]
    (declared,) = body(f"input {word}: real")
    assert isinstance(declared, tree.Declaration)
    claimed = claim(f"{word} >= 0")
    assert (claimed.kind, claimed.text) == ("bound", f"{word} >= 0")


@pytest.mark.parametrize(
    "word", ["pi", "inf", "nan", "true", "false", "last", "step", "size", "and", "over", "where", "if"]
)
@pytest.mark.parametrize(
    "line", ["{} = 1", "{}[n] = 1", "input {}: real", "axis {} = 3", "report {} = 1", "def {}(a) = a", "def f({}) = 1"]
)
def test_reserved_words_are_no_names(word: str, line: str) -> None:
    _, problems = read("loss a:\n    " + line.format(word) + "\n")
    assert [p.code for p in problems] == ["E0106"]
    assert problems[0].span.column == 5 + line.index("{")


def test_functions_and_blocks() -> None:
    module, problems = read(
        "def g(a, b) = a + b\n"
        "loss l:\n"
        "    def dtw(p: real[b, u], q: unit[b, v] over v, k: int):\n"
        "        axis w = u\n"
        "        cost[b, u, v] = p + q\n"
        "        return cost, p\n"
        "    x, y = dtw(z, z, 3)\n"
        "    return x\n"
    )
    assert not problems
    g, loss = module.items
    assert isinstance(g, tree.Def)
    assert g.value is not None
    assert isinstance(loss, tree.Loss)
    dtw, pair, _ = loss.body
    assert isinstance(dtw, tree.Def)
    assert dtw.value is None
    assert [type(s).__name__ for s in dtw.body] == ["AxisDeclaration", "Definition", "Return"]
    assert [a.name for a in dtw.arguments] == ["p", "q", "k"]
    assert isinstance(pair, tree.Definition)
    assert [ident.name for ident in pair.names] == ["x", "y"]


def test_lines_are_continued() -> None:
    first, second, third = body(
        "a = x +  # one",
        "    # between",
        "    y",
        "b = f(x,  # the first",
        "",
        "    z = 3)  # the last",
        "c = x if x > 0 else",
        "    y",
    )
    assert isinstance(first, tree.Definition)
    assert show(first.value) == "(x + y)"
    assert first.leading == ("one", "between")
    assert second.leading == ("the first",)
    assert second.trailing == "the last"
    assert isinstance(third, tree.Definition)
    assert show(third.value) == "(x if (x > 0) else y)"


def test_docstrings_are_opaque() -> None:
    module, problems = read(
        'loss a:\n    """One (bracket [ and # a sign\n\n      loss b: indented\n    """\n    y = 1  # "\n'
    )
    assert not problems
    loss = module.items[0]
    assert isinstance(loss, tree.Loss)
    assert loss.docstring == "One (bracket [ and # a sign\n\nloss b: indented"


def test_comments_and_empty_lines_are_kept() -> None:
    module, problems = read(
        "# head\n\n# of a\nloss a:  # behind a\n\n    # of y\n    y = 1  # behind y\n\n    # detached\n\n    #\n"
        "    ##  z\n"
        "    z = 2\n    # last\n\n# next\nloss b:\n    y = 1\n\n    # end of b\n# end of file\n"
    )
    assert not problems
    a, b = module.items
    assert isinstance(a, tree.Loss)
    assert isinstance(b, tree.Loss)
    assert (a.detached, a.leading, a.trailing) == ((("head",),), ("of a",), "behind a")
    y, z = a.body
    assert (y.leading, y.trailing, y.blank_before) == (("of y",), "behind y", True)
    assert (z.detached, z.leading, z.blank_before) == ((("detached",),), ("", "#  z"), True)
    assert a.closing == (("last",),)
    assert (b.leading, b.blank_before) == (("next",), True)
    assert b.closing == ((), ("end of b",))
    assert module.closing == (("end of file",),)


# -------------------------------------------------------------------------------------------------------- claims

CLAIMS: dict[str, dict[str, Any]] = {
    "convex in logits": {"kind": "word", "word": "convex"},
    "strictly convex in x": {"kind": "word", "word": "strictly convex"},
    "concave in x": {"kind": "word", "word": "concave"},
    "quasiconvex of per in pred": {"kind": "word", "word": "quasiconvex", "of": "per"},
    "affine in a, b": {"kind": "word", "word": "affine", "inputs": (tree.Ident(name="a"), tree.Ident(name="b"))},
    "strongly convex in x >= m": {"kind": "strongly convex", "op": ">=", "bound": tree.Name(id="m")},
    "convex of per in pred": {"kind": "word", "of": "per"},
    "not convex in logits when gamma >= 1": {"negated": True, "kind": "word"},
    "differentiable in x": {"kind": "word", "word": "differentiable"},
    "C0 in pred": {"kind": "word", "word": "C0"},
    "C1 in pred": {"kind": "word", "word": "C1"},
    "C2 in pred": {"kind": "word", "word": "C2"},
    "smooth in pred": {"kind": "word", "word": "smooth"},
    "lipschitz in pred <= delta": {"kind": "lipschitz", "op": "<=", "norm": None},
    "lipschitz in pred <= delta in l1": {"kind": "lipschitz", "norm": "l1"},
    "lipschitz in pred <= max(weight) in linf": {"kind": "lipschitz", "norm": "linf"},
    "lipschitz in pred": {"kind": "lipschitz", "op": None, "bound": None},
    "gradient lipschitz in pred <= 1": {"kind": "gradient lipschitz", "op": "<="},
    "redescending in r": {"kind": "word", "word": "redescending"},
    "self-concordant of per in x when m > 0": {"kind": "word", "word": "self-concordant"},
    "vanishing gradient in r": {"kind": "word", "word": "vanishing gradient"},
    "not exploding gradient in r": {"kind": "word", "word": "exploding gradient", "negated": True},
    "increasing in x": {"kind": "monotone", "word": "increasing"},
    "decreasing in margin": {"kind": "monotone", "word": "decreasing"},
    "strictly increasing in x": {"kind": "monotone", "word": "strictly increasing"},
    "strictly decreasing of per in x": {"kind": "monotone", "word": "strictly decreasing"},
    "per >= 0": {"kind": "bound"},
    "not per >= 0": {"kind": "bound", "negated": True},
    "0 <= ssim <= 1": {"kind": "bound"},
    "bounded": {"kind": "word", "word": "bounded"},
    "infimum of per == 0": {"kind": "infimum", "of": "per", "op": "=="},
    "minimum of per at pred == target": {"kind": "minimum", "of": "per"},
    "unique minimum of per at pred == target and n != m": {"kind": "unique minimum"},
    "calibrated": {"kind": "word", "word": "calibrated", "link": None},
    "proper": {"kind": "word", "word": "proper"},
    "strictly proper with link sigmoid(score)": {"kind": "word", "word": "strictly proper"},
    "noise symmetric": {"kind": "word", "word": "noise symmetric"},
    "invariant under shift of logits over c": {
        "kind": "invariant",
        "transform": "shift",
        "over": (tree.Axis(name="c"),),
    },
    "invariant under scale of x, y": {"kind": "invariant", "transform": "scale", "over": None},
    "invariant under permutation of z over n": {"kind": "invariant", "transform": "permutation"},
    "exchange symmetric in a, b": {"kind": "exchange symmetric"},
    "even in r": {"kind": "even"},
    "odd of per in r": {"kind": "odd"},
    "zero gradient in x where m == 0": {"kind": "zero gradient"},
    "equal to huber(pred, target) when alpha == 2": {"kind": "equal"},
    "finite in float16": {"kind": "finite", "word": "float16"},
    "finite in float32": {"kind": "finite", "word": "float32"},
    "finite of per in bfloat16 on abs(x) <= 10": {"kind": "finite", "of": "per"},
    "convex in x at defaults": {"kind": "word", "at_defaults": True},
    "x >= 0 when a == 0 on abs(x) <= 10 at defaults": {"kind": "bound", "at_defaults": True},
}


@pytest.mark.parametrize("text", CLAIMS)
def test_every_row_of_the_table_of_claims(text: str) -> None:
    claimed = claim(text)
    assert claimed.text == text
    for name, value in CLAIMS[text].items():
        assert getattr(claimed, name) == value
    for word, present in (("when", " when "), ("on", " on "), ("at", " at pred"), ("where", " where ")):
        assert (getattr(claimed, word) is not None) == (present in text)
    if " in " in text and claimed.kind not in ("finite", "invariant", "bound"):
        assert claimed.inputs


def test_property_words_stay_names() -> None:
    claimed = claim("convex + bounded >= minimum when strictly == 1")
    assert claimed.kind == "bound"
    assert claim("convex in convex").inputs == (tree.Ident(name="convex"),)


# -------------------------------------------------------------------------------------------------- all the errors


def test_one_missing_bracket_does_not_hide_the_others() -> None:
    """Nine statements; the second lacks a bracket, four of the later ones have errors of their own."""
    good = [f"y{k} = exp(x)" for k in range(9)]
    lines = list(good)
    lines[1] = "y1 = sum(exp(x over n"
    lines[3] = "y3 = x x"
    lines[5] = "y5 = 2x"
    lines[6] = "inptu z: real"
    lines[8] = "return"
    module, problems = read("loss a:\n" + "".join(f"    {line}\n" for line in lines))
    assert [(p.code, p.span.line) for p in problems] == [
        ("E0102", 3),
        ("E0101", 5),
        ("E0101", 7),
        ("E0107", 8),
        ("E0112", 10),
    ]
    assert (problems[0].span.column, problems[0].span.end_column) == (17, 18)
    loss = module.items[0]
    assert isinstance(loss, tree.Loss)
    assert [s.names[0].name for s in loss.body if isinstance(s, tree.Definition)] == ["y0", "y2", "y4", "y7"]
    module, problems = read("loss a:\n" + "".join(f"    {line}\n" for line in [good[0], lines[1], *good[2:]]))
    assert [(p.code, p.span.line) for p in problems] == [("E0102", 3)]


@pytest.mark.parametrize(
    ("line", "code", "place", "help"),
    [
        ("y = x ^ ^ 2", "E0101", "^", "did you mean `^`?"),
        ("y = x^^2", "E0101", "^", "did you mean `^`?"),
        ("y = x && z", "E0105", "&&", "write `and`"),
        ("y = 3x", "E0101", "3x", "did you mean `3 * x`?"),
        ("y = x => z", "E0101", "=>", "did you mean `>=`?"),
        ("y = x.sum()", "E0101", ".", "there are no methods"),
        ("inpt z: real", "E0107", "inpt", "did you mean `input`?"),
        ("input z: float", "E0113", "float", "did you mean `real`?"),
        ("input z: rael", "E0113", "rael", "did you mean `real`?"),
        ("claim strictly convx in x", "E0114", "strictly convx", "did you mean `strictly convex`?"),
        ("y = x if x = 0 else 1", "E0101", "=", "`==` compares"),
        ("y = λ * x", "E0116", "λ", "write `lambda`"),
        ("y = x ≤ z", "E0105", "≤", "write `<=`"),
        ("y = sum(x) over n", "E0101", "over", "inside the brackets"),
        ("y = x²", "E0116", "x²", "write `x^2`"),
        ("y = x_1¹⁰ + 1", "E0116", "x_1¹⁰", "write `x_1^10`"),
        ("def g(a, b = 2) = a * b", "E0101", "=", "no defaults"),
        ("input z: real(n)", "E0101", "(", "square brackets"),
        ("input z: real[]", "E0101", "]", "name the axes"),
        ("claim finite", "E0114", "", "finite in float16"),
    ],
)
def test_messages_name_the_place_and_the_remedy(line: str, code: str, place: str, help: str) -> None:
    text = f"loss a:\n    {line}\n"
    _, problems = read(text)
    assert [p.code for p in problems] == [code]
    span = problems[0].span
    assert text.split("\n")[span.line - 1][span.column - 1 : span.end_column - 1] == place
    assert help in problems[0].help


def test_a_file_is_used_by_its_name() -> None:
    for quote in ("'", '"'):
        _, problems = read(f"use {quote}b.loss{quote}\nloss a:\n    return 1\n")
        assert [p.code for p in problems] == ["E0105"]
        assert "`use name` reads name.loss" in problems[0].help


# ------------------------------------------------------------------------------------------------- hostile input


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("brackets", "(" * 10_000 + "x" + ")" * 10_000, "E0702"),
        ("open brackets", "(" * 10_000, "E0702"),
        ("minus", "-" * 10_000 + "x", "E0702"),
        ("not", "not " * 9_000 + "x", "E0702"),
        ("powers", "^".join(["x"] * 5_000), "E0702"),
        ("sum", "+".join(["x"] * 5_000), "E0702"),
        ("conditions", "x if x else " * 3_000 + "x", "E0702"),
        ("accesses", "x" + "[n]" * 5_000, "E0702"),
        ("long", "[" + "x," * 20_000 + "x]", "E0703"),
        ("unbalanced", "(" * 50_000 + "]" * 50_000, "E0702"),
        ("interval", "in [" + "(" * 199 + ")" * 50_000, "E0103"),
    ],
)
def test_nesting_and_length_are_limited(name: str, text: str, code: str) -> None:
    started = time.perf_counter()
    _, problems = read(f"loss a:\n    y = {text}\n    return y\n")
    assert [p.code for p in problems] == [code]
    assert time.perf_counter() - started < 5


def test_two_hundred_levels_are_allowed() -> None:
    _, problems = read("loss a:\n    y = " + "(" * 198 + "x" + ")" * 198 + "\n")
    assert not problems


@pytest.mark.parametrize(
    "unit",
    [
        *("$\n", "(\n", '"""\n', "x x\n"),
        *(pytest.param(u, marks=pytest.mark.slow) for u in ("\t\n", "a = \n", "loss a:\n", ")[\n")),
        *(pytest.param(u, marks=pytest.mark.slow) for u in ('"""\nloss a:\n', "(\n#\n")),
    ],
)
def test_a_mebibyte_of_anything_is_read_in_seconds(unit: str) -> None:
    started = time.perf_counter()
    _, problems = read(unit * ((1 << 20) // len(unit)))
    assert problems
    assert len(problems) <= 101
    assert time.perf_counter() - started < 20


PIECES = [
    *"()[]+-*/^=<>,:.#\"'\\\n\t ;@$&|!%~{}?",
    '"""',
    "\n    ",
    "\n\t",
    "loss a:\n",
    "def f(a:",
    " over ",
    " where ",
    " if ",
]
PIECES += [
    " else ",
    "claim ",
    "not ",
    "in ",
    "1e999999999",
    "x",
    "é",
    "\u2028",
    "\x00",
    "\r",
    "\ud800",
    "return ",
    "input ",
    "...",
]


def survives(text: str) -> None:
    source = Source("fuzz.loss", text)
    module, problems = parse(source)
    for problem in problems:
        assert render(source, problem)
        assert problem.span.line >= 1
        assert problem.span.column >= 1
    assert isinstance(module, tree.Module)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=60))
def test_no_sequence_of_pieces_raises(pieces: list[str]) -> None:
    survives("".join(pieces))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_no_text_raises(text: str) -> None:
    survives(text)
    survives("loss a:\n    y = " + text)


@pytest.mark.parametrize("path", SPELLED, ids=lambda path: path.stem)
def test_no_mutation_of_a_file_raises(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    generator = random.Random(path.stem)
    for _ in range(60):
        mutated = text
        for _ in range(generator.randint(1, 4)):
            start = generator.randrange(len(mutated))
            end = min(len(mutated), start + generator.choice((0, 0, 1, 3, 40)))
            mutated = mutated[:start] + generator.choice([*PIECES, ""]) + mutated[end:]
        survives(mutated)


# --------------------------------------------------------------------------------------------- after an error


def test_what_is_not_touched_by_an_error_can_be_read_on() -> None:
    module, problems = read(
        "def f(a) = a +\n"
        "def g(a) = a\n"
        "loss a:\n    return f(1)\n"
        "loss b:\n    return g(1)\n"
        "loss c:\n    y = 2x\n    return y\n"
        "loss d:\n    return c() + b()\n"
        "loss e:\n    return d()\n"
    )
    assert [(p.code, p.span.line) for p in problems] == [("E0112", 1), ("E0101", 8)]
    assert module.unread == {"f", "c"}
    names = [item.name.name for item in readable_part(module).items if isinstance(item, tree.Loss | tree.Def)]
    assert names == ["g", "b"]
    module, problems = read("loss a:\n    return 1\n")
    assert readable_part(module) == module
