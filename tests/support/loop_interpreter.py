"""Loop programs run by NumPy, one statement at a time: the oracle of what targets make of them.

Memory that nothing has written is nan, and every address is checked, so that a program that reads too early or
outside a buffer is found out.
"""

import math

import numpy as np

from microgrid.compiler.ir import MASKS, NOT
from microgrid.compiler.targets.native.loop_ir import (
    COUNT,
    SAMPLES,
    WEIGHT,
    Address,
    For,
    Let,
    Load,
    LoopProgram,
    Pack,
    Store,
)

STARTS = {"sum": 0.0, "dot": 0.0, "largest": -math.inf, "smallest": math.inf}
MEETS = {"sum": np.add, "dot": np.add, "largest": np.maximum, "smallest": np.minimum}


def run(program: LoopProgram, theta, seed, arguments, outs, batch: int, tile: int = 104) -> None:
    """Compute ``outs`` of arrays in the layouts that ``Buffer`` gives."""
    _Run(program, theta, seed, arguments, outs, batch, tile).all()


class _Run:
    def __init__(self, program, theta, seed, arguments, outs, batch, tile):
        self.program, self.batch, self.tile = program, batch, tile
        self.dtype = np.dtype(program.dtype)
        self.first = self.size = 0
        self.memory = {}
        for b in program.buffers:
            if b.role == "local":
                self.memory[b.name] = np.full((b.members, tile) if b.batched else b.members, np.nan, self.dtype)
            elif b.role == "constant":
                self.memory[b.name] = b.values.ravel().astype(self.dtype)
            else:
                array = {"theta": theta, "seed": seed}.get(b.role)
                if b.role in ("argument", "output"):
                    array = (arguments if b.role == "argument" else outs)[b.position]
                if not b.batched:
                    shape = (b.members,)
                else:
                    shape = (batch, b.members) if b.role == "argument" else (b.members, batch)
                self.memory[b.name] = array.reshape(shape)
        self.names = {COUNT: self.dtype.type(batch), WEIGHT: self.dtype.type(1.0) / self.dtype.type(batch)}

    def all(self):
        with np.errstate(all="ignore"):
            self.do(self.program.before)
            for first in range(0, self.batch, self.tile) if self.program.tile else ():
                self.first, self.size = first, min(self.tile, self.batch - first)
                self.do(self.program.tile)
            self.do(self.program.after)

    def do(self, statements):
        for statement in statements:
            match statement:
                case Load(name, address):
                    self.names[name] = self.place(address)[0][self.place(address)[1]]
                case Let(name, op, operands):
                    self.names[name] = self.row(op, [self.value(x) for x in operands])
                case Store(address, value, adds):
                    array, at = self.place(address)
                    if address.chosen is not None:
                        assert adds
                        np.add.at(array, at, self.value(value))
                        continue
                    number = np.multiply(self.value(value), 1.0, dtype=self.dtype)
                    assert all(np.unique(x).size == np.size(x) for x in at if np.ndim(x)) or np.ndim(number) == 0
                    array[at] = array[at] + number if adds else number
                case Pack(source, target):
                    rows = self.memory[source.name][self.first : self.first + self.size]
                    self.memory[target.name][: source.members, : self.size] = rows.T
                case For():
                    self.loop(statement)

    def value(self, x):
        return self.names[x] if isinstance(x, str) else self.dtype.type(x)

    def row(self, op, xs):
        if op is NOT:
            return np.equal(xs[0], 0.0)
        forward = np.frompyfunc(lambda *ys: op.forward(*map(float, ys)), len(xs), 1)
        result = np.asarray(forward(*[np.multiply(x, 1.0) for x in xs]))
        return result.astype(bool if op in MASKS else self.dtype)

    def place(self, address: Address):
        member = address.member.base + sum(stride * self.names[index] for index, stride in address.member.terms)
        if address.chosen is not None:
            place = np.asarray(self.names[address.chosen[0]])
            assert np.all(place == np.floor(place)), address
            member = member + address.chosen[1] * place.astype(int)
        if address.table is not None:
            assert np.all((np.asarray(member) >= 0) & (np.asarray(member) < address.table.size)), address
            member = address.table.ravel()[member]
        assert np.all((np.asarray(member) >= 0) & (np.asarray(member) < address.buffer.members)), address
        array = self.memory[address.buffer.name]
        if not address.buffer.batched:
            return array, (member,)
        sample = self.names[SAMPLES]
        if address.buffer.role == "local":
            return array, (member, sample)
        sample = sample + self.first
        return array, ((sample, member) if address.buffer.role == "argument" else (member, sample))

    def loop(self, loop: For):
        if loop.when and not self.names[loop.when]:
            return
        extent = self.size if loop.extent == SAMPLES else loop.extent
        carried = {x.name: self.value(STARTS.get(x.kind, x.start)) for x in loop.carried}
        outer = dict(self.names)
        for x in loop.carried:
            assert x.kind == "state" or x.start == STARTS[x.kind], x
        for index in [np.arange(extent)] if loop.lanes else reversed(range(extent)) if loop.backward else range(extent):
            self.names = {**outer, loop.index: index}
            self.names |= {x.before: carried[x.name] for x in loop.carried if x.kind == "state"}
            self.do(loop.body)
            for x in loop.carried:
                values = [self.value(y) * 1.0 for y in x.values]
                if x.kind == "state":
                    assert not loop.lanes, x
                    carried[x.name] = values[0]
                    continue
                term = math.prod(values) if x.kind == "dot" else values[0]
                if loop.lanes:
                    term = MEETS[x.kind].reduce(np.broadcast_to(term, (extent,))) if extent else carried[x.name]
                carried[x.name] = MEETS[x.kind](carried[x.name], term)
        self.names = outer | carried
