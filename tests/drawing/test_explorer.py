"""The explorer without a browser: the program it exports, its layout, the page's text and what notebooks get.

What the page does when it runs is tested in tests/browser.
"""

import json
import math
import re
from pathlib import Path

import pytest

import microgrid as mg
from microgrid import ops
from microgrid.drawing import rounding
from microgrid.drawing.explorer import explore
from microgrid.drawing.graph import extract
from microgrid.drawing.layout import CARD_HEIGHT, Layout
from microgrid.drawing.program import Program, Row, javascript
from microgrid.nn import MLP


def neuron():
    x, w = mg.Value(2.0, label="x"), mg.Value(-3.0, label="w")
    y = mg.tanh(x * w)
    y.label = "y"
    return y


def data_of(explorer):
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', explorer.html)[1])


# -- the program -------------------------------------------------------------------------------------


def evaluate(row, y, *xs):
    """Run a row's exported derivative program with Python's own operations, as the page does with its own."""
    slots = [y, *xs]
    for entry in row.tape[len(slots) :]:
        slots.append(entry[0].forward(*[slots[i] for i in entry[1]]) if isinstance(entry, tuple) else entry)
    return [0.0 if slot is None else slots[slot] for slot in row.results]


@pytest.mark.parametrize("op", list(ops.rows()), ids=lambda op: op.name)
def test_exported_local_derivatives_are_those_of_the_row(op):
    row = Row(op)
    assert row.problem == ""
    for offset in (0.3, 0.8):
        xs = [min(max(domain.low, -2.0) + offset + 0.1 * i, domain.high) for i, domain in enumerate(op.domain)]
        y = op.forward(*xs)
        assert evaluate(row, y, *xs) == pytest.approx([float(d) for d in op.local_derivatives(y, *xs)], rel=0, abs=0)


FORMULAS = {
    "tanh": ("tanh({0})", ["sech²({0})"]),
    "sigmoid": ("σ({0})", ["σ({0})(1−σ({0}))"]),
    "atanh": ("atanh({0})", ["1 ÷ (1−{0}²)"]),
    "mul": ("{0} × {1}", ["{1}", "{0}"]),
    "div": ("{0} ÷ {1}", ["1 ÷ {1}", "−({y} ÷ {1})"]),
    "sub": ("{0} − {1}", ["1", "−1"]),
    "neg": ("−{0}", ["−1"]),
    "abs": ("|{0}|", ["sign({0})"]),
    "floor": ("⌊{0}⌋", ["0"]),
    "exp2": ("2^{0}", ["{y} × 0.6931"]),
    "expm1": ("expm1({0})", ["exp({0})"]),
    "power": ("{0}^{1}", None),
    "power[1.0]": ("{0}", ["1"]),
    "power[3.0]": ("{0}³", ["3 × {0}²"]),
    "power[-1.0]": ("{0}⁻¹", ["−1 × {0}⁻²"]),
    "sum[3]": ("{0} + {1} + {2}", ["1", "1", "1"]),
    "asin": ("asin({0})", ["1 ÷ √((1−{0}²))"]),
    "less": ("{0} < {1}", ["0", "0"]),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_are_written_as_mathematics_writes_them(name):
    op = next(op for op in ops.rows() if op.name == name)
    program = Program(op(*[mg.Value(1.0) for _ in range(op.arity)]))
    row = next(row for row in program.json()["rows"] if row["name"] == name)
    formula, derivatives = FORMULAS[name]
    assert row["formula"] == formula
    assert derivatives is None or row["derivatives"] == derivatives


@pytest.mark.parametrize(
    ("slope", "text"), [(0.5, "(0.5)"), (math.inf, "Infinity"), (-math.inf, "(-Infinity)"), (math.nan, "NaN")]
)
def test_a_row_with_a_constant_has_it_in_its_javascript(slope, text):
    assert f"({text} * a0)" in javascript(ops.leaky_relu_of(slope))


def test_a_formula_holds_its_operands_together():
    x, y = mg.Value(2.0), mg.Value(1.0)
    named = {row["name"]: row for row in Program(ops.power_of(3.0)(ops.asin(x - y))).json()["rows"]}
    assert named["power[3.0]"]["derivatives"] == ["3 × {0}²"]
    cubed = mg.Op("cubed", lambda a, b: (a - b) ** 3, (lambda y, a, b: mg.ops.power_of(2.0)(a - b) * 3.0, 0.0))
    assert Row(cubed).problem == "the operation cubed has no JavaScript expression"
    (row,) = (row for row in Program(cubed(x, y)).json()["rows"] if row["name"] == "cubed")
    assert row["derivatives"] == ["({0} − {1})² × 3", "0"]


def test_an_operation_of_the_user_is_shown_and_computed_by_its_expansion_its_operator_and_its_formula():
    area = mg.Op("area", lambda r: math.pi * (r * r), (math.tau,), expansion=lambda r: math.pi * (r * r))
    minus = mg.Op("minus", lambda a, b: a - b, (1.0, -1.0), operator="-", symbol="less")
    root = mg.Op("root", math.sqrt, (lambda y, x: 0.5 / y,), formula="√{0:atom}", javascript="Math.sqrt({0})")
    assert javascript(area) == "(a0) => (((3.141592653589793) * (a0 * a0)))"
    rows = {row["name"]: row for row in Program(root(minus(area(mg.Value(1.0)), 1.0))).json()["rows"]}
    assert [rows[name]["formula"] for name in ("area", "minus", "root")] == ["area({0})", "{0} less {1}", "√{0}"]


def test_long_sum_is_cut_between_two_terms():
    program = Program(ops.total(mg.Value(1.0) for _ in range(100)))
    row = next(row for row in program.json()["rows"] if row["name"] == "sum[100]")
    assert re.fullmatch(r"(\{\d+\} \+ )+\{\d+\} \+ …|(\{\d+\} \+ )+\{\d+\} …", row["formula"])


@pytest.mark.parametrize(
    "partial",
    [
        lambda y, x: 1.0 if x > 0 else -1.0,
        lambda y, x: 1.0 if x == 0 else -1.0,
        lambda y, x: 1.0 if x else -1.0,
        lambda y, x: math.cos(x),
    ],
    ids=["compares", "equals", "asks for truth", "leaves the table"],
)
def test_derivative_that_cannot_be_written_down_is_a_problem_in_words(partial):
    row = Row(mg.Op("choosy", abs, (partial,), javascript="Math.abs({0})"))
    assert "the local derivative of choosy is not written with operations of the table" in row.problem


def test_derivative_may_use_every_operator():
    def partial(y, x):
        return -abs(x) + 1 - (2 - x) * (3 * x) / (x / 4) + 5 / x + x**2 + 2**x + x**x - y

    op = mg.Op("odd", lambda x: x, (partial,), javascript="{0}")
    row = Row(op)
    assert row.problem == ""
    assert evaluate(row, 1.5, 1.5) == pytest.approx([float(partial(1.5, 1.5))])


def test_derivative_through_an_operation_without_javascript_is_a_problem():
    secret = mg.Op("secret", lambda x: x, (1.0,))
    row = Row(mg.Op("open", lambda x: x, (lambda y, x: secret(x),), javascript="{0}"))
    assert row.problem == "the local derivative of open uses secret, which has no JavaScript expression"


@pytest.mark.parametrize("javascript", ["{0} + {1}", "{x}", "{0", "{0} + {}"])
def test_malformed_javascript_is_an_error_that_names_the_operation(javascript):
    op = mg.Op("bent", lambda x: x, (1.0,), javascript=javascript)
    with pytest.raises(ValueError, match=r"operation 'bent': its javascript .* is not a template of its 1 argument"):
        explore(op(mg.Value(1.0))).html  # noqa: B018 - making the page is the test


def test_numbers_that_json_lacks_go_as_text():
    output = ops.total([mg.Value(x) for x in (math.inf, -math.inf, math.nan)])
    assert sorted(Program(output).json()["data"].values()) == ["-Infinity", "Infinity", "NaN"]


def test_same_graph_gives_the_same_page():
    assert explore(neuron()).html == explore(neuron()).html


# -- the layout --------------------------------------------------------------------------------------


def apart(layout):
    """Whether no two boxes overlap."""
    boxes = sorted(
        (x - w / 2, x + w / 2, y - h / 2, y + h / 2) for (x, y), (w, h) in zip(layout.at, layout.sizes, strict=True)
    )
    return not any(
        a[1] > b[0] + 0.2 and a[2] < b[3] - 0.2 and b[2] < a[3] - 0.2
        for i, a in enumerate(boxes)
        for b in boxes[i + 1 :]
        if b[0] < a[1]
    )


def extents(layout):
    return [max(p[axis] for p in layout.at) - min(p[axis] for p in layout.at) + CARD_HEIGHT for axis in (0, 1)]


@pytest.mark.parametrize("direction", ["LR", "RL", "TB", "BT"])
def test_forward_goes_where_it_is_told_and_edges_join_their_boxes(direction):
    layout = Layout(extract((neuron(),)), direction)
    axis, sign = {"LR": (0, 1), "RL": (0, -1), "TB": (1, 1), "BT": (1, -1)}[direction]
    for edge, route in zip(layout.graph.edges, layout.routes, strict=True):
        assert sign * layout.at[edge.source][axis] < sign * layout.at[edge.target][axis]
        assert route[0][axis] == pytest.approx(
            layout.at[edge.source][axis] + sign * layout.sizes[edge.source][axis] / 2, abs=1
        )
        assert route[-1][axis] == pytest.approx(
            layout.at[edge.target][axis] - sign * layout.sizes[edge.target][axis] / 2, abs=1
        )
        assert len(route) % 3 == 1
    assert layout.labelled
    assert apart(layout)


def test_edges_into_one_node_end_side_by_side():
    x = mg.Value(2.0, label="x")
    layout = Layout(extract((x * x,)), "LR")
    ends = [route[-1] for route in layout.routes]
    assert ends[0] != ends[1]


def test_long_edge_goes_around_the_boxes_between():
    x = mg.Value(0.5, label="x")
    y = mg.sin(mg.sin(mg.sin(mg.sin(x)))) + x
    layout = Layout(extract((y,)), "LR")
    direct = next(i for i, edge in enumerate(layout.graph.edges) if (edge.source, edge.target) == (0, 5))
    for k, (x, y) in enumerate(layout.at[1:5], start=1):
        half_width, half_height = layout.sizes[k][0] / 2, layout.sizes[k][1] / 2
        assert not any(abs(px - x) < half_width and abs(py - y) < half_height for px, py in layout.routes[direct])


def test_broad_graph_is_folded_into_blocks():
    output = ops.total(mg.tanh(mg.Value(float(i))) for i in range(300))
    layout = Layout(extract((output,)), "LR")
    width, height = extents(layout)
    assert 0.3 < height / width < 3
    assert apart(layout)
    assert not layout.labelled


@pytest.mark.parametrize("direction", ["LR", "TB"])
def test_long_graph_is_folded_into_lines(direction):
    y = mg.Value(0.5)
    for _ in range(300):
        y = mg.sin(y)
    layout = Layout(extract((y,)), direction)
    width, height = extents(layout)
    assert 0.2 < height / width < 5
    assert apart(layout)


def test_frames_hold_their_members_and_no_others():
    x = [mg.Value(1.0, label="x"), mg.Value(2.0, label="y")]
    layout = Layout(extract((MLP(2, [3, 1])(x),)), "LR")
    titles = [frame["title"] for frame in layout.json()["frames"]]
    assert titles[0] == "MLP"
    assert titles.count("Neuron 0") == 2


# -- the page ----------------------------------------------------------------------------------------


def test_page_stands_alone_and_allows_its_own_scripts_only():
    page = explore(neuron()).html
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert len(re.findall("<script>", page)) == policy.partition("script-src")[2].count("sha256-")
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert not re.search(r"\{\{\w+\}\}", page)


def test_labels_cannot_end_the_script_that_holds_them():
    x = mg.Value(1.0, label="</script><!-- {{scripts}} \u2028 & ' \" \ud800")
    page = explore(x * 2, title="</title>\x00<script>")
    assert data_of(page)["program"]["labels"]["0"] == x.label
    assert "</script><!--" not in page.html
    assert "</title>\x00" not in page.html
    page.html.encode()


def test_operations_javascript_cannot_end_its_script():
    op = mg.Op("f", lambda x: x, (1.0,), javascript="({0} </script.source.length ? {0} : {0})")
    assert "< /script.source.length" in explore(op(mg.Value(1.0))).html


def test_title_is_the_users_or_names_the_output():
    assert "<title>Backpropagation through y</title>" in explore(neuron()).html
    assert "<title>Backpropagation</title>" in explore(mg.Value(1.0) * 2).html
    assert "<title>My lesson</title>" in explore(neuron(), title="My\nlesson").html


def test_save_writes_the_page_and_refuses_other_formats(tmp_path):
    explorer = explore(neuron())
    path = explorer.save(tmp_path / "page.html")
    assert path.read_text(encoding="utf-8") == explorer.html
    with pytest.raises(ValueError, match=r"end the name '.*page.svg' in .html; draw\(y\).save"):
        explorer.save(tmp_path / "page.svg")
    assert "save('backprop.html')" in repr(explorer)


def test_notebook_gets_a_frame_that_may_only_run_scripts_and_a_picture_behind_it():
    shown = explore(neuron(), title='"quoted"')._repr_html_()
    assert shown.startswith("<style>.microgrid-still{display:none!important}")
    assert '<img alt="&quot;quoted&quot;" src="data:image/svg+xml;base64,' in shown
    assert 'sandbox="allow-scripts"' in shown
    assert "allow-same-origin" not in shown
    assert "style=" not in shown.partition("<iframe")[0], "Jupyter keeps inline styles of untrusted notebooks"


def test_large_graph_is_explored_in_outline_with_all_of_its_program():
    xs = [mg.Value(float(i)) for i in range(30)]
    y = ops.total(mg.tanh(x) for x in xs)
    assert len(data_of(explore(y, limit=20))["picture"]["nodes"]) <= 20
    assert data_of(explore(y, limit=20))["view"]["note"] == "61 nodes in outline"
    assert len(data_of(explore(y, limit=20))["program"]["op"]) == 61
    assert "picture" not in data_of(explore(y)), "the page lays it out"
    assert data_of(explore(y))["view"]["note"] == ""


def test_chain_of_many_nodes_does_not_recurse():
    y = mg.Value(0.5)
    for _ in range(5_000):
        y = mg.sin(y)
    assert len(data_of(explore(y))["program"]["op"]) == 5_001


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"output": 3.0}, TypeError, "explore.. plays backward.. of one Value, or of a formula; got 3.0"),
        ({"output": [mg.Value(1.0)]}, TypeError, "of type list"),
        ({"output": mg.Value(1.0), "direction": "up"}, ValueError, "direction must be one of LR, TB, RL, BT; got 'up'"),
        ({"output": mg.Value(1.0), "theme": "pink"}, ValueError, "theme must be one of auto, light, dark; got 'pink'"),
        ({"output": mg.Value(1.0), "depth": -1}, ValueError, "depth must be a whole number, 0 or more; got -1"),
        ({"output": mg.Value(1.0), "limit": 0}, ValueError, "limit must be a whole number, 1 or more; got 0"),
        ({"output": mg.Value(1.0), "title": 3}, TypeError, "title must be text, the heading; got 3"),
        ({"output": "x*w", "title": 3}, TypeError, "title must be text, the heading; got 3"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        explore(**arguments)


@pytest.mark.parametrize(("theme", "schemes"), [("light", ["light"]), ("dark", ["dark"]), ("auto", ["light", "dark"])])
def test_theme_is_one_or_follows_the_viewer(theme, schemes):
    assert re.findall(r":root\{color-scheme:(\w+)", explore(neuron(), theme=theme).html) == schemes


BRACED = ["{data}", "{0}", "{y}", "{", "}", "}}{{", "{{0}}", "{x}", "f{1}²"]


@pytest.mark.parametrize("name", BRACED)
@pytest.mark.parametrize("symbol", ["", "{0} of"])
def test_braces_of_a_name_stay_in_a_formula(name, symbol):
    op = mg.Op(name, lambda a, b: a, (1.0, lambda y, a, b: op(a, b)), symbol=symbol, javascript="{0}")
    row = Program(op(mg.Value(1.0), mg.Value(2.0))).json()["rows"][-1]
    for text in (row["formula"], row["derivatives"][1]):  # Python's templates double their braces as the page's do
        assert text.format("a", "b", y="y") == f"{symbol or name}(a, b)"


def test_a_page_takes_for_rounding_what_pictures_do():
    folder = Path(rounding.__file__).parent
    text = "".join((folder / name).read_text(encoding="utf-8") for name in ("passes.js", "forward.js", "steps.js"))
    units, sizes = re.findall(r"2 \*\* -(\d+)", text), re.findall(r"< (\S+) \? 0", text)
    assert len(units) == len(sizes) == 2
    assert {2.0 ** -int(unit) for unit in units} == {rounding.UNIT}
    assert {float(size) for size in sizes} == {rounding.SMALL}
