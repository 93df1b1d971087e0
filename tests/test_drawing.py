"""Pictures: what they show, that no label can break them, and how they are rendered and saved."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgrid.drawing import Picture, draw
from microgrid.engine import Value

SVG = "{http://www.w3.org/2000/svg}"


def neuron() -> Value:
    x1, x2 = Value(2.0, "x1"), Value(0.0, "x2")
    w1, w2 = Value(-3.0, "w1"), Value(1.0, "w2")
    b = Value(6.8813735870195432, "b")
    o = (x1 * w1 + x2 * w2 + b).tanh()
    o.label = "o"
    o.backward()
    return o


def texts(picture: Picture) -> list[str]:
    return ["".join(t.itertext()) for t in ElementTree.fromstring(picture.svg).iter(f"{SVG}text")]


def groups(picture: Picture, kind: str) -> list[ElementTree.Element]:
    return [g for g in ElementTree.fromstring(picture.svg).iter(f"{SVG}g") if kind in g.get("class", "").split()]


def test_a_node_shows_label_data_and_gradient() -> None:
    shown = texts(draw(neuron()))
    assert {"x1", "w1", "x2", "w2", "b", "o"} <= set(shown)
    joined = " ".join(shown)
    assert "0.7071" in joined
    assert "-1.5" in joined


def test_x_times_x_has_two_edges() -> None:
    x = Value(3.0, "x")
    assert len(groups(draw(x * x), "edge")) == 2


@pytest.mark.parametrize(
    "label",
    [
        "사과",
        "<b>bold</b>",
        "{|}",
        '"quoted"',
        "back\\slash \\N \\G \\\\",
        "]]>",
        "<script>alert(1)</script>",
        "a & b &amp;",
        "-->",
        "é ∂ 🍎",
    ],
)
def test_any_label_is_shown_as_itself(label: str) -> None:
    picture = draw(Value(1.0, label))
    assert label in [text.replace("\xa0", " ") for text in texts(picture)]
    assert not list(ElementTree.fromstring(picture.svg).iter(f"{SVG}script"))


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=60))
def test_no_text_breaks_a_picture(label: str) -> None:
    y = Value(2.0, label) * Value(3.0, label)
    picture = draw(y, title=label)
    elements = [e.tag.removeprefix(SVG) for e in ElementTree.fromstring(picture.svg).iter()]
    assert set(elements) <= {"svg", "style", "g", "title", "path", "polygon", "polyline", "text"}
    assert len(groups(picture, "node")) == 3
    assert picture.png.startswith(b"\x89PNG")
    ElementTree.fromstring(re.sub(r"^<!DOCTYPE html>|<meta[^>]*>", "", picture.html))
