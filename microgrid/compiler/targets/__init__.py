"""What kernels run on, and the choice among it."""

import os
import warnings
from contextlib import suppress
from functools import cached_property

from microgrid.compiler.stages import Stages
from microgrid.compiler.targets.floats import Floats
from microgrid.compiler.targets.loops import Loops
from microgrid.compiler.targets.native.tape import NativeTape
from microgrid.compiler.targets.native.target import Native
from microgrid.compiler.targets.numpy import NumPy
from microgrid.compiler.targets.tape import Tape
from microgrid.compiler.targets.target import Executable, Target
from microgrid.compiler.task import Task

_LOOPS = Native()
NATIVE: tuple[Target, ...] = (_LOOPS, NativeTape())
TARGETS: tuple[Target, ...] = (*NATIVE, Tape(), Loops(), Floats(), NumPy())
"""All of them; a kernel takes the first that suits."""


def named(name: str) -> Target:
    """Return the target of a name.

    Raises:
        ValueError: if there is none of this name.
    """
    found = {target.name: target for target in TARGETS}
    if name not in found:
        raise ValueError(f"target must be {', '.join(map(repr, found))} or None; got {name!r}")
    return found[name]


class Choice:
    """What computes a function: the first target that suits, or the one that is insisted on.

    Native code that is known from before needs no choice: then nothing is looked at before someone asks for it.
    """

    def __init__(self, stages: Stages, name: str | None) -> None:
        """Choose.

        Raises:
            ValueError: if the target of the name does not suit.
        """
        self.stages, self.insisted = stages, name
        self._reasons: dict[str, str] = {}
        self._known: dict[Task, Executable] = {}
        if name is not None and not (name == _LOOPS.name and self._recalled(stages.own_task)):
            self.target = self._next()

    @cached_property
    def target(self) -> Target:
        """The target."""
        return self._next()

    @property
    def why_not(self) -> dict[str, str]:
        """Why those before it do not suit, by their names."""
        _ = self.target  # they come up on the way to it
        return self._reasons

    def _next(self) -> Target:
        for target in TARGETS if self.insisted is None else [named(self.insisted)]:
            if target.name not in self._reasons:
                reason = "MICROGRID_NATIVE is off" if self._is_off(target) else target.suits(self.stages)
                if reason is None:
                    return target
                self._reasons[target.name] = reason
        name = str(self.insisted)
        others = ", ".join(repr(target.name) for target in TARGETS if target.name != name)
        raise ValueError(f"target {name!r} does not suit this function: {self._reasons[name]}; take {others} or None")

    def _is_off(self, target: Target) -> bool:
        return self.insisted is None and target in NATIVE and os.environ.get("MICROGRID_NATIVE", "").lower() == "off"

    def _recalled(self, task: Task) -> bool:
        """Whether native code of a task is known from before, which is kept then."""
        if task not in self._known:
            with suppress(Exception):  # whatever it is, the code is made anew
                known = _LOOPS.recalled(self.stages, task)
                if known is not None:
                    self._known[task] = known
        return task in self._known

    def build(self, task: Task) -> Executable:
        """Return the executable of a task: by the next target, with a warning, if native code cannot be made.

        Raises:
            ValueError: if the target was insisted on.
        """
        if "target" not in vars(self) and not self._is_off(_LOOPS) and self._recalled(task):
            return self._known[task]
        if self.target not in NATIVE:
            return self.target.build(self.stages, task)
        try:
            return self.target.build(self.stages, task)
        except Exception as error:  # whatever it is, there is another way to compute the function
            self._reasons[self.target.name] = f"{type(error).__name__}: {error}"
            failed, self.target = self.target, self._next()
            warnings.warn(
                f"there is no {failed.name} code for this function, which runs by {self.target.name!r} instead: "
                f"{self._reasons[failed.name]}",
                RuntimeWarning,
                stacklevel=4,
            )
            return self.build(task)
