"""All modes of differentiation agree, on programs of all rows, at any numbers, inf and nan included.

The model is in ``bounds.py``: it says what must come out, and how far rounding may move it.
"""

import math
from collections import Counter

import numpy as np
import pytest
from bounds import Graph
from hypothesis import event, given, settings
from hypothesis import strategies as st
from programs import wild_cases

import microgrid as mg
from microgrid.compiler import compile, emit, roll


def value_of(x):
    return x if isinstance(x, mg.Value) else mg.engine.constant(x)


class Eager:
    """A case as one ordinary graph: all samples, on leaves of their own, and the parameters."""

    def __init__(self, case, name, reduce, batched):
        self.parameters = [mg.Value(x) for x in case.parameters]
        samples = len(case.batch[0]) if batched else 1
        leaf = lambda x: [mg.Value(t) for t in x] if isinstance(x, list) else mg.Value(x)  # noqa: E731
        self.arguments = [[leaf(x) for x in argument[:samples]] for argument in case.batch]
        f = case.function(self.parameters, name)
        rows = []
        for sample in zip(*self.arguments, strict=True):
            outputs = f(*sample)
            rows.append([value_of(x) for x in (outputs if name == "g" else [outputs])])
        if reduce is not None and batched:
            folded = [mg.total(column) for column in zip(*rows, strict=True)]
            rows = [[x * (1.0 / samples) if reduce == "mean" else x for x in folded]]
        self.rows = rows
        self.graph = Graph([output for row in rows for output in row])

    def leaves_of(self, argument, sample=None):
        """The leaves of an argument, of one sample or of all, flat."""
        found = self.arguments[argument] if sample is None else self.arguments[argument][sample : sample + 1]
        return [leaf for x in found for leaf in (x if isinstance(x, list) else [x])]


class Tally(Counter):
    """Counts the numbers compared, and those about which nothing can be said."""

    def check(self, numbers, balls, what):
        numbers = np.ravel(numbers).tolist()
        assert len(numbers) == len(balls), (what, numbers, balls)
        for number, ball in zip(numbers, balls, strict=True):
            self["compared"] += 1
            self["uncertain"] += ball.e == math.inf
            assert ball.may_be(number), f"{what}: {number!r}, must be {ball!r}"

    def some_is_certain(self):
        assert self["uncertain"] < 0.25 * self["compared"], self


def zero_for(gradients, leaves):
    from bounds import Ball

    return [gradients.get(leaf, Ball(0.0)) for leaf in leaves]


FORMS = ["lifted", "spelled out", "floats", "loops"]


def check_kernel(case, form, reduce, name, by, tally):
    batched = form in ("lifted", "spelled out")
    if not batched and reduce == "sum":
        reduce = "mean"
    eager = Eager(case, name, reduce, batched)
    batch = case.batch if batched else [argument[0] for argument in case.batch]
    parameters = [mg.Value(x) for x in case.parameters]
    kernel = compile(case.function(parameters, name), reduce=reduce, batch=batched).kernel(*batch)
    if batched:
        kernel.spelled_out = form == "spelled out"
    else:
        kernel.spelled_out = kernel.scalar = True
        kernel.looped = form == "loops"
    place = {id(p): k for k, p in enumerate(parameters)}
    mine = [eager.parameters[place[id(p)]] for p in kernel.parameters]
    balls = eager.graph.balls
    outputs = [output for row in eager.rows for output in row]
    tally.check(kernel.value(kernel.read(), *batch), [balls[x] for x in outputs], "value")
    value, gradient = kernel.value_and_grad(kernel.read(), *batch, by=by)
    tally.check(value, [balls[x] for x in outputs], "value with gradient")
    by_theta, by_arguments = {"parameters": (gradient, None), "arguments": (None, gradient)}.get(by, gradient)
    expected = [[eager.graph.reverse(output) for output in row] for row in eager.rows]
    if by_theta is not None:
        tally.check(by_theta, [x for row in expected for found in row for x in zero_for(found, mine)], "by parameters")
    for k in range(3) if by_arguments is not None else ():
        several = reduce is None and batched
        wanted = [
            x
            for sample, row in enumerate(expected)
            for found in row
            for x in zero_for(found, eager.leaves_of(k, sample if several else None))
        ]
        tally.check(by_arguments[k], wanted, f"by argument {k}")


@pytest.mark.parametrize("lines", [2000, 3])
@pytest.mark.parametrize("form", FORMS)
def test_a_kernel_of_any_form_agrees_with_the_model(form, lines, monkeypatch):
    monkeypatch.setattr(emit, "LINES", lines)
    monkeypatch.setattr(roll, "LINES", lines)
    tally = Tally()

    @given(
        wild_cases(),
        st.sampled_from(["mean", "sum", None]),
        st.sampled_from("fg"),
        st.sampled_from(["parameters", "arguments", "both"]),
    )
    def check(case, reduce, name, by):
        check_kernel(case, form, reduce, name, by, tally)

    check()
    tally.some_is_certain()
