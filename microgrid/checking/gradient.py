"""``check``: the gradient of a function, a graph or a model, against numeric derivatives."""

import itertools
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from microgrid.calculus import gradient_graph
from microgrid.checking.judging import Primitive, judge
from microgrid.checking.line import Line, Measure, Obstacle, output_of
from microgrid.checking.noise import UNIT, is_program
from microgrid.checking.numeric import Method
from microgrid.checking.problem import Leaves, Problem, problem_of
from microgrid.checking.program import Plan, Program, Step, restored
from microgrid.checking.report import Derivative, Fault, Report, Verdict, listed, number, operation, where
from microgrid.engine import Value
from microgrid.given import Given
from microgrid.ops import ARITHMETIC, Interval, in_table, short_repr, stop_gradient, total
from microgrid.recording import enable_grad, record_lines


def check(
    f: Callable[..., Any] | Value,
    at: Any = None,
    /,
    *more: Any,
    order: int = 1,
    method: str = "auto",
    step: float | None = None,
    sample: int | None = None,
    seed: int = 0,
    allow: Collection[str] = (),
    progress: bool = True,
    **named: Any,
) -> Report:
    """Check every derivative that ``backward()`` gives, against a numeric one whose error is known.

    It takes a function and a point, a graph that is there already, or a model with a loss:

        check(lambda x: x.tanh() * 2, 0.5)
        check(f, (2.0, -3.0))            # f(2.0, -3.0); a list is one argument that is a list
        check(f, x=2.0, w=[1.0, -3.0])   # by name; check(f, {"x": 2.0, "w": [1.0, -3.0]}) does the same
        check(y)                         # a graph, by all its leaves
        check(y, [x, w])                 # a graph, by these leaves
        check(lambda: loss(model, batch), model)    # or model.parameters(), or a dict of Values

    Functions that are compiled are checked as they are: ``check(mg.compile(f), batch)``, or
    ``check(lambda: compiled_loss(X, y), model)``. If one is wrong, it is run as it is written, on some samples, and
    the wrong operation within is named with its line.

    The numeric derivative is ∂f/∂x ≈ Im f(x + ih) / h where every operation on the way is analytic, else
    the central difference (f(x + h) − f(x − h)) / 2h extrapolated to h = 0. Its error, and that of
    ``backward()`` itself, come from computing again with random rounding; the *allowed* error of a row is
    what they add up to. A row passes if backward and numeric agree within it, and if it leaves at least
    four digits, or nothing that matters beside the terms that cancel in the sum over the paths. A derivative of 0
    passes where the numeric one is known to a billionth of the slope beside the point, or where the function stands
    still. Leaves that cannot matter at this point, because every path from them ends at a comparison, a step,
    ``stop_gradient`` or a product with 0, have no row: they are counted in the notes. A point where branches meet is
    a kink only if the slopes on its sides differ, or if rounding hides whether they do: that of ``elu`` at 0 is 1.

    Before a row is called ``FAIL`` its cause is found: each node's local derivatives are checked in turn,
    and the first wrong operation is named with its operands and its line; if all are right, the gradients
    are accumulated anew to find the node where they went wrong; a number that was taken out of the graph
    (``x.data``) is found by running ``f`` again nearby. A second ``backward()`` must add exactly the same.

    It always ends: every row takes at most ``EVALUATIONS`` evaluations of the graph (or of ``f`` itself, if numbers
    were taken out of it), and if rows fail, so does every local derivative on the way, of its operation alone. So
    r rows by a graph of a edges take at most 4,000 (r + a) evaluations; some 40 r are usual.

    Nothing is left behind: the data and gradients of leaves and graph are as before.

    >>> report = mg.check(lambda x, w: mg.tanh(x * w), (2.0, -3.0))
    >>> bool(report), report.derivatives[0].name
    (True, 'x')

    Args:
        f: the function, of Values, returning one number; or the output of a graph.
        at: the point: a number, a list, a dict or an array for one argument, a tuple for several; or the
            leaves, as Values, where ``f`` is a graph or takes no arguments.
        *more: nothing: a point of several numbers is a tuple, and options go by name.
        order: 2 checks the second derivatives too, by differences of the gradient.
        method: ``"complex"`` or ``"difference"`` to insist on one, ``"auto"`` for the best that works.
        step: the largest step. With it, a kink within the step is reported as such; without, steps stay
            clear of kinks as long as digits remain.
        sample: check this many leaves, and this many directions, both drawn at random from the leaves that matter.
            A direction moves 250 leaves or more at once, and all directions together move every leaf.
        seed: for the sample and for random rounding; the same seed gives the same report.
        allow: verdicts that count as passed beside ``PASS``, as in ``allow=["KINK"]``.
        progress: whether to show a progress bar when it takes more than a second.
        **named: arguments of ``f`` by name.

    Returns:
        The report: true if every derivative was verified. ``report.raise_()`` is for tests.

    Raises:
        TypeError: if ``f`` does not return one number, or ``at`` holds something that is not a number, or if the point
            is not one argument.
        ValueError: for an unknown option, leaves that are results, a graph whose data is out of date, or a
            function that gives another result when it is run again.
    """
    if more:
        what, point = ("y", "[{}]") if isinstance(f, Value) else ("f", "({})")
        point = point.format(", ".join(map(short_repr, (at, *more))))
        raise TypeError(
            f"check() takes the point as one argument; got {1 + len(more)}: write check({what}, {point}); "
            "options go by name, as in order=2"
        )
    if not isinstance(method, str) or method not in set(Method):
        raise ValueError(f"method={method!r} is unknown: choose 'auto', 'complex' or 'difference'")
    if isinstance(order, bool) or order not in (1, 2):
        raise ValueError(f"order={order!r}: give 1 for gradients, or 2 for second derivatives as well")
    if sample is not None and not (isinstance(sample, int) and not isinstance(sample, bool) and sample >= 1):
        raise ValueError(f"sample={short_repr(sample)}: give the number of leaves to draw, a whole one of at least 1")
    if step is not None and not (isinstance(step, (int, float)) and 0.0 < step < math.inf):
        raise ValueError(f"step={short_repr(step)}: give a positive number")
    if not isinstance(seed, int):
        raise TypeError(f"seed={short_repr(seed)}: give a whole number; the same one gives the same report")
    if isinstance(allow, str) or not isinstance(allow, Collection) or set(map(str, allow)) - set(Verdict):
        raise ValueError(f"allow={short_repr(allow)}: give a list of verdicts out of {', '.join(Verdict)}")
    problem = problem_of(f, at, named)
    with restored([leaf for _, leaf in problem.leaves]):
        return _Check(problem, order == 2, Method(method), step, sample, seed, progress).report(allow)


# ---------------------------------------------------------------------------------------------------
# The check


EVALUATIONS = 4000
"""The most evaluations that one derivative takes: those of a few ladders of LEVELS steps to both sides, of as many
to look from nearer by before anything is called wrong, and of the search for hidden rounding. Usual are 40."""

INNER = 2000
"""So many operations within a compiled function are looked at, if its derivative is wrong, those of a user's own first.
"""

DIRECTION = 250
"""The fewest leaves, if there are so many, that one direction moves."""


@dataclass
class _Probe:
    """One derivative to check: by a leaf, or along a direction."""

    name: str
    value: float
    direction: dict[int, float]
    along: list[tuple[Value, float]]
    line: Line | None = None


class _Check:
    """One call of ``check``, on the graph as recorded at the point."""

    def __init__(
        self,
        problem: Problem,
        second: bool,
        method: Method,
        step: float | None,
        sample: int | None,
        seed: int,
        progress: bool,
    ) -> None:
        self.problem = problem
        self.second = second
        self.method = method
        self.step = step
        self.sample = sample
        self.seed = seed
        self.progress = progress
        self.program = Program(problem.output, [leaf for _, leaf in problem.leaves])
        self.size = len(self.program.nodes)
        self.given = [i for i, node in enumerate(self.program.nodes) if isinstance(node.op, Given)]
        self.leaves = problem.leaves  # those that matter; before the first sweep all of them
        self.chosen: Leaves = []
        self.rows: list[Derivative] = []
        self.notes: list[str] = []
        self.fault: Fault | None = None
        self.measure: Measure | None = None  # runs f anew, if numbers were taken out of its graph
        self.branches = False  # whether f records another graph nearby
        self.drifting: Value | None = None  # a node with a number in it that follows the leaves
        self.judged: dict[tuple[int, int], Derivative] = {}  # local derivatives, by node and operand
        self.spelled_out: dict[Value, Program] = {}  # what compiled calls compute, operation by operation

    def report(self, allow: Collection[str]) -> Report:
        self._refuse_what_cannot_be_run()
        self._refuse_stale_data()
        unfinished = self._not_finite()
        if unfinished:
            self.rows = [
                Derivative(name, leaf.data, math.nan, math.nan, math.inf, Verdict.DOMAIN, unfinished)
                for name, leaf in self.problem.leaves
            ]
        else:
            if self.problem.build:
                self._run_again()
            with restored(self.program.nodes):
                self._check_first()
                if self.second and self.fault is None:
                    self._check_second()
                elif self.second:
                    self.notes.append("second derivatives were not checked: the first are wrong")
        if not self.problem.leaves:
            self.notes.append("there is no leaf to take a derivative by")
        return Report(self.problem.title, self.rows, self.fault, self.problem.output, self.notes, allow)

    def _refuse_what_cannot_be_run(self) -> None:
        if self.given and not self.problem.build:
            node = self.program.nodes[self.given[0]]
            raise ValueError(
                f"{operation(node)} was given as a number, so its graph alone cannot be computed for other leaves: "
                "check the function that makes it, as in check(f, x)"
            )

    def _refuse_stale_data(self) -> None:
        for node, operands, value in zip(self.program.nodes, self.program.operands, self.program.values, strict=True):
            if _same(node.data, value):
                continue
            if operands:
                value = node.op.forward(*[self.program.recorded[j] for j in operands])
            if not _agree(node, node.data, value):
                raise ValueError(
                    f"{operation(node)} is {number(value)} now, but the graph holds {number(node.data)}: the data of "
                    "a leaf was changed after it was built; call y.forward() first"
                )

    def _not_finite(self) -> str:
        """Why there is no derivative at all, if the value itself is no finite number."""
        if math.isfinite(self.program.values[-1]):
            return ""
        node = next(n for n, y in zip(self.program.nodes, self.program.values, strict=True) if not math.isfinite(y))
        made = "" if node.is_leaf else f", made at {where(node)}"
        return (
            f"the function is {number(self.program.values[-1])} at this point: "
            f"{operation(node)} is {number(node.data)}{made}"
        )

    # -- f as Python: does it record the same graph elsewhere? -----------------------------------------

    def _run_again(self) -> None:
        """Run ``f`` at the same point and next to it, and compare the graphs that it records."""
        shape = self._shape(self.program)
        again = self._build_at({})
        if self._shape(again) != shape or not all(map(_same, again.recorded, self.program.recorded)):
            raise ValueError(
                f"{self.problem.title} gave another graph or other numbers when it was run again at the same point: "
                "fix the seed of its random numbers, or put the model into eval() mode, and check again"
            )
        random = Random(self.seed)
        ahead = {leaf: 1e-6 * random.gauss() * max(abs(leaf.data), 1.0) for _, leaf in self.problem.leaves}
        for moves in (ahead, {leaf: -move for leaf, move in ahead.items()}):
            there = self._build_at(moves)
            if self._shape(there) != shape:
                self.branches = True
            elif self.drifting is None:
                self.drifting = self._first_to_drift(there)
        if self.drifting is not None or self.given:
            self.measure = self._run_f

    def _first_to_drift(self, there: Program) -> Value | None:
        """The first node that another graph of the same shape does not compute from its operands as this one does."""
        leaves = {leaf for _, leaf in self.problem.leaves}
        for node, operands, here, y in zip(
            self.program.nodes, there.operands, self.program.recorded, there.recorded, strict=True
        ):
            if node not in leaves and not isinstance(node.op, Given):
                here = node.op.forward(*[there.recorded[j] for j in operands]) if operands else here
                if not _agree(node, here, y):
                    return node
        return None

    def _build_at(self, moves: dict[Value, float]) -> Program:
        assert self.problem.build is not None
        leaves = [leaf for _, leaf in self.problem.leaves]
        with restored(leaves):
            for leaf, move in moves.items():
                leaf.data += move
            return Program(self.problem.build(), leaves)

    def _run_f(self, values: list[float], random: Random | None, i: int = -1) -> float:
        """The value of ``f`` itself, or of a node of its graph, run anew: what a replay would not see."""
        return values[i] if random is not None else self._built_for(values).recorded[i]

    def _built_for(self, values: list[float]) -> Program:
        """The graph of ``f`` where the leaves have these values."""
        return self._build_at(
            {leaf: values[self.program.position[leaf]] - leaf.data for _, leaf in self.problem.leaves}
        )

    def _shape(self, program: Program) -> list[Any]:
        """The operations of a graph, with their operands, and the leaves to check; whatever numbers are in it."""
        leaves = {leaf for _, leaf in self.problem.leaves}
        shape: list[Any] = []
        for node, operands in zip(program.nodes, program.operands, strict=True):
            if operands:
                shape.append((node.op.recipe[0] if node.op.recipe else node.op.name, operands))
            else:
                shape.append(id(node) if node in leaves else None)
        return shape

    def _other_path(self, line: Line, along: list[tuple[Value, float]]) -> str:
        """Whether ``f`` takes another path through its Python code right beside the point, and where."""
        shape = self._shape(self.program)
        near = self.step or line.nearest
        for step in (near, -near):
            program = self._build_at({leaf: step * c for leaf, c in along})
            there = self._shape(program)
            if there != shape:
                i = next((i for i, (a, b) in enumerate(zip(shape, there, strict=False)) if a != b), -1)
                while i >= 0 and not self.program.operands[i]:
                    i += 1  # to the operation that uses the constant: it has a name
                node = self.program.nodes[i]
                return (
                    f"the function takes another path through its code at ±{number(near, 2)}: its graph differs from "
                    f"{operation(node)} ({where(node)}) on"
                )
        return ""

    # -- first derivatives -----------------------------------------------------------------------------

    def _check_first(self) -> None:
        output, nodes = self.problem.output, self.program.nodes
        for node in nodes:
            node.grad = 0.0
        try:
            output.backward()
        except ARITHMETIC:
            for node in nodes:
                node.local_derivatives()  # the one that raises says so, naming its operation
            raise
        self.backward = [node.grad for node in nodes]
        once = {leaf: leaf.grad for _, leaf in self.problem.leaves}
        output.backward()
        twice = {leaf: leaf.grad for _, leaf in self.problem.leaves}
        self.rounding = self.program.rounding_of_gradients(self.seed)
        self.terms = self.program.terms()
        self.summed = self.program.gradients()
        self.summed_otherwise = self.program.gradients_in_another_order()
        self._set_aside({leaf for leaf, gradient in once.items() if not (gradient or twice[leaf])})

        checked = [(probe, self._first(probe, once)) for probe in _shown(self._probes(), "checking", self.progress)]
        self.rows = [row for _, row in checked]
        for probe, row in checked:
            if row.verdict is Verdict.FAIL:
                self._explain(row, probe)
        for probe, row in checked:
            for leaf, _ in probe.along:
                if row.verdict is not Verdict.FAIL and not _same(twice[leaf], 2.0 * once[leaf]):
                    added = twice[leaf] - once[leaf]
                    what = (
                        f"A second backward() added {number(added)} to the gradient of {operation(leaf)}, the first "
                        f"{number(once[leaf])}: it must add exactly the same."
                    )
                    self._blame(row, leaf, None, added, once[leaf], what)

    def _set_aside(self, still: set[Value]) -> None:
        """Take out, of the leaves whose gradient is 0, those of which nothing can come."""
        if self.drifting is not None or self.given or self.branches or not still:
            return
        position = self.program.position
        moved = [position[leaf] for _, leaf in self.problem.leaves]
        carried, live = self.program.live(moved, steps=True), self.program.live(moved, steps=False)

        def matters(leaf: Value) -> bool:
            i = position[leaf]
            return leaf not in still or live[i] or (carried[i] and self._jumps(i))

        self.leaves = [(name, leaf) for name, leaf in self.problem.leaves if matters(leaf)]
        staying = {leaf for _, leaf in self.leaves}
        idle = [name for name, leaf in self.problem.leaves if leaf not in staying]
        if idle:
            several = "leaves" if idle[1:] else "leaf"
            self.notes.append(f"{len(idle)} {several} cannot matter here, and backward() gives 0: {listed(idle)}")

    def _jumps(self, i: int) -> bool:
        """Whether a comparison or a step that depends on a node changes right beside it."""
        line = Line(self.program, {i: 1.0}, seed=self.seed)
        if line.kinks and line.obstacle(line.nearest) is not None:
            return True
        if not any(is_program(self.program.nodes[j].op) for j, *_ in line.plan):
            return False
        beside = [line.at(t) for t in (-line.nearest, line.nearest)]  # a compiled function does not tell its kinks
        return any(isinstance(point, Obstacle) or point[1] != line.base for point in beside)

    def _probes(self) -> list[_Probe]:
        position, leaves = self.program.position, self.leaves
        random = Random(self.seed)
        drawn = random.sample(range(len(leaves)), min(self.sample or len(leaves), len(leaves)))
        self.chosen = [leaves[i] for i in sorted(drawn)]
        probes = [_Probe(name, leaf.data, {position[leaf]: 1.0}, [(leaf, 1.0)]) for name, leaf in self.chosen]
        if self.sample is None:
            return probes
        within = [leaf for _, leaf in leaves if math.isfinite(leaf.data)]
        random.shuffle(within)
        directions = []
        width = max(len(within) // self.sample + 1, DIRECTION)
        for k in range(self.sample) if within else ():
            first = k * width % len(within)
            parts = {leaf: random.gauss() for leaf in (within + within)[first : first + min(width, len(within))]}
            length = math.hypot(*parts.values())
            along = [(leaf, part / length) for leaf, part in parts.items()]
            directions.append(_Probe(f"direction {k + 1}", math.nan, {position[leaf]: c for leaf, c in along}, along))
        self.notes.append(f"{len(probes)} of {len(leaves)} leaves and {len(directions)} directions, drawn at random")
        return [*probes, *directions]

    def _first(self, probe: _Probe, once: dict[Value, float]) -> Derivative:
        backward = sum(once[leaf] * c for leaf, c in probe.along)
        probe.line = Line(self.program, probe.direction, self.measure or output_of, seed=self.seed)
        path = self._other_path(probe.line, probe.along) if self.branches else ""
        if path:
            return Derivative(probe.name, probe.value, backward, math.nan, math.inf, Verdict.KINK, path)
        return self._judged(probe, backward, hasty=True)

    def _judged(self, probe: _Probe, backward: float, hasty: bool) -> Derivative:
        assert probe.line is not None
        line = probe.line
        rounding = sum(abs(c) * self.rounding[i] for i, c in probe.direction.items())
        return judge(
            probe.name,
            probe.value,
            backward,
            line,
            rounding=rounding,
            terms=sum(abs(c) * self.terms[i] for i, c in probe.direction.items()),
            method=Method.DIFFERENCE if self.measure else self.method,
            step=self.step,
            hasty=hasty,
        )

    # -- the cause ---------------------------------------------------------------------------------------

    def _explain(self, row: Derivative, probe: _Probe) -> None:
        """Find why a derivative is wrong; where there is no cause, it is the numeric one that is in doubt."""
        assert probe.line is not None
        plan, relevant = probe.line.plan, self.program.relevant(second=True)
        moved = {*probe.direction, *[i for i, *_ in plan]}
        steps = [step for step in plan if relevant[step[0]]]
        kinks: list[Value] = []
        # an operation of infinite operands is looked at last: the fault is with the one that made them
        if (
            self._explain_local(row, probe, filter(self._is_finite, steps), moved, kinks)
            or (not math.isfinite(row.backward) and self._explain_not_finite(row, plan, moved, kinks))
            or self._explain_local(row, probe, itertools.filterfalse(self._is_finite, steps), moved, kinks)
            or any(self._explain_given(row, probe, i) for i in self.given if i not in moved)
            or self._explain_accumulation(row, moved)
        ):
            return
        second = self._judged(probe, row.backward, hasty=False)
        if second.verdict is not Verdict.FAIL:
            row.numeric, row.allowed, row.method = second.numeric, second.allowed, second.method
            row.verdict, row.reason = second.verdict, second.reason
            return
        if self.drifting is not None:
            node = self.drifting
            self._blame(
                row,
                node,
                None,
                row.backward,
                row.numeric,
                f"The number {number(node.data)} follows the inputs, but it was taken out of the graph "
                "(by .data, float() or a function that is not of this package), so no gradient flows through it.",
            )
            return
        if kinks:
            self._stands_on(row, kinks[0])
            return
        row.verdict = Verdict.UNRESOLVED
        row.reason = (
            "backward and numeric differ, yet every local derivative is right and they are accumulated rightly: "
            "the function is too rough here for a numeric derivative"
        )

    def _stands_on(self, row: Derivative, kink: Value) -> None:
        row.verdict = Verdict.KINK
        row.reason = (
            f"{operation(kink)} ({where(kink)}) stands on a kink; backward() takes its derivatives there "
            "by convention, and they do not add up to the slope of the whole"
        )

    def _is_finite(self, step: Step) -> bool:
        """Whether all operands of a step are finite."""
        return all(math.isfinite(self.program.values[j]) for j in step[2])

    def _explain_local(
        self, row: Derivative, probe: _Probe, steps: Iterable[Step], moved: set[int], kinks: list[Value]
    ) -> bool:
        """Find the first wrong local derivative of these steps, and the nodes on a kink before it."""
        for i, _, operands, _ in steps:
            node = self.program.nodes[i]
            if isinstance(node.op, Given):
                if self._explain_given(row, probe, i):
                    return True
                continue
            for k, j in enumerate(operands):
                if j in moved:
                    local = self._local(i, k)
                    if local.verdict is Verdict.KINK:
                        kinks.append(node)
                    if local.verdict is Verdict.FAIL:
                        if not self._is_outside(row, node, local):
                            self._blame_local(row, node, k, local, moved)
                        return True
        return False

    def _explain_given(self, row: Derivative, probe: _Probe, i: int) -> bool:
        """Find whether the local derivatives that the user gave to a node are wrong.

        No forward function says how the node follows from its operands alone. So ``f`` is run anew along the direction,
        and how fast the node changes is compared with its local derivatives times how fast its operands do.
        """
        node, operands, slopes = self.program.nodes[i], self.program.operands[i], self.program.locals[i]
        assert isinstance(node.op, Given)
        name = node.op.name
        wrong = node.op.misuse(node)
        if wrong:
            self._blame(row, node, None, row.backward, row.numeric, wrong)
            return True
        if self.branches:
            return False
        speeds = self.program.tangents(probe.direction)
        parts = {j: 0.0 for j in operands if speeds[j]}
        for j, slope in zip(operands, slopes, strict=True):
            if j in parts:
                parts[j] += slope
        given = sum(slope * speeds[j] for j, slope in parts.items())
        line = Line(
            self.program, probe.direction, lambda values, random: self._run_f(values, random, i), seed=self.seed
        )
        rounding = 64.0 * UNIT * sum(abs(slope * speeds[j]) for j, slope in parts.items())
        local = judge(name, probe.value, given, line, rounding, method=Method.DIFFERENCE, step=self.step)
        if local.verdict is not Verdict.FAIL:
            return False
        if not parts:
            what = (
                f"The number {number(node.data)} of {name} changes with {probe.name}, but none of its parents does: "
                "what it was computed from is not among them, so no gradient flows there. Give it as a parent."
            )
            self._blame(row, node, None, 0.0, local.numeric, what)
        elif len(parts) == 1:
            ((j, slope),) = parts.items()
            k, right = operands.index(j), local.numeric / speeds[j]
            what = (
                f"The local derivative of {name} by {_argument(node, k)} is wrong: {number(slope)} was given, but its "
                f"number changes at {number(right)}{_off(slope, right)}."
            )
            self._blame(row, node, k, slope, right, what)
        else:
            what = (
                f"The local derivatives of {name} are wrong: along {probe.name} they add up to {number(given)}, but "
                f"its number changes at {number(local.numeric)}{_off(given, local.numeric)}."
            )
            self._blame(row, node, None, given, local.numeric, what)
        return True

    def _blame_local(self, row: Derivative, node: Value, k: int, local: Derivative, moved: set[int]) -> None:
        """Blame a wrong local derivative; that of a compiled function on the operation within that is wrong."""
        what, within = _wrong_local(node, k, local), None
        if is_program(node.op):
            kinks: list[Value] = []
            leaves = [self.program.nodes[i] for i in moved if not self.program.operands[i]]
            inner = self._inner(node, leaves, kinks)
            if inner is None and kinks:
                self._stands_on(row, kinks[0])
                return
            held = self._held(node, leaves) if inner is None else None
            if held is not None:
                row.verdict = Verdict.UNRESOLVED
                row.reason = (
                    f"{operation(held)} ({where(held)}) holds a number that moves when the compiled function runs, so "
                    "differences do not tell its derivative. Every operation within is right by itself; for the "
                    "whole, check the function that was compiled, as it is"
                )
                return
            if inner is None:
                what += " Every operation within is right by itself: it is the compiled program that errs."
            else:
                node, k, local, within = *inner, node
                what = f"{_wrong_local(node, k, local)} It is within the compiled function, run here as it is written."
        self._blame(row, node, k, local.backward, local.numeric, what, within)

    def _held(self, call: Value, leaves: list[Value]) -> Value | None:
        """A ``stop_gradient`` within a compiled call, of a number that depends on some leaves."""
        program = self.spelled_out[call]
        moved = [program.position[leaf] for leaf in leaves if leaf in program.position]
        moving = {*moved, *[i for i, *_ in program.plan_from(moved)]}
        holds = zip(program.nodes, program.operands, strict=True)
        return next((node for node, mine in holds if node.op is stop_gradient and not moving.isdisjoint(mine)), None)

    def _inner(self, call: Value, leaves: list[Value], kinks: list[Value]) -> tuple[Value, int, Derivative] | None:
        """The first wrong operation of what a compiled call computes of some leaves: node, operand and verdict.

        The nodes on a kink before it are added to ``kinks``.
        """
        for node, primitive, moving in self._inner_operations(call, leaves):
            for k in moving:
                local = primitive.first(k)
                if local.verdict is Verdict.FAIL:
                    return node, k, local
                if local.verdict is Verdict.KINK:
                    kinks.append(node)
        return None

    def _inner_operations(self, call: Value, leaves: list[Value]) -> Iterator[tuple[Value, Primitive, list[int]]]:
        """Yield what depends on some leaves within a compiled call: node, operation there, and operands that move."""
        if call not in self.spelled_out:
            with enable_grad(), record_lines():
                outputs = call.op.spelled_out(call.parents, self.problem.build)  # type: ignore[attr-defined]
            self.spelled_out[call] = Program(total(outputs), [leaf for _, leaf in self.problem.leaves])
        program = self.spelled_out[call]
        moved = [program.position[leaf] for leaf in leaves if leaf in program.position]
        steps = program.plan_from(moved)
        moving = {*moved, *[i for i, *_ in steps]}
        steps.sort(key=lambda step: in_table(program.nodes[step[0]].op))  # rows of a user's own are wrong more often
        for i, _, operands, _ in steps[:INNER]:
            node, xs = program.nodes[i], tuple([program.values[j] for j in operands])
            if not is_program(node.op):
                yield node, Primitive(node.op, xs, self.seed), [k for k, j in enumerate(operands) if j in moving]

    def _local(self, i: int, k: int) -> Derivative:
        """The verdict on the local derivative of a node by one of its operands."""
        if (i, k) not in self.judged:
            xs = tuple([self.program.values[j] for j in self.program.operands[i]])
            self.judged[i, k] = Primitive(self.program.nodes[i].op, xs, self.seed).first(k)
        return self.judged[i, k]

    def _is_outside(self, row: Derivative, node: Value, local: Derivative) -> bool:
        """Whether a derivative is not finite because its operation is not defined there, which is no fault."""
        inside = all(map(Interval.__contains__, node.op.domain, [parent.data for parent in node.parents]))
        if inside or math.isfinite(local.backward):
            return False
        row.verdict = Verdict.DOMAIN
        row.reason = (
            f"{operation(node)} ({where(node)}) is outside of the domain of {node.op.name}: its derivative there is "
            f"{number(local.backward)}"
        )
        return True

    def _explain_not_finite(self, row: Derivative, plan: Plan, moved: set[int], kinks: list[Value]) -> bool:
        """Find the first operation that makes something infinite or nan out of finite operands.

        If that is one on a kink, or right after one, nothing is wrong. It may be one that does not move: the infinite
        operand of one that does. If there is none, the gradient overflows on its way back.
        """
        for i, *_ in filter(self._is_finite, [*plan, *self.program.plan]):
            node, local = self.program.nodes[i], self.program.locals[i]
            k = next((k for k, derivative in enumerate(local) if not math.isfinite(derivative)), None)
            if k is None and math.isfinite(node.data):
                continue
            kink = next((kink for kink in kinks if any(kink is other for other in (node, *node.parents))), None)
            if kink is not None:
                self._stands_on(row, kink)
                return True
            subject = f"{node.op.name} is {number(node.data)}"
            if k is not None:
                subject = f"The local derivative of {node.op.name} by {_argument(node, k)} is {number(local[k])}"
            what = (
                f"{subject} here, and so the gradient is {number(row.backward)}, though the function changes at a "
                "finite rate: 0 × ∞ and 0 × nan are nan. Choose the operand before the operation, not its result "
                "after, with where()."
            )
            self._blame(row, node, k, row.backward, row.numeric, what)
            return True
        for i in sorted(moved, reverse=True):
            if not math.isfinite(self.summed[i]):
                node = self.program.nodes[i]
                what = (
                    f"The gradient of {operation(node)} overflows on its way back: it is {number(self.summed[i])}, a "
                    "product beyond the largest float of local derivatives that are all finite. Scale the numbers so "
                    "that none is so large."
                )
                self._blame(row, node, None, self.summed[i], math.nan, what)
                return True
        return False

    def _explain_accumulation(self, row: Derivative, moved: set[int]) -> bool:
        """Compare the gradient of each node with the sum over its children, from the output down."""
        for i in sorted(moved, reverse=True):
            node, given = self.program.nodes[i], self.backward[i]
            for right in (self.summed, self.summed_otherwise):
                if not (_same(given, right[i]) or abs(given - right[i]) <= self.rounding[i]):
                    what = (
                        f"The gradient of {operation(node)} was accumulated wrongly: backward() gives "
                        f"{number(given)}, and the products over its paths add up to {number(right[i])}. Every local "
                        "derivative is right: look at backward() itself, or at how the operations that use this "
                        "node send gradients back."
                    )
                    self._blame(row, node, None, given, right[i], what)
                    return True
        return False

    def _blame(
        self,
        row: Derivative,
        node: Value,
        argument: int | None,
        given: float,
        right: float,
        what: str,
        within: Value | None = None,
    ) -> None:
        row.verdict = Verdict.FAIL
        row.reason = what
        fault = Fault(node, argument, given, right, what, within)
        # A wrong local derivative comes before its consequences, and the first of them before the others.
        self.fault = min(
            self.fault or fault,
            fault,
            key=lambda f: (f.argument is None, self.program.position[f.node if f.within is None else f.within]),
        )

    # -- second derivatives ----------------------------------------------------------------------------

    def _check_second(self) -> None:
        position = self.program.position
        leaves = self.chosen
        gradients = gradient_graph(self.problem.output, [leaf for _, leaf in leaves])
        pairs = [(i, j) for i in range(len(leaves)) for j in range(len(leaves))]
        backward: dict[int, tuple[dict[Value, float], ...]] = {}
        for i, j in _shown(pairs, "second derivatives", self.progress):
            (by, leaf), (then, other) = leaves[i], leaves[j]
            if i not in backward:
                backward[i] = self._second_backward(gradients[i], [leaf for _, leaf in leaves])
            line = Line(
                self.program, {position[other]: 1.0}, self._gradient_by(position[leaf]), second=True, seed=self.seed
            )
            name = f"∂²/∂{by}∂{then}" if by != then else f"∂²/∂{by}²"
            at = (leaf.data, other.data) if i != j else leaf.data
            given, rounding, terms = [by_leaf[other] for by_leaf in backward[i]]
            path = self._other_path(line, [(other, 1.0)]) if self.branches else ""
            if path:
                self.rows.append(Derivative(name, at, given, math.nan, math.inf, Verdict.KINK, path))
                continue
            row = judge(
                name,
                at,
                given,
                line,
                rounding=rounding,
                terms=terms,
                method=Method.DIFFERENCE,
                step=self.step,
            )
            self.rows.append(row)
            if row.verdict is Verdict.FAIL:
                self._explain_second(row, line)

    def _second_backward(self, gradient: Value, leaves: list[Value]) -> tuple[dict[Value, float], ...]:
        """The derivatives of a gradient by the leaves, how far they may be off, and the terms that cancel in them."""
        program = Program(gradient, leaves)
        with restored(program.nodes):
            for value in program.nodes:
                value.grad = 0.0
            gradient.backward()
            given = [node.grad for node in program.nodes]
        columns = (given, program.rounding_of_gradients(self.seed), program.terms())
        return tuple([{leaf: column[program.position[leaf]] for leaf in leaves} for column in columns])

    def _gradient_by(self, i: int) -> Measure:
        if self.measure is None:
            return lambda values, random: self.program.gradients(values, random)[i]
        return lambda values, random: (
            self._built_for(values).gradients()[i] if random is None else self.program.gradients(values, random)[i]
        )

    def _explain_second(self, row: Derivative, line: Line) -> None:
        for i, _, operands, _ in line.plan:
            node = self.program.nodes[i]
            primitive = Primitive(node.op, tuple(self.program.values[j] for j in operands), self.seed)
            found = _wrong_second(primitive, range(len(operands)))
            if found is None:
                continue
            if not self._is_outside(row, node, found[1]):
                within, place = None, node
                if is_program(node.op):
                    for inner, primitive, moving in self._inner_operations(node, [leaf for _, leaf in self.chosen]):
                        if (wrong := _wrong_second(primitive, moving)) is not None:
                            place, within, found = inner, node, wrong
                            break
                (a, b), local = found
                what = (
                    f"The second derivative of {place.op.name} by arguments {a + 1} and {b + 1} is wrong: on "
                    f"Values it is {number(local.backward)}, but the local derivative on floats changes at "
                    f"{number(local.numeric)}. Write the partial with operations of the table, on its "
                    "arguments themselves."
                )
                self._blame(row, place, a, local.backward, local.numeric, what, within)
            return
        here = line.obstacle(line.nearest)
        if here is not None and here.position is not None and here.is_kink:
            self._stands_on(row, self.program.nodes[here.position])
            return
        row.verdict = Verdict.UNRESOLVED
        row.reason = "the second derivatives of every operation are right: the gradient is too rough here to differ"


def _wrong_second(primitive: Primitive, operands: Sequence[int]) -> tuple[tuple[int, int], Derivative] | None:
    """The first wrong second derivative of an operation by these operands, and by which."""
    for a, b in itertools.product(operands, operands):
        local = primitive.second(a, b)
        if local.verdict is Verdict.FAIL:
            return (a, b), local
    return None


def _wrong_local(node: Value, k: int, local: Derivative) -> str:
    off = _off(local.backward, local.numeric)
    return (
        f"The local derivative of {node.op.name} by {_argument(node, k)} is wrong: the row gives "
        f"{number(local.backward)}, but the slope of its forward function is {number(local.numeric)}{off}."
    )


def _off(given: float, right: float) -> str:
    """In which way a derivative is wrong, in brackets."""
    if not right or not math.isfinite(given):
        return ""
    ratio = given / right
    times = number(ratio, 4 if abs(abs(ratio) - 1.0) > 1e-3 else 10)
    return " (the sign is wrong)" if abs(ratio + 1.0) < 1e-6 else f" ({times} times what it should be)"


def _argument(node: Value, k: int) -> str:
    parent = node.parents[k]
    return parent.label or ("its argument" if len(node.parents) == 1 else f"argument {k + 1}")


def _agree(node: Value, a: float, b: float) -> bool:
    """Whether a node's number is the same; of a compiled function up to the order of its sums, which is the batch's."""
    unit: float = getattr(node.op, "unit", 0.0)  # which a compiled call has
    if not unit or not math.isfinite(a - b):
        return _same(a, b)
    return abs(a - b) <= 2.0**10 * unit * max(1.0, abs(a), abs(b))


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def _shown(items: Sequence[Any], what: str, progress: bool) -> Iterator[Any]:
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
