"""A call of a kernel as one node of an ordinary graph."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microgrid import engine, ops
from microgrid.calculus import flatten, gradient_graph
from microgrid.engine import Value
from microgrid.ops import Op

if TYPE_CHECKING:
    from microgrid.compiler.kernel import Kernel

Floats = NDArray[np.floating[Any]]


@dataclass(slots=True)
class Split:
    """An argument as plain numbers, and the Values among them by their place."""

    numbers: Any
    values: dict[int, Value] = field(default_factory=dict)
    size: int = 0

    @classmethod
    def of(cls, argument: Any, name: str) -> "Split":
        """Take an argument apart; the name is for the message if it is not made of numbers."""
        if isinstance(argument, np.ndarray) and argument.dtype != object:
            return cls(argument)
        numbers, rebuild = flatten(argument)
        values = {k: x for k, x in enumerate(numbers) if isinstance(x, Value)}
        if not values and not isinstance(argument, np.ndarray):
            return cls(argument)
        try:
            plain = [x._data if isinstance(x, Value) else ops.as_float(x) for x in numbers]
        except TypeError as error:
            raise TypeError(f"argument {name}: {error}") from None
        return cls(rebuild(plain), values, len(numbers))

    def sample(self, k: int, samples: int) -> "Split":
        """The Values of one sample."""
        step = self.size // samples
        return Split(None, {at - k * step: x for at, x in self.values.items() if at // step == k})


class CompiledCall(Op):
    """The row of one call of a kernel: its parents are the parameters, and Values among the arguments.

    Its derivatives by floats are the kernel's; by Values, for derivatives of higher order, the program is
    played back on Values.
    """

    __slots__ = ("arrays", "kernel", "last", "output", "places")

    kernel: "Kernel"
    output: int
    arrays: list[Floats]
    places: list[list[int]]
    last: tuple[Any, Any]

    def __init__(
        self, kernel: "Kernel", output: int, arrays: Sequence[Floats], places: Sequence[Iterable[int]]
    ) -> None:
        fields = {
            "name": "compiled",
            "symbol": "compiled",
            "kink": None,
            "array": "",
            "javascript": "",
            "doc": "A compiled function of its parameters, on one batch.",
            "recipe": None,
            "cuts": False,
            "kernel": kernel,
            "output": output,
            "arrays": list(arrays),
            "places": [list(place) for place in places],
            "last": ((), None),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def arity(self) -> int:
        """The number of parents."""
        return len(self.kernel.parameters) + sum(map(len, self.places))

    @property
    def domain(self) -> Any:
        """All reals, for each parent."""
        return (ops.REALS,) * self.arity

    @property
    def partials(self) -> Any:
        """A function for each parent."""
        return tuple(lambda y, *xs, i=i: self._gradient(xs)[i] for i in range(self.arity))

    def local_derivatives(self, y: Any, *xs: Any) -> tuple[Any, ...]:
        """Return the derivative by each parent."""
        return tuple(self._gradient(xs))

    def forward(self, *xs: float) -> float:
        """Run the kernel."""
        theta, batch = self._filled(xs)
        value = np.asarray(self.kernel._run("value", theta, batch)[0])
        return float(value.reshape(-1)[self.output])

    def backpropagate(self, node: Any) -> None:
        """Add the node's gradient, times each derivative, to the gradients of its parents."""
        gradient = node.grad
        parents = node.parents
        for parent, derivative in zip(parents, self._gradient([p._data for p in parents]), strict=True):
            parent.grad += gradient * derivative

    def __reduce__(self) -> Any:
        return CompiledCall, (self.kernel, self.output, self.arrays, self.places)

    def _filled(self, xs: Sequence[float]) -> tuple[Floats, list[Floats]]:
        """The parameters, and the arguments with the data of their Values."""
        signature = self.kernel.signature
        count = len(self.kernel.parameters)
        rest = iter(xs[count:])
        batch = []
        for array, places, shape in zip(self.arrays, self.places, signature.shapes, strict=True):
            if places:
                array = array.copy()
                array.ravel()[places] = [next(rest) for _ in places]
            batch.append(array.reshape(-1, *shape) if signature.batched else array.reshape(shape))
        return np.array(xs[:count], signature.dtype), batch

    def _gradient(self, xs: Sequence[Any]) -> list[Any]:
        """The derivatives by all parents; the latest are kept, as they are asked for one by one."""
        key = tuple(xs)
        last, found = self.last
        if (
            last
            and len(last) == len(key)
            and all(a is b or (type(a) is type(b) is float and a == b) for a, b in zip(last, key, strict=True))
        ):
            return found  # type: ignore[no-any-return]
        found = self._graph(xs) if any(isinstance(x, Value) for x in xs) else self._floats(xs)
        object.__setattr__(self, "last", (key, found))
        return found

    def _floats(self, xs: Sequence[float]) -> list[float]:
        theta, batch = self._filled(xs)
        count = self.kernel.signature.outputs
        seed = None if count is None else np.eye(count)[self.output]
        if self.kernel.signature.per_sample and seed is not None:
            seed = seed[None]
        if not any(self.places):
            return self.kernel._run("parameters", theta, batch, seed)[1].reshape(-1).tolist()  # type: ignore[no-any-return]
        by_theta, by_arguments = self.kernel._run("both", theta, batch, seed)[1]
        found: list[float] = by_theta.reshape(-1).tolist()
        for gradient, places in zip(by_arguments, self.places, strict=True):
            found += gradient.reshape(-1)[places].tolist()
        return found

    def _graph(self, xs: Sequence[Any]) -> list[Any]:
        """The derivatives as Values: the program, played back on Values, differentiated as any graph."""
        inputs = [ops.identity(x) if isinstance(x, Value) else engine.constant(x) for x in xs]
        count = len(self.kernel.parameters)
        rest = iter(inputs[count:])
        batch: list[list[Any]] = []
        for array, places in zip(self.arrays, self.places, strict=True):
            numbers: list[Any] = array.ravel().tolist()
            for place in places:
                numbers[place] = next(rest)
            batch.append(numbers)
        return list(gradient_graph(self.kernel.replay(inputs[:count], batch, self.output), inputs))


def node(call: CompiledCall, number: float, parents: Sequence[Value]) -> Value:
    """Return the Value of a call; a constant if it depends on no Value."""
    if not parents:
        return engine.constant(number)
    second = parents[1] if len(parents) > 1 else None
    return engine._record(call, number, parents[0], second, tuple(parents[2:]))
