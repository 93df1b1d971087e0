"""Python's operators, and the operations as methods, for a number type of your own."""

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from microgrid.builds import mypyc_attr
from microgrid.ops import functions, table
from microgrid.ops.op import TABLE, Op, Operation, as_float, is_number

Number = TypeVar("Number")


class Method:
    """An operation as a method of its first operand: ``x.tanh()``."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __get__(self, instance: Number, owner: Any) -> Callable[..., Number]:
        if instance is None:
            return self.function
        return lambda *others: self.function(instance, *others)


@mypyc_attr(acyclic=True, allow_interpreted_subclasses=True)
class Operators:
    """Python's operators as operations of the table, for a number type of your own: give it ``__apply__``.

    Every row is a method, too. An operand that is not a number, such as an array, may handle the operator itself.
    A constant exponent or base is not differentiated.
    """

    __slots__ = ()

    @classmethod
    def __apply__(cls, op: Operation, arguments: tuple[Any, ...]) -> Any:
        raise NotImplementedError(f"{cls.__name__} must say in __apply__ what {op.name} of it is")

    def __add__(self, other: Any) -> Any:
        return _operate(table.add, self, other)

    def __radd__(self, other: Any) -> Any:
        return _operate(table.add, other, self)

    def __sub__(self, other: Any) -> Any:
        return _operate(table.sub, self, other)

    def __rsub__(self, other: Any) -> Any:
        return _operate(table.sub, other, self)

    def __mul__(self, other: Any) -> Any:
        return _operate(table.mul, self, other)

    def __rmul__(self, other: Any) -> Any:
        return _operate(table.mul, other, self)

    def __truediv__(self, other: Any) -> Any:
        return _operate(table.div, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _operate(table.div, other, self)

    def __floordiv__(self, other: Any) -> Any:
        return _operate(table.floor_divide, self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return _operate(table.floor_divide, other, self)

    def __mod__(self, other: Any) -> Any:
        return _operate(table.mod, self, other)

    def __rmod__(self, other: Any) -> Any:
        return _operate(table.mod, other, self)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __pow__(self, exponent: Any) -> Any:
        if is_constant(exponent):
            return table.power_of(as_float(exponent))(self) if is_number(exponent) else NotImplemented
        return table.power(self, exponent)

    def __rpow__(self, base: Any) -> Any:
        return table.base_of(as_float(base))(self) if is_number(base) else NotImplemented

    def __neg__(self) -> Any:
        return table.neg(self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return table.absolute(self)

    def __floor__(self) -> Any:
        return table.floor(self)

    def __ceil__(self) -> Any:
        return table.ceil(self)

    def __trunc__(self) -> Any:
        return table.trunc(self)

    def __round__(self, digits: Any = None) -> Any:
        return table.rounded(self) if digits is None else table.round_of(digits)(self)

    def round(self, digits: Any = None) -> Any:
        """Return the nearest number of so many decimals, of two the even one, as Python's ``round``."""
        return round(self, digits)

    def conjugate(self) -> Any:
        """Return the number itself, which is real; NumPy's variance calls it."""
        return self

    # Methods that type checkers know. A new row is one, too; NumPy looks for names of its own when np.arctan meets
    # an array of such numbers.

    abs: ClassVar = Method(TABLE["abs"])
    fabs: ClassVar = Method(TABLE["abs"])
    neg: ClassVar = Method(TABLE["neg"])
    floor: ClassVar = Method(TABLE["floor"])
    ceil: ClassVar = Method(TABLE["ceil"])
    trunc: ClassVar = Method(TABLE["trunc"])
    rint: ClassVar = Method(TABLE["round"])
    sign: ClassVar = Method(TABLE["sign"])
    exp: ClassVar = Method(TABLE["exp"])
    expm1: ClassVar = Method(TABLE["expm1"])
    exp2: ClassVar = Method(TABLE["exp2"])
    log: ClassVar = Method(TABLE["log"])
    log1p: ClassVar = Method(TABLE["log1p"])
    log2: ClassVar = Method(TABLE["log2"])
    log10: ClassVar = Method(TABLE["log10"])
    sqrt: ClassVar = Method(TABLE["sqrt"])
    cbrt: ClassVar = Method(TABLE["cbrt"])
    hypot: ClassVar = Method(TABLE["hypot"])
    sin: ClassVar = Method(TABLE["sin"])
    cos: ClassVar = Method(TABLE["cos"])
    tan: ClassVar = Method(TABLE["tan"])
    asin: ClassVar = Method(TABLE["asin"])
    arcsin: ClassVar = Method(TABLE["asin"])
    acos: ClassVar = Method(TABLE["acos"])
    arccos: ClassVar = Method(TABLE["acos"])
    atan: ClassVar = Method(TABLE["atan"])
    arctan: ClassVar = Method(TABLE["atan"])
    atan2: ClassVar = Method(TABLE["atan2"])
    arctan2: ClassVar = Method(TABLE["atan2"])
    sinh: ClassVar = Method(TABLE["sinh"])
    cosh: ClassVar = Method(TABLE["cosh"])
    tanh: ClassVar = Method(TABLE["tanh"])
    asinh: ClassVar = Method(TABLE["asinh"])
    arcsinh: ClassVar = Method(TABLE["asinh"])
    acosh: ClassVar = Method(TABLE["acosh"])
    arccosh: ClassVar = Method(TABLE["acosh"])
    atanh: ClassVar = Method(TABLE["atanh"])
    arctanh: ClassVar = Method(TABLE["atanh"])
    fmod: ClassVar = Method(TABLE["fmod"])
    erf: ClassVar = Method(TABLE["erf"])
    erfc: ClassVar = Method(TABLE["erfc"])
    gamma: ClassVar = Method(TABLE["gamma"])
    lgamma: ClassVar = Method(TABLE["lgamma"])
    digamma: ClassVar = Method(TABLE["digamma"])
    sigmoid: ClassVar = Method(TABLE["sigmoid"])
    relu: ClassVar = Method(TABLE["relu"])
    silu: ClassVar = Method(TABLE["silu"])
    gelu: ClassVar = Method(TABLE["gelu"])
    softplus: ClassVar = Method(TABLE["softplus"])
    clip: ClassVar = Method(TABLE["clip"])
    stop_gradient: ClassVar = Method(TABLE["stop_gradient"])
    degrees: ClassVar = Method(functions.degrees)
    rad2deg: ClassVar = Method(functions.degrees)
    radians: ClassVar = Method(functions.radians)
    deg2rad: ClassVar = Method(functions.radians)
    leaky_relu: ClassVar = Method(functions.leaky_relu)
    elu: ClassVar = Method(functions.elu)


for _row in TABLE.values():
    if not hasattr(Operators, _row.name):
        setattr(Operators, _row.name, Method(_row))

METHODS = {name: method.function for name, method in vars(Operators).items() if isinstance(method, Method)}
"""The operations that are methods, by the name of the method."""


def is_constant(x: Any) -> bool:
    """Return whether a number is a plain one, which is not differentiated."""
    return not hasattr(type(x), "__apply__")


def _operate(op: Op, a: Any, b: Any) -> Any:
    for x in (a, b):
        if is_constant(x) and not is_number(x):
            return NotImplemented
    return op(a, b)
