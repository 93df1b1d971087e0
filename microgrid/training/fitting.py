"""The four steps of learning: a minibatch, its gradients, an update, again."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from microgrid.data import at_least, generator_of, minibatches
from microgrid.losses import cross_entropy
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
) -> History:
    """Train a model in place, in the four steps of chapter 5.7.1; return how it went.

    Model and loss are traced once and compiled to a program for whole minibatches, with the results of the
    sample by sample way up to rounding. ``Dropout`` compiles too: it draws for every sample, the same numbers
    in either way. What does not compile is trained on Values: a branch on a number, a model that draws random
    numbers of its own or gives another answer in each call. To find that out the program is compared with the
    model on a few samples. Since a compiled model runs a few times only, not for every sample, whatever else
    it does, such as counting or printing, is done as often.

    Samples may be sequences, each as long as it is: a list of rows of numbers of any length, or of such rows for each
    step. They are put together by length, and each length compiles once; the samples of a minibatch have one length,
    and the minibatches of all lengths come in random order. Nothing is padded, so no mask is needed.

    Ctrl-C ends the training early and loses nothing: the model keeps what it has learned, and the history
    so far is returned, marked ``interrupted``. Whenever it comes, the parameters and what the optimiser
    remembers are those after one whole step (of an optimiser with a ``step()`` of its own, what it keeps in
    attributes that it sets anew). The same seed gives the same minibatches.

    >>> model = mg.nn.Affine(1, 1, seed=1)
    >>> history = mg.fit(model, [[0.0], [1.0]], [1.0, 3.0], loss=mg.losses.mean_squared_error, epochs=9, quiet=True)
    >>> history.loss[-1] < history.loss[0]
    True

    Args:
        model: a module, or any function of one sample's numbers that has ``parameters()``.
        X: the samples: of each a row of numbers, or a row of such rows; their lengths may differ.
        y: the target of each sample, as the loss takes it: a class, a number, or a row of numbers, as long as it is.
        loss: ``loss(output, target)`` of one sample.
        optimizer: what moves the parameters; unless given, ``Adam(model.parameters())``.
        epochs: how often each sample is seen.
        batch_size: the number of samples in a minibatch. Each update lowers the mean loss of one.
        validation: samples and targets ``(X, y)`` to measure after each epoch; nothing is learned from them.
        accuracy: ``accuracy(output, target)``, whether the output for a sample is right; ``None`` if there
            is no such thing; unless given, ``is_right`` where the targets are classes.
        seed: of the order of the samples: a whole number or a ``numpy.random.Generator``.
        after_epoch: called with the history after each epoch, to lower ``optimizer.learning_rate``, to save.
            The parameters and their gradients are up to date then, and may be changed; so may the model.
        quiet: whether to show no progress.
        compile: unless given, compiled where that is possible, else on Values, and ``History.not_compiled``
            says why. With ``True`` it is an error where it is impossible; with ``False`` it is not tried.

    Raises:
        ValueError: if the data is empty, not finite, of different lengths, or does not fit the model
            or the loss; or if a size is not a positive whole number. The model is untouched.
        TypeError: if the data is not numbers, the loss gives no Value, or an argument is something else than what
            is described above. The model is untouched.
        TraceError: with ``compile=True``, if the model or the loss does not compile. It is a ``TypeError``.
        TrainingError: if the loss or a gradient becomes nan or infinite. It names the epoch, the minibatch
            and the first operation at fault, and carries the history; model and optimiser are as after the last
            good step.
    """
    at_least("epochs", epochs, 1)
    at_least("batch_size", batch_size, 1)
    check_functions(model, loss, accuracy, compile)
    if after_epoch is not None:
        check_function("after_epoch", after_epoch, "a function of the history", 1)
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
    step: Step = EagerStep(model, loss, optimizer, accuracy)
    with Progress(epochs * history.batches, epochs, quiet) as progress, mode(model, training=True):
        try:
            compiled, history.not_compiled = compiled_or_why_not(
                lambda: CompiledStep(model, loss, optimizer, accuracy, samples), compile
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
                    # The user may have changed anything: what was compiled may not be what is there now.
                    _, reason = compiled_or_why_not(step.resume, compile)
                    if reason and compiled:
                        step, compiled, history.not_compiled = EagerStep(model, loss, optimizer, accuracy), None, reason
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

    It takes and raises what ``fit`` does, and runs compiled where ``fit`` does.

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
