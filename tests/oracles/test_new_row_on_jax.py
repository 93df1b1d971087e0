"""An operation added as CONTRIBUTING says is compiled for JAX and compared with two oracles, without another edit."""

from new_row import copy_with_the_row, run, run_tests

USES = """
import jax
import numpy as np
import microgrid as mg

jax.config.update("jax_enable_x64", True)
points = np.linspace(-800.0, 800.0, 33)
kernel = mg.compile(mg.log_sigmoid, batch=False)
function = kernel.kernel(0.7).to_jax()
theta = np.zeros(0)
values = [float(function(theta, x)) for x in points]
np.testing.assert_allclose(values, jax.nn.log_sigmoid(points), rtol=1e-14)
slopes = [float(jax.grad(function, 1)(theta, x)) for x in points]
np.testing.assert_allclose(slopes, [mg.sigmoid(-x) for x in points.tolist()], rtol=1e-13)
"""


def test_a_row_alone_is_an_operation_on_jax_and_among_the_oracles(tmp_path):
    copy = copy_with_the_row(tmp_path)
    run(copy, "-c", USES)
    assert run_tests(copy, "log_sigmoid or special_values or pytorch_agrees or jax_agrees", "tests/oracles") >= 4
