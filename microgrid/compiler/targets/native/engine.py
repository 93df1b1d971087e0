"""LLVM text to machine code in this process, by llvmlite: the extra ``native``."""

import functools
import itertools
import platform
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from microgrid.environment import require

SIMPLE = 2000
"""Above so many statements registers are allocated the simple way, whose time is linear in the statements."""

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
    """

    name: str
    features: str
    width: int
    fma: bool


class Machine:
    """Machine code, which is there as long as this object is.

    Attributes:
        text: what it was compiled of.
        processor: what it was compiled for.
    """

    def __init__(self, text: str, statements: int, library: Any) -> None:
        self.text = text
        self.processor = processor()
        self._statements = statements
        self._library = library

    def address(self, name: str = "run") -> int:
        """Return where a function begins."""
        address: int = self._library[name]
        return address

    def assembly(self) -> str:
        """Return the machine code as text, compiled anew."""
        with _lock, _reasons():
            machine = _target_machine(_level(self._statements))
            text: str = machine.emit_assembly(_optimised(self.text, machine))
        return text


def load(
    text: str, statements: int = 0, functions: tuple[str, ...] = ("run",), symbols: Mapping[str, int] | None = None
) -> Machine:
    """Compile LLVM text and load it.

    Args:
        text: a module: functions, declarations, constants.
        statements: about how many the program has; LLVM's time for long ones is not linear unless told.
        functions: whose addresses will be asked for.
        symbols: the addresses of functions that it declares and does not define.

    Raises:
        ModuleNotFoundError: without llvmlite, naming the extra.
        NativeError: if the text is wrong or LLVM cannot compile or link it.
    """
    with _lock, _reasons():
        machine = _target_machine(_level(statements))
        code: bytes = machine.emit_object(_optimised(text, machine))
        return Machine(text, statements, _linked(code, functions, symbols or {}))


@functools.cache
def processor() -> Processor:
    """Return the processor of this machine.

    Raises:
        ModuleNotFoundError: without llvmlite, naming the extra.
    """
    llvm = _llvm()
    features = llvm.get_host_cpu_features()
    wide = 8 if features.get("avx512f") and features.get("avx512dq") else 4 if features.get("avx2") else 2
    fma = bool(features.get("fma")) or platform.machine().lower() in ("arm64", "aarch64")
    return Processor(llvm.get_host_cpu_name(), features.flatten(), wide, fma)


@functools.cache
def _llvm() -> Any:
    """The module of llvmlite, ready for this machine."""
    llvm = require("llvmlite.binding", "native code", "native")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


class _reasons:  # noqa: N801 - it reads as a word of the with statement
    """Turn whatever LLVM raises into a ``NativeError``."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, (RuntimeError, ValueError, OSError)) and not isinstance(error, NativeError):
            raise NativeError(f"LLVM: {' '.join(str(error).split())}") from error


def _level(statements: int) -> int:
    return 0 if statements > SIMPLE else 2


@functools.cache
def _target_machine(level: int) -> Any:
    llvm, host = _llvm(), processor()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=host.name, features=host.features, opt=level, reloc="pic", codemodel="small"
    )


def _optimised(text: str, machine: Any) -> Any:
    """The module of a text after LLVM's standard pipeline.

    The emitter writes the vectors and the blocks itself, so what looks for more of them only takes time.
    """
    llvm = _llvm()
    module = llvm.parse_assembly(text)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    return module


@functools.cache
def _linker() -> Any:
    return _llvm().create_lljit_compiler(_target_machine(2), suppress_errors=True)


def _linked(code: bytes, functions: tuple[str, ...], symbols: Mapping[str, int]) -> Any:
    """Load an object: where its functions are, as long as what is returned is."""
    library = _llvm().JITLibraryBuilder().add_object_img(code).add_current_process()
    for name, address in symbols.items():
        library.import_symbol(name, address)
    for name in functions:
        library.export_symbol(name)
    return library.link(_linker(), f"microgrid.{next(_numbers)}")
