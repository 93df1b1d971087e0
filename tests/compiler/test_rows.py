"""Every row of the table, compiled, at its special values: the same inf, nan and kinks as the engine's."""

import itertools
import math

import numpy as np
import pytest
from programs import formed

import microgrid as mg
from microgrid import ops
from microgrid.compiler import compile

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, math.inf, -math.inf, math.nan, 1e-300, 1e300, -1e300, 30.0, -30.0,
           700.0, -700.0, 5e-324, 0.1, 1.3, 2.2, -9.3]  # fmt: skip


def columns(row):
    """The special values in every combination; a random choice of them for rows of many arguments."""
    if row.arity <= 2:
        return [np.array(column) for column in zip(*itertools.product(SPECIAL, repeat=row.arity), strict=True)]
    return list(np.random.default_rng(0).choice(SPECIAL, (row.arity, 400)))


def function(row, arity=None):
    """A function with as many arguments as the row, as compile() reads them."""
    names = ", ".join(f"x{k}" for k in range(arity or row.arity))
    return eval(f"lambda {names}: row({names})", {"row": row})


def same(actual, expected, size=0.0):
    with np.errstate(all="ignore"):
        actual, expected = np.asarray(actual), np.asarray(expected)
        error = np.abs(actual - expected)
        size = np.maximum(size, np.maximum(np.abs(actual), np.abs(expected)))
        close = np.isfinite(error) & (error <= 1e-12 * size + 1e-320)
    return (actual == expected) | (np.isnan(actual) & np.isnan(expected)) | close


HIDDEN = [*ops.HIDDEN.values(), ops.power_log_of(1), ops.power_log_of(2), ops.take_of(2)]


@pytest.mark.parametrize("row", [*ops.rows(), *HIDDEN], ids=lambda row: row.name)
def test_a_compiled_row_has_the_engines_numbers_at_special_values(row):
    xs = columns(row)
    kernel = compile(function(row), reduce=None).kernel(*xs)
    values, gradients = kernel.value_and_grad([], *xs, by="arguments")
    for k, numbers in enumerate(zip(*xs, strict=True)):
        leaves = [mg.Value(x) for x in numbers]
        y = row(*leaves)
        y.backward()
        assert same(values[k], y.data), (numbers, values[k], y.data)
        for gradient, leaf in zip(gradients, leaves, strict=True):
            assert same(gradient[k], leaf.grad), (numbers, gradient[k], leaf.grad)


@pytest.mark.parametrize("row", [*ops.rows(), *HIDDEN], ids=lambda row: row.name)
def test_a_row_on_floats_has_the_engines_numbers_at_special_values(row):
    kernel = compile(function(row), batch=False).kernel(*[1.0] * row.arity)
    for numbers in list(zip(*columns(row), strict=True))[::7]:
        leaves = [mg.Value(x) for x in numbers]
        y = row(*leaves)
        y.backward()
        value, gradients = kernel.value_and_grad([], *numbers, by="arguments")
        assert same(value, y.data), numbers
        assert same(gradients, [leaf.grad for leaf in leaves]).all(), numbers


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("row", list(ops.rows()), ids=lambda row: row.name)
def test_a_compiled_derivative_has_the_engines_numbers_and_slopes_at_special_values(row, batched):
    xs = [column[:: 1 if row.arity == 1 else 7] for column in columns(row)]
    for i, partial in enumerate(row.partials):
        if not callable(partial):
            continue

        def derivative(*leaves, i=i):
            return mg.gradient_graph(row(*leaves), leaves)[i]

        points = list(zip(*xs, strict=True))
        if batched:
            kernel = compile(function(derivative, row.arity), reduce=None).kernel(*xs)
            values, gradients = kernel.value_and_grad([], *xs, by="arguments")
            found = [(values[k], [gradient[k] for gradient in gradients]) for k in range(len(points))]
        else:
            kernel = compile(function(derivative, row.arity), batch=False).kernel(*[1.0] * row.arity)
            found = [kernel.value_and_grad([], *numbers, by="arguments") for numbers in points]
        for numbers, (value, slopes) in zip(points, found, strict=True):
            leaves = [mg.Value(x) for x in numbers]
            first = derivative(*leaves)
            first.backward()
            assert same(value, first.data), (i, numbers, value, first.data)
            expected = [leaf.grad for leaf in leaves]
            largest = max(filter(math.isfinite, map(abs, expected)), default=0.0)  # where terms cancel to 0, as atan2's
            assert same(slopes, expected, largest).all(), (i, numbers, slopes, leaves)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("step", [2, 3, 4, 8, 16, -4, -8])
def test_a_row_of_every_so_many_numbers_goes_to_every_so_many(step, dtype):
    """NumPy 2.4 negates every fourth float32, and every eighth float64, as if these were neighbours."""
    xs = np.linspace(0.1, 0.9, 64).astype(dtype)
    tolerance = 4e-5 if dtype == "float32" else 1e-12
    for row in ops.rows():
        if row.arity == 1:

            def between(xs, row=row):
                return [y for x in xs[::step] for y in (row(x), 1.5 * x)]

            kernel = formed(compile(between, batch=False, dtype=dtype).kernel(xs), "lifted")
            expected = [row(x) for x in xs[::step].tolist()]
            np.testing.assert_allclose(kernel.value(kernel.read(), xs)[::2], expected, rtol=tolerance)


def test_an_operation_of_the_user_without_array_form_is_mapped():
    cube = mg.Op("cube", lambda x: x * x * x, (lambda y, x: 3.0 * x * x,))
    branching = mg.Op("bend", lambda x: x if x > 0 else 0.5 * x, (lambda y, x: 1.0 if x > 0 else 0.5,))
    x = np.array([-2.0, 0.5, 3.0])
    values, (gradient,) = (
        compile(lambda x: cube(x) + branching(x), reduce=None).kernel(x).value_and_grad([], x, by="arguments")
    )
    assert values.tolist() == [-9.0, 0.625, 30.0]
    assert gradient.tolist() == [12.5, 1.75, 28.0]


def swish(**form):
    """An operation of the user, x·tanh x, in a form on arrays; its derivative is wrong on purpose: it must be kept."""
    return mg.Op("swish", lambda x: x * math.tanh(x), (lambda y, x: 7.0 * x,), **form)


@pytest.mark.parametrize(
    "op",
    [
        swish(),
        swish(array="{0} * xp.tanh({0})"),
        swish(expansion=lambda x: x * mg.tanh(x)),
        swish(expansion=lambda x: swish(expansion=lambda x: x * mg.tanh(x))(x)),
    ],
    ids=["forward", "array", "expansion", "expansion of an expansion"],
)
@pytest.mark.parametrize("batch", [True, False])
def test_an_operation_of_the_user_has_its_numbers_and_its_own_derivatives_in_every_form(op, batch):
    xs = [-2.0, 0.5, 3.0] if batch else 0.5
    kernel = compile(lambda x: op(x) + 1.0, reduce=None, batch=batch).kernel(xs)
    values, (slopes,) = kernel.value_and_grad([], xs, by="arguments")
    assert np.ravel(values) == pytest.approx(np.ravel(xs * np.tanh(xs) + 1.0), rel=1e-15)
    assert np.ravel(slopes).tolist() == np.ravel(7.0 * np.array(xs)).tolist()


def test_an_operation_of_the_user_keeps_all_digits_of_a_single_number_on_arrays():
    kernel = compile(lambda x: swish()(x), batch=False, target="numpy").kernel(0.1)
    assert kernel.value([], 0.1) == 0.1 * math.tanh(0.1)


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ({"ufunc": "sinh"}, "sinh(x0, out=v1)"),
        ({"ufunc": "no_such_function"}, "v1[...] = mapped1(x0)"),
        ({"ufunc": "no_such_function", "expansion": mg.sinh}, "sinh(x0, out=v1)"),
        ({"expansion": lambda x: mg.exp(x) * 0.5 - mg.exp(-x) * 0.5}, "exp(x0, out=v1)"),
        ({"expansion": lambda x: 2.0}, "v1[...] = mapped1(x0)"),
    ],
)
def test_a_function_that_numpy_has_is_called_and_what_it_lacks_is_expanded_or_mapped(form, line):
    kernel = compile(lambda xs: list(map(mg.Op("mine", math.sinh, (mg.cosh,), **form), xs)), reduce=None)
    assert line in kernel.kernel([[1.0, 2.0]]).source
    assert kernel.kernel([[1.0, 2.0]]).value([], [[1.0, 2.0]]) == pytest.approx(np.sinh([[1.0, 2.0]]))


@pytest.mark.parametrize(
    ("expansion", "why"),
    [
        (lambda x: x if x > 0 else -x, "it chooses by the number itself"),
        (lambda x: x if x else -x, "it chooses by the number itself"),
        (lambda x: -x if x == 0 else x, "it chooses by the number itself"),
        (lambda x: math.fabs(x), "must be real number"),
        (lambda x, y: x, "missing 1 required positional argument"),
        (lambda x: mg.tanh(x, x), "tanh takes 1 argument"),
        (lambda x: len(x), "has no len"),
        (lambda x: None, "must be one real number; got None"),
        (lambda x: (x, x), "must be one real number; got "),
    ],
)
def test_an_expansion_that_leaves_the_table_is_refused_with_the_name_of_its_operation(expansion, why):
    op = mg.Op("bent", abs, (mg.ops.sign,), expansion=expansion)
    with pytest.raises(TypeError, match=f"operation 'bent': its expansion .*{why}"):
        compile(op, reduce=None)([1.0, 2.0])


def test_a_type_error_of_another_row_within_an_expansion_names_that_row_alone():
    inner = mg.Op("inner", abs, (mg.ops.sign,), expansion=lambda x: len(x))
    outer = mg.Op("outer", abs, (mg.ops.sign,), expansion=lambda x: inner(x) + 1.0)
    with pytest.raises(TypeError, match=r"^operation 'inner': its expansion raises TypeError: .* has no len") as caught:
        compile(outer, reduce=None)([1.0, 2.0])
    assert "outer" not in str(caught.value)


@pytest.mark.parametrize("sign", ["+", "-", "*", "/", "//", "%"])
@pytest.mark.parametrize("batch", [True, False])
def test_an_operator_of_the_user_is_that_operator_everywhere(sign, batch):
    function = eval(f"lambda a, b: a {sign} b")
    op = mg.Op("mine", function, (1.0, 1.0), operator=sign)
    xs = (np.array([7.0, -3.0]), np.array([2.0, 5.0])) if batch else (7.0, 2.0)
    kernel = compile(lambda a, b: op(op(a, b), b), reduce=None, batch=batch).kernel(*xs)
    assert f" {sign} " in kernel.source
    assert np.asarray(kernel.value([], *xs)) == pytest.approx(function(function(*xs), xs[1]))


@pytest.mark.parametrize("row", [row for row in [*ops.rows(), *HIDDEN] if row.expansion], ids=lambda row: row.name)
def test_an_expansion_has_the_values_of_its_row(row):
    for numbers in zip(*columns(row), strict=True):
        expected, found = row(*numbers), row.expansion(*map(mg.Value, numbers)).data
        assert same(found, expected), numbers
        assert found or math.copysign(1.0, found) == math.copysign(1.0, expected) or row in (ops.relu, ops.clip), (
            numbers
        )


@pytest.mark.parametrize(
    "name", ["{data}", "{0}", "}}{{", "2x", "lambda", "", 'a b\n\'"""\\', "# {", "사과", "run", "x0", "exp"]
)
@pytest.mark.parametrize("array", ["", "xp.sinh({0})", "{0} * xp.exp({0})"])
def test_no_name_of_an_operation_breaks_a_program(name, array):
    op = mg.Op(name, lambda x: x + 1.0, (lambda y, x: mg.exp(x),), array=array)
    assert compile(lambda x: op(mg.exp(x)), batch=False)(0.0).data == 2.0
    expected = {"": 2.0, "xp.sinh({0})": math.sinh(1.0)}.get(array, math.e)
    (value,) = compile(lambda x: op(mg.exp(x)), reduce=None)([0.0])
    assert value.data == pytest.approx(expected)
    assert compile(lambda x: op(x), reduce=None).kernel([0.0]).dump()
    assert mg.draw(compile(lambda x: op(x), reduce=None).kernel([0.0])).svg


@pytest.mark.parametrize("array", ["{data}", "{0} + {1}", "xp.sin({x})", "{0"])
def test_an_array_template_that_is_none_is_refused_with_the_name_of_its_operation(array):
    op = mg.Op("bent", lambda x: x, (1.0,), array=array)
    with pytest.raises(ValueError, match=r"operation 'bent': its array .* is not a template of its 1 argument"):
        compile(lambda x: op(x), reduce=None)([1.0, 2.0])


@pytest.mark.parametrize("row", [ops.gamma, ops.digamma, ops.lgamma, ops.polygamma_of(1)], ids=lambda row: row.name)
def test_beside_the_poles_of_gamma_a_kernel_has_the_engines_numbers(row):
    poles = [-1.0, -2.0, -5.0, -30.0, -160.0, -170.0]
    beside = [np.nextafter(pole, to) for pole in poles for to in (-np.inf, np.inf)]
    xs = np.array([*beside, *[pole + step for pole in poles for step in (-1e-5, 1e-10, 0.25)], -171.99999, -172.00001])
    kernel = compile(row, reduce=None).kernel(xs)
    value, (slope,) = kernel.value_and_grad([], xs, by="arguments")
    assert value == pytest.approx([row(x) for x in xs.tolist()], rel=1e-12, abs=0.0)
    expected = [row.local_derivatives(row(x), x)[0] for x in xs.tolist()]
    assert slope == pytest.approx(expected, rel=1e-12, abs=0.0)


@pytest.mark.parametrize("sign", ["^", "and", "; import os;", "~"])
def test_an_operator_that_is_none_is_refused(sign):
    with pytest.raises(ValueError, match=r"operation 'bent': operator=.* is none of \+ - \*"):
        mg.Op("bent", lambda a, b: a, (1.0, 0.0), operator=sign)
