"""Loop programs as C: compiled by gcc without a warning, they compute what NumPy does, and touch nothing else."""

import ctypes
import itertools
import os
import random
import re
import shutil
import subprocess
import sys
from functools import cache

import loop_interpreter
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_programs import loop_programs

import microgrid as mg
from microgrid import losses, ops
from microgrid.compiler import compile
from microgrid.compiler.ir import NOT, NUMBER
from microgrid.compiler.targets.c import Parameter, Recorded, to_c
from microgrid.compiler.targets.native.loop_ir import (
    SAMPLES,
    Address,
    Affine,
    Buffer,
    Carried,
    For,
    Let,
    Load,
    LoopProgram,
    Store,
)
from microgrid.nn import MLP
from tests.compiler.test_rows import HIDDEN, columns, function, same

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
@settings(max_examples=15)
@given(data=st.data(), tile=st.integers(1, 4))
def test_random_loops_compute_what_the_oracle_does_to_the_last_digit(tmp_path_factory, data, dtype, tile):
    program, numbers, samples = data.draw(loop_programs(dtype))
    parameters, recorded = recorded_by_interpreter(program, numbers, samples, tile)
    text = to_c(program, "random", parameters, tile=tile, recorded=recorded)
    done = runs(tmp_path_factory.mktemp("c"), text, "random")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{program.dump()}\n{text}"


def stored(name, buffer, member=0, **more):
    return Store(Address(buffer, Affine(member)), name, **more)


def loaded(name, buffer, member=0):
    return Load(name, Address(buffer, Affine(member)))


def test_a_number_that_is_read_before_memory_changes_keeps_its_value(tmp_path):
    x, out, local = Buffer("x", "argument", 2), Buffer("out", "output", 3), Buffer("kept", "local", 1)
    body = (
        loaded("a", x),
        stored("a", local),
        loaded("old", local),  # read once, and only behind the next store
        stored(7.0, local),
        stored("old", out),
        loaded("new", local),
        Let("both", ops.mul, ("new", "new")),
        stored("both", out, 1),
    )
    program = LoopProgram((x, out, local), (*body, stored("both", out, 2)), (), ())
    text = to_c(program, "order")
    found = np.zeros(3)
    Library(tmp_path, text).call(text, "order", [np.array([3.0, 4.0]), found])
    assert found.tolist() == [3.0, 49.0, 49.0]


def test_states_change_all_at_once(tmp_path):
    x, out = Buffer("x", "argument", 1), Buffer("fibonacci", "output", 3)
    states = (
        Carried("p", "state", ("b",), 0.0, "a"),
        Carried("q", "state", ("c",), 1.0, "b"),
        Carried("r", "state", ("a",), 0.0, "d"),
    )
    loop = For("i", 10, (Let("c", ops.add, ("a", "b")),), states)
    program = LoopProgram((x, out), (loop, *[stored(name, out, k) for k, name in enumerate("pqr")]), (), ())
    text = to_c(program, "fibonacci")
    found = np.zeros(3)
    Library(tmp_path, text).call(text, "fibonacci", [np.zeros(1), found])
    assert found.tolist() == [55.0, 89.0, 34.0]


@pytest.mark.parametrize("real", ["double", "float"])
def test_masks_are_numbers_wherever_numbers_are_asked_for(tmp_path, real):
    x, out = Buffer("x", "argument", 1), Buffer("out", "output", 6)
    body = [loaded("a", x), Let("m", ops.less, ("a", 2.0)), Let("not", NOT, ("m",)), Let("as", NUMBER, ("m",))]
    for k, (op, operands) in enumerate(
        [(ops.mul, ("m", "a")), (ops.where, ("not", "a", "m")), (ops.neg, ("m",)), (ops.maximum, ("as", "not")),
         (NOT, ("a",)), (ops.where, ("a", "as", 5.0))]
    ):  # fmt: skip
        body += [Let(f"v{k}", op, operands), stored(f"v{k}", out, k)]
    text = to_c(LoopProgram((x, out), tuple(body), (), ()), "masks", real=real)
    library = Library(tmp_path, text)
    for a, expected in [(1.5, [1.5, 1, -1, 1, 0, 1]), (3.0, [0, 3, 0, 1, 0, 0]), (0.0, [0, 1, -1, 1, 1, 5])]:
        found = np.zeros(6, TYPES[real])
        library.call(text, "masks", [np.array([a], TYPES[real]), found])
        assert found.tolist() == expected


HOSTILE = ["int", "sin", "a b", "a_b", "*/ int x; /*", "σ", "", "2x", "NULL", "M_PI", "w", "n", "sample", "loss",
           "x\ny", "\u202e", "loss_maximum", "for", "unix", "count", "y??/", "\\"]  # fmt: skip


def test_a_constant_beyond_single_precision_is_infinite_there(tmp_path):
    out = Buffer("out", "output", 2)
    text = to_c(LoopProgram((out,), (stored(1e300, out), stored(-1e300, out, 1)), (), ()), "large", real="float")
    found = np.zeros(2, np.float32)
    Library(tmp_path, text).call(text, "large", [found])
    assert found.tolist() == [np.inf, -np.inf]


@pytest.mark.parametrize("tile", [1, 3])
def test_no_name_breaks_a_file(tmp_path, tile):
    given = [Buffer(f"x{k}", "argument", 2, True, k) for k in range(len(HOSTILE))]
    words = [Buffer(label, "local", 1, True) for label in ("int", "register", "loss_workspace")]
    out = Buffer("out", "output", 1, True)
    body = []
    for k, x in enumerate(given):
        body += [loaded(HOSTILE[k] or "empty", x, 1), Let(f"{HOSTILE[k]} ", ops.relu, (HOSTILE[k] or "empty",))]
    body += [stored(f"{label} ", words[k % 3], adds=k > 2) for k, label in enumerate(HOSTILE)]
    body += [loaded(f"sum {x.name}", x) for x in words]
    hostile = mg.Op("*/ for (;;) /*\n#error", lambda *xs: sum(xs), (1.0,) * 3, expansion=lambda a, b, c: a * b + b * c)
    body += [Let("y", hostile, tuple(f"sum {x.name}" for x in words)), stored("y", out)]
    program = LoopProgram((*given, *words, out), (), (For(SAMPLES, "samples", tuple(body)),), ())
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(0.0, 1.0, (5, 2)) for _ in given]
    a, b, c = (sum(x[:, 1] for x in arrays[k::3]) for k in range(3))
    parameters = [Parameter(label, x, label) for label, x in zip([*HOSTILE, "*/"], [*given, out], strict=True)]
    recorded = Recorded([*arrays, a * b + b * c], [0.0] * len(given) + [1e-13], 5)
    text = to_c(program, "loss", parameters, tile=tile, recorded=recorded, purpose="*/ \\ ??/\nint main; // \u202e")
    done = runs(tmp_path, text, "loss")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_self_test_finds_a_number_that_is_off_and_takes_nan_for_nan(tmp_path):
    program = row_program(ops.log)
    x = np.array([1.0, -1.0, 0.0, 2.0])
    for off, code in ((0.0, 0), (2e-15, 1)):
        expected = np.array([0.0, np.nan, -np.inf, np.log(2.0) + off])
        recorded = Recorded([x, expected], [0.0, 1e-15], 4)
        done = runs(tmp_path, to_c(program, "logarithm", recorded=recorded), "logarithm")
        assert done.returncode == code, done.stdout
        assert ("value[3] is 0.69314718055994" in done.stdout) == bool(code)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"name": "int"}, ValueError, r"name must be a name in C .*; got 'int'"),
        ({"name": "exp"}, ValueError, r"got 'exp'"),
        ({"name": "a b"}, ValueError, r"got 'a b'"),
        ({"name": "f", "real": "long double"}, ValueError, r"real must be 'double' or 'float'; got 'long double'"),
        ({"name": "f", "tile": 0}, ValueError, r"tile must be a whole number of samples, at least 1; got 0"),
        ({"name": "f", "tile": 2.0}, ValueError, r"at least 1; got 2.0"),
    ],
)
def test_what_cannot_be_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        to_c(row_program(ops.exp), **options)


def cube(**form):
    return mg.Op("cube", lambda x: x * x * x, (lambda y, x: 3.0 * x * x,), **form)


@pytest.mark.parametrize(
    ("op", "remedy"),
    [
        (cube(), "only Python computes it; give it an expansion="),
        (cube(array="{0} ** 3"), "its array= is a text for NumPy; give it an expansion="),
        (cube(ufunc="spacing"), "or the ufunc= of such a row"),
        (cube(expansion=lambda x: cube()(x)), "only Python computes it"),
        (ops.round_of(2), "rounding to decimals takes exact conversions between bases"),
    ],
)
def test_a_row_without_a_form_in_c_is_named(op, remedy):
    name = "cube" if op.name == "cube" else r"round\[2\]"
    with pytest.raises(NotImplementedError, match=f"operation '{name}' has no form in C: .*{remedy}"):
        to_c(row_program(op), "f")


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ({"ufunc": "sinh"}, "sinh(x0"),
        ({"ufunc": "negative"}, "-x0"),
        ({"operator": "-"}, "-x0"),
        ({"ufunc": "no_such_function", "expansion": mg.sinh}, "sinh(x0"),
        ({"expansion": lambda x: mg.exp(x) * 0.5 - mg.exp(-x) * 0.5}, "f_mine(x0"),
        ({"expansion": lambda x: 2.0}, "= 2.0;"),
        ({"expansion": lambda x: x}, "= x0[sample];"),
    ],
)
def test_a_row_of_the_user_is_a_function_of_c_or_its_expansion(form, line):
    assert line in to_c(row_program(mg.Op("mine", np.sinh, (mg.cosh,), **form)), "f")


def test_a_file_has_the_functions_that_it_needs_and_no_others():
    text = to_c(row_program(ops.relu), "f")
    assert "f_maximum(" in text
    assert "f_minimum" not in text
    assert "workspace" not in text
    assert text == to_c(row_program(ops.relu), "f")


def test_only_declarations_are_left_where_they_are_asked_for(tmp_path):
    (tmp_path / "f.c").write_text(to_c(row_program(ops.exp), "f"))
    main = '#define F_HEADER\n#include "f.c"\nint main(void) { double x = 0, y = 0; f(&x, &y, 1); return y != 1; }\n'
    made = gcc(tmp_path, main, str(tmp_path / "f.c"))
    assert subprocess.run([made], check=False).returncode == 0


def rosenbrock(x):
    return mg.total([100.0 * (b - a * a) ** 2 + (1.0 - a) ** 2 for a, b in itertools.pairwise(x)])


def black_scholes(spot, strike, rate, volatility, time):
    """The price of a call (Black and Scholes 1973)."""
    spread = volatility * mg.sqrt(time)
    d = (mg.log(spot / strike) + (rate + 0.5 * volatility * volatility) * time) / spread

    def below(x):
        return 0.5 * mg.erfc(x * -(0.5**0.5))

    return spot * below(d) - strike * mg.exp(-rate * time) * below(d - spread)


def mixture(x, means, weights):
    """The logarithm of the density of a mixture."""
    squares = [mg.total([(a - b) ** 2 for a, b in zip(x, mean, strict=True)]) for mean in means]
    terms = [weight - 0.5 * square for weight, square in zip(weights, squares, strict=True)]
    return mg.logsumexp(terms) - mg.logsumexp(list(weights))


def recurrent():
    """A net whose state is its own last one, and the sum of what it says."""
    net = [[mg.Value(x) for x in row] for row in np.random.default_rng(2).normal(size=(12, 14)) * 0.3]

    def f(xs):
        state, seen = [0.0] * 12, 0.0
        for x in xs:
            state = [mg.tanh(mg.dot(row, [*state, x, 1.0])) for row in net]
            seen = seen + (state[0] - x) ** 2
        return seen

    return f


def root(a):
    return mg.iterate(lambda x: (x + a / x) / 2.0, 1.0, until=lambda x, y: abs(y - x) < 0.01, at_most=30)


@cache
def workloads():
    """Functions of scalars, each with a batch, which is traced once for all files that are written of it."""
    return list(made_workloads())


def made_workloads():
    random.seed(1)
    rng = np.random.default_rng(1)
    net, classes = MLP(2, [8, 8, 1]), MLP(16, [6, 4])
    points, signs = rng.normal(size=(5, 2)), rng.choice([-1.0, 1.0], 5)
    images, targets = rng.uniform(size=(4, 16)), np.eye(4)[[0, 3, 1, 1]]
    market = [rng.uniform(low, high, 6) for low, high in ((80, 120), (80, 120), (0, 0.1), (0.1, 0.5), (0.2, 2))]
    yield "moons", mg.compile(lambda x, y: mg.relu(1.0 - y * net(list(x)))), [points, signs], "both"
    digits = mg.compile(lambda x, y: losses.cross_entropy(classes(list(x)), list(y)))
    yield "digits", digits, [images, targets], "parameters"
    yield "rosenbrock", mg.compile(rosenbrock, batch=False), [rng.normal(size=30)], "arguments"
    yield "call", mg.compile(black_scholes, reduce=None), market, "arguments"
    groups = [rng.normal(size=(3, 4)), rng.normal(size=(2, 4)), rng.normal(size=2)]
    yield "mixture", mg.compile(mixture, batch=False), [groups[0][0], *groups[1:]], "arguments"
    several = mg.compile(lambda x: [x[0] * x[1], mg.exp(x[0]), mg.sigmoid(x[1])], reduce=None)
    yield "several", several, [points], "arguments"
    yield "total", mg.compile(lambda x, y: net(list(x)) * y, reduce="sum"), [points, signs], "value"
    yield "plain", mg.compile(lambda a, b: (mg.tanh(a * b) + a) ** 2, batch=False), [0.5, -0.7], "arguments"
    for batch in (True, False):
        steps = rng.normal(size=(4, 60) if batch else 60)
        yield "recurrent", mg.compile(recurrent(), batch=batch), [steps], "both"
    smoothed = mg.compile(lambda xs, a: mg.scan(lambda s, x: (mg.tanh(s * a + x), s), a, xs)[1][-1] * a)
    yield "scan", smoothed, [rng.normal(size=(4, 7)), rng.normal(size=4)], "both"
    stretches = mg.compile(lambda xs, a: mg.scan(lambda s, x: (mg.tanh(s * a + x), None), a, xs, checkpoint=3)[0])
    yield "stretches", stretches, [rng.normal(size=(4, 7)), rng.normal(size=4)], "both"
    yield "root", mg.compile(root, reduce=None), [np.array([0.3, 2.0, 900.0, 1.0])], "arguments"


@pytest.mark.parametrize("real", ["double", "float"])
@pytest.mark.parametrize("tile", [1, 3])
@pytest.mark.parametrize("which", range(13))
def test_an_exported_kernel_agrees_with_numpy_and_touches_no_memory_but_its_own(tmp_path, which, tile, real):
    name, function, batch, by = workloads()[which]
    text = function.kernel(*batch).to_c(name, by, real=real, tile=tile, batch=batch)
    done = runs(tmp_path, text, name)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "gradient" in done.stdout or by == "value"
    assert text == function.kernel(*batch).to_c(name, by, real=real, tile=tile, batch=batch)


@pytest.mark.parametrize("real", ["double", "float"])
def test_a_workspace_has_the_size_that_the_header_says_and_nothing_else_is_kept(tmp_path, real):
    name, function, batch, by = workloads()[0]
    text = function.kernel(*batch).to_c(name, by, real=real)
    size = re.search(r"\* w +(\d+) bytes", text)[1]
    main = f"{text}\nint main(void) {{ return sizeof(struct moons_workspace) != {size}; }}\n"
    assert subprocess.run([gcc(tmp_path, main, "-Wstack-usage=1024")], check=False).returncode == 0
    assert not re.search(r"\b(malloc|alloca)\b|static (?!const|float moons|double moons)", text)


@pytest.mark.parametrize("unread", ["add", "mul", "sum", "copy", "gradient"])
def test_an_argument_that_is_not_read_may_be_called_as_anything(tmp_path, unread):
    names = f"x, {unread}"
    f = eval(f"lambda {names}: mg.total([mg.sin(a) * a + w for a in x])", {"mg": mg, "w": mg.Value(0.5)})
    batch = [[[0.5, 0.25, 2.0]], [1.0]]
    text = mg.compile(f).kernel(*batch).to_c("model", "both", batch=batch)
    assert runs(tmp_path, text, "model").returncode == 0


def test_an_exported_function_without_parameters_has_the_gradient_by_its_arguments_unless_told():
    text = mg.compile(lambda a, b: a * b, batch=False).kernel(2.0, 3.0).to_c("area")
    assert "double *restrict gradient_by_a" in text
    assert "double *restrict gradient_by_b" in text


def test_an_exported_function_without_parameters_or_gradient_takes_what_it_needs():
    text = mg.compile(lambda a: a * a, batch=False).kernel(2.0).to_c("square", "value")
    assert "void square(const double *restrict a, double *restrict value);" in text
