"""What a check found: a table for the terminal, for a test's message and for a notebook."""

import html
import math
import sys
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from microgrid import engine
from microgrid.checking.numeric import restored
from microgrid.engine import Origin, Value
from microgrid.environment import displayable


class Verdict(StrEnum):
    """What is known of one derivative; every verdict but ``PASS`` says why in the row's ``reason``."""

    PASS = "PASS"
    """backward and numeric agree within the allowed error, which is small enough to mean something"""
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
        name: what it is taken by: the leaf's label, argument name or parameter name.
        value: the point; several numbers for an operation of several arguments.
        backward: what is checked.
        numeric: what it should be.
        error: |backward − numeric|.
        allowed: how large the error may be by rounding and truncation alone.
        verdict: whether the derivative is right, and if that cannot be said, why not.
        reason: the verdict in words; may also say something of interest about a derivative that passes.
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
        given: the local derivative, or the gradient, as it was computed.
        right: as it should be.
        what: the fault in one sentence.
    """

    node: Value
    argument: int | None
    given: float
    right: float
    what: str

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
        return self.node.origin

    @property
    def definition(self) -> Origin | None:
        """The line that defines the wrong local derivative; ``None`` for a number or a row of this package."""
        partial = None if self.argument is None else self.node.op.partials[self.argument]
        code = getattr(partial, "__code__", None)
        if code is None or getattr(partial, "__module__", "").partition(".")[0] == "microgrid":
            return None
        return Origin(code.co_filename, code.co_firstlineno)

    @property
    def details(self) -> list[tuple[str, str]]:
        """What there is to know of the place, each with what it is: the operation, its line, the line of the row."""
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
    """The operation with its operands, as in ``mul(w=−3, x=2)``; the label or the number of a leaf."""
    if node.is_leaf:
        return node.label or number(node.data)
    operands = [
        f"{parent.label}={number(parent.data, 6)}" if parent.label else number(parent.data, 6)
        for parent in node.parents[:4]
    ]
    more = len(node.parents) - len(operands)
    if more:
        operands.append(f"… {more} more")
    return f"{node.op.name}({', '.join(operands)})"


def where(node: Value) -> str:
    """The line that made a node, or how to have it recorded."""
    if node.origin is None or not node.origin.file:
        return "a line that was not recorded: build the graph within mg.record_lines(), or check the function"
    return str(node.origin)


def number(x: float, digits: int = 10) -> str:
    """A number as people write it: the digits asked for, 105 rather than 1e+02, a true minus sign, and no −0."""
    x = x or 0.0
    if abs(x) < 1e6:
        digits = max(digits, len(str(int(abs(x)))))
    return f"{x:.{digits}g}".replace("-", "−").replace("inf", "∞")


_MARKS = {
    Verdict.PASS: ("✓", "green", "#00735c"),
    Verdict.FAIL: ("✗", "bold red", "#c2410c"),
    Verdict.KINK: ("∠", "yellow", "#6d28d9"),
    Verdict.DOMAIN: ("⊘", "yellow", "#475569"),
    Verdict.UNRESOLVED: ("?", "yellow", "#475569"),
}
_LEFT = ("", "verdict")
_COLUMNS = ("", "value", "backward", "numeric", "error", "relative", "allowed", "verdict")


@dataclass
class Report:
    """The result of a check. It is true if every derivative was verified: nothing passes in silence.

    A verdict other than ``PASS`` makes the report false, unless it is among ``allow``; ``FAIL`` always
    does. A report with nothing in it is false as well.

    Attributes:
        title: what was checked.
        derivatives: one row per leaf, per direction, or per property of an operation.
        fault: the first wrong operation, if there is one.
        output: the root of the graph that was checked.
        notes: what else there is to know.
        allow: the verdicts that the user accepts beside ``PASS``.
    """

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
            KeyError: if there is none; names those that there are.
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

    @property
    def summary(self) -> str:
        """How many derivatives have which verdict, in one line."""
        found = ", ".join(f"{count} {verdict}" for verdict, count in self._counts())
        return f"{self.title}: {found or 'nothing to check'}"

    def _counts(self) -> list[tuple[Verdict, int]]:
        counts = [(verdict, sum(row.verdict is verdict for row in self.derivatives)) for verdict in Verdict]
        return [(verdict, count) for verdict, count in counts if count]

    # -- as text -------------------------------------------------------------------------------------

    def _cells(self) -> Iterable[tuple[Derivative, dict[str, str]]]:
        """What the table says of each derivative, by column."""
        for row in self.derivatives:
            cells = dict.fromkeys(_COLUMNS, "—")
            value = row.value if isinstance(row.value, tuple) else (row.value,)
            cells[""], cells["value"] = row.name, ", ".join(number(x, 6) for x in value if not math.isnan(x))
            cells["verdict"] = f"{_MARKS[row.verdict][0]} {row.verdict}"
            if not math.isnan(row.numeric):
                cells["numeric"] = number(row.numeric)
                errors = {"error": row.error, "relative": row.relative, "allowed": row.allowed}
                cells |= {column: number(x, 2) for column, x in errors.items() if x < math.inf}
            if not (math.isnan(row.backward) and math.isnan(row.numeric)):
                cells["backward"] = number(row.backward)
            yield row, cells

    def _remarks(self) -> list[str]:
        """Each reason once, with the names of the rows that it holds for."""
        names: dict[str, list[str]] = {}
        for row in self.derivatives:
            if row.reason and not (self.fault and row.reason == self.fault.what):
                names.setdefault(row.reason, []).append(row.name)
        remarks = []
        for reason, of in names.items():
            about = ", ".join(of[:5])
            if of[5:]:
                about += f" and {len(of[5:])} more"
            remarks.append(reason if reason.startswith(f"{about} ") else f"{about}: {reason}")
        return [*remarks, *self.notes]

    def __str__(self) -> str:
        table = [{column: column for column in _COLUMNS}, *[cells for _, cells in self._cells()]]
        widths = {column: max(len(cells[column]) for cells in table) for column in _COLUMNS}
        lines = [
            "  ".join(
                cell.ljust(widths[column]) if column in _LEFT else cell.rjust(widths[column])
                for column, cell in cells.items()
            ).rstrip()
            for cells in table
        ]
        lines.insert(1, "─" * max(map(len, lines)))
        if self.fault:
            lines += ["", f"✗ {self.fault}"]
        if self._remarks():
            lines += ["", *[f"• {remark}" for remark in self._remarks()]]
        return displayable("\n".join([self.summary, "", *lines]))

    __repr__ = __str__

    def __rich_console__(self, console: Any, options: Any) -> Iterable[Any]:
        """The table in colour, for ``rich.print(report)``; the least telling column goes where it is narrow."""
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        def shown(text: str, style: str = "") -> Text:
            return Text(displayable(text, console.encoding), style)

        def listed(mark: str, text: Text) -> Table:
            """A text behind its mark, under which no line of it falls."""
            grid = Table.grid()
            grid.add_row(shown(f"{mark} ", str(text.style)), text)
            return grid

        counts = [Text(f"{count} {verdict}", style=_MARKS[verdict][1]) for verdict, count in self._counts()]
        yield shown(f"{self.title}: ", "bold") + Text(", ").join(counts or [Text("nothing to check")])
        table = self._table(_COLUMNS, shown)
        if console.measure(table, options=options.update(max_width=sys.maxsize)).maximum > options.max_width:
            table = self._table([column for column in _COLUMNS if column != "relative"], shown)
        yield from ("", table, "")
        if self.fault:
            yield listed("✗", shown(self.fault.what, "bold red"))
            for what, place in self.fault.details:
                yield Padding.indent(Text.assemble((f"{what} " if what else "", "dim"), shown(place)), 2)
            yield ""
        for remark in self._remarks():
            yield listed("•", shown(remark))

    def _table(self, columns: Collection[str], shown: Callable[[str, str], Any]) -> Any:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        for column in columns:
            justify: Any = "left" if column in _LEFT else "right"
            table.add_column(column, overflow="fold", justify=justify, min_width=len(column))
        for row, cells in self._cells():
            styles = {"": "bold", "verdict": _MARKS[row.verdict][1]}
            table.add_row(*[shown(cells[column], styles.get(column, "")) for column in columns])
        return table

    # -- in a notebook -------------------------------------------------------------------------------

    def _repr_html_(self) -> str:
        """The table for a notebook, in the colours of the page, with the picture of the faulty node."""
        head = "".join(f"<th>{html.escape(column)}</th>" for column in _COLUMNS)
        body = "".join(
            f"<tr class={row.verdict.lower()}>"
            + "".join(f"<td>{html.escape(cells[column])}</td>" for column in _COLUMNS[:-1])
            + f'<td><span style="background:{_MARKS[row.verdict][2]}">{cells["verdict"]}</span></td></tr>'
            for row, cells in self._cells()
        )
        counts = "".join(
            f'<span style="background:{_MARKS[verdict][2]}">{count} {verdict}</span>'
            for verdict, count in self._counts()
        )
        counts = counts or ": nothing to check"
        fault = ""
        if self.fault:
            fact, _, advice = self.fault.what.partition(". ")
            fault = f"<blockquote><b>✗ {html.escape(fact)}{'.' if advice else ''}</b> {html.escape(advice)}"
            for what, place in self.fault.details:
                fault += f"<div>{html.escape(what)} <code>{html.escape(place)}</code></div>"
            fault += f"</blockquote><div class=picture>{self._picture()}</div>"
        remarks = "".join(f"<li>{html.escape(remark)}</li>" for remark in self._remarks())
        return (
            f'<div class="microgrid-report">{_STYLE}<p class=summary>{html.escape(self.title)}{counts}</p>'
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{fault}"
            + (f"<ul>{remarks}</ul>" if remarks else "")
            + "</div>"
        )

    def _picture(self) -> str:
        """The graph with the faulty node marked, as SVG or HTML; nothing where no picture can be made."""
        if self.fault is None or self.output is None:
            return ""
        nodes = engine.topological_order(self.output)
        with restored(nodes):  # the picture shows the gradients that were checked
            for node in nodes:
                node.grad = 0.0
            with suppress(Exception):  # a picture without gradients, if the derivative at fault raises
                self.output.backward()
            bundle = engine.notebook_picture(self.output, self.fault.node) or {}
        return bundle.get("text/html") or bundle.get("image/svg+xml") or ""


# The page's own colours are inherited, so it reads on light and dark; the badges carry their own contrast.
_STYLE = """<style>
.microgrid-report{font-size:1.05rem;line-height:1.5;overflow-x:auto;container-type:inline-size}
.microgrid-report .summary{font-size:1.3em;font-weight:700;margin:.4em 0}
.microgrid-report table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:inherit}
.microgrid-report th,.microgrid-report td{padding:.3em .8em;text-align:right;white-space:nowrap;
border-bottom:1px solid rgba(128,128,128,.35);background:transparent;color:inherit}
.microgrid-report th:first-child,.microgrid-report td:first-child{text-align:left;font-weight:600}
.microgrid-report th:last-child,.microgrid-report td:last-child{text-align:left}
.microgrid-report td span,.microgrid-report .summary span{color:#fff;border-radius:.3em;padding:.1em .55em;
font-weight:600;white-space:nowrap}
.microgrid-report .summary span{font-size:.75em;margin-left:.7em;vertical-align:.1em}
.microgrid-report tr.fail td{background:rgba(234,88,12,.14)}
.microgrid-report blockquote{border-left:.3em solid #c2410c;padding:.6em 1em;margin:1em 0;
background:rgba(128,128,128,.1);color:inherit}
.microgrid-report blockquote div{margin-top:.35em}
.microgrid-report code{white-space:pre-wrap;background:none;color:inherit;font-size:.95em}
.microgrid-report .picture{zoom:1.25}
@container (max-width:45rem){.microgrid-report table{font-size:.9rem}
.microgrid-report th,.microgrid-report td{padding:.3em .5em}}
</style>"""
