"""Every operation of the table once more, in 50-digit arithmetic, and its derivatives of any order.

The definitions are independent of the table: mpmath's function of the same name, or the formula below.
The derivatives come from differences of those definitions at a precision that leaves 30 digits right,
so no derivative is written down twice.
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product
from typing import Any

import mpmath
from mpmath import mp, mpf

from microgrid import ops
from microgrid.ops import Op
from microgrid.strategies import Expression

Function = Callable[..., Any]

DEFINITIONS: dict[str, Function] = {
    "less": lambda a, b: mpf(a < b),
    "less_equal": lambda a, b: mpf(a <= b),
    "greater": lambda a, b: mpf(a > b),
    "greater_equal": lambda a, b: mpf(a >= b),
    "equal": lambda a, b: mpf(a == b),
    "not_equal": lambda a, b: mpf(a != b),
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda x: -x,
    "identity": lambda x: x,
    "stop_gradient": lambda x: x,
    "exp2": lambda x: mpf(2) ** x,
    "log2": lambda x: mp.log(x) / mp.log(2),
    "trunc": lambda x: mp.sign(x) * mp.floor(abs(x)),
    "round": lambda x: mp.nint(x),
    "floor_divide": lambda a, b: mp.floor(a / b),
    "mod": lambda a, b: a - mp.floor(a / b) * b,
    "fmod": lambda a, b: a - mp.sign(a / b) * mp.floor(abs(a / b)) * b,
    "remainder": lambda a, b: a - mp.nint(a / b) * b,
    "copysign": lambda a, b: abs(a) if b >= 0 else -abs(a),
    "abs": lambda x: x if x > 0 else -x,
    "maximum": lambda a, b: a if a > b else b,
    "minimum": lambda a, b: a if a < b else b,
    "clip": lambda x, low, high: min(max(x, low), high),
    "where": lambda condition, a, b: a if condition else b,
    "cbrt": lambda x: mp.sign(x) * mp.cbrt(abs(x)),
    "erf": lambda x: mp.sign(x) * (1 - mp.erfc(abs(x))) if 2 < abs(x) < 100 else mp.erf(x),  # many times faster
    "erfc": lambda x: mp.erfc(x) if x < 100 else mpf(0),  # below 10^−4000
    "chosen": lambda mask, x: x if mask else 0,
    "gated": lambda mask, x: x,
    "lgamma": lambda x: mp.log(abs(mp.gamma(x))) if abs(x) < 30 else mp.re(mp.loggamma(x)),
    "relu": lambda x: x if x > 0 else mpf(0),
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "silu": lambda x: x / (1 + mp.exp(-x)),
    "gelu": lambda x: x * DEFINITIONS["erfc"](-x / mp.sqrt(2)) / 2,
    "sech2": lambda x: mp.sech(x) ** 2,
    "sigmoid_slope": lambda x: 1 / (2 + 2 * mp.cosh(x)),
    "one_minus_square": lambda x: 1 - x * x,
    "finite": lambda x: x,
    "log_weight": mp.log,
    "direction": lambda a, b: a / mp.hypot(a, b),
    "softplus": lambda x: mp.log1p(mp.exp(x)) if x < 0 else x + mp.log1p(mp.exp(-x)),
}
FACTORIES: dict[str, Callable[[Any], Function]] = {
    "sum_of": lambda n: lambda *xs: sum(xs),
    "take_of": lambda n: lambda index, *xs: xs[int(index)] if int(index) == index and -n <= index < n else mp.nan,
    "hypot_of": lambda n: lambda *xs: mp.norm(xs),
    "maximum_of": lambda n: lambda *xs: max(xs),
    "round_of": lambda digits: lambda x: mp.nint(x * mpf(10) ** digits) / mpf(10) ** digits,
    "power_of": lambda n: lambda x: x ** mpf(n),
    "base_of": lambda base: lambda x: mpf(base) ** x,
    "power_log_of": lambda k: lambda x, n: x**n * mp.log(x) ** k,
    "leaky_relu_of": lambda slope: lambda x: x if x > 0 else mpf(slope) * x,
    "elu_of": lambda alpha: lambda x: x if x > 0 else mpf(alpha) * mp.expm1(x),
}


def definition(op: Op) -> tuple[Function, int]:
    """Return a function of mpmath's numbers, and which derivative of it the operation is: 0 but for polygamma."""
    if op.recipe is not None:
        factory, constants = op.recipe
        if factory.__name__ == "polygamma_of":
            return mp.digamma, int(constants[0])
        return FACTORIES[factory.__name__](*constants), 0
    if op.name in DEFINITIONS:
        return DEFINITIONS[op.name], 0
    return getattr(mp, op.name), 0


@lru_cache(maxsize=4096)
def exact(op: Op, xs: tuple[float, ...], *by: int, size: bool = False) -> Any:
    """Return the operation at xs, or its derivative by the arguments with these numbers; nan at a pole.

    With ``size`` the absolute value of the derivative, rounded up: as ``derivative`` says.
    """
    if op is ops.stop_gradient and by:
        return mpf(0)  # what it is for
    function, order = definition(op)
    orders = [by.count(i) for i in range(op.arity)]
    orders[0] += order
    try:
        return derivative(function, xs, tuple(orders), size)
    except (ValueError, ZeroDivisionError):  # mpmath's way to say that it is a pole
        return mp.nan


def derivative(function: Function, xs: tuple[float, ...], orders: tuple[int, ...], size: bool = False) -> Any:
    """Return ∂^orders function at xs, as ``(1, 0)`` for ∂/∂x₀, right to 30 digits or to 1e-345.

    Central differences with the steps h and h/2. Digits are added, and h is made smaller with them, until
    both agree and stand out of the rounding; where they never do there is no derivative: nan.
    With ``size`` its absolute value is enough: no smaller than it is, and larger by at most 1e-6 of itself
    and 1e-20 of the function. That of e⁻⁷⁰⁰ beside 700 takes hundreds of digits otherwise.
    """
    lengths = [abs(x) for x in xs if x and math.isfinite(x)]
    scale = min([1.0, *lengths])
    spread = int(max([1.0, *(math.log10(length) - math.log10(scale) for length in lengths)]))
    total = sum(orders)
    with mp.workdps(spread + 20):
        if not mp.isfinite(function(*map(mpf, xs))):
            return mp.nan
    digits = 25 if size else 50
    while digits <= 800:
        with mp.workdps(digits * (2 + total) // 2 + spread + 20):
            h = mpf(scale) * mpf(10) ** (-digits // 2)
            largest, result = _difference(function, xs, orders, h)
            if total == 0 or mp.isnan(result):
                return +result
            error = abs(result - _difference(function, xs, orders, h / 2)[1])
            error += largest * mpf(10) ** (-digits * (2 + total) // 2 - spread) / h**total
            if error < mpf("1e-345") or error <= abs(result) * mpf("1e-30"):
                return abs(result) + error if size else +result
            if size and error <= abs(result) * mpf("1e-6") + largest * mpf("1e-20"):
                return abs(result) + error
        digits = 400 if digits < 400 and abs(result) <= error else digits * 2  # of 0 none is seen, of e⁻⁷⁰⁰ few
    return mp.nan


def _difference(function: Function, xs: tuple[float, ...], orders: tuple[int, ...], h: Any) -> tuple[Any, Any]:
    """Return the largest function value and the central difference quotient."""
    size, difference = mpf(0), mpf(0)
    for weight, shifts in _stencil(orders):
        y = function(*[mpf(x) + h * shift for x, shift in zip(xs, shifts, strict=True)])
        if not mp.isfinite(y):
            return mp.inf, mp.nan
        size = max(size, abs(y))
        difference += weight * y
    return size, difference / h ** sum(orders)


def _stencil(orders: tuple[int, ...]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield the weights and shifts of the product of central differences."""
    for ks in product(*(range(n + 1) for n in orders)):
        weight = math.prod((-1) ** k * math.comb(n, k) for k, n in zip(ks, orders, strict=True))
        yield weight, tuple(mpf(n) / 2 - k for k, n in zip(ks, orders, strict=True))


def ulp(exact: Any) -> Any:
    """Return the distance of floats at an exact number: its unit in the last place."""
    return mpmath.ldexp(1, max(int(mp.mag(exact)) - 53, -1074)) if exact else mpmath.ldexp(1, -1074)


def units_wrong(computed: float, exact: Any) -> float:
    """Return the error of a float in units in the last place of the exact number; beyond the floats, of the largest."""
    if math.isnan(computed):
        return math.inf
    largest = mpmath.ldexp(1, 1024)
    if abs(exact) >= largest * (1 - mpf(2) ** -54):
        exact = largest * mp.sign(exact)
    if math.isinf(computed):
        computed = largest * mp.sign(computed)
    with mp.workdps(400):
        return float(abs(mpf(computed) - exact) / ulp(exact if abs(exact) < largest else largest * (1 - mpf(2) ** -54)))


def program_gradient(expression: Expression) -> list[Any]:
    """Return the gradient of a program by its leaves, from 50-digit differences: no engine has a part in it."""

    def function(*leaves: Any) -> Any:
        results = list(leaves)
        for step in expression.steps:
            operands = [results[x] if isinstance(x, int) else mpf(x) for x in step.operands]
            results.append(definition(step.op)[0](*operands))
        return results[-1]

    n = len(expression.at)
    return [derivative(function, expression.at, tuple(int(i == j) for i in range(n))) for j in range(n)]
