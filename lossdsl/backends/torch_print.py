"""Printing a kernel's instructions as lines of torch: the fused way (memory reused by lifetime) and the formula.

Fused: every register is one variable; a call writes into the memory of an operand that dies there, else into memory
that died before, else allocates. Memory that the caller owns (inputs), that is stored, or that is viewed is never
written. The formula writes nothing in place; what is used once is printed inside its reader.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from lossdsl.backends.text import (
    ATOM,
    BITAND,
    BITOR,
    COMPARE,
    POWER,
    PRODUCT,
    SUM,
    UNARY,
    WIDTH,
    Text,
    power_text,
    printable,
)
from lossdsl.backends.torch_body import Body
from lossdsl.backends.torch_ops import IN_PLACE, NUMBERS, OUT
from lossdsl.backends.torch_register import Instr, Number, Reg, Term, Write

_SIGN = {"add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_SIGN |= {"eq": "==", "ne": "!=", "and": "&", "or": "|"}
_LEVEL = {"add": SUM, "sub": SUM, "mul": PRODUCT, "div": PRODUCT, "and": BITAND, "or": BITOR}
_FLIP = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq", "ne": "ne"}
_METHOD = {"and": "logical_and", "or": "logical_or", "not": "logical_not"}

Line = Callable[[str], None]
Write_ = Callable[[Write], None]


def term_text(term: Term) -> Text:
    """The term as an expression."""
    if isinstance(term, Number):
        return term.text
    return term.text if term.text is not None else Text(term.name)


def expression(instr: Instr) -> Text:
    """The instruction as an expression that allocates its result."""
    function, args = instr.function, [term_text(a) for a in instr.args]
    if function == "text":
        level = instr.strength
        taken = "}." in instr.template or "}[" in instr.template
        inner = ATOM if taken else level + 1
        plain = not taken and not instr.template.startswith("{")
        return Text(instr.template.format(*(a.text if plain else a.at(inner) for a in args)), level)
    if function in _LEVEL:
        level = _LEVEL[function]
        return Text(f"{args[0].at(level)} {_SIGN[function]} {args[1].at(level + 1)}", level)
    if function in _FLIP:
        return Text(f"{args[0].at(BITOR)} {_SIGN[function]} {args[1].at(BITOR)}", COMPARE)
    if function == "neg":
        negated = args[0].at(ATOM if args[0].strength == POWER else UNARY)  # -(x**2), as formatters write it
        return Text(f"-{negated}", UNARY)
    if function == "not":
        return Text(f"~{args[0].at(UNARY)}", UNARY)
    if function == "torch.pow" and isinstance(instr.args[1], Number):
        return Text(power_text(args[0].at(ATOM), args[1].at(UNARY)), POWER)
    name = "torch.where" if function == "where" else function
    tail = [a.text for a in args] + [f"{k}={v}" for k, v in instr.options]
    if function.startswith("."):
        return Text(f"{args[0].at(ATOM)}{function}({', '.join(tail[1:])})")
    return Text(f"{name}({', '.join(tail)})")


def print_fused(body: Body, items: Sequence[Instr | Write], line: Line, write: Write_) -> None:
    """Print with memory reused. `write` prints a store; what it stores is pinned before."""
    _Fused(body, items, line, write).run()


def print_formula(body: Body, items: Sequence[Instr | Write], line: Line, write: Write_) -> None:
    """Print out of place, as differentiable torch operations."""
    _Formula(body, items, line, write).run()


class _Printer:
    def __init__(self, body: Body, items: Sequence[Instr | Write], line: Line, write: Write_) -> None:
        self.body, self.items, self.line, self.write = body, needed(items), line, write
        self.uses: dict[Reg, int] = {}
        self.last: dict[Reg, int] = {}
        for at, item in enumerate(self.items):
            for reg in operands(item):
                self.uses[reg] = self.uses.get(reg, 0) + 1
                self.last[reg] = at

    def comment(self, instr: Instr) -> None:
        if instr.comment:
            text = printable(instr.comment)
            if text:
                self.line(f"# {text}")

    def name(self, reg: Reg) -> str:
        if not reg.name:
            reg.name = self.body.scope.names.fresh(reg.wanted)
        return reg.name


def needed(items: Sequence[Instr | Write]) -> list[Instr | Write]:
    """The items that a write depends on, in order."""
    wanted: set[Reg] = set()
    kept: list[Instr | Write] = []
    for item in reversed(items):
        if isinstance(item, Write) or item.dest in wanted:
            kept.append(item)
            wanted.update(operands(item))
    return kept[::-1]


def operands(item: Instr | Write) -> list[Reg]:
    """Registers that an item reads."""
    if isinstance(item, Instr):
        return [a for a in item.args if isinstance(a, Reg)]
    return [t for t in (item.value, item.guard, *item.positions) if isinstance(t, Reg)]


class _Formula(_Printer):
    def run(self) -> None:
        for item in self.items:
            if isinstance(item, Write):
                self.write(item)
                continue
            text = expression(item)
            reg = item.dest
            if self.uses.get(reg, 0) == 0:
                continue
            single = self.uses[reg] == 1 and reg.wanted == "t" and not item.comment
            if single and len(text.text) <= WIDTH // 2:
                reg.text = text
                continue
            self.comment(item)
            self.line(f"{self.name(reg)} = {text}")


class _Fused(_Printer):
    def __init__(self, body: Body, items: Sequence[Instr | Write], line: Line, write: Write_) -> None:
        super().__init__(body, items, line, write)
        items = self.items
        # What is viewed, or stored, is never written again.
        self.kept: set[Reg] = set()
        for item in items:
            if isinstance(item, Write) or item.aliases or not item.dest.owned:
                self.kept.update(operands(item))
        self.pool: dict[tuple[frozenset[str], str], list[str]] = {}
        # What a round of a recurrence stores, and nothing else reads, is computed where it is stored.
        self.places: dict[Reg, str] = {}
        for item in items:
            if isinstance(item, Write) and isinstance(item.value, Reg) and self.uses[item.value] == 1:
                place = body.place(item)
                if place is not None:
                    self.places[item.value] = place

        # A product that is added to a buffer is never made: torch adds it up as it multiplies.
        self.products: set[Reg] = set()
        live = [i for i in items if isinstance(i, Write) or i.dest in self.last]
        for made, then in pairwise(live):
            if isinstance(made, Instr) and made.function == "mul" and isinstance(then, Write):
                if any(body.moves(a) for a in made.args):
                    continue
                if then.value is made.dest and self.uses[made.dest] == 1 and body.adds_in_place(then):
                    left, right = (body.tensor(a) for a in made.args)
                    made.dest.product = (right, left) if len(left.axes) < len(right.axes) else (left, right)
                    self.products.add(made.dest)

    def dying(self, reg: Term, at: int) -> bool:
        """Whether the memory of a register may be written by the instruction at that place."""
        return (
            isinstance(reg, Reg) and reg.owned and reg not in self.kept and bool(reg.axes) and self.last.get(reg) == at
        )

    def run(self) -> None:
        for at, item in enumerate(self.items):
            if isinstance(item, Write):
                if not (isinstance(item.value, Reg) and item.value.name == self.places.get(item.value)):
                    self.write(item)
                continue
            if item.dest not in self.last or item.dest in self.products:
                continue
            self.print(item, at)

    def print(self, instr: Instr, at: int) -> None:
        self.comment(instr)
        dest = instr.dest
        matching = [
            a
            for a in instr.args
            if isinstance(a, Reg) and self.dying(a, at) and a.axes == dest.axes and a.type == dest.type
        ]
        taken: str | None = None
        text: str | None = None
        if dest in self.places and (text := self.into(instr, self.places[dest])) is not None:
            dest.name = self.places[dest]
            self.line(text)
            return
        if dest.axes and dest.owned:
            if matching:
                text = self.in_place(instr, matching[0])
                taken = matching[0].name if text else None
            if text is None and self.pool.get((dest.axes, dest.type)):
                free = self.pool[(dest.axes, dest.type)]
                text = self.into(instr, free[-1])
                taken = free.pop() if text else None
        for a in dict.fromkeys(a for a in instr.args if isinstance(a, Reg)):
            if self.dying(a, at) and a.name != taken:
                self.pool.setdefault((a.axes, a.type), []).append(a.name)
        if text is None:
            whole = expression(instr)
            if self.uses.get(dest, 0) == 1 and dest.wanted == "t" and (not dest.axes or not dest.owned):
                # Scalars and views cost nothing: print them where they are used, if nothing is overwritten between.
                if not self.overwritten(instr, at, self.last[dest]) and len(whole.text) < WIDTH // 2:
                    dest.text = whole
                    return
            text = whole.text
        self.line(f"{self.name(dest)} = {text}")

    def overwritten(self, instr: Instr, start: int, end: int) -> bool:
        """Whether an operand's memory may be written before the reader prints the expression."""
        return any(not (a.text is not None or not a.axes) and a.owned for a in operands(instr)) and end > start

    def in_place(self, instr: Instr, target: Reg) -> str | None:
        """The call that writes over `target`, an operand."""
        function, args = instr.function, instr.args
        if function in ("and", "or") and any(isinstance(a, Number) for a in args):
            return None
        texts = [term_text(a).text for a in args]
        tail = "".join(f", {k}={v}" for k, v in instr.options)
        if function in ("add", "sub", "mul", "div", "and", "or") and args[0] is target:
            return f"{target.name}.{_METHOD.get(function, function)}_({texts[1]})"
        if function in ("add", "mul", "and", "or"):
            return f"{target.name}.{_METHOD.get(function, function)}_({texts[0]})"
        if function in ("neg", "not"):
            return f"{target.name}.{_METHOD.get(function, function)}_()"
        if function in IN_PLACE and args[0] is target:
            rest = ", ".join(texts[1:])
            return f"{target.name}.{function.removeprefix('torch.')}_({(rest + tail).removeprefix(', ')})"
        return self.into(instr, target.name)

    def into(self, instr: Instr, name: str) -> str | None:
        """The call with `out=name`, or None if the function has no such form."""
        function = instr.function
        tail = "".join(f", {k}={v}" for k, v in instr.options) + f", out={name}"
        if function in ("neg", "not"):
            return f"torch.{_METHOD.get(function, function)}({term_text(instr.args[0])}{tail})"
        if function in ("and", "or") and any(isinstance(a, Number) for a in instr.args):
            return None
        if function in _SIGN:
            a, b = instr.args
            verb = _METHOD.get(function, function)
            if isinstance(a, Number):
                if function in _FLIP:
                    a, b, verb = b, a, _FLIP[function]
                elif function in ("add", "mul"):
                    a, b = b, a
                elif self.body.moves(a):
                    return None
                else:
                    a = self.body.tensor(a)
            return f"torch.{verb}({term_text(a)}, {term_text(b)}{tail})"
        if any(self.body.moves(a) for a in instr.args) and (function == "where" or function in OUT):
            return None
        if function == "where":
            if instr.dest.type == "int":
                return None
            inner = [term_text(self.body.tensor(a)).text for a in instr.args]
            if instr.dest.type != "acc":
                return f"torch.where({', '.join(inner)}{tail})"
            self.body.scope.helpers.add("_select")
            return f"_select({', '.join(inner)}{tail})"
        if function in OUT and instr.dest.type == "acc":
            numbers = NUMBERS.get(function, ())
            inner = [term_text(a if k in numbers else self.body.tensor(a)).text for k, a in enumerate(instr.args)]
            return f"{function}({', '.join(inner)}{tail})"
        return None
