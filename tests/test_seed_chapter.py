"""Every system of chapter 5 of the book, "backpropagation", with the chapter's own numbers."""

import math
import random
import statistics

import pytest
from sklearn.datasets import load_digits

from microgrid import ops
from microgrid.engine import Value
from microgrid.losses import cross_entropy, sum_of_squares
from microgrid.nn import Affine, ReLU, Sequential, Sigmoid, Softmax
from microgrid.optim import SGD
from microgrid.recording import no_grad


def data_and_gradients(output, *leaves):
    output.backward()
    return output.data, [leaf.grad for leaf in leaves]


# -- 5.1 to 5.4: graphs of arithmetic ------------------------------------------------------------------


def test_two_apples_with_tax_cost_220():
    price, count, tax = Value(100, "apple"), Value(2, "number of apples"), Value(1.1, "tax")
    cost, gradients = data_and_gradients(price * count * tax, price, count, tax)
    assert cost == pytest.approx(220)
    assert gradients == pytest.approx([2.2, 110, 200])


def test_apples_and_oranges_with_tax_cost_715():
    apple, apples = Value(100, "apple"), Value(2, "number of apples")
    orange, oranges = Value(150, "orange"), Value(3, "number of oranges")
    tax = Value(1.1, "tax")
    fruit = apple * apples + orange * oranges
    cost, gradients = data_and_gradients(fruit * tax, apple, apples, orange, oranges, tax)
    assert cost == pytest.approx(715)
    assert gradients == pytest.approx([2.2, 110, 3.3, 165, 650])
    assert fruit.grad == pytest.approx(1.1)


def test_addition_passes_a_gradient_on_and_multiplication_turns_it_round():
    x, y = Value(10), Value(5)
    (x + y).backward(1.3)
    assert (x.grad, y.grad) == (1.3, 1.3)
    x, y = Value(10), Value(5)
    (x * y).backward(1.3)
    assert (x.grad, y.grad) == (6.5, 13.0)


# -- 5.5: activation layers ----------------------------------------------------------------------------


def test_a_relu_layer_lets_the_gradient_through_where_the_input_is_positive():
    x = list(map(Value, [1.0, -0.5, -2.0, 3.0]))
    y = ReLU()(x)
    assert [v.data for v in y] == [1.0, 0.0, 0.0, 3.0]
    ops.total(y).backward()
    assert [v.grad for v in x] == [1.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("x", [-3.0, 0.0, 0.5, 4.0])
def test_the_derivative_of_a_sigmoid_layer_is_y_times_1_minus_y(x):
    leaf = Value(x)
    y, (gradient,) = data_and_gradients(Sigmoid()(leaf), leaf)
    assert y == pytest.approx(1 / (1 + math.exp(-x)), rel=1e-15)
    assert gradient == pytest.approx(y * (1 - y), rel=1e-14)
    # The same layer node by node: the chapter simplifies ∂L/∂y · y² · exp(−x) to ∂L/∂y · y (1 − y).
    leaf = Value(x)
    _, (gradient,) = data_and_gradients(1 / (1 + (-leaf).exp()), leaf)
    assert gradient == pytest.approx(y**2 * math.exp(-x), rel=1e-14)
    assert gradient == pytest.approx(y * (1 - y), rel=1e-14)


# -- 5.6: affine and softmax-with-loss -----------------------------------------------------------------


def test_an_affine_layer_is_a_matrix_product_and_so_are_its_gradients():
    weights, biases, x, upstream = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [0.1, 0.2, 0.3], [0.5, -1.0], [1.0, -2.0, 0.5]
    layer = Affine(2, 3)
    for neuron, row, bias in zip(layer.neurons, weights, biases, strict=True):
        neuron.b.data = bias
        for w, number in zip(neuron.w, row, strict=True):
            w.data = number
    inputs = list(map(Value, x))
    y = layer(inputs)
    assert [v.data for v in y] == pytest.approx([b + ops.dot(row, x) for row, b in zip(weights, biases, strict=True)])
    ops.dot(y, upstream).backward()
    assert [v.grad for v in inputs] == pytest.approx(
        [ops.dot(column, upstream) for column in zip(*weights, strict=True)]
    )
    for neuron, gradient in zip(layer.neurons, upstream, strict=True):
        assert neuron.b.grad == gradient
        assert [w.grad for w in neuron.w] == pytest.approx([gradient * xi for xi in x])


@pytest.mark.parametrize("target", [[0, 1, 0], 1])
@pytest.mark.parametrize(
    ("output", "gradient"), [([0.3, 0.2, 0.5], [0.3, -0.8, 0.5]), ([0.01, 0.99, 0.0], [0.01, -0.01, 0.0])]
)
def test_softmax_with_loss_sends_back_y_minus_t(target, output, gradient):
    logits = [Value(ops.log(y)) for y in output]
    assert [y.data for y in Softmax()(logits)] == pytest.approx(output, rel=1e-15)
    loss, gradients = data_and_gradients(cross_entropy(logits, target), *logits)
    assert loss == pytest.approx(-math.log(output[1]), rel=1e-15)
    assert gradients == pytest.approx(gradient, rel=1e-15, abs=1e-15)


def test_identity_with_the_sum_of_squares_sends_back_y_minus_t_too():
    outputs = list(map(Value, [0.3, 0.2, 0.5]))
    identity = [ops.identity(y) for y in outputs]
    loss, gradients = data_and_gradients(sum_of_squares(identity, [0, 1, 0]), *outputs)
    assert loss == pytest.approx(0.5 * (0.09 + 0.64 + 0.25), rel=1e-15)
    assert gradients == [0.3, -0.8, 0.5]


# -- 5.7: learning -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    """Real digits of 8 × 8 pixels from 0 to 1, with their labels."""
    images, labels = load_digits(return_X_y=True)
    return (images / 16).tolist(), labels.tolist()


def two_layers(seed):
    """The book's TwoLayerNet: Affine, ReLU, Affine; softmax belongs to the loss."""
    generator = random.Random(seed)
    return Sequential(Affine(64, 12, seed=generator), ReLU(), Affine(12, 10, seed=generator))


def mean_loss(network, images, labels):
    return ops.mean(cross_entropy(network(x), t) for x, t in zip(images, labels, strict=True))


@no_grad()
def accuracy(network, images, labels):
    scores = ([y.data for y in network(x)] for x in images)
    return statistics.fmean(s.index(max(s)) == t for s, t in zip(scores, labels, strict=True))


@pytest.mark.no_cover  # long, and what it runs is covered by others
def test_a_two_layer_network_learns_real_digits_in_the_four_steps(digits):
    images, labels = digits
    chooser = random.Random(0)
    network = two_layers(seed=2)
    optimizer = SGD(network.parameters(), learning_rate=0.3)
    held_out = range(1000, 1200)
    before = accuracy(network, [images[i] for i in held_out], [labels[i] for i in held_out])
    losses = []
    for _ in range(120):  # 4. repeat
        batch = chooser.sample(range(1000), 10)  # 1. minibatch
        optimizer.zero_grad()
        loss = mean_loss(network, [images[i] for i in batch], [labels[i] for i in batch])
        loss.backward()  # 2. gradients
        optimizer.step()  # 3. update
        losses.append(loss.data)
    after = accuracy(network, [images[i] for i in held_out], [labels[i] for i in held_out])
    assert statistics.fmean(losses[:10]) > 2.0
    assert statistics.fmean(losses[-10:]) < 0.6
    assert before < 0.3
    assert after > 0.8


@pytest.mark.no_cover  # long, and what it runs is covered by others
def test_backpropagation_agrees_with_numerical_gradients_of_which_each_takes_two_passes(digits):
    images, labels = digits
    network = two_layers(seed=2)
    parameters = dict(network.named_parameters())

    loss = mean_loss(network, images[:2], labels[:2])
    loss.backward()

    evaluations = 0
    numerical = {}
    h = 1e-4  # the book's
    for name, p in parameters.items():
        x = p.data
        sides = []
        for p.data in (x + h, x - h):
            with no_grad():
                sides.append(mean_loss(network, images[:2], labels[:2]).data)
            evaluations += 1
        p.data = x
        numerical[name] = (sides[0] - sides[1]) / (2 * h)

    for layer, names in ("modules.0", "W1, b1"), ("modules.2", "W2, b2"):
        differences = [abs(p.grad - numerical[name]) for name, p in parameters.items() if name.startswith(layer)]
        assert len(differences) == {"modules.0": 65 * 12, "modules.2": 13 * 10}[layer]
        assert statistics.fmean(differences) < 1e-9, names
    assert any(p.grad for p in parameters.values())
    assert evaluations == 2 * 910  # beside one pass forward and one back
