"""Copies and pickles of graphs: node by node in topological order, never by recursion.

Pickle and ``copy.deepcopy`` follow references by recursion, which a deep graph does not survive. So the
first node that they meet hands them the list of all the nodes below it, parents first: each of these finds
its parents stored already. Nodes keep their identity: shared nodes are shared in the copy, also between
several values that are stored together.

Local derivatives that the user gave are stored as numbers: a closure would go on to read the operands, and to fill the
gradients, of the original graph.
"""

import copyreg
import threading
from typing import Any

from microgrid.engine import Value, topological_order
from microgrid.given import Given
from microgrid.recording import Origin

_unfolding = threading.local()


class _Unfold:
    """The first and the last entry of the list of the nodes below a value.

    While the list is being stored, each of its nodes stores only itself. The nodes know, because the pickler
    asks these two entries for their state just before the first node and just after the last one.
    """

    def __init__(self, nodes: frozenset[Value] = frozenset()) -> None:
        self.nodes = nodes

    def __reduce__(self) -> Any:
        _unfolding.nodes = self.nodes
        return _Unfold, ()


def _reduce(value: Value) -> Any:
    below: list[Any] = []
    if value.first is not None and value not in getattr(_unfolding, "nodes", ()):
        nodes = topological_order(value)[:-1]
        below = [_Unfold(frozenset(nodes)), *nodes, _Unfold()]
    op = value.op.settled(value) if isinstance(value.op, Given) else value.op
    state = (value._data, value._grad, op, value.label, _portable(value.origin))
    return _restore, (type(value), below, *state, *value.parents)


def _portable(origin: Origin | None) -> Origin | None:
    """The recorded line; the module that made a node stays behind, or a value would carry its whole network."""
    return Origin(origin.file, origin.line) if origin is not None and origin.file else None


def _restore(
    kind: type[Value], below: list[Any], data: float, grad: float, op: Any, label: str, origin: Any, *parents: Value
) -> Value:
    value = kind.__new__(kind)
    value._data, value._grad, value.op, value.label = data, grad, op, label
    value.origin = origin
    value.first = parents[0] if parents else None
    value.second = parents[1] if len(parents) > 1 else None
    value.others = parents[2:]
    return value


def _reduce_subclass(value: Value, protocol: Any) -> Any:
    """Do the same for a class derived from Value, which may have attributes and slots of its own."""
    slots: dict[str, Any] = {}
    for kind in type(value).__mro__:
        if kind is Value:
            break
        names = kind.__dict__.get("__slots__", ())
        slots |= {name: getattr(value, name) for name in ([names] if isinstance(names, str) else names)}
    return *_reduce(value), (getattr(value, "__dict__", None), slots)


def _take_attributes(value: Value, state: tuple[dict[str, Any] | None, dict[str, Any]]) -> None:
    for attributes in state:
        for name, attribute in (attributes or {}).items():
            setattr(value, name, attribute)


copyreg.pickle(Value, _reduce)
Value.__reduce_ex__ = _reduce_subclass  # type: ignore[method-assign, assignment]
Value.__setstate__ = _take_attributes  # type: ignore[attr-defined]
