"""Programs on NumPy arrays: buffers and views are made once for a batch size, and each result written where it goes."""

import builtins
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from microgrid import ops
from microgrid.compiler import special
from microgrid.compiler.ir import (
    MASKS,
    NUMBER,
    Accumulate,
    Argument,
    ArrayProgram,
    Contract,
    Elementwise,
    Gather,
    Map,
    Node,
    Operand,
    Reduce,
    Scan,
    Scatter,
    ScatterAdd,
    SegmentReduce,
    Slot,
    View,
)
from microgrid.compiler.passes.expand import expanded
from microgrid.compiler.passes.memory import BufferPlan, is_computed, plan_buffers
from microgrid.compiler.passes.rules import LAST
from microgrid.compiler.passes.scan import leaders
from microgrid.compiler.signature import Floats, Signature
from microgrid.compiler.stages import Stages
from microgrid.compiler.targets import python
from microgrid.compiler.targets.python import Names, call, defined, infix, number
from microgrid.compiler.targets.target import Plain
from microgrid.compiler.task import Task
from microgrid.ops import Op

_TILE_BYTES = 4_000_000
_TILE_ROWS = 512
_UFUNCS = {"sum": "add", "largest": "maximum", "smallest": "minimum"}
_SIZES = 8
"""Buffers are kept for so many different batch sizes."""


class NumPy:
    """The target that takes any function."""

    name = "numpy"
    stages = ("source",)

    def suits(self, stages: Stages) -> str | None:
        """Return None: every row has a form on arrays, if only number by number."""
        return None

    def build(self, stages: Stages, task: Task) -> "OnArrays":
        """Return the executable of a task."""
        return OnArrays(stages.array_program(task), stages.signature)


@dataclass(slots=True)
class _Bound:
    """A program bound to buffers for one batch size.

    Attributes:
        run: computes ``outs`` from the arguments, ``theta`` and ``seed``.
        theta: where it reads the parameters.
        seed: where it reads the weights of the outputs.
        outs: where it writes the results.
        names: what its text finds under its names.
    """

    run: Callable[..., None]
    theta: Floats
    seed: Floats
    outs: list[Floats]
    names: dict[str, Any]


class OnArrays(Plain):
    """A program on NumPy arrays.

    Attributes:
        program: what it computes.
        plan: where it stores what.
        sizes: its buffers, for the latest batch sizes.
    """

    def __init__(self, program: ArrayProgram, signature: Signature) -> None:
        self.program = expanded(program, _knows, LAST)
        self.signature = signature
        self.plan = plan_buffers(self.program, _computed_in_place)
        writer = _Writer(self.program, self.plan)
        self._text = writer.text()
        self._objects = writer.names.objects
        self._partial = [k for k, x in enumerate(self.program.outputs) if isinstance(x, Scatter) and _has_gaps(x)]
        self._code: Any = None
        self._lock = threading.Lock()
        self.sizes: OrderedDict[int, list[_Bound]] = OrderedDict()

    def text(self, stage: str) -> str:
        """Return the program as text."""
        return self._text

    def bind(
        self, size: int, theta: Floats, seed: Floats, outs: Sequence[Floats]
    ) -> Callable[[Sequence[Floats]], None]:
        """Return a function of the arguments that reads and writes these arrays."""
        run, gaps = self._bound(size, theta, seed, outs).run, [outs[k] for k in self._partial]

        def bound(arguments: Sequence[Floats]) -> None:
            for out in gaps:
                out.fill(0.0)
            run(*arguments)

        return bound

    def run(self, theta: Floats, seed: Floats, arguments: Sequence[Floats], outs: Sequence[Floats]) -> None:
        """Compute the outputs, so many samples at a time that the buffers stay in the processor's cache."""
        batched = self.signature.batched
        size = len(arguments[0]) if batched else 1
        tile = self.tile(size)
        tiled_mean = tile < size and self.signature.reduce == "mean"  # tiles weigh as their samples, over all of them
        for start in range(0, size, tile):
            rows = slice(start, min(start + tile, size))
            count = rows.stop - start
            weights = seed[:, rows] if seed.ndim == 2 else seed
            with self._lent(count, theta, weights) as bound:
                bound.theta[...] = theta
                bound.seed[...] = weights
                parts = [
                    out[..., rows] if has_samples else out
                    for out, (_, has_samples) in zip(outs, self.program.forms, strict=True)
                ]
                bound.names |= {f"out{k}": parts[k] for k in self.plan.rebound}
                bound.run(*[a[rows] for a in arguments] if count < size else arguments)
                bound.names |= {f"out{k}": bound.outs[k] for k in self.plan.rebound}  # the caller's is not kept
                scale = float(count) if tiled_mean else 1.0
                for k, (part, out, (_, has_samples)) in enumerate(
                    zip(parts, bound.outs, self.program.forms, strict=True)
                ):
                    if start and not has_samples:
                        part += out * scale
                    elif scale != 1.0:
                        np.multiply(part if k in self.plan.rebound else out, scale, out=part)
                    elif k not in self.plan.rebound:
                        part[...] = out
        for out in outs if tiled_mean else ():
            out /= size

    def tile(self, size: int) -> int:
        """Return how many samples are computed at a time."""
        if not self.signature.batched or size < _TILE_ROWS:
            return size
        row = 8 * self.plan.resident
        return size if row * size <= 2 * _TILE_BYTES else max(_TILE_ROWS, _TILE_BYTES // row)

    @contextmanager
    def _lent(self, size: int, theta: Floats, seed: Floats) -> Iterator[_Bound]:
        """Lend buffers that no other thread uses meanwhile."""
        with self._lock:
            spare = self.sizes.get(size)
            bound = spare.pop() if spare else None
        if bound is None:
            outs = [np.zeros((*shape, size) if b else shape, theta.dtype) for shape, b in self.program.forms]
            bound = self._bound(size, theta.copy(), seed.copy(), outs)
        yield bound
        with self._lock:
            self.sizes.setdefault(size, []).append(bound)
            self.sizes.move_to_end(size)
            while len(self.sizes) > _SIZES:
                self.sizes.popitem(last=False)

    def _bound(self, size: int, theta: Floats, seed: Floats, outs: Sequence[Floats]) -> _Bound:
        """Execute the program for a batch size: it makes its buffers and views."""
        with self._lock:
            if self._code is None:
                self._code = builtins.compile(self._text, "<kernel>", "exec")
        dtype = self.signature.dtype
        namespace = special.numpy_namespace(dtype, self._objects)
        namespace |= {f"out{k}": out for k, out in enumerate(outs)}
        namespace |= {"theta": theta, "seed": seed, "B": size}
        namespace |= {"count": np.array(size, dtype), "weight": np.array(1.0 / size, dtype)}
        with np.errstate(all="ignore"):
            run = defined(self._code, namespace)
        return _Bound(_quiet(run), theta, seed, [*outs], namespace)


def _quiet(run: Callable[..., None]) -> Callable[..., None]:
    """Inf and nan are results here, not warnings."""

    def quiet(*arrays: Floats) -> None:
        with np.errstate(all="ignore"):
            run(*arrays)

    return quiet


def _has_gaps(x: Scatter) -> bool:
    """Whether some members are in no piece of a scatter, and so stay 0."""
    covered = np.zeros(x.size, dtype=bool)
    for piece in x.pieces:
        covered[piece.map.points()] = True
    return not covered.all()


def _knows(op: Op) -> bool:
    return bool(op is NUMBER or op.array or op.operator or special.numpy_name(op.ufunc))


def _computed_in_place(x: Elementwise) -> bool:
    """Whether each number depends on the numbers at its own place alone, and is written after they are read."""
    return x.op is not NUMBER and not x.op.array and special.is_ufunc(special.numpy_name(x.op.ufunc))


# ---------------------------------------------------------------------------------------------------
# Text


class _Writer:
    """The text of a program: lines that run once for a batch size, and those of ``run(*arguments)``.

    The names ``theta``, ``seed``, ``out0``, … (arrays), ``B`` (the batch size), ``weight``, ``count`` and
    ``dtype`` must be there when it is executed.
    """

    def __init__(self, program: ArrayProgram, plan: BufferPlan) -> None:
        self.program, self.plan = program, plan
        self.names = Names(program.nodes)
        self.leaders = leaders(program)
        self.bound: list[str] = []
        self.prologue: list[str] = []
        self.lines: list[str] = []
        self.views: dict[Any, str] = {}
        self.run_time = {x.number for x in program.nodes if isinstance(x, Argument)}
        self.run_time |= {x for x, k in plan.outputs.items() if k in plan.rebound}
        self.run_time |= {x.number for x in program.nodes if isinstance(x, Slot) and x.position}
        for x in reversed(program.nodes):
            self._place(x)
        for buffer in plan.buffers:
            self._make(buffer.users, buffer.reshaped)
        for x in program.nodes:
            self._state(x)
        done = {*plan.outputs.values()}
        for k, (output, (_, batched)) in enumerate(zip(program.outputs, program.forms, strict=True)):
            if k not in done:
                self.lines.append(f"out{k}[...] = {self._operand(output, batched)}")

    def text(self) -> str:
        parts = [self.lines[k : k + python.LINES] for k in range(0, len(self.lines), python.LINES)] or [[]]
        text = ["# Made once for a batch of B samples: buffers and views.", *self.bound, ""]
        count = 1 + max((x.position for x in self.program.nodes if isinstance(x, Argument)), default=-1)
        arguments = ", ".join([*[f"X{k}" for k in range(count)], "*_"])  # unused ones among them keep the order
        if len(parts) == 1:
            body = [*self.prologue, *parts[0]] or ["pass"]
            text += [f"def run({arguments}):", *["    " + line for line in body]]
        else:
            views = [name for line in self.prologue for name, equals, _ in (line.partition(" = "),) if equals]
            for k, part in enumerate(parts):
                text += [f"def part{k}():", *["    " + line for line in part], ""]
            text += [f"def run({arguments}):"]
            text += [f"    global {', '.join(views)}"] * bool(views)
            text += ["    " + line for line in self.prologue]
            text += [f"    part{k}()" for k in range(len(parts))]
        return "\n".join(text) + "\n"

    # -- where nodes are stored -----------------------------------------------------------------------

    def _place(self, x: Node) -> None:
        """Name the memory of an output or of a scatter, and then of what is computed inside the scatter."""
        name = self.names.of.get(x.number, "")
        k = self.plan.outputs.get(x.number)
        if k is not None:
            reshaped = "" if x.shape == self.program.forms[k][0] else f".reshape({_sizes(x)})"
            place = self.prologue if x.number in self.run_time else self.bound
            place.append(f"{name} = out{k}{reshaped}")
        elif isinstance(x, Scatter):  # what no piece reaches stays 0
            self.bound.append(f"{name} = zeros({_sizes(x)}, dtype)")
        if isinstance(x, Scatter):
            for value, piece in zip(x.values, x.pieces, strict=True):
                if self._is_inside(value, x):
                    assert isinstance(value, Node)
                    self.bound.append(self._view_line(self.names.of[value.number], x, piece.map))

    def _is_inside(self, value: Operand, x: Scatter) -> bool:
        return isinstance(value, Node) and self.plan.pieces.get(value.number) == x.number

    def _make(self, users: Sequence[Node], reshaped: Node | None) -> None:
        names, first = [self.names.of[x.number] for x in users], users[0]
        if reshaped is not None:
            made = f"{self.names.of[reshaped.number]}.reshape({_sizes(first)})"
        else:
            kind = "bool" if isinstance(first, Elementwise) and first.op in MASKS else "dtype"
            made = f"empty({_sizes(first)}, {kind})"
        self.bound.append(" = ".join([*names, made]))

    def _view_line(self, name: str, source: Node, index: Map) -> str:
        batch, text = ", B" if source.batched else "", self.names.of[source.number]
        if isinstance(source, Slot) and source.position:  # an entry of any view
            text = f"ascontiguousarray({text})"
        return f"{name} = view({text}, {index.base}, {index.shape}, {index.strides}{batch})"

    # -- operands -------------------------------------------------------------------------------------

    def _operand(self, x: Operand, batched: bool) -> str:
        """The text of an operand of a statement that is batched or not."""
        if not isinstance(x, Node):
            return number(x)
        name = self._named(x)
        return self._seen(x, name, f"{name}_", "[..., None]") if batched and not x.batched and x.shape else name

    def _seen(self, x: Node, name: str, as_name: str, how: str) -> str:
        """The name of an array seen in another way."""
        if as_name not in self.views:
            self.views[as_name] = as_name
            self._define(x, f"{as_name} = {name}{how}")
        return as_name

    def _define(self, x: Node, line: str) -> None:
        source = x.source if isinstance(x, View) else x
        (self.prologue if source.number in self.run_time else self.bound).append(line)

    def _named(self, x: Node) -> str:
        match x:
            case Argument():
                key: Any = ("argument", x.number)
                if key not in self.views:
                    self.views[key] = self.names.of[x.number]
                    self.prologue.append(f"x{x.position} = X{x.position}" + (".T" if x.batched else ""))
                return self.views[key]
            case View():
                key = (x.source.number, x.map)
                if key not in self.views:
                    self.views[key] = self._new_view(x.source)
                    self._view(x, self.views[key])
                return self.views[key]
            case _:
                return self.names.of[x.number]

    def _new_view(self, source: Node) -> str:
        count = sum(isinstance(key, tuple) and key[0] == source.number for key in self.views)
        return f"{self.names.of[source.number]}_{count + 1}"

    def _view(self, x: View, name: str) -> None:
        source, index = x.source, x.map
        if not index.regular:
            table = self.names.keep("table", index.table)
            self.bound.append(f"{name} = empty({_sizes(x)}, dtype)")
            flat = self.names.of[source.number]
            if isinstance(source, Argument):
                flat = f"X{source.position}" + (".T" if source.batched else "")
            elif len(source.shape) != 1:
                flat = f"{flat}.reshape({source.size}{', B' if source.batched else ''})"
            line = f"take({flat}, {table}, 0, {name}, 'clip')"
            (self.prologue if isinstance(source, Argument) else self.lines).append(line)
        elif isinstance(source, Argument):
            self.prologue.append(f"{name} = {_argument_view(source, index)}")
        else:
            self._define(x, self._view_line(name, source, index))

    # -- statements -----------------------------------------------------------------------------------

    def _state(self, x: Node) -> None:
        if not is_computed(x):
            return
        out = self.names.of[x.number]
        match x:
            case Elementwise():
                self.lines.append(self._elementwise(x, out))
            case Reduce():
                self.lines.append(self._reduction(x, out))
            case Contract():
                self.lines.append(self._contraction(x, out))
            case SegmentReduce():
                starts, text = self.names.keep("starts", x.starts), self._operand(x.source, x.batched)
                self.lines.append(f"reduceat({_UFUNCS[x.kind]}, {text}, {starts}, {out})")
            case Accumulate():
                self.lines.append(self._accumulation(x, out))
            case Scan():
                self._scan(x, out)
            case Scatter():
                self._scatter(x, out)
            case Gather() | ScatterAdd():
                self.lines.append(self._chosen(x, out))

    def _elementwise(self, x: Elementwise, out: str) -> str:
        op, texts = x.op, [self._operand(operand, x.batched) for operand in x.inputs]
        if op is NUMBER:
            return f"multiply({texts[0]}, 1.0, {out})"
        name = "" if op.array else special.numpy_name(op.ufunc)
        if name == "negative":  # NumPy 2's own reads every fourth or eighth number as if they were neighbours
            return f"multiply({texts[0]}, -1.0, {out})"
        if not name:
            return f"{out}[...] = {self._row(op, texts)}"
        return call(name, op, texts, out if op.operator else f"out={out}")

    def _accumulation(self, x: Accumulate, out: str) -> str:
        steps = ("steps", x.op)
        if steps not in self.views:
            letters = [f"x{k}" for k in range(x.op.arity)]
            self.views[steps] = f"step{sum(key[0] == 'steps' for key in self.views) + 1}"
            self.bound.append(f"{self.views[steps]} = lambda {', '.join(letters)}: {self._row(x.op, letters)}")
        operands = ", ".join(self._operand(operand, x.batched) for operand in x.operands)
        numbers = self.names.keep("numbers", x.op.forward)
        ufunc = x.op.ufunc if x.place == 0 and x.op.arity == 2 and special.is_ufunc(x.op.ufunc) else None
        return f"accumulate({out}, {x.place}, {x.backward}, {numbers}, {ufunc}, {self.views[steps]}, {operands})"

    def _scan(self, x: Scan, out: str) -> None:
        """A scan: a step is a function of the inputs and the constants, between a state and a new one of its own."""
        plan = plan_buffers(x.body, _computed_in_place)
        plan.rebound = frozenset()
        inner = _Writer(x.body, plan)
        kept = [f"{name}={self.names.keep(name.rstrip('0123456789'), y)}" for name, y in inner.names.objects.items()]
        slots = ", ".join([*[f"s{k}" for k in range(1, len(x.operands))], "*_"])
        size = ", ".join([*map(str, x.shape[1:]), *["B"] * x.batched, ""])
        body = [*inner.prologue, *inner.lines]
        self.bound += [
            f"def make_{out}({', '.join(kept)}):",
            f"    s0, out0 = zeros(({size}), dtype), zeros(({size}), dtype)",
            *["    " + line for line in inner.bound],
            f"    def step({slots}):",
            *["        " + line for line in body],
            "    return step, s0, out0",
            f"step_{out}, state_{out}, new_{out} = make_{out}()",
        ]
        start = self._operand(x.start, x.batched)
        inputs = ", ".join([*[self._operand(y, False) for y in x.inputs], ""])
        constants = ", ".join([*[self._operand(y, False) for y in x.constants], ""])
        leader = self.leaders.get(x.number)
        made = None if leader is None else f"made_{self.names.of[leader.number]}"
        if leader is x:
            self.bound.append(f"{made} = zeros(1, 'intp')")
        ends = f"{x.backward}, {start}, ({inputs}), ({constants}), {x.idle}, {made}"
        self.lines.append(f"scan({out}, step_{out}, state_{out}, new_{out}, {ends})")

    def _row(self, op: Op, texts: Sequence[str]) -> str:
        """The text of a row as an expression."""
        if op is NUMBER:
            return f"multiply({texts[0]}, 1.0)"
        if op.array:
            return ops.spell(op, "array", *texts)
        name = special.numpy_name(op.ufunc)
        if name:
            return call(name, op, texts)
        return infix(op, texts) if op.operator else f"{self.names.function(op)}({', '.join(texts)})"

    def _reduction(self, x: Reduce, out: str) -> str:
        source = x.source
        text = self._operand(source, source.batched)
        axes = (*x.axes, len(source.shape)) if x.batch else x.axes
        rank = len(source.shape) + source.batched
        if x.kind == "sum" and rank == 2 and axes in ((0,), (1,)):
            # A product with ones is several times faster than a reduction of a small array.
            size = "B" if x.batch else str(source.shape[axes[0]])
            ones = f"ones_{size}"
            if ("ones", size) not in self.views:
                self.views["ones", size] = ones
                self.bound.append(f"{ones} = ones({size}, dtype)")
            pair = f"{ones}, {text}" if axes == (0,) else f"{text}, {ones}"
            return f"matmul({pair}, {out})"
        axis = "None" if len(axes) == rank else repr(axes[0] if len(axes) == 1 else axes)
        return f"{_UFUNCS[x.kind]}.reduce({text}, {axis}, None, {out})"

    def _contraction(self, x: Contract, out: str) -> str:
        left, right, result = x.subscripts
        a, b = self._operand(x.left, x.left.batched), self._operand(x.right, x.right.batched)
        product = _matrix_product(left, right, result)
        if product is None:
            stacked = _matrix_products(left, right, result)
            if stacked is None:
                return f"einsum('{left},{right}->{result}', {a}, {b}, out={out})"
            swapped, *turned = stacked
            factors = [(x.left, a, turned[0]), (x.right, b, turned[1])][:: -1 if swapped else 1]
            texts = [
                self._seen(factor, name, f"{name}_S", ".swapaxes(-1, -2)") if turn else name
                for factor, name, turn in factors
            ]
            return f"matmul({texts[0]}, {texts[1]}, {out})"
        swapped, *transposed = product
        pair = ((x.right, b), (x.left, a)) if swapped else ((x.left, a), (x.right, b))
        texts = [
            self._seen(factor, name, f"{name}_T", ".T") if turn else name
            for (factor, name), turn in zip(pair, transposed, strict=True)
        ]
        return f"matmul({texts[0]}, {texts[1]}, {out})"

    def _scatter(self, x: Scatter, out: str) -> None:
        batch = ", B" if x.batched else ""
        flat = f"{out}.reshape({x.size}{batch})" if len(x.shape) != 1 else out
        if x.zeros is not None:
            self.lines.append(f"{flat}[{self._points(x.zeros)}] = 0.0")
        for value, piece in zip(x.values, x.pieces, strict=True):
            if self._is_inside(value, x):
                continue
            text = self._operand(value, x.batched)
            if not piece.map.regular:
                points = self.names.keep("table", piece.map.table)
                self.lines.append(f"{flat}[{points}] {'+=' if piece.adds else '='} {text}")
                continue
            key = (x.number, piece.map)
            if key not in self.views:
                self.views[key] = self._new_view(x)
                self.bound.append(self._view_line(self.views[key], x, piece.map))
            place = self.views[key]
            self.lines.append(f"add({place}, {text}, {place})" if piece.adds else f"{place}[...] = {text}")

    def _chosen(self, x: Gather | ScatterAdd, out: str) -> str:
        """A gather, or its adjoint: members of an array, whose axes are one here, that numbers choose."""
        array = x.source if isinstance(x, Gather) else x
        batched, points = x.index.batched or array.batched, x.map.points()
        key = ("chosen", x.index.number, x.map, batched)
        if key not in self.views:
            self.views[key] = f"chosen{len(self.views)}"
            first = points[..., 0, None] if batched else points[..., 0]
            table = self.names.keep("table", first if x.map.regular else points)
            how = f"{table}, {x.map.strides[-1] if x.map.regular else None}, {points.shape[-1]}"
            self.bound.append(f"{self.views[key]} = [None, None]")  # a long program is several functions
            self.lines.append(f"{self.views[key]}[:] = chosen({self._operand(x.index, batched)}, {how})")
        if array.batched and "samples" not in self.views:
            self.views["samples"] = "samples"
            self.bound.append("samples = arange(B)")
        flat = self._operand(array, False) if isinstance(x, Gather) else out
        if len(array.shape) != 1:
            flat += f".reshape({array.size}{', B' * array.batched})"
        rest = f"{self.views[key]}, {{}}{', samples' * array.batched})"
        if isinstance(x, Gather):
            return f"gather({flat}, {rest.format(out)}"
        return f"scatter_add({self._operand(x.source, batched)}, {rest.format(flat)}"

    def _points(self, index: Map) -> str:
        if index.regular and len(index.shape) == 1 and index.strides[0] >= 0:
            stop = index.base + index.strides[0] * (index.shape[0] - 1) + 1
            return f"{index.base}:{stop}:{index.strides[0] or 1}"
        return self.names.keep("table", index.points())


def _sizes(x: Node) -> str:
    """The shape of an array as text."""
    sizes = [*map(str, x.shape), *["B"] * x.batched]
    return "(" + ", ".join(sizes) + ("," if len(sizes) == 1 else "") + ")"


def _argument_view(source: Argument, index: Map) -> str:
    text, rows = f"X{source.position}", ":, " if source.batched else ""
    if not index.shape:
        return f"{text}[{rows}{index.base}]"
    if len(index.shape) == 1 and index.strides[0] > 0:
        step, stop = index.strides[0], index.base + index.strides[0] * (index.shape[0] - 1) + 1
        turned = ".T" if source.batched else ""
        return f"{text}[{rows}{index.base}:{stop}{f':{step}' if step > 1 else ''}]{turned}"
    shape = ", ".join([*map(str, index.shape), *["B"] * source.batched])
    strides = ", ".join([*[f"{s} * I" for s in index.strides], *[f"{source.size} * I"] * source.batched])
    return f"ndarray(({shape},), dtype, {text}, {index.base} * I, ({strides},))"


def _matrix_products(left: str, right: str, result: str) -> tuple[bool, bool, bool] | None:
    """Return how a contraction is a product of many pairs of matrices, or of one with many.

    Whether they are swapped, and which are transposed, the left and the right one as they are given.
    """
    stack, letters = result[:-2], result[-2:]
    summed = {*left, *right} - {*result}
    if not stack or len(summed) != 1 or any(x[:-2] not in ("", stack) for x in (left, right)):
        return None
    (k,) = summed
    pairs = {*left[-2:]}, {*right[-2:]}
    for swapped in (False, True):
        m, n = letters[swapped], letters[not swapped]
        if pairs == ({m, k}, {k, n}):
            first = left[-1] != k, right[-1] == k
            return (True, not first[0], not first[1]) if swapped else (False, *first)
    return None


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
