"""Compiled look-ups: every target chooses as the engine does, and adds what comes back to what was chosen."""

import shutil
import subprocess

import numpy as np
import pytest

import microgrid as mg
from microgrid.compiler import compile
from microgrid.compiler.ir import Gather, Map, ScatterAdd
from microgrid.compiler.targets import named
from microgrid.compiler.task import Task
from microgrid.engine import Value

TABLE = [[Value(0.1 * k - 0.3 * j) for j in range(3)] for k in range(7)]
WEIGHTS = [Value(0.25 * (k - 4)) for k in range(9)]
PARAMETERS = [*[x for row in TABLE for x in row], *WEIGHTS]


def of_a_table(x, t):
    rows = [mg.take(TABLE, k) for k in t]
    return mg.dot(map(mg.tanh, map(sum, zip(*rows, strict=True))), WEIGHTS[:3]) + x[0] * x[1]


def of_an_argument(x, t):
    return mg.take(x, t[0]) * WEIGHTS[0] + mg.exp(mg.take([a * a for a in x], t[1])) * WEIGHTS[1]


def of_a_table_put_together(x, t):
    table = [[0.0] * 3, *TABLE[:3], [x[0], x[1], 2.0]]
    return mg.total(mg.dot(map(mg.sin, mg.take(table, k)), WEIGHTS[:3]) for k in t)


def of_a_table_out_of_order(x, t):
    columns = [TABLE[k][j] for j in (2, 0, 1) for k in (3, 1, 4, 0)]
    return mg.total(mg.take(columns[j:] + columns[:j], t[j]) * w for j, w in enumerate(WEIGHTS[:3])) + x[0]


def of_constants(x, t):
    doubled = [w * 2.0 for w in WEIGHTS[:5]]
    return mg.take([3.0, 1.0, 4.0, 1.5, 9.0], t[0]) * x[0] * WEIGHTS[0] + mg.take(doubled, t[1]) * mg.take(
        [2.0] * 6, t[2]
    )


def of_what_was_looked_up(x, t):
    many = TABLE[0] + TABLE[1] + WEIGHTS
    return mg.total(mg.cos(mg.take(many, mg.take([0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 7.0], k)) * x[0]) for k in t)


def by_a_comparison(x, t):
    return mg.take([WEIGHTS[0], x[1]], mg.less(x[0], 0.5)) * mg.total(mg.take(WEIGHTS, k) for k in t)


def by_a_constant(x, t):
    return mg.take(WEIGHTS, mg.engine.constant(-2.0)) * x[0] + mg.take(WEIGHTS, mg.stop_gradient(t[0]))


FUNCTIONS = [
    of_a_table,
    of_an_argument,
    of_a_table_put_together,
    of_a_table_out_of_order,
    of_constants,
    of_what_was_looked_up,
    by_a_comparison,
    by_a_constant,
]


def batch(samples):
    """Numbers and indices, some of which are repeated, count from the end, or are no indices at all."""
    random = np.random.default_rng(samples)
    indices = random.integers(-3, 3, size=(samples, 3)).astype(float)
    if samples > 3:
        indices[1, 0], indices[2, 1], indices[0, 2], indices[3] = 2.5, 77.0, np.nan, [-1e30, np.inf, -8.0]
    return random.normal(size=(samples, 3)), indices


def eager(function, X, indices, mean):
    """The value and the gradients by the parameters and both arguments, by the engine."""
    for p in PARAMETERS:
        p.grad = 0.0
    leaves = [[[Value(x) for x in row] for row in array.tolist()] for array in (X, indices)]
    total = mg.total(function(x, t) for x, t in zip(*leaves, strict=True))
    (total / len(X) if mean else total).backward()
    by_arguments = [np.array([[x.grad for x in row] for row in rows]) for rows in leaves]
    return total.data / (len(X) if mean else 1.0), {p: p.grad for p in PARAMETERS}, by_arguments


def agree(kernel, found, expected):
    value, (by_theta, by_arguments) = found
    for actual, wanted in (
        (value, expected[0]),
        (by_theta, [expected[1][p] for p in kernel.parameters]),
        *zip(by_arguments, expected[2], strict=True),
    ):
        np.testing.assert_allclose(actual, np.reshape(wanted, np.shape(actual)), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("target", ["numpy", "native"])
@pytest.mark.parametrize("samples", [1, 5, 700])
def test_a_batch_has_the_numbers_of_the_engine(function, target, samples):
    X, indices = batch(samples)
    for reduce in ("mean", None):
        for unrolled in {False, samples < 100}:
            kernel = compile(function, reduce=reduce).kernel(X, indices)
            kernel.stages.unrolled = unrolled
            kernel._choice.target = named(target)
            kernel.stages.array_program(Task.gradient("both")).verify()
            value, (by_theta, by_arguments) = kernel.value_and_grad(kernel.read(), X, indices, by="both")
            if reduce is None:
                value, by_theta = value.sum(), by_theta.sum(0)
            agree(kernel, (value, (by_theta, by_arguments)), eager(function, X, indices, reduce == "mean"))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("target", ["floats", "loops", "tape", "numpy", "native"])
def test_one_sample_has_the_numbers_of_the_engine(function, target):
    for X, indices in (batch(1), [a[:1] for a in batch(4)]):
        kernel = compile(function, batch=False).kernel(X[0], indices[0])
        kernel.stages.unrolled = target not in ("numpy", "native")
        kernel._choice.target = named(target)
        found = kernel.value_and_grad(kernel.read(), X[0], indices[0], by="both")
        agree(kernel, found, eager(function, X, indices, mean=False))


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_in_c_it_has_the_numbers_of_numpy(function, tmp_path):
    X, indices = batch(5)
    kernel = compile(function).kernel(X, indices)
    for tile in (1, 4):
        (tmp_path / "f.c").write_text(kernel.to_c("f", by="both", tile=tile, batch=[X, indices]), encoding="utf-8")
        command = ["gcc", "-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-DF_TEST", "f.c", "-lm"]
        subprocess.run([*command, "-fsanitize=address,undefined"], cwd=tmp_path, check=True)
        done = subprocess.run(["./a.out"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_table_is_gathered_and_its_gradient_added_to_the_table_alone():
    X, indices = batch(5)
    program = compile(of_a_table).kernel(X, indices).stages.array_program(Task.gradient("parameters"))
    (gather,) = [x for x in program.nodes if isinstance(x, Gather)]
    (added,) = [x for x in program.nodes if isinstance(x, ScatterAdd)]
    assert (gather.shape, gather.source.shape, gather.map) == ((3, 3), (21,), Map((3, 3, 7), 0, (0, 7, 1)))
    assert (added.shape, added.batched, added.batch) == ((21,), False, True)
    boxes = {box.name: box for box in compile(of_a_table).kernel(X, indices).boxes()}
    assert (boxes["gather"].symbol, boxes["scatter_add"].shape) == ("xₖ", "21")
    assert "gather(" in program.dump()
    assert "of 7" in program.dump()


def test_the_statements_do_not_grow_with_the_tokens_or_the_table():
    def statements(tokens, rows):
        embed, w = mg.nn.Embedding(rows, 4, seed=0), [Value(0.5) for _ in range(4)]
        loss = lambda t: mg.total(mg.tanh(mg.dot(w, row)) for row in embed(t))  # noqa: E731
        return len(compile(loss).kernel(np.zeros((2, tokens), int)).statements())

    assert statements(6, 5) == statements(12, 5) == statements(12, 50)


def test_an_infinite_gradient_goes_to_what_was_chosen_alone():
    w = [Value(0.0), Value(0.0), Value(4.0)]
    for options in ({"batch": True}, {"batch": False}):
        kernel = compile(lambda t: mg.sqrt(mg.take(w, t)), **options).kernel(np.array([1]) if options["batch"] else 1)
        _, gradient = kernel.value_and_grad(kernel.read(), np.array([1]) if options["batch"] else 1)
        assert gradient.tolist() == [0.0, np.inf, 0.0]


def test_integers_choose_as_floats_do_and_have_no_gradient():
    for dtype in (int, np.int32, np.uint8, float):
        kernel = compile(lambda t: mg.take(WEIGHTS, t[0]) * mg.take(WEIGHTS, t[1]), reduce=None).kernel([[1, 2]])
        tokens = np.array([[1, 2], [8, 0]], dtype)
        values, (by_tokens,) = kernel.value_and_grad(kernel.read(), tokens, by="arguments")
        assert values.tolist() == [0.375, -1.0]
        assert not by_tokens.any()


def test_a_list_indexed_by_a_traced_number_says_how_it_is_done():
    with pytest.raises(mg.TraceError, match=r"used as an index .* mg\.take\(values, v\)"):
        compile(lambda t: WEIGHTS[t]).kernel([1])


@pytest.mark.parametrize("target", ["numpy", "native"])
def test_single_precision_chooses_the_same(target):
    X, indices = (array[4:] for array in batch(30))
    kernel, wide = (
        compile(of_a_table, dtype=dtype, target=how).kernel(X, indices)
        for dtype, how in (("float32", target), ("float64", "numpy"))
    )
    found, expected = (k.value_and_grad(k.read(), X, indices) for k in (kernel, wide))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-6)


def test_a_long_chain_of_choices_is_no_deep_recursion():
    def last(xs):
        state = 1.0
        for x in xs:
            state = mg.take([mg.sqrt(state * x), x], mg.less(x, 0.5))
        return state

    xs = np.where(np.arange(700) % 350, 0.7, 0.25)
    leaves = [mg.Value(x) for x in xs]
    last(leaves).backward()
    kernel = mg.compile(last, batch=False, target="floats").kernel(xs)
    value, (gradient,) = kernel.value_and_grad([], xs, by="arguments")
    assert value == pytest.approx(last(xs.tolist()))
    assert gradient == pytest.approx([x.grad for x in leaves])
