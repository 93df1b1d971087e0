"""The marks of a picture or a page: a Value, Values with words, or the findings of ``why`` and ``precision``."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from microgrid.drawing.text import significant
from microgrid.engine import Value, topological_order
from microgrid.ops import short_repr

if TYPE_CHECKING:
    from microgrid.checking.precision import Precision
    from microgrid.checking.why import Explanation

Mark: TypeAlias = "Value | Mapping[Value, str] | Explanation | Precision"
"""The type of ``mark`` for ``draw`` and ``explore``."""

FEW = 8
"""Of a finding about more leaves than this only the places are marked, not the leaves."""


class Quote(NamedTuple):
    """A finding in words, and the Value at which it happens."""

    fact: str
    remedy: str
    place: Value | None


@dataclass(frozen=True, slots=True)
class Marks:
    """The marked Values.

    Attributes:
        at: for each Value the words beside it; none if it is only marked.
        summary: all of it in one line.
        found_in: the pass that the words are about, ``"forward"`` or ``"backward"``; empty for neither.
        quotes: the findings, the worst first.
    """

    at: dict[Value, list[str]] = field(default_factory=dict)
    summary: str = ""
    quotes: tuple[Quote, ...] = ()
    found_in: str = ""


def marks_of(mark: "Mark | None", outputs: Iterable[Value]) -> Marks:
    """Return the marks in the graph of some outputs.

    Raises:
        TypeError: if ``mark`` is none of these.
        ValueError: if a Value is not in the graph.
    """
    if mark is None:
        return Marks()
    marks = _found(mark)
    known = set(topological_order(*outputs))
    for value in marks.at:
        if value not in known:
            raise ValueError(
                f"mark={short_repr(value)} is not in the graph that is drawn: give a Value that the output depends on, "
                "or draw the output that why() or precision() was asked about"
            )
    return marks


def _found(mark: Mark) -> Marks:
    if isinstance(mark, Value):
        return Marks({mark: []})
    if isinstance(mark, Mapping) and all(isinstance(v, Value) and isinstance(text, str) for v, text in mark.items()):
        return Marks({value: [text] if text else [] for value, text in mark.items()})
    from microgrid.checking.precision import Precision  # most pictures do not need the checking package
    from microgrid.checking.why import Explanation

    if isinstance(mark, Explanation):
        return _of_why(mark)
    if isinstance(mark, Precision):
        return _of_precision(mark)
    raise TypeError(
        "mark must be a Value, a dict of Values and what to say of each, or what why() or precision() returned; got "
        f"{short_repr(mark)} of type {type(mark).__name__}"
    )


def _of_why(found: "Explanation") -> Marks:
    from microgrid.checking.causes import Cause

    along_a_path = (Cause.SATURATED, Cause.SMALL_FACTORS, Cause.LARGE_FACTORS)  # of its factors the first counts
    at: dict[Value, list[str]] = {}
    quotes = []
    for finding in found.findings:
        if finding.cause is not Cause.NOTHING:
            for place in finding.places[: 1 if finding.cause in along_a_path else None]:
                _add(at, place, finding.cause)
        for leaf in finding.leaves if len(finding.leaves) <= FEW else ():
            _add(at, leaf, f"gradient {finding.size}")
        quotes.append(Quote(" ".join(finding.sentences), finding.remedy, finding.node))
    return Marks(at, found.summary, tuple(quotes), "backward")


def _of_precision(found: "Precision") -> Marks:
    at: dict[Value, list[str]] = {}
    culprits = [loss for loss in found.losses if loss.is_culprit]
    for loss in culprits:
        _add(at, loss.node, f"{_digits(loss.digits)} digits lost" if loss.digits >= 0.5 else f"off by {loss.cost:.1g}")
    _add(at, found.output, f"{_digits(found.digits)} digits right")
    first = {loss.rewrite or id(loss): loss for loss in reversed(culprits)}.values()  # of those with one remedy
    told = [loss for loss in culprits if loss in first]
    quotes = [
        Quote(sentence, f"Write {loss.rewrite}." * bool(loss.rewrite), loss.node)
        for sentence, loss in zip(found.sentences, told, strict=True)
    ]
    return Marks(at, found.summary, tuple(quotes), "forward")


def _digits(digits: float) -> str:
    return significant(round(digits, 1), 3)


def _add(at: dict[Value, list[str]], value: Value, text: str) -> None:
    texts = at.setdefault(value, [])
    if text not in texts:
        texts.append(text)
