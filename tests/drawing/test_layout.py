"""Where things stand, measured in the SVG and on the page: order, labels, frames, what edges pass."""

import math
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgrid import losses, ops
from microgrid.drawing import draw
from microgrid.drawing.graph import Cluster, Graph, Node, extract
from microgrid.drawing.layering import Box, Frame, Line, Spacing, place
from microgrid.drawing.layout import Layout
from microgrid.drawing.text import columns
from microgrid.engine import Value
from microgrid.nn import MLP, Layer, Module, Neuron

SVG = "{http://www.w3.org/2000/svg}"
DIRECTIONS = ["LR", "TB", "RL", "BT"]


def neuron():
    x1, x2, w1, w2, b = (
        Value(x, name) for name, x in zip(("x1", "x2", "w1", "w2", "b"), (2, 0, -3, 1, 6.88), strict=True)
    )
    return ops.tanh(x1 * w1 + x2 * w2 + b)


def loss_of(sizes, inputs=2, samples=1):
    model = MLP(inputs, sizes, seed=1)
    rows = [[Value(0.5 * i - s, f"x{i}") for i in range(inputs)] for s in range(samples)]
    outputs = [model(row) for row in rows]
    return ops.total((y - 1.0) ** 2 for row in outputs for y in (row if isinstance(row, list) else [row]))


def cross_entropy(classes):
    return losses.cross_entropy([Value(0.3 * i * (-1) ** i, f"z{i}") for i in range(classes)], 1)


PICTURES = {
    "neuron": (neuron, {}),
    "neuron, down": (neuron, {"direction": "TB"}),
    "softmax of 3": (lambda: cross_entropy(3), {}),
    "softmax of 10": (lambda: cross_entropy(10), {}),
    "MLP": (lambda: loss_of([4, 4, 1]), {}),
    "MLP, its neurons": (lambda: loss_of([4, 4, 1]), {"depth": 2}),
    "MLP, its layers": (lambda: loss_of([4, 4, 1]), {"depth": 1}),
    "MLP, down": (lambda: loss_of([2, 2, 1]), {"direction": "TB"}),
    "MLP, two samples": (lambda: loss_of([3, 2], samples=2), {"fold": None}),
    "MLP, to the left": (lambda: loss_of([5, 5, 1]), {"direction": "RL", "depth": 2}),
    "MLP, eight neurons": (lambda: loss_of([8, 1]), {"direction": "BT", "depth": 2}),
}


# -- measuring ---------------------------------------------------------------------------------------


class Drawn:
    """A picture as it is measured: boxes, frames, edges and labels in points, y down."""

    def __init__(self, output, **options):
        self.axis = int(options.get("direction", "LR") in ("TB", "BT"))
        limits = {name: options[name] for name in ("depth", "fold") if name in options}
        self.graph = extract([output], **{"fold": 8, **limits})
        self.boxes, self.frames, self.paths, self.labels = {}, {}, {}, {}
        for group in ElementTree.fromstring(draw(output, **options).svg).iter(f"{SVG}g"):
            kind, index = group.get("id", "")[:1], group.get("id", "")[1:]
            if index.isdigit() and kind in "vce":
                getattr(self, {"v": "node", "c": "frame", "e": "edge"}[kind])(int(index), group)

    def node(self, index, group):
        self.boxes[index] = around(group)

    def frame(self, index, group):
        self.frames[index] = around(group)

    def edge(self, index, group):
        self.paths[index] = sampled(next(group.iter(f"{SVG}path")).get("d"))
        texts = [text_box(text) for text in group.iter(f"{SVG}text") if "".join(text.itertext()).strip()]
        if texts:
            left, top, right, bottom = zip(*texts, strict=True)
            self.labels[index] = (min(left), min(top), max(right), max(bottom))


def around(group):
    """The corners of the shape that a group draws first."""
    shape = next(element for element in group.iter() if element.tag in (f"{SVG}path", f"{SVG}polygon"))
    numbers = [float(x) for x in re.findall(r"-?[\d.]+", shape.get("d") or shape.get("points"))]
    return min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])


def sampled(path):
    """Points of a Bézier path, two points apart or less."""
    numbers = [float(x) for x in re.findall(r"-?[\d.]+", path)]
    points = list(zip(numbers[::2], numbers[1::2], strict=True))
    return sampled_curve(points)


def sampled_curve(points):
    found = [points[0]]
    for i in range(0, len(points) - 1, 3):
        a, b, c, d = points[i : i + 4]
        steps = 2 + int(sum(math.dist(p, q) for p, q in pairwise((a, b, c, d))) / 2)
        for k in range(1, steps + 1):
            t, u = k / steps, 1 - k / steps
            found.append(tuple(u**3 * a[j] + 3 * u * u * t * b[j] + 3 * u * t * t * c[j] + t**3 * d[j] for j in (0, 1)))
    return found


def text_box(text):
    size, width = float(text.get("font-size")), columns("".join(text.itertext()).strip("\xa0 "))
    left, baseline = float(text.get("x")), float(text.get("y"))
    indent = columns("".join(text.itertext())) - columns("".join(text.itertext()).lstrip("\xa0 "))
    return left + 0.6 * size * indent, baseline - 0.72 * size, left + 0.6 * size * (indent + width), baseline


def distance(box, path):
    """How far a path is from a box."""
    left, top, right, bottom = box
    return min(math.hypot(max(left - x, 0, x - right), max(top - y, 0, y - bottom)) for x, y in path)


def share_covered(box, path):
    left, top, right, bottom = box
    return sum(left < x < right and top < y < bottom for x, y in path) / len(path)


def side_by_side(a, b, axis):
    """Whether two boxes share a part of the way along: then they stand one beside the other."""
    return a[axis] < b[axis + 2] and b[axis] < a[axis + 2]


def families(graph, boxes, frames):
    """The modules of each kind within one frame, as pairs of index and corners."""
    found = defaultdict(list)
    for i, node in enumerate(graph.nodes):
        if node.kind == "group" and node.title.rpartition(" ")[2].isdigit():
            kind, _, number = node.title.rpartition(" ")
            found[node.cluster, kind].append((int(number), boxes[i]))
    for i, cluster in enumerate(graph.clusters):
        kind, _, number = cluster.title.rpartition(" ")
        if number.isdigit() and frames.get(i):
            found[cluster.parent, kind].append((int(number), frames[i]))
    return [sorted(members) for members in found.values()]


def own_leaves(graph, boxes):
    """The leaves that one operation alone uses, in the order of its arguments."""
    uses = Counter(edge.source for edge in graph.edges)
    found = defaultdict(list)
    for i, edge in enumerate(graph.edges):
        source = graph.nodes[edge.source]
        if uses[edge.source] == 1 and source.kind in ("input", "parameter", "constant"):
            found[edge.target, source.cluster].append((i, boxes[edge.source]))
    return list(found.values())


def out_of_order(sequences, axis):
    """The pairs of neighbours in one rank of which the later stands first."""
    return [
        (a, b)
        for members in sequences
        for (_, a), (_, b) in pairwise(members)
        if side_by_side(a, b, axis) and a[1 - axis] + a[3 - axis] > b[1 - axis] + b[3 - axis]
    ]


def of_page(layout):
    boxes = {
        i: (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        for i, ((x, y), (w, h)) in enumerate(zip(layout.at, layout.sizes, strict=True))
    }
    return boxes, dict(enumerate(layout.frames))


# -- order -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("picture", PICTURES)
def test_siblings_stand_by_index_and_leaves_by_argument(picture):
    make, options = PICTURES[picture]
    drawn = Drawn(make(), **options)
    assert out_of_order(families(drawn.graph, drawn.boxes, drawn.frames), drawn.axis) == []
    assert out_of_order(own_leaves(drawn.graph, drawn.boxes), drawn.axis) == []
    if drawn.graph.clusters:
        assert (
            any(len(members) > 1 for members in families(drawn.graph, drawn.boxes, drawn.frames))
            or options["depth"] == 1
        )


@pytest.mark.parametrize("picture", PICTURES)
def test_on_the_page_they_stand_in_the_same_order(picture):
    make, options = PICTURES[picture]
    layout = Layout(extract([make()], depth=options.get("depth")), options.get("direction", "LR"))
    axis = int(options.get("direction") in ("TB", "BT"))
    boxes, frames = of_page(layout)
    assert out_of_order(families(layout.graph, boxes, frames), axis) == []
    assert out_of_order(own_leaves(layout.graph, boxes), axis) == []


def test_operands_of_the_neuron_stand_in_one_column_as_they_are_written():
    output = neuron()
    for boxes, graph in (
        (Drawn(output).boxes, extract([output])),
        (of_page(layout := Layout(extract([output]), "LR"))[0], layout.graph),
    ):
        height = {node.values[0].label: boxes[i][1] for i, node in enumerate(graph.nodes)}
        assert height["x1"] < height["w1"] < height["x2"] < height["w2"]


trees = st.recursive(
    st.builds(Value, st.floats(-2, 2)),
    lambda inner: st.lists(inner, min_size=2, max_size=3).map(ops.total) | inner.map(ops.sin),
    max_leaves=25,
)


@given(trees, st.sampled_from(DIRECTIONS))
def test_a_formula_is_drawn_without_crossings_its_operands_in_order(output, direction):
    layout = Layout(extract([output]), direction)
    axis = int(direction in ("TB", "BT"))
    boxes, _ = of_page(layout)
    ends = defaultdict(list)
    for edge in layout.graph.edges:
        ends[edge.target].append((edge.argument, boxes[edge.source]))
    assert out_of_order([sorted(operands, key=lambda o: o[0]) for operands in ends.values()], axis) == []
    starts = defaultdict(list)  # in one rank, edges end in the order in which they start
    for edge in layout.graph.edges:
        source, target = boxes[edge.source], boxes[edge.target]
        starts[round(source[axis] + source[axis + 2]), round(target[axis] + target[axis + 2])].append(
            (source[1 - axis] + source[3 - axis], target[1 - axis] + target[3 - axis])
        )
    for pairs in starts.values():
        ordered = [end for _, end in sorted(pairs)]
        assert ordered == sorted(ordered)


@pytest.mark.parametrize("neurons", [2, 5, 12, 30])
def test_a_layer_lists_its_neurons_in_order_open_or_closed(neurons):
    output = ops.total(Layer(3, neurons, seed=0)([Value(float(i), f"x{i}") for i in range(3)]))
    for depth in (None, 1):
        layout = Layout(extract([output], depth=depth), "LR")
        boxes, frames = of_page(layout)
        (members,) = [m for m in families(layout.graph, boxes, frames) if len(m) > 1]
        assert len(members) == neurons
        lines = [(top, left) for _, (left, top, _, _) in members]
        assert lines == sorted(lines)


# -- labels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("picture", PICTURES)
def test_each_label_stands_nearest_to_its_own_edge_and_covers_little_of_it(picture):
    make, options = PICTURES[picture]
    output = make()
    output.backward()
    drawn = Drawn(output, **options)
    assert drawn.labels
    foreign = [
        i
        for i, label in drawn.labels.items()
        if any(distance(label, path) < distance(label, drawn.paths[i]) for j, path in drawn.paths.items() if j != i)
    ]
    assert len(foreign) <= 0.02 * len(drawn.labels), f"{len(foreign)} of {len(drawn.labels)}"
    assert max(share_covered(label, drawn.paths[i]) for i, label in drawn.labels.items()) <= 1 / 3
    assert max(distance(label, drawn.paths[i]) for i, label in drawn.labels.items()) < 9


@pytest.mark.parametrize("picture", PICTURES)
def test_labels_and_boxes_do_not_lie_on_one_another(picture):
    make, options = PICTURES[picture]
    output = make()
    output.backward()
    drawn = Drawn(output, **options)
    things = [*drawn.boxes.values(), *drawn.labels.values()]
    for i, a in enumerate(things):
        for b in things[:i]:
            assert not (side_by_side(a, b, 0) and side_by_side(a, b, 1)), (a, b)


# -- frames and edges --------------------------------------------------------------------------------


def holds(outer, inner):
    return all(outer[k] <= inner[k] + 0.1 and outer[k + 2] >= inner[k + 2] - 0.1 for k in (0, 1))


def check_frames(graph, boxes, frames):
    assert len(frames) == len(graph.clusters)
    around_node = [set() for _ in graph.nodes]
    for i, node in enumerate(graph.nodes):
        cluster = node.cluster
        while cluster is not None:
            around_node[i].add(cluster)
            cluster = graph.clusters[cluster].parent
    for number, frame in frames.items():
        for i, box in boxes.items():
            if number in around_node[i]:
                assert holds(frame, box)
            else:
                assert not (side_by_side(frame, box, 0) and side_by_side(frame, box, 1))


@pytest.mark.parametrize("picture", PICTURES)
def test_each_module_has_a_frame_that_holds_its_boxes_and_no_others(picture):
    make, options = PICTURES[picture]
    drawn = Drawn(make(), **options)
    check_frames(drawn.graph, drawn.boxes, drawn.frames)


@pytest.mark.parametrize(
    ("sizes", "inputs", "samples"), [([16, 8, 1], 2, 1), ([16, 16, 1], 2, 2), ([12, 1], 30, 1), ([3, 1], 2, 1)]
)
@pytest.mark.parametrize("direction", ["LR", "TB"])
def test_on_the_page_no_frame_is_dropped_however_large_the_network(sizes, inputs, samples, direction):
    layout = Layout(extract([loss_of(sizes, inputs, samples)]), direction)
    check_frames(layout.graph, *of_page(layout))


def test_modules_that_are_called_again_with_what_they_gave_have_frames_of_their_own():
    class Twice(Module):
        def __init__(self):
            self.cell = Neuron(1, seed=0)
            self.between = Neuron(1, seed=1)

        def forward(self, x):
            return self.cell([self.between([self.cell(x)])])

    cell, state = MLP(2, [2, 1], seed=0), Value(0.0, "h")
    for x in (1.0, 2.0, 3.0):
        state = ops.tanh(cell([Value(x), state]))
    for output in (Twice()([Value(1.0, "x")]), state):
        drawn = Drawn(output)
        check_frames(drawn.graph, drawn.boxes, drawn.frames)
        assert len(drawn.paths) == len(drawn.graph.edges)
        check_frames(*((layout := Layout(drawn.graph, "LR")).graph, *of_page(layout)))


@pytest.mark.parametrize("picture", PICTURES)
def test_edges_go_around_the_boxes_between(picture):
    make, options = PICTURES[picture]
    drawn = Drawn(make(), **options)
    for i, edge in enumerate(drawn.graph.edges):
        for j, (left, top, right, bottom) in drawn.boxes.items():
            if j not in (edge.source, edge.target):
                assert not any(left < x < right and top < y < bottom for x, y in drawn.paths[i]), (edge, j)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=30), st.sampled_from(DIRECTIONS)
)
def test_in_any_graph_boxes_are_apart_and_edges_join_them(pairs, direction):
    values = [Value(0.5)]
    for a, b in pairs:
        values.append(values[a % len(values)] * values[-1] + values[b % len(values)])
    layout = Layout(extract([values[-1]]), direction)
    axis, sign = {"LR": (0, 1), "RL": (0, -1), "TB": (1, 1), "BT": (1, -1)}[direction]
    boxes = sorted(of_page(layout)[0].values())
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            if b[0] >= a[2]:
                break
            assert not side_by_side(a, b, 1)
    for edge, route in zip(layout.graph.edges, layout.routes, strict=True):
        for end, at, way in ((route[0], edge.source, 1), (route[-1], edge.target, -1)):
            side = layout.at[at][axis] + way * sign * layout.sizes[at][axis] / 2
            assert end[axis] == pytest.approx(side, abs=0.2)
            assert abs(end[1 - axis] - layout.at[at][1 - axis]) <= layout.sizes[at][1 - axis] / 2


@given(st.randoms(use_true_random=False), st.booleans(), st.booleans())
def test_whatever_uses_what_frames_hold_their_own_boxes_only_and_nothing_overlaps(random, has_cycles, folds):
    count = random.randrange(7)
    frames = [
        Frame(random.randrange(i) if i and random.random() < 0.6 else None, (9, 25), (9, 9), (40, 0))
        for i in range(count)
    ]
    boxes = [Box((random.choice([30, 100]), random.choice([20, 50])), frame) for frame in range(count)]
    boxes += [Box((60, 40), random.choice([None, *range(count)]), ("box", i)) for i in range(random.randrange(1, 50))]
    pairs = [random.sample(range(len(boxes)), 2) for _ in range(random.randrange(60)) if len(boxes) > 1]
    lines = [
        Line(*(pair if has_cycles else sorted(pair)), (60, 26) if random.random() < 0.7 else None) for pair in pairs
    ]
    places = place(boxes, lines, frames, Spacing(34, 13, 3, 1, folds=folds))
    corners = {
        i: (x - box.size[0] / 2, y - box.size[1] / 2, x + box.size[0] / 2, y + box.size[1] / 2)
        for i, (box, (x, y)) in enumerate(zip(boxes, places.at, strict=True))
    }
    graph = Graph(
        tuple(Node((), (), "operation", cluster=box.frame) for box in boxes),
        clusters=tuple(Cluster("", "", frame.parent) for frame in frames),
    )
    check_frames(graph, corners, {i: (*first, *last) for i, (first, last) in enumerate(places.frames)})
    for i, j in combinations(corners, 2):
        a, b = corners[i], corners[j]
        assert not (a[0] < b[2] - 0.1 and b[0] < a[2] - 0.1 and a[1] < b[3] - 0.1 and b[1] < a[3] - 0.1)
