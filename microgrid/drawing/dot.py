"""A graph as DOT text: what each node, edge and cluster looks like."""

import math
import unicodedata
from collections.abc import Iterable, Sequence

from microgrid.drawing.graph import Edge, Graph, Node
from microgrid.drawing.theme import THEMES

SANS, MONO = "Helvetica", "Courier"  # the two families whose widths every Graphviz knows
SIZE = 13.0  # points
LABEL_COLUMNS, LABEL_LINES = 40, 4  # longer labels are cut in the picture, and whole in the tooltip


def to_dot(graph: Graph, *, title: str = "", direction: str = "LR", theme: str = "light") -> str:
    """Return the DOT text of a graph. It depends on the graph alone: the same graph gives the same text."""
    return _Writer(graph, theme).write(title, direction)


def descriptions(graph: Graph) -> dict[str, str]:
    """Return, for the id of each node and edge, what it is in words, with every digit."""
    names = [_name(node) for node in graph.nodes]
    texts = {f"v{i}": _describe(node) for i, node in enumerate(graph.nodes)}
    for i, edge in enumerate(graph.edges):
        texts[f"e{i}"] = (
            f"{names[edge.source]} → {names[edge.target]}: local derivative {edge.derivative!r}, "
            f"gradient flowing back {edge.flow!r}"
        )
    return texts


def _name(node: Node) -> str:
    return node.value.label or f"{node.value.data!r}"


def _describe(node: Node) -> str:
    value = node.value
    kind = value.op.doc if node.kind == "operation" else node.kind
    return f"{value.label}: " * bool(value.label) + f"data {value.data!r}, grad {value.grad!r} ({kind})"


class _Writer:
    def __init__(self, graph: Graph, theme: str) -> None:
        self.graph = graph
        self.color = THEMES[theme]
        self.backward = any(node.value.grad for node in graph.nodes)
        self.largest_gradient = _largest(node.value.grad for node in graph.nodes)
        self.largest_flow = _largest(edge.flow for edge in graph.edges)

    def write(self, title: str, direction: str) -> str:
        color = self.color
        lines = [
            "digraph {",
            f'graph [rankdir={direction} bgcolor="{color["paper"]}" pad=0.2 nodesep=0.18 ranksep=0.35 '
            f'fontname="{SANS}" fontsize={SIZE + 2:g} fontcolor="{color["ink"]}" labelloc=t]',
            f'node [shape=box style="rounded,filled" margin=0 height=0 width=0 fontname="{SANS}" '
            f'fontsize={SIZE:g} fontcolor="{color["ink"]}"]',
            f'edge [fontname="{MONO}" fontsize={SIZE - 2:g} arrowsize=0.7]',
        ]
        if title:
            lines.append(f"label=<<B>{_label(title)}</B>>")
        lines += [self.node(i, node) for i, node in enumerate(self.graph.nodes)]
        lines += [self.edge(i, edge) for i, edge in enumerate(self.graph.edges)]
        return "\n".join([*lines, "}", ""])

    # -- nodes ---------------------------------------------------------------------------------------

    def node(self, index: int, node: Node) -> str:
        value, color = node.value, self.color
        numbers = [("data", value.data)]
        if self.backward and node.kind != "constant":
            numbers.append(("grad", value.grad))
        rows = [
            self.number_row(name, text, self.tint(value.grad) if name == "grad" else "")
            for (name, _), text in zip(numbers, aligned([number for _, number in numbers]), strict=True)
        ]
        if value.label:
            rows.insert(0, f'<TD ALIGN="LEFT" WIDTH="{_width(value.label)}"><B>{_label(value.label)}</B></TD>')
        badge = ""
        if node.kind == "operation":
            paper, ink = ("output", "output text") if node.is_output else ("badge", "ink")
            badge = (
                f'<TD ROWSPAN="{len(rows)}" BGCOLOR="{color[paper]}" STYLE="ROUNDED" CELLPADDING="6">'
                f'<FONT COLOR="{color[ink]}" POINT-SIZE="{SIZE + 3:g}">{_escape(value.op.symbol)}</FONT></TD>'
            )
        table = "".join(f"<TR>{badge if i == 0 else ''}{row}</TR>" for i, row in enumerate(rows))
        line, fill, style, width = {
            "operation": ("line", "operation", "rounded,filled", 1.0),
            "input": ("ink", "input", "rounded,filled", 1.6),
            "parameter": ("parameter line", "parameter", "rounded,filled", 1.6),
            "constant": ("line", "paper", "rounded,filled,dashed", 1.0),
        }[node.kind]
        if node.is_output:
            line, width = "ink", 2.4
        return (
            f'v{index} [id="v{index}" class="{node.kind}" color="{color[line]}" fillcolor="{color[fill]}" '
            f'style="{style}" penwidth={width:g} '
            f'label=<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="3" CELLPADDING="2">{table}</TABLE>>]'
        )

    def number_row(self, name: str, number: str, fill: str) -> str:
        tint = f' BGCOLOR="{fill}" STYLE="ROUNDED"' if fill else ""
        return (
            f'<TD ALIGN="LEFT"{tint}><FONT FACE="{MONO}"><FONT COLOR="{self.color["muted"]}" '
            f'POINT-SIZE="{SIZE - 3:g}">{name}</FONT> {number}</FONT></TD>'
        )

    def tint(self, gradient: float) -> str:
        level = _level(gradient, self.largest_gradient)
        return self.color[f"{'negative' if gradient < 0 else 'positive'} {level}"] if level else ""

    # -- edges ---------------------------------------------------------------------------------------

    def edge(self, index: int, edge: Edge) -> str:
        level = _level(edge.flow, self.largest_flow)
        name = f"{'negative' if edge.flow < 0 else 'positive'} line {level}" if level else "line"
        color, style = self.color[name], "dashed" if edge.flow < 0 else "solid"
        texts = aligned([edge.derivative, edge.flow] if self.backward else [edge.derivative])
        rows = "".join(
            f'<TR><TD><FONT FACE="{SANS}" COLOR="{ink}">{sign}</FONT></TD>'
            f'<TD ALIGN="LEFT"><FONT COLOR="{ink}">{text}</FONT></TD></TR>'
            for sign, ink, text in zip("∂←", (self.color["muted"], color), texts, strict=False)
        )
        return (
            f'v{edge.source} -> v{edge.target} [id="e{index}" color="{color}" style={style} '
            f"penwidth={(1.0, 1.0, 1.5, 2.2, 3.2)[level]:g} "
            f'label=<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="1">{rows}'
            '<TR><TD COLSPAN="2" HEIGHT="4"></TD></TR></TABLE>>]'
        )


# -- numbers -----------------------------------------------------------------------------------------


def significant(number: float, digits: int = 4) -> str:
    """Return a number as a picture shows it: ``digits`` significant digits, whole numbers in full."""
    if not math.isfinite(number):
        return str(number)
    if number == int(number) and abs(number) < 1e6:
        return str(int(number))
    text = f"{number:.{digits}g}"
    return text.replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def aligned(numbers: Sequence[float]) -> list[str]:
    """Return the numbers as texts of one width whose decimal points stand under one another."""
    texts = [significant(number).partition(".") for number in numbers]
    before = max(len(whole) for whole, _, _ in texts)
    after = max(len(point + fraction) for _, point, fraction in texts)
    return [f"{whole:>{before}}{point + fraction:<{after}}" for whole, point, fraction in texts]


def _largest(numbers: Iterable[float]) -> float:
    return max((abs(n) for n in numbers if math.isfinite(n)), default=0.0)


def _level(number: float, largest: float) -> int:
    """How strong a colour is, from 0 for nothing to 4: the decade below the largest number shown."""
    size = abs(number)
    if not size:
        return 0
    if not size < largest * 0.5:  # nan and inf too
        return 4
    return 3 if size >= largest * 0.1 else 2 if size >= largest * 0.01 else 1


# -- text --------------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """Replace what XML cannot hold: control characters by their pictures, half characters by �."""
    return "".join(
        chr(0x2400 + ord(c)) if c < " " else "␡" if c == "\x7f" else "�" if _unprintable(c) else c for c in text
    )


def _unprintable(c: str) -> bool:
    return unicodedata.category(c) in ("Cc", "Cs") or ord(c) & 0xFFFE == 0xFFFE


def _lines(label: str) -> list[str]:
    lines = label.splitlines() or [""]
    if len(lines) > LABEL_LINES:
        lines = [*lines[: LABEL_LINES - 1], "…"]
    return [printable(line if columns(line) <= LABEL_COLUMNS else _cut(line)) for line in lines]


def _cut(line: str) -> str:
    while columns(line) >= LABEL_COLUMNS:
        line = line[: min(len(line) - 1, LABEL_COLUMNS)]
    return line + "…"


def columns(text: str) -> int:
    """Return how wide a text is, in half widths of a Korean letter."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _width(label: str) -> int:
    """The least width in points of a cell with this text, of which Graphviz measures Korean too narrow."""
    return math.ceil(max(columns(line) for line in _lines(label)) * SIZE * 0.54) + 6


def _label(text: str) -> str:
    """A text of the user's for an HTML-like label: its lines, left aligned."""
    lines = [_escape(line) or " " for line in _lines(text)]
    return lines[0] if len(lines) == 1 else "".join(f'{line}<BR ALIGN="LEFT"/>' for line in lines)


def _escape(text: str) -> str:
    """Escape for an HTML-like label, where a backslash and an N would be the name of the node."""
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("\\", "\\\\")):
        text = text.replace(character, entity)
    return text
