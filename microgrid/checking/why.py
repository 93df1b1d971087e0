"""Why is this gradient zero, tiny, huge, infinite or nan?

A gradient is a sum over the paths from a value to the output, of the product of the local derivatives along each.
So there are few ways for it to go wrong: a factor of 0 on every path, a long product of small or of large factors,
paths that cancel, or a number that is not finite. ``why`` finds the places where that happens, in time proportional to
the size of the graph, however many paths there are.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from microgrid.checking.causes import Cause, Causes
from microgrid.checking.flow import OWN, Edge, Flow
from microgrid.checking.report import number, operation, where
from microgrid.checking.sentences import SHOWN, WORDS, Sentences, first, named
from microgrid.checking.sheet import BAD, GOOD, ODD, Badge, Quote, Row, Sheet, picture_of
from microgrid.engine import Value
from microgrid.ops import LEAF, relu, short_repr

VANISHING, EXPLODING = 1e-6, 1e6
"""A gradient below the first is called vanishing, one above the second exploding."""

CANCELLED = 1e-9
"""Paths cancel if less than this fraction of their sizes is left."""


class Size(StrEnum):
    """The kinds of suspicious gradients, the worst first."""

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


@dataclass
class Finding:
    """Suspicious gradients of some leaves, and their cause.

    Attributes:
        leaves: the values with this gradient and this cause.
        names: their names.
        home: the module that holds them all; empty for none.
        gradient: the gradient of the first of them.
        size: the kind of gradient: zero, vanishing, and so on.
        cause: the cause, the one nearest the output.
        places: the nodes at which it happens, the one nearest the output first.
        sentences: the explanation.
        advice: the remedy for this case, if there is a better one than that of the cause.
        remedy: the remedy.
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
    """The result of ``why``: the causes of suspicious gradients.

    Attributes:
        title: which gradients.
        output: the output; the first of several.
        findings: one for each cause, the worst first; empty if no gradient is suspicious.
        counts: how many of the gradients are of each suspicious size.
        notes: further remarks.
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
        """The kind of the worst gradient."""
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
    """Explain gradients that are zero, vanishing, exploding, infinite or nan: the place, the cause and a remedy.

    It computes the gradients anew; ``backward()`` need not have been called, and no ``grad`` is changed.
    Lines are given for nodes made within ``record_lines()``.

    >>> x = mg.Value(-2.0, "x")
    >>> finding = mg.why(mg.relu(x)).findings[0]
    >>> finding.size.value, finding.cause.value
    ('zero', 'off')

    Args:
        output: the output; several, such as the loss of each sample, count as their sum.
        leaf: the node whose gradient is explained, suspicious or not; it need not be a leaf. Without it the
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
    say = Sentences(Causes(Flow(outputs)))
    title = f"{named(outputs[0])}" + (f" and {len(outputs) - 1} more" if outputs[1:] else "")
    explanation = Explanation(f"Gradients of {title}", outputs[0])
    if leaf is not None:
        explanation.title = f"The gradient of {title} by {named(leaf)}"
        explanation.findings = [_finding(say, leaf)]
        explanation.counts[explanation.size] += 1
    else:
        _explain_all(say, explanation)
    if not math.isfinite(outputs[0].data):
        place = say.causes.first_not_finite(say.flow.position[outputs[0]])
        assert place is not None  # it is the output itself, or before it
        explanation.notes.append(f"The output is {number(outputs[0].data)}: {say.birth_clause(place)}.")
    return explanation


def _explain_all(say: Sentences, explanation: Explanation) -> None:
    flow, sizes = say.flow, list(Size)
    groups: dict[Any, list[int]] = {}
    leaves = [i for i, node in enumerate(flow.nodes) if node.op is LEAF]
    for i in leaves:
        size = Size.of(flow.gradients[i])
        edge = {Size.NAN: flow.bad[i], Size.INFINITE: flow.bad[i], Size.ZERO: flow.first_zero(i)}.get(size)
        if size is not Size.FINE:
            explanation.counts[size] += 1
            groups.setdefault((sizes.index(size), *(say.causes.key(edge, layers=True) if edge else ())), []).append(i)
    behind_relu = (Cause.ZERO_FACTOR, relu.name)  # multiplied by the 0 of a unit that is off: that comes first
    ranked = sorted(groups, key=lambda key: (key[0], key[1:3] == behind_relu, -len(groups[key])))
    heads = {key[0]: key for key in reversed(ranked)}  # of each size the most frequent, before others of one size
    shown = [*heads.values(), *[key for key in ranked if key not in heads.values()]][:SHOWN]
    for key in sorted(shown, key=ranked.index):
        members = groups[key]
        worst = max(members, key=lambda i: abs(math.log(abs(flow.gradients[i]) or 1.0)))
        members = [worst, *[i for i in members if i != worst]]
        finding = _finding(say, flow.nodes[worst])
        finding.leaves = [flow.nodes[i] for i in members]
        finding.names = [say.name(i) for i in members[:SHOWN]]
        finding.home = say.units.home(members)
        if finding.cause is Cause.OFF and (told := say.layer_sentence(key[3])):
            finding.sentences[0] = told
        explanation.findings.append(finding)
    if groups:
        rest = sum(explanation.counts.values()) - sum(len(finding.leaves) for finding in explanation.findings)
        if rest:
            explanation.notes.append(f"{rest} more have other causes: mg.why(output, leaf) explains one of them.")
    else:
        all_leaves = f"gradients of all {len(leaves)} leaves lie" if leaves[1:] else "gradient of the only leaf lies"
        explanation.notes.append(f"The {all_leaves} between {VANISHING:g} and {EXPLODING:g} in size.")


def _finding(say: Sentences, leaf: Value) -> Finding:
    flow = say.flow
    i = flow.position.get(leaf)
    if i is None:
        finding = Finding([leaf], [named(leaf)], 0.0, Size.ZERO, Cause.NO_PATH)
        output = flow.outputs[0]
        finding.sentences.append(
            f"The output has no graph: {named(output)} is a leaf, or was computed within no_grad()."
            if output.is_leaf
            else f"The output does not depend on {named(leaf)}: no path leads from the one to the other."
        )
        return finding
    gradient = flow.gradients[i]
    finding = Finding([leaf], [say.name(i)], gradient, Size.of(gradient), Cause.NOTHING, home=say.units.home([i]))
    if finding.size is Size.FINE or finding.size in (Size.VANISHING, Size.EXPLODING):
        _explain_factors(say, finding, i)
    else:
        edges = say.causes.deaths(i) if finding.size is Size.ZERO else say.causes.births(i)
        _explain_places(say, finding, i, edges)
    return finding


def _explain_places(say: Sentences, finding: Finding, i: int, edges: list[Edge]) -> None:
    groups: dict[tuple[Cause, str, str], list[Edge]] = {}
    for edge in edges:
        groups.setdefault(say.causes.key(edge), []).append(edge)
    finding.places = [say.flow.nodes[say.causes.place(edge)] for edge in edges]
    finding.cause = next(iter(groups))[0] if groups else Cause.NOTHING
    finding.advice = say.advice(edges[0]) if edges else ""
    sentences = [first(say.sentence(cause, group, i), str.upper) for (cause, *_), group in [*groups.items()][:SHOWN]]
    finding.sentences += sentences[:1]
    for text, group in zip(sentences[1:], [*groups.values()][1:SHOWN], strict=True):
        led_to_nan = finding.size is Size.NAN and not math.isnan(say.flow.along(group[0]))
        lead = "The ∞ arises here" if led_to_nan else "Another path"
        finding.sentences.append(f"{lead}: {first(text, str.lower)}")
    if len(groups) > SHOWN:
        finding.sentences.append(f"And so at {len(groups) - SHOWN} more places.")


def _explain_factors(say: Sentences, finding: Finding, i: int) -> None:
    flow = say.flow
    if finding.size is Size.VANISHING:
        depends = flow.depends(i)
        for c in reversed(range(i, len(flow.nodes))):
            if depends[c] and 0.0 < abs(flow.gradients[c]) <= CANCELLED * flow.sizes[c]:
                finding.cause = Cause.CANCELLED
                finding.places = [flow.nodes[c]]
                finding.sentences.append(say.sentence(Cause.CANCELLED, [Edge(c, OWN)], i))
                return
    path = flow.path(i)
    factors = [math.log(abs(flow.locals[c][k])) for c, k in path]
    sign = -1.0 if finding.size is Size.VANISHING else 1.0
    order = sorted(range(len(path)), key=lambda m: -sign * factors[m])
    finding.places = [flow.nodes[path[m].node] for m in order]
    if finding.size is Size.FINE:
        finding.sentences.append(f"Nothing is wrong with {number(finding.gradient, 6)}.")
    else:
        finding.cause = Cause.SMALL_FACTORS if finding.size is Size.VANISHING else Cause.LARGE_FACTORS
        worst = path[order[0]]
        saturates = say.causes.saturation[flow.nodes[worst.node].op] > -math.inf
        if saturates and finding.size is Size.VANISHING and 2.0 * factors[order[0]] < sum(factors):
            finding.cause = Cause.SATURATED
            finding.sentences.append(say.sentence(Cause.SATURATED, [worst], i))
        elif sign < 0.0 and (told := say.saturated_sentence(path, factors)):
            finding.cause = Cause.SATURATED
            finding.sentences.append(told)
    finding.sentences.append(say.path_sentence(path))


def _listed(names: list[str], count: int) -> str:
    listed = ", ".join(dict.fromkeys(names))
    if count > len(names):
        return f"{listed}, … ({count})"
    return f"{listed} ({count})" if count > len(set(names)) else listed
