"""The table of operations: one row per operation, and nothing about an operation anywhere else.

A row has the forward function of an operation, its local derivatives, domain, kinks, sign in drawings, and its form on
arrays and in JavaScript: a function of its name there, or an expansion in other rows. The local derivatives are written
with operations of this same table, so one row serves plain floats, gradients, gradients of gradients, forward mode,
compiled programs and the page in the browser.

Arithmetic is IEEE 754's, as in NumPy, PyTorch and JAX: ``div(1.0, 0.0)`` is ``inf``, ``log(-1.0)`` is
``nan``, ``exp(1000.0)`` is ``inf``. Python's own ``/`` and ``**`` raise instead, which is why the
derivatives below say ``div`` and ``power``; ``+``, ``-`` and ``*`` never raise.

To add an operation, add one row. The tests, drawings, the checker and the compiler find it here.
"""

import math
import operator
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import reduce
from typing import Any

from microgrid.ops import ieee
from microgrid.ops.factories import SAMPLES, factory
from microgrid.ops.op import (
    HIDDEN,
    POSITIVE,
    REALS,
    TABLE,
    Interval,
    Op,
    Partial,
    as_float,
    first_operand,
    once,
    second_operand,
    short_repr,
)

inf = math.inf
nan = math.nan


def _row(name: str, forward: Callable[..., float], *partials: Partial | float, **fields: Any) -> Op:
    TABLE[name] = op = Op(name, forward, partials, **{"ufunc": name, **fields})
    return op


def _hidden(name: str, forward: Callable[..., float], *partials: Partial | float, **fields: Any) -> Op:
    HIDDEN[name] = op = Op(name, forward, partials, **{"ufunc": name, **fields})
    return op


def rows() -> Iterator[Op]:
    """Yield every row, with a few of each kind that has a constant: tests of the table run over these."""
    yield from TABLE.values()
    for sample in SAMPLES:
        yield sample()


# Comparisons: 1.0 where they hold, 0.0 where not; constant almost everywhere, so their derivatives are 0.


def _comparison(name: str, symbol: str, forward: Callable[[float, float], float], python: str) -> Op:
    return _row(
        name,
        forward,
        0.0,
        0.0,
        symbol=symbol,
        kink=lambda a, b: (a > b) - (a < b),
        operator=python,
        javascript=f"({{0}} {python} {{1}} ? 1 : 0)",
        doc=f"1 where a {symbol} b, else 0; the derivative is 0. For a choice in a graph, with where().",
    )


less = _comparison("less", "<", lambda a, b: 1.0 if a < b else 0.0, "<")
less_equal = _comparison("less_equal", "≤", lambda a, b: 1.0 if a <= b else 0.0, "<=")
greater = _comparison("greater", ">", lambda a, b: 1.0 if a > b else 0.0, ">")
greater_equal = _comparison("greater_equal", "≥", lambda a, b: 1.0 if a >= b else 0.0, ">=")
equal = _comparison("equal", "=", lambda a, b: 1.0 if a == b else 0.0, "==")
not_equal = _comparison("not_equal", "≠", lambda a, b: 1.0 if a != b else 0.0, "!=")

# Arithmetic

add = _row("add", lambda a, b: a + b, 1.0, 1.0, symbol="+", operator="+", doc="a + b")


@factory((3,), (5,))
def sum_of(n: int) -> Op:
    """Return the sum of n arguments as one operation: one node where a chain of ``add`` has n − 1."""
    return Op(
        f"sum[{n}]",
        ieee.add_up,
        (1.0,) * n,
        symbol="Σ",
        operator="+",
        expansion=lambda *xs: reduce(operator.add, xs),
        python="mg.total([" + ", ".join(f"{{{i}}}" for i in range(n)) + "])",
        doc="the sum of the arguments, added from left to right",
        recipe=(sum_of, (n,)),
    )


sub = _row("sub", lambda a, b: a - b, 1.0, -1.0, symbol="−", ufunc="subtract", operator="-", doc="a − b")
mul = _row(
    "mul",
    lambda a, b: a * b,
    second_operand,
    first_operand,
    symbol="×",
    ufunc="multiply",
    operator="*",
    doc="a × b",
)
div: Op = _row(
    "div",
    ieee.divide,
    lambda y, a, b: div(1.0, b),
    lambda y, a, b: -div(y, b),
    symbol="÷",
    ufunc="divide",
    operator="/",
    doc="a ÷ b; ±inf where only b is 0, nan for 0 ÷ 0.",
)
neg = _row("neg", lambda x: -x, -1.0, symbol="−", ufunc="negative", operator="-", doc="−x")
identity = _row("identity", lambda x: x, 1.0, symbol="id", expansion=lambda x: x, doc="x itself")
stop_gradient = _row(
    "stop_gradient",
    lambda x: x,
    0.0,
    symbol="stop",
    expansion=lambda x: x,
    doc="x itself, but no gradient flows back: x counts as a constant.",
)
_SMALLEST_NORMAL = sys.float_info.min
power: Op = _row(
    "power",
    ieee.power,
    lambda y, x, n: _power_by_base(x, n),
    lambda y, x, n: power_log_of(1)(x, n),
    symbol="xⁿ",
    domain=(POSITIVE, REALS),
    ufunc="c_power",
    javascript="mg.pow({0}, {1})",
    formula="{0:atom}^{1:atom}",
    doc="xⁿ for two Values; ∂/∂n is 0 at x = 0 with n ≥ 0, as in PyTorch, and nan for x < 0; at (0, 0) all are 0.",
)


def _power_by_base(x: Any, n: Any) -> Any:
    flat, x = _away_from_flat(x, n)
    return where(flat, 0.0, n * power(x, n - 1.0))


def _away_from_flat(x: Any, n: Any) -> tuple[Any, Any]:
    """Whether n is 0 and x⁻¹ is inf, and x, but 1 if so: xⁿ is flat only there, for ∂²xⁿ/∂x∂n at n = 0 is 1/x."""
    flat = equal(n, 0.0) * (1.0 - greater(absolute(x), _SMALLEST_NORMAL))
    return flat, where(flat, 1.0, x)


@factory()
def power_log_of(k: int) -> Op:
    """Return xⁿ·logᵏ x, the k-th derivative of xⁿ by n, for a whole k ≥ 1: a row that only derivatives use."""
    lower = power_log_of(k - 1) if k - 1 else power
    log_k = f"log{_superscript(k) if k - 1 else ''}"

    def by_base(y: Any, x: Any, n: Any) -> Any:
        flat, x = _away_from_flat(x, n)
        return where(flat, 0.0, n * power_log_of(k)(x, n - 1.0) + k * lower(x, n - 1.0))

    return Op(
        f"power_log[{k}]",
        lambda x, n: ieee.power_log(x, n, k),
        (
            by_base,
            lambda y, x, n: power_log_of(k + 1)(x, n),
        ),
        symbol=f"xⁿ·{log_k} x",
        domain=(POSITIVE, REALS),
        ufunc="power_log",
        javascript=f"mg.powerLog({k}, {{0}}, {{1}})",
        formula=f"{{0:atom}}^{{1:atom}}·{log_k} {{0:atom}}",
        doc="xⁿ·logᵏ x; at x = 0 it is 0 for n ≥ 0, as in PyTorch",
        recipe=(power_log_of, (k,)),
    )


@factory((0.0,), (1.0,), (2.0,), (3.0,), (-1.0,), (-2.0,), (0.5,), (1.5,))
def power_of(n: float) -> Op:
    """Return the operation x ↦ xⁿ for a constant n; the constant is never differentiated."""
    n += 0.0  # x⁻⁰ is x⁰: one row, whichever is asked for first
    whole = n.is_integer()  # which inf and nan are not
    return Op(
        f"power[{n!r}]",
        lambda x: ieee.power(x, n),
        (0.0 if n == 0 else 1.0 if n == 1 else lambda y, x: n * power_of(n - 1.0)(x),),
        symbol=f"x{_superscript(n)}",
        domain=(REALS if whole else POSITIVE,),
        kink=None if n >= 0 else lambda x: x > 0,
        # a product or a quotient is many times faster than a power
        expansion=lambda x: x * x if n == 2.0 else div(1.0, x) if n == -1.0 else power(x, n),
        formula=f"{{0:atom}}{_superscript(n)}" if n != 1.0 else "{0:atom}",
        python=f"{{0}} ** {_python_number(n)}",
        doc=f"x to the constant power {n!r}",
        recipe=(power_of, (n,)),
    )


@factory((2.0,), (0.5,), (math.e,), signed=True)
def base_of(base: float) -> Op:
    """Return the operation x ↦ baseˣ for a constant base."""
    logarithm = log(base)
    return Op(
        f"base[{base!r}]",
        lambda x: ieee.power(base, x),
        ((lambda y, x: power_log_of(1)(base, x)) if not base else lambda y, x: y * logarithm,),
        symbol=f"{base:g}ˣ",
        expansion=lambda x: power(base, x),
        formula=f"{base:g}^{{0:atom}}",
        python=f"{_python_number(base)} ** {{0}}",
        doc=f"the constant {base!r} to the power x",
        recipe=(base_of, (base,)),
    )


def _superscript(n: float) -> str:
    text = f"{n:g}"
    return text.translate(str.maketrans("0123456789-+.", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺·")) if "e" not in text else f"^{text}"


def _python_number(x: float) -> str:
    if not math.isfinite(x):
        return f'float("{x}")'
    return f"({x!r})" if repr(x).startswith("-") else repr(x)


# Exponentials and logarithms

_exp = ieee.guarded(math.exp, ieee.to_inf)
exp = _row("exp", _exp, lambda y, x: y, doc="eˣ")
expm1 = _row(
    "expm1",
    ieee.guarded(math.expm1, ieee.to_inf),
    lambda y, x: exp(x),
    symbol="eˣ−1",
    formula="expm1({0})",
    doc="eˣ − 1, exact near 0",
)
exp2 = _row(
    "exp2",
    ieee.guarded(math.exp2, ieee.to_inf),
    lambda y, x: y * math.log(2.0),
    symbol="2ˣ",
    expansion=lambda x: power(2.0, x),
    formula="2^{0:atom}",
    doc="2ˣ",
)
log: Op = _row(
    "log",
    ieee.log,
    lambda y, x: div(1.0, x),
    domain=(POSITIVE,),
    doc="the natural logarithm; −inf at 0, nan below; log(x, base) is log(x) / log(base)",
    otherwise=lambda *arguments: _log_to_base(*arguments),
)


def _log_to_base(*arguments: Any) -> Any:
    if len(arguments) != 2:
        raise TypeError(f"log takes x, or x and a base; got {len(arguments)} arguments: {short_repr(arguments)}")
    x, base = arguments
    return div(log(x), log(base))


log1p = _row(
    "log1p",
    ieee.logarithm(math.log1p, -1.0),
    lambda y, x: div(1.0, 1.0 + x),
    symbol="log(1+x)",
    formula="log(1+{0})",
    domain=(Interval(-1.0, inf, open=True),),
    doc="log(1 + x), exact near 0",
)
log2 = _row(
    "log2",
    ieee.logarithm(math.log2),
    lambda y, x: div(1.0 / math.log(2.0), x),
    symbol="log₂",
    domain=(POSITIVE,),
    doc="the logarithm to base 2",
)
log10 = _row(
    "log10",
    ieee.logarithm(math.log10),
    lambda y, x: div(1.0 / math.log(10.0), x),
    symbol="log₁₀",
    domain=(POSITIVE,),
    doc="the logarithm to base 10",
)

# Roots and lengths

sqrt = _row(
    "sqrt",
    ieee.guarded(math.sqrt, ieee.to_inf),
    lambda y, x: div(0.5, y),
    symbol="√",
    domain=(Interval(0.0, inf),),
    doc="the square root; its derivative at 0 is inf",
)
cbrt = _row(
    "cbrt",
    math.cbrt,
    lambda y, x: div(div(1.0 / 3.0, y), y),
    symbol="∛",
    doc="the cube root, of negative numbers too; its derivative at 0 is inf",
)
hypot = _row(
    "hypot",
    math.hypot,
    lambda y, a, b: direction(a, b),
    lambda y, a, b: direction(b, a),
    kink=lambda *xs: any(xs),
    doc="√(a² + b²) without overflow; its derivatives at (0, 0) are nan, as in PyTorch; of any number of arguments",
    otherwise=lambda *xs: hypot_of(len(xs))(*xs) if xs[1:] else absolute(*xs) if xs else 0.0,
)


@factory((3,))
def hypot_of(n: int) -> Op:
    """Return √(x₁² + … + xₙ²) of n arguments as one operation.

    A chain of ``hypot`` would round n − 1 times, and have no derivative at (0, 0, 1), where this one has.
    """

    def by(i: int) -> Partial:
        return lambda y, *xs: direction_of(n)(xs[i], *xs[:i], *xs[i + 1 :])

    return Op(
        f"hypot[{n}]",
        math.hypot,
        tuple(map(by, range(n))),
        symbol="hypot",
        kink=lambda *xs: any(xs),
        expansion=lambda *xs: reduce(hypot, xs),
        javascript="Math.hypot(" + ", ".join(f"{{{i}}}" for i in range(n)) + ")",
        python="mg.hypot(" + ", ".join(f"{{{i}}}" for i in range(n)) + ")",
        doc="the length of a vector, without overflow; its derivatives at the origin are nan",
        recipe=(hypot_of, (n,)),
    )


# Trigonometry

sin = _row(
    "sin",
    ieee.guarded(math.sin, ieee.to_inf),
    lambda y, x: cos(x),
    doc="sine",
)
cos: Op = _row(
    "cos",
    ieee.guarded(math.cos, ieee.to_inf),
    lambda y, x: -sin(x),
    doc="cosine",
)
tan = _row(
    "tan",
    ieee.guarded(math.tan, ieee.to_inf),
    lambda y, x: 1.0 + y * y,
    doc="tangent",
)
asin = _row(
    "asin",
    ieee.guarded(math.asin, ieee.to_inf),
    lambda y, x: div(1.0, sqrt(one_minus_square(x))),
    domain=(Interval(-1.0, 1.0),),
    ufunc="arcsin",
    doc="inverse sine; nan outside [−1, 1], derivative inf at ±1",
)
acos = _row(
    "acos",
    ieee.guarded(math.acos, ieee.to_inf),
    lambda y, x: div(-1.0, sqrt(one_minus_square(x))),
    domain=(Interval(-1.0, 1.0),),
    ufunc="arccos",
    doc="inverse cosine; nan outside [−1, 1], derivative −inf at ±1",
)
atan = _row(
    "atan",
    math.atan,
    lambda y, x: _squared(div(1.0, hypot(1.0, x))),  # 1 + x² would overflow
    ufunc="arctan",
    doc="inverse tangent",
)
atan2 = _row(
    "atan2",
    math.atan2,
    lambda y, a, b: div(div(b, hypot(a, b)), hypot(a, b)),
    lambda y, a, b: -div(div(a, hypot(a, b)), hypot(a, b)),
    kink=lambda a, b: b <= 0 and math.copysign(inf, a),
    ufunc="arctan2",
    doc="the angle of the point (b, a), with a jump at b ≤ 0, a = 0; derivatives at (0, 0) are nan: no limit",
)
sinh = _row(
    "sinh",
    ieee.guarded(math.sinh, ieee.to_signed_inf),
    lambda y, x: cosh(x),
    doc="hyperbolic sine",
)
cosh: Op = _row(
    "cosh",
    ieee.guarded(math.cosh, ieee.to_inf),
    lambda y, x: sinh(x),
    doc="hyperbolic cosine",
)
tanh = _row(
    "tanh",
    math.tanh,
    lambda y, x: ieee.sech2(x, y) if type(y) is float else sech2(x),  # y is at hand, and spares most of the time
    doc="hyperbolic tangent; the derivative 1 − y² is taken as sech² x, which keeps its digits as y nears ±1",
)
asinh = _row(
    "asinh",
    math.asinh,
    lambda y, x: div(1.0, hypot(1.0, x)),
    ufunc="arcsinh",
    doc="inverse hyperbolic sine",
)
acosh = _row(
    "acosh",
    ieee.guarded(math.acosh, ieee.to_inf),
    lambda y, x: div(div(1.0, sqrt(x - 1.0)), sqrt(x + 1.0)),
    domain=(Interval(1.0, inf),),
    ufunc="arccosh",
    doc="inverse hyperbolic cosine; nan below 1, derivative inf at 1",
)
atanh = _row(
    "atanh",
    ieee.atanh,
    lambda y, x: div(1.0, one_minus_square(x)),
    domain=(Interval(-1.0, 1.0, open=True),),
    ufunc="arctanh",
    doc="inverse hyperbolic tangent; ±inf at ±1, nan beyond",
)

# Rows that only local derivatives use, because a formula in other rows would lose digits when it is differentiated

sech2: Op = _hidden(
    "sech2",
    lambda x: ieee.sech2(x, math.tanh(x)),
    lambda y, x: -2.0 * tanh(x) * y,
    symbol="sech²",
    javascript="mg.sech2({0})",
    doc="1 / cosh² x, the derivative of tanh",
)
sigmoid_slope: Op = _hidden(
    "sigmoid_slope",
    lambda x: ieee.sigmoid_slope(x, ieee.sigmoid(x)),
    lambda y, x: -y * tanh(0.5 * x),
    symbol="σ(x)(1−σ(x))",
    formula="σ({0})(1−σ({0}))",
    javascript="mg.sigmoidSlope({0})",
    doc="σ(x)·σ(−x), the derivative of σ",
)
one_minus_square: Op = _hidden(
    "one_minus_square",
    lambda x: (1.0 - x) * (1.0 + x),
    lambda y, x: -2.0 * x,
    symbol="(1−x²)",
    expansion=lambda x: (1.0 - x) * (1.0 + x),
    formula="(1−{0:atom}²)",
    doc="1 − x², exact near ±1",
)

# Rows of losses: guards at infinite scores, which as nodes of their own would hide the formula

finite: Op = _hidden(
    "finite",
    lambda x: ieee.minimum(ieee.maximum(x, -sys.float_info.max), sys.float_info.max),
    1.0,
    symbol="finite",
    expansion=lambda x: clip(x, -sys.float_info.max, sys.float_info.max),
    doc="x itself; of ±inf the largest finite number, so that inf − finite(inf) is no nan",
)
log_weight: Op = _hidden(
    "log_weight",
    ieee.log,
    lambda y, x: div(1.0, where(equal(x, 0.0), inf, x)),
    symbol="log",
    domain=(POSITIVE,),
    expansion=lambda x: log(x),
    doc="log x of a sum of exponentials; at 0, where all of them vanish, nothing flows back",
)
direction: Op = _hidden(
    "direction",
    ieee.direction,
    lambda y, a, b: direction(b, a) * div(direction(b, a), hypot(a, b)),
    lambda y, a, b: -y * div(direction(b, a), hypot(a, b)),
    javascript="mg.direction({0}, {1})",
    doc="a / √(a² + b²), the derivative of hypot by a; ±1 where only a is infinite, nan at (0, 0)",
)


@factory()
def direction_of(n: int) -> Op:
    """Return x₁ / √(x₁² + … + xₙ²) of n arguments, the derivative of ``hypot_of(n)`` by the first."""
    squares = add if n == 3 else sum_of(n - 1)

    def length(xs: tuple[Any, ...]) -> Any:
        return hypot_of(n)(*xs)

    def by(i: int) -> Partial:
        if not i:  # 1/y − x₁²/y³ would cancel
            return lambda y, *xs: div(squares(*[_squared(div(x, length(xs))) for x in xs[1:]]), length(xs))
        return lambda y, *xs: -y * div(div(xs[i], length(xs)), length(xs))

    return Op(
        f"direction[{n}]",
        lambda a, *xs: ieee.direction(a, math.hypot(*xs)),
        tuple(map(by, range(n))),
        expansion=lambda a, *xs: direction(a, reduce(hypot, xs)),
        doc="the first argument over the length of all; nan at the origin",
        recipe=(direction_of, (n,)),
    )


# Special functions


def _bounded(x: Any) -> Any:
    """Hold x within ±1e20: products with it vanish long before, and beyond it derivatives would meet 0·∞."""
    return clip(x, -1e20, 1e20)


def _gaussian(x: Any) -> Any:
    """e^(−x²)."""
    return exp(-_squared(_bounded(x)))


def _weighted_density(x: Any) -> Any:
    """x·φ(x) with the density φ of the standard normal distribution."""
    x = _bounded(x)
    return x * (exp(-0.5 * (x * x)) * (1.0 / math.sqrt(2.0 * math.pi)))


def _gamma_slope(x: Any) -> Any:
    """Γ(x)·ψ(x). Where Γ overflows it is exp(x²), whose derivatives are all ∞ there, never ∞·0 or ∞ − ∞."""
    overflows = greater(x, 171.7)
    beyond, x = where(overflows, x, 0.0), where(overflows, 1.0, x)
    return where(overflows, exp(beyond * beyond), gamma(x) * digamma(x))


def _squared(x: Any) -> Any:
    return x * x


erf = _row(
    "erf",
    math.erf,
    lambda y, x: 2.0 / math.sqrt(math.pi) * _gaussian(x),
    javascript="mg.erf({0})",
    doc="the error function",
)
erfc = _row(
    "erfc",
    math.erfc,
    lambda y, x: -2.0 / math.sqrt(math.pi) * _gaussian(x),
    javascript="mg.erfc({0})",
    doc="1 − erf(x), accurate in the tail",
)
lgamma = _row(
    "lgamma",
    ieee.lgamma,
    lambda y, x: digamma(x),
    symbol="log|Γ|",
    kink=ieee.pole_to_the_left,
    javascript="mg.lgamma({0})",
    doc="the logarithm of |Γ(x)|; inf at 0, −1, −2, …; all digits are right beside its zeros at 1 and 2, "
    "beside those left of −2 only as many as the terms of the reflection leave",
)
gamma: Op = _row(
    "gamma",
    ieee.gamma,
    lambda y, x: _gamma_slope(x),
    symbol="Γ",
    kink=ieee.pole_to_the_left,
    javascript="mg.gamma({0})",
    doc="Γ(x), which is (n − 1)! for a whole n; ±inf at ±0, nan at −1, −2, …",
)
digamma: Op = _row(
    "digamma",
    lambda x: ieee.polygamma(0, x),
    lambda y, x: polygamma_of(1)(x),
    symbol="ψ",
    kink=ieee.pole_to_the_left,
    javascript="mg.polygamma(0, {0})",
    doc="ψ(x) = d log Γ(x) / dx; ∓inf at ±0, nan at −1, −2, …",
)


@factory((1,), (2,))
def polygamma_of(n: int) -> Op:
    """Return ψ⁽ⁿ⁾, the n-th derivative of digamma, for a whole n ≥ 1."""
    return Op(
        f"polygamma[{n}]",
        lambda x: ieee.polygamma(n, x),
        (lambda y, x: polygamma_of(n + 1)(x),),
        symbol=f"ψ⁽{_superscript(n)}⁾",
        kink=ieee.pole_to_the_left,
        ufunc="polygamma",
        javascript=f"mg.polygamma({n}, {{0}})",
        doc=f"the derivative number {n} of digamma",
        recipe=(polygamma_of, (n,)),
    )


# Kinks and steps: the derivative at a kink is PyTorch's

absolute: Op = _row(
    "abs",
    abs,
    lambda y, x: sign(x),
    symbol="|x|",
    formula="|{0}|",
    kink=lambda x: (x > 0) - (x < 0),
    doc="|x|; the derivative at 0 is 0",
)
sign: Op = _row(
    "sign",
    ieee.sign,
    0.0,
    kink=lambda x: (x > 0) - (x < 0),
    javascript="mg.sign({0})",
    doc="−1, 0 or 1; the derivative is 0 everywhere",
)
floor = _row(
    "floor",
    ieee.rounding(math.floor),
    0.0,
    symbol="⌊x⌋",
    formula="⌊{0}⌋",
    kink=lambda x: math.floor(x) if math.isfinite(x) else x,
    doc="the largest whole number ≤ x; the derivative is 0 everywhere",
)
ceil = _row(
    "ceil",
    ieee.rounding(math.ceil),
    0.0,
    symbol="⌈x⌉",
    formula="⌈{0}⌉",
    kink=lambda x: math.ceil(x) if math.isfinite(x) else x,
    doc="the smallest whole number ≥ x; the derivative is 0 everywhere",
)
trunc = _row(
    "trunc",
    ieee.rounding(math.trunc),
    0.0,
    kink=lambda x: math.trunc(x) if math.isfinite(x) else x,
    doc="the whole number next to x on the side of 0; the derivative is 0 everywhere",
)
rounded = _row(
    "round",
    ieee.rounding(round),
    0.0,
    symbol="⌊x⌉",
    formula="⌊{0}⌉",
    kink=lambda x: round(x) if math.isfinite(x) else x,
    ufunc="rint",
    javascript="mg.round({0})",
    python="round({0})",
    doc="the nearest whole number, of two the even one; the derivative is 0 everywhere",
)


@factory((2,), (-1,))
def round_of(digits: int) -> Op:
    """Return the operation that rounds to so many decimals, before the point if negative, as Python's ``round``."""
    nearest = ieee.guarded(lambda x: round(x, digits), ieee.to_signed_inf)
    return Op(
        f"round[{digits}]",
        nearest,
        (0.0,),
        kink=nearest,
        javascript=f"mg.roundTo({{0}}, {digits})",
        python=f"round({{0}}, {digits})",
        doc=f"the number of {digits} decimals nearest to x, of two the even one; the derivative is 0 everywhere",
        recipe=(round_of, (digits,)),
    )


# Division with a remainder a = q·b + r: the quotient q is constant between its jumps, so ∂r/∂a = 1 and ∂r/∂b = −q

floor_divide: Op = _row(
    "floor_divide",
    ieee.floor_divide,
    0.0,
    0.0,
    symbol="//",
    kink=ieee.floor_divide,
    operator="//",
    javascript="mg.floorDivide({0}, {1})",
    doc="⌊a ÷ b⌋, Python's a // b; a ÷ b where b is 0; the derivatives are 0 everywhere",
)
mod = _row(
    "mod",
    ieee.modulo,
    1.0,
    lambda y, a, b: -floor_divide(a, b),
    kink=ieee.floor_divide,
    operator="%",
    javascript="mg.mod({0}, {1})",
    doc="a − ⌊a ÷ b⌋·b, Python's a % b, with the sign of b; nan where b is 0",
)
fmod: Op = _row(
    "fmod",
    ieee.nan_outside(math.fmod),
    1.0,
    lambda y, a, b: rounded(div(y, b) - div(a, b)),
    kink=lambda a, b: rounded(ieee.divide(a, b) - ieee.divide(fmod.forward(a, b), b)),
    javascript="({0} % {1})",
    doc="a − trunc(a ÷ b)·b, with the sign of a, as in C; nan where b is 0",
)
remainder: Op = _row(
    "remainder",
    ieee.nan_outside(math.remainder),
    1.0,
    lambda y, a, b: rounded(div(y, b) - div(a, b)),
    kink=lambda a, b: rounded(ieee.divide(a, b) - ieee.divide(remainder.forward(a, b), b)),
    ufunc="ieee_remainder",
    javascript="mg.remainder({0}, {1})",
    doc="a − q·b for the whole number q nearest to a ÷ b, of two the even one (IEEE 754); nan where b is 0",
)
copysign: Op = _row(
    "copysign",
    ieee.copysign,
    lambda y, a, b: sign(a) * copysign(1.0, b),
    0.0,
    kink=lambda a, b: ((a > 0) - (a < 0), math.copysign(inf, b)),
    ufunc="copysign_or_nan",
    javascript="mg.copysign({0}, {1})",
    doc="|a| with the sign of b; nan where b is nan, whose sign means nothing; the derivative at a = 0 is 0",
)
maximum = _row(
    "maximum",
    ieee.maximum,
    lambda y, a, b: where(less(a, b), 0.0, where(equal(a, b), 0.5, 1.0)),
    lambda y, a, b: where(less(b, a), 0.0, where(equal(a, b), 0.5, 1.0)),
    symbol="max",
    kink=lambda a, b: (a > b) - (a < b),
    javascript="mg.maximum({0}, {1})",
    doc="the largest, nan if any is; the derivative is 1 for the larger of two, 0 for the other, ½ for equals",
    otherwise=lambda *xs: _of_several("maximum", xs, _largest),
)


def _largest(*xs: Any) -> Any:
    return maximum_of(len(xs))(*xs)


def _smallest(*xs: Any) -> Any:
    return -maximum(*[-x for x in xs])


def _of_several(name: str, xs: tuple[Any, ...], extreme: Callable[..., Any]) -> Any:
    """Return ``maximum`` or ``minimum`` of a number of arguments other than two."""
    if len(xs) > 2:
        return extreme(*xs)
    if not xs or isinstance(xs[0], (list, tuple)):
        given = short_repr(xs)
        raise TypeError(f"{name} takes one number or more, and those of a list as {name}(*numbers); got {given}")
    if name == "maximum" and alone.get():
        return maximum_of(1)(xs[0])
    return xs[0] if hasattr(type(xs[0]), "__apply__") else as_float(xs[0])


alone: ContextVar[bool] = ContextVar("alone", default=False)
"""Whether the sum and the maximum of one number are recorded as operations, as in a trace, or are that number.

Recorded, the first position of a sequence, which sees only itself, has the form of those that see several.
"""


@factory((3,))
def maximum_of(n: int) -> Op:
    """Return the largest of n arguments as one operation.

    Equal largest arguments share the gradient equally. A chain of ``maximum`` would halve it again and again.
    """

    def by(i: int) -> Partial:
        return lambda y, *xs: div(equal(xs[i], y), once(y, lambda: reduce(operator.add, [equal(x, y) for x in xs])))

    return Op(
        f"maximum[{n}]",
        lambda *xs: reduce(ieee.maximum, xs),
        tuple(map(by, range(n))) if n > 1 else (1.0,),
        symbol="max",
        kink=lambda *xs: tuple([x == max(xs) for x in xs]),
        expansion=lambda *xs: reduce(maximum, xs),
        python="mg.maximum(" + ", ".join(f"{{{i}}}" for i in range(n)) + ")",
        doc="the largest, nan if any is; the derivative is 1 for the largest, shared among equals",
        recipe=(maximum_of, (n,)),
    )


minimum = _row(
    "minimum",
    ieee.minimum,
    lambda y, a, b: where(less(b, a), 0.0, where(equal(a, b), 0.5, 1.0)),
    lambda y, a, b: where(less(a, b), 0.0, where(equal(a, b), 0.5, 1.0)),
    symbol="min",
    kink=lambda a, b: (a > b) - (a < b),
    javascript="mg.minimum({0}, {1})",
    doc="the smallest, nan if any is; the derivative is 1 for the smaller of two, 0 for the other, ½ for equals",
    otherwise=lambda *xs: _of_several("minimum", xs, _smallest),
)
clip: Op = _row(
    "clip",
    lambda x, low, high: ieee.minimum(ieee.maximum(x, low), high),
    lambda y, x, low, high: greater_equal(x, low) * less_equal(x, high),
    lambda y, x, low, high: less(x, low) * less(low, high),
    lambda y, x, low, high: 1.0 - (1.0 - greater(x, high)) * (1.0 - greater(low, high)),
    kink=lambda x, low, high: (x < low, x > high, (low > high) - (low < high)),
    expansion=lambda x, low, high: minimum(maximum(x, low), high),
    doc="x held between low and high; at the ends the gradient goes to x",
)
where: Op = _row(
    "where",
    lambda condition, a, b: a if condition else b,
    0.0,
    lambda y, condition, a, b: not_equal(condition, 0.0),
    lambda y, condition, a, b: equal(condition, 0.0),
    kink=lambda condition, a, b: bool(condition),
    javascript="({0} !== 0 ? {1} : {2})",
    doc="a where the condition is not 0, else b; the choice is part of the graph. The one not chosen has the "
    "derivative 0, a number like any other, so an infinite derivative behind it gives 0·∞ = nan, as in PyTorch: for "
    "√x or 0 write where(mg.greater(x, 0), sqrt(where(mg.greater(x, 0), x, 1)), 0)",
)


@factory()
def take_of(n: int) -> Op:
    """Return the operation (k, x₀, …, xₙ₋₁) ↦ xₖ: one of n numbers, by its index; users call ``take``."""

    def by(k: int) -> Partial:
        return lambda y, index, *xs: equal(index, float(k)) + equal(index, float(k - n))

    return Op(
        f"take[{n}]",
        ieee.taken,
        (0.0, *map(by, range(n))),
        symbol="xₖ",
        domain=(Interval(-n, n - 1), *[REALS] * n),
        kink=lambda index, *xs: index,
        expansion=_taken,
        formula="take({0}; " + ", ".join(f"{{{i + 1}}}" for i in range(n)) + ")",
        python="mg.take([" + ", ".join(f"{{{i + 1}}}" for i in range(n)) + "], {0})",
        chooses=True,
        doc="the argument that a whole number counts from 0, or from the end if it is negative; else nan. The "
        "derivative is 1 by that one, and nothing flows back to the others",
        recipe=(take_of, (n,)),
    )


chosen: Op = _hidden(
    "chosen",
    lambda mask, x: x if mask else 0.0,
    0.0,
    lambda y, mask, x: not_equal(mask, 0.0),
    symbol="xₖ",
    kink=lambda mask, x: bool(mask),
    expansion=lambda mask, x: where(mask, x, 0.0),
    chooses=True,
    doc="x where the mask is not 0, else 0, from where nothing flows back to x: not 0·∞ either",
)
gated: Op = _hidden(
    "gated",
    lambda mask, x: x,
    0.0,
    lambda y, mask, x: not_equal(mask, 0.0),
    kink=lambda mask, x: bool(mask),
    expansion=lambda mask, x: where(mask, x, stop_gradient(x)),
    chooses=True,
    doc="x, to which something flows back where the mask is not 0, and nothing elsewhere: not 0·∞ either",
)


def is_take(op: Op) -> bool:
    """Return whether a row is made by ``take_of``: its first argument is an index into the others."""
    return op.recipe is not None and op.recipe[0] is take_of


def _taken(index: Any, *xs: Any) -> Any:
    place = where(less(index, 0.0), index + float(len(xs)), index)
    chosen: Any = nan
    for k in reversed(range(len(xs))):
        chosen = where(equal(place, float(k)), xs[k], chosen)
    return chosen


relu = _row(
    "relu",
    lambda x: 0.0 if x <= 0.0 else x,
    lambda y, x: not_equal(y, 0.0),
    symbol="ReLU",
    kink=lambda x: x > 0,
    expansion=lambda x: maximum(x, 0.0),
    javascript="Math.max({0}, 0)",
    doc="max(x, 0) (chapter 5.5.1); the derivative at 0 is 0",
)


@factory((0.01,), (0.2,), signed=True)
def leaky_relu_of(slope: float) -> Op:
    """Return the leaky ReLU with a constant slope for x ≤ 0."""
    return Op(
        f"leaky_relu[{slope!r}]",
        lambda x: x if x > 0 else slope * x,
        (lambda y, x: where(greater(x, 0.0), 1.0, slope),),
        symbol="leaky ReLU",
        kink=lambda x: x > 0,
        expansion=lambda x: where(greater(x, 0.0), x, slope * x),
        python=f"mg.leaky_relu({{0}}, {_python_number(slope)})",
        doc=f"x for x > 0, else {slope!r}·x; the derivative at 0 is {slope!r}",
        recipe=(leaky_relu_of, (slope,)),
    )


@factory((1.0,), (0.5,), signed=True)
def elu_of(alpha: float) -> Op:
    """Return the exponential linear unit with a constant α."""
    return Op(
        f"elu[{alpha!r}]",
        lambda x: x if x > 0 else alpha * math.expm1(x),
        (lambda y, x: where(greater(x, 0.0), 1.0, alpha * exp(clip(x, -inf, 0.0))),),  # at 0 all are those of the left
        symbol="ELU",
        kink=lambda x: x > 0,
        expansion=lambda x: where(greater(x, 0.0), x, alpha * expm1(minimum(0.0, x))),
        python=f"mg.elu({{0}}, {_python_number(alpha)})",
        doc=f"x for x > 0, else {alpha!r}·(eˣ − 1); the derivatives at 0 are those of the left side, {alpha!r}",
        recipe=(elu_of, (alpha,)),
    )


# Smooth activations

sigmoid = _row(
    "sigmoid",
    ieee.sigmoid,
    lambda y, x: ieee.sigmoid_slope(x, y) if type(y) is float else sigmoid_slope(x),  # as tanh
    symbol="σ",
    javascript="mg.sigmoid({0})",
    doc="1 / (1 + e⁻ˣ) (chapter 5.5.2), without overflow on either side; the derivative y(1 − y) is "
    "taken as σ(x)·σ(−x), which keeps its digits as y nears 1",
)
silu = _row(
    "silu",
    lambda x: x * ieee.sigmoid(x) if x != -inf else -0.0,
    lambda y, x: sigmoid(x) + _bounded(x) * sigmoid_slope(x),
    symbol="SiLU",
    expansion=lambda x: where(equal(x, -inf), -0.0, x * sigmoid(x)),
    doc="x·σ(x), also called swish",
)
gelu = _row(
    "gelu",
    ieee.gelu,
    lambda y, x: 0.5 * erfc(x * -ieee.ROOT_HALF) + _weighted_density(x),
    symbol="GELU",
    expansion=lambda x: where(equal(x, -inf), -0.0, x * (0.5 * erfc(-ieee.ROOT_HALF * x))),
    javascript="mg.gelu({0})",
    doc="x·Φ(x) with the normal distribution Φ, exactly, not the tanh approximation",
)
softplus = _row(
    "softplus",
    ieee.softplus,
    lambda y, x: sigmoid(x),
    expansion=lambda x: maximum(x, 0.0) + log1p(exp(-absolute(x))),
    doc="log(1 + eˣ), without overflow",
)
