"""A target computes what a kernel is asked for. A new one is a module, and a line of ``TARGETS``."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from microgrid.compiler.signature import Floats
from microgrid.compiler.stages import Stages
from microgrid.compiler.task import Task


class Executable(Protocol):
    """A program that computes one task.

    Arrays are C-contiguous and of the kernel's dtype: ``theta`` has a number per parameter; ``seed`` one per output,
    for each sample behind where the samples are kept apart, and none if the task takes no seed. An argument has a row
    per sample, or is flat. An output has its form, the samples behind; all its numbers are written.
    Several threads may run one executable at once.
    """

    def run(self, theta: Floats, seed: Floats, arguments: Sequence[Floats], outs: Sequence[Floats]) -> None:
        """Compute the outputs."""
        ...

    def bind(
        self, size: int, theta: Floats, seed: Floats, outs: Sequence[Floats]
    ) -> Callable[[Sequence[Floats]], None]:
        """Return a function of the arguments that does the same each time, for ``size`` samples, for one thread."""
        ...

    def entered(self, slow: Callable[..., Any], theta: Floats, gradient: Floats) -> Callable[..., Any]:
        """Return what does the same as a step of learning that is bound to these arrays, but is entered faster."""
        ...

    def function(self, slow: Callable[..., Any], theta: Floats) -> Callable[..., Any]:
        """Return what does the same as a function of plain numbers at these parameters, but is entered faster."""
        ...

    def text(self, stage: str) -> str:
        """Return one of the target's stages as text."""
        ...


class Plain:
    """What executables are that Python calls as it calls anything."""

    def entered(self, slow: Callable[..., Any], theta: Floats, gradient: Floats) -> Callable[..., Any]:
        """Return a bound step of learning."""
        return slow

    def function(self, slow: Callable[..., Any], theta: Floats) -> Callable[..., Any]:
        """Return a function of plain numbers."""
        return slow


class Target(Protocol):
    """Makes executables."""

    @property
    def name(self) -> str:
        """By which a user asks for it."""
        ...

    @property
    def stages(self) -> tuple[str, ...]:
        """Which texts an executable has; the last, ``"source"``, is what runs."""
        ...

    def suits(self, stages: Stages) -> str | None:
        """Return why it is not the one for a function; None if it is."""
        ...

    def build(self, stages: Stages, task: Task) -> Executable:
        """Return the executable of a task."""
        ...
