"""Why is this gradient zero, tiny, huge, infinite or nan?

A gradient is a sum over the paths from a value to the output, of the product of the local derivatives along each.
So there are few ways for it to go wrong: a factor of 0 on every path, a long product of small or of large factors,
paths that cancel, or a number that is not finite. ``why`` finds the places where that happens, in a number of steps
that is proportional to the size of the graph, however many paths there are.
"""

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from microgrid.checking.flow import OWN, Edge, Flow, first_not_finite
from microgrid.checking.noise import is_program
from microgrid.checking.report import number, operation, where
from microgrid.checking.rewrites import rewrite
from microgrid.checking.sheet import BAD, GOOD, ODD, Badge, Quote, Row, Sheet, picture_of
from microgrid.engine import Value
from microgrid.ops import LEAF, Op, Operation, absolute, mul, relu, short_repr, stop_gradient

VANISHING, EXPLODING = 1e-6, 1e6
"""A gradient below the one is called vanishing, one above the other exploding."""

CANCELLED = 1e-9
"""Paths cancel if less than this fraction of their sizes is left."""

SHOWN = 4
"""How many findings are explained in full, and how many places or factors one sentence names."""


class Size(StrEnum):
    """What is the matter with a gradient, the worst first."""

    NAN = "nan"
    INFINITE = "infinite"
    ZERO = "zero"
    EXPLODING = "exploding"
    VANISHING = "vanishing"
    FINE = "fine"

    @classmethod
    def of(cls, gradient: float) -> "Size":
        """The size of a gradient."""
        if not math.isfinite(gradient):
            return cls.NAN if math.isnan(gradient) else cls.INFINITE
        size = abs(gradient)
        if size >= VANISHING:
            return cls.EXPLODING if size > EXPLODING else cls.FINE
        return cls.VANISHING if size else cls.ZERO


class Cause(StrEnum):
    """What makes a gradient what it is."""

    NOTHING = "nothing wrong"
    NO_PATH = "no path"
    STOPPED = "stopped"
    """at ``stop_gradient``"""
    STEP = "a step"
    """a comparison, floor, sign, the condition of where: its local derivative is the constant 0"""
    OFF = "off"
    """a ReLU with a negative input"""
    NOT_CHOSEN = "not chosen"
    """the other branch of where, the smaller of a maximum, a value that clip holds"""
    KINK = "a kink"
    """|x| at 0"""
    SATURATED = "saturated"
    FLAT = "flat"
    """a smooth operation where its slope is 0, as x² at 0"""
    ZERO_FACTOR = "times zero"
    CANCELLED = "paths cancel"
    SMALL_FACTORS = "small factors"
    LARGE_FACTORS = "large factors"
    OVERFLOW = "overflow"
    INFINITE_DERIVATIVE = "infinite slope"
    ZERO_TIMES_INFINITY = "0 · ∞"
    INFINITIES_CANCEL = "∞ − ∞"
    NAN = "nan arises"


WORDS: dict[Cause, tuple[str, str]] = {
    Cause.NOTHING: ("", ""),
    Cause.NO_PATH: ("", "Compute the output from this value itself: not from its .data, and not within no_grad()."),
    Cause.STOPPED: ("{at} lets no gradient through{many}.", "Leave stop_gradient() out where the gradient is wanted."),
    Cause.STEP: (
        "{slope} is 0 everywhere: a step, or a condition, has no slope{many}.",
        "Replace the step by a smooth function, as a < b by sigmoid(k · (b − a)).",
    ),
    Cause.OFF: ("", "A smaller learning rate, init='he', or leaky_relu, whose slope is nowhere 0."),
    Cause.NOT_CHOSEN: (
        "{at} does not pass on its operand {x} = {value}: it is on another branch{many}.",
        "What a choice leaves out has no gradient by its meaning. If it is to have one, choose smoothly: "
        "sigmoid(k · x) · a + sigmoid(−k · x) · b for where(x > 0, a, b), logsumexp for maximum.",
    ),
    Cause.KINK: (
        "{at} stands on its kink, where its derivative is taken to be 0{many}.",
        "Start elsewhere, or round the kink off: sqrt(x * x + 1e-12) for abs(x).",
    ),
    Cause.SATURATED: (
        "{at} is saturated: at {value} its slope is {derivative}{many}.",
        "Keep the sums small: inputs of size 1, init='xavier', a smaller learning rate; let the loss take the sum "
        "before the sigmoid or softmax, as losses.cross_entropy does.",
    ),
    Cause.FLAT: (
        "{slope} is 0 at {value}: it is flat there{many}.",
        "At a stationary point the slope says nothing about which way to go: start elsewhere.",
    ),
    Cause.ZERO_FACTOR: (
        "{x} is multiplied by 0 in {at}: {zero}{many}.",
        "Start weights from random numbers, not from 0; if the 0 is that of a unit that is off, mend that first.",
    ),
    Cause.CANCELLED: (
        "The paths to {at} cancel: they bring {up} and {down}, and {gradient} is left{many}.",
        "At a minimum, or where the output does not depend on this value, that is as it should be. What is left may "
        "be rounding: mg.precision() tells how far the output itself can be trusted.",
    ),
    Cause.SMALL_FACTORS: (
        "{gradient} · {derivative}, the gradient at {at} times its local derivative, underflows to 0.",
        "Fewer layers, or x + f(x) for f(x) in each; ReLU, or init='xavier' for tanh; scale the loss or the inputs.",
    ),
    Cause.LARGE_FACTORS: (
        "{gradient} · {derivative}, the gradient at {at} times its local derivative, overflows to ∞.",
        "Smaller weights at the start (init='xavier' or 'he'), inputs scaled to size 1, a smaller learning rate; clip "
        "the gradients before the step.",
    ),
    Cause.OVERFLOW: (
        "{slope} is {derivative}{source}{many}.",
        "Compute with logarithms: logsumexp for log Σ exp, softplus for log(1 + exp), losses.cross_entropy for the "
        "logarithm of softmax; sigmoid for 1 / (1 + exp(−x)); scale what grows.",
    ),
    Cause.INFINITE_DERIVATIVE: (
        "{slope} is {derivative}{source}{many}.",
        "Keep away from the point: sqrt(x + 1e-12) for sqrt(x), hypot for √(a² + b²), or a safe argument: "
        "where(x > 0, f(where(x > 0, x, 1)), 0), with mg.greater(x, 0) for x > 0.",
    ),
    Cause.ZERO_TIMES_INFINITY: (
        "0 · ∞ is nan: the gradient that reaches {at} is {gradient}{zero}, and its local derivative by {x} is "
        "{derivative}{source}{many}.",
        "Give the branch that is not chosen a safe argument: where(c, f(where(c, x, 1)), 0). Choosing afterwards is "
        "too late: its gradient is 0 times what f has.",
    ),
    Cause.INFINITIES_CANCEL: (
        "∞ − ∞ is nan: the paths to {at} bring infinities of both signs{many}.",
        "See where the infinities come from, and keep away from there.",
    ),
    Cause.NAN: (
        "{slope} is nan{source}{many}.",
        "Keep the arguments within the domain; mg.detect_anomaly() stops at the line that makes the first nan.",
    ),
}
"""For each cause what to say of it, and what helps."""

OF_ROWS: dict[Operation, Cause] = {relu: Cause.OFF, absolute: Cause.KINK, mul: Cause.ZERO_FACTOR}
"""What a slope of 0 means of these."""

TENTH = math.log(0.1)
"""An operation is saturated where its slope is below this part of that at 0, as a logarithm."""


@dataclass
class Finding:
    """What is the matter with the gradients of some leaves, and where it comes from.

    Attributes:
        leaves: the values with this gradient and this cause.
        names: what they are called.
        home: the module that holds them all; empty for none.
        gradient: the gradient of the first of them.
        size: what is the matter with it.
        cause: what makes it so, the one nearest the output first.
        places: the nodes at which it happens, the one nearest the output first.
        sentences: what happens there.
        advice: what helps in this case, where more is known than what helps in general.
        remedy: what helps.
    """

    leaves: list[Value]
    names: list[str]
    gradient: float
    size: Size
    cause: Cause
    places: list[Value] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    advice: str = ""
    home: str = ""

    @property
    def node(self) -> Value | None:
        """The first of the places."""
        return self.places[0] if self.places else None

    @property
    def remedy(self) -> str:
        """What helps."""
        return self.advice or WORDS[self.cause][1]


_BADGES = {Size.FINE: GOOD, Size.EXPLODING: ODD, Size.VANISHING: ODD}


@dataclass(repr=False)
class Explanation(Sheet):
    """Why gradients are what they are: what ``why`` returns.

    Attributes:
        title: of what.
        output: the output; the first of several.
        findings: one for each cause, the worst first; empty if no gradient is suspicious.
        counts: how many of the gradients are of each suspicious size.
        notes: what else there is to know.
    """

    columns = ("", "value", "gradient", "because")
    nothing = "no gradient is suspicious"

    title: str
    output: Value
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[Size] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> Size:
        """What is the matter with the worst gradient."""
        return self.findings[0].size if self.findings else Size.FINE

    @property
    def cause(self) -> Cause:
        """Its cause."""
        return self.findings[0].cause if self.findings else Cause.NOTHING

    @property
    def node(self) -> Value | None:
        """The place where it happens."""
        return self.findings[0].node if self.findings else None

    @property
    def sentences(self) -> list[str]:
        """The sentences of all findings, in order."""
        return [sentence for finding in self.findings for sentence in finding.sentences]

    def _badges(self) -> list[Badge]:
        counts = [(size, self.counts[size]) for size in Size if self.counts[size]]
        return [_BADGES.get(size, BAD)._replace(text=f"{count} {size}") for size, count in counts]

    def _rows(self) -> list[Row]:
        return [
            Row(
                (
                    _listed(finding.names, len(finding.leaves)) + (f" of {finding.home}" if finding.home else ""),
                    number(finding.leaves[0].data, 6) if len(finding.leaves) == 1 else "—",
                    number(finding.gradient, 6),
                    finding.cause,
                ),
                _BADGES.get(finding.size, BAD),
                finding.size not in _BADGES,
            )
            for finding in self.findings
        ]

    def _quotes(self, *, pictures: bool = False) -> list[Quote]:
        quotes: list[Quote] = []
        for finding in self.findings:
            fact, *others = finding.sentences
            text = " ".join([*others, finding.remedy]).strip()
            node, details = finding.node, []
            if node is not None and not node.is_leaf:
                details.append(("", f"{operation(node)} = {number(node.data)}"))
                if node.origin is not None and node.origin.file:
                    details.append(("made at", where(node)))
            picture = picture_of(self.output, node) if pictures and node is not None and len(quotes) < 2 else ""
            quotes.append(Quote(fact, text, details, picture, finding.size is Size.FINE))
        return quotes

    def _remarks(self) -> list[str]:
        return self.notes


def why(output: Value | Iterable[Value], leaf: Value | None = None) -> Explanation:
    """Explain gradients that are zero, vanishing, exploding, infinite or nan: where it happens, why, and what helps.

    It computes the gradients anew; ``backward()`` need not have been called, and no ``grad`` is changed.
    Lines are told of what was computed within ``record_lines()``.

    >>> x = mg.Value(-2.0, "x")
    >>> finding = mg.why(mg.relu(x)).findings[0]
    >>> finding.size.value, finding.cause.value
    ('zero', 'off')

    Args:
        output: what is differentiated; several, such as the loss of each sample, stand for their sum.
        leaf: whose gradient is to be explained, whatever it is; any node of the graph will do. Without it the
            suspicious gradients of all leaves are explained, the worst first: those that are not finite, are 0, or are
            below 1e-6 or above 1e6.

    Returns:
        The explanation: print it, let a notebook show it, or read its ``findings``.

    Raises:
        TypeError: if the output is not a Value or several, or the leaf is not a Value.
        ValueError: for a leaf alone, since nodes do not know what is computed from them: ``why(output, leaf)``.
    """
    outputs = [output] if isinstance(output, Value) else list(output) if isinstance(output, Iterable) else [output]
    for one in outputs:
        if not isinstance(one, Value):
            raise TypeError(
                f"why() explains the gradients of a Value, or of several; got {short_repr(one)} of type "
                f"{type(one).__name__}: call the function first, as in mg.why(loss(x))"
            )
    if leaf is not None and not isinstance(leaf, Value):
        raise TypeError(
            f"why(output, leaf) takes a Value for the leaf; got {short_repr(leaf)} of type {type(leaf).__name__}"
        )
    if not outputs:
        raise ValueError(f"why() got no output, but {output!r}: give what is differentiated, as in mg.why(loss)")
    if leaf is None and all(one.is_leaf for one in outputs):
        raise ValueError(
            f"nothing computes {outputs[0]!r}: it is a leaf, and knows nothing of what is computed from it. Give the "
            "output first: mg.why(output, leaf). If it is the output, it was computed within no_grad(), or from "
            ".data: compute it again without"
        )
    flow = Flow(outputs)
    tracer = _Tracer(flow)
    title = f"{_named(outputs[0])}" + (f" and {len(outputs) - 1} more" if outputs[1:] else "")
    explanation = Explanation(f"Gradients of {title}", outputs[0])
    if leaf is not None:
        explanation.title = f"The gradient of {title} by {_named(leaf)}"
        explanation.findings = [tracer.finding(leaf)]
        explanation.counts[explanation.size] += 1
    else:
        tracer.explain_all(explanation)
    if not math.isfinite(outputs[0].data):
        place = tracer.first_not_finite(flow.position[outputs[0]])
        assert place is not None  # it is the output itself, or before it
        explanation.notes.append(f"The output is {number(outputs[0].data)}: {tracer.birth_clause(place)}.")
    return explanation


class _Tracer:
    """Follows the gradients of a graph from the output to where they go wrong."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.inputs: dict[Any, set[Value]] = {}
        self.steepness: dict[Operation, float] = {}

    @cached_property
    def first_not_finite(self) -> Callable[[int], int | None]:
        """The function of a node that finds where what makes it infinite, or nan, came up."""
        return first_not_finite(self.flow.values, self.flow.operands)

    def saturates(self, op: Operation) -> float:
        """The logarithm of the slope at 0 of an operation that saturates, as tanh does; else −∞.

        Its number tends to a limit at an end of the line, and its slope to 0.
        """
        if op not in self.steepness:
            self.steepness[op] = _steepness(op)
        return self.steepness[op]

    # -- names ---------------------------------------------------------------------------------------

    @cached_property
    def calls(self) -> list[Any]:
        """For each node the call of a module that made it or what is computed from it; empty where there are none."""
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
        while call is not None and node in self.given(call):
            call = call.outer
        return call

    def given(self, call: Any) -> set[Value]:
        """What a module was called with."""
        if call not in self.inputs:
            self.inputs[call] = set(call.inputs)
        return self.inputs[call]

    def unit(self, i: int) -> str:
        """The module that made a node, ``"MLP.layers.0.neurons.3"``; empty for none."""
        call = self.call(i)
        return call.path if call is not None else ""

    def home(self, leaves: Iterable[int]) -> str:
        """The module that holds all of some labelled leaves; empty for none."""
        held: list[set[str]] = []
        for call in {self.call(i) if self.flow.nodes[i].label else None for i in leaves}:
            paths, outer = {""}, call
            while outer is not None:
                paths.add(outer.path)
                outer = outer.outer
            held.append(paths)
        return max(set.intersection(*held), key=len)

    @cached_property
    def layers(self) -> dict[str, dict[Any, list[int]]]:
        """For each module the ReLUs of each of its units: of those that it applies itself, or that its neurons do."""
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
        """The module in whose units a ReLU is."""
        return {i: layer for layer, units in self.layers.items() for relus in units.values() for i in relus}

    def name(self, i: int) -> str:
        node = self.flow.nodes[i]
        unit = "" if node.label else self.unit(i)
        return f"a parameter of {unit}" if unit and node.op is LEAF else _named(node)

    def at(self, i: int) -> str:
        """An operation, with the module that it belongs to."""
        unit = self.unit(i)
        return _named(self.flow.nodes[i]) + (f" in {unit}" if unit else "")

    def source(self, edge: Edge) -> str:
        """Why a local derivative is not finite, as a clause."""
        derivative, at = self.flow.locals[edge.node][edge.argument], self.place(edge)
        if math.isfinite(derivative):
            return ""
        if math.isfinite(self.flow.values[at]):
            return ": its curve is vertical there" if math.isinf(derivative) else ": it has no limit there"
        return f", since {self.birth_clause(at)}"

    def birth_clause(self, i: int) -> str:
        node, value = self.flow.nodes[i], self.flow.values[i]
        if node.is_leaf:
            return f"{self.at(i)} was given as {number(value)}"
        if math.isnan(value):
            return f"{self.at(i)} is nan, though none of its operands is"
        return f"{self.at(i)} {'is' if self.is_pole(i) else 'overflows to'} {number(value)}"

    # -- which findings ------------------------------------------------------------------------------

    def explain_all(self, explanation: Explanation) -> None:
        flow, sizes = self.flow, list(Size)
        groups: dict[Any, list[int]] = {}
        leaves = [i for i, node in enumerate(flow.nodes) if node.op is LEAF]
        for i in leaves:
            size = Size.of(flow.gradients[i])
            edge = {Size.NAN: flow.bad[i], Size.INFINITE: flow.bad[i], Size.ZERO: flow.first_zero(i)}.get(size)
            if size is not Size.FINE:
                explanation.counts[size] += 1
                groups.setdefault((sizes.index(size), *(self.key(edge, layers=True) if edge else ())), []).append(i)
        behind_relu = (Cause.ZERO_FACTOR, relu.name)  # multiplied by the 0 of a unit that is off: that comes first
        ranked = sorted(groups, key=lambda key: (key[0], key[1:3] == behind_relu, -len(groups[key])))
        heads = {key[0]: key for key in reversed(ranked)}  # of each size the most frequent, before others of one size
        shown = [*heads.values(), *[key for key in ranked if key not in heads.values()]][:SHOWN]
        for key in sorted(shown, key=ranked.index):
            members = groups[key]
            worst = max(members, key=lambda i: abs(math.log(abs(flow.gradients[i]) or 1.0)))
            members = [worst, *[i for i in members if i != worst]]
            finding = self.finding(flow.nodes[worst])
            finding.leaves = [flow.nodes[i] for i in members]
            finding.names = [self.name(i) for i in members[:SHOWN]]
            finding.home = self.home(members)
            if finding.cause is Cause.OFF and (told := self.layer_sentence(key[3])):
                finding.sentences[0] = told
            explanation.findings.append(finding)
        if groups:
            rest = sum(explanation.counts.values()) - sum(len(finding.leaves) for finding in explanation.findings)
            if rest:
                explanation.notes.append(f"{rest} more have other causes: mg.why(output, leaf) explains one of them.")
        else:
            all_leaves = (
                f"gradients of all {len(leaves)} leaves lie" if leaves[1:] else "gradient of the only leaf lies"
            )
            explanation.notes.append(f"The {all_leaves} between {VANISHING:g} and {EXPLODING:g} in size.")

    def finding(self, leaf: Value) -> Finding:
        flow = self.flow
        i = flow.position.get(leaf)
        if i is None:
            finding = Finding([leaf], [_named(leaf)], 0.0, Size.ZERO, Cause.NO_PATH)
            output = flow.outputs[0]
            finding.sentences.append(
                f"The output has no graph: {_named(output)} is a leaf, or was computed within no_grad()."
                if output.is_leaf
                else f"The output does not depend on {_named(leaf)}: no path leads from the one to the other."
            )
            return finding
        gradient = flow.gradients[i]
        finding = Finding([leaf], [self.name(i)], gradient, Size.of(gradient), Cause.NOTHING, home=self.home([i]))
        if finding.size is Size.FINE or finding.size in (Size.VANISHING, Size.EXPLODING):
            self.explain_factors(finding, i)
        else:
            edges = self.deaths(i) if finding.size is Size.ZERO else self.births(i)
            self.explain_places(finding, i, edges)
        return finding

    def deaths(self, start: int) -> list[Edge]:
        """The edges at which what flows to a node becomes 0, nearest the output first.

        Of all that are 0 on some path these are the first seen from the output, or the first seen from the node,
        whichever are fewer kinds: if its own ReLU is off, it does not matter which others are, later on.
        """
        flow, depends = self.flow, self.flow.depends(start)
        later = [i for i in range(start, len(flow.nodes)) if depends[i] and flow.alive[i]]
        if not flow.alive[start]:
            cuts = [i for i in reversed(later) if flow.open[i] is not None]
            pairs = [(i, k) for i in cuts for k, j in reversed([*enumerate(flow.operands[i])]) if depends[j]]
            return [Edge(i, k) for i, k in pairs if flow.is_cut(i, k)]
        far = [Edge(i, OWN) for i in later if flow.sizes[i] and not flow.gradients[i]]
        reached, near = {start}, []
        for i in later:
            gradient, derivatives = flow.gradients[i], flow.locals[i]
            for k, j in enumerate(flow.operands[i]):
                if depends[j]:
                    if gradient and not gradient * derivatives[k]:
                        far.append(Edge(i, k))
                    if j in reached and not flow.is_cut(i, k):
                        if derivatives[k]:
                            reached.add(i)
                        else:
                            near.append(Edge(i, k))
        if any(flow.position[output] in reached for output in flow.outputs):
            near = far
        chosen = min(far, near, key=lambda found: len(set(map(self.key, found))))
        return sorted(chosen, reverse=True)

    def births(self, start: int) -> list[Edge]:
        """The edges, nearest the output first, at which what flows to a node becomes infinite, or nan."""
        flow, found = self.flow, []
        depends = flow.depends(start)
        arrived: dict[int, float] = {}
        for i in reversed(range(start, len(flow.nodes))):
            if not depends[i] or not flow.alive[i]:
                continue
            gradient = flow.gradients[i]
            if not math.isfinite(gradient) and math.isnan(gradient) != math.isnan(arrived.get(i, 0.0)):
                found.append(Edge(i, OWN))  # ∞ − ∞
            elif math.isinf(gradient) and i not in arrived:
                found.append(Edge(i, OWN))  # a sum of finite numbers
            for k, j in enumerate(flow.operands[i]):
                if depends[j] and not flow.is_cut(i, k):
                    along = gradient * flow.locals[i][k]
                    if not math.isfinite(along):
                        arrived[j] = along if not math.isnan(arrived.get(j, 0.0)) else math.nan
                        if math.isfinite(gradient) or math.isnan(along) != math.isnan(gradient):
                            found.append(Edge(i, k))
        if math.isnan(flow.gradients[start]):  # the nan itself, before the infinities that led to it
            found.sort(key=lambda edge: not math.isnan(self.along(edge)))
        return found

    def along(self, edge: Edge) -> float:
        """What flows along an edge; the gradient itself for the sum of flows."""
        gradient = self.flow.gradients[edge.node]
        return gradient if edge.argument < 0 else gradient * self.flow.locals[edge.node][edge.argument]

    # -- what happens there --------------------------------------------------------------------------

    def key(self, edge: Edge, layers: bool = False) -> tuple[Cause, str, str]:
        """What is alike at edges that belong together: the cause, the operation, and the unit, or the layer."""
        cause, i = self.cause(edge), edge.node
        if cause is Cause.ZERO_FACTOR:  # what comes of one 0 belongs together
            i = self.zero_source(self.other(edge))
        module = self.layer_of.get(i) if layers else None
        return cause, self.flow.nodes[i].op.name, module or self.unit(i)

    def cause(self, edge: Edge) -> Cause:
        flow, (i, k) = self.flow, edge
        gradient, along = flow.gradients[i], self.along(edge)
        if k < 0:
            if math.isnan(gradient):
                return Cause.INFINITIES_CANCEL
            return Cause.LARGE_FACTORS if math.isinf(gradient) else Cause.CANCELLED
        if flow.is_cut(i, k):
            return Cause.STOPPED if flow.nodes[i].op is stop_gradient else Cause.STEP
        op, derivative = flow.nodes[i].op, flow.locals[i][k]
        if math.isfinite(along):
            if derivative:
                return Cause.SMALL_FACTORS
            if op in OF_ROWS:
                return OF_ROWS[op]
            if self.saturates(op) > -math.inf:
                return Cause.SATURATED
            return Cause.NOT_CHOSEN if op.kink is not None and self.stays(edge) else Cause.FLAT
        if math.isnan(along) and not math.isnan(derivative):
            return Cause.ZERO_TIMES_INFINITY
        if math.isfinite(derivative):
            return Cause.LARGE_FACTORS
        at = self.place(edge)
        of_its_own = math.isfinite(flow.values[at])
        if math.isnan(derivative if of_its_own else flow.values[at]):
            return Cause.NAN
        return Cause.INFINITE_DERIVATIVE if of_its_own or self.is_pole(at) else Cause.OVERFLOW

    def stays(self, edge: Edge) -> bool:
        """Whether an operand moves nothing, on one side at least: as where it is not chosen."""
        (i, k), values = edge, self.flow.values
        xs = [values[j] for j in self.flow.operands[i]]
        step = 1e-3 * max(1.0, abs(xs[k]))
        forward = self.flow.nodes[i].op.forward
        return any(forward(*xs[:k], x, *xs[k + 1 :]) == values[i] for x in (xs[k] - step, xs[k] + step))

    def is_pole(self, i: int) -> bool:
        """Whether an infinity is the function's own, at 0 or an end of its domain, and not of too large a number."""
        node = self.flow.nodes[i]
        pairs = zip(node.parents, node.op.domain, strict=True)
        return any(not x.data or x.data not in domain for x, domain in pairs)

    def explain_places(self, finding: Finding, i: int, edges: list[Edge]) -> None:
        groups: dict[tuple[Cause, str, str], list[Edge]] = {}
        for edge in edges:
            groups.setdefault(self.key(edge), []).append(edge)
        finding.places = [self.flow.nodes[self.place(edge)] for edge in edges]
        finding.cause = next(iter(groups))[0] if groups else Cause.NOTHING
        finding.advice = self.advice(edges[0]) if edges else ""
        sentences = [
            _first(self.sentence(cause, group, i), str.upper) for (cause, *_), group in [*groups.items()][:SHOWN]
        ]
        finding.sentences += sentences[:1]
        for text, group in zip(sentences[1:], [*groups.values()][1:SHOWN], strict=True):
            led_to_nan = finding.size is Size.NAN and not math.isnan(self.along(group[0]))
            lead = "The ∞ arises here" if led_to_nan else "Another path"
            finding.sentences.append(f"{lead}: {_first(text, str.lower)}")
        if len(groups) > SHOWN:
            finding.sentences.append(f"And so at {len(groups) - SHOWN} more places.")

    def advice(self, edge: Edge) -> str:
        """What helps here, where that is known: a formula that stays finite, or not to compute what is left out."""
        flow, grown = self.flow, self.flow.bad[edge.node]
        places = [flow.nodes[self.place(at)] for at in (edge, grown) if at is not None]
        for place in [place for place in places if not math.isfinite(place.data)]:
            users = {flow.nodes[i]: flow.nodes[child] for i, child in enumerate(flow.child) if child is not None}
            if better := rewrite(place, users):
                return f"Write {better}."
        if self.cause(edge) is not Cause.ZERO_TIMES_INFINITY:
            return ""
        if grown is not None:
            op, grower = flow.nodes[edge.node].op, flow.nodes[grown.node].op
            if op.kink is None or grower.arity > 1 or self.cause(grown) is not Cause.INFINITE_DERIVATIVE:
                return WORDS[self.cause(grown)][1]
            return (
                f"The 0 of {op.name} does not stop an ∞: choose the argument of {grower.name}, as in where(x > 0, "
                f"{grower.name}(where(x > 0, x, 1)), 0), with mg.greater(x, 0) for x > 0; or keep away from the point, "
                "as in sqrt(x + 1e-12) for sqrt(x)."
            )
        zero = flow.first_zero(edge.node)
        if zero is None:
            return ""
        if self.cause(zero) is Cause.ZERO_FACTOR:
            return "Do not compute what is then multiplied by 0; or give it a safe argument, where(x > 0, x, 1) for x."
        return WORDS[Cause.OVERFLOW][1] if self.cause(zero) in (Cause.FLAT, Cause.SATURATED) else ""

    def place(self, edge: Edge) -> int:
        """The node where it happens: if the local derivative is not finite, where the first such number came up."""
        flow, (i, k) = self.flow, edge
        place = None if k < 0 or math.isfinite(flow.locals[i][k]) else self.first_not_finite(i)
        return i if place is None else place

    def sentence(self, cause: Cause, edges: list[Edge], start: int) -> str:
        """What happens at these edges, which are alike."""
        flow, (i, k) = self.flow, edges[0]
        if cause is Cause.OFF:
            return self.relus_sentence(edges, start)
        words = {
            "at": self.at(i) if k >= 0 else self.name(i),
            "many": f", and so at {len(edges) - 1} more like it" if edges[1:] else "",
            "gradient": number(flow.gradients[i], 3) if flow.gradients[i] else "0",
        }
        if k < 0:
            flows = flow.arriving(i)
            words["up"], words["down"] = (number(sum(part(x, 0.0) for x in flows)) for part in (max, min))
            if cause is Cause.LARGE_FACTORS:
                return f"The sum of what {len(flows)} paths bring to {words['at']} overflows to {words['gradient']}."
            return WORDS[cause][0].format(**words)
        operand, derivative = flow.operands[i][k], flow.locals[i][k]
        words["x"], words["value"] = self.name(operand), number(flow.values[operand], 6)
        words["slope"] = f"the local derivative of {words['at']} by its operand {words['x']}"
        words["derivative"] = number(derivative, 3)
        words["source"], words["zero"] = self.source(edges[0]), ""
        if cause is Cause.ZERO_FACTOR:
            words["zero"] = self.zero_clause(self.other(edges[0]))
        edge = flow.first_zero(i)
        if cause is Cause.ZERO_TIMES_INFINITY and edge is not None and not flow.gradients[i]:
            words["zero"] = f" ({_first(self.sentence(self.cause(edge), [edge], i).rstrip('.'), str.lower)})"
        text = WORDS[cause][0].format(**words)
        if cause in (Cause.SMALL_FACTORS, Cause.LARGE_FACTORS):
            text += f" {self.path_sentence(self.path(operand))}"
        if is_program(flow.nodes[i].op):
            text += " What happens inside is seen by explaining the function that was compiled, on one sample."
        return text

    def relus_sentence(self, edges: list[Edge], start: int) -> str:
        """How many of the ReLUs of one unit are off, and how far."""
        flow, unit, depends = self.flow, self.unit(edges[0].node), self.flow.depends(start)
        off = {edge.node for edge in edges}
        alike = [i for i, node in enumerate(flow.nodes) if depends[i] and node.op is relu]
        count = len(off) + sum(i not in off and flow.values[i] > 0.0 and self.unit(i) == unit for i in alike)
        inputs = sorted(flow.values[flow.operands[i][0]] for i in off)
        low, high = number(inputs[0], 6), number(inputs[-1], 6)
        given = f"with inputs from {low} to {high}" if low != high else f"with the input {low}"
        which = f"The ReLU of {unit}" if unit else "The ReLU"
        if count == 1:
            return f"{which} is off, {given}."
        if len(off) < count:
            return f"{which} is off for {len(off)} of {count} samples, {given}."
        if unit or count == len(flow.outputs):
            return f"{which} is off for all {count} samples, {given}: the unit is dead."
        return f"All {count} ReLUs that it leads to are off, {given}: if they are one unit's, the unit is dead."

    def layer_sentence(self, layer: str) -> str:
        """How many units of a layer are off for every sample; empty if it is one at most."""
        units, values = self.layers.get(layer, {}), self.flow.values
        dead = [relus for relus in units.values() if not any(values[i] for i in relus)]
        if len(dead) < 2:
            return ""
        inputs = sorted(values[self.flow.operands[i][0]] for relus in dead for i in relus)
        which = f"{len(dead)} of {len(units)}" if len(dead) < len(units) else f"All {len(units)}"
        count = max(map(len, dead))
        samples, fate = (f" for all {count} samples", ": they are dead") if count > 1 else ("", "")
        given = f"with inputs from {number(inputs[0], 6)} to {number(inputs[-1], 6)}"
        return f"{which} units of {layer} are off{samples}, {given}{fate}."

    def other(self, edge: Edge) -> int:
        """The other operand of a product."""
        return self.flow.operands[edge.node][1 - edge.argument]

    def zero_source(self, i: int) -> int:
        """Follow a 0 up through products to where it came up."""
        while self.flow.nodes[i].op is mul:
            zero = next((j for j in self.flow.operands[i] if not self.flow.values[j]), None)
            if zero is None:
                break
            i = zero
        return i

    def zero_clause(self, i: int) -> str:
        """Why a number is 0, as a clause."""
        source = self.zero_source(i)
        if self.flow.nodes[source].op is not relu:
            return f"{self.name(source)} is 0"
        unit, below = self.unit(source), self.flow.operands[source][0]
        return f"the ReLU{f' of {unit}' if unit else ''} is off, its input being {number(self.flow.values[below], 6)}"

    # -- products of many factors --------------------------------------------------------------------

    def path(self, i: int) -> list[Edge]:
        """The edges of the strongest path to the output, from the output on."""
        step = self.flow.strongest
        found = []
        edge = step[i]
        while edge is not None:
            found.append(edge)
            edge = step[edge.node]
        return found[::-1]

    def explain_factors(self, finding: Finding, i: int) -> None:
        flow = self.flow
        if finding.size is Size.VANISHING:
            depends = flow.depends(i)
            for c in reversed(range(i, len(flow.nodes))):
                if depends[c] and 0.0 < abs(flow.gradients[c]) <= CANCELLED * flow.sizes[c]:
                    finding.cause = Cause.CANCELLED
                    finding.places = [flow.nodes[c]]
                    finding.sentences.append(self.sentence(Cause.CANCELLED, [Edge(c, OWN)], i))
                    return
        path = self.path(i)
        factors = [math.log(abs(flow.locals[c][k])) for c, k in path]
        sign = -1.0 if finding.size is Size.VANISHING else 1.0
        order = sorted(range(len(path)), key=lambda m: -sign * factors[m])
        finding.places = [flow.nodes[path[m].node] for m in order]
        if finding.size is Size.FINE:
            finding.sentences.append(f"Nothing is wrong with {number(finding.gradient, 6)}.")
        else:
            finding.cause = Cause.SMALL_FACTORS if finding.size is Size.VANISHING else Cause.LARGE_FACTORS
            worst = path[order[0]]
            saturates = self.saturates(flow.nodes[worst.node].op) > -math.inf
            if saturates and finding.size is Size.VANISHING and 2.0 * factors[order[0]] < sum(factors):
                finding.cause = Cause.SATURATED
                finding.sentences.append(self.sentence(Cause.SATURATED, [worst], i))
            elif sign < 0.0 and (told := self.saturated_sentence(path, factors)):
                finding.cause = Cause.SATURATED
                finding.sentences.append(told)
        finding.sentences.append(self.path_sentence(path))

    def saturated_sentence(self, path: list[Edge], factors: list[float]) -> str:
        """Which operations of a path are saturated, and how far; empty if that is not what makes the product small."""
        flow = self.flow
        names = [_plain(flow.nodes[i].op.name) for i, _ in path]
        far = [m for m, (i, _) in enumerate(path) if factors[m] < TENTH + self.saturates(flow.nodes[i].op)]
        if 2.0 * sum(factors[m] for m in far) > sum(factors):
            return ""
        kinds = ", ".join(f"{count} × {name}" for name, count in Counter(names[m] for m in far).items())
        inputs = sorted(flow.values[flow.operands[path[m].node][path[m].argument]] for m in far)
        slopes = sorted(factors[m] for m in far)
        return (
            f"{len(far)} operations on its path are saturated, {kinds}, with inputs from {number(inputs[0], 6)} to "
            f"{number(inputs[-1], 6)}, where their slopes are {_power(slopes[0])} to {_power(slopes[-1])}."
        )

    def path_sentence(self, path: list[Edge]) -> str:
        """The factors along a path: by module, or else by operation, in order; and all of one kind together."""
        flow = self.flow
        if not path:
            return "It is the output itself."
        steps: list[tuple[str, float]] = []
        kinds: dict[str, list[float]] = {}
        for i, k in path:
            factor = math.log(abs(flow.locals[i][k]))
            name = self.unit(i) or _named(flow.nodes[i])
            before = steps.pop()[1] if steps and steps[-1][0] == name else 0.0
            steps.append((name, before + factor))
            kinds.setdefault(_plain(flow.nodes[i].op.name), []).append(factor)
        total = sum(factor for _, factor in steps)
        shown = 2 * SHOWN if self.calls else SHOWN
        order = sorted(range(len(steps)), key=lambda m: -steps[m][1] if total > 0.0 else steps[m][1])
        listed = ", ".join(f"{steps[m][0]} ×{_power(steps[m][1])}" for m in sorted(order[:shown]))
        if rest := [steps[m][1] for m in order[shown:]]:
            listed += f", and {len(rest)} more, ×{_power(sum(rest) / len(rest))} each on average"
        text = f"Along the strongest of its paths the gradient is multiplied by {_power(total)}: {listed}."
        if len(path) > 2:
            worst = sorted(kinds.items(), key=lambda kind: -abs(sum(kind[1])))[:3]
            listed = ", ".join(f"{len(logs)} × {kind} make {_power(sum(logs))}" for kind, logs in worst if any(logs))
            text += f" By kind of operation: {listed}." if listed else ""
        return text


def _steepness(op: Operation) -> float:
    if not isinstance(op, Op) or op.arity != 1:
        return -math.inf
    with suppress(Exception):  # a row of a user's own may not take infinities
        found = {x: (op(x), abs(op.local_derivatives(op(x), x)[0])) for x in (0.0, math.inf, -math.inf)}
        slope = found.pop(0.0)[1]
        if 0.0 < slope < math.inf and any(math.isfinite(y) and not flat for y, flat in found.values()):
            return math.log(slope)
    return -math.inf


def _named(node: Value) -> str:
    return node.label or (f"the leaf {number(node.data, 6)}" if node.is_leaf else operation(node))


def _listed(names: list[str], count: int) -> str:
    listed = ", ".join(dict.fromkeys(names))
    if count > len(names):
        return f"{listed}, … ({count})"
    return f"{listed} ({count})" if count > len(set(names)) else listed


def _plain(name: str) -> str:
    """The name of a row without its constants."""
    return name.partition("[")[0]


def _first(text: str, change: Callable[[str], str]) -> str:
    """Begin a sentence, or a clause, with a capital or a small letter, where that is a word and not a name."""
    return change(text[0]) + text[1:] if text.startswith(("the ", "The ", "All ")) else text


def _power(logarithm: float) -> str:
    """A factor given by its logarithm, which may lie beyond the floats."""
    if abs(logarithm) < math.log(sys.float_info.max):
        return number(math.exp(logarithm), 3)
    return f"1e{logarithm / math.log(10.0):.0f}".replace("-", "−")
