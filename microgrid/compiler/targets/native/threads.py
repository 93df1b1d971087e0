"""Several threads for one run: each does a stretch of the samples."""

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

ENOUGH = 200_000
"""A thread is worth its start for a stretch that takes so many nanoseconds."""


def stretches(size: int, threads: int, step: int) -> list[tuple[int, int]]:
    """Divide so many samples in stretches of about one length, a multiple of ``step``: their first ones and ends."""
    length = -(-size // (threads * step)) * step
    return [(first, min(first + length, size)) for first in range(0, size, length)]


def together(tasks: Sequence[Callable[[], None]]) -> None:
    """Run functions that let go of Python's lock at once, the first in this thread; return when all are done."""
    first, *others = tasks
    running = [_pool(len(others)).submit(task) for task in others]
    try:
        first()
    finally:
        wait(running)
    for task in running:
        task.result()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "microgrid")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has no thread but the one that forked
