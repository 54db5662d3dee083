"""Results that are larger than a cache, past the caches: a line of lanes is made in registers and written whole.

An ordinary store reads what it overwrites, and drives out of the cache what will be read again. A store past the caches
needs whole lines of memory; where a line does not begin at one, or lanes are not neighbours, it is stored as usual. The
size of the result decides when the function runs: what fits in a cache is best left there for its reader.
"""

from __future__ import annotations

from lossdsl.backends.native_edges import Edges
from lossdsl.backends.native_layout import Sink
from lossdsl.lower.plan import Store, Subscript

LARGE = 16777216  # bytes of a result


class Streams(Edges):
    def declare_large(self) -> None:
        """Variables that say which results are large, before the loops over programs."""
        for store in self.part.stores:
            if self.streamable(store) and store.buffer not in self.large:
                name = self.large[store.buffer] = self.names.fresh(f"{store.buffer}_large")
                count = " * ".join(self.extent(d) for d in self.plan.buffer(store.buffer).dims)
                self.out.line(f"const bool {name} = {count} * (int64_t)sizeof(real_t) >= {LARGE};")

    def streamable(self, store: Store) -> bool:
        """Whether lanes write neighbours of a result that nothing here reads."""
        b = self.plan.buffer(store.buffer)
        if b.role != "output" or not b.type.startswith("like ") or store.accumulate or store.buffer in self.around.kept:
            return False
        if not self.lane or b.chunked is not None or self.step(store) is None:
            return False
        return not any(getattr(s, "buffer", "") == store.buffer for s in self.part.statements)

    def step(self, store: Store) -> str | None:
        """How far neighbouring lanes are apart, or None if that is not all that a lane decides."""
        dims = self.plan.buffer(store.buffer).dims
        at = [k for k, s in enumerate(store.subscripts) if any(a in self.lane for a, _ in s.axes)]
        if [store.subscripts[k] for k in at] != [Subscript(((a, 1),)) for a in self.lane]:
            return None
        if at != list(range(at[0], at[0] + len(at))):
            return None
        after = [d for d in dims[at[-1] + 1 :] if d.constant != 1]
        return " * ".join(self.extent(d) for d in after) or "1"

    def open_lines(self, sinks: list[Sink]) -> None:
        """Before a loop over lanes that holds these sinks."""
        for sink in sinks:
            if isinstance(sink.what, Store) and sink.what.buffer in self.large:
                name = self.lines[id(sink.what)] = self.names.fresh(f"{sink.what.buffer}_line")
                self.out.line(f"real_t {name}[{self.width}];")

    def close_lines(self, sinks: list[Sink], length: str) -> None:
        """After the loop: write the lines."""
        for sink in sinks:
            if isinstance(sink.what, Store) and id(sink.what) in self.lines:
                store = sink.what
                name, step = self.lines.pop(id(store)), self.step(store)
                inner = self.index[self.lane]
                first = f"{self.bounds(self.lane[0])[0]} + " if self.lane[0] in self.around.rounds else ""
                start = self.index[self.lane] = self.names.fresh(f"{inner}_first")
                self.out.line(f"const int64_t {start} = {first}at;")
                offset, _ = self.offset(store.buffer, store.subscripts)
                self.index[self.lane] = inner
                given = f"{self.pointer(store.buffer)} + {offset}, {name}, {length}, {step}, {self.large[store.buffer]}"
                self.out.line(f"_h_put<{self.width}>({given});")
