"""Extend microgrid: operations of your own, and number types of your own.

An operation is one row. It is called with floats and with Values, differentiated to any order, checked, drawn,
compiled and computed on pages, like those of the package:

>>> import microgrid as mg
>>> from microgrid.extend import Interval, Op, check_op, factory
>>> def log_odds(p):
...     return mg.log(p) - mg.log1p(-p)
>>> logit = Op(
...     "logit",
...     forward=log_odds,  # floats in, a float out: inf and nan as IEEE 754 has them, so no error
...     partials=(lambda y, p: mg.div(1.0, p * (1.0 - p)),),  # dy/dp, of floats and of Values alike
...     domain=(Interval(0.0, 1.0, open=True),),
...     expansion=log_odds,  # for arrays, pages and the complex step, none of which know a logit
...     doc="log p/(1 − p), the inverse of the sigmoid",
... )
>>> logit(0.5)
0.0
>>> p = mg.Value(0.75)
>>> logit(p).backward()
>>> p.grad == 16 / 3
True
>>> bool(check_op(logit))
True
>>> [y.data for y in mg.compile(lambda p: logit(p), reduce=None)([0.25, 0.5])] == [logit(0.25), 0.0]
True

A row with constants is made by a factory, which gives the same row for the same constants:

>>> @factory()
... def shifted_of(by):
...     return Op(
...         f"shifted[{by!r}]",
...         lambda x: x + by,
...         (1.0,),
...         expansion=lambda x: x + by,
...         recipe=(shifted_of, (by,)),  # how a pickle finds it again
...     )
>>> shifted_of(2.0) is shifted_of(2.0), shifted_of(2.0)(1.0)
(True, 3.0)

A number type of your own takes part in all of this if it derives from ``Operators`` and computes operations in
``__apply__``; ``expand`` writes a row in terms of others.
"""

from microgrid.checking import check_op
from microgrid.ops import Interval, Op, Operators, expand
from microgrid.ops.factories import factory

__all__ = ["Interval", "Op", "Operators", "check_op", "expand", "factory"]
