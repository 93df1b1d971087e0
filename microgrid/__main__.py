"""The command line.

``python -m microgrid`` trains a network of scalars on handwritten digits, and shows that it can be trusted.
``python -m microgrid explain "x*y + sin(x)" x=2 y=3`` takes a formula apart.
"""

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from microgrid import __compiled__, __version__
from microgrid.checking import Verdict, check
from microgrid.drawing import RendererError, draw
from microgrid.drawing.explorer import explore
from microgrid.drawing.rendering import find_renderer
from microgrid.drawing.replay import watch
from microgrid.drawing.transcript import transcript
from microgrid.engine import Value
from microgrid.environment import replace_what_cannot_be_shown, require
from microgrid.expressions import ALLOWED, CONSTANTS, ExpressionError, normal_name, parse
from microgrid.losses import cross_entropy
from microgrid.nn import MLP
from microgrid.ops import total
from microgrid.optim import Adam
from microgrid.recording import no_grad

SHOWN_PRODUCTS = 6
"""How many products of the drawn neuron are shown one by one: a picture of all 32 is too tall to read."""

CHECKED_PARAMETERS = 20
"""How many parameters are checked one by one; as many random directions over all of them are checked, too."""

FAILED, REFUSED, INTERRUPTED = 1, 2, 130
"""Exit codes: the work went wrong; the input is wrong and nothing was begun; Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        replace_what_cannot_be_shown(stream)
    options = _parser().parse_args(_formula_first(sys.argv[1:] if arguments is None else list(arguments)))
    try:
        code: int = options.run(options)
    except OSError as error:
        _say(f"error: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}")
        return REFUSED
    except (ImportError, RendererError, ValueError) as error:
        _say(f"error: {error}")
        return REFUSED
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m microgrid",
        description="Train a 64-32-10 network made of scalar nodes on 1,797 images of handwritten digits, check its "
        "gradients, and leave the network, its learning curve and the graph of one of its neurons in a folder.",
        epilog='Or take a formula apart: python -m microgrid explain "tanh(x*w + b)" x=2 w=-3 b=6.88 -o neuron.svg',
    )
    parser.set_defaults(run=_train)
    build = "compiled" if __compiled__ else "pure Python"
    parser.add_argument("--version", action="version", version=f"microgrid {__version__} ({build})")
    parser.add_argument(
        "--out", metavar="FOLDER", default="microgrid-digits", help="where to leave the results (%(default)s)"
    )
    parser.add_argument(
        "--epochs", metavar="N", type=_whole, default=40, help="how often to see each image (%(default)s)"
    )
    parser.add_argument(
        "--batch-size", metavar="N", type=_whole, default=32, help="images for each update (%(default)s)"
    )
    parser.add_argument(
        "--learning-rate", metavar="X", type=_positive, default=0.01, help="of Adam, falling to a tenth (%(default)s)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of split, weights and order (%(default)s)")
    parser.add_argument(
        "--eager", action="store_true", help="train sample by sample, not compiled: the same network, but slowly"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    explain = parser.add_subparsers(title="command", metavar="").add_parser(
        "explain",
        help="value, gradient and numeric check of every name in a formula",
        description="Print value, gradient and numeric check of every name in a formula, and draw its graph.",
        epilog=f"A formula takes {ALLOWED}, and the constants {', '.join(CONSTANTS)}.",
    )
    explain.set_defaults(run=_explain)
    explain.add_argument("formula", help='such as "tanh(x*w + b)"; it is read, never run as code')
    explain.add_argument("numbers", nargs="*", metavar="name=number", help="one for each name: x=2 w=-3 b=pi/2")
    explain.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="draw the graph: .svg, .png, .pdf or .dot, or .html for a page that plays both passes",
    )
    explain.add_argument("--steps", action="store_true", help="print both passes, step by step")
    return parser


def _formula_first(arguments: list[str]) -> list[str]:
    """Put the options of explain last, as argparse wants, and keep it from taking a formula with a minus for one."""
    if arguments[:1] != ["explain"]:
        return arguments
    formula, options = [], []
    given = iter(arguments[1:])
    for argument in given:
        if argument in ("-o", "--output"):
            options += [argument, *islice(given, 1)]
        elif argument.partition("=")[0] in ("-h", "--help", "--output", "--steps"):
            options.append(argument)
        else:
            formula.append(f" {argument}" if argument[:1] == "-" else argument)
    return ["explain", *formula, *options]


def _whole(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, 1 or more; got {text!r}")
    return number


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0; got {text!r}")
    return number


def _say(message: str) -> None:
    Console(stderr=True).print(Text(message), soft_wrap=True)


# ---------------------------------------------------------------------------------------------------
# python -m microgrid explain


def _explain(options: argparse.Namespace) -> int:
    expression = parse(options.formula)
    leaves = {name: Value(number, label=name) for name, number in _numbers(options.numbers).items()}
    result = expression.evaluate(leaves)
    output = result if isinstance(result, Value) else Value(result)  # a formula without names is a plain number
    output.backward()

    console = Console(highlight=False)
    console.print(Text(f"{expression.text} = {output.data!r}", style="bold"), soft_wrap=True)
    report = check(output, list(leaves.values())) if leaves else None
    if report is not None:
        table = Table("name", box=None, header_style="dim", pad_edge=False, padding=(0, 3, 0, 0))
        for column in ("value", "gradient", "numeric", "error"):
            table.add_column(column, justify="right", header_style="dim")
        table.add_column("check")
        rows = {row.name: row for row in report.derivatives}
        for name in filter(rows.__contains__, expression.names):  # in the order of the formula
            row, leaf = rows[name], leaves[name]
            error = math.nan if math.isnan(row.numeric) else row.error
            numbers = [f"{leaf.data:.6g}", f"{leaf.grad:.10g}", f"{row.numeric:.10g}", f"{error:.1g}"]
            table.add_row(Text(name), *numbers, Text(row.verdict, style=_style(row.verdict)))
        console.print()
        console.print(table)
        reasons: dict[str, list[str]] = {}
        for row in report.derivatives:
            reasons.setdefault(row.reason.partition(", made at ")[0], []).append(row.name)  # a formula has no lines
        for reason in filter(None, reasons):
            console.print(Text(f"{', '.join(reasons[reason])}: {reason}", style="dim"), soft_wrap=True)
        for note in report.notes:
            console.print(Text(note, style="dim"), soft_wrap=True)
    if options.steps:
        console.print(Text(f"\n{transcript(output)}"), soft_wrap=True)
    if options.output:
        is_page = Path(options.output).suffix.lower() in (".html", ".htm")
        path = (explore(output) if is_page else draw(output)).save(options.output)
        console.print(Text(f"\ndrawn in {path}"), soft_wrap=True)
    return FAILED if report is not None and report.failures else 0


def _style(verdict: Verdict) -> str:
    return {Verdict.PASS: "green", Verdict.FAIL: "bold red"}.get(verdict, "yellow")


def _numbers(assignments: list[str]) -> dict[str, float]:
    """Read ``["x=2", "b=pi/2"]``."""
    numbers: dict[str, float] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = normal_name(name.strip())
        if not equals or not name.isidentifier():
            raise ExpressionError(f"expected name=number, such as x=2; got {assignment!r}")
        if name in numbers:
            raise ExpressionError(f"{name!r} is given twice; give it one number")
        try:
            numbers[name] = parse(text).evaluate({})
        except ExpressionError as error:
            raise ExpressionError(f"{assignment!r} does not give {name} a number: {error}") from None
    return numbers


# ---------------------------------------------------------------------------------------------------
# python -m microgrid


def _train(options: argparse.Namespace) -> int:
    # Its matrices are small: NumPy's threads would wait for each other longer than they compute.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Packages that the end of the work needs are required before it begins.
    for module in ("numpy", "scipy", "sklearn", "matplotlib"):
        require(module, "this command", "demo")
    find_renderer()
    out = _writable_folder(options.out)
    from microgrid.data import digits  # not above: it needs NumPy, and explain does not
    from microgrid.training import History, TrainingError, evaluate, fit

    data = digits(seed=options.seed)
    model = MLP(64, [32, 10], init="he", seed=options.seed)
    optimizer = Adam(model.parameters(), options.learning_rate)
    console = Console(highlight=False)
    console.print(
        f"A [bold]64-32-10[/] network of scalars, {len(optimizer.parameters):,} parameters, "
        f"learns {len(data.X_train):,} handwritten digits"
    )

    watcher = watch(model, data.X_test, data.y_test, title="A network of scalars learns digits")

    def after_epoch(history: History) -> None:
        optimizer.learning_rate *= 0.1 ** (1 / options.epochs)
        watcher(history)

    failure = None
    try:
        history = fit(
            model,
            data.X_train,
            data.y_train,
            optimizer=optimizer,
            epochs=options.epochs,
            batch_size=options.batch_size,
            validation=(data.X_test, data.y_test),
            seed=options.seed,
            after_epoch=after_epoch,
            quiet=options.quiet,
            compile=not options.eager,
        )
    except TrainingError as error:
        history, failure = error.history, error
    model.save(out / "network.json")
    history.plot(out / "learning-curve.png")
    saved = ["network.json", "learning-curve.png"]
    if history.loss:
        saved.append(watcher.save(out / "training.html").name)
    if failure or history.interrupted:
        _say(f"error: {failure}" if failure else f"interrupted after {history}")
        _say(f"{out} has the network as it is now, and how it got there: {', '.join(saved)}")
        return FAILED if failure else INTERRUPTED

    train, test = (
        evaluate(model, X, y, compile=not options.eager).accuracy
        for X, y in ((data.X_train, data.y_train), (data.X_test, data.y_test))
    )
    image, digit = data.X_test[0].tolist(), int(data.y_test[0])
    report = check(
        lambda: cross_entropy(model(image), digit), model, sample=CHECKED_PARAMETERS, seed=options.seed, progress=False
    )
    saved += _draw_neuron(model, image, digit, out)
    passed = [row for row in report.derivatives if row.verdict == Verdict.PASS]
    worst = max((row.error for row in passed), default=math.nan)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row("train", f"[bold]{train:.1%}[/]", f"of {len(data.X_train):,} images right")
    table.add_row(
        "test", f"[bold]{test:.1%}[/]", f"of {len(data.X_test):,} images right, none of which it learned from"
    )
    table.add_row(
        "check",
        "[bold red]FAIL[/]" if report.failures else "[green]PASS[/]",
        f"{len(passed)} gradients match numeric ones to {worst:.0e}"
        + ("" if report else f", {len(report.derivatives) - len(passed)} undecided"),
    )
    table.add_row("saved", "", Text(f"in {out}: {', '.join(saved)}"))
    console.print(table)
    if report.failures:
        _say(str(report))
    return FAILED if report.failures else 0


def _draw_neuron(model: MLP, image: list[float], digit: int, out: Path) -> list[str]:
    """Draw the output neuron of a digit for an image: its largest products, the others as one."""
    neuron = model.layers[1].neurons[digit]
    with no_grad():
        hidden = model.layers[0](image)
    by_size = sorted(range(len(hidden)), key=lambda i: -abs(neuron.w[i].data * hidden[i].data))
    terms = [neuron.b]
    for i in sorted(by_size[:SHOWN_PRODUCTS]):
        hidden[i].label = f"h{i}"
        terms.append(neuron.w[i] * hidden[i])
    others = sum(neuron.w[i].data * hidden[i].data for i in by_size[SHOWN_PRODUCTS:])
    score = total([*terms, Value(others, label=f"{len(hidden) - SHOWN_PRODUCTS} smaller products")])
    score.label = f"score of {digit}"
    model.zero_grad()
    score.backward()
    title = f"The neuron that scores the digit {digit}"
    picture, page = draw(score, title=title), explore(score, title=title)
    return [
        *[picture.save(out / name).name for name in ("neuron.svg", "neuron.png")],
        page.save(out / "neuron.html").name,
    ]


def _writable_folder(path: str) -> Path:
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "it is a file" if folder.is_file() else error.strerror
        raise OSError(error.errno, f"cannot write in the folder {path!r} ({reason}); name another with --out") from None
    return folder


if __name__ == "__main__":
    sys.exit(main())
