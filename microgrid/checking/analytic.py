"""The operations on complex numbers, for the complex step.

An analytic function continues from the real line into the plane: f(x + ih) = f(x) + ih·f′(x) + O(h²). So
Im f(x + ih) / h is the derivative with no subtraction and hence no cancellation, for h as small as 1e-100
(Squire and Trapp, 1998). Every function here is computed from its definition, never from a derivative, so it
is independent of the table's local derivatives.

Where an operation chooses a branch, the real part decides: with a step of 1e-100 the branch is the one at
the point itself.

Every operation of the table continues, and so do those that only derivatives use, but for ``stop_gradient``,
which never moves. A continuation that does not exist or would be inexact raises ``ValueError`` or an
``ArithmeticError``, and ``check`` takes differences instead: at a branch point, where intermediate results
overflow, and for Γ and its kin left of −1000, where their recurrence grows long. Derivatives below 1e-208
vanish, because they underflow times the step.
"""

import cmath
import math
import operator
from collections.abc import Callable, Sequence
from functools import lru_cache, partial, reduce
from operator import attrgetter
from typing import Any

from microgrid import ops
from microgrid.ops import Op, Operation, expand
from microgrid.ops.ieee import BERNOULLI, lgamma

Forward = Callable[..., complex]

TERMS = 180
"""The number of terms of a series or of a continued fraction: further ones do not change the last digit."""


def complex_forward(op: Operation) -> Forward | None:
    """Return the operation on complex numbers, ``None`` if it has no continuation here.

    A row without a continuation takes that of its expansion. A user's row takes that of the row of the table with the
    same ``forward``, or with the function that it wraps, such as ``math.tanh``: it is the same function, whatever its
    name. Other functions have no known continuation.
    """
    if op.recipe is not None:
        factory, constants = op.recipe
        if factory in _FACTORIES:
            return _FACTORIES[factory](*constants)
    return _ROWS.get(op) or (
        _expanded(op) if isinstance(op, Op) and op.expansion is not None else _FUNCTIONS.get(op.forward)
    )


@lru_cache(maxsize=1024)
def _expanded(op: Op) -> Forward | None:
    """The continuation composed of those of the rows of an expansion, if all have one."""
    missing = False

    def meaning(row: Op, operands: Sequence[Any]) -> Any:
        nonlocal missing
        missing = missing or complex_forward(row) is None
        return None

    expand(op, meaning, [None] * op.arity)
    return None if missing else lambda *zs: complex(expand(op, _meaning, zs))


def _meaning(op: Op, zs: Sequence[Any]) -> Any:
    forward = complex_forward(op)
    assert forward is not None, op.name
    return forward(*zs)


def _log1p(z: complex) -> complex:
    a, b = z.real, z.imag
    return complex(math.log1p(a), math.atan2(b, 1.0 + a))


def _expm1(z: complex) -> complex:
    return complex(math.expm1(z.real), math.exp(z.real) * math.sin(z.imag))


def _power(z: complex, n: complex) -> complex:
    """zⁿ = aⁿ·(z/a)ⁿ with the real part a of z: the polar form of z itself would lose digits where a is large."""
    a, size = z.real, math.pow(z.real, n.real)
    if not a and (n.real >= 1 or not n.real):  # the slope of a root at 0 is infinite: there z / a raises
        return z if n.real == 1 else size  # the square of the step vanishes
    return size * cmath.exp(n * cmath.log(z / a) + complex(0.0, n.imag * math.log(a) if n.imag else 0.0))


def _cbrt(z: complex) -> complex:
    return math.cbrt(z.real) * cmath.exp(cmath.log(z / z.real) / 3.0)


def _hypot(*zs: complex) -> complex:
    scale = max(abs(z.real) for z in zs)
    return scale * cmath.sqrt(sum((z / scale) ** 2 for z in zs))


def _modulo(op: Op, a: complex, b: complex) -> complex:
    """Return a − q·b with the whole quotient q that belongs to the real remainder."""
    rest = op.forward(a.real, b.real)
    quotient = ops.rounded.forward(a.real / b.real - rest / b.real)
    return complex(rest, a.imag - quotient * b.imag)


def _atan2(y: complex, x: complex) -> complex:
    """The angle after a turn that takes the real parts of x and y to 0."""
    scale = max(abs(x.real), abs(y.real))
    a, b = x / scale, y / scale
    turned = cmath.atan((b * a.real - a * b.real) / (a * a.real + b * b.real))
    return complex(math.atan2(y.real, x.real), turned.imag)


def _direction(a: complex, b: complex) -> complex:
    """The sine of the angle θ of the point (b, a): that of θ + iε is sin θ + iε cos θ."""
    size = math.hypot(a.real, b.real)
    return complex(a.real / size, b.real / size * _atan2(a, b).imag)


# Of the following the real part is the real function's own: only the imaginary part is new.


def _sigmoid(z: complex) -> complex:
    """σ(z) = ½ + ½ tanh(z/2)."""
    return complex(ops.sigmoid.forward(z.real), 0.5 * cmath.tanh(0.5 * z).imag)


def _inverse_square(z: complex) -> complex:
    return 1.0 / (z * z)


def _erf(z: complex) -> complex:
    return complex(math.erf(z.real), -2.0 * _tail(1.0, z, z).imag)


def _erfc(z: complex) -> complex:
    return complex(math.erfc(z.real), 2.0 * _tail(1.0, z, z).imag)


def _gelu(z: complex) -> complex:
    return z * _tail(0.5, z, -z * math.sqrt(0.5))


def _tail(rate: float, z: complex, w: complex) -> complex:
    """½ erfc(w) where w² is rate·z²: ½ less the Maclaurin series near 0; further right Laplace's continued fraction.

    Up to 1.25 no large terms of the series cancel, from there on the fraction converges within TERMS steps.
    """
    if w.real < 0:
        return 1.0 - _tail(rate, z, -w)
    if w.real < 1.25:
        return 0.5 - _error_series(w)
    below = w
    for k in range(TERMS, 0, -1):
        below = w + 0.5 * k / below
    return _gaussian(rate, z) / (2.0 * math.sqrt(math.pi) * below)


def _error_series(z: complex) -> complex:
    """½ erf(z) = 1/√π Σ (−1)ⁿ z²ⁿ⁺¹ / (n! (2n + 1))."""
    terms, power = [z], z
    for n in range(1, TERMS):
        power *= -z * z / n
        terms.append(power / (2 * n + 1))
    return _sum(terms) / math.sqrt(math.pi)


def _gaussian(rate: float, z: complex) -> complex:
    """e^(−rate·z²); the square of a whole number is exact, and what is left over is small."""
    whole = round(z.real)
    return math.exp(-rate * whole * whole) * cmath.exp(-rate * (z - whole) * (z + whole))


def _beyond(z: complex, n: int) -> tuple[complex, list[complex]]:
    """Return z + k, beyond 20 + 3n, where the asymptotic series holds, and z, z + 1, …, z + k − 1."""
    if not -1e3 < z.real < 1e100:
        raise ValueError("too far from 0 for the recurrence and the series of Γ")
    steps = [z + k for k in range(math.ceil(20 + 3 * n - z.real))]
    return z + len(steps), steps


def _lgamma(z: complex) -> complex:
    """The imaginary part of log Γ(z) by Stirling's series, after log Γ(z) = log Γ(z + 1) − log z."""
    w, steps = _beyond(z, 0)
    inverse = 1.0 / w
    terms = [(w - 0.5) * cmath.log(w), -w]
    terms += [b / (2 * k * (2 * k - 1)) * inverse ** (2 * k - 1) for k, b in enumerate(BERNOULLI, start=1)]
    terms += [-cmath.log(step / step.real) for step in steps]
    return complex(lgamma(z.real), _sum(terms).imag)


def _gamma(z: complex) -> complex:
    """Γ(z) by its logarithm, of which the real part does not move."""
    return math.gamma(z.real) * cmath.exp(complex(0.0, _lgamma(z).imag))


def _polygamma(n: int, z: complex) -> complex:
    """ψ⁽ⁿ⁾(z) by its asymptotic series, after ψ⁽ⁿ⁾(z) = ψ⁽ⁿ⁾(z + 1) − (−1)ⁿ n! / zⁿ⁺¹."""
    w, steps = _beyond(z, n)
    inverse, factorial = 1.0 / w, math.factorial(n)
    terms = [math.factorial(n - 1) * inverse**n if n else -cmath.log(w), 0.5 * factorial * inverse ** (n + 1)]
    for k, b in enumerate(BERNOULLI, start=1):
        terms.append(b * math.factorial(2 * k + n - 1) / math.factorial(2 * k) * inverse ** (2 * k + n))
    terms += [factorial / step ** (n + 1) for step in steps]
    return _sum(terms) if n % 2 else -_sum(terms)


def _sum(terms: list[complex]) -> complex:
    return complex(math.fsum(term.real for term in terms), math.fsum(term.imag for term in terms))


# Branches. The real part decides; between equals there is none to choose, as they meet at a kink.


def _maximum(*zs: complex) -> complex:
    return max(zs, key=_real)


def _minimum(*zs: complex) -> complex:
    return min(zs, key=_real)


_real = attrgetter("real")


def _by_real_part(op: Op) -> Forward:
    """The continuation of an operation that is constant on each of its branches: its value for the real parts."""
    return lambda *zs: op.forward(*[z.real for z in zs])


_ROWS: dict[Operation, Forward] = {
    ops.add: operator.add,
    ops.sub: lambda a, b: a - b,
    ops.mul: lambda a, b: a * b,
    ops.div: lambda a, b: a / b,
    ops.neg: lambda z: -z,
    ops.power: _power,
    ops.exp: cmath.exp,
    ops.expm1: _expm1,
    ops.log: cmath.log,
    ops.log1p: _log1p,
    ops.log2: lambda z: cmath.log(z) / math.log(2.0),
    ops.log10: cmath.log10,
    ops.sqrt: cmath.sqrt,
    ops.cbrt: _cbrt,
    ops.hypot: _hypot,
    ops.sin: cmath.sin,
    ops.cos: cmath.cos,
    ops.tan: cmath.tan,
    ops.asin: cmath.asin,
    ops.acos: cmath.acos,
    ops.atan: cmath.atan,
    ops.atan2: _atan2,
    ops.sinh: cmath.sinh,
    ops.cosh: cmath.cosh,
    ops.tanh: cmath.tanh,
    ops.asinh: cmath.asinh,
    ops.acosh: cmath.acosh,
    ops.atanh: cmath.atanh,
    ops.erf: _erf,
    ops.erfc: _erfc,
    ops.lgamma: _lgamma,
    ops.gamma: _gamma,
    ops.digamma: lambda z: _polygamma(0, z),
    **{op: partial(_modulo, op) for op in (ops.mod, ops.fmod, ops.remainder)},
    ops.copysign: lambda a, b: a if math.copysign(1.0, a.real) == math.copysign(1.0, b.real) else -a,
    ops.absolute: lambda z: _maximum(z, -z),
    ops.maximum: _maximum,
    ops.minimum: _minimum,
    ops.where: lambda condition, a, b: a if condition.real else b,
    ops.sigmoid: _sigmoid,
    ops.gelu: _gelu,
    ops.sech2: lambda z: _inverse_square(cmath.cosh(z)),
    ops.sigmoid_slope: lambda z: 0.25 * _inverse_square(cmath.cosh(0.5 * z)),
    ops.one_minus_square: lambda z: complex(ops.one_minus_square.forward(z.real), -(z * z).imag),
    ops.direction: _direction,
    **{
        op: _by_real_part(op)
        for op in (
            ops.less,
            ops.less_equal,
            ops.greater,
            ops.greater_equal,
            ops.equal,
            ops.not_equal,
            ops.sign,
            ops.floor,
            ops.ceil,
            ops.trunc,
            ops.rounded,
            ops.floor_divide,
        )
    },
}

_FUNCTIONS = {
    function: forward
    for op, forward in _ROWS.items()
    for function in (op.forward, getattr(op.forward, "__wrapped__", op.forward))
}

_FACTORIES: dict[Callable[..., Op], Callable[..., Forward]] = {
    ops.sum_of: lambda n: lambda *zs: reduce(operator.add, zs),  # the expansion says the same, a hundred times slower
    ops.round_of: lambda digits: _by_real_part(ops.round_of(digits)),
    ops.power_log_of: lambda k: lambda z, n: _power(z, n) * cmath.log(z) ** int(k),
    ops.polygamma_of: lambda n: lambda z: _polygamma(int(n), z),
}
