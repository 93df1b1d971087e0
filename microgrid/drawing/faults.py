"""The faults that a graph's own numbers show: gradients from elsewhere, numbers out of date, where nan begins.

Each is a function of the graph alone; pictures and pages show its words.
"""

import math
from collections.abc import Sequence

from microgrid.drawing.rounding import Numbers
from microgrid.drawing.text import significant
from microgrid.engine import Value
from microgrid.given import Given
from microgrid.ops import ARITHMETIC, CONSTANT

CLOSE = 1e-9
"""The relative tolerance: sums in another order differ by less, real faults by more."""


def gradients_beyond(order: Sequence[Value], outputs: Sequence[Value], numbers: Numbers) -> dict[Value, str]:
    """Find the gradients of which a part does not flow in along the edges of this graph, and say where it comes from.

    ``backward()`` adds to leaves, so after a second one without zeroing they hold the gradient of the first too. It
    sets interior nodes; if these hold more, or less, this graph was not the last, or is a part of another.
    """
    arrived = dict.fromkeys(order, 0.0)
    sizes = dict.fromkeys(order, 0.0)
    for node in order:
        for parent, flow in zip(node.parents, numbers.flows(node), strict=True):
            arrived[parent] += flow
            sizes[parent] += abs(flow)
    beyond = {
        node: rest
        for node, flow in arrived.items()
        if node not in outputs
        and node.op is not CONSTANT
        and CLOSE * max(sizes[node], abs(flow)) < abs(rest := numbers.gradient(node) - flow) < math.inf
    }
    source = "elsewhere" if any(node.first is not None for node in beyond) else "before"
    found = {}
    for node, rest in beyond.items():
        flow, gradient = arrived[node], numbers.gradient(node)
        if 0.0 < gradient * flow < flow * flow:
            found[node] = f"of {significant(flow)} on its edges"
        elif gradient:  # a 0 was set, or waits for the backward pass
            found[node] = f"= {significant(flow)} {'−' if rest < 0 else '+'} {significant(abs(rest))} from {source}"
    return found


def out_of_date(order: Sequence[Value]) -> dict[Value, str]:
    """Find the numbers that are not those of their operation at the present operands, and say the right ones."""
    found = {}
    for node in order:
        if node.first is not None and not isinstance(node.op, Given):
            try:
                now = float(node.op.forward(*[parent.data for parent in node.parents]))
            except (*ARITHMETIC, TypeError):  # an operation of the user's, where it is not defined
                continue
            if not (math.isclose(now, node.data, rel_tol=CLOSE) or (now != now and node.data != node.data)):
                found[node] = f"out of date: {significant(now)} now"
    return found


def begins_not_finite(order: Sequence[Value], numbers: Numbers) -> dict[Value, str]:
    """Mark the first node whose number, and the first whose gradient, is nan or infinite.

    Nodes are in the order of the passes. A constant may be infinite.
    """
    found: dict[Value, str] = {}
    first = next((node for node in order if not math.isfinite(node.data) and node.op is not CONSTANT), None)
    if first is not None:
        found[first] = f"{significant(first.data)} begins here"
    for node in reversed(order):
        for parent, flow, slope in zip(node.parents, numbers.flows(node), numbers.local_derivatives(node), strict=True):
            if not math.isfinite(flow):
                found.setdefault(
                    parent, f"{significant(flow)} begins here: {significant(node.grad)} × {significant(slope)}"
                )
                return found
    return found
