"""The target of native code: loop programs as machine code of this processor, through LLVM."""

from collections.abc import Callable, Sequence
from functools import cache, cached_property, partial
from typing import Any

import numpy as np

from microgrid import ops
from microgrid.compiler.classes import VARIADIC
from microgrid.compiler.ir import Leaf, View, reachable
from microgrid.compiler.passes.differentiate import derivative
from microgrid.compiler.program import Program
from microgrid.compiler.signature import Floats
from microgrid.compiler.stages import Stages
from microgrid.compiler.targets.native import engine, entry, known, llvm, threads
from microgrid.compiler.targets.native.loop_ir import Buffer, For, Let, LoopProgram, Statement, Store
from microgrid.compiler.targets.native.recurrence import recurrence, unsuited
from microgrid.compiler.targets.native.rows import unsupported
from microgrid.compiler.targets.native.schedule import schedule
from microgrid.compiler.task import Task
from microgrid.ops import Op

TILES = (104, 40)
"""Samples that are worked on at a time, an odd number of lines of the cache: a few if each has many numbers."""
UNTILED = 1 << 20
"""The same where nothing of a tile is kept."""
CACHED = 1_000_000
"""Bytes of a tile that stay in the processor's cache."""
LONGEST = 2_000
"""Programs of more statements, each written out, would take LLVM seconds."""
MOST = 1_000
"""The same of statements on arrays, each of which is a loop."""
SHORT = 64
"""Programs of fewer nodes are written out, even if they repeat."""
OPERATION = 0.15
"""About how many nanoseconds an operation takes, in lanes; a function counts for ``llvm.DEAR`` of them."""


class Native:
    """The target of native code, for whatever has loops or few statements."""

    name = "native"
    stages = ("loops", "llvm", "asm", "source")

    def suits(self, stages: Stages) -> str | None:
        """Return why not: no llvmlite, a row without a native form, too many statements that do not repeat."""
        try:
            engine.processor()
        except ModuleNotFoundError as error:
            return str(error)
        size = len(stages.program)
        if stages.unrolled and size > LONGEST and unsuited(stages) is not None and _in_loops(stages) is None:
            return f"its {size} nodes do not repeat themselves: more than {LONGEST} are not written out"
        if not (stages.signature.batched or stages.unrolled) and unsuited(stages) is not None:
            count = sum(not isinstance(x, Leaf | View) for x in reachable(stages.lifted.outputs))
            if count > MOST:
                return f"it is {count} statements on arrays: more than {MOST} are not written out"
        programs = stages.folded, *[body for body, _ in stages.folded.bodies()]
        used = {row for program in programs for row in program.rows}
        rows = sorted({row for row in used if row.arity or row in VARIADIC}, key=lambda row: row.name)
        return next(filter(None, map(without_native_form, rows)), None)

    def build(self, stages: Stages, task: Task) -> "OnMachine":
        """Return the executable of a task."""
        loops = _Loops(stages, task)
        return (InThreads if stages.signature.threads > 1 and loops.program.tile else OnMachine)(loops)

    def recalled(self, stages: Stages, task: Task) -> "OnMachine | None":
        """Return the executable of a task if it is in the cache and known by the scalars."""
        loops = _Loops(stages, task)
        found = loops.scalars and known.recalled(loops.scalars, loops.text, ("run",))
        return OnMachine(loops, found) if found else None


def loop_program(stages: Stages, task: Task, packs: bool = True) -> LoopProgram:
    """Return the loops of a task: those of a recurrence of single numbers, else those of its arrays.

    Args:
        stages: the function.
        task: what is computed of it.
        packs: whether batched arguments are copied, member by member, before vectors read them.
    """
    if len(stages.program) <= SHORT or unsuited(stages) is not None:
        written = (_in_loops(stages) or stages) if len(stages.program) > LONGEST else stages
        return schedule(written.array_program(task), stages.signature.dtype, packs)
    return recurrence(
        stages.rolled,
        [stages.program.parameters, *stages.program.sizes],
        value=task.value,
        by_parameters=task.by_parameters,
        by_arguments=task.by_arguments,
        seeded=task.takes_seed(stages.signature),
        dtype=stages.signature.dtype,
    )


def _in_loops(stages: Stages) -> Stages | None:
    """A function with its recurrences as loops, if their steps are short enough to be written out."""
    found = stages.in_loops
    if found is None:
        return None
    written = len(found.folded) + sum(len(body) for body, _ in found.folded.bodies())
    return found if written <= LONGEST else None


@cache
def without_native_form(row: Op) -> str | None:
    """Return why a row or one of its local derivatives has no native form; ``None`` if they have."""
    if ops.is_take(row):  # its derivatives are made of the same rows, however many there are
        row = ops.take_of(1)
    elif row.recipe is not None and row.recipe[0] is ops.maximum_of:
        row = ops.maximum_of(2)  # that of many has as many local derivatives, all of one form
    used = [VARIADIC.get(row, row)]
    for j, connected in enumerate(row.connected):
        program = derivative(row, j) if connected else 0.0
        if isinstance(program, Program):
            used += [VARIADIC.get(op, op) for op, arguments, _ in program.nodes() if arguments]
    return next(filter(None, map(unsupported, used)), None)


class _Loops:
    """The loop program of a task, made when it is asked for."""

    def __init__(self, stages: Stages, task: Task) -> None:
        self.stages, self.task, self.signature = stages, task, stages.signature
        self.sizes = [stages.recorded.parameters, *stages.recorded.sizes]
        self.forms = task.forms(stages.signature, self.sizes)
        self.scalars = known.key_of_scalars(stages, task)

    @cached_property
    def program(self) -> LoopProgram:
        return loop_program(self.stages, self.task)

    @cached_property
    def tile(self) -> int:
        """How many samples are worked on at a time."""
        number = np.dtype(self.program.dtype).itemsize
        resident = number * sum(b.members for b in self.program.buffers if b.role == "local" and b.batched)
        return next((tile for tile in TILES if tile * resident <= CACHED), TILES[-1]) if resident else UNTILED

    def options(self, divided: bool) -> dict[str, Any]:
        """Those of ``llvm.emit``."""
        processor = engine.processor()
        return {
            "width": processor.width,
            "tile": self.tile,
            "arguments": len(self.sizes) - 1,
            "outputs": len(self.forms),
            "fused": processor.fma,
            "registers": processor.registers,
            "divided": divided,
        }

    def written(self, functions: tuple[str, ...], divided: bool) -> known.Written:
        """Return it as machine code of these functions."""
        nanoseconds = _nanoseconds(self.program)
        thorough = bool(self.program.tile) or nanoseconds > entry.LONG
        return known.written(self.program, functions, nanoseconds, thorough, self.scalars, **self.options(divided))

    def text(self) -> str:
        """Return it in LLVM's words."""
        return llvm.emit(self.program, **self.options(False)).text


class OnMachine:
    """A loop program as machine code. Several threads may run it at once, each with a workspace of its own."""

    phases: tuple[str, ...] = ()

    def __init__(self, loops: _Loops, found: known.Written | None = None) -> None:
        self._loops, self.signature, self._forms = loops, loops.signature, loops.forms
        names = tuple([f"run.{phase}" for phase in self.phases]) or ("run",)
        self._written = found or loops.written(names, bool(self.phases))
        self._machine = self._written.machine
        pointers = 2 + len(loops.sizes) + len(self._forms)
        self._functions = [self._machine.function(pointers, name, 1 + 2 * (name == "run.tiles")) for name in names]
        self._workspaces: list[Floats] = []

    @property
    def program(self) -> LoopProgram:
        """The loops."""
        return self._loops.program

    def run(self, theta: Floats, seed: Floats, arguments: Sequence[Floats], outs: Sequence[Floats]) -> None:
        """Compute the outputs."""
        size = len(arguments[0]) if self.signature.batched else 1
        try:
            workspace = self._workspaces.pop()
        except IndexError:
            workspace = self._workspace()
        arrays = (theta, seed, *arguments, *outs, workspace)
        self._functions[0](*[array.ctypes.data for array in arrays], size)
        self._workspaces.append(workspace)

    def bind(
        self, size: int, theta: Floats, seed: Floats, outs: Sequence[Floats]
    ) -> Callable[[Sequence[Floats]], None]:
        """Return a function of the arguments that does the same each time, for ``size`` samples, for one thread."""
        workspace = self._workspace()
        before = [theta.ctypes.data, seed.ctypes.data]
        behind = [*[out.ctypes.data for out in outs], workspace.ctypes.data, size]
        (function,) = self._functions
        kept = (theta, seed, *outs, workspace)

        def run(arguments: Sequence[Floats], kept: Any = kept) -> None:
            function(*before, *[array.ctypes.data for array in arguments], *behind)

        return run

    def entered(self, slow: Callable[..., Any], theta: Floats, gradient: Floats) -> Callable[..., Any]:
        """Return a step of learning that CPython enters without a detour; what it does not take goes to ``slow``."""
        workspace, (shape, per_sample) = self._workspace(), self._forms[0]
        make = None
        if per_sample:
            members = shape[0]

            def make(first: Floats, *_: Any) -> Floats:
                return np.empty((members, len(first)), self.signature.dtype)

        elif shape:
            return slow
        return entry.step(
            self._machine.address(),
            self.signature.shapes,
            [gradient.ctypes.data],
            slow,
            batched=self.signature.batched,
            theta=theta.ctypes.data,
            workspace=workspace.ctypes.data,
            dtype=self.signature.dtype,
            nanoseconds=self._written.nanoseconds,
            make=make,
            doc=slow.__doc__ or "",
            keep=(theta, gradient, workspace, self._machine),
        )

    def function(self, slow: Callable[..., Any], theta: Floats) -> Callable[..., Any]:
        """Return a function of plain numbers that CPython enters without a detour; the rest goes to ``slow``."""
        return entry.scalar_function(
            self._machine.address(),
            len(self.signature.shapes),
            [1] * len(self._forms),
            slow,
            theta=theta.ctypes.data,
            workspace=self._written.workspace * theta.itemsize,
            dtype=self.signature.dtype,
            nanoseconds=self._written.nanoseconds,
            doc=slow.__doc__ or "",
            keep=(theta, self._machine),
        )

    def text(self, stage: str) -> str:
        """Return a stage as text: ``loops``, ``llvm`` or ``asm``."""
        if stage == "llvm":
            return self._machine.text
        return self._machine.assembly() if stage == "asm" else self.program.dump()

    def _workspace(self) -> Floats:
        """Memory for one run, aligned to a line of the cache."""
        number = np.dtype(self.signature.dtype).itemsize
        line = llvm.LINE // number
        memory: Floats = np.zeros(self._written.workspace + line, self.signature.dtype)
        return memory[-memory.ctypes.data % llvm.LINE // number :]


class InThreads(OnMachine):
    """A loop program whose tiles are divided over threads, each with sums of its own, which are added in order.

    The phase before the tiles runs once, and what it leaves in the workspace is copied for each thread, but for the
    sums over the samples, which begin at 0 there.
    """

    phases = llvm.PHASES

    def __init__(self, loops: _Loops) -> None:
        super().__init__(loops)
        enough = int(threads.ENOUGH / max(self._written.nanoseconds, 1e-3)) + 1
        step = llvm.LINE if loops.tile == UNTILED else loops.tile
        self._step = -(-enough // step) * step
        stores = [s.address.buffer for s in loops.program.walk(loops.program.tile) if isinstance(s, Store)]
        self._sums = [buffer for buffer in dict.fromkeys(stores) if not buffer.batched]

    def run(self, theta: Floats, seed: Floats, arguments: Sequence[Floats], outs: Sequence[Floats]) -> None:
        """Compute the outputs."""
        self.bind(len(arguments[0]), theta, seed, outs)(arguments)

    def bind(
        self, size: int, theta: Floats, seed: Floats, outs: Sequence[Floats]
    ) -> Callable[[Sequence[Floats]], None]:
        """Return a function of the arguments that does the same each time, for ``size`` samples, for one thread."""
        stretches = threads.stretches(size, self.signature.threads, self._step)
        mine = [(self._workspace(), outs), *[self._copies(outs) for _ in stretches[1:]]]
        (workspace, _), *others = mine
        sums = [[self._sum(buffer, *memory) for buffer in self._sums] for memory in mine]
        before, tiles, after = self._functions

        def run(arguments: Sequence[Floats]) -> None:
            given = [array.ctypes.data for array in (theta, seed, *arguments)]
            pointers = [[*given, *[out.ctypes.data for out in own], space.ctypes.data, size] for space, own in mine]
            before(*pointers[0])
            for (space, _), parts in zip(others, sums[1:], strict=True):
                for lasting in self._written.lasting:
                    space[lasting] = workspace[lasting]
                for part in parts:
                    part.fill(0.0)
            threads.together([partial(tiles, *p, *ends) for p, ends in zip(pointers, stretches, strict=True)])
            for parts in sums[1:]:
                for total, part in zip(sums[0], parts, strict=True):
                    np.add(total, part, out=total)
            after(*pointers[0])

        return run

    def entered(self, slow: Callable[..., Any], theta: Floats, gradient: Floats) -> Callable[..., Any]:
        """Return ``slow``: who runs in several threads has time for it."""
        return slow

    def _copies(self, outs: Sequence[Floats]) -> tuple[Floats, list[Floats]]:
        """A thread's workspace and outputs: its own where it adds to them."""
        own = {buffer.position for buffer in self._sums if buffer.role == "output"}
        return self._workspace(), [np.empty_like(out) if k in own else out for k, out in enumerate(outs)]

    def _sum(self, buffer: Buffer, workspace: Floats, outs: Sequence[Floats]) -> Floats:
        """Where a sum over the samples stands."""
        if buffer.role == "output":
            return outs[buffer.position]
        place = self._written.places[buffer.name]
        return workspace[place : place + buffer.members]


def _nanoseconds(program: LoopProgram) -> float:
    """About how long a run takes, for each sample or as a whole: the number of operations, counted by the loops."""
    return OPERATION * (_work(program.tile) or _work(program.before))


def _work(statements: Sequence[Statement]) -> float:
    total = 0.0
    for s in statements:
        if isinstance(s, For):
            total += (s.extent if isinstance(s.extent, int) else 1) * (_work(s.body) + len(s.carried))
        elif isinstance(s, Let):
            total += 1 if llvm.is_cheap(s.op) else llvm.DEAR
    return total
