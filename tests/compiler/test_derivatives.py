"""Sparse and dense derivatives of kernels are those of the engine, forward and reverse, in every form of a program."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from programs import assert_close, cases, naming, wild_cases, written_out

import microgrid as mg
from microgrid.calculus import gradient_graph
from microgrid.compiler.derivatives import Derivative
from tests.compiler.test_scans import CASES as RECURRENCES
from tests.compiler.test_scans import anything_folds  # noqa: F401 - a fixture

pytest.importorskip("scipy")

FORMS = [("numpy", False), ("numpy", True), ("native", False)]
"""What computes, and whether the program has a node for each number."""
KINDS = ["forward", "reverse"]


def rows(outputs, inputs):
    """The gradient of each output, one below the other."""
    found = np.zeros((len(outputs), len(inputs)))
    for row, output in zip(found, outputs, strict=True):
        for x in inputs:
            x.grad = 0.0
        output.backward()
        row[:] = [x.grad for x in inputs]
    return found


def by_the_engine(case, name, kernel, values, nudge=0.0):
    """For each sample its outputs, and the parameters, those of the kernel in its order, and the numbers of it."""
    parameters = [mg.Value(x * (1 + nudge)) for x in case.parameters]
    place = {id(value): k for k, value in enumerate(values)}
    order = [parameters[place[id(value)]] for value in kernel.parameters]
    for sample in zip(*case.batch, strict=True):
        arguments = [[mg.Value(x * (1 + nudge)) for x in np.ravel(argument).tolist()] for argument in sample]
        found = case.function(parameters, name)(
            *[a if np.ndim(x) else a[0] for a, x in zip(arguments, sample, strict=True)]
        )
        found = found if isinstance(found, list) else [found]
        yield [mg.Value(0.0) + y for y in found], order, list(itertools.chain(*arguments))


def formed(kernel, form, by, kind, **options):
    """Make a kernel compute a derivative by one kind of product, in a form."""
    derivative = Derivative(
        kernel.stages, kernel.leaves(by), second=kind == "second", weighted="seed" in options, target=form[0]
    )
    derivative._kind = kind
    stages = derivative.product(kind)[0]
    stages.unrolled = form[1]
    if form[1]:
        stages.program = written_out(stages.program)
    kernel._derivatives[kernel.leaves(by), kind == "second", "seed" in options] = derivative


@settings(max_examples=40)
@given(case=cases(max_steps=5))
def test_the_jacobian_of_one_sample_is_that_of_the_engine_in_every_form(case):
    case.batch = [argument[:1] for argument in case.batch]
    values = [mg.Value(x) for x in case.parameters]
    sample = [argument[0] for argument in case.batch]
    kernel = mg.compile(case.function(values, "g"), batch=False).kernel(*sample)
    (outputs, parameters, inputs), (near, those, moved) = (
        next(by_the_engine(case, "g", kernel, values, nudge)) for nudge in (0.0, 4e-16)
    )
    expected, nudged = rows(outputs, parameters + inputs), rows(near, those + moved)
    for form, kind in itertools.product(FORMS, KINDS):
        with naming((form, kind)):
            formed(kernel, form, "both", kind)
            sparse = kernel.jacobian(kernel.read(), *sample, by="both", sparse=True)
            assert_close(sparse.toarray(), expected, nudged)
            by_theta, by_arguments = kernel.jacobian(kernel.read(), *sample, by="both")
            assert np.array_equal(sparse.toarray(), np.concatenate([by_theta, *by_arguments], axis=1), equal_nan=True)


@settings(max_examples=40)
@given(case=cases(max_steps=4))
def test_the_jacobian_of_samples_that_are_kept_apart_is_that_of_each(case):
    values = [mg.Value(x) for x in case.parameters]
    kernel = mg.compile(case.function(values, "g"), reduce=None, target="numpy").kernel(*case.batch)

    def whole(nudge):
        samples = [*by_the_engine(case, "g", kernel, values, nudge)]
        inputs = [x for sample in samples for x in sample[2]]
        return rows([output for sample in samples for output in sample[0]], samples[0][1] + inputs)

    expected, nudged, shared = whole(0.0), whole(4e-16), len(kernel.parameters)
    columns = {"parameters": slice(shared), "arguments": slice(shared, None), "both": slice(None)}
    for (by, mine), kind in itertools.product(columns.items(), KINDS):
        with naming((by, kind)):
            formed(kernel, FORMS[0], by, kind)
            sparse = kernel.jacobian(kernel.read(), *case.batch, by=by, sparse=True)
            assert_close(sparse.toarray(), expected[:, mine], nudged[:, mine])


@settings(max_examples=40)
@given(case=cases(max_steps=4))
def test_the_jacobian_of_a_batch_is_the_mean_or_the_sum_of_those_of_its_samples(case):
    values = [mg.Value(x) for x in case.parameters]
    kernels = [
        mg.compile(case.function(values, "g"), reduce=reduce, target="numpy").kernel(*case.batch)
        for reduce in ("mean", "sum")
    ]

    def whole(nudge):
        return sum(rows(outputs, order) for outputs, order, _ in by_the_engine(case, "g", kernels[0], values, nudge))

    expected, nudged = whole(0.0), whole(4e-16)
    for kernel, kind in itertools.product(kernels, KINDS):
        with naming((kernel.signature.reduce, kind)):
            formed(kernel, FORMS[0], "parameters", kind)
            sparse = kernel.jacobian(kernel.read(), *case.batch, sparse=True)
            share = 1.0 / len(case.batch[0]) if kernel.signature.reduce == "mean" else 1.0
            assert_close(sparse.toarray(), expected * share, nudged * share)
            assert np.array_equal(sparse.toarray(), kernel.jacobian(kernel.read(), *case.batch), equal_nan=True)


@settings(max_examples=40)
@given(case=cases(max_steps=4))
def test_the_hessian_of_a_weighted_sum_is_that_of_the_engine_in_every_form(case):
    case.batch = [argument[:1] for argument in case.batch]
    values = [mg.Value(x) for x in case.parameters]
    sample = [argument[0] for argument in case.batch]
    kernel = mg.compile(case.function(values, "g"), batch=False).kernel(*sample)
    weights = np.linspace(-1.0, 2.0, kernel.signature.outputs)

    def whole(nudge):
        ((outputs, order, inputs),) = by_the_engine(case, "g", kernel, values, nudge)
        total = mg.total([w * y for w, y in zip(weights.tolist(), outputs, strict=True)])
        return rows(gradient_graph(total, order + inputs), order + inputs)

    expected, nudged = whole(0.0), whole(4e-16)
    for form in FORMS:
        with naming(form):
            formed(kernel, form, "both", "second", seed=weights)
            sparse = kernel.hessian(kernel.read(), *sample, by="both", seed=weights, sparse=True)
            assert_close(sparse.toarray(), expected, nudged)
            dense = kernel.hessian(kernel.read(), *sample, by="both", seed=weights)
            assert np.array_equal(sparse.toarray(), dense, equal_nan=True)


@settings(max_examples=40)
@given(case=cases(max_steps=4))
def test_the_hessian_of_a_loss_is_the_mean_of_those_of_its_samples_in_every_form(case):
    values = [mg.Value(x) for x in case.parameters]
    kernel = mg.compile(case.function(values)).kernel(*case.batch)

    def whole(nudge):
        samples = [*by_the_engine(case, "f", kernel, values, nudge)]
        return sum(rows(gradient_graph(y, order), order) for (y,), order, _ in samples) / len(samples)

    expected, nudged = whole(0.0), whole(4e-16)
    for form in FORMS:
        with naming(form):
            formed(kernel, form, "parameters", "second")
            assert_close(kernel.hessian(kernel.read(), *case.batch), expected, nudged)


def same_special_numbers(found, expected):
    return np.array_equal(np.isnan(found), np.isnan(expected)) and np.array_equal(np.isinf(found), np.isinf(expected))


@settings(max_examples=150)
@given(case=wild_cases(max_steps=4))
def test_at_poles_and_infinities_a_jacobian_has_the_numbers_of_the_engine(case):
    case.batch = [argument[:1] for argument in case.batch]
    values = [mg.Value(x) for x in case.parameters]
    sample = [argument[0] for argument in case.batch]
    kernel = mg.compile(case.function(values, "g"), batch=False).kernel(*sample)
    ((outputs, parameters, inputs),) = by_the_engine(case, "g", kernel, values)
    expected = rows(outputs, parameters + inputs)
    for kind in KINDS:
        formed(kernel, FORMS[0], "both", kind)
        with np.errstate(all="ignore"):
            found = kernel.jacobian(kernel.read(), *sample, by="both", sparse=True).toarray()
        assert same_special_numbers(found, expected), (kind, found, expected)


@settings(max_examples=60)
@given(case=wild_cases(max_steps=4))
def test_at_poles_and_infinities_so_has_that_of_each_sample(case):
    values = [mg.Value(x) for x in case.parameters]
    kernel = mg.compile(case.function(values, "g"), reduce=None, target="numpy").kernel(*case.batch)
    expected = np.concatenate([rows(outputs, order) for outputs, order, _ in by_the_engine(case, "g", kernel, values)])
    for kind in KINDS:
        formed(kernel, FORMS[0], "parameters", kind)
        with np.errstate(all="ignore"):
            found = kernel.jacobian(kernel.read(), *case.batch, by="parameters", sparse=True).toarray()
        assert same_special_numbers(found, expected), (kind, found, expected)


@pytest.mark.parametrize("kind", ["forward", "reverse", "second"])
@pytest.mark.parametrize("case", RECURRENCES)
@pytest.mark.usefixtures("anything_folds")
def test_a_loop_over_steps_has_the_derivatives_of_its_steps(kind, case):
    theta, sample = np.random.default_rng(0).normal(size=(2, 40)) * 0.5
    parameters = [mg.Value(x) for x in theta[:20].tolist()]

    def function(parameters, xs):
        found = case(parameters, xs)
        return [found, found * xs[1], mg.sin(found) + parameters[0]]

    kernel = mg.compile(lambda xs: function(parameters, xs), batch=False).kernel(sample)
    options = {"seed": [1.0, -0.5, 2.0]} if kind == "second" else {}
    formed(kernel, ("numpy", False), "both", kind, **options)
    derivative = kernel.hessian if kind == "second" else kernel.jacobian
    found = derivative(kernel.read(), sample, by="both", sparse=True, **options).toarray()
    ((stages, _),) = [of.product(kind) for of in kernel._derivatives.values()]
    assert stages.folded.recurrences
    directions = np.random.default_rng(1).normal(size=(3, len(found))) if kind == "second" else np.eye(3)

    def whole(nudge):
        leaves = [mg.Value(x * (1 + nudge)) for x in theta[:20].tolist()]
        place = dict(zip(map(id, parameters), leaves, strict=True))
        inputs = [mg.Value(x * (1 + nudge)) for x in sample.tolist()]
        outputs, columns = function(leaves, inputs), [place[id(p)] for p in kernel.parameters] + inputs
        if kind == "second":  # along directions: a row for each number would take most of the time
            gradient = gradient_graph(mg.dot(options["seed"], outputs), columns)
            outputs = [mg.dot(direction, gradient) for direction in directions.tolist()]
        return rows(outputs, columns)

    assert_close(directions @ found, whole(0.0), whole(4e-16))


def test_a_jacobian_by_no_parameters_has_rows_without_columns():
    kernel = mg.compile(lambda x: [x, x * x], batch=False).kernel(2.0)
    assert kernel.jacobian([], 2.0, by="parameters").shape == (2, 0)
