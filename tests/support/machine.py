"""Functions of vectors as machine code, called with arrays."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from microgrid.compiler.targets.native.assembly import Builder, DType, Function, Module, Vector, index, pointer

Write = Callable[..., Vector | Sequence[Vector]]
"""Writes a function: of a builder and the vectors of its arguments, to its results."""


def _target() -> Any:
    """A target machine, which an engine that is made with it disposes of."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), jit=True
    )


def optimised(text: str, target: Any = None) -> Any:
    """Return a module after LLVM's standard pipeline."""
    target = target or _target()
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = target.triple, str(target.target_data)
    module.verify()
    builder = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(speed_level=1))
    builder.getModulePassManager().run(module, builder)
    return module


def compiled(text: str) -> Any:
    """Return an engine that holds a module's functions."""
    target = _target()
    engine = llvm.create_mcjit_compiler(optimised(text, target), target)
    engine.finalize_object()
    return engine


def assembly(
    write: Write, arguments: int, width: int = 4, dtype: DType = "float64", fused: bool = True, results: int = 1
) -> str:
    """Return a module with ``run(x0, x1, …, y0, y1, …, n)``, which maps a function over arrays of n numbers."""
    module = Module()
    names = [f"%x{k}" for k in range(arguments)] + [f"%y{k}" for k in range(results)]
    function = Function(module, "run", [f"ptr noalias {name}" for name in names] + ["i64 %n"])
    b = Builder(function, width, dtype, fused=fused)
    with function.loop(0, index("%n"), width) as loop:
        ys = write(b, *[b.load(pointer(name), loop.index) for name in names[:arguments]])
        for y, name in zip([ys] if isinstance(ys, Vector) else ys, names[arguments:], strict=True):
            b.store(b.as_number(y) if y.kind == "mask" else y, pointer(name), loop.index)
    function.finish()
    return module.text()


def machine(
    write: Write, arguments: int, width: int = 4, dtype: DType = "float64", fused: bool = True
) -> Callable[..., np.ndarray]:
    """Return a function of vectors as one of arrays."""
    engine = compiled(assembly(write, arguments, width, dtype, fused))
    run = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (arguments + 1), ctypes.c_int64)(
        engine.get_function_address("run")
    )

    def call(*xs: Any) -> np.ndarray:
        columns = [np.array(x, dtype) for x in np.broadcast_arrays(*xs)]
        size = columns[0].size
        padded = [np.resize(column, -(-size // width) * width) for column in columns]
        out = np.empty_like(padded[0])
        run(*[column.ctypes.data for column in padded], out.ctypes.data, out.size)
        return out[:size]

    call.engine = engine  # type: ignore[attr-defined] # the code lives as long as it
    return call
