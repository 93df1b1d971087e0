"""CPython calls machine code: what fits is taken as it is, and all else goes unchanged to the function behind it."""

import array
import ctypes
import gc
import sys
import threading
import tracemalloc
import weakref
from fractions import Fraction

import numpy as np
import pytest

from microgrid.compiler.targets.native import engine, entry

FORMATS = {"float64": ("double", "d"), "float32": ("float", "f")}


def load(lines, pointers, real="double"):
    """A program with these lines: of pointers behind theta and seed, and before the workspace."""
    taken = ", ".join(f"ptr %{name}" for name in ("theta", "seed", *pointers, "workspace"))
    body = lines.replace("REAL", real)
    return engine.load(f"define void @run({taken}, i64 %B) {{\nentry:\n{body}\n  ret void\n}}")


PRODUCT = """
  %a.0 = load REAL, ptr %a
  %b.0 = load REAL, ptr %b
  %v.0 = fmul REAL %a.0, %b.0
  store REAL %v.0, ptr %v
"""
GRADIENT = """
  store REAL %b.0, ptr %da
  store REAL %a.0, ptr %db
"""


class Slow:
    """What gets all that does not fit: it remembers it, and says something that nobody else does."""

    __name__ = "product"

    def __init__(self):
        self.calls = []

    def __call__(self, *arguments, **named):
        self.calls.append((arguments, named))
        raise TypeError(f"slow: {len(arguments)} arguments, named {[*named]}")


def value_of_two(slow=None, **options):
    machine = load(PRODUCT, ["a", "b", "v"], FORMATS[options.get("dtype", "float64")][0])
    return entry.scalar_function(machine.address(), 2, (1,), slow or Slow(), keep=machine, **options)


def product_of_two(slow=None, **options):
    machine = load(PRODUCT + GRADIENT, ["a", "b", "v", "da", "db"], FORMATS[options.get("dtype", "float64")][0])
    return entry.scalar_function(machine.address(), 2, (1, 1, 1), slow or Slow(), keep=machine, **options)


def test_this_python_can_be_entered():
    assert entry.available() is None
    assert type(product_of_two()) is type(len)


# -- numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workspace", [0, 1024, 1025, 1_000_000])
@pytest.mark.parametrize("nanoseconds", [10.0, 1e6])
@pytest.mark.parametrize("dtype", [*FORMATS])
def test_a_scalar_function_returns_value_and_gradient(workspace, nanoseconds, dtype):
    options = {"workspace": workspace, "nanoseconds": nanoseconds, "dtype": dtype}
    assert product_of_two(**options)(3.5, -1.0) == (-3.5, (-1.0, 3.5))
    assert value_of_two(**options)(3.5, -1.0) == -3.5


@pytest.mark.parametrize(
    "number", [0.0, -0.0, -1.0, 1e308, 5e-324, np.inf, -np.inf, 0, -1, 2**53, np.float64(2.5), 10**300]
)
def test_floats_and_ints_are_taken(number):
    (value, (da, db)) = product_of_two()(number, 1.0)
    assert (value, da, db) == (float(number), 1.0, float(number))
    assert np.signbit(value) == np.signbit(float(number))
    assert [type(x) for x in (value, da, db)] == [float] * 3


def test_nan_is_taken():
    assert np.isnan(product_of_two()(np.nan, 1.0)[0])


def test_numbers_of_a_float32_program_are_rounded_to_it():
    assert value_of_two(dtype="float32")(0.1, 1.0) == float(np.float32(0.1))


class Odd(float):
    def __float__(self):
        raise AssertionError("nobody asked")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), {}),
        ((1.0,), {}),
        ((1.0, 2.0, 3.0), {}),
        ((1.0,), {"b": 2.0}),
        ((1.0, 2.0), {"c": 3.0}),
        ((), {"a": 1.0, "b": 2.0}),
        ((1.0, "2.0"), {}),
        ((1.0, None), {}),
        ((1.0, 2j), {}),
        ((1.0, 10**400), {}),
        ((-(10**400), 1.0), {}),
        ((True, 1.0), {}),
        ((Fraction(1, 3), 1.0), {}),
        ((np.float32(1.0), 1.0), {}),
        ((np.array(1.0), 1.0), {}),
        (([1.0], 2.0), {}),
        ((Odd(1.0), 2.0), {}),
        ((product_of_two, 2.0), {}),
    ],
)
def test_what_is_no_number_goes_unchanged_to_the_slow_function(arguments, named):
    slow = Slow()
    with pytest.raises(TypeError, match=rf"^slow: {len(arguments)} arguments, named \{[*named]}"):
        product_of_two(slow)(*arguments, **named)
    ((taken, taken_named),) = slow.calls
    assert all(a is b for a, b in zip(taken, arguments, strict=True))
    assert taken_named == named


def test_what_the_slow_function_returns_is_returned():
    marker = object()
    assert product_of_two(lambda *_: marker)("any", "thing") is marker


def test_an_exception_inside_a_conversion_reaches_the_caller_once():
    class Failing:
        count = 0

        def __float__(self):
            self.count += 1
            raise KeyError("inside")

    failing = Failing()
    with pytest.raises(KeyError, match="inside"):
        product_of_two(lambda a, b: float(a) * b)(failing, 2.0)
    assert failing.count == 1


def test_the_order_of_all_outputs_is_that_of_the_tuple():
    machine = load(
        """
  %q = getelementptr double, ptr %many, i64 1
  store double 1.0, ptr %v
  store double 2.0, ptr %many
  store double 3.0, ptr %q
  store double 4.0, ptr %last
""",
        ["a", "v", "many", "last"],
    )
    assert entry.scalar_function(machine.address(), 1, (1, 2, 1), Slow(), keep=machine)(0.0) == (1.0, (2.0, 3.0, 4.0))


def test_parameters_and_seed_are_read_where_they_are():
    machine = load(
        """
  %t = load double, ptr %theta
  %s = load double, ptr %seed
  %d = fsub double %t, %s
  store double %d, ptr %v
""",
        ["v"],
    )
    theta, seed = np.array([5.0]), np.array([3.0])
    function = entry.scalar_function(
        machine.address(), 0, (1,), Slow(), theta=theta.ctypes.data, seed=seed.ctypes.data, keep=(machine, theta, seed)
    )
    assert function() == 2.0
    theta[0] = 7.0
    assert function() == 4.0


@pytest.mark.parametrize("workspace", [1024, 100_000])
def test_the_workspace_is_aligned_and_all_of_it_may_be_written(workspace):
    machine = load(
        f"""
  call void @llvm.memset.p0.i64(ptr %workspace, i8 1, i64 {workspace}, i1 true)
  %place = ptrtoint ptr %workspace to i64
  %rest = and i64 %place, 63
  %number = uitofp i64 %rest to double
  store double %number, ptr %v
""",
        ["v"],
    )
    function = entry.scalar_function(machine.address(), 0, (1,), Slow(), workspace=workspace, keep=machine)
    assert {function() for _ in range(100)} == {0.0}


def test_the_function_has_a_name_and_a_docstring():
    function = product_of_two(doc="product($self, a, b, /)\n--\n\nMultiply.")
    assert (function.__name__, function.__doc__, function.__text_signature__) == (
        "product",
        "Multiply.",
        "($self, a, b, /)",
    )


# -- arrays --------------------------------------------------------------------------------------------------

SUMS = """
  br label %products
products:
  %k = phi i64 [ 0, %entry ], [ %k.next, %products ]
  %k.next = add i64 %k, 1
  %y.row = mul i64 %k, 2
  %y.place = add i64 %y.row, 1
  %x.at = getelementptr REAL, ptr %x, i64 %k
  %y.at = getelementptr REAL, ptr %y, i64 %y.place
  %w.at = getelementptr REAL, ptr %workspace, i64 %k
  %x.k = load REAL, ptr %x.at
  %y.k = load REAL, ptr %y.at
  %product = fmul REAL %x.k, %y.k
  store REAL %product, ptr %w.at
  %more.products = icmp ult i64 %k.next, %B
  br i1 %more.products, label %products, label %sums
sums:
  %i = phi i64 [ 0, %products ], [ %i.next, %sums ]
  %sum = phi REAL [ 0.0, %products ], [ %sum.next, %sums ]
  %i.next = add i64 %i, 1
  %w.i.at = getelementptr REAL, ptr %workspace, i64 %i
  %w.i = load REAL, ptr %w.i.at
  %sum.next = fadd REAL %sum, %w.i
  %more.sums = icmp ult i64 %i.next, %B
  br i1 %more.sums, label %sums, label %end
end:
  store REAL %sum.next, ptr %v
  %count = uitofp i64 %B to REAL
  store REAL %count, ptr %g
"""
"""v = Σ x · y₁ over samples of a number x and a pair y, and g = how many samples."""


class Bound:
    """A bound step: ``step(x, y)`` returns Σ x · y₁ and writes how many samples there were."""

    def __init__(self, dtype="float64", slow=None, size=1000, **options):
        self.slow = slow or Slow()
        self.gradient = np.zeros(1, dtype)
        workspace = np.zeros(size, dtype)
        machine = load(SUMS, ["x", "y", "v", "g"], FORMATS[dtype][0])
        self.step = entry.step(
            machine.address(),
            [(), (2,)],
            [self.gradient.ctypes.data],
            self.slow,
            workspace=workspace.ctypes.data,
            dtype=dtype,
            keep=(machine, self.gradient, workspace),
            **options,
        )


def batch(n, dtype="float64"):
    return np.arange(n, dtype=dtype), np.arange(2 * n, dtype=dtype).reshape(n, 2)


@pytest.mark.parametrize("dtype", [*FORMATS])
@pytest.mark.parametrize("nanoseconds", [0.0, 1.0, 1e6])
@pytest.mark.parametrize("n", [1, 2, 17])
def test_a_step_returns_the_value_and_writes_the_gradient(dtype, nanoseconds, n):
    bound = Bound(dtype, nanoseconds=nanoseconds)
    x, y = batch(n, dtype)
    value = bound.step(x, y)
    assert (type(value), value, bound.gradient.item()) == (float, float(x @ y[:, 1]), n)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (memoryview(np.arange(3.0)), memoryview(np.arange(6.0)).cast("B").cast("d", (3, 2))),
        (array.array("d", [0.0, 1.0, 2.0]), np.arange(6.0).reshape(3, 2).view(np.matrix)),
        (np.arange(9.0)[:3], np.arange(-2.0, 6.0).reshape(4, 2)[1:]),
        (np.ma.masked_array(np.arange(3.0), mask=[True, False, False]), np.arange(6.0).reshape(3, 2)),
    ],
    ids=["memoryview", "subclass", "slice", "masked"],
)
def test_all_that_is_such_an_array_in_memory_is_taken(x, y):
    assert Bound().step(x, y) == 0 * 1 + 1 * 3 + 2 * 5


def unaligned(x):
    memory = bytearray(x.nbytes + 8)
    memory[1 : 1 + x.nbytes] = x.tobytes()
    return memoryview(memory)[1 : 1 + x.nbytes].cast("d", x.shape)


def released():
    view = memoryview(batch(3)[0])
    view.release()
    return view


X, Y = batch(3)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (X,),
        (X, Y, Y),
        ([0.0, 1.0, 2.0], Y),
        (X, Y.tolist()),
        (X, 3.0),
        (X, None),
        (X.astype("float32"), Y),
        (X, Y.astype("int64")),
        (X, Y.astype("complex128")),
        (X.astype(">f8"), Y),
        (X, Y.astype(object)),
        (X.reshape(3, 1), Y),
        (X, X),
        (X, Y.reshape(6)),
        (X, Y.reshape(2, 3)),
        (X, Y.reshape(3, 2, 1)),
        (X, np.zeros((3, 3))),
        (X[:2], Y),
        (X, Y[:2]),
        (X[:0], Y[:0]),
        (np.array(1.0), Y),
        (np.zeros(6)[::2], Y),
        (X, np.asfortranarray(Y)),
        (X[::-1], Y),
        (unaligned(X), Y),
        (X, unaligned(Y)),
        (np.frombuffer(b"\0" * 25, "f8", 3, offset=1), Y),
        (X.tobytes(), Y),
        ((ctypes.c_double * 3)(*X), Y),
        (released(), Y),
        ("text", Y),
    ],
)
def test_what_is_no_such_array_goes_unchanged_to_the_slow_function(arguments):
    bound = Bound()
    with pytest.raises(TypeError, match=rf"^slow: {len(arguments)} arguments, named \[\]"):
        bound.step(*arguments)
    ((taken, named),) = bound.slow.calls
    assert all(a is b for a, b in zip(taken, arguments, strict=True))
    assert (named, bound.gradient.item()) == ({}, 0.0)
    assert bound.step(X, Y) == 13.0


def test_named_arguments_go_to_the_slow_function():
    bound = Bound()
    with pytest.raises(TypeError, match=r"^slow: 1 arguments, named \['y'\]"):
        bound.step(X, y=Y)


def test_arguments_may_be_write_protected():
    x, y = batch(3)
    x.flags.writeable = y.flags.writeable = False
    assert Bound().step(x, y) == 13.0


@pytest.mark.parametrize("shape", [(), (3,), (3, 4)])
def test_without_a_batch_the_shape_is_that_of_the_argument(shape):
    machine = load(
        """
  %x.0 = load double, ptr %x
  %B.0 = uitofp i64 %B to double
  %sum = fadd double %x.0, %B.0
  store double %sum, ptr %v
""",
        ["x", "v"],
    )
    step = entry.step(machine.address(), [shape], [], Slow(), batched=False, keep=machine)
    assert step(np.full(shape, 4.0)) == 5.0
    for other in ((1,), (2,), (3, 1), (4, 3), (1, 3), (1, *shape)):
        with pytest.raises(TypeError, match="slow"):
            step(np.full(other, 4.0))


def stacked(make, slow=None):
    """``step(x)`` gives the pair x, −x for each sample."""
    machine = load(
        """
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i.next, %loop ]
  %x.at = getelementptr double, ptr %x, i64 %i
  %x.i = load double, ptr %x.at
  %minus = fneg double %x.i
  %v.at = getelementptr double, ptr %v, i64 %i
  %second = add i64 %i, %B
  %w.at = getelementptr double, ptr %v, i64 %second
  store double %x.i, ptr %v.at
  store double %minus, ptr %w.at
  %i.next = add i64 %i, 1
  %more = icmp ult i64 %i.next, %B
  br i1 %more, label %loop, label %end
end:
""",
        ["x", "v"],
    )
    return entry.step(machine.address(), [()], [], slow or Slow(), make=make, keep=machine)


def test_a_step_may_return_an_array_a_row_for_each_sample():
    step = stacked(lambda x: np.empty((2, len(x))))
    first, second = step(X), step(X + 1.0)
    assert first.tolist() == [[0.0, 0.0], [1.0, -1.0], [2.0, -2.0]]
    assert second.tolist() == [[1.0, -1.0], [2.0, -2.0], [3.0, -3.0]]


def test_an_error_in_making_the_array_reaches_the_caller():
    x = array.array("d", X)
    with pytest.raises(ZeroDivisionError):
        stacked(lambda x: 1 / 0)(x)
    x.append(3.0)  # an error as long as someone holds its memory


@pytest.mark.parametrize("made", ["no array", np.zeros(8)[::2], np.broadcast_to(0.0, (2, 3))])
def test_what_is_no_array_to_write_to_is_an_error_and_not_kept(made):
    step, count = stacked(lambda x: made), sys.getrefcount(made)
    with pytest.raises((TypeError, ValueError)):
        step(X)
    assert sys.getrefcount(made) == count


# -- memory --------------------------------------------------------------------------------------------------


def grows(action, times=20_000):
    """By how many blocks the memory of Python grows in so many repetitions."""
    for _ in range(100):
        action()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(times):
        action()
    gc.collect()
    return sys.getallocatedblocks() - before


def quiet(*arguments, **named):
    return None


def test_calls_leave_nothing_behind():
    scalar, step, array_step = product_of_two(quiet), Bound(slow=quiet).step, stacked(lambda x: np.empty((2, 3)), quiet)
    arguments = (1.5, 12345678, 10**400, X, Y, [1.0], X[::2], "text")
    counts = [*map(sys.getrefcount, arguments)]

    def action():
        scalar(arguments[0], arguments[1])
        scalar(arguments[0], arguments[2])
        scalar(arguments[0], b=arguments[7])
        step(X, Y)
        step(X, arguments[5])
        step(X, arguments[6])
        step(arguments[6], Y)
        step(X)
        array_step(X)
        array_step(X[:0])

    assert grows(action) < 100
    assert [*map(sys.getrefcount, arguments)] == counts


def test_a_large_workspace_is_given_back():
    function = product_of_two(workspace=100_000)
    tracemalloc.start()
    try:
        for _ in range(100):
            function(1.0, 2.0)
        assert tracemalloc.get_traced_memory()[0] < 100_000
        assert tracemalloc.get_traced_memory()[1] > 100_000
    finally:
        tracemalloc.stop()


def test_functions_leave_nothing_behind():
    others = product_of_two(quiet), Bound(slow=quiet, size=10)  # as long as they live, the programs do

    def action():
        product_of_two(quiet)(1.0, 2.0)
        Bound(slow=quiet, size=10).step(X, Y)

    assert grows(action, 3000) < 100
    tracemalloc.start()
    try:
        for _ in range(500):
            action()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 10_000
    finally:
        tracemalloc.stop()
    del others


def test_all_lives_as_long_as_the_function_and_no_longer():
    class Kept:
        pass

    kept, slow = Kept(), Slow()
    machine = load(PRODUCT, ["a", "b", "v"])
    kept.machine = machine
    function = entry.scalar_function(machine.address(), 2, (1,), slow, keep=kept)
    alive = [weakref.ref(thing) for thing in (kept, slow, machine)]
    del kept, slow, machine
    entry._machine.cache_clear()
    gc.collect()
    assert function(2.0, 3.0) == 6.0
    assert all(ref() is not None for ref in alive)
    del function
    assert all(ref() is None for ref in alive)


def test_a_function_that_its_slow_function_refers_to_is_collected():
    slow = Slow()
    slow.fast = product_of_two(slow)
    alive = weakref.ref(slow)
    del slow
    gc.collect()
    assert alive() is None


# -- threads -------------------------------------------------------------------------------------------------

WAITS = """
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i.next, %loop ]
  %flag = load volatile double, ptr %theta
  %up = fcmp one double %flag, 0.0
  %i.next = add i64 %i, 1
  %late = icmp eq i64 %i.next, 20000000000
  %leave = or i1 %up, %late
  br i1 %leave, label %end, label %loop
end:
  store double %flag, ptr %v
"""
"""Wait until another thread writes to theta, and return what; or 0 after some ten seconds."""


@pytest.mark.parametrize("kind", ["scalar", "step"])
def test_a_long_run_lets_other_threads_run(kind):
    machine, theta = load(WAITS, ["x", "v"]), np.zeros(1)
    options = {"theta": theta.ctypes.data, "nanoseconds": 1e6, "keep": (machine, theta)}
    if kind == "scalar":
        function, argument = entry.scalar_function(machine.address(), 1, (1,), Slow(), **options), 0.0
    else:
        function, argument = entry.step(machine.address(), [()], [], Slow(), **options), X
    timer = threading.Timer(0.05, lambda: theta.fill(8.0))
    timer.start()
    try:
        assert function(argument) == 8.0
    finally:
        timer.join()


@pytest.mark.parametrize("longest", [0, 2000, 1_000_000])
def test_threads_that_share_a_step_get_the_right_numbers(longest):
    bound = Bound(size=400_000, nanoseconds=entry.LONG / (longest + 1))  # other threads run in the runs above that
    wrong, barrier, sizes = [], threading.Barrier(8), [1000, 300_000] * 4

    def run(k):
        n = sizes[k] + k
        x, y = np.full(n, float(k)), np.ones((n, 2))
        barrier.wait()
        wrong.extend([k for _ in range(6_000_000 // n) if bound.step(x, y) != k * n])

    threads = [threading.Thread(target=run, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert bound.gradient.item() in [size + k for k, size in enumerate(sizes)]


@pytest.mark.parametrize("workspace", [0, 100_000])
def test_threads_that_share_a_scalar_function_get_the_right_numbers(workspace):
    function, wrong = product_of_two(workspace=workspace, nanoseconds=1e6), []

    def run(k):
        wrong.extend([k for _ in range(2000) if function(k, 2.0) != (2.0 * k, (2.0, k))])

    threads = [threading.Thread(target=run, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# -- other Pythons -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "name", "value", "reason"),
    [
        ("platform", "python_implementation", lambda: "PyPy", "PyPy has no METH_FASTCALL"),
        ("sysconfig", "get_config_var", lambda name: 1, "no global lock"),
        ("struct", "calcsize", lambda kind: 4, "laid out in another way"),
        ("entry_code", "API", {"PyNo_Such": "void ()"}, "this CPython has no PyNo_Such"),
    ],
)
def test_where_python_cannot_be_entered_the_slow_function_is_all_there_is(module, name, value, reason, monkeypatch):
    monkeypatch.setattr(getattr(entry, module), name, value)
    monkeypatch.setattr(entry, "available", entry.available.__wrapped__)
    assert reason in entry.available()
    slow = Slow()
    assert product_of_two(slow) is slow
    assert Bound(slow=slow).step is slow


def test_a_function_of_very_many_outputs_is_the_slow_one():
    slow = Slow()
    assert entry.scalar_function(0, 1, (1, 1000), slow) is slow
