"""What Python found, on the page: marks at the places, the findings in words."""

import pytest
from playwright.sync_api import expect
from tools import smallest_text, values

import microgrid as mg
from microgrid.drawing.explorer import explore


def saturated():
    x, w = values(x=3.0, w=9.0)
    y = mg.tanh(x * w)
    y.label = "y"
    loss = (y - 0.5) ** 2
    loss.label = "loss"
    return loss


def cancelling():
    (x,) = values(x=1e-9)
    y = (mg.exp(x) - 1.0) / x
    y.label = "y"
    return y


MARKED = """Object.fromEntries(nodes.filter(node => node.element.classList.contains("marked"))
  .map(node => [nameOf(node.values[0]), node.markText.textContent]))"""


@pytest.mark.parametrize(
    ("make", "find", "marked", "fact", "remedy"),
    [
        (
            saturated,
            mg.why,
            {"x": "gradient vanishing", "w": "gradient vanishing", "y": "saturated"},
            "y is saturated: at 27 its slope is",
            "Keep the sums small",
        ),
        (
            cancelling,
            mg.precision,
            {"v₃": "9 digits lost", "y": "7 digits right"},
            "cancels 9 of the digits",
            "Write exp(x) - 1 as expm1(x).",
        ),
    ],
    ids=["why", "precision"],
)
def test_findings_are_said_and_marked_at_their_places(show, make, find, marked, fact, remedy):
    output = make()
    page = show(explore(output, mark=find(output)))
    assert page.evaluate(MARKED) == marked
    tool = page.locator("#tool")
    expect(tool).to_contain_text(find(output).summary)
    expect(tool).to_contain_text(fact)
    expect(tool).to_contain_text(remedy)
    outlines = page.locator(".node.marked .card").evaluate_all(
        "cards => cards.map(card => getComputedStyle(card).stroke)"
    )
    others = page.locator(".node:not(.marked) .card").evaluate_all("all => all.map(e => getComputedStyle(e).stroke)")
    assert len(set(outlines)) == 1
    assert outlines[0] not in others
    page.get_by_role("button", name="Show where").click()
    place = find(output).node
    assert page.evaluate("selected.values[0]") == mg.topological_order(output).index(place)
    expect(page.locator("#node .remark")).to_have_text(next(text for text in marked.values() if "gradient" not in text))


def test_marks_come_with_the_play_and_go_when_a_leaf_is_changed(show):
    output = saturated()
    page = show(explore(output, mark=mg.why(output)))
    assert page.evaluate(MARKED)
    page.evaluate("goTo(seedStep - 1)")
    assert page.evaluate(MARKED) == {}, "a quiz of the gradients tells nothing"
    page.evaluate("goTo(lastStep)")
    page.evaluate("setLeaf(leaves[0], 0.1)")
    assert page.evaluate(MARKED) == {}
    expect(page.locator("#findings-hold")).to_contain_text("reset brings them back")
    page.click("#reset")
    assert set(page.evaluate(MARKED)) == {"x", "w", "y"}
    expect(page.locator("#findings-hold")).to_be_empty()
    page.evaluate("formulas.explore('a * b')")
    assert page.evaluate(MARKED) == {}


def test_a_box_has_the_marks_of_what_it_holds_and_they_fit(show):
    model = mg.nn.MLP(2, [3, 1], seed=0)
    for parameter in model.layers[0].neurons[1].parameters():
        parameter.data = -3.0
    output = (model([0.5, 1.0]) - 1.0) ** 2
    page = show(explore(output, mark=mg.why(output)))
    page.set_viewport_size({"width": 1280, "height": 800})
    off = page.evaluate("nodes.find(node => node.title === 'Neuron 1' && node.markText).markText.textContent")
    assert "off" in off
    assert smallest_text(page)[0] >= 10
    right = "element => element.getBoundingClientRect().right"
    for card in page.locator(".node.marked").all():
        assert card.locator(".mark").evaluate(right) < card.locator(".card").evaluate(right)
    page.evaluate("changeLevel(1)")
    assert "off" in page.evaluate(MARKED).values()


def test_each_thing_that_is_said_of_a_node_has_a_line_within_its_card(show):
    (x,) = values(x=1e-9)
    y = mg.exp(x) - 1.0
    page = show(explore(y, mark=mg.precision(y)))
    lines = page.locator(".node.output tspan")
    assert lines.all_text_contents() == ["9 digits lost", "6.9 digits right"]
    page = show(explore(y, mark={y: "so much is said of it that no card would be wide enough"}))
    expect(lines).to_contain_text("…")
    card, said = (page.locator(f".node.output {part}").bounding_box() for part in (".card", ".mark"))
    assert said["x"] + said["width"] < card["x"] + card["width"]
    assert said["y"] + said["height"] < card["y"] + card["height"]
    page.locator(".node.output").click()
    expect(page.locator("#node .remark")).to_have_text("so much is said of it that no card would be wide enough")


def test_nodes_are_marked_with_the_users_words(show):
    output = saturated()
    w = next(node for node in mg.topological_order(output) if node.label == "w")
    page = show(explore(output, mark={w: "the weight"}))
    assert page.evaluate(MARKED) == {"w": "the weight"}
    assert page.evaluate("now") == 0
    expect(page.locator("#tool-findings")).to_have_count(0)
    assert show(explore(output, mark=w)).evaluate(MARKED) == {"w": ""}


def test_the_worst_finding_is_shown_and_the_others_open(show):
    x, y, z = values(x=0.0, y=-1.0, z=1.0)
    output = x**2 + mg.relu(y) + mg.stop_gradient(z) * 2.0
    found = mg.why(output)
    assert len(found.findings) == 3
    page = show(explore(output, mark=found))
    shown = page.locator("#tool .finding b").locator("visible=true")
    expect(shown).to_have_count(1)
    page.get_by_text("2 more findings").click()
    expect(shown).to_have_count(3)
    assert shown.all_text_contents() == [" ".join(finding.sentences) for finding in found.findings]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_findings_are_no_barrier(browser, tmp_path, barriers, scheme):
    output = saturated()
    page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme, reduced_motion="reduce")
    page.goto(explore(output, mark=mg.why(output)).save(tmp_path / "page.html").as_uri())
    assert barriers(page) == []
    page.close()
