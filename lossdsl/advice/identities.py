"""The table of identities: what is written, what to write instead, and what goes wrong as it is written.

Both sides are expressions of the language. The names in `variables` stand for any expression; `over axes` stands for any
clauses of a reduction (`over c where ...`), the same on both sides. An identity holds for all real values of its variables
in the given domains at which the left side is a real number; the right side is one there, too. The table is only where to
look: what is offered is proved for the loss at hand (`equality.py`), and tried out (`advise.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

RANGE, DIGITS = "range", "digits"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """`written` = `instead`.

    variables  each variable and the type that it has in an example of the identity
    because    what happens as it is written; {x} is what the variable x stands for
    gains      "range": values are finite that were not; "digits": digits are kept that cancel
    """

    written: str
    instead: str
    variables: Mapping[str, str] = field(default_factory=lambda: {"x": "real[n]"}, hash=False)
    because: str
    gains: str = RANGE

    @property
    def overflows(self) -> bool:
        """Whether it goes wrong from some size of its variables on."""
        return self.gains == RANGE and any(word in self.because for word in ("overflow", "underflow", "rounds"))


_ROW = {"x": "real[n, c]"}
_TWO = {"x": "real[n]", "y": "real[n]"}
_POSITIVE = {"x": "real[n] > 0", "y": "real[n] > 0"}
_SUM = "the sum of exponentials overflows, or all of them underflow to 0"
_EXP = "exp overflows"
_QUOTIENT = "exp overflows, and inf / inf is not a number"

IDENTITIES: tuple[Identity, ...] = (
    # ------------------------------------------------------------------------------------- log of a sum of exponentials
    Identity(written="log(1 + exp(x))", instead="softplus(x)", because=_EXP),
    Identity(written="log1p(exp(x))", instead="softplus(x)", because=_EXP),
    Identity(written="log(1 + sum(exp(x) over axes))", instead="softplus(logsumexp(x over axes))", variables=_ROW, because=_EXP),
    Identity(written="log1p(sum(exp(x) over axes))", instead="softplus(logsumexp(x over axes))", variables=_ROW, because=_EXP),
    Identity(written="log(sum(exp(x) over axes))", instead="logsumexp(x over axes)", variables=_ROW, because=_SUM),
    Identity(
        written="log(mean(exp(x) over axes))", instead="logsumexp(x over axes) - log(size(axes))", variables=_ROW, because=_SUM
    ),
    Identity(written="log(exp(x) + exp(y))", instead="logaddexp(x, y)", variables=_TWO, because=_SUM),
    Identity(
        written="log(exp(x) + sum(exp(y) over axes))", instead="logaddexp(x, logsumexp(y over axes))",
        variables={"x": "real[n]", "y": "real[n, c]"}, because=_SUM,
    ),
    Identity(
        written="log(sum(exp(x) over axes) + sum(exp(y) over axes))",
        instead="logaddexp(logsumexp(x over axes), logsumexp(y over axes))",
        variables={"x": "real[n, c]", "y": "real[n, c]"}, because=_SUM,
    ),
    Identity(written="log((exp(x) + exp(-x)) / 2)", instead="logcosh(x)", because=_EXP),
    Identity(written="log(cosh(x))", instead="logcosh(x)", because="cosh overflows"),
    # ------------------------------------------------------------------------------------------- log of a probability
    Identity(written="log(softmax(x over axes))", instead="log_softmax(x over axes)", variables=_ROW,
             because="softmax underflows to 0"),
    Identity(written="log(exp(x) / sum(exp(x) over axes))", instead="log_softmax(x over axes)", variables=_ROW, because=_SUM),
    Identity(
        written="log(exp(x) / sum(exp(y) over axes))", instead="x - logsumexp(y over axes)",
        variables={"x": "real[n]", "y": "real[n, c]"}, because=_SUM,
    ),
    Identity(written="log(exp(x) / (exp(x) + exp(y)))", instead="logsigmoid(x - y)", variables=_TWO, because=_QUOTIENT),
    Identity(written="log(sigmoid(x))", instead="logsigmoid(x)", because="sigmoid underflows to 0"),
    Identity(written="log(1 - sigmoid(x))", instead="logsigmoid(-x)", because="sigmoid rounds to 1"),
    Identity(written="log(1 / (1 + exp(-x)))", instead="logsigmoid(x)", because=_EXP),
    Identity(written="log(1 - 1 / (1 + exp(-x)))", instead="logsigmoid(-x)", because="the quotient rounds to 1"),
    Identity(written="log(exp(x) / (1 + exp(x)))", instead="logsigmoid(x)", because=_QUOTIENT),
    Identity(written="log(1 - exp(x))", instead="log1mexp(x)", variables={"x": "real[n] < 0"}, because="exp rounds to 1",
             gains=DIGITS),
    # ---------------------------------------------------------------------------------------- quotients of exponentials
    Identity(written="exp(x) / sum(exp(x) over axes)", instead="softmax(x over axes)", variables=_ROW, because=_QUOTIENT),
    Identity(written="exp(x) / (exp(x) + exp(y))", instead="sigmoid(x - y)", variables=_TWO, because=_QUOTIENT),
    Identity(written="exp(x) / (1 + exp(x))", instead="sigmoid(x)", because=_QUOTIENT),
    Identity(written="1 / (1 + exp(-x))", instead="sigmoid(x)", because=_EXP),
    Identity(written="(exp(x) - exp(-x)) / (exp(x) + exp(-x))", instead="tanh(x)", because=_QUOTIENT),
    Identity(written="exp(x) / exp(y)", instead="exp(x - y)", variables=_TWO, because=_QUOTIENT),
    Identity(written="exp(x) * exp(y)", instead="exp(x + y)", variables=_TWO, because="one exp overflows where the product does not"),
    # ------------------------------------------------------------------------------------------- products and powers
    Identity(written="log(exp(x))", instead="x", because="exp overflows, or underflows to 0"),
    Identity(written="log(x / y)", instead="log(x) - log(y)", variables=_POSITIVE, because="the quotient overflows, or underflows to 0"),
    Identity(written="log(x * y)", instead="log(x) + log(y)", variables=_POSITIVE, because="the product overflows, or underflows to 0"),
    Identity(written="log(prod(x over axes))", instead="sum(log(x) over axes)", variables={"x": "real[n, c] > 0"},
             because="the product overflows, or underflows to 0"),
    Identity(written="sqrt(x^2)", instead="abs(x)", because="the square overflows, or underflows to 0"),
    Identity(written="sqrt(x * x)", instead="abs(x)", because="the square overflows, or underflows to 0"),
    Identity(written="x * log(x)", instead="xlogy(x, x)", variables={"x": "real[n] > 0"}, because="0 * log(0) is not a number"),
    Identity(written="x * log(y)", instead="xlogy(x, y)", variables=_POSITIVE, because="0 * log(0) is not a number"),
    # ------------------------------------------------------------------------------------------- digits that cancel
    Identity(written="exp(x) - 1", instead="expm1(x)", because="digits cancel where {x} is small", gains=DIGITS),
    Identity(written="1 - exp(x)", instead="-expm1(x)", because="digits cancel where {x} is small", gains=DIGITS),
    Identity(written="log(1 + x)", instead="log1p(x)", variables={"x": "real[n] > -1"}, because="digits are lost where {x} is small",
             gains=DIGITS),
    Identity(written="log(1 - x)", instead="log1p(-x)", variables={"x": "real[n] < 1"}, because="digits are lost where {x} is small",
             gains=DIGITS),
    Identity(written="1 - sigmoid(x)", instead="sigmoid(-x)", because="digits cancel where {x} is large", gains=DIGITS),
)  # fmt: skip


__all__ = ["DIGITS", "IDENTITIES", "RANGE", "Identity"]
