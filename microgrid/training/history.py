"""The history of a training: numbers epoch by epoch, their curves, and the error that holds them."""

import math
from dataclasses import dataclass, field
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

from microgrid.atomic import write_file
from microgrid.environment import require
from microgrid.steps import Measured
from microgrid.theme import CURVES


@dataclass(repr=False)
class History:
    """The history of a training, epoch by epoch.

    >>> model = mg.nn.Affine(1, 1, seed=1)
    >>> history = mg.fit(model, [[0.0], [1.0]], [1.0, 3.0], loss=mg.losses.mean_squared_error, epochs=9, quiet=True)
    >>> len(history.loss), history.accuracy
    (9, [])

    Attributes:
        loss: the mean loss of the samples, each at its own step of the epoch.
        accuracy: the share of right answers among them; empty in regression.
        validation_loss: the mean loss of the validation set after the epoch; empty without one.
        validation_accuracy: the share of right answers among it.
        seconds: the duration of the epoch, with validation.
        batch_loss: the mean loss of each minibatch, also of an unfinished epoch.
        batches: the number of minibatches in an epoch.
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

    def add(self, training: Measured, validation: Measured | None, seconds: float) -> None:
        """Add the measurements of an epoch."""
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
            The matplotlib ``Figure`` if it was written; ``None`` if it was shown, lest a notebook show it twice.

        Raises:
            ImportError: without matplotlib, naming the extra that brings it.
            OSError: if the picture cannot be written.
            ValueError: without a path and a screen, or for an unknown kind of picture.
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
                axes.plot(steps, self.batch_loss, color=CURVES["minibatch"], linewidth=0.8, label="each minibatch")
            # A training measure is a mean over its epoch, a validation one is taken after it.
            for numbers, start, colour, label in (
                (training, 0.5, CURVES["training"], "training, mean of an epoch"),
                (validation, 1.0, CURVES["validation"], "validation, after it"),
            ):
                if numbers:
                    epochs = [start + i for i in range(len(numbers))]
                    axes.plot(epochs, numbers, "o-", color=colour, markersize=3.5, label=label)
            axes.set_title(title, loc="left", fontsize=11)
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color=CURVES["grid"], linewidth=0.8)
            if axes.lines:
                axes.legend(frameon=False)


class TrainingError(ArithmeticError):
    """The loss or a gradient became nan or infinite; model and optimiser are as after the last good step.

    >>> model = mg.nn.Affine(1, 1, seed=1)
    >>> fast = mg.optim.SGD(model.parameters(), 1e200)
    >>> mg.fit(model, [[1.0]] * 99, [3.0] * 99, loss=mg.losses.mean_squared_error, optimizer=fast, quiet=True)
    Traceback (most recent call last):
    microgrid.training.history.TrainingError: training stopped in epoch 1, ...

    Attributes:
        history: the history until then; the last of its ``batch_loss`` is not finite, or its gradient.
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
