"""Array programs: what a lifted program is made of, and the rules that keep it small.

An ``Array`` is one statement: an operation of the table on whole arrays, a view of some members of another
array, a sum over axes, a product of matrices. Its shape has the axes of its members; if it is *batched*
there is one more axis behind them, over the samples. ``Arrays`` makes them, each different one once.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microgrid import ops
from microgrid.ops import Op

Shape = tuple[int, ...]
Indices = NDArray[np.int64]

NOT = Op("not", lambda m: 1.0 - m, (-1.0,), ufunc="logical_not", doc="1 − m for a comparison m.")
NUMBER = Op(
    "number",
    lambda m: m,
    (1.0,),
    array="{0} * 1.0",
    expansion=lambda m: m,
    doc="A comparison as the number 0 or 1.",
)
MASKS = {ops.less, ops.less_equal, ops.greater, ops.greater_equal, ops.equal, ops.not_equal, NOT}
"""Rows whose result on arrays is a boolean, which is faster to make and to multiply by."""


@dataclass(frozen=True, slots=True)
class Map:
    """Which member of a source each point of a shape reads: ``base + Σ index · stride``, or a table."""

    shape: Shape = ()
    base: int = 0
    strides: Shape = ()
    digest: bytes = b""
    table: Indices | None = field(default=None, compare=False, repr=False)

    @staticmethod
    def of(points: Indices) -> "Map":
        """Return the map with these members, by strides if it can be."""
        if points.ndim == 0:
            return Map((), int(points))
        base = int(points.flat[0])
        corner = (0,) * points.ndim
        strides = tuple(
            int(points[(*corner[:axis], 1, *corner[axis + 1 :])]) - base if size > 1 else 0
            for axis, size in enumerate(points.shape)
        )
        affine = Map(points.shape, base, strides)
        if np.array_equal(affine.points(), points):
            return affine
        table = np.ascontiguousarray(points)
        return Map(points.shape, 0, (), table.tobytes(), table)

    @staticmethod
    def whole(shape: Shape) -> "Map":
        """Return the map that reads every member of a source in order."""
        strides, step = [], 1
        for size in reversed(shape):
            strides.append(step if size > 1 else 0)
            step *= size
        return Map(shape, 0, tuple(reversed(strides)))

    @staticmethod
    def constant(shape: Shape) -> "Map":
        """Return the map that reads member 0 everywhere."""
        return Map(shape, 0, (0,) * len(shape))

    @property
    def regular(self) -> bool:
        """Whether it is given by strides."""
        return self.table is None

    def points(self) -> Indices:
        """Return the member that each point reads."""
        if self.table is not None:
            return self.table
        points = np.full(self.shape, self.base)
        for axis, (size, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            if stride:
                points += (stride * np.arange(size)).reshape((-1,) + (1,) * (len(self.shape) - axis - 1))
        return points

    def after(self, inner: "Map") -> "Map":
        """Return the map of a view of a view: this one reads the points of ``inner``."""
        if self == Map.whole(inner.shape):
            return inner
        if inner.regular and not any(inner.strides) and self.regular:
            return Map(self.shape, inner.base, (0,) * len(self.shape))
        return Map.of(inner.points().ravel()[self.points()])

    def repeats(self) -> tuple[int, ...]:
        """Return the axes along which it reads the same members again."""
        if self.table is not None:
            return ()
        return tuple(k for k, (size, stride) in enumerate(zip(self.shape, self.strides, strict=True)) if not stride)

    def without(self, axes: Iterable[int]) -> "Map":
        """Return the map at index 0 of these axes."""
        dropped = set(axes)
        kept = [k for k in range(len(self.shape)) if k not in dropped]
        if self.table is not None:
            index = tuple(0 if k in dropped else slice(None) for k in range(len(self.shape)))
            return Map.of(self.table[index])
        return Map(tuple(self.shape[k] for k in kept), self.base, tuple(self.strides[k] for k in kept))


@dataclass(frozen=True, slots=True, eq=False)
class Array:
    """One statement of an array program.

    Attributes:
        number: its place in the program.
        op: a row of the table, or the name of a statement: ``argument``, ``parameters``, ``constant``,
            ``weight``, ``count``, ``seed``, ``view``, ``sum``, ``largest``, ``smallest``, ``contract``
            or ``scatter``.
        operands: arrays and plain numbers.
        shape: the axes of the members.
        batched: whether there is an axis over the samples behind them.
        detail: the map of a view, the axes of a sum, the values of a constant, …
    """

    number: int
    op: Op | str
    operands: tuple["Operand", ...]
    shape: Shape
    batched: bool
    detail: Any = None

    @property
    def size(self) -> int:
        """The number of members."""
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.op if isinstance(self.op, str) else self.op.name

    def arrays(self) -> Iterator["Array"]:
        """Yield the operands that are arrays."""
        for operand in self.operands:
            if isinstance(operand, Array):
                yield operand


Operand = Array | float


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a scatter: where it goes, and whether something stands there already."""

    map: Map
    adds: bool


class Arrays:
    """Makes the statements of an array program: each different one once, by rules that keep it small.

    The rules keep every number, with three exceptions of the last digit: a factor that is constant comes out
    of a sum, a sum may be added up in another order, and so may a product of the backward pass be multiplied.
    """

    def __init__(self, last: bool = False, differentiated: bool = False) -> None:
        self.statements: list[Array] = []
        self.last = last  # whether derivatives have been taken
        self.differentiated = differentiated or not last  # whether others are still taken, which stop_gradient cuts
        self._known: dict[Any, Array] = {}

    def make(
        self, op: Op | str, operands: tuple[Operand, ...], shape: Shape, batched: bool, detail: Any = None
    ) -> Array:
        """Return the statement, the one that stands already if there is one."""
        key = (op, *[x.number if isinstance(x, Array) else x.hex() for x in operands], shape, detail)
        if key not in self._known:
            self._known[key] = Array(len(self.statements), op, operands, shape, batched, detail)
            self.statements.append(self._known[key])
        return self._known[key]

    # -- leaves ---------------------------------------------------------------------------------------

    def argument(self, k: int, size: int, batched: bool) -> Array:
        """Return argument ``k``, with ``size`` numbers per sample."""
        return self.make("argument", (), (size,), batched, k)

    def parameters(self, size: int) -> Array:
        """Return all parameters."""
        return self.make("parameters", (), (size,), False)

    def constant(self, values: NDArray[np.float64]) -> Operand:
        """Return numbers that are known; a plain number if they are all the same."""
        first = float(values.flat[0])
        if values.tobytes() == np.full_like(values, first).tobytes():
            return first
        return self._numbers(np.ascontiguousarray(values))

    def filled(self, shape: Shape, number: float) -> Array:
        """Return an array of one number, for statements that need an array."""
        return self._numbers(np.full(shape, number))

    def _numbers(self, values: NDArray[np.float64]) -> Array:
        return self.make("constant", (), values.shape, False, Constant(values.tobytes(), values))

    # -- operations -----------------------------------------------------------------------------------

    def apply(self, op: Op, *operands: Operand) -> Operand:
        """Return a row of the table on arrays of one shape and on plain numbers."""
        arrays = [x for x in operands if isinstance(x, Array)]
        if not arrays:
            result: float = op.forward(*operands)
            return result
        simple = self._simplified(op, operands)
        if simple is not None:
            return simple
        first = arrays[0]
        if first.op == "view" and self._same_view(arrays):
            # Computed before it is repeated, not after.
            inner = [x.operands[0] if isinstance(x, Array) else x for x in operands]
            return self.view(self.apply(op, *inner), first.detail)
        if self.last and op not in (ops.mul, ops.where, NOT, NUMBER):
            operands = tuple(self.apply(NUMBER, x) if _is_mask(x) else x for x in operands)
        elif self.last and op is ops.mul and all(_is_mask(x) for x in operands):
            operands = (self.apply(NUMBER, operands[0]), operands[1])
        elif self.last and op is ops.where:
            operands = (operands[0], *[self.apply(NUMBER, x) if _is_mask(x) else x for x in operands[1:]])
        return self.make(op, operands, first.shape, any(x.batched for x in arrays))

    @staticmethod
    def _same_view(arrays: list[Array]) -> bool:
        first = arrays[0]
        source = first.operands[0]
        return (
            isinstance(source, Array)
            and source.size < first.size
            and all(x.op == "view" and x.detail == first.detail and x.operands[0].shape == source.shape for x in arrays)  # type: ignore[union-attr]
        )

    def _simplified(self, op: Op, operands: tuple[Operand, ...]) -> Operand | None:
        """Return what an operation is without computing it; ``None`` if it must be computed."""
        a, b = (*operands, None, None)[:2]
        if (
            op is ops.identity
            or (op is ops.stop_gradient and not self.differentiated)
            or (op is NUMBER and not _is_mask(a))
        ):
            return a
        if op is ops.mul:
            for factor, other in ((a, b), (b, a)):
                if factor == 1.0:
                    return other
                if factor == -1.0:
                    return self.apply(ops.neg, other)  # type: ignore[arg-type]
                if _is(factor, ops.neg):
                    return self.apply(ops.neg, self.apply(ops.mul, factor.operands[0], other))  # type: ignore[union-attr, arg-type]
            if isinstance(a, float) and a == 2.0 and _is(b, ops.mul) and isinstance(b.operands[0], float):  # type: ignore[union-attr]
                return self.apply(ops.mul, 2.0 * b.operands[0], b.operands[1])  # type: ignore[union-attr]
            if (_is(a, "weight") and _is(b, "count")) or (_is(a, "count") and _is(b, "weight")):
                return 1.0
        elif op is ops.neg:
            if _is(a, ops.neg):
                return a.operands[0]  # type: ignore[union-attr]
            if _is(a, ops.mul) and isinstance(a.operands[0], float):  # type: ignore[union-attr]
                return self.apply(ops.mul, -a.operands[0], a.operands[1])  # type: ignore[union-attr]
        elif op is ops.div:
            if b == 1.0:
                return a
        elif op is ops.add:
            if a is b:
                return self.apply(ops.mul, 2.0, a)  # type: ignore[arg-type]
            if _is(b, ops.neg):
                return self.apply(ops.sub, a, b.operands[0])  # type: ignore[union-attr, arg-type]
            if _is(a, ops.neg):
                return self.apply(ops.sub, b, a.operands[0])  # type: ignore[union-attr, arg-type]
        elif op is ops.sub:
            if _is(b, ops.neg):
                return self.apply(ops.add, a, b.operands[0])  # type: ignore[union-attr, arg-type]
            if a == 1.0 and _is_mask(b):
                return self.apply(NOT, b)  # type: ignore[arg-type]
        elif op is ops.where:
            # Not before differentiation: the other branch has a derivative, 0 times what may be inf.
            if isinstance(a, float) and self.last:
                return operands[1] if a else operands[2]
        elif op is NOT:
            if _is(a, NOT):
                return a.operands[0]  # type: ignore[union-attr]
        elif op.recipe is not None and op.recipe[0] is ops.power_of:
            (exponent,) = op.recipe[1]
            if exponent == 1.0 or (exponent == 0.0 and self.last):  # before, its derivative is 0 times what may be nan
                return a if exponent else 1.0
        return None

    def view(self, x: Operand, index: Map) -> Operand:
        """Return the members of ``x`` that a map reads, in the map's shape."""
        if not isinstance(x, Array) or index == Map.whole(x.shape):
            return x
        if x.op == "constant":
            return self.constant(x.detail.values.ravel()[index.points()])
        if x.op == "view":
            return self.view(x.operands[0], index.after(x.detail))
        return self.make("view", (x,), index.shape, x.batched, index)

    def sum(self, x: Operand, axes: Sequence[int], batch: bool = False) -> Operand:
        """Return the sum over member axes, and over the samples if ``batch``."""
        assert isinstance(x, Array)
        if not axes and not batch:
            return x
        if x.op is ops.neg:
            return self.apply(ops.neg, self.sum(x.operands[0], axes, batch))
        kept = tuple(size for k, size in enumerate(x.shape) if k not in set(axes))
        if x.op is ops.mul:
            for factor, other in (x.operands, x.operands[::-1]):
                if isinstance(factor, float) and math.isfinite(factor):
                    return self.apply(ops.mul, factor, self.sum(other, axes, batch))
                if isinstance(factor, Array) and isinstance(other, Array) and source_of(factor).op == "weight":
                    share = self.view(source_of(factor), Map.constant(kept))
                    return self.apply(ops.mul, share, self.sum(other, axes, batch))
        if x.op == "view" and not batch:
            repeated = set(x.detail.repeats()) & set(axes)
            if repeated:
                times = math.prod(x.shape[k] for k in repeated)
                rest = [k for k in range(len(x.shape)) if k not in repeated]
                slim = self.view(x.operands[0], x.detail.without(repeated))
                left = [new for new, k in enumerate(rest) if k in set(axes)]
                return self.apply(ops.mul, float(times), self.sum(slim, left))
        return self.make("sum", (x,), kept, x.batched and not batch, (tuple(sorted(axes)), batch))

    def sum_samples(self, x: Operand, shape: Shape = ()) -> Operand:
        """Return the sum over all samples, of what may be the same for each of them; of a plain number in a shape."""
        if isinstance(x, Array) and x.batched:
            if x.op is ops.mul:
                for factor, other in (x.operands, x.operands[::-1]):
                    if _is(factor, "weight") or (_is(factor, "view") and _is(factor.operands[0], "weight")):  # type: ignore[union-attr]
                        return self.apply(ops.mul, factor, self.sum_samples(other))
            return self.sum(x, (), batch=True)
        return self._times_count(x, shape)

    def _times_count(self, x: Operand, shape: Shape = ()) -> Operand:
        if isinstance(x, Array):
            if x.op == "weight":
                return 1.0
            if x.op == "view" or x.op is ops.neg:
                inner = self._times_count(x.operands[0])
                return self.view(inner, x.detail) if x.op == "view" else self.apply(ops.neg, inner)
            if x.op is ops.mul:
                for factor, other in (x.operands, x.operands[::-1]):
                    scaled = self._times_count(factor)
                    if not (isinstance(scaled, Array) and scaled.op is ops.mul and _is(scaled.operands[1], "count")):
                        return self.apply(ops.mul, scaled, other)
            count = self.make("count", (), (), False)
            return self.apply(ops.mul, x, self.view(count, Map.constant(x.shape)))
        return self.apply(ops.mul, x, self.view(self.make("count", (), (), False), Map.constant(shape)))

    def extreme(self, which: str, x: Array, axes: Sequence[int]) -> Array:
        """Return the ``largest`` or the ``smallest`` along member axes."""
        kept = tuple(size for k, size in enumerate(x.shape) if k not in set(axes))
        return self.make(which, (x,), kept, x.batched, (tuple(sorted(axes)), False))

    def grouped(self, numbers: Sequence[Operand]) -> list[tuple[Array, Map]]:
        """Return arrays that hold all of these single numbers, each with the places of its members among them."""
        places: dict[int, list[tuple[int, int]]] = {}
        sources: dict[int, Array] = {}
        known: list[int] = []
        for place, number in enumerate(numbers):
            if not isinstance(number, Array):
                known.append(place)
                continue
            source, point = (number.operands[0], number.detail.base) if number.op == "view" else (number, 0)
            sources[source.number] = source  # type: ignore[union-attr, assignment]
            places.setdefault(source.number, []).append((place, point))  # type: ignore[union-attr]
        groups = []
        for source_number, pairs in places.items():
            where, points = np.array(pairs).T
            groups.append((self.view(sources[source_number], Map.of(points)), Map.of(where)))
        if known:
            groups.append((self._numbers(np.array([numbers[place] for place in known])), Map.of(np.array(known))))
        return groups  # type: ignore[return-value]

    # -- putting members back where a view took them from ----------------------------------------------

    def scatter(self, shape: Shape, pieces: Sequence[tuple[Map, Operand]]) -> Operand:
        """Return the array of a shape in which each piece is added where its map points, and 0 elsewhere."""
        size = math.prod(shape)
        parts: list[tuple[Map, Operand]] = []
        for index, value in pieces:
            parts.extend(self._without_overlap(index, value))
        if len(parts) == 1 and isinstance(parts[0][1], Array) and math.prod(parts[0][0].shape) == size:
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
        operands = tuple(value for _, value in parts)
        batched = any(x.batched for x in operands if isinstance(x, Array))
        return self.make(
            "scatter", operands, shape, batched, Scatter(tuple(placed), Map.of(zeros) if len(zeros) else None)
        )

    def _rearranged(self, shape: Shape, index: Map, value: Operand) -> Operand:
        """Return an array whose members are those of ``value``, each once, in another order."""
        inverse = np.empty(math.prod(shape), dtype=np.int64)
        inverse[index.points().ravel()] = np.arange(inverse.size)
        return self.view(value, Map.of(inverse.reshape(shape)))

    def _without_overlap(self, index: Map, value: Operand) -> list[tuple[Map, Operand]]:
        """Split a piece into pieces that reach each member at most once."""
        if not isinstance(value, Array):
            points, counts = np.unique(index.points(), return_counts=True)
            numbers = self.constant(np.multiply(value, counts, dtype=np.float64))
            return [(Map.of(points), numbers)]
        repeated = index.repeats()
        if any(index.shape[k] > 1 for k in repeated):
            value, index = self.sum(value, repeated), index.without(repeated)
            return self._without_overlap(index, value)
        points = index.points().ravel()
        if len(np.unique(points)) == len(points):
            return [(index, value)]
        axis = min(range(len(index.shape)), key=lambda k: index.shape[k])
        if index.shape[axis] <= 16 and len(index.shape) > 1:
            slices = np.moveaxis(np.arange(len(points)).reshape(index.shape), axis, 0)
            targets = np.moveaxis(index.points(), axis, 0)
            return [
                piece
                for one, where in zip(slices, targets, strict=True)
                for piece in self._without_overlap(Map.of(where), self.view(value, Map.of(one)))
            ]
        order = np.argsort(points, kind="stable")
        targets, starts = np.unique(points[order], return_index=True)
        grouped = self.view(value, Map.of(order))
        assert isinstance(grouped, Array)
        total = self.make(
            "segment_sum", (grouped,), (len(targets),), grouped.batched, Constant(starts.tobytes(), starts)
        )
        return [(Map.of(targets), total)]


@dataclass(frozen=True, slots=True)
class Constant:
    """Numbers, compared by their bytes."""

    digest: bytes
    values: NDArray[Any] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Scatter:
    """The pieces of a scatter, and the members that must be 0 before a piece is added to them."""

    pieces: tuple[Piece, ...]
    zeros: Map | None


def fuse(
    outputs: Sequence[Operand], forward: Sequence[Operand] = (), differentiated: bool = False
) -> tuple["Arrays", list[Operand]]:
    """Return the statements that outputs need, written anew: sums of products become contractions.

    Args:
        outputs: what to compute.
        forward: the results of the forward pass; what these do not need may be multiplied in another order.
        differentiated: whether JAX may differentiate the statements again.
    """
    arrays = Arrays(last=True, differentiated=differentiated)
    new: dict[int, Operand] = {}
    live = reachable(outputs)
    kept = {x.number for x in reachable(forward)}
    uses = Counter(operand.number for x in live for operand in x.arrays())
    pairs = {frozenset(operand.number for operand in x.arrays()) for x in live if x.op is ops.mul}
    for x in live:
        operands = tuple(new[operand.number] if isinstance(operand, Array) else operand for operand in x.operands)
        if x.op is ops.mul and x.number not in kept:
            new[x.number] = _product(arrays, x, new, uses, pairs)
            continue
        if isinstance(x.op, Op):
            new[x.number] = arrays.apply(x.op, *operands)
            continue
        if not (x.op == "view" and x.detail.regular):
            operands = tuple(arrays.apply(NUMBER, operand) for operand in operands)
        if x.op in ("sum", "largest", "smallest", "segment_sum") and isinstance(operands[0], float):
            (before,) = x.arrays()
            operands = (arrays.filled(before.shape, operands[0]),)
        if x.op == "view":
            new[x.number] = arrays.view(operands[0], x.detail)
        elif x.op == "sum":
            axes, batch = x.detail
            (terms,) = operands
            (before,) = x.arrays()
            if _is(terms, "sum") and uses[before.number] == 1 and not (axes and terms.detail[0]):  # type: ignore[union-attr]
                axes, batch = axes or terms.detail[0], True  # type: ignore[union-attr]
                (terms,) = terms.operands  # type: ignore[union-attr]
            if batch and not (isinstance(terms, Array) and terms.batched):
                new[x.number] = arrays.sum_samples(arrays.sum(terms, axes))
            else:
                new[x.number] = _contracted(arrays, terms, axes, batch)
        elif x.op == "constant":
            new[x.number] = arrays.constant(x.detail.values)
        else:
            # An operand may have lost its axis over the samples: a power that is 1 is the same number for each.
            batched = any(operand.batched for operand in operands if isinstance(operand, Array)) or not operands
            new[x.number] = arrays.make(x.op, operands, x.shape, x.batched and batched, x.detail)
    return arrays, [arrays.apply(NUMBER, new[x.number]) if isinstance(x, Array) else x for x in outputs]


def _product(
    arrays: Arrays, x: Array, new: dict[int, Operand], uses: Counter[int], pairs: set[frozenset[int]]
) -> Operand:
    """Return a product with constants in front, where they meet: c₁a · c₂b is (c₁c₂)·ab, and a · (1 / b) is a / b.

    What is used elsewhere, too, stands anyway and is better used as it is; unless the product without the
    constant is one of the ``pairs`` that are multiplied anyway.
    """
    constant, divisor = 1.0, None
    factors: list[Operand] = []
    for operand, other in zip(x.operands, reversed(x.operands), strict=True):
        factor = new[operand.number] if isinstance(operand, Array) else operand
        once = isinstance(operand, Array) and uses[operand.number] == 1
        if once and _is(factor, ops.mul) and _is_moderate(factor.operands[0]):  # type: ignore[union-attr]
            constant, factor = constant * factor.operands[0], factor.operands[1]  # type: ignore[union-attr, operator]
        elif not once and _is(operand, ops.mul) and isinstance(other, Array):
            c, base = sorted(operand.operands, key=lambda inner: isinstance(inner, Array))  # type: ignore[union-attr]
            if _is_moderate(c) and isinstance(base, Array) and frozenset((base.number, other.number)) in pairs:
                constant, factor = constant * c, new[base.number]
        if isinstance(factor, float):
            constant *= factor
        elif once and factor.op is ops.div and factor.operands[0] == 1.0 and divisor is None:
            divisor = factor.operands[1]
        else:
            factors.append(factor)
    product: Operand = 1.0
    for factor in factors:
        product = arrays.apply(ops.mul, product, factor)
    if divisor is not None:
        product = arrays.apply(ops.div, product, divisor)
    return arrays.apply(ops.mul, constant, product)


def _is_moderate(x: Operand) -> bool:
    """Whether it is a number that hardly decides whether a product with it overflows."""
    return isinstance(x, float) and 2.0**-32 < abs(x) < 2.0**32


BATCH = "z"


def _contracted(arrays: Arrays, x: Operand, axes: Sequence[int], batch: bool) -> Operand:
    """Return a sum; of a product, as a contraction, whose factors are not repeated before they meet."""
    assert isinstance(x, Array)
    if x.op is not ops.mul or not all(isinstance(factor, Array) and not _is_mask(factor) for factor in x.operands):
        return arrays.sum(x, axes, batch)
    letters, factors = [], []
    for factor in x.arrays():
        spanned = list(range(len(x.shape)))
        if factor.op == "view":
            repeated = factor.detail.repeats()
            spanned = [k for k in spanned if k not in repeated]
            factor = arrays.view(factor.operands[0], factor.detail.without(repeated))  # type: ignore[assignment]
        letters.append("".join(chr(97 + k) for k in spanned) + BATCH * factor.batched)
        factors.append(factor)
    kept = [k for k in range(len(x.shape)) if k not in axes]
    spanned = [k for k in kept if chr(97 + k) in letters[0] + letters[1]]
    result = "".join(chr(97 + k) for k in spanned) + BATCH * (x.batched and not batch)
    times = math.prod(x.shape[k] for k in axes if chr(97 + k) not in letters[0] + letters[1])
    summed = set(letters[0] + letters[1]) - set(result)
    if not summed or not summed <= set(letters[0]) & set(letters[1]):
        # Nothing is summed that the factors do not repeat; or one factor would come out of the sum of the other,
        # and an infinite one times a sum is not the sum of its products.
        return arrays.sum(x, axes, batch)
    shape = tuple(x.shape[k] for k in spanned)
    product = arrays.make("contract", tuple(factors), shape, BATCH in result, (*letters, result))
    broadcast = [0] * len(kept)
    for k, stride in zip(spanned, Map.whole(shape).strides, strict=True):
        broadcast[kept.index(k)] = stride
    full = tuple(x.shape[k] for k in kept)
    return arrays.apply(ops.mul, float(times), arrays.view(product, Map(full, 0, tuple(broadcast))))


def _is(x: Operand | None, op: Op | str) -> bool:
    return isinstance(x, Array) and x.op is op if not isinstance(op, str) else isinstance(x, Array) and x.op == op


def _is_mask(x: Operand | None) -> bool:
    """Whether an operand is a comparison, seen through views."""
    return isinstance(x, Array) and source_of(x).op in MASKS


def source_of(x: Array) -> Array:
    """Return the array that a view reads; an array itself."""
    while x.op == "view":
        x = x.operands[0]  # type: ignore[assignment]
    return x


def dump(arrays: Iterable[Array], outputs: Iterable[Operand] = ()) -> str:
    """Return statements as text, one a line."""

    def text(x: Operand) -> str:
        return f"%{x.number}" if isinstance(x, Array) else repr(x)

    lines = []
    for x in arrays:
        shape = "×".join(map(str, x.shape)) + (" per sample" if x.batched else "")
        detail = ""
        if isinstance(x.detail, Map):
            m = x.detail
            detail = f" at {m.base} + {m.strides}" if m.regular else " at a table"
        elif x.detail is not None and x.op in ("sum", "contract", "argument", "largest", "smallest"):
            detail = f" {x.detail}"
        lines.append(f"%{x.number}: {shape or '1'} = {x.name}({', '.join(map(text, x.operands))}){detail}")
    if outputs:
        lines.append("return " + ", ".join(map(text, outputs)))
    return "\n".join(lines)


def reachable(outputs: Iterable[Operand]) -> list[Array]:
    """Return the arrays that the outputs depend on, each once, operands first."""
    seen: dict[int, Array] = {}
    stack = [x for x in outputs if isinstance(x, Array)]
    while stack:
        x = stack.pop()
        if x.number not in seen:
            seen[x.number] = x
            stack.extend(x.arrays())
    return [seen[number] for number in sorted(seen)]
