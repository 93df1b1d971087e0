"""Pictures: what they show, that no label can break them, and how they are rendered and saved."""

import gc
import importlib.metadata
import math
import os
import re
import stat
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgrid import ops
from microgrid.calculus import gradient_graph
from microgrid.checking.precision import precision
from microgrid.checking.why import why
from microgrid.compiler import compile
from microgrid.drawing import draw, name, notebook_bundle, picture, rendering
from microgrid.drawing.boundary import plot_boundary
from microgrid.drawing.explorer import explore
from microgrid.drawing.graph import extract
from microgrid.drawing.marks import marks_of
from microgrid.drawing.rendering import RendererError, find_renderer
from microgrid.drawing.replay import watch
from microgrid.drawing.text import aligned, columns, room_for, significant
from microgrid.engine import Value, topological_order
from microgrid.losses import cross_entropy
from microgrid.nn import MLP, Affine, Layer, Module, Neuron, ReLU, Sequential
from microgrid.ops import Op
from microgrid.theme import DARK, LIGHT

SVG = "{http://www.w3.org/2000/svg}"


def apples():
    """The apples of chapter 5: 2 × 100, with a tax of 10 %."""
    price, count, tax = Value(100, "price"), Value(2, "count"), Value(1.1, "tax")
    total = price * count * tax
    total.label = "total"
    total.backward()
    return total


def neuron(inputs=64):
    xs = [Value(0.1 * i, f"x{i}") for i in range(inputs)]
    y = Neuron(inputs, seed=0)(xs)
    y.backward()
    return y


def network():
    model = MLP(2, [4, 4, 1], seed=1)
    xs = [Value(1.0, "x0"), Value(-2.0, "x1")]
    y = model(xs)
    y.backward()
    return model, xs, y


def chain(steps):
    x = y = Value(1.0, "x")
    one = Value(1e-9)
    for _ in range(steps):
        y = y + one
    return x, y


def tree(picture):
    return ElementTree.fromstring(picture.svg)


def texts(element):
    return ["".join(text.itertext()).replace("\xa0", " ") for text in element.iter(f"{SVG}text")]


def groups(picture, kind):
    """The nodes, edges or clusters of a picture, as lists of the texts in them."""
    return [texts(g) for g in tree(picture).iter(f"{SVG}g") if kind in g.get("class", "").split()]


def of_node(picture, label):
    return next(" ".join(" ".join(words).split()) for words in groups(picture, "node") if label in words)


# -- what a picture shows ----------------------------------------------------------------------------


def test_a_node_shows_label_data_and_gradient_and_an_operation_its_symbol():
    picture = draw(apples())
    assert of_node(picture, "price") == "price data 100 grad 2.2"
    assert of_node(picture, "total") == "× total data 220 grad 1"


def test_an_edge_shows_the_local_derivative_and_under_it_what_flows_back():
    edges = [" ".join(" ".join(words).split()) for words in groups(draw(apples()), "edge")]
    assert sorted(edges) == sorted(["∂ 2 ← 2.2", "∂ 100 ← 110", "∂ 1.1 ← 1.1", "∂ 200 ← 200"])


def test_before_backward_there_are_local_derivatives_and_no_gradients():
    x = Value(3.0, "x")
    shown = " ".join(texts(tree(draw(x * x))))
    assert "∂" in shown
    assert "grad" not in shown
    assert "←" not in shown


def stale_input():
    x = Value(2.0, "x")
    (x * 3.0).backward()
    return x * 5.0


def stale_interior():
    y = apples()
    return y * 2.0


def stale_for_several():
    x = Value(2.0, "x")
    (x * 3.0).backward()
    return [x * 5.0, x * 7.0]


@pytest.mark.parametrize("make", [stale_input, stale_interior, stale_for_several])
@pytest.mark.parametrize("options", [{}, {"limit": 1}, {"depth": 0}])
def test_gradients_of_another_output_are_not_shown_as_those_of_this_one(make, options):
    output = make()
    shown = draw(output, **options).svg
    assert "grad" not in shown
    assert "←" not in shown
    for each in output if isinstance(output, list) else [output]:
        each.backward()
    assert "grad" in draw(output, **options).svg


def test_of_several_outputs_one_backward_is_enough_to_show_gradients_and_a_leaf_shows_its_own():
    x = Value(2.0, "x")
    first, second = x * 3.0, x * 5.0
    first.backward()
    assert of_node(draw([first, second]), "x") == "x data 2 grad 3"
    assert of_node(draw(x), "x") == "x data 2 grad 3"


# -- what is known to be wrong -------------------------------------------------------------------------


def twice_back():
    x = Value(3.0, "x")
    y = x * x
    y.backward()
    y.backward()
    return y


def other_sample():
    w = Value(2.0, "w")
    (w * 5.0).backward()
    y = w * Value(-1.0, "x")
    y.backward()
    return y


def part_of_another():
    x = Value(2.0, "x")
    inner = ops.sin(x)
    inner.label = "inner"
    y, z = inner * 3.0, inner * 5.0
    y.backward()
    z.backward()
    return y


def half_way():
    x = Value(5.0, "x")
    y = x * x
    y.grad, x.grad = 1.0, 5.0
    return y


def zeroed():
    x = Value(3.0, "x")
    y = x * 2.0
    y.backward()
    x.grad = 0.0
    return y


def by_hand():
    y = apples()
    for node in topological_order(y)[:-1]:
        node.grad = 0.0
    return y


def changed():
    x = Value(3.0, "x")
    y = x * x
    y.label = "y"
    x.data = 100.0
    return y


def no_number():
    x = Value(math.inf, "x")
    y = ops.sin(x) * 2.0
    y.backward()
    return y


def no_gradient():
    x = Value(0.0, "x")
    root = ops.sqrt(x)
    root.label = "root"
    y = root * 0.0
    y.backward()
    return y


@pytest.mark.parametrize(
    ("make", "label", "said"),
    [
        (twice_back, "x", "grad 12 = 6 + 6 from before"),
        (other_sample, "w", "grad 4 = −1 + 5 from before"),
        (part_of_another, "inner", "grad 5 = 3 + 2 from elsewhere"),
        (half_way, "x", "grad 5 of 10 on its edges"),
        (changed, "y", "data 9 out of date: 10000 now"),
        (no_number, "x", "inf begins here"),
        (no_gradient, "x", "grad nan nan begins here: 0 × inf"),
    ],
)
def test_what_is_known_to_be_wrong_is_said_at_its_node_and_nowhere_else(make, label, said):
    y = make()
    assert said in of_node(draw(y), label)
    remarked = {node.exits[0].label for node in extract([y]).nodes if node.remarks}
    assert remarked == {label, "x"} if make is part_of_another else {label}


def test_data_changed_without_forward_is_said_over_the_picture_until_it_runs():
    y = changed()
    assert any("y.forward() computes them anew" in text for text in texts(tree(draw(y))))
    y.forward()
    assert not any("forward()" in text for text in texts(tree(draw(y))))


@pytest.mark.parametrize("make", [zeroed, by_hand])
def test_gradients_that_have_not_come_back_yet_and_those_set_to_0_are_no_fault(make):
    assert all(node.remarks == () for node in extract([make()]).nodes)


@pytest.mark.parametrize(
    "make", [apples, neuron, lambda: network()[2], lambda: cross_entropy([Value(0.1), Value(0.2)], 0)]
)
@pytest.mark.parametrize("options", [{}, {"depth": 1}, {"fold": 2}, {"limit": 2}])
def test_nothing_is_remarked_where_nothing_is_wrong(make, options):
    y = make()
    assert all(node.remarks == () for node in extract([y], **options).nodes)
    y.backward()
    seen = extract([y], **options).nodes
    assert all(node.remarks == () or "from before" in node.remarks[0] for node in seen)


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=6), st.floats(-1e3, 1e3))
def test_rounding_is_no_gradient_from_before(numbers, seed):
    leaves = [Value(x) for x in numbers]
    y = ops.total(ops.tanh(a * 0.1 + b) * a / 3.0 for a in leaves for b in leaves)
    y.backward(seed)
    assert all(node.remarks == () for node in extract([y]).nodes)


def test_what_is_no_number_has_a_colour_of_its_own_and_dotted_lines():
    dot = draw(no_gradient()).dot
    assert LIGHT["undefined 4"] in dot
    assert re.findall(r'id="e\d" color="(#\w+)" style=(\w+)', dot).count((LIGHT["undefined line 4"], "dotted")) == 1
    assert LIGHT["undefined 4"] not in draw(apples()).dot


# -- a series of pictures ------------------------------------------------------------------------------


def places(picture):
    """Where every text stands that is no number, and where every box does."""
    root = tree(picture)
    words = sorted(
        ("".join(text.itertext()), text.get("x"), text.get("y"))
        for text in root.iter(f"{SVG}text")
        if not any(c.isdigit() for c in "".join(text.itertext())) and "".join(text.itertext()).strip("\xa0 ")
    )
    boxes = [
        next(g.iter(f"{SVG}path")).get("d") for g in root.iter(f"{SVG}g") if g.get("class", "").split()[:1] == ["node"]
    ]
    return words, boxes, root.get("viewBox")


@pytest.mark.parametrize("make", [apples, lambda: neuron(3), lambda: network()[2]])
@pytest.mark.parametrize("options", [{}, {"direction": "TB"}])
def test_in_a_series_nothing_moves_but_the_numbers(make, options):
    y = make()
    last, order = draw(y, **options), topological_order(y)
    final = [node.grad for node in order]
    for node in order:
        node.grad = 0.0
    series = [draw(y, like=last, **options)]
    every = 1 + sum(bool(node.parents) for node in order) // 12  # a dozen pictures show it as well as one for each node
    for step, (node, gradient) in enumerate(zip(reversed(order), reversed(final), strict=True)):
        node.grad = gradient
        if node.parents and step % every == 0:
            series.append(draw(y, like=last, **options))
    first = places(series[0])
    assert "grad" in " ".join(texts(tree(series[0])))
    for shown in series[1:]:
        if not re.search("from before|from elsewhere|on its edges", shown.svg):  # a remark takes room of its own
            assert places(shown) == first
    assert places(last) == first
    assert places(draw(y, **options)) == first


def test_a_picture_that_is_like_one_of_another_graph_is_refused():
    with pytest.raises(ValueError, match=r"like must be a picture of the same graph, .* got <Picture"):
        draw(apples(), like=draw(neuron(3)))
    with pytest.raises(ValueError, match="like must be a picture of the same graph"):
        draw(apples(), like=draw(MLP(2, [1], seed=0)))


@pytest.mark.parametrize("what", [apples, lambda: MLP(2, [3, 1], seed=0)])
def test_the_legend_can_be_left_out(what):
    with_legend, without = (" ".join(texts(tree(draw(what(), legend=legend)))) for legend in (True, False))
    assert "if negative" in with_legend
    assert "if negative" not in without


@pytest.mark.parametrize("scale", [1, 2.0, 4.5])
def test_a_png_has_as_many_pixels_to_a_point_as_asked(scale):
    picture = draw(apples(), scale=scale)
    width = int.from_bytes(picture.png[16:20], "big")
    assert width == pytest.approx(scale * float(tree(picture).get("width")), rel=0.01)


@pytest.mark.parametrize("scale", [0, -1.0, math.inf, math.nan, "2"])
def test_a_scale_that_gives_no_picture_is_refused(scale):
    with pytest.raises(ValueError, match=f"scale must be a number of pixels to a point, above 0; got {scale!r}"):
        draw(apples(), scale=scale)


@pytest.mark.parametrize("wrong", [5, None])
def test_a_label_that_is_no_text_is_named(wrong):
    x = Value(2.0)
    x.label = wrong
    with pytest.raises(TypeError, match=rf"the label of .* must be text; got {wrong!r}"):
        draw(x * 3.0)


@pytest.mark.parametrize("classes", [3, 4, 10])
def test_a_softmax_with_its_loss_has_one_node_for_the_largest_score(classes):
    scores = [Value(0.1 * i, f"z{i}") for i in range(classes)]
    for output in (cross_entropy(scores, 1), ops.logsumexp(scores), ops.softmax(scores)[0]):
        shown = [node for node in groups(draw(output, fold=None), "node") if "max" in node]
        assert len(shown) == 1


def test_x_times_x_has_two_edges():
    x = Value(3.0, "x")
    assert len(groups(draw(x * x), "edge")) == 2


def test_kinds_of_nodes_look_different():
    model = Neuron(1, seed=0)
    y = model([Value(2.0, "x")]) * 3.0
    nodes = re.findall(r'class="(\w+)" (.*?) label=', draw(y).dot)
    assert {kind for kind, _ in nodes} == {"input", "parameter", "constant", "operation"}
    assert len(set(nodes)) == len({look for _, look in nodes}) == 5  # the output is an operation that stands out


def test_several_outputs_share_one_picture():
    x = Value(2.0, "x")
    shown = [words for words in groups(draw([x * 2.0, x * 3.0]), "node") if "x" in words]
    assert len(shown) == 1


def test_the_same_graph_gives_the_same_bytes():
    first, second = draw(neuron(12), title="twice"), draw(neuron(12), title="twice")
    assert (first.dot, first.svg, first.png, first.html) == (second.dot, second.svg, second.png, second.html)


def test_a_picture_keeps_the_numbers_of_the_moment():
    x = Value(3.0, "x")
    picture = draw(x * 2.0)
    x.data = 5.0
    assert "data 3" in of_node(picture, "x")


@pytest.mark.parametrize(("direction", "arrow"), [("LR", "←"), ("TB", "↑"), ("RL", "→"), ("BT", "↓")])
def test_the_gradient_flows_against_the_direction(direction, arrow):
    picture = draw(apples(), direction=direction)
    assert f"rankdir={direction}" in picture.dot
    assert arrow in texts(tree(picture))


def test_the_title_heads_the_picture_and_names_it_for_screen_readers():
    picture = draw(apples(), title="Two apples")
    assert "Two apples" in texts(tree(picture))
    assert tree(picture).get("aria-label") == "Two apples"
    assert tree(picture).get("role") == "img"


def test_a_wide_picture_shrinks_to_its_column_but_stays_readable():
    root = tree(draw(apples()))
    assert f"max-width:max(100%,{0.6 * float(root.get('width')):.0f}px)" in root.get("style")


def test_the_tooltip_has_every_digit():
    x = Value(1 / 3, "third")
    titles = [element.text for element in tree(draw(x * 3.0)).iter(f"{SVG}title")]
    assert any(text and text.startswith("third") and repr(1 / 3) in text for text in titles)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0, "0"), (220.00000000000003, "220"), (-3.0, "−3"), (123456.0, "123456"), (1234567.0, "1.235e6"),
     (0.000012345, "1.234e−5"), (1e-300, "1e−300"), (math.inf, "inf"), (math.nan, "nan"), (2 / 3, "0.6667")],
)  # fmt: skip
def test_numbers_have_four_significant_digits(number, text):
    assert significant(number) == text


@pytest.mark.parametrize(
    "make",
    [
        lambda: ops.sin(Value(math.pi)),
        lambda: Value(0.1) + Value(0.2) - Value(0.3),
        lambda: ops.sin(Value(math.pi / 2)),
        lambda: ops.cos(Value(math.pi)) * 1.0 + 1.0,
        lambda: cross_entropy([Value(0.3 * k - 0.7) for k in range(3)], 1),
    ],
)
def test_rounding_noise_is_shown_as_zero(make):
    y = make()
    y.backward()
    assert not re.search(r"e[-−]1\d", " ".join(texts(tree(draw(y)))))


def test_small_numbers_that_mean_something_are_shown():
    x = Value(1e-20, "x")
    y = x * 2.0
    y.backward(1e-30)
    assert of_node(draw(y), "x") == "x data 1e−20 grad 2e−30"


def test_a_row_whose_derivative_raises_near_the_point_is_drawn():
    def root_slope(y, x):
        if x > 4.0:
            raise ValueError("not here")
        return 0.25

    row = ops.Op("edge", lambda x: math.sqrt(x), (root_slope,))
    y = row(Value(4.0, "x"))
    y.backward()
    assert "∂ 0.25" in " ".join(texts(tree(draw(y))))


def test_the_decimal_points_of_a_node_stand_under_one_another():
    texts = [significant(number) for number in (-12.5, 3.0, 0.125)]
    assert aligned(texts, room_for(texts)) == ["−12.5  ", "  3    ", "  0.125"]
    assert aligned(texts, room_for(texts, (2, 5))) == ["−12.5   ", "  3     ", "  0.125 "]


def test_infinite_numbers_are_drawn():
    y = ops.log(Value(0.0, "x")) * 2.0
    y.backward()
    assert "data −inf" in of_node(draw(y), "log")


def test_a_derivative_that_is_always_zero_sends_nothing_back():
    y = ops.log(ops.floor(Value(0.5, "x")))
    y.backward()
    assert extract([y]).edges[0].flow == 0.0


# -- any text is safe --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "label",
    ["사과", "<b>bold</b>", "{|}", '"quoted"', "back\\slash \\N \\G \\\\", "]]>", "<script>alert(1)</script>",
     "a & b &amp; &#65;", "-->", "é ∂ 🍎", "x" * 39, "' onload='alert(1)"],
)  # fmt: skip
def test_any_label_is_shown_as_itself(label):
    assert label in texts(tree(draw(Value(1.0, label), title=label)))
    op = Op(label, lambda x: x, (1.0,), symbol=label, doc=label)
    assert label in texts(tree(draw(op(Value(1.0)))))


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found = set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.add(tag)


@given(
    st.text(max_size=60) | st.lists(st.sampled_from('<>&"\\{}|\n\r\0\x7f\x85\u2028\ud800\ufffe]-N사🍎')).map("".join)
)
def test_no_text_breaks_a_picture(label):
    picture = draw(Value(2.0, label) * Value(3.0, label), title=label)
    assert {element.tag.removeprefix(SVG) for element in tree(picture).iter()} <= {
        "svg", "style", "g", "title", "path", "polygon", "polyline", "text",
    }  # fmt: skip
    assert len(groups(picture, "node")) == 3
    page = Tags(picture.html).found - {element.tag.removeprefix(SVG) for element in tree(picture).iter()}
    assert page == {"html", "head", "meta", "title", "body"} - {"title"}


def test_lines_of_a_label_stand_under_one_another_and_long_ones_are_cut():
    shown = texts(tree(draw(Value(1.0, "first\nsecond"))))
    assert {"first", "second"} <= set(shown)
    picture = draw(Value(1.0, "\n".join("가" * 50 for _ in range(9))))
    shown = texts(tree(picture))
    assert max(map(columns, shown)) <= 40
    assert shown.count("…") == 1
    assert "가" * 50 in " ".join(element.text or "" for element in tree(picture).iter(f"{SVG}title"))


def test_korean_labels_fit_their_boxes():
    # A Korean letter is as wide as the font is high.
    label = "사과의 개수와 값"
    node = next(g for g in tree(draw(Value(1.0, label))).iter(f"{SVG}g") if "node" in g.get("class", ""))
    path = next(node.iter(f"{SVG}path"))
    xs = [float(x) for x in re.findall(r"(-?[\d.]+),", path.get("d"))]
    text = next(t for t in node.iter(f"{SVG}text") if label in "".join(t.itertext()))
    width = sum(1.0 if c != " " else 0.3 for c in label) * float(text.get("font-size"))
    assert min(xs) < float(text.get("x"))
    assert float(text.get("x")) + width <= max(xs)


# -- large graphs: modules, neighbourhoods, folds, outlines ------------------------------------------


def test_neurons_and_layers_are_clusters():
    _, _, y = network()
    shown = [words[0] for words in groups(draw(y), "cluster")]
    assert shown.count("MLP") == 1
    assert {"Layer 0", "Layer 1", "Layer 2", "Neuron 3"} <= set(shown)
    assert len(shown) == 1 + 3 + 9


@pytest.mark.parametrize(("depth", "boxes"), [(0, 2 + 1), (1, 2 + 3), (2, 2 + 9)])
def test_depth_says_how_many_levels_of_modules_are_open(depth, boxes):
    _, _, y = network()
    assert len(extract([y], depth=depth).nodes) == boxes
    assert len(groups(draw(y, depth=depth), "node")) == boxes


def test_the_derivative_through_a_collapsed_network_is_its_gradient():
    _, xs, y = network()
    graph = extract([y], depth=0)
    wanted = [g.data for g in gradient_graph(y, xs)]
    got = {graph.nodes[edge.source].value: edge for edge in graph.edges}
    assert [got[x].derivative for x in xs] == pytest.approx(wanted, rel=1e-12)
    assert [got[x].flow for x in xs] == pytest.approx([x.grad for x in xs], rel=1e-12)
    assert [got[x].count for x in xs] == [4, 4]


def test_modules_with_names_of_their_own_are_called_so():
    class Twin(Module):
        def __init__(self):
            self.encoder = Neuron(1, seed=0)

        def forward(self, x):
            return self.encoder(x) * 2.0

    shown = [words[0] for words in groups(draw(Twin()([Value(1.0)])), "cluster")]
    assert shown == ["Twin", "encoder (Neuron)"]


def test_of_many_alike_terms_the_middle_shares_a_box():
    y = neuron(64)
    graph = extract([y], fold=8)
    folded = [node for node in graph.nodes if node.kind == "group"]
    assert [node.title for node in folded] == ["59 more", "59 more"]
    assert len(graph.nodes) < 25
    assert len(extract([y]).nodes) == 64 * 3 + 3
    shown = " ".join(texts(tree(draw(y))))
    assert "59 uses" in shown
    assert {"x0", "x3", "x63", "w0", "w63"} <= set(texts(tree(draw(y))))


def test_terms_that_something_else_uses_are_not_folded():
    xs = [Value(float(i), f"x{i}") for i in range(20)]
    squares = [x * x for x in xs]
    y = ops.total(squares) + ops.total(squares)
    assert all(node.kind != "group" for node in extract([y], fold=4).nodes)


def test_many_inputs_of_a_collapsed_layer_are_folded():
    y = ops.total(Layer(40, 3, seed=0)([Value(float(i), f"x{i}") for i in range(40)]))
    graph = extract([y], depth=1, fold=8)
    assert [node.title for node in graph.nodes if node.kind == "group"] == ["35 more", "Layer"] or len(graph.nodes) < 12


def test_focus_draws_a_neighbourhood_and_says_what_lies_beyond():
    model, _, y = network()
    weight = model.layers[1].neurons[2].w[0]
    picture = draw(y, focus=weight, radius=1)
    assert len(groups(picture, "node")) == 2 + 2
    assert {"1 more operand", "1 more use"} <= set(texts(tree(picture)))
    wider = draw(y, focus=weight, radius=2)
    assert "4 more operands" in texts(tree(wider))


def test_a_marked_node_stands_out():
    y = apples()
    marked = y.first
    assert draw(y, mark=marked).dot.count(LIGHT["mark"]) == 1
    assert LIGHT["mark"] not in draw(y).dot


def saturated():
    x, w = Value(3.0, label="x"), Value(9.0, label="w")
    y = ops.tanh(x * w)
    y.label = "y"
    return y + 0.5


def cancelling():
    x = Value(1e-9, label="x")
    y = (ops.exp(x) - 1.0) / x
    y.label = "y"
    return y


FINDINGS = {
    "a slope that vanishes": (
        saturated,
        why,
        {"y": "saturated", "x": "gradient vanishing", "w": "gradient vanishing"},
        "Gradients of add(y=1, 0.5): 2 vanishing",
    ),
    "one leaf": (
        saturated,
        lambda y: why(y, leaf(y, "w")),
        {"y": "saturated", "w": "gradient vanishing"},
        "The gradient of add(y=1, 0.5) by w: 1 vanishing",
    ),
    "digits": (
        cancelling,
        precision,
        {"": "9 digits lost", "y": "7 digits right"},
        "Precision of y = 1.000000083: 7 digits are right",
    ),
    "the user's words": (apples, lambda y: {leaf(y, "tax"): "look", y: ""}, {"tax": "look", "total": ""}, ""),
}


def leaf(y, label):
    return next(node for node in topological_order(y) if node.label == label)


@pytest.mark.parametrize("name", FINDINGS)
def test_what_is_found_is_marked_where_it_happens_with_its_words_and_nowhere_else(name):
    make, find, said, summary = FINDINGS[name]
    output = make()
    found = find(output)
    graph = extract((output,), marks=marks_of(found, (output,)).at)
    marked = {node.exits[0].label: ", ".join(node.remarks) for node in graph.nodes if node.is_marked}
    assert marked == said
    picture = draw(output, mark=found)
    assert picture.svg.count(LIGHT["mark"]) >= len(said)
    for text in filter(None, [*said.values(), summary]):
        assert text.replace("−", "-") in picture.dot.replace("−", "-")


def test_focus_outside_of_the_graph_is_an_error():
    with pytest.raises(ValueError, match="give a Value that the output depends on"):
        draw(apples(), focus=Value(1.0, "stranger"))


def test_a_large_network_is_drawn_as_its_outline_with_counts_per_layer():
    model = Sequential(Affine(100, 40, seed=0), ReLU(), Affine(40, 10, seed=1))
    loss = cross_entropy(model([Value(0.01 * i) for i in range(100)]), 3)
    loss.backward()
    picture = draw(loss)
    assert len(groups(picture, "node")) <= 8
    affine = of_node(picture, "Affine 0")
    assert "8,080 nodes" in affine
    assert "4,000 ×" in affine
    assert "4,040 parameters" in affine
    note = " ".join(texts(tree(picture)))
    assert "focus=v" in note
    assert "limit=1000" in note
    assert "4,000 uses" in note


def test_operations_before_the_modules_and_after_them_are_distinguished():
    xs = [Value(0.1 * i, f"x{i}") * 2.0 for i in range(30)]
    outputs = Sequential(Affine(30, 20, seed=0), Affine(20, 5, seed=1))(xs)
    y = ops.total([o * o for o in outputs])
    titles = [node.title for node in extract([y], limit=50).nodes]
    assert {"inputs", "before the modules", "after the modules"} <= set(titles)


def test_an_outline_opens_no_deeper_than_depth_says():
    y = ops.total(MLP(30, [20, 5], seed=0)([Value(0.1 * i) for i in range(30)]))
    titles = [node.title for node in extract([y], limit=5, depth=0).nodes]
    assert "MLP" in titles
    assert "Layer 0" not in titles


def test_a_long_chain_is_drawn_in_stages_at_once():
    _, y = chain(200_000)
    picture = draw(y)
    assert len(groups(picture, "node")) <= 13
    assert any("steps 1 to 20,000" in words for words in groups(picture, "node"))
    assert "200,002 nodes" in " ".join(texts(tree(picture)))
    gc.collect()


def test_limit_none_draws_every_value():
    _, y = chain(300)
    assert len(extract([y], limit=None).nodes) == 302
    assert extract([y], limit=200).is_outline
    shallow = ops.total([Value(float(i)) * Value(1.0) * Value(2.0) for i in range(100)])
    assert {node.title for node in extract([shallow], limit=50).nodes} >= {"inputs", "step 1", "step 2"}


def test_where_there_is_no_room_edges_without_flow_say_that_alone():
    model = MLP(6, [6, 6, 1], seed=1)
    y = model([Value(float(i), f"x{i}") for i in range(6)])
    y.backward()
    picture = draw(y, depth=2)
    edges = groups(picture, "edge")
    assert {tuple(words) for words in edges if "0" in " ".join(words).split()} == {("←", "0")}
    assert [] not in edges
    assert "gradient flowing back 0.0" in picture.svg


# -- colours -----------------------------------------------------------------------------------------


def luminance(color):
    def linear(c):
        return c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(int(color[i : i + 2], 16) / 255) for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a, b):
    high, low = sorted([luminance(a), luminance(b)], reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_is_legible_on_everything_that_it_stands_on(theme):
    papers = ["paper", "operation", "input", "parameter", "cluster", "inner cluster", "badge"]
    tints = [f"{sign} {level}" for sign in ("positive", "negative") for level in (1, 2, 3, 4)] + ["undefined 4"]
    assert min(contrast(theme["ink"], theme[paper]) for paper in papers + tints) >= 4.5
    assert contrast(theme["output"], theme["output text"]) >= 4.5
    for text in ("muted", "mark", "positive text", "negative text", "undefined text"):
        assert min(contrast(theme[text], theme[paper]) for paper in ("paper", "cluster", "inner cluster")) >= 4.5


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("kind", ["", " line"])
def test_larger_gradients_stand_out_more_and_equally_for_both_signs_in_greyscale(theme, kind):
    steps = {
        sign: [contrast(theme[f"{sign}{kind} {level}"], theme["paper"]) for level in (1, 2, 3, 4)]
        for sign in ("positive", "negative")
    }
    for contrasts in steps.values():
        assert contrasts == sorted(contrasts)
    assert all(0.75 < a / b < 1.34 for a, b in zip(*steps.values(), strict=True))


def test_negative_flow_is_dashed_so_that_its_sign_survives_greyscale():
    y = Value(2.0) * -3.0
    y.backward()
    styles = re.findall(r'id="e\d".*?style=(\w+)', draw(y).dot)
    assert sorted(styles) == ["dashed", "solid"]


def test_a_picture_follows_the_theme_of_its_page_in_every_colour_and_not_the_system():
    _, _, y = network()
    svg = draw(y).svg
    colors = set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]{6})"', svg))
    assert colors <= set(LIGHT.values())
    assert len(set(LIGHT.values())) == len(LIGHT)  # each needs its own counterpart
    for key, color in LIGHT.items():
        if color in colors:
            assert f'[fill="{color}"]{{fill:{DARK[key]}}}' in svg
    assert "prefers-color-scheme" not in svg


def test_a_picture_that_is_a_page_of_its_own_follows_the_viewer():
    page = draw(apples()).html
    media = page[page.index("@media (prefers-color-scheme:dark)") :]
    assert f'[fill="{LIGHT["ink"]}"]{{fill:{DARK["ink"]}}}' in media


@pytest.mark.parametrize(("theme", "colors"), [("light", LIGHT), ("dark", DARK)])
def test_a_fixed_theme_is_for_every_viewer(theme, colors):
    picture = draw(apples(), theme=theme)
    assert "prefers-color-scheme" not in picture.svg
    assert set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]{6})"', picture.svg)) <= set(colors.values())
    assert f"background:{colors['paper']}" in picture.html


# -- names -------------------------------------------------------------------------------------------


def test_variables_give_their_names_to_values():
    a, b = Value(1.0), Value(2.0, "mine")
    weights = [a * b, (Value(3.0),)]
    table = {"first": Value(4.0), "loop": weights}
    weights.append(weights)
    _hidden = Value(5.0)
    other = a
    name(locals())
    assert (a.label, b.label, other.label, _hidden.label) == ("a", "mine", "a", "")
    assert [weights[0].label, weights[1][0].label, table["first"].label] == [
        "weights[0]", "weights[1][0]", "table['first']",
    ]  # fmt: skip


def test_name_takes_a_mapping():
    with pytest.raises(TypeError, match=r"name\(locals\(\)\)"):
        name([Value(1.0)])


# -- networks and boundaries -------------------------------------------------------------------------


def test_a_model_is_drawn_with_a_circle_per_neuron_and_a_line_per_weight():
    model = MLP(2, [4, 4, 1], seed=1)
    picture = draw(model, title="network")
    shown = texts(tree(picture))
    assert len(groups(picture, "edge")) == 8 + 16 + 4
    assert shown.count("0") == 4
    assert {"network", "2 inputs", "Layer 0", "4 neurons", "1 neuron"} <= set(shown)


def test_a_layer_has_one_name_in_every_picture_page_table_and_report():
    class Pair(Module):
        def __init__(self):
            self.left, self.right = MLP(2, [2, 1], seed=1), MLP(2, [2, 1], seed=2)

        def forward(self, x):
            return self.left(x) * self.right(x)

    for model, names in ((MLP(2, [2, 1], seed=1), ["Layer 0"]), (Pair(), ["left (MLP)", "right (MLP)"])):
        y = model([Value(-9.0), Value(3.0)])
        y.backward()
        watcher = watch(model)
        watcher.record(loss=1.0)
        kernel = compile(model)
        kernel([[1.0, 2.0]])
        shown = {
            "graph": draw(y).svg,
            "boxes": draw(y, depth=1).svg,
            "page": explore(y).html,
            "training": watcher.html,
            "why": str(why(y)),
            "why in a notebook": why(y)._repr_html_(),
            "why of a weight": str(why(y, model.parameters()[0])),
            "marks": draw(y, mark=why(y)).svg,
        }
        if len(names) == 1:
            shown |= {"network": draw(model).svg, "kernel": draw(kernel).svg}
        for what, text in shown.items():
            text = re.sub(r'"(MLP|Pair)[.\w]*"', "", text)  # by their paths a page puts modules in order
            assert re.findall(r"\b(?:layers|neurons)\.\d+", text) == [], what
            assert any(name in text for name in names), what


def test_the_width_of_a_line_is_the_size_of_the_weight_and_its_colour_the_sign():
    model = Neuron(3, seed=0)
    for weight, number in zip(model.w, (2.0, -1.0, 0.0), strict=True):
        weight.data = number
    model.b.data = -2.0
    lines = [line for line in draw(model).dot.splitlines() if " -- " in line]
    widths = [float(re.search(r"penwidth=([\d.]+)", line)[1]) for line in lines]
    assert widths[0] > widths[1] > widths[2]
    assert [LIGHT["positive line 4"] in lines[0], LIGHT["negative line 4"] in lines[1]] == [True, True]
    assert "dashed" in lines[1]
    assert LIGHT["faint"] in lines[2]
    assert LIGHT["negative 4"] in draw(model).dot


def test_of_a_wide_layer_the_first_and_the_last_neurons_are_drawn():
    shown = texts(tree(draw(Sequential(Affine(64, 32, seed=0), ReLU(), Affine(32, 10, seed=0)))))
    assert {"48 more", "16 more", "64 inputs", "63"} <= set(shown)
    assert "30" in shown
    assert "20" not in shown


def test_parameters_outside_of_neurons_are_counted():
    class Scaled(Module):
        def __init__(self):
            self.scale = Value(2.0)
            self.layer = Layer(2, 2, seed=0)

    assert "1 parameters of the model are in no neuron, and not shown" in texts(tree(draw(Scaled())))


def test_a_model_that_is_no_stack_of_layers_is_an_error_that_says_what_works():
    with pytest.raises(ValueError, match=r"draw\(model\(x\)\)"):
        draw(ReLU())
    with pytest.raises(ValueError, match=r"gives 3 numbers and Affine 1 takes 4; draw\(model\(x\)\)"):
        draw(Sequential(Affine(2, 3, seed=0), Affine(4, 1, seed=0)))


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_boundary_is_drawn_where_the_model_changes_its_mind(outputs):
    mpl.use("agg")
    points = [[float(i % 4), float(i // 4)] for i in range(12)]
    classes = [i % max(outputs, 2) for i in range(12)]
    figure = plot_boundary(MLP(2, [4, outputs], seed=3), points, classes, resolution=8, title="moons")
    axes = figure.axes[0]
    assert axes.get_title() == "moons"
    assert len(axes.get_legend().get_texts()) == max(outputs, 2)
    low, high = axes.get_xlim()
    assert low < 0.0 < 3.0 < high
    again = plot_boundary(lambda p: p[0] - p[1], points, classes, resolution=5, axes=axes)
    assert again is figure
    mpl.pyplot.close(figure)


def circle_or_square(p):
    return p[0] ** 2 + p[1] ** 2 - 2.0


@pytest.mark.parametrize(
    "model", [circle_or_square, lambda p: [0.0, circle_or_square(p)], lambda p: [0.0, circle_or_square(p), -9.0]]
)
def test_the_boundary_is_smooth_however_many_outputs_decide(model):
    mpl.use("agg")
    points = [[2.0 * math.cos(i), 2.0 * math.sin(i)] for i in range(12)]
    figure = plot_boundary(model, points, [0] * 12, resolution=40)
    lines = [path for c in figure.axes[0].collections if not c.get_facecolor().size for path in c.get_paths()]
    drawn = [vertex for path in lines for vertex in path.vertices]
    assert len(drawn) > 40
    assert all(abs(math.hypot(*vertex) - math.sqrt(2.0)) < 0.01 for vertex in drawn)
    mpl.pyplot.close(figure)


def test_the_markers_of_classes_are_those_of_the_page_of_watch():
    mpl.use("agg")
    figure = plot_boundary(lambda p: p[0], [[0.0, 1.0], [1.0, 2.0], [2.0, 0.0]], [-1, 1, 3], resolution=4)
    legend = figure.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["−1", "1", "3"]
    corners = [len(handle.get_paths()[0].vertices) for handle in legend.legend_handles]
    assert corners[0] > 20  # a circle
    assert corners[1:] == [5, 4]  # a square and a triangle, closed
    mpl.pyplot.close(figure)


@pytest.mark.parametrize(("points", "classes"), [([], []), ([[1.0, 2.0]], [0, 1]), ([[1.0]], [0])])
def test_a_boundary_needs_pairs_and_a_class_for_each(points, classes):
    with pytest.raises(ValueError, match="pairs of numbers and one class for each"):
        plot_boundary(MLP(2, [1], seed=0), points, classes)


def test_a_model_that_fails_leaves_no_empty_figure_open():
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    with pytest.raises(ZeroDivisionError):
        plot_boundary(lambda point: 1 // 0, [[0.0, 1.0]], [1])
    assert pyplot.get_fignums() == before


def test_without_matplotlib_a_boundary_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ModuleNotFoundError, match=r"microgrid-autograd\[plot\]"):
        plot_boundary(MLP(2, [1], seed=0), [[0.0, 1.0]], [1])


# -- notebooks ---------------------------------------------------------------------------------------


def test_a_leaf_and_a_small_graph_show_as_pictures_in_a_notebook():
    for value in (Value(1.0, "x"), apples()):
        bundle = notebook_bundle(value)
        assert bundle["image/svg+xml"].startswith("<svg")
        assert bundle["image/png"].startswith("iVBOR")
        assert bundle["text/plain"] == repr(value)


def test_a_large_graph_shows_as_text_unless_a_node_in_it_is_marked():
    x, y = chain(1000)
    assert notebook_bundle(y) is None
    assert LIGHT["mark"] in notebook_bundle(y, mark=x)["image/svg+xml"]
    y = apples()
    assert LIGHT["mark"] in notebook_bundle(y, mark=y.first)["image/svg+xml"]


def test_a_value_shows_as_text_where_no_picture_can_be_made(monkeypatch):
    monkeypatch.setenv(rendering.VARIABLE, "no-such-program")
    assert notebook_bundle(apples()) is None


def test_a_notebook_shows_a_picture():
    picture = draw(apples(), title="apples")
    assert picture._repr_svg_() == picture.svg
    assert set(picture._repr_mimebundle_(include=None)) == {"image/svg+xml", "image/png", "text/plain"}
    assert repr(picture) == "<Picture 'apples': .save('graph.svg'), .svg, .png, .dot>"
    assert str(picture) == picture.dot


# -- files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "start"),
    [("svg", b"<svg"), ("PNG", b"\x89PNG"), ("pdf", b"%PDF"), ("html", b"<!DOCTYPE html>"), ("dot", b"digraph")],
)
def test_the_suffix_of_a_file_says_its_format(tmp_path, suffix, start):
    path = draw(apples()).save(tmp_path / f"y.{suffix}")
    assert path.read_bytes().startswith(start)
    assert [file.name for file in tmp_path.iterdir()] == [f"y.{suffix}"]


@pytest.mark.parametrize("path", ["y.jpg", "y", "svg"])
def test_an_unknown_suffix_is_an_error_that_names_the_known_ones(tmp_path, path):
    with pytest.raises(ValueError, match=r"\.svg, \.png, \.pdf, \.html or \.dot"):
        draw(apples()).save(tmp_path / path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cannot write .*y\.svg.*folder that exists and that you can write to"):
        draw(apples()).save(tmp_path / "missing" / "y.svg")
    (tmp_path / "y.svg").mkdir()
    with pytest.raises(IsADirectoryError, match="cannot write"):
        draw(apples()).save(tmp_path / "y.svg")
    assert [file.name for file in tmp_path.iterdir()] == ["y.svg"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "y.svg"
    path.write_text("old")
    with pytest.raises(RendererError):
        draw(apples(), renderer=sys.executable).save(path)
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left on device"):
        draw(apples()).save(path)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["y.svg"]


def without_cairosvg(monkeypatch):
    monkeypatch.setitem(sys.modules, "cairosvg", None)
    monkeypatch.setattr(picture, "find_spec", lambda name: None)


def test_pdf_without_cairosvg_says_what_to_install(tmp_path, monkeypatch):
    without_cairosvg(monkeypatch)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "microgrid-autograd\[pdf\]"'):
        draw(apples()).save(tmp_path / "y.pdf")


def test_korean_in_a_png_is_drawn_with_the_fonts_of_the_system():
    korean = draw(Value(1.0, "사과"), renderer="graphviz-pure")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert korean.png.startswith(b"\x89PNG")
    assert "image/png" not in korean._repr_mimebundle_()


def test_korean_in_a_png_without_cairosvg_is_a_warning_that_says_what_to_do(monkeypatch):
    without_cairosvg(monkeypatch)
    with pytest.warns(UserWarning, match=r"lack 사과.*microgrid-autograd\[pdf\]"):
        assert draw(Value(1.0, "사과"), renderer="graphviz-pure").png.startswith(b"\x89PNG")


# -- renderers ---------------------------------------------------------------------------------------


def program(path, text="#!/bin/sh\nexit 0\n"):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return str(path)


def test_the_renderer_is_the_users_choice_then_the_systems_then_the_packages(tmp_path, monkeypatch):
    monkeypatch.delenv(rendering.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    package = find_renderer()
    assert os.path.basename(package).startswith("graphviz-pure")
    system = program(tmp_path / "dot")
    assert find_renderer() == system
    assert find_renderer("graphviz-pure") == package
    chosen = program(tmp_path / "chosen")
    monkeypatch.setenv(rendering.VARIABLE, chosen)
    assert find_renderer() == chosen
    assert find_renderer("dot") == system


@pytest.mark.parametrize("files", [None, []])
def test_without_any_renderer_the_error_names_what_to_install(tmp_path, monkeypatch, files):
    def distribution(name):
        if files is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return type("Distribution", (), {"files": files})

    monkeypatch.delenv(rendering.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(rendering, "distribution", distribution)
    picture = draw(apples())
    with pytest.raises(RendererError, match="pip install graphviz-pure"):
        picture.save(tmp_path / "y.svg")
    assert picture.save(tmp_path / "y.dot").read_text() == picture.dot


def test_a_choice_that_is_no_program_is_an_error_that_names_it():
    with pytest.raises(RendererError, match="'nowhere/dot' is not a program"):
        draw(apples(), renderer="nowhere/dot").svg  # noqa: B018 - reading it renders


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#!/bin/sh\necho wrong picture >&2\nexit 3\n", r"exit code 3\): wrong picture"),
        ("#!/bin/sh\nsleep 60\n", "did not finish in 0.2 seconds.*focus="),
        ("no program", "could not be run"),
    ],
)
def test_a_renderer_that_fails_is_an_error_with_its_words(tmp_path, monkeypatch, text, message):
    monkeypatch.setattr(rendering, "TIME_LIMIT", 0.2 if "sleep" in text else 20.0)
    with pytest.raises(RendererError, match=message):
        draw(apples(), renderer=program(tmp_path / "dot", text)).svg  # noqa: B018 - reading it renders


# -- wrong arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "options", "error", "message"),
    [
        (3.0, {}, TypeError, "a Value, a list of them, a model, or a kernel; got 3.0 of type float"),
        ([Value(1.0), "x"], {}, TypeError, "got 'x' of type str"),
        ([], {}, ValueError, "at least one Value"),
        (Value(1.0), {"direction": "up"}, ValueError, "direction must be one of LR, TB, RL, BT; got 'up'"),
        (Value(1.0), {"theme": "blue"}, ValueError, "theme must be one of auto, light, dark; got 'blue'"),
        (apples(), {"depth": -1}, ValueError, "depth must be a whole number, 0 or more; got -1: give None to open"),
        (apples(), {"depth": "a"}, TypeError, "depth must be a whole number, 0 or more; got 'a': give None"),
        (apples(), {"depth": 1.5}, TypeError, "depth must be a whole number, .*; got 1.5"),
        (apples(), {"radius": -1}, ValueError, "radius must be a whole number, 0 or more; got -1: give 1"),
        (apples(), {"fold": 0}, ValueError, "fold must be a whole number, 1 or more; got 0: give None"),
        (apples(), {"fold": True}, TypeError, "fold must be a whole number, 1 or more; got True"),
        (apples(), {"limit": 0}, ValueError, "limit must be a whole number, 1 or more; got 0: give None"),
        (apples(), {"limit": "a"}, TypeError, "limit must be a whole number, .*; got 'a'"),
        (apples(), {"like": 3}, TypeError, r"like must be a picture, which draw\(\) returned .*; got 3"),
        (apples(), {"title": 3}, TypeError, "title must be text, the heading; got 3: give title='3'"),
        (MLP(2, [1]), {"title": None}, TypeError, "title must be text, .*; got None"),
        (apples(), {"mark": Value(1.0)}, ValueError, r"mark=Value\(.*is not in the graph .*: give a Value that"),
        (
            apples(),
            {"mark": 3},
            TypeError,
            "mark must be a Value, a dict of Values and what to say of each, or",
        ),
        (apples(), {"mark": {"tax": "x"}}, TypeError, "mark must be a Value, a dict of Values and what to say of each"),
        (apples(), {"mark": Value(3.0)}, ValueError, "give a Value that the output depends on, or draw the output"),
        (apples(), {"mark": why(Value(0.0) ** 2)}, ValueError, "is not in the graph that is drawn"),
        (apples(), {"focus": []}, ValueError, r"focus=\[\] is not in the graph that is drawn"),
    ],
)
def test_wrong_arguments_are_errors_that_name_them(what, options, error, message):
    with pytest.raises(error, match=message):
        draw(what, **options)


def test_drawing_loads_no_third_party_package():
    code = (
        "import sys; old = set(sys.modules); import microgrid.drawing as d; from microgrid.engine import Value;"
        "d.draw(Value(1.0) * 2.0).svg; print(*{m.split('.')[0] for m in set(sys.modules) - old})"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    ours = {"microgrid", "microgrid__mypyc"}  # the second is the library of the compiled modules
    assert set(loaded) - {*sys.stdlib_module_names} <= ours


def test_a_function_draws_where_no_program_can_run(monkeypatch):
    program = find_renderer()
    by_program = draw(Value(2.0, "a") * Value(3.0, "b")).svg
    asked = []

    def draw_here(dot, kind, placed):
        asked.append((kind, placed))
        return rendering.render(dot, kind, program, *["-Kneato", "-n2"] * placed)

    monkeypatch.setattr(rendering, "draw_here", draw_here)
    drawn = draw(Value(2.0, "a") * Value(3.0, "b"))
    assert drawn.svg == by_program
    assert asked == [("json0", True), ("svg", True)]
    assert "image/png" not in drawn._repr_mimebundle_()
    with pytest.raises(RendererError, match=r"a PNG needs the program Graphviz.*take \.svg"):
        drawn.png  # noqa: B018 - it is drawn when it is asked for
