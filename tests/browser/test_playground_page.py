"""The playground in a real browser: its training against mg.fit, its gradients against backward(), every control."""

import math
import re

import numpy as np
import pytest
from playwright.sync_api import expect
from tools import changes, smallest_text
from waiting import wait_until

import microgrid as mg
from microgrid import data
from microgrid.drawing import playground as module
from microgrid.theme import DARK, LIGHT

EPOCHS = 12


@pytest.fixture
def page(show):
    return show(mg.playground())


def run(page):
    """Run the code that the page shows; return its names."""
    names = {}
    code = page.locator("#python").text_content().replace("mg.fit(", "history = mg.fit(")
    exec(code.replace("validation=", "quiet=True, validation="), names)
    size = page.evaluate("learner.train.length")
    return {**names, "learned": (names["X"][:size], names["y"][:size])}


# ---------------------------------------------------------------------------------------------------
# The numbers

TRAININGS = [
    {"data": "moons", "layers": [4, 4], "activation": "relu", "loss": "hinge", "optimizer": "Adam"},
    {
        "data": "circles",
        "layers": [3],
        "activation": "tanh",
        "loss": "binary cross-entropy",
        "optimizer": "Momentum",
        "weight_decay": 0.01,
    },
    {
        "data": "xor",
        "layers": [5, 2],
        "activation": "sigmoid",
        "loss": "squared error",
        "optimizer": "SGD",
        "train_size": 40,
    },
    {
        "data": "spirals",
        "layers": [8, 8],
        "activation": "tanh",
        "loss": "hinge",
        "optimizer": "RMSprop",
        "train_size": 180,
    },
    {"data": "sine", "layers": [6], "activation": "tanh", "loss": "squared error", "optimizer": "Nesterov"},
    {
        "data": "sine",
        "layers": [2, 3, 2],
        "activation": "relu",
        "loss": "squared error",
        "optimizer": "AdaGrad",
        "weight_decay": 1.5,
    },
    {
        "data": "moons",
        "layers": [],
        "activation": "none",
        "loss": "binary cross-entropy",
        "optimizer": "Adam",
        "weight_decay": 0.1,
        "train_size": 90,
    },
]


@pytest.mark.parametrize("settings", TRAININGS, ids=lambda settings: f"{settings['data']}-{settings['optimizer']}")
@pytest.mark.parametrize(("seed", "batch_size"), [(0, 10), (4_000_000_000, 40)])
def test_training_is_fits_number_by_number(show, settings, seed, batch_size):
    page = show(mg.playground(**settings, learning_rate=0.02, seed=seed, batch_size=batch_size, noise=0.15))
    for _ in range(EPOCHS):
        page.keyboard.press("e")
    python = run(page)
    assert len(python["history"].loss) == EPOCHS
    found = page.evaluate("[...learner.theta]")
    assert found == pytest.approx([p.data for p in python["model"].parameters()], rel=1e-9, abs=1e-9)
    train, test = page.evaluate("[learner.measure(learner.train), learner.measure(learner.test)]")
    assert test["loss"] == pytest.approx(python["history"].validation_loss[-1], rel=1e-9)
    loss = module.LOSSES[settings["loss"]].function
    assert train["loss"] == pytest.approx(mg.evaluate(python["model"], *python["learned"], loss=loss).loss, rel=1e-9)
    if settings["data"] != "sine":
        assert test["accuracy"] == pytest.approx(python["history"].validation_accuracy[-1])


@pytest.mark.parametrize("loss", module.LOSSES)
def test_the_code_prints_what_the_page_shows(show, capsys, loss):
    page = show(mg.playground(loss=loss))
    for _ in range(3):
        page.click("#epoch")
    run(page)
    printed = dict(re.findall(r"(loss|accuracy)=([\d.e-]+)", capsys.readouterr().out))
    shown, accuracy = page.evaluate("[notes.at(-1).train.loss, notes.at(-1).train.accuracy]")
    assert {name: float(text) for name, text in printed.items()} == pytest.approx({"loss": shown, "accuracy": accuracy})


def test_reset_with_another_seed_by_the_field_is_that_seeds_training(page):
    page.fill("#seed", "123")
    page.keyboard.press("Enter")
    page.click("#epoch")
    page.click("#epoch")
    assert page.evaluate("[...learner.theta]") == pytest.approx([p.data for p in run(page)["model"].parameters()])
    assert "seed=123" in page.locator("#python").text_content()


@pytest.mark.parametrize("name", module.SETS)
@pytest.mark.parametrize("seed", [0, 1, 77, 2**32 - 1])
def test_data_is_that_of_microgrid_data(page, name, seed):
    points, targets = page.evaluate(
        "([name, seed]) => { const { points, targets } = sampled(toys[name], 0.25, seed); return [points, targets]; }",
        [name, seed],
    )
    X, y = getattr(data, name)(200, noise=0.25, seed=seed, **({"classes": 2} if name == "spirals" else {}))
    assert np.array(points) == pytest.approx(X, abs=1e-12)
    assert np.array(targets) == pytest.approx(y, abs=1e-12)


def test_normal_numbers_are_numpys_into_the_tails(page):
    found = page.evaluate(
        "() => { const random = new NumpyRandom(5); return Array.from({ length: 30000 }, () => random.normal()); }"
    )
    expected = np.random.default_rng(5).normal(size=30_000)
    assert np.abs(expected).max() > 3.7, "beyond the last layer"
    assert np.array(found) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("settings", TRAININGS, ids=lambda settings: f"{settings['data']}-{settings['loss']}")
@pytest.mark.parametrize("index", [0, 1, 160])
def test_the_graph_of_a_sample_is_pythons_with_its_numbers_and_gradients(show, settings, index):
    page = show(mg.playground(**settings))
    page.keyboard.press("e")
    page.evaluate(f"openSample(true, {index})")
    names = run(page)
    model, x, target = names["model"], [mg.Value(x) for x in names["X"][index].tolist()], names["y"][index].item()
    loss = module.LOSSES[settings["loss"]].function(model(x), target)
    model.zero_grad()
    loss.backward()
    found, inputs, output, size = page.evaluate(
        """[sample.network.parameters.map(gradientOf), sample.network.inputs.map(gradientOf),
            dataOf(sample.network.output), sample.network.graph.op.length]"""
    )
    assert output == pytest.approx(loss.data, rel=1e-9)
    assert found == pytest.approx([p.grad for p in model.parameters()], rel=1e-9, abs=1e-12)
    assert inputs == pytest.approx([value.grad for value in x], rel=1e-9, abs=1e-12)
    assert size == len(mg.topological_order(loss))
    shown = page.locator(".card", has_text="loss").locator("text").nth(1).text_content()
    assert float(shown.replace("−", "-")) == pytest.approx(loss.data, rel=0.06)


def test_neurons_and_plane_show_what_the_model_says(page):
    for _ in range(3):
        page.click("#epoch")
    model = run(page)["model"]
    x, y, output, *hidden = page.evaluate(
        """[...plane.places, ...[plane.ground.outputs, plane.ground.neurons[0]].flat().map(fieldOf)].map(
             numbers => numbers[100])"""
    )
    assert output == pytest.approx(model([x, y]).data)
    assert hidden == pytest.approx([math.tanh(neuron([x, y]).data) for neuron in model.modules[0].neurons])


# ---------------------------------------------------------------------------------------------------
# Controls


@pytest.mark.parametrize(
    ("button", "key", "steps"), [("#forward", "ArrowRight", 1), ("#epoch", "e", 15), ("#reset", "r", 0)]
)
def test_each_button_works_by_mouse_by_key_and_by_focus_and_enter(page, button, key, steps):
    for act in (
        lambda: page.click(button),
        lambda: page.keyboard.press(key),
        lambda: (page.focus(button), page.keyboard.press("Enter")),
    ):
        page.evaluate("restart(); document.activeElement.blur()")
        if not steps:
            page.evaluate("train(3)")
        act()
        assert page.evaluate("learner.steps") == steps


def test_play_trains_and_pauses(page):
    page.keyboard.press("Space")
    expect(page.locator("#play")).to_have_attribute("aria-label", "Pause")
    expect(page.locator("#now")).to_have_attribute("aria-live", "off")
    wait_until(page, "learner.epochs >= 5")
    page.click("#play")
    stopped = page.evaluate("learner.steps")
    page.wait_for_timeout(300)
    assert page.evaluate("learner.steps") == stopped
    assert stopped % 15 == 0, "whole epochs, as the pace says"
    expect(page.locator("#now strong")).to_have_text(f"Epoch {stopped // 15}")
    assert page.locator(".chart").count() == 2


@pytest.mark.parametrize(
    ("control", "value", "setting"),
    [
        ("#activation", "relu", ("activation", "relu")),
        ("#loss", "squared error", ("loss", "squared error")),
        ("#optimizer", "Momentum", ("optimizer", "Momentum")),
        ("#batch", "25", ("batch", 25)),
        ("#batch", "150", ("batch", 150)),
    ],
)
def test_each_choice_starts_a_new_training(page, control, value, setting):
    page.click("#epoch")
    page.select_option(control, value)
    assert page.evaluate("learner.steps") == 0
    assert page.evaluate(f"learner.settings.{setting[0]}") == setting[1]
    page.click("#forward")
    assert page.evaluate("learner.steps") == 1


@pytest.mark.parametrize(
    ("control", "words"), [("#rate", "another rate at first"), ("#decay", "another weight decay at first")]
)
def test_rate_and_weight_decay_are_changed_on_the_way(show, control, words):
    page = show(mg.playground(optimizer="SGD"))
    page.click("#epoch")
    before = page.evaluate("[...learner.theta]")
    page.select_option(control, "1")
    assert page.evaluate(f"[learner.steps, learner.settings.{control[1:]}]") == [15, 1]
    page.click("#epoch")
    moved = max(abs(a - b) for a, b in zip(before, page.evaluate("[...learner.theta]"), strict=True))
    assert moved > 0.2
    assert words in page.locator("#python").text_content()


def test_weight_decay_holds_weights_small(page):
    sizes = []
    for decay in ("0", "0.1"):
        page.select_option("#decay", decay)
        page.keyboard.press("r")
        page.evaluate("for (let k = 0; k < 20; k++) toEndOfEpoch()")
        sizes.append(page.evaluate("Math.hypot(...learner.theta)"))
    assert sizes[1] < 0.5 * sizes[0]
    assert "weight_decay=0.1" in page.locator("#python").text_content()


def test_the_split_is_chosen_by_a_slider_and_both_losses_have_curves(page):
    page.focus("#train")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#train-now")).to_have_text("140 : 60")
    assert page.evaluate("[learner.steps, learner.train.length, learner.test.length]") == [0, 140, 60]
    assert page.locator(".playground-test").count() == 60
    page.click("#epoch")
    assert page.evaluate("learner.steps") == 14
    train, test = page.evaluate("[notes.at(-1).train.loss, notes.at(-1).test.loss].map(format)")
    expect(page.locator("#now")).to_contain_text(f"loss {train}, test {test}")
    assert page.locator(".chart").first.locator("path.training:not(.ahead), path.test:not(.ahead)").count() == 2
    assert "X[:140]" in page.locator("#python").text_content()


def test_data_and_noise_are_chosen_by_mouse_and_keyboard(page):
    page.click("text=circles")
    assert page.evaluate("learner.settings.data") == "circles"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("[learner.settings.data, learner.settings.noise]") == ["xor", 0.3]
    page.focus("#noise")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("learner.settings.noise") == 0.31
    expect(page.locator("#noise-now")).to_have_text("0.31")
    page.click("text=sine")
    assert page.evaluate("[learner.sizes[0], learner.settings.loss]") == [1, "squared error"]
    expect(page.locator("#points .answer")).to_be_visible()
    for _ in range(4):
        page.click("#epoch")
    assert page.locator(".past path").count() >= 2
    page.click("text=moons")
    assert page.evaluate("learner.settings.loss") == "binary cross-entropy"


def test_layers_are_added_removed_and_resized(page):
    page.click("#more")
    assert page.evaluate("learner.sizes") == [2, 4, 4, 4, 1]
    page.fill("#sizes input >> nth=1", "7")
    page.keyboard.press("Enter")
    assert page.evaluate("learner.sizes") == [2, 4, 7, 4, 1]
    assert page.locator(".neuron").count() == 2 + 4 + 7 + 4 + 1
    page.fill("#sizes input >> nth=1", "99")
    page.keyboard.press("Enter")
    assert page.evaluate("learner.sizes[2]") == 8
    for _ in range(3):
        page.click("#fewer")
    expect(page.locator("#fewer")).to_be_disabled()
    assert page.evaluate("learner.sizes") == [2, 1]


def test_loss_has_a_logarithmic_scale_while_it_learns(page):
    page.check("#log")
    for _ in range(3):
        page.click("#epoch")
    expect(page.locator(".chart h2").first).to_contain_text("loss, log scale")
    page.uncheck("#log")
    expect(page.locator(".chart h2").first).not_to_contain_text("log scale")


def test_a_rate_that_is_too_large_is_said(show):
    page = show(mg.playground("sine", [4], activation="relu", optimizer="SGD", learning_rate=90.0))
    page.keyboard.press("Space")
    expect(page.locator("#now .alert")).to_contain_text("the learning rate is too large")
    assert page.evaluate("isTraining") is False
    page.keyboard.press("r")
    expect(page.locator("#now .alert")).to_have_count(0)


def test_a_link_leads_to_the_settings_that_its_sender_had(page, browser):
    page.click("text=spirals")
    page.click("#fewer")
    page.fill("#sizes input", "7")
    page.select_option("#loss", "binary cross-entropy")
    page.select_option("#rate", "0.3")
    page.select_option("#decay", "0.01")
    page.fill("#train", "100")
    page.fill("#seed", "42")
    page.keyboard.press("Enter")
    other = browser.new_page()
    other.goto(page.url)
    read = "[learner.settings, [...learner.theta]]"
    assert other.evaluate(read) == page.evaluate(read)
    expect(other.locator("#rate")).to_have_value("0.3")
    other.evaluate("location.hash = 'data=sine&layers='")
    wait_until(other, "learner.isCurve")
    assert other.evaluate("[learner.sizes, learner.settings.loss]") == [[1, 1], "squared error"]
    other.close()


@pytest.mark.parametrize(
    "part",
    ["data=stars", "layers=4-99", "rate=0", "decay=-1", "batch=1.5", "train=10", "seed=", "noise=x", "colour=red"],
)
def test_what_a_link_cannot_ask_for_is_said_and_left_out(page, part):
    before = page.evaluate("learner.settings")
    page.evaluate(f"location.hash = '{part}'")
    expect(page.locator("#now .alert")).to_contain_text(f"The link says {part},")
    assert page.evaluate("learner.settings") == before


def test_it_plays_in_a_notebooks_frame(opened, tmp_path):
    path = tmp_path / "notebook.html"
    path.write_text(f"<!DOCTYPE html><meta charset=utf-8><body>{mg.playground()._repr_html_()}", encoding="utf-8")
    opened.page.goto(path.as_uri())
    frame = opened.page.frame_locator("iframe")
    frame.locator("#epoch").click()
    expect(frame.locator("#now strong")).to_have_text("Epoch 1")
    frame.get_by_text("circles").click()
    expect(frame.locator("#now strong")).to_have_text("Untrained")
    expect(opened.page.locator(".microgrid-still")).to_be_hidden()


# ---------------------------------------------------------------------------------------------------
# The graph of one sample


def test_a_click_on_a_point_shows_its_graph_and_training_goes_on_in_it(page):
    x, y = page.evaluate("[Number(plane.marks[12].getBBox().x) + 4, Number(plane.marks[12].getBBox().y) + 4]")
    box = page.locator("#plane").bounding_box()
    page.mouse.click(box["x"] + x * box["width"] / 320, box["y"] + y * box["height"] / 320)
    index = page.evaluate("sample.index")
    expect(page.locator("#sample-title")).to_contain_text(f"sample {index}:")
    expect(page.locator(".point.picked")).to_have_count(1)
    page.evaluate("document.getElementById('reset').focus()")
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert {"open", "sample-number", "close"} <= reached
    assert reached.isdisjoint({"noise", "activation", "more"}), "nothing behind the sheet has the focus"
    before = page.locator(".card").first.get_attribute("aria-label")
    page.keyboard.press("e")
    assert page.locator(".card").first.get_attribute("aria-label") != before
    page.keyboard.press("Escape")
    expect(page.locator("#sample")).to_be_hidden()


@pytest.mark.parametrize(("typed", "taken"), [("99999", 199), ("-5", 0), ("", 7), ("12.4", 12)])
def test_the_box_of_the_sample_has_the_number_of_the_sample_that_is_shown(page, typed, taken):
    page.evaluate("openSample(true, 7)")
    page.fill("#sample-number", typed)
    page.keyboard.press("Tab")
    expect(page.locator("#sample-number")).to_have_value(str(taken))
    expect(page.locator("#sample-title")).to_contain_text(f"sample {taken}:")
    expect(page.locator("#close")).to_be_focused()


@pytest.mark.parametrize("width", [1280, 900, 390])
def test_the_settings_show_the_whole_of_what_is_chosen(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    cut = """selects => selects.filter(select => {
        const whole = select.cloneNode(true);
        whole.value = select.value;
        whole.style.cssText = "position: absolute; width: max-content; max-width: none";
        whole.replaceChildren(...[...whole.options].filter(option => option.value === select.value));
        select.after(whole);
        const isCut = whole.getBoundingClientRect().width > select.getBoundingClientRect().width + 0.5;
        whole.remove();
        return isCut || select.getBoundingClientRect().right > document.getElementById("settings").clientWidth;
    }).map(select => select.id)"""
    for loss in module.LOSSES:
        page.evaluate(f"change({{ loss: {loss!r} }})")
        assert page.eval_on_selector_all("#settings select", cut) == []


def test_layers_have_one_set_of_names_in_the_playground_in_its_graphs_and_in_a_recorded_training(show):
    def columns(page):
        return [text for text in page.locator("#network text.layer").all_text_contents() if text[0] != "x"]

    page = show(mg.playground(layers=[3, 2]))
    names = columns(page)
    assert names == ["Inputs", "Layer 0", "Layer 1", "Layer 2"]
    page.evaluate("openSample(true, 0)")
    found = page.evaluate("[...new Set(sample.network.neurons.flat().map(({ name }) => name.split(' · ')[0]))]")
    assert found == names[1:]
    model = mg.nn.MLP(2, [3, 2, 1], seed=0)
    watcher = mg.watch(model, *data.moons(20, seed=0))
    watcher.record(loss=1.0)
    assert columns(show(watcher)) == names


def test_sample_is_chosen_by_keyboard_and_its_nodes_explained(page):
    page.focus("#open")
    page.keyboard.press("Enter")
    worst = page.evaluate("sample.index")
    losses = page.evaluate("learner.train.map(i => learner.measure([i]).loss)")
    assert losses[worst] == max(losses)
    page.focus("#sample-number")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#sample-title")).to_contain_text(f"Training sample {worst - 1}:")
    page.focus(".card[tabindex='0']")
    expect(page.locator("#node-words")).to_contain_text("here the backward pass begins")
    said = page.evaluate(
        """() => {
          const node = sample.network.graph.parents.findIndex(([first]) => first !== undefined && dataOf(first) < 0);
          return ["tanh({0})", "1 − {0}"].map(formula => withNumbers(formula, node));
        }"""
    )
    assert [text.split("−")[:-1] for text in said] == [["tanh("], ["1 ", " ("]]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    node = page.evaluate("sample.chosen")
    words = page.locator("#node-words").text_content()
    gradient = page.evaluate(f"gradientOf({node})")
    assert page.evaluate(f"format({gradient})") in words
    expect(page.locator(".card.chosen")).to_have_count(1)
    page.click("#close")
    assert page.evaluate("document.activeElement.id") == "open"


def test_neurons_of_the_graph_open_and_close_by_mouse_and_keyboard(page):
    page.evaluate("openSample(true, 3)")
    cards = page.locator(".card").count()
    page.click("[aria-label='Open Layer 1 · Neuron 2'] circle")
    opened = page.locator(".card").count()
    assert opened == cards + 4 + 1 + 4, "its weights, its bias and its products"
    page.focus("[aria-label='Close Layer 1 · Neuron 2']")
    page.keyboard.press("Enter")
    assert page.locator(".card").count() == cards
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Open Layer 1 · Neuron 2"


def test_what_flows_back_along_the_edges_is_the_gradient_of_each_node(show):
    page = show(mg.playground(loss="squared error"))
    page.evaluate("train(20); openSample(true, 5)")
    for everything in (False, True):
        if everything:
            page.evaluate(
                "learner.networks[0].neurons.flat().forEach(n => sample.open.add(n.name)); openSample(true, 5)"
            )
        sums = page.evaluate(
            """sample.cards.filter(({ node }) => node !== sample.network.output).map(({ node }) => [gradientOf(node),
                 sample.flows.filter(f => f.from === node).reduce((sum, { through, argument }) =>
                   sum + localOf(through, argument) * gradientOf(through), 0)])"""
        )
        assert sum(abs(gradient) > 1e-6 for gradient, _ in sums) > 20
        for gradient, flow in sums:
            assert flow == pytest.approx(gradient, rel=1e-9, abs=1e-12)


# ---------------------------------------------------------------------------------------------------
# For everyone, everywhere


STATES = {"untrained": "0", "trained": "toEndOfEpoch()", "sample": "openSample(true, 4)"}


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (836, "dark"), (390, "light")])
def test_nothing_on_the_page_is_a_serious_barrier(browser, tmp_path, barriers, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce")
    page.goto(mg.playground().save(tmp_path / "page.html").as_uri())
    for state, script in STATES.items():
        page.evaluate(f"{script}; undefined")
        assert barriers(page) == [], state
    page.close()


def test_no_text_on_a_laptop_is_smaller_than_ten_pixels(page):
    page.set_viewport_size({"width": 1280, "height": 800})
    for state, script in STATES.items():
        page.evaluate(f"{script}; undefined")
        assert smallest_text(page)[0] >= 10, (state, smallest_text(page))


def test_controls_and_pictures_have_names_for_screen_readers(page):
    page.evaluate("train(3); openSample(true, 0)")
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, input, select, [role=img], [role=button], [role=group]")].filter(
             e => !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)"""
    )
    assert nameless == []
    names = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(names) == len(set(names))


def test_no_request_leaves_the_page_and_none_could(opened, tmp_path):
    page = opened.open(mg.playground(), tmp_path / "page.html")
    page.evaluate("train(15); openSample(true, 0)")
    assert opened.holds_back_every_request()


@pytest.mark.parametrize(
    ("theme", "viewer", "paper"),
    [("auto", "light", LIGHT), ("auto", "dark", DARK), ("dark", "light", DARK), ("light", "dark", LIGHT)],
)
def test_theme_follows_the_viewer_or_the_choice(browser, tmp_path, theme, viewer, paper):
    page = browser.new_page(color_scheme=viewer)
    page.goto(mg.playground(theme=theme).save(tmp_path / "page.html").as_uri())
    expected = [int(paper["paper"][k : k + 2], 16) for k in (1, 3, 5)]
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == f"rgb({', '.join(map(str, expected))})"
    assert page.evaluate("colors.paper") == expected
    page.close()


def test_phone_shows_all_without_sideways_scrolling(browser, tmp_path):
    page = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.goto(mg.playground().save(tmp_path / "page.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for name in ("reset", "play", "forward", "epoch"):
        box = page.locator(f"#{name}").bounding_box()
        assert min(box["width"], box["height"]) >= 40
    page.tap("#epoch")
    assert page.evaluate("learner.epochs") == 1
    assert page.locator("#plane").bounding_box()["y"] < 300, "what it learns is on the first screen"
    page.tap("#open")
    expect(page.locator("#sample-graph")).to_be_in_viewport()
    page.tap("#close")
    page.close()


def test_an_epoch_is_painted_once(show):
    page = show(mg.playground("spirals", [8, 8]))
    step, epoch = changes(page, "train(1)"), changes(page, "toEndOfEpoch()")
    assert 0 < epoch < 2 * step
