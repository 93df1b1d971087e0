"""Hypothesis profiles: "ci" is fast and gives the same examples each time; "thorough" looks harder.

``HYPOTHESIS_PROFILE=thorough python -m pytest`` draws twenty times as many examples, new ones each time.
"mutation" asks only whether there is a failure, not for the simplest: ``tests/mutation.py`` asks often.
"""

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("ci", max_examples=100, derandomize=True, deadline=None, database=None)
settings.register_profile(
    "thorough", max_examples=2000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "mutation", settings.get_profile("ci"), max_examples=10, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session", autouse=True)
def _machine_code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Machine code is made where a test asks for it, kept for as long as the tests run, and apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MICROGRID_NATIVE", os.environ.get("MICROGRID_NATIVE", "off"))
        patch.setenv("MICROGRID_CACHE", str(tmp_path_factory.getbasetemp() / "machine_code"))
        yield
