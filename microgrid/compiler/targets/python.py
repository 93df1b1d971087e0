"""Programs as text of Python: what the targets that write it share."""

import weakref
from collections.abc import Iterable, Sequence
from typing import Any

from microgrid.compiler.ir import (
    Argument,
    BatchSize,
    BatchWeight,
    Constant,
    Node,
    Parameters,
    Seed,
    Slot,
    View,
)
from microgrid.ops import Op

LINES = 2000
"""A function of more lines is cut in parts: Python compiles giant functions slowly."""


def number(x: float) -> str:
    """Return a number as Python text; ``inf`` and ``nan`` are names that every program knows."""
    return repr(x) if x >= 0 else f"({x!r})"


def call(name: str, op: Op, operands: Sequence[str], out: str = "") -> str:
    """Write a call of a row's function on arrays: of the constants of its recipe, then of its operands."""
    constants = op.recipe[1] if op.recipe is not None else ()
    return f"{name}({', '.join([*map(number, constants), *operands, *[out] * bool(out)])})"


def infix(op: Op, operands: Sequence[str]) -> str:
    """Write a row that has an operator of Python."""
    return op.operator + operands[0] if op.arity == 1 else f" {op.operator} ".join(operands)


class Names:
    """The names of nodes in a program, and the objects that its text finds under a name."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.objects: dict[str, Any] = {}
        self.of: dict[int, str] = {}
        counter = 0
        for x in nodes:
            match x:
                case Argument():
                    self.of[x.number] = f"x{x.position}"
                case Parameters():
                    self.of[x.number] = "theta"
                case BatchSize() | BatchWeight() | Seed():
                    self.of[x.number] = x.name
                case Constant():
                    self.of[x.number] = self.keep("constant", x.values)
                case Slot():
                    self.of[x.number] = f"s{x.position}"
                case View():
                    pass
                case _:
                    counter += 1
                    self.of[x.number] = f"v{counter}"

    def keep(self, kind: str, value: Any) -> str:
        """Return a name under which the text finds an object."""
        name = f"{kind}{sum(key.startswith(kind) for key in self.objects) + 1}"
        self.objects[name] = value
        return name

    def function(self, op: Op) -> str:
        """Return the name of a row's forward, mapped over arrays."""
        for name, value in self.objects.items():
            if value is op:
                return name
        return self.keep("mapped", op)


def defined(code: Any, namespace: dict[str, Any]) -> Any:
    """Execute a program and return its ``run``.

    Its namespace refers to no function that refers to it, or the buffers in it would live until they are collected.
    """
    exec(code, namespace)
    run = namespace.pop("run")
    run.parts = {name: x for name, x in namespace.items() if getattr(x, "__globals__", None) is namespace}
    namespace |= {name: weakref.proxy(part) for name, part in run.parts.items()}
    return run
