"""What the rule behind a step of a proof says, in mathematics: for steps that name a rule and what it was applied to."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lossdsl.explain.sentence import Line, line
from lossdsl.verify.verdict import Step

# The start of a rule's name -> the statement that it uses.
STATEMENTS: dict[str, str] = {
    "enclosure": "Interval arithmetic with outward rounding over the declared domains encloses every value",
    "composition": "A composition keeps the property where the outer function has it on the range of its argument",
    "induction over the rounds": "What holds of a value of a recurrence if it holds of all earlier ones holds of all",
    "continuous on a compact domain": "A continuous function on a closed and bounded set is bounded, and away from 0 if it is "
    "nowhere 0 (Weierstrass)",
    "Euclidean norm": "The Euclidean norm of what is affine, or convex and >= 0, is convex",
    "log of what is log-convex": "Sums, products and positive multiples of exponentials of convex functions are log-convex",
    "one interval evaluation of the factored form": "The expression is brought to lowest terms and factored exactly; "
    "the signs of its factors over the whole domain decide its sign",
    "extremum of the derivative": "What the derivative reaches, or comes as near to as one likes, no bound may pass",
    "turn of the slope": "Just beyond this distance the second derivative is negative",
    "order of the arguments": "An increasing function has the larger value at the larger argument",
    "z3": "No real numbers satisfy the conditions and the contrary (decided exactly by z3, real arithmetic)",
    "interval evaluation after fixing": "The expression depends on differences or ratios of what it reads alone, so "
    "that some of it can be fixed; interval evaluation of the factors then has a definite sign",
    "interval branch and bound": "Interval evaluation has the sign on every box of a subdivision of the domain, or on the "
    "face of the box at which a monotone expression is smallest",
    "the case cannot occur": "The conditions of this case contradict one another",
    "exact normal form": "Both sides have the same exact normal form (a quotient of polynomials in logarithms, "
    "exponentials and what is left), so that they are equal wherever they are defined",
    "growth along the tails": "The leading terms along the tails, compared in the order of exponentials, powers, logarithms",
    "stationary point": "A convex function is least where its slope is 0",
    "second derivative": "A function with a second derivative that is 0 at single points at most is strictly convex if convex",
    "a maximum dominates its elements": "The maximum and the log-sum-exp of a row are at least each of its elements",
    "Gibbs' inequality": "t - 1 >= log t at t = v / u gives u log(u / v) >= u - v, summed up",
    "principal minors": "A symmetric matrix is positive semidefinite if and only if all of its principal minors are >= 0",
    "gradient mass": "The gradient is P - Q with P, Q >= 0 entry by entry; these are bounds of their sums (the gradient "
    "of a log-sum-exp has mass 1; sums add, factors scale)",
    "response to": "What happens to each tensor when the input is changed so, carried from definition to definition",
    "permutation of": "A permutation of the input permutes each tensor along the axis, and reductions over it forget it",
    "difference": "The difference to the value at the place is >= 0",
    "both curvatures": "A function that is convex and concave is affine",
    "convex": "A convex function has convex sublevel sets",
    "monotone": "A monotone function of one variable has convex sublevel sets",
    "separated": "The expected loss is a sum of one term for each class plus a term of the whole prediction",
    "spherical score": "By the Cauchy-Schwarz inequality the normalised inner product is largest at the probabilities alone",
    "limits": "The limits at the boundary decide what the infimum is",
    "slope at the threshold": "The expected loss falls through the threshold towards the likelier label",
    "strictly proper": "Where the probabilities alone minimise the expected loss, the wrong side is worse than the best",
    "attained": "The value is taken at a point",
    "does not vary": "It does not depend on the input",
    "does not occur": "The entry does not occur in the expression there",
    "bounds of the slope": "Interval bounds of the slope under the condition",
    "slope": "The sign of the slope, piece by piece",
    "float ranges": "Ranges in the float type's arithmetic, errors and overflow included",
    "limit along a sequence": "The values along a sequence of points come as near to the bound as one likes",
    "bisection": "The number lies between the bounds with which the claim is proved and those with which it is refuted",
    "no piece": "There is nothing to show",
}
_FOLDS = " of what is non-negative"
_LIPSCHITZ = "Sums, bounded multiples and compositions of Lipschitz functions are Lipschitz; so are the log-sum-exp and the maximum"
_CLASSES = "Sums, products and compositions of functions of a class are of the class where they are defined"
_SYMBOL = re.compile(r"\$(\w+)")
_MEANT = {
    "eta": "eta is the probability of the positive label (of the class)",
    "link": "link is the probability that the prediction stands for",
    "q": "q is the probability that is predicted for the class",
}


def statement(step: Step) -> str:
    """The statement that a step uses; the name of its rule if there is none."""
    rule = step.rule
    if rule.startswith("composition") and "ipschitz" in step.conclusion:
        return _LIPSCHITZ
    if rule.startswith("composition of"):
        return _CLASSES
    if rule == f"map{_FOLDS}":
        return "What is made of parts that are >= 0 by sums and products is >= 0"
    if rule.endswith(_FOLDS):
        return f"The {rule.removesuffix(_FOLDS)} of what is >= 0 is >= 0"
    if rule.endswith(("exchanged", "negated")):
        return f"With {rule}, every definition has the same canonical form (operands sorted, signs drawn outward)"
    found = [start for start in STATEMENTS if rule == start or rule.startswith((f"{start} ", f"{start},"))]
    return STATEMENTS[max(found, key=len)] if found else rule


def told(steps: Sequence[Step]) -> list[Line]:
    """Each rule once, with everything that it was applied to below it; what symbols mean first."""
    used = {name for step in steps for name in _SYMBOL.findall(f"{step.subject} {step.conclusion}")}
    meant = [text for name, text in _MEANT.items() if name in used]
    out = [line(f"Here {'; '.join(meant)}.")] if meant else []
    last = None
    for step in steps:
        said = statement(step)
        if said != last:
            out.append(line(f"{said}:"))
            last = said
        shown = f"{step.subject}: {step.conclusion}" if step.subject else step.conclusion
        out.append(line(_SYMBOL.sub(r"\1", shown), depth=1))
    return out
