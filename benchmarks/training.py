"""The GPT of ``examples/gpt.py`` as a whole: a thousand steps of Adam, and one gradient beside C written by hand.

    pip install -e ".[native]" && python benchmarks/training.py

Width 16, 4 heads, context 16, one layer, 4,363 parameters; a name of Python's modules in each step. Each training runs
in a process of its own; its CPU time begins with the model and has all compilation in it, but no import. Cold has an
empty cache, cached what the cold one left there. The engine takes ``--eager`` steps, and its time is theirs times
1,000 over their number; their losses are compared with it, all the others with those of NumPy, to 1e-9.

The C (``c/gpt.c``) is compiled by gcc for one length, with -O3 -march=native, once as it is and once with -ffast-math.
"""

import argparse
import ctypes
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402 - it reads the environment when it is loaded
from compiled import medians  # noqa: E402
from workloads import pointer, shared_library  # noqa: E402

import microgrid as mg  # noqa: E402
from microgrid import optim  # noqa: E402
from microgrid.compiler import targets  # noqa: E402

STEPS = 1000
CLOSE = 1e-9
WAYS = {
    "NumPy": ("numpy", "5"),
    "native, cold": (None, "3"),
    "native, cached": (None, "1"),
    "native, cold, through Values": (None, "12"),
    "NumPy, through Values": ("numpy", "12"),
}
"""For each way the target and the seconds that it may take. One that is insisted on is chosen before the cache is asked
for the scalars, so native code is not insisted on."""


def example() -> Any:
    place = Path(__file__).parents[1] / "examples" / "gpt.py"
    specification = importlib.util.spec_from_file_location("example", place)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def train(way: str, steps: int) -> list[float]:
    """Learn in one of the ways; return the losses."""
    program = example()
    assert targets.TARGETS
    if "native" in way:
        importlib.import_module("llvmlite.binding")
    start = time.process_time()
    names, letters = program.documents()
    model = program.GPT(len(letters) + 1)
    adam = optim.Adam(model.parameters(), program.RATE)
    loss = model.surprise if way == "eager" else mg.compile(model.surprise, batch=False, target=WAYS[way][0])
    draw = random.Random(1)

    def by_values(tokens: Any, following: Any) -> float:
        adam.zero_grad()
        out = loss(tokens, following)
        out.backward()
        adam.step()
        return float(out.data)

    def run(step: Any) -> list[float]:
        losses = []
        for k in range(1, steps + 1):
            adam.learning_rate = program.RATE * (1 - k / (STEPS + 1))
            name = draw.choice(names)
            losses.append(step(name[:-1], name[1:]))
        return losses

    if way == "eager" or way.endswith("Values"):
        losses = run(by_values)
    else:
        with mg.training_step(loss, adam) as step:
            losses = run(step)
    return [time.process_time() - start, *losses]


def in_a_process(way: str, steps: int, folder: str) -> list[float]:
    command = [sys.executable, __file__, "--train", way, str(steps)]
    environment = {**os.environ, "MICROGRID_CACHE": folder}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    numbers: list[float] = json.loads(done.stdout)
    return numbers


def difference(losses: list[float], others: list[float]) -> float:
    off = max(abs(a - b) for a, b in zip(losses, others, strict=False))
    assert off <= CLOSE, off
    return off


def trainings(eager_steps: int) -> None:
    print(f"| {STEPS} steps | s | at most | losses off by |\n|---|--:|--:|--:|")
    eager, *expected = in_a_process("eager", eager_steps, "off")
    first: list[float] = []
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as other:
        for way, (_, limit) in WAYS.items():
            seconds, *losses = in_a_process(way, STEPS, other if "Values" in way else cache)
            first = first or losses
            off = max(difference(losses, expected), difference(losses, first))
            print(f"| {way} | {seconds:.2f} | {limit} | {off:.0e} |", flush=True)
    print(f"| the engine, from {eager_steps} steps | {eager * STEPS / eager_steps:.0f} | | |")


def beside_c(length: int, turns: int) -> None:
    """Print the time of one gradient of a document natively, by NumPy and in C."""
    program = example()
    names, letters = program.documents()
    model = program.GPT(len(letters) + 1)
    name = next(name for name in names if len(name) == length + 1)
    data = name[:-1], name[1:]
    out = model.surprise(*data)
    out.backward()
    value = out.data
    wanted = np.array([p.grad for p in model.parameters()])
    places = {p: k for k, p in enumerate(model.parameters())}
    runs: dict[str, Any] = {}
    for target in ("native", "numpy"):
        kernel = mg.compile(model.surprise, batch=False, target=target).kernel(*data)
        theta, gradient = kernel.read(), np.zeros(len(kernel.parameters))
        runs[target] = partial(kernel.bind(theta, gradient), *data)
        assert abs(runs[target]() - value) <= CLOSE
        assert np.abs(gradient - wanted[[places[p] for p in kernel.parameters]]).max() <= CLOSE
    theta, tokens, following = np.array([p.data for p in model.parameters()]), *[x.astype(np.int64) for x in data]
    gradient = np.zeros(len(theta))
    for who, flags in (("C", ()), ("C, -ffast-math", ("-ffast-math",))):
        sizes = f"-DLENGTH={length}", f"-DLETTERS={len(letters) + 1}"
        function = shared_library(Path(__file__).parent / "c" / "gpt.c", (*flags, *sizes)).run
        function.restype, function.argtypes = ctypes.c_double, [ctypes.c_void_p] * 4
        runs[who] = partial(function, *map(pointer, (theta, tokens, following, gradient)))
        assert abs(runs[who]() - value) <= CLOSE
        assert np.abs(gradient - wanted).max() <= CLOSE
    times = medians(runs, turns)
    least = min(time for who, time in times.items() if who.startswith("C"))
    for who, seconds in times.items():
        print(f"| {length} letters | {who} | {1e6 * seconds:.1f} | {seconds / least:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eager", type=int, default=12, help="steps of the engine (default 12)")
    parser.add_argument("--lengths", type=int, nargs="*", default=[8, 16], help="documents beside C (default 8 16)")
    parser.add_argument("--turns", type=int, default=25, help="how often each has its turn (default 25)")
    parser.add_argument("--only", choices=["training", "step"], help="run this part")
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        print(json.dumps(train(options.train[0], int(options.train[1]))))
        return
    if options.only != "step":
        trainings(options.eager)
    if options.only != "training":
        print("\n| one gradient of a document of | by | µs | times C (3) |\n|---|---|--:|--:|")
        for length in options.lengths:
            beside_c(length, options.turns)


if __name__ == "__main__":
    main()
