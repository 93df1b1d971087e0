"""Kernels as JAX functions: alone, transformed, sharded over eight devices, and over two processes."""

import os
import socket
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bounds import Graph
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import assert_close, cases, eager, formed, wild_cases

import microgrid as mg
import tests.compiler.test_iterations as iterations
import tests.compiler.test_lookups as lookups
import tests.compiler.test_scans as scans
from microgrid import ops
from microgrid.compiler import compile
from microgrid.strategies import expressions
from tests.compiler.test_agreement import Eager, Tally, at
from tests.compiler.test_rows import HIDDEN, columns, function, same
from tests.compiler.test_scans import anything_folds  # noqa: F401, a fixture
from tests.oracles.test_programs import is_away_from_kinks

jax.config.update("jax_enable_x64", True)

NETWORK = """
import random
import numpy as np
import microgrid as mg
from microgrid.compiler import compile
from microgrid.strategies import expressions

rng = random.Random(0)
layers = [[[mg.Value(rng.gauss(0, 0.4)) for _ in range(m + 1)] for _ in range(n)] for m, n in ((12, 8), (8, 4))]

def loss(x, y):
    for depth, layer in enumerate(layers):
        x = [mg.dot(w[:-1], x) + w[-1] for w in layer]
        if depth == 0:
            x = [mg.relu(t) for t in x]
    return mg.logsumexp(x) - mg.dot(x, y)

numbers = np.random.default_rng(0)
X, Y = numbers.normal(size=(64, 12)), np.eye(4)[numbers.integers(0, 4, 64)]
kernel = compile(loss).kernel(X, Y)
theta = kernel.read()
value, gradient = kernel.value_and_grad(theta, X, Y)
"""


def network():
    names = {}
    exec(NETWORK, names)
    return names


@given(cases(max_steps=5))
@settings(max_examples=15)  # XLA takes a second for each program
def test_a_program_on_jax_equals_the_engine(case):
    parameters = [mg.Value(x) for x in case.parameters]
    kernel = compile(case.function(parameters)).kernel(*case.batch)
    expected, nudged = eager(case), eager(case, nudge=4e-16)
    value, gradient = jax.value_and_grad(kernel.to_jax())(kernel.read(), *case.batch)
    at = dict(zip(map(id, kernel.parameters), gradient.tolist(), strict=True))
    assert_close(value, expected[0], nudged[0])
    assert_close([at.get(id(p), 0.0) for p in parameters], expected[1], nudged[1])


@given(wild_cases(max_steps=4), st.sampled_from(["mean", "sum", None]), st.booleans())
@settings(max_examples=40)
def test_a_program_of_any_rows_on_jax_agrees_with_the_model_at_any_numbers(case, reduce, lifted):
    eager = Eager(case, "f", reduce, True)
    parameters = [mg.Value(x) for x in case.parameters]
    kernel = compile(case.function(parameters), reduce=reduce).kernel(*case.batch)
    formed(kernel, "lifted" if lifted else "spelled out")
    place = {p: k for k, p in enumerate(parameters)}
    leaves = [eager.parameters[place[p]] for p in kernel.parameters]
    f, theta, batch = kernel.to_jax(), kernel.read(), [np.array(x) for x in case.batch]
    outputs = [row[0] for row in eager.rows]
    tally = Tally()
    tally.check(f(theta, *batch), eager.outputs, "value")
    apart = Graph(outputs, compiled=True)
    total = mg.total(outputs)
    graph = Graph([total], compiled=True)
    gradients = jax.grad(lambda theta, *batch: f(theta, *batch).sum(), argnums=(0, 1, 2, 3))(theta, *batch)
    wanted = [leaves, *[eager.leaves_of(k) for k in range(3)]]
    for gradient, nodes in zip(gradients, wanted, strict=True):
        tally.check(gradient, at(graph.reverse(total), nodes), "gradient")
    for k, leaf in enumerate(leaves):
        tangent = jax.jvp(lambda theta: f(theta, *batch), (theta,), (jnp.eye(len(theta))[k],))[1]
        wanted = at(apart.forward(leaf, leaves), outputs)
        # Tangents that have one derivative are added up before they meet it: (1 + 0)·∞ is ∞, and 1·∞ + 0·∞ is nan.
        pairs = zip(np.ravel(tangent).tolist(), wanted, strict=True)
        met = [ball.x if np.isinf(t) and np.isnan(ball.x) else t for t, ball in pairs]
        tally.check(met, wanted, f"tangent {k}")


MAPPED = [ops.lgamma, ops.digamma]
"""JAX calls them, or their derivatives, back on the host: it cannot differentiate them again."""
TWICE = [op for op in ops.rows() if op not in MAPPED and not (op.recipe and op.recipe[0] is ops.polygamma_of)]
CUT = [ops.stop_gradient, ops.floor, ops.less, ops.where]


@given(expressions(TWICE + 3 * CUT, max_steps=5, largest=10.0).filter(is_away_from_kinks))
@settings(max_examples=40)
def test_jax_differentiates_a_kernel_twice_and_sees_what_cuts_a_path(program):
    point = np.array(program.at)
    kernel = compile(lambda v: program(*v), batch=False).kernel(point)
    hessian = jax.hessian(lambda x: kernel.to_jax()(np.zeros(0), x))(point)
    expected = np.array(mg.hessian(lambda v: program(*v))(list(program.at)))
    assert np.asarray(hessian) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_hessian_of_a_stopped_factor_is_zero():
    w = mg.Value(3.0)
    kernel = compile(lambda x: w * mg.stop_gradient(w) * x).kernel([1.0, 2.0])
    assert np.asarray(jax.hessian(kernel.to_jax())(kernel.read(), np.array([1.0, 2.0]))).tolist() == [[0.0]]


@pytest.mark.parametrize("row", [*ops.rows(), *HIDDEN], ids=lambda row: row.name)
def test_a_row_on_jax_has_the_same_numbers_at_special_values(row):
    xs = columns(row)
    kernel = compile(function(row), reduce=None).kernel(*xs)
    f = kernel.to_jax()
    values, gradients = kernel.value_and_grad([], *xs, by="arguments")
    got = f([], *xs)
    slopes = jax.grad(lambda *columns: f(jnp.zeros(0), *columns).sum(), argnums=tuple(range(len(xs))))(*xs)
    # XLA flushes the numbers below 2.2e-308 to zero.
    usable = np.all([np.abs(x) != 5e-324 for x in xs], axis=0)
    for actual, expected in [(got, values), *zip(slopes, gradients, strict=True)]:
        wrong = ~same(actual, expected) & usable
        assert not wrong.any(), [(x[wrong][:3], np.asarray(actual)[wrong][:3], expected[wrong][:3]) for x in xs]


def test_a_kernel_is_a_pure_function_under_jit_grad_vmap_and_jacobians():
    names = network()
    kernel, theta, x, y = names["kernel"], names["theta"], names["X"], names["Y"]
    f = kernel.to_jax()
    value, gradient = jax.jit(jax.value_and_grad(f))(theta, x, y)
    assert value == pytest.approx(names["value"], rel=1e-12)
    assert gradient == pytest.approx(names["gradient"], rel=1e-12, abs=1e-12)
    thetas = np.stack([theta, 0.5 * theta])
    batched = jax.vmap(jax.grad(f), in_axes=(0, None, None))(thetas, x, y)
    assert batched[1] == pytest.approx(kernel.value_and_grad(thetas[1], x, y)[1], rel=1e-12, abs=1e-12)
    by_arguments = jax.grad(f, argnums=(1, 2))(theta, x, y)
    for actual, expected in zip(by_arguments, kernel.value_and_grad(theta, x, y, by="arguments")[1], strict=True):
        assert np.asarray(actual) == pytest.approx(expected, rel=1e-12, abs=1e-13)


def test_jax_differentiates_a_kernels_gradient_again():
    w = [mg.Value(0.5), mg.Value(-1.5)]
    x = np.array([[1.0, 2.0], [0.3, -1.0]])
    kernel = compile(lambda x: mg.exp(mg.dot(w, x))).kernel(x)
    second = jax.jacrev(jax.grad(kernel.to_jax()))(kernel.read(), x)
    weights = np.exp(x @ kernel.read()) / 2
    assert np.asarray(second) == pytest.approx((x.T * weights) @ x, rel=1e-12)


@pytest.mark.parametrize("reduce", ["mean", "sum", None])
def test_forward_mode_and_hessians_are_those_of_the_engine(reduce):
    w = [mg.Value(0.5), mg.Value(-1.5)]
    x = np.array([[1.0, 2.0], [0.3, -1.0], [0.0, 0.0]])  # the last on a kink
    g = lambda x: mg.exp(mg.dot(w, x)) * (mg.relu(x[0]) + abs(x[1])) + w[1] * w[0]  # noqa: E731
    kernel = compile(g, reduce=reduce).kernel(x)
    f, theta, direction = kernel.to_jax(), kernel.read(), jnp.array([0.7, -0.2])
    value, gradient = kernel.value_and_grad(theta, x)
    pushed, tangent = jax.jit(lambda t: jax.jvp(lambda theta: f(theta, x), (theta,), (t,)))(direction)
    assert np.asarray(pushed) == pytest.approx(value, rel=1e-12)
    assert np.asarray(tangent) == pytest.approx(gradient @ np.asarray(direction), rel=1e-12)
    assert np.asarray(jax.jacfwd(f)(theta, x)) == pytest.approx(gradient, rel=1e-12)
    by_x = jax.jacfwd(lambda x: f(theta, x).sum())(x)
    assert np.asarray(by_x) == pytest.approx(kernel.value_and_grad(theta, x, by="arguments")[1][0], rel=1e-12)
    names = [kernel.parameters.index(p) for p in w]
    whole = lambda theta: {"mean": mg.mean, "sum": mg.total, None: mg.total}[reduce](  # noqa: E731
        [mg.exp(theta[0] * a + theta[1] * b) * (max(a, 0) + abs(b)) + theta[1] * theta[0] for a, b in x.tolist()]
    )
    expected = np.array(mg.hessian(whole)([0.5, -1.5]))
    second = np.asarray(jax.hessian(lambda theta: f(theta, x).sum())(theta))
    assert second[np.ix_(names, names)] == pytest.approx(expected, rel=1e-12)


def test_several_outputs_and_samples_kept_apart():
    w = mg.Value(2.0)
    x = np.array([1.0, 3.0, -1.0])
    for reduce in ("mean", None):
        kernel = compile(lambda x: [w * x, x * x * w], reduce=reduce).kernel(x)
        f = kernel.to_jax()
        value, jacobian = kernel.value_and_grad([2.0], x)
        assert np.asarray(f([2.0], x)) == pytest.approx(value)
        rows = np.asarray(jax.jacrev(f)(jnp.array([2.0]), x))
        assert rows == pytest.approx(jacobian)


def test_an_irregular_graph_and_an_operation_of_the_user_run_on_jax():
    cube = mg.Op("cube", lambda x: x**3, (lambda y, x: 3.0 * x * x,))
    w = [mg.Value(0.1 * k) for k in range(7)]
    picks = [3, 0, 6, 6, 1, 2, 3, 5, 0, 4]
    f = lambda x: mg.total([cube(w[k] * x[(k * k + j) % 3]) for j, k in enumerate(picks)])  # noqa: E731
    x = np.random.default_rng(0).normal(size=(4, 3))
    kernel = compile(f).kernel(x)
    value, gradient = jax.jit(jax.value_and_grad(kernel.to_jax()))(kernel.read(), x)
    expected = kernel.value_and_grad(kernel.read(), x)
    assert (value, np.asarray(gradient)) == (pytest.approx(expected[0]), pytest.approx(expected[1]))


def test_windows_that_overlap_and_run_backwards_on_jax():
    w = [mg.Value(0.4), mg.Value(-0.3), mg.Value(0.2)]
    f = lambda x: mg.total([mg.tanh(mg.dot(w[::-1], x[i : i + 3])) for i in range(6)]) * x[7]  # noqa: E731
    x = np.random.default_rng(0).normal(size=(4, 8))
    kernel = compile(f).kernel(x)
    value, gradients = jax.value_and_grad(kernel.to_jax(), argnums=(0, 1))(kernel.read(), x)
    expected, (by_theta, (by_x,)) = kernel.value_and_grad(kernel.read(), x, by="both")
    assert value == pytest.approx(expected)
    assert np.asarray(gradients[0]) == pytest.approx(by_theta)
    assert np.asarray(gradients[1]) == pytest.approx(by_x)


@pytest.mark.parametrize("look_up", lookups.FUNCTIONS, ids=lambda f: f.__name__)
def test_look_ups_on_jax_choose_and_add_as_the_engine_does(look_up):
    X, indices = lookups.batch(5)
    kernel = compile(look_up).kernel(X, indices)
    kernel.stages.unrolled = False
    value, (by_theta, *by_arguments) = jax.value_and_grad(kernel.to_jax(), (0, 1, 2))(kernel.read(), X, indices)
    lookups.agree(kernel, (value, (by_theta, by_arguments)), lookups.eager(look_up, X, indices, mean=True))


def test_one_sample_without_a_batch_and_float32():
    kernel = compile(lambda x: mg.sin(x[0]) * x[1], batch=False, dtype="float32").kernel([1.0, 2.0])
    gradient = jax.grad(kernel.to_jax(), argnums=1)(np.zeros(0), np.array([1.0, 2.0]))
    assert np.asarray(gradient) == pytest.approx([2 * np.cos(1.0), np.sin(1.0)], rel=1e-6)


def test_wrong_shapes_and_precision_are_explained():
    names = network()
    f = names["kernel"].to_jax()
    with pytest.raises(TypeError, match="2 argument"):
        f(names["theta"], names["X"])
    with pytest.raises(ValueError, match=r"argument y must have the shape \(batch, 4\)"):
        f(names["theta"], names["X"], names["X"])
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(RuntimeError, match="jax_enable_x64"):
            names["kernel"].to_jax()
    finally:
        jax.config.update("jax_enable_x64", True)


def run(script, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1", **environment},
    )


SHARDED = (
    NETWORK
    + """
import sys
import jax, jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

if len(sys.argv) > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
mesh = Mesh(np.array(jax.devices()), ("batch",))
rows, same = NamedSharding(mesh, PartitionSpec("batch")), NamedSharding(mesh, PartitionSpec())
place = lambda a, how: jax.make_array_from_callback(a.shape, how, lambda index: a[index])
step = jax.jit(jax.value_and_grad(kernel.to_jax()), out_shardings=same)
loss_now, found = step(place(theta, same), place(X, rows), place(Y, rows))
found = np.asarray(found.addressable_data(0))
print(len(jax.devices()), jax.process_count(), float(np.abs(found - gradient).max()), end=" ")
print(float(abs(loss_now.addressable_data(0) - value)))
"""
)


def test_a_batch_sharded_over_eight_devices_gives_the_gradient_of_one_machine():
    process = run(SHARDED, XLA_FLAGS="--xla_force_host_platform_device_count=8")
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    devices, processes, gradient_error, value_error = out.split()
    assert (devices, processes) == ("8", "1")
    assert max(float(gradient_error), float(value_error)) < 1e-12


def test_two_processes_joined_over_the_network_give_the_gradient_of_one_machine():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    pair = [run(SHARDED, address, str(k), XLA_FLAGS="--xla_force_host_platform_device_count=2") for k in (0, 1)]
    for process in pair:
        out, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors
        devices, processes, gradient_error, value_error = out.splitlines()[-1].split()
        assert (devices, processes) == ("4", "2")
        assert max(float(gradient_error), float(value_error)) < 1e-12


@pytest.mark.usefixtures("anything_folds")
@pytest.mark.parametrize("case", [scans.rnn, scans.two_back, scans.choices])
def test_jax_runs_the_loop_and_differentiates_it_twice(case):
    kernel, xs = scans.compiled(case)
    _, leaves, by_parameters, _ = scans.eager(case, kernel, xs)
    function, direction = kernel.to_jax(), scans.numbers(len(leaves), 2)
    gradient, product = jax.jvp(jax.grad(lambda theta: function(theta, xs)), (kernel.theta,), (direction,))
    scans.close(gradient, [g.data for g in by_parameters])
    along = mg.total([g * d for g, d in zip(by_parameters, direction.tolist(), strict=True)])
    scans.close(product, [g.data for g in mg.gradient_graph(along, leaves)])


@pytest.mark.parametrize(
    "loop",
    [
        iterations.root,
        lambda a: mg.scan(lambda s, x: (mg.sin(s) * a + x, s * a), 0.3, [a, 0.2, 0.7])[1][2],
        lambda a: mg.scan(
            lambda s, x: (mg.sin(s) * 0.5 + mg.sin(x) * s, s), 0.3, [mg.sin(a), 0.2, a, 0.1], checkpoint=2
        )[0],
    ],
    ids=["until", "inputs", "stretches"],
)
def test_jax_runs_and_differentiates_loops_that_are_one_operation(loop):
    p = mg.Value(0.5)
    kernel = compile(lambda a: loop(a * p)).kernel(iterations.STARTS)
    f, theta, xs = kernel.to_jax(), jnp.array([0.5]), jnp.array(iterations.STARTS)
    value, gradients = jax.value_and_grad(f, argnums=(0, 1))(theta, xs)
    expected, (by_p, (by_a,)) = kernel.value_and_grad([0.5], iterations.STARTS, by="both")
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradients[0], by_p, rtol=1e-12)
    np.testing.assert_allclose(gradients[1], by_a, rtol=1e-12)
    np.testing.assert_allclose(jax.hessian(f)(theta, xs), kernel.hessian([0.5], iterations.STARTS), rtol=1e-9)
