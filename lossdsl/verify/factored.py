"""Enclosures of normal forms factor by factor where one variable is in a box, with what is large taken out of each factor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from lossdsl.verify import enclosure as e
from lossdsl.verify.algebra import Field, Form, Terms, stand_in, terms
from lossdsl.verify.enclosure import Enclosure
from lossdsl.verify.operations import transfer


@dataclass(frozen=True)
class Factored:
    """A form as a number times powers of polynomials, and the highest power of each generator in each of these."""

    number: Enclosure
    factors: tuple[tuple[Terms, Mapping[int, int], int], ...]

    @classmethod
    def of(cls, f: Form) -> Factored:
        number, factors = Fraction(1), []
        for p, side in ((f.num, 1), (f.den, -1)):
            if p.is_zero():
                return cls(Enclosure(0.0, 0.0), ())
            content, found = p.factor()
            number *= Fraction(int(content.p), int(content.q)) ** side
            for factor, k in found:
                written = terms(factor)
                degrees: dict[int, int] = {}
                for _, powers in written:
                    for s, k_s in powers:
                        degrees[s] = max(k_s, degrees.get(s, 0))
                factors.append((written, degrees, side * int(k)))
        return cls(e.exact(number), tuple(factors))


class At:
    """A field's generators where its variable is in a box: nothing else is assumed."""

    def __init__(self, forms: dict[int, tuple[Form, Factored]], field: Field, slot: int, box: Enclosure) -> None:
        self._forms, self.field = forms, field  # of the id of a form, which is kept beside it
        self._boxes: dict[int, Enclosure] = {slot: box}
        self._inverses: dict[int, Enclosure | None] = {}
        self._powers: dict[tuple[int, int], Enclosure] = {}

    def value(self, f: Form) -> Enclosure:
        """Factor by factor. What is large is taken out of each: far out a quotient of two of them is one of powers."""
        if id(f) not in self._forms:
            self._forms[id(f)] = f, Factored.of(f)
        form = self._forms[id(f)][1]
        result, outside = form.number, dict[int, int]()
        for written, degrees, k in form.factors:
            over = {s: d for s, d in degrees.items() if self._inverse(s) is not None}
            result = e.mul(result, e.integer_power(self._sum(written, over), k))
            for s, d in over.items():
                outside[s] = outside.get(s, 0) + k * d
        for s, d in outside.items():
            if d:
                result = e.mul(result, self._power(s, d))
        return result

    def _box(self, slot: int) -> Enclosure:
        if slot not in self._boxes:
            g = self.field.generators[slot]
            arguments = [self.value(a) for a in g.arguments]
            self._boxes[slot] = transfer(stand_in(g.name, len(arguments)), arguments)
        return self._boxes[slot]

    def _inverse(self, slot: int) -> Enclosure | None:
        """The reciprocal of a generator that is at least 1 in size."""
        if slot not in self._inverses:
            box = self._box(slot)
            large = not box.nan and (box.lo >= 1 or box.hi <= -1)
            self._inverses[slot] = e.div(Enclosure(1.0, 1.0), box) if large else None
        return self._inverses[slot]

    def _sum(self, written: Terms, over: Mapping[int, int]) -> Enclosure:
        total = Enclosure(0.0, 0.0)
        for coefficient, powers in written:
            term, left = coefficient, dict(over)
            for slot, k in powers:
                if slot in left:
                    left[slot] -= k
                else:
                    term = e.mul(term, self._power(slot, k))
            for slot, k in left.items():
                if k:
                    term = e.mul(term, self._power(slot, -k))
            total = e.add(total, term)
        return total

    def _power(self, slot: int, k: int) -> Enclosure:
        """A power of a generator; of its reciprocal, which is known to be at most 1, for k < 0."""
        if (slot, k) not in self._powers:
            box = self._box(slot) if k > 0 else self._inverse(slot)
            assert box is not None
            self._powers[slot, k] = e.integer_power(box, abs(k))
        return self._powers[slot, k]


__all__ = ["At", "Factored"]
