"""A function on its way to a target: each stage of its compilation, computed once, when it is first asked for."""

import threading
from functools import cached_property

from microgrid.compiler.classes import Classes, classify
from microgrid.compiler.ir import ArrayProgram
from microgrid.compiler.passes.lift import Lifted, lift, unroll
from microgrid.compiler.passes.roll import Rolled, roll
from microgrid.compiler.program import Program
from microgrid.compiler.signature import Signature
from microgrid.compiler.task import Task, array_program
from microgrid.compiler.tracing import without_collector


class Stages:
    """What the compiler knows of a function.

    Attributes:
        program: the scalars, simplified.
        signature: what the function takes and gives.
        classes: the scalars by structure.
        unrolled: whether its array programs have a node for each number, for it repeats too little to be lifted.
    """

    def __init__(self, program: Program, signature: Signature) -> None:
        self.program, self.signature = program, signature
        self.classes: Classes = classify(program, batched=signature.batched)
        count = len(self.classes.rows)
        if signature.batched:
            self.unrolled = 2 * count > len(program)
        else:
            # A statement on arrays costs some 20 times what one on floats does, however short the array.
            self.unrolled = len(program) <= 20 * count
        self._lock = threading.RLock()
        self._programs: dict[Task, ArrayProgram] = {}

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
            return unroll(self.program, batched) if self.unrolled else lift(self.program, self.classes, batched)

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
