"""A kernel computes a function of scalars and its gradient for whole batches, on flat arrays."""

import functools
import itertools
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from microgrid import atomic, ops
from microgrid.compiler.boxes import Box, kernel_boxes
from microgrid.compiler.call import Cuts, called, cuts
from microgrid.compiler.derivatives import Derivative
from microgrid.compiler.gates import with_gates
from microgrid.compiler.ir import Form, Node
from microgrid.compiler.program import Program
from microgrid.compiler.results import empty, parts, shaped, stacked
from microgrid.compiler.signature import Floats, Signature
from microgrid.compiler.simplify import number_values
from microgrid.compiler.stages import Stages
from microgrid.compiler.structure import Split
from microgrid.compiler.targets import Choice
from microgrid.compiler.targets.target import Executable
from microgrid.compiler.task import STEP, VALUE, By, Task
from microgrid.engine import Value
from microgrid.environment import require
from microgrid.nn import Module
from microgrid.recording import unwritten, writes, written


class Kernel:
    """A compiled function of scalars: its value and its gradient, for a batch at a time.

    The parameters, the leaves that the function found outside its arguments, are one flat array ``theta``
    here, in the order of ``parameters``. A kernel may be used from several threads at once, and pickled.

    >>> square = mg.compile(lambda x: x * x)
    >>> isinstance(square.kernel([1.0, 2.0]), mg.Kernel)
    True

    Attributes:
        signature: what the kernel takes and gives.
        modules: what returns each module that the function reaches, outer ones first: drawings name parameters by it.
        parameters: the leaves that ``theta`` stands for.
        traced: how many nodes the function recorded.
        others: those from the third on, which all nodes of its calls share.
        varied: whether some parameter is no leaf: what is being differentiated by, by the caller of the call.
        stages: the function between scalars and target.
    """

    def __init__(
        self,
        program: Program,
        parameters: list[Value],
        signature: Signature,
        traced: int = 0,
        target: str | None = None,
        *,
        simplified: bool = True,
    ) -> None:
        self.parameters, self.signature = parameters, signature
        self.varied = any(parameter.first is not None for parameter in parameters)
        self.others = tuple(parameters[2:])
        self._theta: tuple[Any, Floats | None] = (None, None)
        self._bound: list[tuple[Floats | None, Floats, Floats, Callable[[Sequence[Floats]], None]]] = []
        self.modules: Sequence[Callable[[], Module | None]] = ()
        self.traced = traced or len(program)
        self.stages, self._insisted = Stages(program, signature, simplified=simplified), target
        self._lock = threading.RLock()
        self._built: dict[Task, tuple[Executable, list[Form], bool]] = {}
        self._parts_of: dict[tuple[int, ...], Kernel] = {}
        self._derivatives: dict[tuple[tuple[int, ...], bool, bool], Derivative] = {}
        self._cuts: dict[int, Cuts] = {}
        if target is not None:
            _ = self._choice  # which refuses a target that does not suit

    @property
    def program(self) -> Program:
        """The scalars that were traced, simplified."""
        return self.stages.program

    def cut(self, output: int) -> Cuts:
        """Return for each parameter, and each number of each argument, whether no path leads to it from an output."""
        if output not in self._cuts:
            self._cuts[output] = cuts(self.program, output)
        return self._cuts[output]

    def read(self) -> Floats:
        """Return the numbers of the parameters as a flat array."""
        return self.theta.copy()

    @property
    def theta(self) -> Floats:
        """The numbers of the parameters, to be read only: the array of before where none was written since."""
        for publish in [*unwritten]:
            publish()
        latest, (seen, theta) = writes.latest, self._theta
        if seen is not latest or theta is None or self.varied:
            theta = np.array([parameter._data for parameter in self.parameters], dtype=self.signature.dtype)
            self._theta = latest, theta
        return theta

    def write(self, theta: ArrayLike) -> None:
        """Set the parameters to the numbers of a flat array."""
        numbers = self.signature.parameters(theta, len(self.parameters)).tolist()
        atomic.assign((self.parameters, "_data", numbers), written())

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
        return self.compute(VALUE, theta, batch)[0]

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
            ValueError: as ``value``, for an unknown ``by``, or a ``seed`` of one output.
        """
        task, count = Task.gradient(by), self.signature.outputs
        if count is None and seed is not None:
            raise ValueError(
                f"seed is the weight of each of several results, and this kernel takes {self.signature.described()}: "
                "leave it out"
            )
        if count is None or seed is not None:
            return self.compute(task, theta, batch, seed)
        if self.signature.reduced and task.by_arguments:
            rows = [self.compute(task, theta, batch, unit) for unit in np.eye(count)]
            return rows[0][0], stacked([gradient for _, gradient in rows], axis=0)
        return self.value(theta, *batch), self.jacobian(theta, *batch, by=by)

    def jacobian(self, theta: ArrayLike, *batch: ArrayLike, by: By | None = None, sparse: bool = False) -> Any:
        """Return the derivatives of the outputs, at parameters ``theta``; of one output its gradient.

        Which are 0 by the structure of the program is found once; the others by as few products with vectors as there
        are colours of its columns or rows (Curtis, Powell and Reid, 1974), forward or reverse, whichever is cheaper.

        >>> from microgrid import compile
        >>> kernel = compile(lambda x: [a * b for a, b in zip(x, x[1:])], batch=False).kernel([1.0, 2.0, 3.0])
        >>> kernel.jacobian([], [1.0, 2.0, 3.0], sparse=True).toarray()
        array([[2., 1., 0.],
               [0., 3., 2.]])

        Args:
            theta: the parameters, a flat array in the order of ``parameters``.
            *batch: the arguments; their leading axis is the sample.
            by: as in ``value_and_grad``. Unless given it is by the parameters, or by the arguments if there are none.
            sparse: whether to return one matrix, ``scipy.sparse.csr_array``: a row for each output, those of each
                sample one below the other for ``reduce=None``, and a column for each parameter, then for each number
                of each argument; with a batch for those of each sample.

        Returns:
            What ``value_and_grad`` returns behind the value; or the sparse matrix.

        Raises:
            ModuleNotFoundError: without SciPy, naming the extra that brings it.
            TypeError: as ``value``.
            ValueError: as ``value``; for an unknown ``by``; if samples that have become one are to be told apart.
        """
        by = by or ("parameters" if self.parameters else "arguments")
        signature, leaves = self.signature, self.leaves(by)
        if sparse:
            return self.derivative(leaves, theta, batch, sparse=True)
        if signature.outputs is None or (signature.reduced and any(leaves)):
            return self.value_and_grad(theta, *batch, by=by)[1]
        matrix = self.derivative(leaves, theta, batch)
        shapes = [(len(self.parameters),), *signature.shapes]
        ends = [*itertools.accumulate([math.prod(shapes[k]) for k in leaves], initial=0)]
        columns = zip(leaves, ends, ends[1:], strict=False)
        split = [matrix[..., a:b].reshape(*matrix.shape[:-1], *shapes[k]) for k, a, b in columns]
        return split[0] if by == "parameters" else split if by == "arguments" else (split[0], split[1:])

    def hessian(
        self,
        theta: ArrayLike,
        *batch: ArrayLike,
        by: By | None = None,
        seed: ArrayLike | None = None,
        sparse: bool = False,
    ) -> Any:
        """Return the second derivatives, at parameters ``theta``, as one matrix.

        A row and a column stand for each parameter, then for each number of each argument, if it is by both. Its
        entries that are not 0 by structure come from Hessian-vector products, forward over reverse, with as few vectors
        as there are colours of its columns.

        Args:
            theta: the parameters, a flat array in the order of ``parameters``.
            *batch: the arguments; their leading axis is the sample.
            by: as in ``jacobian``; with a batch by the parameters alone.
            seed: for several outputs, the weight of each in the sum that is differentiated, such as the multipliers of
                constraints.
            sparse: whether to return ``scipy.sparse.csr_array``.

        Raises:
            ModuleNotFoundError: without SciPy, naming the extra that brings it.
            TypeError: as ``value``.
            ValueError: as ``value``; for an unknown ``by``; for several outputs without their weights, samples that
                are kept apart, or derivatives by the arguments of a batch.
        """
        by = by or ("parameters" if self.parameters else "arguments")
        return self.derivative(self.leaves(by), theta, batch, second=True, seed=seed, sparse=sparse)

    def leaves(self, by: By) -> tuple[int, ...]:
        """Return what to differentiate by: 0 for the parameters, k + 1 for argument k."""
        task = Task.gradient(by)
        return (*[0] * task.by_parameters, *range(1, task.by_arguments * len(self.signature.shapes) + 1))

    def derivative(
        self,
        leaves: tuple[int, ...],
        theta: ArrayLike,
        batch: Sequence[Any],
        *,
        second: bool = False,
        seed: ArrayLike | None = None,
        sparse: bool = False,
    ) -> Any:
        """Return a Jacobian or a Hessian by these leaves as a matrix; a dense Jacobian for each sample kept apart.

        Raises:
            ModuleNotFoundError, TypeError, ValueError: as ``jacobian`` and ``hessian``.
        """
        signature = self.signature
        what = f"this kernel takes {signature.described()}"
        kept = f"{what}, with reduce={signature.reduce!r}"
        if second and signature.per_sample:
            raise ValueError(
                f"a Hessian is that of one number, and {kept}: compile with reduce='mean' or 'sum', or one sample with "
                "batch=False"
            )
        if signature.batched and any(leaves) and (second or signature.reduced):
            remedy = "one sample with batch=False" if second else "with reduce=None, which keeps samples apart"
            raise ValueError(f"samples of a batch have no derivatives of their own here, and {kept}: compile {remedy}")
        if second and (signature.outputs is None) != (seed is None):
            remedy = "leave it out" if signature.outputs is None else "give one number for each"
            raise ValueError(f"seed is the weight of each of several results, and {what}: {remedy}")
        if second and signature.batched and seed is not None:
            raise ValueError("the Hessian of a batch is that of one output: return the weighted sum of the others")
        if sparse:
            require("scipy.sparse", "a sparse derivative", "compile")
        arrays, size = signature.arguments(batch)
        parameters = signature.parameters(theta, len(self.parameters))
        weights = None if seed is None else signature.seed(seed, (signature.outputs or 1,))
        key = leaves, second, weights is not None
        with self._lock:
            if key not in self._derivatives:
                self._derivatives[key] = Derivative(
                    self.stages, leaves, second=second, weighted=weights is not None, target=self._insisted
                )
        derivative = self._derivatives[key]

        def pull(task: Task, weights: Floats | None) -> Any:
            return self.run(task, parameters, arrays, size, weights)[1]

        found = derivative.entries(parameters, arrays, size, weights, pull)
        if sparse:
            return derivative.sparse(found)
        return derivative.dense(found) if signature.per_sample else derivative.dense(found)[0]

    def bind(self, theta: Floats, gradient: Floats) -> Callable[..., Any]:
        """Return ``step(*batch)``, which returns the value and writes the gradient where you said.

        It is ``value_and_grad`` for a training loop: ``theta`` is read where it is, so an optimiser may
        change it in place, and ``gradient`` is written where it is; nothing is copied and no view is made
        anew. One bound function is for one thread, and no argument of it may share memory with ``gradient``.

        Of a function with several outputs and ``reduce=None`` the first is the loss: ``step`` returns the
        outputs of each sample, one row each, and the gradient is that of the mean of the first.

        Raises:
            TypeError: if the arrays are not contiguous arrays of the kernel's dtype.
            ValueError: if they have not one number per parameter, ``gradient`` is read-only or shares memory with
                ``theta``, or ``reduce`` does not fit the outputs.
        """
        self.signature.check_bound(theta, gradient, len(self.parameters))
        several = self.signature.outputs is not None
        if several != self.signature.per_sample:
            raise ValueError("bind() is for one output and reduce='mean' or 'sum', or several and reduce=None")
        count, per_sample, dtype = self.signature.outputs, self.signature.per_sample, self.signature.dtype
        executable = self.executable(STEP if per_sample else Task.gradient("parameters"))
        bound: dict[int, tuple[Floats, Callable[[Sequence[Floats]], None]]] = {}

        def step(*batch: ArrayLike) -> Any:
            arrays, size = self.signature.arguments(batch)
            if size not in bound:
                out: Floats = np.empty((count or 1, size) if per_sample else (), dtype)
                bound[size] = out, executable.bind(size, theta, np.empty(0, dtype), [out, gradient])
            value, run = bound[size]
            run(arrays)
            return value.T.copy() if per_sample else value.item()

        return executable.entered(step, theta, gradient)

    def present(self, arrays: Sequence[Floats], size: int) -> Any:
        """Return the function of a batch that is checked, as ``value`` does, at the present parameters."""
        if self.signature.batched:
            return self.run(VALUE, self.theta, arrays, size)[0]
        theta = self.theta
        try:
            seen, buffer, out, run = self._bound.pop()
        except IndexError:
            seen, buffer, out = None, theta.copy(), np.empty(self._ready(VALUE)[1][0][0], theta.dtype)
            run = self.executable(VALUE).bind(1, buffer, np.empty(0, theta.dtype), [out])
        if seen is not theta:
            buffer[...] = theta
        run(arrays)
        value = out.item() if self.signature.outputs is None else out.copy()
        self._bound.append((theta, buffer, out, run))
        return value

    @functools.cached_property
    def apart(self) -> "Kernel":
        """The kernel of the same function that keeps the samples apart."""
        if not self.signature.batched or self.signature.per_sample:
            return self
        return Kernel(self.program, self.parameters, replace(self.signature, reduce=None), self.traced, self._insisted)

    def function(self) -> Callable[..., tuple[float, tuple[float, ...]]]:
        """Return ``f(a, b, …)`` of plain numbers, which returns the value and its derivative by each of them.

        It is for a function of numbers that is called often, one point at a time: natively a call takes a tenth of
        a microsecond. The parameters are those of now.

        >>> from microgrid import compile
        >>> f = compile(lambda a, b: a * b + a, batch=False).kernel(2.0, 3.0).function()
        >>> f(2.0, 3.0)
        (8.0, (4.0, 2.0))

        Raises:
            ValueError: if the kernel has a batch, an argument that is no single number, several results, or none
                but parameters.
        """
        signature = self.signature
        if signature.batched or signature.outputs is not None or not signature.shapes or any(signature.shapes):
            raise ValueError(
                "function() is for one result of arguments that are each one number: compile(f, batch=False) with "
                f"such, or a graph with inputs=; this kernel takes {signature.described()}"
            )
        theta, task = self.read(), Task.gradient("arguments")

        def function(*numbers: Any) -> tuple[float, tuple[float, ...]]:
            value, gradient = self.compute(task, theta, numbers)
            return value, tuple([float(x) for x in gradient])

        return self.executable(task).function(function, theta)

    def __call__(self, *arguments: Any) -> Any:
        """Return the function as a Value, one node of an ordinary graph; ``backward()`` fills ``grad``.

        Arguments are arrays or nested lists, of numbers or of Values. For several outputs it is a list,
        for ``reduce=None`` a list with an entry per sample.
        """
        split = [Split.of(self.signature.name(k), argument) for k, argument in enumerate(arguments)]
        for part, array in zip(split, self.signature.arrays([part.numbers for part in split]), strict=True):
            part.numbers = array
        return called(self, split)

    @property
    def target(self) -> str:
        """The name of what computes it."""
        return self._choice.target.name

    @property
    def why_not(self) -> dict[str, str]:
        """For each target that would have come before, by its name, why it does not suit."""
        return self._choice.why_not

    @property
    def source(self) -> str:
        """The program that computes the value and the gradient by the parameters, as text."""
        return self.dump("source")

    def dump(self, stage: str = "arrays") -> str:
        """Return a stage of the compilation as text: ``program``, ``classes``, ``arrays``, ``source``.

        A target may have more; the message of the error for an unknown stage names all.
        """
        mine: dict[str, Callable[[], str]] = {
            "program": self.program.dump,
            "classes": lambda: self.stages.classes.dump(self.program),
            "arrays": lambda: self.stages.shown(Task.gradient("parameters")).dump(),
        }
        if stage in mine:
            return mine[stage]()
        others = self._choice.target.stages
        if stage in others:
            return self.executable(self.stages.own_task).text(stage)
        *names, last = map(repr, [*mine, *others])
        raise ValueError(f"stage must be {', '.join(names)} or {last}; got {stage!r}")

    def statements(self, by: By | Literal["value"] = "parameters") -> list[Node]:
        """Return the statements of the array program, without leaves and views."""
        return self.stages.shown(VALUE if by == "value" else Task.gradient(by)).statements

    def boxes(self, by: By | Literal["value"] | None = None) -> list[Box]:
        """Return the array program as boxes with shapes, for a drawing: leaves and statements, operands first.

        Each part that is read of the parameters is a leaf of its own: the weights of a layer, its biases.

        Args:
            by: as in ``value_and_grad``, or ``"value"`` for no gradient. Unless given it is by the parameters, or
                by the arguments if there are no parameters.

        Raises:
            ValueError: if the program is a loop of plain floats, which has no arrays to draw.
        """
        if self.target == "loops":
            raise ValueError("this kernel is a loop of plain floats, without arrays to draw; read kernel.source")
        return kernel_boxes(self.stages, self._task(by), self.parameters, self.modules)

    def __repr__(self) -> str:
        size = f"{self.traced} nodes, {len(self.source.splitlines())} lines"
        return f"<kernel of ({', '.join(self.signature.names)}), {len(self.parameters)} parameters: {size}>"

    def __reduce__(self) -> Any:
        numbers = [(parameter._data, parameter.label) for parameter in self.parameters]
        return _rebuilt, (self.program, numbers, self.signature, self.traced, self._insisted)

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
        from microgrid.compiler.targets.jax import pure_function  # it asks for JAX

        return pure_function(self.stages)

    def to_c(
        self,
        name: str,
        by: By | Literal["value"] | None = None,
        *,
        real: Literal["double", "float"] | None = None,
        tile: int = 1,
        batch: Sequence[Any] | None = None,
    ) -> str:
        """Return the kernel as one file of C99 that needs ``<math.h>`` alone, for a machine without Python.

        It has one function, ``void name(theta, x, …, value, gradient, …, workspace, n)``. That allocates nothing and
        keeps nothing between calls: what it needs stands in a ``struct name_workspace`` of the caller, whose size the
        header of the file says, with the arrays and how to compile it. All names are those of the function's
        arguments; the gradients are ``gradient``, by the parameters, and ``gradient_by_x``.

        For a microcontroller with single precision: ``to_c("model", real="float")``, then
        ``arm-none-eabi-gcc -std=c99 -O2 -mcpu=cortex-m4 -mfpu=fpv4-sp-d16 -mfloat-abi=hard -c model.c``; give
        ``static struct model_workspace w;`` there, and not on the stack.

        Args:
            name: the name of the function.
            by: as in ``value_and_grad``, or ``"value"`` for no gradient. Unless given it is by the parameters, or
                by the arguments if there are no parameters.
            real: the type of all numbers; that of the kernel unless given.
            tile: how many samples are computed at a time: more may be faster, and take more workspace.
            batch: a few samples, one array for each argument, for a self-test: what they give now, at the present
                parameters, is compared by a ``main`` that ``-DNAME_TEST`` adds. Several outputs weigh 1 each.

        Raises:
            NotImplementedError: for an operation that C has no form of, naming it.
            TypeError: if ``batch`` has arrays of other types than numbers, or too many or too few.
            ValueError: for a name, a type, a tile or a batch that cannot be.
        """
        from microgrid.compiler.targets import c  # few need it

        labels = [parameter.label for parameter in self.parameters]
        recorded = None if batch is None else (self.read(), None, batch)
        return c.export(self.stages, self._task(by), name, labels, real=real, tile=tile, recorded=recorded)

    # -- what a call needs ----------------------------------------------------------------------------

    def _task(self, by: By | Literal["value"] | None) -> Task:
        """The value, and the gradient by what is said; unless it is said, by what there is."""
        return self.stages.own_task if by is None else VALUE if by == "value" else Task.gradient(by)

    def compute(
        self, task: Task, theta: ArrayLike, batch: Sequence[Any], seed: Any = None, sent: Any = None
    ) -> tuple[Any, Any]:
        """Return the value and the gradient, or None.

        Args:
            task: what to compute.
            theta: the parameters.
            batch: the arguments.
            seed: the weight of each output: for all samples, or a row for each sample that is kept apart.
            sent: for each weight whether a gradient goes back from the output; unless given, where it is not 0.
        """
        value, gradient = self._computed(task, theta, batch, seed)
        if seed is None or not any(np.isnan(part).any() for part in parts(gradient)):
            return value, gradient
        # It may be 0 · ∞ on the way back from an output that is left out: go back from the others alone.
        weights = np.asarray(seed, dtype=float)
        sent = weights != 0.0 if sent is None else sent
        if sent.all():
            return value, gradient
        for part in parts(gradient):
            part[...] = 0.0
        apart = self.signature.per_sample
        if apart:
            weights, sent = (np.broadcast_to(x, (len(batch[0]), x.shape[-1])) for x in (weights, sent))
        for pattern in np.unique(sent.reshape(-1, sent.shape[-1]), axis=0):
            chosen = np.flatnonzero(pattern)
            if not len(chosen):
                continue
            kernel = self if pattern.all() else self.of(tuple(chosen.tolist()))
            rows = np.flatnonzero((sent == pattern).all(axis=1)) if apart else ...
            mine = [np.asarray(argument)[rows] for argument in batch]
            found = kernel._computed(task, theta, mine, weights[rows][..., chosen])[1]
            for part, more in zip(parts(gradient), parts(found), strict=True):
                part[... if task.of == "total" else rows] += more
        return value, gradient

    def of(self, chosen: tuple[int, ...]) -> "Kernel":
        """Return the kernel of some of the outputs."""
        with self._lock:
            if chosen not in self._parts_of:
                whole = self.program
                part = Program(*whole.columns, [whole.outputs[k] for k in chosen], whole.sizes, whole.parameters)
                signature = replace(self.signature, outputs=len(chosen))
                self._parts_of[chosen] = Kernel(with_gates(number_values(part)), self.parameters, signature)
            return self._parts_of[chosen]

    # -- running --------------------------------------------------------------------------------------

    @functools.cached_property
    def _choice(self) -> Choice:
        return Choice(self.stages, self._insisted)

    @property
    def _of_first(self) -> Choice:
        """The choice for what goes back from the first output alone: the gates of all would let through 0 · ∞."""
        whole = self.program
        if not any(row.chooses for row in {*whole.rows}):
            return self._choice
        rows, starts, arguments, data = whole.columns
        stopped = Program([*rows], [*starts], [*arguments], [*data], [], whole.sizes, whole.parameters)
        stopped.outputs = [
            x if k == 0 else stopped.append(ops.stop_gradient, (x,)) for k, x in enumerate(whole.outputs)
        ]
        return Choice(Stages(with_gates(stopped), self.signature), self._insisted)

    def executable(self, task: Task) -> Executable:
        """Return what computes a task, built when it is first asked for."""
        return self._ready(task)[0]

    def _ready(self, task: Task) -> tuple[Executable, list[Form], bool]:
        """What computes a task, the forms of its outputs, and whether it takes a seed."""
        found = self._built.get(task)
        if found is None:
            with self._lock:
                forms = task.forms(self.signature, [len(self.parameters), *self.stages.recorded.sizes])
                executable = (self._of_first if task.of == "first" else self._choice).build(task)
                found = self._built.setdefault(task, (executable, forms, task.takes_seed(self.signature)))
        return found

    def _computed(self, task: Task, theta: ArrayLike, batch: Sequence[Any], seed: Any) -> tuple[Any, Any]:
        arrays, size = self.signature.arguments(batch)
        return self.run(task, self.signature.parameters(theta, len(self.parameters)), arrays, size, seed)

    def run(
        self, task: Task, parameters: Floats, arrays: Sequence[Floats], size: int, seed: Any = None
    ) -> tuple[Any, Any]:
        """Compute a task, of what is checked already."""
        signature, dtype = self.signature, self.signature.dtype
        executable, forms, takes_seed = self._ready(task)
        weights = np.empty(0, dtype)
        if takes_seed:
            count = signature.outputs or 1
            weights = np.empty((count, size) if signature.per_sample else count, dtype)
            weights.T[...] = signature.seed(seed, weights.T.shape)
        outs = empty([(*shape, size) if batched else shape for shape, batched in forms], dtype)
        executable.run(parameters, weights, arrays, outs)
        return shaped(signature, task, outs, size)


def _rebuilt(program: Program, numbers: list[tuple[float, str]], *rest: Any) -> Kernel:
    return Kernel(program, [Value(number, label) for number, label in numbers], *rest)
