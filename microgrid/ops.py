"""The table of operations: one row per operation, and nothing about an operation anywhere else.

A row says how to compute an operation, what its local derivatives are, where it is defined, where it
has a kink, how a drawing shows it, and what it is called on arrays and in JavaScript. The local
derivatives are written with operations of this same table, so one row serves plain floats, gradients,
gradients of gradients, forward mode, the compiled program and the page in the browser.

Arithmetic is IEEE 754's, as in NumPy, PyTorch and JAX: ``div(1.0, 0.0)`` is ``inf``, ``log(-1.0)`` is
``nan``, ``exp(1000.0)`` is ``inf``. Python's own ``/`` and ``**`` raise instead, which is why the
derivatives below say ``div`` and ``power``; ``+``, ``-`` and ``*`` never raise.

To add an operation, add one row. The tests, the drawing, the checker and the compiler find it there.
"""

import math
import operator
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial, reduce, wraps
from importlib import import_module
from typing import Any, Literal, Protocol, TypeVar, overload

inf = math.inf
nan = math.nan

Partial = Callable[..., Any]
"""``partial(y, *xs)`` is the local derivative dy/dx of one argument, for floats and for Values alike."""


class Dispatching(Protocol):
    """A type whose instances flow through the table: a Value, or a number type of your own."""

    @classmethod
    def __apply__(cls, op: "Op", arguments: tuple[Any, ...]) -> Any:
        """Return ``op`` of the arguments, of which at least one is of this type."""


T = TypeVar("T", bound=Dispatching)

ARITHMETIC = (ArithmeticError, ValueError)
"""What Python raises where IEEE 754 has an infinity or nan."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The reals from ``low`` to ``high``; ``open`` leaves both ends out.

    Raises:
        ValueError: if it is empty.
    """

    low: float = -inf
    high: float = inf
    open: bool = False

    def __post_init__(self) -> None:
        if not (self.low < self.high if self.open else self.low <= self.high):
            raise ValueError(f"{self} is empty: give low below high, as in Interval(0.0, 1.0)")

    def __contains__(self, x: float) -> bool:
        return self.low < x < self.high if self.open else self.low <= x <= self.high


REALS = Interval()
POSITIVE = Interval(0.0, inf, open=True)


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One operation ``y = forward(*xs)`` with its local derivatives: a row of the table.

    Called with floats it returns a float; called with a Value anywhere it returns a Value:

    >>> double = Op("double", forward=lambda x: 2 * x, partials=(2.0,))
    >>> double(3.0)
    6.0

    Attributes:
        name: the name in error messages and programs, ``"tanh"``.
        forward: computes ``y`` from floats; must return ``inf`` or ``nan`` rather than raise.
        partials: one per argument, ``partials[i](y, *xs)`` = dy/dxs[i], written with operators and
            operations of the table so that it works on floats and on Values; a plain number where the
            derivative is constant. The number 0 says that there is no path: nothing flows to that argument,
            not even 0·∞.
        symbol: what a drawing shows, ``"×"``; the name unless given.
        domain: per argument, where the operation is defined; all reals unless given.
        kink: which smooth branch the arguments are on, as any hashable; ``None`` if smooth everywhere.
            Two points on one branch have no kink between them.
        array: the operation on arrays, as a template: ``"xp.tanh({0})"``, where ``xp`` is NumPy or
            ``jax.numpy`` and ``special`` holds what they lack; empty if ``forward`` must be mapped.
        javascript: the same for JavaScript numbers, ``"Math.tanh({0})"``; empty if there is none.
        doc: the formula in words, and the convention at kinks and poles.
        recipe: the cached factory and the constants that made this row, ``(power_of, (3.0,))``;
            ``None`` for a row that stands on its own.
        otherwise: what it is of another number of arguments, as a function of other rows: log(x, base).
    """

    name: str
    forward: Callable[..., float]
    partials: tuple[Partial | float, ...]
    symbol: str = ""
    domain: tuple[Interval, ...] = ()
    kink: Callable[..., Hashable] | None = None
    array: str = ""
    javascript: str = ""
    doc: str = ""
    recipe: tuple[Callable[..., "Op"], tuple[float, ...]] | None = None
    otherwise: Callable[..., Any] | None = None
    arity: int = field(init=False)
    """The number of arguments."""
    backpropagate: Callable[[Any], None] = field(init=False)
    """Add a node's gradient, times each local derivative, to the gradients of its parents."""
    connected: tuple[bool, ...] = field(init=False)
    """For each argument, whether a gradient can flow back to it: not where the local derivative is the number 0."""
    cuts: bool = field(init=False)
    """Whether some argument is not connected."""

    def __post_init__(self) -> None:
        if not isinstance(self.partials, tuple) or not all(
            callable(p) or isinstance(p, (int, float)) for p in self.partials
        ):
            raise TypeError(
                f"operation {self.name!r}: partials must be a tuple with one function or number per "
                f"argument, as in partials=(lambda y, x: 3 * x * x,); got {self.partials!r}"
            )
        if not callable(self.forward):
            raise TypeError(f"operation {self.name!r}: forward must be a function; got {self.forward!r}")
        if self.domain and len(self.domain) != len(self.partials):
            raise TypeError(
                f"operation {self.name!r}: {len(self.partials)} partials but {len(self.domain)} domains; "
                "give one Interval per argument"
            )
        set_field = object.__setattr__  # the only way to fill a field of a frozen dataclass
        set_field(self, "symbol", self.symbol or self.name)
        set_field(self, "domain", self.domain or (REALS,) * len(self.partials))
        set_field(self, "arity", len(self.partials))
        set_field(self, "backpropagate", _backpropagate(self.partials))
        set_field(self, "connected", tuple([callable(p) or p != 0 for p in self.partials]))
        set_field(self, "cuts", not all(self.connected))

    @overload
    def __call__(self, *arguments: float) -> float: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, *arguments: T | float) -> T: ...
    def __call__(self, *arguments: Any) -> Any:
        """Return the operation of floats as a float; of anything with a Value among it as a Value."""
        if len(arguments) != self.arity:
            if self.otherwise is not None:
                return self.otherwise(*arguments)
            raise TypeError(f"{self.name} takes {self.arity} argument(s); got {len(arguments)}: {arguments!r}")
        try:
            for argument in arguments:
                if type(argument) is not float:
                    return self._dispatch(arguments)
            result = self.forward(*arguments)
        except ARITHMETIC as error:
            numbers = ", ".join([short_repr(getattr(x, "_data", x)) for x in arguments])
            self._blame(error, f"forward({numbers}) raises", "return inf or nan instead")
            raise
        return result if type(result) is float else self.number(result)

    def _dispatch(self, arguments: tuple[Any, ...]) -> Any:
        for argument in arguments:
            apply = getattr(type(argument), "__apply__", None)
            if apply is not None:
                return apply(self, arguments)
        return self.number(self.forward(*[as_float(argument) for argument in arguments]))

    def number(self, result: Any, what: str = "result") -> float:
        """Return what ``forward`` or a partial gave, as a float.

        Raises:
            TypeError: if it is no real number, naming the operation.
        """
        try:
            return as_float(result)
        except TypeError:
            raise TypeError(
                f"operation {self.name!r}: its {what} must be one real number; got {short_repr(result)} of type "
                f"{type(result).__name__}"
            ) from None

    def local_derivatives(self, y: Any, *xs: Any) -> tuple[Any, ...]:
        """Return dy/dx for each argument: floats for floats, Values for Values."""
        return tuple([self.local_derivative(p, y, *xs) if callable(p) else p for p in self.partials])

    def local_derivative(self, partial: Partial, y: Any, *xs: Any) -> Any:
        """Return what one of the partials gives, which must be a number or a Value."""
        try:
            derivative = partial(y, *xs)
        except ARITHMETIC as error:
            remedy = "write div, power and the other operations of the table, which give inf or nan, for /, ** and math"
            self._blame(error, "a partial, called with (y, *xs), raises", remedy)
            raise
        except TypeError as error:
            if type(error) is not TypeError:  # but one that says more, as of a branch on a traced number
                raise
            raise TypeError(f"operation {self.name!r}: a partial, called with (y, *xs): {error}") from error
        if type(derivative) is float or hasattr(type(derivative), "__apply__"):
            return derivative
        return self.number(derivative, "local derivative")

    def _blame(self, error: Exception, fault: str, remedy: str) -> None:
        """Raise an error of Python's own arithmetic again, naming the operation, unless one within has done so."""
        kind = type(error)
        if kind in (ValueError, OverflowError, ZeroDivisionError) and not str(error).startswith("operation "):
            raise kind(f"operation {self.name!r}: {fault} {kind.__name__}: {error}; {remedy}") from error

    def spell(self, kind: Literal["array", "javascript"], *arguments: str) -> str:
        """Return the operation as code, its template with these texts in the places of the arguments.

        Raises:
            ValueError: if the user's template does not fit the number of arguments.
        """
        template = getattr(self, kind)
        try:
            return str(template.format(*arguments))
        except (AttributeError, IndexError, KeyError, ValueError) as error:
            raise ValueError(
                f"operation {self.name!r}: its {kind} {template!r} is not a template of its "
                f"{self.arity} argument(s) {{0}}, {{1}}, …; write other braces twice, {{{{ and }}}} ({error!r})"
            ) from None

    def __repr__(self) -> str:
        return f"<operation {self.name}, {self.arity} argument(s)>"

    def __reduce__(self) -> Any:
        if self.recipe is not None:
            return self.recipe
        return _find, (_home(self), self.name)


class _Words:
    """The words of a row, where it has some, in place of those of its class: what ``help(mg.tanh)`` shows."""

    def __init__(self, of_class: str | None) -> None:
        self.of_class = of_class

    def __get__(self, op: Op | None, kind: type) -> str | None:
        return (op and op.doc) or self.of_class


Op.__doc__ = _Words(Op.__doc__)  # type: ignore[assignment]  # a slot of this name would take the place of the class's


def _backpropagate(partials: tuple[Partial | float, ...]) -> Callable[[Any], None]:
    """Specialise the inner step of backward() for the number of parents: this is where time is spent.

    A constant derivative of zero sends nothing back, not ``0 * gradient``, which is nan for inf.
    """
    match partials:
        case ():
            return lambda node: None

        case (float() | int() as constant,) if constant == 0:
            return lambda node: None

        case (partial,) if callable(partial):

            def through_one_function(node: Any) -> None:
                parent = node.first
                parent.grad += node.grad * partial(node._data, parent._data)

            return through_one_function

        case (float() | int() as left, float() | int() as right) if left and right:

            def through_two_constants(node: Any) -> None:
                node.first.grad += node.grad * left
                node.second.grad += node.grad * right

            return through_two_constants

        case (left, right) if callable(left) and callable(right):

            def through_two_functions(node: Any) -> None:
                gradient, y, first, second = node.grad, node._data, node.first, node.second
                a, b = first._data, second._data
                first.grad += gradient * left(y, a, b)
                second.grad += gradient * right(y, a, b)

            return through_two_functions

    if all(partial == 1 for partial in partials):

        def through_a_sum(node: Any) -> None:
            gradient = node.grad
            for parent in node.parents:
                parent.grad += gradient

        return through_a_sum

    def through_many(node: Any) -> None:
        gradient, y, parents = node.grad, node._data, node.parents
        xs = [parent._data for parent in parents]
        for parent, partial in zip(parents, partials, strict=True):
            if callable(partial):
                parent.grad += gradient * partial(y, *xs)
            elif partial:
                parent.grad += gradient * partial

    return through_many


def as_float(number: Any) -> float:
    """Return a real number of any type as a float: int, bool, Fraction, Decimal, a NumPy scalar.

    Raises:
        TypeError: for text, complex numbers, None, sequences and arrays, naming what was given.
    """
    kind = type(number)
    if kind is float:
        return number  # type: ignore[no-any-return]
    if isinstance(number, (str, bytes, complex)) or not hasattr(kind, "__float__") or hasattr(kind, "__len__"):
        raise TypeError(
            f"expected one real number, got {short_repr(number)} of type {kind.__name__}; "
            "give a float, or call once for each number"
        )
    try:
        return float(number)
    except OverflowError:  # an int or Fraction beyond the largest float rounds to infinity, as IEEE 754 has it
        return inf if number > 0 else -inf


def short_repr(thing: Any) -> str:
    """Return the repr, of which an error message shows at most 80 characters."""
    text = repr(thing)
    return text if len(text) <= 80 else text[:77] + "..."


# ---------------------------------------------------------------------------------------------------
# Forward functions that Python's math module does not give as IEEE 754 has them


def _ieee(function: Callable[[float], float], overflow: Callable[[float], float]) -> Callable[[float], float]:
    """Wrap a function of the math module: nan outside its domain, ``overflow(x)`` where it is too large."""

    def forward(x: float) -> float:
        try:
            return function(x)
        except OverflowError:
            return overflow(x)
        except ValueError:
            return nan

    return _wrapping(function, forward)


def _wrapping(function: Callable[..., float], forward: Callable[..., float]) -> Callable[..., float]:
    """Note that ``forward`` is ``function`` wherever that one does not raise: programs may call it directly."""
    forward.__wrapped__ = function  # type: ignore[attr-defined]  # the attribute functools.wraps sets, too
    return forward


def _to_inf(x: float) -> float:
    return inf


def _to_signed_inf(x: float) -> float:
    return math.copysign(inf, x)


def _logarithm(function: Callable[[float], float], pole: float = 0.0) -> Callable[[float], float]:
    """Wrap a logarithm: -inf at its pole, nan below."""

    def forward(x: float) -> float:
        if x > pole:
            return function(x)
        return -inf if x == pole else nan

    return _wrapping(function, forward)


_log = _logarithm(math.log)


def _divide(a: float, b: float) -> float:
    try:
        return a / b
    except ZeroDivisionError:
        return nan if a == 0.0 or a != a else math.copysign(inf, a) * math.copysign(1.0, b)


def _power(x: float, n: float) -> float:
    try:
        return math.pow(x, n)
    except (OverflowError, ValueError):
        if x < 0.0 and math.fmod(n, 1.0):
            return nan
        odd = abs(math.fmod(n, 2.0)) == 1.0
        return math.copysign(inf, x) if odd else inf


def _power_log(x: float, n: float, k: int) -> float:
    if x == 0.0 or (x == inf and n < 0.0):  # xⁿ decides, not the logarithm; x⁰ log x counts as 0 at 0
        return 0.0 if x or n >= 0.0 else _power(abs(x), n) * (-1.0) ** k
    return _power(x, n) * _log(x) ** k


def _direction(a: float, b: float) -> float:
    if math.isinf(a) and math.isfinite(b):
        return math.copysign(1.0, a)
    return _divide(a, math.hypot(a, b))


def _sign(x: float) -> float:
    return 1.0 if x > 0 else -1.0 if x < 0 else x if x != x else 0.0


def _rounding(function: Callable[[float], int]) -> Callable[[float], float]:
    """Wrap floor or ceil: the result keeps the sign of zero, and inf and nan stay."""
    return lambda x: math.copysign(function(x), x) if math.isfinite(x) else x


def _nan_outside(function: Callable[[float, float], float]) -> Callable[[float, float], float]:
    """Wrap a function of the math module that raises where it is not defined: there it is nan."""

    def forward(a: float, b: float) -> float:
        try:
            return function(a, b)
        except ValueError:
            return nan

    return _wrapping(function, forward)


def _modulo(a: float, b: float) -> float:
    return a % b if b else nan


def _floor_divide(a: float, b: float) -> float:
    return a // b if b else _divide(a, b)


def _copysign(a: float, b: float) -> float:
    return math.copysign(a, b) if b == b else nan


def _gamma(x: float) -> float:
    try:
        return math.gamma(x)
    except OverflowError:
        return math.copysign(inf, x)
    except ValueError:
        return nan if x else math.copysign(inf, x)


def _atanh(x: float) -> float:
    if abs(x) == 1.0:
        return math.copysign(inf, x)
    return math.atanh(x) if abs(x) < 1.0 else nan


def _maximum(a: float, b: float) -> float:
    return b if b > a or b != b else a


def _minimum(a: float, b: float) -> float:
    return b if b < a or b != b else a


def _sigmoid(x: float) -> float:
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    e = math.exp(x)
    return e / (1.0 + e)


def _sigmoid_slope(x: float, y: float) -> float:
    """σ′ where σ(x) is y: y(1 − y), as long as 1 − y loses no digit."""
    return y * (1.0 - y) if y < 0.75 else y * _sigmoid(-x)


def _sech2(x: float, y: float) -> float:
    """sech² x where tanh x is y: 1 − y², as long as that loses no digit."""
    if -0.75 < y < 0.75:
        return 1.0 - y * y
    try:
        c = math.cosh(x)
    except OverflowError:
        return 0.0
    return 1.0 / (c * c)


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


_ROOT_HALF = math.sqrt(0.5)
_ROOT_HALF_REST = -4.833646656726457e-17  # √½ minus the float above


def _product_error(a: float, b: float) -> float:
    """Return a·b minus its rounding, exactly (Dekker 1971)."""

    def split(x: float) -> tuple[float, float]:
        high = x * 134217729.0 - (x * 134217729.0 - x)
        return high, x - high

    (a1, a2), (b1, b2) = split(a), split(b)
    return ((a1 * b1 - a * b) + a1 * b2 + a2 * b1) + a2 * b2


def _normal_cdf(x: float) -> float:
    """Φ(x), the standard normal distribution; erfc would magnify the rounding of x·√½ in the tail."""
    if not abs(x) < 40.0:
        return 0.5 + math.copysign(0.5, x)
    z = x * _ROOT_HALF
    missing = _product_error(x, _ROOT_HALF) + x * _ROOT_HALF_REST
    return 0.5 * (math.erfc(-z) + 2.0 / math.sqrt(math.pi) * math.exp(-z * z) * missing)


def _gelu(x: float) -> float:
    return x * _normal_cdf(x) if x != -inf else -0.0


def _polygamma(n: int, x: float) -> float:
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
        return (-1.0) ** n * _polygamma(n, 1.0 - x) - math.pi ** (n + 1) * _cotangent_derivative(n, x)
    sign = 1.0 if n % 2 else -1.0
    factorial = math.factorial(n)
    shift = []
    while x < 16.0 + n:
        shift.append(_divide(factorial, _power(x, n + 1.0)))
        x += 1.0
    # negative powers, because they underflow quietly where x is huge
    series = [math.factorial(n - 1) * _power(x, -n) if n else -math.log(x), factorial * 0.5 * _power(x, -n - 1.0)]
    for k, bernoulli in enumerate(BERNOULLI, start=1):
        series.append(bernoulli * math.factorial(2 * k + n - 1) / math.factorial(2 * k) * _power(x, -2.0 * k - n))
    return sign * math.fsum(series + shift)


def _pole_to_the_left(x: float) -> Hashable:
    """Between which two poles of Γ a number lies."""
    return x > 0 or (math.floor(x) if math.isfinite(x) else x)


BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798)
"""The Bernoulli numbers of even index, B₂ to B₁₈: for the asymptotic series of log Γ and its derivatives."""


def _cotangent_derivative(n: int, x: float) -> float:
    """The n-th derivative of cot at πx, divided by πⁿ scaling: a polynomial in c = cot(πx), as c' = -(1 + c²)."""
    # the distance to the nearest pole is exact; the cap keeps 0·inf out of the polynomial
    c = _minimum(_maximum(_divide(1.0, math.tan(math.pi * math.remainder(x, 1.0))), -1e308), 1e308)
    coefficients = [0.0, 1.0]
    for _ in range(n):
        slope = [k * a for k, a in enumerate(coefficients)][1:]
        coefficients = [-a - b for a, b in zip([*slope, 0.0, 0.0], [0.0, 0.0, *slope], strict=True)]
    return reduce(lambda total, a: total * c + a, reversed(coefficients))


def _gaussian(x: Any) -> Any:
    """e^(−x²), which is 0 from 28 on: so far x is bounded, as 0·∞ would come up in its derivatives."""
    return exp(-_squared(clip(x, -28.0, 28.0)))


def _weighted_density(x: Any) -> Any:
    """x·φ(x) with the density φ of the standard normal distribution, bounded likewise where it is 0."""
    x = clip(x, -40.0, 40.0)
    return x * (exp(-0.5 * (x * x)) * (1.0 / math.sqrt(2.0 * math.pi)))


def _gamma_slope(x: Any) -> Any:
    """Γ(x)·ψ(x). Where Γ overflows it is e⁵ˣ, all of whose derivatives are ∞ there, and not ∞·0 or ∞ − ∞."""
    overflows = greater(x, 171.7)
    beyond, x = where(overflows, 5.0 * x, 0.0), where(overflows, 1.0, x)
    return where(overflows, exp(beyond), gamma(x) * digamma(x))


def _squared(x: Any) -> Any:
    return x * x


def _lgamma(x: float) -> float:
    try:
        return math.lgamma(x)
    except (OverflowError, ValueError):
        return inf


# ---------------------------------------------------------------------------------------------------
# The table

TABLE: dict[str, Op] = {}
"""Every row by its name; rows with a constant (``power_of(3.0)``) are not in it, see ``rows()``."""

HIDDEN: dict[str, Op] = {}
"""The rows that only local derivatives use, by name: not among ``rows()`` and not public."""

_SAMPLES: list[Callable[[], Op]] = []


def _row(name: str, forward: Callable[..., float], *partials: Partial | float, **fields: Any) -> Op:
    TABLE[name] = op = Op(name, forward, partials, **fields)
    return op


def _hidden(name: str, forward: Callable[..., float], *partials: Partial, **fields: Any) -> Op:
    HIDDEN[name] = op = Op(name, forward, partials, **fields)
    return op


def _factory(*samples: tuple[float, ...], signed: bool = False) -> Callable[[Callable[..., Op]], Callable[..., Op]]:
    """Cache a function that makes a row from constants; ``samples`` stand for it among ``rows()``.

    Of a ``signed`` one 0.0 and −0.0, which are equal as keys, make different rows.
    """

    def decorate(make: Callable[..., Op]) -> Callable[..., Op]:
        cached = lru_cache(maxsize=1024)(make)
        if signed:
            by_sign = lru_cache(maxsize=1024)(lambda constant, sign: make(constant))
            cached = wraps(make)(lambda constant: by_sign(constant, math.copysign(1.0, constant)))  # type: ignore[assignment]
        _SAMPLES.extend(partial(cached, *constants) for constants in samples)
        return cached

    return decorate


def rows() -> Iterator[Op]:
    """Yield every row, with a few of each kind that has a constant: what a test of the table runs over."""
    yield from TABLE.values()
    for sample in _SAMPLES:
        yield sample()


def in_table(op: Op) -> bool:
    """Return whether a row is one of this table, and not a user's of the same name."""
    return op.recipe is not None or op in (TABLE.get(op.name), HIDDEN.get(op.name))


LEAF = Op("leaf", lambda: nan, (), doc="A number that the user gave; nothing computes it.")
CONSTANT = Op("constant", lambda: nan, (), doc="A plain number that met a Value in an expression.")

# Comparisons: 1.0 where they hold, 0.0 where not; constant almost everywhere, so their derivatives are 0.


def _comparison(name: str, symbol: str, holds: Callable[[float, float], bool], python: str) -> Op:
    return _row(
        name,
        lambda a, b: 1.0 if holds(a, b) else 0.0,
        0.0,
        0.0,
        symbol=symbol,
        kink=lambda a, b: (a > b) - (a < b),
        array=f"{{0}} {python} {{1}}",
        javascript=f"({{0}} {python} {{1}} ? 1 : 0)",
        doc=f"1 where a {symbol} b, else 0; the derivative is 0. For a choice in a graph, with where().",
    )


less = _comparison("less", "<", lambda a, b: a < b, "<")
less_equal = _comparison("less_equal", "≤", lambda a, b: a <= b, "<=")
greater = _comparison("greater", ">", lambda a, b: a > b, ">")
greater_equal = _comparison("greater_equal", "≥", lambda a, b: a >= b, ">=")
equal = _comparison("equal", "=", lambda a, b: a == b, "==")
not_equal = _comparison("not_equal", "≠", lambda a, b: a != b, "!=")

# Arithmetic

add = _row("add", lambda a, b: a + b, 1.0, 1.0, symbol="+", array="{0} + {1}", javascript="({0} + {1})", doc="a + b")


@_factory((3,), (5,))
def sum_of(n: int) -> Op:
    """Return the sum of n arguments as one operation: one node where a chain of ``add`` has n − 1."""
    return Op(
        f"sum[{n}]",
        lambda *xs: reduce(operator.add, xs),
        (1.0,) * n,
        symbol="Σ",
        array="(" + " + ".join(f"{{{i}}}" for i in range(n)) + ")",
        javascript="(" + " + ".join(f"{{{i}}}" for i in range(n)) + ")",
        doc="the sum of the arguments, added from left to right",
        recipe=(sum_of, (n,)),
    )


sub = _row("sub", lambda a, b: a - b, 1.0, -1.0, symbol="−", array="{0} - {1}", javascript="({0} - {1})", doc="a − b")
mul = _row(
    "mul",
    lambda a, b: a * b,
    lambda y, a, b: b,
    lambda y, a, b: a,
    symbol="×",
    array="{0} * {1}",
    javascript="({0} * {1})",
    doc="a × b",
)
div: Op = _row(
    "div",
    _divide,
    lambda y, a, b: div(1.0, b),
    lambda y, a, b: -div(y, b),
    symbol="÷",
    array="{0} / {1}",
    javascript="({0} / {1})",
    doc="a ÷ b; ±inf where only b is 0, nan for 0 ÷ 0.",
)
neg = _row("neg", lambda x: -x, -1.0, symbol="−", array="-{0}", javascript="(-{0})", doc="−x")
identity = _row("identity", lambda x: x, 1.0, symbol="id", array="{0}", javascript="({0})", doc="x itself")
stop_gradient = _row(
    "stop_gradient",
    lambda x: x,
    0.0,
    symbol="stop",
    array="{0}",
    javascript="({0})",
    doc="x itself, but no gradient flows back: x counts as a constant.",
)
_SMALLEST_NORMAL = sys.float_info.min
power: Op = _row(
    "power",
    _power,
    lambda y, x, n: _power_slope(x, n, lambda x: n * power(x, n - 1.0)),
    lambda y, x, n: power_log_of(1)(x, n),
    symbol="xⁿ",
    domain=(POSITIVE, REALS),
    array="special.power({0}, {1})",
    javascript="mg.pow({0}, {1})",
    doc="xⁿ for two Values; ∂/∂n is 0 at x = 0 with n ≥ 0, as in PyTorch, and nan for x < 0; at (0, 0) all are 0.",
)


def _power_slope(x: Any, n: Any, slope: Callable[[Any], Any]) -> Any:
    """slope(x), and 0 where n is 0 and x⁻¹ is inf; but only there, as ∂²xⁿ/∂x∂n at n = 0 is 1/x."""
    flat = equal(n, 0.0) * (1.0 - greater(absolute(x), _SMALLEST_NORMAL))
    return where(flat, 0.0, slope(where(flat, 1.0, x)))


@_factory()
def power_log_of(k: int) -> Op:
    """Return xⁿ·logᵏ x, the k-th derivative of xⁿ by n, for a whole k ≥ 1: a row that only derivatives use."""
    lower = power_log_of(k - 1) if k > 1 else power
    return Op(
        f"power_log[{k}]",
        lambda x, n: _power_log(x, n, k),
        (
            lambda y, x, n: _power_slope(x, n, lambda x: n * power_log_of(k)(x, n - 1.0) + k * lower(x, n - 1.0)),
            lambda y, x, n: power_log_of(k + 1)(x, n),
        ),
        symbol=f"xⁿ·log{_superscript(k) if k > 1 else ''} x",
        domain=(POSITIVE, REALS),
        array=f"special.power_log({{0}}, {{1}}, {k})",
        javascript=f"mg.powerLog({{0}}, {{1}}, {k})",
        doc="xⁿ·logᵏ x; at x = 0 it is 0 for n ≥ 0, as in PyTorch",
        recipe=(power_log_of, (k,)),
    )


_PRODUCTS = {2.0: "{0} * {0}", -1.0: "1.0 / {0}"}
"""Powers that are one product or quotient of arrays, many times faster than a power."""


@_factory((0.0,), (1.0,), (2.0,), (3.0,), (-1.0,), (-2.0,), (0.5,), (1.5,))
def power_of(n: float) -> Op:
    """Return the operation x ↦ xⁿ for a constant n; the constant is never differentiated."""
    n += 0.0  # x⁻⁰ is x⁰: one row, whichever is asked for first
    whole = n.is_integer()  # which inf and nan are not
    return Op(
        f"power[{n!r}]",
        lambda x: _power(x, n),
        (0.0 if n == 0 else 1.0 if n == 1 else lambda y, x: n * power_of(n - 1.0)(x),),
        symbol=f"x{_superscript(n)}",
        domain=(REALS if whole else POSITIVE,),
        kink=None if n >= 0 else lambda x: x > 0,
        array=_PRODUCTS.get(n, f"special.power({{0}}, {n!r})"),
        javascript=f"mg.pow({{0}}, {_javascript_number(n)})",
        doc=f"x to the constant power {n!r}",
        recipe=(power_of, (n,)),
    )


@_factory((2.0,), (0.5,), (math.e,), signed=True)
def base_of(base: float) -> Op:
    """Return the operation x ↦ baseˣ for a constant base."""
    logarithm = log(base)
    return Op(
        f"base[{base!r}]",
        lambda x: _power(base, x),
        ((lambda y, x: power_log_of(1)(base, x)) if base == 0 else lambda y, x: y * logarithm,),
        symbol=f"{base:g}ˣ",
        array=f"special.power({base!r}, {{0}})",
        javascript=f"mg.pow({_javascript_number(base)}, {{0}})",
        doc=f"the constant {base!r} to the power x",
        recipe=(base_of, (base,)),
    )


def _superscript(n: float) -> str:
    text = f"{n:g}"
    return text.translate(str.maketrans("0123456789-+.", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺·")) if "e" not in text else f"^{text}"


def _javascript_number(x: float) -> str:
    return {inf: "Infinity", -inf: "(-Infinity)"}.get(x, "NaN" if x != x else f"({x!r})")


# Exponentials and logarithms

_exp = _ieee(math.exp, _to_inf)
exp = _row("exp", _exp, lambda y, x: y, array="xp.exp({0})", javascript="Math.exp({0})", doc="eˣ")
expm1 = _row(
    "expm1",
    _ieee(math.expm1, _to_inf),
    lambda y, x: exp(x),
    symbol="eˣ−1",
    array="xp.expm1({0})",
    javascript="Math.expm1({0})",
    doc="eˣ − 1, exact near 0",
)
exp2 = _row(
    "exp2",
    _ieee(math.exp2, _to_inf),
    lambda y, x: y * math.log(2.0),
    symbol="2ˣ",
    array="xp.exp2({0})",
    javascript="Math.pow(2, {0})",
    doc="2ˣ",
)
log: Op = _row(
    "log",
    _log,
    lambda y, x: div(1.0, x),
    domain=(POSITIVE,),
    array="xp.log({0})",
    javascript="Math.log({0})",
    doc="the natural logarithm; −inf at 0, nan below; log(x, base) is log(x) / log(base)",
    otherwise=lambda *arguments: _log_to_base(*arguments),
)
log1p = _row(
    "log1p",
    _logarithm(math.log1p, -1.0),
    lambda y, x: div(1.0, 1.0 + x),
    symbol="log(1+x)",
    domain=(Interval(-1.0, inf, open=True),),
    array="xp.log1p({0})",
    javascript="Math.log1p({0})",
    doc="log(1 + x), exact near 0",
)
log2 = _row(
    "log2",
    _logarithm(math.log2),
    lambda y, x: div(1.0 / math.log(2.0), x),
    symbol="log₂",
    domain=(POSITIVE,),
    array="xp.log2({0})",
    javascript="Math.log2({0})",
    doc="the logarithm to base 2",
)
log10 = _row(
    "log10",
    _logarithm(math.log10),
    lambda y, x: div(1.0 / math.log(10.0), x),
    symbol="log₁₀",
    domain=(POSITIVE,),
    array="xp.log10({0})",
    javascript="Math.log10({0})",
    doc="the logarithm to base 10",
)

# Roots and lengths

sqrt = _row(
    "sqrt",
    _ieee(math.sqrt, _to_inf),
    lambda y, x: div(0.5, y),
    symbol="√",
    domain=(Interval(0.0, inf),),
    array="xp.sqrt({0})",
    javascript="Math.sqrt({0})",
    doc="the square root; its derivative at 0 is inf",
)
cbrt = _row(
    "cbrt",
    math.cbrt,
    lambda y, x: div(div(1.0 / 3.0, y), y),
    symbol="∛",
    array="xp.cbrt({0})",
    javascript="Math.cbrt({0})",
    doc="the cube root, of negative numbers too; its derivative at 0 is inf",
)
hypot = _row(
    "hypot",
    math.hypot,
    lambda y, a, b: direction(a, b),
    lambda y, a, b: direction(b, a),
    kink=lambda a, b: a == b == 0.0,
    array="xp.hypot({0}, {1})",
    javascript="Math.hypot({0}, {1})",
    doc="√(a² + b²) without overflow; its derivatives at (0, 0) are nan, as in PyTorch; of any number of arguments",
    otherwise=lambda *xs: hypot_of(len(xs))(*xs) if len(xs) > 1 else absolute(*xs) if xs else 0.0,
)


@_factory((3,))
def hypot_of(n: int) -> Op:
    """Return √(x₁² + … + xₙ²) of n arguments as one operation.

    A chain of ``hypot`` would round n − 1 times, and have no derivative at (0, 0, 1), where this one has.
    """
    arguments = ", ".join(f"{{{i}}}" for i in range(n))

    def by(i: int) -> Partial:
        return lambda y, *xs: direction_of(n)(xs[i], *xs[:i], *xs[i + 1 :])

    return Op(
        f"hypot[{n}]",
        math.hypot,
        tuple(map(by, range(n))),
        symbol="hypot",
        kink=lambda *xs: not any(xs),
        array=f"special.hypot({arguments})",
        javascript=f"Math.hypot({arguments})",
        doc="the length of a vector, without overflow; its derivatives at the origin are nan",
        recipe=(hypot_of, (n,)),
    )


# Trigonometry

sin = _row(
    "sin", _ieee(math.sin, _to_inf), lambda y, x: cos(x), array="xp.sin({0})", javascript="Math.sin({0})", doc="sine"
)
cos: Op = _row(
    "cos", _ieee(math.cos, _to_inf), lambda y, x: -sin(x), array="xp.cos({0})", javascript="Math.cos({0})", doc="cosine"
)
tan = _row(
    "tan",
    _ieee(math.tan, _to_inf),
    lambda y, x: 1.0 + y * y,
    array="xp.tan({0})",
    javascript="Math.tan({0})",
    doc="tangent",
)
asin = _row(
    "asin",
    _ieee(math.asin, _to_inf),
    lambda y, x: div(1.0, sqrt(one_minus_square(x))),
    domain=(Interval(-1.0, 1.0),),
    array="xp.arcsin({0})",
    javascript="Math.asin({0})",
    doc="inverse sine; nan outside [−1, 1], derivative inf at ±1",
)
acos = _row(
    "acos",
    _ieee(math.acos, _to_inf),
    lambda y, x: div(-1.0, sqrt(one_minus_square(x))),
    domain=(Interval(-1.0, 1.0),),
    array="xp.arccos({0})",
    javascript="Math.acos({0})",
    doc="inverse cosine; nan outside [−1, 1], derivative −inf at ±1",
)
atan = _row(
    "atan",
    math.atan,
    lambda y, x: _squared(div(1.0, hypot(1.0, x))),  # 1 + x² would overflow
    array="xp.arctan({0})",
    javascript="Math.atan({0})",
    doc="inverse tangent",
)
atan2 = _row(
    "atan2",
    math.atan2,
    lambda y, a, b: div(div(b, hypot(a, b)), hypot(a, b)),
    lambda y, a, b: -div(div(a, hypot(a, b)), hypot(a, b)),
    kink=lambda a, b: b <= 0 and math.copysign(1.0, a),
    array="xp.arctan2({0}, {1})",
    javascript="Math.atan2({0}, {1})",
    doc="the angle of the point (b, a), with a jump at b ≤ 0, a = 0; derivatives at (0, 0) are nan: no limit",
)
sinh = _row(
    "sinh",
    _ieee(math.sinh, _to_signed_inf),
    lambda y, x: cosh(x),
    array="xp.sinh({0})",
    javascript="Math.sinh({0})",
    doc="hyperbolic sine",
)
cosh: Op = _row(
    "cosh",
    _ieee(math.cosh, _to_inf),
    lambda y, x: sinh(x),
    array="xp.cosh({0})",
    javascript="Math.cosh({0})",
    doc="hyperbolic cosine",
)
tanh = _row(
    "tanh",
    math.tanh,
    lambda y, x: _sech2(x, y) if type(y) is float else sech2(x),  # y is at hand, and spares most of the time
    array="xp.tanh({0})",
    javascript="Math.tanh({0})",
    doc="hyperbolic tangent; the derivative 1 − y² is taken as sech² x, which keeps its digits as y nears ±1",
)
asinh = _row(
    "asinh",
    math.asinh,
    lambda y, x: div(1.0, hypot(1.0, x)),
    array="xp.arcsinh({0})",
    javascript="Math.asinh({0})",
    doc="inverse hyperbolic sine",
)
acosh = _row(
    "acosh",
    _ieee(math.acosh, _to_inf),
    lambda y, x: div(div(1.0, sqrt(x - 1.0)), sqrt(x + 1.0)),
    domain=(Interval(1.0, inf),),
    array="xp.arccosh({0})",
    javascript="Math.acosh({0})",
    doc="inverse hyperbolic cosine; nan below 1, derivative inf at 1",
)
atanh = _row(
    "atanh",
    _atanh,
    lambda y, x: div(1.0, one_minus_square(x)),
    domain=(Interval(-1.0, 1.0, open=True),),
    array="xp.arctanh({0})",
    javascript="Math.atanh({0})",
    doc="inverse hyperbolic tangent; ±inf at ±1, nan beyond",
)

# Rows that only local derivatives use, because a formula in other rows would lose digits when it is differentiated

sech2: Op = _hidden(
    "sech2",
    lambda x: _sech2(x, math.tanh(x)),
    lambda y, x: -2.0 * tanh(x) * y,
    symbol="sech²",
    array="special.sech2({0})",
    javascript="mg.sech2({0})",
    doc="1 / cosh² x, the derivative of tanh",
)
sigmoid_slope: Op = _hidden(
    "sigmoid_slope",
    lambda x: _sigmoid_slope(x, _sigmoid(x)),
    lambda y, x: -y * tanh(0.5 * x),
    symbol="σ(x)(1−σ(x))",
    array="special.sigmoid_slope({0})",
    javascript="mg.sigmoidSlope({0})",
    doc="σ(x)·σ(−x), the derivative of σ",
)
one_minus_square: Op = _hidden(
    "one_minus_square",
    lambda x: (1.0 - x) * (1.0 + x),
    lambda y, x: -2.0 * x,
    symbol="(1−x²)",
    array="(1.0 - {0}) * (1.0 + {0})",
    javascript="((1 - {0}) * (1 + {0}))",
    doc="1 − x², exact near ±1",
)
direction: Op = _hidden(
    "direction",
    _direction,
    lambda y, a, b: direction(b, a) * div(direction(b, a), hypot(a, b)),
    lambda y, a, b: -y * div(direction(b, a), hypot(a, b)),
    array="special.direction({0}, {1})",
    javascript="mg.direction({0}, {1})",
    doc="a / √(a² + b²), the derivative of hypot by a; ±1 where only a is infinite, nan at (0, 0)",
)


@_factory()
def direction_of(n: int) -> Op:
    """Return x₁ / √(x₁² + … + xₙ²) of n arguments, the derivative of ``hypot_of(n)`` by the first."""
    others = ", ".join(f"{{{i}}}" for i in range(1, n))

    def length(xs: tuple[Any, ...]) -> Any:
        return hypot_of(n)(*xs)

    def by(i: int) -> Partial:
        if i == 0:  # 1/y − x₁²/y³ would cancel
            return lambda y, *xs: div(total(_squared(div(x, length(xs))) for x in xs[1:]), length(xs))
        return lambda y, *xs: -y * div(div(xs[i], length(xs)), length(xs))

    return Op(
        f"direction[{n}]",
        lambda a, *xs: _direction(a, math.hypot(*xs)),
        tuple(map(by, range(n))),
        array=f"special.direction({{0}}, special.hypot({others}))",
        javascript=f"mg.direction({{0}}, Math.hypot({others}))",
        doc="the first argument over the length of all; nan at the origin",
        recipe=(direction_of, (n,)),
    )


# Special functions

erf = _row(
    "erf",
    math.erf,
    lambda y, x: 2.0 / math.sqrt(math.pi) * _gaussian(x),
    array="special.erf({0})",
    javascript="mg.erf({0})",
    doc="the error function",
)
erfc = _row(
    "erfc",
    math.erfc,
    lambda y, x: -2.0 / math.sqrt(math.pi) * _gaussian(x),
    array="special.erfc({0})",
    javascript="mg.erfc({0})",
    doc="1 − erf(x), accurate in the tail",
)
lgamma = _row(
    "lgamma",
    _lgamma,
    lambda y, x: digamma(x),
    symbol="log|Γ|",
    kink=_pole_to_the_left,
    array="special.lgamma({0})",
    javascript="mg.lgamma({0})",
    doc="the logarithm of |Γ(x)|; inf at 0, −1, −2, …",
)
gamma: Op = _row(
    "gamma",
    _gamma,
    lambda y, x: _gamma_slope(x),
    symbol="Γ",
    kink=_pole_to_the_left,
    array="special.gamma({0})",
    javascript="mg.gamma({0})",
    doc="Γ(x), which is (n − 1)! for a whole n; ±inf at ±0, nan at −1, −2, …",
)
digamma: Op = _row(
    "digamma",
    lambda x: _polygamma(0, x),
    lambda y, x: polygamma_of(1)(x),
    symbol="ψ",
    kink=_pole_to_the_left,
    array="special.digamma({0})",
    javascript="mg.polygamma(0, {0})",
    doc="ψ(x) = d log Γ(x) / dx; ∓inf at ±0, nan at −1, −2, …",
)


@_factory((1,), (2,))
def polygamma_of(n: int) -> Op:
    """Return ψ⁽ⁿ⁾, the n-th derivative of digamma, for a whole n ≥ 1."""
    return Op(
        f"polygamma[{n}]",
        lambda x: _polygamma(n, x),
        (lambda y, x: polygamma_of(n + 1)(x),),
        symbol=f"ψ⁽{_superscript(n)}⁾",
        kink=_pole_to_the_left,
        array=f"special.polygamma({n}, {{0}})",
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
    kink=lambda x: (x > 0) - (x < 0),
    array="xp.abs({0})",
    javascript="Math.abs({0})",
    doc="|x|; the derivative at 0 is 0",
)
sign: Op = _row(
    "sign",
    _sign,
    0.0,
    kink=lambda x: (x > 0) - (x < 0),
    array="xp.sign({0})",
    javascript="mg.sign({0})",
    doc="−1, 0 or 1; the derivative is 0 everywhere",
)
floor = _row(
    "floor",
    _rounding(math.floor),
    0.0,
    symbol="⌊x⌋",
    kink=lambda x: math.floor(x) if math.isfinite(x) else x,
    array="xp.floor({0})",
    javascript="Math.floor({0})",
    doc="the largest whole number ≤ x; the derivative is 0 everywhere",
)
ceil = _row(
    "ceil",
    _rounding(math.ceil),
    0.0,
    symbol="⌈x⌉",
    kink=lambda x: math.ceil(x) if math.isfinite(x) else x,
    array="xp.ceil({0})",
    javascript="Math.ceil({0})",
    doc="the smallest whole number ≥ x; the derivative is 0 everywhere",
)
trunc = _row(
    "trunc",
    _rounding(math.trunc),
    0.0,
    kink=lambda x: math.trunc(x) if math.isfinite(x) else x,
    array="xp.trunc({0})",
    javascript="Math.trunc({0})",
    doc="the whole number next to x on the side of 0; the derivative is 0 everywhere",
)
rounded = _row(
    "round",
    _rounding(round),
    0.0,
    symbol="⌊x⌉",
    kink=lambda x: round(x) if math.isfinite(x) else x,
    array="xp.rint({0})",
    javascript="mg.round({0})",
    doc="the nearest whole number, of two the even one; the derivative is 0 everywhere",
)


@_factory((2,), (-1,))
def round_of(digits: int) -> Op:
    """Return the operation that rounds to so many decimals, before the point if negative, as Python's ``round``."""
    nearest = _ieee(lambda x: round(x, digits), _to_signed_inf)
    return Op(
        f"round[{digits}]",
        nearest,
        (0.0,),
        kink=nearest,
        javascript=f"mg.roundTo({{0}}, {digits})",
        doc=f"the number of {digits} decimals nearest to x, of two the even one; the derivative is 0 everywhere",
        recipe=(round_of, (digits,)),
    )


# Division with a remainder a = q·b + r: the quotient q is constant between its jumps, so ∂r/∂a = 1 and ∂r/∂b = −q

floor_divide: Op = _row(
    "floor_divide",
    _floor_divide,
    0.0,
    0.0,
    symbol="//",
    kink=_floor_divide,
    array="xp.floor_divide({0}, {1})",
    javascript="mg.floorDivide({0}, {1})",
    doc="⌊a ÷ b⌋, Python's a // b; a ÷ b where b is 0; the derivatives are 0 everywhere",
)
mod = _row(
    "mod",
    _modulo,
    1.0,
    lambda y, a, b: -floor_divide(a, b),
    kink=_floor_divide,
    array="xp.mod({0}, {1})",
    javascript="mg.mod({0}, {1})",
    doc="a − ⌊a ÷ b⌋·b, Python's a % b, with the sign of b; nan where b is 0",
)
fmod: Op = _row(
    "fmod",
    _nan_outside(math.fmod),
    1.0,
    lambda y, a, b: rounded(div(y, b) - div(a, b)),
    kink=lambda a, b: rounded(_divide(a, b) - _divide(fmod.forward(a, b), b)),
    array="xp.fmod({0}, {1})",
    javascript="({0} % {1})",
    doc="a − trunc(a ÷ b)·b, with the sign of a, as in C; nan where b is 0",
)
remainder: Op = _row(
    "remainder",
    _nan_outside(math.remainder),
    1.0,
    lambda y, a, b: rounded(div(y, b) - div(a, b)),
    kink=lambda a, b: rounded(_divide(a, b) - _divide(remainder.forward(a, b), b)),
    array="special.remainder({0}, {1})",
    javascript="mg.remainder({0}, {1})",
    doc="a − q·b for the whole number q nearest to a ÷ b, of two the even one (IEEE 754); nan where b is 0",
)
copysign: Op = _row(
    "copysign",
    _copysign,
    lambda y, a, b: sign(a) * copysign(1.0, b),
    0.0,
    kink=lambda a, b: ((a > 0) - (a < 0), math.copysign(1.0, b)),
    array="special.copysign({0}, {1})",
    javascript="mg.copysign({0}, {1})",
    doc="|a| with the sign of b; nan where b is nan, whose sign means nothing; the derivative at a = 0 is 0",
)
maximum = _row(
    "maximum",
    _maximum,
    lambda y, a, b: 1.0 - 0.5 * (less(a, b) + less_equal(a, b)),
    lambda y, a, b: 1.0 - 0.5 * (less(b, a) + less_equal(b, a)),
    symbol="max",
    kink=lambda a, b: (a > b) - (a < b),
    array="xp.maximum({0}, {1})",
    javascript="mg.maximum({0}, {1})",
    doc="the larger of two, nan if either is; of equals each gets half the gradient",
)
minimum = _row(
    "minimum",
    _minimum,
    lambda y, a, b: 1.0 - 0.5 * (less(b, a) + less_equal(b, a)),
    lambda y, a, b: 1.0 - 0.5 * (less(a, b) + less_equal(a, b)),
    symbol="min",
    kink=lambda a, b: (a > b) - (a < b),
    array="xp.minimum({0}, {1})",
    javascript="mg.minimum({0}, {1})",
    doc="the smaller of two, nan if either is; of equals each gets half the gradient",
)
clip = _row(
    "clip",
    lambda x, low, high: _minimum(_maximum(x, low), high),
    lambda y, x, low, high: greater_equal(x, low) * less_equal(x, high),
    lambda y, x, low, high: less(x, low) * less(low, high),
    lambda y, x, low, high: 1.0 - (1.0 - greater(x, high)) * (1.0 - greater(low, high)),
    kink=lambda x, low, high: (x < low, x > high, (low > high) - (low < high)),
    array="xp.minimum(xp.maximum({0}, {1}), {2})",
    javascript="mg.minimum(mg.maximum({0}, {1}), {2})",
    doc="x held between low and high; at the ends the gradient goes to x",
)
where: Op = _row(
    "where",
    lambda condition, a, b: a if condition else b,
    0.0,
    lambda y, condition, a, b: not_equal(condition, 0.0),
    lambda y, condition, a, b: equal(condition, 0.0),
    kink=lambda condition, a, b: bool(condition),
    array="xp.where({0}, {1}, {2})",
    javascript="({0} !== 0 ? {1} : {2})",
    doc="a where the condition is not 0, else b; the choice is part of the graph. The one not chosen has the "
    "derivative 0, a number like any other, so an infinite derivative behind it gives 0·∞ = nan, as in PyTorch: for "
    "√x or 0 write where(mg.greater(x, 0), sqrt(where(mg.greater(x, 0), x, 1)), 0)",
)
relu = _row(
    "relu",
    lambda x: 0.0 if x <= 0.0 else x,
    lambda y, x: not_equal(y, 0.0),
    symbol="ReLU",
    kink=lambda x: x > 0,
    array="xp.maximum({0}, 0.0)",
    javascript="Math.max({0}, 0)",
    doc="max(x, 0) (chapter 5.5.1); the derivative at 0 is 0",
)


@_factory((0.01,), (0.2,), signed=True)
def leaky_relu_of(slope: float) -> Op:
    """Return the leaky ReLU with a constant slope for x ≤ 0."""
    return Op(
        f"leaky_relu[{slope!r}]",
        lambda x: x if x > 0 else slope * x,
        (lambda y, x: where(greater(x, 0.0), 1.0, slope),),
        symbol="leaky ReLU",
        kink=lambda x: x > 0,
        array=f"xp.where({{0}} > 0, {{0}}, {slope!r} * {{0}})",
        javascript=f"({{0}} > 0 ? {{0}} : {_javascript_number(slope)} * {{0}})",
        doc=f"x for x > 0, else {slope!r}·x; the derivative at 0 is {slope!r}",
        recipe=(leaky_relu_of, (slope,)),
    )


@_factory((1.0,), (0.5,), signed=True)
def elu_of(alpha: float) -> Op:
    """Return the exponential linear unit with a constant α."""
    return Op(
        f"elu[{alpha!r}]",
        lambda x: x if x > 0 else alpha * math.expm1(x),
        (lambda y, x: where(greater(x, 0.0), 1.0, alpha * exp(clip(x, -inf, 0.0))),),  # at 0 all are those of the left
        symbol="ELU",
        kink=lambda x: x > 0,
        array=f"xp.where({{0}} > 0, {{0}}, {alpha!r} * xp.expm1(xp.minimum({{0}}, 0.0)))",
        javascript=f"({{0}} > 0 ? {{0}} : {_javascript_number(alpha)} * Math.expm1({{0}}))",
        doc=f"x for x > 0, else {alpha!r}·(eˣ − 1); the derivatives at 0 are those of the left side, {alpha!r}",
        recipe=(elu_of, (alpha,)),
    )


# Smooth activations

sigmoid = _row(
    "sigmoid",
    _sigmoid,
    lambda y, x: _sigmoid_slope(x, y) if type(y) is float else sigmoid_slope(x),  # as tanh
    symbol="σ",
    array="special.sigmoid({0})",
    javascript="mg.sigmoid({0})",
    doc="1 / (1 + e⁻ˣ) (chapter 5.5.2), without overflow on either side; the derivative y(1 − y) is "
    "taken as σ(x)·σ(−x), which keeps its digits as y nears 1",
)
silu = _row(
    "silu",
    lambda x: x * _sigmoid(x) if x != -inf else -0.0,
    # σ′ is 0 from ±800 on: so far x is bounded, as 0·∞ would come up
    lambda y, x: sigmoid(x) + clip(x, -800.0, 800.0) * sigmoid_slope(x),
    symbol="SiLU",
    array="special.silu({0})",
    javascript="mg.silu({0})",
    doc="x·σ(x), also called swish",
)
gelu = _row(
    "gelu",
    _gelu,
    lambda y, x: 0.5 * erfc(x * -_ROOT_HALF) + _weighted_density(x),
    symbol="GELU",
    array="special.gelu({0})",
    javascript="mg.gelu({0})",
    doc="x·Φ(x) with the normal distribution Φ, exactly, not the tanh approximation",
)
softplus = _row(
    "softplus",
    _softplus,
    lambda y, x: sigmoid(x),
    array="special.softplus({0})",
    javascript="mg.softplus({0})",
    doc="log(1 + eˣ), without overflow",
)


class Operators:
    """Python's operators as operations of the table, for a number type of your own: give it ``__apply__``.

    ``Value`` has faster ones of its own. A constant exponent or base is not differentiated.
    """

    __slots__ = ()

    @classmethod
    def __apply__(cls, op: Op, arguments: tuple[Any, ...]) -> Any:
        raise NotImplementedError(f"{cls.__name__} must say in __apply__ what {op.name} of it is")

    def __add__(self, other: Any) -> Any:
        return add(self, other)

    def __radd__(self, other: Any) -> Any:
        return add(other, self)

    def __sub__(self, other: Any) -> Any:
        return sub(self, other)

    def __rsub__(self, other: Any) -> Any:
        return sub(other, self)

    def __mul__(self, other: Any) -> Any:
        return mul(self, other)

    def __rmul__(self, other: Any) -> Any:
        return mul(other, self)

    def __truediv__(self, other: Any) -> Any:
        return div(self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return div(other, self)

    def __pow__(self, exponent: Any) -> Any:
        return power(self, exponent) if hasattr(type(exponent), "__apply__") else power_of(as_float(exponent))(self)

    def __rpow__(self, base: Any) -> Any:
        return base_of(as_float(base))(self)

    def __floordiv__(self, other: Any) -> Any:
        return floor_divide(self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return floor_divide(other, self)

    def __mod__(self, other: Any) -> Any:
        return mod(self, other)

    def __rmod__(self, other: Any) -> Any:
        return mod(other, self)

    def __divmod__(self, other: Any) -> Any:
        return floor_divide(self, other), mod(self, other)

    def __rdivmod__(self, other: Any) -> Any:
        return floor_divide(other, self), mod(other, self)

    def __neg__(self) -> Any:
        return neg(self)

    def __abs__(self) -> Any:
        return absolute(self)

    def __round__(self, digits: int | None = None) -> Any:
        return rounded(self) if digits is None else round_of(digits)(self)

    def __floor__(self) -> Any:
        return floor(self)

    def __ceil__(self) -> Any:
        return ceil(self)

    def __trunc__(self) -> Any:
        return trunc(self)


# ---------------------------------------------------------------------------------------------------
# Functions with options or with many arguments, out of the rows


@overload
def leaky_relu(x: float, slope: float = 0.01) -> float: ...
@overload
def leaky_relu(x: T, slope: float = 0.01) -> T: ...
def leaky_relu(x: Any, slope: float = 0.01) -> Any:
    """Return x for x > 0, else ``slope``·x; the derivative at 0 is the slope."""
    return leaky_relu_of(as_float(slope))(x)


@overload
def elu(x: float, alpha: float = 1.0) -> float: ...
@overload
def elu(x: T, alpha: float = 1.0) -> T: ...
def elu(x: Any, alpha: float = 1.0) -> Any:
    """Return x for x > 0, else α(eˣ − 1); the derivative at 0 is α."""
    return elu_of(as_float(alpha))(x)


fabs = absolute
"""The name that the math module has for it."""


def pow(x: Any, n: Any) -> Any:
    """Return xⁿ, as ``x ** n``: a plain exponent or base is a constant, which is not differentiated."""
    is_constant = [not hasattr(type(number), "__apply__") for number in (x, n)]
    return x**n if sum(is_constant) == 1 else power(x, n)


def degrees(x: Any) -> Any:
    """Return an angle in radians as degrees: x · 180/π."""
    return mul(x, 180.0 / math.pi)


def radians(x: Any) -> Any:
    """Return an angle in degrees as radians: x · π/180."""
    return mul(x, math.pi / 180.0)


def _log_to_base(*arguments: Any) -> Any:
    if len(arguments) != 2:
        raise TypeError(f"log takes x, or x and a base; got {len(arguments)} arguments: {arguments!r}")
    x, base = arguments
    return div(log(x), log(base))


def dist(p: Iterable[Any], q: Iterable[Any]) -> Any:
    """Return the distance √Σ (pᵢ − qᵢ)² of two points; where they are one, its derivatives are nan.

    Raises:
        ValueError: if the points have different dimensions, naming both.
    """
    p, q = list(p), list(q)
    if len(p) != len(q):
        raise ValueError(f"dist() takes two points of one dimension; got {len(p)} and {len(q)} numbers")
    return hypot(*map(sub, p, q))


def prod(xs: Iterable[Any], *, start: Any = 1.0) -> Any:
    """Return start · x₁ · … · xₙ, multiplied from left to right."""
    return reduce(mul, _as_list(xs), start)


def total(xs: Iterable[Any]) -> Any:
    """Return Σ xᵢ as one node, added from left to right; 0.0 for an empty sequence, x for a bare number.

    Python's ``sum(xs)`` gives the same number, as a chain of additions.
    """
    xs = _as_list(xs)
    if len(xs) == 1:
        return xs[0] if hasattr(type(xs[0]), "__apply__") else as_float(xs[0])
    if len(xs) < 3:
        return add(*xs) if xs else 0.0
    return sum_of(len(xs))(*xs)


def dot(xs: Iterable[Any], ys: Iterable[Any]) -> Any:
    """Return Σ xᵢ·yᵢ of two sequences of one length.

    Raises:
        ValueError: if the lengths differ, naming both.
    """
    xs, ys = _as_list(xs), _as_list(ys)
    if len(xs) != len(ys):
        raise ValueError(f"dot() takes two sequences of one length; got {len(xs)} and {len(ys)} numbers")
    return total(map(operator.mul, xs, ys))


def mean(xs: Iterable[Any]) -> Any:
    """Return the arithmetic mean Σ xᵢ / n.

    Raises:
        ValueError: for an empty sequence.
    """
    xs = _not_empty("mean", xs)
    return total(xs) / len(xs)  # times 1/n, which is rounded, the mean of 49 ones would not be 1


def logsumexp(xs: Iterable[Any]) -> Any:
    """Return log Σ exp(xᵢ), computed as m + log Σ exp(xᵢ − m) with m = max xᵢ, so nothing overflows.

    The maximum is held constant (``stop_gradient``), so the derivative is softmax(xs), free of its noise.
    An infinite maximum is the result, −inf if all are; as in PyTorch, the derivative by it is nan there.

    Raises:
        ValueError: for an empty sequence.
    """
    xs = _not_empty("logsumexp", xs)
    largest = stop_gradient(reduce(maximum, xs))
    shift = where(less(absolute(largest), inf), largest, 0.0)
    return log(total(exp(x - shift) for x in xs)) + shift


def softmax(xs: Iterable[Any]) -> list[Any]:
    """Return exp(xᵢ) / Σⱼ exp(xⱼ) for each i (chapter 3.5), shifted by the maximum so nothing overflows.

    An infinite maximum gives nan (inf − inf), as in PyTorch: what the shares of several would be has no limit.

    Raises:
        ValueError: for an empty sequence.
    """
    xs = _not_empty("softmax", xs)
    shift = stop_gradient(reduce(maximum, xs))
    exponentials = [exp(x - shift) for x in xs]
    denominator = total(exponentials)
    return [div(e, denominator) for e in exponentials]


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


def _home(op: Op) -> str:
    """The module in which a row is found again under its name: what a pickle stores of it."""
    if in_table(op) or op in (LEAF, CONSTANT):
        return __name__
    functions = [op.forward, *[p for p in op.partials if callable(p)]]
    for module in {str(getattr(function, "__module__", "")) for function in functions} - {"", "None"}:
        if _lookup(module, op.name) is op:
            return module
    from pickle import PicklingError  # not above: nothing else that is imported at first needs it

    raise PicklingError(
        f"operation {op.name!r} cannot be pickled: it is not found as a module's {op.name!r}; "
        f"assign it at the top level of a module under that name: {op.name} = Op({op.name!r}, ...)"
    )


def _lookup(module: str, name: str) -> Any:
    return getattr(import_module(module), name, None)


def _find(module: str, name: str) -> Op:
    """Return the row that a pickle names."""
    op = (
        {**TABLE, **HIDDEN, "leaf": LEAF, "constant": CONSTANT}.get(name)
        if module == __name__
        else _lookup(module, name)
    )
    if not isinstance(op, Op):
        raise LookupError(f"this graph uses the operation {name!r} of {module}, which is not there any more")
    return op
