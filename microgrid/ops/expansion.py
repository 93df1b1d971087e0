"""A row in terms of other rows, whatever these mean: on arrays, on complex numbers, as text."""

from collections.abc import Callable, Sequence
from typing import Any

from microgrid.ops.op import Operation, as_float
from microgrid.ops.operators import Operators

Meaning = Callable[[Any, Sequence[Any]], Any]
"""``meaning(op, arguments)`` is a row of what stands for numbers."""


def expand(op: Operation, meaning: Meaning, arguments: Sequence[Any]) -> Any:
    """Return a row as its expansion in other rows says, whatever these mean.

    >>> from microgrid.ops import relu
    >>> expand(relu, lambda op, xs: f"{op.name}({xs[0]}, {xs[1]})", ["x"])
    'maximum(x, 0.0)'

    Args:
        op: a row that has an ``expansion``.
        meaning: what another row is of what stands for numbers: texts, arrays, complex numbers.
        arguments: what stands for the numbers that the row is given.

    Raises:
        TypeError: if the expansion is not written with operators and operations of the table.
    """
    assert op.expansion is not None, op.name
    try:
        result = op.expansion(*[_Standing(argument, meaning) for argument in arguments])
    except TypeError as error:
        raise TypeError(
            f"operation {op.name!r}: its expansion is not written with operators and operations of the table: {error}"
        ) from error
    return result.content if isinstance(result, _Standing) else result


class _Standing(Operators):
    """What stands for a number while a row is expanded."""

    __slots__ = ("content", "meaning")

    def __init__(self, content: Any, meaning: Meaning) -> None:
        self.content = content
        self.meaning = meaning

    @classmethod
    def __apply__(cls, op: Operation, arguments: tuple[Any, ...]) -> "_Standing":
        meaning = next(x.meaning for x in arguments if isinstance(x, _Standing))
        return cls(meaning(op, [x.content if isinstance(x, _Standing) else as_float(x) for x in arguments]), meaning)

    def __bool__(self) -> bool:
        raise TypeError("it chooses by the number itself; write where(condition, a, b)")

    def __eq__(self, other: object) -> bool:
        return bool(self)

    def __lt__(self, other: object) -> bool:
        return bool(self)

    def __le__(self, other: object) -> bool:
        return bool(self)

    def __gt__(self, other: object) -> bool:
        return bool(self)

    def __ge__(self, other: object) -> bool:
        return bool(self)

    def __hash__(self) -> int:
        return id(self)
