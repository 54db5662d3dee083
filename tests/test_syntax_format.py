"""The four laws of formatting: the text parses, to an equal tree, with all comments, and is formatted already."""

from __future__ import annotations

import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lossdsl.diagnostics import Source, render
from lossdsl.syntax import tree
from lossdsl.syntax.format import LIMIT, format_expression, format_module
from lossdsl.syntax.layout import bracketed, concat, text
from lossdsl.syntax.layout import render as lay_out
from lossdsl.syntax.parser import parse

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("**/*.loss")) + sorted((HERE.parent / "examples").glob("**/*.loss"))


def correct(path: Path) -> Source | None:
    """The source of a file without syntax errors."""
    try:
        source = Source(path.name, path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return None
    return None if parse(source)[1] else source


CORRECT = [path for path in FILES if correct(path) is not None]


def comments(source: str) -> list[str]:
    """The comments of a text, in order of their words, read without the parser under test."""
    bare = re.sub(r'"""[\s\S]*?"""', '""', source)
    return sorted(line[line.index("#") :].strip("# \t") for line in bare.split("\n") if "#" in line)


def laws(source: Source) -> str:
    module, problems = parse(source)
    assert not problems, "\n".join(render(source, p) for p in problems)
    formatted = format_module(module)
    again, problems = parse(Source("formatted.loss", formatted))
    assert not problems, formatted + "\n".join(render(Source("formatted.loss", formatted), p) for p in problems)
    assert again == module
    assert comments(formatted) == comments(source.text)
    assert format_module(again) == formatted
    return formatted


def test_there_is_a_corpus() -> None:
    assert len([path for path in CORRECT if path.parent.name == "spelled"]) == 4


@pytest.mark.parametrize("path", CORRECT, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_laws_hold_for_every_file(path: Path) -> None:
    source = correct(path)
    assert source is not None
    formatted = laws(source)
    for line in formatted.split("\n"):
        assert line == line.rstrip()
        assert "\t" not in line
    code = re.sub(r"\s*#[^\n]*", "", re.sub(r'"""[\s\S]*?"""', "", formatted))
    assert max(map(len, code.split("\n"))) <= LIMIT
    assert "\n\n\n" not in formatted


@pytest.mark.parametrize("width", [2, 3, 8])
def test_other_indentation_and_line_ends_mean_the_same(width: int) -> None:
    for path in sorted((HERE / "spelled").glob("*.loss")):
        plain = path.read_text(encoding="utf-8")
        module, _ = parse(Source(path.name, plain))
        squeezed = re.sub(r"^( +)", lambda m: " " * (len(m[1]) * width // 4), plain, flags=re.MULTILINE)
        for variant in (squeezed, plain.replace("\n", "\r\n"), re.sub("^    ", "\t", plain, flags=re.MULTILINE)):
            if "\t" in variant:
                variant = re.sub("^\t    ", "\t\t", variant, flags=re.MULTILINE)
            again, problems = parse(Source(path.name, variant))
            assert not problems
            assert format_module(again) == format_module(module)


def test_the_canonical_text() -> None:
    source = (
        "#!first\nuse a.b as c\ndef f( a,b )=a**2+  b\n"
        "loss x :\n"
        '  """\n  Words.\n     More."""\n'
        "  input  a,b:real[ n,... ]>=0=1 # why\n\n\n"
        "  param s:real in(0,1]=.5\n"
        "  y[n,m]=-a[n]^2+f(a [ n = m+1 else 0 ],b,q=2 over n,... descending where not a>0 else-1)\n"
        "  def g(p:real[u]):\n      return p # p\n      # end of g\n"
        "  return(y if a<b else[1,2][n])\n"
        "  claim not lipschitz in a<=2*s in l1 when s==1 at defaults\n"
        "  # end\n#tail\n"
    )
    assert laws(Source("x", source)) == (
        "#!first\nuse a.b as c\ndef f(a, b) = a**2 + b\n\n"
        "loss x:\n"
        '    """\n    Words.\n       More.\n    """\n'
        "    input a, b: real[n, ...] >= 0 = 1  # why\n\n"
        "    param s: real in (0, 1] = .5\n"
        "    y[n, m] = -a[n]^2 + f(a[n = m + 1 else 0], b, q = 2 over n, ... descending where not a > 0 else -1)\n"
        "    def g(p: real[u]):\n        return p  # p\n        # end of g\n"
        "    return (y if a < b else [1, 2][n])\n"
        "    claim not lipschitz in a <= 2 * s in l1 when s == 1 at defaults\n"
        "    # end\n# tail\n"
    )


def test_long_lines_break_where_they_may() -> None:
    long = " + ".join(f"weight_{k} * value_{k}" for k in range(12))
    call = ", ".join(f"argument_number_{k}[n = n + {k} else 0]" for k in range(8))
    nested = f"x if a > b else f({call} over n where mask[n = n - 1]) if c else g((h({call})))"
    source = f"loss a:\n    y = {long}\n    z = f({call} over n)\n    w = {nested}\n    claim {long} >= 0\n"
    formatted = laws(Source("x", source))
    assert max(map(len, formatted.split("\n"))) <= LIMIT
    assert "\n        weight_5 * value_5" in formatted
    assert "\n        argument_number_3[n = n + 3 else 0],\n" in formatted


@pytest.mark.parametrize(
    "words",
    [
        "",
        "a",
        ' "a" ',
        '"a',
        "a\n\n  b",
        "\n  a\n b\n",
        "\\",
        "a\n    b\nc",
        "\n\n\n",
        "a\n\tb\n\t\tc",
        "#a\n(",
        "é",
        "  a\n b",
    ],
)
def test_docstrings_keep_their_words(words: str) -> None:
    source = Source("x", f'loss a:\n    """{words}"""\n    return 1\n')
    if '""""' in source.text.removeprefix('loss a:\n    """"'):  # a quote before the closing ones would end it early
        source = Source("x", source.text.replace('"""\n    return', ' """\n    return'))
    formatted = laws(source)
    assert re.sub(r"\s", "", words) in re.sub(r"\s", "", formatted)


def test_brackets_are_added_to_a_tree_that_needs_them() -> None:
    """A tree may be made by a program; its text never means something else."""
    a, b = tree.Name(id="a"), tree.Name(id="b")
    total = tree.Binary(op="+", left=a, right=b)
    choice = tree.IfElse(value=a, condition=b, otherwise=a)
    assert format_expression(tree.Binary(op="*", left=total, right=total)) == "(a + b) * (a + b)"
    assert format_expression(tree.Binary(op="-", left=a, right=total)) == "a - (a + b)"
    assert format_expression(tree.Binary(op="^", left=tree.Unary(op="-", operand=a), right=b)) == "(-a)^b"
    assert format_expression(tree.Unary(op="-", operand=total)) == "-(a + b)"
    assert format_expression(tree.IfElse(value=choice, condition=choice, otherwise=choice)) == (
        "(a if b else a) if (a if b else a) else a if b else a"
    )
    assert format_expression(tree.Access(base=total, items=(tree.Name(id="n"),))) == "(a + b)[n]"
    assert format_expression(tree.Call(function="sum", arguments=(a,), where=choice)) == "sum(a where (a if b else a))"


def test_layout_breaks_outer_brackets_first() -> None:
    inner = bracketed("(", [text("aaaa,"), text("bbbb")], ")")
    outer = bracketed("[", [inner], "]")
    assert lay_out(outer, 0, 40) == "[(aaaa, bbbb)]"
    assert lay_out(concat("y = ", outer), 0, 18) == "y = [\n    (aaaa, bbbb)\n]"
    assert lay_out(outer, 0, 12) == "[\n    (\n        aaaa,\n        bbbb\n    )\n]"


def test_fmt_needs_neither_torch_nor_sympy() -> None:
    code = (
        "import sys; from lossdsl.syntax.parser import parse; from lossdsl.syntax.format import format_module;"
        "from lossdsl.diagnostics import Source; from lossdsl.syntax.source import read_source;"
        "assert format_module(parse(Source('x', 'loss a:\\n return 1'))[0]);"
        "bad = {'torch', 'triton', 'sympy', 'numpy', 'flint', 'z3'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=HERE.parent)


# -------------------------------------------------------------------------------------------------- random trees

NAMES = st.sampled_from(
    ["x", "y", "n", "c", "claim", "over_", "real", "input", "C1", "backward", "size_", "e1", "floor"]
)
NUMBERS = st.sampled_from(["0", "1", "2.5", ".5", "3.", "1e-4", "1E+2", "007"])


def number(written: str) -> tree.Number:
    return tree.Number(text=written, value=Fraction(written))


AXES = st.lists(st.one_of(NAMES.map(lambda n: tree.Axis(name=n)), st.just(tree.Rest())), min_size=1, max_size=3).map(
    tuple
)
FORMALS = st.lists(
    st.one_of(NAMES.map(lambda n: tree.Axis(name=n)), st.just(tree.Rest()), st.just(tree.FixedAxis(extent=4))),
    min_size=1,
    max_size=3,
).map(tuple)
IDENTS = st.lists(NAMES.map(lambda n: tree.Ident(name=n)), min_size=1, max_size=3).map(tuple)


class Level:
    """Expressions by how tightly they bind, so that a generated tree is one that the grammar can spell."""

    def __init__(self, inner: st.SearchStrategy[Any]) -> None:
        def several(least: int = 1) -> st.SearchStrategy[Any]:
            return st.lists(inner, min_size=least, max_size=3).map(tuple)

        self.paren = inner.map(lambda e: tree.Paren(inner=e))
        keywords = st.lists(st.builds(tree.Keyword, name=NAMES, value=inner), max_size=2, unique_by=lambda k: k.name)
        atom = st.one_of(
            NAMES.map(lambda n: tree.Name(id=n)),
            NUMBERS.map(number),
            self.paren,
            several().map(lambda i: tree.Table(items=i)),
        )
        condition = st.one_of(atom, self.paren)
        call = st.builds(
            tree.Call,
            function=NAMES,
            arguments=several(0),
            keywords=keywords.map(tuple),
            over=st.none() | AXES,
            where=st.none() | condition,
            otherwise=st.none() | inner,
        ).flatmap(self.directed)
        base = st.one_of(NAMES.map(lambda n: tree.Name(id=n)), self.paren, call)
        items = st.lists(
            st.one_of(inner, st.just(tree.Rest()), st.builds(tree.ByName, axis=NAMES, index=inner)),
            min_size=1,
            max_size=3,
        )
        access = st.builds(tree.Access, base=base, items=items.map(tuple), otherwise=st.none() | inner)
        postfix = st.one_of(atom, call, access)
        unary_or_power = st.one_of(
            postfix,
            st.builds(tree.Unary, op=st.just("-"), operand=postfix),
            st.builds(
                tree.Binary,
                op=st.sampled_from(["^", "**"]),
                left=postfix,
                right=postfix | st.builds(tree.Unary, op=st.just("-"), operand=postfix),
            ),
        )
        term = self.chains(unary_or_power, ["*", "/", "//", "%"])
        self.sum = self.chains(term, ["+", "-"])
        compare = st.one_of(self.sum, self.comparison())
        negation = st.one_of(compare, st.builds(tree.Unary, op=st.just("not"), operand=compare))
        self.logic = self.chains(self.chains(negation, ["and"]), ["or"])
        self.expr = st.one_of(
            self.logic, st.builds(tree.IfElse, value=self.logic, condition=self.logic, otherwise=self.logic | inner)
        )

    def comparison(self) -> st.SearchStrategy[Any]:
        ops = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])

        @st.composite
        def build(draw: Any) -> tree.Compare:
            count = draw(st.integers(1, 2))
            return tree.Compare(
                ops=tuple(draw(ops) for _ in range(count)), operands=tuple(draw(self.sum) for _ in range(count + 1))
            )

        return build()

    @staticmethod
    def chains(item: st.SearchStrategy[Any], ops: list[str]) -> st.SearchStrategy[Any]:
        @st.composite
        def build(draw: Any) -> Any:
            value = draw(item)
            for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
                value = tree.Binary(op=draw(st.sampled_from(ops)), left=value, right=draw(item))
            return value

        return build()

    @staticmethod
    def directed(call: tree.Call) -> st.SearchStrategy[Any]:
        if call.over is None:
            return st.just(call)
        fields = {k: getattr(call, k) for k in ("function", "arguments", "keywords", "over", "where", "otherwise")}
        return st.sampled_from([None, "backward", "descending"]).map(lambda d: tree.Call(**fields, direction=d))


LEAF = st.one_of(NAMES.map(lambda n: tree.Name(id=n)), NUMBERS.map(number))
INNER = Level(LEAF).expr
OUTER = Level(INNER)
EXPR, SUM, OR = OUTER.expr, OUTER.sum, OUTER.logic

COMMENT = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=12).map(
    lambda words: words.rstrip().removeprefix(" ")
)
COMMENTS = st.lists(COMMENT, max_size=2).map(tuple)
PARAGRAPHS = st.lists(st.lists(COMMENT, min_size=1, max_size=2).map(tuple), max_size=2).map(tuple)
TRIVIA = {"leading": COMMENTS, "trailing": st.none() | COMMENT, "detached": PARAGRAPHS, "blank_before": st.booleans()}

TYPES = st.builds(
    tree.Type,
    kind=st.sampled_from(["real", "int", "class", "simplex"]),
    axes=st.none() | FORMALS,
    domains=st.lists(
        st.one_of(
            st.builds(tree.CompareWith, op=st.sampled_from(["<", ">=", "!="]), bound=SUM),
            st.builds(tree.Between, lower=SUM, upper=SUM, lower_open=st.booleans(), upper_open=st.booleans()),
            st.builds(tree.Of, of=SUM, otherwise=st.none() | SUM),
        ),
        max_size=2,
    ).map(tuple),
)
DOMAINLESS = st.builds(tree.Type, kind=st.sampled_from(["real", "unit"]), axes=st.none() | FORMALS)
ALONG = st.builds(tree.Type, kind=st.just("simplex"), axes=FORMALS, domains=AXES.map(lambda a: (tree.Along(axes=a),)))


def declarations() -> st.SearchStrategy[Any]:
    @st.composite
    def build(draw: Any) -> tree.Declaration:
        names = draw(IDENTS)
        count = draw(st.sampled_from([0, 1, len(names)]))
        return tree.Declaration(
            keyword=draw(st.sampled_from(["input", "param", "learnable", "state"])),
            names=names,
            type=draw(TYPES | ALONG),
            defaults=tuple(draw(EXPR) for _ in range(count)),
            **{name: draw(strategy) for name, strategy in TRIVIA.items()},
        )

    return build()


def claims() -> st.SearchStrategy[Any]:
    common = {
        "negated": st.booleans(),
        "when": st.none() | OR,
        "on": st.none() | OR,
        "at_defaults": st.booleans(),
        **TRIVIA,
    }
    aimed = {**common, "of": st.none() | NAMES, "inputs": IDENTS}

    def make(kind: str, **given: Any) -> st.SearchStrategy[Any]:
        return st.builds(tree.Claim, kind=st.just(kind), **given)

    return st.one_of(
        make("bound", expression=OUTER.comparison(), **common),
        make(
            "word",
            word=st.sampled_from(
                ["convex", "strictly convex", "C1", "redescending", "self-concordant", "vanishing gradient"]
            ),
            **aimed,
        ),
        make(
            "word",
            word=st.sampled_from(["bounded", "noise symmetric"]),
            of=st.none() | NAMES,
            link=st.none() | EXPR,
            **common,
        ),
        make("monotone", word=st.sampled_from(["increasing", "strictly decreasing"]), **aimed),
        make("lipschitz", op=st.just("<="), bound=SUM, norm=st.sampled_from([None, "l1", "linf"]), **aimed),
        make("gradient lipschitz", norm=st.sampled_from([None, "l2"]), **aimed),
        make("strongly convex", op=st.just(">="), bound=SUM, **aimed),
        make("infimum", of=NAMES, op=st.just("=="), bound=SUM, **common),
        make("unique minimum", of=st.none() | NAMES, at=OR, **common),
        make(
            "invariant",
            transform=st.sampled_from(["shift", "permutation"]),
            inputs=IDENTS,
            over=st.none() | AXES,
            **common,
        ),
        make("even", **aimed),
        make("exchange symmetric", **aimed),
        make("zero gradient", where=OR, **aimed),
        make("equal", expression=EXPR, **common),
        make("finite", word=st.sampled_from(["float16", "bfloat16"]), of=st.none() | NAMES, **common),
    )


IDENT = NAMES.map(lambda n: tree.Ident(name=n))
ARGUMENTS = st.lists(
    st.builds(tree.DefArgument, name=NAMES, type=st.none() | DOMAINLESS | TYPES), min_size=1, max_size=3
).map(tuple)
AXIS = st.builds(tree.AxisDeclaration, names=IDENTS, extent=EXPR, **TRIVIA)
DEFINITION = st.one_of(
    st.builds(tree.Definition, names=IDENTS, axes=st.none(), value=EXPR, **TRIVIA),
    st.builds(tree.Definition, names=IDENT.map(lambda i: (i,)), axes=FORMALS, value=EXPR, **TRIVIA),
)
RETURN = st.builds(tree.Return, values=st.lists(EXPR, min_size=1, max_size=2).map(tuple), **TRIVIA)
FUNCTION = st.builds(tree.Def, name=IDENT, arguments=ARGUMENTS, value=EXPR, **TRIVIA)
BLOCK = st.builds(
    tree.Def,
    name=IDENT,
    arguments=ARGUMENTS,
    body=st.lists(st.one_of(AXIS, DEFINITION, RETURN), min_size=1, max_size=2).map(tuple),
    closing=PARAGRAPHS,
    **TRIVIA,
)
STATEMENT = st.one_of(
    declarations(),
    claims(),
    AXIS,
    DEFINITION,
    RETURN,
    FUNCTION,
    BLOCK,
    st.builds(tree.Update, name=IDENT, axes=st.none() | FORMALS, value=EXPR, **TRIVIA),
    st.builds(tree.Report, name=IDENT, value=EXPR, **TRIVIA),
)
# A docstring in the form that the parser gives it: no spaces at line ends, no common indentation, nothing empty around.
DOCSTRING = st.lists(st.sampled_from(["a", "  b", "", 'c "quoted"', "# d ("]), max_size=4).map(
    lambda lines: "\n".join(["First.", *lines]).rstrip("\n")
)
LOSS = st.builds(
    tree.Loss,
    name=IDENT,
    docstring=st.none() | DOCSTRING,
    body=st.lists(STATEMENT, min_size=1, max_size=3).map(tuple),
    closing=PARAGRAPHS,
    **TRIVIA,
)
USE = st.builds(tree.Use, path=st.lists(NAMES, min_size=1, max_size=3).map(tuple), alias=st.none() | IDENT, **TRIVIA)
MODULE = st.builds(
    tree.Module,
    items=st.lists(st.one_of(LOSS, LOSS, USE, FUNCTION, BLOCK), min_size=1, max_size=3).map(tuple),
    closing=PARAGRAPHS,
)


def words_of(module: Any) -> list[str]:
    """All comments of a tree."""
    found: list[str] = []
    stack = [module]
    while stack:
        node = stack.pop()
        if isinstance(node, tree.Statement):
            found += [*node.leading, *([] if node.trailing is None else [node.trailing])]
            found += [line for paragraph in node.detached for line in paragraph]
        found += [line for paragraph in getattr(node, "closing", ()) for line in paragraph]
        stack += [*getattr(node, "items", ()), *getattr(node, "body", ())] if not isinstance(node, str) else []
    return sorted(line.strip("# \t") for line in found)


@settings(max_examples=16, deadline=None, suppress_health_check=list(HealthCheck))
@given(MODULE)
def test_random_trees_survive(module: tree.Module) -> None:
    formatted = format_module(module)
    again, problems = parse(Source("random.loss", formatted))
    assert not problems, formatted + "\n".join(render(Source("random.loss", formatted), p) for p in problems)
    assert again == module, formatted
    assert words_of(again) == words_of(module)
    assert format_module(again) == formatted
