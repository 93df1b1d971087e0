"""The reverse sweep on array programs: chapter 5.2's chain rule, one statement at a time.

The local derivatives are those of the table: the partials of a row are traced once, on Values, into a small
program, which is then written out on arrays wherever the row stands. The adjoint of reading the same
member many times is a sum; the adjoint of a sum is reading its gradient many times; so from a network of
scalars come the products of matrices that its gradient is.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from microgrid import ops
from microgrid.compiler.ir import (
    Elementwise,
    Gather,
    Map,
    Node,
    Operand,
    Reduce,
    Scatter,
    SegmentReduce,
    View,
    reachable,
)
from microgrid.compiler.passes.builder import Builder
from microgrid.compiler.passes.lift import instantiate
from microgrid.compiler.program import Program, argument_of, from_values
from microgrid.compiler.simplify import simplify
from microgrid.compiler.tracing import trace, traced_leaf
from microgrid.engine import Value
from microgrid.ops import Op, as_float


def gradients(
    build: Builder, outputs: Sequence[tuple[Operand, Operand]], leaves: Sequence[Node], per_sample: bool = False
) -> list[Operand]:
    """Return the gradient of each leaf, in its shape: Σ seed · ∂output/∂leaf over the outputs.

    Args:
        build: the program; nodes are added to it.
        outputs: pairs of an output, a number or several, and the gradient that comes back to it.
        leaves: nodes whose gradient is wanted.
        per_sample: keep the gradients of the samples apart where a leaf is not batched, instead of adding
            them up.
    """
    order = reachable([output for output, _ in outputs])
    wanted = {leaf.number for leaf in leaves}
    active = {*wanted}
    for x in order:
        if any(operand.number in active for operand in x.arrays()):
            active.add(x.number)
    pieces: dict[int, list[tuple[Map, Operand]]] = {}

    def send(x: Node, index: Map, gradient: Operand) -> None:
        pieces.setdefault(x.number, []).append((index, gradient))

    def send_back(x: Node, operand: Node, gradient: Operand) -> None:
        """Send a gradient of the operand's shape, of all samples together if they share the operand."""
        if x.batched and not operand.batched and not per_sample:
            gradient = build.sum_samples(gradient, operand.shape)
        send(operand, Map.whole(operand.shape), gradient)

    for output, seed in outputs:
        if isinstance(output, Node) and output.number in active:
            if not output.batched and isinstance(seed, Node) and seed.batched and not per_sample:
                seed = build.sum_samples(seed)
            send(output, Map.whole(output.shape), seed)
    found: dict[int, Operand] = {}
    for x in reversed(order):
        if x.number not in pieces:
            continue
        gradient = _collected(build, x, pieces.pop(x.number))
        if x.number in wanted:
            found[x.number] = gradient
        match x:
            case View() if x.source.number in active:
                send(x.source, x.map, gradient)
            case Reduce(kind="sum"):
                send(x.source, Map.whole(x.source.shape), build.view(gradient, _repeated(x)))
            case SegmentReduce(kind="sum"):
                send(x.source, Map.whole(x.source.shape), build.view(gradient, Map.of(x.segments())))
            case Gather() if x.source.number in active:
                together = x.batched and not x.source.batched and not per_sample
                back = build.stored(gradient, x.shape), x.index, x.map
                send(x.source, Map.whole(x.source.shape), build.scatter_add(x.source.shape, *back, together))
            case Elementwise():
                for i, operand in enumerate(x.inputs):
                    if isinstance(operand, Node) and operand.number in active and x.op.connected[i]:
                        send_back(x, operand, sent(build, x.op, gradient, _local(build, x, i)))
            case Scatter():  # a table that was put together
                for operand, piece in zip(x.values, x.pieces, strict=True):
                    if isinstance(operand, Node) and operand.number in active:
                        send_back(x, operand, build.view(gradient, piece.map))
    return [found.get(leaf.number, 0.0) for leaf in leaves]


def _repeated(x: Reduce) -> Map:
    """The map by which each term of a sum reads what comes back to the sum."""
    shape = x.source.shape
    strides = [0] * len(shape)
    for k, stride in zip([k for k in range(len(shape)) if k not in x.axes], Map.whole(x.shape).strides, strict=True):
        strides[k] = stride
    return Map(shape, 0, tuple(strides))


def _local(build: Builder, x: Elementwise, i: int) -> Operand:
    """The local derivative by an operand."""
    partial = derivative(x.op, i)
    if isinstance(partial, float):
        return partial
    xs = (x, *x.inputs)
    (local,) = instantiate(build, partial, lambda _, k: xs[k])
    return local


def sent(build: Builder, op: Op, gradient: Operand, derivative: Operand) -> Operand:
    """What flows back through a local derivative: see ``ops.sent``."""
    if op.chooses:
        return build.apply(ops.where, derivative, gradient, 0.0)
    return build.apply(ops.mul, gradient, derivative)


def _collected(build: Builder, x: Node, pieces: list[tuple[Map, Operand]]) -> Operand:
    """Return the gradient of an array, the sum of what came back to it."""
    whole = Map.whole(x.shape)
    total: Operand | None = None
    rest = []
    for index, value in pieces:
        if index == whole:
            total = value if total is None else build.apply(ops.add, total, value)
        else:
            rest.append((index, value))
    if not rest:
        assert total is not None
        return total
    if total is not None:
        rest.insert(0, (whole, total))
    return build.scatter(x.shape, rest)


@lru_cache(maxsize=4096)
def derivative(op: Op, i: int) -> float | Program:
    """Return ∂y/∂xs[i] of a row: a number, or a program of the arguments (y, *xs).

    A partial that cannot be traced, because it branches on its arguments, becomes one node whose
    operation calls it for each number: slower, but right.
    """
    partial = op.partials[i]
    if not callable(partial):
        return float(partial)
    leaves = [traced_leaf(0.5) for _ in range(op.arity + 1)]
    try:
        result, nodes = trace(lambda: partial(*leaves))
        output = result if isinstance(result, Value) else None
        if output is None:
            return as_float(result)
        program, parameters = from_values(nodes, [output], [leaves])
        if not parameters:
            return simplify(program)
    except (TypeError, ValueError, ArithmeticError):
        pass
    program = Program(sizes=[op.arity + 1])
    xs = [program.append(argument_of(0), (), position) for position in range(op.arity + 1)]
    program.outputs = [program.append(_mapped(op, i), xs)]
    return program


@lru_cache(maxsize=4096)
def _mapped(op: Op, i: int) -> Op:
    partial: Any = op.partials[i]
    return Op(
        f"{op.name}'{i}",
        lambda y, *xs: as_float(partial(y, *xs)),
        (ops.nan,) * (op.arity + 1),
        recipe=(_mapped, (op, i)),  # type: ignore[arg-type]
    )
