"""Simplify a program of scalars: equal nodes become one, constants are computed, dead nodes go.

No rule here changes a number: ``x * 0`` stays, as it is nan for an infinite x. An expression that is written twice is
as one that has a name: what flows back to it is added up before it meets the derivative, so where that is infinite,
``2√x − √x`` at 0, the gradient is ∞ and not ∞ − ∞. Chains of additions become
one sum; chains of maxima become one too where no gradient passes, as in a softmax, because a chain shares
the gradient of equal arguments differently.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from itertools import accumulate, compress

from microgrid import ops
from microgrid.compiler.program import LARGEST, PARAMETER, SMALLEST, SUM, Program, recurrence_of
from microgrid.ops import CONSTANT, Op


def simplify(program: Program) -> Program:
    """Return a program that computes the same outputs with fewer nodes."""
    return flatten_chains(add_negatives(number_values(program)))


def number_values(program: Program) -> Program:
    """Keep live nodes, each different one once; compute what depends on constants only."""
    rows, starts, arguments, data = program.columns
    uses = uses_of(program)
    live = [count > 0 for count in uses]
    if 0 in uses:
        live = [False] * len(rows)
        for output in program.outputs:
            live[output] = True
        for i in range(len(rows) - 1, -1, -1):
            if live[i]:
                for a in arguments[starts[i] : starts[i + 1]]:
                    live[a] = True

    result = Program(sizes=program.sizes, parameters=program.parameters)
    new = [-1] * len(rows)
    known: dict[object, int] = {}
    pairs: defaultdict[Op, dict[int, int]] = defaultdict(dict)
    size = len(rows)
    result_rows, result_starts, result_arguments, result_data = result.columns
    identity, constant, parameter = ops.identity, CONSTANT, PARAMETER
    for i, row in enumerate(rows):
        if not live[i]:
            continue
        start, end = starts[i], starts[i + 1]
        if start == end:
            if row is constant:
                new[i] = _constant(result, known, data[i])
            else:
                new[i] = len(result_rows)
                result_rows.append(row)
                result_starts.append(len(result_arguments))
                result_data.append(data[i])
            continue
        if row is identity:
            new[i] = new[arguments[start]]
            continue
        first, last = arguments[start], arguments[end - 1]
        a, b = new[first], new[last]
        number = len(result_rows)
        if result_rows[a] is constant:
            mine = [new[x] for x in arguments[start:end]]
            if all(result_rows[x] is constant for x in mine) and recurrence_of(row) is None:
                new[i] = _constant(result, known, row.forward(*[result_data[x] for x in mine]))
                continue
            if ops.is_take(row):
                place = row.forward(result_data[a], *range(1, end - start))
                new[i] = mine[int(place)] if place == place else _constant(result, known, place)
                continue
        if (rows[first] is parameter and uses[first] == 1) or (rows[last] is parameter and uses[last] == 1):
            new[i] = number  # no other node has this operand
        elif end - start <= 2:  # most nodes have two operands at most
            new[i] = pairs[row].setdefault(a * size + b, number)
        else:
            new[i] = known.setdefault((row, *[new[x] for x in arguments[start:end]]), number)
        if new[i] == number:
            result_rows.append(row)
            for k in range(start, end):
                result_arguments.append(new[arguments[k]])
            result_starts.append(len(result_arguments))
            result_data.append(0)
    result.outputs = [new[output] for output in program.outputs]
    return result


def without(program: Program, nodes: Iterable[int]) -> Program:
    """Return a program in which some nodes are their first operands."""
    rows = [*program.rows]
    for node in nodes:
        rows[node] = ops.identity
    return number_values(replace(program, rows=rows))


def _constant(program: Program, known: dict[object, int], number: float) -> int:
    key = (CONSTANT, number.hex())  # hex tells −0.0 from 0.0, and nan is one number
    if key not in known:
        known[key] = program.append(CONSTANT, (), number)
    return known[key]


def add_negatives(program: Program) -> Program:
    """Write the differences in long sums as sums with negated terms: r − x is r + (−x) to the last digit.

    Of a product with a constant, or that is used nowhere else, a factor is negated: the terms are products still.
    """
    rows, starts, arguments, _ = program.columns
    add, sub = ops.add, ops.sub
    if rows.count(sub) == 0 or rows.count(sub) + rows.count(add) < _LONG:
        return program
    terms = [i for i, row in enumerate(rows) if row is sub or row is add]
    length = [0] * len(rows)
    for i in terms:
        length[i] = 1 + length[arguments[starts[i]]]
    if max([length[i] for i in terms]) < _LONG:
        return program
    uses = uses_of(program)
    within = [False] * len(rows)
    for i in terms:
        first = arguments[starts[i]]
        length[i] = 1 + (length[first] if uses[first] == 1 else 0)
    for i in reversed(terms):
        if within[i] or length[i] >= _LONG:
            within[i] = True
            first = arguments[starts[i]]
            within[first] = within[first] or length[first] > 0
    if not any(rows[i] is sub and within[i] for i in terms):
        return program
    result = Program(sizes=program.sizes, parameters=program.parameters)
    new: list[int] = []
    negative: dict[int, int] = {}

    def negated(node: int) -> int:
        if node not in negative:
            row, at = result.rows[node], result.starts[node]
            if row is CONSTANT:
                negative[node] = result.append(CONSTANT, (), -result.data[node])
            elif row is ops.neg:
                negative[node] = result.arguments[at]
            else:
                negative[node] = result.append(ops.neg, (node,))
        return negative[node]

    for i, (row, mine, data) in enumerate(program.nodes()):
        operands = [new[a] for a in mine]
        if row is ops.sub and within[i]:
            term = operands[1]
            factors = result.arguments[result.starts[term] : result.starts[term + 1]]
            factors.sort(key=lambda a: result.rows[a] is not CONSTANT)
            if result.rows[term] is ops.mul and (uses[mine[1]] == 1 or result.rows[factors[0]] is CONSTANT):
                term = result.append(ops.mul, (negated(factors[0]), factors[1]))
            else:
                term = negated(term)
            row, operands = ops.add, [operands[0], term]
        new.append(result.append(row, operands, data))
    result.outputs = [new[output] for output in program.outputs]
    return number_values(result)


_LONG = 8
"""Sums of so many terms or more are sums also where terms are subtracted."""


def flatten_chains(program: Program) -> Program:
    """Turn chains of additions, and of maxima without a gradient, into one node each."""
    rows, starts, arguments, data = program.columns
    kinds = {row: kind for row in {*rows} if (kind := _chain(row)) is not None}
    uses = uses_of(program) if kinds else []
    frozen = without_gradient(program) if any(kind is not SUM for kind in kinds.values()) else []
    chains: dict[int, list[int]] = {}
    absorbed = [False] * len(rows)
    chain_rows: list[Op] = list(rows)
    for i, row in enumerate(rows):
        kind = kinds.get(row)
        if kind is None or (kind is not SUM and not frozen[i]):
            continue
        chain_rows[i] = kind
        terms: list[int] = []
        for a in arguments[starts[i] : starts[i + 1]]:
            if chain_rows[a] is not kind or uses[a] > 1 or a not in chains:
                terms.append(a)
                continue
            absorbed[a] = True
            inner = chains.pop(a)
            if len(inner) > len(terms):  # add the shorter list to the longer one: linear time for a long chain
                terms, inner = inner, terms
            terms.extend(inner)
        chains[i] = terms
    for i, terms in chains.items():
        if len(terms) == 2:
            chain_rows[i] = _PAIR[chain_rows[i]]
    if True not in absorbed:
        return replace(program, rows=chain_rows)

    kept = [not gone for gone in absorbed]
    new = list(accumulate(kept, initial=0))  # for each node, how many are kept before it
    result = replace(program, rows=[*compress(chain_rows, kept)], data=[*compress(data, kept)])
    result.starts, result.arguments = [0], []
    start = 0
    for i in [*sorted([*chains, *compress(range(len(rows)), absorbed)]), len(rows)]:  # what lies between is copied
        shift = len(result.arguments) - starts[start]
        result.starts += [end + shift for end in starts[start + 1 : i + 1]]
        result.arguments += map(new.__getitem__, arguments[starts[start] : starts[i]])
        if i in chains:
            result.arguments += map(new.__getitem__, chains[i])
            result.starts.append(len(result.arguments))
        start = i + 1
    result.outputs = [new[output] for output in program.outputs]
    return result


_CHAINS = {ops.add: SUM, ops.maximum: LARGEST, ops.minimum: SMALLEST}
_MANY = {ops.sum_of: SUM, ops.maximum_of: LARGEST}
_PAIR = {chain: pair for pair, chain in _CHAINS.items()}


def _chain(row: Op) -> Op | None:
    """The row of many arguments that a chain of this row makes."""
    if row.recipe is not None and row.recipe[0] in _MANY:
        return _MANY[row.recipe[0]]
    return _CHAINS.get(row)


def uses_of(program: Program) -> list[int]:
    """How often each node is an operand; an output counts twice more, for it must stay a node of its own."""
    uses = [0] * len(program)
    for a in program.arguments:
        uses[a] += 1
    for output in program.outputs:
        uses[output] += 2
    return uses


def depths(program: Program) -> list[int]:
    """For each node, how many operations depend on each other at most, one on the other, up to it."""
    starts, arguments = program.starts, program.arguments
    depth = [0] * len(program)
    for i in range(len(depth)):
        deepest = 0
        for k in range(starts[i], starts[i + 1]):
            if depth[arguments[k]] >= deepest:
                deepest = depth[arguments[k]] + 1
        depth[i] = deepest
    return depth


def heights(program: Program) -> list[int]:
    """For each node, how many operations depend on each other at most, one on the other, from it on."""
    starts, arguments = program.starts, program.arguments
    height = [0] * len(program)
    for i in range(len(height) - 1, -1, -1):
        above = height[i] + 1
        for k in range(starts[i], starts[i + 1]):
            if height[arguments[k]] < above:
                height[arguments[k]] = above
    return height


def without_gradient(program: Program) -> list[bool]:
    """For each node, whether no gradient flows back to it from any of its uses: nothing does through a plain 0."""
    rows, starts, arguments, _ = program.columns
    open_uses = uses_of(program)  # those through which a gradient may flow back
    cutting = {row for row in {*rows} if row.cuts}
    if cutting:
        for i in [i for i, row in enumerate(rows) if row in cutting]:
            for a, connected in zip(arguments[starts[i] : starts[i + 1]], rows[i].connected, strict=True):
                open_uses[a] -= not connected
    stack = [i for i, count in enumerate(open_uses) if count == 0]
    while stack:
        i = stack.pop()
        mine = arguments[starts[i] : starts[i + 1]]
        for a in compress(mine, rows[i].connected) if rows[i].cuts else mine:
            open_uses[a] -= 1
            if open_uses[a] == 0:
                stack.append(a)
    return [count == 0 for count in open_uses]
