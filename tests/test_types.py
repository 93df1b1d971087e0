"""Type checkers know what users get: mypy reads this file, and each line is true when it runs."""

from typing import assert_type

import microgrid as mg
from microgrid import Value, losses, nn
from microgrid.calculus import Gradient
from microgrid.compiler import Compiled
from microgrid.training import History


def given() -> tuple[Value, Value]:
    return Value(2.0, "x"), Value(-3.0, "w")


def is_a(kind: type, *found: object) -> None:
    assert [type(one) for one in found] == [kind] * len(found)


def test_operations_and_operators_give_values_of_values_and_floats_of_floats() -> None:
    x, w = given()
    is_a(Value, assert_type(mg.sin(x), Value), assert_type(mg.maximum(x, 1.0), Value), assert_type(x.tanh(), Value))
    is_a(Value, assert_type(x * w, Value), assert_type(1 / x, Value), assert_type(x**2, Value))
    is_a(float, assert_type(mg.sin(1.0), float), assert_type(mg.maximum(2, 1.0), float), assert_type(x.data, float))
    is_a(bool, assert_type(x < w, bool))


def test_functions_of_sequences_give_values_of_values_and_floats_of_floats() -> None:
    x, w = given()
    is_a(Value, assert_type(mg.total([x, w]), Value), assert_type(mg.mean(each for each in (x, w)), Value))
    is_a(Value, assert_type(mg.dot([x], [w]), Value), assert_type(mg.dot([1.0], [w]), Value))
    is_a(Value, assert_type(mg.prod([x, w]), Value), assert_type(mg.logsumexp([x, w]), Value))
    is_a(Value, *assert_type(mg.softmax([x, w]), list[Value]), assert_type(mg.dist([x], [1.0]), Value))
    is_a(
        Value,
        assert_type(mg.take([x, w], 0), Value),
        assert_type(mg.pow(x, 3), Value),
        assert_type(mg.pow(2, x), Value),
    )
    is_a(
        float,
        assert_type(mg.total([1.0, 2]), float),
        assert_type(mg.total(3.0), float),
        assert_type(mg.mean([1]), float),
    )
    is_a(float, assert_type(mg.dot([1.0], [2.0]), float), *assert_type(mg.softmax([1.0, 2.0]), list[float]))


def test_networks_give_what_their_layers_give() -> None:
    x, w = given()
    model = nn.MLP(2, [3, 1], seed=1)
    is_a(Value, assert_type(nn.Neuron(2)([x, w]), Value), assert_type(nn.ReLU()(x), Value))
    is_a(Value, *assert_type(nn.Tanh()([x, w]), list[Value]), *assert_type(nn.Softmax()([x, w]), list[Value]))
    is_a(Value, *assert_type(model.parameters(), list[Value]))


def test_losses_give_one_value() -> None:
    x, w = given()
    is_a(Value, assert_type(losses.cross_entropy([x, w], 1), Value), assert_type(losses.hinge(x, 1), Value))
    is_a(
        Value,
        assert_type(losses.mean_squared_error(x, 1.0), Value),
        assert_type(losses.sum_of_squares([x], [w]), Value),
    )
    is_a(float, assert_type(losses.cross_entropy([1.0, 2.0], 1), float))


def test_a_gradient_has_the_structure_of_the_argument() -> None:
    x, _ = given()
    slope = assert_type(mg.grad(lambda x: x * x * x), Gradient)
    is_a(float, assert_type(slope(2.0), float), assert_type(mg.grad(slope)(2.0), float))
    is_a(Value, assert_type(slope(x), Value), *assert_type(mg.gradient_graph(x * x, [x]), list[Value]))
    is_a(float, *assert_type(mg.grad(lambda x: x[0] * x[1])([2.0, 3.0]), list[float]))
    is_a(float, *assert_type(mg.value_and_grad(lambda x: x * x)(2.0), tuple[float, float]))


@mg.compile
def area(a: Value, b: Value) -> Value:
    return a * b


@mg.compile(reduce=None)
def areas(a: Value, b: Value) -> Value:
    return a * b


def both(a: Value) -> tuple[Value, Value]:
    return a, a * a


def test_a_compiled_function_gives_what_the_function_gives() -> None:
    assert_type(area, Compiled[Value])
    is_a(Value, assert_type(area([1.0, 2.0], [3.0, 4.0]), Value))
    is_a(Value, *assert_type(areas([1.0, 2.0], [3.0, 4.0]), list[Value]))
    is_a(Value, *assert_type(mg.compile(both, batch=False)(2.0), tuple[Value, Value]))
    is_a(
        mg.Kernel, assert_type(mg.compile(mg.sin(Value(1.0))), mg.Kernel), assert_type(area.kernel([1], [2]), mg.Kernel)
    )


def test_what_checks_draws_and_trains_gives_its_own_kind() -> None:
    x, w = given()
    model = nn.Affine(1, 1, seed=1)
    trained = mg.fit(model, [[0.0]], [1.0], loss=losses.mean_squared_error, epochs=1, quiet=True)
    is_a(History, assert_type(trained, History))
    is_a(mg.Report, assert_type(mg.check(x * w), mg.Report))
    is_a(mg.Picture, assert_type(mg.draw(x * w), mg.Picture))
