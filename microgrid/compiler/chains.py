"""Chains of scalars: one operation again and again on its own last result, as a running maximum, or Horner's rule.

A *step* is a row with the state as one operand, as ``s = maximum(s, x)``, or a sum with a product of the state among
its terms, as ``s = s * a + b``. Steps of one form in a row are a chain, whose states become one array.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from microgrid import ops
from microgrid.compiler.program import SUM, Program
from microgrid.ops import Op

SHORTEST = 8
"""Chains of fewer steps are written out."""


class Step(NamedTuple):
    """The form of a step.

    Attributes:
        row: its operation: the one of the node.
        place: which operand the state is, or the product with the state.
        factor: which factor of that product the state is; −1 if there is no product.
    """

    row: Op
    place: int
    factor: int = -1


@dataclass(frozen=True, slots=True)
class Chain:
    """Nodes of which each is a step on the one before; the first one is a step on the start."""

    step: Step
    nodes: list[int]

    def state(self, program: Program, node: int) -> int:
        """Return the node that a node of the chain is a step on."""
        operand = program.arguments[program.starts[node] + self.step.place]
        return operand if self.step.factor < 0 else program.arguments[program.starts[operand] + self.step.factor]

    def product(self, program: Program, node: int) -> int | None:
        """Return the product with the state, if there is one."""
        return program.arguments[program.starts[node] + self.step.place] if self.step.factor >= 0 else None

    def inputs(self, program: Program, node: int) -> list[int]:
        """Return the other operands of a step: of a product the other factor, and the other terms."""
        mine = program.arguments[program.starts[node] : program.starts[node + 1]]
        rest = [a for k, a in enumerate(mine) if k != self.step.place]
        if self.step.factor < 0:
            return rest
        return [program.arguments[program.starts[mine[self.step.place]] + 1 - self.step.factor], *rest]


def chains(program: Program) -> list[Chain]:
    """Return the chains of a program, each node in one at most, the longer ones first where they compete."""
    links = _links(program)
    length: dict[tuple[Step, int], int] = {}
    for step, before in links.items():
        for node, state in before.items():
            length[step, node] = 1 + length.get((step, state), 1)
    taken: set[int] = set()
    found: list[Chain] = []
    for step, last in sorted(length, key=lambda key: -length[key]):
        if length[step, last] < SHORTEST:
            break
        nodes: list[int] = []
        member: int | None = last
        while member is not None and member not in taken:
            nodes.append(member)
            member = links[step].get(member)
        chain = Chain(step, nodes[::-1])
        products = {p for i in nodes if (p := chain.product(program, i)) is not None}
        if len(nodes) >= SHORTEST and taken.isdisjoint(products):
            taken.update(nodes, products)
            found.append(chain)
    return found


def _links(program: Program) -> dict[Step, dict[int, int]]:
    """For each form of a step, the nodes of that form on one of its kind, and that one."""
    rows, starts, arguments, _ = program.columns
    numbers = {row: kind for kind, row in enumerate(dict.fromkeys(rows))}
    kinds = np.fromiter(map(numbers.__getitem__, rows), np.intp, len(rows))
    begins, operands = np.array(starts, dtype=np.intp), np.array(arguments, dtype=np.intp)
    counts = np.diff(begins)
    uses = np.bincount(operands, minlength=len(rows))
    uses[program.outputs] += 1
    product = (kinds == numbers.get(ops.mul, -1)) & (uses == 1)
    found: dict[Step, dict[int, int]] = {}

    def note(step: Step, nodes: NDArray[np.intp], states: NDArray[np.intp], alike: NDArray[np.bool_]) -> None:
        chosen = alike[states]
        if chosen.any():
            found[step] = dict(zip(nodes[chosen].tolist(), states[chosen].tolist(), strict=True))

    for row, kind in numbers.items():
        for count in range(2, _OPERANDS + 1) if row is SUM else [row.arity] if 1 < row.arity <= _OPERANDS else []:
            alike = (kinds == kind) & (counts == count)
            nodes = np.flatnonzero(alike)
            for place in range(count):
                states = operands[begins[nodes] + place]
                if row is SUM or row.connected[place]:
                    note(Step(row, place), nodes, states, alike)
                if row in (ops.add, ops.sub, SUM):
                    on = nodes[product[states]]
                    with_product = np.zeros(len(rows), dtype=bool)
                    with_product[on] = True
                    for factor in range(2):
                        factors = operands[begins[operands[begins[on] + place]] + factor]
                        note(Step(row, place, factor), on, factors, with_product)
    return found


_OPERANDS = 4
"""A step has so many operands at most."""
