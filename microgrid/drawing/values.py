"""The picture of a computation graph, of one Value or several."""

from collections.abc import Iterable
from typing import Any

from microgrid.drawing.dot import descriptions, drawing
from microgrid.drawing.drawable import Options
from microgrid.drawing.graph import Graph, extract
from microgrid.drawing.marks import Marks, marks_of
from microgrid.drawing.picture import Picture
from microgrid.engine import Value


def suits(what: object) -> bool:
    """Return whether to draw it as a graph: always, as the last kind; ``picture`` refuses other objects."""
    return True


def picture(what: Any, options: Options) -> Picture:
    """Draw the graph of a Value, or of several.

    Raises:
        TypeError: if something is not a Value.
        ValueError: if there is nothing to draw, or ``like`` is a picture of another graph.
    """
    outputs = _outputs(what)
    marks = marks_of(options.mark, outputs)
    graph = extract(
        outputs,
        depth=options.depth,
        focus=options.focus,
        radius=options.radius,
        fold=options.fold,
        limit=options.limit,
        marks=marks.at,
    )
    like = options.like
    earlier = None if like is None else like.drawing
    drawn = drawing(
        graph,
        title=options.title,
        direction=options.direction or "LR",
        theme=options.paper,
        note=_note(graph, marks),
        legend=options.legend,
        like=earlier,
    )
    if like is not None and (earlier is None or not drawn.is_like(earlier)):
        raise ValueError(f"like must be a picture of the same graph, drawn with the same options; got {like!r}")
    return options.picture(drawn.dot, descriptions(graph), drawn)


def _note(graph: Graph, marks: Marks) -> str:
    if graph.is_out_of_date:
        return "An operand was changed since its results were computed: y.forward() computes them anew"
    if not graph.is_outline:
        return marks.summary
    return (
        f"{graph.total:,} nodes in outline. To see more: draw(y, focus=v, radius=2) draws what is around\n"
        "the Value v, draw(y, limit=1000) draws up to 1000 boxes"
    )


def _outputs(what: Any) -> tuple[Value, ...]:
    outputs = (what,) if isinstance(what, Value) else tuple(what) if isinstance(what, Iterable) else (what,)
    for output in outputs:
        if not isinstance(output, Value):
            raise TypeError(
                f"draw() draws a Value, a list of them, a model, or a kernel; got {output!r:.60} of type "
                f"{type(output).__name__}"
            )
    if not outputs:
        raise ValueError("draw() got an empty sequence: give at least one Value")
    return outputs
