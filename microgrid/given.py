"""Nodes whose local derivatives the user gives, as programs written for micrograd and its like do.

>>> from microgrid.engine import Value
>>> x = Value(3.0)
>>> y = Value(x.data**2, (x,), "square")
>>> def backward():
...     x.grad += 2 * x.data * y.grad
>>> y._backward = backward
>>> y.backward()
>>> x.grad
6.0
"""

from collections.abc import Callable, Sequence
from types import CellType, FunctionType
from typing import Any

from microgrid.ops.op import REALS, Interval, Partial, short_repr


class Result:
    """What a closure reads of the node that it belongs to: the number and the gradient."""

    def __init__(self, data: float) -> None:
        self.data = data
        self.grad = 0.0


class Given:
    """An operation of one node: its name, and the local derivatives as numbers, as functions or as a closure.

    Args:
        name: what drawings and reports call it.
        y: the result.
        parents: the operands.
        partials: for each operand its local derivative, a number, or a function of (y, *xs) as in an ``Op``.
    """

    kink = None
    recipe = None
    array = ""
    javascript = ""
    doc = "Given by the user as a number, with its local derivatives."
    cuts = False

    def __init__(self, name: str, y: float, parents: Sequence[Any], partials: Sequence[Partial | float] = ()) -> None:
        if partials and len(partials) != len(parents):
            raise ValueError(
                f"operation {name!r} was given {len(parents)} parent(s) and {len(partials)} local derivative(s): "
                "give one for each parent"
            )
        self.name = self.symbol = name
        self.arity = len(parents)
        self.domain: tuple[Interval, ...] = (REALS,) * self.arity
        self.connected = (True,) * self.arity
        self._parents = tuple(parents)
        self._xs = tuple([parent._data for parent in parents])
        self._result = Result(y)
        self._numbers_or_functions = tuple(partials)
        self._closure: Callable[[], Any] | None = None

    @property
    def partials(self) -> tuple[Partial | float, ...]:
        """For each operand a function of (y, *xs): numbers are right at one point only, and are not constant."""
        if self._closure is None and not self._numbers_or_functions:
            raise self._unknown()
        return tuple([
            partial if callable(partial) else lambda y, *xs, i=i: self.local_derivatives(y, *xs)[i]
            for i, partial in enumerate(self._numbers_or_functions or (0.0,) * self.arity)
        ])  # fmt: skip

    def assign(self, closure: Callable[[], Any], node: Any) -> None:
        """Take the closure that adds to the gradients of the parents, as ``out._backward = _backward`` does.

        A closure that reads ``out.grad`` refers back to the node. Where Python can exchange what it refers to, it
        gets a stand-in, so that the graph has no cycle and dies with its last reference.
        """
        if not callable(closure):
            raise TypeError(
                f"_backward of operation {self.name!r} must be a function without arguments that adds to the gradients "
                f"of the parents; got {short_repr(closure)}"
            )
        cells = getattr(closure, "__closure__", None)
        if isinstance(closure, FunctionType) and cells:
            mine = [CellType(self._result) if _holds(cell, node) else cell for cell in cells]
            closure = FunctionType(
                closure.__code__, closure.__globals__, closure.__name__, closure.__defaults__, tuple(mine)
            )
        self._closure = closure

    def forward(self, *xs: float) -> float:
        """Return the number that was given, if these are its operands.

        Raises:
            ValueError: for other operands: nothing says how to compute the operation.
        """
        if xs != self._xs:
            raise ValueError(
                f"operation {self.name!r} was given as a number with its local derivatives, so it cannot be computed "
                f"for other operands; write it as a row: {self.name} = mg.Op({self.name!r}, forward, partials)"
            )
        return self._result.data

    def local_derivatives(self, y: Any, *xs: Any) -> tuple[Any, ...]:
        """Return dy/dx for each operand: the numbers that were given, or what the closure adds for a gradient of 1.

        Raises:
            TypeError: for Values: the derivatives of numbers, and of what a closure adds, are not known.
        """
        functions = self._numbers_or_functions
        if all(map(callable, functions)) and functions:
            return tuple([partial(y, *xs) for partial in functions if callable(partial)])
        if any(type(x) is not float for x in (y, *xs)):
            raise TypeError(
                f"operation {self.name!r} has its local derivatives as numbers, which cannot be differentiated once "
                f"more; write it as a row: {self.name} = mg.Op({self.name!r}, forward, partials)"
            )
        if self._closure is None:
            if not functions:
                raise self._unknown()
            return tuple([partial(y, *xs) if callable(partial) else float(partial) for partial in functions])
        before = [parent.grad for parent in self._parents]
        try:
            for parent in self._parents:
                parent.grad = 0.0
            self._result.data, self._result.grad = y, 1.0
            self._closure()
            found = [parent.grad for parent in self._parents]
        finally:
            for parent, grad in zip(self._parents, before, strict=True):
                parent.grad = grad
        # of an operand that occurs twice the closure adds both: the first place gets the sum
        first = [self._parents.index(parent) for parent in self._parents]
        return tuple([d if first[i] == i else 0.0 for i, d in enumerate(found)])

    def backpropagate(self, node: Any) -> None:
        """Add the node's gradient, times each local derivative, to the gradients of its parents."""
        if self._closure is not None:
            self._result.data, self._result.grad = node._data, node._grad
            self._closure()
            return
        for parent, derivative in zip(self._parents, self.local_derivatives(node._data, *self._xs), strict=True):
            parent._grad += node._grad * derivative

    def _unknown(self) -> TypeError:
        return TypeError(
            f"operation {self.name!r} was given its parents, but no local derivatives: assign out._backward = a function "
            f"that adds to the gradients of the parents, or write Value(data, parents, derivatives)"
        )

    def __reduce__(self) -> Any:
        if self._closure is not None:
            raise TypeError(
                f"operation {self.name!r} has a closure as its _backward, which cannot be copied or pickled: its parents "
                f"would be the old ones; write it as a row: {self.name} = mg.Op({self.name!r}, forward, partials)"
            )
        return Given, (self.name, self._result.data, self._parents, self._numbers_or_functions)


def _holds(cell: CellType, node: Any) -> bool:
    try:
        return cell.cell_contents is node
    except ValueError:  # an empty cell
        return False
