"""The gradients that ``backward()`` gives, and what they can be compared with."""

from collections.abc import Mapping
from dataclasses import dataclass

from microgrid.checking.program import Program
from microgrid.ops import ARITHMETIC


@dataclass
class Sweep:
    """A backward pass through a graph.

    Attributes:
        gradients: of each node, as ``backward()`` gives them.
        rounding: how far each may be off by rounding.
        terms: the size of the terms that cancel in each.
    """

    program: Program
    gradients: list[float]
    rounding: list[float]
    terms: list[float]

    def along(self, direction: Mapping[int, float]) -> tuple[float, float, float]:
        """The derivative along a direction, how far it may be off, and the terms that cancel in it."""
        return (
            sum([c * self.gradients[i] for i, c in direction.items()]),
            sum([abs(c) * self.rounding[i] for i, c in direction.items()]),
            sum([abs(c) * self.terms[i] for i, c in direction.items()]),
        )


def backward(program: Program, seed: int) -> Sweep:
    """Call ``backward()`` on the output of a graph whose gradients are set to 0 before."""
    for node in program.nodes:
        node.grad = 0.0
    try:
        program.nodes[-1].backward()
    except ARITHMETIC:
        for node in program.nodes:
            node.local_derivatives()  # the one that raises says so, naming its operation
        raise
    gradients = [node.grad for node in program.nodes]
    return Sweep(program, gradients, program.rounding_of_gradients(seed), program.terms())
