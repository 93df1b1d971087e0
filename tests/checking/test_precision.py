"""How many digits are right, and which operation lost the others: ``mg.precision`` against 50-digit arithmetic."""

import html
import io
import math
from functools import reduce
from operator import add

import pytest
from exact import definition
from hypothesis import Phase, given, settings
from mpmath import mp, mpf

import microgrid as mg
from microgrid import Op, Value, ops
from microgrid.checking.precision import DIGITS, rounding_rule
from microgrid.checking.rewrites import PATTERNS, REWRITES, match
from microgrid.checking.sheet import printable
from microgrid.strategies import expressions


def right(computed, exact):
    """How many digits of a float are right."""
    with mp.workdps(60):
        error = abs(mpf(computed) - exact)
        if error == 0:
            return DIGITS
        return float(min(max(-mp.log10(error / abs(exact)), 0), DIGITS)) if exact else 0.0


def test_the_sum_of_the_quadratic_formula_cancels_and_gets_another_form():
    a, b, c = Value(1.0, "a"), Value(1e8, "b"), Value(1.0, "c")
    with mg.record_lines():
        root = (-b + mg.sqrt(b * b - 4 * a * c)) / (2 * a)
    found = mg.precision(root)
    assert found.digits == pytest.approx(right(root.data, mpf("-1.00000000000000010000000000000002e-8")), abs=0.6)
    assert found.node is root.first
    assert found.node.op is ops.add
    assert found.losses[0].digits == pytest.approx(15.9, abs=0.3)
    assert found.rewrite == "sqrt(b**2 - y) - b as -y / (sqrt(b**2 - y) + b)"
    for part in ("cancels 15.", "of the digits of its operands, −100000000 and", found.rewrite, "root = (-b + mg.sqrt"):
        assert part in str(found)


rates = {"programs": 0, "optimistic": 0, "pessimistic": 0}


@settings(max_examples=1000, phases=[Phase.generate])
@given(expressions(max_steps=6))
def compare(program):
    with mp.workdps(60):
        results = [mpf(x) for x in program.at]
        for step in program.steps:
            function, order = definition(step.op)
            operands = [results[x] if isinstance(x, int) else mpf(x) for x in step.operands]
            try:
                results.append(mp.nan if order else mpf(function(*operands)))
            except (ValueError, TypeError, ZeroDivisionError, OverflowError):  # a pole, or a complex number
                return
            if not mp.isfinite(results[-1]) or abs(results[-1]) > mpf(10) ** 2000:
                return
    output, _ = program.graph()
    found = mg.precision(output)
    assert 0.0 <= found.digits <= DIGITS
    if math.isfinite(output.data):
        truth = right(output.data, results[-1])
        rates["programs"] += 1
        rates["optimistic"] += found.digits > truth + 1.0
        rates["pessimistic"] += found.digits < truth - 2.0


def test_digits_claimed_of_random_programs_are_those_that_50_digit_arithmetic_finds():
    compare()
    assert rates["programs"] > 500
    assert rates["optimistic"] <= 0.01 * rates["programs"], rates
    assert rates["pessimistic"] <= 0.03 * rates["programs"], rates


# ---------------------------------------------------------------------------------------------------
# What is exact costs nothing, what cancels costs what its operands lost


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x - 1.0,
        lambda x: -abs(x),
        lambda x: 8.0 * x,
        lambda x: x / 4.0,
        lambda x: mg.maximum(x, 0.0) + mg.relu(-x),
        lambda x: mg.where(mg.less(x, 2.0), x, 1.0),
        lambda x: mg.floor(x) * 3.0 + mg.sign(x),
        lambda x: (x * 0.0) ** 2 + mg.exp(x * 0.0) + mg.log(1.0 + 0.0 * x),
        lambda x: mg.total([x, -x, 1.0, 2.0]),
        lambda x: mg.sqrt(4.0 + 0.0 * x),
        lambda x: mg.stop_gradient(x) - x,
    ],
)
def test_what_is_exact_keeps_every_digit(function):
    found = mg.precision(function(Value(1.0 + 2.0**-30)))
    assert (found.digits, found.error, found.losses) == (DIGITS, 0.0, [])
    assert "exact at this point" in str(found)


@pytest.mark.parametrize(("k", "lost"), [(3, 3), (6, 6), (9, 9), (12, 12)])
def test_a_subtraction_costs_the_digits_that_its_operands_share(k, lost):
    x = Value(math.pi)
    found = mg.precision(mg.sin(x) + 1.0 - (mg.sin(x) + (1.0 - 10.0**-k)))
    assert found.digits == pytest.approx(DIGITS - lost, abs=0.7)
    assert found.losses[0].node.op.name == "sub"
    assert found.losses[0].digits == pytest.approx(lost, abs=0.7)


def test_a_function_that_magnifies_its_operand_is_named_too():
    found = mg.precision(mg.sin(1.1 * Value(1e10)))
    assert found.node.op is ops.sin
    assert "loses 11" in found.sentences[0]


def test_rounding_passes_through_stop_gradient():
    x = Value(0.1)
    assert mg.precision(mg.stop_gradient(x * 3.0) - 0.3).digits < 1.0


def test_logsumexp_is_not_blamed_for_what_it_stops():
    found = mg.precision(mg.logsumexp([Value(3.0), Value(1.5), Value(-2.0)]))
    assert found.digits > 15.0
    assert not found.sentences


def test_a_jump_nearer_than_rounding_is_found_by_random_rounding():
    found = mg.precision(mg.floor(Value(0.1) * 3.0 * 10.0) + 0.5)
    assert found.first_order == DIGITS
    assert found.digits < 1.0
    assert "a jump or a bend" in str(found)


@pytest.mark.parametrize("error", [ValueError, OverflowError])
def test_of_a_function_that_does_not_take_what_is_near_no_digit_is_claimed(error):
    def forward(x):
        if x:
            raise error
        return x + 1.0

    x = Value(1.0)
    assert mg.precision(Op("a point", forward, (1.0,))(x / 3.0 - x / 3.0)).digits == 0.0


def test_inputs_count_as_exact_and_what_their_rounding_would_cost_is_said():
    x = Value(1.0 + 1e-9)
    found = mg.precision(x - 1.0)
    assert found.digits == DIGITS
    assert found.of_inputs == pytest.approx(DIGITS - 9.0, abs=0.1)
    assert "they would leave 7" in str(found)
    assert repr(found) == str(found)


@pytest.mark.parametrize(
    ("output", "node"),
    [
        (lambda x: mg.sqrt(x**2 + 1.0), "power[2.0]"),
        (lambda x: ops.div(x, 1.0 + x * x), "mul"),
        (lambda x: mg.log(mg.exp(x) + 1.0), "exp"),
        (lambda x: mg.log(-x) + 1.0, "log"),
    ],
)
def test_of_what_comes_of_nan_or_overflow_no_digit_is_claimed(output, node):
    found = mg.precision(output(Value(1e200)))
    assert found.digits == 0.0
    assert found.node.op.name == node
    assert "no digit of what is computed from it means anything" in str(found)


def test_an_overflow_on_a_branch_that_is_not_chosen_costs_nothing():
    x = Value(1e3)
    assert mg.precision(mg.where(mg.less(x, 30.0), mg.log(1.0 + mg.exp(x)), x)).digits == DIGITS


@pytest.mark.parametrize("function", [lambda x: x * x, lambda x: mg.exp(-1e300 * x), lambda x: 1e-200 * x * 1e200])
def test_underflow_counts(function):
    assert mg.precision(function(Value(1e-200)) + 0.0).digits == (0.0 if function(1e-200) == 0.0 else DIGITS)


def test_the_cube_of_what_underflowed_has_no_right_digit():
    x = Value(1e-150)
    assert mg.precision((x * x * x) ** 3).digits == 0.0


@pytest.mark.parametrize(
    "op", [op for op in ops.rows() if not definition(op)[1]], ids=lambda op: op.name
)  # the others, derivatives of digamma, have tests of their own
def test_every_row_rounds_by_as_much_as_its_rule_says(op):
    """Where a rule says 0, forward is exact; elsewhere it is off by two units in the last place at most."""
    rule, function = rounding_rule(op), definition(op)[0]
    for xs in ((0.7, 2.5, 3.25), (1.0, 1.0, 1.0), (0.5, 0.25, 8.0), (0.1, 0.3, 0.9), (3.0, 7.0, 1e-5)):
        xs = (xs * 2)[: op.arity]
        y = op.forward(*xs)
        if math.isfinite(y) and all(x in domain for x, domain in zip(xs, op.domain, strict=True)):
            with mp.workdps(60):
                error = abs(mpf(y) - function(*map(mpf, xs)))
            assert error <= 4.0 * rule(y, list(xs))[0], (op.name, xs)


# ---------------------------------------------------------------------------------------------------
# Rewrites: each is the same number, is found in a graph, and keeps more digits

POINTS = {
    "exp(x) - 1": (1e-9, 0.0),
    "exp(x) - exp(y)": (1.0 + 1e-9, 1.0),
    "log(1 + x)": (1e-9, 0.0),
    "log(1 - x)": (1e-9, 0.0),
    "log(x) - log(y)": (3.0 + 1e-9, 3.0),
    "log(1 + exp(x))": (-30.0, 0.0),
    "log(sigmoid(x))": (30.0, 0.0),
    "log(exp(x) + exp(y))": (800.0, 1.0),
    "1 - sigmoid(x)": (30.0, 0.0),
    "1 - tanh(x)": (15.0, 0.0),
    "1 - tanh(x)**2": (15.0, 0.0),
    "1 - erf(x)": (4.0, 0.0),
    "1 - cos(x)": (1e-5, 0.0),
    "1 - cos(x)**2": (1e-5, 0.0),
    "cosh(x) - 1": (1e-5, 0.0),
    "sin(x) - sin(y)": (1.0 + 1e-9, 1.0),
    "cos(x) - cos(y)": (1.0 + 1e-9, 1.0),
    "sqrt(x**2 + y**2)": (3.3e200, 4.1e200),
    "sqrt(x) - sqrt(y)": (3.0 + 1e-9, 3.0),
    "sqrt(x**2 + y) - x": (1e8, 3.3),
    "sqrt(x**2 - y) - x": (1e8, 3.3),
    "sqrt(x**2 - y) + x": (-1e8, 3.3),
    "x**2 - y**2": (1e8 + 1.3, 1e8),
    "1 - x**2": (1.0 + 1e-9, 0.0),
    "1 / x - 1 / y": (3.0 + 1e-9, 3.0),
    "exp(x) / (exp(x) + exp(y))": (801.0, 800.0),
    "exp(x) / (1 + exp(x))": (800.0, 0.0),
}


def evaluated(text, x, y, names):
    return eval(text, {name: getattr(names, name, None) for name in NAMES} | {"x": x, "y": y})


class Exact:
    """The functions of the rewrites in 60 digits."""

    sigmoid = staticmethod(lambda x: 1 / (1 + mp.exp(-x)))
    softplus = staticmethod(lambda x: mp.log1p(mp.exp(x)))
    logsumexp = staticmethod(lambda xs: mp.log(sum(map(mp.exp, xs))))

    def __getattr__(self, name):
        return getattr(mp, name)


NAMES = (
    *("exp", "expm1", "log", "log1p", "softplus", "sigmoid", "logsumexp"),
    *("tanh", "cosh", "sinh", "erf", "erfc", "cos", "sin", "hypot", "sqrt"),
)


def test_every_rewrite_is_tested():
    assert {before for before, _ in REWRITES} == {*POINTS, "log(total(exp(x)))", "total(x**2) / n - (total(x) / n)**2"}


@pytest.mark.parametrize(("before", "after"), [rule for rule in REWRITES if rule[0] in POINTS])
def test_a_rewrite_is_the_same_number_and_keeps_more_digits(before, after):
    x, y = POINTS[before]
    with mp.workdps(500):
        same = evaluated(before, mpf(x), mpf(y), Exact())
        assert abs(evaluated(after, mpf(x), mpf(y), Exact()) - same) <= abs(same) * mpf(10) ** -60
    lossy = evaluated(before, Value(x, "x"), Value(y, "y"), mg)
    better = evaluated(after, Value(x, "x"), Value(y, "y"), mg)
    found = mg.precision(lossy)
    assert found.rewrite == f"{before} as {after}"
    assert mg.precision(better).digits >= max(found.digits + 3.0, 14.0)
    assert right(better.data, same) >= max(right(lossy.data, same) + 2.0 if math.isfinite(lossy.data) else 0.0, 14.0)


def test_a_sum_of_exponentials_of_any_length_is_referred_to_logsumexp():
    xs = [Value(800.0 - i) for i in range(9)]
    for loss in (mg.log(mg.total(map(mg.exp, xs))), mg.log(sum(map(mg.exp, xs)))):
        assert mg.precision(loss).rewrite == "log(total(exp(x))) as logsumexp(xs)"


def test_exponentials_that_all_vanish_are_referred_to_logsumexp_too():
    loss = mg.log(mg.exp(Value(-800.0, "a")) + mg.exp(Value(-801.0, "b")))
    assert mg.precision(loss).rewrite == "log(exp(a) + exp(b)) as logsumexp([a, b])"


def test_a_sum_of_exponentials_and_another_number_is_not_taken_for_one_of_exponentials():
    x, y = Value(800.0), Value(799.0)
    assert mg.precision(mg.log(mg.exp(x))).rewrite == ""
    for other in (1.0, Value(0.0), Value(2.0)):
        assert "total" not in mg.precision(mg.log(other + mg.exp(x) + mg.exp(y))).rewrite


def test_logsumexp_is_not_rewritten_as_itself():
    xs = [Value(30.0), Value(10.0)]
    for loss in (mg.logsumexp(xs) - xs[0], mg.logsumexp([*xs, Value(9.0)]) - xs[0]):
        found = mg.precision(loss)
        assert found.digits < 8.0
        assert "logsumexp" not in str(found)


def test_a_variance_as_a_difference_of_means_is_rewritten_by_deviations():
    xs = [Value(1e8 + k, f"x{k}") for k in range(4)]
    mean = mg.mean(xs)
    remedy = "total(x**2) / n - (total(x) / n)**2 as total((x - total(x) / n)**2) / n"
    for squares in ([x * x for x in xs], [x**2 for x in xs]):
        assert mg.precision(mg.mean(squares) - mean**2).rewrite == remedy
        assert mg.precision(mg.mean(squares) - mean * mean).rewrite == remedy
    for squares in (sum(x * x for x in xs), mg.total(x * x for x in xs), reduce(add, [x * x for x in xs])):
        assert mg.precision(squares / 4 - (sum(xs) / 4) ** 2).rewrite == remedy
    assert mg.precision(mg.mean([(x - mean) ** 2 for x in xs])).digits > 15.0
    assert mg.precision(mg.mean([x * x for x in xs[:2]]) - mg.mean(xs[:2]) ** 2).rewrite == remedy
    others = [Value(1e8 + k) for k in (0, 2, 1, 3)]
    assert mg.precision(mg.mean([x * x for x in xs]) - mg.mean(others) ** 2).rewrite != remedy
    assert mg.precision(mg.mean([x * x for x in xs]) - (mg.total([*xs, 0.5]) / 4) ** 2).rewrite != remedy
    for n, other in ((4.0, 3.0), (3.0, 4.0)):
        assert mg.precision(mg.total(x * x for x in xs) / n - (mg.total(xs) / other) ** 2).rewrite != remedy


@pytest.mark.parametrize("make", [lambda x: mg.log(1 + x), lambda x: 1 / (x + 1) - 1 / Value(2.0)])
def test_a_formula_that_is_as_infinite_there_is_not_offered(make):
    assert mg.precision(make(Value(-1.0, "x"))).rewrite == ""


def test_a_number_of_the_user_is_not_taken_for_the_constant_of_a_pattern():
    x = Value(1.0, "x")
    assert mg.precision(mg.sqrt(x / 3.0 - x / 3.0)).rewrite == ""
    assert mg.precision(x - mg.tanh(Value(15.0))).rewrite == ""
    for constant in (2.0, 0.5):
        assert mg.precision(mg.exp(Value(math.log(constant) + 1e-9)) - constant).rewrite == ""


@pytest.mark.parametrize(
    "product",
    [
        lambda x: mg.exp(8.0 * x) * (1 + mg.exp(8.0 * x)),
        lambda x: mg.log(1 * (x / 99.999999999)),
        lambda x: (x**2) ** 30 * -((x**2) ** 30) * 1e100,
        lambda x: mg.exp(4.0 * x) * -mg.exp(4.0 * x),
    ],
)
def test_a_product_is_not_taken_for_a_sum_or_a_quotient(product):
    found = mg.precision(product(Value(100.0)))
    assert found.sentences
    assert found.rewrite == ""


def test_a_difference_the_other_way_round_is_recognised_too():
    x = Value(1e-9, "t")
    assert mg.precision(1 - mg.exp(x)).rewrite == "1 - exp(t) as -(expm1(t))"
    assert mg.precision(-mg.exp(x) + 1).rewrite == "1 - exp(t) as -(expm1(t))"
    assert mg.precision(x**2 - 1.0 + 1e-9).rewrite == ""


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (("a", "b"), "1 / a - 1 / b as (b - a) / (a * b)"),
        (("y", "x"), "1 / y - 1 / x as (x - y) / (y * x)"),
        (("y", ""), "1 / x - 1 / y as (y - x) / (x * y)"),  # two different numbers are not both called y
        (("a", ""), "1 / a - 1 / y as (y - a) / (a * y)"),
        (("a", "a"), "1 / x - 1 / y as (y - x) / (x * y)"),
        (("no word", "b"), "1 / x - 1 / b as (b - x) / (x * b)"),
    ],
)
def test_a_rewrite_has_the_labels_that_distinguish_its_parts(labels, said):
    x, y = (Value(number, label) for number, label in zip((3.0, 3.0 + 1e-9), labels, strict=True))
    assert mg.precision(1 / x - 1 / y).rewrite == said


def test_a_pattern_wants_the_same_part_wherever_it_says_so():
    x, y = Value(1.0), Value(1.0)
    pattern = next(pattern for pattern, before, _ in PATTERNS if before == "sqrt(x**2 + y) - x")
    assert match(pattern, mg.sqrt(x * x + y) - x, {}) == {"x": (x,), "y": (y,)}
    assert match(pattern, mg.sqrt(x * x + y) - y, {}) is None
    assert match(pattern, mg.sqrt(x * y + y) - x, {}) is None


# ---------------------------------------------------------------------------------------------------
# What is shown, and what is refused


def test_a_user_defined_operation_counts_as_one_rounding_and_a_note_says_so():
    inside = Op("inside", lambda x: (x + 1e10) - 1e10, (1.0,))
    assert "Of inside only the rounding of the result is counted" in str(mg.precision(inside(Value(0.1))))


def test_a_compiled_call_is_one_operation():
    w = Value(0.3, "w")
    loss = mg.compile(lambda x: mg.tanh(w * x), batch=False)
    assert mg.precision(loss(0.7) * 3.0).digits > 15.0


def test_a_number_of_no_graph_is_exact():
    assert mg.precision(Value(0.1)).digits == DIGITS


def test_no_data_and_no_gradient_is_changed():
    x = Value(0.7)
    y = mg.tanh(x) * x
    y.backward()
    before = [(node.data, node.grad) for node in mg.topological_order(y)]
    mg.precision(y)
    assert [(node.data, node.grad) for node in mg.topological_order(y)] == before


def test_a_function_and_a_point_are_refused_with_a_remedy():
    with pytest.raises(TypeError, match=r"got <function .* and 1 more: compute with Values, as in mg\.precision\(f"):
        mg.precision(lambda x: x / 3.0, 1.0)


@pytest.mark.parametrize("wrong", [3.0, [Value(1.0)], "y", None])
def test_what_is_no_value_is_refused_with_a_remedy(wrong):
    with pytest.raises(TypeError, match=r"takes the Value that was computed; got .*mg\.precision\(f"):
        mg.precision(wrong)


def test_deep_graphs_are_measured_without_recursion():
    y = Value(0.1)
    for _ in range(20_000):
        y = y + 0.1
    found = mg.precision(y)
    assert found.digits == pytest.approx(right(y.data, mpf(0.1) * 20_001), abs=1.5)


def losing(k):
    """A difference that loses about k digits."""
    x = Value(1.0)
    return x / 3.0 + 1.0 - (x / 3.0 + (1.0 - 10.0**-k))


@pytest.mark.parametrize(
    ("k", "colour"),
    [(3, "#00735c"), (4, "#6d28d9"), (9, "#6d28d9"), (10, "#c2410c")],
    ids=["12.6", "11.6", "6.6", "5.6"],
)
def test_the_colour_of_the_digits_distinguishes_many_from_few(k, colour):
    found = mg.precision(losing(k))
    assert 15.5 - k < found.digits < 15.7 - k
    assert f'<span style="background:{colour}">{found.digits:.3g} digits are right</span>' in found._repr_html_()


def test_operations_that_lose_digits_are_coloured_and_those_that_lose_three_stand_out():
    pages = [mg.precision(losing(k))._repr_html_().split("</style>")[1] for k in (0.2, 0.35, 2.5, 3.1)]
    assert [page.count('<td><span style="background:#c2410c">') for page in pages] == [0, 1, 1, 1]
    assert [page.count("<tr class=fail>") for page in pages] == [0, 0, 0, 1]


def test_the_two_worst_losses_are_quoted_and_the_first_of_them_is_drawn():
    found = mg.precision(mg.total([losing(5), 1.5 * losing(5), 2.5 * losing(5)]))
    assert len(found.sentences) == 3
    assert str(found).count("✗") == 2
    assert found._repr_html_().count("<blockquote") == 2
    assert found._repr_html_().count("<div class=picture>") == 1


def test_the_text_the_colours_and_the_page_say_the_same_and_labels_inject_nothing():
    from rich.console import Console

    evil = Value(1e-9, "<script>\x1b[31m\u202e{x}\n")
    found = mg.precision(mg.exp(evil) - 1)
    terminal = io.StringIO()
    Console(width=200, file=terminal).print(found)
    page = found._repr_html_()
    assert "<script>" not in page
    assert "<svg" in page
    for text in (str(found), terminal.getvalue(), page.split("</style>")[1]):
        assert "\x1b" not in text
        assert "\u202e" not in text
    for sentence in map(printable, found.sentences):
        assert sentence in str(found)
        assert sentence in terminal.getvalue()
        assert sentence in html.unescape(page)
