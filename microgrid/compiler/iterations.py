"""Loops that are recorded as one operation, of which a step is traced once.

In programs of scalars the loop is one node, of the numbers of the first state, the inputs of all steps and what else a
step reads; each number of a state that is used is picked from it. Played on Values it is an ordinary loop; a program of
arrays has a recurrence in its place. One that ends by a condition has a number in its state, the last one, that says
whether it has ended: then a step changes nothing.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from microgrid import engine, ops
from microgrid.calculus import under_way
from microgrid.compiler.program import (
    PICK,
    SCAN,
    STATE,
    Program,
    Recurrence,
    argument_of,
    from_values,
    known,
    not_within,
    recurrence_of,
)
from microgrid.compiler.simplify import simplify, without_gradient
from microgrid.compiler.tracing import Compared, traced_leaf
from microgrid.engine import Value
from microgrid.nn import Dropout, factors_of
from microgrid.ops import CONSTANT, Op
from microgrid.recording import kinds, loops, watch_apart

Number = Any
"""A float or a Value."""
Numbers = list[Number]
Step = Callable[[Numbers], Numbers]
"""Returns the numbers of the next state."""
Condition = Callable[[Numbers, Numbers], Number]
"""Says of two successive states whether the loop ends."""
Both = Callable[[Numbers, Numbers], tuple[Numbers, Numbers]]
"""Returns the numbers of the next state, and of what a step gives, of the last state and the input of the step."""


class Loops:
    """What records the loops of a function that is traced.

    One in a step of another, or of which a derivative is taken within the function, is written out: all of its steps.
    """

    def __init__(self) -> None:
        self._around = under_way.get()
        self._inside = False

    def scan(self, step: Both, state: Numbers, inputs: Sequence[Numbers]) -> tuple[Numbers, list[Numbers]]:
        """Record a loop over inputs; return the numbers of the last state, and what each step gives."""
        return self._recorded(step, state, inputs)

    def iterate(
        self, step: Step, ends: Condition, looks_back: bool, state: Numbers, at_most: int
    ) -> tuple[Numbers, Number]:
        """Record a loop that ends by a condition.

        Args:
            step: returns the numbers of the next state.
            ends: the condition, of the last state and the next one.
            looks_back: whether it takes both; else it is asked before each step.
            state: the numbers of the first state.
            at_most: after how many steps it ends anyway.

        Returns:
            The numbers of the last state, and whether the condition holds there.
        """

        def unless_ended(state: Numbers, _: Numbers) -> tuple[Numbers, Numbers]:
            *before, ended = state
            new = step(before)
            met = _met(ends, before, new)
            kept = [ops.where(ended, x, y) for x, y in zip(before, new, strict=True)]
            return [*kept, ops.where(met, 1.0, ended)], []

        first = [*state, 0.0 if looks_back else _met(ends, state, state)]
        (*found, ended), _ = self._recorded(unless_ended, first, [[]] * at_most, stops=True)
        return found, ended

    def _recorded(
        self, step: Both, state: Numbers, inputs: Sequence[Numbers], stops: bool = False
    ) -> tuple[Numbers, list[Numbers]]:
        if self._inside or under_way.get() != self._around:
            given = []
            for x in inputs:
                state, output = step(state, x)
                given.append(output)
            return state, given
        before, entry = [traced_leaf(0.0) for _ in state], [traced_leaf(0.0) for _ in inputs[0]]
        nodes: list[Value] = []
        drawn: list[tuple[Dropout, list[Value]]] = []
        draw = factors_of.get()

        def drawn_anew(module: Dropout, count: int) -> Sequence[Value]:
            drawn.append((module, [traced_leaf(1.0) for _ in range(count)]))
            return drawn[-1][1]

        token = factors_of.set(drawn_anew)
        self._inside = True
        try:
            with watch_apart(nodes.append):
                new, output = [[*map(_as_value, numbers)] for numbers in step([*before], [*entry])]
        finally:
            self._inside = False
            factors_of.reset(token)
        inputs = [[*x, *[y for module, mine in drawn for y in draw(module, len(mine))]] for x in inputs]
        entry += [leaf for _, mine in drawn for leaf in mine]

        inside = {*nodes, *before, *entry}
        read = [*[parent for node in nodes for parent in node.parents], *new]
        others = dict.fromkeys(x for x in read if x not in inside and x.op is not CONSTANT)
        slot = {x: k for k, x in reversed([*enumerate(new)])}  # of what a step gives, too, if it is not there already
        more = dict.fromkeys(x for x in output if x in inside.difference(slot, before, entry))
        slot.update((x, k) for k, x in enumerate(more, start=len(new)))
        new += more
        body = simplify(from_values(nodes, new, [[*before, *[traced_leaf(0.0) for _ in more]], entry, [*others]])[0])
        recurrence = known(*Recurrence(body, len(inputs), stops).key)
        start = [*state, *[0.0] * len(more)]
        operands = [*map(_as_value, [*start, *[y for x in inputs for y in x]]), *others]
        loop = _node(loop_of(recurrence), operands) if new else None

        def at(k: int, s: int) -> Value:
            return _node(PICK, [loop, engine.constant(k * len(new) + s)])

        place = {x: s for s, x in enumerate(before)}, {x: j for j, x in enumerate(entry)}

        def given_by(k: int, x: Value) -> Number:
            if x in place[1]:
                return inputs[k][place[1][x]]
            if x in place[0]:
                return at(k, place[0][x]) if k else start[place[0][x]]
            return at(k + 1, slot[x]) if x in slot else x

        last = [at(len(inputs), s) for s in range(len(state))]
        return last, [[given_by(k, x) for x in output] for k in range(len(inputs))]


def _as_value(x: Number) -> Value:
    return x if isinstance(x, Value) else engine.constant(x)


def _node(row: Op, operands: Sequence[Value]) -> Value:
    """The node of a row whose number is not known."""
    return engine.record(row, ops.nan, operands[0], operands[1] if len(operands) > 1 else None, tuple(operands[2:]))


def _met(ends: Condition, before: Numbers, after: Numbers) -> Number:
    """A condition, in which comparisons are operations."""
    token = kinds.set(Compared)
    try:
        first, second = [[ops.identity(x) if isinstance(x, Value) else x for x in side] for side in (before, after)]
        return ends(first, second)
    finally:
        kinds.reset(token)


@cache
def loop_of(recurrence: Recurrence) -> Op:
    """Return the row that is all states of a recurrence, of its operands: ``PICK`` reads them."""
    body, reached = recurrence.body, [[False] * size for size in recurrence.body.sizes]
    for row, place, frozen in zip(body.rows, body.data, without_gradient(body), strict=True):
        for k, mine in enumerate(reached):
            if row is argument_of(k) and not frozen:
                mine[int(place)] = True
    _, inputs, others = reached
    connected = [*[True] * body.sizes[0], *inputs * recurrence.steps, *others]
    return Op(
        "loop",
        lambda *xs: ops.nan,
        tuple([not_within if x else 0.0 for x in connected]),
        doc="The states of a loop, of the first one, of the inputs of all steps and of what else a step reads.",
        recipe=(loop_of, (recurrence,)),  # type: ignore[arg-type]
    )


def with_loops(program: Program) -> Program:
    """Return a program with a recurrence for each loop; the program itself if it has none."""
    if PICK not in {*program.rows}:
        return program
    result = Program(sizes=program.sizes, parameters=program.parameters)
    new: list[int] = []
    for row, mine, data in program.nodes():
        operands, recurrence = [new[a] for a in mine], recurrence_of(row)
        if recurrence is not None:
            new.append(result.append(SCAN, operands, len(result.recurrences)))
            result.recurrences.append(recurrence)
        elif row is PICK:
            new.append(result.append(STATE, operands[:1], program.data[mine[1]]))
        else:
            new.append(result.append(row, operands, data))
    result.outputs = [new[output] for output in program.outputs]
    return result
