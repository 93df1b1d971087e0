"""Packages that are not installed, and outputs whose encoding lacks letters: sentences, never surprises."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import microgrid as mg
from microgrid.environment import displayable, require

PACKAGE = Path(mg.__file__).parent


def run(*command: str, encoding: str = "utf-8", **options: str) -> "subprocess.CompletedProcess[bytes]":
    environment = {**os.environ, "PYTHONIOENCODING": encoding, **options}
    return subprocess.run([sys.executable, *command], capture_output=True, env=environment, check=False)


# ---------------------------------------------------------------------------------------------------
# Packages that are not installed

WITHOUT = {
    ("numpy", "mg.compile(lambda x: x)"): "compile",
    ("numpy", "mg.Kernel"): "compile",
    ("numpy", "mg.TraceError"): "compile",
    ("numpy", "mg.fit"): "compile",
    ("numpy", "mg.evaluate"): "compile",
    ("numpy", "import microgrid.compiler.kernel"): "compile",
    ("numpy", "import microgrid.training"): "compile",
    ("numpy", "import microgrid.data"): "data",
    ("numpy", "mg.data.moons()"): "data",
    ("sklearn", "mg.data.digits()"): "data",
    ("scipy", "mg.compile(mg.erf)([0.5, 1.0])"): "compile",
    ("scipy", "mg.compile(mg.gamma)([0.5, 1.0])"): "compile",
    ("scipy", "mg.compile(mg.lgamma)([0.5, 1.0])"): "compile",
    ("jax", "mg.compile(lambda x: x).kernel([1.0]).to_jax()"): "jax",
    ("hypothesis", "import microgrid.strategies"): "hypothesis",
    ("hypothesis", "mg.strategies"): "hypothesis",
    ("cairosvg", "mg.draw(mg.Value(1.0) + 1.0).save('graph.pdf')"): "pdf",
    ("matplotlib", "mg.plot_boundary(lambda x: x[0], [[0.0, 1.0], [1.0, 0.0]], [0, 1])"): "plot",
    ("matplotlib", "mg.fit; mg.History().plot()"): "plot",
    ("matplotlib", "mg.fit; mg.History().plot('curve.png')"): "plot",
    ("numpy", "from microgrid.__main__ import main; main([])"): "demo",
    ("sklearn", "from microgrid.__main__ import main; main([])"): "demo",
    ("scipy", "from microgrid.__main__ import main; main([])"): "demo",
    ("matplotlib", "from microgrid.__main__ import main; main([])"): "demo",
}
"""A package that is not there, what is asked for, and the extra that it needs."""

BLOCKED = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Nothing())
import microgrid as mg
{code}
"""


@pytest.mark.parametrize(("module", "code"), WITHOUT)
def test_without_a_package_the_extra_that_brings_it_is_named(module: str, code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(module=module, code=code)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1]
    extra = WITHOUT[module, code]
    assert f"needs {module}, which is not installed" in last
    assert last.endswith(f'run: pip install "microgrid-autograd[{extra}]"')


def test_every_extra_that_is_named_is_one() -> None:
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f"\n{extra} = [" in project for extra in WITHOUT.values())


def test_a_package_that_lacks_one_of_its_own_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "halfway.py").write_text("import no_such_thing")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_thing'"):
        require("halfway", "test", "data")


# ---------------------------------------------------------------------------------------------------
# Encodings

ENCODINGS = ("cp949", "cp1252", "ascii")

PRINTED = {
    "a report that fails": "print(mg.check(lambda x: e(x) * -2.0, 0.5))",
    "a report with a kink": "print(mg.check(mg.abs, -0.0)); print(repr(mg.check(mg.log, -1.0)))",
    "a report on an operation": "print(mg.check_op(mg.tanh))",
    "a report with letters of its own": "print(mg.check(mg.sin(mg.Value(0.5, 'θ한'))))",
    "a report in colour": "import rich; rich.print(mg.check(e, 0.5))",
    "a picture": "x = mg.Value(2.0, 'x'); y = x * -x; y.backward(); print(mg.draw(y))",
    "an explorer": "print(mg.explore(mg.Value(1.0) - 2.0))",
    "a value": "print(mg.Value(-1.0, 'w') - math.inf)",
    "a kernel": "k = mg.compile(lambda x: -mg.gelu(x)).kernel([1.0, 2.0]); print(k, k.source, k.dump())",
    "a network": "print(mg.nn.MLP(2, [3, 1]))",
    "training": (
        "import random; m = mg.nn.Sequential(mg.nn.Affine(1, 1), lambda x: x * random.random()); "
        "print(mg.fit(m, [[1.0], [2.0]], [[1.0], [2.0]], loss=mg.losses.mean_squared_error, "
        "optimizer=mg.optim.SGD(m.parameters(), 0.1), epochs=2))"
    ),
    "operations": "print(*mg.ops.rows())",
    "a program": "print(mg.strategies.Expression.of(mg.Value(1.0) - mg.Value(-2.0)))",
    "an anomaly": (
        "try:\n    with mg.detect_anomaly(): mg.log(mg.Value(-1.0))\n"
        "except ArithmeticError as error: print(error, file=sys.stderr)"
    ),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("what", PRINTED)
def test_whatever_is_printed_an_encoding_that_lacks_its_letters_does_no_harm(what: str, encoding: str) -> None:
    code = "import math, sys\nimport microgrid as mg\n"
    code += f"w, e = mg.Value(0.5, 'w'), mg.Op('e', math.exp, (-1.5,))\n{PRINTED[what]}"
    done = run("-c", code, encoding=encoding, PYTHONPATH=str(PACKAGE.parent))
    assert done.returncode == 0, done.stderr.decode(encoding)
    text = (done.stdout + done.stderr).decode(encoding)
    assert text.strip()
    assert "\\u" not in text.replace("\\ud55c", ""), "mathematics has a form in ASCII"


COMMANDS = [
    ["--help"],
    ["explain", "--help"],
    ["explain", "tanh(x*w - b)", "x=2", "w=-3", "b=-6.88"],
    ["explain", "abs(x) + log(y) + sqrt(z)", "x=0", "y=-1", "z=0"],
    ["explain", "sin(θ)^2", "θ=1"],
    ["explain", "sin(각도) − 1", "각도=1"],
    ["explain", "sin(각도) - x1", "각도=1", "x1=-3", "-o", "graph.svg"],
    ["explain", "x +", "x=1"],
    ["--out", "results", "--epochs", "1"],
    ["--epochs", "−1"],
]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_prints_in_every_encoding(command: list[str], encoding: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "microgrid", *command],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(PACKAGE.parent)},
        check=False,
    )
    text = (done.stdout + done.stderr).decode(encoding)
    assert "Traceback" not in text
    assert text.strip()


def test_a_report_keeps_its_letters_where_they_can_be_shown() -> None:
    code = "import microgrid as mg; print(mg.check(mg.sin, -1.0))"
    assert "✓ PASS" in run("-c", code, PYTHONPATH=str(PACKAGE.parent)).stdout.decode()
    assert "+ PASS" in run("-c", code, encoding="ascii", PYTHONPATH=str(PACKAGE.parent)).stdout.decode()


@given(st.text(), st.sampled_from(["utf-8", "cp949", "cp1252", "ascii", "utf-16", "shift_jis"]))
def test_any_text_can_be_shown_in_any_encoding(text: str, encoding: str) -> None:
    shown = displayable(text, encoding)
    shown.encode(encoding)
    assert displayable("x", encoding) == "x"
    if text.isascii():
        assert shown == text


def test_every_letter_that_the_package_writes_has_a_form_in_ascii() -> None:
    written: dict[str, str] = {}
    for path in (path for path in PACKAGE.rglob("*.py") if path.parent.name != "drawing"):  # which prints none
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
                written |= {c: f"{path.name}:{node.lineno}" for c in node.value if not c.isascii()}
    escaped = {c: where for c, where in written.items() if "\\" in displayable(c, "ascii")}
    assert escaped == {}
    assert displayable("x² − 10⁻¹⁶ ≈ ½·θ ✓", "ascii") == "x^2 - 10^-16 ~ 1/2*theta +"


def test_pass_and_fail_are_told_from_arithmetic_in_ascii() -> None:
    assert displayable("✗ FAIL", "ascii") == "! FAIL"
    assert displayable("2 × 3", "ascii") == "2 * 3"
    assert displayable("✓ PASS", "ascii") == "+ PASS"


def test_what_no_extra_brings_is_named_itself() -> None:
    with pytest.raises(ModuleNotFoundError) as caught:
        require("no_such_package.module", "this picture")
    assert str(caught.value) == (
        "this picture needs no_such_package, which is not installed; run: pip install no_such_package"
    )
