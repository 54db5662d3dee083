"""Substitution, renaming, sharing and pruning: the only module that replaces one scalar by another.

A body binds nothing, so substitution can capture nothing; all walks are iterative and memoised over distinct nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

from lossdsl.ir.nodes import (
    Const,
    Definition,
    Group,
    Index,
    Output,
    Param,
    Program,
    Read,
    Reductions,
    Scalar,
    indices_of,
    postorder,
    tensors_of,
)

Item = Definition | Group
_Key = tuple[object, ...]


def transform(
    node: Scalar,
    fn: Callable[[Scalar], Scalar],
    memo: dict[Scalar, Scalar] | None = None,
    enter: Callable[[Scalar], bool] | None = None,
) -> Scalar:
    """`fn` applied to every distinct node, children first; `fn` gets the node over its already transformed children.

    `memo` may be shared between calls with the same `fn`. What `enter` refuses stays as it is, with all below it.
    """
    done: dict[Scalar, Scalar] = {} if memo is None else memo
    stack = [node]
    while stack:
        top = stack[-1]
        if top in done:
            stack.pop()
            continue
        if enter is not None and not enter(top):
            done[top] = top
            stack.pop()
            continue
        children = top.children
        if children:
            waiting = [c for c in children if c not in done]
            if waiting:
                waiting.reverse()
                stack += waiting
                continue
            below = tuple([done[c] for c in children])
            done[top] = fn(top if below == children else top.rebuild(below))  # nodes are equal where they are the same
        else:
            done[top] = fn(top)
        stack.pop()
    return done[node]


def substitute(node: Scalar, mapping: Mapping[Scalar, Scalar], memo: dict[Scalar, Scalar] | None = None) -> Scalar:
    """`node` with every occurrence of a key of `mapping` replaced, simultaneously (values are not searched again).

    `memo` may be shared between calls with the same mapping.
    """
    done: dict[Scalar, Scalar] = {} if memo is None else memo
    if not done:
        if all(old is new for old, new in mapping.items()):
            return node
        done.update(mapping)
    if all(isinstance(old, Index) for old in mapping):  # nothing else depends on them: most of a body is left alone
        without = mapping.keys().isdisjoint
        return transform(node, _same, done, lambda n: not without(n.free))
    return transform(node, _same, done)


def _same(node: Scalar) -> Scalar:
    return node


def reads(*nodes: Scalar) -> Iterator[Read]:
    """Each distinct Read below the nodes once, children first."""
    for node in postorder(*nodes):
        if isinstance(node, Read):
            yield node


def free_indices(*nodes: Scalar) -> tuple[Index, ...]:
    """Each distinct index variable below the nodes once, in order of appearance."""
    return indices_of(nodes)


def tensors(item: Item) -> tuple[str, ...]:
    """Names of the tensors that a definition or group reads (its own included), each once, in order of appearance."""
    return tensors_of(s for definition in members(item) for s in definition.scalars())


def members(item: Item) -> tuple[Definition, ...]:
    """The definitions of a group, or the definition itself."""
    return item.definitions if isinstance(item, Group) else (item,)


def map_scalars(definition: Definition, fn: Callable[[Scalar], Scalar]) -> Definition:
    """The definition with `fn` applied to its `where`, body and support as wholes."""
    where, body, support = (fn(s) for s in definition.scalars())
    if (where, body, support) == definition.scalars():
        return definition
    return replace(definition, where=where, body=body, support=support)


def map_item(item: Item, fn: Callable[[Definition], Definition]) -> Item:
    """`fn` applied to the definition, or to each of the group."""
    if isinstance(item, Group):
        return replace(item, definitions=tuple(fn(d) for d in item.definitions))
    return fn(item)


def instantiate(definition: Definition, indices: tuple[Scalar, ...]) -> Scalar:
    """The body of a `map` definition at the given indices. Raises ValueError for another head or another rank."""
    if definition.head != "map" or len(indices) != len(definition.formals):
        raise ValueError(f"{definition.tensor} cannot be instantiated at {len(indices)} indices")
    return substitute(definition.body, dict(zip(definition.formals, indices)))


def rename_indices(definition: Definition, mapping: Mapping[Index, Index]) -> Definition:
    """The definition with index variables renamed, binders and occurrences alike (over the same extents)."""
    memo: dict[Scalar, Scalar] = {}
    for old, new in mapping.items():
        memo[old] = new
    where, body, support = (transform(s, _same, memo) for s in definition.scalars())
    return replace(
        definition,
        formals=tuple(mapping.get(i, i) for i in definition.formals),
        bound=tuple(mapping.get(i, i) for i in definition.bound),
        where=where,
        body=body,
        support=support,
    )


def rename_definition(definition: Definition) -> Definition:
    """The definition with its formals and bound indices named by position ("$0", "$1", ...)."""
    every = definition.formals + definition.bound
    return rename_indices(definition, {i: Index(f"${k}", i.dim) for k, i in enumerate(every)})


@lru_cache(maxsize=1 << 13)
def canonical(definition: Definition) -> _Key:
    """A key that is equal for two definitions exactly if they are the same up to names of indices and the tensor."""
    d = rename_definition(definition)
    return (tuple(i.dim for i in d.formals), d.head, tuple(i.dim for i in d.bound), d.where, d.body, d.support)


def rename_tensors(node: Scalar, names: Mapping[str, str], memo: dict[Scalar, Scalar] | None = None) -> Scalar:
    """`node` with reads of the tensors in `names` redirected."""

    def step(n: Scalar) -> Scalar:
        if isinstance(n, Read) and n.tensor in names:
            return Read(names[n.tensor], n.indices, n.kind)
        return n

    return transform(node, step, memo) if names else node


def _group_key(group: Group) -> _Key:
    names = {d.tensor: f"${k}" for k, d in enumerate(group.definitions)}
    keys: list[object] = ["group"]
    for d in group.definitions:
        keys.append(canonical(map_scalars(d, lambda s: rename_tensors(s, names))))
        places = [i.name for i in d.formals]
        keys.append(tuple((places.index(a) if a in places else a, sign) for a, sign in group.order))
    return tuple(keys)


def cse(program: Program) -> Program:
    """Definitions (and groups) that are equal up to naming become one, the first; readers and roles are redirected."""
    names: dict[str, str] = {}
    known: dict[_Key, tuple[str, ...]] = {}
    memo: dict[Scalar, Scalar] = {}
    kept: list[Item] = []
    for item in program.body:
        if any(name in names for name in tensors(item)):
            item = map_item(item, lambda d: map_scalars(d, lambda s: rename_tensors(s, names, memo)))
        key = _group_key(item) if isinstance(item, Group) else canonical(item)
        mine = tuple(d.tensor for d in members(item))
        first = known.setdefault(key, mine)
        if first is mine:
            kept.append(item)
        else:
            names.update(zip(mine, first))
            memo.clear()
    return _rename_roles(program, names).with_body(tuple(kept)) if names else program


def _rename_roles(program: Program, names: Mapping[str, str]) -> Program:
    def to(name: str) -> str:
        return names.get(name, name)

    r = program.reductions
    modes = r and Reductions(r.written, to(r.mean), to(r.sum), to(r.none), to(r.total), to(r.weight), to(r.element))
    outputs = tuple(Output(o.name, to(o.tensor)) for o in program.outputs)
    updates = tuple(Output(o.name, to(o.tensor)) for o in program.updates)
    return replace(program, outputs=outputs, reductions=modes, target=to(program.target), updates=updates)


def roots(program: Program) -> tuple[str, ...]:
    """Tensors that the program must keep: those of outputs, reduction modes and the target; each once."""
    names = [o.tensor for o in (*program.outputs, *program.updates)]
    if program.reductions is not None:
        r = program.reductions
        names += [r.mean, r.sum, r.none, r.total, r.weight, r.element]
    if program.target:
        names.append(program.target)
    return tuple(dict.fromkeys(names))


def prune(program: Program, outputs: Iterable[str] | None = None, keep: Iterable[str] = ()) -> Program:
    """The program without definitions that nothing needs.

    With `outputs` (names of outputs) only those outputs stay, and reduction modes, updates and target are dropped; `keep` names
    further tensors to keep. Raises ValueError for an output that the program does not have.
    """
    if outputs is not None:
        wanted = list(outputs)
        table = {o.name: o for o in program.outputs}
        missing = [name for name in wanted if name not in table]
        if missing:
            raise ValueError(f"{program.name} has no output {missing[0]!r}")
        program = replace(program, outputs=tuple(table[n] for n in wanted), reductions=None, target="", updates=())
    needed = {*roots(program), *keep}
    kept: list[Item] = []
    for item in reversed(program.body):
        if any(d.tensor in needed for d in members(item)):
            kept.append(item)
            needed.update(tensors(item))
    return program.with_body(tuple(reversed(kept)))


def with_numbers(program: Program, fixed: Mapping[str, Fraction]) -> Program:
    """The program with reads of the fixed inputs and parameters replaced by their value."""
    if not fixed:
        return program
    inputs = {i.name for i in program.inputs}
    memo: dict[Scalar, Scalar] = {}

    def step(n: Scalar) -> Scalar:
        name = n.name if isinstance(n, Param) else n.tensor if isinstance(n, Read) and n.tensor in inputs else None
        return Const(fixed[name], n.dtype) if name is not None and name in fixed else n

    def define(d: Definition) -> Definition:
        return map_scalars(d, lambda s: transform(s, step, memo))

    return program.with_body(tuple(map_item(item, define) for item in program.body))


def topological(body: Iterable[Item]) -> tuple[Item, ...]:
    """The items in dependency order, otherwise as given. Raises ValueError on a cycle that is not inside one group."""
    items = list(body)
    maker = {d.tensor: k for k, item in enumerate(items) for d in members(item)}
    needs = [sorted({maker[t] for t in tensors(item) if t in maker} - {k}) for k, item in enumerate(items)]
    state = [0] * len(items)  # 0 new, 1 open, 2 done
    order: list[Item] = []
    for start in range(len(items)):
        stack = [start]
        while stack:
            k = stack[-1]
            if state[k] == 0:
                state[k] = 1
                for other in reversed(needs[k]):
                    if state[other] == 1:
                        raise ValueError(f"{members(items[k])[0].tensor} depends on itself")
                    if state[other] == 0:
                        stack.append(other)
                continue
            stack.pop()
            if state[k] == 1:
                state[k] = 2
                order.append(items[k])
    return tuple(order)


class Fresh:
    """Names that are not taken: `fresh("per")` is "per" the first time, then "per.1", "per.2", ... Deterministic."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = set(taken)
        self._next: dict[str, int] = {}

    @classmethod
    def of(cls, program: Program) -> Fresh:
        """Fresh names beside all tensors and parameters of the program."""
        names = [i.name for i in program.inputs] + [p.name for p in program.parameters]
        return cls([*names, *(d.tensor for d in program.definitions())])

    def __call__(self, base: str) -> str:
        name, k = base, self._next.get(base, 1)
        while name in self.taken:
            name, k = f"{base}.{k}", k + 1
        self._next[base] = k
        self.taken.add(name)
        return name


def fresh_index(base: Index, taken: Iterable[Index]) -> Index:
    """An index over the dim of `base` whose name differs from all taken ones (base's own name if it is free)."""
    names = {i.name for i in taken}
    name, k = base.name, 1
    while name in names:
        name, k = f"{base.name}.{k}", k + 1
    return Index(name, base.dim)
