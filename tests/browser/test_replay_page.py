"""The page of a recorded training in a real browser: every control, every picture, every number against Python."""

import math
import random
import re

import pytest
from playwright.sync_api import expect
from tools import changes, smallest_text
from waiting import wait_until

import microgrid as mg
from microgrid import losses
from microgrid.data import moons, spirals
from microgrid.drawing.replay import watch
from microgrid.nn import MLP, Affine, Module, Neuron, ReLU, Sequential, Tanh
from microgrid.theme import DARK, LIGHT

X, Y = moons(40, seed=1)
EPOCHS = 8


@pytest.fixture(scope="module")
def training():
    """A network on two moons, its watcher, and its parameters after each epoch."""
    model = MLP(2, [6, 1], seed=3)
    watcher = watch(model, X, 2 * Y - 1, title="Two moons")
    states = [model.state_dict()]

    def after_epoch(history):
        watcher(history)
        states.append(model.state_dict())

    optimizer = mg.optim.Adam(model.parameters(), 0.05)
    mg.fit(
        model,
        X,
        2 * Y - 1,
        loss=losses.hinge,
        optimizer=optimizer,
        epochs=EPOCHS,
        batch_size=10,
        validation=(X[:10], 2 * Y[:10] - 1),
        after_epoch=after_epoch,
        quiet=True,
    )
    return model, watcher, states


@pytest.fixture
def page(show, training):
    return show(training[1])


def recorded(model, steps=3, X=None, y=None, **options):
    watcher = watch(model, X, y, **options)
    generator = random.Random(0)
    for step in range(steps):
        for parameter in model.parameters():
            parameter.data += generator.uniform(-0.5, 0.5)
        watcher.record(loss=1.0 / (step + 1))
    return watcher


def picture_of(page, canvas):
    """The pixels of a canvas as one text."""
    return page.evaluate(f"document.querySelector('{canvas}').toDataURL()")


# ---------------------------------------------------------------------------------------------------
# Controls

CONTROLS = [
    ("#forward", "ArrowRight", 3, 4),
    ("#back", "ArrowLeft", 3, 2),
    ("#first", "Home", 3, 0),
    ("#last", "End", 3, EPOCHS),
]


@pytest.mark.parametrize(("button", "key", "start", "end"), CONTROLS)
def test_each_control_works_by_mouse_by_key_and_by_focus_and_enter(page, button, key, start, end):
    for act in (
        lambda: page.click(button),
        lambda: page.keyboard.press(key),
        lambda: (page.focus(button), page.keyboard.press("Enter")),
    ):
        page.evaluate(f"goTo({start}); document.activeElement.blur()")
        act()
        assert page.evaluate("now") == end
        expect(page.locator("#now strong")).to_have_text(f"Epoch {end} of {EPOCHS}" if end else "Untrained")


def test_play_runs_to_the_end_pauses_and_starts_again(page):
    page.select_option("#speed", "20")
    page.click("#play")
    expect(page.locator("#play")).to_have_attribute("aria-label", "Pause")
    expect(page.locator("#now")).to_have_attribute("aria-live", "off")
    wait_until(page, f"now === {EPOCHS}")
    expect(page.locator("#play")).to_have_attribute("aria-label", "Play")
    expect(page.locator("#now")).to_have_attribute("aria-live", "polite")
    page.select_option("#speed", "2")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Space")
    wait_until(page, "now >= 1 && isPlaying()")
    page.keyboard.press("Space")
    stopped = page.evaluate("now")
    page.wait_for_timeout(500)
    assert page.evaluate("now") == stopped < EPOCHS


def test_slider_changes_boundary_neurons_weights_and_curve(page):
    def state():
        return {
            "boundary": picture_of(page, "#field"),
            "neuron": picture_of(page, ".neuron:nth-of-type(4) canvas"),
            "weights": page.eval_on_selector_all(".weight", "lines => lines.map(l => l.getAttribute('stroke-width'))"),
            "verdict": page.locator("#verdict").inner_text(),
            "marker": page.locator(".marker").first.get_attribute("d"),
            "past": page.locator("clipPath rect").first.get_attribute("width"),
            "loss": page.locator(".chart b").first.inner_text(),
        }

    before = state()
    box = page.locator("#slider").bounding_box()
    page.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    assert page.evaluate("now") == EPOCHS
    after = state()
    assert {name for name in before if before[name] != after[name]} == set(before)
    page.focus("#slider")
    page.keyboard.press("Home")
    assert state() == before


def test_slider_is_read_aloud(page, training):
    page.evaluate("goTo(2)")
    text = page.locator("#slider").get_attribute("aria-valuetext")
    assert text.startswith(f"Step 2 of {EPOCHS}: epoch 2 of {EPOCHS}, loss 0.")
    assert "validation accuracy" in text
    page.evaluate("goTo(0)")
    expect(page.locator("#slider")).to_have_attribute("aria-valuetext", f"Step 0 of {EPOCHS}: untrained")


def test_a_mean_during_an_epoch_and_a_measurement_after_it_are_distinguished(show):
    model = MLP(2, [8, 2], seed=0)
    watcher = watch(model, X, Y)
    optimizer = mg.optim.Adam(model.parameters(), 0.02)
    mg.fit(model, X, Y, optimizer=optimizer, epochs=3, after_epoch=watcher, quiet=True)
    page = show(watcher)
    page.evaluate("goTo(2)")
    expect(page.locator(".chart h2")).to_have_text([re.compile(r"^(loss|accuracy)mean during the epoch \d")] * 2)
    expect(page.locator("#verdict")).to_contain_text("of 40 points right after epoch 2")
    page.evaluate("goTo(0)")
    expect(page.locator("#verdict")).to_contain_text("of 40 points right;")


def test_curve_is_clicked_and_dragged_to_a_moment(page):
    box = page.locator(".chart svg").first.bounding_box()

    def x(epoch):
        return box["x"] + box["width"] * (42 + 304 * epoch / EPOCHS) / 354

    y = box["y"] + box["height"] / 2
    page.mouse.click(x(5), y)
    assert page.evaluate("now") == 5
    page.mouse.move(x(5), y)
    page.mouse.down()
    page.mouse.move(x(2.2), y, steps=4)
    page.mouse.up()
    assert page.evaluate("now") == 2


def test_neurons_are_shown_on_the_plane_by_mouse_and_by_keyboard(page):
    page.evaluate("goTo(lastFrame)")
    whole = picture_of(page, "#field")
    page.hover(".neuron.mapped >> nth=3")
    expect(page.locator("#boundary-title")).to_have_text("What Layer 0 · Neuron 1 says")
    hovered = picture_of(page, "#field")
    assert hovered != whole
    page.mouse.move(2, 2)
    assert picture_of(page, "#field") == whole
    page.focus(".neuron[tabindex='0']")
    expect(page.locator("#boundary-title")).to_have_text("What input x₁ says")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    assert picture_of(page, "#field") == hovered
    assert page.locator(".neuron[tabindex='0']").count() == 1
    page.keyboard.press("ArrowUp")
    expect(page.locator("#boundary-title")).to_have_text("What Layer 0 · Neuron 0 says")
    page.keyboard.press("Escape")
    expect(page.locator("#boundary-title")).to_have_text("What the model says, all over the plane")


def test_whole_page_can_be_reached_by_tab_and_shows_where_the_focus_is(page):
    page.evaluate("goTo(2)")
    seen = {}
    for _ in range(12):
        page.keyboard.press("Tab")
        name, ring = page.evaluate(
            """[document.activeElement.id || document.activeElement.className,
                parseFloat(getComputedStyle(document.activeElement).outlineWidth)]"""
        )
        seen[name.split()[0] if name else ""] = ring
    assert {"first", "back", "play", "forward", "last", "slider", "speed", "neuron"} <= set(seen)
    assert all(ring >= 2 for name, ring in seen.items() if name), seen


def circles(training):
    return recorded(MLP(3, [4, 1], seed=0))


def squares(training):
    return recorded(Affine(16, 3, seed=0), 3, [[0.1 * k for k in range(16)]] * 3, [0, 1, 2])


PAGES = {"plane": lambda training: training[1], "circles": circles, "squares": squares}


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (836, "dark"), (390, "light")])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_on_the_page_is_a_serious_barrier(browser, tmp_path, barriers, training, name, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce")
    page.goto(PAGES[name](training).save(tmp_path / "page.html").as_uri())
    for moment in (0, "lastFrame"):
        page.evaluate(f"goTo({moment})")
        assert barriers(page) == [], moment
    page.close()


@pytest.mark.parametrize("name", PAGES)
def test_no_text_on_a_laptop_is_smaller_than_ten_pixels(show, training, name):
    page = show(PAGES[name](training))
    page.set_viewport_size({"width": 1280, "height": 800})
    assert smallest_text(page)[0] >= 10, smallest_text(page)


def test_controls_and_pictures_have_names_for_screen_readers(page):
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, input, select, [role=img], [role=region]")].filter(
             e => !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length)).length"""
    )
    assert nameless == 0
    assert "points right" in page.locator("#plane").get_attribute("aria-label")
    assert "Layer 0: 6" in page.locator("#network svg").get_attribute("aria-label")
    assert page.locator(".chart svg").first.get_attribute("aria-label").startswith("loss over time. Now: training")


# ---------------------------------------------------------------------------------------------------
# The numbers


@pytest.mark.parametrize("epoch", [0, 3, EPOCHS])
def test_the_boundary_is_the_models_of_that_epoch(page, training, epoch):
    model, _, states = training
    last = model.state_dict()
    page.evaluate(f"goTo({epoch})")
    places = [7, 500, 1111, 2000]
    found = page.evaluate(
        "places => places.map(i => [plane.places[0][i], plane.places[1][i], fieldOf(boundary.outputs[0])[i]])",
        places,
    )
    right = page.evaluate("plane.marks.map(mark => !mark.classList.contains('wrong'))")
    model.load_state_dict(states[epoch])
    with mg.no_grad():
        for x, y, output in found:
            assert output == pytest.approx(model([x, y]).data, rel=1e-4, abs=1e-5)
        expected = [(model(x.tolist()).data > 0) == (y > 0) for x, y in zip(X, Y, strict=True)]
    model.load_state_dict(last)
    assert right == expected
    assert f"{sum(expected)} of {len(X)} points right" in page.locator("#verdict").inner_text()


def test_each_neurons_square_is_what_the_neuron_gives(page, training):
    model = training[0]
    page.evaluate("goTo(lastFrame)")
    x, y, *found = page.evaluate(
        "[plane.places[0][77], plane.places[1][77], ...boundary.neurons[0].map(node => plane.fields.get(node)[77])]"
    )
    assert found == pytest.approx([neuron([x, y]).data for neuron in model.layers[0].neurons], rel=1e-4, abs=1e-5)


def test_lines_have_the_width_of_the_weight_and_the_colour_of_its_sign(page, training):
    model = training[0]
    page.evaluate("goTo(lastFrame)")
    lines = page.eval_on_selector_all(
        ".weight", "lines => lines.map(l => [l.getAttribute('class'), Number(l.getAttribute('stroke-width'))])"
    )
    weights = [w.data for layer in model.layers for neuron in layer.neurons for w in neuron.w]
    assert len(lines) == len(weights)
    for (kind, _), weight in zip(lines, weights, strict=True):
        assert ("negative" if weight < 0 else "positive") in kind
    order = sorted(range(len(weights)), key=lambda i: abs(weights[i]))
    widths = [lines[i][1] for i in order]
    assert widths == sorted(widths)
    assert widths[-1] > 2 * widths[0]
    page.locator(".weight").first.dispatch_event("pointerenter")
    title = page.locator(".weight title").first.text_content()
    assert title.startswith("Layer 0 · Neuron 0: weight 0 = ")
    assert float(title.split()[-1].replace("−", "-")) == pytest.approx(weights[0], rel=1e-3)


LINE = [[-1 + i / 10] for i in range(21)]


def curve(page, selector=".answer"):
    """The points of a curve on the page, in the picture's units of 0 to 320 each way."""
    d = page.locator(f"#points {selector}").first.get_attribute("d")
    return [[float(x) for x in pair.split()] for pair in d[1:].split("L")]


@pytest.fixture
def line(show):
    """A network on a sine, in one variable."""
    model = Sequential(Affine(1, 4, seed=0), Tanh(), Affine(4, 1, seed=1))
    return model, show(recorded(model, X=LINE, y=[math.sin(3 * x) for [x] in LINE]))


def test_model_of_one_input_is_a_curve_through_the_points_with_its_history(line):
    model, page = line
    page.evaluate("goTo(lastFrame)")
    [left, right], [low, high] = page.evaluate("boundary.range")
    found = curve(page)
    for across, down in found[::20]:
        x = left + across * (right - left) / 320
        assert high - down * (high - low) / 320 == pytest.approx(model([x]).data, abs=0.02)
    [first, *_] = page.eval_on_selector_all(
        ".point", "ps => ps.map(p => [+p.getAttribute('cx'), +p.getAttribute('cy')])"
    )
    assert first == pytest.approx([320 * (-1 - left) / (right - left), 320 * (high - math.sin(-3)) / (high - low)])
    assert page.locator(".past path").count() == 3, "the untrained model's and those of the moments since"
    assert curve(page, ".past path") != found
    page.evaluate("goTo(0)")
    assert page.locator(".past path").count() == 0
    assert "Off by" in page.locator("#verdict").inner_text()


def test_a_curve_ends_at_the_edge_of_its_picture(line):
    _, page = line
    page.evaluate("curves.lines[0].setAttribute('d', 'M-60 -60L400 400')")
    box = page.locator("#plane").bounding_box()
    hit = "([x, y]) => document.elementFromPoint(x, y).getAttribute('class')"
    outside, inside = ([box["x"] + d * box["width"] / 320, box["y"] + d * box["width"] / 320] for d in (-9, 9))
    assert page.evaluate(hit, inside) == "answer"
    assert page.evaluate(hit, outside) != "answer"


def test_neurons_of_one_input_are_curves_with_their_activation(line):
    model, page = line
    page.evaluate("goTo(lastFrame)")
    assert page.locator(".neuron.mapped").count() == 1 + 4 + 1
    x, *found = page.evaluate("[plane.places[0][30], ...boundary.neurons[0].map(node => fieldOf(node)[30])]")
    assert found == pytest.approx([math.tanh(neuron([x]).data) for neuron in model.modules[0].neurons], abs=1e-5)
    before = curve(page)
    page.hover(".neuron.mapped >> nth=2")
    expect(page.locator("#boundary-title")).to_have_text("What Affine 0 · Neuron 1 says")
    assert curve(page) != before
    expect(page.locator(".point").first).to_be_hidden()


def test_circles_have_their_number_in_the_middle_and_the_legend_says_what_fills_them(show):
    page = show(recorded(MLP(3, [4, 1]), X=[[0, 1, 2]], y=[1]))
    expect(page.locator("#legend")).to_contain_text("circle: the neuron's bias")
    off = page.eval_on_selector_all(
        ".neuron.round",
        """circles => circles.map(circle => {
             const range = document.createRange();
             range.selectNodeContents(circle);
             const [text, box] = [range, circle].map(part => part.getBoundingClientRect());
             const off = (at, size) => text[at] - box[at] + (text[size] - box[size]) / 2;
             return Math.hypot(off("x", "width"), off("y", "height"));
           })""",
    )
    assert len(off) == 8
    assert max(off) < 2


def test_without_colours_the_sign_of_a_field_is_seen_by_its_hatching(page):
    shades_of_grey = """sign => {
        const bytes = new Uint8Array(shadesOf(new Array(400).fill(sign * 0.5), 20, 1, 6).buffer);
        return new Set(Array.from({ length: 400 }, (_, i) => bytes[4 * i] + bytes[4 * i + 1] + bytes[4 * i + 2])).size;
      }"""
    assert page.evaluate(shades_of_grey, 1) == 1
    assert page.evaluate(shades_of_grey, -1) == 2


def test_without_colours_the_regions_of_two_classes_are_distinguished(show):
    model = MLP(2, [2], seed=0)
    page = show(recorded(model, X=X, y=Y))
    hatched = page.evaluate(
        """() => {
          const winners = [0, 0], counts = [0, 0];
          const fine = plane.ground.outputs.map(node => refine(fieldOf(node)));
          const { data } = byId("field").getContext("2d").getImageData(0, 0, FIELD, FIELD);
          const plain = colors.classes.map(color => mix(color, 0.28));
          for (let i = 0; i < fine[0].length; i++) {
            const k = winner(fine, i);
            winners[k]++;
            counts[k] += data[4 * i] < plain[k][0] - 10;
          }
          return counts.map((count, k) => count / winners[k]);
        }"""
    )
    assert hatched[0] > 0.08
    assert hatched[1] < 0.05, "but the line between them"


def test_training_is_drawn_in_the_middle_of_its_epoch_and_validation_at_its_end(page):
    page.evaluate("goTo(4)")
    training, validation = (float(page.locator(".dot").nth(k).get_attribute("cx")) for k in (0, 1))
    assert validation - training == pytest.approx(304 / EPOCHS / 2)
    expect(page.locator("#charts .note")).to_contain_text("the mean over an epoch")


def test_loss_has_a_logarithmic_scale_by_mouse_and_keyboard(show):
    watcher = watch(MLP(2, [1]))
    for loss in (1.0, 0.1, 0.01, 0.001):
        watcher.record(loss=loss, accuracy=1 - loss)
    page = show(watcher)

    def heights(chart):
        d = page.locator(".chart").nth(chart).locator(".curve.ahead").get_attribute("d")
        return [float(pair.split()[1]) for pair in d[1:].split("L")]

    linear, accuracy = heights(0), heights(1)
    page.check("#log")
    first, second, third, fourth = heights(0)
    assert second - first == pytest.approx(third - second, abs=0.2) == pytest.approx(fourth - third, abs=0.2)
    assert heights(1) == accuracy
    expect(page.locator(".chart h2").first).to_contain_text("log scale")
    page.focus("#log")
    page.keyboard.press("Space")
    assert heights(0) == linear


def test_boundary_of_several_classes_has_a_region_and_a_shape_for_each(show):
    points, classes = spirals(30, seed=2)
    model = Sequential(Affine(2, 8, seed=0), Tanh(), Affine(8, 3, seed=1))
    page = show(recorded(model, X=points, y=classes))
    page.evaluate("goTo(lastFrame)")
    with mg.no_grad():
        outputs = [model(x.tolist()) for x in points]
    right = sum(max(range(3), key=lambda k: y[k].data) == c for y, c in zip(outputs, classes, strict=True))
    assert f"{right} of 30 points right" in page.locator("#verdict").inner_text()
    assert len(set(page.eval_on_selector_all(".point", "marks => marks.map(mark => mark.getAttribute('fill'))"))) == 3
    assert page.locator("circle.point").count() == 10
    assert page.locator("#network .neuron").count() == 2 + 8 + 3


def test_targets_that_are_numbers_colour_the_points(show):
    model = Neuron(2, nonlin=False, seed=0)
    page = show(recorded(model, X=[[0, 0], [0, 1], [1, 0], [1, 1]], y=[0, 5, -5, 10]))
    page.evaluate("goTo(lastFrame)")
    squares = [(model(x).data - y) ** 2 for x, y in [([0, 0], 0), ([0, 1], 5), ([1, 0], -5), ([1, 1], 10)]]
    words = page.locator("#verdict").inner_text()
    assert float(words.split()[2]) == pytest.approx(math.sqrt(sum(squares) / 4), rel=1e-3)
    assert len(set(page.eval_on_selector_all(".point", "marks => marks.map(mark => mark.getAttribute('fill'))"))) == 4


def test_points_without_targets_are_points(show):
    page = show(recorded(Neuron(2), X=[[0, 0], [0, 1]]))
    expect(page.locator("#verdict")).to_have_text("2 points")


class Branching(Module):
    """Not one graph: it depends on the numbers which one it is."""

    def __init__(self):
        self.w = mg.Value(1.0)

    def forward(self, x):
        a, b = x
        return self.w * a if getattr(a, "data", a) > 0.5 else b - self.w * 3


class Wrong(Branching):
    def forward(self, x):
        return mg.Op("wrong", lambda x: x * x, (lambda y, x: 2 * x,), javascript="({0} * 3)")(self.w * x[0])


class Broken(Branching):
    def forward(self, x):
        return mg.Op("broken", lambda x: x * x, (lambda y, x: 2 * x,), javascript="({0} * * {0})")(self.w * x[0])


class Secret(Branching):
    def forward(self, x):
        return mg.Op("secret", lambda x: x * x, (lambda y, x: 2 * x,))(self.w * x[0])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Branching, "where Python finds"),
        (Wrong, "where Python finds"),
        (Broken, "JavaScript fails"),
        (Secret, "secret has no JavaScript expression"),
    ],
)
def test_a_boundary_that_would_be_wrong_is_not_shown_and_the_page_says_why(opened, tmp_path, make, reason):
    page = opened.open(recorded(make(), X=[[0.25, 1.0], [1.0, 0.5]], y=[0, 1]), tmp_path / "page.html")
    page.click("#last")
    expect(page.locator("#verdict")).to_contain_text("cannot be shown: ")
    assert reason in page.locator("#verdict").inner_text()
    expect(page.locator("#plane")).to_be_hidden()
    assert page.locator(".chart").count() == 1, "the rest of the page works"
    opened.errors = [error for error in opened.errors if make is not Broken or "Unexpected" not in error]


def test_statistics_of_any_model_are_pythons(show):
    model = Branching()
    model.more = [mg.Value(float(i * i)) for i in range(5)]
    start = [p.data for p in model.more]
    page = show(recorded(model))
    page.evaluate("goTo(lastFrame)")
    row = [float(text.replace("−", "-")) for text in page.locator("tbody tr").nth(1).locator("td").all_text_contents()]
    numbers = [p.data for p in model.more]
    mean = sum(numbers) / 5
    expected = [
        5,
        mean,
        math.sqrt(sum((x - mean) ** 2 for x in numbers) / 5),
        min(numbers),
        max(numbers),
        math.sqrt(sum((x - y) ** 2 for x, y in zip(numbers, start, strict=True)) / 5),
    ]
    assert row == pytest.approx(expected, rel=1e-2)
    before = page.locator("tbody").inner_text()
    page.click("#first")
    assert page.locator("tbody").inner_text() != before


def test_weights_of_a_square_of_inputs_are_images_that_change(show):
    model = Sequential(Affine(64, 12, seed=0), ReLU(), Affine(12, 10, seed=1))
    page = show(recorded(model))
    assert page.locator("#images canvas").count() == 12
    assert page.evaluate("imageRoom.canvases.map(c => [c.width, c.height])") == [[96, 96]] * 12
    before = picture_of(page, "#images canvas")
    page.click("#last")
    assert picture_of(page, "#images canvas") != before
    red_less_blue = page.evaluate(
        """Array.from({ length: 64 }, (_, i) => {
          const middle = [12 * (i % 8) + 5, 12 * Math.floor(i / 8) + 4];
          const [red, , blue] = imageRoom.canvases[0].getContext("2d").getImageData(...middle, 1, 1).data;
          return red - blue;
        })"""
    )
    for difference, weight in zip(red_less_blue, model.modules[0].neurons[0].w, strict=True):
        assert abs(weight.data) < 0.05 or (difference > 0) == (weight.data < 0), "orange is negative"


IMAGES = [[((i * 7 + k * 3) % 11) / 10 for k in range(16)] for i in range(12)]


@pytest.fixture
def pictured(show):
    """A network on images of 4 × 4."""
    model = Sequential(Affine(16, 6, seed=0), Tanh(), Affine(6, 3, seed=1))
    return model, show(recorded(model, X=IMAGES, y=[i % 3 for i in range(12)]))


def pixel_slopes(model, image, k):
    xs = [mg.Value(x) for x in image]
    model(xs)[k].backward()
    return [x.grad for x in xs]


def test_a_sample_that_is_an_image_has_its_scores_and_the_gradient_at_each_pixel(pictured):
    model, page = pictured
    page.evaluate("goTo(lastFrame)")
    page.fill("#image-number", "4")
    scores = [y.data for y in model(IMAGES[4])]
    shown = page.locator(".bar .number").all_text_contents()
    assert [float(text.replace("−", "-")) for text in shown] == pytest.approx(scores, rel=6e-3)
    expect(page.locator(".bar.target b")).to_have_text("1")
    slopes = "viewed.model.gradients[viewed.model.inputs[{0}]][0]"
    read = f"[{', '.join(slopes.format(k) for k in range(16))}]"
    assert page.evaluate(read) == pytest.approx(pixel_slopes(model, IMAGES[4], 1), rel=1e-3, abs=1e-5), "of the target"
    page.click(".bar >> nth=2")
    expect(page.locator("#slopes-caption")).to_have_text("∂ score of 2/∂ pixel")
    assert page.evaluate(read) == pytest.approx(pixel_slopes(model, IMAGES[4], 2), rel=1e-3, abs=1e-5)
    said = scores.index(max(scores))
    expect(page.locator("#image-words")).to_contain_text(f"It says {said}, by softmax")


def test_wrong_samples_are_found_by_keyboard_and_follow_the_moment(pictured):
    model, page = pictured
    page.evaluate("goTo(lastFrame)")
    answers = [[y.data for y in model(image)] for image in IMAGES]
    wrong = [i for i, scores in enumerate(answers) if scores.index(max(scores)) != i % 3]
    assert wrong
    page.focus("#next-wrong")
    for i in [*[i for i in wrong if i > 0], wrong[0]]:
        page.keyboard.press("Enter")
        expect(page.locator("#image-number")).to_have_value(str(i))
        expect(page.locator("#image-words")).to_contain_text("which is wrong")
    expect(page.locator("#image-words")).to_contain_text(f"{12 - len(wrong)} of 12 right")
    before = page.locator(".bar .number").all_text_contents()
    page.click("#first")
    assert page.locator(".bar .number").all_text_contents() != before


def test_an_image_with_one_answer_has_one_bar(show):
    page = show(recorded(MLP(16, [1]), X=IMAGES, y=[i / 2 for i in range(12)]))
    page.fill("#image-number", "3")
    expect(page.locator("#image-words")).to_contain_text("and the target is 1.5")
    assert page.locator(".bar").count() == 1


def test_a_wide_network_shows_its_first_and_last_neurons(show):
    page = show(recorded(MLP(3, [40, 2])))
    assert page.locator(".neuron").count() == 3 + 16 + 2
    expect(page.locator("#network text", has_text="24 more")).to_be_visible()
    expect(page.locator("#network text", has_text="40 neurons")).to_be_visible()
    assert page.locator("#boundary").is_hidden()


def test_measures_that_are_not_finite_leave_gaps(show):
    model = MLP(2, [1])
    watcher = watch(model)
    for x in (3.0, math.nan, math.inf, 1.0, 2.0):
        watcher.record(loss=x)
    page = show(watcher)
    assert page.locator(".curve.ahead").get_attribute("d").count("M") == 2
    page.evaluate("goTo(3)")
    expect(page.locator(".chart b")).to_have_text("inf")
    expect(page.locator(".dot")).to_be_hidden()
    page.evaluate("goTo(4)")
    expect(page.locator(".chart b")).to_have_text("1")


def test_a_record_without_measures_is_a_page_too(show):
    watcher = watch(MLP(2, [1]))
    watcher.record()
    page = show(watcher)
    page.click("#forward")
    expect(page.locator("#now strong")).to_have_text("Step 1 of 1")
    assert page.locator(".chart").count() == 0


# ---------------------------------------------------------------------------------------------------
# Safety

NASTY = [
    "</script><script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    "{{data}} {y}",
    "경사 <b>",
]


def test_names_and_titles_that_inject_markup_are_only_text(opened, tmp_path):
    model = Branching()
    model.parts = {name: mg.Value(1.0) for name in NASTY}
    watcher = watch(model, title=NASTY[1] + NASTY[0])
    watcher.record(**dict.fromkeys(NASTY, 1.0))
    page = opened.open(watcher, tmp_path / "page.html")
    scripts = page.evaluate("document.scripts.length")
    page.click("#last")
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.scripts.length") == scripts
    assert page.locator("img, b b").count() == 0
    expect(page.locator("h1")).to_contain_text(NASTY[1])
    assert [f"parts.{name}" in page.locator("tbody").inner_text() for name in NASTY] == [True] * 4
    assert NASTY[0] in page.locator("#charts").inner_text()


def test_no_request_leaves_the_page_and_none_could(opened, tmp_path, training):
    page = opened.open(training[1], tmp_path / "page.html")
    page.evaluate("goTo(lastFrame)")
    assert opened.holds_back_every_request()


# ---------------------------------------------------------------------------------------------------
# Sizes, colours, motion


@pytest.mark.parametrize(
    ("theme", "viewer", "paper"),
    [("auto", "light", LIGHT), ("auto", "dark", DARK), ("dark", "light", DARK), ("light", "dark", LIGHT)],
)
def test_theme_follows_the_viewer_or_the_choice(browser, tmp_path, theme, viewer, paper):
    page = browser.new_page(color_scheme=viewer)
    page.goto(recorded(Neuron(2), X=[[0, 0]], y=[1], theme=theme).save(tmp_path / "page.html").as_uri())
    expected = [int(paper["paper"][k : k + 2], 16) for k in (1, 3, 5)]
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == f"rgb({', '.join(map(str, expected))})"
    assert page.evaluate("colors.paper") == expected
    page.close()


def test_pictures_follow_a_viewer_who_changes_to_dark(browser, tmp_path, training):
    page = browser.new_page(color_scheme="light")
    page.goto(training[1].save(tmp_path / "page.html").as_uri())
    before = picture_of(page, "#field")
    page.emulate_media(color_scheme="dark")
    wait_until(page, f"colors.paper[0] === {int(DARK['paper'][1:3], 16)}")
    assert picture_of(page, "#field") != before
    page.close()


def test_phone_shows_all_without_sideways_scrolling(browser, tmp_path, training):
    page = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.goto(training[1].save(tmp_path / "page.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for name in ("first", "back", "play", "forward", "last"):
        box = page.locator(f"#{name}").bounding_box()
        assert min(box["width"], box["height"]) >= 40
    page.tap("#forward")
    assert page.evaluate("now") == 1
    plane, chart, network = (page.locator(name).first.bounding_box() for name in ("#plane", ".chart", "#network"))
    assert plane["y"] + plane["height"] <= chart["y"] < network["y"]
    assert chart["y"] + chart["height"] < 844, "boundary and curve are on the first screen"
    page.close()


def test_nothing_moves_by_itself(page):
    page.evaluate("goTo(3)")
    assert page.evaluate("document.getAnimations().length") == 0, "also with reduced motion"


def test_a_moment_of_a_usual_network_is_painted_with_a_few_changes_for_each_of_its_parts(show):
    model = MLP(2, [16, 16, 1], seed=0)
    page = show(recorded(model, X=X, y=Y))
    assert changes(page, "showFrame()") < 4 * len(model.parameters())


def test_network_is_laid_out_anew_when_the_window_changes(page):
    page.set_viewport_size({"width": 800, "height": 680})
    wait_until(page, "byId('network').clientWidth < 460")
    page.wait_for_timeout(100)
    room = page.locator("#network").bounding_box()
    for i in range(page.locator(".neuron").count()):
        box = page.locator(".neuron").nth(i).bounding_box()
        assert room["x"] <= box["x"]
        assert box["x"] + box["width"] <= room["x"] + room["width"]


def test_it_plays_in_a_notebooks_frame_with_the_still_picture_hidden(opened, tmp_path, training):
    path = tmp_path / "notebook.html"
    path.write_text(f"<!DOCTYPE html><meta charset=utf-8><body>{training[1]._repr_html_()}", encoding="utf-8")
    opened.page.goto(path.as_uri())
    frame = opened.page.frame_locator("iframe")
    frame.locator("#last").click()
    expect(frame.locator("#now strong")).to_have_text(f"Epoch {EPOCHS} of {EPOCHS}")
    expect(opened.page.locator(".microgrid-still")).to_be_hidden()
    opened.page.evaluate("document.querySelectorAll('style, iframe').forEach(part => part.remove())")
    expect(opened.page.locator(".microgrid-still img")).to_be_visible()
    assert opened.page.evaluate("document.querySelector('img').naturalWidth") == 640


@pytest.mark.parametrize(
    ("fields", "is_drawn"),
    [
        (["x"], True),
        (["Math.max(x, 0)"], False),
        (["Math.abs(x) + 0.001"], False),
        (["x", "0"], True),
        (["Math.abs(x) + 0.001", "0"], False),
        (["0", "-Math.abs(x)"], False),
    ],
)
def test_a_line_is_drawn_only_where_the_answer_changes(page, fields, is_drawn):
    columns = "[" + ", ".join(f"Float64Array.from({{ length: 1600 }}, (_, i) => f{k}(i % 40 - 19.7))" for k in range(2))
    functions = "".join(f"const f{k} = (x) => {field};" for k, field in enumerate([*fields, "0"][:2]))
    inked = page.evaluate(
        f"(() => {{ {functions} const pixels = new Uint32Array(1600).fill(0xffffffff);"
        f"drawEdge({columns}].slice(0, {len(fields)}), pixels, 40, 1.6);"
        "return [...pixels.keys()].filter((i) => pixels[i] !== 0xffffffff).map((i) => i % 40); })()"
    )
    assert set(inked) <= {18, 19, 20, 21}
    assert (len(inked) >= 80) == is_drawn
    assert is_drawn or not inked
