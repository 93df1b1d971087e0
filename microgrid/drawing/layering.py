"""A layered layout: operands before results, siblings by index, arguments in order, frames within frames.

The steps are those of Sugiyama, Tagawa and Toda (Methods for visual understanding of hierarchical system
structures, 1981): ranks, an order in each rank that has few crossings, then places. A frame is laid out
separately and is a box in the frame around it. So a frame holds only its own boxes, and alike modules
look alike. The order of a rank starts with that of the arguments, and departs from it only to cross fewer edges.

An edge has a place in every rank that it passes, and its numbers have one in a separate rank, beside the line.
Edges from one box share a line as long as they go the same way.

Here *along* is the way of the forward pass and *across* the other one; both grow from 0.
"""

import math
from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from microgrid.drawing.graph import Sibling

Point = tuple[float, float]
_Stop = tuple[float, float, float | None]  # from where to where along, and where across
Size = tuple[float, float]
SWEEPS = 6  # that look for an order with fewer crossings
SETTLING = 8  # passes that move boxes towards what they are joined to
STRAIGHT = 4.0  # how much more a bend weighs on the way of an edge, and before its label, than at its end
TALLEST, LONGEST, PLEASANT = 2.2, 7.0, 0.6
"""The largest ratios of across to along, and of along to across, of a graph that is not folded; and the aim."""

FOLDED = 40  # boxes, at least, are in what is folded
CROWDED = 10_000  # ranks that edges pass, all together: beyond, there is no room for them
SLOPE = 0.22  # of the room between two ranks to the steepest edge in it
STEEPEST = 4.0  # how many times the least room it may become
LOOSE = 0.01  # how much what is joined to nothing wants to stay
NEAR = 0.1  # across, to count as straight
LINE = 6.0  # the room across of an edge that passes


@dataclass(slots=True)
class Frame:
    """A frame to lay out.

    Attributes:
        parent: the number of the frame around it, or ``None``.
        before, after: how far its border is from what it holds, along and across.
        least: its least size, for its title.
        sibling: its place among its siblings, if it has one.
    """

    parent: int | None
    before: Size
    after: Size
    least: Size
    sibling: Sibling | None = None


@dataclass(slots=True)
class Box:
    """A box to lay out: its size, the number of its frame, its place among its siblings."""

    size: Size
    frame: int | None = None
    sibling: Sibling | None = None


@dataclass(slots=True)
class Line:
    """An edge to lay out: from box to box, with the size of its label if it has one."""

    source: int
    target: int
    label: Size | None = None


@dataclass(frozen=True, slots=True)
class Spacing:
    """The distances between items.

    Attributes:
        along: the least room between ranks.
        across: the room between neighbours in a rank.
        label: the room around a label.
        side: the side of a label on which its line runs: 1 the far side across, −1 the near one.
        folds: whether a layout much larger one way than the other is folded.
    """

    along: float
    across: float
    label: float
    side: int
    folds: bool = False


@dataclass(slots=True)
class Places:
    """The places of boxes, edges and frames.

    Attributes:
        at: the middle of each box.
        routes: for each edge its curve: the start, then three control points for each Bézier piece.
        labels: the middle of each edge's label, or ``None``.
        frames: for each frame its corners, the first and the last point.
        size: of the whole.
        is_folded: whether anything is folded; edges have no labels there.
    """

    at: list[Point]
    routes: list[list[Point]]
    labels: list[Point | None]
    frames: list[tuple[Point, Point]]
    size: Size
    is_folded: bool


@dataclass(eq=False, slots=True)
class _Item:
    """An item with a place in a rank: a box, a frame, a label, or an edge that passes."""

    along: float
    across: float
    passes: bool = False
    sibling: Sibling | None = None
    into: "list[_Link]" = field(default_factory=list)
    out: "list[_Link]" = field(default_factory=list)
    layer: int = 0
    port: float = 0.0
    place: int = 0
    start: float = 0.0
    middle: float = 0.0

    @property
    def line(self) -> float:
        """Where the edge runs, of an item that stands for one."""
        return self.middle + self.port


@dataclass(eq=False, slots=True)
class _Link:
    """A piece of an edge between neighbouring ranks, and where it meets both items, from their middles."""

    source: _Item
    target: _Item
    leaves: float
    meets: float
    weight: float
    edge: int


def place(boxes: Sequence[Box], lines: Sequence[Line], frames: Sequence[Frame], spacing: Spacing) -> Places:
    """Return the places of boxes, edges and frames; an outer frame comes before those in it."""
    return _Layout(boxes, lines, frames, spacing).places()


class _Inside:
    """The content of one frame, or of the whole picture: items in layers, with layers of labels between the boxes.

    Attributes:
        items: the item of each box and inner frame; the numbers of frames follow those of boxes.
        pieces: the edges in it, each with the items that it joins here: ``None`` if the end is outside.
        ways: the items that each edge passes in it, labels too.
        enters, leaves: for the source of edges that cross its border, the place across.
        layers: the items of each layer, in order.
        starts, widths: of the layers, along.
        size: of its content.
        corner: of its content, in the whole picture.
        is_folded: whether its ranks are folded, and edges go straight.
    """

    def __init__(self) -> None:
        self.items: dict[int, _Item] = {}
        self.pieces: list[tuple[int, int | None, int | None]] = []
        self.ways: dict[int, list[_Item]] = {}
        self.enters: dict[int, list[float]] = {}
        self.leaves: dict[int, list[float]] = {}
        self.layers: list[list[_Item]] = []
        self.starts: list[float] = []
        self.widths: list[float] = []
        self.size: Size = (0.0, 0.0)
        self.corner: Point = (0.0, 0.0)
        self.is_folded = False

    def middle(self, item: _Item) -> Point:
        """Return the middle of an item in the whole picture."""
        return self.corner[0] + item.start + item.along / 2, self.corner[1] + item.middle


class _Layout:
    def __init__(self, boxes: Sequence[Box], lines: Sequence[Line], frames: Sequence[Frame], spacing: Spacing) -> None:
        self.boxes, self.lines, self.frames, self.spacing = boxes, lines, frames, spacing
        self.insides: dict[int | None, _Inside] = {i: _Inside() for i in (None, *range(len(frames)))}
        self.labels: dict[int, _Item] = {}
        for i, box in enumerate(boxes):
            self.insides[box.frame].items[i] = _Item(*box.size, sibling=box.sibling)
        for i, frame in enumerate(frames):
            self.insides[frame.parent].items[len(boxes) + i] = _Item(0.0, 0.0, sibling=frame.sibling)
        self.courses = [self._course(line) for line in lines]
        for number, course in enumerate(self.courses):
            for around, source, target in course:
                self.insides[around].pieces.append((number, source, target))
        for i in reversed(range(len(frames))):  # inner frames come first
            self._lay_out(i)
        self._lay_out(None)

    def _around(self, frame: int | None) -> list[int | None]:
        """A frame and those around it, the whole picture last."""
        chain = [frame]
        while chain[-1] is not None:
            chain.append(self.frames[chain[-1]].parent)
        return chain

    def _course(self, line: Line) -> list[tuple[int | None, int | None, int | None]]:
        """Return the frames whose border an edge crosses, and the one around both ends, in the order of its way.

        With each frame go the numbers of the items that it joins there, ``None`` for an end outside.
        """
        above, below = self._around(self.boxes[line.source].frame), self._around(self.boxes[line.target].frame)
        common = next(frame for frame in above if frame in below)
        first, source, target = len(self.boxes), line.source, line.target
        out: list[tuple[int | None, int | None, int | None]] = []
        into: list[tuple[int | None, int | None, int | None]] = []
        for frame in above[: above.index(common)]:
            out.append((frame, source, None))
            source = first + (frame or 0)
        for frame in below[: below.index(common)]:
            into.insert(0, (frame, None, target))
            target = first + (frame or 0)
        return [*out, (common, source, target), *into]

    # -- one frame -------------------------------------------------------------------------------------

    def _lay_out(self, number: int | None) -> None:
        inside = self.insides[number]
        ranks = self._ranks(inside)
        if self.spacing.folds and self._is_to_fold(inside, ranks):
            self._fold(inside, ranks)
        else:
            self._layer(number, inside, ranks)
            _order(inside.layers)
            self._settle(inside.layers)
            self._stretch(inside)
        if number is not None:
            frame, item = self.frames[number], self.insides[self.frames[number].parent].items[len(self.boxes) + number]
            item.along = max(inside.size[0] + frame.before[0] + frame.after[0], frame.least[0])
            item.across = max(inside.size[1] + frame.before[1] + frame.after[1], frame.least[1])
            shift = frame.before[1] - item.across / 2
            for edge, source, target in inside.pieces:
                origin, way = self.lines[edge].source, inside.ways[edge]
                if source is None and target is not None:
                    line = way[0].line if way else inside.items[target].middle + self._border(target, origin, "enters")
                    inside.enters.setdefault(origin, []).append(line + shift)
                elif target is None and source is not None:
                    line = way[-1].line if way else inside.items[source].middle + self._border(source, origin, "leaves")
                    inside.leaves.setdefault(origin, []).append(line + shift)

    def _ranks(self, inside: _Inside) -> dict[int, int]:
        """Return the rank of each box and frame: a leaf stands behind frames, not far below them."""
        pairs = [(a, b) for _, a, b in inside.pieces if a is not None and b is not None]
        ranks: dict[int, float] = dict(_ranks(list(inside.items), pairs))
        of_frames = {ranks[name] for name in inside.items if name >= len(self.boxes)}
        used, using = {a for a, _ in pairs}, {b for _, b in pairs}
        for name, rank in ranks.items():
            if name < len(self.boxes) and rank in of_frames and name in used - using:
                ranks[name] += 0.5
        number = {rank: i for i, rank in enumerate(sorted(set(ranks.values())))}
        return {name: number[rank] for name, rank in ranks.items()}

    def _layer(self, number: int | None, inside: _Inside, ranks: dict[int, int]) -> None:
        """Put boxes, labels and passing edges into layers, and link neighbours."""
        labelled = {
            ranks[target]
            for edge, source, target in inside.pieces
            if target is not None
            and (source is None or ranks[source] < ranks[target])
            and self.lines[edge].label
            and self.boxes[self.lines[edge].target].frame == number
        }
        layer_of = {}
        layers = inside.layers
        for rank in range(1 + max(ranks.values())):
            layers.extend([] for _ in range(1 + (rank in labelled)))
            layer_of[rank] = len(layers) - 1
        for name, item in inside.items.items():
            item.layer = layer_of[ranks[name]]
            layers[item.layer].append(item)
        passing: dict[tuple[int, int], _Item] = {}
        links: dict[tuple[_Item, _Item, float, float], _Link] = {}
        for edge, source, target in inside.pieces:
            origin, label = self.lines[edge].source, self.lines[edge].label
            tail = None if source is None else inside.items[source]
            head = None if target is None else inside.items[target]
            first, end = -1 if tail is None else tail.layer, len(layers) if head is None else head.layer
            way: list[_Item] = []
            for layer in range(first + 1, end):
                if layer == end - 1 and label and target == self.lines[edge].target:
                    port = self.spacing.side * (label[1] + self.spacing.label) / 2
                    item = self.labels[edge] = _Item(label[0], label[1] + self.spacing.label, layer=layer, port=port)
                    layers[layer].append(item)
                elif (layer, origin) in passing:
                    item = passing[layer, origin]
                else:
                    item = passing[layer, origin] = _Item(0.0, LINE, passes=True, layer=layer)
                    layers[layer].append(item)
                way.append(item)
            inside.ways[edge] = way
            stops = [(item, item.port, item.port) for item in way]
            if tail is not None and source is not None:
                stops.insert(0, (tail, 0.0, self._border(source, origin, "leaves")))
            if head is not None and target is not None:
                stops.append((head, self._border(target, origin, "enters"), 0.0))
            for (a, _, leaves), (b, meets, _) in pairwise(stops):
                if a.layer >= b.layer:
                    continue  # an edge back, of boxes that use each other
                if (link := links.get((a, b, leaves, meets))) is None:
                    link = links[a, b, leaves, meets] = _Link(a, b, leaves, meets, 0.0, edge)
                    a.out.append(link)
                    b.into.append(link)
                link.weight += STRAIGHT if b.passes or b.port else 1.0

    def _border(self, name: int, source: int, side: str) -> float:
        """Where an edge meets a box or frame, from its middle across."""
        if name < len(self.boxes):
            return 0.0
        known: list[float] = getattr(self.insides[name - len(self.boxes)], side)[source]
        return sum(known) / len(known)

    def _settle(self, layers: list[list[_Item]]) -> None:
        """Give items their places across: near their neighbours along edges, and apart from one another."""
        gaps = []
        for layer in layers:
            steps = [(a.across + b.across) / 2 + self._gap(a, b) for a, b in pairwise(layer)]
            gaps.append(list(accumulate(steps, initial=0.0)))
            for item, offset in zip(layer, gaps[-1], strict=True):
                item.middle = offset - gaps[-1][-1] / 2
        numbers = range(len(layers))
        for sweep in range(SETTLING):
            both = sweep >= SETTLING // 2
            back = sweep % 2 == 0
            for i in reversed(numbers) if back else numbers:
                _pull(layers[i], gaps[i], into=both or not back, out=both or back)
        for layer, offsets in zip(layers, gaps, strict=True):
            _straighten(layer, offsets)
        top = min(item.middle - item.across / 2 for layer in layers for item in layer)
        for layer in layers:
            for item in layer:
                item.middle -= top

    def _gap(self, a: _Item, b: _Item) -> float:
        return LINE if a.passes or b.passes or a.port or b.port else self.spacing.across

    def _stretch(self, inside: _Inside) -> None:
        """Give layers their places along: the steeper the edges between them, the farther apart."""
        along = 0.0
        for i, layer in enumerate(inside.layers):
            if i:
                bends = [
                    abs(link.source.middle + link.leaves - link.target.middle - link.meets)
                    for item in layer
                    for link in item.into
                ]
                by_label = any(item.port for item in layer + inside.layers[i - 1])
                least = self.spacing.along / 2 if by_label else self.spacing.along
                along += min(least + SLOPE * max(bends, default=0.0), STEEPEST * self.spacing.along)
            inside.starts.append(along)
            inside.widths.append(max(item.along for item in layer))
            for item in layer:
                item.start = along + (inside.widths[-1] - item.along) / 2
            along += inside.widths[-1]
        for name, item in inside.items.items():
            if name >= len(self.boxes):  # frames side by side are equally long
                item.start, item.along = inside.starts[item.layer], inside.widths[item.layer]
        inside.size = (along, max(item.middle + item.across / 2 for layer in inside.layers for item in layer))

    def _is_to_fold(self, inside: _Inside, ranks: dict[int, int]) -> bool:
        """Whether it would be much larger one way than the other, or full of edges that pass."""
        if self._count(inside) < FOLDED:
            return False
        length, breadth = [0.0] * len(ranks), [0.0] * len(ranks)
        for name, item in inside.items.items():
            length[ranks[name]] = max(length[ranks[name]], item.along + self.spacing.along)
            breadth[ranks[name]] += item.across + self.spacing.across
        if not TALLEST * sum(length) > max(breadth) > sum(length) / LONGEST:
            return True
        spans: dict[int, int] = {}
        for _, source, target in inside.pieces:
            if source is not None and target is not None:
                spans[source] = max(spans.get(source, 0), ranks[target] - ranks[source])
        return sum(spans.values()) > CROWDED

    def _fold(self, inside: _Inside, rank_of: dict[int, int]) -> None:
        """Lay ranks out as blocks that are read line by line, one after another, in lines if there are many."""
        room, gap = self.spacing.along, self.spacing.across
        for edge, source, target in inside.pieces:
            inside.ways[edge] = []
            if source is not None and target is not None and rank_of[source] < rank_of[target]:
                link = _Link(inside.items[source], inside.items[target], 0.0, 0.0, 1.0, edge)
                link.source.out.append(link)
                link.target.into.append(link)
        ranks: list[list[_Item]] = [[] for _ in range(1 + max(rank_of.values()))]
        for name, item in inside.items.items():
            ranks[rank_of[name]].append(item)
        _follow_arguments(ranks)
        steps = [(max(item.along for item in rank) + gap, max(item.across for item in rank) + gap) for rank in ranks]

        def blocks(most: int) -> Size:
            """How large it is with blocks of so many lines at most."""
            sizes = [(-(-len(rank) // most), min(len(rank), most)) for rank in ranks]
            return (
                sum(columns * step[0] + room for (columns, _), step in zip(sizes, steps, strict=True)),
                max(rows * step[1] for (_, rows), step in zip(sizes, steps, strict=True)),
            )

        most = max(map(len, ranks))
        while most > 1 and blocks(most)[0] <= PLEASANT * blocks(most)[1]:
            most -= -(-most // 10)
        along, across = blocks(most)
        count = max(1, round(math.sqrt(PLEASANT * along / across))) if along > LONGEST * across else 1
        passed, line, start = 0.0, 0, 0.0
        for rank, step in zip(ranks, steps, strict=True):
            if int(passed * count / along) > line:
                line, start = line + 1, 0.0
            columns = -(-len(rank) // most)
            rows = -(-len(rank) // columns)
            for k, item in enumerate(rank):
                item.start = start + (k % columns) * step[0] + (step[0] - gap - item.along) / 2
                item.middle = line * (across + room) + across / 2 + (k // columns - (rows - 1) / 2) * step[1]
            start += columns * step[0] + room
            passed += columns * step[0] + room
        inside.is_folded = True
        inside.size = (max(item.start + item.along for item in inside.items.values()), count * (across + room) - room)

    def _count(self, inside: _Inside) -> int:
        """How many boxes a frame holds, in inner ones too."""
        first = len(self.boxes)
        return sum(1 if name < first else self._count(self.insides[name - first]) for name in inside.items)

    # -- the whole -------------------------------------------------------------------------------------

    def places(self) -> Places:
        count = len(self.boxes)
        at: list[Point] = [(0.0, 0.0)] * count
        corners: list[tuple[Point, Point]] = []
        for number in (None, *range(len(self.frames))):
            inside = self.insides[number]
            if number is not None:
                frame, outer = self.frames[number], self.insides[self.frames[number].parent]
                item = outer.items[count + number]
                along, across = outer.middle(item)
                first = (along - item.along / 2, across - item.across / 2)
                corners.append((first, (along + item.along / 2, across + item.across / 2)))
                inside.corner = (first[0] + frame.before[0], first[1] + frame.before[1])
            for name, item in inside.items.items():
                if name < count:
                    at[name] = inside.middle(item)
        labels: list[Point | None] = [None] * len(self.lines)
        for edge, item in self.labels.items():
            inside = self.insides[self.boxes[self.lines[edge].target].frame]
            if inside.is_folded:
                continue
            along, across = inside.middle(item)
            labels[edge] = (along, across - self.spacing.side * self.spacing.label / 2)
        ways = [self._stops(edge, at[line.source][1]) for edge, line in enumerate(self.lines)]
        routes = []
        for edge, (end, stops) in enumerate(zip(self._ends(at, ways), ways, strict=True)):
            line = self.lines[edge]
            along, across = at[line.source]
            side = along + self.boxes[line.source].size[0] / 2
            whole = [(end[0], end[0], end[1])]
            for start, stop, beside in reversed(stops):
                whole.append((start, stop, whole[-1][2] if beside is None else beside))
            routes.append(_curve([(side, side, across), *reversed(whole)]))
            if labels[edge] is None and line.label and not self.spacing.folds:
                labels[edge] = routes[-1][len(routes[-1]) // 2]
        is_folded = any(inside.is_folded for inside in self.insides.values())
        return Places(at, routes, labels, corners, self.insides[None].size, is_folded)

    def _stops(self, edge: int, across: float) -> list[_Stop]:
        """Return the stops of an edge that begins there, across: it bends between layers only.

        So it goes straight on to the end of its first layer, and from the beginning of its last one; these stops have
        no item: ``None``.
        """
        stops: list[_Stop] = []
        for frame, source, target in self.courses[edge]:
            inside = self.insides[frame]
            first = None if source is None else inside.items[source].layer
            last = None if target is None else inside.items[target].layer
            if inside.is_folded or (first is not None and last is not None and first >= last):
                continue
            begin = inside.corner[0]
            if first is not None:
                end = begin + inside.starts[first] + inside.widths[first]
                stops.append((end, end, across))
            for item in inside.ways[edge]:
                start = begin + inside.starts[item.layer]
                across = inside.corner[1] + item.line
                stops.append((start, start + inside.widths[item.layer], across))
            if last is not None:
                start = begin + inside.starts[last]
                stops.append((start, start, None))
        return stops

    def _ends(self, at: Sequence[Point], ways: Sequence[list[_Stop]]) -> list[Point]:
        """Return where edges end: side by side, in the order in which they come."""
        ends = [(0.0, 0.0)] * len(self.lines)
        into: dict[int, list[int]] = {}
        for edge, line in enumerate(self.lines):
            into.setdefault(line.target, []).append(edge)
        comes_at = [
            next((across for _, _, across in reversed(way) if across is not None), at[line.source][1])
            for way, line in zip(ways, self.lines, strict=True)
        ]
        for target, edges in into.items():
            (along, across), size = at[target], self.boxes[target].size
            edges.sort(key=comes_at.__getitem__)
            gap = min(15.0, 0.7 * size[1] / len(edges))
            for k, edge in enumerate(edges):
                ends[edge] = (along - size[0] / 2, across + gap * (k - (len(edges) - 1) / 2))
        return ends


def _curve(stops: Iterable[tuple[float, float, float]]) -> list[Point]:
    """Return an S from each stop to the next, and a straight line along each; an edge back swings out."""
    straight: list[tuple[float, float, float]] = []
    for first, last, across in stops:
        if straight and abs(straight[-1][2] - across) < NEAR and first >= straight[-1][1]:
            straight[-1] = (straight[-1][0], last, across)
        else:
            straight.append((first, last, across))
    path = [(straight[0][0], straight[0][2])]
    for first, last, across in straight:
        start, before = path[-1]
        if before != across or first < start:
            reach = max(abs(first - start) / 2, 12.0)
            path += [(start + reach, before), (first - reach, across), (first, across)]
        if last > first:
            path += [(first, across), (last, across), (last, across)]
    return path


# -- ranks -------------------------------------------------------------------------------------------


def _ranks(names: Sequence[int], pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return the rank of each box: behind its operands, and no farther from its uses than it need be."""
    operands: dict[int, list[int]] = {name: [] for name in names}
    uses: dict[int, list[int]] = {name: [] for name in names}
    for source, target in dict.fromkeys(pairs):
        operands[target].append(source)
        uses[source].append(target)
    missing = {name: len(operands[name]) for name in names}
    ready = [name for name in names if not missing[name]]
    order: dict[int, int] = {}  # with their places in it
    waiting = iter(names)
    while len(order) < len(names):
        # Boxes that use each other, as modules that are called twice do, are begun with the first.
        name = ready.pop() if ready else next(name for name in waiting if name not in order)
        if name in order:
            continue
        order[name] = len(order)
        for use in uses[name]:
            missing[use] -= 1
            if not missing[use]:
                ready.append(use)
    ranks: dict[int, int] = {}
    for name in order:
        ranks[name] = max([ranks[operand] + 1 for operand in operands[name] if order[operand] < order[name]], default=0)
    for name in reversed(order):
        later = [ranks[use] for use in uses[name] if order[use] > order[name]]
        held = sum(len(uses[operand]) > 1 for operand in operands[name])
        if later and held <= len(later):
            ranks[name] = min(later) - 1
    least = min(ranks.values())
    return {name: rank - least for name, rank in ranks.items()}


# -- order -------------------------------------------------------------------------------------------


def _order(layers: list[list[_Item]]) -> None:
    """Put each layer into the order of arguments, then into one that crosses fewer edges, if there is any."""
    _follow_arguments(layers)
    best, fewest = [layer.copy() for layer in layers], _crossings(layers)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        back = sweep % 2 == 0
        for layer in reversed(layers[:-1]) if back else layers[1:]:
            centers = {item: _center(item.out if back else item.into, item.place, back) for item in layer}
            layer.sort(key=centers.__getitem__)
            _keep_siblings(layer)
        if (count := _crossings(layers)) < fewest:
            best, fewest = [layer.copy() for layer in layers], count
    for layer, order in zip(layers, best, strict=True):
        layer[:] = order


def _follow_arguments(layers: Sequence[list[_Item]]) -> None:
    """Put each layer into the order in which its items are found, through arguments."""
    numbers = _visit([item for layer in layers for item in layer if not item.out])
    for layer in layers:
        layer.sort(key=numbers.__getitem__)
        _keep_siblings(layer)


def _visit(last: Iterable[_Item]) -> dict[_Item, int]:
    """Number items as they are found from the last ones back through their arguments, operands first."""
    numbers: dict[_Item, int] = {}
    begun: set[_Item] = set()
    for root in sorted(last, key=lambda item: item.sibling[1] if item.sibling else 0):
        stack = [(root, iter(root.into))]
        begun.add(root)
        while stack:
            item, links = stack[-1]
            link = next((link for link in links if link.source not in begun), None)
            if link is None:
                numbers[item] = len(numbers)
                stack.pop()
            else:
                begun.add(link.source)
                stack.append((link.source, iter(link.source.into)))
    return numbers


def _keep_siblings(layer: list[_Item]) -> None:
    """Let siblings, and leaves that one box alone uses, take the places that they have in their own order."""
    families: dict[object, list[int]] = {}
    for place, item in enumerate(layer):
        if item.sibling:
            families.setdefault(item.sibling[0], []).append(place)
        elif not item.into and not item.passes and len(item.out) == 1:
            families.setdefault(_use(item), []).append(place)
    for places in families.values():
        if len(places) > 1:
            members = [layer[place] for place in places]
            members.sort(key=lambda item: item.sibling[1] if item.sibling else item.out[0].edge)
            for place, item in zip(places, members, strict=True):
                layer[place] = item
    for place, item in enumerate(layer):
        item.place = place


def _use(leaf: _Item) -> _Item:
    """What uses a leaf, beyond the label of the edge."""
    item = leaf
    while item is leaf or item.port:
        item = item.out[0].target
    return item


def _center(links: Sequence[_Link], place: int, back: bool) -> float:
    """Return the mean place of an item's neighbours along edges on one side; its own if it has none."""
    places = [_spot(link.target, link.meets) if back else _spot(link.source, link.leaves) for link in links]
    return sum(places) / len(places) if places else float(place)


def _spot(item: _Item, across: float) -> float:
    """Where a link meets an item, as a place between that of the item and the next."""
    return item.place + 0.5 + 0.9 * across / (item.across or 1.0)


def _crossings(layers: Sequence[Sequence[_Item]]) -> int:
    count = 0
    for layer in layers:
        met: list[float] = []
        for link in sorted(
            [link for item in layer for link in item.into],
            key=lambda link: (_spot(link.source, link.leaves), _spot(link.target, link.meets)),
        ):
            spot = _spot(link.target, link.meets)
            count += len(met) - bisect_right(met, spot)
            insort(met, spot)
    return count


# -- places ------------------------------------------------------------------------------------------


def _pull(layer: Sequence[_Item], offsets: Sequence[float], *, into: bool, out: bool) -> None:
    """Move the items of a layer towards their neighbours along edges, before and after."""
    wishes = []
    for item in layer:
        weight = wish = 0.0
        for link in item.into if into else ():
            weight += link.weight
            wish += link.weight * (link.source.middle + link.leaves - link.meets)
        for link in item.out if out else ():
            weight += link.weight
            wish += link.weight * (link.target.middle + link.meets - link.leaves)
        wishes.append((wish / weight, weight) if weight else (item.middle, LOOSE))
    _move(layer, offsets, wishes)


def _straighten(layer: Sequence[_Item], offsets: Sequence[float]) -> None:
    """Move items with one edge from before to where that is straight; the others only to make room."""
    wishes = []
    for item in layer:
        if len(item.into) == 1:
            (link,) = item.into
            wishes.append((link.source.middle + link.leaves - link.meets, link.weight))
        else:
            wishes.append((item.middle, 1.0))
    _move(layer, offsets, wishes)


def _move(layer: Sequence[_Item], offsets: Sequence[float], wishes: Sequence[tuple[float, float]]) -> None:
    """Move items towards their wishes in order: the minimum of the weighted sum of squared distances.

    With the room between neighbours subtracted, places need only grow; so the best ones are an isotonic
    regression, found by pooling neighbours that would overtake each other (Barlow et al., Statistical inference
    under order restrictions, 1972).
    """
    pools: list[tuple[float, float, int]] = []  # the sum of weighted wishes, of weights, and how many items share it
    for (wish, weight), offset in zip(wishes, offsets, strict=True):
        pools.append((weight * (wish - offset), weight, 1))
        while len(pools) > 1 and pools[-2][0] * pools[-1][1] > pools[-1][0] * pools[-2][1]:
            (a, b, c), (d, e, f) = pools[-2:]
            pools[-2:] = [(a + d, b + e, c + f)]
    place = 0
    for total, weight, count in pools:
        for _ in range(count):
            layer[place].middle = total / weight + offsets[place]
            place += 1
