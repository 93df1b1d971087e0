"""The documentation site, as it is built: its pages, and Python in the browser."""

import functools
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONG = 120_000  # milliseconds: Python is loaded as WebAssembly, on a machine that may be busy


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The built site: that of MICROGRID_SITE, else one that is built here."""
    if "MICROGRID_SITE" in os.environ:
        return Path(os.environ["MICROGRID_SITE"])
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "-m", "mkdocs", "build", "--quiet", "-d", folder], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="session")
def address(site):
    """The site on the loopback."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def wait_until_idle(page):
    page.wait_for_function("!document.getElementById('try-run').disabled", timeout=LONG)


@pytest.fixture
def python(opened, address):
    opened.page.goto(f"{address}try.html")
    wait_until_idle(opened.page)
    return opened.page


def run(page, code):
    page.fill("#try-editor", code)
    page.press("#try-editor", "Control+Enter")
    wait_until_idle(page)
    return page.inner_text("#try-results")


def test_no_page_asks_another_host_for_anything_has_an_error_or_is_wider_than_a_phone(opened, site, address):
    pages = sorted(str(path.relative_to(site)) for path in site.rglob("*.html") if "live" not in path.parts)
    assert {"index.html", "try.html", "gallery.html", "reference/index.html", "learn/chapter-5.ko.html"} <= set(pages)
    opened.page.set_viewport_size({"width": 390, "height": 844})
    for name in pages:
        if name != "404.html":
            opened.page.goto(address + name)
            opened.page.wait_for_load_state("load")
            assert opened.page.evaluate("document.documentElement.scrollWidth") == 390, name
    assert [url for url in opened.requests if not url.startswith((address, "data:", "blob:", "about:"))] == []
    assert opened.errors == []


@pytest.mark.parametrize(
    "name", ["index", "try", "reference/index", "course/notebooks", "notebooks/04-a-network-of-scalars"]
)
@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_nothing_on_a_page_keeps_anyone_out(opened, barriers, address, name, scheme, width):
    opened.page.emulate_media(color_scheme=scheme)
    opened.page.set_viewport_size({"width": width, "height": 800})
    opened.page.goto(f"{address}{name}.html")
    assert barriers(opened.page) == []


def test_python_in_the_page_draws_checks_explains_and_learns(python, opened, address):
    examples = python.eval_on_selector_all("#try-examples option", "options => options.map(option => option.text)")
    shown = {}
    for name in examples:
        python.select_option("#try-examples", name)
        python.click("#try-run")
        wait_until_idle(python)
        assert python.locator("#try-results .error").count() == 0, python.inner_text("#try-results")
        shown[name] = python.inner_html("#try-results")
    assert "<svg" in shown["A neuron"]
    assert "srcdoc" in shown["The price of apples"]
    assert "FAIL" in shown["A wrong derivative is named"]
    assert "yours: 1" in shown["An exercise of the course"].partition("<svg")[2]
    assert "The ReLU is off" in shown["Why is this gradient zero?"]
    assert "a = 3.0000" in shown["A line, learned"]
    assert "right 9" in shown["Two moons, learned"]
    assert "srcdoc" in shown["Two moons, learned"]
    assert "contract(" in shown["From scalars to arrays"]
    assert "[0.3, -0.8, 0.5]" in shown["Softmax with loss"]
    assert [url for url in opened.requests if not url.startswith((address, "data:", "blob:", "about:"))] == []


def test_python_in_the_page_differentiates_and_keeps_its_names_for_the_console(python):
    text = run(python, "import microgrid as mg\nx = mg.Value(3.0)\ny = x**2\ny.backward()\nprint(x.grad)")
    assert text.strip() == "6.0"
    python.fill("#try-line", "mg.grad(mg.tanh)(0.0)")
    python.press("#try-line", "Enter")
    wait_until_idle(python)
    assert python.inner_text("#try-results").split("\n")[-1].strip() == "1.0"


COMPILED = """
import random
from itertools import accumulate

import numpy as np

import microgrid as mg

draw = random.Random(0)
w = [[mg.Value(draw.uniform(-0.5, 0.5)) for _ in range(9)] for _ in range(9)]


def recurrent(x, steps):
    state = x
    for _ in range(steps):
        state = [mg.tanh(mg.dot(row, state)) for row in w]
    return mg.total(state)


programs = {
    "a look-up": lambda x: mg.total([mg.take(x, mg.floor(mg.clip(3 * abs(a), 0.0, 8.9))) for a in x]),
    "a triangle": lambda x: mg.total([mg.tanh(mg.dot(w[k][: k + 1], x[: k + 1])) for k in range(9)]),
    "prefix sums": lambda x: mg.total([mg.tanh(s) for s in accumulate(x)]),
    "a running maximum": lambda x: mg.total([mg.exp(s) for s in accumulate(x * 5, mg.maximum)]),
    "attention": lambda x: mg.total([mg.dot(mg.softmax([q * k for k in x]), x) ** 2 for q in x]),
    "a recurrent net": lambda x: recurrent(x, 3),
    "many steps": lambda x: recurrent(x, 60),
}
X = np.random.default_rng(0).normal(size=(4, 9))
for name, f in programs.items():
    kernel = mg.compile(f).kernel(X)
    _, gradient = kernel.value_and_grad(kernel.read(), X, by="arguments")
    expected = [mg.grad(f)([*map(float, x)]) for x in X]
    error = np.abs(np.array(gradient) * 1.0 - np.array(expected) / len(X)).max()
    print(name, "agrees" if error <= 1e-12 else f"is off by {error:.1e}", kernel.target)
"""


def test_programs_compile_in_the_page_where_integers_have_32_bits(python):
    lines = run(python, COMPILED).strip().split("\n")
    assert [line.endswith(" agrees numpy") for line in lines] == [True] * 7, lines


def test_an_error_in_the_page_is_shown_and_python_goes_on(python):
    assert "ZeroDivisionError" in run(python, "1 / 0")
    assert run(python, "print(1 + 1)").strip() == "2"


def test_python_in_the_page_can_be_stopped(python):
    python.fill("#try-editor", "while True: pass")
    python.click("#try-run")
    python.click("#try-stop")
    wait_until_idle(python)
    assert run(python, "print('again')").strip() == "again"


def test_a_link_brings_the_code_along(python, browser):
    code = "print('Grüße, 안녕')"
    python.fill("#try-editor", code)
    python.click("#try-share")
    with browser.new_page() as other:
        other.goto(python.url)
        assert other.input_value("#try-editor") == code
