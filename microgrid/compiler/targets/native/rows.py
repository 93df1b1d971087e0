"""What each row of the table is on vectors: a function of its name, or its expansion in rows that have one.

An operand is a vector of numbers, a mask that stands for 0 and 1, or a plain number. Where a row takes a condition,
any number but 0 is true. The special values are those of the programs on NumPy arrays.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial, reduce

from microgrid.compiler.targets.native import vectors
from microgrid.compiler.targets.native.assembly import Builder, Comparison, Vector
from microgrid.compiler.targets.native.vectors import in_double
from microgrid.ops import Op, ieee
from microgrid.ops.expansion import expand

Operand = Vector | float
Rule = Callable[..., Vector]


def lower(b: Builder, op: Op, operands: Sequence[Operand]) -> Vector:
    """Return a row of these operands: a mask if it is a comparison or a negation, else numbers.

    Raises:
        NotImplementedError: if the row has no form on vectors, with the reason.
    """
    rule = _rule(op)
    if rule is not None:
        return rule(b, *operands)
    reason = unsupported(op)
    if reason is not None:
        raise NotImplementedError(reason)
    return numbers(b, expand(op, partial(lower, b), operands))


def unsupported(op: Op) -> str | None:
    """Return why a row cannot be computed on vectors; ``None`` if it can."""
    if _rule(op) is not None:
        return None
    if op.expansion is None:
        return (
            f"operation {op.name!r} has no native form: give it an expansion=, which says it in rows that have one, "
            "or the ufunc= of a row"
        )
    reasons: list[str | None] = []
    expand(op, lambda inner, _: reasons.append(unsupported(inner)), [None] * op.arity)
    return next(filter(None, reasons), None)


def numbers(b: Builder, x: Operand) -> Vector:
    """Return an operand as numbers."""
    if not isinstance(x, Vector):
        return b.number(x)
    return b.as_number(x) if x.kind == "mask" else x


def condition(b: Builder, x: Operand) -> Vector:
    """Return an operand as a mask: whether it is not 0."""
    if isinstance(x, Vector) and x.kind == "mask":
        return x
    return b.compare("!=", numbers(b, x), b.number(0.0))


def has_rule(op: Op) -> bool:
    """Return whether a row is a function of its name on vectors, and no expansion."""
    return _rule(op) is not None


def _rule(op: Op) -> Rule | None:
    for name in (op.ufunc, _OPERATORS.get((op.operator, op.arity), "")):
        if name in _OF_CONDITIONS:
            return _OF_CONDITIONS[name]
        if name in _OF_NUMBERS:
            function, constants = _OF_NUMBERS[name], op.recipe[1] if op.recipe else ()
            return lambda b, *xs: function(b, *constants, *[numbers(b, x) for x in xs])
    return None


# Choices and conditions


def _where(b: Builder, chosen: Operand, x: Operand, y: Operand) -> Vector:
    return b.select(condition(b, chosen), numbers(b, x), numbers(b, y))


def _not(b: Builder, x: Operand) -> Vector:
    return b.negated(condition(b, x))


def _comparison(how: Comparison) -> Rule:
    return lambda b, x, y: b.compare(how, x, y)


def _copysign(b: Builder, x: Vector, y: Vector) -> Vector:
    return b.select(b.is_nan(y), y, b.copysign(x, y))


def _sign(b: Builder, x: Vector) -> Vector:
    zero = b.number(0.0)
    signs = b.select(b.compare("!=", x, zero), b.copysign(b.number(1.0), x), zero)
    return b.select(b.is_nan(x), x, signs)


# Division with a remainder, as NumPy's


def _divided(b: Builder, x: Vector, y: Vector) -> tuple[Vector, Vector]:
    """Return the quotient, which is whole but for its rounding, and the remainder, with the sign of y."""
    zero = b.number(0.0)
    rest = b.rem(x, y)
    quotient = b.div(b.sub(x, rest), y)
    below = b.select(b.compare("<", y, zero), b.compare(">", rest, zero), b.compare("<", rest, zero))
    quotient = b.select(below, b.sub(quotient, b.number(1.0)), quotient)
    rest = b.select(below, b.add(rest, y), rest)
    return quotient, b.select(b.compare("==", rest, zero), b.copysign(zero, y), rest)


def _mod(b: Builder, x: Vector, y: Vector) -> Vector:
    return _divided(b, x, y)[1]


def _floor_divide(b: Builder, x: Vector, y: Vector) -> Vector:
    zero, plain = b.number(0.0), b.div(x, y)
    quotient = _divided(b, x, y)[0]
    whole = b.floor(quotient)
    rounded_down = b.compare(">", b.sub(quotient, whole), b.number(0.5))
    whole = b.select(rounded_down, b.add(whole, b.number(1.0)), whole)
    whole = b.select(b.compare("==", quotient, zero), b.copysign(zero, plain), whole)
    return b.select(b.compare("==", y, zero), plain, whole)


def _outside(name: str) -> Rule:
    return in_double(lambda b, *xs: vectors.outside(b, name, *xs))


# Powers


def _power(b: Builder, x: Operand, n: Operand) -> Vector:
    """xⁿ, in fewer operations for some constants."""
    if x == 2.0:
        return vectors.exp2(b, numbers(b, n))
    short = _POWERS.get(n) if isinstance(n, float) else None
    return short(b, numbers(b, x)) if short else vectors.power(b, numbers(b, x), numbers(b, n))


def _root(b: Builder, x: Vector) -> Vector:
    """√x, but 0 at −0, and inf at −inf."""
    root = b.add(b.sqrt(x), b.number(0.0))
    return b.select(b.compare("==", x, b.number(-math.inf)), b.number(math.inf), root)


@in_double
def _cube(b: Builder, x: Vector) -> Vector:
    """x³, rounded about once: x² is the sum of two numbers."""
    square, rest = vectors.product(b, x, x)
    plain = b.mul(square, x)
    usual = vectors.below(b, plain, math.inf)
    return b.select(usual, b.fma(square, x, b.mul(b.select(usual, rest, b.number(0.0)), x)), plain)


_POWERS: dict[float, Rule] = {
    0.0: lambda b, x: b.number(1.0),
    1.0: lambda b, x: x,
    2.0: lambda b, x: b.mul(x, x),
    3.0: _cube,
    -1.0: lambda b, x: b.div(b.number(1.0), x),
    0.5: _root,
    -0.5: in_double(lambda b, x: b.div(b.number(1.0), _root(b, x))),
}


@in_double
def _power_log(b: Builder, k: int, x: Vector, n: Vector) -> Vector:
    """xⁿ·logᵏ x, which is 0 at x = 0 for n ≥ 0, and at x = inf for n < 0."""
    zero = b.number(0.0)
    falls = b.compare("<", n, zero)
    pole = b.mul(vectors.power(b, b.abs(x), n), b.number((-1.0) ** k))
    pole = b.select(falls, pole, b.select(b.is_nan(n), n, zero))
    usual = reduce(b.mul, [vectors.log(b, x)] * k)
    usual = b.mul(vectors.power(b, x, n), usual)
    usual = b.select(b.both(falls, b.compare("==", x, b.number(math.inf))), zero, usual)
    return b.select(b.compare("==", x, zero), pole, usual)


@in_double
def _direction(b: Builder, x: Vector, y: Vector) -> Vector:
    """The cosine x / √(x² + y²); ±1 where only x is infinite."""
    only = b.both(b.compare("==", b.abs(x), b.number(math.inf)), vectors.below(b, y, math.inf))
    return b.select(only, b.copysign(b.number(1.0), x), b.div(x, vectors.hypot(b, x, y)))


# The logistic function and its slope, in the same words: e = exp(−|x|), r = 1/(1 + e)


def _logistic(b: Builder, x: Vector) -> tuple[Vector, Vector]:
    e = vectors.exp(b, b.neg(b.abs(x)))
    return e, b.div(b.number(1.0), b.add(e, b.number(1.0)))


@in_double
def _sigmoid(b: Builder, x: Vector) -> Vector:
    e, r = _logistic(b, x)
    return b.select(b.compare("<", x, b.number(0.0)), b.mul(e, r), r)


@in_double
def _sigmoid_slope(b: Builder, x: Vector) -> Vector:
    e, r = _logistic(b, x)
    return b.mul(b.mul(e, r), r)


# ψ and its derivatives, lane by lane


@in_double
def _polygamma(b: Builder, n: int, x: Vector) -> Vector:
    """ψ⁽ⁿ⁾(x) as ``ieee.polygamma``: reflection, recurrence, asymptotic series."""
    name = f"polygamma.{n}"
    one = b.of(width=1)
    parameter = Vector("%a0")
    b.function.module.helper(
        name, [parameter], lambda function: _polygamma_of_one(Builder(function, 1, fused=b.fused), n, parameter)
    )
    return b.each(lambda x: b.function.call(one.like, name, x), x)


def _polygamma_of_one(b: Builder, n: int, x: Vector) -> Vector:
    zero = b.number(0.0)
    left = b.compare("<", x, zero)
    start = b.select(left, b.sub(b.number(1.0), x), x)
    limit = b.number(16.0 + 3.0 * n)
    steps = b.ceil(b.select(b.compare("<", start, limit), b.sub(limit, start), zero))
    count = b.integers(
        "sub", b.to_bits(b.add(steps, b.number(vectors.MAGIC))), b.integer(vectors.bits_of(vectors.MAGIC))
    )
    factorial = math.factorial(n)
    with b.function.loop(0, count, carried=[start, zero, zero]) as loop:
        z, total, lost = loop.carried
        total, error = vectors.ordered_sum(b, total, b.div(b.number(factorial), reduce(b.mul, [z] * (n + 1))))
        error = b.select(vectors.below(b, total, math.inf), error, zero)
        loop.following = (b.add(z, b.number(1.0)), total, b.add(lost, error))
    z, total, lost = loop.carried
    w = b.div(b.number(1.0), z)
    to_n = reduce(b.mul, [w] * n, b.number(1.0))  # z⁻ⁿ
    coefficients = [
        bernoulli * math.factorial(2 * k + n - 1) / math.factorial(2 * k)
        for k, bernoulli in enumerate(ieee.BERNOULLI, start=1)
    ]
    square = b.mul(w, w)
    series = b.mul(
        square, reduce(lambda y, c: b.fma(y, square, b.number(c)), coefficients[-2::-1], b.number(coefficients[-1]))
    )
    series = b.mul(to_n, b.fma(b.number(0.5 * factorial), w, series))
    head = b.mul(to_n, b.number(math.factorial(n - 1))) if n else b.neg(vectors.log(b, z))
    result = b.add(b.add(head, total), b.add(series, lost))
    if n % 2 == 0:
        result = b.neg(result)
        result = b.select(vectors.below(b, z, math.inf), result, b.abs(result))  # +0 at inf
    # ψ⁽ⁿ⁾(x) = (−1)ⁿ ψ⁽ⁿ⁾(1 − x) − πⁿ⁺¹ p(cot πx), where p follows from cot′ = −(1 + cot²)
    beside = b.sub(x, b.rint(x))
    cotangent = b.div(b.number(1.0), vectors.tan(b, b.mul(b.number(math.pi), beside)))
    cotangent = vectors.within(b, cotangent, -1e308, 1e308)
    powers = [0.0, 1.0]
    for _ in range(n):
        slope = [k * a for k, a in enumerate(powers)][1:]
        powers = [-p - q for p, q in zip([*slope, 0.0, 0.0], [0.0, 0.0, *slope], strict=True)]
    derivative = reduce(lambda y, c: b.fma(y, cotangent, b.number(c)), powers[-2::-1], b.number(powers[-1]))
    reflected = b.sub(b.neg(result) if n % 2 else result, b.mul(b.number(math.pi ** (n + 1)), derivative))
    pole = b.number(math.inf if n % 2 else math.nan)
    reflected = b.select(b.compare("==", beside, zero), pole, reflected)
    return b.select(left, reflected, result)


_OPERATORS = {
    ("+", 2): "add",
    ("-", 2): "subtract",
    ("-", 1): "negative",
    ("*", 2): "multiply",
    ("/", 2): "divide",
    ("//", 2): "floor_divide",
    ("%", 2): "mod",
    ("<", 2): "less",
    ("<=", 2): "less_equal",
    (">", 2): "greater",
    (">=", 2): "greater_equal",
    ("==", 2): "equal",
    ("!=", 2): "not_equal",
}
"""The function of a row that has but an operator."""

_OF_CONDITIONS: dict[str, Rule] = {"where": _where, "logical_not": _not, "c_power": _power}
"""Functions of operands as they are."""

_OF_NUMBERS: dict[str, Rule] = {
    "less": _comparison("<"),
    "less_equal": _comparison("<="),
    "greater": _comparison(">"),
    "greater_equal": _comparison(">="),
    "equal": _comparison("=="),
    "not_equal": _comparison("!="),
    "add": Builder.add,
    "subtract": Builder.sub,
    "multiply": Builder.mul,
    "divide": Builder.div,
    "negative": Builder.neg,
    "stop_gradient": lambda b, x: x,
    "abs": Builder.abs,
    "sqrt": Builder.sqrt,
    "floor": Builder.floor,
    "ceil": Builder.ceil,
    "trunc": Builder.trunc,
    "rint": Builder.rint,
    "fmod": Builder.rem,
    "maximum": Builder.maximum,
    "minimum": Builder.minimum,
    "exp": vectors.exp,
    "expm1": vectors.expm1,
    "exp2": vectors.exp2,
    "log": vectors.log,
    "log1p": vectors.log1p,
    "log2": vectors.log2,
    "log10": vectors.log10,
    "cbrt": vectors.cbrt,
    "hypot": vectors.hypot,
    "sin": vectors.sin,
    "cos": vectors.cos,
    "tan": vectors.tan,
    "arcsin": vectors.asin,
    "arccos": vectors.acos,
    "arctan": vectors.atan,
    "arctan2": vectors.atan2,
    "sinh": vectors.sinh,
    "cosh": vectors.cosh,
    "tanh": vectors.tanh,
    "arcsinh": vectors.asinh,
    "arccosh": vectors.acosh,
    "arctanh": vectors.atanh,
    "sech2": vectors.sech2,
    "erf": vectors.erf,
    "erfc": vectors.erfc,
    "sign": _sign,
    "copysign_or_nan": _copysign,
    "mod": _mod,
    "floor_divide": _floor_divide,
    "ieee_remainder": _outside("remainder"),
    "power_log": _power_log,
    "direction": _direction,
    "sigmoid": _sigmoid,
    "sigmoid_slope": _sigmoid_slope,
    "lgamma": _outside("lgamma"),
    "gamma": _outside("tgamma"),
    "digamma": lambda b, x: _polygamma(b, 0, x),
    "polygamma": _polygamma,
}
"""Functions of the constants of a row, and of numbers."""
