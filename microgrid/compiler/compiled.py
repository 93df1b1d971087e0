"""``compile``: a function of scalars becomes one that runs on arrays."""

import functools
import inspect
import itertools
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import MethodType
from typing import Any, Generic, Literal, TypedDict, TypeVar, Unpack, cast, overload

import numpy as np

from microgrid import engine, ops
from microgrid.calculus import flatten, under_way
from microgrid.compiler.boxes import Box
from microgrid.compiler.call import called, samples_within, spelling_out
from microgrid.compiler.capture import ADVICE, Capture, Generators
from microgrid.compiler.iterations import Loops
from microgrid.compiler.kernel import Kernel
from microgrid.compiler.program import from_graph, from_values
from microgrid.compiler.signature import Floats, Reduce, Shape, Signature, real_array
from microgrid.compiler.structure import (
    Arrays,
    Split,
    Structure,
    arrays_in,
    arrays_of,
    as_values,
    nested,
    put_together,
    reached_by,
    static,
    take_apart,
)
from microgrid.compiler.targets import named as target_named
from microgrid.compiler.tracing import Traced, TraceError, trace, traced_leaf, without_collector
from microgrid.engine import Value, topological_order
from microgrid.nn import Dropout, Module, factors_of, mode
from microgrid.node import announce_reads
from microgrid.recording import kinds, loops, no_grad, open_blocks

Result = TypeVar("Result")


class Compiled(Generic[Result]):
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
        static: Sequence[str] = (),
    ) -> None:
        functools.update_wrapper(self, function)
        self.function, self.reduce, self.batch, self.dtype, self.target = function, reduce, batch, dtype, target
        self.threads, self.static = threads, frozenset(static)
        self._name = getattr(function, "__name__", "the function")
        self._object: Any = None
        self._traces = _Traces()
        self._objects: dict[int, tuple[weakref.ref[Any], _Traces]] = {}
        if self.static and (unknown := self.static.difference(known := self._parameters)):
            raise ValueError(
                f"static must name arguments of {self._name}, {', '.join(known)}; got {', '.join(sorted(unknown))}"
            )

    def __call__(self, *batch: Any, **named: Any) -> Result:
        """Return the function of a batch, with a Value for each number; see ``Kernel.__call__``.

        Arguments are arrays, nested lists, or dicts, named tuples and objects of dataclasses of them; without a batch
        axis lists of such too, as a list of the weights and the biases of each layer. The function gets what it was
        called with, of one sample: lists where there are arrays. With ``reduce=None`` the result is a list with an
        entry per sample.
        """
        structure, split = self._taken_apart(batch, named)
        if kinds.get() is not None:
            return cast(Result, self._inline(structure, split))
        variant = self._called(structure, split)
        if (spelled := spelling_out.get()) is not None and not variant.drops:
            spelled += self._spelled_out(variant, structure, [part.given for part in split])
        result = called(variant.kernel, split)
        if not variant.kernel.signature.per_sample:
            return cast(Result, variant.structured(result))
        return cast(Result, [variant.structured(sample) for sample in result])

    def predict(self, *batch: Any, **named: Any) -> Any:
        """Return the function of each sample as arrays: no Values, no graph, and nothing is averaged.

        Arguments are those of a call. The result has the structure that the function returns; in it one number is an
        array with a number for each sample, and a list of numbers, or nested lists, one array with a row for each.
        Without a batch axis these are a float and an array of the list's shape.

        >>> w = Value(2.0)
        >>> f = compile(lambda x: {"scaled": w * x[0], "both": [x[0], x[1]]})
        >>> f.predict([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])["scaled"]
        array([ 2.,  6., 10.])

        Raises:
            TraceError: within a function that is being compiled: call it there.
            TypeError: of numbers by which a derivative is being taken.
        """
        structure, split = self._taken_apart(batch, named)
        self._refuse_to_cut(split, f"predict() gives plain numbers; call {self._name} itself")
        return self._called(structure, split).predicted(split)

    def jacobian(self, *batch: Any, argnums: int = 0, sparse: bool = False, **named: Any) -> Any:
        """Return the derivatives of each number of the result by each number of an argument, as a matrix.

        >>> f = compile(lambda x: [a * b for a, b in zip(x, x[1:])], batch=False)
        >>> f.jacobian([1.0, 2.0, 3.0])
        array([[2., 1., 0.],
               [0., 3., 2.]])

        Args:
            *batch: the arguments, as in a call.
            argnums: the position of the argument.
            sparse: whether to return ``scipy.sparse.csr_array``, of which only what is not 0 by the structure of the
                program is computed; see ``Kernel.jacobian``.
            **named: the arguments by name.

        Returns:
            A matrix with a row for each number of the result, and a column for each number of the argument. Of samples
            that are kept apart, ``reduce=None``, one for each; sparse these are blocks of one matrix.

        Raises:
            ModuleNotFoundError: without SciPy, naming the extra that brings it.
            TraceError: within a function that is being compiled: differentiate by ``mg.jacobian`` there.
            TypeError: of numbers by which a derivative is being taken; for a position that is no whole number.
            ValueError: if there is no such argument, or samples that have become one are to be told apart.
        """
        kernel, leaves, arrays = self._by(argnums, batch, named)
        return kernel.derivative(leaves, kernel.theta, arrays, sparse=sparse)

    def hessian(self, *batch: Any, argnums: int = 0, seed: Any = None, sparse: bool = False, **named: Any) -> Any:
        """Return the second derivatives of the result by each two numbers of an argument, as a matrix.

        It takes and raises what ``jacobian`` does; of several results ``seed`` is the weight of each in the sum that is
        differentiated. A function with a batch axis has its Hessian by the parameters: see ``Kernel.hessian``.
        """
        kernel, leaves, arrays = self._by(argnums, batch, named)
        return kernel.derivative(leaves, kernel.theta, arrays, second=True, seed=seed, sparse=sparse)

    def derivatives(self, batch: Sequence[Any], named: dict[str, Any], argnums: Any, second: bool) -> Any:
        """Return the rows of a Jacobian or a Hessian, and what puts them in the structure of the result.

        ``None`` if something else than one sample's numbers is in it, so that the derivatives have a graph; or if they
        are by several arguments.
        """
        structure, split = self._taken_apart(batch, named)
        if self.batch or isinstance(argnums, tuple) or any(part.values for part in split):
            return None
        variant = self._variant(structure, split)
        one = variant.kernel.signature.outputs is None
        if variant.kernel.parameters or (second and not one):
            return None
        rows = (self.hessian if second else self.jacobian)(*batch, argnums=argnums, **named).tolist()
        return rows, lambda found: found[0] if one else variant.structured(found)

    def _by(
        self, argnums: int, batch: Sequence[Any], named: dict[str, Any]
    ) -> tuple[Kernel, tuple[int, ...], list[Any]]:
        """The kernel of a call, those leaves of it that one argument is made of, and the arrays that it gets."""
        structure, split = self._taken_apart(batch, named)
        if isinstance(argnums, bool) or not hasattr(type(argnums), "__index__"):
            raise TypeError(f"argnums must be the position of one argument, from 0; got {argnums!r}")
        if not -len(batch) <= argnums < len(batch):
            raise ValueError(
                f"argnums={argnums!r} asks for argument {argnums} of {self._name}, which was called with {len(batch)} "
                "positional argument(s): count from 0, and pass by position what is to be differentiated"
            )
        self._refuse_to_cut(
            split, "derivatives in arrays are plain numbers; write mg.jacobian(f)(…) or mg.hessian(f)(…)"
        )
        counts = [arrays_of(part) for part in structure[0]]
        first = sum(counts[: argnums % len(batch)])
        kernel = self._called(structure, split).kernel
        return kernel, tuple(range(first + 1, first + counts[argnums] + 1)), [part.numbers for part in split]

    def _refuse_to_cut(self, split: Sequence[Split], why: str) -> None:
        varied = under_way.get()
        for value in [value for part in split for value in part.values.values()]:
            announce_reads(value)
            if type(value) is Traced:
                raise TraceError(f"within a compiled function: {why}")
            if varied and not varied.isdisjoint(topological_order(value)):
                raise TypeError(f"within a derivative: {why}")

    def _called(self, structure: Structure, split: list[Split]) -> "Variant":
        """What a call runs; what it is run on becomes arrays, and the factors of ``Dropout`` are drawn."""
        variant = self._variant(structure, split)
        if self._traces.in_a_row == _STATES:
            warnings.warn(
                f"{self._name} was traced anew at each of its last {_STATES} calls, which takes long, for something it "
                f"reaches had changed: {self._traces.changed}. Hand in as an argument what changes at every call",
                stacklevel=3,
            )
        if variant.drops:
            factors = variant.factors(len(split[0].numbers) if variant.batched else None)
            split.append(Split("factors", factors, factors))
        return variant

    def __get__(self, instance: Any, owner: type) -> "Compiled[Result]":
        """Bind a compiled method to its object."""
        if instance is None:
            return self
        function = MethodType(self.function, instance)
        options = self.reduce, self.batch, self.dtype, self.target, self.threads, [*self.static]
        bound: Compiled[Result] = Compiled(function, *options)
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

    def __reduce__(self) -> Any:
        """A copy, or a pickle, is the function compiled anew; one that a module or an object has is found there."""
        path = getattr(self.function, "__qualname__", "")
        found: object = sys.modules.get(getattr(self.function, "__module__", ""))
        for name in path.split("."):
            found = getattr(found, name, None)
        if found is self:
            return path
        if isinstance(found, Compiled) and isinstance(self.function, MethodType):
            return getattr, (self.function.__self__, self._name)
        return Compiled, (self.function, self.reduce, self.batch, self.dtype, self.target, self.threads, [*self.static])

    def kernel(self, *batch: Any, **named: Any) -> Kernel:
        """Return the kernel for arguments like these, traced and compiled when it is first needed.

        Each argument of the kernel is an array: of a dict there is one for each entry. If the function drops at
        random, the last one is the factors of ``Dropout``, a row for each sample.
        """
        return self.variant(*batch, **named).kernel

    def variant(self, *batch: Any, **named: Any) -> "Variant":
        """Return what a call with arguments like these runs, in the present state of all that the function reaches."""
        return self._variant(*self._taken_apart(batch, named))

    def bound_to(self, batch: Sequence[Any], named: dict[str, Any]) -> tuple[list[Any], Kernel]:
        """Return what a call hands to its kernel, and the kernel."""
        structure, split = self._taken_apart(batch, named)
        variant = self._called(structure, split)
        return [part.numbers for part in split], variant.kernel

    def kernels(self) -> set[Kernel]:
        """Return all that it keeps: one for each structure of its arguments, in each of the latest few states."""
        with self._traces.lock:
            return {variant.kernel for variants in self._traces.variants.values() for variant in variants}

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
            parameters = inspect.signature(self.function).parameters.values()
        except (TypeError, ValueError):
            return []
        return [parameter.name for parameter in parameters]

    def _taken_apart(self, batch: Sequence[Any], named: dict[str, Any]) -> tuple[Structure, list[Split]]:
        """How arguments are made of arrays, and each of these."""
        leaves: list[Split] = []
        names = self._parameters
        if len(batch) > len(names):
            names = [*names, *[f"number {k + 1}" for k in range(len(names), len(batch))]]
        positional = tuple([self._part(name, x, leaves) for name, x in zip(names, batch, strict=False)])
        return (positional, tuple([(name, self._part(name, x, leaves)) for name, x in named.items()])), leaves

    def _part(self, name: str, x: Any, leaves: list[Split]) -> Any:
        return static(x, name) if name in self.static else take_apart(x, name, leaves, self.batch)

    def _variant(self, structure: Structure, split: Sequence[Split]) -> "Variant":
        batched = self.batch and bool(split)
        for part in split:
            part.numbers = array = real_array(part.numbers, part.name, self.dtype)
            if batched and not array.ndim:
                raise ValueError(
                    f"argument {part.name} must have a leading axis over the samples; got one number. "
                    "For one sample write [x], or compile(f, batch=False)"
                )
            if batched and not len(array):
                raise ValueError(f"argument {part.name} has no samples; give at least one")
        shapes = tuple([part.numbers.shape[batched:] for part in split])
        traces = self._traces
        with traces.lock:
            key = type(self._object), structure, shapes
            variants = traces.variants.get(key, [])
            for k, variant in enumerate(variants):
                if variant.capture.holds():
                    if k:
                        variants.insert(0, variants.pop(k))
                    traces.in_a_row = 0
                    return variant
            samples = [part.numbers[0] if batched else part.numbers for part in split]
            names = tuple([part.name for part in split])
            signature = Signature(names, shapes, batched, self.reduce, None, self.dtype, self.threads)
            if variants:
                traces.in_a_row += 1
                traces.changed = variants[0].capture.changed()
            variant = self._trace_anew(structure, samples, signature)
            traces.variants[key] = [variant, *variants[: _STATES - 1]]
            return variant

    @without_collector()
    def _trace_anew(self, structure: Structure, samples: Sequence[Floats], signature: Signature) -> "Variant":
        """Run the function on traced numbers and make its kernel; run it again if that may give something else."""
        capture = Capture(self.function, self._object, reached := [*reached_by(structure)])
        generators = Generators(capture.generators)
        try:
            with generators.kept(self._name):
                trace = _Trace(self.function, structure, samples, capture)
        except (ValueError, TypeError) as error:
            if signature.batched and not isinstance(error, TraceError):
                each = zip(signature.names, signature.shapes, strict=True)
                shapes = ", ".join(f"one sample of {name} has the shape {shape}" for name, shape in each)
                error.add_note(f"The first axis counts the samples: {shapes}; batch=False leaves it out.")
            raise
        if capture.uncertain or not capture.holds():
            with generators.kept(self._name):
                again = _Trace(self.function, structure, samples, capture)
            if not trace.is_repeated_by(again, capture):
                raise TraceError(
                    f"{self._name} did something else when it was run a second time ({capture.changed()}): it "
                    f"counts, draws random numbers, or reads the clock or a file, and {ADVICE}"
                )
            capture = Capture(self.function, self._object, reached)
        factors = sum(count for _, count in trace.drops)
        signature.outputs = None if trace.alone else len(trace.program.outputs)
        if factors:
            signature.names += ("factors of Dropout",)
            signature.shapes += ((factors,),)
        kernel = Kernel(trace.program, trace.parameters, signature, target=self.target, simplified=False)
        kernel.modules = capture.modules
        return Variant(kernel, capture, trace.rebuild, trace.arrays, trace.drops)

    def _spelled_out(self, variant: "Variant", structure: Structure, leaves: Sequence[Any]) -> Iterator[Value]:
        """The function as it is written, on Values, of some of the samples."""
        samples: Iterable[Any] = zip(*leaves, strict=True) if variant.batched else [leaves]
        for sample in itertools.islice(samples, samples_within(variant.kernel.traced)):
            positional, named = put_together(structure, map(as_values, sample))
            results, _ = flatten(self.function(*positional, **named))
            yield from [result for result in results if isinstance(result, Value)]

    def _inline(self, structure: Structure, split: Sequence[Split]) -> Any:
        """Within the trace of another function, become a part of it."""
        arguments = [part.listed() for part in split]
        results = []
        for sample in zip(*arguments, strict=True) if self.batch and split else [arguments]:
            positional, by_name = put_together(structure, iter(sample))
            results.append(self.function(*positional, **by_name))
        if not self.batch or not split:
            return results[0]
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
        arrays: does so with arrays.
        drops: each ``Dropout`` on the way, in order, and how many factors it takes for a sample.
    """

    kernel: Kernel
    capture: Capture
    rebuild: Callable[[Iterable[Any]], Any]
    arrays: Arrays
    drops: list[tuple[Dropout, int]]

    @property
    def batched(self) -> bool:
        """Whether arguments have a leading axis over samples."""
        return self.kernel.signature.batched

    def structured(self, numbers: Any) -> Any:
        """Return one sample's numbers in the structure that the function returned."""
        return numbers if self.kernel.signature.outputs is None else self.rebuild(numbers)

    def predicted(self, split: Sequence[Split]) -> Any:
        """Return the results of each sample as arrays."""
        kernel = self.kernel.apart
        if open_blocks:
            announce_reads(*kernel.parameters)
        found = kernel.present(*kernel.signature.rows([part.numbers for part in split]))
        return self.arrays(found if kernel.signature.outputs is not None else np.asarray(found)[..., None])

    def factors(self, samples: int | None) -> Floats:
        """Draw the factors of ``Dropout`` in the order in which the function would, sample after sample."""
        rows = [
            [factor for module, count in self.drops for factor in module.draw(count)]
            for _ in range(1 if samples is None else samples)
        ]
        return np.array(rows[0] if samples is None else rows)


class Options(TypedDict, total=False):
    """The arguments of ``compile`` that do not change what type its result has."""

    inputs: Sequence[Any]
    batch: bool
    dtype: str
    target: str | None
    threads: int
    static: str | Sequence[str]


@overload
def compile(f: Value | Sequence[Value], *, reduce: Reduce = ..., **options: Unpack[Options]) -> Kernel: ...
@overload
def compile(f: Callable[..., Result], *, reduce: None, **options: Unpack[Options]) -> Compiled[list[Result]]: ...
@overload
def compile(
    f: Callable[..., Result], *, reduce: Literal["mean", "sum"] = ..., **options: Unpack[Options]
) -> Compiled[Result]: ...
@overload
def compile(
    *, reduce: None, **options: Unpack[Options]
) -> Callable[[Callable[..., Result]], Compiled[list[Result]]]: ...
@overload
def compile(
    *, reduce: Literal["mean", "sum"] = ..., **options: Unpack[Options]
) -> Callable[[Callable[..., Result]], Compiled[Result]]: ...
def compile(  # it stands beside Python's own name in our namespace alone
    f: Any = None,
    *,
    inputs: Sequence[Any] = (),
    reduce: Reduce = "mean",
    batch: bool = True,
    dtype: str = "float64",
    target: str | None = None,
    threads: int = 1,
    static: str | Sequence[str] = (),
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
        static: the names of arguments that are no numbers, such as a mode or a model: each is handed on as it is, and
            the function compiled for each that differs.

    Returns:
        A ``Compiled`` function; for a graph its ``Kernel``.

    Raises:
        TraceError: from the first call, if ``f`` branches on a traced value or a parameter or reads its data, or
            if it draws random numbers other than by ``Dropout``, counts, or reads the clock or input.
        TypeError: if ``f`` is neither a function nor Values, or ``threads`` is no whole number; from a call, if an
            argument is no numbers and not static, or static and cannot be hashed.
        ValueError: for an unknown ``reduce``, ``dtype``, ``target`` or ``static``, and for ``threads`` below 1, or more
            where no batch is divided; from the first call, if the target does not suit, with the reason.
    """
    if reduce not in ("mean", "sum", None):
        raise ValueError(f"reduce must be 'mean', 'sum' or None; got {reduce!r}")
    if dtype not in ("float64", "float32"):
        raise ValueError(f"dtype must be 'float64' or 'float32'; got {dtype!r}")
    if target is not None:
        target_named(target)
    _check_threads(threads, batch, target)
    if f is None:
        options: dict[str, Any] = {"dtype": dtype, "target": target, "threads": threads, "static": static}
        return lambda function: compile(function, reduce=reduce, batch=batch, **options)
    if isinstance(f, (Value, list, tuple)):
        return _graph_kernel(f, inputs, reduce, batch, dtype, target, threads)
    if not callable(f):
        raise TypeError(f"compile() takes a function, a Value or a list of Values; got {f!r}")
    return Compiled(f, reduce, batch, dtype, target, threads, [static] if isinstance(static, str) else static)


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


def predict(model: Module, *batch: Any, **named: Any) -> Any:
    """Return what a module computes of each sample as arrays; see ``Module.predict``."""
    with mode(model, training=False):
        try:
            return _outputs.__get__(model, type(model)).predict(*batch, **named)
        except TraceError:  # a branch on a number, a generator: as it is written, then, sample by sample
            with no_grad():
                return _one_by_one(model, batch, named)


@compile(reduce=None)
def _outputs(model: Module, *batch: Any, **named: Any) -> Any:
    return model(*batch, **named)


def _one_by_one(model: Module, batch: Sequence[Any], named: dict[str, Any]) -> Any:
    structure, split = _outputs._taken_apart(batch, named)
    rows = []
    for sample in zip(*[part.listed() for part in split], strict=True):
        positional, by_name = put_together(structure, iter(sample))
        numbers, rebuild = flatten(model(*positional, **by_name))
        rows.append([getattr(number, "data", number) for number in numbers])
    return arrays_in(rebuild(range(len(numbers))))(np.array(rows, float))


class _Trace:
    """One run of a function on traced numbers.

    Attributes:
        program: what it recorded.
        parameters: the leaves of the program.
        alone: whether it returned one number that is in no structure.
        rebuild, arrays, drops: as in ``Variant``.
    """

    def __init__(
        self, function: Callable[..., Any], structure: Structure, samples: Sequence[Floats], known: Container[Value]
    ) -> None:
        inputs: list[list[Value]] = []
        arguments = []
        for sample in samples:
            inputs.append([traced_leaf(number) for number in sample.ravel().tolist()])
            arguments.append(nested(iter(inputs[-1]), sample.shape))
        positional, named = put_together(structure, iter(arguments))
        self.drops: list[tuple[Dropout, int]] = []
        factors: list[Value] = []

        def new_factors(module: Dropout, count: int) -> Sequence[Value]:
            self.drops.append((module, count))
            factors.extend(new := [traced_leaf(1.0) for _ in range(count)])
            return new

        token, recording = factors_of.set(new_factors), loops.set(Loops())
        try:
            result, nodes = trace(lambda: function(*positional, **named), known)
        finally:
            factors_of.reset(token)
            loops.reset(recording)
        numbers, rebuild = flatten(result)
        outputs = _output_values(numbers, getattr(function, "__name__", "the function"))
        self.alone = numbers[0] is result
        template = rebuild(range(len(numbers)))
        _, self.rebuild = flatten(template)  # the trace itself is not kept
        self.arrays = arrays_in(template)
        with without_collector():
            self.program, self.parameters = from_values(nodes, outputs, [*inputs, *[factors] * bool(factors)])

    def is_repeated_by(self, other: "_Trace", known: Container[Value]) -> bool:
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
    return Kernel(program, parameters, signature, target=target, simplified=False)


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
