"""``f`` as Python code: whether it records the same graph at other points, and its values there."""

import math
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

from microgrid.checking.line import Line, Measure, output_of
from microgrid.checking.noise import agree, same
from microgrid.checking.problem import Problem
from microgrid.checking.program import Program, restored
from microgrid.checking.report import number, operation, where
from microgrid.engine import Value
from microgrid.given import Given


@dataclass
class Runs:
    """The graph that ``f`` recorded at the point, and ``f`` itself, to be run at others.

    Attributes:
        problem: the function, the leaves and the point.
        program: the graph at the point.
        branches: whether ``f`` records another graph beside the point.
        detached: the first node whose number follows the leaves, though its operands and operation do not say so.
    """

    problem: Problem
    program: Program
    branches: bool = False
    detached: Value | None = None

    @cached_property
    def given(self) -> list[int]:
        """The nodes that were given as numbers, with their local derivatives."""
        return [i for i, node in enumerate(self.program.nodes) if isinstance(node.op, Given)]

    @property
    def is_closed(self) -> bool:
        """Whether the graph alone computes the output from the leaves; else ``f`` is run again."""
        return self.detached is None and not self.given

    @property
    def measure(self) -> Measure:
        """The output as a function of the leaves."""
        return output_of if self.is_closed else self.measure_of(-1)

    def measure_of(self, i: int) -> Measure:
        """The number of a node of the graph that ``f`` records for other leaves."""
        return lambda values, random: values[i] if random is not None else self.recorded_for(values).recorded[i]

    def recorded_for(self, values: list[float]) -> Program:
        """The graph of ``f`` for these values of the leaves."""
        return self.recorded_at(
            {leaf: values[self.program.position[leaf]] - leaf.data for _, leaf in self.problem.leaves}
        )

    def recorded_at(self, moves: dict[Value, float]) -> Program:
        """The graph of ``f`` after moving leaves."""
        assert self.problem.build is not None
        leaves = [leaf for _, leaf in self.problem.leaves]
        with restored(leaves):
            for leaf, move in moves.items():
                leaf.data += move
            return Program(self.problem.build(), leaves)

    def shape(self, program: Program) -> list[Any]:
        """The operations of a graph, with their operands, and the leaves to check; whatever numbers are in it."""
        leaves = {leaf for _, leaf in self.problem.leaves}
        shape: list[Any] = []
        for node, operands in zip(program.nodes, program.operands, strict=True):
            if operands:
                shape.append((node.op.recipe[0] if node.op.recipe else node.op.name, operands))
            else:
                shape.append(id(node) if node in leaves else None)
        return shape

    def compare(self, seed: int) -> None:
        """Run ``f`` at the same point and next to it, and compare the graphs that it records."""
        shape, again = self.shape(self.program), self.recorded_at({})
        if self.shape(again) != shape or not all(map(same, again.recorded, self.program.recorded)):
            raise ValueError(
                f"{self.problem.title} gave another graph or other numbers when it was run again at the same point: "
                "fix the seed of its random numbers, or put the model into eval() mode, and check again"
            )
        random = Random(seed)
        ahead = {leaf: 1e-6 * random.gauss() * max(abs(leaf.data), 1.0) for _, leaf in self.problem.leaves}
        for moves in (ahead, {leaf: -move for leaf, move in ahead.items()}):
            there = self.recorded_at(moves)
            if self.shape(there) != shape:
                self.branches = True
            elif self.detached is None:
                self.detached = self._first_detached(there)

    def _first_detached(self, there: Program) -> Value | None:
        """The first node whose number in another graph of the same shape does not follow from its operands."""
        leaves = {leaf for _, leaf in self.problem.leaves}
        for node, operands, here, y in zip(
            self.program.nodes, there.operands, self.program.recorded, there.recorded, strict=True
        ):
            if node not in leaves and not isinstance(node.op, Given):
                here = node.op.forward(*[there.recorded[j] for j in operands]) if operands else here
                if not agree(node.op, here, y):
                    return node
        return None

    def control_flow_differs(self, line: Line, step: float | None) -> str:
        """Say where ``f`` takes another path through its code right beside the point; empty if it does not."""
        if not self.branches:
            return ""
        shape, near = self.shape(self.program), step or line.nearest
        for side in (near, -near):
            there = self.shape(self.recorded_at({self.program.nodes[i]: side * c for i, c in line.direction.items()}))
            if there != shape:
                i = next((i for i, (a, b) in enumerate(zip(shape, there, strict=False)) if a != b), -1)
                while i >= 0 and not self.program.operands[i]:
                    i += 1  # to the operation that uses the constant: it has a name
                node = self.program.nodes[i]
                return (
                    f"the function takes another path through its code at ±{number(near, 2)}: its graph differs from "
                    f"{operation(node)} ({where(node)}) on"
                )
        return ""


def refuse_what_cannot_be_run(runs: Runs) -> None:
    """Raise ``ValueError`` for a graph that cannot be computed for other leaves, or whose data is out of date."""
    program = runs.program
    if runs.given and not runs.problem.build:
        raise ValueError(
            f"{operation(program.nodes[runs.given[0]])} was given as a number, so its graph alone cannot be computed "
            "for other leaves: check the function that makes it, as in check(f, x)"
        )
    for node, operands, value in zip(program.nodes, program.operands, program.values, strict=True):
        if same(node.data, value):
            continue
        if operands:
            value = node.op.forward(*[program.recorded[j] for j in operands])
        if not agree(node.op, node.data, value):
            raise ValueError(
                f"{operation(node)} is {number(value)} now, but the graph holds {number(node.data)}: the data of "
                "a leaf was changed after it was built; call y.forward() first"
            )


def why_not_finite(program: Program) -> str:
    """Say why there is no derivative at all, if the value itself is no finite number; empty if it is one."""
    if math.isfinite(program.values[-1]):
        return ""
    node = next(n for n, y in zip(program.nodes, program.values, strict=True) if not math.isfinite(y))
    made = "" if node.is_leaf else f", made at {where(node)}"
    return f"the function is {number(program.values[-1])} at this point: {operation(node)} is {number(node.data)}{made}"
