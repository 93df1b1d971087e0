"""The places of the boxes of the explorer's page, which has cards of known sizes.

A graph with hundreds of boxes side by side is folded: a rank becomes a block, a long row a few lines.
"""

import math
from typing import Any

from microgrid.drawing.graph import Cluster, Edge, Graph, Node, sibling
from microgrid.drawing.layering import Box, Frame, Line, Point, Spacing, place
from microgrid.drawing.text import columns

LABELLED_EDGES = 300
"""Up to so many edges, each has room for its two numbers; beyond, only the active ones show them."""

LABEL = (80, 34)  # of an edge's two numbers, in pixels, as everything on the page
COUNT = (58, 18)  # of how many uses are drawn as one edge
CARD_HEIGHT, CONSTANT = 78, (76, 34)
CARD_WIDTHS = (136, 260)
GROUP_WIDTH = 220
LETTER = 9  # the width of a half-width letter of a label
GAP = (66.0, 16.0)  # between neighbouring ranks, and between neighbours in a rank
MARGIN, TITLE = 12.0, 16.0  # within a frame

Size = tuple[int, int]


class Layout:
    """The places of a graph's boxes, edges and frames, in pixels.

    Attributes:
        at: the middle of each box.
        sizes: its width and height.
        routes: for each edge its curve: the start, then three control points for each Bézier piece.
        labels: for each edge the middle of the room for its numbers, beside its line, or ``None``.
        frames: left, top, right and bottom of each cluster.
        labelled: whether every edge has room for its numbers.
    """

    def __init__(self, graph: Graph, direction: str) -> None:
        self.graph = graph
        self.sizes = [_size(node) for node in graph.nodes]
        turned = direction in ("TB", "BT")
        labelled = len(graph.edges) <= LABELLED_EDGES
        places = place(
            [
                Box(_turn(size, turned), node.cluster, sibling(node.path))
                for node, size in zip(graph.nodes, self.sizes, strict=True)
            ],
            [
                Line(edge.source, edge.target, _turn(self._room(edge), turned) if labelled else None)
                for edge in graph.edges
            ],
            [_frame(cluster, direction) for cluster in graph.clusters],
            Spacing(*GAP, label=4.0, side=-1 if turned else 1, folds=True),
        )
        self.labelled = labelled and not places.is_folded
        length = places.size[0]

        def pixels(point: Point) -> list[float]:
            along, across = point
            x = length - along if direction in ("RL", "BT") else along
            return [round(across, 1), round(x, 1)] if turned else [round(x, 1), round(across, 1)]

        self.at = [pixels(point) for point in places.at]
        self.routes = [[pixels(point) for point in route] for route in places.routes]
        self.labels = [pixels(point) if point and self.labelled else None for point in places.labels]
        self.frames = []
        for a, b in places.frames:
            (left, right), (top, bottom) = map(sorted, zip(pixels(a), pixels(b), strict=True))
            self.frames.append([left, top, right, bottom])

    def json(self) -> dict[str, Any]:
        """Return the places for the page, one entry per box, edge and frame."""
        return {
            "labelled": self.labelled,
            "at": self.at,
            "size": self.sizes,
            "routes": self.routes,
            "labels": self.labels,
            "frames": [
                {"title": cluster.title, "corners": corners}
                for cluster, corners in zip(self.graph.clusters, self.frames, strict=True)
            ],
        }

    def _room(self, edge: Edge) -> Size | None:
        """The room for the text on an edge: two numbers, a number of uses, or nothing."""
        kinds = {self.graph.nodes[edge.source].kind, self.graph.nodes[edge.target].kind}
        if "constant" in kinds or ("group" in kinds and edge.count == 1):
            return None
        return COUNT if "group" in kinds else LABEL


def _turn(size: Size | None, turned: bool) -> Any:
    return (size[1], size[0]) if size and turned else size


def _frame(cluster: Cluster, direction: str) -> Frame:
    title = LETTER * columns(cluster.title) + 2 * MARGIN
    low, high = (MARGIN, MARGIN), (MARGIN + TITLE, MARGIN)
    if direction in ("TB", "BT"):
        before, after = (high, low) if direction == "TB" else (low, high)
        return Frame(cluster.parent, before, after, (0.0, title), sibling(cluster.path))
    return Frame(cluster.parent, high[::-1], low, (title, 0.0), sibling(cluster.path))


def _size(node: Node) -> Size:
    if node.kind == "constant":
        return CONSTANT
    value = node.values[-1]
    text = f"{node.title} {len(node.values):,} nodes" if node.title else value.label or "v000"
    badge = 0 if node.kind != "operation" else 14 + LETTER * columns(value.op.symbol)
    low, high = (GROUP_WIDTH, GROUP_WIDTH + 80) if node.kind == "group" else CARD_WIDTHS
    return min(max(low, math.ceil(28 + badge + LETTER * columns(text))), high), CARD_HEIGHT
