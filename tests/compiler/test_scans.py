"""Loops of a user's function over its own last results: a loop over steps, whatever a step is."""

import itertools
import re

import loop_interpreter
import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from programs import BINARY, UNARY

import microgrid as mg
from microgrid.compiler import recurrences, stages
from microgrid.compiler.targets import numpy
from microgrid.compiler.targets.native.target import Native, loop_program

STEPS, SAMPLES = 24, 3


def dot(row, xs):
    return mg.total([a * b for a, b in zip(row, xs, strict=True)])


def rows(p, count, width):
    return [p[k * width :][:width] for k in range(count)]


def rnn(p, xs):
    w, u, h, loss = rows(p, 3, 3), p[9:12], [0.1, 0.2, p[12]], 0
    for x in xs:
        h = [mg.tanh(dot(row, h) + a * x + 0.1) for row, a in zip(w, u, strict=True)]
        loss = loss + (h[0] - x) ** 2
    return loss + mg.total(h)


def gru(p, xs):
    h = [x * 0.5 for x in xs[:2]]
    for x in xs:
        gates = [[mg.sigmoid(dot(row, [*h, x])) for row in rows(p[k:], 2, 3)] for k in (0, 3)]
        new = [mg.tanh(dot(row, [h[0] * gates[0][0], h[1] * gates[0][1], x])) for row in rows(p[6:], 2, 3)]
        h = [z * a + (1.0 - z) * b for z, a, b in zip(gates[1], h, new, strict=True)]
    return dot(h, p[:2])


def lstm(p, xs):
    h, c = [0.0, 0.0], [0.0, 0.0]
    seen = []
    for x in xs:
        i, f, o, g = ([dot(row, [*h, x, 1.0]) for row in rows(p[2 * k :], 2, 4)] for k in range(4))
        c = [mg.sigmoid(a) * b + mg.sigmoid(d) * mg.tanh(e) for a, b, d, e in zip(f, c, i, g, strict=True)]
        h = [mg.sigmoid(a) * mg.tanh(b) for a, b in zip(o, c, strict=True)]
        seen.append(h[1])
    return mg.logsumexp(seen) + mg.mean(c)


def runge_kutta(p, xs):
    def slope(y):
        return [y[0] * (p[0] - p[1] * y[1]), y[1] * (p[2] * y[0] - p[3])]

    y, loss, step = [1.0 + p[4], 0.5 + xs[0] ** 2], 0, 0.05
    for x in xs:
        a = slope(y)
        b = slope([s + 0.5 * step * t for s, t in zip(y, a, strict=True)])
        c = slope([s + 0.5 * step * t for s, t in zip(y, b, strict=True)])
        d = slope([s + step * t for s, t in zip(y, c, strict=True)])
        y = [s + step / 6 * (k + 2 * m + 2 * n + q) for s, k, m, n, q in zip(y, a, b, c, d, strict=True)]
        loss = loss + (y[0] - x) ** 2
    return loss


def kalman(p, xs):
    x, v = [0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]]
    loss = 0
    noise, spread = mg.exp(p[0]), mg.exp(p[1])
    for z in xs:
        x = [x[0] + 0.1 * x[1], x[1] * p[2]]
        left = [[v[0][k] + 0.1 * v[1][k] for k in range(2)], [v[1][k] * p[2] for k in range(2)]]
        v = [[row[0] + 0.1 * row[1] + noise * (k == 0), row[1] * p[2] + noise * (k == 1)]
             for k, row in enumerate(left)]  # fmt: skip
        error, size = z - x[0], v[0][0] + spread
        gain = [v[0][0] / size, v[1][0] / size]
        x = [a + k * error for a, k in zip(x, gain, strict=True)]
        v = [[v[k][j] - gain[k] * v[0][j] for j in range(2)] for k in range(2)]
        loss = loss + mg.log(size) + error * error / size
    return loss


def stencil(p, xs):
    u = [p[k] for k in range(7)]
    for x in xs:
        u = [u[0] * 0.5, *[b + 0.1 * mg.sin(a - 2.0 * b + c) for a, b, c in zip(u, u[1:], u[2:])], x]  # noqa: B905
    return dot(u, u)


def two_back(p, xs):
    older, old = p[0], p[1]
    for x in xs:
        older, old = old, mg.sin(p[2] * old + p[3] * older) + x * mg.cos(old)
    return old


def choices(p, xs):
    a, b = p[0], p[1]
    for k, x in enumerate(xs):
        a, b = (mg.maximum(mg.sin(a), b * x) * p[2],
                mg.where(mg.less(a, b), a * p[3], mg.stop_gradient(b) + 0.01 * k))  # fmt: skip
        b = mg.clip(b, -3.0, 3.0) + mg.relu(a) * 0.1
    return a + b


def within(p, xs):
    """What stands around the loop reads its states, and it ends before the last numbers."""
    states = [p[0] + 0.0]
    other = p[1]
    for x in xs[:-2]:
        new = mg.tanh(states[-1] * p[2] + other * x)
        other = mg.sigmoid(new - other * p[3])
        states.append(new)
    return mg.total([s * s * t for s, t in zip(states, states[::-1], strict=True)]) + xs[-1] * other


def parts_that_meet_later(p, xs):
    """Two numbers are one from the second step on."""
    a, b, c = p[0], p[1], p[2]
    for _ in xs:
        a, b, c = mg.tanh(a - mg.sin(b)), mg.tanh(-c), mg.tanh(-c)
    return a + b * xs[0] + c


def neighbours(p, xs):
    """Each number moves by the one before it: the first by the same each time; what moves the last none reads."""

    def slope(y):
        return [p[18], *[a * b for a, b in zip(p[:18], y, strict=False)]]

    y = [0.0] * 19
    for _ in xs:
        half = [a + 0.25 * b for a, b in zip(y, slope(y), strict=True)]
        y = [a + 0.5 * b for a, b in zip(y, slope(half), strict=True)]
    return mg.total(y) + xs[0]


def two_loops(p, xs):
    """One after the other: the second begins where the first one ends, and reads its states from the last one on."""
    h, states = [p[0], p[1]], []
    for x in xs:
        h = [mg.tanh(p[2] * h[0] - p[3] * h[1] + x), mg.sin(h[0] * p[4] + h[1])]
        states.append(h[0])
    a, b = h
    for s in reversed(states):
        a, b = mg.sigmoid(a * p[5] + s * b), mg.cos(b - p[6] * a * s)
    return a * b


def derivative_within(p, xs):
    """The derivative of a loop is a loop back, on the states of the first one."""

    def last(speed):
        place = p[0]
        for x in xs:
            speed = speed - 0.2 * mg.sin(place) * x - p[1] * speed
            place = place + 0.2 * speed
        return place * place

    return last(p[2]) + mg.grad(last)(p[2]) ** 2


SEVERAL = [two_loops, derivative_within]
CASES = [
    *SEVERAL,
    neighbours,
    rnn,
    gru,
    lstm,
    runge_kutta,
    kalman,
    stencil,
    two_back,
    choices,
    within,
    parts_that_meet_later,
]


@pytest.fixture
def anything_folds(monkeypatch):
    """Whatever repeats itself is a loop."""
    monkeypatch.setattr(recurrences, "SMALLEST", 40)
    monkeypatch.setattr(stages, "FEW", 0)
    monkeypatch.setattr(stages.Stages, "_is_better_apart", lambda self, statements, steps: False)


def numbers(count, seed=0):
    return np.random.default_rng(seed).normal(size=count) * 0.5


def kernel_of(case, batch=True, target="numpy", **options):
    parameters = [mg.Value(x) for x in numbers(20).tolist()]
    xs = numbers((SAMPLES, STEPS) if batch else STEPS, 1)
    kernel = mg.compile(lambda sample: case(parameters, sample), batch=batch, target=target, **options).kernel(xs)
    return kernel, xs


def compiled(case, batch=True, **options):
    kernel, xs = kernel_of(case, batch, **options)
    assert kernel.stages.folded.recurrences
    return kernel, xs


def eager(case, kernel, samples):
    """The mean of a function over samples, and its gradients: by the parameters of a kernel, and by the samples."""
    leaves = [[mg.Value(x) for x in sample] for sample in samples.tolist()]
    theta = [mg.Value(x) for x in numbers(20).tolist()]
    places = [int(np.flatnonzero(numbers(20) == p.data)[0]) for p in kernel.parameters]
    outputs = [case(theta, sample) for sample in leaves]
    loss = mg.mean(outputs)
    by_parameters = mg.gradient_graph(loss, [theta[k] for k in places])
    by_samples = mg.gradient_graph(loss, [x for sample in leaves for x in sample])
    return (
        loss,
        [theta[k] for k in places],
        by_parameters,
        np.array([g.data for g in by_samples]).reshape(samples.shape),
    )


def interpreted(kernel, xs):
    """The value, and the gradients by the parameters and by the samples, by the interpreter of loops."""
    task = kernel._task("both")
    arguments, size = kernel.signature.arguments([xs])
    forms = task.forms(kernel.signature, [kernel.stages.program.parameters, *kernel.stages.program.sizes])
    outs = [np.full((*shape, size) if batched else shape, np.nan) for shape, batched in forms]
    loop_interpreter.run(loop_program(kernel.stages, task), kernel.read(), np.empty(0), arguments, outs, size, tile=2)
    value, by_parameters, by_samples = outs
    return value, by_parameters, by_samples.T


def close(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert np.abs(a - b).max() <= 1e-12 * max(1.0, np.abs(b).max())


def agrees(case, kernel, xs, interprets=False):
    """Hold a kernel against the engine."""
    loss, _, by_parameters, by_samples = eager(case, kernel, xs.reshape(-1, STEPS))
    if interprets:
        value, theta, samples = interpreted(kernel, xs)
    else:
        value, (theta, (samples,)) = kernel.value_and_grad(kernel.theta, xs, by="both")
    close(value, loss.data)
    close(theta, [g.data for g in by_parameters])
    close(samples.reshape(by_samples.shape), by_samples)


@pytest.mark.usefixtures("anything_folds")
@pytest.mark.parametrize("batch", [True, False], ids=["batch", "one sample"])
@pytest.mark.parametrize("case", CASES)
def test_a_loop_has_the_numbers_of_the_engine(case, batch):
    kernel, xs = compiled(case, batch)
    agrees(case, kernel, xs)
    kernel.stages.array_program(kernel._task("both")).verify()
    agrees(case, compiled(case, batch, target="native")[0], xs)
    agrees(case, kernel, xs, interprets=True)


@pytest.mark.usefixtures("anything_folds")
@pytest.mark.parametrize("case", SEVERAL)
def test_a_program_may_have_several_loops(case):
    assert len(compiled(case)[0].stages.folded.recurrences) == 2


@pytest.mark.usefixtures("anything_folds")
@pytest.mark.parametrize("case", [rnn, runge_kutta, choices])
def test_samples_apart_and_several_outputs(case):
    def several(p, xs):
        first = case(p, xs)
        return [first * p[0], mg.sin(first) + xs[0]]

    kernel, xs = compiled(several, reduce=None)
    values, jacobian = kernel.value_and_grad(kernel.theta, xs)
    for k, sample in enumerate(xs):
        for j in range(2):
            loss, _, by_parameters, _ = eager(lambda p, s, j=j: several(p, s)[j], kernel, sample[None])
            close(values[k, j], loss.data)
            close(np.asarray(jacobian)[k, j], [g.data for g in by_parameters])


def layer(width):
    """A recurrent net of so many units, as its user writes it."""
    w, u = (numbers(width * count).tolist() for count in (width, 1))
    w, u = [mg.Value(x / width) for x in w], [mg.Value(x) for x in u]

    def net(xs):
        h = [0.0] * width
        for x in xs:
            h = [mg.tanh(dot(w[k * width :][:width], h) + u[k] * x) for k in range(width)]
        return dot(h, u)

    return net


@pytest.mark.parametrize("batch", [True, False], ids=["batch", "one sample"])
def test_statements_do_not_grow_with_the_steps(batch):
    for steps in (200, 400):
        kernel = mg.compile(layer(8), batch=batch, target="numpy").kernel(numbers((2, steps) if batch else steps))
        assert kernel.stages.folded.recurrences[0].steps >= steps - 8
        assert len(kernel.statements()) < 80
        assert len(kernel.source.splitlines()) < 200


def damped(xs):
    """Two numbers, step after step: few operations on single numbers."""
    place, speed = 1.0, xs[0]
    for x in xs:
        speed = speed - 0.1 * mg.sin(place) * x
        place = place + 0.1 * speed
    return place


FORMS = {
    "few steps of a layer": (layer(16), True, 8, False),
    "many steps of a layer": (layer(8), True, 400, True),
    "of one sample": (layer(8), False, 400, True),
    "of one unit, and one sample": (layer(1), False, 1000, False),
    "two numbers, and one sample": (damped, False, 1000, False),
    "two numbers, and a batch": (damped, True, 1000, True),
    "a running product": (lambda xs: mg.total([p * p for p in products(xs)]), True, 3000, False),
}


def products(xs):
    found = [xs[0]]
    for x in xs[1:]:
        found.append(found[-1] * x)
    return found


@pytest.mark.parametrize(("function", "batch", "steps", "folds"), FORMS.values(), ids=FORMS)
def test_the_form_is_the_one_that_costs_least(function, batch, steps, folds):
    kernel = mg.compile(function, batch=batch).kernel(numbers((2, steps) if batch else steps))
    assert bool(kernel.stages.folded.recurrences) == folds
    if folds and batch:
        assert Native().suits(kernel.stages) is None


def test_loops_within_a_step_of_single_numbers_are_written_out_natively_and_its_steps_are_a_loop():
    def low(start):
        def inner(x):
            y = start[2:]
            for _ in range(25):
                y = [a - 0.2 * b for a, b in zip(y, (y[0] - x[1] * y[1], y[1] + mg.sin(x[0])), strict=True)]
            return (x[0] - y[0]) ** 2 + x[1] * y[1]

        x = start[:2]
        for _ in range(25):
            x = [a - 0.2 * b for a, b in zip(x, mg.grad(inner)(x), strict=True)]
        return x

    start = numbers(4).tolist()
    kernel = mg.compile(low, batch=False, reduce=None, target="native").kernel(start)
    assert not kernel.stages.folded.recurrences
    assert re.search(r"\n    for t\d+ of 2\d:\n", kernel.dump("loops"))
    close(kernel(start), [x.data for x in low([mg.Value(x) for x in start])])


def test_a_loop_is_drawn_and_dumped_with_its_step():
    kernel = mg.compile(layer(8), target="numpy").kernel(numbers((2, 200)))
    (box,) = [box for box in kernel.boxes("value") if box.name == "scan"]
    assert "steps" in box.note
    assert re.search(r"\n    %\d+: 8 per sample = slot\(\) 0\n", kernel.dump())


@st.composite
def random_steps(draw):
    """A function of parameters and numbers with a random step, as text."""
    count = draw(st.integers(1, 4))
    names = [f"s[{k}]" for k in range(count)] + ["x", "p[0]", "p[1]", "k"]
    lines = []
    for k in range(draw(st.integers(count, 8))):
        template = draw(st.sampled_from(UNARY + BINARY))
        made = template.format(a=draw(st.sampled_from(names)), b=draw(st.sampled_from(names)), c=0.75)
        lines.append(f"        t{k} = mg.tanh({made}) + 0.0")
        names.append(f"t{k}")
    new = [draw(st.sampled_from([name for name in names if name[0] == "t"])) for _ in range(count)]
    body = "\n".join(lines)
    seen = draw(st.sampled_from(names[:count] + [f"t{k}" for k in range(len(lines))]))
    return (
        f"def f(p, xs):\n    s, seen = [p[2] * j for j in range({count})], []\n"
        f"    k = mg.cos(p[3])\n    for x in xs:\n{body}\n        seen.append({seen})\n        s = [{', '.join(new)}]\n"
        f"    return mg.total(s) + mg.total([a * a for a in seen]) * 0.1"
    )


@pytest.mark.usefixtures("anything_folds")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(random_steps(), st.booleans(), st.booleans())
def test_random_steps_have_the_numbers_of_the_engine(text, batch, interprets):
    namespace = {"mg": mg}
    exec(text, namespace)
    kernel, xs = kernel_of(namespace["f"], batch)
    if kernel.parameters:
        agrees(namespace["f"], kernel, xs, interprets)
    event("a loop" if kernel.stages.folded.recurrences else "none")


@pytest.mark.parametrize("left", ["ab", "ba", "acz", "abz", "azc", "abc", "cb", "adbc"])
@pytest.mark.parametrize("right", ["abz", "acz", "azb", "azc", "bz", "zc", "zb", "adcz"])
def test_products_of_many_matrices_are_contractions(left, right):
    sizes = {letter: size for size, letter in enumerate("abczd", 2)}
    factors = [np.random.default_rng(0).normal(size=[sizes[x] for x in letters]) for letters in (left, right)]
    for count in range(1, 5):
        for letters in itertools.permutations(sorted({*left, *right}), count):
            found = numpy._matrix_products(left, right, "".join(letters))
            if found is not None:
                turned = [x.swapaxes(-1, -2) if turn else x for x, turn in zip(factors, found[1:], strict=True)]
                exact = np.einsum(f"{left},{right}->{''.join(letters)}", *factors)
                close(np.matmul(*turned[:: -1 if found[0] else 1]), exact)
