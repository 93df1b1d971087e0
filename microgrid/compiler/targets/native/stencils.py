"""Sums into neighbouring members, turned round: each member is written once, as the sum of what reaches it.

A loop that adds ``u[i]`` to member ``i`` and ``v[i]`` to member ``i + 1`` of one buffer, as the gradient of a chain of
neighbours does, reads and writes memory twice as often as it must, and each time what it has just written. Here
member ``i + 1`` becomes ``u[i + 1] + v[i]``, of which the ends are written out. What is computed twice for that is
arithmetic alone: cheaper than memory.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from microgrid import ops
from microgrid.compiler.ir import Map
from microgrid.compiler.targets.native.loop_ir import (
    SAMPLES,
    Address,
    Affine,
    For,
    Let,
    Load,
    LoopProgram,
    Name,
    Operand,
    Statement,
    Store,
)

WIDEST = 8
"""Members that are farther apart are no neighbours: the ends, which are written out, would be long."""

CHEAP = {
    *("add", "subtract", "multiply", "negative", "abs", "maximum", "minimum", "where", "number", "not", "clip"),
    *("less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "logical_not", "sign", "relu"),
}
"""Rows by their names on arrays that may be computed twice; small powers are, too."""

MEETS = {"sum": ops.add, "dot": ops.add, "largest": ops.maximum, "smallest": ops.minimum}


def gathered(program: LoopProgram) -> LoopProgram:
    """Return the program with the loops that add to neighbours turned round."""
    before: list[Statement] = []
    for statement in program.before:
        turned = _turned(statement, len(before)) if isinstance(statement, For) else None
        if turned is None:
            before.append(statement)
            continue
        loop, stores = turned
        for buffer in dict.fromkeys(store.address.buffer.name for store in stores):
            mine = sum(store.address.buffer.name == buffer for store in stores)
            before, loop = _without_fill(before, loop, buffer, program, mine)
        before += loop
    return replace(program, before=tuple(before))


def _turned(loop: For, number: int) -> "tuple[list[Statement], list[Store]] | None":
    """The loop turned round, with its ends; ``None`` if it does not add to neighbours, or what it adds is dear."""
    body = loop.body
    if not loop.lanes or loop.extent == SAMPLES or any(isinstance(s, For) for s in body):
        return None
    if any(isinstance(s, Load) and s.address.chosen is not None for s in body):
        return None
    adding: dict[str, list[Store]] = {}
    for s in body:
        if isinstance(s, Store) and s.adds and s.address.table is None and s.address.member.terms == ((loop.index, 1),):
            adding.setdefault(s.address.buffer.name, []).append(s)
    found = {name: stores for name, stores in adding.items() if len({s.address.member.base for s in stores}) > 1}
    if not found or not all(_is_cheap(s) for s in body if isinstance(s, Let)):
        return None
    bases = {name: [s.address.member.base for s in stores] for name, stores in found.items()}
    spread = max(max(b) - min(b) for b in bases.values())
    assert isinstance(loop.extent, int)
    if spread > WIDEST or loop.extent < 4 * spread:
        return None
    turned = [s for stores in found.values() for s in stores]
    ways = [_written(loop, number, list(found.values()), spread, behind) for behind in range(spread + 1)]
    return min(ways, key=_arithmetic), turned


def _arithmetic(statements: Sequence[Statement]) -> int:
    """How many operations the first loop of some statements is, at each point."""
    loop = next(s for s in statements if isinstance(s, For))
    return sum(isinstance(s, Let) for s in loop.body)


def _written(loop: For, number: int, found: Sequence[Sequence[Store]], spread: int, behind: int) -> list[Statement]:
    """The loop turned round and its ends: it does the rest of its work so many points behind its index."""
    turned = [s for stores in found for s in stores]
    rest = [s for s in loop.body if s not in turned]
    assert isinstance(loop.extent, int)
    count = loop.extent
    writer = _Writer(loop, f"_{number}_")
    inside = writer.copied(rest, Affine(behind, ((loop.index, 1),)), rename=False)
    ends: list[Statement] = []
    for stores in found:
        last = max(s.address.member.base for s in stores)
        first = min(s.address.member.base for s in stores)
        points = [(s, Affine(last - s.address.member.base, ((loop.index, 1),))) for s in stores]
        inside += writer.sum(points, replace(stores[0].address, member=Affine(last, ((loop.index, 1),))))
        for member in [*range(first, last), *range(count - spread + last, count + last)]:
            reached = [(s, member - s.address.member.base) for s in stores]
            ends += writer.sum(
                [(s, Affine(point)) for s, point in reached if 0 <= point < count],
                replace(stores[0].address, member=Affine(member)),
            )
    carried = {x.name: f"{x.name}_{number}_main" for x in loop.carried}
    totals: dict[Name, Operand] = dict(carried)
    for point in [*range(behind), *range(count - spread + behind, count)]:
        ends += writer.copied(rest, Affine(point))
        for x in loop.carried:
            values = [writer.known(value, Affine(point)) for value in x.values]
            if x.kind == "dot":
                ends.append(Let(writer.fresh(), ops.mul, tuple(values)))
                values = [writer.latest]
            ends.append(Let(writer.fresh(), MEETS[x.kind], (totals[x.name], values[0])))
            totals[x.name] = writer.latest
    ends += [Let(name, ops.identity, (total,)) for name, total in totals.items()]
    main = replace(
        loop,
        extent=count - spread,
        body=tuple(inside),
        carried=tuple([replace(x, name=carried[x.name]) for x in loop.carried]),
    )
    return [main, *ends]


def _is_cheap(let: Let) -> bool:
    recipe = let.op.recipe
    small_power = recipe is not None and recipe[0] is ops.power_of and recipe[1][0] in (2.0, 3.0)
    return let.op.ufunc in CHEAP or small_power


class _Writer:
    """Writes what a loop computes at other points of its index, each number once a point."""

    def __init__(self, loop: For, suffix: str) -> None:
        self.loop, self.suffix = loop, suffix
        self.makers = {s.name: s for s in loop.body if isinstance(s, Load | Let)}
        self.names: dict[tuple[Name, Affine], Name] = {}
        self.loads: dict[object, Name] = {}
        self.counter = 0
        self.latest = ""

    def fresh(self) -> Name:
        self.counter += 1
        self.latest = f"g{self.suffix}{self.counter}"
        return self.latest

    def known(self, x: Operand, point: Affine) -> Operand:
        return self.names.get((x, point), x) if isinstance(x, str) else x

    def copied(self, statements: Iterable[Statement], point: Affine, rename: bool = True) -> list[Statement]:
        """The statements at a point."""
        written: list[Statement] = []
        for s in statements:
            match s:
                case Load(name, address):
                    moved = _at(address, self.loop.index, point)
                    key = moved.buffer.name, moved.member, id(moved.table), bool(point.terms)
                    if (name, point) not in self.names:
                        if key not in self.loads:
                            self.loads[key] = self.fresh() if rename else name
                            written.append(Load(self.loads[key], moved))
                        self.names[name, point] = self.loads[key]
                case Let(name, op, operands):
                    if (name, point) not in self.names:
                        self.names[name, point] = self.fresh() if rename else name
                        values = tuple(self.known(x, point) for x in operands)
                        written.append(Let(self.names[name, point], op, values))
                case Store(address, value, adds):
                    written.append(Store(_at(address, self.loop.index, point), self.known(value, point), adds))
        return written

    def sum(self, terms: Sequence[tuple[Store, Affine]], address: Address) -> list[Statement]:
        """The sum of what some stores add, each at a point, added to an address."""
        written: list[Statement] = []
        total: Operand | None = None
        for store, point in terms:
            written += self.copied(self._needed(store.value), point)
            value = self.known(store.value, point)
            if total is not None:
                written.append(Let(self.fresh(), ops.add, (total, value)))
                value = self.latest
            total = value
        return [*written, Store(address, 0.0 if total is None else total, adds=True)]

    def _needed(self, x: Operand) -> list[Statement]:
        """What must be computed for an operand, in order."""
        needed: set[Name] = set()
        waiting = [x]
        while waiting:
            name = waiting.pop()
            if isinstance(name, str) and name in self.makers and name not in needed:
                needed.add(name)
                maker = self.makers[name]
                waiting += maker.operands if isinstance(maker, Let) else ()
        return [s for name, s in self.makers.items() if name in needed]


def _at(address: Address, index: Name, point: Affine) -> Address:
    stride = address.member.stride(index)
    others = tuple(term for term in address.member.terms if term[0] != index)
    moved = tuple((name, stride * step) for name, step in point.terms) if stride else ()
    return replace(address, member=Affine(address.member.base + stride * point.base, (*others, *moved)))


def _without_fill(
    before: list[Statement], loop: list[Statement], buffer: Name, program: LoopProgram, turned: int
) -> tuple[list[Statement], list[Statement]]:
    """If these loops write all that was filled with 0 for them, and nothing else touches it, they need not add."""
    fills = [s for s in before if isinstance(s, For) and _fills(s, buffer)]
    reached = np.concatenate(list(_members(loop, buffer)))
    filled = np.concatenate([np.zeros(0, np.int64), *_members(fills, buffer)])
    touching = [s for s in program.walk() if isinstance(s, Load | Store) and s.address.buffer.name == buffer]
    mine = len(fills) + turned
    if len(touching) != mine or not np.array_equal(np.sort(reached), np.sort(filled)):
        return before, loop
    return [s for s in before if s not in fills], [_not_adding(s, buffer) for s in loop]


def _not_adding(statement: Statement, buffer: Name) -> Statement:
    if isinstance(statement, For):
        return replace(statement, body=tuple(_not_adding(s, buffer) for s in statement.body))
    if isinstance(statement, Store) and statement.address.buffer.name == buffer:
        return replace(statement, adds=False)
    return statement


def _fills(loop: For, buffer: Name) -> bool:
    return all(isinstance(s, Store) and s.value == 0.0 and s.address.buffer.name == buffer for s in loop.body)


def _members(
    statements: Iterable[Statement], buffer: Name, extents: "dict[Name, int] | None" = None
) -> Iterator[NDArray[np.int64]]:
    """The members of a buffer that each store reaches, in order."""
    known = extents or {}
    for s in statements:
        if isinstance(s, For):
            yield from _members(s.body, buffer, {**known, s.index: s.extent if isinstance(s.extent, int) else 1})
        elif isinstance(s, Store) and s.address.buffer.name == buffer:
            terms = s.address.member.terms
            shape = tuple(known[name] for name, _ in terms)
            yield Map(shape, s.address.member.base, tuple(stride for _, stride in terms)).points().ravel()
