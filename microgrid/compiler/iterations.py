"""Loops that are recorded as one operation, of which a step is traced once.

In programs of scalars the loop is one node, of the numbers of the first state, the inputs of all steps and what else a
step reads; each number of a state that is used is picked from it. On Values it is an ordinary loop; a program of
arrays has a recurrence in its place. One that ends by a condition has a number in its state, the last one, that says
whether it has ended: then a step changes nothing.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import compress

from microgrid import engine, ops
from microgrid.calculus import under_way
from microgrid.compiler.gates import may_be_infinite, with_gates
from microgrid.compiler.program import (
    PICK,
    SCAN,
    STATE,
    Number,
    Program,
    Recurrence,
    argument_of,
    from_values,
    known,
    not_within,
    recurrence_of,
    states_of,
)
from microgrid.compiler.simplify import number_values, simplify, without_gradient
from microgrid.compiler.tracing import Compared, traced_leaf
from microgrid.engine import Value, topological_order
from microgrid.nn import Dropout, factors_of
from microgrid.ops import CONSTANT, Op, Operation
from microgrid.recording import kinds, watch_apart
from microgrid.reverse import conditions

Numbers = list[Number]
Step = Callable[[Numbers], Numbers]
"""Returns the numbers of the next state."""
Condition = Callable[[Numbers, Numbers], Number]
"""Says of two successive states whether the loop ends."""
Both = Callable[[Numbers, Numbers], tuple[Numbers, Numbers]]
"""Returns the numbers of the next state, and of what a step gives, of the last state and the input of the step."""

_WRITTEN = 8
"""So many steps may be written out, where gradients come to others of their numbers at each step."""


class Loops:
    """What records the loops of a function that is traced.

    One of which a derivative is taken within the function is written out: all of its steps. So is one whose steps
    choose by ``take`` what the gates of other steps would have to know.
    """

    def __init__(self) -> None:
        self._around = under_way.get()

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
            goes = 1.0 - ended
            gated = [(ops.gated(ended, x), ops.gated(goes, y)) for x, y in zip(before, new, strict=True)]
            kept = [ops.where(ended, x, y) for x, y in gated]  # eagerly there is one of the two
            return [*kept, ops.where(met, 1.0, ended)], []

        first = [*state, 0.0 if looks_back else _met(ends, state, state)]
        (*found, ended), _ = self.scan(unless_ended, first, [[]] * at_most, stops=True)
        return found, ended

    def scan(
        self, step: Both, state: Numbers, inputs: Sequence[Numbers], stops: bool = False
    ) -> tuple[Numbers, list[Numbers]]:
        """Record a loop over inputs.

        Args:
            step: returns the numbers of the next state, and those that a step gives.
            state: the numbers of the first state.
            inputs: those of the input of each step.
            stops: whether a step changes nothing where the last number of the state is not 0, as it stays then.

        Returns:
            The numbers of the last state, and what each step gives.
        """
        if under_way.get() != self._around or len(inputs) == 1:
            return _each_step(step, state, inputs)
        before, entry = _leaves(len(state)), _leaves(len(inputs[0]))
        nodes: list[Value] = []
        drawn: list[tuple[Dropout, list[Value]]] = []
        draw = factors_of.get()

        def drawn_anew(module: Dropout, count: int) -> Sequence[Value]:
            drawn.append((module, _leaves(count)))
            return drawn[-1][1]

        token = factors_of.set(drawn_anew)
        try:
            with watch_apart(nodes.append):
                new, output = [[*map(_as_value, numbers)] for numbers in step([*before], [*entry])]
        finally:
            factors_of.reset(token)
        inputs = [[*x, *[y for module, mine in drawn for y in draw(module, len(mine))]] for x in inputs]
        entry += [leaf for _, mine in drawn for leaf in mine]

        inside = {*nodes, *before, *entry}
        read = [*[parent for node in nodes for parent in node.parents], *new]
        others = dict.fromkeys(x for x in read if x not in inside and x.op is not CONSTANT)
        slot = {x: k for k, x in reversed([*enumerate(new)])}  # of what a step gives, too, if it is not there already
        made = inside.difference(slot, before, entry)
        more = dict.fromkeys(x for x in output if x in made)
        slot.update((x, k) for k, x in enumerate(more, start=len(new)))
        new += more
        body = simplify(from_values(nodes, new, [[*before, *_leaves(len(more))], entry, [*others]])[0])
        if _chooses_across(body, [state, [x for row in inputs for x in row], others]):
            return _each_step(step, state, inputs)
        body = with_gates(body)
        recurrence = known(*Recurrence(body, len(inputs), stops).key)
        start = [*state, *[0.0] * len(more)]
        if stops and isinstance(state[-1], Value):  # nothing flows from a loop whose start satisfies the condition
            goes = 1.0 - state[-1]
            others = {x if x.first is None else ops.gated(goes, x): None for x in others}
        operands = [*map(_as_value, [*start, *[y for x in inputs for y in x]]), *others]
        loop = _node(loop_of(recurrence), operands) if new else engine.constant(0.0)  # there is nothing to compute

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

    def in_stretches(
        self, step: Both, state: Numbers, inputs: Sequence[Numbers], length: int
    ) -> tuple[Numbers, list[Numbers]]:
        """Record a loop over stretches of so many steps, each a loop: the states within one are not stored.

        Args:
            step: as of ``scan``.
            state: as of ``scan``.
            inputs: as of ``scan``.
            length: of how many steps a stretch is; those that are left make a shorter one.

        Returns:
            As ``scan``.
        """
        width, whole = len(inputs[0]), len(inputs) // length * length
        if length >= len(inputs):
            return self.scan(step, state, inputs)

        def stretch(state: Numbers, given: Numbers) -> tuple[Numbers, Numbers]:
            after, outputs = self.scan(step, state, [given[k * width :][:width] for k in range(length)])
            return after, [y for output in outputs for y in output]

        flat = [[y for x in inputs[begin : begin + length] for y in x] for begin in range(0, whole, length)]
        state, given = self.scan(stretch, state, flat)
        count = len(given[0]) // length
        outputs = [mine[k * count :][:count] for mine in given for k in range(length)]
        if whole < len(inputs):
            state, rest = self.scan(step, state, inputs[whole:])
            outputs += rest
        return state, outputs

    @staticmethod
    def written_out(output: Value, inputs: Sequence[Value]) -> tuple[Value, list[Value]]:
        """Return an output, and nodes on which it depends, in a graph that has all steps of its loops."""
        new: dict[Value, Numbers] = {}
        for node in topological_order(output):
            parents = [new[x][0] if x in new else x for x in node.parents]
            recurrence = recurrence_of(node.op) if isinstance(node.op, Op) else None
            if recurrence is not None:
                new[node] = [*map(_as_value, states_of(recurrence, parents))]
            elif node.op is PICK:
                loop, place = node.parents
                new[node] = [new[loop][int(place._data)]]
            elif any(x in new for x in node.parents):
                new[node] = [_node(node.op, parents)]
        found, *others = [new[x][0] if x in new else x for x in (output, *inputs)]
        return found, others


def _each_step(step: Both, state: Numbers, inputs: Sequence[Numbers]) -> tuple[Numbers, list[Numbers]]:
    """Return the last state, and what each step gives: an ordinary loop."""
    given = []
    for x in inputs:
        state, output = step(state, x)
        given.append(output)
    return state, given


def _chooses_across(body: Program, given: Sequence[Iterable[Number]]) -> bool:
    """Whether a choice in one step decides if a gradient flows through an operation of another, or before the loop.

    The gates of a step know its own choices alone.

    Args:
        body: a step, whose gates are those of a loop that ends by a condition: of these one is open.
        given: the first state, the inputs of all steps, and what else a step reads.
    """
    rows = [ops.where if row is ops.gated else row for row in body.rows]
    reached = conditions(rows, [mine for _, mine, _ in body.nodes()], body.outputs)
    chosen = {k for k in range(3) if any(reached.get(i) for i, row in enumerate(rows) if row is argument_of(k))}
    is_made = [any(isinstance(x, Value) and x.first is not None for x in numbers) for numbers in given]
    return any(is_made[k] for k in chosen) or (0 in chosen and (any(is_made) or any(map(may_be_infinite, rows))))


def _leaves(count: int) -> list[Value]:
    return [traced_leaf(0.0) for _ in range(count)]


def _as_value(x: Number) -> Value:
    return x if isinstance(x, Value) else engine.constant(x)


def _node(row: Operation, operands: Sequence[Value]) -> Value:
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


@lru_cache(maxsize=1024)
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
    """Return a program with a recurrence for each loop; the program itself if it has none.

    A number of the state that no step reads, and of which a gradient comes from some steps alone, is computed behind
    the loop where it is used: in the loop a gradient of 0 would come from the other steps, and be nan at a pole. So are
    the last steps, if a gradient comes to a part of what they compute alone.
    """
    if PICK not in {*program.rows}:
        return program
    program = _narrowed(program)
    used: dict[int, dict[int, set[int]]] = {}
    last: dict[int, int] = {}
    for row, mine, frozen in zip(program.rows, _operands(program), without_gradient(program), strict=True):
        if row is PICK:
            step, slot = _place(program, mine)
            last[mine[0]] = max(step, last.get(mine[0], 0))
            if not frozen:
                used.setdefault(mine[0], {}).setdefault(slot, set()).add(step)
    result = Program(sizes=program.sizes, parameters=program.parameters, recurrences=[*program.recurrences])
    new: list[int] = []
    loops_of: dict[int, _Unrolled] = {}
    for i, (row, mine, data) in enumerate(program.nodes()):
        operands, recurrence = [new[a] for a in mine], recurrence_of(row)
        if recurrence is not None:
            inside, apart = _parted(recurrence, used.get(i, {}), last.get(i, 0))
            (size, inputs, _), steps = recurrence.body.sizes, recurrence.steps
            in_loop = operands[: size + inside.steps * inputs] + operands[size + steps * inputs :]
            new.append(result.append(SCAN, in_loop, len(result.recurrences)) if inside.steps else -1)
            if inside.steps:
                result.recurrences.append(Recurrence(with_loops(inside.body), inside.steps, inside.stops))
            loops_of[i] = _Unrolled(result, recurrence, inside.steps, operands, new[i], apart)
        elif row is PICK:
            step, slot = _place(program, mine)
            new.append(loops_of[mine[0]].number(step, slot))
        else:
            new.append(result.append(row, operands, data))
    result.outputs = [new[output] for output in program.outputs]
    return with_loops(result)  # of a step that is computed apart there may be loops left


def _operands(program: Program) -> list[list[int]]:
    return [mine for _, mine, _ in program.nodes()]


def _place(program: Program, mine: Sequence[int]) -> tuple[int, int]:
    """Of which state a node of ``PICK`` is which number."""
    recurrence = recurrence_of(program.rows[mine[0]])
    assert recurrence is not None
    return divmod(int(program.data[mine[1]]), recurrence.body.sizes[0])


def _narrowed(program: Program) -> Program:
    """Return what computes the outputs of a program: no state of a loop has a number that is not used."""
    operands, live = _operands(program), [False] * len(program)
    for output in program.outputs:
        live[output] = True
    used: dict[int, set[int]] = {}
    loops: dict[int, tuple[Recurrence, list[int]]] = {}
    for i in range(len(program) - 1, -1, -1):
        if not live[i]:
            continue
        row, mine = program.rows[i], operands[i]
        recurrence = recurrence_of(row)
        if recurrence is not None:
            kept = _kept(recurrence, used.get(i, set()))
            mine = [*[mine[s] for s in kept], *mine[recurrence.body.sizes[0] :]]
            loops[i], operands[i] = (_with_states(recurrence, kept), kept), mine
            mine = [*compress(mine, _are_read(loops[i][0]))]
        elif row is PICK:
            used.setdefault(mine[0], set()).add(_place(program, mine)[1])
        for a in mine:
            live[a] = True
    result = Program(sizes=program.sizes, parameters=program.parameters, recurrences=program.recurrences)
    nothing = result.append(CONSTANT, (), 0.0) if loops else -1  # in the place of what a loop does not read
    new: list[int] = []
    for i, (row, _, data) in enumerate(program.nodes()):
        if not live[i]:
            new.append(nothing)
            continue
        mine = [new[a] for a in operands[i]]
        if i in loops:
            row = loop_of(loops[i][0])
        elif row is PICK:
            kept = loops[operands[i][0]][1]
            step, slot = _place(program, operands[i])
            mine[1] = result.append(CONSTANT, (), float(step * len(kept) + kept.index(slot)))
        new.append(result.append(row, mine, data))
    result.outputs = [new[output] for output in program.outputs]
    return result


def _are_read(recurrence: Recurrence) -> list[bool]:
    """Whether a step reads each operand of a loop."""
    body = recurrence.body
    start, inputs, others = ([False] * size for size in body.sizes)
    for row, place in zip(body.rows, body.data, strict=True):
        for k, mine in enumerate((start, inputs, others)):
            if row is argument_of(k):
                mine[int(place)] = True
    return start + inputs * recurrence.steps + others


def _kept(recurrence: Recurrence, used: Collection[int]) -> list[int]:
    """The numbers of a state that are used, and those that steps read to compute them."""
    body, kept = recurrence.body, set[int]()
    more = {*used, *([body.sizes[0] - 1] if recurrence.stops else [])}
    while more:
        kept |= more
        read = _part(body, sorted(kept))
        more = {int(s) for row, s in zip(read.rows, read.data, strict=True) if row is argument_of(0)} - kept
    return sorted(kept)


def _part(body: Program, slots: Sequence[int]) -> Program:
    """Return what computes some numbers of the next state."""
    part = number_values(replace(body, outputs=[body.outputs[s] for s in slots]))
    return number_values(_narrowed(part)) if PICK in {*part.rows} else part


def _with_states(recurrence: Recurrence, kept: Sequence[int]) -> Recurrence:
    """Return a recurrence without the other numbers of its states."""
    body, place = recurrence.body, {s: float(k) for k, s in enumerate(kept)}
    if len(kept) == body.sizes[0]:
        return recurrence
    part = _part(body, kept)
    part.data = [place[int(x)] if row is argument_of(0) else x for row, x in zip(part.rows, part.data, strict=True)]
    part.sizes = [len(kept), *body.sizes[1:]]
    return known(*Recurrence(part, recurrence.steps, recurrence.stops).key)


def _parted(recurrence: Recurrence, used: Mapping[int, set[int]], last: int) -> tuple[Recurrence, set[int]]:
    """Return a recurrence through which gradients of all steps flow, and the numbers of its states used otherwise.

    Args:
        recurrence: the loop with all of its steps.
        used: of each number of a state, behind which steps a gradient comes back to it.
        last: behind which step a number is read the last time.
    """
    body, steps = recurrence.body, recurrence.steps
    alive = {*used}  # these, and what they depend on
    while more := _read(body, alive) - alive:
        alive |= more
    apart: set[int] = set()
    still = {s for s in alive if _goes_on(body, body.outputs[s])}
    used = {s: {*mine} for s, mine in used.items()}
    while more := {s for s in alive - _read(body, alive) - still if len(used.get(s, ())) < steps}:
        alive, apart = alive - more, apart | more
        for s in more:
            for read in _read(body, {s}):
                used.setdefault(read, set()).update([step - 1 for step in used.get(s, ())])
    steps = _whole(body, last, alive, used)
    if len(alive) == len(body.outputs):
        return Recurrence(body, steps, recurrence.stops), apart
    inside = replace(body, rows=[*body.rows], starts=[*body.starts], arguments=[*body.arguments], data=[*body.data])
    outputs = enumerate(body.outputs)
    inside.outputs = [x if s in alive else inside.append(ops.stop_gradient, (x,)) for s, x in outputs]
    return Recurrence(inside, steps, recurrence.stops), apart


def _whole(body: Program, steps: int, alive: set[int], used: Mapping[int, set[int]]) -> int:
    """Return how many steps there are up to the last one from which on, backward, a gradient comes to all of each step.

    All of them if none of the last ones is such a step, as where two numbers take turns, and there are too many of them
    to be written out.
    """
    everything, reached, least = _frozen(body, alive), set[int](), max(0, steps - max(_WRITTEN, len(alive) + 1))
    for step in range(steps, least, -1):
        reached = _read(body, reached) | {s for s in alive if step in used.get(s, ())}
        always = {s for s in reached if used.get(s, set()).issuperset(range(1, step))}
        if reached <= _read(body, reached) | always and _frozen(body, reached) == everything:
            return step
    return steps if least else 0


def _frozen(body: Program, slots: Collection[int]) -> list[bool]:
    """Whether nothing flows back to a node with a slope from some numbers of the next state."""
    frozen = without_gradient(replace(body, outputs=[body.outputs[s] for s in slots]))
    return [closed for closed, row in zip(frozen, body.rows, strict=True) if any(map(callable, row.partials))]


def _goes_on(body: Program, output: int) -> bool:
    """Whether a node is a number of a state of a loop in a step, to which a gradient comes from its next one anyway."""
    if body.rows[output] is not PICK:
        return False
    mine = body.arguments[body.starts[output] : body.starts[output + 1]]
    recurrence = recurrence_of(body.rows[mine[0]])
    assert recurrence is not None
    return _place(body, mine)[1] in _read(recurrence.body, range(recurrence.body.sizes[0]))


def _read(body: Program, slots: Collection[int]) -> set[int]:
    """The numbers of the last state to which a gradient flows back from some of the next one."""
    part = replace(body, outputs=[body.outputs[s] for s in slots])
    if PICK in {*body.rows}:
        part = _part(body, sorted(slots))
    rows = zip(part.rows, part.data, without_gradient(part), strict=True)
    return {int(place) for row, place, frozen in rows if row is argument_of(0) and not frozen}


class _Unrolled:
    """The numbers of a loop's states in a program: those of the recurrence, and some that are computed apart.

    Args:
        program: the program, to which nodes are added.
        loop: the loop with all of its steps.
        steps: how many the recurrence has.
        operands: those of the loop.
        scan: the recurrence.
        apart: the numbers of a state that are computed apart.
    """

    def __init__(
        self, program: Program, loop: Recurrence, steps: int, operands: Sequence[int], scan: int, apart: Collection[int]
    ) -> None:
        self.program, self.body, self.steps, self.scan, self.apart = program, loop.body, steps, scan, apart
        size, inputs, _ = loop.body.sizes
        first = size + loop.steps * inputs
        self.given = operands[:size], operands[size:first], operands[first:]
        self.known: dict[int, dict[int, int]] = {}

    def number(self, step: int, slot: int) -> int:
        """Return the node of a number of the state behind so many steps."""
        if not step:
            return self.given[0][slot]
        if step <= self.steps and slot not in self.apart:
            return self.program.append(STATE, (self.scan,), step * self.body.sizes[0] + slot)
        return self._written(step, self.body.outputs[slot])

    def _written(self, step: int, output: int) -> int:
        """A node of the body of a step, with what it needs."""
        body, known, stack = self.body, self.known.setdefault(step, {}), [output]
        while stack:
            node = stack[-1]
            row, place = body.rows[node], int(body.data[node]) if body.rows[node] is not CONSTANT else 0
            mine = body.arguments[body.starts[node] : body.starts[node + 1]]
            waiting = [a for a in mine if a not in known]
            stack += waiting
            if waiting:
                continue
            stack.pop()
            if row is argument_of(0):
                known[node] = self.number(step - 1, place)
            elif row is argument_of(1):
                known[node] = self.given[1][(step - 1) * body.sizes[1] + place]
            elif row is argument_of(2):
                known[node] = self.given[2][place]
            else:
                known[node] = self.program.append(row, [known[a] for a in mine], body.data[node])
        return known[output]
