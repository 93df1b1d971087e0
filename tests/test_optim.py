"""Optimisers: literal formulas of the book, one rule for Values and arrays, and clear errors."""

import copy
import functools
import json
import math
import pickle
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interrupting import interrupted

from microgrid.engine import Value
from microgrid.nn import MLP
from microgrid.optim import MANY, SGD, AdaGrad, Adam, AdamW, Momentum, Nesterov, RMSprop

OPTIMIZERS = [
    lambda p: SGD(p, 0.1),
    lambda p: SGD(p, 0.1, weight_decay=0.2),
    lambda p: Momentum(p, 0.1, 0.8),
    lambda p: Nesterov(p, 0.1, 0.8, weight_decay=0.1),
    lambda p: AdaGrad(p, 0.1),
    lambda p: RMSprop(p, 0.01, 0.9, weight_decay=0.1),
    lambda p: Adam(p, 0.05, weight_decay=0.1),
    lambda p: Adam(p, 0.05, 0.0, 0.5, epsilon=0.1),
    lambda p: AdamW(p, 0.05, weight_decay=0.3),
]
START = [1.0, -2.0, 0.5]
TIMES = -(-MANY // len(START))
GRADIENTS = [[1.0, -0.5, 0.0], [0.25, 3.0, 0.0], [-2.0, 1e-3, 1e-8], [0.5, 0.5, 1e8]]


def kind(make):
    return repr(make([Value(0.0)]))


def run(optimizer, gradients):
    """The numbers of the parameters after each step."""
    for step in gradients:
        for parameter, gradient in zip(optimizer.parameters, step, strict=True):
            parameter.grad = gradient
        optimizer.step()
        yield [parameter.data for parameter in optimizer.parameters]


# -- the formulas, word for word as the book's code has them ------------------------------------------


def book_sgd(w, gradients, rate=0.1):
    for g in gradients:
        yield (w := w - rate * g)


def book_momentum(w, gradients, rate=0.1, momentum=0.9):
    v = 0.0
    for g in gradients:
        v = momentum * v - rate * g
        yield (w := w + v)


def book_nesterov(w, gradients, rate=0.1, momentum=0.9):
    v = 0.0
    for g in gradients:
        w = w + momentum * momentum * v
        w = w - (1 + momentum) * rate * g
        v = momentum * v - rate * g
        yield w


def book_adagrad(w, gradients, rate=0.1):
    h = 0.0
    for g in gradients:
        h += g * g
        yield (w := w - rate * g / (math.sqrt(h) + 1e-7))


def book_rmsprop(w, gradients, rate=0.1, decay=0.99):
    h = 0.0
    for g in gradients:
        h *= decay
        h += (1 - decay) * g * g
        yield (w := w - rate * g / (math.sqrt(h) + 1e-7))


def book_adam(w, gradients, rate=0.1, beta1=0.9, beta2=0.999):
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        rate_t = rate * math.sqrt(1.0 - beta2**t) / (1.0 - beta1**t)
        m += (1 - beta1) * (g - m)
        v += (1 - beta2) * (g**2 - v)
        # the book adds 1e-7 to √v; with 1e-15 it is PyTorch's ε as well, for gradients that are not tiny
        yield (w := w - rate_t * m / (math.sqrt(v) + 1e-15))


@pytest.mark.parametrize(
    ("make", "book"),
    [
        (lambda p: SGD(p, 0.1), book_sgd),
        (lambda p: Momentum(p, 0.1), book_momentum),
        (lambda p: Nesterov(p, 0.1), book_nesterov),
        (lambda p: AdaGrad(p, 0.1, epsilon=1e-7), book_adagrad),
        (lambda p: RMSprop(p, 0.1, epsilon=1e-7), book_rmsprop),
        (lambda p: Adam(p, 0.1, epsilon=1e-15), book_adam),
    ],
    ids=lambda f: getattr(f, "__name__", ""),
)
def test_the_steps_are_the_books(make, book):
    gradients = [0.5, -1.0, 2.0, 0.1, 0.1]
    ours = [numbers[0] for numbers in run(make([Value(3.0)]), [[g] for g in gradients])]
    assert ours == pytest.approx(list(book(3.0, gradients)), rel=1e-12)


def test_adamw_shrinks_the_weights_past_the_moments():
    (decayed,), (plain,) = [
        next(run(make([Value(2.0)]), [[0.5]]))
        for make in (
            lambda p: AdamW(p, 0.1, weight_decay=0.3),
            lambda p: Adam(p, 0.1),
        )
    ]
    assert decayed == pytest.approx(plain - 0.1 * 0.3 * 2.0, rel=1e-15)


# -- Values and arrays ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make", OPTIMIZERS, ids=kind)
def test_arrays_and_values_take_the_same_steps_also_in_turn(make):
    parameters = list(map(Value, START))
    by_values = list(run(make(parameters), GRADIENTS))
    theta, by_arrays = np.array(START), []
    optimizer = make(list(map(Value, START)))
    for gradient in GRADIENTS:
        theta = optimizer.update(theta, np.array(gradient))
        by_arrays.append(theta.tolist())
    assert by_arrays == by_values
    assert [p.data for p in optimizer.parameters] == START, "update() leaves the Values as they are"
    in_turn = make(list(map(Value, START)))
    *_, halfway = run(in_turn, GRADIENTS[:1])
    theta = in_turn.update(in_turn.update(np.array(halfway), np.array(GRADIENTS[1])), np.array(GRADIENTS[2]))
    for parameter, number in zip(in_turn.parameters, theta, strict=True):
        parameter.data = number
    assert list(run(in_turn, GRADIENTS[3:]))[-1] == by_values[-1]
    assert type(in_turn.parameters[0].data) is float
    assert in_turn.steps == 4


@pytest.mark.parametrize("make", OPTIMIZERS, ids=kind)
def test_many_values_take_the_steps_of_few_to_the_last_digit(make):
    draw = random.Random(0)
    ordinary = [[draw.gauss(0.0, 10.0 ** draw.randint(-9, 3)) for _ in START] for _ in range(300)]
    gradients = [*ordinary, [-0.0, 1e200, 5e-324], [1e-200, math.inf, math.nan]]
    few = list(run(make(list(map(Value, START))), gradients))
    many = run(make(list(map(Value, START * TIMES))), [step * TIMES for step in gradients])
    assert list(map(repr, many)) == [repr(numbers * TIMES) for numbers in few]


def test_a_formula_of_floats_moves_many_values():
    class Clipped(SGD):
        def formula(self, parameter, gradient, *memory):
            return super().formula(parameter, max(-1.0, min(1.0, gradient)), *memory)

    (numbers,) = run(Clipped([Value(0.0) for _ in range(MANY)], 1.0), [[2.0, *[0.5] * (MANY - 1)]])
    assert numbers == [-1.0, *[-0.5] * (MANY - 1)]


@pytest.mark.parametrize("make", OPTIMIZERS, ids=kind)
def test_single_precision_stays_single(make):
    optimizer = make(list(map(Value, START)))
    theta = np.array(START, np.float32)
    for _ in range(2):
        theta = optimizer.update(theta, np.ones(3, np.float32))
    assert theta.dtype == np.float32


@given(st.lists(st.floats(), min_size=3, max_size=3))
def test_no_gradient_makes_a_step_raise(gradient):
    for make in OPTIMIZERS:
        optimizer = make(list(map(Value, START)))
        with np.errstate(all="ignore"):
            expected = optimizer.update(np.array(START), np.array(gradient))
        optimizer = make(list(map(Value, START)))
        assert next(run(optimizer, [gradient])) == pytest.approx(expected.tolist(), rel=1e-13, nan_ok=True)


# -- learning ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", OPTIMIZERS[:1] + OPTIMIZERS[2:8:2] + OPTIMIZERS[4:6], ids=kind)
def test_an_optimiser_goes_downhill(make):
    x, y = Value(3.0), Value(-2.0)
    optimizer = make([x, y])
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = x * x + 0.5 * y * y
        loss.backward()
        losses.append(loss.data)
        optimizer.step()
    assert losses[-1] < 0.75 * losses[0]
    optimizer.zero_grad()
    assert (x.grad, y.grad) == (0.0, 0.0)


def test_the_learning_rate_may_change_between_steps():
    (w,) = parameters = [Value(1.0)]
    optimizer = SGD(parameters, 0.5)
    w.grad = 1.0
    optimizer.step()
    optimizer.learning_rate = 0.25
    optimizer.step()
    assert w.data == 0.25
    assert repr(optimizer) == "SGD(1 parameters, learning_rate=0.25, weight_decay=0.0)"


# -- interruptions -------------------------------------------------------------------------------------


def state_of(optimizer):
    return [parameter.data for parameter in optimizer.parameters], optimizer.state_dict()


@pytest.mark.parametrize("make", OPTIMIZERS, ids=kind)
@pytest.mark.parametrize("before", ["values", "arrays", "many"])
def test_a_step_that_is_interrupted_at_any_instruction_is_taken_whole_or_not_at_all(make, before, monkeypatch):
    monkeypatch.setattr("microgrid.optim.MANY", 1 if before == "many" else MANY)

    def begun():
        optimizer = make(list(map(Value, START)))
        if before != "arrays":
            list(run(optimizer, GRADIENTS[:1]))
        else:
            optimizer.update(np.array(START), np.array(GRADIENTS[0]))
        for parameter, gradient in zip(optimizer.parameters, GRADIENTS[1], strict=True):
            parameter.grad = gradient
        return optimizer

    optimizer, whole = begun(), begun()
    none = state_of(optimizer)
    whole.step()
    at, found = 1, []
    while interrupted(optimizer.step, at):
        found.append(state_of(optimizer))
        optimizer, at = begun(), at + 1
    assert all(state in (none, state_of(whole)) for state in found)
    assert found[0] == none
    assert len(found) > 100


@pytest.mark.parametrize("make", OPTIMIZERS, ids=kind)
def test_an_update_of_arrays_that_is_interrupted_at_any_instruction_is_remembered_whole_or_not_at_all(make):
    start, gradient = np.array(START), np.array(GRADIENTS[0])
    optimizer, whole = (make(list(map(Value, START))) for _ in range(2))
    none = state_of(optimizer)
    whole.update(start, gradient)
    at = 1
    while interrupted(functools.partial(optimizer.update, start, gradient), at):
        assert state_of(optimizer) in (none, state_of(whole))
        optimizer, at = make(list(map(Value, START))), at + 1
    assert at > 50


# -- state ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", OPTIMIZERS, ids=kind)
@pytest.mark.parametrize(
    "store", [copy.deepcopy, lambda state: json.loads(json.dumps(state)), lambda s: pickle.loads(pickle.dumps(s))]
)
def test_an_optimiser_goes_on_from_its_state(make, store):
    *_, expected = run(make(list(map(Value, START))), GRADIENTS)
    first = make(list(map(Value, START)))
    *_, halfway = run(first, GRADIENTS[:2])
    second = type(first)(list(map(Value, halfway)))
    second.load_state_dict(store(first.state_dict()))
    assert list(run(second, GRADIENTS[2:]))[-1] == expected
    assert (second.learning_rate, second.steps) == (first.learning_rate, 4)


def test_the_state_after_an_update_of_arrays_is_plain_numbers():
    optimizer = Adam(list(map(Value, START)))
    optimizer.update(np.array(START), np.array(GRADIENTS[0]))
    assert json.loads(json.dumps(optimizer.state_dict())) == optimizer.state_dict()


@pytest.mark.parametrize("number", [np.float32(0.1), np.float64(0.1), np.int64(1), np.float16(0.5), 1, True])
@pytest.mark.parametrize("times", [1, TIMES])
def test_a_setting_that_is_given_later_may_be_any_real_number(number, times):
    first, second = (Momentum(list(map(Value, START * times)), weight_decay=0.1) for _ in range(2))
    first.learning_rate, second.learning_rate = number, float(number)
    gradients = [[*step[:2], 1e100] * times for step in GRADIENTS[:3]]
    assert first.state_dict() == second.state_dict()
    assert [*run(first, gradients[:2])] == [*run(second, gradients[:2])]
    first.learning_rate = number
    arrays = np.array(START * times), np.array(gradients[2])
    assert first.update(*arrays).tolist() == second.update(*arrays).tolist()
    assert first.state_dict() == second.state_dict()


STATE = Momentum([Value(0.0)], 0.1).state_dict()


@pytest.mark.parametrize(
    ("state", "error", "says"),
    [
        (Adam([Value(0.0)]).state_dict(), ValueError, ["expected Momentum with", "velocity", "got Adam with", "beta1"]),
        ({**STATE, "extra": 1}, ValueError, ["extra"]),
        ({**STATE, "memory": [0.0]}, ValueError, ["got Momentum"]),
        ({**STATE, "memory": {}}, ValueError, ["expected Momentum"]),
        ({**STATE, "memory": {"velocity": [0.0, 1.0]}}, ValueError, ["of 2 parameters (velocity)", "has 1"]),
        ({**STATE, "memory": {"velocity": ["a"]}}, TypeError, ["'a'"]),
        ({**STATE, "momentum": "0.9"}, TypeError, ["momentum", "'0.9'"]),
        ({**STATE, "momentum": 1.0}, ValueError, ["momentum must be at least 0 and below 1; got 1.0"]),
        ({**STATE, "learning_rate": -1.0}, ValueError, ["learning_rate must be above 0", "-1.0"]),
        ({**STATE, "learning_rate": math.nan}, ValueError, ["learning_rate", "nan"]),
        ({**STATE, "learning_rate": None}, TypeError, ["learning_rate", "None"]),
        ({**STATE, "weight_decay": math.inf}, ValueError, ["weight_decay", "finite", "inf"]),
        ({**STATE, "steps": -1}, ValueError, ["steps must be at least 0", "-1"]),
        ({**STATE, "steps": 1.5}, ValueError, ["steps must be a whole number; got 1.5"]),
        ({**STATE, "steps": math.nan}, ValueError, ["steps", "nan"]),
        ({**STATE, "steps": math.inf}, ValueError, ["steps", "inf"]),
        ({**STATE, "steps": "3"}, TypeError, ["steps", "'3'"]),
        ({**STATE, "memory": {"velocity": None}}, TypeError, ["velocity must be a list of numbers", "None"]),
        ({**STATE, "memory": {"velocity": "1"}}, TypeError, ["velocity must be a list of numbers", "'1'"]),
        ({**STATE, "memory": {"velocity": {"a": 1.0}}}, TypeError, ["velocity must be a list of numbers", "'a'"]),
        ({**STATE, "memory": {"velocity": [[1.0]]}}, TypeError, ["velocity", "[1.0]"]),
        ({name: value for name, value in STATE.items() if name != "steps"}, ValueError, ["expected Momentum", "steps"]),
        ({}, ValueError, ["expected Momentum", "got an empty dict. Load"]),
        ({"a": 1.0}, ValueError, ["got a state of no optimiser with a. Load"]),
        ({"optimizer": "Adam"}, ValueError, ["got Adam with optimizer. Load"]),
        (None, TypeError, ["None"]),
        ([1.0], TypeError, ["[1.0]"]),
        ("state", TypeError, ["'state'"]),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(state, error, says):
    optimizer = Momentum([Value(0.0)], 0.2)
    list(run(optimizer, [[1.0]]))
    before = optimizer.state_dict()
    with pytest.raises(error) as raised:
        optimizer.load_state_dict(state)
    for part in says:
        assert part in str(raised.value)
    assert optimizer.state_dict() == before


@pytest.mark.parametrize("make", OPTIMIZERS, ids=kind)
def test_a_state_is_refused_where_the_constructor_refuses_its_settings_and_where_a_square_is_negative(make):
    optimizer = make(list(map(Value, START)))
    list(run(optimizer, GRADIENTS))
    good = optimizer.state_dict()
    settings = [name for name in good if name not in ("optimizer", "memory", "steps")]
    for name in settings:
        for wrong in (-1.0, math.nan, math.inf, "1", None):
            with pytest.raises((ValueError, TypeError), match=name):
                type(optimizer)(list(map(Value, START)), **{name: wrong})
            with pytest.raises((ValueError, TypeError), match=f"{name}.*this one is unchanged"):
                optimizer.load_state_dict({**good, name: wrong})
    for name in good["memory"]:
        negative = {**good, "memory": {**good["memory"], name: [-1.0, 0.0, 0.0]}}
        if name.endswith("squares"):
            with pytest.raises(ValueError, match=rf"{name} cannot be negative; got -1\.0"):
                optimizer.load_state_dict(negative)
        else:
            type(optimizer)(list(map(Value, START))).load_state_dict(negative)
    assert optimizer.state_dict() == good


def test_a_state_keeps_whole_numbers_and_infinite_memory_as_they_are():
    class Periodic(AdaGrad):
        def __init__(self, parameters):
            super().__init__(parameters)
            self.period, self.nesterov = 10, True

    first, second = (Periodic([Value(1.0)]) for _ in range(2))
    list(run(first, [[1e200]]))
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
    assert first.state_dict()["memory"] == {"sum_of_squares": [math.inf]}
    assert [repr(x) for x in (second.period, second.nesterov, second.steps)] == ["10", "True", "1"]


@pytest.mark.parametrize("make", OPTIMIZERS[2:], ids=kind)
def test_a_state_is_loaded_whole_or_not_at_all_if_it_is_interrupted(make):
    other = make(list(map(Value, START)))
    list(run(other, GRADIENTS))
    optimizer, at = make(list(map(Value, START))), 1
    none = optimizer.state_dict()
    while interrupted(functools.partial(optimizer.load_state_dict, other.state_dict()), at):
        assert optimizer.state_dict() in (none, other.state_dict())
        optimizer, at = make(list(map(Value, START))), at + 5


# -- wrong input ---------------------------------------------------------------------------------------

w = Value(1.0)


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda: SGD([]), ValueError, ["at least one parameter"]),
        (lambda: SGD(MLP(1, [1])), TypeError, ["model.parameters()", "MLP"]),
        (lambda: SGD(w), TypeError, ["model.parameters()", "Value"]),
        (lambda: SGD([1.0]), TypeError, ["leaf Values", "1.0"]),
        (lambda: SGD([w * 2]), TypeError, ["leaf Values", "the result of mul"]),
        (lambda: SGD([w, w]), ValueError, ["each parameter once", "Value(data=1.0"]),
        (lambda: SGD([w], 0.0), ValueError, ["learning_rate must be above 0", "0.0"]),
        (lambda: SGD([w], math.nan), ValueError, ["learning_rate", "nan"]),
        (lambda: SGD([w], math.inf), ValueError, ["learning_rate", "finite", "inf"]),
        (lambda: SGD([w], "0.1"), TypeError, ["'0.1'"]),
        (lambda: SGD([w], weight_decay=-1), ValueError, ["weight_decay must be at least 0", "-1"]),
        (lambda: Momentum([w], momentum=1), ValueError, ["momentum must be at least 0 and below 1; got 1"]),
        (lambda: RMSprop([w], decay=1.5), ValueError, ["decay", "1.5"]),
        (lambda: RMSprop([w], epsilon=0), ValueError, ["epsilon must be above 0"]),
        (lambda: AdaGrad([w], epsilon=-1), ValueError, ["epsilon"]),
        (lambda: Adam([w], beta1=-0.1), ValueError, ["beta1"]),
        (lambda: Adam([w], beta2=1.0), ValueError, ["beta2"]),
        (lambda: AdamW([w], epsilon=0.0), ValueError, ["epsilon"]),
        (lambda: SGD([w], lr=0.1), TypeError, ["SGD takes learning_rate, weight_decay", "no 'lr'"]),
        (lambda: Adam([w], betas=(0.9, 0.999)), TypeError, ["beta1, beta2, epsilon", "no 'betas'"]),
        (lambda: SGD([w], 0.1, eps=1.0, lr=2.0), TypeError, ["no 'eps', 'lr'"]),
        (lambda: SGD(None), TypeError, ["model.parameters()", "NoneType"]),
        (lambda: SGD("w"), TypeError, ["leaf Values", "'w'"]),
        (lambda: SGD([w]).update(np.ones(2), np.ones(2)), ValueError, ["parameters", "shape (1,)", "(2,)"]),
        (lambda: SGD([w]).update(np.ones(1), [1.0]), ValueError, ["gradients", "shape (1,)", "list"]),
    ],
)
def test_wrong_settings_are_errors_that_name_them(wrong, error, says):
    with pytest.raises(error) as raised:
        wrong()
    for part in says:
        assert part in str(raised.value)
