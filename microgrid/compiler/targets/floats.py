"""Plain Python floats: for small functions of single numbers, where an array costs more than it saves."""

import builtins
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from microgrid import ops
from microgrid.compiler.ir import ArrayProgram, Elementwise, Leaf, Node, Operand, View
from microgrid.compiler.signature import Floats as Array
from microgrid.compiler.stages import Stages
from microgrid.compiler.targets import python
from microgrid.compiler.targets.python import Names, defined, number
from microgrid.compiler.targets.target import Plain
from microgrid.compiler.task import Task
from microgrid.ops import Op, expand


class Floats:
    """The target that takes single numbers, a statement for each."""

    name = "floats"
    stages = ("source",)

    def suits(self, stages: Stages) -> str | None:
        """Return why not: it has arrays."""
        if stages.signature.batched:
            return "its arguments have an axis over samples"
        return None if stages.unrolled else "it repeats itself: a statement on arrays does what many on numbers would"

    def build(self, stages: Stages, task: Task) -> "OnFloats":
        """Return the executable of a task."""
        program, count = stages.array_program(task).apart(), len(stages.signature.shapes)
        return OnFloats(lambda careful: _Writer(program, count, careful).source())


@dataclass(frozen=True, slots=True)
class Source:
    """A program ``run(theta, seed, *arguments)`` on lists of floats, which returns a list.

    Attributes:
        text: the program.
        objects: the functions that it names.
    """

    text: str
    objects: dict[str, Any]


class OnFloats(Plain):
    """A program on plain floats.

    Python's own operators and functions are used, which raise where IEEE 754 has inf or nan; the *careful* program,
    with the rows' forward functions, is for when they did.

    Args:
        write: returns the program, careful or not.
    """

    def __init__(self, write: Callable[[bool], Source]) -> None:
        self._write = write
        self._quick = write(False)
        self._lock = threading.Lock()
        self._runs: dict[bool, Callable[..., list[float]]] = {}

    def text(self, stage: str) -> str:
        """Return the program as text."""
        return self._quick.text

    def bind(self, size: int, theta: Array, seed: Array, outs: Sequence[Array]) -> Callable[[Sequence[Array]], None]:
        """Return a function of the arguments that reads and writes these arrays."""
        return lambda arguments: self.run(theta, seed, arguments, outs)

    def run(self, theta: Array, seed: Array, arguments: Sequence[Array], outs: Sequence[Array]) -> None:
        """Compute the outputs."""
        numbers = [theta.tolist(), seed.tolist(), *[x.tolist() for x in arguments]]
        try:
            found = self._defined(careful=False)(*numbers)
        except (ArithmeticError, ValueError):  # Python raised where IEEE 754 has inf or nan
            found = self._defined(careful=True)(*numbers)
        start = 0
        for out in outs:
            out[...] = found[start : start + out.size] if out.ndim else found[start]
            start += out.size

    def _defined(self, careful: bool) -> Callable[..., list[float]]:
        run = self._runs.get(careful)
        if run is None:
            with self._lock:
                source = self._write(True) if careful else self._quick
                code = builtins.compile(source.text, "<kernel>", "exec")
                run = self._runs[careful] = defined(code, {"inf": ops.inf, "nan": ops.nan, **source.objects})
        return run


# ---------------------------------------------------------------------------------------------------
# Text


class Functions:
    """The functions of plain floats that a program calls, under the names by which it calls them."""

    def __init__(self, careful: bool) -> None:
        self.careful = careful
        self.names: dict[str, Any] = {}
        self._known: dict[Op, str] = {}

    def expression(self, op: Op, texts: Sequence[str]) -> str:
        """Return a row of the table on operands: by Python's operators if it is made of them, else by a call."""
        if op not in self._known:
            self._known[op] = _arithmetic(op, self.careful) or self._function(op)
        return self._known[op].format(*texts)

    def _function(self, op: Op) -> str:
        """Return the call of a row's forward, as a template of its operands."""
        name = f"{re.sub('^(?=[0-9])|[^a-z0-9]', '_', op.name)}_"
        name += str(len(self.names)) * (name in self.names)
        self.names[name] = op.forward if self.careful else getattr(op.forward, "__wrapped__", op.forward)
        return f"{name}({', '.join(f'{{{i}}}' for i in range(op.arity))})"


_Text = tuple[str, int]
_SUM, _PRODUCT, _PREFIX, _ATOM = range(4)
_STRENGTHS = {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "//": _PRODUCT, "%": _PRODUCT}
"""How tightly Python's operators hold: an operand that holds less tightly stands in parentheses."""


def _arithmetic(op: Op, careful: bool) -> str:
    """Return a row as Python's arithmetic, a template of its operands; empty if it is more than that.

    Division raises where IEEE 754 has inf or nan, so what is ``careful`` does without.
    """
    try:
        return _held(_in_operators(op, [(f"{{{i}}}", _ATOM) for i in range(op.arity)], careful=careful), _SUM)
    except LookupError:
        return ""


def _in_operators(op: Op, operands: Sequence[_Text | float], careful: bool) -> _Text:
    strength = _STRENGTHS.get(op.operator)
    if strength is not None and not (careful and op.operator in ("/", "//", "%")):
        if op.arity == 1:
            return op.operator + _held(operands[0], _PREFIX), _PREFIX
        first, *others = operands
        return f" {op.operator} ".join([_held(first, strength), *[_held(x, strength + 1) for x in others]]), strength
    if op.expansion is None:
        raise LookupError
    result: _Text = expand(op, partial(_in_operators, careful=careful), operands)
    return result


def _held(operand: _Text | float, strength: int) -> str:
    text, own = operand if isinstance(operand, tuple) else (number(operand), _ATOM)
    return text if own >= strength else f"({text})"


class _Writer:
    def __init__(self, program: ArrayProgram, count: int, careful: bool) -> None:
        self.outputs = program.outputs
        self.arguments = ", ".join(["theta", "seed", *[f"x{k}" for k in range(count)]])
        self.names = Names(program.nodes)
        self.functions = Functions(careful)
        self.lines: list[tuple[str, str, list[str]]] = []  # name, expression, names used
        self.loaded: dict[tuple[int, int], str] = {}
        for x in program.nodes:
            if isinstance(x, Elementwise):
                texts = [self._text(operand) for operand in x.inputs]
                used = [t for t, operand in zip(texts, x.inputs, strict=True) if isinstance(operand, Node)]
                self.lines.append((self.names.of[x.number], self.functions.expression(x.op, texts), used))

    def _text(self, x: Operand) -> str:
        match x:
            case float():
                return number(x)
            case View() if isinstance(x.source, Leaf):
                return self._loaded(x.source, x.map.base)
            case View():
                return self._text(x.source)
            case Leaf():
                return self._loaded(x, 0)
            case _:
                return self.names.of[x.number]

    def _loaded(self, source: Node, k: int) -> str:
        key = (source.number, k)
        if key not in self.loaded:
            base = self.names.of[source.number]
            self.loaded[key] = f"{base}_{k}"
            self.lines.append((self.loaded[key], f"{base}[{k}]", []))
        return self.loaded[key]

    def source(self) -> Source:
        results = [self._text(x) for x in self.outputs]
        if len(self.lines) > python.LINES:
            return self._in_parts(results)
        body = [f"{name} = {expression}" for name, expression, _ in self.lines]
        text = [f"def run({self.arguments}):", *[f"    {line}" for line in body], f"    return [{', '.join(results)}]"]
        return Source("\n".join(text) + "\n", self.functions.names)

    def _in_parts(self, results: list[str]) -> Source:
        """Cut a long program in functions, which leave in a dictionary what later ones need."""
        part_of = {name: k // python.LINES for k, (name, _, _) in enumerate(self.lines)}
        count = (len(self.lines) - 1) // python.LINES + 1
        reads: list[set[str]] = [set() for _ in range(count + 1)]
        writes: list[set[str]] = [set() for _ in range(count + 1)]
        users = [(part_of[name], used) for name, _, used in self.lines]
        users.append((count, [text for text, x in zip(results, self.outputs, strict=True) if isinstance(x, Node)]))
        for part, used in users:
            for name in used:
                if part_of[name] != part:
                    reads[part].add(name)
                    writes[part_of[name]].add(name)
        text = []
        for k in range(count):
            mine = self.lines[k * python.LINES : (k + 1) * python.LINES]
            body = [f"{name} = m[{name!r}]" for name in sorted(reads[k])]
            body += [f"{name} = {expression}" for name, expression, _ in mine]
            body += [f"m[{name!r}] = {name}" for name in sorted(writes[k])]
            text += [f"def part{k}(m, {self.arguments}):", *[f"    {line}" for line in body], ""]
        last = ", ".join(f"m[{t!r}]" if t in reads[count] else t for t in results)
        calls = [f"    part{k}(m, {self.arguments})" for k in range(count)]
        text += [f"def run({self.arguments}):", "    m = {}", *calls, f"    return [{last}]"]
        return Source("\n".join(text) + "\n", self.functions.names)
