"""The table of operations as a page: of every row its formula, local derivatives, domain, kinks and plots."""

import html
import math

from microgrid import ops
from microgrid.drawing.program import Row, formula, formulas
from microgrid.ops import Interval, Op

NAMES = {1: ("x",), 2: ("a", "b"), 3: ("a", "b", "c")}
WIDTH, HEIGHT, RANGE = 120, 60, 3.0


def table() -> str:
    """Return the table as HTML: a row for each of ``ops.TABLE``."""
    head = "<tr><th>mg.…</th><th>value</th><th>local derivatives</th></tr>"
    return f'<table class="operations"><thead>{head}</thead>{"".join(map(line, ops.TABLE.values()))}</table>'


def line(op: Op) -> str:
    """Return the row of one operation."""
    names = NAMES[op.arity]
    tape = [text.format(*names, y="y") if isinstance(text, str) else text for text in Row(op).tape]
    texts = formulas(tape)
    value = formula(op, texts[1 : op.arity + 1]).text
    derivatives = [
        f"∂/∂{name} = {'0, nothing flows' if slot is None else texts[slot].text}"
        for name, slot in zip(names, Row(op).results, strict=True)
    ]
    where = ", ".join(map(domain, names, op.domain)) + ("; has kinks or jumps" if op.kink else "")
    cells = [
        f'<td id="{op.name}"><code>{op.name}</code>{plot(op) if op.arity == 1 else ""}</td>',
        f"<td>{html.escape(value)}<br><small>{html.escape(op.doc)}<br>{where}</small></td>",
        f"<td>{'<br>'.join(map(html.escape, derivatives))}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def domain(name: str, interval: Interval) -> str:
    """Return where an argument may lie, as an inequality."""
    sign = "&lt;" if interval.open else "≤"
    low = "" if interval.low == -math.inf else f"{interval.low:g} {sign} "
    high = "" if interval.high == math.inf else f" {sign} {interval.high:g}"
    return f"{low}{name}{high}" if low or high else f"any {name}"


def plot(op: Op) -> str:
    """Return the function, and its derivative dashed, between −3 and 3 as a small picture."""
    xs = [RANGE * (k / 60 - 1) for k in range(121)]
    ys = [op.forward(x) for x in xs]
    slopes = [op.local_derivatives(y, x)[0] for x, y in zip(xs, ys, strict=True)]
    title = f"{op.name}, solid, and its derivative, dashed, between −3 and 3"
    middle = f'<path class="axis" d="M0 {HEIGHT / 2}H{WIDTH}M{WIDTH / 2} 0V{HEIGHT}"/>'
    curves = f'<path d="{path(xs, ys)}"/><path class="slope" d="{path(xs, slopes)}"/>'
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">{middle}{curves}</svg>'


def path(xs: list[float], ys: list[float]) -> str:
    """Return a curve as SVG's path, interrupted where it leaves the picture or jumps."""
    parts: list[str] = []
    before = math.nan
    for x, y in zip(xs, ys, strict=True):
        inside = abs(y) <= RANGE
        if inside:
            step = "L" if abs(y - before) < 0.5 else "M"
            parts.append(f"{step}{WIDTH / 2 * (1 + x / RANGE):.1f} {HEIGHT / 2 * (1 - y / RANGE):.1f}")
        before = y if inside else math.nan
    return "".join(parts)
