"""Loops that end by a condition, in programs of scalars: each number of the last state is an operation of the table.

Its operands are the numbers of the first state, whether the loop ends there, and what else a step reads; the step is
traced once. On floats and on Values it is a loop that stops; a program of arrays has a recurrence in its place, whose
steps behind the last one change nothing.
"""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

from microgrid import engine, ops
from microgrid.calculus import gradient_graph
from microgrid.compiler.gates import with_gates
from microgrid.compiler.program import SCAN, STATE, Program, Recurrence, argument_of, from_values, values_of
from microgrid.compiler.simplify import simplify, without_gradient
from microgrid.compiler.tracing import Compared, Traced, traced_leaf
from microgrid.engine import Value
from microgrid.ops import CONSTANT, Op
from microgrid.recording import kinds, loops, watch_apart

Number = Any
"""A float or a Value."""
State = list[Number]
Step = Callable[[State], State]
"""Returns the numbers of the next state."""
Condition = Callable[[State, State], Number]
"""Says of two successive states whether the loop ends."""


class Iteration:
    """A loop that ends by a condition.

    Attributes:
        body: the program of a step of two arguments and, between them, an empty one: the state with a number behind it
            that is 1 when the loop has ended, else 0; and what else it reads. It computes the new state, the same one
            when the loop has ended.
        at_most: after how many steps it ends anyway.
    """

    def __init__(self, body: Program, at_most: int, key: tuple[object, ...]) -> None:
        self.body, self.at_most, self._key = body, at_most, key
        self.size = body.sizes[0]
        self._last: tuple[Sequence[Number], State] = (), []
        self._derivatives: tuple[Sequence[Number], State] = (), []

    def __reduce__(self) -> tuple[object, ...]:
        return _known, self._key

    def run(self, operands: Sequence[Number]) -> State:
        """Return the last state, and whether the loop has ended, of floats or Values; traced, without a stop."""
        state, others = [*operands[: self.size]], operands[self.size :]
        stops = not any(isinstance(x, Traced) for x in operands)
        for _ in range(self.at_most):
            if stops and getattr(state[-1], "_data", state[-1]):
                break
            values = values_of(self.body, (), [state, (), others])
            state = [values[output] for output in self.body.outputs]
        return state

    def result(self, k: int, operands: Sequence[float]) -> float:
        """Return a number of the last state; the state is kept, as its numbers are asked for one by one."""
        last, found = self._last
        if last != operands:
            found = self.run(operands)
            self._last = operands, found
        return float(found[k])

    def derivative(self, k: int, i: int, operands: Sequence[Number]) -> Number:
        """Return the derivative of a number of the last state by an operand, through the steps."""
        last, found = self._derivatives
        if len(last) != 1 + len(operands) or not all(a is b for a, b in zip(last, (k, *operands), strict=True)):
            inputs = [ops.identity(x) if isinstance(x, Value) else engine.constant(x) for x in operands]
            output = self.run(inputs)[k]
            found = gradient_graph(output, inputs) if isinstance(output, Value) else [0.0] * len(inputs)
            self._derivatives = (k, *operands), found
        derivative = found[i]
        return derivative if any(isinstance(x, Value) for x in operands) else getattr(derivative, "_data", derivative)

    def connected(self, k: int) -> list[bool]:
        """Return for each operand whether a gradient flows back to it from a number of the last state."""
        reached, waiting, others = {k}, [k], [False] * self.body.sizes[2]
        while waiting:
            states, mine = self._read(waiting.pop())
            others = [a or b for a, b in zip(others, mine, strict=True)]
            waiting += states - reached
            reached |= states
        return [j in reached for j in range(self.size)] + others

    def _read(self, k: int) -> tuple[set[int], list[bool]]:
        """The numbers of the last state, and of what else a step reads, to which a gradient flows back from one."""
        body = self.body
        states, others = set(), [False] * body.sizes[2]
        part = Program(*body.columns, [body.outputs[k]], body.sizes)
        for row, frozen, position in zip(body.rows, without_gradient(part), body.data, strict=True):
            if not frozen and row is argument_of(0):
                states.add(int(position))
            elif not frozen and row is argument_of(2):
                others[int(position)] = True
        return states, others


@cache
def row_of(loop: Iteration, k: int) -> Op:
    """Return the operation that is number ``k`` of the last state of a loop; the last one is whether it has ended."""
    return Op(
        "iterated",
        lambda *xs: loop.result(k, xs),
        tuple(
            (lambda y, *xs, i=i: loop.derivative(k, i, xs)) if connected else 0.0
            for i, connected in enumerate(loop.connected(k))
        ),
        doc="A number of the state in which a loop ends, of the first state and of what else a step reads.",
        recipe=(row_of, (loop, k)),  # type: ignore[arg-type]
    )


def iteration_of(row: Op) -> Iteration | None:
    """Return the loop of which a row is a result; None of any other row."""
    return row.recipe[1][0] if row.recipe is not None and row.recipe[0] is row_of else None  # type: ignore[return-value]


@lru_cache(maxsize=1024)
def _known(*key: Any) -> Iteration:
    """The loop of a step, the same one wherever it is traced again: rows are told apart by identity."""
    rows, starts, arguments, data, outputs, sizes, at_most = key
    numbers = [float.fromhex(x) for x in data]
    body = Program([*rows], [*starts], [*arguments], numbers, [*outputs], [*sizes])
    return Iteration(body, at_most, key)


def recorded(step: Step, ends: Condition, looks_back: bool, state: State, at_most: int) -> tuple[State, Number]:
    """Record a loop while a function is traced.

    Args:
        step: returns the numbers of the next state.
        ends: the condition, of the last state and the next one.
        looks_back: whether it takes both; else it is asked before each step.
        state: the numbers of the first state.
        at_most: after how many steps it ends anyway.

    Returns:
        The numbers of the last state, and whether the condition holds there.
    """
    leaves = [traced_leaf(0.0) for _ in range(len(state) + 1)]
    nodes: list[Value] = []
    token = loops.set(_written_out)
    try:
        with watch_apart(nodes.append):
            new = _one_step(step, ends, leaves)
    finally:
        loops.reset(token)
    inside = {*nodes, *leaves}
    others = dict.fromkeys(
        parent for node in nodes for parent in node.parents if parent not in inside and parent.op is not CONSTANT
    )
    body = with_gates(simplify(from_values(nodes, new, [leaves, [], [*others]])[0]))
    numbers = tuple([float(x).hex() for x in body.data])
    lists = tuple(body.rows), tuple(body.starts), tuple(body.arguments), numbers, tuple(body.outputs)
    loop = _known(*lists, tuple(body.sizes), at_most)
    given = [*state, 0.0 if looks_back else _met(ends, state, state)]
    operands = [*[x if isinstance(x, Value) else engine.constant(x) for x in given], *others]
    *found, ended = [_node(row_of(loop, k), operands) for k in range(len(new))]
    return found, ended


def _node(row: Op, operands: Sequence[Value]) -> Value:
    """The node of a row whose number is not known; it has two operands at least."""
    return engine.record(row, ops.nan, operands[0], operands[1], tuple(operands[2:]))


def _one_step(step: Step, ends: Condition, state: State) -> State:
    """The state behind a step, with a number behind it that is 1 when the loop has ended: then it is the same one."""
    *before, ended = state
    new = step(before)
    met = _met(ends, before, new)
    return [*[ops.where(ended, x, y) for x, y in zip(before, new, strict=True)], ops.where(met, 1.0, ended)]


def _met(ends: Condition, before: State, after: State) -> Number:
    """A condition, in which comparisons are operations."""
    token = kinds.set(Compared)
    try:
        first, second = [[ops.identity(x) if isinstance(x, Value) else x for x in side] for side in (before, after)]
        return ends(first, second)
    finally:
        kinds.reset(token)


def _written_out(step: Step, ends: Condition, looks_back: bool, state: State, at_most: int) -> tuple[State, Number]:
    """A loop within a step of another one: all of its steps."""
    found = [*state, 0.0 if looks_back else _met(ends, state, state)]
    for _ in range(at_most):
        found = _one_step(step, ends, found)
    return found[:-1], found[-1]


def with_loops(program: Program) -> Program:
    """Return a program with a recurrence for each loop; the program itself if it has none."""
    if not any(iteration_of(row) for row in {*program.rows}):
        return program
    result = Program(sizes=program.sizes, parameters=program.parameters)
    new: list[int] = []
    scans: dict[tuple[Iteration, tuple[int, ...]], int] = {}
    for row, mine, data in program.nodes():
        operands = [new[a] for a in mine]
        loop = iteration_of(row)
        if loop is None:
            new.append(result.append(row, operands, data))
            continue
        key = loop, tuple(operands)
        if key not in scans:
            scans[key] = result.append(SCAN, operands, len(result.recurrences))
            result.recurrences.append(Recurrence(loop.body, loop.at_most, stops=True))
        place = loop.at_most * loop.size + int(row.recipe[1][1])  # type: ignore[index]
        new.append(result.append(STATE, (scans[key],), place))
    result.outputs = [new[output] for output in program.outputs]
    return result
