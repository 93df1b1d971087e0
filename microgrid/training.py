"""Learning: a minibatch, its gradients, an update, again; and the history of how it went."""

import html
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from inspect import signature
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

from microgrid.environment import displayable, require

np = require("numpy", "learning with mg.fit", "compile")  # first: what is imported below needs it, too

from microgrid.atomic import write_file
from microgrid.data import at_least, generator_of, minibatches, same_length
from microgrid.engine import Value
from microgrid.losses import binary_cross_entropy, cross_entropy
from microgrid.nn import as_list, mode
from microgrid.ops import short_repr
from microgrid.optim import Adam
from microgrid.recording import AnomalyError, detect_anomaly, no_grad
from microgrid.steps import Accuracy, Bucket, CompiledStep, EagerStep, Evaluation, Loss, Step, compiled_or_why_not
from microgrid.steps import Measured as Measured  # what evaluate() returns
from microgrid.steps import is_right as is_right


@dataclass(repr=False)
class History:
    """How training went, epoch by epoch.

    >>> model = mg.nn.Affine(1, 1, seed=1)
    >>> history = mg.fit(model, [[0.0], [1.0]], [1.0, 3.0], loss=mg.losses.mean_squared_error, epochs=9, quiet=True)
    >>> len(history.loss), history.accuracy
    (9, [])

    Attributes:
        loss: the mean loss of the samples, each as it came up in the epoch.
        accuracy: the share of them that the model had right; empty in regression.
        validation_loss: the mean loss of the validation set after the epoch; empty without one.
        validation_accuracy: the share of it that the model had right.
        seconds: what the epoch took, validation included.
        batch_loss: the mean loss of each minibatch, also of an epoch that was not finished.
        batches: how many minibatches an epoch has.
        interrupted: whether Ctrl-C ended the training.
        not_compiled: why the training ran on Values, sample by sample; empty if it ran compiled.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    batch_loss: list[float] = field(default_factory=list)
    batches: int = 0
    interrupted: bool = False
    not_compiled: str = ""

    def __repr__(self) -> str:
        parts = [f"{len(self.loss)} epoch{'s' * (len(self.loss) != 1)}"]
        for name, unit in (
            ("loss", ".4g"),
            ("accuracy", ".1%"),
            ("validation_loss", ".4g"),
            ("validation_accuracy", ".1%"),
        ):
            if numbers := getattr(self, name):
                parts.append(f"{name.replace('_', ' ')} {numbers[-1]:{unit}}")
        return f"{', '.join(parts)}, {sum(self.seconds):.1f} s{', interrupted' if self.interrupted else ''}"

    def _add(self, training: Measured, validation: Measured | None, seconds: float) -> None:
        for name, measured in (("", training), ("validation_", validation)):
            if measured is not None:
                getattr(self, f"{name}loss").append(measured.loss)
                if not math.isnan(measured.accuracy):
                    getattr(self, f"{name}accuracy").append(measured.accuracy)
        self.seconds.append(seconds)

    def plot(self, path: str | PathLike[str] | None = None) -> Any:
        """Draw the learning curve: the loss, and the accuracy if there is one, over the epochs.

        Args:
            path: the picture to write, ``.png``, ``.svg`` or ``.pdf``, whole or not at all. Without one it is
                shown, in the notebook or in a window.

        Returns:
            The matplotlib ``Figure`` if it was written; nothing if it was shown, or a notebook shows it twice.

        Raises:
            ImportError: without matplotlib, naming the extra that brings it.
            OSError: if the picture cannot be written.
            ValueError: without a path where there is no screen, or for an unknown kind of picture.
        """
        size = {"figsize": (8.0, 3.2), "layout": "constrained"}
        if path is not None:
            figure = require("matplotlib.figure", "History.plot()", "plot").Figure(**size)
            kind = Path(path).suffix[1:]
            if not kind:
                raise ValueError(
                    f"cannot tell the format of a picture from {str(path)!r}: end the name in .png, .svg or .pdf"
                )
            self._draw(figure)
            content = BytesIO()
            figure.savefig(content, dpi=150, format=kind)
            write_file(path, content.getvalue())
            return figure
        pyplot = require("matplotlib.pyplot", "History.plot()", "plot")
        if pyplot.get_backend().lower() == "agg":
            raise ValueError("there is no screen to show the curve on; write it: history.plot('curve.png')")
        self._draw(pyplot.figure(**size))
        pyplot.show()
        return None

    def _draw(self, figure: Any) -> None:
        charts = [("loss", self.loss, self.validation_loss)]
        if self.accuracy or self.validation_accuracy:
            training, validation = ([100.0 * x for x in xs] for xs in (self.accuracy, self.validation_accuracy))
            charts.append(("right answers, %", training, validation))
        for number, (title, training, validation) in enumerate(charts, start=1):
            axes = figure.add_subplot(1, len(charts), number)
            if title == "loss" and self.batches:
                steps = [(i + 0.5) / self.batches for i in range(len(self.batch_loss))]
                axes.plot(steps, self.batch_loss, color="#b8c7d6", linewidth=0.8, label="each minibatch")
            # A training measure is a mean over its epoch, a validation one is taken after it.
            for numbers, start, colour, label in (
                (training, 0.5, "#0072b2", "training, mean of an epoch"),
                (validation, 1.0, "#d55e00", "validation, after it"),
            ):
                if numbers:
                    epochs = [start + i for i in range(len(numbers))]
                    axes.plot(epochs, numbers, "o-", color=colour, markersize=3.5, label=label)
            axes.set_title(title, loc="left", fontsize=11)
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
            if axes.lines:
                axes.legend(frameon=False)


class TrainingError(ArithmeticError):
    """The loss or a gradient became nan or infinite; model and optimiser are as after the last good step.

    >>> model = mg.nn.Affine(1, 1, seed=1)
    >>> fast = mg.optim.SGD(model.parameters(), 1e200)
    >>> mg.fit(model, [[1.0]] * 99, [3.0] * 99, loss=mg.losses.mean_squared_error, optimizer=fast, quiet=True)
    Traceback (most recent call last):
    microgrid.training.TrainingError: training stopped in epoch 1, ...

    Attributes:
        history: how training went until then; the last of its ``batch_loss`` is the bad one.
        epoch: the epoch, from 1.
        batch: the minibatch in it, from 1.
    """

    def __init__(self, reason: str, history: History, epoch: int, batch: int) -> None:
        self.history = history
        self.epoch = epoch
        self.batch = batch
        super().__init__(
            f"training stopped in epoch {epoch}, minibatch {batch}, whose loss is {history.batch_loss[-1]}: {reason}. "
            "The model is as it was before its last update; a smaller learning rate often helps"
        )


# ---------------------------------------------------------------------------------------------------
# The four steps


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
    _check_functions(model, loss, accuracy, compile)
    if after_epoch is not None:
        _check_function("after_epoch", after_epoch, "a function of the history", 1)
    samples = _samples("", X, y)
    if validation is not None and (not isinstance(validation, (tuple, list)) or len(validation) != 2):
        raise TypeError(f"validation must be a pair of samples and targets, (X, y); got {short_repr(validation)}")
    tests = _samples("validation ", *validation) if validation is not None else None
    if isinstance(model, type) or not callable(getattr(model, "parameters", None)):
        raise TypeError(
            "fit() trains a module, such as MLP(2, [16, 1]), or a function whose parameters() are Values; got "
            f"{short_repr(model)}, which has no parameters()"
        )
    if not model.parameters():
        raise ValueError(f"the model has no parameters, so it cannot learn: {model!r:.80}")
    output = _rehearse(model, loss, samples)
    if tests:
        _rehearse(model, loss, tests, "validation ")
    if isinstance(accuracy, str):
        accuracy = is_right if _are_classes(loss, output, samples) else None
    if optimizer is None:
        optimizer = Adam(model.parameters())
    elif isinstance(optimizer, type) or not (hasattr(optimizer, "step") and hasattr(optimizer, "parameters")):
        raise TypeError(
            "optimizer must be one that was made for the parameters, such as Adam(model.parameters()); got "
            f"{short_repr(optimizer)}"
        )
    elif not set(model.parameters()) & set(optimizer.parameters):
        raise ValueError(f"{optimizer!r} moves no parameter of this model: make it with model.parameters()")

    history = History(batches=sum(-(-len(bucket.X) // batch_size) for bucket in samples))
    generator = generator_of(seed)
    step: Step = EagerStep(model, loss, optimizer, accuracy)
    with _Progress(epochs * history.batches, epochs, quiet) as progress, mode(model, training=True):
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
                            reason = _first_fault(model, loss, X_batch, y_batch)
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
                history._add(mean, measured, time.perf_counter() - began)
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
    _check_functions(model, loss, accuracy, compile)
    samples = _samples("", X, y)
    output = _rehearse(model, loss, samples)
    if isinstance(accuracy, str):
        accuracy = is_right if _are_classes(loss, output, samples) else None
    return Evaluation(model, loss, accuracy, samples, compile).measure()


def _minibatches(samples: Sequence[Bucket], size: int, generator: Any) -> Iterable[tuple[Any, Any]]:
    """The samples once, in random order, in minibatches of one shape each, which come in random order."""
    if len(samples) == 1:
        return minibatches(samples[0].X, samples[0].y, size, generator)
    batches = [batch for X, y, _ in samples for batch in minibatches(X, y, size, generator)]
    return (batches[k] for k in generator.permutation(len(batches)))


def _are_classes(loss: Loss, output: Any, samples: Sequence[Bucket]) -> bool:
    """Whether targets say which of several outputs is right, by index or one-hot; or the sign of one."""
    return all(_say_which(loss, output, bucket.y) for bucket in samples)


def _say_which(loss: Loss, output: Any, y: Any) -> bool:
    if len(as_list(output)) == 1:
        return loss is binary_cross_entropy or bool((np.abs(y) == 1).all())
    if y.ndim == 1:
        return bool(y.dtype.kind in "iu")
    return bool(((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all())


# ---------------------------------------------------------------------------------------------------
# Checks, before anything is learned and when it goes wrong


def _check_functions(model: Any, loss: Any, accuracy: Any, compile: Any) -> None:  # noqa: A002 - as above
    _check_function("the model", model, "a module, or a function of one sample", 1)
    _check_function("loss", loss, "a function of an output and a target, such as losses.mean_squared_error", 2)
    if accuracy is not None and accuracy != "auto":
        _check_function("accuracy", accuracy, "'auto', None, or a function of an output and a target", 2)
    if compile is not None and not isinstance(compile, (bool, np.bool_)):
        raise TypeError(f"compile must be True, False or None; got {short_repr(compile)}")


def _check_function(name: str, function: Any, expected: str, takes: int) -> None:
    """Raise ``TypeError`` unless something can be called with so many arguments."""
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"{name} must be {expected}; got {short_repr(function)}")
    try:
        signature(function).bind(*range(takes))
    except ValueError:  # a function in C, without a signature
        pass
    except TypeError as error:
        raise TypeError(f"{name} must be {expected}; got {short_repr(function)}: {error}") from None


def _samples(what: str, X: Any, y: Any) -> list[Bucket]:
    """Return the samples by the shapes of them and of their targets, in the order in which these come up."""
    X, y = _each(f"{what}X", X, (2, 3)), _each(f"{what}y", y, (1, 2))
    if not (isinstance(X, list) or isinstance(y, list)):
        same_length(X, y)
        return [Bucket(X, y, np.arange(len(X)))]
    if len(X) != len(y):
        raise ValueError(f"{what}X and {what}y must have one row per sample; got {len(X)} and {len(y)} rows")
    places: dict[Any, list[int]] = {}
    for k, (x, target) in enumerate(zip(X, y, strict=True)):
        places.setdefault((x.shape, target.shape), []).append(k)
    return [
        Bucket(np.array([X[k] for k in mine]), np.array([y[k] for k in mine]), np.array(mine))
        for mine in places.values()
    ]


def _each(name: str, data: Any, dimensions: tuple[int, ...]) -> Any:
    """Return what belongs to each sample: as one array, or in a list of arrays if their lengths differ."""
    try:
        array = np.asarray(data)
    except ValueError:
        return [_of_one(f"{name}[{k}]", one, dimensions) for k, one in enumerate(data)]
    if array.ndim not in dimensions and array.dtype.kind in "biuf":
        expected = "one row of numbers" if 1 not in dimensions else "one number, or one row of numbers,"
        raise ValueError(f"{name} must have {expected} for each sample; got an array of shape {array.shape}")
    return _numbers(name, array)


def _of_one(name: str, data: Any, dimensions: tuple[int, ...]) -> Any:
    """Return the row of numbers of one sample among others of different lengths, or its rows of numbers."""
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ValueError(f"{name} must have rows of one length: {error}") from None
    if not array.size or array.ndim == 0 or array.ndim + 1 not in dimensions:
        raise ValueError(
            f"{name} must be a row of numbers, since others differ from it in length; got {short_repr(data)}"
        )
    return _numbers(name, array)


def _numbers(name: str, array: Any) -> Any:
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers; got an array of {array.dtype}: {str(array.tolist())[:60]}")
    if not np.isfinite(array).all():
        place = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
        raise ValueError(f"{name}{list(place)} is {array[place]}: there is nothing to learn from it; leave it out")
    return array.astype(int) if array.dtype.kind == "b" else array


def _rehearse(model: Any, loss: Loss, samples: Sequence[Bucket], what: str = "") -> Any:
    """Return the output for the first sample, after trying the first of each shape with each different target."""
    output, *_ = [_rehearsed(model, loss, bucket, what) for bucket in samples]
    return output


def _rehearsed(model: Any, loss: Loss, bucket: Bucket, what: str) -> Any:
    targets, places = np.unique(bucket.y, axis=0, return_index=True)
    with no_grad(), mode(model, training=False):
        try:
            output = model(bucket.X[0].tolist())
        except Exception as error:
            error.add_note(f"The sample was {what}X[{bucket.places[0]}], of the shape {bucket.X[0].shape}.")
            raise
        for target, place in zip(targets[:10000].tolist(), bucket.places[places].tolist(), strict=False):
            try:
                result = loss(output, target)
            except (ValueError, TypeError, IndexError) as error:
                raise type(error)(f"the target {what}y[{place}] = {target!r} does not fit: {error}") from error
            if not isinstance(result, Value):
                raise TypeError(f"loss(output, target) must return one Value; got {result!r:.80}")
    return output


def _first_fault(model: Any, loss: Loss, X: Any, y: Any) -> str:
    """Compute a minibatch again, watched; return what went wrong first."""
    for number, parameter in enumerate(model.parameters()):
        if not math.isfinite(parameter.data):
            return f"the last update made {parameter.label or 'the parameter'} (number {number}) {parameter.data}"
    try:
        with detect_anomaly():
            for x, target in zip(X.tolist(), y.tolist(), strict=True):
                loss(model(x), target).backward()
    except AnomalyError as error:
        return str(error)
    return "each sample alone is finite, only the sum over the minibatch is not"


# ---------------------------------------------------------------------------------------------------
# Progress


SECONDS_BETWEEN_UPDATES = 0.1


class _Progress:
    """How far training is: a bar in a terminal, a bar in a notebook's cell, at most ten lines in a log."""

    def __init__(self, total: int, epochs: int, quiet: bool) -> None:
        self.total = total
        self.epochs = epochs
        self.shown = 0.0
        self.printed = 0
        self.reason = ""
        self.bar: Any = None
        self.handle: Any = None
        self.show: Callable[[History], None] | None = None
        if quiet:
            return
        self.console = import_module("rich.console").Console(stderr=True)
        if self.console.is_jupyter:
            self.show = self._show_in_notebook
        elif self.console.is_terminal:
            rich = import_module("rich.progress")
            columns = [rich.BarColumn(16), rich.TimeElapsedColumn(), rich.TextColumn("{task.description}")]
            self.bar = rich.Progress(*columns, console=self.console, auto_refresh=False)
            self.task = self.bar.add_task("", total=self.total)
            self.show = self._show_in_terminal
        else:
            self.show = self._show_in_log

    def __enter__(self) -> "_Progress":
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def note(self, reason: str) -> None:
        """Say once why the model is not compiled; in a notebook the bar says it."""
        self.reason = f"not compiled: {reason}" if reason else ""
        if reason and self.show not in (None, self._show_in_notebook):
            reason = displayable(self.reason, self.console.encoding)
            self.console.print(reason, soft_wrap=True, highlight=False, markup=False)

    def update(self, history: History) -> None:
        """Show the history, unless it was shown just before; the end in any case."""
        now = time.monotonic()
        over = history.interrupted or len(history.loss) == self.epochs
        if self.show is not None and (over or now - self.shown >= SECONDS_BETWEEN_UPDATES):
            self.shown = now
            self.show(history)

    def _text(self, history: History) -> str:
        """The epoch that is running with the recent loss; when it is over, with its mean."""
        done = len(history.loss)
        running = len(history.batch_loss) > done * history.batches
        recent = history.batch_loss[-20:] if running else history.loss[-1:]
        text = f"epoch {done + running}/{self.epochs}"
        text += f"  loss {sum(recent) / len(recent):.3g}" if recent else ""
        for name, shares in (("right", history.accuracy), ("validation", history.validation_accuracy)):
            text += f"  {name} {shares[-1]:.1%}" if shares else ""
        return text + ("  interrupted" if history.interrupted else "")

    def _show_in_terminal(self, history: History) -> None:
        self.bar.update(self.task, completed=len(history.batch_loss), description=self._text(history), refresh=True)

    def _show_in_notebook(self, history: History) -> None:
        text = self._text(history)
        bar = f'<progress value="{len(history.batch_loss)}" max="{self.total}" style="width: 10em"></progress>'
        note = f"<br>{html.escape(self.reason)}" if self.reason else ""
        shown = {"text/plain": "\n".join(filter(None, [text, self.reason])), "text/html": f"{bar} {text}{note}"}
        if self.handle is None:
            self.handle = import_module("IPython.display").display(shown, raw=True, display_id=True)
        else:
            self.handle.update(shown, raw=True)

    def _show_in_log(self, history: History) -> None:
        done = len(history.loss)
        if done == self.epochs or history.interrupted or done >= self.printed + max(1.0, self.epochs / 10):
            self.printed = done
            self.console.print(self._text(history), soft_wrap=True, highlight=False)
