"""The tape natively: an interpreter of instruction records as LLVM's assembly.

It is a loop over runs around a switch over the instructions that occur; each case is a loop over the records of the
run, as many at a time as a vector has lanes, then one by one. The text depends on the instructions and the processor
alone, so one interpreter serves all programs of the same rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce

from microgrid.compiler.classes import VARIADIC
from microgrid.compiler.differentiate import derivative
from microgrid.compiler.targets.native.assembly import Builder, Function, Index, Module, Vector, index, pointer
from microgrid.compiler.targets.native.rows import Operand, lower, numbers
from microgrid.compiler.targets.records import Instruction
from microgrid.ops import CONSTANT, Op

_VALUES, _ADJOINTS, _RESULTS, _SENT = map(pointer, ("%values", "%adjoints", "%results", "%sent"))
_RUNS, _OPERANDS, _COUNT = pointer("%runs"), pointer("%operands"), index("%count")


def interpreter(instructions: Sequence[Instruction], width: int, fused: bool) -> str:
    """Return an interpreter of records that have these instructions: two functions.

    ``forward(values, results, runs, operands, count)`` computes the values of all records, of which the first stands
    at ``results``; there are ``count`` runs. ``reverse(values, adjoints, results, sent, runs, operands, count)`` adds
    to the adjoints of the operands what flows back; here ``results``, ``sent`` and ``operands`` are where the values,
    the adjoints and the operands end.

    Args:
        instructions: what the numbers of instructions in ``runs`` stand for.
        width: how many records are computed at a time.
        fused: whether the processor multiplies and adds in one.
    """
    module = Module()
    for name, memory in (("forward", ("values", "results")), ("reverse", ("values", "adjoints", "results", "sent"))):
        pointers = [f"ptr %{pointer}" for pointer in (*memory, "runs", "operands")]
        function = Function(module, name, [*pointers, "i64 %count"])
        if name == "reverse":
            function.emit("%trash0 = ptrtoint ptr %sent to i64")
            function.emit("%trash1 = ptrtoint ptr %adjoints to i64")
            function.emit("%trash2 = sub i64 %trash0, %trash1")
            function.emit("%trash = ashr i64 %trash2, 3")

        narrow = Builder(function, 1, fused=fused)
        builders = [narrow.of(width=width), narrow] if width > 1 else [narrow]
        backward = name == "reverse"
        first, stop = (narrow.integers("sub", _COUNT, index("1")), -1) if backward else (0, _COUNT)
        with function.loop(first, stop, -1 if backward else 1, carried=[index("0")] * 2) as loop:
            opcode, count, arity = _header(function, loop.index)
            size = narrow.integers("mul", count, arity)
            step = "sub" if backward else "add"
            behind = [narrow.integers(step, x, y) for x, y in zip(loop.carried, (size, count), strict=True)]
            loop.following = tuple(behind)
            place, result = behind if backward else loop.carried
            run = _Run(function, builders, count, arity, place, result)
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

    function: Function
    builders: Sequence[Builder]
    count: Vector
    arity: Vector
    place: Vector
    result: Vector

    def records(self) -> "Iterator[_Lanes]":
        """Write a loop for each builder; what is between two yields is the body of one."""
        wide = self.builders[0]
        with self.function.loop(0, self.count, wide.width) as loop:
            yield _Lanes(self, wide, loop.index)


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

    def folded(self, combine: Callable[[Vector, Vector], Vector]) -> Vector:
        """All operands of each record combined, from the first one on."""
        first = self.builder.gather(_VALUES, self.places(0))
        with self.builder.function.loop(1, self.run.arity, carried=[first]) as loop:
            loop.following = (combine(loop.carried[0], self.builder.gather(_VALUES, self.places(loop.index))),)
        return loop.carried[0]

    def send(self, x: Vector, places: Sequence[Vector]) -> None:
        """Add each lane to the adjoint at its place, one after the other, as places may be the same."""
        one = self.builder.of(width=1)
        f = self.builder.function
        for k, place in enumerate(places):
            if k:
                ok = f.let(Vector("", "mask"), f"icmp sgt i64 {self.run.count.text}, {f.plus(self.first, k).text}")
                trash = f.let(index(""), f"add i64 %trash, {k}")
                place = f.let(index(""), f"select {ok}, {place}, {trash}")
            one.store_scalar(one.add(one.load_scalar(_ADJOINTS, place), self.builder.lane(x, k)), _ADJOINTS, place)


def _forward(run: _Run, instruction: Instruction) -> None:
    op = instruction.op
    for lanes in run.records():
        builder = lanes.builder
        if op in VARIADIC:
            y = lanes.folded(partial(_of_two, builder, VARIADIC[op]))
        else:
            y = lower(builder, op, [builder.gather(_VALUES, lanes.places(j)) for j in range(op.arity)])
        builder.store(numbers(builder, y), _RESULTS, lanes.result)


def _reverse(run: _Run, instruction: Instruction) -> None:
    op = instruction.op
    for lanes in run.records() if instruction.sends else ():
        builder = lanes.builder
        gradient = builder.load(_SENT, lanes.result)
        if op in VARIADIC:
            with builder.function.loop(0, run.arity) as loop:
                lanes.send(gradient, lanes.places(loop.index))
            continue
        places = [lanes.places(j) for j in range(op.arity)]
        point = [builder.load(_RESULTS, lanes.result), *[builder.gather(_VALUES, mine) for mine in places]]
        for j in instruction.receivers():
            slope = _slope(builder, op, j, point)
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
