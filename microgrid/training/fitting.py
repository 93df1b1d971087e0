"""The four steps of learning: a minibatch, its gradients, an update, again."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from microgrid.data import at_least, generator_of, minibatches
from microgrid.losses import cross_entropy
from microgrid.mesh import Mesh, MeshStep
from microgrid.nn import mode
from microgrid.optim import Adam
from microgrid.steps import (
    Accuracy,
    Bucket,
    CompiledStep,
    EagerStep,
    Evaluation,
    Loss,
    Measured,
    Step,
    compiled_or_why_not,
    is_right,
)
from microgrid.training.history import History, TrainingError
from microgrid.training.progress import Progress
from microgrid.training.validation import (
    are_classes,
    check_function,
    check_functions,
    check_learner,
    check_optimizer,
    first_fault,
    held_out,
    rehearse,
    samples_of,
)


def fit(
    model: Any,
    X: Any,
    y: Any,
    *,
    loss: Loss = cross_entropy,
    optimizer: Any = None,
    epochs: int = 10,
    batch_size: int = 32,
    validation: tuple[Any, Any] | None = None,
    accuracy: Accuracy | str | None = "auto",
    seed: Any = 0,
    after_epoch: Callable[[History], object] | None = None,
    quiet: bool = False,
    compile: bool | None = None,  # noqa: A002 - what mg.compile does
    mesh: Any = None,
) -> History:
    """Train a model in place, in the four steps of chapter 5.7.1; return the history.

    Model and loss are traced once and compiled to a program for whole minibatches, with the results of
    training sample by sample up to rounding. ``Dropout`` compiles too: it draws for every sample, the same numbers
    either way. Models that do not compile are trained on Values: those that branch on a number, draw random
    numbers themselves or give another answer in each call. To detect these the program is compared with the
    model on a few samples. A compiled model is called only a few times, not for every sample, so side effects
    such as counting or printing happen only then.

    Samples may be sequences of different lengths: a list of rows of numbers of any length, or of such rows for each
    step. They are grouped by length, and each length compiles once; the samples of a minibatch have one length,
    and the minibatches of all lengths come in random order. Nothing is padded, so no mask is needed.

    Ctrl-C ends the training early and loses nothing: the model keeps what it has learned, and the history
    so far is returned, marked ``interrupted``. Whenever it comes, the parameters and the optimiser's memory
    are those after one whole step (for an optimiser that overrides ``step()``, the memory in attributes that it
    assigns). The same seed gives the same minibatches.

    >>> model = mg.nn.Affine(1, 1, seed=1)
    >>> history = mg.fit(model, [[0.0], [1.0]], [1.0, 3.0], loss=mg.losses.mean_squared_error, epochs=9, quiet=True)
    >>> history.loss[-1] < history.loss[0]
    True

    Args:
        model: a module, or any function of one sample's numbers that has ``parameters()``.
        X: the samples: of each a row of numbers, or a row of such rows; their lengths may differ.
        y: the target of each sample, as the loss takes it: a class, a number, or a row of numbers, as long as it is.
        loss: ``loss(output, target)`` of one sample.
        optimizer: the optimiser; unless given, ``Adam(model.parameters())``.
        epochs: how often each sample is seen.
        batch_size: the number of samples in a minibatch. Each update lowers the mean loss of one.
        validation: samples and targets ``(X, y)`` to measure after each epoch; nothing is learned from them.
        accuracy: ``accuracy(output, target)``, whether the output for a sample is right; ``None`` for none;
            unless given, ``is_right`` if the targets are classes.
        seed: of the order of the samples: a whole number or a ``numpy.random.Generator``.
        after_epoch: called with the history after each epoch, to lower ``optimizer.learning_rate``, to save.
            The parameters and their gradients are up to date then, and may be changed; so may the model.
        quiet: whether to show no progress.
        compile: unless given, compiled if possible, else on Values, and ``History.not_compiled`` says why. With
            ``True``, an error if it is impossible; with ``False``, on Values.
        mesh: a mesh of JAX's devices, ``jax.sharding.Mesh(jax.devices(), ("batch",))``, each of which gets a share of
            every minibatch; parameters and optimiser stay on the devices. The devices may belong to several
            processes: each calls ``jax.distributed.initialize()`` before, and ``fit`` with the same data and seed.

    Raises:
        ModuleNotFoundError: for a mesh without JAX, naming the extra that brings it.
        RuntimeError: for a mesh if JAX is set to float32.
        ValueError: if the data is empty, not finite, of different lengths, or does not fit the model
            or the loss; or if a size is not a positive whole number. The model is untouched.
        TypeError: if the data is not numbers, the loss gives no Value, or an argument has another type than
            described above. The model is untouched.
        TraceError: with ``compile=True`` or a mesh, if the model or the loss does not compile. It is a ``TypeError``.
        TrainingError: if the loss or a gradient becomes nan or infinite. It names the epoch, the minibatch
            and the first faulty operation, and holds the history; model and optimiser are as after the last
            good step.
    """
    at_least("epochs", epochs, 1)
    at_least("batch_size", batch_size, 1)
    check_functions(model, loss, accuracy, compile)
    if after_epoch is not None:
        check_function("after_epoch", after_epoch, "a function of the history", 1)
    devices = None if mesh is None else Mesh(mesh)
    if devices and compile is not None and not compile:
        raise ValueError("compile=False trains on Values, and a mesh runs what is compiled: leave one of them out")
    samples = samples_of("", X, y)
    tests = None if validation is None else held_out(validation)
    check_learner(model)
    output = rehearse(model, loss, samples)
    if tests:
        rehearse(model, loss, tests, "validation ")
    if isinstance(accuracy, str):
        accuracy = is_right if are_classes(loss, output, samples) else None
    if optimizer is None:
        optimizer = Adam(model.parameters())
    else:
        check_optimizer(optimizer, model)

    history = History(batches=sum(-(-len(bucket.X) // batch_size) for bucket in samples))
    generator = generator_of(seed)
    parts = model, loss, optimizer, accuracy
    step: Step = EagerStep(*parts)
    quiet = quiet or (devices is not None and not devices.is_mine_to_report)
    with Progress(epochs * history.batches, epochs, quiet) as progress, mode(model, training=True):
        try:
            compile = True if devices else compile
            compiled, history.not_compiled = compiled_or_why_not(
                lambda: MeshStep(devices, *parts, samples) if devices else CompiledStep(*parts, samples), compile
            )
            step = compiled or step
            progress.note(history.not_compiled if compile is None else "")
            evaluation = Evaluation(model, loss, accuracy, tests, compile) if tests else None
            good = step.read()
            for epoch in range(1, epochs + 1):
                began = time.perf_counter()
                results, sizes = [], []
                # Step 1, the minibatch: some of the samples, at random.
                for X_batch, y_batch in _minibatches(samples, batch_size, generator):
                    # Step 2, the gradients: which way the loss of the minibatch grows.
                    result = step.gradients(X_batch, y_batch)
                    results.append(result)
                    sizes.append(len(X_batch))
                    history.batch_loss.append(result.loss)
                    if not (math.isfinite(result.loss) and step.finite()):
                        step.publish()
                        try:
                            reason = first_fault(model, loss, X_batch, y_batch)
                        finally:
                            step.write(good)
                        raise TrainingError(reason, history, epoch, batch=len(results))
                    # Step 3, the update: the parameters move a little the other way. All of them, or none.
                    good = step.update()
                    progress.update(history)
                # Step 4: again.
                if evaluation or after_epoch:
                    step.publish()
                measured = evaluation.measure() if evaluation else None
                mean = Measured(*np.average(results, axis=0, weights=sizes).tolist())
                history.add(mean, measured, time.perf_counter() - began)
                progress.update(history)
                if after_epoch is not None:
                    after_epoch(history)
                    # The user may have changed the model since it was compiled.
                    _, reason = compiled_or_why_not(step.resume, compile)
                    if reason and compiled:
                        step, compiled, history.not_compiled = EagerStep(*parts), None, reason
                        progress.note(reason)
                    if evaluation:
                        evaluation.resume()
        except KeyboardInterrupt:
            history.interrupted = True
        finally:
            _insist(step.publish, history)
        if history.interrupted:
            progress.update(history)
    return history


def _insist(finish: Callable[[], object], history: History) -> None:
    """Run to the end, even if Ctrl-C comes once more."""
    while True:
        try:
            finish()
        except KeyboardInterrupt:
            history.interrupted = True
        else:
            return


def evaluate(
    model: Any,
    X: Any,
    y: Any,
    *,
    loss: Loss = cross_entropy,
    accuracy: Accuracy | str | None = "auto",
    compile: bool | None = None,  # noqa: A002 - what mg.compile does
) -> Measured:
    """Return the mean loss and the accuracy of a model on a data set; no graph is recorded.

    Arguments and errors are those of ``fit``; it runs compiled if ``fit`` does.

    >>> model = mg.nn.Affine(1, 1, seed=1)  # its bias is 0
    >>> mg.evaluate(model, [[0.0]], [2.0], loss=mg.losses.mean_squared_error).loss
    4.0
    """
    check_functions(model, loss, accuracy, compile)
    samples = samples_of("", X, y)
    output = rehearse(model, loss, samples)
    if isinstance(accuracy, str):
        accuracy = is_right if are_classes(loss, output, samples) else None
    return Evaluation(model, loss, accuracy, samples, compile).measure()


def _minibatches(samples: Sequence[Bucket], size: int, generator: Any) -> Iterable[tuple[Any, Any]]:
    """The samples once, in random order, in minibatches of one shape each, which come in random order."""
    if len(samples) == 1:
        return minibatches(samples[0].X, samples[0].y, size, generator)
    batches = [batch for X, y, _ in samples for batch in minibatches(X, y, size, generator)]
    return (batches[k] for k in generator.permutation(len(batches)))
