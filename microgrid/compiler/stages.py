"""A function on its way to a target: each stage of its compilation, computed once, when it is first asked for."""

import threading
from functools import cached_property

from microgrid.compiler.chains import chains
from microgrid.compiler.classes import VARIADIC, Classes, classify
from microgrid.compiler.ir import ArrayProgram
from microgrid.compiler.iterations import with_loops
from microgrid.compiler.passes.lift import Lifted, lift, unroll
from microgrid.compiler.passes.roll import PERIODS, Rolled, roll
from microgrid.compiler.program import Program
from microgrid.compiler.recurrences import folded
from microgrid.compiler.signature import Signature
from microgrid.compiler.simplify import longest_way
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
        program: the scalars, simplified.
        signature: what the function takes and gives.
        folded: the scalars with each long recurrence as one node.
        classes: these by structure.
        statements: about how many statements are run.
        unrolled: whether its array programs have a node for each number, for it repeats too little to be lifted.
    """

    def __init__(self, program: Program, signature: Signature, found: Program | None = None) -> None:
        """Take a function.

        Args:
            program: the scalars, simplified.
            signature: what the function takes and gives.
            found: the scalars with recurrences as nodes, if they are to be loops whatever they cost; else they are
                looked for, and are loops where all of their steps cost more.
        """
        self.program, self.signature = program, signature
        times = 1 if signature.batched else ON_FLOATS
        apart: Classes | None = None
        program = with_loops(program)
        if found is None and program is not self.program:
            found = folded(program) or program
        given, self._found = found, None
        if found is None and longest_way(program) >= SHALLOW:
            found = folded(program)
            if found is not None and chains(program):  # these need no loop around statements
                apart = classify(program, batched=signature.batched)
                found = found if len(apart.rows) > FEW else None
        if found is not None:
            self.classes: Classes = classify(found, batched=signature.batched)
            self.statements = len(self.classes.rows)
            for recurrence in found.recurrences:
                rows = classify(recurrence.body, batched=signature.batched).rows
                self.statements += recurrence.steps * sum(row.arity > 0 or row in VARIADIC for row in rows)
            better_apart = self._is_better_apart(sum(x.steps for x in found.recurrences))
            if given is None and (self.statements <= FEW or better_apart):
                self._found, found = found, None
        self.folded = found or program
        if found is None:
            self.classes = apart or classify(program, batched=signature.batched)
            self.statements = len(self.classes.rows)
        repeats = len(program) >= 2 * self.statements if signature.batched else len(program) > times * self.statements
        self.unrolled = found is None and not repeats
        self._lock = threading.RLock()
        self._programs: dict[Task, ArrayProgram] = {}

    def _is_better_apart(self, steps: int) -> bool:
        """Whether single numbers are better: steps of few of them, or too few for a statement on arrays."""
        size = len(self.program)
        return not self.signature.batched and (size <= ON_FLOATS * self.statements or size <= PERIODS * (steps + 8))

    @cached_property
    def in_loops(self) -> "Stages | None":
        """The same with its recurrences as loops, where single numbers cost less; None if it has none."""
        return None if self._found is None else Stages(self.program, self.signature, self._found)

    @property
    def scalar(self) -> bool:
        """Whether every statement is one on single numbers."""
        return self.unrolled and not self.signature.batched

    @property
    def own_task(self) -> Task:
        """The value, and the gradient by the parameters; by the arguments if there are no parameters."""
        by_parameters = self.program.parameters > 0
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
