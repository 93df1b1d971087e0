"""Formulas: what is read, what is refused, and where the error points."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgrid import expressions
from microgrid.engine import Value, topological_order
from microgrid.expressions import FUNCTIONS, ExpressionError, parse

NAMES = ("x", "y", "w1", "한글")
POINT = {"x": 0.75, "y": -2.5, "w1": 3.0, "한글": 0.1}

formulas = st.recursive(
    st.sampled_from(NAMES) | st.floats(0, 1e6).map(repr),
    lambda inner: (
        st.tuples(inner, st.sampled_from([" + ", "-", " * "]), inner).map("".join)
        | inner.map("-({})".format)
        | inner.map("(({}))".format)
        | inner.map("{}**2".format)
    ),
    max_leaves=20,
)


@given(formulas)
def test_formulas_mean_what_they_mean_in_python(text):
    expression = parse(text)
    used = {name: POINT[name] for name in expression.names}
    assert expression.evaluate(used) == pytest.approx(eval(text, {}, POINT), rel=1e-15)
    of_values = expression.evaluate({name: Value(x) for name, x in used.items()})
    assert (of_values.data if used else of_values) == expression.evaluate(used)


@given(st.text() | st.text("x1+-*/()., =<[]{}:'\"\\#@ \n\t\0lambdf"))
def test_any_text_is_a_formula_or_an_error_that_points_into_it(text):
    column = 0
    try:
        expression = parse(text)
        expression.evaluate(dict.fromkeys(expression.names, 0.5))
    except ExpressionError as error:
        column = error.column
    assert 0 <= column <= len(text) + 1


@pytest.mark.parametrize(
    ("text", "value"),
    [("7 // 2", 3.0), ("-7 % 4", 1.0), ("log(8, 2)", 3.0), ("hypot(2, 3, 6)", 7.0), ("round(2.5)", 2.0),
     ("degrees(pi)", 180.0), ("radians(180)", math.pi), ("prod(2, 3, 4)", 24.0), ("fabs(-2)", 2.0), ("gamma(5)", 24.0),
     ("fmod(-7, 4)", -3.0), ("remainder(7, 4)", -1.0), ("trunc(-2.5)", -2.0), ("copysign(3, -0.0)", -3.0)],
)  # fmt: skip
def test_a_formula_has_the_functions_of_math_and_pythons_operators(text, value):
    assert parse(text).evaluate({}) == value


@pytest.mark.parametrize("name", [name for name, (_, counts) in FUNCTIONS.items() if counts.start == 1])
def test_every_function_of_one_number_can_be_called(name):
    function, _ = FUNCTIONS[name]
    found = parse(f"{name}(x)").evaluate({"x": Value(0.4)})
    assert found.data == pytest.approx(float(function(0.4)), nan_ok=True)


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("2*pi + e", {}, 2 * math.pi + math.e),
        ("e + pi", {"e": 1.0}, 1.0 + math.pi),
        ("1/0", {}, math.inf),
        ("-1/0", {}, -math.inf),
        ("0*inf + nan", {}, math.nan),
        ("10**400", {}, math.inf),
        ("1" + "0" * 400, {}, math.inf),
        ("pow(2, 3) + 2**-1 + max(1, 4) - min(1, 4)", {}, 11.5),
        ("max(1, 4, 3) + max(2)", {}, 6.0),
        ("logsumexp(0, 0) - log(2) + mean(1, 2, 3) + total(1, 1)", {}, 4.0),
        ("  x # a note", {"x": 5.0}, 5.0),
        ("x\n+\t1", {"x": 5.0}, 6.0),
        ("+x", {"x": 5.0}, 5.0),
        (" + ".join(["x"] * 900), {"x": 1.0}, 900.0),
    ],
)
def test_constants_infinities_and_functions_of_several(text, values, expected):
    assert parse(text).evaluate(values) == pytest.approx(expected, nan_ok=True)


def test_a_constant_exponent_is_not_differentiated():
    y = parse("x**3 + pow(x, 3) + 2**x").evaluate({"x": Value(-2.0)})
    assert {node.op.name for node in topological_order(y)} == {"leaf", "power[3.0]", "base[2.0]", "add"}


def test_names_come_in_the_order_of_their_first_appearance():
    assert parse("b + x*b - a").names == {"b": 1, "x": 5, "a": 11}


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("", 0, "the formula is empty; it takes numbers, names"),
        ("tanhh(x)", 1, "unknown function 'tanhh' (did you mean tanh"),
        ("x + qqq(x)", 5, "unknown function 'qqq'; there are abs, acos"),
        ("__import__('os')", 1, "unknown function '__import__'"),
        ("x.real", 1, "'x.real' is not part of a formula"),
        ("x[0]", 1, "'x[0]' is not part"),
        ("y + 'text'", 5, "\"'text'\" is not part"),
        ("1 + 2j", 5, "'2j' is not part"),
        ("x < y", 1, "'x < y' is not part"),
        ("~x", 1, "'~x' is not part"),
        ("x @ y", 1, "'x @ y' is not part"),
        ("log(x, y, 2)", 1, "log() takes 1 or 2 argument(s), not 3"),
        ("sin(x)(y)", 1, "'sin(x)(y)' is not part"),
        ("sin(x=1)", 1, "'sin(x=1)' is not part"),
        ("sin(*x)", 5, "'*x' is not part"),
        ("(x := 1)", 2, "'x := 1' is not part"),
        ("한글 + x^2", 7, "a power is written **, not ^"),
        ("lambda*x", 1, "'lambda' is a word of Python's own; choose another name, such as 'lambda_'"),
        ("x if x else x", 3, "'if' is a word of Python's own"),
        ("True", 1, "'True' is a word of Python's own"),
        ("sin(x, y)", 1, "sin() takes 1 argument(s), not 2"),
        ("1 + where(x)", 5, "where() takes 3 argument(s), not 1"),
        ("mean()", 1, "mean() takes at least 1 argument, not 0"),
        ("x +", 4, "cannot read the formula: invalid syntax"),
        ("(x", 1, "cannot read the formula: '(' was never closed"),
        ("2x", 1, "cannot read the formula: invalid decimal literal"),
        ("a = 3", 3, "cannot read the formula: invalid syntax"),
        ("x\0", 3, "null bytes"),
        ("\udc80", 0, "the formula is not text"),
    ],
)
def test_what_is_no_formula_is_refused_with_its_column(text, column, said):
    with pytest.raises(ExpressionError) as error:
        parse(text)
    assert said in str(error.value)
    assert error.value.column == column
    if column:
        *_, shown, caret = str(error.value).splitlines()
        assert caret.endswith(f"^ column {column}")
        assert shown.strip() == text.replace("\0", "�")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-" * 5000 + "x", 1.0),
        ("x+" * 30000 + "x", 30001.0),
        ("x**" * 5000 + "x", 1.0),
        ("(" * 999 + "x" + ")" * 999, 1.0),
    ],
)
def test_a_very_deep_formula_is_computed_or_an_error_never_a_crash(text, value):
    """How deep Python reads is another matter in each version: 3.13 takes the signs."""
    try:
        formula = parse(text)
    except ExpressionError as error:
        assert re.search(r"nested too deep|too many nested parentheses", str(error))  # noqa: PT017 - either will do
    else:
        assert formula.evaluate({"x": 1.0}) == value


def test_a_flat_formula_of_many_names_is_read_in_one_pass(monkeypatch):
    passes = []
    monkeypatch.setattr(expressions, "_column", lambda *arguments: passes.append(arguments))
    n = 40_000
    assert parse(f"total({', '.join(['x'] * n)})").evaluate({"x": 0.5}) == n / 2
    names = [f"가{i}" for i in range(n)]
    columns = parse(f"1 + total({','.join(names)})").names
    assert list(columns) == names
    assert [columns[name] for name in names[:12]] == [11, *range(14, 14 + 3 * 9, 3), 41, 45]
    assert passes == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1" * 5000, "a whole number has too many digits; write it with an exponent, such as 1e5000"),
        ("x + " + "1" * 10**6 + "*y", "a whole number has too many digits"),
        ("y + '" + "a" * 10**6 + "'", "\"'aaaaaaaaaa"),
        ("x" * 10**6 + "(1)", "unknown function 'xxxxxxxxxx"),
        ("1 + " + "x" * 10**6 + ".real", "'xxxxxxxxxx"),
    ],
)
def test_what_is_long_is_refused_in_a_short_message(text, said):
    with pytest.raises(ExpressionError) as error:
        parse(text)
    assert said in str(error.value)
    assert len(str(error.value)) < 1000


def test_long_numbers_with_a_point_or_in_another_base_are_numbers():
    assert parse("0." + "3" * 10**6).evaluate({}) == 1 / 3
    assert parse("0x" + "f" * 10**5).evaluate({}) == math.inf


def test_of_many_numbers_that_are_missing_the_first_are_named():
    expression = parse(f"total({', '.join(f'x{i}' for i in range(20_000))})")
    with pytest.raises(ExpressionError) as error:
        expression.evaluate({f"y{i}": 1.0 for i in range(20_000)})
    assert "add x0=… x1=… x2=… x3=… x4=… x5=… x6=… x7=… and 19,992 more" in str(error.value)
    assert len(str(error.value)) < 500


def test_of_a_long_formula_the_place_is_shown_under_its_wide_letters():
    with pytest.raises(ExpressionError) as error:
        parse("가" * 3 + " + x" * 100 + " + q(1)" + " + x" * 100)
    *_, shown, caret = str(error.value).splitlines()
    assert len(shown) <= 80
    assert shown[caret.index("^")] == "q"
    with pytest.raises(ExpressionError) as error:
        parse("가나 + q(1)")
    assert str(error.value).splitlines()[-1] == "         ^ column 6"


@pytest.mark.parametrize(
    ("values", "column", "said"),
    [
        ({"x1": 1.0}, 6, "no number is given for 'y'; add y=…"),
        ({}, 1, "no number is given for 'x1'; add x1=… y=…"),
        ({"x1": 1.0, "yy": 2.0}, 6, "no number is given for 'y' (did you mean yy?); add y=…"),
        ({"x1": 1.0, "y": 2.0, "y1": 0.0}, 0, "'y1' has a number but is not in the formula (did you mean y?)"),
    ],
)
def test_missing_and_unused_names_are_named(values, column, said):
    with pytest.raises(ExpressionError) as error:
        parse("x1 + y*x1").evaluate(values)
    assert said in str(error.value)
    assert error.value.column == column
