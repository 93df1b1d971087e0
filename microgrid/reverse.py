"""The reverse sweep: the chain rule, applied to one node after another."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import Any, TypeVar

from microgrid.node import Node
from microgrid.ops import CONSTANT, Op, Operation, take_of
from microgrid.ops.op import CONSTANTS, ONE_FUNCTION, PRODUCT, SUM, TWO_FUNCTIONS, number
from microgrid.recording import check_backward, check_forward, hooks, open_blocks

AnyNode = TypeVar("AnyNode", bound=Node)


def sent_to_leaves(output: Node, gradient: float) -> bool:
    """Whether the operation of an output replaced the whole sweep, as a compiled call of many leaves can."""
    if type(output.op) is Op or open_blocks:
        return False
    send: Any = getattr(output.op, "send_to_leaves", None)
    return send is not None and bool(send(output, gradient))


def add_gradients(leaves: list[AnyNode], more: list[float]) -> None:
    """Add a number to the gradient of each leaf: to all, or to none if Ctrl-C comes."""
    before = [leaf._grad for leaf in leaves]
    try:
        for leaf, addend in zip(leaves, more, strict=True):
            leaf._grad += addend
    except BaseException:
        for leaf, was in zip(leaves, before, strict=True):
            leaf._grad = was
        raise


def live_nodes(order: list[AnyNode], outputs: Iterable[AnyNode]) -> list[AnyNode]:
    """Return the nodes of a topological order that a gradient can reach from the outputs.

    Nothing flows back through a local derivative that is 0 by definition, as that of ``stop_gradient``, or to an
    operand that ``take`` did not choose: not even 0 times an infinite local derivative, which would be nan.
    """
    for node in order:
        op = node.op
        if type(op) is Op and not op.cuts:
            continue
        if op.cuts:
            break
    else:
        return order
    live = set(outputs)
    shared: set[int] = set()
    for node in reversed(order):
        if node not in live:
            continue
        if node.op.cuts:
            live.update(compress(node.parents, receivers(node)))
        elif id(node.others) in shared:
            live.update((node.first, node.second))  # type: ignore[arg-type]
        else:
            live.update(node.parents)
            shared.add(id(node.others))
    return [node for node in order if node in live]


def receivers(node: Node) -> Sequence[bool]:
    """Return for each parent whether something flows back to it: of a row that chooses, to what it chose alone."""
    op = node.op
    if type(op) is not Op or not op.chooses or all(parent.first is None for parent in node.parents):
        return op.connected  # a leaf sends nothing on, whether it was chosen or not
    return [bool(derivative) for derivative in node.local_derivatives()]


Choices = frozenset[tuple[int, int]]
"""Pairs of a node that chooses and the place of an operand of its."""


def conditions(
    ops: Sequence[Operation], operands: Sequence[Sequence[int]], outputs: Iterable[int]
) -> Mapping[int, Choices | None]:
    """Return on which choices it depends whether a gradient reaches a node: it does if one of these was made.

    It is what ``live_nodes`` finds, before any number is known. A node that reaches the outputs whatever is chosen has
    ``None``: also where all operands of one ``take`` lead to it, as it chooses one of them.

    Args:
        ops: the operation of each node, operands before what uses them.
        operands: the numbers of its operands.
        outputs: the numbers of the nodes that a gradient starts from.
    """
    found: dict[int, Choices | None] = dict.fromkeys(outputs)
    for i in range(len(ops) - 1, -1, -1):
        if i not in found:
            continue
        mine = found[i]
        while mine and (whole := _whole(mine, ops)):
            rest: Choices | None = frozenset([pair for pair in mine if pair[0] not in whole])
            for above in [found[u] for u in whole]:
                rest = None if rest is None or above is None else rest | above
            mine = rest
        found[i] = mine
        op = ops[i]
        chooses = type(op) is Op and op.chooses
        for k, j in enumerate(operands[i]):
            if not op.cuts or op.connected[k]:
                arriving = frozenset([(i, k)]) if chooses else mine
                before = found.get(j, arriving)
                found[j] = None if before is None or arriving is None else before | arriving
    return found


def _whole(choices: Choices, ops: Sequence[Operation]) -> list[int]:
    """The takes of which every operand is among some choices: one of these is made."""
    counts = Counter([u for u, _ in choices])
    return [u for u, count in counts.items() if ops[u].recipe == (take_of, (count,))]


def sweep(nodes: list[AnyNode]) -> None:
    """Apply the chain rule to nodes in topological order, the last one first.

    Each adds its gradient, times its local derivatives, to the gradients of its parents. The row says which form
    these have; the common forms are written out here, because this loop takes most of the time.
    """
    no_row = CONSTANT  # an operation that is not a row has none of these forms
    anomalies = bool(open_blocks) and check_forward in hooks.get()
    for node in reversed(nodes):
        if anomalies:
            check_backward(node)
        first = node.first
        if first is None:
            continue
        op, gradient, second = node.op, node._grad, node.second
        row = op if type(op) is Op else no_row
        form = row.form
        if form == PRODUCT and second is not None:
            first._grad += gradient * second._data
            second._grad += gradient * first._data
        elif form == SUM:
            first._grad += gradient
            if second is not None:
                second._grad += gradient
                for other in node.others:
                    other._grad += gradient
        elif form == ONE_FUNCTION:
            first._grad += gradient * row.by_first(node._data, first._data)
        elif form == TWO_FUNCTIONS and second is not None:
            a, b = first._data, second._data
            first._grad += gradient * row.by_first(node._data, a, b)
            second._grad += gradient * row.by_second(node._data, a, b)
        elif form == CONSTANTS:
            first._grad += gradient * row.left
            if second is not None:
                second._grad += gradient * row.right
        else:
            op.backpropagate(node)


def require_numbers(nodes: list[AnyNode]) -> None:
    """Raise a ``TypeError`` that names the operation, if a local derivative is not a number."""
    for node in nodes:
        derivatives: tuple[Any, ...] = node.local_derivatives()
        for derivative in derivatives:
            number(node.op, derivative, "local derivative")
