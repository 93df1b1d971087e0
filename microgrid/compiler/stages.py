"""A function on its way to a target: each stage of its compilation, computed once, when it is first asked for."""

import threading
from dataclasses import dataclass
from functools import cached_property

from microgrid.compiler.chains import chains
from microgrid.compiler.classes import OF_ONE, VARIADIC, Classes, classify, of_one_alone
from microgrid.compiler.gates import with_gates
from microgrid.compiler.ir import ArrayProgram
from microgrid.compiler.iterations import with_loops
from microgrid.compiler.passes.lift import Lifted, lift, unroll
from microgrid.compiler.passes.roll import PERIODS, Rolled, roll
from microgrid.compiler.program import Program
from microgrid.compiler.recurrences import folded
from microgrid.compiler.signature import Signature
from microgrid.compiler.simplify import depths, simplify, without
from microgrid.compiler.task import Task, array_program
from microgrid.compiler.tracing import without_collector

FEW = 40
"""So few statements are written out."""


SHALLOW = 18
"""Where fewer operations depend on each other, one on the other, there are too few steps for a loop."""

ON_FLOATS = 20
"""A statement on arrays costs so many times what one on floats does, however short the array."""


class Stages:
    """What the compiler knows of a function.

    Attributes:
        recorded: the scalars, as they were given until they are simplified.
        signature: what the function takes and gives.
        given: the scalars with recurrences as nodes, if these are loops whatever they cost.
    """

    def __init__(
        self, recorded: Program, signature: Signature, found: Program | None = None, *, simplified: bool = True
    ) -> None:
        """Take a function.

        Args:
            recorded: the scalars.
            signature: what the function takes and gives.
            found: the scalars with recurrences as nodes, if they are to be loops whatever they cost; else they are
                looked for, and are loops where all of their steps cost more.
            simplified: whether the scalars are simplified already.
        """
        self.recorded, self.signature, self.given, self._simplified = recorded, signature, found, simplified
        self._apart: Classes | None = None
        self._lock = threading.RLock()
        self._programs: dict[Task, ArrayProgram] = {}

    @cached_property
    def digest(self) -> str:
        """A digest of the scalars as they were given; empty where a row is not the package's, which names say all of.

        It is that of the first time, also when they have been simplified since.
        """
        return self.recorded.digest()

    @cached_property
    def program(self) -> Program:
        """The scalars, simplified."""
        with self._lock, without_collector():
            if not self._simplified:
                program = with_gates(simplify(self.recorded))
                if not {*OF_ONE}.isdisjoint(self.recorded.rows):
                    self._apart = classify(program, batched=self.signature.batched)
                    if superfluous := of_one_alone(program, self._apart):
                        program, self._apart = without(program, superfluous), None
                self.recorded, self._simplified = program, True
            return self.recorded

    @cached_property
    def _structure(self) -> "_Structure":
        with self._lock, without_collector():
            return self._analysed()

    @cached_property
    def folded(self) -> Program:
        """The scalars with each long recurrence as one node."""
        return self._structure.folded

    @cached_property
    def classes(self) -> Classes:
        """These by structure."""
        return self._structure.classes

    @property
    def statements(self) -> int:
        """About how many statements are run."""
        return self._structure.statements

    @cached_property
    def unrolled(self) -> bool:
        """Whether its array programs have a node for each number, for it repeats too little to be lifted."""
        return self._structure.unrolled

    def _analysed(self) -> "_Structure":
        signature, given, apart = self.signature, self.given, self._apart
        program = with_loops(self.program)
        if given is None and program is not self.program:
            given = folded(program, depths(program)) or program
        found = given
        times = 1 if signature.batched else ON_FLOATS
        cheaper: Program | None = None
        if found is None and max(depth := depths(program), default=0) >= SHALLOW:
            found = folded(program, depth)
            if found is not None and chains(program):  # these need no loop around statements
                apart = apart or classify(program, batched=signature.batched)
                found = found if len(apart.rows) > FEW else None
        if found is not None:
            classes = classify(found, batched=signature.batched)
            statements = len(classes.rows)
            for body, steps in found.bodies():
                rows = classify(body, batched=signature.batched).rows
                statements += steps * sum(row.arity > 0 or row in VARIADIC for row in rows)
            better_apart = self._is_better_apart(statements, sum(steps for _, steps in found.bodies()))
            if given is None and (statements <= FEW or better_apart):
                cheaper, found = found, None
        if found is None:
            classes = apart or classify(program, batched=signature.batched)
            statements = len(classes.rows)
        repeats = len(program) >= 2 * statements if signature.batched else len(program) > times * statements
        return _Structure(found or program, classes, statements, found is None and not repeats, cheaper)

    def _is_better_apart(self, statements: int, steps: int) -> bool:
        """Whether single numbers are better: steps of few of them, or too few for a statement on arrays."""
        size = len(self.program)
        return not self.signature.batched and (size <= ON_FLOATS * statements or size <= PERIODS * (steps + 8))

    @cached_property
    def in_loops(self) -> "Stages | None":
        """The same with its recurrences as loops, where single numbers cost less; None if it has none."""
        found = self._structure.cheaper
        return None if found is None else Stages(self.program, self.signature, found)

    @property
    def scalar(self) -> bool:
        """Whether every statement is one on single numbers."""
        return self.unrolled and not self.signature.batched

    @property
    def own_task(self) -> Task:
        """The value, and the gradient by the parameters; by the arguments if there are no parameters."""
        by_parameters = self.recorded.parameters > 0
        return Task(by_parameters=by_parameters, by_arguments=not by_parameters and bool(self.signature.shapes))

    @cached_property
    def rolled(self) -> Rolled:
        """The scalars as loops."""
        with self._lock, without_collector():
            return roll(self.program)

    @cached_property
    def lifted(self) -> Lifted:
        """The scalars as arrays."""
        with self._lock, without_collector():
            batched = self.signature.batched
            return unroll(self.program, batched) if self.unrolled else lift(self.folded, self.classes, batched)

    def array_program(self, task: Task) -> ArrayProgram:
        """Return the array program of a task."""
        with self._lock, without_collector():
            if task not in self._programs:
                self._programs[task] = array_program(self.lifted, self.signature, task)
            return self._programs[task]

    def shown(self, task: Task) -> ArrayProgram:
        """Return the array program of a task for a reader: on single numbers if every statement is one on these."""
        program = self.array_program(task)
        return program.apart() if self.scalar else program


@dataclass(frozen=True, slots=True)
class _Structure:
    """What a function is made of; the fields are attributes of ``Stages``.

    Attributes:
        cheaper: the scalars with recurrences as nodes, where single numbers cost less than these.
    """

    folded: Program
    classes: Classes
    statements: int
    unrolled: bool
    cheaper: Program | None
