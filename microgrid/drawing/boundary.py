"""The decision boundary of a classifier of points in the plane."""

from collections.abc import Callable, Sequence
from typing import Any

from microgrid.drawing.text import significant
from microgrid.engine import Value
from microgrid.environment import require
from microgrid.ops import as_float, short_repr
from microgrid.recording import no_grad
from microgrid.theme import CLASSES, LIGHT

MARKERS = "os^DpvHX<*"  # classes differ in shape too, those that the page of watch shows
SHADES = 8  # how many steps of sureness there are
MARGIN = 0.12  # of the range of the points, on each side


def plot_boundary(
    model: Callable[[list[float]], Any],
    points: Sequence[Sequence[float]],
    classes: Sequence[float],
    *,
    resolution: int = 60,
    title: str = "",
    axes: Any = None,
) -> Any:
    """Draw the regions that a model assigns to classes in the plane, with the points it learned from.

    A model with one output decides by its sign, one with several for the largest. The shade shows the confidence:
    how far the output is from 0, or the largest from the next. The line is the decision boundary.

    >>> figure = mg.plot_boundary(lambda p: p[0] - p[1], [[0.0, 1.0], [1.0, 0.0]], [-1, 1], title="a line")
    >>> figure.axes[0].get_title()
    'a line'

    Args:
        model: takes two numbers and returns an output, or a list of them.
        points: pairs of numbers: rows of a list, an array or a data frame.
        classes: the class of each point: −1 and 1, or 0 and 1, or 0, 1, 2, …; or names.
        resolution: the number of places, in each direction, at which the model is evaluated.
        title: a heading.
        axes: matplotlib axes to draw on; unless given, a new figure.

    Returns:
        The matplotlib ``Figure``; ``.savefig("boundary.png")`` writes it.

    Raises:
        TypeError: if the model is no function, or points and classes are no sequences.
        ValueError: if there are no points, they are not pairs, there are more or fewer classes, or ``resolution``
            is below 2.
        ModuleNotFoundError: without matplotlib, naming the extra that brings it.
    """
    if isinstance(model, type) or not callable(model):
        raise TypeError(f"plot_boundary() draws what a model makes of two numbers; got {short_repr(model)}")
    points = points.to_numpy() if hasattr(points, "to_numpy") else points  # of a data frame, whose items are columns
    for name, given in (("points", points), ("classes", classes)):
        if isinstance(given, str) or not hasattr(type(given), "__iter__"):
            raise TypeError(f"plot_boundary() takes {name} as a list or an array; got {short_repr(given)}")
    if not hasattr(type(resolution), "__index__") or resolution < 2:
        raise ValueError(f"resolution must be a whole number, 2 or more; got {short_repr(resolution)}")
    points, classes = [list(map(as_float, point)) for point in points], list(classes)
    if not points or len(points) != len(classes) or any(len(point) != 2 for point in points):
        raise ValueError(
            f"plot_boundary() takes pairs of numbers and one class for each; got {len(points)} points"
            f"{'' if not points else f', the first of {len(points[0])} numbers,'} and {len(classes)} classes"
        )
    pyplot = require("matplotlib.pyplot", "plot_boundary()", "plot")
    colors = require("matplotlib.colors", "plot_boundary()", "plot")
    across, up = (_ticks([point[i] for point in points], resolution) for i in (0, 1))
    with no_grad():
        outputs = [[_numbers(model([x, y])) for x in across] for y in up]
    if axes is None:
        _, axes = pyplot.subplots(figsize=(5.0, 4.2), layout="constrained")
    if len(outputs[0][0]) == 1:
        score = [[output[0] for output in row] for row in outputs]
        size = max(abs(s) for row in score for s in row) or 1.0
        shades = colors.LinearSegmentedColormap.from_list(
            "boundary", [LIGHT["negative 3"], LIGHT["paper"], LIGHT["positive 3"]]
        )
        axes.contourf(across, up, score, levels=24, cmap=shades, vmin=-size / 2, vmax=size / 2)
        axes.contour(across, up, score, levels=[0.0], colors=LIGHT["ink"], linewidths=1.5)
    else:
        leads = [[[_lead(output, k) for output in row] for row in outputs] for k in range(len(outputs[0][0]))]
        size = max(x for lead in leads for row in lead for x in row) or 1.0
        for k, lead in enumerate(leads):
            if max(map(max, lead)) > 0.0:
                color = CLASSES["light"][k % len(CLASSES["light"])]
                shades = colors.LinearSegmentedColormap.from_list("class", [LIGHT["paper"], color])
                levels = [size * i / SHADES for i in range(SHADES + 1)]
                axes.contourf(across, up, lead, levels=levels, cmap=shades, vmin=-size / 5, vmax=2 * size)
                if min(map(min, lead)) < 0.0:
                    axes.contour(across, up, lead, levels=[0.0], colors=LIGHT["ink"], linewidths=1.5)
    for i, kind in enumerate(sorted(set(classes))):
        xs, ys = zip(*[point for point, c in zip(points, classes, strict=True) if c == kind], strict=True)
        axes.scatter(
            xs,
            ys,
            s=22,
            label=kind if isinstance(kind, str) else significant(kind),
            marker=MARKERS[i % len(MARKERS)],
            color=CLASSES["light"][i % len(CLASSES["light"])],
            edgecolors=LIGHT["paper"],
            linewidths=0.6,
        )
    axes.legend(title="class", frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.set_title(title)
    return axes.figure


def _ticks(numbers: Sequence[float], resolution: int) -> list[float]:
    low, high = min(numbers), max(numbers)
    margin = (high - low) * MARGIN or 1.0
    step = (high - low + 2 * margin) / (resolution - 1)
    return [low - margin + step * i for i in range(resolution)]


def _numbers(output: Any) -> list[float]:
    outputs = output if isinstance(output, (list, tuple)) else [output]
    return [item.data if isinstance(item, Value) else float(item) for item in outputs]


def _lead(outputs: list[float], k: int) -> float:
    """How far an output is above the largest of the others."""
    return outputs[k] - max(outputs[:k] + outputs[k + 1 :])
