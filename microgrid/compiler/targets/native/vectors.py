"""Mathematical functions of vectors, written on the assembly of any width.

Each has a fast path, without branches, for the arguments that programs meet; where some lane is outside, all lanes
go to the full function, which is not inlined. In float64, with ``fma``, the error is at most 1 ulp of exp, log, sin
and cos, 4 of erf, erfc and sech2, 2 of the others, over all arguments; numbers of float32 are computed in float64 and
rounded. Infinities, nan, zeros with their signs and subnormal numbers are as in C99's Annex F.

Reduction to a small interval: Cody & Waite, "Software Manual for the Elementary Functions" (1980), in two or three
parts; the logarithm by s = f/(2 + f) as in Tang, "Table-driven implementation of the logarithm function" (1990); sums
and products of which the rounding error is kept: Dekker, "A floating-point technique for extending the available
precision" (1971). The polynomials are minimax by Remez's exchange, the quotients of polynomials nearly so;
``.ci/fits.py`` computes them.
"""

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce, wraps

from microgrid.compiler.targets.native.assembly import Builder, Function, Vector

MAGIC = 1.5 * 2.0**52
"""Added to a number below 2⁵¹ it leaves the nearest whole number in the low bits."""

SMALLEST = 2.0**-1022
"""The smallest normal number."""

LN2 = (0.6931471805598903, 5.497923018708371e-14)
"""log 2 in two parts, of which the first has 42 bits: a whole number below 2¹¹ times it is exact."""
LOG10_2 = (0.30102999566395283, 2.8363394551044964e-14)
"""log₁₀ 2, in the same way."""
LOG2_E = (1.4426950408889634, 2.0355273740931033e-17)
LOG10_E = (0.4342944819032518, 1.098319650216765e-17)
ROOT_PI = (1.772453850905516, -7.666586499825799e-17)
HALF_PI = (1.5707963267948966, 6.123233995736766e-17)
HALF_PI_FUSED = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
HALF_PI_SHORT = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)
"""π/2 in three parts: full ones, for fma; ones of which the first two have 33 bits."""

# eʳ = 1 + r + r²·p(r) and 2ʳ = 1 + r·log 2 + r²·p(r), |r| ≤ ½ log 2 and ½
EXP = (
    0.5000000000000006, 0.16666666666666685, 0.041666666666573614, 0.008333333333314702, 0.0013888888932381224,
    0.00019841269902799136, 2.4801504443646842e-05, 2.7557228153059305e-06, 2.762632736430326e-07,
    2.5114412419867682e-08,
)  # fmt: skip
EXP2 = (
    0.24022650695910133, 0.05550410866482169, 0.009618129107593605, 0.0013333558146385938, 0.00015403530457788693,
    1.5252733863351909e-05, 1.3215434943029674e-06, 1.0178047651661643e-07, 7.073840999369104e-09,
    4.4572585841376897e-10,
)  # fmt: skip
# 2 artanh s = 2s + s³·p(s²), |s| ≤ (√2 − 1)/(√2 + 1); the second is what follows ⅔ in the first, to more digits
LOG = (
    0.6666666666666734, 0.399999999994144, 0.2857142874245237, 0.22222198566238696, 0.18183564705323804,
    0.15314040337473517, 0.14796057427345377,
)  # fmt: skip
LOG_TAIL = (
    0.3999999999999998, 0.28571428571445107, 0.22222222217537196, 0.18181818870226735, 0.15384556876767966,
    0.13336317208151727, 0.11674822536507781, 0.11988981789005856,
)  # fmt: skip
# sin y = y + y³·p(y²), cos y = 1 − ½y² + y⁴·p(y²), |y| ≤ π/4
SIN = (
    -0.16666666666666632, 0.008333333333322418, -0.00019841269829812123, 2.7557313693500193e-06,
    -2.505075837512766e-08, 1.5896811368737094e-10,
)  # fmt: skip
COS = (
    0.0416666666666666, -0.0013888888888874131, 2.4801587289487012e-05, -2.75573143537147e-07,
    2.0875723459924203e-09, -1.1359657458153456e-11,
)  # fmt: skip
# arcsin s = s + s³·p(s²), |s| ≤ ½; arctan t = t + t³·p(t²), |t| ≤ tan π/8
ARCSIN = (
    0.1666666666666538, 0.07500000000343451, 0.04464285682315539, 0.030381959344497497, 0.022371753211029848,
    0.017359775740390014, 0.013884553385524565, 0.01217357139668871, 0.006509604869845799, 0.019577287736746985,
    -0.016299332542502765, 0.031962542511295974,
)  # fmt: skip
ARCTAN = (
    -0.333333333333332, 0.19999999999953672, -0.14285714280204734, 0.11111110783840403, -0.0909089776758483,
    0.07692060367154786, -0.06663105482372346, 0.05847897381111716, -0.05039330025508556, 0.03806491899957484,
    -0.017907290774893326,
)  # fmt: skip
# tanh x = x + x³·p(x²), |x| ≤ 0.3
TANH = (
    -0.3333333333332682, 0.13333333331479383, -0.05396825218240266, 0.02186940686606858, -0.008861232682855246,
    0.003564982971193504, -0.0012624270194190052,
)  # fmt: skip
# erf x = x + x·p(x²), |x| ≤ 1; erf x = 1 − exp(−x²)·p(x − 1.5), 1 ≤ x ≤ 5.95;
# erfc x = exp(−x²)/(√π·x + p(x)/q(x)), 0.87 ≤ x ≤ 28
ERF = (
    0.12837916709551256, -0.3761263890318352, 0.11283791670944186, -0.026866170643111746, 0.005223977606120351,
    -0.0008548325929385423, 0.00012055293578509611, -1.492471232438503e-05, 1.6447131757733175e-06,
    -1.6206314608298656e-07, 1.3710981979921814e-08, -7.779468180119286e-10,
)  # fmt: skip
ERF_TAIL = (
    0.32158541645431776, -0.16362291773255003, 0.07615103985544766, -0.0329309053003517, 0.013377340953740316,
    -0.005145957531412975, 0.0018861348643076875, -0.0006619302121854451, 0.00022331011419796917,
    -7.265834720935848e-05, 2.286322552273878e-05, -6.975584700597977e-06, 2.06986827310166e-06,
    -5.981302154027627e-07, 1.660453881785911e-07, -4.215155951680177e-08, 8.946482788109983e-09,
    -1.4111438391889985e-09, 1.41360763510745e-10, -6.5935799945817645e-12,
)  # fmt: skip
ERFC_TAIL = (
    (1.000000002748672, 1.7372838478244716, 1.5280447663479728, 0.8638266770545417, 0.33944032808214636,
     0.09464907560099119, 0.018362521464332215, 0.002295021151819083, 0.00014665248495664542),
    (1.0, 2.381358560599258, 2.7885778393209524, 2.0770067702079675, 1.077640569061505, 0.4034890081550022,
     0.10938970128899793, 0.020885366226820606, 0.002589654056691563, 0.00016547960882103886),
)  # fmt: skip
# ∛x to 11 bits, 2^−1.55 ≤ x ≤ 2^1.55
CBRT = (
    0.39246528714176776, 1.195159119680648, -1.094116475985798, 0.7574570568913659, -0.3147094296986543,
    0.06986241640721924, -0.006347092107117966,
)  # fmt: skip


def bits_of(x: float) -> int:
    """Return the bits of a float as an integer."""
    return int(struct.unpack("<q", struct.pack("<d", x))[0])


def in_double(function: Callable[..., Vector]) -> Callable[..., Vector]:
    """Compute a function of numbers of float32 in float64: that has all digits, and most arguments are usual there."""

    @wraps(function)
    def wrapped(b: Builder, *xs: Vector | int) -> Vector:
        if b.bits == 64:
            return function(b, *xs)
        wide = b.of(dtype="float64")
        converted = [wide.converted(x, "float64") if isinstance(x, Vector) else x for x in xs]
        return wide.converted(function(wide, *converted), "float32")

    return wrapped


def guarded(b: Builder, name: str, ok: Vector, fast: Vector, full: Callable[..., Vector], *xs: Vector) -> Vector:
    """Return ``fast`` where all lanes are ok, else ``full(builder, *xs)``, which is a function of its own."""

    def body(function: Function) -> Vector:
        return full(Builder(function, b.width, b.dtype, fused=b.fused), *parameters)

    def call() -> list[Vector]:
        b.function.module.helper(helper, parameters, body)
        return [b.function.call(b.like, helper, *xs)]

    helper = f"{name}.{b.like.suffix}"
    parameters = [replace(x, text=f"%a{k}") for k, x in enumerate(xs)]
    return b.guarded(ok, [fast], call)[0]


def outside(b: Builder, name: str, *xs: Vector) -> Vector:
    """A function of the C library, lane by lane."""
    return b.each(lambda *scalars: b.function.call(scalars[0], name, *scalars), *xs)


# Parts


def polynomial(b: Builder, x: Vector, coefficients: Sequence[float]) -> Vector:
    """Σ cₖ xᵏ by two of Horner's chains, the even powers and the odd ones, which run beside each other."""

    def chain(coefficients: Sequence[float]) -> Vector:
        return reduce(lambda y, c: b.fma(y, square, c), [b.number(c) for c in reversed(coefficients)])

    square = b.mul(x, x)
    return b.fma(chain(coefficients[1::2]), x, chain(coefficients[::2]))


def product(b: Builder, x: Vector, y: Vector) -> tuple[Vector, Vector]:
    """x·y and its rounding error."""
    p = b.mul(x, y)
    if b.fused:
        return p, b.fma(x, y, b.neg(p))

    def split(a: Vector) -> tuple[Vector, Vector]:
        scaled = b.mul(a, b.number(2.0**27 + 1.0))
        high = b.sub(scaled, b.sub(scaled, a))
        return high, b.sub(a, high)

    (x1, x2), (y1, y2) = split(x), split(y)
    error = b.add(b.sub(b.mul(x1, y1), p), b.mul(x1, y2))
    return p, b.add(b.add(error, b.mul(x2, y1)), b.mul(x2, y2))


def ordered_sum(b: Builder, x: Vector, y: Vector) -> tuple[Vector, Vector]:
    """X + y and its rounding error, for |x| ≥ |y| or x = 0."""
    total = b.add(x, y)
    return total, b.add(b.sub(x, total), y)


def within(b: Builder, x: Vector, low: float, high: float) -> Vector:
    """X held between two numbers; nan stays."""
    return b.minimum(b.maximum(x, b.number(low)), b.number(high))


def below(b: Builder, x: Vector, limit: float) -> Vector:
    """Whether |x| < limit."""
    return b.compare("<", b.abs(x), b.number(limit))


def signed(b: Builder, x: Vector, sign: Vector) -> Vector:
    """−x where the first bit of the integer ``sign`` is set."""
    return b.from_bits(b.integers("xor", b.to_bits(x), sign))


def sign_bit(b: Builder, x: Vector) -> Vector:
    """The sign bit of x, alone."""
    return b.integers("and", b.to_bits(x), b.integer(-(2**63)))


def nearest(b: Builder, x: Vector, factor: float) -> tuple[Vector, Vector]:
    """The whole number next to x · factor: as a number, and in the low bits of a number."""
    t = b.fma(x, b.number(factor), b.number(MAGIC))
    return b.sub(t, b.number(MAGIC)), t


def scaled(b: Builder, x: Vector, t: Vector) -> Vector:
    """X · 2ⁿ by its exponent, with n in the low bits of t; x and the result are normal."""
    return b.from_bits(b.integers("add", b.to_bits(x), b.integers("shl", b.to_bits(t), b.integer(52))))


def scaled_with_care(b: Builder, x: Vector, t: Vector) -> Vector:
    """X · 2ⁿ, in two steps, which may end at 0, at a subnormal number or at infinity."""
    n = b.integers("sub", b.to_bits(t), b.integer(bits_of(MAGIC)))
    half = b.integers("ashr", n, b.integer(1))
    for part in (half, b.integers("sub", n, half)):
        exponent = b.integers("add", part, b.integer(1023))
        x = b.mul(x, b.from_bits(b.integers("shl", exponent, b.integer(52))))
    return x


# Exponentials


Scale = Callable[[Builder, Vector, Vector], Vector]


def exp_parts(b: Builder, x: Vector, rest: Vector | None = None) -> tuple[Vector, Vector, Vector]:
    """eˣ as 2ⁿ eʳ, or that of x + rest: r, its rounding error, and n in the low bits of a number."""
    n, t = nearest(b, x, LOG2_E[0])
    high, low = b.fma(n, b.number(-LN2[0]), x), b.number(-LN2[1])
    r = b.fma(n, low, high) if rest is None else b.add(high, b.fma(n, low, rest))
    return r, b.fma(n, low, b.sub(high, r)), t


def exp_times(b: Builder, x: Vector, scale: Scale, rest: Vector | None = None, factor: Vector | None = None) -> Vector:
    """eˣ, or that of x + rest; or that times a factor."""
    r, _, t = exp_parts(b, x, rest)
    most, lost = ordered_sum(b, b.number(1.0), r)
    tail = b.fma(b.mul(r, r), polynomial(b, r, EXP), lost)
    return scale(b, b.add(most, tail) if factor is None else b.fma(most, factor, b.mul(tail, factor)), t)


def exp_usual(b: Builder, x: Vector, rest: Vector | None = None, factor: Vector | None = None) -> Vector:
    """eˣ for |x| < 708, as ``exp_times``."""
    return exp_times(b, x, scaled, rest, factor)


def exp_full(b: Builder, x: Vector, rest: Vector | None = None, factor: Vector | None = None) -> Vector:
    """eˣ for all x, as ``exp_times``."""
    return exp_times(b, within(b, x, -746.0, 710.0), scaled_with_care, rest, factor)


@in_double
def exp(b: Builder, x: Vector) -> Vector:
    """eˣ."""
    return guarded(b, "exp", below(b, x, 708.0), exp_usual(b, x), exp_full, x)


def exp2_parts(b: Builder, x: Vector) -> tuple[Vector, Vector]:
    """2ˣ = 2ⁿ (1 + q): 1 + q, and n in the low bits of a number."""
    n, t = nearest(b, x, 1.0)
    r = b.sub(x, n)
    q = b.fma(b.mul(r, r), polynomial(b, r, EXP2), b.mul(r, b.number(math.log(2.0))))
    return b.add(q, b.number(1.0)), t


@in_double
def exp2(b: Builder, x: Vector) -> Vector:
    """2ˣ."""

    def full(b: Builder, x: Vector) -> Vector:
        return scaled_with_care(b, *exp2_parts(b, within(b, x, -1080.0, 1030.0)))

    return guarded(b, "exp2", below(b, x, 1021.0), scaled(b, *exp2_parts(b, x)), full, x)


def expm1_usual(b: Builder, x: Vector, careful: bool = False) -> Vector:
    """eˣ − 1 = (2ⁿ − 1) + 2ⁿ (eʳ − 1) for |x| < 708, within 1.2 ulp if careful, else 1.8."""
    r, r_lost, t = exp_parts(b, x)
    s = scaled(b, b.number(1.0), t)
    most, lost = ordered_sum(b, b.sub(s, b.number(1.0)), b.mul(s, r))
    if careful:
        lost = b.fma(s, r_lost, lost)
    return b.add(most, b.fma(b.mul(s, b.mul(r, r)), polynomial(b, r, EXP), lost))


@in_double
def expm1(b: Builder, x: Vector) -> Vector:
    """eˣ − 1."""

    def full(b: Builder, x: Vector) -> Vector:
        large = b.compare(">", x, b.number(100.0))
        return b.select(large, exp_full(b, x), expm1_usual(b, within(b, x, -100.0, 100.0)))

    return b.copysign(guarded(b, "expm1", below(b, x, 708.0), expm1_usual(b, x), full, x), x)


# Logarithms


def log_parts(b: Builder, x: Vector) -> tuple[Vector, Vector, Vector]:
    """X = 2ᵏ m with √½ ≤ m < √2, for normal x: m and k, and k + 1024 as an integer."""
    root = bits_of(math.sqrt(0.5))
    u = b.integers("add", b.to_bits(x), b.integer((1024 << 52) - root))
    k = b.integers("lshr", u, b.integer(52))
    m = b.integers("add", b.integers("and", u, b.integer((1 << 52) - 1)), b.integer(root))
    as_number = b.from_bits(b.integers("or", k, b.integer(bits_of(2.0**52))))
    return b.from_bits(m), b.sub(as_number, b.number(2.0**52 + 1024.0)), k


def log_terms(b: Builder, f: Vector) -> tuple[Vector, Vector]:
    """log(1 + f) = f − (h − r): h = f²/2 and r."""
    s = b.div(f, b.add(f, b.number(2.0)))
    z = b.mul(s, s)
    h = b.mul(b.number(0.5), b.mul(f, f))
    return h, b.mul(s, b.fma(z, polynomial(b, z, LOG), h))


def log_sum(b: Builder, k: Vector, f: Vector, rest: Vector | None = None) -> Vector:
    """k·log 2 + log(1 + f) + rest."""
    h, r = log_terms(b, f)
    low = b.fma(k, b.number(LN2[1]), r if rest is None else b.add(r, rest))
    return b.fma(k, b.number(LN2[0]), b.sub(f, b.sub(h, low)))


def log_pair(b: Builder, f: Vector) -> tuple[Vector, Vector]:
    """log(1 + f) as the sum of two numbers."""
    h, r = log_terms(b, f)
    high, low = ordered_sum(b, f, b.neg(h))
    return high, b.add(low, r)


def positive(b: Builder, x: Vector) -> Vector:
    """Whether x is positive, normal and finite."""
    return b.both(b.compare(">=", x, b.number(SMALLEST)), b.compare("<", x, b.number(math.inf)))


def logarithm(name: str, combine: Callable[[Builder, Vector, Vector], Vector]) -> Callable[..., Vector]:
    """Return a logarithm; ``combine`` is that of 2ᵏ (1 + f)."""

    def usual(b: Builder, x: Vector) -> Vector:
        m, k, _ = log_parts(b, x)
        return combine(b, k, b.sub(m, b.number(1.0)))

    def full(b: Builder, x: Vector) -> Vector:
        tiny = b.compare("<", x, b.number(SMALLEST))
        m, k, _ = log_parts(b, b.select(tiny, b.mul(x, b.number(2.0**54)), x))
        k = b.select(tiny, b.sub(k, b.number(54.0)), k)
        result = combine(b, k, b.sub(m, b.number(1.0)))
        result = b.select(b.compare("<", x, b.number(math.inf)), result, x)
        pole = b.select(b.compare("==", x, b.number(0.0)), b.number(-math.inf), b.number(math.nan))
        return b.select(b.compare("<=", x, b.number(0.0)), pole, result)

    def function(b: Builder, x: Vector) -> Vector:
        return guarded(b, name, positive(b, x), usual(b, x), full, x)

    return in_double(function)


def _log2(b: Builder, k: Vector, f: Vector) -> Vector:
    high, low = log_pair(b, f)
    p, error = product(b, high, b.number(LOG2_E[0]))
    rest = b.fma(low, b.number(LOG2_E[0]), b.fma(high, b.number(LOG2_E[1]), error))
    total, lost = ordered_sum(b, k, p)
    return b.add(total, b.add(lost, rest))


def _log10(b: Builder, k: Vector, f: Vector) -> Vector:
    high, low = log_pair(b, f)
    p, error = product(b, high, b.number(LOG10_E[0]))
    rest = b.fma(low, b.number(LOG10_E[0]), b.fma(high, b.number(LOG10_E[1]), error))
    total, lost = ordered_sum(b, b.mul(k, b.number(LOG10_2[0])), p)
    return b.add(total, b.add(lost, b.fma(k, b.number(LOG10_2[1]), rest)))


log = logarithm("log", log_sum)
log2 = logarithm("log2", _log2)
log10 = logarithm("log10", _log10)


def log1p_sum(b: Builder, x: Vector, rest: Vector | None = None) -> Vector:
    """log(1 + x + rest) for 1 + x normal, x < 1e300, and a rest that is below the last digit of x."""
    _, k, shifted = log_parts(b, b.add(x, b.number(1.0)))
    exponent = b.integers("sub", b.integer(1024 + 1023), shifted)
    s = b.from_bits(b.integers("shl", exponent, b.integer(52)))
    f = b.fma(s, x, b.sub(s, b.number(1.0)))
    if rest is not None:
        rest = b.mul(s, rest)
        rest = b.sub(rest, b.mul(rest, f))
    return log_sum(b, k, f, rest)


@in_double
def log1p(b: Builder, x: Vector) -> Vector:
    """log(1 + x)."""

    def full(b: Builder, x: Vector) -> Vector:
        large = b.compare(">=", x, b.number(1e300))
        result = b.select(large, log(b, x), log1p_sum(b, b.select(large, b.number(0.0), x)))
        result = b.select(b.is_nan(x), x, result)
        pole = b.select(b.compare("==", x, b.number(-1.0)), b.number(-math.inf), b.number(math.nan))
        return b.select(b.compare("<=", x, b.number(-1.0)), pole, result)

    ok = b.both(b.compare(">", x, b.number(-1.0)), b.compare("<", x, b.number(1e300)))
    return b.copysign(guarded(b, "log1p", ok, log1p_sum(b, x), full, x), x)


# Circular functions, for which |x| is reduced to y = |x| − n·π/2, |y| ≤ π/4; beyond 1e5, where that takes more digits
# of π, the C library's


def reduced(b: Builder, x: Vector) -> tuple[Vector, Vector, Vector]:
    """Y as the sum of two numbers, and n as an integer in its low bits."""
    x = b.abs(x)
    first, second, third = HALF_PI_FUSED if b.fused else HALF_PI_SHORT
    n, t = nearest(b, x, 2.0 / math.pi)
    r = b.fma(n, b.number(-first), x)
    w = b.mul(n, b.number(second))
    y = b.sub(r, w)
    rest = b.fma(n, b.number(-third), b.fma(n, b.number(-second), w))
    return y, b.add(b.sub(b.sub(r, y), w), rest), b.to_bits(t)


def sin_cos(b: Builder, y: Vector, rest: Vector) -> tuple[Vector, Vector]:
    """The sine and the cosine of y + rest, |y| ≤ π/4."""
    z = b.mul(y, y)
    sine = b.add(y, b.fma(b.mul(z, y), polynomial(b, z, SIN), rest))
    half = b.mul(b.number(0.5), z)
    most, lost = ordered_sum(b, b.number(1.0), b.neg(half))
    tail = b.fma(b.mul(z, z), polynomial(b, z, COS), b.neg(b.mul(y, rest)))
    return sine, b.add(most, b.add(lost, tail))


def quadrant(b: Builder, n: Vector) -> Vector:
    """Whether n is odd."""
    return b.compare("!=", b.integers("and", n, b.integer(1)), b.integer(0))


def circular(name: str, usual: Callable[[Builder, Vector], Vector]) -> Callable[..., Vector]:
    """Return a circular function."""

    def full(b: Builder, x: Vector) -> Vector:
        return outside(b, name, x)

    def function(b: Builder, x: Vector) -> Vector:
        return guarded(b, f"{name}.full", below(b, x, 1e5), usual(b, x), full, x)

    return in_double(function)


def half_turn(b: Builder, n: Vector) -> Vector:
    """The sign bit of i^n, n modulo 4 = 2 or 3."""
    return b.integers("shl", b.integers("and", n, b.integer(2)), b.integer(62))


def _sin(b: Builder, x: Vector) -> Vector:
    y, rest, n = reduced(b, x)
    sine, cosine = sin_cos(b, y, rest)
    sign = b.integers("xor", half_turn(b, n), sign_bit(b, x))
    return signed(b, b.select(quadrant(b, n), cosine, sine), sign)


def _cos(b: Builder, x: Vector) -> Vector:
    y, rest, n = reduced(b, x)
    sine, cosine = sin_cos(b, y, rest)
    sign = half_turn(b, b.integers("add", n, b.integer(1)))
    return signed(b, b.select(quadrant(b, n), sine, cosine), sign)


def _tan(b: Builder, x: Vector) -> Vector:
    y, rest, n = reduced(b, x)
    sine, cosine = sin_cos(b, y, rest)
    odd = quadrant(b, n)
    quotient = b.div(b.select(odd, cosine, sine), b.select(odd, sine, cosine))
    return signed(b, quotient, b.integers("xor", b.integers("shl", n, b.integer(63)), sign_bit(b, x)))


sin = circular("sin", _sin)
cos = circular("cos", _cos)
tan = circular("tan", _tan)


def arc(b: Builder, turn: Vector, c: Vector, z: Vector, coefficients: Sequence[float]) -> Vector:
    """Turn − (c + c·z·p(z)), where turn is 0 or a multiple of π/4, whose missing digits are added."""
    high, low = ordered_sum(b, turn, b.neg(c))
    rest = b.fma(turn, b.number(HALF_PI[1] / HALF_PI[0]), low)
    return b.add(high, b.sub(rest, b.mul(b.mul(c, z), polynomial(b, z, coefficients))))


def _arcsin_parts(b: Builder, x: Vector) -> tuple[Vector, Vector, Vector]:
    """Whether |x| < ½, and (1 − |x|)/2 where not, else x²; and the root of the first."""
    a = b.abs(x)
    small = b.compare("<", a, b.number(0.5))
    half = b.mul(b.number(0.5), b.sub(b.number(1.0), a))
    return small, b.select(small, b.mul(x, x), half), b.sqrt(half)


@in_double
def asin(b: Builder, x: Vector) -> Vector:
    """Arcsin x: beyond ½ by arcsin x = π/2 − 2 arcsin √((1 − x)/2)."""
    small, z, root = _arcsin_parts(b, x)
    turn = b.select(small, b.number(0.0), b.number(HALF_PI[0]))
    c = b.select(small, b.neg(b.abs(x)), b.add(root, root))
    return b.copysign(arc(b, turn, c, z, ARCSIN), x)


@in_double
def acos(b: Builder, x: Vector) -> Vector:
    """Arccos x, as arcsin."""
    small, z, root = _arcsin_parts(b, x)
    right = b.compare(">", x, b.number(0.0))
    turn = b.select(right, b.number(0.0), b.number(2.0 * HALF_PI[0]))
    turn = b.select(small, b.number(HALF_PI[0]), turn)
    c = b.select(small, x, b.copysign(b.add(root, root), b.neg(x)))
    return arc(b, turn, c, z, ARCSIN)


def arctan_of_quotient(b: Builder, y: Vector, x: Vector) -> Vector:
    """The arctangent of y/x for y, x ≥ 0, not both 0 or infinite: that of a rotation by 0, π/4 or π/2."""
    low = b.compare("<", y, b.mul(x, b.number(math.tan(math.pi / 8))))
    high = b.compare(">", y, b.mul(x, b.number(math.tan(3 * math.pi / 8))))
    numerator = b.select(low, b.neg(y), b.select(high, x, b.sub(x, y)))
    denominator = b.select(low, x, b.select(high, y, b.add(x, y)))
    turn = b.select(high, b.number(HALF_PI[0]), b.number(0.5 * HALF_PI[0]))
    c = b.div(numerator, denominator)
    return arc(b, b.select(low, b.number(0.0), turn), c, b.mul(c, c), ARCTAN)


@in_double
def atan(b: Builder, x: Vector) -> Vector:
    """Arctan x."""
    a = within(b, b.abs(x), 0.0, 1e300)
    return b.copysign(arctan_of_quotient(b, a, b.number(1.0)), x)


@in_double
def atan2(b: Builder, y: Vector, x: Vector) -> Vector:
    """The angle of the point (x, y)."""

    def usual(b: Builder, y: Vector, x: Vector) -> Vector:
        angle = arctan_of_quotient(b, b.abs(y), b.abs(x))
        high, low = ordered_sum(b, b.number(2.0 * HALF_PI[0]), b.neg(angle))
        other = b.add(high, b.add(low, b.number(2.0 * HALF_PI[1])))
        return b.copysign(b.select(b.compare("<", x, b.number(0.0)), other, angle), y)

    def full(b: Builder, y: Vector, x: Vector) -> Vector:
        missing = b.either(b.is_nan(x), b.is_nan(y))
        sizes = [b.abs(v) for v in (y, x)]
        infinite = [b.compare("==", size, b.number(math.inf)) for size in sizes]
        some = b.either(*infinite)
        origin = b.compare("==", b.add(*sizes), b.number(0.0))
        largest = b.maximum(*sizes)
        scale = b.select(b.compare("<", largest, b.number(1e-290)), b.number(2.0**60), b.number(1.0))
        scale = b.select(b.compare(">", largest, b.number(1e290)), b.number(2.0**-60), scale)
        y1, x1 = b.mul(y, scale), b.mul(x, scale)
        ends = [b.copysign(b.as_number(mask), v) for mask, v in zip(infinite, (y, x), strict=True)]
        y1, x1 = [b.select(some, end, v) for end, v in zip(ends, (y1, x1), strict=True)]
        x1 = b.select(origin, b.copysign(b.number(1.0), x), x1)
        return b.select(missing, b.number(math.nan), usual(b, y1, x1))

    size = b.add(b.abs(y), b.abs(x))
    ok = b.both(b.compare(">", size, b.number(1e-300)), b.compare("<", size, b.number(1e300)))
    return guarded(b, "atan2", ok, usual(b, y, x), full, y, x)


# Hyperbolic functions


def twice(b: Builder, x: Vector) -> Vector:
    """2|x|, at most 700."""
    return b.minimum(b.mul(b.abs(x), b.number(2.0)), b.number(700.0))


@in_double
def tanh(b: Builder, x: Vector) -> Vector:
    """m/(m + 2) with m = exp 2|x| − 1, and the sign of x; near 0 a polynomial."""
    m = expm1_usual(b, twice(b, x))
    z = b.mul(x, x)
    near = b.fma(b.mul(x, z), polynomial(b, z, TANH), x)
    return b.copysign(b.select(below(b, x, 0.3), near, b.div(m, b.add(m, b.number(2.0)))), x)


@in_double
def sech2(b: Builder, x: Vector) -> Vector:
    """1/cosh² x = 4e/(e + 1)² with e = exp 2|x|, whose parts are those in tanh."""

    def of_exponential(b: Builder, e: Vector) -> Vector:
        inverse = b.div(b.number(2.0), b.add(e, b.number(1.0)))
        return b.mul(b.mul(e, inverse), inverse)

    def full(b: Builder, x: Vector) -> Vector:
        return of_exponential(b, exp_full(b, b.mul(b.number(-2.0), b.abs(x))))

    return guarded(b, "sech2", below(b, x, 350.0), of_exponential(b, exp_usual(b, twice(b, x))), full, x)


@in_double
def cosh(b: Builder, x: Vector) -> Vector:
    """Cosh x."""

    def full(b: Builder, x: Vector) -> Vector:
        a = b.abs(x)
        root = exp_full(b, b.mul(b.number(0.5), a))
        return b.select(below(b, x, 700.0), usual(b, x), b.mul(b.mul(b.number(0.5), root), root))

    def usual(b: Builder, x: Vector) -> Vector:
        e = exp_usual(b, b.abs(x))
        return b.fma(b.number(0.5), e, b.div(b.number(0.5), e))

    return guarded(b, "cosh", below(b, x, 708.0), usual(b, x), full, x)


@in_double
def sinh(b: Builder, x: Vector) -> Vector:
    """Sinh x = ½ (m + m/(m + 1)) with m = eˣ − 1."""

    def full(b: Builder, x: Vector) -> Vector:
        a = b.abs(x)
        root = exp_full(b, b.mul(b.number(0.5), a))
        large = b.mul(b.mul(b.number(0.5), root), root)
        return b.select(below(b, x, 700.0), usual(b, x), large)

    def usual(b: Builder, x: Vector) -> Vector:
        m = expm1_usual(b, b.abs(x), careful=True)
        return b.mul(b.number(0.5), b.add(m, b.div(m, b.add(m, b.number(1.0)))))

    return b.copysign(guarded(b, "sinh", below(b, x, 708.0), usual(b, x), full, x), x)


@in_double
def asinh(b: Builder, x: Vector) -> Vector:
    """log(1 + a + a²/(1 + √(a² + 1))) with a = |x|, and its sign."""

    def usual(b: Builder, x: Vector) -> Vector:
        a = b.abs(x)
        root = b.sqrt(b.fma(a, a, b.number(1.0)))
        return log1p_sum(b, *ordered_sum(b, a, b.div(b.mul(a, a), b.add(root, b.number(1.0)))))

    def full(b: Builder, x: Vector) -> Vector:
        small = below(b, x, 1e150)
        large = b.add(log(b, b.abs(x)), b.number(math.log(2.0)))
        return b.select(small, usual(b, b.select(small, x, b.number(0.0))), large)

    return b.copysign(guarded(b, "asinh", below(b, x, 1e150), usual(b, x), full, x), x)


@in_double
def acosh(b: Builder, x: Vector) -> Vector:
    """log(1 + t + √(t² + 2t)) with t = x − 1."""

    def usual(b: Builder, x: Vector) -> Vector:
        t = b.sub(x, b.number(1.0))
        root = b.sqrt(b.mul(t, b.add(t, b.number(2.0))))
        total = b.add(t, root)
        larger, smaller = b.maximum(t, root), b.minimum(t, root)
        return log1p_sum(b, total, b.add(b.sub(larger, total), smaller))

    def full(b: Builder, x: Vector) -> Vector:
        small = b.compare("<", x, b.number(1e150))
        large = b.add(log(b, x), b.number(math.log(2.0)))
        result = b.select(small, usual(b, b.select(small, x, b.number(1.0))), large)
        return b.select(b.compare("<", x, b.number(1.0)), b.number(math.nan), result)

    ok = b.both(b.compare(">=", x, b.number(1.0)), b.compare("<", x, b.number(1e150)))
    return guarded(b, "acosh", ok, usual(b, x), full, x)


@in_double
def atanh(b: Builder, x: Vector) -> Vector:
    """½ log(1 + 2a + 2a·a/(1 − a)) with a = |x|, and its sign."""

    def usual(b: Builder, x: Vector) -> Vector:
        a = b.abs(x)
        twice = b.add(a, a)
        more = b.div(b.mul(twice, a), b.sub(b.number(1.0), a))
        total = b.add(twice, more)
        larger, smaller = b.maximum(twice, more), b.minimum(twice, more)
        return b.mul(b.number(0.5), log1p_sum(b, total, b.add(b.sub(larger, total), smaller)))

    def full(b: Builder, x: Vector) -> Vector:
        small = below(b, x, 1.0)
        pole = b.select(b.compare("==", b.abs(x), b.number(1.0)), b.number(math.inf), b.number(math.nan))
        return b.select(small, usual(b, b.select(small, x, b.number(0.0))), pole)

    return b.copysign(guarded(b, "atanh", below(b, x, 1.0), usual(b, x), full, x), x)


# The error function


@in_double
def erf(b: Builder, x: Vector) -> Vector:
    """The error function; exp(−x²) is written as in its derivative, where x is held within ±1e20."""
    bounded = within(b, x, -1e20, 1e20)
    z = b.mul(bounded, bounded)
    a = b.abs(x)
    inner = b.fma(a, polynomial(b, z, ERF), a)
    tail = polynomial(b, b.sub(a, b.number(1.5)), ERF_TAIL)
    outer = b.fma(b.neg(exp_usual(b, b.neg(z))), tail, b.number(1.0))
    result = b.select(b.compare("<", a, b.number(1.0)), inner, outer)
    result = b.select(b.compare(">", a, b.number(5.95)), b.number(1.0), result)
    return b.copysign(result, x)


@in_double
def erfc(b: Builder, x: Vector) -> Vector:
    """1 − erf x; of the tail x², not rounded, is the exponent."""

    def tail(b: Builder, x: Vector, exponential: Callable[..., Vector]) -> Vector:
        z, error = product(b, x, x)
        a = b.abs(x)
        q = polynomial(b, a, ERFC_TAIL[1])  # whose error does not count: it is above the line and below
        rest = b.fma(b.mul(a, b.number(ROOT_PI[1])), q, polynomial(b, a, ERFC_TAIL[0]))
        below_line = b.fma(a, b.mul(b.number(ROOT_PI[0]), q), rest)
        y = b.div(exponential(b, b.neg(z), b.neg(error), q), below_line)
        return b.select(b.compare("<", x, b.number(0.0)), b.sub(b.number(2.0), y), y)

    def full(b: Builder, x: Vector) -> Vector:
        bounded = within(b, x, -30.0, 28.0)
        return b.select(below(b, x, 26.0), usual(b, bounded), tail(b, bounded, exp_full))

    def usual(b: Builder, x: Vector) -> Vector:
        inner = b.fma(b.neg(x), polynomial(b, b.mul(x, x), ERF), b.sub(b.number(1.0), x))
        return b.select(below(b, x, 0.875), inner, tail(b, x, exp_usual))

    return guarded(b, "erfc", below(b, x, 26.0), usual(b, x), full, x)


# Powers and lengths


def log_in_two(b: Builder, x: Vector, shift: Vector | None = None) -> tuple[Vector, Vector]:
    """Log x to 68 bits as the sum of two numbers, for normal x > 0; plus shift·log 2."""
    m, k, _ = log_parts(b, x)
    if shift is not None:
        k = b.add(k, shift)
    one = b.number(1.0)
    f = b.sub(m, one)
    d, d_rest = ordered_sum(b, b.number(2.0), f)
    s = b.div(f, d)
    sd, sd_rest = product(b, s, d)
    s_rest = b.div(b.sub(b.sub(b.sub(f, sd), sd_rest), b.mul(s, d_rest)), d)
    z, z_rest = product(b, s, s)
    z_rest = b.fma(b.add(s, s), s_rest, z_rest)
    tail = b.mul(z, polynomial(b, z, LOG_TAIL))
    c, c_rest = ordered_sum(b, b.number(2.0 / 3.0), tail)
    c_rest = b.add(c_rest, b.number(3.700743415417188e-17))
    # s·z·c
    sz, sz_rest = product(b, s, z)
    sz_rest = b.add(sz_rest, b.fma(s, z_rest, b.mul(s_rest, z)))
    cubic, cubic_rest = product(b, sz, c)
    cubic_rest = b.add(cubic_rest, b.fma(sz, c_rest, b.mul(sz_rest, c)))
    high, low = ordered_sum(b, b.add(s, s), cubic)
    low = b.add(low, b.add(b.add(s_rest, s_rest), cubic_rest))
    whole, lost = ordered_sum(b, b.mul(k, b.number(LN2[0])), high)
    low = b.add(lost, b.fma(k, b.number(LN2[1]), low))
    return ordered_sum(b, whole, low)


def power_parts(b: Builder, x: Vector, n: Vector, shift: Vector | None = None) -> tuple[Vector, Vector]:
    """n·log x as the sum of two numbers."""
    high, low = log_in_two(b, x, shift)
    p, error = product(b, n, high)
    return p, b.fma(n, low, error)


@in_double
def power(b: Builder, x: Vector, n: Vector) -> Vector:
    """xⁿ, as C99's pow."""

    def full(b: Builder, x: Vector, n: Vector) -> Vector:
        zero, one, infinity = b.number(0.0), b.number(1.0), b.number(math.inf)
        a = b.abs(x)
        tiny = b.compare("<", a, b.number(SMALLEST))
        shift = b.select(tiny, b.number(-54.0), zero)
        base = b.select(tiny, b.mul(a, b.number(2.0**54)), a)
        usual = positive(b, base)
        high, low = power_parts(b, b.select(usual, base, one), within(b, n, -1e20, 1e20), shift)
        low = within(b, low, -1e-10, 1e-10)
        size = exp_full(b, high, low)
        grows = b.compare(">", n, zero)
        at_zero, at_infinity = b.select(grows, zero, infinity), b.select(grows, infinity, zero)
        size = b.select(b.compare("==", a, zero), at_zero, size)
        size = b.select(b.compare("==", a, infinity), at_infinity, size)
        half = b.mul(b.number(0.5), n)
        whole = b.compare("==", b.floor(n), n)
        odd = b.both(whole, b.compare("!=", b.floor(half), half))
        negative = b.compare("<", b.copysign(one, x), zero)
        result = b.select(b.both(odd, negative), b.neg(size), size)
        undefined = b.both(b.both(b.compare("<", x, zero), b.compare("!=", a, infinity)), b.negated(whole))
        result = b.select(b.either(undefined, b.either(b.is_nan(x), b.is_nan(n))), b.number(math.nan), result)
        balanced = b.both(b.compare("==", x, b.number(-1.0)), b.compare("==", b.abs(n), infinity))
        ones = b.either(balanced, b.either(b.compare("==", x, one), b.compare("==", n, zero)))
        return b.select(ones, one, result)

    high, low = power_parts(b, x, n)
    ok = b.both(positive(b, x), below(b, b.add(high, low), 708.0))
    return guarded(b, "power", ok, exp_usual(b, high, low), full, x, n)


@in_double
def cbrt(b: Builder, x: Vector) -> Vector:
    """∛x: a polynomial, Halley's step, and a Newton step whose residual is exact."""

    def usual(b: Builder, x: Vector) -> Vector:
        m, k, _ = log_parts(b, b.abs(x))
        third, t = nearest(b, k, 1.0 / 3.0)
        r = b.fma(third, b.number(-3.0), k)  # −1, 0 or 1
        _, r_bits = nearest(b, r, 1.0)
        m = scaled(b, m, r_bits)
        y = polynomial(b, m, CBRT)
        cube = b.mul(b.mul(y, y), y)
        y = b.div(b.mul(y, b.fma(b.number(2.0), m, cube)), b.fma(b.number(2.0), cube, m))
        square, rest = product(b, y, y)
        cubed, cube_rest = product(b, square, y)
        residual = b.add(b.sub(cubed, m), b.fma(rest, y, cube_rest))
        y = b.sub(y, b.div(residual, b.mul(b.number(3.0), square)))
        return scaled(b, y, t)

    def full(b: Builder, x: Vector) -> Vector:
        a = b.abs(x)
        scale = b.compare("<", a, b.number(1.0))
        result = usual(b, b.select(scale, b.mul(a, b.number(2.0**54)), a))
        result = b.select(scale, b.mul(result, b.number(2.0**-18)), result)
        ordinary = b.both(b.compare(">", a, b.number(0.0)), b.compare("<", a, b.number(math.inf)))
        return b.select(ordinary, result, a)

    return b.copysign(guarded(b, "cbrt", positive(b, b.abs(x)), usual(b, x), full, x), x)


@in_double
def hypot(b: Builder, x: Vector, y: Vector) -> Vector:
    """√(x² + y²); inf if either is, else nan if either is."""

    def full(b: Builder, x: Vector, y: Vector) -> Vector:
        infinity = b.number(math.inf)
        x, y = b.abs(x), b.abs(y)
        large = b.compare(">", b.maximum(x, y), b.number(1e150))
        small = b.compare("<", b.maximum(x, y), b.number(1e-140))
        down = b.select(large, b.number(2.0**-600), b.select(small, b.number(2.0**600), b.number(1.0)))
        up = b.select(large, b.number(2.0**600), b.select(small, b.number(2.0**-600), b.number(1.0)))
        sides = [b.mul(v, down) for v in (x, y)]
        result = b.mul(b.sqrt(b.fma(sides[0], sides[0], b.mul(sides[1], sides[1]))), up)
        return b.select(b.either(b.compare("==", x, infinity), b.compare("==", y, infinity)), infinity, result)

    square = b.fma(x, x, b.mul(y, y))
    ok = b.both(b.compare(">", square, b.number(1e-280)), b.compare("<", square, b.number(1e300)))
    return guarded(b, "hypot", ok, b.sqrt(square), full, x, y)
