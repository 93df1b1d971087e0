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
