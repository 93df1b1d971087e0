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
from microgrid.compiler.arrays import Array, Arrays, Map, Operand, reachable
from microgrid.compiler.lift import instantiate
from microgrid.compiler.program import Program, argument_of, from_values
from microgrid.compiler.simplify import simplify
from microgrid.compiler.tracing import trace, traced_leaf
from microgrid.engine import Value
from microgrid.ops import Op, as_float


def gradients(
    arrays: Arrays, outputs: Sequence[tuple[Operand, Operand]], leaves: Sequence[Array], per_sample: bool = False
) -> list[Operand]:
    """Return the gradient of each leaf, in its shape: Σ seed · ∂output/∂leaf over the outputs.

    Args:
        arrays: the program; statements are added to it.
        outputs: pairs of an output, a number or several, and the gradient that comes back to it.
        leaves: arrays whose gradient is wanted.
        per_sample: keep the gradients of the samples apart where a leaf is not batched, instead of adding
            them up.
    """
    order = reachable([output for output, _ in outputs])
    active = {leaf.number for leaf in leaves}
    for x in order:
        if any(operand.number in active for operand in x.arrays()):
            active.add(x.number)
    pieces: dict[int, list[tuple[Map, Operand]]] = {}

    def send(x: Operand, index: Map, gradient: Operand) -> None:
        pieces.setdefault(x.number, []).append((index, gradient))  # type: ignore[union-attr]

    for output, seed in outputs:
        if isinstance(output, Array) and output.number in active:
            if not output.batched and isinstance(seed, Array) and seed.batched and not per_sample:
                seed = arrays.sum_samples(seed)
            send(output, Map.whole(output.shape), seed)
    found: dict[int, Operand] = {}
    wanted = {leaf.number for leaf in leaves}
    for x in reversed(order):
        if x.number not in pieces:
            continue
        gradient = _collected(arrays, x, pieces.pop(x.number))
        if x.number in wanted:
            found[x.number] = gradient
        if x.op == "view":
            source = x.operands[0]
            assert isinstance(source, Array)
            if source.number in active:
                send(source, x.detail, gradient)
        elif x.op == "sum":
            (source,), (axes, _) = x.arrays(), x.detail
            kept = [k for k in range(len(source.shape)) if k not in axes]
            strides = [0] * len(source.shape)
            for k, stride in zip(kept, Map.whole(x.shape).strides, strict=True):
                strides[k] = stride
            send(source, Map.whole(source.shape), arrays.view(gradient, Map(source.shape, 0, tuple(strides))))
        elif isinstance(x.op, Op):
            for i, operand in enumerate(x.operands):
                if not isinstance(operand, Array) or operand.number not in active or not x.op.connected[i]:
                    continue
                partial = derivative(x.op, i)
                if isinstance(partial, float):
                    local: Operand = partial
                else:
                    xs = (x, *x.operands)
                    (local,) = instantiate(arrays, partial, lambda _, k, xs=xs: xs[k])  # type: ignore[misc]
                product = arrays.apply(ops.mul, gradient, local)
                if x.batched and not operand.batched and not per_sample:
                    product = arrays.sum_samples(product, operand.shape)
                send(operand, Map.whole(operand.shape), product)
    return [found.get(leaf.number, 0.0) for leaf in leaves]


def _collected(arrays: Arrays, x: Array, pieces: list[tuple[Map, Operand]]) -> Operand:
    """Return the gradient of an array, the sum of what came back to it."""
    whole = Map.whole(x.shape)
    total: Operand | None = None
    rest = []
    for index, value in pieces:
        if index == whole:
            total = value if total is None else arrays.apply(ops.add, total, value)
        else:
            rest.append((index, value))
    if not rest:
        assert total is not None
        return total
    if total is not None:
        rest.insert(0, (whole, total))
    return arrays.scatter(x.shape, rest)


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
