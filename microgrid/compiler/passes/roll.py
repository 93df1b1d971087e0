"""Find the loops in a long chain of scalars.

What a program of arrays cannot use, a long recurrence such as ``x = sin(x) * 1.1`` a hundred thousand
times, is a sequence that repeats itself: after ``period`` nodes come the same operations, on nodes that are
a constant number of places further. Such a stretch can be a loop, forward and backward.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microgrid.compiler.classes import VARIADIC
from microgrid.compiler.passes.lift import argument_number
from microgrid.compiler.program import PARAMETER, Program
from microgrid.ops import CONSTANT, Op

PERIODS = 64
_REPEATS = 8
_SEARCHED = 20
NODE, KNOWN, THETA, ARGUMENT = range(4)
"""What an operand is: a node, a constant, a parameter; ``ARGUMENT + k`` a number of argument k."""


@dataclass(slots=True)
class Tape:
    """Operations in order, leaves apart: operand ``j`` of operation ``i`` is number ``index[i, j]`` of a kind."""

    rows: list[Op] = field(default_factory=list)
    kinds: list[tuple[int, ...]] = field(default_factory=list)
    indices: list[tuple[int, ...]] = field(default_factory=list)
    constants: list[float] = field(default_factory=list)
    outputs: list[tuple[int, int]] = field(default_factory=list)

    def live(self) -> list[bool]:
        """For each operation, whether a gradient flows back to it from an output."""
        live = [False] * len(self.rows)
        for kind, index in self.outputs:
            if kind == NODE:
                live[index] = True
        for i in reversed(range(len(self.rows))):
            if live[i]:
                for j, (kind, index) in enumerate(zip(self.kinds[i], self.indices[i], strict=True)):
                    if kind == NODE and self.rows[i].connected[j]:
                        live[index] = True
        return live


@dataclass(slots=True)
class Stretch:
    """Operations ``start`` to ``start + period · repeats``; written out if it does not repeat."""

    start: int
    period: int
    repeats: int


@dataclass(slots=True)
class Rolled:
    """A program as stretches of operations, of which some repeat.

    Attributes:
        tape: its operations.
        stretches: all of them, in order.
        live: for each operation, whether a gradient flows back to it from an output.
    """

    tape: Tape
    stretches: list[Stretch]
    live: list[bool]

    @property
    def repeats(self) -> bool:
        """Whether loops make it much shorter, to a quarter at most."""
        return 4 * sum(stretch.period for stretch in self.stretches) <= len(self.tape.rows)


def roll(program: Program) -> Rolled:
    """Return a program as stretches of operations."""
    found = _tape(program)
    live = found.live()
    return Rolled(found, _stretches(found, live), live)


def _tape(program: Program) -> Tape:
    """Return a program without its leaves, its sums as additions of two."""
    result = Tape()
    place: list[tuple[int, int]] = []
    for row, arguments, data in program.nodes():
        if row is CONSTANT:
            place.append((KNOWN, len(result.constants)))
            result.constants.append(data)
        elif not arguments:
            place.append((THETA if row is PARAMETER else ARGUMENT + argument_number(row), int(data)))
        elif row in VARIADIC and len(arguments) == 1:
            place.append(place[arguments[0]])
        else:
            pair = VARIADIC.get(row)
            operands = [place[a] for a in arguments]
            steps = [operands]
            if pair is not None:
                steps = [operands[:2], *[[(NODE, -1), operand] for operand in operands[2:]]]
            for step in steps:
                mine = [(NODE, len(result.rows) - 1) if x == (NODE, -1) else x for x in step]
                result.rows.append(pair or row)
                result.kinds.append(tuple(kind for kind, _ in mine))
                result.indices.append(tuple(index for _, index in mine))
            place.append((NODE, len(result.rows) - 1))
    result.outputs = [place[output] for output in program.outputs]
    return result


def _stretches(tape: Tape, live: list[bool]) -> list[Stretch]:
    """Cut a tape where it begins and ceases to repeat itself, what flows back included."""
    known: dict[tuple[Any, ...], int] = {}
    keys = zip(tape.rows, tape.kinds, live, strict=True)
    forms = np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.intp)
    width = max(map(len, tape.indices), default=0)
    columns = zip(*[index + (0,) * (width - len(index)) for index in tape.indices], strict=True)
    indices = np.array([*columns], dtype=np.intp).reshape(width, len(forms))
    known_at = zip(*[kinds + (NODE,) * (width - len(kinds)) for kinds in tape.kinds], strict=True)
    constant = np.array([*known_at], dtype=np.intp).reshape(width, len(forms)) == KNOWN
    found: list[Stretch] = []
    waiting = [(0, len(forms))]
    searched = 0
    while waiting:
        start, end = waiting.pop()
        searched += end - start
        # Many short loops would be searched for again and again: the time must stay linear.
        best = (
            None
            if searched > _SEARCHED * len(forms)
            else _longest(forms[start:end], indices[:, start:end], constant[:, start:end])
        )
        if best is None:
            found.append(Stretch(start, end - start, 1))
            continue
        first, period, repeats = best
        found.append(Stretch(start + first, period, repeats))
        if first:
            waiting.append((start, start + first))
        if start + first + period * repeats < end:
            waiting.append((start + first + period * repeats, end))
    return sorted(found, key=lambda stretch: stretch.start)


def _longest(forms: NDArray[Any], indices: NDArray[Any], constant: NDArray[Any]) -> tuple[int, int, int] | None:
    """The longest stretch that repeats: its start, its period and how often."""
    best: tuple[int, int, int] | None = None
    for period in range(1, min(PERIODS, len(forms) // _REPEATS) + 1):
        if best is not None and len(forms) <= 1.1 * best[1] * best[2]:
            break
        same = forms[period:] == forms[:-period]
        others = np.flatnonzero(np.concatenate([[True], ~same, [True]]))
        if np.diff(others).max() <= (_REPEATS - 1) * period:
            continue
        step = indices[:, period:] - indices[:, :-period]
        same &= ~(constant[:, period:] & (step != 0)).any(axis=0)
        steady = same[period:] & same[:-period] & (step[:, period:] == step[:, :-period]).all(axis=0)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], steady.astype(np.int8), [0]])))
        if not len(edges):
            continue
        lengths = edges[1::2] - edges[::2]
        k = int(np.argmax(lengths))
        repeats = (int(lengths[k]) + 2 * period) // period
        if repeats >= _REPEATS and (best is None or period * repeats > 1.1 * best[1] * best[2]):
            best = int(edges[2 * k]), period, repeats
    return best
