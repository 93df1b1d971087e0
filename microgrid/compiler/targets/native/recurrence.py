"""From a recurrence of scalars to a loop program: steps that repeat are loops, forward and backward.

A loop carries what a step needs of the one before it, and on the way back the adjoints of that. The local derivatives
are computed forward, beside the values with which they share work, and stored: the way back reads and multiplies.
Only numbers that are read from elsewhere, by later steps or other loops, go through memory, and so do their adjoints.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from microgrid import ops
from microgrid.compiler.classes import VARIADIC
from microgrid.compiler.passes.differentiate import derivative
from microgrid.compiler.passes.roll import KNOWN, NODE, THETA, Rolled, Stretch
from microgrid.compiler.program import Program
from microgrid.compiler.stages import Stages
from microgrid.compiler.targets.native.loop_ir import (
    Address,
    Affine,
    Buffer,
    Carried,
    For,
    Let,
    Load,
    LoopProgram,
    Name,
    Operand,
    Statement,
    Store,
)
from microgrid.ops import CONSTANT, Op

Leaf = tuple[int, int]
"""A number of the parameters or of an argument: whose, and which."""


_PERIODS, _ALIKE = 64, 0.25
"""Steps have so many operations at most; as many of these, at least, are like those one step later."""

_WRITTEN = 1000
"""So many operations, steps once, are compiled in a time that is linear in them."""


def unsuited(stages: Stages) -> str | None:
    """Return why a function is no recurrence; ``None`` if it is one."""
    if stages.signature.batched:
        return "its arguments have an axis over samples"
    if not stages.unrolled:
        return "it repeats itself as arrays do"
    if any(row.chooses for row in {*stages.program.rows}):
        return "it chooses among numbers, and nothing flows back to the others"
    if not _may_repeat(stages.program):
        return "its operations hardly repeat"
    rolled = stages.rolled
    written = sum(stretch.period for stretch in rolled.stretches)
    if not rolled.repeats or written > _WRITTEN:
        return f"its operations hardly repeat: as loops they are {written} of {len(rolled.tape.rows)}"
    return None


def _may_repeat(program: Program) -> bool:
    """Whether some share of the operations are like those one step later: a look that is quick, for large graphs."""
    known: dict[Op, int] = {}
    arity = np.diff(program.starts)
    numbers = [known.setdefault(row, len(known)) for row in program.rows]
    rows = np.array(numbers)[arity > 0]
    periods = range(1, min(_PERIODS + 1, len(rows)))
    return any(np.mean(rows[period:] == rows[:-period]) >= _ALIKE for period in periods)


def recurrence(
    rolled: Rolled,
    sizes: Sequence[int],
    *,
    value: bool = True,
    by_parameters: bool = False,
    by_arguments: bool = False,
    seeded: bool = False,
    dtype: str = "float64",
) -> LoopProgram:
    """Return a program of single numbers, of which many repeat, as loops.

    Args:
        rolled: the scalars as stretches of operations.
        sizes: how many parameters there are, and how many numbers each argument has.
        value: whether the outputs are computed.
        by_parameters: whether the derivatives by the parameters are.
        by_arguments: whether the derivatives by the arguments are.
        seeded: whether they are those of the outputs weighted by a seed, and not of the one output.
        dtype: of all numbers.
    """
    wanted = [by_parameters, *[by_arguments] * (len(sizes) - 1)]
    return _Writer(rolled, sizes, wanted, value, seeded).program(dtype)


@dataclass(slots=True, eq=False)
class _Edge:
    """What is sent back to operand ``j`` of operation ``i``: an adjoint times a slope, or what stands at a place."""

    i: int
    j: int
    slope: Any


class _Writer:
    """A loop program under construction.

    Operation ``i`` of a stretch that does not repeat, and of the last step of a loop, is known under a name behind it.
    Others that are read from outside of their step and the next one are in memory, at place ``i``.
    """

    def __init__(self, rolled: Rolled, sizes: Sequence[int], wanted: Sequence[bool], value: bool, seeded: bool) -> None:
        self.tape, self.stretches, self.live = rolled.tape, rolled.stretches, rolled.live
        count = len(self.tape.rows)
        self.sources = [Buffer("theta", "theta", sizes[0])]
        self.sources += [Buffer(f"X{k}", "argument", size, position=k) for k, size in enumerate(sizes[1:])]
        self.seed = Buffer("seed", "seed", len(self.tape.outputs)) if seeded else None
        self.outputs = Buffer("out0", "output", len(self.tape.outputs)) if value else None
        self.gradients: dict[int, Buffer] = {}
        for k, (size, is_wanted) in enumerate(zip(sizes, wanted, strict=True)):
            if is_wanted:
                position = value + len(self.gradients)
                self.gradients[THETA + k] = Buffer(f"out{position}", "output", size, position=position)
        self.values = Buffer("values", "local", count)
        self.adjoints = Buffer("adjoints", "local", count)
        self.slopes: list[Buffer] = []
        self.statements: list[Statement] = []  # of the program, or of the body that is being written
        self.known: dict[tuple[int, int], Operand] = {}
        self.edges: dict[int, list[_Edge]] = defaultdict(list)
        self.terms: dict[tuple[int, int], list[Operand]] = defaultdict(list)
        self.stretch_of = np.repeat(
            np.arange(len(self.stretches)), [stretch.period * stretch.repeats for stretch in self.stretches]
        )
        self.named: set[int] = set()
        self.stored = np.zeros(count, bool)
        self._find_reads()
        self.fresh = 0

    def program(self, dtype: str) -> LoopProgram:
        for stretch in self.stretches:
            (self._forward if stretch.repeats == 1 else self._forward_loop)(stretch)
        if self.outputs is not None:
            for k, (kind, index) in enumerate(self.tape.outputs):
                self.statements.append(Store(_at(self.outputs, k), self._number(kind, index)))
        if self.gradients:
            for buffer in [*self.gradients.values(), *[self.adjoints] * bool(self.stored.any())]:
                self._fill(buffer)
            for k, (kind, index) in enumerate(self.tape.outputs):
                self._send(kind, index, 1.0 if self.seed is None else self._load(_at(self.seed, k)))
            for stretch in reversed(self.stretches):
                (self._backward if stretch.repeats == 1 else self._backward_loop)(stretch)
            for (kind, index), terms in self.terms.items():
                if kind != NODE:
                    self.statements.append(Store(_at(self.gradients[kind], index), self._sum(terms), adds=True))
        memory = [self.values, *[self.adjoints] * bool(self.gradients)] if self.stored.any() else []
        given = [*self.sources, *[x for x in (self.seed, self.outputs) if x is not None], *self.gradients.values()]
        return LoopProgram((*given, *memory, *self.slopes), tuple(self.statements), (), (), dtype)

    # -- what is read from where ----------------------------------------------------------------------

    def _find_reads(self) -> None:
        """Find what is read by a name behind its loop, and what is read from memory."""
        for kind, index in self.tape.outputs:
            self._read(kind, index)
        for stretch in self.stretches:
            for phase in range(stretch.period):
                for j, (kind, index) in enumerate(self._operands(stretch.start + phase)):
                    if stretch.repeats == 1:
                        self._read(kind, index)
                        continue
                    local = self._local(stretch, phase, j)
                    if local is not None and local >= phase:
                        self._read(NODE, stretch.start - stretch.period + local)
                    elif local is None and self._is_fixed(stretch, phase, j):
                        self._read(kind, index)
                    elif local is None and kind == NODE:
                        self.stored[index + self._stride(stretch, phase, j) * np.arange(stretch.repeats)] = True

    def _read(self, kind: int, index: int) -> None:
        if kind == NODE and self._has_name(index):
            self.named.add(index)
        elif kind == NODE:
            self.stored[index] = True

    def _has_name(self, i: int) -> bool:
        stretch = self.stretches[int(self.stretch_of[i])]
        return stretch.repeats == 1 or i >= stretch.start + stretch.period * (stretch.repeats - 1)

    def _operands(self, i: int) -> list[tuple[int, int]]:
        return [*zip(self.tape.kinds[i], self.tape.indices[i], strict=True)]

    def _stride(self, loop: Stretch, phase: int, j: int) -> int:
        """By how much the index of an operand grows from one step to the next."""
        first = loop.start + phase
        return self.tape.indices[first + loop.period][j] - self.tape.indices[first][j]

    def _is_fixed(self, loop: Stretch, phase: int, j: int) -> bool:
        """Whether an operand of all steps is one number, which is there before the loop."""
        kind, index = self._operands(loop.start + phase)[j]
        return self._stride(loop, phase, j) == 0 and (kind != NODE or index < loop.start)

    def _local(self, loop: Stretch, phase: int, j: int) -> int | None:
        """The phase of this step, or of the one before, that an operand is; ``None`` if it is neither."""
        first = loop.start + phase
        kind, index = self._operands(first)[j]
        if kind != NODE or self._stride(loop, phase, j) != loop.period or first - index > loop.period:
            return None
        return (phase - (first - index)) % loop.period

    # -- statements -----------------------------------------------------------------------------------

    def _name(self, stem: str) -> Name:
        self.fresh += 1
        return f"{stem}{self.fresh}"

    def _load(self, address: Address) -> Name:
        name = self._name("x")
        self.statements.append(Load(name, address))
        return name

    def _let(self, op: Op, *operands: Operand) -> Name:
        name = self._name("x")
        self.statements.append(Let(name, op, operands))
        return name

    def _sum(self, terms: Sequence[Operand]) -> Operand:
        return reduce(lambda a, b: self._let(ops.add, a, b), terms) if terms else 0.0

    def _product(self, a: Operand, slope: Operand) -> Operand:
        return a if slope == 1.0 else slope if a == 1.0 else self._let(ops.mul, a, slope)

    def _fill(self, buffer: Buffer) -> None:
        """Set all members to 0."""
        index = self._name("i")
        body = (Store(_at(buffer, 0, (index, 1)), 0.0),)
        self.statements.append(For(index, buffer.members, body, lanes=True))

    def _number(self, kind: int, index: int) -> Operand:
        """A number that is there before what is being written: under its name, or loaded once."""
        if kind == KNOWN:
            return self.tape.constants[index]
        if (kind, index) not in self.known:
            buffer = self.values if kind == NODE else self.sources[kind - THETA]
            self.known[kind, index] = self._load(_at(buffer, index))
        return self.known[kind, index]

    def _slopes(self, i: int, y: Operand, xs: Sequence[Operand]) -> "list[_Edge]":
        """The local derivatives of operation ``i`` by the operands to which something flows back."""
        found: list[_Edge] = []
        row = self.tape.rows[i]
        for j, kind in enumerate(self.tape.kinds[i] if self.gradients and self.live[i] else ()):
            if (kind == NODE or kind in self.gradients) and row.connected[j]:
                found.append(_Edge(i, j, self._derivative(row, j, (y, *xs))))
        return found

    def _derivative(self, row: Op, j: int, point: Sequence[Operand]) -> Operand:
        program = derivative(row, j)
        if isinstance(program, float):
            return program
        values: list[Operand] = []
        for op, arguments, data in program.nodes():
            mine = [values[a] for a in arguments]
            if op in VARIADIC:
                values.append(reduce(lambda a, b, pair=VARIADIC[op]: self._let(pair, a, b), mine))  # type: ignore[misc]
            else:
                values.append(self._let(op, *mine) if mine else data if op is CONSTANT else point[int(data)])
        return values[program.outputs[0]]

    # -- forward --------------------------------------------------------------------------------------

    def _forward(self, stretch: Stretch) -> None:
        for i in range(stretch.start, stretch.start + stretch.period):
            xs = [self._number(kind, index) for kind, index in self._operands(i)]
            y = self.known[NODE, i] = self._let(self.tape.rows[i], *xs)
            if self.stored[i]:
                self.statements.append(Store(_at(self.values, i), y))
            self.edges[i] = self._slopes(i, y, xs)

    def _forward_loop(self, loop: Stretch) -> None:
        start, period = loop.start, loop.period
        last = start + period * (loop.repeats - 1)
        before = {phase: self._name("b") for phase in self._carried(loop)}
        starts = {phase: self._number(NODE, start - period + phase) for phase in before}
        for phase in range(period):  # what all steps read is loaded before the loop
            for j, (kind, index) in enumerate(self._operands(start + phase)):
                if self._local(loop, phase, j) is None and self._is_fixed(loop, phase, j):
                    self._number(kind, index)
        outside, self.statements = self.statements, []
        counter = self._name("i")
        ys: list[Operand] = []
        for phase in range(period):
            i = start + phase
            xs: list[Operand] = []
            for j, (kind, index) in enumerate(self._operands(i)):
                local = self._local(loop, phase, j)
                if local is not None:
                    xs.append(ys[local] if local < phase else before[local])
                elif self._is_fixed(loop, phase, j):
                    xs.append(self._number(kind, index))
                else:
                    buffer = self.values if kind == NODE else self.sources[kind - THETA]
                    xs.append(self._load(_at(buffer, index, (counter, self._stride(loop, phase, j)))))
            ys.append(self._let(self.tape.rows[i], *xs))
            if self.stored[i : last + period : period].any():
                self.statements.append(Store(_at(self.values, i, (counter, period)), ys[-1]))
            self.edges[i] = self._slopes(i, ys[-1], xs)
        self._shorten(loop)
        inside = {*before.values(), *[x.name for x in self.statements if isinstance(x, (Load, Let))]}
        edges = [edge for phase in range(period) for edge in self.edges[start + phase] if edge.slope in inside]
        varying = [*dict.fromkeys(edge.slope for edge in edges)]
        buffer = Buffer(f"slopes{len(self.slopes)}", "local", len(varying) * loop.repeats)
        places = {slope: _at(buffer, k, (counter, len(varying))) for k, slope in enumerate(varying)}
        self.statements += [Store(place, slope) for slope, place in places.items()]
        for edge in edges:
            edge.slope = places[edge.slope]
        self.slopes += [buffer] * bool(varying)
        states = []
        for phase in range(period):
            if phase in before or last + phase in self.named:
                name = self.known[NODE, last + phase] = self._name("v")
                seen = before.get(phase) or self._name("b")
                states.append(Carried(name, "state", (ys[phase],), starts.get(phase, 0.0), seen))
        body, self.statements = self.statements, outside
        self.statements.append(For(counter, loop.repeats, tuple(body), tuple(states)))

    def _shorten(self, loop: Stretch) -> None:
        """Multiply local derivatives in a row beside the values, where one path leads through an operation of a step.

        So fewer factors are stored, and fewer products stand in the way of what flows back.
        """
        start, last = loop.start, loop.start + loop.period * (loop.repeats - 1)
        for phase in reversed(range(loop.period)):
            seen = self.stored[start + phase : last + loop.period : loop.period].any() or last + phase in self.named
            users = [
                (user, edge)
                for user in range(loop.period)
                for edge in self.edges[start + user]
                if self._local(loop, edge.i - start, edge.j) == phase
            ]
            if seen or len(users) != 1 or users[0][1].i - start <= phase:
                continue
            ((user, edge),) = users
            self.edges[start + user].remove(edge)
            for inner in self.edges.pop(start + phase, []):
                self.edges[start + user].append(_Edge(inner.i, inner.j, self._product(edge.slope, inner.slope)))

    def _carried(self, loop: Stretch) -> list[int]:
        """The phases that the next step reads."""
        found = {
            local
            for phase in range(loop.period)
            for j in range(len(self.tape.kinds[loop.start + phase]))
            if (local := self._local(loop, phase, j)) is not None and local >= phase
        }
        return sorted(found)

    # -- backward -------------------------------------------------------------------------------------

    def _send(self, kind: int, index: int, x: Operand) -> None:
        """Add to the adjoint of a number that all that comes before on the way back may have sent to."""
        if kind == NODE and not self._has_name(index):
            self.statements.append(Store(_at(self.adjoints, index), x, adds=True))
        elif kind == NODE or kind in self.gradients:
            self.terms[kind, index].append(x)

    def _backward(self, stretch: Stretch) -> None:
        for i in reversed(range(stretch.start, stretch.start + stretch.period)):
            terms = self.terms.pop((NODE, i), [])
            if not self.live[i] or not (terms or self.stored[i]):
                continue
            if self.stored[i]:
                terms.append(self._load(_at(self.adjoints, i)))
            adjoint = self._sum(terms)
            for edge in self.edges[i]:
                self._send(*self._operands(i)[edge.j], self._product(adjoint, edge.slope))

    def _backward_loop(self, loop: Stretch) -> None:
        start, period = loop.start, loop.period
        last = start + period * (loop.repeats - 1)
        carried = self._carried(loop)
        starts = {phase: self._sum(self.terms.pop((NODE, last + phase), [])) for phase in range(period)}
        before = {phase: self._name("b") for phase, x in starts.items() if phase in carried or x != 0.0}
        outside, self.statements = self.statements, []
        counter = self._name("i")
        here: dict[int, list[Operand]] = {phase: [before[phase]] if phase in before else [] for phase in range(period)}
        behind: dict[int, list[Operand]] = defaultdict(list)
        sums: dict[tuple[int, int], list[Operand]] = defaultdict(list)
        loaded: dict[Address, Name] = {}
        for phase in reversed(range(period)):
            i = start + phase
            if self.stored[i : last + period : period].any():
                here[phase].append(self._load(_at(self.adjoints, i, (counter, period))))
            if not self.live[i] or not here[phase]:
                continue
            adjoint = self._sum(here[phase])
            for edge in self.edges[i]:
                slope = edge.slope
                if isinstance(slope, Address):
                    if slope not in loaded:
                        ((_, step),) = slope.member.terms
                        loaded[slope] = self._load(_at(slope.buffer, slope.member.base, (counter, step)))
                    slope = loaded[slope]
                x = self._product(adjoint, slope)
                at, j = edge.i - start, edge.j
                kind, index = self._operands(edge.i)[j]
                local = self._local(loop, at, j)
                if local is not None:
                    (here if local < at else behind)[local].append(x)
                elif self._is_fixed(loop, at, j):
                    sums[kind, index].append(x)
                else:
                    buffer = self.adjoints if kind == NODE else self.gradients[kind]
                    address = _at(buffer, index, (counter, self._stride(loop, at, j)))
                    self.statements.append(Store(address, x, adds=True))
        states = [
            Carried(self._name("g"), "state", (self._sum(behind[phase]),), starts[phase], seen)
            for phase, seen in before.items()
        ]
        totals = [Carried(self._name("g"), "sum", (self._sum(terms),)) for terms in sums.values()]
        body, self.statements = self.statements, outside
        self.statements.append(For(counter, loop.repeats, tuple(body), (*states, *totals), backward=True))
        for phase, state in zip(before, states, strict=True):
            if phase in carried:
                self._send(NODE, start - period + phase, state.name)
        for (kind, index), total in zip(sums, totals, strict=True):
            self._send(kind, index, total.name)


def _at(buffer: Buffer, base: int, *terms: tuple[Name, int]) -> Address:
    return Address(buffer, Affine(base, terms))
