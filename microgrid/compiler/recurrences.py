"""Recurrences of scalars: what repeats, step after step, on its own last states, as a ``for`` of the user's does.

The nodes of a recurrence lie on the longest ways through a program: what only feeds it, or only reads it, lies on
shorter ones and is none of its business. In the order in which they were recorded they repeat with a period; each
operand is a node of the same step, or of the one before, or stands outside. So a program becomes what stands before the
recurrence, one node for the recurrence, one for each of its states that is read, and what stands behind.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray

from microgrid import ops
from microgrid.compiler.classes import classify
from microgrid.compiler.program import SCAN, STATE, Program, Recurrence, argument_of
from microgrid.compiler.simplify import depths, heights, without_gradient
from microgrid.ops import CONSTANT

Integers = NDArray[np.intp]

SMALLEST = 100
"""Programs of fewer nodes are not searched."""
_REPEATS = 6
"""A recurrence has so many steps at least."""
_OWN = 3
"""Steps of fewer operations are chains; see there."""
_PARTS = (0.5, 0.2)
"""A recurrence is so much of the longest ways at least, or, if none is, so much."""
_NEAR = 8
"""Around a place so many steps are looked at before all are."""
_CUTS = 12
"""So many places where a step may begin are tried."""
_AROUND = 24
_ODD = np.uint64(0x9E3779B97F4A7C15)


def folded(program: Program, depth: Sequence[int]) -> Program | None:
    """Return a program with each recurrence as one node; None if it has none that is long.

    Args:
        program: the scalars.
        depth: how long the longest way to each node is from the leaves.
    """
    found: Program | None = None
    rest: Program | None = program
    while rest is not None and len(rest) - sum(row is STATE for row in rest.rows) >= SMALLEST:
        rest = _Search(rest).folded(depths(rest) if found else depth)
        found = rest or found
    return found


class _Search:
    """The search for the recurrence of a program."""

    def __init__(self, program: Program) -> None:
        # Nodes to which no gradient flows back are others than those to which one does: a loop back would give them 0,
        # and 0 times an infinite derivative is nan.
        self.program = program
        self.frozen = without_gradient(program)
        numbers = {row: number for number, row in enumerate(dict.fromkeys(program.rows))}
        rows = np.fromiter(map(numbers.__getitem__, program.rows), np.intp, len(program))
        self.kinds = 2 * rows + np.array(self.frozen, np.intp)
        self.folded_before = np.isin(rows, [number for row, number in numbers.items() if row in (SCAN, STATE)])
        self.starts = np.array(program.starts, dtype=np.intp)
        self.operands = np.array(program.arguments, dtype=np.intp)
        self.counts = np.diff(self.starts)
        self.shorter = False  # whether a stretch was found that is long enough for the last of _PARTS alone

    def folded(self, given: Sequence[int]) -> Program | None:
        """Return the program with its recurrence as one node, if there is one; given is the depth of each node."""
        depth, height = np.array(given), np.array(heights(self.program))
        for part in _PARTS if len(depth) else ():
            for nodes in self._candidates(depth, height, part):
                found = self._stretch(nodes, part)
                if found is not None:
                    result = self._outlined(*found)
                    if result is not None:
                        return result
            if not self.shorter:
                break
        return None

    def _candidates(self, depth: Integers, height: Integers, part: float) -> Iterator[Integers]:
        """Yield nodes among which a recurrence may be: those on the longest ways, less and more of them; all."""
        found = self._stretch(self._on_longest(depth, height, int(depth.max()) // 8), part)
        if found is not None:
            nodes, start, period, _, _ = found
            step = int(np.ptp(depth[nodes[start : start + _REPEATS * period]])) // (_REPEATS - 1)
            for slack in (2 * step, 8 * step):
                yield self._on_longest(depth, height, slack)
        yield np.flatnonzero((self.counts > 0) & ~self.folded_before)

    def _on_longest(self, depth: Integers, height: Integers, slack: int) -> Integers:
        """The operations on ways that are nearly as long as the longest one, without those near its ends."""
        chosen = (depth + height >= depth.max() - slack) & (np.minimum(depth, height) >= slack)
        return np.flatnonzero(chosen & (self.counts > 0) & ~self.folded_before)

    def _stretch(self, nodes: Integers, part: float) -> tuple[Integers, int, int, int, Integers] | None:
        """The nodes; where among them the longest stretch that repeats begins, its period, its end; where each is."""
        if len(nodes) < _REPEATS:
            return None
        place = np.full(len(self.program), -1)
        place[nodes] = np.arange(len(nodes))
        counts = self.counts[nodes]
        begins = np.concatenate([[0], np.cumsum(counts)])
        slots = np.arange(begins[-1]) - np.repeat(begins[:-1], counts)
        at = place[self.operands[slots + np.repeat(self.starts[nodes], counts)]]
        back = np.where(at < 0, 0, np.repeat(np.arange(len(nodes)), counts) - at)
        slots = slots.astype(np.uint64)
        alone = _mixed(self.kinds[nodes] * 1024 + counts)

        def looks(farthest: int, first: int = 0, last: int = len(nodes)) -> NDArray[np.uint64]:
            """How nodes from one to another look; an operand that is farther back is as one outside."""
            mine = slice(begins[first], begins[last])
            mixed = _mixed(_mixed(np.where(back[mine] > farthest, 0, back[mine])) + slots[mine])
            return alone[first:last] + np.add.reduceat(mixed, begins[first:last] - begins[first])

        for middle, period in _periods(looks(len(nodes) // _REPEATS)):
            near = min(_NEAR * period, int(_PARTS[-1] * len(nodes) - period) // 2)
            if near > 0:
                first = max(middle - near, 0)
                keys = looks(2 * period, first, min(middle + near + period, len(nodes)))
                same = keys[period:] == keys[:-period]
                if not (same[: middle - first].all() or same[middle - first :].all()):
                    continue
            keys = looks(2 * period)
            same = np.concatenate([keys[period:] == keys[:-period], [False]])
            breaks = np.flatnonzero(~same)
            k = int(np.searchsorted(breaks, middle))
            start = int(breaks[k - 1]) + 1 if k else 0
            end = int(breaks[k]) + period if k < len(breaks) else len(nodes)
            if end - start < part * len(nodes):
                self.shorter |= end - start >= _PARTS[-1] * len(nodes)
                continue
            if period >= _OWN:
                return nodes, start, period, end, place
        return None

    def _outlined(self, nodes: Integers, start: int, period: int, end: int, place: Integers) -> Program | None:
        """The program with a stretch as a recurrence; None if what it reads depends on it in another way."""
        cut = self._step(nodes, start, period, end, place)
        if cut is None:
            return None
        start, period = cut
        steps = (end - start) // period
        loop = nodes[start : start + steps * period].reshape(steps, period)
        terms = self._terms(loop)
        if terms is None or not self._is_recurrence(terms):
            return None
        return self._around(self._extended(loop, terms)) or self._around(loop)

    def _terms(self, loop: Integers) -> list[list[tuple[str, int]]] | None:
        """What the operands of each node of a step are; None if they are not alike in all steps.

        A node of the same step, ``own``, or of the one before, ``state``, by its place in the step; or one outside: the
        ``same`` in all steps, or the ``first`` of those that differ; by its number.
        """
        starts, operands, counts = self.starts, self.operands, self.counts
        steps, period = loop.shape
        at_place = np.full(len(self.program), -1)
        at_place[loop] = np.arange(loop.size).reshape(loop.shape)
        if any((x[loop] != x[loop[0]]).any() for x in (self.kinds, counts)):
            return None
        found: list[list[tuple[str, int]]] = []
        for p in range(period):
            mine: list[tuple[str, int]] = []
            for j in range(int(counts[loop[0, p]])):
                column = operands[starts[loop[:, p]] + j]
                at = at_place[column]
                if at[1] < 0:
                    if (at >= 0).any():
                        return None
                    mine.append(("same" if (column == column[0]).all() else "first", int(column[0])))
                    continue
                q = int(at[1]) - period
                if (at[1:] - period * np.arange(1, steps) != q).any() or at[0] != max(q, -1):
                    return None
                mine.append(("own", q) if q >= 0 else ("state", q + period))
            found.append(mine)
        return found

    def _extended(self, loop: Integers, terms: list[list[tuple[str, int]]]) -> Integers:
        """A loop with the steps before and behind it that are like its own."""
        rows = [loop]
        while (row := self._one_before(rows[0][0], terms)) is not None:
            rows.insert(0, row[None])
        while (row := self._one_behind(rows[-1][-1], terms)) is not None:
            rows.append(row[None])
        return np.concatenate(rows)

    def _mine(self, node: int) -> list[int]:
        """The operands of a node."""
        return self.program.arguments[self.program.starts[node] : self.program.starts[node + 1]]

    def _one_before(self, first: Integers, terms: list[list[tuple[str, int]]]) -> Integers | None:
        """The step before the first one, if there is one like it."""
        row = np.full(len(first), -1)
        fixed: dict[int, int] = {}  # what is one number in later steps must be one at the start
        waiting = [
            (q, operand)
            for mine, node in zip(terms, first.tolist(), strict=True)
            for (kind, q), operand in zip(mine, self._mine(node), strict=True)
            if kind == "state"
        ]
        while waiting:
            p, node = waiting.pop()
            like = int(first[p])
            if row[p] == node:
                continue
            if row[p] >= 0 or self.kinds[node] != self.kinds[like] or self.counts[node] != self.counts[like]:
                return None
            row[p] = node
            for (kind, q), operand in zip(terms[p], self._mine(node), strict=True):
                if kind == "own":
                    waiting.append((q, operand))
                elif (kind == "same" and q != operand) or (kind == "state" and fixed.setdefault(q, operand) != operand):
                    return None
        known = row[row >= 0]
        return self._filled(row, first, terms, fixed) if len({*known.tolist()}) == len(known) else None

    def _one_behind(self, last: Integers, terms: list[list[tuple[str, int]]]) -> Integers | None:
        """The step behind the last one, if there is one like it."""
        return self._filled(np.full(len(last), -1), last, terms, dict(enumerate(last.tolist())))

    def _filled(
        self, row: Integers, like: Integers, terms: list[list[tuple[str, int]]], before: Mapping[int, int]
    ) -> Integers | None:
        """A step like one, of which some nodes are known, with the others: those that read them or a step before."""
        taken = {*like.tolist(), *row.tolist()}
        for p in np.flatnonzero(row < 0).tolist():
            known = {"own": row, "state": before}
            expected = {
                j: int(known[kind][q]) if kind in known else q  # type: ignore[index]
                for j, (kind, q) in enumerate(terms[p])
                if kind != "first" and (kind != "state" or q in before)
            }
            read = next((expected[j] for j, (kind, _) in enumerate(terms[p]) if kind in known and j in expected), -1)
            for node in self._readers(read):
                operands = self._mine(node)
                alike = self.kinds[node] == self.kinds[like[p]] and len(operands) == len(terms[p])
                if alike and node not in taken and all(operands[j] == x for j, x in expected.items()):
                    row[p] = node
                    taken.add(node)
                    break
            else:
                return None
        return row

    def _readers(self, node: int) -> list[int]:
        """The nodes that read a node."""
        order, operands, readers = self._by_operand
        first, last = np.searchsorted(operands, [node, node + 1])
        return cast(list[int], readers[order[first:last]].tolist())

    @cached_property
    def _by_operand(self) -> tuple[Integers, Integers, Integers]:
        """All operands in the order of their numbers, these, and who reads each."""
        order = np.argsort(self.operands, kind="stable")
        return order, self.operands[order], np.repeat(np.arange(len(self.counts)), self.counts)

    def _around(self, loop: Integers) -> Program | None:
        """The program with a loop as a recurrence; None if what it reads depends on it in another way."""
        program, starts, operands, counts = self.program, self.starts, self.operands, self.counts
        terms = self._terms(loop)
        inside = np.zeros(len(program), dtype=bool)
        inside[loop] = True
        behind = self._behind(inside, int(loop.min()))
        if terms is None or behind is None:
            return None
        readers = np.flatnonzero(behind)
        read = np.zeros(len(program), dtype=bool)
        read[operands[_spans(starts[readers], counts[readers])]] = True
        read[program.outputs] = True
        columns: dict[bytes, tuple[str, int]] = {}
        kept: dict[str, list[Integers]] = {"input": [], "constant": []}
        before: dict[int, int] = {}
        written: list[list[tuple[str, int]]] = []
        for p, mine in enumerate(terms):
            written.append([])
            for j, (kind, q) in enumerate(mine):
                if kind in ("own", "state"):
                    written[-1].append((kind, q))
                    if kind == "state":
                        before[q] = int(operands[starts[loop[0, p]] + j])
                    continue
                column = operands[starts[loop[:, p]] + j]
                key = column.tobytes()
                if key not in columns:
                    where = "constant" if kind == "same" else "input"
                    if kind == "same" and program.rows[q] is CONSTANT:
                        columns[key] = ("number", q)
                    else:
                        columns[key] = (where, len(kept[where]))
                        kept[where].append(column)
                written[-1].append(columns[key])
        wanted: NDArray[np.bool_] = np.array(read[loop].any(axis=0))
        wanted[[*before]] = True
        states = np.flatnonzero(wanted)
        body = self._body(loop[0], written, states, [len(kept["input"]), len(kept["constant"])])
        of = np.array(classify(body).of)[body.outputs]
        states = states[np.lexsort((states, of))]
        body = self._body(loop[0], written, states, body.sizes[1:])
        given = [np.array([before.get(q, -1) for q in states.tolist()])]
        given += [np.array(kept["input"]).T.ravel()] * bool(kept["input"])
        given += [column[:1] for column in kept["constant"]]
        place_of = {int(p): s for s, p in enumerate(states)}
        recurrence = Recurrence(body, len(loop))
        return self._written(inside, behind, recurrence, np.concatenate(given), loop, place_of)

    def _is_recurrence(self, terms: list[list[tuple[str, int]]]) -> bool:
        """Whether a step has operations enough that depend on the last one."""
        depends: set[int] = set()
        for p, mine in enumerate(terms):
            if any(kind == "state" or (kind == "own" and q in depends) for kind, q in mine):
                depends.add(p)
        return len(depends) >= _OWN

    def _step(self, nodes: Integers, start: int, period: int, end: int, place: Integers) -> tuple[int, int] | None:
        """Where a step begins, and its length, a multiple of the period.

        No operand may be more than one step back; of the places where that is so it is the one that leaves the fewest
        numbers to the next step.
        """
        for size in range(period, (end - start) // _REPEATS + 1, period):
            middle = start + ((end - start) // size - 3) // 2 * size  # what comes from many steps back is there
            window = nodes[middle + size : middle + 3 * size]
            counts = self.counts[window]
            spans = _spans(self.starts[window], counts)
            reader = np.repeat(np.arange(size, 3 * size), counts)
            source = place[self.operands[spans]] - middle
            far = (source >= start - middle) & (reader < 2 * size) & (reader - source > size)
            barred = np.zeros(3 * size + 1, dtype=np.intp)  # a step that begins here has an operand two steps back
            np.add.at(barred, np.maximum(source[far] + size + 1, 0), 1)
            np.add.at(barred, reader[far] + 1, -1)
            barred = np.cumsum(barred)
            open_ = (barred[:size] + barred[size : 2 * size] + barred[2 * size : 3 * size]) == 0
            if not open_.any():
                continue
            last = np.full(3 * size, -1)
            local = source >= 0
            np.maximum.at(last, source[local], reader[local])
            some = np.flatnonzero(last >= 0)
            crossing = np.zeros(3 * size + 1, dtype=np.intp)
            np.add.at(crossing, some + 1, 1)
            np.add.at(crossing, last[some] + 1, -1)
            crossing = np.cumsum(crossing)[size : 2 * size]
            few = crossing <= 1.2 * crossing[open_].min() + 1
            cuts = np.flatnonzero(open_ & few)
            rare = self._rarity(window)[cuts]
            cuts = cuts[np.lexsort((crossing[cuts], rare))][:_CUTS]
            best = min(cuts.tolist(), key=lambda cut: (self._classes(nodes, start + cut, size, place), crossing[cut]))
            return start + best, size
        return None

    def _rarity(self, window: Integers) -> Integers:
        """How often what is around each place of a step is there: where it is rare loops within the step begin."""
        size = len(window) // 2
        kinds = self.kinds[window]
        around = np.zeros(size, dtype=np.uint64)
        for k in range(-_AROUND, _AROUND):
            around = around * _ODD + np.roll(kinds, -k)[:size].astype(np.uint64)
        _, of, counts = np.unique(around, return_inverse=True, return_counts=True)
        return counts[of]

    def _classes(self, nodes: Integers, start: int, size: int, place: Integers) -> int:
        """How many structures the nodes of a step have if it begins here."""
        body = Program(sizes=[1, 1])
        state, other = body.append(argument_of(0)), body.append(argument_of(1))
        new: dict[int, int] = {}
        for node in nodes[start : start + size].tolist():
            mine = self.program.arguments[self.program.starts[node] : self.program.starts[node + 1]]
            operands = [new.get(a, state if place[a] >= 0 else other) for a in mine]
            new[node] = body.append(self.program.rows[node], operands)
        body.outputs = [*new.values()]
        return len(classify(body).rows)

    def _behind(self, inside: NDArray[np.bool_], first: int) -> NDArray[np.bool_] | None:
        """Which nodes outside a recurrence depend on it; None if it depends on one of them."""
        starts, arguments = self.program.starts, self.program.arguments
        own = inside.tolist()
        behind = [False] * len(own)
        for i in range(first, len(own)):
            mine = arguments[starts[i] : starts[i + 1]]
            if own[i]:
                if any(behind[a] for a in mine):
                    return None
            elif any(own[a] or behind[a] for a in mine):
                behind[i] = True
        return np.array(behind)

    def _body(self, first: Integers, terms: list[list[tuple[str, int]]], states: Integers, sizes: list[int]) -> Program:
        """The program of one step, of the states, the inputs of the step, and what is the same in each."""
        body = Program(sizes=[len(states), *sizes])
        argument = {"state": 0, "input": 1, "constant": 2}
        position = {int(p): s for s, p in enumerate(states)}
        known: dict[tuple[str, int], int] = {}
        for p, mine in enumerate(terms):
            operands = []
            for term in mine:
                kind, k = term
                if term not in known and kind == "number":
                    known[term] = body.append(CONSTANT, (), self.program.data[k])
                elif term not in known:
                    known[term] = body.append(argument_of(argument[kind]), (), position[k] if kind == "state" else k)
                operands.append(known[term])
            known["own", p] = body.append(self.program.rows[first[p]], operands)
        new = [(known["own", p], self.frozen[first[p]]) for p in states.tolist()]
        body.outputs = [body.append(ops.stop_gradient, (node,)) if frozen else node for node, frozen in new]
        return body

    def _written(
        self,
        inside: NDArray[np.bool_],
        behind: NDArray[np.bool_],
        recurrence: Recurrence,
        given: Integers,
        loop: Integers,
        place_of: dict[int, int],
    ) -> Program:
        program = self.program
        recurrences = [*program.recurrences, recurrence]
        result = Program(sizes=program.sizes, parameters=program.parameters, recurrences=recurrences)
        new = [-1] * len(program)
        rows, starts, arguments, data = program.columns

        def copy(chosen: Iterator[int]) -> None:
            for i in chosen:
                new[i] = result.append(rows[i], [new[a] for a in arguments[starts[i] : starts[i + 1]]], data[i])

        copy(iter(np.flatnonzero(~inside & ~behind).tolist()))
        nothing = result.append(CONSTANT, (), 0.0)
        operands = {-1: nothing}
        for a in given.tolist():
            if a not in operands:
                cut = self.frozen[a] and self.counts[a]
                operands[a] = result.append(ops.stop_gradient, (new[a],)) if cut else new[a]
        scan = result.append(SCAN, [operands[a] for a in given.tolist()], len(recurrences) - 1)
        size = len(place_of)
        for p, s in place_of.items():
            for k, node in enumerate(loop[:, p].tolist()):
                new[node] = result.append(STATE, (scan,), (k + 1) * size + s)
        copy(iter(np.flatnonzero(behind).tolist()))
        result.outputs = [new[output] for output in program.outputs]
        return result


def _spans(starts: Integers, counts: Integers) -> Integers:
    """The numbers from each start on, so many of each."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + counts, counts)


def _mixed(numbers: NDArray[np.generic]) -> NDArray[np.uint64]:
    """Numbers scattered over all of 64 bits."""
    x = numbers.astype(np.uint64) * _ODD
    x ^= x >> np.uint64(29)
    return x * _ODD


def _periods(keys: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Yield places, and after how many the longer and longer surroundings of each come again."""
    for quarter in (2, 1, 3):
        middle, width, power, before = quarter * len(keys) // 4, 1, _ODD, 0
        windows = keys
        while middle + 2 * width <= len(keys):
            again = np.flatnonzero(windows[middle + 1 :] == windows[middle])
            if not len(again):
                break
            period = int(again[0]) + 1
            if period != before:
                before = period
                yield middle, period
            windows = windows[:-width] * power + windows[width:]
            with np.errstate(over="ignore"):
                power = power * power
            width *= 2
