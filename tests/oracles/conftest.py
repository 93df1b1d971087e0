"""The oracles use the random programs of the compiler's own tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "compiler"))
