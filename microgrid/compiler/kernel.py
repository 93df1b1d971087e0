"""A kernel computes a function of scalars and its gradient for whole batches, on flat arrays."""

import builtins
import functools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from microgrid import engine, ops
from microgrid.compiler import emit, special
from microgrid.compiler.arrays import Array, Arrays, Map, Operand, dump, fuse, reachable
from microgrid.compiler.boxes import Box, boxes
from microgrid.compiler.call import CompiledCall, Floats, Split, node, per_sample_values
from microgrid.compiler.classes import Classes, classify
from microgrid.compiler.differentiate import gradients
from microgrid.compiler.lift import lift, spell_out
from microgrid.compiler.program import LARGEST, PARAMETER, SMALLEST, SUM, Program, argument_of
from microgrid.compiler.roll import loop_source, repeats
from microgrid.compiler.simplify import number_values, without_gradient
from microgrid.compiler.tracing import without_collector
from microgrid.engine import Value
from microgrid.environment import require
from microgrid.nn import Module
from microgrid.ops import Op

Reduce = Literal["mean", "sum"] | None
By = Literal["parameters", "arguments", "both"]
Shape = tuple[int, ...]

_PLAYED: dict[Op, Callable[[list[Any]], Any]] = {
    SUM: ops.total,
    LARGEST: lambda xs: functools.reduce(ops.maximum, xs),
    SMALLEST: lambda xs: functools.reduce(ops.minimum, xs),
}

_TILE_BYTES = 4_000_000
_TILE_ROWS = 512
_SHORT, _LONG = 64, 2000
"""Floats of fewer nodes are written out, of more are written with loops; between, if loops make it much shorter."""

_PLANS = 8
"""Buffers are kept for so many different batch sizes."""


@dataclass(slots=True)
class Signature:
    """What a kernel takes and gives.

    Attributes:
        names: the name of each argument, for messages.
        shapes: the shape of each argument for one sample.
        batched: whether the arguments have a leading axis over samples.
        reduce: how the samples' outputs become one.
        outputs: how many numbers the function returns; ``None`` if it returns one that is not in a list.
        dtype: the floating-point type of arrays.
    """

    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    batched: bool
    reduce: Reduce
    outputs: int | None
    dtype: str

    @property
    def per_sample(self) -> bool:
        """Whether each sample keeps its own outputs."""
        return self.batched and self.reduce is None

    def check_shape(self, k: int, given: Shape) -> None:
        """Raise ``ValueError`` unless argument ``k`` has its shape, with the axis over samples in front."""
        shape = self.shapes[k]
        if given[self.batched :] != shape or len(given) != len(shape) + self.batched:
            axes = ", ".join([*["batch"] * self.batched, *map(str, shape)])
            expected = f"({axes},)" if len(shape) + self.batched == 1 else f"({axes})"
            raise ValueError(f"argument {self.names[k]} must have the shape {expected}; got {given}")


@dataclass(slots=True)
class _Plan:
    """A program bound to buffers for one batch size.

    Attributes:
        run: computes ``outs`` from the arguments, ``theta`` and ``seed``.
        theta: where it reads the parameters.
        seed: where it reads the weights of the outputs.
        outs: where it writes the results.
        names: what its text finds under its names.
        direct: the results that it writes into whatever ``names`` says.
    """

    run: Callable[..., None]
    theta: Floats
    seed: Floats
    outs: list[Floats]
    names: dict[str, Any]
    direct: frozenset[int]


class Kernel:
    """A compiled function of scalars: its value and its gradient, for a batch at a time.

    The parameters, the leaves that the function found outside its arguments, are one flat array ``theta``
    here, in the order of ``parameters``. A kernel may be used from several threads at once, and pickled.

    Attributes:
        program: the scalars that were traced, simplified.
        signature: what the kernel takes and gives.
        modules: what returns each module that the function reaches, outer ones first: drawings name parameters by it.
        parameters: the leaves that ``theta`` stands for.
        traced: how many nodes the function recorded.
        varied: whether some parameter is no leaf: what is being differentiated by, by the caller of the call.
        looped: whether it is a program of plain floats with loops.
    """

    def __init__(self, program: Program, parameters: list[Value], signature: Signature, traced: int = 0) -> None:
        self.program = program
        self.parameters = parameters
        self.varied = any(parameter.first is not None for parameter in parameters)
        self.signature = signature
        self.modules: Sequence[Callable[[], Module | None]] = ()
        self.traced = traced or len(program)
        self.classes: Classes = classify(program)
        count = len(self.classes.rows)
        if signature.batched:
            self.spelled_out = 2 * count > len(program)
        else:
            # A statement on arrays costs some 20 times what one on floats does, however short the array.
            self.spelled_out = len(program) <= 20 * count
        self.scalar = self.spelled_out and not signature.batched
        size = len(program)
        self.looped = self.scalar and (size > _LONG or (size > _SHORT and repeats(program)))
        self._lock = threading.RLock()
        self._lifted: tuple[Arrays, list[Operand], list[Array], list[list[Operand]]] | None = None
        self._outputs: dict[str, tuple[list[Operand], list[tuple[Shape, bool]]]] = {}
        self._sources: dict[str, emit.Source] = {}
        self._codes: dict[str, Any] = {}
        self._plans: OrderedDict[tuple[str, int], list[_Plan]] = OrderedDict()
        self._parts_of: dict[tuple[int, ...], Kernel] = {}
        self._cuts: dict[int, tuple[list[bool], list[list[bool]]]] = {}

    # -- what a user calls ----------------------------------------------------------------------------

    def read(self) -> Floats:
        """Return the numbers of the parameters as a flat array."""
        return np.array([parameter._data for parameter in self.parameters], dtype=self.signature.dtype)

    def write(self, theta: ArrayLike) -> None:
        """Set the parameters to the numbers of a flat array."""
        for parameter, number in zip(self.parameters, self._theta(theta).tolist(), strict=True):
            parameter._data = number

    def value(self, theta: ArrayLike, *batch: ArrayLike) -> Any:
        """Return the function of a batch, at parameters ``theta``.

        Args:
            theta: the parameters, a flat array in the order of ``parameters``.
            *batch: the arguments; their leading axis is the sample.

        Returns:
            A float; for ``reduce=None`` an array with one number per sample; with several outputs, an
            array with one more axis behind.

        Raises:
            TypeError: if an argument is not an array of real numbers, or there are too many or too few.
            ValueError: if a shape is wrong; it names the argument, what was expected and what was given.
        """
        return self._run("value", theta, batch)[0]

    def value_and_grad(self, theta: ArrayLike, *batch: ArrayLike, by: By = "parameters", seed: Any = None) -> Any:
        """Return the function of a batch and its gradient, at parameters ``theta``.

        Args:
            theta: the parameters, a flat array in the order of ``parameters``.
            *batch: the arguments; their leading axis is the sample.
            by: by what to differentiate: ``"parameters"``, ``"arguments"`` or ``"both"``.
            seed: for several outputs, the weight of each in the sum that is differentiated, 0 for one that
                is left out; without it the gradient of each output is computed, and stacked: the Jacobian.

        Returns:
            The value as ``value`` returns it; and the gradient: a flat array like ``theta`` (for
            ``reduce=None`` one row per sample), a list with an array like each argument, or both. A Jacobian
            has one more axis, over the outputs: in front, or behind the samples for ``reduce=None``.

        Raises:
            TypeError: as ``value``.
            ValueError: as ``value``, or for an unknown ``by``.
        """
        if by not in ("parameters", "arguments", "both"):
            raise ValueError(f"by must be 'parameters', 'arguments' or 'both'; got {by!r}")
        count = self.signature.outputs
        if count is None or seed is not None:
            return self._run(by, theta, batch, seed)
        rows = [self._run(by, theta, batch, unit) for unit in np.eye(count)]
        return rows[0][0], _stacked([gradient for _, gradient in rows], axis=int(self.signature.per_sample))

    def bind(self, theta: Floats, gradient: Floats) -> Callable[..., Any]:
        """Return ``step(*batch)``, which returns the value and writes the gradient where you said.

        It is ``value_and_grad`` for a training loop: ``theta`` is read where it is, so an optimiser may
        change it in place, and ``gradient`` is written where it is; nothing is copied and no view is made
        anew. One bound function is for one thread.

        Of a function with several outputs and ``reduce=None`` the first is the loss: ``step`` returns the
        outputs of each sample, one row each, and the gradient is that of the mean of the first.

        Raises:
            TypeError: if the arrays are not contiguous arrays of the kernel's dtype.
            ValueError: if they have not one number per parameter, or ``reduce`` does not fit the outputs.
        """
        for name, array in (("theta", theta), ("gradient", gradient)):
            if not (isinstance(array, np.ndarray) and array.dtype == self.signature.dtype and array.flags.c_contiguous):
                raise TypeError(f"bind() needs {name} as a contiguous NumPy array of {self.signature.dtype}")
            self._check_length(name, array)
        several = self.signature.outputs is not None
        if several != self.signature.per_sample:
            raise ValueError("bind() is for one output and reduce='mean' or 'sum', or several and reduce=None")
        if self.scalar:

            def scalar_step(*batch: ArrayLike) -> float:
                value, gradient[...] = self._run("parameters", theta, batch)
                return float(value)

            return scalar_step
        plans: dict[int, _Plan] = {}

        def step(*batch: ArrayLike) -> Any:
            arrays, size = self._arguments(batch)
            plan = plans.get(size)
            if plan is None:
                plan = plans[size] = self._bound("first" if several else "parameters", size, theta, gradient)
            gradient.fill(0.0)  # where no gradient ever flows the program writes nothing
            plan.run(*arrays)
            value: Any = plan.outs[0].T.copy() if several else plan.outs[0].item()
            return value

        return step

    def __call__(self, *arguments: Any) -> Any:
        """Return the function as a Value, one node of an ordinary graph; ``backward()`` fills ``grad``.

        Arguments are arrays or nested lists, of numbers or of Values. For several outputs it is a list,
        for ``reduce=None`` a list with an entry per sample.
        """
        return self.call([Split.of(argument, self._name(k)) for k, argument in enumerate(arguments)])

    def call(self, split: "Sequence[Split]") -> Any:
        """Return what a call gives, of arguments that are taken apart."""
        batch = [part.numbers for part in split]
        arrays, size = self._arguments(batch)
        numbers = np.asarray(self._run("value", self.read(), batch)[0])
        count = self.signature.outputs
        if self.signature.per_sample:
            return per_sample_values(self, arrays, [part.samples(size) for part in split], numbers.reshape(size, -1))
        calls = [CompiledCall(self, k, arrays, [part.values for part in split]) for k in range(count or 1)]
        parents = [*self.parameters, *[value for part in split for value in part.values.values()]]
        others = tuple(parents[2:])
        results = [node(*pair, parents, others) for pair in zip(calls, numbers.reshape(-1).tolist(), strict=True)]
        return results[0] if count is None else results

    @property
    def source(self) -> str:
        """The program that computes the value and the gradient by the parameters, as text."""
        return self._source(self._own_task()).text

    def dump(self, stage: str = "arrays") -> str:
        """Return a stage of the compilation as text: ``program``, ``classes``, ``arrays`` or ``source``."""
        if stage == "program":
            return self.program.dump()
        if stage == "classes":
            return self.classes.dump(self.program)
        if stage == "arrays":
            outputs, _ = self._targets("parameters")
            return dump(reachable(outputs), outputs)
        if stage == "source":
            return self.source
        raise ValueError(f"stage must be 'program', 'classes', 'arrays' or 'source'; got {stage!r}")

    def statements(self, by: By | Literal["value"] = "parameters") -> list[Array]:
        """Return the statements of the array program, without leaves and views."""
        outputs, _ = self._targets(by)
        return [x for x in reachable(outputs) if x.operands and x.op != "view"]

    def boxes(self, by: By | Literal["value"] | None = None) -> list[Box]:
        """Return the array program as boxes with shapes, for a drawing: leaves and statements, operands first.

        Each part that is read of the parameters is a leaf of its own: the weights of a layer, its biases.

        Args:
            by: as in ``value_and_grad``, or ``"value"`` for no gradient. Unless given it is by the parameters, or
                by the arguments if there are no parameters.

        Raises:
            ValueError: if the program is a loop of plain floats, which has no arrays to draw.
        """
        if self.looped:
            raise ValueError("this kernel is a loop of plain floats, without arrays to draw; read kernel.source")
        by = by or self._own_task()
        labels = [parameter.label for parameter in self.parameters]
        arguments = list(zip(self.signature.names, self.signature.shapes, strict=True))
        count = self.signature.outputs
        results = ["output"] if count is None else ["outputs"]
        if count is not None and self.scalar:
            results = [f"output {k}" for k in range(count)]
        leaves = [("gradient", self.program.parameters, labels)] * (by in ("parameters", "both"))
        if by in ("arguments", "both"):
            leaves += [
                (f"gradient by {name}", size, [""] * size)
                for (name, _), size in zip(arguments, self.program.sizes, strict=True)
            ]
        for name, size, members in leaves:
            each = [f"{name}[{k}]" * (size > 1) or name for k in range(size)]
            alone = [f"gradient by {label}" if label else text for label, text in zip(members, each, strict=True)]
            results += alone if self.scalar else [name]
        return boxes(self._targets(by)[0], results, arguments, labels, self._groups())

    def _groups(self) -> list[str]:
        """For each parameter which layer it is of, and whether a weight or a bias; empty if that is not known."""
        from microgrid.drawing.network import parameter_groups  # only a drawing needs it

        groups: dict[Value, str] = {}
        for module in filter(None, [get() for get in self.modules]):
            if next(iter(module.parameters()), None) not in groups:  # inner modules come after those around them
                groups.update(parameter_groups(module))
        return [groups.get(parameter, "") for parameter in self.parameters]

    def _own_task(self) -> By | Literal["value"]:
        return "parameters" if self.parameters else "arguments" if self.signature.shapes else "value"

    def __repr__(self) -> str:
        arguments = ", ".join(self.signature.names)
        return (
            f"<kernel of ({arguments}), {len(self.parameters)} parameters: {self.traced} nodes, "
            f"{len(self.source.splitlines())} lines>"
        )

    def __reduce__(self) -> Any:
        numbers = [(parameter._data, parameter.label) for parameter in self.parameters]
        return _rebuilt, (self.program, numbers, self.signature, self.traced)

    def to_jax(self) -> Callable[..., Any]:
        """Return the kernel as a pure function ``f(theta, *batch)`` of JAX arrays.

        It works under ``jax.jit``, ``jax.grad``, ``jax.jvp``, ``jax.hessian``, ``jax.vmap`` and with the batch
        sharded over a mesh of devices or of processes: ``jax.jit(jax.value_and_grad(f))(theta, X, Y)``. JAX
        gets the lifted program, and for the first derivative, forward or reverse, the kernel's own, with this
        package's conventions at kinks; that is differentiated again by JAX's rules, and what ``stop_gradient``
        cuts stays cut. A zero cotangent is a number to JAX: of several outputs, take derivatives one by one
        where another's is infinite.

        Returns:
            A function that returns what ``value`` returns.

        Raises:
            ModuleNotFoundError: without JAX, naming the extra that brings it.
            RuntimeError: if the kernel computes in float64 and JAX does not.
        """
        require("jax", "Kernel.to_jax()", "jax")
        import jax
        import jax.numpy as jnp
        from jax.custom_derivatives import SymbolicZero

        signature = self.signature
        if signature.dtype == "float64" and not jnp.zeros(0).dtype == np.float64:
            raise RuntimeError(
                "this kernel computes in float64 but JAX is set to float32: call "
                "jax.config.update('jax_enable_x64', True) before, or compile with dtype='float32'"
            )
        programs = {}
        for task in ("value", "vjp"):
            source = emit.functional_source(self._targets(task)[0])
            namespace = special.jax_namespace(source.names, signature.dtype)
            programs[task] = _defined(self._code(f"{task} jax", source), namespace)

        def run(task: str, seed: Any, theta: Any, batch: Sequence[Any]) -> list[Any]:
            size = batch[0].shape[0] if signature.batched else 1
            columns = [x.reshape(size, -1).T if signature.batched else x.reshape(-1) for x in batch]
            count = jnp.asarray(size, signature.dtype)
            results = [
                jnp.asarray(x, signature.dtype) for x in programs[task](theta, 1 / count, count, seed, size, *columns)
            ]
            return [
                jnp.broadcast_to(
                    x[..., None] if batched and x.ndim == len(shape) else x, (*shape, size) if batched else shape
                )
                for x, (shape, batched) in zip(results, self._targets(task)[1], strict=True)
            ]

        @jax.custom_jvp
        def core(theta: Any, *batch: Any) -> Any:
            values = run("value", None, theta, batch)
            if self.scalar and signature.outputs is not None:
                return jnp.stack(values)
            return values[0].T

        def push(primals: Any, tangents: Any) -> Any:
            """The outputs and their tangents: the transpose of the reverse sweep, which is linear in its seed.

            What does not move has no part in it: its tangent of 0, times an infinite derivative, would be nan.
            """
            theta, *batch = primals
            outputs = core(*primals)
            moving = [k for k, tangent in enumerate(tangents) if not isinstance(tangent, SymbolicZero)]

            def sweep(cotangent: Any) -> Any:
                seed = jnp.expand_dims(cotangent, 0) if signature.outputs is None else cotangent.T
                by_theta, *by_arguments = run("vjp", seed, theta, batch)
                found = [by_theta, *[g.T.reshape(x.shape) for g, x in zip(by_arguments, batch, strict=True)]]
                return [found[k] for k in moving]

            (pushed,) = jax.linear_transpose(sweep, outputs)([tangents[k] for k in moving])
            return outputs, pushed

        core.defjvp(push, symbolic_zeros=True)

        def function(theta: Any, *batch: Any) -> Any:
            """The compiled function of parameters and a batch, on JAX arrays."""
            if len(batch) != len(signature.shapes):
                raise TypeError(f"this function takes theta and {len(signature.shapes)} argument(s); got {len(batch)}")
            arrays = [jnp.asarray(x, signature.dtype) for x in batch]
            for k, array in enumerate(arrays):
                signature.check_shape(k, array.shape)
            return core(jnp.asarray(theta, signature.dtype), *arrays)

        return function

    # -- compilation, each part when it is needed -----------------------------------------------------

    def _lift(self) -> "tuple[Arrays, list[Operand], list[Array], list[list[Operand]]]":
        """The function on arrays: the program, its outputs, and its leaves (parameters first)."""
        if self._lifted is None:
            arrays = Arrays()
            batched = [self.signature.batched] * len(self.program.sizes)
            groups: list[list[Operand]] = []
            if self.spelled_out:
                outputs, groups = spell_out(self.program, arrays, batched)
            else:
                outputs = lift(self.program, self.classes, arrays, batched)
            leaves = [arrays.parameters(self.program.parameters)]
            leaves += [arrays.argument(k, size, batched[k]) for k, size in enumerate(self.program.sizes)]
            self._lifted = arrays, outputs, leaves, groups
        return self._lifted

    def _targets(self, by: str) -> tuple[list[Operand], list[tuple[Shape, bool]]]:
        """What the program for a task computes: the outputs, then the gradients, and their shapes."""
        with self._lock, without_collector():
            if by not in self._outputs:
                self._outputs[by] = self._differentiated(by)
            return self._outputs[by]

    def _differentiated(self, by: str) -> tuple[list[Operand], list[tuple[Shape, bool]]]:
        arrays, outputs, leaves, groups = self._lift()
        per_sample = self.signature.per_sample
        weight: Operand = 1.0
        if self.signature.batched and self.signature.reduce == "mean":
            weight = arrays.make("weight", (), (), False)
        seeds = None
        if by in ("vjp", "pullback") or self.signature.outputs is not None:
            seeds = arrays.make("seed", (), (len(outputs),), per_sample)
        parts: Sequence[tuple[Operand, Map]] = [(x, Map((), k)) for k, x in enumerate(outputs)]
        if not self.spelled_out and self.signature.outputs is not None:
            parts = arrays.grouped(outputs)
        results: list[Operand] = []
        pairs: list[tuple[Operand, Operand]] = []
        for output, places in parts:
            seed: Operand = 1.0 if seeds is None else arrays.view(seeds, places)
            share = arrays.view(weight, Map.constant(places.shape))
            alone = not (isinstance(output, Array) and output.batched)
            if per_sample or not self.signature.batched or (self.signature.reduce == "mean" and alone):
                results.append(output)
            else:
                result = arrays.sum_samples(output)
                if self.signature.reduce == "mean":
                    count = arrays.view(arrays.make("count", (), (), False), Map.constant(places.shape))
                    result = arrays.apply(ops.div, result, count)
                    seed = arrays.apply(ops.mul, seed, share)
                elif alone:
                    seed = arrays.sum_samples(seed)
                results.append(result)
            pairs.append((output, seed))
        shapes: list[tuple[Shape, bool]] = [((), per_sample)] * len(results)
        if not self.scalar and self.signature.outputs is not None:
            places_of_all = [places for _, places in parts]
            results = [arrays.scatter((len(outputs),), list(zip(places_of_all, results, strict=True)))]
            shapes = [((len(outputs),), per_sample)]
        flat_lists = self.scalar and by != "vjp"
        differentiated = by == "vjp"
        if by == "vjp":  # what JAX asks for: the gradient alone, of the samples' sum
            results, shapes, by, per_sample = [], [], "both", False
        if by == "pullback":  # of a call that gave a Value for each sample, the gradient of all that is made of them
            results, shapes, by, per_sample = [], [], "parameters", False
        if by == "first":  # what bind() computes of several outputs
            batched = isinstance(outputs[0], Array) and outputs[0].batched
            pairs = [(outputs[0], arrays.make("weight", (), (), False) if batched else 1.0)]
            by, per_sample = "parameters", False
        forward = [*outputs, *results]
        if by != "value":
            chosen = {"parameters": slice(0, 1), "arguments": slice(1, None), "both": slice(None)}[by]
            if groups:
                flat = [x for group in groups[chosen] for x in group]
                found = iter(gradients(arrays, pairs, flat, per_sample))  # type: ignore[arg-type]
                pieces = [[next(found) for _ in group] for group in groups[chosen]]
                if flat_lists:
                    results += [x for group in pieces for x in group]
                else:
                    results += [
                        arrays.scatter((len(group),), [(Map((), k), x) for k, x in enumerate(group)]) if group else 0.0
                        for group in pieces
                    ]
            else:
                results += gradients(arrays, pairs, leaves[chosen], per_sample)
            shapes += [(leaf.shape, leaf.batched or per_sample) for leaf in leaves[chosen]]
        return fuse(results, forward, differentiated)[1], shapes

    def _source(self, by: str, careful: bool = False) -> emit.Source:
        key = f"{by} careful" if careful else by
        with self._lock:
            if key not in self._sources:
                if self.looped:
                    self._sources[key] = loop_source(self.program, by, careful)
                elif self.scalar:
                    self._sources[key] = emit.scalar_source(self._targets(by)[0], careful)
                else:
                    self._sources[key] = emit.numpy_source(*self._targets(by))
            return self._sources[key]

    def _code(self, key: str, source: emit.Source) -> Any:
        with self._lock:
            if key not in self._codes:
                self._codes[key] = builtins.compile(source.text, "<kernel>", "exec")
            return self._codes[key]

    def replay(self, theta: Sequence[Any], batch: Sequence[Sequence[Any]], output: int = 0) -> Any:
        """Return an output as an ordinary graph: the program, played back on Values, sample by sample."""
        signature = self.signature
        samples = len(batch[0]) // max(self.program.sizes[0], 1) if signature.batched else 1
        results = []
        for k in range(samples):
            values: list[Any] = []
            for row, arguments, data in self.program.nodes():
                if arguments:
                    mine = [values[a] for a in arguments]
                    values.append(_PLAYED[row](mine) if row in _PLAYED else row(*mine))
                elif row is PARAMETER:
                    values.append(theta[int(data)])
                elif row.recipe is not None and row.recipe[0] is argument_of:
                    argument = int(row.recipe[1][0])
                    values.append(batch[argument][k * self.program.sizes[argument] + int(data)])
                else:
                    values.append(data)
            results.append(values[self.program.outputs[output]])
        total = ops.total(results)
        total = total / float(samples) if signature.reduce == "mean" and signature.batched else total
        return total if isinstance(total, Value) else engine.constant(total)

    # -- running --------------------------------------------------------------------------------------

    def _run(self, by: str, theta: ArrayLike, batch: Sequence[Any], seed: Any = None) -> tuple[Any, Any]:
        """The value and the gradient; ``seed`` is the weight of each output, of which 0 leaves an output out."""
        value, gradient = self._computed(by, theta, batch, seed)
        if seed is not None and by != "pullback" and any(np.isnan(part).any() for part in _parts(gradient)):
            # It may be 0 · ∞ on the way back from an output that is left out: go back from the others alone.
            weights = np.asarray(seed, dtype=float)
            chosen = np.flatnonzero(weights.reshape(-1, weights.shape[-1]).any(axis=0)).tolist()
            if 0 < len(chosen) < weights.shape[-1]:
                gradient = self.of(tuple(chosen))._computed(by, theta, batch, weights[..., chosen])[1]
        return value, gradient

    def cut(self, output: int) -> tuple[list[bool], list[list[bool]]]:
        """Return for each parameter, and each number of each argument, whether no path leads to it from an output.

        A path does not lead through a local derivative that is 0 by definition, as that of ``stop_gradient``.
        """
        with self._lock:
            if output not in self._cuts:
                whole = self.program
                part = Program(*whole.columns, [whole.outputs[output]], whole.sizes, whole.parameters)
                of_parameters = [True] * whole.parameters
                of_arguments = [[True] * size for size in whole.sizes]
                for row, frozen, position in zip(whole.rows, without_gradient(part), whole.data, strict=True):
                    if not frozen and row is PARAMETER:
                        of_parameters[int(position)] = False
                    elif not frozen and row.recipe is not None and row.recipe[0] is argument_of:
                        of_arguments[int(row.recipe[1][0])][int(position)] = False
                self._cuts[output] = of_parameters, of_arguments
            return self._cuts[output]

    def of(self, chosen: tuple[int, ...]) -> "Kernel":
        """The kernel of some of the outputs."""
        with self._lock:
            if chosen not in self._parts_of:
                whole = self.program
                part = Program(*whole.columns, [whole.outputs[k] for k in chosen], whole.sizes, whole.parameters)
                signature = replace(self.signature, outputs=len(chosen))
                self._parts_of[chosen] = Kernel(number_values(part), self.parameters, signature)
            return self._parts_of[chosen]

    def _computed(self, by: str, theta: ArrayLike, batch: Sequence[Any], seed: Any) -> tuple[Any, Any]:
        arrays, size = self._arguments(batch)
        parameters = self._theta(theta)
        if self.scalar:
            return self._run_scalar(by, parameters, arrays, seed)
        tile = self._tile(by, size)
        tiled_mean = tile < size and self.signature.reduce == "mean"  # tiles weigh as their samples, over all of them
        _, shapes = self._targets(by)
        dtype = self.signature.dtype
        results = [np.empty((*shape, size), dtype) if batched else np.zeros(shape, dtype) for shape, batched in shapes]
        for start in range(0, size, tile):
            rows = slice(start, min(start + tile, size))
            count = rows.stop - start
            with self._plan(by, count) as plan:
                plan.theta[...] = parameters
                if seed is not None:
                    plan.seed.T[...] = self._seed(seed[rows] if np.ndim(seed) == 2 else seed, plan.seed.T.shape)
                parts = [
                    result[..., rows] if batched else result
                    for result, (_, batched) in zip(results, shapes, strict=True)
                ]
                plan.names |= {f"out{k}": parts[k] for k in plan.direct}
                plan.run(*[a[rows] for a in arrays] if count < size else arrays)
                plan.names |= {f"out{k}": plan.outs[k] for k in plan.direct}  # what is the caller's is not kept
                scale = float(count) if tiled_mean else 1.0
                for k, (part, out, (_, batched)) in enumerate(zip(parts, plan.outs, shapes, strict=True)):
                    if not batched:
                        part += out * scale
                    elif k not in plan.direct or scale != 1.0:
                        np.multiply(part if k in plan.direct else out, scale, out=part)
        for result in results if tiled_mean else ():
            result /= size
        return self._shaped(by, results, size)

    def _tile(self, by: str, size: int) -> int:
        """How many samples are computed at a time: so few that their buffers stay in the processor's cache."""
        if not self.signature.batched or size < _TILE_ROWS:
            return size
        row = 8 * self._source(by).resident
        return size if row * size <= 2 * _TILE_BYTES else max(_TILE_ROWS, _TILE_BYTES // row)

    @contextmanager
    def _plan(self, by: str, size: int) -> Iterator[_Plan]:
        """Lend a plan that no other thread uses meanwhile."""
        with self._lock:
            plans = self._plans.get((by, size))
            plan = plans.pop() if plans else None
        if plan is None:
            plan = self._bound(by, size)
        yield plan
        with self._lock:
            self._plans.setdefault((by, size), []).append(plan)
            self._plans.move_to_end((by, size))
            while len(self._plans) > _PLANS:
                self._plans.popitem(last=False)

    def _bound(self, by: str, size: int, theta: Floats | None = None, gradient: Floats | None = None) -> _Plan:
        """Execute the program for a batch size: it makes its buffers and views."""
        source = self._source(by)
        code = self._code(by, source)
        dtype = self.signature.dtype
        _, shapes = self._targets(by)
        if theta is None:
            theta = np.empty(len(self.parameters), dtype)
        count = self.signature.outputs or int(by == "pullback")
        seed = np.ones((count, size) if self.signature.per_sample else count, dtype)
        outs = [np.zeros((*shape, size) if batched else shape, dtype) for shape, batched in shapes]
        if gradient is not None:
            outs[-1] = gradient
        namespace = special.numpy_namespace(dtype, source.names)
        namespace |= {f"out{k}": out for k, out in enumerate(outs)}
        namespace |= {"theta": theta, "seed": seed, "B": size}
        namespace |= {"count": np.array(size, dtype), "weight": np.array(1.0 / size, dtype)}
        with np.errstate(all="ignore"):
            run = _defined(code, namespace)
        return _Plan(_quiet(run), theta, seed, outs, namespace, source.direct)

    def _run_scalar(self, by: str, theta: Floats, arrays: Sequence[Floats], seed: Any) -> tuple[Any, Any]:
        count = self.signature.outputs or 1
        numbers = [theta.tolist(), [] if seed is None else self._seed(seed, (count,)).tolist()]
        source = self._source(by)
        used = {f"x{k}": a.ravel().tolist() for k, a in enumerate(arrays)}
        try:
            flat = self._scalar_run(by, source, numbers, used)
        except (ArithmeticError, ValueError):  # Python raised where IEEE 754 has inf or nan
            flat = self._scalar_run(f"{by} careful", self._source(by, careful=True), numbers, used)
        results = [np.array(flat[0] if self.signature.outputs is None else flat[:count], self.signature.dtype)]
        start = count
        sizes = {"value": [], "parameters": [len(theta)], "arguments": self.program.sizes}.get(
            by, [len(theta), *self.program.sizes]
        )
        for size in sizes:
            results.append(np.array(flat[start : start + size], self.signature.dtype))
            start += size
        return self._shaped(by, results, 1)

    def _scalar_run(self, key: str, source: emit.Source, numbers: Sequence[Any], used: dict[str, Any]) -> Any:
        code = self._code(key, source)
        with self._lock:
            run = self._codes.get(f"{key} run")
            if run is None:
                namespace = {"inf": ops.inf, "nan": ops.nan, **source.names}
                run = self._codes[f"{key} run"] = _defined(code, namespace)
        return run(*numbers, **{name: used[name] for name in run.__code__.co_varnames if name in used})

    def _shaped(self, by: str, results: list[Floats], size: int) -> tuple[Any, Any]:
        """Give results the shapes that a user expects: samples first."""
        signature = self.signature
        if by == "pullback":
            return None, results[0]
        several = signature.outputs is not None
        value = results[0].T if several or signature.per_sample else results[0].item()
        if by == "value":
            return value, None
        found = iter(results[1:])
        theta: Any = None
        if by != "arguments":
            theta = next(found).T if signature.per_sample else next(found)
        if by == "parameters":
            return value, theta
        leading = (size,) if signature.batched else ()
        arguments = [g.T.reshape((*leading, *shape)) for g, shape in zip(found, signature.shapes, strict=True)]
        return value, arguments if by == "arguments" else (theta, arguments)

    # -- checking what came in ------------------------------------------------------------------------

    def _name(self, k: int) -> str:
        names = self.signature.names
        return names[k] if k < len(names) else f"number {k + 1}"

    def _check_length(self, name: str, array: Floats) -> None:
        if array.shape != (len(self.parameters),):
            raise ValueError(
                f"{name} must be a flat array of {len(self.parameters)} numbers, one per parameter; "
                f"got shape {array.shape}"
            )

    def _seed(self, seed: Any, shape: Shape) -> Floats:
        array = real_array(seed, "seed", self.signature.dtype)
        if array.shape not in (shape, shape[-1:]):
            raise ValueError(f"seed must have the shape {shape}, a weight per output; got {array.shape}")
        return array

    def _theta(self, theta: ArrayLike) -> Floats:
        array = real_array(theta, "theta", self.signature.dtype)
        self._check_length("theta", array)
        return array

    def _arguments(self, batch: Sequence[Any]) -> tuple[list[Floats], int]:
        """Check a batch; return contiguous arrays, one row a sample, and the number of samples."""
        signature = self.signature
        if len(batch) != len(signature.shapes):
            raise TypeError(
                f"this kernel takes {len(signature.shapes)} argument(s) ({', '.join(signature.names)}); "
                f"got {len(batch)}"
            )
        arrays: list[Floats] = []
        size = -1
        for k, (name, given) in enumerate(zip(signature.names, batch, strict=True)):
            array = real_array(given, name, signature.dtype)
            signature.check_shape(k, array.shape)
            if signature.batched:
                if size >= 0 and len(array) != size:
                    raise ValueError(
                        f"argument {name} has {len(array)} samples but {signature.names[0]} has {size}; give as many"
                    )
                size = len(array)
                if not size:
                    raise ValueError(f"argument {name} has no samples; give at least one")
                arrays.append(np.ascontiguousarray(array).reshape(size, -1))
            else:
                arrays.append(np.ascontiguousarray(array).reshape(-1))
        return arrays, max(size, 1)


def _defined(code: Any, namespace: dict[str, Any]) -> Any:
    """Execute a program and return its ``run``.

    Its namespace refers to no function that refers to it, or the buffers in it would live until they are collected.
    """
    exec(code, namespace)
    run = namespace.pop("run")
    run.parts = {name: x for name, x in namespace.items() if getattr(x, "__globals__", None) is namespace}
    namespace |= {name: weakref.proxy(part) for name, part in run.parts.items()}
    return run


def _quiet(run: Callable[..., None]) -> Callable[..., None]:
    """Inf and nan are results here, not warnings."""

    def quiet(*arrays: Floats) -> None:
        with np.errstate(all="ignore"):
            run(*arrays)

    return quiet


def real_array(given: Any, name: str, dtype: str) -> Floats:
    """Return real numbers as an array of a type.

    Raises:
        TypeError: for text, complex numbers, objects and ragged lists, naming the argument.
    """
    if type(given) is np.ndarray and given.dtype == dtype:
        return given
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise TypeError(f"argument {name} must be an array of numbers; its rows differ in length") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"argument {name} must be an array of real numbers; got {array.dtype} ({type(given).__name__})")
    return array.astype(dtype)


def _parts(gradient: Any) -> Iterator[Floats]:
    """The arrays of a gradient, which may stand in lists."""
    if isinstance(gradient, np.ndarray):
        yield gradient
    else:
        for part in gradient or ():
            yield from _parts(part)


def _stacked(gradients: list[Any], axis: int) -> Any:
    """The gradients of the outputs with a new axis over them."""
    first = gradients[0]
    if isinstance(first, np.ndarray):
        return np.stack(gradients, axis)
    return type(first)(_stacked([g[k] for g in gradients], axis) for k in range(len(first)))


def _rebuilt(program: Program, numbers: list[tuple[float, str]], signature: Signature, traced: int) -> Kernel:
    return Kernel(program, [Value(number, label) for number, label in numbers], signature, traced)
