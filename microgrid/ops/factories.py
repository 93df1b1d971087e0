"""Rows with constants: a function makes each of them once. It is pickled by its name, so nothing here is compiled."""

import math
from collections.abc import Callable
from functools import lru_cache, partial, wraps

from microgrid.ops.op import Op

SAMPLES: list[Callable[[], Op]] = []
"""A few rows of each kind."""


def factory(*samples: tuple[float, ...], signed: bool = False) -> Callable[[Callable[..., Op]], Callable[..., Op]]:
    """Cache a function that makes a row from constants; ``rows()`` includes those of ``samples``.

    If it is ``signed``, 0.0 and −0.0, which are equal as keys, make different rows.
    """

    def decorate(make: Callable[..., Op]) -> Callable[..., Op]:
        remember = lru_cache(maxsize=1024)
        cached = remember(make)
        if signed:
            by_sign = remember(lambda constant, sign: make(constant))
            cached = wraps(make)(lambda constant: by_sign(constant, math.copysign(1.0, constant)))  # type: ignore[assignment]
        SAMPLES.extend(partial(cached, *constants) for constants in samples)
        return cached

    return decorate
