"""What kernels run on, and the choice among it."""

from microgrid.compiler.stages import Stages
from microgrid.compiler.targets.floats import Floats
from microgrid.compiler.targets.loops import Loops
from microgrid.compiler.targets.numpy import NumPy
from microgrid.compiler.targets.target import Target

TARGETS: tuple[Target, ...] = (Loops(), Floats(), NumPy())
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


def choose(stages: Stages, name: str | None) -> tuple[Target, dict[str, str]]:
    """Return the first target that suits, or the one of a name, and why those before do not, by their names.

    Raises:
        ValueError: if the one of the name does not suit.
    """
    why_not: dict[str, str] = {}
    for target in TARGETS if name is None else [named(name)]:
        reason = target.suits(stages)
        if reason is None:
            return target, why_not
        why_not[target.name] = reason
    others = ", ".join(repr(target.name) for target in TARGETS if target.name != name)
    raise ValueError(f"target {name!r} does not suit this function: {why_not[str(name)]}; take {others} or None")
