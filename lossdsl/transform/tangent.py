"""Forward mode, source to source: tangents along the definitions, and second derivatives over a gradient program.

Stop has no tangent, a Proxy has that of its surrogate, an AdjointMap that of its argument (what it does to cotangents
is in the gradient program already, as an ordinary application).
"""

from __future__ import annotations

from dataclasses import replace

from lossdsl.ir.nodes import REAL, TRUE, ZERO, Apply, Definition, Group, Input, Output, Program, Read, Scalar
from lossdsl.ir.rewrite import Fresh, prune
from lossdsl.transform.arithmetic import NotYetError, mul
from lossdsl.transform.differentiate import active_tensors, differentiate
from lossdsl.transform.matrices import inverse_of, logdet_weight, tangent_of_inverse
from lossdsl.transform.scalar import tangent
from lossdsl.transform.winners import expose_winners, others, split_products


def jvp(program: Program, wrt: tuple[str, ...]) -> Program:
    """The program beside its derivative along tangents of some inputs.

    For each input x of `wrt` (REAL, cotangents included) there is a new input `x.t` (role "tangent") with x's dims; for
    each REAL output NAME a further output "t NAME", after the original ones. Raises ValueError for an input that is
    not there or not REAL, NotYetError for a head without a tangent rule.
    """
    for name in wrt:
        entry = program.input(name)
        if entry is None or not entry.differentiable:
            raise ValueError(f"{program.name} has no real input {name!r}")
    active = active_tensors(program, wrt)
    program = split_products(expose_winners(program, active), active)
    return _Forward(program, wrt).run()


def hessian_vector(program: Program, output: str, wrt: tuple[str, ...]) -> Program:
    """Forward mode over the gradient: the outputs "return", "d NAME", "t return" and "h NAME" for each of `wrt`.

    `h NAME` is the Hessian of `<output', output>` times the tangents `x.t` of `wrt`, in NAME; "t return" is the
    derivative of the value along them. With these two a double backward pass is complete. Raises as `differentiate`.
    """
    gradient = differentiate(program, output, wrt)
    forward = jvp(gradient, wrt)
    kept = [o for o in forward.outputs if not o.name.startswith("t d ")]
    kept += [Output(f"h {name}", t.tensor) for name in wrt for t in forward.outputs if t.name == f"t d {name}"]
    return prune(replace(forward, outputs=tuple(kept)))


class _Forward:
    def __init__(self, program: Program, wrt: tuple[str, ...]) -> None:
        self.program, self.wrt = program, wrt
        self.names = Fresh.of(program)
        self.tangents: dict[str, str] = {}
        self.active = active_tensors(program, wrt)
        self.made: list[Definition | Group] = []

    def run(self) -> Program:
        inputs: list[Input] = list(self.program.inputs)
        for name in self.wrt:
            entry = self.program.input(name)
            assert entry is not None
            self.tangents[name] = self.names(f"{name}.t")
            axes = entry.axes
            inputs.append(Input(self.tangents[name], entry.dims, axes, "real", role="tangent"))
        for item in self.program.body:
            if isinstance(item, Group):
                self.group(item)
                continue
            self.made.append(item)
            if item.tensor in self.active:
                self.made.extend(self.derive(item))
        outputs = list(self.program.outputs)
        for o in self.program.outputs:
            if o.tensor in self.tangents:
                outputs.append(Output(f"t {o.name}", self.tangents[o.tensor]))
            else:
                outputs.append(Output(f"t {o.name}", self.zero(o.tensor)))
        result = replace(
            self.program,
            inputs=tuple(inputs),
            body=tuple(self.made),
            outputs=tuple(outputs),
            reductions=None,
            target="",
            updates=(),
        )
        return prune(result)

    def zero(self, tensor: str) -> str:
        d = self.program.definition(tensor)
        assert d is not None
        name = self.names(f"{tensor}.t")
        self.made.append(Definition(name, d.formals, "map", (), TRUE, ZERO))
        return name

    def derive(self, d: Definition) -> list[Definition]:
        """The tangent of one definition, after what is only for it; what it needs of values is made before."""
        body = tangent(d.body, self.read)
        self.tangents.setdefault(d.tensor, self.names(f"{d.tensor}.t"))
        name = self.tangents[d.tensor]
        if body is None:
            return [Definition(name, d.formals, "map", (), TRUE, ZERO)]
        plain = replace(d, tensor=name, comment=None)
        match d.head:
            case "map" | "sum":
                return [replace(plain, body=body)]
            case "logsumexp":
                weight = Apply("expdiff", (d.body, Read(d.tensor, d.formals, REAL)))
                return [replace(plain, head="sum", body=mul(body, weight))]
            case "prod":
                made, rest = others(d, self.names)
                self.made.extend(made)
                return [replace(plain, head="sum", body=mul(body, rest))]
            case "logdet":
                inverse = inverse_of(d, self.names)
                self.made.append(inverse)
                return [replace(plain, head="sum", body=mul(body, logdet_weight(d, inverse.tensor)))]
            case "inverse":
                return tangent_of_inverse(d, body, name, self.names)
        raise NotYetError(f"the reduction {d.head!r}", d.tensor)

    def read(self, read: Read) -> Scalar | None:
        name = self.tangents.get(read.tensor)
        return None if name is None else Read(name, read.indices, REAL)

    def group(self, group: Group) -> None:
        """The tangents of a recurrence run beside it: each definition is followed by its tangent. That of a product
        reads products of the other factors, that of a determinant an inverse, which are made of all steps at once: then they
        run after it."""
        active = [d for d in group.definitions if d.tensor in self.active]
        for d in active:
            self.tangents[d.tensor] = self.names(f"{d.tensor}.t")
        if any(d.head in ("prod", "logdet") for d in active):
            self.made.append(group)
            tangents = tuple(made for d in active for made in self.derive(d))
            self.made.append(replace(group, definitions=tangents))
            return
        members: list[Definition] = []
        for d in group.definitions:
            members.append(d)
            if d.tensor in self.active:
                members.extend(self.derive(d))
        self.made.append(replace(group, definitions=tuple(members)))
