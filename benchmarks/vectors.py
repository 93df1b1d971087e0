"""Our functions of vectors beside NumPy's and SciPy's: nanoseconds of processor time a number, medians.

    pip install -e ".[compile,native]" && python benchmarks/vectors.py

4096 numbers, which stay in the cache; one thread. ``--width 4 8`` chooses how many lanes a vector has.
"""

import argparse
import ctypes
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.special

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

from machine import assembly, compiled

from microgrid import ops
from microgrid.compiler.targets.native import rows

COUNT = 4096
DOMAINS = {
    ops.exp: (-10, 10), ops.expm1: (-10, 10), ops.exp2: (-10, 10), ops.log: (0.01, 100), ops.log1p: (-0.9, 10),
    ops.log2: (0.01, 100), ops.log10: (0.01, 100), ops.sin: (-10, 10), ops.cos: (-10, 10), ops.tan: (-10, 10),
    ops.asin: (-1, 1), ops.acos: (-1, 1), ops.atan: (-5, 5), ops.atan2: (-5, 5), ops.sinh: (-5, 5), ops.cosh: (-5, 5),
    ops.tanh: (-5, 5), ops.asinh: (-5, 5), ops.acosh: (1, 9), ops.atanh: (-0.99, 0.99), ops.erf: (-4, 4),
    ops.erfc: (-4, 4), ops.power: (0.1, 5), ops.cbrt: (-9, 9), ops.hypot: (-5, 5), ops.sqrt: (0, 9),
}  # fmt: skip


def nanoseconds(run: Callable[[], Any]) -> float:
    times = []
    for _ in range(100):
        start = time.process_time_ns()
        for _ in range(5):
            run()
        times.append((time.process_time_ns() - start) / 5 / COUNT)
    return statistics.median(times)


def lowered(row: ops.Op, builder: Any, *operands: Any) -> Any:
    return rows.lower(builder, row, operands)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--dtype", choices=["float64", "float32"], default="float64")
    options = parser.parse_args()
    print(f"{options.dtype:8}", *[f"{f'W={width}':>7}" for width in options.width], "  NumPy")
    rng = np.random.default_rng(0)
    for row, domain in DOMAINS.items():
        xs = [rng.uniform(*domain, COUNT).astype(options.dtype) for _ in range(row.arity)]
        out = np.empty_like(xs[0])
        found = []
        for width in options.width:
            text = assembly(partial(lowered, row), row.arity, width, options.dtype)
            engine = compiled(text)
            pointers = [ctypes.c_void_p(x.ctypes.data) for x in (*xs, out)]
            run = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(pointers), ctypes.c_int64)(
                engine.get_function_address("run")
            )
            found.append(nanoseconds(partial(run, *pointers, COUNT)))
        name = {"c_power": "power"}.get(row.ufunc, row.ufunc)
        theirs = getattr(np, name, None) or getattr(scipy.special, name)
        found.append(nanoseconds(partial(theirs, *xs, out=out)))
        print(f"{row.name:8}", *[f"{time:7.2f}" for time in found])


if __name__ == "__main__":
    main()
