"""Emit an array program as text that a person can read and Python can run.

There are three dialects. ``numpy_source`` makes buffers and views once for a batch size and writes every
result where it will be needed. ``functional_source`` writes the same statements without side effects, for
``jax.numpy``. ``scalar_source`` writes plain Python floats, for small programs and for those that are one
long chain.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from microgrid import ops
from microgrid.compiler import special
from microgrid.compiler.arrays import MASKS, NUMBER, Array, Arrays, Map, Operand, Shape, reachable, source_of
from microgrid.ops import Op, expand

LINES = 2000
"""A function of more lines is cut in parts: Python compiles giant functions slowly."""


@dataclass(slots=True)
class Source:
    """A program as text, with the objects that its text names.

    Attributes:
        text: the program.
        names: arrays and functions that the text refers to.
        resident: how many numbers per sample its buffers hold.
        direct: the outputs that may be another array in each run, with one number per sample.
    """

    text: str
    names: dict[str, Any] = field(default_factory=dict)
    resident: int = 0
    direct: frozenset[int] = frozenset()


def number(x: float) -> str:
    """Return a number as Python text; ``inf`` and ``nan`` are names that every program knows."""
    return repr(x) if x >= 0 else f"({x!r})"


class _Names:
    """What both array dialects share: the names of arrays, views, constants and functions."""

    def __init__(self, outputs: Sequence[Operand]) -> None:
        self.outputs = outputs
        self.live = reachable(outputs)
        self.names: dict[str, Any] = {}
        self.name: dict[int, str] = {}
        counter = 0
        for x in self.live:
            if x.op == "argument":
                self.name[x.number] = f"x{x.detail}"
            elif x.op == "parameters":
                self.name[x.number] = "theta"
            elif x.op in ("weight", "count"):
                self.name[x.number] = str(x.op)
            elif x.op == "seed":
                self.name[x.number] = "seed"
            elif x.op == "constant":
                self.name[x.number] = self.keep("constant", x.detail.values)
            elif x.op != "view":
                counter += 1
                self.name[x.number] = f"v{counter}"

    def keep(self, kind: str, value: Any) -> str:
        """Return a name under which the text finds an object."""
        name = f"{kind}{sum(key.startswith(kind) for key in self.names) + 1}"
        self.names[name] = value
        return name

    def function(self, op: Op) -> str:
        """Return the name of a row's forward, mapped over arrays."""
        for name, value in self.names.items():
            if value is op:
                return name
        return self.keep("mapped", op)


def _call(name: str, op: Op, operands: Sequence[str], out: str = "") -> str:
    """Write a call of a row's function on arrays: of the constants of its recipe, then of its operands."""
    constants = op.recipe[1] if op.recipe is not None else ()
    return f"{name}({', '.join([*map(number, constants), *operands, *[out] * bool(out)])})"


def _infix(op: Op, operands: Sequence[str]) -> str:
    return op.operator + operands[0] if op.arity == 1 else f" {op.operator} ".join(operands)


def expanded(
    outputs: Sequence[Operand], knows: Callable[[Op], bool], differentiated: bool = False
) -> Sequence[Operand]:
    """Return outputs whose rows a target knows: the others are expanded in rows that it does, where they can be.

    Args:
        outputs: what a program computes.
        knows: whether the target can compute a row.
        differentiated: whether JAX may differentiate the program again.
    """
    live = reachable(outputs)
    if all(isinstance(x.op, str) or x.op.expansion is None or knows(x.op) for x in live):
        return outputs
    arrays = Arrays(last=True, differentiated=differentiated)
    new: dict[int, Operand] = {}
    for x in live:
        operands = tuple(new[operand.number] if isinstance(operand, Array) else operand for operand in x.operands)
        if not isinstance(x.op, str) and x.op.expansion is not None and not knows(x.op):
            result = _in_known_rows(arrays, knows, x.op, operands)
            if isinstance(result, Array) and (result.shape, result.batched) == (x.shape, x.batched):
                new[x.number] = arrays.apply(NUMBER, result)
                continue
        new[x.number] = arrays.make(x.op, operands, x.shape, x.batched, x.detail)
    return [new[x.number] if isinstance(x, Array) else x for x in outputs]


def _in_known_rows(arrays: Arrays, knows: Callable[[Op], bool], op: Op, operands: Sequence[Operand]) -> Operand:
    if op.expansion is None or knows(op) or not any(isinstance(x, Array) for x in operands):
        return arrays.apply(op, *operands)
    result: Operand = expand(op, partial(_in_known_rows, arrays, knows), operands)
    return result


# ---------------------------------------------------------------------------------------------------
# NumPy, with buffers


def numpy_source(outputs: Sequence[Operand], shapes: Sequence[tuple[Shape, bool]]) -> Source:
    """Return a program that binds buffers, and ``run(*arguments)`` that fills ``out0``, ``out1``, ….

    The names ``theta``, ``seed``, ``out0``, … (arrays), ``B`` (the batch size), ``weight``, ``count`` and
    ``dtype`` must be there when it is executed.

    Args:
        outputs: the arrays to compute.
        shapes: the shape of each output and whether it is batched.
    """
    return _NumPy(expanded(outputs, _numpy_knows), shapes).source()


def _numpy_knows(op: Op) -> bool:
    return bool(op.array or op.operator or special.numpy_name(op.ufunc))


class _NumPy(_Names):
    def __init__(self, outputs: Sequence[Operand], shapes: Sequence[tuple[Shape, bool]]) -> None:
        super().__init__(outputs)
        self.bound: list[str] = []
        self.prologue: list[str] = []
        self.lines: list[str] = []
        self.views: dict[Any, str] = {}
        self.run_time = {x.number for x in self.live if x.op == "argument"}
        uses: dict[int, int] = {}
        for x in self.live:
            for operand in x.arrays():
                uses[operand.number] = uses.get(operand.number, 0) + 1
        self.uses = uses
        self.target: dict[int, str] = {}
        self.direct: set[int] = set()
        written: set[int] = set()  # outputs that are computed where they must be
        for k, (output, form) in enumerate(zip(outputs, shapes, strict=True)):
            root = _unfolded(output)
            if not isinstance(root, Array) or not self._computed(root) or root.number in self.target:
                continue
            if (root.size, root.batched) == (math.prod(form[0]), form[1]):
                reshaped = "" if root.shape == form[0] else f".reshape({self._sizes(root)})"
                self.target[root.number] = f"out{k}{reshaped}"
                written.add(k)
                if root.batched and root.size == 1 and root.op != "scatter":  # its pieces are views, bound once
                    self.direct.add(k)
                    self.run_time.add(root.number)
        self.buffered: set[int] = set()
        for statement in reversed(self.live):
            self._place(statement)
        self._share_buffers()
        for statement in self.live:
            self._state(statement)
        for k, (output, (_, batched)) in enumerate(zip(outputs, shapes, strict=True)):
            if k not in written:
                self.lines.append(f"out{k}[...] = {self.operand(output, batched)}")

    @staticmethod
    def _computed(x: Array) -> bool:
        return x.op not in (
            "argument",
            "parameters",
            "weight",
            "count",
            "seed",
            "constant",
            "view",
        )

    def source(self) -> Source:
        parts = [self.lines[k : k + LINES] for k in range(0, len(self.lines), LINES)] or [[]]
        text = ["# Made once for a batch of B samples: buffers and views.", *self.bound, ""]
        count_of_arguments = 1 + max((x.detail for x in self.live if x.op == "argument"), default=-1)
        arguments = ", ".join(f"X{k}" for k in range(count_of_arguments))  # unused ones among them keep the order
        if len(parts) == 1:
            body = [*self.prologue, *parts[0]] or ["pass"]
            text += [f"def run({arguments + ', ' if arguments else ''}*_):", *["    " + line for line in body]]
        else:
            views = [name for line in self.prologue for name, equals, _ in (line.partition(" = "),) if equals]
            for k, part in enumerate(parts):
                text += [f"def part{k}():", *["    " + line for line in part], ""]
            text += [f"def run({arguments + ', ' if arguments else ''}*_):"]
            text += [f"    global {', '.join(views)}"] * bool(views)
            text += ["    " + line for line in self.prologue]
            text += [f"    part{k}()" for k in range(len(parts))]
        return Source("\n".join(text) + "\n", self.names, self.resident, frozenset(self.direct))

    # -- where arrays live ----------------------------------------------------------------------------

    def _place(self, x: Array) -> None:
        """Decide where an array is stored, from the last to the first: a scatter says it to its pieces."""
        if not self._computed(x):
            return
        if x.number not in self.target:
            self.target[x.number] = self.name[x.number]
            if x.op == "scatter":  # what no piece reaches stays 0
                self.bound.append(f"{self.name[x.number]} = zeros({self._sizes(x)}, dtype)")
            else:
                self.buffered.add(x.number)
        elif self.target[x.number].startswith("out"):
            place = self.prologue if x.number in self.run_time else self.bound
            place.append(f"{self.name[x.number]} = {self.target[x.number]}")
        if x.op == "scatter":
            for value, piece in zip(x.operands, x.detail.pieces, strict=True):
                if (
                    isinstance(value, Array)
                    and self._computed(value)
                    and not piece.adds
                    and piece.map.regular
                    and value.op != "scatter"
                    and value.op not in MASKS
                    and self.uses[value.number] == 1
                    and value.batched == x.batched
                    and value.number not in self.target
                ):
                    self.target[value.number] = f"{self.name[x.number]}[piece]"
                    self.bound.append(self._view_line(self.name[value.number], x, piece.map))

    @staticmethod
    def _sizes(x: Array) -> str:
        sizes = [*map(str, x.shape), *["B"] * x.batched]
        return "(" + ", ".join(sizes) + ("," if len(sizes) == 1 else "") + ")"

    def _share_buffers(self) -> None:
        """Give each array a buffer; the buffer of an array that is not used any more goes to a later one.

        So a program touches little memory, which stays in the processor's cache.
        """
        last: dict[int, int] = {}
        for i, x in enumerate(self.live):
            for operand in x.arrays():
                if x.op != "view":
                    last[source_of(operand).number] = i
        for output in self.outputs:
            if isinstance(output, Array):
                last[source_of(output).number] = len(self.live)
        ending: dict[int, list[Array]] = {}
        for x in self.live:
            if x.number in self.buffered:
                ending.setdefault(last.get(x.number, len(self.live)), []).append(x)
        free: dict[Any, list[Array]] = {}
        sharing: dict[int, list[str]] = {}
        buffers: list[tuple[list[str], str]] = []
        self.resident = sum(x.size for x in self.live if x.op == "scatter" and x.batched)
        self.resident += sum(x.size for x in self.outputs if isinstance(x, Array) and x.batched)
        for i, x in enumerate(self.live):
            done = ending.get(i, [])
            early = [y for y in done if self._computed_in_place(x) and _form(y) == _form(x) and _read_in_place(x, y)]
            for y in early:
                free.setdefault(_form(y), []).append(y)
            if x.number in self.buffered:
                name, spare = self.name[x.number], free.get(_form(x))
                old = spare.pop() if spare else None
                if old is not None and old.shape == x.shape:
                    sharing[x.number] = sharing[old.number]
                    sharing[x.number].append(name)
                else:
                    sharing[x.number] = [name]
                    kind = "bool" if x.op in MASKS else "dtype"
                    made = f"empty({self._sizes(x)}, {kind})"
                    buffers.append(
                        (sharing[x.number], f"{self.name[old.number]}.reshape({self._sizes(x)})" if old else made)
                    )
                    self.resident += 0 if old else x.size * x.batched
            for y in done:
                if y not in early:
                    free.setdefault(_form(y), []).append(y)
        self.bound += [" = ".join([*names, made]) for names, made in buffers]

    @staticmethod
    def _computed_in_place(x: Array) -> bool:
        """Whether each number depends on the numbers at its own place alone, and is written after they are read."""
        if not isinstance(x.op, Op):
            return False
        return not x.op.array and special.is_ufunc(special.numpy_name(x.op.ufunc))

    def _view_line(self, name: str, source: Array, index: Map) -> str:
        batch = ", B" if source.batched else ""
        return f"{name} = view({self.name[source.number]}, {index.base}, {index.shape}, {index.strides}{batch})"

    # -- operands -------------------------------------------------------------------------------------

    def operand(self, x: Operand, batched: bool) -> str:
        """Return the text of an operand of a statement that is batched or not."""
        if not isinstance(x, Array):
            return number(x)
        name = self._named(x)
        if batched and not x.batched and x.shape:
            key = (name, "column")
            if key not in self.views:
                self.views[key] = f"{name}_"
                self._define(x, f"{name}_ = {name}[..., None]")
            return self.views[key]
        return name

    def _define(self, x: Array, line: str) -> None:
        source = x.operands[0] if x.op == "view" else x
        (self.prologue if source.number in self.run_time else self.bound).append(line)  # type: ignore[union-attr]

    def _named(self, x: Array) -> str:
        if x.op == "argument":
            key: Any = ("argument", x.number)
            if key not in self.views:
                self.views[key] = self.name[x.number]
                self.prologue.append(f"x{x.detail} = X{x.detail}" + (".T" if x.batched else ""))
            return self.views[key]
        if x.op != "view":
            return self.name[x.number]
        source, index = x.operands[0], x.detail
        assert isinstance(source, Array)
        key = (source.number, index)
        if key in self.views:
            return self.views[key]
        base = self.name[source.number]
        name = f"{base}_{sum(k[0] == source.number for k in self.views if isinstance(k[0], int)) + 1}"
        self.views[key] = name
        if not index.regular:
            table = self.keep("table", index.table)
            self.bound.append(
                f"{name} = empty(({', '.join([*map_text(index.shape), *['B'] * source.batched])},), dtype)"
            )
            flat = base
            if source.op == "argument":
                flat = f"X{source.detail}" + (".T" if source.batched else "")
            elif len(source.shape) != 1:
                flat = f"{base}.reshape({source.size}{', B' if source.batched else ''})"
            line = f"take({flat}, {table}, 0, {name}, 'clip')"
            (self.prologue if source.op == "argument" else self.lines).append(line)
        elif source.op == "argument":
            self.prologue.append(f"{name} = {self._argument_view(source, index)}")
        else:
            self._define(x, self._view_line(name, source, index))
        return name

    def _argument_view(self, source: Array, index: Map) -> str:
        text, size = f"X{source.detail}", source.size
        rows = ":, " if source.batched else ""
        if not index.shape:
            return f"{text}[{rows}{index.base}]"
        if len(index.shape) == 1 and index.strides[0] > 0:
            step, stop = index.strides[0], index.base + index.strides[0] * (index.shape[0] - 1) + 1
            return f"{text}[{rows}{index.base}:{stop}{f':{step}' if step > 1 else ''}]" + (
                ".T" if source.batched else ""
            )
        shape = ", ".join([*map_text(index.shape), *["B"] * source.batched])
        strides = ", ".join([*[f"{s} * I" for s in index.strides], *[f"{size} * I"] * source.batched])
        return f"ndarray(({shape},), dtype, {text}, {index.base} * I, ({strides},))"

    # -- statements -----------------------------------------------------------------------------------

    def _state(self, x: Array) -> None:
        if not self._computed(x):
            return
        out = self.name[x.number]
        if isinstance(x.op, Op):
            self.lines.append(self._elementwise(x, x.op, out))
        elif x.op in ("sum", "largest", "smallest"):
            self._reduction(x, out)
        elif x.op == "contract":
            self.lines.append(self._contraction(x, out))
        elif x.op == "segment_sum":
            starts = self.keep("starts", x.detail.values)
            self.lines.append(f"add.reduceat({self.operand(x.operands[0], x.batched)}, {starts}, 0, None, {out})")
        else:
            self._scatter(x, out)

    def _elementwise(self, x: Array, op: Op, out: str) -> str:
        texts = [self.operand(operand, x.batched) for operand in x.operands]
        if op is NUMBER:
            return f"multiply({texts[0]}, 1.0, {out})"
        if op.array:
            return f"{out}[...] = {ops.spell(op, 'array', *texts)}"
        name = special.numpy_name(op.ufunc)
        if not name:
            text = _infix(op, texts) if op.operator else f"{self.function(op)}({', '.join(texts)})"
            return f"{out}[...] = {text}"
        return _call(name, op, texts, out if op.operator else f"out={out}")

    def _reduction(self, x: Array, out: str) -> None:
        (source,), (axes, batch) = x.arrays(), x.detail
        text = self.operand(source, source.batched)
        if batch:
            axes = (*axes, len(source.shape))
        function = {"sum": "add", "largest": "maximum", "smallest": "minimum"}[str(x.op)]
        rank = len(source.shape) + source.batched
        if x.op == "sum" and rank == 2 and axes in ((0,), (1,)):
            # A product with ones is several times faster than a reduction of a small array.
            size = "B" if batch else str(source.shape[axes[0]])
            ones = f"ones_{size}"
            if ("ones", size) not in self.views:
                self.views["ones", size] = ones
                self.bound.append(f"{ones} = ones({size}, dtype)")
            pair = f"{ones}, {text}" if axes == (0,) else f"{text}, {ones}"
            self.lines.append(f"matmul({pair}, {out})")
            return
        axis = "None" if len(axes) == rank else repr(axes[0] if len(axes) == 1 else tuple(axes))
        self.lines.append(f"{function}.reduce({text}, {axis}, None, {out})")

    def _contraction(self, x: Array, out: str) -> str:
        a, b = x.arrays()
        left, right, result = x.detail
        names = {id(v): self.operand(v, v.batched) for v in (a, b)}
        product = _matrix_product(left, right, result)
        if product is None:
            return f"einsum('{left},{right}->{result}', {names[id(a)]}, {names[id(b)]}, out={out})"
        swapped, transpose_a, transpose_b = product
        first, second = (b, a) if swapped else (a, b)
        texts = [
            self._transposed(v, names[id(v)]) if turn else names[id(v)]
            for v, turn in ((first, transpose_a), (second, transpose_b))
        ]
        return f"matmul({texts[0]}, {texts[1]}, {out})"

    def _transposed(self, x: Array, name: str) -> str:
        key = (name, "T")
        if key not in self.views:
            self.views[key] = f"{name}_T"
            self._define(x, f"{name}_T = {name}.T")
        return self.views[key]

    def _scatter(self, x: Array, out: str) -> None:
        batch = ", B" if x.batched else ""
        flat = f"{out}.reshape({x.size}{batch})" if len(x.shape) != 1 else out
        if x.detail.zeros is not None:
            self.lines.append(f"{flat}[{self._points(x.detail.zeros)}] = 0.0")
        for value, piece in zip(x.operands, x.detail.pieces, strict=True):
            if isinstance(value, Array) and self.target.get(value.number) == f"{out}[piece]":
                continue
            text = self.operand(value, x.batched)
            if not piece.map.regular:
                points = self.keep("table", piece.map.table)
                self.lines.append(f"{flat}[{points}] {'+=' if piece.adds else '='} {text}")
                continue
            key = (x.number, piece.map)
            if key not in self.views:
                self.views[key] = f"{out}_{sum(k[0] == x.number for k in self.views if isinstance(k[0], int)) + 1}"
                self.bound.append(self._view_line(self.views[key], x, piece.map))
            place = self.views[key]
            self.lines.append(f"add({place}, {text}, {place})" if piece.adds else f"{place}[...] = {text}")

    def _points(self, index: Map) -> str:
        if index.regular and len(index.shape) == 1 and index.strides[0] >= 0:
            stop = index.base + index.strides[0] * (index.shape[0] - 1) + 1
            return f"{index.base}:{stop}:{index.strides[0] or 1}"
        return self.keep("table", index.points())


def _unfolded(x: Operand) -> Operand:
    """The array whose members a view reads all, each once and in order; anything else as it is."""
    if isinstance(x, Array) and x.op == "view" and x.detail == Map.whole(x.shape):
        (source,) = x.arrays()
        return source if source.size == x.size else x
    return x


def _read_in_place(x: Array, y: Array) -> bool:
    """Whether ``x`` reads ``y`` itself, not through a view."""
    return all(operand is y for operand in x.arrays() if source_of(operand) is y)


def _form(x: Array) -> tuple[int, bool, bool]:
    """What two arrays must have in common to use one buffer in turn."""
    return x.size, x.batched, x.op in MASKS


def map_text(shape: Shape) -> list[str]:
    """Return the sizes of a shape as text."""
    return [str(size) for size in shape]


def _matrix_product(left: str, right: str, result: str) -> tuple[bool, bool, bool] | None:
    """Return how a contraction is a product of two matrices: whether swapped, and which are transposed."""
    shared = set(left) & set(right)
    if len(shared) != 1 or set(left) ^ set(right) != set(result) or max(len(left), len(right)) > 2:
        return None
    (k,) = shared
    swapped = left.replace(k, "") + right.replace(k, "") != result
    if swapped:
        left, right = right, left
    return swapped, len(left) == 2 and left[0] == k, len(right) == 2 and right[1] == k


# ---------------------------------------------------------------------------------------------------
# Pure functions, for jax.numpy


def functional_source(outputs: Sequence[Operand]) -> Source:
    """Return a program ``run(theta, weight, count, seed, *arguments)`` without side effects."""
    return _Functional(expanded(outputs, _jax_knows, differentiated=True)).source()


def _jax_knows(op: Op) -> bool:
    return bool(op.array or op is ops.stop_gradient or op.operator or special.jax_name(op.ufunc))


class _Functional(_Names):
    def __init__(self, outputs: Sequence[Operand]) -> None:
        super().__init__(outputs)
        self.lines: list[str] = []
        self.views: dict[tuple[int, Map], str] = {}
        for x in self.live:
            if x.op not in ("argument", "parameters", "weight", "count", "seed", "constant", "view"):
                self.lines.append(f"{self.name[x.number]} = {self._expression(x)}")

    def source(self) -> Source:
        results = ", ".join(self._operand(x, False) for x in self.outputs)
        found = sorted(f"x{x.detail}" for x in self.live if x.op == "argument")
        head = ["def run(theta, weight, count, seed, B, *X):", *[f"    {x} = X[{x[1:]}]" for x in found]]
        return Source(
            "\n".join([*head, *["    " + line for line in self.lines], f"    return ({results},)"]) + "\n", self.names
        )

    def _operand(self, x: Operand, batched: bool) -> str:
        if not isinstance(x, Array):
            return number(x)
        name = self.name.get(x.number) or self._view(x)
        return f"{name}[..., None]" if batched and not x.batched and x.shape else name

    def _view(self, x: Array) -> str:
        source, index = x.operands[0], x.detail
        assert isinstance(source, Array)
        key = (source.number, index)
        if key not in self.views:
            base = self.name[source.number]
            self.views[key] = f"{base}_{sum(k[0] == source.number for k in self.views) + 1}"
            self.lines.append(
                f"{self.views[key]} = view({base}, {self._where(index)}{', B' if source.batched else ''})"
            )
        return self.views[key]

    def _where(self, index: Map) -> str:
        if index.regular:
            return f"{index.base}, {index.shape}, {index.strides}"
        return f"{self.keep('table', index.table)}, {index.shape}, None"

    def _expression(self, x: Array) -> str:
        texts = [self._operand(operand, x.batched) for operand in x.operands]
        if x.op is ops.stop_gradient:
            return f"stop_gradient({texts[0]})"
        if isinstance(x.op, Op):
            return self._elementwise(x.op, texts)
        if x.op == "contract":
            a, b = (self._operand(operand, False) for operand in x.operands)
            return f"xp.einsum('{x.detail[0]},{x.detail[1]}->{x.detail[2]}', {a}, {b})"
        if x.op == "scatter":
            pieces = ", ".join(
                f"({self._where(piece.map)}, {text})" for piece, text in zip(x.detail.pieces, texts, strict=True)
            )
            return f"scatter({x.shape}, [{pieces}]{', B' if x.batched else ''})"
        source = x.operands[0]
        assert isinstance(source, Array)
        text = self._operand(source, False)
        if x.op == "segment_sum":
            return f"segment_sum({text}, {self.keep('starts', x.detail.values)})"
        axes, batch = x.detail
        axes = (*axes, len(source.shape)) if batch else axes
        return f"xp.{ {'sum': 'sum', 'largest': 'max', 'smallest': 'min'}[str(x.op)] }({text}, axis={tuple(axes)})"

    def _elementwise(self, op: Op, texts: Sequence[str]) -> str:
        if op.array:
            return ops.spell(op, "array", *texts)
        if op.operator:
            return _infix(op, texts)
        name = special.jax_name(op.ufunc)
        return _call(name, op, texts) if name else f"{self.function(op)}({', '.join(texts)})"


# ---------------------------------------------------------------------------------------------------
# Plain Python floats


def scalar_source(outputs: Sequence[Operand], careful: bool = False) -> Source:
    """Return a program ``run(theta, seed, *arguments)`` on lists of floats, when every statement is one number.

    Python's own operators and functions are used, which raise where IEEE 754 has inf or nan; the
    ``careful`` program, with the rows' forward functions, is for when they did.
    """
    return _Scalar(outputs, careful).source()


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


class _Scalar(_Names):
    def __init__(self, outputs: Sequence[Operand], careful: bool) -> None:
        super().__init__(outputs)
        self.functions = Functions(careful)
        self.lines: list[tuple[str, str, list[str]]] = []  # name, expression, names used
        self.loaded: dict[tuple[int, int], str] = {}
        for x in self.live:
            if isinstance(x.op, Op):
                texts = [self._text(operand) for operand in x.operands]
                used = [t for t, operand in zip(texts, x.operands, strict=True) if isinstance(operand, Array)]
                self.lines.append((self.name[x.number], self.functions.expression(x.op, texts), used))

    def _text(self, x: Operand) -> str:
        if not isinstance(x, Array):
            return number(x)
        if x.op != "view":
            return self.name[x.number]
        source, base = x.operands[0], x.detail.base
        assert isinstance(source, Array)
        key = (source.number, base)
        if key not in self.loaded:
            self.loaded[key] = f"{self.name[source.number]}_{base}"
            self.lines.append((self.loaded[key], f"{self.name[source.number]}[{base}]", []))
        return self.loaded[key]

    def source(self) -> Source:
        results = [self._text(x) for x in self.outputs]
        head = sorted({f"x{x.detail}" for x in self.live if x.op == "argument"})
        arguments = ", ".join(["theta", "seed", *head])
        if len(self.lines) <= LINES:
            body = [f"{name} = {expression}" for name, expression, _ in self.lines]
            text = [f"def run({arguments}):", *[f"    {line}" for line in body], f"    return [{', '.join(results)}]"]
            return Source("\n".join(text) + "\n", self.functions.names)
        return self._in_parts(arguments, results)

    def _in_parts(self, arguments: str, results: list[str]) -> Source:
        """Cut a long program in functions, which leave in a dictionary what later ones need."""
        part_of = {name: k // LINES for k, (name, _, _) in enumerate(self.lines)}
        count = (len(self.lines) - 1) // LINES + 1
        reads: list[set[str]] = [set() for _ in range(count + 1)]
        writes: list[set[str]] = [set() for _ in range(count + 1)]
        users = [(part_of[name], used) for name, _, used in self.lines]
        users.append((count, [text for text, x in zip(results, self.outputs, strict=True) if isinstance(x, Array)]))
        for part, used in users:
            for name in used:
                if part_of[name] != part:
                    reads[part].add(name)
                    writes[part_of[name]].add(name)
        text = []
        for k in range(count):
            body = [f"{name} = m[{name!r}]" for name in sorted(reads[k])]
            body += [f"{name} = {expression}" for name, expression, _ in self.lines[k * LINES : (k + 1) * LINES]]
            body += [f"m[{name!r}] = {name}" for name in sorted(writes[k])]
            text += [f"def part{k}(m, {arguments}):", *[f"    {line}" for line in body], ""]
        last = ", ".join(f"m[{t!r}]" if t in reads[count] else t for t in results)
        calls = [f"    part{k}(m, {arguments})" for k in range(count)]
        text += [f"def run({arguments}):", "    m = {}", *calls, f"    return [{last}]"]
        return Source("\n".join(text) + "\n", self.functions.names)
