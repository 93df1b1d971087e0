"""Two builds of one source: what a module says to mypyc, which compiles it, and which build this is."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import i32 as i32
    from mypy_extensions import mypyc_attr as mypyc_attr
else:
    i32 = int

    def mypyc_attr(**_):
        """Leave a class as it is: the attributes are for the compiler, which reads them in the source."""
        return lambda decorated: decorated
