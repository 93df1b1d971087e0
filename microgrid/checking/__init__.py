"""Is my derivative right, and if not, which operation is wrong, and on which line?

``check`` compares what ``backward()`` gives with numeric derivatives whose error is known, so that its
tolerance is derived from the function at that point and not guessed. ``check_op`` does it for one
operation over its whole domain. Both return a ``Report``.

``why`` explains a gradient that is right and of no use: zero, vanishing, exploding, infinite or nan. ``precision``
finds how many digits of a result are right, and which operations lost the others.

>>> from microgrid.ops import tanh
>>> bool(check(lambda x: tanh(x) * x, 0.5))
True
"""

from microgrid.checking.causes import Cause
from microgrid.checking.gradient import check
from microgrid.checking.operation import check_op
from microgrid.checking.precision import Loss, Precision, precision
from microgrid.checking.report import CheckError, Derivative, Fault, Report, Verdict
from microgrid.checking.why import Explanation, Finding, Size, why

__all__ = [
    "Cause",
    "CheckError",
    "Derivative",
    "Explanation",
    "Fault",
    "Finding",
    "Loss",
    "Precision",
    "Report",
    "Size",
    "Verdict",
    "check",
    "check_op",
    "precision",
    "why",
]
