"""Roll long chains of scalars up into loops of plain Python floats.

What a program of arrays cannot use, a long recurrence such as ``x = sin(x) * 1.1`` a hundred thousand
times, is a sequence that repeats itself: after ``period`` nodes come the same operations, on nodes that are
a constant number of places further. Such a stretch becomes a loop, forward and backward; the rest is written
out. So the text, and the time to compile it, is that of one step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microgrid import ops
from microgrid.compiler.arrays import Array, Arrays, Operand
from microgrid.compiler.classes import VARIADIC
from microgrid.compiler.differentiate import derivative
from microgrid.compiler.emit import LINES, Functions, Source, number
from microgrid.compiler.lift import argument_number, instantiate
from microgrid.compiler.program import PARAMETER, Program
from microgrid.ops import CONSTANT, Op

_PERIODS = 64
_REPEATS = 8
_SEARCHED = 20
_NODE, _CONSTANT, _PARAMETER, _ARGUMENT = range(4)
"""What an operand is: a node, a constant, a parameter; ``_ARGUMENT + k`` a number of argument k."""


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
            if kind == _NODE:
                live[index] = True
        for i in reversed(range(len(self.rows))):
            if live[i]:
                for j, (kind, index) in enumerate(zip(self.kinds[i], self.indices[i], strict=True)):
                    if kind == _NODE and self.rows[i].connected[j]:
                        live[index] = True
        return live


@dataclass(slots=True)
class Stretch:
    """Operations ``start`` to ``start + period · repeats``; written out if it does not repeat."""

    start: int
    period: int
    repeats: int


def tape(program: Program) -> Tape:
    """Return a program without its leaves, its sums as additions of two."""
    result = Tape()
    place: list[tuple[int, int]] = []
    for row, arguments, data in program.nodes():
        if row is CONSTANT:
            place.append((_CONSTANT, len(result.constants)))
            result.constants.append(data)
        elif not arguments:
            place.append((_PARAMETER if row is PARAMETER else _ARGUMENT + argument_number(row), int(data)))
        else:
            pair = VARIADIC.get(row)
            operands = [place[a] for a in arguments]
            steps = [operands]
            if pair is not None:
                steps = [operands[:2], *[[(_NODE, -1), operand] for operand in operands[2:]]]
            for step in steps:
                mine = [(_NODE, len(result.rows) - 1) if x == (_NODE, -1) else x for x in step]
                result.rows.append(pair or row)
                result.kinds.append(tuple(kind for kind, _ in mine))
                result.indices.append(tuple(index for _, index in mine))
            place.append((_NODE, len(result.rows) - 1))
    result.outputs = [place[output] for output in program.outputs]
    return result


def stretches(tape: Tape) -> list[Stretch]:
    """Cut a tape where it begins and ceases to repeat itself, what flows back included."""
    known: dict[tuple[Any, ...], int] = {}
    keys = zip(tape.rows, tape.kinds, tape.live(), strict=True)
    forms = np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int64)
    width = max(map(len, tape.indices), default=0)
    indices = np.array([index + (0,) * (width - len(index)) for index in tape.indices], dtype=np.int64)
    constant = np.array(
        [[kind == _CONSTANT for kind in kinds] + [False] * (width - len(kinds)) for kinds in tape.kinds]
    )
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
            else _longest(forms[start:end], indices[start:end], constant[start:end])
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


def repeats(program: Program) -> bool:
    """Whether loops make a program much shorter, to a quarter at most."""
    found = tape(program)
    return 4 * sum(stretch.period for stretch in stretches(found)) <= len(found.rows)


def _longest(forms: NDArray[Any], indices: NDArray[Any], constant: NDArray[Any]) -> tuple[int, int, int] | None:
    """The longest stretch that repeats: its start, its period and how often."""
    best: tuple[int, int, int] | None = None
    for period in range(1, min(_PERIODS, len(forms) // _REPEATS) + 1):
        same = forms[period:] == forms[:-period]
        step = indices[period:] - indices[:-period]
        same &= ~(constant[period:] & (step != 0)).any(axis=1)
        steady = same[period:] & same[:-period] & (step[period:] == step[:-period]).all(axis=1)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], steady.astype(np.int8), [0]])))
        if not len(edges):
            continue
        lengths = edges[1::2] - edges[::2]
        k = int(np.argmax(lengths))
        repeats = (int(lengths[k]) + 2 * period) // period
        if repeats >= _REPEATS and (best is None or period * repeats > 1.1 * best[1] * best[2]):
            best = int(edges[2 * k]), period, repeats
    return best


# ---------------------------------------------------------------------------------------------------
# Text


def loop_source(program: Program, by: str, careful: bool = False) -> Source:
    """Return a program ``run(theta, seed, *arguments)`` of plain floats, with loops.

    It returns the outputs, and then, by what ``by`` says, the derivatives of their sum weighted by ``seed``.
    """
    return _Loops(program, by, careful).source()


class _Loops:
    def __init__(self, program: Program, by: str, careful: bool) -> None:
        self.program = program
        self.tape = tape(program)
        self.stretches = stretches(self.tape)
        self.live = self.tape.live()
        self.functions = Functions(careful)
        arguments = {_ARGUMENT + k for k in range(len(program.sizes))}
        self.wanted = {"value": set(), "parameters": {_PARAMETER}, "arguments": arguments}.get(
            by, arguments | {_PARAMETER}
        )
        self.parts: list[list[str]] = [[]]

    def source(self) -> Source:
        sizes = self.program.sizes
        arguments = ", ".join(["theta", "seed", *[f"x{k}" for k in range(len(sizes))]])
        count = len(self.tape.rows)
        body = [f"v, g = [0.0] * {count}, [0.0] * {count if self.wanted else 0}"]
        body += [f"d{k} = [0.0] * {size}" for k, size in enumerate([self.program.parameters, *sizes])]
        state = ", ".join(["v, g", *[f"d{k}" for k in range(len(sizes) + 1)], arguments])
        needed = self._needed()
        for stretch in self.stretches:
            self._add(self._forward(stretch, needed))
        body += [f"part{k}({state})" for k in range(len(self.parts))]
        if self.wanted:
            done = len(self.parts)
            self.parts.append([])
            for k, (kind, index) in enumerate(self.tape.outputs):
                if kind != _CONSTANT:
                    weight = f"seed[{k}]" if len(self.tape.outputs) > 1 else "1.0"
                    self._add([f"{self._sink(kind, str(index))} += {weight}"])
            for stretch in reversed(self.stretches):
                self._add(self._backward(stretch))
            body += [f"part{k}({state})" for k in range(done, len(self.parts))]
        results = ["[" + ", ".join(self._text(kind, str(index)) for kind, index in self.tape.outputs) + "]"]
        results += [f"d{kind - _PARAMETER}" for kind in sorted(self.wanted)]
        text = []
        for k, part in enumerate(self.parts):
            text += [f"def part{k}({state}):", *["    " + line for line in part or ["pass"]], ""]
        text += [f"def run({arguments}):", *["    " + line for line in body], f"    return {' + '.join(results)}"]
        return Source("\n".join(text) + "\n", self.functions.names)

    def _add(self, lines: list[str]) -> None:
        """Add lines to the last part, or cut them in parts if they are too many; a loop stays whole."""
        step = len(lines) if any(line.startswith("for") for line in lines) else LINES
        for k in range(0, len(lines), step):
            if len(self.parts[-1]) + len(lines[k : k + step]) > LINES:
                self.parts.append([])
            self.parts[-1] += lines[k : k + step]

    def _needed(self) -> set[int]:
        """The starts of the loops whose numbers are read again, and so must be kept: all of them for a gradient."""
        loops = [stretch for stretch in self.stretches if stretch.repeats > 1]
        if self.wanted:
            return {loop.start for loop in loops}
        loop_of = np.full(len(self.tape.rows), -1)
        for k, loop in enumerate(loops):
            loop_of[loop.start : loop.start + loop.period * loop.repeats] = k
        needed: set[int] = set()
        reads = [
            (i, a)
            for i, (ks, xs) in enumerate(zip(self.tape.kinds, self.tape.indices, strict=True))
            for kind, a in zip(ks, xs, strict=True)
            if kind == _NODE
        ]
        reads += [(len(loop_of), index) for kind, index in self.tape.outputs if kind == _NODE]
        for i, a in reads:
            k = loop_of[a]
            if k < 0:
                continue
            loop = loops[k]
            inside = i < len(loop_of) and loop_of[i] == k
            if not (inside and self._carried(loop, i)) and (
                inside or a < loop.start + loop.period * (loop.repeats - 1)
            ):
                needed.add(loop.start)
        return needed

    def _carried(self, loop: Stretch, i: int) -> bool:
        """Whether all nodes that a node of a loop reads inside it are at hand in local names."""
        k = loop.start + (i - loop.start) % loop.period
        return all(
            self._local(loop, k - loop.start, j) is not None or index < loop.start
            for j, (kind, index) in enumerate(zip(self.tape.kinds[i], self.tape.indices[i], strict=True))
            if kind == _NODE
        )

    def _stride(self, loop: Stretch, phase: int, operand: int) -> int:
        first = loop.start + phase
        return self.tape.indices[first + loop.period][operand] - self.tape.indices[first][operand]

    def _local(self, loop: Stretch, phase: int, operand: int) -> int | None:
        """The phase of this step, or of the one before, that an operand is; None if it is neither."""
        first = loop.start + phase
        if self.tape.kinds[first][operand] != _NODE or self._stride(loop, phase, operand) != loop.period:
            return None
        distance = first - self.tape.indices[first][operand]
        return (phase - distance) % loop.period if distance <= loop.period else None

    # -- text -----------------------------------------------------------------------------------------

    def _text(self, kind: int, index: str) -> str:
        """An operand: ``index`` is a number, or an expression of a loop's ``i``."""
        if kind == _CONSTANT:
            return number(self.tape.constants[int(index)])
        return f"{ {_NODE: 'v', _PARAMETER: 'theta'}.get(kind) or f'x{kind - _ARGUMENT}' }[{index}]"

    def _sink(self, kind: int, index: str) -> str:
        """Where the gradient of an operand is collected."""
        return f"g[{index}]" if kind == _NODE else f"d{kind - _PARAMETER}[{index}]"

    def _index(self, loop: Stretch, phase: int, operand: int) -> str:
        """The index of an operand as an expression of ``i``, the first node of the step."""
        first = self.tape.indices[loop.start + phase][operand]
        stride = self._stride(loop, phase, operand)
        if not stride:
            return str(first)
        if stride == loop.period:
            return f"i + {first - loop.start}" if first >= loop.start else f"i - {loop.start - first}"
        return f"{first} + {stride} * ((i - {loop.start}) // {loop.period})"

    def _forward(self, stretch: Stretch, needed: set[int]) -> list[str]:
        start, period = stretch.start, stretch.period
        end = start + period * stretch.repeats
        if stretch.repeats == 1:
            lines = []
            for i in range(start, end):
                operands = zip(self.tape.kinds[i], self.tape.indices[i], strict=True)
                texts = [self._text(kind, str(index)) for kind, index in operands]
                lines.append(f"v[{i}] = {self.functions.expression(self.tape.rows[i], texts)}")
            return lines
        body, carried = [], set()
        for phase in range(period):
            texts = []
            for j, kind in enumerate(self.tape.kinds[start + phase]):
                local = self._local(stretch, phase, j)
                if local is None:
                    texts.append(self._text(kind, self._index(stretch, phase, j)))
                else:
                    texts.append(f"a{local}")
                    if local >= phase:
                        carried.add(local)
            body.append(f"a{phase} = {self.functions.expression(self.tape.rows[start + phase], texts)}")
            if start in needed:
                body.append(f"v[i + {phase}] = a{phase}")
        lines = [f"a{phase} = v[{start - period + phase}]" for phase in sorted(carried)]
        lines += [f"for i in range({start}, {end}, {period}):", *["    " + line for line in body]]
        if start not in needed:
            lines += [f"v[{end - period + phase}] = a{phase}" for phase in range(period)]
        return lines

    def _backward(self, stretch: Stretch) -> list[str]:
        start, period = stretch.start, stretch.period
        end = start + period * stretch.repeats
        loop = stretch.repeats > 1
        lines = []
        for phase in reversed(range(period)):
            i = start + phase
            if not self.live[i]:
                continue
            indices = [
                self._index(stretch, phase, j) if loop else str(index) for j, index in enumerate(self.tape.indices[i])
            ]
            texts = [self._text(kind, index) for kind, index in zip(self.tape.kinds[i], indices, strict=True)]
            here = f"i + {phase}" if loop else str(i)
            sent = []
            for j, (kind, index) in enumerate(zip(self.tape.kinds[i], indices, strict=True)):
                if kind == _NODE or kind in self.wanted:
                    gradient = "t" if loop else f"g[{here}]"
                    back = self._sent_back(self.tape.rows[i], j, [f"v[{here}]", *texts, gradient])
                    if back:
                        sent.append(f"{self._sink(kind, index)} += {back}")
            if sent and loop:
                lines.append(f"t = g[{here}]")
            lines += sent
        if not loop:
            return lines
        return [
            f"for i in range({end - period}, {start - 1}, -{period}):",
            *["    " + line for line in lines or ["pass"]],
        ]

    def _sent_back(self, row: Op, operand: int, texts: Sequence[str]) -> str:
        """What a row sends back to an operand, as an expression of (y, *xs, gradient); empty if nothing."""
        product = _product(row, operand)
        return "" if product is None else self._expression(product, texts)

    def _expression(self, x: Operand, texts: Sequence[str]) -> str:
        if not isinstance(x, Array):
            return number(x)
        if not isinstance(x.op, Op):
            return texts[int(x.detail)]
        inner = []
        for operand in x.operands:
            text = self._expression(operand, texts)
            inner.append(f"({text})" if isinstance(operand, Array) and isinstance(operand.op, Op) else text)
        return self.functions.expression(x.op, inner)


@lru_cache(maxsize=4096)
def _product(row: Op, operand: int) -> Operand | None:
    """The gradient times the local derivative by an operand, as a statement on its (y, *xs)."""
    if not row.connected[operand]:
        return None
    partial = derivative(row, operand)
    arrays = Arrays()
    gradient = arrays.make("local", (), (), False, -1)
    xs = [arrays.make("local", (), (), False, k) for k in range(row.arity + 1)]
    local: Operand
    if isinstance(partial, float):
        local = partial
    else:
        (local,) = instantiate(arrays, partial, lambda _, k: xs[k])
    return arrays.apply(ops.mul, gradient, local)
