"""A picture box by box: its DOT text, and the same with the places of our own layout.

Graphviz would lay the graph out too, but not with siblings by index, nor each label by its own edge. So it first
measures the texts, then draws everything at the given places (its engine ``neato`` with ``-n2``).
"""

import json
from dataclasses import dataclass

from microgrid.drawing.graph import Sibling
from microgrid.drawing.layering import Box, Frame, Line, Places, Point, Size, Spacing, place
from microgrid.drawing.rendering import render
from microgrid.drawing.text import Room

DRAW_AS_PLACED = ("-Kneato", "-n2")
"""The options by which Graphviz draws everything at the places in the text."""

MARGIN = 9.0  # points, around what a frame holds
ARROW = 7.0  # the length of an arrow's head
SPACINGS = {"LR": Spacing(34.0, 13.0, 3.0, 1), "TB": Spacing(34.0, 13.0, 3.0, -1)}

ACROSS = {"LR": "LR", "RL": "LR", "TB": "TB", "BT": "TB"}


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """A node: its name, its attributes, the number of its frame, its place among its siblings."""

    name: str
    attributes: str
    frame: int | None
    sibling: Sibling | None = None


@dataclass(frozen=True, slots=True)
class DrawnLine:
    """An edge: its ends by their numbers, its attributes, its label as an HTML-like table, or nothing."""

    source: int
    target: int
    attributes: str
    label: str = ""
    has_arrow: bool = True


@dataclass(frozen=True, slots=True)
class DrawnFrame:
    """A cluster: its attributes, its title as markup, the number of the frame around it, its place among siblings."""

    attributes: str
    title: str
    parent: int | None
    sibling: Sibling | None = None


@dataclass(frozen=True, slots=True)
class Drawing:
    """A graph in Graphviz's language.

    Attributes:
        defaults: the attributes of the graph, of all nodes and of all edges.
        heading: the text over the picture, as an HTML-like table, or nothing.
        direction: of the forward pass.
        rooms: the room for the numbers of each node and edge, by its name.
        has_gradients: whether there is room for gradients.
    """

    defaults: str
    heading: str
    direction: str
    boxes: tuple[DrawnBox, ...]
    lines: tuple[DrawnLine, ...]
    frames: tuple[DrawnFrame, ...]
    rooms: dict[str, Room]
    has_gradients: bool

    @property
    def dot(self) -> str:
        """The text of the graph, for any engine of Graphviz."""
        return "\n".join(["digraph {", *self._statements(), "}", ""])

    def is_like(self, other: "Drawing") -> bool:
        """Whether another drawing has the same nodes, edges and frames."""
        return (
            [(box.name, box.frame) for box in self.boxes] == [(box.name, box.frame) for box in other.boxes]
            and [(x.source, x.target) for x in self.lines] == [(x.source, x.target) for x in other.lines]
            and [frame.title for frame in self.frames] == [frame.title for frame in other.frames]
        )

    def placed(self, program: str) -> str:
        """Return the text with the place of everything, for the program and ``DRAW_AS_PLACED``."""
        sizes = self._measure(program)
        across = self.direction in ("TB", "BT")  # whether x is across

        def turned(size: Size) -> Size:
            return (size[1], size[0]) if across else size

        frames = [self._frame(frame, sizes[f"c{i}"]) for i, frame in enumerate(self.frames)]
        boxes = [Box(turned(sizes[box.name]), box.frame, box.sibling) for box in self.boxes]
        lines = [
            Line(line.source, line.target, turned(sizes[f"l{i}"]) if line.label else None)
            for i, line in enumerate(self.lines)
        ]
        places = place(boxes, lines, frames, SPACINGS[ACROSS[self.direction]])
        return "\n".join(["digraph {", *self._statements(), *self._positions(places, sizes), "}", ""])

    def _statements(self) -> list[str]:
        return [
            self.defaults,
            f"graph [label=<{self.heading}>]" if self.heading else "",
            *[self._within(box.frame, f"{box.name} [{box.attributes}]") for box in self.boxes],
            *[
                self._within(i, f"graph [{frame.attributes} label=<{frame.title}>]")
                for i, frame in enumerate(self.frames)
            ],
            *[
                f"{self._ends(line)} [key=e{i} {line.attributes}{f' label=<{line.label}>' if line.label else ''}]"
                for i, line in enumerate(self.lines)
            ],
        ]

    def _ends(self, line: DrawnLine) -> str:
        return f"{self.boxes[line.source].name} -> {self.boxes[line.target].name}"

    def _within(self, frame: int | None, text: str) -> str:
        """Wrap a statement in the clusters around it; DOT joins what is said of one cluster in several places."""
        while frame is not None:
            text = f"subgraph cluster_{frame} {{{text}}}"
            frame = self.frames[frame].parent
        return text

    def _measure(self, program: str) -> dict[str, Size]:
        """Ask Graphviz how large everything is: nodes by their names, labels l0, …, titles c0, …, and the heading h."""
        texts = [(f"l{i}", line.label) for i, line in enumerate(self.lines) if line.label]
        texts += [(f"c{i}", frame.title) for i, frame in enumerate(self.frames)]
        texts += [("h", self.heading)] * bool(self.heading)
        dot = "\n".join(
            [
                "digraph {",
                self.defaults,
                'node [pos="0,0"]',
                *[f"{box.name} [{box.attributes}]" for box in self.boxes],
                *[f"{name} [shape=plain label=<{text}>]" for name, text in texts],
                "}",
            ]
        )
        found = json.loads(render(dot, "json0", program, *DRAW_AS_PLACED))["objects"]
        return {thing["name"]: (72 * float(thing["width"]), 72 * float(thing["height"])) for thing in found}

    def _frame(self, frame: DrawnFrame, title: Size) -> Frame:
        width, height = title[0] + 2 * MARGIN, title[1] + MARGIN
        sides = (MARGIN, MARGIN)
        if self.direction == "TB":
            return Frame(frame.parent, (height, MARGIN), sides, (0.0, width), frame.sibling)
        if self.direction == "BT":
            return Frame(frame.parent, sides, (height, MARGIN), (0.0, width), frame.sibling)
        return Frame(frame.parent, (MARGIN, height), sides, (width, 0.0), frame.sibling)

    def _positions(self, places: Places, sizes: dict[str, Size]) -> list[str]:
        along, across = places.size
        width, height = (across, along) if self.direction in ("TB", "BT") else (along, across)
        head = sizes.get("h", (0.0, 0.0))
        shift = max((head[0] - width) / 2, 0.0)

        def point(point: Point) -> tuple[float, float]:
            u, v = point
            x, y = {"LR": (u, v), "RL": (along - u, v), "TB": (v, u), "BT": (v, along - u)}[self.direction]
            return x + shift, height - y

        def text(*points: Point) -> str:
            return " ".join([f"{x:.2f},{y:.2f}" for x, y in map(point, points)])

        statements = []
        if self.heading:
            middle = f"{width / 2 + shift:.2f},{height + MARGIN + head[1] / 2:.2f}"
            statements.append(f'graph [bb="0,0,{width + 2 * shift:.2f},{height + MARGIN + head[1]:.2f}" lp="{middle}"]')
        for box, at in zip(self.boxes, places.at, strict=True):
            statements.append(f'{box.name} [pos="{text(at)}"]')
        for i, corners in enumerate(places.frames):
            (a, b), (c, d) = map(point, corners)
            left, bottom, right, top = min(a, c), min(b, d), max(a, c), max(b, d)
            title = sizes[f"c{i}"]
            statements.append(
                self._within(
                    i,
                    f'graph [bb="{left:.2f},{bottom:.2f},{right:.2f},{top:.2f}" '
                    f'lp="{left + MARGIN + title[0] / 2:.2f},{top - MARGIN / 2 - title[1] / 2:.2f}"]',
                )
            )
        for i, (line, route, label) in enumerate(zip(self.lines, places.routes, places.labels, strict=True)):
            tip = ""
            if line.has_arrow:
                tip = f"e,{text(route[-1])} "
                route = [*route[:-1], (route[-1][0] - ARROW, route[-1][1])]
            where = f' lp="{text(label)}"' if label else ""
            statements.append(f'{self._ends(line)} [key=e{i} pos="{tip}{text(*route)}"{where}]')
        return statements
