"""Classes: the nodes of a program by structure, each of which becomes one array."""

from collections import Counter
from dataclasses import dataclass

from microgrid import ops
from microgrid.compiler.program import LARGEST, SMALLEST, SUM, Program
from microgrid.compiler.simplify import without_gradient
from microgrid.ops import Op

VARIADIC = {SUM: ops.add, LARGEST: ops.maximum, SMALLEST: ops.minimum}


@dataclass(slots=True)
class Classes:
    """A program's nodes by structure.

    Attributes:
        rows: the operation of each class; classes stand after those of their arguments.
        members: the nodes of each class, in the order in which they were recorded.
        of: the class of each node.
    """

    rows: list[Op]
    members: list[list[int]]
    of: list[int]

    def dump(self, program: Program) -> str:
        """Return the classes as text, one a line."""
        lines = []
        for number, (row, members) in enumerate(zip(self.rows, self.members, strict=True)):
            node = members[0]
            mine = program.arguments[program.starts[node] : program.starts[node + 1]]
            counts = Counter(self.of[a] for a in mine)
            inside = ", ".join(f"class {c}" + (f" × {n}" if n > 1 else "") for c, n in counts.items())
            lines.append(f"class {number}: {len(members)} × {row.name}" + (f" of {inside}" if inside else ""))
        return "\n".join(lines)


def classify(program: Program) -> Classes:
    """Partition the nodes of a program by structure, and by whether a gradient flows back to them.

    Members to which none does would be given 0 by an array's gradient, and 0 times an infinite derivative is nan.
    """
    rows, starts, arguments, _ = program.columns
    frozen = without_gradient(program)
    classes = Classes([], [], [0] * len(rows))
    of, members, mul = classes.of, classes.members, ops.mul
    commuting = {*VARIADIC, ops.add}
    known: dict[object, int] = {}
    for i, row in enumerate(rows):
        start, end = starts[i], starts[i + 1]
        if start == end:
            key: object = row
        elif row in commuting:
            kinds = [of[a] for a in arguments[start:end]]
            key = (row, *sorted(kinds)) if end - start < 9 else (row, *sorted(Counter(kinds).items()))
        elif end - start == 2:
            first, second = of[arguments[start]], of[arguments[start + 1]]
            if row is mul and first > second:
                arguments[start], arguments[start + 1] = arguments[start + 1], arguments[start]
                first, second = second, first
            key = (row, first, second)
        else:
            key = (row, *[of[a] for a in arguments[start:end]])
        if frozen[i] and start < end:
            key = ("frozen", key)
        number = known.get(key)
        if number is None:
            number = known[key] = len(members)
            classes.rows.append(row)
            members.append([])
        of[i] = number
        members[number].append(i)
    return classes
