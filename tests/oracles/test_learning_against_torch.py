"""Layers, losses and optimisers give PyTorch's numbers."""

import functools

import pytest
import torch

from microgrid import losses, nn, optim
from microgrid.engine import Value

tensor_of = functools.partial(torch.tensor, dtype=torch.float64)
START = [1.0, -2.0, 0.5]
GRADIENTS = [[1.0, -0.5, 0.0], [0.25, 3.0, 0.0], [-2.0, 1e-3, 1e-8], [0.5, 0.5, 1e3]]
T = torch.optim


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda p: optim.SGD(p, 0.1, weight_decay=0.2), lambda p: T.SGD(p, 0.1, weight_decay=0.2)),
        (lambda p: optim.Momentum(p, 0.1), lambda p: T.SGD(p, 0.1, momentum=0.9)),
        (
            lambda p: optim.Nesterov(p, 0.1, 0.8, weight_decay=0.1),
            lambda p: T.SGD(p, 0.1, momentum=0.8, nesterov=True, weight_decay=0.1),
        ),
        (lambda p: optim.AdaGrad(p, 0.1, weight_decay=0.1), lambda p: T.Adagrad(p, 0.1, weight_decay=0.1)),
        (lambda p: optim.RMSprop(p, 0.1, weight_decay=0.1), lambda p: T.RMSprop(p, 0.1, weight_decay=0.1)),
        (lambda p: optim.Adam(p, 0.1, weight_decay=0.1), lambda p: T.Adam(p, 0.1, weight_decay=0.1)),
        (lambda p: optim.AdamW(p), lambda p: T.AdamW(p)),
        (lambda p: optim.Adam(p), lambda p: T.Adam(p)),
    ],
)
def test_an_optimiser_takes_pytorchs_steps_also_when_the_learning_rate_changes(ours, theirs):
    parameters, tensor = list(map(Value, START)), tensor_of(START, requires_grad=True)
    mine, reference = ours(parameters), theirs([tensor])
    for k, gradient in enumerate(GRADIENTS):
        mine.learning_rate /= 1 + k
        reference.param_groups[0]["lr"] /= 1 + k
        for parameter, g in zip(parameters, gradient, strict=True):
            parameter.grad = g
        tensor.grad = tensor_of(gradient)
        mine.step()
        reference.step()
        assert [p.data for p in parameters] == pytest.approx(tensor.tolist(), rel=1e-12)


F = torch.nn.functional


@pytest.mark.parametrize(
    ("ours", "theirs", "target"),
    [
        (losses.cross_entropy, F.cross_entropy, 2),
        (losses.cross_entropy, F.cross_entropy, [0.2, 0.3, 0.5]),
        (losses.binary_cross_entropy, F.binary_cross_entropy_with_logits, [0.0, 1.0, 0.25]),
        (losses.mean_squared_error, F.mse_loss, [0.0, 1.0, 4.0]),
    ],
)
@pytest.mark.parametrize("outputs", [[1.0, -2.0, 0.5], [700.0, -800.0, 3.0]])
def test_a_loss_and_its_gradient_are_pytorchs(ours, theirs, target, outputs):
    values, tensor = list(map(Value, outputs)), tensor_of(outputs, requires_grad=True)
    mine, reference = (
        ours(values, target),
        theirs(tensor, tensor_of(target) if isinstance(target, list) else torch.tensor(target)),
    )
    mine.backward()
    reference.backward()
    assert mine.data == pytest.approx(reference.item(), rel=1e-12)
    assert [v.grad for v in values] == pytest.approx(tensor.grad.tolist(), rel=1e-12, abs=1e-15)


def test_a_network_and_its_gradients_are_pytorchs():
    model = nn.Sequential(nn.Affine(3, 4, seed=0), nn.Tanh(), nn.MLP(4, [5, 2], seed=1), nn.Softmax())
    x = [0.5, -1.0, 2.0]
    model(x)[1].log().backward()
    y, parameters = tensor_of(x), []

    def affine(layer, y):
        weights = tensor_of([[w.data for w in neuron.w] for neuron in layer.neurons], requires_grad=True)
        biases = tensor_of([neuron.b.data for neuron in layer.neurons], requires_grad=True)
        parameters.append(torch.cat([weights, biases[:, None]], 1))
        parameters[-1].retain_grad()
        return parameters[-1] @ torch.cat([y, torch.ones(1, dtype=torch.float64)])

    y = torch.tanh(affine(model.modules[0], y))
    y = torch.relu(affine(model.modules[2].layers[0], y))
    torch.softmax(affine(model.modules[2].layers[1], y), 0)[1].log().backward()
    expected = [g for p in parameters for g in p.grad.flatten().tolist()]
    assert [p.grad for p in model.parameters()] == pytest.approx(expected, rel=1e-12, abs=1e-15)
