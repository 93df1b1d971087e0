"""Compiled kernels beside C and NumPy written by hand, JAX, PyTorch, CasADi and ddx-ad: one value and gradient of each.

    pip install -e ".[demo,native,oracles]" && python benchmarks/compiled.py

All run in one process, on one thread, in turn; times are CPU time, and the medians are compared: on a busy machine the
ratios are steadier than the times. The C (``c/``) is compiled by gcc with -O3 -march=native, once as it is and once
with -ffast-math, which lets it have the vector functions of libmvec; it is called by ctypes. CasADi and ddx-ad take
part where they are installed. All results are compared with those of NumPy, before the clock runs.

The compile times are those of the first value and gradient, in a fresh process and with an empty cache, then in another
one with what the first left in the cache. ``--only digits growth`` runs parts.
"""

import argparse
import gc
import inspect
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from itertools import pairwise, repeat
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # one core for everyone
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np  # noqa: E402 - these read the environment when they are loaded
from workloads import WORKLOADS, Run, chain, microgrid, pieces, rivals, rosenbrock  # noqa: E402

import microgrid as mg  # noqa: E402

TARGETS = ["numpy", "native"] if "target" in inspect.signature(mg.compile).parameters else [None]
CLOSE = 1e-12


def name_of(target: str | None) -> str:
    return f"microgrid, {target or 'default'}"


def seconds(run: Run, calls: int) -> float:
    """CPU time of one of so many calls."""
    start = time.process_time()
    for _ in repeat(None, calls):
        run()
    return (time.process_time() - start) / calls


def compare(name: str, turns: int, without: list[str]) -> None:
    """Time everyone on a workload, and print a row of each."""
    gc.collect()
    work = WORKLOADS[name]()
    runs: dict[str, Run] = {}
    differences: dict[str, float] = {}
    wanted = pieces(work.by_hand())
    ends = np.cumsum([piece.size for piece in wanted])[:-1]
    for who, make in {**{name_of(t): microgrid(t) for t in TARGETS}, **rivals()}.items():
        if who in work.without or who in without:
            continue
        runs[who], read = make(work)
        found = np.split(read(runs[who]()), ends)
        norms = [np.linalg.norm(a - b) / (np.linalg.norm(b) + 1e-300) for a, b in zip(found, wanted, strict=True)]
        differences[who] = max(norms)
        assert max(norms) <= CLOSE, (name, who, norms)
    # A turn lasts some milliseconds: a training loop finds its own data in the cache, too.
    calls = {who: min(10_000, math.ceil(2e-3 / max(seconds(run, 3), 1e-7))) for who, run in runs.items()}
    times: dict[str, list[float]] = {who: [] for who in runs}
    for _ in range(turns):
        for who, run in runs.items():
            times[who].append(seconds(run, calls[who]))
    medians = {who: statistics.median(each) for who, each in times.items()}
    c = min((medians[who] for who in medians if who.startswith("C,") or who == "C"), default=math.nan)
    compiled = {who: compile_times(name, target) for target in TARGETS if (who := name_of(target)) in runs}
    for who, median in medians.items():
        cold, cached = (f"{x:.3f}" for x in compiled[who]) if who in compiled else ("", "")
        times_c, off = f"{median / c:8.2f}", f"{differences[who]:7.0e}"
        row = f"{work.name:48} | {who:18} | {1e6 * median:11.2f} | {times_c} | {off} | {cold:>7} | {cached:>7}"
        print(f"| {row} |", flush=True)


def compile_times(name: str, target: str | None) -> tuple[float, float]:
    """Seconds to the first value and gradient: with an empty cache, and with a filled one; each in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MICROGRID_CACHE": folder}
        command = [sys.executable, __file__, "--first", name, *([target] if target else [])]
        cold, cached = (
            float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
            for _ in range(2)
        )
    return cold, cached


def first(name: str, target: str | None = None) -> None:
    """Print the CPU time from a function of scalars to its first gradient, in this process."""
    work = WORKLOADS[name]()
    start = time.process_time()
    run, _ = microgrid(target)(work)
    run()
    print(time.process_time() - start)


def growth(kind: str, nodes: int, target: str | None) -> None:
    """Compile one graph of about so many nodes in this process; print the seconds of each stage, and bytes a node."""
    work = rosenbrock(max(nodes // 9, 2)) if kind == "sum" else chain(nodes // 2)
    leaves = [mg.Value(x) for x in work.parameters.tolist()]
    options: Any = {"target": target} if target else {}
    clock = [time.process_time()]

    def compiled() -> Any:
        kernel = mg.compile(lambda: work.scalars(mg, leaves), **options).kernel()
        clock.append(time.process_time())
        kernel.statements("parameters")
        clock.append(time.process_time())
        kernel.value_and_grad(kernel.read())
        clock.append(time.process_time())
        return kernel

    kernel = compiled()
    kernel.value_and_grad(kernel.read())
    clock.append(time.process_time())
    tracemalloc.start()  # it counts every block, and takes its time for it: so not while the clock runs
    before = len(clock)
    compiled()
    del clock[before:]
    _, peak = tracemalloc.get_traced_memory()
    stages = [b - a for a, b in pairwise(clock)]
    row = f"{kernel.traced:>9,} | " + " | ".join(f"{x:9.4f}" for x in stages) + f" | {peak / kernel.traced:8.0f}"
    print(f"| {kind:5} | {name_of(target):18} | {row} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[*WORKLOADS, "growth"], help="run these parts")
    parser.add_argument("--without", nargs="+", default=[], choices=list(rivals()), help="leave these out")
    parser.add_argument("--turns", type=int, default=25, help="how often each has its turn (default 25)")
    parser.add_argument(
        "--largest", type=int, default=1_000_000, help="the most nodes of a program whose compile time is measured"
    )
    parser.add_argument("--micrograd", action="store_true", help="micrograd's step on the moons, too")
    parser.add_argument("--first", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--grow", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.first:
        first(*options.first)
        return
    if options.grow:
        kind, nodes, *target = options.grow
        growth(kind, int(nodes), *target or [None])
        return
    parts = options.only or [*WORKLOADS, "growth"]
    if parts != ["growth"]:
        print(
            "| one value and gradient | by | us | times C | off | compile s | cached s |\n"
            + "|---|---|--:|--:|--:|--:|--:|"
        )
    for name in WORKLOADS:
        if name in parts:
            compare(name, options.turns, options.without)
    if options.micrograd:
        from eager import in_a_process

        print(
            f"\nmicrograd's step on the moons takes {in_a_process('moons_step', 'micrograd', 5)['milliseconds']:.0f} ms"
        )
    if "growth" in parts:
        print(
            "\n| graph | by | nodes | trace s | lift and differentiate s | first run s | second run s | bytes a node |"
        )
        print("|---|---|--:|--:|--:|--:|--:|--:|")
        for kind in ("sum", "chain"):
            for target in TARGETS:
                nodes = 100
                while nodes <= options.largest:
                    command = [sys.executable, __file__, "--grow", kind, str(nodes), *([target] if target else [])]
                    subprocess.run(command, check=True)
                    nodes *= 10


if __name__ == "__main__":
    main()
