import importlib.util
import math
import operator
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from exact import program_gradient
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import microgrid as mg
from microgrid import ops
from microgrid.engine import Value
from microgrid.nn import MLP
from microgrid.ops import Op
from microgrid.strategies import SMOOTH, Expression, arguments, batches, expressions, mlps, scalars, values

PACKAGE = Path(mg.__file__).parent
PROJECT = Path(__file__).parents[1] / "pyproject.toml"


class Found(Exception):  # noqa: N818 -- not an error
    pass


def find(strategy: st.SearchStrategy[Any], condition: Callable[[Any], object], examples: int = 1000) -> Any:
    """Return the simplest example that Hypothesis finds: the last it tries, but for its attempts to explain it."""
    found = []

    @settings(max_examples=examples, phases=[Phase.generate, Phase.shrink])
    @given(strategy)
    def search(example: Any) -> None:
        if condition(example):
            found.append(example)
            raise Found

    with pytest.raises(Found):
        search()
    return found[-1]


def run(code: str) -> dict[str, Any]:
    """Run the code that a program prints as, and return its names."""
    names: dict[str, Any] = {"mg": mg}
    exec(code, names)
    return names


def last_value(names: dict[str, Any]) -> Value:
    return [v for v in names.values() if isinstance(v, Value)][-1]


# -- numbers


@pytest.mark.parametrize("op", list(ops.rows()), ids=lambda op: op.name)
def test_arguments_are_finite_and_inside_the_domain(op: Op) -> None:
    @given(arguments(op, near=True))
    @settings(max_examples=20)
    def check(xs: tuple[float, ...]) -> None:
        assert all(math.isfinite(x) and x in domain for x, domain in zip(xs, op.domain, strict=True))

    check()


def test_scalars_reach_ordinary_huge_and_tiny_numbers() -> None:
    assert find(scalars(), lambda x: abs(x) > 1e200)
    assert find(scalars(ops.log), lambda x: x < 1e-200)
    assert find(scalars(ops.asin), lambda x: abs(x) == 1)
    assert find(scalars(), lambda x: True) == 0.0


@pytest.mark.parametrize(("op", "pole"), [(ops.lgamma, -1.0), (ops.tan, math.pi / 2), (ops.atanh, 1.0), (ops.div, 0.0)])
def test_near_draws_beside_poles(op: Op, pole: float) -> None:
    number = scalars(op, argument=op.arity - 1, near=True)
    assert find(number, lambda x: 0 < abs(x - pole) < 1e-9)


def test_near_finds_the_kink_of_an_operation_of_your_own() -> None:
    ramp = Op("ramp", lambda x: max(x - 0.3, 0.0), (lambda y, x: ops.greater(x, 0.3),), kink=lambda x: x > 0.3)
    for kink in (0.3, math.nextafter(0.3, 1.0)):
        assert find(arguments(ramp, near=True), partial(operator.eq, (kink,)))


def test_a_wrong_argument_number_is_named() -> None:
    with pytest.raises(ValueError, match="mul has the arguments 0 to 1; got argument=2"):
        scalars(ops.mul, argument=2)


def test_values_are_leaves_with_the_numbers_asked_for() -> None:
    v = find(values(st.floats(1.0, 2.0)), lambda v: True)
    assert v.is_leaf
    assert v.data == 1.0


# -- programs


@given(expressions())
def test_code_of_a_program_reproduces_its_graph(expression: Expression) -> None:
    output, leaves = expression.graph()
    output.backward()
    names = run(str(expression))
    pasted = last_value(names)
    pasted.backward()
    assert pasted.data == output.data == expression(*expression.at)
    assert [names[leaf.label].grad for leaf in leaves] == [leaf.grad for leaf in leaves]


@pytest.mark.parametrize("op", list(ops.rows()), ids=lambda op: op.name)
def test_every_row_prints_as_code_a_user_would_write(op: Op) -> None:
    @given(expressions([op], max_steps=2))
    @settings(max_examples=20)
    def check(expression: Expression) -> None:
        assert Expression.of(last_value(run(str(expression)))) == Expression.of(expression.graph()[0])

    check()


def test_printed_code() -> None:
    a, b = Value(-2.0), Value(3.0)
    y = mg.tanh(2.0 * a - b**2.0) / mg.abs(ops.power(b, 2.0)) + ops.identity(-(2.0**a)) + mg.leaky_relu(a)
    z = mg.total([y, mg.elu(a), ops.polygamma_of(1)(b)]) * math.inf
    assert str(Expression.of(z)).splitlines() == [
        "a = mg.Value((-2.0))",
        "b = mg.Value(3.0)",
        "c = 2.0 * a",
        "d = b ** 2.0",
        "e = c - d",
        "f = mg.tanh(e)",
        "g = mg.power(b, 2.0)",
        "h = mg.abs(g)",
        "i = f / h",
        "j = 2.0 ** a",
        "k = -j",
        "l = mg.identity(k)",
        "m = i + l",
        "n = mg.leaky_relu(a, 0.01)",
        "o = m + n",
        "p = mg.elu(a, 1.0)",
        "q = mg.ops.polygamma_of(1)(b)",
        "r = mg.total([o, p, q])",
        'y = r * float("inf")'.replace("y", "s"),
    ]


def test_an_operation_of_your_own_prints_by_its_name() -> None:
    cube = Op("cube", lambda x: x**3, (lambda y, x: 3.0 * x * x,))
    assert str(find(expressions([cube]), lambda e: True)) == "a = mg.Value(0.0)\nb = cube(a)"


def test_a_failing_property_reports_code() -> None:
    @settings(max_examples=1000)
    @given(expressions())
    def fails(expression: Expression) -> None:
        assert len(expression.steps) < 2

    with pytest.raises(AssertionError) as failure:
        fails()
    report = "\n".join(failure.value.__notes__)
    assert "a = mg.Value(0.0)\n" in report
    code = "\n".join(line.strip().rstrip(",") for line in report.splitlines() if re.match(r"\s+\w = ", line))
    assert len(Expression.of(last_value(run(code))).steps) == 2


def test_programs_share_results_and_use_every_line() -> None:
    @given(expressions())
    def check(expression: Expression) -> None:
        used = [x for step in expression.steps for x in step.operands if isinstance(x, int)]
        assert set(used) == set(range(len(expression.at) + len(expression.steps) - 1))

    check()
    interior = find(
        expressions(max_steps=4),
        lambda e: any([x for s in e.steps for x in s.operands].count(i) > 1 for i in range(len(e.at), 9)),
    )
    assert len(interior.steps) == 2


def test_programs_shrink_to_one_addition_of_zero() -> None:
    assert str(find(expressions(), lambda e: True)) == "a = mg.Value(0.0)\nb = a + a"


@given(expressions(largest=100.0))
def test_by_default_nothing_in_a_program_is_infinite_or_large(expression: Expression) -> None:
    output, leaves = expression.graph()
    for node in mg.topological_order(output):
        assert abs(node.data) <= 100 or node in leaves
        assert all(abs(derivative) <= 100 for derivative in node.local_derivatives())


def test_infinite_largest_lets_everything_through() -> None:
    everything = expressions([ops.log, ops.div], largest=math.inf)
    assert find(everything, lambda e: math.isnan(e(*e.at)))
    assert find(everything, lambda e: math.isinf(e(*e.at)))


@pytest.mark.parametrize("wrong", [{"ops": []}, {"max_steps": 0}, {"leaves": 0}])
def test_an_empty_choice_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least one operation, one step and one leaf"):
        find(expressions(**wrong), lambda e: True)


def test_a_wrong_number_of_leaves_is_named() -> None:
    with pytest.raises(TypeError, match="this program has 1 leaves; got 2"):
        find(expressions(), lambda e: len(e.at) == 1)(1.0, 2.0)


@given(expressions(SMOOTH, max_steps=4, largest=30.0))
def test_programs_are_functions_for_the_calculus_and_the_checker(expression: Expression) -> None:
    output, leaves = expression.graph()
    output.backward()
    gradient = mg.grad(expression, argnums=tuple(range(len(leaves))))(*expression.at)
    assert list(gradient) == pytest.approx([leaf.grad for leaf in leaves], rel=1e-12, abs=1e-12)


def test_reports_call_the_leaves_of_a_program_as_its_code_does() -> None:
    program = find(expressions(), lambda e: len(e.at) == 2)
    assert [row.name for row in mg.check(program, program.at).derivatives] == ["a", "b"]


# -- networks


@given(mlps(inputs=2, outputs=st.integers(1, 2)), batches(2, max_size=3))
def test_networks_take_batches(model: MLP, batch: tuple[list[list[float]], list[float]]) -> None:
    X, Y = batch
    assert 1 <= len(X) == len(Y) <= 3
    assert all(len(x) == 2 for x in X)
    outputs = model(X[0])
    assert len(outputs if isinstance(outputs, list) else [outputs]) == len(model.layers[-1].neurons)


@given(batches(1, classes=3), batches(1, outputs=2), mlps())
def test_targets_are_classes_or_lists(classes: Any, lists: Any, model: MLP) -> None:
    assert set(classes[1]) <= {0, 1, 2}
    assert {len(y) for y in lists[1]} == {2}
    assert len(model.layers) <= 3


# -- the entry point


@pytest.mark.parametrize("first", ["hypothesis", "microgrid.strategies"])
def test_hypothesis_finds_the_strategies_by_itself(tmp_path: Path, first: str) -> None:
    """An installed distribution, as Hypothesis sees one: metadata beside a package."""
    group = tomllib.loads(PROJECT.read_text())["project"]["entry-points"]["hypothesis"]
    metadata = tmp_path / "microgrid_autograd-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: microgrid-autograd\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[hypothesis]\n" + "".join(f"{k} = {v}\n" for k, v in group.items()))
    code = f"""
import sys
sys.path[:0] = [{str(tmp_path)!r}, {str(PACKAGE.parent)!r}]
import {first}
from hypothesis import Phase, given, settings, strategies as st
assert not {{"numpy", "rich", "graphviz", "sklearn"}} & set(sys.modules), "importing Hypothesis became slow"
from microgrid import Value
@settings(database=None, deadline=None)
@given(...)
def check(a: Value, b: list[Value]):
    assert isinstance(a, Value) and all(isinstance(v, Value) for v in b)
check()
print("drawn")
"""
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("drawn\n", "")


# -- finding faults


def mutant(room: str, *replacements: tuple[str, str]) -> ModuleType:
    """Load a copy of a room with some of its text replaced."""
    source = (PACKAGE / f"{room}.py").read_text()
    for old, new in replacements:
        assert source.count(old) >= 1, f"{room}.py has no {old!r} any more: seed the fault anew"
        source = source.replace(old, new)
    specification = importlib.util.spec_from_loader(f"mutant_{room}", None)
    assert specification is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    module.__file__ = f"{room}.py"
    registered = ops.TABLE.copy(), ops.HIDDEN.copy()
    try:
        exec(compile(source, f"mutant of {room}.py", "exec"), module.__dict__)
        module.__dict__["registered"] = ops.TABLE.copy()
    finally:  # a copy of the table has put its rows into the registry
        for registry, before in zip((ops.TABLE, ops.HIDDEN), registered, strict=True):
            registry.clear()
            registry.update(before)
    return module


PREORDER = """
def _preorder(root):
    order, stack = {}, [root]
    while stack:
        node = stack.pop()
        if node not in order:
            order[node] = None
            stack.extend(node.parents)
    return order
"""
FAULTS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "assigned instead of accumulated": (
        "reverse",
        (("            first._grad += gradient\n", "            first._grad = gradient\n"),),
    ),
    "one edge of x * x lost": (
        "reverse",
        (
            (
                "second._grad += gradient * first._data",
                "second._grad += (second is not first) * gradient * first._data",
            ),
        ),
    ),
    "visited before all children": (
        "engine",
        (
            ("sweep(live_nodes(order, [self]))", "sweep([*_preorder(self)][::-1])"),
            ("def topological_order", PREORDER + "\n\ndef topological_order"),
        ),
    ),
    "interior gradients not reset": (
        "engine",
        (("for node in order:\n                node._grad", "for node in leaves:\n                node._grad"),),
    ),
    "a wrong sign": ("ops/table", (("lambda y, x: cos(x)", "lambda y, x: -cos(x)"),)),
    "right only for positive inputs": ("ops/table", (("lambda y, x: sign(x)", "lambda y, x: 1.0"),)),
}
TESTED = ("add", "mul", "sub", "div", "neg", "sin", "tanh", "abs", "exp")


def is_wrong(expression: Expression, value: Any = Value) -> bool:
    """The property that finds them all: two backward passes give twice the gradient by definition."""
    leaves = [value(x) for x in expression.at]
    output = expression(*leaves)
    output.backward()
    output.backward()
    twice = [2 * float(g) for g in program_gradient(expression)]
    return [leaf.grad for leaf in leaves] != pytest.approx(twice, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_seeded_fault_is_found_within_200_examples_and_shrinks_to_3_lines(fault: str) -> None:
    room, replacements = FAULTS[fault]
    broken = mutant(room, *replacements)
    table = broken.registered if room == "ops/table" else ops.TABLE
    if room == "reverse":
        engine = mutant("engine")
        engine.__dict__["sweep"] = broken.sweep
        value = engine.Value
    else:
        value = broken.Value if room == "engine" else Value
    programs = expressions([table[name] for name in TESTED], largest=100.0)
    shrunk = find(programs, lambda e: is_wrong(e, value), examples=200)
    assert len(shrunk.steps) <= 3, shrunk


@given(expressions([ops.TABLE[name] for name in TESTED], largest=100.0))
@settings(max_examples=200)
def test_no_fault_is_found_in_the_engine(expression: Expression) -> None:
    assert not is_wrong(expression)
