"""``compile``: a function of scalars becomes one that runs on arrays."""

import functools
import inspect
import operator
import threading
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np

from microgrid import engine, ops
from microgrid.calculus import flatten
from microgrid.compiler.boxes import Box
from microgrid.compiler.call import Floats, Split
from microgrid.compiler.kernel import Kernel, Reduce, Shape, Signature, real_array
from microgrid.compiler.program import Traced, from_graph, from_values, trace, traced_leaf, without_collector
from microgrid.compiler.simplify import simplify
from microgrid.engine import Value


class Compiled:
    """A function of scalars that runs compiled: it is traced once for each structure of its arguments.

    A call returns a Value, one node of an ordinary graph, whose ``backward()`` fills the gradients of the
    parameters. ``kernel(*batch)`` gives the kernel, which works on flat arrays.
    """

    def __init__(self, function: Callable[..., Any], reduce: Reduce, batch: bool, dtype: str) -> None:
        functools.update_wrapper(self, function)
        self.function, self.reduce, self.batch, self.dtype = function, reduce, batch, dtype
        self._kernels: dict[tuple[Shape, ...], tuple[Kernel, list[Value]]] = {}
        self._lock = threading.RLock()

    def __call__(self, *batch: Any) -> Any:
        """Return the function of a batch as a Value; see ``Kernel.__call__``."""
        if any(type(x) is Traced for argument in batch for x in _numbers(argument)):
            return self._inline(batch)
        split = [Split.of(argument, name) for argument, name in zip(batch, self._names(len(batch)), strict=True)]
        return self.kernel(*[part.numbers for part in split])(*batch)

    def __get__(self, instance: Any, owner: type) -> Any:
        """Bind a compiled method to its object."""
        if instance is None:
            return self
        return Compiled(MethodType(self.function, instance), self.reduce, self.batch, self.dtype)

    def kernel(self, *batch: Any) -> Kernel:
        """Return the kernel for arguments like these, traced and compiled at the first call.

        If the leaves that the function reaches are not those it was traced with, it is traced again.
        """
        names = self._names(len(batch))
        arrays = [real_array(argument, name, self.dtype) for argument, name in zip(batch, names, strict=True)]
        batched = self.batch and bool(arrays)
        for array, name in zip(arrays, names, strict=True):
            if batched and not array.ndim:
                raise ValueError(f"argument {name} must have a leading axis over the samples; got one number")
            if batched and not len(array):
                raise ValueError(f"argument {name} has no samples; give at least one")
        shapes = tuple(array.shape[batched:] for array in arrays)
        with self._lock:
            captured = list(_captured(self.function))
            if shapes in self._kernels:
                kernel, known = self._kernels[shapes]
                if len(known) == len(captured) and all(map(operator.is_, known, captured)):
                    return kernel
            samples = [array[0] if batched else array for array in arrays]
            kernel = _traced_kernel(
                self.function, samples, Signature(tuple(names), shapes, batched, self.reduce, None, self.dtype)
            )
            self._kernels[shapes] = kernel, captured
            return kernel

    def boxes(self) -> list[Box]:
        """Return the boxes of its kernel, for a drawing, if it has one so far; see ``Kernel.boxes``.

        Raises:
            ValueError: if it has none so far, or several for arguments of several shapes.
        """
        return self._only_kernel().boxes()

    @property
    def traced(self) -> int:
        """How many nodes the function recorded; a ``ValueError`` as for ``boxes``."""
        return self._only_kernel().traced

    def _only_kernel(self) -> Kernel:
        with self._lock:
            kernels = [kernel for kernel, _ in self._kernels.values()]
        if len(kernels) != 1:
            name = getattr(self.function, "__name__", "f")
            raise ValueError(
                f"{name} has {len(kernels) or 'no'} kernel{'s' * (len(kernels) > 1)} so far, one for each shape of its "
                f"arguments: say which is meant, {name}.kernel(…) with arguments as you would call it with"
            )
        return kernels[0]

    def _names(self, count: int) -> list[str]:
        try:
            parameters = list(inspect.signature(self.function).parameters)
        except (TypeError, ValueError):
            parameters = []
        return [parameters[k] if k < len(parameters) else f"number {k + 1}" for k in range(count)]

    def _inline(self, batch: Sequence[Any]) -> Any:
        """Within the trace of another function, become a part of it."""
        if not self.batch:
            return self.function(*batch)
        results = [self.function(*sample) for sample in zip(*batch, strict=True)]
        if self.reduce is None:
            return results
        total = ops.total(results)
        return total / len(results) if self.reduce == "mean" else total


def compile(  # it stands beside Python's own name in our namespace alone
    f: Any = None,
    *,
    inputs: Sequence[Any] = (),
    reduce: Reduce = "mean",
    batch: bool = True,
    dtype: str = "float64",
) -> Any:
    """Compile a function of scalars, or a graph, to a program on arrays.

    ``f`` is written for one sample, in scalars, and is run once on Values to see what it computes. Leaves
    that it finds outside its arguments are its parameters. Also a decorator.

    >>> w = Value(2.0)
    >>> loss = compile(lambda x, y: (w * x - y) ** 2)
    >>> error = loss([1.0, 2.0], [2.0, 5.0])
    >>> error.data, error.backward(), w.grad
    (0.5, None, -2.0)

    Args:
        f: the function; or a Value or a list of Values, a graph that exists already.
        inputs: for a graph, the leaves that become arguments: one argument per leaf or list of leaves.
            The other leaves are parameters.
        reduce: how the outputs of the samples become one: ``"mean"``, ``"sum"``; ``None`` keeps them apart.
        batch: whether the arguments have a leading axis over samples; without it they are one sample.
        dtype: ``"float64"``, or ``"float32"``.

    Returns:
        A ``Compiled`` function; for a graph its ``Kernel``.

    Raises:
        TraceError: from the first call, if ``f`` branches on a traced value or reads its data.
        TypeError: if ``f`` is neither a function nor Values.
        ValueError: for an unknown ``reduce`` or ``dtype``.
    """
    if reduce not in ("mean", "sum", None):
        raise ValueError(f"reduce must be 'mean', 'sum' or None; got {reduce!r}")
    if dtype not in ("float64", "float32"):
        raise ValueError(f"dtype must be 'float64' or 'float32'; got {dtype!r}")
    if f is None:
        return lambda function: compile(function, reduce=reduce, batch=batch, dtype=dtype)
    if isinstance(f, (Value, list, tuple)):
        return _graph_kernel(f, inputs, reduce, batch, dtype)
    if not callable(f):
        raise TypeError(f"compile() takes a function, a Value or a list of Values; got {f!r}")
    return Compiled(f, reduce, batch, dtype)


def _traced_kernel(function: Callable[..., Any], samples: Sequence[Floats], signature: Signature) -> Kernel:
    """Run a function on traced numbers and make its kernel."""
    inputs: list[list[Value]] = []
    arguments = []
    for sample in samples:
        inputs.append([traced_leaf(number) for number in sample.ravel().tolist()])
        arguments.append(_nested(iter(inputs[-1]), sample.shape))
    result, nodes = trace(lambda: function(*arguments))
    numbers, _ = flatten(result)
    name = getattr(function, "__name__", "the function")
    outputs = _output_values(numbers, name)
    with without_collector():
        program, parameters = from_values(nodes, outputs, inputs)
        signature.outputs = None if numbers and numbers[0] is result else len(outputs)
        return Kernel(simplify(program), parameters, signature, len(program))


def _graph_kernel(f: Any, inputs: Sequence[Any], reduce: Reduce, batch: bool, dtype: str) -> Kernel:
    numbers, _ = flatten(f)
    leaves, shapes = [], []
    for argument in inputs:
        values, _ = flatten(argument)
        for value in values:
            if not isinstance(value, Value) or value.first is not None:
                raise TypeError(f"inputs must be leaves of the graph, or lists of leaves; got {value!r}")
        leaves.append(values)
        shapes.append(_shape_of(argument))
    program, parameters = from_graph(_output_values(numbers, "the graph"), leaves)
    names = tuple(getattr(argument, "label", "") or f"input {k}" for k, argument in enumerate(inputs))
    outputs = None if isinstance(f, Value) else len(numbers)
    signature = Signature(names, tuple(shapes), batch and bool(inputs), reduce, outputs, dtype)
    return Kernel(simplify(program), parameters, signature, len(program))


def _shape_of(argument: Any) -> Shape:
    return () if isinstance(argument, Value) else (len(argument), *_shape_of(argument[0]))


def _output_values(numbers: Sequence[Any], name: str) -> list[Value]:
    if not numbers:
        raise TypeError(f"{name} must return a number or several; it returned an empty structure")
    outputs = []
    for number in numbers:
        try:
            outputs.append(number if isinstance(number, Value) else engine.constant(number))
        except TypeError as error:
            raise TypeError(f"{name} must return numbers: {error}") from None
    return outputs


def _nested(numbers: Iterator[Any], shape: Shape) -> Any:
    """Numbers in nested lists of a shape."""
    return [_nested(numbers, shape[1:]) for _ in range(shape[0])] if shape else next(numbers)


def _numbers(argument: Any) -> Iterator[Any]:
    """The numbers of an argument in which there may be Values."""
    if isinstance(argument, np.ndarray) and argument.dtype != object:
        return iter(())
    return iter(flatten(argument)[0])


def _captured(function: Any) -> Iterator[Value]:
    """Yield the leaves that a function can reach outside of its arguments: through its closure, the globals
    that it names, its defaults and its object; in lists, dicts, modules with ``parameters()``, objects.
    """
    seen: set[int] = set()
    stack: list[Any] = [function]
    while stack:
        x = stack.pop()
        if isinstance(x, Value):
            if x.first is None:
                yield x
            continue
        if isinstance(x, (str, bytes, int, float, complex, type, type(np), np.ndarray, CodeType)) or x is None:
            continue
        if id(x) in seen:
            continue
        seen.add(id(x))
        if isinstance(x, FunctionType):
            stack += [cell.cell_contents for cell in x.__closure__ or () if _filled(cell)]
            stack += [x.__globals__[name] for name in _names_in(x.__code__) if name in x.__globals__]
            stack += x.__defaults__ or ()
        elif isinstance(x, MethodType):
            stack += [x.__self__, x.__func__]
        elif isinstance(x, dict):
            stack += x.values()
        elif isinstance(x, (list, tuple, set, frozenset)):
            stack += x
        elif callable(getattr(x, "parameters", None)):
            stack.append(list(x.parameters()))
        elif not getattr(type(x), "__module__", "").startswith(("builtins", "microgrid.ops")):
            stack += getattr(x, "__dict__", {}).values()


def _names_in(code: CodeType) -> set[str]:
    inner = [_names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*inner)


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a variable that is not assigned yet
        return False
