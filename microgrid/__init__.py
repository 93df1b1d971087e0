"""microgrid: write scalars, see every one of them, check every derivative, then run at array speed.

>>> import microgrid as mg
>>> x = mg.Value(3.0, label="x")
>>> y = x * x
>>> y.backward()
>>> x.grad
6.0
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from microgrid import builds as _builds  # before all others: it decides whether they load compiled or as sources
from microgrid import copying as _copying  # noqa: F401 - teaches pickle and copy what a graph is
from microgrid.calculus import grad, gradient_graph, hessian, hvp, jacobian, jvp, value_and_grad
from microgrid.engine import Value, topological_order
from microgrid.iteration import iterate, scan
from microgrid.ops import TABLE as _TABLE
from microgrid.ops import (
    Interval,
    Op,
    degrees,
    dist,
    dot,
    elu,
    fabs,
    leaky_relu,
    logsumexp,
    mean,
    pow,
    prod,
    radians,
    softmax,
    take,
    total,
)
from microgrid.ops import absolute as abs
from microgrid.ops import table as _table
from microgrid.recording import AnomalyError, detect_anomaly, enable_grad, no_grad, record_lines
from microgrid.recording import pictures as _pictures

_ROWS = {name: op for name, op in _TABLE.items() if getattr(_table, name, None) is op}
"""Every row of the table under its name, but for ``abs`` and ``round``, which the module calls otherwise."""

globals().update(_ROWS)

if TYPE_CHECKING:  # editors and type checkers see every name; at run time these modules load when first used
    from microgrid.checking import CheckError, Report, Verdict, check, check_op
    from microgrid.checking.precision import precision
    from microgrid.checking.why import why
    from microgrid.compiler import Kernel, TraceError, compile
    from microgrid.drawing import Picture, draw, name
    from microgrid.drawing.boundary import plot_boundary
    from microgrid.drawing.explorer import explore
    from microgrid.drawing.playground import playground
    from microgrid.drawing.replay import watch
    from microgrid.ops.table import *  # noqa: F403 - the rows
    from microgrid.steps import training_step
    from microgrid.training import History, TrainingError, evaluate, fit

_LAZY = {
    "checking": ("CheckError", "Report", "Verdict", "check", "check_op", "precision", "why"),
    "compiler": ("Kernel", "TraceError", "compile"),
    "drawing": ("Picture", "draw", "name"),
    "drawing.boundary": ("plot_boundary",),
    "drawing.explorer": ("explore",),
    "drawing.playground": ("playground",),
    "drawing.replay": ("watch",),
    "steps": ("training_step",),
    "training": ("History", "TrainingError", "evaluate", "fit"),
}
_MODULE_OF = {name: module for module, names in _LAZY.items() for name in names}


def _picture(value: Value, mark: Value | None = None) -> dict[str, str] | None:
    from microgrid.drawing import notebook_bundle

    return notebook_bundle(value, mark)


_pictures.append(_picture)


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(f"microgrid.{_MODULE_OF[name]}"), name)
    try:
        return import_module(f"microgrid.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"microgrid.{name}":
            raise
        raise AttributeError(f"module 'microgrid' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])


__version__ = "0.1.0"
__compiled__ = _builds.compiled  # whether the engine runs as mypyc compiled it, or as Python reads it

__all__ = [
    "AnomalyError",
    "CheckError",
    "History",
    "Interval",
    "Kernel",
    "Op",
    "Picture",
    "Report",
    "TraceError",
    "TrainingError",
    "Value",
    "Verdict",
    "abs",
    "check",
    "check_op",
    "compile",
    "degrees",
    "detect_anomaly",
    "dist",
    "dot",
    "draw",
    "elu",
    "enable_grad",
    "evaluate",
    "explore",
    "fabs",
    "fit",
    "grad",
    "gradient_graph",
    "hessian",
    "hvp",
    "iterate",
    "jacobian",
    "jvp",
    "leaky_relu",
    "logsumexp",
    "mean",
    "name",
    "no_grad",
    "playground",
    "plot_boundary",
    "pow",
    "precision",
    "prod",
    "radians",
    "record_lines",
    "scan",
    "softmax",
    "take",
    "topological_order",
    "total",
    "training_step",
    "value_and_grad",
    "watch",
    "why",
    *_ROWS,
]
