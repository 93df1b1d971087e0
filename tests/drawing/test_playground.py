"""What mg.playground() puts on its page; the page itself is tested in a browser."""

import base64
import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import microgrid as mg
from microgrid import data
from microgrid.drawing import playground as module


def data_of(page):
    """What the page's scripts read."""
    return json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', page.html, re.DOTALL)[1])


@pytest.mark.parametrize("name", module.SETS)
def test_a_page_of_any_set_is_one_file_of_less_than_300_kilobytes(tmp_path, name):
    path = mg.playground(name).save(tmp_path / "playground.html")
    assert path.stat().st_size < 300_000
    assert data_of(mg.playground(name))["settings"]["data"] == name


@pytest.mark.parametrize("name", module.SETS)
def test_the_page_has_the_sets_of_microgrid_data_without_noise_and_order(name):
    toy = data_of(mg.playground())["sets"][name]
    X, y = getattr(data, name)(module.COUNT, noise=0.0, seed=3, **({"classes": 2} if name == "spirals" else {}))
    order = data.generator_of(3).permutation(module.COUNT)
    assert (np.array(toy["points"])[order] == X).all()
    assert (np.array(toy["targets"])[order] == y).all()


def test_every_operation_of_the_pieces_can_be_computed_and_differentiated_by_the_page():
    rows = data_of(mg.playground())["library"]["rows"]
    assert len(rows) > 20
    assert [row["name"] for row in rows if row.get("problem")] == []


def test_settings_are_what_the_page_begins_with():
    page = mg.playground(
        "xor", [3], activation="relu", loss="squared error", optimizer="SGD", learning_rate=0.05, batch_size=7, seed=9
    )
    assert data_of(page)["settings"] == {
        "data": "xor",
        "layers": [3],
        "activation": "relu",
        "loss": "squared error",
        "optimizer": "SGD",
        "rate": 0.05,
        "decay": 0.0,
        "batch": 7,
        "train": 150,
        "noise": 0.3,
        "seed": 9,
    }
    assert data_of(mg.playground("sine"))["settings"]["loss"] == "squared error"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "stars"}, "data must be one of moons, circles, xor, spirals, sine; got 'stars'"),
        ({"layers": [4, 0]}, "the size of a layer must be a whole number from 1 to 8; got 0"),
        ({"layers": [1] * 5}, "at most 4 hidden layers"),
        ({"activation": "step"}, "activation must be one of tanh, relu, sigmoid, none; got 'step'"),
        ({"loss": "guess"}, "loss must be one of binary cross-entropy, hinge, squared error; got 'guess'"),
        ({"data": "sine", "loss": "hinge"}, "loss must be one of squared error; got 'hinge'"),
        ({"optimizer": "Newton"}, "optimizer must be one of SGD, .*; got 'Newton'"),
        ({"learning_rate": 0}, "learning_rate must be a number from 1e-09 to 100; got 0"),
        ({"weight_decay": -1}, "weight_decay must be a number from 0 to 100; got -1"),
        ({"train_size": 10}, "train_size must be a whole number from 20 to 180; got 10"),
        ({"train_size": 100, "batch_size": 101}, "batch_size must be a whole number from 1 to 100; got 101"),
        ({"batch_size": 151}, "batch_size must be a whole number from 1 to 150; got 151"),
        ({"noise": -0.1}, "noise must be a number from 0 to 1; got -0.1"),
        ({"seed": -1}, "seed must be a whole number from 0 to 4294967295; got -1"),
        ({"seed": True}, "seed must be a whole number"),
        ({"theme": "blue"}, "theme must be one of auto, light, dark; got 'blue'"),
    ],
)
def test_wrong_settings_are_errors_that_name_what_is_possible(options, message):
    with pytest.raises(ValueError, match=message):
        mg.playground(**options)


def test_a_title_that_is_not_text_is_an_error():
    with pytest.raises(TypeError, match="title must be text, the heading; got 3: give title='3'"):
        mg.playground(title=3)


@pytest.mark.parametrize("theme", ["auto", "light", "dark"])
@pytest.mark.parametrize("name", ["moons", "sine"])
def test_a_notebook_shows_the_page_in_a_frame_and_a_picture_of_the_data_behind_it(theme, name):
    shown = mg.playground(name, title="<b>Lesson</b>", theme=theme)._repr_html_()
    assert "<b>Lesson" not in shown
    picture = base64.b64decode(re.search(r"base64,([^\"]+)", shown)[1]).decode()
    root = ElementTree.fromstring(picture)
    assert sum(node.tag.endswith("circle") for node in root) == module.COUNT
    assert "<b>Lesson</b>" in [node.text for node in root]
    assert ("prefers-color-scheme" in picture) == (theme == "auto")


def test_it_says_what_to_do_with_it():
    assert repr(mg.playground()) == "<Playground 'A network learns': .save('playground.html'), .html>"
