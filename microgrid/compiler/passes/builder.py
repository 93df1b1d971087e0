"""A builder makes the nodes of an array program: each different one once, and none that a rule does without."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from microgrid import ops
from microgrid.compiler.ir import (
    MULTIPLY_ADD,
    Accumulate,
    Argument,
    BatchSize,
    BatchWeight,
    Constant,
    Contract,
    Elementwise,
    Gather,
    Indices,
    Leaf,
    Map,
    Node,
    Operand,
    Parameters,
    Piece,
    Reduce,
    Reduction,
    Scan,
    Scatter,
    ScatterAdd,
    Seed,
    SegmentReduce,
    Shape,
    Slot,
    View,
)
from microgrid.ops import Op

N = TypeVar("N", bound=Node)
RowRule = Callable[["Builder", Op, tuple[Operand, ...]], Operand | None]
SumRule = Callable[["Builder", Node, Sequence[int], bool], Operand | None]
SamplesRule = Callable[["Builder", Node], Operand | None]


@dataclass(frozen=True)
class Rules:
    """What a builder tries, in order, before it makes a node: a rule returns what the node is without it, or None.

    Attributes:
        rows: for a row of the table, or for the factory of rows with constants, the rules for an operation on arrays.
        always: the rules for any operation, behind those.
        sums: the rules for a sum over axes, and over the samples if the last argument says so.
        samples: the rules for the sum over all samples of what differs between them.
        counts: the rules for the sum over all samples of what is the same for each: a product with their number.
    """

    rows: Mapping[Any, tuple[RowRule, ...]]
    always: tuple[RowRule, ...]
    sums: tuple[SumRule, ...]
    samples: tuple[SamplesRule, ...]
    counts: tuple[SamplesRule, ...]


class Builder:
    """The nodes of an array program, and the only one who makes them.

    The rules keep every number, with three exceptions of the last digit: a factor that is constant comes out
    of a sum, a sum may be added up in another order, and so may a product of the backward pass be multiplied.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.nodes: list[Node] = []
        self._known: dict[Any, Any] = {}
        self._rules_of = {row: (*mine, *rules.always) for row, mine in rules.rows.items()}

    def copy(self) -> "Builder":
        """Return one with the same nodes, which grows apart from this one."""
        result = Builder(self.rules)
        result.nodes = [*self.nodes]
        result._known = {**self._known}
        return result

    def make(self, kind: Callable[..., N], shape: Shape, batched: bool, *rest: Any) -> N:
        """Return the node of a kind with these fields, the one that stands already if there is one."""
        key = (kind, shape, *map(_key, rest))
        found: N | None = self._known.get(key)
        if found is None:
            found = self._known[key] = kind(len(self.nodes), shape, batched, *rest)
            self.nodes.append(found)
        return found

    def remade(self, x: Node, operands: Sequence[Operand], batched: bool) -> Node:
        """Return the like of another program's node, on operands of this one; no rule is tried."""
        match x:
            case Elementwise():
                return self.make(Elementwise, x.shape, batched, x.op, tuple(operands))
            case View():
                return self.make(View, x.shape, batched, operands[0], x.map)
            case Reduce():
                return self.make(Reduce, x.shape, batched, x.kind, operands[0], x.axes, x.batch)
            case Contract():
                return self.make(Contract, x.shape, batched, *operands, x.subscripts)
            case Scatter():
                return self.make(Scatter, x.shape, batched, tuple(operands), x.pieces, x.zeros)
            case SegmentReduce():
                return self.make(SegmentReduce, x.shape, batched, x.kind, operands[0], x.starts)
            case Gather():
                return self.make(Gather, x.shape, batched, *operands, x.map)
            case ScatterAdd():
                return self.make(ScatterAdd, x.shape, batched, *operands, x.map, x.batch)
            case Accumulate():
                start, *inputs = operands
                return self.make(Accumulate, x.shape, batched, x.backward, x.op, x.place, start, tuple(inputs))
            case Scan():
                start, *rest = operands
                inputs, constants = rest[: len(x.inputs)], rest[len(x.inputs) :]
                given = tuple(inputs), tuple(constants), x.idle
                return self.make(Scan, x.shape, batched, x.backward, x.body, start, *given)
            case _:
                return self.make(type(x), x.shape, batched, *[getattr(x, own.name) for own in fields(x)[_COMMON:]])

    # -- leaves ---------------------------------------------------------------------------------------

    def argument(self, k: int, size: int, batched: bool) -> Leaf:
        """Return argument ``k``, with ``size`` numbers per sample."""
        return self.make(Argument, (size,), batched, k)

    def parameters(self, size: int) -> Leaf:
        """Return all parameters."""
        return self.make(Parameters, (size,), False)

    def seed(self, size: int, batched: bool) -> Leaf:
        """Return the weights of ``size`` outputs."""
        return self.make(Seed, (size,), batched)

    def slot(self, position: int, shape: Shape, batched: bool) -> Leaf:
        """Return what the body of a scan is given in a place."""
        return self.make(Slot, shape, batched, position)

    def batch_size(self) -> Leaf:
        """Return the number of samples."""
        return self.make(BatchSize, (), False)

    def batch_weight(self) -> Leaf:
        """Return 1 / the number of samples."""
        return self.make(BatchWeight, (), False)

    def constant(self, values: NDArray[np.float64]) -> Operand:
        """Return numbers that are known; a plain number if they are all the same."""
        first = float(values.flat[0])
        if values.tobytes() == np.full_like(values, first).tobytes():
            return first
        return self.numbers(np.ascontiguousarray(values))

    def filled(self, shape: Shape, number: float) -> Leaf:
        """Return an array of one number, for nodes that need an array."""
        return self.numbers(np.full(shape, number))

    def numbers(self, values: NDArray[np.float64]) -> Leaf:
        """Return numbers that are known as an array."""
        return self.make(Constant, values.shape, False, values)

    # -- operations -----------------------------------------------------------------------------------

    def apply(self, op: Op, *operands: Operand) -> Operand:
        """Return a row of the table on arrays of one shape and on plain numbers."""
        arrays = [x for x in operands if isinstance(x, Node)]
        if not arrays:
            result: float = op.forward(*operands)
            return result
        for rule in self._rules_of.get(op if op.recipe is None else op.recipe[0], self.rules.always):
            found = rule(self, op, operands)
            if found is not None:
                return found
        return self.make(Elementwise, arrays[0].shape, any(x.batched for x in arrays), op, operands)

    def view(self, x: Operand, index: Map) -> Operand:
        """Return the members of ``x`` that a map reads, in the map's shape."""
        if not isinstance(x, Node) or index == Map.whole(x.shape):
            return x
        match x:
            case Constant():
                return self.constant(x.values.ravel()[index.points()])
            case View():
                return self.view(x.source, index.after(x.map))
            case _:
                return self.make(View, index.shape, x.batched, x, index)

    def sum(self, x: Operand, axes: Sequence[int], batch: bool = False) -> Operand:
        """Return the sum over member axes, and over the samples if ``batch``."""
        assert isinstance(x, Node)
        if not axes and not batch:
            return x
        for rule in self.rules.sums:
            found = rule(self, x, axes, batch)
            if found is not None:
                return found
        return self.make(Reduce, _kept(x, axes), x.batched and not batch, "sum", x, tuple(sorted(axes)), batch)

    def extreme(self, kind: Reduction, x: Node, axes: Sequence[int]) -> Node:
        """Return the ``largest`` or the ``smallest`` along member axes."""
        return self.make(Reduce, _kept(x, axes), x.batched, kind, x, tuple(sorted(axes)), False)

    def segments(self, kind: Reduction, x: Node, starts: Indices) -> Node:
        """Return the sum, or the extreme, of each stretch of members that begins at ``starts``."""
        return self.make(SegmentReduce, starts.shape, x.batched, kind, x, starts)

    def sum_samples(self, x: Operand, shape: Shape = ()) -> Operand:
        """Return the sum over all samples, of what may be the same for each of them; of a plain number in a shape."""
        if not (isinstance(x, Node) and x.batched):
            return self.times_count(x, shape)
        for rule in self.rules.samples:
            found = rule(self, x)
            if found is not None:
                return found
        return self.sum(x, (), batch=True)

    def times_count(self, x: Operand, shape: Shape = ()) -> Operand:
        """Return ``x``, the same for each sample, times the number of samples; a plain number in a shape."""
        if isinstance(x, Node):
            shape = x.shape
            for rule in self.rules.counts:
                found = rule(self, x)
                if found is not None:
                    return found
        return self.apply(ops.mul, x, self.view(self.batch_size(), Map.constant(shape)))

    # -- members that numbers choose -------------------------------------------------------------------

    def gather(self, x: Node, index: Node, members: Map) -> Node:
        """Return at each point the member of ``x`` that a number chooses among those of a map along its last axis."""
        if isinstance(x, View):
            return self.gather(x.source, index, members.after(x.map))
        points = members.points()
        first, size = int(points.min()), int(np.ptp(points)) + 1
        part = self.stored(self.view(x, Map((size,), first, (int(size > 1),))), (size,))  # its gradient is no larger
        return self.make(Gather, index.shape, x.batched or index.batched, part, index, Map.of(points - first))

    def scatter_add(self, shape: Shape, x: Node, index: Node, members: Map, batch: bool) -> Operand:
        """Return the array in which each value is added where a gather reads, of all samples together if ``batch``."""
        batched = x.batched or index.batched
        added = self.make(ScatterAdd, shape, batched and not batch, x, index, members, batched and batch)
        return self.times_count(added) if batch and not batched else added

    def stored(self, x: Operand, shape: Shape) -> Node:
        """Return an operand as an array, for nodes that need one."""
        return x if isinstance(x, Node) else self.filled(shape, x)

    def accumulate(
        self, op: Op, place: int, start: Operand, inputs: Sequence[Operand], shape: Shape, backward: bool
    ) -> Operand:
        """Return the states of a recurrence, in a shape that has one more on its first axis than there are steps."""
        if op is ops.mul and inputs == [1.0]:
            rest = shape[1:]
            return self.view(start, Map(shape, 0, (0, *Map.whole(rest).strides)))
        if op is MULTIPLY_ADD and place == 0 and inputs[0] == 1.0:
            op, inputs = ops.add, inputs[1:]
        arrays = [x for x in (start, *inputs) if isinstance(x, Node)]
        if not arrays:
            start = self.filled(shape[1:], float(start))  # type: ignore[arg-type]
        batched = any(x.batched for x in arrays)
        return self.make(Accumulate, shape, batched, backward, op, place, start, tuple(inputs))

    # -- putting members back where a view took them from ----------------------------------------------

    def scatter(self, shape: Shape, pieces: Sequence[tuple[Map, Operand]]) -> Operand:
        """Return the array of a shape in which each piece is added where its map points, and 0 elsewhere."""
        size = math.prod(shape)
        parts = [part for index, value in pieces for part in self._without_overlap(index, value)]
        if len(parts) == 1 and isinstance(parts[0][1], Node) and math.prod(parts[0][0].shape) == size:
            return self._rearranged(shape, *parts[0])
        covered = np.zeros(size, dtype=bool)
        reset = np.zeros(size, dtype=bool)
        placed = []
        for index, _ in parts:
            points = index.points().ravel()
            adds = bool(covered[points].any())
            if adds:
                reset[points] |= ~covered[points]
            covered[points] = True
            placed.append(Piece(index, adds))
        zeros = np.flatnonzero(reset)
        values = tuple(value for _, value in parts)
        batched = any(x.batched for x in values if isinstance(x, Node))
        return self.make(Scatter, shape, batched, values, tuple(placed), Map.of(zeros) if len(zeros) else None)

    def _rearranged(self, shape: Shape, index: Map, value: Operand) -> Operand:
        """Return an array whose members are those of ``value``, each once, in another order."""
        inverse = np.empty(math.prod(shape), dtype=np.intp)
        inverse[index.points().ravel()] = np.arange(inverse.size)
        return self.view(value, Map.of(inverse.reshape(shape)))

    def _without_overlap(self, index: Map, value: Operand) -> list[tuple[Map, Operand]]:
        """Split a piece into pieces that reach each member at most once."""
        if not index.shape:
            return [(index, value)]
        if not isinstance(value, Node):
            members, counts = np.unique(index.points(), return_counts=True)
            return [(Map.of(members), self.constant(np.multiply(value, counts, dtype=np.float64)))]
        repeated = index.repeats()
        if any(index.shape[k] > 1 for k in repeated):
            return self._without_overlap(index.without(repeated), self.sum(value, repeated))
        points = index.points().ravel()
        if _meet_nowhere(points):
            return [(index, value)]
        axis = min(range(len(index.shape)), key=lambda k: index.shape[k])
        targets = np.moveaxis(index.points(), axis, 0)
        few = index.shape[axis] <= 16 and len(index.shape) > 1
        if few and (index.regular or all(map(_meet_nowhere, targets))):
            slices = np.moveaxis(np.arange(len(points)).reshape(index.shape), axis, 0)
            return [
                piece
                for one, where in zip(slices, targets, strict=True)
                for piece in self._without_overlap(Map.of(where), self.view(value, Map.of(one)))
            ]
        order = np.argsort(points, kind="stable")
        members, starts = np.unique(points[order], return_index=True)
        grouped = self.view(value, Map.of(order))
        assert isinstance(grouped, Node)
        return [(Map.of(members), self.segments("sum", grouped, starts))]


_COMMON = len(fields(Node))


def _key(x: Any) -> Any:
    """What tells a field of a node from others: of a node its number, of an array its bytes."""
    if isinstance(x, Node):
        return x.number
    if isinstance(x, float):
        return x.hex()
    if type(x) is tuple:
        return tuple(map(_key, x))
    return x.tobytes() if isinstance(x, np.ndarray) else x


def _meet_nowhere(points: Indices) -> bool:
    """Whether no member is reached twice."""
    return bool(np.bincount(points.ravel()).max() < 2)


def _kept(x: Node, axes: Sequence[int]) -> Shape:
    return tuple(size for k, size in enumerate(x.shape) if k not in {*axes})
