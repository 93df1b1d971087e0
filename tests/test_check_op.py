"""One operation over its domain: the whole table passes, and each kind of wrong row is found and named."""

import math

import mpmath
import pytest

from microgrid import ops
from microgrid.checking import check_op

ROWS = list(ops.rows())


@pytest.mark.parametrize("op", ROWS, ids=lambda op: op.name)
def test_every_row_of_the_table_passes(op):
    check_op(op).raise_()


def test_derivatives_of_lgamma_exist_at_huge_and_at_tiny_arguments():
    assert ops.digamma(1e308) == pytest.approx(math.log(1e308))
    assert ops.digamma(-5e-324) == math.inf
    assert ops.polygamma_of(1)(1e308) == pytest.approx(1e-308)
    assert ops.polygamma_of(2)(-5e-324) == math.inf
    for x in (-0.3, -2.75, -7.5):
        assert ops.digamma(x) == pytest.approx(float(mpmath.digamma(x)), rel=1e-13)
        assert ops.polygamma_of(1)(x) == pytest.approx(float(mpmath.polygamma(1, x)), rel=1e-13)


def test_the_branch_of_lgamma_is_known_at_every_float():
    for x in (-math.inf, math.inf, math.nan):
        hash(ops.lgamma.kink(x))
