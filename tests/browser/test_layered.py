"""The layout that pages make themselves: rules that hold for every graph, and its crossings beside Graphviz's."""

import itertools
import json
import math
import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import microgrid as mg
from microgrid import losses
from microgrid.drawing.graph import extract
from microgrid.drawing.rendering import find_renderer, render
from microgrid.nn import MLP

SCRIPTS = ["layered_ranks.js", "layered_order.js", "layered_places.js", "layered.js"]
DIRECTIONS = ["LR", "RL", "TB", "BT"]


@pytest.fixture(scope="module")
def lay_out(browser):
    """Return a function that lays a graph out in the browser."""
    page = browser.new_page()
    for name in SCRIPTS:
        page.add_script_tag(path=Path(mg.__file__).parent / "drawing" / name)
    call = "([graph, direction]) => layered(graph.boxes, graph.clusters, graph.uses, {direction, rooms: graph.rooms})"
    yield lambda graph, direction="LR": page.evaluate(call, [graph, direction])
    page.close()


# ---------------------------------------------------------------------------------------------------
# Graphs


def neuron():
    x1, w1, x2, w2, b = (mg.Value(1.0, label=name) for name in ("x1", "w1", "x2", "w2", "b"))
    return mg.tanh(x1 * w1 + x2 * w2 + b)


def network(*sizes):
    return MLP(2, sizes)([mg.Value(1.0, label="x0"), mg.Value(2.0, label="x1")])


def two_samples():
    model = MLP(2, [3, 1])
    samples = ([1.0, 2.0], [0.5, -1.0])
    return mg.total((model([mg.Value(x) for x in sample]) - 1.0) ** 2 for sample in samples)


def recurrent():
    """A cell that is called three times: between its calls there are nodes of nobody's."""
    cell = MLP(2, [2, 1])
    state = mg.Value(0.0, label="h")
    for x in (1.0, 2.0, 3.0):
        state = mg.tanh(cell([mg.Value(x), state]))
    return state


SIZES = {"constant": [64, 30], "group": [200, 62]}


def room(kinds, edges):
    """Of the label of an edge between boxes of these kinds."""
    return None if "constant" in kinds or edges > 300 else [58, 18] if "group" in kinds else [80, 34]


def of(output, depth=None):
    graph = extract((output,), depth=depth)
    kinds = [node.kind for node in graph.nodes]
    return {
        "names": [node.title or node.values[-1].label for node in graph.nodes],
        "boxes": [{"size": SIZES.get(node.kind, [130, 62]), "cluster": node.cluster} for node in graph.nodes],
        "clusters": [{"title": cluster.title, "parent": cluster.parent} for cluster in graph.clusters],
        "uses": [[edge.source, edge.target, edge.argument, edge.count] for edge in graph.edges],
        "rooms": [room((kinds[edge.source], kinds[edge.target]), len(graph.edges)) for edge in graph.edges],
    }


def random_graph(size, seed, clusters=0, labelled=False):
    generator = random.Random(seed)
    uses = [
        [generator.randrange(max(0, target - 30), target), target, argument, 1]
        for target in range(3, size)
        for argument in range(generator.choice([0, 1, 2, 2, 2, 3]))
    ]
    return {
        "boxes": [
            {
                "size": [generator.choice([64, 130, 160]), generator.choice([30, 62])],
                "cluster": generator.randrange(clusters) if clusters and generator.random() < 0.7 else None,
            }
            for _ in range(size)
        ],
        "clusters": [
            {"title": str(i), "parent": generator.randrange(i) if i and generator.random() < 0.5 else None}
            for i in range(clusters)
        ],
        "uses": uses,
        "rooms": [[80, 34] if generator.random() < 0.8 else None for _ in uses] if labelled else [],
    }


def random_tree(size, seed):
    """Every box is used once; given in the order in which a walk finishes them."""
    generator = random.Random(seed)
    boxes, uses = [], []

    def grow(left):
        count = min(left, generator.choice([1, 2, 2, 3]))
        operands = [grow(max(0, (left - 1) // count)) for _ in range(count)] if left else []
        boxes.append({"size": [130, 62], "cluster": None})
        uses.extend([operand, len(boxes) - 1, k, 1] for k, operand in enumerate(operands))
        return len(boxes) - 1

    grow(size)
    return {"boxes": boxes, "clusters": [], "uses": uses, "rooms": []}


REAL = {
    "neuron": lambda: of(neuron()),
    "network": lambda: of(network(4, 4, 1)),
    "layers": lambda: of(network(4, 4, 1), 1),
    "neurons": lambda: of(network(4, 4, 1), 2),
    "wide network": lambda: of(network(8, 8, 1)),
    "two samples": lambda: of(two_samples()),
    "recurrent": lambda: of(recurrent()),
    "softmax": lambda: of(losses.cross_entropy([mg.Value(float(i), label=f"z{i}") for i in range(10)], 1)),
}
RANDOM = {
    **{f"random {size}, seed {seed}": (size, seed) for size in (6, 15, 40, 100) for seed in range(3)},
    **{f"clusters {size}, seed {seed}": (size, seed, 6) for size in (15, 40, 80) for seed in range(5)},
    **{f"labels {size}, seed {seed}": (size, seed, 4, True) for size in (15, 50) for seed in range(3)},
}
GRAPHS = [*REAL, *RANDOM]


@cache
def graph_called(name):
    return REAL[name]() if name in REAL else random_graph(*RANDOM[name])


def outline(graph, laid):
    """Left, top, right and bottom of each box."""
    at, size = np.array(laid["at"]), np.array([box["size"] for box in graph["boxes"]])
    return np.hstack([at - size / 2, at + size / 2])


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def points_of(route, pieces=12):
    """Points on a chain of Bézier pieces."""
    t = np.linspace(0, 1, pieces + 1)[:, None]
    weights = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3]
    chain = np.array(route)
    starts = range(0, len(chain) - 1, 3)
    return np.vstack([sum(w * chain[k + i] for i, w in enumerate(weights)) for k in starts])


def distance(point, chain):
    """From a point to a chain of straight lines."""
    start, line = chain[:-1], np.diff(chain, axis=0)
    t = np.clip(((point - start) * line).sum(1) / np.maximum((line**2).sum(1), 1e-9), 0, 1)
    return np.hypot(*(start + t[:, None] * line - point).T).min()


# ---------------------------------------------------------------------------------------------------
# Rules for every graph


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", GRAPHS)
def test_boxes_stand_apart_in_their_own_frames_and_edges_lead_forward(lay_out, name, direction):
    graph = graph_called(name)
    laid = lay_out(graph, direction)
    boxes = outline(graph, laid)
    for a, b in itertools.combinations(range(len(boxes)), 2):
        assert not overlap(boxes[a], boxes[b]), f"boxes {a} and {b} overlap"

    frames = {frame["cluster"]: frame["corners"] for frame in laid["frames"]}
    around = [set() for _ in graph["boxes"]]
    for box, found in zip(graph["boxes"], around, strict=True):
        cluster = box["cluster"]
        while cluster is not None:
            found.add(cluster)
            cluster = graph["clusters"][cluster]["parent"]
    assert set(frames) == set().union(*around), "every cluster with a box has its frame"
    for cluster, frame in frames.items():
        assert laid["frames"][list(frames).index(cluster)]["title"] == graph["clusters"][cluster]["title"]
        for i, box in enumerate(boxes):
            if cluster in around[i]:
                assert (box[:2] > frame[:2]).all()
                assert (box[2:] < frame[2:]).all()
            else:
                assert not overlap(frame, box), f"box {i} stands in the frame of {cluster}, which it is not of"

    def contains(outer, inner):
        while inner is not None and inner != outer:
            inner = graph["clusters"][inner]["parent"]
        return inner == outer

    for a, b in itertools.combinations(frames, 2):
        assert contains(a, b) or contains(b, a) or not overlap(frames[a], frames[b])

    axis, sign = (0 if direction in ("LR", "RL") else 1), (1 if direction in ("LR", "TB") else -1)
    for (source, target, *_), route in zip(graph["uses"], laid["routes"], strict=True):
        along = [sign * point[axis] for point in route]
        assert along == sorted(along), "an edge never turns back"
        ahead, behind = (axis + 2, axis) if sign > 0 else (axis, axis + 2)
        leaves, arrives = boxes[source][ahead], boxes[target][behind]
        assert abs(route[0][axis] - leaves) < 0.2
        assert abs(route[-1][axis] - arrives) < 0.2
        assert boxes[target][1 - axis] < route[-1][1 - axis] < boxes[target][3 - axis]
        assert abs(route[0][1 - axis] - laid["at"][source][1 - axis]) < 0.2


@pytest.mark.parametrize("name", GRAPHS)
def test_no_edge_runs_through_a_box(lay_out, name):
    graph = graph_called(name)
    laid = lay_out(graph)
    inner = outline(graph, laid) + np.array([1, 1, -1, -1])
    for (source, target, *_), route in zip(graph["uses"], laid["routes"], strict=True):
        points = points_of(route)
        hits = (points[:, None, :] > inner[:, :2]).all(2) & (points[:, None, :] < inner[:, 2:]).all(2)
        assert set(np.flatnonzero(hits.any(0))) <= {source, target}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    "name", ["neuron", "network", "two samples", "softmax", "labels 15, seed 0", "labels 50, seed 1"]
)
def test_a_label_lies_on_its_edge_in_room_of_its_own(lay_out, name, direction):
    graph = graph_called(name)
    laid = lay_out(graph, direction)
    rooms = []
    for room, label, route in zip(graph["rooms"], laid["labels"], laid["routes"], strict=True):
        assert (room is None) == (label is None)
        if room:
            assert distance(label, points_of(route)) < 0.2
            rooms.append(
                [label[0] - room[0] / 2, label[1] - room[1] / 2, label[0] + room[0] / 2, label[1] + room[1] / 2]
            )
    for room in rooms:
        assert not any(overlap(room, box) for box in outline(graph, laid))
    for a, b in itertools.combinations(rooms, 2):
        assert not overlap(a, b)


# ---------------------------------------------------------------------------------------------------
# Order


@pytest.mark.parametrize("sizes", [(4, 4, 1), (5, 5, 1), (12, 3)])
@pytest.mark.parametrize("depth", [2, None])
def test_neurons_of_a_layer_stand_in_the_order_of_their_index(lay_out, sizes, depth):
    graph = of(network(*sizes) if sizes[-1] == 1 else mg.total(network(*sizes)), depth)
    laid = lay_out(graph)
    tops = {}
    if depth:
        for name, box, at in zip(graph["names"], graph["boxes"], laid["at"], strict=True):
            tops.setdefault(box["cluster"], []).append((at[1], name))
    else:
        for frame in laid["frames"]:
            tops.setdefault(graph["clusters"][frame["cluster"]]["parent"], []).append(
                (frame["corners"][1], frame["title"])
            )
    found = [[title for _, title in sorted(column) if "Neuron" in title] for column in tops.values()]
    assert sorted(map(len, filter(None, found))) == sorted(sizes)
    for column in filter(None, found):
        assert column == [f"Neuron {i}" for i in range(len(column))]


def test_operands_stand_in_the_order_of_their_arguments(lay_out):
    graph = of(neuron())
    laid = lay_out(graph)
    tops = {name: at[1] for name, at in zip(graph["names"], laid["at"], strict=True) if name}
    assert sorted(["x1", "w1", "x2", "w2"], key=tops.get) == ["x1", "w1", "x2", "w2"]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("seed", range(4))
def test_a_tree_has_no_crossing_and_all_operands_in_order(lay_out, seed, direction):
    graph = random_tree(40, seed)
    laid = lay_out(graph, direction)
    assert crossings(laid["routes"]) == 0
    across = 1 if direction in ("LR", "RL") else 0
    by_target = {}
    for (_, target, argument, _), route in zip(graph["uses"], laid["routes"], strict=True):
        by_target.setdefault(target, []).append((argument, route[-1][across]))
    for ends in by_target.values():
        assert [end for _, end in sorted(ends)] == sorted(end for _, end in ends)


@pytest.mark.parametrize("labelled", [False, True])
def test_a_long_edge_runs_level_past_the_boxes(lay_out, labelled):
    uses = [[i, i + 1, 0, 1] for i in range(6)] + [[0, 6, 1, 1], [1, 5, 1, 1]]
    boxes = [{"size": [130, 62], "cluster": None} for _ in range(7)]
    laid = lay_out({"boxes": boxes, "clusters": [], "uses": uses, "rooms": [[80, 34]] * 8 if labelled else []})
    for route in laid["routes"][6:]:
        heights = [point[1] for point in route]
        assert len(set(heights[2:-2])) == 1, "it steps once after its start and once before its end"


def test_the_same_graph_is_laid_out_alike_and_a_cycle_of_groups_too(lay_out):
    graph = graph_called("clusters 40, seed 1")
    assert lay_out(graph) == lay_out(graph)
    back = [[target, source, 0, 1] for source, target, *_ in graph["uses"][::7]]
    graph = {**graph, "uses": [*graph["uses"], *back]}
    laid = lay_out(graph)
    assert len(laid["routes"]) == len(graph["uses"])
    boxes = outline(graph, laid)
    assert not any(overlap(a, b) for a, b in itertools.combinations(boxes, 2))


@pytest.mark.parametrize("graph", [random_graph(1, 0), random_graph(0, 0)], ids=["one box", "no box"])
def test_the_smallest_graphs_have_places(lay_out, graph):
    assert len(lay_out(graph)["at"]) == len(graph["boxes"])


def test_a_large_graph_keeps_its_boxes_apart(lay_out):
    graph = random_graph(3000, 1)
    boxes = outline(graph, lay_out(graph))
    by_left = boxes[np.argsort(boxes[:, 0])]
    for i, box in enumerate(by_left):
        near = by_left[i + 1 :][by_left[i + 1 :, 0] < box[2]]
        assert not ((near[:, 1] < box[3]) & (near[:, 3] > box[1])).any()


# ---------------------------------------------------------------------------------------------------
# Beside Graphviz


def crossings(routes):
    """How many pairs of the edges' pieces cross."""
    pieces = [np.hstack([points[:-1], points[1:]]) for points in (points_of(route, 8) for route in routes)]
    owner = np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces])
    (ax, ay, bx, by), total = np.vstack(pieces).T, 0

    def side(i, xs, ys):
        return (bx[i] - ax[i]) * (ys - ay[i]) - (by[i] - ay[i]) * (xs - ax[i])

    for i in range(len(owner)):
        others = slice(i + 1, None)
        apart = side(i, ax[others], ay[others]) * side(i, bx[others], by[others]) < 0
        dx, dy = bx[others] - ax[others], by[others] - ay[others]
        here = dx * (ay[i] - ay[others]) - dy * (ax[i] - ax[others])
        there = dx * (by[i] - ay[others]) - dy * (bx[i] - ax[others])
        total += int((apart & (here * there < 0) & (owner[others] != owner[i])).sum())
    return total


def length(routes):
    return sum(np.hypot(*np.diff(points_of(route), axis=0).T).sum() for route in routes)


def graphviz(graph):
    """The routes that Graphviz finds for the same boxes, clusters and labels, with distances like ours."""
    inside = {i: [] for i in (None, *range(len(graph["clusters"])))}
    for i, box in enumerate(graph["boxes"]):
        width, height = box["size"]
        inside[box["cluster"]].append(f"v{i} [width={width / 72:.4f} height={height / 72:.4f}]")
    for i in reversed(range(len(graph["clusters"]))):
        inside[graph["clusters"][i]["parent"]].append(f"subgraph cluster_{i} {{margin=14 {' '.join(inside[i])}}}")
    edges = []
    for k, (source, target, *_) in enumerate(graph["uses"]):
        room = graph["rooms"][k] if graph["rooms"] else None
        cell = '<<TABLE BORDER="0" FIXEDSIZE="TRUE" WIDTH="{}" HEIGHT="{}"><TR><TD></TD></TR></TABLE>>'
        edges.append(f"v{source} -> v{target} [id={k}{f' label={cell.format(*room)}' if room else ''}]")
    text = (
        f"digraph {{ graph [rankdir=LR nodesep=0.22 ranksep={0.46 if any(graph['rooms']) else 1.1}]\n"
        'node [shape=box fixedsize=true label="" margin=0]\nedge [arrowhead=none tailport=e headport=w]\n'
        + "\n".join([*inside[None], *edges])
        + "}"
    )
    placed = sorted(json.loads(render(text, "json0", find_renderer(None)))["edges"], key=lambda edge: int(edge["id"]))
    return [[[*map(float, p.split(","))] for p in edge["pos"].split() if p[0] not in "es"] for edge in placed]


def test_edges_cross_and_run_hardly_more_than_in_graphvizs_layout(lay_out):
    ours, theirs = [], []
    names = [name for name in GRAPHS if name in REAL or name.startswith(("random 15", "random 40", "random 100"))]
    for name in names:
        graph = graph_called(name)
        routes, others = lay_out(graph)["routes"], graphviz(graph)
        ours.append((crossings(routes), length(routes)))
        theirs.append((crossings(others), length(others)))
    print(f"\n{'crossings, ours and Graphvizs; length, ratio':>60}")
    for name, (cross, run), (other, stretch) in zip(names, ours, theirs, strict=True):
        print(f"{name:>24} {cross:6} {other:6} {run / stretch:6.2f}")
    for name, (cross, _), (other, _) in zip(names, ours, theirs, strict=True):
        assert cross <= 1.3 * other + 3, f"{name}: {cross} crossings where Graphviz has {other}"
    assert math.fsum(run for _, run in ours) <= 1.3 * math.fsum(stretch for _, stretch in theirs)
