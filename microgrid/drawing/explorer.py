"""The explorer: a page that plays backpropagation, and recomputes both passes when a leaf is edited."""

import base64
import html
import json
import math
import os
import re
from functools import cached_property
from hashlib import sha256
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from microgrid.drawing.dot import columns, printable
from microgrid.drawing.graph import Graph, extract
from microgrid.drawing.picture import Picture, write_whole
from microgrid.drawing.program import Program
from microgrid.drawing.rendering import find_renderer, render
from microgrid.drawing.theme import THEMES
from microgrid.engine import Value

LABELLED_EDGES = 300
"""Up to so many edges, each has room of its own for its two numbers; beyond, only the active ones show them."""

LABEL_SIZE = (66, 34)  # of an edge's two numbers, in pixels, as everything on the page
CARD_HEIGHT, CONSTANT_HEIGHT = 62, 30
CARD_WIDTHS = (112, 220)
LETTER = 7.4  # the width of a half-width letter of a label

AXES = {"LR": (0, 1), "RL": (0, -1), "TB": (1, 1), "BT": (1, -1)}
"""Along which axis the forward pass goes, and which way; y points down."""

Point = list[float]
Size = tuple[int, int]

FRAME_HEIGHT = 680  # of the page within a notebook


class Explorer:
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
        renderer: str | None,
    ) -> None:
        self.still = still
        self._program = Program(output)
        self._graph = graph
        self._title = printable(" ".join((title or _title(output)).split()))
        self._direction = direction
        self._theme = theme
        self._renderer = renderer

    @cached_property
    def html(self) -> str:
        """The page: one file that needs nothing else and asks the network for nothing."""
        functions = ["const operations = [];", *self._program.functions()]
        scripts = [_asset("numbers.js"), *functions, _asset("page.js")]
        # In code, a space inside "</" or "<!--" changes nothing, and keeps HTML from seeing a tag there.
        scripts = [text.replace("</", "< /").replace("<!--", "< !--") for text in scripts]
        style = _palette(self._theme) + _asset("page.css")
        content = {
            "title": html.escape(self._title),
            "policy": (
                f"default-src 'none'; base-uri 'none'; form-action 'none'; style-src {_hashes([style])}; "
                f"script-src {_hashes(scripts)}"
            ),
            "style": style,
            "data": _json({"title": self._title, "program": self._program.json(), "picture": self._layout()}),
            "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
        }
        # One pass over the template: what is put in is never looked at again, whatever a label says.
        return re.sub(r"\{\{(\w+)\}\}", lambda match: content[match[1]], _asset("page.html"))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file, whole or not at all, and return its path.

        Raises:
            ValueError: if the name does not end in ``.html``.
            OSError: if the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() not in (".html", ".htm"):
            raise ValueError(
                f"the explorer is a page: end the name {str(path)!r} in .html; draw(y).save() writes other formats"
            )
        write_whole(path, self.html.encode())
        return path

    def __repr__(self) -> str:
        return f"<Explorer {self._title!r}: .save('backprop.html'), .html>"

    def _repr_html_(self) -> str:
        """The page in a frame of its own, with the picture behind it for viewers that run no scripts.

        The picture is hidden by a style sheet. Where a notebook is not trusted, Jupyter removes style sheet
        and frame together, and the picture is left.
        """
        picture = base64.b64encode(self.still.svg.encode()).decode()
        return (
            "<style>.microgrid-still{display:none!important}</style>"
            f'<div class="microgrid-still"><img alt="{html.escape(self._title)}" '
            f'src="data:image/svg+xml;base64,{picture}"></div>'
            f'<iframe title="{html.escape(self._title)}" sandbox="allow-scripts" width="100%" height="{FRAME_HEIGHT}" '
            f'style="border:0;display:block" srcdoc="{html.escape(self.html)}"></iframe>'
        )

    # -- layout ----------------------------------------------------------------------------------------

    def _layout(self) -> dict[str, Any]:
        """Place the boxes by Graphviz; the page draws them itself."""
        graph, index = self._graph, self._program.index
        labelled = len(graph.edges) <= LABELLED_EDGES
        sizes = [self._size(i) for i in range(len(graph.nodes))]
        placed = json.loads(render(self._dot(sizes, labelled), "json0", find_renderer(self._renderer)))
        height = float(placed["bb"].split(",")[3])

        def point(text: str) -> Point:
            x, y = map(float, text.split(","))
            return [round(x, 1), round(height - y, 1)]

        boxes: dict[str, Any] = {thing["name"]: thing for thing in placed.get("objects", ())}
        places = sorted(placed.get("edges", ()), key=lambda edge: int(edge["id"]))
        at = [point(boxes[f"v{i}"]["pos"]) for i in range(len(graph.nodes))]
        labels = [point(place["lp"]) if "lp" in place else None for place in places]
        routes = [
            self._route(at[edge.source], sizes[edge.source], at[edge.target], sizes[edge.target], label)
            or [point(text) for text in _path(place["pos"])]
            for edge, place, label in zip(graph.edges, places, labels, strict=True)
        ]
        self._spread(routes, sizes)
        return {
            "labelled": labelled,
            "nodes": [
                {
                    "values": [index[value] for value in node.values],
                    "kind": node.kind,
                    "title": node.title,
                    "output": node.is_output,
                    "at": at[i],
                    "size": sizes[i],
                }
                for i, node in enumerate(graph.nodes)
            ],
            "edges": [
                {
                    "source": edge.source,
                    "target": edge.target,
                    "argument": edge.argument,
                    "count": edge.count,
                    "path": route,
                    "label": label,
                }
                for edge, route, label in zip(graph.edges, routes, labels, strict=True)
            ],
            "clusters": [
                {"title": cluster.title, "corners": [float(x) for x in boxes[f"cluster_{i}"]["bb"].split(",")]}
                for i, cluster in enumerate(graph.clusters)
            ],
            "height": height,
        }

    def _route(
        self, source: Point, source_size: Size, target: Point, target_size: Size, label: Point | None
    ) -> list[Point] | None:
        """Draw an edge between neighbouring ranks as an S through its label; ``None`` leaves a longer one to Graphviz."""
        axis, sign = AXES[self._direction]
        start, end = source.copy(), target.copy()
        start[axis] += sign * source_size[axis] / 2
        end[axis] -= sign * target_size[axis] / 2
        if not 0 < sign * (end[axis] - start[axis]) <= 2.2 * LABEL_SIZE[axis] + CARD_WIDTHS[0] * (1 - axis):
            return None
        stops = [start, label, end] if label else [start, end]
        path = [start]
        for a, b in pairwise(stops):
            turn = (a[axis] + b[axis]) / 2
            first, second = a.copy(), b.copy()
            first[axis] = second[axis] = turn
            path += [first, second, b]
        return path

    def _spread(self, routes: list[list[Point]], sizes: list[Size]) -> None:
        """Let the edges into a node end side by side, in the order in which they come."""
        across = 1 - AXES[self._direction][0]
        into: dict[int, list[list[Point]]] = {}
        for edge, route in zip(self._graph.edges, routes, strict=True):
            into.setdefault(edge.target, []).append(route)
        for target, group in into.items():
            group.sort(key=lambda route: min(route[-4:-2], key=lambda point: point[across])[across])
            gap = min(15.0, 0.7 * sizes[target][across] / len(group))
            for k, route in enumerate(group):
                shift = gap * (k - (len(group) - 1) / 2)
                for point in (-2, -1):
                    x = route[point].copy()
                    x[across] = round(x[across] + shift, 1)
                    route[point] = x

    def _size(self, index: int) -> Size:
        node = self._graph.nodes[index]
        if node.kind == "constant":
            return 64, CONSTANT_HEIGHT
        text = node.title or node.value.label or "v000"
        badge = 0 if not node.value.parents or node.title else 14 + LETTER * columns(node.value.op.symbol)
        low, high = CARD_WIDTHS
        return min(max(low, math.ceil(28 + badge + LETTER * columns(text))), high), CARD_HEIGHT

    def _dot(self, sizes: list[Size], labelled: bool) -> str:
        graph = self._graph
        label = '<<TABLE BORDER="0" FIXEDSIZE="TRUE" WIDTH="{}" HEIGHT="{}"><TR><TD></TD></TR></TABLE>>'
        room = f"label={label.format(*LABEL_SIZE)}" if labelled else ""
        children: dict[int | None, list[str]] = {None: []}
        for i, cluster in enumerate(graph.clusters):
            children[i] = []
            children.setdefault(cluster.parent, [])
        for i, node in enumerate(graph.nodes):
            width, height = sizes[i]
            children[node.cluster].append(f"v{i} [width={width / 72:.4f} height={height / 72:.4f}]")
        for i in reversed(range(len(graph.clusters))):  # a frame stands before the frames within it
            inside = " ".join(children[i])
            children[graph.clusters[i].parent].append(
                f"subgraph cluster_{i} {{margin=14 label={label.format(60, 14)} labeljust=l {inside}}}"
            )
        ports = {"LR": "tailport=e headport=w", "RL": "tailport=w headport=e", "TB": "tailport=s headport=n"}
        return "\n".join(
            [
                "digraph {",
                f"graph [rankdir={self._direction} nodesep=0.22 ranksep={0.5 if labelled else 1.1}]",
                'node [shape=box fixedsize=true label="" margin=0]',
                f"edge [arrowhead=none {ports.get(self._direction, 'tailport=n headport=s')}]",
                *children[None],
                *[
                    f"v{edge.source} -> v{edge.target} [id={i} {room * (graph.nodes[edge.source].kind != 'constant')}]"
                    for i, edge in enumerate(graph.edges)
                ],
                "}",
            ]
        )


def explore(
    output: Value,
    *,
    title: str = "",
    direction: str = "LR",
    theme: str = "auto",
    renderer: str | None = None,
) -> Explorer:
    """Make the page that plays backpropagation on the graph of an output.

    Args:
        output: what ``backward()`` would be called on. Its gradients are computed anew in the page, from 0.
        title: the page's heading; the output's label unless given.
        direction: where the forward pass goes: ``"LR"`` to the right, ``"TB"`` down, ``"RL"``, ``"BT"``.
        theme: ``"light"``, ``"dark"``, or ``"auto"`` to follow the viewer.
        renderer: a Graphviz program's name or path, as for ``draw``.

    Returns:
        The page: a notebook shows it, ``.save("backprop.html")`` writes it.

    Raises:
        TypeError: if ``output`` is not a Value.
        ValueError: for an unknown direction or theme, or a malformed JavaScript expression of an operation.
        RendererError: if no Graphviz is found to lay the graph out.
    """
    from microgrid.drawing import draw

    still = draw(output, title=title, direction=direction, theme=theme, renderer=renderer)
    return Explorer(output, extract((output,)), still, title=title, direction=direction, theme=theme, renderer=renderer)


def _title(output: Value) -> str:
    return f"Backpropagation through {output.label}" if output.label else "Backpropagation"


def _path(text: str) -> list[str]:
    """The control points of a spline: the start, then three per piece."""
    return [point for point in text.split() if point[0] not in "es"]


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _json(data: Any) -> str:
    """JSON that no HTML parser reads as a tag, and no JavaScript parser as the end of a line."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hashes(texts: list[str]) -> str:
    """What a Content-Security-Policy allows: exactly these scripts or styles, none that a label smuggled in."""
    return " ".join(f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'" for text in texts)


def _palette(theme: str) -> str:
    """The colours of all pictures as CSS variables, ``--positive-line-4``."""

    def variables(name: str) -> str:
        colors = "".join(f"--{key.replace(' ', '-')}:{value};" for key, value in THEMES[name].items())
        return f":root{{color-scheme:{name};{colors}}}"

    if theme in THEMES:
        return variables(theme)
    return f"{variables('light')}@media (prefers-color-scheme:dark){{{variables('dark')}}}"
