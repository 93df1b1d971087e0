"""Gates of what ``take`` did not choose: nothing may flow back there, not 0 · ∞ either, in any target.

The local derivatives of a node that a gradient reaches only if it was chosen may be infinite where it was not. So its
operands pass a gate: it gives them as they are, and lets a gradient back only where the node was chosen. The choice may
itself depend on such nodes, so they are computed a second time behind the gates, and what is not used after all goes.
"""

from itertools import compress

from microgrid import ops
from microgrid.compiler.program import LARGEST, PICK, Program
from microgrid.compiler.simplify import number_values
from microgrid.ops import CONSTANT, Op
from microgrid.reverse import Choices, conditions


def with_gates(program: Program) -> Program:
    """Return a program in which a gradient flows back through what is chosen alone; itself if nothing has to change."""
    if not any(row.chooses for row in {*program.rows}) or not _some_waits(program):
        return program
    gates = _Gates(program)
    result, operands = gates.result, gates.operands
    new = [*range(len(program))]
    for i, row in enumerate(program.rows):
        mine = [new[a] for a in operands[i]]
        choices = gates.reached.get(i)
        if choices and may_be_infinite(row):
            mine = [
                gates.gate(choices, x) if program.rows[a] is not CONSTANT else x
                for a, x in zip(operands[i], mine, strict=True)
            ]
        if mine != operands[i]:
            new[i] = result.append(row, mine, program.data[i])
    result.outputs = [new[output] for output in program.outputs]
    return number_values(result)


def _some_waits(program: Program) -> bool:
    """Whether a gradient may reach some node, that sends it on, through a choice alone; few programs have such nodes.

    ``conditions`` says of each node through which choices, and is much slower.
    """
    rows, starts, arguments, _ = program.columns
    cutting = {row for row in {*rows} if row.cuts or row.chooses}
    reached = bytearray(len(rows))
    chosen: list[int] = []
    for output in program.outputs:
        reached[output] = 1
    for i in range(len(rows) - 1, -1, -1):
        if reached[i]:
            row, mine = rows[i], arguments[starts[i] : starts[i + 1]]
            if row in cutting:
                mine = [*compress(mine, row.connected)]
                if row.chooses:
                    chosen += mine
                    continue
            for a in mine:
                reached[a] = 1
    return any(not reached[a] and starts[a] < starts[a + 1] for a in chosen)


class _Gates:
    """What a program needs of masks and gates, each written once, behind its nodes."""

    def __init__(self, program: Program) -> None:
        self.operands = [mine for _, mine, _ in program.nodes()]
        self.reached = conditions(program.rows, self.operands, program.outputs)
        self.result = Program(sizes=program.sizes, parameters=program.parameters)
        for row, mine, data in program.nodes():
            self.result.append(row, mine, data)
        self.rows = program.rows
        self.masks: dict[Choices | tuple[int, int], int] = {}
        self.gates: dict[tuple[Choices, int], int] = {}
        for i in range(len(program) - 1, -1, -1):  # outer choices first: a chain of them would be a deep recursion
            if above := self.reached.get(i):
                self._mask(above)

    def gate(self, choices: Choices, x: int) -> int:
        """The number of the node that is ``x``, to which something flows back if one of some choices was made."""
        if (choices, x) not in self.gates:
            self.gates[choices, x] = self.result.append(ops.gated, (self._mask(choices), x))
        return self.gates[choices, x]

    def _mask(self, choices: Choices) -> int:
        """The number of the node that is 1 if one of some choices was made, else 0."""
        if choices not in self.masks:
            made = [self._chosen(*choice) for choice in sorted(choices)]
            row = ops.maximum if len(made) == 2 else LARGEST
            self.masks[choices] = made[0] if len(made) == 1 else self.result.append(row, made)
        return self.masks[choices]

    def _chosen(self, node: int, k: int) -> int:
        """The number of the node that is 1 if a node was reached and chose its operand ``k``, else 0."""
        if (node, k) not in self.masks:
            index, *entries = self.operands[node]
            found = index
            if ops.is_take(self.rows[node]):
                places = [self.result.append(CONSTANT, (), float(at)) for at in (k - 1, k - 1 - len(entries))]
                equal = [self.result.append(ops.equal, (index, place)) for place in places]
                found = self.result.append(ops.add, equal)
            above = self.reached[node]
            self.masks[node, k] = found if above is None else self.result.append(ops.mul, (found, self._mask(above)))
        return self.masks[node, k]


def may_be_infinite(row: Op) -> bool:
    """Whether a local derivative is a function of numbers, which 0 may meet: not of what chooses, or picks a number."""
    return not row.chooses and row is not PICK and any(map(callable, row.partials))
