"""Nodes whose local derivatives the user gives, as in programs written for micrograd and similar engines.

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
from functools import partial as partial_call
from types import CellType, FunctionType, MethodType
from typing import Any, ClassVar, NoReturn, Self

from microgrid.builds import mypyc_attr
from microgrid.ops.op import REALS, Interval, Op, Partial, local_derivative, number, short_repr
from microgrid.ops.operators import Operators
from microgrid.ops.table import power_of, stop_gradient
from microgrid.recording import hooks, is_recording, open_blocks


class Given:
    """An operation of one node: its name, and the local derivatives as numbers, as functions or as a closure.

    A closure reads ``out.grad`` and adds to the gradients of the parents. It is kept and run at each ``backward()``,
    but holds its node only while it runs, so the graph has no cycle and dies with its last reference.

    Args:
        name: its name in drawings and reports.
        y: the result.
        xs: the operands.
        partials: for each operand its local derivative: a number, a function of (y, *xs) as in an ``Op``, or one
            without arguments; empty if a closure is to follow.

    Attributes:
        closure: the function that was assigned to ``_backward``; ``None`` if there is none.
    """

    __slots__ = ("_arguments", "_cells", "_defaults", "_keywords", "_partials", "_xs", "_y", "closure", "name")

    kink: ClassVar[None] = None
    recipe: ClassVar[None] = None
    array: ClassVar[str] = ""
    javascript: ClassVar[str] = ""
    ufunc: ClassVar[str] = ""
    operator: ClassVar[str] = ""
    formula: ClassVar[str] = ""
    python: ClassVar[str] = ""
    expansion: ClassVar[None] = None
    doc: ClassVar[str] = "Given by the user as a number, with its local derivatives."
    cuts: ClassVar[bool] = False

    def __init__(self, name: str, y: float, xs: Sequence[float], partials: Sequence[Any] = ()) -> None:
        if partials and len(partials) != len(xs):
            raise ValueError(
                f"operation {name!r} was given {len(xs)} parent(s) and {len(partials)} local derivative(s): "
                "give one for each parent"
            )
        self.name: str = name
        self.closure: Callable[[], Any] | None = None
        self._y: float = y
        self._xs: tuple[float, ...] = tuple(xs)
        self._cells: tuple[CellType, ...] = ()
        self._defaults: tuple[Any, ...] = ()
        self._arguments: tuple[Any, ...] = ()
        self._keywords: dict[str, Any] = {}
        self._partials: tuple[Partial | float, ...] = ()
        if partials:
            self._partials = tuple([
                partial if _is_function(partial) else number(self, partial, "local derivative")
                for partial in partials
            ])  # fmt: skip

    @property
    def arity(self) -> int:
        """The number of operands."""
        return len(self._xs)

    @property
    def symbol(self) -> str:
        """The name."""
        return self.name

    @property
    def domain(self) -> tuple[Interval, ...]:
        """All reals, for each operand."""
        return (REALS,) * self.arity

    @property
    def connected(self) -> tuple[bool, ...]:
        """True for each operand: a derivative that is 0 here may differ elsewhere."""
        return (True,) * self.arity

    @property
    def is_known(self) -> bool:
        """Whether there are local derivatives: not yet between making a node and assigning its ``_backward``."""
        return self.closure is not None or bool(self._partials) or not self.arity

    @property
    def partials(self) -> tuple[Partial | float, ...]:
        """For each operand a function of (y, *xs), which raises if the derivative is known at only one point."""
        if not self._partials:
            return (self._refuse,) * self.arity
        return tuple([
            partial if callable(partial) and not _takes_nothing(partial) else self._refuse for partial in self._partials
        ])  # fmt: skip

    def local_derivatives(self, y: Any, *xs: Any) -> tuple[Any, ...]:
        """Return dy/dx for each operand, for floats or Values.

        Raises:
            ValueError: unless all are functions of (y, *xs): numbers and closures hold at one point only.
        """
        return tuple([local_derivative(self, partial, y, *xs) for partial in self.partials if callable(partial)])

    def derivatives_at(self, node: Any) -> tuple[float, ...]:
        """Return dy/dx for each parent of the node at the present data; a closure is run with the gradient 1.

        Raises:
            TypeError: if none were given yet.
        """
        if self.closure is not None:
            return self._added(node)
        self._require()
        return tuple([
            partial if isinstance(partial, float) else self._called(partial, node) for partial in self._partials
        ])  # fmt: skip

    def backpropagate(self, node: Any) -> None:
        """Add the node's gradient, times each local derivative, to the gradients of its parents."""
        if self.closure is not None:
            self._run(node)
            return
        gradient: float = node._grad
        for parent, derivative in zip(node.parents, self.derivatives_at(node), strict=True):
            parent._grad += gradient * derivative

    def forward(self, *xs: float) -> float:
        """Return the number that was given, if these are its operands.

        Raises:
            ValueError: for other operands: nothing says how to compute the operation.
        """
        if any(x != was and x == x for x, was in zip(xs, self._xs, strict=True)):
            raise ValueError(
                f"operation {self.name!r} was given as a number with its local derivatives, so it cannot be computed "
                f"for other operands; {self.remedy}"
            )
        return self._y

    @property
    def remedy(self) -> str:
        """The remedy where a number and its derivatives at one point do not suffice."""
        return f"write it as a row: {self.name} = mg.Op({self.name!r}, forward, partials)"

    def settled(self, node: Any) -> "Given":
        """Return a copy with the local derivatives as numbers, at the present data."""
        return Given(self.name, node._data, self._xs, self.derivatives_at(node) if self.is_known else ())

    def __reduce__(self) -> Any:
        return Given, (self.name, self._y, self._xs, self._partials)

    def assign(self, closure: Callable[[], Any], node: Any) -> None:
        """Take the closure of a node."""
        if not callable(closure):
            raise TypeError(
                f"_backward of operation {self.name!r} must be a function without arguments that adds to the gradients "
                f"of the parents; got {short_repr(closure)}"
            )
        self._cells = self._defaults = self._arguments = ()
        self._keywords = {}
        if isinstance(closure, MethodType) and closure.__self__ is node:
            closure = partial_call(closure.__func__, node)
        if isinstance(closure, partial_call):
            self._arguments = tuple([_NODE if x is node else x for x in closure.args])
            self._keywords = {name: _NODE if x is node else x for name, x in closure.keywords.items()}
            closure = closure.func
        if isinstance(closure, FunctionType):
            cells: list[CellType] = []
            for cell in closure.__closure__ or ():
                if _holds(cell, node):
                    cell = CellType()
                    self._cells = (*self._cells, cell)
                cells.append(cell)
            defaults = closure.__defaults__
            mine = FunctionType(closure.__code__, closure.__globals__, closure.__name__, defaults, tuple(cells))
            named = closure.__kwdefaults__ or {}
            self._keywords = {**{name: _NODE for name, default in named.items() if default is node}, **self._keywords}
            mine.__kwdefaults__ = {name: default for name, default in named.items() if default is not node}
            if defaults and any(default is node for default in defaults):
                self._defaults = tuple([_NODE if default is node else default for default in defaults])
                mine.__defaults__ = self._defaults
            closure = mine
        self.closure = closure

    def _called(self, partial: Partial, node: Any) -> float:
        if _takes_nothing(partial):
            return number(self, partial(), "local derivative")
        xs = [parent._data for parent in node.parents]
        return number(self, local_derivative(self, partial, node._data, *xs), "local derivative")

    def _run(self, node: Any) -> None:
        assert self.closure is not None
        function: Any = self.closure
        for cell in self._cells:
            cell.cell_contents = node
        if self._defaults:
            function.__defaults__ = tuple([node if default is _NODE else default for default in self._defaults])
        try:
            function(
                *[node if x is _NODE else x for x in self._arguments],
                **{name: node if x is _NODE else x for name, x in self._keywords.items()},
            )
        except TypeError as error:
            if type(error) is not TypeError:  # one that says more
                raise
            raise TypeError(f"operation {self.name!r}: its _backward, called without arguments: {error}") from error
        finally:
            for cell in self._cells:
                del cell.cell_contents
            if self._defaults:
                function.__defaults__ = self._defaults

    def misuse(self, node: Any) -> str:
        """Say how the closure misuses gradients, whatever the local derivatives; empty if it does not."""
        if self.closure is None:
            return ""
        once, rule = self._added(node), "the chain rule has x.grad += derivative * out.grad"
        for again, factor, what in (
            (self._added(node, 2.0), 2.0, "does not multiply by the gradient of its node"),
            (self._added(node, 1.0, 1.0), 1.0, "sets the gradient of a parent where it must add to it"),
        ):
            if any(abs(a - factor * b) > 1e-9 * max(abs(b), 1.0) for a, b in zip(again, once, strict=True)):
                return f"The _backward of {self.name} {what}: {rule}."
        return ""

    def _added(self, node: Any, seed: float = 1.0, start: float = 0.0) -> tuple[float, ...]:
        """The closure's contribution to each parent's gradient; to the first place of a parent that occurs twice."""
        parents = node.parents
        before, gradient = [parent._grad for parent in parents], node._grad
        try:
            for parent in parents:
                parent._grad = start
            node._grad = seed
            self._run(node)
            found: dict[int, float] = {id(parent): parent._grad - start for parent in parents}
        finally:
            for parent, was in zip(parents, before, strict=True):
                parent._grad = was
            node._grad = gradient
        return tuple([found.pop(id(parent), 0.0) for parent in parents])

    def _require(self) -> None:
        if not self.is_known:
            raise TypeError(
                f"operation {self.name!r} was given its parents, but no local derivatives: assign out._backward = a "
                "function that adds to the gradients of the parents, or write Value(data, parents, derivatives)"
            )

    def _refuse(self, *_: Any) -> NoReturn:
        raise ValueError(
            f"operation {self.name!r} was given as a number with its local derivatives, which are known at this point "
            f"only and cannot be differentiated once more; {self.remedy}"
        )


_NODE = object()
"""Stands for the node among what its closure is called with, while that does not run."""


@mypyc_attr(acyclic=True, allow_interpreted_subclasses=True)
class Familiar(Operators):
    """The names that code written for micrograd uses, and some of PyTorch's."""

    __slots__ = ()

    def item(self) -> float:
        """Return the number, as ``v.data``: PyTorch's name."""
        node: Any = self
        number: float = node.data
        return number

    def detach(self) -> Self:
        """Return the same number behind which nothing flows back, as ``mg.stop_gradient(v)``: PyTorch's name."""
        same: Self = stop_gradient(self)
        return same

    def square(self) -> Self:
        """Return v²."""
        squared: Self = self * self
        return squared

    def zero_grad(self) -> None:
        """Set the gradient of this one value to 0; that of a module sets those of all its parameters."""
        node: Any = self
        node._grad = 0.0

    @property
    def _prev(self) -> Any:
        node: Any = self
        return set(node.parents)

    @_prev.setter
    def _prev(self, _: Any) -> None:
        raise AttributeError("the operands of a node are given when it is made: out = Value(data, parents, name)")

    @property
    def _op(self) -> str:
        node: Any = self
        op: Any = node.op
        if isinstance(op, Op) and op.recipe is not None and op.recipe[0] is power_of:
            return f"**{op.recipe[1][0]:g}"
        names: dict[str, str] = {"mul": "*", "sub": "-", "div": "/"}
        return names.get(op.name, op.symbol) if node.parents else ""

    @property
    def _backward(self) -> Callable[[], None]:
        node: Any = self
        return lambda: node.op.backpropagate(node)

    @_backward.setter
    def _backward(self, closure: Callable[[], Any]) -> None:
        node: Any = self
        op: Any = node.op
        if isinstance(op, Given) and not op._partials:
            op.assign(closure, node)
        elif node.parents:
            raise TypeError(
                f"{node!r} has the local derivatives of {op.name!r} already: a node of your own is "
                "out = Value(data, parents, name), which takes out._backward = a function"
            )
        elif is_recording():  # else it has become a leaf
            raise TypeError(
                f"{node!r} is a leaf, which passes its gradient on to nothing: assign _backward to the result, made as "
                "out = Value(data, parents, name)"
            )


def give(node: Any, parents: Any, how: tuple[Any, ...]) -> None:
    """Make a node of one that the user computed.

    Args:
        node: a leaf.
        parents: the operands; text is the label.
        how: the operation's name, the local derivatives, or ``None``, for each keyword of such programs.
    """
    if isinstance(parents, str):
        node.label = parents
        return
    if isinstance(parents, Familiar) or not hasattr(type(parents), "__iter__"):
        raise TypeError(
            f"label must be text, and each number is a Value of its own; got {short_repr(parents)}; the parents of a "
            "number that you computed are a tuple of Values: Value(data, (x,), name)"
        )
    operands: tuple[Any, ...] = tuple(parents)
    for parent in operands:
        if not isinstance(parent, Familiar):
            raise TypeError(f"a parent must be a Value; got {short_repr(parent)} of type {type(parent).__name__}")
    name: str = ""
    partials: tuple[Any, ...] = ()
    for found in how:
        if found is None:
            pass
        elif isinstance(found, str):
            name = name or found
        elif hasattr(type(found), "__iter__"):
            partials = tuple(found)
        else:
            raise TypeError(
                "the local derivatives are a tuple, one for each parent, or out._backward = a function; got "
                f"{short_repr(found)}"
            )
    if not operands and not partials:  # a leaf that says so
        return
    node.op = Given(name or "given", node._data, [parent._data for parent in operands], partials)
    node.first = operands[0]
    node.second = operands[1] if len(operands) > 1 else None
    node.others = operands[2:]
    if open_blocks:
        for hook in hooks.get():
            hook(node)


def _is_function(partial: Any) -> bool:
    return callable(partial) and not isinstance(partial, Familiar)


def _takes_nothing(partial: Any) -> bool:
    """Whether a local derivative is a function without arguments, or one whose arguments all have defaults."""
    if not isinstance(partial, FunctionType):
        return False
    code = partial.__code__
    takes_any = code.co_flags & 0x04  # *xs
    return not takes_any and code.co_argcount == len(partial.__defaults__ or ())


def _holds(cell: CellType, node: Any) -> bool:
    try:
        return cell.cell_contents is node
    except ValueError:  # an empty cell
        return False
