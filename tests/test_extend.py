"""The door for those who extend: what its docstring shows works, and a user's rows are rows like any other."""

import copy
import doctest
import math
import pickle

import pytest

import microgrid as mg
from microgrid import extend
from microgrid.drawing.program import Program
from microgrid.extend import Op, check_op, factory
from microgrid.strategies import Expression


@factory(signed=True)
def scaled_sine_of(scale):
    return Op(
        f"scaled_sine[{scale!r}]",
        lambda x: scale * mg.sin(x),
        (lambda y, x: scale * mg.cos(x),),
        expansion=lambda x: scale * mg.sin(x),
        recipe=(scaled_sine_of, (scale,)),
    )


def test_the_example_of_the_door_works():
    assert doctest.testmod(extend).failed == 0
    assert set(extend.__all__) <= set(vars(extend))


@pytest.mark.parametrize("way", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_a_row_with_a_constant_of_the_user_is_found_again(way):
    row = scaled_sine_of(2.5)
    assert way(row) is row
    assert way(row(mg.Value(1.0))).op is row


def test_a_row_with_a_constant_of_the_user_is_checked_drawn_compiled_and_printed():
    row = scaled_sine_of(2.5)
    check_op(row).raise_()
    assert mg.check(row, 0.7, method="complex").raise_()["x"].method == "complex"
    assert mg.compile(row, reduce=None).kernel([0.5]).value([], [0.5]) == pytest.approx(2.5 * math.sin(0.5))
    y = row(mg.Value(0.5, "x"))
    assert "scaled_sine" in mg.draw(y).svg
    assert Program(y).functions()[0] == "operations[1] = (a0) => (((2.5) * Math.sin(a0)));"
    assert Program(y).rows[row].is_users  # the page compares its JavaScript with Python's numbers
    assert str(Expression.of(y)).splitlines()[1] == "b = scaled_sine_of(2.5)(a)"


def test_the_rows_of_0_and_minus_0_differ_where_a_factory_says_so():
    assert scaled_sine_of(0.0) is not scaled_sine_of(-0.0)
    assert math.copysign(1.0, scaled_sine_of(-0.0)(1.0)) == -1.0


def test_a_factory_of_the_user_leaves_the_table_as_it_is():
    assert not any(op.name.startswith("scaled_sine") for op in mg.ops.rows())
