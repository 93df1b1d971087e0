"""The chain rule on array programs, one statement at a time: chapter 5.2's reverse sweep, and tangents forward.

The local derivatives are those of the table: the partials of a row are traced once, on Values, into a small
program, which is then written out on arrays wherever the row stands. The adjoint of reading the same
member many times is a sum; the adjoint of a sum is reading its gradient many times; so from a network of
scalars come the products of matrices that its gradient is.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial, reduce
from itertools import accumulate, compress
from typing import Any, Literal

import numpy as np

from microgrid import ops
from microgrid.compiler.ir import (
    MULTIPLY_ADD,
    NUMBER,
    Accumulate,
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
from microgrid.compiler.passes.lift import instantiate
from microgrid.compiler.passes.scan import Writer, has_loops, known_slots, scan, slots_of
from microgrid.compiler.program import Program, argument_of, from_values
from microgrid.compiler.simplify import simplify
from microgrid.compiler.tracing import trace, traced_leaf
from microgrid.engine import Value
from microgrid.ops import Op, as_float

Part = tuple[int, int]
"""The first of some members of a leaf that stand one after the other, and the end of them."""


def gradients(
    build: Builder,
    outputs: Sequence[tuple[Operand, Operand]],
    leaves: Sequence[Node],
    per_sample: bool = False,
    parts: Mapping[int, Part] | None = None,
) -> list[Operand]:
    """Return the gradient of each leaf, in its shape: Σ seed · ∂output/∂leaf over the outputs.

    Args:
        build: the program; nodes are added to it.
        outputs: pairs of an output, a number or several, and the gradient that comes back to it.
        leaves: nodes whose gradient is wanted.
        per_sample: keep the gradients of the samples apart where a leaf is not batched, instead of adding
            them up.
        parts: for leaves of which the gradient by some members alone is wanted, by their number, these.
    """
    order = reachable([output for output, _ in outputs])
    wanted, parts = {leaf.number for leaf in leaves}, parts or {}
    active = {*wanted}
    for x in order:
        if any(operand.number in active for operand in x.arrays()):
            if isinstance(x, View) and x.source.number in parts and _meets(x.map, parts[x.source.number]) == "nowhere":
                continue
            active.add(x.number)
    pieces: dict[int, list[tuple[Map, Operand]]] = {}

    def send(x: Node, index: Map, gradient: Operand) -> None:
        pieces.setdefault(x.number, []).append((index, gradient))

    def send_back(x: Node, operand: Node, index: Map, gradient: Operand) -> None:
        """Send a gradient to the members of a map, of all samples together if they share the operand."""
        if x.batched and not operand.batched and not per_sample:
            gradient = build.sum_samples(gradient, index.shape)
        send(operand, index, gradient)

    for output, seed in outputs:
        if isinstance(output, Node) and output.number in active:
            if not output.batched and isinstance(seed, Node) and seed.batched and not per_sample:
                seed = build.sum_samples(seed)
            send(output, Map.whole(output.shape), seed)
    found: dict[int, Operand] = {}
    for x in reversed(order):
        if x.number not in pieces:
            continue
        if isinstance(x, Accumulate):
            for operand, product in _through_states(build, x, pieces.pop(x.number)):
                if isinstance(operand, Node) and operand.number in active:
                    send_back(x, operand, Map.whole(operand.shape), product)
            continue
        if isinstance(x, Scan):
            through = _through_scan if x.idle is None and not has_loops(x) else _through_steps
            start, rest = through(build, x, pieces.pop(x.number), active, per_sample)
            if x.start.number in active:
                send_back(x, x.start, Map.whole(x.start.shape), start)
            for operand, product in rest:
                send(operand, Map.whole(operand.shape), product)
            continue
        if x.number in parts:
            found[x.number] = _collected_in(build, x, pieces.pop(x.number), parts[x.number])
            continue
        index, gradient = _arrived(build, x, pieces.pop(x.number))
        if x.number in wanted:
            found[x.number] = gradient
        match x:
            case View() if x.source.number in active:
                send(x.source, x.map, gradient)
            case Reduce(kind="sum"):
                send(x.source, Map.whole(x.source.shape), build.view(gradient, _repeated(x)))
            case SegmentReduce(kind="sum"):
                send(x.source, Map.whole(x.source.shape), build.view(gradient, Map.of(x.segments())))
            case Gather() if x.source.number in active:
                together = x.batched and not x.source.batched and not per_sample
                back = build.stored(gradient, x.shape), x.index, x.map
                send(x.source, Map.whole(x.source.shape), build.scatter_add(x.source.shape, *back, together))
            case Reduce() if x.source.number in active:  # of equals each gets the same share
                most = build.apply(ops.equal, x.source, build.view(x, _repeated(x)))
                shares = build.apply(NUMBER, most)
                arrived = build.apply(ops.div, gradient, build.sum(shares, x.axes))
                product = build.apply(ops.mul, most, build.view(arrived, _repeated(x)))
                send(x.source, Map.whole(x.source.shape), product)
            case Elementwise():
                for i, operand in enumerate(x.inputs):
                    if isinstance(operand, Node) and operand.number in active and x.op.connected[i]:
                        point = [build.view(value, index) for value in (x, *x.inputs)]
                        send_back(x, operand, index, sent(build, x.op, gradient, _local(build, x.op, i, point)))
            case Scatter():  # a table that was put together
                for operand, piece in zip(x.values, x.pieces, strict=True):
                    if isinstance(operand, Node) and operand.number in active:
                        send_back(x, operand, Map.whole(operand.shape), build.view(gradient, piece.map))
    return [found.get(leaf.number, 0.0) for leaf in leaves]


def _meets(index: Map, part: Part) -> Literal["inside", "nowhere", "both"]:
    """Whether a map reads members of a part alone, none of them, or some."""
    points = index.points()
    inside = (points >= part[0]) & (points < part[1])
    return "inside" if inside.all() else "both" if inside.any() else "nowhere"


def _moved(index: Map, start: int) -> Map:
    """The map of the same members where they are counted from ``start``."""
    return Map.of(index.points() - start)


def _collected_in(build: Builder, x: Node, pieces: list[tuple[Map, Operand]], part: Part) -> Operand:
    """Return the gradient of a part of an array."""
    (start, stop), size = part, part[1] - part[0]
    if all(_meets(index, part) == "inside" for index, _ in pieces):
        return build.scatter((size,), [(_moved(index, start), value) for index, value in pieces])
    return build.view(_collected(build, x.shape, pieces), Map.stretch(start, stop))


def tangents(
    build: Builder, outputs: Sequence[Operand], directions: Sequence[tuple[Node, Part, Operand]]
) -> list[Operand]:
    """Return how each output moves, in its shape, with what moves of the leaves: Σ ∂output/∂leaf · direction.

    Args:
        build: the program; nodes are added to it.
        outputs: numbers and nodes, also those of a gradient.
        directions: leaves, a part of the members of each, and how these move.
    """
    leaves = {leaf.number: (part, direction) for leaf, part, direction in directions}
    found: dict[int, Operand] = {}

    def along(x: Operand) -> Operand | None:
        """How an operand moves; ``None`` if it does not."""
        if not isinstance(x, Node):
            return None
        if x.number in leaves and x.number not in found:
            (start, stop), direction = leaves[x.number]
            whole = stop - start == x.size
            found[x.number] = direction if whole else build.scatter(x.shape, [(Map.stretch(start, stop), direction)])
        return found.get(x.number)

    for x in _moving(outputs):
        if isinstance(x, View) and x.source.number in leaves:
            part, direction = leaves[x.source.number]
            where = _meets(x.map, part)
            if where == "inside":
                found[x.number] = build.view(direction, _moved(x.map, part[0]))
            if where != "both":
                continue
        moved = _pushed(build, x, along)
        if moved is not None:
            found[x.number] = moved
    return [0.0 if (moved := along(output)) is None else moved for output in outputs]


def _moving(outputs: Sequence[Operand]) -> list[Node]:
    """Return the nodes with which the outputs may move, operands first."""
    moving = {x.number for x in outputs if isinstance(x, Node)}
    order = reachable(outputs)
    for x in reversed(order):
        if x.number in moving:
            operands = x.operands
            match x:
                case Elementwise():
                    operands = tuple(compress(operands, x.op.connected))
                case Gather() | ScatterAdd():
                    operands = (x.source,)
            moving.update(operand.number for operand in operands if isinstance(operand, Node))
    return [x for x in order if x.number in moving]


def _pushed(build: Builder, x: Node, along: Callable[[Operand], Operand | None]) -> Operand | None:
    """How a node moves with its operands."""
    match x:
        case Elementwise():
            products = [
                sent(build, x.op, moved, _local(build, x.op, i, (x, *x.inputs)))
                for i, operand in enumerate(x.inputs)
                if x.op.connected[i] and (moved := along(operand)) is not None
            ]
            return reduce(partial(build.apply, ops.add), products) if products else None
        case Accumulate():
            return _pushed_through_states(build, x, along)
        case Scan():
            return _pushed_through_scan(build, x, along)
        case Scatter():
            moves = [(piece.map, along(value)) for value, piece in zip(x.values, x.pieces, strict=True)]
            pieces = [(index, moved) for index, moved in moves if moved is not None]
            return build.scatter(x.shape, pieces) if pieces else None
    if not x.operands or (moved := along(x.operands[0])) is None:
        return None
    (first, *_) = x.arrays()
    tangent = build.stored(moved, first.shape)
    match x:
        case View():
            return build.view(tangent, x.map)
        case Reduce(kind="sum"):
            total = build.sum(tangent, x.axes)
            return build.sum_samples(total, x.shape) if x.batch else total
        case Reduce():  # of equals each has the same share
            most = build.apply(ops.equal, x.source, build.view(x, _repeated(x)))
            total = build.sum(build.stored(build.apply(ops.where, most, tangent, 0.0), first.shape), x.axes)
            return build.apply(ops.div, total, build.sum(build.apply(NUMBER, most), x.axes))
        case SegmentReduce(kind="sum"):
            return build.segments("sum", tangent, x.starts)
        case Gather():
            return build.gather(tangent, x.index, x.map)
        case ScatterAdd():
            return build.scatter_add(x.shape, tangent, x.index, x.map, x.batch)
    raise TypeError(f"no tangent of {x.name}")


def _pushed_through_states(build: Builder, x: Accumulate, along: Callable[[Operand], Operand | None]) -> Operand | None:
    """How the states of a recurrence move: ṡₖ₊₁ = aₖ·ṡₖ + Σ bᵢ·ẋᵢ, with aₖ and bᵢ the local derivatives of step k."""
    before, behind = (build.view(x, x.rows(behind=side)) for side in (False, True))
    xs = [behind, *x.inputs[: x.place], before, *x.inputs[x.place :]]
    start = along(x.start)
    products = []
    for i, operand in enumerate(x.inputs):
        place = i + (i >= x.place)
        if x.op.connected[place] and (moved := along(operand)) is not None:
            products.append(build.apply(ops.mul, moved, _local(build, x.op, place, xs)))
    if start is None and not products:
        return None
    slopes = _local(build, x.op, x.place, xs)
    start = 0.0 if start is None else start
    if not products:
        return build.accumulate(ops.mul, 0, start, [slopes], x.shape, x.backward)
    inputs = [slopes, reduce(partial(build.apply, ops.add), products)]
    return build.accumulate(MULTIPLY_ADD, 0, start, inputs, x.shape, x.backward)


def _pushed_through_scan(build: Builder, x: Scan, along: Callable[[Operand], Operand | None]) -> Operand | None:
    """How the states of a scan move: ṡₖ₊₁ = Aₖ·ṡₖ + Bₖ·ẋₖ + Cₖ·ċ, with the local derivatives of step k: a scan, too."""
    start, *moves = [along(operand) for operand in x.operands]
    if start is None and not any(move is not None for move in moves):
        return None
    outside = [build.view(x, x.rows(behind=False)), *x.inputs, *x.constants]
    first = build.stored(0.0 if start is None else start, x.shape[1:])
    inner = Builder(build.rules)
    slots = slots_of(x, inner)
    given: dict[int, Operand] = {slot.number: operand for slot, operand in zip(slots, outside, strict=True)}
    has_entries = {slot.number for slot in slots[: 1 + len(x.inputs)]}
    state = inner.slot(len(slots), x.shape[1:], x.batched or first.batched)
    directions: list[tuple[Node, Part, Operand]] = [(slots[0], (0, slots[0].size), state)]
    for k, move in enumerate(moves, start=1):
        if move is not None:
            tangent = build.stored(move, x.operands[k].shape)  # type: ignore[union-attr]
            slot = inner.slot(len(slots) + k, slots[k].shape, tangent.batched)
            given[slot.number] = tangent
            has_entries |= {slot.number} if k <= len(x.inputs) else set()
            directions.append((slots[k], (0, slot.size), slot))
    body = Writer(inner, known_slots(x, slots))
    body.write(x.body.nodes)
    (step,) = tangents(inner, [body.now(x.body.outputs[0])], directions)
    if x.idle is None:
        return scan(build, inner.stored(step, state.shape), state, given, has_entries, first, x.steps, x.backward)
    step, idle = _unless_idle(inner, x, slots, step, state, state.shape), (slots[x.idle[0]], x.idle[1])
    return scan(build, step, state, given, has_entries, first, x.steps, x.backward, idle)


def _repeated(x: Reduce) -> Map:
    """The map by which each term of a sum reads what comes back to the sum."""
    shape = x.source.shape
    strides = [0] * len(shape)
    for k, stride in zip([k for k in range(len(shape)) if k not in x.axes], Map.whole(x.shape).strides, strict=True):
        strides[k] = stride
    return Map(shape, 0, tuple(strides))


def _through_states(
    build: Builder, x: Accumulate, pieces: list[tuple[Map, Operand]]
) -> Iterator[tuple[Operand, Operand]]:
    """Yield each operand of a recurrence, and the gradient that flows back to it.

    With aₖ = ∂sₖ₊₁/∂sₖ and what comes back to the states from outside, ĝ, the gradient of a state is λₙ = ĝₙ,
    λₖ = λₖ₊₁·aₖ + ĝₖ, a linear recurrence backward; a product if something comes back to the last state alone.
    """
    before, behind = (build.view(x, x.rows(behind=side)) for side in (False, True))
    xs = [behind, *x.inputs[: x.place], before, *x.inputs[x.place :]]
    slopes = _local(build, x.op, x.place, xs)
    end = x.end(last=True)
    to_last = [Map.of(index.points() - end.base) for index, _ in pieces if _inside(index, end)]
    if len(to_last) == len(pieces):
        moved = [(index, value) for index, (_, value) in zip(to_last, pieces, strict=True)]
        last = _collected(build, end.shape, moved)
        states = build.accumulate(ops.mul, 0, last, [slopes], x.shape, not x.backward)
    else:
        gradient = _collected(build, x.shape, pieces)
        inputs = [slopes, build.view(gradient, x.rows(behind=False))]
        states = build.accumulate(MULTIPLY_ADD, 0, build.view(gradient, end), inputs, x.shape, not x.backward)
    yield x.start, build.view(states, x.end(last=False))
    arriving = build.view(states, x.rows(behind=True))
    for i, operand in enumerate(x.inputs):
        place = i + (i >= x.place)
        if isinstance(operand, Node) and x.op.connected[place]:
            yield operand, build.apply(ops.mul, arriving, _local(build, x.op, place, xs))


def _through_scan(
    build: Builder, x: Scan, pieces: list[tuple[Map, Operand]], active: set[int], per_sample: bool
) -> tuple[Operand, list[tuple[Node, Operand]]]:
    """Return what flows back to the start of a scan, and to its inputs and constants, of all samples together.

    With Aₖ = ∂sₖ₊₁/∂sₖ and what comes back to the states from outside, ĝ, the gradient of a state is λₙ = ĝₙ,
    λₖ = Aₖᵀλₖ₊₁ + ĝₖ: a scan backward. What flows back to the operands of all steps is computed at once.
    """
    size, (step,) = x.steps, x.body.outputs
    before = build.view(x, x.rows(behind=False))
    outside = [before, *x.inputs, *x.constants]
    along = range(1 + len(x.inputs))
    gradient = _collected(build, x.shape, pieces)
    arrived, last = (build.view(gradient, index) for index in (x.rows(behind=False), x.end(last=True)))

    inner = Builder(build.rules)
    slots = slots_of(x, inner)
    later = inner.slot(len(slots), *x.slots()[0])
    more = inner.slot(len(slots) + 1, *x.slots()[0])
    body = Writer(inner, known_slots(x, slots))
    body.write(x.body.nodes)
    (back,) = gradients(inner, [(body.now(step), later)], [slots[0]], per_sample=True)
    given: dict[int, Operand] = {slot.number: operand for slot, operand in zip(slots, outside, strict=True)}
    given[more.number] = arrived
    has_entries = {*[slots[k].number for k in along], more.number}
    states = scan(
        build,
        inner.apply(ops.add, back, more),
        later,
        given,
        has_entries,
        build.stored(last, x.shape[1:]),
        size,
        not x.backward,
    )
    assert isinstance(states, Scan)
    start = build.view(states, states.end(last=True))

    wanted = [k for k, operand in enumerate(outside) if k and operand.number in active]  # type: ignore[union-attr]
    if not wanted:
        return start, []
    every = Builder(build.rules)
    slots = slots_of(x, every, size)
    arriving = every.slot(len(slots), (size, *x.shape[1:]), states.batched)
    entries = [y.number for y in x.body.nodes if isinstance(y, Slot) and y.position in along]
    body = Writer(every, known_slots(x, slots), size, entries)
    body.write(x.body.nodes)
    new = body.entries(step)
    shared = x.batched and isinstance(new, Node) and not new.batched  # by all samples, though their first states differ
    seed = every.sum_samples(arriving) if shared and not per_sample else arriving
    found = gradients(every, [(new, seed)], [slots[k] for k in wanted], per_sample)
    given = {slot.number: operand for slot, operand in zip(slots, outside, strict=True)}
    given[arriving.number] = build.view(states, states.rows(behind=False))
    written = Writer(build, given)
    written.write(reachable(found))
    rest = [(outside[k], written.now(product)) for k, product in zip(wanted, found, strict=True)]
    return start, rest  # type: ignore[return-value]


def _through_steps(
    build: Builder, x: Scan, pieces: list[tuple[Map, Operand]], active: set[int], per_sample: bool
) -> tuple[Operand, list[tuple[Node, Operand]]]:
    """Do what ``_through_scan`` does one step after the other: where some are idle, or have loops in them.

    What flows back to the constants is added up on the way, and what flows back to the inputs put there: both are in
    the state of the scan backward, behind λ. An idle step leaves all of it as it is, so no 0·∞ comes from one. A step
    with a loop is computed again, so the states of that loop are there for one step at a time.
    """
    end, outside, last_input = x.end(last=True), [x.start, *x.inputs, *x.constants], len(x.inputs)
    wanted = [k for k, operand in enumerate(outside) if k and operand.number in active]
    to_end = all(_inside(index, end) for index, _ in pieces)
    if not has_loops(x) and (any(k <= last_input for k in wanted) or not to_end):
        return _through_scan(build, x, pieces, active, per_sample)
    shapes = [x.shape[1:], *[outside[k].shape[k <= last_input :] for k in wanted]]
    sizes = [math.prod(shape) for shape in shapes]
    size = sum(sizes)
    places = [
        Map(shape, first, Map.whole(shape).strides)
        for shape, first in zip(shapes, accumulate(sizes, initial=0), strict=False)
    ]

    inner = Builder(build.rules)
    slots = slots_of(x, inner)
    later = inner.slot(len(slots), (size,), x.batched)
    body = Writer(inner, known_slots(x, slots))
    body.write(x.body.nodes)
    (step,) = x.body.outputs
    given: dict[int, Operand] = {slot.number: operand for slot, operand in zip(slots[1:], outside[1:], strict=True)}
    given[slots[0].number] = build.view(x, x.rows(behind=False))
    entries = [slot.number for slot in slots[: 1 + last_input]]
    arriving, *added = [inner.view(later, place) for place in places]
    first: Operand = 0.0
    last: Operand = 0.0
    if to_end:
        moved = [(Map.of(index.points() - end.base), value) for index, value in pieces]
        last = _collected(build, end.shape, moved)
    else:
        gradient = _collected(build, x.shape, pieces)
        first = build.view(gradient, x.end(last=False))
        more = inner.slot(len(slots) + 1, *x.slots()[0])
        given[more.number] = build.view(gradient, x.rows(behind=True))
        entries.append(more.number)
        arriving = inner.apply(ops.add, arriving, more)
    back = gradients(inner, [(body.now(step), arriving)], [slots[k] for k in (0, *wanted)], per_sample=True)
    through, *products = back
    for n, k in enumerate(wanted):
        products[n] = products[n] if k <= last_input else inner.apply(ops.add, added[n], products[n])
    new = inner.scatter((size,), [*zip(places, (through, *products), strict=True)])
    flag = None
    if x.idle is not None:
        old = [0.0 if k <= last_input else part for k, part in zip(wanted, added, strict=True)]
        still = (
            later if to_end and old == added else inner.scatter((size,), [*zip(places, (arriving, *old), strict=True)])
        )
        new, flag = _unless_idle(inner, x, slots, new, still, (size,)), (slots[x.idle[0]], x.idle[1])
    start = build.stored(build.scatter((size,), [(places[0], last)]), (size,))
    states = scan(build, inner.stored(new, (size,)), later, given, entries, start, x.steps, not x.backward, flag)
    assert isinstance(states, Scan)
    whole, behind = states.end(last=True), states.rows(behind=True)
    rest: list[tuple[Node, Operand]] = []
    for k, place in zip(wanted, places[1:], strict=True):
        index = place.after(whole) if k > last_input else place.each(x.steps, size).after(behind)
        product = build.view(states, index)
        if x.batched and not outside[k].batched and not per_sample:
            product = build.sum_samples(product)
        rest.append((outside[k], product))
    return build.apply(ops.add, build.view(states, places[0].after(whole)), first), rest


def _unless_idle(build: Builder, x: Scan, slots: Sequence[Leaf], new: Operand, old: Operand, shape: Shape) -> Operand:
    """What a scan computes along the steps of another one, whose slots are given; in its idle steps the old numbers."""
    assert x.idle is not None
    slot, member = x.idle
    idle = build.view(slots[slot], Map(shape, member, (0,) * len(shape)))
    return build.apply(ops.where, idle, old, new)


def _inside(index: Map, end: Map) -> bool:
    """Whether a map points at members of an end alone."""
    points = index.points()
    return bool(points.min() >= end.base and points.max() < end.base + math.prod(end.shape))


def _local(build: Builder, op: Op, i: int, xs: Sequence[Operand]) -> Operand:
    """The local derivative of a row by operand ``i``, at (y, *operands)."""
    found = derivative(op, i)
    if isinstance(found, float):
        return found
    (local,) = instantiate(build, found, lambda _, k: xs[k])
    return local


def sent(build: Builder, op: Op, gradient: Operand, derivative: Operand) -> Operand:
    """What flows back through a local derivative: see ``ops.sent``."""
    if op.chooses:
        return build.apply(ops.chosen, derivative, gradient)
    return build.apply(ops.mul, gradient, derivative)


def _arrived(build: Builder, x: Node, pieces: list[tuple[Map, Operand]]) -> tuple[Map, Operand]:
    """Return the gradient of an array, and the map of its members by which it is given.

    That is the whole of them, unless an operation gets all in one piece of other axes that would take a table to turn.
    """
    if len(pieces) == 1 and isinstance(x, Elementwise):
        ((index, value),) = pieces
        points = index.points().ravel()
        if index.regular and isinstance(value, View) and len(points) == x.size and len(index.shape) != len(x.shape):
            turned = build.scatter(x.shape, pieces)
            if len(np.unique(points)) == x.size and isinstance(turned, View) and not turned.map.regular:
                return index, value
            return Map.whole(x.shape), turned
    return Map.whole(x.shape), _collected(build, x.shape, pieces)


def _collected(build: Builder, shape: Shape, pieces: list[tuple[Map, Operand]]) -> Operand:
    """Return the gradient of an array, the sum of what came back to it."""
    whole = Map.whole(shape)
    total: Operand | None = None
    rest = []
    for index, value in pieces:
        if index == whole:
            total = value if total is None else build.apply(ops.add, total, value)
        else:
            rest.append((index, value))
    if not rest:
        assert total is not None
        return total
    if total is not None:
        rest.insert(0, (whole, total))
    return build.scatter(shape, rest)


@lru_cache(maxsize=4096)
def derivative(op: Op, i: int) -> float | Program:
    """Return ∂y/∂xs[i] of a row: a number, or a program of the arguments (y, *xs).

    A partial that cannot be traced, because it branches on its arguments, becomes one node whose
    operation calls it for each number: slower, but right.
    """
    local = op.partials[i]
    if not callable(local):
        return float(local)
    leaves = [traced_leaf(0.5) for _ in range(op.arity + 1)]
    try:
        result, nodes = trace(lambda: local(*leaves))
        output = result if isinstance(result, Value) else None
        if output is None:
            return as_float(result)
        program, parameters = from_values(nodes, [output], [leaves])
        if not parameters:
            return simplify(program)
    except (TypeError, ValueError, ArithmeticError):
        pass
    program = Program(sizes=[op.arity + 1])
    xs = [program.append(argument_of(0), (), position) for position in range(op.arity + 1)]
    program.outputs = [program.append(_mapped(op, i), xs)]
    return program


@lru_cache(maxsize=4096)
def _mapped(op: Op, i: int) -> Op:
    local: Any = op.partials[i]
    return Op(
        f"{op.name}'{i}",
        lambda y, *xs: as_float(local(y, *xs)),
        (ops.nan,) * (op.arity + 1),
        recipe=(_mapped, (op, i)),  # type: ignore[arg-type]
    )
