"""python -m microgrid, as a user runs it."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from microgrid import Op, __compiled__, __version__, data, ops, training
from microgrid.__main__ import main
from microgrid.engine import Value
from microgrid.expressions import FUNCTIONS
from microgrid.nn import MLP
from microgrid.training import evaluate

NEURON = ["explain", "tanh(x1*w1 + x2*w2 + b)", "x1=2", "x2=0", "w1=-3", "w2=1", "b=6.88"]


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "microgrid", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
    )


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


def test_the_main_job_trains_checks_and_leaves_its_results(tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert main(["--epochs", "1", "--out", str(out)]) == 0
    printed, log = capsys.readouterr()
    assert "\x1b" not in printed + log
    assert all(len(line) <= 80 for line in printed.splitlines() if str(out) not in line)
    assert re.search(r"epoch 1/1  loss [\d.]+  right [\d.]+%  validation [\d.]+%", log)
    assert re.search(r"check +PASS +\d+ gradients match numeric ones to \de-1\d", printed)

    model = MLP(64, [32, 10]).load(out / "network.json")
    split = data.digits()
    found = dict(re.findall(r"(train|test) +([\d.]+)%", printed))
    for name, X, y in (("train", split.X_train, split.y_train), ("test", split.X_test, split.y_test)):
        accuracy = evaluate(model, X, y).accuracy
        assert accuracy > 0.85
        assert found[name] == f"{100 * accuracy:.1f}"
    assert is_png(out / "learning-curve.png")
    assert is_png(out / "neuron.png")
    texts = "".join(ElementTree.parse(out / "neuron.svg").getroot().itertext())
    assert f"score of {split.y_test[0]}" in texts
    assert "26 smaller products" in texts
    for page, said in {
        "training.html": "A network of scalars learns digits",
        "neuron.html": "that scores the digit",
    }.items():
        text = (out / page).read_text(encoding="utf-8")
        assert said in text
        assert "<script>" in text, "it plays"
        assert page in printed


def test_eager_training_leaves_the_same_network(tmp_path, capsys, monkeypatch):
    few = data.Split(*[part[:40] for part in data.digits()])
    monkeypatch.setattr(data, "digits", lambda seed: few)
    networks = []
    for arguments in ([], ["--eager"]):
        assert main(["--epochs", "2", "--out", str(tmp_path), *arguments]) == 0
        networks.append(MLP(64, [32, 10]).load(tmp_path / "network.json").state_dict())
    compiled, eager = networks
    assert compiled == pytest.approx(eager, rel=1e-9, abs=1e-12)
    assert compiled != eager  # sums are added up in another order


def test_control_c_keeps_the_network_and_the_curve(tmp_path):
    process = start("--epochs", 1000, "--out", tmp_path, FORCE_COLOR="1", COLUMNS="80")
    shown = ""
    while "epoch 1/1000  loss" not in shown:  # the bar shows the first loss after the first update
        shown += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 130
    assert re.search(r"interrupted after \d+ epoch", log)
    assert "Traceback" not in log
    untrained = MLP(64, [32, 10], init="he", seed=0).state_dict()
    assert MLP(64, [32, 10]).load(tmp_path / "network.json").state_dict() != untrained
    assert is_png(tmp_path / "learning-curve.png")


def test_a_loss_that_overflows_is_explained_and_the_good_network_kept(tmp_path, capsys):
    assert main(["--learning-rate", "1e300", "--out", str(tmp_path), "--quiet"]) == 1
    assert re.search(
        r"error: training stopped in epoch 1, minibatch 2, .* is -?(inf|nan), .* a smaller learning rate often helps",
        capsys.readouterr().err,
    )
    numbers = json.loads((tmp_path / "network.json").read_text())["parameters"].values()
    assert all(isinstance(x, float) and math.isfinite(x) for x in numbers)
    assert is_png(tmp_path / "learning-curve.png")


@pytest.mark.parametrize("path", ["file", "file/below", "file/below/deep"])
def test_a_folder_that_cannot_be_is_refused_before_training(tmp_path, capsys, path):
    (tmp_path / "file").write_text("mine")
    assert main(["--out", str(tmp_path / path)]) == 2
    printed, log = capsys.readouterr()
    assert printed == ""
    assert re.fullmatch(r"error: cannot write in the folder '.*file.*' \(.*\); name another with --out\n", log)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("missing", [["sklearn"], ["numpy", "matplotlib"]])
def test_missing_extras_are_named_before_anything_is_made(tmp_path, capsys, monkeypatch, missing):
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["--out", str(tmp_path / "results")]) == 2
    error = (
        f'error: this command needs {missing[0]}, which is not installed; run: pip install "microgrid-autograd[demo]"\n'
    )
    assert capsys.readouterr() == ("", error)
    assert not (tmp_path / "results").exists()


def test_a_missing_renderer_is_named_before_training(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MICROGRID_DOT", "no-such-program")
    assert main(["--out", str(tmp_path / "results")]) == 2
    assert "the renderer 'no-such-program' is not a program that can be run" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_explain_prints_value_gradient_and_check_of_every_name_and_draws(tmp_path):
    process = start(*NEURON, "-o", tmp_path / "neuron.svg")
    printed, log = process.communicate(timeout=60)
    assert (process.returncode, log) == (0, "")
    first, _, header, *rows, _, last = printed.splitlines()
    y = math.tanh(2.0 * -3.0 + 6.88)
    assert first == f"tanh(x1*w1 + x2*w2 + b) = {y!r}"
    assert header.split() == ["name", "value", "gradient", "numeric", "error", "check"]
    slope = 1.0 - y * y
    expected = {"x1": (2, -3 * slope), "w1": (-3, 2 * slope), "x2": (0, slope), "w2": (1, 0), "b": (6.88, slope)}
    assert [row.split()[0] for row in rows] == list(expected)
    for row in rows:
        name, value, gradient, numeric, _, verdict = row.split()
        assert (float(value), float(gradient)) == pytest.approx(expected[name], rel=1e-9)
        assert float(numeric) == pytest.approx(float(gradient), rel=1e-9, abs=1e-12)
        assert verdict == "PASS"
    assert last == f"drawn in {tmp_path / 'neuron.svg'}"
    texts = "".join(ElementTree.parse(tmp_path / "neuron.svg").getroot().itertext())
    assert all(name in texts for name in expected)


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["-x*2", "x=3"], ["-x*2 = -6.0", "x 3 -2 -2 0 PASS"]),
        (["2 + 3"], ["2 + 3 = 5.0"]),
        (["x", "x=pi/2"], ["x = 1.5707963267948966", "x 1.5708 1 1 0 PASS"]),
        (["각도*2", "각도=1e3"], ["각도*2 = 2000.0", "각도 1000 2 2 0 PASS"]),
        (["ﬁ*2", "ﬁ=1"], ["fi 1 2 2 0 PASS"]),
        (["abs(x) + y", "x=0", "y=1"], ["KINK", "x: abs(x=0) changes its branch at this very point"]),
        (
            ["log(x)*y", "x=-1", "y=2"],
            ["log(x)*y = nan", "x, y: the function is nan at this point: log(x=−1) is nan\n"],
        ),
    ],
)
def test_explain_takes_any_formula(capsys, arguments, printed):
    assert main(["explain", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    for text in printed:
        assert text in re.sub(" +", " ", shown)


@pytest.mark.parametrize(
    ("formula", "gradient"), [("log(x)", "inf"), ("1/x", "-inf"), ("sqrt(x)", "inf"), ("0/x", "nan")]
)
def test_explain_prints_the_gradient_of_the_engine_where_nothing_can_be_checked(capsys, formula, gradient):
    assert main(["explain", formula, "x=0"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("x "))
    assert row.split()[1:] == ["0", gradient, "nan", "nan", "DOMAIN"]


def test_explain_writes_the_page_that_plays_both_passes(tmp_path):
    path = tmp_path / "neuron.html"
    assert main([*NEURON, "-o", str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    assert "<script>" in text
    assert 'id="play"' in text


def test_explain_prints_the_steps_of_both_passes(capsys):
    assert main(["explain", "-x*y + x**2", "--steps", "x=3", "y=-2"]) == 0
    _, steps = capsys.readouterr().out.split("Forward\n")
    forward, backward = steps.split("Backward\n")
    assert [line.split(" = ")[1:] for line in forward.splitlines()] == [
        ["−x", "−3"],
        ["v₁ × y", "(−3) × (−2)", "6"],
        ["x²", "3²", "9"],
        ["v₃ + v₄", "6 + 9", "15"],
    ]
    lines = [re.sub(" +", " ", line.strip()) for line in backward.splitlines()]
    assert lines[0] == "v₅.grad = 1"
    assert "v₁.grad += 1 × (−2) = −2 where ∂v₃/∂v₁ = y = −2" in lines
    assert [line for line in lines if line.startswith("x.grad")] == [
        "x.grad += 1 × 6 = 6 where ∂v₄/∂x = 2 × x = 6",
        "x.grad += −2 × (−1) = 2, together 8 where ∂v₁/∂x = −1",
    ]


def test_steps_say_what_a_node_sends_to_itself_by_two_edges_and_nothing_where_nothing_flows(capsys):
    assert main(["explain", "x*x + floor(x)", "x=1.5", "--steps"]) == 0
    shown = capsys.readouterr().out
    assert re.findall(r"x\.grad .*?= ([−\d.]+)(?:, together ([\d.]+))?    where", shown) == [("1.5", ""), ("1.5", "3")]


def test_explain_draws_every_format_and_a_picture_replaces_the_one_before(tmp_path):
    path = tmp_path / "graph.png"
    path.write_text("old")
    assert main([*NEURON, "--output", str(path)]) == 0
    assert is_png(path)
    assert main([*NEURON, f"--output={tmp_path / 'graph.dot'}"]) == 0
    assert "digraph" in (tmp_path / "graph.dot").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tanhh(x)", "x=1"], "error: unknown function 'tanhh' (did you mean tanh"),
        (["x*y", "x=1"], "error: no number is given for 'y'; add y=…\n  x*y\n    ^ column 3"),
        (["x", "x=1", "y=2"], "error: 'y' has a number but is not in the formula"),
        (["x", "x=1", "x=2"], "error: 'x' is given twice; give it one number"),
        (["x", "x=two"], "error: 'x=two' does not give x a number: no number is given for 'two'"),
        (["x", "x="], "error: 'x=' does not give x a number: the formula is empty"),
        (["x", "x"], "error: expected name=number, such as x=2; got 'x'"),
        (["x", "2x=3"], "error: expected name=number, such as x=2; got '2x=3'"),
        (["[bold]x", "x=1"], "  [bold]x\n"),
        (["-" * 9000 + "x", "x=1"], "error: the formula of 9,001 characters is nested too deep"),
        (["x", "x=1", "-o", "x.gif"], "error: cannot tell the format of a picture from 'x.gif'"),
        (["x", "x=1", "-o", __file__ + "/x.svg"], "Give a path in a folder that exists and that you can write to"),
    ],
)
def test_explain_refuses_with_a_reason(capsys, arguments, said):
    assert main(["explain", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--epochs", "0"], "argument --epochs: expected a whole number, 1 or more; got '0'"),
        (["--batch-size", "x"], "argument --batch-size: expected a whole number, 1 or more; got 'x'"),
        (["--learning-rate", "-1"], "argument --learning-rate: expected a number above 0; got '-1'"),
        (["--learning-rate", "fast"], "argument --learning-rate: expected a number above 0; got 'fast'"),
        (["--seed", "1.5"], "argument --seed: invalid int value: '1.5'"),
        (["train"], "invalid choice: 'train' (choose from"),
        (["explain"], "the following arguments are required: formula"),
    ],
)
def test_bad_options_are_named(capsys, arguments, said):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["explain", "--help"], ["--version"]])
def test_help_and_version_fit_80_columns(capsys, monkeypatch, arguments):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main(arguments)
    shown = capsys.readouterr().out
    assert all(len(line) <= 80 for line in shown.splitlines())
    build = "compiled" if __compiled__ else "pure Python"
    version = f"microgrid {__version__} ({build})\n"
    assert shown == version if arguments == ["--version"] else "usage: python -m microgrid" in shown


def wrong_by_half(name):
    return Op(name, lambda x: max(x, 0.0), (lambda y, x: 0.5 * ops.greater(x, 0.0),))


def test_a_wrong_derivative_fails_the_explanation(capsys, monkeypatch):
    monkeypatch.setitem(FUNCTIONS, "ramp", (wrong_by_half("ramp"), range(1, 2)))
    assert main(["explain", "ramp(x)", "x=2"]) == 1
    assert re.search(r"x +2 +0\.5 +1 +0\.5 +FAIL *\nx: .*ramp", capsys.readouterr().out)


def test_a_wrong_derivative_fails_the_main_job(tmp_path, capsys, monkeypatch):
    wrong = wrong_by_half("relu")
    monkeypatch.setattr(Value, "relu", lambda x: wrong(x))
    monkeypatch.setattr(training, "fit", lambda *arguments, **options: training.History())
    few = data.Split(*(part[:10] for part in data.digits()))
    monkeypatch.setattr(data, "digits", lambda seed: few)
    assert main(["--out", str(tmp_path)]) == 1
    printed, log = capsys.readouterr()
    assert re.search(r"check +FAIL", printed)
    assert "relu" in log
    assert (tmp_path / "network.json").exists()


def test_infinite_numbers_and_leaves_that_cannot_matter_are_explained(capsys):
    assert main(["explain", "exp(-x)", "x=inf"]) == 0
    assert re.search(r"x +inf +-?0 +nan +nan +DOMAIN *\nx: an infinite number", capsys.readouterr().out)
    assert main(["explain", "0*x + y", "x=2", "y=3"]) == 0
    assert re.search(r"y +3 +1 +1 +0 +PASS *\n1 leaf cannot matter here.*: x\n", capsys.readouterr().out)


def test_control_c_outside_training_says_so(capsys, monkeypatch):
    def interrupted(text):
        raise KeyboardInterrupt

    monkeypatch.setattr("microgrid.__main__.parse", interrupted)
    assert main(["explain", "x", "x=1"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_model_that_cannot_be_saved_says_why(tmp_path, capsys, monkeypatch):
    """The folder vanishes while the network learns."""

    def fit(*arguments, **options):
        shutil.rmtree(tmp_path / "results")
        return training.History()

    monkeypatch.setattr(training, "fit", fit)
    assert main(["--out", str(tmp_path / "results")]) == 2
    assert re.search(r"error: cannot write '.*network\.json': No such file", capsys.readouterr().err)
