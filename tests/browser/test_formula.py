"""The formula box of the explorer's page: Python's numbers, Python's rules and Python's messages, without Python."""

import math
import re

import pytest
from playwright.sync_api import expect

import microgrid as mg
from microgrid.drawing.explorer import explore
from microgrid.drawing.formulas import MOST_ARGUMENTS, NUMBERS
from microgrid.expressions import CONSTANTS, FUNCTIONS, ExpressionError, parse

LETTERS = "abcdfghk"
FORMULAS = [
    *[
        f"{name}({', '.join(LETTERS[:count])})"
        for name, (_, counts) in FUNCTIONS.items()
        for count in counts[:MOST_ARGUMENTS]
    ],
    *[f"a {sign} b" for sign in ("+", "-", "*", "/", "//", "%", "**")],
    *[f"(a*a + 1) ** {n}" for n in (-3, -1, 0, 0.5, 1, 2, 3, 10, 3.7, -0.25)],
    *[f"{b} ** a" for b in (2, 10, "e", 1.7)],
    *["-a", "+a", "--a * -3", "3 * 2 * a", "log(a*a, 2)", "log(7, a*a)", "prod(a, 2, b)", "mean(a, 1, 2)"],
    *["2 ** a ** b", "power(2, a)", "max(a, 1)", "logsumexp(a, 2)", "pi * a + e", "sin(2) * a", "a - 1 - b"],
    *["a", "tanh(x1*w1 + x2*w2 + b)", "ａ + 1", "if_ * 2", "1_000 * a + 0x1F + .5 + 1e-3", "a * a / a", "-a ** 2"],
    *["hypot(3, a)", "pow(a, 2)"],
]  # fmt: skip


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    path = tmp_path_factory.mktemp("formula") / "page.html"
    explore("x * y").save(path)
    page = browser.new_page(viewport={"width": 1280, "height": 760})
    page.goto(path.as_uri())
    yield page
    page.close()


def test_every_function_and_operator_gives_pythons_numbers_and_pythons_graph(page):
    read = """texts => texts.map(text => {
      formulas.explore(text);
      const numbers = i => [passes.data[i], passes.gradient[i]].map(String);
      const named = Object.entries(program.labels).map(([i, name]) => [name, ...numbers(i)]);
      return {named, output: String(passes.data.at(-1)), operations: program.op.map(row => program.rows[row].name)};
    })"""
    for text, found in zip(FORMULAS, page.evaluate(read, FORMULAS), strict=True):
        expression = parse(text)
        values = {name: mg.Value(float(data), label=name) for name, data, _ in found["named"]}
        assert list(values) == [name for name in expression.names if name not in CONSTANTS], text
        output = expression.evaluate(values)
        output.backward()
        near = {"rel": 1e-12, "abs": 1e-15, "nan_ok": True}
        assert float(found["output"]) == pytest.approx(output.data, **near), text
        for name, _, gradient in found["named"]:
            assert float(gradient) == pytest.approx(values[name].grad, **near), f"{name} of {text}"
        if not re.search(r"3\.7|0\.25|1\.7", text):  # of whose constants there is no row of their own
            there = sorted(node.op.name for node in mg.topological_order(output))
            assert sorted(found["operations"]) == there, text


BAD = [
    "", "   ", "x +", "(x + 1", "tanh(x", "tanh(x))", "x)", "[x", "x]", "(x]", "{x", "x^2", "x ^ y + 1", "(x)^2",
    "a*b^2", "sqrt(x^2+y^2)", "2x", "2 x", "x y", "tanh(x y)", "(x y)", "(1 + x y)", "tanh(a, x y)", "(x y", "x y (",
    "x = 3", "x == 3", "x < y", "x<y<z", "(x < y) * 2", "x.y", "x[0]", "'abc'", '"abc"', "'a'+x", "tanh(x=1)",
    "thanh(x)", "sigmod(x)", "Sin(x)", "foo(x)", "ταν(x)", "mx(x,y)", "tanh()", "tanh(x, y)", "log(x,1,2)", "mean()",
    "min(x)", "x, y", "x,", "(x,)", "[1,2]", "{1}", "{}", "...", "1j", "lambda", "x if y", "True", "x and y", "not x",
    "~x", "!x", "x!", "x $ y", "x ? y", "x × y", "x − y", "x’", "x @ y", "x | y", "x << 1", "x := 3", "(x := 3)",
    "1..2", "1.5.2", "1e", "012", "1__0", "1_", "x**", "**x", "*x", "tanh(*x)", "x//", "()", "(,)", "tanh(,)", "x;y",
    "x:", "#x", 'x\\', '"abc', "x'", "5(x)", "(x)(y)", "x.tanh()", "+", "x***y", "tan h(x)", "exp(x)tanh(y)", "sin x",
    "x%%y", "x*(y+", "x + * y", "漢字 + (1", "漢字^2", 'a' * 60 + '^2', "x * tanh(y) + foo(z)", "=x", "x+=1", "x->y",
    "tanh(x==1)", "x.", "5x+3", "3*x^2+2*x", "tanh(x)y", "x+,y", "tanh((x,y))",
]  # fmt: skip


def test_error_messages_are_pythons_with_the_caret_at_pythons_place(page):
    read = """texts => texts.map(text => {
      try { expressions.parse(text, page.formulas.functions); return null; }
      catch (error) { return [error.message, error.column]; }
    })"""
    for text, found in zip(BAD, page.evaluate(read, BAD), strict=True):
        with pytest.raises(ExpressionError) as caught:
            parse(text)
        assert found == [str(caught.value), caught.value.column], text


def test_a_sum_of_a_thousand_terms_is_read_without_deep_recursion(page):
    page.evaluate("formulas.explore(Array.from({length: 1000}, (_, i) => `a * ${i}`).join(' + '))")
    assert page.evaluate("passes.gradient[0]") == sum(range(1000))


def test_more_arguments_than_the_page_has_rows_for_are_refused_with_the_remedy(page):
    message = page.evaluate(
        "(() => { try { formulas.explore('mean(a,a,a,a,a,a,a,a,a)'); } catch (error) { return error.message; } })()"
    )
    assert message.startswith("mean() takes at most 8 arguments in the page, not 9; mg.explore() of a Value takes any")


# ---------------------------------------------------------------------------------------------------
# Typing


def test_typing_a_formula_shows_its_graph_and_both_passes_at_once(show):
    page = show(explore(mg.Value(1.0, label="q") * 2))
    page.click("#tool-formula")
    expect(page.get_by_role("textbox", name="Formula")).to_be_focused()
    page.keyboard.type("a * b + 3", delay=2)
    assert page.evaluate("nodes.map(node => node.dataText.textContent)") == ["2", "−0.5", "−1", "3", "2"]
    assert page.evaluate("[...passes.gradient]") == [-0.5, 2, 1, 1, 1]
    expect(page.locator("h1")).to_have_text("a * b + 3")
    expect(page.locator("#result")).to_contain_text("= 2")
    assert page.evaluate("now === lastStep && !isPlaying()"), "spaces and arrows that are typed do not play"
    page.get_by_label("a", exact=True).fill("10")
    page.fill("#formula", "a * b + tanh(c)")
    assert page.evaluate("passes.data[0]") == 10, "a name that stays keeps its number"
    page.click("#first")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("now") == 1


def networks_loss():
    mlp = mg.nn.MLP(2, [3, 1], seed=0)
    loss = (mlp([0.5, -1.0]) - 1.0) ** 2
    loss.label = "loss"
    return loss


@pytest.mark.parametrize("by", ["empty box", "button"])
@pytest.mark.parametrize("what", [lambda: mg.Value(1.0, label="q") * 2, lambda: "x * y", networks_loss])
def test_from_a_formula_there_is_a_way_back_to_the_graph_from_python(show, what, by):
    page = show(explore(what()))
    read = """[nodes.map(node => [...node.at, node.kind, node.title]), [...opened], modules.length, [...passes.data],
      document.title, document.querySelector("h1").textContent, byId("note").textContent]"""
    before = page.evaluate(read)
    page.click("#tool-formula")
    expect(page.locator("#back-to-python")).to_be_hidden()
    for text in ("a * b + 3", "a * tanh(q)"):
        page.fill("#formula", text)
    assert page.evaluate(read) != before
    page.fill("#formula", "a *")
    if by == "button":
        page.click("#back-to-python")
    else:
        page.fill("#formula", " ")
    assert page.evaluate(read) == before
    assert page.evaluate("now === lastStep && formulas.typed === ''")
    expect(page.locator("#formula-says")).to_have_text("This is the graph from Python. Type a formula to see another.")
    expect(page.locator("#formula")).to_have_attribute("aria-invalid", "false")
    expect(page.locator("#formula")).to_be_focused()
    expect(page.locator("#back-to-python")).to_be_hidden()
    page.fill("#formula", "a * b")
    expect(page.locator("h1")).to_have_text("a * b")


def test_a_formula_that_cannot_be_read_leaves_the_graph_and_says_where(show):
    page = show(explore("x * y"))
    page.click("#tool-formula")
    expect(page.locator("#formula")).to_have_value("x * y")
    page.fill("#formula", "x * y^2")
    expect(page.locator("#formula-says")).to_contain_text("a power is written **, not ^")
    expect(page.locator("#formula-says")).to_contain_text("^ column 6")
    expect(page.locator("#formula")).to_have_attribute("aria-invalid", "true")
    assert page.evaluate("nodes.length") == 3
    page.fill("#formula", "3 + 4")
    expect(page.locator("#formula-says")).to_contain_text("a formula without a name has nothing to differentiate")
    page.fill("#formula", "x * y**2")
    expect(page.locator("#formula-says")).to_be_empty()
    assert page.evaluate("nodes.length") == 4
    page.keyboard.press("Escape")
    expect(page.locator("#tool")).to_be_hidden()
    expect(page.locator("#tool-formula")).to_be_focused()
    expect(page.locator("#tool-formula")).to_have_attribute("aria-expanded", "false")


def test_names_have_numbers_at_which_the_result_is_one(page):
    assert page.evaluate("(formulas.explore('a + log(b)'), [passes.data[0], passes.data[1]])") == [NUMBERS[0], 0.5]
    assert page.evaluate("(formulas.explore('q * r'), [passes.data[0], passes.data[1]])") == list(NUMBERS[:2])


def test_explore_takes_a_formula_too():
    page = explore("tanh(x*w + b)")
    assert "<title>tanh(x*w + b)</title>" in page.html
    with pytest.raises(ExpressionError, match="a power is written"):
        explore("x^2")
    with pytest.raises(ExpressionError, match="without a name"):
        explore("pi + 1")
    assert math.isfinite(explore("log(a) + log(b)")._program.order[-1].data)


def test_a_formula_that_smuggles_markup_is_only_text(show):
    page = show(explore("x * y", title="<b>x</b>"))
    page.click("#tool-formula")
    page.fill("#formula", "x * '<img src=q onerror=alert(1)>'")
    expect(page.locator("#formula-says")).to_contain_text("<img src=q")
    assert page.locator("#tool img").count() == 0
