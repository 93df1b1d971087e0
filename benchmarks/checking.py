"""How often check() is right about user-defined derivatives, right and wrong ones.

    python benchmarks/checking.py

counts the verdicts on operations at ordinary, tiny and huge points, right ones and wrong ones, on operations whose
forward function loses digits inside, on kinks that no predicate declares, and on random programs in which one
derivative has been given the wrong sign or is off by a thousandth; and it times a check of a network for images of
digits. A wrong derivative must never be a PASS, and of right ones at most one in a thousand a FAIL: where rounding
leaves one stair of a function, or grows with the step, nothing shows its slope. Then it counts how far the digits that
precision() claims of random programs are from those that 60-digit arithmetic finds, and times why() and precision()
on a graph of 100,000 nodes.
"""

import itertools
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

import microgrid as mg
from microgrid import Op, Value, losses, nn, ops
from microgrid.checking import Derivative, Verdict, check
from microgrid.strategies import Expression, expressions

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from exact import definition

LOSSY: dict[str, tuple[Callable[[float, float], float], Callable[[Value, float], Any]]] = {
    "(x + c) - c": (lambda x, c: (x + c) - c, lambda x, c: 1.0),
    "(x*x + c) - c": (lambda x, c: (x * x + c) - c, lambda x, c: 2 * x),
    "sqrt(c*c + x*x) - c": (lambda x, c: math.sqrt(c * c + x * x) - c, lambda x, c: ops.div(x, mg.hypot(c, x))),
    "(x*c + x) - x*c": (lambda x, c: (x * c + x) - x * c, lambda x, c: 1.0),
    "1 - cos(x/c)": (lambda x, c: 1 - math.cos(x / c), lambda x, c: mg.sin(x / c) / c),
    "(exp(-x*x) + c) - c": (lambda x, c: (math.exp(-x * x) + c) - c, lambda x, c: -2 * x * mg.exp(-x * x)),
    "sin(c*x)": (lambda x, c: math.sin(c * x), lambda x, c: c * mg.cos(c * x)),
}


SMOOTH: dict[str, tuple[Callable[[float], float], Callable[[Any, Any], Any]]] = {
    "exp": (lambda x: math.exp(x) if x < 709 else math.inf, lambda y, x: y),
    "tanh": (math.tanh, lambda y, x: ops.div(1.0, mg.cosh(x) * mg.cosh(x))),
    "tanh, opaque": (lambda x: math.tanh(x), lambda y, x: ops.div(1.0, mg.cosh(x) * mg.cosh(x))),
    "sin": (lambda x: math.sin(x), lambda y, x: mg.cos(x)),
    "cos": (lambda x: math.cos(x), lambda y, x: -mg.sin(x)),
    "atan": (lambda x: math.atan(x), lambda y, x: ops.div(1.0, 1 + x * x)),
    "x²": (lambda x: x * x, lambda y, x: 2 * x),
    "x³": (lambda x: x * x * x, lambda y, x: 3 * x * x),
    "1 + x²": (lambda x: 1 + x * x, lambda y, x: 2 * x),
    "√(1 + x²)": (lambda x: math.hypot(1, x), lambda y, x: ops.div(x, y)),
    "√|x|": (lambda x: math.sqrt(abs(x)), lambda y, x: ops.div(mg.sign(x) * 0.5, y)),
    "log |x|": (lambda x: math.log(abs(x)) if x else -math.inf, lambda y, x: ops.div(1.0, x)),
    "1/x": (lambda x: ops.div.forward(1.0, x), lambda y, x: -y * y),
    "x/4 + 1": (lambda x: 0.25 * x + 1, lambda y, x: 0.25),
    "exp(−x²)": (lambda x: math.exp(-x * x), lambda y, x: -2 * x * y),
    "logistic": (lambda x: 1 / (1 + math.exp(min(-x, 700.0))), lambda y, x: 0.25 * mg.power(mg.cosh(0.5 * x), -2.0)),
    "√(1 + atan² x)": (
        lambda x: math.sqrt(1 + math.atan(x) ** 2),
        lambda y, x: ops.div(mg.atan(x), y) * ops.div(1.0, 1 + x * x),
    ),
    "erf": (lambda x: math.erf(x), lambda y, x: 2 / math.sqrt(math.pi) * mg.exp(-x * x)),
    "∛(1 + x)": (lambda x: math.cbrt(1 + x), lambda y, x: ops.div(1.0, 3 * y * y)),
}


def smooth(number: int) -> None:
    """As many right operations, and as many wrong ones, at ordinary, tiny and huge points and at 0."""
    draw = random.Random(0)
    sizes: dict[str, Callable[[], float]] = {
        "ordinary": lambda: draw.choice([draw.uniform(0.01, 4), draw.uniform(0.1, 40), 10 ** draw.uniform(-8, 3)]),
        "tiny": lambda: draw.choice([10 ** draw.uniform(-30, -8), 10 ** draw.uniform(-323, -30), 5e-324, 1e-30]),
        "huge": lambda: draw.choice([10 ** draw.uniform(3, 30), 10 ** draw.uniform(30, 300)]),
        "zero": lambda: 0.0,
    }
    count = Counter[tuple[str, Verdict]]()
    found = Counter[str]()
    while min(found["right"], found["wrong"]) < number:
        name, size = draw.choice(sorted(SMOOTH)), draw.choice(["ordinary", "ordinary", "tiny", "tiny", "huge", "zero"])
        forward, partial = SMOOTH[name]
        other = SMOOTH[draw.choice(sorted(SMOOTH))][1]
        x = draw.choice([-1.0, 1.0]) * sizes[size]()
        right = check(Op("own", forward, (partial,)), x).derivatives[0]
        if not math.isfinite(right.backward):
            continue
        found["right"] += 1
        count[f"right, {size}", right.verdict] += 1
        wrong: list[Any] = [
            0.0,
            lambda y, x: 0.0 * y,
            lambda y, x, p=partial: -p(y, x),
            lambda y, x, p=partial: 1.001 * p(y, x),
            lambda y, x, p=partial: p(y, x) + draw.choice([1.0, 1e-3]),
            other,
        ]
        row = check(Op("own", forward, (draw.choice(wrong),)), x).derivatives[0]
        if abs(row.backward - right.backward) > max(5e-4 * abs(right.backward), 1e-307):
            found["wrong"] += 1
            count[f"wrong, {size}", row.verdict] += 1
    show(f"{number} operations", count)


def network() -> None:
    """The seconds of 100 rows by a network of 784-50-10 and three images."""
    draw = random.Random(0)
    model = nn.MLP(784, [50, 10])
    images = [[draw.random() if 100 < j < 600 else 0.0 for j in range(784)] for _ in range(3)]
    started = time.process_time()
    report = check(lambda: mg.mean([losses.cross_entropy(model(x), k) for k, x in enumerate(images)]), model, sample=50)
    print(f"{report.summary}; {time.process_time() - started:.1f} s; {report.notes}")


def scaled(partial: Any, factor: float) -> Any:
    return (lambda *xs: factor * partial(*xs)) if callable(partial) else factor * partial


def lossy() -> None:
    draw = random.Random(5)
    points = [0.0, *[draw.choice([-1, 1]) * 10 ** draw.uniform(-12, 12) for _ in range(25)]]
    points += [draw.uniform(-3, 3) for _ in range(10)]
    constants = [10.0**k * draw.uniform(1, 2) for k in range(15)]
    for name in LOSSY:
        count = Counter[tuple[str, Verdict]]()
        for c, x in itertools.product(constants, points):
            for kind, factor in (("right", 1.0), ("wrong sign", -1.0)):
                row = check(operation(name, c, factor), x).derivatives[0]
                if factor > 0 or row.backward:  # 0 with the wrong sign is right
                    count[kind, row.verdict] += 1
        show(name, count)


def operation(name: str, c: float, factor: float) -> Op:
    forward, derivative = LOSSY[name]
    return Op("own", lambda x: forward(x, c), (lambda y, x: factor * derivative(x, c),))


def kinks(number: int) -> None:
    """Curves of two branches, checked where these meet: with the slope of one side, or of neither."""
    draw = random.Random(1)
    count = Counter[tuple[str, Verdict]]()
    for _ in range(number):
        at = draw.choice([0.0, 1.0, -2.5, 1e3, 1e-3, 3e5, draw.uniform(-5, 5)])
        left, curvature = draw.uniform(-2, 2), draw.choice([0.0, 0.0, 1.0, 100.0, -3.0])
        right = left + draw.choice([1e-3, 0.1, 1.0, 5.0, -1.0])

        def forward(x: float, at: float = at, left: float = left, right: float = right, c: float = curvature) -> float:
            return (right if x > at else left) * (x - at) + c * (x - at) ** 2

        for kind, slopes in (("of a side", (left, right)), ("of neither", (max(left, right) + abs(left) + 1.0,))):
            for slope in slopes:
                op = Op("own", forward, (slope,))
                count[kind, check(op, at).derivatives[0].verdict] += 1
    show(f"{number} kinks", count)


def programs(number: int) -> None:
    count = Counter[tuple[str, Verdict]]()

    def rows(program: Expression) -> dict[str, Derivative]:
        return {row.name: row for row in check(program, tuple(program.at)).derivatives}

    @seed(0)
    @settings(
        max_examples=number, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck]
    )
    @given(expressions(max_steps=6), st.integers(0, 100))
    def ask(program: Expression, at: int) -> None:
        right = rows(program)
        count.update(("right", row.verdict) for row in right.values())
        for kind, factor in (("wrong sign", -1.0), ("times 1.001", 1.001)):
            steps = list(program.steps)
            i = at % len(steps) if steps else 0
            for step in steps[i : i + 1]:
                partials = tuple([scaled(partial, factor) for partial in step.op.partials])
                wrong = Op("wrong", step.op.forward, partials, domain=step.op.domain, kink=step.op.kink)
                steps[i] = replace(step, op=wrong)
                found = rows(replace(program, steps=tuple(steps)))
                for name in right.keys() & found.keys():  # behind stop_gradient there is no row, as long as it is right
                    row, other = right[name], found[name]
                    shows = not math.isclose(row.backward, other.backward, rel_tol=5e-4)
                    if row.verdict is Verdict.PASS and math.isfinite(other.backward) and shows:
                        count[kind, other.verdict] += 1

    ask()
    show(f"{number} random programs", count)


def digits(number: int) -> None:
    """How many digits too many, or too few, precision() claims."""
    count = Counter[str]()

    def result(program: Expression) -> Any:
        results = [mpf(x) for x in program.at]
        for step in program.steps:
            function, order = definition(step.op)
            operands = [results[x] if isinstance(x, int) else mpf(x) for x in step.operands]
            results.append(
                mp.nan if order or not all(map(mp.isfinite, operands)) else mp.mpmathify(function(*operands))
            )
        return results[-1]

    @seed(0)
    @settings(
        max_examples=number, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck]
    )
    @given(expressions(max_steps=8))
    def ask(program: Expression) -> None:
        output, _ = program.graph()
        with mp.workdps(60):
            try:
                exact = result(program)
            except (ValueError, TypeError, ZeroDivisionError, OverflowError):  # a pole
                return
            if isinstance(exact, type(mpf(0))) and mp.isfinite(exact) and math.isfinite(output.data):
                error = abs(mpf(output.data) - exact)
                right = (
                    15.95 if not error else float(min(max(-mp.log10(error / abs(exact)), 0), 15.95)) if exact else 0.0
                )
                found = mg.precision(output).digits
                count[
                    "claimed a digit too many" if found > right + 1 else "two too few" if found < right - 2 else "right"
                ] += 1

    ask()
    print(f"{number} random programs, digits claimed by precision():", dict(count))


def large(number: int = 100_000) -> None:
    """Seconds of CPU on a random graph of so many nodes, the best of three."""
    draw = random.Random(0)
    nodes: list[Any] = [Value(draw.uniform(-1, 1)) for _ in range(1000)]
    while len(mg.topological_order(output := mg.total(nodes[-500:]))) < number:
        for _ in range(number // 8):
            a, b = draw.choice(nodes[-2000:]), draw.choice(nodes[-2000:])
            nodes.append(draw.choice((lambda a, b: a * b, lambda a, b: a + 0.5 * b, lambda a, b: mg.tanh(a)))(a, b))
    for name, ask in (("why(y)", mg.why), ("why(y, x)", lambda y: mg.why(y, nodes[0])), ("precision(y)", mg.precision)):
        best = math.inf
        for _ in range(3):
            start = time.process_time()
            ask(output)
            best = min(best, time.process_time() - start)
        print(f"{name:14} on {len(mg.topological_order(output)):,} nodes: {best:.2f} s")


def show(name: str, count: Counter[tuple[str, Verdict]]) -> None:
    for kind in dict.fromkeys(kind for kind, _ in count):
        of = {verdict: n for (which, verdict), n in count.items() if which == kind}
        print(f"{name:22} {kind:12}", ", ".join(f"{n} {verdict}" for verdict, n in sorted(of.items())))


if __name__ == "__main__":
    smooth(2000)
    network()
    lossy()
    kinks(1500)
    programs(2000)
    digits(5000)
    large()
