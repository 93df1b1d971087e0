"""The problem that a call of ``check`` poses: the leaves to move, and the graph that depends on them."""

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from microgrid.calculus import flatten
from microgrid.checking.numeric import Method
from microgrid.checking.program import Program
from microgrid.checking.report import operation
from microgrid.engine import Value, constant
from microgrid.ops import LEAF, Op, as_float, short_repr
from microgrid.recording import enable_grad, record_lines

Leaves = list[tuple[str, Value]]
"""The values that a derivative is taken by, with their names."""


@dataclass
class Problem:
    """The leaves to check, and how to build the graph (``None`` if it exists)."""

    title: str
    leaves: Leaves
    output: Value
    build: Callable[[], Value] | None


@dataclass(frozen=True)
class Options:
    """The options of a check: see ``check``."""

    order: int
    method: Method
    step: float | None
    sample: int | None
    seed: int
    progress: bool


def problem_of(f: Any, at: Any, named: dict[str, Any]) -> Problem:
    """Return the problem of ``check(f, at, **named)``; see there for its forms and errors."""
    if isinstance(f, Value):
        if named:
            raise TypeError(f"a graph has no arguments to set, and {', '.join(named)} was given: check(y, leaves)")
        return Problem(f.label or "graph", _leaves_of_graph(f, at), f, None)
    if not callable(f) or isinstance(f, type):
        raise TypeError(f"check() takes a function or a Value, got {short_repr(f)} of type {type(f).__name__}")
    title = f.name if isinstance(f, Op) else getattr(f, "__name__", type(f).__name__)
    title = {"<lambda>": "function"}.get(title, title)
    leaves: Leaves = []
    given = None if named or not _binds(f) else _given_leaves(at)
    args, kwargs = ((), {}) if given is not None or (at is None and not named) else _arguments(f, at, named, leaves)
    signature = _signature(f)
    if signature is not None and not _binds(f, *args, **kwargs):
        said = f"{title}{signature} cannot be called with {_counted(len(args), kwargs)}"
        if hasattr(f, "named_parameters"):
            raise TypeError(
                f"{said}: give its input to check the derivatives by it, as in check(model, [x1, x2]); to check those "
                "by its parameters give a loss and the model, as in check(lambda: loss(model(x), y), model)"
            )
        raise TypeError(f"{said}: give the point as one number, list or dict, or as a tuple of several arguments")

    def build() -> Value:
        with enable_grad():
            output = f(*args, **kwargs)
        return output if isinstance(output, Value) else _constant(title, output)

    with record_lines():
        output = build()
    if given is not None:
        leaves = given
    elif not leaves:
        again = set(Program(build()).nodes)  # leaves that f makes in each call are constants
        leaves = [(name, leaf) for name, leaf in _leaves_of_graph(output, None) if leaf in again]
    return Problem(title, leaves, output, build)


def argument_names(op: Op) -> list[str]:
    """The names of an operation's arguments in a report: x, or x1, x2 and so on."""
    return ["x"] if op.arity == 1 else [f"x{i + 1}" for i in range(op.arity)]


def _counted(count: int, named: Iterable[str]) -> str:
    several = f"{count} argument{'s' * (count != 1)}" if count else "no argument"
    return " and ".join([several, *[f"{name}=" for name in named]])


def _constant(title: str, output: Any) -> Value:
    try:
        return constant(as_float(output))
    except TypeError:
        raise TypeError(
            f"{title} must return one number to be checked; it returned {short_repr(output)}: check each result on its "
            "own, as in check(lambda x: f(x)[0], x), or their sum"
        ) from None


def _leaves_of_graph(output: Value, at: Any) -> Leaves:
    if at is None:
        found = [node for node in Program(output).nodes if node.op is LEAF]
        return _named(found)
    given = _given_leaves(at)
    if given is None:
        raise TypeError(f"a graph is checked by its leaves: give Values, or a module, not {short_repr(at)}")
    return given


def _given_leaves(at: Any) -> Leaves | None:
    """The Values in ``at``, with their names; ``None`` if it holds something else."""
    pairs = at.named_parameters() if hasattr(at, "named_parameters") else at
    if isinstance(pairs, Value):
        pairs = [pairs]
    if isinstance(pairs, dict):
        pairs = pairs.items()
    if not isinstance(pairs, Iterable) or isinstance(pairs, str):
        return None
    items = list(pairs)
    if all(isinstance(item, Value) for item in items):
        leaves = _named(items)
    elif all(isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], Value) for item in items):
        leaves = [(str(name), leaf) for name, leaf in items]
    else:
        return None
    for name, leaf in leaves:
        if not leaf.is_leaf:
            raise ValueError(f"{name} is the result of {operation(leaf)}, not a leaf: check() moves leaves only")
    return list({leaf: (name, leaf) for name, leaf in reversed(leaves)}.values())[::-1]


def _named(leaves: Sequence[Value]) -> Leaves:
    return [(leaf.label or f"leaf {i}", leaf) for i, leaf in enumerate(leaves, start=1)]


def _binds(f: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    """Whether ``f`` can be called like this, as far as its signature shows."""
    signature = _signature(f)
    if signature is None:
        return bool(args)
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def _signature(f: Callable[..., Any]) -> inspect.Signature | None:
    if isinstance(f, Op):
        return inspect.Signature([inspect.Parameter(x, inspect.Parameter.POSITIONAL_ONLY) for x in argument_names(f)])
    try:
        return inspect.signature(getattr(f, "forward", f))  # a module hands its arguments on
    except (TypeError, ValueError):  # some functions written in C have none
        return None


def _arguments(f: Callable[..., Any], at: Any, named: dict[str, Any], leaves: Leaves) -> tuple[Any, dict[str, Any]]:
    """The arguments to call ``f`` with, Values in place of numbers; the Values are added to ``leaves``."""
    args: tuple[Any, ...] = () if at is None else at if isinstance(at, tuple) else (at,)
    if isinstance(at, dict) and all(isinstance(key, str) for key in at) and _binds(f, **at, **named):
        args, named = (), {**at, **named}
    elif isinstance(at, list) and not _binds(f, at, **named) and _binds(f, *at, **named):
        args = tuple(at)
    elif isinstance(at, tuple) and not _binds(f, *at, **named) and _binds(f, at, **named):
        args = (at,)
    signature = _signature(f)
    parameters = list(signature.parameters.values()) if signature else []
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "x")
    titles = itertools.chain(positional, (f"{rest}[{i}]" for i in itertools.count()))
    return (
        tuple([_place(next(titles), argument, leaves) for argument in args]),
        {name: _place(name, argument, leaves) for name, argument in named.items()},
    )


def _place(name: str, argument: Any, leaves: Leaves) -> Any:
    """The argument with Values in place of its numbers."""
    numbers, rebuild = flatten(argument)
    placed = []
    for path, x in zip(_paths(name, argument), numbers, strict=True):
        if isinstance(x, Value):
            leaves += _given_leaves({x.label or path: x}) or []
            placed.append(x)
        else:
            placed.append(Value(x, label=path))
            leaves.append((path, placed[-1]))
    return rebuild(placed)


def _paths(name: str, structure: Any) -> Iterator[str]:
    """A name for each number of a structure, in the order of ``flatten``: ``w[0][1]``, ``p['bias']``."""
    if isinstance(structure, dict):
        for key, item in structure.items():
            yield from _paths(f"{name}[{key!r}]", item)
    elif isinstance(structure, (list, tuple)):
        for i, item in enumerate(structure):
            yield from _paths(f"{name}[{i}]", item)
    elif getattr(structure, "shape", ()):
        for index in itertools.product(*map(range, structure.shape)):
            yield name + "".join(f"[{i}]" for i in index)
    else:
        yield name
