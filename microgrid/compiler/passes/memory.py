"""Where the nodes of an array program are stored: in outputs, in scatters, or in buffers that they use in turn."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from microgrid.compiler.ir import (
    MASKS,
    ArrayProgram,
    Elementwise,
    Form,
    Leaf,
    Map,
    Node,
    Operand,
    Scatter,
    View,
    source_of,
)


@dataclass(slots=True)
class Buffer:
    """Memory of one node after the other.

    Attributes:
        users: the nodes, all of one shape.
        reshaped: a user of another buffer, of which this one is the memory in another shape.
    """

    users: list[Node]
    reshaped: Node | None


@dataclass(slots=True)
class BufferPlan:
    """Where each computed node of a program is stored; a scatter that is no output has memory of its own.

    Attributes:
        outputs: for nodes that are computed where an output is wanted, by their number, which output.
        pieces: for nodes that are computed inside a scatter, by their number, its number.
        buffers: the memory of all others.
        rebound: of these outputs the ones that have one number per sample, so that a target may well write them
            to other memory in each run.
        resident: how many numbers per sample all this is.
    """

    outputs: dict[int, int]
    pieces: dict[int, int]
    buffers: list[Buffer]
    rebound: frozenset[int]
    resident: int


def plan_buffers(program: ArrayProgram, in_place: Callable[[Elementwise], bool]) -> BufferPlan:
    """Decide where the nodes of a program are stored.

    Args:
        program: the program.
        in_place: whether a statement may write its numbers where it reads them, each from its own place.
    """
    outputs: dict[int, int] = {}
    rebound = set()
    for k, (output, form) in enumerate(zip(program.outputs, program.forms, strict=True)):
        root = whole(output)
        if isinstance(root, Node) and is_computed(root) and root.number not in outputs and _holds(root, form):
            outputs[root.number] = k
            if root.batched and root.size == 1 and not isinstance(root, Scatter):  # its pieces are views, bound once
                rebound.add(k)
    pieces = _pieces(program, outputs)
    placed = outputs.keys() | pieces.keys()
    stored = {x.number for x in program.nodes if is_computed(x) and not isinstance(x, Scatter)} - placed
    buffers = _shared(program, stored, in_place)
    resident = sum(x.size for x in program.nodes if isinstance(x, Scatter) and x.batched)
    resident += sum(x.size for x in program.outputs if isinstance(x, Node) and x.batched)
    resident += sum(b.users[0].size * b.users[0].batched for b in buffers if b.reshaped is None)
    return BufferPlan(outputs, pieces, buffers, frozenset(rebound), resident)


def whole(x: Operand) -> Operand:
    """Return the node whose members a view reads all, each once and in order; anything else as it is."""
    if isinstance(x, View) and x.map == Map.whole(x.shape) and x.source.size == x.size:
        return x.source
    return x


def is_computed(x: Node) -> bool:
    """Whether a node is neither given nor a view."""
    return not isinstance(x, Leaf | View)


def _holds(x: Node, form: Form) -> bool:
    """Whether an output of a form has a place for each number of a node."""
    return (x.size, x.batched) == (math.prod(form[0]), form[1])


def _pieces(program: ArrayProgram, outputs: dict[int, int]) -> dict[int, int]:
    """The nodes that are computed inside the scatter that alone uses them."""
    uses = Counter(operand.number for x in program.nodes for operand in x.arrays())
    pieces: dict[int, int] = {}
    for x in reversed(program.nodes):
        if isinstance(x, Scatter):
            for value, piece in zip(x.values, x.pieces, strict=True):
                if (
                    isinstance(value, Node)
                    and is_computed(value)
                    and not piece.adds
                    and piece.map.regular
                    and not isinstance(value, Scatter)
                    and not _is_boolean(value)
                    and uses[value.number] == 1
                    and value.batched == x.batched
                    and value.number not in outputs
                ):
                    pieces[value.number] = x.number
    return pieces


def _shared(program: ArrayProgram, stored: set[int], in_place: Callable[[Elementwise], bool]) -> list[Buffer]:
    """Give each node a buffer; the buffer of a node that is not used any more goes to a later one.

    So a program touches little memory, which stays in the processor's cache.
    """
    last: dict[int, int] = {}
    for i, x in enumerate(program.nodes):
        if not isinstance(x, View):
            last |= {source_of(operand).number: i for operand in x.arrays()}
    end = len(program.nodes)
    last |= {source_of(output).number: end for output in program.outputs if isinstance(output, Node)}
    ending: dict[int, list[Node]] = {}
    for x in program.nodes:
        if x.number in stored:
            ending.setdefault(last.get(x.number, end), []).append(x)
    free: dict[tuple[int, bool, bool], list[Node]] = {}
    buffer_of: dict[int, Buffer] = {}
    buffers: list[Buffer] = []
    for i, x in enumerate(program.nodes):
        done = ending.get(i, [])
        early = [y for y in done if _fits_in_place(x, y) and in_place(x)] if isinstance(x, Elementwise) else []
        for y in early:
            free.setdefault(_kind(y), []).append(y)
        if x.number in stored:
            spare = free.get(_kind(x))
            old = spare.pop() if spare else None
            if old is not None and old.shape == x.shape:
                buffer_of[x.number] = buffer_of[old.number]
                buffer_of[x.number].users.append(x)
            else:
                buffers.append(Buffer([x], old))
                buffer_of[x.number] = buffers[-1]
        for y in done:
            if y not in early:
                free.setdefault(_kind(y), []).append(y)
    return buffers


def _fits_in_place(x: Node, y: Node) -> bool:
    """Whether ``x`` may have the memory of ``y``: it is of its kind, and reads it itself, not through a view."""
    return _kind(x) == _kind(y) and all(operand is y for operand in x.arrays() if source_of(operand) is y)


def _kind(x: Node) -> tuple[int, bool, bool]:
    """What two nodes must have in common to use one buffer in turn."""
    return x.size, x.batched, _is_boolean(x)


def _is_boolean(x: Node) -> bool:
    return isinstance(x, Elementwise) and x.op in MASKS
