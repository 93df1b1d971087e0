"""LLVM text to machine code in this process, by llvmlite: the extra ``native``."""

import ctypes
import functools
import hashlib
import itertools
import os
import platform
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from microgrid.compiler.targets.native import cache
from microgrid.environment import require

SIMPLE = 2000
"""Above so many statements registers are allocated the simple way, whose time is linear in the statements."""

_PASSES = {"loop_vectorization": False, "slp_vectorization": True, "loop_unrolling": False}
"""The emitter writes vectors and blocks itself, so what looks for more of them in loops only takes time."""

_LIGHT = ("instruction_combine",)
"""LLVM's pass for what runs so shortly that the others, which take ten times its time, would not win it back.

The emitter loads and computes everything once, so that numbering values again finds next to nothing.
"""

_CODE = {"reloc": "pic", "codemodel": "small"}
"""Objects that can be loaded at any address."""

_lock = threading.RLock()
_numbers = itertools.count()


class NativeError(RuntimeError):
    """What LLVM makes no machine code of, and why."""


@dataclass(frozen=True, slots=True)
class Processor:
    """The processor that programs are compiled for: that of this machine.

    Attributes:
        name: LLVM's name of its kind.
        features: what it has and has not, in LLVM's words.
        width: how many float64 its vectors hold.
        fma: whether it multiplies and adds in one instruction.
        registers: how many vectors it holds.
    """

    name: str
    features: str
    width: int
    fma: bool
    registers: int


class Machine:
    """Machine code, which is there as long as this object is.

    Attributes:
        processor: what it was compiled for.
        cached: whether it was compiled before, by this process or another.
    """

    def __init__(self, text: str | Callable[[], str], level: int, thorough: bool, library: Any, cached: bool) -> None:
        self._text = text
        self.processor = processor()
        self.cached = cached
        self._level, self._thorough = level, thorough
        self._library = library

    @property
    def text(self) -> str:
        """What it was compiled of."""
        return self._text if isinstance(self._text, str) else self._text()

    def address(self, name: str = "run") -> int:
        """Return where a function begins."""
        address: int = self._library[name]
        return address

    def function(self, pointers: int, name: str = "run", counts: int = 1) -> Callable[..., None]:
        """Return a function as Python calls it: of so many addresses and then counts, all integers."""
        signature = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * pointers, *[ctypes.c_int64] * counts)
        function: Any = signature(self.address(name))
        function.machine = self
        return function  # type: ignore[no-any-return]

    def assembly(self) -> str:
        """Return the machine code as text, compiled anew."""
        with _lock, _reasons():
            target = _target(self._level)
            text: str = target.emit_assembly(_optimised(self.text, target, self._thorough))
        return text


_machines: weakref.WeakValueDictionary[Any, Machine] = weakref.WeakValueDictionary()


def load(
    text: str | Callable[[], str],
    statements: int = 0,
    functions: tuple[str, ...] = ("run",),
    symbols: Mapping[str, int] | None = None,
    key: str = "",
    thorough: bool = True,
) -> Machine:
    """Return LLVM text as machine code: that of before if the process has it, or the cache on disk.

    Args:
        text: a module: functions, declarations, constants; or what writes it, asked if it is needed.
        statements: about how many the program has; above ``SIMPLE`` it is compiled faster, to slower code.
        functions: those whose addresses will be asked for.
        symbols: the addresses of what it declares and does not define.
        key: that of the text, if it is known.
        thorough: whether it runs so long that all of LLVM's passes are worth their time.

    Raises:
        ModuleNotFoundError: without llvmlite, naming the extra.
        NativeError: if the text is wrong or LLVM cannot compile or link it.
    """
    level, symbols = _level(statements), symbols or {}
    if isinstance(text, str):
        key = key_of(text, statements, thorough)
    wanted = key, functions, *symbols.items()
    with _lock, _reasons():
        machine = _machines.get(wanted)
        if machine is None:
            code = cache.read(key)
            known = code is not None
            if code is None:
                target = _target(level)
                code = target.emit_object(_optimised(text if isinstance(text, str) else text(), target, thorough))
                cache.write(key, code)
            machine = _machines[wanted] = Machine(text, level, thorough, _linked(code, functions, symbols), known)
        return machine


def key_of(text: str, statements: int = 0, thorough: bool = True) -> str:
    """Return a digest of all that machine code depends on: the text, how it is compiled, the processor, versions."""
    llvm = _llvm()
    versions = require("llvmlite", "native code", "native").__version__, llvm.llvm_version_info
    what = text, _level(statements), _PASSES if thorough else _LIGHT, _CODE, processor(), versions
    return hashlib.sha256(repr(what).encode()).hexdigest()


def _level(statements: int) -> int:
    """How well a text of so many statements is compiled."""
    return 0 if statements > SIMPLE else 2


@functools.cache
def processor() -> Processor:
    """Return the processor of this machine.

    Raises:
        ModuleNotFoundError: without llvmlite, naming the extra.
    """
    llvm = _llvm()
    features = llvm.get_host_cpu_features()
    wide = 8 if features.get("avx512f") and features.get("avx512dq") else 4 if features.get("avx2") else 2
    arm = platform.machine().lower() in ("arm64", "aarch64")
    registers = 32 if arm or wide == 8 else 16
    return Processor(llvm.get_host_cpu_name(), features.flatten(), wide, arm or bool(features.get("fma")), registers)


@functools.cache
def _llvm() -> Any:
    """The module of llvmlite, ready for this machine."""
    llvm = require("llvmlite.binding", "native code", "native")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    if hasattr(os, "register_at_fork"):
        inner = llvm.ffi.lib._lock

        def hold() -> None:
            _lock.acquire()
            inner.__enter__()

        def free() -> None:
            inner.__exit__()
            _lock.release()

        # Else a child would wait forever for a thread that was within LLVM when it was forked, and that it has not.
        os.register_at_fork(before=hold, after_in_parent=free, after_in_child=free)
    return llvm


class _reasons:  # noqa: N801 - it reads as a word of the with statement
    """Turn whatever LLVM raises into a ``NativeError``."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, (RuntimeError, ValueError, OSError)) and not isinstance(error, NativeError):
            raise NativeError(f"LLVM: {' '.join(str(error).split())}") from error


@functools.cache
def _target(level: int) -> Any:
    """LLVM's generator of code for this processor."""
    host = processor()
    target = _llvm().Target.from_default_triple()
    return target.create_target_machine(cpu=host.name, features=host.features, opt=level, **_CODE)


def _optimised(text: str, target: Any, thorough: bool) -> Any:
    """The module of a text after LLVM's standard passes, or a few of them."""
    llvm = _llvm()
    module = llvm.parse_assembly(text)
    module.triple = target.triple
    module.data_layout = str(target.target_data)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    for name, value in _PASSES.items():
        setattr(options, name, value)
    builder = llvm.create_pass_builder(target, options)
    manager = builder.getModulePassManager() if thorough else llvm.create_new_module_pass_manager()
    for name in () if thorough else _LIGHT:
        getattr(manager, f"add_{name}_pass")()
    manager.run(module, builder)
    # llvmlite's managers inherit first from a class that frees nothing: up to 0.50 each leaves 45 KB behind
    llvm.newpassmanagers.NewPassManager._dispose(manager)
    manager.detach()
    return module


@functools.cache
def _linker() -> Any:
    return _llvm().create_lljit_compiler(_target(2), suppress_errors=True)


def _linked(code: bytes, functions: tuple[str, ...], symbols: Mapping[str, int]) -> Any:
    """Load an object: where its functions are, as long as what is returned is."""
    library = _llvm().JITLibraryBuilder().add_object_img(code).add_current_process()
    for name, address in symbols.items():
        library.import_symbol(name, address)
    for name in functions:
        library.export_symbol(name)
    return library.link(_linker(), f"microgrid.{next(_numbers)}")
