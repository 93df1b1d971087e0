"""The explorer's page in a real browser: every control by mouse and by keyboard, every number against Python."""

import itertools
import json
import math
import random
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from playwright.sync_api import expect
from tools import changes, smallest_text
from waiting import wait_until

import microgrid as mg
from microgrid import losses, ops
from microgrid.drawing import explorer, playground, replay
from microgrid.drawing.explorer import explore
from microgrid.drawing.program import number
from microgrid.nn import MLP
from microgrid.theme import DARK, LIGHT


def example():
    """micrograd's first graph: L = (a·b + c)·f."""
    a, b, c, f = (mg.Value(x, label=name) for name, x in {"a": 2.0, "b": -3.0, "c": 10.0, "f": -2.0}.items())
    e = a * b
    e.label = "e"
    d = e + c
    d.label = "d"
    output = d * f
    output.label = "L"
    return output


def neuron():
    """micrograd's neuron, with labels that are expressions."""
    numbers = {"x1": 2.0, "x2": 0.0, "w1": -3.0, "w2": 1.0, "b": 6.8813735870195432}
    x1, x2, w1, w2, b = (mg.Value(x, label=name) for name, x in numbers.items())
    terms = x1 * w1, x2 * w2
    total = terms[0] + terms[1]
    n = total + b
    for value, label in zip((*terms, total, n), ("x1*w1", "x2*w2", "x1*w1 + x2*w2", "n"), strict=True):
        value.label = label
    output = mg.tanh(n)
    output.label = "o"
    return output


def step_of(page):
    return page.evaluate("now")


# ---------------------------------------------------------------------------------------------------
# The numbers


def samples(op, generator):
    """Arguments at which the operation is smooth and well conditioned."""
    if op.name == "where":
        return [1.0, generator.uniform(-2, 2), generator.uniform(-2, 2)]
    if op.name == "clip":
        return [generator.uniform(-2, 2), -1.0, 1.0]
    return [generator.uniform(max(domain.low, -2.5), min(domain.high, 2.5)) for domain in op.domain]


ROWS = [*ops.rows(), *ops.HIDDEN.values(), ops.power_log_of(1), ops.power_log_of(2)]


@pytest.mark.parametrize("part", range(4))
def test_after_editing_the_numbers_equal_pythons_for_every_operation(show, part):
    generator = random.Random(part)
    rows = ROWS[part::4]
    nodes = [op(*[mg.Value(x) for x in samples(op, generator)]) for op in rows]
    weights = [mg.Value(generator.uniform(0.5, 2)) for _ in nodes]
    output = ops.total(node * weight for node, weight in zip(nodes, weights, strict=True))
    page = show(explore(output))
    order = mg.topological_order(output)
    index = {node: i for i, node in enumerate(order)}
    for _ in range(4):
        edited = {}
        for op, node in zip(rows, nodes, strict=True):
            for leaf, x in zip(node.parents, samples(op, generator), strict=True):
                leaf.data = edited[index[leaf]] = x
        page.evaluate("edited => Object.entries(edited).forEach(([i, x]) => setLeaf(Number(i), x))", edited)
        output.forward()
        for node in order:
            node.grad = 0.0
        output.backward()
        found = page.evaluate("({data: [...passes.data], gradient: [...passes.gradient]})")
        derivatives = page.evaluate("program.op.map((_, i) => passes.localDerivatives(i))")
        for i, node in enumerate(order):
            # Terms that nearly cancel keep their absolute accuracy only.
            near = {"rel": 1e-12, "abs": 1e-15}
            assert found["data"][i] == pytest.approx(node.data, **near), f"data of {node.op.name}"
            assert found["gradient"][i] == pytest.approx(node.grad, **near), f"gradient at {node.op.name}"
            expected = [float(d) for d in node.local_derivatives()]
            assert derivatives[i] == pytest.approx(expected, **near), f"local derivative of {node.op.name}"


SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -2.0, math.inf, -math.inf, math.nan, 1e-300, -1e-300, 5e-324, 1e300, -1e300]


def test_operations_agree_with_python_on_infinities_nan_and_signed_zeros(show):
    generator = random.Random(7)
    used = [op for op in ROWS if op.arity]
    page = show(explore(ops.total(op(*[mg.Value(1.0) for _ in range(op.arity)]) for op in used)))
    functions = {name: i for i, name in enumerate(page.evaluate("passes.rows.map(row => row.name)"))}
    calls = []
    for op in used:
        for k in range(60):
            xs = [SPECIAL[k % len(SPECIAL)], *[generator.choice(SPECIAL) for _ in range(op.arity - 1)]]
            calls.append((op, functions[op.name], xs, op.forward(*xs)))
    asked = [[f, [number(x) for x in xs]] for _, f, xs, _ in calls]
    results = page.evaluate("asked => asked.map(([f, xs]) => operations[f](...xs.map(Number)))", asked)
    for (op, _, xs, expected), found in zip(calls, results, strict=True):
        if math.isnan(expected) or math.isinf(expected) or expected == 0.0:
            assert repr(float(found)) == repr(expected), f"{op.name}{xs} is {expected} in Python, {found} on the page"
        else:
            assert found == pytest.approx(expected, rel=1e-12), f"{op.name}{xs}"


def test_nothing_flows_through_an_infinite_derivative_behind_a_constant(show):
    x = mg.Value(0.0, label="x")
    page = show(explore(mg.stop_gradient(mg.sqrt(x) + 1.0) * 2.0 + x * 3.0))
    assert page.evaluate("[passes.gradient[0], passes.flow.some(Number.isNaN)]") == [3.0, False]


def test_special_functions_are_accurate_far_out_and_near_their_zeros(show):
    generator = random.Random(3)
    names = ["erf", "erfc", "gelu", "gamma", "lgamma", "digamma", "polygamma[1]", "polygamma[2]"]
    names += ["sigmoid", "silu", "softplus", "sech2", "sigmoid_slope"]
    table = {op.name: op for op in ROWS}
    page = show(explore(ops.total(table[name](mg.Value(1.0)) for name in names)))
    functions = {name: i for i, name in enumerate(page.evaluate("passes.rows.map(row => row.name)"))}
    for name in names:
        xs = [generator.uniform(-30, 30) for _ in range(200)] + [1 + 1e-9, 2 - 1e-9, 1e-8, -1e-8, 700.0, 26.0]
        found = page.evaluate(f"xs => xs.map(operations[{functions[name]}])", xs)
        for x, y in zip(xs, found, strict=True):
            expected = table[name].forward(x)
            # lgamma and digamma cross zero between their poles, where a relative error means nothing.
            near = {"rel": 1e-12, "abs": 1e-13 if name in ("lgamma", "digamma") else 0.0}
            assert y == pytest.approx(expected, **near), f"{name}({x!r})"


def test_rounding_and_division_with_a_remainder_are_pythons_to_the_last_digit(show):
    generator = random.Random(5)
    rows = [
        ops.rounded,
        ops.floor_divide,
        ops.mod,
        ops.fmod,
        ops.remainder,
        *map(ops.round_of, (0, 2, -1, 17, 300, -300)),
    ]
    page = show(explore(ops.total(op(*[mg.Value(1.0) for _ in range(op.arity)]) for op in rows)))
    functions = {name: i for i, name in enumerate(page.evaluate("passes.rows.map(row => row.name)"))}

    def draw():
        kinds = (generator.randint(-50, 50) / 8, generator.uniform(-9, 9), 10 ** generator.uniform(-320, 308))
        return generator.choice([1.0, -1.0]) * generator.choice(kinds)

    for op in rows:
        calls = [[draw() for _ in range(op.arity)] for _ in range(500)]
        found = page.evaluate(f"calls => calls.map(xs => String(operations[{functions[op.name]}](...xs)))", calls)
        for xs, y in zip(calls, found, strict=True):
            expected = op.forward(*xs)
            assert float(y) == expected or (y == "NaN" and math.isnan(expected)), (
                f"{op.name}{xs} is {expected}, not {y}"
            )


# ---------------------------------------------------------------------------------------------------
# Steps


def test_every_step_says_in_words_and_numbers_what_happens(show):
    page = show(explore(example()))
    now = page.locator("#now")
    said = []
    for _ in range(9):
        said.append(re.sub(r"\s+", " ", now.inner_text()))
        page.locator("#forward").click(force=True)
    assert "The leaves a = 2, b = −3, c = 10, f = −2" in said[0]
    assert "Forward 1 of 3 e = a × b = 2 × −3 = −6" in said[1]
    assert "d = e + c = −6 + 10 = 4" in said[2]
    assert "L = d × f = 4 × −2 = −8" in said[3]
    assert "L.grad = 1" in said[4]
    assert "Backward 1 of 3" in said[5]
    assert "d.grad += 1 × −2 = −2" in said[5]
    assert "f.grad += 1 × 4 = 4" in said[5]
    assert "e.grad += −2 × 1 = −2" in said[6]
    assert "a.grad += −2 × −3 = 6" in said[7]
    assert "b.grad += −2 × 2 = −4" in said[7]
    assert step_of(page) == 7, "there are eight steps, and no ninth"


def test_nodes_fill_with_data_then_gradients_and_edges_with_both_numbers(show):
    page = show(explore(example()))
    texts = "nodes.map(node => [node.dataText.textContent, node.gradientText.textContent])"
    order = page.evaluate("nodes.map(node => nameOf(node.values[0]))")
    assert dict(zip(order, page.evaluate(texts), strict=True))["e"] == ["", ""]
    page.evaluate("goTo(3)")
    assert [data for data, _ in page.evaluate(texts)] == ["2", "−3", "−6", "10", "4", "−2", "−8"]
    assert page.locator(".edge-label:not(.hidden)").count() == 0
    page.evaluate("goTo(5)")
    assert page.locator(".edge-label:not(.hidden)").all_text_contents() == ["∂ −2← −2", "∂ 4← 4"]
    assert page.locator(".edge.active.backward").count() == 2
    page.evaluate("goTo(7)")
    assert [gradient for _, gradient in page.evaluate(texts)] == ["6", "−4", "−2", "−2", "−2", "4", "1"]


CONTROLS = [
    ("#forward", "ArrowRight", 3, 4),
    ("#back", "ArrowLeft", 3, 2),
    ("#first", "Home", 3, 0),
    ("#last", "End", 3, 7),
]


@pytest.mark.parametrize(("button", "key", "start", "end"), CONTROLS)
def test_each_control_works_by_mouse_by_key_and_by_focus_and_enter(show, button, key, start, end):
    page = show(explore(example()))
    for act in (
        lambda: page.click(button),
        lambda: page.keyboard.press(key),
        lambda: (page.focus(button), page.keyboard.press("Enter")),
    ):
        page.evaluate(f"goTo({start}); document.activeElement.blur()")
        act()
        assert step_of(page) == end


def test_play_runs_to_the_end_pauses_and_starts_again(show):
    page = show(explore(example()))
    page.select_option("#speed", "20")
    page.click("#play")
    expect(page.locator("#play")).to_have_attribute("aria-label", "Pause")
    expect(page.locator("#now")).to_have_attribute("aria-live", "off")
    wait_until(page, "now === lastStep")
    expect(page.locator("#play")).to_have_attribute("aria-label", "Play")
    expect(page.locator("#now")).to_have_attribute("aria-live", "polite")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Space")
    wait_until(page, "now > 1 && now < lastStep")
    page.keyboard.press("Space")
    stopped = step_of(page)
    page.wait_for_timeout(200)
    assert step_of(page) == stopped


def test_speed_sets_the_pace(show):
    page = show(explore(example()))
    counts = {}
    for speed in ("0.5", "20"):
        page.evaluate("goTo(0)")
        page.select_option("#speed", speed)
        page.click("#play")
        page.wait_for_timeout(500)
        counts[speed] = step_of(page)
        page.evaluate("setPlaying(false)")
    assert counts["0.5"] <= 1
    assert counts["20"] >= 3


def test_slider_moves_by_mouse_and_by_keys(show):
    page = show(explore(example()))
    box = page.locator("#slider").bounding_box()
    page.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    assert step_of(page) == 7
    page.focus("#slider")
    page.keyboard.press("ArrowLeft")
    assert step_of(page) == 6
    expect(page.locator("#slider")).to_have_attribute("aria-valuetext", "Step 6 of 7: backward at d")


# ---------------------------------------------------------------------------------------------------
# The selected node


def test_reused_node_shows_both_contributions_and_the_sum_over_paths(show):
    a = mg.Value(3.0, label="a")
    b = a + a
    b.label = "b"
    c = b * a
    c.label = "c"
    page = show(explore(c))
    page.evaluate("goTo(lastStep)")
    page.locator("#nodes .node", has_text="a").first.click()
    text = re.sub(r"\s+", " ", page.locator("#node").inner_text())
    assert "a.grad += 1 × 6 = 6 from c" in text
    assert text.count("a.grad += 3 × 1 = 3 from b") == 2
    assert "Sum over 3 paths to the output" in text
    assert "a → b → c 1 × 3 = 3" in text
    assert "sum = 12" in text
    path = page.locator(".path").first
    path.hover()
    assert page.locator(".edge.on-path").count() > 0


def test_click_shows_formula_and_local_derivatives_as_formula_and_number(show):
    n = mg.Value(0.5, label="n")
    o = mg.tanh(n)
    o.label = "o"
    page = show(explore(o))
    page.evaluate("goTo(lastStep)")
    page.locator("#nodes .node", has_text="o").first.click()
    text = re.sub(r"\s+", " ", page.locator("#node").inner_text())
    assert "o = tanh(n) = tanh(0.5) = 0.4621" in text
    assert "∂o/∂n = sech²(n) = 0.7864" in text
    expect(page.locator("#full-data")).to_have_text("0.4621")
    page.click("#full-data")
    assert float(page.locator("#full-data").inner_text()) == pytest.approx(o.data, rel=1e-15)
    page.keyboard.press("Escape")
    expect(page.locator("#node h2")).to_have_text("This node")


def test_a_derivative_that_is_too_long_for_a_formula_is_said_in_words(show):
    z = [mg.Value(0.5 * k, label=f"z{k}") for k in range(10)]
    page = show(explore(mg.maximum(*z)))
    page.evaluate("goTo(lastStep); select(outputNode)")
    panel = page.locator("#node")
    expect(panel).to_contain_text("the derivative is 1 for the largest, shared among equals")
    lines = panel.locator(".line").all_text_contents()
    assert {"∂v₁₀/∂z8 = 0", "∂v₁₀/∂z9 = 1"} <= set(lines)
    assert max(map(len, lines)) < 72


@pytest.mark.parametrize("function", [mg.maximum, mg.minimum, lambda a, b: mg.maximum(a, b, 0.0)])
def test_a_derivative_with_cases_is_said_in_words(show, function):
    page = show(explore(function(mg.Value(1.0, "a"), mg.Value(2.0, "b"))))
    page.evaluate("goTo(lastStep); select(outputNode)")
    expect(page.locator("#node")).to_contain_text("the derivative is 1 for the")
    derivatives = [text for text in page.locator("#node .line").all_text_contents() if text.startswith("∂")]
    assert derivatives
    assert not [text for text in derivatives if "where" in text or text.count("=") > 1]


def test_softmax_with_loss_says_that_the_largest_score_cancels(show):
    page = show(explore(mg.losses.cross_entropy([mg.Value(x, f"a{i}") for i, x in enumerate((0.3, 1.0, -0.5))], 1)))
    signs = page.evaluate("nodes.filter(node => node.computes).map(node => passes.row(node.values[0]).symbol).sort()")
    assert signs == sorted(["max", "finite", "stop", "−", "−", "exp", "exp", "+", "log", "+", "−", "softplus"])
    row = "passes.row(steps[now].node.values[0]).name"
    page.evaluate(f"goTo(0); while (steps[now].phase !== 'backward' || {row} !== 'stop_gradient') goTo(now + 1)")
    expect(page.locator("#now")).to_contain_text("what arrives cancels, it adds up to 0")
    page.evaluate("goTo(lastStep)")
    expect(page.locator("#now")).to_contain_text("= max(a0, a2) has no gradient")


def test_labels_that_are_expressions_are_held_by_brackets_in_formulas(show):
    page = show(explore(neuron()))
    page.evaluate("goTo(lastStep); select(nodes.find(node => nameOf(node.values[0]) === 'x1*w1 + x2*w2'))")
    text = re.sub(r"\s+", " ", page.locator("#node").inner_text())
    assert "(x1*w1 + x2*w2) = (x1*w1) + (x2*w2)" in text
    assert "∂(x1*w1 + x2*w2)/∂(x1*w1) = 1" in text
    assert "(x1*w1 + x2*w2).grad += 0.5 × 1 = 0.5 from n" in text
    page.evaluate("goTo(lastStep)")
    assert "(x1*w1) = x1 × w1 has gradient 0.5" in re.sub(r"\s+", " ", page.locator("#now").inner_text())
    assert not re.search(r"\d\.\d{6}", page.locator("#node").inner_text()), "four digits are enough to teach"


def test_gradient_in_the_making_says_what_has_not_arrived(show):
    a = mg.Value(3.0, label="a")
    b = a * 2
    b.label = "b"
    c = b * a
    page = show(explore(c))
    page.evaluate("goTo(4); select(nodes[0])")
    text = page.locator("#node").inner_text()
    assert "so far" in text
    assert "not yet" in text
    assert page.evaluate("nodes[0].gradientText.textContent") == "6 …"


def test_exponentially_many_paths_are_counted_and_the_first_shown(show):
    x = y = mg.Value(1.0, label="x")
    for _ in range(40):
        y = y + y
    page = show(explore(y))
    page.evaluate("goTo(lastStep); select(nodes[0])")
    assert page.locator(".path").count() == 8
    assert "1.1e12 paths" in page.locator("#node").inner_text()
    x.grad = 0.0
    y.backward()
    expect(page.locator("#full-gradient")).to_have_attribute("title", str(int(x.grad)))


def test_graph_is_walked_by_keyboard_and_read_aloud(show):
    page = show(explore(example()))
    page.evaluate("goTo(lastStep)")
    page.focus("#nodes [tabindex='0']")
    expect(page.locator("#nodes :focus")).to_have_attribute("aria-label", "a, input, data 2, gradient 6")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#nodes :focus")).to_have_attribute("aria-label", "e = a × b, data −6, gradient −2")
    assert page.evaluate("document.querySelectorAll('#nodes [tabindex=\"0\"]').length") == 1
    page.keyboard.press("Enter")
    expect(page.locator("#node h2")).to_contain_text("Selected")
    page.keyboard.press("ArrowLeft")
    assert step_of(page) == 6, "left and right step even within the graph"


def test_whole_page_can_be_reached_by_tab_and_shows_where_the_focus_is(show):
    page = show(explore(example()))
    page.evaluate("goTo(2)")
    seen = []
    for _ in range(30):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate(
                """() => {
                  const at = document.activeElement;
                  const style = getComputedStyle(at);
                  const card = at.querySelector?.(".card");
                  const ring = card ? getComputedStyle(card).strokeWidth : style.outlineWidth;
                  return [at.id || at.dataset?.node || at.className, parseFloat(ring)];
                }"""
            )
        )
    reached = {name for name, _ in seen}
    assert {"first", "back", "play", "forward", "last", "slider", "speed", "0", "zoom-in", "reset", "leaf-0"} <= reached
    assert all(ring >= 2 for name, ring in seen if name), seen


STATES = {
    "leaves": "goTo(0)",
    "backward": "goTo(lastStep - 2)",
    "selected": "goTo(lastStep); select(nodes[0])",
    "far": "moveView(10, 10, 0.2)",
    "presenting": "toggleMode('presenting', 'present', true); goTo(3)",
}


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (836, "dark"), (390, "light")])
def test_nothing_on_the_page_is_a_serious_barrier(browser, tmp_path, barriers, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce")
    page.goto(explore(network_of(6, 6, 1)).save(tmp_path / "page.html").as_uri())
    for state, script in STATES.items():
        page.evaluate(script)
        assert barriers(page) == [], state
    page.close()


def test_controls_have_names_for_screen_readers(show):
    page = show(explore(example()))
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, input, select, [role=slider]")].filter(
             e => !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length)).length"""
    )
    assert nameless == 0
    expect(page.get_by_role("slider", name="Step")).to_be_visible()
    expect(page.get_by_role("spinbutton", name="a", exact=True)).to_be_visible()


# ---------------------------------------------------------------------------------------------------
# Editing


def test_typing_a_number_recomputes_both_passes(show):
    page = show(explore(example()))
    page.evaluate("goTo(lastStep)")
    page.get_by_label("a", exact=True).fill("5.25")
    assert page.evaluate("nodes.map(n => n.dataText.textContent)") == [
        "5.25",
        "−3",
        "−15.75",
        "10",
        "−5.75",
        "−2",
        "11.5",
    ]
    assert page.evaluate("nodes.map(n => n.gradientText.textContent)") == ["6", "−10.5", "−2", "−2", "−2", "−5.75", "1"]
    expect(page.locator("#result")).to_have_text("L = 11.5")
    page.get_by_label("a", exact=True).fill("")
    expect(page.locator("#result")).to_have_text("L = 11.5")
    page.click("#reset")
    expect(page.locator("#result")).to_have_text("L = −8")


def test_dragging_the_handle_or_the_leaf_itself_changes_it(show):
    page = show(explore(example()))
    page.evaluate("goTo(lastStep)")
    for target in (page.locator(".handle").first, page.locator("#nodes .node").first):
        page.click("#reset")
        target.scroll_into_view_if_needed()
        box = target.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 30, y, steps=3)
        page.mouse.move(x + 50, y, steps=3)
        page.mouse.up()
        assert page.evaluate("passes.data[0]") == 2.5
        expect(page.locator("#result")).to_have_text("L = −5")
    assert page.evaluate("selected") is None, "a drag is not a click"


def test_arrow_keys_change_a_leaf_from_its_handle_and_its_field(show):
    page = show(explore(example()))
    page.locator(".handle").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("passes.data[0]") == 2.1
    page.get_by_label("a", exact=True).focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("passes.data[0]") == 1.9
    assert step_of(page) == 0, "no step was taken"


def test_leaves_stand_module_by_module_with_full_names_and_whole_numbers(show):
    model = MLP(2, [3, 4, 1], seed=1)
    output = (model([0.25, mg.Value(-1.0, label="y")]) - 1.0) ** 2
    page = show(explore(output, depth=1))
    titles = page.locator("summary b").all_inner_texts()
    layers = [f"Layer {i} · Neuron {k}" for i, size in enumerate((3, 4, 1)) for k in range(size)]
    assert titles == ["Leaves", "Inputs", "Plain numbers", *layers]
    page.locator("summary", has_text="Layer 1 · Neuron 2").click()
    page.wait_for_selector("details[open]:has-text('Layer 1 · Neuron 2') .leaf")
    labels = page.locator("details", has_text="Layer 1 · Neuron 2").locator("label")
    assert labels.all_inner_texts() == ["w0", "w1", "w2", "b"]
    assert labels.first.get_attribute("title") == "Layer 1 · Neuron 2 · w0"
    field = page.get_by_label("w0", exact=True).locator("visible=true")
    assert field.input_value() == repr(model.layers[1].neurons[2].w[0].data)
    assert field.evaluate("field => field.scrollWidth <= field.clientWidth"), "the number is whole"
    page.get_by_label("Find leaves by name").fill("layer 1 w2")
    assert page.locator("summary b").locator("visible=true").all_inner_texts() == layers[3:7]
    assert page.locator(".list label").locator("visible=true").all_inner_texts() == ["w2"] * 4
    page.get_by_label("Find leaves by name").fill("")
    assert page.locator("summary").locator("visible=true").count() == len(titles)


def test_a_number_that_came_without_a_name_is_edited_too(show):
    model = MLP(1, [2, 1], seed=1)
    page = show(explore(model([0.5])))
    number = page.get_by_label("x0", exact=True)
    number.fill("2")
    assert page.evaluate("passes.data[passes.output]") == pytest.approx(model([2.0]).data, rel=1e-12)
    page.get_by_role("button", name="reset").click()
    expect(number).to_have_value("0.5")


@pytest.mark.parametrize(
    ("given", "listed"),
    [("w10*x + w9*x + w2*x", ["w2", "x", "w9", "w10"]), ("x1*w1 + x2*w2 + b", ["x1", "w1", "x2", "w2", "b"])],
)
def test_leaves_that_are_numbered_are_listed_in_order(show, given, listed):
    page = show(explore(given))
    assert page.locator(".list label").all_inner_texts() == listed
    assert [text.split(" = ")[0] for text in page.locator("#now p").first.inner_text().split(", ")] == listed


def test_inputs_are_distinguished_from_other_numbers(show):
    page = show(explore(MLP(2, [2, 1], seed=1)([0.5, -1.0]) * 3.0))
    groups = page.locator("details:has(summary)")
    assert groups.nth(0).locator("label").all_inner_texts() == ["x0", "x1"]
    expect(groups.nth(0).locator("summary")).to_have_text("Inputs 2")
    assert groups.nth(1).locator("label").all_inner_texts() == [page.evaluate("nameOf(passes.output - 2)") + " × ▢"]
    expect(groups.nth(1).locator("summary")).to_contain_text("Plain numbers 1")


def test_a_card_is_edited_where_it_stands(show):
    page = show(explore(example()))
    page.evaluate("goTo(lastStep)")
    page.locator("#nodes .node").first.dblclick()
    expect(page.get_by_label("Data of a")).to_be_focused()
    page.keyboard.type("5.25")
    expect(page.locator("#result")).to_have_text("L = 11.5")
    page.keyboard.press("Escape")
    expect(page.locator("#result")).to_have_text("L = −8")
    expect(page.locator("#nodes .node").first).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.type("3")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.locator("#result")).to_have_text("L = −1.4")
    expect(page.locator("#on-card")).to_be_hidden()
    assert step_of(page) == 7


def test_each_part_of_the_panel_keeps_its_place_and_leaves_and_output_stay_in_sight(show):
    page = show(explore(neuron()))
    page.set_viewport_size({"width": 1280, "height": 800})
    places = set()
    for step in range(page.evaluate("lastStep") + 1):
        page.evaluate(f"goTo({step})")
        places.add(tuple(page.locator(f"#{part}").bounding_box()["y"] for part in ("now", "leaves", "node")))
        assert all(page.locator(f"#{part}").bounding_box()["height"] > 150 for part in ("now", "leaves", "node"))
        for leaf in page.locator(".leaf input").all():
            expect(leaf).to_be_in_viewport(ratio=1)
        expect(page.locator("#result")).to_be_in_viewport(ratio=1)
    assert len(places) == 1


def no_javascript():
    return mg.Op("secret", lambda x: x * x * x, (lambda y, x: 3 * x * x,))


def broken_javascript():
    return mg.Op("broken", lambda x: x * x, (lambda y, x: 2 * x,), javascript="({0} * * {0})")


def wrong_javascript():
    return mg.Op("wrong", lambda x: x * x, (lambda y, x: 2 * x,), javascript="({0} * 3)")


def untraceable_derivative():
    return mg.Op("choosy", lambda x: abs(x), (lambda y, x: 1.0 if x > 0 else -1.0,), javascript="Math.abs({0})")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (no_javascript, "the operation secret has no JavaScript expression"),
        (broken_javascript, "the JavaScript expression of broken cannot be read"),
        (wrong_javascript, "the JavaScript expression of wrong gives 12 where Python gives 16"),
        (untraceable_derivative, "the local derivative of choosy is not written with operations of the table"),
    ],
)
def test_leaves_behind_an_operation_without_javascript_are_read_only_with_the_reason(opened, tmp_path, make, reason):
    x, w = mg.Value(4.0, label="x"), mg.Value(2.0, label="w")
    output = make()(x) * w
    output.backward()
    page = opened.open(explore(output), tmp_path / "page.html")
    page.evaluate("goTo(lastStep)")
    assert page.evaluate("passes.data[passes.output]") == output.data
    assert page.evaluate("passes.gradient[0]") == x.grad
    expect(page.get_by_label("x", exact=True)).to_be_disabled()
    assert reason in page.locator(".leaf.locked").inner_text()
    page.get_by_label("w", exact=True).fill("3")
    x.grad = 0.0
    w.data = 3.0
    output.forward().backward()
    assert page.evaluate("passes.data[passes.output]") == output.data
    assert page.evaluate("passes.gradient[0]") == x.grad
    opened.errors = [error for error in opened.errors if make is not broken_javascript or "Unexpected" not in error]


def test_own_operation_with_javascript_is_edited_like_any_other(show):
    cube = mg.Op("cube", lambda x: x**3, (lambda y, x: 3 * x * x,), javascript="({0} * {0} * {0})")
    page = show(explore(cube(mg.Value(2.0, label="x"))))
    page.get_by_label("x", exact=True).fill("3")
    assert page.evaluate("[passes.data[1], passes.gradient[0]]") == [27, 27]


def test_rounding_noise_is_shown_as_zero_and_in_full_in_the_panel(show):
    scores = [mg.Value(0.3 * k - 0.7) for k in range(3)]  # an infinite constant is among its nodes, which is exact
    page = show(explore(mg.losses.cross_entropy(scores, 1)))
    page.evaluate("goTo(lastStep)")
    assert not [text for text in page.locator("#nodes text").all_text_contents() if "e−1" in text]
    y = mg.sin(mg.Value(math.pi, label="x"))
    page = show(explore(y))
    page.evaluate("goTo(lastStep); select(nodes[1])")
    assert page.evaluate("nodes[1].dataText.textContent") == "0"
    expect(page.locator("#full-data")).to_have_attribute("title", "1.2246467991473532e−16")


# ---------------------------------------------------------------------------------------------------
# What is known to be wrong


def test_nan_has_a_colour_of_its_own_and_is_said_where_it_begins(show):
    x, b = mg.Value(0.0, label="x"), mg.Value(1.0, label="b")
    y = mg.log(x)
    y.label = "y"
    z = y * 0.0
    z.label = "z"
    page = show(explore(z + b))
    page.evaluate("goTo(1)")
    assert "−inf begins here: log(0)" in page.locator("#now").inner_text()
    expect(page.locator("#nodes .faulty .label")).to_have_text("y")
    page.evaluate("goTo(lastStep)")
    assert "nan begins here: 0 × inf" in page.locator("#now").inner_text()
    fill = "name => getComputedStyle(nodes.find(n => nameOf(n.values[0]) === name).element.querySelector('.tint')).fill"
    assert len({page.evaluate(fill, name) for name in ("x", "y", "b")}) == 3, "nan, zero and positive differ"
    dashes = page.locator(".edge.undefined-4 path").first.evaluate("path => getComputedStyle(path).strokeDasharray")
    assert dashes != "none", "nor is it told by colour alone"
    page.evaluate("setLeaf(0, 2); goTo(lastStep)")
    assert page.locator(".faulty").count() == 0


def test_an_infinite_gradient_is_said_to_begin_in_the_step_that_makes_it_and_in_no_other(show):
    a = mg.Value(0.0, label="a")
    page = show(explore(mg.log(a) * a))
    begins = []
    for step in range(page.evaluate("seedStep") + 1, page.evaluate("lastStep") + 1):
        page.evaluate(f"goTo({step})")
        begins.append("begins here: 1 × −inf" in page.locator("#now").inner_text())
    assert begins == [True, False]


def test_a_node_tells_the_line_of_python_that_made_it_if_it_was_recorded(show):
    a, b = mg.Value(2.0, label="a"), mg.Value(3.0, label="b")
    with mg.record_lines():
        product = a * b
        y = mg.tanh(product) + a
    page = show(explore(y))
    page.evaluate("select(nodes.find(node => passes.row(node.values[0]).name === 'mul'))")
    expect(page.locator("#node .origin")).to_have_text(f"Made by {product.origin}")
    assert str(product.origin).endswith(": product = a * b")
    page.evaluate("select(nodes[nodeOf[leaves[0]]])")
    expect(page.locator("#node .origin")).to_have_count(0)
    page.evaluate("formulas.explore('p * q')")
    page.evaluate("select(outputNode)")
    expect(page.locator("#node .origin")).to_have_count(0)


def test_gradients_from_before_and_numbers_out_of_date_are_said(show):
    x = mg.Value(3.0, label="x")
    y = x * x
    y.backward()
    page = show(explore(y))
    assert "In Python" not in page.locator("aside").inner_text()
    y.backward()
    page = show(explore(y))
    assert "In Python x.grad = 6 + 6 from before" in page.locator("#now").inner_text()
    x.data = 100.0
    page = show(explore(y))
    page.evaluate("select(nodes[1])")
    assert "out of date: 10000 now" in page.locator("#node").inner_text()


# ---------------------------------------------------------------------------------------------------
# Sharing


def test_a_link_holds_the_numbers_the_step_the_boxes_and_the_selected_node(browser, tmp_path):
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto(explore(network_of(3, 1), depth=1).save(tmp_path / "page.html").as_uri())
    page.locator("#nodes .group", has_text="Layer 1").click()
    x = page.evaluate("leaves.find(i => nameOf(i) === 'x')")
    page.evaluate(f"setLeaf({x}, 0.75); goTo(lastStep - 2); select(nodes[nodeOf[{x}]])")
    shown = "[now, [...opened], passes.data[passes.output], selected.values[0], nodes.length]"
    expected = page.evaluate(shown)
    page.click("#copy-link")
    expect(page.locator("#said")).to_have_text(re.compile("Link copied|The link is in the address bar"))
    link = page.evaluate("location.href")
    other = context.new_page()
    other.goto(link)
    assert other.evaluate(shown) == expected
    assert other.evaluate(f"passes.data[{x}]") == 0.75
    other.evaluate("location.hash = '#step=9999&node=77777&open=55.x&nonsense&-3=1'")
    wait_until(other, "now === lastStep && selected === null")
    assert other.evaluate(f"passes.data[{x}]") == 0.5
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_step_is_saved_as_svg_and_png_that_need_no_page(browser, tmp_path, scheme):
    page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
    page.goto(explore(example(), title="A lesson").save(tmp_path / "page.html").as_uri())
    page.evaluate("goTo(6)")
    files = {}
    for kind in ("svg", "png"):
        with page.expect_download() as download:
            page.click(f"#save-{kind}")
        assert download.value.suggested_filename == f"A lesson - step 6.{kind}"
        files[kind] = tmp_path / f"step.{kind}"
        download.value.save_as(files[kind])
    text = files["svg"].read_text()
    root = ElementTree.fromstring(text)
    assert not re.search("class=| style=|var\\(|<script|data-", text)
    said = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"L", "e", "−8", "×", "∂ −2", "← −2"} <= said
    page.goto(files["svg"].as_uri())
    page.screenshot(path=tmp_path / "seen.png")
    with Image.open(files["png"]) as saved:
        paper = (LIGHT if scheme == "light" else DARK)["paper"]
        assert saved.convert("RGB").getpixel((3, 3)) == tuple(int(paper[k : k + 2], 16) for k in (1, 3, 5))
        assert len(saved.convert("RGB").getcolors(1 << 20)) > 20
        assert saved.width == pytest.approx(2 * float(root.get("width")), abs=2)
    page.close()


# ---------------------------------------------------------------------------------------------------
# Safety

NASTY = [
    "</script><script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    "<!--<script>",
    "]]><svg onload=window.pwned=1>",
    "\"'`${window.pwned = 1}",
    "{{data}} {{scripts}}",
    "{0} {y}",
    "}}{{0}}{data}{1",
    "\u2028window.pwned = 1\u2029",
    "javascript:window.pwned=1",
    "경사 하강법 <b>굵게</b>",
    "\ud800 half a letter \x00",
    "__proto__",
    "x" * 5000,
]


def test_labels_and_titles_that_inject_markup_are_only_text(opened, tmp_path):
    leaves = [mg.Value(float(i + 1), label=label) for i, label in enumerate(NASTY)]
    output = ops.total(leaves)
    output.label = NASTY[0]
    page = opened.open(explore(output, title=NASTY[1] + NASTY[0]), tmp_path / "page.html")
    scripts = page.evaluate("document.scripts.length")
    for step in range(4):
        page.evaluate(f"goTo({step})")
        page.evaluate("nodes.forEach(node => select(node))")
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.scripts.length") == scripts
    assert page.locator("img, svg[onload], b b").count() == 0
    page.evaluate("select(nodes[0])")
    assert page.locator("#node .title b").inner_text() == NASTY[0]
    expect(page.locator("h1")).to_contain_text("<img src=x onerror='window.pwned = 1'>")
    assert page.evaluate("passes.data[passes.output]") == output.data


@pytest.mark.parametrize("name", NASTY)
def test_names_and_symbols_of_operations_are_only_text(show, name):
    op = mg.Op(name, lambda a, b: a - b, (1.0, -1.0), symbol=name, javascript="({0} - {1})", doc=name)
    page = show(explore(op(mg.Value(3.0, "a"), mg.Value(-2.0, "b"))))
    page.evaluate("goTo(1)")
    said = page.locator("#now").text_content()
    if len(name) < 100:
        assert f"{name}(a, b)" in said
        assert f"{name}(3, −2)" in said
    page.evaluate("goTo(lastStep); nodes.forEach(node => select(node))")
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("passes.data[passes.output]") == 5.0


def test_no_request_leaves_the_page_and_none_could(opened, tmp_path):
    page = opened.open(explore(example()), tmp_path / "page.html")
    page.evaluate("goTo(lastStep); select(nodes[0]); setLeaf(0, 3)")
    assert opened.holds_back_every_request()


def test_markup_that_gets_into_the_page_still_runs_no_script(opened, tmp_path):
    page = opened.open(explore(example()), tmp_path / "page.html")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.pwned = 1\">')")
    page.wait_for_timeout(100)
    assert page.evaluate("window.pwned") is None
    assert any("Content Security Policy" in error for error in opened.errors)
    opened.errors.clear()


# ---------------------------------------------------------------------------------------------------
# Sizes, colours, motion


def network(inputs, hidden):
    generator = random.Random(0)
    x = [mg.Value(generator.gauss(0, 1), label=f"x{i}") for i in range(inputs)]
    rows = [[mg.Value(generator.gauss(0, 1)) for _ in x] for _ in range(hidden)]
    return ops.total(mg.tanh(mg.dot(row, x)) for row in rows)


@pytest.mark.parametrize("following", ["false", "true"])
def test_a_step_changes_less_than_a_thing_for_each_of_two_thousand_nodes_and_an_edit_less_than_two(show, following):
    output = network(25, 37)
    count = len(mg.topological_order(output))
    assert 1900 < count <= 2000
    page = show(explore(output))
    assert page.locator("#nodes .node").count() == count
    page.evaluate(f"setFollowing({following}); goTo(1200)")
    assert all(0 < changes(page, "step(1)") < count for _ in range(5))
    assert 0 < changes(page, "setLeaf(0, 0.1)") < 2 * count


def test_larger_graph_is_played_on_its_outline_and_its_leaves_still_edited(show):
    output = network(40, 60)
    page = show(explore(output))
    assert page.locator("#nodes .node").count() < 30
    expect(page.locator("#note")).to_have_text(f"{len(mg.topological_order(output)):,} nodes in outline")
    page.evaluate("goTo(lastStep)")
    page.get_by_label("x0", exact=True).fill("0.5")
    leaf = next(node for node in mg.topological_order(output) if node.label == "x0")
    leaf.data = 0.5
    output.forward().backward()
    assert page.evaluate("passes.data[passes.output]") == pytest.approx(output.data, rel=1e-12)
    index = mg.topological_order(output).index(leaf)
    assert page.evaluate(f"passes.gradient[{index}]") == pytest.approx(leaf.grad, rel=1e-12)


def network_of(*sizes):
    model = MLP(2, list(sizes), seed=1)
    output = (model([mg.Value(0.5, label="x"), mg.Value(-1.0, label="y")]) - 1.0) ** 2
    output.label = "loss"
    return output


def titles(page):
    frames = [text.removeprefix("− ") for text in page.locator("#clusters text").all_text_contents()]
    return frames, page.locator("#nodes .group .label").all_text_contents()


def test_boxes_open_and_close_by_click_and_the_play_goes_on_where_it_stood(show):
    page = show(explore(network_of(4, 4, 1), depth=1))
    assert titles(page) == (["MLP"], ["Layer 0", "Layer 1", "Layer 2"])
    page.evaluate("goTo(lastStep - 1)")
    expect(page.locator("#now h2")).to_have_text("Backward: Layer 1")
    page.locator("#nodes .group", has_text="Layer 1").click()
    neurons = [f"Neuron {i}" for i in range(4)]
    assert titles(page) == (["MLP", "Layer 1"], ["Layer 0", *neurons, "Layer 2"])
    assert page.locator("#slider").get_attribute("max") == str(page.evaluate("lastStep"))
    assert page.evaluate("steps[now].phase") == "backward"
    assert page.evaluate("modules[steps[now].node.module].path").startswith("MLP.layers.1")
    page.locator("#nodes .group", has_text="Neuron 2").click()
    assert "Neuron 2" in titles(page)[0]
    page.locator(".close", has_text="Layer 1").click()
    assert titles(page) == (["MLP"], ["Layer 0", "Layer 1", "Layer 2"])
    expect(page.locator("#now h2")).to_have_text("Backward: Layer 1")


def ten_probabilities():
    model = MLP(2, [10], seed=1)
    return losses.cross_entropy(model([mg.Value(0.5, label="x"), mg.Value(-1.0, label="y")]), 3)


EXTENTS = """([chosen, level, axis]) => {
  openTo(level);
  for (const m of chosen) opened.add(m);
  const { nodes, at, size, frames, clusters } = pictureOf();
  const closed = nodes.map(({ module }, k) => [module, ...[-0.5, 0.5].map(way => at[k][axis] + way * size[k][axis])]);
  const open = frames.map(({ cluster, corners }) => [clusters[cluster].module, corners[axis], corners[axis + 2]]);
  const found = [...closed.filter(([m]) => m !== null), ...open];
  return found.map(([m, ...extent]) => [modules[m].parent, modules[m].path, ...extent]);
}"""


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("output", "sizes"), [(lambda: network_of(4, 4, 1), (4, 4, 1)), (ten_probabilities, (10,))], ids=["MLP", "softmax"]
)
def test_an_opened_box_keeps_its_place_among_its_siblings(show, output, sizes, turned):
    page = show(explore(output()))
    page.evaluate(f"direction = {'TB' if turned else 'LR'!r}")
    neurons = page.evaluate("[...modules.keys()].filter(m => modules[m].title.startsWith('Neuron'))")
    assert len(neurons) == sum(sizes)
    level = page.evaluate("m => levelOf(m)", neurons[0])
    for chosen in [*([m] for m in neurons), neurons[::2], neurons[1::3], neurons]:
        layers = {}
        for layer, path, low, high in page.evaluate(EXTENTS, [chosen, level, 0 if turned else 1]):
            if "neurons." in path:
                layers.setdefault(layer, []).append((int(path.rpartition(".")[2]), low, high))
        assert sorted(len(layer) for layer in layers.values()) == sorted(sizes)
        for layer in map(sorted, layers.values()):
            for (_, _, high), (index, low, _) in itertools.pairwise(layer):
                assert high < low, f"Neuron {index} stands before Neuron {index - 1} where {chosen} are open"


def test_a_frame_larger_than_the_stage_keeps_its_title_in_sight(show):
    page = show(explore(network_of(4, 4, 1)))
    page.emulate_media(reduced_motion="reduce")
    page.evaluate("openTo(9); redraw(); showAll()")
    whole = page.evaluate("svgOfStep()")
    for x, y in itertools.product((0, 0.3, 0.6), repeat=2):
        page.evaluate("([x, y]) => moveView(-x * bounds[2], -y * bounds[3], 1)", [x, y])
        stage = page.locator("#graph").bounding_box()
        for k, (left, top, right, bottom) in enumerate(page.evaluate("picture.frames.map(frame => frame.corners)")):
            shown = page.evaluate("k => handles[k].getBoundingClientRect().toJSON()", k)
            least = (x * page.evaluate("bounds[2]"), y * page.evaluate("bounds[3]"))
            if left < least[0] < right - 200 and top < least[1] < bottom - 200:
                assert shown["left"] >= stage["x"]
                assert shown["top"] >= stage["y"]
    assert page.evaluate("svgOfStep()") == whole, "a file shows titles where the frames begin"


def test_boxes_open_and_close_by_keys_and_by_levels(show):
    page = show(explore(network_of(3, 1), depth=1))
    page.focus("#nodes [tabindex='0']")
    page.evaluate("focusNode(nodes.find(node => node.title === 'Layer 0'))")
    page.keyboard.press("Enter")
    assert "Layer 0" in titles(page)[0]
    assert page.evaluate("inside.title").startswith("Neuron"), "the focus stays where something opened"
    page.keyboard.press("Backspace")
    assert titles(page) == (["MLP"], ["Layer 0", "Layer 1"])
    page.keyboard.press("o")
    assert titles(page)[0] == ["MLP", "Layer 0", "Layer 1"]
    page.click("#open-level")
    assert titles(page)[1] == []
    page.keyboard.press("c")
    page.click("#close-level")
    page.keyboard.press("c")
    assert titles(page) == ([], ["MLP"])


@pytest.mark.parametrize(("sizes", "width"), [((4, 4, 1), 1280), ((16, 8, 1), 1280), ((4, 4, 1), 390)])
def test_at_each_level_of_a_network_every_box_has_its_name_in_sight(show, sizes, width):
    page = show(explore(network_of(*sizes)))
    page.emulate_media(reduced_motion="reduce")
    page.set_viewport_size({"width": width, "height": 800})
    page.wait_for_function("room.width === stage.clientWidth && room.height === stage.clientHeight")
    for _ in range(2 if width > 400 else 1):
        page.evaluate("showAll()")
        groups = page.evaluate("nodes.filter(node => !node.single).map(node => node.title)")
        names = ".far-name.group" if page.evaluate("view.detail") == "far" else ".node.group .label"
        expect(page.locator(names).locator("visible=true")).to_have_text(groups)
        page.click("#open-level")
    assert len(groups) == (sum(sizes) if width > 400 else len(sizes))


def test_a_graph_that_the_user_has_turned_stays_turned(show):
    page = show(explore(network_of(4, 4, 1)))
    before = page.evaluate("direction")
    page.click("#turn")
    turned = page.evaluate("direction")
    assert turned != before
    page.click("#open-level")
    page.click("#close-level")
    assert page.evaluate("direction") == turned


def test_a_network_opens_as_far_as_it_can_be_read_and_no_frame_is_ever_dropped(show):
    page = show(explore(network_of(16, 8, 1)))
    assert titles(page) == (["MLP"], ["Layer 0", "Layer 1", "Layer 2"])
    page.evaluate("openTo(9); redraw()")
    assert len(titles(page)[0]) == page.evaluate("modules.length") == 29
    assert "0 boxes" not in page.locator("#now").inner_text()


def test_a_box_says_what_becomes_of_its_parameters(show):
    page = show(explore(network_of(4, 1), depth=1))
    page.evaluate("goTo(lastStep)")
    said = re.sub(r"\s+", " ", page.locator("#now").inner_text())
    assert "The 8 weights and 4 biases of Layer 0 have their gradients" in said
    assert "What is left flows on into x, y" in said
    assert page.locator(".strip .cell").count() == 12
    assert page.locator(".strip .cell").first.get_attribute("title").startswith("Layer 0 · Neuron 0 · w0.grad = ")


def test_edges_between_boxes_carry_the_norm_of_what_flows(show):
    output = network_of(4, 3, 1)
    output.backward()
    page = show(explore(output, depth=1, direction="LR"))
    page.evaluate("goTo(lastStep); moveView(0, 0, 1)")
    order = mg.topological_order(output)
    layers = page.evaluate("[0, 1].map(k => nodes.find(node => node.title === `Layer ${k}`).values)")
    source, target = {id(order[i]) for i in layers[0]}, [order[i] for i in layers[1]]
    flows = [
        node.grad * float(derivative)
        for node in target
        for parent, derivative in zip(node.parents, node.local_derivatives(), strict=True)
        if id(parent) in source
    ]
    edge = "edges.find(edge => nodes[edge.source].title === 'Layer 0' && nodes[edge.target].title === 'Layer 1')"
    assert page.evaluate(f"{edge}.flows") == len(flows) == 12
    assert abs(page.evaluate(f"{edge}.flow")) == pytest.approx(math.hypot(*flows), rel=1e-12)
    assert page.evaluate(f"{edge}.flowText.textContent") == f"‖←‖ {math.hypot(*flows):.4g}"


@pytest.mark.parametrize("scale", [0.4, 0.2, 0.1])
def test_names_of_modules_leaves_and_output_and_signs_are_readable_at_any_scale(show, scale):
    page = show(explore(network_of(2, 1), depth=9))
    page.evaluate(f"moveView(20, 20, {scale})")
    shown = page.locator("#names text").locator("visible=true")
    heights = shown.evaluate_all("texts => texts.map(text => text.getBoundingClientRect().height)")
    assert min(heights) >= 12
    said = shown.all_text_contents()
    assert {"loss", "− MLP"} <= set(said)
    if scale == 0.4:
        assert said.count("w0") == 3
        assert {"x", "y", "×", "Σ"} <= set(said)
    boxes = shown.evaluate_all("texts => texts.map(text => text.getBoundingClientRect().toJSON())")
    for k, a in enumerate(boxes):
        for b in boxes[:k]:
            overlap = min(a["right"], b["right"]) - max(a["left"], b["left"])
            assert overlap < 4 or min(a["bottom"], b["bottom"]) - max(a["top"], b["top"]) < 7


def sigmoids(count):
    y = mg.Value(0.5, label="x")
    for k in range(count):
        y = mg.sigmoid(y * mg.Value(1.0 + k, label=f"w{k}"))
    return y


READ = {
    "neuron": neuron,
    "chain": lambda: sigmoids(3),
    "long chain": lambda: sigmoids(6),
    "softmax": lambda: mg.losses.cross_entropy([mg.Value(0.3 * k, label=f"z{k}") for k in range(10)], 1),
    "network": lambda: network_of(4, 4, 1),
}


@pytest.mark.parametrize("name", READ)
def test_no_text_on_a_laptop_is_smaller_than_ten_pixels(show, name):
    page = show(explore(READ[name]()))
    page.set_viewport_size({"width": 1280, "height": 800})
    for change in ("goTo(0)", "goTo(lastStep)", "fit()", *[f"moveView(0, 0, {s})" for s in (0.57, 0.67, 0.75, 0.3)]):
        page.evaluate(change)
        page.wait_for_timeout(300 if change == "fit()" else 0)
        size, text = smallest_text(page)
        assert size >= 10, f"{text!r} after {change} at scale {page.evaluate('view.scale')}"


@pytest.mark.parametrize("scale", [0.57, 0.65, 0.67, 0.79, 0.8, 1.0])
def test_no_text_leaves_its_card_at_any_scale(show, scale):
    x = mg.Value(-1.2345e-5, label="a rather long name of a leaf")
    y = mg.softplus(x) * mg.Value(-123456.7, label="velocity")
    y.label = "another long name"
    page = show(explore(mg.where(mg.greater(y, 0.0), y * -1.2345e-308, mg.total([y, x]))))
    page.evaluate(f"goTo(lastStep); moveView(0, 0, {scale})")
    outside = page.evaluate(
        """nodes.flatMap(node => {
          const card = node.element.querySelector(".card").getBoundingClientRect();
          return [...node.element.querySelectorAll("text:not(.fault)")].flatMap(text => {
            const box = text.getBoundingClientRect();
            return box.width && (box.left < card.left || box.right > card.right) ? [text.textContent] : [];
          });
        })"""
    )
    assert outside == []


def test_a_long_chain_leads_downwards_if_it_is_larger_so_and_is_turned_by_button_and_key(show, browser):
    page = show(explore(sigmoids(3)))
    leads = "() => { const [x, y] = [0, 1].map(k => outputNode.at[k] - nodes[0].at[k]); return x > y ? 'LR' : 'TB'; }"
    assert page.evaluate(leads) == "TB"
    upright = page.evaluate("view.scale")
    page.click("#turn")
    assert page.evaluate(leads) == "LR"
    assert page.evaluate("view.scale") < upright
    expect(page.locator("#back-arrow")).to_have_text("←")
    page.evaluate("goTo(3); copyLink()")
    wait_until(page, "location.hash.includes('direction=LR')")
    page.keyboard.press("t")
    assert page.evaluate(leads) == "TB"
    expect(page.locator("#back-arrow")).to_have_text("↑")
    other = browser.new_page(viewport={"width": 1280, "height": 760})
    other.goto(page.url)
    assert other.evaluate(leads) == "LR"
    assert step_of(other) == 3
    other.close()


@pytest.mark.parametrize("direction", ["LR", "TB"])
def test_a_direction_that_was_asked_for_is_kept(show, direction):
    page = show(explore(sigmoids(3), direction=direction))
    assert page.evaluate("direction") == direction
    assert show(explore(neuron())).evaluate("direction") == "LR", "what can be read well leads to the right"


def test_what_is_not_known_yet_can_still_be_read(show):
    page = show(explore(example()))
    faint = page.locator(".unknown :is(.card, text)").evaluate_all("all => all.map(e => getComputedStyle(e).opacity)")
    assert min(map(float, faint)) >= 0.7


def test_stages_of_an_outline_open_too(show):
    page = show(explore(network(30, 40), limit=500))
    box = page.evaluate("nodes.findIndex(node => !node.single && node.values.length < 200)")
    size = page.evaluate(f"nodes[{box}].values.length")
    before = page.evaluate("nodes.length")
    page.evaluate(f"openBox(nodes[{box}].module)")
    assert page.evaluate("nodes.length") == before + size - 1


def test_one_node_is_a_page_too(show):
    page = show(explore(mg.Value(3.0, label="x")))
    page.click("#last")
    assert "x.grad = 1" in page.locator("#now").inner_text()
    page.get_by_label("x", exact=True).fill("4")
    assert page.evaluate("nodes[0].dataText.textContent") == "4"


def test_view_zooms_and_pans_by_wheel_drag_buttons_and_keys(show):
    page = show(explore(example()))
    view = "[view.x, view.y, view.scale]"
    start = page.evaluate(view)
    page.mouse.move(300, 600)
    page.mouse.wheel(0, -300)
    wait_until(page, f"view.scale > {start[2]}")
    page.mouse.down()
    page.mouse.move(340, 620, steps=4)
    page.mouse.up()
    page.keyboard.press("0")
    wait_until(page, f"Math.abs(view.scale - {start[2]}) < 1e-9")
    assert page.evaluate(view) == pytest.approx(start)
    before = page.evaluate(view)
    page.mouse.move(300, 620)
    page.mouse.down()
    page.mouse.move(350, 640, steps=5)
    page.mouse.up()
    assert page.evaluate(view)[0] > before[0] + 30
    for larger, smaller in (("#zoom-in", "#zoom-out"), ("+", "-")):
        scale = page.evaluate("view.scale")
        page.click(larger) if larger.startswith("#") else page.keyboard.press(larger)
        assert page.evaluate("view.scale") > scale
        page.click(smaller) if smaller.startswith("#") else page.keyboard.press(smaller)
        assert page.evaluate("view.scale") == pytest.approx(scale)
    page.click("#follow")
    expect(page.locator("#follow")).to_have_attribute("aria-pressed", "true")


def test_following_brings_the_current_node_into_view(show):
    y = mg.Value(0.5, label="x")
    for _ in range(30):
        y = mg.sin(y)
    page = show(explore(y))
    expect(page.locator("#follow")).to_have_attribute("aria-pressed", "true")
    page.evaluate("goTo(30)")
    wait_until(
        page,
        """() => {
          const node = document.querySelector(".node.current").getBoundingClientRect();
          const room = stage.getBoundingClientRect();
          return node.left > room.left && node.right < room.right && node.height > 35;
        }""",
    )


def test_the_panel_hides_and_the_graph_takes_its_room(show):
    page = show(explore(neuron()))
    scale = page.evaluate("view.scale")
    for hide, back in (("p", "p"), ("#hide-panel", "#hide-panel")):
        page.keyboard.press(hide) if len(hide) == 1 else page.click(hide)
        expect(page.locator("aside")).to_be_hidden()
        wait_until(page, f"view.scale > 1.2 * {scale}")
        page.keyboard.press(back) if len(back) == 1 else page.click(back)
        expect(page.locator("aside")).to_be_visible()
        wait_until(page, f"view.scale === {scale}")


def test_presenting_shows_the_graph_and_the_words_in_large_type_and_page_keys_step(show):
    page = show(explore(neuron()))
    page.set_viewport_size({"width": 1920, "height": 1080})
    page.click("#present")
    expect(page.locator("#leaves")).to_be_hidden()
    page.keyboard.press("PageDown")
    page.keyboard.press("PageDown")
    page.keyboard.press("PageUp")
    assert step_of(page) == 1
    expect(page.locator("#now .line").first).to_be_in_viewport(ratio=1)
    assert page.locator("#now .line").first.evaluate("line => parseFloat(getComputedStyle(line).fontSize)") >= 30
    drawn = page.locator("#nodes .data").first.evaluate("text => 15 * view.scale")
    assert drawn >= 20, "the numbers in the graph can be read from the last row"
    page.keyboard.press("s")
    expect(page.locator("#leaves")).to_be_visible()


LABELLED = {"example": example, "neuron": neuron, "network": lambda: network_of(3, 1)}


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize("direction", ["LR", "TB"])
@pytest.mark.parametrize("scale", [1.0, 0.7, 0.57])
def test_a_label_is_nearest_to_its_own_edge_and_covers_no_more_than_a_third_of_it(show, name, direction, scale):
    page = show(explore(LABELLED[name](), depth=9, direction=direction))
    page.evaluate(f"goTo(lastStep); moveView(0, 0, {scale})")
    measured = page.evaluate(
        """() => {
          const points = edges.map(edge => {
            const path = edge.element.querySelector("path");
            const length = path.getTotalLength();
            return Array.from({length: 61}, (_, k) => path.getPointAtLength((length * k) / 60));
          });
          const world = document.getElementById("world").getScreenCTM().inverse();
          const place = (x, y) => new DOMPoint(x, y).matrixTransform(world);
          return edges.filter(edge => edge.labelElement).map(edge => {
            const texts = [...edge.labelElement.element.children].filter(text => text.textContent);
            const boxes = texts.map(text => text.getBoundingClientRect());
            const corners = boxes.map(box => [place(box.left, box.top), place(box.right, box.bottom)]);
            const [first, last] = [corners[0][0], corners.at(-1)[1]];
            const within = (p, [a, b]) => p.x > a.x && p.x < b.x && p.y > a.y && p.y < b.y;
            const own = points[edge.index];
            const covered = own.filter(p => corners.some(box => within(p, box))).length / 61;
            const [x, y] = [(first.x + last.x) / 2, (first.y + last.y) / 2];
            const far = list => Math.min(...list.map(p => Math.hypot(p.x - x, p.y - y)));
            return [covered, far(own), Math.min(...points.filter(list => list !== own).map(far))];
          });
        }"""
    )
    assert len(measured) > 5
    assert max(covered for covered, _, _ in measured) <= 1 / 3
    assert sum(own < other for _, own, other in measured) >= 0.98 * len(measured)


def test_reduced_motion_is_respected(browser, tmp_path):
    page = browser.new_page(viewport={"width": 1280, "height": 760}, reduced_motion="reduce")
    page.goto(explore(example()).save(tmp_path / "page.html").as_uri())
    page.evaluate("goTo(5)")
    moving = "document.getAnimations().filter(a => a.playState === 'running').length"
    assert page.evaluate(moving) == 0
    page.evaluate("zoomMiddle(2); fit()")
    assert page.evaluate("view.scale === view.fitted"), "the view jumps"
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(moving) > 0
    page.close()


def test_phone_shows_all_without_sideways_scrolling(browser, tmp_path):
    page = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.goto(explore(example()).save(tmp_path / "page.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for name in ("first", "back", "play", "forward", "last"):
        box = page.locator(f"#{name}").bounding_box()
        assert min(box["width"], box["height"]) >= 40
    for _ in range(5):
        page.tap("#forward")
    assert "d.grad += 1 × −2 = −2" in page.locator("#now").inner_text()
    stage, now = page.locator("#stage").bounding_box(), page.locator("#now").bounding_box()
    assert now["y"] >= stage["y"] + stage["height"]
    assert now["y"] < 844, "the words stand below the graph on the same screen"
    page.locator("#nodes .current").tap()
    expect(page.locator("#node h2")).to_contain_text("Selected")
    page.close()


@pytest.mark.parametrize("width", [360, 390, 721, 836, 1024, 1280])
def test_every_button_is_in_sight_at_every_width(browser, tmp_path, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(explore(network_of(3, 1)).save(tmp_path / "page.html").as_uri())
    for said in ("", "Filming: 12 of 120"):
        page.evaluate("text => (byId('said').textContent = text)", said)
        boxes = [button.bounding_box() for button in page.locator("#zoom button").all() if button.is_visible()]
        assert len(boxes) >= 12
        for box in boxes:
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
    page.close()


def test_boxes_and_leaves_answer_to_touch(browser, tmp_path):
    page = browser.new_page(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, reduced_motion="reduce"
    )
    page.set_default_timeout(10_000)
    page.goto(explore(network_of(3, 1), depth=1).save(tmp_path / "page.html").as_uri())
    page.evaluate("fit()")
    page.locator("#nodes .group").first.tap(force=True)  # its name, seen from far, lies on it
    assert "Layer 0" in titles(page)[0]
    page.evaluate("fit()")
    page.locator("#nodes .group", has_text="Neuron 1").tap(force=True)
    assert "Neuron 1" in titles(page)[0]
    page.evaluate("follow(nodes.find(node => nameOf(node.values[0]) === 'w0'))")
    card = page.locator("#nodes .parameter", has_text="w0").first
    card.tap()
    card.tap()
    expect(page.locator("#on-card")).to_be_focused()
    page.locator("#on-card").fill("2")
    page.locator("#stage").tap(position={"x": 20, "y": 20})
    expect(page.locator("#on-card")).to_be_hidden()
    assert page.evaluate("2 === Math.max(...leaves.map(i => passes.data[i]))")
    page.evaluate(
        "frame => moveView(30 - frame[0] * 0.6, 30 - frame[1] * 0.6, 0.6)", page.evaluate("picture.frames[1].corners")
    )
    page.locator(".close", has_text="Layer 0").tap()
    assert "Layer 0" not in titles(page)[0]
    page.close()


def test_notebook_column_shows_the_whole_graph_readably(browser, tmp_path):
    page = browser.new_page(viewport={"width": 836, "height": 680})
    page.goto(explore(example()).save(tmp_path / "page.html").as_uri())
    assert page.evaluate("view.scale * 15") >= 11, "the panel leaves the graph the whole width"
    shown = [page.locator(name).bounding_box() for name in ("#stage", "#now", "#node", "#leaves")]
    assert all(box["y"] >= shown[0]["y"] + shown[0]["height"] for box in shown[1:])
    assert all(box["y"] + box["height"] <= 680 for box in shown)
    page.close()


@pytest.mark.parametrize(
    ("theme", "viewer", "paper"),
    [("auto", "light", LIGHT), ("auto", "dark", DARK), ("dark", "light", DARK), ("light", "dark", LIGHT)],
)
def test_theme_follows_the_viewer_or_the_choice(browser, tmp_path, theme, viewer, paper):
    page = browser.new_page(color_scheme=viewer)
    page.goto(explore(example(), theme=theme).save(tmp_path / "page.html").as_uri())
    red, green, blue = (int(paper["paper"][k : k + 2], 16) for k in (1, 3, 5))
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == f"rgb({red}, {green}, {blue})"
    page.close()


def test_static_files_of_the_pages_are_complete_and_name_no_address():
    folder = Path(mg.__file__).parent / "drawing"
    assets = {path.name: path for path in folder.glob("*") if path.suffix in (".js", ".css", ".html")}
    shared = {"page.html", "playback.html", "training.html", "page.css", "page.js", "numbers.js"}
    assert set(assets) == {*shared, *explorer.ASSETS, *replay.ASSETS, *playground.ASSETS}
    for name, path in assets.items():
        assert "http" not in path.read_text().replace("http://www.w3.org/2000/svg", "").replace("http-equiv", ""), name


@pytest.mark.parametrize(
    ("page", "assets"),
    [("explorer", explorer.ASSETS), ("replay", replay.ASSETS), ("playground", playground.ASSETS)],
)
def test_every_script_of_a_page_has_its_types_checked(page, assets):
    root = Path(__file__).parents[2]
    checked = json.loads((root / f".ci/javascript/{page}.json").read_text())["files"]
    scripts = [name for name in ("numbers.js", "page.js", *assets) if name.endswith(".js")]
    assert checked == ["globals.d.ts", *[f"../../microgrid/drawing/{name}" for name in scripts]]
    for name in scripts:
        assert (root / "microgrid/drawing" / name).read_text().startswith("// @ts-check\n"), name


def stopped():
    x = mg.Value(3.0)
    return x * mg.stop_gradient(x * 2)


def compared():
    x, z = mg.Value(3.0), mg.Value(-1.0)
    return mg.where(mg.less(x * z, z), x * z, mg.floor(x) * x)


PARTLY_CUT = {
    "stop_gradient": stopped,
    "comparison and floor": compared,
    "logsumexp": lambda: mg.logsumexp([mg.Value(1.0), mg.Value(2.0)]),
    "cross_entropy": lambda: mg.losses.cross_entropy([mg.Value(0.3 * k) for k in range(10)], 1),
}


@pytest.mark.parametrize("make", PARTLY_CUT.values(), ids=PARTLY_CUT)
def test_at_the_end_the_cards_have_pythons_gradients_where_something_is_cut(show, make):
    y = make()
    y.backward()
    page = show(explore(y))
    page.keyboard.press("End")
    shown = dict(
        page.evaluate(
            "nodes.filter((node) => node.values.length === 1).map((node) => [node.values[0], gradientNow(node)])"
        )
    )
    assert len(shown) >= 5
    for i, node in enumerate(mg.topological_order(y)):
        if i in shown and node.op is not ops.CONSTANT:
            assert (shown[i] or 0.0) == pytest.approx(node.grad, rel=1e-12, abs=1e-12)


def test_what_is_typed_into_the_list_of_leaves_steers_nothing_else(show):
    page = show(explore((MLP(2, [4, 4, 1], seed=0)([1.0, -2.0]) - 0.5) ** 2))
    page.locator("#find").click()
    page.keyboard.type("layer 1 0spf+")
    assert page.locator("#find").input_value() == "layer 1 0spf+"


@pytest.mark.parametrize(("direction", "arrow"), {"LR": "←", "TB": "↑", "RL": "→", "BT": "↓"}.items())
def test_the_arrow_beside_a_flow_points_back(show, direction, arrow):
    x = mg.Value(3.0)
    page = show(explore(x * x, direction=direction))
    page.keyboard.press("End")
    assert page.locator("#labels .flow").first.text_content() == f"{arrow} 3"
    assert page.locator("#back-arrow").text_content() == arrow


def test_a_level_that_is_too_large_to_be_opened_says_so(show):
    page = show(explore(MLP(60, [30, 1], seed=0)([0.1] * 60)))
    before = page.evaluate("nodes.length")
    for _ in range(3):
        page.locator("#open-level").click()
    assert page.evaluate("nodes.length") <= 1500
    assert page.evaluate("nodes.length") >= before
    expect(page.locator("#node")).to_contain_text("more than 1,500 boxes would be drawn at once")


def moments():
    """The page of a training that has not begun."""
    (points, targets), model = mg.data.moons(20, seed=0), MLP(2, [3, 1], seed=0)
    watcher = replay.watch(model, points, targets)
    mg.fit(model, points, targets, loss=mg.losses.binary_cross_entropy, epochs=2, after_epoch=watcher, quiet=True)
    return watcher


@pytest.mark.parametrize("make", [lambda: explore(example()), moments, playground.playground])
def test_where_no_script_runs_there_is_a_sentence_and_a_picture_and_no_dead_button(browser, tmp_path, make):
    page = browser.new_page(java_script_enabled=False)
    page.goto(make().save(tmp_path / "page.html").as_uri())
    expect(page.locator("noscript p")).to_contain_text("open it in one that does")
    picture = page.locator("noscript img").bounding_box()
    assert picture["width"] > 200
    assert picture["y"] + picture["height"] <= 720, "all of it is in sight"
    assert page.get_by_role("button").count() == 0
    page.close()


def test_search_finds_nodes_by_name_module_operation_and_number_and_opens_the_boxes_around_them(show):
    model = MLP(2, [16, 8, 1], seed=0)
    model.layers[1].neurons[5].w[3].data = -0.123456
    page = show(explore(model([mg.Value(0.5, "height"), mg.Value(-1.0)]), depth=1))
    assert page.evaluate("nodes.length") < 10
    for text, expected in {
        "layer 1 neuron 5 w3": "1 of 1 node: Layer 1 · Neuron 5 · w3 = −0.1235",
        "-0.123456": "1 of 1 node: Layer 1 · Neuron 5 · w3 = −0.1235",
        "layer 0 relu": "1 of 16 nodes: Layer 0 · Neuron 0",
        "height": "1 of 1 node: height = 0.5",
    }.items():
        page.evaluate("document.activeElement.blur(); openTo(1); redraw()")
        page.keyboard.press("/")
        page.keyboard.type(text)
        page.keyboard.press("Enter")
        expect(page.locator("#search-says")).to_contain_text(expected)
        assert page.evaluate("selected.single && selected.values[0] === found[0]"), text
        expect(page.locator("#nodes .selected")).to_be_in_viewport(ratio=1)
        assert page.evaluate("view.scale >= FAR"), "it can be read"
    page.fill("#search", "layer 0 relu")
    page.keyboard.press("Shift+Enter")
    expect(page.locator("#search-says")).to_contain_text("16 of 16 nodes: Layer 0 · Neuron 15")
    page.click("#search-on")
    expect(page.locator("#search-says")).to_contain_text("1 of 16 nodes: Layer 0 · Neuron 0")
    page.fill("#search", "nothing like it")
    expect(page.locator("#search-says")).to_have_text("0 nodes")
    expect(page.locator("#search-on")).to_be_disabled()
    page.focus("#search")
    page.keyboard.press("Escape")
    expect(page.locator("#tool")).to_be_hidden()
