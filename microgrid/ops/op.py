"""A row of the table of operations, and how it is called with floats, Values and other numbers."""

import math
from collections.abc import Callable, Hashable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from functools import wraps
from importlib import import_module
from typing import Any, Final, Literal, Protocol, TypeVar, overload

inf = math.inf
nan = math.nan

Partial = Callable[..., Any]
"""``partial(y, *xs)`` is the local derivative dy/dx of one argument, for floats and for Values alike."""


class Dispatching(Protocol):
    """A type whose instances flow through the table: a Value, or a number type of your own."""

    @classmethod
    def __apply__(cls, op: "Operation", arguments: tuple[Any, ...]) -> Any:
        """Return ``op`` of the arguments, of which at least one is of this type."""


T = TypeVar("T", bound=Dispatching)

ARITHMETIC = (ArithmeticError, ValueError)
"""The exceptions of Python where IEEE 754 has an infinity or nan."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The reals from ``low`` to ``high``; ``open`` leaves both ends out.

    >>> mg.Interval(0.0, 1.0, open=True)
    Interval(low=0.0, high=1.0, open=True)

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


OTHER: Final = 0
SUM: Final = 1
PRODUCT: Final = 2
ONE_FUNCTION: Final = 3
TWO_FUNCTIONS: Final = 4
CONSTANTS: Final = 5
"""The forms of the partials that the reverse sweep distinguishes: all are 1; each is the other of two operands; a
function, of one operand or of two; one or two numbers other than 0; anything else."""


def first_operand(y: Any, a: Any, b: Any) -> Any:
    """The partial of a product by its second operand: the first one."""
    return a


def second_operand(y: Any, a: Any, b: Any) -> Any:
    """The partial of a product by its first operand: the second one."""
    return b


def _form(partials: Sequence[Partial | float]) -> int:
    if not partials:
        return OTHER
    if all(not callable(partial) and partial == 1 for partial in partials):
        return SUM
    if tuple(partials) == (second_operand, first_operand):
        return PRODUCT
    if len(partials) > 2 or not all(callable(partial) or partial for partial in partials):
        return OTHER
    functions = sum(map(callable, partials))
    return {0: CONSTANTS, len(partials): ONE_FUNCTION if len(partials) == 1 else TWO_FUNCTIONS}.get(functions, OTHER)


shared: ContextVar[dict[int, tuple[object, object]] | None] = ContextVar("shared", default=None)
"""What the partials of one node have computed by ``once`` so far, while all of them are called, one by one."""


def once(y: object, compute: Callable[[], object]) -> object:
    """Return what the partials of one result ``y`` share: of n arguments it would be n times as much."""
    found = shared.get()
    if found is None:
        return compute()
    if id(y) not in found:
        found[id(y)] = y, compute()
    return found[id(y)][1]


class Operation(Protocol):
    """The interface of ``node.op``: a row of the table, a call of a compiled function, or an operation given by a user.

    The attributes are those of ``Op``; an operation that is no row computes its local derivatives all at once.
    """

    @property
    def name(self) -> str: ...
    @property
    def symbol(self) -> str: ...
    @property
    def arity(self) -> int: ...
    @property
    def partials(self) -> Sequence[Partial | float]: ...
    @property
    def domain(self) -> Sequence[Interval]: ...
    @property
    def kink(self) -> Callable[..., Hashable] | None: ...
    @property
    def array(self) -> str: ...
    @property
    def javascript(self) -> str: ...
    @property
    def ufunc(self) -> str: ...
    @property
    def operator(self) -> str: ...
    @property
    def expansion(self) -> Callable[..., Any] | None: ...
    @property
    def formula(self) -> str: ...
    @property
    def python(self) -> str: ...
    @property
    def doc(self) -> str: ...
    @property
    def recipe(self) -> "tuple[Callable[..., Op], tuple[float, ...]] | None": ...
    @property
    def connected(self) -> tuple[bool, ...]: ...
    @property
    def cuts(self) -> bool: ...
    @property
    def forward(self) -> Callable[..., Any]: ...
    def local_derivatives(self, y: Any, *xs: Any) -> tuple[Any, ...]: ...
    def backpropagate(self, node: Any) -> None: ...


ARITHMETIC_OPERATORS = ("+", "-", "*", "/", "//", "%")
COMPARISON_OPERATORS = ("<", "<=", ">", ">=", "==", "!=")
"""The operators that a row may be."""

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
        symbol: the sign in a drawing, ``"×"``; the name unless given.
        domain: per argument, where the operation is defined; all reals unless given.
        kink: identifies the smooth branch of the arguments by any hashable; ``None`` if smooth everywhere.
            Two points on one branch have no kink between them.
        array: the operation on arrays as code: ``"xp.tanh({0})"``, where ``xp`` is NumPy or ``jax.numpy`` and
            ``special`` has the functions that they lack. A ``ufunc`` or an ``expansion`` makes faster programs.
        javascript: the same for JavaScript numbers, ``"Math.tanh({0})"``.
        doc: the formula in words, and the convention at kinks and poles.
        recipe: the cached factory and the constants that made this row, ``(power_of, (3.0,))``;
            ``None`` for a row that stands on its own.
        otherwise: the function of other rows that computes it for another number of arguments: log(x, base).
        ufunc: the name of its function on arrays, ``"arctan"``, which takes the constants of the recipe, then the
            arguments; of a row of the table its own name unless given.
        operator: the operator before its one argument or between its arguments, ``"+"``, in Python and on arrays, and
            ``+ - * /`` in JavaScript, too.
        expansion: the row in terms of other rows, ``lambda x: maximum(x, 0.0)``. A program, a page or the complex step
            that does not know the row itself uses these. Its values must be those of ``forward``; derivatives stay
            those of ``partials``. A row without a form on arrays is computed by ``forward``, number by number.
        formula: its form in formulas, ``"|{0}|"``; ``{0:atom}`` puts an operand that is not one name in parentheses.
        python: its code in Python, ``"round({0})"``, unless that is an operator or a call of its name.
        chooses: whether the result is one of the arguments, with the local derivative 1 by that one and 0 by the
            others. Then nothing flows back to the others, not even 0·∞.
    """

    name: str
    forward: Callable[..., Any]
    partials: Sequence[Partial | float]
    symbol: str = ""
    domain: Sequence[Interval] = ()
    kink: Callable[..., Hashable] | None = None
    array: str = ""
    javascript: str = ""
    doc: str = ""
    recipe: tuple[Callable[..., "Op"], tuple[float, ...]] | None = None
    otherwise: Callable[..., Any] | None = None
    ufunc: str = ""
    operator: str = ""
    expansion: Callable[..., Any] | None = None
    formula: str = ""
    python: str = ""
    chooses: bool = False
    arity: int = field(init=False)
    """The number of arguments."""
    form: int = field(init=False)
    """The form of the partials for the reverse sweep: ``SUM``, ``PRODUCT``, …"""
    by_first: Any = field(init=False)
    by_second: Any = field(init=False)
    """The first two partials."""
    left: float = field(init=False)
    right: float = field(init=False)
    """The same where they are numbers, else 0."""
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
        if self.operator and self.operator not in ARITHMETIC_OPERATORS + COMPARISON_OPERATORS:
            known = " ".join(ARITHMETIC_OPERATORS + COMPARISON_OPERATORS)
            raise ValueError(f"operation {self.name!r}: operator={self.operator!r} is none of {known}")
        set_field = object.__setattr__  # the only way to fill a field of a frozen dataclass
        set_field(self, "symbol", self.symbol or self.name)
        set_field(self, "domain", self.domain or (REALS,) * len(self.partials))
        set_field(self, "arity", len(self.partials))
        first, second = (*self.partials, 0.0, 0.0)[:2]
        set_field(self, "form", _form(self.partials))
        set_field(self, "by_first", first)
        set_field(self, "by_second", second)
        set_field(self, "left", 0.0 if callable(first) else float(first))
        set_field(self, "right", 0.0 if callable(second) else float(second))
        set_field(self, "connected", tuple([callable(p) or p != 0 for p in self.partials]))
        set_field(self, "cuts", not all(self.connected))

    @overload
    def __call__(self, *arguments: float) -> float: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, *arguments: T | float) -> T: ...
    def __call__(self, *arguments: Any) -> Any:
        """Return a float if all arguments are plain numbers, a Value if one of them is a Value."""
        if len(arguments) != self.arity:
            if self.otherwise is not None:
                return self.otherwise(*arguments)
            given = f"{len(arguments)}: {short_repr(arguments)}"
            raise TypeError(f"{self.name} takes {self.arity} argument(s); got {given}")
        try:
            for argument in arguments:
                if type(argument) is not float:
                    return self._dispatch(arguments)
            result = self.forward(*arguments)
        except ARITHMETIC as error:
            numbers = ", ".join([short_repr(getattr(x, "_data", x)) for x in arguments])
            _blame(self, error, f"forward({numbers}) raises", "return inf or nan instead")
            raise
        return result if type(result) is float else number(self, result)

    def _dispatch(self, arguments: tuple[Any, ...]) -> Any:
        for argument in arguments:
            apply = getattr(type(argument), "__apply__", None)
            if apply is not None:
                return apply(self, arguments)
        return number(self, self.forward(*[as_float(argument) for argument in arguments]))

    def local_derivatives(self, y: Any, *xs: Any) -> tuple[Any, ...]:
        """Return dy/dx for each argument: floats for floats, Values for Values."""
        token = shared.set({})
        try:
            return tuple([local_derivative(self, p, y, *xs) if callable(p) else p for p in self.partials])
        finally:
            shared.reset(token)

    def backpropagate(self, node: Any) -> None:
        """Add a node's gradient, times each local derivative, to the gradients of its parents.

        The reverse sweep of the engine calls it if the partials have none of the forms that it knows.
        """
        gradient, parents = node.grad, node.parents
        xs = [parent._data for parent in parents]
        token = shared.set({})
        try:
            for parent, partial in zip(parents, self.partials, strict=True):
                if callable(partial):
                    derivative = partial(node._data, *xs)
                    if derivative or not self.chooses:
                        parent._grad += gradient * derivative
                elif partial:  # 0 sends nothing back, not 0 · gradient, which is nan for an infinite one
                    parent._grad += gradient * partial
        finally:
            shared.reset(token)

    def __repr__(self) -> str:
        return f"<operation {self.name}, {self.arity} argument(s)>"

    def __reduce__(self) -> Any:
        if self.recipe is not None:
            return self.recipe
        return _find, (_home(self), self.name)


def _before_init(kind: Any, ask: Callable[[dict[str, Any]], None]) -> None:
    """Check the fields of a class by name before ``__init__``: a compiled one refuses wrong types in fewer words."""
    plain, names = kind.__init__, [part.name for part in fields(kind) if part.init]

    @wraps(plain)
    def init(self: Any, *given: Any, **named: Any) -> None:
        ask({**dict(zip(names, given, strict=False)), **named})
        plain(self, *given, **named)

    kind.__init__ = init


def _ask_interval(given: dict[str, Any]) -> None:
    as_float(given.get("low", -inf))
    as_float(given.get("high", inf))


def _ask_op(given: dict[str, Any]) -> None:
    name = given.get("name", "")
    for text in ("name", "symbol", "array", "javascript", "doc", "ufunc", "operator", "formula", "python"):
        if not isinstance(given.get(text, ""), str):
            raise TypeError(f"operation {short_repr(name)}: {text} must be text; got {short_repr(given[text])}")
    for function in ("kink", "otherwise", "expansion"):
        if given.get(function) is not None and not callable(given[function]):
            raise TypeError(f"operation {name!r}: {function} must be a function; got {short_repr(given[function])}")
    domain = given.get("domain", ())
    if not isinstance(domain, (tuple, list)) or not all(isinstance(part, Interval) for part in domain):
        raise TypeError(
            f"operation {name!r}: domain must be a tuple with one Interval per argument, as in "
            f"domain=(Interval(0.0, 1.0),); got {short_repr(domain)}"
        )


_before_init(Interval, _ask_interval)
_before_init(Op, _ask_op)


class Words:
    """The docstring of a row, if it has one, in place of that of its class: ``help(mg.tanh)`` shows it."""

    def __init__(self, of_class: str | None) -> None:
        self.of_class = of_class

    def __get__(self, op: Op | None, kind: Any) -> str | None:
        return (op and op.doc) or self.of_class


def spell(op: Operation, kind: Literal["array", "formula", "javascript", "python"], *arguments: Any) -> str:
    """Return the operation as code: its template with these texts for the arguments.

    Raises:
        ValueError: if the user's template does not fit the number of arguments.
    """
    template = getattr(op, kind)
    try:
        return str(template.format(*arguments))
    except (AttributeError, IndexError, KeyError, ValueError) as error:
        raise ValueError(
            f"operation {op.name!r}: its {kind} {template!r} is not a template of its "
            f"{op.arity} argument(s) {{0}}, {{1}}, …; write other braces twice, {{{{ and }}}} ({error!r})"
        ) from None


def _blame(op: Operation, error: Exception, fault: str, remedy: str) -> None:
    """Raise an error of Python's arithmetic again with the name of the operation, unless it has one already."""
    kind = type(error)
    if kind in (ValueError, OverflowError, ZeroDivisionError) and not str(error).startswith("operation "):
        raise kind(f"operation {op.name!r}: {fault} {kind.__name__}: {error}; {remedy}") from error


def number(op: Operation, result: Any, what: str = "result") -> float:
    """Return the result of ``forward`` or of a partial as a float.

    Raises:
        TypeError: if it is no real number, naming the operation.
    """
    try:
        return as_float(result)
    except TypeError:
        raise TypeError(
            f"operation {op.name!r}: its {what} must be one real number; got {short_repr(result)} of type "
            f"{type(result).__name__}"
        ) from None


def local_derivative(op: Operation, partial: Partial, y: Any, *xs: Any) -> Any:
    """Return the result of one of the partials, which must be a number or a Value."""
    try:
        derivative = partial(y, *xs)
    except ARITHMETIC as error:
        remedy = "write div, power and the other operations of the table, which give inf or nan, for /, ** and math"
        _blame(op, error, "a partial, called with (y, *xs), raises", remedy)
        raise
    except TypeError as error:
        if type(error) is not TypeError:  # a subclass says more, as for a branch on a traced number
            raise
        raise TypeError(f"operation {op.name!r}: a partial, called with (y, *xs): {error}") from error
    if type(derivative) is float or hasattr(type(derivative), "__apply__"):
        return derivative
    return number(op, derivative, "local derivative")


def as_float(number: Any) -> float:
    """Return a real number of any type as a float: int, bool, Fraction, Decimal, a NumPy scalar.

    Raises:
        TypeError: for text, complex numbers, None, sequences and arrays, naming what was given.
    """
    kind = type(number)
    if kind is float:
        return number  # type: ignore[no-any-return]
    if kind is not int and not is_number(number):
        raise TypeError(
            f"expected one real number, got {short_repr(number)} of type {kind.__name__}; "
            "give a float, or call once for each number"
        )
    try:
        return float(number)
    except OverflowError:  # an int or Fraction beyond the largest float rounds to infinity, as IEEE 754 has it
        return inf if number > 0 else -inf


def is_number(x: Any) -> bool:
    """Return whether ``as_float`` takes it."""
    kind = type(x)
    return (
        kind is float
        or kind is int
        or not (isinstance(x, (str, bytes, complex)) or not hasattr(kind, "__float__") or hasattr(kind, "__len__"))
    )


def short_repr(thing: Any) -> str:
    """Return the repr for an error message: at most 80 characters of it."""
    text = repr(thing)
    return text if len(text) <= 80 else text[:77] + "..."


TABLE: dict[str, Op] = {}
"""Every row by its name; rows with a constant (``power_of(3.0)``) are not in it, see ``rows()``."""

HIDDEN: dict[str, Op] = {}
"""The rows that only local derivatives use, by name: not among ``rows()`` and not public."""


def in_table(op: Operation) -> bool:
    """Return whether a row is one of this table, and not a user's of the same name."""
    if op.recipe is not None:
        return op.recipe[0].__module__.startswith("microgrid.")
    return op in (TABLE.get(op.name), HIDDEN.get(op.name))


LEAF = Op("leaf", lambda: nan, (), doc="A number that the user gave; nothing computes it.")
CONSTANT = Op("constant", lambda: nan, (), doc="A plain number that met a Value in an expression.")


def _home(op: Op) -> str:
    """The module where a pickle finds a row again under its name."""
    if in_table(op) or op in (LEAF, CONSTANT):
        return "microgrid.ops"
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
        if module == "microgrid.ops"
        else _lookup(module, name)
    )
    if not isinstance(op, Op):
        raise LookupError(f"this graph uses the operation {name!r} of {module}, which is not there any more")
    return op
