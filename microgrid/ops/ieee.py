"""Forward functions as IEEE 754 has them, where Python's math module raises or loses digits.

``divide(1.0, 0.0)`` is ``inf``, ``log(-1.0)`` is ``nan``, ``exp(1000.0)`` is ``inf``, as in NumPy, PyTorch and JAX.
"""

import math
from collections.abc import Callable, Hashable
from functools import cache, reduce

inf = math.inf
nan = math.nan


def guarded(function: Callable[[float], float], overflow: Callable[[float], float]) -> Callable[[float], float]:
    """Wrap a function of the math module: nan outside its domain, ``overflow(x)`` where it is too large."""

    def forward(x: float) -> float:
        try:
            return function(x)
        except OverflowError:
            return overflow(x)
        except ValueError:
            return nan

    return wrapping(function, forward)


def wrapping(function: Callable[..., float], forward: Callable[..., float]) -> Callable[..., float]:
    """Note that ``forward`` is ``function`` wherever the latter does not raise: programs may call it directly."""
    forward.__wrapped__ = function  # type: ignore[attr-defined]  # the attribute functools.wraps sets, too
    return forward


def to_inf(x: float) -> float:
    """∞, whatever x is: where a function of x overflows upwards."""
    return inf


def to_signed_inf(x: float) -> float:
    """∞ with the sign of x: where an odd function overflows."""
    return math.copysign(inf, x)


def logarithm(function: Callable[[float], float], pole: float = 0.0) -> Callable[[float], float]:
    """Wrap a logarithm: -inf at its pole, nan below."""

    def forward(x: float) -> float:
        if x > pole:
            return function(x)
        return -inf if x == pole else nan

    return wrapping(function, forward)


log = logarithm(math.log)


def add_up(*xs: float) -> float:
    """The sum of the arguments, added from left to right."""
    total = xs[0]
    for x in xs[1:]:
        total += x
    return total


def taken(index: float, *xs: float) -> float:
    """The number at a whole index, from 0 or, if negative, from the end; nan for any other index."""
    return xs[int(index)] if -len(xs) <= index < len(xs) and index.is_integer() else math.nan


def divide(a: float, b: float) -> float:
    """The quotient a ÷ b: ±inf where only b is 0, nan for 0 ÷ 0."""
    try:
        return a / b
    except ZeroDivisionError:
        return a * math.copysign(inf, b)


def power(x: float, n: float) -> float:
    """xⁿ as C99 has it, without exceptions."""
    try:
        return math.pow(x, n)
    except (OverflowError, ValueError):
        if x < 0.0 and math.fmod(n, 1.0):
            return nan
        odd = abs(math.fmod(n, 2.0)) == 1.0
        return math.copysign(inf, x) if odd else inf


def power_log(x: float, n: float, k: int) -> float:
    """xⁿ·logᵏ x, where xⁿ decides at 0 and ∞."""
    if (n >= 0.0 and not x) or (n < 0.0 and x == inf):  # xⁿ decides, not the logarithm; x⁰ log x counts as 0 at 0
        return 0.0
    return power(abs(x), n) * log(x) ** k


def direction(a: float, b: float) -> float:
    """The quotient a / √(a² + b²), ±1 where only a is infinite."""
    if math.isinf(a) and math.isfinite(b):
        return math.copysign(1.0, a)
    return divide(a, math.hypot(a, b))


def sign(x: float) -> float:
    """−1, 0 or 1, and nan for nan."""
    return 1.0 if x > 0 else -1.0 if x < 0 else x if x != x else 0.0


def rounding(function: Callable[[float], int]) -> Callable[[float], float]:
    """Wrap floor or ceil: the result keeps the sign of zero, and inf and nan stay."""
    return lambda x: math.copysign(function(x), x) if math.isfinite(x) else x


def nan_outside(function: Callable[[float, float], float]) -> Callable[[float, float], float]:
    """Wrap a function of the math module that raises outside its domain: it is nan there."""

    def forward(a: float, b: float) -> float:
        try:
            return function(a, b)
        except ValueError:
            return nan

    return wrapping(function, forward)


def modulo(a: float, b: float) -> float:
    """The remainder a − ⌊a ÷ b⌋·b, nan where b is 0."""
    return a % b if b else nan


def floor_divide(a: float, b: float) -> float:
    """⌊a ÷ b⌋, and a ÷ b where b is 0."""
    return a // b if b else divide(a, b)


def copysign(a: float, b: float) -> float:
    """|a| with the sign of b, nan where b is nan."""
    return math.copysign(a, b) if b == b else nan


def gamma(x: float) -> float:
    """Γ(x): ±inf at ±0, nan at the other poles."""
    try:
        return math.gamma(x)
    except OverflowError:
        return math.copysign(inf, x)
    except ValueError:
        return nan if x else math.copysign(inf, x)


def atanh(x: float) -> float:
    """The inverse hyperbolic tangent: ±inf at ±1, nan beyond."""
    if abs(x) == 1.0:
        return math.copysign(inf, x)
    return math.atanh(x) if abs(x) < 1.0 else nan


def maximum(a: float, b: float) -> float:
    """The larger of two, nan if either is, b of equals: of 0 and −0 the same one as NumPy."""
    return a if a > b or a != a else b


def minimum(a: float, b: float) -> float:
    """The smaller of two, nan if either is, b of equals, as ``maximum``."""
    return a if a < b or a != a else b


def sigmoid(x: float) -> float:
    """1 / (1 + e⁻ˣ) without overflow on either side."""
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    e = math.exp(x)
    return e / (1.0 + e)


def sigmoid_slope(x: float, y: float) -> float:
    """σ′(x) for y = σ(x): y(1 − y), as long as 1 − y loses no digit."""
    return y * (1.0 - y) if y < 0.75 else y * sigmoid(-x)


def sech2(x: float, y: float) -> float:
    """sech² x for y = tanh x: 1 − y², as long as that loses no digit."""
    if abs(y) < 0.75:
        return 1.0 - y * y
    try:
        c = math.cosh(x)
    except OverflowError:
        return 0.0
    return 1.0 / (c * c)


def softplus(x: float) -> float:
    """log(1 + eˣ) without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


ROOT_HALF = math.sqrt(0.5)
ROOT_HALF_REST = -4.833646656726457e-17  # √½ minus the float above


def product_error(a: float, b: float) -> float:
    """Return a·b minus its rounding, exactly (Dekker 1971)."""

    def split(x: float) -> tuple[float, float]:
        high = x * 134217729.0 - (x * 134217729.0 - x)
        return high, x - high

    (a1, a2), (b1, b2) = split(a), split(b)
    return ((a1 * b1 - a * b) + a1 * b2 + a2 * b1) + a2 * b2


def normal_cdf(x: float) -> float:
    """Φ(x), the standard normal distribution; erfc would magnify the rounding of x·√½ in the tail."""
    if not abs(x) < 40.0:
        return 0.5 * math.erfc(-x)
    z = x * ROOT_HALF
    missing = product_error(x, ROOT_HALF) + x * ROOT_HALF_REST
    return 0.5 * (math.erfc(-z) + 2.0 / math.sqrt(math.pi) * math.exp(-z * z) * missing)


def gelu(x: float) -> float:
    """x·Φ(x); −0 at −∞."""
    return x * normal_cdf(x) if x != -inf else -0.0


def polygamma(n: int, x: float) -> float:
    """ψ⁽ⁿ⁾(x), the n-th derivative of digamma (Abramowitz & Stegun 6.3, 6.4).

    Left of zero by reflection; then by recurrence up to where the asymptotic series is exact.
    """
    if not x > -inf:
        return nan
    if math.isinf(x):
        return 0.0 if n else inf
    if x < 0.0:
        if x.is_integer():
            return inf if n % 2 else nan  # +∞ on both sides, or +∞ on one and −∞ on the other
        return (-1.0) ** n * polygamma(n, 1.0 - x) - math.pi ** (n + 1) * cotangent_derivative(n, x)
    sign = 1.0 if n % 2 else -1.0
    factorial = math.factorial(n)
    shift = []
    while x < 16.0 + 3.0 * n:
        shift.append(divide(factorial, power(x, n + 1.0)))
        x += 1.0
    # negative powers, because they underflow quietly where x is huge
    series = [math.factorial(n - 1) * power(x, -n) if n else -math.log(x), factorial * 0.5 * power(x, -n - 1.0)]
    for k, bernoulli in enumerate(BERNOULLI, start=1):
        series.append(bernoulli * math.factorial(2 * k + n - 1) / math.factorial(2 * k) * power(x, -2.0 * k - n))
    return sign * math.fsum(series + shift)


def pole_to_the_left(x: float) -> Hashable:
    """Identify the interval between two poles of Γ in which a number lies."""
    return x > 0 or (math.floor(x) if math.isfinite(x) else x)


BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730)
"""The Bernoulli numbers of even index, B₂ to B₁₂: for the asymptotic series of log Γ and its derivatives."""


def cotangent_polynomial(n: int) -> list[float]:
    """The n-th derivative of cot(πx) by x, over πⁿ, as a polynomial in c = cot(πx), 1 first: c' = -(1 + c²)."""
    coefficients = [0.0, 1.0]
    for _ in range(n):
        slope = [k * a for k, a in enumerate(coefficients)][1:]
        coefficients = [-a - b for a, b in zip([*slope, 0.0, 0.0], [0.0, 0.0, *slope], strict=True)]
    return coefficients


def cotangent_derivative(n: int, x: float) -> float:
    """The n-th derivative of cot(πx) by x, over πⁿ."""
    # the distance to the nearest pole is exact; the cap keeps 0·inf out of the polynomial
    c = minimum(maximum(divide(1.0, math.tan(math.pi * math.remainder(x, 1.0))), -1e308), 1e308)
    return reduce(lambda total, a: total * c + a, reversed(cotangent_polynomial(n)))


def lgamma(x: float) -> float:
    """The logarithm of |Γ(x)|; inf at the poles.

    Between ½ and 2½ it comes of its Taylor series at 2: Python's loses all digits beside the zeros at 1 and 2.
    """
    if 0.5 < x < 2.5:
        return lgamma_from_2(x - 2.0) if x > 1.5 else lgamma_from_2(x - 1.0) - math.log1p(x - 1.0)
    try:
        return math.lgamma(x)
    except (OverflowError, ValueError):
        return inf


def lgamma_from_2(w: float) -> float:
    """Return log Γ(2 + w) for |w| ≤ ½ by its Taylor series, exact beside 0."""
    return w * reduce(lambda total, a: total * w + a, lgamma_series())


@cache
def lgamma_series() -> list[float]:
    """Return the coefficients ψ⁽ᵏ⁻¹⁾(2) / k! of the powers wᵏ of that series, of w itself at the end."""
    return [polygamma(k - 1, 2.0) / math.factorial(k) for k in range(30, 0, -1)]
