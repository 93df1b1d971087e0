"""Functions with options or with many arguments, made of the rows."""

import math
import operator
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any, TypeVar, overload

from microgrid.ops.op import Op, Operation, T, as_float, is_number, short_repr
from microgrid.ops.table import (
    absolute,
    add,
    alone,
    chosen,
    div,
    elu_of,
    exp,
    finite,
    hypot,
    leaky_relu_of,
    log,
    maximum,
    mul,
    power,
    stop_gradient,
    sub,
    sum_of,
    take_of,
)

Entry = TypeVar("Entry")


@overload
def leaky_relu(x: float, slope: float = 0.01) -> float: ...
@overload
def leaky_relu(x: T, slope: float = 0.01) -> T: ...
def leaky_relu(x: Any, slope: Any = 0.01) -> Any:
    """Return x for x > 0, else ``slope``·x; the derivative at 0 is the slope.

    >>> mg.leaky_relu(-2.0), mg.leaky_relu(-2.0, slope=0.1)
    (-0.02, -0.2)
    """
    return leaky_relu_of(as_float(slope))(x)


@overload
def elu(x: float, alpha: float = 1.0) -> float: ...
@overload
def elu(x: T, alpha: float = 1.0) -> T: ...
def elu(x: Any, alpha: Any = 1.0) -> Any:
    """Return x for x > 0, else α(eˣ − 1); the derivative at 0 is α.

    >>> mg.elu(-1.0), mg.elu(2.0)
    (-0.6321205588285577, 2.0)
    """
    return elu_of(as_float(alpha))(x)


fabs = absolute
"""The name that the math module has for it."""


@overload
def pow(x: float, n: float) -> float: ...
@overload
def pow(x: T, n: Any) -> T: ...
@overload
def pow(x: float, n: T) -> T: ...
def pow(x: Any, n: Any) -> Any:
    """Return xⁿ, as ``x ** n``: a plain exponent or base is a constant, which is not differentiated.

    >>> mg.pow(2.0, 10.0)
    1024.0
    """
    plain = [number for number in (x, n) if not hasattr(type(number), "__apply__")]
    return x**n if len(plain) == 1 and is_number(plain[0]) else power(x, n)


@overload
def degrees(x: float) -> float: ...
@overload
def degrees(x: T) -> T: ...
def degrees(x: Any) -> Any:
    """Return an angle in radians as degrees: x · 180/π.

    >>> mg.degrees(3.141592653589793)
    180.0
    """
    return mul(x, 180.0 / math.pi)


@overload
def radians(x: float) -> float: ...
@overload
def radians(x: T) -> T: ...
def radians(x: Any) -> Any:
    """Return an angle in degrees as radians: x · π/180.

    >>> mg.radians(180.0)
    3.141592653589793
    """
    return mul(x, math.pi / 180.0)


@overload
def dist(p: Iterable[float], q: Iterable[float]) -> float: ...
@overload
def dist(p: Iterable[T], q: Iterable[Any]) -> T: ...
@overload
def dist(p: Iterable[Any], q: Iterable[Any]) -> Any: ...
def dist(p: Iterable[Any], q: Iterable[Any]) -> Any:
    """Return the distance √Σ (pᵢ − qᵢ)² of two points; its derivatives are nan where the points coincide.

    >>> mg.dist([0.0, 0.0], [3.0, 4.0])
    5.0

    Raises:
        ValueError: if the points have different dimensions, naming both.
    """
    p, q = _as_list(p), _as_list(q)
    if len(p) != len(q):
        raise ValueError(f"dist() takes two points of one dimension; got {len(p)} and {len(q)} numbers")
    return hypot(*map(sub, p, q))


@overload
def prod(xs: Iterable[float], *, start: float = 1.0) -> float: ...
@overload
def prod(xs: Iterable[T], *, start: Any = 1.0) -> T: ...
@overload
def prod(xs: Iterable[Any], *, start: Any = 1.0) -> Any: ...
def prod(xs: Iterable[Any], *, start: Any = 1.0) -> Any:
    """Return start · x₁ · … · xₙ, multiplied from left to right.

    >>> mg.prod([2.0, 3.0, 4.0])
    24.0
    """
    return reduce(mul, _as_list(xs), start)


@overload
def total(xs: float | Iterable[float]) -> float: ...
@overload
def total(xs: T | Iterable[T]) -> T: ...
@overload
def total(xs: Iterable[Any]) -> Any: ...
def total(xs: Any) -> Any:
    """Return Σ xᵢ as one node, added from left to right; 0.0 for an empty sequence, x for a bare number.

    Python's ``sum(xs)`` gives the same number, as a chain of additions.

    >>> mg.total([1.0, 2.0, 3.0])
    6.0
    """
    xs = _as_list(xs)
    if len(xs) == 1 and alone.get():
        return sum_of(1)(xs[0])
    if len(xs) == 1:
        return xs[0] if hasattr(type(xs[0]), "__apply__") else as_float(xs[0])
    if len(xs) < 3:
        return add(*xs) if xs else 0.0
    return sum_of(len(xs))(*xs)


@overload
def dot(xs: Iterable[float], ys: Iterable[float]) -> float: ...
@overload
def dot(xs: Iterable[T], ys: Iterable[Any]) -> T: ...
@overload
def dot(xs: Iterable[Any], ys: Iterable[T]) -> T: ...
@overload
def dot(xs: Iterable[Any], ys: Iterable[Any]) -> Any: ...
def dot(xs: Iterable[Any], ys: Iterable[Any]) -> Any:
    """Return Σ xᵢ·yᵢ of two sequences of one length.

    >>> mg.dot([1.0, 2.0], [3.0, 4.0])
    11.0

    Raises:
        ValueError: if the lengths differ, naming both.
    """
    xs, ys = _as_list(xs), _as_list(ys)
    if len(xs) != len(ys):
        raise ValueError(f"dot() takes two sequences of one length; got {len(xs)} and {len(ys)} numbers")
    return total(map(operator.mul, xs, ys))


@overload
def mean(xs: float | Iterable[float]) -> float: ...
@overload
def mean(xs: T | Iterable[T]) -> T: ...
@overload
def mean(xs: Iterable[Any]) -> Any: ...
def mean(xs: Any) -> Any:
    """Return the arithmetic mean Σ xᵢ / n.

    >>> mg.mean([1.0, 2.0, 6.0])
    3.0

    Raises:
        ValueError: for an empty sequence.
    """
    xs = _not_empty("mean", xs)
    if len(xs) == 1:
        return total(xs)
    return total(xs) / len(xs)  # times 1/n, which is rounded, the mean of 49 ones would not be 1


@overload
def logsumexp(xs: float | Iterable[float]) -> float: ...
@overload
def logsumexp(xs: T | Iterable[T]) -> T: ...
@overload
def logsumexp(xs: Iterable[Any]) -> Any: ...
def logsumexp(xs: Any) -> Any:
    """Return log Σ exp(xᵢ), computed as m + log Σ exp(xᵢ − m) with m = max xᵢ, so nothing overflows.

    The maximum is held constant (``stop_gradient``), so the derivative is softmax(xs), free of its noise.
    An infinite maximum is the result, −inf if all are −inf; as in PyTorch, the derivatives are nan there.

    >>> mg.logsumexp([1000.0, 1000.0])
    1000.6931471805599

    Raises:
        ValueError: for an empty sequence.
    """
    xs = _not_empty("logsumexp", xs)
    shift = stop_gradient(finite(maximum(*xs)))
    return log(total(exp(x - shift) for x in xs)) + shift


@overload
def softmax(xs: float | Iterable[float]) -> list[float]: ...
@overload
def softmax(xs: T | Iterable[T]) -> list[T]: ...
@overload
def softmax(xs: Iterable[Any]) -> list[Any]: ...
def softmax(xs: Any) -> list[Any]:
    """Return exp(xᵢ) / Σⱼ exp(xⱼ) for each i (chapter 3.5), shifted by the maximum so nothing overflows.

    An infinite maximum gives nan (inf − inf), as in PyTorch: the shares of several have no limit.

    >>> mg.softmax([1000.0, 1000.0])
    [0.5, 0.5]

    Raises:
        ValueError: for an empty sequence.
    """
    xs = _not_empty("softmax", xs)
    shift = stop_gradient(maximum(*xs))
    exponentials = [exp(x - shift) for x in xs]
    denominator = total(exponentials)
    return [div(e, denominator) for e in exponentials]


@overload
def take(values: Sequence[Any], index: T) -> Any: ...
@overload
def take(values: Sequence[Entry], index: Any) -> Entry: ...
def take(values: Sequence[Any], index: Any) -> Any:
    """Return one of several values by its index: ``values[index]``, also where the index is a Value.

    Indices are those of Python's lists: from 0, or from the end if negative, as −1. A plain index gives the entry
    itself, whatever it is, and makes no node. A Value as the index makes an operation on the index and all entries,
    whose gradient goes to the chosen one; the index has none. The result is nan if that index is not a whole number or
    out of range, because a compiled function cannot raise. Of a table, a list of rows, the result is a list: the row.

    >>> table = [[1.0, 2.0], [3.0, 4.0]]
    >>> take(table, 1), take(table[0], -1)
    ([3.0, 4.0], 2.0)

    Raises:
        IndexError: if a plain index is out of range, naming it and the number of entries.
        TypeError: if the values are no sequence, or the index is no number.
        ValueError: if there are no entries; or, for a Value, if the rows of a table differ in length.
    """
    if not _is_row(values):
        raise TypeError(f"take() takes a list of values and an index; got {short_repr(values)} as the list")
    if not len(values):
        raise ValueError("take() needs at least one value; got an empty list")
    if not hasattr(type(index), "__apply__"):
        place = as_float(index)
        if not (-len(values) <= place < len(values) and place.is_integer()):
            raise IndexError(
                f"take(): there is no entry {index!r} among {len(values)}: give a whole number from "
                f"{-len(values)} to {len(values) - 1}; those below 0 count from the end"
            )
        return values[int(place)]
    lengths = {len(x) if _is_row(x) else None for x in values}
    if len(lengths) > 1:
        raise ValueError(
            "take() by a Value takes numbers, or rows of one length; got "
            + " and ".join(sorted("numbers" if n is None else f"rows of {n}" for n in lengths))
        )
    if lengths == {None}:
        return take_of(len(values))(index, *values)
    return [take(column, index) for column in zip(*values, strict=True)]


def _is_row(x: Any) -> bool:
    """Whether it is a sequence of entries: a list, a tuple, an array."""
    kind = type(x)
    return hasattr(kind, "__len__") and hasattr(kind, "__getitem__") and not isinstance(x, (str, bytes, dict))


def sent(op: Operation, gradient: Any, derivative: Any) -> Any:
    """Return gradient · derivative; for a row that chooses, exactly 0 to the arguments that are not chosen."""
    if isinstance(op, Op) and op.chooses:
        return chosen(derivative, gradient)
    return mul(gradient, derivative)


def _as_list(xs: Any) -> list[Any]:
    """Return a sequence as a list; a bare Value or number is a list of one."""
    if hasattr(type(xs), "__iter__") and not isinstance(xs, (str, bytes)):
        return list(xs)
    return [xs if hasattr(type(xs), "__apply__") else as_float(xs)]


def _not_empty(name: str, xs: Iterable[Any]) -> list[Any]:
    xs = _as_list(xs)
    if not xs:
        raise ValueError(f"{name}() needs at least one number; got an empty sequence")
    return xs
