"""Pictures of computation graphs: ``draw`` makes one, Jupyter shows it, ``save`` writes it."""

from collections.abc import Iterable

from microgrid.drawing.dot import descriptions, to_dot
from microgrid.drawing.graph import Graph, exceeds, extract
from microgrid.drawing.picture import Picture
from microgrid.drawing.rendering import RendererError
from microgrid.drawing.theme import THEMES
from microgrid.engine import Value

__all__ = ["Picture", "RendererError", "draw", "notebook_bundle"]

DIRECTIONS = ("LR", "TB", "RL", "BT")
NOTEBOOK_LIMIT = 64
"""The largest graph, in nodes, that a notebook shows for a Value unasked."""


def draw(
    what: Value | Iterable[Value],
    *,
    title: str = "",
    direction: str = "LR",
    depth: int | None = None,
    focus: Value | None = None,
    radius: int = 2,
    fold: int | None = 8,
    limit: int | None = 200,
    theme: str = "auto",
    renderer: str | None = None,
) -> Picture:
    """Draw the computation graph of a Value, or of several in one picture.

    A node shows label, data and gradient. An edge shows the local derivative ∂result/∂operand, and under
    it the gradient that flows back along it: the gradient of the result times the local derivative. The
    gradients are those of the last ``backward()``; before one, they are left out.

    Args:
        what: the output, or several outputs.
        title: a heading.
        direction: where the forward pass goes: ``"LR"`` to the right, ``"TB"`` down, ``"RL"``, ``"BT"``.
        depth: how many levels of modules to open: with 0 a network is one box, with 1 each layer is,
            with 2 each neuron; ``None`` opens all.
        focus: draw only what lies within ``radius`` edges of this Value.
        radius: how far around ``focus``.
        fold: alike operands of one operation beyond this many share a box, as in w₀x₀ + ⋯ + w₆₃x₆₃;
            ``None`` draws every one.
        limit: a graph of more boxes is drawn as its outline, with counts; ``None`` draws it whole.
        theme: ``"light"``, ``"dark"``, or ``"auto"``: SVG and HTML follow the viewer, PNG is light.
        renderer: a Graphviz program's name or path. Unless given it is the one named by the environment
            variable ``MICROGRID_DOT``, else a system ``dot``, else the one of ``graphviz-pure``.

    Returns:
        The picture: a notebook shows it, ``.save("graph.svg")`` writes it. The numbers in it stay as they
        were when it was drawn.

    Raises:
        TypeError: if something that is drawn is not a Value.
        ValueError: for an unknown direction or theme, or nothing to draw.
    """
    outputs = _outputs(what)
    _one_of("direction", direction, DIRECTIONS)
    _one_of("theme", theme, ("auto", *THEMES))
    graph = extract(outputs, depth=depth, focus=focus, radius=radius, fold=fold, limit=limit)
    dot = to_dot(
        graph, title=title, direction=direction, theme="dark" if theme == "dark" else "light", note=_note(graph)
    )
    return Picture(dot, descriptions(graph), title=title, theme=theme, renderer=renderer)


def _note(graph: Graph) -> str:
    if not graph.is_outline:
        return ""
    return (
        f"{graph.total:,} Values in outline. To see more: draw(y, focus=v, radius=2) draws what is around\n"
        "the Value v, draw(y, limit=1000) draws up to 1000 boxes"
    )


def notebook_bundle(value: Value) -> dict[str, str] | None:
    """Return what a notebook shows for a cell that ends in a Value: a picture of a graph of up to 64 nodes.

    For a larger graph, or where no picture can be made, it is ``None``: the notebook shows the repr.
    """
    if exceeds(value, NOTEBOOK_LIMIT):
        return None
    try:
        return {**draw(value)._repr_mimebundle_(), "text/plain": repr(value)}
    except Exception:  # a value must show in any notebook, with or without a working renderer
        return None


def _outputs(what: Value | Iterable[Value]) -> tuple[Value, ...]:
    outputs = (what,) if isinstance(what, Value) else tuple(what) if isinstance(what, Iterable) else (what,)
    for output in outputs:
        if not isinstance(output, Value):
            raise TypeError(f"draw() draws a Value, or a list of them; got {output!r} of type {type(output).__name__}")
    if not outputs:
        raise ValueError("draw() got an empty sequence: give at least one Value")
    return outputs


def _one_of(name: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}; got {given!r}")
