"""Hooks that watch the nodes of a graph as they are recorded, and the blocks that install them.

A hook is called with each node that is recorded while its block is open. So ``no_grad``, ``record_lines`` and
``detect_anomaly`` are hooks, and the engine only knows when to call them.
"""

import linecache
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from microgrid.blocks import block
from microgrid.builds import mypyc_attr
from microgrid.ops import LEAF


@dataclass(slots=True, eq=False)
class Origin:
    """Where a node was made: the line of the user's code, or the module of a network."""

    file: str = ""
    line: int = 0
    module: Any = None

    def __str__(self) -> str:
        if not self.file:
            return "an unrecorded line"
        text = linecache.getline(self.file, self.line).strip()
        return self._place() + (f": {text}" if text else "")

    def _place(self) -> str:
        """The file, relative to the working directory, and the line; in a notebook the cell, as in its tracebacks."""
        notebook = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        cell = notebook and notebook.compile.format_code_name(self.file)
        file = self.file
        with suppress(OSError):  # the working directory may be gone
            file = file.removeprefix(os.path.join(os.getcwd(), ""))
        return f"{' '.join(cell)}, line {self.line}" if cell else f"{file}:{self.line}"


Hook = Callable[[Any], None]
"""A function called with a Value."""

hooks: ContextVar[tuple[Hook, ...]] = ContextVar("hooks", default=())
"""The hooks called with each node that is recorded."""

readers: ContextVar[tuple[Hook, ...]] = ContextVar("readers", default=())
"""The hooks called with each value whose number is read."""

kinds: ContextVar[Any] = ContextVar("kinds", default=None)
"""The class of the recorded nodes, if it is not ``Value``: a trace has its own."""

loops: ContextVar[Any] = ContextVar("loops", default=None)
"""What records a loop of ``scan`` or ``iterate`` as one operation, in a trace: see ``iteration``."""

pending: ContextVar[dict[Any, Any]] = ContextVar("pending")
"""The gradients sent to each compiled call during a backward pass: its kernel runs once, at the end."""

pictures: list[Callable[[Any, Any], dict[str, str] | None]] = []
"""The functions that draw a value for a notebook, given a node to mark or ``None``; the last one counts."""


class Writes:
    """The latest write to the number of an existing node: a new object, which can be compared by ``is``."""

    latest: Any = None


writes = Writes()
"""Whoever sets ``_data`` of a node that others may have read sets ``writes.latest`` afterwards: see ``written``."""


def written() -> tuple[list[Any], str, list[Any]]:
    """Return the assignment by which ``atomic.assign`` notes a write: last, after the numbers."""
    return [writes], "latest", [object()]


unwritten: list[Callable[[], None]] = []
"""What brings Values up to date whose numbers a block of training keeps elsewhere: to be called before they are read.
"""

open_blocks: list[None] = []
"""One for each block that is open in any thread: while there is none, nodes need not look at the hooks."""


@contextmanager
def _calling(called: tuple[Hook, ...], of: ContextVar[tuple[Hook, ...]] = hooks) -> Iterator[None]:
    token = of.set(called)
    open_blocks.append(None)
    try:
        yield
    finally:
        open_blocks.pop()
        of.reset(token)


@contextmanager
def watch(hook: Hook) -> Iterator[None]:
    """Call ``hook(node)`` for every node that this thread records in the block, constants included.

    A hook may raise, note an ``origin``, or change the node; hooks run from the inmost block outwards.
    """
    with _calling((hook, *hooks.get())):
        yield


@contextmanager
def watch_apart(hook: Hook) -> Iterator[None]:
    """Call ``hook(node)`` for every node that this thread records in the block, and no hook of an outer block."""
    with _calling((hook,)):
        yield


@contextmanager
def watch_reads(hook: Hook) -> Iterator[None]:
    """Call ``hook(value)`` before this thread reads a number in the block, by ``.data``, a comparison or ``if v``."""
    with _calling((hook, *readers.get()), readers):
        yield


def is_recording() -> bool:
    """Return whether this thread records its computations: not within ``no_grad``."""
    return _cut not in hooks.get()


def is_watched() -> bool:
    """Return whether any hook but ``no_grad`` watches the nodes that this thread records."""
    return any(hook is not _cut for hook in hooks.get())


@block
def no_grad() -> Iterator[None]:
    """Compute without recording: results in the block are leaves. Also a decorator.

    For measuring and predicting: it saves the memory of the graph. If a generator yields within the
    block, the code that takes its items runs in the block too, in the same context: decorate the generator instead.

    >>> x = mg.Value(2.0)
    >>> with mg.no_grad():
    ...     print((x * x).parents)
    ()
    """
    with _calling((*hooks.get(), _cut)):  # last, after the hooks that look at operands
        yield


@block
def enable_grad() -> Iterator[None]:
    """Record even within an outer ``no_grad()``.

    >>> x = mg.Value(2.0)
    >>> with mg.no_grad(), mg.enable_grad():
    ...     len((x * x).parents)
    2
    """
    with _calling(tuple(hook for hook in hooks.get() if hook is not _cut)):
        yield


def _cut(node: Any) -> None:
    node.op = LEAF
    node.first = node.second = None
    node.others = ()


@block
def record_lines() -> Iterator[None]:
    """Note in ``origin`` the line of the user's code that made each node of the block.

    >>> with mg.record_lines():
    ...     y = mg.Value(2.0) * 3.0
    >>> y.origin.line
    2
    """
    with watch(_note_line):
        yield


def _note_line(node: Any) -> None:
    node.origin = user_line()


def user_line() -> Origin:
    """Return the line outside this package that led to the present call."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return Origin(frame.f_code.co_filename, frame.f_lineno)


_PACKAGE = os.path.dirname(__file__)


@mypyc_attr(native_class=False)
class AnomalyError(ArithmeticError):
    """A nan or an infinity came up within ``detect_anomaly()``.

    >>> with mg.detect_anomaly():
    ...     mg.log(mg.Value(-1.0))
    Traceback (most recent call last):
    microgrid.recording.AnomalyError: log(-1.0) is nan, at ...

    Attributes:
        node: the node at which it first came up.
    """

    def __init__(self, message: str, node: Any) -> None:
        super().__init__(message)
        self.node = node


@block
def detect_anomaly() -> Iterator[None]:
    """Raise ``AnomalyError`` at the operation that first makes a nan or an infinity. Also a decorator.

    It watches both passes: a result that is not finite though all operands are, or a nan though no operand is nan;
    and in ``backward()`` the first gradient that is not finite.
    The error names the operation, its operands and the line of the code that called it.

    >>> with mg.detect_anomaly():
    ...     mg.exp(mg.Value(1000.0))
    Traceback (most recent call last):
    microgrid.recording.AnomalyError: exp(1000.0) is inf, at ...
    """
    with watch(check_forward):
        yield


def check_forward(node: Any) -> None:
    """The hook of ``detect_anomaly``: the first number that is not finite."""
    parents = node.parents
    if not parents:
        return
    _note_line(node)
    if math.isfinite(node._data):
        return
    if all(math.isfinite(parent._data) for parent in parents) or (
        math.isnan(node._data) and not any(math.isnan(parent._data) for parent in parents)
    ):
        raise AnomalyError(f"{_call(node)} is {node._data}, at {node.origin}", node)


def check_backward(node: Any) -> None:
    """The same for the gradients, before a node passes its own on."""
    if not math.isfinite(node.grad):
        raise AnomalyError(
            f"the gradient of {_call(node)} is {node.grad}: the sum of what came back to it along its paths; "
            f"the node was made at {node.origin or Origin()}",
            node,
        )
    for i, derivative in enumerate(node.local_derivatives()):
        if not math.isfinite(node.grad * derivative):
            raise AnomalyError(
                f"in backward(), the local derivative of {_call(node)} by its argument {i + 1} is {derivative}, "
                f"and times the gradient {node.grad} it is {node.grad * derivative}; the node was made at "
                f"{node.origin or 'a line that was not recorded: build the graph inside detect_anomaly() too'}",
                node,
            )


def _call(node: Any) -> str:
    return call_text(node) if node.parents else f"the leaf {node!r}"


def call_text(
    node: Any,
    number: Callable[[float], str] | None = None,
    name: Callable[..., str] | None = None,
    most: int = 8,
) -> str:
    """Return the operation of a node with its operands, as in ``log(p=0.0)``: for errors and reports.

    Args:
        node: the result of an operation.
        number: how the numbers of operands are written: whole unless given.
        name: the name of an operand, empty for none: its label unless given.
        most: the largest number of operands that are written.
    """
    write = number or repr
    written = [(name(x) if name else x.label, write(x._data)) for x in node.parents[:most]]
    operands = [f"{label}={text}" if label else text for label, text in written]
    if len(node.parents) > most:
        operands.append(f"… {len(node.parents) - most} more")
    return f"{node.op.name}({', '.join(operands)})"
