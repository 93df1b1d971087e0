"""Loop programs as C: compiled by gcc without a warning, they compute what NumPy does, and touch nothing else."""

import ctypes
import os
import re
import shutil
import subprocess
import sys

import loop_interpreter
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_programs import loop_programs
from test_rows import HIDDEN, columns, function, same

import microgrid as mg
from microgrid import ops
from microgrid.compiler import compile
from microgrid.compiler.ir import NOT, NUMBER
from microgrid.compiler.targets.c import Parameter, Recorded, to_c
from microgrid.compiler.targets.native.loop_ir import (
    COUNT,
    SAMPLES,
    WEIGHT,
    Address,
    Affine,
    Buffer,
    Carried,
    For,
    Let,
    Load,
    LoopProgram,
    Pack,
    Store,
)

# A machine without gcc has no use for C; where all must pass, it is missing.
pytestmark = pytest.mark.skipif(shutil.which("gcc") is None and "CI" not in os.environ, reason="gcc is not installed")

WARNINGS = """-std=c99 -Wall -Wextra -pedantic -Werror -Wconversion -Wshadow -Wdouble-promotion -Wstrict-prototypes
-Wmissing-prototypes -Wvla -Wundef -Wcast-qual -Wwrite-strings""".split()  # noqa: SIM905
SANITIZED = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"] if sys.platform == "linux" else []
TYPES = {"double": np.float64, "float": np.float32}


def gcc(folder, text, *options, name="program"):
    """Compile a text; return what is written."""
    source, made = folder / f"{name}.c", folder / name
    source.write_text(text, encoding="utf-8")
    command = ["gcc", *WARNINGS, *options, str(source), "-o", str(made), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{text}"
    return made


class Library:
    """Functions that were compiled together."""

    def __init__(self, folder, *texts):
        flags = ["-O2", "-shared", "-fPIC", *["-Wunsuffixed-float-constants"] * ("double" not in "".join(texts))]
        self.loaded = ctypes.CDLL(str(gcc(folder, "\n".join(texts), *flags, name=f"lib{len(list(folder.iterdir()))}")))

    def call(self, text, name, arrays, samples=1):
        """Call a function on arrays, which for its outputs it writes."""
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in arrays]
        size = re.search(r"\* w\w* +(\d+) bytes", text)
        if size:
            guarded = np.full(int(size[1]) + 64, 0x5A, np.uint8)
            pointers.append(guarded.ctypes.data_as(ctypes.c_void_p))
        getattr(self.loaded, name)(*pointers, *[ctypes.c_ssize_t(samples)] * ("ptrdiff_t n" in text))
        assert not size or (guarded[-64:] == 0x5A).all()


def row_program(op, dtype="float64"):
    """The loops of one row on samples."""
    given = [Buffer(f"x{k}", "argument", 1, True, k) for k in range(op.arity)]
    out = Buffer("value", "output", 1, True)
    names = tuple(f"l{k}" for k in range(op.arity))
    loads = [Load(name, Address(x, Affine())) for name, x in zip(names, given, strict=True)]
    body = (*loads, Let("y", op, names), Store(Address(out, Affine()), "y"))
    loop = For(SAMPLES, "samples", body, lanes=True)
    return LoopProgram((*given, out), (), (loop,), (), dtype)


ROWS = [op for op in [*ops.rows(), *HIDDEN] if not op.name.startswith("round[")]


@pytest.fixture(scope="module", params=["double", "float"])
def all_rows(request, tmp_path_factory):
    """Every row as a function, all in one file, as two files may be that one program includes."""
    texts = {op.name: to_c(row_program(op), f"row{k}", real=request.param) for k, op in enumerate(ROWS)}
    return request.param, texts, Library(tmp_path_factory.mktemp("rows"), *texts.values())


@pytest.mark.parametrize("op", ROWS, ids=lambda op: op.name)
def test_every_row_has_the_numbers_of_the_kernel_at_special_values(all_rows, op):
    real, texts, library = all_rows
    with np.errstate(over="ignore"):
        xs = [column.astype(TYPES[real]) for column in columns(op)]
    found = np.empty_like(xs[0])
    library.call(texts[op.name], f"row{ROWS.index(op)}", [*xs, found], found.size)
    wide = [x.astype(float) for x in xs]
    expected = compile(function(op), reduce=None).kernel(*wide).value([], *wide)
    with np.errstate(all="ignore"):
        expected = expected.astype(TYPES[real])
    terms = np.max([np.nan_to_num(np.abs(x), posinf=0.0) for x in wide], axis=0) if op.name.startswith("sum[") else 0.0
    fine = same(found, expected) if real == "double" else nearly(found, expected, terms)
    assert fine.all(), [point for *point, good in zip(*wide, found, expected, fine, strict=True) if not good]


def nearly(found, expected, size=0.0):
    """Whether numbers are the same up to what single precision loses; it has no numbers below 1e-38."""
    with np.errstate(all="ignore"):
        close = np.abs(found - expected) <= 3e-6 * np.maximum(np.abs(expected), size) + 2e-38
    return (found == expected) | (np.isnan(found) & np.isnan(expected)) | close


def runs(folder, text, name, *options):
    """Compile the self-test of a file with every check there is, and run it."""
    made = gcc(folder, text, f"-D{name.upper()}_TEST", "-O1", *SANITIZED, *options, name=f"test_{name}")
    return subprocess.run([made], capture_output=True, text=True, check=False, timeout=60)


def recorded_by_interpreter(program, numbers, samples, tile):
    """What a program computes, by the oracle: its arrays in the order of the function's parameters."""
    order = ("theta", "seed", "argument", "output")
    buffers = sorted((b for b in program.buffers if b.role in order), key=lambda b: (order.index(b.role), b.position))
    sizes = {b: b.members * (samples if b.batched else 1) for b in buffers}
    arrays = [numbers.get(b, np.zeros(sizes[b], program.dtype)) for b in buffers]
    by_role = {role: [a for a, b in zip(arrays, buffers, strict=True) if b.role == role] for role in order}
    theta, seed = ([*by_role[role], None][0] for role in ("theta", "seed"))
    loop_interpreter.run(program, theta, seed, by_role["argument"], by_role["output"], samples, tile)
    return [Parameter(b.name, b) for b in buffers], Recorded(arrays, [0.0] * len(arrays), samples)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@settings(max_examples=60)
@given(data=st.data(), tile=st.integers(1, 4))
def test_random_loops_compute_what_the_oracle_does_to_the_last_digit(tmp_path_factory, data, dtype, tile):
    program, numbers, samples = data.draw(loop_programs(dtype))
    parameters, recorded = recorded_by_interpreter(program, numbers, samples, tile)
    text = to_c(program, "random", parameters, tile=tile, recorded=recorded)
    done = runs(tmp_path_factory.mktemp("c"), text, "random")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{program.dump()}\n{text}"
