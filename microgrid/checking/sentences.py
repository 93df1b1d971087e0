"""The sentences of ``why``: one for each cause, and a remedy."""

import math
import sys
from collections import Counter
from collections.abc import Callable

from microgrid.checking.causes import Cause, Causes
from microgrid.checking.flow import Edge
from microgrid.checking.noise import is_program
from microgrid.checking.report import number, operation
from microgrid.checking.rewrites import rewrite
from microgrid.engine import Value
from microgrid.ops import LEAF, relu

SHOWN = 4
"""How many findings are explained in full, and how many places or factors one sentence names."""

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
"""For each cause its sentence and its remedy."""

TENTH = math.log(0.1)
"""An operation is saturated where its slope is below this part of that at 0, as a logarithm."""


class Sentences:
    """The words for causes in a graph."""

    def __init__(self, causes: Causes) -> None:
        self.causes, self.flow, self.units = causes, causes.flow, causes.units

    def name(self, i: int) -> str:
        """A node, or the module of which it is a parameter."""
        node = self.flow.nodes[i]
        unit = "" if node.label else self.units.title(i)
        return f"a parameter of {unit}" if unit and node.op is LEAF else named(node)

    def at(self, i: int) -> str:
        """An operation, with the module that it belongs to."""
        unit = self.units.title(i)
        return named(self.flow.nodes[i]) + (f" in {unit}" if unit else "")

    def source(self, edge: Edge) -> str:
        """Why a local derivative is not finite, as a clause."""
        derivative, at = self.flow.locals[edge.node][edge.argument], self.causes.place(edge)
        if math.isfinite(derivative):
            return ""
        if math.isfinite(self.flow.values[at]):
            return ": its curve is vertical there" if math.isinf(derivative) else ": it has no limit there"
        return f", since {self.birth_clause(at)}"

    def birth_clause(self, i: int) -> str:
        """How a number became infinite or nan, as a clause."""
        node, value = self.flow.nodes[i], self.flow.values[i]
        if node.is_leaf:
            return f"{self.at(i)} was given as {number(value)}"
        if math.isnan(value):
            return f"{self.at(i)} is nan, though none of its operands is"
        return f"{self.at(i)} {'is' if self.causes.is_pole(i) else 'overflows to'} {number(value)}"

    def sentence(self, cause: Cause, edges: list[Edge], start: int) -> str:
        """The sentence for edges of one kind."""
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
            words["zero"] = self.zero_clause(self.causes.other(edges[0]))
        edge = flow.first_zero(i)
        if cause is Cause.ZERO_TIMES_INFINITY and edge is not None and not flow.gradients[i]:
            words["zero"] = f" ({first(self.sentence(self.causes.cause(edge), [edge], i).rstrip('.'), str.lower)})"
        text = WORDS[cause][0].format(**words)
        if cause in (Cause.SMALL_FACTORS, Cause.LARGE_FACTORS):
            text += f" {self.path_sentence(flow.path(operand))}"
        if is_program(flow.nodes[i].op):
            text += " What happens inside is seen by explaining the function that was compiled, on one sample."
        return text

    def zero_clause(self, i: int) -> str:
        """Why a number is 0, as a clause."""
        source = self.causes.zero_source(i)
        if self.flow.nodes[source].op is not relu:
            return f"{self.name(source)} is 0"
        unit, below = self.units.title(source), self.flow.operands[source][0]
        return f"the ReLU{f' of {unit}' if unit else ''} is off, its input being {number(self.flow.values[below], 6)}"

    def relus_sentence(self, edges: list[Edge], start: int) -> str:
        """How many of the ReLUs of one unit are off, and how far."""
        flow, unit, depends = self.flow, self.units.unit(edges[0].node), self.flow.depends(start)
        off = {edge.node for edge in edges}
        alike = [i for i, node in enumerate(flow.nodes) if depends[i] and node.op is relu]
        count = len(off) + sum(i not in off and flow.values[i] > 0.0 and self.units.unit(i) == unit for i in alike)
        inputs = sorted(flow.values[flow.operands[i][0]] for i in off)
        low, high = number(inputs[0], 6), number(inputs[-1], 6)
        given = f"with inputs from {low} to {high}" if low != high else f"with the input {low}"
        which = f"The ReLU of {self.units.titles[unit]}" if unit else "The ReLU"
        if count == 1:
            return f"{which} is off, {given}."
        if len(off) < count:
            return f"{which} is off for {len(off)} of {count} samples, {given}."
        if unit or count == len(flow.outputs):
            return f"{which} is off for all {count} samples, {given}: the unit is dead."
        return f"All {count} ReLUs that it leads to are off, {given}: if they are one unit's, the unit is dead."

    def layer_sentence(self, layer: str) -> str:
        """How many units of a layer are off for every sample; empty for one at most."""
        units, values = self.units.layers.get(layer, {}), self.flow.values
        dead = [relus for relus in units.values() if not any(values[i] for i in relus)]
        if len(dead) < 2:
            return ""
        inputs = sorted(values[self.flow.operands[i][0]] for relus in dead for i in relus)
        which = f"{len(dead)} of {len(units)}" if len(dead) < len(units) else f"All {len(units)}"
        count = max(map(len, dead))
        samples, fate = (f" for all {count} samples", ": they are dead") if count > 1 else ("", "")
        given = f"with inputs from {number(inputs[0], 6)} to {number(inputs[-1], 6)}"
        return f"{which} units of {self.units.titles[layer]} are off{samples}, {given}{fate}."

    def saturated_sentence(self, path: list[Edge], factors: list[float]) -> str:
        """Which operations of a path are saturated, and how far; empty if they do not make the product small."""
        flow = self.flow
        names = [plain(flow.nodes[i].op.name) for i, _ in path]
        far = [m for m, (i, _) in enumerate(path) if factors[m] < TENTH + self.causes.saturation[flow.nodes[i].op]]
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
            name = self.units.title(i) or named(flow.nodes[i])
            before = steps.pop()[1] if steps and steps[-1][0] == name else 0.0
            steps.append((name, before + factor))
            kinds.setdefault(plain(flow.nodes[i].op.name), []).append(factor)
        total = sum(factor for _, factor in steps)
        shown = 2 * SHOWN if self.units.calls else SHOWN
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

    def advice(self, edge: Edge) -> str:
        """The remedy here, if known: a formula that stays finite, or not computing what is left out."""
        flow, grown = self.flow, self.flow.bad[edge.node]
        places = [flow.nodes[self.causes.place(at)] for at in (edge, grown) if at is not None]
        for place in [place for place in places if not math.isfinite(place.data)]:
            users = {flow.nodes[i]: flow.nodes[child] for i, child in enumerate(flow.child) if child is not None}
            if better := rewrite(place, users):
                return f"Write {better}."
        if self.causes.cause(edge) is not Cause.ZERO_TIMES_INFINITY:
            return ""
        if grown is not None:
            op, grower = flow.nodes[edge.node].op, flow.nodes[grown.node].op
            if op.kink is None or grower.arity > 1 or self.causes.cause(grown) is not Cause.INFINITE_DERIVATIVE:
                return WORDS[self.causes.cause(grown)][1]
            return (
                f"The 0 of {op.name} does not stop an ∞: choose the argument of {grower.name}, as in where(x > 0, "
                f"{grower.name}(where(x > 0, x, 1)), 0), with mg.greater(x, 0) for x > 0; or keep away from the point, "
                "as in sqrt(x + 1e-12) for sqrt(x)."
            )
        zero = flow.first_zero(edge.node)
        if zero is None:
            return ""
        if self.causes.cause(zero) is Cause.ZERO_FACTOR:
            return "Do not compute what is then multiplied by 0; or give it a safe argument, where(x > 0, x, 1) for x."
        return WORDS[Cause.OVERFLOW][1] if self.causes.cause(zero) in (Cause.FLAT, Cause.SATURATED) else ""


def named(node: Value) -> str:
    """A node by its label, else its number or its operation."""
    return node.label or (f"the leaf {number(node.data, 6)}" if node.is_leaf else operation(node))


def plain(name: str) -> str:
    """The name of a row without its constants."""
    return name.partition("[")[0]


def first(text: str, change: Callable[[str], str]) -> str:
    """Begin a sentence, or a clause, with a capital or a small letter, where that is a word and not a name."""
    return change(text[0]) + text[1:] if text.startswith(("the ", "The ", "All ")) else text


def _power(logarithm: float) -> str:
    """A factor given by its logarithm, which may lie beyond the floats."""
    if abs(logarithm) < math.log(sys.float_info.max):
        return number(math.exp(logarithm), 3)
    return f"1e{logarithm / math.log(10.0):.0f}".replace("-", "−")
