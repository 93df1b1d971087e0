"""The tape: a graph without structure as instruction records, and a small interpreter that runs over them.

Nodes of one operation that do not depend on each other stand one after the other, as a *run*: first those that need
leaves alone, then those that need these, and so on. So an interpreter looks once a run at what is to be done, and
does it for all of its records, several at a time if it can. The reverse sweep goes through the same runs backwards:
each record's adjoint, times its local derivatives, is added to the adjoints of its operands.

Time and memory are linear in the nodes, whatever they are.
"""

import operator
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial, reduce
from itertools import accumulate, compress, pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from microgrid.compiler import special
from microgrid.compiler.classes import VARIADIC
from microgrid.compiler.differentiate import derivative
from microgrid.compiler.lift import argument_number
from microgrid.compiler.program import PARAMETER, SUM, Program
from microgrid.compiler.simplify import without_gradient
from microgrid.ops import CONSTANT, Op, expand, spell

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]
By = Literal["value", "parameters", "arguments", "both"]

_SMALL = 2000
"""Programs of fewer nodes are written out."""

_CLASSES = 200
"""Programs of fewer classes are so few statements on arrays that they are compiled as these."""

_SHORT = 12
"""Runs of fewer records are computed number by number: a function of NumPy takes as long as that, however few."""

_BITS = 8
"""How many bits tell to which operands a gradient goes back."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """What the records of a run do: ``y = op(*xs)``, and what flows back.

    Attributes:
        op: a row of the table; or one of any number of operands.
        sends: the operands to which something flows back, as bits: operand ``j`` is bit ``j``, those from the eighth
            on share one, and those of a row of any number of operands share the first.
    """

    op: Op
    sends: int

    def receivers(self) -> list[int]:
        """The operands to which something flows back, of a row of a given number of them."""
        return [j for j, connected in enumerate(self.op.connected) if connected and self.sends >> min(j, _BITS - 1) & 1]


@dataclass(frozen=True, slots=True)
class Records:
    """A program as records in the order in which they are run.

    All values stand in one array: constants, parameters, the numbers of each argument, then the result of each record
    in turn. So a record is its operands' places alone: for each run, those of the first operand of all of its records,
    then those of the second, and so on.

    Attributes:
        instructions: what records do, in an order that depends on nothing but these themselves.
        runs: for each run its instruction's number, how many records it has, and how many operands each; shape (3, n).
        operands: the places of the operands.
        constants: the first numbers among the values.
        sizes: how many parameters there are, and how many numbers each argument has.
        outputs: the places of the outputs.
        first: the place of the first record's result.
        size: how many values there are.
    """

    instructions: tuple[Instruction, ...]
    runs: Integers
    operands: Integers
    constants: Floats
    sizes: tuple[int, ...]
    outputs: Integers
    first: int
    size: int

    @property
    def nbytes(self) -> int:
        """The memory that they take, with the values and the adjoints on which they are run."""
        stored = self.runs.nbytes + self.operands.nbytes + self.constants.nbytes + self.outputs.nbytes
        return stored + 16 * self.size

    def leaves(self) -> list[slice]:
        """Where the parameters and the numbers of each argument stand."""
        ends = list(accumulate(self.sizes, initial=len(self.constants)))
        return [slice(start, end) for start, end in pairwise(ends)]


def records(program: Program, by: By) -> Records:
    """Return a program as records.

    Args:
        program: the scalars.
        by: by what it will be differentiated: a gradient flows only towards these leaves.
    """
    known: dict[Op, int] = {}
    row_of = np.fromiter((known.setdefault(row, len(known)) for row in program.rows), np.int32, len(program))
    rows = list(known)
    starts = np.array(program.starts, np.int32)
    arity = np.diff(starts)
    edges = np.array(program.arguments, np.int32)
    place, constants, first = _leaves(program, rows, row_of, arity == 0)
    leads, level = _behind(program, np.array([_is_wanted(row, by) for row in rows], np.uint8)[row_of])

    nodes = np.flatnonzero(arity).astype(np.int32)
    arity, row_of, level = arity[nodes], row_of[nodes], level[nodes]
    number = np.arange(len(edges), dtype=np.int32) - np.repeat(starts[nodes], arity)  # which operand an edge leads to
    bit = np.minimum(number, np.repeat(np.array([0 if row in VARIADIC else _BITS - 1 for row in rows])[row_of], arity))
    sends = np.bitwise_or.reduceat(leads[edges].astype(np.int32) << bit.astype(np.int32), starts[nodes])
    sends &= np.array([_connected(row) for row in rows], np.int32)[row_of]
    sends[np.array(without_gradient(program), bool)[nodes]] = 0

    keys, opcode = np.unique(row_of << _BITS | sends, return_inverse=True)
    instructions = [Instruction(rows[key >> _BITS], key & (1 << _BITS) - 1) for key in keys.tolist()]
    ranked = sorted(range(len(keys)), key=lambda k: (instructions[k].op.name, instructions[k].sends))
    opcode = np.argsort(ranked).astype(np.int32)[opcode]

    order = np.lexsort((arity, opcode, level))
    place[nodes[order]] = np.arange(first, first + len(nodes))
    forms = np.stack([level, opcode, arity])[:, order]
    begin = np.flatnonzero(np.append(True, (np.diff(forms) != 0).any(axis=0))[: len(nodes)])
    length = np.diff(np.append(begin, len(nodes)))
    _, runs_of, arities = forms[:, begin]
    offset = np.append(0, np.cumsum(length * arities))[:-1] - begin  # from a record to the place of its first operand
    where, step = np.empty_like(nodes), np.empty_like(nodes)
    where[order] = np.repeat(offset, length) + np.arange(len(nodes))
    step[order] = np.repeat(length, length)
    operands = np.empty_like(edges)
    operands[np.repeat(where, arity) + number * np.repeat(step, arity)] = place[edges]
    return Records(
        tuple([instructions[k] for k in ranked]),
        np.array([runs_of, length, arities], np.int32),
        operands,
        constants,
        (program.parameters, *program.sizes),
        place[np.array(program.outputs, np.int32)],
        first,
        first + len(nodes),
    )


def _is_wanted(row: Op, by: By) -> bool:
    """Whether a gradient by the leaves of a row is asked for."""
    if row is PARAMETER:
        return by in ("parameters", "both")
    return by in ("arguments", "both") and argument_number(row) >= 0


def _connected(row: Op) -> int:
    """The operands to which something may flow back, as the bits of an instruction; nothing does to extremes' own."""
    if row in VARIADIC:
        return int(row is SUM)
    return reduce(operator.or_, [1 << min(j, _BITS - 1) for j, connected in enumerate(row.connected) if connected], 0)


def _leaves(
    program: Program, rows: Sequence[Op], row_of: Integers, is_leaf: NDArray[np.bool_]
) -> tuple[Integers, Floats, int]:
    """Where each leaf stands among the values (for other nodes 0), the constants, the first place behind them all."""
    leaves = np.flatnonzero(is_leaf)
    numbers = np.array(program.data)[leaves]
    constant = np.array([row is CONSTANT for row in rows], bool)[row_of[leaves]]
    bases = np.cumsum([constant.sum(), program.parameters, *program.sizes])
    base = np.array([bases[0 if row is PARAMETER else 1 + argument_number(row)] for row in rows])[row_of[leaves]]
    place = np.zeros(len(is_leaf), np.int32)
    place[leaves[~constant]] = (base + numbers)[~constant]
    place[leaves[constant]] = np.arange(bases[0])
    return place, numbers[constant], int(bases[-1])


def _behind(program: Program, wanted: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Integers]:
    """For each node whether a wanted leaf is connected to it, and how many operations at most lie behind it."""
    rows, starts, arguments, _ = program.columns
    leads, level = bytearray(wanted), array("i", bytes(4 * len(rows)))
    start = 0
    for i, end in enumerate(starts[1:]):
        if start < end:
            mine, row = arguments[start:end], rows[i]
            level[i] = 1 + max([level[a] for a in mine])
            leads[i] = max([leads[a] for a in (compress(mine, row.connected) if row.cuts else mine)], default=0)
            start = end
    return np.frombuffer(leads, np.uint8), np.frombuffer(level, np.int32)


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
        made = records(program, by)
        return Executable(made, by, partial(forward, made), partial(reverse, made))
