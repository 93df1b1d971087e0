"""The nodes, edges and clusters of a picture of a computation graph, as plain data.

Nothing here depends on Graphviz, SVG or HTML: the static picture and the interactive page are both
made from a ``Graph``. A picture need not show every Value separately: ``extract`` can draw many as one box.
To do so it only decides which Values share a box; the numbers on the edges follow by the chain rule.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from microgrid.drawing.faults import begins_not_finite, gradients_beyond, out_of_date
from microgrid.drawing.rounding import Numbers
from microgrid.engine import Value, topological_order
from microgrid.ops import CONSTANT, short_repr
from microgrid.reverse import live_nodes

OUTLINE_MODULES = 24
"""The most modules that an outline opens; with more, it shows the modules around them."""

MANY = 20_000
"""With more Values than this, slow steps are left out: folding, and finding numbers that are mere rounding."""

REMARKS = 2
"""The most remarks in a box."""

OUTSIDE = -1

OUTLINE_STAGES = 10
"""The number of stages into which the outline divides a graph without modules."""


@dataclass(frozen=True, slots=True)
class Node:
    """One box of a picture: one Value, or several drawn as one.

    Attributes:
        values: the Values it stands for, in topological order; usually one.
        exits: those of them that are used outside the box, or are outputs; for one Value, itself.
        kind: ``"input"`` (a leaf), ``"parameter"`` (a leaf that a module trains), ``"constant"``,
            ``"operation"``, or ``"group"`` for several Values drawn as one.
        title: the name of a group; empty for a single Value, which has its own label.
        path: the dotted name of the module that a group stands for; empty if it stands for none.
        cluster: the index in ``Graph.clusters`` of the inmost cluster around it, or ``None``.
        is_output: whether it holds an output of the picture.
        is_marked: whether it is marked.
        hidden_operands, hidden_uses: how many edges from and to this node lie outside the picture.
        data: the least and the largest number among the exits, with mere rounding noise as 0.
        gradient: the same of the gradients.
        remarks: their known faults, in words.
    """

    values: tuple[Value, ...]
    exits: tuple[Value, ...]
    kind: str
    title: str = ""
    path: str = ""
    cluster: int | None = None
    is_output: bool = False
    is_marked: bool = False
    hidden_operands: int = 0
    hidden_uses: int = 0
    data: tuple[float, float] = (0.0, 0.0)
    gradient: tuple[float, float] = (0.0, 0.0)
    remarks: tuple[str, ...] = ()

    @property
    def value(self) -> Value | None:
        """The one Value that comes out of the box; ``None`` for a group with several results."""
        return self.exits[0] if len(self.exits) == 1 else None


@dataclass(frozen=True, slots=True)
class Edge:
    """One use of an operand: ``x * x`` has two edges from ``x``. Next to a group, all uses form one edge.

    Attributes:
        source: the index of the operand in ``Graph.nodes``.
        target: the index of the result.
        argument: which argument of the operation it is, from 0.
        derivative: the local derivative ∂target/∂source for this argument; through a group with one
            result, by the chain rule; ``None`` where an end of the edge has several results.
        flow: the gradient that flows back along it: the gradient of the target × the local derivative;
            ``None`` where several results of a group flow back as one.
        count: how many uses are drawn as this one.
    """

    source: int
    target: int
    argument: int = 0
    derivative: float | None = None
    flow: float | None = None
    count: int = 1


Sibling = tuple[str, int]
"""The dotted name of the list that holds sibling modules, and the place of one in it."""


def sibling(path: str) -> Sibling | None:
    """Return the place of a module among its siblings, ``("MLP.layers.0.neurons", 3)``, if it has a number."""
    family, _, name = path.rpartition(".")
    return (family, int(name)) if name.isdigit() else None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A frame around the nodes of a neuron, a layer or a network.

    Attributes:
        title: its name, ``"Neuron 3"``.
        path: its dotted name from the module that the user called, ``"MLP.layers.0.neurons.3"``.
        parent: the index in ``Graph.clusters`` of the frame around it, or ``None``.
    """

    title: str
    path: str
    parent: int | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """The content of a picture.

    Attributes:
        nodes: in topological order: every edge leads to a later node (unless groups make a cycle).
        edges: in the order of their targets, and of the arguments of these; into groups, of first use.
        clusters: outer ones first.
        total: how many Values the whole computation graph has, drawn or not.
        is_outline: whether it was too large, and groups stand for its parts.
        is_out_of_date: whether the data of an operand was changed since its results were computed.
    """

    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    total: int = 0
    is_outline: bool = False
    is_out_of_date: bool = False

    @property
    def has_gradients(self) -> bool:
        """Whether there is any gradient to show."""
        return any(any(node.gradient) for node in self.nodes)


@dataclass(frozen=True, slots=True)
class _Frame:
    """A module that was called, by its dotted name."""

    path: str
    title: str


@dataclass(eq=False, slots=True)
class _Group:
    """Values that share a box, within the given frames."""

    title: str
    frames: tuple[_Frame, ...] = ()
    path: str = ""


_Frames = dict[Value, tuple[_Frame, ...]]
_Groups = dict[Value, _Group]


def extract(
    outputs: Sequence[Value],
    *,
    depth: int | None = None,
    focus: Value | None = None,
    radius: int = 2,
    fold: int | None = None,
    limit: int | None = None,
    marks: Mapping[Value, Sequence[str]] = MappingProxyType({}),
) -> Graph:
    """Return the graph of everything that the outputs depend on.

    Args:
        outputs: the Values to draw.
        depth: how many levels of modules are open; one below is one box. 0: the network is one box;
            1: each of its layers is; ``None``: every level is open.
        focus: draw only what is at most ``radius`` edges from this Value, on either side.
        radius: see ``focus``.
        fold: of an operation with more operands than this, draw alike ones as one box; ``None``: never.
        limit: with more boxes than this, return the outline instead; ``None``: never.
        marks: Values to mark, with a text for each; ``focus`` unless there are any.

    Raises:
        ValueError: if the outputs do not depend on ``focus``, or a number is below its least.
        TypeError: if a label is not text, or a number is not a whole one.
    """
    check_whole("radius", radius, 0, "1 to draw what is next to focus")
    if depth is not None:
        check_whole("depth", depth, 0, "None to open every module")
    if fold is not None:
        check_whole("fold", fold, 1, "None to draw every operand by itself")
    if limit is not None:
        check_whole("limit", limit, 1, "None to draw the whole graph")
    everything = order = topological_order(*outputs)
    for node in everything:
        if not isinstance(node.label, str):
            raise TypeError(f"the label of {node!r} must be text; got {node.label!r:.80}")
    if focus is not None and not any(node is focus for node in everything):
        raise ValueError(
            f"focus={short_repr(focus)} is not in the graph that is drawn: give a Value that the output depends on"
        )
    frames = _frames_around(order)
    if focus is not None:
        order = _neighborhood(order, focus, radius)
    groups: _Groups = {} if depth is None else _collapse(order, frames, depth)
    if fold is not None and len(order) <= MANY:
        _fold(order, groups, frames, fold)
    is_outline = limit is not None and _boxes(order, groups) > limit
    if is_outline:
        groups = _outline(order, outputs, frames, depth)
    return _Builder(order, groups, frames).build(
        everything, outputs, marks or ({} if focus is None else {focus: ()}), is_outline
    )


def check_whole(name: str, given: Any, least: int, remedy: str) -> None:
    """Raise an error, with a remedy, unless ``given`` is a whole number of at least ``least``."""
    is_whole = hasattr(type(given), "__index__") and not isinstance(given, bool)
    if not is_whole or given < least:
        error = ValueError if is_whole else TypeError
        raise error(f"{name} must be a whole number, {least} or more; got {short_repr(given)}: give {remedy}")


def exceeds(value: Value, limit: int) -> bool:
    """Return whether a graph has more than ``limit`` nodes, without walking further than that."""
    seen = {value}
    stack = [value]
    while stack and len(seen) <= limit:
        new = set(stack.pop().parents) - seen
        seen |= new
        stack.extend(new)
    return len(seen) > limit


def _frames_around(order: Sequence[Value]) -> _Frames:
    """Return, for each node that modules made, the frames of these modules, outer ones first."""
    if not any(node.origin is not None and node.origin.module is not None for node in order):
        return {}
    from microgrid.calls import makers  # pictures of plain expressions need no layers

    made_by = makers(order)
    known: dict[Any, tuple[_Frame, ...]] = {}
    for call in {call for call in made_by.values() if call is not None}:
        chain = [call]
        while chain[-1].outer is not None:
            chain.append(chain[-1].outer)
        known[call] = tuple([_Frame(each.path, each.title) for each in reversed(chain)])
    return {node: known[call] for node, call in made_by.items() if call is not None}


# ---------------------------------------------------------------------------------------------------
# The Values that are drawn, and those that share a box


def _neighborhood(order: list[Value], focus: Value, radius: int) -> list[Value]:
    uses: dict[Value, list[Value]] = {node: [] for node in order}
    for node in order:
        for parent in node.parents:
            uses[parent].append(node)
    near = rim = {focus}
    for _ in range(radius):
        rim = {other for node in rim for other in (*node.parents, *uses[node])} - near
        near = near | rim
    return [node for node in order if node in near]


def _collapse(order: Sequence[Value], frames: _Frames, depth: int) -> _Groups:
    """Put the nodes of each module below a depth into one box."""
    boxes: dict[_Frame, _Group] = {}
    groups = {}
    for node in order:
        around = frames.get(node, ())
        if len(around) > depth:
            frame = around[depth]
            if frame not in boxes:
                boxes[frame] = _Group(frame.title, around[:depth], frame.path)
            groups[node] = boxes[frame]
    return groups


def _fold(order: Sequence[Value], groups: _Groups, frames: _Frames, most: int) -> None:
    """Put alike operands of one operation into one box: of w₀x₀ + ⋯ + w₆₃x₆₃ the middle.

    Operands are alike if the same operation made them from the same kinds of operands, and nothing else
    uses them. Nodes that only they use go with them, so a term takes its weight along. Then the operands of
    the folded nodes share a box too, unless something that is still drawn uses them.
    """
    users: dict[Value, list[Value]] = {node: [] for node in order}
    for node in order:
        for parent in node.parents:
            if parent in users:
                users[parent].append(node)
    folded: set[_Group | None] = set()

    def fold(nodes: list[Value]) -> None:
        if len(nodes) > 1:
            group = _Group(f"{len(nodes)} more", frames.get(nodes[0], ()))
            folded.add(group)
            groups.update(dict.fromkeys(nodes, group))

    for node in reversed(order):
        if len(node.parents) > most and node not in groups:
            alike: dict[Any, list[Value]] = {}
            for parent in node.parents:
                if parent not in groups and len(users.get(parent, ())) == 1:
                    alike.setdefault((parent.op, *[operand.op for operand in parent.parents]), []).append(parent)
            for terms in alike.values():
                fold(terms[most // 2 : -1])
    together: dict[Any, list[Value]] = {}
    for node in reversed(order):
        boxes = {groups.get(user) for user in users[node]}
        if node not in groups and boxes and None not in boxes:
            (box, *others), around = boxes, frames.get(node, ())
            if box in folded and not others and box is not None and around == box.frames:
                groups[node] = box
            else:
                together.setdefault((frozenset(boxes), node.op, around), []).append(node)
    for (boxes, *_), nodes in together.items():
        nodes.reverse()
        if boxes <= folded:
            fold(nodes)
        elif len(nodes) > most:
            fold(nodes[most // 2 : -1])


def _boxes(order: Sequence[Value], groups: _Groups) -> int:
    return len(order) - len(groups) + len(set(groups.values()))


def _outline(order: Sequence[Value], outputs: Sequence[Value], frames: _Frames, depth: int | None) -> _Groups:
    """Put every Value but the outputs into one of a few boxes: modules, or stages where there are none."""
    apart = set(outputs) if len(outputs) <= OUTLINE_MODULES else set()
    if not frames:
        groups = _stages(order)
    else:
        levels = Counter(
            {frame: level for around in set(frames.values()) for level, frame in enumerate(around)}.values()
        )
        deepest = max([level for level in levels if levels[level] <= OUTLINE_MODULES], default=0)
        level = deepest if depth is None else min(deepest, depth)
        boxes: dict[_Frame, _Group] = {}
        groups = {
            node: boxes.setdefault(frame := around[: level + 1][-1], _Group(frame.title, around[:level], frame.path))
            for node, around in frames.items()
        }
        inputs, before, after = (_Group(title) for title in ("inputs", "before the modules", "after the modules"))
        behind = {after, *boxes.values()}
        for node in order:
            if node not in groups and node.first is not None:
                groups[node] = before if behind.isdisjoint([groups.get(p, inputs) for p in node.parents]) else after
            elif node not in groups and node.op is not CONSTANT:
                groups[node] = inputs
    for node in reversed(order):  # a constant goes with its use
        for parent in node.parents:
            if parent.op is CONSTANT and node in groups:
                groups.setdefault(parent, groups[node])
    sizes_of = Counter(groups.values())
    return {node: group for node, group in groups.items() if node not in apart and sizes_of[group] > 1}


def _stages(order: Sequence[Value]) -> _Groups:
    """Put the operations into boxes by how many operations lie before them."""
    steps: dict[Value, int] = {}
    for node in order:
        if node.first is not None:
            steps[node] = 1 + max([steps.get(parent, 0) for parent in node.parents])
    last = max(steps.values(), default=0)
    size = -(-last // OUTLINE_STAGES) or 1
    stages = [
        _Group(f"steps {1 + size * i:,} to {min(last, size * (i + 1)):,}" if size > 1 else f"step {i + 1}")
        for i in range(OUTLINE_STAGES)
    ]
    inputs = _Group("inputs")
    return {
        node: stages[(steps[node] - 1) // size] if node in steps else inputs
        for node in order
        if node.op is not CONSTANT
    }


# ---------------------------------------------------------------------------------------------------
# From boxes to nodes and edges


class _Builder:
    """Makes nodes, edges and clusters of the Values that are drawn and the groups that share a box."""

    def __init__(self, order: Sequence[Value], groups: _Groups, frames: _Frames) -> None:
        self.order = order
        self.groups = groups
        self.frames = frames
        self.members: dict[Value | _Group, list[Value]] = {}
        for node in order:
            self.members.setdefault(groups.get(node, node), []).append(node)
        # A box takes the place of its last member: after all its operands.
        place = {node: i for i, node in enumerate(order)}
        boxes = sorted(self.members, key=lambda box: place[self.members[box][-1]])
        self.index = {box: i for i, box in enumerate(boxes)}
        self.box_of = {node: self.index[groups.get(node, node)] for node in order}
        self.cluster_of: dict[_Frame, int] = {}
        self.clusters: list[Cluster] = []

    def build(
        self,
        everything: Sequence[Value],
        outputs: Sequence[Value],
        marks: Mapping[Value, Sequence[str]],
        is_outline: bool,
    ) -> Graph:
        box_of, wanted = self.box_of, set(outputs)
        exits = wanted & box_of.keys()
        uses: Counter[tuple[int, int]] = Counter()
        hidden_operands: Counter[int] = Counter()
        hidden_uses: Counter[int] = Counter()
        for node in everything:
            target = box_of.get(node, OUTSIDE)
            for parent in node.parents:
                source = box_of.get(parent, OUTSIDE)
                if source == target:
                    pass
                elif source == OUTSIDE:
                    hidden_operands[target] += 1
                elif target == OUTSIDE:
                    hidden_uses[source] += 1
                else:
                    exits.add(parent)
                    uses[target, source] += 1
        # Where no output has a gradient, those of its operands are of another output.
        ran = any(output.grad or output.is_leaf for output in outputs)
        numbers = Numbers(
            self.order if len(self.order) <= MANY else (), live_nodes(list(everything), outputs) if ran else ()
        )
        changed = out_of_date(everything) if len(everything) <= MANY else {}
        remarks = [changed]
        if len(everything) <= MANY:
            remarks.append(begins_not_finite(everything, numbers))
            if ran and not changed:
                remarks.append(gradients_beyond(everything, outputs, numbers))
        nodes = []
        for group, i in self.index.items():
            values = tuple(self.members[group])
            shown = tuple([value for value in values if value in exits]) or values[-1:]
            is_group = isinstance(group, _Group)
            nodes.append(
                Node(
                    values,
                    shown,
                    "group" if is_group else self.kind(values[0]),
                    group.title if isinstance(group, _Group) else "",
                    group.path if isinstance(group, _Group) else "",
                    self.cluster(group.frames if isinstance(group, _Group) else self.frames.get(values[0], ())),
                    is_output=not wanted.isdisjoint(values),
                    is_marked=not marks.keys().isdisjoint(values),
                    hidden_operands=hidden_operands[i],
                    hidden_uses=hidden_uses[i],
                    data=_extent(map(numbers.data, shown)),
                    gradient=_extent(map(numbers.gradient, shown)) if ran else (0.0, 0.0),
                    remarks=(
                        *dict.fromkeys(text for value in values for text in marks.get(value, ())),
                        *[said[value] for said in remarks for value in values if value in said],
                    )[:REMARKS],
                )
            )
        # An outline is of a large graph: the numbers of its edges would take long, and be too many to mean much.
        if is_outline:
            edges = [Edge(source, target, count=count) for (target, source), count in sorted(uses.items())]
        else:
            edges = self.edges(nodes, numbers)
        return Graph(tuple(nodes), tuple(edges), tuple(self.clusters), len(everything), is_outline, bool(changed))

    def kind(self, value: Value) -> str:
        if value.first is not None:
            return "operation"
        return "constant" if value.op is CONSTANT else "parameter" if self.frames.get(value) else "input"

    def cluster(self, frames: Sequence[_Frame]) -> int | None:
        parent = None
        for frame in frames:
            if frame not in self.cluster_of:
                self.cluster_of[frame] = len(self.clusters)
                self.clusters.append(Cluster(frame.title, frame.path, parent))
            parent = self.cluster_of[frame]
        return parent

    def edges(self, nodes: Sequence[Node], numbers: Numbers) -> list[Edge]:
        """Return the edges with their numbers: through groups by the chain rule, sums over merged ones."""
        found: list[Edge] = []
        for target, box in enumerate(nodes):
            # The derivative of the box's result by each of its members, from the result back.
            through = {box.exits[0]: 1.0}
            into: dict[tuple[int, int], Edge] = {}
            first_use: dict[tuple[int, int], tuple[int, int]] = {}
            for step in reversed(range(len(box.values))):
                node = box.values[step]
                by_node = through.get(node, 0.0)
                for argument, (parent, derivative, flow) in enumerate(
                    zip(node.parents, numbers.local_derivatives(node), numbers.flows(node), strict=True)
                ):
                    source = self.box_of.get(parent)
                    if source == target:
                        through[parent] = through.get(parent, 0.0) + by_node * derivative
                    elif source is not None:
                        one_way_in, one_way_out = len(nodes[source].exits) == 1, len(box.exits) == 1
                        edge = Edge(
                            source,
                            target,
                            argument,
                            by_node * derivative if one_way_in and one_way_out else None,
                            flow if one_way_in else None,
                        )
                        apart = box.kind != "group" and nodes[source].kind != "group"
                        use = (source, argument if apart else -1)
                        into[use] = _merge(into[use], edge) if use in into else edge
                        first_use[use] = min(first_use.get(use, (step, argument)), (step, argument))
            found.extend(into[use] for use in sorted(into, key=first_use.__getitem__))
        return found


def _merge(a: Edge, b: Edge) -> Edge:
    derivative = None if a.derivative is None or b.derivative is None else a.derivative + b.derivative
    flow = None if a.flow is None or b.flow is None else a.flow + b.flow
    return Edge(a.source, a.target, min(a.argument, b.argument), derivative, flow, a.count + b.count)


def _extent(numbers: Iterable[float]) -> tuple[float, float]:
    known = list(numbers)
    return min(known), max(known)
