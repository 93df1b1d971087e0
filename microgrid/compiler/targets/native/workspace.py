"""The workspace of a loop program, made small: buffers whose numbers are not needed at one time share memory."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from microgrid.compiler.targets.native.loop_ir import (
    Address,
    Buffer,
    For,
    Load,
    LoopProgram,
    Name,
    Pack,
    Statement,
    Store,
)


def shared(program: LoopProgram) -> LoopProgram:
    """Return the program with fewer buffers for the numbers of a tile, which then stay in the processor's cache."""
    first: dict[Name, int] = {}
    last: dict[Name, int] = {}
    for i, statement in enumerate(program.tile):
        for s in program.walk([statement]):
            for buffer in _touched(s):
                if buffer.role == "local" and buffer.batched:
                    first.setdefault(buffer.name, i)
                    last[buffer.name] = i
    members = {buffer.name: buffer.members for buffer in program.buffers}
    owner: dict[Name, Name] = {}
    busy_until: dict[Name, int] = {}
    size: dict[Name, int] = {}
    for name in sorted(first, key=first.__getitem__):
        free = [other for other, end in busy_until.items() if end < first[name]]
        fitting = min((x for x in free if size[x] >= members[name]), key=size.__getitem__, default=None)
        chosen = fitting or max(free, key=size.__getitem__, default=name)
        owner[name] = chosen
        busy_until[chosen] = last[name]
        size[chosen] = max(size.get(chosen, 0), members[name])
    made = {b.name: replace(b, members=size.get(b.name, b.members)) for b in program.buffers}
    moved = {name: made[other] for name, other in owner.items()}

    def place(buffer: Buffer) -> Buffer:
        return moved.get(buffer.name, buffer)

    kept = tuple(buffer for name, buffer in made.items() if owner.get(name, name) == name)
    return replace(program, buffers=kept, tile=_moved(program.tile, place))


def _touched(statement: Statement) -> Sequence[Buffer]:
    match statement:
        case Load(_, address) | Store(address):
            return [address.buffer]
        case Pack(source, target):
            return [source, target]
        case _:
            return []


def _moved(statements: Sequence[Statement], place: Callable[[Buffer], Buffer]) -> tuple[Statement, ...]:
    moved: list[Statement] = []
    for s in statements:
        match s:
            case Load(name, address):
                moved.append(Load(name, _at(address, place)))
            case Store(address, value, adds):
                moved.append(Store(_at(address, place), value, adds))
            case Pack(source, target):
                moved.append(Pack(source, place(target)))
            case For():
                moved.append(replace(s, body=_moved(s.body, place)))
            case _:
                moved.append(s)
    return tuple(moved)


def _at(address: Address, place: Callable[[Buffer], Buffer]) -> Address:
    return replace(address, buffer=place(address.buffer))
