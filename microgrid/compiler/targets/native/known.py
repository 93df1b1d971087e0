"""What became of a loop program before: so one that is in the cache need not be written in LLVM's words again.

A program is recognised by its statements and numbers, and by this package's own sources, which say how it is written.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from microgrid.compiler.ir import MASKS
from microgrid.compiler.targets.native import cache as disk
from microgrid.compiler.targets.native import engine, llvm, rows
from microgrid.compiler.targets.native.loop_ir import Let, Load, LoopProgram, Store
from microgrid.ops import Op
from microgrid.ops.expansion import expand


@dataclass(frozen=True, slots=True)
class Written:
    """A program as machine code, and what its caller must know.

    Attributes:
        machine: the code.
        workspace, places, lasting: as in ``llvm.Assembly``.
    """

    machine: engine.Machine
    workspace: int
    places: dict[str, int]
    lasting: tuple[slice, ...]


def written(program: LoopProgram, functions: tuple[str, ...], thorough: bool, **options: Any) -> Written:
    """Return a program as machine code of these functions: that of before, or ``llvm.emit(program, **options)``.

    ``thorough`` is as in ``engine.load``.
    """

    @cache
    def assembly() -> llvm.Assembly:
        return llvm.emit(program, **options)

    def text() -> str:
        return assembly().text

    name = engine.key_of(repr((thorough, sorted(options.items()))) + "\n".join(_described(program)) + _sources())
    known = disk.read(name)
    if known is None:
        new = assembly()
        key = engine.key_of(new.text, new.statements, thorough)
        lasting = [(part.start, part.stop) for part in new.lasting]
        known = json.dumps([key, new.statements, new.workspace, dict(new.places), lasting]).encode()
        disk.write(name, known)
    key, statements, workspace, places, stretches = json.loads(known)
    machine = engine.load(text, statements, functions, key=key, thorough=thorough)
    return Written(machine, workspace, places, tuple([slice(*ends) for ends in stretches]))


def _described(program: LoopProgram) -> Iterator[str]:
    """Everything about a program, in words."""
    yield program.dtype
    yield program.dump()
    for buffer in program.buffers:
        yield f"{buffer.name} {buffer.position} {_numbers(buffer.values)}"
    ops: dict[Op, None] = {}
    for statement in program.walk():
        match statement:
            case Let(_, op):
                ops[op] = None
            case Load(_, address) | Store(address) if address.table is not None:
                yield _numbers(address.table)
    for op in ops:
        yield _formula(op)


def _numbers(x: Any) -> str:
    return "" if x is None else f"{x.shape} {hashlib.sha256(x.tobytes()).hexdigest()}"


@lru_cache(4096)
def _formula(op: Op) -> str:
    """What a row is on vectors: its name there and its constants, or its expansion in such rows."""
    lines = [f"{op.name} {op in MASKS} {llvm.is_cheap(op)}"]

    def meaning(op: Op, operands: Any) -> str:
        if rows.has_rule(op):
            words = op.ufunc, op.operator, op.recipe and op.recipe[1], *operands
            lines.append(repr(words))
            return f"%{len(lines)}"
        return str(expand(op, meaning, operands))

    lines.append(meaning(op, [f"x{k}" for k in range(op.arity)]))
    return "\n".join(lines)


@cache
def _sources() -> str:
    """A digest of the sources that say how programs are written."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join([file.read_bytes() for file in files])).hexdigest()
