"""The tape natively: an interpreter of instruction records as LLVM's assembly.

It is a loop over runs around a switch over the instructions that occur; each case is a loop over the records of the
run, several at a time as the lanes of vectors. The text depends on the instructions and the processor alone, so one
interpreter serves all programs of the same rows.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial, reduce
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from microgrid import ops
from microgrid.compiler.classes import VARIADIC
from microgrid.compiler.passes.differentiate import derivative
from microgrid.compiler.program import Program
from microgrid.compiler.stages import Stages
from microgrid.compiler.targets.native import engine
from microgrid.compiler.targets.native.assembly import Builder, Function, Index, Module, Vector, index, pointer
from microgrid.compiler.targets.native.rows import Operand, lower, numbers, unsupported
from microgrid.compiler.targets.records import Instruction, Numbers, records
from microgrid.compiler.targets.tape import OnRecords, OnSamples, Tape
from microgrid.compiler.task import Task
from microgrid.ops import CONSTANT, Op

_VALUES, _ADJOINTS, _RESULTS, _SENT = map(pointer, ("%values", "%adjoints", "%results", "%sent"))
_RUNS, _OPERANDS, _COUNT = pointer("%runs"), pointer("%operands"), index("%count")


_LANES = 4
"""How many records are computed at a time: wider vectors are slower where runs are short, and hardly faster else."""

_WIDEST = 8
"""Rows of more operands, each of which has a local derivative by all of them, would be too much text."""


class NativeTape(Tape):
    """The target of large programs that do not repeat themselves, in machine code; of a batch, too."""

    name = "native tape"
    stages = ("records", "source")

    def suits(self, stages: Stages) -> str | None:
        """Return why not: what the tape does not suit, a row without a native form, no llvmlite."""
        reason = self.unfit(stages)
        if reason is None and stages.signature.batched and not stages.unrolled:
            reason = "it repeats itself: vectors of native code do what takes a record for each number here"
        return lacking(stages) if reason is None else reason

    def build(self, stages: Stages, task: Task) -> OnRecords:
        """Return the executable of a task."""
        made, processor = records(stages.program, task), engine.processor()
        lanes = processor.width if stages.signature.batched else 1
        text = interpreter(made.instructions, processor.fma, lanes)
        machine = engine.load(text, functions=("forward", "reverse"))
        run_forward, run_reverse = machine.function(4, "forward"), machine.function(6, "reverse")
        runs, count, operands = made.runs, made.runs.shape[1], np.append(made.operands, np.zeros(_LANES, np.int32))
        made = replace(made, operands=operands[: len(made.operands)])  # one copy, with what lanes too many read behind

        def forward(values: Numbers) -> None:
            first = _address(values, made.first * lanes)
            run_forward(_address(values), first, _address(runs), _address(operands), count)

        def reverse(values: Numbers, adjoints: Numbers) -> None:
            ends = _address(values, made.size * lanes), _address(adjoints, made.size * lanes)
            behind = _address(operands, len(made.operands))
            run_reverse(_address(values), _address(adjoints), *ends, _address(runs), behind, count)

        def text_of(stage: str) -> str:
            return made.dump() if stage == "records" else text

        if stages.signature.batched:
            return OnSamples(made, task, forward, reverse, text_of, signature=stages.signature, lanes=lanes)
        return OnRecords(made, task, forward, reverse, text_of, padding=_LANES)


def lacking(stages: Stages) -> str | None:
    """Return what there is no machine code for: a row without a native form, any if there is no llvmlite."""
    try:
        engine.processor()
    except ModuleNotFoundError as error:
        return str(error)
    rows = sorted({row for row in {*stages.program.rows} if row.arity or row in VARIADIC}, key=lambda row: row.name)
    return next(filter(None, map(_unsupported, rows)), None)


def _address(array: NDArray[Any], place: int = 0) -> int:
    return int(array.ctypes.data) + place * array.itemsize


@cache
def _unsupported(row: Op) -> str | None:
    """Return why a row or one of its local derivatives has no native form; ``None`` if they have."""
    if row.arity > _WIDEST:
        return f"operation {row.name!r} has more than {_WIDEST} operands"
    used = [VARIADIC.get(row, row)]
    for j, connected in enumerate(row.connected):
        program = derivative(row, j) if connected else 0.0
        if isinstance(program, Program):
            used += [VARIADIC.get(op, op) for op, arguments, _ in program.nodes() if arguments]
    return next(filter(None, map(unsupported, used)), None)


def interpreter(instructions: Sequence[Instruction], fused: bool, samples: int = 1) -> str:
    """Return an interpreter of records that have these instructions: two functions.

    ``forward(values, results, runs, operands, count)`` computes the values of all records, of which the first stands
    at ``results``; there are ``count`` runs. ``reverse(values, adjoints, results, sent, runs, operands, count)`` adds
    to the adjoints of the operands what flows back; here ``results``, ``sent`` and ``operands`` are where the values,
    the adjoints and the operands end. The last vector of a run may have lanes too many: they read what follows, or
    what is behind the ends, and their results are overwritten by those of the records that follow.

    Of several samples each number is as many, one after the other, and a vector is a record's.

    Args:
        instructions: what the numbers of instructions in ``runs`` stand for.
        fused: whether the processor multiplies and adds in one.
        samples: how many samples are computed at a time.
    """
    module = Module()
    for name, memory in (("forward", ("values", "results")), ("reverse", ("values", "adjoints", "results", "sent"))):
        pointers = [f"ptr %{pointer}" for pointer in (*memory, "runs", "operands")]
        function = Function(module, name, [*pointers, "i64 %count"])
        one = Builder(function, 1, fused=fused)
        backward = name == "reverse"
        first: Index = one.integers("sub", _COUNT, index("1")) if backward else 0
        with function.loop(first, -1 if backward else _COUNT, -1 if backward else 1, [index("0")] * 2) as loop:
            opcode, count, arity = _header(function, loop.index)
            size = one.integers("mul", count, arity)
            behind = [
                one.integers("sub" if backward else "add", x, y)
                for x, y in zip(loop.carried, (size, count), strict=True)
            ]
            loop.following = tuple(behind)
            place, result = behind if backward else loop.carried
            kind, width = (_Lanes, _LANES) if samples == 1 else (_Samples, samples)
            run = _Run(kind, one.of(width=width), count, arity, place, result)
            _switch(function, opcode, [partial(_reverse if backward else _forward, run, x) for x in instructions])
        function.finish()
    return module.text()


def _header(function: Function, run: Vector) -> list[Vector]:
    """Read a run's instruction, how many records it has, and how many operands each."""
    return [function.load_index(_RUNS, function.plus(run, function.times(_COUNT, k)), 32) for k in range(3)]


def _switch(function: Function, chosen: Vector, cases: Sequence[Callable[[], None]]) -> None:
    """Write what is done for each number."""
    labels, end = [function.fresh("case") for _ in cases], function.fresh("next")
    numbered = " ".join(f"i64 {k}, label %{label}" for k, label in enumerate(labels))
    function.emit(f"switch {chosen}, label %{end} [ {numbered} ]")
    for label, case in zip(labels, cases, strict=True):
        function.label(label)
        case()
        function.jump(end)
    function.label(end)


@dataclass(frozen=True, slots=True)
class _Run:
    """The run that an interpreter is at: ``count`` records of ``arity`` operands, the first of them at ``place``."""

    kind: "type[_Lanes]"
    builder: Builder
    count: Vector
    arity: Vector
    place: Vector
    result: Vector

    @contextmanager
    def records(self) -> "Iterator[_Lanes]":
        """Write a loop over the records, as many at a time as stand in a vector."""
        step = 1 if self.kind is _Samples else self.builder.width
        with self.builder.function.loop(0, self.count, step) as loop:
            yield self.kind(self, self.builder, loop.index)


@dataclass(frozen=True, slots=True)
class _Lanes:
    """As many records as a builder has lanes, from number ``first`` of a run on."""

    run: _Run
    builder: Builder
    first: Vector

    @property
    def result(self) -> Index:
        """Where the first one's result stands."""
        return self.builder.function.plus(self.run.result, self.first)

    def places(self, j: Index) -> list[Vector]:
        """The places of operand ``j`` of each record."""
        function = self.builder.function
        base = function.plus(function.plus(self.run.place, function.times(self.run.count, j)), self.first)
        return [function.load_index(_OPERANDS, function.plus(base, k), 32) for k in range(self.builder.width)]

    def at(self, places: Sequence[Vector]) -> Vector:
        """The values at these places."""
        return self.builder.gather(_VALUES, places)

    def folded(self, combine: Callable[[Vector, Vector], Vector]) -> Vector:
        """All operands of each record combined, from the first one on."""
        first = self.at(self.places(0))
        with self.builder.function.loop(1, self.run.arity, carried=[first]) as loop:
            loop.following = (combine(loop.carried[0], self.at(self.places(loop.index))),)
        return loop.carried[0]

    def send(self, x: Vector, places: Sequence[Vector]) -> None:
        """Add each lane to the adjoint at its place, one by one, as places may be the same; none that is too many.

        These go behind the adjoints, each to a place of its own.
        """
        function, one = self.builder.function, self.builder.of(width=1)
        for k, place in enumerate(places):
            where = function.at(_ADJOINTS, place, one.like.element)
            if k:
                exists = one.compare(">", self.run.count, one.integers("add", self.first, index(str(k))))
                where = one.select(exists, where, function.at(_SENT, k, one.like.element))
            one.store_scalar(one.add(one.load_scalar(where, 0), self.builder.lane(x, k)), where, 0)


class _Samples(_Lanes):
    """One record of as many samples as a builder has lanes."""

    __slots__ = ()

    @property
    def result(self) -> Index:
        """Where the first sample's result stands."""
        function = self.builder.function
        return function.times(function.plus(self.run.result, self.first), self.builder.width)

    def places(self, j: Index) -> list[Vector]:
        """The place of operand ``j`` of the first sample."""
        function = self.builder.function
        base = function.plus(function.plus(self.run.place, function.times(self.run.count, j)), self.first)
        return [cast(Vector, function.times(function.load_index(_OPERANDS, base, 32), self.builder.width))]

    def at(self, places: Sequence[Vector]) -> Vector:
        """The values from this place on."""
        return self.builder.load(_VALUES, places[0])

    def send(self, x: Vector, places: Sequence[Vector]) -> None:
        """Add each lane to its sample's adjoint."""
        self.builder.store(self.builder.add(self.builder.load(_ADJOINTS, places[0]), x), _ADJOINTS, places[0])


def _forward(run: _Run, instruction: Instruction) -> None:
    op = instruction.op
    with run.records() as lanes:
        builder = lanes.builder
        if op in VARIADIC:
            y = lanes.folded(partial(_of_two, builder, VARIADIC[op]))
        else:
            y = lower(builder, op, [lanes.at(lanes.places(j)) for j in range(op.arity)])
        builder.store(numbers(builder, y), _RESULTS, lanes.result)


def _reverse(run: _Run, instruction: Instruction) -> None:
    op = instruction.op
    if not instruction.sends:
        return
    with run.records() as lanes:
        builder = lanes.builder
        gradient = builder.load(_SENT, lanes.result)
        if op in VARIADIC:
            with builder.function.loop(0, run.arity) as loop:
                lanes.send(gradient, lanes.places(loop.index))
            return
        places = [lanes.places(j) for j in range(op.arity)]
        point = [builder.load(_RESULTS, lanes.result), *[lanes.at(mine) for mine in places]]
        for j in instruction.receivers():
            slope = _slope(builder, op, j, point)
            if op.chooses:
                lanes.send(lower(builder, ops.where, [slope, gradient, 0.0]), places[j])
            else:
                lanes.send(gradient if slope == 1.0 else builder.mul(gradient, numbers(builder, slope)), places[j])


def _slope(builder: Builder, op: Op, j: int, point: Sequence[Vector]) -> Operand:
    """Return the local derivative by operand ``j`` at (y, *xs)."""
    program = derivative(op, j)
    if isinstance(program, float):
        return program
    values: list[Operand] = []
    for row, arguments, data in program.nodes():
        mine = [values[a] for a in arguments]
        if row in VARIADIC:
            values.append(reduce(partial(_of_two, builder, VARIADIC[row]), mine))
        elif mine:
            values.append(lower(builder, row, mine))
        else:
            values.append(data if row is CONSTANT else point[int(data)])
    return values[program.outputs[0]]


def _of_two(builder: Builder, op: Op, a: Operand, b: Operand) -> Vector:
    return lower(builder, op, (a, b))
