"""The array program of a kernel: a box per statement, forward and backward side by side."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeGuard

from microgrid.drawing.drawable import Options
from microgrid.drawing.graph import check_whole
from microgrid.drawing.labels import PLAIN_SYMBOLS, SANS, SIZE, heading, label_width, markup
from microgrid.drawing.picture import Picture
from microgrid.drawing.text import significant
from microgrid.theme import THEMES

Box = Any
"""``microgrid.compiler.boxes.Box``, from a layer above this one."""

ANY_ORDER = {"add", "mul", "maximum", "minimum", "equal", "not_equal", "hypot", "contract", "scatter"}
"""Commutative operations."""


class Boxed(Protocol):
    """The interface of a kernel, or a compiled function, for a drawing."""

    def boxes(self) -> list[Box]:
        """Return leaves and statements, operands first."""

    @property
    def traced(self) -> int:
        """The number of scalar nodes that the program was made from."""


def suits(what: object) -> TypeGuard[Boxed]:
    """Return whether something describes itself as boxes, as a kernel does and a compiled function."""
    return callable(getattr(what, "boxes", None)) and not isinstance(what, type)


def picture(kernel: Boxed, options: Options) -> Picture:
    """Draw the array program of a kernel.

    Raises:
        ValueError: if it has more boxes than ``limit``.
    """
    boxes, limit = kernel.boxes(), options.limit
    if limit is not None:
        check_whole("limit", limit, 1, "None to draw the whole program")
        if len(boxes) > limit:
            raise ValueError(
                f"this kernel has {len(boxes):,} boxes, and a picture shows up to limit={limit:,}: draw(kernel, "
                "limit=None) draws them all; kernel.source and kernel.dump() are the program as text"
            )
    direction = options.direction or "TB"
    dot = arrays_dot(
        boxes,
        kernel.traced,
        title=options.title,
        direction=direction,
        theme=options.paper,
        legend=options.legend,
    )
    return options.picture(dot, arrays_descriptions(boxes))


def arrays_dot(boxes: Sequence[Box], traced: int, *, title: str, direction: str, theme: str, legend: bool) -> str:
    """Return the DOT text of an array program.

    Forward goes in the given direction and backward against it, so that a gradient is beside its array.

    Args:
        boxes: leaves and statements, operands first.
        traced: the number of scalar nodes.
        title: a heading.
        direction: of the forward pass.
        theme: ``"light"`` or ``"dark"``.
        legend: whether to explain dashed lines.
    """
    return _Writer(boxes, direction, theme, legend).write(title, traced)


def arrays_descriptions(boxes: Sequence[Box]) -> dict[str, str]:
    """Return a description for the id of each box and edge."""
    texts = {}
    for i, box in enumerate(boxes):
        part = f" ({box.note})" * bool(box.note and not box.operands)
        says = [": ".join(filter(None, [box.name, box.doc.rstrip(".")])), f"shape {_shape(box)}{part}", *box.results]
        texts[f"v{i}"] = "; ".join(says)
        for k, (operand, reads) in enumerate(zip(box.operands, box.reads, strict=True)):
            if isinstance(operand, int):
                source = boxes[operand]
                place = f"operand {k + 1} of {len(box.operands)}"
                way = f"{source.name} ({_shape(source)}) → {box.name} ({_shape(box)})"
                texts[f"e{i}_{k}"] = ", ".join(filter(None, [way, place, f"reads {reads}" * bool(reads)]))
                texts[f"v{operand}_{i}"] = texts[f"v{operand}"]
    return texts


class _Writer:
    def __init__(self, boxes: Sequence[Box], direction: str, theme: str, legend: bool) -> None:
        self.legend = legend
        self.boxes = boxes
        self.direction = direction
        self.upright = direction in ("LR", "RL")  # narrow boxes, for a long row
        self.color = THEMES[theme]
        outputs = [i for i, box in enumerate(boxes) if any(result.startswith("output") for result in box.results)]
        self.forward = _needed(boxes, outputs)
        self.written_out = {
            i for i, box in enumerate(boxes) if box.kind == "constant" and box.shape == "1" and not box.results
        }
        self.floats = all(box.shape == "1" for box in boxes)
        statements = [i for i, box in enumerate(boxes) if box.operands]
        self.counts = len(statements), sum(i in self.forward for i in statements)

    def write(self, title: str, traced: int) -> str:
        color = self.color
        return "\n".join(
            [
                "digraph {",
                f'graph [rankdir={self.direction} bgcolor="{color["paper"]}" pad=0.2 nodesep=0.2 ranksep=0.25 '
                f'fontname="{SANS}" fontsize={SIZE + 3:g} fontcolor="{color["ink"]}" labelloc=t newrank=true]',
                f'node [shape=box style="rounded,filled" margin=0 height=0 width=0 fontname="{SANS}" '
                f'fontsize={SIZE:g} fontcolor="{color["ink"]}"]',
                f'edge [fontname="{SANS}" fontsize={SIZE - 2:g} fontcolor="{color["muted"]}" '
                f'color="{color["line"]}" arrowsize=0.7]',
                heading(title, self.notes(traced), color),
                *self.frame("forward", self.passes(forward=True)),
                *self.frame("backward", self.passes(forward=False)),
                *[edge for i in range(len(self.boxes)) for edge in self.edges(i)],
                "}",
                "",
            ]
        )

    def notes(self, traced: int) -> list[str]:
        total, forward = self.counts
        kinds = f" ({forward:,} forward, {total - forward:,} backward)" * (0 < forward < total)
        notes = [
            f"{traced:,} nodes → {total:,} statement{'s' * (total != 1)}{kinds}{', on plain floats' * self.floats}"
        ]
        kept = any(self.is_kept(i, box.operands[k]) for i, box in enumerate(self.boxes) for k in self.drawn(box))
        if self.legend and kept:
            notes.append("dashed: what the backward pass reads of the forward pass")
        return notes

    def is_kept(self, i: int, operand: int) -> bool:
        """Whether a statement of the backward pass reads one of the forward pass."""
        return i not in self.forward and operand in self.forward and bool(self.boxes[operand].operands)

    # -- boxes ---------------------------------------------------------------------------------------

    def passes(self, forward: bool) -> list[str]:
        """The nodes of a pass. The backward pass has leaves of its own, one for each use: no line crosses over."""
        nodes = []
        for i, box in enumerate(self.boxes):
            if i in self.written_out or (i in self.forward) is not forward:
                continue
            if box.operands or box.results or forward:
                nodes.append(self.node(f"v{i}", box))
            if not forward:
                leaves = {k for k in map(box.operands.__getitem__, self.drawn(box)) if not self.boxes[k].operands}
                nodes += [self.node(f"v{k}_{i}", self.boxes[k]) for k in sorted(leaves)]
        return nodes

    def frame(self, name: str, nodes: list[str]) -> Iterable[str]:
        if not 0 < self.counts[1] < self.counts[0]:
            return nodes  # there is one pass only
        color = self.color
        head = (
            f'subgraph cluster_{name} {{ graph [id="{name}" style="rounded,filled" color="{color["faint"]}" '
            f'fillcolor="{color["cluster"]}" labeljust=l margin=9 fontsize={SIZE - 1:g} '
            f'fontcolor="{color["muted"]}" label="{name} pass"]'
        )
        return [head, *nodes, "}"]

    def node(self, name: str, box: Box) -> str:
        color = self.color
        align = "CENTER" if self.upright else "LEFT"
        titles = [*box.results, *[box.symbol] * (box.kind in ("input", "parameter"))]
        cells = [
            f'<TD ALIGN="{align}" WIDTH="{label_width(title)}"><B>{markup(title, align)}</B></TD>' for title in titles
        ]
        rows = [markup(box.symbol, align)] * (box.kind == "constant") + [_shape(box)] * (not self.floats)
        if box.note and box.operands:
            rows.append(f'<FONT COLOR="{color["muted"]}" POINT-SIZE="{SIZE - 2:g}">{box.note}</FONT>')
        cells += [f'<TD ALIGN="{align}">{row}</TD>' for row in rows]
        if box.operands:
            paper, ink = ("output", "output text") if box.results else ("badge", "ink")
            span = "" if self.upright or not cells else f' ROWSPAN="{len(cells)}"'
            badge = (
                f'<TD{span} BGCOLOR="{color[paper]}" STYLE="ROUNDED" CELLPADDING="4">'
                f'<FONT COLOR="{color[ink]}" POINT-SIZE="{SIZE + 1:g}">{markup(self.formula(box))}</FONT></TD>'
            )
            cells = [badge, *cells] if self.upright or not cells else [badge + cells[0], *cells[1:]]
        line, fill, style, width = {
            "operation": ("line", "operation", "rounded,filled", 1.0),
            "input": ("ink", "input", "rounded,filled", 1.6),
            "parameter": ("parameter line", "parameter", "rounded,filled", 1.6),
            "constant": ("line", "paper", "rounded,filled,dashed", 1.0),
        }[box.kind]
        if box.results:
            line, width = "ink", 2.4
        table = "".join(f"<TR>{cell}</TR>" for cell in cells)
        return (
            f'{name} [id="{name}" class="{box.kind}" color="{color[line]}" fillcolor="{color[fill]}" '
            f'style="{style}" penwidth={width:g} '
            f'label=<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="3" CELLPADDING="2">{table}</TABLE>>]'
        )

    def formula(self, box: Box) -> str:
        """The symbol with the numbers it is applied to, and with letters where operands differ in their part."""
        symbol: str = PLAIN_SYMBOLS.get(box.symbol, box.symbol)
        letters = self.letters(box)
        texts = [
            significant(operand)
            if isinstance(operand, float)
            else self.boxes[operand].symbol
            if operand in self.written_out
            else letters.get(k, "")
            for k, operand in enumerate(box.operands)
        ]
        if not any(texts):
            return symbol
        if len(texts) == 1:
            return f"{symbol}{texts[0]}" if len(symbol) == 1 else f"{symbol}({texts[0]})"
        if len(texts) == 2 and len(symbol) == 1:
            return f"{texts[0]} {symbol} {texts[1]}".strip()
        return f"{symbol}({', '.join(text or 'a' for text in texts)})"

    def letters(self, box: Box) -> dict[int, str]:
        """The names of the operands in the formula, if their order matters."""
        drawn = self.drawn(box)
        if len(drawn) < 2 or box.name in ANY_ORDER:
            return {}
        return {k: chr(ord("a") + place) for place, k in enumerate(drawn)}

    def drawn(self, box: Box) -> list[int]:
        """The places of the operands that are boxes, not written out."""
        return [k for k, x in enumerate(box.operands) if isinstance(x, int) and x not in self.written_out]

    # -- edges ---------------------------------------------------------------------------------------

    def edges(self, i: int) -> Iterable[str]:
        """Yield the edges to a box. Those of the backward pass are laid out against their arrows."""
        box = self.boxes[i]
        letters = self.letters(box)
        for k in self.drawn(box):
            operand = box.operands[k]
            label = " ".join(filter(None, [letters.get(k), box.reads[k]]))
            says = f'id="e{i}_{k}"' + f' label=" {label} "' * bool(label)
            if i in self.forward:
                yield f"v{operand} -> v{i} [{says}]"
            elif not self.boxes[operand].operands:
                yield f"v{i} -> v{operand}_{i} [dir=back {says}]"
            elif self.is_kept(i, operand):
                yield f"v{i} -> v{operand} [dir=back style=dashed {says}]"
            else:
                yield f"v{i} -> v{operand} [dir=back {says}]"


def _shape(box: Box) -> str:
    return "number" if box.shape == "1" else str(box.shape)


def _needed(boxes: Sequence[Box], outputs: Iterable[int]) -> set[int]:
    """Return the places of the boxes that some boxes depend on, and of these."""
    needed: set[int] = set()
    stack = list(outputs)
    while stack:
        i = stack.pop()
        if i not in needed:
            needed.add(i)
            stack += [operand for operand in boxes[i].operands if isinstance(operand, int)]
    return needed
