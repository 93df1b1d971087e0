"""The tape: a graph without structure as instruction records, run by NumPy where runs are long, else number by number.

The reverse sweep goes through the runs backwards: each record's adjoint, times its local derivatives, is added to the
adjoints of its operands.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial, reduce
from typing import Any, Literal

import numpy as np

from microgrid.compiler import special
from microgrid.compiler.classes import VARIADIC
from microgrid.compiler.differentiate import derivative
from microgrid.compiler.program import Program
from microgrid.compiler.targets.records import Floats, Records, records
from microgrid.ops import CONSTANT, Op, expand, spell

By = Literal["value", "parameters", "arguments", "both"]

_SMALL = 2000
"""Programs of fewer nodes are written out."""

_CLASSES = 200
"""Programs of fewer classes are so few statements on arrays that they are compiled as these."""

_SHORT = 12
"""Runs of fewer records are computed number by number: a function of NumPy takes as long as that, however few."""


# ---------------------------------------------------------------------------------------------------
# Running them without machine code


def forward(records: Records, values: Floats) -> None:
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


def reverse(records: Records, values: Floats, adjoints: Floats) -> None:
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
                    gradients[mine[j]] += sent * (slope(*point) if callable(slope) else slope)
        else:
            y, gradient = values[result : result + count], adjoints[result : result + count]
            operands = [values[column] for column in columns]
            for j in instruction.receivers():
                np.add.at(adjoints, columns[j], gradient * _slope_on_arrays(instruction.op, j)(y, *operands))


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


class Executable:
    """Records with what runs them. It may be used from several threads at once.

    Args:
        records: the program.
        by: by what it is differentiated.
        forward: computes the value of every record in an array of values, ``forward(values)``.
        reverse: adds up the adjoints of all operands, ``reverse(values, adjoints)``.
    """

    def __init__(
        self, records: Records, by: By, forward: Callable[[Floats], None], reverse: Callable[[Floats, Floats], None]
    ) -> None:
        self.records = records
        self.by = by
        self._forward = forward
        self._reverse = reverse
        self._spare: list[tuple[Floats, Floats]] = []

    def run(self, theta: Floats, seed: Floats | None, arguments: Sequence[Floats], outs: Sequence[Floats]) -> None:
        """Compute the outputs, and the derivatives of their sum weighted by ``seed``.

        Args:
            theta: the parameters.
            seed: the weight of each output; ``None`` weighs each 1.
            arguments: the numbers of each argument.
            outs: where to write: the outputs, one after the other; then, by what ``by`` says, the derivatives by the
                parameters, and those by each argument.
        """
        records = self.records
        leaves = records.leaves()
        try:
            values, adjoints = self._spare.pop()
        except IndexError:
            values = np.empty(records.size)
            adjoints = np.empty(records.size if self.by != "value" else 0)
            values[: len(records.constants)] = records.constants
        for place, numbers in zip(leaves, (theta, *arguments), strict=True):
            values[place] = np.ravel(numbers)
        with np.errstate(all="ignore"):  # inf and nan are results here
            self._forward(values)
            outs[0].reshape(-1)[:] = values[records.outputs]
            if self.by != "value":
                adjoints.fill(0.0)
                np.add.at(adjoints, records.outputs, 1.0 if seed is None else seed)
                self._reverse(values, adjoints)
        if self.by != "value":
            chosen = {"parameters": leaves[:1], "arguments": leaves[1:], "both": leaves}[self.by]
            for out, place in zip(outs[1:], chosen, strict=True):
                out.reshape(-1)[:] = adjoints[place]
        self._spare.append((values, adjoints))


class Tape:
    """The target for graphs without structure, without machine code."""

    name = "tape"

    def suits(self, program: Program, classes: int, batched: bool) -> str | None:
        """Return why this target does not suit a program of so many classes; ``None`` if it does."""
        if batched:
            return "the tape computes one sample at a time"
        if len(program) < _SMALL or classes < _CLASSES:
            have = f"these are {len(program)} of {classes}"
            return f"the tape is for {_SMALL} nodes of {_CLASSES} structures or more, and {have}"
        return None

    def build(self, program: Program, by: By) -> Executable:
        """Return a program ready to run."""
        made = records(program, by in ("parameters", "both"), by in ("arguments", "both"))
        return Executable(made, by, partial(forward, made), partial(reverse, made))
