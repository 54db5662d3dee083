"""Help for functions that a file calls and the language has not: what is written instead."""

from __future__ import annotations

from collections.abc import Iterable

from lossdsl import catalogue
from lossdsl.ir.build.scope import suggestion

_MATRIX = "`inverse(a over d, e)` and `logdet(a over d, e)`, with `axis e = d`"
_RANDOM = "there are no random functions: random numbers are an `input`"
_SHAPE = "shapes are index arithmetic: axes of a computed extent and an access, `x[b, p // size(w), p % size(w)]`"

# By the name in NumPy, torch or a textbook.
_INSTEAD = {
    "trace": "write `sum(a[e = d] over d)`, with `axis e = d`",
    "solve": "write a sum with the inverse: `sum(inverse(a over d, e) * b[d = e] over e)`",
    "inv": f"write {_MATRIX}",
    "det": f"write {_MATRIX}; the determinant is `exp(logdet(a over d, e))` where it is positive",
    "cholesky": f"write {_MATRIX}",
    "slogdet": f"write {_MATRIX}",
    "einsum": "write the sum: `sum(x[n, d] * y[m, d] over d)`",
    "matmul": "write the sum: `sum(x[n, d] * y[m, d] over d)`",
    "mm": "write the sum: `sum(x[n, d] * y[m, d] over d)`",
    "bmm": "write the sum: `sum(x[b, n, d] * y[b, m, d] over d)`",
    "dot": "write the sum: `sum(x * y over d)`",
    "gather": "a gather is an access: `x[c = target]`",
    "take": "a gather is an access: `x[c = target]`",
    "one_hot": "a one-hot row is the condition `c == target`",
    "scatter": "write a sum with a condition: `sum(x over n where group == g)`",
    "scatter_add": "write a sum with a condition: `sum(x over n where group == g)`",
    "topk": "sort, and take the ranks below k: `sort(x over c descending)`, `where c < k`",
    "where": "write `a if condition else b`; what a reduction leaves out is its own `where condition`",
    "masked_fill": "write `a if condition else b`; what a reduction leaves out is its own `where condition`",
    "detach": "write `stop(x)`",
    "stop_gradient": "write `stop(x)`",
    "grad": "write `derivative(expression, x)`; the derivative of a network is an input: `input g: real[n, d]  # d y / d x`",
    "fft": "a spectrum is a sum with tables of cosines and sines",
    "rfft": "a spectrum is a sum with tables of cosines and sines",
    "conv": "a window is a sum over offsets: `sum(weight[i] * x[t = t + i] over i)`",
    "conv2d": "a window is a sum over offsets: `sum(weight[i, j] * x[h = h + i, w = w + j] over i, j)`",
    "pad": "say what stands outside of an access: `x[t + 1 else 0]`, `x[edge(t + 1)]`, `reflect`, `wrap`",
    "nan_to_num": "leave out what may be nan: `where` of a reduction, or `a if condition else b`",
    "len": "the extent of an axis is `size(t)`",
    "shape": "the extent of an axis is `size(t)`",
    "numel": "the extent of an axis is `size(t)`",
    "arange": "an axis is an integer where it stands in an expression",
    "range": "an axis is an integer where it stands in an expression",
    "eye": "the identity is the condition `m == n`, with `axis m = n`",
    "diag": "a diagonal is an access: `a[n, n]`, or `a[m = n]`",
    "gamma": "write `exp(lgamma(x))`",
    "beta": "write `exp(lgamma(a) + lgamma(b) - lgamma(a + b))`",
    "log_softplus": "write `log(softplus(x))`",
    "gelu": "write `x * normal_cdf(x)`",
    "silu": "write `x * sigmoid(x)`",
    "swish": "write `x * sigmoid(x)`",
    "logit": "write `log(p) - log(1 - p)`",
    "norm_cdf": "write `normal_cdf(x)`",
    "rsqrt": "write `1 / sqrt(x)`",
    "square": "write `x^2`",
    "pow": "write `x^a`",
    "round": "write `floor(x + 1/2)`",
    "trigamma": "write `derivative(digamma(x), x)`",
    "int": "`floor(x)` is an integer; a condition counts 0 and 1 in arithmetic",
    "float": "types belong to the call: an integer or a condition in real arithmetic is a real number",
    **dict.fromkeys(("eig", "eigh", "eigvals", "eigvalsh", "eigenvalues", "svd", "qr"), "there is no such function: pass what is computed outside as an `input`"),
    **dict.fromkeys(("rand", "randn", "random", "uniform", "normal", "bernoulli", "dropout", "randperm"), _RANDOM),
    **dict.fromkeys(("reshape", "view", "flatten", "cat", "concat", "concatenate", "stack", "transpose", "permute"), _SHAPE),
}  # fmt: skip


def instead(name: str, known: Iterable[str]) -> str:
    """What to write instead of an unknown function: by its name elsewhere, a loss of the catalogue, or a near name."""
    help = _INSTEAD.get(name.lower())
    if help is not None:
        return help
    losses = [n for n in catalogue.names() if n.rpartition(".")[2] == name]
    if losses:
        return f"`use {losses[0]}` at the top of the file brings it in"
    return suggestion(name, list(known))


__all__ = ["instead"]
