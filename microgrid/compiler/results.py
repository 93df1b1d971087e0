"""Results of a kernel in the shapes that a user expects: samples first."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from microgrid.compiler.signature import Floats, Signature
from microgrid.compiler.task import Task

LINE = 8
"""Numbers of a line of the cache."""
LARGE = 16_384
"""Arrays of so many numbers the C library may take from the system anew each time, page by page."""


def empty(shapes: Sequence[tuple[int, ...]], dtype: str) -> list[Floats]:
    """Return arrays of these shapes; large ones in one stretch of memory, which is then at hand for the next call."""
    sizes = [math.prod(shape) for shape in shapes]
    if sum(sizes) < LARGE:
        return [np.empty(shape, dtype) for shape in shapes]
    starts = [0, *itertools.accumulate([-(-size // LINE) * LINE for size in sizes])]
    memory = np.empty(starts[-1], dtype)
    return [
        memory[start : start + size].reshape(shape) for start, size, shape in zip(starts, sizes, shapes, strict=False)
    ]


def shaped(signature: Signature, task: Task, outs: Sequence[Floats], size: int) -> tuple[Any, Any]:
    """Return the value, and the gradient by the parameters, the list of those by the arguments, or both."""
    found = iter(outs)
    value: Any = None
    if task.value:
        out = next(found)
        value = out.T if signature.outputs is not None or signature.per_sample else out.item()
    theta = next(found).T if task.by_parameters else None
    leading = (size,) if signature.batched else ()
    arguments = [g.T.reshape((*leading, *shape)) for g, shape in zip(found, signature.shapes, strict=False)]
    if not task.by_arguments:
        return value, theta
    return value, (theta, arguments) if task.by_parameters else arguments


def parts(gradient: Any) -> Iterator[Floats]:
    """Yield the arrays of a gradient, which may stand in lists."""
    if isinstance(gradient, np.ndarray):
        yield gradient
    else:
        for part in gradient or ():
            yield from parts(part)


def stacked(gradients: list[Any], axis: int) -> Any:
    """Return the gradients of the outputs with a new axis over them."""
    first = gradients[0]
    if isinstance(first, np.ndarray):
        return np.stack(gradients, axis)
    return type(first)(stacked([g[k] for g in gradients], axis) for k in range(len(first)))
