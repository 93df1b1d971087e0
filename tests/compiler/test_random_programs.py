import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import ON_ARRAYS, Case, assert_close, cases, eager, formed, naming

import microgrid as mg
from microgrid.checking.program import Program
from microgrid.compiler import compile
from microgrid.strategies import expressions


def sizes_of_terms(graph):
    """Σ |product| over all paths from each node to the output: the size of the terms of its gradient."""
    sizes = [0.0] * len(graph.nodes)
    sizes[-1] = 1.0
    for i in reversed(range(len(graph.nodes))):
        for j, derivative in zip(graph.operands[i], graph.locals[i], strict=True):
            if derivative:
                sizes[j] += sizes[i] * abs(derivative)
    return sizes


def check(case, kernel, expected, nudged, *batch):
    """A kernel's value and gradients, by parameters and by arguments, are those of the engine."""
    value, (by_theta, by_arguments) = kernel.value_and_grad(kernel.read(), *batch, by="both")
    at = {id(parameter): derivative for parameter, derivative in zip(kernel.parameters, by_theta, strict=True)}
    assert_close(value, expected[0], nudged[0])
    assert_close([at.get(id(p), 0.0) for p in case.values], expected[1], nudged[1])
    for actual, wanted, near in zip(by_arguments, expected[2], nudged[2], strict=True):
        assert_close(actual.reshape(wanted.shape), wanted, near)


@given(case=cases(), reduce=st.sampled_from(["mean", "sum"]))
def test_a_compiled_batch_equals_the_engine_in_every_form(case, reduce):
    case.values = [mg.Value(x) for x in case.parameters]
    expected, nudged = eager(case, reduce), eager(case, reduce, nudge=4e-16)
    for form in ON_ARRAYS:
        with naming(form):
            kernel = compile(case.function(case.values), reduce=reduce).kernel(*case.batch)
            check(case, formed(kernel, form), expected, nudged, *case.batch)


@given(case=cases())
def test_one_sample_equals_the_engine_in_every_form(case):
    case.values = [mg.Value(x) for x in case.parameters]
    sample = [argument[0] for argument in case.batch]
    one = Case(case.text, case.parameters, [[x] for x in sample], case.values)
    expected, nudged = eager(one, "sum"), eager(one, "sum", nudge=4e-16)
    for form in ("floats", "loops", "lifted", "native"):
        with naming(form):
            kernel = compile(case.function(case.values), batch=False).kernel(*sample)
            check(one, formed(kernel, form), expected, nudged, *sample)


@given(cases())
def test_samples_kept_apart_have_the_gradients_of_each(case):
    case.values = [mg.Value(x) for x in case.parameters]
    kernel = compile(case.function(case.values), reduce=None).kernel(*case.batch)
    values, by_theta = kernel.value_and_grad(kernel.read(), *case.batch)
    assert np.array_equal(values, kernel.value(kernel.read(), *case.batch), equal_nan=True)
    for k, (value, derivatives) in enumerate(zip(values, by_theta, strict=True)):
        one = Case(case.text, case.parameters, [[argument[k]] for argument in case.batch])
        expected, nudged = eager(one, "sum"), eager(one, "sum", nudge=4e-16)
        at = dict(zip(map(id, kernel.parameters), derivatives, strict=True))
        assert_close(value, expected[0], nudged[0])
        assert_close([at.get(id(p), 0.0) for p in case.values], expected[1], nudged[1])


@given(cases(max_steps=4))
def test_a_compiled_call_is_one_node_of_an_ordinary_graph(case):
    parameters = [mg.Value(x) for x in case.parameters]
    compiled = compile(case.function(parameters))
    result = mg.tanh(compiled(*case.batch) * 0.1) + parameters[0] ** 2
    result.backward()
    actual = [p.grad for p in parameters]
    for parameter in parameters:
        parameter.grad = 0.0
    f = case.function(parameters)
    samples = [f([mg.Value(v) for v in x], [mg.Value(v) for v in y]) for x, y in zip(*case.batch, strict=True)]
    expected = mg.tanh(mg.mean(samples) * 0.1) + parameters[0] ** 2
    expected.backward()
    assert result.data == pytest.approx(expected.data, rel=1e-9, abs=1e-9)
    assert actual == pytest.approx([p.grad for p in parameters], rel=1e-9, abs=1e-9)


@given(case=cases(max_steps=4))
def test_several_outputs_have_the_values_and_the_jacobian_of_the_engine(case):
    def jacobian(nudge=0.0):
        parameters = [mg.Value(x * (1 + nudge)) for x in case.parameters]
        rows = []
        for x, y in zip(*[[[t * (1 + nudge) for t in sample] for sample in part] for part in case.batch], strict=True):
            outputs = [v if isinstance(v, mg.Value) else mg.Value(v) for v in case.function(parameters, "g")(x, y)]
            rows.append([[output.data, *[0.0] * len(parameters)] for output in outputs])
            for row, output in zip(rows[-1], outputs, strict=True):
                for p in parameters:
                    p.grad = 0.0
                output.backward()
                row[1:] = [p.grad for p in parameters]
        return np.array(rows)

    found = jacobian(), jacobian(nudge=4e-16)
    parameters = [mg.Value(x) for x in case.parameters]
    place = {id(p): k for k, p in enumerate(parameters, start=1)}
    for reduce in ("mean", "sum", None):
        with naming(reduce):
            kernel = compile(case.function(parameters, "g"), reduce=reduce).kernel(*case.batch)
            values, gradients = kernel.value_and_grad(kernel.read(), *case.batch)
            expected, nudged = [x if reduce is None else x.mean(0) if reduce == "mean" else x.sum(0) for x in found]
            assert_close(values, expected[..., 0], nudged[..., 0])
            order = [place[id(p)] for p in kernel.parameters]
            assert_close(gradients, expected[..., order], nudged[..., order])


@given(cases(max_steps=4))
def test_a_gradient_is_a_function_that_compiles_like_any_other(case):
    gradient = mg.grad(case.function(case.parameters))
    kernel = compile(gradient, reduce=None).kernel(*case.batch)
    found = kernel.value(kernel.read(), *case.batch)
    for x, y, mine in zip(*case.batch, found, strict=True):
        nudged = mg.grad(case.function([p * (1 + 4e-16) for p in case.parameters]))(
            *[[t * (1 + 4e-16) for t in v] for v in (x, y)]
        )
        assert_close(mine, gradient(x, y), nudged)


@pytest.mark.parametrize("batch", [True, False])
@given(program=expressions(max_steps=8))
def test_a_program_of_any_operations_has_the_numbers_of_the_engine(batch, program):
    def eager(nudge=0.0):
        leaves = [mg.Value(x * (1 + nudge)) for x in program.at]
        output = program(*leaves)
        output.backward()
        return np.array([output.data, *[leaf.grad for leaf in leaves]]), output, leaves

    names = ", ".join(f"x{k}" for k in range(len(program.at)))
    f = eval(f"lambda {names}: program({names})", {"program": program})
    point = [np.array([x]) if batch else x for x in program.at]
    kernel = compile(f, batch=batch).kernel(*point)
    value, gradient = kernel.value_and_grad(kernel.read(), *point, by="arguments")
    expected, output, leaves = eager()
    graph = Program(output, leaves)
    # a chain of steep functions magnifies the last digit of each, and terms that cancel leave theirs
    terms = np.array([0.0, *[sizes_of_terms(graph)[graph.position[leaf]] for leaf in leaves]])
    others = np.array([eager(k * 4e-16)[0] for k in (-3, -2, -1, 1, 2, 3)])
    with np.errstate(invalid="ignore"):
        away = np.abs(others - expected)
    farthest = np.max(away, axis=0, initial=0.0, where=np.isfinite(away))
    allowed = 4.0 * farthest + 2e-14 * np.nan_to_num(terms)
    for k, actual in enumerate([value, *gradient]):
        assert_close(np.ravel(actual), expected[k : k + 1], expected[k : k + 1] + allowed[k])
