"""Losses for one sample: their formulas, their gradients, and clear errors for targets that make no sense."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgrid import compile, ops
from microgrid.engine import Value, topological_order
from microgrid.losses import binary_cross_entropy, cross_entropy, hinge, mean_squared_error, sum_of_squares

logits_of = st.lists(st.floats(-1000.0, 1000.0), min_size=1, max_size=6)


def softmax(xs):
    exponentials = [mpmath.exp(x) for x in xs]
    return [e / mpmath.fsum(exponentials) for e in exponentials]


def gradients(loss, leaves):
    loss.backward()
    return [leaf.grad for leaf in leaves]


@given(logits_of, st.data())
def test_cross_entropy_is_minus_log_softmax_and_its_gradient_y_minus_t(xs, data):
    index = data.draw(st.integers(0, len(xs) - 1))
    one_hot = [float(i == index) for i in range(len(xs))]
    with mpmath.workdps(900):
        y = softmax(xs)
        expected = float(-mpmath.log(y[index]))
    for target in (index, one_hot, Value(index), list(map(Value, one_hot))):
        logits = list(map(Value, xs))
        loss = cross_entropy(logits, target)
        assert loss.data == pytest.approx(expected, rel=1e-12, abs=1e-12)
        assert gradients(loss, logits) == pytest.approx(
            [float(p) - t for p, t in zip(y, one_hot, strict=True)], rel=1e-9, abs=1e-12
        )


@given(
    st.lists(st.floats(-40.0, 40.0), min_size=2, max_size=6),
    st.floats(-60.0, 700.0),
    st.integers(0, 5),
    st.sampled_from([1.0, 1e-3]),
)
def test_cross_entropy_of_a_sure_class_keeps_all_digits_and_so_does_its_gradient(others, logit, place, scale):
    index = place % (len(others) + 1)
    xs = [scale * x for x in [*others[:index], logit, *others[index:]]]
    with mpmath.workdps(700):
        y = softmax(xs)
        rest = mpmath.fsum(p for i, p in enumerate(y) if i != index)
        expected = float(-mpmath.log1p(-rest))
        slopes = [float(-rest if i == index else p) for i, p in enumerate(y)]
    excused = 8e-16 * max(map(abs, xs))  # what the rounding of the logits' differences changes
    for target in (index, [float(i == index) for i in range(len(xs))]):
        for function in (
            cross_entropy,
            compile(lambda xs, target=target: cross_entropy(list(xs), target), batch=False),
        ):
            logits = list(map(Value, xs))
            loss = function(logits, target) if function is cross_entropy else function(logits)
            assert loss.data == pytest.approx(expected, rel=2e-15 + excused, abs=1e-305)
            assert gradients(loss, logits) == pytest.approx(slopes, rel=4e-15 + 2 * excused, abs=1e-305)


@pytest.mark.parametrize(
    ("xs", "value", "gradient"),
    [
        ([3.0, -math.inf, -math.inf], 0.0, [0.0, 0.0, 0.0]),
        ([-math.inf, 3.0, 3.0], math.inf, [-1.0, 0.5, 0.5]),
        ([3.0, math.inf, 1.0], math.inf, [-1.0, math.nan, 0.0]),
        ([-math.inf, -math.inf, -math.inf], math.nan, [math.nan] * 3),
        ([0.0, math.nan, 1.0], math.nan, [math.nan] * 3),
        ([1e308, -1e308, 0.0], 0.0, [0.0, 0.0, 0.0]),
        ([-800.0, 0.0, 0.0], 800.0 + math.log(2.0), [-1.0, 0.5, 0.5]),
    ],
)
def test_cross_entropy_of_infinite_logits_is_the_limit_with_the_gradients_of_pytorch(xs, value, gradient):
    for target in (0, [1.0, 0.0, 0.0]):
        logits = list(map(Value, xs))
        loss = cross_entropy(logits, target)
        assert loss.data == pytest.approx(value, nan_ok=True)
        assert gradients(loss, logits) == pytest.approx(gradient, nan_ok=True)


@pytest.mark.parametrize(
    ("loss", "outputs", "target", "operations"),
    [
        (cross_entropy, 2, 0, ["sub", "softplus"]),
        (binary_cross_entropy, 1, 1.0, ["neg", "softplus"]),
        (binary_cross_entropy, 1, 0.0, ["softplus"]),
        (mean_squared_error, 1, 0.5, ["sub", "mul"]),
        (hinge, 1, 1.0, ["mul", "sub", "relu"]),
    ],
)
def test_one_output_is_not_averaged_and_a_sure_class_not_weighted(loss, outputs, target, operations):
    graph = topological_order(loss([Value(0.5) for _ in range(outputs)], target if outputs > 1 else [target]))
    assert [node.op.name for node in graph if node.parents] == operations


def test_cross_entropy_of_one_class_is_0():
    for target in (0, [1.0], Value(0), [Value(1.0)]):
        logit = Value(3.0)
        loss = cross_entropy([logit], target)
        assert (loss.data, gradients(loss, [logit])) == (0.0, [0.0])


def test_cross_entropy_takes_soft_labels_of_numbers_and_of_values():
    xs, t = [0.5, -1.0, 2.0], [0.2, 0.3, 0.5]
    y = ops.softmax(xs)
    expected = -sum(ti * math.log(yi) for ti, yi in zip(t, y, strict=True))
    for target in (t, np.array(t), tuple(map(Value, t))):
        logits = list(map(Value, xs))
        loss = cross_entropy(logits, target)
        assert loss.data == pytest.approx(expected, rel=1e-14)
        assert gradients(loss, logits) == pytest.approx([yi - ti for yi, ti in zip(y, t, strict=True)], rel=1e-13)


def test_an_impossible_class_costs_nothing_unless_it_is_the_target():
    logits = [Value(0.0), Value(-math.inf)]
    for target in (0, [1, 0], Value(0.0)):
        loss = cross_entropy(logits, target)
        assert loss.data == 0.0
        loss.backward()
    assert [x.grad for x in logits] == [0.0, 0.0]
    assert cross_entropy([0.0, -math.inf], 1) == math.inf


@pytest.mark.parametrize("index", [-1.0, 2.0, 0.5, math.nan])
def test_an_index_in_a_value_that_is_no_class_gives_nan_not_a_wrong_number(index):
    assert math.isnan(cross_entropy([0.1, 0.2], Value(index)).data)


@given(st.floats(-700.0, 700.0), st.sampled_from([0.0, 1.0, 0.25, 0.9]))
def test_binary_cross_entropy_is_exact_from_logits_and_its_gradient_y_minus_t(x, t):
    with mpmath.workdps(700):
        y = 1 / (1 + mpmath.exp(-x))
        expected = float(-t * mpmath.log(y) - (1 - t) * mpmath.log(1 - y))
    for target in (t, Value(t)):
        logit = Value(x)
        loss = binary_cross_entropy(logit, target)
        assert loss.data == pytest.approx(expected, rel=1e-14, abs=1e-300)
        loss.backward()
        assert logit.grad == pytest.approx(float(y) - t, rel=1e-12, abs=1e-15)


def test_binary_cross_entropy_of_a_sure_and_right_logit_is_zero():
    assert binary_cross_entropy([math.inf, -math.inf], [1, 0]) == 0.0
    assert binary_cross_entropy(-math.inf, 1) == math.inf


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "expected", "gradient"),
    [
        (mean_squared_error, [1.0, 2.0], [0.0, 4.0], 2.5, [1.0, -2.0]),
        (mean_squared_error, 3.0, 1.0, 4.0, [4.0]),
        (sum_of_squares, [1.0, 2.0], [0.0, 4.0], 2.5, [1.0, -2.0]),
        (sum_of_squares, 3.0, [1.0], 2.0, [2.0]),
        (sum_of_squares, [1.0, 2.0, 3.0], (0.0, 4.0, 3.0), 2.5, [1.0, -2.0, 0.0]),
        (hinge, 0.25, 1, 0.75, [-1.0]),
        (hinge, 0.25, -1, 1.25, [1.0]),
        (hinge, 1.0, 1, 0.0, [0.0]),
        (hinge, [0.5, -3.0], [1, -1], 0.25, [-0.5, 0.0]),
        (binary_cross_entropy, [0.0, 0.0], [1, 0], math.log(2.0), [-0.25, 0.25]),
    ],
)
def test_a_loss_has_its_formula_and_gradient_for_numbers_and_for_values(loss, outputs, targets, expected, gradient):
    assert loss(outputs, targets) == pytest.approx(expected, rel=1e-15)
    for wrap in (list, lambda numbers: list(map(Value, numbers))):
        leaves = list(map(Value, outputs if isinstance(outputs, list) else [outputs]))
        value = loss(
            leaves if len(leaves) > 1 else leaves[0], wrap(targets if hasattr(targets, "__len__") else [targets])
        )
        assert value.data == pytest.approx(expected, rel=1e-15)
        assert gradients(value, leaves) == pytest.approx(gradient, rel=1e-15)


LOSSES = [binary_cross_entropy, cross_entropy, hinge, mean_squared_error, sum_of_squares]


@pytest.mark.parametrize("loss", LOSSES)
@given(st.lists(st.floats(), min_size=3, max_size=3), st.lists(st.floats(), min_size=3, max_size=3))
def test_the_numbers_in_values_decide_nothing_about_the_graph(loss, outputs, targets):
    def program(outputs, target):
        order = topological_order(loss(list(map(Value, outputs)), target))
        place = {node: i for i, node in enumerate(order)}
        return [(node.op, [place[parent] for parent in node.parents]) for node in order]

    assert program(outputs, list(map(Value, targets))) == program([1.0, 2.0, 3.0], list(map(Value, [0.0, 1.0, 0.0])))
    if loss is cross_entropy:
        assert program(outputs, Value(targets[0])) == program([1.0, 2.0, 3.0], Value(1.0))


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda: cross_entropy([], 0), ValueError, ["cross_entropy", "no logits"]),
        (lambda: cross_entropy([1.0, 2.0], 2), ValueError, ["target 2", "2 classes, 0 to 1", "from 0"]),
        (lambda: cross_entropy([1.0, 2.0], -1), ValueError, ["target -1"]),
        (lambda: cross_entropy([1.0, 2.0], 0.5), ValueError, ["target 0.5"]),
        (lambda: cross_entropy([1.0, 2.0], math.inf), ValueError, ["target inf"]),
        (lambda: cross_entropy([1.0, 2.0], math.nan), ValueError, ["target nan"]),
        (lambda: cross_entropy([1.0, 2.0], None), TypeError, ["None"]),
        (lambda: cross_entropy([1.0, 2.0], [1, 0, 0]), ValueError, ["3 targets for 2 outputs"]),
        (lambda: cross_entropy([1.0, 2.0], []), ValueError, ["no targets"]),
        (lambda: cross_entropy([1.0, 2.0], [0.5, 0.6]), ValueError, ["sum to 1", "[0.5, 0.6]", "1.1", "index"]),
        (lambda: cross_entropy([1.0, 2.0], [1.5, -0.5]), ValueError, ["probabilities", "-0.5"]),
        (lambda: cross_entropy([1.0, 2.0], [math.nan, 1.0]), ValueError, ["probabilities", "nan"]),
        (lambda: cross_entropy(["a", 2.0], 0), TypeError, ["'a'"]),
        (lambda: binary_cross_entropy(0.0, 2), ValueError, ["binary_cross_entropy", "from 0 to 1", "2.0"]),
        (lambda: binary_cross_entropy(0.0, -1), ValueError, ["from 0 to 1", "-1.0"]),
        (lambda: binary_cross_entropy([], []), ValueError, ["no logits"]),
        (lambda: binary_cross_entropy([0.0], [0, 1]), ValueError, ["2 targets for 1 outputs"]),
        (lambda: mean_squared_error([1.0, 2.0], [1.0]), ValueError, ["mean_squared_error", "1 targets for 2 outputs"]),
        (lambda: sum_of_squares([1.0, 2.0], [[1.0], [2.0]]), TypeError, ["[1.0]"]),
        (lambda: hinge(0.5, 0), ValueError, ["-1 or 1", "0.0", "2 * label - 1"]),
        (lambda: hinge([0.5, 0.5], [1]), ValueError, ["1 targets for 2 outputs"]),
    ],
)
def test_a_target_that_makes_no_sense_is_an_error_that_names_it(wrong, error, says):
    with pytest.raises(error) as raised:
        wrong()
    for part in says:
        assert part in str(raised.value)
