"""Operations and folds of a kernel over registers, each computed once.

Layout: a register that varies along some axes of its kernel has one dimension for every axis of the kernel, of size 1
where it does not vary; one that varies along none is a 0-d tensor or a Python number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from lossdsl.backends.text import ATOM, COMPARE, SUM, UNARY, Text, number_text
from lossdsl.backends.torch_access import operations
from lossdsl.backends.torch_masks import Masks, masks
from lossdsl.backends.torch_ops import NUMBERS, Arg, Node, Num, Tree, helpers_of, operation
from lossdsl.backends.torch_register import Instr, Number, Reg, Scope, Term, Write
from lossdsl.dim import Dim
from lossdsl.lower.plan import (
    AxisRef,
    Fold,
    Kernel,
    Literal,
    Load,
    Op,
    Operand,
    ParamRef,
    Scatter,
    SizeRef,
    Statement,
    Store,
    Value,
)


class Values:
    """What the registers of one kernel hold: operations, folds, and numbers that Python knows."""

    def __init__(self, scope: Scope, kernel: Kernel) -> None:
        self.scope, self.kernel = scope, kernel
        self.order = [a.name for a in kernel.axes]
        self.dims = {a.name: a.extent for a in kernel.axes}
        self.values: dict[str, Term] = {}
        self.items: list[Instr | Write] = []
        self.wanted = dict(kernel.names)
        self.comments = dict(kernel.comments)
        self.index: dict[str, Reg] = {}
        self.chosen: dict[Reg, tuple[Term, str]] = {}  # results of where: the condition, and the number elsewhere
        self.made: dict[tuple[object, ...], Reg] = {}  # nothing is computed twice
        self.loads = [s.buffer for s in kernel.statements if isinstance(s, Load)]
        self.as_real = _read_as_real(kernel, scope.kinds) if not scope.loops else set()
        self.ops = operations(kernel.statements)
        self.masks = masks(kernel.statements, scope.loops) if scope.fast else Masks()
        self.split: dict[Reg, tuple[Term, Term]] = {}  # conjunctions: what Python knows in a round, and the rest

    # ------------------------------------------------------------------------------------------------ building

    def emit(
        self,
        function: str,
        args: Sequence[Term],
        type_: str,
        *,
        options: tuple[tuple[str, str], ...] = (),
        template: str = "",
        strength: int = ATOM,
        axes: frozenset[str] | None = None,
        owned: bool = True,
        aliases: bool = False,
        wanted: str = "t",
    ) -> Reg:
        if axes is None:
            axes = frozenset().union(*(a.axes for a in args if isinstance(a, Reg)))
        same = (function, tuple(a if isinstance(a, Reg) else str(a) for a in args), options, template, type_)
        if same in self.made:
            return self.made[same]
        dest = Reg(axes, type_, wanted, owned)
        self.items.append(Instr(function, tuple(args), dest, options, template, strength, aliases))
        self.made[same] = dest
        return dest

    def term(self, operand: Operand) -> Term:
        match operand:
            case Value(name):
                return self.values[name]
            case Literal(value, type_):
                return Number(number_text(value, type_), type_)
            case ParamRef(name, type_):
                return Number(Text(self.scope.parameters[name]), type_, name if type_ == "acc" else "")
            case SizeRef(dim):
                return Number(self.scope.dim(dim), "int")
            case AxisRef(name):
                if name in self.scope.loops:
                    return Number(Text(self.scope.loops[name]), "int")
                return self.arange(name)

    def arange(self, axis: str) -> Reg:
        if axis not in self.index:
            device = self.scope.need("device")
            if axis in self.scope.rounds:
                start, stop = self.scope.rounds[axis]
                text = f"torch.arange({start}, {stop}, device={device})"
            else:
                text = f"torch.arange({self.scope.dim(self.dims[axis])}, device={device})"
            shape = ", ".join(":" if a == axis else "None" for a in self.order)
            text += "" if len(self.order) == 1 else f"[{shape}]"
            self.index[axis] = self.emit(
                "text", (), "int", template=text, axes=frozenset({axis}), owned=False, wanted=f"{axis}_index"
            )
        return self.index[axis]

    def moves(self, term: Term) -> bool:
        """Whether it is a number that is another one in each round of a recurrence: no constant of the prologue."""
        if isinstance(term, Reg) or term.param:
            return False
        return any(v in re.split(r"\W", term.text.text) for v in self.scope.loops.values())

    def tensor(self, term: Term) -> Reg:
        """A register for a term; Python numbers become 0-d tensors."""
        if isinstance(term, Reg):
            return term
        if self.moves(term):
            dtype, device = self.scope.dtype(term.type), self.scope.need("device")
            text = f"torch.full((), {term}, dtype={dtype}, device={device})"
            return self.emit("text", (), term.type, template=text, axes=frozenset(), owned=False)
        return Reg(frozenset(), term.type, text=Text(self.scope.constant(term)))

    # ---------------------------------------------------------------------------------------------- operations

    def select(self, condition: Term, a: Term, b: Term, type_: str) -> Term:
        inner = self.chosen.get(a) if isinstance(a, Reg) else None
        if inner is not None and inner[0] is condition and inner[1] == str(b) and isinstance(b, Number):
            return a  # already so
        if isinstance(condition, Number):
            if condition.text.text in ("True", "False"):
                return a if condition.text.text == "True" else b
            if condition.zero is not None:
                # Where the extent of one of its own axes is 0, a value has no entries, and either will do.
                dim, is_zero = condition.zero
                likely = b if is_zero else a
                if isinstance(likely, Reg) and self.empty_with(likely, dim):
                    return likely
            text = "{1} if {0} else {2}"
            if isinstance(a, Number) and isinstance(b, Number):
                return Number(Text(f"({a} if {condition} else {b})"), type_)
            # An extent or an index as a real is a Python int so far.
            a, b = (replace(x, type=type_) if isinstance(x, Number) and not x.param else x for x in (a, b))
            left, right = self.tensor(a), self.tensor(b)
            axes = left.axes | right.axes
            if left.axes != right.axes and axes:
                left, right = self.spread(left, axes), self.spread(right, axes)
            return self.emit(
                "text", (condition, left, right), type_, template=text, strength=0, axes=axes, owned=not axes
            )
        if type_ == "acc" and isinstance(a, Number) and isinstance(b, Number):
            a = self.tensor(a)  # of two plain numbers torch makes its default type, float32
        value = self.emit("where", (condition, a, b), type_)
        if isinstance(b, Number):
            self.chosen[value] = (condition, str(b))
        return value

    def empty_with(self, value: Reg, dim: Dim) -> bool:
        """Whether the value has no entries if `dim` is 0: each factor of it is the extent of an axis of the value."""
        if len(dim.terms) != 1:
            return False
        own = {self.dims[a] for a in value.axes}
        return all(isinstance(atom, str) and Dim.symbol(atom) in own for atom in dim.terms[0][0])

    def op(self, s: Op) -> Term:
        if s.op == "real" and isinstance(s.args[0], Value) and s.args[0].name in self.as_real:
            source = self.values[s.args[0].name]
            if isinstance(source, Reg) and source.type == "acc":
                return source
        if s.name in self.as_real:
            reals = tuple(Literal(a.value) if isinstance(a, Literal) else a for a in s.args)
            if s.op == "int":
                return self.term(reals[0])
            return self.op(Op(f"{s.name}.real", "acc", s.op, reals))
        args = [self.term(a) for a in s.args]
        numbers = [a for a in args if isinstance(a, Number)]
        match s.op:
            case "select":
                return self.select(args[0], args[1], args[2], s.type)
            case "lt" | "le" | "gt" | "ge" | "eq" | "ne":
                if len(numbers) == 2 and not any(n.param for n in numbers):
                    sign = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}[s.op]
                    left, right = (n.text.at(COMPARE + 1) for n in numbers)
                    return Number(Text(f"{left} {sign} {right}", COMPARE), "bool", zero=_is_zero(s))
                return self.emit(s.op, self.some_tensor(args), "bool")
            case "and" if numbers and len(numbers) < len(args):
                known = self.joined("and", numbers)
                rest = self.joined("and", [a for a in args if isinstance(a, Reg)])
                both = self.emit("and", (rest, known), "bool")
                self.split[both] = (known, rest)
                return both
            case "and" | "or":
                return self.joined(s.op, args)
            case "not":
                if isinstance(args[0], Number):
                    return Number(Text(f"(not {args[0]})"), "bool")
                return self.emit("not", args, "bool")
            case "real":
                if isinstance(args[0], Number):
                    return Number(args[0].text, "int") if args[0].type == "int" else self.number_of_bool(args[0])
                acc = self.scope.need("acc")
                return self.emit("text", args, "acc", template=f"{{0}}.to({acc})")
            case "int":
                if isinstance(args[0], Number):
                    return self.number_of_bool(args[0])
                return self.emit("text", args, "int", template="{0}.long()")
            case "table":
                return self.table(s, args)
            case "stop":
                if self.scope.fast or isinstance(args[0], Number):
                    return args[0]
                return self.emit("text", args, s.type, template="{0}.detach()", owned=False)
            case "proxy":
                if self.scope.fast:
                    return args[0]
                self.scope.helpers.add("_proxy")
                return self.emit("_proxy", [self.tensor(a) for a in args], s.type)
        if s.type == "int":
            return self.integer(s.op, args)
        tree = operation(s.op, not self.scope.fast)
        self.scope.helpers |= helpers_of(tree)
        if s.op == "polygamma" and isinstance(args[0], Number):
            args[0] = Number(Text(str(int(float(args[0].text.text)))), "int")
        return self.tree(tree, args, s.type)

    def joined(self, sign: str, args: Sequence[Term]) -> Term:
        total = args[0]
        for a in args[1:]:
            if isinstance(total, Number) and isinstance(a, Number):
                total = Number(Text(f"({total} {sign} {a})"), "bool")
            else:
                total = self.emit(sign, (total, a), "bool")
        return total

    def number_of_bool(self, number: Number) -> Number:
        return Number(Text(f"int({number})"), "int") if number.type == "bool" else number

    def some_tensor(self, args: Sequence[Term]) -> list[Term]:
        """The same terms, of which at least one is a tensor."""
        if any(isinstance(a, Reg) for a in args):
            return list(args)
        return [self.tensor(args[0]), *args[1:]]

    def table(self, s: Op, args: list[Term]) -> Term:
        entries, index = args[:-1], args[-1]
        kind = self.scope.dtype(s.type)
        device = self.scope.need("device")
        text = f"torch.tensor([{', '.join(str(e) for e in entries)}], dtype={kind}, device={device})"
        last = Number(Text(str(len(entries) - 1)), "int")
        index = self.tensor(index)
        place = self.emit("torch.clamp", (index, Number(Text("0"), "int"), last), "int", wanted="index")
        one = "" if isinstance(place, Reg) and place.axes else "[None]"
        value = self.emit("text", (place,), s.type, template=f"{text}[{{0}}{one}]{'[0]' if one else ''}")
        if s.type != "acc":
            return value
        inside = self.emit("eq", (place, index), "bool")
        return self.select(inside, value, self.term(Literal("nan")), s.type)

    def integer(self, name: str, args: Sequence[Term]) -> Term:
        """Exact int64 operations; of Python ints, Python's own."""
        if all(isinstance(a, Number) and not a.param for a in args):
            if name in ("floordiv", "mod"):
                args = (args[0], self.divisor(args[1]))
            texts = [a.text if isinstance(a, Number) else Text("") for a in args]
            sign = {"add": "+", "sub": "-", "mul": "*", "floordiv": "//", "mod": "%"}.get(name)
            if sign is not None:
                return Number(Text(f"({texts[0].at(UNARY)} {sign} {texts[1].at(UNARY)})"), "int")
            if name == "neg":
                return Number(Text(f"(-{texts[0].at(UNARY + 1)})"), "int")
            if name in ("max2", "min2", "abs"):
                return Number(Text(f"{name.rstrip('2')}({', '.join(t.text for t in texts)})"), "int")
        if name in ("add", "sub", "mul", "neg"):
            return self.emit(name, self.some_tensor(args), "int")
        if name in ("max2", "min2"):
            function = "torch.maximum" if name == "max2" else "torch.minimum"
            return self.emit(function, [self.tensor(a) for a in args], "int")
        if name == "abs":
            return self.emit("torch.abs", args, "int")
        if name in ("floordiv", "mod"):
            sign = "//" if name == "floordiv" else "%"
            left, right = self.some_tensor((args[0], self.divisor(args[1])))
            return self.emit("text", (left, right), "int", template=f"{{0}} {sign} {{1}}", strength=SUM + 1)
        if name in ("floor", "ceil"):
            value = self.tensor(args[0])
            return self.emit("text", (value,), "int", template=f"torch.{name}({{0}}).long()")
        raise NotImplementedError(name)

    def divisor(self, value: Term) -> Term:
        """What is divided by, without 0: torch stops at an integer division by 0, also at one that nobody reads."""
        if isinstance(value, Reg):
            self.scope.helpers.add("_divisor")
            return self.emit("_divisor", (value,), "int")
        text = value.text.text
        return value if text.isdigit() and text != "0" else Number(Text(f"({text} or 1)"), "int", value.param)

    def tree(self, tree: Tree, args: Sequence[Term], type_: str) -> Term:
        match tree:
            case Arg(index):
                return args[index]
            case Num(text):
                return Number(Text(text, UNARY if text.startswith("-") else ATOM), "acc")
            case Node(function, inner, options):
                terms = [self.tree(a, args, type_) for a in inner]
                result = "bool" if function in ("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not") else type_
                if function == "torch.where":
                    return self.select(terms[0], terms[1], terms[2], type_)
                if function in ("add", "sub", "mul", "neg") and all(
                    isinstance(t, Number) and not t.param for t in terms
                ):
                    return self.constant_arithmetic(function, terms)
                if result == "acc" and not any(isinstance(t, Reg) for t in terms) and isinstance(terms[0], Number):
                    terms[0] = replace(terms[0], type="acc")  # of whole numbers torch makes its default type, float32
                return self.emit(function, self.operands(function, terms), result, options=options)

    def constant_arithmetic(self, function: str, terms: Sequence[Term]) -> Number:
        texts = [t.text if isinstance(t, Number) else Text("") for t in terms]
        if function == "neg":
            return Number(Text(f"(-{texts[0].at(UNARY + 1)})"), "acc")
        sign = {"add": "+", "sub": "-", "mul": "*"}[function]
        return Number(Text(f"({texts[0].at(UNARY)} {sign} {texts[1].at(UNARY)})"), "acc")

    def operands(self, function: str, terms: list[Term]) -> list[Term]:
        if function in ("add", "sub", "mul", "div", "lt", "le", "gt", "ge", "eq", "ne", "and", "or"):
            return self.some_tensor(terms)
        if function.startswith("."):
            return terms
        from_here = NUMBERS.get(function, ())
        return [
            t
            if isinstance(t, Reg)
            or (
                k in from_here
                and any(isinstance(u, Reg) for u in terms)
                and not (t.param and function == "torch.clamp")
            )
            else self.tensor(t)
            for k, t in enumerate(terms)
        ]

    # --------------------------------------------------------------------------------------------------- folds

    def shape(self, axes: frozenset[str]) -> str:
        sizes = [self.scope.extent(a, self.dims[a]).text if a in axes else "1" for a in self.order]
        return ", ".join(sizes)

    def spread(self, value: Term, axes: frozenset[str]) -> Reg:
        """The value as a tensor that has all entries along `axes`."""
        if isinstance(value, Reg) and axes <= value.axes:
            return value
        reg = self.tensor(value)
        every = reg.axes | axes
        return self.emit(
            "text",
            (reg,),
            reg.type,
            template=f"{{0}}.expand({self.shape(every)})",
            axes=every,
            owned=False,
            aliases=True,
        )

    def summed(self, value: Reg, axes: frozenset[str]) -> Reg:
        """The sum of the value over `axes`, which stay as dimensions of one entry if there are others."""
        if not axes:
            return value
        dims = tuple(self.order.index(a) for a in self.order if a in axes)
        left = value.axes - axes
        text = f"{{0}}.sum({dims[0] if len(dims) == 1 else dims}, keepdim=True)" if left else "{0}.sum()"
        return self.emit("text", (value,), value.type, template=text, axes=left)

    def fold(self, s: Fold) -> Term:
        axes = frozenset(s.axes)
        value = self.term(s.value)
        where = None if s.where is None else self.term(s.where)
        argument = s.head in ("argmax", "argmin")
        if where is not None and not argument:
            counts = s.head == "count"
            if counts and str(value) == "True" and isinstance(where, Reg):
                value = where  # each of those
            else:
                nothing = self.term(_identity(s.head, "bool" if counts else s.type))
                value = self.select(where, value, nothing, "bool" if counts else s.type)
        full = self.spread(value, axes)
        left = full.axes - axes
        places = [k for k, a in enumerate(self.order) if a in axes]
        dims = str(places[0]) if len(places) == 1 else f"({', '.join(map(str, places))})"
        if argument:
            return self.winner(s, full, where, [self.order.index(a) for a in s.axes], left)
        head = {"count": "sum", "max": "amax", "min": "amin"}.get(s.head, s.head)
        if not self.scope.fast and s.head in ("max", "min", "logsumexp", "prod") and s.type == "acc":
            helper = f"_fold_{s.head}"
        elif head in ("amax", "amin", "prod"):
            helper = f"_fold_{head}"
        else:
            helper = ""
        if helper:
            self.scope.helpers.add(helper)
            every = f"({places[0]},)" if len(places) == 1 else dims
            text = f"{helper}({{0}}, {every})"
            return self.emit("text", (full,), s.type, template=text if left else f"{text}.reshape(())", axes=left)
        if left:
            text = f"{{0}}.{head}({dims}, keepdim=True)"
        elif head == "logsumexp":
            # along dimensions of one entry, too: those of the other axes of the kernel
            text = f"{{0}}.logsumexp({tuple(range(len(self.order))) if len(self.order) > 1 else 0})"
        else:
            text = f"{{0}}.{head}()"
        return self.emit("text", (full,), s.type, template=text, axes=left)

    def winner(self, s: Fold, full: Reg, where: Term | None, places: list[int], left: frozenset[str]) -> Reg:
        mask: Reg | None = None
        if where is not None:
            mask = self.spread(where, frozenset(full.axes))
            full = self.spread(full, mask.axes)
            left = full.axes - set(s.axes)
        end = "" if left else ".reshape(())"
        if len(places) > 1:
            self.scope.helpers.add("_flat_winner")
            self.scope.helpers.add("_winner")
            text = (
                f"_flat_winner({{0}}, {'None' if mask is None else '{1}'}, {tuple(places)}, {s.head == 'argmax'}){end}"
            )
            return self.emit("text", (full,) if mask is None else (full, mask), "int", template=text, axes=left)
        if mask is None:
            text = f"{{0}}.{s.head}({places[0]}, keepdim=True){end}"
            if self.dims[s.axes[0]].constant is None:  # torch has no winner of nothing; nobody reads it
                size = self.scope.dim(self.dims[s.axes[0]]).at(SUM)
                text += f" if {size} > 0 else {{0}}.new_zeros({self.shape(left) if left else '()'}, dtype=torch.int64)"
                return self.emit("text", (full,), "int", template=text, axes=left, strength=0)
            return self.emit("text", (full,), "int", template=text, axes=left)
        self.scope.helpers.add("_winner")
        text = f"_winner({{0}}, {{1}}, {places[0]}, {s.head == 'argmax'}){end}"
        return self.emit("text", (full, mask), "int", template=text, axes=left)


def _is_zero(s: Op) -> tuple[Dim, bool] | None:
    match s:
        case Op(op="eq" | "ne" as sign, args=(SizeRef(dim), Literal(value=Fraction(numerator=0)))):
            return dim, sign == "eq"
    return None


def _identity(head: str, type_: str) -> Literal:
    if head in ("sum", "count", "any"):
        return Literal(Fraction(0), "bool" if head in ("any", "count") else type_)
    if head in ("prod", "all"):
        return Literal(Fraction(1), "bool" if head == "all" else type_)
    if type_ == "int":
        return Literal(Fraction(-(2**63) if head == "max" else 2**63 - 1), "int")
    return Literal("inf" if head == "min" else "-inf")


def _read_as_real(kernel: Kernel, kinds: Mapping[str, str]) -> set[str]:
    """Small integers that may be computed as reals: loads of binary, sign and bool inputs, sums and products of them,
    if all that ever reads them converts them to real or compares them. (They are exact in every type.)"""
    found: set[str] = set()
    depth: dict[str, int] = {}
    for s in kernel.statements:
        if isinstance(s, Load) and s.type in ("int", "bool") and s.guard is None:
            if kinds.get(s.buffer) in ("binary", "sign", "bool"):
                found.add(s.name)
                depth[s.name] = 1
        elif (
            isinstance(s, Op) and s.type == "int" and s.op in ("add", "sub", "mul", "neg", "abs", "max2", "min2", "int")
        ):
            names = [a.name for a in s.args if isinstance(a, Value)]
            literals = [a for a in s.args if isinstance(a, Literal)]
            small = all(isinstance(a.value, Fraction) and abs(a.value) <= 16 for a in literals)
            inside = len(names) + len(literals) == len(s.args) and all(n in found for n in names)
            if names and small and inside and max(depth[n] for n in names) < 4:
                found.add(s.name)
                depth[s.name] = 1 + max(depth[n] for n in names)
    changed = True
    while changed:
        changed = False
        for s in kernel.statements:
            if isinstance(s, Op) and s.name in found and not {a.name for a in s.args if isinstance(a, Value)} <= found:
                found.discard(s.name)
                changed = True
            if isinstance(s, Op) and (s.op == "real" or s.name in found):
                continue
            if isinstance(s, Op) and s.op in ("lt", "le", "gt", "ge", "eq", "ne"):
                if all(isinstance(a, Literal) or (isinstance(a, Value) and a.name in found) for a in s.args):
                    continue
            outside = {o.name for o in _reads(s) if isinstance(o, Value)} & found
            if outside:
                found -= outside
                changed = True
    return found


def _reads(s: Statement) -> list[Operand | None]:
    match s:
        case Load(guard=guard, subscripts=subscripts):
            return [guard, *(p.data for p in subscripts)]
        case Op(args=args):
            return list(args)
        case Fold(value=value, where=where):
            return [value, where]
        case Store(value=value, subscripts=subscripts):
            return [value, *(p.data for p in subscripts)]
        case Scatter(value=value, guard=guard, subscripts=subscripts):
            return [value, guard, *(p.data for p in subscripts)]
