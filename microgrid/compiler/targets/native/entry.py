"""Functions that CPython calls without a detour: machine code that takes objects, runs a program, returns objects.

They take what fits as it is, and hand everything else unchanged to a function of Python's, which converts it, or
says what is wrong. They are called by ``METH_FASTCALL``; what they call is in CPython's stable ABI too. That the
type of an object stands 8 bytes behind its beginning is not, and is tried out.
"""

import ctypes
import functools
import platform
import struct
import sys
import sysconfig
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from microgrid.compiler.targets.native import engine, entry_code

LONG = 50_000
"""A run that takes so many nanoseconds lets other threads run meanwhile."""

_LARGEST = 1000
"""So many numbers may be returned in a tuple."""

_FASTCALL, _KEYWORDS = 0x80, 0x2

_REAL = {"float64": "double", "float32": "float"}


class _MethodDef(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("call", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p))


class _Lock:
    """A lock that machine code takes."""

    def __init__(self) -> None:
        allocate, self._free = ctypes.pythonapi.PyThread_allocate_lock, ctypes.pythonapi.PyThread_free_lock
        allocate.restype, self._free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
        self.address = allocate()

    def __del__(self) -> None:
        self._free(self.address)


@functools.cache
def available() -> str | None:
    """Return why this Python cannot be entered so, if it cannot."""
    if platform.python_implementation() != "CPython":
        return f"{platform.python_implementation()} has no METH_FASTCALL"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "this CPython has no global lock"
    if struct.calcsize("P") != 8 or any(
        ctypes.c_void_p.from_address(id(x) + 8).value != id(type(x)) for x in (1.0, 1, "")
    ):
        return "objects of this CPython are laid out in another way"
    missing = [name for name in entry_code.API if not hasattr(ctypes.pythonapi, name)]
    return f"this CPython has no {missing[0]}" if missing else None


def scalar_function(
    run: int,
    arguments: int,
    outputs: Sequence[int],
    slow: Callable[..., Any],
    *,
    theta: int = 0,
    seed: int = 0,
    workspace: int = 0,
    dtype: str = "float64",
    nanoseconds: float = 0.0,
    doc: str = "",
    keep: Any = None,
) -> Callable[..., Any]:
    """Return ``f(a, b, …)`` of plain numbers, which returns ``value`` or ``(value, (da, db, …))``.

    Several threads may call it at once.

    Args:
        run: where the program begins, of a batch of one sample.
        arguments: how many it has; each is one number.
        outputs: how many numbers each output has: the value one, the others together so many as are returned.
        slow: what is called for everything but floats and ints; it has the name of the function, and is
            returned if this Python cannot be entered.
        theta: where the parameters are.
        seed: where the weights of the outputs are.
        workspace: how many bytes the program needs.
        dtype: ``"float64"`` or ``"float32"``.
        nanoseconds: about how long it runs.
        doc: its docstring.
        keep: what must be there as long as the function is.
    """
    if available() or sum(outputs) > _LARGEST:
        return slow
    text = entry_code.scalar_function(arguments, outputs, workspace, _REAL[dtype], nanoseconds >= LONG)
    block = run, theta, seed, workspace, id(float), id(np.float64), id(int)
    return _function(text, block, slow, doc, keep)


def step(
    run: int,
    shapes: Sequence[Sequence[int]],
    outputs: Sequence[int],
    slow: Callable[..., Any],
    *,
    batched: bool = True,
    theta: int = 0,
    seed: int = 0,
    workspace: int = 0,
    dtype: str = "float64",
    nanoseconds: float = 0.0,
    make: Callable[..., Any] | None = None,
    doc: str = "",
    keep: Any = None,
) -> Callable[..., Any]:
    """Return ``step(X, Y, …)`` of arrays, which returns the value and writes the other outputs where you said.

    Threads that call it wait for each other, as all of them write to the same place.

    Args:
        run: where the program begins.
        shapes: the shape of each argument, for one sample.
        outputs: where each output behind the value is written.
        slow: what is called for everything but arrays in C's order, of these shapes and this dtype; it has the name
            of the function, and is returned if this Python cannot be entered.
        batched: whether the arguments have an axis over samples in front.
        theta: where the parameters are.
        seed: where the weights of the outputs are.
        workspace: where it is.
        dtype: ``"float64"`` or ``"float32"``.
        nanoseconds: about how long it runs for a sample.
        make: makes of the arguments an array for the value, whose transpose is returned; without, the value is one
            number.
        doc: its docstring.
        keep: what must be there as long as the function is.
    """
    if available():
        return slow
    lock = _Lock()
    enough = int(LONG / nanoseconds) + 1 if nanoseconds > 0.0 else sys.maxsize
    block = [run, theta, seed, workspace, lock.address, enough, int(not batched), *outputs]
    for shape in shapes:
        block += [len(shape) + batched, *[entry_code.ANY] * batched, *shape]
    text = entry_code.step(len(shapes), 1 + len(outputs), _REAL[dtype], make is None)
    return _function(text, block, slow, doc, make, lock, keep)


def _function(text: str, block: Sequence[int], slow: Callable[..., Any], doc: str, *keep: Any) -> Callable[..., Any]:
    """Make a function whose ``self`` is what it reads, what it hands the rest to, and what must stay with it."""
    machine = _machine(text)
    name = getattr(slow, "__name__", "call")
    method = _MethodDef(name.encode(), machine.address("call"), _FASTCALL | _KEYWORDS, doc.encode())
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.restype, new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    # CPython reads the definition before it lets go of self, so self may own it; and tuples are never cleared.
    owner = struct.pack(f"{len(block)}q", *block), slow, *keep, method, machine
    function: Callable[..., Any] = new(ctypes.addressof(method), owner, None)
    return function


@functools.lru_cache(64)
def _machine(text: str) -> engine.Machine:
    addresses = {name: ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value for name in entry_code.API}
    return engine.load(text, functions=("call",), symbols={name: address or 0 for name, address in addresses.items()})
