"""The tools of the explorer's page: what holds for each of them."""

import pytest
from playwright.sync_api import expect
from tools import open_tool, reused

from microgrid.drawing.explorer import explore

TOOLS = ["formula", "learn", "quiz", "forward", "nudge", "text"]


@pytest.mark.parametrize("name", TOOLS)
def test_each_tool_opens_and_closes_by_key_and_names_its_controls(show, name):
    page = show(explore(reused()))
    open_tool(page, name, "keys")
    nameless = page.evaluate(
        """[...document.querySelectorAll("#tool :is(button, input, select, textarea), #tools button")].filter(
             e => !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length)).length"""
    )
    assert nameless == 0
    page.locator("#tool :is(input, select, button)").first.focus()
    page.keyboard.press("Escape")
    expect(page.locator("#tool")).to_be_hidden()
    expect(page.locator(f"#tool-{name}")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", TOOLS)
def test_no_tool_is_a_serious_barrier(browser, tmp_path, barriers, name, scheme):
    explore(reused()).save(tmp_path / "page.html")
    page = browser.new_page(viewport={"width": 1280, "height": 760}, color_scheme=scheme)
    page.goto((tmp_path / "page.html").as_uri())
    page.click(f"#tool-{name}")
    if name == "formula":
        page.fill("#formula", "x^2")
    assert barriers(page) == []
    page.close()


@pytest.mark.parametrize("name", TOOLS)
def test_each_tool_fits_a_phone(browser, tmp_path, name):
    explore(reused()).save(tmp_path / "page.html")
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.goto((tmp_path / "page.html").as_uri())
    page.click(f"#tool-{name}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("[...document.querySelectorAll('#tools button')].every(b => b.offsetHeight >= 40)")
    page.close()


def test_tools_work_on_a_typed_formula_and_a_link_holds_it(show, tmp_path):
    page = show(explore("x * y"))
    open_tool(page, "formula")
    page.fill("#formula", "(w - 3) ** 2")
    open_tool(page, "learn")
    page.click("#learn-step")
    assert page.evaluate("passes.data[0]") == pytest.approx(2.2)
    state = page.evaluate("stateInWords()")
    page.goto(f"{page.url}#{state}")
    page.reload()
    assert page.evaluate("document.querySelector('h1').textContent") == "(w - 3) ** 2"
    assert page.evaluate("passes.data[0]") == pytest.approx(2.2)


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_that_is_presented_has_large_type(show, name):
    page = show(explore(reused()))
    open_tool(page, name)
    page.click("#present")
    small = page.evaluate(
        """[...document.querySelectorAll("#tool :is(label, p, b, button, input, select, td, th)")]
             .filter(e => e.checkVisibility() && parseFloat(getComputedStyle(e).fontSize) < 20).map(e => e.outerHTML)"""
    )
    assert small == []
