"""The example that trains on eight devices gets the parameters of one."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_on_a_mesh.py"


def test_training_on_a_mesh_of_eight_devices_gives_the_network_of_one():
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (accuracy,) = re.findall(r"8 devices, ([\d.]+)% of the test right", done.stdout)
    (difference,) = re.findall(r"that mg.fit finds alone: (\S+)", done.stdout)
    assert float(accuracy) > 90.0
    assert float(difference) < 1e-12
