"""The page's main states beside stored pictures of them, compared as an eye at some distance would.

``MICROGRID_STORE_SCREENSHOTS=1`` stores new pictures: look at them before you commit them.
"""

import os
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser
from screenshots import PAGE_TOLERANCE, STORED, distance

import microgrid as mg
from microgrid.drawing.explorer import explore

GRAPH_TOLERANCE = 1.0  # the graph without its letters is the same everywhere

BARE = """
  document.querySelectorAll("#graph text").forEach(text => (text.style.fill = "none"));
  document.querySelectorAll("header, aside, #bar").forEach(part => (part.style.display = "none"));
  stage.style.background = "none";
  Object.assign(stage.parentElement.style, { flex: "none", width: "100%", height: "500px" });
"""

STATES = {
    "start": ("light", 1280, 760, "goTo(0)"),
    "backward": ("light", 1280, 760, "goTo(13)"),
    "finished-dark": ("dark", 1280, 760, "goTo(lastStep); select(nodes.find(node => nameOf(node.values[0]) === 'x'))"),
    "phone": ("light", 390, 844, "goTo(13)"),
}


def lesson() -> mg.Value:
    x, w, b = (mg.Value(v, label=name) for name, v in {"x": 2.0, "w": -0.5, "b": 0.25}.items())
    z = x * w + b
    z.label = "z"
    a = mg.tanh(z)
    a.label = "a"
    loss = (a - 0.5) ** 2 + x * a
    loss.label = "loss"
    return loss


def photograph(browser: Browser, path: Path, state: str, change: str = "") -> tuple[Image.Image, Image.Image]:
    """Return a picture of the page, and one of the graph without its letters."""
    scheme, width, height, script = STATES[state]
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
    )
    page.goto(explore(lesson(), title="A lesson").save(path / "page.html").as_uri())
    page.evaluate(f"{script}; {change}")
    page.wait_for_timeout(200)
    page.screenshot(path=path / "page.png")
    page.evaluate(BARE)
    page.wait_for_timeout(200)
    page.locator("#graph").screenshot(path=path / "graph.png")
    page.close()
    with Image.open(path / "page.png") as whole, Image.open(path / "graph.png") as graph:
        return whole.convert("RGB"), graph.convert("RGB")


@pytest.mark.parametrize("state", STATES)
def test_page_looks_as_it_did(browser: Browser, tmp_path: Path, state: str) -> None:
    tolerances = {"page": PAGE_TOLERANCE, "graph": GRAPH_TOLERANCE}
    for (part, tolerance), now in zip(tolerances.items(), photograph(browser, tmp_path, state), strict=True):
        path = STORED / f"{state}-{part}.png"
        if os.environ.get("MICROGRID_STORE_SCREENSHOTS"):
            now.quantize(64).save(path, optimize=True)
        with Image.open(path) as stored:
            assert distance(now, stored.convert("RGB")) < tolerance, f"compare {tmp_path / part}.png with {path}"


@pytest.mark.parametrize(
    "change",
    ["goTo(now - 1)", "document.getElementById('nodes').remove()", "layers.edges.remove()"],
    ids=["another step", "no nodes", "no edges"],
)
def test_eye_sees_what_is_wrong_with_the_graph(browser: Browser, tmp_path: Path, change: str) -> None:
    _, whole = photograph(browser, tmp_path, "backward")
    _, less = photograph(browser, tmp_path, "backward", change)
    assert distance(whole, less) > GRAPH_TOLERANCE


def test_eye_does_not_mind_another_font(browser: Browser, tmp_path: Path) -> None:
    change = """
      document.documentElement.style.setProperty("--sans", "Liberation Sans, Arial, sans-serif");
      document.documentElement.style.setProperty("--mono", "Liberation Mono, Courier New, monospace");
    """
    pairs = zip(photograph(browser, tmp_path, "start"), photograph(browser, tmp_path, "start", change), strict=True)
    for (one, other), tolerance in zip(pairs, (PAGE_TOLERANCE, GRAPH_TOLERANCE), strict=True):
        assert distance(one, other) < tolerance
