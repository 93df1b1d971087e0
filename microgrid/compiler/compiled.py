"""``compile``: a function of scalars becomes one that runs on arrays."""

import functools
import inspect
import itertools
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

import numpy as np

from microgrid import engine, ops
from microgrid.calculus import flatten
from microgrid.compiler.boxes import Box
from microgrid.compiler.call import Split, called, samples_within, spelling_out
from microgrid.compiler.capture import ADVICE, Capture, Generators
from microgrid.compiler.kernel import Kernel
from microgrid.compiler.program import from_graph, from_values
from microgrid.compiler.signature import Floats, Reduce, Shape, Signature, real_array
from microgrid.compiler.simplify import simplify
from microgrid.compiler.targets import named as target_named
from microgrid.compiler.tracing import Traced, TraceError, trace, traced_leaf, without_collector
from microgrid.engine import Value
from microgrid.nn import Dropout, factors_of


class Compiled:
    """A function of scalars that runs compiled.

    It is traced once for each structure of its arguments, and anew when something that it reaches outside of them
    has changed: a number, a flag, a leaf, a function (see ``capture``); the latest few states keep their kernels.
    A call returns what the function returns, with a Value for each number; ``backward()`` of such a Value, one node
    of an ordinary graph, fills the gradients of the parameters. ``kernel(*batch)`` gives the kernel, which works on
    flat arrays.

    A compiled method has its kernels for each object, and does not keep the object alive; unless something else that
    it reaches leads back to it. An object whose class has ``__slots__`` without ``"__weakref__"`` is traced at every
    call: add that, or compile its bound method once.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        reduce: Reduce,
        batch: bool,
        dtype: str,
        target: str | None = None,
        threads: int = 1,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function, self.reduce, self.batch, self.dtype, self.target = function, reduce, batch, dtype, target
        self.threads = threads
        self._name = getattr(function, "__name__", "the function")
        self._object: Any = None
        self._traces = _Traces()
        self._objects: dict[int, tuple[weakref.ref[Any], _Traces]] = {}

    def __call__(self, *batch: Any, **named: Any) -> Any:
        """Return the function of a batch, with a Value for each number; see ``Kernel.__call__``.

        Arguments are arrays, nested lists, or dicts of them; without a batch axis lists of such too, as a list of
        the weights and the biases of each layer. With ``reduce=None`` it is a list with an entry per sample.
        """
        if any(type(x) is Traced for argument in (*batch, *named.values()) for x in _numbers(argument)):
            return self._inline(batch, named)
        structure, leaves = self._taken_apart(batch, named)
        split = [Split.of(leaf, name) for name, leaf in leaves]
        variant = self._variant(structure, [name for name, _ in leaves], [part.numbers for part in split])
        if self._traces.in_a_row == _STATES:
            warnings.warn(
                f"{self._name} was traced anew at each of its last {_STATES} calls, which takes long, for something it "
                f"reaches had changed: {self._traces.changed}. Hand in as an argument what changes at every call",
                stacklevel=2,
            )
        if (spelled := spelling_out.get()) is not None and not variant.drops:
            spelled += self._spelled_out(variant, structure, [leaf for _, leaf in leaves])
        if variant.drops:
            split.append(Split(variant.factors(len(np.asarray(split[0].numbers)) if variant.batched else None)))
        result = called(variant.kernel, split)
        if not variant.kernel.signature.per_sample:
            return variant.structured(result)
        return [variant.structured(sample) for sample in result]

    def __get__(self, instance: Any, owner: type) -> Any:
        """Bind a compiled method to its object."""
        if instance is None:
            return self
        method = MethodType(self.function, instance)
        bound = Compiled(method, self.reduce, self.batch, self.dtype, self.target, self.threads)
        objects, key = self._objects, id(instance)
        with self._traces.lock:
            if key not in objects:
                try:
                    objects[key] = weakref.ref(instance, lambda _: objects.pop(key, None)), bound._traces
                except TypeError:  # it cannot be referred to weakly
                    return bound
            bound._traces = objects[key][1]
        bound._object = instance
        return bound

    def __repr__(self) -> str:
        try:
            signature = str(inspect.signature(self.function))
        except (TypeError, ValueError):
            signature = "(…)"
        count = sum(map(len, self._traces.variants.values()))
        return f"<compiled {self._name}{signature}, {count or 'no'} kernel{'s' * (count != 1)} so far>"

    def kernel(self, *batch: Any, **named: Any) -> Kernel:
        """Return the kernel for arguments like these, traced and compiled when it is first needed.

        Each argument of the kernel is an array: of a dict there is one for each entry. If the function drops at
        random, the last one is the factors of ``Dropout``, a row for each sample.
        """
        return self.variant(*batch, **named).kernel

    def variant(self, *batch: Any, **named: Any) -> "Variant":
        """Return what a call with arguments like these runs, in the present state of all that the function reaches."""
        structure, leaves = self._taken_apart(batch, named)
        return self._variant(structure, [name for name, _ in leaves], [leaf for _, leaf in leaves])

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
        with self._traces.lock:
            kernels = [variants[0].kernel for variants in self._traces.variants.values()]
        if len(kernels) != 1:
            name = getattr(self.function, "__name__", "f")
            raise ValueError(
                f"{name} has {len(kernels) or 'no'} kernel{'s' * (len(kernels) > 1)} so far, one for each shape of its "
                f"arguments: say which is meant, {name}.kernel(…) with arguments as you would call it with"
            )
        return kernels[0]

    def _reaches(self) -> list[Any]:
        """What matters of it to a function that calls it."""
        return [self.function]

    @functools.cached_property
    def _parameters(self) -> list[str]:
        try:
            return list(inspect.signature(self.function).parameters)
        except (TypeError, ValueError):
            return []

    def _taken_apart(self, batch: Sequence[Any], named: dict[str, Any]) -> tuple["Structure", list[tuple[str, Any]]]:
        """The arguments as arrays with their names, and how to put such together again."""
        leaves: list[tuple[str, Any]] = []
        known = self._parameters
        names = [known[k] if k < len(known) else f"number {k + 1}" for k in range(len(batch))]
        positional = tuple([_take_apart(x, name, leaves, self.batch) for x, name in zip(batch, names, strict=True)])
        by_name = tuple([(name, _take_apart(x, name, leaves, self.batch)) for name, x in named.items()])
        return (positional, by_name), leaves

    def _variant(self, structure: "Structure", names: Sequence[str], leaves: Sequence[Any]) -> "Variant":
        arrays = [real_array(leaf, name, self.dtype) for leaf, name in zip(leaves, names, strict=True)]
        batched = self.batch and bool(arrays)
        for array, name in zip(arrays, names, strict=True):
            if batched and not array.ndim:
                raise ValueError(
                    f"argument {name} must have a leading axis over the samples; got one number. "
                    "For one sample write [x], or compile(f, batch=False)"
                )
            if batched and not len(array):
                raise ValueError(f"argument {name} has no samples; give at least one")
        shapes = tuple(array.shape[batched:] for array in arrays)
        traces = self._traces
        with traces.lock:
            key = type(self._object), structure, shapes
            variants = traces.variants.get(key, [])
            for k, variant in enumerate(variants):
                if variant.capture.holds():
                    variants.insert(0, variants.pop(k))
                    traces.in_a_row = 0
                    return variant
            samples = [array[0] if batched else array for array in arrays]
            signature = Signature(tuple(names), shapes, batched, self.reduce, None, self.dtype, self.threads)
            if variants:
                traces.in_a_row += 1
                traces.changed = variants[0].capture.changed()
            variant = self._trace_anew(structure, samples, signature)
            traces.variants[key] = [variant, *variants[: _STATES - 1]]
            return variant

    def _trace_anew(self, structure: "Structure", samples: Sequence[Floats], signature: Signature) -> "Variant":
        """Run the function on traced numbers and make its kernel; run it again if that may give something else."""
        capture = Capture(self.function, self._object)
        generators = Generators(capture.generators)
        try:
            with generators.kept(self._name):
                trace = _Trace(self.function, structure, samples, capture.values)
        except (ValueError, TypeError) as error:
            if signature.batched and not isinstance(error, TraceError):
                each = zip(signature.names, signature.shapes, strict=True)
                shapes = ", ".join(f"one sample of {name} has the shape {shape}" for name, shape in each)
                error.add_note(f"The first axis counts the samples: {shapes}; batch=False leaves it out.")
            raise
        if capture.uncertain or not capture.holds():
            with generators.kept(self._name):
                again = _Trace(self.function, structure, samples, capture.values)
            if not trace.is_repeated_by(again, capture.values):
                raise TraceError(
                    f"{self._name} did something else when it was run a second time ({capture.changed()}): it "
                    f"counts, draws random numbers, or reads the clock or a file, and {ADVICE}"
                )
            capture = Capture(self.function, self._object)
        factors = sum(count for _, count in trace.drops)
        signature.outputs = None if trace.alone else len(trace.program.outputs)
        if factors:
            signature.names += ("factors of Dropout",)
            signature.shapes += ((factors,),)
        with without_collector():
            program = simplify(trace.program)
            kernel = Kernel(program, trace.parameters, signature, len(trace.program), self.target)
        kernel.modules = capture.modules
        return Variant(kernel, capture, trace.rebuild, trace.drops)

    def _spelled_out(self, variant: "Variant", structure: "Structure", leaves: Sequence[Any]) -> Iterator[Value]:
        """The function as it is written, on Values, of some of the samples."""
        samples: Iterable[Any] = zip(*leaves, strict=True) if variant.batched else [leaves]
        for sample in itertools.islice(samples, samples_within(variant.kernel.traced)):
            positional, named = _put_together(structure, map(_as_values, sample))
            results, _ = flatten(self.function(*positional, **named))
            yield from [result for result in results if isinstance(result, Value)]

    def _inline(self, batch: Sequence[Any], named: dict[str, Any]) -> Any:
        """Within the trace of another function, become a part of it."""
        structure, leaves = self._taken_apart(batch, named)
        if not self.batch or not leaves:
            return self.function(*batch, **named)
        results = []
        for sample in zip(*[leaf for _, leaf in leaves], strict=True):
            positional, by_name = _put_together(structure, iter(sample))
            results.append(self.function(*positional, **by_name))
        if self.reduce is None:
            return results
        numbers, rebuild = zip(*map(flatten, results), strict=True)
        totals = [ops.total(column) for column in zip(*numbers, strict=True)]
        return rebuild[0]([total / len(results) if self.reduce == "mean" else total for total in totals])


_STATES = 8
"""So many states of what a function reaches have a kernel at a time."""


@dataclass(slots=True)
class _Traces:
    """What a function was traced to: for each structure of arguments the latest states; and how many in a row."""

    variants: "dict[Any, list[Variant]]" = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    in_a_row: int = 0
    changed: str = ""


@dataclass(slots=True)
class Variant:
    """What runs for one structure of arguments, in one state of all that the function reaches.

    Attributes:
        kernel: the program; if the function drops at random, its last argument is the factors.
        capture: the state that it was traced in.
        rebuild: puts numbers into the structure that the function returned.
        drops: each ``Dropout`` on the way, in order, and how many factors it takes for a sample.
    """

    kernel: Kernel
    capture: Capture
    rebuild: Callable[[Iterable[Any]], Any]
    drops: list[tuple[Dropout, int]]

    @property
    def batched(self) -> bool:
        """Whether arguments have a leading axis over samples."""
        return self.kernel.signature.batched

    def structured(self, numbers: Any) -> Any:
        """Return one sample's numbers in the structure that the function returned."""
        return numbers if self.kernel.signature.outputs is None else self.rebuild(numbers)

    def factors(self, samples: int | None) -> Floats:
        """Draw the factors of ``Dropout`` in the order in which the function would, sample after sample."""
        rows = [
            [factor for module, count in self.drops for factor in module.draw(count)]
            for _ in range(1 if samples is None else samples)
        ]
        return np.array(rows[0] if samples is None else rows)


def compile(  # it stands beside Python's own name in our namespace alone
    f: Any = None,
    *,
    inputs: Sequence[Any] = (),
    reduce: Reduce = "mean",
    batch: bool = True,
    dtype: str = "float64",
    target: str | None = None,
    threads: int = 1,
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
        target: what is to compute it: ``"native"`` or ``"numpy"``; or for functions of single numbers ``"floats"``
            or ``"loops"``, and for large ones without structure ``"native tape"`` or ``"tape"``. Unless given it is
            the first that suits; ``kernel.target`` and ``kernel.why_not`` tell.
        threads: over how many threads a large batch is divided, where ``"native"`` computes it. Their sums are added
            in order: the last digits depend on how many there are, and not on which is done first.

    Returns:
        A ``Compiled`` function; for a graph its ``Kernel``.

    Raises:
        TraceError: from the first call, if ``f`` branches on a traced value or a parameter or reads its data, or
            if it draws random numbers other than by ``Dropout``, counts, or reads the clock or input.
        TypeError: if ``f`` is neither a function nor Values, or ``threads`` is no whole number.
        ValueError: for an unknown ``reduce``, ``dtype`` or ``target``, and for ``threads`` below 1, or above 1 where
            no batch is divided; from the first call, if the target does not suit, with the reason.
    """
    if reduce not in ("mean", "sum", None):
        raise ValueError(f"reduce must be 'mean', 'sum' or None; got {reduce!r}")
    if dtype not in ("float64", "float32"):
        raise ValueError(f"dtype must be 'float64' or 'float32'; got {dtype!r}")
    if target is not None:
        target_named(target)
    _check_threads(threads, batch, target)
    if f is None:
        return lambda function: compile(
            function, reduce=reduce, batch=batch, dtype=dtype, target=target, threads=threads
        )
    if isinstance(f, (Value, list, tuple)):
        return _graph_kernel(f, inputs, reduce, batch, dtype, target, threads)
    if not callable(f):
        raise TypeError(f"compile() takes a function, a Value or a list of Values; got {f!r}")
    return Compiled(f, reduce, batch, dtype, target, threads)


def _check_threads(threads: int, batch: bool, target: str | None) -> None:
    """Raise an error unless a batch can be divided over so many threads."""
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise TypeError(f"threads must be a whole number, such as os.cpu_count(); got {threads!r}")
    if threads < 1:
        raise ValueError(f"threads must be 1 or more; got {threads}")
    if threads > 1 and not batch:
        raise ValueError(f"threads={threads} divides the samples of a batch, and with batch=False there are none")
    if threads > 1 and target not in (None, "native"):
        raise ValueError(f"threads={threads} is for target='native'; target={target!r} runs on one")


class _Trace:
    """One run of a function on traced numbers.

    Attributes:
        program: what it recorded.
        parameters: the leaves of the program.
        alone: whether it returned one number that is in no structure.
        rebuild: puts numbers into the structure that it returned.
        drops: as in ``Variant``.
    """

    def __init__(
        self, function: Callable[..., Any], structure: "Structure", samples: Sequence[Floats], known: set[Value]
    ) -> None:
        inputs: list[list[Value]] = []
        arguments = []
        for sample in samples:
            inputs.append([traced_leaf(number) for number in sample.ravel().tolist()])
            arguments.append(_nested(iter(inputs[-1]), sample.shape))
        positional, named = _put_together(structure, iter(arguments))
        self.drops: list[tuple[Dropout, int]] = []
        factors: list[Value] = []

        def new_factors(module: Dropout, count: int) -> Sequence[Value]:
            self.drops.append((module, count))
            factors.extend(new := [traced_leaf(1.0) for _ in range(count)])
            return new

        token = factors_of.set(new_factors)
        try:
            result, nodes = trace(lambda: function(*positional, **named), known)
        finally:
            factors_of.reset(token)
        numbers, rebuild = flatten(result)
        outputs = _output_values(numbers, getattr(function, "__name__", "the function"))
        self.alone = numbers[0] is result
        _, self.rebuild = flatten(rebuild([0.0] * len(numbers)))  # the trace itself is not kept
        with without_collector():
            self.program, self.parameters = from_values(nodes, outputs, [*inputs, *[factors] * bool(factors)])

    def is_repeated_by(self, other: "_Trace", known: set[Value]) -> bool:
        """Whether another run recorded the same; leaves that a run makes itself are new each time."""
        mine, its = self.program, other.program
        leaves = zip(self.parameters, other.parameters, strict=False)
        return (
            (mine.rows, mine.starts, mine.arguments, mine.outputs) == (its.rows, its.starts, its.arguments, its.outputs)
            and list(map(repr, mine.data)) == list(map(repr, its.data))
            and all(a is b or (a not in known and b not in known and a._data == b._data) for a, b in leaves)
        )


def _graph_kernel(
    f: Any, inputs: Sequence[Any], reduce: Reduce, batch: bool, dtype: str, target: str | None, threads: int
) -> Kernel:
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
    signature = Signature(names, tuple(shapes), batch and bool(inputs), reduce, outputs, dtype, threads)
    return Kernel(simplify(program), parameters, signature, len(program), target)


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


def _as_values(argument: Any) -> Any:
    """An array, or lists like one, as lists of Values, as the function gets them when it is traced."""
    numbers = [x if isinstance(x, Value) else engine.constant(x) for x in flatten(argument)[0]]
    return _nested(iter(numbers), _shape(argument, batch=False) or ())


def _numbers(argument: Any) -> Iterator[Any]:
    """The numbers of an argument in which there may be Values."""
    if isinstance(argument, np.ndarray) and argument.dtype != object:
        return iter(())
    return iter(flatten(argument)[0])


Structure = tuple[tuple[Any, ...], tuple[tuple[str, Any], ...]]
"""How arguments are made of arrays: of each one by position, and by name. ``None`` stands for an array; a dict, or a
list that is no array, for a tuple of its type, its keys and the structures of its entries."""

_PLAIN = {float, int, bool, Value, Traced}


def _shape(x: Any, batch: bool) -> Shape | None:
    """The shape of an array or of nested lists like one, else ``None``: of dicts, and of lists whose entries differ.

    In a batch entries are samples, so lists that differ are a mistake, which is reported when they become an array.
    """
    if isinstance(x, dict):
        return None
    if not isinstance(x, (list, tuple)):
        return tuple(getattr(x, "shape", ()))
    if {*map(type, x)} <= _PLAIN:
        return (len(x),)
    shapes = {_shape(entry, batch) for entry in x}
    if len(shapes) == 1 or (batch and None not in shapes):
        first = shapes.pop()
        return first if first is None else (len(x), *first)
    return None


def _take_apart(x: Any, name: str, leaves: list[tuple[str, Any]], batch: bool) -> Any:
    if _shape(x, batch) is not None:
        leaves.append((name, x))
        return None
    keys = tuple(x) if isinstance(x, dict) else tuple(range(len(x)))
    return type(x), keys, tuple([_take_apart(x[key], f"{name}[{key!r}]", leaves, batch) for key in keys])


def _put_together(structure: Structure, leaves: Iterator[Any]) -> tuple[list[Any], dict[str, Any]]:
    positional, named = structure
    return [_rebuilt(x, leaves) for x in positional], {name: _rebuilt(x, leaves) for name, x in named}


def _rebuilt(structure: Any, leaves: Iterator[Any]) -> Any:
    if structure is None:
        return next(leaves)
    kind, keys, entries = structure
    rebuilt = [_rebuilt(entry, leaves) for entry in entries]
    if issubclass(kind, dict):
        return dict(zip(keys, rebuilt, strict=True))
    return kind(*rebuilt) if hasattr(kind, "_fields") else kind(rebuilt)
