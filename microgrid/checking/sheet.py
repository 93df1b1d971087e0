"""The display of a finding: one table with remarks, as text, in colour in a terminal, and in a notebook."""

import html
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from string import Template
from typing import Any, ClassVar, NamedTuple

from microgrid import engine, recording
from microgrid.checking.program import restored
from microgrid.engine import Value
from microgrid.environment import displayable
from microgrid.theme import FINDINGS


class Badge(NamedTuple):
    """A word in colour: its style in a terminal, its background in a notebook."""

    text: str
    style: str
    colour: str


GOOD = Badge("", "green", FINDINGS["good"])
BAD = Badge("", "bold red", FINDINGS["bad"])
ODD = Badge("", "yellow", FINDINGS["odd"])
UNKNOWN = Badge("", "yellow", FINDINGS["unknown"])
PLAIN = Badge("", "", "")


class Row(NamedTuple):
    """A line of the table: its cells, the colour of its last cell, and whether the line stands out."""

    cells: Sequence[str]
    badge: Badge
    stands_out: bool = False


@dataclass
class Quote:
    """A finding: the fact in bold, its explanation, and places, each with its kind."""

    fact: str
    text: str = ""
    details: list[tuple[str, str]] = field(default_factory=list)
    picture: str = ""
    is_calm: bool = False

    @property
    def mark(self) -> str:
        """The sign before it."""
        return "✓" if self.is_calm else "✗"


def printable(text: str) -> str:
    """Return the text with escapes for characters that control a terminal or the direction of writing."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def picture_of(output: Value, node: Value) -> str:
    """The graph with its gradients and a marked node, as SVG or HTML; empty if no picture can be made."""
    nodes = engine.topological_order(output)
    with restored(nodes):
        for each in nodes:
            each.grad = 0.0
        with suppress(Exception):  # a picture without gradients, if a derivative raises
            output.backward()
        bundle = (recording.pictures[-1](output, node) if recording.pictures else None) or {}
    return bundle.get("text/html") or bundle.get("image/svg+xml") or ""


class Sheet:
    """A title with badges, a table, quotes and remarks, which subclasses define."""

    columns: ClassVar[tuple[str, ...]]
    spare: ClassVar[tuple[str, ...]] = ()
    """the columns to leave out in a narrow terminal"""
    nothing: ClassVar[str] = ""
    """the text in the place of badges if there are none"""

    title: str

    @property
    def _words(self) -> tuple[str, str]:
        """The columns of words: the first and the last."""
        return self.columns[0], self.columns[-1]

    def _badges(self) -> list[Badge]:
        raise NotImplementedError

    def _rows(self) -> list[Row]:
        raise NotImplementedError

    def _quotes(self, *, pictures: bool = False) -> list[Quote]:
        return []

    def _remarks(self) -> list[str]:
        return []

    @property
    def summary(self) -> str:
        """The title and the badges, in one line."""
        return printable(f"{self.title}: {', '.join(badge.text for badge in self._badges()) or self.nothing}")

    def __str__(self) -> str:
        lines = [self.summary]
        rows = [[printable(cell) for cell in row.cells] for row in self._rows()]
        if rows:
            table = [list(self.columns), *rows]
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            body = [
                "  ".join(
                    cell.ljust(width) if column in self._words else cell.rjust(width)
                    for cell, width, column in zip(cells, widths, self.columns, strict=True)
                ).rstrip()
                for cells in table
            ]
            lines += ["", body[0], "─" * max(map(len, body)), *body[1:]]
        for quote in self._quotes():
            block = [f"{quote.mark} {quote.fact} {quote.text}".rstrip()]
            block += [f"    {what} {place}" if what else f"    {place}" for what, place in quote.details]
            lines += ["", *map(printable, block)]
        if remarks := self._remarks():
            lines += ["", *[printable(f"• {remark}") for remark in remarks]]
        return displayable("\n".join(lines))

    __repr__ = __str__

    def __rich_console__(self, console: Any, options: Any) -> Iterable[Any]:
        """The sheet in colour, for ``rich.print(sheet)``; without the ``spare`` columns if it is narrow."""
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        def shown(text: str, style: str = "") -> Text:
            return Text(displayable(printable(text), console.encoding), style)

        def listed(mark: str, text: Text) -> Table:
            """A text behind its mark, with a hanging indent."""
            grid = Table.grid()
            grid.add_row(shown(f"{mark} ", str(text.style)), text)
            return grid

        badges = [shown(badge.text, badge.style) for badge in self._badges()]
        yield shown(f"{self.title}: ", "bold") + Text(", ").join(badges or [Text(self.nothing)])
        rows = self._rows()
        if rows:
            table = self._table(rows, self.columns, shown)
            if console.measure(table, options=options.update(max_width=sys.maxsize)).maximum > options.max_width:
                table = self._table(rows, [column for column in self.columns if column not in self.spare], shown)
            yield from ("", table)
        for quote in self._quotes():
            yield ""
            fact = shown(quote.fact, "bold" if quote.is_calm else "bold red")
            yield listed(quote.mark, Text.assemble(fact, shown(f" {quote.text}")) if quote.text else fact)
            for what, place in quote.details:
                yield Padding.indent(Text.assemble((f"{what} " if what else "", "dim"), shown(place)), 2)
        remarks = self._remarks()
        if remarks:
            yield ""
        for remark in remarks:
            yield listed("•", shown(remark))

    def _table(self, rows: Iterable[Row], columns: Sequence[str], shown: Callable[[str, str], Any]) -> Any:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        for column in columns:
            justify: Any = "left" if column in self._words else "right"
            table.add_column(column, overflow="fold", justify=justify, min_width=len(column))
        for row in rows:
            cells = dict(zip(self.columns, row.cells, strict=True))
            styles = {self.columns[0]: "bold", self.columns[-1]: row.badge.style}
            table.add_row(*[shown(cells[column], styles.get(column, "")) for column in columns])
        return table

    def _repr_html_(self) -> str:
        """The sheet for a notebook, in the colours of the page, with the pictures of the places."""
        badges = "".join(_span(badge.text, badge) for badge in self._badges()) or f": {_text(self.nothing)}"
        table = ""
        if rows := self._rows():
            head = "".join(f"<th>{_text(column)}</th>" for column in self.columns)
            body = "".join(self._line(row) for row in rows)
            table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        quotes = ""
        for quote in self._quotes(pictures=True):
            details = "".join(f"<div>{_text(what)} <code>{_text(place)}</code></div>" for what, place in quote.details)
            kind = " class=calm" if quote.is_calm else ""
            quotes += (
                f"<blockquote{kind}><b>{quote.mark} {_text(quote.fact)}</b> {_text(quote.text)}{details}</blockquote>"
            )
            quotes += f"<div class=picture>{quote.picture}</div>" if quote.picture else ""
        remarks = "".join(f"<li>{_text(remark)}</li>" for remark in self._remarks())
        return (
            f'<div class="microgrid-report">{STYLE}<p class=summary>{_text(self.title)}{badges}</p>{table}{quotes}'
            + (f"<ul>{remarks}</ul>" if remarks else "")
            + "</div>"
        )

    def _line(self, row: Row) -> str:
        *cells, last = row.cells
        columns = "".join(f"<td>{_text(cell)}</td>" for cell in cells)
        badge = _span(last, row.badge) if row.badge.colour else _text(last)
        return f"<tr{' class=fail' * row.stands_out}>{columns}<td>{badge}</td></tr>"


def _text(text: str) -> str:
    return html.escape(printable(text))


def _span(text: str, badge: Badge) -> str:
    return f'<span style="background:{badge.colour}">{_text(text)}</span>'


# The page's own colours are inherited, so it reads on light and dark; the badges carry their own contrast.
STYLE = Template("""<style>
.microgrid-report{font-size:1.05rem;line-height:1.5;overflow-x:auto;container-type:inline-size}
.microgrid-report .summary{font-size:1.3em;font-weight:700;margin:.4em 0}
.microgrid-report table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:inherit}
.microgrid-report th,.microgrid-report td{padding:.3em .8em;text-align:right;white-space:nowrap;
border-bottom:1px solid $line;background:transparent;color:inherit}
.microgrid-report th:first-child,.microgrid-report td:first-child{text-align:left;font-weight:600}
.microgrid-report th:last-child,.microgrid-report td:last-child{text-align:left}
.microgrid-report td span,.microgrid-report .summary span{color:$letters;border-radius:.3em;padding:.1em .55em;
font-weight:600;white-space:nowrap}
.microgrid-report .summary span{font-size:.75em;margin-left:.7em;vertical-align:.1em}
.microgrid-report tr.fail td{background:$stripe}
.microgrid-report blockquote{border-left:.3em solid $bad;padding:.6em 1em;margin:1em 0;
background:$quote;color:inherit}
.microgrid-report blockquote.calm{border-left-color:$good}
.microgrid-report blockquote div{margin-top:.35em}
.microgrid-report code{white-space:pre-wrap;background:none;color:inherit;font-size:.95em}
.microgrid-report .picture{zoom:1.25}
@container (max-width:45rem){.microgrid-report table{font-size:.9rem}
.microgrid-report th,.microgrid-report td{padding:.3em .5em}}
</style>""").substitute(FINDINGS)


def with_progress(items: Sequence[Any], what: str, progress: bool) -> Iterator[Any]:
    """Yield the items; with a progress bar on stderr once it has taken more than a second."""
    bar = None
    started = time.perf_counter()
    try:
        for done, item in enumerate(items):
            if bar is None and progress and done and time.perf_counter() - started > 1.0:
                from rich.console import Console
                from rich.progress import Progress

                bar = Progress(console=Console(stderr=True), transient=True)
                task = bar.add_task(what, total=len(items))
                bar.start()
            if bar is not None:
                bar.update(task, completed=done)
            yield item
    finally:
        if bar is not None:
            bar.stop()
