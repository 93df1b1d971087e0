"""Mathematical functions and rows as machine code: their last digits, their special values."""

import ctypes
import itertools
import math
import re
from functools import cache

import numpy as np
import pytest
from exact import definition
from hypothesis import given
from hypothesis import strategies as st
from machine import assembly, compiled, machine, optimised
from mpmath import mp, mpf

import microgrid as mg
from microgrid import ops
from microgrid.compiler import compile
from microgrid.compiler.ir import NOT, NUMBER
from microgrid.compiler.targets.native import rows
from microgrid.compiler.targets.native.assembly import Builder, Function, Module, index, pointer

BOUNDS = {ops.exp: 1, ops.log: 1, ops.sin: 1, ops.cos: 1, ops.sqrt: 1, ops.erf: 4, ops.erfc: 4, ops.sech2: 4}
"""Units in the last place, where it is not 2."""

FUNCTIONS = [
    ops.exp, ops.expm1, ops.exp2, ops.log, ops.log1p, ops.log2, ops.log10, ops.sqrt, ops.cbrt, ops.hypot, ops.sin,
    ops.cos, ops.tan, ops.asin, ops.acos, ops.atan, ops.atan2, ops.sinh, ops.cosh, ops.tanh, ops.asinh, ops.acosh,
    ops.atanh, ops.erf, ops.erfc, ops.power, ops.sech2,
]  # fmt: skip
WIDTHS = [1, 2, 4, 8]
DTYPES = ["float64", "float32"]
HIDDEN = [*ops.HIDDEN.values(), ops.power_log_of(1), ops.power_log_of(2), ops.direction_of(3)]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, math.inf, -math.inf, math.nan, 1e-300, 1e300, -1e300, 30.0, -30.0,
           700.0, -700.0, 5e-324, 0.1, 1.3, 2.2, -9.3]  # fmt: skip
EDGES = [
    0.0, 5e-324, 1e-310, 2.0**-1022, 1e-200, 1e-20, 1e-8, 0.25, 0.5, 0.75, 1.0 - 2.0**-53, 1.0, 1.0 + 2.0**-52, 1.5,
    2.0, 3.0, 5.9, 5.95, 6.0, 7.0, 13.0, 20.0, 26.0, 26.6, 27.3, 28.0, 30.0, 88.7, 104.0, 345.0, 350.0, 355.0, 372.0,
    700.0, 708.0, 709.78, 709.79, 710.0, 710.5, 745.1, 746.0, 1023.0, 1024.0, 1074.0, 1075.0, 1e5, 1e10, 2.0**52,
    2.0**53, 1e100, 1e150, 1e155, 1e300, 1.7976931348623157e308, math.inf, math.pi, math.pi / 2,
]  # fmt: skip
"""Where functions overflow, underflow, or are computed in another way."""


@cache
def lowered(row, width=4, dtype="float64", fused=True):
    return machine(lambda b, *xs: rows.lower(b, row, xs), row.arity, width, dtype, fused)


def ulps(row, xs, y):
    """By how many units in the last place y is off; 0 where the exact value is no number in range, or of a −0.

    50-digit arithmetic has no −0; what a function is there stands among the special values.
    """
    if any(x == 0 and math.copysign(1.0, x) < 0 for x in xs):
        return 0.0
    function, _ = definition(row)
    largest, digits = (1.7976931348623157e308, 53) if y.dtype == np.float64 else (3.4028234663852886e38, 24)
    with mp.workdps(50):
        try:
            exact = function(*map(mpf, xs))
        except (ValueError, ZeroDivisionError):
            return 0.0
        if not isinstance(exact, mpf) or not mp.isfinite(exact) or abs(exact) > largest:
            return 0.0
        unit = mp.ldexp(1, max(mp.frexp(exact)[1] - digits, -1074 if digits == 53 else -149))
        return float(abs(mpf(float(y)) - exact) / unit)


def assert_within_bound(row, xs, dtype="float64", fused=True):
    xs = [np.array(x, dtype) for x in xs]
    bound = BOUNDS.get(row, 2) + (not fused)
    for *numbers, y in zip(*map(np.ndarray.tolist, xs), lowered(row, 8, dtype, fused)(*xs), strict=True):
        assert ulps(row, numbers, y) <= bound, (row.name, numbers, y)


def points(row, count, seed):
    """Points of all sizes, and of those where most digits can be lost."""
    rng = np.random.default_rng(seed)

    def one():
        sizes = np.exp(np.concatenate([rng.uniform(-30, 5, count), rng.uniform(-700, 700, count // 4)]))
        near = np.concatenate(
            [1.0 - sizes[: count // 4] % 0.1, np.rint(rng.uniform(0, 6e4, count // 4)) * (math.pi / 2)]
        )
        numbers = np.concatenate([sizes, near, rng.uniform(0, 5, count), rng.uniform(5, 750, count)])
        return rng.permutation(numbers) * rng.choice([1.0, -1.0], numbers.size)

    return [one() for _ in range(row.arity)]


@pytest.mark.parametrize("row", FUNCTIONS, ids=lambda row: row.name)
def test_the_last_digits_of_a_function_are_right(row):
    assert_within_bound(row, points(row, 300, seed=1))


@pytest.mark.parametrize("row", FUNCTIONS, ids=lambda row: row.name)
@given(data=st.data())
def test_a_function_is_right_wherever_it_is_tried(row, data):
    number = st.floats(allow_nan=False, allow_infinity=False) | st.floats(-5.0, 5.0) | st.floats(-750.0, 750.0)
    assert_within_bound(row, [data.draw(st.lists(number, min_size=8, max_size=8)) for _ in range(row.arity)])


@pytest.mark.parametrize("row", FUNCTIONS, ids=lambda row: row.name)
def test_in_single_precision_the_last_digits_are_right_too(row):
    with np.errstate(over="ignore", under="ignore"):
        assert_within_bound(row, points(row, 60, seed=2), "float32")


@pytest.mark.parametrize("row", FUNCTIONS, ids=lambda row: row.name)
def test_without_fused_products_at_most_one_unit_more_is_lost(row):
    assert_within_bound(row, points(row, 60, seed=3), fused=False)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0, 3.0, -1.0, 0.5, -0.5, 1.5, -2.0, 7.0])
def test_a_constant_power_is_as_right_as_any(power):
    row = ops.power_of(power)
    assert_within_bound(row, points(row, 60, seed=4))


def test_powers_of_the_base_have_whole_logarithms():
    assert lowered(ops.log2)(2.0 ** np.arange(-1074.0, 1024.0)).tolist() == list(np.arange(-1074.0, 1024.0))
    assert lowered(ops.log10)([float(f"1e{k}") for k in range(23)]).tolist() == list(range(23))


# Special values are those of the programs on NumPy arrays


def kernel_values(row, xs, dtype):
    names = ", ".join(f"x{k}" for k in range(row.arity))
    function = eval(f"lambda {names}: row({names})", {"row": row})
    with np.errstate(all="ignore"):
        return np.asarray(compile(function, reduce=None, dtype=dtype).kernel(*xs).value([], *xs), dtype)


def assert_same(row, xs, y, expected):
    """Equal but for 16 roundings, with the same signs of zeros, where NumPy and SciPy have the digits.

    Their σ is 0 where it is subnormal, and so is x·σ(x) with 745 times that; their log Γ is off by 2⁻⁵² beside 1.
    gelu(x) = x·Φ(x) has x² times the rounding error of x·√½, the argument of erfc.
    """
    precision = np.finfo(y.dtype)
    nothing = precision.eps if row is ops.lgamma else 745.0 * precision.smallest_normal
    with np.errstate(all="ignore"):
        condition = 1.0 + xs[0] ** 2 if row is ops.gelu else 1.0
        close = np.abs(y - expected) <= 16 * precision.eps * condition * np.abs(expected) + nothing
        close &= np.isfinite(expected)
    good = ((y == expected) | close) & (np.signbit(y) == np.signbit(expected)) | np.isnan(y) & np.isnan(expected)
    wrong = np.flatnonzero(~good)[:5]
    assert good.all(), [(row.name, [float(x[k]) for x in xs], y[k], expected[k]) for k in wrong]


def columns(row):
    if row.arity == 1:
        return [np.array(SPECIAL + [sign * x for x in EDGES for sign in (1.0, -1.0)])]
    if row.arity == 2:
        return [np.array(column) for column in zip(*itertools.product(SPECIAL, repeat=2), strict=True)]
    return list(np.random.default_rng(0).choice(SPECIAL, (row.arity, 400)))


ROWS = [row for row in [*ops.rows(), *HIDDEN] if not row.name.startswith("round[")]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_has_the_special_values_of_numpy_programs_at_every_width(row, dtype):
    with np.errstate(over="ignore"):
        xs = [x.astype(dtype) for x in columns(row)]
    if row is ops.erfc:  # of SciPy's only 12 digits are right in the tail
        xs = [xs[0][~((xs[0] > 5.0) & (xs[0] < 27.3))]]
    expected = kernel_values(row, xs, dtype)
    for width in WIDTHS:
        assert_same(row, xs, lowered(row, width, dtype)(*xs), expected)


@pytest.mark.parametrize("row", FUNCTIONS, ids=lambda row: row.name)
def test_a_lane_does_not_depend_on_its_neighbours(row):
    """Where one lane leaves the fast path, all do."""
    xs = [np.resize(column, 64) for column in columns(row)]
    one = lowered(row, 1)(*xs)
    tame = np.full(64, 1.25)
    for width in (4, 8):
        for at in range(width):
            mixed = [np.where(np.arange(64) % width == at, x, tame) for x in xs]
            found = lowered(row, width)(*mixed)[at::width]
            expected = one[at::width]
            assert_same(row, [x[at::width] for x in xs], found, expected)


# What operands may be


def test_a_condition_is_a_mask_or_any_number_but_zero():
    masked = machine(lambda b, x, y: rows.lower(b, ops.where, [rows.lower(b, ops.less, [x, y]), 1.5, y]), 2)
    assert masked([1.0, 2.0, math.nan], [2.0, 2.0, 2.0]).tolist() == [1.5, 2.0, 2.0]
    counted = machine(lambda b, x: rows.lower(b, ops.where, [x, 1.0, 2.0]), 1)
    assert counted([0.0, -0.0, 5e-324, math.nan, -3.0]).tolist() == [2.0, 2.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_mask_is_zero_or_one_where_a_number_is_meant(width):
    product = machine(lambda b, x, y: rows.lower(b, ops.mul, [rows.lower(b, ops.greater, [x, 0.0]), y]), 2, width)
    assert product([1.0, -1.0], [3.0, 3.0]).tolist() == [3.0, 0.0]
    assert np.isnan(product([-1.0], [math.inf])[0])
    negation = machine(lambda b, x: rows.lower(b, NOT, [rows.lower(b, ops.less, [x, 1.0])]), 1, width)
    assert negation([0.0, 1.0, math.nan]).tolist() == [0.0, 1.0, 1.0]
    number = machine(lambda b, x: rows.lower(b, NUMBER, [rows.lower(b, ops.less, [x, 1.0])]), 1, width)
    assert number([0.0, 1.0, math.nan]).tolist() == [1.0, 0.0, 0.0]
    stored = machine(lambda b, x: rows.lower(b, NOT, [x]), 1, width)
    assert stored([0.0, 1.0]).tolist() == [1.0, 0.0]


def test_an_operation_of_the_user_is_lowered_by_its_function_its_operator_or_its_expansion():
    xs = np.linspace(-3.0, 3.0, 11)
    forms = {
        "function": ({"ufunc": "arctan"}, np.arctan(xs)),
        "operator": ({"operator": "-"}, -xs),
        "expansion": (
            {"expansion": lambda x: mg.where(mg.greater(x, 0.0), x, 0.5 * x)},
            np.where(xs > 0, xs, 0.5 * xs),
        ),
        "unknown function": ({"ufunc": "no_such", "expansion": mg.sinh}, np.sinh(xs)),
        "comparison": ({"expansion": lambda x: mg.less(x, 1.0)}, (xs < 1.0) * 1.0),
        "constant": ({"expansion": lambda x: 2.0}, 2.0 + 0.0 * xs),
    }
    for name, (form, expected) in forms.items():
        op = mg.Op("mine", abs, (1.0,), **form)
        assert rows.unsupported(op) is None, name
        assert lowered(op)(xs) == pytest.approx(expected, rel=1e-15), name


@pytest.mark.parametrize("nested", [False, True])
def test_an_operation_without_a_form_says_what_it_lacks(nested):
    bare = mg.Op("bent", lambda x: x if x > 0 else 0.5 * x, (1.0,))
    op = mg.Op("outer", bare, (1.0,), expansion=lambda x: 2.0 * bare(x)) if nested else bare
    reason = "operation 'bent' has no native form: give it an expansion="
    assert reason in rows.unsupported(op)
    with pytest.raises(NotImplementedError, match=re.escape(reason)):
        lowered(op)


def test_every_row_of_the_table_but_rounding_to_decimals_has_a_form():
    assert {row.name for row in [*ops.rows(), *HIDDEN] if rows.unsupported(row)} == {"round[2]", "round[-1]"}


# What functions share


DENSITY = mg.Op("density", abs, (1.0,), expansion=lambda x: ops.erf.partials[0](None, x))


def operations(*functions):
    """How many arithmetic instructions the functions of one x have after LLVM's pipeline."""
    text = assembly(lambda b, x: [rows.lower(b, row, [x]) for row in functions], 1, results=len(functions))
    body = str(optimised(text)).split("@run(")[1].split("\n}")[0]
    return len(re.findall(r" = (?:f(?:add|sub|mul|div) |(?:tail )?call [^@]*@llvm.fma)", body))


@pytest.mark.parametrize(
    ("pair", "shared"),
    [
        ((ops.sin, ops.cos), 30),
        ((ops.tanh, ops.sech2), 14),
        ((ops.sigmoid, ops.sigmoid_slope), 18),
        ((ops.erf, DENSITY), 18),
    ],
    ids=["sin", "tanh", "sigmoid", "erf"],
)
def test_a_function_and_its_derivative_share_what_they_have_in_common(pair, shared):
    assert operations(*pair) <= sum(map(operations, pair)) - shared


# The builder


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [*WIDTHS, 16])
def test_memory_is_read_and_written_with_masks_strides_and_tables(width, dtype):
    order = [3, 1, 2, 0, *range(4, 16)][:width] if width > 3 else list(range(width))[::-1]
    module = Module()
    function = Function(module, "run", ["ptr noalias %x", "ptr noalias %y", "i64 %n"])
    b = Builder(function, width, dtype)
    x, y, n = pointer("%x"), pointer("%y"), index("%n")
    with function.loop(0, n, width, carried=[b.number(0.0), b.number(-math.inf)]) as loop:
        mask = b.first(function.let(n, f"sub i64 {n.text}, {loop.index.text}"))
        v = b.load(x, loop.index, mask)
        b.store(b.add(v, v), y, loop.index, mask)
        loop.following = (b.add(loop.carried[0], v), b.maximum(loop.carried[1], v))
    b.store_scalar(b.total(loop.carried[0]), y, n)
    b.store_scalar(b.largest(loop.carried[1]), y, function.plus(n, 1))
    b.store_strided(b.load_strided(x, 1, 2), y, 40, 3)
    b.store_table(
        b.load_table(x, module.table("i64", order), 0), y, module.table("i32", [100 + k for k in order]), 0, 32
    )
    b.store(b.load_strided(x, 5, 0), y, 120)
    function.finish()
    engine = compiled(module.text())
    numbers, found = np.arange(37.0).astype(dtype) / 4, np.full(140, -1.0, dtype)
    address = engine.get_function_address("run")
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(address)(
        numbers.ctypes.data, found.ctypes.data, 37
    )
    expected = np.full(140, -1.0, dtype)
    expected[:37] = 2 * numbers
    expected[37:39] = numbers.sum(), numbers.max()
    expected[40 : 40 + 3 * width : 3] = numbers[1 : 1 + 2 * width : 2]
    expected[[100 + k for k in order]] = numbers[order]
    expected[120 : 120 + width] = numbers[5]
    assert found.tolist() == expected.tolist()


def test_an_extreme_of_lanes_is_nan_if_one_is():
    for write in (Builder.largest, Builder.smallest):
        extreme = machine(lambda b, x, write=write: b.splat(write(b, x)), 1, 8)
        assert np.isnan(extreme([1.0, 2.0, math.nan, 4.0, 5.0, 6.0, 7.0, 8.0])).all()
        assert extreme(np.arange(8.0))[0] == (7.0 if write is Builder.largest else 0.0)
