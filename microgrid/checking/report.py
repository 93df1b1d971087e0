"""The result of a check: a table for the terminal, for the message of a test and for a notebook."""

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum

from microgrid.checking.sheet import BAD, GOOD, ODD, UNKNOWN, Badge, Quote, Row, Sheet, picture_of
from microgrid.engine import Value
from microgrid.recording import Origin


class Verdict(StrEnum):
    """The verdict on one derivative; the row's ``reason`` explains every verdict but ``PASS``.

    >>> mg.check(mg.relu, 0.0).derivatives[0].verdict == mg.Verdict.KINK
    True
    """

    PASS = "PASS"
    """backward and numeric agree within the allowed error, which is small enough to be meaningful"""
    FAIL = "FAIL"
    """they differ by more than the allowed error, and the cause was found"""
    KINK = "KINK"
    """the point lies on a kink or a jump, or too near to tell: the derivative differs left and right of it"""
    DOMAIN = "DOMAIN"
    """the point lies at the end of a domain, or the function or its slope is not finite there"""
    UNRESOLVED = "UNRESOLVED"
    """rounding leaves too few digits to decide"""


class CheckError(AssertionError):
    """A check did not pass; the message is the report.

    >>> mg.check(mg.relu, 0.0).raise_()
    Traceback (most recent call last):
    microgrid.checking.report.CheckError: ...

    Attributes:
        report: the report.
    """

    def __init__(self, report: "Report") -> None:
        super().__init__(f"\n{report}")
        self.report = report


@dataclass
class Derivative:
    """One row of a report: a derivative as ``backward()`` gives it, beside the numeric one.

    Attributes:
        name: the variable: the leaf's label, argument name or parameter name.
        value: the point; several numbers for an operation of several arguments.
        backward: the derivative to check.
        numeric: the numeric derivative.
        error: |backward − numeric|.
        allowed: the largest error by rounding and truncation alone.
        verdict: whether the derivative is right, or why that cannot be decided.
        reason: the verdict in words; may also remark on a derivative that passes.
        method: how the numeric derivative was computed: ``"complex"`` or ``"difference"``.
    """

    name: str
    value: float | tuple[float, ...]
    backward: float
    numeric: float
    allowed: float
    verdict: Verdict
    reason: str = ""
    method: str = ""

    @property
    def error(self) -> float:
        """|backward − numeric|; 0 for two equal infinities or two nans."""
        if self.backward == self.numeric or (math.isnan(self.backward) and math.isnan(self.numeric)):
            return 0.0
        return abs(self.backward - self.numeric)

    @property
    def relative(self) -> float:
        """The error as a part of the larger of the two."""
        return self.error and self.error / max(abs(self.backward), abs(self.numeric))


@dataclass
class Fault:
    """The first wrong operation of a graph.

    Attributes:
        node: the node that it made.
        argument: the position of the operand whose local derivative is wrong; ``None`` if all are right.
        given: the local derivative, or the gradient, that was computed.
        right: its right value.
        what: the fault in one sentence.
        within: the call of a compiled function, if the node is inside it.
    """

    node: Value
    argument: int | None
    given: float
    right: float
    what: str
    within: Value | None = None

    @property
    def op(self) -> str:
        """The name of the operation."""
        return self.node.op.name

    @property
    def operands(self) -> tuple[float, ...]:
        """The operands, as numbers."""
        return tuple([parent.data for parent in self.node.parents])

    @property
    def origin(self) -> Origin | None:
        """The line of the user's code that made the node; ``None`` if it was not recorded."""
        origin: Origin | None = self.node.origin
        return origin

    @property
    def definition(self) -> Origin | None:
        """The line that defines the wrong local derivative; ``None`` for a number or a row of this package."""
        partial = getattr(self.node.op, "closure", None)
        if partial is None and self.argument is not None:
            partial = self.node.op.partials[self.argument]
        code = getattr(partial, "__code__", None)
        if code is None or getattr(partial, "__module__", "").partition(".")[0] == "microgrid":
            return None
        return Origin(code.co_filename, code.co_firstlineno)

    @property
    def details(self) -> list[tuple[str, str]]:
        """The place, as pairs of name and text: the operation, its line, the line of the row."""
        found = []
        if not self.node.is_leaf:
            found.append(("", f"{operation(self.node)} = {number(self.node.data)}"))
        if self.node.origin.file if self.node.origin else not self.node.is_leaf:
            found.append(("made at", where(self.node)))
        if self.definition:
            found.append(("the local derivative is defined at", str(self.definition)))
        return found

    def __str__(self) -> str:
        return "\n    ".join([self.what, *[f"{what} {place}".strip() for what, place in self.details]])


def operation(node: Value) -> str:
    """The operation with its operands, as in ``mul(exp(w)=2, x=3)``; the label or the number of a leaf."""
    if node.is_leaf:
        return node.label or number(node.data)
    depth = 2 if len(node.parents) < 3 else 0  # a long sum of expressions is not read
    operands = [f"{_named(parent, depth)}={number(parent.data, 6)}".removeprefix("=") for parent in node.parents[:4]]
    more = len(node.parents) - len(operands)
    if more:
        operands.append(f"… {more} more")
    return f"{node.op.name}({', '.join(operands)})"


def _named(node: Value, depth: int) -> str:
    """The label, or an expression of labels up to a depth, as ``relu(sub(x, 1))``; empty if there is none."""
    if node.label or node.is_leaf or not depth or len(node.parents) > 2:
        return str(node.label)
    names = [_named(parent, depth - 1) for parent in node.parents]
    operands = [
        name or number(parent.data, 3) * parent.is_leaf for name, parent in zip(names, node.parents, strict=True)
    ]
    text = f"{node.op.name}({', '.join(operands)})"
    return text if any(names) and all(operands) and len(text) <= 30 else ""


def where(node: Value) -> str:
    """The line that made a node, or how to have it recorded."""
    if node.origin is None or not node.origin.file:
        return "a line that was not recorded: build the graph within mg.record_lines(), or check the function"
    return str(node.origin)


def listed(names: list[str]) -> str:
    """The first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names[5:])} more" if names[5:] else "")


def number(x: float, digits: int = 10) -> str:
    """A number as people write it, with so many digits: 105, not 1e+02, with a true minus sign, and no −0."""
    x = x or 0.0
    if abs(x) < 1e6:
        digits = max(digits, len(str(int(abs(x)))))
    return f"{x:.{digits}g}".replace("-", "−").replace("inf", "∞")


_MARKS = {
    Verdict.PASS: ("✓", GOOD),
    Verdict.FAIL: ("✗", BAD),
    Verdict.KINK: ("∠", ODD),
    Verdict.DOMAIN: ("⊘", UNKNOWN),
    Verdict.UNRESOLVED: ("?", UNKNOWN),
}


@dataclass(repr=False)
class Report(Sheet):
    """The result of a check. It is true if every derivative was verified: nothing passes in silence.

    A verdict other than ``PASS`` makes the report false, unless it is among ``allow``; ``FAIL`` always
    does. An empty report is false as well.

    >>> report = mg.check(mg.relu, 0.0)
    >>> bool(report), report.derivatives[0].verdict.value
    (False, 'KINK')

    Attributes:
        title: what was checked.
        derivatives: one row per leaf, per direction, or per property of an operation.
        fault: the first wrong operation, if there is one.
        output: the root of the graph that was checked.
        notes: further remarks.
        allow: the verdicts that the user accepts beside ``PASS``.
    """

    columns = ("", "value", "backward", "numeric", "error", "relative", "allowed", "verdict")
    spare = ("relative",)
    nothing = "nothing to check"

    title: str
    derivatives: list[Derivative] = field(default_factory=list)
    fault: Fault | None = None
    output: Value | None = None
    notes: list[str] = field(default_factory=list)
    allow: Collection[str] = ()

    @property
    def passed(self) -> bool:
        """Whether every derivative was verified, or has a verdict that the user accepts."""
        accepted = {Verdict.PASS, *self.allow} - {Verdict.FAIL}
        return bool(self.derivatives) and all(row.verdict in accepted for row in self.derivatives)

    def __bool__(self) -> bool:
        return self.passed

    def __getitem__(self, name: str) -> Derivative:
        """The row of this name.

        Raises:
            KeyError: if there is none, listing the valid names.
        """
        for row in self.derivatives:
            if row.name == name:
                return row
        raise KeyError(f"no derivative by {name!r}; there are {', '.join(row.name for row in self.derivatives)}")

    @property
    def failures(self) -> list[Derivative]:
        """The rows that are wrong."""
        return [row for row in self.derivatives if row.verdict is Verdict.FAIL]

    def raise_(self) -> "Report":
        """Return the report if it passed; for tests.

        Raises:
            CheckError: an AssertionError, if it did not pass. Its message is the report.
        """
        if not self.passed:
            raise CheckError(self)
        return self

    def _badges(self) -> list[Badge]:
        counts = [(verdict, sum(row.verdict is verdict for row in self.derivatives)) for verdict in Verdict]
        return [_MARKS[verdict][1]._replace(text=f"{count} {verdict}") for verdict, count in counts if count]

    def _rows(self) -> list[Row]:
        rows = []
        for row in self.derivatives:
            cells = dict.fromkeys(self.columns, "—")
            value = row.value if isinstance(row.value, tuple) else (row.value,)
            cells[""], cells["value"] = row.name, ", ".join(number(x, 6) for x in value if not math.isnan(x))
            mark, badge = _MARKS[row.verdict]
            cells["verdict"] = f"{mark} {row.verdict}"
            if not math.isnan(row.numeric):
                cells["numeric"] = number(row.numeric)
                errors = {"error": row.error, "relative": row.relative, "allowed": row.allowed}
                cells |= {column: number(x, 2) for column, x in errors.items() if x < math.inf}
            if not (math.isnan(row.backward) and math.isnan(row.numeric)):
                cells["backward"] = number(row.backward)
            rows.append(Row(list(cells.values()), badge, row.verdict is Verdict.FAIL))
        return rows

    def _quotes(self, *, pictures: bool = False) -> list[Quote]:
        if self.fault is None:
            return []
        fact, dot, advice = self.fault.what.partition(". ")
        picture = (
            picture_of(self.output, self.fault.node if self.fault.within is None else self.fault.within)
            if pictures and self.output is not None
            else ""
        )
        return [Quote(fact + dot.strip(), advice, self.fault.details, picture)]

    def _remarks(self) -> list[str]:
        """Each reason once, with the names of its rows."""
        names: dict[str, list[str]] = {}
        for row in self.derivatives:
            if row.reason and not (self.fault and row.reason == self.fault.what):
                names.setdefault(row.reason, []).append(row.name)
        remarks = []
        for reason, of in names.items():
            about = listed(of)
            remarks.append(reason if reason.startswith(f"{about} ") else f"{about}: {reason}")
        return [*remarks, *self.notes]
