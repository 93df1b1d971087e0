"""What became of a program before: so one that is in the cache need not be written in LLVM's words again.

A loop program is recognised by its statements and numbers, and by this package's own sources, which say how it is
written; a long program of scalars already by what was recorded, so that nothing else is made of it.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from microgrid.compiler.ir import MASKS
from microgrid.compiler.stages import Stages
from microgrid.compiler.targets.native import cache as disk
from microgrid.compiler.targets.native import engine, llvm, rows
from microgrid.compiler.targets.native.loop_ir import Let, Load, LoopProgram, Store
from microgrid.compiler.task import Task
from microgrid.ops import Op
from microgrid.ops.expansion import expand


@dataclass(frozen=True, slots=True)
class Written:
    """A program as machine code, and what its caller must know.

    Attributes:
        machine: the code.
        nanoseconds: about how long a run takes, for each sample or as a whole.
        workspace, places, lasting: as in ``llvm.Assembly``.
    """

    machine: engine.Machine
    nanoseconds: float
    workspace: int
    places: dict[str, int]
    lasting: tuple[slice, ...]


LONG = 2_000
"""Programs of so many scalars are recognised by these."""


def written(
    program: LoopProgram,
    functions: tuple[str, ...],
    nanoseconds: float,
    thorough: bool,
    scalars: str = "",
    **options: Any,
) -> Written:
    """Return a program as machine code of these functions: that of before, or ``llvm.emit(program, **options)``.

    Args:
        program: the loops.
        functions: as in ``engine.load``.
        nanoseconds: about how long a run takes, for each sample or as a whole.
        thorough: as in ``engine.load``.
        scalars: by what ``recalled`` finds it the next time, if it shall.
        **options: those of ``llvm.emit``.
    """

    @cache
    def assembly() -> llvm.Assembly:
        return llvm.emit(program, **options)

    name = engine.key_of(repr((thorough, sorted(options.items()))) + "\n".join(_described(program)) + _sources())
    known = disk.read(name)
    if known is None:
        new = assembly()
        key = engine.key_of(new.text, new.statements, thorough)
        lasting = [(part.start, part.stop) for part in new.lasting]
        known = json.dumps(
            [key, new.statements, thorough, nanoseconds, new.workspace, dict(new.places), lasting]
        ).encode()
        disk.write(name, known)
    if scalars:
        disk.write(scalars, known)
    return _loaded(known, lambda: assembly().text, functions)


def recalled(scalars: str, text: Callable[[], str], functions: tuple[str, ...]) -> Written | None:
    """Return what became of scalars before, if it is known.

    Args:
        scalars: what ``key_of_scalars`` gave.
        text: writes the program, asked if it is needed.
        functions: as in ``engine.load``.
    """
    known = disk.read(scalars)
    return None if known is None else _loaded(known, text, functions)


def _loaded(known: bytes, text: Callable[[], str], functions: tuple[str, ...]) -> Written:
    key, statements, thorough, nanoseconds, workspace, places, lasting = json.loads(known)
    machine = engine.load(text, statements, functions, key=key, thorough=thorough)
    return Written(machine, nanoseconds, workspace, places, tuple([slice(*ends) for ends in lasting]))


def key_of_scalars(stages: Stages, task: Task) -> str:
    """Return a digest of all that the machine code of a task depends on; nothing if it is made as quickly.

    Rows of the package are known by their names, constants and sources; one of the user's may change what it does.
    """
    program, signature = stages.recorded, stages.signature
    if len(program) < LONG or stages.given is not None or signature.threads > 1 or not stages.digest:
        return ""
    takes = signature.shapes, signature.batched, signature.reduce, signature.outputs, signature.dtype
    return engine.key_of(repr((stages.digest, takes, task, np.__version__)) + _sources())


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
    """A digest of the sources that say what rows are and how programs are written."""
    root = Path(__file__).parents[3]
    files = sorted([*root.glob("*.py"), *root.glob("ops/*.py"), *root.glob("compiler/**/*.py")])
    return hashlib.sha256(b"".join([file.read_bytes() for file in files])).hexdigest()
