"""From an array program to a loop program: which statements share a loop, what is stored, and where.

Statements of one shape are computed in one loop, each number of them kept in a register; behind a sum of products
its bias and activation, and the sums over samples of what they give. What another loop reads is stored: in the
output or the part of a scatter that it becomes, else in the workspace.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from microgrid import ops
from microgrid.compiler.ir import (
    BATCH,
    MASKS,
    NUMBER,
    Accumulate,
    Argument,
    ArrayProgram,
    BatchSize,
    BatchWeight,
    Constant,
    Contract,
    Elementwise,
    Gather,
    Leaf,
    Map,
    Node,
    Operand,
    Parameters,
    Reduce,
    Scan,
    Scatter,
    ScatterAdd,
    Seed,
    SegmentReduce,
    Shape,
    Slot,
    States,
    View,
    source_of,
)
from microgrid.compiler.passes.scan import leaders
from microgrid.compiler.targets.native.loop_ir import (
    COUNT,
    SAMPLES,
    WEIGHT,
    Address,
    Affine,
    Buffer,
    Carried,
    For,
    Let,
    Load,
    LoopProgram,
    Name,
    Pack,
    Statement,
    Store,
)
from microgrid.compiler.targets.native.stencils import gathered
from microgrid.compiler.targets.native.workspace import shared
from microgrid.ops import Op

BEFORE, TILE, AFTER = range(3)

MEMBERS, VECTORS = 8, 2
"""The block of results of a contraction that is kept in registers: members, and vectors of samples or of members."""
ALONE = 2, 2
"""The same where neighbouring results share no factor that varies with the samples: a larger block reads no less."""
LEFT, RIGHT = 4, 4
"""The block of a contraction over the samples: members of the left factor alone, and of the right one alone."""
LONGEST = 128
"""So many statements are computed in one loop: the numbers of more do not fit in registers."""
_START = {"sum": 0.0, "dot": 0.0, "largest": -np.inf, "smallest": np.inf}
"""What a reduction starts from."""
FEW, MANY = 16, 256
"""A sum over the samples is run in lanes over the members of an argument, which lie side by side: of fewer members most
lanes would be empty, and of more each sample is on another page of memory."""
SHORTEST = 4
"""A loop over members of fewer iterations is not run in lanes."""


class ScheduleError(Exception):
    """What has no loops: the text is the reason, a sentence without its period."""


def schedule(program: ArrayProgram, dtype: str = "float64", packs: bool = True) -> LoopProgram:
    """Return the loops of an array program.

    Args:
        program: the array program.
        dtype: the type of its numbers.
        packs: whether arguments are copied, tile by tile; else they are read where they are.

    Raises:
        ScheduleError: if a statement for each sample needs a sum over all of them.
    """
    return shared(gathered(_Schedule(program, dtype, packs).loops()))


@dataclass(slots=True)
class _Home:
    """Where the members of a node are stored: at ``map``'s points of a buffer; ``adds`` to what stands there.

    Within loops over ``steps``, by their indices, the first axes of the map are those of the steps.
    """

    buffer: Buffer
    map: Map
    adds: bool = False
    steps: tuple[Name, ...] = ()

    def part(self, index: Map, adds: bool = False) -> "_Home":
        """Return where the members that a map reads are stored."""
        for k in reversed(range(len(self.steps))):
            index = index.each(self.map.shape[k], size_of(self.map.shape[k + 1 :]))
        return _Home(self.buffer, index.after(self.map), adds or self.adds, self.steps)

    def address(self, names: Sequence[Name]) -> Address:
        """Return the address of the member at a point."""
        return _address(self.buffer, self.map, (*self.steps, *names))


@dataclass(slots=True, eq=False)
class _Group:
    """The statements of one loop.

    Attributes:
        space: the axes of its members.
        batched: whether its innermost loop is over the samples.
        head: a contraction or a reduction over members, whose result at each point the others start from.
        body: operations at each point.
        sinks: sums of what is computed, over the samples or over all points.
        alone: a node that has a loop, or several, of its own.
    """

    space: Shape
    batched: bool
    head: Contract | Reduce | None = None
    body: list[Elementwise | Gather] = field(default_factory=list)
    sinks: list[Contract | Reduce] = field(default_factory=list)
    alone: Node | None = None

    def inside(self) -> set[int]:
        """The numbers of the nodes whose value at a point is at hand there."""
        return {x.number for x in (*self.body, *[self.head] * (self.head is not None))}  # type: ignore[union-attr]


class _Schedule:
    def __init__(self, program: ArrayProgram, dtype: str, packs: bool) -> None:
        self.program, self.dtype, self.packs = program, dtype, packs
        self.nodes = _merged(program)
        self.groups: tuple[list[_Group], ...] = ([], [], [])
        self.phase: dict[int, int] = {}
        self.place: dict[int, int] = {}  # the group that computes a node, in its phase
        self.over_samples: set[int] = set()  # sums over the samples: added up tile by tile
        self.uses = Counter(x.number for node in self.nodes for x in node.arrays())
        self.uses.update(x.number for x in program.outputs if isinstance(x, Node))
        self.buffers: dict[str, Buffer] = {}
        self.leaders = leaders(program)
        self.homes: dict[int, _Home] = {}
        self.parts: tuple[list[Statement], ...] = ([], [], [])
        self.adding: set[tuple[int, int]] = set()  # which pieces of which scatter meet others
        self.counter = 0

    def written(self) -> None:
        """Write all parts."""
        self._divide_in_phases()
        self._group()
        self._find_homes()
        stored = self._stored()
        for phase, groups in enumerate(self.groups):
            for group in groups:
                self.parts[phase].extend(_Nest(self, group, stored, phase).statements())
        self._copy_outputs()

    def loops(self) -> LoopProgram:
        self.written()
        used = {s.address.buffer.name for part in self.parts for s in _walk(part) if isinstance(s, (Load, Store))}
        packs = [
            Pack(self.buffers[f"x{b.position}"], b)
            for b in list(self.buffers.values())
            if b.role == "local" and b.name.startswith("packed") and b.name in used
        ]
        before, tile, after = self.parts
        used |= {pack.source.name for pack in packs}
        buffers = tuple(b for b in self.buffers.values() if b.name in used)
        return LoopProgram(buffers, tuple(before), (*packs, *tile), tuple(after), self.dtype)

    # -- what is computed when, and together -----------------------------------------------------------

    def _divide_in_phases(self) -> None:
        for x in self.nodes:
            phase = BEFORE
            for operand in x.arrays():
                late = operand.number in self.over_samples or self.phase[operand.number] == AFTER
                phase = max(phase, AFTER if late else BEFORE)
                if operand.batched and not x.batched:
                    phase = TILE
                    if not isinstance(x, View):
                        self.over_samples.add(x.number)
                elif x.batched and late:
                    raise ScheduleError("a statement for each sample needs a sum over all samples")
            self.phase[x.number] = TILE if x.batched else phase

    def _group(self) -> None:
        for x in self.nodes:
            if isinstance(x, Leaf | View):
                continue
            phase = self.phase[x.number]
            if isinstance(x, Contract | Reduce) and self._sink(x, phase):
                continue
            low = max((self._earliest(x, operand, phase) for operand in x.arrays()), default=0)
            if isinstance(x, Elementwise | Gather):
                self._join(x, phase, low)
            elif isinstance(x, Contract | Reduce) and x.number not in self.over_samples:
                self._append(x, phase, _Group(x.shape, x.batched, head=x))
            else:
                self._append(x, phase, _Group((), x.batched, alone=x))

    def _earliest(self, x: Node, operand: Node, phase: int) -> int:
        """The first group of a phase in which ``x`` may be computed, as far as an operand goes."""
        source = source_of(operand)
        if isinstance(source, Leaf) or self.phase[source.number] != phase or source.number in self.over_samples:
            return 0
        k = self.place[source.number]
        at_hand = operand is source and source.shape == x.shape and source.number in self.groups[phase][k].inside()
        return k if at_hand and isinstance(x, Elementwise) else k + 1

    def _join(self, x: Elementwise | Gather, phase: int, low: int) -> None:
        for k in range(low, len(self.groups[phase])):
            group = self.groups[phase][k]
            fits = group.alone is None and (group.space, group.batched) == (x.shape, x.batched)
            if fits and len(group.body) < LONGEST:
                group.body.append(x)
                self.place[x.number] = k
                return
        self._append(x, phase, _Group(x.shape, x.batched, body=[x]))

    def _append(self, x: Node, phase: int, group: _Group) -> None:
        self.groups[phase].append(group)
        self.place[x.number] = len(self.groups[phase]) - 1

    def _sink(self, x: Contract | Reduce, phase: int) -> bool:
        """Let a sum over the samples or over all points run in the loop that computes its terms."""
        if isinstance(x, Contract):
            left, right, result = x.subscripts
            whole = result == "" and left == right
        else:
            whole = (
                x.kind == "sum"
                and (x.batch or not x.source.batched)
                and (not x.axes or len(x.axes) == len(x.source.shape))
            )
        if not whole:
            return False
        terms = list(x.arrays())
        for k in sorted(
            {self.place[t.number] for t in terms if self.phase[t.number] == phase and t.number in self.place}
        ):
            group = self.groups[phase][k]
            inside = [t.number in group.inside() for t in terms]
            at_hand = all(here or self._earliest(x, t, phase) <= k for here, t in zip(inside, terms, strict=True))
            if any(inside) and at_hand and all((t.shape, t.batched) == (group.space, group.batched) for t in terms):
                group.sinks.append(x)
                self.place[x.number] = k
                return True
        if x.number not in self.over_samples:
            return False
        group = _Group(terms[0].shape, True)
        group.sinks.append(x)
        self._append(x, phase, group)
        return True

    # -- where it is stored ----------------------------------------------------------------------------

    def buffer(self, name: str, role: str, members: int, batched: bool = False, position: int = 0) -> Buffer:
        """Return a buffer by its name, made when it is first asked for."""
        if name not in self.buffers:
            self.buffers[name] = Buffer(name, role, members, batched, position)  # type: ignore[arg-type]
        return self.buffers[name]

    def _find_homes(self) -> None:
        """From the last node to the first: a scatter says to its pieces where they are to be."""
        for k, (output, (shape, batched)) in enumerate(zip(self.program.outputs, self.program.forms, strict=True)):
            root = _root(output)
            if (
                root is not None
                and root.number not in self.homes
                and (root.size, root.batched) == (size_of(shape), batched)
            ):
                self.homes[root.number] = self.target(k).part(Map.whole(root.shape))
        for x in reversed(self.nodes):
            if isinstance(x, Leaf | View):
                continue
            if x.number not in self.homes:
                buffer = self.buffer(f"b{self.label(x)}", "local", x.size, x.batched)
                self.homes[x.number] = _Home(buffer, Map.whole(x.shape))
            if isinstance(x, Scatter):
                self._place_pieces(x)
        for x in self.nodes:
            home = self.homes.get(x.number)
            if x.number in self.over_samples and home is not None and not home.adds:
                self.parts[BEFORE].extend(_fill(home, False))

    def _place_pieces(self, x: Scatter) -> None:
        home = self.homes[x.number]
        points = [piece.map.points().ravel() for piece in x.pieces]
        counts = np.bincount(np.concatenate(points), minlength=x.size) if points else np.zeros(x.size, np.int64)
        adding = [bool((counts[reached] > 1).any()) for reached in points]
        empty = counts == 0
        for reached in itertools.compress(points, adding):
            empty[reached] = True
        if empty.any():
            zeros = home.part(Map.of(np.flatnonzero(empty)))
            self.parts[TILE if x.batched else BEFORE].extend(_fill(zeros, x.batched))
        for k, (value, piece, adds) in enumerate(zip(x.values, x.pieces, adding, strict=True)):
            if adds:
                self.adding.add((x.number, k))
            movable = isinstance(value, Node) and not isinstance(value, Leaf | View | SegmentReduce | States)
            if (
                movable
                and self.uses[value.number] == 1  # type: ignore[union-attr]
                and value.batched == x.batched  # type: ignore[union-attr]
                and value.number not in self.homes  # type: ignore[union-attr]
                and not (adds and isinstance(value, Scatter))
            ):
                self.homes[value.number] = home.part(piece.map, adds)  # type: ignore[union-attr]

    def _stored(self) -> set[int]:
        """The nodes that something outside of their own loop reads."""
        stored = {root.number for x in self.program.outputs if (root := _root(x)) is not None}
        stored |= {source_of(x).number for x in self.program.outputs if isinstance(x, Node)}
        owner = {n: (self.phase[n], k) for n, k in self.place.items()}
        for x in self.nodes:
            if isinstance(x, View):
                continue
            for operand in x.arrays():
                source = source_of(operand)
                group = self.groups[owner[x.number][0]][owner[x.number][1]]
                at_hand = (
                    operand is source
                    and source.number in group.inside()
                    and owner.get(source.number) == owner[x.number]
                )
                if not at_hand:
                    stored.add(source.number)
        return stored

    # -- reading and writing ---------------------------------------------------------------------------

    def home(self, x: Node) -> _Home:
        """Return where a node is stored."""
        match x:
            case Parameters():
                return _Home(self.buffer("theta", "theta", x.size), Map.whole(x.shape))
            case Seed():
                return _Home(self.buffer("seed", "seed", x.size, x.batched), Map.whole(x.shape))
            case Argument():
                given = self.buffer(f"x{x.position}", "argument", x.size, x.batched, x.position)
                if x.batched and x.size > 1 and self.packs:
                    given = self.buffer(f"packed{x.position}", "local", x.size, True, x.position)
                return _Home(given, Map.whole(x.shape))
            case Constant():
                name = f"c{self.label(x)}"
                if name not in self.buffers:
                    self.buffers[name] = Buffer(name, "constant", x.size, values=x.values.ravel())
                return _Home(self.buffers[name], Map.whole(x.shape))
            case _:
                return self.homes[x.number]

    def as_given(self, buffer: Buffer) -> Buffer | None:
        """Return where an argument is given sample by sample, if a buffer is one that has more than one member."""
        packed = buffer.role == "local" and buffer.name.startswith("packed")
        if packed or (buffer.role == "argument" and buffer.batched and buffer.members > 1):
            return self.buffers[f"x{buffer.position}"]
        return None

    def target(self, k: int) -> _Home:
        """Return where an output is to be."""
        shape, batched = self.program.forms[k]
        return _Home(self.buffer(f"out{k}", "output", size_of(shape), batched, k), Map.whole(shape))

    def member(self, x: Node, index: Map, names: Sequence[Name]) -> Address | Name:
        """Return what the members that a map reads of a node are at a point: an address, or the name of a number."""
        match x:
            case View():
                return self.member(x.source, index.after(x.map), names)
            case BatchSize():
                return COUNT
            case BatchWeight():
                return WEIGHT
            case _:
                return self.home(x).part(index).address(names)

    def operand(self, x: Operand, names: Sequence[Name]) -> Address | Name | float:
        """Return what an operand is at a point: an address, a number, or the name of one."""
        if not isinstance(x, Node):
            return x
        found = self.member(x, Map.whole(x.shape), names)
        if isinstance(found, Address) and found.buffer.values is not None and found.buffer.members == 1:
            return float(found.buffer.values[0])
        return found

    def label(self, x: Node) -> str:
        """Return by what the names of a node are told from others."""
        return str(x.number)

    def fresh(self, stem: str) -> Name:
        """Return a new name."""
        self.counter += 1
        return f"{stem}{self.counter}"

    def _copy_outputs(self) -> None:
        """Write the outputs that are not computed where they must be."""
        for k, (output, (shape, batched)) in enumerate(zip(self.program.outputs, self.program.forms, strict=True)):
            root = _root(output)
            target = self.target(k)
            if root is not None and root.number in self.homes and self.homes[root.number].buffer is target.buffer:
                continue
            phase = TILE if batched else BEFORE
            if isinstance(output, Node):
                late = output.number in self.over_samples or self.phase[output.number] == AFTER
                late |= source_of(output).number in self.over_samples
                if batched and late:
                    raise ScheduleError("an output for each sample needs a sum over all samples")
                phase = AFTER if late else phase
            nest = _Nest(self, _Group(shape, batched), set(), phase)
            value = self.operand(output, nest.names if isinstance(output, Node) and output.shape else ())
            nest.store(target.address(nest.names), nest.number(value))
            self.parts[phase].extend(nest.closed())


def _merged(program: ArrayProgram) -> list[Node]:
    """The nodes of a program; a sum of the results of a contraction, which nothing else reads, is a contraction."""
    uses = Counter(x.number for node in program.nodes for x in node.arrays())
    uses.update(x.number for x in program.outputs if isinstance(x, Node))
    merged: dict[int, Node] = {}
    for x in program.nodes:
        if isinstance(x, Reduce) and x.kind == "sum" and isinstance(x.source, Contract) and not x.batch:
            inner = x.source
            left, right, result = inner.subscripts
            summed = {result[k] for k in x.axes}
            if uses[inner.number] == 1 and summed <= {*left} & {*right}:
                del merged[inner.number]
                kept = "".join(letter for letter in result if letter not in summed)
                x = Contract(x.number, x.shape, x.batched, inner.left, inner.right, (left, right, kept))
        merged[x.number] = x
    return [*merged.values()]


def _shares_a_factor(x: Contract) -> bool:
    """Whether neighbouring results have a factor of the samples in common, which a block then reads once."""
    left, right, result = (letters.replace(BATCH, "") for letters in x.subscripts)
    return any(result[-1:] not in letters for letters, factor in ((left, x.left), (right, x.right)) if factor.batched)


class _Nest:
    """One group as nested loops: levels of statements, of which those of level d stand inside d loops."""

    def __init__(self, owner: _Schedule, group: _Group, stored: set[int], phase: int) -> None:
        self.owner, self.group, self.stored, self.phase = owner, group, stored, phase
        self.names = [owner.fresh("i") for _ in group.space]
        self.indices: list[Name] = [*self.names, *[SAMPLES] * group.batched]
        self.levels: list[list[Statement]] = [[] for _ in range(len(self.indices) + 1)]
        self.carried: list[list[Carried]] = [[] for _ in self.indices]
        self.behind: list[list[Statement]] = [[] for _ in self.indices]
        self.loaded: dict[object, Name] = {}
        self.values: dict[int, Name] = {}
        self.lanes_inside = False  # whether a reduction inside the point is run in lanes
        self.in_order = False  # whether the outermost loop is a recurrence

    def statements(self) -> list[Statement]:
        """Return the loops of the group."""
        group = self.group
        if group.alone is not None:
            return self._alone(group.alone)
        if group.head is not None:
            self._head(group.head)
        for x in group.body:
            if isinstance(x, Gather):
                some, address = self._chosen(x, x.source)
                loaded = self.owner.fresh("l")
                self.levels[-1].append(Load(loaded, address))
                self.levels[-1].append(Let(self._name(x), ops.where, (some, loaded, ops.nan)))
            else:
                operands = tuple(self.read(operand) for operand in x.inputs)
                self.levels[-1].append(Let(self._name(x), x.op, operands))
            self._keep(x)
        for sink in group.sinks:
            self._sum(sink)
        return self.closed()

    def closed(self) -> list[Statement]:
        """Return the levels, as loops one in the other."""
        group = self.group
        body = self.levels[-1]
        lanes = SAMPLES if group.batched else self._lanes()
        for d in reversed(range(len(self.indices))):
            index = self.indices[d]
            extent = SAMPLES if index == SAMPLES else group.space[d]
            unroll = 1
            if group.head is not None and isinstance(group.head, Contract):
                members, vectors = (MEMBERS, VECTORS) if _shares_a_factor(group.head) else ALONE
                unroll = vectors if index == SAMPLES else members if d == len(group.space) - 1 else 1
            loop = For(index, extent, tuple(body), tuple(self.carried[d]), index == lanes, unroll)  # type: ignore[arg-type]
            body = [*self.levels[d], loop, *self.behind[d]]
        return body

    def _lanes(self) -> Name | None:
        """The loop over members that is run in lanes: the innermost one, if it is long enough."""
        long = len(self.group.space) > self.in_order and self.group.space[-1] >= SHORTEST
        return self.names[-1] if long and not self.lanes_inside else None

    # -- points ----------------------------------------------------------------------------------------

    def _name(self, x: Node) -> Name:
        self.values[x.number] = f"v{self.owner.label(x)}"
        return self.values[x.number]

    def read(self, x: Operand, names: Sequence[Name] | None = None) -> Name | float:
        """Return an operand at the point, loaded if it is not at hand."""
        if isinstance(x, Node) and x.number in self.values:
            return self.values[x.number]
        return self.number(self.owner.operand(x, self.names if names is None else names))

    def number(self, operand: Address | Name | float, levels: "list[list[Statement]] | None" = None) -> Name | float:
        """Return an operand as a name or a number; a load stands in the outermost loop in which it can."""
        if not isinstance(operand, Address):
            return operand
        key = (operand.buffer.name, operand.member, None if operand.table is None else operand.table.tobytes())
        if key not in self.loaded:
            self.loaded[key] = self.owner.fresh("l")
            used = {name for name, _ in operand.member.terms} | ({SAMPLES} if operand.buffer.batched else set())
            depth = max((d + 1 for d, index in enumerate(self.indices) if index in used), default=0)
            self.levels[depth].append(Load(self.loaded[key], operand))
        return self.loaded[key]

    def store(self, address: Address, value: Name | float, adds: bool = False) -> None:
        """Store a value at the point."""
        self.levels[-1].append(Store(address, value, adds))

    def _keep(self, x: Node) -> None:
        """Store a value at the point, if another loop reads it."""
        if x.number not in self.stored:
            return
        name: Name = self.values[x.number]
        if isinstance(x, Elementwise) and x.op in MASKS:
            name = self.owner.fresh("n")
            self.levels[-1].append(Let(name, NUMBER, (self.values[x.number],)))
        home = self.owner.homes[x.number]
        self.store(home.address(self.names), name, home.adds)

    # -- what numbers choose -----------------------------------------------------------------------------

    def _chosen(self, x: Gather | ScatterAdd, array: Node) -> tuple[Name, Address]:
        """Whether a number chooses a member at the point, and which, in memory; the first one where it chooses none."""
        n, index = float(x.map.shape[-1]), self.read(x.index)
        whole = self._let(ops.equal, self._let(ops.floor, index), index)
        inside = self._let(ops.mul, self._let(ops.greater_equal, index, -n), self._let(ops.less, index, n))
        some = self._let(ops.mul, whole, inside)
        place = self._let(ops.where, self._let(ops.less, index, 0.0), self._let(ops.add, index, n), index)
        place = self._let(ops.where, some, place, 0.0)
        address = self.owner.member(array, x.map, [*self.names, place])
        assert isinstance(address, Address)
        member, stride = address.member, address.member.stride(place)
        terms = tuple(term for term in member.terms if term[0] != place)
        chosen = (place, stride) if stride else None
        return some, replace(address, member=Affine(member.base, terms), chosen=chosen)

    def _let(self, op: Op, *operands: Name | float) -> Name:
        """Return the name of a row at the point."""
        name = self.owner.fresh("t")
        self.levels[-1].append(Let(name, op, operands))
        return name

    # -- reductions ------------------------------------------------------------------------------------

    def _head(self, x: Contract | Reduce) -> None:
        """A sum of products, or a reduction over members, at each point."""
        name = self._name(x)
        inner, values, kind = self._terms(x)
        at = self.levels[-1]
        loop = self._inner_loops(inner, values, kind, name)
        at.extend(loop)
        self._keep(x)

    def _terms(self, x: Contract | Reduce) -> tuple[list[tuple[Name, int]], list[Address | Name | float], str]:
        """The loops over what is reduced, the terms inside them, and how they meet."""
        if isinstance(x, Reduce):
            index: dict[int, Name] = {}
            inner = []
            kept = iter(self.names)
            for axis, size in enumerate(x.source.shape):
                index[axis] = self.owner.fresh("k") if axis in x.axes else next(kept)
                if axis in x.axes:
                    inner.append((index[axis], size))
            return inner, [self.owner.operand(x.source, list(index.values()))], x.kind
        left, right, result = x.subscripts
        letters = dict(zip(result.replace(BATCH, ""), self.names, strict=True))
        inner = []
        for subscripts, factor in ((left, x.left), (right, x.right)):
            for letter, size in zip(subscripts.replace(BATCH, ""), factor.shape, strict=True):
                if letter not in letters:
                    letters[letter] = self.owner.fresh("k")
                    inner.append((letters[letter], size))
        factors = [
            self.owner.operand(factor, [letters[letter] for letter in subscripts.replace(BATCH, "")])
            for subscripts, factor in ((left, x.left), (right, x.right))
        ]
        return inner, factors, "dot"

    def _inner_loops(
        self, inner: Sequence[tuple[Name, int]], terms: Sequence[Address | Name | float], kind: str, name: Name
    ) -> list[Statement]:
        """The loops of a reduction inside the point."""
        inside: list[Statement] = []
        values: list[Name | float] = []
        indices = {index for index, _ in inner}
        for term in terms:
            if isinstance(term, Address) and indices & {index for index, _ in term.member.terms}:
                values.append(self.owner.fresh("l"))
                inside.append(Load(values[-1], term))  # type: ignore[arg-type]
            else:
                values.append(self.number(term))
        body = inside
        self.lanes_inside = self._reduced_in_lanes(inner, terms)
        for depth, (index, extent) in enumerate(reversed(inner)):
            outermost = depth == len(inner) - 1
            result = name if outermost else self.owner.fresh("s")
            meet = kind if depth == 0 else {"dot": "sum"}.get(kind, kind)
            carried = Carried(result, meet, tuple(values), _START[kind])  # type: ignore[arg-type]
            body = [For(index, extent, tuple(body), (carried,), lanes=self.lanes_inside and depth == 0)]
            values = [result]
        return body

    def _reduced_in_lanes(self, inner: Sequence[tuple[Name, int]], terms: Sequence[Address | Name | float]) -> bool:
        """Whether the innermost loop of a reduction is run in lanes: no other one is, and memory is read in order."""
        if self.group.batched or inner[-1][1] < SHORTEST:
            return False
        strides = [t.member.stride(inner[-1][0]) for t in terms if isinstance(t, Address) and t.table is None]
        return len(strides) == len(terms) and all(stride in (0, 1) for stride in strides)

    def _sum(self, x: Contract | Reduce) -> None:
        """A sum over the samples, or over all points, of what is computed at them."""
        values: list[Name | float] = [self.read(term) for term in x.arrays()]
        over_samples = isinstance(x, Reduce) and not x.axes
        kind = "dot" if isinstance(x, Contract) else "sum"
        home = self.owner.homes[x.number]
        depth = len(self.indices) - 1 if over_samples else 0
        for d in reversed(range(depth, len(self.indices))):
            name = self.owner.fresh("s")
            self.carried[d].append(Carried(name, kind, tuple(values)))  # type: ignore[arg-type]
            values, kind = [name], "sum"
        adds = home.adds or x.number in self.owner.over_samples
        address = home.address(self.names if over_samples else ())
        target = self.behind[depth] if self.indices else self.levels[0]
        target.append(Store(address, values[0], adds))

    # -- loops of their own ----------------------------------------------------------------------------

    def _alone(self, x: Node) -> list[Statement]:
        match x:
            case Contract() | Reduce():
                return self._over_samples(x)
            case Scatter():
                return [statement for k in range(len(x.pieces)) for statement in self._piece(x, k)]
            case SegmentReduce():
                return self._segments(x)
            case ScatterAdd():
                return self._scatter_add(x)
            case Accumulate():
                return self._accumulation(x)
            case Scan():
                return _Step(self.owner, x).loops_of_steps(self.phase)
            case _:
                raise AssertionError(x)

    def _over_samples(self, x: Contract | Reduce) -> list[Statement]:
        """A sum over the samples, and over members: blocks of results, each in lanes over the samples."""
        self.names = [self.owner.fresh("i") for _ in x.shape]
        inner, terms, kind = self._terms(x)
        if not inner and (loops := self._along_members(x, terms)) is not None:
            return loops
        name, total = self.owner.fresh("s"), self.owner.fresh("s")
        used: list[set[Name]] = [
            {index for index, _ in term.member.terms} if isinstance(term, Address) else set() for term in terms
        ]
        loads: list[Statement] = []
        outside: list[Statement] = []
        values: list[Name | float] = []
        for term in terms:
            if isinstance(term, Address):
                values.append(self.owner.fresh("l"))
                depends = term.buffer.batched or {index for index, _ in inner} & {i for i, _ in term.member.terms}
                (loads if depends else outside).append(Load(values[-1], term))  # type: ignore[arg-type]
            else:
                values.append(term)
        body = loads
        for index, extent in reversed(inner):
            body = [For(index, extent, tuple(body), (Carried(name, kind, tuple(values)),))]  # type: ignore[arg-type]
            values, kind, name = [name], "sum", self.owner.fresh("s")
        home = self.owner.homes[x.number]
        loop = For(SAMPLES, "samples", tuple(body), (Carried(total, kind, tuple(values)),), lanes=True)  # type: ignore[arg-type]
        result: list[Statement] = [*outside, loop, Store(home.address(self.names), total, True)]
        alone = (
            [
                [index for index in self.names if index in mine and index not in other]
                for mine, other in (used, used[::-1])
            ]
            if len(used) == 2
            else [self.names[-1:], []]
        )
        blocks = {**dict.fromkeys(alone[0][-1:], LEFT), **dict.fromkeys(alone[1][-1:], RIGHT)}
        order = [index for index in self.names if index not in blocks] + list(blocks)
        for index in reversed(order):
            extent = x.shape[self.names.index(index)]
            result = [For(index, extent, tuple(result), unroll=blocks.get(index, 1))]
        return result

    def _along_members(self, x: Contract | Reduce, terms: Sequence[Address | Name | float]) -> list[Statement] | None:
        """A sum over the samples in lanes over the members of an argument, which lie side by side, if they are many."""
        home = self.owner.homes[x.number]
        target = home.address(self.names)
        if len(terms) != 2 or any(not isinstance(t, Address) or t.table is not None for t in (*terms, target)):
            return None
        factors = cast(Sequence[Address], terms)
        for given, other in (factors, factors[::-1]):
            source = self.owner.as_given(given.buffer)
            if source is None or source.members > MANY:
                continue
            for along, extent in zip(self.names, x.shape, strict=True):
                side_by_side = given.member.stride(along) == target.member.stride(along) == 1
                if extent < FEW or not side_by_side or other.member.stride(along):
                    continue
                values, total = (self.owner.fresh("l"), self.owner.fresh("l")), self.owner.fresh("s")
                loads = (Load(values[0], Address(source, given.member)), Load(values[1], other))
                result: list[Statement] = [
                    For(SAMPLES, "samples", loads, (Carried(total, "dot", values),)),
                    Store(target, total, True),
                ]
                *outer, last = [None, *[name for name in self.names if name != along]]
                for name in filter(None, (last, along, *reversed(outer))):
                    unroll = VECTORS if name == along else MEMBERS if name == last else 1
                    size = x.shape[self.names.index(name)]
                    result = [For(name, size, tuple(result), lanes=name == along, unroll=unroll)]
                return result
        return None

    def _piece(self, x: Scatter, k: int) -> list[Statement]:
        """One value of a scatter that is not computed where it must be."""
        value, piece = x.values[k], x.pieces[k]
        home = self.owner.homes[x.number]
        moved = isinstance(value, Node) and value.number in self.owner.homes
        if moved and self.owner.homes[value.number].buffer is home.buffer:  # type: ignore[union-attr]
            return []
        nest = _Nest(self.owner, _Group(piece.map.shape, x.batched), set(), self.phase)
        number = nest.read(value)
        nest.store(home.part(piece.map).address(nest.names), number, (x.number, k) in self.owner.adding or home.adds)
        return nest.closed()

    def _accumulation(self, x: Accumulate) -> list[Statement]:
        """The states of a recurrence: each is stored, and read by the next step, or kept in a register between them."""
        home = self.owner.homes[x.number]

        def at(index: Map, names: Sequence[Name]) -> Address:
            return home.part(index).address(names)

        first = _Nest(self.owner, _Group(x.shape[1:], x.batched), set(), self.phase)
        first.store(at(x.end(last=False), first.names), first.read(x.start))
        nest = _Nest(self.owner, _Group((x.shape[0] - 1, *x.shape[1:]), x.batched), set(), self.phase)
        nest.in_order = True
        inputs = [nest.read(operand) for operand in x.inputs]
        state, following = self.owner.fresh("s"), self.owner.fresh("s")
        nest.levels[-1].append(Let(following, x.op, (*inputs[: x.place], state, *inputs[x.place :])))
        nest.store(at(x.rows(behind=True), nest.names), following)
        if len(nest.indices) == 1:
            start = first.read(x.start)
            nest.carried[0].append(Carried(self.owner.fresh("s"), "state", (following,), start, state))
        else:
            nest.levels[-1].insert(0, Load(state, at(x.rows(behind=False), nest.names)))
        loops = nest.closed()
        whole = next(s for s in loops if isinstance(s, For))
        loops[loops.index(whole)] = replace(whole, backward=x.backward)
        return [*first.closed(), *loops]

    def _segments(self, x: SegmentReduce) -> list[Statement]:
        """Sums, or extremes, of stretches: each number meets the result that it is a term of, in order."""
        home = self.owner.homes[x.number]
        nest = _Nest(self.owner, _Group((x.source.size,), x.batched), set(), self.phase)
        number = nest.read(x.source, nest.names)
        target = home.part(Map.of(x.segments())).address(nest.names)
        if x.kind == "sum":
            filled = [] if home.adds else _fill(home, x.batched)
            nest.store(target, number, True)
        else:
            filled = _fill(home, x.batched, _START[x.kind])
            before, name = self.owner.fresh("l"), self.owner.fresh("e")
            pair = ops.maximum if x.kind == "largest" else ops.minimum
            nest.levels[-1] += [Load(before, target), Let(name, pair, (before, number))]
            nest.store(target, name)
        statements = nest.closed()
        return [*filled, *[_in_order(s) for s in statements]]

    def _scatter_add(self, x: ScatterAdd) -> list[Statement]:
        """Each value is added to the member that its number chooses, point after point."""
        home = self.owner.homes[x.number]
        nest = _Nest(self.owner, _Group(x.index.shape, x.batched or x.batch), set(), self.phase)
        nest.lanes_inside = True  # members may be chosen twice
        some, address = nest._chosen(x, x)
        nest.store(address, nest._let(ops.where, some, nest.read(x.source), 0.0), adds=True)
        filled = home.adds or x.number in self.owner.over_samples
        return [*([] if filled else _fill(home, x.batched)), *nest.closed()]


class _Step(_Schedule):
    """The statements of one step of a scan: what it is given, and the state that it computes, are entries outside."""

    def __init__(self, outer: _Schedule, scan: Scan) -> None:
        super().__init__(scan.body, outer.dtype, outer.packs)
        self.outer, self.scan, self.step = outer, scan, outer.fresh("t")
        self.buffers = outer.buffers

    def loops_of_steps(self, phase: int) -> list[Statement]:
        """Return the loop over the steps, behind what puts its start."""
        scan, home = self.scan, self.outer.homes[self.scan.number]
        first = self._put(home.part(scan.end(last=False)), phase, scan.start)
        self.written()
        body = list(itertools.chain(*self.parts))
        leader = self.outer.leaders.get(scan.number)
        before: list[Statement] = []
        if leader is scan:
            before, body = self._until_idle(body, phase)
        elif leader is not None:
            before, body = self._along(leader, body, phase)
        elif scan.idle is not None:
            body = self._unless_idle(body, phase)
        return [*first, *before, For(self.step, scan.steps, tuple(body), backward=scan.backward)]

    def _put(self, where: _Home, phase: int, state: Node | None = None) -> list[Statement]:
        """Return what stores the last state, or another one, somewhere."""
        scan, copied = self.scan, self.fresh("l")
        nest = _Nest(self.outer, _Group(scan.shape[1:], scan.batched), set(), phase)
        if state is not None:
            nest.store(where.address(nest.names), nest.read(state))
            return nest.closed()
        whole = Map.whole(scan.shape[1:]).each(scan.steps, size_of(scan.shape[1:]))
        last = self.outer.member(scan, whole.after(scan.rows(behind=False)), (self.step, *nest.names))
        assert isinstance(last, Address)
        nest.levels[-1].append(Load(copied, last))
        nest.store(where.address(nest.names), copied)
        return nest.closed()

    def _number(self, name: str, scan: Scan) -> Address:
        """Where a number stands that says how far a scan is."""
        return Address(self.outer.buffer(f"{name}{self.outer.label(scan)}", "local", 1), Affine())

    def _if(self, mask: Name, what: Sequence[Statement]) -> For:
        return For(self.fresh("i"), 1, tuple(what), when=mask)

    def _is_idle(self) -> tuple[Name, list[Statement]]:
        """The name of a number that is 0 unless the step is idle in all samples of the tile, and what computes it."""
        assert self.scan.idle is not None
        slot, member = self.scan.idle
        (given,) = {x for x in self.scan.body.nodes if isinstance(x, Slot) and x.position == slot}
        lowest, flag = self.fresh("s"), self.fresh("l")
        address = self.member(given, Map((), member), ())
        assert isinstance(address, Address)
        if not address.buffer.batched:
            return lowest, [Load(lowest, address)]
        carried = Carried(lowest, "smallest", (flag,), _START["smallest"])
        return lowest, [For(SAMPLES, "samples", (Load(flag, address),), (carried,), lanes=True)]

    def _unless_idle(self, body: list[Statement], phase: int) -> list[Statement]:
        """Return a step that copies the last state where it is idle in all samples of the tile."""
        (lowest, asked), idle, busy = self._is_idle(), self.fresh("m"), self.fresh("m")
        asked += [Let(idle, ops.not_equal, (lowest, 0.0)), Let(busy, ops.equal, (lowest, 0.0))]
        return [*asked, self._if(busy, body), self._if(idle, self._put(self.target(0), phase))]

    def _until_idle(self, body: list[Statement], phase: int) -> tuple[list[Statement], list[Statement]]:
        """Return a step that counts those that are made, and does nothing behind the first that is idle in all samples.

        In that one the last state is put where the states end.
        """
        end = self.outer.homes[self.scan.number].part(self.scan.end(last=True))
        made, ended = self._number("made", self.scan), self._number("ended", self.scan)
        (lowest, asked), stopped = self._is_idle(), self.fresh("l")
        goes, idle, busy = (self.fresh("m") for _ in range(3))
        step: list[Statement] = [
            *asked,
            Let(idle, ops.not_equal, (lowest, 0.0)),
            Let(busy, ops.equal, (lowest, 0.0)),
            self._if(busy, [*body, Store(made, 1.0, adds=True)]),
            self._if(idle, [Store(ended, 1.0), *self._put(end, phase)]),
        ]
        asks: list[Statement] = [Load(stopped, ended), Let(goes, ops.equal, (stopped, 0.0))]
        return [Store(made, 0.0), Store(ended, 0.0)], [*asks, self._if(goes, step)]

    def _along(self, leader: Scan, body: list[Statement], phase: int) -> tuple[list[Statement], list[Statement]]:
        """Return a step that is made if the recurrence makes it whose states are read; the first other one copies."""
        scan = self.scan
        here, made = self._number("here", scan), self._number("made", leader)
        count, place = self.fresh("l"), self.fresh("l")
        busy, beside = self.fresh("m"), self.fresh("m")
        if scan.backward:
            other = self._put(self.target(0), phase, scan.start)
        else:
            other = self._put(self.outer.homes[scan.number].part(scan.end(last=True)), phase)
        step: list[Statement] = [
            Load(count, made),
            Load(place, here),
            Let(busy, ops.less, (place, count)),
            Let(beside, ops.equal, (place, count)),
            self._if(busy, body),
            self._if(beside, other),
            Store(here, -1.0 if scan.backward else 1.0, adds=True),
        ]
        return [Store(here, scan.steps - 1.0 if scan.backward else 0.0)], step

    def target(self, k: int) -> _Home:
        """Return where the new state is to be."""
        home = self.outer.homes[self.scan.number].part(self.scan.rows(behind=True))
        return replace(home, steps=(*home.steps, self.step))

    def member(self, x: Node, index: Map, names: Sequence[Name]) -> Address | Name:
        """Return what the members that a map reads of a node are at a point: an address, or the name of a number."""
        if not isinstance(x, Slot):
            return super().member(x, index, names)
        scan, k = self.scan, x.position - 1
        if k >= len(scan.inputs):
            return self.outer.member(scan.constants[k - len(scan.inputs)], index, names)
        each = index.each(scan.steps, x.size)
        if k < 0:
            return self.outer.member(scan, each.after(scan.rows(behind=False)), (self.step, *names))
        return self.outer.member(scan.inputs[k], each, (self.step, *names))

    def label(self, x: Node) -> str:
        """Return by what the names of a node are told from others."""
        return f"{self.outer.label(self.scan)}_{x.number}"

    def fresh(self, stem: str) -> Name:
        """Return a new name."""
        return self.outer.fresh(stem)


def _in_order(statement: Statement) -> Statement:
    """A loop over members with its iterations one after the other."""
    if isinstance(statement, For) and statement.extent != SAMPLES:
        return For(statement.index, statement.extent, statement.body, statement.carried)
    return statement


def _address(buffer: Buffer, index: Map, names: Sequence[Name]) -> Address:
    """The member of a buffer that a map reads at the point of these indices."""
    if index.table is None:
        terms = tuple((name, stride) for name, stride in zip(names, index.strides, strict=True) if stride)
        return Address(buffer, Affine(index.base, terms))
    strides = Map.whole(index.shape).strides
    terms = tuple((name, stride) for name, stride in zip(names, strides, strict=True) if stride)
    return Address(buffer, Affine(0, terms), index.table.ravel())


def _fill(home: _Home, batched: bool, number: float = 0.0) -> list[Statement]:
    """Loops that write a number wherever something is to be stored."""
    shape = home.map.shape[len(home.steps) :]
    names = [f"f{k}" for k in range(len(shape))]
    body: list[Statement] = [Store(home.address(names), number)]
    if batched:
        body = [For(SAMPLES, "samples", tuple(body), lanes=True)]
    for k in reversed(range(len(names))):
        long = not batched and k == len(names) - 1 and shape[k] >= SHORTEST
        body = [For(names[k], shape[k], tuple(body), lanes=long)]
    return body


def _root(x: Operand) -> Node | None:
    """The computed node of which an operand reads all members, each once and in order."""
    if isinstance(x, View) and x.map == Map.whole(x.shape) and x.source.size == x.size:
        x = x.source
    return x if isinstance(x, Node) and not isinstance(x, Leaf | View) else None


def size_of(shape: Shape) -> int:
    """Return the number of members of a shape."""
    return int(np.prod(shape, dtype=np.int64))


def _walk(statements: Sequence[Statement]) -> Iterator[Statement]:
    for statement in statements:
        yield statement
        if isinstance(statement, For):
            yield from _walk(statement.body)
