"""Functions on arrays that NumPy lacks, with the conventions of the table.

Programs call them as ``special.sigmoid(x, out=y)``; ``numpy_namespace`` holds what a program finds under its names.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache, reduce
from itertools import pairwise, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microgrid import ops
from microgrid.environment import require
from microgrid.ops import Op, ieee

Array = Any


def mapped(forward: Any, arguments: int) -> Any:
    """Return a function of floats as a function of arrays; slow, as it calls Python for each number."""
    by_number = np.frompyfunc(forward, arguments, 1)

    def function(*xs: Array, out: Array = None) -> Array:
        result = by_number(*xs)
        if out is None:
            types = [x.dtype for x in xs if hasattr(x, "dtype")]  # NumPy 1 would look at the values of single numbers
            return np.asarray(result, dtype=np.result_type(*types, np.float32))
        out[...] = result
        return out

    return function


def _into(out: Array, result: Array) -> Array:
    if out is None:
        return result
    out[...] = result
    return out


def _by_number(op: Op, chosen: Any, x: Array, result: Array, out: Array) -> Array:
    """Return the result, but the table's own numbers where they are chosen."""
    if not np.any(chosen):
        return result
    result = np.array(result)
    result[chosen] = mapped(op.forward, 1)(np.asarray(x)[chosen])
    return _into(out, result)


@cache
def scipy_special() -> Any:
    """Return SciPy's special functions, loaded when a program first needs one: that takes a third of a second."""
    return require("scipy.special", "a program on arrays with a special function such as erf or gamma", "compile")


def lgamma_beside_zeros(xp: Any, x: Array, other: Array) -> Array:
    """Return log Γ(x) as ``ieee.lgamma`` has it where x is between ½ and 2½, elsewhere what is given.

    Other libraries lose all digits beside the zeros at 1 and 2.
    """
    above, between = x > 1.5, (x > 0.5) & (x < 2.5)
    w = xp.where(between, xp.where(above, x - 2.0, x - 1.0), 0.0)
    series = w * reduce(lambda total, a: total * w + a, ieee.lgamma_series())
    return xp.where(between, series - xp.where(above, 0.0, xp.log1p(w)), other)


class NumPySpecial:
    """The namespace ``special`` of programs on NumPy arrays."""

    @staticmethod
    def erf(x: Array, out: Array = None) -> Array:
        """The error function."""
        return scipy_special().erf(x, out=out)

    @staticmethod
    def erfc(x: Array, out: Array = None) -> Array:
        """1 − erf(x)."""
        return scipy_special().erfc(x, out=out)

    @staticmethod
    def lgamma(x: Array, out: Array = None) -> Array:
        """Logarithm of |Γ(x)|; SciPy's is inf where x is subnormal, where it is −log |x|, and −inf at −inf."""
        size = np.abs(x)
        result = lgamma_beside_zeros(np, x, scipy_special().gammaln(x))
        return _into(out, np.where(np.isinf(size), size, np.where(size < 1e-300, -np.log(size), result)))

    @staticmethod
    def digamma(x: Array, out: Array = None) -> Array:
        """ψ(x), left of 0 number by number: SciPy's loses all digits near the poles."""
        return _by_number(ops.digamma, np.less(x, 0.0), x, scipy_special().psi(x, out=out), out)

    @staticmethod
    def polygamma(n: int, x: Array, out: Array = None) -> Array:
        """ψ⁽ⁿ⁾(x), number by number: SciPy's has other values at the poles."""
        return mapped(ops.polygamma_of(n).forward, 1)(x, out=out)

    @staticmethod
    def gamma(x: Array, out: Array = None) -> Array:
        """Γ(x); SciPy's has other values at the poles left of 0, from version to version, and is 0 from −172 on."""
        special = np.less(x, 0.0) & np.equal(x, np.floor(x)) | np.less(x, -150.0)
        return _by_number(ops.gamma, special, x, scipy_special().gamma(x, out=out), out)

    @staticmethod
    def ieee_remainder(a: Array, b: Array, out: Array = None) -> Array:
        """IEEE 754's remainder."""
        return _into(out, remainder_of(np, a, b))

    @staticmethod
    def copysign_or_nan(a: Array, b: Array, out: Array = None) -> Array:
        """|a| with the sign of b; nan where b is nan."""
        return _into(out, np.where(np.isnan(b), np.nan, np.copysign(a, b)))

    @staticmethod
    def sigmoid(x: Array, out: Array = None) -> Array:
        """1 / (1 + e⁻ˣ), where an overflow is no harm: 0, as if numbers below 1e-308 were."""
        return np.divide(1.0, np.add(np.exp(np.multiply(x, -1.0, out=out), out=out), 1.0, out=out), out=out)

    @staticmethod
    def sigmoid_slope(x: Array, out: Array = None) -> Array:
        """σ(x)·σ(−x) = ½ / (1 + cosh x), where an overflow is no harm."""
        return np.divide(0.5, np.add(np.cosh(x, out=out), 1.0, out=out), out=out)

    @staticmethod
    def sech2(x: Array, out: Array = None) -> Array:
        """1 / cosh² x, where an overflow is no harm."""
        c = np.cosh(x, out=out)
        return np.reciprocal(np.multiply(c, c, out=out), out=out)

    @staticmethod
    def direction(a: Array, b: Array, out: Array = None) -> Array:
        """The cosine a / √(a² + b²); ±1 where only a is infinite."""
        result = np.divide(a, np.hypot(a, b), out=out)
        infinite = np.isinf(a)
        if np.any(infinite):
            result = _into(out, np.where(infinite & np.isfinite(b), np.sign(a), result))
        return result

    @staticmethod
    def c_power(x: Array, n: Array, out: Array = None) -> Array:
        """xⁿ; NumPy takes a square root for n = ½, which is nan for −inf and −0 for −0."""
        result = np.power(x, n, out=out)
        if isinstance(n, float) and n == 0.5:
            result = np.add(result, 0.0, out=out)
            result = _into(out, np.where(np.equal(x, -np.inf), np.inf, result))
        return result

    @staticmethod
    def power_log(k: int, x: Array, n: Array, out: Array = None) -> Array:
        """xⁿ·logᵏ x, which is 0 at x = 0 for n ≥ 0, and at x = inf for n < 0."""
        return _into(out, power_log_of(np, k, x, n))

    @staticmethod
    def where(condition: Array, a: Array, b: Array, out: Array = None) -> Array:
        """A where the condition is not 0, else b."""
        if out is None:
            return np.where(condition, a, b)
        np.copyto(out, b)
        np.copyto(out, a, where=condition if condition.dtype == bool else np.not_equal(condition, 0.0))
        return out


_FEW = 64
"""So few numbers a step are accumulated by NumPy's own loop, which goes along each of them."""


def accumulate(
    out: Array,
    place: int,
    backward: bool,
    number: Callable[..., float],
    ufunc: Any,
    step: Callable[..., Array],
    start: Array,
    *inputs: Array,
) -> None:
    """Write the states of a recurrence, along the first axis.

    Args:
        out: one state more than there are steps.
        place: which operand of a step the state is.
        backward: whether it runs from the last to the first.
        number: a step of plain floats.
        ufunc: one of NumPy's functions that is a step, with the state as its first operand, or ``None``.
        step: a step of arrays.
        start: the first state.
        *inputs: the other operands, arrays with an entry for each step, or plain numbers.
    """
    if backward:
        out, inputs = out[::-1], tuple(x[::-1] if np.ndim(x) else x for x in inputs)
    out[0] = start
    count = len(out) - 1
    if ufunc is not None and out[0].size <= _FEW:
        along = _ALONG.get(ufunc, _accumulate_blocks) if out.ndim == 1 and np.ndim(inputs[0]) else _accumulate_all
        along(ufunc, out, inputs[0])
        return
    steps = [x if np.ndim(x) else repeat(x, count) for x in inputs]
    if out.ndim > 1:
        for k, xs in enumerate(zip(*steps, strict=True)):
            out[k + 1] = step(*xs[:place], out[k], *xs[place:])
        return
    numbers = [x.tolist() if isinstance(x, np.ndarray) else x for x in steps]
    state, states = float(start), []
    if len(numbers) == 2 and not place:
        for a, b in zip(*numbers, strict=True):
            state = number(state, a, b)
            states.append(state)
    else:
        for xs in zip(*numbers, strict=True):
            state = number(*xs[:place], state, *xs[place:])
            states.append(state)
    out[1:] = states


def _scan(
    out: Array,
    step: Callable[..., None],
    state: Array,
    new: Array,
    backward: bool,
    start: Array,
    inputs: Sequence[Array],
    constants: Sequence[Array],
    idle: tuple[int, int] | None,
    made: NDArray[np.intp] | None,
) -> None:
    """Write the states of a recurrence, along the first axis, of which a step computes the new state from the state.

    Steps that are idle in all samples are not made: see ``Scan``. How many are stands in ``made``, of a recurrence that
    ends by itself and of those that read its states; then nobody reads the states of idle steps but the last one, and
    they are not written.
    """
    if backward:
        out, inputs = out[::-1], [x[::-1] for x in inputs]
    out[0] = state[...] = start
    first, last, ended = 0, len(out) - 1, None
    if idle is not None and idle[0] and made is not None:
        first, last = (last - int(made[0]), last) if backward else (0, int(made[0]))
    elif idle is not None and idle[0]:
        flags = inputs[idle[0] - 1][:, idle[1]]
        busy = np.flatnonzero(~flags.reshape(len(flags), -1).all(axis=1))
        first, last = (int(busy[0]), int(busy[-1]) + 1) if len(busy) else (0, 0)
    elif idle is not None:
        ended = state[idle[1] : idle[1] + 1]
    out[1 if made is None else first : first + 1] = state
    for k, (target, *xs) in enumerate(zip(out[first + 1 : last + 1], *[x[first:last] for x in inputs], strict=True)):
        if ended is not None and ended.all():
            last = k
            break
        step(*xs, *constants)
        target[...] = state[...] = new
    out[last + 1 if made is None else -1 :] = state
    if made is not None:
        made[0] = last - first


_BLOCK = 256
"""NumPy accumulates so many numbers of one array quickly, more of them slowly."""


def _accumulate_all(ufunc: Any, out: Array, terms: Array) -> None:
    out[1:] = terms
    ufunc.accumulate(out, 0, None, out)


def _accumulate_blocks(ufunc: Any, out: Array, terms: Array) -> None:
    for begin in range(0, len(terms), _BLOCK):
        _accumulate_all(ufunc, out[begin : begin + _BLOCK + 1], terms[begin : begin + _BLOCK])


def _accumulate_extremes(ufunc: Any, out: Array, terms: Array) -> None:
    """Accumulate an extreme, which stays what it is in a block of terms that has nothing beyond it."""
    whole = len(terms) // _BLOCK * _BLOCK
    blocks = terms[:whole].reshape(-1, _BLOCK)
    ends = ufunc.accumulate(np.concatenate([out[:1], ufunc.reduce(blocks, 1)]))
    out[1 : whole + 1].reshape(-1, _BLOCK)[...] = ends[:-1, None]
    for k in np.flatnonzero(ends[1:] != ends[:-1]).tolist():  # nan differs from itself
        out[k * _BLOCK] = ends[k]
        _accumulate_all(ufunc, out[k * _BLOCK : (k + 1) * _BLOCK + 1], blocks[k])
    _accumulate_all(ufunc, out[whole:], terms[whole:])


def _accumulate_changes(ufunc: Any, out: Array, factors: Array) -> None:
    """Accumulate a product of which most factors are 1, as they are where a gradient passes a running maximum."""
    changes = np.flatnonzero(factors != 1.0)
    if len(changes) * _FEW > len(factors):
        _accumulate_blocks(ufunc, out, factors)
        return
    product, begin = out[0], 0
    for end in (changes + 1).tolist():
        out[begin:end] = product
        product, begin = product * factors[end - 1], end
    out[begin:] = product


_ALONG: dict[Any, Callable[[Any, Array, Array], None]] = {
    np.maximum: _accumulate_extremes,
    np.minimum: _accumulate_extremes,
    np.multiply: _accumulate_changes,
}


def is_ufunc(name: str) -> bool:
    """Whether this is the name of one of NumPy's own functions, which compute number by number, also in place."""
    return isinstance(getattr(np, name, None), np.ufunc)


def numpy_name(ufunc: str) -> str:
    """Return by which name programs on NumPy arrays call a function; empty if there is none."""
    if ufunc in vars(NumPySpecial):
        return f"special.{ufunc}"
    return ufunc if is_ufunc(ufunc) else ""


def power_log_of(xp: Any, k: int, x: Array, n: Array) -> Array:
    """Return xⁿ·logᵏ x, which is 0 at x = 0 for n ≥ 0, and at x = inf for n < 0."""
    pole = xp.where(xp.less(n, 0.0), xp.power(xp.abs(x), n) * (-1.0) ** k, xp.where(xp.isnan(n), n, 0.0))
    finite = xp.where(xp.equal(x, math.inf) & xp.less(n, 0.0), 0.0, xp.power(x, n) * xp.log(x) ** k)
    return xp.where(xp.equal(x, 0.0), pole, finite)


def remainder_of(xp: Any, a: Array, b: Array) -> Array:
    """Return a − q·b with the whole number q nearest to a ÷ b, of two the even one: exact, as ``fmod`` is.

    Of the remainder m of |a| by |b| and its complement |b| − m the smaller counts; between equals m, if q is even.
    """
    size, divisor = xp.abs(a), xp.abs(b)
    m = xp.fmod(size, divisor)
    complement = divisor - m
    tie = m - 2.0 * xp.fmod(0.5 * (size - m), divisor)
    nearest = xp.where(m < complement, m, xp.where(m > complement, -complement, tie))
    return xp.copysign(1.0, a) * xp.where(xp.isinf(b) & xp.isfinite(a), size, nearest)


def _view(
    source: Array, base: int, shape: tuple[int, ...], strides: tuple[int, ...], batch: int | None = None
) -> Array:
    """Return the members ``base + Σ index · stride`` of a contiguous array, without copying."""
    step = source.itemsize * (batch if batch is not None else 1)
    tail = (batch,) if batch is not None else ()
    last = (source.itemsize,) if batch is not None else ()
    return np.ndarray((*shape, *tail), source.dtype, source, base * step, (*[s * step for s in strides], *last))


_LONG = 2000
"""Of stretches so long each is reduced by a call of its own: rows are what ``reduceat`` takes column by column."""


def _reduceat(function: np.ufunc, x: Array, starts: NDArray[np.intp], out: Array) -> None:
    """Reduce stretches of an array along axis 0, as ``function.reduceat`` does."""
    if x.ndim == 1 or x.size < _LONG * len(starts):
        function.reduceat(x, starts, 0, None, out)
        return
    for k, (start, end) in enumerate(pairwise([*starts.tolist(), len(x)])):
        function.reduce(x[start:end], 0, None, out[k])


def _chosen(index: Array, members: Array, stride: int | None, n: int) -> tuple[Array, Array | None]:
    """Return the member that a number chooses at each point; and where it chooses none, if it does so anywhere.

    Args:
        index: the number at each point, the samples behind.
        members: for each point the first of those to choose among if they have a ``stride``, else all of them.
        stride: by how much a member grows with the number.
        n: how many there are to choose among.
    """
    given = np.asarray(index)
    given = given[tuple([slice(None) if step else slice(1) for step in given.strides])]  # what repeats, once
    place = given.astype(np.intp)
    none = (place != given) | ((place + n).view(np.uintp) >= 2 * n)
    place %= n
    if stride is not None:
        found = members + stride * place
    elif members.ndim > place.ndim:
        found = np.take_along_axis(members, place[..., None], -1)[..., 0]
    else:
        found = np.take_along_axis(members, place, -1)
    return found, none if none.any() else None


def _gather(source: Array, chosen: list[Any], out: Array, samples: Array = None) -> None:
    """Read the chosen members; in each of these samples its own, if they are given."""
    members, none = chosen
    out[...] = source[members] if samples is None else source[members, samples]
    if none is not None:
        np.copyto(out, np.nan, where=none)


def _scatter_add(values: Array, chosen: list[Any], out: Array, samples: Array = None) -> None:
    """Add values to the chosen members of an array that is 0 elsewhere; in each of these samples to its own."""
    members, none = chosen
    if none is not None:
        values = np.where(none, 0.0, values)
    out.fill(0.0)
    np.add.at(out, members if samples is None else (members, samples), values)


def numpy_namespace(dtype: Any, names: dict[str, Any]) -> dict[str, Any]:
    """Return what programs on NumPy arrays find under their names."""
    functions = {name: value for name, value in vars(np).items() if isinstance(value, np.ufunc)}
    used = {
        name: mapped(value.forward, value.arity) if isinstance(value, Op) else value for name, value in names.items()
    }
    typed = {
        name: value.astype(dtype) if isinstance(value, np.ndarray) and value.dtype == np.float64 else value
        for name, value in used.items()
    }
    others = {
        name: getattr(np, name)
        for name in (
            "arange",
            "ascontiguousarray",
            "copyto",
            "einsum",
            "empty",
            "matmul",
            "ndarray",
            "ones",
            "take",
            "zeros",
        )
    }
    return {
        **functions,
        **others,
        "xp": np,
        "special": NumPySpecial,
        "view": _view,
        "reduceat": _reduceat,
        "chosen": _chosen,
        "gather": _gather,
        "scatter_add": _scatter_add,
        "accumulate": accumulate,
        "scan": _scan,
        "inf": math.inf,
        "nan": math.nan,
        "dtype": np.dtype(dtype),
        "I": np.dtype(dtype).itemsize,
        **typed,
    }
