"""Both passes in words."""

import re

import pytest

import microgrid as mg
from microgrid.drawing.transcript import transcript


def last_gradients(text):
    """What the transcript says the gradient of each name is in the end."""
    added = r"^  (\S+)\.grad \+= .*? = (\S+?)(?:, together (\S+))?    where"
    found = {}
    for name, flow, together in re.findall(added, text, re.MULTILINE):
        found[name] = float((together or flow).replace("−", "-"))
    return found


@pytest.mark.parametrize(
    "formula",
    [
        lambda x, y: x * x + y,
        lambda x, y: mg.tanh(x * y) / (x + 2),
        lambda x, y: mg.maximum(x, y) ** 3 - mg.exp(y) * x,
        lambda x, y: mg.hypot(x, y, x * y),
    ],
)
def test_gradients_of_the_transcript_are_those_of_backward(formula):
    x, y = mg.Value(1.5, "x"), mg.Value(-0.25, "y")
    output = formula(x, y)
    output.backward()
    found = last_gradients(transcript(output))
    assert [found["x"], found["y"]] == pytest.approx([x.grad, y.grad], rel=1e-3)


def test_gradients_begin_at_zero_whatever_the_nodes_have():
    x = mg.Value(3.0, "x")
    output = x * x
    output.backward()
    output.backward()
    assert last_gradients(transcript(output)) == {"x": 6.0}


def test_a_label_that_is_an_expression_stands_in_brackets():
    x, w, b = mg.Value(2.0, "x₁"), mg.Value(3.0, "w"), mg.Value(1.0, "b")
    product = x * w
    product.label = "x₁*w"
    text = transcript(product + b)
    assert "v₄ = (x₁*w) + b = 6 + 1 = 7" in text
    assert "x₁.grad += 1 × 3 = 3    where ∂(x₁*w)/∂x₁ = w = 3" in text


def test_nothing_is_said_to_flow_where_nothing_does():
    x = mg.Value(1.5, "x")
    text = transcript(mg.floor(x) * mg.stop_gradient(x) + 2)
    assert last_gradients(text).keys().isdisjoint({"x", "2"})


def test_operations_whose_derivatives_are_numbers_only_have_their_numbers():
    x = mg.Value(2.0, "x")
    output = mg.Value(8.0, (x,), (12.0,))
    assert "x.grad += 1 × 12 = 12    where ∂v₁/∂x = 12" in transcript(output)


def test_a_leaf_alone_has_gradient_one():
    assert transcript(mg.Value(2.0, "x")) == "Forward\nBackward\n  x.grad = 1"
