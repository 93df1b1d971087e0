"""Functions of several rows where infinities, zeros and ties meet: eager, differentiated and compiled they agree."""

import itertools
import math

import numpy as np
import pytest

import microgrid as mg
from microgrid import losses, ops
from microgrid.compiler.targets import numpy

inf, nan = math.inf, math.nan


def answers(f, x, target=None):
    """The value of f and its gradient by the numbers x, by every way; the target is Values, too, where there is one."""
    x = np.array(x)
    given = [x] if target is None else [x, np.array(target)]
    leaves = [list(map(mg.Value, numbers.tolist())) for numbers in given]
    output = f(*leaves)
    graph = [derivative.data for derivative in mg.gradient_graph(output, leaves[0])]
    output.backward()
    yield output.data, [leaf.grad for leaf in leaves[0]]
    yield output.data, graph
    for batch in (False, True):
        arrays = [numbers[None] if batch else numbers for numbers in given]
        compiled = mg.compile(lambda *lists: f(*map(list, lists)), batch=batch).kernel(*arrays)
        value, gradients = compiled.value_and_grad([], *arrays, by="arguments")
        yield value, gradients[0].ravel().tolist()
    if target is not None:  # plain numbers
        leaves = list(map(mg.Value, x.tolist()))
        output = f(leaves, target)
        output.backward()
        yield output.data, [leaf.grad for leaf in leaves]


@pytest.mark.parametrize(
    ("xs", "value", "gradient"),
    [
        ([-inf, -inf], -inf, [nan, nan]),
        ([-inf], -inf, [nan]),
        ([-inf, 1.0], 1.0, [0.0, 1.0]),
        ([inf, 1.0], inf, [nan, 0.0]),
        ([inf, -inf, inf], inf, [nan, 0.0, nan]),
        ([nan, 1.0], nan, [nan, nan]),
        ([1e308, 1e308], 1e308, [0.5, 0.5]),
    ],
)
def test_logsumexp_of_infinities_is_their_largest_with_the_gradients_of_pytorch(xs, value, gradient):
    for found, slopes in answers(mg.logsumexp, xs):
        assert found == pytest.approx(value, nan_ok=True)
        assert slopes == pytest.approx(gradient, nan_ok=True)
    assert mg.logsumexp(xs) == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize(
    ("loss", "logits", "target", "value", "gradient"),
    [
        (losses.binary_cross_entropy, [inf, -inf], [1.0, 0.0], 0.0, [0.0, 0.0]),
        (losses.binary_cross_entropy, [-inf, 0.0], [0.0, 0.5], math.log(2) / 2, [0.0, 0.0]),
        (losses.binary_cross_entropy, [inf], [0.5], inf, [0.5]),
        (losses.binary_cross_entropy, [inf], [0.0], inf, [1.0]),
        (losses.cross_entropy, [-inf, 0.0, 0.0], [0.0, 1.0, 0.0], math.log(2), [0.0, -0.5, 0.5]),
        (losses.cross_entropy, [-inf, 0.0, 0.0], [0.0, 0.5, 0.5], math.log(2), [0.0, 0.0, 0.0]),
        (losses.cross_entropy, [-inf, 3.0], [0.0, 1.0], 0.0, [0.0, 0.0]),
        (losses.cross_entropy, [-inf, 3.0], [1.0, 0.0], inf, [-1.0, 1.0]),
        (losses.cross_entropy, [inf, 3.0, 0.0], [0.0, 1.0, 0.0], inf, [nan, -1.0, 0.0]),
    ],
)
def test_a_class_that_weighs_nothing_adds_nothing_to_a_loss(loss, logits, target, value, gradient):
    for found, slopes in answers(loss, logits, target):
        assert found == pytest.approx(value, rel=1e-15)
        assert slopes == pytest.approx(gradient, rel=1e-15, nan_ok=True)


@pytest.mark.parametrize(
    ("logits", "value", "gradient"),
    [([inf, 3.0], inf, [1.0, -1.0]), ([3.0, inf], 0.0, [0.0, 0.0]), ([-inf, 3.0], 0.0, [0.0, 0.0])],
)
def test_a_class_against_one_other_has_the_loss_and_the_gradients_of_the_limit(logits, value, gradient):
    for found, slopes in answers(lambda xs: losses.cross_entropy(xs, 1), logits):
        assert found == value
        assert slopes == gradient


def test_a_target_that_is_0_has_the_gradient_that_the_loss_has_by_it():
    target, logit = mg.Value(0.0), mg.Value(2.0)
    losses.binary_cross_entropy(logit, target).backward()
    assert target.grad == pytest.approx(-2.0)  # softplus(−x) − softplus(x)


@pytest.mark.parametrize("n", [1, 3, 49, 98, 103, 4999])
@pytest.mark.parametrize("tile", [4_000_000, 1])
def test_the_mean_of_equal_numbers_is_that_number(n, tile, monkeypatch):
    monkeypatch.setattr(numpy, "_TILE_BYTES", tile)  # of 1 byte: no more than 512 samples at a time
    w = mg.Value(1.0)
    by_sample = mg.compile(lambda x, y: w * x * y)
    ones = np.ones(n)
    assert mg.mean([1.0] * n) == mg.mean([mg.Value(1.0)] * n).data == 1.0
    assert losses.mean_squared_error([1.0] * n, [0.0] * n) == 1.0
    assert by_sample(ones, ones).data == 1.0
    inner = mg.compile(lambda x: w * x)
    assert mg.compile(lambda xs: inner(list(xs)), batch=False)(ones).data == 1.0
    value, (theta, (dx, dy)) = by_sample.kernel(ones, ones).value_and_grad([1.0], ones, ones, by="both")
    assert value == 1.0
    assert [*theta, *dx * n, *dy * n] == pytest.approx([1.0] * (2 * n + 1), rel=1e-15)


@pytest.mark.parametrize(
    ("point", "hessian"),
    [
        ([0.0, 2.0], [[2.0, 0.0], [0.0, 0.0]]),
        ([0.0, 3.0], [[0.0, 0.0], [0.0, 0.0]]),
        ([0.0, 2.5], [[0.0, 0.0], [0.0, 0.0]]),
        ([0.0, 0.0], [[0.0, 0.0], [0.0, 0.0]]),
        ([1.0, 0.0], [[0.0, 1.0], [1.0, 0.0]]),
        ([5e-324, 2.0], [[2.0, 0.0], [0.0, 0.0]]),
    ],
)
def test_a_power_has_second_derivatives_at_0(point, hessian):
    def f(v):
        return v[0] ** v[1]

    rows = [mg.hvp(f, point, unit) for unit in ([1.0, 0.0], [0.0, 1.0])]
    for found in (mg.hessian(f)(point), rows):
        assert np.array(found) == pytest.approx(np.array(hessian), rel=1e-12, abs=1e-300)
    slopes = mg.compile(lambda v: mg.grad(f)(list(v)), batch=False).kernel(np.array(point))
    (compiled,) = slopes.value_and_grad([], np.array(point), by="arguments")[1]
    assert compiled == pytest.approx(np.array(hessian), rel=1e-12, abs=1e-300)


@pytest.mark.parametrize(("x", "slopes"), [(2.0, [0.0, 0.0, 0.0]), (0.0, [0.0, 0.0, 0.0]), (-1.0, [-inf, inf, -inf])])
def test_a_power_of_0_is_flat_to_any_order(x, slopes):
    f = lambda x: 0.0**x  # noqa: E731
    for slope in slopes:
        f = mg.grad(f)
        assert f(x) == slope


@pytest.mark.parametrize("make", [ops.base_of, ops.leaky_relu_of, ops.elu_of])
@pytest.mark.parametrize("first", [0.0, -0.0])
def test_a_constant_of_minus_0_is_not_that_of_0_whichever_comes_first(make, first):
    for constant in (first, -first, first):
        row = make(constant)
        assert math.copysign(1.0, row.recipe[1][0]) == math.copysign(1.0, constant)
        assert make(constant) is row
    assert ops.base_of(-0.0)(-3.0) == -inf
    assert ops.base_of(0.0)(-3.0) == inf
    assert math.copysign(1.0, ops.leaky_relu_of(-0.0)(-3.0)) == 1.0
    assert math.copysign(1.0, ops.elu_of(0.0)(-3.0)) == -1.0


def test_an_exponent_of_minus_0_is_0():
    assert ops.power_of(-0.0).name == ops.power_of(0.0).name == "power[0.0]"


@pytest.mark.parametrize("condition", [0.0, -1.5])
def test_a_choice_by_a_plain_number_has_derivatives_by_both(condition):
    def f(x):
        chosen, other = 2.0 * x[0], mg.sqrt(x[0])
        return mg.where(condition, *((chosen, other) if condition else (other, chosen))) + x[1]

    for value, gradient in answers(f, [0.0, 1.0]):
        assert [value, *gradient] == pytest.approx([1.0, nan, 1.0], nan_ok=True)
    for value, gradient in answers(f, [4.0, 1.0]):
        assert [value, *gradient] == [9.0, 2.0, 1.0]


def zeros():
    """Each row, argument and point where a local derivative that is a function is the number 0."""
    for op in [*ops.rows(), ops.leaky_relu_of(0.0), ops.elu_of(0.0)]:
        for k, partial in enumerate(op.partials):
            points = itertools.product((-1.5, -1.0, -0.25, 0.0, 0.25, 0.75, 1.0, 2.0), repeat=op.arity)
            flat = (xs for xs in points if math.isfinite(y := op(*xs)) and callable(partial) and partial(y, *xs) == 0.0)
            if xs := next(flat, None):
                yield pytest.param(op, k, list(xs), id=f"{op.name} by {k}")


def test_the_masks_are_among_the_rows_whose_derivative_is_somewhere_0():
    found = {(case.values[0].name, case.values[1]) for case in zeros()}
    choices = {("where", 1), ("where", 2), ("maximum", 0), ("maximum", 1), ("minimum", 0), ("minimum", 1)}
    assert {("relu", 0), ("clip", 0), ("abs", 0), ("leaky_relu[0.0]", 0), ("elu[0.0]", 0), *choices} <= found


@pytest.mark.parametrize(("op", "k", "xs"), list(zeros()))
def test_a_derivative_of_0_is_a_number_that_times_infinity_is_nan_in_every_mode(op, k, xs):
    y = op(*xs)

    def root(v):
        return mg.sqrt(op(*v) - y)  # whose slope is infinite here

    unit = [float(i == k) for i in range(op.arity)]
    by_one = mg.grad(lambda x: root([*xs[:k], x, *xs[k + 1 :]]))
    found = [slopes[k] for _, slopes in answers(root, xs)]
    found += [mg.jvp(root, xs, unit)[1], mg.grad(root)(xs)[k], by_one(xs[k]), mg.grad(by_one)(xs[k])]
    found += [mg.hvp(root, xs, unit)[k], mg.compile(lambda v: mg.jvp(root, list(v), unit)[1], batch=False)(xs).data]
    assert found == pytest.approx([nan] * len(found), nan_ok=True)


@pytest.mark.parametrize(
    "cut", [mg.stop_gradient, mg.floor, mg.sign, lambda v: mg.less(v, 1.0) - 1.0, lambda v: mg.where(v, 0.0, 1.0)]
)
def test_behind_a_constant_0_no_infinity_arrives_in_any_mode(cut):
    def root(v):
        return mg.sqrt(cut(v[0]) - cut(0.5))

    for _, slopes in answers(root, [0.5]):
        assert slopes == [0.0]
    assert mg.jvp(root, [0.5], [1.0])[1] == mg.hvp(root, [0.5], [1.0])[0] == 0.0
    assert mg.compile(lambda v: mg.jvp(root, list(v), [1.0])[1], batch=False)([0.5]).data == 0.0


@pytest.mark.parametrize(
    "mask",
    [
        lambda x: mg.relu(x),
        lambda x: mg.clip(x, 0.0, 1.0),
        lambda x: mg.maximum(x, 0.0),
        lambda x: mg.where(mg.greater(x, 0.0), x, 0.0),
    ],
)
@pytest.mark.parametrize("x", [-1.0, 0.0, 0.25])
def test_a_root_behind_a_mask_is_safe_where_its_argument_is_chosen_first(mask, x):
    def safe(v):
        inside = mg.greater(v[0], 0.0)
        return mg.where(inside, mg.sqrt(mask(mg.where(inside, v[0], 1.0))), 0.0)

    for value, slopes in answers(safe, [x]):
        assert (value, slopes) == ((0.5, [1.0]) if x > 0 else (0.0, [0.0]))
    assert mg.jvp(safe, [x], [1.0])[1] == float(x > 0)
