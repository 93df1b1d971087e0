"""The table of operations: one row per operation, and nothing about an operation anywhere else.

``op`` defines a row, ``ieee`` the forward functions that Python lacks; ``table`` holds the rows, ``factories`` makes
those with constants, ``functions`` combines several: softmax, mean, dot; ``expansion`` writes a row in terms of others;
``operators`` gives Python's operators to a number type of your own.
"""

from microgrid.ops.expansion import expand as expand
from microgrid.ops.functions import *  # noqa: F403 - a new row is found here by itself
from microgrid.ops.op import *  # noqa: F403
from microgrid.ops.op import _find  # noqa: F401 - pickles of old graphs name it here
from microgrid.ops.operators import Operators as Operators
from microgrid.ops.table import *  # noqa: F403

Op.__doc__ = Words(Op.__doc__)  # type: ignore[assignment] # noqa: F405 - not in the class: a slot would take its place
