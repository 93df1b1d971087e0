"""Graphs without structure, run as records: the numbers of the engine, and memory that is linear in the nodes."""

import math
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from bounds import Graph
from hypothesis import given
from hypothesis import strategies as st
from programs import ROWS, wild_cases

import microgrid as mg
from microgrid import ops
from microgrid.compiler.gates import with_gates
from microgrid.compiler.program import from_graph
from microgrid.compiler.signature import Signature
from microgrid.compiler.simplify import simplify
from microgrid.compiler.stages import Stages
from microgrid.compiler.targets.native.rows import unsupported
from microgrid.compiler.targets.native.tape import NativeTape, interpreter
from microgrid.compiler.targets.records import records
from microgrid.compiler.targets.tape import Tape
from microgrid.compiler.task import VALUE, Task
from tests.compiler.test_agreement import WEIGHTS, Tally, at, value_of
from tests.compiler.test_rows import HIDDEN, columns, same

TARGETS = [Tape(), NativeTape()]


@pytest.fixture(params=TARGETS, ids=lambda target: target.name)
def target(request):
    return request.param


def stages_of(outputs, inputs=(), batched=False):
    """A graph on its way to a target, and its parameters."""
    program, parameters = from_graph(outputs, inputs)
    names, shapes = tuple([f"x{k}" for k in range(len(inputs))]), tuple([(len(x),) for x in inputs])
    signature = Signature(names, shapes, batched, None, len(outputs), "float64")
    return Stages(with_gates(simplify(program)), signature), parameters


def compiled(target, outputs, inputs=(), by="both"):
    """Compile a graph; return a function of a seed, and the parameters: the outputs, then the gradients, flat."""
    stages, parameters = stages_of(outputs, inputs)
    executable = target.build(stages, VALUE if by == "value" else Task.gradient(by))
    theta = np.array([parameter.data for parameter in parameters])
    arguments = [np.array([leaf.data for leaf in argument]) for argument in inputs]
    sizes = {"value": [], "parameters": [theta], "arguments": arguments, "both": [theta, *arguments]}[by]

    def run(seed=None):
        outs = [np.full(len(outputs), 7.0), *[np.full(len(x), 7.0) for x in sizes]]
        executable.run(theta, np.ones(len(outputs)) if seed is None else np.array(seed), arguments, outs)
        return outs

    return run, parameters


@pytest.mark.parametrize("count", [3, None])
@pytest.mark.parametrize("row", [*ops.rows(), *HIDDEN], ids=lambda row: row.name)
def test_every_row_has_the_engines_numbers_at_special_values(target, row, count):
    if target.name == "native tape" and unsupported(row):
        assert row.recipe[0] is ops.round_of
        return
    points = list(zip(*columns(row), strict=True))[:count]
    leaves = [[mg.Value(x) for x in point] for point in points]
    outputs = [row(*mine) for mine in leaves]
    run, _ = compiled(target, outputs, leaves)
    values, _, *gradients = run()
    for point, mine, output, value, gradient in zip(points, leaves, outputs, values, gradients, strict=True):
        output.backward()
        assert same(value, output.data), (point, value, output.data)
        assert same(gradient, [leaf.grad for leaf in mine]).all(), (point, gradient, mine)


@pytest.mark.parametrize("copies", [1, 20])
def test_random_graphs_of_all_rows_agree_with_the_model(target, copies):
    tally = Tally()

    rows = [row for row in ROWS if target.name == "tape" or unsupported(row) is None]

    @given(wild_cases(rows=rows), st.sampled_from("fg"), st.sampled_from(["value", "parameters", "arguments", "both"]))
    def check(case, name, by):
        parameters = [mg.Value(x) for x in case.parameters]
        f, samples = case.function(parameters, name), list(zip(*case.batch, strict=True))
        outputs, inputs = [], []
        for k in range(copies):
            leaves = [[mg.Value(t) for t in (x if isinstance(x, list) else [x])] for x in samples[k % len(samples)]]
            inputs += leaves
            result = f(leaves[0], leaves[1], leaves[2][0])
            outputs += [value_of(x) for x in (result if name == "g" else [result])]
        run, found = compiled(target, outputs, inputs, by)
        seed = [WEIGHTS[k % 3] for k in range(len(outputs))] if name == "g" else None
        values, *gradients = run(seed)
        whole = outputs[0] if len(outputs) == 1 else mg.total(outputs)
        if seed is not None:
            whole = mg.total([x * weight for x, weight in zip(outputs, seed, strict=True)])
        graph = Graph([whole], compiled=True)
        tally.check(values, [Graph([x]).balls[x] for x in outputs], "value")
        leaves = {"value": [], "parameters": [found], "arguments": inputs}.get(by, [found, *inputs])
        for gradient, mine in zip(gradients, leaves, strict=True):
            tally.check(gradient, at(graph.reverse(whole), mine), by)

    check()
    tally.some_is_certain()


UNARY = [mg.sin, mg.cos, mg.tanh, mg.atan, mg.sigmoid, lambda a: 0.5 * a, lambda a: a - 1.0]
BINARY = [ops.add, ops.sub, ops.mul, ops.maximum, lambda a, b: a / (1.0 + b * b)]


def random_graph(nodes, leaves, window, seed=0):
    """A graph of so many nodes and some more, each of any of those before it, whose last ones are added up."""
    choose, made = random.Random(seed), list(leaves)
    while len(made) < nodes:
        a, b = (made[-choose.randrange(1, min(window, len(made)) + 1)] for _ in range(2))
        made.append(choose.choice(UNARY)(a) if choose.random() < 0.6 else choose.choice(BINARY)(a, b))
    return mg.total(made[-window:])


def cholesky(a):
    """The logarithm of the determinant of a matrix, by its factor L, scalar by scalar."""
    size = len(a)
    factor = [[None] * size for _ in a]
    for i in range(size):
        for j in range(i + 1):
            rest = a[i][j] - mg.total([factor[i][k] * factor[j][k] for k in range(j)]) if j else a[i][j]
            factor[i][j] = mg.sqrt(rest) if i == j else rest / factor[j][j]
    return 2.0 * mg.total([mg.log(factor[i][i]) for i in range(size)])


@pytest.mark.parametrize("window", [3, 40, 2000])
def test_a_large_random_graph_has_the_engines_gradient(target, window):
    leaves = [mg.Value(0.1 * k) for k in range(-10, 10)]
    output = random_graph(5000, leaves, window)
    run, _ = compiled(target, [output], [leaves], "arguments")
    value, gradient = run()
    output.backward()
    expected = np.array([leaf.grad for leaf in leaves])
    assert value == pytest.approx([output.data], rel=1e-12)
    assert np.linalg.norm(gradient - expected) <= 1e-12 * np.linalg.norm(expected)


def test_a_scalar_cholesky_factorisation_has_the_inverse_matrix_as_gradient(target):
    matrix = np.random.default_rng(0).normal(size=(20, 20))
    matrix = matrix @ matrix.T + 20.0 * np.eye(20)
    leaves = [[mg.Value(x) for x in row] for row in matrix]
    run, _ = compiled(target, [cholesky(leaves)], leaves, "arguments")
    value, *gradient = run()
    assert value == pytest.approx([np.linalg.slogdet(matrix)[1]], rel=1e-12)
    found, expected = np.array(gradient), np.linalg.inv(matrix)
    assert np.allclose(np.tril(found, -1), 2.0 * np.tril(expected, -1), rtol=0.0, atol=1e-13)
    assert np.allclose(np.diag(found), np.diag(expected), rtol=0.0, atol=1e-13)


def test_a_large_scalar_cholesky_factorisation_is_for_the_native_tape(monkeypatch):
    monkeypatch.delenv("MICROGRID_NATIVE", raising=False)
    leaves = [[mg.Value(float(i == j)) for j in range(50)] for i in range(50)]
    kernel = mg.compile(lambda: cholesky(leaves)).kernel()
    assert kernel.target == "native tape"
    assert "statements on arrays" in kernel.why_not["native"]


def test_wide_sums_and_extremes_have_one_record_each(target):
    leaves = [mg.Value(math.sin(k)) for k in range(3000)]
    tops = [mg.stop_gradient(mg.maximum(*leaves[k::30])) for k in range(30)]
    outputs = [mg.total([leaf * top for leaf, top in zip(leaves[k::30], tops, strict=False)]) for k in range(30)]
    outputs += [mg.total([*leaves, 2.5]), mg.total(leaves[:1500])]
    run, _ = compiled(target, outputs, [leaves], "arguments")
    values, gradient = run()
    mg.total(outputs).backward()
    assert values == pytest.approx([output.data for output in outputs], rel=1e-12)
    assert gradient == pytest.approx([leaf.grad for leaf in leaves], rel=1e-12)


def test_outputs_may_be_leaves_constants_and_the_same_node_twice(target):
    a, b = mg.Value(2.0), mg.Value(3.0)
    product = a * b
    run, parameters = compiled(target, [product, b, mg.engine.constant(4.0), product, a], [[a]])
    assert parameters == [b]
    values, by_theta, by_argument = run([1.0, 10.0, 100.0, 1000.0, 10000.0])
    assert values.tolist() == [6.0, 3.0, 4.0, 6.0, 2.0]
    assert (by_theta.tolist(), by_argument.tolist()) == ([2012.0], [13003.0])


def test_nothing_flows_to_what_is_constant_or_cut_not_even_nan(target):
    a, b = mg.Value(0.0), mg.Value(4.0)
    outputs = [mg.stop_gradient(mg.sqrt(a)) * b + mg.floor(mg.log(a)) * 0.0 + a for _ in range(20)]
    run, _ = compiled(target, outputs, [[a], [b]], "arguments")
    values, by_a, by_b = run()
    assert np.isnan(values).all()
    assert (by_a.tolist(), by_b.tolist()) == ([20.0], [0.0])


def test_arrays_may_be_of_single_precision(target):
    leaves = [mg.Value(0.125 * k) for k in range(20)]
    stages, _ = stages_of([random_graph(3000, leaves, 100)], [leaves])
    outs = [np.zeros(1, np.float32), np.zeros(20, np.float32)]
    given = [np.array([leaf.data for leaf in leaves], np.float32)]
    empty = np.zeros(0, np.float32)
    target.build(stages, Task.gradient("arguments")).run(empty, np.ones(1, np.float32), given, outs)
    output = random_graph(3000, leaves, 100)
    output.backward()
    assert outs[0] == pytest.approx([output.data], rel=1e-6)
    assert outs[1] == pytest.approx([leaf.grad for leaf in leaves], rel=1e-6)


def test_runs_repeat_bit_for_bit_in_any_thread(target):
    leaves = [mg.Value(0.1 * k) for k in range(20)]
    run, _ = compiled(target, [random_graph(3000, leaves, 100)], [leaves], "arguments")
    first = [out.tobytes() for out in run()]
    with ThreadPoolExecutor(4) as pool:
        assert all([out.tobytes() for out in outs] == first for outs in pool.map(lambda _: run(), range(40)))


@pytest.mark.parametrize("shape", ["chain", "random"])
def test_60_000_nodes_take_few_bytes_each_and_no_recursion(target, shape):
    leaves = [mg.Value(0.1 * k) for k in range(20)]
    if shape == "chain":
        output = leaves[0]
        for k in range(30_000):
            output = mg.sin(output) + leaves[k % 20]
    else:
        output = random_graph(60_000, leaves, 10_000)
    program = simplify(from_graph([output], [leaves])[0])
    made = records(program, Task.gradient("arguments"))
    assert made.nbytes <= 48 * len(program)
    run, _ = compiled(target, [output], [leaves], "arguments")
    value, gradient = run()
    output.backward()
    assert value == pytest.approx([output.data], rel=1e-9)
    assert gradient == pytest.approx([leaf.grad for leaf in leaves], rel=1e-6, abs=1e-6)


def test_what_the_tape_does_not_suit_gets_a_reason(target):
    leaves = [mg.Value(0.1 * k) for k in range(20)]
    output = random_graph(5000, leaves, 100)
    assert target.suits(stages_of([output])[0]) is None
    batched = target.suits(stages_of([output], [leaves], batched=True)[0])
    assert (batched is None) if target.name == "native tape" else "axis over samples" in batched
    assert "its 21 nodes of 3 structures are few" in target.suits(stages_of([mg.total(leaves)], [leaves[1:]])[0])


@pytest.mark.parametrize("reduce", ["mean", "sum", None])
@pytest.mark.parametrize("samples", [1, 7, 8, 17])
def test_a_batch_through_a_large_graph_has_the_engines_numbers_on_the_native_tape(samples, reduce, monkeypatch):
    monkeypatch.delenv("MICROGRID_NATIVE", raising=False)
    parameters = [mg.Value(0.1 * k) for k in range(5)]

    def f(x):
        graph = random_graph(4000, [*parameters, *x], 300)
        return [graph, graph * x[0], parameters[0]]

    batch = np.random.default_rng(samples).normal(size=(samples, 4))
    kernel = mg.compile(f, reduce=reduce).kernel(batch)
    assert kernel.target == "native tape"
    weights = [1.0, -0.5, 2.0]
    seed = weights if reduce else np.tile(weights, (samples, 1))
    value, (by_parameters, (by_samples,)) = kernel.value_and_grad(kernel.read(), batch, seed=seed, by="both")
    leaves = [[mg.Value(x) for x in sample] for sample in batch.tolist()]
    rows = [f(sample) for sample in leaves]
    mean = samples if reduce == "mean" else 1
    expected = np.array([[x.data for x in row] for row in rows])
    assert np.allclose(value, expected.sum(axis=0) / mean if reduce else expected, rtol=1e-10, atol=1e-12)
    for k, row in enumerate(rows):
        (mg.dot(weights, row) / float(mean)).backward()
        if reduce is None:
            assert np.allclose(by_parameters[k], [p.grad for p in kernel.parameters], rtol=1e-9, atol=1e-11)
            for p in parameters:
                p.grad = 0.0
    if reduce:
        assert np.allclose(by_parameters, [p.grad for p in kernel.parameters], rtol=1e-9, atol=1e-11)
    assert np.allclose(by_samples, [[x.grad for x in sample] for sample in leaves], rtol=1e-9, atol=1e-11)


def test_a_native_tape_learns_and_has_jacobians_and_hessians(monkeypatch):
    monkeypatch.delenv("MICROGRID_NATIVE", raising=False)
    w = [mg.Value(0.3), mg.Value(-0.2)]
    batch = np.linspace(0.1, 0.9, 5)
    kernel = mg.compile(lambda x: random_graph(4000, [*w, x], 300)).kernel(batch)
    assert kernel.target == "native tape"
    theta, gradient = kernel.read(), np.zeros(2)
    loss = kernel.bind(theta, gradient)(batch)
    means = mg.mean([random_graph(4000, [*w, mg.Value(x)], 300) for x in batch.tolist()])
    means.backward()
    assert loss == pytest.approx(means.data)
    assert gradient == pytest.approx([p.grad for p in kernel.parameters])
    assert kernel.jacobian(theta, batch) == pytest.approx(gradient)
    second = kernel.hessian(theta, batch)
    ends = [kernel.value_and_grad(theta + np.array([step, 0.0]), batch)[1] for step in (1e-6, -1e-6)]
    assert second[0] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)


def test_a_row_without_a_native_form_is_named():
    own = mg.Op("own", lambda x: x, (lambda y, x: 1.0,))
    branching = mg.Op("bend", abs, (lambda y, x: 1.0 if x > 0 else -1.0,), expansion=lambda x: ops.absolute(x))
    leaves = [mg.Value(0.1 * k) for k in range(20)]
    output = random_graph(5000, leaves, 100)
    for row, name in ((own, "own"), (branching, "bend'0"), (ops.maximum_of(9), "maximum[9]")):
        stages, _ = stages_of([row(output, *leaves[1 : row.arity])])
        assert Tape().suits(stages) is None
        assert f"operation {name!r}" in NativeTape().suits(stages)


def test_machine_code_depends_on_the_rows_but_not_on_the_program():
    leaves = [mg.Value(0.1 * k) for k in range(20)]
    programs = [stages_of([random_graph(nodes, leaves, nodes)])[0].program for nodes in (3000, 4000, 9000)]
    task = Task.gradient("parameters")
    texts = {interpreter(records(program, task).instructions, True) for program in programs}
    assert len(texts) == 1


def test_records_are_shown_run_by_run(target):
    a, b = mg.Value(2.0), mg.Value(3.0)
    executable = target.build(stages_of([mg.sin(a) + mg.sin(b) * 2.0, mg.total([a, b, a])], [[a, b]])[0], VALUE)
    assert executable.text(target.stages[0]).splitlines() == [
        "3 values, then 4 runs of 5 records",
        "3…4 = sin([1, 2])",
        "5 = sum([1], [2], [1])",
        "6 = mul([4], [0])",
        "7 = add([3], [6])",
        "return [7, 5]",
    ]
