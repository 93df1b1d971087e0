"""The explorer: a page that plays backpropagation, and recomputes both passes when a leaf is edited."""

from functools import cached_property
from typing import Any

from microgrid.drawing.dot import printable
from microgrid.drawing.graph import Graph, extract
from microgrid.drawing.layout import Layout
from microgrid.drawing.page import Page
from microgrid.drawing.picture import Picture
from microgrid.drawing.program import Program
from microgrid.engine import Value


class Explorer(Page):
    """The page of one output. Jupyter and marimo show it; ``save`` writes it.

    Attributes:
        still: the static picture, for viewers that run no scripts.
    """

    def __init__(
        self,
        output: Value,
        graph: Graph,
        still: Picture,
        *,
        title: str,
        direction: str,
        theme: str,
    ) -> None:
        super().__init__(title or _title(output), theme)
        self.still = still
        self._program = Program(output)
        self._graph = graph
        self._direction = direction

    @cached_property
    def html(self) -> str:
        """The page: one file that needs nothing else and asks the network for nothing."""
        return self._fill(
            "explorer",
            {"program": self._program.json(), "picture": self._picture()},
            self._program.functions(),
            ends=("forward pass →", "← backward pass"),
        )

    def _still(self) -> str:
        return self.still.svg

    def __repr__(self) -> str:
        return f"<Explorer {self._title!r}: .save('backprop.html'), .html>"

    def _picture(self) -> dict[str, Any]:
        index = self._program.index
        return {
            "note": f"{self._graph.total:,} nodes in outline" if self._graph.is_outline else "",
            **Layout(self._graph, self._direction).json(),
            "nodes": [
                {
                    "values": [index[value] for value in node.values],
                    "exits": [index[value] for value in node.exits],
                    "kind": node.kind,
                    "title": printable(node.title),
                    "cluster": node.cluster,
                }
                for node in self._graph.nodes
            ],
            "clusters": [[printable(cluster.title), cluster.parent] for cluster in self._graph.clusters],
            "edges": [[edge.source, edge.target, edge.argument, edge.count] for edge in self._graph.edges],
        }


def explore(
    output: Value,
    *,
    title: str = "",
    direction: str = "LR",
    depth: int | None = None,
    limit: int | None = 2000,
    theme: str = "auto",
    renderer: str | None = None,
) -> Explorer:
    """Make the page that plays backpropagation on the graph of an output.

    Args:
        output: what ``backward()`` would be called on. Its gradients are computed anew in the page, from 0.
        title: the page's heading; the output's label unless given.
        direction: where the forward pass goes: ``"LR"`` to the right, ``"TB"`` down, ``"RL"``, ``"BT"``.
        depth: how many levels of modules to open, as for ``draw``: with 1 each layer is one box.
        limit: a graph of more boxes is played on its outline: all of its nodes are computed, in a few boxes.
        theme: ``"light"``, ``"dark"``, or ``"auto"`` to follow the viewer.
        renderer: a Graphviz program's name or path, as for ``draw``.

    Returns:
        The page: a notebook shows it, ``.save("backprop.html")`` writes it.

    Raises:
        TypeError: if ``output`` is not a Value.
        ValueError: for an unknown direction or theme, or a malformed JavaScript expression of an operation.
        RendererError: if no Graphviz is found to draw the still picture.
    """
    from microgrid.drawing import draw

    if not isinstance(output, Value):
        raise TypeError(f"explore() plays backward() of one Value; got {output!r} of type {type(output).__name__}")
    still = draw(output, title=title, direction=direction, depth=depth, theme=theme, renderer=renderer)
    graph = extract((output,), depth=depth, limit=limit)
    return Explorer(output, graph, still, title=title, direction=direction, theme=theme)


def _title(output: Value) -> str:
    return f"Backpropagation through {output.label}" if output.label else "Backpropagation"
