"""Verdicts: three-valued, and never without evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

TASK = "task alignment"
LEARNING = "learning behaviour"
STABILITY = "stability and convergence"
COST = "computational efficiency"
DIFFERENTIABILITY = "differentiability"
NOISE = "noise sensitivity"
SCALABILITY = "scalability"
INTERPRETABILITY = "interpretability"
REGULARISATION = "provision for regularisation"
CRITERIA = (TASK, LEARNING, STABILITY, COST, DIFFERENTIABILITY, NOISE, SCALABILITY, INTERPRETABILITY, REGULARISATION)

# findings whose value is what was asked for
ERRORS = tuple(f"{of}error in {word}" for word in ("float32", "float16", "bfloat16") for of in ("", "gradient "))
QUANTITIES = (
    "range",
    "lipschitz constant",
    "gradient lipschitz constant",
    "strong convexity modulus",
    "convex radius",
    *ERRORS,
)


@dataclass(frozen=True)
class Step:
    """One step of a proof: the rule that was used, on which expression (IR text), and what it concluded."""

    rule: str
    subject: str
    conclusion: str


@dataclass(frozen=True)
class Bracket:
    """A number enclosed: certified `lower <= value <= upper`; None is unbounded on that side. `exact` is the symbolic
    value in the parameters where one is proved (`delta`, `1/temperature`)."""

    lower: float | None
    upper: float | None
    exact: str | None = None

    def text(self) -> str:
        """As reports have it: the exact value, one number, or an interval."""
        if self.exact is not None:
            return self.exact
        if self.lower is not None and self.lower == self.upper:
            return f"{self.lower:.6g}"
        low = "-inf" if self.lower is None else f"{self.lower:.6g}"
        high = "inf" if self.upper is None else f"{self.upper:.6g}"
        return f"[{low}, {high}]"


NO_VALUE = "the value is no real number"  # how such a violation begins


@dataclass(frozen=True)
class Witness:
    """A counterexample: exact rational values of inputs and parameters, and what is wrong there, certified by interval
    arithmetic. `points` has one assignment, or two and a `t` for convexity, or the ends of a sequence. `extents` are those
    that a point does not show: of axes without an element, or with more of them, which are as the last one then."""

    points: tuple[Mapping[str, Fraction], ...]
    violation: str
    t: Fraction | None = None
    extents: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Proved:
    method: str
    steps: tuple[Step, ...]
    value: Bracket | None = None

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("a proof without steps")


@dataclass(frozen=True)
class Refuted:
    method: str
    witness: Witness
    value: Bracket | None = None


@dataclass(frozen=True)
class Unknown:
    """`blocker`: the smallest subexpression that no engine got past, as IR or source text; `tried`: the engines."""

    blocker: str
    tried: tuple[str, ...] = ()
    value: Bracket | None = None


Verdict = Proved | Refuted | Unknown


@dataclass(frozen=True)
class Finding:
    """One line of the report: a property of a target in some inputs, under conditions, with its verdict.

    property   "convex", "lipschitz", "nonnegative", "range", "differentiable", "finite in float16" ...
    of         the target tensor ("per", "return"); wrt: input names; when: text of the narrowing, "" if none
    criterion  one of the nine headings of the report card
    """

    property: str
    of: str
    wrt: tuple[str, ...]
    when: str
    verdict: Verdict
    criterion: str
    detail: str = ""
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class ClaimResult:
    """A `claim` line of the file, decided."""

    text: str
    line: int
    verdict: Verdict
    negated: bool = False

    @property
    def status(self) -> str:
        """ "proved" | "refuted" | "unknown", of the claim itself (a `not` claim is proved by a refutation)."""
        plain = {Proved: "proved", Refuted: "refuted", Unknown: "unknown"}[type(self.verdict)]
        if not self.negated:
            return plain
        return {"proved": "refuted", "refuted": "proved", "unknown": "unknown"}[plain]


@dataclass(frozen=True)
class Report:
    """Everything that was found about one loss."""

    loss: str
    findings: tuple[Finding, ...]
    claims: tuple[ClaimResult, ...]
