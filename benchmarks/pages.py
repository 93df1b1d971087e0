"""How long the explorer's page takes to answer, with graphs of hundreds and thousands of nodes.

    pip install -e ".[browser]" && python benchmarks/pages.py

Chromium without a GPU, 1280 × 800. Of each action the median and the largest time from the call to the painted frame:
processor time of the page's main thread, and of all of Chromium with what paints the page, which other programs hardly
change; and what a reader waits, which they do.
"""

import argparse
import itertools
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, Page, sync_playwright

import microgrid as mg
from microgrid.drawing.explorer import explore
from microgrid.nn import MLP

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ACTIONS = {
    "step": "k => goTo(place + k)",
    "scrub": "k => goTo((place + 137 * k) % lastStep)",
    "edit a leaf": "k => setLeaf(leaves.at(-1), 0.3 + 0.01 * k)",
    "zoom": "k => zoomMiddle(k % 2 ? 1.1 : 1 / 1.1)",
}
VIEWS = {
    "from far": "fit()",
    "following": "setFollowing(true); follow(steps[now].node)",
    "at half size": "moveView(...within([room.width / 2 - at[0] / 2, room.height / 2 - at[1] / 2, 0.5]))",
}
PAINTED = "new Promise(done => requestAnimationFrame(() => setTimeout(done)))"


def network(*sizes: int) -> mg.Value:
    """The squared error of a network for one sample: modules, all of them open."""
    answer: mg.Value = MLP(2, list(sizes), seed=0)([0.5, -1.0])
    return (answer - 1.0) ** 2


def crowd(inputs: int, hidden: int) -> mg.Value:
    """A sum of neurons that no module made, which is folded into blocks."""
    generator = random.Random(0)
    x = [mg.Value(generator.gauss(0, 1), label=f"x{i}") for i in range(inputs)]
    return mg.total(mg.tanh(mg.dot([mg.Value(generator.gauss(0, 1)) for _ in x], x)) for _ in range(hidden))


GRAPHS = {
    "2-16-8-1": partial(network, 16, 8, 1),
    "2-16-16-1": partial(network, 16, 16, 1),
    "2-28-28-1": partial(network, 28, 28, 1),
    "crowd": partial(crowd, 25, 36),
}


def busy(session: CDPSession) -> float:
    """The processor time of the page's main thread so far, in milliseconds."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return 1000.0 * float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))


def busy_in_all(session: CDPSession) -> float:
    """The processor time of all processes of the browser so far, in milliseconds."""
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    return 1000.0 * float(sum(process["cpuTime"] for process in processes))


def measure(
    page: Page, session: CDPSession, whole: CDPSession, view: str, action: str, rounds: int
) -> Iterator[tuple[float, float, float]]:
    """Yield the three times of each round, in milliseconds."""
    page.evaluate(f"setFollowing(false); goTo(lastStep - 60); window.at = steps[now].node.at; {view}")
    page.evaluate(f"window.place = now; window.act = {action}")
    page.wait_for_timeout(300)
    for k in range(rounds):
        before, before_in_all, start = busy(session), busy_in_all(whole), time.perf_counter()
        page.evaluate(f"k => {{ act(k); return {PAINTED}; }}", k)
        waited = 1000.0 * (time.perf_counter() - start)
        yield busy(session) - before, busy_in_all(whole) - before_in_all, waited


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="how often each action is taken")
    parser.add_argument("--graph", choices=GRAPHS, help="one graph only")
    options = parser.parse_args()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        whole = browser.new_browser_cdp_session()
        print(f"{'':28}" + "".join(f"{name:>20}" for name in ("main thread, ms", "all of it, ms", "to the frame, ms")))
        for name, make in GRAPHS.items():
            if options.graph not in (None, name):
                continue
            output = make()
            began = time.perf_counter()
            path = explore(output, depth=9).save(Path(folder) / "page.html")
            made = time.perf_counter() - began
            page: Any = browser.new_page(viewport={"width": 1280, "height": 800})
            began = time.perf_counter()
            page.goto(path.as_uri())
            shown = time.perf_counter() - began
            size = path.stat().st_size / 1000
            nodes = page.evaluate("nodes.length")
            print(f"{name}, {nodes:,} nodes: {size:.0f} kB, made in {made:.2f} s, shown in {shown:.2f} s")
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})
            for (seen, view), (label, action) in itertools.product(VIEWS.items(), ACTIONS.items()):
                rounds = measure(page, session, whole, view, action, options.rounds)
                columns = [f"{statistics.median(times):7.0f} {max(times):6.0f}" for times in zip(*rounds, strict=True)]
                print(f"  {label + ', ' + seen:26}" + "".join(f"{column:>20}" for column in columns), flush=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
