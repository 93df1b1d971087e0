"""Instruction records: a program of scalars as arrays of numbers, for an interpreter.

Nodes of one operation that do not depend on each other stand one after the other, as a *run*: first those that need
leaves alone, then those that need these as well, and so on. So an interpreter looks once a run at what is to be done,
and does it for several records at a time. Time and memory are linear in the nodes.
"""

import operator
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from microgrid.compiler.classes import VARIADIC
from microgrid.compiler.passes.lift import argument_number
from microgrid.compiler.program import PARAMETER, SUM, Program
from microgrid.compiler.simplify import without_gradient
from microgrid.compiler.task import Task
from microgrid.ops import CONSTANT, Op

Numbers = NDArray[np.float64]
Integers = NDArray[np.int32]

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
    constants: Numbers
    sizes: tuple[int, ...]
    outputs: Integers
    first: int
    size: int

    @property
    def nbytes(self) -> int:
        """The memory that they take, with the values and the adjoints on which they are run."""
        stored = self.runs.nbytes + self.operands.nbytes + self.constants.nbytes + self.outputs.nbytes
        return stored + 16 * self.size

    def dump(self, limit: int = 200) -> str:
        """Return the records as text, a run a line, at most ``limit`` of them."""
        lines = [f"{self.first} values, then {self.runs.shape[1]} runs of {self.size - self.first} records"]
        at, result = 0, self.first
        for opcode, count, arity in self.runs[:, :limit].T.tolist():
            columns = self.operands[at : at + count * arity].reshape(arity, count)[:8]
            inside = [f"{x.tolist()}" if count < 5 else f"[{', '.join(map(str, x[:4]))}, …]" for x in columns]
            places = f"{result}" if count == 1 else f"{result}…{result + count - 1}"
            more = ", …" * (arity > 8)
            lines.append(f"{places} = {self.instructions[opcode].op.name}({', '.join(inside)}{more})")
            at, result = at + count * arity, result + count
        if self.runs.shape[1] > limit:
            lines.append(f"... and {self.runs.shape[1] - limit} more")
        return "\n".join([*lines, f"return {self.outputs.tolist()}"])

    def leaves(self) -> list[slice]:
        """Where the parameters and the numbers of each argument stand."""
        ends = list(accumulate(self.sizes, initial=len(self.constants)))
        return [slice(start, end) for start, end in pairwise(ends)]


def records(program: Program, task: Task) -> Records:
    """Return a program as records, in which a gradient flows only where the task needs it.

    That is exactness, not speed alone: of an output that is left out 0 · ∞ would flow back.
    """
    known: dict[Op, int] = {}
    row_of = np.fromiter((known.setdefault(row, len(known)) for row in program.rows), np.int32, len(program))
    rows = [*known]
    starts = np.array(program.starts, np.int32)
    arity = np.diff(starts)
    edges = np.array(program.arguments, np.int32)
    owner = np.repeat(np.arange(len(program), dtype=np.int32), arity)  # of which node an edge leads to an operand
    number = np.arange(len(edges), dtype=np.int32) - starts[owner]  # to which one
    place, constants, first = _leaves(program, rows, row_of, arity == 0)
    nodes = np.flatnonzero(arity)

    inputs = task.by_arguments
    wanted = [task.by_parameters if row is PARAMETER else inputs and argument_number(row) >= 0 for row in rows]
    last = np.array([0 if row in VARIADIC else _BITS - 1 for row in rows], np.int32)[row_of[owner]]
    leads, level = _behind(program, np.array(wanted, np.uint8)[row_of])
    sends = np.bitwise_or.reduceat(leads[edges].astype(np.int32) << np.minimum(number, last), starts[nodes])
    sends &= np.array([_connected(row) for row in rows], np.int32)[row_of[nodes]]
    differentiated = replace(program, outputs=program.outputs[:1]) if task.of == "first" else program
    sends[np.array(without_gradient(differentiated), bool)[nodes]] = 0

    keys = row_of[nodes].astype(np.int64) << 40 | sends.astype(np.int64) << 32 | arity[nodes]
    found, form = np.unique(keys, return_inverse=True)
    forms = [Instruction(rows[key >> 40], key >> 32 & (1 << _BITS) - 1) for key in found.tolist()]
    instructions = sorted({*forms}, key=lambda x: (x.op.name, x.sends))
    opcodes = np.array([instructions.index(instruction) for instruction in forms], np.int32)[form]
    order = np.lexsort((arity[nodes], opcodes, level[nodes]))
    columns = np.stack([level[nodes], opcodes, arity[nodes]])[:, order]
    changes = (np.diff(columns) != 0).any(axis=0)
    begins = np.flatnonzero(np.append(True, changes)[: len(nodes)])  # the first record of each run
    lengths = np.diff(np.append(begins, len(nodes)))
    _, opcodes, arities = columns[:, begins]
    place[nodes[order]] = np.arange(first, first + len(nodes))

    where, step = np.zeros(len(program), np.int32), np.zeros(len(program), np.int32)
    ends = np.cumsum(lengths * arities)
    where[nodes[order]] = np.arange(len(nodes)) + np.repeat(ends - lengths * arities - begins, lengths)
    step[nodes[order]] = np.repeat(lengths, lengths)
    operands = np.empty_like(edges)
    operands[where[owner] + number * step[owner]] = place[edges]
    return Records(
        tuple(instructions),
        np.stack([opcodes, lengths, arities]).astype(np.int32),
        operands,
        constants,
        (program.parameters, *program.sizes),
        place[np.array(program.outputs, np.int32)],
        first,
        first + len(nodes),
    )


def _connected(row: Op) -> int:
    """The operands to which something may flow back, as the bits of an instruction; nothing does to extremes' own."""
    if row in VARIADIC:
        return int(row is SUM)
    return reduce(operator.or_, [1 << min(j, _BITS - 1) for j, connected in enumerate(row.connected) if connected], 0)


def _leaves(
    program: Program, rows: Sequence[Op], row_of: Integers, is_leaf: NDArray[np.bool_]
) -> tuple[Integers, Numbers, int]:
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
    """For each node whether it depends on a wanted leaf, and how many operations at most lie behind it."""
    _, starts, arguments, _ = program.columns
    leads, level = bytearray(wanted), array("i", bytes(4 * len(program)))
    start = 0
    for i, end in enumerate(starts[1:]):
        if start < end:
            mine = arguments[start:end]
            level[i] = 1 + max([level[a] for a in mine])
            leads[i] = max([leads[a] for a in mine])
            start = end
    return np.frombuffer(leads, np.uint8), np.frombuffer(level, np.int32)
