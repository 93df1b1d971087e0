"""Scans are made: of a step's program, what does not depend on the last state is computed for all steps at once.

So the loop over the steps has the recurrence alone in it: of the gradient of a scan, a linear one, the products with
the local derivatives, which are computed before.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from microgrid.compiler.ir import (
    NUMBER,
    Accumulate,
    ArrayProgram,
    Elementwise,
    Gather,
    Leaf,
    Map,
    Node,
    Operand,
    Reduce,
    Scan,
    Scatter,
    ScatterAdd,
    SegmentReduce,
    Shape,
    Slot,
    View,
    reachable,
)
from microgrid.compiler.passes.builder import Builder


class Writer:
    """Writes nodes of another program anew.

    Args:
        build: where to.
        known: what nodes are there, by their numbers; it grows.
        steps: how many steps there are; 0 to write the nodes as they are.
        along: the nodes that have an entry for each step, on an axis in front of all others; it grows.
    """

    def __init__(self, build: Builder, known: Mapping[int, Operand], steps: int = 0, along: Iterable[int] = ()) -> None:
        self.build, self.known, self.steps, self.along = build, {**known}, steps, {*along}

    def write(self, nodes: Iterable[Node]) -> None:
        """Write nodes, operands first."""
        for x in nodes:
            if x.number not in self.known:
                axes: Shape = ()
                if any(operand.number in self.along for operand in x.arrays()):
                    axes = (self.steps,)
                    self.along.add(x.number)
                self.known[x.number] = self._written(x, axes)

    def now(self, x: Operand) -> Operand:
        """What an operand is now."""
        return self.known[x.number] if isinstance(x, Node) else x

    def entries(self, x: Operand) -> Operand:
        """What an operand is now, with an entry for each step."""
        now = self.now(x)
        if not isinstance(x, Node) or not isinstance(now, Node) or x.number in self.along:
            return now
        return self.build.view(now, Map((self.steps, *x.shape), 0, (0, *Map.whole(x.shape).strides)))

    def _written(self, x: Node, axes: Shape) -> Operand:
        build, shape = self.build, (*axes, *x.shape)
        operands = [self.entries(operand) if axes else self.now(operand) for operand in x.operands]

        def each(index: Map, size: int) -> Map:
            return index.each(self.steps, size) if axes else index

        def stored(k: int) -> Node:
            operand = x.operands[k]
            return build.stored(operands[k], (*axes, *(operand.shape if isinstance(operand, Node) else ())))

        match x:
            case Elementwise():
                return build.apply(x.op, *operands)
            case View():
                return build.view(operands[0], each(x.map, x.source.size))
            case Reduce(kind="sum"):
                total = build.sum(stored(0), [k + len(axes) for k in x.axes])
                return build.sum_samples(total, shape) if x.batch else total
            case Reduce():
                return build.extreme(x.kind, stored(0), [k + len(axes) for k in x.axes])
            case Scatter():
                maps = [each(piece.map, x.size) for piece in x.pieces]
                return build.scatter(shape, [*zip(maps, operands, strict=True)])
            case SegmentReduce(source=source):
                rows = np.arange(self.steps if axes else 1)[:, None]
                flat = build.view(stored(0), Map.whole((rows.size * source.size,)))
                starts = (rows * source.size + x.starts).ravel()
                return build.view(build.segments(x.kind, build.stored(flat, (rows.size * source.size,)), starts),
                                  Map.whole(shape))  # fmt: skip
            case Gather(source=source):
                return build.gather(stored(0), stored(1), each(x.map, source.size))
            case ScatterAdd():
                return build.scatter_add(shape, stored(0), stored(1), each(x.map, x.size), x.batch)
            case Accumulate():
                turned = [build.view(operand, _turned(operand.shape)) if isinstance(operand, Node) and axes and k
                          else operand for k, operand in enumerate(operands)]  # fmt: skip
                sizes = (x.shape[0], *axes, *x.shape[1:])
                states = build.accumulate(x.op, x.place, turned[0], turned[1:], sizes, x.backward)
                return build.view(states, _turned(sizes)) if axes else states
            case Scan():
                assert not axes  # a loop in a step stays there
                return relaid(build, x, [stored(k) for k in range(len(operands))])
            case _:
                return build.remade(x, operands, x.batched)


def _turned(shape: Shape) -> Map:
    """The map that turns the first two axes."""
    return Map.of(np.arange(int(np.prod(shape))).reshape(shape).swapaxes(0, 1))


def scan(
    build: Builder,
    step: Operand,
    state: Leaf,
    given: Mapping[int, Operand],
    along: Iterable[int],
    start: Node,
    steps: int,
    backward: bool,
    idle: tuple[Leaf, int] | None = None,
) -> Operand:
    """Return the states of a recurrence.

    Args:
        build: where they are written.
        step: the new state, a node of another builder.
        state: the last state there.
        given: what other nodes there are here, by their numbers.
        along: of these the ones that have an entry for each step.
        start: the first state.
        steps: how many steps there are.
        backward: whether the last state is the first.
        idle: a member of the state, or of a node that has an entry for each step: see ``Scan``. Then nothing is
            computed for all steps at once, for few of them may be made; nor where a step has a loop in it, whose states
            would be stored for all steps.
    """
    outside = Writer(build, given, steps, along)
    inner = Builder(build.rules)
    nodes = [x for x in reachable([step]) if x.number not in given and x is not state]
    loops = any(isinstance(x, Scan) for x in nodes)
    depends = {state.number, *(outside.along if loops or idle is not None else [])}
    for x in nodes:  # what a loop reads in each of its steps is one number out here, to which one gradient comes back
        repeats = loops and isinstance(x, View) and any(x.shape[k] > 1 for k in x.map.repeats())
        if repeats or any(operand.number in depends for operand in x.arrays()):
            depends.add(x.number)
    outside.write(x for x in nodes if x.number not in depends)
    slots: dict[tuple[int, bool], Node] = {}
    inputs: list[Node] = []
    constants: list[Node] = []
    outer = {x.number for x in nodes if x.number not in depends}.union(given)
    wanted = [operand for x in nodes if x.number in depends for operand in x.arrays() if operand.number in outer]
    known: dict[int, Operand] = {}
    for x in [*wanted, *([step] if isinstance(step, Node) and step.number not in depends else [])]:
        now = build.apply(NUMBER, outside.now(x)) if isinstance(outside.now(x), Node) else outside.now(x)
        known[x.number] = now
    order = sorted({(now.number, number in outside.along) for number, now in known.items() if isinstance(now, Node)},
                   key=lambda key: (not key[1], key[0]))  # fmt: skip
    of_number = {now.number: now for now in known.values() if isinstance(now, Node)}
    batched = start.batched or any(x.batched for x in of_number.values())
    for place, key in enumerate(order):
        number, has_steps = key
        x = of_number[number]
        (inputs if has_steps else constants).append(x)
        slots[key] = inner.slot(place + 1, x.shape[1:] if has_steps else x.shape, x.batched)
    inside: dict[int, Operand] = {
        number: slots[now.number, number in outside.along] if isinstance(now, Node) else now
        for number, now in known.items()
    }
    inside[state.number] = inner.slot(0, state.shape, batched)
    body = Writer(inner, inside)
    body.write(x for x in nodes if x.number in depends)
    new = body.now(step)
    program = ArrayProgram.of([new], [(state.shape, batched)])
    shape = (steps + 1, *state.shape)
    return build.make(
        Scan,
        shape,
        batched,
        backward,
        program,
        start,
        tuple(inputs),
        tuple(constants),
        idle and _idle(idle, state, body),
    )


def _idle(idle: tuple[Leaf, int], state: Leaf, body: Writer) -> tuple[int, int]:
    """The slot of a leaf, and a member of it."""
    slot = body.known[idle[0].number]
    assert isinstance(slot, Slot)
    return slot.position, idle[1]


def leaders(program: ArrayProgram) -> dict[int, Scan]:
    """Return for scans with idle steps the one that says how many steps are made: itself, or of which it reads states.

    They are those whose states in idle steps nobody reads, but for the last one: these need not be written.
    """
    found: dict[int, Scan] = {}
    spoiled: set[int] = set()

    def read(x: Node, reader: Node | None) -> None:
        scan, index = (x.source, x.map) if isinstance(x, View) else (x, Map.whole(x.shape))
        if not isinstance(scan, Scan) or scan.number not in found:
            return
        leader, end = found[scan.number], scan.end(last=True)
        by_steps = isinstance(reader, Scan) and found.get(reader.number) is leader and x in reader.inputs
        points = index.points()
        if not (by_steps and index in (scan.rows(behind=False), scan.rows(behind=True))) and not (
            end.base <= points.min() and points.max() < end.base + math.prod(end.shape)
        ):
            spoiled.add(leader.number)

    for x in program.nodes:
        if isinstance(x, Scan) and x.idle is not None:
            given = x.inputs[x.idle[0] - 1] if x.idle[0] else None
            if given is None and not x.backward:
                found[x.number] = x
            elif isinstance(given, View) and isinstance(given.source, Scan) and given.source.batched == x.batched:
                first = given.source
                if found.get(first.number) is first and given.map == first.rows(behind=False):
                    found[x.number] = first
        if not isinstance(x, View):
            for operand in x.arrays():
                read(operand, x)
    for output in program.outputs:
        if isinstance(output, Node):
            read(output, None)
    return {number: leader for number, leader in found.items() if leader.number not in spoiled}


def relaid(build: Builder, x: Scan, given: Sequence[Node]) -> Scan:
    """Return a scan on other operands, of which some may have, or have lost, an axis over the samples."""
    batched, count = any(now.batched for now in given), 1 + len(x.inputs)
    flags, body = [batched, *[now.batched for now in given[1:]]], x.body
    if flags != [flag for _, flag in x.slots()]:
        inner = Builder(build.rules)
        slots = [inner.slot(k, shape, flags[k]) for k, (shape, _) in enumerate(x.slots())]
        writer = Writer(inner, known_slots(x, slots))
        writer.write(x.body.nodes)
        body = ArrayProgram.of([writer.now(output) for output in x.body.outputs], [(x.shape[1:], batched)])
    rest = body, given[0], tuple(given[1:count]), tuple(given[count:])
    return build.make(Scan, x.shape, batched, x.backward, *rest, x.idle)


def rewritten(x: Scan, body: ArrayProgram) -> Scan:
    """Return a scan with another body."""
    return replace(x, body=body)


def has_loops(x: Scan) -> bool:
    """Return whether a step has a loop in it."""
    return any(isinstance(y, Scan) for y in x.body.nodes)


def slots_of(x: Scan, build: Builder, entries: int = 0) -> list[Leaf]:
    """Return the slots of a scan in another builder; with a number of steps, those of states and inputs for each."""
    count = 1 + len(x.inputs)
    return [
        build.slot(k, ((entries,) if entries and k < count else ()) + shape, batched)
        for k, (shape, batched) in enumerate(x.slots())
    ]


def known_slots(x: Scan, slots: Sequence[Operand]) -> dict[int, Operand]:
    """Return what the slots of a scan's body are, by their numbers."""
    return {y.number: slots[y.position] for y in x.body.nodes if isinstance(y, Slot)}
