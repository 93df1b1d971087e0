"""A row in terms of other rows, whatever these mean: on arrays, on complex numbers, as text."""

from collections.abc import Callable, Sequence
from typing import Any

from microgrid.ops.op import Operation, as_float, number
from microgrid.ops.operators import Operators

Meaning = Callable[[Any, Sequence[Any]], Any]
"""``meaning(op, operands)`` computes a row of whatever stands for numbers."""


def expand(op: Operation, meaning: Meaning, arguments: Sequence[Any]) -> Any:
    """Return the expansion of a row in other rows, each computed by ``meaning``.

    >>> from microgrid.ops import relu
    >>> expand(relu, lambda op, xs: f"{op.name}({xs[0]}, {xs[1]})", ["x"])
    'maximum(x, 0.0)'

    Args:
        op: a row that has an ``expansion``.
        meaning: computes another row of texts, arrays or complex numbers in the place of numbers.
        arguments: the texts, arrays or complex numbers in the place of the row's arguments.

    Raises:
        TypeError: if the expansion raises one, naming the operation, or gives no number. Those of ``meaning`` pass.
    """
    assert op.expansion is not None, op.name
    of_meaning: list[TypeError] = []

    def compute(row: Operation, operands: Sequence[object]) -> object:
        try:
            return meaning(row, operands)
        except TypeError as error:
            of_meaning.append(error)
            raise

    try:
        result = op.expansion(*[_Symbol(argument, compute) for argument in arguments])
    except TypeError as error:
        if error in of_meaning:
            raise
        raise TypeError(
            f"operation {op.name!r}: its expansion raises TypeError: {error}; write it for {op.arity} argument(s) with "
            "operators and operations of the table"
        ) from error
    return result.content if isinstance(result, _Symbol) else number(op, result, "expansion")


class Symbolic(Operators):
    """A number that is unknown while operations are recorded: a branch on it is a ``TypeError``."""

    __slots__ = ()

    def __bool__(self) -> bool:
        raise TypeError("it chooses by the number itself; write where(condition, a, b)")

    def __lt__(self, other: object) -> bool:
        return bool(self)

    def __eq__(self, other: object) -> bool:
        return bool(self)

    __le__ = __gt__ = __ge__ = __lt__
    __hash__ = object.__hash__


class _Symbol(Symbolic):
    """Stands for a number while a row is expanded."""

    __slots__ = ("content", "meaning")

    def __init__(self, content: Any, meaning: Meaning) -> None:
        self.content = content
        self.meaning = meaning

    @classmethod
    def __apply__(cls, op: Operation, arguments: tuple[Any, ...]) -> "_Symbol":
        meaning = next(x.meaning for x in arguments if isinstance(x, _Symbol))
        return cls(meaning(op, [x.content if isinstance(x, _Symbol) else as_float(x) for x in arguments]), meaning)
