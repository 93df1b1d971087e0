"""Gates of what ``take`` did not choose: nothing may flow back there, not 0 · ∞ either, in any target.

The local derivatives of a node that a gradient reaches only if it was chosen may be infinite where it was not. So its
operands pass a gate: it gives them as they are, and lets a gradient back only where the node was chosen. The choice may
itself depend on such nodes, so they are computed a second time behind the gates, and what is not used after all goes.
"""

from functools import cache

from microgrid import ops
from microgrid.compiler.program import LARGEST, PICK, Program
from microgrid.compiler.simplify import number_values
from microgrid.ops import CONSTANT, Op
from microgrid.reverse import Choices, conditions


def with_gates(program: Program) -> Program:
    """Return a program in which a gradient flows back through what is chosen alone; itself if nothing has to change."""
    if not any(row.chooses for row in {*program.rows}):
        return program
    operands = [mine for _, mine, _ in program.nodes()]
    reached = conditions(program.rows, operands, program.outputs)
    result = Program(sizes=program.sizes, parameters=program.parameters)
    for row, mine, data in program.nodes():
        result.append(row, mine, data)

    @cache
    def mask(choices: Choices) -> int:
        """The number of the node that is 1 if one of some choices was made, else 0."""
        made = [chosen(*choice) for choice in sorted(choices)]
        return made[0] if len(made) == 1 else result.append(ops.maximum if len(made) == 2 else LARGEST, made)

    @cache
    def chosen(node: int, k: int) -> int:
        """The number of the node that is 1 if a node was reached and chose its operand ``k``, else 0."""
        index, *entries = operands[node]
        found = index
        if ops.is_take(program.rows[node]):
            places = [result.append(CONSTANT, (), float(place)) for place in (k - 1, k - 1 - len(entries))]
            found = result.append(ops.add, [result.append(ops.equal, (index, place)) for place in places])
        above = reached[node]
        return found if above is None else result.append(ops.mul, (found, mask(above)))

    @cache
    def gate(choices: Choices, x: int) -> int:
        return result.append(ops.gated, (mask(choices), x))

    new = [*range(len(program))]
    for i, row in enumerate(program.rows):
        mine = [new[a] for a in operands[i]]
        choices = reached.get(i)
        if choices and _may_be_infinite(row):
            mine = [
                gate(choices, x) if program.rows[a] is not CONSTANT else x
                for a, x in zip(operands[i], mine, strict=True)
            ]
        if mine != operands[i]:
            new[i] = result.append(row, mine, program.data[i])
    result.outputs = [new[output] for output in program.outputs]
    return number_values(result)


def _may_be_infinite(row: Op) -> bool:
    """Whether a local derivative is a function of numbers, which 0 may meet: not of what chooses, or picks a number."""
    return not row.chooses and row is not PICK and any(map(callable, row.partials))
