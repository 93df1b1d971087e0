"""Array programs: what a lifted program is made of.

A ``Node`` is one statement: an operation of the table on whole arrays, a view of some members of another
array, a sum over axes, a product of matrices. Its shape has the axes of its members; if it is *batched*
there is one more axis behind them, over the samples.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

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

BATCH = "z"
"""The letter of the samples' axis in the subscripts of a contraction."""


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
class Node:
    """One statement of an array program.

    Attributes:
        number: its place in the program.
        shape: the axes of its members.
        batched: whether there is an axis over the samples behind them.
    """

    number: int
    shape: Shape
    batched: bool

    @property
    def size(self) -> int:
        """The number of members."""
        return math.prod(self.shape)

    READS: ClassVar[tuple[str, ...]] = ()
    """The fields that hold its operands."""

    @property
    def operands(self) -> "tuple[Operand, ...]":
        """The nodes and plain numbers that it is computed of."""
        found: list[Operand] = []
        for name in self.READS:
            operand = getattr(self, name)
            found += operand if isinstance(operand, tuple) else (operand,)
        return tuple(found)

    @property
    def name(self) -> str:
        """What it is, in one word: the name of an operation, the kind of a reduction."""
        match self:
            case Elementwise():
                return self.op.name
            case Reduce():
                return self.kind
            case _:
                return re.sub("(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()

    def arrays(self) -> "Iterator[Node]":
        """Yield the operands that are nodes."""
        for operand in self.operands:
            if isinstance(operand, Node):
                yield operand


Operand = Node | float


@dataclass(frozen=True, slots=True, eq=False)
class Leaf(Node):
    """What the program is given."""


@dataclass(frozen=True, slots=True, eq=False)
class Argument(Leaf):
    """The numbers of argument ``position``."""

    position: int


@dataclass(frozen=True, slots=True, eq=False)
class Parameters(Leaf):
    """All parameters."""


@dataclass(frozen=True, slots=True, eq=False)
class Constant(Leaf):
    """Numbers that are known."""

    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class BatchSize(Leaf):
    """How many samples there are."""


@dataclass(frozen=True, slots=True, eq=False)
class BatchWeight(Leaf):
    """1 / the number of samples."""


@dataclass(frozen=True, slots=True, eq=False)
class Seed(Leaf):
    """The weight of each output in the sum that is differentiated."""


@dataclass(frozen=True, slots=True, eq=False)
class View(Node):
    """The members of ``source`` that a map reads."""

    READS = ("source",)

    source: Node
    map: Map


@dataclass(frozen=True, slots=True, eq=False)
class Elementwise(Node):
    """A row of the table on nodes of its shape, and on plain numbers."""

    READS = ("inputs",)

    op: Op
    inputs: tuple[Operand, ...]


Reduction = Literal["sum", "largest", "smallest"]


@dataclass(frozen=True, slots=True, eq=False)
class Reduce(Node):
    """A sum, or an extreme, over member axes of ``source``, and over the samples if ``batch``."""

    READS = ("source",)

    kind: Reduction
    source: Node
    axes: tuple[int, ...]
    batch: bool


@dataclass(frozen=True, slots=True, eq=False)
class Contract(Node):
    """A sum of products, in the subscripts of ``einsum``: ``left,right->result``; ``BATCH`` is the samples' letter."""

    READS = ("left", "right")

    left: Node
    right: Node
    subscripts: tuple[str, str, str]


class Piece(NamedTuple):
    """A part of a scatter: where it goes, and whether something stands there already."""

    map: Map
    adds: bool


@dataclass(frozen=True, slots=True, eq=False)
class Scatter(Node):
    """The array in which each value is put, or added, where its piece says, and 0 elsewhere.

    Attributes:
        values: one for each piece, in its map's shape, or a plain number.
        pieces: none reaches a member twice.
        zeros: the members that must be 0 before a piece is added to them.
    """

    READS = ("values",)

    values: tuple[Operand, ...]
    pieces: tuple[Piece, ...]
    zeros: Map | None


@dataclass(frozen=True, slots=True, eq=False)
class SegmentSum(Node):
    """The sums of stretches of ``source``, which begin at ``starts``."""

    READS = ("source",)

    source: Node
    starts: Indices


@dataclass(frozen=True, slots=True)
class ArrayProgram:
    """What a kernel computes for a task.

    Attributes:
        outputs: the results, then the gradients.
        forms: the shape that each output must have, and whether it is batched: a result that is the same for all
            members or samples stands for all of them.
        nodes: what they need, operands first.
    """

    outputs: tuple[Operand, ...]
    forms: tuple[tuple[Shape, bool], ...]
    nodes: tuple[Node, ...]

    @staticmethod
    def of(outputs: Sequence[Operand], forms: Sequence[tuple[Shape, bool]]) -> "ArrayProgram":
        """Return the program of some outputs."""
        return ArrayProgram(tuple(outputs), tuple(forms), tuple(reachable(outputs)))


def source_of(x: Node) -> Node:
    """Return the array that a view reads; an array itself."""
    while isinstance(x, View):
        x = x.source
    return x


def is_mask(x: Operand | None) -> bool:
    """Whether an operand is a comparison, seen through views."""
    source = source_of(x) if isinstance(x, Node) else None
    return isinstance(source, Elementwise) and source.op in MASKS


def reachable(outputs: Iterable[Operand]) -> list[Node]:
    """Return the nodes that the outputs depend on, each once, operands first."""
    seen: dict[int, Node] = {}
    stack = [x for x in outputs if isinstance(x, Node)]
    while stack:
        x = stack.pop()
        if x.number not in seen:
            seen[x.number] = x
            stack.extend(x.arrays())
    return [seen[number] for number in sorted(seen)]
