"""The operations within the call of a compiled function."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from microgrid.checking.judging import Primitive
from microgrid.checking.noise import is_program
from microgrid.checking.problem import Problem
from microgrid.checking.program import Plan, Program
from microgrid.checking.report import Derivative, Verdict
from microgrid.engine import Value
from microgrid.ops import in_table, stop_gradient, total
from microgrid.recording import enable_grad, record_lines

INNER = 2000
"""The most operations within a compiled function that are checked if its derivative is wrong, user-defined ones first.
"""


@dataclass
class Inside:
    """The operations within compiled calls that depend on some leaves."""

    problem: Problem
    seed: int
    _programs: dict[Value, Program] = field(default_factory=dict)

    def _program(self, call: Value) -> Program:
        """The function of a compiled call, run as it is written."""
        if call not in self._programs:
            with enable_grad(), record_lines():
                outputs = call.op.spelled_out(call.parents, self.problem.build)  # type: ignore[attr-defined]
            self._programs[call] = Program(total(outputs), [leaf for _, leaf in self.problem.leaves])
        return self._programs[call]

    def _depending(self, call: Value, leaves: list[Value]) -> tuple[Program, Plan, set[int]]:
        """The program of a call, its steps that depend on some leaves, and all nodes that move with these."""
        program = self._program(call)
        moved = [program.position[leaf] for leaf in leaves if leaf in program.position]
        steps = program.plan_from(moved)
        return program, steps, {*moved, *[i for i, *_ in steps]}

    def operations(self, call: Value, leaves: list[Value]) -> Iterator[tuple[Value, Primitive, list[int]]]:
        """Yield each node that depends on some leaves, with its operation there and the operands that move."""
        program, steps, moving = self._depending(call, leaves)
        steps.sort(key=lambda step: in_table(program.nodes[step[0]].op))  # user-defined rows are wrong more often
        for i, _, operands, _ in steps[:INNER]:
            node, xs = program.nodes[i], tuple([program.values[j] for j in operands])
            if not is_program(node.op):
                yield node, Primitive(node.op, xs, self.seed), [k for k, j in enumerate(operands) if j in moving]

    def first_wrong(self, call: Value, leaves: list[Value], kinks: list[Value]) -> tuple[Value, int, Derivative] | None:
        """The first wrong operation: node, operand and verdict; nodes on a kink before it are added to ``kinks``."""
        for node, primitive, moving in self.operations(call, leaves):
            for k in moving:
                local = primitive.first(k)
                if local.verdict is Verdict.FAIL:
                    return node, k, local
                if local.verdict is Verdict.KINK:
                    kinks.append(node)
        return None

    def held(self, call: Value, leaves: list[Value]) -> Value | None:
        """A ``stop_gradient`` of a number that depends on some leaves."""
        program, _, moving = self._depending(call, leaves)
        holds = zip(program.nodes, program.operands, strict=True)
        return next((node for node, mine in holds if node.op is stop_gradient and not moving.isdisjoint(mine)), None)
