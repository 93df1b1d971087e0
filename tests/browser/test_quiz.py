"""The quiz of the explorer's page: what it asks when, and what it says of wrong answers."""

import re

import pytest
from playwright.sync_api import expect
from tools import open_tool, reused, values

import microgrid as mg
from microgrid.drawing.explorer import explore


def asked(page):
    return re.search(r"what is (\w+)\.grad", page.locator("#question").inner_text())[1]


def answer(page, text):
    page.fill("#answer", text)
    page.press("#answer", "Enter")


def test_gradients_are_asked_in_backward_order_and_hidden_until_answered(show):
    page = show(explore(reused()))
    page.evaluate("goTo(lastStep)")
    open_tool(page, "quiz")
    right = {"d": "2", "e": "2", "c": "2", "a": "-2", "b": "4"}
    order = []
    while page.locator("#quiz").is_visible():
        name = asked(page)
        shown = page.evaluate(
            "Object.fromEntries(nodes.map(n => [nameOf(n.values[0]), n.gradientText?.textContent ?? '']))"
        )
        assert shown[name] == "", "what is asked is not shown"
        page.keyboard.press("End")
        page.click("#forward", force=True)
        assert page.evaluate(f"gradientNow(nodes.find(n => nameOf(n.values[0]) === '{name}'))") is None
        order.append(name)
        answer(page, right[name])
        expect(page.locator("#quiz-says")).to_contain_text(f"Right: {name}.grad = ")
    assert order[0] == "d"
    assert order.index("e") < order.index("b")
    assert sorted(order) == sorted(right)
    expect(page.locator("#quiz-says")).to_contain_text("5 of 5 at the first attempt")
    assert page.locator(".chip.good").count() == 5
    assert page.evaluate("now === lastStep"), "all is shown in the end"


@pytest.mark.parametrize("answers", [["2"], ["2", "2", "2", "-2", "4"], ["-2"]], ids=["midway", "all", "wrong"])
def test_a_number_that_changes_begins_the_quiz_anew(show, answers):
    page = show(explore(reused()))
    open_tool(page, "quiz")
    for text in answers:
        answer(page, text)
    page.get_by_label("a", exact=True).fill("5")
    assert asked(page) == "d"
    expect(page.locator("#question")).to_contain_text("1 of 5")
    expect(page.locator("#quiz-says")).to_have_text("The numbers are others now: the quiz begins anew.")
    assert page.locator(".chip").count() == 0
    assert page.evaluate("gradientNow(nodes.find(n => nameOf(n.values[0]) === 'd'))") is None
    expect(page.get_by_label("a", exact=True)).to_be_focused()
    answer(page, "5")
    expect(page.locator("#quiz-says")).to_have_text("Right: d.grad = 1 × 5 = 5.")
    expect(page.locator(".chip.good")).to_have_text("d.grad = 5")


def product_and_itself(a, b):
    return a * b + a


def square(a, b):
    return a * a + b


@pytest.mark.parametrize(
    ("formula", "wrong", "words"),
    [
        (product_and_itself, 7, "on each path: (1 + 1) + (1 + 4)."),
        (square, 8, "on each path: (1 + 3) + (1 + 3)."),
        (product_and_itself, 1.25, "You divided by the local derivatives ∂y/∂a and ∂p/∂a; multiply by them."),
        (product_and_itself, 6, "You took a itself for the local derivative."),
        (product_and_itself, 6, "look at ∂y/∂a and ∂p/∂a."),
    ],
)
def test_a_hint_names_every_path(show, formula, wrong, words):
    y = formula(*values(a=3.0, b=4.0))
    y.label = "y"
    y.parents[0].label = "p"
    page = show(explore(y))
    i = page.evaluate("namedLeaves().find(i => nameOf(i) === 'a')")
    assert words in page.evaluate(f"quiz.judge({i}, {wrong})")


def test_a_wrong_answer_is_answered_where_all_the_paths_carry_nothing(show):
    (x,) = values(x=0.0)
    page = show(explore(x * x))
    assert page.evaluate("quiz.judge(0, 0)") == ""
    assert "You added what arrives" not in page.evaluate("quiz.judge(0, 1)")
    assert "2 uses of x" in page.evaluate("quiz.judge(0, 7)")


def expected_parts():
    """L = d·a with d = 4, a = 2: a receives 4 from L and 2·(−3) = −6 from e."""
    return {"a": -2.0, "d": 2.0, "e": 2.0, "c": 2.0, "b": 4.0}


@pytest.mark.parametrize(
    ("name", "wrong", "words"),
    [
        ("a", 4, "You took the path through L and forgot the one through e"),
        ("a", -6, "You took the path through e and forgot the one through L"),
        ("a", -24, "take the sum of the parts, not their product"),
        ("d", -2, "The size is right, the sign is not"),
        ("b", -6, "You took b itself for the local derivative"),
        ("b", 17, "so your local derivative would be 8.5. But ∂e/∂b = a: what is that here?"),
        ("c", 3, "You added 2 and 1. The chain rule multiplies along a path"),
    ],
)
def test_a_wrong_answer_says_which_path_or_which_factor(show, name, wrong, words):
    page = show(explore(reused()))
    page.evaluate("goTo(lastStep)")
    i = page.evaluate(f"nodes.find(n => nameOf(n.values[0]) === '{name}').values[0]")
    assert words in page.evaluate(f"quiz.judge({i}, {wrong})")
    assert page.evaluate(f"quiz.judge({i}, {expected_parts()[name]})") == ""


def test_flow_and_local_derivative_alone_are_distinguished(show):
    x, w = values(x=3.0, w=0.5)
    y = mg.tanh(x * w)
    y.label = "y"
    z = y * 5.0
    z.label = "z"
    page = show(explore(z))
    node = page.evaluate(
        "nodes.find(n => n.index === nodeOf[passes.parents[passes.parents[passes.output][0]][0]]).values[0]"
    )
    slope = page.evaluate(f"passes.derivative[passes.received[{node}][0]]")
    assert "That is y.grad, what arrives" in page.evaluate(f"quiz.judge({node}, 5)")
    assert "That is the local derivative ∂y/∂v" in page.evaluate(f"quiz.judge({node}, {slope})")
    assert "You divided by the local derivative" in page.evaluate(f"quiz.judge({node}, {5 / slope})")
    assert page.evaluate(f"quiz.judge({node}, {round(5 * slope, 3)})") == ""


def test_x_times_x_counts_both_uses(show):
    (x,) = values(x=3.0)
    y = x * x
    y.label = "y"
    page = show(explore(y))
    assert "x is used twice by y. You took 1 of these paths" in page.evaluate("quiz.judge(0, 3)")
    assert page.evaluate("quiz.judge(0, 6)") == ""


def test_quiz_shows_the_answer_when_asked_and_predicts_sign_and_size(show):
    page = show(explore(reused()))
    open_tool(page, "quiz", "keys")
    answer(page, "two")
    expect(page.locator("#quiz-says")).to_have_text("Type a number, such as −0.5.")
    page.click("#give-up")
    expect(page.locator("#quiz-says")).to_have_text("d.grad = 1 × 2 = 2.")
    page.get_by_label("Predict sign and size only").check()
    expect(page.locator("#answer")).to_be_hidden()
    page.locator("#sign").select_option("negative")
    page.locator("#size").select_option("equal")
    page.click("#reveal")
    expect(page.locator("#quiz-says")).to_contain_text("The sign is not right, the size too: ")
    assert page.locator(".chip").count() == 2
    assert page.locator(".chip.good").count() == 0
