"""The replay: a page that replays a recorded training, with its curve, weights and boundary."""

import base64
import math
import re
import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, Generic, TypeVar

from microgrid import ops
from microgrid.calls import Call, titles, within
from microgrid.drawing.boundary import MARGIN
from microgrid.drawing.network import PARAMETER, Network, shown_of, stack
from microgrid.drawing.page import Page, svg
from microgrid.drawing.program import Program, number
from microgrid.drawing.text import printable
from microgrid.engine import Value
from microgrid.nn import as_list
from microgrid.recording import enable_grad, no_grad
from microgrid.theme import LIGHT, THEMES

FRAMES = 200
"""The most moments of which a page has the parameters."""

NUMBERS = 500_000
"""The most parameters in all of these moments together: 2.7 MB of the page."""

MOMENTS = 2000
"""The most moments of the learning curve."""

POINTS = 400
"""The most points on the decision boundary."""

PIXELS = 6400
"""The most pixels of samples that are images: 100 digits of 64."""

TRACED = 20_000
"""The largest graph of one sample, in nodes, that the page computes at every place of the boundary."""

TRIED = 40
"""The number of points at which the page compares its own computation with Python's."""

IMAGES = 100
"""The most neurons whose weights are shown as images."""

ROWS = 40
"""The most groups of parameters in the table."""

ASSETS = (
    "replay.html",
    "replay.css",
    "batch.js",  # a graph computed for many samples at once
    "paint.js",  # colours and pixels
    "plane.js",  # what a model says all over the plane
    "curve.js",  # what a model of one input says
    "image.js",  # what a model says of a sample that is an image
    "diagram.js",  # neurons and weights
    "charts.js",  # curves of measures over time
    "parameters.js",  # weights as images, and statistics
    "replay.js",  # the record, and how it is played
)
MEASURES = ("loss", "accuracy", "validation_loss", "validation_accuracy")

Item = TypeVar("Item")


class Thinned(Generic[Item]):
    """A growing list that keeps about ``limit`` of its items, evenly spaced, and always the first and the last."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        self._kept: list[Item] = []
        self._last: Item | None = None
        self._step = 1

    def append(self, item: Item) -> None:
        """Add an item; if too many are kept, every second one goes."""
        self._last = None
        if self.count % self._step:
            self._last = item
        else:
            self._kept.append(item)
            if len(self._kept) > self.limit:
                self._last = item if len(self._kept) % 2 == 0 else None
                self._kept = self._kept[::2]
                self._step *= 2
        self.count += 1

    def items(self) -> list[Item]:
        """Return the kept items, in order."""
        return self._kept if self._last is None else [*self._kept, self._last]


class Watcher(Page):
    """The record of a training, and the page that plays it. Jupyter and marimo show it; ``save`` writes it.

    It is made by ``watch``, and notes the model as it is then: the untrained model is moment 0.
    """

    def __init__(self, model: Any, X: Any, y: Any, *, title: str, theme: str) -> None:
        super().__init__(title or f"Training of {type(model).__name__}", theme)
        self._model = model
        named = self._parameters()
        if not named:
            raise ValueError(
                f"the model has no parameters, so no training changes it: {model!r:.80}. Give watch() the model that "
                "learns; a class of your own keeps its Values in attributes that do not begin with _"
            )
        self._names = [name for name, _ in named]
        self._points, self._targets = _data(X, y)
        self._trace = _Trace(model, self._points, [parameter for _, parameter in named]) if self._points else None
        self._unit = ""
        self._frames: Thinned[tuple[int, array[float]]] = Thinned(max(2, min(FRAMES, NUMBERS // len(named))))
        self._moments: Thinned[tuple[int, dict[str, float]]] = Thinned(MOMENTS)
        self._add({})

    def __call__(self, history: Any) -> None:
        """Note the model and how it does after an epoch: ``mg.fit(…, after_epoch=watcher)``.

        Args:
            history: its ``loss``, ``accuracy``, ``validation_loss`` and ``validation_accuracy``, lists that
                may be empty, end with what holds now.
        """
        self._unit = self._unit or "epoch"
        self._add({name: numbers[-1] for name in MEASURES if (numbers := getattr(history, name))})

    def record(self, **measures: float | Value) -> None:
        """Note the model and how it does, in a loop of your own: ``watcher.record(loss=loss, accuracy=0.9)``.

        Each name has its curve; a name that begins with ``validation_`` shares a chart with the rest of it.

        Raises:
            TypeError: if a measure is not a number.
            ValueError: if the model has another number of parameters than when watching began.
        """
        numbers = {}
        for name, measure in measures.items():
            try:
                numbers[name] = ops.as_float(measure.data if isinstance(measure, Value) else measure)
            except TypeError as error:
                raise TypeError(f"record({name}=…) takes a number or a Value: {error}") from None
        self._unit = self._unit or "step"
        self._add(numbers)

    @property
    def html(self) -> str:
        """The page, of what is recorded so far: one file that asks the network for nothing.

        Raises:
            ValueError: if nothing is recorded yet.
        """
        if self._moments.count == 1:
            raise ValueError(
                "nothing is recorded yet: train with mg.fit(model, X, y, after_epoch=watcher), or call "
                "watcher.record(loss=loss) in your own loop, and then show or save the page"
            )
        frames, moments = self._frames.items(), self._moments.items()
        names = list(dict.fromkeys(name for _, measures in moments for name in measures))
        network = _network(self._model, self._names)
        side = _side(network.layers[0].inputs) if network else 0
        data = {
            "unit": self._unit,
            "at": [at for at, _ in frames],
            "numbers": _base64(parameters for _, parameters in frames),
            "moments": [at for at, _ in moments],
            "measures": {
                printable(name): [number(measures[name]) if name in measures else None for _, measures in moments]
                for name in names
            },
            "network": _diagram(network) if network and not side else None,
            "images": _images(network, side) if network and side else None,
            "groups": _groups(self._names, titles(self._model)),
            "boundary": self._boundary(network),
        }
        functions = self._trace.program.functions() if self._trace and self._trace.program else []
        return self._fill(ASSETS, data, functions, ("untrained", f"{self._unit} {frames[-1][0]:,}"))

    def __repr__(self) -> str:
        if self._moments.count == 1:
            return f"<Watcher {self._title!r}: nothing recorded yet; mg.fit(…, after_epoch=watcher)>"
        count = self._moments.count - 1
        return f"<Watcher {self._title!r}: {count:,} {self._unit}{'s' * (count > 1)}; .save('training.html'), .html>"

    def _repr_html_(self) -> str | None:
        return super()._repr_html_() if self._moments.count > 1 else None

    def _parameters(self) -> list[tuple[str, Value]]:
        if hasattr(self._model, "named_parameters"):
            return list(self._model.named_parameters())
        if hasattr(self._model, "parameters"):
            return [(str(i), parameter) for i, parameter in enumerate(self._model.parameters())]
        raise TypeError(
            f"watch() watches a model, such as MLP(2, [16, 1]): something that has parameters(); "
            f"got {self._model!r:.80} of type {type(self._model).__name__}"
        )

    def _add(self, measures: dict[str, float]) -> None:
        parameters = array("f", [parameter.data for _, parameter in self._parameters()])
        if len(parameters) != len(self._names):
            raise ValueError(
                f"the model had {len(self._names)} parameters when watching began and has {len(parameters)} now: "
                "call watch() again after changing a model"
            )
        at = self._moments.count
        self._frames.append((at, parameters))
        self._moments.append((at, measures))

    def _boundary(self, network: Network | None) -> dict[str, Any] | None:
        """Return the data with which the page computes the model all over the plane, or for each image."""
        if self._trace is None:
            return None
        if self._trace.program is None:
            return {"problem": self._trace.problem}
        columns: list[Sequence[float]] = [*zip(*self._points, strict=True)]
        if len(columns) == 1:  # the curve's other axis
            columns.append(self._targets or [y for point in self._points for y in self._trace.answer(point)])
        is_image = len(columns) > 2
        most, compared = (max(1, PIXELS // len(columns)), TRIED // 5) if is_image else (POINTS, TRIED)
        shown = range(0, len(self._points), -(-len(self._points) // most))
        tried = [self._points[i] for i in shown[:: -(-len(shown) // compared)]]
        return {
            "problem": "",
            "range": [] if is_image else [*map(_range, columns)],
            "points": [[float(f"{x:.6g}") for x in self._points[i]] for i in shown],
            "targets": [self._targets[i] for i in shown] if self._targets else None,
            "total": len(self._points),
            "tried": tried,
            "answers": [[number(x) for x in self._trace.answer(point)] for point in tried],
            **self._trace.json(network),
        }

    def _still(self) -> str:
        return _curve_svg(self._title, self._unit, self._moments.items(), self._theme)


def watch(model: Any, X: Any = None, y: Any = None, *, title: str = "", theme: str = "auto") -> Watcher:
    """Watch a model learn: the page replays its training, with a slider.

    >>> (X, y), model = mg.data.moons(20), mg.nn.MLP(2, [3, 1])
    >>> watcher = mg.watch(model, X, y)  # watcher.save("training.html") writes the page
    >>> history = mg.fit(model, X, y, loss=mg.losses.binary_cross_entropy, epochs=2, after_epoch=watcher, quiet=True)

    The page shows the learning curves and, of neurons in layers, the weights: as the width and colour of
    lines, or as images if the inputs form a square, such as 64 pixels; for any other model the statistics
    of its parameters. If the model takes two numbers, the page computes it all over the plane; if one, it draws
    the curve of its outputs through the points, over those of earlier moments; for an image it shows the scores, and
    the gradient of a score at each pixel.
    Its size is bounded: it keeps about 200 evenly spaced moments of a long training.

    Args:
        model: a module, or anything that has ``parameters()``. It is noted as it is now, as moment 0.
        X: the samples: two numbers are points on a plane, one a point of a curve, and numbers that form a square an
            image. The page does not show others.
        y: the target of each: a class, 0 and 1 or −1 and 1 or 0, 1, 2, …, or one-hot; or a number.
        title: the page's heading.
        theme: ``"light"``, ``"dark"``, or ``"auto"`` to follow the viewer.

    Returns:
        The watcher. ``mg.fit`` calls it after each epoch; in a loop of your own call its ``record``. Then a
        notebook shows it, and ``.save("training.html")`` writes it.

    Raises:
        TypeError: if the model has no ``parameters()``, the data is not numbers, or the title is not text.
        ValueError: if the model has no parameters, there is not one target per sample, the samples have
            different lengths, or the model does not take them; or for an unknown theme.
    """
    return Watcher(model, X, y, title=title, theme=theme)


# ---------------------------------------------------------------------------------------------------
# The data


def _data(X: Any, y: Any) -> tuple[list[list[float]], list[float]]:
    """Return the points of a line or a plane, or images, and their targets; no points for other samples."""
    if X is None:
        if y is not None:
            raise ValueError("watch() got targets y without samples: give both, watch(model, X, y)")
        return [], []
    rows = [as_list(row) for row in X]
    targets = [] if y is None else [as_list(target) for target in y]
    if y is not None and len(rows) != len(targets):
        raise ValueError(
            f"X has {len(rows)} samples and y has {len(targets)} targets: give watch() one target for each sample"
        )
    if not rows:
        raise ValueError("X is empty: give watch() the samples, or leave X and y out")
    if len(lengths := set(map(len, rows))) > 1:
        raise ValueError(f"the samples in X have different lengths, {sorted(lengths)}: each needs the same")
    (width,) = lengths
    if width > 2 and not _side(width):
        return [], []
    points = [[_number("X", i, x) for x in row] for i, row in enumerate(rows)]
    return points, [
        _number("y", i, target[0] if len(target) == 1 else target.index(max(target)))
        for i, target in enumerate(targets)
    ]


def _number(name: str, place: int, given: Any) -> float:
    try:
        x = ops.as_float(given.data if isinstance(given, Value) else given)
    except TypeError as error:
        raise TypeError(f"{name}[{place}]: {error}") from None
    if not math.isfinite(x):
        raise ValueError(f"{name}[{place}] has {x}: it has no place in a picture; leave it out")
    return x


def _side(inputs: int) -> int:
    """Return the side of the square that so many inputs form; 0 if they are no image."""
    side = math.isqrt(inputs)
    return side if side >= 4 and side * side == inputs else 0


def _range(numbers: Sequence[float]) -> list[float]:
    low, high = min(numbers), max(numbers)
    margin = (high - low) * MARGIN or 1.0
    return [low - margin, high + margin]


class _Trace:
    """The graph of the model for one point, which the page computes for others, and for other parameters.

    Attributes:
        program: the graph, or ``None`` if the page cannot compute it.
        problem: why, in words.
    """

    def __init__(self, model: Any, points: list[list[float]], parameters: list[Value]) -> None:
        self.model = model
        self.program: Program | None = None
        self.inputs = [Value(x) for x in points[0]]
        self.parameters = parameters
        with enable_grad():
            outputs = self._run(self.inputs)
        self.problem = next(
            (f"the model gives {type(y).__name__}, not a Value" for y in outputs if not isinstance(y, Value)), ""
        )
        if self.problem or not outputs:
            return
        self.outputs: list[Value] = outputs
        program = Program(outputs[0] if len(outputs) == 1 else ops.total(outputs))
        lacking = [value.op.name for value in program.order if value.parents and not program.rows[value.op].javascript]
        if lacking:
            self.problem = f"the operation {lacking[0]} has no JavaScript expression; give its Op javascript="
        elif len(program.order) > TRACED:
            self.problem = f"the model takes {len(program.order):,} nodes for one point, too many for a page to compute"
        else:
            self.program = program

    def answer(self, point: list[float]) -> list[float]:
        """Return the outputs for a point, computed in Python."""
        with no_grad():
            return [y.data if isinstance(y, Value) else float(y) for y in self._run(point)]

    def json(self, network: Network | None) -> dict[str, Any]:
        """Return the program, and the places of its inputs, parameters, outputs and neurons."""
        assert self.program is not None
        program, index = self.program.json(), self.program.index
        made = {
            value.origin.module.path: i
            for value, i in index.items()
            if value.origin is not None and isinstance(value.origin.module, Call)
        }
        children: dict[int, list[int]] = {}
        for value, i in index.items():
            for parent in value.parents:
                children.setdefault(index[parent], []).append(i)

        def answer_of(path: str) -> int | None:
            """Return the node of a neuron, or of the activation that alone uses it."""
            i = made.get(path)
            while i is not None and len(after := children.get(i, [])) == 1 and len(program["parents"][after[0]]) == 1:
                i = after[0]
            return i

        root = type(self.model).__name__
        is_layered = not hasattr(self.model, "w")  # a single neuron is called by nobody's list
        return {
            "program": {key: program[key] for key in ("op", "parents", "data", "rows")},
            "inputs": [index.get(value, -1) for value in self.inputs],
            "parameters": [index.get(value, -1) for value in self.parameters],
            "outputs": [index[value] for value in self.outputs],
            "neurons": [
                [
                    answer_of(".".join([root, *filter(None, [layer.name]), *["neurons", str(j)] * is_layered]))
                    for j in shown_of(len(layer.weights))
                ]
                for layer in (network.layers if network else [])
            ],
        }

    def _run(self, x: Sequence[Any]) -> list[Any]:
        is_training = getattr(self.model, "training", False)
        if is_training:
            self.model.eval()  # no dropout: the page shows the model in evaluation mode
        try:
            return as_list(self.model(x))
        finally:
            if is_training:
                self.model.train()


# ---------------------------------------------------------------------------------------------------
# The parameters: the position of each in a frame


def _base64(frames: Iterable["array[float]"]) -> str:
    return base64.b64encode(b"".join(struct.pack(f"<{len(frame)}f", *frame) for frame in frames)).decode()


def _network(model: Any, names: list[str]) -> Network | None:
    """Return the layers of neurons, with the position of each parameter instead of its number."""
    try:
        network = stack(model, ((name, float(i)) for i, name in enumerate(names)))
    except ValueError:
        return None
    for layer in network.layers:
        for weights in layer.weights.values():
            first = weights.get(0, 0.0)
            if [*weights.values()] != [first + i for i in range(layer.inputs)]:
                return None  # a parameter that two neurons share
    return network


def _diagram(network: Network) -> dict[str, Any]:
    sizes = [network.layers[0].inputs, *[len(layer.weights) for layer in network.layers]]
    return {
        "sizes": sizes,
        "shown": [shown_of(size) for size in sizes],
        "names": ["Inputs", *[printable(layer.title) for layer in network.layers]],
        "weights": [_weights(layer.weights, shown_of(len(layer.weights))) for layer in network.layers],
        "biases": [[int(layer.biases.get(j, -1)) for j in shown_of(len(layer.weights))] for layer in network.layers],
        "others": network.others,
    }


def _images(network: Network, side: int) -> dict[str, Any]:
    layer = network.layers[0]
    return {
        "side": side,
        "name": printable(layer.title),
        "total": len(layer.weights),
        "weights": _weights(layer.weights, range(min(IMAGES, len(layer.weights)))),
    }


def _weights(weights: dict[int, dict[int, float]], neurons: Iterable[int]) -> list[int]:
    """The positions of the first weights; the others follow."""
    return [int(weights[j][0]) for j in neurons]


def _groups(names: list[str], called: dict[str, str]) -> list[tuple[str, list[list[int]]]]:
    """Return parameters that belong together: the name of the group, and runs of positions, first and length."""

    def group_of(name: str) -> str:
        match = PARAMETER.fullmatch(name)
        if match is None:
            module, own = within(called, re.sub(r"(\.\d+)+$", "", name))
        else:
            module = called.get(match["layer"], match["layer"]) if match["layer"] else ""
            own = "weights" if match["input"] else "biases"
        return " · ".join(filter(None, [module, own]))

    groups: dict[str, list[list[int]]] = {}
    position = 0
    for name, run in groupby(map(group_of, names)):
        length = sum(1 for _ in run)
        shown = name if name in groups or len(groups) < ROWS else "all others"
        groups.setdefault(shown, []).append([position, length])
        position += length
    return [(printable(name), runs) for name, runs in groups.items()]


# ---------------------------------------------------------------------------------------------------
# The picture for viewers that run no scripts


def _curve_svg(title: str, unit: str, moments: list[tuple[int, dict[str, float]]], theme: str) -> str:
    """Return the first measure and its validation as curves."""
    width, height, left, top = 640, 280, 60, 60
    color = THEMES.get(theme, LIGHT)
    first = next((name for _, measures in moments for name in measures), "").removeprefix("validation_")
    curves = {
        kind: [(at, m[name]) for at, m in moments if math.isfinite(m.get(name, math.nan))]
        for kind, name in (("training", first), ("validation", f"validation_{first}"))
    }
    numbers = [x for curve in curves.values() for _, x in curve] or [0.0]
    low, high = min(numbers), max(numbers)
    place: Callable[[int, float], str] = lambda at, x: (  # noqa: E731 - it is used in two places below
        f"{left + (width - left - 20) * at / max(1, moments[-1][0]):.1f},"
        f"{height - 40 - (height - 40 - top) * ((x - low) / (high - low) if high > low else 0.5):.1f}"
    )
    texts = [(20, 28, 16, "ink", title), (20, 48, 12, "muted", f"{first}, {unit} 0 to {moments[-1][0]:,}")]
    lines = []
    for (kind, curve), name in zip(curves.items(), ("positive line 4", "negative line 4"), strict=True):
        if curve:
            path = " ".join(place(at, x) for at, x in curve)
            lines.append(f'<polyline fill="none" stroke="{color[name]}" stroke-width="2" points="{path}"/>')
            texts.append((120 + 170 * len(lines), 48, 12, name, f"{kind} {curve[-1][1]:.4g}"))
    texts += [(8, top + 5, 11, "muted", f"{high:.3g}"), (8, height - 36, 11, "muted", f"{low:.3g}")] if lines else []
    axes = f'<path fill="none" stroke="{color["faint"]}" d="M{left},{top}V{height - 40}H{width - 20}"/>'
    return svg(width, height, theme, [axes, *lines], texts)
