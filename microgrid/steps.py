"""A step of learning and a measurement, either on Values, sample by sample, or compiled."""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from copy import copy
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar

import numpy as np

from microgrid import atomic
from microgrid.calculus import flatten
from microgrid.compiler import Compiled, TraceError
from microgrid.compiler import compile as compile_function
from microgrid.compiler.capture import Generators
from microgrid.compiler.compiled import Variant
from microgrid.compiler.kernel import Kernel
from microgrid.engine import Value, constant
from microgrid.nn import as_list, mode
from microgrid.ops import short_repr
from microgrid.optim import Optimizer, changes
from microgrid.recording import is_watched, kinds, no_grad, unwritten, user_line, watch, watch_reads, writes, written

Loss = Callable[[Any, Any], Any]
"""``loss(output, target)`` of one sample: a Value, from the output of the model and its target."""

Accuracy = Callable[[Any, Any], bool]
"""``accuracy(output, target)`` of one sample: whether the output of the model is right."""


class Measured(NamedTuple):
    """Loss and accuracy of a model: means over samples. The accuracy is nan if answers are not right or wrong."""

    loss: float
    accuracy: float


def is_right(output: Any, target: Any) -> bool:
    """Return whether the largest output is that of the target, which is a class or one-hot.

    A single output is right if it is positive exactly when the target is.
    """
    outputs = [getattr(number, "data", number) for number in as_list(output)]
    targets = as_list(target)
    if len(outputs) == 1:
        return bool((outputs[0] > 0) == (targets[0] > 0))
    return bool(outputs.index(max(outputs)) == (targets.index(max(targets)) if len(targets) > 1 else targets[0]))


def _are_right(outputs: Any, targets: Any) -> Any:
    """``is_right`` of many samples at once, one in each row."""
    if targets.ndim == 1:
        targets = targets[:, None]
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > 0) == (targets[:, 0] > 0)
    return outputs.argmax(axis=1) == (targets.argmax(axis=1) if targets.shape[1] > 1 else targets[:, 0])


class Bucket(NamedTuple):
    """The samples of one shape, with targets of one shape: sequences of one length.

    Attributes:
        X: the samples.
        y: their targets.
        places: their positions among all samples.
    """

    X: Any
    y: Any
    places: Any

    @property
    def shape(self) -> tuple[Any, Any]:
        """The shape of a sample, and that of a target."""
        return shape_of(self.X, self.y)


def shape_of(X: Any, y: Any) -> tuple[Any, Any]:
    """Return the shape of one of several samples, and that of a target."""
    return X.shape[1:], y.shape[1:]


# ---------------------------------------------------------------------------------------------------
# A step


State = tuple[Any, dict[str, Any]]
"""The state that a step changes: the parameters, as a list or an array, and the attributes of the optimiser."""


class Step(Protocol):
    """One step of learning, however it is computed."""

    def gradients(self, X: Any, y: Any) -> Measured:
        """Compute the gradients of the mean loss of a minibatch; return how the model did on it."""

    def finite(self) -> bool:
        """Return whether every gradient is a finite number."""

    def update(self) -> State:
        """Let the optimiser move the parameters by their gradients; return the state before."""

    def read(self) -> State:
        """Return the parameters and the attributes of the optimiser, as they are now."""

    def write(self, state: State) -> None:
        """Set both to what ``read()`` gave."""

    def publish(self) -> None:
        """Bring the Values and the optimiser up to date: as they are after the last whole step.

        It may be cut short and called again. An update that was cut short is undone.
        """

    def resume(self) -> None:
        """Continue from the Values, after any changes by others.

        Raises:
            TraceError: if the changed model does not compile.
        """


def _trained(model: Any, optimizer: Any) -> list[Value]:
    return list(dict.fromkeys([*model.parameters(), *optimizer.parameters]))


class EagerStep:
    """A step on Values, sample by sample: gradients add up, and one sample's graph is in memory at a time."""

    def __init__(self, model: Any, loss: Loss, optimizer: Any, accuracy: Accuracy | None) -> None:
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.accuracy = accuracy
        self.parameters = _trained(model, optimizer)
        self._before: State | None = None

    def gradients(self, X: Any, y: Any) -> Measured:
        """Compute the gradients of the mean loss of a minibatch; return how the model did on it."""
        for parameter in self.parameters:
            parameter.grad = 0.0
        share = 1.0 / len(X)
        total, right = 0.0, 0
        for x, target in zip(X.tolist(), y.tolist(), strict=True):
            output = self.model(x)
            loss = self.loss(output, target)
            loss.backward(share)  # the gradients of loss / n: added up, those of the mean
            total += loss.data
            right += self.accuracy is not None and self.accuracy(output, target)
        return Measured(total / len(X), right / len(X) if self.accuracy else math.nan)

    def finite(self) -> bool:
        """Return whether every gradient is a finite number."""
        return all(math.isfinite(parameter.grad) for parameter in self.parameters)

    def update(self) -> State:
        """Let the optimiser move the parameters by their gradients; return the state before."""
        before = self._before = self.read()
        self.optimizer.step()
        self._before = None
        return before

    def read(self) -> State:
        """Return the parameters and the attributes of the optimiser, as they are now."""
        return [parameter.data for parameter in self.parameters], _attributes(self.optimizer)

    def write(self, state: State) -> None:
        """Set both to what ``read()`` gave."""
        numbers, attributes = state
        undone = [self], "_before", [None]
        atomic.assign((self.parameters, "_data", numbers), _to(self.optimizer, attributes), undone, written())

    def publish(self) -> None:
        """Undo an update that was cut short; otherwise the Values are up to date."""
        if self._before is not None:
            self.write(self._before)

    def resume(self) -> None:
        """Do nothing: each step reads the present Values."""


class ArrayStep:
    """A step on arrays: a kernel computes the gradients of a minibatch, the optimiser moves them all at once.

    The parameters are one flat array here. Their Values and the optimiser's memory stay unchanged
    until ``publish()``, so they fit together whenever it is cut short. An optimiser that cannot move
    arrays, or fails to, moves the Values instead, by its ``step()``.
    """

    _state: State  # the parameters, and those attributes of the optimiser that it does not have yet
    _moved: Any

    def __init__(self, optimizer: Any, parameters: list[Value]) -> None:
        self.optimizer, self.parameters = optimizer, parameters
        self._places = {parameter: i for i, parameter in enumerate(parameters)}
        self._gradient = np.zeros(len(parameters))
        self._published = True

    def _descend(self, bound: "Bound", *batch: Any) -> Any:
        """Compute the gradients of a minibatch; return the result of the kernel."""
        bound.theta[bound.in_kernel] = self._theta[bound.here]
        numbers = bound.run(*batch)
        # A new array each time: an optimiser may remember the one that it got.
        self._gradient = np.zeros(len(self.parameters))
        self._gradient[bound.here] = bound.gradient[bound.in_kernel]
        self._published = False
        return numbers

    def finite(self) -> bool:
        """Return whether every gradient is a finite number."""
        return bool(np.isfinite(self._gradient).all())

    def update(self) -> State:
        """Let the optimiser move the parameters by their gradients; return the state before."""
        before = self.read()
        if self._moved is not None:
            after = copy(self.optimizer)
            vars(after).update(self._state[1])
            try:
                with np.errstate(all="ignore"):
                    moved = after._advance(self._of_moved(self._theta), self._of_moved(self._gradient))
            except Exception:  # a formula that takes floats only; one that is at fault fails again below
                self._moved = None
            else:
                self.write((self._with(self._theta, moved), changes(vars(self.optimizer), vars(after))))
                return before
        self.publish()
        self.write((self._theta, _attributes(self.optimizer)))  # these hold until the step is whole
        self.optimizer.step()
        self._pull()
        return before

    def read(self) -> State:
        """Return the parameters and the attributes of the optimiser, as they are now."""
        theta, changed = self._state
        return theta, _attributes(self.optimizer) | changed

    def write(self, state: State) -> None:
        """Set both to what ``read()`` gave."""
        self._published = False
        self._state = state

    def publish(self) -> None:
        """Bring the Values and the optimiser up to date: as they are after the last whole step."""
        if not self._published:
            atomic.assign(
                (self.parameters, "_data", self._theta.tolist()),
                (self.parameters, "_grad", self._gradient.tolist()),
                _to(self.optimizer, _attributes(self.optimizer) | self._state[1]),
                ([self], "_state", [(self._theta, {})]),
                ([self], "_published", [True]),
                written(),
            )

    def _bound_to(self, kernel: Kernel) -> "Bound":
        theta = kernel.read()
        gradient = np.zeros_like(theta)
        # A loss may reach leaves that nothing moves, and leave out parameters that something moves.
        shared = [k for k, parameter in enumerate(kernel.parameters) if parameter in self._places]
        here = _index([self._places[kernel.parameters[k]] for k in shared], len(self.parameters))
        in_kernel = _index(shared, len(kernel.parameters))
        return Bound(self._runs(kernel, theta, gradient, in_kernel, here), theta, gradient, in_kernel, here)

    def _runs(self, kernel: Kernel, theta: Any, gradient: Any, in_kernel: Any, here: Any) -> Callable[..., Any]:
        """The function that computes the gradient of a minibatch."""
        return kernel.bind(theta, gradient)

    def _array(self, numbers: Sequence[float]) -> Any:
        """The parameters as an array of the backend."""
        return np.array(numbers)

    def _of_moved(self, numbers: Any) -> Any:
        """The part of an array of all parameters that the optimiser moves."""
        return numbers[self._moved]

    def _with(self, theta: Any, moved: Any) -> Any:
        """All parameters, with new numbers for those that the optimiser moves."""
        theta = theta.copy()
        theta[self._moved] = moved
        return theta

    def _movable(self) -> Any:
        """The index of the parameters that the optimiser moves as an array; ``None`` if it moves Values."""
        moved = self.optimizer.parameters
        if (
            isinstance(self.optimizer, Optimizer)
            and type(self.optimizer).step is Optimizer.step
            and type(self.optimizer).update is Optimizer.update
            and all(map(self._places.__contains__, moved))
        ):
            return _index([self._places[parameter] for parameter in moved], len(self.parameters))
        return None

    @property
    def _theta(self) -> Any:
        return self._state[0]

    def _pull(self) -> None:
        """Take the numbers of the Values."""
        self._state = self._array([parameter.data for parameter in self.parameters]), {}
        self._published = True


class CompiledStep(ArrayStep):
    """A step of a model and its loss, compiled.

    Raises:
        TraceError: if the model or the loss cannot be compiled.
    """

    def __init__(
        self, model: Any, loss: Loss, optimizer: Any, accuracy: Accuracy | None, buckets: Iterable[Bucket]
    ) -> None:
        super().__init__(optimizer, _trained(model, optimizer))
        self.compiled = {bucket.shape: CompiledModel(model, loss, bucket, training=True) for bucket in buckets}
        self.accuracy = accuracy
        self._bind()
        self._pull()

    def gradients(self, X: Any, y: Any) -> Measured:
        """Compute the gradients of the mean loss of a minibatch; return how the model did on it."""
        compiled = self.compiled[shape_of(X, y)]
        numbers = self._descend(self._bound[shape_of(X, y)], X, y, *compiled.drawn(len(X)))
        return compiled.measured(numbers, y, self.accuracy)

    def resume(self) -> None:
        """Continue from the Values, after any changes by others."""
        renewed = [compiled.renew() for compiled in self.compiled.values()]  # all of them
        if any(renewed):
            self._bind()
        self._moved = self._movable()
        self._pull()

    def _bind(self) -> None:
        self._bound = {shape: self._bound_to(compiled.kernel) for shape, compiled in self.compiled.items()}
        self._moved = self._movable()

    def _pull(self) -> None:
        super()._pull()
        for shape, bound in self._bound.items():
            bound.theta[...] = self.compiled[shape].kernel.read()


class TrainingStep(ArrayStep):
    """A step of learning for a loop of your own; see ``training_step``.

    Attributes:
        loss: the compiled function.
        optimizer: the optimiser of the parameters.
    """

    def __init__(self, loss: Any, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                "optimizer must be one that was made for the parameters, such as Adam(model.parameters()); got "
                f"{short_repr(optimizer)}"
            )
        super().__init__(optimizer, list(optimizer.parameters))
        self.loss = loss if isinstance(loss, Compiled) else compile_function(loss)
        self._kernels: dict[Kernel, Bound] = {}
        self._blocks: list[ExitStack] = []
        self._moved = self._movable()
        self._seen: Any = None
        self._values = np.full(len(self.parameters), math.nan)
        self._state = self._values, {}
        self._pull()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a training step cannot be copied or pickled, for its loss and its optimizer would not share their "
            "parameters: copy the model and optimizer.state_dict(), and make a training_step of the copies"
        )

    def __call__(self, *batch: Any, **named: Any) -> float:
        """Take a step: return the loss of a batch at the parameters as they were, and move them.

        Raises:
            ArithmeticError: if the loss or a gradient is not finite; nothing has changed then.
            ValueError: if the loss is not one number for the batch.
        """
        arguments, kernel = self.loss.bound_to(batch, named)
        if kernel not in self._kernels:
            if kernel.signature.per_sample or kernel.signature.outputs is not None:
                raise ValueError(
                    f"a step needs one loss of a batch, and this function takes {kernel.signature.described()}: "
                    "return one number, and compile with reduce='mean' or 'sum'"
                )
            alive = self.loss.kernels()
            kept = {known: bound for known, bound in self._kernels.items() if known in alive}
            self._kernels = kept | {kernel: self._bound_to(kernel)}
            self._seen = None
        if writes.latest is not self._seen:
            self._pull()
        before = self._gradient, self._published
        value: float = self._descend(self._kernels[kernel], *arguments)
        if not (math.isfinite(value) and self.finite()):
            self._gradient, self._published = before
            raise ArithmeticError(
                f"the loss of this batch is {value}, and its gradients are not all finite: nothing was changed. A "
                "smaller learning rate often helps; mg.detect_anomaly() finds the operation"
            )
        self.update()
        if not self._blocks:
            self.publish()
        return value

    def __enter__(self) -> "TrainingStep":
        blocks = ExitStack()
        blocks.enter_context(watch_reads(self._before_reading))
        blocks.enter_context(watch(self._refuse_old_numbers))
        unwritten.append(self.publish)
        self._blocks.append(blocks)
        return self

    def __exit__(self, *_: object) -> None:
        self._blocks.pop().close()
        unwritten.remove(self.publish)
        self.publish()

    def write(self, state: State) -> None:
        """Set the parameters here, and the optimiser, which is up to date at any time."""
        atomic.assign(
            ([self], "_state", [(state[0], {})]),
            ([self], "_published", [False]),
            _to(self.optimizer, _attributes(self.optimizer) | state[1]),
        )

    def publish(self) -> None:
        """Bring the Values up to date: their numbers, and their gradients, which are those of the last step."""
        if writes.latest is not self._seen:
            self._pull()
        super().publish()
        self._values, self._seen = self._theta, writes.latest

    def _pull(self) -> None:
        """Take over numbers that others have written to the Values."""
        latest = writes.latest
        now = np.array([parameter._data for parameter in self.parameters])
        written_to = (now != self._values) & ~(np.isnan(now) & np.isnan(self._values))
        if written_to.any():
            self._state = np.where(written_to, now, self._theta), self._state[1]
        for kernel, bound in self._kernels.items():
            bound.theta[...] = [parameter._data for parameter in kernel.parameters]
        self._values, self._seen = now, latest

    def _before_reading(self, value: Value) -> None:
        if not self._published and value in self._places:
            self.publish()

    def _refuse_old_numbers(self, node: Value) -> None:
        # A trace makes nodes whose numbers nobody reads.
        if not self._published and kinds.get() is None and not self._places.keys().isdisjoint(node.parents):
            raise RuntimeError(
                f"{node.op.name} at {user_line()} takes parameters that a training step has moved meanwhile: call "
                "publish() of the step before, or compute after its block"
            )


def training_step(loss: Any, optimizer: Optimizer) -> TrainingStep:
    """Return a step of learning for a loop of your own: ``step(X, y)`` returns the loss of a batch and descends.

    It computes the gradients by the compiled loss and lets the optimiser move all parameters at once, as arrays, with
    the results of ``loss(X, y).backward()`` and ``optimizer.step()``. Each call leaves the Values up to date. For many
    parameters that takes longer than the step itself; so in a ``with`` block they are updated only at the end, and
    whenever their numbers are read: by ``.data``, a prediction, ``state_dict()``. ``publish()`` does it, too.

    >>> from microgrid.optim import SGD
    >>> w = Value(1.0)
    >>> step = training_step(lambda x, y: (w * x - y) ** 2, SGD([w], learning_rate=0.1))
    >>> with step:
    ...     losses = [step([1.0, 2.0], [3.0, 6.0]) for _ in range(20)]
    >>> round(w.data, 3)
    3.0

    Args:
        loss: a compiled function of a batch, with one number as its result; or a function of one sample.
        optimizer: the optimiser of the parameters. Its settings may be changed between steps.

    Raises:
        TypeError: if the optimiser is none of ``mg.optim``, or the loss no function.
    """
    return TrainingStep(loss, optimizer)


class Bound(NamedTuple):
    """A kernel that is bound to arrays.

    Attributes:
        run: computes the gradient of a minibatch.
        theta: the array from which it reads its parameters.
        gradient: the array to which it writes.
        in_kernel: the positions in these of the parameters that are trained.
        here: their positions among all that are trained.
    """

    run: Callable[..., Any]
    theta: Any
    gradient: Any
    in_kernel: Any
    here: Any


def _attributes(optimizer: Any) -> dict[str, Any]:
    return getattr(optimizer, "__dict__", {}).copy()


def _to(optimizer: Any, attributes: dict[str, Any]) -> atomic.Assignments:
    """Give the optimiser exactly these attributes; a user's optimiser with slots is left alone."""
    own = [optimizer] * hasattr(optimizer, "__dict__")
    return own, "__dict__", [dict(attributes) for _ in own]


def _index(places: list[int], length: int) -> Any:
    """An index into an array; a slice, which makes no copy, if it is all of it in order."""
    return slice(None) if places == list(range(length)) else np.array(places, int)


# ---------------------------------------------------------------------------------------------------
# A measurement


class Evaluation:
    """Measurements of a model on a data set, compiled unless that is impossible.

    Attributes:
        not_compiled: why it runs on Values; empty if it runs compiled.

    Raises:
        TraceError: if ``compile`` is true and it is impossible.
    """

    def __init__(
        self,
        model: Any,
        loss: Loss,
        accuracy: Accuracy | None,
        buckets: Sequence[Bucket],
        compile: bool | None,  # noqa: A002 - what fit() and evaluate() call it
    ) -> None:
        self.model, self.loss, self.accuracy, self.buckets, self.compile = model, loss, accuracy, buckets, compile
        self._compiled, self.not_compiled = compiled_or_why_not(
            lambda: [CompiledModel(model, loss, bucket, training=False) for bucket in buckets], compile
        )

    def measure(self) -> Measured:
        """Return the mean loss and the accuracy. No graph is recorded."""
        if self._compiled is not None:
            measured = map(self._measured, self._compiled, self.buckets)
        else:
            measured = map(self._measured_on_values, self.buckets)
        sizes = [len(bucket.X) for bucket in self.buckets]
        return Measured(*np.average([*measured], axis=0, weights=sizes).tolist())

    def _measured(self, compiled: "CompiledModel", bucket: Bucket) -> Measured:
        theta = compiled.kernel.read()
        pieces = [slice(i, i + SAMPLES_AT_ONCE) for i in range(0, len(bucket.X), SAMPLES_AT_ONCE)]
        numbers = [compiled.values(theta, bucket.X[piece], bucket.y[piece]) for piece in pieces]
        return compiled.measured(np.concatenate(numbers), bucket.y, self.accuracy)

    def _measured_on_values(self, bucket: Bucket) -> Measured:
        total, right = 0.0, 0
        with no_grad(), mode(self.model, training=False):
            for x, target in zip(bucket.X.tolist(), bucket.y.tolist(), strict=True):
                output = self.model(x)
                total += self.loss(output, target).data
                right += self.accuracy is not None and self.accuracy(output, target)
        return Measured(total / len(bucket.X), right / len(bucket.X) if self.accuracy else math.nan)

    def resume(self) -> None:
        """Take over any changes of the model."""
        for compiled in self._compiled or ():
            _, self.not_compiled = compiled_or_why_not(compiled.renew, self.compile)
            if self.not_compiled:
                self._compiled = None
                return


SAMPLES_AT_ONCE = 1000
"""A data set is measured in pieces of this size, so that not all intermediate results must fit into memory."""


# ---------------------------------------------------------------------------------------------------
# A compiled model

T = TypeVar("T")


def compiled_or_why_not(make: Callable[[], T], compile: bool | None) -> tuple[T | None, str]:  # noqa: A002 - as above
    """Return the result of ``make()`` and no reason, or nothing and the reason why it does not compile.

    Raises:
        TraceError: if ``compile`` is true and there is a reason.
    """
    if compile is False:
        return None, "compile=False"
    try:
        return make(), ""
    except TraceError as error:
        if compile:
            raise TraceError(f"this cannot be compiled, as compile=True demands: {error}") from error
        return None, str(error)


COMPARED = 4
"""The number of samples on which the program is compared with the model; their targets are spread over all."""


class CompiledModel:
    """A model and its loss as one kernel, whose outputs are the loss and then the model's outputs, per sample.

    The kernel repeats one trace of the model. So a model that behaves differently for another sample, or in
    another call, must be detected: the tracer refuses what it sees, and the results of the program are
    compared with those of the model.

    Raises:
        TraceError: if the model does not compile, with the reason.
    """

    _compiled: Compiled[Any]
    _variant: Variant

    def __init__(self, model: Any, loss: Loss, bucket: Bucket, *, training: bool) -> None:
        self.model, self.loss, self.training = model, loss, training
        order = np.argsort(bucket.y if bucket.y.ndim == 1 else bucket.y[:, 0], kind="stable")
        chosen = order[np.linspace(0, len(order) - 1, min(COMPARED, len(order))).astype(int)]
        self._X, self._y, self._places = bucket.X[chosen], bucket.y[chosen], bucket.places[chosen]
        self._next = 0
        self._compile()

    @property
    def kernel(self) -> Kernel:
        """The program; if the model drops at random, its last argument is the result of ``drawn``."""
        return self._variant.kernel

    def drawn(self, samples: int) -> list[Any]:
        """Draw the factors of ``Dropout``, as the model would for so many samples; nothing if it has none."""
        return [self._variant.factors(samples)] if self._variant.drops else []

    def values(self, theta: Any, X: Any, y: Any) -> Any:
        """Return the loss and the outputs, a row for each sample."""
        return self.kernel.value(theta, X, y, *self.drawn(len(X)))

    def measured(self, numbers: Any, y: Any, accuracy: Accuracy | None) -> Measured:
        """Return the means over samples of the kernel's result, which has a row for each."""
        with np.errstate(all="ignore"):
            loss = float(numbers[:, 0].mean())
        if accuracy is None:
            return Measured(loss, math.nan)
        if accuracy is is_right:
            return Measured(loss, float(_are_right(numbers[:, 1:], y).mean()))
        outputs = (self.outputs(row) for row in numbers[:, 1:].tolist())
        right = sum(map(bool, map(accuracy, outputs, y.tolist())))
        return Measured(loss, right / len(y))

    def outputs(self, numbers: Iterable[float]) -> Any:
        """Return numbers as the model returns its outputs, as Values."""
        return self._variant.rebuild(map(constant, (0.0, *numbers)))[1]

    def renew(self) -> bool:
        """Compile anew if the model has changed since; return whether it has."""
        _refuse_watched_nodes()
        before = self._variant
        self._next = (self._next + 1) % len(self._places)
        if self._trace() is before and self._difference(self._next) is None:
            return False
        if self._variant is before or any(map(self._difference, range(len(self._places)))):
            self._compile()
        return True

    def _compile(self) -> None:
        _refuse_watched_nodes()
        model, loss = self.model, self.loss

        def loss_and_outputs(x: Any, target: Any) -> list[Any]:
            output = model(x)
            return [loss(output, target), output]

        loss_and_outputs.__name__ = "the model or the loss"  # as messages shall call it
        self._compiled = compile_function(loss_and_outputs, reduce=None)
        self._trace()
        for k in range(len(self._places)):
            if difference := self._difference(k):
                raise TraceError(difference)

    def _trace(self) -> Variant:
        """Trace the model, unless its present state was traced before."""
        with mode(self.model, training=self.training):
            try:
                self._variant = self._compiled.variant(self._X[:1], self._y[:1])
            except TraceError:
                raise
            except Exception as error:  # any error of the user's code with traced numbers
                raise TraceError(f"{type(error).__name__} with traced numbers in place of floats: {error}") from error
        return self._variant

    def _difference(self, k: int) -> str | None:
        """How the program differs from the model on a sample, if it does."""
        x, target = self._X[k].tolist(), self._y[k].tolist()
        own = [module._generator for module, _ in self._variant.drops if module._generator]
        generators = Generators([*self._variant.capture.generators, *own])
        before = generators.read()
        found = self.values(self.kernel.read(), self._X[k : k + 1], self._y[k : k + 1])[0]
        drawn = generators.read()
        generators.write(before)
        with generators.kept("the model or the loss", drawn), no_grad(), mode(self.model, training=self.training):
            output = self.model(x)
            expected = [self.loss(output, target), *flatten(output)[0]]
        numbers = [getattr(number, "data", number) for number in expected]
        if len(found) == len(numbers) and np.allclose(found, numbers, rtol=1e-6, atol=1e-9, equal_nan=True):
            return None
        return (
            f"for sample {self._places[k]} the model gives the loss {numbers[0]:.6g}, and compiled {found[0]:.6g}: "
            "it does not do the same for every sample and in every call"
        )


def _refuse_watched_nodes() -> None:
    if is_watched():
        raise TraceError("the nodes are watched, by detect_anomaly(), record_lines() or watch(), so there must be some")
