"""Instruction records: a program of scalars as arrays of numbers, for an interpreter.

Nodes of one operation that do not depend on each other stand one after the other, as a *run*, so an interpreter looks
once a run at what is to be done. Each instruction in turn runs all of its nodes whose operands are there: the order
that makes runs long in graphs of any shape. Time and memory are linear in the nodes.
"""

import operator
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate, compress, pairwise

import numpy as np
from numpy.typing import NDArray

from microgrid.compiler.classes import VARIADIC
from microgrid.compiler.lift import argument_number
from microgrid.compiler.program import PARAMETER, SUM, Program
from microgrid.compiler.simplify import without_gradient
from microgrid.ops import CONSTANT, Op

Floats = NDArray[np.float64]
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


def records(program: Program, by_parameters: bool = False, by_arguments: bool = False) -> Records:
    """Return a program as records.

    Args:
        program: the scalars.
        by_parameters: whether it will be differentiated by the parameters: a gradient flows only where it has to.
        by_arguments: whether by the arguments.
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

    wanted = [by_parameters if row is PARAMETER else by_arguments and argument_number(row) >= 0 for row in rows]
    last = np.array([0 if row in VARIADIC else _BITS - 1 for row in rows], np.int32)[row_of[owner]]
    leads = _leads(program, np.array(wanted, np.uint8)[row_of])[edges].astype(np.int32)
    sends = np.bitwise_or.reduceat(leads << np.minimum(number, last), starts[nodes])
    sends &= np.array([_connected(row) for row in rows], np.int32)[row_of[nodes]]
    sends[np.array(without_gradient(program), bool)[nodes]] = 0

    keys = row_of[nodes].astype(np.int64) << 40 | sends.astype(np.int64) << 32 | arity[nodes]
    found, form = np.unique(keys, return_inverse=True)
    forms = [Instruction(rows[key >> 40], key >> 32 & (1 << _BITS) - 1) for key in found.tolist()]
    instructions = sorted({*forms}, key=lambda x: (x.op.name, x.sends))
    form_of = np.full(len(program), -1, np.int32)
    form_of[nodes] = form
    order, turns, lengths = _turns(form_of, len(forms), edges, owner)
    place[order] = np.arange(first, first + len(order))

    opcodes = np.array([instructions.index(instruction) for instruction in forms], np.int32)[turns]
    arities = arity[order[np.cumsum(lengths) - lengths]]
    begins = np.cumsum(lengths * arities) - lengths * arities
    where, step = np.zeros(len(program), np.int32), np.zeros(len(program), np.int32)
    where[order] = np.arange(len(order)) + np.repeat(begins - (np.cumsum(lengths) - lengths), lengths)
    step[order] = np.repeat(lengths, lengths)
    operands = np.empty_like(edges)
    operands[where[owner] + number * step[owner]] = place[edges]
    return Records(
        tuple(instructions),
        np.stack([opcodes, lengths, arities]),
        operands,
        constants,
        (program.parameters, *program.sizes),
        place[np.array(program.outputs, np.int32)],
        first,
        first + len(order),
    )


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


def _leads(program: Program, wanted: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """For each node whether a wanted leaf is connected to it."""
    rows, starts, arguments, _ = program.columns
    leads = bytearray(wanted)
    start = 0
    for i, end in enumerate(starts[1:]):
        if start < end:
            mine, row = arguments[start:end], rows[i]
            leads[i] = max([leads[a] for a in (compress(mine, row.connected) if row.cuts else mine)], default=0)
            start = end
    return np.frombuffer(leads, np.uint8)


def _turns(form_of: Integers, count: int, edges: Integers, owner: Integers) -> tuple[Integers, Integers, Integers]:
    """Take turns: run all nodes of a form whose operands are there, then those of the form that waits longest.

    Args:
        form_of: the form of each node, which all nodes of a run share; -1 for leaves.
        count: how many forms there are.
        edges: an operand of a node, for each edge.
        owner: the node.

    Returns:
        The nodes in order, the form of each turn, and how many nodes it runs.
    """
    inner = form_of[edges] >= 0
    edges, owner = edges[inner], owner[inner]
    missing = array("i", np.bincount(owner, minlength=len(form_of)).astype(np.int32).tobytes())
    begins = np.append(0, np.cumsum(np.bincount(edges, minlength=len(form_of)))).astype(np.int32).data
    users = owner[np.argsort(edges, kind="stable")].data
    forms = form_of.data
    ready: list[list[int]] = [[] for _ in range(count)]
    waiting: deque[int] = deque()
    order, turns, lengths = array("i"), array("i"), array("i")

    def add(node: int) -> None:
        form = forms[node]
        if not ready[form]:
            waiting.append(form)
        ready[form].append(node)

    for node in np.flatnonzero((form_of >= 0) & (np.frombuffer(missing, np.int32) == 0)).tolist():
        add(node)
    while waiting:
        form = waiting.popleft()
        nodes, ready[form] = ready[form], []
        order.extend(nodes)
        turns.append(form)
        lengths.append(len(nodes))
        for node in nodes:
            for user in users[begins[node] : begins[node + 1]]:
                missing[user] -= 1
                if not missing[user]:
                    add(user)
    return np.array(order, np.int32), np.array(turns, np.int32), np.array(lengths, np.int32)
