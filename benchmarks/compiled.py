"""Compiled kernels beside C and NumPy written by hand, JAX, PyTorch, CasADi and ddx-ad: one value and gradient of each.

    pip install -e ".[demo,native,oracles]" && python benchmarks/compiled.py

All run in one process, on one thread, in turn; times are CPU time, and the medians are compared: on a busy machine the
ratios are steadier than the times. The C (``c/``) is compiled by gcc with -O3 -march=native, once as it is and once
with -ffast-math, which lets it have the vector functions of libmvec; it is called by ctypes. CasADi and ddx-ad take
part where they are installed. All results are compared with those of NumPy, before the clock runs.

The compile times are those of the first value and gradient, in a fresh process and with an empty cache, then in another
one with what the first left in the cache; NumPy, microgrid's compiler and llvmlite are imported before. ``--only digits
growth`` runs parts.
"""

import argparse
import functools
import gc
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise, repeat
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # one core for everyone
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np  # noqa: E402 - these read the environment when they are loaded
from workloads import RIVALS, WORKLOADS, Read, Run, chain, microgrid, pieces, rosenbrock  # noqa: E402

import microgrid as mg  # noqa: E402
from microgrid.compiler import targets  # noqa: E402

TARGETS = [target.name for target in getattr(targets, "TARGETS", ())] or [None]
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
    work = WORKLOADS[name]()
    makers = {**{name_of(target): microgrid(target) for target in TARGETS}, **RIVALS}
    left_out = {*work.without, *without}
    made = suitable({who: functools.partial(make, work) for who, make in makers.items() if who not in left_out})
    assert work.by_hand
    off = differences({who: read(run()) for who, (run, read) in made.items()}, pieces(work.by_hand()))
    times = medians({who: run for who, (run, _) in made.items()}, turns)
    c = min((time for who, time in times.items() if who.startswith("C,") or who == "C"), default=math.nan)
    for who, median in times.items():
        row = f"{work.name:48} | {who:18} | {1e6 * median:11.2f} | {median / c:8.2f} | {off[who]:7.0e}"
        print(f"| {row} | {compile_times([__file__], name, who)} |", flush=True)


def suitable(makers: dict[str, Callable[[], tuple[Run, Read]]]) -> dict[str, tuple[Run, Read]]:
    """Return what the makers make, without those of our targets that do not suit."""
    made = {}
    for who, make in makers.items():
        try:
            made[who] = make()
        except ValueError as error:
            if "does not suit" not in str(error):
                raise
    return made


def differences(found: dict[str, np.ndarray], wanted: list[np.ndarray]) -> dict[str, float]:
    """How far each is off, by the norm of each of the wanted pieces: value and gradient must agree to 1e-12."""
    ends, result = np.cumsum([piece.size for piece in wanted])[:-1], {}
    for who, numbers in found.items():
        pairs = zip(np.split(numbers, ends), wanted, strict=True)
        result[who] = max(float(np.linalg.norm(a - b) / (np.linalg.norm(b) + 1e-300)) for a, b in pairs)
    assert max(result.values()) <= CLOSE, result
    return result


def medians(runs: dict[str, Run], turns: int) -> dict[str, float]:
    """CPU time of one call of each, all in turn; a turn lasts some milliseconds."""
    gc.collect()
    calls = {who: min(10_000, math.ceil(2e-3 / max(seconds(run, 3), 1e-7))) for who, run in runs.items()}
    times: dict[str, list[float]] = {who: [] for who in runs}
    for _ in range(turns):
        for who, run in runs.items():
            times[who].append(seconds(run, calls[who]))
    return {who: statistics.median(each) for who, each in times.items()}


def compile_times(script: list[str], name: str, who: str) -> str:
    """Seconds to our first value and gradient, with an empty cache and with a filled one, in fresh processes."""
    if not who.startswith("microgrid"):
        return f"{'':7} | {'':7}"
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MICROGRID_CACHE": folder}
        command = [sys.executable, *script, "--first", name, who]
        done = [subprocess.run(command, env=environment, check=True, capture_output=True, text=True) for _ in range(2)]
    return " | ".join(f"{float(process.stdout):7.3f}" for process in done)


def first(make: Callable[[], tuple[Run, Read]]) -> None:
    """Print the CPU time from a function of scalars to its first gradient, in this process."""
    if find_spec("llvmlite"):
        import_module("llvmlite.binding")
    start = time.process_time()
    run, _ = make()
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
    parser.add_argument("--without", nargs="+", default=[], choices=list(RIVALS), help="leave these out")
    parser.add_argument("--turns", type=int, default=25, help="how often each has its turn (default 25)")
    parser.add_argument(
        "--largest", type=int, default=1_000_000, help="the most nodes of a program whose compile time is measured"
    )
    parser.add_argument("--micrograd", action="store_true", help="micrograd's step on the moons, too")
    parser.add_argument("--first", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--grow", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.first:
        name, who = options.first
        work = WORKLOADS[name]()
        first(lambda: microgrid(next(target for target in TARGETS if name_of(target) == who))(work))
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

        print(f"\nmicrograd's step on the moons takes {in_a_process('moons_step', 'micrograd')['step']:.0f} ms")
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
                    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
                    if done.returncode:
                        print(
                            f"| {kind:5} | {name_of(target):18} | {nodes:>9,}: {done.stderr.splitlines()[-1]} |",
                            flush=True,
                        )
                        break
                    nodes *= 10


if __name__ == "__main__":
    main()
