"""The example that is a GPT out of scalars."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import microgrid as mg
from microgrid import optim

EXAMPLE = Path(__file__).parents[1] / "examples" / "gpt.py"


@pytest.fixture(scope="module")
def gpt():
    spec = importlib.util.spec_from_file_location("gpt_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_gpt_compiled_has_the_losses_and_gradients_of_the_engine(gpt):
    names, letters = gpt.documents()
    model = gpt.GPT(len(letters) + 1)
    loss = mg.compile(model.surprise, batch=False)
    statements = set()
    for name in (names[0], max(names, key=len)):
        tokens, following = name[:-1], name[1:]
        eager = model.surprise(tokens.tolist(), following.tolist())
        eager.backward()
        expected = [p.grad for p in model.parameters()]
        model.zero_grad()
        compiled = loss(tokens, following)
        compiled.backward()
        assert compiled.data == pytest.approx(eager.data, rel=1e-12)
        assert [p.grad for p in model.parameters()] == pytest.approx(expected, rel=1e-9, abs=1e-12)
        model.zero_grad()
        statements.add(len(loss.kernel(tokens, following).statements()))
    assert len(names[0]) < gpt.CONTEXT / 2
    assert len(statements) == 1, "a longer name must be no longer program"


def test_the_gpt_learns_and_makes_up_names(gpt):
    names, letters = gpt.documents()
    short = [name for name in names if len(name) == 5][:8]
    model = gpt.GPT(len(letters) + 1)
    learn = mg.training_step(mg.compile(model.surprise, batch=False), optim.Adam(model.parameters(), 0.01))
    with learn:
        losses = [learn(name[:-1], name[1:]) for _ in range(25) for name in short]
    assert np.mean(losses[-8:]) < 0.5 * np.mean(losses[:8])
    made = gpt.sampled(model, letters, gpt.random.Random(0))
    assert set(made) <= set(letters)
    assert 0 < len(made) < gpt.CONTEXT
