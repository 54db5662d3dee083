"""What is wrong with a statement, in the words of the language and not of its grammar."""

from __future__ import annotations

import unicodedata
from difflib import get_close_matches

from lossdsl.diagnostics import Diagnostic, Span
from lossdsl.syntax.grammar import parser
from lossdsl.syntax.lines import Lexeme

STATEMENTS = (
    "input", "param", "learnable", "state", "axis", "def", "report", "return", "update", "claim", "use", "loss",
)  # fmt: skip
KINDS = ("real", "int", "bool", "binary", "sign", "prob", "class", "simplex", "unit")
PROPERTIES = (
    "convex", "strictly convex", "concave", "strictly concave", "quasiconvex", "affine", "strongly convex",
    "redescending", "vanishing gradient", "exploding gradient", "differentiable", "C0", "C1", "C2", "smooth", "self-concordant", "lipschitz", "gradient lipschitz", "increasing",
    "decreasing", "strictly increasing", "strictly decreasing", "bounded", "infimum", "minimum", "unique minimum",
    "calibrated", "proper", "strictly proper", "noise symmetric", "invariant", "exchange symmetric", "even", "odd",
    "zero gradient", "equal to", "finite",
)  # fmt: skip
OTHER_KINDS = {
    "float": "real", "double": "real", "tensor": "real", "number": "real", "float32": "real", "float16": "real",
    "integer": "int", "long": "int", "index": "int", "boolean": "bool", "mask": "bool", "label": "class",
    "labels": "class", "probability": "prob", "string": "real",
}  # fmt: skip
OTHER_STATEMENTS = {
    "if": "a condition is part of an expression: `a if condition else b`",
    "elif": "write `a if c else b if d else e`",
    "else": "a condition is part of an expression: `a if condition else b`",
    "for": "there are no loops: an axis name is an index, and `sum(... over n)` runs over it",
    "while": "there are no loops: a definition that reads itself at an earlier position is a recurrence",
    "import": "`use field.name` brings in another file",
    "from": "`use field.name` brings in another file",
    "let": "a definition is just `name = expression`",
    "var": "a definition is just `name = expression`",
    "class": "a loss begins with `loss name:`",
    "function": "a function begins with `def`",
    "assert": "`claim` states what has to be true",
    "parameter": "parameters are declared with `param`",
    "output": "the value is given with `return`",
}
SIGNS = {
    "&&": "write `and`", "&": "write `and`", "||": "write `or`", "|": "write `or`", "!": "write `not`",
    "~": "write `not`", ";": "write one statement a line", "'": "there are no strings",
    '"': "there are no strings; a docstring has three quotes",
    "\\": "a line is continued inside brackets, or after an operator at its end", "{": "use ( ) or [ ]",
    "}": "use ( ) or [ ]", "@": "a matrix product is written with its indices: `sum(a[n, k] * b[k, m] over k)`",
    "?": "write `a if condition else b`", ":=": "a definition has `=`, on a line of its own",
    "+=": "nothing is changed in place; give the new value a name of its own",
    "-=": "nothing is changed in place; give the new value a name of its own",
    "*=": "nothing is changed in place; give the new value a name of its own",
    "/=": "not equal is `!=`; nothing is changed in place", "−": "write `-`", "–": "write `-`", "—": "write `-`",
    "×": "write `*`", "·": "write `*`", "⋅": "write `*`", "∙": "write `*`", "÷": "write `/`", "≤": "write `<=`",
    "≥": "write `>=`", "≠": "write `!=`", "²": "write `^2`", "³": "write `^3`", "√": "write `sqrt(...)`",
    "∞": "write `inf`", "∑": "write `sum(... over n)`", "∏": "write `prod(... over n)`", "∈": "write `in`",
    "→": "write `=`", "…": "write three dots `...`", "\u00a0": "write an ordinary space", "\ufeff": "remove it",
    "“": "a docstring has three plain quotes", "”": "a docstring has three plain quotes",
}  # fmt: skip
_NO_PATH = (
    "`use name` reads name.loss beside this file, `use folder.name` one in a folder beside it or of the catalogue"
)
SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
OPERATORS = frozenset(("+", "-", "*", "/", "//", "%", "^", "**", "<", "<=", ">", ">=", "==", "!=", "and", "or"))
OPERATOR_TERMINALS = frozenset(
    ("PLUS", "MINUS", "STAR", "SLASH", "FLOOR_DIVIDE", "PERCENT", "CARET", "DOUBLE_STAR", "AND", "OR", "IF")
)
EXPRESSION_WORDS = frozenset(("and", "or", "not", "if", "else", "over", "where"))
CLAUSES = ("over", "where", "else", "backward", "descending")


def explain_characters(words: list[Lexeme]) -> Diagnostic | None:
    """The first character of a statement that the language does not have, or None."""
    for word in words:
        if word.kind == "bad":
            shown = word.text if word.text.isprintable() else f"U+{ord(word.text[0]):04X}"
            file = words[0].text == "use" and word.text in ("'", '"')
            help = _NO_PATH if file else SIGNS.get(word.text, "remove it")
            return Diagnostic("E0105", f"`{shown}` is not in the language", word.span, help)
        if word.kind == "name" and not word.text.isascii():
            spelled = ascii_name(word.text)
            base = word.text.rstrip(SUPERSCRIPTS)
            if base != word.text and base.isascii() and base:
                power = unicodedata.normalize("NFKD", word.text[len(base) :])
                help = f"write `{base}^{power}`"
                return Diagnostic("E0116", f"the name `{word.text}` is not ASCII", word.span, help)
            help = f"write `{spelled}`" if spelled else "use the letters a to z"
            return Diagnostic("E0116", f"the name `{word.text}` is not ASCII", word.span, help)
    return None


def ascii_name(text: str) -> str:
    """A name in ASCII for one with Greek or accented letters, or nothing."""
    out = ""
    for character in text:
        words = unicodedata.name(character, "").split()
        plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        if character.isascii() or (plain and plain.isalnum()):
            out += plain or character
        elif character.casefold().isascii():
            out += character.casefold()
        elif words[:1] == ["GREEK"] and "LETTER" in words and words[-1] != "LETTER":
            spelled = words[words.index("LETTER") + 1].lower().replace("lamda", "lambda")  # Unicode's own spelling
            out += spelled if words[1] == "SMALL" else spelled.capitalize()
    return out if out and not out[0].isdigit() else ""


def suggestion(word: str, known: tuple[str, ...]) -> str:
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else ""


def explain(words: list[Lexeme], index: int, expected: frozenset[str]) -> Diagnostic:
    """The diagnostic for a statement that the grammar refused at lexeme `index`, where `expected` could have stood."""
    return _Failed(words, index, expected).diagnostic()


class _Failed:
    def __init__(self, words: list[Lexeme], index: int, expected: frozenset[str]) -> None:
        self.words = words
        self.index = index
        self.expected = expected
        self.word = words[index] if index < len(words) else None
        self.before = words[index - 1] if index else None
        self.first = words[0].text
        if self.word is not None:
            self.span = self.word.span
        else:
            last = words[-1].span
            self.span = Span(last.line, last.end_column, last.line, last.end_column + 1)

    def diagnostic(self) -> Diagnostic:
        if self.word is not None and self.word.kind == "doc":
            help = "a docstring stands alone, directly below its `loss` line"
            return Diagnostic("E0111", "a docstring cannot stand here", self.span, help)
        for rule in (
            self.no_statement,
            self.declaration,
            self.kind,
            self.claim,
            self.glued,
            self.ended,
            self.sign,
            self.clause,
        ):
            found = rule()
            if found is not None:
                return found
        return self.other()

    # each rule gives a diagnostic or None

    def no_statement(self) -> Diagnostic | None:
        if self.index > 0 or self.word is None:
            return None
        word, after = self.word, self.words[1].text if len(self.words) > 1 else ""
        if word.text in OTHER_STATEMENTS:
            return Diagnostic("E0107", f"there is no statement `{word.text}`", self.span, OTHER_STATEMENTS[word.text])
        if word.kind != "name":
            message, help = f"a statement cannot begin with `{word.text}`", "a value needs a name: `name = ...`"
            return Diagnostic("E0107", message, self.span, help)
        if after == "==":
            return Diagnostic("E0101", "a definition has one `=`", self.words[1].span, "write `=`")
        if after == ":":
            help = f"inputs and parameters are declared with a word: `input {word.text}: ...`"
            return Diagnostic("E0107", f"`{word.text}:` begins no statement", self.span, help)
        close = suggestion(word.text, STATEMENTS)
        if len(self.words) > 1 and self.words[1].kind == "name" and after not in OPERATORS | {"if"}:
            help = close or "statements are " + ", ".join(STATEMENTS) + ", and definitions"
            return Diagnostic("E0107", f"there is no statement `{word.text}`", self.span, help)
        message = "an expression alone is not a statement"
        return Diagnostic("E0107", message, self.span, "give it a name, `name = ...`, or write `return ...`")

    def declaration(self) -> Diagnostic | None:
        """A missing colon or name."""
        if "COLON" in self.expected and self.first in ("loss", "input", "param", "learnable", "state"):
            before = self.before.text if self.before else self.first
            colon = next((k for k, w in enumerate(self.words[self.index :]) if w.text == ":"), None)
            if colon is not None and self.word is not None and self.word.kind == "name" and "COMMA" in self.expected:
                return Diagnostic(
                    "E0101", f"`{self.word.text}` cannot stand here", self.span, "names are parted by commas"
                )
            shape = "loss name:" if self.first == "loss" else f"{self.first} name: type"
            return Diagnostic("E0104", f"a colon is missing after `{before}`", self.span, f"write `{shape}`")
        if self.first == "loss" and self.before is not None and self.before.text == ":":
            return Diagnostic("E0101", "a loss is written in lines of its own", self.span, "begin a new, indented line")
        if self.expected == {"NAME"}:
            before = self.before.text if self.before else ""
            code = "E0112" if self.word is None else "E0101"
            found = f", not `{self.word.text}`" if self.word else ""
            return Diagnostic(code, f"a name is expected after `{before}`{found}", self.span, self.number_name())
        return None

    def inside(self) -> list[str]:
        """The words since the innermost bracket that is open."""
        depth = 0
        for k in range(self.index - 1, -1, -1):
            depth += (self.words[k].kind == "close") - (self.words[k].kind == "open")
            if depth < 0:
                return [w.text for w in self.words[k + 1 : self.index]]
        return []

    def depth(self) -> int:
        """How many brackets are open before the place."""
        return sum((word.kind == "open") - (word.kind == "close") for word in self.words[: self.index])

    def number_name(self) -> str:
        return "a name begins with a letter" if self.word is not None and self.word.kind == "number" else ""

    def kind(self) -> Diagnostic | None:
        if "KIND" not in self.expected:
            return None
        kinds = "types are " + ", ".join(KINDS)
        if self.word is None:
            return Diagnostic("E0112", "a type is missing after the colon", self.span, kinds)
        text = self.word.text
        help = (
            f"did you mean `{OTHER_KINDS[text.lower()]}`?" if text.lower() in OTHER_KINDS else suggestion(text, KINDS)
        )
        return Diagnostic("E0113", f"`{text}` is not a type", self.span, help or kinds)

    def claim(self) -> Diagnostic | None:
        if self.first != "claim":
            return None
        start = 2 if len(self.words) > 1 and self.words[1].text == "not" else 1
        if self.word is None and self.index == start:
            return Diagnostic("E0112", "a property is missing", self.span, "for instance `claim convex in pred`")
        if "IN" in self.expected and not (self.word is not None and self.expected & OPERATOR_TERMINALS):
            said = " ".join(w.text for w in self.words[start : self.index])
            if said == "finite":
                message = "finite in which arithmetic?"
                return Diagnostic("E0114", message, self.span, "for instance `claim finite in float16`")
            help = f"for instance `claim {said} in pred`"
            return Diagnostic("E0114", f"`{said}` of what? The name of an input is missing", self.span, help)
        if self.word is None:
            known = " ".join(PROPERTIES).split()
            unknown = self.index == start + 1 and self.words[start].text not in known
            return self.unknown_property(start) if unknown else None
        if self.index <= start + 1 and self.index < len(self.words) and not self.expected & OPERATOR_TERMINALS:
            return self.unknown_property(start)
        if self.index == start + 1 and self.words[start].text not in " ".join(PROPERTIES).split():
            return self.unknown_property(start)
        return None

    def unknown_property(self, start: int) -> Diagnostic:
        said = self.words[start].text
        if self.index > start and self.word is not None and self.word.kind == "name":
            pair = f"{said} {self.word.text}"
            close = suggestion(pair, PROPERTIES)
            if self.words[start].text in " ".join(PROPERTIES).split() and close:
                return Diagnostic("E0114", f"`{pair}` is not a property", self.words[start].span.to(self.span), close)
        help = suggestion(said, PROPERTIES) or "a claim is a comparison, or a property such as `convex in pred`"
        return Diagnostic("E0114", f"`{said}` is not a property", self.words[start].span, help)

    def glued(self) -> Diagnostic | None:
        before, word = self.before, self.word
        if before is None or word is None or before.end != word.start or before.kind != "number":
            return None
        if word.kind == "name":
            help = f"did you mean `{before.text} * {word.text}`?"
            return Diagnostic(
                "E0101", f"`{before.text}{word.text}` is neither a number nor a name", before.span.to(self.span), help
            )
        if word.text == "(":
            return Diagnostic("E0101", "a number cannot be called", self.span, f"did you mean `{before.text} * (...)`?")
        return None

    def ended(self) -> Diagnostic | None:
        if self.word is not None:
            return None
        before = self.words[-1].text
        if self.wants_value():
            return Diagnostic("E0112", f"an expression is missing after `{before}`", self.span)
        if "ELSE" in self.expected:
            return Diagnostic("E0112", "`a if condition` needs `else b`", self.span, "say what holds otherwise")
        if self.first == "def" and "COLON" in self.expected:
            help = "write `def f(a, b) = expression`, or a colon and indented lines"
            return Diagnostic("E0104", "`=` or a colon is missing after the arguments", self.span, help)
        return Diagnostic("E0112", f"the statement ends too early, after `{before}`", self.span, self.wanted())

    def sign(self) -> Diagnostic | None:
        """Signs that mean something in other languages."""
        word, before = self.word, self.before
        if word is None:
            return None
        text, previous = word.text, before.text if before else ""
        if text == ".":
            help = "there are no methods: `sum(x over n)`, not `x.sum()`"
            return Diagnostic("E0101", "`.` cannot stand here", self.span, help)
        if text == "=" and previous not in ("<", ">", "="):
            after = self.words[self.index + 1] if self.index + 1 < len(self.words) else None
            if after is not None and after.start == word.end and after.text in ("<", ">"):
                help = f"did you mean `{after.text}=`?"
                return Diagnostic("E0101", f"`={after.text}` is not an operator", self.span.to(after.span), help)
            help = "`==` compares" if self.expected & OPERATOR_TERMINALS else self.wanted()
            if self.first == "def" and self.depth() == 1 and "COLON" in self.expected:
                help = "the arguments of a function have no defaults"
            return Diagnostic("E0101", "`=` cannot stand here", self.span, help)
        if text == ":":
            help = self.wanted()
            if self.depth() > 0:
                help = "there are no slices: shift an index, `x[n = n + 1]`, or restrict with `where`"
            return Diagnostic("E0101", "`:` cannot stand here", self.span, help)
        if text == "," and "RSQB" in self.expected and "COMMA" not in self.expected and "else" in self.inside():
            help = "`else` stands once, after all positions: `x[i - 1, j - 1 else 0]`"
            return Diagnostic("E0101", "`,` cannot stand here", self.span, help)
        if text == "(" and self.expected & {"IN", "OF", "OVER"} and "LSQB" in self.expected:
            help = "axes stand in square brackets: `real[n, c]`"
            return Diagnostic("E0101", "`(` cannot stand here", self.span, help)
        if text == "]" and previous == "[" and self.first in ("input", "param", "learnable", "state"):
            help = "name the axes, `real[n, c]`, or leave the brackets out for a single number"
            return Diagnostic("E0101", "there are no axes between `[` and `]`", self.span, help)
        if text == "[" and self.expected & {"IN", "OF", "OVER"}:
            help = "axes stand before the domain: `real[n, c] >= 0`"
            return Diagnostic("E0101", "`[` cannot stand here", self.span, help)
        if not self.wants_value():
            return None
        if previous + text in ("^^", "***", "**^", "^**"):
            return Diagnostic("E0101", f"`{previous}{text}` is not an operator", self.span, "did you mean `^`?")
        if previous + text in ("=>", "=<", "<>", "><"):
            help = {"=>": "did you mean `>=`?", "=<": "did you mean `<=`?"}.get(previous + text, "did you mean `!=`?")
            return Diagnostic("E0101", f"`{previous}{text}` is not an operator", self.span, help)
        if text in OPERATORS:
            help = "there is no sign `+` before a value; leave it out" if text == "+" else ""
            return Diagnostic("E0101", f"an expression is expected after `{previous}`, not `{text}`", self.span, help)
        if word.kind == "close" or text in (",", "in", "of"):
            return Diagnostic("E0101", f"an expression is missing between `{previous}` and `{text}`", self.span)
        if text in ("if", "else", "over", "where"):
            return Diagnostic("E0101", f"an expression is missing before `{text}`", self.span)
        return None

    def clause(self) -> Diagnostic | None:
        word, before = self.word, self.before
        if word is None or before is None:
            return None
        if word.text in CLAUSES:
            help = "clauses stand in this order: `over axes`, `backward` or `descending`, `where`, `else`"
            if self.depth() == 0:
                help = f"`{word.text}` stands inside the brackets of the call or access that it belongs to"
            return Diagnostic("E0101", f"`{word.text}` cannot stand here", self.span, help)
        if "ELSE" in self.expected and any(w.text == "if" for w in self.words[: self.index]) and word.kind == "close":
            return Diagnostic("E0101", "`a if condition` needs `else b`", self.span, "say what holds otherwise")
        ends_value = before.kind in ("name", "number", "close") and before.text not in OPERATORS | {"if", "else", "not"}
        if word.kind in ("name", "number") and ends_value and self.expected & OPERATOR_TERMINALS:
            message = f"an operator is missing between `{before.text}` and `{word.text}`"
            known = {"lambda": "functions have names: `def f(a) = ...`", "default": "a default follows `=`"}
            return Diagnostic("E0101", message, self.span, known.get(before.text) or known.get(word.text, ""))
        if before.text in EXPRESSION_WORDS and "STAR" in self.expected:
            help = "write `a if condition else b`" if before.text in ("if", "else") else ""
            return Diagnostic("E0101", f"`{before.text}` cannot stand here", before.span, help)
        return None

    def other(self) -> Diagnostic:
        text = self.word.text if self.word else ""
        return Diagnostic("E0101", f"`{text}` cannot stand here", self.span, self.wanted())

    # ---- what could have stood here

    def wants_value(self) -> bool:
        return "LPAR" in self.expected and "NAME" in self.expected and "NUMBER" in self.expected

    def wanted(self) -> str:
        """The expected terminals as a phrase, or nothing where they are too many to help."""
        rest = set(self.expected)
        phrases: list[str] = []
        if self.wants_value():
            phrases.append("an expression")
            rest -= {"LPAR", "NAME", "NUMBER", "MINUS", "NOT", "LSQB"}
        if rest & {"STAR", "CARET"}:
            phrases.append("an operator")
            rest -= OPERATOR_TERMINALS | {"CMP", "LSQB"}
        for name, phrase in (("NAME", "a name"), ("NUMBER", "a number"), ("CMP", "a comparison"), ("KIND", "a type")):
            if name in rest:
                phrases.append(phrase)
                rest.remove(name)
        if "$END" in rest:
            rest.remove("$END")
            phrases.append("the end of the statement")
        for name in sorted(rest):
            phrases.append(f"`{parser().get_terminal(name).pattern.value}`")
        return "expected " + " or ".join(phrases) if 0 < len(phrases) <= 5 else ""
