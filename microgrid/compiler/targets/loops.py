"""Loops of plain Python floats, for long recurrences: the text, and the time to compile it, is that of one step."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from microgrid.compiler.ir import Argument, Elementwise, Operand
from microgrid.compiler.passes.builder import Builder
from microgrid.compiler.passes.differentiate import derivative, sent
from microgrid.compiler.passes.lift import instantiate
from microgrid.compiler.passes.roll import ARGUMENT, KNOWN, NODE, THETA, Stretch
from microgrid.compiler.passes.rules import BEFORE
from microgrid.compiler.stages import Stages
from microgrid.compiler.targets import python
from microgrid.compiler.targets.floats import Floats, Functions, OnFloats, Source
from microgrid.compiler.targets.python import number
from microgrid.compiler.task import Task
from microgrid.ops import Op

_SHORT, _LONG = 64, 2000
"""Floats of fewer nodes are written out, of more are written with loops; between, if loops make it much shorter."""


class Loops(Floats):
    """The target that takes single numbers, with a loop where they repeat what they do."""

    name = "loops"

    def suits(self, stages: Stages) -> str | None:
        """Return why not: it has arrays, or would hardly be shorter."""
        size = len(stages.program)
        if not stages.scalar or size > _LONG or (size > _SHORT and stages.rolled.repeats):
            return super().suits(stages)
        return f"its {size} nodes are few enough to be written out"

    def build(self, stages: Stages, task: Task) -> OnFloats:
        """Return the executable of a task."""
        return OnFloats(lambda careful: _Writer(stages, task, careful).source())


class _Writer:
    """The text of a program ``run(theta, seed, *arguments)`` of plain floats, with loops.

    It returns the outputs, and then the derivatives of their sum weighted by ``seed``.
    """

    def __init__(self, stages: Stages, task: Task, careful: bool) -> None:
        self.program, self.task = stages.program, task
        rolled = stages.rolled
        self.tape, self.stretches, self.live = rolled.tape, rolled.stretches, rolled.live
        self.seeded = task.takes_seed(stages.signature)
        self.functions = Functions(careful)
        arguments = [ARGUMENT + k for k in range(len(self.program.sizes))]
        self.wanted = {*[THETA] * task.by_parameters, *arguments * task.by_arguments}
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
                if kind != KNOWN:
                    weight = f"seed[{k}]" if self.seeded else "1.0"
                    self._add([f"{self._sink(kind, str(index))} += {weight}"])
            for stretch in reversed(self.stretches):
                self._add(self._backward(stretch))
            body += [f"part{k}({state})" for k in range(done, len(self.parts))]
        outputs = ", ".join(self._text(kind, str(index)) for kind, index in self.tape.outputs)
        results = [f"[{outputs}]"] * self.task.value
        results += [f"d{kind - THETA}" for kind in sorted(self.wanted)]
        text = []
        for k, part in enumerate(self.parts):
            text += [f"def part{k}({state}):", *["    " + line for line in part or ["pass"]], ""]
        text += [f"def run({arguments}):", *["    " + line for line in body], f"    return {' + '.join(results)}"]
        return Source("\n".join(text) + "\n", self.functions.names)

    def _add(self, lines: list[str]) -> None:
        """Add lines to the last part, or cut them in parts if they are too many; a loop stays whole."""
        step = len(lines) if any(line.startswith("for") for line in lines) else python.LINES
        for k in range(0, len(lines), step):
            if len(self.parts[-1]) + len(lines[k : k + step]) > python.LINES:
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
            if kind == NODE
        ]
        reads += [(len(loop_of), index) for kind, index in self.tape.outputs if kind == NODE]
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
            if kind == NODE
        )

    def _stride(self, loop: Stretch, phase: int, operand: int) -> int:
        first = loop.start + phase
        return self.tape.indices[first + loop.period][operand] - self.tape.indices[first][operand]

    def _local(self, loop: Stretch, phase: int, operand: int) -> int | None:
        """The phase of this step, or of the one before, that an operand is; None if it is neither."""
        first = loop.start + phase
        if self.tape.kinds[first][operand] != NODE or self._stride(loop, phase, operand) != loop.period:
            return None
        distance = first - self.tape.indices[first][operand]
        return (phase - distance) % loop.period if distance <= loop.period else None

    # -- text -----------------------------------------------------------------------------------------

    def _text(self, kind: int, index: str) -> str:
        """An operand: ``index`` is a number, or an expression of a loop's ``i``."""
        if kind == KNOWN:
            return number(self.tape.constants[int(index)])
        return f"{ {NODE: 'v', THETA: 'theta'}.get(kind) or f'x{kind - ARGUMENT}' }[{index}]"

    def _sink(self, kind: int, index: str) -> str:
        """Where the gradient of an operand is collected."""
        return f"g[{index}]" if kind == NODE else f"d{kind - THETA}[{index}]"

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
                if kind == NODE or kind in self.wanted:
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
        match x:
            case Argument():
                return texts[x.position]
            case Elementwise():
                inner = [self._expression(operand, texts) for operand in x.inputs]
                held = [
                    f"({text})" if isinstance(y, Elementwise) else text for y, text in zip(x.inputs, inner, strict=True)
                ]
                return self.functions.expression(x.op, held)
            case float():
                return number(x)
        raise TypeError(f"no text for {x.name}")


@lru_cache(maxsize=4096)
def _product(row: Op, operand: int) -> Operand | None:
    """The gradient times the local derivative by an operand, as a statement on (y, *xs, gradient)."""
    if not row.connected[operand]:
        return None
    partial = derivative(row, operand)
    build = Builder(BEFORE)
    *xs, gradient = [build.make(Argument, (), False, k) for k in range(row.arity + 2)]
    local: Operand
    if isinstance(partial, float):
        local = partial
    else:
        (local,) = instantiate(build, partial, lambda _, k: xs[k])
    return sent(build, row, gradient, local)
