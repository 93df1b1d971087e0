"""Learning in the explorer's page: Python's steps, and a rate that is too large."""

import pytest
from playwright.sync_api import expect
from tools import open_tool, values
from waiting import wait_until

import microgrid as mg
from microgrid.drawing.explorer import explore


def squares():
    """(w·3 + b − 6)²: a parabola in two leaves."""
    w, b = values(w=0.5, b=1.0)
    loss = (w * 3.0 + b - 6.0) ** 2
    loss.label = "loss"
    return loss, w, b


@pytest.mark.parametrize("by", ["mouse", "keys"])
def test_a_step_of_learning_is_pythons(show, by):
    loss, w, b = squares()
    page = show(explore(loss))
    open_tool(page, "learn", by)
    page.focus("#rate")
    for _ in range(4):
        page.keyboard.press("ArrowLeft")  # 0.1, 0.05, 0.02, 0.01, 0.005
    for _ in range(5):
        if by == "mouse":
            page.click("#learn-step")
        else:
            page.focus("#learn-step")
            page.keyboard.press("Enter")
        loss.forward()
        for node in mg.topological_order(loss):
            node.grad = 0.0
        loss.backward()
        for leaf in (w, b):
            leaf.data -= 0.005 * leaf.grad
    loss.forward()
    found = page.evaluate("Object.fromEntries(leaves.map(i => [nameOf(i), passes.data[i]]))")
    assert found["w"] == pytest.approx(w.data, rel=1e-12)
    assert found["b"] == pytest.approx(b.data, rel=1e-12)
    assert page.evaluate("passes.data[passes.output]") == pytest.approx(loss.data, rel=1e-12)
    expect(page.locator("#learn-says")).to_contain_text("After 5 steps loss went from 12.25 to")
    expect(page.get_by_role("img", name="loss over 5 steps")).to_be_visible()
    assert page.locator("#curve path").get_attribute("d").count("L") == 5
    page.click("#restart")
    assert page.evaluate("passes.data[passes.output]") == 12.25


def test_too_large_a_rate_is_seen_to_diverge(show):
    page = show(explore(squares()[0]))
    open_tool(page, "learn")
    page.focus("#rate")
    page.keyboard.press("ArrowRight")  # 0.2: above 2/λ = 0.1 of this parabola
    page.click("#run")
    expect(page.locator("#learn-says")).to_contain_text("It diverges", timeout=20_000)
    wait_until(page, "document.querySelector('#run').textContent === 'Run'")
    page.click("#restart")
    page.focus("#rate")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    page.click("#run")
    wait_until(page, "passes.data[passes.output] < 1e-3")
    page.click("#run")
    expect(page.locator("#learn-says")).to_contain_text("loss went from 12.25 to")


def test_only_ticked_leaves_learn_and_data_is_not_ticked_at_first(show):
    x, w, b = values(x=2.0, w=-1.0, b=0.5)
    page = show(explore((x * w + b) ** 2))
    open_tool(page, "learn")
    assert not page.get_by_label("x learns").is_checked()
    page.get_by_label("b learns").uncheck()
    page.click("#learn-step")
    given = page.evaluate("Object.fromEntries(leaves.map(i => [nameOf(i), passes.data[i] - passes.given.get(i)]))")
    assert given["x"] == given["b"] == 0
    assert given["w"] == pytest.approx(0.1 * 6)


def test_a_rate_at_the_limit_swings_and_the_page_says_that_it_does_not_go_down(show):
    page = show(explore(squares()[0]))
    open_tool(page, "learn")
    for _ in range(4):
        page.click("#learn-step")  # at 0.1 = 2/λ, from one side of the parabola to the other
    expect(page.locator("#learn-says")).to_contain_text("loss went from 12.25 to 12.25. It does not go down")
    heights = {point.split()[1] for point in page.locator("#curve path").get_attribute("d")[1:].split("L")}
    assert len(heights) == 1


def numbers(page):
    return page.evaluate("Object.fromEntries(namedLeaves().map(i => [nameOf(i), passes.data[i]]))")


def test_start_over_goes_back_to_where_the_run_began(show):
    page = show(explore(squares()[0]))
    page.get_by_label("w", exact=True).fill("-2.5")
    open_tool(page, "learn")
    for _ in range(3):
        page.click("#learn-step")
    page.get_by_label("w learns").uncheck()
    page.click("#learn-step")
    assert numbers(page)["w"] != -2.5
    page.click("#restart")
    assert numbers(page) == {"w": -2.5, "b": 1.0}
    expect(page.get_by_role("img", name="No step yet")).to_be_visible()


@pytest.mark.parametrize("by", ["hand", "reset"])
def test_numbers_that_no_step_made_begin_a_new_run(show, by):
    page = show(explore(squares()[0]))
    open_tool(page, "learn")
    for _ in range(3):
        page.click("#learn-step")
    if by == "hand":
        page.get_by_label("w", exact=True).fill("50")
    else:
        page.click("#reset")
    start = numbers(page)
    before = page.evaluate("format(passes.data[passes.output])")
    page.click("#learn-step")
    expect(page.locator("#learn-says")).to_contain_text(f"After 1 step loss went from {before} to")
    page.click("#restart")
    assert numbers(page) == start


def test_an_output_that_is_no_number_is_not_said_to_diverge(show):
    (x,) = values(x=-1.0)
    page = show(explore(mg.Value(float("nan"), label="q") * x + 1.0))
    open_tool(page, "learn")
    for _ in range(2):
        expect(page.locator("#learn-says")).to_contain_text("is not a number to begin with")
        page.click("#learn-step")
    assert numbers(page)["x"] == -1.0
    page.get_by_label("q", exact=True).fill("2")
    expect(page.locator("#learn-says")).to_contain_text("Each step takes the rate")


def test_the_tally_of_what_learns_follows_the_ticks(show):
    page = show(explore(sum(w * w for w in values(**{f"w{k}": 1.0 for k in range(20)}))))
    open_tool(page, "learn")
    summary = page.locator("#tool summary")
    expect(summary).to_have_text("What learns: 20 of 20 leaves")
    summary.click()
    page.get_by_label("w7 learns").uncheck()
    expect(summary).to_have_text("What learns: 19 of 20 leaves")
