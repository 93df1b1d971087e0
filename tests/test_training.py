"""fit, evaluate and the history."""

import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import types

import numpy as np
import pytest

from microgrid import ops
from microgrid.data import minibatches, moons
from microgrid.engine import Value
from microgrid.losses import binary_cross_entropy, cross_entropy, hinge, mean_squared_error
from microgrid.nn import MLP, Affine, Module, Sequential
from microgrid.optim import SGD, Adam
from microgrid.training import History, TrainingError, evaluate, fit, is_right

X, Y = moons(40, seed=1)


def numbers(model):
    return [parameter.data for parameter in model.parameters()]


def test_moons_are_learned_to_the_last_sample():
    model = MLP(2, [8, 2], init="he", seed=3)
    history = fit(model, X, Y, optimizer=Adam(model.parameters(), 0.05), epochs=60, batch_size=10, quiet=True)
    assert evaluate(model, X, Y).accuracy == 1.0
    assert history.accuracy[-1] > 0.95
    assert history.loss[-1] < 0.1 < history.loss[0]


def test_one_epoch_is_the_four_steps_done_by_hand():
    fitted, by_hand = (MLP(2, [3, 2], init="he", seed=0) for _ in range(2))
    history = fit(fitted, X, Y, optimizer=SGD(fitted.parameters(), 0.1), epochs=1, batch_size=16, seed=9, quiet=True)
    optimizer, losses = SGD(by_hand.parameters(), 0.1), []
    for X_batch, y_batch in minibatches(X, Y, 16, seed=9):
        loss = ops.mean(cross_entropy(by_hand(x), t) for x, t in zip(X_batch.tolist(), y_batch.tolist(), strict=True))
        by_hand.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.data)
    assert numbers(fitted) == pytest.approx(numbers(by_hand), rel=1e-12)
    assert history.batch_loss == pytest.approx(losses, rel=1e-12)
    assert history.loss == [pytest.approx((16 * losses[0] + 16 * losses[1] + 8 * losses[2]) / 40)]


def test_the_same_seed_gives_the_same_network_and_another_seed_another():
    def trained(seed):
        model = MLP(2, [3, 2], seed=0)
        fit(model, X, Y, epochs=2, batch_size=7, seed=seed, quiet=True)
        return numbers(model)

    assert trained(1) == trained(1) != trained(2)


@pytest.mark.parametrize(
    ("loss", "outputs", "y", "classes"),
    [
        (cross_entropy, 2, Y, True),
        (cross_entropy, 2, Y == 1, True),
        (cross_entropy, 2, np.eye(2)[Y], True),
        (cross_entropy, 2, np.full((40, 2), 0.5), False),
        (hinge, 1, 2 * Y - 1, True),
        (binary_cross_entropy, 1, Y, True),
        (mean_squared_error, 1, 2.0 * Y - 1.0, True),
        (mean_squared_error, 1, X[:, 0], False),
        (mean_squared_error, 2, X, False),
        (mean_squared_error, 1, X[:, :1], False),
    ],
)
def test_accuracy_is_measured_where_the_targets_are_classes(loss, outputs, y, classes):
    model = Affine(2, outputs, seed=0)
    history = fit(
        model, X, y, loss=loss, optimizer=Adam(model.parameters(), 0.1), epochs=6, validation=(X, y), quiet=True
    )
    assert len(history.loss) == len(history.validation_loss) == len(history.seconds) == 6
    assert len(history.accuracy) == len(history.validation_accuracy) == (6 if classes else 0)
    assert evaluate(model, X, y, loss=loss).loss == pytest.approx(history.validation_loss[-1], rel=1e-12)
    if classes:
        assert history.validation_accuracy[-1] > 0.7


@pytest.mark.parametrize(
    ("output", "target", "right"),
    [
        ([0.1, 3.0, -1.0], 1, True),
        ([0.1, 3.0, -1.0], 0, False),
        ([0.1, 3.0, -1.0], [0.0, 1.0, 0.0], True),
        ([0.1, 3.0, -1.0], [1.0, 0.0, 0.0], False),
        (0.2, 1, True),
        (0.2, -1, False),
        (-0.2, 0, True),
        ([-0.2], [1], False),
    ],
)
def test_is_right_takes_the_largest_output_or_the_sign(output, target, right):
    assert is_right(output, target) is right
    assert is_right([Value(x) for x in output] if isinstance(output, list) else Value(output), target) is right


def test_accuracy_may_be_a_function_of_the_user_or_none():
    model = Affine(2, 1, seed=0)
    y = X[:, 0]
    near = evaluate(model, X, y, loss=mean_squared_error, accuracy=lambda output, target: abs(output.data - target) < 9)
    assert near.accuracy == 1.0
    assert math.isnan(evaluate(model, X, Y, loss=binary_cross_entropy, accuracy=None).accuracy)
    history = fit(model, X, Y, loss=binary_cross_entropy, accuracy=None, epochs=1, quiet=True)
    assert history.accuracy == []


class Spy(Module):
    """It notes in which mode it is called, and whether its result remembers the graph."""

    def __init__(self):
        self.w = Value(1.0)
        self._calls = []

    def forward(self, x):
        y = self.w * x[0]
        self._calls.append((self.training, y.is_leaf))
        return y


@pytest.mark.parametrize("before", [True, False])
def test_evaluation_records_no_graph_and_is_out_of_training_mode(before):
    model = Spy().train(before)
    fit(model, [[1.0]], [1.0], loss=mean_squared_error, epochs=1, validation=([[2.0]], [2.0]), quiet=True)
    rehearsal, training, validation = model._calls
    assert rehearsal == validation == (False, True)
    assert training == (True, False)
    assert model.training is before


def test_lists_and_any_function_with_parameters_will_do():
    w = Value(0.0)

    def line(x):
        return w * x[0]

    line.parameters = lambda: [w]
    history = fit(
        line,
        [[1.0], [2.0]],
        [3, 6],
        loss=mean_squared_error,
        optimizer=SGD([w], 0.1),
        epochs=30,
        batch_size=2,
        quiet=True,
    )
    assert w.data == pytest.approx(3.0)
    assert history.loss[-1] < 1e-12


GOOD = MLP(2, [2], seed=0)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"X": []}, ValueError, r"X must have one row of numbers for each sample; got an array of shape \(0,\)"),
        ({"X": np.zeros((0, 2)), "y": []}, ValueError, "X and y are empty"),
        ({"X": [[1.0, 2.0], [3.0]]}, ValueError, "X must have rows of one length"),
        ({"X": [1.0, 2.0]}, ValueError, r"X must have one row .* shape \(2,\)"),
        ({"X": np.zeros((40, 2, 1))}, ValueError, r"shape \(40, 2, 1\)"),
        ({"X": [["a", "b"]]}, TypeError, "X must hold real numbers; got an array of <U1: "),
        ({"X": np.full((40, 2), math.nan)}, ValueError, r"X\[0, 0\] is nan: "),
        ({"X": X[:3]}, ValueError, r"arrays of shape \(3, 2\) and \(40,\)"),
        ({"X": X[:, :1]}, ValueError, r"takes 2 input\(s\), got 1"),
        ({"y": np.zeros((40, 2, 2))}, ValueError, "y must have one number, or one row of numbers, for each sample"),
        ({"y": [math.inf] * 40}, ValueError, r"y\[0\] is inf"),
        ({"y": [None] * 40}, TypeError, "y must hold real numbers; got an array of object"),
        ({"y": [0] * 20 + [2] * 20}, ValueError, r"the target y\[20\] = 2 does not fit: .* one of 2 classes, 0 to 1"),
        ({"y": np.zeros((40, 3))}, ValueError, r"the target y\[0\] = \[0.0, 0.0, 0.0\] does not fit"),
        ({"y": Y, "loss": hinge}, ValueError, "does not fit: hinge: got 1 targets for 2 outputs"),
        ({"loss": lambda output, target: 0.0}, TypeError, "must return one Value; got 0.0"),
        ({"validation": (X, Y[:-1])}, ValueError, r"shape \(40, 2\) and \(39,\)"),
        ({"validation": ([[1.0, math.nan]], [0])}, ValueError, r"validation X\[0, 1\] is nan"),
        ({"epochs": 0}, ValueError, "epochs must be a whole number, 1 or more; got 0"),
        ({"epochs": 1.5}, ValueError, "epochs must be a whole number, 1 or more; got 1.5"),
        ({"batch_size": -1}, ValueError, "batch_size must be a whole number, 1 or more; got -1"),
        ({"optimizer": SGD([Value(1.0)], 0.1)}, ValueError, "moves no parameter of this model"),
        ({"model": Sequential(ops.total)}, ValueError, "the model has no parameters, so it cannot learn"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_learned(arguments, error, said):
    before = numbers(GOOD)
    with pytest.raises(error, match=said):
        fit(**{"model": GOOD, "X": X, "y": Y, "epochs": 1, "quiet": True, **arguments})
    assert numbers(GOOD) == before


def test_a_loss_of_nan_names_the_place_and_the_operation_and_keeps_the_last_good_step():
    class Falling(Module):
        """Each step takes 1 from w, so log(w) is nan in the third."""

        def __init__(self):
            self.w = Value(1.5, "w")

        def forward(self, x):
            return ops.log(self.w) + 0.0 * x[0]

    model = Falling()

    class Subtract:
        parameters = (model.w,)

        def step(self):
            model.w.data -= 1.0

    with pytest.raises(
        TrainingError, match=r"epoch 2, minibatch 1, whose loss is nan: log\(w=-0.5\) is nan, at "
    ) as caught:
        fit(model, [[0.0]] * 4, [0.0] * 4, loss=mean_squared_error, optimizer=Subtract(), batch_size=2, quiet=True)
    assert "test_training.py" in str(caught.value)
    assert (caught.value.epoch, caught.value.batch) == (2, 1)
    assert len(caught.value.history.loss) == 1
    assert len(caught.value.history.batch_loss) == 3
    assert model.w.data == 0.5  # log(0.5) was the last that is finite


def test_an_infinite_gradient_under_a_finite_loss_stops_too():
    root = Spy()
    root.forward = lambda x: ops.sqrt(root.w * x[0])
    with pytest.raises(TrainingError, match=r"whose loss is 1.0: .* local derivative of sqrt\(0.0\) .* is inf"):
        fit(root, [[0.0]], [1.0], loss=mean_squared_error, quiet=True)
    assert root.w.data == 1.0


@pytest.mark.parametrize(
    ("rate", "reason"), [(1e308, r"the last update made w0 \(number 0\) -?inf"), (1e200, r"mul\(.*\) is inf, at ")]
)
def test_too_large_a_learning_rate_says_so(rate, reason):
    model = Affine(1, 1, seed=0)
    before = numbers(model)
    with pytest.raises(TrainingError, match=reason + ".*; a smaller learning rate often helps"):
        fit(model, [[3.0]], [100.0], loss=mean_squared_error, optimizer=SGD(model.parameters(), rate), quiet=True)
    assert numbers(model) == before


def test_a_sum_that_overflows_though_no_sample_does_says_so():
    model = Affine(1, 1, seed=0)

    def large(output, target):
        return output * 0.0 + 1.7e308

    with pytest.raises(TrainingError, match="whose loss is inf: each sample alone is finite"):
        fit(model, [[1.0], [1.0]], [0.0, 0.0], loss=large, quiet=True)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_update_that_is_cut_short_changes_nothing(error):
    model = Affine(2, 2, seed=0)
    before = numbers(model)

    class CutShort(SGD):
        def step(self):
            self.parameters[0].data = 99.0
            raise error

    optimizer = CutShort(model.parameters(), 0.1)
    if error is KeyboardInterrupt:
        assert fit(model, X, Y, optimizer=optimizer, quiet=True).interrupted
    else:
        with pytest.raises(error):
            fit(model, X, Y, optimizer=optimizer, quiet=True)
    assert numbers(model) == before


def run(code, *, interrupt_after=None, **environment):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    if interrupt_after is not None:
        assert process.stdout.readline().strip() == interrupt_after
        process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=120)
    return process.returncode, out, errors


def test_control_c_returns_the_history_and_keeps_the_model():
    code, out, errors = run(
        """
        import microgrid.training as training
        from microgrid.data import moons
        from microgrid.nn import MLP

        model = MLP(2, [4, 2], seed=0)
        before = [p.data for p in model.parameters()]
        seen = []

        def loss(output, target):
            seen.append(target)
            if len(seen) == 500:
                print("learning", flush=True)
            return training.cross_entropy(output, target)

        X, y = moons(100)
        history = training.fit(model, X, y, loss=loss, epochs=10**6)
        print(history.interrupted, len(history.loss) > 0, len(history.batch_loss) >= 4 * len(history.loss))
        print([p.data for p in model.parameters()] != before, model.training)
        """,
        interrupt_after="learning",
    )
    assert (code, out.split()) == (0, ["True", "True", "True", "True", "True"]), errors
    assert errors.rstrip().endswith("interrupted")


def test_a_log_gets_at_most_ten_lines_without_control_codes(capsys):
    model = Affine(2, 2, seed=0)
    fit(model, X, Y, epochs=35, validation=(X, Y))
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 10
    assert lines[-1].startswith("epoch 35/35  loss ")
    assert all("validation" in line and "\x1b" not in line and len(line) <= 80 for line in lines)


def test_quiet_prints_nothing(capsys):
    fit(Affine(2, 2, seed=0), X, Y, epochs=2, quiet=True)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_that_fits_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # which makes rich take what is captured for a terminal
    monkeypatch.setenv("COLUMNS", "80")
    fit(Affine(2, 2, seed=0), X, Y, epochs=12, validation=(X, Y))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    bar = "━" * 16
    last = shown.rstrip().rpartition(bar)[2]
    assert re.fullmatch(r" 0:00:\d\d epoch 12/12  loss [\d.]+  right [\d.]+%  validation [\d.]+%", last)
    assert len(bar + last) <= 80


def test_a_notebook_gets_one_bar_that_moves(capsys, monkeypatch):
    shown = []

    class Handle:
        def update(self, bundle, raw):
            shown.append((bundle, raw))

    def display(bundle, raw, display_id):
        assert display_id is True
        shown.append((bundle, raw))
        return Handle()

    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("microgrid.training.SECONDS_BETWEEN_UPDATES", 0.0)
    fit(Affine(2, 2, seed=0), X, Y, epochs=3, batch_size=20)
    assert len(shown) == 3 * (2 + 1)
    last, raw = shown[-1]
    assert raw is True
    assert last["text/plain"].startswith("epoch 3/3  loss ")
    assert '<progress value="6" max="6"' in last["text/html"]
    assert capsys.readouterr() == ("", "")


def test_a_history_says_how_it_went_in_one_line():
    history = History(loss=[1.0, 0.25], accuracy=[0.5, 0.875], seconds=[1.0, 0.5])
    assert str(history) == "2 epochs, loss 0.25, accuracy 87.5%, 1.5 s"
    history = History(validation_loss=[2.0], validation_accuracy=[1.0], interrupted=True)
    assert str(history) == "0 epochs, validation loss 2, validation accuracy 100.0%, 0.0 s, interrupted"


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_the_learning_curve_shows_what_there_is(tmp_path, kind):
    history = fit(Affine(2, 2, seed=0), X, Y, epochs=3, batch_size=10, validation=(X, Y), quiet=True)
    path = tmp_path / f"curve.{kind}"
    loss, accuracy = history.plot(path).axes
    assert path.stat().st_size > 1000
    batches, training, validation = loss.lines
    assert list(batches.get_ydata()) == history.batch_loss
    assert list(training.get_ydata()) == history.loss
    assert list(validation.get_ydata()) == history.validation_loss
    assert [list(line.get_ydata()) for line in accuracy.lines] == [
        [100.0 * x for x in xs] for xs in (history.accuracy, history.validation_accuracy)
    ]
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["each minibatch", "training", "validation"]


def test_a_learning_curve_without_accuracy_or_without_anything_is_drawn_too(tmp_path):
    assert len(History(loss=[2.0, 1.0]).plot(tmp_path / "curve.png").axes) == 1
    assert len(History().plot(tmp_path / "empty.png").axes) == 1


def test_without_a_path_the_curve_is_shown_if_there_is_a_screen(monkeypatch):
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    with pytest.raises(ValueError, match=r"no screen .*; write it: history\.plot\('curve\.png'\)"):
        History(loss=[2.0, 1.0]).plot()
    assert pyplot.get_fignums() == []
    shown = []
    monkeypatch.setattr(pyplot, "get_backend", lambda: "inline")
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(pyplot.gcf()))
    assert History(loss=[2.0, 1.0]).plot() is None
    assert list(shown[0].axes[0].lines[0].get_ydata()) == [2.0, 1.0]
    pyplot.close("all")


def test_a_missing_matplotlib_and_an_unwritable_path_are_said(tmp_path, monkeypatch):
    with pytest.raises(OSError, match="nowhere"):
        History(loss=[1.0]).plot(tmp_path / "nowhere" / "curve.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'needs matplotlib, .* pip install "microgrid-autograd\[plot\]"'):
        History(loss=[1.0]).plot("curve.png")


def test_after_each_epoch_the_user_may_change_the_learning_rate():
    model = Affine(2, 2, seed=0)
    optimizer = SGD(model.parameters(), 1.0)
    rates = []

    def halve(history):
        rates.append((len(history.loss), optimizer.learning_rate))
        optimizer.learning_rate /= 2

    fit(model, X, Y, optimizer=optimizer, epochs=3, after_epoch=halve, quiet=True)
    assert rates == [(1, 1.0), (2, 0.5), (3, 0.25)]
