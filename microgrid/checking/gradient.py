"""``check``: the gradient of a function, a graph or a model, against numeric derivatives."""

import math
from collections.abc import Callable, Collection
from typing import Any

from microgrid.checking.diagnosis import Findings
from microgrid.checking.first import check_first
from microgrid.checking.inside import Inside
from microgrid.checking.numeric import Method
from microgrid.checking.problem import Options, Problem, problem_of
from microgrid.checking.program import Program, restored
from microgrid.checking.report import Derivative, Fault, Report, Verdict
from microgrid.checking.runs import Runs, refuse_what_cannot_be_run, why_not_finite
from microgrid.checking.second import check_second
from microgrid.engine import Value
from microgrid.ops import short_repr

EVALUATIONS = 4000
"""The most evaluations for one derivative: a few ladders of LEVELS steps to both sides, as many again at smaller steps
before anything is called wrong, and the search for hidden rounding. Usual are 40."""


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

    It takes a function and a point, an existing graph, or a model with a loss:

        check(lambda x: x.tanh() * 2, 0.5)
        check(f, (2.0, -3.0))            # f(2.0, -3.0); a list is one argument that is a list
        check(f, x=2.0, w=[1.0, -3.0])   # by name; check(f, {"x": 2.0, "w": [1.0, -3.0]}) does the same
        check(y)                         # a graph, by all its leaves
        check(y, [x, w])                 # a graph, by these leaves
        check(lambda: loss(model, batch), model)    # or model.parameters(), or a dict of Values

    Functions that are compiled are checked as they are: ``check(mg.compile(f), batch)``, or
    ``check(lambda: compiled_loss(X, y), model)``. If one is wrong, it is run as it is written, on some samples, and
    the wrong operation within is named with its line.

    The numeric derivative is ∂f/∂x ≈ Im f(x + ih) / h if every operation on the way is analytic, else
    the central difference (f(x + h) − f(x − h)) / 2h extrapolated to h = 0. Its error, and that of
    ``backward()`` itself, are estimated by repeating the computation with random rounding; their sum is the
    *allowed* error of a row. A row passes if backward and numeric agree within it, and if it leaves at least
    four digits, or is negligible beside the terms that cancel in the sum over the paths. A derivative of 0
    passes if the numeric one is known to a billionth of the slope beside the point, or if the function is constant
    there. Leaves that cannot matter at this point, because every path from them ends at a comparison, a step,
    ``stop_gradient`` or a product with 0, have no row: they are counted in the notes. A point where branches meet is
    a kink only if the slopes on its sides differ, or if rounding hides whether they do: that of ``elu`` at 0 is 1.

    Before a row is called ``FAIL`` its cause is sought: each node's local derivatives are checked in turn,
    and the first wrong operation is named with its operands and its line; if all are right, the gradients
    are accumulated anew to find the node where they went wrong; a number that was taken out of the graph
    (``x.data``) is found by running ``f`` again nearby. A second ``backward()`` must add exactly the same.

    It always ends: every row takes at most ``EVALUATIONS`` evaluations of the graph (or of ``f`` itself, if numbers
    were taken out of it); if rows fail, every local derivative on the way takes as many of its operation alone. So
    r rows of a graph with a edges take at most 4,000 (r + a) evaluations; some 40 r are usual.

    The data and gradients of leaves and graph are restored.

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
        findings, fault = _check(problem, Options(order, Method(method), step, sample, seed, progress))
    return Report(problem.title, findings.rows, fault, problem.output, findings.notes, allow)


def _check(problem: Problem, options: Options) -> tuple[Findings, Fault | None]:
    """Check a graph that was recorded at the point, and the function that recorded it; find the first fault."""
    program, findings = Program(problem.output, [leaf for _, leaf in problem.leaves]), Findings()
    runs = Runs(problem, program)
    refuse_what_cannot_be_run(runs)
    if reason := why_not_finite(program):
        for name, leaf in problem.leaves:
            row = Derivative(name, leaf.data, math.nan, math.nan, math.inf, Verdict.DOMAIN, reason)
            findings.add(row, None)
    else:
        if problem.build:
            runs.compare(options.seed)
        with restored(program.nodes):
            inside = Inside(problem, options.seed)
            leaves = check_first(runs, inside, options, findings)
            if options.order == 2 and findings.faults:
                findings.notes.append("second derivatives were not checked: the first are wrong")
            elif options.order == 2:
                check_second(runs, leaves, inside, options, findings)
    if not problem.leaves:
        findings.notes.append("there is no leaf to take a derivative by")

    def place(fault: Fault) -> tuple[bool, int]:
        # a wrong local derivative comes before its consequences, and the first of them before the others
        return fault.argument is None, program.position[fault.node if fault.within is None else fault.within]

    return findings, min(findings.faults, key=place, default=None)
