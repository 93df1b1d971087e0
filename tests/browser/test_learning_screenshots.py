"""The pages in which a network learns beside stored pictures of them, as test_screenshots does with the explorer.

``MICROGRID_STORE_SCREENSHOTS=1`` stores new pictures: look at them before you commit them.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser
from screenshots import PAGE_TOLERANCE, STORED, distance

import microgrid as mg
from microgrid import data, losses, nn
from microgrid.drawing.page import Page


def plane() -> Page:
    """A recorded training on two moons."""
    X, y = data.moons(60, seed=0)
    return recorded(nn.MLP(2, [6, 1], init="he", seed=1), X.tolist(), (2 * y - 1).tolist(), losses.hinge)


def curve() -> Page:
    """A recorded training on a sine."""
    X, y = data.sine(40, seed=0)
    model = nn.Sequential(nn.Affine(1, 5, init="xavier", seed=3), nn.Tanh(), nn.Affine(5, 1, seed=4))
    return recorded(model, X.tolist(), y.tolist(), losses.mean_squared_error)


def images() -> Page:
    """A recorded training on images of two stripes."""
    X = [[float((k // 4 if i % 2 else k % 4) == i // 2 % 4) for k in range(16)] for i in range(16)]
    return recorded(nn.MLP(16, [8, 2], init="he", seed=1), X, [i % 2 for i in range(16)], losses.cross_entropy)


def recorded(model: Any, X: Any, y: Any, loss: Any) -> Page:
    watcher = mg.watch(model, X, y, title="A training")
    adam = mg.optim.Adam(model.parameters(), 0.03)
    mg.fit(model, X, y, loss=loss, optimizer=adam, epochs=25, batch_size=10, after_epoch=watcher, quiet=True)
    return watcher


EPOCHS = "for (let i = 0; i < 30; i++) toEndOfEpoch();"
STATES = {
    "watch-plane": (plane, "light", 1280, 760, "goTo(20)"),
    "watch-curve-dark": (curve, "dark", 1280, 760, "goTo(lastFrame)"),
    "watch-images-phone": (images, "light", 390, 844, "goTo(lastFrame)"),
    "playground": (mg.playground, "light", 1280, 760, EPOCHS),
    "playground-phone": (mg.playground, "dark", 390, 844, EPOCHS),
    "playground-projector": (mg.playground, "light", 1920, 1080, f"{EPOCHS} openSample(true, 4)"),
    "playground-sample-dark": (mg.playground, "dark", 1280, 760, f"{EPOCHS} openSample(true, 4)"),
}


@pytest.mark.parametrize("state", STATES)
def test_page_looks_as_it_did(browser: Browser, tmp_path: Path, state: str) -> None:
    make, scheme, width, height, script = STATES[state]
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
    )
    page.goto(make().save(tmp_path / "page.html").as_uri())
    page.evaluate(f"{script}; undefined")
    page.wait_for_timeout(200)
    page.screenshot(path=tmp_path / "page.png")
    page.close()
    path = STORED / f"{state}.png"
    with Image.open(tmp_path / "page.png") as shot:
        now = shot.convert("RGB")
    if os.environ.get("MICROGRID_STORE_SCREENSHOTS"):
        now.quantize(64).save(path, optimize=True)
    with Image.open(path) as stored:
        assert distance(now, stored.convert("RGB")) < PAGE_TOLERANCE, f"compare {tmp_path / 'page.png'} with {path}"
