"""Where the boxes of the explorer's page stand: Graphviz places them, the page draws them.

The page has cards of known sizes, so Graphviz is given empty boxes. A graph with hundreds of boxes side by
side is then folded: what stands in one rank becomes a block, what runs on for too long a few lines.
"""

import json
import math
from itertools import pairwise
from typing import Any

from microgrid.drawing.dot import columns
from microgrid.drawing.graph import Edge, Graph, Node
from microgrid.drawing.rendering import find_renderer, render

LABELLED_EDGES = 300
"""Up to so many edges, each has room of its own for its two numbers; beyond, only the active ones show them."""

LABEL = (80, 34)  # of an edge's two numbers, in pixels, as everything on the page
COUNT = (58, 18)  # of how many uses are drawn as one edge
CARD_HEIGHT, CONSTANT = 78, (76, 34)
CARD_WIDTHS = (136, 260)
GROUP_WIDTH = 220
LETTER = 9  # the width of a half-width letter of a label
GAP = (110, 16)  # between neighbouring ranks, and between neighbours in a rank

AXES = {"LR": (0, 1), "RL": (0, -1), "TB": (1, 1), "BT": (1, -1)}
"""Along which axis the forward pass goes, and which way; y points down."""

TALLEST, LONGEST, PLEASANT = 2.2, 7.0, 0.6
"""How much larger a graph may be across than along, and along than across, before it is folded; and the aim."""

Point = list[float]
Size = tuple[int, int]


class Layout:
    """The places of a graph's boxes, edges and frames, in pixels.

    Attributes:
        at: the middle of each box.
        sizes: its width and height.
        routes: for each edge its curve: the start, then three control points for each Bézier piece.
        labels: for each edge the middle of the room for its numbers, or ``None``.
        frames: left, top, right and bottom of each cluster; ``None`` if boxes of others stand in it.
        labelled: whether every edge has room for its numbers.
    """

    def __init__(self, graph: Graph, direction: str, renderer: str | None) -> None:
        self.graph = graph
        self.axis, self.sign = AXES[direction]
        self.direction = direction
        self.sizes = [_size(node) for node in graph.nodes]
        self.labelled = len(graph.edges) <= LABELLED_EDGES
        placed = json.loads(render(self._dot(), "json0", find_renderer(renderer)))
        height = float(placed["bb"].split(",")[3])
        boxes: dict[str, Any] = {thing["name"]: thing for thing in placed.get("objects", ())}
        places = sorted(placed.get("edges", ()), key=lambda edge: int(edge["id"]))
        self.at = [_point(boxes[f"v{i}"]["pos"], height) for i in range(len(graph.nodes))]
        self.labels: list[Point | None] = [_point(place["lp"], height) if "lp" in place else None for place in places]
        if folded := self._fold():
            self.labelled = False
            self.labels = [None] * len(places)
        self.routes = []
        for edge, place, label in zip(graph.edges, places, self.labels, strict=True):
            start, end = self._side(edge.source, 1), self._side(edge.target, -1)
            step = self.sign * (end[self.axis] - start[self.axis])
            if folded or 0 < step <= 2 * GAP[0] + LABEL[self.axis]:
                self.routes.append(self._curve(start, label, end))
            else:
                self.routes.append([_point(text, height) for text in place["pos"].split() if text[0] not in "es"])
        self._spread()
        self.frames = self._frames()

    def json(self) -> dict[str, Any]:
        """Return what the page draws of it, one entry per box, edge and frame."""
        return {
            "labelled": self.labelled,
            "at": [[round(x, 1) for x in point] for point in self.at],
            "size": self.sizes,
            "routes": [[[round(x, 1) for x in point] for point in route] for route in self.routes],
            "labels": self.labels,
            "frames": [
                {"title": cluster.title, "corners": corners}
                for cluster, corners in zip(self.graph.clusters, self.frames, strict=True)
                if corners
            ],
        }

    def _dot(self) -> str:
        graph = self.graph
        label = '<<TABLE BORDER="0" FIXEDSIZE="TRUE" WIDTH="{}" HEIGHT="{}"><TR><TD></TD></TR></TABLE>>'
        inside: dict[int | None, list[str]] = {i: [] for i in (None, *range(len(graph.clusters)))}
        for i, (node, (width, height)) in enumerate(zip(graph.nodes, self.sizes, strict=True)):
            inside[node.cluster].append(f"v{i} [width={width / 72:.4f} height={height / 72:.4f}]")
        for i in reversed(range(len(graph.clusters))):  # a frame stands before the frames within it
            frame = f"margin=14 labeljust=l label={label.format(60, 14)}"
            inside[graph.clusters[i].parent].append(f"subgraph cluster_{i} {{{frame} {' '.join(inside[i])}}}")
        rooms = [self._room(edge) for edge in graph.edges]
        between = 0.46 if any(rooms) else 1.1  # Graphviz gives labels a rank of their own
        ports = {"LR": "e w", "RL": "w e", "TB": "s n", "BT": "n s"}[self.direction].split()
        return "\n".join(
            [
                "digraph {",
                f"graph [rankdir={self.direction} nodesep=0.22 ranksep={between}]",
                'node [shape=box fixedsize=true label="" margin=0]',
                f"edge [arrowhead=none tailport={ports[0]} headport={ports[1]}]",
                *inside[None],
                *[
                    f"v{edge.source} -> v{edge.target} [id={i}{f' label={label.format(*room)}' if room else ''}]"
                    for i, (edge, room) in enumerate(zip(graph.edges, rooms, strict=True))
                ],
                "}",
            ]
        )

    def _room(self, edge: Edge) -> Size | None:
        """The room for what stands on an edge: two numbers, how many uses it is, or nothing."""
        kinds = {self.graph.nodes[edge.source].kind, self.graph.nodes[edge.target].kind}
        if not self.labelled or "constant" in kinds or ("group" in kinds and edge.count == 1):
            return None
        return COUNT if "group" in kinds else LABEL

    # -- folding ---------------------------------------------------------------------------------------

    def _fold(self) -> bool:
        """Fold the graph if it is much larger one way than the other; return whether it was.

        Boxes stay in the order that Graphviz found: a rank is read line by line, ranks one after another.
        """
        along, across = self.axis, 1 - self.axis
        breadth, length = self._extent(across), self._extent(along)
        if len(self.at) < 40 or TALLEST * length > breadth > length / LONGEST:
            return False
        ranks: dict[float, list[int]] = {}
        for i in sorted(range(len(self.at)), key=lambda i: self.at[i][across]):
            ranks.setdefault(self.sign * self.at[i][along], []).append(i)
        columns_of = [ranks[x] for x in sorted(ranks)]
        step = [max(size[axis] for size in self.sizes) + GAP[1] for axis in (0, 1)]
        most = max(map(len, columns_of))
        while most > 1:
            blocks = sum(math.ceil(len(rank) / most) * step[along] + GAP[0] for rank in columns_of)
            if blocks > PLEASANT * most * step[across]:
                break
            most = math.ceil(most * 0.9) if most > 10 else most - 1
        total = sum(math.ceil(len(rank) / most) * step[along] + GAP[0] for rank in columns_of)
        tall = most * step[across] + GAP[0]
        count = max(1, round(math.sqrt(PLEASANT * total / tall))) if total > LONGEST * tall else 1
        lines: list[list[list[int]]] = [[] for _ in range(count)]
        x = 0.0
        for rank in columns_of:
            line = min(count - 1, int(x * count / total))
            lines[line].append(rank)
            x += math.ceil(len(rank) / most) * step[along] + GAP[0]
        for line, ranks_of_line in enumerate(lines):
            x = 0.0
            for rank in ranks_of_line:
                width = math.ceil(len(rank) / most)
                rows = math.ceil(len(rank) / width)
                for k, i in enumerate(rank):
                    self.at[i][along] = self.sign * (x + (k % width) * step[along])
                    self.at[i][across] = line * tall + (k // width - (rows - 1) / 2) * step[across]
                x += width * step[along] + GAP[0]
        return True

    def _extent(self, axis: int) -> float:
        places = [point[axis] for point in self.at]
        return max(places) - min(places) + CARD_HEIGHT

    # -- edges -----------------------------------------------------------------------------------------

    def _side(self, index: int, way: int) -> Point:
        point = self.at[index].copy()
        point[self.axis] += way * self.sign * self.sizes[index][self.axis] / 2
        return point

    def _curve(self, start: Point, label: Point | None, end: Point) -> list[Point]:
        """An S from side to side, through the room of its label; a backward one swings out."""
        axis = self.axis
        path = [start]
        for a, b in pairwise([start, label, end] if label else [start, end]):
            reach = self.sign * max(abs(b[axis] - a[axis]) / 2, 12.0)
            first, second = a.copy(), b.copy()
            first[axis] += reach
            second[axis] -= reach
            path += [first, second, b.copy()]
        return path

    def _spread(self) -> None:
        """Let the edges into a box end side by side, in the order in which they come."""
        across = 1 - self.axis
        into: dict[int, list[list[Point]]] = {}
        for edge, route in zip(self.graph.edges, self.routes, strict=True):
            into.setdefault(edge.target, []).append(route)
        for target, routes in into.items():
            routes.sort(key=lambda route: route[-4][across])
            gap = min(15.0, 0.7 * self.sizes[target][across] / len(routes))
            for k, route in enumerate(routes):
                for point in route[-2:]:
                    point[across] += gap * (k - (len(routes) - 1) / 2)

    # -- frames ----------------------------------------------------------------------------------------

    def _frames(self) -> list[list[float] | None]:
        clusters = self.graph.clusters
        members: list[list[int]] = [[] for _ in clusters]
        for i, node in enumerate(self.graph.nodes):
            cluster = node.cluster
            while cluster is not None:
                members[cluster].append(i)
                cluster = clusters[cluster].parent
        depth = [0] * len(clusters)
        for i in reversed(range(len(clusters))):
            parent = clusters[i].parent
            if parent is not None:
                depth[parent] = max(depth[parent], depth[i] + 1)
        return [self._frame(nodes, level) for nodes, level in zip(members, depth, strict=True)]

    def _frame(self, members: list[int], level: int) -> list[float] | None:
        margin = 12 + 10 * level
        left, top, right, bottom = (
            min(self.at[i][0] - self.sizes[i][0] / 2 for i in members) - margin,
            min(self.at[i][1] - self.sizes[i][1] / 2 for i in members) - margin - 14 * (level + 1),
            max(self.at[i][0] + self.sizes[i][0] / 2 for i in members) + margin,
            max(self.at[i][1] + self.sizes[i][1] / 2 for i in members) + margin,
        )
        inside = set(members)
        for i, (x, y) in enumerate(self.at):
            if i not in inside and left < x < right and top < y < bottom:
                return None
        return [round(x, 1) for x in (left, top, right, bottom)]


def _size(node: Node) -> Size:
    if node.kind == "constant":
        return CONSTANT
    value = node.values[-1]
    text = f"{node.title} {len(node.values):,} nodes" if node.title else value.label or "v000"
    badge = 0 if node.kind != "operation" else 14 + LETTER * columns(value.op.symbol)
    low, high = (GROUP_WIDTH, GROUP_WIDTH + 80) if node.kind == "group" else CARD_WIDTHS
    return min(max(low, math.ceil(28 + badge + LETTER * columns(text))), high), CARD_HEIGHT


def _point(text: str, height: float) -> Point:
    x, y = map(float, text.split(","))
    return [round(x, 1), round(height - y, 1)]
