"""Random loop programs, of rows whose results are exact or rounded once: every target computes the same numbers."""

import numpy as np
from hypothesis import strategies as st

from microgrid import ops
from microgrid.compiler.ir import NOT, NUMBER
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
    Pack,
    Store,
)

ROWS = [ops.add, ops.sub, ops.mul, ops.neg, ops.absolute, ops.sqrt, ops.floor, ops.maximum, ops.minimum, ops.relu,
        ops.less, ops.greater_equal, ops.equal, ops.where, ops.clip, ops.sum_of(3), ops.stop_gradient]  # fmt: skip
MASKS = [ops.less, ops.greater_equal, ops.equal]
LONGEST = 3
SPECIAL = [0.0, 1.0, -1.0, 0.5, -2.0, 3.0, np.inf, -np.inf, np.nan]


class _Maker:
    """Draws statements, of which each reads what is there already."""

    def __init__(self, draw, batched, dtype):
        self.draw = draw
        large = {"float64": 1e300, "float32": float(np.float32(1e30))}[dtype]
        self.numbers = st.sampled_from([*SPECIAL, large, -large]) | st.floats(-3, 3, width=32)
        self.counter = 0
        members = st.integers(LONGEST**2, 14)
        given = [("theta", False), ("seed", batched), ("argument", batched), ("argument", False), ("output", batched)]
        given += [("output", False), ("local", batched), ("local", batched), ("local", False), ("constant", False)]
        self.buffers, self.taken = [], {}
        for role, each in given:
            position = self.taken.get(role, 0)
            self.taken[role] = position + 1
            size = draw(members)
            values = (
                np.array(draw(st.lists(self.numbers, min_size=size, max_size=size))) if role == "constant" else None
            )
            self.buffers.append(Buffer(f"{role}{position}", role, size, each, position, values))

    def fresh(self, stem):
        self.counter += 1
        return f"{stem}{self.counter}"

    def address(self, buffer, loops):
        """An address inside a buffer at all points of the loops around."""
        indices = [(index, extent) for index, extent in loops if extent != SAMPLES]
        strides = [self.draw(st.integers(-2, 2)) for _ in indices]
        reach = sum(abs(stride) * (extent - 1) for stride, (_, extent) in zip(strides, indices, strict=True))
        low = -sum(min(stride, 0) * (extent - 1) for stride, (_, extent) in zip(strides, indices, strict=True))
        terms = tuple((index, stride) for stride, (index, _) in zip(strides, indices, strict=True) if stride)
        base = low + self.draw(st.integers(0, buffer.members - 1 - reach))
        if self.draw(st.booleans()):
            return Address(buffer, Affine(base, terms))
        table = self.draw(st.lists(st.integers(0, buffer.members - 1), min_size=base - low + reach + 1, max_size=14))
        return Address(buffer, Affine(base, terms), np.array(table, np.int64))

    def fill(self, buffer):
        """Every member of a buffer written once."""
        value = self.draw(self.numbers)
        body = [Store(Address(buffer, Affine(0, (("f", 1),))), value)]
        if buffer.batched:
            body = [For(SAMPLES, "samples", tuple(body), lanes=True)]
        return For("f", buffer.members, tuple(body), backward=self.draw(st.booleans()))

    def nest(self, readable, writable, samples):
        """A nest of loops; over the samples, too, and wherever among them, if ``samples``."""
        extents = [self.draw(st.integers(1, LONGEST)) for _ in range(self.draw(st.integers(0, 2)))]
        loops = [(self.fresh("i"), extent) for extent in extents]
        if samples:
            loops.insert(self.draw(st.integers(0, len(loops))), (SAMPLES, SAMPLES))
        return self.level(loops, 0, {COUNT: False, WEIGHT: False}, readable, writable)

    def level(self, loops, depth, names, readable, writable):
        """Statements inside ``depth`` loops, among them the next loop; and what that one carries."""
        names = dict(names)
        inside = any(extent == SAMPLES for _, extent in loops[:depth])
        states = [self.fresh("b") for _ in range(self.draw(st.integers(0, 2)))] * bool(depth)
        names |= dict.fromkeys(states, False)
        sources = [b for b in readable if inside or not b.batched]
        targets = [b for b in writable if inside == b.batched or (inside and depth == len(loops))]
        body = []
        steps = self.draw(st.lists(st.sampled_from(["load", "let", "store"]), max_size=6))
        for step in [*steps, "loop"] if depth < len(loops) else steps:
            if step == "load" and sources:
                name = self.fresh("l")
                body.append(Load(name, self.address(self.draw(st.sampled_from(sources)), loops[:depth])))
                names[name] = False
            elif step == "store" and targets:
                where = self.address(self.draw(st.sampled_from(targets)), loops[:depth])
                body.append(Store(where, self.operand(names), self.draw(st.booleans())))
            elif step == "loop":
                index, extent = loops[depth]
                inner, carried = self.level(loops, depth + 1, names, readable, writable)
                backward = extent != SAMPLES and self.draw(st.booleans())
                body.append(For(index, extent, tuple(inner), tuple(carried), backward=backward))
                names |= {x.name: False for x in carried}
            else:
                body.append(self.let(names))
        if targets:
            where = self.address(self.draw(st.sampled_from(targets)), loops[:depth])
            body.append(Store(where, self.operand(names), True))
        carried = [self.carry(names) for _ in range(self.draw(st.integers(0, 2)) * bool(depth))]
        for before in states:
            start = self.draw(self.numbers)
            carried.append(Carried(self.fresh("s"), "state", (self.operand(names),), start, before))
        return body, carried

    def operand(self, names):
        return self.draw(st.sampled_from(sorted(names)) | self.numbers)

    def let(self, names):
        name = self.fresh("v")
        masks = [x for x, mask in names.items() if mask]
        if masks and self.draw(st.integers(0, 2)) == 0:
            op, operands = self.draw(st.sampled_from([NOT, NUMBER])), (self.draw(st.sampled_from(masks)),)
        else:
            op = self.draw(st.sampled_from(ROWS))
            operands = tuple(self.operand(names) for _ in range(op.arity))
        names[name] = op in MASKS or op is NOT
        return Let(name, op, operands)

    def carry(self, names):
        kind = self.draw(st.sampled_from(["sum", "dot", "largest", "smallest"]))
        start = {"largest": -np.inf, "smallest": np.inf}.get(kind, 0.0)
        values = tuple(self.operand(names) for _ in range(1 + (kind == "dot")))
        return Carried(self.fresh("s"), kind, values, start)


@st.composite
def loop_programs(draw, dtype="float64"):
    """A loop program, the numbers it is given, and how many samples there are."""
    batched = draw(st.booleans())
    maker = _Maker(draw, batched, dtype)
    buffers = maker.buffers
    given = [b for b in buffers if b.role not in ("local", "output")]
    whole = [b for b in buffers if not b.batched]
    written = [b for b in buffers if b.role in ("local", "output")]
    before = [maker.fill(b) for b in written if not b.batched]
    parts = {}
    for name, samples in (("before", False), ("tile", True), ("after", False)):
        parts[name] = []
        for _ in range(draw(st.integers(0, 2)) if samples == batched or not samples else 0):
            seen = buffers if samples else whole
            writable = [b for b in written if samples or not b.batched]
            statements, _ = maker.nest(seen, writable, samples)
            parts[name] += statements
    fills = [maker.fill(b) for b in written if b.batched]
    if batched and draw(st.booleans()):
        source = next(b for b in buffers if b.role == "argument" and b.batched)
        packed = Buffer("packed", "local", source.members, True)
        buffers.append(packed)
        parts["tile"] += [For("p", source.members, (For(SAMPLES, "samples", (
            Load("l", Address(packed, Affine(0, (("p", 1),)))),
            Store(Address(next(b for b in written if b.batched), Affine(draw(st.integers(0, 8)))), "l", True),
        )),))]  # fmt: skip
        fills.append(Pack(source, packed))
    tile = (*fills, *parts["tile"]) if batched else ()
    program = LoopProgram(tuple(buffers), (*before, *parts["before"]), tile, tuple(parts["after"]), dtype)
    samples = draw(st.integers(1, 5)) if batched else 1
    numbers = {}
    for b in given:
        if b.role != "constant":
            size = b.members * (samples if b.batched else 1)
            numbers[b] = np.array(draw(st.lists(maker.numbers, min_size=size, max_size=size)), dtype)
    return program, numbers, samples
