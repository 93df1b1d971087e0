"""A target computes what the NumPy target and the engine do: on random networks, reductions, stencils, at any numbers.

Batches end before, at and behind the lanes of vectors and the tiles of samples; specials stand among the numbers.
"""

import itertools
import math
import os
import subprocess
import sys
import threading
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import ROWS as ALL_ROWS
from programs import cases, max_of

import microgrid as mg
from microgrid import losses, nn
from microgrid.compiler.targets.native import threads
from microgrid.compiler.targets.native.target import without_native_form
from microgrid.strategies import _code as row_code
from microgrid.strategies import _number as number_text

FEW, MANY = [1, 2, 3, 4, 5, 7, 8, 9], [257, 105, 104, 103, 33, 17, 16, 15]
"""Sizes of batches: around the lanes of a vector, and around a tile."""
SPECIALS = [math.inf, -math.inf, math.nan, 0.0, -0.0, 1e60, -1e40, 5e-324, -5e-324, 1.0, -1.0, 700.0, -745.0]
"""No two cancel, and powers do not overflow: what is left then depends on the order of a sum, and on what is fused."""
WRAPPERS = [
    ("{0}", lambda t: t),
    ("(0.9 * mg.sin({0}))", lambda t: 0.9 * math.sin(t)),
    ("({0} * {0} + 0.3)", lambda t: t * t + 0.3),
    ("({0} * {0} + 1.1)", lambda t: t * t + 1.1),
]


def wrapper_for(row):
    """What to make of any number so that a row of such is finite: every program of logarithms would be nan."""
    for text, wrapped in WRAPPERS:
        points = itertools.product(map(wrapped, (-2.3, -0.4, 0.3, 1.7)), repeat=row.arity)
        if all(math.isfinite(row.forward(*point)) for point in points):
            return text
    raise AssertionError(row.name)


ROWS = [row for row in ALL_ROWS if not without_native_form(row)]
WRAPPER = {row: "{0}" if row.chooses else wrapper_for(row) for row in set(ROWS)}

FOLDS = ["mg.total({v})", "sum({v})", "mg.mean({v})", "mg.logsumexp({v})", "max_of({v})", "-max_of([-t for t in {v}])",
         "mg.total([t * t for t in {v}])", "sum(s * t for s, t in zip({v}, {w}))",
         "mg.total([s * t for s, t in zip({v}, {w}[::-1])])"]  # fmt: skip
VIEWS = {
    "{v}[::-1]": lambda n: n,
    "{v}[::2]": lambda n: (n + 1) // 2,
    "{v}[1::3] or {v}": lambda n: (n + 1) // 3 or n,
    "{v}[1:] or {v}": lambda n: n - 1 or n,
    "[b - a * a for a, b in zip({v}, {v}[1:])] or {v}": lambda n: n - 1 or n,
    "[a + b - 2.0 * c for a, c, b in zip({v}, {v}[1:], {v}[2:])] or {v}": lambda n: n - 2 if n > 2 else n,
    "[t if k % 3 else t * t for k, t in enumerate({v})]": lambda n: n,
    "mg.softmax({v})": lambda n: n,
    "[{a} * t + {b} for t in {v}]": lambda n: n,
    "[{v}[k * k % len({v})] for k in range(len({v}))]": lambda n: n,
    "[mg.take({v}, mg.floor(mg.clip(t + 0.3142, -1.0, 0.9))) for t in {v}]": lambda n: n,
    "[({a} if k % 2 else {b}) * t for k, t in enumerate({v})]": lambda n: n,
}


def dense(weights, xs, count):
    """A layer with its biases behind the weights of each neuron."""
    rows = [weights[k * (len(xs) + 1) :][: len(xs) + 1] for k in range(count)]
    return [mg.total([w * x for w, x in zip(row[:-1], xs, strict=True)] + [row[-1]]) for row in rows]


def in_order(weights, xs, count):
    """The same as a loop writes it, bias first, on weights that stand neuron by neuron."""
    results = []
    for k in range(count):
        z = weights[k]
        for j, x in enumerate(xs):
            z = z + weights[count + k + j * count] * x
        results.append(z)
    return results


def convolved(weights, xs):
    """A stencil with the same weights everywhere."""
    return [mg.dot(weights, xs[k : k + len(weights)]) for k in range(len(xs) - len(weights) + 1)]


@dataclass
class Network:
    """A function ``f(x, y)`` of a vector and a number, as text; how many parameters it has, and its data."""

    text: str
    count: int
    size: int
    seed: int
    specials: list

    def function(self):
        """The function, and its parameters."""
        p = [mg.Value(0.7 * x) for x in np.random.default_rng(self.seed).normal(size=self.count).tolist()]
        names = {"mg": mg, "p": p, "max_of": max_of, "dense": dense, "in_order": in_order, "convolved": convolved}
        exec(self.text, names)
        return names["f"]

    def batch(self, samples, dtype="float64"):
        """Arguments; the specials stand among the numbers of the first."""
        rng = np.random.default_rng(self.seed + 1)
        x, y = rng.normal(size=(samples, self.size)), rng.normal(size=samples)
        for place, special in self.specials:
            x.flat[place % x.size] = special
        with np.errstate(over="ignore"):
            return [x.astype(dtype), y.astype(dtype)]


@st.composite
def networks(draw, max_steps=7):
    size = draw(st.integers(1, 9))
    lengths, scalars, lines, used = {"x": size}, ["x[0]", "0.5", "y"], [], 0

    def weights(count):
        nonlocal used
        if used >= count and draw(st.integers(0, 3)) == 0:
            start = draw(st.integers(0, used - count))  # they serve twice
        else:
            start, used = used, used + count
        return f"p[{start}:{start + count}]"

    for step in range(draw(st.integers(1, max_steps))):
        kind = draw(st.sampled_from(["dense", "dense", "row", "row", "row", "view", "fold", "outer", "convolved"]))
        v, w, a, b = (draw(st.sampled_from([names[-1], *names])) for names in [list(lengths)] * 2 + [scalars] * 2)
        n, name = lengths[v], f"v{step}"
        if kind == "dense":
            count, layer = draw(st.integers(1, 9)), draw(st.sampled_from(["dense", "in_order"]))
            code, lengths[name] = f"{layer}({weights((n + 1) * count)}, {v}, {count})", count
        elif kind == "row":
            row = draw(st.sampled_from(ROWS))
            wrapper = WRAPPER[row] if draw(st.integers(0, 7)) else "{0}"
            operands = ["t", *[draw(st.sampled_from(["t", "s", "s", a, "-1.5", "2.0"])) for _ in range(row.arity - 1)]]
            operands = draw(st.permutations(operands))
            if row.chooses:
                operands[0] = draw(st.sampled_from(["0.0", "-1.0", "mg.sign(t)", "mg.floor(t)"]))
            code = f"[{row_code(row, [wrapper.format(x) for x in operands])} for t, s in zip({v}, {w})]"
            lengths[name] = min(n, lengths[w])
        elif kind == "view":
            view = draw(st.sampled_from(list(VIEWS)))
            code, lengths[name] = view.format(v=v, a=a, b=b), VIEWS[view](n)
        elif kind == "convolved" and n > 2:
            code, lengths[name] = f"convolved({weights(3)}, {v})", n - 2
        elif kind == "outer" and n * lengths[w] <= 24:
            constants = ", ".join(number_text(round(draw(st.floats(-2, 2)), 2)) for _ in range(min(n, 3)))
            code = f"[c * s * t for s, c in zip({v}, ({constants},) * {n}) for t in {w}]"
            lengths[name] = n * lengths[w]
        else:
            name = f"s{step}"
            code = draw(st.sampled_from(FOLDS)).format(v=v, w=w)
            scalars.append(name)
        lines.append(f"    {name} = {code}")
    last = lines[-1].split()[0]
    made = [f"*{name}" for name in list(lengths)[1:]] + scalars[3:]
    chosen = [
        f"*{last}" if last in lengths else last,
        *draw(st.lists(st.sampled_from([*made, "x[0]", "0.25"]), max_size=2)),
    ]
    if used and draw(st.booleans()):
        chosen.append("0.01 * mg.total([w * w for w in p])")
    result = f"[{', '.join(chosen)}]" if draw(st.booleans()) else f"mg.total([{', '.join(chosen)}])"
    text = "\n".join(["def f(x, y):", *lines, f"    return {result}"])
    specials = st.lists(st.tuples(st.integers(0, 2000), st.sampled_from(SPECIALS)), max_size=3)
    return Network(text, used, size, draw(st.integers(0, 2**32)), draw(st.just([]) | specials))


# ---------------------------------------------------------------------------------------------------


def results(kernel, theta, batch, by="both", seed=None):
    """All that a kernel computes, as a list of arrays."""
    value, gradient = kernel.value_and_grad(theta, *batch, by=by, seed=seed)
    parts = {"parameters": [gradient], "arguments": gradient, "both": [gradient, []]}[by]
    if by == "both":
        parts = [gradient[0], *gradient[1]]
    return [np.asarray(x) for x in (kernel.value(theta, *batch), value, *parts)]


def bound(kernel, theta, batch):
    """What a bound step gives, and writes."""
    gradient = np.full(len(theta), 7.0, dtype=theta.dtype)
    step = kernel.bind(theta.copy(), gradient)
    return [np.asarray(step(*batch)), gradient]


def nudged(numbers, dtype):
    """The numbers with their last digits changed, in two ways."""
    rng = np.random.default_rng(0)
    for _ in range(2):
        yield [(x * (1 + 2 * np.finfo(dtype).eps * rng.choice([-1, 1], np.shape(x)))).astype(dtype) for x in numbers]


class Tally(Counter):
    """Counts numbers that were compared, and those about which nothing could be said."""

    def check(self, actual, expected, moved, tolerance):
        """Equal to within the tolerance, or as far apart as a change of the inputs' last digits moves them.

        What is infinite or nan is so in both; where such a change alters that, nothing is said.
        """
        for found, wanted, *others in zip(actual, expected, *moved, strict=True):
            assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
            kind, *kinds = [np.where(np.isfinite(x), 0.0, x) for x in (wanted, *others)]
            sure = np.logical_and.reduce([(k == kind) | (np.isnan(k) & np.isnan(kind)) for k in kinds])
            np.testing.assert_array_equal(np.where(np.isfinite(found), 0.0, found)[sure], kind[sure])
            finite = sure & np.isfinite(wanted)
            self["numbers"] += wanted.size
            self["finite"] += int(finite.sum())
            with np.errstate(all="ignore"):
                shaken = np.max([np.abs(x - wanted) for x in others], axis=0)[finite]
                allowed = tolerance * np.max(np.abs(wanted[finite]), initial=1.0) + 100 * shaken
                assert np.all(np.abs(found - wanted)[finite] <= allowed), (found, wanted, allowed)

    def says_something(self):
        assert self["finite"] > 0.6 * self["numbers"] > 1000, self


def same_bits(first, second):
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True))


def weights_of(kernel):
    """A weight for each of several outputs, one of them 0; or none."""
    count = kernel.signature.outputs
    return None if count is None else np.resize([1.0, -2.0, 0.0, 0.5], count)


def eager(function, kernel, theta, batch):
    """What ``results`` gives, by the engine."""
    for parameter, x in zip(kernel.parameters, theta.tolist(), strict=True):
        parameter.data, parameter.grad = x, 0.0
    leaves = [[[mg.Value(t) for t in x] if isinstance(x, list) else mg.Value(x) for x in a.tolist()] for a in batch]
    rows = [mg.calculus.flatten(function(*sample))[0] for sample in zip(*leaves, strict=True)]
    weight = 1.0 / len(rows) if kernel.signature.reduce == "mean" else 1.0
    outputs = [mg.total(column) * weight for column in zip(*rows, strict=True)]
    seed = weights_of(kernel)
    weighed = zip(outputs, [1.0] if seed is None else seed.tolist(), strict=True)
    mg.total([x * s for x, s in weighed if s]).backward()  # a weight of 0 leaves an output out
    value = [x.data if isinstance(x, mg.Value) else x for x in outputs]
    value = value[0] if seed is None else value
    slopes = [[[t.grad for t in x] if isinstance(x, list) else x.grad for x in a] for a in leaves]
    return [np.asarray(x, dtype=float) for x in (value, value, [p.grad for p in kernel.parameters], *slopes)]


@pytest.mark.parametrize("target", ["numpy", "native"])
def test_a_network_has_the_value_and_the_gradients_of_the_engine(target):
    tally = Tally()

    @given(networks(), st.sampled_from([1, 3, 9]), st.sampled_from(["mean", "sum"]))
    def check(network, samples, reduce):
        function, batch = network.function(), network.batch(samples)
        kernel = mg.compile(function, reduce=reduce, target=target).kernel(*batch)
        theta = kernel.read()
        found = results(kernel, theta, batch, seed=weights_of(kernel))
        moved = [eager(function, kernel, p, xs) for p, *xs in nudged([theta, *batch], "float64")]
        tally.check(found, eager(function, kernel, theta, batch), moved, 1e-12)

    check()
    tally.says_something()


def both(function, batch, threads=1, **options):
    """The kernels of two targets for one function."""
    each = [{"target": "native", "threads": threads}, {"target": "numpy"}]
    return [mg.compile(function, **one, **options).kernel(*batch) for one in each]


OPTIONS = st.fixed_dictionaries(
    {
        "reduce": st.sampled_from(["mean", "sum", None]),
        "by": st.sampled_from(["parameters", "arguments", "both"]),
        "seeded": st.booleans(),
        "samples": st.tuples(st.sampled_from(FEW), st.sampled_from(MANY)),
    }
)


def compare(tally, function, batch_of, dtype, reduce, by, seeded, samples, threads=1):
    """Native and NumPy kernels agree at batches of these sizes, and native ones repeat their bits."""
    native, numpy = both(function, batch_of(samples[0]), threads, reduce=reduce, dtype=dtype)
    theta, seed = native.read(), weights_of(native) if seeded else None
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    for size in samples:
        batch = batch_of(size)
        found = results(native, theta, batch, by, seed)
        moved = [results(numpy, p, xs, by, seed) for p, *xs in nudged([theta, *batch], dtype)]
        tally.check(found, results(numpy, theta, batch, by, seed), moved, tolerance)
        assert same_bits(found, results(native, theta, batch, by, seed))
        finite = all(np.isfinite(x).all() for x in found)  # a step does not part 0 · ∞ of other outputs from its own
        if finite and (native.signature.outputs is not None) == (reduce is None):
            moved = [bound(numpy, p, xs) for p, *xs in nudged([theta, *batch], dtype)]
            tally.check(bound(native, theta, batch), bound(numpy, theta, batch), moved, tolerance)


def test_native_networks_are_those_of_numpy_at_any_batch_in_any_threads_and_repeat_bit_for_bit(monkeypatch):
    monkeypatch.setattr(threads, "ENOUGH", 1)  # a tile is enough for a thread
    tally = Tally()

    @settings(max_examples=3 * settings().max_examples)  # a share for each of the three ways
    @given(networks(), OPTIONS, st.sampled_from([("float64", 1), ("float32", 1), ("float64", 0)]), st.integers(2, 4))
    def check(network, options, way, count):
        dtype, threads = way[0], way[1] or count
        compare(tally, network.function(), lambda size: network.batch(size, dtype), dtype, **options, threads=threads)

    check()
    tally.says_something()
    assert any(thread.name.startswith("microgrid") for thread in threading.enumerate())


def test_a_long_program_in_several_threads_passes_numbers_from_what_runs_once(monkeypatch):
    monkeypatch.setattr(threads, "ENOUGH", 1)
    weights, tally = [mg.Value(0.01 * k) for k in range(40)], Tally()

    def function(x, y):
        total = mg.dot(weights, weights)
        for k, w in enumerate(weights):
            for j in range(3):
                total = mg.sin(total * w + x[j] * (k + 1.0 + j)) + mg.cos(y - w * weights[j]) * x[(k + j) % 3]
        return total

    rng = np.random.default_rng(0)
    batches = {size: [rng.normal(size=(size, 3)), rng.normal(size=size)] for size in (5, 333)}
    options = {"reduce": "mean", "by": "both", "seeded": False}
    compare(tally, function, batches.__getitem__, "float64", samples=(5, 333), threads=3, **options)
    assert tally["finite"] == tally["numbers"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_process_has_threads_of_its_own():
    script = """if True:
        import os, numpy as np, microgrid as mg
        kernel = mg.compile(lambda x: mg.exp(x), threads=2, target="native").kernel([0.0])
        batch = np.linspace(0.0, 1.0, 500_000)
        value = kernel.value([], batch)
        child = os.fork()
        if child:
            assert os.waitpid(child, 0)[1] == 0
        else:
            os._exit(kernel.value([], batch) != value)
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("members", [15, 16, 37, 300])
def test_native_gradients_of_a_wide_layer_are_those_of_numpy_at_any_batch(members, dtype):
    rng, tally = np.random.default_rng(members), Tally()
    weights = [[mg.Value(w) for w in row] for row in rng.normal(size=(9, members + 1)) / members]
    options = {"reduce": "mean", "by": "both", "seeded": False}

    def function(x):
        return mg.total([mg.tanh(mg.dot(row[:-1], x) + row[-1]) for row in weights])

    for samples in zip(FEW[:3], MANY[:3], strict=True):
        rows = {size: rng.normal(size=(size, members)).astype(dtype) for size in samples}
        compare(tally, function, lambda size, rows=rows: [rows[size]], dtype, samples=samples, **options)
    tally.says_something()


def test_native_programs_of_every_structure_are_those_of_numpy():
    tally = Tally()

    @given(cases(), OPTIONS)
    def check(case, options):
        function = case.function([mg.Value(x) for x in case.parameters])
        given = [np.array(argument) for argument in case.batch]
        grown = lambda size: [np.resize(a, (size, *a.shape[1:])) for a in given]  # noqa: E731 - they repeat
        compare(tally, function, grown, "float64", **options)

    check()
    tally.says_something()


def test_an_infinite_or_nan_sample_leaves_the_others_alone():
    tally = Tally()

    @given(networks(max_steps=4), st.sampled_from(FEW[3:] + MANY))
    def check(network, samples):
        network.specials = []
        clean, spoilt = network.batch(samples), network.batch(samples)
        spoilt[0][-1] = np.resize([math.nan, math.inf, -math.inf], network.size)
        kernel = mg.compile(network.function(), reduce=None, target="native").kernel(*clean)
        theta, seed = kernel.read(), weights_of(kernel)
        found, wanted = ([x[:-1] for x in results(kernel, theta, batch, seed=seed)] for batch in (spoilt, clean))
        tally.check(found, wanted, [wanted], 1e-12)

    check()
    tally.says_something()


@settings(max_examples=20)
@given(networks(), st.sampled_from(MANY), st.sampled_from(["mean", None]))
def test_several_threads_compute_the_same_bits(network, samples, reduce):
    batch = network.batch(samples)
    kernel = mg.compile(network.function(), reduce=reduce, target="native").kernel(*batch)
    theta, seed = kernel.read(), weights_of(kernel)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: results(kernel, theta, batch, seed=seed), range(16)))
    assert all(same_bits(found[0], other) for other in found[1:])


@pytest.mark.parametrize(("outputs", "loss"), [(1, losses.binary_cross_entropy), (2, losses.cross_entropy)])
def test_learning_is_native_and_the_same_as_on_values(outputs, loss, monkeypatch):
    monkeypatch.delenv("MICROGRID_NATIVE")
    X, y = mg.data.moons(40, seed=0)
    found = []
    for way in (False, True):
        layers = [nn.Affine(2, 8, seed=0), nn.ReLU(), nn.Dropout(0.3, seed=0), nn.Affine(8, outputs, seed=1)]
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of native code that could not be made
            history = mg.fit(nn.Sequential(*layers), X, y, epochs=3, seed=1, loss=loss, quiet=True, compile=way)
        assert not history.not_compiled or not way
        found.append(history.loss)
    assert found[0] == pytest.approx(found[1], rel=1e-10)
