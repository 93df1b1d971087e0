"""Random functions of scalars, as text that a shrunk failure can be pasted from, and the eager reference."""

import itertools
import math
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

import microgrid as mg
from microgrid import ops
from microgrid.compiler.classes import classify
from microgrid.compiler.program import PARAMETER, argument_of, from_values, values_of
from microgrid.compiler.simplify import simplify
from microgrid.compiler.targets import NATIVE, named
from microgrid.compiler.targets.native import tape as native_tape
from microgrid.compiler.tracing import trace, traced_leaf
from microgrid.engine import constant
from microgrid.strategies import Expression, Step, expressions
from microgrid.strategies import _code as row_code
from microgrid.strategies import _number as number_text

UNARY = ["-{a}", "mg.sin({a})", "mg.tanh({a})", "mg.exp({a} * 0.1)", "mg.relu({a})", "mg.sigmoid({a})", "abs({a})",
         "{a} ** 2", "{a} ** 3", "mg.softplus({a})", "mg.sqrt({a} * {a} + 1.0)", "{a} * {c}", "{a} + {c}", "{c} - {a}",
         "mg.log({a} * {a} + 0.5)",
         "mg.stop_gradient({a})", "mg.erf({a})", "mg.gelu({a})", "1.0 * {a}", "{a} / 1.0"]  # fmt: skip
BINARY = ["{a} + {b}", "{a} - {b}", "{a} * {b}", "{a} / ({b} * {b} + 1.0)", "mg.maximum({a}, {b})",
          "mg.minimum({a}, {b})",
          "mg.where(mg.less({a}, {b}), {a}, 2.0 * {b})", "mg.hypot({a}, {b} + 3.0)", "mg.atan2({a}, {b} + 5.0)",
          "mg.less_equal({a}, {b}) * {a}"]  # fmt: skip
FOLDS = ["mg.total({v})", "sum({v})", "mg.dot({v}, {w})", "mg.logsumexp({v})", "mg.mean([t * t for t in {v}])",
         "mg.dot({v}, {w}[::-1])", "mg.take({v}, mg.floor(mg.clip({a} + 0.3142, -2.0, 1.9)))",
         "mg.total([s * t for s in {v} for t in {w}]) * 0.1", "max_of({v})",
        "fold(lambda s, t: s - t * t, {a}, {v} * 5)", "fold(mg.maximum, {a}, {v} + {w} * 4)", "mg.maximum(*({v} * 3))",
        "fold(lambda s, t: mg.minimum(t, s), {a}, {v} * 9)", "fold(lambda s, t: s * t, {a}, ({v} + {w})[:9])",
        "fold(lambda s, t: {b} * s + t, 0.5, {v} * 5)", "fold(lambda s, t: t - s * {b}, {a}, {v} * 5)",
        "fold(lambda s, t: mg.where(mg.less(t, {b}), t * t, s), {a}, {v} * 9)",
        "mg.scan(lambda s, t: (mg.sin(s) * {b} + t, None), {a}, {v})[0]",
        "mg.scan(lambda s, t: ({b} * {b}, s), {a}, {v})[0]",
        "mg.scan(lambda s, t: ((s[1] * 0.5, t[0] - s[0]), None), ({a}, {b}), [*zip({v}, {w})])[0][1]",
        "mg.scan(lambda s, t: (mg.sin(s) * {b} + t, None), {a}, {v} * 3, checkpoint=4)[0]",
        "mg.scan(lambda s, t: (mg.scan(lambda u, w: (mg.sin(u) * w, None), s * t, {w})[0] + {b}, None), {a}, {v})[0]",
        "mg.scan(lambda s, t: (s - mg.iterate(lambda u: mg.sin(u) * {b} + 0.7, t, until=lambda u, w:"
        " abs(w - u) < 0.0521, at_most=4), None), {a}, {v})[0]",
        "mg.iterate(lambda s: mg.sin(s) * {b} + 0.7, {a}, until=lambda s, t: abs(t - s) < 0.0521, at_most=7)",
        "mg.iterate(lambda s: (s[1] * 0.5, s[0] - {b}), ({a}, {v}[0]), until=lambda s: s[0] < 0.3142, at_most=6)[1]",
        ]  # fmt: skip
MAPS = ["[mg.tanh(t) for t in {v}]", "[s * t for s, t in zip({v}, {w})]", "[t * {a} + {c} for t in {v}]",
        "mg.softmax({v})", "{v}[::-1]", "[s - t for s, t in zip({v}[1:], {v})] + [{a}]",
        "[mg.dot([p[(k + j) % len(p)] for j in range(len({v}))], {v}) for k in range(len({v}))]",
        "mg.take([{v}, {w}, {v}[::-1]], mg.floor(mg.clip({a} - 0.2718, -3.0, 2.9)))",
        "[mg.take({w}, mg.floor(mg.clip(t + 0.1415, -2.0, 1.9))) for t in {v}]",
        "[mg.maximum(s, t) for s, t in zip({v}, {w})]",
        "[s if k % 2 else s * s for k, s in enumerate({v})]",
        "[mg.total({v}[:k]) for k in range(1, len({v}) + 1)]", "[sum({v}[k:]) * {a} for k in range(len({v}))]",
        "[mg.dot({v}[:k], {w}[:k]) for k in range(1, len({v}) + 1)]",
        "[mg.logsumexp({v}[k:]) for k in range(len({v}))]",
        "[mg.dot(mg.softmax([s * t for t in {w}[: k + 1]]), {v}[: k + 1]) for k, s in enumerate({v})]",
        "[mg.total([s * t for s in {v}[:k] for t in {w}[k:]]) for k in range(1, len({v}))] + [{a}]",
        "states(lambda s, t: s + t, {a}, {v} * 5)[-len({v}):]", "states(mg.maximum, {v}[0], {w} * 9)[:len({v})]",
        "states(lambda s, t: s * {a} - t, 0.25, {v} * 5)[:len({v})]",
        "mg.scan(lambda s, t: (mg.tanh(s * {a} + t), s * t), {c}, {v})[1]",
        "mg.scan(lambda s, t: (mg.tanh(s * {a} + t), s * t), {c}, {v}, checkpoint='sqrt')[1]",
        "[s + t for s, t in mg.scan(lambda s, k: ({{'n': s['n'] * 0.5 + k}}, (s['n'], {a})), {{'n': {c}}},"
        " range(len({v})))[1]]"]  # fmt: skip


FORMS = ["lifted", "ragged", "spelled out", "native", "native tape", "floats", "loops"]
"""How a program may be written: on arrays, a node for many numbers, sums of many lengths among them, or for each, in
machine code, as records for machine code, on plain floats."""
ON_ARRAYS = FORMS[:5]
AS_PYTHON = [form for form in FORMS if not form.startswith("native")]


def formed(kernel, form):
    """The kernel, made to run in a form, whether it suits or not."""
    if form == "ragged":
        kernel.stages.classes = classify(kernel.stages.folded, of_any_length=True)
    kernel.stages.unrolled = form not in ("lifted", "ragged", "native")
    if kernel.stages.unrolled:
        kernel.stages.program = written_out(kernel.stages.program)
    target = named("numpy" if form in FORMS[:3] else form)
    lacking = target in NATIVE and (native_tape.lacking if form == "native tape" else target.suits)(kernel.stages)
    kernel._choice.target = named("numpy") if lacking else target
    return kernel


@contextmanager
def naming(form):
    """Of several forms of one program, that which fails is named."""
    try:
        yield
    except Exception as error:
        error.add_note(f"form: {form}")
        raise


def written_out(program):
    """A program with each loop that is one node as all of its steps."""
    leaves = [[traced_leaf(0.0) for _ in range(size)] for size in (program.parameters, *program.sizes)]
    values, nodes = trace(lambda: values_of(program, leaves[0], leaves[1:]))
    outputs = [x if isinstance(x, mg.Value) else constant(x) for x in map(values.__getitem__, program.outputs)]
    found, _ = from_values(nodes, outputs, [*leaves[1:], leaves[0]])
    found.rows = [PARAMETER if row is argument_of(len(program.sizes)) else row for row in found.rows]
    found.sizes.pop()
    found.parameters = program.parameters
    return simplify(found)


@dataclass
class Case:
    """A function ``f(x, y)`` as text, and ``g`` that returns what it computes on the way; parameters ``p``; a batch."""

    text: str
    parameters: list[float]
    batch: list[list[list[float]]]
    values: list = field(default_factory=list)

    def function(self, parameters, name="f"):
        namespace = {"mg": mg, "p": parameters, "nan": math.nan, "inf": math.inf}
        namespace |= {"max_of": max_of, "fold": fold, "states": states}
        exec(self.text, namespace)
        return namespace[name]

    def __str__(self):
        return f"p = {self.parameters}\n{self.text}\n# batch: {self.batch}"

    __repr__ = __str__


def max_of(xs):
    """The largest, as a chain whose gradient counts."""
    result = xs[0]
    for x in xs[1:]:
        result = mg.maximum(result, x)
    return result


def states(step, start, xs):
    """The states of a recurrence."""
    return list(itertools.accumulate(xs, step, initial=start))


def fold(step, start, xs):
    """The last state of a recurrence."""
    return states(step, start, xs)[-1]


numbers = st.floats(-3, 3).map(lambda x: round(x, 3) + 0.0)


@st.composite
def cases(draw, max_steps=8):
    size = draw(st.integers(2, 6))
    samples = draw(st.integers(1, 4))
    scalars, vectors = ["p[0]", "x[0]"], ["x", "y", f"p[:{size}]", f"p[1:{size + 1}]"]
    lines = []
    for step in range(draw(st.integers(1, max_steps))):
        kind = draw(st.sampled_from(["unary", "binary", "fold", "map"]))
        template = draw(st.sampled_from({"unary": UNARY, "binary": BINARY, "fold": FOLDS, "map": MAPS}[kind]))
        name = f"{'v' if kind == 'map' else 's'}{step}"
        lines.append(
            f"    {name} = "
            + template.format(
                a=draw(st.sampled_from(scalars)),
                b=draw(st.sampled_from(scalars)),
                v=draw(st.sampled_from(vectors)),
                w=draw(st.sampled_from(vectors)),
                c=draw(numbers),
            )
        )
        (vectors if kind == "map" else scalars).append(name)
    result = " + ".join([*scalars[2:], *[f"mg.total({v})" for v in vectors[4:]]])
    several = ", ".join([*scalars[2:], *[f"*{v}" for v in vectors[4:]], "p[0]", "x[0]", "0.25"])
    text = "\n".join(
        [
            "def f(x, y):",
            *lines,
            f"    return {result} + p[0] * x[0]",
            "def g(x, y):",
            *lines,
            f"    return [{several}]",
        ]
    )
    parameters = draw(st.lists(numbers, min_size=size + 2, max_size=size + 2))
    sample = st.lists(numbers, min_size=size, max_size=size)
    argument = st.lists(sample, min_size=samples, max_size=samples)
    batch = draw(st.lists(argument, min_size=2, max_size=2))
    return Case(text, parameters, batch)


def eager(case, reduce="mean", nudge=0.0):
    """The value, the gradient by each parameter and by each argument, by the engine alone.

    A nudged value is also off by what sums in another order round away where large terms cancel.
    """
    parameters = [mg.Value(x * (1 + nudge)) for x in case.parameters]
    arguments = [[[mg.Value(x * (1 + nudge)) for x in sample] for sample in argument] for argument in case.batch]
    f = case.function(parameters)
    results = [f(*sample) for sample in zip(*arguments, strict=True)]
    total = mg.total(results) * (1.0 / len(results) if reduce == "mean" else 1.0)
    total.backward()
    by_arguments = [np.array([[x.grad for x in sample] for sample in argument]) for argument in arguments]
    value = total.data + (0.1 * nudge * max(abs(node.data) for node in mg.topological_order(total)) if nudge else 0.0)
    return value, np.array([p.grad for p in parameters]), by_arguments


def assert_close(actual, expected, nudged):
    """Equal to 1e-12 relative, or to what a change of the last digit of the input does to the result."""
    actual, expected, nudged = (np.asarray(x, dtype=float) for x in (actual, expected, nudged))
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.where(finite, 0.0, actual), np.where(finite, 0.0, expected))
    actual, expected, nudged = actual[finite], expected[finite], nudged[finite]
    scale = np.max(np.abs(expected), initial=1.0)
    allowed = 1e-12 * scale + 50 * np.abs(nudged - expected)
    assert np.all(np.abs(actual - expected) <= allowed), (actual, expected, allowed)


# ---------------------------------------------------------------------------------------------------
# Programs of all rows, at any numbers

ROWS = [ops.add, ops.mul, *[op for op in ops.rows() if op not in (ops.add, ops.mul)]]
INDICES = ["0.0", "-2.0", "mg.sign(z)", "mg.floor(p[1])", "mg.floor(x[0])", "z"]
"""What ``take_of`` gets as an index: other numbers are seldom whole, and plain ones that are not are errors."""
ROWS += 3 * [ops.take_of(2)]
ROWS += 2 * [ops.stop_gradient, ops.floor, ops.less, ops.where, ops.sqrt, ops.log, ops.div, ops.power_of(0.0)]
ALL_FOLDS = [*FOLDS, "mg.logsumexp([t ** 0.0 for t in {v}])", "mg.total({v} * 2)", "mg.mean({v})",
             "mg.total([{a}, *{v}, {b}])",
             "mg.take([mg.sqrt({a}), mg.log({b}), {v}[0] * {b}], mg.less({a}, 0.5) + 1.0)",
             "mg.take([mg.sqrt(t) for t in {v}] + [{a}], mg.floor(mg.clip({b}, -1.0, 0.0)))",
             "mg.take([mg.sqrt({v}[0]), mg.sqrt({v}[0]) + {a}, {b}], 2.0 * mg.less({a}, 0.5)) * {b}",
             "mg.take([{a}, {b}], mg.less({v}[0], 0.5))",
             "mg.iterate(lambda s: (s[0] * 0.5, mg.sqrt(s[1])), ({a}, {b}), until=lambda s: abs(s[0]) < 0.3142,"
             " at_most=4)[1]",
             "(lambda r: mg.iterate(lambda s: s * 0.5 + r, {a}, until=lambda s: s < 0.3142, at_most=3))(mg.sqrt({b}))",
             "mg.grad(lambda r: mg.iterate(lambda s: mg.sqrt(s) * r, {a}, until=lambda s: s < 0.6, at_most=3))({b})",
             "mg.scan(lambda s, t: (mg.take([mg.sqrt(s), t], mg.less(t, 0.5)), s), {a}, {v} * 2)[0]",
             "mg.scan(lambda s, t: (mg.take([s, t], mg.less(t, {b})), None), mg.sqrt({a}),"
             " [mg.sqrt(t) for t in {v}])[0]",
             "{v}[0] * mg.stop_gradient({v}[-1])", "mg.where(mg.less({v}[0], {a}), {v}[-1], {b})",
             "mg.total([mg.sqrt(t) for t in {v}[1:]]) + mg.floor(mg.sqrt({v}[0]))"]  # fmt: skip

ordinary = st.sampled_from([0.0, 1.0, -1.0, 2.0, 0.5, -0.5, 3.0]) | st.floats(-3, 3).map(lambda x: round(x, 3))
special = st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, 1e-300, -1e-300, 1e300, -1e300, 30.0, -700.0])
any_number = st.integers(0, 7).flatmap(lambda k: ordinary if k else special)


@st.composite
def choices(draw):
    """Programs that choose among what they compute, of which some has infinite derivatives at 0."""
    program = draw(expressions(ROWS, max_steps=3, data=any_number, largest=math.inf))
    at = tuple(draw(st.sampled_from([0.0, 0.0, x])) for x in program.at)
    steps = [*program.steps]
    node = lambda: draw(st.integers(0, len(at) + len(steps) - 1))  # noqa: E731
    for _ in range(draw(st.integers(1, 2))):
        roots = draw(st.lists(st.sampled_from(ROOTS), min_size=1, max_size=2))
        steps += [Step(op, tuple(node() for _ in range(op.arity))) for op in roots]
        latest = len(at) + len(steps) - 1
        if draw(st.booleans()):
            steps.append(Step(ops.less, (node(), 0.5)))
            index = len(at) + len(steps) - 1
        else:
            index = draw(st.sampled_from([0.0, 1.0, 2.0, -1.0]))
        steps.append(Step(ops.take_of(3), (index, *draw(st.permutations([latest, node(), node()])))))
    steps += draw(st.sampled_from([[], [Step(ops.sqrt, (len(at) + len(steps) - 1,))]]))
    return Expression(at, tuple(steps))


ROOTS = [ops.sqrt, ops.log, ops.div, ops.mul, ops.sin, ops.power_of(1.5), ops.hypot]


@st.composite
def wild_cases(draw, max_steps=6, data=any_number, rows=ROWS):
    """Programs of all rows of the table on scalars, vectors and loops; nothing keeps their numbers in bounds.

    ``f`` returns one number and ``g`` several, of which some are parameters, arguments or constants.
    """
    size = draw(st.integers(1, 4))
    samples = draw(st.integers(1, 3))
    scalars, vectors = ["p[0]", "x[0]", "z", "p[1]"], ["x", "y", f"p[:{size}]"]
    lines = []
    for step in range(draw(st.integers(1, max_steps))):
        kind = draw(st.sampled_from(["row", "map", "fold", "loop", "vector", *["again"] * (step > 0)]))
        a, b, v, w = (draw(st.sampled_from(names)) for names in (scalars, scalars, vectors, vectors))
        again = draw(st.sampled_from([x for x in lines if x[0] in "vs"])) if kind == "again" else ""
        name = f"{'v' if kind in ('map', 'vector') or again[:1] == 'v' else 's'}{step}"
        if again:
            lines.append(f"{name} = {again.partition(' = ')[2]}")
        elif kind == "fold":
            lines.append(f"{name} = " + draw(st.sampled_from(ALL_FOLDS)).format(a=a, b=b, v=v, w=w))
        elif kind == "vector":
            constant = number_text(draw(data))
            lines.append(f"{name} = " + draw(st.sampled_from(MAPS)).format(a=a, v=v, w=w, c=constant) + f" or {v}")
        else:
            first = {"row": [], "map": ["t"], "loop": [name]}[kind]
            row = draw(st.sampled_from(rows))
            others = [*scalars, *["s"] * (kind == "map")]
            operands = [
                draw(st.sampled_from(others) | data.map(number_text))
                if k or not first or draw(st.integers(0, 3)) == 0
                else first[0]
                for k in range(row.arity)
            ]
            if row.chooses:
                operands[0] = draw(st.sampled_from(INDICES))
            if not any(x in scalars or x in ("s", "t", name) for x in operands):
                operands[0] = first[0] if first else a
            code = row_code(row, operands)
            if kind == "row":
                lines.append(f"{name} = {code}")
            elif kind == "map":
                lines.append(f"{name} = [{code} for t, s in zip({v}, {w})]")
            else:
                lines += [f"{name} = {a}", "for _ in range(9):", f"    {name} = {code}"]
        (vectors if name[0] == "v" else scalars).append(name)
    made = [*scalars[4:], *[f"mg.total({v})" for v in vectors[3:]]]
    chosen = draw(st.lists(st.sampled_from([*made, made[-1], "p[0]", "x[0]", "0.25"]), min_size=1, max_size=3))
    body = "\n".join(f"    {line}" for line in lines)
    one, several = made[-1] if draw(st.booleans()) else f"mg.total([{', '.join(chosen)}])", ", ".join(chosen)
    text = f"def f(x, y, z):\n{body}\n    return {one}\ndef g(x, y, z):\n{body}\n    return [{several}]\n"
    parameters = draw(st.lists(data, min_size=max(size, 2), max_size=max(size, 2)))
    sample = st.lists(data, min_size=size, max_size=size)
    batch = [draw(st.lists(part, min_size=samples, max_size=samples)) for part in (sample, sample, data)]
    return Case(text, parameters, batch)
