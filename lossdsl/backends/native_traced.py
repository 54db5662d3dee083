"""The part of an emitted module that keeps its kernels inside of `torch.compile`.

A compiler cannot look into a call of compiled code. The kernels of a module are therefore one operation of a library of its
own, whose shapes are those of the formula, under an `autograd.Function` in the form that compilers and transforms trace.
Under transforms and export, and wherever the kernels may not run, the formula is traced instead. The text is a constant, as
the loader's is.
"""

from __future__ import annotations

TRACED = '''\
def _traced(name, table, tensors, options, reduction):
    """The value (and reports) inside of torch.compile: by the kernels, as one operation that the compiler leaves alone."""
    names = tuple(tensors)
    given = [t for t in tensors.values() if t is not None]
    absent = tuple(n for n, t in tensors.items() if t is None)
    formula = table["formula", reduction, (), absent]
    wrt = _wanted(table, tensors)
    both, found = _kernel(table, reduction, wrt, absent) if wrt else (False, None)
    if not _traceable(given, options) or (wrt and found is None):
        return formula(*tensors.values(), *options)
    made = found[0] if wrt else ()
    call = name, reduction, made, names, tuple(options)
    if not wrt:
        results = _operation("value", call, tuple(tensors.values()), None)
    else:
        results = _Traced.apply(call, both, *tensors.values())
    value, reports = results[0], results[1 + (len(made) if both else 0) :]
    return (value, *reports) if reports else value


def _traceable(tensors, options):
    """Whether the kernels may be an operation of what is compiled: no transform, export or second derivative looks inside,
    and they are there for such tensors."""
    # is_exporting() is always true in what torch 2.11 traces
    if not _NATIVE_FOUND or not torch.compiler.is_compiling() or getattr(torch.compiler, "_is_exporting_flag", True):
        return False
    if torch._C._are_functorch_transforms_active() or getattr(torch._dynamo.config, "trace_autograd_ops", False):
        return False
    real = None
    for t in tensors:
        if type(t) not in (torch.Tensor, torch.nn.Parameter) or t.device.type != "cpu" or not t.is_contiguous():
            return False
        if t.is_floating_point():
            if t.dtype not in (torch.float32, torch.float64) or (real is not None and t.dtype != real):
                return False
            real = t.dtype
    if any(isinstance(o, torch.Tensor) for o in options):
        return False
    return any(t.numel() >= _NATIVE_LEAST for t in tensors)


def _operation(entry, call, tensors, grad_output):
    name, reduction, made, names, options = call
    return _NATIVE_RUN(name, entry, reduction, list(made), list(names), list(tensors), list(options), grad_output)


class _Traced(torch.autograd.Function):
    """A loss by its kernels where a compiler traces: gradients made with the value, or in backward from the inputs."""

    @staticmethod
    def forward(call, both, *tensors):
        return tuple(_operation("value_and_gradient" if both else "value", call, tensors, None))

    @staticmethod
    def setup_context(ctx, inputs, output):
        call, both, *tensors = inputs
        ctx.call, ctx.both = call, both
        gradients = output[1 : 1 + len(call[2])] if both else ()
        ctx.save_for_backward(*(gradients if both else tensors))
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, grad_output, *_):
        made, names = ctx.call[2], ctx.call[3]
        if grad_output is None:
            return None, None, *(None for _ in names)
        held = ctx.saved_tensors
        if ctx.both:
            found = [g * grad_output.to(g.dtype) for g in held]
        else:
            found = _operation("backward", ctx.call, held, grad_output.contiguous())
        gradients = dict(zip(made, found))
        return None, None, *(gradients[n] if n in gradients else None for n in names)


def _run(name, entry, reduction, made, names, tensors, options, grad_output):
    """The operation on tensors with data: a function of the table, each result in memory of its own."""
    table = globals()[name]
    absent = tuple(n for n, t in zip(names, tensors) if t is None)
    kernel = table[entry, reduction, () if entry == "value" else tuple(made), absent]
    if entry == "value_and_gradient":
        grad_output = _one(next(t for t in tensors if t is not None))
    with torch.no_grad():
        results = kernel(*tensors, *options, *(() if entry == "value" else (grad_output,)))
    results = results if isinstance(results, tuple) else (results,)
    seen, alone = {t.untyped_storage().data_ptr() for t in tensors if t is not None}, []
    for r in results:
        r = r.contiguous()
        r = r.clone() if r.untyped_storage().data_ptr() in seen else r
        seen.add(r.untyped_storage().data_ptr())
        alone.append(r)
    return alone


def _run_shapes(name, entry, reduction, made, names, tensors, options, grad_output):
    """The operation on tensors without data."""
    table = globals()[name]
    absent = tuple(n for n, t in zip(names, tensors) if t is None)
    given = dict(zip(names, tensors))
    results = [] if entry == "value" else [given[n] for n in made]
    if entry != "backward":
        with torch.no_grad():
            value = table["formula", reduction, (), absent](*tensors, *options)
        value, *reports = value if isinstance(value, tuple) else (value,)
        results = [value, *results, *reports]
    return [torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in results]


def _library():
    """A library with the operation, under a name that no module before has taken."""
    digest = hashlib.sha256(repr(_NATIVE_KERNELS).encode()).hexdigest()[:16]
    for k in range(1000):
        space = f"lossdsl_{digest}" + (f"_{k}" if k else "")
        if not hasattr(getattr(torch.ops, space), "run"):
            break
    library = torch.library.Library(space, "FRAGMENT")
    arguments = "str name, str entry, str reduction, str[] made, str[] names, Tensor?[] tensors, Scalar[] options"
    library.define(f"run({arguments}, Tensor? grad_output) -> Tensor[]")
    library.impl("run", _run, "CPU")
    torch.library.register_fake(f"{space}::run", _run_shapes, lib=library)
    return library, getattr(torch.ops, space).run.default


_NATIVE_LEAST = 65536  # entries: calling an operation takes longer than what a compiler makes of fewer
_NATIVE_FOUND = os.environ.get("LOSSDSL_NATIVE") != "0" and (
    bool(os.environ.get("CXX")) or any(map(shutil.which, ("g++", "clang++", "c++")))
)
_NATIVE_LIBRARY, _NATIVE_RUN = _library()
'''
