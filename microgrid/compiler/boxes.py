"""An array program as boxes with shapes: what a drawing shows of it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from microgrid.compiler.ir import (
    BATCH,
    Accumulate,
    Argument,
    ArrayProgram,
    Constant,
    Contract,
    Elementwise,
    Leaf,
    Map,
    Node,
    Operand,
    Parameters,
    Reduce,
    Scan,
    View,
    source_of,
)
from microgrid.compiler.stages import Stages
from microgrid.compiler.task import Task
from microgrid.engine import Value
from microgrid.nn import Module

Kind = Literal["input", "parameter", "constant", "operation"]
Shape = tuple[int, ...]
_Key = tuple[int, Map | None]

_VALUES = 4
"""The most numbers of a constant array that its box shows."""

_SYMBOLS = {
    "sum": "Σ",
    "contract": "Σ ×",
    "largest": "max",
    "smallest": "min",
    "segment_sum": "Σ",
    "segment_largest": "max",
    "segment_smallest": "min",
    "gather": "xₖ",
    "scatter_add": "Σ at k",
    "number": "0 or 1",
}
_LEAVES = {
    "weight": ("1/batch", "one over the number of samples"),
    "count": ("batch", "the number of samples"),
    "seed": ("seed", "the weight of each output in the sum that is differentiated"),
}
_DOCS = {
    "sum": "the sum",
    "contract": "the sum of products",
    "largest": "the largest",
    "smallest": "the smallest",
    "segment_sum": "sums of members that stand side by side",
    "segment_largest": "the largest of members that stand side by side",
    "segment_smallest": "the smallest of members that stand side by side",
    "gather": "the members of the first operand that the numbers of the second choose",
    "scatter_add": "the first operand, added where the numbers of the second choose, 0 elsewhere",
    "accumulate": "each state of a recurrence",
    "scan": "each state of a recurrence, of which a step is a program",
    "scatter": "each operand put where it belongs, added where two meet, 0 elsewhere",
}


@dataclass(frozen=True, slots=True)
class Box:
    """One array of a program, as a drawing shows it.

    Attributes:
        kind: ``"input"``, ``"parameter"``, ``"constant"`` or ``"operation"``.
        name: the operation; of a leaf the argument, the labels of the parameters, the kind of constant.
        symbol: what a drawing shows of it.
        shape: its axes as text, ``"50 × batch"``; a number alone is ``"1"``.
        operands: for each operand the place of its box in the list, an int, or a plain number, a float.
        reads: for each operand, which part of it is read: ``"999 of 1,000"``; empty if all of it is.
        note: the axes that it takes together, ``"over 784"``; of a recurrence, ``"of 99 steps"``; of a part of a leaf,
            how large it is.
        doc: what it computes, in words.
        results: what it is to the user: ``"output"``, ``"gradient"``.
    """

    kind: Kind
    name: str
    symbol: str
    shape: str
    operands: tuple[int | float, ...] = ()
    reads: tuple[str, ...] = ()
    note: str = ""
    doc: str = ""
    results: tuple[str, ...] = ()


def boxes(
    program: ArrayProgram,
    results: Sequence[str],
    arguments: Sequence[tuple[str, Shape]],
    parameters: Sequence[str],
    groups: Sequence[str],
) -> list[Box]:
    """Return the boxes of an array program, operands first.

    Args:
        program: what is to be shown.
        results: what each output is to the user.
        arguments: the name of each argument and its shape for one sample.
        parameters: the label of each parameter.
        groups: what it belongs to, ``"Layer 0 · w"``; empty if that is not known.
    """
    found: list[Box] = []
    place: dict[_Key, int] = {}

    def index_of(x: Operand) -> int | float:
        if not isinstance(x, Node):
            return x
        key = _key(x)
        if key not in place:
            place[key] = len(found)
            found.append(_leaf(x, arguments, parameters, groups))
        return place[key]

    for x in program.statements:
        operands = tuple(map(index_of, x.operands))
        place[_key(x)] = len(found)
        note = _over(x)
        symbol = _SYMBOLS.get(x.name, x.op.symbol if isinstance(x, Elementwise | Accumulate) else x.name)
        doc = x.op.doc if isinstance(x, Elementwise) else f"{_DOCS[x.name]} {note}".rstrip()
        shown = "@" if _is_matrix_product(x) else symbol
        shape, reads = _shape_text(x.shape, x.batched), tuple(map(_part, x.operands))
        found.append(Box("operation", x.name, shown, shape, operands, reads, note, doc))
    for output, result in zip(program.outputs, results, strict=True):
        k = index_of(output)
        if isinstance(k, float):
            found.append(Box("constant", "constant", f"{k:g}", "1", doc="a number", results=(result,)))
        else:
            found[k] = replace(found[k], results=(*found[k].results, result))
    return found


def kernel_boxes(
    stages: Stages, task: Task, parameters: Sequence[Value], modules: Sequence[Callable[[], Module | None]]
) -> list[Box]:
    """Return the boxes of what computes a task of a kernel; see ``Kernel.boxes``."""
    labels = [parameter.label for parameter in parameters]
    arguments = list(zip(stages.signature.names, stages.signature.shapes, strict=True))
    results = _result_names(stages, task, labels)
    return boxes(stages.shown(task), results, arguments, labels, _groups(modules, parameters))


def _result_names(stages: Stages, task: Task, labels: Sequence[str]) -> list[str]:
    """Return what each output of a program is to the user; of single numbers each by its label or its place."""
    signature, program = stages.signature, stages.program
    leaves = [("gradient", labels)] * task.by_parameters
    if task.by_arguments:
        named = zip(signature.names, program.sizes, strict=True)
        leaves += [(f"gradient by {name}", [""] * size) for name, size in named]
    if not stages.scalar:
        return ["output" if signature.outputs is None else "outputs", *[name for name, _ in leaves]]
    results = ["output"] if signature.outputs is None else [f"output {k}" for k in range(signature.outputs)]
    for name, members in leaves:
        each = [f"{name}[{k}]" * (len(members) > 1) or name for k in range(len(members))]
        results += [f"gradient by {label}" if label else text for label, text in zip(members, each, strict=True)]
    return results


def _groups(modules: Sequence[Callable[[], Module | None]], parameters: Sequence[Value]) -> list[str]:
    """Return for each parameter which layer it is of, and whether a weight or a bias; empty if that is not known."""
    from microgrid.drawing.network import parameter_groups  # only a drawing needs it

    found: dict[Value, str] = {}
    for module in filter(None, [get() for get in modules]):
        if next(iter(module.parameters()), None) not in found:  # inner modules come after those around them
            found.update(parameter_groups(module))
    return [found.get(parameter, "") for parameter in parameters]


def _key(x: Node) -> _Key:
    """What shares a box: a statement with all views of it, and what is read of a leaf."""
    source = source_of(x)
    if not isinstance(source, Leaf) or not isinstance(x, View) or source.size == 1:
        return source.number, None
    index = x.map.without(x.map.repeats())
    return source.number, None if index == Map.whole(source.shape) else index


def _leaf(x: Node, arguments: Sequence[tuple[str, Shape]], parameters: Sequence[str], groups: Sequence[str]) -> Box:
    source, index = source_of(x), _key(x)[1]
    shape = _shape_text(source.shape if index is None else index.shape, source.batched)
    note = "" if index is None else _members(index, source)
    points = np.arange(source.size) if index is None else index.points()
    if isinstance(source, Argument):
        name, axes = arguments[source.position]
        if index is not None and points.size == 1:
            name += f"[{', '.join(str(k) for k in np.unravel_index(points.item(), axes))}]"
            note = ""
        elif len(axes) == 1:
            name += _run(index)
        return Box("input", name, name, shape, note=note, doc="an argument of the function")
    if isinstance(source, Parameters):
        first, last = (parameters[int(points.flat[k])] for k in (0, -1))
        if points.size == 1:
            name = first or f"parameters[{points.item()}]"
            return Box("parameter", name, name, shape, doc="a parameter of the function")
        (group, *others) = {groups[int(k)] for k in points.flat}
        named = first if first == last else f"{first} … {last}" if first and last else ""
        name = (group if not others else "") or named or f"parameters{_run(index)}"
        return Box("parameter", name, name, shape, note=note, doc="parameters of the function")
    if isinstance(source, Constant):
        values = [f"{value:g}" for value in source.values.ravel()[points].flat]
        shown = values if len(values) <= _VALUES else [*values[: _VALUES - 2], "…", values[-1]]
        return Box("constant", "constant", ", ".join(shown), shape, doc="numbers that do not change")
    symbol, doc = _LEAVES[source.name]
    if points.size == 1 < source.size:
        symbol, note = f"{symbol}[{points.item()}]", ""
    elif points.size < source.size:
        symbol += _run(index)
    return Box("constant", source.name, symbol, shape, note=note, doc=doc)


def _shape_text(shape: Shape, batched: bool) -> str:
    axes = [] if math.prod(shape) == 1 else [f"{size:,}" for size in shape]
    return " × ".join([*axes, *["batch"] * batched]) or "1"


def _part(x: Operand) -> str:
    """Which part of a statement an operand reads; leaves are cut up into boxes already."""
    if not isinstance(x, View) or isinstance(source_of(x), Leaf):
        return ""
    return _members(x.map.without(x.map.repeats()), source_of(x))


def _run(index: Map | None) -> str:
    """Members side by side, as a slice."""
    if index is None or index != Map(index.shape, index.base, (1,)):
        return ""
    return f"[{index.base}:{index.base + index.shape[0]}]"


def _members(index: Map, source: Node) -> str:
    points = index.points().ravel()
    count = len(np.unique(points))
    if count < source.size:
        return f"{count:,} of {source.size:,}"
    return "" if np.array_equal(points, np.arange(source.size)) else "rearranged"


def _is_matrix_product(x: Node) -> bool:
    """Whether two arrays are multiplied along what they share, and each has an axis of its own left over."""
    if not isinstance(x, Contract):
        return False
    first, second, result = map(set, x.subscripts)
    return bool(first & second - result and first - second and second - first) and not first & second & result


def _over(x: Node) -> str:
    """The axes that a statement takes together."""
    match x:
        case Reduce():
            return "over " + _shape_text(tuple(x.source.shape[k] for k in x.axes), x.batch)
        case Contract():
            left, right, result = x.subscripts
            sizes = dict(zip(left.removesuffix(BATCH), x.left.shape, strict=True))
            sizes |= zip(right.removesuffix(BATCH), x.right.shape, strict=True)
            summed = tuple(size for letter, size in sorted(sizes.items()) if letter not in result)
            return "over " + _shape_text(summed, BATCH in left + right and BATCH not in result)
        case Accumulate() | Scan():
            return f"of {x.steps:,} steps" + " backward" * x.backward
        case _:
            return ""
