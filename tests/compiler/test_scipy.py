"""What an engineer hands to SciPy: residuals, objectives, constraints and equations, with exact sparse derivatives."""

import sys
from itertools import pairwise

import numpy as np
import pytest

import microgrid as mg

optimize = pytest.importorskip("scipy.optimize")
from scipy import sparse as sp  # noqa: E402 - after the look whether it is there


@mg.compile(batch=False)
def broyden(x):
    """A chain of equations, each of three neighbours: Moré, Garbow and Hillstrom, Testing software, 1981."""
    return [(3.0 - 2.0 * b) * b - a - 2.0 * c + 1.0 for a, b, c in zip([0.0, *x], x, [*x[1:], 0.0], strict=False)]


@mg.compile(batch=False)
def rosenbrock(x):
    return mg.total([100.0 * (b - a**2) ** 2 + (1.0 - a) ** 2 for a, b in pairwise(x)])


def test_the_pattern_is_that_of_the_equations_and_no_wider():
    n = 50
    x = np.linspace(-1.0, 0.0, n)
    jacobian = broyden.jacobian(x, sparse=True)
    assert isinstance(jacobian, sp.csr_array)
    assert jacobian.nnz == 3 * n - 2
    rows, columns = jacobian.nonzero()
    assert abs(rows - columns).max() == 1
    assert rosenbrock.hessian(x, sparse=True).nnz == 3 * n - 2
    assert np.array_equal(jacobian.toarray(), broyden.jacobian(x))


def test_what_no_gradient_passes_is_no_entry():
    f = mg.compile(lambda x: [mg.stop_gradient(x[0]) * x[1], mg.where(mg.less(x[0], 0.0), x[1], x[2])], batch=False)
    assert f.jacobian([1.0, 2.0, 3.0], sparse=True).indices.tolist() == [1, 1, 2]
    g = mg.compile(lambda x: x[0] * x[1] + mg.sin(x[2]) + 3.0 * x[3], batch=False)
    rows, columns = g.hessian([1.0, 2.0, 3.0, 4.0], sparse=True).nonzero()
    assert [*zip(rows.tolist(), columns.tolist(), strict=True)] == [(0, 1), (1, 0), (2, 2)]


def test_least_squares_takes_a_sparse_jacobian():
    jac = mg.jacobian(broyden, sparse=True)
    found = optimize.least_squares(lambda x: broyden.predict(x), np.full(200, -1.0), jac=jac, method="trf")
    assert found.success
    assert np.abs(broyden.predict(found.x)).max() < 1e-6


def test_root_takes_a_jacobian():
    found = optimize.root(broyden.predict, np.full(30, -1.0), jac=broyden.jacobian)
    assert found.success
    assert np.abs(found.fun).max() < 1e-6


def test_trust_constr_takes_sparse_second_derivatives_of_the_objective_and_of_constraints():
    @mg.compile(batch=False)
    def circles(x):
        return [a * a + b * b for a, b in pairwise(x)]

    constraint = optimize.NonlinearConstraint(
        circles.predict,
        -np.inf,
        1.0,
        jac=mg.jacobian(circles, sparse=True),
        hess=lambda x, v: circles.hessian(x, seed=v, sparse=True),
    )
    found = optimize.minimize(
        rosenbrock.predict,
        np.zeros(8),
        jac=mg.grad(rosenbrock),
        hess=mg.hessian(rosenbrock, sparse=True),
        method="trust-constr",
        constraints=constraint,
        options={"gtol": 1e-9, "xtol": 1e-12, "maxiter": 500},
    )
    assert found.optimality < 1e-7
    assert found.constr_violation < 1e-9
    # one of the constraints holds the solution back
    assert circles.predict(found.x).max() == pytest.approx(1.0, abs=1e-6)


def test_newton_cg_takes_hessian_products():
    found = optimize.minimize(
        rosenbrock, [-1.2, 1.0, 0.5], jac=mg.grad(rosenbrock), hessp=mg.hvp(rosenbrock), method="trust-ncg"
    )
    assert found.x == pytest.approx([1.0, 1.0, 1.0], abs=1e-5)


def test_a_fit_over_data_has_its_jacobian_by_the_parameters():
    t = np.linspace(0.0, 3.0, 20)
    data = t, 2.0 * np.exp(-0.7 * t)
    scale, rate = mg.Value(1.0), mg.Value(0.0)
    kernel = mg.compile(lambda t, y: scale * mg.exp(rate * t) - y, reduce=None).kernel(*data)
    kernel.write(optimize.least_squares(kernel.value, kernel.read(), kernel.jacobian, args=data).x)
    assert (scale.data, rate.data) == pytest.approx((2.0, -0.7))


def test_derivatives_of_a_compiled_function_keep_the_structure_of_argument_and_result():
    f = mg.compile(lambda p: {"sum": p["a"][0] + p["b"], "all": [p["a"][1] * p["b"], p["b"] ** 2]}, batch=False)
    point = {"a": [1.0, 2.0], "b": 3.0}
    assert mg.jacobian(f)(point) == mg.jacobian(f.function)(point)
    g = mg.compile(lambda p: p["a"][0] * p["b"] ** 2 + p["a"][1], batch=False)
    assert mg.hessian(g)(point) == mg.hessian(g.function)(point)
    assert mg.jacobian(g)(point) == mg.jacobian(g.function)(point)


def test_a_derivative_is_by_the_argument_that_is_asked_for():
    f = mg.compile(lambda x, y: [x[0] * y["u"], x[1] * y["v"] ** 2], batch=False)
    x, y = [1.0, 2.0], {"u": 3.0, "v": 4.0}
    assert f.jacobian(x, y).tolist() == [[3.0, 0.0], [0.0, 16.0]]
    assert f.jacobian(x, y, argnums=1).tolist() == f.jacobian(x, y, argnums=-1).tolist() == [[1.0, 0.0], [0.0, 16.0]]
    assert f.hessian(x, y, argnums=1, seed=[1.0, 0.5]).tolist() == [[0.0, 0.0], [0.0, 2.0]]


def test_a_jacobian_of_many_outputs_by_few_inputs_goes_forward_and_of_few_by_many_back():
    tall = mg.compile(lambda x: [mg.exp(x[0] * k) * x[1] for k in range(60)], batch=False).kernel([1.0, 2.0])
    wide = mg.compile(lambda x: [mg.total(x), mg.dot(x, x)], batch=False).kernel([0.5] * 60)
    tall.jacobian([], [1.0, 2.0]), wide.jacobian([], [0.5] * 60)
    ((forward,), (reverse,)) = tall._derivatives.values(), wide._derivatives.values()
    assert (forward.kind(1), reverse.kind(1)) == ("forward", "reverse")


def test_a_large_graph_without_structure_has_its_jacobian_row_by_row(monkeypatch):
    monkeypatch.setattr("microgrid.compiler.derivatives.LONGEST", 10)
    rng = np.random.default_rng(0)
    steps = [mg.sin, mg.cos, mg.exp, mg.tanh, mg.sqrt, mg.log]
    orders = [rng.permutation(6).tolist() for _ in range(30)]

    def made(x):
        found = []
        for k, order in enumerate(orders):
            y = x[k]
            for j in order:
                y = steps[j](1.5 + y * 0.1 * (j + 1))
            found.append(y * x[k + 1])
        return found

    compiled = mg.compile(made, batch=False)
    x = rng.random(31)
    assert compiled.jacobian(x, sparse=True).toarray() == pytest.approx(
        np.array(mg.jacobian(made)(x.tolist())), rel=1e-12
    )


def test_what_depends_on_nothing_has_derivatives_without_an_entry():
    constant = mg.compile(lambda x: [1.0, 2.0], batch=False)
    assert constant.jacobian([1.0, 2.0, 3.0], sparse=True).nnz == 0
    assert constant.jacobian([1.0, 2.0, 3.0]).tolist() == [[0.0] * 3] * 2
    w = mg.Value(2.0)
    kernel = mg.compile(lambda: [w * w, w + 1.0], batch=False).kernel()
    assert kernel.jacobian(kernel.read(), sparse=True).toarray().tolist() == [[4.0], [1.0]]
    assert kernel.hessian(kernel.read(), seed=[1.0, 1.0]).tolist() == [[2.0]]
    assert kernel.jacobian(kernel.read(), by="arguments") == []
    assert kernel.jacobian(kernel.read(), by="arguments", sparse=True).shape == (2, 0)
    of_arguments = mg.compile(lambda x: x[0] * x[1], batch=False).kernel([1.0, 2.0])
    assert of_arguments.jacobian([], [1.0, 2.0], by="parameters", sparse=True).shape == (1, 0)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: mg.jacobian(lambda x: x, sparse=True),
            r"sparse=True is for a compiled function, .*jacobian\(mg.compile",
        ),
        (lambda: mg.hessian(lambda x: x, sparse=True), r"hessian\(mg.compile\(f, batch=False\), sparse=True\)"),
        (lambda: rosenbrock.jacobian([1.0, 2.0], argnums=1), "argnums=1 asks for argument 1 of rosenbrock"),
        (
            lambda: broyden.hessian([1.0, 2.0]),
            "seed is the weight of each of several results, and .*gives 2 results: give one",
        ),
        (lambda: rosenbrock.hessian([1.0, 2.0], seed=[1.0]), "seed is the weight of each of several .*leave it out"),
        (lambda: broyden.hessian([1.0, 2.0], seed=[1.0]), r"seed must have the shape \(2,\)"),
        (lambda: mg.compile(lambda x: x[0]).jacobian([[1.0]]), "compile with reduce=None, which keeps samples apart"),
        (lambda: mg.compile(lambda x: x[0], reduce=None).hessian([[1.0]]), "or one sample with batch=False"),
        (lambda: rosenbrock.jacobian([1.0, 2.0], argnums=(0,)), r"the position of one argument, from 0; got \(0,\)"),
        (lambda: rosenbrock.hessian([1.0, 2.0], argnums="x"), "the position of one argument, from 0; got 'x'"),
        (lambda: mg.grad(lambda x: broyden.jacobian([2.0 * x])[0][0])(1.0), r"within a derivative: .*mg\.jacobian"),
        (lambda: mg.grad(lambda x: x * rosenbrock.predict([x, 1.0]))(2.0), r"within a derivative: .*call rosenb"),
        (lambda: mg.compile(lambda x: broyden.jacobian(x)[0])([[1.0]]), r"within a compiled function: .*mg\.jacobian"),
    ],
)
def test_what_cannot_be_is_said(call, said):
    with pytest.raises((TypeError, ValueError), match=said):
        call()


@pytest.mark.parametrize("derivative", [mg.jacobian, mg.hessian])
def test_derivatives_by_several_arguments_are_those_of_the_engine(derivative):
    f = lambda x, y: x[0] * y * x[1]  # noqa: E731
    compiled = derivative(mg.compile(f, batch=False), (0, 1))([2.0, 3.0], 5.0)
    assert compiled == derivative(f, (0, 1))([2.0, 3.0], 5.0)


def test_without_scipy_a_sparse_derivative_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "scipy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ModuleNotFoundError, match=r"a sparse derivative needs scipy, .*microgrid-autograd\[compile\]"):
        broyden.jacobian([1.0, 2.0], sparse=True)
    assert broyden.jacobian([1.0, 2.0]).tolist() == [[-1.0, -2.0], [-1.0, -5.0]]
