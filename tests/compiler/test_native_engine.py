"""LLVM text becomes machine code, which is kept on disk: whole, in a folder that is the user's own, or not at all."""

import contextlib
import ctypes
import gc
import math
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import microgrid as mg
from microgrid.compiler.stages import Stages
from microgrid.compiler.targets.native import cache, engine, known, llvm

ENGINE = "microgrid.compiler.targets.native"
POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has neither modes nor owners of this kind")


def text(factor=3.0):
    return f"""
define void @run(ptr %theta, ptr %x, ptr %y, i64 %n) {{
  %number = load double, ptr %x
  %product = fmul double %number, {factor}
  store double %product, ptr %y
  ret void
}}"""


def product(machine, number=7.0):
    x, y = np.array([number]), np.array([0.0])
    machine.function(3)(0, x.ctypes.data, y.ctypes.data, 1)
    return y.item()


def compiled(factor=3.0):
    """Load a program; return whether it came from the disk, after seeing that it computes."""
    machine = engine.load(text(factor))
    assert product(machine) == factor * 7.0
    return machine.cached


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("MICROGRID_CACHE", str(folder))
    return folder


def test_machine_code_runs_and_is_shown(folder):
    machine = engine.load(text())
    assert product(machine) == 21.0
    assert "run:" in machine.assembly()
    assert machine.text == text()


def test_the_function_keeps_its_machine_code(folder):
    function = engine.load(text(11.0)).function(3)
    x, y = np.array([2.0]), np.array([0.0])
    function(0, x.ctypes.data, y.ctypes.data, 1)
    assert y.item() == 22.0


def test_a_long_program_is_compiled_in_another_way_and_computes_the_same(folder):
    short, long = engine.load(text()), engine.load(text(), statements=engine.SIMPLE + 1)
    assert product(short) == product(long)
    assert len([*folder.iterdir()]) == 2


def test_a_program_that_runs_shortly_is_compiled_in_another_way_and_computes_the_same(folder):
    assert product(engine.load(text())) == product(engine.load(text(), thorough=False))
    assert len([*folder.iterdir()]) == 2


def test_one_process_has_the_same_code_once(folder):
    machine = engine.load(text())
    assert engine.load(text()) is machine
    assert engine.load(text(4.0)) is not machine


def test_declared_functions_are_those_that_the_caller_names(folder, capfd):
    program = "declare double @more(double)\n" + text().replace(
        "fmul double %number, 3.0", "call double @more(double %number)"
    )
    kind = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)
    callbacks = kind(lambda x: x + 0.5), kind(lambda x: x + 1.0)
    half, one = [ctypes.cast(callback, ctypes.c_void_p).value for callback in callbacks]
    machines = [engine.load(program, symbols={"more": address}) for address in (half, one)]
    assert [product(machine) for machine in machines] == [7.5, 8.0]
    with pytest.raises(engine.NativeError, match="materialize"):
        engine.load(program)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("define void @run( {", "expected type"),
        ("define void @run() {\n  ret i64 1\n}", "doesn't match function result type"),
        (text().replace("%x\n", "%z\n"), "use of undefined value '%z'"),
        (
            "define i64 @run(i64 %x) {\n  br label %a\na:\n  ret i64 %y\nb:\n  %y = add i64 1, 1\n  ret i64 0\n}",
            "dominate",
        ),
        (text().replace("@run", "@walk"), "Symbols not found: .* run"),
    ],
)
def test_a_wrong_text_is_an_error_that_says_why(wrong, reason, folder, capfd):
    with pytest.raises(engine.NativeError, match=reason):
        engine.load(wrong)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("features", "machine", "width", "fma", "registers"),
    [
        ({"avx512f": True, "avx512dq": True, "avx2": True, "fma": True}, "x86_64", 8, True, 32),
        ({"avx512f": True, "avx512dq": False, "avx2": True, "fma": True}, "x86_64", 4, True, 16),
        ({"avx512f": False, "avx2": False, "fma": False}, "AMD64", 2, False, 16),
        ({"neon": True}, "aarch64", 2, True, 32),
        ({"neon": True}, "arm64", 2, True, 32),
    ],
)
def test_vectors_are_as_wide_and_as_many_as_the_processors(features, machine, width, fma, registers, monkeypatch):
    class Features(dict):
        def flatten(self):
            return ",".join(self)

    class Binding:
        get_host_cpu_name = staticmethod(lambda: "some")
        get_host_cpu_features = staticmethod(lambda: Features(features))

    monkeypatch.setattr(engine, "_llvm", lambda: Binding)
    monkeypatch.setattr(engine.platform, "machine", lambda: machine)
    assert engine.processor.__wrapped__() == engine.Processor("some", ",".join(features), width, fma, registers)


def test_without_llvmlite_the_error_names_the_extra():
    code = f"import sys; sys.modules['llvmlite'] = None; from {ENGINE} import engine; engine.load('')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'run: pip install "microgrid-autograd[native]"' in done.stderr


# -- the cache -----------------------------------------------------------------------------------------------


def test_what_was_compiled_once_comes_from_the_disk(folder):
    assert [compiled(), compiled(), compiled(5.0), compiled(5.0)] == [False, True, False, True]


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("processor", lambda: engine.Processor("another", "", 2, False, 16)),
        ("_PASSES", {"loop_vectorization": True}),
        ("require", lambda *_: types.SimpleNamespace(__version__="another")),
    ],
)
def test_what_was_compiled_elsewhere_or_otherwise_is_not_used(name, other, folder, monkeypatch):
    compiled()
    monkeypatch.setattr(engine, name, other)
    assert not compiled()
    assert compiled()


@POSIX
def test_the_cache_is_closed_to_others(folder):
    compiled()
    (file,) = folder.iterdir()
    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content, other: b"",
        lambda content, other: content[:-1],
        lambda content, other: content[:20],
        lambda content, other: content + b"\0",
        lambda content, other: flipped(content, 0),
        lambda content, other: flipped(content, 40),
        lambda content, other: flipped(content, -5),
        lambda content, other: b"\x7fELF" + bytes(1000),
        lambda content, other: other,
    ],
    ids=["empty", "short", "header", "long", "magic", "digest", "code", "foreign", "another program's"],
)
def test_a_file_that_is_not_what_it_should_be_is_replaced(spoil, folder):
    compiled(2.0)
    (file,) = folder.iterdir()
    other = file.read_bytes()
    file.unlink()
    compiled()
    (file,) = folder.iterdir()
    content = file.read_bytes()
    file.write_bytes(spoil(content, other))
    assert not compiled()
    assert file.read_bytes() == content
    assert compiled()


@POSIX
def test_a_link_in_the_cache_is_not_followed(folder, tmp_path):
    compiled()
    (file,) = folder.iterdir()
    elsewhere = file.rename(tmp_path / "elsewhere")
    file.symlink_to(elsewhere)
    assert not compiled()
    assert not file.is_symlink()
    assert compiled()


@POSIX
def test_a_pipe_in_the_cache_is_not_waited_for(folder):
    compiled()
    (file,) = folder.iterdir()
    file.unlink()
    os.mkfifo(file)
    assert not compiled()
    assert file.is_file()
    assert compiled()


def is_a_link(folder):
    real = folder.with_name("real")
    real.mkdir(mode=0o700)
    folder.symlink_to(real)


def is_a_file(folder):
    folder.write_text("")


def is_below_a_file(folder):
    folder.parent.rmdir()
    folder.parent.write_text("")


def has_mode(mode):
    def spoil(folder):
        folder.mkdir()
        folder.chmod(mode)

    return spoil


@POSIX
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (is_a_link, "is a link"),
        (is_a_file, "Not a directory"),
        (is_below_a_file, "Not a directory"),
        (has_mode(0o777), "has the mode 777, not 700; run: chmod 700"),
        (has_mode(0o750), "has the mode 750"),
        (has_mode(0o500), "has the mode 500"),
    ],
)
def test_a_folder_that_may_not_be_the_users_own_is_left_alone(spoil, reason, tmp_path, monkeypatch):
    folder = tmp_path / "parent" / "cache"
    folder.parent.mkdir()
    monkeypatch.setenv("MICROGRID_CACHE", str(folder))
    spoil(folder)
    assert not compiled()
    assert not compiled()
    assert reason in cache.unusable()
    assert not folder.is_dir() or not [*folder.iterdir()]


@POSIX
def test_a_folder_of_another_user_is_left_alone(folder, monkeypatch):
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    assert not compiled()
    assert not compiled()
    assert "belongs to another user" in cache.unusable()
    assert not [*folder.iterdir()]


@pytest.mark.parametrize("off", ["off", "OFF"])
def test_the_cache_can_be_switched_off(off, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MICROGRID_CACHE", off)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not compiled()
    assert not compiled()
    assert cache.unusable() == "MICROGRID_CACHE is off"
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("broken", ["replace", "urandom", "open"])
def test_a_full_or_broken_disk_does_not_stop_anything(broken, folder, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, broken, fail)
    assert not compiled()
    monkeypatch.undo()
    assert not [*folder.iterdir()]


@pytest.mark.parametrize(
    ("platform", "variables", "place"),
    [
        ("linux", {"XDG_CACHE_HOME": "{}/xdg", "HOME": "{}"}, "xdg/microgrid"),
        ("linux", {"XDG_CACHE_HOME": "relative", "HOME": "{}"}, ".cache/microgrid"),
        ("linux", {"HOME": "{}"}, ".cache/microgrid"),
        ("darwin", {"HOME": "{}"}, "Library/Caches/microgrid"),
        ("win32", {"LOCALAPPDATA": "{}/Local", "HOME": "{}"}, "Local/microgrid/Cache"),
        ("win32", {"HOME": "{}"}, "AppData/Local/microgrid/Cache"),
    ],
)
@POSIX
def test_the_cache_is_where_the_platform_keeps_caches(platform, variables, place, tmp_path, monkeypatch):
    for name in ("MICROGRID_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    monkeypatch.setattr(sys, "platform", platform)
    assert cache.unusable() is None
    assert (tmp_path / place).is_dir()


@POSIX
@pytest.mark.parametrize(("asked", "reason"), [("~/mine", None), ("~nobody-of-this-name/mine", "home directory")])
def test_a_folder_may_be_named_from_the_home_of_the_user(asked, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MICROGRID_CACHE", asked)
    assert not compiled(17.0)
    assert reason is None or reason in cache.unusable()
    assert [path.name for path in tmp_path.iterdir()] == ["home"] * (reason is None)


def test_without_a_home_there_is_no_cache(monkeypatch):
    def fail():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MICROGRID_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", fail)
    assert not compiled(13.0)
    assert "home directory" in cache.unusable()


def test_of_too_much_what_was_not_used_for_long_goes(folder, monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 20_000)
    used = "f" * 64
    cache.write(used, b"used")
    for k in range(300):
        cache.write(f"{k % 16:x}{k:063x}", bytes(1000))
        if k % 10 == 0:
            os.utime(folder / used, (k, k))  # long ago
            assert cache.read(used) == b"used"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 20_000 + 16 * 1100
    assert cache.read(used) == b"used"
    assert cache.read(f"{299 % 16:x}{299:063x}") == bytes(1000)
    assert cache.read(f"0{0:063x}") is None


def test_files_that_are_not_of_the_cache_stay_whatever_their_size(folder, monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 2000)
    folder.mkdir(mode=0o700)
    for name in ("thesis.tex", "f" * 63, "f" * 64 + ".txt"):
        (folder / name).write_bytes(bytes(3000))
        os.utime(folder / name, (1, 1))
    left_behind = folder / f"{'e' * 64}.{'0' * 12}.draft"
    left_behind.write_bytes(bytes(3000))
    os.utime(left_behind, (1, 1))
    for k in range(5):
        cache.write(f"0{k:063x}", bytes(1000))
    assert {"thesis.tex", "f" * 63, "f" * 64 + ".txt"} < {file.name for file in folder.iterdir()}
    assert not left_behind.exists()
    assert cache.read(f"0{4:063x}") == bytes(1000)
    assert cache.read(f"0{0:063x}") is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork() here")
def test_a_child_that_is_forked_while_a_thread_compiles_can_compile(folder):
    code = f"""
import os, signal, threading
from {ENGINE} import engine
loading, forked = threading.Event(), threading.Event()
target = engine._target
def slowly(level):
    loading.set()
    forked.wait(0.5)
    return target(level)
engine._target = slowly
thread = threading.Thread(target=engine.load, args=({text(5.0)!r},))
thread.start()
loading.wait()
child = os.fork()
if not child:
    signal.alarm(20)
    engine.load({text(6.0)!r})
    os._exit(0)
forked.set()
thread.join()
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", code], check=True, timeout=60)


@pytest.mark.skipif(sys.platform != "linux", reason="what a process takes now is read as Linux tells it")
def test_a_program_that_is_no_more_leaves_little_memory_behind(monkeypatch):
    def taken():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    monkeypatch.setenv("MICROGRID_CACHE", "off")
    for k in range(20):
        engine.load(text(100.5 + k))
    before = taken()
    for k in range(200):
        engine.load(text(200.5 + k))
    assert taken() - before < 200 * 25_000


def test_processes_that_compile_the_same_at_once_do_not_disturb_each_other(folder):
    code = f"""
import numpy as np
from {ENGINE} import engine
for factor in range(1, 30):
    x, y = np.array([7.0]), np.array([0.0])
    engine.load({text("FACTOR.0")!r}.replace("FACTOR", str(factor))).function(3)(0, x.ctypes.data, y.ctypes.data, 1)
    assert y.item() == 7.0 * factor, (factor, y)
"""
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    try:
        assert [process.wait() for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            with contextlib.suppress(OSError):
                process.kill()
    assert len([*folder.iterdir()]) == 29
    assert all(compiled(float(factor)) for factor in range(1, 30))


POINT = np.random.default_rng(0).normal(size=64)


def slope(function):
    kernel = mg.compile(function, target="native", batch=False).kernel(POINT)
    return kernel, kernel.value_and_grad([], POINT, by="arguments")[1][0]


def scaled(factor):
    """A row of the user's, whose name does not say what it is."""
    row = mg.Op("scaled", lambda x: factor * x, (lambda y, x: y / x,), expansion=lambda x: x * factor)
    return lambda x: mg.total([mg.sin(row(t)) for t in x])


def weighted(seed):
    weights = np.random.default_rng(seed).normal(size=64).tolist()
    return lambda x: mg.dot(weights, [mg.exp(t) for t in x])


def chosen(seed):
    order = np.random.default_rng(seed).permutation(64).tolist()
    return lambda x: mg.total([mg.exp(x[i]) * t for i, t in zip(order, x, strict=True)])


def leaking(slope):
    return lambda x: mg.total([mg.exp(mg.leaky_relu(t, slope)) for t in x])


def times(number):
    return lambda x: mg.total([mg.exp(number * t) for t in x])


ALIKE = [(leaking, 0.1, 0.2), (times, 2.5, 3.5), (weighted, 1, 2), (scaled, 2.0, 3.0), (chosen, 1, 2)]
"""Functions of one form, and by what they differ."""


@pytest.mark.parametrize(("form", "one", "other"), ALIKE)
def test_programs_that_are_nearly_the_same_are_not_taken_for_each_other(folder, form, one, other):
    for which in (one, other, one):
        x = [mg.Value(t) for t in POINT]
        form(which)(x).backward()
        np.testing.assert_allclose(slope(form(which))[1], [t.grad for t in x], rtol=1e-13)


def test_a_program_in_the_cache_is_not_written_again_before_somebody_asks_for_it(folder, monkeypatch):
    function = times(2.5)
    kernel, first = slope(function)
    shown = kernel.dump("llvm")
    emitted = []
    monkeypatch.setattr(
        llvm, "emit", lambda *given, emit=llvm.emit, **named: emitted.append(0) or emit(*given, **named)
    )
    again, second = slope(function)
    assert np.array_equal(first, second)
    assert not emitted
    assert again.dump("llvm") == shown


def long(scale=1.0, row=mg.sin, reduce="mean", dtype="float64", target=None):
    """A function of so many scalars that it is recognised by them; what it gives and its gradient by the parameters."""
    weights = [mg.Value(0.01 * k) for k in range(600)]

    def function(xs):
        return mg.mean([row(w * x * scale + k % 7) for k, w in enumerate(weights) for x in xs])

    xs = np.linspace(0.5, 2.0, 4).reshape(2, 2)
    kernel = mg.compile(function, reduce=reduce, dtype=dtype, target=target).kernel(xs)
    value, gradient = kernel.value_and_grad(kernel.read(), xs)
    samples = [function(x) for x in xs.tolist()]
    expected = samples[0] + samples[1] if reduce == "sum" else mg.mean(samples)
    expected.backward()
    places = {w: k for k, w in enumerate(weights)}
    exact = [weights[places[p]].grad for p in kernel.parameters]
    precision = {"float64": 1e-12, "float32": 1e-4}[dtype]
    assert value == pytest.approx(expected.data, rel=precision)
    assert kernel.value(kernel.read(), xs) == pytest.approx(expected.data, rel=precision)
    assert gradient == pytest.approx(exact, rel=precision, abs=precision)
    return kernel


@pytest.fixture
def analysed(folder, monkeypatch):
    """A list that grows with each program that is taken apart into classes; code is native."""
    monkeypatch.setenv("MICROGRID_NATIVE", "")
    found, analyse = [], Stages._analysed
    monkeypatch.setattr(Stages, "_analysed", lambda stages: found.append(stages) or analyse(stages))
    return found


@pytest.mark.parametrize("target", [None, "native"])
def test_a_long_program_in_the_cache_is_not_looked_into_before_somebody_asks_for_it(analysed, target):
    shown = long(target=target).dump("llvm")
    seen = len(analysed)
    again = long(target=target)
    assert len(analysed) == seen
    assert again.dump("llvm") == shown
    assert (again.target, again.why_not) == ("native", {})


def cosine(name):
    return mg.Op(name, forward=math.cos, partials=(lambda y, x: -mg.sin(x),), expansion=mg.cos)


@pytest.mark.parametrize(
    "other",
    [{"scale": -1.0}, {"row": mg.cos}, {"row": cosine("sin")}, {"reduce": "sum"}, {"dtype": "float32"}],
    ids=lambda other: next(iter(other)),
)
def test_long_programs_that_are_nearly_the_same_are_not_taken_for_each_other(analysed, other):
    for options in ({}, other, {}, other):
        assert long(**options).target == "native"


def test_a_long_program_with_rows_of_the_users_is_made_anew(analysed):
    for row in (cosine("mine"), mg.Op("mine", math.sin, (lambda y, x: mg.cos(x),), expansion=mg.sin)):
        seen = len(analysed)
        long(row=row)
        assert len(analysed) == seen + 1


@pytest.mark.parametrize("spoil", [lambda file: file.unlink(), lambda file: file.write_bytes(b"foreign")])
def test_a_long_program_of_which_something_is_not_in_the_cache_is_made_whole(spoil, folder, analysed):
    long()
    for name in sorted(file.name for file in folder.iterdir()):
        spoil(folder / name)
        long()
        seen = len(analysed)
        long()
        assert len(analysed) == seen


@pytest.mark.parametrize(
    ("module", "name", "other"),
    [
        (engine, "processor", lambda: engine.Processor("another", "", 2, False, 16)),
        (known, "_sources", lambda: "others"),
        (known.np, "__version__", "another"),
    ],
)
def test_a_long_program_that_was_made_elsewhere_or_otherwise_is_made_anew(analysed, monkeypatch, module, name, other):
    kernel = long()
    stages, task = kernel.stages, kernel.stages.own_task
    before = known.key_of_scalars(stages, task)
    assert before == known.key_of_scalars(stages, task)
    monkeypatch.setattr(module, name, other)
    assert known.key_of_scalars(stages, task) != before


def test_making_machine_code_leaves_nothing_of_ours_to_the_garbage_collector():
    def use(c):
        w = mg.Value(2.0)
        mg.compile(lambda x: mg.sin(w * x) * c, target="native")([1.0, 2.0]).backward()

    use(1.0)  # what is loaded or cached once stays
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        use(2.0)
        gc.collect()
        modules = [getattr(thing, "__module__", None) or type(thing).__module__ for thing in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert [module for module in modules if str(module).startswith("microgrid")] == []  # llvmlite leaves some
