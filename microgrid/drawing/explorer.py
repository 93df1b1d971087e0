"""The explorer: a page that plays backpropagation, and recomputes both passes when a leaf is edited."""

import base64
import html
import json
import os
import re
from functools import cached_property
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from microgrid.drawing.dot import printable
from microgrid.drawing.graph import Graph, extract
from microgrid.drawing.layout import Layout
from microgrid.drawing.picture import Picture, write_whole
from microgrid.drawing.program import Program
from microgrid.drawing.theme import THEMES
from microgrid.engine import Value

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
            "data": _json({"title": self._title, "program": self._program.json(), "picture": self._picture()}),
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

    def _picture(self) -> dict[str, Any]:
        index = self._program.index
        return {
            "note": f"{self._graph.total:,} nodes in outline" if self._graph.is_outline else "",
            **Layout(self._graph, self._direction, self._renderer).json(),
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
        RendererError: if no Graphviz is found to lay the graph out.
    """
    from microgrid.drawing import draw

    if not isinstance(output, Value):
        raise TypeError(f"explore() plays backward() of one Value; got {output!r} of type {type(output).__name__}")
    still = draw(output, title=title, direction=direction, depth=depth, theme=theme, renderer=renderer)
    graph = extract((output,), depth=depth, limit=limit)
    return Explorer(output, graph, still, title=title, direction=direction, theme=theme, renderer=renderer)


def _title(output: Value) -> str:
    return f"Backpropagation through {output.label}" if output.label else "Backpropagation"


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
