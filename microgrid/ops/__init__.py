"""The table of operations: one row per operation, and nothing about an operation anywhere else.

``op`` says what a row is, ``ieee`` holds the forward functions that Python lacks, ``table`` the rows, ``factories``
those with constants, ``functions``
what is made of several rows: softmax, mean, dot; ``expansion`` says a row in terms of others; ``operators`` gives a
number type of your own Python's operators.
"""

from microgrid.ops.expansion import expand as expand
from microgrid.ops.functions import *  # noqa: F403 - a new row is found here by itself
from microgrid.ops.op import *  # noqa: F403
from microgrid.ops.op import _find  # noqa: F401 - pickles of old graphs name it here
from microgrid.ops.operators import Operators as Operators
from microgrid.ops.table import *  # noqa: F403

Op.__doc__ = Words(Op.__doc__)  # type: ignore[assignment] # noqa: F405 - not in the class: a slot would take its place
