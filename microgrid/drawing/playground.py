"""The playground: a page in which a network learns a toy set, and every number of it can be seen.

The page computes with the operations of the table alone. It gets neurons, activations, losses and steps of
optimisers as graphs, made here by the classes of ``nn``, ``losses`` and ``optim``; so its training is
that of ``mg.fit``, number by number, and no derivative is written in JavaScript.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from microgrid import losses, nn, ops, optim
from microgrid.drawing.naming import one_of
from microgrid.drawing.page import Page, svg
from microgrid.drawing.program import Json, Program
from microgrid.engine import Value
from microgrid.ops import as_float, short_repr
from microgrid.recording import enable_grad
from microgrid.theme import LIGHT, THEMES

ASSETS = (
    "replay.css",
    "playground.css",
    "playground.html",
    "random.js",  # the random numbers of Python and NumPy
    "batch.js",
    "learner.js",  # the graph of a network, and how it learns
    "paint.js",
    "plane.js",
    "curve.js",
    "diagram.js",
    "charts.js",
    "sample.js",  # the graph of one sample
    "playground.js",  # the settings, and how it is played
)

COUNT = 200
"""The number of samples of a set: the first ones are learned from, the others are for the test."""

LEAST, MOST = 20, 180
"""The limits of the number of samples that are learned from."""


WIDEST, DEEPEST = 8, 4
"""The most neurons of a hidden layer, and the most hidden layers."""


class Activation(NamedTuple):
    """The activation after each hidden layer: a module, its name in Python, and the init of weights before it."""

    module: Callable[[Any], Any] | None
    python: str
    init: str


class Loss(NamedTuple):
    """A loss, its name in Python, and its targets: signs (−1, 1), classes (0, 1) or numbers."""

    function: Callable[[Any, Any], Any]
    python: str
    targets: str


ACTIVATIONS = {
    "tanh": Activation(nn.Tanh(), "nn.Tanh()", "xavier"),
    "relu": Activation(nn.ReLU(), "nn.ReLU()", "he"),
    "sigmoid": Activation(nn.Sigmoid(), "nn.Sigmoid()", "xavier"),
    "none": Activation(None, "", "xavier"),
}

LOSSES = {
    "binary cross-entropy": Loss(losses.binary_cross_entropy, "losses.binary_cross_entropy", "classes"),
    "hinge": Loss(losses.hinge, "losses.hinge", "signs"),
    "squared error": Loss(losses.mean_squared_error, "losses.mean_squared_error", "signs"),
}

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    optimizer.__name__: optimizer
    for optimizer in (optim.SGD, optim.Momentum, optim.Nesterov, optim.AdaGrad, optim.RMSprop, optim.Adam)
}

RATES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
DECAYS = (0.0, 0.0001, 0.001, 0.01, 0.1, 1.0)
BATCH_SIZES = (1, 5, 10, 25, 50)

SETS = {"moons": 0.1, "circles": 0.1, "xor": 0.3, "spirals": 0.02, "sine": 0.1}
"""The data sets with their usual noise."""


SIGNS = ("negative", "positive")
"""The signs whose colours the classes have."""


class Playground(Page):
    """The page of ``mg.playground()``. Jupyter and marimo show it; ``save`` writes it."""

    def __init__(self, settings: Json, *, title: str, theme: str) -> None:
        super().__init__(title or "A network learns", theme)
        self._settings = settings
        self._sets = {name: _toy(name) for name in SETS}

    @property
    def html(self) -> str:
        """The page: one file that asks the network for nothing."""
        program, pieces = _library()
        data = {
            "library": program.json(),
            "pieces": pieces,
            "sets": self._sets,
            "fewest": LEAST,
            "most": MOST,
            "widest": WIDEST,
            "deepest": DEEPEST,
            "rates": RATES,
            "decays": DECAYS,
            "batches": BATCH_SIZES,
            "activations": {name: activation[1:] for name, activation in ACTIVATIONS.items()},
            "losses": {name: loss[1:] for name, loss in LOSSES.items()},
            "optimizers": [*OPTIMIZERS],
            "settings": self._settings,
        }
        return self._fill(ASSETS, data, program.functions(), header="training.html")

    def __repr__(self) -> str:
        return f"<Playground {self._title!r}: .save('playground.html'), .html>"

    def _still(self) -> str:
        shown, side, color = self._sets[self._settings["data"]], 280, THEMES.get(self._theme, LIGHT)
        columns = [*zip(*shown["points"], strict=True), shown["targets"]][:2]
        ends = [(min(column), max(column)) for column in columns]
        places = [
            [20 + (side - 40) * (x - a) / (b - a) for x in column] for column, (a, b) in zip(columns, ends, strict=True)
        ]
        classes = [0 if shown["isCurve"] else target for target in shown["targets"]]
        marks = [
            f'<circle cx="{x:.1f}" cy="{side - y:.1f}" r="3.5" fill="{color[f"{SIGNS[kind]} line 4"]}"/>'
            for x, y, kind in zip(*places, classes, strict=True)
        ]
        lines = enumerate((self._title, f"{COUNT} samples: {self._settings['data']}"))
        return svg(640, side, self._theme, marks, [(300, 40 + 22 * i, 15 - 2 * i, "ink", line) for i, line in lines])


def playground(
    data: str = "moons",
    layers: Sequence[int] = (4, 4),
    *,
    activation: str = "tanh",
    loss: str = "",
    optimizer: str = "Adam",
    learning_rate: float = 0.03,
    weight_decay: float = 0.0,
    batch_size: int = 10,
    train_size: int = 150,
    noise: float | None = None,
    seed: int = 1,
    title: str = "",
    theme: str = "auto",
) -> Playground:
    """Make a page in which a network learns a toy set; everything can be changed there, too.

    >>> page = mg.playground("xor", [4], activation="relu")  # page.save("playground.html") writes it

    The page trains as ``mg.fit`` does, from the same seeds to the same numbers, and shows the code. Beside the answer
    of every neuron it shows the graph of any one sample, with the number and the gradient of each node. Its address
    holds the settings: sent to others, it leads to the same training.

    Args:
        data: a set of ``microgrid.data``: ``"moons"``, ``"circles"``, ``"xor"``, ``"spirals"`` or ``"sine"``, a
            curve of one variable.
        layers: the numbers of neurons of the hidden layers, at most 4 of 8; the last layer has one.
        activation: after each hidden layer: ``"tanh"``, ``"relu"``, ``"sigmoid"`` or ``"none"``.
        loss: ``"binary cross-entropy"``, ``"hinge"`` or ``"squared error"``; unless given the first, or for a curve
            the last, which is the only one there.
        optimizer: ``"SGD"``, ``"Momentum"``, ``"Nesterov"``, ``"AdaGrad"``, ``"RMSprop"`` or ``"Adam"``.
        learning_rate: η.
        weight_decay: λ of the optimiser, from 0 to 100.
        batch_size: the number of samples in a minibatch.
        train_size: the number of samples, of the 200, that are learned from: 20 to 180; the others are for the test.
        noise: the standard deviation of the noise in the data; unless given, that of the set.
        seed: of the data, the initial weights and the minibatches.
        title: the page's heading.
        theme: ``"light"``, ``"dark"``, or ``"auto"`` to follow the viewer.

    Raises:
        ImportError: without NumPy, naming the extra that brings it.
        ValueError: for a name that is none of these, or a number out of its range.
        TypeError: for a setting that should be a number or text and is not.
    """
    is_curve = data == "sine"
    loss = loss or ("squared error" if is_curve else "binary cross-entropy")
    for name, given, known in (
        ("data", data, SETS),
        ("activation", activation, ACTIVATIONS),
        ("loss", loss, ["squared error"] if is_curve else LOSSES),
        ("optimizer", optimizer, OPTIMIZERS),
    ):
        one_of(name, given, known)
    if not isinstance(layers, Sequence) or isinstance(layers, (str, bytes)) or len(layers) > DEEPEST:
        raise ValueError(
            f"layers must be a list with the sizes of at most {DEEPEST} hidden layers, as [4, 4]; got "
            f"{short_repr(layers)}"
        )
    widths = [_whole("the size of a layer", width, 1, WIDEST) for width in layers]
    size = _whole("train_size", train_size, LEAST, MOST)
    settings = {
        "data": data,
        "layers": widths,
        "activation": activation,
        "loss": loss,
        "optimizer": optimizer,
        "rate": _within("learning_rate", learning_rate, 1e-9, 100.0),
        "decay": _within("weight_decay", weight_decay, 0.0, 100.0),
        "batch": _whole("batch_size", batch_size, 1, size),
        "train": size,
        "noise": SETS[data] if noise is None else _within("noise", noise, 0.0, 1.0),
        "seed": _whole("seed", seed, 0, 2**32 - 1),
    }
    return Playground(settings, title=title, theme=theme)


def _whole(name: str, number: Any, least: int, most: int) -> int:
    if isinstance(number, bool) or not hasattr(number, "__index__") or not least <= number <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}; got {short_repr(number)}")
    return int(number)


def _within(name: str, number: object, least: float, most: float) -> float:
    try:
        x = as_float(number)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    if not least <= x <= most:
        raise ValueError(f"{name} must be a number from {least:g} to {most:g}; got {number!r}")
    return x


def _toy(name: str) -> Json:
    """Return a set without noise, before its samples are put in random order; the page does the rest."""
    from microgrid import data  # not above: it needs NumPy, and other pictures do not

    more = {"classes": 2} if name == "spirals" else {}
    X, y = getattr(data, name)(COUNT, noise=0.0, seed=0, **more)
    place = data.generator_of(0).permutation(COUNT).argsort()
    options = "".join(f"{key}={value}, " for key, value in more.items())
    return {
        "points": X[place].tolist(),
        "targets": y[place].tolist(),
        "isCurve": name == "sine",
        "noise": SETS[name],
        "python": f"data.{name}({COUNT}, {options}",
    }


def _library() -> tuple[Program, dict[str, list[list[int]]]]:
    """Return a program that holds every piece, and the input and output nodes of each piece."""
    pieces: dict[str, tuple[list[Value], list[Value]]] = {}
    x, target = Value(0.5, "x"), Value(1.0, "target")
    with enable_grad():
        for name, activation in ACTIVATIONS.items():
            if activation.module:
                pieces[name] = [x], [activation.module(x)]
        for inputs in range(1, WIDEST + 1):
            neuron, xs = nn.Neuron(inputs, nonlin=False, seed=0), [Value(0.5) for _ in range(inputs)]
            pieces[f"neuron {inputs}"] = [*xs, *neuron.w, neuron.b], [neuron(xs)]
        for name, loss in LOSSES.items():
            if loss.targets == "classes":  # a certain target leaves half of the formula out
                for kind in (0, 1):
                    pieces[f"{name} {kind}"] = [x], [loss.function(x, kind)]
            else:
                pieces[name] = [x, target], [loss.function(x, target)]
        for name, make in OPTIMIZERS.items():
            settings = {key: Value(0.1, key) for key in ("learning_rate", "weight_decay", "steps")}
            optimizer = make([Value(0.0)])
            vars(optimizer).update(settings)
            parameter, gradient, *memory = (Value(1.0) for _ in range(2 + len(optimizer.memory)))
            given = parameter, gradient, *memory
            pieces[name] = [*settings.values(), *given], [*optimizer._decayed(*given)]
        program = Program(ops.total([result for _, results in pieces.values() for result in results]))
    index = program.index
    return program, {
        name: [[index.get(value, -1) for value in values] for values in piece] for name, piece in pieces.items()
    }
