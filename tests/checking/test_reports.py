"""What users are told, to the last word and digit.

``checking/reports/`` has some reports as users read them, a file each: a change of one is to be read like one of a
text. ``checking/reports.tsv`` has a line for every case: its verdicts, its numbers with how far they may be off, how
often its user-defined operations were evaluated, which is what a check costs, and a hash of its words.
``python -m tests.checking.test_reports`` writes both anew and prints what changed: verdicts, allowed errors,
evaluations. With the name of a folder it writes there every case as users read it, for a ``diff`` with what another
commit wrote.
How far a derivative may be off is itself computed, by random rounding and extrapolation; other tests hold that it is
far enough, this one that it is no further.
Every function here is made of operations that IEEE 754 rounds in one way, or is shown with so few digits that those of
other machines are the same.
"""

import hashlib
import math
import re
import statistics
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

import microgrid as mg
from microgrid import Interval, Op, Value, nn, ops
from microgrid.checking import Report, check, check_op
from microgrid.checking.precision import Precision
from microgrid.checking.why import Explanation
from microgrid.ops import POSITIVE, REALS
from tests.checking.test_why import cases as gradients
from tests.checking.test_why import chain, leaves, network, samples

TABLE = Path(__file__).with_name("reports.tsv")
TEXTS = TABLE.with_suffix("")


def cube(x: Value) -> Value:
    return x * x * x


def bell(x: Value) -> Value:
    return 1 / (1 + x * x)


def root(x: Value) -> Value:
    return mg.sqrt(x)


def wave(x: Value) -> Value:
    return x * (1 - x * x / 6 * (1 - x * x / 20))


def bend(x: Value) -> Value:
    return mg.abs(x) * x * x - x


evaluations = 0


def own(name: str, forward: Callable[..., float], partials: Any, **others: Any) -> Op:
    """A user-defined operation, whose evaluations are counted: they are what a check costs."""

    def counted(*xs: float) -> float:
        global evaluations
        evaluations += 1
        return forward(*xs)

    return Op(name, counted, partials, **others)


def ripple(speed: float, factor: float) -> Op:
    """A wave of parabolas, as fast as you like; its derivative is right if the factor is 1."""

    def phase(x: float) -> float:
        return math.fmod(speed * x, 2.0) - 1.0 if math.isfinite(x) else math.nan

    return own(
        "ripple",
        lambda x: phase(x) * (1.0 - abs(phase(x))),
        (lambda y, x: factor * speed * (1.0 - 2.0 * abs(phase(x))),),
    )


shift = own("shift", lambda x: (x + 1e6) - 1e6, (1.0,))
far = own("far", lambda x: (x * x + 1e9) - 1e9, (lambda y, x: 2 * x,))
rough = own("rough", lambda x: x * x / 2, (lambda y, x: (x + 1e6) - 1e6,))
fine = own("fine", lambda x: math.sqrt(1 + x * x), (lambda y, x: x / y,))
late = own("late", lambda x: x * x, (lambda y, x: x,))
lost = own("lost", lambda x: x * x, (0.0,))
near = own("near", lambda x: 1 / (1 + x * x), (lambda y, x: -2.0000001 * x * y * y,))
product = own("product", lambda a, b: a * b, (lambda y, a, b: b, lambda y, a, b: a), array="{0} * {1}")
broken = own("broken", lambda x: x, (1.0,), array="xp.nothing({0})")
ratio = own("ratio", ops.div.forward, (lambda y, a, b: 1.001 / b, lambda y, a, b: -y / b), domain=(REALS, POSITIVE))
pole = own("pole", lambda x: x * x, (math.inf,))
void = own("void", lambda x: x * x, (math.nan,))
hinge = own("hinge", lambda x: max(x, 0.0), (lambda y, x: mg.greater(x, 0.0),), kink=lambda x: x > 0)
vee = own("vee", lambda x: max(x - 1.0, 0.0), (lambda y, x: mg.greater(x, 1.0),))
fused = own("fused", lambda a, b, c: a * b + c, (lambda y, a, b, c: b, lambda y, a, b, c: a, 1.0))
bounded = own("bounded", ops.sqrt.forward, (lambda y, x: 0.5 / y,), domain=(Interval(0.25, 9.0),), array="xp.sqrt({0})")

POINTS = (0.0, 0.7, 1.0, -1023.9999, 1e-9, 1e-300, 3e9)


def cancelling(x: Value, c: float) -> Value:
    """x² among terms c times as large, which cancel."""
    return x * x * c + x * x - x * x * c


def random_program(seed: int) -> Report:
    """The derivatives of a random program of two numbers at a random point."""
    random = Random(seed)
    point = [math.ldexp(random.uniform(-1.0, 1.0), random.randint(-12, 12)) for _ in range(2)]
    choices = (ops.add, ops.sub, ops.mul, ops.mul, ops.div, ops.sqrt, ops.maximum, ops.absolute, fine)

    def f(x: Value, y: Value) -> Value:
        random = Random(seed)
        numbers = [x, y, Value(0.75)]
        for op in random.choices(choices, k=random.randint(3, 8)):
            numbers.append(op(*random.choices(numbers, k=op.arity)))
        return mg.total(numbers[2:])

    return check(f, tuple(point), order=2, method="difference")


def random_why(seed: int) -> Any:
    """Why the gradients of a random program of four numbers, of all sizes, are what they are."""
    random = Random(seed)
    choices = (
        *(ops.mul, ops.mul, ops.mul, ops.add, ops.sub, ops.div, ops.tanh, ops.sigmoid, ops.exp, ops.relu, ops.relu),
        *(ops.sqrt, ops.log, ops.floor, ops.maximum, ops.less, ops.where, ops.clip, ops.stop_gradient, ops.absolute),
    )
    numbers = [Value(2.0 ** random.randint(-6, 6) * random.choice((-1, 1)), name) for name in "abc"]
    numbers += [Value(random.choice((0.0, 1e-9, -1e9, 1e200)), "d")]
    for op in random.choices(choices, k=random.randint(3, 12)):
        numbers.append(op(*random.choices(numbers, k=op.arity)))
    outputs = numbers[-random.randint(1, 3) :] if seed % 2 else [mg.total(numbers[4:])]
    return [mg.why(outputs), mg.why(outputs, random.choice(numbers))]


def random_kinks(seed: int) -> Any:
    """The derivatives of a random program with kinks and jumps, one of which may be at the point."""
    random = Random(seed)
    own = [hinge, vee, fine, shift]
    rows = [ops.absolute, ops.relu, ops.floor, ops.rounded, ops.sign, ops.maximum, *own]
    point = random.choice((0.0, 1.0, 2.0, -0.5, 1e-5, 1000.0, 0.999999))
    factors = [random.uniform(-3.0, 3.0) for _ in range(12)]

    def f(x: Value) -> Value:
        random = Random(seed)
        numbers = [x, x * factors[0], x - point]
        for factor in factors[1 : random.randint(3, 6)]:
            op = random.choice(rows)
            numbers.append(factor * op(*random.choices(numbers, k=op.arity)))
        return mg.total(numbers)

    return check(f, point, order=1 + seed % 2, method=random.choice(("auto", "difference")))


def directions(f: Callable[..., Value], *at: float, method: str = "difference") -> str:
    """By random directions; they are made by functions that round differently elsewhere, so not to the last digit."""
    report = check(f, at, sample=3, method=method)
    return "\n".join([f"{row.name} {row.verdict} {row.numeric:.6g}" for row in report.derivatives])


def outcomes(f: Callable[[float], Any], row: int = -1) -> str:
    """The first letter of the verdict for numbers from 0.1 to 1e18; a small one if its reason is backward() itself."""
    rows = [f(2.0**k).derivatives[row] for k in range(-3, 60)]
    return "".join(each.verdict[0].lower() if "backward()" in each.reason else each.verdict[0] for each in rows)


def network_with(*dead: int, units: int = 4) -> tuple[Any, list[Value]]:
    """A network of ReLUs, with some units of its first layer off for every sample, and its outputs for a batch."""
    model = nn.MLP(3, [units, 3, 2], seed=1)
    for i in dead:
        model.layers[0].neurons[i].b.data = -50.0
    with mg.record_lines():
        return model, [mg.total(model(row)) for row in samples(1, 4)]


def affine_layers(factor: float) -> Value:
    """What twelve layers without activations make of a sample, all weights multiplied by a factor."""
    model = nn.Sequential(*[nn.Affine(3, 3, seed=i) for i in range(12)], nn.Affine(3, 1, seed=0))
    for parameter in model.parameters():
        parameter.data *= factor
    return model([0.5, -0.25, 1.0])


def many_causes() -> Value:
    """A sum with gradients of every size, for more reasons than are explained."""
    zeros = [mg.relu(Value(-1.5, "a")), mg.relu(Value(-2.5, "b")), mg.floor(Value(0.5, "c")), mg.cos(Value(0.0, "d"))]
    zeros += [mg.tanh(Value(1000.0, "e")), mg.stop_gradient(Value(1.0, "f"))]
    others = [mg.sqrt(Value(0.0, "g")), 1e-12 * Value(2.0, "h"), 1e-13 * Value(3.0, "i"), 1e9 * Value(4.0, "j")]
    return mg.total([*zeros, *others, mg.where(0.0, mg.log(Value(-1.0, "k")), 1.0)])


def many_paths(x: Value) -> Value:
    """A sum over paths that all end in a 0, of more kinds than are told."""
    inner = 1.5 * x
    dead = [mg.relu(-inner), mg.relu(-2.0 * inner), mg.relu(-2.0 * inner)]
    choices = [mg.maximum(inner, 100.0), mg.clip(inner, 5.0, 6.0)]
    return mg.total([*dead, *choices, mg.tanh(1000.0 * inner), inner * 0.0 * inner, mg.exp(-1000.0 * inner)])


def some_off(x: Value) -> list[Value]:
    """Samples for which a ReLU is off, and some for which it is on but does not matter."""
    return [mg.relu(x * factor) * gate for factor, gate in ((-1.0, 1.0), (-2.5, 1.0), (3.0, 0.0), (4.0, 0.0))]


def quadratic(b: float) -> Value:
    """The root nearer to 0 of x² + bx + 1."""
    a, p, c = Value(1.0, "a"), Value(b, "b"), Value(1.0, "c")
    with mg.record_lines():
        return (-p + mg.sqrt(p * p - 4 * a * c)) / (2 * a)


def variance(shift: float) -> Value:
    """A variance as a difference of means."""
    xs = [Value(shift + k / 3.0, f"x{k}") for k in range(4)]
    return mg.mean([x * x for x in xs]) - mg.mean(xs) ** 2


def third(x: Value, n: float = 3.0) -> Value:
    return x / n


def random_precision(seed: int) -> Precision:
    """How precise a random program of two numbers is, and where it loses digits."""
    random = Random(seed)
    choices = (
        ops.add,
        ops.sub,
        ops.sub,
        ops.mul,
        ops.div,
        ops.sqrt,
        ops.maximum,
        ops.mod,
        ops.floor,
        ops.power_of(2.0),
    )
    numbers = [Value(math.ldexp(random.uniform(-1.0, 1.0), random.randint(-12, 12))) for _ in range(2)]
    numbers.append(numbers[0] * 0.75)
    for op in random.choices(choices, k=random.randint(3, 9)):
        numbers.append(op(*random.choices(numbers, k=op.arity)))
    return mg.precision(mg.total(numbers[2:]) if seed % 2 else numbers[-1])


PRECISE: dict[str, Callable[[], Any]] = {
    "the quadratic formula": lambda: [mg.precision(quadratic(b)) for b in (1e8, 3e4, 2.0)],
    "a variance": lambda: [mg.precision(variance(shift)) for shift in (0.0, 1e4, 1e8)],
    "what is exact": lambda: mg.precision((x := Value(1.5, "x")) * 4.0 - 0.25 + mg.floor(x / 2.0) + mg.sqrt(x + 0.75)),
    "one rounding": lambda: [mg.precision(third(x)) for x in leaves(1.0, 1e300, 1e-320, 5e-324)],
    "a quotient that underflows": lambda: mg.precision(third(Value(-5e-324, "x")) + 0.0),
    "a sum without a right digit": lambda: mg.precision(((Value(0.3, "x") + 4.4e15) + 0.1) - 4.4e15),
    "a sum of quotients": lambda: mg.precision(chain(Value(0.0), lambda v: v + third(Value(1.0)), 40)),
    "a square root": lambda: [mg.precision(mg.sqrt(x)) for x in leaves(2.0, 2.25, 0.0, 1e-300)],
    "a square": lambda: [mg.precision(third(x) ** 2) for x in leaves(1.0, 1e-160, 1e-162, 1e150)],
    "a difference that cancels": lambda: [
        mg.precision(third(x) + 1.0 - (third(x) + (1.0 - 10.0**-k))) for k in (2, 7, 12) for x in leaves(1.0)
    ],
    "a difference of inputs": lambda: mg.precision(Value(1.0 + 1e-9, "x") - 1.0),
    "a sum that cancels": lambda: mg.precision(mg.total([third(x := Value(1.0, "x")), 1e9, x * 0.1, -1e9])),
    "a long sum": lambda: mg.precision(chain(Value(0.1, "x"), lambda v: v + 0.1, 1000)),
    "many losses": lambda: mg.precision(mg.total([third(Value(1.0 + i, f"x{i}"), 3.0 + i / 7.0) for i in range(9)])),
    "a jump within the rounding": lambda: mg.precision(mg.floor(third(Value(0.3, "x"), 0.1)) + 0.5),
    "a choice within the rounding": lambda: mg.precision(
        mg.where(mg.less(third(x := Value(0.3, "x"), 0.1), 3.0), x, 2.0 * x)
    ),
    "what underflows": lambda: [mg.precision(x * y + 0.0) for x in leaves(1e-200, 1e-155) for y in (x, -1e-200)],
    "a power of what underflows": lambda: mg.precision(((x := Value(1e-150, "x")) * x * x) ** 3 + 1e-300),
    "what overflows": lambda: [
        mg.precision(f(x))
        for x in leaves(1e200)
        for f in (lambda x: mg.sqrt(x * x + 1.0), lambda x: ops.div(x, x * x), lambda x: mg.abs(x - x * x))
    ],
    "what was given as no number": lambda: [mg.precision(x * 2.0) for x in leaves(math.nan, math.inf)],
    "an overflow that is not chosen": lambda: mg.precision(mg.where(mg.less(x := Value(1e200), 1.0), x * x, third(x))),
    "remainders": lambda: [
        mg.precision(op(third(x), 0.1)) for op in (ops.mod, ops.fmod, ops.remainder) for x in leaves(10.0, 0.0)
    ],
    "rounded numbers": lambda: [mg.precision(ops.round_of(2)(x)) for x in leaves(2.0 / 3.0, 0.25, 0.001)],
    "sums within a function": lambda: [mg.precision(f(Value(3.5, "x"))) for f in (mg.lgamma, ops.digamma)],
    "a user-defined operation": lambda: [
        mg.precision(own("halved", lambda x: x / 2, (0.5,))(x)) for x in leaves(1.0, 0.0, -1.0, 2.0)
    ],
    "a user-defined operation at 1": lambda: mg.precision(own("quartered", lambda x: x / 4, (0.25,))(Value(1.0, "x"))),
    "a root of squares that underflow": lambda: [
        mg.precision(mg.sqrt((x := Value(3e-155 * scale, "x")) * x + (y := Value(4e-155 * scale, "y")) * y))
        for scale in (1.0, 1e-15)
    ],
    "a sum with what cancelled to 0": lambda: mg.precision((third(x := Value(1.0, "x")) - third(x)) + 1.0),
    "a sum of one number with itself": lambda: mg.precision(mg.total([third(Value(1.0, "x"))] * 4)),
    "a difference that hardly cancels": lambda: mg.precision(third(Value(3.3, "x")) ** 2 - third(Value(3.0, "y")) ** 2),
    "what no gradient passes": lambda: mg.precision(mg.stop_gradient(third(Value(1.0, "x"))) * 4.0 - 1.0),
    "a slope without bound": lambda: mg.precision(mg.sqrt((x := Value(1.0, "x")) / 3.0 - x / 3.0)),
    "user-defined operations": lambda: mg.precision(
        mg.total(Op(f"own{i}", lambda x: x / 3.0, (1.0 / 3.0,))(Value(1.0)) for i in range(7))
    ),
    "differences of roots, of quotients and of squares": lambda: [
        mg.precision(f(x, y))
        for x, y in [leaves(3.0 + 1e-9, 3.0)]
        for f in (
            lambda x, y: mg.sqrt(x) - mg.sqrt(y),
            lambda x, y: 1 / y - 1 / x,
            lambda x, y: third(x) ** 2 - third(y) ** 2,
            lambda x, y: 1 - third(x) ** 2,
            lambda x, y: mg.sqrt(x * x + third(y)) * 1e9 - 1e9 * x,
            lambda x, y: mg.sqrt((x * 1e200) ** 2 + (y * 1e200) ** 2),
        )
    ],
    "one remedy for two equal losses": lambda: mg.precision(
        (lambda x, y: (1 / x - 1 / y) + (1 / x - 1 / y))(*leaves(3.0, 3.0 + 1e-9))
    ),
    "a compiled function": lambda: mg.precision(mg.compile(lambda x: x * x / 3.0, batch=False)(Value(0.7, "x")) - 0.16),
    **{f"random program {seed}": partial(random_precision, seed) for seed in range(60)},
}


EXPLAINED: dict[str, Callable[[], Any]] = {
    **{
        f"why {i}: {cause} at {place}, {size}": partial(mg.why, output, leaf)
        for i, (output, leaf, size, cause, place) in enumerate(gradients(), start=1)
    },
    "why: a healthy graph": lambda: mg.why(Value(2.0, "x") * Value(3.0)),
    "why: an output by itself": lambda: mg.why(y := Value(2.0, "x") * 3.0, y),
    "why: an output of no graph": lambda: [mg.why(x := Value(2.0, "x"), x), mg.why(Value(2.0), Value(0.123456789))],
    "why: many causes": lambda: mg.why(many_causes()),
    "why: many paths": lambda: mg.why(many_paths(Value(2.0, "x"))),
    "why: many leaves": lambda: mg.why(mg.total(mg.relu(Value(-float(i), f"x{i}" if i % 3 else "")) for i in range(9))),
    "why: two outputs": lambda: mg.why([leaf * 1e7 for leaf in leaves(2.0, 1234567.8)]),
    "why: two outputs that are no numbers": lambda: mg.why([mg.log(-x) for x in leaves(0.0, 2.0)]),
    "why: a layer with two units that are off for two samples": lambda: mg.why(network_with(1, 3)[1][:2]),
    "why: ReLUs that are off, in fewer outputs than there are": lambda: mg.why(
        [*some_off(w := Value(1.0, "w"))[:2], *leaves(1.0, 2.0, 3.0)], w
    ),
    **{f"why: random program {seed}": partial(random_why, seed) for seed in range(40)},
    "why: a ReLU that is on for some samples": lambda: mg.why(some_off(Value(1.0, "w"))),
    "why: a ReLU that is off for all samples": lambda: mg.why(some_off(Value(1.0, "w"))[:2]),
    "why: ReLUs that may be one unit's": lambda: mg.why(mg.total(some_off(Value(1.0, "w"))[:2])),
    "why: a network with a dead unit": lambda: mg.why(network_with(2)[1]),
    "why: the weight behind a dead unit": lambda: mg.why(
        (made := network_with(2))[1], made[0].layers[1].neurons[0].w[2]
    ),
    "why: a weight of a dead layer": lambda: mg.why(
        (made := network_with(0, 1, 2, 3))[1], made[0].layers[0].neurons[0].w[1]
    ),
    "why: a network with a dead layer": lambda: mg.why(network_with(*range(8), units=8)[1]),
    "why: thirty layers of sigmoids": lambda: mg.why(
        (model := network(nn.Sigmoid, depth=30))(samples(0)[0]), model.modules[0].neurons[0].w[0]
    ),
    "why: large weights": lambda: mg.why(affine_layers(30.0)),
    "why: small weights": lambda: mg.why(affine_layers(0.01)),
    "why: a chain of products": lambda: mg.why(chain(Value(0.5, "x"), lambda v: v * 0.5 - v * 0.25 + 1.0, 12)),
    "why: products far below the floats": lambda: mg.why(chain(Value(0.5, "x"), lambda v: v * 1e-300, 5)),
    "why: products far beyond the floats": lambda: mg.why(chain(Value(0.0, "x"), lambda v: v * 1e300, 5)),
    "why: a sum beyond the floats": lambda: mg.why(
        (x := Value(1e-3, "x")) * 1e308 + x * 1e308 + mg.stop_gradient(3.0 * x)
    ),
    "why: a root behind what cancels": lambda: mg.why(2.0 * (root := mg.sqrt(Value(0.0, "x"))) - 2.0 * root),
    "why: a sum beyond the floats times 0": lambda: mg.why(
        (square := (x := Value(0.0, "x")) * x) * 1e308 + square * 1e308
    ),
    "why: infinities that cancel": lambda: mg.why(mg.sqrt(x := Value(0.0, "x")) - 2.0 * mg.sqrt(x) + mg.sqrt(x)),
    "why: paths that nearly cancel": lambda: mg.why((x := Value(3.0, "x")) * 1e9 - x * (1e9 - 1e-7) + 1.0),
    "why: a root of squares": lambda: mg.why(mg.sqrt((x := Value(0.0, "x")) * x + (y := Value(0.0, "y")) * y)),
    "why: a logistic": lambda: mg.why(1 / (1 + mg.exp(-Value(-800.0, "z")))),
    "why: a logarithm of a logistic": lambda: mg.why(mg.log(1 / (1 + mg.exp(-Value(-800.0, "z"))))),
    "why: a branch that overflows": lambda: mg.why(mg.where(0.0, mg.exp(z := Value(800.0, "z")), z * z)),
    "why: a product with 0 that overflows": lambda: mg.why(0.0 * mg.exp(Value(800.0, "z"))),
    "why: numbers of many digits": lambda: [
        mg.why((x := Value(1.23456789, "x")) * 0.23456789, x),
        mg.why(x * 2.3456789e-8),
        mg.why(0.1 * mg.relu(Value(-1.23456789) + mg.relu(x * -2.3456789))),
    ],
    "why: numbers that overflow below 0": lambda: [
        mg.why((x := Value(-1e200, "x")) * x, x),
        mg.why((x := Value(-800.0, "x")) * mg.sinh(x)),
    ],
    "why: a product with what is 0": lambda: [
        mg.why((x := Value(2.0, "x")) * factor(x), x)
        for factor in (
            lambda x: mg.stop_gradient(x * 0.0) + 0.0,
            lambda x: mg.stop_gradient(x - x),
            lambda x: Value(1e-200, "y") * 1e-200,
            lambda x: mg.stop_gradient(x) * (Value(0.0, "y") * 3.0),
            lambda x: mg.relu(mg.stop_gradient(-1.23456789 * x)),
        )
    ],
    "why: paths that cancel behind a network": lambda: mg.why(
        (y := (model := nn.MLP(3, [2, 1], seed=1))(samples(1)[0])) * 0.5 - y * 0.25 - y * 0.25,
        model.layers[1].neurons[0].b,
    ),
    "why: small parts that cancel": lambda: mg.why((x := Value(2.0, "x")) * 0.5 + x * 0.25 - x * 0.5 - x * 0.25, x),
    "why: two places where nan comes up": lambda: mg.why(
        (x := Value(2.0, "x")) * mg.log(Value(-3.0, "y")) + x * mg.log(Value(-5.0, "z")), x
    ),
    "why: a small gradient beside a path that is cut": lambda: mg.why(
        1e-9 * (x := Value(2.0, "x")) + mg.relu(-3.0 * x)
    ),
    "why: two saturated operations": lambda: mg.why(mg.tanh(0.1 * mg.tanh(x := Value(4.0, "x")) + 4.4), x),
    "why: a gradient of ordinary size": lambda: [
        mg.why((x := Value(1.0, "x")) * 0.5 * factor * 0.7 * 1.2 * 1.1, x) for factor in (2.0, 3.0)
    ],
    "why: a compiled function": lambda: mg.why(mg.compile(lambda x: mg.relu(-2.0 * x), batch=False)(Value(3.0, "x"))),
    **{f"precision: {name}": make for name, make in PRECISE.items()},
}


CASES: dict[str, Callable[[], Any]] = {
    **EXPLAINED,
    **{
        f"{getattr(f, '__name__', None) or f.name} at {x}": partial(check, f, x, method="difference")
        for f in (cube, bell, root, wave, bend, shift, far, rough, fine, hinge, late, lost, near)
        for x in POINTS
        if x > 0 or f is not root
    },
    **{
        f"a ripple of speed {speed} with {factor} times its slope": partial(
            lambda op: [check(op, x) for x in (0.3, 1.7, -2.9)], ripple(speed, factor)
        )
        for speed in (1e3, 1e6, 1e8, 1e10, 1e13, 1e16)
        for factor in (1.0, -1.0, 1.001)
    },
    "user-defined operations among others": lambda: check(
        lambda x, y: fine(x) * product(x, y) + hinge(y), (0.4, 1.3), order=2
    ),
    **{
        f"{f.__name__} at {x} with steps of {step}": partial(check, f, x, step=step, method="difference")
        for f in (bend, cube)
        for x in (0.0, 0.02, 3.0)
        for step in (1e-1, 1e-3, 1e-6)
    },
    **{
        f"cancelling terms at {x}, derivative {order}": partial(
            outcomes, lambda c, x=x, order=order: check(lambda x: cancelling(x, c), x, order=order, method="difference")
        )
        for x in (0.01, 1.0, 300.0)
        for order in (1, 2)
    },
    **{
        f"cancelling terms {x} beside a kink": partial(
            outcomes, lambda c, x=x: check(lambda x: x * c + mg.relu(x) * x - x * c, x, method="difference")
        )
        for x in (0.0, 1e-4, 3e-2)
    },
    **{
        f"check_op of {name} that cancels": partial(outcomes, lambda c, make=make: check_op(make(c), points=6), row=row)
        for name, make, row in (
            ("a function", lambda c: Op("shift", lambda x: (x + c) - c, (1.0,)), 1),
            ("a local derivative", lambda c: Op("same", lambda x: x, (lambda y, x: (x + c) - x - (c - 1.0),)), 1),
            ("a second derivative", lambda c: Op("half", lambda x: x * x / 2, (lambda y, x: (x + c) - c,)), 2),
        )
    },
    "cancelling terms": lambda: [check(cancelling, (1.1, c), method="difference") for c in (1e12, 3e13, 1e16)],
    "a kink nearby": lambda: [check(bend, x, method="difference") for x in (0.0002, 0.0005, 0.0012)],
    **{f"random program {seed}": partial(random_program, seed) for seed in range(100)},
    **{
        f"{f.__name__} at {x} by the complex step": partial(check, f, x, method="complex")
        for f in (cube, bell, wave)
        for x in POINTS
    },
    "directions": lambda: directions(lambda x, y, z: cube(x) * z + fine(y) - product(x, z), 0.3, 2000.0, 1e-6),
    "directions by the complex step": lambda: directions(lambda x, y: cube(x) * y, 0.3, 2000.0, method="complex"),
    "rough directions": lambda: directions(lambda x, y: shift(shift(x) * 1e6 - shift(y)), 0.3, 40.0),
    "roots at 0": lambda: [
        check(lambda x, n=n: x**n, 0.0, method=method) for n in (0.5, 1.5) for method in ("complex", "difference")
    ],
    "leaves that cannot matter": lambda: [
        check(lambda x, *others: mg.total(map(mg.floor, others)) + x, (1.5,) * count) for count in (2, 3, 6, 7)
    ],
    "two kinks": lambda: check(lambda x: mg.relu(x) - mg.relu(-x), 0.0),
    "a slope of 0 among rounding": lambda: [
        check(lambda x, c=c: (x * x - 2 * x) * c, 1.0 + shift, method="difference")
        for c in (1e9, -1e9)
        for shift in (0.0, 1e-15)
    ],
    "a slope of 0 that rounding hides": lambda: [
        check(Op("dip", lambda x, c=c: c * (x * x - 2 * x), (lambda y, x, c=c: 2 * c * (x - 1),)), 1.0) for c in (1, -1)
    ],
    "wide grids": lambda: [check(Op("wide", lambda x, c=c: (x + c) - c, (1.0,)), 0.7) for c in (1e20, 1e21)],
    "a jump by the first of two arguments": lambda: check_op(
        Op("saw", lambda a, b: mg.floor(a) + b, (0.0, 1.0), array="xp.floor({0}) + {1}")
    ),
    "a kink of curved sides": lambda: check(lambda x: mg.abs(x) + 1000 * x * x, 0.0),
    "a kink of curved sides far from 0": lambda: check(
        lambda x: mg.abs(x - 1000) + 100 * (x - 1000) * (x - 1000), 1000.0
    ),
    "a kink beside the end of a domain": lambda: [
        check(lambda x, sign=sign, end=end: mg.relu(sign * x) + mg.sqrt(sign * x + end), 0.0)
        for sign in (1, -1)
        for end in (1e-7, 1.5e-6)
    ],
    **{f"kinks of random program {seed}": partial(random_kinks, seed) for seed in range(40)},
    "a jump between slopes": lambda: [
        check(lambda x: 0.123456 * mg.floor(x) + 1.7 * x, 2.0),
        check(lambda x: mg.where(mg.less(x, 0.75), 1234.5678 * x, 7.0 - 0.98765 * x), 0.75),
    ],
    "a kink within a step": lambda: check(bend, 1e-5, step=1.2345e-4),
    "gradients that are no numbers": lambda: [check(op, 2.0) for op in (pole, void)],
    "a step times a number": lambda: check(lambda x: mg.less(x, 1.0) * x, 0.6, method="difference"),
    "a cancelling sum": lambda: check(lambda x: mg.total([x * x, 1e9, -1e9]), 1.1, method="difference"),
    "a cancelling local derivative at several points": lambda: [check(rough, x / 7) for x in range(1, 9)],
    **{
        f"second derivatives at {x}": partial(
            check, lambda x, y: x / (y * y + x), (x, 0.3), order=2, method="difference"
        )
        for x in (0.7, 1e-5, 3e4)
    },
    "second derivatives at a kink": lambda: check(lambda x: 3 - mg.relu(x) * x, 0.0, order=2),
    **{
        f"check_op({op.name})": partial(check_op, op)
        for op in (shift, far, rough, fine, late, product, hinge, vee, bounded, ratio, broken, fused)
    },
}


READ = (
    "why 1: off at relu, zero",
    "why 20: large factors at mul, exploding",
    "why 26: 0 · ∞ at sqrt, nan",
    "why: many causes",
    "why: many paths",
    "why: a network with a dead layer",
    "why: thirty layers of sigmoids",
    "why: a logarithm of a logistic",
    "why: random program 3",
    "precision: what is exact",
    "precision: the quadratic formula",
    "precision: a variance",
    "precision: many losses",
    "precision: differences of roots, of quotients and of squares",
    "cube at 0.7",
    "late at 0.7",
    "fine at 1e-300",
    "user-defined operations among others",
    "cancelling terms",
    "roots at 0",
    "leaves that cannot matter",
    "a jump between slopes",
    "a kink beside the end of a domain",
    "gradients that are no numbers",
    "second derivatives at 0.7",
    "check_op(product)",
    "check_op(late)",
    "check_op(vee)",
)
"""The cases that are kept as users read them: each kind of finding, of remedy and of table."""


class Row(NamedTuple):
    """A line of the table."""

    case: str
    verdicts: str
    numbers: str
    evaluations: str
    words: str


def summary(found: Any) -> tuple[str, str]:
    """What is concluded, and from which numbers."""
    if isinstance(found, Report):
        rows = found.derivatives
        digits = (f"{row.numeric!r} " if row.method == "difference" else "" for row in rows)
        numbers = (f"{number}± {row.allowed:.6g}" for number, row in zip(digits, rows, strict=True))
        return "".join(row.verdict[0] for row in rows), ", ".join(numbers)
    if isinstance(found, Explanation):
        return ", ".join(f"{finding.size}: {finding.cause}" for finding in found.findings), ""
    if isinstance(found, Precision):
        digits = (f"{each:.3f}" for each in (found.digits, found.first_order, found.confirmed, found.of_inputs))
        losses = (
            f"{loss.node.op.name} {loss.rounding:.5g} {loss.amplified:.5g} {loss.digits:.3f}" for loss in found.losses
        )
        return "", ", ".join([f"{' '.join(digits)} ± {found.error:.5g}", *losses])
    return str(found).replace("\n", ", "), ""


@cache
def told(name: str) -> tuple[Row, str]:
    """The line of a case, and what users read."""
    global evaluations
    evaluations = 0
    found = CASES[name]()
    reports = found if isinstance(found, list) else [found]
    text = re.sub(rf"[^\s(]*{Path(__file__).stem}\.py:\d+", "this file", "\n\n".join(map(str, reports)).strip())
    verdicts, numbers = (" | ".join(part).strip(" |") for part in zip(*map(summary, reports), strict=True))
    return Row(name, verdicts, numbers, str(evaluations or ""), hashlib.sha256(text.encode()).hexdigest()[:8]), text


def file_of(name: str) -> Path:
    return TEXTS / (re.sub(r"[^\w.-]+", "-", name).strip("-") + ".txt")


@cache
def recorded() -> dict[str, Row]:
    lines = TABLE.read_text("utf-8").splitlines()[1:]
    return {row.case: row for row in (Row(*line.split("\t")) for line in lines)}


@pytest.mark.parametrize("name", CASES)
def test_users_are_told_what_they_were_told_before(name: str) -> None:
    """If a change is meant, run python -m tests.checking.test_reports and read what it prints."""
    row, text = told(name)
    if name in READ:
        assert text == file_of(name).read_text("utf-8").strip()
    assert row == recorded()[name]


def test_every_line_and_every_file_belongs_to_a_case() -> None:
    assert [*recorded()] == [*CASES]
    assert {*TEXTS.iterdir()} == {file_of(name) for name in READ}


def allowed(numbers: str) -> list[float]:
    return [float(each) for each in re.findall(r"± (\S+?)(?:,|$| \|)", numbers)]


def changes(old: dict[str, Row], new: dict[str, Row]) -> str:
    """What changed between two tables, in a few lines."""
    both = [(old[name], new[name]) for name in old if name in new]
    flipped = [f"  {b.case}: {a.verdicts} → {b.verdicts}" for a, b in both if a.verdicts != b.verdicts]
    pairs = [pair for a, b in both for pair in zip(allowed(a.numbers), allowed(b.numbers), strict=False)]
    factors = sorted(b / a for a, b in pairs if a != b and a and math.isfinite(a) and math.isfinite(b))
    spread = f" by {factors[0]:.3g} to {factors[-1]:.3g}, median {statistics.median(factors):.3g}" if factors else ""
    costs = [sum(int(row.evaluations or 0) for row in rows) for rows in zip(*both, strict=True)]
    words = [a.case for a, b in both if a.words != b.words]
    only = [a.case for a, b in both if a.words != b.words and a[:4] == b[:4]]
    return "\n".join(
        [
            f"{len(new)} cases; new: {[*(new.keys() - old.keys())]}, gone: {[*(old.keys() - new.keys())]}",
            f"verdicts flipped: {len(flipped)}",
            *flipped,
            f"allowed errors changed: {sum(str(a) != str(b) for a, b in pairs)} of {len(pairs)}{spread}",
            f"evaluations: {' → '.join(f'{cost:,}' for cost in costs)}",
            f"words changed: {len(words)}, of which nothing else did: {len(only)}",
        ]
    )


def test_what_changed_is_told_in_a_few_lines() -> None:
    old = Row("f", "PF", "1.0 ± 2e-9, ± nan", "100", "0")
    new = Row("f", "PP", "1.0 ± 3e-9, ± nan", "90", "1")
    same = Row("g", "P", "", "", "0")
    assert changes({"f": old, "g": same}, {"f": new, "h": same}).splitlines() == [
        "2 cases; new: ['h'], gone: ['g']",
        "verdicts flipped: 1",
        "  f: PF → PP",
        "allowed errors changed: 1 of 2 by 1.5 to 1.5, median 1.5",
        "evaluations: 100 → 90",
        "words changed: 1, of which nothing else did: 0",
    ]


def write() -> None:
    """Write the table and the files anew; tell what changed."""
    new = {name: told(name)[0] for name in CASES}
    if TABLE.exists():
        print(changes(recorded(), new))
    TEXTS.mkdir(parents=True, exist_ok=True)
    TABLE.write_text("".join("\t".join(row) + "\n" for row in (Row._fields, *new.values())), "utf-8")
    for path in TEXTS.iterdir():
        path.unlink()
    for name in READ:
        file_of(name).write_text(told(name)[1] + "\n", "utf-8")


if __name__ == "__main__":
    if sys.argv[1:]:
        TEXTS = Path(sys.argv[1])
        TEXTS.mkdir(exist_ok=True)
        for name in CASES:
            file_of(name).write_text(told(name)[1] + "\n", "utf-8")
    else:
        write()
