"""The rules that keep array programs small. Each is an identity; x, y, z are arrays, c is a plain number, m a mask.

``BEFORE`` are those that hold while derivatives are still to be taken, ``LAST`` those for what a target gets, and
``FOR_JAX`` for what JAX gets and may differentiate again.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from microgrid import ops
from microgrid.compiler.ir import (
    NOT,
    NUMBER,
    BatchSize,
    BatchWeight,
    Elementwise,
    Map,
    Node,
    Operand,
    View,
    is_mask,
    source_of,
)
from microgrid.compiler.passes.builder import Builder, Rules
from microgrid.ops import Op

Operands = tuple[Operand, ...]


def either_way(operands: Operands) -> Iterator[tuple[Operand, Operand]]:
    """Yield two operands in both orders."""
    a, b = operands
    yield a, b
    yield b, a


# -- rows of the table ------------------------------------------------------------------------------


def itself(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """identity(x) = x, and stop_gradient(x) = x where nothing is differentiated any more."""
    return operands[0]


def number_of_number(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """number(x) = x, if x is no mask."""
    return None if is_mask(operands[0]) else operands[0]


def times_one(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """1 · x = x."""
    return next((x for c, x in either_way(operands) if c == 1.0), None)


def times_minus_one(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """−1 · x = −x."""
    return next((build.apply(ops.neg, x) for c, x in either_way(operands) if c == -1.0), None)


def negative_factor(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """(−x) · y = −(x · y)."""
    for factor, y in either_way(operands):
        match factor:
            case Elementwise(op=ops.neg, inputs=(x,)):
                return build.apply(ops.neg, build.apply(ops.mul, x, y))
    return None


def two_constants(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """2 · (c · x) = 2c · x: no other c₁ · c₂ is exact."""
    match operands:
        case (2.0, Elementwise(op=ops.mul, inputs=(float() as c, x))):
            return build.apply(ops.mul, 2.0 * c, x)
    return None


def weight_times_count(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """(1 / B) · B = 1."""
    match operands:
        case (BatchWeight(), BatchSize()) | (BatchSize(), BatchWeight()):
            return 1.0
    return None


def twice_negative(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """−(−x) = x."""
    match operands:
        case (Elementwise(op=ops.neg, inputs=(x,)),):
            return x
    return None


def negative_constant(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """−(c · x) = −c · x."""
    match operands:
        case (Elementwise(op=ops.mul, inputs=(float() as c, x)),):
            return build.apply(ops.mul, -c, x)
    return None


def over_one(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """x / 1 = x."""
    return operands[0] if operands[1] == 1.0 else None


def plus_itself(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """x + x = 2 · x."""
    x, y = operands
    return build.apply(ops.mul, 2.0, x) if x is y else None


def plus_negative(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """x + (−y) = (−y) + x = x − y."""
    for term, x in either_way(operands[::-1]):
        match term:
            case Elementwise(op=ops.neg, inputs=(y,)):
                return build.apply(ops.sub, x, y)
    return None


def minus_negative(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """x − (−y) = x + y."""
    match operands:
        case (x, Elementwise(op=ops.neg, inputs=(y,))):
            return build.apply(ops.add, x, y)
    return None


def one_minus_mask(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """1 − m = not m."""
    one, m = operands
    return build.apply(NOT, m) if one == 1.0 and is_mask(m) else None


def twice_not(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """not not m = m."""
    match operands:
        case (Elementwise(inputs=(m,)) as x,) if x.op is NOT:
            return m
    return None


def power_of_one(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """x¹ = x."""
    return operands[0] if op.recipe is not None and op.recipe[1] == (1.0,) else None


def power_of_zero(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """x⁰ = 1; only last, for its derivative is 0 times what may be nan."""
    return 1.0 if op.recipe is not None and op.recipe[1] == (0.0,) else None


def known_condition(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """where(c, x, y) = x, or y if c = 0; only last, for the derivative by the other is 0 times what may be inf."""
    condition, x, y = operands
    return (x if condition else y) if isinstance(condition, float) else None


def behind_the_gate(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """gated(m, x) = x where nothing is differentiated any more."""
    return operands[1]


def before_it_repeats(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """f(x, y) of views through one map that repeats members = a view of f of the members."""
    views = [x for x in operands if isinstance(x, Node)]
    first = views[0]
    if not isinstance(first, View) or first.source.size >= first.size:
        return None
    inner: list[Operand] = []
    for x in operands:
        if not isinstance(x, Node):
            inner.append(x)
        elif isinstance(x, View) and x.map == first.map and x.source.shape == first.source.shape:
            inner.append(x.source)
        else:
            return None
    return build.view(build.apply(op, *inner), first.map)


def numbers_for_masks(build: Builder, op: Op, operands: Operands) -> Operand | None:
    """f(m) = f(number(m)), if f is a row that takes no mask; only last, where masks are booleans."""
    if op in (NOT, NUMBER):
        return None
    masks = [is_mask(x) for x in operands]
    if op is ops.mul:
        masks = [all(masks), False]
    elif op in (ops.where, ops.chosen, ops.gated):
        masks[0] = False
    if not any(masks):
        return None
    return build.apply(op, *[build.apply(NUMBER, x) if m else x for x, m in zip(operands, masks, strict=True)])


# -- sums over members ------------------------------------------------------------------------------


def sum_of_negatives(build: Builder, x: Node, axes: Sequence[int], batch: bool) -> Operand | None:
    """Σ −x = −Σ x."""
    match x:
        case Elementwise(op=ops.neg, inputs=(y,)):
            return build.apply(ops.neg, build.sum(y, axes, batch))
    return None


def constant_out_of_sum(build: Builder, x: Node, axes: Sequence[int], batch: bool) -> Operand | None:
    """Σ c · x = c · Σ x, for a finite c."""
    match x:
        case Elementwise(op=ops.mul, inputs=(float() as c, y) | (y, float() as c)) if math.isfinite(c):
            return build.apply(ops.mul, c, build.sum(y, axes, batch))
    return None


def weight_out_of_sum(build: Builder, x: Node, axes: Sequence[int], batch: bool) -> Operand | None:
    """Σ (1 / B) · x = (1 / B) · Σ x."""
    match x:
        case Elementwise(op=ops.mul, inputs=(Node(), Node()) as factors):
            for weight, y in either_way(factors):
                if isinstance(weight, Node) and isinstance(source_of(weight), BatchWeight):
                    total = build.sum(y, axes, batch)
                    return build.apply(ops.mul, _like(build, source_of(weight), total), total)
    return None


def sum_of_masks(build: Builder, x: Node, axes: Sequence[int], batch: bool) -> Operand | None:
    """Σ m = Σ number(m); only last, where masks are booleans: a product with a mask needs no number, its sum does."""
    return build.sum(build.apply(NUMBER, x), axes, batch) if is_mask(x) else None


def repeated_terms(build: Builder, x: Node, axes: Sequence[int], batch: bool) -> Operand | None:
    """Σ over n members that are the same = n · x."""
    if batch or not isinstance(x, View):
        return None
    repeated = {*x.map.repeats()} & {*axes}
    if not repeated:
        return None
    times = math.prod(x.shape[k] for k in repeated)
    rest = [k for k in range(len(x.shape)) if k not in repeated]
    left = [new for new, k in enumerate(rest) if k in axes]
    return build.apply(ops.mul, float(times), build.sum(build.view(x.source, x.map.without(repeated)), left))


# -- sums over samples ------------------------------------------------------------------------------


def weight_out_of_samples(build: Builder, x: Node) -> Operand | None:
    """Σ (1 / B) · x = (1 / B) · Σ x over the samples, also if x is the same for each."""
    match x:
        case Elementwise(op=ops.mul, inputs=factors):
            for weight, y in either_way(factors):
                if isinstance(weight, Node) and isinstance(source_of(weight), BatchWeight):
                    return build.apply(ops.mul, weight, build.sum_samples(y))
    return None


def count_times_weight(build: Builder, x: Node) -> Operand | None:
    """B · (1 / B) = 1."""
    return 1.0 if isinstance(x, BatchWeight) else None


def count_of_view(build: Builder, x: Node) -> Operand | None:
    """B · a view of x = a view of B · x."""
    return build.view(build.times_count(x.source), x.map) if isinstance(x, View) else None


def count_of_negative(build: Builder, x: Node) -> Operand | None:
    """B · (−x) = −(B · x)."""
    match x:
        case Elementwise(op=ops.neg, inputs=(y,)):
            return build.apply(ops.neg, build.times_count(y))
    return None


def count_of_product(build: Builder, x: Node) -> Operand | None:
    """B · (x · y) = (B · x) · y, if B · x is no product with B."""
    match x:
        case Elementwise(op=ops.mul, inputs=factors):
            for factor, other in either_way(factors):
                scaled = build.times_count(factor)
                match source_of(scaled) if isinstance(scaled, Node) else scaled:
                    case Elementwise(op=ops.mul, inputs=(_, Node() as last)) if isinstance(source_of(last), BatchSize):
                        pass
                    case _:
                        return build.apply(ops.mul, scaled, other)
    return None


def _like(build: Builder, x: Node, other: Operand) -> Operand:
    """A single number in the shape of another array."""
    return build.view(x, Map.constant(other.shape)) if isinstance(other, Node) else x


BEFORE = Rules(
    rows={
        ops.identity: (itself,),
        NUMBER: (number_of_number,),
        ops.mul: (times_one, times_minus_one, negative_factor, two_constants, weight_times_count),
        ops.neg: (twice_negative, negative_constant),
        ops.div: (over_one,),
        ops.add: (plus_itself, plus_negative),
        ops.sub: (minus_negative, one_minus_mask),
        NOT: (twice_not,),
        ops.power_of: (power_of_one,),
    },
    always=(before_it_repeats,),
    sums=(sum_of_negatives, constant_out_of_sum, weight_out_of_sum, repeated_terms),
    samples=(weight_out_of_samples,),
    counts=(count_times_weight, count_of_view, count_of_negative, count_of_product),
)
FOR_JAX = replace(
    BEFORE,
    rows={**BEFORE.rows, ops.where: (known_condition,), ops.power_of: (power_of_one, power_of_zero)},
    always=(before_it_repeats, numbers_for_masks),
    sums=(*BEFORE.sums, sum_of_masks),
)
LAST = replace(FOR_JAX, rows={**FOR_JAX.rows, ops.stop_gradient: (itself,), ops.gated: (behind_the_gate,)})
