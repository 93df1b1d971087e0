"""Which module made the nodes of a graph: its units, and their layers."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, cached_property
from typing import Any

from microgrid.checking.flow import Flow
from microgrid.engine import Value
from microgrid.ops import relu


class Units:
    """The calls of modules that made the nodes of a graph."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.inputs: Callable[[Any], set[Value]] = cache(lambda call: set(call.inputs))

    @cached_property
    def calls(self) -> list[Any]:
        """For each node the module call that made it or a node computed from it; empty without modules."""
        flow = self.flow
        if all(node.origin is None or node.origin.module is None for node in flow.nodes):
            return []
        calls: list[Any] = [None] * len(flow.nodes)
        for i in reversed(range(len(flow.nodes))):
            origin = flow.nodes[i].origin
            if origin is not None and origin.module is not None:
                calls[i] = origin.module
            elif (child := flow.child[i]) is not None:
                calls[i] = calls[child]
        return calls

    def call(self, i: int) -> Any:
        """The call of a module that made a node; ``None`` for none."""
        call, node = self.calls[i] if self.calls else None, self.flow.nodes[i]
        while call is not None and node in self.inputs(call):
            call = call.outer
        return call

    @cached_property
    def titles(self) -> dict[str, str]:
        """What all pictures call a module that has a dotted name: ``"Layer 0 · Neuron 3"``.

        An outermost module that holds all others is left out.
        """
        chains = [self.around(call) for call in {*self.calls} if call is not None]
        first = int(len({chain[0].path for chain in chains}) == 1)
        return {
            chain[k].path: " · ".join(call.title for call in chain[min(first, k) : k + 1])
            for chain in chains
            for k in range(len(chain))
        }

    def unit(self, i: int) -> str:
        """The dotted name of the module that made a node; empty for none."""
        call = self.call(i)
        return call.path if call is not None else ""

    def title(self, i: int) -> str:
        """What the module that made a node is called; empty for none."""
        return self.titles.get(self.unit(i), "")

    def around(self, call: Any) -> Sequence[Any]:
        """A call and the calls around it, the outermost first."""
        return [] if call is None else [*self.around(call.outer), call]

    def home(self, leaves: Iterable[int]) -> str:
        """What the module is called that holds all of some labelled leaves; empty for none."""
        calls = {self.call(i) if self.flow.nodes[i].label else None for i in leaves}
        held = set.intersection(*[{each.path for each in self.around(call)} for call in calls])
        return self.titles[max(held, key=len)] if held else ""

    @cached_property
    def layers(self) -> dict[str, dict[Any, list[int]]]:
        """For each module the ReLUs of each of its units, applied by it or by its neurons."""
        by_call: dict[Any, list[int]] = {}
        for i, node in enumerate(self.flow.nodes):
            if node.op is relu and (call := self.call(i)) is not None:
                by_call.setdefault(call, []).append(i)
        layers: dict[str, dict[Any, list[int]]] = {}
        for call, relus in by_call.items():
            layer = call if relus[1:] or call.outer is None else call.outer
            for k, i in enumerate(relus):
                layers.setdefault(layer.path, {}).setdefault((call.path, k), []).append(i)
        return layers

    @cached_property
    def layer_of(self) -> dict[int, str]:
        """The module whose units have a ReLU."""
        return {i: layer for layer, units in self.layers.items() for relus in units.values() for i in relus}
