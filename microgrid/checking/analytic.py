"""The operations on complex numbers, for the complex step.

An analytic function continues from the real line into the plane: f(x + ih) = f(x) + ih·f′(x) + O(h²). So
Im f(x + ih) / h is the derivative with no subtraction and hence no cancellation, for h as small as 1e-100
(Squire and Trapp, 1998). Every function here is computed from its definition, never from a derivative: it
is a witness that knows nothing of the table's local derivatives.

Where an operation chooses a branch, the real part decides: with a step of 1e-100 the branch is the one at
the point itself. Operations without an entry (erf, lgamma and their kin) leave the graph to differences.
"""

import cmath
import math
from collections.abc import Callable
from functools import reduce
from operator import add

from microgrid import ops
from microgrid.ops import Op

Forward = Callable[..., complex]


def complex_forward(op: Op) -> Forward | None:
    """Return the operation on complex numbers, ``None`` if it has no continuation here.

    Only rows of the table itself have one: a user's row of the same name is another operation.
    """
    if op.recipe is not None:
        factory, constants = op.recipe
        make = _FACTORIES.get(factory)
        return make(*constants) if make else None
    return _ROWS.get(op)


def _log1p(z: complex) -> complex:
    a, b = z.real, z.imag
    return complex(math.log1p(a), math.atan2(b, 1.0 + a))


def _expm1(z: complex) -> complex:
    return complex(math.expm1(z.real), math.exp(z.real) * math.sin(z.imag))


def _power(z: complex, n: complex) -> complex:
    if n.imag == 0 and n.real == int(n.real):
        return _whole_power(z, int(n.real))
    if z.real <= 0:
        raise ValueError("a power of a negative number with a fraction as exponent is not real")
    return cmath.exp(n * cmath.log(z))


def _whole_power(z: complex, n: int) -> complex:
    """zⁿ by squaring, which stays exact in the imaginary part where the polar form would lose it."""
    if n < 0:
        return 1.0 / _whole_power(z, -n)
    result: complex = 1.0
    while n:
        if n & 1:
            result *= z
        z *= z
        n >>= 1
    return result


def _cbrt(z: complex) -> complex:
    return cmath.exp(cmath.log(z) / 3.0) if z.real > 0 else -cmath.exp(cmath.log(-z) / 3.0)


def _atan2(y: complex, x: complex) -> complex:
    if abs(x.real) < abs(y.real):
        return math.copysign(math.pi / 2, y.real) - cmath.atan(x / y)
    return cmath.atan(y / x) + (math.copysign(math.pi, y.real) if x.real < 0 else 0.0)


def _sigmoid(z: complex) -> complex:
    e = cmath.exp(-z if z.real >= 0 else z)
    return 1.0 / (1.0 + e) if z.real >= 0 else e / (1.0 + e)


def _softplus(z: complex) -> complex:
    return z + _log1p(cmath.exp(-z)) if z.real > 0 else _log1p(cmath.exp(z))


def _maximum(a: complex, b: complex) -> complex:
    return a if a.real > b.real else b


def _minimum(a: complex, b: complex) -> complex:
    return a if a.real < b.real else b


def _by_real_part(op: Op) -> Forward:
    """An operation that is constant on each of its branches: what it says of the real parts."""
    return lambda *zs: op.forward(*[z.real for z in zs])


_ROWS: dict[Op, Forward] = {
    ops.add: add,
    ops.sub: lambda a, b: a - b,
    ops.mul: lambda a, b: a * b,
    ops.div: lambda a, b: a / b,
    ops.neg: lambda z: -z,
    ops.identity: lambda z: z,
    ops.power: _power,
    ops.exp: cmath.exp,
    ops.expm1: _expm1,
    ops.exp2: lambda z: cmath.exp(z * math.log(2.0)),
    ops.log: cmath.log,
    ops.log1p: _log1p,
    ops.log2: lambda z: cmath.log(z) / math.log(2.0),
    ops.log10: cmath.log10,
    ops.sqrt: cmath.sqrt,
    ops.cbrt: _cbrt,
    ops.hypot: lambda a, b: cmath.sqrt(a * a + b * b),
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
    ops.absolute: lambda z: -z if z.real < 0 else z,
    ops.maximum: _maximum,
    ops.minimum: _minimum,
    ops.clip: lambda z, low, high: _minimum(_maximum(z, low), high),
    ops.where: lambda condition, a, b: a if condition.real else b,
    ops.relu: lambda z: z if z.real > 0 else 0.0,
    ops.sigmoid: _sigmoid,
    ops.silu: lambda z: z * _sigmoid(z),
    ops.softplus: _softplus,
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
        )
    },
}

_FACTORIES: dict[Callable[..., Op], Callable[..., Forward]] = {
    ops.sum_of: lambda n: lambda *zs: reduce(add, zs),
    ops.power_of: lambda n: lambda z: _power(z, n),
    ops.base_of: lambda base: lambda z: cmath.exp(z * math.log(base)),
    ops.leaky_relu_of: lambda slope: lambda z: z if z.real > 0 else slope * z,
    ops.elu_of: lambda alpha: lambda z: z if z.real > 0 else alpha * _expm1(z),
}
