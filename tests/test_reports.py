"""What users are told, to the last word and digit: a change of ``reports.txt`` is to be read like one of a text.

``python tests/test_reports.py`` writes that file anew. How far a derivative may be off is itself computed, by
random rounding and extrapolation; other tests hold that it is far enough, this one that it is no further.
Every function here is made of operations that IEEE 754 rounds in one way, so the digits are the same everywhere.
"""

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

import microgrid as mg
from microgrid import Interval, Op, Value, ops
from microgrid.checking import Report, check, check_op
from microgrid.ops import POSITIVE, REALS

FILE = Path(__file__).with_name("reports.txt")


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
    """An operation of one's own, whose evaluations are counted: they are what a check costs."""

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


def random_program(seed: int) -> str:
    """The derivatives of a random program of two numbers at a random point: their verdicts, digits and errors."""
    random = Random(seed)
    point = [math.ldexp(random.uniform(-1.0, 1.0), random.randint(-12, 12)) for _ in range(2)]
    choices = (ops.add, ops.sub, ops.mul, ops.mul, ops.div, ops.sqrt, ops.maximum, ops.absolute, fine)

    def f(x: Value, y: Value) -> Value:
        random = Random(seed)
        numbers = [x, y, Value(0.75)]
        for op in random.choices(choices, k=random.randint(3, 8)):
            numbers.append(op(*random.choices(numbers, k=op.arity)))
        return mg.total(numbers[2:])

    report = check(f, tuple(point), order=2, method="difference")
    rows = [f"{row.verdict[0]} {row.numeric:.17g} ± {row.allowed:.6g}" for row in report.derivatives]
    return "\n".join([f"at {point}", *rows])


def directions(f: Callable[..., Value], *at: float, method: str = "difference") -> str:
    """By random directions; they are made by functions that round differently elsewhere, so not to the last digit."""
    report = check(f, at, sample=3, method=method)
    return "\n".join([f"{row.name} {row.verdict} {row.numeric:.6g}" for row in report.derivatives])


def outcomes(f: Callable[[float], Any], row: int = -1) -> str:
    """The first letter of the verdict for numbers from 0.1 to 1e18; a small one if its reason is backward() itself."""
    rows = [f(2.0**k).derivatives[row] for k in range(-3, 60)]
    return "".join(each.verdict[0].lower() if "backward()" in each.reason else each.verdict[0] for each in rows)


CASES: dict[str, Callable[[], Any]] = {
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
    "operations of one's own among others": lambda: check(
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


@pytest.mark.parametrize("name", CASES)
def test_users_are_told_what_they_were_told_before(name: str) -> None:
    assert told(name) == recorded()[name], "if this is meant, run python tests/test_reports.py and read the difference"


def told(name: str) -> str:
    global evaluations
    evaluations = 0
    found = CASES[name]()
    reports = found if isinstance(found, list) else [found]
    text = "\n\n".join(map(str, reports))
    rows = [row for report in reports if isinstance(report, Report) for row in report.derivatives]
    digits = [
        f"{row.numeric!r} ± {row.allowed:.6g}" if row.method == "difference" else f"± {row.allowed:.6g}" for row in rows
    ]
    text = re.sub(rf"[^\s(]*{Path(__file__).stem}\.py:\d+", "this file", text)
    text += "\n\n" + "\n".join(digits) if digits else ""
    return f"{text}\n\nevaluations: {evaluations}" if evaluations else text


def recorded() -> dict[str, str]:
    sections = FILE.read_text("utf-8").split("\n== ")[1:]
    return {name: text.strip() for name, _, text in (section.partition(" ==\n") for section in sections)}


if __name__ == "__main__":
    FILE.write_text("".join(f"\n== {name} ==\n\n{told(name)}\n\n" for name in CASES), "utf-8")
