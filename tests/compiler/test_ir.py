"""Array programs: verify() catches each kind of broken program; every rule keeps its identity."""

from dataclasses import replace

import numpy as np
import pytest

from microgrid import ops
from microgrid.compiler.ir import (
    BATCH,
    MULTIPLY_ADD,
    NOT,
    NUMBER,
    Accumulate,
    ArrayProgram,
    Contract,
    Elementwise,
    Map,
    Node,
    Piece,
    Reduce,
    Scan,
    Scatter,
    SegmentReduce,
    View,
)
from microgrid.compiler.passes import rules
from microgrid.compiler.passes.builder import Builder, Rules
from microgrid.compiler.passes.fuse import fuse
from microgrid.compiler.passes.rules import BEFORE, FOR_JAX, LAST

NONE = Rules({}, (), (), (), ())


class Parts:
    """Some nodes to make programs of, by no rule."""

    def __init__(self):
        self.build = Builder(NONE)
        self.x, self.y = self.build.argument(0, 4, True), self.build.argument(1, 4, True)
        self.w, self.v = self.build.parameters(6), self.build.numbers(np.arange(6.0))
        self.less = self.apply(ops.less, self.x, self.y)

    def apply(self, op, *operands):
        return self.build.apply(op, *operands)

    def make(self, kind, shape, batched, *rest):
        return self.build.make(kind, shape, batched, *rest)

    def scan(self, state=False, entry=None, start=None, shape=(7, 1), backward=False, body=None):
        """Six steps, each of which multiplies the state by a member of ``w``."""
        start = self.build.filled((1,), 0.5) if start is None else start
        inner = Builder(NONE)
        old = inner.slot(0, start.shape, state)
        new = inner.apply(ops.mul, old, inner.view(inner.slot(1, (), False) if entry is None else entry(inner),
                                                   Map.constant(start.shape)))  # fmt: skip
        step = ArrayProgram.of([new if body is None else body(inner, old)], [(start.shape, state)])
        return self.make(Scan, shape, state, backward, step, start, (self.w,), ())

    def scatter(self, *pieces, values=None, zeros=None):
        values = [self.build.view(self.w, index) for index, _ in pieces] if values is None else values
        return self.make(Scatter, (6,), False, tuple(values), tuple(Piece(*piece) for piece in pieces), zeros)


LEFT, RIGHT = Map((3,), 0, (1,)), Map((3,), 3, (1,))
OVER = Map((3,), 2, (1,))

WHOLE = {
    "a row": lambda p: p.apply(ops.add, p.x, p.apply(ops.mul, 2.0, p.y)),
    "a view": lambda p: p.build.view(p.w, Map((2, 2), 5, (-3, -1))),
    "a view by a table": lambda p: p.build.view(p.w, Map.of(np.array([0, 5, 1]))),
    "sums": lambda p: p.build.sum(p.build.sum(p.x, [0]), [], batch=True),
    "a contraction": lambda p: p.make(Contract, (4, 4), False, p.x, p.y, ("a" + BATCH, "b" + BATCH, "ab")),
    "two pieces": lambda p: p.scatter((LEFT, False), (RIGHT, False)),
    "pieces that meet": lambda p: p.scatter((LEFT, False), (OVER, True), zeros=Map((2,), 3, (1,))),
    "stretches": lambda p: p.make(SegmentReduce, (2,), False, "sum", p.w, np.array([0, 4])),
    "states": lambda p: p.make(Accumulate, (5,), True, False, ops.mul, 0, 1.0, (p.x,)),
    "states of a product and a sum": lambda p: p.make(Accumulate, (7,), False, True, MULTIPLY_ADD, 0, 0.5, (p.w, 2.0)),
    "states of a program": lambda p: p.scan(),
    "states of a program backward": lambda p: p.scan(start=p.x, state=True, shape=(7, 4), backward=True),
    "a mask as a factor": lambda p: p.apply(ops.mul, p.x, p.less),
    "a mask as a condition": lambda p: p.apply(ops.where, p.less, p.x, 1.0),
    "a mask as a number": lambda p: p.apply(NUMBER, p.apply(NOT, p.less)),
}

BROKEN = {
    "a map beyond the end": (lambda p: p.make(View, (3,), False, p.w, Map((3,), 4, (1,))), "reaches from 4 to 6"),
    "a map before the start": (lambda p: p.make(View, (2,), False, p.w, Map((2,), 0, (-1,))), "reaches from -1 to 0"),
    "a table beyond the end": (lambda p: p.make(View, (2,), False, p.w, Map.of(np.array([9, 0]))), "the members are"),
    "a map of another rank": (lambda p: p.make(View, (2,), False, p.w, Map((2,), 0, (1, 1))), "its map"),
    "a view of another shape": (lambda p: p.make(View, (2,), False, p.w, LEFT), "its form is not"),
    "operands of two shapes": (lambda p: p.make(Elementwise, (4,), True, ops.add, (p.x, p.w)), "its form is not"),
    "too few operands": (lambda p: p.make(Elementwise, (4,), True, ops.add, (p.x,)), "add takes 2 operand"),
    "no array among them": (lambda p: p.make(Elementwise, (), False, ops.add, (1.0, 2.0)), "one is an array"),
    "samples forgotten": (lambda p: p.make(Elementwise, (4,), False, ops.exp, (p.x,)), "its form is not"),
    "samples from nowhere": (lambda p: p.make(Elementwise, (6,), True, ops.exp, (p.w,)), "its form is not"),
    "an axis that is not there": (lambda p: p.make(Reduce, (), False, "sum", p.w, (1,), False), "does not reduce"),
    "an axis twice": (lambda p: p.make(Reduce, (), False, "sum", p.w, (0, 0), False), "does not reduce"),
    "a sum over nothing": (lambda p: p.make(Reduce, (6,), False, "sum", p.w, (), False), "does not reduce"),
    "a sum over no samples": (lambda p: p.make(Reduce, (6,), False, "sum", p.w, (), True), "does not reduce"),
    "the largest sample": (lambda p: p.make(Reduce, (4,), False, "largest", p.x, (), True), "does not reduce"),
    "a sum of another shape": (lambda p: p.make(Reduce, (6,), False, "sum", p.w, (0,), False), "its form is not"),
    "an axis without a letter": (
        lambda p: p.make(Contract, (), False, p.w, p.v, ("", "a", "")),
        "the subscripts  do not fit",
    ),
    "samples without a letter": (
        lambda p: p.make(Contract, (), False, p.x, p.y, ("a", "a", "")),
        "the subscripts a do not fit",
    ),
    "a letter of two sizes": (
        lambda p: p.make(Contract, (), True, p.x, p.w, ("a" + BATCH, "a", BATCH)),
        "the axis a has 4 members, and 6",
    ),
    "a result from nowhere": (lambda p: p.make(Contract, (6,), False, p.w, p.v, ("a", "a", "b")), "stand in both"),
    "a sum over one factor": (lambda p: p.make(Contract, (6,), False, p.w, p.v, ("a", "b", "b")), "stand in both"),
    "a contraction of another shape": (lambda p: p.make(Contract, (5,), False, p.w, p.v, ("a", "a", "")), "its form"),
    "a value without a piece": (lambda p: p.scatter((LEFT, False), values=[1.0, 2.0]), "2 values for 1 pieces"),
    "a piece of another shape": (lambda p: p.scatter((LEFT, False), values=[p.w]), r"value 0 has the shape \(6,\)"),
    "a piece beyond the end": (lambda p: p.scatter((Map((3,), 4, (1,)), False), values=[1.0]), "reaches from 4"),
    "a piece that meets itself": (lambda p: p.scatter((Map((3,), 4, (0,)), False)), "piece 0 reaches a member twice"),
    "pieces that overwrite": (lambda p: p.scatter((LEFT, False), (OVER, False)), "piece 1 overwrites"),
    "a piece added to nothing": (lambda p: p.scatter((LEFT, False), (OVER, True)), "piece 1 adds to what is not"),
    "zeros beyond the end": (lambda p: p.scatter((LEFT, False), zeros=Map((2,), 5, (1,))), "reaches from 5 to 6"),
    "stretches that do not begin": (
        lambda p: p.make(SegmentReduce, (1,), False, "sum", p.w, np.array([1])),
        "must begin at 0",
    ),
    "stretches beyond the end": (
        lambda p: p.make(SegmentReduce, (2,), False, "sum", p.w, np.array([0, 6])),
        "inside 6 members",
    ),
    "stretches of another count": (
        lambda p: p.make(SegmentReduce, (3,), False, "sum", p.w, np.array([0, 4])),
        "its form is not",
    ),
    "as many states as steps": (
        lambda p: p.make(Accumulate, (4,), True, False, ops.mul, 0, 1.0, (p.x,)),
        "its form is not",
    ),
    "a step of no state": (
        lambda p: p.make(Accumulate, (5,), True, False, ops.mul, 0, 1.0, (p.x, p.x)),
        "a step of mul takes a state and 1 operand",
    ),
    "a state of no operand": (
        lambda p: p.make(Accumulate, (5,), True, False, ops.mul, 2, 1.0, (p.x,)),
        "a step of mul takes a state and 1 operand",
    ),
    "a start of another shape": (
        lambda p: p.make(Accumulate, (5,), True, False, ops.mul, 0, p.w, (p.x,)),
        "its form is not",
    ),
    "as many states of a program as steps": (lambda p: p.scan(shape=(6, 1)), "its form is not"),
    "a program of another state": (lambda p: p.scan(body=lambda b, s: b.numbers(np.zeros(2))), "must have the form"),
    "a program that reads what it is not given": (
        lambda p: p.scan(body=lambda b, s: b.argument(0, 1, False)),
        "must read its slots alone",
    ),
    "a program of another entry": (
        lambda p: p.scan(entry=lambda b: b.view(b.slot(1, (2,), False), Map((), 1))),
        "must read its slots alone",
    ),
    "a program for samples that are not there": (lambda p: p.scan(state=True), "must read its slots|its form is not"),
    "constants of another shape": (lambda p: p.make(type(p.v), (5,), False, np.arange(6.0)), "its form is not"),
    "single-precision constants": (
        lambda p: p.make(type(p.v), (6,), False, np.arange(6, dtype=np.float32)),
        "its form is not",
    ),
    "a derivative that nobody takes": (lambda p: p.apply(ops.stop_gradient, p.x), "nothing is differentiated"),
    "two masks multiplied": (lambda p: p.apply(NUMBER, p.apply(ops.mul, p.less, p.less)), "a mask stands where"),
    "a mask that is added": (lambda p: p.apply(ops.add, p.x, p.less), "a mask stands where a number must"),
    "a mask that is chosen": (lambda p: p.apply(ops.where, p.x, p.less, 1.0), "a mask stands where a number must"),
    "a mask that is summed": (lambda p: p.build.sum(p.less, [0]), "a mask stands where a number must"),
    "a mask read by a table": (
        lambda p: p.apply(NUMBER, p.build.view(p.less, Map.of(np.array([0, 3, 1])))),
        "a mask stands where a number must",
    ),
    "a mask as an output": (lambda p: p.less, "output 0 is a mask"),
    "a number negated as a mask": (lambda p: p.apply(NUMBER, p.apply(NOT, p.x)), "its operand must be a mask"),
}


@pytest.mark.parametrize("make", WHOLE.values(), ids=WHOLE)
def test_a_program_that_fits_together_is_verified(make):
    program = ArrayProgram.of([make(Parts())])
    assert program.verify() is program


@pytest.mark.parametrize(("make", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_program_is_refused_and_the_node_named(make, message):
    output = make(Parts())
    with pytest.raises(ValueError, match=rf"^%\d+: .*{message}"):
        ArrayProgram.of([output]).verify()


def test_nodes_stand_behind_their_operands_and_outputs_have_their_forms():
    p = Parts()
    program = ArrayProgram.of([p.apply(ops.exp, p.w)])
    parameters, exp = program.nodes
    for broken, message in (
        (replace(program, nodes=(exp, parameters)), r"%\d+ is not among the nodes before it"),
        (replace(program, nodes=(parameters, exp, exp)), r"it stands behind %\d+"),
        (replace(program, nodes=(parameters,)), "output 0 is not among the nodes"),
        (replace(program, forms=(((5,), False),)), "output 0 must have the form 5"),
        (replace(program, forms=()), "1 outputs have 0 forms"),
        (ArrayProgram.of([p.x], [((4,), False)]), "output 0 must have the form 4"),
    ):
        with pytest.raises(ValueError, match=message):
            broken.verify()
    replace(program, forms=(((6,), True),)).verify()  # the same for each sample


def test_what_may_stand_depends_on_the_stage():
    p = Parts()
    stopped = ArrayProgram.of([p.apply(ops.stop_gradient, p.x)])
    contracted = ArrayProgram.of([WHOLE["a contraction"](p)])
    stopped.verify(final=False)
    stopped.verify(differentiable=True)
    with pytest.raises(ValueError, match="contractions are made last"):
        contracted.verify(final=False)


# ---------------------------------------------------------------------------------------------------
# Rules: what is built, and what stands instead, as it is written without any rule; x and y are arrays of parameters

IDENTITIES = [
    (rules.itself, LAST, lambda b, x, y: b.apply(ops.stop_gradient, x), lambda b, x, y: x),
    (rules.itself, BEFORE, lambda b, x, y: b.apply(ops.identity, x), lambda b, x, y: x),
    (rules.number_of_number, BEFORE, lambda b, x, y: b.apply(NUMBER, x), lambda b, x, y: x),
    (rules.times_one, BEFORE, lambda b, x, y: b.apply(ops.mul, x, 1.0), lambda b, x, y: x),
    (rules.times_minus_one, BEFORE, lambda b, x, y: b.apply(ops.mul, -1.0, x), lambda b, x, y: b.apply(ops.neg, x)),
    (
        rules.negative_factor,
        BEFORE,
        lambda b, x, y: b.apply(ops.mul, y, b.apply(ops.neg, x)),
        lambda b, x, y: b.apply(ops.neg, b.apply(ops.mul, x, y)),
    ),
    (
        rules.two_constants,
        BEFORE,
        lambda b, x, y: b.apply(ops.mul, 2.0, b.apply(ops.mul, 3.0, x)),
        lambda b, x, y: b.apply(ops.mul, 6.0, x),
    ),
    (
        rules.weight_times_count,
        BEFORE,
        lambda b, x, y: b.apply(ops.mul, b.batch_size(), b.batch_weight()),
        lambda b, x, y: 1.0,
    ),
    (rules.twice_negative, BEFORE, lambda b, x, y: b.apply(ops.neg, b.apply(ops.neg, x)), lambda b, x, y: x),
    (
        rules.negative_constant,
        BEFORE,
        lambda b, x, y: b.apply(ops.neg, b.apply(ops.mul, 3.0, x)),
        lambda b, x, y: b.apply(ops.mul, -3.0, x),
    ),
    (rules.over_one, BEFORE, lambda b, x, y: b.apply(ops.div, x, 1.0), lambda b, x, y: x),
    (rules.plus_itself, BEFORE, lambda b, x, y: b.apply(ops.add, x, x), lambda b, x, y: b.apply(ops.mul, 2.0, x)),
    (
        rules.plus_negative,
        BEFORE,
        lambda b, x, y: b.apply(ops.add, b.apply(ops.neg, x), y),
        lambda b, x, y: b.apply(ops.sub, y, x),
    ),
    (
        rules.minus_negative,
        BEFORE,
        lambda b, x, y: b.apply(ops.sub, x, b.apply(ops.neg, y)),
        lambda b, x, y: b.apply(ops.add, x, y),
    ),
    (
        rules.one_minus_mask,
        BEFORE,
        lambda b, x, y: b.apply(ops.sub, 1.0, b.apply(ops.less, x, y)),
        lambda b, x, y: b.apply(NOT, b.apply(ops.less, x, y)),
    ),
    (
        rules.twice_not,
        BEFORE,
        lambda b, x, y: b.apply(NOT, b.apply(NOT, b.apply(ops.less, x, y))),
        lambda b, x, y: b.apply(ops.less, x, y),
    ),
    (rules.power_of_one, BEFORE, lambda b, x, y: b.apply(ops.power_of(1.0), x), lambda b, x, y: x),
    (rules.power_of_zero, LAST, lambda b, x, y: b.apply(ops.power_of(0.0), x), lambda b, x, y: 1.0),
    (rules.known_condition, LAST, lambda b, x, y: b.apply(ops.where, 0.0, x, y), lambda b, x, y: y),
    (rules.behind_the_gate, LAST, lambda b, x, y: b.apply(ops.gated, x, y), lambda b, x, y: y),
    (
        rules.before_it_repeats,
        BEFORE,
        lambda b, x, y: b.apply(ops.add, b.view(b.apply(ops.exp, x), REPEAT), 3.0),
        lambda b, x, y: b.view(b.apply(ops.add, b.apply(ops.exp, x), 3.0), REPEAT),
    ),
    (
        rules.numbers_for_masks,
        LAST,
        lambda b, x, y: b.apply(ops.add, x, b.apply(ops.less, x, y)),
        lambda b, x, y: b.apply(ops.add, x, b.apply(NUMBER, b.apply(ops.less, x, y))),
    ),
    (
        rules.sum_of_negatives,
        BEFORE,
        lambda b, x, y: b.sum(b.apply(ops.neg, x), [1]),
        lambda b, x, y: b.apply(ops.neg, b.sum(x, [1])),
    ),
    (
        rules.constant_out_of_sum,
        BEFORE,
        lambda b, x, y: b.sum(b.apply(ops.mul, x, 3.0), [0]),
        lambda b, x, y: b.apply(ops.mul, 3.0, b.sum(x, [0])),
    ),
    (
        rules.sum_of_masks,
        LAST,
        lambda b, x, y: b.sum(b.apply(ops.less, x, y), [0]),
        lambda b, x, y: b.sum(b.apply(NUMBER, b.apply(ops.less, x, y)), [0]),
    ),
    (
        rules.weight_out_of_sum,
        BEFORE,
        lambda b, x, y: b.sum(b.apply(ops.mul, x, b.view(b.batch_weight(), Map.constant((2, 3)))), [1]),
        lambda b, x, y: b.apply(ops.mul, b.view(b.batch_weight(), Map.constant((2,))), b.sum(x, [1])),
    ),
    (
        rules.repeated_terms,
        BEFORE,
        lambda b, x, y: b.sum(b.view(x, REPEAT), [0, 1]),
        lambda b, x, y: b.apply(ops.mul, 4.0, b.sum(b.view(x, Map((2, 3), 0, (3, 1))), [0])),
    ),
    (
        rules.weight_out_of_samples,
        BEFORE,
        lambda b, x, y: b.sum_samples(b.apply(ops.mul, b.batch_weight(), SAMPLE(b))),
        lambda b, x, y: b.apply(ops.mul, b.batch_weight(), b.sum(SAMPLE(b), [], batch=True)),
    ),
    (rules.count_times_weight, BEFORE, lambda b, x, y: b.sum_samples(b.batch_weight()), lambda b, x, y: 1.0),
    (
        rules.count_of_view,
        BEFORE,
        lambda b, x, y: b.sum_samples(b.view(b.batch_weight(), Map.constant((3,)))),
        lambda b, x, y: 1.0,
    ),
    (
        rules.count_of_negative,
        BEFORE,
        lambda b, x, y: b.sum_samples(b.apply(ops.neg, b.batch_weight())),
        lambda b, x, y: -1.0,
    ),
    (
        rules.count_of_product,
        BEFORE,
        lambda b, x, y: b.sum_samples(b.apply(ops.mul, x, b.view(b.batch_weight(), Map.constant((2, 3))))),
        lambda b, x, y: x,
    ),
]
REPEAT = Map((4, 2, 3), 0, (0, 3, 1))


def SAMPLE(build):  # noqa: N802 - a number of an argument, as X and Y are parameters
    return build.view(build.argument(0, 2, True), Map((), 1))


def given(build):
    theta = build.parameters(12)
    return build.view(theta, Map((2, 3), 0, (3, 1))), build.view(theta, Map((2, 3), 6, (3, 1)))


@pytest.mark.parametrize(("rule", "which", "made", "instead"), IDENTITIES, ids=[x[0].__name__ for x in IDENTITIES])
def test_a_rule_does_without_a_node_by_its_identity(rule, which, made, instead):
    with_rules, without = Builder(which), Builder(NONE)
    assert written(made(with_rules, *given(with_rules))) == written(instead(without, *given(without)))


def written(x):
    """A node as one expression."""
    if not isinstance(x, Node):
        return repr(x)
    detail = x.map if isinstance(x, View) else (x.axes, x.batch) if isinstance(x, Reduce) else ""
    return f"{x.name}{x.shape}{detail}({', '.join(map(written, x.operands))})"


def test_every_rule_has_its_identity_tested():
    used = {rule for which in (BEFORE, LAST, FOR_JAX) for rule in all_rules(which)}
    assert used == {rule for rule, *_ in IDENTITIES}


def all_rules(which):
    for rules_of_row in which.rows.values():
        yield from rules_of_row
    yield from (*which.always, *which.sums, *which.samples, *which.counts)


def fused(make):
    build = Builder(BEFORE)
    return ArrayProgram.of(fuse([make(build, *given(build))], [], LAST)).dump()


def used_twice(build, u, function, y):
    """function(u) + 5·(u·y)."""
    return build.apply(ops.add, function(u), build.apply(ops.mul, 5.0, build.apply(ops.mul, u, y)))


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda b, x, y: b.apply(ops.mul, b.apply(ops.mul, 3.0, x), b.apply(ops.mul, 5.0, y)), {"mul": 2}),
        (lambda b, x, y: b.apply(ops.mul, x, b.apply(ops.div, 1.0, y)), {"div": 1}),
        (lambda b, x, y: b.apply(ops.mul, b.apply(ops.mul, 1e300, x), b.apply(ops.mul, 1e300, y)), {"mul": 3}),
        (lambda b, x, y: used_twice(b, b.apply(ops.mul, 2.0, x), lambda u: b.apply(ops.mul, 3.0, u), y), {"mul": 3}),
        (lambda b, x, y: used_twice(b, b.apply(ops.mul, 2.0, x), lambda u: b.apply(ops.exp, u), y), {"mul": 3}),
        (lambda b, x, y: b.sum(b.apply(ops.mul, x, y), [0, 1]), {"contract": 1}),
        (lambda b, x, y: b.sum(b.sum(b.apply(ops.mul, SAMPLE(b), SAMPLE(b)), [], batch=True), []), {"contract": 1}),
    ],
)
def test_constants_come_to_the_front_and_sums_of_products_are_contractions(make, count):
    text = fused(make)
    found = {name: text.count(f"= {name}(") for name in ("mul", "div", "contract", "sum")}
    assert {name: times for name, times in found.items() if times} == count
