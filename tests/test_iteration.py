"""Loops over inputs, or that end by a condition: eagerly ordinary loops, and how these are differentiated."""

import math

import mpmath
import numpy as np
import pytest

import microgrid as mg


def root(a, at_most=60, **options):
    """√a by Newton's method."""
    return mg.iterate(
        lambda x: (x + a / x) / 2.0, 1.0, until=lambda x, y: abs(y - x) <= 4e-16 * y, at_most=at_most, **options
    )


def kepler(mean, eccentricity, **options):
    """The eccentric anomaly E of E − e·sin E = M, by Newton's method."""

    def step(anomaly):
        excess = anomaly - eccentricity * mg.sin(anomaly) - mean
        return anomaly - excess / (1.0 - eccentricity * mg.cos(anomaly))

    return mg.iterate(step, mean, until=lambda x, y: abs(y - x) < 1e-15, at_most=50, **options)


def cosine(a, **options):
    """The fixed point x = cos(a·x)."""
    return mg.iterate(lambda x: mg.cos(a * x), 1.0, until=lambda x, y: abs(y - x) < 1e-14, at_most=500, **options)


def largest(matrix, **options):
    """The largest eigenvalue of a matrix, by power iteration on a vector and the last estimate."""

    def step(state):
        image = [mg.dot(row, state["v"]) for row in matrix]
        norm = mg.sqrt(mg.dot(image, image))
        return {"v": [x / norm for x in image], "size": norm}

    start = {"v": [1.0] * len(matrix), "size": 0.0}
    return mg.iterate(
        step, start, until=lambda old, new: abs(old["size"] - new["size"]) < 1e-15, at_most=300, **options
    )["size"]


def exact(f, x, order):
    """The derivative of a function of mpmath, to 15 digits."""
    with mpmath.workdps(40):
        return float(mpmath.diff(f, mpmath.mpf(x), order))


SOLVED = {
    "root": (root, mpmath.sqrt, 3.7),
    "Kepler": (lambda e: kepler(0.8, e), lambda e: mpmath.findroot(lambda x: x - e * mpmath.sin(x) - 0.8, 1.0), 0.4),
    "cosine": (cosine, lambda a: mpmath.findroot(lambda x: x - mpmath.cos(a * x), 0.7), 0.9),
}


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("name", SOLVED)
def test_a_solution_and_its_derivatives_are_those_of_the_equation(name, implicit):
    solve, solution, at = SOLVED[name]
    if implicit:
        options = {"root": lambda a: root(a, implicit=True), "Kepler": lambda e: kepler(0.8, e, implicit=True),
                   "cosine": lambda a: cosine(a, implicit=True)}  # fmt: skip
        solve = options[name]
    found = [solve(at), mg.grad(solve)(at), mg.grad(mg.grad(solve))(at), mg.grad(mg.grad(mg.grad(solve)))(at)]
    expected = [exact(solution, at, order) for order in range(4)]
    np.testing.assert_allclose(found, expected, rtol=1e-9 if implicit else 1e-7)
    assert mg.jvp(solve, at, 1.0)[1] == pytest.approx(expected[1], rel=1e-12)
    assert mg.check(solve, at).passed


def test_power_iteration_on_a_structure_has_the_derivative_of_the_eigenvalue():
    matrix = [[2.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 0.5]]
    values, vectors = np.linalg.eigh(matrix)
    assert largest(matrix) == pytest.approx(values[-1], rel=1e-13)
    np.testing.assert_allclose(mg.grad(largest)(matrix), np.outer(vectors[:, -1], vectors[:, -1]), atol=1e-7)
    implicit = mg.grad(lambda m: largest(m, implicit=True))(matrix)
    np.testing.assert_allclose(implicit, np.outer(vectors[:, -1], vectors[:, -1]), atol=1e-7)


def test_a_condition_of_one_state_is_asked_before_each_step_as_while_asks():
    halve = {"until": lambda x: x < 1.0, "at_most": 10}
    assert mg.iterate(lambda x: x / 2.0, 0.5, **halve) == 0.5
    assert mg.iterate(lambda x: x / 2.0, 5.0, **halve) == 0.625
    assert mg.iterate(lambda x: x / 2.0, 5.0, until=lambda x: x < 1.0, at_most=2) == 1.25


def test_a_condition_of_two_states_is_asked_behind_each_step():
    assert mg.iterate(lambda x: x / 2.0, 5.0, until=lambda old, new: True, at_most=10) == 2.5


def test_a_loop_is_a_graph_of_the_steps_that_were_made():
    x = mg.Value(5.0)
    y = mg.iterate(lambda x: x / 2.0, x, until=lambda x: x < 1.0, at_most=10)
    y.backward()
    assert x.grad == 0.125
    assert [node.op.name for node in mg.topological_order(y)].count("div") == 3
    with mg.no_grad():
        assert mg.iterate(lambda x: x / 2.0, x, until=lambda x: x < 1.0, at_most=10).parents == ()


def test_steps_are_counted_in_the_state():
    x, steps = mg.iterate(lambda s: (s[0] / 2.0, s[1] + 1), (5.0, 0), until=lambda s: s[0] < 1.0, at_most=10)
    assert (x, steps) == (0.625, 3)


def test_implicit_derivatives_store_no_step():
    a = mg.Value(0.99)
    assert len(mg.topological_order(cosine(a, implicit=True))) < len(mg.topological_order(cosine(a))) / 3


def test_implicit_derivatives_of_what_was_not_found_are_refused():
    with pytest.raises(ArithmeticError, match=r"does not hold after at_most=3 steps, .* the state is 1\.73\d*: allow"):
        root(3.0, at_most=3, implicit=True)


@pytest.mark.parametrize("pivot", [False, True])
def test_a_system_is_solved_whatever_its_pivots(pivot):
    """x = F(x, a) with ∂F/∂x whose I − ∂F/∂x has a 0 on its diagonal, and one that has none."""
    slope = [[1.0, -0.5], [0.5, 0.2]] if pivot else [[0.1, -0.5], [0.5, 0.2]]

    def solve(a):
        return mg.iterate(
            lambda x: [mg.dot(row, x) + b * a for row, b in zip(slope, [1.0, 2.0], strict=True)],
            [0.0, 0.0],
            until=lambda old, new: abs(new[0] - old[0]) + abs(new[1] - old[1]) < 1e-15,
            at_most=2000,
            implicit=True,
        )

    expected = np.linalg.solve(np.eye(2) - slope, [1.0, 2.0])
    np.testing.assert_allclose(mg.jacobian(solve)(2.0), expected, rtol=1e-12)


def test_a_loop_over_inputs_is_an_ordinary_loop():
    a = mg.Value(0.5)

    def step(state, given):
        level = state["level"] * a + given[0] * given[1]
        return {"level": level, "n": state["n"] + 1}, (level, given[0])

    state, outputs = mg.scan(step, {"level": 1.0, "n": 0}, zip([1.0, 2.0, 3.0], [4.0, 5.0, 6.0], strict=True))
    expected, given = {"level": 1.0, "n": 0}, []
    for x in [(1.0, 4.0), (2.0, 5.0), (3.0, 6.0)]:
        expected, output = step(expected, x)
        given.append(output)
    assert (state["level"].data, state["n"], len(outputs)) == (expected["level"].data, 3, 3)
    assert [(x.data, y) for x, y in outputs] == [(x.data, y) for x, y in given]
    assert mg.gradient_graph(state["level"], [a])[0].data == mg.gradient_graph(expected["level"], [a])[0].data


def test_a_loop_over_no_inputs_ends_where_it_begins_and_state_and_output_may_be_none():
    assert mg.scan(lambda s, x: (s + x, s), 1.5, []) == (1.5, [])
    assert mg.scan(lambda s, x: (None, 2 * x), None, range(3)) == (None, [0, 2, 4])
    assert mg.scan(lambda s, x: (s + x, None), 0.0, np.array([1.0, 2.0])) == (3.0, [None, None])
    assert mg.scan(lambda s, x: (s + x, s), 0.0, [1.0, 2.0, 3.0], checkpoint=2) == (6.0, [0.0, 1.0, 3.0])


def kept(xs):
    """A sum whose first number is also kept outside of the loop."""
    first = []
    last, _ = mg.scan(lambda s, x: (first.append(s + x) or s + x, None), 0.0, xs)
    return last + first[0]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: mg.scan(3.0, 1.0, [1]), TypeError, "takes a function from a state and an input; got 3.0"),
        (lambda: mg.scan(lambda s, x: (s, x), 1.0, 5), TypeError, r"an input for each step.*got 5: .*take range\(n\)"),
        (lambda: mg.scan(lambda s, x: s + x, 1.0, [1]), ValueError, r"must return a pair, \(state, output\); .* 2.0"),
        (lambda: mg.scan(lambda s, x: ([s], x), 1.0, [1]), ValueError, r"as 1.0; it returned \[1.0\]"),
        (lambda: mg.scan(lambda s, x: (s, x), "1", [1]), TypeError, "'1'"),
        (lambda: mg.scan(lambda s, x: ("1", x), 1.0, [1]), TypeError, "'1'"),
        (
            lambda: mg.compile(lambda xs: mg.scan(lambda s, x: (s + x[1], None), 0.0, [(None, x) for x in xs])[0])(
                [[1.0]]
            ),
            TypeError,
            r"None may be a whole input or output, but not a part of one; got \(None, ",
        ),
        (lambda: mg.compile(kept)([[1.0, 2.0]]), mg.TraceError, "must return its numbers, not keep them elsewhere"),
        *[
            (
                lambda x=x: mg.scan(lambda s, _: (s, None), 1.0, [1], checkpoint=x),
                ValueError,
                f"checkpoint must be None, 'sqrt' or a positive integer.*; got {x!r}: .*take 'sqrt'",
            )
            for x in (0, -1, 1.5, True, "quadratic")
        ],
        (lambda: mg.iterate(3.0, 1.0, until=bool, at_most=1), TypeError, "takes a function from a state .*; got 3.0"),
        (lambda: mg.iterate(abs, 1.0, until=1e-9, at_most=1), TypeError, "until must be a function .*; got 1e-09"),
        (lambda: mg.iterate(abs, 1.0, until=lambda a, b, c: True, at_most=1), TypeError, "must take one argument"),
        (lambda: mg.iterate(abs, 1.0, until=lambda x: x > 0, at_most=0), ValueError, "positive integer.*; got 0"),
        (lambda: mg.iterate(abs, 1.0, until=lambda x: x > 0, at_most=2.0), ValueError, "positive integer.*; got 2.0"),
        (lambda: mg.iterate(abs, [], until=lambda x: True, at_most=2), ValueError, r"one number or more; got \[\]"),
        (lambda: mg.iterate(abs, "1", until=lambda x: True, at_most=2), TypeError, "'1'"),
        (lambda: mg.iterate(lambda x: (x, x), 1.0, until=lambda x: x > 2, at_most=2), ValueError, "1.0; it returned"),
        (
            lambda: mg.iterate(lambda s: {"b": 1, "a": 2}, {"a": 1, "b": 2}, until=lambda s: s["a"] > 2, at_most=2),
            ValueError,
            "must return a state of the structure",
        ),
    ],
)
def test_what_is_no_loop_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_nan_never_meets_a_condition():
    assert math.isnan(mg.iterate(mg.log, -1.0, until=lambda x: x > 5.0, at_most=7))
