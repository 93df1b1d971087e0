"""Array programs: what a lifted program is made of.

A ``Node`` is one statement: an operation of the table on whole arrays, a view of some members of another
array, a sum over axes, a product of matrices. Its shape has the axes of its members; if it is *batched*
there is one more axis behind them, over the samples.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from textwrap import indent
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from microgrid import ops
from microgrid.ops import Op

Shape = tuple[int, ...]
Indices = NDArray[np.intp]

NOT = Op("not", lambda m: 1.0 - m, (-1.0,), ufunc="logical_not", doc="1 − m for a comparison m.")
NUMBER = Op(
    "number",
    lambda m: m,
    (1.0,),
    expansion=lambda m: m,
    doc="A comparison as the number 0 or 1.",
)
MULTIPLY_ADD = Op(
    "multiply_add",
    lambda s, a, b: s * a + b,
    (lambda y, s, a, b: a, lambda y, s, a, b: s, 1.0),
    expansion=lambda s, a, b: s * a + b,
    array="({0} * {1} + {2})",
    doc="s·a + b, each operation rounded: a step of a linear recurrence.",
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

    @staticmethod
    def stretch(start: int, stop: int) -> "Map":
        """Return the map that reads members that stand one after the other."""
        return Map((stop - start,), start, (int(stop - start > 1),))

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
        if inner == Map.whole(inner.shape):
            return self
        return Map.of(inner.points().ravel()[self.points()])

    def each(self, count: int, size: int) -> "Map":
        """Return the map that reads the same of each of so many entries, which have so many members."""
        if self.regular:
            return Map((count, *self.shape), self.base, (size, *self.strides))
        offsets = (size * np.arange(count)).reshape(-1, *[1] * len(self.shape))
        return Map.of(offsets + self.points())

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

    @property
    def operands(self) -> "tuple[Operand, ...]":
        """The nodes and plain numbers that it is computed of."""
        return ()

    @property
    def name(self) -> str:
        """What it is, in one word: the name of an operation, the kind of a reduction."""
        match self:
            case Elementwise():
                return self.op.name
            case Reduce():
                return self.kind
            case SegmentReduce():
                return f"segment_{self.kind}"
            case BatchSize():
                return "count"
            case BatchWeight():
                return "weight"
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

    source: Node
    map: Map

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Its operands."""
        return (self.source,)


@dataclass(frozen=True, slots=True, eq=False)
class Elementwise(Node):
    """A row of the table on nodes of its shape, and on plain numbers."""

    op: Op
    inputs: tuple[Operand, ...]

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Its operands."""
        return self.inputs


Reduction = Literal["sum", "largest", "smallest"]


@dataclass(frozen=True, slots=True, eq=False)
class Reduce(Node):
    """A sum, or an extreme, over member axes of ``source``, and over the samples if ``batch``."""

    kind: Reduction
    source: Node
    axes: tuple[int, ...]
    batch: bool

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Its operands."""
        return (self.source,)


@dataclass(frozen=True, slots=True, eq=False)
class Contract(Node):
    """A sum of products, in the subscripts of ``einsum``: ``left,right->result``; ``BATCH`` is the samples' letter."""

    left: Node
    right: Node
    subscripts: tuple[str, str, str]

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Its operands."""
        return self.left, self.right


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

    values: tuple[Operand, ...]
    pieces: tuple[Piece, ...]
    zeros: Map | None

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Its operands."""
        return self.values


@dataclass(frozen=True, slots=True, eq=False)
class SegmentReduce(Node):
    """The sum, or the extreme, of each stretch of ``source``; they begin at ``starts`` and none is empty."""

    kind: Reduction
    source: Node
    starts: Indices

    def segments(self) -> Indices:
        """Return the stretch in which each member of the source is."""
        return np.repeat(np.arange(self.size), np.diff(self.starts, append=self.source.size))

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Its operands."""
        return (self.source,)


@dataclass(frozen=True, slots=True, eq=False)
class Gather(Node):
    """At each point the member of ``source`` that a number chooses: the one that the map reads at (point, number).

    A number below 0 counts from the end; where it is not whole, or there is no such member, the result is nan.

    Attributes:
        source: what is read; a batched one sample by sample.
        index: the number at each point.
        map: the members to choose among, along the last axis of its shape; the others are those of the node.
    """

    source: Node
    index: Node
    map: Map

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Its operands."""
        return self.source, self.index


@dataclass(frozen=True, slots=True, eq=False)
class ScatterAdd(Node):
    """The array in which each value is added to the member that ``Gather`` reads at its point, and 0 elsewhere.

    Where it reads none, nothing is added: the adjoint of ``Gather``.

    Attributes:
        source: the values, a number at each point.
        index: as of ``Gather``.
        map: as of ``Gather``, to members of this node.
        batch: whether the values of all samples are added to one array.
    """

    source: Node
    index: Node
    map: Map
    batch: bool

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Its operands."""
        return self.source, self.index


@dataclass(frozen=True, slots=True, eq=False)
class Slot(Leaf):
    """What a scan gives to its body: in place 0 the last state, then an entry of each input, then the constants."""

    position: int


@dataclass(frozen=True, slots=True, eq=False)
class States(Node):
    """The states of a recurrence along the first axis, one more than there are steps.

    Attributes:
        backward: whether it runs from the last one to the first.
    """

    backward: bool

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self.shape[0] - 1

    def rows(self, behind: bool) -> Map:
        """Return the map of the states before each step, or of those behind it."""
        rest = self.shape[1:]
        base = math.prod(rest) if behind != self.backward else 0
        steps = (self.steps, *rest)
        return Map(steps, base, Map.whole(steps).strides)

    def end(self, last: bool) -> Map:
        """Return the map of the first state, the start, or of the last one."""
        rest = self.shape[1:]
        base = self.steps * math.prod(rest) if last != self.backward else 0
        return Map(rest, base, Map.whole(rest).strides)


@dataclass(frozen=True, slots=True, eq=False)
class Accumulate(States):
    """The states of a recurrence: ``s₀ = start``, ``sₖ₊₁ = op(sₖ, x₁[k], x₂[k], …)`` along the first axis.

    There is one state more than there are steps. *Backward* it runs from the last one to the first: ``sₙ = start``,
    ``sₖ = op(sₖ₊₁, x₁[k], x₂[k], …)``.

    Attributes:
        op: the row of a step.
        place: which of its operands the state is.
        start: of the shape of a state, or a plain number.
        inputs: its other operands, with an entry of the first axis for each step, or plain numbers.
    """

    op: Op
    place: int
    start: Operand
    inputs: tuple[Operand, ...]

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Its operands."""
        return (self.start, *self.inputs)


@dataclass(frozen=True, slots=True, eq=False)
class Scan(States):
    """The states of a recurrence of which a step is a program: ``sₖ₊₁ = body(sₖ, x₁[k], x₂[k], …, c₁, …)``.

    *Backward* it is ``sₖ = body(sₖ₊₁, x₁[k], x₂[k], …, c₁, …)``.

    Attributes:
        body: a program of slots that computes the new state.
        start: of the shape of a state.
        inputs: arrays with an entry of the first axis for each step.
        constants: arrays that are the same in each step.
        idle: a slot and one of its members: a step in which that is not 0, in a sample, leaves the state as it is.
            Of the state it stays so in all later steps.
    """

    body: "ArrayProgram"
    start: Node
    inputs: tuple[Node, ...]
    constants: tuple[Node, ...]
    idle: tuple[int, int] | None = None

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Its operands."""
        return (self.start, *self.inputs, *self.constants)

    def slots(self) -> "list[Form]":
        """Return the shape of each slot, and whether it is batched."""
        entries = [(x.shape[1:], x.batched) for x in self.inputs]
        return [(self.shape[1:], self.batched), *entries, *[(x.shape, x.batched) for x in self.constants]]


Form = tuple[Shape, bool]
"""The shape of an output and whether it is batched."""


@dataclass(frozen=True, slots=True)
class ArrayProgram:
    """What a kernel computes for a task.

    Attributes:
        outputs: the results, then the gradients.
        forms: the shape that each output must have, and whether it is batched: a result that is the same for all
            samples stands for all of them, and a plain number for all members, too.
        nodes: what they need, operands first.
    """

    outputs: tuple[Operand, ...]
    forms: tuple[Form, ...]
    nodes: tuple[Node, ...]

    @staticmethod
    def of(outputs: Sequence[Operand], forms: Sequence[Form] | None = None) -> "ArrayProgram":
        """Return the program of some outputs; unless given, their forms are those that they have."""
        if forms is None:
            forms = [(x.shape, x.batched) if isinstance(x, Node) else ((), False) for x in outputs]
        return ArrayProgram(tuple(outputs), tuple(forms), tuple(reachable(outputs)))

    @property
    def statements(self) -> list[Node]:
        """The nodes without leaves and views."""
        return [x for x in self.nodes if not isinstance(x, Leaf | View)]

    def apart(self) -> "ArrayProgram":
        """Return a program on single numbers with a number for each member of its outputs."""
        return ArrayProgram.of(
            [member for x, (shape, _) in zip(self.outputs, self.forms, strict=True) for member in _members(x, shape)]
        )

    def dump(self) -> str:
        """Return the program as text, one node a line."""
        returned = ["return " + ", ".join(map(_text, self.outputs))] * bool(self.outputs)
        lines = []
        for x in self.nodes:
            lines.append(_line(x))
            if isinstance(x, Scan):
                lines.append(indent(x.body.dump(), "    "))
        return "\n".join([*lines, *returned])

    def verify(self, final: bool = True, differentiable: bool = False) -> "ArrayProgram":
        """Return the program, if every node fits those that it reads, and every output its form.

        Args:
            final: whether it is what a target gets: masks stand only where a row takes them, and no contraction
                before.
            differentiable: whether JAX differentiates it again, so that ``stop_gradient`` stays.

        Raises:
            ValueError: naming the first node that does not fit, and why.
        """
        seen: dict[int, Node] = {}
        last = -1
        for x in self.nodes:
            if x.number <= last:
                raise _misfit(x, f"it stands behind %{last}")
            last = x.number
            for operand in x.arrays():
                if seen.get(operand.number) is not operand:
                    raise _misfit(x, f"%{operand.number} is not among the nodes before it")
            seen[last] = x
            _verify_node(x)
            _verify_stage(x, final, differentiable)
            if isinstance(x, Scan):
                x.body.verify(final, differentiable)
        if len(self.outputs) != len(self.forms):
            raise ValueError(f"{len(self.outputs)} outputs have {len(self.forms)} forms")
        for k, (output, (shape, batched)) in enumerate(zip(self.outputs, self.forms, strict=True)):
            if isinstance(output, Node):
                if seen.get(output.number) is not output:
                    raise _misfit(output, f"output {k} is not among the nodes")
                if output.shape != shape or (output.batched and not batched):
                    raise _misfit(output, f"output {k} must have the form {_form(shape, batched)}")
                if final and is_mask(output):
                    raise _misfit(output, f"output {k} is a mask, not a number")
        return self


def _members(x: Operand, shape: Shape) -> list[Operand]:
    """The single numbers of an output that was put together of single numbers."""
    found: list[Operand] = [0.0] * math.prod(shape)
    match x:
        case Scatter():
            for value, piece in zip(x.values, x.pieces, strict=True):
                found[int(piece.map.points().item())] = _one(value)
        case Constant():
            found = [*x.values.ravel().tolist()]
        case _:
            found = [_one(x)] * len(found)
    return found


def _one(x: Operand) -> Operand:
    """The single number that an operand is, or repeats."""
    if isinstance(x, View) and x.source.shape == ():
        return x.source
    if isinstance(x, Node) and x.size != 1:
        raise _misfit(x, "it is not put together of single numbers")
    return x


def _verify_node(x: Node) -> None:
    """Raise ``ValueError`` unless a node fits its operands, which fit theirs."""
    batched, shape = any(operand.batched for operand in x.arrays()), x.shape
    match x:
        case Argument() | Seed():
            fits, batched = len(shape) == 1, x.batched
        case Parameters():
            fits = len(shape) == 1
        case Constant():
            fits = x.values.shape == shape and x.values.dtype == np.float64
        case BatchSize() | BatchWeight():
            fits = shape == ()
        case View():
            fits = x.map.shape == shape
            _verify_inside(x, x.map, x.source.size)
        case Elementwise():
            fits = all(operand.shape == shape for operand in x.arrays())
            if len(x.inputs) != x.op.arity or not any(x.arrays()):
                raise _misfit(x, f"{x.op.name} takes {x.op.arity} operand(s), of which one is an array")
        case Reduce():
            inside = sorted({*x.axes}) == [*x.axes] and set(x.axes) <= set(range(len(x.source.shape)))
            if not inside or not (x.axes or x.batch) or (x.batch and not (x.source.batched and x.kind == "sum")):
                raise _misfit(x, f"it does not reduce {_form(x.source.shape, x.source.batched)} so")
            fits = shape == tuple(size for k, size in enumerate(x.source.shape) if k not in x.axes)
            batched = batched and not x.batch
        case Contract():
            fits, batched = shape == _contracted_shape(x), BATCH in x.subscripts[2]
        case Scatter():
            fits = True
            _verify_pieces(x)
        case SegmentReduce():
            fits = len(x.source.shape) == 1 and shape == x.starts.shape
            if len(x.starts) == 0 or x.starts[0] or (np.diff(x.starts, append=x.source.size) <= 0).any():
                raise _misfit(x, f"its stretches must begin at 0 and follow each other inside {x.source.size} members")
        case Gather(source=source, index=index):
            fits = x.map.shape[:-1] == index.shape == shape and bool(x.map.shape)
            _verify_inside(x, x.map, source.size)
        case ScatterAdd(source=source, index=index):
            fits = x.map.shape[:-1] == index.shape == source.shape and bool(x.map.shape) and batched >= x.batch
            batched = batched and not x.batch
            _verify_inside(x, x.map, x.size)
        case Accumulate():
            steps = (shape[0] - 1, *shape[1:]) if shape else ()
            fits = (not isinstance(x.start, Node) or x.start.shape == shape[1:]) and all(
                not isinstance(operand, Node) or operand.shape == steps for operand in x.inputs
            )
            if x.op.arity != len(x.inputs) + 1 or not 0 <= x.place < x.op.arity or not steps or steps[0] < 1:
                raise _misfit(x, f"a step of {x.op.name} takes a state and {x.op.arity - 1} operand(s)")
        case Slot():
            fits, batched = True, x.batched
        case Scan():
            slots = x.slots()
            given = [y for y in x.body.nodes if isinstance(y, Leaf) and not isinstance(y, Constant)]
            if not all(isinstance(y, Slot) and (y.shape, y.batched) == slots[y.position] for y in given):
                raise _misfit(x, "its body must read its slots alone, in their forms")
            fits = x.start.shape == shape[1:] and x.body.forms == ((shape[1:], x.batched),) and x.steps > 0
            fits = fits and all(operand.shape[:1] == (x.steps,) for operand in x.inputs)
            if x.idle is not None:
                slot, member = x.idle
                fits = fits and slot <= len(x.inputs) and len(slots[slot][0]) == 1 and member < slots[slot][0][0]
        case _:
            raise _misfit(x, "it is of no kind that a program has")
    if not fits or x.batched != batched:
        raise _misfit(x, "its form is not what its operands give")


def _verify_stage(x: Node, final: bool, differentiable: bool) -> None:
    """Raise ``ValueError`` unless a node may stand at a stage."""
    if not final:
        if isinstance(x, Contract):
            raise _misfit(x, "contractions are made last")
        return
    masks = [is_mask(operand) for operand in x.operands]
    match x:
        case Elementwise(op=ops.stop_gradient) if not differentiable:
            raise _misfit(x, "nothing is differentiated any more")
        case Elementwise(op=ops.mul):
            numbers = masks if all(masks) else []
        case Elementwise() if x.op in (ops.where, ops.chosen, ops.gated):
            numbers = masks[1:]
        case View(map=Map(table=None)):
            numbers = []
        case Elementwise() if x.op in (NOT, NUMBER):
            if not all(masks):
                raise _misfit(x, "its operand must be a mask")
            numbers = []
        case _:
            numbers = masks
    if any(numbers):
        raise _misfit(x, "a mask stands where a number must")


def _verify_inside(x: Node, index: Map, size: int) -> None:
    """Raise ``ValueError`` unless the map of a node reads members 0 … size − 1."""
    if index.table is not None:
        fits, first, last = index.table.shape == index.shape, int(index.table.min()), int(index.table.max())
    else:
        reach = [stride * (extent - 1) for extent, stride in zip(index.shape, index.strides, strict=False)]
        fits = len(index.strides) == len(index.shape) and min(index.shape, default=1) > 0
        first, last = (index.base + sum(side(step, 0) for step in reach) for side in (min, max))
    if not fits or first < 0 or last >= size:
        raise _misfit(x, f"its map reaches from {first} to {last}; the members are 0 … {size - 1}")


def _contracted_shape(x: Contract) -> Shape:
    """The shape of a contraction by its subscripts."""
    sizes: dict[str, int] = {}
    for factor, letters in zip((x.left, x.right), x.subscripts, strict=False):
        mine = letters.removesuffix(BATCH)
        if BATCH in mine or len({*mine}) != len(mine) or len(mine) != len(factor.shape):
            raise _misfit(x, f"the subscripts {letters} do not fit {_form(factor.shape, factor.batched)}")
        if letters.endswith(BATCH) != factor.batched:
            raise _misfit(x, f"the subscripts {letters} do not fit {_form(factor.shape, factor.batched)}")
        for letter, size in zip(mine, factor.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise _misfit(x, f"the axis {letter} has {sizes[letter]} members, and {size}")
    left, right, result = map(set, x.subscripts)
    if len(result) != len(x.subscripts[2]) or not result <= left | right or not (left | right) - result <= left & right:
        raise _misfit(x, "what it sums must stand in both factors, and its result in one of them")
    return tuple(sizes[letter] for letter in x.subscripts[2].removesuffix(BATCH))


def _verify_pieces(x: Scatter) -> None:
    """Raise ``ValueError`` unless the pieces of a scatter are put, or added, each where it may be."""
    if len(x.values) != len(x.pieces):
        raise _misfit(x, f"it has {len(x.values)} values for {len(x.pieces)} pieces")
    covered = np.zeros(x.size, dtype=bool)
    if x.zeros is not None:
        _verify_inside(x, x.zeros, x.size)
        covered[x.zeros.points()] = True
    for k, (value, piece) in enumerate(zip(x.values, x.pieces, strict=True)):
        if isinstance(value, Node) and value.shape != piece.map.shape:
            raise _misfit(x, f"value {k} has the shape {value.shape}, and its piece {piece.map.shape}")
        _verify_inside(x, piece.map, x.size)
        points = piece.map.points().ravel()
        if len(np.unique(points)) != len(points):
            raise _misfit(x, f"piece {k} reaches a member twice")
        if piece.adds and not covered[points].all():
            raise _misfit(x, f"piece {k} adds to what is not there")
        if not piece.adds and covered[points].any():
            raise _misfit(x, f"piece {k} overwrites what is there")
        covered[points] = True


def _misfit(x: Node, why: str) -> ValueError:
    return ValueError(f"{_line(x)}: {why}")


def _form(shape: Shape, batched: bool) -> str:
    return ("×".join(map(str, shape)) + " per sample" * batched) or "1"


def _text(x: Operand) -> str:
    return f"%{x.number}" if isinstance(x, Node) else repr(x)


def _line(x: Node) -> str:
    """A node as text."""
    match x:
        case View(map=index):
            detail = f" at {index.base} + {index.strides}" if index.regular else " at a table"
        case Argument():
            detail = f" {x.position}"
        case Reduce():
            detail = f" {(x.axes, x.batch)}"
        case Contract():
            detail = f" {x.subscripts}"
        case Gather(map=index) | ScatterAdd(map=index):
            detail = f" of {index.shape[-1]}"
        case Accumulate():
            detail = f" by {x.op.name} of the state at {x.place}" + ", backward" * x.backward
        case Slot():
            detail = f" {x.position}"
        case Scan():
            idle = "" if x.idle is None else f" where member {x.idle[1]} of slot {x.idle[0]} is 0"
            detail = f" of {len(x.inputs)} inputs{idle} by" + " backward" * x.backward
        case _:
            detail = ""
    return f"%{x.number}: {_form(x.shape, x.batched)} = {x.name}({', '.join(map(_text, x.operands))}){detail}"


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
