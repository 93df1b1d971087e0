"""Adding an operation takes one row and its definition in the oracle, as CONTRIBUTING says; nothing else."""

import pytest
from new_row import copy_with_the_row, files_that_go_over_the_rows, row_and_definition, run, run_tests

USES = """
import math
import sys
import numpy as np
import microgrid as mg
from microgrid.drawing.program import Program
from microgrid.expressions import parse
from microgrid.strategies import Expression, _all_rows

assert mg.__file__.startswith(sys.argv[1])
right, slope = -math.log1p(math.exp(-0.7)), 1 / (1 + math.exp(0.7))

x = mg.Value(0.7, "x")
y = mg.log_sigmoid(x)
y.backward()
np.testing.assert_allclose([y.data, x.grad], [right, slope], rtol=1e-15)
assert mg.log_sigmoid(0.7) == x.log_sigmoid().data == y.data
assert mg.log_sigmoid(-math.inf) == -math.inf and mg.log_sigmoid(1e3) == 0.0
assert "log_sigmoid" in mg.__all__ and "log_sigmoid" in dir(mg)

assert mg.check(mg.log_sigmoid, 0.7).raise_()["x"].method == "complex"
mg.check_op(mg.log_sigmoid).raise_()
np.testing.assert_allclose(mg.hessian(lambda v: mg.log_sigmoid(v[0]))([0.7]), [[-slope * (1 - slope)]], rtol=1e-15)

points = np.linspace(-800.0, 800.0, 33)
for batch in (points, 0.7):
    kernel = mg.compile(mg.log_sigmoid, reduce=None, batch=batch is points).kernel(batch)
    values, (slopes,) = kernel.value_and_grad([], batch, by="arguments")
    expected = [mg.log_sigmoid(t) for t in np.ravel(batch).tolist()]
    np.testing.assert_allclose(np.ravel(values), expected, rtol=1e-15)
    np.testing.assert_allclose(np.ravel(slopes), [mg.sigmoid(-t) for t in np.ravel(batch).tolist()], rtol=1e-14)
    assert "mapped" not in kernel.source

assert "log σ" in mg.draw(y).svg
assert "log_sigmoid" in mg.explore(y).html
program = Program(y)
assert program.rows[mg.log_sigmoid].problem == ""
assert any("Math.log1p" in function for function in program.functions())
assert program.json()["rows"][1]["formula"] == "log σ({0})"

assert str(Expression.of(y)).splitlines()[1] == "b = mg.log_sigmoid(a)"
assert mg.log_sigmoid in _all_rows()
assert parse("2*log_sigmoid(x)").evaluate({"x": 0.7}) == 2 * y.data
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return copy_with_the_row(tmp_path_factory.mktemp("copy"))


def test_contributing_shows_one_row_and_one_definition():
    row, definition = row_and_definition()
    assert row.startswith("log_sigmoid = _row(")
    assert definition.startswith('    "log_sigmoid": lambda x:')


def test_a_row_alone_is_an_operation_in_every_use(copy):
    run(copy, "-W", "error", "-c", USES, str(copy))


def test_a_row_alone_can_be_explained_on_the_command_line(copy):
    assert "log_sigmoid" in run(copy, "-m", "microgrid", "explain", "log_sigmoid(x)", "x=0.7", "-o", "graph.svg")
    assert "log σ" in (copy / "graph.svg").read_text(encoding="utf-8")


def test_the_tests_of_the_table_pass_over_the_new_row(copy):
    over_all = "every_row_has_a or every_row_is_a or every_special_value or every_exception or rows_keep"
    assert run_tests(copy, f"log_sigmoid or {over_all}", *files_that_go_over_the_rows(copy)) >= 40
