"""The explorer: a page that steps through backpropagation, and recomputes both passes when a leaf is edited."""

from functools import cached_property
from typing import Any

from microgrid.drawing import draw, formulas
from microgrid.drawing.faults import gradients_beyond, out_of_date
from microgrid.drawing.graph import MANY, Graph, extract
from microgrid.drawing.layout import Layout
from microgrid.drawing.marks import Mark, Marks, marks_of
from microgrid.drawing.page import Page
from microgrid.drawing.picture import Picture
from microgrid.drawing.program import Program
from microgrid.drawing.rounding import Numbers
from microgrid.drawing.text import printable
from microgrid.engine import Value
from microgrid.reverse import live_nodes

ASSETS = (
    "explorer.html",
    "explorer.css",
    "passes.js",  # the two passes over a program
    "layered_ranks.js",  # where boxes stand: their ranks,
    "layered_order.js",  # their order,
    "layered_places.js",  # their places,
    "layered.js",  # and curves and frames
    "modules.js",  # which module made which value, and which boxes they make
    "steps.js",  # the graph that is played, and its steps
    "words.js",  # names, formulas and numbers in words
    "faults.js",  # what is known to be wrong with the numbers
    "cards.js",  # nodes and frames as they are drawn
    "edges.js",  # edges and their numbers
    "names.js",  # what can be read from far
    "view.js",  # pan, zoom and follow
    "explain.js",  # what happens in a step
    "panel.js",  # the selected node
    "editing.js",  # changing a leaf
    "leaves.js",  # the list of what can be edited
    "modes.js",  # the panel hidden, and presenting
    "share.js",  # the state as a link, a step as a picture
    "gif.js",  # how moving pictures are written
    "film.js",  # the whole play as one
    "pointer.js",  # mouse, touch and keyboard
    "tools.css",
    "tools.js",  # the tools, of which one is open
    "findings.js",  # what Python was asked to point out
    "expressions.js",  # reading a formula
    "formula.js",  # a formula typed in the page
    "learn.js",  # gradient descent on the leaves
    "quiz.js",  # gradients asked one by one
    "forward.js",  # tangents, and what a nudge does
    "worksheet.js",  # the steps as text, and on paper
    "search.js",  # finding nodes
    "explorer.js",  # start, and what a step changes
)

FOLDED = 300
"""A graph with more boxes than this has to be folded, unless modules divide it."""


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
        direction: str | None,
        depth: int | None,
        limit: int | None,
        theme: str,
        formula: str,
        marks: Marks,
    ) -> None:
        super().__init__(title or _title(output), theme)
        self.still = still
        self._program = Program(output, formulas.operations())
        self._formula = formula
        self._graph = graph
        self._direction = direction
        self._depth = depth
        self._limit = limit
        self._marks = marks

    @cached_property
    def html(self) -> str:
        """The page: one file that needs nothing else and asks the network for nothing."""
        modules = self._modules()
        return self._fill(
            ASSETS,
            {
                "program": {
                    **self._program.json(),
                    **modules,
                    "remarks": self._remarks(),
                    **self._at(),
                    **self._lines(),
                },
                **self._findings(),
                "formulas": {**formulas.table(self._program), "text": self._formula},
                **self._picture(bool(modules["modules"])),
            },
            self._program.functions(),
            ends=("forward pass →", "← backward pass"),
        )

    def _still(self) -> str:
        return self.still.svg

    def __repr__(self) -> str:
        return f"<Explorer {self._title!r}: .save('backprop.html'), .html>"

    def _modules(self) -> dict[str, Any]:
        whole = extract((self._program.order[-1],))
        return {
            "modules": [[printable(cluster.title), cluster.path, cluster.parent] for cluster in whole.clusters],
            "innermost": {
                self._program.index[node.values[0]]: node.cluster for node in whole.nodes if node.cluster is not None
            },
        }

    def _remarks(self) -> dict[int, str]:
        """The faults shown by Python's numbers, which the page computes anew."""
        order, output = self._program.order, self._program.order[-1]
        if len(order) > MANY:
            return {}
        found = out_of_date(order)
        if not found and (output.grad or output.is_leaf):
            found = gradients_beyond(order, (output,), Numbers(order, live_nodes(order, (output,))))
        return {self._program.index[value]: remark for value, remark in found.items()}

    def _at(self) -> dict[str, Any]:
        index = self._program.index
        return {"marks": {index[value]: texts for value, texts in self._marks.at.items()}} if self._marks.at else {}

    def _lines(self) -> dict[str, Any]:
        """The lines of Python that ``record_lines`` noted, each once, and the line of each value."""
        order = self._program.order
        made = {i: str(value.origin) for i, value in enumerate(order) if value.origin and value.origin.file}
        texts = list(dict.fromkeys(made.values()))
        place = {text: k for k, text in enumerate(texts)}
        return {"lines": texts, "lineOf": {i: place[text] for i, text in made.items()}} if made else {}

    def _findings(self) -> dict[str, Any]:
        if not self._marks.at:
            return {}
        index = self._program.index
        quotes = [
            {"fact": fact, "remedy": remedy, "place": None if place is None else index[place]}
            for fact, remedy, place in self._marks.quotes
        ]
        return {"findings": {"summary": self._marks.summary, "pass": self._marks.found_in, "quotes": quotes}}

    def _picture(self, has_modules: bool) -> dict[str, Any]:
        """The graph to show, and the places of boxes if the page does not lay them out itself.

        The page does so as boxes open and close, except for a large graph without modules, which ``Layout`` folds.
        """
        note = f"{self._graph.total:,} nodes in outline" if self._graph.is_outline else ""
        view = {"direction": self._direction, "depth": self._depth, "limit": self._limit, "note": note}
        if has_modules or not (self._graph.is_outline or len(self._graph.nodes) > FOLDED):
            return {"view": view}
        index = self._program.index
        picture = {
            **Layout(self._graph, self._direction or "LR").json(),
            "nodes": [
                {
                    "values": [index[value] for value in node.values],
                    "exits": [index[value] for value in node.exits],
                    "kind": node.kind,
                    "title": printable(node.title),
                    "cluster": None,
                }
                for node in self._graph.nodes
            ],
            "clusters": [],
            "edges": [[edge.source, edge.target, edge.argument] for edge in self._graph.edges],
        }
        return {"view": view, "picture": picture}


def explore(
    output: Value | str,
    *,
    title: str = "",
    direction: str | None = None,
    depth: int | None = None,
    limit: int | None = 2000,
    mark: "Mark | None" = None,
    theme: str = "auto",
    renderer: str | None = None,
) -> Explorer:
    """Make the page that steps through backpropagation on the graph of an output.

    >>> page = mg.explore("tanh(x*w + b)")
    >>> "<script" in page.html
    True

    Args:
        output: the Value to differentiate. Its gradients are computed anew in the page, from 0. A text
            is read as a formula, such as ``"tanh(x*w + b)"``, whose names start with small numbers; every
            page has a box for typing formulas.
        title: the page's heading; the output's label, or the formula, unless given.
        direction: where the forward pass goes: ``"LR"`` to the right, ``"TB"`` down, ``"RL"``, ``"BT"``. Unless given
            it goes to the right, or down if the graph is small otherwise and larger so.
        depth: how many levels of modules to open, as for ``draw``: with 1 each layer is one box.
        limit: a graph of more boxes is shown as its outline: all of its nodes are computed, in a few boxes.
        mark: the nodes to mark, as for ``draw``: a Value, a dict of Values and a text for each, or the result of
            ``why(y)`` or ``precision(y)``, whose sentences the page shows, too, until a leaf is changed.
        theme: ``"light"``, ``"dark"``, or ``"auto"`` to follow the viewer.
        renderer: a Graphviz program's name or path, as for ``draw``.

    Returns:
        The page: a notebook shows it, ``.save("backprop.html")`` writes it.

    Raises:
        TypeError: if ``output`` is neither a Value nor a text, or an argument is of a wrong type.
        ExpressionError: if the formula cannot be read, or has no name.
        ValueError: for an unknown direction or theme, a ``depth`` or a ``limit`` that is too small, or a malformed
            JavaScript expression of an operation.
        RendererError: if no Graphviz is found to draw the still picture.
    """
    formula = output if isinstance(output, str) else ""
    if isinstance(output, str):
        title = title or output
        output = formulas.value_of(output)
    if not isinstance(output, Value):
        raise TypeError(
            f"explore() plays backward() of one Value, or of a formula; got {output!r} of type {type(output).__name__}"
        )
    marks = marks_of(mark, [output])
    still = draw(output, title=title, direction=direction, depth=depth, mark=mark, theme=theme, renderer=renderer)
    graph = extract((output,), depth=depth, limit=limit)
    return Explorer(
        output,
        graph,
        still,
        title=title,
        direction=direction,
        depth=depth,
        limit=limit,
        theme=theme,
        formula=formula,
        marks=marks,
    )


def _title(output: Value) -> str:
    return f"Backpropagation through {output.label}" if output.label else "Backpropagation"
