"""A graph as DOT text: the look of each node, edge and cluster."""

from collections import Counter
from collections.abc import Callable, Sequence

from microgrid.drawing.graph import Cluster, Edge, Graph, Node, sibling
from microgrid.drawing.labels import MONO, PLAIN_SYMBOLS, SANS, SIZE, escape, heading_table, label_width, markup
from microgrid.drawing.placing import Drawing, DrawnBox, DrawnFrame, DrawnLine
from microgrid.drawing.text import aligned, room_for, typed
from microgrid.ops import LEAF
from microgrid.theme import THEMES, largest, sign_and_level

BACK = {"LR": "←", "TB": "↑", "RL": "→", "BT": "↓"}
"""The direction of the gradient, for each direction of the forward pass."""


def drawing(
    graph: Graph,
    *,
    title: str = "",
    direction: str = "LR",
    theme: str = "light",
    note: str = "",
    legend: bool = True,
    like: Drawing | None = None,
) -> Drawing:
    """Return the picture of a graph, box by box. It depends on the arguments alone.

    Args:
        graph: the graph to draw.
        title: a heading.
        direction: of the forward pass.
        theme: ``"light"`` or ``"dark"``.
        note: lines under the heading.
        legend: whether to explain the numbers on the edges.
        like: a picture of the same graph, whose numbers have as much room here.
    """
    writer = _Writer(graph, direction, theme, like)
    return writer.drawing(title, [*note.splitlines(), *writer.legend() * legend])


def descriptions(graph: Graph) -> dict[str, str]:
    """Return a description for the id of each node and edge, with every digit."""
    names, has_gradients = [_name(node) for node in graph.nodes], graph.has_gradients
    texts = {f"v{i}": _describe(node, has_gradients) for i, node in enumerate(graph.nodes)}
    for i, edge in enumerate(graph.edges):
        parts = [f"{names[edge.source]} → {names[edge.target]}"]
        if edge.count > 1:
            parts.append(f"{edge.count:,} uses")
        if edge.derivative is not None:
            parts.append(f"local derivative {edge.derivative!r}")
        if edge.flow is not None and has_gradients:
            parts.append(f"gradient flowing back {edge.flow!r}")
        texts[f"e{i}"] = ", ".join(parts)
    return texts


def _name(node: Node) -> str:
    return node.title or node.exits[0].label or repr(node.exits[0].data)


def _describe(node: Node, has_gradients: bool) -> str:
    value = node.exits[0]
    if node.kind == "group":
        name = f"{node.title}: {len(node.values):,} nodes"
    else:
        name = f"{value.label}: " * bool(value.label) + (value.op.doc if node.kind == "operation" else node.kind)
    gradient = f", gradient {_range(node.gradient, repr)}" if has_gradients else ""
    return ", ".join([f"{name}, data {_range(node.data, repr)}{gradient}", *node.remarks])


class _Writer:
    def __init__(self, graph: Graph, direction: str, theme: str, like: Drawing | None) -> None:
        self.graph = graph
        self.rooms = dict(like.rooms) if like else {}
        self.leaves_room = graph.has_gradients or (like is not None and like.has_gradients)
        self.direction = direction
        self.color = THEMES[theme]
        self.backward = graph.has_gradients
        self.dense = len(graph.edges) > max(2 * len(graph.nodes), 24)
        self.largest_gradient = largest(x for node in graph.nodes for x in node.gradient)
        self.largest_flow = largest(edge.flow or 0.0 for edge in graph.edges)

    def drawing(self, title: str, notes: Sequence[str]) -> Drawing:
        color, graph = self.color, self.graph
        defaults = (
            f'graph [rankdir={self.direction} bgcolor="{color["paper"]}" pad=0.2 nodesep=0.18 ranksep=0.35 '
            f'fontname="{SANS}" fontsize={SIZE + 3:g} fontcolor="{color["ink"]}" labelloc=t ordering=in]\n'
            f'node [shape=box style="rounded,filled" margin=0 height=0 width=0 fontname="{SANS}" '
            f'fontsize={SIZE:g} fontcolor="{color["ink"]}"]\n'
            f'edge [fontname="{MONO}" fontsize={SIZE - 2:g} arrowsize=0.7]'
        )
        boxes = [
            DrawnBox(f"v{i}", self.node(i, node), node.cluster, sibling(node.path))
            for i, node in enumerate(graph.nodes)
        ]
        lines = [self.edge(i, edge) for i, edge in enumerate(graph.edges)]
        for i, node in enumerate(graph.nodes):
            self.add_stubs(i, node, boxes, lines)
        frames = [self.frame(i, cluster) for i, cluster in enumerate(graph.clusters)]
        return Drawing(
            defaults,
            heading_table(title, notes, color),
            self.direction,
            tuple(boxes),
            tuple(lines),
            tuple(frames),
            self.rooms,
            self.leaves_room,
        )

    def legend(self) -> list[str]:
        if all(edge.derivative is None for edge in self.graph.edges):
            return []
        back = f"    {BACK[self.direction]} gradient flowing back = gradient × ∂, orange and dashed if negative"
        return ["∂ local derivative" + back * self.leaves_room]

    # -- nodes ---------------------------------------------------------------------------------------

    def frame(self, index: int, cluster: Cluster) -> DrawnFrame:
        level, around = 0, cluster.parent
        while around is not None:
            level, around = level + 1, self.graph.clusters[around].parent
        attributes = (
            f'id="c{index}" style="rounded,filled" color="{self.color["faint"]}" '
            f'fillcolor="{self.color["inner cluster" if level % 2 else "cluster"]}" labeljust=l margin=9'
        )
        title = f'<FONT COLOR="{self.color["muted"]}" POINT-SIZE="{SIZE - 1:g}">{markup(cluster.title)}</FONT>'
        return DrawnFrame(attributes, title, cluster.parent, sibling(cluster.path))

    def node(self, index: int, node: Node) -> str:
        value, color = node.exits[0], self.color
        numbers: list[tuple[float, float] | None] = [node.data]
        if self.leaves_room and node.kind != "constant":
            numbers.append(node.gradient if self.backward else None)
        texts = self.aligned_ranges(f"v{index}", numbers)
        rows = [self.number_row("data", texts[0], "")]
        rows += [self.number_row("grad", text, self.tint(node.gradient)) for text in texts[1:]]
        label = node.title or node.exits[0].label
        if node.kind == "group":
            rows = [self.text_row(text) for text in self.contents(node)] + rows
        if label:
            rows.insert(0, f'<TD ALIGN="LEFT" WIDTH="{label_width(label)}"><B>{markup(label)}</B></TD>')
        rows += [
            f'<TD ALIGN="LEFT"><FONT COLOR="{color["mark"]}" POINT-SIZE="{SIZE - 2:g}">{escape(remark)}</FONT></TD>'
            for remark in node.remarks
        ]
        badge = ""
        if node.kind == "operation":
            paper, ink = ("output", "output text") if node.is_output else ("badge", "ink")
            symbol = PLAIN_SYMBOLS.get(value.op.symbol, value.op.symbol)
            badge = (
                f'<TD ROWSPAN="{len(rows)}" BGCOLOR="{color[paper]}" STYLE="ROUNDED" CELLPADDING="6">'
                f'<FONT COLOR="{color[ink]}" POINT-SIZE="{SIZE + 3:g}">{markup(symbol)}</FONT></TD>'
            )
        table = "".join(f"<TR>{badge if i == 0 else ''}{row}</TR>" for i, row in enumerate(rows))
        line, fill, style, width = {
            "operation": ("line", "operation", "rounded,filled", 1.0),
            "input": ("ink", "input", "rounded,filled", 1.6),
            "parameter": ("parameter line", "parameter", "rounded,filled", 1.6),
            "constant": ("line", "paper", "rounded,filled,dashed", 1.0),
            "group": ("line", "operation", "rounded,filled", 1.0),
        }[node.kind]
        if node.is_output:
            line, width = "ink", 2.4
        if node.is_marked:
            line, width = "mark", 3.6
        return (
            f'id="v{index}" class="{node.kind}" color="{color[line]}" fillcolor="{color[fill]}" '
            f'style="{style}" penwidth={width:g}{" peripheries=2" * (node.kind == "group")} '
            f'label=<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="3" CELLPADDING="2">{table}</TABLE>>'
        )

    def aligned(self, name: str, numbers: Sequence[float]) -> list[str]:
        """Return the numbers of a node or an edge aligned, in at least the room that they had before."""
        texts = list(map(typed, numbers))
        self.rooms[name] = room_for(texts, self.rooms.get(name, (0, 0)))
        return aligned(texts, self.rooms[name])

    def aligned_ranges(self, name: str, pairs: Sequence[tuple[float, float] | None]) -> list[str]:
        """Return one number, or ``least … greatest``, for each pair, and room for numbers not known yet."""
        known = [pair for pair in pairs if pair]
        if all(_same(low, high) for low, high in known):
            texts = self.aligned(name, [low for low, _ in known])
        else:
            texts = [_range(pair, typed) for pair in known]
            width = self.rooms[name] = max(self.rooms.get(name, (0, 0)), (max(map(len, texts)), 0))
            texts = [f"{text:<{sum(width)}}" for text in texts]
        return texts + [" " * len(texts[0])] * (len(pairs) - len(known))

    def contents(self, node: Node) -> list[str]:
        """The content of a group, in a few words."""
        lines = [f"{len(node.values):,} nodes"]
        if self.graph.is_outline:
            counts = Counter(value.op.symbol for value in node.values if value.first is not None)
            lines.append("  ".join(f"{n:,} {escape(symbol)}" for symbol, n in counts.most_common(4)))
            leaves = sum(value.op is LEAF for value in node.values)
            lines.append(f"{leaves:,} parameters" if counts and leaves and node.cluster is not None else "")
        return [line for line in lines if line]

    def text_row(self, text: str) -> str:
        return f'<TD ALIGN="LEFT"><FONT COLOR="{self.color["muted"]}" POINT-SIZE="{SIZE - 2:g}">{text}</FONT></TD>'

    def number_row(self, name: str, number: str, fill: str) -> str:
        tint = f' BGCOLOR="{fill}" STYLE="ROUNDED"' if fill else ""
        return (
            f'<TD ALIGN="LEFT"{tint}><FONT FACE="{MONO}"><FONT COLOR="{self.color["muted"]}" '
            f'POINT-SIZE="{SIZE - 3:g}">{name}</FONT> {number}</FONT></TD>'
        )

    def tint(self, gradient: tuple[float, float]) -> str:
        low, high = gradient
        if low < 0 < high:
            return ""
        extreme = max(gradient, key=abs)
        sign, level = sign_and_level(extreme, self.largest_gradient)
        return self.color[f"{sign} {level}"] if level else ""

    def add_stubs(self, index: int, node: Node, boxes: list[DrawnBox], lines: list[DrawnLine]) -> None:
        """Add stubs for edges that lead out of the picture."""
        color = self.color
        for count, what in ((node.hidden_operands, "operand"), (node.hidden_uses, "use")):
            if count:
                ends = (len(boxes), index) if what == "operand" else (index, len(boxes))
                boxes.append(
                    DrawnBox(
                        f"{what}s{index}",
                        f'shape=plaintext style="" fontsize={SIZE - 3:g} fontcolor="{color["muted"]}" '
                        f'label="{count} more {what}{"s" * (count > 1)}"',
                        node.cluster,
                    )
                )
                lines.append(DrawnLine(*ends, f'style=dotted color="{color["line"]}" arrowhead=none', has_arrow=False))

    # -- edges ---------------------------------------------------------------------------------------

    def edge(self, index: int, edge: Edge) -> DrawnLine:
        flow = edge.flow or 0.0
        sign, level = sign_and_level(flow, self.largest_flow)
        color = self.color[f"{sign} line {level}" if level else "line"]
        text_color = self.color[f"{sign} text" if level else "muted"]
        name = f"e{index}"
        # A crowded picture has no room for both numbers of each edge along which nothing flows; its tooltip has them.
        is_brief = self.dense and self.backward and not self.graph.is_outline and not level and name not in self.rooms
        said = [] if is_brief else [("∂", self.color["muted"], edge.derivative)]
        if self.leaves_room:
            said.append((BACK[self.direction], text_color, edge.flow))
        known = [(mark, ink, number) for mark, ink, number in said if number is not None]
        texts = self.aligned(name, [number for _, _, number in known])
        if not self.backward:
            texts = [text if mark == "∂" else " " * len(text) for (mark, _, _), text in zip(known, texts, strict=True)]
        rows = [
            f'<TD WIDTH="15"><FONT FACE="{SANS}" COLOR="{ink}">{mark}</FONT></TD>'
            f'<TD ALIGN="LEFT"><FONT COLOR="{ink}">{text}</FONT></TD>'
            for (mark, ink, _), text in zip(known, texts, strict=True)
        ]
        if is_brief:
            del self.rooms[name]
        elif edge.count > 1:
            muted = self.color["muted"]
            rows.append(f'<TD COLSPAN="2" ALIGN="LEFT"><FONT COLOR="{muted}">{edge.count:,} uses</FONT></TD>')
        table = "".join(f"<TR>{row}</TR>" for row in rows)
        table = f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="1">{table}</TABLE>'
        label = f'<FONT FACE="{MONO}" POINT-SIZE="{SIZE - 2:g}">{table}</FONT>' if rows else ""
        attributes = (
            f'id="e{index}" color="{color}" style={"dotted" if flow != flow else "dashed" if flow < 0 else "solid"} '
            f"penwidth={(1.0, 1.0, 1.5, 2.2, 3.2)[level]:g}"
        )
        return DrawnLine(edge.source, edge.target, attributes, label)


def _range(pair: tuple[float, float], text: Callable[[float], str]) -> str:
    low, high = pair
    return text(low) if _same(low, high) else f"{text(low)} … {text(high)}"


def _same(a: float, b: float) -> bool:
    return a == b or (a != a and b != b)
