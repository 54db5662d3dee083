"""Helper functions of emitted torch modules, as text; a module has only those that it uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from lossdsl import primitives
from lossdsl.backends.torch_lasting import HELPERS

_SOURCES: dict[str, str] = {}
_NEEDS: dict[str, tuple[str, ...]] = {}


def _define(source: str, *needs: str) -> None:
    name = source.split("(")[0].split(" = ")[0].split(":")[0].strip().removeprefix("def ").removeprefix("class ")
    _SOURCES[name] = source.strip("\n")
    _NEEDS[name] = needs


_define('''
def derivative(value: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """d value / d x for every row, of the shape of x and in the graph: a loss of it trains the network that gave value.

    The network treats rows one by one (no batch statistics), and `x.requires_grad_()` was called before it ran. Twice
    gives second derivatives. Raises ValueError where x requires no gradient.
    """
    if not x.requires_grad:
        raise ValueError("derivative: call x.requires_grad_() before the network runs")
    return torch.autograd.grad(value.sum(), x, create_graph=True)[0]
''')

_define('''
def _accumulator(*tensors):
    """The type to compute in: float64 for float64, else float32 (half precision is only stored)."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
''')

_define('''
def _autocasts(device):
    """Whether autocast is on. torch 2.11 cannot trace the question whether a device has such a thing."""
    known = device != "meta" if torch.compiler.is_compiling() else torch.amp.is_autocast_available(device)
    return known and torch.is_autocast_enabled(device)
''')

_define('''
def _block(device, count, width=1):
    """How many of `count` rows to work on at a time: what fits in the cache of a CPU; all of them elsewhere."""
    return max(262144 // max(width, 1), 1) if device.type == "cpu" else max(count, 1)
''')

_define('''
def _rows(device, size, width):
    """Rows of a round whose row has `width` entries: `size` on a CPU; elsewhere what keeps it busy in 256 MiB."""
    return size if device.type == "cpu" else max(size, 2**26 // max(width, 1))
''')

_define('''
def _plain(*tensors):
    """Whether in-place kernels may run: eager, no transform or forward-mode AD, ordinary tensors only."""
    if torch.compiler.is_compiling():
        return False
    transforms = getattr(torch._C, "_are_functorch_transforms_active", None)
    level = getattr(torch.autograd.forward_ad, "_current_level", None)
    batched = getattr(getattr(torch._C, "_functorch", None), "is_legacy_batchedtensor", None)
    if transforms is None or level is None or batched is None or transforms() or level >= 0:
        return False
    for t in tensors:
        if type(t) not in (torch.Tensor, torch.nn.Parameter, type(None), float, int, bool):
            return False
        if isinstance(t, torch.Tensor) and batched(t):
            return False
    return True
''')

_define('''
def _find(table, entry, reduction, wrt, absent):
    """The kernel that makes at least the gradients `wrt`, and the names that it makes; None if there is none. No kernel
    makes gradients that are always 0."""
    constant = table["constant", "", (), ()]
    if constant:
        wrt = tuple(n for n in wrt if n not in constant)
    exact = table.get((entry, reduction, wrt, absent))
    if exact is not None:
        return wrt, exact
    wider = [
        (len(names), names)
        for kind, mode, names, left_out in table
        if (kind, mode, left_out) == (entry, reduction, absent) and set(wrt) <= set(names)
    ]
    if not wider:
        return None
    names = min(wider)[1]
    return names, table[entry, reduction, names, absent]
''')

_define('''
def _pack(tensor, at, width):
    """The `width` dimensions from `at` on as one; one of extent 1 for none."""
    if tensor is None or width == 1:
        return tensor
    return tensor.unsqueeze(at) if width == 0 else tensor.flatten(at, at + width - 1)
''')

_define('''
def _unpack(tensor, at, shape):
    """The inverse of `_pack`."""
    if len(shape) == 1:
        return tensor
    return tensor.unflatten(at, shape) if shape else tensor.squeeze(at)
''')

_define(
    '''
def _evaluate(table, tensors, options, reduction):
    """The value (and reports) of a loss: by its kernels where they may run, else by its formula.

    table: the functions of the loss by (entry, reduction, gradients made, inputs left out). Which gradients are needed
    is decided here, because inside of `apply` it can no longer be seen.
    """
    given = [t for t in tensors.values() if t is not None]
    device = given[0].device.type
    if _autocasts(device):
        with torch.autocast(device, enabled=False):
            return _evaluate(table, tensors, options, reduction)
    absent = tuple(name for name, t in tensors.items() if t is None)
    formula = table.get(("formula", reduction, (), absent))
    if formula is None:
        raise ValueError(f"cannot be called with reduction={reduction!r} and without {', '.join(absent)}")
    learned = torch.is_grad_enabled() and any(isinstance(o, torch.Tensor) and o.requires_grad for o in options)
    if learned or not _plain(*given, *options):
        traced = None if learned else table.get(("traced", "", (), ()))
        return formula(*tensors.values(), *options) if traced is None else traced(table, tensors, options, reduction)
    wrt = _wanted(table, tensors)
    if not wrt:
        with torch.no_grad():
            return table["value", reduction, (), absent](*tensors.values(), *options)
    # The gradient of a scalar is made with its value; float16 must round it after the incoming gradient is in.
    half = any(tensors[name].dtype == torch.float16 for name in wrt)
    both, found = _kernel(table, reduction, wrt, absent)
    if found is None:
        return formula(*tensors.values(), *options)
    call = table, reduction, wrt, absent, tuple(tensors), options, found, both, half or not both
    return _Kernels.apply(call, *tensors.values())
''',
    "_autocasts",
    "_plain",
    "_wanted",
    "_kernel",
    "_Kernels",
)

_define('''
def _wanted(table, tensors):
    """The inputs whose gradients a call is asked for."""
    if not torch.is_grad_enabled():
        return ()
    able = table["differentiable", "", (), ()]
    return tuple(n for n in able if tensors[n] is not None and tensors[n].requires_grad)
''')

_define(
    '''
def _kernel(table, reduction, wrt, absent):
    """Whether the gradients are made with the value, and (names that are made, kernel); None for the formula alone."""
    both = _find(table, "value_and_gradient", reduction, wrt, absent)
    return both is not None, both or _find(table, "backward", reduction, wrt, absent)
''',
    "_find",
)

_define('''
def _scale(gradient, by):
    """Multiply a gradient in place."""
    if not (by.device.type == "cpu" and by.item() == 1):
        gradient.mul_(by)
''')

_define(
    '''
class _Kernels(torch.autograd.Function):
    """A loss by its kernels: gradients made together with the value, or in backward from the saved inputs."""

    @staticmethod
    def forward(ctx, call, *tensors):
        table, reduction, wrt, absent, _, options, (names, kernel), _, later = call
        ctx.call, ctx.gradients = call, None
        ctx.save_for_backward(*tensors, *(o for o in options if isinstance(o, torch.Tensor)))
        if later:
            results = table["value", reduction, (), absent](*tensors, *options)
            value, *reports = results if isinstance(results, tuple) else (results,)
        else:
            value, *rest = kernel(*tensors, *options, _one(next(t for t in tensors if t is not None)))
            ctx.gradients = {name: g for name, g in zip(names, rest) if name in wrt}
            reports = rest[len(names) :]
        if not reports:
            return value
        reports = [r.clone() if r is value else r for r in reports]  # the value itself stays differentiable
        ctx.mark_non_differentiable(*reports)
        ctx.set_materialize_grads(False)  # no zeros for reports
        return (value, *reports)

    @staticmethod
    def backward(ctx, grad_output, *_):
        table, reduction, wrt, absent, names, options, (made_names, kernel), both, later = ctx.call
        if grad_output is None:
            return None, *(None for _ in names)
        held = iter(ctx.saved_tensors)
        saved = [next(held) for _ in names]
        options = [next(held) if isinstance(o, torch.Tensor) else o for o in options]
        if torch.is_grad_enabled() or not _plain(grad_output):  # create_graph, batched gradients
            limited = _find(table, "gradient_formula", reduction, wrt, absent)
            if limited is not None:  # the formula has another derivative
                limited_names, gradient = limited
                made = gradient(*saved, *options, grad_output)
                gradients = dict(zip(limited_names, made if isinstance(made, tuple) else (made,)))
            else:
                formula, tensors = table["formula", reduction, (), absent], dict(zip(names, saved))
                gradients = dict(zip(wrt, _differentiate(formula, wrt, grad_output, tensors, options)))
        elif later:
            made = kernel(*saved, *options, grad_output)
            made = made if isinstance(made, tuple) else (made,)
            gradients = dict(zip(made_names, made[1:] if both else made))
        else:
            gradients, ctx.gradients = ctx.gradients, None
            if gradients is None:  # a second backward: by the same kernel, so that it gives the same bits
                gradients = dict(zip(made_names, kernel(*saved, *options, _one(grad_output))[1:]))
            for gradient in gradients.values():  # ours alone: scaled in place and handed over
                _scale(gradient, grad_output)
        for name in wrt:
            if name not in gradients:
                gradients[name] = torch.zeros_like(saved[names.index(name)])
        return None, *(gradients[n] if n in wrt else None for n in names)
''',
    "_scale",
    "_plain",
    "_differentiate",
    "_one",
)

_define("_ONES: dict = {}  # by device")

_define(
    '''
def _one(like):
    """The gradient that a value has in itself, made once for each device."""
    if like.device not in _ONES:
        _ONES[like.device] = torch.ones((), device=like.device)
    return _ONES[like.device]
''',
    "_ONES",
)

_define('''
def _differentiate(formula, wrt, grad_output, tensors, options):
    """Gradients of the formula by autograd, differentiable again. Aliases make each a partial derivative."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        aliases = {name: t.view_as(t).requires_grad_() if name in wrt else t for name, t in tensors.items()}
        value = formula(*aliases.values(), *options)
        value = value[0] if isinstance(value, tuple) else value
        if not value.requires_grad:
            return [torch.zeros_like(aliases[name]) for name in wrt]
        return torch.autograd.grad(
            value,
            [aliases[name] for name in wrt],
            grad_output,
            create_graph=create_graph,
            allow_unused=True,
            materialize_grads=True,
        )
''')

_define('''
def _no_derivative(loss, *given):
    """Refuse a derivative of the formula of a loss that limits a gradient inside: it would not be limited."""
    tensors = [t for t in given if isinstance(t, torch.Tensor)]
    recorded = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    transforms = getattr(torch._C, "_are_functorch_transforms_active", None)
    dual = getattr(torch.autograd.forward_ad, "_current_level", -1) >= 0
    if recorded or dual or transforms is None or transforms():
        raise RuntimeError(
            f"{loss}: clip_gradient acts in backward() and torch.autograd.grad, not in transforms or when compiled"
        )
''')

_define('''
def _real(loss, name, tensor):
    """Refuse what is no floating-point tensor."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{loss}: {name} must be a tensor, not {type(tensor).__name__}")
    if not tensor.is_floating_point():
        raise TypeError(f"{loss}: {name} must be floating point, not {tensor.dtype}; convert it with {name}.float()")
''')

_define('''
def _integer(loss, name, tensor):
    """Refuse what is no integer tensor."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{loss}: {name} must be a tensor, not {type(tensor).__name__}")
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{loss}: {name} must be an integer tensor, not {tensor.dtype}; convert it with {name}.long()")
''')

_define('''
def _discrete(loss, name, tensor):
    """Refuse what is neither bool, nor integer, nor floating point."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{loss}: {name} must be a tensor, not {type(tensor).__name__}")
    if tensor.is_complex():
        raise TypeError(f"{loss}: {name} must not be complex")
''')

_define(
    '''
def _extents(loss, declared, tensors, known=()):
    """The extents of the named axes; the shapes must agree exactly, `...` stands for any number of axes.

    Raises ValueError with all extents that were known when the first shape did not fit.
    """
    extents = dict(known)
    for name, axes in declared.items():
        tensor = tensors[name]
        if tensor is None:
            continue
        shape = tuple(tensor.shape)
        if "..." in axes:
            at = axes.index("...")
            width = len(shape) - len(axes) + 1
            if width >= 0:
                rest = shape[at : at + width]
                if tuple(extents.setdefault("...", rest)) != rest:
                    raise ValueError(_mismatch(loss, name, "...", rest, extents))
                shape = shape[:at] + shape[at + width :]
                axes = axes[:at] + axes[at + 1 :]
        if len(shape) != len(axes):
            wanted = ", ".join(str(a) for a in declared[name])
            raise ValueError(f"{loss}: {name} must have axes [{wanted}], but its shape is {tuple(tensor.shape)}")
        for axis, size in zip(axes, shape):
            expected = extents.setdefault(axis, size) if isinstance(axis, str) else axis
            if axis is not None and expected != size:
                raise ValueError(_mismatch(loss, name, axis, size, extents))
    return extents
''',
    "_mismatch",
)

_define("""
def _mismatch(loss, name, axis, size, extents):
    known = " ".join(f"{k}={v if k != '...' else tuple(v)}" for k, v in extents.items())
    if not isinstance(axis, str):
        return f"{loss}: {name} has an axis of extent {size} where {axis} is declared"
    return f"{loss}: {known}, but {name} has {axis}={tuple(size) if axis == '...' else size}"
""")

_define('''
def _derived(loss, name, tensor, axis, text, size):
    """Check an extent that is computed from others."""
    if tensor is not None and tensor.shape[axis] != size:
        raise ValueError(f"{loss}: {name} must have extent {text} = {size} at axis {axis}, not {tensor.shape[axis]}")
''')

_define(
    '''
def _number(loss, name, value, text, ok, sizes=(), once=False):
    """Refuse a parameter outside of its range. Tensors are read `once`, when a module is made: a call would synchronise."""
    if not isinstance(value, (int, float, torch.Tensor)):
        raise TypeError(f"{loss}: {name} must be a number or a tensor, not {type(value).__name__}")
    if isinstance(value, torch.Tensor):
        if value.dim() != 0:
            raise ValueError(f"{loss}: {name} must be a number or a 0-d tensor, not of shape {tuple(value.shape)}")
        if not once or value.is_meta or not _plain(value):
            return
        value = value.item()
    if not ok(value):
        known = "".join(f", {axis}={size}" for axis, size in dict(sizes).items())
        raise ValueError(f"{loss}: {name} = {value} is outside of its range: {text}{known}")
''',
    "_plain",
)

_define('''
def _flag(loss, name, value, kind):
    """Refuse a parameter that is not of the Python type it must have."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{loss}: {name} must be {kind.__name__}, not {type(value).__name__}")
''')

_define('''
def _domain(loss, name, tensor, ok, text):
    """Raise ValueError with the first place and value at which a declared domain does not hold."""
    bad = (~ok).nonzero()
    if len(bad):
        place = tuple(bad[0].tolist())
        where = f"{name}[{', '.join(map(str, place))}]" if place else name
        raise ValueError(f"{loss}: {where} = {tensor[place].item()} is not {text}")
''')

_define('''
def _whole(x, dims, power):
    """Where the powers of the entries along dims add up to 1, as near as rounding them to their type allows."""
    kind, count = torch.finfo(x.dtype), 1
    for dim in dims:
        count *= x.shape[dim]
    near = 1e-3 + 2 * power * kind.eps + count * kind.tiny * kind.eps
    return ((x.double() ** power).sum(dims, keepdim=True) - 1).abs().le(near).expand_as(x)
''')

_define('''
def _take(x, index, dim):
    """torch.take_along_dim; 0 where there is nothing along the dimension, so that no index is in range."""
    if x.shape[dim] == 0:
        return x.new_zeros(torch.broadcast_shapes((*x.shape[:dim], 1, *x.shape[dim + 1 :]), index.shape))
    return torch.take_along_dim(x, index, dim)
''')

_define('''
def _at(x, *index):
    """x[index]; 0 where x has no entries, so that no index is in range."""
    if x.numel() == 0:
        return x.new_zeros(torch.broadcast_shapes(*(i.shape for i in index if isinstance(i, torch.Tensor))))
    return x[index]
''')

_define('''
def _fold_amax(x, dims):
    """The maximum; -inf over nothing."""
    if x.numel() == 0:
        low = -torch.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
        return x.new_full([1 if k in dims else s for k, s in enumerate(x.shape)], low)
    return x.amax(dims, keepdim=True)
''')

_define('''
def _fold_amin(x, dims):
    """The minimum; inf over nothing."""
    if x.numel() == 0:
        high = torch.inf if x.is_floating_point() else torch.iinfo(x.dtype).max
        return x.new_full([1 if k in dims else s for k, s in enumerate(x.shape)], high)
    return x.amin(dims, keepdim=True)
''')

_define('''
def _fold_prod(x, dims):
    """The product over several dimensions (torch.prod takes one)."""
    for dim in dims:
        x = x.prod(dim, keepdim=True)
    return x
''')

_define('''
def _joined(x, dims):
    """The dimensions `dims` as one, at the end."""
    return x.movedim(dims, tuple(range(-len(dims), 0))).flatten(-len(dims))
''')

_define(
    '''
def _fold_max(x, dims):
    """The maximum, whose gradient goes to the first winner; -inf over nothing."""
    shape = [1 if k in dims else s for k, s in enumerate(x.shape)]
    if x.numel() == 0:
        return x.new_full(shape, -torch.inf)
    flat = _joined(x, dims)
    return flat.gather(-1, flat.argmax(-1, keepdim=True)).reshape(shape)
''',
    "_joined",
)

_define(
    '''
def _fold_min(x, dims):
    """The minimum, whose gradient goes to the first winner; inf over nothing."""
    shape = [1 if k in dims else s for k, s in enumerate(x.shape)]
    if x.numel() == 0:
        return x.new_full(shape, torch.inf)
    flat = _joined(x, dims)
    return flat.gather(-1, flat.argmin(-1, keepdim=True)).reshape(shape)
''',
    "_joined",
)

_define(
    '''
def _fold_logsumexp(x, dims):
    """log(sum(exp(x))) with zero gradient where everything is -inf."""
    top = _fold_amax(x.detach(), dims)
    top = torch.where(top.isfinite(), top, 0.0)
    total = (x - top).exp().sum(dims, keepdim=True)
    empty = total == 0
    return torch.where(empty, -torch.inf, torch.where(empty, 1.0, total).log() + top)
''',
    "_fold_amax",
)

_define(
    '''
def _inverse(x):
    """The inverse of each matrix; nan where there is none."""
    inverse, info = torch.linalg.inv_ex(x)
    return torch.where((info == 0)[..., None, None], inverse, torch.nan)
'''
)

# For automatic differentiation: torch's derivatives of both raise an exception where a matrix is singular, and carry nan
# from a matrix that nothing reads.
_define(
    '''
def _safe_matrix(x, ok):
    """x, and the identity where it is not ok."""
    return torch.where(ok[..., None, None], x, torch.eye(x.shape[-1], dtype=x.dtype, device=x.device))
'''
)

_define(
    '''
def _differentiable_inverse(x):
    """The inverse of each matrix; nan, with zero gradient, where there is none."""
    inverse, info = torch.linalg.inv_ex(x.detach())
    ok = (info == 0) & inverse.isfinite().all(-1).all(-1)
    return torch.where(ok[..., None, None], torch.linalg.inv_ex(_safe_matrix(x, ok))[0], torch.nan)
''',
    "_safe_matrix",
)

_define(
    '''
def _differentiable_logdet(x):
    """log |det| of each matrix; zero gradient where it is singular or not finite."""
    plain = torch.linalg.slogdet(x.detach())[1]
    ok = plain.isfinite()
    return torch.where(ok, torch.linalg.slogdet(_safe_matrix(x, ok))[1], plain)
''',
    "_safe_matrix",
)

_define(
    '''
def _logcumsumexp(x, dim):
    """torch.logcumsumexp with zero gradient where everything so far is -inf, by doubled shifts."""
    size = x.shape[dim]
    for k in range(max(size - 1, 0).bit_length()):
        shift = 2**k
        before = x.narrow(dim, 0, size - shift)
        here = x.narrow(dim, shift, size - shift)
        top = torch.maximum(before, here).detach()
        top = torch.where(top.isfinite(), top, 0.0)
        total = (before - top).exp() + (here - top).exp()
        empty = total == 0
        both = torch.where(empty, -torch.inf, torch.where(empty, 1.0, total).log() + top)
        x = torch.cat([x.narrow(dim, 0, shift), both], dim)
    return x
'''
)

_define(
    '''
def _order(x, valid, over):
    """The stable ascending order of the last `over` dimensions as one (nan last); what is not valid comes after."""
    place = x.flatten(-over).argsort(dim=-1, stable=True)
    if valid is None:
        return place
    held = valid.flatten(-over).gather(-1, place)
    return place.gather(-1, torch.where(held, -1, place).argsort(dim=-1, stable=True))
'''
)

_define('''
def _divisor(x):
    """x, and 1 where it is 0."""
    return torch.where(x == 0, 1, x)
''')

_define('''
def _winner(x, valid, dim, largest):
    """The first index of the maximum (minimum) among the valid entries, the first valid one if all are infinite."""
    shape = torch.broadcast_shapes(x.shape, valid.shape)
    worst = -torch.inf if largest else torch.inf
    if not x.is_floating_point():
        worst = torch.iinfo(x.dtype).min if largest else torch.iinfo(x.dtype).max
    valid = valid.expand(shape)
    if shape[dim] == 0:
        return valid.sum(dim, keepdim=True)
    x = torch.where(valid, x, worst)
    place = x.argmax(dim, keepdim=True) if largest else x.argmin(dim, keepdim=True)
    return torch.where(valid.gather(dim, place), place, valid.int().argmax(dim, keepdim=True))
''')

_define(
    '''
def _flat_winner(x, valid, dims, largest):
    """The row-major position of the first maximum (minimum) over several dimensions, among the valid entries."""
    shape = [1 if k in dims else s for k, s in enumerate(x.shape)]
    if x.numel() == 0:
        return x.new_zeros(shape, dtype=torch.int64)
    if valid is None:
        flat = _joined(x, dims)
        place = flat.argmax(-1) if largest else flat.argmin(-1)
    else:
        place = _winner(_joined(x, dims), _joined(valid, dims), -1, largest)
    return place.reshape(shape)
''',
    "_joined",
    "_winner",
)

_define('''
def _span(x, dim, start, size, pad, step=1):
    """`size` entries of x along `dim` from `start` on, every `step`-th; `pad` where there are none."""
    count = x.shape[dim]
    first = min(max(-(start // step), 0), size)  # the first of them inside
    last = max(min((count - start + step - 1) // step, size), first)
    low = start + first * step
    piece = x.narrow(dim, min(max(low, 0), count), (last - first - 1) * step + 1 if last > first else 0)
    if step > 1:
        piece = piece[(slice(None),) * dim + (slice(None, None, step),)]
    if last - first == size:
        return piece
    around = [0, 0] * (x.dim() - dim - 1) + [first, size - last]
    return torch.nn.functional.pad(piece, around, value=pad)
''')

_define('''
def _stack(slices, shape, places, dtype, device):
    """A tensor of the given shape from its slices: their keys are the indices at `places`; 0 where there is none."""
    left = [size for k, size in enumerate(shape) if k not in places]
    keys = [()]
    for k in places:
        keys = [(*key, i) for key in keys for i in range(shape[k])]
    if not slices or not keys:
        return torch.zeros(shape, dtype=dtype, device=device)
    zero = torch.zeros(left, dtype=dtype, device=device)
    keys = [key[0] if len(places) == 1 else key for key in keys]
    whole = torch.stack([slices.get(key, zero) for key in keys]).reshape([shape[k] for k in places] + left)
    return whole.movedim(tuple(range(len(places))), places)
''')

_define('''
def _select(mask, a, b, out):
    """torch.where for large tensors on a CPU, where torch branches at every element: by bits instead."""
    whole = mask.shape == out.shape and out.shape in (a.shape, b.shape)
    if out.device.type != "cpu" or out.numel() < 65536 or not whole:
        return torch.where(mask, a, b, out=out)
    bits = torch.int64 if out.dtype == torch.float64 else torch.int32
    swapped = out.data_ptr() == b.data_ptr()  # the second operand is written over: start from the first
    keep, other = mask.view(torch.int8).to(bits), (a if swapped else b).view(bits)
    keep = keep.sub_(1) if swapped else keep.neg_()
    torch.bitwise_xor(a.view(bits), b.view(bits), out=out.view(bits)).bitwise_and_(keep).bitwise_xor_(other)
    return out
''')

_define('''
def _proxy(value, surrogate):
    """The value of the first with the derivative of the second."""
    return surrogate + (value - surrogate).detach()
''')

_define('''
def _fold_into(target, index, value, fold):
    """Combine values into `target` at the positions `index` (tensors that broadcast together)."""
    if target.numel() == 0:
        return target
    shape = torch.broadcast_shapes(value.shape, *(i.shape for i in index))
    flat = torch.zeros((), dtype=torch.int64, device=target.device)
    for place, size in zip(index, target.shape):
        flat = flat * size + place
    flat = flat.expand(shape).flatten()
    return target.flatten().scatter_reduce(0, flat, value.expand(shape).flatten(), fold).view_as(target)
''')


for _source, _needs in HELPERS:
    _define(_source, *_needs)


def helper_sources(names: Iterable[str], instead: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """The texts of the helpers with these names and of what they call, in a fixed order. `instead`: other texts for some,
    which need no more of these helpers."""
    wanted: set[str] = set()
    todo = sorted(names)
    facets: set[str] = set()
    while todo:
        name = todo.pop()
        if name.startswith("_h_"):
            facets.add(name)
        elif name not in wanted:
            wanted.add(name)
            todo += _NEEDS[name]
    own = [instead.get(name, text) for name, text in _SOURCES.items() if name in wanted]
    return own + (_facet_sources(facets) if facets else [])


def _facet_sources(names: set[str]) -> list[str]:
    found = primitives.helper_sources(sorted(names), primitives.TORCH_HELPERS)
    return [text.strip("\n") for text in found]
