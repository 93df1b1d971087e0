"""Pictures of computation graphs: ``draw`` makes one, Jupyter shows it, ``save`` writes it."""

import math
from collections.abc import Iterable
from typing import Any

from microgrid.drawing import arrays, network, values
from microgrid.drawing.drawable import Drawable, Options
from microgrid.drawing.graph import exceeds
from microgrid.drawing.marks import Mark
from microgrid.drawing.naming import heading_text, name, one_of
from microgrid.drawing.picture import SCALE, Picture
from microgrid.drawing.rendering import RendererError
from microgrid.engine import Value
from microgrid.ops import short_repr
from microgrid.theme import THEMES

__all__ = ["Picture", "RendererError", "draw", "name", "notebook_bundle"]

KINDS: tuple[Drawable, ...] = (network, arrays, values)
"""The kinds of objects that are drawn, in the order in which they are tried."""

DIRECTIONS = ("LR", "TB", "RL", "BT")
NOTEBOOK_LIMIT = 64
"""The largest graph, in nodes, that a notebook shows for a Value unasked."""


def draw(
    what: Value | Iterable[Value] | Any,
    *,
    title: str = "",
    direction: str | None = None,
    depth: int | None = None,
    focus: Value | None = None,
    radius: int = 2,
    fold: int | None = 8,
    limit: int | None = 200,
    mark: "Mark | None" = None,
    theme: str = "auto",
    legend: bool = True,
    scale: float = SCALE,
    like: Picture | None = None,
    renderer: str | None = None,
) -> Picture:
    """Draw the computation graph of a Value, or of several in one picture; the network of a model; or a kernel.

    A node shows label, data and gradient. An edge shows the local derivative ∂result/∂operand, and under
    it the gradient that flows back along it: the gradient of the result times the local derivative. The
    gradients are those of the last ``backward()``. They are left out before one, and if they came from another
    output and that of this one is 0.

    A model, such as ``MLP(2, [4, 4, 1])``, is drawn as the classic diagram: a circle per neuron, and a line
    per weight, whose width is its size and whose colour is its sign. Only ``title``, ``theme``, ``legend``,
    ``scale`` and ``renderer`` are for it.

    A kernel, made by ``compile``, is drawn as its array program: a box per statement, with its
    operation and its shape. The forward and the backward pass are side by side and run in opposite directions. Only
    ``title``, ``direction``, ``limit``, ``theme``, ``legend``, ``scale`` and ``renderer`` are for it. A compiled
    function is drawn as its kernel if it has one so far; ``draw(f.kernel(X, Y))`` draws that for arguments like these.

    >>> x = mg.Value(2.0, "x")
    >>> picture = mg.draw(x * x, title="a square")
    >>> picture.svg.startswith("<svg")
    True

    Args:
        what: the output, or several outputs, or a model, or a kernel.
        title: a heading.
        direction: where the forward pass goes: ``"LR"`` to the right, ``"TB"`` down, ``"RL"``, ``"BT"``. Unless
            given it goes to the right, and that of a kernel, which is long, down.
        depth: how many levels of modules to open: with 0 a network is one box, with 1 each layer is,
            with 2 each neuron; ``None`` opens all.
        focus: draw only what lies within ``radius`` edges of this Value.
        radius: how far around ``focus``.
        fold: alike operands of one operation beyond this many share a box, as in w₀x₀ + ⋯ + w₆₃x₆₃;
            ``None`` draws every one.
        limit: a graph of more boxes is drawn as its outline, with counts; ``None`` draws it whole.
        mark: the nodes to mark by a thick outline: a Value, ``focus`` unless given; a dict of Values and a text for
            each; or the result of ``why(y)`` or ``precision(y)``, with its words at each place.
        theme: ``"light"``, ``"dark"``, or ``"auto"``: SVG is dark within a dark page (of JupyterLab, VS Code, Colab,
            documentation), HTML for viewers who prefer it; else they are light, and so is PNG.
        legend: whether to explain the numbers on the edges.
        scale: pixels of a PNG to a point; there are 72 points to an inch.
        like: another picture of this graph. Its numbers have as much room here, so in a series that is drawn before,
            between and after the passes nothing moves but the numbers.
        renderer: a Graphviz program's name or path. Unless given it is the one named by the environment
            variable ``MICROGRID_DOT``, else a system ``dot``, else the one of ``graphviz-pure``.

    Returns:
        The picture: a notebook shows it, ``.save("graph.svg")`` writes it. The numbers in it stay as they
        were when it was drawn.

    Raises:
        TypeError: if ``what`` is neither Values nor a model nor a kernel, or an argument is of a wrong type.
        ValueError: for an unknown direction or theme, nothing to draw, a number below its least, a ``focus`` or a
            ``mark`` outside of the graph, a picture ``like`` that is of another graph, a scale that is not above 0,
            a model whose layers do not follow one another, a kernel that has no arrays or more boxes than ``limit``,
            or a compiled function that has not one kernel so far.
    """
    if direction is not None:
        one_of("direction", direction, DIRECTIONS)
    one_of("theme", theme, ("auto", *THEMES))
    heading_text(title)
    if like is not None and not isinstance(like, Picture):
        raise TypeError(f"like must be a picture, which draw() returned for the same graph; got {short_repr(like)}")
    if not (isinstance(scale, (int, float)) and 0.0 < scale < math.inf):
        raise ValueError(f"scale must be a number of pixels to a point, above 0; got {scale!r}")
    options = Options(
        title=title,
        direction=direction,
        depth=depth,
        focus=focus,
        radius=radius,
        fold=fold,
        limit=limit,
        mark=mark,
        theme=theme,
        legend=legend,
        scale=scale,
        like=like,
        renderer=renderer,
    )
    return next(kind for kind in KINDS if kind.suits(what)).picture(what, options)


def notebook_bundle(value: Value, mark: Value | None = None) -> dict[str, str] | None:
    """Return the display of a notebook cell that ends in a Value: a picture of a graph of up to 64 nodes.

    For a larger graph, or if no picture can be made, it is ``None``: the notebook shows the repr.

    Args:
        value: the root of the graph.
        mark: a node to mark; then the part of a larger graph around it is shown.
    """
    try:
        if not exceeds(value, NOTEBOOK_LIMIT):
            picture = draw(value, mark=mark)
        elif mark is not None:
            picture = draw(value, focus=mark)
        else:
            return None
        return {**picture._repr_mimebundle_(), "text/plain": repr(value)}
    except Exception:  # a value must show in any notebook, with or without a working renderer
        return None
