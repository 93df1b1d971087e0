"""A user's own loop of learning: ``training_step``."""

import gc
import weakref

import numpy as np
import pytest

import microgrid as mg
from microgrid import losses, nn, optim
from microgrid.compiler import Kernel
from microgrid.data import minibatches

generator = np.random.default_rng(5)
X = generator.normal(size=(40, 3))
Y = np.eye(2)[(X[:, 0] * X[:, 1] > 0).astype(int)]


def network(*within):
    return nn.Sequential(nn.Affine(3, 6, seed=0), nn.Tanh(), *within, nn.Affine(6, 2, seed=1))


def loss_of(model, **options):
    return mg.compile(lambda x, y: losses.cross_entropy(model(x), y), **options)


def batches():
    return [batch for _ in range(3) for batch in minibatches(X, Y, 16, seed=2)]


def numbers(model):
    return [w.data for w in model.parameters()]


def by_hand(optimizer_of):
    model = network()
    loss, optimizer = loss_of(model), optimizer_of(model.parameters())
    found = []
    for x, y in batches():
        optimizer.zero_grad()
        value = loss(x, y)
        value.backward()
        optimizer.step()
        found.append(value.data)
    return found, numbers(model), [w.grad for w in model.parameters()], optimizer.state_dict()


OPTIMIZERS = [
    lambda w: optim.SGD(w, 0.1),
    lambda w: optim.Nesterov(w, 0.1, weight_decay=0.01),
    lambda w: optim.AdamW(w, 0.05),
    lambda w: optim.Adam(w[::2], 0.05),
]


@pytest.mark.parametrize("target", [None, "numpy", "native"])
@pytest.mark.parametrize("in_block", [True, False])
@pytest.mark.parametrize("optimizer_of", OPTIMIZERS)
def test_a_step_does_what_backward_and_the_optimiser_do(optimizer_of, in_block, target):
    expected, after, gradients, state = by_hand(optimizer_of)
    model = network()
    optimizer = optimizer_of(model.parameters())
    step = mg.training_step(loss_of(model, target=target), optimizer)
    if in_block:
        with step:
            found = [step(x, y) for x, y in batches()]
    else:
        found = [step(x, y) for x, y in batches()]
    assert found == pytest.approx(expected, rel=1e-10)
    np.testing.assert_allclose(numbers(model), after, rtol=1e-9)
    moved = {id(w) for w in optimizer.parameters}
    for w, gradient in zip(model.parameters(), gradients, strict=True):
        assert w.grad == (pytest.approx(gradient, rel=1e-8, abs=1e-12) if id(w) in moved else 0.0)
    assert optimizer.steps == state["steps"]
    for name, memory in optimizer.state_dict()["memory"].items():
        np.testing.assert_allclose(memory, state["memory"][name], rtol=1e-8, atol=1e-12)


READS = {
    "data": numbers,
    "state": lambda model: [*model.state_dict().values()],
    "prediction": lambda model: model.predict(X[:1])[0].tolist(),
    "call": lambda model: [y.data for y in mg.compile(model, reduce=None)(X[:1])[0]],
    "kernel": lambda model: mg.compile(model, reduce=None).kernel(X[:1]).read().tolist(),
    "comparison": lambda model: [model.parameters()[0] > 0.9, model.parameters()[0] == 0.5],
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_whoever_reads_the_parameters_in_a_block_gets_the_numbers_of_now(read):
    found = []
    for in_block in (True, False):
        model = network()
        step = mg.training_step(loss_of(model), optim.SGD(model.parameters(), 0.2))
        seen = []
        if in_block:
            with step:
                for x, y in batches():
                    step(x, y)
                    seen.append(read(model))
        else:
            for x, y in batches():
                step(x, y)
                seen.append(read(model))
        found.append(seen)
    assert found[0] == found[1]


def test_graphs_of_parameters_that_have_moved_are_refused_until_they_are_published():
    model = network()
    step = mg.training_step(loss_of(model), optim.SGD(model.parameters(), 0.2))
    with step:
        step(X, Y)
        with pytest.raises(RuntimeError, match=r"mul at .*test_training_step.py.*call publish\(\)"):
            model(X[0].tolist())
        step.publish()
        outputs = model(X[0].tolist())
    assert [y.data for y in outputs] == pytest.approx(model.predict(X)[0])


@pytest.mark.parametrize("published", [True, False])
def test_what_a_user_writes_in_a_block_counts(published):
    model = network()
    w, v = model.parameters()[:2]
    step = mg.training_step(loss_of(model), optim.SGD(model.parameters(), 0.1))
    with step:
        step(X, Y)
        before = (w.data, v.data) if published else (None, None)
        w.data = 3.0
        step.optimizer.learning_rate = 1e-12
        step(X, Y)
    assert w.data == pytest.approx(3.0)
    assert not published or v.data == pytest.approx(before[1])


def test_a_model_that_changes_between_steps_is_traced_anew_and_dropout_draws():
    model = network(nn.Dropout(0.5, seed=3))
    step = mg.training_step(loss_of(model), optim.SGD(model.parameters(), 1e-9))
    with step:
        found = {step(X, Y) for _ in range(5)}
        assert len(found) == 5
        model.eval()
        assert step(X, Y) == pytest.approx(step(X[::-1], Y[::-1]), rel=1e-6)
        model.modules[-1] = nn.Affine(6, 2, seed=9)
        other = step(X, Y)
    assert other == pytest.approx(loss_of(model)(X, Y).data, rel=1e-6)


def test_sequences_of_many_lengths_are_each_made_ready_once(monkeypatch):
    weight, bound = mg.Value(0.5), []
    bind = Kernel.bind
    monkeypatch.setattr(Kernel, "bind", lambda kernel, *arrays: bound.append(kernel) or bind(kernel, *arrays))
    loss = mg.compile(lambda xs: mg.mean([(weight * x - 1.0) ** 2 for x in xs]), batch=False)
    step = mg.training_step(loss, optim.SGD([weight], 0.01))
    for _ in range(3):
        for length in range(1, 21):
            step(np.linspace(0.1, 1.0, length))
    assert len(bound) == 20


def test_what_the_function_forgets_is_not_kept_for_its_steps():
    weight, forgotten = mg.Value(0.5), []
    scale = [0.0]
    step = mg.training_step(lambda x: (weight * x * scale[0] - 1.0) ** 2, optim.SGD([weight], 0.01))
    for k in range(12):
        scale[0] = float(k)
        step([1.0])
        forgotten.append(weakref.ref(step.loss.kernel([1.0])))
    gc.collect()
    assert forgotten[0]() is None
    assert forgotten[-1]() is not None


def test_a_step_that_is_not_finite_changes_nothing():
    model = network()
    step = mg.training_step(loss_of(model), optim.Adam(model.parameters()))
    step(X, Y)
    before, state = numbers(model), step.optimizer.state_dict()
    with pytest.raises(ArithmeticError, match=r"the loss of this batch is nan.*nothing was changed"):
        step(np.full((2, 3), np.nan), Y[:2])
    assert (numbers(model), step.optimizer.state_dict()) == (before, state)


def test_an_error_in_a_block_leaves_all_that_was_learned():
    model = network()
    step = mg.training_step(loss_of(model), optim.SGD(model.parameters(), 0.2))
    before = numbers(model)
    with pytest.raises(KeyboardInterrupt), step:  # noqa: PT012 - it is the block that matters
        step(X, Y)
        raise KeyboardInterrupt
    assert numbers(model) != before
    assert step.optimizer.steps == 1


def test_an_optimiser_with_a_step_of_its_own_moves_the_values():
    class Signed(optim.SGD):
        def step(self):
            for parameter in self.parameters:
                parameter.data -= self.learning_rate * (1.0 if parameter.grad > 0 else -1.0)

    model, same = network(), network()
    with mg.training_step(loss_of(model), Signed(model.parameters(), 0.01)) as step:
        for _ in range(3):
            step(X, Y)
    optimizer, loss = Signed(same.parameters(), 0.01), loss_of(same)
    for _ in range(3):
        optimizer.zero_grad()
        loss(X, Y).backward()
        optimizer.step()
    assert numbers(model) == pytest.approx(numbers(same), rel=1e-12)


def test_what_is_no_loss_or_no_optimiser_is_explained():
    model = network()
    optimizer = optim.SGD(model.parameters())
    with pytest.raises(TypeError, match=r"optimizer must be one that was made for the parameters.*got 0\.1"):
        mg.training_step(loss_of(model), 0.1)
    with pytest.raises(TypeError, match="takes a function"):
        mg.training_step(3.0, optimizer)
    for loss in (mg.compile(model), loss_of(model, reduce=None)):
        with pytest.raises(ValueError, match="a step needs one loss of a batch"):
            mg.training_step(loss, optimizer)(*[X, Y][: 1 if loss.function is model else 2])
    with pytest.raises(ValueError, match=r"argument y has 2 samples but x has 40"):
        mg.training_step(loss_of(model), optimizer)(X, Y[:2])
