"""Forward mode and the nudge in the explorer's page."""

import pytest
from playwright.sync_api import expect
from tools import open_tool, reused, values

import microgrid as mg
from microgrid.drawing.explorer import explore


def test_forward_mode_gives_the_gradient_of_each_leaf_in_one_pass_each(show):
    output = mg.tanh(values(q=0.3)[0]) * reused()
    page = show(explore(output))
    open_tool(page, "forward")
    page.evaluate("goTo(lastStep)")
    leaves = page.evaluate("namedLeaves()")
    assert len(leaves) == 4
    for i in leaves:
        page.get_by_label("Seed").select_option(str(i))
        tangent, gradient = page.evaluate(f"[tangentsFrom({i})[passes.output], passes.gradient[{i}]]")
        assert tangent == pytest.approx(gradient, rel=1e-12)
        text = page.locator("#tangents").inner_text()
        assert page.evaluate(f"format(passes.gradient[{i}])") in text
        assert "takes 4 passes; one pass backward" in text


def test_a_label_that_is_an_expression_is_held_by_brackets(show):
    x, w = values(x=2.0, w=3.0)
    product = x * w
    product.label = "x*w"
    page = show(explore(mg.tanh(product)))
    open_tool(page, "forward")
    expect(page.locator("#tangents tr").first).to_contain_text("∂(x*w)/∂x")
    open_tool(page, "quiz")
    expect(page.locator("#question")).to_have_text("1 of 3: what is (x*w).grad?")


def test_tangents_appear_with_the_forward_pass(show):
    page = show(explore(reused()))
    open_tool(page, "forward")
    assert page.locator("#tangents tr.waiting").count() == 3
    page.click("#forward")
    assert page.locator("#tangents tr.waiting").count() == 2
    expect(page.locator("#tangents tr").first).to_contain_text("∂e/∂a")
    expect(page.locator("#tangents tr").first).to_contain_text("−3 × 1")
    assert page.locator(".edge.on-path").count() == 1
    page.click("#last")
    expect(page.locator("#tangents tr").last).to_contain_text("4 × 1")


def test_nothing_flows_forward_where_nothing_depends_on_it(show):
    (x,) = values(x=0.0)
    page = show(explore(mg.stop_gradient(mg.sqrt(x) + 1.0) * 2.0 + x * 3.0))
    assert page.evaluate("tangentsFrom(0)[passes.output]") == 3


def test_a_nudge_compares_what_the_gradient_predicts_with_what_happens(show):
    (x,) = values(x=3.0)
    y = x * x
    y.label = "y"
    page = show(explore(y))
    page.evaluate("goTo(lastStep)")
    open_tool(page, "nudge")
    expect(page.get_by_role("img", name="predicted: 6 × 0.1: 0.6")).to_be_visible()
    expect(page.get_by_role("img", name="actual change of y: 0.61")).to_be_visible()
    expect(page.locator("#nudge-says")).to_contain_text("They differ by 0.01")
    page.click("#halve")
    expect(page.locator("#nudge-says")).to_contain_text("They differ by 0.0025")
    page.fill("#by", "-1")
    expect(page.get_by_role("img", name="actual change of y: −5")).to_be_visible()
    assert page.evaluate("passes.data[0]") == 3, "the leaf itself stays"
    assert float(page.locator("#nudge rect.predicted").get_attribute("x")) == pytest.approx(2)


@pytest.mark.parametrize(
    ("factors", "words"),
    [(1, "For the one leaf here that takes 1 pass; one pass backward"), (41, "1 more node has a tangent.")],
)
def test_one_is_in_the_singular(show, factors, words):
    (x,) = values(x=1.0)
    y = x
    for _ in range(factors):
        y = y * 2.0
    page = show(explore(y))
    open_tool(page, "forward")
    expect(page.locator("#tangents")).to_contain_text(words)


def says_of_nudge(page):
    return page.locator("#nudge-says").inner_text()


@pytest.mark.parametrize(
    ("line", "numbers", "by"),
    [
        (lambda x: x, {"x": 3.0}, 0.1),
        (lambda x: x, {"x": 0.1}, 0.7),
        (lambda x, w, b: x * w + b, {"x": 0.3, "w": 0.7, "b": 0.1}, 0.1),
        (lambda x, w, b: x * w + b, {"x": 1e6, "w": 1.1, "b": -1.1e6}, 1 / 3),  # cancels
        (lambda x, w: 1e-20 * (x * w + x / 3.0) - x * 2.0, {"x": 0.9, "w": 0.1}, -0.3),
        (lambda x, w: mg.tanh(w) * x, {"x": 7.7, "w": 0.3}, 0.013),
    ],
)
def test_a_straight_line_does_as_its_gradient_predicts(show, line, numbers, by):
    page = show(explore(line(*values(**numbers))))
    open_tool(page, "nudge")
    page.select_option("#nudged", label="x")
    for _ in range(12):
        page.fill("#by", str(by))
        assert "They are equal" in says_of_nudge(page), by
        by *= 0.61


def test_a_small_bend_is_no_rounding(show):
    page = show(explore(values(x=3.0)[0] ** 2))
    open_tool(page, "nudge")
    page.fill("#by", "1e-6")
    assert "They differ by 1" in says_of_nudge(page)


@pytest.mark.parametrize(
    ("function", "x", "by", "what"),
    [
        (lambda x: mg.Value(float("nan"), label="q") * x, 1.0, 0.1, "y is nan"),
        (mg.sqrt, 0.0, 0.1, "x.grad is inf"),
        (mg.log, 0.05, -0.1, "y after the nudge is nan"),
        (mg.exp, 700.0, 50, "y after the nudge is inf"),
    ],
)
def test_what_is_no_number_cannot_be_compared(show, function, x, by, what):
    y = function(mg.Value(x, label="x"))
    y.label = "y"
    page = show(explore(y))
    open_tool(page, "nudge")
    page.select_option("#nudged", label="x")
    page.fill("#by", str(by))
    assert says_of_nudge(page) == f"There is nothing to compare: {what}."
