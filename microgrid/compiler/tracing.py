"""The trace: a function is run once, on Values that know that their numbers stand for those of every sample.

What it records, in the order in which it records it, is the program.
"""

import gc
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, SupportsFloat

from microgrid import ops
from microgrid.engine import Value, topological_order
from microgrid.node import announce_reads
from microgrid.ops import LEAF, Op
from microgrid.recording import enable_grad, kinds, user_line, watch, watch_reads


class TraceError(TypeError):
    """The function did something with a traced number that a compiled program cannot repeat.

    >>> mg.compile(lambda x: x if x > 0 else -x)([1.0])
    Traceback (most recent call last):
    microgrid.compiler.tracing.TraceError: a branch on a traced value...
    """


class Traced(Value):
    """A Value of a function being traced: what is done with it is recorded, so its number must not matter."""

    __slots__ = ()

    def _refuse(self, what: str, remedy: str) -> NoReturn:
        raise TraceError(
            f"{what} at {user_line()}: while a function is compiled its numbers stand for every sample "
            f"of every batch, so the program cannot depend on one of them; {remedy}"
        )

    def _branch(self, *_: Any) -> NoReturn:
        self._refuse(
            "a branch on a traced value",
            "for a choice write mg.where(mg.less(a, b), x, y), mg.maximum(a, b) or mg.minimum(a, b)",
        )

    def __eq__(self, other: object) -> bool:
        if hasattr(other, "__float__"):
            what = "another value" if isinstance(other, Value) else repr(other)
            self._refuse(f"a traced value was compared to {what} by == or !=", "write mg.where(mg.equal(a, b), x, y)")
        return False

    __bool__ = __lt__ = __le__ = __gt__ = __ge__ = _branch

    def __float__(self) -> NoReturn:
        self._refuse(
            "a traced value was made a plain float",
            "use a function of this package, which stays in the program: mg.sin(v) or np.sin(v), not math.sin(v)",
        )

    def __int__(self) -> NoReturn:
        self._refuse("a traced value was made a whole number", "write mg.floor(v), which stays in the program")

    def __index__(self) -> NoReturn:
        self._refuse(
            "a traced value was used as an index or as a count",
            "choose among values, or among the rows of a table, by mg.take(values, v), which stays in the program; or "
            "give the number to the function from outside, as a plain int",
        )

    __hash__ = Value.__hash__

    def _read(self) -> NoReturn:
        self._refuse(
            "the .data of a traced value was read",
            "use the value itself, or mg.stop_gradient(x); an operation of your own is a row, mg.Op(name, forward, "
            "partials)",
        )

    def _write(self, _: Any) -> NoReturn:
        self._refuse("the .data of a traced value was written", "make a new value by operations instead")

    data = property(_read, _write)

    def backward(self, gradient: SupportsFloat = 1.0) -> None:
        """Do what a Value does, if no number of an argument or a parameter is in it: its gradients are numbers."""
        leaves = [node for node in topological_order(self) if node.op is LEAF]
        if any(type(leaf) is Traced for leaf in leaves):
            self._refuse("backward() of a traced value", "take derivatives by mg.grad(f) or mg.gradient_graph(y, [x])")
        announce_reads(*leaves)
        super().backward(gradient)


Traced.__name__ = "traced value"  # as Python's own messages call it: unsupported operand type for <<


def _comparison(row: Op) -> Callable[[Value, object], Value]:
    return lambda self, other: row(self, other)  # type: ignore[call-overload]


class Compared(Traced):
    """A traced Value in the condition of a loop: there a comparison is an operation, not a branch."""

    __slots__ = ()

    __lt__, __le__ = _comparison(ops.less), _comparison(ops.less_equal)  # type: ignore[assignment]
    __gt__, __ge__ = _comparison(ops.greater), _comparison(ops.greater_equal)  # type: ignore[assignment]
    __eq__, __ne__ = _comparison(ops.equal), _comparison(ops.not_equal)  # type: ignore[assignment]

    def __bool__(self) -> NoReturn:
        self._refuse(
            "a traced comparison was asked whether it holds, as and, or, not, max and all do",
            "join conditions by mg.minimum(a, b) for and, mg.maximum(a, b) for or, 1 - a for not, and take "
            "mg.maximum(*numbers) for the largest",
        )

    __hash__ = Value.__hash__


Compared.__name__ = Traced.__name__


def traced_leaf(number: float) -> Traced:
    """Return a leaf that stands for a number of an argument."""
    return Traced(number)


@contextmanager
def without_collector() -> Iterator[None]:
    """Switch the garbage collector off: a trace makes many objects and no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def trace(function: Callable[[], Any], known: Container[Value] = ()) -> tuple[Any, list[Value]]:
    """Run a function and return its result and the nodes that it recorded, in order.

    Args:
        function: what to run.
        known: Values that were there before: their numbers must not be read, for they may change.

    Raises:
        TraceError: if a number is read, or something branches on it, that is traced or known.
    """
    nodes: list[Value] = []

    def refuse(node: Value) -> None:
        if node in known:
            raise TraceError(
                f"the number of {node!r} was read, or decided a branch, at {user_line()}: a compiled function "
                "gets the numbers of its parameters anew at every call, so the program cannot depend on the present "
                "one; use the value itself, mg.stop_gradient(x), mg.where(mg.less(a, b), x, y), or keep a plain "
                "number instead of a Value: when it changes the function is traced anew; an operation of your own is a "
                "row, mg.Op(name, forward, partials)"
            )

    with without_collector(), enable_grad(), watch(nodes.append), watch_reads(refuse):
        tokens = kinds.set(Traced), ops.alone.set(True)
        try:
            return function(), nodes
        finally:
            kinds.reset(tokens[0])
            ops.alone.reset(tokens[1])
