"""The reverse sweep: the chain rule, applied to one node after another."""

from collections.abc import Iterable
from itertools import compress
from typing import Any, TypeVar

from microgrid.node import Node
from microgrid.ops import CONSTANT, Op
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

    Nothing flows back through a local derivative that is 0 by definition, as that of ``stop_gradient``:
    not even 0 times an infinite local derivative, which would be nan.
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
            live.update(compress(node.parents, node.op.connected))
        elif id(node.others) in shared:
            live.update((node.first, node.second))  # type: ignore[arg-type]
        else:
            live.update(node.parents)
            shared.add(id(node.others))
    return [node for node in order if node in live]


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
