"""The eager engine beside micrograd 0.1.0: time, memory, and what is left behind.

    pip install -e ".[demo,test]" && python benchmarks/eager.py

Each figure is measured in a process of its own, the two libraries in turn, and the medians are compared: on
a busy machine the ratio is steadier than the times. micrograd's moons step is its own notebook's code.
"""

import argparse
import importlib
import json
import os
import random
import statistics
import subprocess
import sys
import time

CHAIN = 1_000_000


def moons_step(library: str, steps: int) -> dict[str, float]:
    """The median milliseconds of micrograd's moons step: 100 samples, 2-16-16-1, hinge loss and L2."""
    import numpy as np
    from sklearn.datasets import make_moons

    Value = importlib.import_module(f"{library}.engine").Value  # noqa: N806 - the name of its class
    MLP = importlib.import_module(f"{library}.nn").MLP  # noqa: N806
    np.random.seed(1337)
    random.seed(1337)
    X, y = make_moons(n_samples=100, noise=0.1)
    y = y * 2 - 1
    model = MLP(2, [16, 16, 1])
    seconds = []
    for k in range(steps):
        start = time.perf_counter()
        inputs = [list(map(Value, xrow)) for xrow in X]
        scores = list(map(model, inputs))
        losses = [(1 + -yi * scorei).relu() for yi, scorei in zip(y, scores, strict=True)]
        total_loss = sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(p * p for p in model.parameters())
        model.zero_grad()
        total_loss.backward()
        seconds.append(time.perf_counter() - start)
        for p in model.parameters():
            p.data -= (1.0 - 0.9 * k / 100) * p.grad
    return {"milliseconds": 1e3 * statistics.median(seconds), "loss": total_loss.data}


def chain(library: str, steps: int) -> dict[str, float]:
    """A chain of a million nodes: seconds forward and backward, bytes a node, Values left with the collector off."""
    import gc
    import resource

    Value = importlib.import_module(f"{library}.engine").Value  # noqa: N806
    gc.disable()
    x = Value(0.5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    y = x
    start = time.perf_counter()
    for _ in range(CHAIN):
        y = y.sin()
    built = time.perf_counter()
    recorded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    y.backward()
    done = time.perf_counter()
    size = sys.getsizeof(y) + sys.getsizeof(y.data) + sys.getsizeof(y.grad)
    del y
    left = sum(type(thing) is Value for thing in gc.get_objects()) - 1
    return {
        "forward": built - start,
        "backward": done - built,
        "bytes a node": size,
        "resident bytes a node, recorded": 1024 * (recorded - before) / CHAIN,
        "left": left,
    }


def import_time(runs: int) -> float:
    """The median milliseconds that ``import microgrid`` adds to ``python -c pass``, its bytecode being cached."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def seconds(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        return time.perf_counter() - start

    seconds("import microgrid")
    return 1e3 * statistics.median(seconds("import microgrid") - seconds("pass") for _ in range(runs))


def in_a_process(function: str, library: str, steps: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", function, "--library", library, "--steps", str(steps)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="processes per library (default 3)")
    parser.add_argument("--steps", type=int, default=9, help="moons steps per process (default 9)")
    parser.add_argument("--one", choices=["moons_step", "chain"], help=argparse.SUPPRESS)
    parser.add_argument("--library", default="microgrid", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(globals()[options.one](options.library, options.steps)))
        return
    rounds: dict[str, list[float]] = {"microgrid": [], "micrograd": []}
    for _ in range(options.rounds):
        for library, medians in rounds.items():
            medians.append(in_a_process("moons_step", library, options.steps)["milliseconds"])
    ours, theirs = (statistics.median(medians) for medians in rounds.values())
    print(f"moons step, median ms:  microgrid {ours:8.1f}   micrograd {theirs:8.1f}   {theirs / ours:.1f}x faster")
    result = in_a_process("chain", "microgrid", 0)
    print(
        f"chain of {CHAIN:,} nodes: forward {result['forward']:.2f} s, backward {result['backward']:.2f} s, "
        f"{result['bytes a node']:.0f} bytes a node ({result['resident bytes a node, recorded']:.0f} resident "
        f"before backward), {result['left']:.0f} left behind with the collector off"
    )
    print(f"import microgrid: {import_time(9):.0f} ms more than `python -c pass`")


if __name__ == "__main__":
    main()
