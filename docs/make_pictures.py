"""Make the pictures of the README: ``python docs/make_pictures.py``, with the extra "browser" and a Chromium.

``neuron.svg`` is a computation graph with its gradients; ``backpropagation.gif`` is the explorer's page, filmed
while it plays both passes and a leaf is dragged; ``training.gif`` is the page of ``watch`` while it plays a training;
``kernel.svg`` is what the compiler found in a network. The SVGs are there for light and for dark pages, since an image
cannot know its page.
"""

import os
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

import microgrid as mg
from microgrid import data, losses, optim
from microgrid.compiler import Kernel, compile
from microgrid.drawing import draw
from microgrid.drawing.explorer import explore
from microgrid.drawing.replay import Watcher, watch
from microgrid.nn import MLP
from microgrid.theme import LIGHT

FOLDER = Path(__file__).parent
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
SIZE = {"width": 1040, "height": 520}
TALL = {"width": 1040, "height": 630}
COLORS = 96  # of the film: enough for letters and tints, and half the bytes of 256
SWATCH = 20  # the height of each theme colour, where the palette is chosen
STEP, READ, DRAG, EPOCH = 1300, 2600, 130, 220  # how long a picture stands, in milliseconds


def neuron() -> mg.Value:
    """Two inputs, two weights, a bias and tanh: the neuron of chapter 3, with the numbers of micrograd's README."""
    x1, x2, w1, w2, b = (
        mg.Value(x, label=name)
        for name, x in {"x₁": 2.0, "x₂": 0.0, "w₁": -3.0, "w₂": 1.0, "b": 6.8813735870195432}.items()
    )
    n = x1 * w1 + x2 * w2 + b
    n.label = "n"
    y = mg.tanh(n)
    y.label = "y"
    y.backward()
    return y


def price() -> mg.Value:
    """Two apples at 100 each, and 10 % tax: the shopping of chapter 5."""
    apple, apples, tax = mg.Value(100, "apple"), mg.Value(2, "apples"), mg.Value(1.1, "tax")
    cost = apple * apples
    cost.label = "cost"
    total = cost * tax
    total.label = "price"
    return total


def kernel() -> Kernel:
    """The loss of chapter 5.7's network for MNIST, softmax and cross-entropy with a one-hot target, compiled."""
    model = MLP(784, [50, 10], init="he", seed=0)

    def loss(x: Any, t: Any) -> Any:
        scores = model(x)
        return mg.logsumexp(scores) - mg.dot(t, scores)

    found: Kernel = compile(loss).kernel([[0.0] * 784], [[0.0] * 10])
    return found


def training() -> Watcher:
    """A network that learns two moons."""
    X, y = data.moons(80, noise=0.1, seed=1)
    model = MLP(2, [7, 1], init="he", seed=3)
    watcher = watch(model, X, 2 * y - 1, title="A network learns two moons", theme="light")
    optimizer = optim.Adam(model.parameters(), 0.05)
    mg.fit(
        model,
        X,
        2 * y - 1,
        loss=losses.hinge,
        optimizer=optimizer,
        epochs=60,
        batch_size=10,
        after_epoch=watcher,
        quiet=True,
    )
    return watcher


def film_training(page: Page) -> list[tuple[Image.Image, int]]:
    """Play the training, its first epochs one by one; then point at two neurons."""
    frames: list[tuple[Image.Image, int]] = []

    def take(duration: int) -> None:
        page.wait_for_timeout(60)
        frames.append((Image.open(BytesIO(page.screenshot())).convert("RGB"), duration))

    take(STEP)
    for epoch in [*range(1, 10), *range(10, 20, 2), *range(20, 60, 4), page.evaluate("lastFrame")]:
        page.evaluate(f"goTo({epoch})")
        take(EPOCH)
    take(STEP)
    for neuron in (3, 7):
        page.hover(f".neuron.mapped >> nth={neuron}")
        take(STEP)
    page.mouse.move(0, 0)
    take(READ)
    return frames


def film(page: Page) -> list[tuple[Image.Image, int]]:
    """Play all steps, then drag a leaf; return each picture and how long it stands."""
    frames: list[tuple[Image.Image, int]] = []

    def take(duration: int) -> None:
        frames.append((Image.open(BytesIO(page.screenshot())).convert("RGB"), duration))

    take(STEP)
    for _ in range(page.evaluate("lastStep")):
        page.click("#forward", force=True)
        page.mouse.move(0, 0)
        page.wait_for_timeout(100)
        take(READ if page.evaluate("steps[now].phase === 'backward'") else STEP)
    box = page.locator("#nodes .node", has_text="apples").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 3
    page.mouse.move(x, y)
    page.mouse.down()
    for distance in range(10, 101, 10):
        page.mouse.move(x + distance, y)
        page.wait_for_timeout(50)
        take(DRAG)
    page.mouse.up()
    take(READ)
    return frames


def save_film(frames: list[tuple[Image.Image, int]], path: Path) -> None:
    """Write a GIF whose pictures share one palette, so that only what changes is stored."""
    width, height = frames[0][0].size
    stack = Image.new("RGB", (width, height * len(frames) + SWATCH * len(LIGHT)))
    for i, (frame, _) in enumerate(frames):
        stack.paste(frame, (0, i * height))
    for i, color in enumerate(LIGHT.values()):  # so that small marks keep their colours
        y = height * len(frames) + SWATCH * i
        stack.paste(color, (0, y, width, y + SWATCH))
    palette = stack.quantize(COLORS, method=Image.Quantize.MEDIANCUT)
    pictures = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame, _ in frames]
    durations = [duration for _, duration in frames]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True)


def main() -> None:
    """Write the pictures next to this script."""
    for theme, suffix in (("light", ""), ("dark", "-dark")):
        draw(neuron(), theme=theme).save(FOLDER / f"neuron{suffix}.svg")
        title = "784-50-10, softmax and cross-entropy"
        draw(kernel(), title=title, theme=theme).save(FOLDER / f"kernel{suffix}.svg")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport=SIZE, reduced_motion="reduce")  # type: ignore[arg-type]
        page.goto(explore(price(), theme="light").save(Path(folder) / "page.html").as_uri())
        save_film(film(page), FOLDER / "backpropagation.gif")
        page.set_viewport_size(TALL)  # type: ignore[arg-type]
        page.goto(training().save(Path(folder) / "training.html").as_uri())
        save_film(film_training(page), FOLDER / "training.gif")
        browser.close()


if __name__ == "__main__":
    main()
