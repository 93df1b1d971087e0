"""From a loop program to LLVM's assembly: vectors along lanes, blocks of registers, addresses.

A loop that is unrolled is run in *blocks*: what its body computes is computed for all iterations of the block,
statement by statement, each with registers of its own. A block of a loop in lanes is one of vectors. So a value is as
many registers as the blocks have that it varies with, and no more: a weight that is the same for all samples is loaded
once for a block of them, and the sums of a block of 4 members and 3 vectors of samples are 12 registers, which the loop
over the terms carries. Nothing here knows of contractions.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar, cast

from numpy.typing import NDArray

from microgrid import ops
from microgrid.compiler.ir import MASKS, NUMBER
from microgrid.compiler.targets.native import rows
from microgrid.compiler.targets.native.assembly import Builder, DType, Function, Index, Module, Vector, index, pointer
from microgrid.compiler.targets.native.loop_ir import (
    COUNT,
    SAMPLES,
    WEIGHT,
    Address,
    Buffer,
    Carried,
    For,
    Let,
    Load,
    LoopProgram,
    Name,
    Operand,
    Pack,
    Statement,
    Store,
)
from microgrid.ops import Op

LINE = 64
"""Bytes of a line of the cache, to which every buffer of the workspace is aligned."""
LONGEST = 500
"""So many statements are one function: the time that LLVM takes for its registers grows faster than their number."""
LONG = 60
"""A body of so much work is written once, for whole vectors and for the rest: behind a mask."""
CHEAP = MASKS | {
    ops.add,
    ops.sub,
    ops.mul,
    ops.div,
    ops.neg,
    ops.sqrt,
    ops.relu,
    ops.maximum,
    ops.minimum,
    ops.where,
    NUMBER,
}
"""Rows that are one instruction or two; small powers are, too."""
SMALL_POWERS = (-1.0, 0.5, 2.0, 3.0)
PAIR = 2
"""So many registers of the processor a vector has where nothing but arithmetic is done: one waits, the other works."""
MOVES = 8
"""How many instructions there are for each load and store of a loop over samples that is worth two registers."""
DEAR = 15
"""How many instructions another row counts for."""

PHASES = "before", "tiles", "after"
"""The functions of a divided program."""

T = TypeVar("T")

IDENTITY = {"sum": 0.0, "dot": 0.0, "largest": float("-inf"), "smallest": float("inf")}


@dataclass(frozen=True, slots=True)
class Assembly:
    """LLVM's text of a loop program.

    Attributes:
        text: the module.
        workspace: how many numbers the caller's workspace must hold.
        statements: how many statements were written, each as often as its block has registers.
        places: where in the workspace each buffer begins.
        lasting: the stretches of the workspace that outlast a tile.
    """

    text: str
    workspace: int
    statements: int
    places: Mapping[Name, int]
    lasting: tuple[slice, ...]


def emit(
    program: LoopProgram,
    *,
    width: int,
    tile: int,
    arguments: int,
    outputs: int,
    name: str = "run",
    fused: bool = True,
    registers: int = 32,
    divided: bool = False,
) -> Assembly:
    """Return the function ``name(theta, seed, X…, out…, workspace, B)`` that runs a program.

    If it is divided there are three instead, ``name.before``, ``name.tiles`` and ``name.after``; the second takes
    the first sample and the end of those that it is about, besides.

    Args:
        program: whose names are each defined in one place.
        width: how many numbers of 64 bits a vector has; of 32 bits, twice as many.
        tile: how many samples are worked on at a time, a multiple of the lanes.
        arguments: how many arguments the function takes.
        outputs: how many outputs.
        name: what it is called.
        fused: whether the processor multiplies and adds in one.
        registers: how many vectors it holds.
        divided: whether its phases are functions of their own.
    """
    assembled = _Program(program, width, tile, arguments, outputs, name, fused, registers)
    return assembled.divided() if divided else assembled.emit()


@dataclass(frozen=True, slots=True)
class _Value:
    """The registers of a name, for each place in the blocks of the loops that it varies with, outermost first."""

    axes: tuple[Name, ...]
    registers: Mapping[tuple[int, ...], Vector]

    def at(self, place: Mapping[Name, int]) -> Vector:
        return self.registers[tuple([place[axis] for axis in self.axes])]


@dataclass(frozen=True, slots=True)
class _Block:
    """Iterations of a loop that are run together.

    Attributes:
        start: the first one.
        count: how many registers they take.
        lanes: how many iterations share one: the lanes of a vector, or 1.
        left: how many there are from the first one on, if they may be fewer than ``count · lanes``.
    """

    start: Index
    count: int = 1
    lanes: int = 1
    left: Index | None = None


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of a loop, from ``start`` to ``stop``, that is run in blocks of ``count`` registers.

    Attributes:
        end: where the iterations end, if the last block may be longer than what is left.
    """

    start: Index
    stop: Index
    count: int
    end: Index | None = None

    def is_one_block(self, lanes: int) -> bool:
        """Whether it is certainly a single block."""
        known = isinstance(self.start, int) and isinstance(self.stop, int)
        return known and 0 < self.stop - self.start <= self.count * lanes  # type: ignore[operator]


class _Program:
    """What the functions of a program share: parameters, tables, the workspace."""

    def __init__(
        self,
        program: LoopProgram,
        width: int,
        tile: int,
        arguments: int,
        outputs: int,
        name: str,
        fused: bool,
        registers: int,
    ) -> None:
        self.program, self.tile, self.name, self.fused = program, tile, name, fused
        self.longest_block = registers // 4  # so a block along two loops, its factors and the rest find room
        self.module = Module()
        self.tables: dict[tuple[str, bytes], Vector] = {}
        number = 8 if program.dtype == "float64" else 4
        self.width = width if width == 1 or number == 8 else 2 * width
        self.line = LINE // number
        self.pitch = (-(-tile // self.line) | 1) * self.line  # members of a sample fall into all sets of the cache
        self.workspace = 0
        self.places = {
            buffer.name: self.take(buffer.members * (self.pitch if buffer.batched else 1))
            for buffer in sorted(program.buffers, key=lambda buffer: buffer.batched)
            if buffer.role == "local"
        }
        lasting = [self.places[b.name] + b.members for b in program.buffers if b.role == "local" and not b.batched]
        self.lasting, self.slots_from = slice(0, max(lasting, default=0)), self.workspace
        self.parameters = ["ptr noalias readonly %theta", "ptr noalias readonly %seed"]
        self.parameters += [f"ptr noalias readonly %X{k}" for k in range(arguments)]
        self.parameters += [f"ptr noalias %out{k}" for k in range(outputs)]
        self.parameters += ["ptr noalias %workspace", "i64 %B"]
        self.parts = [_side_by_side(_outside(part)) for part in (program.before, program.tile, program.after)]
        self.varies = _varies(itertools.chain(*self.parts))
        self.slots: dict[Name, tuple[int, bool]] = {}
        self.statements = 0

    def take(self, numbers: int) -> int:
        """Return the place of so many numbers in the workspace, at the begin of a line."""
        place = self.workspace
        self.workspace += -(-numbers // self.line) * self.line
        return place

    def table(self, element: str, numbers: NDArray[Any]) -> Vector:
        """Return a pointer to constants, written once."""
        key = element, numbers.tobytes()
        if key not in self.tables:
            self.tables[key] = self.module.table(element, numbers.ravel().tolist())
        return self.tables[key]

    def emit(self) -> Assembly:
        main = _Body(self, Function(self.module, self.name, self.parameters))
        before, tile, after = self.chunks()
        self.write(main, before)
        self.write_tiles(main, tile, 0, index("%B"))
        self.write(main, after)
        return self.finished(main)

    def divided(self) -> Assembly:
        before, tile, after = self.chunks()
        first, stop = index("%first"), index("%stop")
        for phase, chunks in zip(PHASES, (before, tile, after), strict=True):
            more = [str(first), str(stop)] if chunks is tile else []
            main = _Body(self, Function(self.module, f"{self.name}.{phase}", self.parameters + more))
            if chunks is tile:
                self.write_tiles(main, tile, first, stop)
            else:
                self.write(main, chunks)
            assembly = self.finished(main)
        return assembly

    def chunks(self) -> list[list[list[Statement]]]:
        """Return the phases, each as stretches that may be functions."""
        chunks = [list(_chunks(part)) for part in self.parts]
        self.shared = _shared([chunk for part in chunks for chunk in part])
        return chunks

    def finished(self, main: "_Body") -> Assembly:
        main.function.finish()
        lasting = self.lasting, slice(self.slots_from, self.workspace)
        return Assembly(self.module.text(), self.workspace, self.statements, self.places, lasting)

    def write_tiles(self, main: "_Body", chunks: Sequence[Sequence[Statement]], first: Index, stop: Vector) -> None:
        """Write the loop over the tiles."""
        if chunks:
            with main.function.loop(first, stop, self.tile) as loop, main.scope():
                main.enter_tile(loop.index, stop)
                self.write(main, chunks)
            main.first = None

    def write(self, main: "_Body", chunks: Sequence[Sequence[Statement]]) -> None:
        """Write a part of the program, of which each chunk is a function if there are several."""
        if len(chunks) <= 1:
            for chunk in chunks:
                main.chunk(chunk)
            return
        for chunk in chunks:
            name = f"{self.name}.{len(self.module.functions)}"
            passed = [x.replace(" noalias", "").replace(" readonly", "") for x in self.parameters]
            if main.first is None:
                body = _Body(self, Function(self.module, name, self.parameters))
            else:
                first, stop = index("%first"), index("%stop")
                body = _Body(self, Function(self.module, name, [*self.parameters, str(first), str(stop)]))
                body.enter_tile(first, stop)
                passed += [str(main.first), str(main.stop)]
            body.chunk(chunk)
            body.function.finish(attributes="noinline nounwind", linkage="internal ")
            main.function.emit(f"call void @{name}({', '.join(passed)})")


class _Body:
    """One function: statements in the order in which they run."""

    def __init__(self, program: _Program, function: Function) -> None:
        self.program, self.function = program, function
        dtype = program.program.dtype
        self.scalars = Builder(function, 1, cast(DType, dtype), fused=program.fused)
        self.vectors = self.scalars.of(width=program.width)
        self.names: dict[Name, _Value] = {}
        self.blocks: dict[Name, _Block] = {}  # of the loops around, the outermost first
        self.lanes: Name = ""  # the loop around that is run in lanes, if any is
        self.scopes: list[dict[object, Any]] = [{}]
        self.first: Vector | None = None  # sample of the tile
        self.stop = index("%B")

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What is written once within these lines is forgotten behind them, where it is not at hand."""
        self.scopes.append({})
        yield
        self.scopes.pop()

    def once(self, key: object, write: Callable[[], T]) -> T:
        """Return what was written under a key here or further out; else write it."""
        for scope in self.scopes:
            if key in scope:
                return cast(T, scope[key])
        self.scopes[-1][key] = written = write()
        return written

    def enter_tile(self, first: Vector, stop: Vector) -> None:
        """Begin with the tile whose first sample is given, and where the samples end."""
        f, tile = self.function, self.program.tile
        self.first, self.stop = first, stop
        left = f.let(first, f"sub nsw i64 {stop.text}, {first.text}")
        whole = f.let(Vector("", "mask"), f"icmp slt i64 {left.text}, {tile}")
        self.size = f.let(first, f"select {whole}, {left}, i64 {tile}")

    def chunk(self, statements: Sequence[Statement]) -> None:
        """Write statements, and what they compute for others into the workspace."""
        self.do(statements)
        for name in [x for s in statements for x in _defined(s) if x in self.program.shared]:
            place = self.program.take(1)
            self.program.slots[name] = place, self.names[name].at({}).kind == "mask"
            self.scalars.store(self.number(name, {}, self.scalars), pointer("%workspace"), place)

    def do(self, statements: Sequence[Statement]) -> None:
        """Write statements."""
        for statement in statements:
            match statement:
                case Load(name, address):
                    self.define(name, lambda place, address=address: self.load(address, place))  # type: ignore[misc]
                case Let(name, op, operands):
                    builder = self.builder(self.program.varies[name])
                    self.define(
                        name,
                        lambda place, op=op, operands=operands, builder=builder: rows.lower(  # type: ignore[misc]
                            builder, op, [self.operand(x, place, builder) for x in operands]
                        ),
                    )
                case Store():
                    self.store(statement)
                case Pack(source, target):
                    self.pack(source, target)
                case For():
                    self.loop(statement)

    # -- values ------------------------------------------------------------------------------------

    def axes(self, varies: frozenset[Name]) -> tuple[Name, ...]:
        """The blocks along which there are several registers, or vectors, of what varies with these indices."""
        return tuple([i for i, b in self.blocks.items() if i in varies and (b.count > 1 or b.lanes > 1)])

    def places(self, axes: Sequence[Name]) -> Iterator[dict[Name, int]]:
        """The places of the registers along these axes."""
        for place in itertools.product(*[range(self.blocks[axis].count) for axis in axes]):
            yield dict(zip(axes, place, strict=True))

    def builder(self, varies: frozenset[Name]) -> Builder:
        """What computes numbers that vary with these indices: vectors, or scalars."""
        return self.vectors if self.lanes in varies else self.scalars

    def define(self, name: Name, register: Callable[[dict[Name, int]], Vector]) -> None:
        """Write the registers of a name."""
        axes = self.axes(self.program.varies[name])
        registers = {tuple(place.values()): register(place) for place in self.places(axes)}
        self.names[name] = _Value(axes, registers)
        self.program.statements += len(registers)

    def operand(self, x: Operand, place: Mapping[Name, int], builder: Builder) -> Vector:
        """Return an operand at a place, in all lanes."""
        if not isinstance(x, str):
            return builder.number(x)
        value = self.names[x].at(place) if x in self.names else self.once(("given", x), lambda: self.given(x))
        return self.spread(value, builder)

    def number(self, x: Operand, place: Mapping[Name, int], builder: Builder) -> Vector:
        """Return an operand at a place in all lanes, a mask as the numbers 0 and 1."""
        value = self.operand(x, place, builder)
        return builder.as_number(value) if value.kind == "mask" else value

    def given(self, x: Name) -> Vector:
        """Return a number that another function has computed, or one that every program finds."""
        one = self.scalars
        if x in (COUNT, WEIGHT):
            count = self.function.let(one.like, f"sitofp i64 %B to {one.like.type}")
            return count if x == COUNT else one.div(one.number(1.0), count)
        place, is_mask = self.program.slots[x]
        value = one.load_scalar(pointer("%workspace"), place)
        return one.compare("!=", value, one.number(0.0)) if is_mask else value

    def spread(self, x: Vector, builder: Builder) -> Vector:
        """Return a register with as many lanes as the builder has."""
        return x if x.width == builder.width else self.once(("spread", x.text, builder.width), lambda: builder.splat(x))

    # -- addresses ---------------------------------------------------------------------------------

    def strides(self, buffer: Buffer) -> tuple[Vector, int, Index, int]:
        """Return where a buffer begins: behind a pointer; and by how much a place grows with members and samples."""
        match buffer.role:
            case "local":
                start = self.program.places[buffer.name]
                return pointer("%workspace"), start, self.program.pitch if buffer.batched else 1, 1
            case "constant":
                assert buffer.values is not None
                return self.program.table(self.scalars.like.type, buffer.values), 0, 1, 0
            case "theta" | "seed":
                begin = pointer(f"%{buffer.role}")
            case _:
                begin = pointer(f"%{'X' if buffer.role == 'argument' else 'out'}{buffer.position}")
        if not buffer.batched:
            return begin, 0, 1, 0
        of_argument = buffer.role == "argument"
        samples = buffer.members if of_argument else 1
        return self.in_tile(begin, samples), 0, 1 if of_argument else index("%B"), samples

    def in_tile(self, begin: Vector, samples: int) -> Vector:
        """Return a pointer to the first sample of the tile."""
        f, first = self.function, self.first
        assert first is not None
        return self.once(("tile", begin.text), lambda: f.at(begin, f.times(first, samples), self.scalars.like.type))

    def affine(
        self, terms: Sequence[tuple[Name, int]], base: int, place: Mapping[Name, int], lane: Index | None
    ) -> tuple[Index, int]:
        """Return ``base + Σ stride · index`` as a sum of what is computed and what is known.

        Args:
            terms: indices and their strides.
            base: what is added.
            place: which register of each block.
            lane: which iteration of the block in lanes, if not the first one of a register.
        """
        sum_: Index = 0
        for name, block in self.blocks.items():  # the outermost first: what does not change in a loop leaves it
            stride = sum(stride for other, stride in terms if other == name)
            step = place.get(name, 0) * block.lanes if lane is None or name != self.lanes else lane
            for part in (block.start, step):
                if isinstance(part, int):
                    base += stride * part
                elif stride:
                    sum_ = self.plus(sum_, self.times(part, stride))
        return sum_, base

    def plus(self, a: Index, b: Index) -> Index:
        """Return the sum of two indices, written once."""
        return self.once(("+", _key(a), _key(b)), lambda: self.function.plus(a, b))

    def times(self, a: Index, b: Index) -> Index:
        """Return the product of two indices, written once."""
        return self.once(("*", _key(a), _key(b)), lambda: self.function.times(a, b))

    def varies(self, address: Address) -> frozenset[Name]:
        """With which indices of the loops around an address changes."""
        return _indices(address).union(*[self.program.varies[x] for x in _chosen(address)])

    def chosen(self, address: Address, place: Mapping[Name, int]) -> list[Index]:
        """Return how far a number that chooses moves an address, in each lane."""
        if address.chosen is None:
            return [0] * self.vectors.width
        name, stride = address.chosen
        x = self.operand(name, place, self.builder(self.program.varies[name]))
        numbers = [self.vectors.lane(x, k) for k in range(x.width)] if x.width > 1 else [x] * self.vectors.width
        return [self.times(self.once(("whole", n.text), partial(self.whole, n)), stride) for n in numbers]

    def whole(self, x: Vector) -> Vector:
        """Return a number that is whole as an integer."""
        return self.function.let(index(""), f"fptosi {x} to i64")

    def locate(
        self, address: Address, place: Mapping[Name, int], lane: Index | None = None, chosen: Index = 0
    ) -> tuple[Vector, int]:
        """Return a pointer and how many numbers behind it an address is; ``chosen``: what it is moved by."""
        member = address.member
        begin, base, members, samples = self.strides(address.buffer)
        over_samples = [(SAMPLES, samples)] * address.buffer.batched
        if address.table is None and isinstance(members, int):
            terms = [(name, stride * members) for name, stride in member.terms] + over_samples
            moving, base = self.affine(terms, base + member.base * members, place, lane)
            moving = self.plus(moving, self.times(chosen, members))
        else:
            which = self.plus(self.plus(*self.affine(member.terms, member.base, place, lane)), chosen)
            if address.table is not None:
                table = self.program.table("i32", address.table)
                entry = which
                which = self.once((table.text, _key(entry)), lambda: self.function.load_index(table, entry, 32))
            moving, base = self.affine(over_samples, base, place, lane)
            moving = self.plus(self.times(which, members), moving)
        if any(stride < 0 for _, stride in member.terms):  # no pointer outside of the buffer on the way
            moving, base = self.plus(moving, base), 0
        where = self.once(
            ("at", begin.text, _key(moving)), lambda: self.function.at(begin, moving, self.scalars.like.type)
        )
        return where, base

    def step(self, address: Address) -> int | None:
        """By how much an address grows from lane to lane, if that is the same for all."""
        _, _, members, samples = self.strides(address.buffer)
        stride = address.member.stride(self.lanes)
        if stride and (address.table is not None or not isinstance(members, int)):
            return None
        if address.chosen is not None and self.lanes in self.program.varies[address.chosen[0]]:
            return None
        over_samples = samples if address.buffer.batched and self.lanes == SAMPLES else 0
        return over_samples + (stride * members if isinstance(members, int) else 0)

    # -- lanes -------------------------------------------------------------------------------------

    def left(self, k: int) -> Index | None:
        """How many iterations are left for vector ``k`` of the block in lanes, if they may be fewer than its lanes."""
        block = self.blocks[self.lanes]
        if block.left is None or (isinstance(block.left, int) and block.left >= (k + 1) * block.lanes):
            return None
        return self.plus(block.left, -k * block.lanes)

    def mask(self, k: int) -> Vector | None:
        """Which lanes of vector ``k`` of the block are iterations of the loop; None if all are."""
        left = self.left(k)
        return None if left is None else self.once(("mask", k), lambda: self.vectors.first(left))

    def mask_of(self, buffer: Buffer, k: int, stores: bool) -> Vector | None:
        """Which lanes of vector ``k`` may be read, or written; None if all may."""
        if not self.padded(buffer):
            return self.mask(k)
        if k == 0 or not stores or (left := self.left(k)) is None:
            return None
        some = self.function.let(Vector("", "mask"), f"icmp sgt i64 {_key(left)}, 0")
        return self.once(("some", k), lambda: self.vectors.splat(some))

    def padded(self, buffer: Buffer) -> bool:
        """Whether there is room for a whole vector behind the last sample."""
        one = self.vectors.width == self.program.width
        return buffer.role == "local" and buffer.batched and self.lanes == SAMPLES and one

    def iterations(self, k: int) -> list[Index]:
        """Which iterations of the block the lanes of vector ``k`` are; the last one again where there are no more."""
        lanes = range(k * self.vectors.width, (k + 1) * self.vectors.width)
        if self.left(k) is None:
            return list(lanes)
        last = self.plus(self.blocks[self.lanes].left or 0, -1)
        if isinstance(last, int):
            return [min(lane, last) for lane in lanes]
        return self.once(("iterations", k), lambda: [self.smaller(last, lane) for lane in lanes])

    def smaller(self, a: Vector, b: Index) -> Vector:
        """Return the smaller of two integers."""
        less = self.function.let(Vector("", "mask"), f"icmp slt {a}, {_key(b)}")
        return self.function.let(a, f"select {less}, {a}, i64 {_key(b)}")

    # -- memory ------------------------------------------------------------------------------------

    def load(self, address: Address, place: Mapping[Name, int]) -> Vector:
        """Read the numbers at an address."""
        moves = self.chosen(address, place)
        if self.lanes not in self.varies(address):
            return self.scalars.load_scalar(*self.locate(address, place, chosen=moves[0]))
        k = place[self.lanes]
        if self.step(address) == 1:
            where = self.locate(address, place, chosen=moves[0])
            return self.vectors.load(*where, self.mask_of(address.buffer, k, False))
        places = [self.locate(address, place, lane, move) for lane, move in zip(self.iterations(k), moves, strict=True)]
        return self.vectors.vector([self.scalars.load_scalar(*where) for where in places])

    def store(self, statement: Store) -> None:
        """Write numbers to an address, or add them to what stands there."""
        address, x, adds = statement.address, statement.value, statement.adds
        varies = self.varies(address) | (self.program.varies[x] if isinstance(x, str) else frozenset())
        if adds:  # every iteration does, though it be the same
            varies = frozenset(self.blocks)
        builder = self.builder(varies)
        for place in self.places(self.axes(varies)):
            value = self.number(x, place, builder)
            move = self.chosen(address, place)[0]
            if builder is self.scalars:
                self.write(builder, value, *self.locate(address, place, chosen=move), None, adds)
            elif self.step(address) == 1:
                mask = self.mask_of(address.buffer, place[self.lanes], True)
                self.write(builder, value, *self.locate(address, place, chosen=move), mask, adds)
            else:
                self.scatter(value, address, place, adds)
            self.program.statements += 1

    def write(self, builder: Builder, value: Vector, where: Vector, base: int, mask: Vector | None, adds: bool) -> None:
        """Write numbers that stand side by side, or add them to what stands there."""
        if adds:
            value = builder.add(builder.load(where, base, mask), value)
        builder.store(value, where, base, mask)

    def scatter(self, value: Vector, address: Address, place: Mapping[Name, int], adds: bool) -> None:
        """Write lane after lane, as several of them may have the same address."""
        k = place[self.lanes]
        mask = self.mask(k)
        left, moves = self.left(k), self.chosen(address, place)
        for lane, iteration in enumerate(self.iterations(k)):
            if isinstance(left, int) and lane >= left:
                break
            where = self.locate(address, place, iteration, moves[lane])
            number = self.vectors.lane(value, lane)
            if mask is None or isinstance(left, int):
                self.write(self.scalars, number, *where, None, adds)
            else:
                self.write(self.scalars, number, *where, self.vectors.lane(mask, lane), adds)

    def pack(self, source: Buffer, target: Buffer) -> None:
        """Transpose squares of samples and members; behind the last sample stands it again, which is no odd number."""
        f, v, members = self.function, self.vectors, source.members
        begin = self.in_tile(pointer(f"%X{source.position}"), members)
        packed, pitch, width = self.program.places[target.name], self.program.pitch, self.program.width
        last = f.let(self.size, f"sub nsw i64 {self.size.text}, 1")
        with f.loop(0, self.size, width) as over_samples:
            z = over_samples.index
            rows_ = [f.times(self.smaller(last, f.plus(z, k)), members) for k in range(width)]

            def square(member: Index, count: int) -> None:
                mask = v.first(count) if count < width else None
                columns = self.transposed([v.load(begin, f.plus(row, member), mask) for row in rows_])
                for k, column in enumerate(columns[:count]):
                    place = f.plus(f.times(f.plus(member, k), pitch), f.plus(z, packed))
                    v.store(column, pointer("%workspace"), place)

            whole = members - members % width
            with f.loop(0, whole, width) as over_members:
                square(over_members.index, width)
            if whole < members:
                square(whole, members - whole)

    def transposed(self, rows: Sequence[Vector]) -> list[Vector]:
        """The columns of a square matrix of these rows: blocks of 1, 2, 4 … beside the diagonal change places."""
        columns, width = list(rows), len(rows)
        block = 1
        while block < width:
            for k in range(width):
                if not k & block:
                    a, b = columns[k], columns[k | block]
                    upper = [j if not j & block else width + (j ^ block) for j in range(width)]
                    lower = [j | block if not j & block else width + j for j in range(width)]
                    columns[k], columns[k | block] = (
                        self.vectors.shuffle(a, b, upper),
                        self.vectors.shuffle(a, b, lower),
                    )
            block *= 2
        return columns

    # -- loops -------------------------------------------------------------------------------------

    def loop(self, loop: For) -> None:
        """Write a loop, piece by piece, and what it carries through all of them."""
        f, own = self.function, loop.index
        if loop.when:
            with f.only_if(self.names[loop.when].at({})), self.scope():
                self.loop(replace(loop, when=""))
            return
        extent: Index = loop.extent if isinstance(loop.extent, int) else self.size
        in_order = (not loop.lanes and loop.unroll == 1) or any(x.kind == "state" for x in loop.carried)
        lanes = self.program.width if loop.lanes and not self.lanes and not in_order else 1
        if lanes > 1:
            lanes *= PAIR if self.is_plain(loop) else 1
            self.lanes, self.vectors = own, self.scalars.of(width=lanes)
        totals: list[dict[tuple[int, ...], Vector]] = [{} for _ in loop.carried]
        for piece in [_Piece(0, extent, 1)] if in_order else self.pieces(loop, extent, lanes):
            self.blocks[own] = _Block(0, piece.count, lanes)
            axes = [
                self.axes(self.program.varies[x.name] | ({own} if x.kind != "state" else frozenset()))
                for x in loop.carried
            ]
            carried = [
                [self.start(x, place, own, total) for place in self.places(along)]
                for x, along, total in zip(loop.carried, axes, totals, strict=True)
            ]
            if piece.is_one_block(lanes):
                self.enter(own, piece, piece.start)
                carried = self.iteration(loop, axes, carried)
            else:
                start, stop, step = piece.start, piece.stop, piece.count * lanes
                if in_order and loop.backward:
                    start, stop, step = f.plus(extent, -1), -1, -1
                with f.loop(start, stop, step, list(itertools.chain(*carried))) as written:
                    self.enter(own, piece, written.index)
                    following = self.iteration(loop, axes, _like(carried, written.carried))
                    written.following = tuple(itertools.chain(*following))
                carried = _like(carried, written.carried)
            totals = [
                self.total(x, own, along, registers)
                for x, along, registers in zip(loop.carried, axes, carried, strict=True)
            ]
            del self.blocks[own]
        if lanes > 1:
            self.lanes = ""
            totals = [self.across(x.kind, total) for x, total in zip(loop.carried, totals, strict=True)]
            self.vectors = self.scalars.of(width=self.program.width)
        for x, total in zip(loop.carried, totals, strict=True):
            self.names[x.name] = _Value(self.axes(self.program.varies[x.name]), total)

    def is_plain(self, loop: For) -> bool:
        """Whether a loop in lanes does but arithmetic at each point, of which several registers are not too many."""
        inside = loop.unroll > 1 or any(isinstance(s, For) for s in loop.body)
        double = self.program.program.dtype == "float64"
        return double and not inside and outweighs(loop) and all(block.count == 1 for block in self.blocks.values())

    def enter(self, own: Name, piece: _Piece, start: Index) -> None:
        """Begin a block of a piece."""
        left = None if piece.end is None else self.function.plus(piece.end, self.function.times(start, -1))
        self.blocks[own] = replace(self.blocks[own], start=start, left=left)

    def pieces(self, loop: For, extent: Index, lanes: int) -> list[_Piece]:
        """Divide a loop into whole blocks and the rest, which is behind a mask if that makes a difference."""
        count = min(loop.unroll, self.program.longest_block)
        step = count * lanes
        once = lanes > 1 and _work(loop.body) > LONG
        if isinstance(extent, int):
            whole = extent - extent % step
            if once and 0 < whole < extent:
                return [_Piece(0, extent, count, extent)]
            rest = -(-(extent - whole) // lanes)
            first = [_Piece(0, whole, count)] * (whole > 0 or not rest)
            return first + [_Piece(whole, extent, rest, extent)] * (rest > 0)
        masked = lanes > 1 and (bool(loop.carried) or any(map(self.is_narrow, _walk(loop.body))))
        if once or (count == 1 and not masked):
            return [_Piece(0, extent, count, extent if masked or count > 1 else None)]
        rest_of = self.once(("rest", step), lambda: self.function.let(extent, f"urem {extent}, {step}"))
        whole_of = self.plus(extent, self.times(rest_of, -1))
        return [_Piece(0, whole_of, count), _Piece(whole_of, extent, 1, extent if masked else None)]

    def is_narrow(self, statement: Statement) -> bool:
        """Whether a statement may only touch the numbers of lanes that are iterations."""
        match statement:
            case Load(_, address):
                return self.lanes in _indices(address) and not self.padded(address.buffer)
            case Store(address):
                return not self.padded(address.buffer)
        return False

    def start(
        self, x: Carried, place: Mapping[Name, int], own: Name, total: Mapping[tuple[int, ...], Vector]
    ) -> Vector:
        """Return what a loop carries into a piece: its start, or what the piece before left in the first registers."""
        builder = self.builder(frozenset(place))
        if x.kind == "state":
            return self.number(x.start, place, builder)
        if total and place.get(own, 0) == 0:
            return total[_outside_of(own, place)]
        return builder.number(IDENTITY[x.kind])

    def iteration(
        self, loop: For, axes: Sequence[tuple[Name, ...]], carried: Sequence[Sequence[Vector]]
    ) -> list[list[Vector]]:
        """Write a block of iterations, and return what is carried to the next one."""
        with self.scope():
            for x, along, registers in zip(loop.carried, axes, carried, strict=True):
                if x.kind == "state":
                    places = [tuple(place.values()) for place in self.places(along)]
                    self.names[x.before] = _Value(along, dict(zip(places, registers, strict=True)))
            self.do(loop.body)
            return [
                [self.next(x, place, loop.index, y) for place, y in zip(self.places(along), registers, strict=True)]
                for x, along, registers in zip(loop.carried, axes, carried, strict=True)
            ]

    def next(self, x: Carried, place: Mapping[Name, int], own: Name, carried: Vector) -> Vector:
        """Return what follows on a carried register; itself in lanes that are no iterations."""
        builder = self.builder(frozenset(place))
        values = [self.number(value, place, builder) for value in x.values]
        if x.kind == "state":
            return values[0]
        met = builder.fma(values[0], values[1], carried) if x.kind == "dot" else self.meet(x.kind, carried, values[0])
        mask = self.mask(place[own]) if own == self.lanes else None
        return met if mask is None else builder.select(mask, met, carried)

    def meet(self, kind: str, a: Vector, b: Vector) -> Vector:
        """Return two parts of a reduction as one."""
        of = self.scalars  # which writes what the vectors' builder does: it goes by its operands
        return {"largest": of.maximum, "smallest": of.minimum}.get(kind, of.add)(a, b)

    def total(
        self, x: Carried, own: Name, along: Sequence[Name], carried: Sequence[Vector]
    ) -> dict[tuple[int, ...], Vector]:
        """Return the parts of a reduction in the registers of its own block as one: by halves, for each other place."""
        parts: dict[tuple[int, ...], list[Vector]] = {}
        for place, register in zip(self.places(along), carried, strict=True):
            parts.setdefault(_outside_of(own, place), []).append(register)
        for registers in parts.values():
            while len(registers) > 1:
                a, b, *rest = registers
                registers[:] = [*rest, self.meet(x.kind, a, b)]
        return {place: register for place, (register,) in parts.items()}

    def across(self, kind: str, total: Mapping[tuple[int, ...], Vector]) -> dict[tuple[int, ...], Vector]:
        """Return the lanes of each vector as one scalar, by halves: of as many vectors at a time as there are lanes."""
        v, xs, width = self.vectors, list(total.values()), self.vectors.width
        scalars: list[Vector] = []
        for k in range(0, len(xs), width):
            group, lanes = xs[k : k + width], width
            count = len(group)
            while len(group) & (len(group) - 1):
                group.append(group[-1])
            while len(group) > 1:  # two vectors as one, whose lanes are the halves that have met
                first = [j for j in range(width) if j % lanes < lanes // 2]
                group = [
                    self.meet(kind, *[v.shuffle(a, b, [*half, *[width + j for j in half]]) for half in halves])
                    for a, b in zip(group[::2], group[1::2], strict=True)
                    for halves in [(first, [j + lanes // 2 for j in first])]
                ]
                lanes //= 2
            (x,) = group
            while lanes > 1 and count > 1:
                first = [j for j in range(x.width) if j % lanes < lanes // 2]
                x = self.meet(kind, v.shuffle(x, x, first), v.shuffle(x, x, [j + lanes // 2 for j in first]))
                lanes //= 2
            scalars += [v.lane(x, j) for j in range(count)] if count > 1 else [v.reduced(x, partial(self.meet, kind))]
        return dict(zip(total, scalars, strict=True))


def outweighs(loop: For) -> bool:
    """Whether arithmetic outweighs loads and stores, so that a second register is worth it.

    At a few samples it works for nothing; and a tile has room behind the last sample for one register, so that loads
    and stores of two take masks.
    """
    moves = sum(isinstance(x, Load | Store) for x in loop.body)
    return loop.extent != SAMPLES or _work(loop.body) >= MOVES * moves


def is_cheap(op: Op) -> bool:
    """Whether a row is one instruction or two."""
    return op in CHEAP or (op.recipe is not None and op.recipe[0] is ops.power_of and op.recipe[1][0] in SMALL_POWERS)


# -- what is known of statements before they are written -----------------------------------------------


def _walk(statements: Sequence[Statement]) -> Iterator[Statement]:
    """Yield every statement, a loop before its body."""
    for statement in statements:
        yield statement
        if isinstance(statement, For):
            yield from _walk(statement.body)


def _indices(address: Address) -> frozenset[Name]:
    """The indices with which an address changes."""
    names = [name for name, stride in address.member.terms if stride]
    return frozenset([*names, SAMPLES] if address.buffer.batched else names)


def _chosen(address: Address) -> list[Name]:
    """The number that chooses a member."""
    return [] if address.chosen is None else [address.chosen[0]]


def _defined(statement: Statement) -> list[Name]:
    """The names that are known behind a statement."""
    match statement:
        case Load(name) | Let(name):
            return [name]
        case For():
            return [x.name for x in statement.carried]
    return []


def _operands(statement: Statement) -> Iterator[Name]:
    """The names that a statement itself reads."""
    operands: Iterable[Operand] = ()
    match statement:
        case Let():
            operands = statement.operands
        case Load():
            operands = _chosen(statement.address)
        case Store():
            operands = (statement.value, *_chosen(statement.address))
        case For():
            operands = (statement.when, *itertools.chain(*[(*x.values, x.start) for x in statement.carried]))
    return (x for x in operands if isinstance(x, str) and x)


def _outside(statements: Sequence[Statement]) -> list[Statement]:
    """Move what is the same in all iterations of a loop in front of it: out of as many as it is."""
    result: list[Statement] = []
    for statement in statements:
        if not isinstance(statement, For):
            result.append(statement)
            continue
        body = _outside(statement.body)
        changes = {statement.index, *[x.before for x in statement.carried]}
        inside: list[Statement] = []
        written = {x.address.buffer.name for x in _walk(body) if isinstance(x, Store)}
        for x in body:
            match x:
                case Load(_, address):
                    moves = _indices(address).union(_chosen(address))
                    stays = address.buffer.name in written or not changes.isdisjoint(moves)
                case Let():
                    stays = not changes.isdisjoint(_operands(x))
                case _:
                    stays = True
            stays = stays or bool(statement.when)
            (inside if stays or statement.extent == 0 else result).append(x)
            if stays:
                changes.update(_defined(x))
        result.append(replace(statement, body=tuple(inside)))
    return result


def _side_by_side(statements: Sequence[Statement]) -> list[Statement]:
    """Order the statements of each innermost loop by how many functions they wait for, loads by what reads them.

    A function takes a hundred cycles from its argument to its result, and a processor looks some hundred instructions
    ahead: so the next ones should be of others, that do not wait for it.
    """
    stored = {x.address.buffer.name for x in statements if isinstance(x, Store)}
    if any(isinstance(x, For | Pack) or (isinstance(x, Load) and x.address.buffer.name in stored) for x in statements):
        return [replace(x, body=tuple(_side_by_side(x.body))) if isinstance(x, For) else x for x in statements]
    behind: dict[Name, int] = {}  # how many functions, one after the other, a name is the result of
    keys: dict[int, tuple[int, bool]] = {}
    last = 0, False  # store; they stay in order
    readers: dict[Name, tuple[int, bool]] = {}
    for k, x in enumerate(statements):
        waits = max((behind.get(operand, 0) for operand in _operands(x)), default=0)
        is_function = isinstance(x, Let) and not is_cheap(x.op)
        keys[k] = waits, is_function
        if isinstance(x, Store):
            keys[k] = last = max(last, keys[k])
        for name in _defined(x):
            behind[name] = waits + is_function
        for operand in _operands(x):
            readers[operand] = min(readers.get(operand, keys[k]), keys[k])
    for k, x in enumerate(statements):
        if isinstance(x, Load):
            keys[k] = readers.get(x.name, keys[k])[0], False
    return [statements[k] for k in sorted(keys, key=keys.__getitem__)]


def _varies(
    statements: Iterable[Statement], known: dict[Name, frozenset[Name]] | None = None
) -> dict[Name, frozenset[Name]]:
    """With which indices of the loops around it each name changes; added to those that are known."""
    known = {COUNT: frozenset(), WEIGHT: frozenset()} if known is None else known

    def of(*operands: Operand) -> frozenset[Name]:
        return frozenset[Name]().union(*[known[x] for x in operands if isinstance(x, str)])

    for statement in statements:
        match statement:
            case Load(name, address):
                known[name] = _indices(address) | of(*_chosen(address))
            case Let(name, _, operands):
                known[name] = of(*operands)
            case For():
                states = [x for x in statement.carried if x.kind == "state"]
                before = {x.before: of(x.start) for x in states}
                while any(known.get(name) != indices for name, indices in before.items()):
                    known.update(before)
                    _varies(statement.body, known)
                    before = {x.before: known[x.before] | of(x.values[0]) for x in states}
                if not states:
                    _varies(statement.body, known)
                for x in statement.carried:
                    known[x.name] = of(*x.values, x.start) - {statement.index}
    return known


def _work(statements: Sequence[Statement]) -> int:
    """About how many instructions statements are."""
    lets = [x for x in _walk(statements) if isinstance(x, Let)]
    return len(lets) + DEAR * sum(not is_cheap(x.op) for x in lets)


def _size(statement: Statement) -> int:
    """About how many statements one is, with those of all registers of its blocks."""
    return sum(map(_size, statement.body)) * statement.unroll if isinstance(statement, For) else 1


def _chunks(statements: Sequence[Statement]) -> Iterator[list[Statement]]:
    """Divide statements into stretches of which each is one function."""
    chunk: list[Statement] = []
    size = 0
    for statement in statements:
        if chunk and size + _size(statement) > LONGEST:
            yield chunk
            chunk, size = [], 0
        chunk.append(statement)
        size += _size(statement)
    if chunk:
        yield chunk


def _shared(chunks: Sequence[Sequence[Statement]]) -> set[Name]:
    """The names that one stretch computes and another reads."""
    shared: set[Name] = set()
    defined: set[Name] = set()
    for chunk in chunks:
        read = {x for statement in _walk(chunk) for x in _operands(statement)}
        shared |= read & defined
        defined |= {x for statement in chunk for x in _defined(statement)}
    return shared


def _outside_of(own: Name, place: Mapping[Name, int]) -> tuple[int, ...]:
    return tuple([k for axis, k in place.items() if axis != own])


def _like(shape: Sequence[Sequence[Vector]], flat: Sequence[Vector]) -> list[list[Vector]]:
    """Divide registers into lists as long as those of ``shape``."""
    rest = iter(flat)
    return [list(itertools.islice(rest, len(registers))) for registers in shape]


def _key(x: Index) -> str:
    return str(x) if isinstance(x, int) else x.text
