"""The compiler: graphs of scalars in, programs on arrays out.

``program`` traces a function to flat lists, ``simplify`` removes what is double or dead, ``lift`` finds the
arrays, ``differentiate`` runs the reverse sweep on them, ``emit`` writes the program as text and ``kernel``
runs it. Each stage can be read: ``Kernel.dump(stage)``; ``boxes`` describes the arrays to a drawing.
"""

from microgrid.environment import require

require("numpy", "mg.compile", "compile")

from microgrid.compiler.call import CompiledCall
from microgrid.compiler.compiled import Compiled, compile, predict
from microgrid.compiler.kernel import Kernel
from microgrid.compiler.tracing import TraceError

__all__ = ["Compiled", "CompiledCall", "Kernel", "TraceError", "compile", "predict"]
