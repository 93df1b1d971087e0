"""How far a number may be off by rounding, found by random rounding.

The computation is repeated with each result moved by a random fraction of its last place, and the spread of the
outcomes is the noise of the outcome (Vignes, 1978; Parker, 1997). It needs no derivative, and it sees the cancellation
in 1e16 + x − 1e16. It does not see inside a user's forward function.
"""

import math
from collections.abc import Sequence
from random import Random
from typing import Any

from microgrid import ops
from microgrid.ops import Operation, Operators, as_float

UNIT = 2.0**-53
"""The largest relative error of one rounded operation."""

SAMPLES = 4
"""How many times a result is computed anew with random rounding."""


def rounded(y: float, random: Random, size: float = 0.0) -> float:
    """Return y moved by up to two units in its last place, or in that of ``size``; 0, inf and nan stay."""
    return y + math.ulp(size or y) * (4.0 * random.random() - 2.0) if (y or size) and math.isfinite(y) else y


class Noisy(Operators):
    """A number whose operations round at random: it flows through the table as a Value does."""

    __slots__ = ("data", "random")

    def __init__(self, data: float, random: Random) -> None:
        self.data = data
        self.random = random

    @classmethod
    def __apply__(cls, op: Operation, arguments: tuple[Any, ...]) -> "Noisy":
        random = next(x.random for x in arguments if isinstance(x, cls))
        xs = [as_float(x) for x in arguments]
        y = op.forward(*xs)
        return cls(y if _is_exact(op, y, xs) else rounded(y, random), random)

    def __float__(self) -> float:
        return self.data

    def __bool__(self) -> bool:
        return bool(self.data)

    def __lt__(self, other: object) -> bool:
        return self.data < as_float(other)

    def __le__(self, other: object) -> bool:
        return self.data <= as_float(other)

    def __gt__(self, other: object) -> bool:
        return self.data > as_float(other)

    def __ge__(self, other: object) -> bool:
        return self.data >= as_float(other)


def _is_exact(op: Operation, y: float, xs: list[float]) -> bool:
    """Whether nothing is rounded: in a choice, a comparison, a product with a power of 2, a sum with no remainder."""
    if op is ops.mul:
        return any(math.frexp(abs(x))[0] == 0.5 for x in xs)
    if op in (ops.add, ops.sub):
        a, b = xs[0], y - xs[0]
        remainder = (xs[1] if op is ops.add else -xs[1]) - b + (a - (y - b))  # Knuth's sum of two
        return not remainder
    return y in xs or not any(op.connected)


def is_program(op: Operation) -> bool:
    """Return whether an operation is a whole program, as the call of a compiled function is."""
    return hasattr(op, "passing")


def local_derivative(op: Operation, i: int, y: float, xs: list[float], random: Random | None = None) -> float:
    """Return ∂y/∂xs[i] as the row gives it, as a float; with random rounding inside if asked for."""
    if is_program(op):
        return local_derivatives(op, y, xs, random)[i]
    if random is None:
        return _partial(op.partials[i], y, xs)
    return _partial(op.partials[i], y, xs, [Noisy(x, random) for x in (y, *xs)])


def local_derivatives(op: Operation, y: float, xs: list[float], random: Random | None = None) -> tuple[float, ...]:
    """Return ∂y/∂xs as the row gives it.

    An operation that is a whole program, as a compiled function is, gives all of them at once, with the rounding of its
    operands only.
    """
    if not is_program(op):
        noisy = () if random is None else [Noisy(x, random) for x in (y, *xs)]
        return tuple([_partial(partial, y, xs, noisy) for partial in op.partials])
    if random is not None:
        coarser = op.unit / UNIT  # type: ignore[attr-defined]
        xs = [rounded(x, random, coarser * x) for x in xs]
    return tuple(map(as_float, op.local_derivatives(y, *xs)))


def _partial(partial: Any, y: float, xs: Sequence[float], noisy: Sequence[Noisy] = ()) -> float:
    if not callable(partial):
        return as_float(partial)
    if noisy:
        try:
            return as_float(partial(*noisy))
        except (TypeError, AttributeError):  # a partial that takes floats only: its inner rounding stays unknown
            pass
    return as_float(partial(y, *xs))


def same(a: float, b: float) -> bool:
    """Whether two numbers are equal, or both nan."""
    return a == b or (math.isnan(a) and math.isnan(b))


def agree(op: Operation, a: float, b: float) -> bool:
    """Whether a node's number is the same; for a compiled call up to the order of its sums, which a batch changes."""
    unit: float = getattr(op, "unit", 0.0)  # which a compiled call has
    if not unit or not math.isfinite(a - b):
        return same(a, b)
    return abs(a - b) <= 2.0**10 * unit * max(1.0, abs(a), abs(b))
