"""The steps of the explorer's page as text, and its worksheet on paper."""

import re

import pytest
from playwright.sync_api import expect
from tools import open_tool, reused

from microgrid.drawing.explorer import explore


def test_transcript_says_every_step_and_is_copied(show):
    page = show(explore(reused()))
    page.evaluate("goTo(2)")
    open_tool(page, "text")
    text = page.get_by_role("textbox", name="The steps as Markdown").input_value()
    assert [int(n) for n in re.findall(r"^## (\d+)\.", text, re.M)] == list(range(page.evaluate("lastStep") + 1))
    assert "- e = a × b" in text
    assert "press play" not in text.lower()
    assert "- a.grad += 2 × −3 = −6 added to 4 → −2" in text
    assert page.evaluate("now") == 2
    page.evaluate("setLeaf(leaves[0], 5)")
    text = page.locator("#transcript").input_value()
    assert "- a.grad += 5 × −3 = −15" in text
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#copy")
    expect(page.locator("#copied")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == text


@pytest.mark.parametrize("solved", [False, True])
def test_worksheet_prints_blanks_or_their_solution(show, solved):
    page = show(explore(reused()))
    page.evaluate(
        """window.print = () => {
             const rows = [...document.querySelectorAll(".worksheet tbody tr")];
             window.printed = rows.map(row => [...row.cells].map(cell => cell.textContent));
             window.at = now;
           }"""
    )
    open_tool(page, "text")
    page.emulate_media(media="print")
    page.evaluate(f"document.querySelector('#print-{'solved' if solved else 'blank'}').click()")
    blank = "_______"
    rows = {row[0]: row[1:] for row in page.evaluate("printed")}
    assert rows["L"] == ["d × a", "8" if solved else blank, "1", "1"]
    assert rows["e"][1:] == (["−6", "2 × 1", "2"] if solved else [blank, f"{blank} × {blank}", blank])
    assert rows["a"][:2] == ["given", "2"]
    assert rows["a"][2:] == (["1 × 4 + 2 × −3", "−2"] if solved else [f"{blank} × {blank} + {blank} × {blank}", blank])
    assert page.evaluate(f"at === {'lastStep' if solved else '0'}")
    assert page.evaluate("now") == 0, "the play stands where it stood"
    expect(page.locator("#sheet")).to_be_visible()
    expect(page.locator("#tool")).to_be_hidden()
    expect(page.locator("#transport")).to_be_hidden()
