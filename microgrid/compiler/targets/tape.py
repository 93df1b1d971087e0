"""The tape: a graph without structure as instruction records, run by NumPy where runs are long, else number by number.

The reverse sweep goes through the runs backwards: each record's adjoint, times its local derivatives, is added to the
adjoints of its operands.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial, reduce
from typing import Any

import numpy as np

from microgrid.compiler import special
from microgrid.compiler.classes import VARIADIC
from microgrid.compiler.passes.differentiate import derivative
from microgrid.compiler.signature import Floats, Signature
from microgrid.compiler.stages import Stages
from microgrid.compiler.targets.native.recurrence import unsuited
from microgrid.compiler.targets.records import Numbers, Records, records
from microgrid.compiler.targets.target import Plain
from microgrid.compiler.task import Task
from microgrid.ops import CONSTANT, Op, expand, spell

_SMALL = 2000
"""Programs of fewer nodes are written out."""

_CLASSES = 200
"""Programs of fewer classes are so few statements on arrays that they are compiled as these."""

_SHORT = 12
"""Runs of fewer records are computed number by number: a function of NumPy takes as long as that, however few."""


# ---------------------------------------------------------------------------------------------------
# Running them without machine code


def forward(records: Records, values: Numbers) -> None:
    """Compute the value of every record."""
    numbers, places = values.data, records.operands.data
    at, result = 0, records.first
    for opcode, count, arity in zip(*[column.data for column in records.runs], strict=True):
        op, end = records.instructions[opcode].op, at + count * arity
        if count < _SHORT:
            for i in range(count):
                numbers[result + i] = op.forward(*[numbers[a] for a in places[at + i : end : count]])
        else:
            xs = (values[column] for column in records.operands[at:end].reshape(arity, count))
            pair = VARIADIC.get(op)
            values[result : result + count] = _on_arrays(op)(*xs) if pair is None else reduce(_on_arrays(pair), xs)
        at, result = end, result + count


def reverse(records: Records, values: Numbers, adjoints: Numbers) -> None:
    """Add to the adjoint of every operand what flows back from the records, the last ones first."""
    numbers, gradients, places = values.data, adjoints.data, records.operands.data
    at, result = len(places), records.size
    for opcode, count, arity in zip(*[reversed(column.data) for column in records.runs], strict=True):
        instruction, end = records.instructions[opcode], at
        at, result = end - count * arity, result - count
        if not instruction.sends:
            continue
        columns = records.operands[at:end].reshape(arity, count)
        if instruction.op in VARIADIC:
            np.add.at(adjoints, records.operands[at:end], np.tile(adjoints[result : result + count], arity))
        elif count < _SHORT:
            chosen = [(j, instruction.op.partials[j]) for j in instruction.receivers()]
            for i in range(count):
                mine = places[at + i : end : count]
                point, sent = [numbers[result + i], *[numbers[a] for a in mine]], gradients[result + i]
                for j, slope in chosen:
                    derivative = slope(*point) if callable(slope) else slope
                    if derivative or not instruction.op.chooses:
                        gradients[mine[j]] += sent * derivative
        else:
            y, gradient = values[result : result + count], adjoints[result : result + count]
            operands = [values[column] for column in columns]
            for j in instruction.receivers():
                slopes = _slope_on_arrays(instruction.op, j)(y, *operands)
                products = np.where(slopes, gradient, 0.0) if instruction.op.chooses else gradient * slopes
                np.add.at(adjoints, columns[j], products)


@lru_cache(maxsize=4096)
def _on_arrays(op: Op) -> Callable[..., Any]:
    """Return a row as a function of arrays; what is true or false is 1 or 0."""
    names = special.numpy_namespace(np.float64, {"mapped": op})
    name = special.numpy_name(op.ufunc)
    if op.array:
        inside = [f"x{j}" for j in range(op.arity)]
        function = eval(f"lambda {', '.join(inside)}: {spell(op, 'array', *inside)}", names)
    elif name:
        function = partial(eval(name, names), *(op.recipe[1] if op.recipe is not None else ()))
    elif op.expansion is not None:
        return lambda *xs: expand(op, lambda row, ys: _on_arrays(row)(*ys), xs)
    else:
        function = names["mapped"]
    return lambda *xs: np.asarray(function(*xs), np.float64)


@lru_cache(maxsize=4096)
def _slope_on_arrays(op: Op, j: int) -> Callable[..., Any]:
    """Return the local derivative by operand ``j`` as a function of arrays (y, *xs)."""
    program = derivative(op, j)
    if isinstance(program, float):
        return lambda *xs: program

    def slope(*xs: Any) -> Any:
        values: list[Any] = []
        for row, arguments, data in program.nodes():
            mine = [values[a] for a in arguments]
            if row in VARIADIC:
                values.append(reduce(_on_arrays(VARIADIC[row]), mine))
            else:
                values.append(_on_arrays(row)(*mine) if mine else data if row is CONSTANT else xs[int(data)])
        return values[program.outputs[0]]

    return slope


# ---------------------------------------------------------------------------------------------------
# The target


class OnRecords(Plain):
    """Records with what runs them. Several threads may do so at once.

    Args:
        records: the program.
        task: what is computed of it.
        forward: computes the value of every record, ``forward(values)``.
        reverse: adds up the adjoints of all operands, ``reverse(values, adjoints)``.
        text: returns a stage as text.
        padding: how many numbers there must be behind the values, and behind the adjoints.
    """

    def __init__(
        self,
        records: Records,
        task: Task,
        forward: Callable[[Numbers], None],
        reverse: Callable[[Numbers, Numbers], None],
        text: Callable[[str], str],
        padding: int = 0,
    ) -> None:
        self.records, self.task, self.text = records, task, text
        self._forward, self._reverse = forward, reverse
        self._size = records.size + padding
        leaves = records.leaves()
        self._leaves = leaves
        self._wanted = leaves[:1] * task.by_parameters + leaves[1:] * task.by_arguments
        self._spare: list[tuple[Numbers, Numbers]] = []

    def run(self, theta: Floats, seed: Floats, arguments: Sequence[Floats], outs: Sequence[Floats]) -> None:
        """Compute the outputs, and the derivatives of the one, or of their sum weighted by ``seed``."""
        records, found = self.records, iter(outs)
        try:
            values, adjoints = self._spare.pop()
        except IndexError:
            values, adjoints = np.zeros(self._size), np.zeros(self._size * bool(self._wanted))
            values[: len(records.constants)] = records.constants
        for place, numbers in zip(self._leaves, (theta, *arguments), strict=True):
            values[place] = numbers
        with np.errstate(all="ignore"):  # inf and nan are results here
            self._forward(values)
            if self.task.value:
                next(found).reshape(-1)[:] = values[records.outputs]
            if self._wanted:
                adjoints.fill(0.0)
                np.add.at(adjoints, records.outputs, seed if seed.size else 1.0)
                self._reverse(values, adjoints)
        for out, place in zip(found, self._wanted, strict=True):
            out[:] = adjoints[place]
        self._spare.append((values, adjoints))

    def bind(
        self, size: int, theta: Floats, seed: Floats, outs: Sequence[Floats]
    ) -> Callable[[Sequence[Floats]], None]:
        """Return a function of the arguments that reads and writes these arrays."""
        return lambda arguments: self.run(theta, seed, arguments, outs)


class OnSamples(OnRecords):
    """Records with what runs them for some samples of a batch at a time: arrays have a column for each.

    Args:
        *given: as for ``OnRecords``.
        signature: what the function takes and gives.
        lanes: how many samples it takes at a time.
    """

    def __init__(self, *given: Any, signature: Signature, lanes: int) -> None:
        super().__init__(*given)
        self.signature, self.lanes = signature, lanes
        self._apart = [batched for _, batched in self.task.forms(signature, self.records.sizes)]

    def run(self, theta: Floats, seed: Floats, arguments: Sequence[Floats], outs: Sequence[Floats]) -> None:
        """Compute the outputs, and the derivatives of their weighted sum."""
        records, size, (parameters, *places) = self.records, len(arguments[0]), self._leaves
        try:
            values, adjoints = self._spare.pop()
        except IndexError:
            values = np.zeros((records.size, self.lanes))
            adjoints = np.zeros((records.size * bool(self._wanted), self.lanes))
            values[: len(records.constants)] = records.constants[:, None]
        values[parameters] = theta[:, None]
        weights = np.broadcast_to(self._weights(seed, size), (len(records.outputs), size))
        sums = [np.zeros(out.size * (not apart)) for out, apart in zip(outs, self._apart, strict=True)]
        with np.errstate(all="ignore"):  # inf and nan are results here
            for start in range(0, size, self.lanes):
                count = min(self.lanes, size - start)
                rows, lanes = slice(start, start + count), slice(count)
                for place, numbers in zip(places, arguments, strict=True):
                    values[place, lanes] = numbers[rows].T
                self._forward(values)
                if self._wanted:
                    adjoints.fill(0.0)
                    np.add.at(adjoints[:, lanes], records.outputs, weights[:, rows])
                    self._reverse(values, adjoints)
                found = [values[records.outputs, lanes]] * self.task.value
                found += [adjoints[place, lanes] for place in self._wanted]
                for out, total, numbers, apart in zip(outs, sums, found, self._apart, strict=True):
                    if apart:
                        out.reshape(-1, size)[:, rows] = numbers
                    else:
                        total += numbers.sum(axis=1)
            if self.task.value and self.signature.reduce == "mean":
                sums[0] /= size
        for out, total, apart in zip(outs, sums, self._apart, strict=True):
            if not apart:
                out.reshape(-1)[:] = total
        self._spare.append((values, adjoints))

    def _weights(self, seed: Floats, size: int) -> Floats:
        """The weight of each output, of each sample or of all of them."""
        count = len(self.records.outputs)
        if self.task.of == "first":
            return np.eye(count)[:, :1] / size
        weights = seed.reshape(count, -1) if seed.size else np.ones((count, 1))
        return weights / size if self.signature.reduce == "mean" else weights


class Tape:
    """The target of large programs of single numbers that do not repeat themselves."""

    name = "tape"
    stages: tuple[str, ...] = ("source",)

    def suits(self, stages: Stages) -> str | None:
        """Return why not: it has an axis over samples, or few enough statements for other targets."""
        if stages.signature.batched:
            return "its arguments have an axis over samples"
        if stages.folded.recurrences:
            return "it repeats itself: a statement on arrays does what many on numbers would"
        return self.unfit(stages)

    def unfit(self, stages: Stages) -> str | None:
        """Return why a tape is not for a function, though it is interpreted by machine code."""
        size, classes = len(stages.program), stages.statements
        if size < _SMALL or classes < _CLASSES:
            return f"its {size} nodes of {classes} structures are few: the tape is for {_SMALL} of {_CLASSES} or more"
        if unsuited(stages) is None:
            return "it repeats itself: loops do in a few statements what takes a record for each number here"
        return None

    def build(self, stages: Stages, task: Task) -> OnRecords:
        """Return the executable of a task."""
        made = records(stages.program, task)
        return OnRecords(made, task, partial(forward, made), partial(reverse, made), lambda stage: made.dump())
